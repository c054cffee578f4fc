# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Letting one held change through: exactly that one, once, and not for ever."""

from __future__ import annotations

import time

from .errors import Exit, Failure
from .files import read_json, replace, to_json
from .places import Places


def remember(places: Places, job: str, kind: str, digest: str, message: str) -> None:
    """Note what a run was held for, so that an operator can agree to exactly that."""
    replace(places.held(job), to_json({"kind": kind, "digest": digest, "message": message}))


def approve(places: Places, job: str, hours: float) -> str:
    """Agree to what the last run was held for, for ``hours``; returns what that is. Raises Failure if nothing is held."""
    held = read_json(places.held(job))
    if not held:
        raise Failure(
            "nothing_held", Exit.CONFIG, f"Job {job} is not held: there is nothing to approve.", "`mirrornet status` shows how it is."
        )
    replace(places.approval(job), to_json({"digest": held["digest"], "kind": held["kind"], "expires": time.time() + hours * 3600}))
    return str(held["message"])


def is_given(places: Places, job: str, kind: str, digest: str) -> bool:
    """Whether an operator has agreed to this, and not too long ago."""
    given = read_json(places.approval(job))
    expires = given.get("expires")
    return given.get("digest") == digest and given.get("kind") == kind and isinstance(expires, (int, float)) and time.time() < expires


def used(places: Places, job: str) -> None:
    """Forget holds and approvals: the job is in step again."""
    places.held(job).unlink(missing_ok=True)
    places.approval(job).unlink(missing_ok=True)


#: Kind and digest of the hold that follows a rollback.
ROLLED_BACK = "rolled_back"


def hold_back(places: Places, job: str) -> None:
    """Hold all runs until an operator approves: the source still has what was rolled back."""
    places.approval(job).unlink(missing_ok=True)
    remember(places, job, ROLLED_BACK, ROLLED_BACK, f"Job {job} shows a former release, after a rollback.")


def is_held_back(places: Places, job: str) -> bool:
    """Whether a rollback still holds the job."""
    return read_json(places.held(job)).get("kind") == ROLLED_BACK and not is_given(places, job, ROLLED_BACK, ROLLED_BACK)
