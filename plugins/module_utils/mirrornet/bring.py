# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making the tree the one of a head: the content that a planned change needs is brought, checked and put in place; then the head becomes ours."""

from __future__ import annotations

import errno
import os
import shutil
import time
from itertools import chain
from pathlib import Path

from . import apply, fast, head, recent, rsync
from .apply import Staged
from .below import Unexpected
from .change import Change
from .errors import Exit, Failure
from .fast import Doubt
from .files import replace
from .head import Head, Index
from .pattern import matcher
from .places import IN_TREE, INCOMING, RECENT
from .record import dataclass
from .run import Run

#: Seconds for which a list that is no longer needed stays, for whoever is reading it.
_GRACE = 3600
#: Names from which on it takes rsync longer to hold each file against all of them than to bring it.
_MANY = 1000


@dataclass
class Update:
    """What it takes to make the tree the one of a head."""

    source: str
    change: Change
    head: Head
    #: The head byte for byte, with its signature.
    data: bytes
    index: Index
    way: str


def carry_out(run: Run, update: Update) -> bool:
    """Make the tree what the guards have agreed to. False if that can't be done this way, and another one has to be found.

    Raises Failure if it can't be done at all.
    """
    incoming = Path(run.job.tree) / IN_TREE / INCOMING
    former = run.record.unfinished
    top = os.open(run.job.tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        staging = apply.staging_directory(incoming)
        try:
            staged = _bring(run, update, incoming, staging)
            run.recorder.phase("finish")
            if update.way == "manifest":
                # After a power loss nothing would tell a torn file from a whole one; what deltas name is read again anyway.
                apply.settle(top)
            fast.doubt(run)
            run.record.unfinished = True
            apply.carry_out(top, staging, update.change, staged, matcher(run.job.index_patterns))
            apply.settle(top)
        finally:
            os.close(staging)
    except (Doubt, Unexpected, OSError, OverflowError) as problem:
        raise_if_local(run, problem)
        # Deltas may not have fitted the tree; the list of everything fits any.
        doubt = problem if isinstance(problem, Doubt) else Doubt(f"{problem}", lasting=update.way != "deltas")
        if doubt is not problem:
            fast.doubt(run)
        give_up(run, update.source, update.data, doubt)
        if not doubt.lasting:
            fast.note(run, seen={})
        return False
    finally:
        os.close(top)
    for path in update.change.deletions:
        run.recorder.log(f"*deleting  |0|{rsync.as_written(path)}")
    run.record.deletions += len(update.change.deletions)
    adopt(run, update.source, update.data, update.head, update.index)
    run.record.unfinished = former
    return True


def raise_if_local(run: Run, problem: Exception) -> None:
    """Raise what is wrong with this host, where another way would fail as well."""
    if not isinstance(problem, OSError):
        return
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        raise _full(run) from problem
    if problem.errno in (errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        message = f"Writing to {run.job.target} failed: {problem.strerror}."
        raise Failure("local_io", Exit.LOCAL_IO, message, "Check the file system and the limits of the account.") from problem


def _full(run: Run) -> Failure:
    # What arrived can't be shown without the rest, and whatever else is on that disk needs the room.
    shutil.rmtree(Path(run.job.tree) / IN_TREE / INCOMING, ignore_errors=True)
    return Failure("disk_full", Exit.LOCAL_IO, f"The disk of {run.job.target} is full.", "Make room; the next run begins anew.")


def _bring(run: Run, update: Update, incoming: Path, staging: int) -> list[Staged]:
    """Have the content of all files in the staging directory, each with the digest that the list gives it. Raises Doubt, Failure."""
    rooms = (incoming / apply.FILES, incoming / apply.FLAT)
    began_before = any(room.is_dir() for room in rooms)
    staged = apply.layout(update.change.files)
    missing = apply.lacking(staging, staged) if began_before else staged
    for again in (False, True):
        if missing:
            for room in rooms:
                _transfer(run, update.source, [one for one in missing if one.is_flat == (room.name == apply.FLAT)], room)
            missing = apply.lacking(staging, missing)
        if not missing:
            return staged
        if again or not began_before:
            break
        for room in rooms:  # What an earlier run has left may stand in the way.
            shutil.rmtree(room, ignore_errors=True)
        missing = staged
    name = rsync.as_written(missing[0].entry.path)
    raise Doubt(f"{len(missing)} files, {name} among them, are not what it says; {run.job.tree} was not touched")


def _transfer(run: Run, origin: str, missing: list[Staged], into: Path) -> None:
    """Bring files that are staged in the same way, by one connection, if there are any. Raises Failure."""
    if not missing:
        return
    job = run.job
    into.mkdir(mode=0o700, exist_ok=True)
    names = run.places.state(job.name) / "names"
    rsync.list_names(names, origin, (one.entry.path for one in missing))
    most, is_flat = max(one.entry.size for one in missing), missing[0].is_flat
    # Nothing that comes is believed before it is read, and only what was asked for is.
    trusting = len(missing) > _MANY and rsync.takes(run.program, "--trust-sender")

    def command(limit: int) -> list[str]:
        return rsync.bring(run.program, job, origin, names, into, most, is_flat=is_flat, trusting=trusting, bandwidth=limit)

    dummy, ended = run.transfer("transfer", origin, command)
    failure = rsync.failure(ended, origin, job.target)
    if failure is not None and failure.kind == "disk_full":
        raise _full(run) from failure
    if failure is not None and failure.kind != "incomplete":
        raise failure


def adopt(run: Run, origin: str, data: bytes, new: Head, index: Index | None) -> None:
    """The tree is the one of ``new``: keep it, and what leads to it, for ourselves and for whoever pulls from here. The head comes last."""
    name, own = run.job.name, Path(run.job.tree) / IN_TREE
    published = (run.places.offered(name) / fast.HEAD).stat().st_mtime_ns
    if index is not None:
        _pass_on(own, new, index, published)
    replace(run.places.head(name), data, durable=False)  # If it is lost, the next run looks at the whole list.
    replace(own / fast.HEAD, data, mtime_ns=published)
    run.record.serial = new.serial
    for path in (run.places.former_head(name), run.places.check_file(name)):
        path.unlink(missing_ok=True)
    void = {source: what for source, what in fast.remembered(run, "void").items() if source != origin}
    fast.note(run, seen={}, void=void, trusted={"head": head.gist(data)} if run.job.trusted_keys else {})
    shutil.rmtree(own / INCOMING, ignore_errors=True)


def _pass_on(own: Path, new: Head, index: Index, published: int) -> None:
    """Put the lists beside the head to come, which is of the time ``published``, and remove those that nobody needs any more."""
    named = [head.index_name(new.serial), head.manifest_name(index.manifest.serial), *(head.delta_name(one.serial) for one in index.deltas)]
    for name in named:
        fresh = own / INCOMING / "lists" / name
        if fresh.is_file():
            fresh.chmod(0o644)
            fresh.replace(own / name)
    replace(own / RECENT, recent.collect(own, index), mtime_ns=published, durable=False)
    oldest = time.time() - _GRACE
    for path in chain(own.glob("index-*"), own.glob("manifest-*.gz"), own.glob("delta-*.gz")):
        if path.name not in named and path.lstat().st_ctime < oldest:
            path.unlink(missing_ok=True)


def give_up(run: Run, origin: str, data: bytes, doubt: Doubt) -> None:
    """Say why, and remember not to try the same again."""
    run.recorder.log(f"The head of {origin} isn't followed: {doubt}.")
    if doubt.lasting:
        one = {"head": head.gist(data), "run": run.record.started, "why": str(doubt)}
        fast.note(run, void={**fast.remembered(run, "void"), origin: one})
    fast.note(run, seen={"head": head.gist(data)})
