# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is really full: a small file system of its own, in a namespace where also an ordinary user may mount one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Master, Mirror, tree, wait_until
from mirrornet.errors import Exit

MIB = 1 << 20


@dataclass
class SmallDisk:
    """A mirror whose target is a file system of 8 MiB, which only processes in one mount namespace see."""

    mirror: Mirror
    holder: subprocess.Popen[str]

    @property
    def target(self) -> Path:
        """The target as it can be reached from outside."""
        return Path(f"/proc/{self.holder.pid}/root{self.mirror.target}")

    def inside(self, *words: str) -> list[str]:
        """The command ``mirrornet``, in the namespace."""
        namespace = ["nsenter", "--target", str(self.holder.pid), "--user", "--preserve-credentials", "--mount"]
        return [*namespace, *self.mirror.command(*words)]

    def start(self) -> subprocess.Popen[str]:
        """One run inside, not waited for."""
        return subprocess.Popen(self.inside("pull", "tree"), env=self.mirror.environment(), stderr=subprocess.PIPE, text=True)

    def pull(self, **options: Any) -> dict[str, Any]:
        """One run inside; returns its report."""
        self.mirror.define(**options)
        words = self.inside("pull", "--json", "tree")
        done = subprocess.run(words, env=self.mirror.environment(), capture_output=True, text=True, check=False)
        report: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == report["exit_code"]
        return report

    def fill(self, name: str, size: int) -> None:
        """Somebody else's file on the same disk."""
        with (self.target / ".mirrornet" / name).open("wb") as file:
            file.write(b"x" * size)


@pytest.fixture
def disk(mirror: Mirror) -> Iterator[SmallDisk]:
    mount = f'mount -t tmpfs -o size=8m none "{mirror.target}" && echo ready && exec sleep 600'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        yield SmallDisk(mirror, holder)
        holder.kill()


def payload(master: Master, name: str, size: int) -> None:
    (master.tree / name).write_bytes(os.urandom(size))


class TestFullDisk:
    def test_too_small_for_what_would_come(self, master: Master, disk: SmallDisk) -> None:
        master.fill()
        assert disk.pull()["outcome"] == "updated"
        before = tree(disk.target)
        payload(master, "big", 20 * MIB)
        report = disk.pull()
        assert (report["outcome"], report["kind"], report["exit_code"]) == ("held", "no_room", Exit.HELD)
        assert tree(disk.target) == before

    def test_fills_during_the_transfer_and_recovers(self, master: Master, disk: SmallDisk) -> None:
        """The plan fits, but somebody else takes the room meanwhile: on every run rsync would find its own leftovers in the way."""
        master.fill()
        disk.pull()
        before = tree(disk.target)
        payload(master, "one", 3 * MIB)
        payload(master, "two", 3 * MIB)
        disk.mirror.define(bandwidth_limit=1000)
        inside = ["nsenter", "--target", str(disk.holder.pid), "--user", "--preserve-credentials", "--mount"]
        run = subprocess.Popen(
            [*inside, *disk.mirror.command("pull", "tree")], env=disk.mirror.environment(), stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: disk.mirror.phase() == "transfer", "the transfer")
        disk.fill("somebody's", 4 * MIB)
        said = run.communicate()[1]
        assert run.returncode == Exit.LOCAL_IO, said
        assert "is full" in said
        assert tree(disk.target) == before, "nothing half arrived is left, nothing of the old is gone"
        assert disk.pull()["kind"] == "no_room"
        (disk.target / ".mirrornet" / "somebody's").unlink()
        assert disk.pull()["outcome"] == "updated"
        assert tree(disk.target) == tree(master.tree)

    def test_fills_after_the_first_stage(self, master: Master, disk: SmallDisk) -> None:
        """What is new is here, the index that names it doesn't fit any more: the old index stays, and stays true."""
        master.fill()
        payload(master, "Packages", 1000)
        disk.pull(index=["Packages"])
        before = tree(disk.target)
        payload(master, "Packages", 3 * MIB)
        payload(master, "new", 1 * MIB)
        disk.mirror.define(index=["Packages"], bandwidth_limit=750)
        run = disk.start()
        wait_until(lambda: disk.mirror.phase() == "finish", "the second stage")
        disk.fill("somebody's", 4 * MIB)
        said = run.communicate()[1]
        assert run.returncode == Exit.LOCAL_IO, said
        now = tree(disk.target)
        assert now.pop("new")[0] == "file"
        assert now == before
        (disk.target / ".mirrornet" / "somebody's").unlink()
        assert disk.pull(index=["Packages"])["outcome"] == "updated"
        assert tree(disk.target) == tree(master.tree)

    def test_leftovers_of_a_killed_run_are_no_trap(self, master: Master, disk: SmallDisk) -> None:
        master.fill()
        disk.pull()
        left = disk.target / "release-0" / ".~tmp~"
        left.mkdir()
        (left / "gone-upstream").write_bytes(b"x" * 5 * MIB)
        disk.mirror.places.running("tree").write_text('{"owner": {}, "started": "2026-01-01T00:00:00Z", "phase": "transfer"}')
        payload(master, "new", 5 * MIB)
        report = disk.pull()
        assert report["outcome"] == "updated", report["message"]
        assert tree(disk.target) == tree(master.tree)

    def test_no_byte_left_for_the_report(self, master: Master, disk: SmallDisk) -> None:
        """The report in the tree is given up; the one in the state directory says what happened."""
        master.fill()
        disk.pull()
        with pytest.raises(OSError, match="No space"):
            disk.fill("all", 9 * MIB)
        (master.tree / "latest").unlink()
        report = disk.pull()
        assert report["outcome"] == "updated"
        assert disk.mirror.report()["outcome"] == "updated"
