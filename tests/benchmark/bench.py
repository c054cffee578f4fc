# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what the collection costs. Called by `make bench`, at the top of the checkout, inside tests/hosts/enter.

The first figure: tasks and seconds a host of a first and a second run of site.yml, on the demo's inventory and fresh hosts.
The figures also go to .build/bench/figures.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(".build/bench")
NETWORK = "mirrornet-bench"
INVENTORY = ["-i", "inventories/demo", "-e", f"test_network={NETWORK}"]
RUNS = ("first", "second")


def play(playbook: str, log: str, **environment: str) -> float:
    """Run a playbook against the hosts, its output in a log; returns the seconds that it took."""
    start = time.monotonic()
    path = RESULTS / f"{log}.log"
    with path.open("wb") as output:
        code = subprocess.run(
            ["ansible-playbook", *INVENTORY, playbook],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            check=False,
        ).returncode
    if code != 0:
        sys.exit(f"bench: {playbook} failed, see {path}.")
    return time.monotonic() - start


def provision(run: str) -> dict[str, Any]:
    """The costs of one run of site.yml: in all, and by host."""
    costs = RESULTS / f"{run}.json"
    seconds = play(
        "playbooks/site.yml",
        run,
        ANSIBLE_CALLBACK_PLUGINS="tests/benchmark/callback_plugins",
        ANSIBLE_CALLBACKS_ENABLED="costs",
        COSTS_FILE=str(costs),
    )
    return {"seconds": seconds, "hosts": json.loads(costs.read_text(encoding="utf-8"))}


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    print(f"\n{'site.yml':<10}{'host':<10}{'tasks':>7}{'changed':>9}{'skipped':>9}{'seconds':>9}")
    for run in RUNS:
        for host, costs in sorted(figures[run]["hosts"].items()):
            print(f"{run:<10}{host:<10}{costs['tasks']:>7}{costs['changed']:>9}{costs['skipped']:>9}{costs['seconds']:>9.1f}")
        print(f"{run:<10}{'wall time':<35}{figures[run]['seconds']:>9.1f}")


def main() -> int:
    RESULTS.mkdir(parents=True, exist_ok=True)
    print("bench: three fresh hosts, then site.yml twice; about two minutes …", flush=True)
    play("molecule/shared/destroy.yml", "destroy")
    try:
        play("molecule/shared/create.yml", "create")
        subprocess.run(["podman", "exec", f"{NETWORK}-master1", "mkdir", "--parents", "/srv/demo"], check=True)
        figures = {run: provision(run) for run in RUNS}
    finally:
        play("molecule/shared/destroy.yml", "destroy")
    (RESULTS / "figures.json").write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    show(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
