# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who connects is greeted by rsync, or by something else, or not at all."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from mirrornet import greeting
from test_certificate import Pairs

GREETING = b"@RSYNCD: 31.0 sha512 md5\n"


@contextmanager
def server(says: bytes, context: ssl.SSLContext | None = None, silent_first: int = 0) -> Iterator[int]:
    """A server on a port of its own that says something to each client and hangs up; the first ones get nothing."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            for count in range(1000):
                connection, dummy = listening.accept()
                with suppress(OSError), connection:
                    if count >= silent_first:
                        door = context.wrap_socket(connection, server_side=True) if context else connection
                        door.sendall(says)
                        door.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def test_a_greeting_is_waited_for() -> None:
    with server(GREETING, silent_first=2) as port:
        assert greeting.wait("127.0.0.1", port, False, 30) == ""


@pytest.mark.parametrize(
    ("says", "said"),
    [
        (b"", "the connection is closed at once"),
        (b"@RSYN", "something else answers, which begins with b'@RSYN'"),
        (b"HTTP/1.0 400\r\n", "something else answers, which begins with b'HTTP/1.0'"),
    ],
)
def test_what_comes_instead_is_told(says: bytes, said: str) -> None:
    with server(says) as port:
        assert greeting.wait("127.0.0.1", port, False, 0) == said


def test_a_port_without_a_listener_and_one_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert greeting.wait("127.0.0.1", port, False, 0) == "nothing is said"
    assert greeting.wait("127.0.0.1", port, False, 0) == "connection refused"


def test_with_tls_any_certificate_is_taken(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Pairs(tmp_path).make("expired", "20200101000000Z", "20200102000000Z"))
    with server(GREETING, context) as port:
        assert greeting.wait("127.0.0.1", port, True, 30) == ""
    with server(GREETING) as port:
        assert greeting.wait("127.0.0.1", port, True, 0).startswith("TLS fails (")


@pytest.mark.parametrize(
    ("unit", "told", "full"),
    [
        ("a.socket", "NConnections=30", True),
        ("a.socket", "NConnections=29", False),
        ("a.service", "TasksCurrent=31", True),
        ("a.service", "TasksCurrent=[not set]", False),
        ("a.service", "TasksCurrent=18446744073709551615", False),
        ("a.service", "", False),
    ],
)
def test_a_server_without_room_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str, told: str, full: bool) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\n[ "$4" = {unit} ] && echo "{told}"\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert greeting.is_full(unit, 30) is full
