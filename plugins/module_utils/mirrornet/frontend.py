# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What accepts a master's connections: what each frontend can do, and what on a host stands in the way of one.

Everything here looks and changes nothing. What is known of a superserver was tried with Debian's packages.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from .rsyncd import Problem
from .rsyncd_host import UnitState
from .rsyncd_values import show

#: Those that read their command line from a file that is split at spaces.
_SUPERSERVERS = ("inetd", "xinetd")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@:,=-]+")
#: Those that can't limit the connections of one client themselves.
_UNLIMITED = ("daemon", "inetd")

#: What the distributions' units of a host mean for the frontend that fits it, the first that is active.
_RUNNING = (
    ("rsync.service", "daemon"),
    ("rsyncd.service", "daemon"),
    ("xinetd.service", "xinetd"),
    ("inetd.service", "inetd"),
    ("inetutils-inetd.service", "inetd"),
)


def choose(present: Sequence[str], units: Mapping[str, UnitState], known: Sequence[str]) -> str:
    """The frontend for ``auto``.

    One that the role has set up here stays. Otherwise the host keeps its ways: rsync's own daemon, or a superserver that
    runs already. Where there is none of these, or the platform hasn't got it, it is a socket of systemd's.
    """
    candidates = list(present) + [frontend for unit, frontend in _RUNNING if unit in units and units[unit].active]
    return next((frontend for frontend in candidates if frontend in known), "systemd_socket")


def check_options(frontend: str, options: Mapping[str, object], prefix: str) -> Iterator[Problem]:
    """What is asked of a frontend and it can't do. The values themselves are sound."""
    given = options.get("addresses")
    addresses = [str(address) for address in given] if isinstance(given, (list, tuple)) else []
    if frontend == "daemon" and len(addresses) > 1:
        yield Problem(
            prefix + "addresses",
            "",
            "the frontend 'daemon' listens on one address, or on all",
            "Give one, or none for all, or choose another frontend",
        )
    if frontend == "xinetd" and any(ip_address(address) == ip_address("::") for address in addresses):
        yield Problem(
            prefix + "addresses",
            "",
            "the frontend 'xinetd' can't listen on all of IPv6 without listening on IPv4 too",
            "Give an empty list for both, or the host's own IPv6 addresses, or choose another frontend",
        )
    path = options.get("config_path")
    if frontend in _SUPERSERVERS and isinstance(path, str) and not _PLAIN_PATH.fullmatch(path):
        yield Problem(
            prefix + "config_path",
            "",
            f"{show(path)} can't be written in the configuration of {frontend}",
            "Take letters, digits and '/', '.', '_', '-' alone, or choose another frontend",
        )


def advise(frontend: str, options: Mapping[str, object], prefix: str) -> list[str]:
    """What a frontend does with these options that deserves a second look."""
    if frontend not in _UNLIMITED or options.get("max_connections_per_source") != 0:
        return []
    return [
        f"With the frontend '{frontend}' one client can hold all connections, and so keep everybody else out."
        f" Set {prefix}max_connections_per_source: 20, and nftables keeps each to that."
    ]


# Superservers.


@dataclass(frozen=True)
class Superserver:
    """A package with a superserver, as a platform has it."""

    package: str
    frontend: str  #: ``inetd`` or ``xinetd``
    program: str
    releases: int  #: the last release of the platform that has it; 0 when the newest has it still

    def installed(self, root: Path) -> bool:
        return (root / self.program.lstrip("/")).exists()


def superservers(table: Sequence[Mapping[str, object]]) -> list[Superserver]:
    """The superservers of a platform, from the role's table."""
    return [
        Superserver(str(row["package"]), str(row["frontend"]), str(row["program"]), int(str(row.get("last_release", 0)))) for row in table
    ]


