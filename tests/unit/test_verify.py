# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing by content: what size and time don't tell."""

from __future__ import annotations

import json
import os

import pytest
from conftest import Master, Mirror, tree
from mirrornet import verify
from mirrornet.errors import Exit


@pytest.fixture
def rotten(master: Master, mirror: Mirror) -> Mirror:
    """A mirror one of whose files has other content, with the same size and time."""
    master.fill(12)
    mirror.pull()
    path = mirror.target / "release-1" / "file-4.txt"
    times = (path.stat().st_atime, path.stat().st_mtime)
    path.write_bytes(path.read_bytes().swapcase())
    os.utime(path, times)
    assert mirror.pull().outcome == "unchanged"
    return mirror


def test_good_tree(master: Master, mirror: Mirror) -> None:
    master.fill()
    mirror.pull()
    assert verify.verify(mirror.places, mirror.define(), "h").outcome == "unchanged"


def test_difference_is_found_and_nothing_is_changed(rotten: Mirror) -> None:
    before = tree(rotten.target)
    done = rotten.run("verify", "tree")
    assert done.returncode == Exit.DIFFERENT
    assert "1 entry differs" in done.stderr
    assert "release-1/file-4.txt" in rotten.places.log("tree").read_text()
    assert tree(rotten.target) == before


def test_repair(master: Master, rotten: Mirror) -> None:
    done = rotten.run("verify", "--repair", "--json", "tree")
    assert json.loads(done.stdout)["outcome"] == "updated"
    assert tree(rotten.target) == tree(master.tree)
    assert rotten.run("verify", "tree").returncode == 0


def test_sample_of_everything_finds_it(rotten: Mirror) -> None:
    done = rotten.run("verify", "--sample", "99.999", "tree")
    assert done.returncode == Exit.DIFFERENT


def test_sample_is_a_sample_and_no_proof(master: Master, mirror: Mirror) -> None:
    master.fill(60)
    mirror.pull()
    complete = mirror.report()["last_complete"]
    report = verify.verify(mirror.places, mirror.define(), "h", percent=10)
    assert report.outcome == "unchanged"
    names = (mirror.places.state("tree") / "sample").read_bytes().split(b"\0")
    assert 0 < len(names) - 1 < 40
    assert mirror.report()["last_complete"] == complete


def test_sample_repairs_only_what_it_saw_and_deletes_nothing(master: Master, rotten: Mirror) -> None:
    (rotten.target / "own").write_text("x")
    done = rotten.run("verify", "--sample", "99.999", "--repair", "tree")
    assert done.returncode in (0, Exit.INCOMPLETE), done.stderr
    assert (rotten.target / "own").exists()
    assert (rotten.target / "release-1" / "file-4.txt").read_bytes() == (master.tree / "release-1" / "file-4.txt").read_bytes()


def test_repair_of_a_sample_does_not_pass_for_a_complete_tree(master: Master, rotten: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold outlives it, and so does the knowledge that the source has something newer."""
    options = {"check_file": "lastupdate", "max_delete": 1}
    (master.tree / "lastupdate").write_text("1")
    rotten.pull(**options)
    (master.tree / "lastupdate").write_text("22")
    for path in (master.tree / "release-0").iterdir():
        path.unlink()
    assert rotten.pull(**options).outcome == "held"
    monkeypatch.setattr(verify, "_files", lambda tree: iter(["release-1/file-4.txt"]))
    assert verify.verify(rotten.places, rotten.define(**options), "h", percent=50, repair=True).outcome == "updated"
    assert rotten.places.held("tree").exists()
    assert rotten.pull(**options).outcome == "held"


def test_repair_obeys_the_guards(master: Master, mirror: Mirror) -> None:
    master.fill()
    mirror.pull()
    for number in range(20):
        (mirror.target / f"own-{number}").write_text("x")
    report = verify.verify(mirror.places, mirror.define(), "h", repair=True)
    assert report.kind == "too_many_deletions"
    assert (mirror.target / "own-0").exists()


@pytest.mark.parametrize("repair", [False, True])
class TestAnotherTarget:
    """What a pull doesn't write to is neither compared nor repaired."""

    def test_mount_point_without_its_disk(self, master: Master, mirror: Mirror, repair: bool) -> None:
        master.fill()
        mirror.pull(mount="/")
        mirror.target.rename(mirror.base / "away")
        mirror.target.mkdir()
        report = verify.verify(mirror.places, mirror.define(mount=str(mirror.target)), "h", repair=repair)
        assert (report.outcome, report.kind, report.exit_code) == ("held", "not_mounted", Exit.HELD)
        assert list(mirror.target.iterdir()) == []

    def test_target_that_was_swapped_for_an_empty_one(self, master: Master, mirror: Mirror, repair: bool) -> None:
        master.fill()
        mirror.pull()
        mirror.target.rename(mirror.base / "away")
        mirror.target.mkdir()
        report = verify.verify(mirror.places, mirror.define(), "h", repair=repair)
        assert (report.outcome, report.kind, report.exit_code) == ("held", "target_replaced", Exit.HELD)
        assert list(mirror.target.iterdir()) == []


@pytest.mark.parametrize("share", ["0", "101", "-1", "nan", "x"])
def test_odd_shares_are_refused(mirror: Mirror, share: str) -> None:
    mirror.define()
    done = mirror.run("verify", "--sample", share, "tree")
    assert done.returncode == Exit.USAGE
    assert f"--sample: {share!r} is no number above 0 and up to 100" in done.stderr


def test_before_the_first_pull(mirror: Mirror) -> None:
    mirror.target.rmdir()
    mirror.define()
    assert mirror.run("verify", "tree").returncode == Exit.TARGET


def test_sample_of_a_directory_below_a_module(master: Master, mirror: Mirror) -> None:
    """A daemon of rsync 3.5.0 takes the listed files for vanished, unless the source is the module itself."""
    master.fill()
    mirror.pull(sources=[f"{master.url()}release-0/"])
    damaged = mirror.target / "file-0.txt"
    found = damaged.stat()
    damaged.write_bytes(b"x" * found.st_size)
    os.utime(damaged, ns=(found.st_mtime_ns, found.st_mtime_ns))
    assert mirror.run("verify", "--sample", "99.999", "tree").returncode == Exit.DIFFERENT
    assert mirror.run("verify", "--sample", "99.999", "--repair", "tree").returncode == 0
    assert damaged.read_bytes() == (master.tree / "release-0" / "file-0.txt").read_bytes()
