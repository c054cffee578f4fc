# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at a whole tree by one find(1), and how two looks differ.

A scan is find's raw output: for each file, directory and symlink a line that changes whenever the thing does, ended by a NUL byte. Two scans with equal bytes
are of equal trees, which is all that most looks need to know, so nothing here reads a line that is the same in both.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Callable, NamedTuple

from .errors import Exit, Failure
from .pattern import problem
from .places import IN_TREE

#: rsync's own directory for what is still on its way (--delay-updates): never part of a tree.
ALWAYS_LEFT_OUT = (".~tmp~/",)

#: Kind, permission bits, mtime, ctime, device and inode, links, size, path, target of a symlink. A path has no empty part, so the first // ends it.
_FORMAT = r"%y %m %T@ %C@ %D:%i %n %s %P//%l\0"
_READ = 1 << 20
#: Bytes of the blocks in which scans are compared.
_BLOCK = 1 << 17
_PIPE_SIZE = 1031  # F_SETPIPE_SZ, which fcntl has a name for since Python 3.10.
_COMPLAINTS = 20


class Changing(Exception):
    """The tree changed while it was read."""


class Line(NamedTuple):
    """One line of a scan."""

    #: ``f``, ``d`` or ``l``.
    kind: str
    mode: int
    #: Nanoseconds since 1970.
    mtime: int
    ctime: int
    #: What all names of one file have in common.
    inode: bytes
    links: int
    size: int
    path: bytes
    target: bytes


def line(text: bytes) -> Line:
    """A line as it stands in a scan, without its NUL byte."""
    kind, mode, mtime, ctime, inode, links, size, rest = text.split(b" ", 7)
    path, dummy, target = rest.partition(b"//")
    return Line(kind.decode("ascii"), int(mode, 8), _nanoseconds(mtime), _nanoseconds(ctime), inode, int(links), int(size), path, target)


def _nanoseconds(text: bytes) -> int:
    """find writes seconds and nanoseconds as stat(2) has them: -1.75 s is second -2 and 250,000,000 ns, and written as -2.25."""
    seconds, dummy, fraction = text.partition(b".")
    return int(seconds) * 10**9 + int(fraction[:9].ljust(9, b"0"))


def shown(path: bytes) -> str:
    """A path for people: in one line, whatever its bytes are."""
    return repr(path.decode("utf-8", "backslashreplace")) if path else "the tree itself"


# What is left out


def check(patterns: Sequence[str]) -> None:
    """Raises Failure (``exclude``) if a pattern can't be matched exactly."""
    for pattern in patterns:
        if why := problem(pattern):
            message = f"The pattern {pattern!r} {why}."
            remedy = "Exclude by names (NAME, *.EXT), by directories (NAME/) or by paths from the top of the tree (/DIR/NAME)."
            raise Failure("exclude", Exit.CONFIG, message, remedy)


def _condition(pattern: str) -> list[str]:
    """What find calls the things that rsync's ``pattern`` matches."""
    of_kind = ["-type", "d"] if pattern.endswith("/") else []
    inner = pattern.strip("/")
    if pattern.startswith("/"):
        # find's wildcards match slashes too. With just as many slashes as the pattern has, none of them did.
        deeper = "*/" * (inner.count("/") + 2) + "*"
        return [*of_kind, "-path", f"./{inner}", "!", "-path", deeper]
    if "/" in inner:
        return [*of_kind, "-path", f"*/{inner}"]
    return [*of_kind, "-name", inner, "!", "-path", "."]


def command(exclude: Sequence[str]) -> list[str]:
    """The call of find, for the tree as its working directory."""
    words = ["find", ".", "-path", f"./{IN_TREE}", "-prune", "-o"]
    for pattern in (*ALWAYS_LEFT_OUT, *exclude):
        words += [*_condition(pattern), "-prune", "-o"]
    return [*words, "(", "-type", "f", "-o", "-type", "d", "-o", "-type", "l", ")", "-printf", _FORMAT]


# Looking


