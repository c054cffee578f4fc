# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A door before a daemon that misbehaves: PORT DAEMON_PORT cut|stall|pause BYTES. The tests run it as a process of its own.

It hands on BYTES from the daemon and then cuts the connection, or keeps it open and never says another word, or says ``paused`` and goes on when it
is told to by a line. It takes little in advance, so that the daemon can't be far ahead of what was handed on.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time


def forward(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)


def serve(client: socket.socket, daemon_port: int, how: str, left: int) -> None:
    with contextlib.suppress(OSError), socket.socket() as daemon:
        daemon.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        daemon.connect(("127.0.0.1", daemon_port))
        threading.Thread(target=forward, args=(client, daemon), daemon=True).start()
        while left > 0 and (data := daemon.recv(min(left, 65536))):
            client.sendall(data)
            left -= len(data)
        if how == "stall" and left <= 0:
            time.sleep(3600)
        if how == "pause" and left <= 0:
            print("paused", flush=True)
            sys.stdin.readline()
            forward(daemon, client)
    # Also after a daemon that was gone before it had read everything.
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def main() -> None:
    port, daemon_port, how, size = sys.argv[1:]
    listening = socket.create_server(("127.0.0.1", int(port)))
    print("ready", flush=True)
    while True:
        threading.Thread(target=serve, args=(listening.accept()[0], int(daemon_port), how, int(size)), daemon=True).start()


main()
