# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is held, and how an operator lets exactly that through."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Master, Mirror, tree
from mirrornet import approval, guard, report
from mirrornet.errors import Exit
from mirrornet.report import Report


@pytest.fixture
def held(master: Master, mirror: Mirror) -> Mirror:
    """A mirror whose source lost a third of its tree."""
    master.fill()
    mirror.pull()
    shutil.rmtree(master.tree / "release-0")
    assert mirror.pull().kind == "too_many_deletions"
    return mirror


class TestApproval:
    def test_lets_the_change_through(self, master: Master, held: Mirror) -> None:
        done = held.run("approve", "tree")
        assert done.returncode == 0
        assert "lacks 4 of the 13 entries" in done.stdout
        assert held.pull().outcome == "updated"
        assert tree(held.target) == tree(master.tree)

    def test_only_once(self, master: Master, held: Mirror) -> None:
        kept = master.base / "kept"
        shutil.copytree(held.target / "release-0", kept)
        held.run("approve", "tree")
        held.pull()
        shutil.copytree(kept, master.tree / "release-0")
        assert held.pull().outcome == "updated"
        shutil.rmtree(master.tree / "release-0")  # The very same change once more.
        assert held.pull().outcome == "held"

    def test_only_exactly_that(self, master: Master, held: Mirror) -> None:
        held.run("approve", "tree")
        shutil.rmtree(master.tree / "release-1")
        assert held.pull().outcome == "held"
        assert (held.target / "release-0").exists()

    def test_another_change_of_the_same_size_is_not_approved(self, master: Master, held: Mirror) -> None:
        held.run("approve", "tree")
        (master.tree / "release-0").mkdir()
        for number in (0, 3, 6):
            (master.tree / "release-0" / f"file-{number}.txt").write_text("back")
        shutil.rmtree(master.tree / "release-1")
        report = held.pull()
        assert report.outcome == "held"
        assert "4 of the" in report.message

    def test_expires(self, held: Mirror) -> None:
        held.run("approve", "--hours", "1e-9", "tree")
        assert held.pull().outcome == "held"

    @pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "8761", "soon"])
    def test_odd_times_are_refused(self, held: Mirror, hours: str) -> None:
        done = held.run("approve", "--hours", hours, "tree")
        assert done.returncode == Exit.USAGE
        assert f"--hours: {hours!r} is no number above 0 and up to 8760" in done.stderr
        assert not held.places.approval("tree").exists()

    def test_emptied_source_can_be_approved(self, master: Master, held: Mirror) -> None:
        shutil.rmtree(master.tree)
        master.tree.mkdir()
        assert held.pull().kind == "source_empty"
        held.run("approve", "tree")
        assert held.pull().outcome == "updated"
        assert tree(held.target) == {}

    def test_nothing_to_approve(self, master: Master, mirror: Mirror) -> None:
        mirror.define()
        done = mirror.run("approve", "tree")
        assert done.returncode == Exit.CONFIG
        assert "is not held" in done.stderr

    def test_hold_that_has_passed_can_not_be_approved(self, master: Master, held: Mirror) -> None:
        master.fill_again()
        assert held.pull().outcome in ("updated", "unchanged")
        assert held.run("approve", "tree").returncode == Exit.CONFIG

    def test_torn_approval_is_none(self, held: Mirror) -> None:
        held.run("approve", "tree")
        path = held.places.approval("tree")
        path.write_bytes(path.read_bytes()[:-9])
        assert not approval.is_given(held.places, "tree", "too_many_deletions", "x")
        assert held.pull().outcome == "held"


