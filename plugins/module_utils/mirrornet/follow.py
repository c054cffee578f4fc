# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following a source's head: by the deltas since the one that is held, else by its manifest; with exact numbers for the guards.

Whatever doesn't fit ends in a doubt, and a doubt in rsync's own comparison of everything. A job with trusted keys has no such way out: it
passes the source over.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path

from . import approval, entry, fast, head, report, rsync
from .below import Below, Stat, Unexpected
from .bring import Update, adopt, carry_out, give_up, keep_tree, raise_if_local
from .change import Change, Suspects, TooMuch, from_deltas, from_manifest
from .entry import Entry
from .errors import Exit, Failure
from .fast import Doubt
from .fetch_lists import SLACK, Damaged, Lists
from .head import Head, Index, Listed
from .places import IN_TREE
from .run import Run
from .source import Plan

#: Records of deltas, and differences from a manifest, that are held in memory; beyond, rsync's comparison isn't dearer.
_MOST = 200_000
#: Deltas that are asked for; a master keeps fewer.
_LONGEST_CHAIN = 200


def plan(run: Run, origin: str, data: bytes, *, due: bool, thorough: Container[bytes] | None = None) -> Plan | None:
    """What it takes to make the tree the one of the head ``data``, an empty plan if nothing; None if everything has to be compared.

    With ``due`` or ``thorough`` the list of everything is looked at, and the content of the paths in ``thorough`` is read. Raises Failure if
    the source can't be used.
    """
    if run.job.trusted_keys and not fast.remembered(run, "trusted"):
        run.recorder.log("What is here came before the keys were trusted: all of it is read.")
        thorough = _Everything()
    try:
        return _plan_with_good_lists(run, origin, data, due, thorough)
    except (Doubt, Unexpected) as problem:
        doubt = problem if isinstance(problem, Doubt) else Doubt(f"{problem}")
        failure = Failure("bad_content", Exit.UNAVAILABLE, f"{origin} can't be followed: {doubt}.", "Tell the source's operator.")
    except OSError as problem:
        raise_if_local(run, problem)
        doubt = Doubt(f"{problem}", lasting=False)
        failure = Failure("local_io", Exit.LOCAL_IO, f"{origin} can't be followed: {problem}.", "Look at the target and its modes.")
    except Failure as problem:
        if problem.kind not in ("bad_head", "bad_manifest"):
            raise
        doubt, failure = Doubt(problem.message.rstrip(".")), problem
    give_up(run, origin, data, doubt)
    if run.job.trusted_keys:
        raise failure
    return None


def _plan_with_good_lists(run: Run, origin: str, data: bytes, due: bool, thorough: Container[bytes] | None) -> Plan:
    """Begin again whenever a list that the tree had already was found to be of no use, and removed."""
    while True:
        try:
            return _plan(run, origin, data, due, thorough)
        except Damaged as damaged:
            run.recorder.log(f"{damaged} in {IN_TREE} is not the one that the head leads to: fetching it again.")


def _plan(run: Run, origin: str, data: bytes, due: bool, thorough: Container[bytes] | None) -> Plan:
    job, record = run.job, run.record
    new = head.parse(data)
    former = _former(run)
    if job.trusted_keys:
        _verify(run, new)
    if former is not None:
        _refuse_older(run, origin, new, former)
    held = former if fast.held(run) is not None else None
    _stop_if_known_as_bad(run, origin, data)
    if due and not job.trusted_keys:
        raise Doubt("the full check is due", lasting=False)
    if former is None and not job.trusted_keys and not fast.remembered(run, "seen"):
        raise Doubt("nothing is known about the tree that is here", lasting=False)
    if held is not None and held.is_same_tree(new) and not due and thorough is None:
        adopt(run, origin, data, new, None)  # Signed anew.
        record.way = "same"
        return Plan(origin, rsync.Tally())
    run.recorder.phase("plan")
    lists = Lists(run, origin)
    lists.take_offered(new)
    serials = _serials(former, new)
    lists.fetch_deltas(new, serials)
    index = lists.index(new, held)
    if held is not None and serials and not due and thorough is None:
        try:
            return _by_deltas(run, origin, data, held, new, index, lists)
        except (Doubt, Unexpected, Failure) as problem:
            if isinstance(problem, Failure) and problem.kind != "bad_manifest":
                raise
            run.recorder.log(f"The deltas of {origin} can't be followed: {problem}. Taking the list of everything.")
    return _by_manifest(run, origin, data, former, new, index, lists, thorough or ())


def _former(run: Run) -> Head | None:
    """The head that the tree held last, also if it may be between two trees now."""
    # The tree's own stands for it at least as it was: perhaps the state was lost, or the tree came from another mirror as a whole.
    return next(_formers(run), None)


def _formers(run: Run) -> Iterator[Head]:
    for path in (run.places.head(run.job.name), run.places.former_head(run.job.name), fast.tree_head(run)):
        with contextlib.suppress(OSError, Failure):
            yield head.parse(path.read_bytes())


