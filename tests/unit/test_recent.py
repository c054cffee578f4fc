# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that brings the latest lists together with the head: written, read, and what a run makes of a good, an old, a lying or a missing one."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Master, Mirror
from heads import Publisher
from hypothesis import given
from hypothesis import strategies as st
from mirrornet import head, recent
from mirrornet.head import Index, Listed
from mirrornet.places import RECENT
from publishing import Desk
from test_fast import USUAL, connections, is_same, log, next_tier, settle
from trees import Scramble

ROUNDS = int(os.environ.get("FAST_ROUNDS", "8"))
MEMBERS = {"index-7": b"index", "delta-7.gz": b"\0" * 9, "delta-6.gz": b""}


def text(members: dict[str, bytes]) -> bytes:
    return b"".join(b"%s %d\n" % (name.encode(), len(data)) + data for name, data in members.items())


def listed(own: Path, *sizes: int) -> Index:
    """An index whose deltas, in ``own``, have these sizes, the oldest first; the manifest is older than all."""
    for serial, size in enumerate(sizes, 2):
        (own / head.delta_name(serial)).write_bytes(os.urandom(size))
    index = Index(Listed(1, "0" * 64, 1), tuple(Listed(serial, "0" * 64, 1) for serial in range(2, len(sizes) + 2)))
    (own / head.index_name(index.serial)).write_bytes(b"index")
    return index


class TestFile:
    @pytest.mark.parametrize(
        ("sizes", "names"),
        [
            ((), ["index-1"]),
            ((10, 10), ["index-3", "delta-3.gz", "delta-2.gz"]),
            ((10, 40_000, 10), ["index-4", "delta-4.gz"]),
            ((10, 1_000_000), ["index-3", "delta-3.gz"]),
            ((10, 1_100_000), ["index-3"]),
            ((10, 20_000, 20_000, 10), ["index-5", "delta-5.gz", "delta-4.gz"]),
        ],
    )
    def test_has_the_latest_as_far_as_there_is_room(self, tmp_path: Path, sizes: tuple[int, ...], names: list[str]) -> None:
        data = recent.collect(tmp_path, listed(tmp_path, *sizes))
        found = recent.read(data)
        assert list(found) == names
        assert all(found[name] == (tmp_path / name).read_bytes() for name in names)
        assert len(data) < recent.LONGEST

    @pytest.mark.parametrize(
        ("sizes", "names"),
        [
            ((10, 10), ["index-3", "delta-3.gz", "contents-3", "delta-2.gz", "contents-2"]),
            ((10, 3_000_000), ["index-3", "delta-3.gz", "contents-3"]),
            ((10, 5_000_000), ["index-3", "delta-3.gz", "delta-2.gz", "contents-2"]),
            ((40_000, 10), ["index-3", "delta-3.gz", "contents-3", "delta-2.gz"]),
        ],
    )
    def test_has_what_their_small_files_hold(self, tmp_path: Path, sizes: tuple[int, ...], names: list[str]) -> None:
        index = listed(tmp_path, *(10 for dummy in sizes))
        for delta, size in zip(index.deltas, sizes):
            (tmp_path / head.contents_name(delta.serial)).write_bytes(os.urandom(size))
        data = recent.collect(tmp_path, index)
        assert list(recent.read(data)) == names
        assert len(data) < recent.LONGEST

    def test_ends_at_a_delta_that_is_missing(self, tmp_path: Path) -> None:
        index = listed(tmp_path, 10, 10, 10)
        (tmp_path / "delta-3.gz").unlink()
        assert list(recent.read(recent.collect(tmp_path, index))) == ["index-4", "delta-4.gz"]

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"index-7 5\ninde",
            b"index-7 05\nindex",
            b"index-0 5\nindex",
            b"index-7 5\nindex\n",
            b"delta-7.gz 1\nx",
            text(MEMBERS) + text({"index-7": b""}),
            text(MEMBERS) + text({"index-8": b""}),
            text(MEMBERS) + text({"delta-7.gz": b""}),
            text(MEMBERS) + text({"../../evil": b"x"}),
            text(MEMBERS) + text({"manifest-7.gz": b"x"}),
            text({"index-7": b"x" * recent.LONGEST}),
        ],
    )
    def test_nothing_is_read_of_what_is_no_such_file(self, data: bytes) -> None:
        assert recent.read(text(MEMBERS)) == MEMBERS
        assert recent.read(data) == {}

    @given(st.binary(max_size=300), st.integers(0, 60), st.integers(0, 60))
    def test_whatever_comes_is_read_to_the_end_or_not_at_all(self, more: bytes, cut: int, at: int) -> None:
        whole = text(MEMBERS)
        for data in (more, whole[:cut] + more, whole[:at] + more + whole[at + len(more) :]):
            found = recent.read(data)
            assert text(found) == data or not found
            assert all("/" not in name for name in found)


@pytest.fixture
def publisher(master: Master) -> Publisher:
    master.fill()
    return Publisher(master.tree, deltas=20)


