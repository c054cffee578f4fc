# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast path: what a pull does with the head of a source, against real daemons and compared with what rsync would have done."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Master, Mirror, free_port
from heads import Publisher
from mirrornet import bring, spool
from publishing import Desk
from trees import Scramble, describe

ROUNDS = int(os.environ.get("FAST_ROUNDS", "8"))
USUAL: dict[str, Any] = {"max_delete_percent": 100}


@pytest.fixture
def publisher(master: Master) -> Publisher:
    master.fill()
    return Publisher(master.tree)


def log(mirror: Mirror) -> str:
    return mirror.places.log("tree").read_text()


def connections(mirror: Mirror) -> int:
    """How many calls of rsync the last run made."""
    return sum(" -- " in line and "rsync://" in line for line in log(mirror).splitlines())


def settle(mirror: Mirror, publisher: Publisher, **options: Any) -> None:
    """First copy, and the run that finds out that the source's head stands for it."""
    publisher.publish()
    assert mirror.pull(**{**USUAL, **options}).way == "plain"
    report = mirror.pull(**{**USUAL, **options})
    assert (report.way, report.files, report.deletions) == ("manifest", 0, 0), log(mirror)
    assert mirror.pull(**{**USUAL, **options}).way == "same", log(mirror)


@contextmanager
def next_tier(mirror: Mirror, base: Path) -> Iterator[Mirror]:
    """A mirror that pulls from this one alone, and has its tree and its head already."""
    server = Master(base / "between", free_port())
    server.base.mkdir()
    server.tree.symlink_to(mirror.target)
    server.start()
    try:
        second = Mirror(base / "second", server)
        second.target.mkdir(parents=True)
        assert [second.pull(**USUAL).way for dummy in range(3)] == ["plain", "manifest", "same"]
        yield second
    finally:
        server.stop()


def is_same(mirror: Mirror, tree: Path) -> bool:
    return describe(mirror.target) == describe(tree)


def own_head(mirror: Mirror) -> bytes:
    return (mirror.target / ".mirrornet" / "head").read_bytes()


