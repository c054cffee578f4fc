# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a tree is on the network: how a source is written, and what is wrong with one."""

from __future__ import annotations

import re

from .record import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from typing import Any

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?)"
_USER = r"(?:(?P<user>[^@:/\[\]\s-][^@:/\[\]\s]*)@)?"
_URL = re.compile(rf"(?P<scheme>rsync|rsyncs|ssh)://{_USER}{_HOST}(?::(?P<port>[0-9]{{1,5}}))?/(?P<path>.*)")
_DOUBLE_COLON = rf"{_USER}{_HOST}::(?P<path>.*)"
#: rsync hands a path on to the far side's shell; these need no quoting in any.
_PLAIN_PATH = r"[A-Za-z0-9_.,+@:/=-]*"

_PORTS = {"rsync": 873, "rsyncs": 874, "ssh": 22}


@dataclass(frozen=True)
class Location:
    """One source: an rsync daemon (``rsync``), one behind TLS (``rsyncs``), or a directory by SSH (``ssh``)."""

    scheme: str
    user: str | None
    host: str
    port: int
    #: MODULE[/PATH] for daemons; for SSH the absolute path, or one that begins with "./": from where the login leads, which is all of the tree that
    #: a key is locked to. Ends with exactly one slash, which rsync reads as "the content of".
    path: str

    @property
    def is_daemon(self) -> bool:
        """Whether rsync's own protocol, with its modules and its login, is spoken."""
        return self.scheme != "ssh"

    @property
    def argument(self) -> str:
        """The source as rsync wants it on its command line."""
        who = f"{self.user}@" if self.user else ""
        if self.scheme == "ssh":
            return f"{who}{self.host}:{self.path}"
        return f"rsync://{who}{self.host}:{self.port}/{self.path}"

    def listed(self, below: str = "") -> tuple[str, bytes]:
        """For a call with a list of names: the source, and what goes before each name of a file in the directory ``below``.

        A daemon of rsync 3.5.0 takes listed files for vanished unless the source is the module itself. What is before ``/./`` says where a
        file is, but isn't part of its name.
        """
        path = f"{self.path}{below}/" if below else self.path
        if self.scheme == "ssh":
            return self.argument + (f"{below}/" if below else ""), b""
        module, dummy, rest = path.partition("/")
        return self.argument[: len(self.argument) - len(self.path)] + f"{module}/", rest.encode() + b"./" if rest else b""


def problem(value: Any) -> str | None:
    """What is wrong with ``value`` as a source, with the remedy; None if nothing is."""
    if not isinstance(value, str) or not value:
        return "must be a text that isn't empty"
    if _CONTROL.search(value):
        return "holds a control character (a newline, a tab, …): remove it"
    if re.match(r"[a-z]+://[^/@]*:[^/@]*@", value):
        return "holds a password, which would show in process lists and reports: remove it from the URL and use password_file"
    match = _URL.fullmatch(value) or re.fullmatch(_DOUBLE_COLON, value)
    if not match:
        return "is not an rsync URL: write rsync://HOST[:PORT]/MODULE/, rsyncs://HOST/MODULE/ (TLS), ssh://USER@HOST/PATH/ or HOST::MODULE/"
    port = match.groupdict().get("port")
    if port is not None and not 1 <= int(port) <= 65535:
        return f"has port {port}: ports go from 1 to 65535"
    return _path_problem(match.groupdict().get("scheme") or "rsync", match["path"])


def _path_problem(scheme: str, path: str) -> str | None:
    if ".." in path.split("/"):
        return "must not hold '..'"
    if scheme == "ssh":
        if not path.strip("/"):
            return "names no directory: write ssh://USER@HOST/PATH/, or ssh://USER@HOST/./ for the tree that the key is locked to"
        if not re.fullmatch(_PLAIN_PATH, path):
            return "has a path that a shell would not take literally: use letters, digits and . _ , + @ : = - /"
        return None
    if not path.partition("/")[0]:
        return "names no module: write rsync://HOST/MODULE/"
    return None


def parse(value: str) -> Location:
    """The parts of a source that ``problem`` has nothing against."""
    match = _URL.fullmatch(value) or re.fullmatch(_DOUBLE_COLON, value)
    if match is None:
        raise ValueError(value)
    parts = match.groupdict()
    scheme = parts.get("scheme") or "rsync"
    path = match["path"].rstrip("/") + "/"
    if scheme == "ssh" and not path.startswith("./"):
        path = "/" + path
    return Location(scheme, match["user"], match["host"], int(parts.get("port") or _PORTS[scheme]), path)


def in_url(host: str) -> str:
    """A host's name or address as it stands in a URL: one of IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
