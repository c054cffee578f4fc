# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A door with TLS before a daemon: PORT DAEMON_PORT CERTIFICATE KEY. The tests run it as a process of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading


def copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError, ValueError):
        if isinstance(sink, ssl.SSLSocket):
            sink.unwrap()  # Without this farewell, OpenSSL's client calls a complete transfer an error.
        sink.shutdown(socket.SHUT_RDWR)


def serve(context: ssl.SSLContext, plain: socket.socket, daemon_port: int) -> None:
    with contextlib.suppress(OSError):
        inside = context.wrap_socket(plain, server_side=True)
        outside = socket.create_connection(("127.0.0.1", daemon_port))
        threading.Thread(target=copy, args=(inside, outside), daemon=True).start()
        copy(outside, inside)


def main() -> None:
    port, daemon_port, certificate, key = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listening = socket.create_server(("localhost", int(port)))
    print("ready", flush=True)
    while True:
        threading.Thread(target=serve, args=(context, listening.accept()[0], int(daemon_port)), daemon=True).start()


main()
