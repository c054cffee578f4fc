# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files whose content has to come: where each of them is staged, and which are still missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import compress

from .apply import AGAIN, FILES, FLAT, Staged
from .below import Below, Unexpected
from .change import is_content
from .record import dataclass
from .rsync import SMALL
from .spool import Spool

#: Names in one directory, which a file system has to search.
_MOST_FLAT = 100_000
#: Where a file is staged, by a number that fits into a byte; the first one is for those whose content came with the lists.
_READY, _FLAT, _FILES, _AGAIN = range(4)
_DIRECTORIES = ("", FLAT, FILES, AGAIN)
_TOPS = tuple(os.fsencode(name) + b"/" for name in _DIRECTORIES)


@dataclass
class Batch:
    """Files that come by one connection: how many, and bytes that none of them has more of."""

    number: int
    most: int


class Coming:
    """Files of a change, in its order. What is held in memory are two bytes for each of them, and those that are ``ready``."""

    def __init__(self, files: Spool, ready: Mapping[bytes, Staged] | None = None, *, flat: bool = False) -> None:
        """``ready``, by path, are those that are staged already.

        The others are laid out as in the tree, where rsync looks for what it has of them already. With ``flat`` a small one isn't, unless
        another one has the same name: to make a directory for it and to remove that again costs several times what the file itself does.
        """
        self._files, self._ready = files, ready or {}
        #: Bytes of the largest file, for each place.
        self._most = [0] * len(_DIRECTORIES)
        self._places = bytearray(self._laid_out(flat))
        self._missing = bytearray(place != _READY for place in self._places)

    def _laid_out(self, flat: bool) -> Iterator[int]:
        taken: set[bytes] = set()
        for entry in self._files:
            name = entry.path.rpartition(b"/")[2]
            if entry.path in self._ready:
                place = _READY
            elif flat and entry.size <= SMALL and name not in taken and len(taken) < _MOST_FLAT:
                taken.add(name)
                place = _FLAT
            else:
                place = _FILES
            self._most[place] = max(self._most[place], entry.size)
            yield place

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Staged]:
        for entry, place in zip(self._files, self._places):
            if place == _READY:
                yield self._ready[entry.path]
            else:
                path = entry.path.rpartition(b"/")[2] if place == _FLAT else entry.path
                yield Staged(entry, _TOPS[place] + path)

    def missing(self, directory: str | None = None) -> Iterator[Staged]:
        """Those that aren't known to be there, in one of the parts of the staging directory or in all."""
        if directory is None:
            return compress(self, self._missing)
        wanted = _DIRECTORIES.index(directory)
        return compress(self, (missing and place == wanted for missing, place in zip(self._missing, self._places)))

    def batches(self) -> dict[str, Batch]:
        """What is missing, by the part of the staging directory that it's to come to."""
        places = bytes(compress(self._places, self._missing))
        return {_DIRECTORIES[place]: Batch(places.count(place), self._most[place]) for place in sorted(set(places))}

    def look(self, staging: int, check: Callable[[], None] = lambda: None) -> int:
        """Read what is in the directory of the descriptor ``staging`` of those that were missing; how many of them still are.

        They are missing also if what is there isn't their content. ``check`` is called before each, and what it raises is raised.
        """
        below = Below(staging)
        try:
            for number, staged in enumerate(self):
                if self._missing[number]:
                    check()
                    self._missing[number] = not _is_there(below, staged)
        finally:
            below.close()
        return sum(self._missing)

    def ask_again(self) -> None:
        """What is missing comes to a place of its own: whatever has been in its way isn't there."""
        for number, is_missing in enumerate(self._missing):
            if is_missing:
                self._places[number] = _AGAIN
        self._most[_AGAIN] = max(self._most)


def _is_there(below: Below, staged: Staged) -> bool:
    try:
        return is_content(below, staged.path, staged.entry)
    except (OSError, Unexpected):
        return False
