# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an update does to a tree: found by looking at what is there, for a list of what has changed or for a list of everything."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from .below import Below, Stat, Unexpected
from .entry import Entry, digest_text, order
from .record import dataclass, field
from .spool import Spool

_BLOCK = 1 << 20


@dataclass
class Change:
    """What is to be done. All lists are in the order of a manifest."""

    #: Directories to be made, or to be given their mode and time.
    directories: list[Entry] = field(default_factory=list)
    #: Files whose content has to come.
    files: Spool = field(default_factory=Spool)
    #: Files whose content is in the tree already, and where, but shared with files that are to stay as they are.
    copies: list[tuple[Entry, bytes]] = field(default_factory=list)
    #: Further names: the new one, and one whose file it is to be.
    links: list[tuple[bytes, bytes]] = field(default_factory=list)
    symlinks: list[Entry] = field(default_factory=list)
    #: Files that only get another mode or time.
    attributes: list[Entry] = field(default_factory=list)
    deletions: list[bytes] = field(default_factory=list)
    #: Those of the deletions that are directories.
    gone_directories: set[bytes] = field(default_factory=set)
    #: Entries that the tree doesn't have yet.
    created: int = 0

    @property
    def size(self) -> int:
        """Bytes of the files whose content has to come."""
        return self.files.size

    @property
    def steps(self) -> int:
        """How many entries are touched in some way."""
        changed = len(self.directories) + len(self.files) + len(self.copies) + len(self.symlinks) + len(self.attributes)
        return changed + len(self.links) + len(self.deletions)


