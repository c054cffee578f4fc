# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record which tasks of a scenario's converge playbook changed something, in check mode and in the first real run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: changes
type: notification
short_description: records which tasks of a scenario's converge playbook changed something
description:
  - Writes C(changes-check.json) and C(changes-real.json) into the scenario's temporary directory.
    C(tests/test_prediction.py) beside this plugin's directory compares them.
  - Only the first real run counts. The second is to change nothing, and would hide what the first one did.
"""

KINDS = ("check", "real")


class CallbackModule(CallbackBase):
    """Collects pairs of host and task."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "changes"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.playbook = ""
        self.changed: set[tuple[str, str]] = set()

    @staticmethod
    def record(kind: str) -> Path:
        """Where the changes of a run in check mode (V(check)) or a real run (V(real)) are kept."""
        return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / f"changes-{kind}.json"

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self.playbook = Path(playbook._file_name).name
        if self.playbook == "create.yml":
            for kind in KINDS:
                self.record(kind).unlink(missing_ok=True)

    def v2_runner_on_ok(self, result: Any) -> None:
        if result.is_changed():
            self.changed.add((result._host.get_name(), result._task.get_name()))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if self.playbook != "converge.yml" or (stats.failures or stats.dark):
            return
        kind = "check" if context.CLIARGS["check"] else "real"
        record = self.record(kind)
        if kind == "check" or not record.exists():
            record.write_text(json.dumps(sorted(self.changed), indent=1) + "\n", encoding="utf-8")
