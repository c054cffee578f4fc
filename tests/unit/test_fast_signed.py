# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trusted keys: nobody between the master and a mirror, not even a mirror in between, can plant, change, hold back in part, or roll back a file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Master, Mirror, free_port, tree
from heads import Publisher
from mirrornet import bring, head, spool
from mirrornet.report import Report
from test_change import next_step, remove
from test_fast import is_same, log, own_head
from test_fast_bad_days import BREAKS, run_killed_before
from trees import describe
from trees import edit_in_place as tamper


def make_key(path: Path) -> str:
    """A new private key at ``path``; returns the public one."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text().strip()


@dataclass
class Trusting:
    """A mirror that trusts the key of one publisher."""

    mirror: Mirror
    publisher: Publisher
    keys: list[str]

    def pull(self, **options: Any) -> Report:
        return self.mirror.pull(**{"max_delete_percent": 100, "trusted_keys": self.keys, **options})


@pytest.fixture
def trusting(master: Master, mirror: Mirror, tmp_path: Path) -> Trusting:
    master.fill()
    key = tmp_path / "key"
    public = make_key(key)
    return Trusting(mirror, Publisher(master.tree, key=key), [public])


@pytest.fixture
def settled(trusting: Trusting) -> Trusting:
    trusting.publisher.publish()
    report = trusting.pull()
    assert (report.outcome, report.way) == ("updated", "manifest"), log(trusting.mirror)
    assert is_same(trusting.mirror, trusting.publisher.tree)
    return trusting


@pytest.fixture
def hostile(settled: Trusting, tmp_path: Path) -> Iterator[Master]:
    """A mirror in between, whose operator can change all that it serves; it holds what the master has."""
    between = Master(tmp_path / "hostile", free_port())
    between.base.mkdir()
    subprocess.run(["cp", "-a", settled.publisher.tree, between.tree], check=True)
    between.start()
    yield between
    between.stop()


def test_signed_from_the_first_copy_on(settled: Trusting) -> None:
    assert settled.pull().way == "same"
    (settled.publisher.tree / "new").write_text("new")
    settled.publisher.publish()
    assert settled.pull().way == "deltas"
    assert is_same(settled.mirror, settled.publisher.tree)
    assert own_head(settled.mirror) == (settled.publisher.own / "head").read_bytes(), "with the signature, for the next mirror"


def test_a_first_copy_that_is_killed_goes_on(trusting: Trusting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were of millions of files, with its plan in a file: what shows is whole, and what had come isn't brought again."""
    monkeypatch.setattr(bring, "_MANY", 3)
    monkeypatch.setattr(spool, "_BLOCK", 2)
    mirror, tree = trusting.mirror, trusting.publisher.tree
    (tree / "INDEX").write_text("INDEX")
    os.link(tree / "release-0" / "file-0.txt", tree / "release-1" / "again")
    trusting.publisher.publish()
    whole = {entry.path: entry for entry in describe(tree)}
    options: dict[str, Any] = {"max_delete_percent": 100, "trusted_keys": trusting.keys, "index": ["INDEX"]}
    job, step, brought = mirror.define(**options), 0, set[int]()
    saved = tmp_path / "saved"
    subprocess.run(["cp", "-a", mirror.base, saved], check=True)
    while run_killed_before(step, mirror, job):
        shown = [entry for entry in describe(mirror.target) if entry.kind == "f"]
        assert all(entry.digest == whole[entry.path].digest for entry in shown), f"killed before step {step}"
        report = mirror.pull(**options)
        assert report.outcome in ("updated", "unchanged"), f"killed before step {step}: {log(mirror)}"
        assert is_same(mirror, tree), f"killed before step {step}: {log(mirror)}"
        assert {path.name for path in (mirror.target / ".mirrornet").iterdir()} >= {"head"}
        assert not (mirror.target / ".mirrornet" / "incoming").exists()
        brought.add(report.files)
        remove(mirror.base)
        subprocess.run(["cp", "-a", saved, mirror.base], check=True)
        step = next_step(step, 4)
    assert is_same(mirror, tree)
    assert brought >= {0, 9}


