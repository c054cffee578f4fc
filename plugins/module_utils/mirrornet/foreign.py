# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following the list of files of a source that publishes no head: Fedora's `fullfiletimelist`, as EPEL and Rocky have it too.

Such a list tells names, kinds, sizes and times, but no content, so rsync brings what has changed between the list of our last complete tree
and the source's new one, by name. Whatever doesn't fit ends in rsync's own comparison of everything.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from . import apply, fast, filelist, rsync
from .below import Below, Unexpected
from .change import Change
from .entry import order
from .filelist import BadList, Line, TooMany
from .files import read_json, replace, to_json
from .pattern import excluder
from .places import IN_TREE, INCOMING
from .rsync import PARTIAL_DIR, Mode
from .run import Run
from .source import Plan

#: Differences that are held in memory; beyond, rsync's comparison isn't dearer.
_MOST = 200_000
#: Entries that are in the tree but in no list.
_MOST_UNLISTED = 10_000


class _Doubt(Exception):
    """Why a list isn't followed."""


@dataclass
class _Update:
    """What has changed between two lists."""

    wanted: list[bytes] = field(default_factory=list)
    #: Entries that the former list doesn't have.
    created: list[bytes] = field(default_factory=list)
    #: What its list says of each wanted file.
    sizes: dict[bytes, int] = field(default_factory=dict)
    change: Change = field(default_factory=Change)


class _Store:
    """The lists of a job in its state directory: the one that our tree was completed by, and what a source has now."""

    def __init__(self, run: Run) -> None:
        self._exclude = list(run.job.exclude)
        self._leaves_out = excluder(self._exclude)
        name = str(run.job.file_list)
        self.directory = run.places.file_list(run.job.name)
        self.known = self.directory / "known" / name
        self.fresh = self.directory / "fresh" / name
        self.scratch = self.directory / "scratch"
        for path in (self.known.parent, self.fresh.parent, self.scratch):
            path.mkdir(parents=True, exist_ok=True)
        self._note = self.directory / "unlisted.json"

    @property
    def latest(self) -> Path:
        return self.fresh if self.fresh.is_file() else self.known

    def unlisted(self) -> list[bytes] | None:
        """What the tree has and its list has not; None if no list stands for the tree."""
        note = read_json(self._note)
        names = note.get("names")
        if not self.known.is_file() or note.get("list") != _identity(self.known) or not isinstance(names, list):
            return None
        if note.get("exclude", []) != self._exclude:
            return None  # What was left out then may be wanted now.
        return [os.fsencode(str(name)) for name in names]

    def doubt(self) -> None:
        """From now on no list stands for the tree."""
        self._note.unlink(missing_ok=True)

    def note(self, names: list[bytes]) -> None:
        """The known list stands for the tree, but for these names."""
        replace(self._note, to_json({"exclude": self._exclude, "list": _identity(self.known), "names": sorted(map(os.fsdecode, names))}))

    def lines(self, path: Path) -> Iterator[bytes]:
        """The lines of a list but for what the job leaves out. Raises BadList, OSError."""
        if not self._exclude:
            return filelist.lines(path)
        return (line for line in filelist.lines(path) if not self.leaves_out(filelist.parse(line)))

    def leaves_out(self, line: Line) -> bool:
        """Whether the job leaves out what a line is about."""
        return self._leaves_out(line.path, line.kind == "d")


def _identity(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]


# Planning


def ask(run: Run, origin: str) -> Plan | None:
    """What it takes to follow the list of ``origin``: a plan, which is empty if nothing has changed.

    None says that everything has to be compared; the log has the reason. Raises Failure if the source can't be used.
    """
    store = _Store(run)
    try:
        return _ask(run, origin, store)
    except (BadList, Unexpected, _Doubt) as problem:
        run.recorder.log(f"The list {run.job.file_list} of {origin} isn't followed: {problem}.")
    except TooMany:
        run.recorder.log(f"The list {run.job.file_list} of {origin} isn't followed: nearly everything is new.")
    store.doubt()
    return None


def _ask(run: Run, origin: str, store: _Store) -> Plan | None:
    job = run.job
    run.recorder.phase("file list")
    store.fresh.unlink(missing_ok=True)
    known = store.known.parent if store.known.is_file() else None
    ended = run.fetch(rsync.fetch_list(run.program, job, origin, str(job.file_list), store.fresh.parent, known), origin)
    failure = rsync.failure(ended, origin, job.target)
    if failure is not None and failure.kind != "incomplete":
        raise failure
    if failure is not None:
        store.fresh.unlink(missing_ok=True)
        raise _Doubt("it isn't there, or can't be read")
    unlisted = store.unlisted()
    if unlisted is None:
        raise _Doubt("none stands for the tree that is here yet")
    if fast.is_due(run):
        raise _Doubt("the full check is due")
    if not store.fresh.is_file():
        run.record.way = "same"
        return Plan(origin, rsync.Tally())
    if store.fresh.stat().st_mtime < store.known.stat().st_mtime:
        raise _Doubt("it is older than the one of the tree that is here")
    run.recorder.phase("plan")
    return _plan(run, origin, store, unlisted)


