# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is planned may happen. A guard speaks before the first file is deleted and before a byte too many is written."""

from __future__ import annotations

import os
from pathlib import Path

from .approval import ROLLED_BACK
from .errors import Exit, Failure
from .job import Job
from .places import IN_TREE
from .record import dataclass
from .report import human
from .source import Plan


@dataclass(frozen=True)
class Hold:
    """Why a run must stop. ``digest`` tells this hold from every other one; None: no operator's word makes it safe."""

    kind: str
    message: str
    remedy: str
    digest: str | None = None

    def failure(self) -> Failure:
        """The hold as what ends a run."""
        return Failure(self.kind, Exit.HELD, self.message, self.remedy)


def usable_target(target: Path) -> None:
    """Refuse a target that a run can't work in. Raises Failure.

    A missing target is never created here: a disk that isn't mounted looks the same, and the tree would land on the disk below it.
    """
    if not target.exists():
        remedy = "Is its disk mounted? A run never creates its target; installing the job does."
        raise Failure("target_missing", Exit.TARGET, f"The target {target} doesn't exist.", remedy)
    if not target.is_dir():
        raise Failure("target_not_directory", Exit.TARGET, f"The target {target} is no directory.", "Correct the job's target.")
    if not os.access(target, os.R_OK | os.W_OK | os.X_OK):
        message = f"The target {target} is not writable for the account with uid {os.geteuid()}."
        remedy = "Correct its owner or mode, or the job's account; is the file system mounted read-only?"
        raise Failure("target_not_writable", Exit.TARGET, message, remedy)
    if (target / IN_TREE).is_symlink():
        raise Failure("target_not_writable", Exit.TARGET, f"{target / IN_TREE} is a symlink.", "Remove it: reports are written there.")


def right_target(job: Job, *, complete_before: bool) -> Hold | None:
    """Why the target is not the one that is meant; None if it seems to be. To be asked before anything is written there."""
    if job.mount is not None and not os.path.ismount(job.mount):
        return Hold(
            "not_mounted", f"Nothing is mounted at {job.mount}, where {job.target} is to be.", "Mount it. The next run looks again."
        )
    if complete_before and not (Path(job.tree) / IN_TREE).is_dir():
        return Hold(
            "target_replaced",
            f"{job.tree} is not the tree that this job had completed: its {IN_TREE} is gone.",
            f"Is its disk mounted? If it was emptied on purpose, `mirrornet approve {job.name}` lets the job fill it again.",
            digest="refill",
        )
    return None


def rolled_back(job: Job, *, held: bool) -> Hold | None:
    """Why a job that was rolled back doesn't go forward again by itself."""
    if not held:
        return None
    remedy = f"`mirrornet approve {job.name}` lets it follow its source again."
    return Hold(ROLLED_BACK, f"{job.tree} shows a former release, after a rollback.", remedy, digest=ROLLED_BACK)


def hold(job: Job, plan: Plan, gone: int = 0) -> Hold | None:
    """Why the plan must not be carried out; None if it may. A source that can't read all of its tree gets no deletions to judge.

    ``gone`` are entries that the same run has deleted by an earlier plan, without anybody's word for them.
    """
    if plan.whole:
        held = _emptied(job, plan) or _too_many_deletions(job, plan, gone)
        if held is not None:
            return held
    return no_room(job, plan)


def entries_now(plan: Plan) -> int:
    """Entries that the target has before the run, but for the top directory; nothing is read for it: rsync has just compared both sides."""
    source = max((plan.tally.entries or 0) - 1, 0)
    return max(source - plan.tally.created, 0) + plan.tally.deletions


def _emptied(job: Job, plan: Plan) -> Hold | None:
    if (plan.tally.entries or 0) > 1 or plan.tally.deletions == 0:
        return None
    return Hold(
        "source_empty",
        f"{plan.source} is empty, while {job.tree} holds {plan.tally.deletions} entries; nothing was deleted.",
        "Usually the source's disk is not mounted: tell its operator. The next run looks again.",
        plan.digest,
    )


def _too_many_deletions(job: Job, plan: Plan, gone: int) -> Hold | None:
    deletions, entries = plan.tally.deletions, entries_now(plan)
    if not deletions:
        return None
    limits = []
    if job.max_delete is not None and deletions + gone > job.max_delete:
        limits.append(f"max_delete of {job.max_delete}")
    if (deletions + gone) * 100 > (entries + gone) * job.max_delete_percent:
        limits.append(f"max_delete_percent of {job.max_delete_percent}")
    if not limits:
        return None
    some = ", ".join(plan.going[:5]) + (", …" if deletions > 5 else "")
    before = f"after {gone} that this run has deleted already, more" if gone else "more"
    end = "nothing more was deleted" if gone else "nothing was deleted"
    return Hold(
        "too_many_deletions",
        f"{plan.source} lacks {deletions} of the {entries} entries in {job.tree} ({some}), {before} than {' and '.join(limits)}; {end}.",
        f"`mirrornet pull {job.name} --dry-run` lists them. If they are meant, `mirrornet approve {job.name}` lets exactly them go.",
        plan.digest,
    )


def no_room(job: Job, plan: Plan) -> Hold | None:
    """Until the end of a transfer, what is new lies beside what it replaces, and what is to go is still there."""
    room = os.statvfs(job.target)
    free = room.f_bavail * room.f_frsize
    reserve = job.reserve << 20
    if plan.tally.size + reserve <= free or plan.tally.size == 0:
        return None
    kept = f", of which {human(reserve)} are to stay free" if reserve else ""
    return Hold(
        "no_room",
        f"{human(plan.tally.size)} are to come from {plan.source}, but the disk of {job.target} has {human(free)} free{kept}; nothing was changed.",
        "Make room. The next run looks again.",
    )
