# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An update by a list of what changed leaves what rsync would leave, whatever was done to the tree, and whenever it is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mirrornet import apply, change, spool
from mirrornet.below import Below, Unexpected
from mirrornet.change import Change, Suspects
from mirrornet.coming import Coming
from mirrornet.entry import Entry, combine
from mirrornet.spool import Spool
from trees import Scramble, delta, describe

ROUNDS = int(os.environ.get("CHANGE_ROUNDS", "12"))
EVERY_STEP = bool(os.environ.get("EVERY_STEP"))


@contextmanager
def below(top: Path) -> Iterator[Below]:
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    one = Below(fd)
    try:
        yield one
    finally:
        one.lock_again()
        one.close()
        os.close(fd)


def stage(master: Path, target: Path, found: Change) -> None:
    """What rsync does in a run: bring the content."""
    staging = target / ".mirrornet" / "incoming"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    staging.chmod(0o700)
    for staged in Coming(found.files, flat=True):
        path = os.path.join(os.fsencode(staging), staged.path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copyfile(os.path.join(os.fsencode(master), staged.entry.path), path)


def carry_out(target: Path, found: Change) -> None:
    top = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    staging = apply.staging_directory(target / ".mirrornet" / "incoming")
    try:
        coming = Coming(found.files, flat=True)
        assert coming.look(staging) == 0
        apply.carry_out(top, staging, found, coming, lambda path: path.endswith(b"1"))
    finally:
        os.close(top)
        os.close(staging)


@pytest.fixture(autouse=True)
def few_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a change of millions is kept in is in use for three entries already."""
    monkeypatch.setattr(spool, "_BLOCK", 3)


def room(target: Path) -> Path:
    directory = target / ".mirrornet"
    directory.mkdir(exist_ok=True)
    return directory


def by_deltas(target: Path, records: list[Entry]) -> Change:
    with below(target) as one:
        return change.from_deltas(one, records, room=room(target))


def by_manifest(target: Path, entries: Iterable[Entry], **how: Any) -> Change:
    with below(target) as one:
        return change.from_manifest(one, iter(entries), room=room(target), **how)


@pytest.fixture
def master(tmp_path: Path) -> Path:
    top = tmp_path / "master"
    top.mkdir()
    return top


@pytest.fixture
def target(tmp_path: Path) -> Path:
    top = tmp_path / "target"
    (top / ".mirrornet").mkdir(parents=True)
    return top


@pytest.mark.parametrize("seed", range(6))
def test_deltas_leave_what_rsync_leaves(master: Path, target: Path, tmp_path: Path, seed: int) -> None:
    scramble = Scramble(master, seed)
    scramble.edit(60)
    now = describe(master)
    first = by_manifest(target, now)
    assert first.created == len(now) - 1
    stage(master, target, first)
    carry_out(target, first)
    assert describe(target) == now
    for number in range(ROUNDS):
        deltas = []
        for dummy in range(1 + number % 3):
            former = now
            scramble.edit(8)
            now = describe(master)
            deltas.append(delta(former, now))
        before = describe(target)
        found = by_deltas(target, list(combine(deltas)))
        stage(master, target, found)
        carry_out(target, found)
        assert describe(target) == now, f"round {number}"
        # The guards' numbers are exact.
        paths, former_paths = {entry.path for entry in now}, {entry.path for entry in before}
        assert (found.created, len(found.deletions)) == (len(paths - former_paths), len(former_paths - paths))
        assert by_deltas(target, list(combine(deltas))).steps == 0, "a second time finds nothing to do"
        assert by_manifest(target, now, read_all=True).steps == 0
    fresh = tmp_path / "fresh"
    for dummy in range(2):  # rsync's making of hard links disturbs times of directories, which a second call puts right.
        subprocess.run(["rsync", "-aH", "--delete", f"{master}/", f"{fresh}/"], check=True)
    # A time that differs by less than a second is the same to rsync.
    seconds = [[entry._replace(mtime=entry.mtime // 10**9) for entry in describe(top)] for top in (fresh, target)]
    assert seconds[0] == seconds[1]


@pytest.mark.parametrize("seed", range(4))
def test_a_manifest_repairs_whatever_was_done_to_the_mirror(master: Path, target: Path, seed: int) -> None:
    scramble, vandal = Scramble(master, 100 + seed), Scramble(target, 200 + seed)
    for number in range(ROUNDS):
        scramble.edit(15)
        vandal.edit(10)
        (target / ".mirrornet").mkdir(exist_ok=True)
        found = by_manifest(target, describe(master), read_all=True)
        stage(master, target, found)
        carry_out(target, found)
        assert describe(target) == describe(master), f"round {number}"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("by", ["lists", "deltas"])
def test_suspects_are_all_whose_content_may_be_another(master: Path, target: Path, by: str, seed: int) -> None:
    """By the list of the former tree, or by deltas since then, two of each: files edited in place are found, and few others are read."""
    scramble = Scramble(master, 600 + seed)

    def suspected(now: list[Entry], known: list[list[Entry]]) -> Suspects:
        return Suspects(map(iter, known), ()) if by == "lists" else Suspects((), (iter(delta(one, now)) for one in known))

    for number in range(ROUNDS):
        held = describe(target)
        scramble.edit(10 if number else 60)
        known = [held, describe(master)]
        scramble.edit(10)
        now = describe(master)
        suspects = suspected(now, known)
        asked = {entry.path for entry in suspects.watch(now) if entry.path in suspects}
        files = {entry.path: entry for entry in now if entry.kind == "f"}
        same = [{entry.path: entry for entry in one} for one in known]
        assert {path for path in files if any(path not in one or one[path].digest != files[path].digest for one in same)} <= asked
        if by == "lists":
            assert asked.isdisjoint(path for path in files if all(one.get(path) == files[path] for one in same))
        suspects = suspected(now, known)
        found = by_manifest(target, suspects.watch(now), suspects=suspects)
        stage(master, target, found)
        carry_out(target, found)
        assert describe(target) == now, f"round {number}"


class TestFurtherNames:
    """They are little to write, and may be many."""

    def test_those_that_are_as_they_should_be_cost_no_memory(self, target: Path) -> None:
        for number in range(100):
            (target / f"{number:03d}").mkdir()
            for name in range(100):
                if number == name == 0:
                    (target / "000" / "000").write_text("content")
                else:
                    os.link(target / "000" / "000", target / f"{number:03d}" / f"{name:03d}")
        entries = describe(target)
        tracemalloc.start()
        try:
            found = by_manifest(target, entries)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert found.steps == 0
        assert peak < 500_000, "a path alone has 57 bytes here, and there are 10,000"

    def test_others_count_before_they_are_kept(self, target: Path) -> None:
        first = Entry("f", b"a", 0o644, 0, 1, "A" * 43)
        read = 0

        def entries() -> Iterator[Entry]:
            nonlocal read
            for entry in [Entry("d", b"", 0o755, 0), first, *(Entry("h", b"b%06d" % number, target=b"a") for number in range(10_000))]:
                read += 1
                yield entry

        with pytest.raises(change.TooMuch):
            by_manifest(target, entries(), most=100)
        assert read < 110


class Killed:
    """In a child process: ends it, as kill -9 would, before the n-th call that changes something."""

    NAMES = ("rename", "mkdir", "unlink", "symlink", "link", "rmdir", "chmod", "fchmod", "utime", "write")

    def __init__(self, before: int) -> None:
        self._left = before
        for name in self.NAMES:
            setattr(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, call):  # type: ignore[no-untyped-def]
        def counted(*words, **options):  # type: ignore[no-untyped-def]
            if self._left == 0:
                os._exit(9)
            self._left -= 1
            return call(*words, **options)

        return counted


def killed_before(step: int, target: Path, found: Change) -> bool:
    """Carry the change out in a child that dies before its step; whether it did."""
    child = os.fork()
    if child == 0:
        try:
            Killed(step)
            carry_out(target, found)
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def next_step(step: int, of: int) -> int:
    """Before which step to kill next: each one if that is asked for, else the fewer the further it has come, one ``of`` so many."""
    return step + 1 + (0 if EVERY_STEP else step // of)


def remove(top: Path) -> None:
    """Also what is in directories that their owner may not write to."""
    for directory, names, dummy in os.walk(os.fsencode(top)):
        for name in names:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(top)


@pytest.mark.parametrize("seed", range(3))
def test_killed_between_any_two_steps(master: Path, target: Path, tmp_path: Path, seed: int) -> None:
    scramble = Scramble(master, 300 + seed)
    scramble.edit(50)
    before = describe(master)
    first = by_manifest(target, before)
    stage(master, target, first)
    carry_out(target, first)
    scramble.edit(12)
    after = describe(master)
    saved = tmp_path / "saved"
    subprocess.run(["cp", "-a", target, saved], check=True)
    old, new = ({entry.path: entry for entry in entries} for entries in (before, after))
    step = 0
    while True:
        found = by_deltas(target, delta(before, after))
        stage(master, target, found)
        if not killed_before(step, target, found):
            break
        for entry in describe(target):
            if entry.kind == "f":
                known = [one.digest for one in (old.get(entry.path), new.get(entry.path)) if one is not None and one.kind in "fh"]
                links = [one for one in (old.get(entry.path), new.get(entry.path)) if one is not None and one.kind == "h"]
                assert known, f"killed before step {step}: {entry.path!r} is in neither tree"
                assert links or entry.digest in known, f"killed before step {step}: {entry.path!r} is torn"
        # As a run does that follows a killed one.
        found = by_manifest(target, after, suspects={record.path for record in delta(before, after)})
        stage(master, target, found)
        carry_out(target, found)
        assert describe(target) == after, f"killed before step {step}"
        remove(target)
        subprocess.run(["cp", "-a", saved, target], check=True)
        step = next_step(step, 20)
    assert step > 10
    assert describe(target) == after


class TestClosedDirectories:
    """Directories whose mode keeps their owner out, as a master that runs as root may serve them."""

    def test_changes_below_one(self, master: Path, target: Path) -> None:
        (master / "closed" / "deep").mkdir(parents=True)
        (master / "closed" / "deep" / "a").write_text("a")
        (master / "closed" / "deep" / "b").write_text("b")

        def closed() -> list[Entry]:
            return [entry._replace(mode=0) if entry.kind == "d" and entry.path else entry for entry in describe(master)]

        first = closed()
        found = by_manifest(target, first)
        stage(master, target, found)
        carry_out(target, found)
        assert (target / "closed").stat().st_mode & 0o7777 == 0
        assert by_manifest(target, first).steps == 0
        assert (target / "closed").stat().st_mode & 0o7777 == 0
        (master / "closed" / "deep" / "a").unlink()
        (master / "closed" / "deep" / "c").write_text("new")
        (master / "closed" / "deep" / "b").write_text("other")
        second = closed()
        found = by_deltas(target, delta(first, second))
        stage(master, target, found)
        carry_out(target, found)
        assert by_manifest(target, second).steps == 0
        for path in (target / "closed", target / "closed" / "deep"):
            assert path.stat().st_mode & 0o7777 == 0
            path.chmod(0o700)
        assert sorted(path.name for path in (target / "closed" / "deep").iterdir()) == ["b", "c"]


def digest_of(text: str, path: Path) -> str:
    path.write_text(text)
    fd = os.open(path, os.O_RDONLY)
    try:
        return change.digest(fd)
    finally:
        os.close(fd)


class TestUnexpected:
    """What doesn't fit stops the work instead of being guessed at."""

    def test_a_symlink_in_place_of_a_directory(self, target: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (target / "a").symlink_to(outside)
        with pytest.raises(Unexpected, match="'a' is no directory"):
            by_deltas(target, [Entry("f", b"a/b", 0o644, 0, 1, digest_of("x", tmp_path / "x"))])

    def test_a_symlink_planted_while_it_works(self, master: Path, target: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "old").write_text("precious")
        (target / "a").mkdir()
        (target / "a" / "old").write_text("x")
        (master / "a").mkdir()
        (master / "a" / "b").write_text("b")
        found = by_deltas(target, [entry for entry in describe(master) if entry.kind == "f"] + [Entry("-", b"a/old")])
        stage(master, target, found)
        (target / "a").rename(target / "moved")
        (target / "a").symlink_to(outside)
        with pytest.raises(Unexpected, match="'a' is no directory"):
            carry_out(target, found)
        assert [path.name for path in outside.iterdir()] == ["old"]

    def test_a_deletion_through_a_symlink(self, target: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "old").write_text("precious")
        (target / "a").mkdir()
        (target / "a" / "old").write_text("x")
        found = by_deltas(target, [Entry("-", b"a/old")])
        shutil.rmtree(target / "a")
        (target / "a").symlink_to(outside)
        stage(target, target, found)
        carry_out(target, found)
        assert (outside / "old").exists()

    def test_a_foreign_file_in_a_directory_that_goes(self, target: Path) -> None:
        (target / "a").mkdir()
        (target / "a" / "thesis").write_text("mine")
        found = by_deltas(target, [Entry("-", b"a")])
        stage(target, target, found)
        with pytest.raises(Unexpected, match="'a' was to be removed"):
            carry_out(target, found)
        assert (target / "a" / "thesis").exists()

    def test_a_missing_parent(self, target: Path) -> None:
        with pytest.raises(Unexpected, match="'gone' is no directory"):
            by_deltas(target, [Entry("d", b"gone/a", 0o755, 0)])

    def test_wrong_content_is_never_placed(self, master: Path, target: Path, tmp_path: Path) -> None:
        (master / "a").write_text("evil")
        found = by_deltas(target, [Entry("f", b"a", 0o644, 0, 4, digest_of("good", tmp_path / "x"))])
        stage(master, target, found)
        staging = apply.staging_directory(target / ".mirrornet" / "incoming")
        coming = Coming(found.files, flat=True)
        assert coming.look(staging) == 1
        assert [one.path for one in coming.missing()] == [b"flat/a"]
        os.close(staging)

    def test_a_staged_symlink_is_not_content(self, target: Path, tmp_path: Path) -> None:
        good = digest_of("good", tmp_path / "x")
        for name in ("files", "flat"):
            (target / ".mirrornet" / "incoming" / name).mkdir(parents=True)
            (target / ".mirrornet" / "incoming" / name / "a").symlink_to(tmp_path / "x")
        staging = apply.staging_directory(target / ".mirrornet" / "incoming")
        wanted = Spool(entries=[Entry("f", b"a", 0o644, 0, 4, good)])
        for flat in (False, True):
            assert Coming(wanted, flat=flat).look(staging) == 1
        os.close(staging)

    def test_too_deep(self, target: Path) -> None:
        with pytest.raises(Unexpected, match="deeper than 200"):
            by_deltas(target, [Entry("d", b"/".join([b"d"] * 300), 0o755, 0)])


def test_index_files_come_after_data_and_before_deletions(master: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INDEX1", "data", "z"):
        (master / name).write_text(name)
    (target / "gone").write_text("x")
    found = by_manifest(target, describe(master))
    stage(master, target, found)
    done: list[object] = []
    rename, unlink = os.rename, os.unlink
    monkeypatch.setattr(os, "rename", lambda *words, **options: (done.append(words[1]), rename(*words, **options))[1])
    monkeypatch.setattr(os, "unlink", lambda *words, **options: (done.append(words[0]), unlink(*words, **options))[1])
    carry_out(target, found)
    assert done == [b"data", b"z", b"INDEX1", b"gone"]


def test_a_file_shared_with_a_snapshot_is_replaced_not_rewritten(master: Path, target: Path, tmp_path: Path) -> None:
    """Somebody's copy made of hard links keeps what it has when a delta changes the mode."""
    (master / "a").write_text("content")
    first = describe(master)
    found = by_manifest(target, first)
    stage(master, target, found)
    carry_out(target, found)
    os.link(target / "a", tmp_path / "snapshot")
    (master / "a").chmod(0o600)
    found = by_deltas(target, delta(first, describe(master)))
    assert (len(found.copies), len(found.files)) == (1, 0)
    stage(master, target, found)
    carry_out(target, found)
    assert describe(target) == describe(master)
    assert (tmp_path / "snapshot").stat().st_mode & 0o777 == 0o644


def test_a_new_name_that_sorts_first_brings_no_content(master: Path, target: Path) -> None:
    (master / "m").write_text("content")
    first = describe(master)
    found = by_manifest(target, first)
    stage(master, target, found)
    carry_out(target, found)
    os.link(master / "m", master / "a")
    for found in (by_deltas(target, delta(first, describe(master))), by_manifest(target, describe(master))):
        assert (list(found.files), found.copies, found.links) == ([], [], [(b"a", b"m")])
    stage(master, target, found)
    carry_out(target, found)
    assert describe(target) == describe(master)


def test_settling_says_what_went_wrong(target: Path) -> None:
    top = os.open(target, os.O_RDONLY)
    apply.settle(top)
    os.close(top)
    with pytest.raises(OSError, match="Bad file descriptor"):
        apply.settle(top)


def test_a_directory_that_was_made_again_is_another(tmp_path: Path) -> None:
    """What is kept open of the last one must not be taken for it."""
    (tmp_path / "a").mkdir()
    with below(tmp_path) as one:
        former = os.fstat(one.directory(b"a"))
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a").mkdir()
        one.forget(b"a")
        now = os.fstat(one.directory(b"a"))
        assert now.st_ino == (tmp_path / "a").stat().st_ino != former.st_ino
        assert os.fstat(one.directory(b"")).st_ino == tmp_path.stat().st_ino
        assert os.fstat(one.directory(b"a")).st_ino == now.st_ino
