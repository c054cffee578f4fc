# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Handing in the report of a run, at the master for example. A run is what it is, whether or not anybody takes its report."""

from __future__ import annotations

import sys
import time

from . import child, record, rsync
from .child import Ended
from .errors import Failure
from .files import read_json, replace, to_json
from .job import Job
from .places import Places
from .record import TYPE_CHECKING
from .report import ALARM_AGAIN, utc

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that all of it may take; so much longer a run can hold its lock.
SECONDS = 60.0
#: Seconds between two attempts when another report of this mirror is just being handed in, at least and at most.
_PAUSE = (0.5, 3.0)

#: What a server says, in small letters, and what it means to whoever runs the mirror.
_ANSWERS = (
    ("auth failed", "the login or its password is refused. Ask the operator there, and check report_password_file."),
    ("unknown module", "it takes no reports under this name. Check report_to, or ask the operator there to admit the login."),
    ("access denied", "this host is refused. Ask the operator there to allow its address."),
    ("daemon has excluded", "it takes no report of a job of this name. Ask the operator there to add it to rsync_master_uploads."),
    ("max connections", "reports of this mirror were being handed in all the time. The next run tries again."),
    ("no space left on device", "its disk is full. Tell the operator there."),
    ("file too large", "the report is larger than it takes. Tell the operator there."),
)


def hand_in(places: Places, job: Job, lock_fd: int, log: Callable[[str], None]) -> None:
    """Hand in the report that a run of ``job`` has just left, if somebody is to have it. Never fails, and is over in ``SECONDS``.

    What goes wrong is noted for ``mirrornet status``, and told on standard error when it begins and once a day.
    """
    if job.report_to is None:
        return
    try:
        why = _send(places, job, job.report_to, lock_fd, log)
    except Failure as failure:
        why = str(failure)
    except Exception as error:  # The run is over and reported: nothing of this may change what it is.
        why = f"{error!r}. Please report it."
    try:
        _note(places, job, job.report_to, why, log)
    except Exception as error:
        log(f"{places.handed_in(job.name)}: {error!r}")


def _send(places: Places, job: Job, directory: str, lock_fd: int, log: Callable[[str], None]) -> str:
    """What went wrong; empty if nothing did."""
    deadline = time.monotonic() + SECONDS
    way = record.replace(job, password_file=job.report_password_file, io_timeout=min(job.io_timeout, int(SECONDS)))
    command = rsync.send(rsync.find(places.program(job.name)), way, places.report(job.name), directory)
    refused: Ended | None = None
    while True:
        log(" ".join(command))
        ended = child.call(
            command,
            environment=rsync.environment(way, directory),
            seconds=max(0.0, deadline - time.monotonic()),
            idle=SECONDS,
            lock_fd=lock_fd,
            on_output=log,
            on_error=log,
        )
        if "max connections" not in ended.error_text:
            # A last attempt that was cut short says nothing: the refusal before it is why the time ran out.
            return _why(refused if refused and (ended.timed_out or ended.stalled) else ended)
        refused = ended
        import random  # Late, as most runs have no use for it.

        pause = random.SystemRandom().uniform(*_PAUSE)
        if time.monotonic() + pause > deadline:
            return _why(ended)
        time.sleep(pause)


def _why(ended: Ended) -> str:
    if ended.timed_out or ended.stalled:
        return f"it took longer than {SECONDS:.0f} s. The next run tries again."
    if ended.code == 0:
        return ""
    for words, meaning in _ANSWERS:
        if words in ended.error_text.lower():
            return meaning
    said = next((line for line in ended.errors if line and not line.startswith("rsync error:")), "no reason given")
    shown = "".join(letter if letter.isprintable() else "?" for letter in said[:300])
    return f"rsync exit code {ended.code}: {shown}. The next run tries again."


def _note(places: Places, job: Job, directory: str, why: str, log: Callable[[str], None]) -> None:
    now = time.time()
    former = read_json(places.handed_in(job.name))
    told = former.get("told") if former.get("message") == why else None
    note = {"to": directory, "handed_in": former.get("handed_in"), "tried": utc(now), "message": why, "told": told}
    if why:
        line = f"{job.name}: the report was not handed in to {directory}: {why}"
        log(line)
        if not isinstance(told, str) or not utc(now - ALARM_AGAIN) < told <= utc(now):
            note["told"] = utc(now)
            sys.stderr.write(f"{line}\n")
    else:
        note.update(handed_in=utc(now), told=None)
    replace(places.handed_in(job.name), to_json(note), durable=False)
