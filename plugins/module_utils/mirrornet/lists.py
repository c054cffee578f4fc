# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From scans to lists: the manifest of a scan, and the delta between two."""

from __future__ import annotations

import contextlib
import heapq
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from . import scan
from .below import DEEPEST
from .digests import Digests
from .entry import LONGEST_PATH, Counts, Entry, digest_text, order
from .errors import Exit, Failure

#: Lines that are sorted in memory.
_SORTED_AT_ONCE = 200_000
_READ = 1 << 17


@dataclass
class Tally:
    """Counts the entries of a list as they go through."""

    entries: int = 0
    files: int = 0
    size: int = 0

    def take(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            self.entries += 1
            if entry.kind == "f":
                self.files += 1
                self.size += entry.size
            yield entry

    @property
    def counts(self) -> Counts:
        return Counts(self.entries, self.files, self.size)


# The manifest


def manifest(kept: Path, digests: Digests, directory: Path) -> Iterator[Entry]:
    """The entries of the scan ``kept``, in order. What doesn't fit into memory is sorted in files in ``directory``."""
    first: dict[bytes, bytes] = {}
    for line, digest in _in_order(_numbered(kept), digests, directory):
        if line.kind == "f" and line.links > 1:
            path = first.setdefault(line.inode, line.path)
            if path != line.path:
                yield Entry("h", line.path, target=path)
                continue
        yield _entry(line, digest)


def _numbered(kept: Path) -> Iterator[tuple[int, bytes]]:
    return enumerate(text for block in scan.lines(kept) for text in block)


def _entry(line: scan.Line, digest: bytes) -> Entry:
    """The entry of a line that is its file's first name."""
    if len(line.path) > LONGEST_PATH:
        message = f"The path that begins with {scan.shown(line.path[:60])} has {len(line.path)} bytes."
        raise Failure(
            "long_path", Exit.CONFIG, message, f"rsync takes no path of more than {LONGEST_PATH}: shorten it, or exclude what it is in."
        )
    if line.path.count(b"/") + (line.kind == "d") > DEEPEST:
        message = f"{scan.shown(line.path)} is in more than {DEEPEST} directories."
        remedy = "A mirror that follows heads goes no deeper: exclude what it is in."
        raise Failure("deep_path", Exit.CONFIG, message, remedy)
    if line.kind == "f":
        return Entry("f", line.path, line.mode, line.mtime, line.size, digest_text(digest))
    if line.kind == "d":
        return Entry("d", line.path, line.mode, line.mtime)
    return Entry("l", line.path, mtime=line.mtime, target=line.target)


_Sortable = tuple[bytes, bytes, bytes]


def _in_order(texts: Iterator[tuple[int, bytes]], digests: Digests, directory: Path) -> Iterator[tuple[scan.Line, bytes]]:
    """All lines with their digests, sorted by path."""

    def part() -> list[_Sortable]:
        return sorted(_sortable(text, digests.digest(number)) for number, text in islice(texts, _SORTED_AT_ONCE))

    last = part()
    files: list[IO[bytes]] = []
    with contextlib.ExitStack() as stack:
        while len(last) == _SORTED_AT_ONCE:
            file = stack.enter_context(tempfile.TemporaryFile(dir=directory))
            files.append(file)
            for dummy, digest, text in last:
                file.write(digest + text + b"\0")
            last = part()
        for dummy, digest, text in heapq.merge(*map(_read_again, files), last):
            yield scan.line(text), digest


def _sortable(text: bytes, digest: bytes) -> _Sortable:
    return order(text.split(b" ", 7)[7].partition(b"//")[0]), digest, text


def _read_again(file: IO[bytes]) -> Iterator[_Sortable]:
    """What has been written as digest, line and NUL; the digest may have NUL bytes itself."""
    file.seek(0)
    data = b""
    while chunk := file.read(_READ):
        data += chunk
        begin = 0
        while (end := data.find(b"\0", begin + 32)) >= 0:
            yield _sortable(data[begin + 32 : end], data[begin : begin + 32])
            begin = end + 1
        data = data[begin:]


# The delta

#: A line with the digest of its file.
Known = tuple[scan.Line, bytes]


@dataclass
class Side:
    """One of two scans: its digests, and those of its lines that the other doesn't have, by number."""

    kept: Path
    digests: Digests
    lines: dict[int, bytes]

    def known(self, others: set[bytes]) -> list[Known]:
        """The lines with their digests, and with them all names of the files in ``others``."""
        numbered = dict(self.lines)
        if others:
            for number, text in _numbered(self.kept):
                if text.split(b" ", 5)[4] in others:
                    numbered[number] = text
        return [(scan.line(text), self.digests.digest(number)) for number, text in numbered.items()]

    def inodes(self) -> tuple[set[bytes], bool]:
        """The files that have several names, and whether all of these are among the lines."""
        links: dict[bytes, int] = {}
        seen: dict[bytes, int] = defaultdict(int)
        for text in self.lines.values():
            line = scan.line(text)
            if line.kind == "f" and line.links > 1:
                links[line.inode] = line.links
                seen[line.inode] += 1
        return set(links), all(seen[inode] >= count for inode, count in links.items())


@dataclass
class Delta:
    """What makes the present tree of the former, in order, and how the counts change."""

    entries: list[Entry]
    more: Counts

    @property
    def gone(self) -> int:
        return sum(entry.kind == "-" for entry in self.entries)


def delta(former: Side, present: Side) -> Delta:
    """The entries that are in one tree only or differ. A digest or a number of names that changed without a trace in the scan is no matter of this."""
    (old_inodes, old_whole), (new_inodes, new_whole) = former.inodes(), present.inodes()
    # Usually all names of a file have changed together, since they have one ctime; else the scans are gone through for the others.
    others = set[bytes]() if old_whole and new_whole else old_inodes | new_inodes
    old, dummy = _entries(former.known(others))
    new, groups = _entries(present.known(others))
    changed = {path for path, entry in new.items() if old.get(path) != entry}
    for paths in groups:
        if changed.intersection(paths):
            changed.update(paths)
    entries = [new[path] for path in changed] + [Entry("-", path) for path in old.keys() - new.keys()]
    before, after = _count(old.values()), _count(new.values())
    more = Counts(after.entries - before.entries, after.files - before.files, after.size - before.size)
    return Delta(sorted(entries, key=lambda entry: order(entry.path)), more)


def _entries(lines: Iterable[Known]) -> tuple[dict[bytes, Entry], list[list[bytes]]]:
    """The entries by path, and the paths of each file that has several."""
    entries: dict[bytes, Entry] = {}
    files: dict[bytes, list[Known]] = defaultdict(list)
    for line, digest in lines:
        if line.kind == "f" and line.links > 1:
            files[line.inode].append((line, digest))
        else:
            entries[line.path] = _entry(line, digest)
    for names in files.values():
        names.sort(key=lambda known: order(known[0].path))
        first = names[0][0].path
        entries[first] = _entry(*names[0])
        entries.update((line.path, Entry("h", line.path, target=first)) for line, dummy in names[1:])
    return entries, [[line.path for line, dummy in names] for names in files.values()]


def _count(entries: Iterable[Entry]) -> Counts:
    tally = Tally()
    for dummy in tally.take(entries):
        pass
    return tally.counts
