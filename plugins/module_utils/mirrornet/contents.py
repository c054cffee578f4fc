# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of the small files that a delta brings, in one file: bringing them one by one costs both sides many times their size.

Only a copy, in which nobody needs to believe: each piece is held against the digest that the delta has. docs/reference_formats.md has the format.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from .entry import Entry, digest_text

#: Bytes of all pieces together.
MOST = 4 << 20
#: Bytes of a file that is small.
_SMALL = 4096
#: Whoever can't read a file on the master gets it by no other way either.
_EVERYBODY_READS, _EVERYBODY_PASSES = 0o004, 0o001


def is_wanted(entry: Entry) -> bool:
    """Whether a file of this kind has a piece, as far as there is room."""
    return entry.kind == "f" and entry.size <= _SMALL and bool(entry.mode & _EVERYBODY_READS)


def collect(tree: Path, entries: Iterable[Entry]) -> Iterator[bytes]:
    """The pieces for ``entries`` of a delta, in its order, up to the first that can't be had or has no room. Raises OSError only for ``tree``."""
    top = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        open_to_all = {b"": _is_open(top, b".")}
        left = MOST
        for entry in filter(is_wanted, entries):
            left -= entry.size
            piece = _piece(top, entry, open_to_all) if left >= 0 else None
            if piece is None:
                return
            yield piece
    finally:
        os.close(top)


def _piece(top: int, entry: Entry, open_to_all: dict[bytes, bool]) -> bytes | None:
    """The content of a file, if it is the listed one and everybody may see it."""
    try:
        if not _is_reached(top, entry.path.rpartition(b"/")[0], open_to_all):
            return None
        fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=top)
        try:
            data = os.read(fd, _SMALL + 1)
        finally:
            os.close(fd)
    except OSError:
        return None
    return data if _is_content(entry, data) else None


def _is_reached(top: int, directory: bytes, open_to_all: dict[bytes, bool]) -> bool:
    if directory not in open_to_all:
        above = _is_reached(top, directory.rpartition(b"/")[0], open_to_all)
        open_to_all[directory] = above and _is_open(top, directory)
    return open_to_all[directory]


def _is_open(top: int, directory: bytes) -> bool:
    found = os.lstat(directory, dir_fd=top)
    return stat.S_ISDIR(found.st_mode) and bool(found.st_mode & _EVERYBODY_PASSES)


def _is_content(entry: Entry, data: bytes) -> bool:
    return len(data) == entry.size and digest_text(hashlib.sha256(data).digest()) == entry.digest


class Pieces:
    """The pieces in ``file`` for the records of a delta."""

    def __init__(self, file: IO[bytes], records: Iterable[Entry]) -> None:
        self._file, self._records = file, records
        #: Whether the file is what it should be to its last byte; known at the end.
        self.is_whole = False

    def __iter__(self) -> Iterator[tuple[Entry, bytes]]:
        """Files with their content, up to the first piece that isn't the content of its file. Raises OSError, and whatever the records raise."""
        for entry in filter(is_wanted, self._records):
            data = self._file.read(entry.size)
            if not _is_content(entry, data):
                self.is_whole = not data and entry.size > 0
                return
            yield entry, data
        self.is_whole = not self._file.read(1)
