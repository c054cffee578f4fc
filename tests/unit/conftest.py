# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A master and a mirror on loopback, both real and without privileges: what the engine's tests pull from and into."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import hypothesis
import pytest
from mirrornet import files as engine_files
from mirrornet import job as jobs
from mirrornet import lock, pull
from mirrornet.job import Job
from mirrornet.places import Places
from mirrornet.report import Report

ENGINE = Path(__file__).parents[2] / "plugins" / "module_utils"
#: What a master runs before each transfer.
SENTINEL = Path(__file__).parents[2] / "roles" / "rsync_master" / "files" / "rsyncd-sentinel"


# How long one example takes, or to think of one, says something about the machine, not about the code.
hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")


#: Keeps the ports that were given out last from being given to anybody else, such as a test that runs beside this one.
_reserved: deque[socket.socket] = deque(maxlen=100)


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens yet.

    It stays bound here, which doesn't hinder a server that sets SO_REUSEADDR, as rsync, sshd and Python's do, see socket(7).
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    _reserved.append(probe)
    return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait for something that must come; the limit only ends a test that has failed already."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def wait_until_served(daemon: subprocess.Popen[bytes]) -> None:
    """Wait until an rsync daemon has done with its clients: a client may end before the process that has served it."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children")
    wait_until(lambda: not children.read_text(encoding="ascii"), "the end of the daemon's connections")


def tree(top: Path) -> dict[str, Any]:
    """All that is in a tree, but for the mirror's own directory: kind, content or link target, mode, and time of files."""
    found: dict[str, Any] = {}
    for directory, directories, files in os.walk(top):
        if Path(directory) == top:
            directories[:] = [name for name in directories if name != ".mirrornet"]
        for name in directories + files:
            path = Path(directory, name)
            key = str(path.relative_to(top))
            if path.is_symlink():
                found[key] = ("link", str(path.readlink()))
            elif path.is_dir():
                found[key] = ("directory", oct(path.stat().st_mode))
            else:
                found[key] = ("file", path.read_bytes(), oct(path.stat().st_mode), int(path.stat().st_mtime))
    return found


@pytest.fixture
def own_ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's directory, as if nobody else could write above it: it is below /tmp, where everybody can."""
    seen = engine_files._status
    monkeypatch.setattr(engine_files, "_status", lambda path: seen(Path("/") if path in tmp_path.parents else path))
    return tmp_path


@dataclass
class Master:
    """A real rsync daemon that serves one tree."""

    base: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def tree(self) -> Path:
        return self.base / "tree"

    def url(self, module: str = "tree") -> str:
        return f"rsync://127.0.0.1:{self.port}/{module}/"

    def start(self) -> None:
        modules = {
            "tree": f"path = {self.tree}",
            # As an ordinary account a daemon reads what it owns; as root it would become nobody.
            "own": f"path = {self.tree}" + ("\nuid = root\ngid = root" if os.geteuid() == 0 else ""),
            "login": f"path = {self.tree}\nauth users = joe\nsecrets file = {self.base}/secrets",
            "closed": f"path = {self.tree}\nhosts deny = *",
            "gone": f"path = {self.base}/not-there",
            "guarded": f"path = {self.tree}\npre-xfer exec = {SENTINEL} {self.tree} .sentinel {self.base}/rebuilding || exit; test -e {self.tree}",
            "full": f"path = {self.tree}\nmax connections = -1\nlock file = {self.base}/lock",
        }
        config = self.base / "rsyncd.conf"
        config.write_text(
            f"use chroot = no\nlog file = {self.base}/log\n"
            f"socket options = TCP_NODELAY\nreverse lookup = no\ntransfer logging = yes\nport = {self.port}\naddress = 127.0.0.1\n"
            + "".join(f"[{name}]\n{body}\n" for name, body in modules.items())
        )
        self.process = subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--config={config}"])
        wait_until(self._answers, "the daemon")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def fill_again(self) -> None:
        """The same release, after something was lost."""
        shutil.rmtree(self.tree)
        self.tree.mkdir()
        self.fill()

    def fill(self, files: int = 8) -> None:
        """A small release."""
        for number in range(files):
            path = self.tree / f"release-{number % 3}" / f"file-{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"content of {number}\n" * (number + 1))
        (self.tree / "latest").symlink_to("release-2")
        (self.tree / "empty").mkdir()


