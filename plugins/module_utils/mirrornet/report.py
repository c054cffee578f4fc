# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves for people and machines: one JSON record, a log, and rsync's errors in a file of their own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from . import __version__
from .errors import Exit, Failure
from .files import is_real_directory, read_json, replace, to_json
from .lock import is_alive, this_process
from .places import IN_TREE, Places
from .record import TYPE_CHECKING, asdict, dataclass, field

if TYPE_CHECKING:
    from typing import IO, Any

#: Version of the record's format.
FORMAT = 1

#: Seconds between two notes of a run's progress.
_TELL_EVERY = 5.0

#: Lines that a log keeps; a first copy of a million files would otherwise write a log of 100 MB into the tree.
LOG_LINES = 10_000


#: Seconds after which a failure that lasts is told again.
ALARM_AGAIN = 86400


def utc(seconds: float) -> str:
    """A time as it stands in records: ISO 8601, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@dataclass
class Report:
    """The record of one run. Field names are part of the format: they are added to, never renamed."""

    job: str
    host: str
    started: str
    #: ``unchanged``, ``updated``, ``busy``, ``held`` or ``failed``.
    outcome: str = "failed"
    #: What a failure or a hold is called; None for a good run.
    kind: str | None = None
    message: str = ""
    remedy: str = ""
    exit_code: int = 0
    #: The source that served the run.
    source: str | None = None
    #: Sources that were passed over: {"source", "kind", "message"}.
    passed_over: list[dict[str, str]] = field(default_factory=list)
    finished: str | None = None
    seconds: float = 0.0
    #: Regular files whose content came, the sum of their sizes, entries that went, bytes over the network.
    files: int = 0
    size: int = 0
    deletions: int = 0
    received: int = 0
    #: Entries of the source's tree.
    entries: int | None = None
    #: How the run found out what is new: ``same``, ``deltas`` or ``manifest`` by what the source publishes, ``list`` by its ``file_list``,
    #: ``check_file``, ``plain`` by rsync.
    way: str | None = None
    #: The serial of the tree that the target holds, if its source publishes one.
    serial: int | None = None
    #: Entries that `verify` found to differ; None for a pull.
    different: int | None = None
    #: Whether the run looked at the whole tree; only a sample of `verify` doesn't.
    compared_all: bool = True
    #: When a run last found or made the tree equal to its source.
    last_complete: str | None = None
    #: When rsync last compared all of the tree; a check file that is the same doesn't count.
    last_compared: str | None = None
    #: When a person was last told of the failure that still lasts.
    alarmed: str | None = None
    #: The former run, if it was killed: {"started", "phase"}.
    interrupted: dict[str, str] | None = None
    #: Whether a transfer was begun and none has been completed since: half-arrived files may lie in the tree.
    unfinished: bool = False
    #: What the former run was called, if it failed or was held.
    former_kind: str | None = None
    engine: str = __version__
    format: int = FORMAT

    def failed(self, failure: Failure) -> None:
        """Note what ended the run."""
        self.outcome = "held" if failure.exit_code is Exit.HELD else "failed"
        self.kind, self.exit_code = failure.kind, int(failure.exit_code)
        self.message, self.remedy = failure.message, failure.remedy

    def is_news(self, now: float) -> bool:
        """Whether a person is to be told: of what goes wrong when it begins and once a day, of a run that takes too long each time."""
        if self.kind == "busy_too_long":
            return True
        if self.outcome not in ("failed", "held"):
            return False
        return self.kind != self.former_kind or self.alarmed is None or not utc(now - ALARM_AGAIN) < self.alarmed <= utc(now)

    def line(self) -> str:
        """The run in one line, for people."""
        if self.outcome in ("failed", "held", "busy"):
            return f"{self.job}: {self.outcome}: {self.message} {self.remedy}".rstrip()
        if self.outcome == "unchanged":
            return f"{self.job}: unchanged ({self.source})"
        return f"{self.job}: updated from {self.source}: {self.files} files, {human(self.size)}, {self.deletions} deletions, {self.seconds:.0f} s"


def human(size: float) -> str:
    """A number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


