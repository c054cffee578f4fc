# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the rsync daemons of a host, whoever set them up, have their configuration."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

from . import rsyncd_host

#: What rsync reads unless it is told otherwise.
USUAL = "/etc/rsyncd.conf"
_PROC = Path("/proc")


def configurations(proc: Path = _PROC, ask: Callable[..., list[dict[str, list[str]]]] = rsyncd_host.ask_systemd) -> list[str]:
    """The files that daemons read which run now, or which systemd starts for a connection over the network; sorted, none twice.

    Those that inetd or xinetd start are seen while they have a connection.
    """
    found = {path for process in rsyncd_host.processes(proc) for path in _of_process(process)}
    found.update(path for command in _started_by_sockets(ask) for path in _of_command(command))
    return sorted(found)


def _of_process(process: Path) -> Iterator[str]:
    try:
        words = (process / "cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")
    except OSError:
        return  # gone meanwhile
    yield from (path for path in _of_command(words) if _is_the_host_s(process, path) and not _is_for_this_host(process))


def _is_the_host_s(process: Path, path: str) -> bool:
    """Whether a process has the same file by this path as the host. One in a container has another, or has one where the host has none."""
    seen_by_it = process / "root" / path.lstrip("/")
    try:
        # What isn't there for either is said by whoever reads it.
        return not seen_by_it.exists() or (Path(path).exists() and seen_by_it.samefile(path))
    except OSError:
        return True  # It isn't ours to look at.


def _is_for_this_host(process: Path) -> bool:
    """Whether a process serves one connection, which came by a socket in the file system: from a program on this host, such as what ends TLS."""
    try:
        held = str((process / "fd" / "0").readlink())
        sockets = (process / "net" / "unix").read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    except OSError:
        return False
    # See proc(5): the seventh column is the number of the socket.
    return held in {f"socket:[{line.split()[6]}]" for line in sockets}


def _of_command(words: Sequence[str]) -> Iterator[str]:
    if not words or words[0].rpartition("/")[2] not in ("rsync", "rsyncd") or "--daemon" not in words or "--server" in words:
        return
    path = USUAL
    for word, following in zip(words, [*words[1:], ""]):
        if word == "--config":
            path = following
        elif word.startswith("--config="):
            path = word[len("--config=") :]
    # What isn't absolute, or has a variable of a unit in it, can't be found.
    if path.startswith("/") and "$" not in path:
        yield path


def _started_by_sockets(ask: Callable[..., list[dict[str, list[str]]]]) -> Iterator[list[str]]:
    """The commands of services that a socket of systemd's starts anew for each connection."""
    services = []
    for unit in ask("--property=Id,ActiveState,Accept,Listen", "*.socket"):
        # A socket in the file system is for programs on this host.
        if (
            unit.get("ActiveState") == ["active"]
            and unit.get("Accept") == ["yes"]
            and re.search(r":\d+ \(Stream\)", str(unit.get("Listen")))
        ):
            # Properties are those of an instance; a template has none. No connection has this name.
            services.append(unit["Id"][0][: -len(".socket")] + "@mirrornet-look.service")
    for unit in ask("--property=ExecStart", "--", *services) if services else []:
        for command in re.findall(r"argv\[\]=(.*?) ; ", "\n".join(unit.get("ExecStart", []))):
            try:
                yield shlex.split(command)
            except ValueError:
                yield command.split()
