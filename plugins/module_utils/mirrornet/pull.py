# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run: bring a job's target in step with one of its sources, or leave it as it is and say why."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from . import guard, lock, report, rsync
from .errors import Exit, Failure
from .job import Job
from .places import IN_TREE, Places
from .report import Recorder, Report
from .source import Plan, none_left

#: A source that changes between plan and transfer makes the plan void; then a run plans once more.
_ROUNDS = 2


def pull(places: Places, job: Job, host: str) -> Report:
    """One run of ``job``, under its lock. Returns the report of what happened, which is on disk too."""
    started = time.time()
    record = Report(job=job.name, host=host, started=report.utc(started))
    _prepare_state(places, job)
    try:
        with lock.exclusive(places.lock(job.name)) as lock_fd, report.recording(places, record) as recorder:
            run = Run(job, recorder, lock_fd, time.monotonic() + job.time_limit)
            try:
                with _stopped_by_signals():
                    _procedure(run)
            except Failure as failure:
                record.failed(failure)
            except Exception as error:
                recorder.error(traceback.format_exc())
                record.failed(
                    Failure(
                        "internal",
                        Exit.INTERNAL,
                        f"mirrornet itself failed: {error!r}.",
                        f"Please report it, with {places.errors(job.name)}.",
                    )
                )
            recorder.finish(time.time() - started)
            _publish(recorder, Path(job.target))
    except lock.Busy:
        _busy(places, job, record)
    return record


@dataclass
class Run:
    """What the steps of one run share."""

    job: Job
    recorder: Recorder
    lock_fd: int
    deadline: float

    def rsync(self, command: list[str], on_output: Callable[[str], None]) -> rsync.Ended:
        """One call of rsync within the run's time."""
        self.recorder.log(" ".join(command))
        return rsync.call(
            command, seconds=self.deadline - time.monotonic(), lock_fd=self.lock_fd, on_output=on_output, on_error=self.recorder.error
        )


def _procedure(run: Run) -> None:
    """The run itself. Each step leads to the next or ends the run with a Failure."""
    job, record = run.job, run.recorder.report
    run.recorder.phase("check")
    program = rsync.find()
    guard.usable_target(Path(job.target))
    _own_directory(Path(job.target))

    outcome = "unchanged"
    for _ in range(_ROUNDS):
        run.recorder.phase("plan")
        plan = choose(run, program)
        record.source, record.entries = plan.source, plan.tally.entries
        record.received += plan.tally.received
        if plan.is_empty:
            break
        _guard(run, plan)
        run.recorder.phase("transfer")
        outcome = "updated"
        if transfer(run, program, plan):
            break
    else:
        message = f"{plan.source} changed while it was read, {_ROUNDS} times; what it had is here, and nothing was deleted beyond the plan."
        raise Failure("source_changed", Exit.INCOMPLETE, message, "The next run goes on from here.")

    if record.unfinished:
        _clear_leftovers(Path(job.target))
        record.unfinished = False
    record.outcome = outcome


def choose(run: Run, program: str) -> Plan:
    """The plan from the first source that can be used. Raises Failure if there is none."""
    failures: list[tuple[str, Failure]] = []
    for source in run.job.sources:
        plan = Plan(source, rsync.Tally())
        ended = run.rsync(rsync.argv(program, run.job, source, dry_run=True), plan.take)
        failure = rsync.failure(ended, source, run.job.target)
        if ended.code == 23 and failure is not None:
            plan.whole, failure = False, None
        if failure is None:
            return plan
        run.recorder.log(str(failure))
        failures.append((source, failure))
        run.recorder.report.passed_over.append({"source": source, "kind": failure.kind, "message": failure.message})
        if failure.kind not in rsync.OF_THE_SOURCE:
            raise failure
    raise none_left(failures)


def _guard(run: Run, plan: Plan) -> None:
    """Raise a Failure that holds the run if the plan must not be carried out."""
    held = guard.hold(run.job, plan)
    if held is not None and held.kind == "no_room" and run.recorder.report.unfinished:
        # What an interrupted run had brought may be what fills the disk.
        _clear_leftovers(Path(run.job.target))
        held = guard.hold(run.job, plan)
    if held is not None:
        raise held


