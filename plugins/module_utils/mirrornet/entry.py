# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tree holds, entry by entry: the records of manifests and deltas, written, read and put together. docs/reference_formats.md has the format.

Everything here is a stream: a list of ten million entries needs no more memory than one of ten, but for eight bytes for each file.
What comes from the network is taken for hostile; whatever is wrong with it ends the stream with a Failure of the kind ``bad_manifest``.
"""

from __future__ import annotations

import hashlib
import heapq
import re
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import IO, NamedTuple

from .errors import Exit, Failure
from .places import IN_TREE

#: Bytes of a path and of a symlink's target. The kernel takes no longer ones, and neither does rsync.
LONGEST_PATH = 4095
#: Bytes of a record: two paths and some numbers.
_LONGEST_RECORD = 2 * LONGEST_PATH + 200
_CHUNK = 1 << 18

_MODE = rb"(0|[1-7][0-7]{0,3})"
_TIME = rb"(0|-?[1-9][0-9]{0,26})"  # As many digits as seconds in 63 bits can have, in nanoseconds.
_NUMBER = rb"(0|[1-9][0-9]{0,18})"
_DIGEST = rb"([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])"  # 256 bits in 43 letters: the last one has four of them.
_DIRECTORY = re.compile(rb"d %s %s (.*)" % (_MODE, _TIME), re.DOTALL)
_FILE = re.compile(rb"f %s %s %s %s (.+)" % (_MODE, _TIME, _NUMBER, _DIGEST), re.DOTALL)
_NAME = re.compile(rb"h %s (.+)" % _NUMBER, re.DOTALL)
_LINK = re.compile(rb"l %s %s (.+)" % (_TIME, _NUMBER), re.DOTALL)
#: An empty part of a path, or one that leads nowhere or upwards.
_BAD_PART = re.compile(rb"(?:^|/)\.{0,2}(?:/|\Z)")
#: The same, or our own directory, or what looks like it: worth a closer look.
_SUSPICIOUS = re.compile(rb"(?:^|/)\.{0,2}(?:/|\Z)|^" + re.escape(IN_TREE.encode()))
_OWN = IN_TREE.encode()


_REMEDY = "Nothing of it was used. The source's operator should publish the tree again."


class Entry(NamedTuple):
    """One path of a tree, or in a delta what became of it."""

    #: ``d`` directory, ``f`` file, ``h`` further name of a file, ``l`` symlink; ``-`` in a delta: gone.
    kind: str
    #: Below the tree, raw bytes; empty for the tree itself.
    path: bytes
    #: The twelve permission bits; of ``d`` and ``f``.
    mode: int = 0
    #: Nanoseconds since 1970; of ``d``, ``f`` and ``l``.
    mtime: int = 0
    #: Bytes; of ``f``.
    size: int = 0
    #: SHA-256 of the content in base64url, see ``digest_text``; of ``f``.
    digest: str = ""
    #: What a symlink says, or the path that has the file's ``f``; of ``l`` and ``h``.
    target: bytes = b""


class Counts(NamedTuple):
    """What a head promises of its tree: all entries, those of kind ``f``, and the bytes of these."""

    entries: int
    files: int
    size: int


class Stored(NamedTuple):
    """Size in bytes and SHA-256 in hex digits of a list, uncompressed."""

    size: int
    sha256: str


class _Bad(Exception):
    """What is wrong with a list; becomes a Failure where its name is known."""


def order(path: bytes) -> bytes:
    """By what entries are sorted: part by part, so that what a directory holds follows it at once."""
    return path.replace(b"/", b"\0")


def digest_text(digest: bytes) -> str:
    """A SHA-256 of 32 bytes as entries have it."""
    import base64

    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def bad_path(path: bytes) -> str:
    """Why ``path`` can't stand in a list; empty if it can. The empty path is the tree itself."""
    if not path:
        return ""
    if len(path) > LONGEST_PATH:
        return f"a path of {len(path)} bytes is too long"
    if _BAD_PART.search(path):
        return "a path has an empty part, or one that is . or .."
    if path == _OWN or path.startswith(_OWN + b"/"):
        return f"a path is in {IN_TREE}"
    if b"\0" in path:
        return "a path has a zero byte"
    return ""


