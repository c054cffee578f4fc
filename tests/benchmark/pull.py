# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what a pull costs over the bare rsync command, side by side.

Called by `make bench` at the top of the checkout, with the engine and the unit tests' master on PYTHONPATH. Both run as whole processes
against one rsync daemon on loopback, in turn, and the medians are compared. BENCH_FILES is the size of the tree. Where a run needs a plan
and a transfer, so does the bare command: what is left is our own. The figures also go to .build/bench/pull.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from conftest import Master, Mirror, free_port
from mirrornet import package, rsync
from mirrornet.rsync import Mode

FILES = int(os.environ.get("BENCH_FILES", "10000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "9"))


def grow(master: Master) -> None:
    """A tree of small files, 100 in a directory."""
    for number in range(FILES):
        path = master.tree / f"{number // 100:04d}" / f"{number % 100:02d}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{number}\n")
    (master.tree / "lastupdate").write_text("0")


def timed(commands: list[list[str]], environment: dict[str, str]) -> float:
    """Milliseconds of whole processes, one after the other."""
    start = time.perf_counter()
    for command in commands:
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1000


def connections(master: Master) -> int:
    """Connections that the daemon has served so far."""
    return (master.base / "log").read_text().count("on module tree") + (master.base / "log").read_text().count(" rsync on tree/")


def compare(master: Master, mirror: Mirror, bare: Mirror, command: Path, changes: int, **options: object) -> dict[str, float]:
    """Medians of both, for runs that find ``changes`` changed files."""
    job = mirror.define(**options)
    transfer = rsync.argv(rsync.find(), job, master.url(), str(bare.target), Mode(delete=True))
    plan = rsync.argv(rsync.find(), job, master.url(), str(bare.target), Mode(delete=True), dry_run=True)
    fetch = rsync.fetch(rsync.find(), job, master.url(), "lastupdate", bare.base / "fetched")
    plain = [fetch] if job.check_file else [plan, transfer] if changes else [plan]
    environment = {**os.environ, "RSYNC_PASSWORD": ""}
    ours = [
        str(command),
        "--config-dir",
        str(mirror.places.config_dir),
        "--state-dir",
        str(mirror.places.state_dir),
        "pull",
        "--quiet",
        "tree",
    ]
    for words in (transfer, ours):  # Both start from a complete tree.
        subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
    times: dict[str, list[float]] = {"rsync": [], "mirrornet": []}
    asked = {"rsync": 0, "mirrornet": 0}
    for number in range(-1, ROUNDS):
        for change in range(changes):
            (master.tree / f"{change:04d}" / "00.txt").write_text(f"round {number} {time.time_ns()}\n")
        for name, words in (("rsync", plain), ("mirrornet", [ours])) if number % 2 else (("mirrornet", [ours]), ("rsync", plain)):
            before = connections(master)
            spent = timed(words, environment)
            time.sleep(0.05)  # The daemon writes its log after the client has gone.
            if number >= 0:  # The first round warms the caches up.
                times[name].append(spent)
                asked[name] += connections(master) - before
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "changes": changes,
        "rsync_ms": round(medians["rsync"], 1),
        "mirrornet_ms": round(medians["mirrornet"], 1),
        "extra_ms": round(medians["mirrornet"] - medians["rsync"], 1),
        "ratio": round(medians["mirrornet"] / medians["rsync"], 2),
        "rsync_connections": asked["rsync"] / ROUNDS,
        "mirrornet_connections": asked["mirrornet"] / ROUNDS,
    }


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mirrornet-bench-") as directory:
        base = Path(directory)
        master = Master(base / "master", free_port())
        master.tree.mkdir(parents=True)
        grow(master)
        master.start()
        mirror, bare = Mirror(base / "mirror", master), Mirror(base / "bare", master)
        for one in (mirror, bare):
            one.target.mkdir(parents=True)
        command = base / "mirrornet"
        command.write_bytes(package.command("/usr/bin/python3"))  # As the module installs it.
        command.chmod(0o755)
        try:
            rows = {
                "nothing new": compare(master, mirror, bare, command, 0),
                "nothing new, check_file": compare(master, mirror, bare, command, 0, check_file="lastupdate"),
                "10 files changed": compare(master, mirror, bare, command, 10),
            }
        finally:
            master.stop()
    results = Path(".build/bench")
    results.mkdir(parents=True, exist_ok=True)
    (results / "pull.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"\npull, {FILES} files, median of {ROUNDS}   {'rsync ms':>9}{'ours ms':>9}{'extra ms':>9}{'ratio':>7}{'connections':>13}")
    for name, row in rows.items():
        asked = f"{row['rsync_connections']:.0f} / {row['mirrornet_connections']:.0f}"
        print(f"{name:<33}{row['rsync_ms']:>9.1f}{row['mirrornet_ms']:>9.1f}{row['extra_ms']:>9.1f}{row['ratio']:>7.2f}{asked:>13}")


main()
