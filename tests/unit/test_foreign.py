# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A source that publishes Fedora's list of files: followed where it can be, and never believed where it can't."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Master, Mirror
from hypothesis import given
from hypothesis import strategies as st
from mirrornet import filelist, foreign
from mirrornet import job as jobs
from mirrornet.filelist import BadList

LIST = "fullfiletimelist-demo"
HEAD = b"[Version]\n3\n\n[Files]\n"
TAIL = b"\n[Checksums SHA1]\n0123456789abcdef0123456789abcdef01234567\tfile\n\n[End]\n"


# The list itself


def read(data: bytes) -> list[bytes]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return list(filelist.lines(Path(file.name)))


def test_a_list_as_fedora_writes_it() -> None:
    text = b"1767700953\tf\t282\tlinux/extras/README\n1366880149\td\t4096\tlinux/extras\n1\tl\t7\tnow\n1\td*\t4096\tlinux/soon\n2\tf-\t9\tlinux/soon/a b\n"
    found = [filelist.parse(line) for line in read(HEAD + text + TAIL)]
    assert found[0] == filelist.Line("f", True, 1767700953, 282, b"linux/extras/README")
    assert [(line.kind, line.is_open) for line in found] == [("f", True), ("d", True), ("l", True), ("d", False), ("f", False)]
    assert found[-1].path == b"linux/soon/a b"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        HEAD,
        HEAD + b"1\tf\t2\ta\n",
        HEAD + b"1\tf\t2\ta",
        (HEAD + TAIL)[:-1],
        HEAD.replace(b"3", b"4") + TAIL,
        HEAD.replace(b"3", b"three") + TAIL,
        HEAD.replace(b"[Version]\n3\n", b"") + TAIL,
        b"[Version]\n3\n\n[End]\n",
        b"words before\n" + HEAD + TAIL,
        HEAD + TAIL + HEAD + TAIL,
        HEAD + TAIL + b"1\tf\t2\ta\n",
        HEAD + b"\n[Files]\n" + TAIL,
        HEAD + b"x" * 10_000_000 + b"\n" + TAIL,
        b"\x1f\x8b\x08\x00" + bytes(range(256)),
    ],
)
def test_what_is_no_whole_list_is_refused(data: bytes) -> None:
    with pytest.raises(BadList):
        read(data)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"1\tf\t2",
        b"1\tf\t2\t",
        b"1 f 2 a",
        b"1\tx\t2\ta",
        b"1\tf?\t2\ta",
        b"one\tf\t2\ta",
        b"1\tf\t-2\ta",
        b"1\tf\t" + b"9" * 20 + b"\ta",
        b"1\tf\t2\t/etc/passwd",
        b"1\tf\t2\t../a",
        b"1\tf\t2\ta/../../b",
        b"1\tf\t2\ta/..",
        b"1\tf\t2\t./a",
        b"1\tf\t2\ta//b",
        b"1\td\t2\ta/",
        b"1\tf\t2\ta\0b",
        b"1\tf\t2\t" + b"a" * 4096,
    ],
)
def test_what_is_no_line_is_refused(line: bytes) -> None:
    with pytest.raises(BadList):
        filelist.parse(line)


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"[Files]", b"[Version]", b"3", b"[End]", b"\n", b"1\tf\t2\ta", b""])).map(b"\n".join)
)
def test_any_bytes_are_a_list_or_refused(data: bytes) -> None:
    for whole in (data, HEAD + data + TAIL):
        try:
            for line in read(whole):
                path = filelist.parse(line).path
                assert not path.startswith(b"/")
                assert b".." not in path.split(b"/")
        except BadList:
            continue


@given(st.lists(st.binary(min_size=1, max_size=3).filter(lambda line: b"\n" not in line)), st.data(), st.sampled_from([1, 7, 10**6]))
def test_two_lists_are_compared_whatever_their_order_and_size(old: list[bytes], data: Any, bucket: int) -> None:
    new = data.draw(st.permutations(old + data.draw(st.lists(st.just(b"more")))))[: data.draw(st.integers(0, 99))]
    with tempfile.TemporaryDirectory() as scratch:
        found = filelist.difference(iter(old), iter(new), Path(scratch), size=sum(map(len, old + new)), most=10**6, bucket=bucket)
        assert os.listdir(scratch) == []  # noqa: PTH208
    assert found == (set(old) - set(new), set(new) - set(old))


