# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is planned may happen. A guard speaks before the first byte is written and the first file deleted."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import Exit, Failure
from .job import Job
from .places import IN_TREE
from .report import human
from .source import Plan


def usable_target(target: Path) -> None:
    """Refuse a target that a run can't work in. Raises Failure.

    A missing target is never created here: a disk that isn't mounted looks the same, and the tree would land on the disk below it.
    """
    if not target.exists():
        raise Failure(
            "target_missing",
            Exit.TARGET,
            f"The target {target} doesn't exist.",
            "Is its disk mounted? A run never creates its target; installing the job does.",
        )
    if not target.is_dir():
        raise Failure("target_not_directory", Exit.TARGET, f"The target {target} is no directory.", "Correct the job's target.")
    if not os.access(target, os.R_OK | os.W_OK | os.X_OK):
        who = f"the account with uid {os.geteuid()}"
        raise Failure(
            "target_not_writable",
            Exit.TARGET,
            f"The target {target} is not writable for {who}.",
            "Correct its owner or mode, or the job's account; is the file system mounted read-only?",
        )
    if (target / IN_TREE).is_symlink():
        raise Failure("target_not_writable", Exit.TARGET, f"{target / IN_TREE} is a symlink.", "Remove it: reports are written there.")


def hold(job: Job, plan: Plan) -> Failure | None:
    """Why the plan must not be carried out; None if it may. A source that can't read all of its tree gets no deletions to judge."""
    return (plan.whole and (_emptied(job, plan) or _too_many_deletions(job, plan))) or _no_room(job, plan)


def entries_now(plan: Plan) -> int:
    """Entries that the target has before the run, but for the top directory; nothing is read for it: rsync has just compared both sides."""
    source = max((plan.tally.entries or 0) - 1, 0)
    return max(source - plan.tally.created, 0) + plan.tally.deletions


def _held(kind: str, message: str, remedy: str) -> Failure:
    return Failure(kind, Exit.HELD, message, remedy)


def _emptied(job: Job, plan: Plan) -> Failure | None:
    if (plan.tally.entries or 0) > 1 or plan.tally.deletions == 0:
        return None
    return _held(
        "source_empty",
        f"{plan.source} is empty, while {job.target} holds {plan.tally.deletions} entries; nothing was deleted.",
        "Usually the source's disk is not mounted: tell its operator. The next run looks again.",
    )


def _too_many_deletions(job: Job, plan: Plan) -> Failure | None:
    deletions, entries = plan.tally.deletions, entries_now(plan)
    limits = []
    if job.max_delete is not None and deletions > job.max_delete:
        limits.append(f"max_delete of {job.max_delete}")
    if deletions * 100 > entries * job.max_delete_percent:
        limits.append(f"max_delete_percent of {job.max_delete_percent}")
    if not limits:
        return None
    some = ", ".join(plan.going[:5]) + (", …" if deletions > 5 else "")
    return _held(
        "too_many_deletions",
        f"{plan.source} lacks {deletions} of the {entries} entries in {job.target} ({some}), "
        f"more than {' and '.join(limits)}; nothing was deleted.",
        f"`mirrornet pull {job.name} --dry-run` lists them. If they are meant, raise the limit in the job's definition for one run.",
    )


def _no_room(job: Job, plan: Plan) -> Failure | None:
    """Until the end of a transfer, what is new lies beside what it replaces, and what is to go is still there."""
    room = os.statvfs(job.target)
    free = room.f_bavail * room.f_frsize
    if plan.tally.size <= free:
        return None
    return _held(
        "no_room",
        f"{human(plan.tally.size)} are to come from {plan.source}, but the disk of {job.target} has {human(free)} free; nothing was changed.",
        "Make room. The next run looks again.",
    )
