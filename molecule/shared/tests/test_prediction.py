# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part of every scenario: check mode on the fresh hosts predicted what the real run then changed."""

from __future__ import annotations

import json
import os
from pathlib import Path


def changes(kind: str) -> list[list[str]]:
    """The pairs of host and task that changed something in check mode (`check`) or in the first real run (`real`)."""
    record = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / f"changes-{kind}.json"
    assert record.exists(), f"no record of a {kind} run: run `molecule check`, then `molecule converge`, on fresh hosts"
    result: list[list[str]] = json.loads(record.read_text(encoding="utf-8"))
    return result


def test_check_mode_predicts_the_changes() -> None:
    real = changes("real")
    assert real, "the first real run changed nothing, so nothing is compared: the hosts were not fresh"
    assert changes("check") == real