class TestRefused:
    def test_unsigned(self, settled: Trusting) -> None:
        before = describe(settled.mirror.target)
        settled.publisher.key = None
        (settled.publisher.tree / "new").write_text("new")
        settled.publisher.publish()
        report = settled.pull()
        assert (report.outcome, report.kind) == ("failed", "untrusted")
        assert "not signed" in report.message
        assert describe(settled.mirror.target) == before

    def test_no_head_at_all(self, settled: Trusting) -> None:
        (settled.publisher.own / "head").unlink()
        (settled.publisher.tree / "new").write_text("new")
        report = settled.pull()
        assert (report.outcome, report.kind) == ("failed", "untrusted")
        assert not (settled.mirror.target / "new").exists()

    def test_signed_by_somebody_else(self, settled: Trusting, tmp_path: Path) -> None:
        settled.publisher.key = tmp_path / "other"
        make_key(settled.publisher.key)
        (settled.publisher.tree / "new").write_text("new")
        settled.publisher.publish()
        assert settled.pull().kind == "untrusted"
        assert not (settled.mirror.target / "new").exists()

    def test_a_head_with_the_signature_of_another(self, settled: Trusting, hostile: Master) -> None:
        one = head.parse((hostile.tree / ".mirrornet" / "head").read_bytes())
        publisher = Publisher(hostile.tree, serial=1)
        (hostile.tree / "evil").write_text("evil")
        new = publisher.publish()
        (hostile.tree / ".mirrornet" / "head").write_bytes(new.line + one.signature)
        assert settled.pull(sources=[hostile.url()]).kind == "untrusted"
        assert not (settled.mirror.target / "evil").exists()

    @pytest.mark.parametrize("first_copy", [True, False])
    def test_tampered_content(self, settled: Trusting, hostile: Master, first_copy: bool) -> None:
        """It comes, and goes no further than the directory that nobody else can read."""
        mirror, publisher = settled.mirror, settled.publisher
        (publisher.tree / "release-0" / "file-0.txt").write_text("a new release\n")
        publisher.publish()
        subprocess.run(["rsync", "-aH", "--delete", f"{publisher.tree}/", f"{hostile.tree}/"], check=True)
        tamper(hostile.tree / "release-0" / "file-0.txt")
        if first_copy:
            mirror = Mirror(mirror.base.with_name("fresh"), hostile)
            mirror.target.mkdir(parents=True)
        before = describe(mirror.target)
        trusting = Trusting(mirror, publisher, settled.keys)
        for dummy in range(2):
            report = trusting.pull(sources=[hostile.url()])
            assert (report.outcome, report.kind) == ("failed", "bad_content"), log(mirror)
            assert describe(mirror.target)[1:] == before[1:]
        assert "--recursive" not in log(mirror), "it never takes the plain way"
        # Another source has what was signed.
        report = trusting.pull(sources=[hostile.url(), settled.mirror.master.url()])
        assert (report.outcome, report.source) == ("updated", settled.mirror.master.url())
        assert is_same(mirror, publisher.tree)

    def test_a_changed_tree_under_the_old_head(self, settled: Trusting, hostile: Master) -> None:
        """What is here stays as it is, also at a full check."""
        before = describe(settled.mirror.target)
        tamper(hostile.tree / "release-0" / "file-0.txt")
        (hostile.tree / "evil").write_text("evil")
        (hostile.tree / "release-1" / "file-1.txt").unlink()
        for options in ({}, {"full_check": 0}):
            assert settled.pull(sources=[hostile.url()], **options).outcome == "unchanged"
            assert describe(settled.mirror.target) == before

    def test_rolled_back(self, settled: Trusting, hostile: Master) -> None:
        """An old release, with its own signature."""
        (settled.publisher.tree / "fixed").write_text("fixed")
        settled.publisher.publish()
        assert settled.pull().outcome == "updated"
        report = settled.pull(sources=[hostile.url()])
        assert (report.outcome, report.kind) == ("failed", "stale")
        assert is_same(settled.mirror, settled.publisher.tree)

    def test_an_old_epoch_comes_back(self, settled: Trusting, hostile: Master) -> None:
        settled.publisher.new_epoch("b")
        (settled.publisher.tree / "fixed").write_text("fixed")
        settled.publisher.publish()
        assert settled.pull().way == "manifest"
        report = settled.pull(sources=[hostile.url()])
        assert (report.outcome, report.kind) == ("failed", "untrusted")
        assert is_same(settled.mirror, settled.publisher.tree)
        # Unless somebody who can tell says that it is meant.
        assert settled.mirror.run("approve", "tree").returncode == 0
        assert settled.pull(sources=[hostile.url()]).outcome == "updated"
        assert is_same(settled.mirror, hostile.tree)

    def test_not_even_after_an_interruption(self, settled: Trusting, hostile: Master, monkeypatch: pytest.MonkeyPatch) -> None:
        """Between two trees, the mirror still knows which was the last."""
        (settled.publisher.tree / "fixed").write_text("fixed")
        settled.publisher.publish()
        assert settled.pull().outcome == "updated"
        (settled.publisher.tree / "more").write_text("more")
        settled.publisher.publish()
        monkeypatch.setattr(bring, "adopt", lambda *words: 1 / 0)
        assert settled.pull().kind == "internal"
        monkeypatch.undo()
        assert settled.pull(sources=[hostile.url()]).kind == "stale"
        assert (settled.mirror.target / "fixed").exists()
        assert settled.pull().outcome in ("updated", "unchanged")
        assert is_same(settled.mirror, settled.publisher.tree)


