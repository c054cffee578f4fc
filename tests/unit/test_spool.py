# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan holds of millions of files lies in a file: what comes out is what was put in, and memory doesn't grow with it."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirrornet import spool
from mirrornet.below import Below
from mirrornet.change import Change, from_manifest
from mirrornet.coming import Coming
from mirrornet.entry import Entry
from mirrornet.spool import Spool
from trees import ODD

DIGEST = "A" * 43
KINDS = [
    Entry("d", b"", 0o755, 0),
    *(Entry("f", name, 0o4755, -1, 2**63 - 1, DIGEST) for name in ODD if name != b"..."),
    Entry("h", b"q", target=b"a"),
    Entry("l", b"r", mtime=10**26, target=b"a\nb"),
]


@pytest.mark.parametrize("block", [1, 2, 3, len(KINDS), 1000])
def test_what_comes_out_is_what_was_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(spool, "_BLOCK", block)
    one = Spool(tmp_path)
    for number, entry in enumerate(KINDS):
        one.append(entry)
        assert list(one) == KINDS[: number + 1]
        assert len(one) == number + 1
    assert [pair for pair in zip(one, one) if pair[0] is not pair[1] and pair[0] != pair[1]] == [], "twice at once"
    assert list(tmp_path.iterdir()) == [], "nothing for a kill to leave behind"


def test_without_room_it_is_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_BLOCK", 2)
    assert list(Spool(entries=KINDS)) == KINDS


def test_what_cannot_be_read_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_BLOCK", 2)
    one = Spool(tmp_path, KINDS)
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: b"")
    with pytest.raises(OSError, match="Input/output error"):
        list(one)


def open_files() -> int:
    return sum(1 for dummy in Path("/proc/self/fd").iterdir())


def test_its_file_is_closed_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_BLOCK", 2)
    before = open_files()
    one = Spool(tmp_path, KINDS)
    assert open_files() == before + 1
    del one
    assert open_files() == before


def test_a_first_copy_is_not_held_in_memory(tmp_path: Path) -> None:
    """A plan of it, and where its files are staged: 30,000 files, for which lists would take more than 6 MB."""
    target, room, number = tmp_path / "target", tmp_path / "room", 30_000
    target.mkdir()
    room.mkdir()

    def entries() -> Iterator[Entry]:
        yield Entry("d", b"", 0o755, 0)
        for directory in range(number // 1000):
            yield Entry("d", b"%03d" % directory, 0o755, 0)
            for file in range(1000):
                yield Entry("f", b"%03d/a-name-as-archives-have-them-%06d.txt" % (directory, file), 0o644, 10**18 + file, 10_000, DIGEST)

    def planned() -> tuple[Change, Coming]:
        top = os.open(target, os.O_RDONLY)
        below = Below(top)
        try:
            change = from_manifest(below, entries(), room=room)
        finally:
            below.close()
            os.close(top)
        coming = Coming(change.files, flat=True)
        assert change.size == number * 10_000
        assert sum(1 for dummy in coming.missing("files")) == coming.batches()["files"].number == number
        return change, coming

    tracemalloc.start()
    try:
        planned()
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < 4 << 20
