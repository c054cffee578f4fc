# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a job runs: cron expressions, the stable offset of a host, and the entries that cron reads."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

#: Schedule of a job that only people or programs start.
NEVER = "never"

_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class ScheduleError(ValueError):
    """A cron expression that cron would refuse or never act on; the text is the reason and the remedy."""


@dataclass(frozen=True)
class Schedule:
    """A valid cron expression, crontab(5)."""

    minutes: frozenset[int]
    #: The fields after the minute, as they were written.
    rest: tuple[str, str, str, str]
    hours: int
    every_day: bool

    @property
    def runs_a_day(self) -> int:
        """Runs on a day on which it runs at all."""
        return len(self.minutes) * self.hours

    @property
    def is_rare(self) -> bool:
        """Whether there are days with fewer than two runs: a mirror should look at least twice a day."""
        return not self.every_day or self.runs_a_day < 2

    def rotated(self, offset: int) -> str:
        """The expression with every minute moved by ``offset`` within its hour, so that the distances between runs stay what they were."""
        minutes = sorted((minute + offset) % 60 for minute in self.minutes)
        return " ".join(("*" if len(minutes) == 60 else ",".join(map(str, minutes)), *self.rest))


def parse(text: str) -> Schedule:
    """Read a cron expression of five fields or a nickname such as ``@hourly``. Raises ScheduleError."""
    expression = _NICKNAMES.get(text.strip().lower(), text)
    if expression.lstrip().startswith("@"):
        raise ScheduleError(f"{text!r} is not among {', '.join(sorted(_NICKNAMES))}")
    # Only what cron takes for white space within a line: a newline would end the entry.
    fields = re.split(r"[ \t]+", expression.strip(" \t"))
    if len(fields) != 5:
        raise ScheduleError(f"{text!r} has {len(fields)} fields where cron wants 5: minute, hour, day of the month, month, day of the week")
    minutes = _values(fields[0], "minute", 0, 59)
    hours = _values(fields[1], "hour", 0, 23)
    days = _values(fields[2], "day of the month", 1, 31)
    months = _values(fields[3], "month", 1, 12, _MONTHS)
    weekdays = {day % 7 for day in _values(fields[4], "day of the week", 0, 7, _DAYS)}
    if fields[4].startswith("*") and all(day > _LONGEST_MONTH[month - 1] for day in days for month in months):
        raise ScheduleError(f"{text!r} names a day that never comes")
    # cron joins day and weekday by "or" if both are restricted (neither starts with a star), else by "and".
    joined = any if not fields[2].startswith("*") and not fields[4].startswith("*") else all
    every_day = len(months) == 12 and joined((len(days) == 31, len(weekdays) == 7))
    return Schedule(frozenset(minutes), (fields[1], fields[2], fields[3], fields[4]), len(hours), every_day)


def _values(field: str, what: str, least: int, most: int, names: Sequence[str] = ()) -> set[int]:
    """The numbers that one field stands for: lists of numbers, ranges and ``*``, each with a step. ``names`` count from ``least``."""
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        if slash and (not re.fullmatch(r"[0-9]{1,2}", step) or int(step) == 0):
            raise ScheduleError(f"{what} {field!r}: the step {step!r} is no number above 0")
        first, dash, last = span.partition("-")
        if span == "*":
            low, high = least, most
        elif slash and not dash:
            raise ScheduleError(f"{what} {field!r}: a step needs a range or '*' before it, as in */{step}")
        else:
            low, high = (_number(word, field, what, least, most, names) for word in (first, last if dash else first))
        if low > high:
            raise ScheduleError(f"{what} {field!r}: the range {span} runs backwards")
        found.update(range(low, high + 1, int(step or 1)))
    return found


def _number(word: str, field: str, what: str, least: int, most: int, names: Sequence[str]) -> int:
    if word.lower() in names:
        return names.index(word.lower()) + least
    if not re.fullmatch(r"[0-9]{1,2}", word):
        raise ScheduleError(f"{what} {field!r}: {word!r} is no number" + (" and no name" if names else ""))
    if not least <= int(word) <= most:
        raise ScheduleError(f"{what} {field!r}: {word} is outside {least} to {most}")
    return int(word)


def offset_of(host: str, job: str) -> int:
    """Minutes, 0 to 59, that are this host's own for this job: the same at each installation, spread over the hosts of a network."""
    return int.from_bytes(hashlib.sha256(f"{host}\0{job}".encode()).digest()[:8], "big") % 60


def command_line(argv: Sequence[str]) -> str:
    """A command as cron wants it: quoted for the shell, with ``%`` escaped, which cron would take for a newline."""
    return shlex.join(argv).replace("%", "\\%")


def _marker(job: str) -> str:
    return f"# mirrornet job {job}: written by mirrornet.rsync.mirror_job, which replaces this line and the next"


def cron_d(job: str, when: str, user: str, argv: Sequence[str], mailto: str | None) -> bytes:
    """The content of a file in /etc/cron.d. The lines there name the account; the last one needs its newline."""
    lines = [
        f"# mirrornet job {job}: written by mirrornet.rsync.mirror_job, which replaces this file.",
        "SHELL=/bin/sh",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    if mailto is not None:
        lines.append(f'MAILTO="{mailto}"')
    lines.append(f"{when} {user} {command_line(argv)}")
    return ("\n".join(lines) + "\n").encode()


def in_crontab(crontab: bytes, job: str, when: str | None, argv: Sequence[str]) -> bytes:
    """A user's crontab with the entry of ``job`` put in (where it stood, else at the end), or taken out if ``when`` is None.

    All other lines stay as they are to the byte; only a last line without its newline, which cron would ignore, gets one.
    """
    marker = _marker(job).encode()
    entry = [] if when is None else [marker + b"\n", f"{when} {command_line(argv)}\n".encode()]
    lines = crontab.splitlines(keepends=True)
    kept: list[bytes] = []
    placed = False
    number = 0
    while number < len(lines):
        if lines[number].rstrip(b"\r\n") == marker:
            number += 2
            if not placed:
                kept += entry
                placed = True
            continue
        kept.append(lines[number])
        number += 1
    if not placed and entry:
        if kept and not kept[-1].endswith(b"\n"):
            kept[-1] += b"\n"
        kept += entry
    return b"".join(kept)


def entry_of(crontab: bytes, job: str) -> bytes:
    """The two lines of ``job`` in a user's crontab; empty if it has none."""
    lines = crontab.splitlines(keepends=True)
    found = [number for number, line in enumerate(lines) if line.rstrip(b"\r\n") == _marker(job).encode()]
    return b"".join(b"".join(lines[number : number + 2]) for number in found)
