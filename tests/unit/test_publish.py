# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing: a head says what is in the tree, whatever happens to either meanwhile."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conftest import wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrornet import digests, head, lists, look, publish, scan
from mirrornet import job as jobs
from mirrornet.arguments import parser
from mirrornet.below import DEEPEST
from mirrornet.entry import merge
from mirrornet.errors import Exit
from mirrornet.pattern import problem
from publishing import Desk, Edits, published, truth


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    for name in ("a/one", "a/two", "b/three", "c"):
        path = desk.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}\n")
    return desk


def settle(desk: Desk) -> None:
    """Publish, and again when no file counts as just written any more."""
    desk.publish()
    time.sleep(2.1)
    assert desk.publish().outcome == "unchanged"


def stamps(*tops: Path) -> dict[str, Any]:
    """All below these directories with what changes when anybody writes to it."""
    found = {}
    for top in tops:
        for path in [top, *top.rglob("*")]:
            if path.name != "publish.lock":
                status = path.lstat()
                found[str(path)] = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
    return found


def fake_find(desk: Desk, program: str) -> str:
    """A directory with a find of our own, Python that has ``real()`` for what the true one writes, and ``calls``, how often it was called."""
    directory = desk.base / "bin"
    directory.mkdir()
    path = directory / "find"
    path.write_text(
        "#!/usr/bin/env python3\n"
        "import os, subprocess, sys\n"
        f"tree, note = {str(desk.tree)!r}, {str(desk.base / 'calls')!r}\n"
        "open(note, 'a').write('x')\n"
        "calls = os.path.getsize(note)\n"
        f"def real():\n    return subprocess.run([{shutil.which('find')!r}, *sys.argv[1:]], stdout=subprocess.PIPE).stdout\n"
        f"def out(data):\n    sys.stdout.buffer.write(data)\n    sys.stdout.flush()\n{program}\n"
    )
    path.chmod(0o755)
    return str(directory)


class TestTruth:
    def test_first_head(self, desk: Desk) -> None:
        done = desk.publish()
        assert (done.outcome, done.serial, done.exit_code) == ("published", 1, 0)
        assert "nothing was published before" in done.line()
        found = desk.true()
        assert (found.head.serial, found.index.deltas) == (1, ())

    @pytest.mark.parametrize("seed", range(4))
    def test_after_edits_at_random(self, tmp_path: Path, seed: int) -> None:
        """Each head is true, and each delta leads from the tree before to the tree after."""
        desk = Desk(tmp_path)
        desk.tree.mkdir()
        edits, chance = Edits(desk.tree, seed), Random(seed)
        edits.some(80)
        desk.publish()
        before = {1: desk.true()}
        for dummy in range(25):
            edits.some(chance.choice([1, 1, 2, 5, 40]))
            done = desk.publish()
            found = desk.true()
            last = before[max(before)]
            if done.outcome == "unchanged":
                assert found.entries == last.entries
                continue
            assert done.outcome == "published", done.line()
            assert (found.head.epoch, found.head.serial) == (last.head.epoch, last.head.serial + 1)
            for former in before.values():
                chain = found.index.since(former.head)
                if chain is not None:
                    assert list(merge(former.entries, [found.deltas[delta.serial] for delta in chain])) == found.entries
            assert found.index.since(last.head) is not None or len(last.entries) > 1000
            before[found.head.serial] = found

    def test_a_manifest_that_doesnt_fit_into_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lists, "_SORTED_AT_ONCE", 7)
        desk = Desk(tmp_path)
        desk.tree.mkdir()
        Edits(desk.tree, 1).some(200)
        desk.publish()
        assert len(desk.true().entries) > 30

    def test_what_rsync_makes_of_it_is_the_same(self, tmp_path: Path) -> None:
        desk = Desk(tmp_path)
        desk.tree.mkdir()
        Edits(desk.tree, 2).some(150)
        desk.publish()
        copy = tmp_path / "copy"
        subprocess.run(["rsync", "-aH", "--no-D", "--exclude=/.mirrornet", f"{desk.tree}/", f"{copy}/"], check=True)
        # Where rsync makes hard links, directories and symlinks may keep the time of that.
        theirs, ours = (
            [entry._replace(mtime=entry.mtime if entry.kind == "f" else 0) for entry in found]
            for found in (truth(copy), published(desk.tree).entries)
        )
        assert theirs == ours

    def test_directories_too_deep_for_mirrors(self, desk: Desk) -> None:
        (desk.tree / "/".join("d" * DEEPEST)).mkdir(parents=True)
        (desk.tree / "/".join("d" * DEEPEST) / "file").touch()
        assert desk.publish().outcome == "published"
        (desk.tree / "/".join("d" * DEEPEST) / "e").mkdir()
        done = desk.publish()
        assert (done.kind, done.exit_code) == ("deep_path", Exit.CONFIG)
        assert "/e'" in done.message

    def test_devices_and_pipes_are_left_out(self, desk: Desk) -> None:
        os.mkfifo(desk.tree / "pipe")
        desk.publish()
        assert b"pipe" not in [entry.path for entry in desk.true().entries]

    def test_a_path_too_long_for_rsync(self, desk: Desk) -> None:
        name = "x" * 255
        here = os.open(desk.tree, os.O_RDONLY)
        for dummy in range(17):
            os.mkdir(name, dir_fd=here)
            here, former = os.open(name, os.O_RDONLY, dir_fd=here), here
            os.close(former)
        os.close(here)
        done = desk.publish()
        assert (done.kind, done.exit_code) == ("long_path", Exit.CONFIG)
        subprocess.run(["rm", "-r", desk.tree / name], check=True)