def choose_superserver(frontend: str, wanted: str, table: Sequence[Superserver], root: Path = Path("/")) -> Superserver | None:
    """The one that serves as this frontend: the wanted one, else what is installed, else the platform's first; None when it has none.

    An empty ``wanted`` is no wish.
    """
    fitting = [server for server in table if server.frontend == frontend and wanted in ("", server.package)]
    return next((server for server in fitting if server.installed(root)), fitting[0] if fitting else None)


def check_superserver(
    frontend: str, chosen: Superserver | None, table: Sequence[Superserver], release: int, where: str, root: Path = Path("/")
) -> Iterator[Problem]:
    """Whether this platform has what the frontend needs, and whether to install it would take services from the host.

    The packages of superservers exclude each other. One that serves nothing is replaced; one that does is not.
    """
    if frontend not in _SUPERSERVERS:
        return
    if chosen is None:
        yield Problem(where, "", f"this family of systems has no package for {show(frontend)}", "Choose systemd_socket or daemon")
        return
    if chosen.installed(root):
        return
    if chosen.releases and release > chosen.releases:
        message = f"this family of systems has no {chosen.package} from release {chosen.releases + 1} on, and this host has {release}"
        yield Problem(where, "", message, "Choose systemd_socket or daemon")
        return
    for other in table:
        services = services_of(other, root) if other.installed(root) else []
        if services:
            message = f"installing {chosen.package} would remove {other.package}, which serves {', '.join(services)} here"
            remedy = f"Take another frontend (with {other.package} it is {other.frontend}), or stop these services there first"
            yield Problem(where, "", message, remedy)


def services_of(server: Superserver, root: Path = Path("/")) -> list[str]:
    """The services that the host's own instance of a superserver offers, in the order of its files."""
    etc = root / "etc"
    if server.frontend == "inetd":
        return [name for path in [etc / "inetd.conf", *_entries(etc / "inetd.d")] for name in inetd_services(_read(path))]
    return [name for path in [etc / "xinetd.conf", *_entries(etc / "xinetd.d")] for name in xinetd_services(_read(path))]


def _entries(directory: Path) -> list[Path]:
    # As both superservers do: names with a dot or a tilde are backups and the like.
    try:
        return sorted(path for path in directory.iterdir() if not re.search(r"[.~]", path.name))
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def inetd_services(text: str) -> list[str]:
    """The services that an inetd.conf offers: lines of at least six fields, see inetd.conf(5)."""
    lines = (line.split() for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [fields[0] for fields in lines if len(fields) >= 6]


def xinetd_services(text: str) -> list[str]:
    """The services of a file of xinetd's that aren't disabled, see xinetd.conf(5)."""
    found = []
    for match in re.finditer(r"^\s*service\s+(\S+)\s*\{([^}]*)\}", text, re.MULTILINE):
        if not re.search(r"^\s*disable\s*=\s*yes\b", match.group(2), re.MULTILINE):
            found.append(match.group(1))
    return found


# What is set up here.


def present(files: Mapping[str, Sequence[str]]) -> list[str]:
    """The frontends of which any of the given files exists, be it a rest that an interrupted play left."""
    return [name for name, paths in files.items() if any(os.path.lexists(path) for path in paths)]


def is_outdated(unit: UnitState, files: Sequence[str], now: float | None = None, uptime: float | None = None) -> bool:
    """Whether an active unit was started before one of the files that it reads at its start last changed.

    A play that died between writing and starting leaves that behind, and so does an operator who edited a file. The times of files
    follow the wall clock and those of units the uptime, so that one is told in terms of the other; a clock that was set back
    in between costs at most one needless start, which ends no transfer. ``now`` and ``uptime`` are in seconds.
    """
    if not unit.active:
        return False
    if unit.needs_reload:
        return True
    now = time.time() if now is None else now
    uptime = time.clock_gettime(time.CLOCK_MONOTONIC) if uptime is None else uptime
    started = now - (uptime - unit.since)
    return any(Path(path).stat().st_ctime > started for path in files if Path(path).exists())
