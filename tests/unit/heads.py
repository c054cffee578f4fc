# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A master's publishing, as simple as can be: looks at all of the tree and keeps nothing but what it has published."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mirrornet import contents, entry, head, recent
from mirrornet.entry import Entry
from mirrornet.head import Head, Index, Listed
from mirrornet.places import RECENT
from mirrornet.record import replace
from trees import delta, describe


@dataclass
class Publisher:
    """Publishes ``tree``. Epoch, serial and key may be changed between two publishes."""

    tree: Path
    epoch: str = "a" * 32
    serial: int = 0
    #: A private key of SSH; None: heads aren't signed.
    key: Path | None = None
    #: How many deltas there may be until there is a new manifest.
    deltas: int = 4
    #: Whether the content of small files comes with the deltas.
    contents: bool = False
    index: Index | None = None
    entries: list[Entry] = field(default_factory=list)
    #: What becomes of a head before it is written: for those that lie.
    lie: Callable[[Head], Head] = lambda one: one
    clock: int = 1_700_000_000

    @property
    def own(self) -> Path:
        return self.tree / ".mirrornet"

    def head(self) -> Head:
        return head.parse((self.own / "head").read_bytes())

    def publish(self, entries: list[Entry] | None = None, records: list[Entry] | None = None) -> Head:
        """Publish the tree as it is, or what ``entries`` and ``records``, the delta, say instead."""
        self.own.mkdir(exist_ok=True)
        entries = describe(self.tree) if entries is None else entries
        self.serial += 1
        name = head.delta_name(self.serial)
        self._write_contents(entries, records)
        if self.index is None or len(self.index.after_manifest) >= self.deltas:
            old = self.index.deltas if self.index is not None else ()
            whole = self._save(head.manifest_name(self.serial), self.serial, entries)
            last = () if self.index is None else (self._delta(name, entries, records),)
            self.index = Index(whole, (*old, *last))
        else:
            self.index = Index(self.index.manifest, (*self.index.deltas, self._delta(name, entries, records)))
        data = self.index.to_bytes()
        (self.own / head.index_name(self.serial)).write_bytes(data)
        self.write_recent()
        files = [one for one in entries if one.kind == "f"]
        self.clock += 1
        time = f"2026-01-31T12:{self.serial // 60:02d}:{self.serial % 60:02d}Z"
        new = Head(
            self.epoch, self.serial, hashlib.sha256(data).hexdigest(), len(entries), len(files), sum(one.size for one in files), time
        )
        self.write(self.lie(new))
        self.entries = entries
        return new

    def _write_contents(self, entries: list[Entry], records: list[Entry] | None) -> None:
        if self.contents and self.index is not None:
            records = delta(self.entries, entries) if records is None else records
            (self.own / head.contents_name(self.serial)).write_bytes(b"".join(contents.collect(self.tree, records)))

    def write(self, new: Head) -> None:
        """Put a head in place, signed if there is a key."""
        new = head.sign(new, self.key) if self.key is not None else new
        draft = self.own / ".head.new"
        draft.write_bytes(new.to_bytes())
        os.utime(draft, (self.clock, self.clock))
        draft.replace(self.own / "head")

    def write_recent(self) -> None:
        """Before the head, and with the time that it is going to have."""
        assert self.index is not None
        path, time = self.own / RECENT, self.clock + 1
        path.unlink(missing_ok=True)
        path.write_bytes(recent.collect(self.own, self.index))
        os.utime(path, (time, time))

    def new_epoch(self, letter: str) -> None:
        """As after the loss of what was known: nothing leads from the former row of serials to the next publish."""
        self.epoch, self.index = letter * 32, None

    def _delta(self, name: str, entries: list[Entry], records: list[Entry] | None) -> Listed:
        base = self.head().index
        return replace(self._save(name, self.serial, delta(self.entries, entries) if records is None else records), base=base)

    def _save(self, name: str, serial: int, entries: list[Entry]) -> Listed:
        with (self.own / name).open("wb") as file:
            stored = entry.save(file, entries)
        return Listed(serial, stored.sha256, stored.size)