def _plan(run: Run, origin: str, store: _Store, unlisted: list[bytes]) -> Plan:
    """Raises BadList, TooMany, Unexpected, _Doubt."""
    entries = 0

    def counted() -> Iterator[bytes]:
        nonlocal entries
        for line in store.lines(store.fresh):
            entries += 1
            yield line

    size = store.known.stat().st_size + store.fresh.stat().st_size
    old, new = filelist.difference(store.lines(store.known), counted(), store.scratch, size=size, most=_MOST)
    gone, come = _by_path(old), _by_path(new)
    update = _Update()
    for path, line in come.items():
        former = gone.get(path)
        if former is not None and former.kind == "d" and line.kind != "d":
            raise _Doubt(f"{os.fsdecode(path)!r} was a directory and is none now")
        if line.is_open and not _is_own(path):
            update.wanted.append(path)
            if line.kind == "f":
                update.sizes[path] = line.size
            if former is None:
                update.created.append(path)
    update.wanted.sort(key=order)
    # What is here without being listed may have gone since: asking for it by name finds that out.
    update.wanted += sorted({*unlisted, os.fsencode(str(run.job.file_list))} - set(update.wanted), key=order)
    _look(run, store, gone, come, update.change)
    plan = Plan(origin, rsync.Tally(), carry_out=partial(_carry_out, run, origin, store, update, unlisted))
    for path in update.change.deletions:
        plan.take(f"*deleting  |0|{rsync.as_written(path)}{'/' if path in update.change.gone_directories else ''}")
    tally = plan.tally
    tally.entries, tally.created, tally.files, tally.size = entries + 1, len(update.created), len(update.wanted), sum(update.sizes.values())
    tally.items += len(update.wanted)
    run.record.entries, run.record.way = entries + 1, "list"
    return plan


def _by_path(lines: set[bytes]) -> dict[bytes, Line]:
    found: dict[bytes, Line] = {}
    for line in map(filelist.parse, lines):
        if found.setdefault(line.path, line) is not line:
            raise BadList(f"it names {os.fsdecode(line.path)!r} twice")
    return found


def _is_own(path: bytes) -> bool:
    """Whether it is something that no mirror takes from another."""
    parts = path.split(b"/")
    return parts[0] == os.fsencode(IN_TREE) or os.fsencode(PARTIAL_DIR) in parts


def _look(run: Run, store: _Store, gone: dict[bytes, Line], come: dict[bytes, Line], change: Change) -> None:
    """Find what is to be deleted, and whether the tree is what the former list said. Raises Unexpected, BadList, OSError."""
    names = gone.keys() - come.keys()
    for text in store.lines(store.fresh) if names else ():
        if filelist.path_of(text) in names:
            raise BadList(f"it names {os.fsdecode(filelist.path_of(text))!r} twice")
    own = os.fsencode(str(run.job.file_list))
    with _tree(run) as top:
        below = Below(top)
        try:
            for path in sorted((path for path in gone if not _is_own(path) and path != own), key=order):
                found, line = below.stat(path), gone[path]
                if path in names and found is not None:
                    change.deletions.append(path)
                    change.gone_directories |= {path} if line.kind == "d" else set()
                kinds = {line.kind, come.get(path, line).kind}
                if line.is_open and (found is None or _kind(found) not in kinds) and (found is not None or path not in names):
                    raise Unexpected(path, "isn't what the former list said")
        finally:
            below.lock_again()
            below.close()


def _kind(found: os.stat_result) -> str:
    return "f" if stat.S_ISREG(found.st_mode) else "d" if stat.S_ISDIR(found.st_mode) else "l"


