# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A master's tree for the tests of publishing: what is in it by stat(2), what its head says, and edits at random."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from conftest import ENGINE
from mirrornet import head, publish
from mirrornet.entry import Counts, Entry, counted, digest_text, merge, order, read
from mirrornet.head import Head, Index
from mirrornet.places import Places

NAMES = [
    b"a",
    b"a-b",
    b"a.b",
    b"b",
    b" ",
    b"\n",
    b"-",
    b".a",
    b"...",
    b"\x01",
    b"\xff\xfe",
    b"a b",
    b".mirrornet",
    b"a0",
    b"x" * 200,
    b"*",
    b"\\",
]


def everything(tree: Path) -> list[Path]:
    """All below a tree but for the publisher's own."""
    found = []
    for directory, directories, files in os.walk(tree):
        if Path(directory) == tree and ".mirrornet" in directories:
            directories.remove(".mirrornet")
        found += [Path(directory, name) for name in [*directories, *files]]
    return sorted(found)


def truth(tree: Path, leave: Sequence[bytes] = ()) -> list[Entry]:
    """What is in a tree, seen without any of what publishing sees it by."""
    found = {b"": tree}
    names: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for full in everything(tree):
        path, status = os.fsencode(full.relative_to(tree)), full.lstat()
        if not any(path == gone or path.startswith(gone + b"/") for gone in leave):
            found[path] = full
            names[status.st_dev, status.st_ino].append(path)
    entries = []
    for path in sorted(found, key=order):
        status = found[path].lstat()
        mode, time = stat.S_IMODE(status.st_mode), status.st_mtime_ns
        if stat.S_ISDIR(status.st_mode):
            entries.append(Entry("d", path, mode, time))
        elif stat.S_ISLNK(status.st_mode):
            entries.append(Entry("l", path, mtime=time, target=os.fsencode(found[path].readlink())))
        elif stat.S_ISREG(status.st_mode):
            first = min(names[status.st_dev, status.st_ino], key=order)
            content = found[path].read_bytes()
            file = Entry("f", path, mode, time, len(content), digest_text(hashlib.sha256(content).digest()))
            entries.append(file if first == path else Entry("h", path, target=first))
    return entries


@dataclass
class Published:
    """What a mirror can read in a tree."""

    head: Head
    index: Index
    entries: list[Entry]
    #: What each listed delta holds, by its serial.
    deltas: dict[int, list[Entry]] = field(default_factory=dict)


def published(tree: Path, without: Sequence[int] = ()) -> Published:
    """Head, index, lists, each checked as a mirror checks them; ``without`` are deltas that needn't be there."""
    own = tree / ".mirrornet"
    parsed = head.parse((own / "head").read_bytes())
    index = head.parse_index((own / head.index_name(parsed.serial)).read_bytes(), parsed)
    deltas = {
        delta.serial: list(read(own / head.delta_name(delta.serial), delta.size, delta.sha256, delta=True))
        for delta in index.deltas
        if delta.serial not in without
    }
    manifest = list(read(own / head.manifest_name(index.manifest.serial), index.manifest.size, index.manifest.sha256))
    whole = merge(manifest, [deltas[delta.serial] for delta in index.after_manifest])
    return Published(parsed, index, list(counted(whole, parsed.counts)), deltas)


@dataclass
class Desk:
    """A tree to publish, and where the state of that is kept."""

    base: Path
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def tree(self) -> Path:
        return self.base / "tree"

    @property
    def own(self) -> Path:
        return self.tree / ".mirrornet"

    @property
    def state(self) -> Path:
        return self.base / "state" / "publish-tree"

    @property
    def places(self) -> Places:
        return Places(self.base / "config", self.base / "state")

    def publish(self, **options: Any) -> publish.Publication:
        """One call, in this process."""
        return publish.publish(self.places, publish.Wish(self.tree, "tree", **{**self.options, **options}))

    def command(self, *words: str) -> list[str]:
        return [
            "--config-dir",
            str(self.base / "config"),
            "--state-dir",
            str(self.base / "state"),
            "publish",
            "--name",
            "tree",
            *(["--settle=0"] if not any(word.startswith("--settle") for word in words) else []),
            *words,
            str(self.tree),
        ]

    def run(self, *words: str, program: str = "", path: str = "", before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """The command, as a process of its own; ``program`` is Python that runs before it, ``path`` stands before PATH."""
        environment = {**os.environ, "PYTHONPATH": str(ENGINE)}
        if path:
            environment["PATH"] = f"{path}:{environment['PATH']}"
        start = f"import sys\n{program}\nfrom mirrornet.cli import main\nsys.exit(main())"
        command = [*before, sys.executable, "-c", start, *self.command(*words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def true(self, **options: Any) -> Published:
        """What is published, which must be what is there."""
        found = published(self.tree)
        there = truth(self.tree, **options)
        assert found.entries == there
        assert found.head.counts == counts(there)
        return found


def counts(entries: Sequence[Entry]) -> Counts:
    files = [entry for entry in entries if entry.kind == "f"]
    return Counts(len(entries), len(files), sum(entry.size for entry in files))


class Edits:
    """Edits of a tree, as they come to a mirror's master over the years, and somewhat faster."""

    def __init__(self, tree: Path, seed: int) -> None:
        self._tree = tree
        self._chance = Random(seed)

    def some(self, number: int) -> None:
        writing = [self._write] * 3 + [self._same_size, self._mode, self._time, self._link, self._link, self._symlink, self._fifo]
        for dummy in range(number):
            # What doesn't fit, such as a directory into itself, is as good as no edit.
            with contextlib.suppress(OSError):
                self._chance.choice([*writing, self._remove, self._directory, self._rename])()

    def _old(self) -> Path:
        return self._chance.choice(everything(self._tree) or [Path("/nonexistent")])

    def _new(self) -> Path:
        directories = [path for path in everything(self._tree) if path.is_dir() and not path.is_symlink()]
        path = self._chance.choice([self._tree, *directories]) / os.fsdecode(self._chance.choice(NAMES))
        return path if path != self._tree / ".mirrornet" else self._tree / ".mirrornet-not"

    def _clear(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _write(self) -> None:
        path = self._new()
        if not path.is_file() or path.is_symlink() or self._chance.random() < 0.3:
            self._clear(path)
        path.write_bytes(bytes(self._chance.choices(range(256), k=self._chance.choice([0, 1, 10, 5000]))))

    def _same_size(self) -> None:
        """Other content, and the old size and mtime: only the ctime tells."""
        path = self._old()
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            path.write_bytes(bytes(self._chance.choices(range(256), k=status.st_size)))
            os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))

    def _mode(self) -> None:
        path = self._old()
        if not path.is_symlink():
            path.chmod(0o700 | self._chance.choice([0, 0o77, 0o1000, 0o4055]))

    def _time(self) -> None:
        time = self._chance.choice([0, 10**18, 1_700_000_000_123_456_789, -1_750_000_000, -(10**9), 4_000_000_000_000_000_001])
        os.utime(self._old(), ns=(time, time), follow_symlinks=False)

    def _remove(self) -> None:
        self._clear(self._old())

    def _directory(self) -> None:
        path = self._new()
        if not path.is_dir():
            self._clear(path)
        path.mkdir()

    def _rename(self) -> None:
        self._old().rename(self._new())

    def _link(self) -> None:
        os.link(self._old(), self._new(), follow_symlinks=False)

    def _symlink(self) -> None:
        self._new().symlink_to(self._chance.choice(["a", "../../x", "\n", "/", "//"]))

    def _fifo(self) -> None:
        os.mkfifo(self._new())
