# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of small files, which comes with the deltas: collected, read, and what a run makes of a good, a lying or a missing one."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Master, Mirror
from heads import Publisher
from hypothesis import given
from hypothesis import strategies as st
from mirrornet import contents, head
from mirrornet.contents import Pieces
from mirrornet.entry import Entry, digest_text
from publishing import Desk
from test_fast import USUAL, connections, is_same, log, next_tier, settle
from test_fast_signed import make_key
from trees import describe


def record(path: str, data: bytes, mode: int = 0o644) -> Entry:
    return Entry("f", path.encode(), mode, 0, len(data), digest_text(hashlib.sha256(data).digest()))


FILES = {"a": b"first", "b": b"", "c": b"x" * 4096, "d": b"last"}
RECORDS = [record(path, data) for path, data in FILES.items()]


def read(data: bytes, records: list[Entry]) -> tuple[dict[str, bytes], bool]:
    pieces = Pieces(io.BytesIO(data), records)
    return {entry.path.decode(): piece for entry, piece in pieces}, pieces.is_whole


class TestCollect:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        tree = tmp_path / "tree"
        (tree / "open").mkdir(parents=True)
        tree.chmod(0o755)
        for path, data in FILES.items():
            (tree / path).write_bytes(data)
            (tree / "open" / path).write_bytes(data)
        return tree

    @staticmethod
    def collect(tree: Path, *records: Entry) -> bytes:
        return b"".join(contents.collect(tree, records))

    def test_all_small_files_and_nothing_else(self, tree: Path) -> None:
        (tree / "large").write_bytes(b"x" * 4097)
        (tree / "secret").write_bytes(b"not for everybody")
        records = [
            Entry("-", b"0"),
            Entry("d", b"", 0o755, 0),
            *RECORDS,
            record("large", b"x" * 4097),
            Entry("l", b"link", target=b"a"),
            record("open/d", b"last"),
            record("secret", b"not for everybody", 0o640),
            Entry("h", b"z", target=b"a"),
        ]
        data = self.collect(tree, *records)
        assert data == b"".join(FILES.values()) + b"last"
        assert read(data, records) == ({**FILES, "open/d": b"last"}, True)

    def test_what_has_room(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(contents, "MOST", 5 + 4096)
        data = self.collect(tree, *RECORDS)
        assert data == b"first" + b"x" * 4096
        assert read(data, RECORDS) == ({path: FILES[path] for path in "abc"}, True)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda path: path.unlink(),
            lambda path: path.write_bytes(b"other"),
            lambda path: path.write_bytes(b"first and more"),
            lambda path: (path.unlink(), path.symlink_to(path.parent.parent / "a")),
            lambda path: (path.unlink(), path.mkdir()),
            lambda path: (path.unlink(), os.mkfifo(path)),
            lambda path: path.parent.chmod(0o750),
            lambda path: (path.parent.rename(path.parent.with_name("away")), path.parent.symlink_to("away")),
        ],
    )
    def test_ends_at_what_is_not_the_listed_file_or_not_for_everybody(self, tree: Path, spoil: Callable[[Path], object]) -> None:
        records = [record("d", b"last"), record("open/a", b"first"), record("open/d", b"last")]
        assert self.collect(tree, *records) == b"lastfirstlast"
        spoil(tree / "open" / "a")
        assert self.collect(tree, *records) == b"last"

    def test_nothing_below_a_directory_that_is_closed(self, tree: Path) -> None:
        (tree / "open" / "within").mkdir(mode=0o755)
        (tree / "open" / "within" / "a").write_bytes(b"first")
        (tree / "open").chmod(0o750)
        assert self.collect(tree, record("open/within/a", b"first")) == b""

    def test_nothing_of_a_tree_that_is_closed(self, tree: Path) -> None:
        tree.chmod(0o750)
        assert self.collect(tree, *RECORDS) == b""


class TestRead:
    WHOLE = b"".join(FILES.values())

    def test_a_part_of_it_is_good_as_far_as_it_goes(self) -> None:
        assert read(b"first", RECORDS) == ({"a": b"first", "b": b""}, True)
        assert read(b"", RECORDS) == ({}, True)
        assert read(self.WHOLE[:-1], RECORDS) == ({path: FILES[path] for path in "abc"}, False)

    def test_what_follows_is_of_no_use_to_anybody(self) -> None:
        assert read(self.WHOLE + b"more", RECORDS) == (FILES, False)

    def test_ends_at_a_wrong_piece(self) -> None:
        assert read(b"worst" + self.WHOLE[5:], RECORDS) == ({}, False)

    @given(st.binary(max_size=40), st.integers(0, 30))
    def test_nothing_comes_out_that_is_not_listed(self, more: bytes, cut: int) -> None:
        for data in (more, self.WHOLE[:cut] + more, self.WHOLE[:-cut] + more):
            found, is_whole = read(data, RECORDS)
            assert found.items() <= FILES.items()
            assert not is_whole or data == b"".join(found.values())


@pytest.fixture
def publisher(master: Master) -> Publisher:
    master.fill()
    return Publisher(master.tree, deltas=20, contents=True)


def edit(publisher: Publisher) -> None:
    (publisher.tree / f"new-{publisher.serial}").write_text("new")
    (publisher.tree / f"empty-{publisher.serial}").touch()
    (publisher.tree / "release-0" / "file-0.txt").write_text(f"text {publisher.serial}\n")


