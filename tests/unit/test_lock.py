# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time, whoever takes the lock and however its holder ends."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ENGINE, wait_until
from mirrornet import lock

HOLD = """
import sys, time
from pathlib import Path
from mirrornet import lock
with lock.exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
TAKE = """
import os, sys, time
from pathlib import Path
from mirrornet import lock
start = float(sys.argv[2])
time.sleep(max(0, start - time.time() - 0.02))
while time.time() < start:
    pass
try:
    with lock.exclusive(Path(sys.argv[1])):
        busy = Path(sys.argv[1] + ".at-work")
        os.close(os.open(busy, os.O_CREAT | os.O_EXCL))  # Fails if another one is at work.
        time.sleep(0.05)
        busy.unlink()
        print("worked")
except lock.Busy:
    print("busy")
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(ENGINE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def held(path: Path) -> bool:
    try:
        with lock.exclusive(path):
            return False
    except lock.Busy:
        return True


def test_second_is_busy_and_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock.exclusive(path):
        assert held(path)
    assert not held(path)
    assert path.exists()


def test_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    holder = start(HOLD, str(tmp_path / "lock"))
    assert holder.stdout is not None
    holder.stdout.readline()
    assert held(tmp_path / "lock")
    holder.kill()
    holder.wait()
    wait_until(lambda: not held(tmp_path / "lock"), "the lock")


def test_flock_command_and_ours_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock.exclusive(path):
        assert subprocess.run(["flock", "-xn", "-E", "75", path, "true"], check=False).returncode == 75
    with subprocess.Popen(["flock", "-xn", path, "sh", "-c", "echo held; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert held(path)
        other.communicate(b"\n")
    assert not held(path)


#: What a file system without locks answers. None of that kind can be mounted in a test, so the kernel's answer is replaced, not what we do with it.
NO_LOCKS = "import errno, fcntl\ndef flock(fd, how): raise OSError(errno.ENOLCK, 'No locks available')\nfcntl.flock = flock\n"


@pytest.mark.parametrize("prelude", ["", NO_LOCKS], ids=["flock", "owner-file"])
@pytest.mark.parametrize("stale", [False, True], ids=["clean", "stale"])
def test_simultaneous_starts_never_overlap(tmp_path: Path, prelude: str, stale: bool) -> None:
    start_together(tmp_path, prelude, stale, rounds=5)


def start_together(tmp_path: Path, prelude: str, stale: bool, rounds: int) -> None:
    """Three starts at the same moment, each round with a lock of its own; fails if two of them are at work at once."""
    for number in range(rounds):
        path = tmp_path / f"lock-{number}"
        if stale:
            path.write_text("12345\n")
            (tmp_path / f"lock-{number}.owner-7").write_text('{"boot_id": "earlier", "pid": 1, "start_ticks": 1}')
        together = str(time.time() + 0.4)
        tries = [start(prelude + TAKE, str(path), together) for dummy in range(3)]
        said = [attempt.communicate() for attempt in tries]
        assert all(error == "" for dummy, error in said), said
        assert "worked\n" in [out for out, dummy in said]


class TestOwnerFile:
    """Where the file system can't lock."""

    @pytest.fixture(autouse=True)
    def no_locks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(fd: int, how: int) -> None:
            raise OSError(errno.ENOTSUP, "Operation not supported")

        monkeypatch.setattr("fcntl.flock", refuse)

    def test_taken_and_given_back(self, tmp_path: Path) -> None:
        path = tmp_path / "lock"
        for dummy in range(3):
            with lock.exclusive(path):
                assert held(path)
        assert not held(path)
        assert len(list(tmp_path.glob("lock.owner-*"))) == 1, "no litter"

    def test_killed_holder_keeps_nothing(self, tmp_path: Path) -> None:
        holder = start(NO_LOCKS + HOLD, str(tmp_path / "lock"))
        assert holder.stdout is not None
        holder.stdout.readline()
        assert held(tmp_path / "lock")
        holder.kill()
        holder.wait()
        assert not held(tmp_path / "lock")

    def test_recycled_number_and_reboot_keep_nothing(self, tmp_path: Path) -> None:
        me = lock.this_process()
        for number, owner in enumerate(({**me, "start_ticks": 1}, {**me, "boot_id": "earlier"}, {}), 1):
            (tmp_path / f"lock.owner-{number}").write_text(json.dumps(owner))
            assert not held(tmp_path / "lock")

    def test_slow_reader_takes_nothing_away(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Somebody reads that the holder is gone, sleeps, and wakes when others have come and cleared away what was read."""
        path = tmp_path / "lock"
        (tmp_path / "lock.owner-1").write_text("{}")
        highest = lock._highest

        def asleep(where: Path) -> tuple[int, dict[str, object]]:
            answer = highest(where)
            monkeypatch.setattr(lock, "_highest", highest)
            (tmp_path / "lock.owner-1").unlink()
            (tmp_path / "lock.owner-3").write_text(json.dumps(lock.this_process()))
            return answer

        monkeypatch.setattr(lock, "_highest", asleep)
        assert held(path)
        assert [other.name for other in tmp_path.glob("lock.owner-*")] == ["lock.owner-3"]


def test_symlink_in_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(lock.Failure, match="can't be opened"), lock.exclusive(tmp_path / "lock"):
        pass
    assert not (tmp_path / "victim").exists()


def test_identity_outlives_neither_process_nor_boot() -> None:
    me = lock.this_process()
    assert lock.is_alive(me)
    assert not lock.is_alive({**me, "boot_id": "another"})
    assert not lock.is_alive({**me, "start_ticks": me["start_ticks"] - 1})
    assert not lock.is_alive({})
    with subprocess.Popen(["true"]) as other:
        other.wait()
        assert not lock.is_alive({**me, "pid": other.pid})
