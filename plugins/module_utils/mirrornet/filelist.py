# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fedora's list of files, `fullfiletimelist`: read, written, and two of them compared. docs/reference_formats.md describes it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

#: The newest version that is understood, and the one that is written.
VERSION = 3
#: Bytes of a path, as Linux has it, and of the three fields before it.
_LONGEST_PATH = 4095
_LONGEST_LINE = _LONGEST_PATH + 64
#: Bytes of two lists that are compared in memory at once.
BUCKET = 8 << 20
_MOST_BUCKETS = 256

_LINE = re.compile(rb"(-?\d{1,19})\t([dfl])([-*]?)\t(\d{1,19})\t([^\n]+)")
_SECTION = re.compile(rb"\[([A-Za-z0-9 ]+)\]")


class BadList(Exception):
    """The list can't be followed. The text says why, to go on a line of its own."""


class TooMany(Exception):
    """Two lists differ in more than the caller wants to hold in memory."""


class Line(NamedTuple):
    """What a list says about one entry."""

    #: ``d``, ``f`` or ``l``.
    kind: str
    #: Whether everybody may see it; what they may not, a mirror isn't given.
    is_open: bool
    #: Seconds: of its content or of its attributes, whichever changed later.
    time: int
    size: int
    path: bytes


def lines(path: Path) -> Iterator[bytes]:
    """The lines of the section that lists the tree, as they are, and so that memory is for one line only.

    Raises BadList at the end too, for a list that was cut off: whoever calls does nothing before. Raises OSError.
    """
    with path.open("rb") as source:
        yield from _lines(source)


def _lines(source: IO[bytes]) -> Iterator[bytes]:
    where = _Sections()
    for line in iter(lambda: source.readline(_LONGEST_LINE + 1), b""):
        if not line.endswith(b"\n"):
            raise BadList("it has a line that is too long or not ended")
        if where.lists(line[:-1]):
            yield line[:-1]
    where.end()


class _Sections:
    """Which section of a list is being read."""

    def __init__(self) -> None:
        self._now = b""
        self._seen: set[bytes] = set()

    def lists(self, line: bytes) -> bool:
        """Take a line into account; whether it lists an entry. Raises BadList."""
        head = _SECTION.fullmatch(line)
        if head is not None:
            self._begin(head[1])
        elif self._now == b"Files":
            return line != b""
        elif line:
            self._other(line)
        return False

    def end(self) -> None:
        """The file ends here. Raises BadList if the list doesn't."""
        if not {b"Files", b"End"} <= self._seen:
            raise BadList("it was cut off: its end is missing")

    def _begin(self, name: bytes) -> None:
        if name in self._seen or b"End" in self._seen:
            raise BadList(f"its section {name.decode()} is in the wrong place")
        self._now = name
        self._seen.add(name)
        if name == b"Files" and b"Version" not in self._seen:
            raise BadList("it doesn't tell its version first")

    def _other(self, line: bytes) -> None:
        if self._now == b"Version":
            if not line.isdigit() or not 0 < int(line[:9]) <= VERSION:
                raise BadList(f"it is of version {line[:20]!r}, and {VERSION} is the newest that is known")
        elif not self._now.startswith(b"Checksums"):
            raise BadList(f"it has a line that is in no section: {line[:60]!r}")


def parse(text: bytes) -> Line:
    """What a line says. Raises BadList."""
    match = _LINE.fullmatch(text)
    if match is None:
        raise BadList(f"it has a line that isn't understood: {text[:200]!r}")
    path = match[5]
    if len(path) > _LONGEST_PATH or any(part in (b"", b".", b"..") for part in path.split(b"/")) or b"\0" in path:
        raise BadList(f"it names a path that can't be in a tree: {path[:200]!r}")
    return Line(match[2].decode(), not match[3], int(match[1]), int(match[4]), path)


def path_of(text: bytes) -> bytes:
    """The path that a line is about, without looking at the rest. Raises BadList."""
    fields = text.split(b"\t", 3)
    if len(fields) != 4:
        raise BadList(f"it has a line that isn't understood: {text[:200]!r}")
    return fields[3]


def difference(
    old: Iterable[bytes], new: Iterable[bytes], scratch: Path, *, size: int, most: int, bucket: int = BUCKET
) -> tuple[set[bytes], set[bytes]]:
    """Which lines only the old and only the new one of two lists has, which together are about ``size`` bytes long, in whatever order.

    Large lists are spread over files in the directory ``scratch`` by a sum of each line, so that equal lines meet, and memory is for one of
    these files and the differences. Raises TooMany beyond ``most``, and OSError.
    """
    number = min(max(1, size // bucket), _MOST_BUCKETS)
    if number == 1:
        return _difference(set(old), set(new), most)
    only_old: set[bytes] = set()
    only_new: set[bytes] = set()
    try:
        for name, every in (("old", old), ("new", new)):
            _spread(every, scratch, name, number)
        for one in range(number):
            here, there = (set(_bucket(scratch, name, one).read_bytes().split(b"\n")) for name in ("old", "new"))
            gone, come = _difference(here, there, most - len(only_old) - len(only_new))
            only_old |= gone
            only_new |= come
    finally:
        for name in ("old", "new"):
            for one in range(number):
                _bucket(scratch, name, one).unlink(missing_ok=True)
    return only_old, only_new


def _difference(old: set[bytes], new: set[bytes], most: int) -> tuple[set[bytes], set[bytes]]:
    gone, come = old - new, new - old
    if len(gone) + len(come) > most:
        raise TooMany
    return gone, come


def _bucket(scratch: Path, name: str, number: int) -> Path:
    return scratch / f"{name}-{number}"


def _spread(every: Iterable[bytes], scratch: Path, name: str, number: int) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(_bucket(scratch, name, one).open("wb")) for one in range(number)]
        for line in every:
            files[zlib.crc32(line) % number].write(line + b"\n")


class Seen(NamedTuple):
    """An entry that goes into a list."""

    #: ``d``, ``f`` or ``l``.
    kind: str
    #: Permission bits.
    mode: int
    #: Nanoseconds since 1970.
    mtime: int
    ctime: int
    size: int
    path: bytes


def write(entries: Iterable[Seen], into: IO[bytes]) -> None:
    """Write a list of these entries, of which each directory comes before what it holds. Raises OSError, and BadList for a name that no list can hold."""
    closed: set[bytes] = set()
    into.write(b"[Version]\n%d\n\n[Files]\n" % VERSION)
    for entry in entries:
        if b"\n" in entry.path:
            raise BadList(f"the name {entry.path!r} has a line end, which no such list can hold")
        needed = {"d": 0o5, "f": 0o4}.get(entry.kind, 0)
        is_open = entry.mode & needed == needed and entry.path.rpartition(b"/")[0] not in closed
        if not is_open and entry.kind == "d":
            closed.add(entry.path)
        seconds = max(entry.mtime, entry.ctime) // 10**9
        into.write(b"%d\t%s%s\t%d\t%s\n" % (seconds, entry.kind.encode(), b"" if is_open else b"-", entry.size, entry.path))
    into.write(b"\n[Checksums SHA1]\n\n[End]\n")