#: What can be where the file should be.
SPOILT: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-2]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"planted"),
    "other": lambda path: path.write_bytes(path.read_bytes()[::-1]),
    "large": lambda path: path.write_bytes(bytes(6 << 20)),
}


class TestRuns:
    def test_one_connection(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        for published in (1, 1, 3):
            for dummy in range(published):
                edit(publisher)
                publisher.publish()
            report = mirror.pull(**USUAL)
            assert (report.way, connections(mirror)) == ("deltas", 1), log(mirror)
            assert (report.files, report.deletions) == (1 + 2 * published, 0)
            assert is_same(mirror, master.tree)
            assert (mirror.target / ".mirrornet" / "recent").read_bytes() == (publisher.own / "recent").read_bytes(), "for the next mirror"
            assert mirror.pull(**USUAL).way == "same"

    def test_beside_files_that_rsync_brings(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        edit(publisher)
        (publisher.tree / "large").write_bytes(os.urandom(5000))
        (publisher.tree / "release-0" / "larger").write_bytes(os.urandom(6000))
        publisher.publish()
        report = mirror.pull(**USUAL)
        assert (report.way, report.files, connections(mirror)) == ("deltas", 5, 2), log(mirror)
        assert is_same(mirror, master.tree)

    def test_a_mirror_that_is_far_behind(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        """More than what comes with the head: the lists are fetched, and the contents with them."""
        settle(mirror, publisher)
        for number in range(12):
            (publisher.tree / "noise").write_bytes(os.urandom(4000))
            (publisher.tree / f"file-{number}").write_text("new")
            publisher.publish()
        report = mirror.pull(**USUAL)
        assert (report.way, connections(mirror)) == ("deltas", 2), log(mirror)
        assert is_same(mirror, master.tree)

    def test_a_mirror_of_a_mirror(self, master: Master, mirror: Mirror, publisher: Publisher, tmp_path: Path) -> None:
        settle(mirror, publisher)
        with next_tier(mirror, tmp_path) as second:
            edit(publisher)
            publisher.publish()
            mirror.pull(**USUAL)
            assert (second.pull(**USUAL).way, connections(second)) == ("deltas", 1), log(second)
            assert is_same(second, master.tree)

    @pytest.mark.parametrize("with_recent", [True, False])
    @pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
    def test_it_is_a_copy_that_nobody_needs(
        self, master: Master, mirror: Mirror, publisher: Publisher, tmp_path: Path, spoil: Callable[[Path], object], with_recent: bool
    ) -> None:
        """Also of a signed head: rsync brings what the contents don't, and what is none of the tree's is shown to nobody."""
        publisher.key = tmp_path / "key"
        options = {**USUAL, "trusted_keys": [make_key(publisher.key)]}
        publisher.publish()
        assert mirror.pull(**options).way == "manifest"
        edit(publisher)
        publisher.publish()
        good = (publisher.own / head.contents_name(publisher.serial)).read_bytes()
        spoil(publisher.own / head.contents_name(publisher.serial))
        publisher.write_recent()
        if not with_recent:
            (publisher.own / "recent").unlink()
        report = mirror.pull(**options)
        assert (report.outcome, report.way) == ("updated", "deltas"), log(mirror)
        assert is_same(mirror, master.tree)
        passed_on = mirror.target / ".mirrornet" / head.contents_name(publisher.serial)
        assert not passed_on.exists() or good.startswith(passed_on.read_bytes())
        assert b"planted" not in (mirror.target / ".mirrornet" / "recent").read_bytes()
        assert mirror.pull(**options).way == "same"

    def test_what_a_run_had_no_use_for_is_not_passed_on(self, master: Master, mirror: Mirror, publisher: Publisher, tmp_path: Path) -> None:
        """Nobody has read it then."""
        publisher.key = tmp_path / "key"
        options = {**USUAL, "trusted_keys": [make_key(publisher.key)]}
        publisher.publish()
        edit(publisher)
        publisher.publish()
        name = head.contents_name(publisher.serial)
        SPOILT["longer"](publisher.own / name)
        publisher.write_recent()
        assert mirror.pull(**options).way == "manifest"
        assert is_same(mirror, master.tree)
        assert (mirror.target / ".mirrornet" / head.delta_name(publisher.serial)).exists()
        assert not (mirror.target / ".mirrornet" / name).exists()
        assert b"planted" not in (mirror.target / ".mirrornet" / "recent").read_bytes()

    def test_what_mirrornet_publishes(self, master: Master, mirror: Mirror) -> None:
        desk, options = Desk(master.base), {**USUAL, "sources": [master.url("own")]}
        for number in range(200):
            (master.tree / f"a-{number}").write_text("a")
        desk.publish()
        assert [mirror.pull(**options).way for dummy in range(3)] == ["plain", "manifest", "same"], log(mirror)
        (master.tree / "b").write_text("b")
        os.link(master.tree / "b", master.tree / "c")
        (master.tree / "d").symlink_to("b")
        (master.tree / "a-1").unlink()
        desk.publish()
        assert (mirror.pull(**options).way, connections(mirror)) == ("deltas", 1), log(mirror)
        assert describe(mirror.target) == describe(master.tree)
        (desk.own / "contents-3").write_text("of a call that was killed")
        (master.tree / "a-2").unlink()
        desk.publish()
        assert not (desk.own / "contents-3").exists()
