# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job's sources answer: in which order they are asked, and whether one has anything new."""

from __future__ import annotations

import time
from collections.abc import Callable

from . import location, rsync
from .errors import Exit, Failure
from .job import Job
from .record import dataclass, field

#: Names of entries to be deleted that a plan remembers, to show them to the operator.
_SHOWN = 20


@dataclass
class Plan:
    """What a transfer from one source would do."""

    source: str
    tally: rsync.Tally
    #: The first few entries that would go.
    going: list[str] = field(default_factory=list)
    #: Whether the source could read all of its tree. If it could not, nothing may be deleted: what it can't read looks as if it were gone.
    whole: bool = True
    #: Carries the plan out, if it isn't one for rsync alone; False if it can't, and another way has to be found.
    carry_out: Callable[[], bool] | None = None
    _deleted: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether source and target are in step."""
        return self.whole and self.tally.items == 0

    @property
    def digest(self) -> str:
        """Equal for two plans that delete exactly the same entries, in whatever order rsync names them."""
        return f"{self.tally.deletions}-{self._deleted:064x}"

    def take(self, line: str) -> None:
        """Take one line of the dry run's output into account."""
        item = self.tally.line(line)
        if item is None or not item.is_deletion:
            return
        if len(self.going) < _SHOWN:
            self.going.append(item.name)
        import hashlib  # Late, as most runs delete nothing.

        one = int.from_bytes(hashlib.sha256(item.name.encode("utf-8", "backslashreplace")).digest(), "big")
        self._deleted = (self._deleted + one) % (1 << 256)


def in_order(job: Job, sources: tuple[str, ...]) -> list[str]:
    """The sources in the order in which they are to be tried; equal times keep the given order."""
    if job.source_order == "given" or len(sources) < 2:
        return list(sources)
    return sorted(sources, key=lambda source: _connect_seconds(job, source))


def _connect_seconds(job: Job, source: str) -> float:
    """Seconds that a TCP connection to a source takes; infinite if none comes about, which leaves the source the last resort."""
    import socket

    where = location.parse(source)
    started = time.monotonic()
    try:
        with socket.create_connection((where.host.strip("[]"), where.port), timeout=min(job.connect_timeout, 5)):
            return time.monotonic() - started
    except OSError:
        return float("inf")


def stale(job: Job, source: str, age: float) -> Failure | None:
    """Why a source whose check file is ``age`` seconds old isn't used; None if it may be."""
    if not job.stale_after or age <= job.stale_after:
        return None
    message = f"{source} is stale: its {job.check_file} is {age / 3600:.0f} h old, and stale_after allows {job.stale_after / 3600:.0f} h."
    return Failure("stale", Exit.UNAVAILABLE, message, "Tell the source's operator, or name another source.")


def none_left(failures: list[tuple[str, Failure]]) -> Failure:
    """The one failure that stands for all sources having failed."""
    if len(failures) == 1:
        return failures[0][1]
    # One refused login beside three dead hosts is "unavailable": a word counts only if all agree.
    codes = {failure.exit_code for dummy, failure in failures}
    code = codes.pop() if len(codes) == 1 else Exit.UNAVAILABLE
    reasons = " ".join(f"({number}) {failure.message}" for number, (dummy, failure) in enumerate(failures, 1))
    message = f"None of {len(failures)} sources could be used: {reasons}"
    return Failure("no_source", code, message, failures[0][1].remedy, passing=any(failure.passing for dummy, failure in failures))
