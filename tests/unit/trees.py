# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees that change at random, and what is in them: independent of the engine, so that the engine can be measured by it."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import shutil
import stat
from pathlib import Path
from typing import Any

from mirrornet.entry import Entry, order

#: Names that have broken programs before.
ODD = [b"-rf", b"new\nline", b" ", b"*", b"\xff\xfe", b"x" * 255, b"...", b"a-b", b"a", b"#", b";", b"\\#012", b"~", b"q\x01", b"a b'\""]
_DIRECTORY_MODES = [0o755, 0o700, 0o555, 0o500, 0o2755, 0o1777]
_FILE_MODES = [0o644, 0o600, 0o444, 0o755, 0o4755, 0o400]


def describe(top: Path) -> list[Entry]:
    """What a manifest of the tree lists."""
    found: list[Entry] = []
    first: dict[tuple[int, int], bytes] = {}
    everything = [b"", *_below(os.fsencode(top), b"")]
    for path in sorted(everything, key=order):
        full = os.path.join(os.fsencode(top), path) if path else os.fsencode(top)
        seen = os.lstat(full)
        mode, mtime = stat.S_IMODE(seen.st_mode), seen.st_mtime_ns
        if stat.S_ISDIR(seen.st_mode):
            found.append(Entry("d", path, mode, mtime))
        elif stat.S_ISLNK(seen.st_mode):
            found.append(Entry("l", path, 0, mtime, target=os.readlink(full)))
        elif first.setdefault((seen.st_dev, seen.st_ino), path) != path:
            found.append(Entry("h", path, target=first[seen.st_dev, seen.st_ino]))
        else:
            with open(full, "rb") as file:
                content = file.read()
            summed = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            found.append(Entry("f", path, mode, mtime, len(content), summed))
    return found


def _below(top: bytes, path: bytes) -> list[bytes]:
    found = []
    for name in os.listdir(os.path.join(top, path)):
        if not path and name == b".mirrornet":
            continue
        one = path + b"/" + name if path else name
        found.append(one)
        full = os.path.join(top, one)
        if os.path.isdir(full) and not os.path.islink(full):
            found += _below(top, one)
    return found


def delta(old: list[Entry], new: list[Entry]) -> list[Entry]:
    """The records that make the new tree of the old one."""
    before, after = ({entry.path: entry for entry in entries} for entries in (old, new))
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    for entries in (before, after):
        groups: dict[bytes, set[bytes]] = {}
        for entry in entries.values():
            if entry.kind in "fh":
                groups.setdefault(entry.target or entry.path, set()).add(entry.path)
        for names in groups.values():
            if len(names) > 1 and names & changed:
                changed |= names
    # What joins by a group of the new tree may bring no more of the old one's: the names of its file are all in it.
    return [after.get(path) or Entry("-", path) for path in sorted(changed, key=order)]


def edit_in_place(path: Path, content: bytes = b"E") -> None:
    """Other content of the same size, and no trace of it in the times."""
    found = path.stat()
    path.write_bytes((content * found.st_size)[: found.st_size])
    os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns))


