# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The digests of a scan's files, line by line: kept on disk, computed by several threads, and not lost when that is interrupted."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import stat
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Callable

from . import scan
from .errors import Exit, Failure
from .files import sync_directory

#: Nothing is known yet; known; known, but the file was so new that it may have changed since without a trace; no file with content.
UNKNOWN, KNOWN, RACY, NONE = 0, 1, 2, 3

_RECORD = 33
_JOURNAL_RECORD = 45
_READ = 1 << 18
#: How much one thread takes at once.
_BATCH_FILES = 64
_BATCH_BYTES = 16 << 20


class Digests:
    """For each line of a scan what is known of its content: one byte that says so (``UNKNOWN`` …), and the SHA-256."""

    def __init__(self, data: bytearray) -> None:
        self._data = data

    @classmethod
    def empty(cls, count: int) -> Digests:
        return cls(bytearray(count * _RECORD))

    def __len__(self) -> int:
        return len(self._data) // _RECORD

    def state(self, number: int) -> int:
        return self._data[number * _RECORD]

    def states(self, begin: int, end: int) -> bytes:
        return bytes(self._data[begin * _RECORD : end * _RECORD : _RECORD])

    def digest(self, number: int) -> bytes:
        return bytes(self._data[number * _RECORD + 1 : (number + 1) * _RECORD])

    def note(self, number: int, state: int, digest: bytes = bytes(32)) -> None:
        self._data[number * _RECORD : (number + 1) * _RECORD] = bytes([state]) + digest

    def copy(self, other: Digests, begin: int, to: int, count: int) -> None:
        """Take over ``count`` digests of ``other``, from its number ``begin`` on."""
        self._data[to * _RECORD : (to + count) * _RECORD] = other._data[begin * _RECORD : (begin + count) * _RECORD]

    def fill(self, other: Digests, begin: int, to: int, count: int) -> None:
        """The same, but only what is sure in ``other`` and not yet known here."""
        if UNKNOWN not in self.states(to, to + count):
            return
        for number in range(count):
            if self.state(to + number) == UNKNOWN and other.state(begin + number) == KNOWN:
                self.copy(other, begin + number, to + number, 1)

    @property
    def unknown(self) -> bool:
        """Whether any line still wants a digest."""
        return UNKNOWN in self.states(0, len(self))

    @property
    def open(self) -> bool:
        """The same, or one that is sure."""
        return self.unknown or RACY in self.states(0, len(self))


class Kept:
    """A scan and its digests in a directory of their own: ``scan``, ``digests``, and while these are computed ``journal``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.scan = directory / "scan"
        self._digests = directory / "digests"
        self._journal = directory / "journal"

    def load(self) -> Digests | None:
        """What is known of the scan's files; None if the directory doesn't hold a whole scan. Raises OSError."""
        try:
            digests = Digests(bytearray(self._digests.read_bytes()))
            count = sum(map(len, scan.lines(self.scan)))
        except FileNotFoundError:
            return None
        if count != len(digests):
            return None
        for number, state, digest in self._noted():
            if number < count:
                digests.note(number, state, digest)
        return digests

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of the scan and of the digests; zeros if they aren't there."""
        try:
            return self.scan.stat().st_size, self._digests.stat().st_size
        except FileNotFoundError:
            return 0, 0

    def save(self, digests: Digests) -> None:
        """Keep the digests, durably, in place of those before and of the journal. Raises OSError."""
        draft = self.directory / "digests.new"
        with draft.open("wb") as file:
            file.write(digests._data)
            file.flush()
            os.fsync(file.fileno())
        with self.scan.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(self._digests)
        self._journal.unlink(missing_ok=True)
        sync_directory(self.directory)

    def journal(self) -> IO[bytes]:
        """Where digests are noted as they come, each whole or not at all."""
        return self._journal.open("ab", buffering=0)

    def _noted(self) -> Iterator[tuple[int, int, bytes]]:
        try:
            data = self._journal.read_bytes()
        except FileNotFoundError:
            return
        for begin in range(0, len(data) - _JOURNAL_RECORD + 1, _JOURNAL_RECORD):
            text, check = data[begin : begin + 41], data[begin + 41 : begin + _JOURNAL_RECORD]
            if zlib.crc32(text).to_bytes(4, "big") == check:
                yield int.from_bytes(text[:8], "big"), text[8], text[9:]


