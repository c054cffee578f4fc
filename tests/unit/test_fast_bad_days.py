# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad days of the fast path: heads that lie, trees that don't fit, runs that are killed. The tree is right in the end, and nothing else is touched."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Master, Mirror, free_port, tree
from heads import Publisher
from mirrornet import apply, bring, coming, fast, follow, pull
from mirrornet.entry import Entry
from mirrornet.errors import Exit
from mirrornet.record import replace
from mirrornet.report import Report, utc
from mirrornet.run import Run
from publishing import published
from test_change import Killed, next_step, remove
from test_fast import USUAL, is_same, log, next_tier, own_head, settle
from trees import Scramble, delta, describe, edit_in_place


@pytest.fixture
def publisher(master: Master) -> Publisher:
    master.fill()
    return Publisher(master.tree)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What no head may make a run touch: beside the target, and where a symlink in the tree points to."""
    top = tmp_path / "outside"
    top.mkdir()
    (top / "file-0.txt").write_text("precious")
    return top


def lying_file(path: bytes) -> Entry:
    return Entry("f", path, 0o644, 0, 1, "A" * 43)


def with_entry(*more: Entry) -> Callable[[Publisher], None]:
    """A list that has something that no tree has, in the way of a delta and of a manifest."""

    def lie(publisher: Publisher) -> None:
        now = describe(publisher.tree)
        publisher.publish(entries=[*now, *more], records=[*delta(publisher.entries, now), *more])

    return lie


def index_of_another(publisher: Publisher) -> None:
    publisher.lie = lambda one: replace(one, index="0" * 64)
    publisher.publish()


def wrong_counts(publisher: Publisher) -> None:
    publisher.lie = lambda one: replace(one, entries=one.entries + 1)
    publisher.publish()


def bomb(publisher: Publisher) -> None:
    """Lists that unpack to far more than they should."""
    publisher.publish()
    (publisher.own / "recent").unlink()
    for path in publisher.own.glob("*.gz"):
        squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
        path.write_bytes(b"".join(squeeze.compress(b"\0" * (1 << 20)) for dummy in range(50)) + squeeze.flush())


def garbage(publisher: Publisher) -> None:
    (publisher.own / "head").write_bytes(b"\0" * 100_000)


def wrong_lists(publisher: Publisher) -> None:
    publisher.publish()
    (publisher.own / "recent").unlink()
    for path in publisher.own.glob("*.gz"):
        path.write_bytes(b"nothing of the kind")


def no_lists(publisher: Publisher) -> None:
    publisher.publish()
    for path in (*publisher.own.glob("*-*"), publisher.own / "recent"):
        path.unlink()


def changed_since(publisher: Publisher) -> None:
    """The master has changed its tree and not published that yet."""
    publisher.publish()
    (publisher.tree / "new").write_text("newer")


LIES = {
    "upwards": with_entry(lying_file(b"../outside/evil")),
    "absolute": with_entry(lying_file(b"/tmp/evil")),
    "twice": with_entry(lying_file(b"z"), lying_file(b"z")),
    "unsorted": with_entry(lying_file(b"z"), lying_file(b"y")),
    "below a symlink": with_entry(lying_file(b"way/evil")),
    "in our own directory": with_entry(lying_file(b".mirrornet/report.json")),
    "without content": with_entry(lying_file(b"z")),
    "index of another": index_of_another,
    "wrong counts": wrong_counts,
    "bomb": bomb,
    "garbage": garbage,
    "wrong lists": wrong_lists,
    "no lists": no_lists,
    "changed since": changed_since,
}


def no_deltas(publisher: Publisher) -> None:
    """As a master that keeps too few."""
    publisher.index = None
    publisher.serial += 1


def from_nothing(publisher: Publisher) -> None:
    """As a master that has lost all that it knew: its lists get names that mirrors have lists of other content under."""
    publisher.new_epoch("b")
    publisher.serial = 0
    for path in publisher.own.iterdir():
        path.unlink()


#: What a master does so that no delta leads from what its mirrors have to what it publishes next.
BREAKS: dict[str, Callable[[Publisher], None]] = {
    "new-epoch": lambda publisher: publisher.new_epoch("b"),
    "no-deltas": no_deltas,
    "from-nothing": from_nothing,
}


@pytest.mark.parametrize("break_chain", BREAKS)
class TestEditedInPlace:
    """The same size and time, other content, and no delta that tells: size and time are what rsync goes by, but a head stands for the content."""

    def test_since_the_tree_that_is_held(self, master: Master, mirror: Mirror, publisher: Publisher, break_chain: str) -> None:
        settle(mirror, publisher)
        for number in range(3):
            (master.tree / f"new-{number}").write_text("new")
            publisher.publish()
        assert mirror.pull(**USUAL).way == "deltas"
        edit_in_place(master.tree / "release-0" / "file-0.txt")
        (master.tree / "release-1" / "file-1.txt").chmod(0o600)
        BREAKS[break_chain](publisher)
        publisher.publish()
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.way, report.files) == ("updated", "manifest", 1), log(mirror)
        assert is_same(mirror, master.tree)
        assert "all of it is read" not in log(mirror), "the former list tells which files may have changed"
        assert mirror.pull(**USUAL).way == "same"

    def test_since_a_tree_of_which_the_list_is_gone(self, master: Master, mirror: Mirror, publisher: Publisher, break_chain: str) -> None:
        settle(mirror, publisher)
        edit_in_place(master.tree / "release-0" / "file-0.txt")
        BREAKS[break_chain](publisher)
        publisher.publish()
        (mirror.target / ".mirrornet" / "manifest-1.gz").write_bytes(b"damaged")
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.way, report.files) == ("updated", "manifest", 1), log(mirror)
        assert is_same(mirror, master.tree)
        assert "all of it is read" in log(mirror)

    def test_since_the_first_copy(self, master: Master, mirror: Mirror, publisher: Publisher, break_chain: str) -> None:
        """rsync has brought the tree, and no head of it was ours yet; also if rsync has looked again since."""
        publisher.publish()
        assert mirror.pull(**USUAL).way == "plain"
        edit_in_place(master.tree / "release-0" / "file-0.txt")
        BREAKS[break_chain](publisher)
        publisher.publish()
        assert mirror.pull(**USUAL, full_check=0).way == "plain"
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.way) == ("updated", "manifest"), log(mirror)
        assert is_same(mirror, master.tree)

    def test_back_to_what_it_was_before_a_run_that_was_interrupted(
        self, master: Master, mirror: Mirror, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, break_chain: str
    ) -> None:
        """The list of the former tree and the next one agree; what the interrupted run had brought is in neither."""
        settle(mirror, publisher)
        file = master.tree / "release-0" / "file-0.txt"
        content = file.read_bytes()
        edit_in_place(file)
        publisher.publish()
        with monkeypatch.context() as broken:
            broken.setattr(apply._Work, "finish", lambda *words: 1 / 0)
            assert mirror.pull(**USUAL).kind == "internal"
        assert (mirror.target / "release-0" / "file-0.txt").read_bytes() == file.read_bytes()
        edit_in_place(file, content)
        BREAKS[break_chain](publisher)
        publisher.publish()
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.way, report.files) == ("updated", "manifest", 1), log(mirror)
        assert is_same(mirror, master.tree)

    def test_since_a_tree_that_came_back_from_a_snapshot(
        self, master: Master, mirror: Mirror, publisher: Publisher, tmp_path: Path, break_chain: str
    ) -> None:
        """The mirror's tree is older than what its state says."""
        settle(mirror, publisher)
        saved = tmp_path / "saved"
        subprocess.run(["cp", "-a", mirror.target, saved], check=True)
        edit_in_place(master.tree / "release-0" / "file-0.txt")
        publisher.publish()
        assert mirror.pull(**USUAL).way == "deltas"
        remove(mirror.target)
        saved.rename(mirror.target)
        BREAKS[break_chain](publisher)
        publisher.publish()
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.way, report.files) == ("updated", "manifest", 1), log(mirror)
        assert is_same(mirror, master.tree)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.replace(" ", "-"))