class Suspects:
    """The files of a list of everything that may have another content here than their size and time tell.

    Such a file is one that isn't listed just the same for a tree that was here, or that deltas since then name. All of it is streams: the list
    goes through ``watch``, and whether a path is a suspect can be asked while its entry is the latest.
    """

    def __init__(self, former: Iterable[Iterator[Entry]], named: Iterable[Iterator[Entry]]) -> None:
        """``former`` are lists of everything, ``named`` deltas, also combined ones."""
        self._former, self._named = [_Abreast(one) for one in former], [_Abreast(one) for one in named]
        self._suspect: bytes | None = None

    def watch(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries as they come. Raises whatever they and the other lists raise; these are read to their ends, too."""
        for entry in entries:
            if entry.kind == "f":
                self._suspect = entry.path if self._is_one(entry) else None
            yield entry
        for abreast in (*self._former, *self._named):
            abreast.finish()

    def __contains__(self, path: object) -> bool:
        return self._suspect == path

    def _is_one(self, entry: Entry) -> bool:
        key = order(entry.path)
        # All are moved on, whatever the first one says.
        known = [abreast.at(key) for abreast in self._former]
        named = [abreast.at(key) for abreast in self._named]
        return any(one is None or one._replace(mode=entry.mode) != entry for one in known) or any(one is not None for one in named)


class _Abreast:
    """A list that is read as far as another one."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self._entries = entries
        self._next = next(entries, None)

    def at(self, key: bytes) -> Entry | None:
        """The entry of this place in the order; None if there is none."""
        while self._next is not None and order(self._next.path) < key:
            self._next = next(self._entries, None)
        return self._next if self._next is not None and order(self._next.path) == key else None

    def finish(self) -> None:
        """What is wrong with a list may be known only at its end."""
        for dummy in self._entries:
            pass


class TooMuch(Exception):
    """The change is larger than the caller wants to hold in memory."""


def from_deltas(below: Below, records: Iterable[Entry], *, room: Path | None = None) -> Change:
    """The change that the records of a delta ask for; of several deltas, ``entry.combine`` makes one.

    Costs what the records cost, whatever the size of the tree. A delta doesn't tell what a file was before, so that one of the same size is
    read to find out whether its content changed. ``room`` is a directory for a ``Spool``.
    Raises OSError, and Unexpected if the tree can't be what the delta was made for.
    """
    look = _Look(below, trusting=False, partial=True, room=room)
    for record in records:
        found = below.stat(record.path)
        look.count(found)
        if record.kind == "-":
            if found is not None:
                look.delete(record.path, found)
            continue
        if found is None:
            look.needs_parent(record.path)
        look.take(record, found)
    return look.done()


def from_manifest(
    below: Below,
    entries: Iterator[Entry],
    *,
    read_all: bool = False,
    suspects: Container[bytes] = frozenset(),
    grain: int = 1,
    most: int | None = None,
    room: Path | None = None,
) -> Change:
    """The change that makes the tree what a manifest lists. Walks the tree once; memory is for the differences alone,
    and where there is ``room``, a directory for a ``Spool``, not for files whose content has to come.

    A file of the same size and time counts as the same, as it does for rsync, unless ``read_all`` or it is one of the ``suspects``: those
    that are known to have changed since the tree was complete, perhaps in nothing but their content. ``grain`` is the unit in which the
    file system keeps times, in nanoseconds. Raises OSError, Unexpected, TooMuch beyond ``most`` steps, and whatever ``entries`` raises.
    """
    look = _Look(below, trusting=not read_all, partial=False, suspects=suspects, grain=grain, most=most, room=room)
    here = below.all()
    path, found = next(here)
    behind = False
    for entry in entries:
        wanted = order(entry.path)
        while not behind and order(path) < wanted:
            look.delete(path, found)
            path, found, behind = _next(here)
        if not behind and path == entry.path:
            look.take(entry, found)
            path, found, behind = _next(here)
        else:
            look.take(entry, None)
    while not behind:
        look.delete(path, found)
        path, found, behind = _next(here)
    return look.done()


def _next(here: Iterator[tuple[bytes, os.stat_result]]) -> tuple[bytes, os.stat_result, bool]:
    """The next entry, and whether there is none."""
    for path, found in here:
        return path, found, False
    return b"", _NOTHING, True


_NOTHING = os.stat_result((0,) * 10)

_Inode = tuple[int, int]


def _inode(found: os.stat_result) -> _Inode:
    return found.st_dev, found.st_ino


class _Look:
    """Gathers a change, entry by entry; what hard links need is known only at the end."""

    def __init__(
        self,
        below: Below,
        *,
        trusting: bool,
        partial: bool,
        suspects: Container[bytes] = frozenset(),
        grain: int = 1,
        most: int | None = None,
        room: Path | None = None,
    ) -> None:
        self._below = below
        self._suspects = suspects
        self._trusting = trusting
        #: Whether what is not asked about has to stay as it is.
        self._partial = partial
        self._grain = grain
        self._most = most
        self._steps = 0
        self._room = room
        self._change = Change(files=Spool(room))
        self._made: set[bytes] = set()
        #: Names that are asked about, for each file that has several.
        self._names: dict[_Inode, int] = {}
        #: Files that have the right content but several names here.
        self._shared: list[tuple[Entry, os.stat_result]] = []
        #: Which path has each of these as its own, and those that do.
        self._owners: dict[_Inode, bytes] = {}
        self._kept: dict[bytes, _Inode] = {}
        self._followers: dict[bytes, list[tuple[bytes, Stat]]] = {}
        self._files: set[bytes] = set()

    def count(self, found: Stat) -> None:
        """Note a name of a file with several."""
        if found is not None and stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            self._names[_inode(found)] = self._names.get(_inode(found), 0) + 1

    def delete(self, path: bytes, found: os.stat_result) -> None:
        self._step()
        self._change.deletions.append(path)
        if stat.S_ISDIR(found.st_mode):
            self._change.gone_directories.add(path)

    def needs_parent(self, path: bytes) -> None:
        """Refuse an entry whose directory neither is there nor comes."""
        above = path.rpartition(b"/")[0]
        if above not in self._made:
            self._below.directory(above)

    def take(self, entry: Entry, found: Stat) -> None:
        """Find out what brings the entry about, where ``found`` is now."""
        change = self._change
        if found is None:
            change.created += 1
        if entry.kind == "d":
            is_there = found is not None and stat.S_ISDIR(found.st_mode)
            if self._partial and not is_there:
                self._made.add(entry.path)
            if found is None or not is_there or not self._same_attributes(entry, found):
                self._step()
                change.directories.append(entry)
        elif entry.kind == "f":
            self._file(entry, found)
        elif entry.kind == "h":
            if self._partial and entry.target not in self._files:
                raise Unexpected(entry.path, "is a further name of a file that isn't told of")
            # In a tree that is as it should be, that is all there is to say, of however many names.
            if self._partial or found is None or not stat.S_ISREG(found.st_mode) or self._kept.get(entry.target) != _inode(found):
                self._step()
                self._followers.setdefault(entry.target, []).append((entry.path, found))
        elif found is None or not self._is_same_symlink(entry, found):
            self._step()
            change.symlinks.append(entry)

    def done(self) -> Change:
        """The change, whole."""
        change = self._change
        for entry, found in self._shared:
            self._share(entry, found)
        # Few files have further names.
        firsts = {entry.path: entry for entry in change.files if entry.path in self._followers} if self._followers else {}
        found_here: set[bytes] = set()
        for first, others in self._followers.items():
            inode_of_all = self._kept.get(first)
            coming = firsts.get(first)
            donor = self._donor(coming, others) if coming is not None else None
            if coming is not None and donor is not None:
                path, found = donor
                found_here.add(first)
                if self._owners.setdefault(_inode(found), first) == first and self._all_names_are_known(found):
                    inode_of_all = _inode(found)
                    change.links.append((first, path))
                    self._attributes(coming, path, found)
                    first = path
                else:
                    change.copies.append((coming, path))
            for path, other in others:
                if other is None or inode_of_all is None or not stat.S_ISREG(other.st_mode) or _inode(other) != inode_of_all:
                    change.links.append((path, first))
        if found_here:
            change.files = Spool(self._room, (entry for entry in change.files if entry.path not in found_here))
        change.links.sort(key=lambda link: order(link[0]))
        change.attributes.sort(key=lambda entry: order(entry.path))
        return change

    def _file(self, entry: Entry, found: Stat) -> None:
        if self._partial:
            self._files.add(entry.path)
        if found is None or not self._has_content(entry, found):
            self._step()
            self._change.files.append(entry)
        elif found.st_nlink > 1 and self._partial:
            self._shared.append((entry, found))
        elif found.st_nlink > 1:
            self._share(entry, found)
        else:
            self._attributes(entry, entry.path, found)

    def _share(self, entry: Entry, found: os.stat_result) -> None:
        """Leave a file with several names to the first that asks for it; the others get copies."""
        inode = _inode(found)
        if self._owners.setdefault(inode, entry.path) == entry.path and self._all_names_are_known(found):
            self._kept[entry.path] = inode
            self._attributes(entry, entry.path, found)
        else:
            self._step()
            self._change.copies.append((entry, entry.path))

    def _has_content(self, entry: Entry, found: os.stat_result) -> bool:
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
            return False
        if self._trusting and entry.path not in self._suspects and self._same_time(entry, found):
            return True
        return is_content(self._below, entry.path, entry)

    def _donor(self, entry: Entry, others: list[tuple[bytes, Stat]]) -> tuple[bytes, os.stat_result] | None:
        """One of the further names that has the file's content already."""
        for path, found in others:
            if found is not None and stat.S_ISREG(found.st_mode) and found.st_size == entry.size and is_content(self._below, path, entry):
                return path, found
        return None

    def _all_names_are_known(self, found: os.stat_result) -> bool:
        """Whether changing the file itself changes nothing that nobody asked about.

        A manifest names all of the tree; a file's names outside of the tree, as of somebody's snapshots made of hard links, follow it as they
        do under rsync.
        """
        return not self._partial or found.st_nlink <= max(self._names.get(_inode(found), 0), 1)

    def _attributes(self, entry: Entry, path: bytes, found: os.stat_result) -> None:
        if not self._same_attributes(entry, found):
            self._step()
            self._change.attributes.append(entry._replace(path=path))

    def _same_attributes(self, entry: Entry, found: os.stat_result) -> bool:
        return stat.S_IMODE(found.st_mode) == entry.mode and self._same_time(entry, found)

    def _same_time(self, entry: Entry, found: os.stat_result) -> bool:
        return entry.mtime // self._grain == found.st_mtime_ns // self._grain

    def _is_same_symlink(self, entry: Entry, found: os.stat_result) -> bool:
        if not stat.S_ISLNK(found.st_mode) or not self._same_time(entry, found):
            return False
        fd, name = self._below.parent(entry.path)
        return os.readlink(name, dir_fd=fd) == entry.target

    def _step(self) -> None:
        self._steps += 1
        if self._most is not None and self._steps > self._most:
            raise TooMuch


def is_content(below: Below, path: bytes, entry: Entry) -> bool:
    """Whether the file at ``path`` has the content of ``entry``; a file that can't be read has not. Raises Unexpected, OSError."""
    try:
        fd = below.read(path)
    except (PermissionError, FileNotFoundError):
        return False
    try:
        found = os.fstat(fd)
        return stat.S_ISREG(found.st_mode) and found.st_size == entry.size and digest(fd) == entry.digest
    finally:
        os.close(fd)


def digest(fd: int) -> str:
    """SHA-256 of what can be read from ``fd``, as it stands in a manifest. Raises OSError."""
    summed = hashlib.sha256()
    while block := os.read(fd, _BLOCK):
        summed.update(block)
    return digest_text(summed.digest())
