# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stranger gets from a running master: lists, files, the right to write; and whether its certificate would be accepted.

Nothing is changed, no file is sent, and no more connections are opened than asked for.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from .audit import Finding, in_order
from .certificate import check_served
from .location import in_url

#: Silent connections that are tried at most.
MOST_CONNECTIONS = 30
#: Seconds for one answer of a server.
_PATIENCE = 20
_GREETING = b"@RSYNCD:"
#: A connection that claims to come from an address for documentation, see RFC 5737.
_CLAIM = b"PROXY TCP4 192.0.2.1 192.0.2.1 1024 873\r\n"


def outside(rsync: str, host: str, port: int, connections: int, modules: Sequence[str] = (), tls_port: int = 0) -> list[Finding]:
    """What anybody gets from the server, and how many silent connections it holds.

    ``modules`` are tried besides those that it lists; ``tls_port`` is where it is to be served over TLS as well, 0 for nowhere.
    """
    host = host.strip("[]")
    where = f"rsync://{in_url(host)}:{port}/"
    code, said, complaint = _ask(rsync, where)
    findings: list[Finding] = []
    if code == 0:
        listed = _names(said)
        for name in listed:
            findings += _stranger(rsync, where + name + "/", True)
        for name in modules:
            if name not in listed:
                findings += _stranger(rsync, where + name + "/", False)
        findings += _silence(host, port, min(connections, MOST_CONNECTIONS), where)
    elif _believes(host, port):
        message = "it believes whatever address a client claims to have, as if it were a proxy"
        findings.append(Finding("critical", where, message, "Let nobody but the proxy reach this port, or remove proxy protocol"))
    else:
        findings.append(Finding("high", where, f"it doesn't answer: {complaint}", "Is it running, and open to this host?"))
    if tls_port:
        findings += _tls(host, tls_port)
    return in_order(findings)


def _names(listing: str) -> list[str]:
    """The modules of a list, which comes after the message of the day: ``NAME<spaces>TAB COMMENT``."""
    return [line.partition("\t")[0].rstrip() for line in listing.splitlines() if "\t" in line]


def _stranger(rsync: str, url: str, listed: bool) -> Iterator[Finding]:
    code, dummy, complaint = _ask(rsync, "--list-only", url)
    if code == 0:
        message = "everybody can read it" + ("" if listed else ", though it isn't listed: who knows or guesses its name gets in")
        yield Finding("low", url, message, "Set hosts allow or auth users, if it isn't meant for the public")
    # What isn't listed doesn't exist for those whom it refuses.
    elif "@ERROR" in complaint and not re.search(
        r"auth failed|access denied|max connections" + ("" if listed else "|Unknown module"), complaint
    ):
        yield Finding("high", url, f"it {'is listed, and ' if listed else ''}doesn't work: {complaint}", "Mend or remove it")
    with tempfile.TemporaryDirectory(prefix="rsyncd-audit-") as directory:
        probe = Path(directory) / "rsyncd-audit-probe"
        probe.touch()
        # A dry run: the server decides whether it would take the file, and nothing is sent.
        code, dummy, complaint = _ask(rsync, "--dry-run", str(probe), url)
    if code == 0:
        yield Finding("critical", url, "everybody can write to it", "Set read only = yes, or hosts allow and auth users")


def _ask(rsync: str, *words: str) -> tuple[int, str, str]:
    """Exit code, output, and first complaint of a client; it asks for no password."""
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "RSYNC_PASSWORD": "none"}
    try:
        done = subprocess.run(
            [rsync, f"--timeout={_PATIENCE}", f"--contimeout={_PATIENCE}", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=2 * _PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 30, "", "it fell silent"
    complaint = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return done.returncode, done.stdout.decode("utf-8", "replace"), complaint[0] if complaint else ""


def _silence(host: str, port: int, connections: int, where: str) -> Iterator[Finding]:
    """Whether one address can hold that many connections and say nothing."""
    if connections < 2:
        return
    with ExitStack() as stack:
        held = []
        for dummy in range(connections):
            try:
                held.append(stack.enter_context(socket.create_connection((host, port), _PATIENCE)))
            except OSError:
                break
        time.sleep(2)
        alive = sum(_is_held(connection) for connection in held)
    if alive >= connections:
        message = f"one address can hold {alive} silent connections"
        yield Finding("medium", where, message, "Limit connections for each source, in what accepts them or in the firewall")


def _is_held(connection: socket.socket) -> bool:
    """Whether the server has greeted and not hung up."""
    connection.setblocking(False)
    greeted = False
    try:
        while True:
            data = connection.recv(4096)
            if not data:
                return False
            greeted = greeted or data.startswith(_GREETING)
            if b"@ERROR" in data:
                return False
    except BlockingIOError:
        return greeted
    except OSError:
        return False


def _believes(host: str, port: int) -> bool:
    """Whether a server that says nothing to clients greets one that says whose connection it passes on; see "proxy protocol" in rsyncd.conf(5)."""
    try:
        with socket.create_connection((host, port), _PATIENCE) as connection:
            connection.sendall(_CLAIM)
            return connection.recv(4096).startswith(_GREETING)
    except OSError:
        return False


def _tls(host: str, port: int) -> Iterator[Finding]:
    where = f"rsyncs://{in_url(host)}:{port}/"
    try:
        greeting, complaints = check_served(host, port, _PATIENCE)
    except ssl.SSLError as error:
        yield Finding("high", where, f"there is no TLS: {error.reason or error}", "Is it stunnel that listens there? Look at its log")
        return
    except OSError as error:
        yield Finding("high", where, f"it doesn't answer: {error}", "Is it running, and open to this host?")
        return
    if not greeting.startswith(_GREETING):
        yield Finding("high", where, "there is TLS, but no rsync behind it", "Look at the log of what listens there, and of rsync")
    for severity, message, remedy in complaints:
        yield Finding(severity, where, message, remedy)
