# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making the tree the one of a head: the content that a planned change needs is brought, checked and put in place; then the head becomes ours."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Container
from functools import partial
from itertools import chain
from pathlib import Path

from . import apply, fast, head, recent, rsync
from .apply import Staged
from .below import Unexpected
from .change import Change
from .coming import Batch, Coming
from .errors import Exit, Failure
from .fast import Doubt
from .fetch_lists import Lists, check_time
from .files import replace
from .head import Head, Index, Listed
from .pattern import matcher
from .places import IN_TREE, INCOMING, RECENT
from .record import dataclass
from .run import Run

#: Seconds for which a list that is no longer needed stays, for whoever is reading it.
_GRACE = 3600
#: Files for which what they cost one by one begins to matter.
_MANY = 500
#: Heads that interrupted runs were about to follow, one after the other without an end, that are remembered.
_MOST_INTERRUPTED = 20


@dataclass
class Update:
    """What it takes to make the tree the one of a head."""

    source: str
    change: Change
    head: Head
    #: The head byte for byte, with its signature.
    data: bytes
    index: Index
    lists: Lists
    #: The deltas that it was found by; None if it was the manifest.
    deltas: tuple[Listed, ...] | None


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
            # After a power loss nothing would tell a torn file from a whole one; what deltas name is read again anyway. But for many files it's
            # the faster way, too: a file that isn't written yet has its blocks found, one file after the other, when it replaces another one.
            if update.deltas is None or len(staged) >= _MANY:
                apply.settle(top)
            _announce(run, update.head)
            fast.doubt(run)
            run.record.unfinished = True
            apply.carry_out(top, staging, update.change, staged, matcher(run.job.index_patterns), partial(_count_deletion, run))
            apply.settle(top)
        finally:
            os.close(staging)
    except (Doubt, Unexpected, OSError, OverflowError) as problem:
        raise_if_local(run, problem)
        # Deltas may not have fitted the tree; the list of everything fits any.
        doubt = problem if isinstance(problem, Doubt) else Doubt(f"{problem}", lasting=update.deltas is None)
        if doubt is not problem:
            fast.doubt(run)
        give_up(run, update.source, update.data, doubt)
        if not doubt.lasting:
            fast.note(run, seen={})
        return False
    finally:
        os.close(top)
    adopt(run, update.source, update.data, update.head, update.index, update.lists.proven)
    run.record.unfinished = former
    return True


def _announce(run: Run, new: Head) -> None:
    """Remember of whose tree there may be something here from now on, should this run not get to its end."""
    heads, one = fast.remembered(run, "toward").get("heads", []), head.gist(new.line)
    if one not in heads:
        # So many that came to nothing: what is here can't be told, and something that is no head says so.
        heads = [*heads, one] if len(heads) < _MOST_INTERRUPTED else ["too many"]
        fast.note(run, durable=True, toward={"heads": heads})


def _count_deletion(run: Run, path: bytes) -> None:
    # At once: if the rest fails, what is gone is gone all the same.
    run.recorder.log(f"*deleting  |0|{rsync.as_written(path)}")
    run.record.deletions += 1