# Writing


def record(entry: Entry) -> bytes:
    """An entry as it stands in a list, without the NUL byte that ends it."""
    kind, path, mode, mtime, size, digest, target = entry
    if kind == "f":
        return b"f %o %d %d %s %s" % (mode, mtime, size, digest.encode("ascii"), path)
    if kind == "d":
        return b"d %o %d %s" % (mode, mtime, path)
    if kind == "h":
        return b"h %d %s %s" % (len(path), path, target)
    if kind == "l":
        return b"l %d %d %s %s" % (mtime, len(path), path, target)
    if kind == "-":
        return b"- %s" % path
    raise ValueError(f"no kind of entry: {kind!r}")


def write(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The text of a list, uncompressed, in pieces. The entries must be in order."""
    records = map(record, entries)
    while piece := list(islice(records, 1000)):
        piece.append(b"")
        yield b"\0".join(piece)


def save(file: IO[bytes], entries: Iterable[Entry]) -> Stored:
    """Write a list into ``file``, compressed; equal lists are equal bytes with the same zlib. Raises OSError."""
    size, digest = 0, hashlib.sha256()
    squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
    for text in write(entries):
        size += len(text)
        digest.update(text)
        file.write(squeeze.compress(text))
    file.write(squeeze.flush())
    return Stored(size, digest.hexdigest())


# Reading


def read(source: Path | IO[bytes], size: int, sha256: str, *, delta: bool = False, name: str = "the list") -> Iterator[Entry]:
    """The entries of a compressed list that has ``size`` bytes and the digest ``sha256`` when it's unpacked.

    Entries are yielded before the end, and with it the digest, has been seen: act on them only after the iterator has ended. Nothing is
    unpacked beyond ``size``. ``name`` is what messages call the list. Raises Failure (``bad_manifest``) and OSError.
    """
    if isinstance(source, Path):
        name = source.name if name == "the list" else name
        with source.open("rb") as file:
            yield from read(file, size, sha256, delta=delta, name=name)
        return
    check = _changes if delta else _whole
    yield from _named(name, check(_parsed(_unpacked(source, size, sha256), delta)))


def _named(name: str, entries: Iterator[Entry]) -> Iterator[Entry]:
    try:
        yield from entries
    except _Bad as bad:
        raise Failure("bad_manifest", Exit.UNAVAILABLE, f"{name} is not what it should be: {bad}.", _REMEDY) from None


def _unpacked(file: IO[bytes], size: int, sha256: str) -> Iterator[bytes]:
    """The text, in pieces; its length and digest are checked before the iterator ends."""
    digest, left = hashlib.sha256(), size
    unpack = zlib.decompressobj(31)
    try:
        while not unpack.eof:
            packed = unpack.unconsumed_tail or file.read(_CHUNK)
            # One byte more than there should be is enough to know that there are too many.
            text = unpack.decompress(packed, min(_CHUNK, left + 1))
            if not packed and not text and not unpack.eof:
                raise _Bad("it ends early")
            left -= len(text)
            if left < 0:
                raise _Bad(f"it is longer than the {size} bytes of its index")
            digest.update(text)
            if text:
                yield text
    except zlib.error as error:
        raise _Bad(f"it can't be unpacked ({error})") from None
    if unpack.unused_data or file.read(1):
        raise _Bad("something follows its end")
    if left:
        raise _Bad(f"it is shorter than the {size} bytes of its index")
    if digest.hexdigest() != sha256:
        raise _Bad("its digest is not the one of its index")


def is_list(file: IO[bytes], size: int, sha256: str, check: Callable[[], None] = lambda: None) -> bool:
    """Whether ``file`` is a compressed list of that size and digest; what its records are worth is for ``read`` to say.

    ``check`` is called from time to time, and what it raises is raised.
    """
    try:
        for dummy in _unpacked(file, size, sha256):
            check()
    except _Bad:
        return False
    return True


def _parsed(texts: Iterator[bytes], delta: bool) -> Iterator[Entry]:
    rest, number = b"", 0
    kinds = _DELTA_KINDS if delta else _KINDS
    for text in texts:
        records = (rest + text).split(b"\0")
        rest = records.pop()
        for line in records:
            number += 1
            try:
                entry = kinds[line[:2]](line)
                path = entry.path
                if len(path) > LONGEST_PATH or _SUSPICIOUS.search(path):
                    _refuse(bad_path(path))
            except (KeyError, _Bad) as problem:
                why = str(problem) if isinstance(problem, _Bad) else "it is no record of this kind of list"
                raise _Bad(f"record {number}, {line[:60]!r}: {why}") from None
            yield entry
        if len(rest) > _LONGEST_RECORD:
            raise _Bad(f"record {number + 1} is too long")
    if rest:
        raise _Bad("its last record has no end")


def _refuse(problem: str) -> None:
    if problem:
        raise _Bad(problem)


_NO_RECORD = "it is no record of this kind of list"


def _file(line: bytes) -> Entry:
    match = _FILE.fullmatch(line)
    if match is None:
        raise _Bad(_NO_RECORD)
    mode, mtime, length, digest, path = match.groups()
    size = int(length)
    if size >= 1 << 63:
        raise _Bad("no file is that large")
    return Entry("f", path, int(mode, 8), int(mtime), size, digest.decode("ascii"))


def _directory(line: bytes) -> Entry:
    match = _DIRECTORY.fullmatch(line)
    if match is None:
        raise _Bad(_NO_RECORD)
    mode, mtime, path = match.groups()
    return Entry("d", path, int(mode, 8), int(mtime))


def _further_name(line: bytes) -> Entry:
    match = _NAME.fullmatch(line)
    if match is None:
        raise _Bad(_NO_RECORD)
    path, target = _pair(match[1], match[2])
    _refuse(bad_path(target))
    if not order(target) < order(path):
        raise _Bad("a further name comes before the first one")
    return Entry("h", path, target=target)


def _link(line: bytes) -> Entry:
    match = _LINK.fullmatch(line)
    if match is None:
        raise _Bad(_NO_RECORD)
    path, target = _pair(match[2], match[3])
    if len(target) > LONGEST_PATH:
        raise _Bad("a symlink's target is too long")
    return Entry("l", path, mtime=int(match[1]), target=target)


def _gone(line: bytes) -> Entry:
    if len(line) == 2:
        raise _Bad("the tree itself can't go")
    return Entry("-", line[2:])


_KINDS: dict[bytes, Callable[[bytes], Entry]] = {b"f ": _file, b"d ": _directory, b"h ": _further_name, b"l ": _link}
_DELTA_KINDS = {**_KINDS, b"- ": _gone}


def _pair(length: bytes, both: bytes) -> tuple[bytes, bytes]:
    """The path of ``length`` bytes and what follows it after one space; neither is empty."""
    end = int(length)
    if not 0 < end < len(both) - 1 or both[end : end + 1] != b" ":
        raise _Bad("its length doesn't fit")
    return both[:end], both[end + 1 :]


class _Names:
    """Whether further names are of files of the same list.

    Where files are is remembered as hashes. They vary from process to process, so that nobody can aim at equal ones.
    """

    def __init__(self) -> None:
        self._files, self._wanted = array("q"), set[int]()

    def take(self, entry: Entry) -> None:
        if entry.kind == "f":
            self._files.append(hash(entry.path))
        elif entry.kind == "h":
            self._wanted.add(hash(entry.target))

    def check(self) -> None:
        if self._wanted and self._wanted.difference(self._files):
            raise _Bad("it has a further name of a file that isn't there")


def _whole(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries of a manifest as they come, with what one alone can't tell checked: order, parents, further names."""
    names, parents = _Names(), list[bytes]()
    last = None
    for entry in entries:
        path = entry.path
        key = path.replace(b"/", b"\0")
        if last is None:
            if path or entry.kind != "d":
                raise _Bad("it doesn't begin with the tree itself")
        elif key <= last:
            raise _Bad(f"{path[:60]!r} comes twice, or not in order")
        else:
            above = path.rpartition(b"/")[0]
            while parents and parents[-1] != above:
                parents.pop()
            if not parents:
                raise _Bad(f"{path[:60]!r} is in no directory")
        last = key
        if entry.kind == "d":
            parents.append(path)
        else:
            names.take(entry)
        yield entry
    if last is None:
        raise _Bad("it is empty")
    names.check()


def _changes(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The same for a delta: order, nothing below what is no directory any more, further names."""
    names = _Names()
    last = below = None
    for entry in entries:
        path = entry.path
        key = path.replace(b"/", b"\0")
        if last is not None and key <= last:
            raise _Bad(f"{path[:60]!r} comes twice, or not in order")
        if not path and entry.kind != "d":
            raise _Bad("the tree itself is no directory any more")
        last = key
        if below is None or not path.startswith(below):
            below = None if entry.kind == "d" else path + b"/"
        elif entry.kind != "-":
            raise _Bad(f"{path[:60]!r} is below something that is no directory any more")
        names.take(entry)
        yield entry
    names.check()


# Putting together


def combine(deltas: Sequence[Iterable[Entry]]) -> Iterator[Entry]:
    """One delta that does what ``deltas`` do one after the other.

    It may say of a path that it is gone which wasn't there before the first one. Raises Failure (``bad_manifest``).
    """
    yield from _named("the chain of deltas", _changes(group[-1] for dummy, group in _by_path(deltas)))


def merge(base: Iterable[Entry], deltas: Sequence[Iterable[Entry]]) -> Iterator[Entry]:
    """The manifest that ``deltas``, applied one after the other, make of the manifest ``base``. Raises Failure (``bad_manifest``)."""
    yield from _named("the manifest with its deltas", _whole(_merged(base, deltas)))


def _by_path(deltas: Sequence[Iterable[Entry]]) -> Iterator[tuple[bytes, list[Entry]]]:
    """For each path that deltas have, in order, what they say of it, the oldest first."""

    def numbered(number: int, delta: Iterable[Entry]) -> Iterator[tuple[bytes, int, Entry]]:
        return ((order(entry.path), number, entry) for entry in delta)

    every = heapq.merge(*(numbered(number, delta) for number, delta in enumerate(deltas)))
    for key, group in groupby(every, lambda item: item[0]):
        yield key, [item[2] for item in group]


def _merged(base: Iterable[Entry], deltas: Sequence[Iterable[Entry]]) -> Iterator[Entry]:
    former = iter(base)
    entry = next(former, None)
    for key, group in _by_path(deltas):
        while entry is not None and order(entry.path) < key:
            yield entry
            entry = next(former, None)
        there = False
        if entry is not None and order(entry.path) == key:
            there = True
            entry = next(former, None)
        for change in group:
            if change.kind == "-" and not there:
                raise _Bad(f"a delta takes away {change.path[:60]!r}, which isn't there")
            there = change.kind != "-"
        if there:
            yield group[-1]
    while entry is not None:
        yield entry
        entry = next(former, None)


def counted(entries: Iterable[Entry], promised: Counts) -> Iterator[Entry]:
    """The entries of a whole tree as they come; a Failure (``bad_manifest``) as soon as there is more than ``promised``, or less at the end."""
    count = files = size = 0
    for entry in entries:
        count += 1
        if entry.kind == "f":
            files += 1
            size += entry.size
        if count > promised.entries:
            break
        yield entry
    if (count, files, size) != promised:
        message = f"The head promises {promised.entries} entries with {promised.files} files of {promised.size} bytes; there are others."
        raise Failure("bad_manifest", Exit.UNAVAILABLE, message, _REMEDY)
