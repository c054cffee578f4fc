# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following a source's head: by the deltas since the one that is held, else by its manifest; guarded by exact numbers, and carried out by renames.

Whatever doesn't fit ends in a doubt, and a doubt in rsync's own comparison of everything. A job with trusted keys has no such way out: it
passes the source over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Container, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from . import apply, approval, entry, fast, head, recent, report, rsync
from .below import Below, Unexpected
from .change import Change, TooMuch, from_deltas, from_manifest
from .entry import Entry
from .errors import Exit, Failure
from .files import replace
from .head import Head, Index
from .pattern import matcher
from .places import IN_TREE, RECENT
from .record import dataclass
from .run import Run
from .source import Plan

#: Records of deltas, and differences from a manifest, that are held in memory; beyond, rsync's comparison isn't dearer.
_MOST = 200_000
#: Deltas that are asked for; a master keeps fewer.
_LONGEST_CHAIN = 200
#: Bytes of a compressed list that is fetched before its index has told how long it is.
_LARGEST_LIST = 256 << 20
#: Seconds for which a list that is no longer needed stays, for whoever is reading it.
_GRACE = 3600
INCOMING = "incoming"


@dataclass
class _Update:
    """What it takes to make the tree the one of a head."""

    source: str
    change: Change
    head: Head
    #: The head byte for byte, with its signature.
    data: bytes
    index: Index
    way: str


class _Doubt(Exception):
    """Why a head isn't followed. ``lasting``: not before the source has another one."""

    def __init__(self, why: str, *, lasting: bool = True) -> None:
        super().__init__(why)
        self.lasting = lasting


class _Damaged(Exception):
    """A list that the tree had already is of no use, and was removed."""


# Planning


def plan(run: Run, origin: str, data: bytes, *, due: bool, thorough: Container[bytes] | None = None) -> Plan | None:
    """What it takes to make the tree the one of the head ``data``, an empty plan if nothing; None if everything has to be compared.

    With ``due`` or ``thorough`` the list of everything is looked at, and the content of the paths in ``thorough`` is read. Raises Failure if
    the source can't be used.
    """
    try:
        return _plan_with_good_lists(run, origin, data, due, thorough)
    except (_Doubt, Unexpected) as problem:
        doubt = problem if isinstance(problem, _Doubt) else _Doubt(f"{problem}")
        failure = Failure("bad_content", Exit.UNAVAILABLE, f"{origin} can't be followed: {doubt}.", "Tell the source's operator.")
    except OSError as problem:
        _raise_if_local(run, problem)
        doubt = _Doubt(f"{problem}", lasting=False)
        failure = Failure("local_io", Exit.LOCAL_IO, f"{origin} can't be followed: {problem}.", "Look at the target and its modes.")
    except Failure as problem:
        if problem.kind not in ("bad_head", "bad_manifest"):
            raise
        doubt, failure = _Doubt(problem.message.rstrip(".")), problem
    _give_up(run, origin, data, doubt)
    if run.job.trusted_keys:
        raise failure
    return None


def _plan_with_good_lists(run: Run, origin: str, data: bytes, due: bool, thorough: Container[bytes] | None) -> Plan:
    """Begin again whenever a list that the tree had already was found to be of no use, and removed."""
    while True:
        try:
            return _plan(run, origin, data, due, thorough)
        except _Damaged as damaged:
            run.recorder.log(f"{damaged} in {IN_TREE} is not the one that the head leads to: fetching it again.")


def _give_up(run: Run, origin: str, data: bytes, doubt: _Doubt) -> None:
    """Say why, and remember not to try the same again."""
    run.recorder.log(f"The head of {origin} isn't followed: {doubt}.")
    if doubt.lasting:
        one = {"head": _text(data), "run": run.record.started, "why": str(doubt)}
        fast.note(run, void={**fast.remembered(run, "void"), origin: one})
    fast.note(run, seen={"head": _text(data)})


