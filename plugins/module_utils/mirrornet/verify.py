# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing a tree with its source by content, all of it or a random sample, and repairing what differs."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

from . import pull, rsync
from .errors import Exit, Failure
from .job import Job
from .places import IN_TREE, Places
from .report import Report
from .rsync import Mode
from .run import Run, under_lock


def verify(places: Places, job: Job, host: str, *, percent: float = 100, repair: bool = False) -> Report:
    """Compare ``percent`` of the tree's files with the source by checksums, under the job's lock; with ``repair`` bring what differs.

    The whole tree (100) is compared with all that the source has, so that also missing and additional entries are found; a sample is of
    the files that are here. The report's outcome is ``unchanged``, ``updated`` after a repair, or ``failed`` with the kind ``different``.
    """
    return under_lock(places, job, host, lambda run: _procedure(run, percent, repair))


def _procedure(run: Run, percent: float, repair: bool) -> None:
    job, record = run.job, run.record
    pull.look_at_target(run)
    if not Path(job.tree).is_dir():
        raise Failure("target_missing", Exit.TARGET, f"{job.tree} doesn't exist: there is nothing to verify.", "Pull the job first.")
    record.compared_all = percent >= 100
    if job.trusted_keys:
        _against_signed_list(run, percent, repair)
        return
    run.idle = job.time_limit  # A source that reads a large file for its checksum is silent, and not dead.
    mode = Mode(checksum=True, delete=True)
    if not record.compared_all:
        mode = Mode(checksum=True, files_from=_sample(run, percent))
    plan = pull.choose_by(run, mode)
    record.different = plan.tally.items
    if plan.is_empty:
        record.outcome = "unchanged"
        return
    if not repair:
        what = "entries differ" if plan.tally.items != 1 else "entry differs"
        message = f"{plan.tally.items} {what} from {plan.source}."
        raise Failure("different", Exit.DIFFERENT, message, f"`mirrornet verify --repair {job.name}` brings them; the log lists them.")
    pull.judge(run, plan)
    if job.switch:
        raise Failure(
            "different", Exit.DIFFERENT, "A release that is shown isn't written to.", f"`mirrornet pull {job.name}` makes a new one."
        )
    before, record.unfinished = record.unfinished, True
    pull.stage(
        run,
        plan,
        "repair",
        Mode(checksum=True, delete=mode.delete and plan.whole, max_delete=plan.tally.deletions, files_from=mode.files_from),
    )
    if record.compared_all:
        pull.complete(run)
    else:
        record.unfinished = before  # A sample says nothing of the rest: holds and the check file stay what they were.
    record.outcome = "updated"


def _against_signed_list(run: Run, percent: float, repair: bool) -> None:
    """The same for a job with trusted keys: the source's word counts only as far as it is signed, and its files need not be read."""
    plan = pull.choose_followed(run, _Share(percent))
    if plan is None or plan.is_empty:
        run.record.different, run.record.outcome = 0, "unchanged"
        return
    run.record.different = plan.tally.items
    if not repair:
        message = f"{plan.tally.items} differences from what {plan.source} has published."
        raise Failure(
            "different", Exit.DIFFERENT, message, f"`mirrornet verify --repair {run.job.name}` brings what is missing or changed."
        )
    pull.judge(run, plan)
    if plan.carry_out is None or not plan.carry_out():
        raise Failure(
            "different", Exit.DIFFERENT, f"{plan.source} doesn't have what it has published.", "The log has more; try again later."
        )
    pull.complete(run)
    run.record.outcome = "updated"


class _Share:
    """Paths, each in it with the same chance."""

    def __init__(self, percent: float) -> None:
        self._percent, self._chance = percent, random.SystemRandom()

    def __contains__(self, path: object) -> bool:
        return self._percent >= 100 or self._chance.random() * 100 < self._percent


def _sample(run: Run, percent: float) -> Path:
    """Write the names of some files, each taken with the same chance, into the state directory; at least one if there are any."""
    chance, names = random.SystemRandom(), list(_files(Path(run.job.tree)))
    taken = [name for name in names if chance.random() * 100 < percent] or ([chance.choice(names)] if names else [])
    path = run.places.state(run.job.name) / "sample"
    path.write_bytes(b"".join(os.fsencode(name) + b"\0" for name in taken))
    run.recorder.log(f"comparing {len(taken)} of {len(names)} files")
    return path


def _files(tree: Path) -> Iterator[str]:
    for directory, directories, files in os.walk(tree):
        directories[:] = [name for name in directories if name not in (IN_TREE, rsync.PARTIAL_DIR)]
        for name in files:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(tree))
