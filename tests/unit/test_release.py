# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Never half a release: what comes last, what changes at once, and the way back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Master, Mirror, tree, wait_until
from mirrornet import child, rsync, switch
from mirrornet.errors import Exit
from mirrornet.job import INDEX_PRESETS, Job
from mirrornet.pull import stage as real_stage
from mirrornet.rsync import Mode, Tally
from mirrornet.run import Run
from mirrornet.source import Plan


class TestIndexLast:
    def test_index_and_deletions_come_after_everything_else(self, master: Master, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        master.fill()
        (master.tree / "SHA256SUMS").write_text("old")
        mirror.pull(index_preset="release")
        (master.tree / "SHA256SUMS").write_text("newer")
        (master.tree / "fresh").write_text("x")
        (master.tree / "release-0" / "file-0.txt").unlink()
        seen = []

        def watched(run: Run, plan: Plan, phase: str, mode: Mode, *, into: str | None = None) -> Tally | None:
            done = real_stage(run, plan, phase, mode, into=into)
            names = [mirror.target / "fresh", mirror.target / "release-0" / "file-0.txt"]
            seen.append((phase, [path.exists() for path in names], (mirror.target / "SHA256SUMS").read_text()))
            return done

        monkeypatch.setattr("mirrornet.pull.stage", watched)
        assert mirror.pull(index_preset="release").outcome == "updated"
        assert seen == [("transfer", [True, True], "old"), ("finish", [True, False], "newer")]
        assert tree(mirror.target) == tree(master.tree)

    def test_index_stays_old_if_the_rest_is_incomplete(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        (master.tree / "Packages").write_text("old")
        mirror.pull(index=["Packages*"])
        (master.tree / "Packages").write_text("newer")
        (master.tree / "big").write_bytes(os.urandom(2 << 20))
        report = mirror.pull(index=["Packages*"], bandwidth_limit=100, time_limit=3)
        assert report.kind == "time_limit"
        assert (mirror.target / "Packages").read_text() == "old"
        assert mirror.pull(index=["Packages*"]).outcome == "updated"
        assert (mirror.target / "Packages").read_text() == "newer"

    def test_check_file_counts_as_index(self) -> None:
        assert Job("t", ("h::m",), "/t", check_file="lastupdate").index_patterns == ("/lastupdate",)

    @pytest.mark.parametrize(
        ("preset", "last", "first"),
        [
            ("apt", ["dists/x/InRelease", "dists/x/main/binary-amd64/Packages.xz"], ["pool/a.deb", "dists/x/main/by-hash/SHA256/0a"]),
            ("rpm", ["os/repodata/repomd.xml"], ["os/repodata/0a-primary.xml.gz", "os/a.rpm"]),
            ("release", ["SHA256SUMS", "1.0/SHA256SUMS.gpg", "index.html"], ["1.0/x.tar.gz"]),
        ],
    )
    def test_presets(self, master: Master, tmp_path: Path, preset: str, last: list[str], first: list[str]) -> None:
        """rsync itself says what the patterns of a preset leave for the end."""
        for name in last + first:
            path = master.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        assert INDEX_PRESETS[preset]
        job = Job("t", (master.url(),), str(tmp_path / "t"), index_preset=preset)
        job_command = rsync.argv(rsync.find(), job, master.url(), job.target, Mode(leave=job.index_patterns), dry_run=True)
        lines: list[str] = []
        with Path(os.devnull).open() as nothing:
            child.call(
                job_command,
                environment=rsync.environment(job, master.url()),
                seconds=30,
                idle=30,
                lock_fd=nothing.fileno(),
                on_output=lines.append,
                on_error=lines.append,
            )
        items = [item for line in lines if (item := rsync.parse_item(line))]
        assert sorted(item.name for item in items if item.is_transfer) == sorted(first)


class TestSwitch:
    def pull(self, mirror: Mirror) -> str:
        return mirror.pull(switch=True).outcome

    def shown(self, mirror: Mirror) -> Path:
        return (mirror.target / "current").resolve()

    def test_first_release(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        assert self.pull(mirror) == "updated"
        assert tree(mirror.target / "current") == tree(master.tree)
        assert self.pull(mirror) == "unchanged"
        assert (mirror.target / "current" / ".mirrornet" / "report.json").exists()

    def test_update_shares_what_is_equal_and_leaves_the_former_alone(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        self.pull(mirror)
        former = self.shown(mirror)
        before = tree(former)
        (master.tree / "release-0" / "file-0.txt").write_text("newer")
        (master.tree / "release-1" / "file-1.txt").chmod(0o600)
        (master.tree / "release-2" / "file-5.txt").unlink()
        assert self.pull(mirror) == "updated"
        assert tree(mirror.target / "current") == tree(master.tree)
        assert tree(former) == before
        same = "release-2/file-2.txt"
        assert (former / same).stat().st_ino == (mirror.target / "current" / same).stat().st_ino

    def test_only_two_releases_stay(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        for number in range(4):
            (master.tree / "number").write_text("x" * number)
            assert self.pull(mirror) == "updated"
        assert len(list((mirror.target / "releases").iterdir())) == 2

    def test_guards_hold(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        self.pull(mirror)
        former = self.shown(mirror)
        shutil.rmtree(master.tree)
        master.tree.mkdir()
        assert self.pull(mirror) == "held"
        assert self.shown(mirror) == former

    def test_interrupted_release_is_never_shown_and_harms_nothing(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        self.pull(mirror)
        former, before = self.shown(mirror), tree(self.shown(mirror))
        (master.tree / "big").write_bytes(os.urandom(2 << 20))
        mirror.define(switch=True, bandwidth_limit=200)
        run = mirror.start("pull", "tree")
        wait_until((mirror.target / "releases" / "next" / "release-0").exists, "the transfer")
        run.kill()
        run.wait()
        assert self.shown(mirror) == former
        (master.tree / "release-0" / "file-0.txt").chmod(0o600)
        os.utime(master.tree / "release-0" / "file-3.txt", (1, 1))
        wait_until(lambda: mirror.pull(switch=True).outcome == "updated", "the orphaned rsync to end")
        assert tree(mirror.target / "current") == tree(master.tree)
        assert tree(former) == before

    def test_rollback_holds_until_approved(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        self.pull(mirror)
        before = tree(mirror.target / "current")
        (master.tree / "bad").write_text("x")
        self.pull(mirror)
        done = mirror.run("rollback", "tree")
        assert done.returncode == 0, done.stderr
        assert tree(mirror.target / "current") == before
        held = mirror.pull(switch=True)
        assert (held.outcome, held.kind) == ("held", "rolled_back")
        assert tree(mirror.target / "current") == before
        mirror.run("approve", "tree")
        assert self.pull(mirror) == "updated"
        assert tree(mirror.target / "current") == tree(master.tree)
        assert mirror.run("rollback", "tree").returncode == 0

    def test_the_link_is_there_at_every_moment(self, tmp_path: Path) -> None:
        switch.next_release(tmp_path).mkdir(parents=True)
        switch.show_next(tmp_path)
        looks = "import os, sys\nprint(flush=True)\nwhile True: os.readlink(sys.argv[1])"
        with subprocess.Popen(
            [sys.executable, "-c", looks, str(tmp_path / "current")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as reader:
            assert reader.stdout is not None
            reader.stdout.readline()
            try:
                for dummy in range(300):
                    switch.next_release(tmp_path).mkdir()
                    switch.show_next(tmp_path)
                assert reader.poll() is None, "a reader found no link"
            finally:
                reader.kill()

    def test_nothing_to_roll_back_to(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        self.pull(mirror)
        done = mirror.run("rollback", "tree")
        assert done.returncode == Exit.CONFIG
        assert "no former release" in done.stderr
        mirror.define()
        assert mirror.run("rollback", "tree").returncode == Exit.CONFIG

    def test_names_grow_also_when_the_clock_does_not(self, tmp_path: Path) -> None:
        names = []
        for dummy in range(3):
            switch.next_release(tmp_path).mkdir(parents=True)
            names.append(switch.show_next(tmp_path).name)
        (tmp_path / "releases" / "29990101T000000Z").mkdir()
        switch.next_release(tmp_path).mkdir()
        names.append(switch.show_next(tmp_path).name)
        assert names == sorted(set(names))
        assert names[-1] == "29990101T000000Z-000001"
