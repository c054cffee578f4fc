# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run killed at any moment, again and again: nothing torn, nothing lost, and the next run finishes the work."""

from __future__ import annotations

import os
import random
import time

import pytest
from conftest import Master, Mirror, tree, wait_until

KILLS = int(os.environ.get("SOAK_KILLS", "200"))


@pytest.mark.parametrize("options", [{}, {"index": ["INDEX"]}, {"switch": True}], ids=["plain", "index", "switch"])
def test_kill_9_at_any_moment(master: Master, mirror: Mirror, options: dict[str, object]) -> None:
    chance = random.Random(20260101)  # The same kills each time.
    shown = mirror.target / "current" if options.get("switch") else mirror.target
    master.fill(30)
    (master.tree / "INDEX").write_text("")
    mirror.pull(**options)
    for number in range(KILLS):
        former = tree(shown)
        _change(master, chance, number)
        wanted = tree(master.tree)
        mirror.define(bandwidth_limit=4000, **options)
        run = mirror.start("pull", "tree")
        time.sleep(chance.uniform(0, 0.5))
        run.kill()
        run.communicate()
        wait_until(mirror.is_free, "the orphaned rsync to end")
        now = {name: what for name, what in tree(shown).items() if ".~tmp~" not in name}
        for name, what in now.items():
            assert what in (former.get(name), wanted.get(name)) or what[0] == "directory", f"round {number}: {name} is torn"
        assert set(former) & set(wanted) <= set(now), f"round {number}: something was lost"
        if options.get("switch"):
            assert now in (former, wanted), f"round {number}: half a release"
        if options.get("index") and now["INDEX"] == wanted["INDEX"] != former["INDEX"]:
            assert set(wanted) <= set(now), f"round {number}: the index came too early"
        report = mirror.pull(max_delete_percent=90, **options)
        assert report.outcome in ("updated", "unchanged"), report.line()
        assert tree(shown) == wanted, f"round {number}: the next run did not finish the work"
    assert not list(mirror.target.rglob(".~tmp~"))


def _change(master: Master, chance: random.Random, number: int) -> None:
    """A new release: some files new, some rewritten, some gone."""
    for dummy in range(6):
        path = master.tree / f"release-{chance.randrange(3)}" / f"file-{chance.randrange(40)}.txt"
        if path.exists() and chance.random() < 0.3:
            path.unlink()
        else:
            path.write_bytes(chance.randbytes(chance.randrange(1, 60_000)))
    (master.tree / "INDEX").write_text("x" * (number + 1))