class Recorder:
    """Keeps the record of the run that holds the lock: its files in the state directory while it goes, the report when it ends."""

    def __init__(self, places: Places, report: Report, log: IO[bytes], errors: IO[bytes]) -> None:
        self._places = places
        self._log = log
        self._errors = errors
        self._lines = 0
        self._state: dict[str, Any] = {"owner": this_process(), "started": report.started}
        self._told = 0.0
        self.report = report

    def phase(self, name: str) -> None:
        """Note how far the run is, for whoever asks while it goes and for the next run if this one is killed."""
        self.log(f"{utc(time.time())} {name}")
        self._state.update(phase=name, files=0, size=0)
        self._tell()

    def progress(self, files: int, size: int) -> None:
        """Note what has arrived in this phase, in files and bytes; written every few seconds at most."""
        self._state.update(files=files, size=size)
        if time.monotonic() - self._told > _TELL_EVERY:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        # Not worth waiting for the disk: if the power fails and this is torn, the next run only can't say how far this one was.
        replace(self._places.running(self.report.job), to_json(self._state), durable=False)

    def log(self, line: str) -> None:
        """One line into the log, as long as it is not full."""
        self._lines += 1
        if self._lines <= LOG_LINES:
            self._log.write(line.encode("utf-8", "backslashreplace") + b"\n")
            self._log.flush()

    def error(self, line: str) -> None:
        """One line into the file of errors."""
        self._errors.write(line.encode("utf-8", "backslashreplace") + b"\n")
        self._errors.flush()

    def finish(self, seconds: float) -> None:
        """Write the report into the state directory; ``running.json`` goes last, as the sign that nothing is missing."""
        report = self.report
        report.seconds = round(seconds, 3)
        report.finished = utc(time.time())
        if report.outcome in ("unchanged", "updated"):
            report.alarmed, report.former_kind = None, None
            if report.compared_all:
                report.last_complete = report.finished
        elif report.is_news(time.time()):
            report.alarmed = report.finished
        if self._lines > LOG_LINES:
            self._log.write(f"({self._lines - LOG_LINES} more lines)\n".encode())
        self._log.write(f"{report.finished} {report.line()}\n".encode("utf-8", "backslashreplace"))
        self._log.flush()
        replace(self._places.report(report.job), to_json(asdict(report)))
        add_to_history(self._places, report)
        self._places.running(report.job).unlink(missing_ok=True)

    def publish(self, target: Path) -> None:
        """Copy report and log into the tree, so that whoever can read the mirror can see how it is. Raises OSError."""
        directory = target / IN_TREE
        if not is_real_directory(directory):
            return
        for source in (self._places.report(self.report.job), self._places.log(self.report.job)):
            replace(directory / source.name, source.read_bytes(), durable=False)  # A copy: the next run writes it again.


@contextlib.contextmanager
def recording(places: Places, report: Report) -> Iterator[Recorder]:
    """Start the record of a run whose lock is held; takes over what a former run, if it was killed, left behind."""
    name = report.job
    former = read_json(places.report(name))
    report.last_complete = former.get("last_complete")
    report.last_compared = former.get("last_compared")
    report.serial = former.get("serial")
    report.unfinished = former.get("unfinished") is True
    if former.get("outcome") in ("failed", "held"):
        report.former_kind, report.alarmed = former.get("kind"), former.get("alarmed")
    left = read_json(places.running(name))
    if places.running(name).exists():  # Also a torn one tells that the former run did not end by itself.
        report.unfinished = True
        report.interrupted = {"started": str(left.get("started")), "phase": str(left.get("phase"))}
    with places.log(name).open("wb") as log, places.errors(name).open("wb") as errors:
        yield Recorder(places, report, log, errors)


def add_to_history(places: Places, report: Report) -> None:
    """Append the run to the job's history, one line; a single write, so that a busy run may do it beside the one at work."""
    line = b" ".join(to_json(asdict(report)).split(b"\n")).strip() + b"\n"
    fd = os.open(places.history(report.job), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


def at_work(places: Places, job: str) -> dict[str, Any] | None:
    """Who runs ``job`` now: {"owner", "started", "phase"}, read without touching the lock; None if nobody does."""
    running = read_json(places.running(job))
    owner = running.get("owner")
    return running if isinstance(owner, dict) and is_alive(owner) else None


def was_interrupted(places: Places, job: str) -> dict[str, Any] | None:
    """The run that was killed and that no later run has followed yet; None if the last one ended by itself."""
    path = places.running(job)
    if not path.exists() or at_work(places, job) is not None:
        return None
    # A power loss can tear the file: that there is one tells enough.
    return {"started": "an unknown time", "phase": "unknown", **read_json(path)}
