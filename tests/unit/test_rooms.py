# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of the engine's rooms, as docs/architecture.md has it: each imports only from those above it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from conftest import ENGINE

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"


def documented() -> list[str]:
    """The rooms from top to bottom."""
    table = DOCUMENT.read_text().partition("| room | one idea |\n")[2].partition("\n\n")[0]
    return [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def imported(room: Path) -> set[str]:
    """The rooms that one imports, wherever in it."""
    found = set[str]()
    for node in ast.walk(ast.parse(room.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module.partition(".")[0]} if node.module else {alias.name for alias in node.names}
    return {name for name in found if (room.parent / f"{name}.py").is_file()}


def test_all_rooms_are_in_the_table() -> None:
    rooms = sorted(path.stem for path in (ENGINE / "mirrornet").glob("*.py") if not path.stem.startswith("__"))
    assert sorted(documented()) == rooms


def test_a_room_imports_only_from_rooms_above_it() -> None:
    order = {name: number for number, name in enumerate(documented())}
    edges = [(name, other) for name in order for other in imported(ENGINE / "mirrornet" / f"{name}.py")]
    assert ("follow", "fast") in edges
    assert ("pull", "follow") in edges, "imports inside of functions count too"
    assert [f"{name} imports {other}" for name, other in edges if order[other] >= order[name]] == []
