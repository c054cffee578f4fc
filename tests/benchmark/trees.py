# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what keeping a tree in step costs, beside plain `rsync -av --delete-after`, for trees of several sizes.

Called by `make bench` at the top of the checkout, with tests/ and the engine on PYTHONPATH. Both commands run as whole processes and in turn,
against one rsync daemon on loopback; the medians are compared. All is set by variables:

BENCH_TREES    numbers of small files (default: 10000 100000; 1000000 needs 15 GB of disk and the better part of an hour)
BENCH_MIRRORS  numbers of mirrors that ask at once (default: 1 10 100; 0: this part is left out)
BENCH_CROWD    how many files the tree has that they ask for (default: 10000)
BENCH_ROUNDS   how often each pair is measured, at least (default: 3)
BENCH_LIMIT    seconds after which it gives up (default: by the sizes)
BENCH_PLACE    directory for the trees (default: the system's for temporary files); all is removed at the end, also of a failure
BENCH_PICTURE  file for the drawing, docs/images/bench.svg for the one of the documentation (default: .build/bench/trees.svg)

The figures also go to .build/bench/trees.json, row by row: a run that is interrupted or takes too long leaves what it has found.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from benchmark.measure import Cost, Daemon, children, cost, peak
from benchmark.picture import ONCE, misses, svg, table
from mirrornet import package

RESULTS = Path(".build/bench/trees.json")
#: Short runs are repeated for so many seconds.
SPAN = 3.0
MOST_ROUNDS = 15
DIRECTORY = 100
#: Bytes and inodes for each file: the tree, two copies, what a transfer stages, and lists of it all.
SPACE, INODES = 15_000, 3.2
#: Seconds after which a file counts as settled: `publish` reads a younger one again, since a file can change twice within one of the clock's steps.
SETTLED = 2.5
#: A bare walk of a tree that reads of each entry what tells a change.
FIND = ["-printf", r"%y %m %T@ %C@ %i %n %s %P %l\0"]
#: A place in use is locked by this file in it; one that isn't was left by a run that was killed.
PREFIX, LOCK = "mirrornet-bench-", "lock"
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    trees: list[int]
    mirrors: list[int]
    crowd: int
    rounds: int
    limit: int
    place: Path
    picture: Path

    @property
    def space(self) -> int:
        """Bytes of disk for the largest of the trees, which are made one after the other."""
        return max([*self.trees, self.crowd if self.mirrors else 0]) * SPACE

    @property
    def inodes(self) -> int:
        return int(max([*(files * INODES for files in self.trees), self.crowd * 2 + sum(self.mirrors) * 1000 if self.mirrors else 0]))

    @property
    def minutes(self) -> int:
        """About how long it takes on an ordinary machine."""
        return 1 + sum(self.trees) // 25_000 + (len(self.mirrors) and sum(self.mirrors) * self.crowd // 1_500_000)


def plan(environment: Mapping[str, str]) -> Plan:
    """Read the variables; what is wrong with one ends the program."""

    def numbers(name: str, default: str, least: int) -> list[int]:
        words = environment.get(name, "").replace(",", " ").split() or default.split()
        try:
            found = [int(word) for word in words]
        except ValueError:
            sys.exit(f"bench: {name}={' '.join(words)}: numbers are needed, for instance {name}='{default}'.")
        if min(found) < least:
            sys.exit(f"bench: {name}={' '.join(words)}: {least} is the least.")
        return found

    trees = numbers("BENCH_TREES", "10000 100000", 1)
    return Plan(
        trees=trees,
        mirrors=[number for number in numbers("BENCH_MIRRORS", "1 10 100", 0) if number],
        crowd=numbers("BENCH_CROWD", "10000", 1)[0],
        rounds=numbers("BENCH_ROUNDS", "3", 1)[0],
        limit=numbers("BENCH_LIMIT", str(900 + sum(trees) // 200), 1)[0],
        place=Path(environment.get("BENCH_PLACE") or tempfile.gettempdir()),
        picture=Path(environment.get("BENCH_PICTURE") or RESULTS.with_suffix(".svg")),
    )


def say(text: str) -> None:
    print(f"bench: {text}", flush=True)


class Site:
    """A master with a tree, and mirrors of it by either command."""

    def __init__(self, base: Path, files: int, limit: float) -> None:
        self.base, self.files, self.limit, self.round = base, files, limit, 0
        self.tree = base / "tree"
        self.tree.mkdir(parents=True)
        self.command = base / "mirrornet"
        self.command.write_bytes(package.command("/usr/bin/python3"))  # As the module installs it.
        self.command.chmod(0o755)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(base), "LC_ALL": "C"}
        #: Whether this version publishes heads.
        self.publishes = not self.run(["publish", "--help"], check=False)
        for number in range(files):
            path = self.path(number)
            if number % DIRECTORY == 0:
                path.parent.mkdir(parents=True)
            path.write_bytes(b"content of %010d, as it was at first\n" % number)
        self.daemon = Daemon(base, self.tree)

    def run(self, words: list[str], *, check: bool = True) -> int:
        """The command on the master's side; its exit code."""
        argv = [str(self.command), "--state-dir", str(self.base / "published"), *words]
        return subprocess.run(argv, env=self.environment, capture_output=True, timeout=self.limit, check=check).returncode

    def path(self, number: int) -> Path:
        directory = number // DIRECTORY
        return self.tree / f"{directory // DIRECTORY:03d}" / f"{directory % DIRECTORY:02d}" / f"{number % DIRECTORY:02d}.txt"

    def change(self, changes: int) -> None:
        """Another content of the same size for some files, evenly spread and other ones each time."""
        self.round += 1
        for change in range(changes):
            number = (change * self.files // changes + self.round) % self.files
            self.path(number).write_bytes(b"content of %010d, changed in %6d\n" % (number, self.round))

    def publish(self) -> float:
        """Publish a head, if this version does; seconds that it took."""
        start = time.perf_counter()
        if self.publishes:
            self.run(["publish", "--settle=0", "--name", "tree", str(self.tree)])  # How long it waits is no question of speed.
        return time.perf_counter() - start

    def plain(self) -> list[str]:
        """The command to be compared with; what is published for mirrors that know it is left out of its copy."""
        target = self.base / "plain"
        return ["rsync", "-av", "--delete-after", "--exclude=/.mirrornet", self.daemon.url, f"{target}/"]

    def ours(self, mirror: str = "ours") -> list[str]:
        base = self.base / mirror
        return [str(self.command), "--config-dir", str(base / "config"), "--state-dir", str(base / "state"), "pull", "--quiet", "tree"]

    def define(self, mirror: str = "ours") -> None:
        base = self.base / mirror
        (base / "config" / "jobs").mkdir(parents=True)
        (base / "target").mkdir(exist_ok=True)
        definition: dict[str, Any] = {"name": "tree", "sources": [self.daemon.url], "target": str(base / "target"), "retries": 0}
        (base / "config" / "jobs" / "tree.json").write_text(json.dumps(definition))

    def cost(self, *commands: list[str]) -> Cost:
        return cost(self.daemon, commands, self.environment, self.limit)

    def once(self, command: list[str]) -> Cost:
        one = self.cost(command)
        if one.failed:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=self.limit, check=False)
            raise RuntimeError(f"failed: {' '.join(command)}\n{done.stderr[-2000:]}")
        return one

    def in_step(self) -> None:
        """Both copies are the tree, or the figures mean nothing."""
        for copy in (self.base / "plain", self.base / "ours" / "target"):
            found = subprocess.run(
                ["rsync", "-acn", "--delete", "--exclude=/.mirrornet", "--out-format=%i %n", f"{self.tree}/", f"{copy}/"],
                capture_output=True,
                text=True,
                check=True,
            )
            if found.stdout:
                raise RuntimeError(f"{copy} is not in step:\n{found.stdout[:500]}")


def median(costs: list[Cost]) -> dict[str, float]:
    """The median of each figure by itself; failures add up."""
    row = {key: statistics.median(asdict(one)[key] for one in costs) for key in ("wall", "client_cpu", "master_cpu", "received", "sent")}
    return {**row, "failed": sum(one.failed for one in costs), "rounds": len(costs)}


def compare(site: Site, changes: int, rounds: int) -> dict[str, Any]:
    """Runs that find ``changes`` changed files, by either command in turn, until enough have been seen."""
    commands = {"plain": site.plain(), "ours": site.ours()}
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    spent = 0.0
    while len(costs["plain"]) < rounds or (spent < SPAN and len(costs["plain"]) < MOST_ROUNDS):
        site.change(changes)
        site.publish()
        for name in sorted(commands, reverse=site.round % 2 == 0):
            costs[name].append(site.once(commands[name]))
            spent += costs[name][-1].wall
    site.change(changes)
    site.publish()
    row: dict[str, Any] = {"changes": changes}
    for name, command in commands.items():
        client, master = peak(site.daemon, command, site.environment)
        row[name] = {**median(costs[name]), "client_kib": client, "master_kib": master}
    return row


def publishing(site: Site, rounds: int) -> dict[str, float]:
    """What it costs the master to know its own tree, beside a bare walk."""

    def timed(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def walk() -> None:
        with (site.base / "walk").open("wb") as output:
            subprocess.run(["find", str(site.tree), *FIND], stdout=output, check=True)

    time.sleep(SETTLED)
    site.publish()
    pairs = [(timed(walk), site.publish()) for dummy in range(rounds)]
    found = {
        "find": statistics.median(pair[0] for pair in pairs),
        "unchanged": statistics.median(pair[1] for pair in pairs),
    }
    for changes in sorted({1, max(1, site.files // 100)}):
        times = []
        for dummy in range(rounds):
            site.change(changes)
            times.append(site.publish())
            time.sleep(SETTLED)
        found[f"{changes:,}"] = statistics.median(times)
    return found


def one_size(base: Path, files: int, limit: float, rounds: int, done: Callable[[dict[str, Any]], None]) -> None:
    """All rows of one tree, told to ``done`` after each of them: what was measured isn't lost if the rest takes too long."""
    say(f"a tree of {files:,} files …")
    start = time.monotonic()
    site = Site(base, files, limit)
    first_publish = site.publish()
    site.define()
    (base / "plain").mkdir()
    say(f"  made in {time.monotonic() - start:.0f} s; the first copies …")
    rows: dict[str, Any] = {}
    # Right after the first copy, ours holds the list of everything against it, to be sure that the head stands for it: later runs needn't.
    for name in ONCE:
        rows[name] = {"changes": files, "plain": median([site.once(site.plain())]), "ours": median([site.once(site.ours())])}
    result: dict[str, Any] = {"files": files, "rows": rows}
    for name, changes in (("nothing changed", 0), ("1 file changed", 1), ("100 files changed", 100), ("1 % changed", files // 100)):
        if changes <= files:
            say(f"  {name} …")
            rows[name] = compare(site, changes, rounds)
            done(result)
    site.in_step()
    if site.publishes:
        say("  publishing …")
        result["publish"] = {"first": first_publish, **publishing(site, rounds)}
        done(result)


def crowd(base: Path, files: int, mirrors: list[int], limit: float, rounds: int) -> dict[str, Any]:
    """Checks that find nothing new, many at once: the master's bill, and when the last one is answered."""
    say(f"many mirrors at once, {files:,} files …")
    site = Site(base, files, limit)
    site.publish()
    site.define()
    (base / "plain").mkdir()
    site.once(site.plain())
    for dummy in range(2):  # The second run makes sure that the head stands for what the first one has copied.
        site.once(site.ours())
    for number in range(max(mirrors)):
        name = f"mirror{number}"
        site.define(name)
        # Not the tree itself: whoever finds its head unchanged looks at nothing else, which is made sure of below.
        for part in ("target/.mirrornet", "state"):
            subprocess.run(["cp", "-a", str(base / "ours" / part), str(base / name / part)], check=True)
    rows = {}
    for many in mirrors:
        say(f"  {many} at once …")
        commands = [site.ours(f"mirror{number}") for number in range(many)]
        site.cost(*commands)  # Before the row is measured, each mirror has asked once.
        ours = [site.cost(*commands) for dummy in range(rounds)]
        # Plain runs that find nothing only read their copy: one serves them all.
        plain = [site.cost(*[site.plain()] * many) for dummy in range(1 if many > 10 else rounds)]
        rows[str(many)] = {"plain": median(plain), "ours": median(ours)}
        for number in range(many):
            report = json.loads((base / f"mirror{number}" / "state" / "tree" / "report.json").read_bytes())
            if site.publishes and report["way"] != "same":
                raise RuntimeError(f"a mirror had more to do than to read a head: {report}")
    return {"files": files, "rows": rows}


def remove(base: Path) -> None:
    # In a session of its own: another Ctrl-C doesn't end it.
    subprocess.run(["rm", "-rf", "--", str(base)], start_new_session=True, check=False)


def clear(place: Path) -> None:
    """Remove what runs that were killed have left."""
    for base in place.glob(f"{PREFIX}*"):
        # In use, not ours, or not made by this program: left alone.
        with suppress(OSError), (base / LOCK).open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if base.lstat().st_uid == os.geteuid():
                remove(base)


def end(others: set[int]) -> None:
    """End all that this program has started, but for ``others``: a signal can come between a child's start and the note that is taken of it."""
    while left := set(children(os.getpid())) - others:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


@contextmanager
def place(plan: Plan) -> Iterator[Path]:
    """A directory for the trees that goes at the end, whatever the end is. Refused if the disk lacks room."""
    clear(plan.place)
    free = os.statvfs(plan.place)
    if shutil.disk_usage(plan.place).free < plan.space or (free.f_files and free.f_favail < plan.inodes):
        sys.exit(
            f"bench: {plan.place} has {shutil.disk_usage(plan.place).free >> 20} MiB and {free.f_favail} inodes free, the trees need "
            f"{plan.space >> 20} MiB and {plan.inodes} inodes: set BENCH_PLACE to another directory, or smaller BENCH_TREES."
        )
    others = set(children(os.getpid()))
    base = Path(tempfile.mkdtemp(prefix=PREFIX, dir=plan.place))
    try:
        with (base / LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield base
    finally:
        for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        say("clearing up …")
        end(others)
        remove(base)


def measure(plan: Plan, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """All figures; ``keep`` gets what there is of them whenever there is more."""
    figures: dict[str, Any] = {"machine": machine(), "load": [os.getloadavg()[0]], "sizes": []}
    with place(plan) as base:
        for files in plan.trees:
            former = tuple(figures["sizes"])

            def done(size: dict[str, Any], former: tuple[Any, ...] = former) -> None:
                figures["sizes"] = [*former, size]
                keep(figures)

            one_size(base / str(files), files, plan.limit, plan.rounds, done)
            remove(base / str(files))
        if plan.mirrors:
            figures["crowd"] = crowd(base / "crowd", plan.crowd, plan.mirrors, plan.limit, plan.rounds)
    figures["load"].append(os.getloadavg()[0])
    return figures


def machine() -> str:
    """What the figures were measured on."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    program = subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    processors = f"{os.cpu_count()} × {model[1] if model else platform.machine()}"
    return f"{processors}, {memory} GiB, Linux {platform.release().split('-')[0]}, rsync {program}, Python {platform.python_version()}"


def main() -> None:
    what = plan(os.environ)

    def give_up(number: int, dummy: object) -> NoReturn:
        sys.exit(
            "bench: gave up: " + (f"it took more than BENCH_LIMIT={what.limit} s." if number == signal.SIGALRM else f"signal {number}.")
        )

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, give_up)
    signal.alarm(what.limit)
    # What outlives the child that started it becomes a child of this process, which ends it.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    trees = " and ".join(f"{files:,}" for files in what.trees)
    say(f"trees of {trees} files in {what.place}: up to {what.space >> 20} MiB of disk, about {what.minutes} minutes …")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)

    def keep(figures: dict[str, Any]) -> None:
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")

    figures = measure(what, keep)
    keep(figures)
    what.picture.parent.mkdir(parents=True, exist_ok=True)
    what.picture.write_text(svg(figures), encoding="utf-8")
    print(f"\n{table(figures)}\n")
    for miss in misses(figures):
        say(f"below the goal: {miss}")
    say(f"figures: {RESULTS}; drawing: {what.picture}")


if __name__ == "__main__":
    main()
