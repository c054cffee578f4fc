# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree that changes all at once: releases side by side, sharing equal files by hard links, and one symlink that says which is shown.

In the target of a job with ``switch`` there are ``releases/ID/``, each a whole tree, and ``current``, a link to one of them.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from .errors import Exit, Failure
from .files import sync_directory
from .job import CURRENT

RELEASES = "releases"
#: Where the next release is put together; what an interrupted run has left there serves the next one.
_NEXT = "next"
_ID = re.compile(r"\d{8}T\d{6}Z(?:-\d+)?")


def shown(target: Path) -> Path | None:
    """The release that ``current`` points to; None before the first one."""
    link = target / CURRENT
    if not link.is_symlink():
        return None
    name = link.readlink().name
    release = target / RELEASES / name
    return release if _ID.fullmatch(name) and release.is_dir() else None


def next_release(target: Path) -> Path:
    """The directory in which the next release is put together; it may not be there yet."""
    return target / RELEASES / _NEXT


def unshare(release: Path) -> None:
    """Remove from a release that was begun before whatever is linked elsewhere.

    rsync would change mode and time of such a file in place, and with it the release that is shown; what it brought itself has one link.
    """
    for directory, dummy, files in os.walk(release):
        for name in files:
            path = Path(directory, name)
            if path.lstat().st_nlink > 1:
                path.unlink()


def show_next(target: Path) -> Path:
    """Make the next release the one that is shown; returns it. The one before is kept, all older ones are removed."""
    former = shown(target)
    release = target / RELEASES / _new_id(target)
    next_release(target).rename(release)
    _point(target, release.name)
    import shutil  # Late, as most runs have nothing to remove.

    for old in _all(target):
        if old not in (release, former):
            shutil.rmtree(old, ignore_errors=True)
    return release


def roll_back(target: Path) -> Path:
    """Show the former release again; returns it. Raises Failure if there is none."""
    now = shown(target)
    former = [release for release in _all(target) if now is not None and release.name < now.name]
    if not former:
        message = f"{target} holds no former release to go back to."
        raise Failure("no_former_release", Exit.CONFIG, message, "Only jobs with `switch` keep one, from their second update on.")
    _point(target, former[-1].name)
    return former[-1]


def _all(target: Path) -> list[Path]:
    return sorted(path for path in (target / RELEASES).glob("*") if _ID.fullmatch(path.name))


def _new_id(target: Path) -> str:
    """Later names sort later, also after the clock was set back."""
    last = max((path.name for path in _all(target)), default="")
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    if name > last:
        return name
    base, dash, number = last.partition("-")
    return f"{base}-{int(number if dash else 0) + 1:06d}"


def _point(target: Path, name: str) -> None:
    """Replace the link in one step, rename(2): whoever opens a path through it gets the old tree or the new one."""
    draft = target / f".{CURRENT}.new"
    draft.unlink(missing_ok=True)
    draft.symlink_to(Path(RELEASES) / name)
    draft.replace(target / CURRENT)
    sync_directory(target)