class TestUnchanged:
    def test_writes_nothing(self, desk: Desk) -> None:
        settle(desk)
        before = stamps(desk.own, desk.base / "state")
        done = desk.publish()
        assert (done.outcome, done.serial, done.digested) == ("unchanged", 1, 0)
        # The scan of this call has come and gone, and the time of it is left.
        own, now = (str(desk.state), str(desk.state / "state.json")), stamps(desk.own, desk.base / "state")
        assert {key: value for key, value in now.items() if key not in own} == {
            key: value for key, value in before.items() if key not in own
        }

    def test_times_that_mirrors_dont_see(self, desk: Desk) -> None:
        """A ctime alone may stand for other content: the file is read, and found to be the same."""
        settle(desk)
        (desk.tree / "c").chmod(0o600)
        (desk.tree / "c").chmod(0o644)
        done = desk.publish()
        assert (done.outcome, done.digested) == ("unchanged", 1)
        time.sleep(2.1)
        desk.publish()
        assert desk.publish().digested == 0

    def test_only_what_changed_is_read(self, desk: Desk) -> None:
        settle(desk)
        (desk.tree / "new").write_text("new")
        (desk.tree / "a" / "one").write_text("other")
        (desk.tree / "b" / "three").unlink()
        done = desk.publish()
        # The root and b changed too.
        assert (done.outcome, done.digested, done.changed, done.gone) == ("published", 2, 4, 1)
        desk.true()

    def test_a_file_with_several_names_is_read_once(self, desk: Desk) -> None:
        for number in range(5):
            os.link(desk.tree / "c", desk.tree / f"name-{number}")
        assert desk.publish().digested == 4
        desk.true()

    def test_looking_only(self, desk: Desk) -> None:
        places, wish = desk.places, publish.Wish(desk.tree, "tree")
        assert publish.publish(places, wish, only_look=True).outcome == "published"
        assert not desk.own.exists()
        settle(desk)
        assert publish.publish(places, wish, only_look=True).outcome == "unchanged"
        before = stamps(desk.own)
        (desk.tree / "c").write_text("other")
        assert publish.publish(places, wish, only_look=True).outcome == "published"
        assert stamps(desk.own) == before
        assert desk.publish().serial == 2


