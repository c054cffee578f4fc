# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run against a real rsync daemon: what it brings, what it refuses to delete, what it says when it can't."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import Master, Mirror, Silent, tree, wait_until
from mirrornet import lock, pull
from mirrornet.errors import Exit
from mirrornet.run import Run
from mirrornet.source import Plan


def test_first_copy_then_unchanged(master: Master, mirror: Mirror) -> None:
    master.fill()
    first = mirror.pull()
    assert (first.outcome, first.exit_code, first.files, first.source) == ("updated", 0, 8, master.url())
    assert tree(mirror.target) == tree(master.tree)
    second = mirror.pull()
    assert (second.outcome, second.files, second.deletions) == ("unchanged", 0, 0)
    assert second.last_complete is not None


def test_changes_and_deletions_arrive(master: Master, mirror: Mirror) -> None:
    master.fill(12)
    mirror.pull()
    (master.tree / "release-0" / "file-0.txt").write_text("new content")
    (master.tree / "release-1" / "file-1.txt").unlink()
    (master.tree / "release-9").mkdir()
    report = mirror.pull()
    assert (report.outcome, report.files, report.deletions) == ("updated", 1, 1)
    assert tree(mirror.target) == tree(master.tree)


def test_hard_links_and_odd_names_arrive(master: Master, mirror: Mirror) -> None:
    names = ["-rf", "new\nline", " space ", "*", "|a|b", "\udcff\udcfe", "x" * 255, "..."]
    for name in names:
        (master.tree / name).write_text("odd")
    os.link(master.tree / "-rf", master.tree / "linked")
    assert mirror.pull().outcome == "updated"
    assert tree(mirror.target) == tree(master.tree)
    assert (mirror.target / "-rf").stat().st_ino == (mirror.target / "linked").stat().st_ino
    assert mirror.pull().outcome == "unchanged"


def test_report_is_in_state_and_tree_and_survives_pulls(master: Master, mirror: Mirror) -> None:
    master.fill()
    mirror.pull()
    assert mirror.pull().outcome == "unchanged"
    in_tree = mirror.target / ".mirrornet"
    assert json.loads((in_tree / "report.json").read_bytes()) == mirror.report()
    assert "unchanged" in (in_tree / "log").read_text()
    assert len(mirror.places.history("tree").read_text().splitlines()) == 2


def test_reports_are_not_handed_on(master: Master, mirror: Mirror) -> None:
    """A mirror that pulls from a mirror keeps its own reports and doesn't get the other's."""
    master.fill()
    (master.tree / ".mirrornet").mkdir()
    (master.tree / ".mirrornet" / "report.json").write_text('{"job": "upstream"}')
    (master.tree / ".mirrornet" / "other").write_text("upstream's")
    mirror.pull()
    assert mirror.report()["job"] == "tree"
    assert sorted(path.name for path in (mirror.target / ".mirrornet").iterdir()) == ["log", "report.json"]


def test_excluded_entries_neither_come_nor_go(master: Master, mirror: Mirror) -> None:
    master.fill()
    (master.tree / "private.key").write_text("x")
    (mirror.target / "local.key").write_text("mine")
    assert mirror.pull(exclude=["*.key"]).outcome == "updated"
    assert not (mirror.target / "private.key").exists()
    assert (mirror.target / "local.key").read_text() == "mine"


def test_second_source_serves_and_the_first_ones_reason_is_kept(master: Master, mirror: Mirror) -> None:
    master.fill()
    report = mirror.pull(sources=[master.url("nowhere"), "rsync://127.0.0.1:1/tree/", master.url()])
    assert (report.outcome, report.source) == ("updated", master.url())
    assert [entry["kind"] for entry in report.passed_over] == ["no_such_module", "unreachable"]


