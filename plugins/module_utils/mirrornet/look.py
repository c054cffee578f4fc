# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a tree until two scans agree and every digest is known, so that what is found is a state that the tree was in.

Scans are kept in numbered directories: that of the last head, and beside it one in the making, from which an interrupted call is taken up.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from . import digests, lists, scan
from .digests import Digests, Kept
from .errors import Exit, Failure

#: Looks at a tree that goes on changing. The pauses between them grow by that many seconds.
_LOOKS = 6
_PAUSE = 1.0
_KEPT = "scan-"
#: Nanoseconds for which rsync may write nothing to a file that it receives; then it's a file like others, which was left behind.
_RECEIVING = 600 * 10**9
_RECEIVED = re.compile(rb"\..+\.[A-Za-z0-9]{6}", re.DOTALL)


@dataclass
class Found:
    """A state of the tree that two looks agree on, with all digests."""

    kept: Kept
    digests: Digests
    #: What differs from what the last head was for; None if that isn't known.
    delta: lists.Delta | None

    @property
    def generation(self) -> int:
        """The number of its directory."""
        return _generation(self.kept)


def kept(directory: Path, generation: int) -> Kept:
    """The scan with this number among those in ``directory``."""
    return Kept(directory / f"{_KEPT}{generation}")


def generations(directory: Path) -> list[int]:
    """The numbers of the scans in ``directory``, ascending."""
    numbers = (path.name[len(_KEPT) :] for path in directory.glob(f"{_KEPT}*"))
    return sorted(int(number) for number in numbers if number.isdecimal())


def forget(directory: Path, *but: int) -> None:
    """Remove the scans that aren't needed any more."""
    for generation in generations(directory):
        if generation not in but:
            shutil.rmtree(kept(directory, generation).directory)


def load(one: Kept) -> Digests:
    """The digests of a scan that must be there. Raises OSError."""
    loaded = one.load()
    if loaded is None:
        raise OSError(errno.EIO, "What was kept of the last call is damaged", str(one.directory))
    return loaded


def _generation(one: Kept) -> int:
    return int(one.directory.name[len(_KEPT) :])


class Look:
    """Looks at one tree, by a caller that holds its lock."""

    def __init__(
        self, tree: Path, exclude: Sequence[str], directory: Path, clock_fd: int, tell: Callable[[digests.Done], None], settle: float
    ) -> None:
        """``clock_fd`` is a file on the tree's file system, whose times this may set; ``tell`` is called while files are read.

        ``settle`` is for how many seconds nothing may have changed before the last look.
        """
        self._tree, self._exclude, self._directory = tree, exclude, directory
        self._clock_fd = clock_fd
        self._tell = tell
        self._settle = int(settle * 10**9)

    def take(self, published: int | None, *, settled: bool, compare: bool, trust: bool) -> Found | None:
        """Look until two scans agree; None if the tree is as at the last head.

        ``published`` is the number of that head's scan, ``settled`` whether all its digests are sure. With ``compare`` the differences
        from it are found too; with ``trust`` digests that are known need no reading. Raises Failure (``changing``, ``receiving``,
        ``unreadable``, …) and OSError.
        """
        begun = generations(self._directory)
        former = kept(self._directory, published) if compare and published is not None else None
        comparison = _Comparison(self._tree, former, [kept(self._directory, number) for number in reversed(begun)] if trust else [])
        number = max(begun, default=0)
        current: Kept | None = None
        done = digests.Done()
        for look in range(_LOOKS):
            time.sleep(_PAUSE * max(0, look - 1))
            number += 1
            present = kept(self._directory, number)
            same = self._scan(current or former, present)
            if same is None:
                continue
            if same and current is not None:
                if not comparison.digests.unknown:
                    return Found(current, comparison.digests, comparison.delta())
            elif same:
                if settled or not comparison.begin_with_former(present):
                    return None
                current = present
            else:
                comparison.begin(present)
                current = present
                self._wait(comparison)
            self._digest(current, comparison.digests, self._clock(), done, published)
        message = f"{self._tree} goes on changing: no two of {_LOOKS} looks at it agree."
        raise Failure(
            "changing", Exit.INCOMPLETE, message, "Publish when what changes it has ended. What was digested is kept.", passing=True
        )

    def _clock(self) -> int:
        """The time of the tree's file system, which can be another host's, in nanoseconds. Clients see nothing of it: the mtime stays the same."""
        os.utime(self._clock_fd)
        now = os.fstat(self._clock_fd).st_ctime_ns
        os.utime(self._clock_fd, ns=(0, 0))
        return now

    def _wait(self, comparison: _Comparison) -> None:
        """Wait until all that is new has been left alone for long enough; the next look tells whether it was.

        What is of the future isn't waited for: the clock was wrong then, or is now. Raises Failure (``receiving``).
        """
        now, newest = self._clock(), 0
        least = (now - max(self._settle, _RECEIVING)) // 10**9
        for text in comparison.new():
            if int(text.split(b" ", 4)[3].partition(b".")[0]) < least:
                continue
            line = scan.line(text)
            if not now - max(self._settle, _RECEIVING) < line.ctime <= now:
                continue
            newest = max(newest, line.ctime)
            if now - _RECEIVING < line.ctime and _is_being_received(line):
                message = f"{scan.shown(line.path)} is being received by rsync: it has a name and a mode as only rsync gives them until a file is whole."
                remedy = "Nothing was published; the next call does it when that has ended. If rsync was killed, remove the file."
                raise Failure("receiving", Exit.HELD, message, remedy)
        time.sleep(max(0, newest + self._settle - now) / 10**9)

    def _scan(self, last: Kept | None, present: Kept) -> bool | None:
        """Whether the tree is as the last scan says, else there is another one; None if it changed during the look."""
        shutil.rmtree(present.directory, ignore_errors=True)
        present.directory.mkdir(mode=0o700)
        same: bool | None = None
        try:
            same = scan.take(self._tree, self._exclude, last.scan if last is not None else None, present.scan)
        except scan.Changing:
            pass
        finally:
            if same is not False:
                shutil.rmtree(present.directory, ignore_errors=True)
        return same

    def _digest(self, current: Kept, known: Digests, clock: int, done: digests.Done, published: int | None) -> None:
        """Find out what is missing. From here on an interrupted call loses nothing."""
        current.save(known)
        forget(self._directory, *([published] if published is not None else []), _generation(current))
        further: list[tuple[int, int]] = []
        wanted = _each_once(digests.missing(current.scan, known), further)
        with current.journal() as journal:
            for number, state, digest in digests.compute(self._tree, wanted, clock, journal, done):
                known.note(number, state, digest)
                self._tell(done)
        for number, first in further:
            known.copy(known, first, number, 1)