def test_a_lie_ends_in_a_comparison_of_everything(master: Master, mirror: Mirror, publisher: Publisher, outside: Path, lie: str) -> None:
    (master.tree / "way").symlink_to(outside)
    settle(mirror, publisher)
    (master.tree / "new").write_text("new")
    (master.tree / "release-0" / "file-0.txt").unlink()
    LIES[lie](publisher)
    report = mirror.pull(**USUAL)
    assert (report.outcome, report.way) == ("updated", "plain"), log(mirror)
    assert tree(mirror.target) == tree(master.tree)
    assert [path.name for path in outside.iterdir()] == ["file-0.txt"]
    assert "isn't followed" in log(mirror)
    assert not (mirror.target / ".mirrornet" / "head").exists(), "whoever pulls from here would take it for this tree's"
    report = mirror.pull(**USUAL)
    assert (report.outcome, report.way) == ("unchanged", "plain"), "the same head isn't tried again"
    publisher.lie = lambda one: one
    publisher.new_epoch("b")
    publisher.publish()
    assert mirror.pull(**USUAL).way == "manifest", log(mirror)
    assert mirror.pull(**USUAL).way == "same"
    assert is_same(mirror, master.tree)


def test_other_counts_for_the_same_tree_are_not_believed(master: Master, mirror: Mirror, publisher: Publisher) -> None:
    settle(mirror, publisher)
    former = own_head(mirror)
    publisher.write(replace(publisher.head(), entries=publisher.head().entries + 5))
    assert mirror.pull(**USUAL).way == "plain"
    assert own_head(mirror) == former