@pytest.mark.parametrize(
    ("module", "kind", "code"),
    [
        ("nowhere", "no_such_module", Exit.UNAVAILABLE),
        ("login", "login_refused", Exit.REFUSED),
        ("closed", "refused", Exit.REFUSED),
        ("gone", "source_error", Exit.UNAVAILABLE),
        ("full", "source_full", Exit.UNAVAILABLE),
    ],
)
def test_refusals_are_told_apart(master: Master, mirror: Mirror, module: str, kind: str, code: Exit) -> None:
    (mirror.target / "kept").write_text("x")
    report = mirror.pull(sources=[master.url(module)])
    assert (report.outcome, report.kind, report.exit_code) == ("failed", kind, int(code))
    assert master.url(module) in report.message
    assert report.remedy
    assert (mirror.target / "kept").exists()
    assert mirror.report()["kind"] == kind


def test_unreachable_source(master: Master, mirror: Mirror) -> None:
    master.fill()
    mirror.pull()
    before = tree(mirror.target)
    master.stop()
    report = mirror.pull()
    assert (report.outcome, report.kind, report.exit_code) == ("failed", "unreachable", int(Exit.UNAVAILABLE))
    assert tree(mirror.target) == before
    assert report.last_complete is not None
    assert mirror.places.errors("tree").read_text()
    master.start()
    assert mirror.pull().outcome == "unchanged"
    assert mirror.places.errors("tree").read_text() == ""


def test_all_sources_failing_names_each(master: Master, mirror: Mirror) -> None:
    report = mirror.pull(sources=[master.url("nowhere"), master.url("login")])
    assert (report.kind, report.exit_code) == ("no_source", int(Exit.UNAVAILABLE))
    assert "nowhere" in report.message
    assert "login" in report.message