def take(tree: Path, exclude: Sequence[str], former: Path | None, output: Path) -> bool:
    """Look at all of ``tree``; whether it is as ``former``, another scan, says. If so nothing is written, else the new scan is in ``output``.

    Raises Changing, Failure (``unreadable``, ``no_find``) and OSError.
    """
    comparison = _Comparison(former, output)
    with comparison, _started(tree, exclude) as (child, output_of, complaints):
        with contextlib.suppress(OSError):
            fcntl.fcntl(output_of, _PIPE_SIZE, _READ)
        while chunk := output_of.read(_READ):
            comparison.feed(chunk)
        child.wait()
        _judge(tree, child.returncode, complaints())
        return comparison.finish()


class _Comparison:
    """Compares what comes with a file, and begins a copy at the first difference."""

    def __init__(self, former: Path | None, output: Path) -> None:
        self._old = former.open("rb", buffering=0) if former is not None else None
        self._output = output
        self._new: IO[bytes] | None = None
        self._same = 0

    def __enter__(self) -> None:
        return None

    def __exit__(self, *dummy: object) -> None:
        for file in (self._old, self._new):
            if file is not None:
                file.close()

    def feed(self, chunk: bytes) -> None:
        if self._new is None:
            if self._old is not None and self._old.read(len(chunk)) == chunk:
                self._same += len(chunk)
                return
            self._new = self._begin()
        self._new.write(chunk)

    def finish(self) -> bool:
        if self._new is None:
            if self._old is not None and not self._old.read(1):
                return True
            self._new = self._begin()
        self._new.flush()
        return False

    def _begin(self) -> IO[bytes]:
        new = self._output.open("wb")
        if self._old is not None:
            self._old.seek(0)
            left = self._same
            while left:
                chunk = self._old.read(min(left, _READ))
                left -= len(chunk)
                new.write(chunk)
        return new


