# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits by time of day."""

from __future__ import annotations

import os
import time

import pytest
from conftest import Master, Mirror, tree
from mirrornet import bandwidth
from mirrornet.job import Job

DAY = Job(
    "t",
    ("h::m",),
    "/t",
    bandwidth_limit=50,
    bandwidth_windows=({"from": "08:00", "to": "18:00", "limit": 10}, {"from": "22:00", "to": "06:00", "limit": 0}),
)


@pytest.mark.parametrize(
    ("clock", "limit", "left"),
    [
        ("07:59", 50, 60),
        ("08:00", 10, 36000),
        ("17:59", 10, 60),
        ("18:00", 50, 14400),
        ("22:30", 0, 27000),
        ("00:00", 0, 21600),
        ("05:59", 0, 60),
        ("06:00", 50, 7200),
    ],
)
def test_windows(clock: str, limit: int, left: float) -> None:
    assert bandwidth.now(DAY, time.strptime(clock, "%H:%M")) == (limit, left)


def test_first_of_two_windows_counts() -> None:
    windows = ({"from": "08:00", "to": "18:00", "limit": 10}, {"from": "12:00", "to": "13:00", "limit": 90})
    assert bandwidth.now(Job("t", ("h::m",), "/t", bandwidth_windows=windows), time.strptime("12:30:20", "%H:%M:%S")) == (10, 1780)


def test_no_windows() -> None:
    assert bandwidth.now(Job("t", ("h::m",), "/t", bandwidth_limit=7), time.strptime("12:00", "%H:%M"))[0] == 7


def test_transfer_goes_on_with_the_next_limit(master: Master, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    master.fill()
    (master.tree / "big").write_bytes(os.urandom(2 << 20))
    answers = iter([(100, 2.0), (0, 3600.0)])
    monkeypatch.setattr(bandwidth, "now", lambda job, clock: next(answers))
    report = mirror.pull(bandwidth_windows=[{"from": "08:00", "to": "18:00", "limit": 100}], time_limit=60)
    assert report.outcome == "updated"
    assert "going on with that one" in mirror.places.log("tree").read_text()
    assert tree(mirror.target) == tree(master.tree)