def edit(publisher: Publisher) -> None:
    (publisher.tree / f"new-{publisher.serial}").write_text("new")
    (publisher.tree / "release-0" / "file-0.txt").write_text(f"text {publisher.serial}\n")


class TestRuns:
    def test_two_connections(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        for published in (1, 1, 3):
            for dummy in range(published):
                edit(publisher)
                publisher.publish()
            report = mirror.pull(**USUAL)
            assert (report.way, connections(mirror)) == ("deltas", 2), log(mirror)
            assert is_same(mirror, master.tree)
            assert (mirror.target / ".mirrornet" / RECENT).read_bytes() == (publisher.own / RECENT).read_bytes(), "for the next mirror"
            report = mirror.pull(**USUAL)
            assert (report.way, connections(mirror)) == ("same", 1)
            assert report.received < 1000

    def test_a_mirror_of_a_mirror(self, master: Master, mirror: Mirror, publisher: Publisher, tmp_path: Path) -> None:
        settle(mirror, publisher)
        with next_tier(mirror, tmp_path) as second:
            edit(publisher)
            publisher.publish()
            mirror.pull(**USUAL)
            assert (second.pull(**USUAL).way, connections(second)) == ("deltas", 2), log(second)
            # As the master has it, to the second, or each of two sources would send it again.
            mine, theirs = (publisher.own / RECENT).stat(), (second.target / ".mirrornet" / RECENT).stat()
            assert (mine.st_size, mine.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)
            assert second.pull(**USUAL, sources=[master.url()]).way == "same"

    def test_it_is_a_copy_that_nobody_needs(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        for spoil in SPOILT.values():
            edit(publisher)
            publisher.publish()
            former = (publisher.own / RECENT).read_bytes()
            edit(publisher)
            publisher.publish()
            spoil(publisher.own / RECENT, former)
            report = mirror.pull(**USUAL)
            assert (report.outcome, report.way) == ("updated", "deltas"), log(mirror)
            assert is_same(mirror, master.tree)
            assert mirror.pull(**USUAL).way == "same"

    @pytest.mark.parametrize("contents", [False, True])
    def test_random_edits_with_whatever_lies_there(self, master: Master, mirror: Mirror, contents: bool) -> None:
        """However old, torn or wrong the file is: the mirror gets the master's tree, and by its head."""
        chance, publisher, scramble = random.Random(5), Publisher(master.tree, contents=contents), Scramble(master.tree, 5)
        options = {**USUAL, "sources": [master.url("own")]}
        scramble.edit(40)
        settle(mirror, publisher, **options)
        former = b""
        for number in range(ROUNDS):
            for dummy in range(1 + number % 3):
                scramble.edit(5)
                publisher.publish()
            present = (publisher.own / RECENT).read_bytes()
            chance.choice(list(SPOILT.values()))(publisher.own / RECENT, former)
            report = mirror.pull(**options)
            assert report.way == "deltas", log(mirror)
            assert is_same(mirror, master.tree), f"round {number}: {log(mirror)}"
            former = present

    def test_what_mirrornet_publishes(self, master: Master, mirror: Mirror) -> None:
        desk, options = Desk(master.base), {**USUAL, "sources": [master.url("own")]}
        for number in range(200):
            (master.tree / f"a-{number}").write_text("a")
        desk.publish()
        assert [mirror.pull(**options).way for dummy in range(3)] == ["plain", "manifest", "same"], log(mirror)
        for number in range(3):
            (master.tree / f"b-{number}").write_text("b")
            assert desk.publish().outcome == "published"
            assert (mirror.pull(**options).way, connections(mirror)) == ("deltas", 1), log(mirror)
            assert is_same(mirror, master.tree)
            mine, theirs = desk.own / RECENT, mirror.target / ".mirrornet" / RECENT
            assert mine.read_bytes() == theirs.read_bytes()
            assert mine.stat().st_mtime_ns == theirs.stat().st_mtime_ns == (desk.own / "head").stat().st_mtime_ns


def forge(path: Path) -> None:
    """The right index, and another delta under the right name."""
    found = recent.read(path.read_bytes())
    path.write_bytes(text({name: data if name.startswith("index") else b"\x1f\x8b" + os.urandom(50) for name, data in found.items()}))


#: What can be where the file should be; each gets its path and its former content.
SPOILT: dict[str, Callable[[Path, bytes], object]] = {
    "missing": lambda path, former: path.unlink(),
    "empty": lambda path, former: path.write_bytes(b""),
    "torn": lambda path, former: path.write_bytes(path.read_bytes()[:-20]),
    "older": lambda path, former: path.write_bytes(former),
    "garbage": lambda path, former: path.write_bytes(os.urandom(1000)),
    "forged": lambda path, former: forge(path),
    "too long": lambda path, former: path.write_bytes(bytes(recent.LONGEST + 1)),
    "unreadable": lambda path, former: path.chmod(0),
    "a symlink": lambda path, former: (path.unlink(), path.symlink_to("head")),
}
