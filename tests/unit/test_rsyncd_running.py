# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which configurations the daemons of a host read."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from conftest import free_port, wait_until
from mirrornet import rsyncd_running

SOCKETS = [
    {"Id": ["rsync.socket"], "ActiveState": ["active"], "Accept": ["yes"], "Listen": ["[::]:873 (Stream)"]},
    {"Id": ["off.socket"], "ActiveState": ["inactive"], "Accept": ["yes"], "Listen": ["[::]:874 (Stream)"]},
    {"Id": ["one.socket"], "ActiveState": ["active"], "Accept": ["no"], "Listen": ["[::]:875 (Stream)"]},
    {"Id": ["local.socket"], "ActiveState": ["active"], "Accept": ["yes"], "Listen": ["/run/local.sock (Stream)"]},
]


def no_sockets(*words: str) -> list[dict[str, list[str]]]:
    return []


def process(proc: Path, *words: str) -> None:
    """One more process, with these words as its command."""
    directory = proc / str(100 + len(list(proc.iterdir())))
    directory.mkdir()
    (directory / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    (directory / "root").symlink_to("/")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["/usr/bin/rsync", "--daemon"], ["/etc/rsyncd.conf"]),
        (["rsync", "--daemon", "--no-detach", "--config=/srv/own.conf"], ["/srv/own.conf"]),
        (["rsyncd", "--config", "/srv/own.conf", "--daemon"], ["/srv/own.conf"]),
        (["rsync", "--daemon", "--config=own.conf"], []),
        (["rsync", "--server", "--sender", "."], []),
        (["rsync", "--server", "--daemon", "."], []),
        (["grep", "--daemon", "rsync"], []),
        ([], []),
    ],
)
def test_a_running_daemon_says_it_itself(tmp_path: Path, words: list[str], found: list[str]) -> None:
    process(tmp_path, *words)
    process(tmp_path, *words)
    (tmp_path / "self").mkdir()
    (tmp_path / "99").mkdir()
    assert rsyncd_running.configurations(tmp_path, no_sockets) == found


def test_a_real_daemon_is_found(tmp_path: Path) -> None:
    config = tmp_path / "own.conf"
    config.write_text("[tree]\npath = /srv\n")
    words = ["--daemon", "--no-detach", f"--config={config}", f"--port={free_port()}", "--address=127.0.0.1", f"--log-file={tmp_path}/log"]
    daemon = subprocess.Popen(["rsync", *words])
    try:
        wait_until(lambda: str(config) in rsyncd_running.configurations(ask=no_sockets), "the daemon")
    finally:
        daemon.terminate()
        daemon.wait()
    assert str(config) not in rsyncd_running.configurations(ask=no_sockets)


def test_a_connection_from_a_program_on_this_host_says_nothing(tmp_path: Path) -> None:
    config = tmp_path / "own.conf"
    config.write_text("[tree]\npath = /srv\n")
    for family, found in ((socket.AF_UNIX, False), (socket.AF_INET, True)):
        with socket.socket(family) as listening:
            listening.bind(str(tmp_path / "socket") if family == socket.AF_UNIX else ("127.0.0.1", 0))
            listening.listen()
            with socket.socket(family) as client:
                client.connect(listening.getsockname())
                served, dummy = listening.accept()
                with served:
                    words = ["rsync", "--daemon", f"--config={config}", f"--log-file={tmp_path}/log"]
                    daemon = subprocess.Popen(words, stdin=served, stdout=served)
                assert client.recv(100).startswith(b"@RSYNCD:")
                assert (str(config) in rsyncd_running.configurations(ask=no_sockets)) is found
            daemon.wait()


def test_the_daemon_of_a_container_has_a_file_of_its_own(tmp_path: Path) -> None:
    proc, config = tmp_path / "proc", tmp_path / "own.conf"
    proc.mkdir()
    config.touch()
    process(proc, "rsync", "--daemon", f"--config={config}")
    assert rsyncd_running.configurations(proc, no_sockets) == [str(config)]
    [root] = proc.glob("*/root")
    inside = tmp_path / "container" / str(config).lstrip("/")
    inside.parent.mkdir(parents=True)
    inside.touch()
    root.unlink()
    root.symlink_to(tmp_path / "container")
    assert rsyncd_running.configurations(proc, no_sockets) == []
    config.unlink()
    assert rsyncd_running.configurations(proc, no_sockets) == []
    inside.unlink()
    assert rsyncd_running.configurations(proc, no_sockets) == [str(config)]


def test_a_socket_s_service_is_asked_although_nothing_runs(tmp_path: Path) -> None:
    asked = []

    def ask(*words: str) -> list[dict[str, list[str]]]:
        asked.append(words)
        command = '{ path=/usr/bin/rsync ; argv[]=/usr/bin/rsync --daemon "--config=/srv/my conf" ; ignore_errors=yes ; pid=0 }'
        return SOCKETS if words[-1] == "*.socket" else [{"ExecStart": [command]}]

    assert rsyncd_running.configurations(tmp_path, ask) == ["/srv/my conf"]
    assert asked[1][-1] == "rsync@mirrornet-look.service"
    assert len(asked[1]) == 3
