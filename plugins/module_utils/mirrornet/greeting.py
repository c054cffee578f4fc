# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether rsync greets who connects to a master, as it greets each client before that has said a word.

A port that takes connections says little: a superserver, systemd and stunnel take them also when what they start for each dies at once.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import time

from .rsyncd_host import read_properties

_GREETING = b"@RSYNCD:"
#: Seconds that one connection may take, and between two of them.
_ONE, _PAUSE = 10.0, 0.5
#: Clients of this host's itself, such as a relay on it, may hold all that a limit for one client lets it hold.
_FROM = {"127.0.0.1": "127.0.0.2"}


def wait(host: str, port: int, tls: bool, patience: float) -> str:
    """Connect until rsync greets. Empty when it has; else, after ``patience`` seconds, what came of the last connection.

    With ``tls`` any certificate is taken: whether clients would accept it is for the room ``certificate``.
    """
    end = time.monotonic() + patience
    while True:
        said = _connect(host, port, tls, min(_ONE, max(end - time.monotonic(), _PAUSE)))
        if not said or time.monotonic() + _PAUSE > end:
            return said
        time.sleep(_PAUSE)


def _connect(host: str, port: int, tls: bool, patience: float) -> str:
    source = (_FROM[host], 0) if host in _FROM else None
    try:
        with socket.create_connection((host, port), patience, source) as plain:
            if not tls:
                return _listen(plain)
            trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            trusting.check_hostname = False
            trusting.verify_mode = ssl.CERT_NONE
            with trusting.wrap_socket(plain) as inside:
                return _listen(inside)
    except socket.timeout:
        return "nothing is said"
    except ssl.SSLError as error:
        return f"TLS fails ({error.reason or error})"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _listen(connection: socket.socket) -> str:
    said = b""
    while len(said) < len(_GREETING) and _GREETING.startswith(said):
        more = connection.recv(len(_GREETING) - len(said))
        if not more:
            break
        said += more
    if said == _GREETING:
        return ""
    return f"something else answers, which begins with {said!r}" if said else "the connection is closed at once"


def is_full(unit: str, most: int) -> bool:
    """Whether a unit that listens holds ``most`` connections, so that one that it closes says nothing about it."""
    counter = "NConnections" if unit.endswith(".socket") else "TasksCurrent"
    told = subprocess.run(
        ["systemctl", "show", f"--property={counter}", "--", unit],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    count = (read_properties(told.stdout) or [{}])[0].get(counter, [""])[0]
    # What isn't counted is "[not set]", or the largest number that there is.
    return count.isdigit() and most <= int(count) < 1 << 63
