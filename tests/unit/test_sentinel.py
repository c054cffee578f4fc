# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A master whose tree is not there refuses everybody, so that nobody's copy is emptied: neither ours nor that of a plain rsync."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Callable

import pytest
from conftest import SENTINEL, Master, Mirror, tree, wait_until
from mirrornet.errors import Exit


def unmount(master: Master) -> None:
    """What is left of a mount point: an empty directory."""
    shutil.rmtree(master.tree)
    master.tree.mkdir()


def empty(master: Master) -> None:
    """Somebody deletes what the tree holds, and the sentinel with it."""
    for path in master.tree.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def rebuild(master: Master) -> None:
    shutil.rmtree(master.tree / "release-1")
    (master.base / "rebuilding").touch()


def rebuild_by_link(master: Master) -> None:
    shutil.rmtree(master.tree / "release-1")
    (master.base / "rebuilding").symlink_to("nowhere")


BAD_DAYS: list[tuple[Callable[[Master], None], str]] = [
    (unmount, "its tree is not mounted or not complete (.sentinel is missing)"),
    (empty, "its tree is not mounted or not complete (.sentinel is missing)"),
    (rebuild, "its tree is being rebuilt"),
    (rebuild_by_link, "its tree is being rebuilt"),
]


@pytest.fixture
def guarded(master: Master) -> Master:
    """A master with its sentinel in place."""
    master.fill()
    (master.tree / ".sentinel").touch()
    return master


def plain_rsync(master: Master, target: Path) -> subprocess.CompletedProcess[str]:
    """Anybody's mirror script."""
    argv = ["rsync", "-a", "--delete", master.url("guarded"), f"{target}/"]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("happen", "reason"), BAD_DAYS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_plain_client_keeps_its_files(guarded: Master, tmp_path: Path, happen: Callable[[Master], None], reason: str) -> None:
    copy = tmp_path / "copy"
    assert plain_rsync(guarded, copy).returncode == 0
    before = tree(copy)
    assert before == tree(guarded.tree)
    happen(guarded)
    refused = plain_rsync(guarded, copy)
    assert refused.returncode == 10
    assert f"guarded is closed for now: {reason}. Keep your copy, and try again later." in refused.stderr
    wait_until(lambda: f"guarded is closed for now: {reason}" in (guarded.base / "log").read_text(), "the line in the daemon's log")
    assert tree(copy) == before
    # And when it's whole again, all is as ever.
    shutil.rmtree(guarded.tree, ignore_errors=True)
    guarded.tree.mkdir()
    guarded.fill(5)
    (guarded.tree / ".sentinel").touch()
    (guarded.base / "rebuilding").unlink(missing_ok=True)
    assert plain_rsync(guarded, copy).returncode == 0
    assert tree(copy) == tree(guarded.tree)


@pytest.mark.parametrize(("happen", "reason"), BAD_DAYS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_job_says_that_its_source_is_closed(guarded: Master, mirror: Mirror, happen: Callable[[Master], None], reason: str) -> None:
    source = guarded.url("guarded")
    assert mirror.pull(sources=[source]).outcome == "updated"
    before = tree(mirror.target)
    happen(guarded)
    # It is no failure that passes in a moment: with retries this would wait.
    report = mirror.pull(sources=[source], retries=20, retry_pause=3600)
    assert (report.outcome, report.kind, report.exit_code) == ("failed", "source_closed", int(Exit.UNAVAILABLE))
    assert report.message.startswith(f"{source} is closed for now: ")
    assert f"guarded is closed for now: {reason}" in report.message
    assert tree(mirror.target) == before


def test_another_source_serves_meanwhile(guarded: Master, mirror: Mirror) -> None:
    (guarded.base / "rebuilding").touch()
    report = mirror.pull(sources=[guarded.url("guarded"), guarded.url()])
    assert (report.outcome, report.source) == ("updated", guarded.url())
    assert [passed["kind"] for passed in report.passed_over] == ["source_closed"]


def check(*words: str | Path) -> tuple[int, str]:
    argv = ["/bin/sh", str(SENTINEL), *map(str, words)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, env={"RSYNC_MODULE_NAME": "docs"}, check=False)
    return done.returncode, done.stdout


def test_the_check_alone(tmp_path: Path) -> None:
    place = tmp_path / "a tree's -name"
    assert check(place, "here", "")[0] == 1
    assert check(place, "here", "")[1].startswith("docs is closed for now: its tree is not there.")
    (place / "sub dir").mkdir(parents=True)
    (place / "sub dir/here").touch()
    assert check(place, "sub dir/here", "") == (0, "")
    assert check(place, "sub dir/here", "sub dir/flag") == (0, "")
    assert check(place, "", place / "sub dir/flag") == (0, "")
    assert check(place, "", "sub dir/here")[0] == 1
    # A directory in its place is no sign of the tree.
    assert check(place, "sub dir", "")[0] == 1
