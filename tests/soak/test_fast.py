# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that follow a master's head, through random edits and killed at any moment: the mirror's tree is always the master's in the end."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path
from typing import Protocol

import pytest
from conftest import Master, Mirror, wait_until
from heads import Publisher
from publishing import Desk
from trees import Scramble, describe

ROUNDS = int(os.environ.get("SOAK_KILLS", "200"))


class Publishing(Protocol):
    """Somebody who publishes the master's tree."""

    def publish(self) -> object: ...

    def publish_apart(self) -> None:
        """So that no delta leads there from what was published before."""


class Simple(Publisher):
    """As simple as can be."""

    def publish_apart(self) -> None:
        if self.serial % 2:
            self.new_epoch("abcdef"[self.serial % 6])
        else:
            self.index = None
            self.serial += 1
        self.publish()


class Real:
    """With the command's own procedure."""

    def __init__(self, master: Master) -> None:
        self._desk, self._turn = Desk(master.base, {"keep": 10}), 0

    def publish(self) -> None:
        assert self._desk.publish().outcome in ("published", "unchanged")

    def publish_apart(self) -> None:
        self._turn += 1
        if self._turn % 2:
            assert self._desk.publish(anew=True).outcome == "published"
            return
        for number in range(3):
            os.utime(self._desk.tree, (0, 10 * self._turn + number))
            assert self._desk.publish(keep=1).outcome == "published"


@pytest.mark.parametrize("seed", range(6))
def test_edits_and_kills(master: Master, mirror: Mirror, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    publisher: Publishing = Real(master) if seed > 3 else Simple(master.tree, deltas=10, contents=seed % 2 > 0)
    scramble = Scramble(master.tree, seed)
    options = {"sources": [master.url("own")], "max_delete_percent": 100}
    scramble.edit(100)
    publisher.publish()
    mirror.pull(**options)
    ways: dict[str | None, int] = {}
    for number in range(ROUNDS):
        if chance.random() < 0.1:
            scramble.edit(chance.randrange(1, 12))
            publisher.publish_apart()
            assert mirror.pull(**options).way == "manifest"
            assert describe(mirror.target) == describe(master.tree), f"round {number}, with no delta that leads there"
        for dummy in range(chance.randrange(1, 4)):
            scramble.edit(chance.randrange(1, 12))
            publisher.publish()
        if chance.random() < 0.1:
            # What the run that is killed brings may be in neither of the trees beside it.
            kill_a_run(mirror, chance)
            scramble.edit(chance.randrange(1, 12))
            publisher.publish_apart()
        if chance.random() < 0.5:
            kill_a_run(mirror, chance)
        report = mirror.pull(**options)
        assert report.outcome in ("updated", "unchanged"), f"round {number}: {report.line()}"
        ways[report.way] = ways.get(report.way, 0) + 1
        assert describe(mirror.target) == describe(master.tree), f"round {number}, by {report.way}"
        assert mirror.pull(**options).way == "same"
    assert ways.get("deltas", 0) > ROUNDS // 4, ways
    assert ways.get("plain", 0) < ROUNDS // 20 + 2, ways
    plain = tmp_path / "plain"
    for dummy in range(2):  # rsync's making of hard links disturbs times of directories, which a second call puts right.
        subprocess.run(["rsync", "-aH", "--delete", "--exclude=/.mirrornet", f"{master.tree}/", f"{plain}/"], check=True)
    # A time that differs by less than a second is the same to rsync.
    seconds = [[entry._replace(mtime=entry.mtime // 10**9) for entry in describe(top)] for top in (plain, mirror.target)]
    assert seconds[0][1:] == seconds[1][1:]


def kill_a_run(mirror: Mirror, chance: random.Random) -> None:
    run = mirror.start("pull", "tree")
    time.sleep(chance.uniform(0, 1))
    run.kill()
    run.communicate()
    wait_until(mirror.is_free, "the orphaned rsync to end")
