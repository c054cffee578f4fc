# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of names and passwords that a master's logins are checked against: one for each module, for root alone.

rsync refuses each login with a file that others may read, and reads a file anew at each login.
Nothing here puts a password into a message or a difference.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .files import replace, sync_directory
from .rsyncd import Problem
from .rsyncd_options import Option
from .rsyncd_values import KINDS

#: A line that rsync skips.
HEADER = "# Role mirrornet.rsync.rsync_master replaces this file. One name:password a line; rsync takes the first line of a name alone.\n"

Entries = Sequence[tuple[str, str]]


@dataclass
class Plan:
    """What has to be written and removed so that the directory holds the wanted files."""

    directory: Path
    make_directory: bool = False
    write: dict[str, bytes] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)  #: those that are there afterwards
    before: str = ""
    after: str = ""

    @property
    def changed(self) -> bool:
        return bool(self.make_directory or self.write or self.remove)


def content(entries: Entries) -> bytes:
    """A file of passwords as rsync reads it."""
    return (HEADER + "".join(f"{name}:{password}\n" for name, password in entries)).encode("utf-8")


def check(directory: str, where: str) -> list[Problem]:
    """Why passwords can't be kept in ``directory``: somebody else could read them there, or lead them elsewhere."""
    path = Path(directory)
    remedy = "Look at who put it there, and remove it"
    if not os.path.lexists(path):
        if not path.parent.is_dir():
            return [Problem(where, "", f"the directory {str(path.parent)!r} does not exist", "Create it first")]
        return []
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return [Problem(where, "", f"{directory!r} is not a directory itself", remedy)]
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        return [Problem(where, "", f"{directory!r} can be changed by others than root", "Run: chown root and chmod 700")]
    return [
        Problem(where, "", f"{str(entry)!r} is not a file itself", remedy)
        for entry in sorted(path.iterdir())
        if not stat.S_ISREG(entry.lstat().st_mode)
    ]


def present(directory: str) -> list[str]:
    """The names of the files that are there."""
    path = Path(directory)
    return sorted(entry.name for entry in path.iterdir()) if path.is_dir() and not path.is_symlink() else []


def check_names(names: Sequence[str], where: str) -> list[Problem]:
    """Names that would not be those of files in the directory; they are those of modules."""
    rule = KINDS["module_name"]
    return [Problem(where, "", *complaint) for name in names for complaint in rule(Option("name", "module_name"), name)]


def plan(directory: str, wanted: Mapping[str, Entries], *, purge: bool) -> Plan:
    """Compare the directory, which ``check`` has nothing against, with the wanted files by name; ``purge`` removes the others. Raises OSError."""
    path = Path(directory)
    here = present(directory)
    made = Plan(path, make_directory=bool(wanted) and _lacks(path))
    before, after = [], []
    for name in sorted({*here, *wanted}):
        old = (path / name).read_bytes() if name in here else None
        if old is not None:
            before.append(_shown(name, old, None))
        if name in wanted:
            new = content(wanted[name])
            if old != new or stat.S_IMODE((path / name).lstat().st_mode) != 0o600:
                made.write[name] = new
            after.append(_shown(name, new, old))
        elif purge:
            made.remove.append(name)
        elif old is not None:
            after.append(_shown(name, old, old))
    made.files = sorted({*here, *wanted} - set(made.remove))
    made.before, made.after = "".join(before), "".join(after)
    return made


def _lacks(path: Path) -> bool:
    return not path.is_dir() or stat.S_IMODE(path.lstat().st_mode) != 0o700


def _shown(name: str, data: bytes, old: bytes | None) -> str:
    """A file without its passwords; against ``old`` it tells which are others."""
    known = set((old or b"").splitlines())
    names = {line.partition(b":")[0] for line in known}
    lines = []
    for line in data.splitlines():
        user = line.partition(b":")[0]
        if not line.startswith(b"#"):
            is_new = user in names and line not in known
            lines.append(f"{name}: {user.decode('utf-8', 'replace')}: ({'another' if is_new else 'a'} password)\n")
    return "".join(lines)


def apply(made: Plan) -> None:
    """Do what the plan says. Whenever this is interrupted, each file is the old or the new one. Raises OSError."""
    if made.make_directory:
        made.directory.mkdir(mode=0o700, exist_ok=True)
        made.directory.chmod(0o700)
        sync_directory(made.directory.parent)
    for name, data in made.write.items():
        replace(made.directory / name, data, 0o600)
    for name in made.remove:
        (made.directory / name).unlink(missing_ok=True)
    if made.remove:
        sync_directory(made.directory)
        if not any(made.directory.iterdir()):
            made.directory.rmdir()