class TestChanging:
    def test_noticed(self, desk: Desk) -> None:
        """A file that changes after the first look: the head is of the state after it."""
        path = fake_find(desk, "out(real())\nif calls == 1: open(tree + '/c', 'a').write('more')")
        done = desk.run("--json", path=path)
        assert json.loads(done.stdout)["outcome"] == "published"
        desk.true()
        assert len((desk.base / "calls").read_text()) == 3

    def test_something_vanishes_during_the_look(self, desk: Desk) -> None:
        path = fake_find(desk, "out(real())\nif calls == 1: sys.exit(\"find: './a/two': No such file or directory\")")
        assert desk.run(path=path).returncode == 0
        desk.true()

    def test_without_end(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        desk.publish()
        before = (desk.own / "head").read_bytes()
        path = fake_find(desk, "out(real())\nopen(tree + '/c', 'a').write('more')")
        monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
        monkeypatch.setattr("mirrornet.look._PAUSE", 0)
        done = desk.publish()
        assert (done.outcome, done.kind, done.exit_code) == ("failed", "changing", Exit.INCOMPLETE)
        assert (desk.own / "head").read_bytes() == before

    def test_a_file_changes_while_it_is_read(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = digests._digest

        def slow(root: int, line: scan.Line) -> bytes | None:
            if line.path == b"c" and not (desk.base / "once").exists():
                (desk.base / "once").touch()
                found = whole(root, line)
                (desk.tree / "c").write_text("in between")
                return found
            return whole(root, line)

        monkeypatch.setattr(digests, "_digest", slow)
        assert desk.publish().outcome == "published"
        desk.true()

    def test_times_of_two_seconds(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """On such a file system an edit can leave no trace at all: what was just written is read again."""
        path = fake_find(
            desk,
            "import re\nout(re.sub(rb'(^|\\0)([fdl] \\d+) (\\d+)\\.\\d+ (\\d+)\\.\\d+',"
            " lambda m: b'%s%s %d.0 %d.0' % (m[1], m[2], int(m[3]) & ~1, int(m[4]) & ~1), real()))",
        )
        monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
        monkeypatch.setattr(digests, "_is", lambda fd, line: os.fstat(fd).st_size == line.size)
        while time.time() % 2 > 0.3:
            time.sleep(0.05)
        (desk.tree / "c").write_text("first edit")
        first = desk.publish()
        (desk.tree / "c").write_text("later edit")
        os.utime(desk.tree / "c", (first.seconds, 0))
        os.utime(desk.tree / "c")
        done = desk.publish()
        assert done.outcome == "published"
        [entry] = [entry for entry in published(desk.tree).entries if entry.path == b"c"]
        assert entry.digest == next(entry.digest for entry in truth(desk.tree) if entry.path == b"c")

    def test_half_a_release(self, desk: Desk) -> None:
        """Whoever puts a release there keeps heads away by a file."""
        desk.publish()
        (desk.own / "rebuilding").touch()
        (desk.tree / "half").touch()
        done = desk.publish()
        assert (done.outcome, done.kind, done.exit_code) == ("held", "rebuilding", Exit.HELD)
        (desk.own / "rebuilding").unlink()
        assert desk.publish().serial == 2

    def test_a_release_that_begins_during_the_look(self, desk: Desk) -> None:
        desk.publish()
        (desk.tree / "c").write_text("other")
        path = fake_find(desk, "out(real())\nif calls == 2: open(tree + '/.mirrornet/rebuilding', 'w')")
        done = desk.run(path=path)
        assert (done.returncode, "rebuilding is there" in done.stderr) == (Exit.HELD, True), done
        assert published(desk.tree).head.serial == 1

    def test_what_rsync_is_receiving(self, desk: Desk) -> None:
        """However long it waits for more: rsync gives a file its name and mode when it is whole."""
        desk.publish()
        (desk.base / "big").write_bytes(os.urandom(1 << 20))
        with subprocess.Popen(["rsync", "-a", "--bwlimit=1", desk.base / "big", f"{desk.tree}/"], start_new_session=True) as rsync:
            try:
                wait_until(lambda: any(desk.tree.glob(".big.??????")), "rsync's temporary file")
                [path] = desk.tree.glob(".big.??????")
                done = desk.publish()
            finally:
                # All of it: the process that receives would remove the file if it outlived the one that sends.
                os.killpg(rsync.pid, signal.SIGKILL)
        assert (done.outcome, done.kind, done.exit_code) == ("held", "receiving", Exit.HELD)
        assert path.name in done.message
        assert published(desk.tree).head.serial == 1
        # A file that only looks like it.
        path.touch()
        path.chmod(0o644)
        assert desk.publish().serial == 2
        desk.true()

    def test_what_rsync_left_behind(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        path = desk.tree / ".c.Ab12Cd"
        path.touch(0o600)
        assert desk.publish().kind == "receiving"
        monkeypatch.setattr(look, "_RECEIVING", 0)
        assert desk.publish().serial == 1


class TestSettle:
    """``settle``: only what has been left alone for a while is published."""

    @pytest.fixture
    def pauses(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The pauses that were made, in which no time passes."""
        made: list[float] = []
        monkeypatch.setattr(look.time, "sleep", lambda seconds: made.append(seconds) if seconds else None)
        return made

    def test_what_was_just_written(self, desk: Desk, pauses: list[float]) -> None:
        assert desk.publish(settle=3600).outcome == "published"
        [pause] = pauses
        assert 0 < pause <= 3600
        desk.true()

    def test_changes_in_the_meantime(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        def pause(seconds: float) -> None:
            if seconds:
                made.append(seconds)
                (desk.tree / "c").write_text("more" * len(made)) if len(made) < 3 else None

        made: list[float] = []
        monkeypatch.setattr(look.time, "sleep", pause)
        assert desk.publish(settle=3600).outcome == "published"
        assert len([seconds for seconds in made if seconds > 60]) == 3
        assert (desk.tree / "c").read_text() == "moremore"
        desk.true()

    def test_an_unchanged_tree_costs_no_time(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        settle(desk)
        monkeypatch.setattr(look.Look, "_wait", None)
        assert desk.publish(settle=3600).outcome == "unchanged"

    def test_a_clock_that_was_set_back(self, desk: Desk, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
        now = time.time_ns()
        monkeypatch.setattr(look.Look, "_clock", lambda self: now - 10 * 3600 * 10**9)
        assert desk.publish(settle=3600).outcome == "published"
        assert pauses == []

    def test_the_command_waits_unless_told_otherwise(self) -> None:
        assert parser().parse_args(["publish", "/srv/x"]).settle > 0

    @pytest.mark.parametrize("settle", [-1, 3601, float("nan")])
    def test_bad_words(self, desk: Desk, settle: float) -> None:
        done = desk.publish(settle=settle)
        assert (done.kind, "left alone" in done.message) == ("definition", True)


def with_devices(desk: Desk, change: Callable[[bytes, int], int]) -> None:
    """Rewrite what is remembered as if file systems had had other numbers; ``change`` is given path and number."""
    [kept] = desk.state.glob("scan-*/scan")
    texts = [text for block in scan.lines(kept) for text in block]
    words = [text.split(b" ", 7) for text in texts]
    for word in words:
        device, inode = word[4].split(b":")
        word[4] = b"%d:%s" % (change(word[7].partition(b"//")[0], int(device)), inode)
    kept.write_bytes(b"".join(b" ".join(word) + b"\0" for word in words))
    state = json.loads((desk.state / "state.json").read_text())
    state["sizes"][0] = kept.stat().st_size
    (desk.state / "state.json").write_text(json.dumps(state))


class TestDevices:
    """The number of a file system, which says nothing of what is there, is another one after a boot or a mount."""

    @pytest.fixture
    def desk(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
        os.link(desk.tree / "c", desk.tree / "b" / "c")
        monkeypatch.setattr(digests, "RACE", -(10**18))  # Nothing is so new that it has to be read again.
        desk.publish()
        return desk

    def test_another_number(self, desk: Desk) -> None:
        with_devices(desk, lambda path, device: device + 7)
        (desk.tree / "a" / "one").write_text("other")
        done = desk.publish()
        assert (done.outcome, done.serial, done.digested, done.changed, done.new_epoch) == ("published", 2, 1, 1, "")
        desk.true()
        assert [path.name for path in desk.state.glob("scan-*/*")].count("moved") == 0

    def test_nothing_else(self, desk: Desk) -> None:
        with_devices(desk, lambda path, device: device + 100_000)
        for looked in range(2):
            done = desk.publish()
            assert (done.outcome, done.serial, done.digested) == ("unchanged", 1, 0), looked

    def test_some_names_of_a_file_are_new(self, desk: Desk) -> None:
        with_devices(desk, lambda path, device: device + 7)
        os.link(desk.tree / "c", desk.tree / "a" / "c")
        assert desk.publish().outcome == "published"
        desk.true()

    def test_several_file_systems(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """They may change places."""
        with_devices(desk, lambda path, device: 5 if path.startswith(b"b") else 6)
        [kept] = desk.state.glob("scan-*/scan")
        monkeypatch.setattr(scan, "_device_now", lambda tree, path, former: {b"5": b"6", b"6": b"5"}[former])
        assert scan.renumber(kept, desk.tree, desk.base / "moved")
        before, after = ([scan.line(text) for block in scan.lines(path) for text in block] for path in (kept, desk.base / "moved"))
        assert {line.path.startswith(b"b"): line.inode.split(b":")[0] for line in after} == {True: b"6", False: b"5"}
        assert [line._replace(inode=line.inode[2:]) for line in after] == [line._replace(inode=line.inode[2:]) for line in before]

    def test_two_became_one(self, desk: Desk) -> None:
        """Then a number doesn't tell which file was which: all is read again."""
        with_devices(desk, lambda path, device: device + (7 if path.startswith(b"a") else 8))
        done = desk.publish()
        assert (done.outcome, done.digested) == ("unchanged", 4)
        assert desk.publish().digested == 0

    def test_an_interrupted_call(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """The host was booted again in the middle of the first look: what was read needn't be read again."""
        with_devices(desk, lambda path, device: device + 7)
        (desk.state / "state.json").unlink()
        done = desk.publish()
        assert (done.outcome, done.digested) == ("published", 0)
        desk.true()


def kill_at(step: int, base: Path) -> None:
    """Have this process killed at its step of that number: when it is about to write, rename, remove, link or make something below ``base``."""
    steps = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        if event == "open":
            path, dummy, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR) or str(base) not in str(path):
                return
        elif event not in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link"):
            return
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def publish_killed_at(step: int, desk: Desk) -> int:
    """One call in a process of its own; its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            kill_at(step, desk.base)
            code = desk.publish().exit_code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def hidden(desk: Desk) -> list[str]:
    """What in the tree's own directory not everybody can read: it would keep plain clients from deleting anything."""
    return [path.name for path in desk.own.rglob("*") if not path.stat().st_mode & 0o004]


class TestKilled:
    @pytest.mark.parametrize("prepare", ["first", "later"])
    def test_at_each_step(self, desk: Desk, prepare: str) -> None:
        """What is published is what was there before or after, at each moment, and the next call makes it good."""
        if prepare != "first":
            desk.publish()
        for at in range(1, 200):
            if prepare != "first":
                (desk.tree / "c").write_text(f"content {at}")
                (desk.tree / f"new-{at}").write_text("x")
            before = published(desk.tree).entries if (desk.own / "head").exists() else None
            ended = publish_killed_at(at, desk)
            if ended == 0:
                break
            assert ended == -signal.SIGKILL
            assert hidden(desk) == []
            if (desk.own / "head").exists():
                assert published(desk.tree).entries in (before, truth(desk.tree))
            healed = desk.publish()
            assert healed.outcome in ("published", "unchanged"), healed.line()
            assert prepare == "first" or not healed.new_epoch
            desk.true()
            if prepare == "first":
                shutil.rmtree(desk.own)
                shutil.rmtree(desk.base / "state")
        assert 10 < at < 199
        desk.true()

    def test_nothing_is_read_twice(self, desk: Desk) -> None:
        for number in range(600):
            (desk.tree / f"file-{number}").write_text(f"{number}")
        program = (
            "import os, signal\nseen = 0\ndef hook(event, arguments):\n    global seen\n"
            "    if event == 'open' and b'file-' in arguments[0] if isinstance(arguments[0], bytes) else False:\n"
            "        seen += 1\n        if seen == 450: os.kill(os.getpid(), signal.SIGKILL)\nsys.addaudithook(hook)"
        )
        time.sleep(2.1)  # What was just written is read again in any case.
        assert desk.run(program=program).returncode == -signal.SIGKILL
        done = desk.publish()
        assert done.outcome == "published"
        assert 604 - 450 <= done.digested <= 604 - 100
        desk.true()

    def test_a_torn_journal(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """Power fails: what the journal has lost is read again, and never guessed."""
        time.sleep(2.1)

        def stop(kept: digests.Kept, known: digests.Digests) -> None:
            saved.append(kept)
            if len(saved) == 2:
                raise KeyboardInterrupt
            save(kept, known)

        save, saved = digests.Kept.save, list[digests.Kept]()
        monkeypatch.setattr(digests.Kept, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            desk.publish()
        monkeypatch.undo()
        journal = saved[0].directory / "journal"
        data = bytearray(journal.read_bytes())
        data[20:60] = bytes(40)
        journal.write_bytes(data[:-3])
        assert desk.publish().digested == 3
        desk.true()


class TestDisturbed:
    def test_two_at_once(self, desk: Desk) -> None:
        desk.publish()
        with (desk.own / "publish.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            done = desk.run()
        assert (done.returncode, done.stdout) == (Exit.BUSY, "")
        assert "busy" in done.stderr
        assert desk.run("--quiet").returncode == 0

    def test_unreadable(self, desk: Desk) -> None:
        """Without the rights of root, which a namespace of one's own takes away."""
        for path, mode in (("a/one", 0o644), ("b", 0o755)):
            (desk.tree / path).chmod(0)
            done = desk.run(before=["unshare", "--user"])
            (desk.tree / path).chmod(mode)
            assert done.returncode == Exit.LOCAL_IO, done.stderr
            assert path in done.stderr
            assert not (desk.own / "head").exists()

    def test_nowhere_to_write(self, desk: Desk) -> None:
        desk.own.mkdir()
        desk.own.chmod(0o555)
        done = desk.run(before=["unshare", "--user"])
        assert (done.returncode, "can't write to" in done.stderr) == (Exit.TARGET, True)
        desk.own.rmdir()
        desk.own.symlink_to(desk.base)
        assert desk.publish().kind == "target_not_directory"

    def test_no_find(self, desk: Desk) -> None:
        path = fake_find(desk, "sys.exit('find: unrecognized: -printf')")
        done = desk.run(path=path)
        assert (done.returncode, "GNU findutils" in done.stderr) == (Exit.CONFIG, True)

    def test_a_mirror_passes_its_sources_head_on(self, desk: Desk) -> None:
        checked = jobs.check({"name": "copy", "sources": ["rsync://master.example.org/x/"], "target": str(desk.tree)})
        assert checked.job is not None
        desk.places.definitions.mkdir(parents=True)
        desk.places.definition("copy").write_bytes(checked.job.to_bytes())
        done = desk.publish()
        assert (done.kind, done.exit_code) == ("is_mirror", Exit.CONFIG)
        assert "job copy" in done.message
        inner = publish.publish(desk.places, publish.Wish(desk.tree / "a", "a"))
        assert inner.kind == "is_mirror"
        desk.places.definition("copy").unlink()
        desk.own.mkdir()
        (desk.own / "report.json").write_text("{}")
        assert desk.publish().kind == "is_mirror"

    def test_bad_words(self, desk: Desk) -> None:
        assert desk.publish(keep=0).kind == "definition"
        assert publish.publish(desk.places, publish.Wish(desk.tree, "../x")).kind == "definition"
        assert publish.publish(desk.places, publish.Wish(desk.tree / "nothing", "x")).kind == "target_missing"
        assert desk.publish(exclude=("a/*",)).kind == "exclude"
        assert desk.publish(key=desk.base / "nothing").kind == "no_signature"

    def test_state_of_somebody_else(self, desk: Desk) -> None:
        (desk.base / "state").write_text("")
        assert desk.publish().kind == "state_unusable"


class TestEpochs:
    @pytest.fixture
    def second(self, desk: Desk) -> Iterator[Desk]:
        """Published twice; whatever happens then leads to a new epoch with a serial of its own."""
        desk.publish()
        (desk.tree / "c").write_text("second")
        desk.publish()
        former = published(desk.tree).head
        assert former.serial == 2
        yield desk
        now = desk.true().head
        assert now.epoch != former.epoch
        assert now.serial == 3

    def test_lost_state(self, second: Desk) -> None:
        shutil.rmtree(second.state)
        assert "nothing is known" in second.publish().new_epoch

    def test_damaged_state(self, second: Desk) -> None:
        for path in second.state.glob("scan-*/digests"):
            path.unlink()
        assert "is lost" in second.publish().new_epoch

    def test_short_state(self, second: Desk) -> None:
        for path in second.state.glob("scan-*/digests"):
            path.write_bytes(path.read_bytes()[:-33])
        assert "is lost" in second.publish().new_epoch

    def test_state_of_another_version(self, second: Desk) -> None:
        (second.state / "state.json").write_text('{"tree": 5}')
        assert second.publish().new_epoch

    def test_rewound_head(self, second: Desk) -> None:
        """A snapshot of the tree came back; its content is known all the same, by the scan."""
        (second.own / "head").write_bytes(published(second.tree).head.to_bytes().replace(b'"serial":2', b'"serial":1'))
        done = second.publish()
        assert "not the one" in done.new_epoch

    def test_lost_head(self, second: Desk) -> None:
        (second.own / "head").unlink()
        assert "not the one" in second.publish().new_epoch

    def test_another_key(self, second: Desk) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", second.base / "one"], check=True)
        done = second.publish(key=second.base / "one")
        assert "key" in done.new_epoch
        signed = published(second.tree).head
        assert head.verify(signed, head.allowed_signers([(second.base / "one.pub").read_text()]))
        assert second.publish(key=second.base / "one").outcome == "unchanged"
        # A call that forgets the key doesn't take the signature away.
        done = second.publish()
        assert (done.kind, "names no key" in done.message) == ("no_signature", True)

    def test_a_key_in_memory(self, second: Desk) -> None:
        """As root leaves it to the account that goes on, which can't read the file."""
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", second.base / "one"], check=True)
        fingerprint = head.fingerprint(second.base / "one")
        with head.key_in_memory(second.base / "one", os.getuid()) as file:
            (second.base / "one").unlink()
            key = Path(f"/dev/fd/{file.fileno()}")
            assert head.fingerprint(key) == fingerprint
            second.publish(key=key)
        assert head.verify(published(second.tree).head, head.allowed_signers([(second.base / "one.pub").read_text()]))

    def test_on_request(self, second: Desk) -> None:
        done = second.publish(anew=True)
        assert done.digested == 4


class TestNames:
    """One tree has one state, or heads of two epochs would take turns."""

    def other(self, desk: Desk, **options: Any) -> publish.Publication:
        return publish.publish(desk.places, publish.Wish(desk.tree, "other", **options))

    def test_another_name_is_refused(self, desk: Desk) -> None:
        desk.publish()
        done = self.other(desk)
        assert (done.kind, done.exit_code) == ("other_name", Exit.CONFIG)
        assert "under the name tree" in done.message
        assert "--name tree" in done.remedy
        assert desk.publish().outcome == "unchanged"

    def test_unless_it_is_meant(self, desk: Desk) -> None:
        desk.publish()
        assert self.other(desk, anew=True).outcome == "published"
        assert self.other(desk).outcome == "unchanged"
        assert desk.publish().kind == "other_name"

    def test_the_usual_name_is_the_one_before(self, desk: Desk) -> None:
        derived = publish.usual_name(desk.places, desk.tree)
        assert derived.startswith("tree-")
        desk.publish()
        assert publish.usual_name(desk.places, desk.tree) == "tree"
        for damaged in ("../x", "", "\xff", "x" * 200):
            (desk.own / "publish.lock").write_text(damaged, encoding="latin-1")
            assert publish.usual_name(desk.places, desk.tree) == derived

    def test_a_copy_of_a_tree_has_a_name_of_its_own(self, desk: Desk) -> None:
        desk.publish()
        copy = desk.base / "copy"
        shutil.copytree(desk.tree, copy)
        assert publish.usual_name(desk.places, copy).startswith("copy-")

    def test_a_name_that_nothing_is_known_of(self, desk: Desk) -> None:
        """The tree came from another host, or the state was lost."""
        desk.publish()
        shutil.rmtree(desk.state)
        assert publish.usual_name(desk.places, desk.tree) != "tree"
        assert "nothing is known" in self.other(desk).new_epoch
        assert publish.usual_name(desk.places, desk.tree) == "other"


class TestNews:
    """What ``--quiet`` says, day by day."""

    DAY = 86400.0

    def said(self, desk: Desk, outcomes: str, step: float) -> list[bool]:
        """Whether each of these calls is told, one letter each: (o)k, (f)ailed, (F)ailed otherwise, (h)eld, (b)usy."""
        known = {
            "o": ("unchanged", None, 0),
            "f": ("failed", "changing", 76),
            "F": ("failed", "unreadable", 74),
            "h": ("held", "rebuilding", 79),
            "b": ("busy", "busy", 75),
        }
        desk.state.mkdir(parents=True, exist_ok=True)
        calls = [
            publish.Publication("t", "tree", outcome, kind, exit_code=code) for outcome, kind, code in map(known.__getitem__, outcomes)
        ]
        return [publish.is_news(desk.places, done, 10**9 + number * step) for number, done in enumerate(calls)]

    @pytest.mark.parametrize(
        ("outcomes", "hours", "told"),
        [
            ("fff", 1, "100"),
            ("ffff", 12, "1010"),
            ("fFF", 1, "110"),
            ("fof", 1, "101"),
            ("hhhbbbh", 1, "0000000"),
            ("hhhhh", 12, "00101"),
            ("hbhbh", 12, "00101"),
            ("hohhh", 23, "00001"),
            ("ooo", 30, "000"),
        ],
    )
    def test_when(self, desk: Desk, outcomes: str, hours: float, told: str) -> None:
        assert "".join("01"[news] for news in self.said(desk, outcomes, hours * 3600)) == told

    def test_a_clock_that_was_set_back(self, desk: Desk) -> None:
        assert self.said(desk, "ff", -self.DAY) == [True, True]

    def test_what_cant_be_noted_is_told(self, desk: Desk) -> None:
        assert publish.is_news(desk.places, publish.Publication("t", "nowhere", "failed", "x", exit_code=74), 10**9)
        assert publish.is_news(desk.places, publish.Publication("t", "../x", "failed", "x", exit_code=78), 10**9)
        assert self.said(desk, "f", 1) == [True]
        (desk.state / "told.json").write_text('{"since": "x", "told": []}')
        assert self.said(desk, "f", 1) == [True]

    def test_the_command(self, desk: Desk) -> None:
        desk.publish()
        (desk.own / "rebuilding").touch()
        assert [desk.run("--quiet").stderr for dummy in range(2)] == ["", ""]
        assert "rebuilding" in desk.run().stderr
        (desk.own / "rebuilding").unlink()
        said = [desk.run("--quiet", "--keep=0").stderr for dummy in range(2)]
        assert ["can't be kept" in words for words in said] == [True, False]
        assert desk.run("--quiet").returncode == 0
        assert "can't be kept" in desk.run("--quiet", "--keep=0").stderr


class TestFiles:
    def test_head_times_ascend(self, desk: Desk) -> None:
        """rsync must see each head as another file, also when the clock was set back."""
        desk.publish()
        times = [(desk.own / "head").stat().st_mtime_ns]
        for number in range(3):
            (desk.tree / "c").write_text(f"edit {number}")
            if number == 1:
                times[-1] += 10**9 * 10**6
                os.utime(desk.own / "head", ns=(times[-1], times[-1]))
            desk.publish()
            times.append((desk.own / "head").stat().st_mtime_ns)
        assert all(time % 10**9 == 0 for time in times)
        assert [time // 10**9 for time in times] == sorted({time // 10**9 for time in times})

    def test_what_no_index_lists_goes_after_a_while(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(6):
            (desk.tree / "c").write_text(f"edit {number}")
            desk.publish(keep=2)
        found = desk.true()
        assert [delta.serial for delta in found.index.deltas] == [5, 6]
        assert (desk.own / "manifest-1.gz").exists()
        (desk.own / ".delta-9.gz.new").touch()
        monkeypatch.setattr(publish, "GRACE", -1)
        (desk.tree / "c").write_text("last")
        desk.publish(keep=2)
        found = desk.true()
        listed = {"head", "recent", "publish.lock", "index-7", "delta-6.gz", "delta-7.gz", f"manifest-{found.index.manifest.serial}.gz"}
        listed |= {"contents-6", "contents-7"}
        assert {path.name for path in desk.own.iterdir()} == listed

    def test_few_manifests(self, desk: Desk) -> None:
        """A large tree with small changes: deltas until they are a share of the manifest."""
        for number in range(300):
            (desk.tree / f"file-{number}").touch()
        for number in range(12):
            (desk.tree / "c").write_text(f"edit {number}")
            desk.publish()
        assert desk.true().index.manifest.serial == 1
        for number in range(100):
            (desk.tree / f"file-{number}").write_text("x")
        desk.publish()
        found = desk.true()
        assert found.index.manifest.serial == 13
        assert len(found.index.deltas) == 12

    @pytest.mark.parametrize("name", ["manifest-1.gz", "index-2", "delta-2.gz"])
    def test_what_the_head_needs_is_gone(self, desk: Desk, name: str) -> None:
        for number in range(300):
            (desk.tree / f"file-{number}").touch()
        desk.publish()
        (desk.tree / "c").write_text("second")
        desk.publish()
        (desk.own / name).unlink()
        done = desk.publish()
        assert (done.outcome, done.new_epoch, done.serial) == ("published", "", 3)
        desk.true()
        assert desk.publish().outcome == "unchanged"

    def test_everybody_can_read_what_clients_get(self, desk: Desk) -> None:
        desk.own.mkdir()
        (desk.own / "publish.lock").touch(0o600)
        desk.publish()
        assert hidden(desk) == []

    def test_a_look_is_nothing_to_plain_clients(self, desk: Desk) -> None:
        def seen() -> list[tuple[str, int, int]]:
            return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(desk.own.iterdir())]

        desk.publish()
        before = seen()
        assert desk.publish().outcome == "unchanged"
        assert seen() == before

    def test_content_is_on_disk_before_the_head(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        heads: list[bool] = []
        monkeypatch.setattr(publish.apply, "settle", lambda top: heads.append((desk.own / "head").exists()))
        desk.publish()
        assert desk.publish().outcome == "unchanged"
        assert heads == [False]

    def test_the_time_of_a_call_that_went_well(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        def time_of_it() -> int:
            return (desk.state / "state.json").stat().st_mtime_ns

        monkeypatch.setattr(digests, "RACE", -(10**18))  # Nothing is so new that it has to be read again.
        desk.publish()
        os.utime(desk.state / "state.json", (5, 5))
        (desk.own / "rebuilding").touch()
        assert desk.publish().outcome == "held"
        assert time_of_it() == 5 * 10**9
        (desk.own / "rebuilding").unlink()
        assert desk.publish().outcome == "unchanged"
        assert time_of_it() > 10**18

    def test_a_full_disk(self, desk: Desk) -> None:
        """Tree and state on a small file system, in a namespace where anybody may mount one."""
        script = (
            'mount -t tmpfs -o size=64k none "$D/tree" && mount -t tmpfs -o size=2m none "$D/state" && echo x > "$D/tree/c"\n'
            '"$@" --exclude /fill; echo $?; sum1=$(cat "$D/tree/.mirrornet/head")\n'
            'echo y > "$D/tree/c"; head -c 1M /dev/zero > "$D/tree/fill"; "$@" --exclude /fill; echo $?; sum2=$(cat "$D/tree/.mirrornet/head")\n'
            '[ "$sum1" = "$sum2" ] && echo same; rm "$D/tree/fill"; "$@" --exclude /fill; echo $?\n'
            'echo z > "$D/tree/c"; head -c 4M /dev/zero > "$D/state/fill"; "$@" --exclude /fill; echo $?; rm "$D/state/fill"; "$@" --exclude /fill; echo $?\n'
        )
        (desk.base / "state").mkdir()
        done = desk.run(before=["env", f"D={desk.base}", "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        said = [text for text in done.stdout.splitlines() if not text.startswith(str(desk.tree))]
        assert said == ["0", "74", "same", "0", "74", "0"], done
        assert done.stderr.count("disk is full") == 2


class TestExclude:
    PATTERNS = ("*.iso", "/a", "/a/", "b/", "x/y", "/x/*", "/x/?", "[ab]", "[!a]b", "/*/y", "?", "*b*", "/x/*.iso", "/a*", "y/")

    @pytest.mark.parametrize("pattern", PATTERNS)
    def test_as_rsync_does(self, tmp_path: Path, pattern: str) -> None:
        tree = tmp_path / "tree"
        for name in ("a/b/x/y/z", "x/y/a.iso", "x/y.iso/y", "b", "ab/a/b", "x/b", "x/a/y", ".a", "cb", "x.iso/y", "\udcff/b", "y"):
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        scan.check([pattern])
        scan.take(tree, [pattern], None, tmp_path / "scan")
        found = {scan.line(text).path for block in scan.lines(tmp_path / "scan") for text in block} - {b""}
        subprocess.run(["rsync", "-a", f"--exclude={pattern}", f"{tree}/", f"{tmp_path}/copy/"], check=True)
        assert found == {os.path.relpath(path, os.fsencode(tmp_path / "copy")) for path in map(os.fsencode, (tmp_path / "copy").rglob("*"))}

    @pytest.mark.parametrize("pattern", ["", "/", "a/*", "**", "a**b", "a\\*", "a//b", "../x", "/./x", "[a/b]", "a\nb"])
    def test_refused(self, pattern: str) -> None:
        assert problem(pattern)

    def test_what_was_left_out_comes(self, desk: Desk) -> None:
        """Also names of a file of which others were there before."""
        os.link(desk.tree / "c", desk.tree / "a" / "c")
        (desk.tree / "a" / ".~tmp~").mkdir()
        desk.publish(exclude=("/a/",))
        desk.true(leave=[b"a"])
        desk.publish()
        desk.true(leave=[b"a/.~tmp~"])
        done = desk.publish(exclude=("/a/",))
        assert not done.new_epoch
        desk.true(leave=[b"a"])


@settings(max_examples=200)
@given(st.lists(st.integers(0, 40), unique=True, max_size=40), st.lists(st.integers(0, 40), unique=True, max_size=40), st.booleans())
def test_how_scans_differ(tmp_path_factory: pytest.TempPathFactory, old: list[int], new: list[int], ordered: bool) -> None:
    """Every line is found to be the same, gone or come, wherever it has moved to."""
    if ordered:
        old, new = sorted(old), sorted(new)
    directory = tmp_path_factory.mktemp("scans")
    for name, numbers in (("old", old), ("new", new)):
        (directory / name).write_bytes(b"".join(b"%d\0" % number for number in numbers))
    same: dict[int, int] = {}

    def take(begin: int, to: int, count: int) -> None:
        same.update({to + place: begin + place for place in range(count)})

    gone, come = scan.align(directory / "old", directory / "new", take)
    assert gone == {b"%d" % number: old.index(number) for number in set(old) - set(new)}
    assert come == {b"%d" % number: new.index(number) for number in set(new) - set(old)}
    assert same == {new.index(number): old.index(number) for number in set(old) & set(new)}
    shutil.rmtree(directory)
