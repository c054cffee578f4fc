# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playing from a test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCENARIO = Path(__file__).parents[1]
CHECKOUT = SCENARIO.parents[1]


def playbook(path: Path, host: str, *options: str) -> subprocess.CompletedProcess[str]:
    return ansible("ansible-playbook", "--limit", host, *options, str(path))


def ansible(*argv: str) -> subprocess.CompletedProcess[str]:
    """One of Ansible's commands, with the scenario's inventory and a checkout's settings."""
    inventories = ["--inventory", SCENARIO.parent / "shared/inventory/hosts.yml", "--inventory", SCENARIO / "inventory/hosts.yml"]
    return subprocess.run(
        [argv[0], *inventories, *argv[1:]],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