def _journal_record(number: int, state: int, digest: bytes) -> bytes:
    text = number.to_bytes(8, "big") + bytes([state]) + digest
    return text + zlib.crc32(text).to_bytes(4, "big")


def missing(path: Path, digests: Digests) -> Iterator[tuple[int, scan.Line]]:
    """The lines of the scan at ``path`` whose content has to be looked at; those that have none are noted on the way."""
    number = 0
    for block in scan.lines(path):
        states = digests.states(number, number + len(block))
        if UNKNOWN in states or RACY in states:
            for place, (state, text) in enumerate(zip(states, block), number):
                if state in (UNKNOWN, RACY):
                    line = scan.line(text)
                    if line.kind == "f":
                        yield place, line
                    else:
                        digests.note(place, NONE)
        number += len(block)


class Done:
    """What has been digested, for whoever watches."""

    files = 0
    size = 0


def compute(
    tree: Path, wanted: Iterable[tuple[int, scan.Line]], clock: int, journal: IO[bytes], done: Done
) -> Iterator[tuple[int, int, bytes]]:
    """The number, state and digest of each wanted file, as they are ready; none of a file that isn't any more what its line says.

    ``clock`` is the file system's time, in nanoseconds, from before the first is read. Raises Failure (``unreadable``) and OSError.
    """
    workers = min(os.cpu_count() or 1, 8)
    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with ThreadPoolExecutor(workers) as pool:
            running: deque[Future[list[tuple[int, int, bytes, int]]]] = deque()
            try:
                for batch in itertools.chain(_batches(wanted), itertools.repeat(None)):
                    if batch is not None:
                        running.append(pool.submit(_digest_all, root, batch, clock))
                        if len(running) < 2 * workers:
                            continue
                    if not running:
                        return
                    found = running.popleft().result()
                    journal.write(b"".join(_journal_record(*item[:3]) for item in found))
                    for number, state, digest, size in found:
                        done.files += 1
                        done.size += size
                        yield number, state, digest
            finally:
                for left in running:
                    left.cancel()
    finally:
        os.close(root)


def _batches(wanted: Iterable[tuple[int, scan.Line]]) -> Iterator[list[tuple[int, scan.Line]]]:
    batch: list[tuple[int, scan.Line]] = []
    size = 0
    for item in wanted:
        batch.append(item)
        size += item[1].size
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _digest_all(root: int, batch: list[tuple[int, scan.Line]], clock: int) -> list[tuple[int, int, bytes, int]]:
    found = []
    for number, line in batch:
        digest = _digest(root, line)
        if digest is not None:
            found.append((number, RACY if line.ctime >= clock - RACE else KNOWN, digest, line.size))
    return found


#: Nanoseconds for which a file counts as just written: the coarsest times that a file system keeps are of two seconds.
RACE = 2 * 10**9


def _digest(root: int, line: scan.Line) -> bytes | None:
    """The SHA-256 of a file; None if it isn't, or isn't any more, what its line says."""
    try:
        fd = os.open(line.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) or error.errno == errno.ELOOP:
            return None
        message = f"{scan.shown(line.path)} can't be read: {error.strerror}."
        remedy = "Give the account that publishes the right to read it, or exclude it: mirrors couldn't get it either."
        raise Failure("unreadable", Exit.LOCAL_IO, message, remedy) from error
    try:
        if not _is(fd, line):
            return None
        digest, left = hashlib.sha256(), line.size
        while left > 0:
            chunk = os.read(fd, min(left, _READ))
            if not chunk:
                return None
            digest.update(chunk)
            left -= len(chunk)
        return digest.digest() if _is(fd, line) else None
    except OSError as error:
        message = f"{scan.shown(line.path)} can't be read: {error.strerror}."
        raise Failure("unreadable", Exit.LOCAL_IO, message, "Check the disk, and the file; mirrors can't get it either.") from error
    finally:
        os.close(fd)


def _is(fd: int, line: scan.Line) -> bool:
    now = os.fstat(fd)
    return (
        stat.S_ISREG(now.st_mode)
        and (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (line.size, line.mtime, line.ctime)
        and b"%d:%d" % (now.st_dev, now.st_ino) == line.inode
    )


Progress = Callable[[Done], None]