def _text(data: bytes) -> str:
    """What tells a head from others, its signature aside."""
    return data.partition(b"\n")[0][: head.LONGEST_HEAD].decode("ascii", "backslashreplace")


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
        raise _Doubt("the full check is due", lasting=False)
    if former is None and not job.trusted_keys and not fast.remembered(run, "seen"):
        raise _Doubt("nothing is known about the tree that is here", lasting=False)
    if held is not None and held.is_same_tree(new) and not due and thorough is None:
        adopt(run, origin, data, new, None)  # Signed anew.
        record.way = "same"
        return Plan(origin, rsync.Tally())
    run.recorder.phase("plan")
    lists = _Lists(run, origin)
    lists.take_offered(new)
    serials = _serials(former, new)
    lists.fetch([head.index_name(new.serial), *map(head.delta_name, serials)], _LARGEST_LIST)
    index = lists.index(new)
    if held is not None and serials and not due and thorough is None:
        try:
            return _by_deltas(run, origin, data, held, new, index, lists)
        except (_Doubt, Unexpected, Failure) as problem:
            if isinstance(problem, Failure) and problem.kind != "bad_manifest":
                raise
            run.recorder.log(f"The deltas of {origin} can't be followed: {problem}. Taking the list of everything.")
    return _by_manifest(run, origin, data, former, new, index, lists, thorough or ())


def _former(run: Run) -> Head | None:
    """The head that the tree held last, also if it may be between two trees now."""
    # The tree's own stands for it at least as it was: perhaps the state was lost, or the tree came from another mirror as a whole.
    for path in (run.places.head(run.job.name), run.places.former_head(run.job.name), fast.tree_head(run)):
        with contextlib.suppress(OSError, Failure):
            return head.parse(path.read_bytes())
    return None


def _seen(run: Run) -> Head | None:
    """The head that a source had when rsync compared everything last."""
    with contextlib.suppress(Failure):
        return head.parse(f"{fast.remembered(run, 'seen').get('head')}\n".encode("ascii", "replace"))
    return None


def _verify(run: Run, new: Head) -> None:
    try:
        signers = head.allowed_signers(run.job.trusted_keys)
    except ValueError as error:
        raise Failure("definition", Exit.CONFIG, f"trusted_keys: {error}.", "Correct it and install the job again.") from None
    by = head.verify(new, signers)
    run.recorder.log(f"The head with serial {new.serial} is signed by {by}.")


def _refuse_older(run: Run, origin: str, new: Head, former: Head) -> None:
    """Pass a source over that is behind; and for a job with trusted keys, one whose row of serials doesn't go on from ours."""
    if new.epoch == former.epoch:
        if new.serial < former.serial:
            message = f"{origin} is stale: its tree has serial {new.serial}, and {run.job.tree} holds {former.serial} already."
            raise Failure("stale", Exit.UNAVAILABLE, message, "Nothing to do if it catches up; another source may be ahead.")
        if new.serial > former.serial or new.index == former.index:
            return
    if not run.job.trusted_keys or (new.serial > former.serial and new.time > former.time):
        return
    name, digest = run.job.name, f"{new.epoch}-{new.serial}-{new.index}"
    message = f"{origin} has a signed head that isn't newer than the one of {run.job.tree}: of {new.time}, after {former.time}."
    if approval.is_given(run.places, name, "older_head", digest):
        run.recorder.log(f"An operator has approved: {message}")
        return
    approval.remember(run.places, name, "older_head", digest, message)
    remedy = f"If its master was set back on purpose, `mirrornet approve {name}` lets the job follow it; else somebody offers what is out of date."
    raise Failure("untrusted", Exit.REFUSED, message, remedy)


def _stop_if_known_as_bad(run: Run, origin: str, data: bytes) -> None:
    one = fast.remembered(run, "void").get(origin)
    if not isinstance(one, dict) or one.get("head") != _text(data):
        return
    # What a trusted source has may be put right without another head; then a later run takes it.
    if not run.job.trusted_keys or one.get("run") == run.record.started:
        raise _Doubt(f"{one.get('why')}")


