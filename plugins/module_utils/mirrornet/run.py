# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every run has, whatever it does: the lock, the record, the time limit, an end that is reported."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import bandwidth, child, lock, report, rsync
from .errors import Exit, Failure
from .job import Job, lock_of
from .places import Places
from .record import dataclass
from .report import Recorder, Report
from .rsync import Tally


@dataclass
class Run:
    """What the steps of one run share."""

    places: Places
    job: Job
    program: str
    recorder: Recorder
    lock_fd: int
    deadline: float
    #: Seconds without any sign of life after which a call of rsync is given up.
    idle: float
    #: Deletions that an operator has agreed to in this run.
    agreed: int = 0

    @property
    def record(self) -> Report:
        return self.recorder.report

    @property
    def left(self) -> float:
        """Seconds until the run's time limit."""
        return self.deadline - time.monotonic()

    def rsync(
        self,
        command: list[str],
        origin: str,
        on_output: Callable[[str], object],
        seconds: float | None = None,
        on_error: Callable[[str], None] | None = None,
    ) -> child.Ended:
        """One call of rsync with ``origin`` as its source, within the run's time and at most for ``seconds``.

        Errors go into the file of errors, unless ``on_error`` takes them.
        """
        self.recorder.log(" ".join(command))
        return child.call(
            command,
            environment=rsync.environment(self.job, origin),
            seconds=self.left if seconds is None else min(seconds, self.left),
            idle=self.idle,
            lock_fd=self.lock_fd,
            on_output=on_output,
            on_error=on_error or self.recorder.error,
        )

    def fetch(self, command: list[str], origin: str) -> child.Ended:
        """One call of rsync for small files, of which some may be missing: that is no error of the run's."""
        tally = Tally()
        ended = self.rsync(command, origin, tally.line, on_error=self.recorder.log)
        self.record.received += tally.received
        return ended

    def transfer(self, phase: str, origin: str, command: Callable[[int], list[str]]) -> tuple[Tally, child.Ended]:
        """One stage of a transfer, begun anew whenever another bandwidth limit (in KiB/s, what ``command`` is given) comes into force.

        The record gets what all of its calls did; what the last one did is returned.
        """
        record = self.record
        self.recorder.phase(phase)
        while True:
            tally = Tally()

            def take(line: str, tally: Tally = tally) -> None:
                tally.line(line)
                self.recorder.log(line)
                self.recorder.progress(record.files + tally.files, record.size + tally.size)

            limit, seconds = bandwidth.now(self.job, time.localtime())
            ended = self.rsync(command(limit), origin, take, seconds=seconds if self.job.bandwidth_windows else None)
            record.files += tally.files
            record.size += tally.size
            record.deletions += tally.deletions
            record.received += tally.received
            if not (ended.timed_out and self.left > 0):
                return tally, ended
            self.recorder.log("Another bandwidth limit is in force: going on with that one.")


def idle_of(job: Job) -> float:
    """Seconds without any sign of life that a job allows. rsync's own limit, where it works, comes first: it knows more to say."""
    return job.io_timeout + 1


def under_lock(places: Places, job: Job, host: str, work: Callable[[Run], None]) -> Report:
    """Do ``work`` as a run of ``job``. Returns the report of what happened, which is on disk too.

    ``work`` notes its outcome in the report or raises Failure. Raises Failure itself only if nothing can be reported: without a state directory.
    """
    started = time.time()
    record = Report(job=job.name, host=host, started=report.utc(started))
    _prepare_state(places, job)
    try:
        with lock.exclusive(lock_of(places, job)) as lock_fd, report.recording(places, record) as recorder:
            try:
                with _stopped_by_signals():
                    recorder.phase("start")
                    work(
                        Run(
                            places,
                            job,
                            rsync.find(places.program(job.name)),
                            recorder,
                            lock_fd,
                            time.monotonic() + job.time_limit,
                            idle_of(job),
                        )
                    )
            except Failure as failure:
                record.failed(failure)
            except Exception as error:
                import traceback

                recorder.error(traceback.format_exc())
                message = f"mirrornet itself failed: {error!r}."
                record.failed(Failure("internal", Exit.INTERNAL, message, f"Please report it, with {places.errors(job.name)}."))
            recorder.finish(time.time() - started)
            _publish(recorder, Path(job.tree))
            if job.report_to is not None:
                from . import hand_in  # Late, as not every job has a use for it.

                hand_in.hand_in(places, job, lock_fd, recorder.log)
    except lock.Busy:
        _busy(places, job, record)
    return record


@contextmanager
def locked(places: Places, job: Job) -> Iterator[None]:
    """Keep runs of ``job`` away for the length of the block. Raises Failure if one is at work."""
    _prepare_state(places, job)
    try:
        with lock.exclusive(lock_of(places, job)):
            yield
    except lock.Busy:
        raise Failure("busy", Exit.BUSY, f"Job {job.name} is running.", "Wait for the run to end, or stop it, and try again.") from None


class _Stopped(Exception):
    """A signal asked this process to end."""


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Turn SIGTERM, SIGINT and SIGHUP into a Failure, so that also a run that is stopped ends its rsync and reports."""

    def stop(number: int, frame: object) -> None:
        for other in former:
            signal.signal(other, signal.SIG_IGN)  # One is enough: rsync still has to be ended, and the report written.
        raise _Stopped(signal.Signals(number).name)

    # Held back until it's known what to go back to, and what is raised is caught.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, child.STOPPING)
    former = {number: signal.signal(number, stop) for number in child.STOPPING}
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield
    except _Stopped as stopped:
        raise Failure("stopped", Exit.STOPPED, f"The run was stopped by {stopped}.", "The next run goes on from here.") from None
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, child.STOPPING)
        for number, handler in former.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _prepare_state(places: Places, job: Job) -> None:
    state = places.state(job.name)
    try:
        state.mkdir(parents=True, exist_ok=True)
        if not os.access(state, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        message = f"The state directory {state} can't be used: {error.strerror}."
        remedy = "Check its owner: it belongs to the account that runs the job."
        raise Failure("state_unusable", Exit.LOCAL_IO, message, remedy) from error


def _publish(recorder: Recorder, tree: Path) -> None:
    try:
        recorder.publish(tree)
    except OSError as error:
        sys.stderr.write(f"{recorder.report.job}: the report can't be copied into {tree}: {error.strerror}.\n")


def _busy(places: Places, job: Job, record: Report) -> None:
    """Another run is at work: say so, leave its files alone, and raise the alarm if it has been at work for too long."""
    now = report.at_work(places, job.name)
    record.outcome, record.kind, record.exit_code = "busy", "busy", int(Exit.BUSY)
    record.message, record.remedy = "another process holds the lock.", "Nothing to do: one run at a time is the rule."
    if now is not None:
        size, pid = report.human(float(now.get("size") or 0)), now["owner"].get("pid")
        record.message = f"process {pid} is at work since {now.get('started')}, in phase {now.get('phase')!r}, {size} so far."
        allowed = job.busy_alarm or job.time_limit
        if str(now.get("started")) <= report.utc(time.time() - allowed):
            record.kind = "busy_too_long"
            record.remedy = f"That is longer than the {allowed} s that the job allows: look at the log in {places.state(job.name)}, and stop it if it hangs."
    record.finished = report.utc(time.time())
    report.add_to_history(places, record)