def _been(run: Run) -> list[Head] | None:
    """All heads of whose trees there may be something here; None if that can't be told.

    That are those that the tree stood for, and those that interrupted runs were about to make of it. In a tree of which no head ever told,
    it's what rsync has compared with a source: with the first head that there was then.
    """
    heads = list(dict.fromkeys(_formers(run)))
    since = [] if heads else fast.remembered(run, "since").get("heads", [])
    if not heads and not since:
        return None
    for gist in [*since, *fast.remembered(run, "toward").get("heads", ())]:
        try:
            heads.append(_from_gist(gist))
        except Failure:
            return None
    return heads


def _from_gist(gist: object) -> Head:
    """The head that ``head.gist`` was made of, without its signature. Raises Failure."""
    return head.parse(f"{gist}\n".encode("ascii", "replace"))


def _verify(run: Run, new: Head) -> None:
    try:
        signers = head.allowed_signers(run.job.trusted_keys)
    except ValueError as error:
        raise Failure("definition", Exit.CONFIG, f"trusted_keys: {error}.", "Correct it and install the job again.") from None
    by = head.verify(new, signers)
    run.recorder.log(f"The head with serial {new.serial} is signed by {by}.")


def _refuse_older(run: Run, origin: str, new: Head, former: Head) -> None:
    """Pass a source over that is behind; and for a job with trusted keys, one whose row of serials doesn't go on from ours."""
    name = run.job.name
    # What an operator has agreed to counts also if it takes more than one run to get there, as by way of rsync's comparison.
    agreed = fast.remembered(run, "agreed").get("head")
    if agreed is not None and not run.job.trusted_keys:
        former = _from_gist(agreed)
    if new.epoch == former.epoch and (new.serial > former.serial or (new.serial == former.serial and new.index == former.index)):
        return
    if new.epoch == former.epoch and new.serial < former.serial:
        message = f"{origin} is stale: its tree has serial {new.serial}, and {run.job.tree} holds {former.serial} already."
        remedy = (
            "Nothing to do if it catches up; another source may be ahead. If its master was set back, as to a snapshot, `mirrornet publish --anew` "
            f"there begins a new row of serials; `mirrornet approve {name}` lets the job follow just this one."
        )
        failure = Failure("stale", Exit.UNAVAILABLE, message, remedy)
    elif not run.job.trusted_keys or (new.serial > former.serial and new.time > former.time):
        return
    else:
        message = f"{origin} has a signed head that isn't newer than the one of {run.job.tree}: of {new.time}, after {former.time}."
        remedy = f"If its master was set back on purpose, `mirrornet approve {name}` lets the job follow it; else somebody offers what is out of date."
        failure = Failure("untrusted", Exit.REFUSED, message, remedy)
    digest = f"{new.epoch}-{new.serial}-{new.index}"
    if approval.is_given(run.places, name, "older_head", digest):
        run.recorder.log(f"An operator has approved: {message}")
        if not run.job.trusted_keys:
            fast.note(run, agreed={"head": head.gist(new.line)})
        return
    approval.remember(run.places, name, "older_head", digest, message)
    raise failure


def _stop_if_known_as_bad(run: Run, origin: str, data: bytes) -> None:
    one = fast.remembered(run, "void").get(origin)
    if not isinstance(one, dict) or one.get("head") != head.gist(data):
        return
    # What a trusted source has may be put right without another head; then a later run takes it.
    if not run.job.trusted_keys or one.get("run") == run.record.started:
        raise Doubt(f"{one.get('why')}")


def _serials(former: Head | None, new: Head) -> range:
    """Those of the deltas that lead from the former head to the new one, as far as can be told before its index is here."""
    if former is None or former.epoch != new.epoch or not 0 < new.serial - former.serial <= _LONGEST_CHAIN:
        return range(0)
    return range(former.serial + 1, new.serial + 1)


def _by_deltas(run: Run, origin: str, data: bytes, held: Head, new: Head, index: Index, lists: Lists) -> Plan:
    found = index.since(held)
    if not found:
        raise Doubt("they don't begin at the tree that is here")
    lists.fetch(map(head.delta_name, (one.serial for one in found)), max(one.size for one in found) + SLACK)
    records = entry.combine([lists.entries(one.serial, one.size, one.sha256, delta=True) for one in found])
    with _below(run) as below:
        change = from_deltas(below, _bounded(records), room=lists.incoming)
    # A file that is gone here, or that nobody spoke of, shows in the sum.
    if held.entries + change.created - len(change.deletions) != new.entries:
        raise Doubt("they don't make as many entries as its head says, or the tree was changed by hand")
    return _update(run, origin, data, new, index, change, lists, found)


def _bounded(records: Iterator[Entry]) -> Iterator[Entry]:
    for number, one in enumerate(records):
        if number == _MOST:
            raise Doubt("they are too long")
        yield one


