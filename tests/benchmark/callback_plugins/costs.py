# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count what a run of Ansible costs each host."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: costs
type: notification
short_description: counts what a run of Ansible costs each host
description:
  - Writes for each host how many tasks ran on it, how many of them changed something, how many were skipped, and how many seconds they took
    together, as JSON into the file that E(COSTS_FILE) names.
"""


class CallbackModule(CallbackBase):
    """Adds up over the run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "costs"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.started: dict[tuple[str, str], float] = {}
        self.costs: dict[str, dict[str, float]] = defaultdict(lambda: {"tasks": 0, "changed": 0, "skipped": 0, "seconds": 0.0})

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self.started[(host.get_name(), task._uuid)] = time.monotonic()

    def _count(self, result: Any, **counts: int) -> None:
        host = result._host.get_name()
        costs = self.costs[host]
        for name, number in counts.items():
            costs[name] += number
        costs["seconds"] += time.monotonic() - self.started.pop((host, result._task._uuid), time.monotonic())

    def v2_runner_on_ok(self, result: Any) -> None:
        self._count(result, tasks=1, changed=int(result.is_changed()))

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._count(result, skipped=1)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        Path(os.environ["COSTS_FILE"]).write_text(json.dumps(self.costs, indent=1, sort_keys=True) + "\n", encoding="utf-8")
