# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists that a head leads to, as a mirror gets at them: those that the tree has already, those that came with the head, those that are fetched."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import apply, entry, head, recent, rsync
from .contents import Pieces
from .entry import Entry
from .errors import Failure
from .fast import Doubt
from .head import Head, Index, Listed
from .places import IN_TREE, INCOMING, RECENT
from .run import Run

#: Bytes of a compressed list that is fetched before its index has told how long it is.
_LARGEST_LIST = 256 << 20


class Damaged(Exception):
    """A list that the tree had already is of no use, and was removed."""


class Lists:
    """The files that a head leads to: those that the tree has already, and those that are fetched beside them."""

    def __init__(self, run: Run, origin: str) -> None:
        self._run, self._origin = run, origin
        self.own = Path(run.job.tree) / IN_TREE
        self.incoming = self.own / INCOMING
        os.close(apply.staging_directory(self.incoming))
        self._fresh = self.incoming / "lists"
        self._fresh.mkdir(exist_ok=True)
        #: Files of contents that were read, and hold nothing but what the deltas say.
        self.proven: set[str] = set()

    def path(self, name: str) -> Path | None:
        """Where a list is; None if it is not here."""
        return next((path for path in (self._fresh / name, self.own / name) if path.is_file() and not path.is_symlink()), None)

    def take_offered(self, new: Head) -> None:
        """Have what came with the head as if it had been fetched, if it belongs to this head."""
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
            if name in members and self.path(name) is None and entry.is_list(members[name], one.size, one.sha256):
                (self._fresh / name).write_bytes(members[name])
            if pieces in members:
                (self._fresh / pieces).write_bytes(members[pieces])

    def fetch_deltas(self, new: Head, serials: Iterable[int]) -> None:
        """Bring the index and these deltas, unless they are here; what their small files hold comes along, if the source has it."""
        names = [head.index_name(new.serial), *map(head.delta_name, serials)]
        if any(self.path(name) is None for name in names):
            self.fetch([*names, *map(head.contents_name, serials)], _LARGEST_LIST)

    def fetch(self, names: Iterable[str], most: int) -> None:
        """Bring those that are not here, in one connection; some may be missing at the source. Raises Failure if it can't be asked."""
        run = self._run
        missing = sorted({name for name in names if self.path(name) is None})
        if not missing:
            return
        wanted = run.places.state(run.job.name) / "names"
        rsync.list_names(wanted, self._origin, map(str.encode, missing), IN_TREE)
        ended = run.fetch(rsync.fetch_some(run.program, run.job, self._origin, IN_TREE, wanted, self._fresh, most), self._origin)
        failure = rsync.failure(ended, self._origin, run.job.target)
        if failure is not None and failure.kind != "incomplete":
            raise failure

    def fetch_all(self, index: Index) -> None:
        """Bring whatever the index names and is not here."""
        self.fetch(index.names, max(one.size for one in (index.manifest, *index.deltas)) + (1 << 20))

    def index(self, new: Head) -> Index:
        """The index of a head. Raises Doubt, Failure (``bad_head``)."""
        path = self.path(head.index_name(new.serial))
        if path is None:
            raise Doubt(f"it has no {head.index_name(new.serial)}")
        if path.stat().st_size > head.LONGEST_INDEX:
            raise Doubt("its index is too long")
        try:
            return head.parse_index(path.read_bytes(), new)
        except Failure:
            self._remove(path)
            raise

    def entries(self, serial: int, size: int, sha256: str, *, delta: bool = False) -> Iterator[Entry]:
        """What a list has. Raises Doubt, Failure (``bad_manifest``)."""
        name = head.delta_name(serial) if delta else head.manifest_name(serial)
        path = self.path(name)
        if path is None:
            raise Doubt(f"{name} is missing")
        try:
            yield from entry.read(path, size, sha256, delta=delta)
        except Failure:
            self._remove(path)
            raise

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
