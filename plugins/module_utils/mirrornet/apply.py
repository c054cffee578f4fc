# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carrying a change out: what was staged and checked goes into place by renames, and what is gone goes last.

Whenever this is killed, each file is either the old one or the new one, whole, and doing it again does the rest.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from .below import Below, Unexpected
from .change import Change, digest
from .entry import Entry, order

#: In the staging directory: where rsync puts what comes, laid out as the tree is, and what comes without its directories; what came with lists.
FILES, FLAT, CONTENTS = "files", "flat", "contents"
#: And what has to come once more, laid out too.
AGAIN = "again"
_DRAFT = b"draft"


class Staged(NamedTuple):
    """A file whose content has to come, and where: its path in the staging directory."""

    entry: Entry
    path: bytes
    #: Whether it has its mode and time.
    is_ready: bool = False


def write(staging: int, number: int, entry: Entry, data: bytes) -> Staged:
    """Stage a file whose content is at hand, in the directory for contents, where ``number`` is its own. Raises OSError."""
    path = os.fsencode(CONTENTS) + b"/%d" % number
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=staging)
    try:
        _write(fd, data)
        _set(fd, entry)
    finally:
        os.close(fd)
    return Staged(entry, path, is_ready=True)


def carry_out(
    top: int,
    staging: int,
    change: Change,
    staged: Iterable[Staged],
    is_index: Callable[[bytes], bool],
    on_deletion: Callable[[bytes], object] = lambda path: None,
) -> None:
    """Make the tree below the descriptor ``top`` what ``change`` says, with the content in the directory ``staging`` of the same file system.

    ``staged`` are the change's files, and gone through twice. First come directories, then data, then the files that ``is_index`` picks,
    then deletions, each told to ``on_deletion``, and at last the directories' modes and times.
    Raises Unexpected if the tree isn't what the change was made for, and OSError; both leave the tree between the old and the new one.
    """
    work = _Work(top, staging, change, staged, on_deletion)
    try:
        copies = work.copy_all()
        for entry in change.directories:
            work.make_directory(entry)
        for last in (False, True):
            work.place_all(copies, is_index, is_last=last)
        for path in reversed(change.deletions):
            work.delete(path)
        work.finish()
    finally:
        work.close()