def _by_manifest(
    run: Run, origin: str, data: bytes, former: Head | None, new: Head, index: Index, lists: Lists, thorough: Container[bytes]
) -> Plan:
    trusted = bool(run.job.trusted_keys)
    lists.fetch_all(index)
    suspects = _suspects(run, new, index, lists)
    if suspects is None:
        run.recorder.log(f"No list tells what has become of the tree that {run.job.tree} was: all of it is read.")
        suspects, thorough = Suspects((), ()), _Everything()
    deltas = [lists.entries(one.serial, one.size, one.sha256, delta=True) for one in index.after_manifest]
    whole = index.manifest
    entries = entry.merge(lists.entries(whole.serial, whole.size, whole.sha256), deltas)
    grain = _grain(lists.incoming)
    try:
        with _below(run) as below:
            listed = suspects.watch(entry.counted(entries, new.counts))
            most = None if trusted else _MOST
            change = from_manifest(below, listed, suspects=_Either(suspects, thorough), grain=grain, most=most, room=lists.incoming)
    except TooMuch:
        raise Doubt("nearly everything differs from its list") from None
    if fast.remembered(run, "seen").get("head") == head.gist(data) and not trusted and _brings_or_takes(run, change):
        # rsync had brought the tree when this very head was there already.
        raise Doubt("it isn't the head of the tree that the source has")
    if trusted:
        run.record.last_compared = report.utc(time.time())
    return _update(run, origin, data, new, index, change, lists, None)


def _suspects(run: Run, new: Head, index: Index, lists: Lists) -> Suspects | None:
    """Which files may have another content than size and time tell; None: any.

    rsync's comparison passes over what was changed in place, and a head stands for the content.
    """
    formers, named = list[Iterator[Entry]](), list[Iterator[Entry]]()
    been = _been(run)
    for known in been or ():
        if known.is_same_tree(new):
            continue
        deltas = index.since(known)
        former = lists.former(known)
        if deltas and all(lists.has(head.delta_name(one.serial), one) for one in deltas):
            named.append(entry.combine([lists.entries(one.serial, one.size, one.sha256, delta=True) for one in deltas]))
        elif former is not None:
            formers.append(former)
        else:
            return None
    return Suspects(formers, named) if been is not None else None


class _Everything:
    """All paths."""

    def __contains__(self, path: object) -> bool:
        return True


class _Either:
    """What is in one of two containers."""

    def __init__(self, one: Container[bytes], other: Container[bytes]) -> None:
        self._one, self._other = one, other

    def __contains__(self, path: object) -> bool:
        return path in self._one or path in self._other


def _brings_or_takes(run: Run, change: Change) -> bool:
    """Whether there is more to do than what rsync leaves alone: modes, times of the same second, and content with the same size and time.

    Such content is the source's: if it isn't, it doesn't get into the tree.
    """
    if change.copies or change.links or change.deletions or change.created:
        return True
    with _below(run) as below:
        return not all(_is_same_to_rsync(one, below.stat(one.path)) for one in change.files) or any(
            _link(below, one.path) != one.target for one in change.symlinks
        )


def _is_same_to_rsync(entry: Entry, found: Stat) -> bool:
    if found is None or not stat.S_ISREG(found.st_mode):
        return False
    return found.st_size == entry.size and found.st_mtime_ns // 10**9 == entry.mtime // 10**9


def _link(below: Below, path: bytes) -> bytes | None:
    """What the symlink at ``path`` says; None if there is none."""
    with contextlib.suppress(OSError, Unexpected):
        above, name = below.parent(path)
        return os.readlink(name, dir_fd=above)
    return None


def _update(
    run: Run, origin: str, data: bytes, new: Head, index: Index, change: Change, lists: Lists, deltas: tuple[Listed, ...] | None
) -> Plan:
    """The plan of a change that was found by ``deltas``, or by the manifest, with the numbers for the guards.

    If there is nothing to do, the head is ours at once.
    """
    # Mirrors that pull from here may be further behind than this one.
    lists.secure(index)
    found = Plan(origin, rsync.Tally(), carry_out=partial(carry_out, run, Update(origin, change, new, data, index, lists, deltas)))
    for path in change.deletions:
        found.take(f"*deleting  |0|{rsync.as_written(path)}{'/' if path in change.gone_directories else ''}")
    found.tally.entries, found.tally.created, found.tally.items = new.entries, change.created, change.steps
    found.tally.files, found.tally.size = len(change.files), change.size
    run.record.entries, run.record.way = new.entries, "manifest" if deltas is None else "deltas"
    if not change.steps:
        keep_tree(run)
        adopt(run, origin, data, new, index, lists.proven)
    return found


@contextlib.contextmanager
def _below(run: Run) -> Iterator[Below]:
    """The tree, for looking at it."""
    top = os.open(run.job.tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    below = Below(top)
    try:
        yield below
    finally:
        below.lock_again()
        below.close()
        os.close(top)


def _grain(directory: Path) -> int:
    """The unit in which the file system keeps times, in nanoseconds."""
    probe, time_ns = directory / "time", 1_600_000_001_987_654_321
    probe.touch()
    os.utime(probe, ns=(time_ns, time_ns))
    kept = probe.stat().st_mtime_ns
    return next((grain for grain in (1, 100, 1000, 10**6, 10**9) if time_ns // grain * grain == kept), 2 * 10**9)
