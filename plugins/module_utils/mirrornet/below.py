# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reaching what is in a tree through descriptors, part by part: never through a symlink, and so never outside of the tree."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Optional

from .places import IN_TREE

#: Directories within each other; each one that is on the way keeps a descriptor open.
DEEPEST = 200

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Stat = Optional[os.stat_result]


class Unexpected(Exception):
    """The tree is not what it was taken for; nobody guesses what it is instead."""

    def __init__(self, path: bytes, what: str) -> None:
        super().__init__(f"{os.fsdecode(path) or '.'!r} {what}")


class Below:
    """The entries below one directory. Paths are relative to it, as bytes; the empty path is the directory itself.

    The directories on the way to the last path stay open, so that paths in sorted order cost little. A directory whose mode keeps even its
    owner out is opened to its owner, and its mode is remembered in ``unlocked``.
    """

    def __init__(self, top: int, *, writing: bool = False) -> None:
        self.top = top
        self._needed = 0o700 if writing else 0o500
        self.unlocked: dict[bytes, int] = {}
        self._way: list[tuple[bytes, int]] = []
        #: The directory that was asked for last, as long as it is open: one entry takes several questions.
        self._last: bytes | None = None

    def close(self) -> None:
        """Close all descriptors but the one that was given."""
        self._back_to(0)

    def lock_again(self) -> None:
        """Give the directories that were opened to their owner the modes that they had."""
        for path, mode in sorted(self.unlocked.items(), reverse=True):
            with contextlib.suppress(FileNotFoundError, Unexpected):
                self.set_mode(path, mode)
        self.unlocked.clear()

    def directory(self, path: bytes) -> int:
        """A descriptor of the directory ``path``, which stays this object's. Raises Unexpected if it or what leads to it is none."""
        if path == self._last:
            return self._way[-1][1] if self._way else self.top
        parts = path.split(b"/") if path else []
        if len(parts) > DEEPEST:
            raise Unexpected(path, f"is deeper than {DEEPEST} directories")
        same = 0
        while same < min(len(parts), len(self._way)) and parts[same] == self._way[same][0]:
            same += 1
        self._back_to(same)
        for number in range(same, len(parts)):
            above = self._way[-1][1] if self._way else self.top
            try:
                fd = self._open(above, parts[number], b"/".join(parts[: number + 1]))
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise Unexpected(b"/".join(parts[: number + 1]), "is no directory") from None
                raise
            self._way.append((parts[number], fd))
        self._last = path
        return self._way[-1][1] if self._way else self.top

    def parent(self, path: bytes) -> tuple[int, bytes]:
        """The directory that holds ``path``, as a descriptor, and the name in there. Raises Unexpected."""
        above, dummy, name = path.rpartition(b"/")
        return self.directory(above), name

    def forget(self, path: bytes) -> None:
        """``path`` was removed or replaced: what is open of it is no longer the tree's."""
        parts = path.split(b"/")
        if [name for name, dummy in self._way[: len(parts)]] == parts:
            self._back_to(len(parts) - 1)

    def stat(self, path: bytes) -> Stat:
        """As lstat(2); None if there is no such entry, or what leads to it is no directory."""
        try:
            fd, name = self.parent(path)
            return os.lstat(name, dir_fd=fd) if name else os.fstat(self.top)
        except (FileNotFoundError, Unexpected):
            return None

    def read(self, path: bytes) -> int:
        """A descriptor, now the caller's, for reading the file ``path``. Raises OSError, Unexpected."""
        fd, name = self.parent(path)
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)

    def set_mode(self, path: bytes, mode: int) -> None:
        """As chmod(2), also for what its owner can't open; never for what a symlink points to. Raises OSError, Unexpected."""
        if not path:
            os.fchmod(self.top, mode)
            return
        above, name = self.parent(path)
        _chmod(above, name, mode)

    def set_time(self, path: bytes, mtime: int) -> None:
        """Give an entry, also a symlink, its time in nanoseconds. Raises OSError, Unexpected."""
        if not path:
            os.utime(self.top, ns=(mtime, mtime))
            return
        above, name = self.parent(path)
        os.utime(name, ns=(mtime, mtime), dir_fd=above, follow_symlinks=False)

    def all(self) -> Iterator[tuple[bytes, os.stat_result]]:
        """Everything in the tree, but for the mirror's own directory, in the order of a manifest. Raises OSError, Unexpected."""
        yield b"", os.fstat(self.top)
        own = os.fsencode(IN_TREE)
        waiting: list[tuple[bytes, Iterator[bytes]]] = [(b"", (name for name in self._names(b"") if name != own))]
        while waiting:
            above, names = waiting[-1]
            name = next(names, None)
            if name is None:
                waiting.pop()
                continue
            path = above + b"/" + name if above else name
            found = self.stat(path)
            if found is None:
                raise Unexpected(path, "has vanished")
            yield path, found
            if stat.S_ISDIR(found.st_mode):
                waiting.append((path, iter(self._names(path))))

    def _names(self, path: bytes) -> list[bytes]:
        return sorted(map(os.fsencode, os.listdir(self.directory(path))))

    def _open(self, above: int, name: bytes, path: bytes) -> int:
        with contextlib.suppress(PermissionError):
            fd = os.open(name, _DIRECTORY, dir_fd=above)
            mode = stat.S_IMODE(os.fstat(fd).st_mode)
            if os.geteuid() == 0 or mode & self._needed == self._needed:
                return fd
            os.close(fd)
        mode = stat.S_IMODE(os.lstat(name, dir_fd=above).st_mode)
        _chmod(above, name, mode | 0o700)
        self.unlocked.setdefault(path, mode)
        return os.open(name, _DIRECTORY, dir_fd=above)

    def _back_to(self, depth: int) -> None:
        self._last = None
        while len(self._way) > depth:
            os.close(self._way.pop()[1])


def _chmod(above: int, name: bytes, mode: int) -> None:
    """Linux has no chmod that doesn't follow symlinks, but /proc reaches a file that was opened as a mere place, open(2) O_PATH."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise Unexpected(name, "is a symlink")
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)
