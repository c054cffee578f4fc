# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What whole processes cost, on both sides of a connection, and the rsync daemon that they talk to."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: What a daemon writes when a connection ends.
_ENDED = re.compile(r"sent (\d+) bytes  received (\d+) bytes")
#: Seconds between two looks at the memory of a run: the shortest runs last a tenth of a second.
_LOOK = 0.001
#: Seconds that a daemon gets to answer, and its connections to end.
_PATIENCE = 60.0


@dataclass
class Cost:
    """What one run, or several at once, cost."""

    #: Seconds until the last one ended.
    wall: float
    #: Seconds of processor time, of the clients and of the daemon with all its connections.
    client_cpu: float
    master_cpu: float
    #: Bytes in both directions, as seen by the clients and counted by the daemon.
    received: int
    sent: int
    #: Runs that didn't end with success.
    failed: int = 0


class Daemon:
    """An rsync daemon that serves one tree as role rsync_master has it served, but without needing root.

    It's started for each measured run and ended afterwards: only of a process that has ended does the kernel tell exactly what it and
    all its connections used (wait4). /proc has it in hundredths of a second, which is more than a run that finds nothing takes.
    """

    def __init__(self, base: Path, tree: Path) -> None:
        self.log = base / "log"
        self.log.touch()
        # It stays bound here, so that nobody else gets the port between two runs. That doesn't hinder rsync, see SO_REUSEADDR in socket(7).
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))
        self.port = int(self._port.getsockname()[1])
        self._config = base / "rsyncd.conf"
        # By itself root's daemon serves as nobody, who may not see a temporary directory.
        account = "uid = root\ngid = root\n" if os.geteuid() == 0 else ""
        # rsync writes what a connection sent and received only to a log that its configuration names, not to that of --log-file.
        self._config.write_text(
            f"port = {self.port}\naddress = 127.0.0.1\nuse chroot = no\nread only = yes\n"
            f"{account}log file = {self.log}\n"
            # systemd lets more clients wait for a connection than rsync does by itself.
            "listen backlog = 4096\nreverse lookup = no\nforward lookup = no\nsocket options = TCP_NODELAY\ntimeout = 600\ndont compress = *\n"
            f"transfer logging = yes\n[tree]\n    path = {tree}\n    exclude = .~tmp~/\n"
        )
        self._seen = 0
        self._process: subprocess.Popen[bytes] | None = None
        #: Processor time that starting and ending it takes by itself.
        self._idle = 0.0
        self._idle = statistics.median(self._once() for dummy in range(5))

    @property
    def url(self) -> str:
        return f"rsync://127.0.0.1:{self.port}/tree/"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        # It ends with the benchmark, whatever ends that.
        self._process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "rsync", "--daemon", "--no-detach", f"--config={self._config}"])
        wait(lambda: self.port in _listening(), "the rsync daemon")

    def stop(self) -> float:
        """End it, once its connections have ended; seconds of processor time that they have used. Not started: nothing."""
        if self._process is None:
            return 0.0
        process, self._process = self._process, None
        wait(lambda: not children(process.pid), "the daemon's connections")
        process.send_signal(signal.SIGTERM)
        dummy, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return max(0.0, usage.ru_utime + usage.ru_stime - self._idle)

    def _once(self) -> float:
        self.start()
        return self.stop()

    def traffic(self) -> tuple[int, int]:
        """Bytes that the daemon has sent and received since the last time this was asked."""
        with self.log.open("rb") as log:
            log.seek(self._seen)
            text = log.read().decode("utf-8", "replace")
            self._seen = log.tell()
        found = _ENDED.findall(text)
        return sum(int(sent) for sent, dummy in found), sum(int(received) for dummy, received in found)


def wait(condition: object, what: str) -> None:
    """Wait until ``condition``, a function, says yes."""
    assert callable(condition)
    until = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"waited in vain for {what}")
        time.sleep(0.002)


def _listening() -> set[int]:
    """Ports of this machine that listen. Asking the daemon by a connection would count as one of its own."""
    fields = (line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:])
    return {int(line[1].rpartition(":")[2], 16) for line in fields if line[3] == "0A"}


def children(pid: int) -> list[int]:
    """What a process has started and what hasn't been waited for."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(child) for child in (thread / "children").read_bytes().split()]
    return found


def _memory(pid: int, *, itself: bool) -> int:
    """KiB that a process and all that it has started hold at this moment, shared pages counted once (PSS, proc(5))."""
    held = sum(_memory(child, itself=True) for child in children(pid))
    if itself:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
            held += int(next(line for line in lines if line.startswith(b"Pss:")).split()[1])
    return held


def cost(daemon: Daemon, commands: Sequence[Sequence[str]], environment: dict[str, str], seconds: float) -> Cost:
    """Start all commands at once and wait for all of them. What is left after ``seconds`` is killed and has failed."""
    daemon.start()
    daemon.traffic()
    # What was written before would be on the account of the first who waits for the disk, as ours do and plain rsync doesn't.
    os.sync()
    start = time.perf_counter()
    until, used, failed = time.monotonic() + seconds, 0.0, 0
    try:
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as ends:
            for command in commands:
                one = stack.enter_context(_started(command, environment))
                end = os.pidfd_open(one.pid)
                stack.callback(os.close, end)
                ends.register(end, selectors.EVENT_READ, one)
            while ends.get_map() and time.monotonic() < until:
                for key, dummy in ends.select(until - time.monotonic()):
                    ends.unregister(key.fileobj)
                    dummy, status, usage = os.wait4(key.data.pid, 0)
                    key.data.returncode = os.waitstatus_to_exitcode(status)
                    used += usage.ru_utime + usage.ru_stime
                    failed += status != 0
            failed += len(ends.get_map())
            wall = time.perf_counter() - start
    finally:
        master = daemon.stop()
    sent, received = daemon.traffic()
    # What the daemon has sent is what the clients have received.
    return Cost(wall, used, master, received=sent, sent=received, failed=failed)


@contextlib.contextmanager
def _started(command: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    one = subprocess.Popen(list(command), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield one
    finally:
        if one.returncode is None:
            one.terminate()  # What it has started is for it to end.
            try:
                one.wait(10)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def peak(daemon: Daemon, command: Sequence[str], environment: dict[str, str]) -> tuple[int, int]:
    """KiB that one run held at most, by itself and on the daemon's side. Looking takes time: for a run whose time isn't measured."""
    client = master = 0
    daemon.start()
    try:
        with _started(command, environment) as one:
            while one.poll() is None:
                client = max(client, _memory(one.pid, itself=True))
                master = max(master, _memory(daemon.pid, itself=False))
                time.sleep(_LOOK)
    finally:
        daemon.stop()
    if one.returncode != 0:
        raise RuntimeError(f"failed: {' '.join(command)}")
    return client, master