@contextlib.contextmanager
def _tree(run: Run) -> Iterator[int]:
    top = os.open(run.job.tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield top
    finally:
        os.close(top)


# Carrying out


def _carry_out(run: Run, origin: str, store: _Store, update: _Update, unlisted: list[bytes]) -> bool:
    """Bring what has changed, the index files last, and then delete what is gone. False if everything has to be compared instead."""
    job = run.job
    if len(update.created) + len(unlisted) > _MOST_UNLISTED:
        store.doubt()
    else:
        # If this run is killed, what it has brought is in neither the former list nor perhaps the next one.
        store.note([*unlisted, *update.created])
    names = store.directory / "names"
    names.write_bytes(b"".join(b"./" + path + b"\0" for path in update.wanted))
    run.record.unfinished = True
    fast.forget(run)
    modes = [Mode(leave=job.index_patterns, files_from=names, flat=True), Mode(files_from=names, flat=True)]
    for number, mode in enumerate(modes if job.index_patterns else modes[1:], 1):
        phase = "transfer" if number == 1 else "finish"
        dummy, ended = run.transfer(phase, origin, partial(_command, run, origin, mode))
        failure = rsync.failure(ended, origin, job.target)
        if ended.code == 24 or (failure is not None and failure.kind == "incomplete"):
            return _give_up(run, origin, store, "the source doesn't have all that it lists, or can't read it")
        if failure is not None:
            if failure.kind == "disk_full":
                _clear(job.tree)
            raise failure
    try:
        _refuse_others(run, update.sizes)
        _delete(run, update.change)
    except (Unexpected, OSError) as problem:
        return _give_up(run, origin, store, str(problem))
    store.note(unlisted)
    return True


def _refuse_others(run: Run, sizes: dict[bytes, int]) -> None:
    """Raise Unexpected for a file that isn't the listed one: a mirror may have the list of its source before it has the tree."""
    with _tree(run) as top:
        below = Below(top)
        try:
            for path, size in sizes.items():
                found = below.stat(path)
                if found is None or found.st_size != size:
                    raise Unexpected(path, "isn't what the list says")
        finally:
            below.lock_again()
            below.close()


def _command(run: Run, origin: str, mode: Mode, bandwidth: int) -> list[str]:
    return rsync.argv(run.program, run.job, origin, run.job.tree, mode, bandwidth=bandwidth)


def _give_up(run: Run, origin: str, store: _Store, why: str) -> bool:
    run.recorder.log(f"The list {run.job.file_list} of {origin} isn't followed: {why}.")
    store.doubt()
    return False


def _clear(tree: str) -> None:
    # What arrived can't be shown without the rest, and whatever else is on that disk needs the room.
    for directory in rsync.leftovers(Path(tree)):
        shutil.rmtree(directory, ignore_errors=True)


def _delete(run: Run, change: Change) -> None:
    """Raises Unexpected, OSError."""
    if not change.deletions:
        return
    with _tree(run) as top:
        staging = apply.staging_directory(Path(run.job.tree) / IN_TREE / INCOMING)
        try:
            apply.carry_out(top, staging, change, (), lambda path: False, partial(_count_deletion, run))
        finally:
            os.close(staging)


def _count_deletion(run: Run, path: bytes) -> None:
    # At once: if the rest fails, what is gone is gone all the same.
    run.recorder.log(f"*deleting  |0|{rsync.as_written(path)}")
    run.record.deletions += 1


# Afterwards


def adopt(run: Run) -> None:
    """The tree is complete: the list that was fetched before is now the one that stands for it."""
    if run.record.way not in ("plain", "list"):
        return
    store = _Store(run)
    unlisted = store.unlisted() if run.record.way == "list" else None
    latest = store.latest
    if not latest.is_file():
        return
    try:
        unlisted = _unlisted(run, store, latest) if unlisted is None else _without_listed(unlisted, latest)
    except (BadList, TooMany, Unexpected, _Doubt, OSError) as problem:
        run.recorder.log(f"The list {run.job.file_list} can't stand for the tree: {problem or 'it leaves out too much of it'}.")
        store.doubt()
        return
    store.doubt()
    if latest is store.fresh:
        store.fresh.replace(store.known)
    store.note(unlisted)


def _unlisted(run: Run, store: _Store, latest: Path) -> list[bytes]:
    """What the tree has and the list has not. Raises BadList, TooMany, Unexpected, _Doubt, OSError."""
    with _tree(run) as top:
        below = Below(top)

        def here() -> Iterator[bytes]:
            for path, found in below.all():
                if b"\n" in path:
                    raise Unexpected(path, "has a line end in its name, which no such list can hold")
                if path and not _is_own(path) and not store.leaves_out(Line(_kind(found), True, 0, 0, path)):
                    yield _key(path, found)

        def listed() -> Iterator[bytes]:
            own = os.fsencode(str(run.job.file_list))
            for line in map(filelist.parse, store.lines(latest)):
                # The list of itself: it was still being written when that was looked at.
                found = below.stat(line.path) if line.path == own or not line.is_open else None
                if found is not None:
                    yield _key(line.path, found)
                elif line.is_open and line.path != own and not _is_own(line.path):
                    yield b"%s %d %s" % (line.kind.encode(), line.size if line.kind == "f" else 0, line.path)

        try:
            here_only, listed_only = filelist.difference(
                here(), listed(), store.scratch, size=2 * latest.stat().st_size, most=_MOST_UNLISTED
            )
        finally:
            below.lock_again()
            below.close()
    if listed_only:
        name = os.fsdecode(next(iter(listed_only)).split(b" ", 2)[2])
        raise _Doubt(f"it lists what is not here, or not like this, as {name!r}: the source's tree is older or younger")
    return [key.split(b" ", 2)[2] for key in here_only]


def _key(path: bytes, found: os.stat_result) -> bytes:
    """Kind, size of a file, and path."""
    kind = _kind(found)
    return b"%s %d %s" % (kind.encode(), found.st_size if kind == "f" else 0, path)


def _without_listed(unlisted: list[bytes], latest: Path) -> list[bytes]:
    left = set(unlisted)
    if left:
        for text in filelist.lines(latest):
            left.discard(filelist.path_of(text))
    return list(left)
