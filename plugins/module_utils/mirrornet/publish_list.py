# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing Fedora's list of files as well, for mirrors that know it and nothing of heads.

The list is a file of the tree. It's made of the very scan that a head was made of, and the tree is then published once more, with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from . import filelist, publish, record, scan
from .errors import Exit, Failure
from .filelist import BadList, Seen
from .files import read_json, replace, sync_directory, to_json
from .look import kept
from .places import IN_TREE, Places
from .publish import Progress, Publication, Wish
from .published import STATE, State

_BEGIN = b"[Version]\n"


def publish_with_list(
    places: Places, wish: Wish, name: str, progress: Progress = lambda done: None, *, only_look: bool = False
) -> Publication:
    """As ``publish.publish``, and the list ``name`` at the top of the tree is the one of what mirrors get. Doesn't raise Failure."""
    try:
        _check(wish.tree, name)
    except Failure as failure:
        return _failed(Publication(tree=str(wish.tree), name=wish.name), failure)
    with publish.key_at_hand(wish) as ready:
        return _publish(places, ready, name, progress, only_look)


def _publish(places: Places, wish: Wish, name: str, progress: Progress, only_look: bool) -> Publication:
    done = publish.publish(places, wish, progress, only_look=only_look)
    if done.outcome not in ("published", "unchanged"):
        return done
    state = places.state(f"publish-{wish.name}")
    note = state / "file_list.json"
    if (wish.tree / name).is_file() and read_json(note) == _stands_for(done, name):
        return done
    if only_look:
        return record.replace(done, outcome="published")
    try:
        if _write(wish.tree, state, name):
            again = publish.publish(places, record.replace(wish, anew=False), progress)
            if again.outcome not in ("published", "unchanged"):
                return again
            done = _together(done, again)
        replace(note, to_json(_stands_for(done, name)))
    except Failure as failure:
        return _failed(done, failure)
    except (BadList, OSError) as error:
        message = f"{wish.tree / name} can't be written: {error}."
        return _failed(done, Failure("no_list", Exit.LOCAL_IO, message, "The head is published; the next call tries again."))
    return done


def _stands_for(done: Publication, name: str) -> dict[str, object]:
    return {"name": name, "epoch": done.epoch, "serial": done.serial}


def _failed(done: Publication, failure: Failure) -> Publication:
    return record.replace(
        done, outcome="failed", kind=failure.kind, message=failure.message, remedy=failure.remedy, exit_code=int(failure.exit_code)
    )


def _together(done: Publication, again: Publication) -> Publication:
    """What both calls did, as one; what has changed is told by the first, unless that was nothing."""
    if done.outcome == "unchanged":
        return again
    seconds = round(done.seconds + again.seconds, 3)
    return record.replace(
        done, serial=again.serial, epoch=again.epoch, entries=again.entries, files=again.files, size=again.size, seconds=seconds
    )


def _check(tree: Path, name: str) -> None:
    if "/" in name or name in ("", ".", "..", IN_TREE) or any(ord(character) < 32 for character in name):
        message = f"{name!r} can't be the name of a list: it is to be at the top of the tree."
        raise Failure("definition", Exit.CONFIG, message, "Name it as Fedora does, for instance fullfiletimelist-NAME.")
    path = tree / name
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_file() or _begin(path) != _BEGIN:
        message = f"{path} is there already, and is no list of files."
        raise Failure("no_list", Exit.CONFIG, message, "Choose another name, or remove it.")


def _begin(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_BEGIN))


def _write(tree: Path, state: Path, name: str) -> bool:
    """Write the list of what was published last; whether it differs from the one that is there. Raises BadList, OSError."""
    published = State.read(state / STATE)
    if published is None:
        raise BadList("somebody else has just published the tree")
    draft, path = tree / IN_TREE / ".file_list.new", tree / name
    draft.unlink(missing_ok=True)
    with draft.open("xb") as file:
        filelist.write(_entries(kept(state, published.generation).scan, os.fsencode(name)), file)
        file.flush()
        os.fsync(file.fileno())
    if path.is_file():
        if _is_same(draft, path):
            draft.unlink()
            return False
        former = path.stat().st_mtime
        if int(draft.stat().st_mtime) <= int(former):
            # Mirrors tell a list from the last one by its size and whole seconds.
            os.utime(draft, (int(former) + 1, int(former) + 1))
    draft.replace(path)
    sync_directory(tree)
    return True


def _is_same(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        return all(block == second.read(1 << 20) for block in iter(lambda: first.read(1 << 20), b""))


def _entries(looked: Path, own: bytes) -> Iterator[Seen]:
    for block in scan.lines(looked):
        for line in map(scan.line, block):
            if line.path and line.path != own:
                yield Seen(line.kind, line.mode, line.mtime, line.ctime, line.size, line.path)