def keep_tree(run: Run) -> None:
    """Have what rsync or somebody else has written there survive a power loss: after it, the head is to stand for it. Raises OSError."""
    top = os.open(run.job.tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        apply.settle(top)
    finally:
        os.close(top)


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


def _bring(run: Run, update: Update, incoming: Path, staging: int) -> Coming:
    """Have the content of all files in the staging directory, each with the digest that the list gives it. Raises Doubt, Failure."""
    files, ready = update.change.files, _unpack(run, update, incoming / apply.CONTENTS, staging)
    coming = Coming(files, ready, flat=len(files) - len(ready) >= _MANY)
    began_before = any((incoming / name).is_dir() for name in (apply.FILES, apply.FLAT))
    if began_before:
        coming.look(staging, partial(check_time, run))
    for again in (False, True):
        batches = coming.batches()
        for name, batch in sorted(batches.items()):
            _transfer(run, update.source, coming, batch, incoming / name)
        missing = coming.look(staging, partial(check_time, run)) if batches else 0
        if not missing:
            return coming
        if again or not (began_before or apply.FLAT in coming.batches()):
            break
        # What an earlier run has left may stand in the way; and a daemon that isn't allowed to see the directories above its tree gives no
        # file without those below.
        shutil.rmtree(incoming / apply.AGAIN, ignore_errors=True)
        coming.ask_again()
    name = rsync.as_written(next(coming.missing()).entry.path)
    raise Doubt(f"{missing} files, {name} among them, are not what it says; {run.job.tree} was not touched")


def _unpack(run: Run, update: Update, room: Path, staging: int) -> dict[bytes, Staged]:
    """Stage the small files whose content came with the deltas; by path. Raises OSError."""
    shutil.rmtree(room, ignore_errors=True)
    ready: dict[bytes, Staged] = {}
    if not update.deltas:
        return ready
    room.mkdir(mode=0o700)
    wanted = {entry.path: entry for entry in update.change.files}
    for record, data in update.lists.contents(update.deltas):
        entry = wanted.get(record.path)
        # A later delta may have brought another content, or another mode.
        if entry is not None and entry.digest == record.digest and entry.path not in ready:
            ready[entry.path] = apply.write(staging, len(ready), entry, data)
            run.recorder.log(f">f+++++++++|{entry.size}|{rsync.as_written(entry.path)}")
    run.record.files += len(ready)
    run.record.size += sum(one.entry.size for one in ready.values())
    return ready


def _transfer(run: Run, origin: str, coming: Coming, batch: Batch, into: Path) -> None:
    """Bring what is missing of the files that are staged in the same directory, by one connection. Raises Failure."""
    job = run.job
    into.mkdir(mode=0o700, exist_ok=True)
    names = run.places.state(job.name) / "names"
    rsync.list_names(names, origin, (one.entry.path for one in coming.missing(into.name)))
    is_flat = into.name == apply.FLAT
    # rsync holds each name that comes against all that were asked for, in time with the square of their number. Nothing that comes is believed
    # before it is read anyway, and only what was asked for is.
    trusting = batch.number >= _MANY and rsync.takes(run.program, "--trust-sender")

    def command(limit: int) -> list[str]:
        return rsync.bring(run.program, job, origin, names, into, batch.most, is_flat=is_flat, trusting=trusting, bandwidth=limit)

    dummy, ended = run.transfer("transfer", origin, command)
    failure = rsync.failure(ended, origin, job.target)
    if failure is not None and failure.kind == "disk_full":
        raise _full(run) from failure
    if failure is not None and failure.kind != "incomplete":
        raise failure


def adopt(run: Run, origin: str, data: bytes, new: Head, index: Index | None, proven: Container[str] = ()) -> None:
    """The tree is the one of ``new``: keep it, and what leads to it, for ourselves and for whoever pulls from here. The head comes last.

    Raises Failure if there is no room for it, or writing fails.
    """
    try:
        _adopt(run, origin, data, new, index, proven)
    except OSError as problem:
        raise_if_local(run, problem)
        message = f"{run.job.tree} is the tree of {origin}, but its head can't be kept there: {problem}."
        raise Failure("local_io", Exit.LOCAL_IO, message, f"Look at {IN_TREE} in it; the next run looks at the whole list.") from problem


def _adopt(run: Run, origin: str, data: bytes, new: Head, index: Index | None, proven: Container[str]) -> None:
    name, own = run.job.name, Path(run.job.tree) / IN_TREE
    published = (run.places.offered(name) / fast.HEAD).stat().st_mtime_ns
    if index is not None:
        _pass_on(own, index, published, proven)
    fast.keep(run.places.head(name), data)  # If it is lost, the next run looks at the whole list.
    replace(own / fast.HEAD, data, mtime_ns=published)
    run.record.serial = new.serial
    for path in (run.places.former_head(name), run.places.check_file(name)):
        path.unlink(missing_ok=True)
    void = {source: what for source, what in fast.remembered(run, "void").items() if source != origin}
    trusted = {"head": head.gist(data), "keys": list(run.job.trusted_keys)} if run.job.trusted_keys else {}
    fast.note(run, seen={}, since={}, toward={}, agreed={}, void=void, trusted=trusted)
    shutil.rmtree(own / INCOMING, ignore_errors=True)


def _pass_on(own: Path, index: Index, published: int, proven: Container[str]) -> None:
    """Put the lists beside the head to come, which is of the time ``published``, and remove those that nobody needs any more."""
    needed, contents = index.names, {head.contents_name(one.serial) for one in index.deltas}
    # What nobody has held against a digest isn't shown to anybody.
    for name in sorted(needed | contents):
        fresh = own / INCOMING / "lists" / name
        if name in proven and fresh.is_file():
            fresh.chmod(0o644)
            fresh.replace(own / name)
        elif name in needed and name not in proven:
            (own / name).unlink(missing_ok=True)
    replace(own / RECENT, recent.collect(own, index), mtime_ns=published, durable=False)
    oldest = time.time() - _GRACE
    for path in chain(own.glob("index-*"), own.glob("manifest-*.gz"), own.glob("delta-*.gz"), own.glob("contents-*")):
        if path.name not in needed | contents and path.lstat().st_ctime < oldest:
            path.unlink(missing_ok=True)


def give_up(run: Run, origin: str, data: bytes, doubt: Doubt) -> None:
    """Say why, and remember not to try the same again."""
    run.recorder.log(f"The head of {origin} isn't followed: {doubt}.")
    if doubt.lasting:
        one = {"head": head.gist(data), "run": run.record.started, "why": str(doubt)}
        fast.note(run, void={**fast.remembered(run, "void"), origin: one})
    seen = head.gist(data)
    fast.note(run, seen={"head": seen}, since=fast.remembered(run, "since") or {"heads": [seen]})
