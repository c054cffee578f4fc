# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists that a head leads to, as a mirror gets at them: those that the tree has already, those that came with the head, those that are fetched."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import apply, entry, head, recent, rsync
from .contents import Pieces
from .entry import Entry
from .errors import Exit, Failure
from .fast import Doubt
from .head import Head, Index, Listed
from .places import IN_TREE, INCOMING, RECENT
from .run import Run

#: Bytes of a compressed list that is fetched before its index has told how long it is.
_LARGEST_LIST = 256 << 20
#: Bytes for lists that a run takes even where a job's reserve leaves nothing: a usual update has less.
_ALWAYS = 16 << 20
#: Bytes by which a list that hardly compresses may be longer than what it holds.
SLACK = 1 << 20


class Damaged(Exception):
    """A list that the tree had already is of no use, and was removed."""


def in_time(run: Run, entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries as they come, as long as the run has time. Raises Failure (``time_limit``)."""
    for one in entries:
        check_time(run)
        yield one


def check_time(run: Run) -> None:
    """Raise Failure (``time_limit``) if the run has none left: what is done without rsync is ended by nobody else."""
    if run.left <= 0:
        message = f"Looking at {run.job.tree} reached the job's time limit and was ended."
        remedy = "Raise time_limit if the tree needs longer; the next run begins to look anew."
        raise Failure("time_limit", Exit.TIME_LIMIT, message, remedy)


class Lists:
    """The files that a head leads to: those that the tree has already, and those that are fetched beside them."""

    def __init__(self, run: Run, origin: str) -> None:
        self._run, self._origin = run, origin
        self.own = Path(run.job.tree) / IN_TREE
        self.incoming = self.own / INCOMING
        os.close(apply.staging_directory(self.incoming))
        self._fresh = self.incoming / "lists"
        self._fresh.mkdir(exist_ok=True)
        #: Files that were held against their digest; and of contents, those that were read and hold nothing but what the deltas say.
        self.proven: set[str] = set()
        #: What the tree has under the name of something else, as from another row of serials. It leads to the former tree, and stays until the
        #: next one is there.
        self._others: set[str] = set()

    def path(self, name: str) -> Path | None:
        """Where a list is; None if it is not here."""
        own = () if name in self._others else (self.own / name,)
        return next((path for path in (self._fresh / name, *own) if _is_file(path)), None)

    def take_offered(self, new: Head) -> None:
        """Have what came with the head as if it had been fetched, if it belongs to this head."""
        if _index(self.own, new) is None:
            self._others.add(head.index_name(new.serial))
        if _index(self._fresh, new) is None:
            (self._fresh / head.index_name(new.serial)).unlink(missing_ok=True)
        offered = self._run.places.offered(self._run.job.name) / RECENT
        if not offered.is_file() or offered.stat().st_size > recent.LONGEST:
            return
        members = recent.read(offered.read_bytes())
        try:
            index = head.parse_index(members.get(head.index_name(new.serial), b""), new)
        except Failure:
            return  # It is of another head: the files themselves are asked for.
        name = head.index_name(new.serial)
        if self.path(name) is None:
            (self._fresh / name).write_bytes(members[name])
        for one in index.deltas:
            name, pieces = head.delta_name(one.serial), head.contents_name(one.serial)
            if name in members and self.path(name) is None and entry.is_list(io.BytesIO(members[name]), one.size, one.sha256):
                (self._fresh / name).write_bytes(members[name])
            if pieces in members:
                (self._fresh / pieces).write_bytes(members[pieces])

    def fetch_deltas(self, new: Head, serials: Iterable[int]) -> None:
        """Bring the index and these deltas, unless they are here; what their small files hold comes along, if the source has it."""
        names = [head.index_name(new.serial), *map(head.delta_name, serials)]
        if any(self.path(name) is None for name in names):
            self.fetch([*names, *map(head.contents_name, serials)], _LARGEST_LIST)

    def fetch(self, names: Iterable[str], most: int) -> None:
        """Bring those that are not here and have at most ``most`` bytes, in one connection; some may be missing at the source.

        Together they take no more than what the disk has, less what is to stay free. Raises Failure if the source can't be asked.
        """
        run = self._run
        missing = sorted({name for name in names if self.path(name) is None})
        if not missing:
            return
        room = os.statvfs(self.own)
        free = room.f_bavail * room.f_frsize
        fits = max(free - (run.job.reserve << 20), min(free, _ALWAYS)) // len(missing)
        if fits < most:
            run.recorder.log(f"The disk of {run.job.target} has room for {len(missing)} lists of {fits} bytes.")
        wanted = run.places.state(run.job.name) / "names"
        rsync.list_names(wanted, self._origin, map(str.encode, missing), IN_TREE)
        ended = run.fetch(rsync.fetch_some(run.program, run.job, self._origin, IN_TREE, wanted, self._fresh, min(most, fits)), self._origin)
        failure = rsync.failure(ended, self._origin, run.job.target)
        if failure is not None and failure.kind != "incomplete":
            raise failure

    def fetch_all(self, index: Index) -> None:
        """Bring whatever the index names and is not here."""
        self.fetch(index.names, max(one.size for one in (index.manifest, *index.deltas)) + SLACK)
        # A large one may have room alone that it hasn't got beside many others.
        self.fetch([head.manifest_name(index.manifest.serial)], index.manifest.size + SLACK)

    def secure(self, index: Index) -> None:
        """Have whatever the index names, as far as the source has it, with none of it unread. Raises Doubt if the tree can't be had from it."""
        self.fetch_all(index)
        for name, one in _named(index).items():
            self.has(name, one)
        for name in _to_all_of(index):
            if name not in self.proven:
                raise Doubt(f"{name} is missing, or not the one that its index lists")

    def index(self, new: Head, held: Head | None = None) -> Index:
        """The index of a head. Lists that are here already are taken for what it names only if they are.

        Those of the tree that is ``held`` were read when it was adopted. Raises Doubt, Failure (``bad_head``).
        """
        name = head.index_name(new.serial)
        path = self.path(name)
        if path is None:
            raise Doubt(f"it has no {name}")
        if path.stat().st_size > head.LONGEST_INDEX:
            raise Doubt("its index is too long")
        try:
            index = head.parse_index(path.read_bytes(), new)
        except Failure:
            path.unlink()
            raise
        self.proven.add(name)
        known = _index(self.own, held) if held is not None else None
        former = _named(known) if known is not None else {}
        for name, one in _named(index).items():
            same = former.get(name)
            if same is not None and (same.sha256, same.size) == (one.sha256, one.size) and self.path(name) == self.own / name:
                self.proven.add(name)
            elif not self.has(name, one):
                self.has(name, one)  # The tree's own, in place of a fresh one that was of no use.
        return index

    def has(self, name: str, one: Listed) -> bool:
        """Whether a list is here and is what an index lists; a fresh one that isn't is removed. Raises OSError, Failure (``time_limit``)."""
        if name in self.proven:
            return True
        path = self.path(name)
        if path is None:
            return False
        with path.open("rb") as file:
            is_it = entry.is_list(file, one.size, one.sha256, lambda: check_time(self._run))
        if is_it:
            self.proven.add(name)
        elif path.parent == self.own:
            self._others.add(name)
        else:
            path.unlink()
        return is_it

    def former(self, known: Head) -> Iterator[Entry] | None:
        """What the tree of a head had that was followed before, by the lists beside it; None if they aren't here.

        Raises Damaged while they are read, and Failure (``time_limit``).
        """
        index = _index(self.own, known)
        if index is None or not all(_is_file(self.own / name) for name in _to_all_of(index)):
            return None
        return self._former(index)

    def _former(self, index: Index) -> Iterator[Entry]:
        manifest = self.own / head.manifest_name(index.manifest.serial)
        base = entry.read(manifest, index.manifest.size, index.manifest.sha256)
        deltas = [entry.read(self.own / head.delta_name(one.serial), one.size, one.sha256, delta=True) for one in index.after_manifest]
        try:
            yield from entry.merge(base, deltas)
        except Failure:
            # Without it nobody tries again.
            manifest.unlink(missing_ok=True)
            raise Damaged(manifest.name) from None

    def entries(self, serial: int, size: int, sha256: str, *, delta: bool = False) -> Iterator[Entry]:
        """What a list has. Raises Doubt, Failure (``bad_manifest``)."""
        name = head.delta_name(serial) if delta else head.manifest_name(serial)
        path = self.path(name)
        if path is None:
            raise Doubt(f"{name} is missing")
        try:
            yield from in_time(self._run, entry.read(path, size, sha256, delta=delta))
        except Failure as failure:
            if failure.kind == "bad_manifest":
                self._remove(path)
            raise
        self.proven.add(name)

    def contents(self, deltas: Iterable[Listed]) -> Iterator[tuple[Entry, bytes]]:
        """Small files that these deltas bring, as far as their content came along, each with the digest that its entry has. Raises OSError."""
        for one in deltas:
            name = head.contents_name(one.serial)
            path = self.path(name)
            if path is None:
                continue
            with path.open("rb") as file:
                pieces = Pieces(file, self.entries(one.serial, one.size, one.sha256, delta=True))
                yield from pieces
            if pieces.is_whole:
                self.proven.add(name)
            else:
                path.unlink()

    def _remove(self, path: Path) -> None:
        """Remove a list that isn't what it should be. Raises Damaged if it was not fetched just now, so that the source's may be better."""
        path.unlink(missing_ok=True)
        if path.parent == self.own:
            raise Damaged(path.name) from None


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _index(own: Path, known: Head) -> Index | None:
    """The index of a head that was followed before, if it is among the tree's own lists."""
    path = own / head.index_name(known.serial)
    try:
        return head.parse_index(path.read_bytes(), known) if path.stat().st_size <= head.LONGEST_INDEX else None
    except (OSError, Failure):
        return None


def _named(index: Index) -> dict[str, Listed]:
    """What an index lists, by the names of the files."""
    return {head.manifest_name(index.manifest.serial): index.manifest, **{head.delta_name(one.serial): one for one in index.deltas}}


def _to_all_of(index: Index) -> list[str]:
    """The files without which nobody can tell what the tree of an index has."""
    return [head.manifest_name(index.manifest.serial), *(head.delta_name(one.serial) for one in index.after_manifest)]