@dataclass
class Mirror:
    """The mirror's side: a target, and the places of one installation."""

    base: Path
    master: Master

    @property
    def target(self) -> Path:
        return self.base / "target"

    @property
    def places(self) -> Places:
        return Places(self.base / "config", self.base / "state")

    def define(self, **options: Any) -> Job:
        """Install the definition of job ``tree``, with ``options`` in place of the usual ones."""
        definition = {"name": "tree", "sources": [self.master.url()], "target": str(self.target), "retries": 0, **options}
        checked = jobs.check(definition)
        assert checked.job is not None, checked.problems
        path = self.places.definition(checked.job.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(checked.job.to_bytes())
        return checked.job

    def pull(self, **options: Any) -> Report:
        """One run, in this process."""
        return pull.pull(self.places, self.define(**options), "mirror1")

    def report(self) -> dict[str, Any]:
        """The report on disk."""
        value: dict[str, Any] = json.loads(self.places.report("tree").read_bytes())
        return value

    def phase(self) -> str | None:
        """How far the run is that is at work; None if none is."""
        try:
            phase: str = json.loads(self.places.running("tree").read_bytes())["phase"]
        except (OSError, ValueError):
            return None
        return phase

    def is_free(self) -> bool:
        """Whether no run, and no rsync that a killed run has left, holds the lock."""
        try:
            with lock.exclusive(self.places.lock("tree")):
                return True
        except lock.Busy:
            return False

    def command(self, *words: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "mirrornet",
            "--config-dir",
            str(self.places.config_dir),
            "--state-dir",
            str(self.places.state_dir),
            *words,
        ]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ENGINE)}

    def run(self, *words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
        """The command ``mirrornet``, as a process of its own; ``path`` replaces PATH."""
        environment = self.environment()
        if path is not None:
            environment["PATH"] = path
        return subprocess.run(self.command(*words), env=environment, capture_output=True, text=True, timeout=120, check=False)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The same, not waited for."""
        return subprocess.Popen(self.command(*words), env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    base = tmp_path / "master"
    (base / "tree").mkdir(parents=True)
    secrets = base / "secrets"
    secrets.write_text("joe:secret\n")
    secrets.chmod(0o600)
    served = Master(base, free_port())
    served.start()
    yield served
    served.stop()


@pytest.fixture
def mirror(tmp_path: Path, master: Master) -> Mirror:
    base = tmp_path / "mirror"
    (base / "target").mkdir(parents=True)
    return Mirror(base, master)


class Silent:
    """A server that takes connections and then does what ``serve`` does with them, for as long as the test lasts."""

    def __init__(self, program: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen([sys.executable, "-c", program, str(self.port)], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def url(self) -> str:
        return f"rsync://127.0.0.1:{self.port}/tree/"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


_LISTEN = """
import socket, sys, threading, time
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
def serve(connection):
    {body}
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
"""


@pytest.fixture
def endless_greeting() -> Iterator[Silent]:
    """A server whose message of the day never ends, which neither of rsync's time limits notices."""
    body = 'connection.sendall(b"@RSYNCD: 31.0\\n")\n    while True:\n        connection.sendall(b"hello\\n"); time.sleep(0.05)'
    server = Silent(_LISTEN.format(body=body))
    yield server
    server.stop()


@pytest.fixture
def swallowing() -> Iterator[Silent]:
    """A server that takes everything and never says a word."""
    server = Silent(_LISTEN.format(body="connection.recv(1); time.sleep(3600)"))
    yield server
    server.stop()