def _serials(former: Head | None, new: Head) -> range:
    """Those of the deltas that lead from the former head to the new one, as far as can be told before its index is here."""
    if former is None or former.epoch != new.epoch or not 0 < new.serial - former.serial <= _LONGEST_CHAIN:
        return range(0)
    return range(former.serial + 1, new.serial + 1)


def _by_deltas(run: Run, origin: str, data: bytes, held: Head, new: Head, index: Index, lists: _Lists) -> Plan:
    found = index.since(held)
    if not found:
        raise _Doubt("they don't begin at the tree that is here")
    records = entry.combine([lists.entries(one.serial, one.size, one.sha256, delta=True) for one in found])
    with _below(run) as below:
        change = from_deltas(below, _bounded(records))
    # A file that is gone here, or that nobody spoke of, shows in the sum.
    if held.entries + change.created - len(change.deletions) != new.entries:
        raise _Doubt("they don't make as many entries as its head says, or the tree was changed by hand")
    return _update(run, origin, data, new, index, change, lists, "deltas")


def _bounded(records: Iterator[Entry]) -> Iterator[Entry]:
    for number, one in enumerate(records):
        if number == _MOST:
            raise _Doubt("they are too long")
        yield one


def _by_manifest(
    run: Run, origin: str, data: bytes, former: Head | None, new: Head, index: Index, lists: _Lists, thorough: Container[bytes]
) -> Plan:
    trusted = bool(run.job.trusted_keys)
    lists.fetch_all(index)
    suspects: set[bytes] = set()
    for one in {
        one for known in (former, _seen(run)) if known is not None and known.epoch == new.epoch for one in index.since(known) or ()
    }:
        if lists.path(head.delta_name(one.serial)) is not None:
            suspects.update(record.path for record in lists.entries(one.serial, one.size, one.sha256, delta=True))
    deltas = [lists.entries(one.serial, one.size, one.sha256, delta=True) for one in index.after_manifest]
    whole = index.manifest
    entries = entry.merge(lists.entries(whole.serial, whole.size, whole.sha256), deltas)
    grain = _grain(lists.incoming)
    try:
        with _below(run) as below:
            listed = entry.counted(entries, new.counts)
            change = from_manifest(below, listed, suspects=_Either(suspects, thorough), grain=grain, most=None if trusted else _MOST)
    except TooMuch:
        raise _Doubt("nearly everything differs from its list") from None
    if fast.remembered(run, "seen").get("head") == _text(data) and not trusted and _brings_or_takes(run, change):
        # rsync had brought the tree when this very head was there already.
        raise _Doubt("it isn't the head of the tree that the source has")
    if trusted:
        run.record.last_compared = report.utc(time.time())
    return _update(run, origin, data, new, index, change, lists, "manifest")


class _Either:
    """What is in one of two containers."""

    def __init__(self, one: Container[bytes], other: Container[bytes]) -> None:
        self._one, self._other = one, other

    def __contains__(self, path: object) -> bool:
        return path in self._one or path in self._other


def _brings_or_takes(run: Run, change: Change) -> bool:
    """Whether there is more to do than to set modes and times, which rsync leaves alone if they are of the same second."""
    if change.files or change.copies or change.links or change.deletions or change.created:
        return True
    with _below(run) as below:
        return any(_link(below, one.path) != one.target for one in change.symlinks)


def _link(below: Below, path: bytes) -> bytes | None:
    """What the symlink at ``path`` says; None if there is none."""
    with contextlib.suppress(OSError, Unexpected):
        above, name = below.parent(path)
        return os.readlink(name, dir_fd=above)
    return None


