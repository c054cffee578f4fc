# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playing the role again from a test, each host with a frontend of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from testinfra.host import Host

SCENARIO = Path(__file__).parents[1]
CHECKOUT = SCENARIO.parents[1]
MASTERS = yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text(encoding="utf-8"))["masters"]
HOSTS: dict[str, dict[str, str]] = MASTERS["hosts"]
VARIABLES: dict[str, Any] = MASTERS["vars"]

#: What listens, for each frontend.
UNITS = {
    "systemd_socket": "mirrornet-rsyncd.socket",
    "daemon": "mirrornet-rsyncd-daemon.service",
    "inetd": "mirrornet-rsyncd-inetd.service",
    "xinetd": "mirrornet-rsyncd-xinetd.service",
}


@dataclass
class Play:
    """How a play ended."""

    code: int
    output: str
    #: The figures of its recap for each host: ok, changed, failed, …
    recap: dict[str, dict[str, int]]
    #: What changed: task and host, sorted.
    changes: list[tuple[str, str]]


def play(chosen: dict[str, str], *options: str, **variables: Any) -> Play:
    """The converge playbook on the hosts in CHOSEN, each with its frontend, and with VARIABLES in place of the inventory's."""
    given = {"chosen": chosen, "rsync_master_frontend": "{{ chosen[inventory_hostname] }}", **variables}
    done = subprocess.run(
        [
            "ansible-playbook", "--inventory", SCENARIO.parent / "shared/inventory/hosts.yml",
            "--inventory", SCENARIO / "inventory/hosts.yml", "--limit", ",".join(chosen), "--extra-vars", json.dumps(given),
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
    recaps = re.findall(r"^(\S+)\s+:(.*=.*)$", done.stdout, re.MULTILINE)
    figures = {name: {key: int(count) for key, count in re.findall(r"(\w+)=(\d+)", told)} for name, told in recaps}
    changes = set()
    task = ""
    for line in done.stdout.splitlines():
        if line.startswith("TASK ["):
            task = line[6:].partition("] *")[0]
        elif line.startswith("changed: ["):
            changes.add((task, line[10:].partition("]")[0]))
    return Play(done.returncode, done.stdout, figures, sorted(changes))


def everywhere(hosts: dict[str, Host], script: str) -> dict[str, str]:
    """What a script prints on each host, where it runs at the same time. `{next}` and `{before}` in it are the hosts beside."""
    names = list(hosts)
    beside = [{"next": names[(at + 1) % len(names)], "before": names[at - 1]} for at in range(len(names))]
    with ThreadPoolExecutor() as pool:
        told = pool.map(lambda name, others: hosts[name].check_output(script.format(**others)), names, beside)
    return dict(zip(names, told))
