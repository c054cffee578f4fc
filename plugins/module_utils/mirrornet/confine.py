# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the services of a master must be allowed because of what they serve here, beyond what all of them are.

A right that no module needs is not given: a service that may look past permissions, or into home directories, is a better catch.
Everything here looks and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .rsyncd_options import MODULE_OPTIONS

#: To get at what permissions keep from an account that owns nothing: it takes CAP_DAC_READ_SEARCH.
SEARCH = "search"
#: To see home directories.
HOME = "home"

#: What systemd's ProtectHome= hides, see systemd.exec(5).
_HOMES = ("/home", "/root", "/run/user")
#: Options that name a file or directory which root opens before it becomes the module's account.
_FILES = ("path", "rebuild_flag", "include_from", "exclude_from", "secrets_file", "log_file", "config_path")
#: Programs of the operator's. What they look at is not known here.
_PROGRAMS = tuple(option.name for option in MODULE_OPTIONS if option.kind == "command")


def needs(modules: Sequence[object], options: Mapping[str, object], root: int = 0) -> list[str]:
    """Which of the rights above these modules need on this host, sorted.

    ``options`` are those for all modules. ``root`` is the number of the user and of the group that a service begins as.
    """
    found = set()
    for told in (options, *modules):
        if not isinstance(told, Mapping):
            continue
        if any(told.get(name) for name in _PROGRAMS):
            return [HOME, SEARCH]
        # Who serves as root means what root may read.
        if str(told.get("uid", "")) in ("root", "0"):
            found.add(SEARCH)
        for path in _paths(told):
            if _is_at_home(path):
                found.add(HOME)
            if not _is_open(path, root):
                found.add(SEARCH)
    return sorted(found)


def _paths(told: Mapping[str, object]) -> Iterator[str]:
    extra = told.get("extra")
    given = [told.get(name) for name in _FILES] + list(extra.values() if isinstance(extra, Mapping) else [])
    yield from (path for path in given if isinstance(path, str) and path.startswith("/"))
    if isinstance(told.get("path"), str) and isinstance(told.get("sentinel"), str):
        yield f"{told['path']}/{told['sentinel']}"


def _is_at_home(path: str) -> bool:
    spellings = {os.path.normpath(path), os.path.realpath(path)}
    return any(Path(home) in (Path(spelling), *Path(spelling).parents) for spelling in spellings for home in _HOMES)


def _is_open(path: str, root: int) -> bool:
    """Whether that account gets there by permissions alone. What isn't there yet, or isn't ours to look at, is taken for open."""
    real = Path(os.path.realpath(path))
    for directory in {*Path(os.path.normpath(path)).parents, *real.parents, real}:
        try:
            status = directory.stat()
        except OSError:
            continue
        # To go through a directory takes the right to search it; to open a file, the right to read it.
        if not is_granted(status, root, 0o1 if directory.is_dir() else 0o4):
            return False
    return True


def is_granted(status: os.stat_result, root: int, right: int) -> bool:
    """Whether the permissions of a file give the user and group ``root`` a right: 4 to read, 1 to search."""
    shift = 6 if status.st_uid == root else 3 if status.st_gid == root else 0
    return bool(status.st_mode >> shift & right)
