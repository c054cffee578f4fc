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

import pytest
from conftest import Master, Mirror, wait_until
from heads import Publisher
from trees import Scramble, describe

ROUNDS = int(os.environ.get("SOAK_KILLS", "200"))


@pytest.mark.parametrize("seed", range(4))
def test_edits_and_kills(master: Master, mirror: Mirror, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    publisher, scramble = Publisher(master.tree, deltas=10, contents=seed % 2 > 0), Scramble(master.tree, seed)
    options = {"sources": [master.url("own")], "max_delete_percent": 100}
    scramble.edit(100)
    publisher.publish()
    mirror.pull(**options)
    ways: dict[str | None, int] = {}
    for number in range(ROUNDS):
        if chance.random() < 0.1:
            # Without edits: across epochs, as for rsync, a file of the same size and time counts as the same.
            publisher.new_epoch("abcdef"[number % 6])
            publisher.publish()
            assert mirror.pull(**options).way == "manifest"
        for dummy in range(chance.randrange(1, 4)):
            scramble.edit(chance.randrange(1, 12))
            publisher.publish()
        if chance.random() < 0.5:
            run = mirror.start("pull", "tree")
            time.sleep(chance.uniform(0, 1))
            run.kill()
            run.communicate()
            wait_until(mirror.is_free, "the orphaned rsync to end")
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