@contextlib.contextmanager
def _started(tree: Path, exclude: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], Callable[[], list[str]]]]:
    """find at work, and what tells its first complaints when it has ended. It dies with this process: of a broken pipe."""
    said: list[str] = []
    try:
        child = subprocess.Popen(
            command(exclude),
            cwd=tree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise Failure("no_find", Exit.CONFIG, "There is no program find.", "Install GNU findutils.") from None

    def listen(stream: IO[bytes]) -> None:
        for text in stream:
            if len(said) < _COMPLAINTS:
                said.append(text[:5000].decode("utf-8", "backslashreplace").strip())

    with child:
        if child.stdout is None or child.stderr is None:
            raise AssertionError("both were asked for")
        listener = threading.Thread(target=listen, args=(child.stderr,), daemon=True)
        listener.start()

        def complaints() -> list[str]:
            listener.join()
            return said

        try:
            yield child, child.stdout, complaints
        finally:
            child.kill()


def _judge(tree: Path, code: int, said: list[str]) -> None:
    if code == 0 and not said:
        return
    if said and all(text.endswith("No such file or directory") for text in said):
        raise Changing
    if any("-printf" in text or "unrecognized" in text for text in said):
        raise Failure("no_find", Exit.CONFIG, f"The program find has no -printf: {said[0]}.", "Install GNU findutils.")
    if code < 0:
        raise Failure("stopped", Exit.STOPPED, f"find was ended by signal {-code}.", "The next call goes on from here.")
    message = f"{tree} can't be read as a whole: {said[0] if said else f'find ended with {code}'}."
    remedy = "Give the account that publishes the right to read it, or exclude it: mirrors couldn't get it either."
    raise Failure("unreadable", Exit.LOCAL_IO, message, remedy)


# Comparing


def renumber(scan: Path, tree: Path, output: Path) -> bool:
    """Write ``scan`` once more with the numbers that the file systems of ``tree`` have now, if they have other ones; whether they have.

    A number is given anew at each boot or mount, and says nothing of what is there. Where it isn't plain which one stands for which, nothing
    is written. Raises OSError.
    """
    numbers: dict[bytes, bytes] = {}
    for block in lines(scan):
        for text in block:
            device = _device(text)
            if device not in numbers:
                numbers[device] = _device_now(tree, line(text).path, device)
    if all(old == new for old, new in numbers.items()) or len(set(numbers.values())) < len(numbers):
        return False
    with output.open("wb") as file:
        for block in lines(scan):
            file.writelines(_renumbered(text, numbers) for text in block)
    return True


def _device(text: bytes) -> bytes:
    """The number of the file system in a line: what stands before the first colon."""
    return text[: text.index(b":")].rpartition(b" ")[2]


def _renumbered(text: bytes, numbers: dict[bytes, bytes]) -> bytes:
    begin, colon, rest = text.partition(b":")
    before, space, device = begin.rpartition(b" ")
    return before + space + numbers[device] + colon + rest + b"\0"


def _device_now(tree: Path, path: bytes, former: bytes) -> bytes:
    try:
        return b"%d" % (tree / os.fsdecode(path)).lstat().st_dev
    except OSError:
        return former


def lines(scan: Path) -> Iterator[list[bytes]]:
    """The lines of a scan, block by block."""
    rest = b""
    with scan.open("rb", buffering=0) as file:
        while chunk := file.read(_BLOCK):
            found = (rest + chunk).split(b"\0")
            rest = found.pop()
            if found:
                yield found


def select(scan: Path, numbers: set[int]) -> dict[int, bytes]:
    """The lines with these numbers."""
    return {number: text for number, text in enumerate(text for block in lines(scan) for text in block) if number in numbers}


def align(former: Path, present: Path, same: Callable[[int, int, int], None]) -> tuple[dict[bytes, int], dict[bytes, int]]:
    """The lines that only ``former`` and only ``present`` has, with their numbers.

    ``same(i, j, n)`` is called for all others: the n lines from number i in the former are those from number j in the present scan. Memory and
    time are by what differs, and by how far equal lines have moved.
    """
    gone: dict[bytes, int] = {}
    come: dict[bytes, int] = {}
    old, new = _Ahead(lines(former)), _Ahead(lines(present))
    while old.more(1) or new.more(1):
        run = _common(old.ready, new.ready)
        if run:
            same(old.number, new.number, run)
            old.skip(run)
            new.skip(run)
            continue
        skip_old, skip_new = _apart(old, new)
        for number, text in old.drop(skip_old):
            if text in come:
                same(number, come.pop(text), 1)
            else:
                gone[text] = number
        for number, text in new.drop(skip_new):
            if text in gone:
                same(gone.pop(text), number, 1)
            else:
                come[text] = number
    return gone, come


class _Ahead:
    """Lines with a look ahead."""

    def __init__(self, blocks: Iterator[list[bytes]]) -> None:
        self._blocks = blocks
        self.ready: list[bytes] = []
        #: Number of the first line that is ready.
        self.number = 0

    def more(self, least: int) -> bool:
        """Have ``least`` lines ready, or all that are left; whether there is any."""
        while len(self.ready) < least:
            block = next(self._blocks, None)
            if block is None:
                break
            self.ready += block
        return bool(self.ready)

    def drop(self, count: int) -> list[tuple[int, bytes]]:
        dropped = list(enumerate(self.ready[:count], self.number))
        self.skip(count)
        return dropped

    def skip(self, count: int) -> None:
        del self.ready[:count]
        self.number += count


def _common(old: list[bytes], new: list[bytes]) -> int:
    """How many lines both begin with."""
    least = min(len(old), len(new))
    if old[:least] == new[:least]:
        return least
    return next(number for number in range(least) if old[number] != new[number])


def _apart(old: _Ahead, new: _Ahead) -> tuple[int, int]:
    """How many lines to pass over on both sides until they may be the same again."""
    for window in (8, 64, 512, 4096):
        old.more(window)
        new.more(window)
        places = {text: place for place, text in reversed(list(enumerate(old.ready[:window])))}
        for number, text in enumerate(new.ready[:window]):
            if text in places:
                return places[text], number
        if len(old.ready) < window and len(new.ready) < window:
            break
    return min(len(old.ready), 4096), min(len(new.ready), 4096)
