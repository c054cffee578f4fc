# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patterns of what is left out, matched as rsync itself matches them."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from mirrornet.pattern import excluder, problem

NAMES = ["a", "b", "ab", "aa", ".a", "a.b", "a b", "b\n", "\xe4", "$", "x" * 20]
PARTS = ["a", "b", "ab", "aa", ".a", "*", "?", "a*", "?b", "*.b", "x*", "$", "\xe4", "a?*"]


def pattern(chance: random.Random) -> str:
    """One of any kind: anchored or not, of directories only or not, with a name or two."""
    parts = chance.choices(PARTS, k=chance.choice([1, 1, 2]))
    return chance.choice(["", "/"]) + "/".join(parts) + chance.choice(["", "/"])


def grow(top: Path, chance: random.Random, depth: int = 0) -> None:
    for name in chance.sample(NAMES, 7) if depth else NAMES:
        if (depth < 2 and chance.random() < 0.6) or (depth == 0 and name == "a"):
            (top / name).mkdir()
            grow(top / name, chance, depth + 1)
        else:
            (top / name).touch()


def taken(tree: Path, patterns: list[str]) -> set[bytes]:
    """What rsync takes."""
    command = ["rsync", "-r", *(f"--exclude={pattern}" for pattern in patterns), f"{tree}/"]
    copy = tree.with_name("copy")
    subprocess.run(["rm", "-rf", copy], check=True)
    subprocess.run([*command, f"{copy}/"], env={**os.environ, "LC_ALL": "C"}, check=True)
    return everything(copy)


def everything(top: Path) -> set[bytes]:
    return {os.fsencode(path.relative_to(top)) for path in top.rglob("*")}


def test_as_rsync_does(tmp_path: Path) -> None:
    chance, tree = random.Random(3), tmp_path / "tree"
    tree.mkdir()
    grow(tree, chance)
    paths, tried = everything(tree), 0
    assert len(paths) > 50
    while tried < 60:
        patterns = [pattern(chance) for dummy in range(chance.randrange(1, 3))]
        if any(map(problem, patterns)):
            continue
        tried += 1
        leaves_out = excluder(patterns)
        ours = {path for path in paths if not leaves_out(path, (tree / os.fsdecode(path)).is_dir())}
        assert ours == taken(tree, patterns), patterns