def _is_being_received(line: scan.Line) -> bool:
    """Whether rsync is writing the file, or was killed while it did: then it's called .NAME.XXXXXX, and is for nobody else to read."""
    return line.kind == "f" and not line.mode & 0o077 and _RECEIVED.fullmatch(line.path.rpartition(b"/")[2]) is not None


def _each_once(wanted: Iterator[tuple[int, scan.Line]], further: list[tuple[int, int]]) -> Iterator[tuple[int, scan.Line]]:
    """Of each file one name; its other names go into ``further``, with the number of that one."""
    first: dict[bytes, int] = {}
    for number, line in wanted:
        if line.links > 1 and first.setdefault(line.inode, number) != number:
            further.append((number, first[line.inode]))
        else:
            yield number, line


class _Comparison:
    """The digests of the current scan, taken over from former ones, and how it differs from the one that was published."""

    def __init__(self, tree: Path, former: Kept | None, bases: list[Kept]) -> None:
        self._tree = tree
        self._former = former
        #: Former scans as they would be now, where file systems have got other numbers since.
        self._moved: dict[Path, Path] = {}
        self._bases = bases
        self._current: Kept | None = None
        self._former_digests: Digests | None = None
        self.digests = Digests.empty(0)
        self._gone: dict[bytes, int] = {}
        self._come: dict[bytes, int] = {}
        #: Lines that are the same in both, whose content may not be: their numbers.
        self._doubtful: list[tuple[int, int]] = []

    def begin_with_former(self, present: Kept) -> bool:
        """The scan is the former one; whether there is anything to digest in it."""
        former, known = self._former_known()
        if not known.open:
            return False
        present.directory.mkdir(mode=0o700)
        os.link(former.scan, present.scan)
        self._gone, self._come, self._doubtful = {}, {}, []
        self.digests = Digests.empty(len(known))
        self._same(0, 0, len(known))
        self._current = present
        return True

    def begin(self, present: Kept) -> None:
        """The scan is another one."""
        bases = [(base, loaded) for base in [*([self._current] if self._current else []), *self._bases] if (loaded := self._known(base))]
        self._bases = [base for base, dummy in bases]
        self.digests = Digests.empty(sum(map(len, scan.lines(present.scan))))
        self._gone, self._come, self._doubtful = {}, {}, []
        if self._former is not None:
            self._former_known()
            self._gone, self._come = scan.align(self._as_now(self._former), present.scan, self._same)
        for base, known in bases:
            if self.digests.unknown and (self._former is None or base.directory != self._former.directory):
                scan.align(self._as_now(base), present.scan, functools.partial(self.digests.fill, known))
        self._current = present

    def new(self) -> Iterable[bytes]:
        """The lines of the current scan that the published one doesn't have."""
        if self._former is not None:
            return self._come
        if self._current is None:
            return ()
        return (text for block in scan.lines(self._current.scan) for text in block)

    def _as_now(self, base: Kept) -> Path:
        """The scan of ``base``, with the numbers that its file systems have now."""
        if base is self._current:
            return base.scan
        if base.scan not in self._moved:
            moved = base.directory / "moved"
            self._moved[base.scan] = moved if scan.renumber(base.scan, self._tree, moved) else base.scan
        return self._moved[base.scan]

    def _known(self, base: Kept) -> Digests | None:
        return self.digests if base is self._current else base.load()

    def _former_known(self) -> tuple[Kept, Digests]:
        if self._former is None:
            raise AssertionError("only asked for where there is one")
        if self._former_digests is None:
            self._former_digests = load(self._former)
        return self._former, self._former_digests

    def _same(self, old: int, new: int, count: int) -> None:
        _former, known = self._former_known()
        self.digests.copy(known, old, new, count)
        states = known.states(old, old + count)
        if digests.RACY in states:
            self._doubtful += [(old + place, new + place) for place, state in enumerate(states) if state == digests.RACY]

    def delta(self) -> lists.Delta | None:
        """What leads from the published scan to the current one; None if there is no published one."""
        if self._former is None or self._current is None:
            return None
        former, known = self._former_known()
        others = [(old, new) for old, new in self._doubtful if known.digest(old) != self.digests.digest(new)]
        gone = {number: text for text, number in self._gone.items()}
        come = {number: text for text, number in self._come.items()}
        if others:
            texts = scan.select(self._current.scan, {new for dummy, new in others})
            gone.update((old, texts[new]) for old, new in others)
            come.update((new, texts[new]) for dummy, new in others)
        return lists.delta(lists.Side(self._as_now(former), known, gone), lists.Side(self._current.scan, self.digests, come))