class Scramble:
    """Changes a tree at random, the same way for the same seed."""

    def __init__(self, top: Path, seed: int) -> None:
        self._top = os.fsencode(top)
        self._chance = random.Random(seed)
        self._clock = 1_600_000_000_000_000_000

    def edit(self, times: int) -> None:
        """Do so many random things; also the times of directories are left as they come about."""
        acts = [self._new_file] * 4 + [self._rewrite] * 3 + [self._in_place] * 2 + [self._new_directory] * 3
        acts += [
            self._touch,
            self._mode,
            self._remove,
            self._symlink,
            self._link,
            self._link,
            self._unlink_by_copy,
            self._rename,
            self._turn,
        ]
        acts += [self._directory_time, self._directory_mode, self._copy_by_links]
        for dummy in range(times):
            self._chance.choice(acts)()

    def _all(self, kind: str) -> list[bytes]:
        found = []
        for path in sorted(_below(self._top, b"")):
            full = os.path.join(self._top, path)
            is_link, is_directory = os.path.islink(full), os.path.isdir(full)
            what = "l" if is_link else "d" if is_directory else "f"
            if what in kind:
                found.append(full)
        return found

    def _time(self) -> int:
        self._clock += self._chance.randrange(1, 3_000_000_000)
        return self._clock

    def _place(self) -> bytes:
        """A new path in some directory."""
        directories = [self._top, *self._all("d")]
        where = self._chance.choice([path for path in directories if len(path) < 1500])
        name = self._chance.choice(ODD) if self._chance.random() < 0.3 else b"n%d" % self._chance.randrange(40)
        return os.path.join(where, name)

    def _unlocked(self, path: bytes) -> Any:
        return _Unlocked(os.path.dirname(path))

    def _new_file(self) -> None:
        path = self._place()
        if os.path.lexists(path):
            return
        with self._unlocked(path):
            self._write(path)

    def _write(self, path: bytes) -> None:
        with open(path, "wb") as file:
            file.write(self._chance.randbytes(self._chance.choice([0, 1, 10, 10, 3000])))
        os.chmod(path, self._chance.choice(_FILE_MODES))
        os.utime(path, ns=(0, self._time()))

    def _rewrite(self) -> None:
        for path in self._some("f"):
            with self._unlocked(path):
                os.unlink(path)
                self._write(path)

    def _in_place(self) -> None:
        """The same size and time, another content."""
        for path in self._some("f"):
            seen = os.stat(path)
            os.chmod(path, 0o600)
            with open(path, "r+b") as file:
                file.write(self._chance.randbytes(seen.st_size))
            os.chmod(path, stat.S_IMODE(seen.st_mode))
            os.utime(path, ns=(0, seen.st_mtime_ns))

    def _some(self, kind: str) -> list[bytes]:
        found = self._all(kind)
        return [self._chance.choice(found)] if found else []

    def _new_directory(self) -> None:
        path = self._place()
        if not os.path.lexists(path):
            with self._unlocked(path):
                os.mkdir(path)

    def _touch(self) -> None:
        for path in self._some("fl"):
            os.utime(path, ns=(0, self._time()), follow_symlinks=False)

    def _mode(self) -> None:
        for path in self._some("f"):
            os.chmod(path, self._chance.choice(_FILE_MODES))

    def _directory_mode(self) -> None:
        for path in self._some("d"):
            os.chmod(path, self._chance.choice(_DIRECTORY_MODES))

    def _directory_time(self) -> None:
        for path in self._some("d"):
            os.utime(path, ns=(0, self._time()))

    def _remove(self) -> None:
        for path in self._some("dfl"):
            self._remove_one(path)

    def _remove_one(self, path: bytes) -> None:
        with self._unlocked(path):
            if os.path.isdir(path) and not os.path.islink(path):
                for below in [path, *(os.path.join(path, one) for one in _below(path, b""))]:
                    if os.path.isdir(below) and not os.path.islink(below):
                        os.chmod(below, 0o700)
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def _symlink(self) -> None:
        path = self._place()
        if not os.path.lexists(path):
            with self._unlocked(path):
                os.symlink(self._chance.choice([b"nowhere", b"/etc", b"..", b"a\nb", b"n1"]), path)

    def _link(self) -> None:
        for old in self._some("f"):
            new = self._place()
            if not os.path.lexists(new):
                with self._unlocked(new):
                    os.link(old, new)

    def _unlink_by_copy(self) -> None:
        """The same content and time, but a file of its own again."""
        for path in self._some("f"):
            with self._unlocked(path):
                os.chmod(path, os.stat(path).st_mode | 0o400)
                shutil.copy2(path, path + b"." if len(os.path.basename(path)) < 250 else os.path.join(os.path.dirname(path), b"tmp"))
                os.rename(path + b"." if len(os.path.basename(path)) < 250 else os.path.join(os.path.dirname(path), b"tmp"), path)

    def _rename(self) -> None:
        for old in self._some("dfl"):
            new = self._place()
            if not os.path.lexists(new) and not new.startswith(old + b"/"):
                with self._unlocked(old), self._unlocked(new):
                    mode = os.lstat(old).st_mode
                    if stat.S_ISDIR(mode):
                        os.chmod(old, 0o700)
                    os.rename(old, new)
                    if stat.S_ISDIR(mode):
                        os.chmod(new, stat.S_IMODE(mode))

    def _turn(self) -> None:
        """Something becomes something else under its name."""
        for path in self._some("dfl"):
            self._remove_one(path)
            with self._unlocked(path):
                self._chance.choice([os.mkdir, self._write, lambda one: os.symlink(b"..", one)])(path)

    def _copy_by_links(self) -> None:
        """As `cp -al`, under a name that comes first."""
        for path in self._some("d"):
            new = os.path.join(os.path.dirname(path), b"!%d" % self._chance.randrange(1000))
            below = [one for one in _below(path, b"") if len(one) < 600]
            if os.path.lexists(new) or len(below) > 12 or len(path) > 800:
                continue
            with self._unlocked(new):
                os.mkdir(new)
            for one in sorted(below, key=order):
                source, target = os.path.join(path, one), os.path.join(new, one)
                if os.path.isdir(source) and not os.path.islink(source):
                    os.mkdir(target)
                else:
                    os.link(source, target, follow_symlinks=False) if not os.path.islink(source) else os.symlink(
                        os.readlink(source), target
                    )


class _Unlocked:
    """A directory that its owner can change for a moment, like a publisher who knows what he does."""

    def __init__(self, path: bytes) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._mode = stat.S_IMODE(os.stat(self._path).st_mode)
        os.chmod(self._path, self._mode | 0o700)

    def __exit__(self, *dummy: object) -> None:
        if os.path.isdir(self._path):
            os.chmod(self._path, self._mode)
