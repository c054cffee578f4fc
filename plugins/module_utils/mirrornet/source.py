# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job's sources answer: the first that can say what it has serves the run, and the others' reasons are kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import rsync
from .errors import Exit, Failure

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

    @property
    def is_empty(self) -> bool:
        """Whether source and target are in step."""
        return self.whole and self.tally.items == 0

    def take(self, line: str) -> None:
        """Take one line of the dry run's output into account."""
        self.tally.line(line)
        if len(self.going) < _SHOWN:
            item = rsync.parse_item(line)
            if item is not None and item.is_deletion:
                self.going.append(item.name)


def none_left(failures: list[tuple[str, Failure]]) -> Failure:
    """The one failure that stands for all sources having failed."""
    if len(failures) == 1:
        return failures[0][1]
    # The most severe word wins for the exit code only if all agree: one refused login beside three dead hosts is "unavailable".
    codes = {failure.exit_code for _, failure in failures}
    code = codes.pop() if len(codes) == 1 else Exit.UNAVAILABLE
    reasons = " ".join(f"({number}) {failure.message}" for number, (_, failure) in enumerate(failures, 1))
    return Failure("no_source", code, f"None of {len(failures)} sources could be used: {reasons}", failures[0][1].remedy)