class TestTarget:
    def test_mount_point_without_its_disk(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        report = mirror.pull(mount=str(mirror.target))
        assert (report.outcome, report.kind) == ("held", "not_mounted")
        assert [path.name for path in mirror.target.iterdir()] == []

    def test_mount_point_with_its_disk(self, master: Master, mirror: Mirror) -> None:
        assert mirror.pull(mount="/").outcome in ("updated", "unchanged")

    def test_target_that_was_swapped_for_an_empty_one(self, master: Master, mirror: Mirror) -> None:
        """What an unmounted disk looks like where no mount is declared."""
        master.fill()
        mirror.pull()
        mirror.target.rename(mirror.base / "away")
        mirror.target.mkdir()
        report = mirror.pull()
        assert (report.outcome, report.kind) == ("held", "target_replaced")
        assert list(mirror.target.iterdir()) == []
        mirror.run("approve", "tree")
        assert mirror.pull().outcome == "updated"
        assert tree(mirror.target) == tree(master.tree)

    def test_reserve(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        # As large as the disk: what is free changes under whoever else works on it.
        disk = os.statvfs(mirror.target)
        report = mirror.pull(reserve=(disk.f_blocks * disk.f_frsize >> 20) + 1)
        assert (report.outcome, report.kind) == ("held", "no_room")
        assert "are to stay free" in report.message


def foretold(mirror: Mirror, **options: Any) -> tuple[int, str, dict[str, Any]]:
    """What a dry run says: its exit code, the message for people, and the record."""
    mirror.define(**options)
    said = mirror.run("pull", "--dry-run", "tree")
    return said.returncode, said.stderr, json.loads(mirror.run("pull", "--dry-run", "--json", "tree").stdout)


class TestDryRun:
    """It says that a guard would hold the run whenever one would, and changes nothing, not even what may be approved."""

    def test_mount_point_without_its_disk(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        code, said, record = foretold(mirror, mount=str(mirror.target))
        assert code == Exit.HELD
        assert f"would be held: Nothing is mounted at {mirror.target}" in said
        assert (record["outcome"], record["kind"], record["source"], record["items"]) == ("held", "not_mounted", None, [])

    def test_target_that_was_swapped_for_an_empty_one(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        mirror.pull()
        mirror.target.rename(mirror.base / "away")
        mirror.target.mkdir()
        code, said, record = foretold(mirror)
        assert (code, record["kind"]) == (Exit.HELD, "target_replaced")
        assert not mirror.places.held("tree").exists()
        assert mirror.pull().kind == "target_replaced"
        mirror.run("approve", "tree")
        code, said, record = foretold(mirror)
        assert (code, said, record["outcome"], record["files"]) == (0, "", "updated", 8)
        assert mirror.pull().outcome == "updated"

    def test_after_a_rollback(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        mirror.pull(switch=True)
        (master.tree / "fresh").write_text("x")
        mirror.pull(switch=True)
        assert mirror.run("rollback", "tree").returncode == 0
        code, _said, record = foretold(mirror, switch=True)
        assert (code, record["kind"]) == (Exit.HELD, "rolled_back")
        assert mirror.pull(switch=True).kind == "rolled_back"
        mirror.run("approve", "tree")
        assert foretold(mirror, switch=True)[0] == 0

    def test_what_was_approved_is_not_held(self, held: Mirror) -> None:
        assert foretold(held)[2]["kind"] == "too_many_deletions"
        held.run("approve", "tree")
        code, said, record = foretold(held)
        assert (code, said, record["outcome"], record["deletions"]) == (0, "", "updated", 4)
        assert held.pull().outcome == "updated"

    def test_trouble_of_this_host_is_not_passed_over(self, master: Master, mirror: Mirror) -> None:
        """The next source can't help, and the run doesn't ask it either."""
        master.fill()
        login = master.url("login").replace("rsync://", "rsync://joe@")
        options = {"sources": [login, master.url()], "password_file": str(mirror.base / "not-there")}
        mirror.define(**options)
        done = mirror.run("pull", "--dry-run", "tree")
        report = mirror.pull(**options)
        assert (report.kind, done.returncode) == ("rsync_error", report.exit_code)
        assert done.stdout == ""
        assert done.stderr == f"mirrornet: {report.message} {report.remedy}\n"

    def test_trouble_of_a_source_is_passed_over(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        code, said, record = foretold(mirror, sources=[master.url("closed"), master.url()])
        assert (code, said, record["source"]) == (0, "", master.url())

    def test_seeds_are_for_runs(self, mirror: Mirror) -> None:
        mirror.define()
        done = mirror.run("pull", "--dry-run", "--reseed", "tree")
        assert done.returncode == Exit.USAGE
        assert "not allowed with argument" in done.stderr


class TestAlarm:
    """Mail when something goes wrong, and once a day while it lasts: not at every run."""

    def test_same_trouble_is_told_once(self, held: Mirror) -> None:
        first = held.run("pull", "--quiet", "tree")
        second = held.run("pull", "--quiet", "tree")
        assert (first.returncode, second.returncode) == (Exit.HELD, Exit.HELD)
        assert second.stderr == ""
        held.master.stop()
        assert "unreachable" in json.loads(held.run("pull", "--json", "tree").stdout)["kind"]

    def test_other_trouble_is_told(self, held: Mirror) -> None:
        held.run("pull", "--quiet", "tree")
        held.master.stop()
        assert "can't be reached" in held.run("pull", "--quiet", "tree").stderr
        assert held.run("pull", "--quiet", "tree").stderr == ""

    def test_told_again_after_a_day(self) -> None:
        now = 1_800_000_000.0
        lasting = Report("tree", "h", "", outcome="failed", kind="unreachable", former_kind="unreachable", alarmed=report.utc(now - 3600))
        assert not lasting.is_news(now)
        assert lasting.is_news(now + 86400)
        assert not Report("tree", "h", "", outcome="updated").is_news(now)

    def test_busy_for_too_long(self, mirror: Mirror) -> None:
        job = mirror.define(busy_alarm=60)
        mirror.places.state("tree").mkdir(parents=True)
        from mirrornet import lock, pull
        from mirrornet.files import to_json

        for started, kind in (("2020-01-01T00:00:00Z", "busy_too_long"), ("2999-01-01T00:00:00Z", "busy")):
            running = {"owner": lock.this_process(), "started": started, "phase": "transfer", "size": 5 << 20}
            mirror.places.running("tree").write_bytes(to_json(running))
            with lock.exclusive(mirror.places.lock("tree")):
                done = pull.pull(mirror.places, job, "mirror1")
            assert (done.outcome, done.kind, done.exit_code) == ("busy", kind, 75)
            assert "5.0 MiB so far" in done.message


def test_share_is_of_what_the_mirror_has() -> None:
    from mirrornet.rsync import Tally
    from mirrornet.source import Plan

    assert guard.entries_now(Plan("s", Tally(entries=101, created=50, deletions=4))) == 54
    assert guard.entries_now(Plan("s", Tally(entries=None))) == 0


def test_digest_does_not_depend_on_the_order() -> None:
    from mirrornet.rsync import Tally
    from mirrornet.source import Plan

    lines = [f"*deleting  |0|file-{number}" for number in range(5)]
    plans = [Plan("s", Tally()) for dummy in range(3)]
    for line in lines:
        plans[0].take(line)
    for line in reversed(lines):
        plans[1].take(line)
    for line in lines[:4]:
        plans[2].take(line)
    assert plans[0].digest == plans[1].digest != plans[2].digest


def test_lock_file_of_ones_own(master: Master, mirror: Mirror, tmp_path: Path) -> None:
    """The founding note's cron line and our job can share a host."""
    import subprocess

    master.fill()
    lock_file = tmp_path / "mirror_sagemath.lock"
    with subprocess.Popen(
        ["flock", "-xn", lock_file, "sh", "-c", "echo held; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert mirror.pull(lock_file=str(lock_file)).outcome == "busy"
        other.communicate(b"\n")
    assert mirror.pull(lock_file=str(lock_file)).outcome == "updated"