class _Work:
    """The steps, and what has to be put right after them."""

    def __init__(self, top: int, staging: int, change: Change, staged: Iterable[Staged], on_deletion: Callable[[bytes], object]) -> None:
        self._on_deletion = on_deletion
        self._tree = Below(top, writing=True)
        self._staging = Below(staging, writing=True)
        self._change = change
        self._staged = staged
        self._keys = [order(path) for path in change.deletions]
        #: Whether any of the staged files is an index file: going through all of them to find none takes time.
        self._has_index = False
        #: Mode and time, before our first step in it, of each directory that we touch.
        self._touched: dict[bytes, tuple[int, int]] = {}

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._tree.lock_again()
        self._tree.close()
        self._staging.close()

    def copy_all(self) -> list[Staged]:
        """Copy what is to be copied into the staging directory, before anything changes."""
        copies = []
        for number, (entry, donor) in enumerate(self._change.copies):
            name = b"copy-%d" % number
            self._remove_draft(name)
            source = self._tree.read(donor)
            copy = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._staging.top)
            try:
                while block := os.read(source, 1 << 20):
                    _write(copy, block)
                os.lseek(copy, 0, os.SEEK_SET)
                if digest(copy) != entry.digest:
                    raise Unexpected(donor, "has changed while it was looked at")
            finally:
                os.close(copy)
                os.close(source)
            copies.append(Staged(entry, name))
        return copies

    def place_all(self, copies: list[Staged], is_index: Callable[[bytes], bool], *, is_last: bool) -> None:
        """Put data into place, or with ``is_last`` the index files; a further name comes with whichever of its two paths is later."""
        change = self._change

        def is_wanted(path: bytes) -> bool:
            return is_index(path) is is_last

        for staged in chain(self._staged, copies) if self._has_index or not is_last else ():
            if is_wanted(staged.entry.path):
                self.place_file(staged)
            else:
                self._has_index = True
        for entry in filter(lambda one: is_wanted(one.path), change.symlinks):
            self.place_symlink(entry)
        for path, first in change.links:
            if is_last == (is_index(path) or is_index(first)):
                self.place_link(path, first)
        for entry in filter(lambda one: is_wanted(one.path), change.attributes):
            self.set_attributes(entry)

    def make_directory(self, entry: Entry) -> None:
        found = self._tree.stat(entry.path)
        if found is not None and stat.S_ISDIR(found.st_mode):
            return
        above, name = self._parent(entry.path)
        if found is not None:
            os.unlink(name, dir_fd=above)
        os.mkdir(name, 0o700, dir_fd=above)

    def place_file(self, staged: Staged) -> None:
        if not staged.is_ready:
            fd = self._staging.read(staged.path)
            try:
                _set(fd, staged.entry)
            finally:
                os.close(fd)
        self._rename(staged.path, staged.entry.path)

    def place_symlink(self, entry: Entry) -> None:
        self._remove_draft(_DRAFT)
        os.symlink(entry.target, _DRAFT, dir_fd=self._staging.top)
        self._staging.set_time(_DRAFT, entry.mtime)
        self._rename(_DRAFT, entry.path)

    def place_link(self, path: bytes, first: bytes) -> None:
        here, there = self._tree.stat(path), self._tree.stat(first)
        if there is None or not stat.S_ISREG(there.st_mode):
            raise Unexpected(first, "is not the file that another name is to be made for")
        if here is not None and (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            return  # rename(2) would leave the draft.
        self._remove_draft(_DRAFT)
        above, name = self._tree.parent(first)
        os.link(name, _DRAFT, src_dir_fd=above, dst_dir_fd=self._staging.top, follow_symlinks=False)
        self._rename(_DRAFT, path)

    def set_attributes(self, entry: Entry) -> None:
        found = self._tree.stat(entry.path)
        if found is None or not stat.S_ISREG(found.st_mode):
            raise Unexpected(entry.path, "is not the file that only its mode or time was to change of")
        self._tree.set_mode(entry.path, entry.mode)
        self._tree.set_time(entry.path, entry.mtime)

    def delete(self, path: bytes) -> None:
        found = self._tree.stat(path)
        if found is None:
            return  # Gone already, to make room.
        above, name = self._parent(path)
        if stat.S_ISDIR(found.st_mode):
            self._tree.forget(path)
            self._remove_directory(path, above, name)
        else:
            os.unlink(name, dir_fd=above)
        self._on_deletion(path)

    def finish(self) -> None:
        """Modes and times of directories, the deepest first: those that changed as they are to be, the others as they were."""
        final: dict[bytes, tuple[int, int | None]] = {path: (mode, None) for path, mode in self._tree.unlocked.items()}
        final.update(self._touched)
        final.update((entry.path, (entry.mode, entry.mtime)) for entry in self._change.directories)
        for path in sorted(final, key=order, reverse=True):
            found = self._tree.stat(path)
            self._tree.unlocked.pop(path, None)
            if found is None or not stat.S_ISDIR(found.st_mode):
                continue  # It was deleted.
            mode, mtime = final[path]
            if stat.S_IMODE(found.st_mode) != mode:
                self._tree.set_mode(path, mode)
            if mtime is not None:
                self._tree.set_time(path, mtime)

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        """The directory in which ``path`` is about to change."""
        fd, name = self._tree.parent(path)
        above = path.rpartition(b"/")[0]
        if above not in self._touched:
            found = os.fstat(fd)
            mode = self._tree.unlocked.get(above, stat.S_IMODE(found.st_mode))
            self._touched[above] = mode, found.st_mtime_ns
        return fd, name

    def _rename(self, staged: bytes, path: bytes) -> None:
        """Move what was staged into place; what is there now is replaced, and a directory only if all that it holds is to go."""
        found = self._tree.stat(path)
        above, name = self._parent(path)
        if found is not None and stat.S_ISDIR(found.st_mode):
            for number in self._deletions_below(path):
                self.delete(self._change.deletions[number])
            self._tree.forget(path)
            self._remove_directory(path, above, name)
            above, name = self._parent(path)
        source, draft = self._staging.parent(staged)
        os.rename(draft, name, src_dir_fd=source, dst_dir_fd=above)

    def _deletions_below(self, path: bytes) -> range:
        """Their numbers, the deepest first."""
        first = bisect.bisect_left(self._keys, order(path) + b"\0")
        last = bisect.bisect_left(self._keys, order(path) + b"\1")
        return range(last - 1, first - 1, -1)

    def _remove_directory(self, path: bytes, above: int, name: bytes) -> None:
        try:
            os.rmdir(name, dir_fd=above)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise Unexpected(path, "was to be removed, but holds something that nobody spoke of") from None
            raise

    def _remove_draft(self, name: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._staging.top)


def _set(fd: int, entry: Entry) -> None:
    os.fchmod(fd, entry.mode)
    os.utime(fd, ns=(entry.mtime, entry.mtime))


def _write(fd: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(fd, rest) :]


def settle(top: int) -> None:
    """Wait until all that was written to the file system of ``top`` survives a power loss, syncfs(2). Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).syncfs(top) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def staging_directory(path: Path) -> int:
    """A descriptor of the staging directory, which is made if it is missing. Raises OSError, also for a symlink of that name."""
    path.mkdir(mode=0o700, exist_ok=True)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