class TestWays:
    def test_same(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.way, connections(mirror)) == ("unchanged", "same", 1)
        assert report.received < 1000
        assert report.serial == 1
        assert own_head(mirror) == (publisher.own / "head").read_bytes()

    def test_deltas(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        (master.tree / "new").write_text("new")
        publisher.publish()
        (master.tree / "release-0" / "file-0.txt").unlink()
        publisher.publish()
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.way, report.files, report.size, report.deletions) == ("updated", "deltas", 1, 3, 1)
        assert connections(mirror) == 2, "head with lists, content"
        assert is_same(mirror, master.tree)
        assert mirror.pull(**USUAL).way == "same"
        assert not (mirror.target / ".mirrornet" / "incoming").exists()

    def test_manifest(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        """Too far behind: the deltas that would be needed are gone."""
        settle(mirror, publisher)
        for number in range(3):
            (master.tree / f"new-{number}").write_text("new")
            publisher.publish()
        assert publisher.index is not None
        publisher.index = None  # As a master that keeps no deltas.
        publisher.serial += 1
        publisher.publish()
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.way, report.files) == ("updated", "manifest", 3)
        assert is_same(mirror, master.tree)
        assert mirror.pull(**USUAL).way == "same"

    def test_a_source_without_a_head_is_asked_once_a_day(self, master: Master, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        master.fill()
        assert mirror.pull().outcome == "updated"
        assert connections(mirror) == 3
        assert mirror.places.errors("tree").read_bytes() == b""
        assert (mirror.pull().way, connections(mirror)) == ("plain", 1)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 86401)
        assert (mirror.pull().way, connections(mirror)) == ("plain", 2)

    @pytest.mark.parametrize(
        "options",
        [{"fast_path": False}, {"exclude": ["*.iso"]}, {"filters": ["- *.iso"]}, {"rsync_options": ["--max-size=1g"]}, {"switch": True}],
        ids=lambda options: next(iter(options)),
    )
    def test_jobs_that_take_another_tree_ask_for_no_head(self, mirror: Mirror, publisher: Publisher, options: dict[str, Any]) -> None:
        publisher.publish()
        assert mirror.pull(**{**USUAL, **options}).way == "plain"
        assert "head" not in log(mirror)
        assert (mirror.pull(**{**USUAL, **options}).outcome, connections(mirror)) == ("unchanged", 1)

    def test_options_for_the_way_content_travels_change_nothing(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher, rsync_options=["--compress"], bandwidth_limit=5000)
        (master.tree / "new").write_text("new")
        publisher.publish()
        assert mirror.pull(**USUAL, rsync_options=["--compress"], bandwidth_limit=5000).way == "deltas"
        assert is_same(mirror, master.tree)
        assert "--compress --bwlimit=5000" in log(mirror) or "--bwlimit=5000 --compress" in log(mirror)

    def test_a_large_file_travels_as_its_changes(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        large = master.tree / "large"
        large.write_bytes(os.urandom(3 << 20))
        settle(mirror, publisher)
        with large.open("r+b") as file:
            file.seek(1 << 20)
            file.write(b"other")
        publisher.publish()
        report = mirror.pull(**USUAL)
        assert (report.way, is_same(mirror, master.tree)) == ("deltas", True)
        assert report.received < 1 << 20

    def test_what_stands_in_the_way_of_a_small_file(
        self, master: Master, mirror: Mirror, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a daemon that can't give it without its directories: it comes with them, and what has come already stays."""
        monkeypatch.setattr(bring, "_MANY", 1)
        settle(mirror, publisher)
        for name in ("a", "b", "release-0/c", "release-1/c"):
            (publisher.tree / name).write_text("new")
        publisher.publish()
        flat = mirror.target / ".mirrornet" / "incoming" / "flat"
        (flat / "b" / "full").mkdir(parents=True)
        report = mirror.pull(**USUAL)
        assert (report.way, report.outcome) == ("deltas", "updated"), log(mirror)
        assert is_same(mirror, master.tree)
        assert log(mirror).count("|b\n") == 1
        assert log(mirror).count("|a\n") == 1

    @pytest.mark.parametrize("name", ["a", "release-0/c"])
    def test_what_an_earlier_run_left_in_the_way(self, master: Master, mirror: Mirror, publisher: Publisher, name: str) -> None:
        settle(mirror, publisher)
        (publisher.tree / name).write_text("new")
        publisher.publish()
        (mirror.target / ".mirrornet" / "incoming" / "files" / name / "full").mkdir(parents=True)
        report = mirror.pull(**USUAL)
        assert (report.way, report.outcome) == ("deltas", "updated"), log(mirror)
        assert is_same(mirror, master.tree)

    def test_a_directory_below_a_module(self, master: Master, mirror: Mirror, tmp_path: Path) -> None:
        top = master.tree / "pub" / "deep er"
        (top / "a").mkdir(parents=True)
        (top / "a" / "one").write_text("one")
        publisher, options = Publisher(top), {"sources": [f"{master.url()}pub/deep er/"]}
        settle(mirror, publisher, **options)
        (top / "a" / "two").write_text("two")
        publisher.publish()
        assert mirror.pull(**USUAL, **options).way == "deltas", log(mirror)
        assert is_same(mirror, top)

    def test_a_check_file_does_not_hide_a_head(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        """Published after the check file was changed: the check file is old news, the head isn't."""
        (master.tree / "lastupdate").write_text("1")
        options = {**USUAL, "check_file": "lastupdate"}
        publisher.publish()
        mirror.pull(**options)
        mirror.pull(**options)
        assert mirror.pull(**options).way == "same"
        (master.tree / "new").write_text("new")
        (master.tree / "lastupdate").write_text("2")
        assert mirror.pull(**options).way == "same"
        publisher.publish()
        assert mirror.pull(**options).way == "deltas"
        assert is_same(mirror, master.tree)


class TestEdits:
    """Whatever is done to the master, its mirror gets the tree that rsync would make."""

    @pytest.mark.parametrize(("seed", "content"), list(enumerate(["one by one", "with the deltas", "as if it were much"])))
    def test_random_edits(
        self, master: Master, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, content: str
    ) -> None:
        publisher, scramble = Publisher(master.tree, contents=content == "with the deltas"), Scramble(master.tree, seed)
        if content == "as if it were much":
            monkeypatch.setattr(bring, "_MANY", 1)
            monkeypatch.setattr(spool, "_BLOCK", 1)
        scramble.edit(40)
        options = {**USUAL, "sources": [master.url("own")]}
        settle(mirror, publisher, **options)
        for number in range(ROUNDS):
            for dummy in range(1 + number % 3):
                scramble.edit(6)
                publisher.publish()
            report = mirror.pull(**options)
            assert (report.outcome, report.way) == ("updated", "deltas"), f"round {number}: {log(mirror)}"
            assert is_same(mirror, master.tree), f"round {number}"
            assert ("--no-relative" in log(mirror)) is (content == "as if it were much") or not report.files
            assert mirror.pull(**options).way == "same"
        plain = tmp_path / "plain"
        for dummy in range(2):  # rsync's making of hard links disturbs times of directories, which a second call puts right.
            subprocess.run(["rsync", "-aH", "--delete", "--exclude=/.mirrornet", f"{master.tree}/", f"{plain}/"], check=True)
        # A time that differs by less than a second is the same to rsync.
        seconds = [[entry._replace(mtime=entry.mtime // 10**9) for entry in describe(top)] for top in (plain, mirror.target)]
        assert seconds[0][1:] == seconds[1][1:]

    @pytest.mark.parametrize("seed", range(2))
    def test_also_to_the_mirror(self, master: Master, mirror: Mirror, seed: int) -> None:
        """Somebody edits the mirror, too: whatever a run meets, the next full check has put right."""
        publisher, scramble, vandal = (
            Publisher(master.tree, contents=seed > 0),
            Scramble(master.tree, 50 + seed),
            Scramble(mirror.target, 70 + seed),
        )
        scramble.edit(40)
        options = {**USUAL, "sources": [master.url("own")]}
        settle(mirror, publisher, **options)
        for dummy in range(ROUNDS):
            scramble.edit(6)
            vandal.edit(3)
            (mirror.target / ".mirrornet").mkdir(exist_ok=True)
            publisher.publish()
            assert mirror.pull(**options).outcome == "updated", log(mirror)
            report = mirror.pull(**options, full_check=0)
            assert report.outcome in ("updated", "unchanged"), log(mirror)
        assert mirror.run("verify", "--repair", "tree").returncode == 0
        mirror.pull(**options)
        assert is_same(mirror, master.tree)


def test_what_mirrornet_publishes(master: Master, mirror: Mirror, tmp_path: Path) -> None:
    """Both halves of the product, through edits."""
    desk, scramble = Desk(master.base), Scramble(master.tree, 7)
    options = {**USUAL, "sources": [master.url("own")]}
    scramble.edit(40)
    assert desk.publish().outcome == "published"
    ways = [mirror.pull(**options).way for dummy in range(3)]
    assert ways == ["plain", "manifest", "same"], log(mirror)
    for number in range(ROUNDS):
        for dummy in range(1 + number % 2):
            scramble.edit(5)
            assert desk.publish().outcome in ("published", "unchanged")
        assert mirror.pull(**options).way in ("deltas", "same"), log(mirror)
        assert is_same(mirror, master.tree), f"round {number}"