def test_lists_that_have_little_in_common_are_too_much(tmp_path: Path) -> None:
    for bucket in (10, 10**6):
        with pytest.raises(filelist.TooMany):
            filelist.difference([b"%d" % n for n in range(100)], [], tmp_path, size=300, most=99, bucket=bucket)
    assert list(tmp_path.iterdir()) == []


# A master with such a list


def seen(top: Path) -> list[filelist.Seen]:
    """What a tree has, but for lists at its top."""
    found = []
    for path in sorted(top.rglob("*")):
        if path.relative_to(top).parts[0].startswith((LIST, "imagelist", ".mirrornet")):
            continue
        one = path.lstat()
        kind = "l" if path.is_symlink() else "d" if path.is_dir() else "f"
        found.append(
            filelist.Seen(kind, one.st_mode & 0o7777, one.st_mtime_ns, one.st_ctime_ns, one.st_size, os.fsencode(path.relative_to(top)))
        )
    return found


class Fedora:
    """A tree that changes as a project's does, and its list."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree

    def publish(self) -> None:
        """Write the list; waits until the clock, of which it has whole seconds, has gone on."""
        time.sleep(1.05)
        with (self.tree / f"{LIST}.new").open("wb") as file:
            filelist.write(seen(self.tree), file)
        (self.tree / f"{LIST}.new").replace(self.tree / LIST)

    def text(self, *, replace: tuple[bytes, bytes]) -> None:
        """Change the list by hand."""
        old = (self.tree / LIST).read_bytes()
        assert replace[0] in old
        (self.tree / LIST).write_bytes(old.replace(*replace))


@pytest.fixture
def fedora(master: Master) -> Fedora:
    master.fill()
    (master.tree / "imagelist").write_text("unlisted, as Fedora has some\n")
    made = Fedora(master.tree)
    made.publish()
    return made


def settled(mirror: Mirror) -> None:
    """A mirror whose tree a list stands for."""
    assert mirror.pull(file_list=LIST).way == "plain"
    assert mirror.pull(file_list=LIST).way == "same"


def same(master: Master, mirror: Mirror) -> bool:
    """Whether rsync finds nothing to do, content included, but for the time of the tree itself, which no list has."""
    command = ["rsync", "-acnH", "--delete", "--exclude=/.mirrornet", "--out-format=%i %n", f"{master.tree}/", f"{mirror.target}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if not line.endswith(" ./")] == []
    return True


def test_a_list_that_is_the_same_ends_the_run(master: Master, fedora: Fedora, mirror: Mirror) -> None:
    settled(mirror)
    before = (master.base / "log").read_text().count("rsync on ")
    found = mirror.pull(file_list=LIST)
    assert (found.outcome, found.way) == ("unchanged", "same")
    assert found.received < 500
    assert (master.base / "log").read_text().count("rsync on ") == before + 1


def test_what_has_changed_is_brought_and_what_is_gone_goes(master: Master, fedora: Fedora, mirror: Mirror) -> None:
    settled(mirror)
    (master.tree / "release-0" / "file-0.txt").write_text("new content, and longer\n")
    (master.tree / "release-1" / "file-1.txt").unlink()
    shutil.rmtree(master.tree / "release-2")
    (master.tree / "latest").unlink()
    (master.tree / "latest").symlink_to("release-1")
    (master.tree / "new" / "deep").mkdir(parents=True)
    for name in (b"#a", b";b", b"-c", b"d e", b"f\tg", b"\xff\xfe", b"[h]*?", b"--i"):
        (master.tree / "new" / "deep" / os.fsdecode(name)).write_bytes(name)
    os.link(master.tree / "new" / "deep" / "d e", master.tree / "another name")
    (master.tree / "release-0" / "file-3.txt").chmod(0o755)
    fedora.publish()
    found = mirror.pull(file_list=LIST, max_delete_percent=50)
    assert (found.outcome, found.way) == ("updated", "list")
    assert found.deletions == 4
    assert same(master, mirror)
    assert (mirror.target / LIST).read_bytes() == (master.tree / LIST).read_bytes()
    assert mirror.pull(file_list=LIST).way == "same"


def test_random_changes_end_as_rsync_would_end_them(master: Master, fedora: Fedora, mirror: Mirror) -> None:
    settled(mirror)
    chance = random.Random(20260131)
    ways = []
    for number in range(6):
        for dummy in range(12):
            edit(master.tree, chance, number)
        fedora.publish()
        ways.append(mirror.pull(file_list=LIST, max_delete_percent=100).way)
        assert same(master, mirror)
    assert "list" in ways


def same_but_for(exclude: list[str], master: Master, mirror: Mirror) -> bool:
    """The same for a job that leaves something out, and of that nothing is here."""
    patterns = [f"--exclude={pattern}" for pattern in ("/.mirrornet", *exclude)]
    there = subprocess.run(["rsync", "-rn", "--out-format=%n", *patterns, f"{master.tree}/", "/x/"], capture_output=True, check=True).stdout
    here = subprocess.run(
        ["rsync", "-rn", "--out-format=%n", "--exclude=/.mirrornet", f"{mirror.target}/", "/x/"], capture_output=True, check=True
    )
    assert here.stdout == there
    command = ["rsync", "-acnH", "--delete", *patterns, "--out-format=%i %n", f"{master.tree}/", f"{mirror.target}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if not line.endswith(" ./")] == []
    return True


@pytest.mark.parametrize("exclude", [["*-1*"], ["dir-*/", "/release-2/file-?.txt"], ["release-1/", "link-*", "/imagelist"]])
def test_what_a_job_leaves_out_is_no_part_of_the_list(master: Master, fedora: Fedora, mirror: Mirror, exclude: list[str]) -> None:
    options = {"file_list": LIST, "exclude": exclude, "max_delete_percent": 100}
    assert [mirror.pull(**options).way for dummy in range(2)] == ["plain", "same"]
    chance = random.Random(str(exclude))
    ways = []
    for number in range(6):
        for dummy in range(10):
            edit(master.tree, chance, number)
        fedora.publish()
        ways.append(mirror.pull(**options).way)
        assert same_but_for(exclude, master, mirror)
    assert "list" in ways
    # Other patterns: nothing that was left out so far is missed.
    fedora.publish()
    assert mirror.pull(file_list=LIST, max_delete_percent=100).way == "plain"
    assert same(master, mirror)
    assert mirror.pull(file_list=LIST).way == "same"


def edit(top: Path, chance: random.Random, number: int) -> None:
    every = sorted(path for path in top.rglob("*") if path.parent != top or not path.name.startswith((LIST, "imagelist")))
    path = chance.choice(every)
    what = chance.randrange(7)
    if what == 0 and path.is_file() and not path.is_symlink():
        path.write_text("x" * chance.randrange(5000) + str(number))
    elif what == 1 and path.is_dir() and not path.is_symlink():
        (path / f"new-{number}-{chance.randrange(100)}").write_text(str(chance.random()))
    elif what == 2 and path.is_dir() and not path.is_symlink():
        (path / f"dir-{number}").mkdir(exist_ok=True)
    elif what == 3 and path.is_dir() and not path.is_symlink() and chance.random() < 0.3:
        shutil.rmtree(path)
    elif what == 4 and not path.is_dir():
        path.unlink()
        if chance.random() < 0.5:
            path.mkdir()
    elif what == 5 and path.is_file() and not path.is_symlink() and path.name != f"link-{number}":
        path.with_name(f"link-{number}").unlink(missing_ok=True) if not path.with_name(f"link-{number}").is_dir() else None
        if not path.with_name(f"link-{number}").exists():
            os.link(path, path.with_name(f"link-{number}"))
    elif what == 6 and not path.is_symlink():
        path.chmod(chance.choice((0o755, 0o775)) if path.is_dir() else chance.choice((0o644, 0o664, 0o755)))


@pytest.mark.parametrize(
    "replace",
    [
        (b"\trelease-0/file-0.txt", b"\t../../file-0.txt"),
        (b"\trelease-0/file-0.txt", b"\t/etc/passwd"),
        (b"\trelease-0/file-0.txt", b"\trelease-0/file-missing.txt"),
        (b"\trelease-0/file-0.txt", b"\trelease-0/file-3.txt"),
        (b"\tf\t24\trelease-0/file-0.txt", b"\tf\t25\trelease-0/file-0.txt"),
        (b"[End]", b""),
        (b"\n3\n", b"\n99\n"),
    ],
)
def test_a_list_that_lies_is_not_followed(master: Master, fedora: Fedora, mirror: Mirror, replace: tuple[bytes, bytes]) -> None:
    settled(mirror)
    (master.tree / "release-0" / "file-0.txt").write_text("new content, and longer\n")
    fedora.publish()
    fedora.text(replace=replace)
    found = mirror.pull(file_list=LIST)
    assert (found.outcome, found.way) == ("updated", "plain")
    assert same(master, mirror)


def test_a_list_of_nothing_is_held(master: Master, fedora: Fedora, mirror: Mirror) -> None:
    settled(mirror)
    (master.tree / LIST).write_bytes(HEAD + TAIL)
    found = mirror.pull(file_list=LIST)
    assert (found.outcome, found.deletions) == ("held", 0)
    assert (mirror.target / "release-0" / "file-0.txt").exists()


def test_what_was_deleted_before_the_list_led_nowhere_is_told(master: Master, fedora: Fedora, mirror: Mirror) -> None:
    """A directory is to go, and holds something that nobody listed: rsync finds that out after what is in the list went."""
    settled(mirror)
    shutil.rmtree(master.tree / "release-2")
    fedora.publish()
    (mirror.target / "release-2" / "mine").write_text("mine")
    found = mirror.pull(file_list=LIST, max_delete_percent=50)
    assert (found.outcome, found.way) == ("updated", "plain")
    assert not (mirror.target / "release-2").exists()
    listed = [line for line in mirror.places.log("tree").read_text().splitlines() if line.startswith("*deleting") or " *deleting" in line]
    assert found.deletions == len({line.rpartition("|")[2].rstrip("/") for line in listed}) == 4


def test_what_came_and_went_between_two_lists_goes(master: Master, fedora: Fedora, mirror: Mirror) -> None:
    (master.tree / "passing").write_text("never listed\n")
    settled(mirror)
    assert (mirror.target / "passing").exists()
    (master.tree / "passing").unlink()
    fedora.publish()
    assert mirror.pull(file_list=LIST).outcome == "updated"
    assert same(master, mirror)


def test_what_a_killed_run_has_brought_is_known(master: Master, fedora: Fedora, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(mirror)
    (master.tree / "passing").write_text("listed once\n")
    fedora.publish()

    def killed(*dummy: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(foreign, "_delete", killed)
        with pytest.raises(KeyboardInterrupt):
            mirror.pull(file_list=LIST)
    assert (mirror.target / "passing").exists()
    (master.tree / "passing").unlink()
    fedora.publish()
    assert mirror.pull(file_list=LIST).outcome == "updated"
    assert same(master, mirror)


def test_nothing_outside_of_the_tree_is_deleted(master: Master, fedora: Fedora, mirror: Mirror, tmp_path: Path) -> None:
    settled(mirror)
    shutil.copytree(mirror.target / "release-0", tmp_path / "outside")
    shutil.rmtree(mirror.target / "release-0")
    (mirror.target / "release-0").symlink_to(tmp_path / "outside")
    (master.tree / "release-0" / "file-0.txt").unlink()
    fedora.publish()
    assert mirror.pull(file_list=LIST).outcome == "updated"
    assert (tmp_path / "outside" / "file-0.txt").exists()
    assert same(master, mirror)


def test_what_not_everybody_may_see_is_neither_asked_for_nor_deleted(master: Master, fedora: Fedora, mirror: Mirror) -> None:
    settled(mirror)
    (master.tree / "soon").write_text("not before Tuesday\n")
    fedora.publish()
    fedora.text(replace=(b"\tf\t19\tsoon", b"\tf-\t19\tsoon"))
    fedora.text(replace=(b"\tf\t13\trelease-0/file-0.txt", b"\tf-\t13\trelease-0/file-0.txt"))
    assert mirror.pull(file_list=LIST).way == "list"
    assert not (mirror.target / "soon").exists()
    assert (mirror.target / "release-0" / "file-0.txt").exists()
    fedora.publish()
    assert mirror.pull(file_list=LIST).way == "list"
    assert same(master, mirror)


def test_a_source_whose_tree_is_behind_its_list_is_compared(master: Master, fedora: Fedora, mirror: Mirror) -> None:
    fedora.text(replace=(b"\tf\t13\trelease-0/file-0.txt", b"\tf\t99\trelease-0/file-0.txt"))
    assert [mirror.pull(file_list=LIST).way for dummy in range(2)] == ["plain", "plain"]
    fedora.publish()
    settled(mirror)


def test_a_source_without_the_list_is_compared(master: Master, fedora: Fedora, mirror: Mirror) -> None:
    (master.tree / LIST).unlink()
    assert mirror.pull(file_list=LIST).outcome == "updated"
    assert same(master, mirror)


def test_a_list_goes_only_with_trees_that_can_be_told_from_it() -> None:
    job = {"name": "x", "sources": ["rsync://h/m/"], "target": "/srv/x", "file_list": LIST}
    for good in (["*.iso"], ["debug/", "/SRPMS", "a/b", "/x/*/y?"]):
        assert jobs.check({**job, "exclude": good}).job is not None
    for options, words in (
        ({"filters": ["- *.iso"]}, "file_list: can't be followed with filters"),
        ({"exclude": ["**/x"]}, "exclude: with file_list, '**/x' can't be told from others, since it has"),
        ({"exclude": ["a", "x[0-9]"]}, "exclude: with file_list, 'x[0-9]' can't be told from others, since it has brackets"),
    ):
        checked = jobs.check({**job, **options})
        assert checked.job is None
        assert any(words in problem for problem in checked.problems), checked.problems
    for wrong in ("/x", "a/b", "..", "*"):
        assert jobs.check({"name": "x", "sources": ["rsync://h/m/"], "target": "/srv/x", "file_list": wrong}).job is None


# A master of ours that publishes such a list as well


def published(master: Master, mirror: Mirror, *words: str) -> dict[str, Any]:
    done = mirror.run("publish", "--json", "--settle=0", "--name", "demo", "--file-list", LIST, *words, str(master.tree))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_master_publishes_the_list_as_well(master: Master, mirror: Mirror) -> None:
    master.fill()
    (master.tree / "closed").mkdir()
    (master.tree / "closed" / "inside").write_text("x")
    (master.tree / "secret.key").write_text("x")
    first = published(master, mirror, "--exclude", "*.key")
    assert first["outcome"] == "published"
    (master.tree / "closed").chmod(0o700)
    found = published(master, mirror, "--exclude", "*.key")
    lines = {line.path: line for line in map(filelist.parse, filelist.lines(master.tree / LIST))}
    assert sorted(lines) == sorted(one.path for one in seen(master.tree) if one.path != b"secret.key")
    assert [lines[path].is_open for path in (b"empty", b"closed", b"closed/inside")] == [True, False, False]
    again = published(master, mirror, "--exclude", "*.key")
    assert (again["outcome"], again["serial"]) == ("unchanged", found["serial"])
    (master.tree / LIST).unlink()
    assert published(master, mirror, "--exclude", "*.key")["outcome"] == "published"
    assert (master.tree / LIST).is_file()


def test_a_mirror_follows_the_list_that_a_master_of_ours_publishes(master: Master, mirror: Mirror) -> None:
    master.fill()
    published(master, mirror)
    assert mirror.pull(file_list=LIST, fast_path=False).way == "plain"
    (master.tree / "release-0" / "file-0.txt").write_text("new content, and longer\n")
    published(master, mirror)
    assert mirror.pull(file_list=LIST, fast_path=False).way == "list"
    assert (mirror.target / "release-0" / "file-0.txt").read_text() == "new content, and longer\n"
    assert mirror.pull(file_list=LIST, fast_path=False).way == "same"
    assert mirror.pull(file_list=LIST).outcome == "unchanged"  # By the head, which it has as well.


def test_a_file_that_is_no_list_is_not_replaced_by_one(master: Master, mirror: Mirror) -> None:
    master.fill()
    (master.tree / LIST).write_text("somebody's own\n")
    assert published(master, mirror)["kind"] == "no_list"
    assert (master.tree / LIST).read_text() == "somebody's own\n"
    for wrong in ("a/b", "..", ".mirrornet"):
        done = mirror.run("publish", "--json", "--file-list", wrong, str(master.tree))
        assert json.loads(done.stdout)["kind"] == "definition"
