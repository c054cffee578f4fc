# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a job may transfer at a time of the day."""

from __future__ import annotations

import time

from .job import Job

_DAY = 24 * 60


def now(job: Job, clock: time.struct_time) -> tuple[int, float]:
    """The limit in KiB/s that is in force at the local time ``clock`` (0: none), and the seconds until another one may be.

    The first window that holds the time counts; outside of all of them ``bandwidth_limit`` does. A window may cross midnight.
    """
    minute = clock.tm_hour * 60 + clock.tm_min
    edges = []
    limit: int | None = None
    for window in job.bandwidth_windows:
        start, end = _minutes(window["from"]), _minutes(window["to"])
        inside = start <= minute < end if start < end else minute >= start or minute < end
        if inside and limit is None:
            limit = window["limit"]
        edges += [start, end]
    left = min(((edge - minute) % _DAY or _DAY for edge in edges), default=_DAY)
    return job.bandwidth_limit if limit is None else limit, left * 60.0 - clock.tm_sec


def _minutes(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)