def _update(run: Run, origin: str, data: bytes, new: Head, index: Index, change: Change, lists: _Lists, way: str) -> Plan:
    """The plan, with the numbers for the guards; if there is nothing to do, the head is ours at once."""
    # Mirrors that pull from here may be further behind than this one.
    lists.fetch_all(index)
    if lists.path(head.manifest_name(index.manifest.serial)) is None:
        raise _Doubt("its list of everything is missing")
    found = Plan(origin, rsync.Tally(), carry_out=partial(_carry_out, run, _Update(origin, change, new, data, index, way)))
    for path in change.deletions:
        found.take(f"*deleting  |0|{as_rsync_writes(path)}{'/' if path in change.gone_directories else ''}")
    found.tally.entries, found.tally.created, found.tally.items = new.entries, change.created, change.steps
    found.tally.files, found.tally.size = len(change.files), change.size
    run.record.entries, run.record.way = new.entries, way
    if not change.steps:
        adopt(run, origin, data, new, index)
    return found


def as_rsync_writes(path: bytes) -> str:
    """A path as rsync's itemised output has it, so that what an operator approved is the same whichever way a run takes."""
    return "".join(
        chr(byte) if (32 <= byte < 127 and not _looks_escaped(path, number)) or byte == 9 else f"\\#{byte:03o}"
        for number, byte in enumerate(path)
    )


def _looks_escaped(path: bytes, number: int) -> bool:
    return path[number : number + 2] == b"\\#" and len(path) > number + 4 and path[number + 2 : number + 5].isdigit()


# Lists


class _Lists:
    """The files that a head leads to: those that the tree has already, and those that are fetched beside them."""

    def __init__(self, run: Run, origin: str) -> None:
        self._run, self._origin = run, origin
        self.own = Path(run.job.tree) / IN_TREE
        self.incoming = self.own / INCOMING
        os.close(apply.staging_directory(self.incoming))
        self._fresh = self.incoming / "lists"
        self._fresh.mkdir(exist_ok=True)

    def path(self, name: str) -> Path | None:
        """Where a list is; None if it is not here."""
        return next((path for path in (self._fresh / name, self.own / name) if path.is_file() and not path.is_symlink()), None)

    def take_offered(self, new: Head) -> None:
        """Have what came with the head as if it had been fetched, if it belongs to this head."""
        offered = self._run.places.offered(self._run.job.name) / RECENT
        if not offered.is_file() or offered.stat().st_size > recent.LONGEST:
            return
        members = recent.read(offered.read_bytes())
        try:
            index = head.parse_index(members.get(head.index_name(new.serial), b""), new)
        except Failure:
            return  # It is of another head: the files themselves are asked for.
        name = head.index_name(new.serial)
        if self.path(name) is None:
            (self._fresh / name).write_bytes(members[name])
        for one in index.deltas:
            name = head.delta_name(one.serial)
            if name in members and self.path(name) is None and entry.is_list(members[name], one.size, one.sha256):
                (self._fresh / name).write_bytes(members[name])

    def fetch(self, names: list[str], most: int) -> None:
        """Bring those that are not here, in one connection; some may be missing at the source. Raises Failure if it can't be asked."""
        run = self._run
        missing = sorted({name for name in names if self.path(name) is None})
        if not missing:
            return
        wanted = run.places.state(run.job.name) / "names"
        rsync.list_names(wanted, self._origin, map(str.encode, missing), IN_TREE)
        ended = run.fetch(rsync.fetch_some(run.program, run.job, self._origin, IN_TREE, wanted, self._fresh, most), self._origin)
        failure = rsync.failure(ended, self._origin, run.job.target)
        if failure is not None and failure.kind != "incomplete":
            raise failure

    def fetch_all(self, index: Index) -> None:
        """Bring whatever the index names and is not here."""
        names = [head.manifest_name(index.manifest.serial), *(head.delta_name(one.serial) for one in index.deltas)]
        self.fetch(names, max(one.size for one in (index.manifest, *index.deltas)) + (1 << 20))

    def index(self, new: Head) -> Index:
        """The index of a head. Raises _Doubt, Failure (``bad_head``)."""
        path = self.path(head.index_name(new.serial))
        if path is None:
            raise _Doubt(f"it has no {head.index_name(new.serial)}")
        if path.stat().st_size > head.LONGEST_INDEX:
            raise _Doubt("its index is too long")
        try:
            return head.parse_index(path.read_bytes(), new)
        except Failure:
            self._remove(path)
            raise

    def entries(self, serial: int, size: int, sha256: str, *, delta: bool = False) -> Iterator[Entry]:
        """What a list has. Raises _Doubt, Failure (``bad_manifest``)."""
        name = head.delta_name(serial) if delta else head.manifest_name(serial)
        path = self.path(name)
        if path is None:
            raise _Doubt(f"{name} is missing")
        try:
            yield from entry.read(path, size, sha256, delta=delta)
        except Failure:
            self._remove(path)
            raise

    def _remove(self, path: Path) -> None:
        """Remove a list that isn't what it should be. Raises _Damaged if it was not fetched just now, so that the source's may be better."""
        path.unlink(missing_ok=True)
        if path.parent == self.own:
            raise _Damaged(path.name) from None


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


