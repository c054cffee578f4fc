# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playing the master's role again from a test, with other variables."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCENARIO = Path(__file__).parents[1]
CHECKOUT = SCENARIO.parents[1]


@dataclass
class Play:
    """How a play ended."""

    code: int
    output: str
    #: The figures of its recap: ok, changed, failed, …
    recap: dict[str, int]


def play(host: str, *options: str, **variables: Any) -> Play:
    """The scenario's converge playbook on HOST alone, with VARIABLES in place of the inventory's."""
    done = subprocess.run(
        [
            "ansible-playbook", "--inventory", SCENARIO.parent / "shared/inventory/hosts.yml",
            "--inventory", SCENARIO / "inventory/hosts.yml", "--limit", host, "--extra-vars", json.dumps(variables),
            *options, SCENARIO / "converge.yml",
        ],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )  # fmt: skip
    recap = re.search(rf"^{host}\s+:(.*)$", done.stdout, re.MULTILINE)
    assert recap, done.stdout
    return Play(done.returncode, done.stdout, {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", recap.group(1))})


def key_of(name: str, *, private: bool = False) -> str:
    """The key NAME that prepare.yml has made."""
    path = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "keys" / name
    return (path if private else path.with_suffix(".pub")).read_text(encoding="utf-8")
