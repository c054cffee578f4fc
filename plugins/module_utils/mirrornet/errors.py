# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong: a failure says what happened, what it means and what to do, and has a stable kind and exit code."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command ``mirrornet``. Stable: scripts may rely on them. sysexits.h gave the numbers where it has a word."""

    OK = 0
    USAGE = 2
    UNAVAILABLE = 69
    INTERNAL = 70
    RSYNC = 72
    TARGET = 73
    LOCAL_IO = 74
    BUSY = 75
    INCOMPLETE = 76
    REFUSED = 77
    CONFIG = 78
    HELD = 79
    TIME_LIMIT = 80
    STOPPED = 81
    DIFFERENT = 82


#: Exit code → what it tells the caller. The reference of the command renders this table.
MEANINGS: dict[Exit, str] = {
    Exit.OK: "The tree is in step with its source (outcome `unchanged` or `updated`), or the command did what it was asked.",
    Exit.USAGE: "The command line is wrong. Nothing was done.",
    Exit.UNAVAILABLE: "No source could be used: unreachable, full, without such a module, or cut off. The report has the reasons.",
    Exit.INTERNAL: "A defect of mirrornet itself; the trace is in the job's `errors` file. The tree is as the last step left it.",
    Exit.RSYNC: "rsync is missing, too old, or another program of that name.",
    Exit.TARGET: "The target is missing, no directory, or not writable for the account that runs the job.",
    Exit.LOCAL_IO: "Reading or writing on this host failed: full disk, read-only file system, unreadable state.",
    Exit.BUSY: "Another run of the job is at work (outcome `busy`). The same number as `flock -E 75`.",
    Exit.INCOMPLETE: "The transfer ended early or left something out; what arrived is kept, and the next run goes on. `publish`: the tree goes on changing.",
    Exit.REFUSED: "The source refused this host or its login.",
    Exit.CONFIG: "The job's definition is missing, unreadable or invalid. Nothing was done.",
    Exit.HELD: "A guard stopped the run before anything was deleted (outcome `held`).",
    Exit.TIME_LIMIT: "The run reached its time limit and was ended, with every process it had started.",
    Exit.STOPPED: "The run was stopped by a signal, for example at shutdown. The next run goes on from there.",
    Exit.DIFFERENT: "`verify` found files whose content differs from the source's.",
}


class Failure(Exception):
    """One thing that went wrong.

    ``kind`` is a stable word for machines, ``message`` one sentence that says what failed and where, ``remedy`` what the operator can do.
    """

    def __init__(self, kind: str, exit_code: Exit, message: str, remedy: str, *, passing: bool = False) -> None:
        super().__init__(message)
        #: Whether this usually passes by itself, so that trying again after a pause makes sense.
        self.passing = passing
        self.kind = kind
        self.exit_code = exit_code
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()
