# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simultaneous starts, by the number of rounds in which public mirror scripts were seen to overlap."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_lock

ROUNDS = 60


@pytest.mark.parametrize("prelude", ["", test_lock.NO_LOCKS], ids=["flock", "owner-file"])
@pytest.mark.parametrize("stale", [False, True], ids=["clean", "stale"])
def test_no_overlap_in_60_rounds_of_three(tmp_path: Path, prelude: str, stale: bool) -> None:
    test_lock.start_together(tmp_path, prelude, stale, ROUNDS)