def transfer(run: Run, program: str, plan: Plan) -> bool:
    """Carry out a plan that the guards agreed to; False if the source has changed since. Raises Failure if not all of it was done.

    Never deletes more than the plan said. From a source that can't read all of its tree only new data is taken, and nothing is deleted.
    """
    record = run.recorder.report
    record.unfinished = True
    tally = rsync.Tally()

    def take(line: str) -> None:
        tally.line(line)
        run.recorder.log(line)

    deletions = plan.tally.deletions if plan.whole else 0
    ended = run.rsync(rsync.argv(program, run.job, plan.source, dry_run=False, max_delete=deletions), take)
    record.files += tally.files
    record.size += tally.size
    record.deletions += tally.deletions
    record.received += tally.received
    if ended.code == 25 and plan.whole:
        return False
    failure = rsync.failure(ended, plan.source, run.job.target)
    if failure is not None:
        raise failure
    return True


def dry_run(job: Job) -> tuple[Plan, list[str], Failure | None]:
    """What a run would do: the plan, rsync's itemised lines, and why a guard would hold it. Writes nothing into the tree. Raises Failure."""
    guard.usable_target(Path(job.target))
    program = rsync.find()
    failures: list[tuple[str, Failure]] = []
    with Path(os.devnull).open("rb") as nothing:
        for source in job.sources:
            lines: list[str] = []
            plan = Plan(source, rsync.Tally())

            def take(line: str, plan: Plan = plan, lines: list[str] = lines) -> None:
                plan.take(line)
                if rsync.parse_item(line):
                    lines.append(line)

            command = rsync.argv(program, job, source, dry_run=True)
            ended = rsync.call(command, seconds=job.time_limit, lock_fd=nothing.fileno(), on_output=take, on_error=lambda line: None)
            failure = rsync.failure(ended, source, job.target)
            if failure is None or ended.code == 23:
                return plan, lines, guard.hold(job, plan)
            failures.append((source, failure))
    raise none_left(failures)


class _Stopped(Exception):
    """A signal asked this process to end."""


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Turn SIGTERM, SIGINT and SIGHUP into a Failure, so that also a run that is stopped ends its rsync and reports."""

    def stop(number: int, frame: object) -> None:
        raise _Stopped(signal.Signals(number).name)

    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    except _Stopped as stopped:
        for number in former:
            signal.signal(number, signal.SIG_IGN)  # The report still has to be written.
        raise Failure("stopped", Exit.STOPPED, f"The run was stopped by {stopped}.", "The next run goes on from here.") from None
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _prepare_state(places: Places, job: Job) -> None:
    state = places.state(job.name)
    try:
        state.mkdir(parents=True, exist_ok=True)
        if not os.access(state, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise Failure(
            "state_unusable",
            Exit.LOCAL_IO,
            f"The state directory {state} can't be used: {error.strerror}.",
            "Check its owner: it belongs to the account that runs the job.",
        ) from error


def _own_directory(target: Path) -> None:
    """Make the directory for reports before rsync compares: making it later would change the time of the tree's top."""
    try:
        (target / IN_TREE).mkdir(exist_ok=True)
    except OSError as error:
        raise Failure(
            "target_not_writable",
            Exit.TARGET,
            f"{target / IN_TREE} can't be made: {error.strerror}.",
            "Is the file system full or mounted read-only?",
        ) from error


def _clear_leftovers(target: Path) -> None:
    for directory in rsync.leftovers(target):
        shutil.rmtree(directory, ignore_errors=True)


def _publish(recorder: Recorder, target: Path) -> None:
    try:
        recorder.publish(target)
    except OSError as error:
        print(f"{recorder.report.job}: the report can't be copied into {target}: {error.strerror}.", file=sys.stderr)


def _busy(places: Places, job: Job, record: Report) -> None:
    """Another run is at work: say so, and leave its files alone."""
    now = report.at_work(places, job.name) or {}
    pid = now.get("owner", {}).get("pid")
    who = (
        f"the run of process {pid}, started {now.get('started')}, is in phase {now.get('phase')!r}"
        if now
        else "another process holds the lock"
    )
    record.outcome, record.kind, record.exit_code = "busy", "busy", int(Exit.BUSY)
    record.message, record.remedy = f"{who}.", "Nothing to do: a run at a time is the rule."
    record.finished = report.utc(time.time())
    report.add_to_history(places, record)