class TestRotation:
    def test_of_the_key(self, settled: Trusting, tmp_path: Path) -> None:
        """Mirrors trust both, the master changes, mirrors trust the new one alone."""
        new = tmp_path / "new"
        settled.keys = [*settled.keys, make_key(new)]
        assert settled.pull().way == "same"
        settled.publisher.key = new
        settled.publisher.write(settled.publisher.head())
        assert settled.pull().outcome == "unchanged", "the same tree, signed anew"
        assert own_head(settled.mirror) == (settled.publisher.own / "head").read_bytes()
        settled.keys = settled.keys[1:]
        (settled.publisher.tree / "new").write_text("new")
        settled.publisher.publish()
        assert settled.pull().way == "deltas"

    def test_a_tree_signed_with_a_key_that_is_no_longer_trusted(self, settled: Trusting, tmp_path: Path) -> None:
        """Also if the source has nothing new: what is here was taken at the word of that key."""
        assert settled.pull().way == "same"
        new = tmp_path / "new"
        settled.keys = [make_key(new)]
        for dummy in range(2):
            report = settled.pull()
            assert (report.outcome, report.kind) == ("failed", "untrusted")
        settled.publisher.key = new
        settled.publisher.write(settled.publisher.head())
        assert settled.pull().outcome == "unchanged"
        assert settled.pull().way == "same"
        assert "is signed by" not in log(settled.mirror), "asked once, not at every run"

    def test_a_key_that_is_no_longer_trusted(self, settled: Trusting, tmp_path: Path) -> None:
        settled.keys = [make_key(tmp_path / "new")]
        (settled.publisher.tree / "new").write_text("new")
        settled.publisher.publish()
        assert settled.pull().kind == "untrusted"


@pytest.mark.parametrize("lists_are_here", [True, False])
@pytest.mark.parametrize("break_chain", ["new-epoch", "no-deltas"])
def test_no_delta_leads_to_what_was_edited_in_place(settled: Trusting, break_chain: str, lists_are_here: bool) -> None:
    """Equal size and time say nothing: the digests of the former list do, and without that list the files themselves."""
    tamper(settled.publisher.tree / "release-0" / "file-0.txt")
    BREAKS[break_chain](settled.publisher)
    settled.publisher.publish()
    if not lists_are_here:
        for path in (settled.mirror.target / ".mirrornet").glob("manifest-*"):
            path.unlink()
    report = settled.pull()
    assert (report.outcome, report.way, report.files) == ("updated", "manifest", 1), log(settled.mirror)
    assert is_same(settled.mirror, settled.publisher.tree)


def test_trust_that_begins_later_reads_what_is_there(master: Master, mirror: Mirror, trusting: Trusting) -> None:
    """Of what came before nobody knows whether it was signed."""
    trusting.publisher.publish()
    for dummy in range(3):
        report = mirror.pull()
    assert report.way == "same"
    tamper(mirror.target / "release-0" / "file-0.txt")
    assert trusting.pull().way == "manifest"
    assert is_same(mirror, master.tree)
    assert trusting.pull().way == "same"


class TestByHand:
    def test_what_somebody_took_away_is_back_after_the_full_check(self, settled: Trusting) -> None:
        (settled.mirror.target / "release-0" / "file-0.txt").unlink()
        report = settled.pull(full_check=0)
        assert (report.outcome, report.way, report.files) == ("updated", "manifest", 1)
        assert is_same(settled.mirror, settled.publisher.tree)

    def test_verify(self, settled: Trusting, hostile: Master) -> None:
        """By digests; and a repair takes nothing that isn't signed either."""
        settled.pull()
        target = settled.mirror.target / "release-0" / "file-0.txt"
        assert settled.mirror.run("verify", "tree").returncode == 0
        tamper(target)
        assert settled.mirror.run("verify", "tree").returncode == 82
        tamper(hostile.tree / "release-0" / "file-0.txt")
        settled.mirror.define(trusted_keys=settled.keys, sources=[hostile.url()])
        assert settled.mirror.run("verify", "--repair", "tree").returncode != 0
        settled.mirror.define(trusted_keys=settled.keys)
        assert settled.mirror.run("verify", "--repair", "tree").returncode == 0
        assert is_same(settled.mirror, settled.publisher.tree)

    def test_the_guards_speak(self, settled: Trusting) -> None:
        subprocess.run(["rm", "-r", settled.publisher.tree / "release-0", settled.publisher.tree / "release-1"], check=True)
        settled.publisher.publish()
        assert settled.pull(max_delete_percent=25).kind == "too_many_deletions"
        assert settled.mirror.run("approve", "tree").returncode == 0
        assert settled.pull(max_delete_percent=25).outcome == "updated"
        assert tree(settled.mirror.target) == tree(settled.publisher.tree)