class TestGuards:
    """Deletions are judged before the first one."""

    def test_emptied_source(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        mirror.pull()
        before = tree(mirror.target)
        shutil.rmtree(master.tree)
        master.tree.mkdir()
        for dummy in range(3):  # A limit that let a few go at each run would erode.
            report = mirror.pull(max_delete_percent=100)
            assert (report.outcome, report.kind, report.exit_code) == ("held", "source_empty", int(Exit.HELD))
        assert tree(mirror.target) == before
        master.fill()
        assert mirror.pull().outcome in ("updated", "unchanged")

    def test_too_many_by_percent(self, master: Master, mirror: Mirror) -> None:
        master.fill(8)
        mirror.pull()
        before = tree(mirror.target)
        shutil.rmtree(master.tree / "release-0")
        report = mirror.pull()
        assert (report.outcome, report.kind) == ("held", "too_many_deletions")
        assert "4 of the 13 entries" in report.message
        assert tree(mirror.target) == before
        assert mirror.pull(max_delete_percent=40).outcome == "updated"
        assert tree(mirror.target) == tree(master.tree)

    def test_new_files_do_not_hide_deletions(self, master: Master, mirror: Mirror) -> None:
        """The share is of what the mirror has, not of what the source has now."""
        master.fill(8)
        mirror.pull()
        shutil.rmtree(master.tree / "release-0")
        for number in range(50):
            (master.tree / f"new-{number}").write_text("x")
        assert mirror.pull().kind == "too_many_deletions"
        assert not (mirror.target / "new-0").exists()

    def test_too_many_by_number(self, master: Master, mirror: Mirror) -> None:
        master.fill(40)
        mirror.pull()
        for number in (0, 3):
            (master.tree / "release-0" / f"file-{number}.txt").unlink()
        assert mirror.pull(max_delete=1).kind == "too_many_deletions"
        assert mirror.pull(max_delete=2).deletions == 2

    def test_target_with_foreign_files_is_not_swept(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        for number in range(20):
            (mirror.target / f"thesis-{number}.tex").write_text("years of work")
        assert mirror.pull().outcome == "held"
        assert (mirror.target / "thesis-0.tex").exists()

    def test_source_emptied_between_plan_and_transfer(self, master: Master, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was agreed to is the most that can go, whatever the source does meanwhile."""
        master.fill(8)
        mirror.pull()
        before = tree(mirror.target)
        (master.tree / "fresh").write_text("x")
        transfer = pull.transfer

        def emptied_first(run: Run, plan: Plan) -> bool:
            shutil.rmtree(master.tree)
            master.tree.mkdir()
            return transfer(run, plan)

        monkeypatch.setattr(pull, "transfer", emptied_first)
        report = mirror.pull()
        assert (report.outcome, report.kind) == ("held", "source_empty")
        assert tree(mirror.target) == before

    def test_room_on_disk(self, master: Master, mirror: Mirror) -> None:
        # Larger than the disk: what is free changes under whoever else works on it.
        disk = os.statvfs(mirror.target)
        with (master.tree / "huge").open("wb") as file:
            file.truncate(disk.f_blocks * disk.f_frsize + (1 << 30))
        report = mirror.pull(time_limit=30)
        assert (report.outcome, report.kind) == ("held", "no_room")
        assert not (mirror.target / "huge").exists()


def test_unreadable_files_bring_the_rest_and_delete_nothing(master: Master, mirror: Mirror) -> None:
    """A source that can't read all of its tree: what it can't read must not look as if it were gone."""
    master.fill(40)
    mirror.pull()
    (master.tree / "release-0" / "file-0.txt").unlink()
    (master.tree / "fresh").write_text("x")
    closed = master.tree / "release-1"
    closed.chmod(0)
    try:
        if os.geteuid() == 0:
            _serve_without_privileges(master)
        report = mirror.pull()
        again = mirror.pull()
    finally:
        closed.chmod(0o755)
    assert (again.outcome, again.kind) == ("failed", "incomplete"), "could not tell is not unchanged"
    assert (report.outcome, report.kind, report.exit_code) == ("failed", "incomplete", int(Exit.INCOMPLETE))
    assert (mirror.target / "fresh").exists()
    assert (mirror.target / "release-0" / "file-0.txt").exists()
    (mirror.target / "release-1").chmod(0o755)  # It came with the source's mode.
    assert (mirror.target / "release-1" / "file-1.txt").exists()
    assert mirror.pull().outcome == "updated"
    assert tree(mirror.target) == tree(master.tree)


def _serve_without_privileges(master: Master) -> None:
    """Root reads everything: let the daemon run as nobody."""
    master.stop()
    for path in [master.base, *master.base.parents]:
        if path.stat().st_uid == os.geteuid() and str(path).startswith("/tmp/"):
            path.chmod(path.stat().st_mode | 0o011)
    config = master.base / "rsyncd.conf"
    config.write_text("uid = nobody\n" + config.read_text())
    master.process = subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--config={config}", f"--log-file={master.base}/log"])
    wait_until(master._answers, "the daemon")


class TestTarget:
    """A target that can't be used ends the run before anything is asked of a source."""

    def test_missing(self, mirror: Mirror) -> None:
        mirror.target.rmdir()
        report = mirror.pull()
        assert (report.kind, report.exit_code) == ("target_missing", int(Exit.TARGET))
        assert not mirror.target.exists()

    def test_a_file(self, mirror: Mirror) -> None:
        mirror.target.rmdir()
        mirror.target.write_text("x")
        assert mirror.pull().kind == "target_not_directory"

    def test_own_directory_by_symlink(self, mirror: Mirror, tmp_path: Path) -> None:
        (mirror.target / ".mirrornet").symlink_to(tmp_path)
        assert mirror.pull().kind == "target_not_writable"
        assert not (tmp_path / "report.json").exists()


class TestTime:
    """A server that keeps a run waiting doesn't keep it for ever."""

    def test_endless_greeting(self, mirror: Mirror, endless_greeting: Silent) -> None:
        report = mirror.pull(sources=[endless_greeting.url()], time_limit=2)
        assert (report.outcome, report.kind, report.exit_code) == ("failed", "time_limit", int(Exit.TIME_LIMIT))

    def test_silence(self, mirror: Mirror, master: Master, swallowing: Silent) -> None:
        master.fill()
        report = mirror.pull(sources=[swallowing.url(), master.url()], io_timeout=5, connect_timeout=5)
        assert report.outcome == "updated"
        assert report.passed_over[0]["kind"] == "connection_lost" or report.passed_over[0]["kind"] == "unreachable"


class TestKilled:
    """kill -9 at any moment: no stale lock, and the next run finishes the work."""

    def _slow(self, master: Master, mirror: Mirror) -> subprocess.Popen[str]:
        master.fill()
        (master.tree / "big").write_bytes(os.urandom(4 << 20))
        mirror.define(bandwidth_limit=200)
        run = mirror.start("pull", "tree")
        wait_until(lambda: mirror.phase() == "transfer", "the transfer")
        return run

    def test_by_kill_9(self, master: Master, mirror: Mirror) -> None:
        run = self._slow(master, mirror)
        run.kill()
        run.wait()
        wait_until(mirror.is_free, "the orphaned rsync to end")
        assert mirror.run("status").stdout.splitlines()[1].split()[:2] == ["tree", "interrupted"]
        report = mirror.pull()
        assert report.outcome == "updated"
        assert report.interrupted is not None
        assert report.interrupted["phase"] == "transfer"
        assert tree(mirror.target) == tree(master.tree)
        assert not list(mirror.target.rglob(".~tmp~"))

    def test_by_signal(self, master: Master, mirror: Mirror) -> None:
        run = self._slow(master, mirror)
        run.send_signal(signal.SIGTERM)
        assert run.wait(30) == Exit.STOPPED
        assert mirror.report()["kind"] == "stopped"
        assert mirror.is_free()
        assert mirror.pull().outcome == "updated"
        assert tree(mirror.target) == tree(master.tree)

    def test_rsync_killed(self, master: Master, mirror: Mirror) -> None:
        run = self._slow(master, mirror)
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
        wait_until(children.read_text, "rsync")
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        assert run.wait(60) == Exit.STOPPED
        assert "signal 9" in mirror.report()["message"]
        assert mirror.pull().outcome == "updated"

    def test_what_nobody_wants_any_more_is_cleared(self, master: Master, mirror: Mirror) -> None:
        run = self._slow(master, mirror)
        run.kill()
        run.wait()
        wait_until(mirror.is_free, "the orphaned rsync to end")
        left = mirror.target / "release-0" / ".~tmp~"
        left.mkdir(parents=True, exist_ok=True)
        (left / "gone-upstream").write_text("half")
        assert mirror.pull().outcome == "updated"
        assert not list(mirror.target.rglob(".~tmp~"))


def test_two_at_once_one_works(master: Master, mirror: Mirror) -> None:
    master.fill()
    (master.tree / "big").write_bytes(os.urandom(1 << 20))
    # Slow enough that the first one is still at work when the last one starts, on a busy machine too.
    mirror.define(bandwidth_limit=200)
    runs = [mirror.start("pull", "--json", "tree") for dummy in range(3)]
    outcomes = sorted(json.loads(run.communicate()[0])["outcome"] for run in runs)
    assert outcomes == ["busy", "busy", "updated"]
    assert sorted(run.returncode for run in runs) == [0, 75, 75]
    assert mirror.report()["outcome"] == "updated"
    assert tree(mirror.target) == tree(master.tree)


def test_busy_names_the_holder(master: Master, mirror: Mirror) -> None:
    job = mirror.define()
    mirror.places.state("tree").mkdir(parents=True)
    with lock.exclusive(mirror.places.lock("tree")):
        report = pull.pull(mirror.places, job, "mirror1")
    assert (report.outcome, report.exit_code) == ("busy", 75)
    assert "another process" in report.message
    assert not mirror.places.report("tree").exists()
