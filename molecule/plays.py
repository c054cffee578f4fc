# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playing again from a test: the playbook of the scenario that runs, with other variables, or another one.

told = play("master1", rsync_master_port=8730)
assert (told.code, told.changed) == (0, {"master1": 2}), told.output
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parents[1]
#: The directory of the scenario that runs.
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
#: How hosts are reached.
REACHED = SCENARIO.parent / "shared/inventory/hosts.yml"


def inventory() -> dict[str, Any]:
    """The groups of the scenario's inventory, with their hosts and variables."""
    content: dict[str, Any] = yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text(encoding="utf-8"))
    return content


@dataclass
class Play:
    """How a play ended."""

    code: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """How many tasks changed something on each host."""
        return self._counted("changed")

    @property
    def failed(self) -> dict[str, int]:
        """How many tasks failed on each host: 0 or 1."""
        return self._counted("failed")

    @property
    def changes(self) -> list[tuple[str, str]]:
        """What changed: task and host, sorted. Of a loop's turns nothing is told but that there was a change."""
        found = set()
        task = ""
        for line in self.output.splitlines():
            if line.startswith("TASK ["):
                task = line[6:].partition("] *")[0]
            elif line.startswith("changed: ["):
                found.add((task, line[10:].partition("]")[0]))
        return sorted(found)

    @property
    def said(self) -> str:
        """The output in one line, for messages that are folded in it."""
        return " ".join(self.output.split())

    def _counted(self, name: str) -> dict[str, int]:
        recap = re.findall(rf"^(\S+)\s+: ok=.*\b{name}=(\d+)", self.output, re.MULTILINE)
        return {host: int(count) for host, count in recap}


def play(hosts: str, *options: str, playbook: Path | str = SCENARIO / "converge.yml", **variables: Any) -> Play:
    """A playbook on HOSTS alone (names with commas, or a group), with VARIABLES in place of the inventory's. It may fail, but it must begin.

    The playbook is a file, or has a name in a collection.
    """
    told = ansible("ansible-playbook", "--limit", hosts, "--extra-vars", json.dumps(variables), *options, str(playbook))
    assert "PLAY RECAP" in told.output, told.output
    return told


def ansible(*argv: str, hosts: Path = SCENARIO / "inventory/hosts.yml") -> Play:
    """One of Ansible's commands, with the scenario's inventory, or another file in its place, and the settings of a checkout."""
    inventories = ["--inventory", str(REACHED), "--inventory", str(hosts)]
    done = subprocess.run(
        [argv[0], *inventories, *argv[1:]],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Play(done.returncode, done.stdout)