# Carrying out


def _carry_out(run: Run, update: _Update) -> bool:
    """Make the tree what the guards have agreed to. False if that can't be done this way, and another one has to be found.

    Raises Failure if it can't be done at all.
    """
    incoming = Path(run.job.tree) / IN_TREE / INCOMING
    former = run.record.unfinished
    top = os.open(run.job.tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        staging = apply.staging_directory(incoming)
        try:
            _bring(run, update, incoming, staging)
            run.recorder.phase("finish")
            if update.way == "manifest":
                # After a power loss nothing would tell a torn file from a whole one; what deltas name is read again anyway.
                apply.settle(top)
            fast.doubt(run)
            run.record.unfinished = True
            apply.carry_out(top, staging, update.change, matcher(run.job.index_patterns))
            apply.settle(top)
        finally:
            os.close(staging)
    except (_Doubt, Unexpected, OSError, OverflowError) as problem:
        _raise_if_local(run, problem)
        # Deltas may not have fitted the tree; the list of everything fits any.
        doubt = problem if isinstance(problem, _Doubt) else _Doubt(f"{problem}", lasting=update.way != "deltas")
        if doubt is not problem:
            fast.doubt(run)
        _give_up(run, update.source, update.data, doubt)
        if not doubt.lasting:
            fast.note(run, seen={})
        return False
    finally:
        os.close(top)
    for path in update.change.deletions:
        run.recorder.log(f"*deleting  |0|{as_rsync_writes(path)}")
    run.record.deletions += len(update.change.deletions)
    adopt(run, update.source, update.data, update.head, update.index)
    run.record.unfinished = former
    return True


def _raise_if_local(run: Run, problem: Exception) -> None:
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


def _bring(run: Run, update: _Update, incoming: Path, staging: int) -> None:
    """Have the content of all files in the staging directory, each with the digest that the list gives it. Raises _Doubt, Failure."""
    job, files = run.job, incoming / apply.FILES
    began_before = files.is_dir()
    missing = apply.lacking(staging, update.change.files)
    for again in (False, True):
        if missing:
            _transfer(run, update.source, missing, files)
            missing = apply.lacking(staging, missing)
        if not missing:
            return
        if again or not began_before:
            break
        shutil.rmtree(files)  # What an earlier run has left may stand in the way.
        missing = list(update.change.files)
    name = as_rsync_writes(missing[0].path)
    raise _Doubt(f"{len(missing)} files, {name} among them, are not what it says; {job.tree} was not touched")


def _transfer(run: Run, origin: str, missing: list[Entry], files: Path) -> None:
    files.mkdir(mode=0o700, exist_ok=True)
    names = run.places.state(run.job.name) / "names"
    rsync.list_names(names, origin, (one.path for one in missing))
    most = max(one.size for one in missing)

    def command(limit: int) -> list[str]:
        return rsync.bring(run.program, run.job, origin, names, files, most, bandwidth=limit)

    dummy, ended = run.transfer("transfer", origin, command)
    failure = rsync.failure(ended, origin, run.job.target)
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
    fast.note(run, seen={}, void=void, trusted={"head": _text(data)} if run.job.trusted_keys else {})
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
