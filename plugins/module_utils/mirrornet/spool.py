# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of a plan, which may be millions: beyond some thousands they are kept in a file without a name, which no kill can leave behind."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from .entry import Entry

#: Entries that are held in memory, and written and read at once.
_BLOCK = 2000


class Spool:
    """Entries in the order in which they were added. One can go through them any number of times, also at once."""

    def __init__(self, room: Path | None = None, entries: Iterable[Entry] = ()) -> None:
        """``room`` is a directory that nobody else can write to, for the file; without one all is held in memory."""
        #: Bytes of all files among them.
        self.size = 0
        self._room = room
        self._fd: int | None = None
        self._lengths: list[int] = []
        self._written = 0
        self._rest: list[Entry] = []
        for entry in entries:
            self.append(entry)

    def append(self, entry: Entry) -> None:
        """Raises OSError."""
        self.size += entry.size
        self._rest.append(entry)
        if self._room is not None and len(self._rest) >= _BLOCK:
            self._write(self._room)

    def __len__(self) -> int:
        return self._written + len(self._rest)

    def __iter__(self) -> Iterator[Entry]:
        """Raises OSError."""
        offset = 0
        for length in self._lengths:
            yield from _unpacked(self._read(offset, length))
            offset += length
        yield from self._rest

    def _write(self, room: Path) -> None:
        if self._fd is None:
            import tempfile  # Late, as few changes are that large.

            self._fd, name = tempfile.mkstemp(dir=room)
            weakref.finalize(self, os.close, self._fd)
            Path(name).unlink()
        block = _packed(self._rest)
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._lengths.append(len(block))
        self._written += len(self._rest)
        self._rest = []

    def _read(self, offset: int, length: int) -> bytes:
        block = os.pread(self._fd, length, offset) if self._fd is not None else b""
        if len(block) != length:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return block


def _packed(entries: Iterable[Entry]) -> bytes:
    """No path and no target has a zero byte."""
    return b"\0".join(
        chain.from_iterable(
            (kind.encode("ascii"), path, b"%d" % mode, b"%d" % mtime, b"%d" % size, digest.encode("ascii"), target)
            for kind, path, mode, mtime, size, digest, target in entries
        )
    )


def _unpacked(block: bytes) -> Iterator[Entry]:
    fields = iter(block.split(b"\0"))
    for kind, path, mode, mtime, size, digest, target in zip(*[fields] * len(Entry._fields)):
        yield Entry(kind.decode("ascii"), path, int(mode), int(mtime), int(size), digest.decode("ascii"), target)
