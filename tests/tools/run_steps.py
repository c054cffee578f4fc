# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run several targets of the Makefile side by side, and say at the end which passed.

Each step's output goes to .build/logs/STEP.log; of a failed one the end is shown. All steps run, also after a failure.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

LOGS = Path(".build/logs")
TAIL_LINES = 80


@dataclass
class Result:
    """How a step ended, and how many seconds it took."""

    step: str
    code: int
    seconds: float

    @property
    def log(self) -> Path:
        return LOGS / f"{self.step}.log"

    def __str__(self) -> str:
        return f"  {'ok    ' if self.code == 0 else 'FAILED'} {self.seconds:5.0f} s  {self.step}"


def run(step: str) -> Result:
    """Run `make STEP` without input, with its output in the log."""
    start = time.monotonic()
    environment = {**os.environ, "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", "PY_COLORS": "0"}
    # What the outer make says about its own flags and jobs is not for the inner ones.
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        environment.pop(name, None)
    with (LOGS / f"{step}.log").open("wb") as log:
        code = subprocess.run(
            ["make", "--no-print-directory", step],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        ).returncode
    result = Result(step, code, time.monotonic() - start)
    print(result, flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many steps run at the same time")
    parser.add_argument("steps", nargs="+", metavar="STEP", help="targets of the Makefile, the longest first")
    arguments = parser.parse_args()

    LOGS.mkdir(parents=True, exist_ok=True)
    print(f"Running {len(arguments.steps)} steps, {arguments.jobs} at a time. Their output is in {LOGS}/.", flush=True)
    start = time.monotonic()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = list(pool.map(run, arguments.steps))

    failed = [result for result in results if result.code != 0]
    for result in failed:
        lines = result.log.read_text(encoding="utf-8", errors="replace").splitlines()
        print(f"\n==== {result.step}: the last lines of {result.log}\n")
        print("\n".join(lines[-TAIL_LINES:]))
    print(f"\nDone in {time.monotonic() - start:.0f} s:")
    print("\n".join(map(str, results)))
    print(f"\n{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