class TestWhatDoesNotFit:
    def test_a_delta_for_another_tree(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        """Its list of everything is right, and taken instead."""
        settle(mirror, publisher)
        subprocess.run(["rm", "-r", master.tree / "release-0"], check=True)
        (master.tree / "new").write_text("new")
        publisher.publish(
            records=[entry for entry in delta(publisher.entries, describe(master.tree)) if entry.path != b"release-0/file-0.txt"]
        )
        publisher.new_epoch(publisher.epoch[0])
        publisher.index = None
        now = describe(master.tree)
        report = mirror.pull(**USUAL)
        assert report.way in ("manifest", "plain")
        assert describe(mirror.target)[1:] == now[1:] or tree(mirror.target) == tree(master.tree)

    def test_other_content_of_the_same_size_and_time(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        """rsync passes it over; the digests of what has changed since the first copy don't."""
        publisher.publish()
        mirror.pull(**USUAL)
        file = master.tree / "release-0" / "file-0.txt"
        found = file.stat()
        file.write_bytes(b"x" * found.st_size)
        os.utime(file, ns=(found.st_mtime_ns, found.st_mtime_ns))
        publisher.publish()
        assert mirror.pull(**USUAL).way == "manifest"
        assert is_same(mirror, master.tree)

    def test_touched_by_hand_and_met(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        """A file that should be there isn't: noticed as soon as the numbers don't add up, and the whole tree is looked at."""
        settle(mirror, publisher)
        (mirror.target / "release-0" / "file-0.txt").unlink()
        (mirror.target / "release-1" / "foreign").write_text("mine")
        assert mirror.pull(**USUAL).way == "same", "a quiet run looks at no tree"
        (master.tree / "release-0" / "file-0.txt").write_text("other")
        publisher.publish()
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.way, report.deletions) == ("updated", "manifest", 1)
        assert is_same(mirror, master.tree)

    def test_touched_by_hand_is_found_at_the_full_check(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        (mirror.target / "release-0" / "file-0.txt").unlink()
        assert mirror.pull(**USUAL, full_check=0).way == "plain"
        assert tree(mirror.target) == tree(master.tree)
        assert mirror.pull(**USUAL).way == "manifest"
        assert mirror.pull(**USUAL).way == "same"

    def test_a_quiet_full_check_leaves_the_head(self, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        assert mirror.pull(**USUAL, full_check=0).way == "plain"
        assert mirror.pull(**USUAL).way == "same"

    def test_full_checks_are_spread(self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        """On each host within a week of the last one, at another time than on others; and at once if the clock was set back."""
        job, start = mirror.define(), time.time()
        due = []
        for host in ("one", "two", "three"):
            record = Report(job="tree", host=host, started="", last_compared=utc(start))
            run: Any = SimpleNamespace(job=job, record=record)
            for hour in range(-1, 7 * 24 + 1):
                monkeypatch.setattr(time, "time", lambda hour=hour: start + hour * 3600)
                if fast.is_due(run) and hour >= 0:
                    due.append(hour)
                    break
                assert fast.is_due(run) is (hour < 0)
        assert len(set(due)) == 3
        assert all(0 < hour <= 7 * 24 for hour in due)

    def test_another_file_system_in_the_tree(
        self, master: Master, mirror: Mirror, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing can be renamed across; rsync copies."""
        settle(mirror, publisher)
        (master.tree / "release-0" / "new").write_text("new")
        publisher.publish()
        rename = os.rename

        def refuse(source: Any, target: Any, **options: Any) -> None:
            if target == b"new":
                raise OSError(18, "Invalid cross-device link")
            rename(source, target, **options)

        monkeypatch.setattr(os, "rename", refuse)
        assert mirror.pull(**USUAL).way == "plain"
        assert tree(mirror.target) == tree(master.tree)


class TestGuards:
    def test_exact_numbers_and_an_approval(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        for path in sorted((master.tree / "release-0").iterdir()):
            path.unlink()
        publisher.publish()
        held = mirror.pull(max_delete=2)
        assert (held.outcome, held.kind) == ("held", "too_many_deletions")
        assert "lacks 3 of the 13 entries" in held.message
        assert (mirror.target / "release-0" / "file-0.txt").exists()
        assert own_head(mirror) != (publisher.own / "head").read_bytes()
        assert mirror.run("approve", "tree").returncode == 0
        report = mirror.pull(max_delete=2)
        assert (report.outcome, report.way, report.deletions) == ("updated", "deltas", 3)
        assert is_same(mirror, master.tree)

    def test_an_approval_counts_whichever_way_a_run_takes(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        (master.tree / "release-0" / "odd\\#101\n\xff").write_text("x")
        settle(mirror, publisher)
        subprocess.run(["rm", "-r", master.tree / "release-0"], check=True)
        publisher.publish()
        assert mirror.pull().kind == "too_many_deletions"
        assert mirror.run("approve", "tree").returncode == 0
        report = mirror.pull(fast_path=False)
        assert (report.outcome, report.deletions) == ("updated", 5), report.line()

    @pytest.mark.parametrize("max_delete", [14, 13, 5])
    def test_the_limits_are_for_the_run(self, master: Master, mirror: Mirror, publisher: Publisher, max_delete: int) -> None:
        """Twelve files go, their directory can't, and another way finds what is in it: all of that is told of, and held against one limit."""
        gone = master.tree / "a-gone"
        gone.mkdir()
        for number in range(12):
            (gone / f"file-{number}").write_text("x")
        settle(mirror, publisher)
        subprocess.run(["rm", "-r", gone], check=True)
        publisher.publish()
        (mirror.target / "a-gone" / "foreign").write_text("mine")
        options = {**USUAL, "max_delete": max_delete}
        report = mirror.pull(**options)
        if max_delete == 5:
            assert (report.outcome, report.kind, report.deletions) == ("held", "too_many_deletions", 0)
            assert mirror.run("approve", "tree").returncode == 0
            report = mirror.pull(**options)
        assert log(mirror).count("*deleting") == report.deletions
        if max_delete == 13:
            assert (report.outcome, report.kind, report.deletions) == ("held", "too_many_deletions", 12), log(mirror)
            assert "after 12 that this run has deleted already, more than max_delete of 13; nothing more was deleted" in report.message
        else:
            assert (report.outcome, report.deletions, report.way) == ("updated", 14, "manifest"), log(mirror)
            assert is_same(mirror, master.tree)

    def test_emptied(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        for path in master.tree.iterdir():
            if path.name != ".mirrornet":
                subprocess.run(["rm", "-r", path], check=True)
        publisher.publish()
        assert mirror.pull(**USUAL).kind == "source_empty"


class TestEpochs:
    def test_a_source_that_is_behind_is_passed_over(self, master: Master, mirror: Mirror, publisher: Publisher, tmp_path: Path) -> None:
        settle(mirror, publisher)
        subprocess.run(["cp", "-a", master.tree, tmp_path / "old"], check=True)
        (master.tree / "new").write_text("new")
        publisher.publish()
        assert mirror.pull(**USUAL).way == "deltas"
        behind = Master(tmp_path / "behind", free_port())
        behind.base.mkdir()
        (tmp_path / "old").rename(behind.tree)
        behind.start()
        try:
            report = mirror.pull(**USUAL, sources=[behind.url()])
            assert (report.outcome, report.kind) == ("failed", "stale")
            assert is_same(mirror, master.tree)
            report = mirror.pull(**USUAL, sources=[behind.url(), master.url()])
            assert (report.outcome, report.source, len(report.passed_over)) == ("unchanged", master.url(), 1)
        finally:
            behind.stop()

    def test_a_master_that_was_set_back_begins_a_new_epoch(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        for name in ("one", "two"):
            (master.tree / name).write_text(name)
            publisher.publish()
        assert mirror.pull(**USUAL).way == "deltas"
        (master.tree / "two").unlink()
        publisher.new_epoch("b")
        publisher.publish()
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.way, report.deletions) == ("updated", "manifest", 1)
        assert is_same(mirror, master.tree)

    @pytest.mark.parametrize("since", [0, 1, 2, 3, 4])
    def test_a_master_that_came_back_from_a_snapshot(self, master: Master, mirror: Mirror, publisher: Publisher, since: int) -> None:
        """It doesn't know what it had published, and gives the same serials to other trees: lower ones than the mirror's, the same, higher ones."""
        settle(mirror, publisher)
        edited, time_ns = master.tree / "release-0" / "file-0.txt", master.tree.stat().st_mtime_ns
        before, head, content = (
            (publisher.serial, publisher.index, publisher.entries),
            (publisher.own / "head").read_bytes(),
            edited.read_bytes(),
        )
        for name in ("lost", "gone"):
            (master.tree / name).write_text(name)
            edit_in_place(edited, name.encode())
            publisher.publish()
        assert mirror.pull(**USUAL).way == "deltas"
        former = own_head(mirror)
        publisher.serial, publisher.index, publisher.entries = before
        (publisher.own / "head").write_bytes(head)
        edit_in_place(edited, content)
        for name in ("lost", "gone"):
            (master.tree / name).unlink()
        os.utime(master.tree, ns=(time_ns, time_ns))
        for number in range(since):
            (master.tree / f"new-{number}").write_text("new")
            publisher.publish()
        if since < 2:
            for options in ({}, {"full_check": 0}):
                report = mirror.pull(**USUAL, **options)
                assert (report.outcome, report.kind) == ("failed", "stale")
                assert "mirrornet publish --anew" in report.remedy
                assert own_head(mirror) == former
            assert mirror.run("approve", "tree").returncode == 0
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.way, report.deletions, report.files) == ("updated", "manifest", 2, since + 1), log(mirror)
        assert is_same(mirror, master.tree)
        assert mirror.pull(**USUAL).way == "same"
        (master.tree / "later").write_text("later")
        publisher.publish()
        assert mirror.pull(**USUAL).way == "deltas"
        assert is_same(mirror, master.tree)

    def test_an_approval_of_an_older_serial_outlasts_the_full_check(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        """rsync makes the tree the older one then, and its head is only followed after that; perhaps with another one published meanwhile."""
        settle(mirror, publisher)
        before, head = (publisher.serial, publisher.index, publisher.entries), (publisher.own / "head").read_bytes()
        for number in range(4):
            (master.tree / f"lost-{number}").write_text("lost")
            publisher.publish()
        assert mirror.pull(**USUAL).way == "deltas"
        publisher.serial, publisher.index, publisher.entries = before
        (publisher.own / "head").write_bytes(head)
        for number in range(4):
            (master.tree / f"lost-{number}").unlink()
        publisher.publish()
        assert mirror.pull(**USUAL).kind == "stale"
        assert mirror.run("approve", "tree").returncode == 0
        assert mirror.pull(**USUAL, full_check=0).way == "plain"
        (master.tree / "new").write_text("new")
        publisher.publish()
        assert mirror.pull(**USUAL).way == "manifest", log(mirror)
        assert is_same(mirror, master.tree)
        (publisher.own / "head").write_bytes(head)
        assert mirror.pull(**USUAL).kind == "stale", "an older one again is another matter"

    def test_an_approval_of_an_older_serial_is_for_just_that_one(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        before, head = (publisher.serial, publisher.index, publisher.entries), (publisher.own / "head").read_bytes()
        for dummy in range(4):
            publisher.publish()
        assert mirror.pull(**USUAL).way == "deltas"
        publisher.serial, publisher.index, publisher.entries = before
        (publisher.own / "head").write_bytes(head)
        assert mirror.pull(**USUAL).kind == "stale"
        assert mirror.run("approve", "tree").returncode == 0
        publisher.publish()
        assert mirror.pull(**USUAL).kind == "stale"
        publisher.new_epoch("b")
        publisher.publish()
        assert mirror.pull(**USUAL).outcome in ("unchanged", "updated")
        assert mirror.run("approve", "tree").returncode != 0, "nothing is held any more"

    def test_a_head_that_nobody_renews_does_not_take_a_tree_back(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        """Its operator has stopped publishing, and the tree moves on."""
        settle(mirror, publisher)
        (master.tree / "later").write_text("later")
        assert mirror.pull(**USUAL, full_check=0).way == "plain"
        assert tree(mirror.target) == tree(master.tree)
        for dummy in range(3):
            assert mirror.pull(**USUAL).way == "plain"
            assert tree(mirror.target) == tree(master.tree)


class TestTiers:
    def test_a_mirror_of_a_mirror(self, master: Master, mirror: Mirror, publisher: Publisher, tmp_path: Path) -> None:
        """The same ways, without a word from the master."""
        settle(mirror, publisher)
        with next_tier(mirror, tmp_path) as third:
            assert own_head(third) == own_head(mirror)
            for number in range(7):
                (master.tree / f"new-{number}").write_text("new")
                publisher.publish()
                if number % 3 == 2:
                    continue  # Two at once.
                assert mirror.pull(**USUAL).way == "deltas"
                assert third.pull(**USUAL).way == "deltas", log(third)
                assert is_same(third, master.tree)
                assert third.pull(**USUAL).way == "same"
                assert own_head(third) == own_head(mirror) == (publisher.own / "head").read_bytes()

    def test_what_nobody_needs_any_more_goes(
        self, master: Master, mirror: Mirror, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settle(mirror, publisher)
        monkeypatch.setattr(bring, "_GRACE", -60)
        (master.tree / "new").write_text("new")
        publisher.publish()
        mirror.pull(**USUAL)
        names = {path.name for path in (mirror.target / ".mirrornet").iterdir()}
        assert names == {"head", "recent", "index-2", "manifest-1.gz", "delta-2.gz", "report.json", "log"}

    def test_garbage_among_the_lists_is_not_passed_on(self, master: Master, mirror: Mirror, publisher: Publisher, tmp_path: Path) -> None:
        """A tree can be followed without them, by a mirror that isn't far behind; what it shows to others it has read."""
        settle(mirror, publisher)
        for number in range(6):
            (master.tree / f"new-{number}").write_text("new")
            publisher.publish()
            if number == 3:
                assert mirror.pull(**USUAL).way == "deltas"
        manifest = publisher.own / "manifest-6.gz"
        content = manifest.read_bytes()
        manifest.write_bytes(b"garbage")
        assert mirror.pull(**USUAL).way == "plain", log(mirror)
        assert tree(mirror.target) == tree(master.tree)
        assert not (mirror.target / ".mirrornet" / "head").exists()
        manifest.write_bytes(content)
        (publisher.own / "delta-2.gz").write_bytes(b"garbage")
        publisher.publish()
        assert mirror.pull(**USUAL).way == "manifest", log(mirror)
        assert published(mirror.target).entries == describe(master.tree)
        fresh = Mirror(tmp_path / "fresh", master)
        fresh.target.mkdir(parents=True)
        assert [fresh.pull(**USUAL).way for dummy in range(3)] == ["plain", "manifest", "same"], log(fresh)
        assert published(fresh.target, without=[2]).entries == describe(master.tree)
        assert not (fresh.target / ".mirrornet" / "delta-2.gz").exists()

    def test_a_delta_of_no_use_is_not_needed_where_the_former_list_is_here(
        self, master: Master, mirror: Mirror, publisher: Publisher
    ) -> None:
        settle(mirror, publisher)
        for number in range(6):
            if number == 2:
                edit_in_place(master.tree / "release-0" / "file-0.txt")
            (master.tree / f"new-{number}").write_text("new")
            publisher.publish()
        (publisher.own / "delta-4.gz").write_bytes(b"garbage")
        (publisher.own / "recent").unlink()
        assert mirror.pull(**USUAL).way == "manifest", log(mirror)
        assert is_same(mirror, master.tree)
        assert not (mirror.target / ".mirrornet" / "delta-4.gz").exists()

    def test_a_tree_is_on_the_disk_before_its_head(self, mirror: Mirror, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also if rsync had brought it, and the head only turns out to be its."""
        settle(mirror, publisher)
        mirror.places.head("tree").unlink()
        calls = []

        def note(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *words, **options: (calls.append(name), call(*words, **options))[1]

        monkeypatch.setattr(apply, "settle", note("settle", apply.settle))
        monkeypatch.setattr(bring, "_adopt", note("adopt", bring._adopt))
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.way) == ("unchanged", "manifest")
        assert calls == ["settle", "adopt"]


class TestLimits:
    """What a source sends is held against limits before it is believed."""

    def test_a_list_has_no_more_room_than_there_is(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        (master.tree / "new").write_text("new")
        publisher.publish()
        index = publisher.index
        assert index is not None
        publisher.index = replace(index, deltas=(replace(index.deltas[-1], size=1 << 50),))
        data = publisher.index.to_bytes()
        (publisher.own / "index-2").write_bytes(data)
        publisher.write(replace(publisher.head(), index=hashlib.sha256(data).hexdigest()))
        (publisher.own / "recent").unlink()
        (publisher.own / "delta-2.gz").write_bytes(os.urandom(40 << 20))
        report = mirror.pull(**USUAL, reserve=10**9)
        assert report.received < 1 << 20, log(mirror)
        assert (report.way, report.kind) == ("plain", "no_room")

    def test_a_usual_update_comes_whatever_is_to_stay_free(self, master: Master, mirror: Mirror, publisher: Publisher) -> None:
        settle(mirror, publisher)
        (master.tree / "release-0" / "file-0.txt").unlink()
        publisher.publish()
        (publisher.own / "recent").unlink()
        report = mirror.pull(**USUAL, reserve=10**9)
        assert (report.outcome, report.way) == ("updated", "deltas"), log(mirror)

    @pytest.mark.parametrize("begin", ["from_manifest", "from_deltas"])
    def test_reading_a_list_ends_with_the_time(
        self, master: Master, mirror: Mirror, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, begin: str
    ) -> None:
        settle(mirror, publisher)
        (master.tree / "new").write_text("new")
        if begin == "from_manifest":
            publisher.new_epoch("b")
        publisher.publish()
        left, former = [1000.0], getattr(follow, begin)

        def late(*words: Any, **options: Any) -> Any:
            left[0] = -1.0
            return former(*words, **options)

        monkeypatch.setattr(follow, begin, late)
        monkeypatch.setattr(Run, "left", property(lambda run: left[0]))
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.kind) == ("failed", "time_limit")
        assert "Looking at" in report.message
        assert not (mirror.target / "new").exists()

    def test_so_does_reading_what_has_come(
        self, master: Master, mirror: Mirror, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settle(mirror, publisher)
        (master.tree / "new").write_text("new")
        publisher.publish()
        left, former = [1000.0], coming.Coming.look

        def late(*words: Any) -> int:
            left[0] = -1.0
            return former(*words)

        monkeypatch.setattr(coming.Coming, "look", late)
        monkeypatch.setattr(Run, "left", property(lambda run: left[0]))
        report = mirror.pull(**USUAL)
        assert (report.outcome, report.kind) == ("failed", "time_limit")
        assert not (mirror.target / "new").exists()

    @pytest.mark.parametrize("where", ["tree", "state"])
    def test_no_room_for_the_head(
        self, master: Master, mirror: Mirror, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        settle(mirror, publisher)
        (master.tree / "new").write_text("new")
        publisher.publish()

        def full(*words: Any, **options: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as broken:
            broken.setattr(bring if where == "tree" else fast, "replace", full)
            report = mirror.pull(**USUAL)
        assert (report.kind, report.exit_code) == ("disk_full" if where == "tree" else "state_unusable", Exit.LOCAL_IO), report.line()
        assert str(mirror.target if where == "tree" else mirror.places.heads("tree")) in report.message
        assert mirror.pull(**USUAL).outcome in ("updated", "unchanged")
        assert is_same(mirror, master.tree)

    def test_no_permission_for_the_head(
        self, master: Master, mirror: Mirror, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settle(mirror, publisher)
        (master.tree / "new").write_text("new")
        publisher.publish()

        def refuse(*words: Any, **options: Any) -> None:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(bring, "replace", refuse)
        report = mirror.pull(**USUAL)
        assert (report.kind, report.exit_code) == ("local_io", Exit.LOCAL_IO), report.line()
        assert "its head can't be kept" in report.message


class TestKilled:
    @pytest.mark.parametrize("seed", range(2))
    def test_between_any_two_steps(self, master: Master, mirror: Mirror, tmp_path: Path, seed: int) -> None:
        """Whenever a run is killed, the next one makes the tree the master's."""
        publisher, scramble = Publisher(master.tree, contents=seed > 0), Scramble(master.tree, 500 + seed)
        options = {**USUAL, "sources": [master.url("own")]}
        scramble.edit(30)
        settle(mirror, publisher, **options)
        scramble.edit(8)
        publisher.publish()
        saved = tmp_path / "saved"
        subprocess.run(["cp", "-a", mirror.base, saved], check=True)
        job, step = mirror.define(**options), 0
        while run_killed_before(step, mirror, job):
            report = mirror.pull(**options)
            assert report.outcome in ("updated", "unchanged"), f"killed before step {step}: {log(mirror)}"
            assert is_same(mirror, master.tree), f"killed before step {step}: {log(mirror)}"
            assert mirror.pull(**options).way == "same", f"killed before step {step}"
            remove(mirror.base)
            subprocess.run(["cp", "-a", saved, mirror.base], check=True)
            step = next_step(step, 4)
        assert step > 20
        assert is_same(mirror, master.tree)

    def test_a_tree_between_two_is_neither(
        self, master: Master, mirror: Mirror, publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also if the next source still has the older one, whose head the mirror held."""
        settle(mirror, publisher)
        behind = Master(tmp_path / "behind", free_port())
        behind.base.mkdir()
        subprocess.run(["cp", "-a", master.tree, behind.tree], check=True)
        (master.tree / "new").write_text("new")
        (master.tree / "latest").unlink()
        publisher.publish()
        with monkeypatch.context() as broken:
            broken.setattr(apply._Work, "delete", lambda *words: 1 / 0)
            assert mirror.pull(**USUAL).kind == "internal"
        assert (mirror.target / "new").exists()
        behind.start()
        try:
            report = mirror.pull(**USUAL, sources=[behind.url()])
            assert (report.outcome, report.deletions) == ("updated", 1), log(mirror)
            assert is_same(mirror, behind.tree)
        finally:
            behind.stop()
        assert mirror.pull(**USUAL).way == "deltas"
        assert is_same(mirror, master.tree)


def run_killed_before(step: int, mirror: Mirror, job: Any) -> bool:
    """Run in a child that dies before its step; whether it did."""
    child = os.fork()
    if child == 0:
        try:
            Killed(step)
            pull.pull(mirror.places, job, "mirror1")
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9
