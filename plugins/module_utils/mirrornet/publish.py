# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The procedure on a master: look at the tree, and if it isn't what its head says, write what is new and then another head.

What a killed call leaves is either not announced by any head, or finished by the next call. docs/reference_formats.md has what is written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from . import apply, contents, digests, entry, files, head, job, lists, lock, look, recent, report, scan
from .entry import Counts
from .errors import Exit, Failure
from .head import Head, Index, Listed
from .look import Found
from .places import IN_TREE, RECENT, Places
from .published import STATE, State
from .record import dataclass, replace

#: Deltas that an index lists, so that a mirror which has missed some needs no manifest.
KEEP = 64
#: Seconds for which a file stays that no index lists any more: a mirror may be about to read it.
GRACE = 86400
#: A new manifest is written when the deltas since the last one are as many, or have this share of its size.
_MOST_DELTAS = 64
_SHARE = 0.1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LISTED = re.compile(r"(?:index-|delta-|contents-|manifest-)([1-9][0-9]{0,17})(?:\.gz)?")
_DRAFT = re.compile(r"\.(?:head|recent|index-\d+|delta-\d+\.gz|contents-\d+|manifest-\d+\.gz)\.new")
#: Seconds between two words on progress.
_TELL_EVERY = 0.5
_Written = TypeVar("_Written")
#: In the tree's own directory: as long as it is there, nothing is published.
FLAG = "rebuilding"
#: In there too: who publishes holds its lock. It has the name that the tree is published under.
LOCK = "publish.lock"
#: Seconds that a tree can be wanted to be left alone for.
LONGEST_SETTLE = 3600
#: Seconds after which a person is told that nothing is published, where that is nobody's fault, and after which anything is told again.
_LASTS = report.ALARM_AGAIN


@dataclass(frozen=True)
class Wish:
    """What is to be published, and how."""

    tree: Path
    #: What its state is kept under.
    name: str
    #: rsync patterns of what mirrors don't get.
    exclude: tuple[str, ...] = ()
    #: File with the private key that signs heads.
    key: Path | None = None
    keep: int = KEEP
    #: Whether everything is digested again, and a new epoch begun.
    anew: bool = False
    #: Seconds for which nothing may have changed in the tree before it is published.
    settle: float = 0


@dataclass
class Publication:
    """How a call ended. Field names are part of the format: they are added to, never renamed."""

    tree: str
    name: str
    #: ``published``, ``unchanged``, ``busy``, ``held`` or ``failed``.
    outcome: str = "failed"
    kind: str | None = None
    message: str = ""
    remedy: str = ""
    exit_code: int = 0
    serial: int | None = None
    epoch: str | None = None
    #: Why a new epoch begins; empty if none does.
    new_epoch: str = ""
    entries: int | None = None
    files: int | None = None
    size: int | None = None
    #: Entries that are new or changed since the former head, and that are gone; None where these weren't counted.
    changed: int | None = None
    gone: int | None = None
    #: Files whose content was read, and their bytes.
    digested: int = 0
    digested_size: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        """The call in one line, for people."""
        if self.outcome == "unchanged":
            return f"{self.tree}: unchanged (serial {self.serial})"
        if self.outcome != "published":
            return f"{self.tree}: {self.outcome}: {self.message} {self.remedy}".rstrip()
        what = f"new epoch, since {self.new_epoch}" if self.new_epoch else "written as a whole"
        if self.changed is not None:
            what = f"{self.changed} entries new or changed, {self.gone} gone"
        read = f"{self.digested} files digested ({report.human(self.digested_size)})"
        return f"{self.tree}: published serial {self.serial}: {what}; {self.entries} entries in all; {read}, {self.seconds:.1f} s"


Progress = Callable[[digests.Done], None]


class Terminal:
    """Progress for whoever watches: one line that is written over again."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._told = 0.0

    def __call__(self, done: digests.Done) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY:
            self._told = now
            self._stream.write(f"\r{done.files} files read, {report.human(done.size)} \x1b[K")
            self._stream.flush()

    def clear(self) -> None:
        if self._told:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def usual_name(places: Places, tree: Path) -> str:
    """The name for the state of ``tree`` that it was published under before, or else one that no other tree has."""
    noted = _noted_name(tree)
    if noted and _is_of(tree, places.state(f"publish-{noted}")):
        return noted
    words = re.sub(r"[^A-Za-z0-9-]+", "-", tree.name).strip("-")[:40] or "tree"
    return f"{words}-{hashlib.sha256(os.fsencode(tree)).hexdigest()[:8]}"


def publish(places: Places, wish: Wish, progress: Progress = lambda done: None, *, only_look: bool = False) -> Publication:
    """Publish ``wish.tree`` if it has changed. ``only_look`` tells whether it has, and changes nothing but what is kept of digests.

    Returns what happened; doesn't raise Failure.
    """
    started = time.monotonic()
    done = Publication(tree=str(wish.tree), name=wish.name)
    try:
        try:
            _check(places, wish)
            if only_look and not os.path.lexists(wish.tree / IN_TREE):
                done.outcome = "published"
                return done
            state = _state_directory(places, wish)
            with key_at_hand(wish) as ready:
                _become_owner(wish.tree / IN_TREE, state)
                own = _own_directory(wish.tree)
                with lock.exclusive(own / LOCK) as fd:
                    # Clients of the tree see it too, and one that can't read something deletes nothing any more.
                    os.fchmod(fd, 0o644)
                    _usable(state)
                    _Work(ready, own, state, fd, done, progress).run(only_look)
        except OSError as error:
            raise _local(error) from error
    except lock.Busy:
        done.outcome, done.kind, done.exit_code = "busy", "busy", int(Exit.BUSY)
        done.message, done.remedy = "somebody else is publishing it.", "Nothing to do: one at a time is the rule."
    except Failure as failure:
        done.outcome = "held" if failure.exit_code is Exit.HELD else "failed"
        done.kind, done.exit_code = failure.kind, int(failure.exit_code)
        done.message, done.remedy = failure.message, failure.remedy
    done.seconds = round(time.monotonic() - started, 3)
    return done


def is_news(places: Places, done: Publication, now: float) -> bool:
    """Whether a person is to be told how a call ended, which is noted: of a failure when it begins and once a day.

    That the tree is being rebuilt or published by somebody else is as it should be, unless it lasts for a day.
    """
    if not _NAME.fullmatch(done.name):
        return True
    path = places.state(f"publish-{done.name}") / "told.json"
    try:
        if not done.exit_code:
            path.unlink(missing_ok=True)
            return False
        before = files.read_json(path)
        since, told = (float(before.get(name) or 0) for name in ("since", "told"))
        since = since if 0 < since <= now else now
        patient = done.outcome in ("busy", "held") and now < since + _LASTS
        another = done.outcome == "failed" and done.kind != before.get("kind")
        news = not patient and (another or not now - _LASTS < told <= now)
        note = {"since": since, "kind": done.kind if news else before.get("kind"), "told": now if news else told}
        files.replace(path, files.to_json(note), durable=False)
    except (OSError, TypeError, ValueError):  # What can't be noted is told.
        return bool(done.exit_code)
    return news


def _local(error: OSError) -> Failure:
    where = f" ({scan.shown(os.fsencode(error.filename))})" if isinstance(error.filename, (str, bytes)) else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(
            "disk_full", Exit.LOCAL_IO, f"A disk is full{where}.", "Make room; the former head stands, and the next call goes on from here."
        )
    remedy = "Check owner, mode and file system. The former head stands."
    return Failure("local_io", Exit.LOCAL_IO, f"{error.strerror or error}{where}.", remedy)


# Before


def _check(places: Places, wish: Wish) -> None:
    tree = wish.tree
    if not _NAME.fullmatch(wish.name):
        message = f"The name {wish.name!r} must be up to 63 letters, digits, '.', '-' and '_', the first a letter or digit."
        raise Failure("definition", Exit.CONFIG, message, "Choose another.")
    scan.check(wish.exclude)
    if not 1 <= wish.keep <= 1000:
        raise Failure("definition", Exit.CONFIG, f"{wish.keep} deltas can't be kept.", "Choose 1 to 1000.")
    if not 0 <= wish.settle <= LONGEST_SETTLE:
        message = f"A tree can't be left alone for {wish.settle:g} seconds."
        raise Failure("definition", Exit.CONFIG, message, f"Choose 0 to {LONGEST_SETTLE}.")
    if not tree.is_dir():
        raise Failure("target_missing", Exit.TARGET, f"{tree} is not a directory.", "Name the top directory of the tree.")
    _check_flag(tree)
    _check_mirrors(places, tree)


def _check_flag(tree: Path) -> None:
    if os.path.lexists(tree / IN_TREE / FLAG):
        message = f"{tree}/{IN_TREE}/{FLAG} is there: the tree is being changed."
        raise Failure(
            "rebuilding", Exit.HELD, message, "Nothing was published. Whatever has put that file there takes it away when it is done."
        )


def _check_mirrors(places: Places, tree: Path) -> None:
    """A mirror passes its source's head on. One of its own would make it another tree to everybody who pulls from here."""
    resolved = tree.resolve()
    for where in {places.config_dir: places, Path("/etc/mirrornet"): Places(Path("/etc/mirrornet"), places.state_dir)}.values():
        for name in job.names(where):
            try:
                target = Path(job.load(where, name).target).resolve()
            except Failure:
                continue
            if target == resolved or target in resolved.parents:
                message = f"{tree} is the tree of the job {name}, which passes on the head of its source."
                raise Failure("is_mirror", Exit.CONFIG, message, "Publish on the master only; mirrors need nothing for it.")
    if (tree / IN_TREE / "report.json").exists():
        message = f"{tree} is a mirror: a pull has left its report in {IN_TREE}."
        remedy = f"Publish on the master only. If this is the master now, remove {tree}/{IN_TREE} first."
        raise Failure("is_mirror", Exit.CONFIG, message, remedy)


def _own_directory(tree: Path) -> Path:
    own = tree / IN_TREE
    with contextlib.suppress(FileExistsError):
        own.mkdir(mode=0o755)
    if not files.is_real_directory(own):
        raise Failure("target_not_directory", Exit.TARGET, f"{own} is not a directory.", "Remove what is there.")
    if not os.access(own, os.W_OK | os.X_OK):
        message = f"The account that publishes can't write to {own}."
        raise Failure(
            "target_not_writable", Exit.TARGET, message, "Give that directory to it; nothing else in the tree needs to be writable."
        )
    return own


def _state_directory(places: Places, wish: Wish) -> Path:
    state = places.state(f"publish-{wish.name}")
    try:
        state.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(state, error.strerror) from error
    return state


def _usable(state: Path) -> None:
    if not os.access(state, os.W_OK | os.X_OK):
        raise _unusable(state, os.strerror(errno.EACCES))


def _unusable(state: Path, why: str | None) -> Failure:
    remedy = "Check its owner: it belongs to the account that publishes; or choose another with --state-dir."
    return Failure("state_unusable", Exit.LOCAL_IO, f"The state directory {state} can't be used: {why}.", remedy)


def _other_owner(own: Path) -> os.stat_result | None:
    """Who goes on in place of root, if this is root: the account that owns the tree's own directory."""
    if os.geteuid() != 0 or not files.is_real_directory(own):
        return None
    owner = own.lstat()
    return owner if owner.st_uid != 0 else None


@contextlib.contextmanager
def key_at_hand(wish: Wish) -> Iterator[Wish]:
    """The same wish, its key where root can leave it to the account that goes on: such a key is often readable for root alone."""
    owner = _other_owner(wish.tree / IN_TREE)
    if wish.key is None or owner is None or wish.key.parent == Path("/dev/fd"):
        yield wish
        return
    try:
        file = head.key_in_memory(wish.key, owner.st_uid)
    except OSError:  # What is wrong with it is told when it is used.
        yield wish
        return
    with file:
        yield replace(wish, key=Path(f"/dev/fd/{file.fileno()}"))


def _become_owner(own: Path, state: Path) -> None:
    """Go on as the account that owns the tree's own directory: a call by root would leave files that the scheduled ones can't replace."""
    owner = _other_owner(own)
    if owner is None:
        return
    if state.lstat().st_uid == 0:
        os.chown(state, owner.st_uid, owner.st_gid)
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def _noted_name(tree: Path) -> str:
    """The name that the tree was published under last, as the tree itself has it; empty if that isn't known."""
    with contextlib.suppress(OSError, ValueError), (tree / IN_TREE / LOCK).open("rb") as file:
        name = file.read(100).decode("ascii").rstrip("\n")
        return name if _NAME.fullmatch(name) else ""
    return ""


def _is_of(tree: Path, directory: Path) -> bool:
    """Whether the state in ``directory`` is the one of ``tree``. What the tree itself says of it may have come with a copy."""
    state = State.read(directory / STATE)
    return state is not None and state.tree == str(tree)


# At work


class _Work:
    """One call, with the lock."""

    def __init__(self, wish: Wish, own: Path, state: Path, lock_fd: int, done: Publication, progress: Progress) -> None:
        self._wish, self._own, self._directory, self._lock_fd = wish, own, state, lock_fd
        self._done, self._progress = done, progress
        self._key = head.fingerprint(wish.key) if wish.key is not None else ""
        self._state = self._remembered()

    def run(self, only_look: bool) -> None:
        state, wish = self._state, self._wish
        why = self._new_epoch()
        published = state.generation if state is not None else None
        found = look.Look(wish.tree, wish.exclude, self._directory, self._lock_fd, self._note, wish.settle).take(
            published, settled=state is not None and state.settled, compare=not why, trust=not wish.anew
        )
        if (
            state is not None
            and not why
            and self._is_whole(state)
            and (found is None or (found.delta is not None and not found.delta.entries))
        ):
            if found is not None and not only_look:
                self._adopt(state, found)
            self._tell("unchanged", state)
            if not only_look:
                self._sign_off()
            return
        if found is None and state is not None:  # The tree is the same, but files that its head needs are gone.
            kept = look.kept(self._directory, state.generation)
            found = Found(kept, look.load(kept), None)
        if found is None:
            raise AssertionError("without a state there is always something to find")
        if found.delta is not None:
            self._done.gone = found.delta.gone
            self._done.changed = len(found.delta.entries) - found.delta.gone
        self._done.outcome, self._done.new_epoch = "published", why
        if not only_look:
            self._tell("published", self._announce(found, why))
            self._sign_off()

    def _tell(self, outcome: str, state: State) -> None:
        done = self._done
        done.outcome, done.serial, done.epoch = outcome, state.serial, state.epoch
        done.entries, done.files, done.size = state.counts

    def _sign_off(self) -> None:
        """Leave the time of a call that went well, where no mirror looks, and the name that it had, for calls that have another."""
        os.utime(self._directory / STATE)
        name = f"{self._wish.name}\n".encode("ascii")
        if os.pread(self._lock_fd, len(name) + 1, 0) != name:
            os.ftruncate(self._lock_fd, 0)
            os.pwrite(self._lock_fd, name, 0)
            os.utime(self._lock_fd, ns=(0, 0))

    def _note(self, done: digests.Done) -> None:
        self._done.digested, self._done.digested_size = done.files, done.size
        self._progress(done)

    # What is remembered

    @property
    def _head(self) -> Path:
        return self._own / "head"

    def _remembered(self) -> State | None:
        """The state. That of a call which was killed after its head was in place is made up for."""
        path, pending = self._directory / STATE, self._directory / "pending.json"
        state, begun = State.read(path), State.read(pending)
        if begun is not None and begun.tree == str(self._wish.tree) and begun.head == self._sha256_of_head():
            begun.write(path)
            state = begun
        pending.unlink(missing_ok=True)
        return state if state is not None and state.tree == str(self._wish.tree) else None

    def _sha256_of_head(self) -> str:
        try:
            return hashlib.sha256(self._head.read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""

    def _new_epoch(self) -> str:
        """Why a new epoch has to begin; empty if none has."""
        state = self._state
        if self._wish.anew:
            return "that was asked for"
        self._check_name()
        if state is None:
            return "nothing is known of the former head" if os.path.lexists(self._head) else "nothing was published before"
        if look.kept(self._directory, state.generation).sizes != state.sizes:
            return "what was kept of the last call is lost"
        if self._sha256_of_head() != state.head:
            return "the head in the tree is not the one that was published last"
        if state.key and not self._key:
            remedy = "Name the key with --sign-key, or go on without one on purpose with --anew."
            raise Failure("no_signature", Exit.CONFIG, "The last head was signed, and this call names no key.", remedy)
        if self._key != state.key:
            return "the key that signs has changed"
        return ""

    def _check_name(self) -> None:
        """Two states of one tree would take turns at new epochs."""
        if self._state is not None and self._state.head == self._sha256_of_head():
            return
        tree, name = self._wish.tree, _noted_name(self._wish.tree)
        if name not in ("", self._wish.name) and _is_of(tree, self._directory.with_name(f"publish-{name}")):
            message = f"{tree} was published under the name {name}, and this call has the name {self._wish.name}."
            remedy = f"Call it with --name {name}; or once with --anew, if it is to have this name from now on."
            raise Failure("other_name", Exit.CONFIG, message, remedy)

    def _is_whole(self, state: State) -> bool:
        """Whether everything is there that the head needs."""
        return all((self._own / name).is_file() for name in state.names)

    # Announcing

    def _announce(self, found: Found, why: str) -> State:
        """Write what is new, then the head, then what is remembered of it."""
        former, wish = self._state, self._wish
        found.kept.save(found.digests)
        now = time.time()
        continued = former if former is not None and not why else None
        serial = continued.serial + 1 if continued is not None else self._free_serial()
        written = self._lists(found, serial, continued)
        _check_flag(wish.tree)
        # A head that outlives a power loss speaks of content that does.
        apply.settle(self._lock_fd)
        index = written.index.to_bytes()
        files.replace(self._own / head.index_name(serial), index)
        head_time = self._head_time(now)
        # Before the head, so that nobody who has seen it gets an older one; not durably, since it is only a copy.
        files.replace(self._own / RECENT, recent.collect(self._own, written.index), mtime_ns=head_time * 10**9, durable=False)
        new = Head(
            epoch=continued.epoch if continued is not None else secrets.token_hex(16),
            serial=serial,
            index=hashlib.sha256(index).hexdigest(),
            entries=written.counts.entries,
            files=written.counts.files,
            size=written.counts.size,
            time=report.utc(now),
        )
        if wish.key is not None:
            new = head.sign(new, wish.key)
        data = new.to_bytes()
        retired, expired = self._retired(written.index, now)
        state = State(
            tree=str(wish.tree),
            generation=found.generation,
            sizes=found.kept.sizes,
            settled=not found.digests.open,
            epoch=new.epoch,
            serial=serial,
            head=hashlib.sha256(data).hexdigest(),
            head_time=head_time,
            index=new.index,
            counts=written.counts,
            manifest=written.index.manifest,
            deltas=list(written.index.deltas),
            key=self._key,
            retired=retired,
        )
        state.write(self._directory / "pending.json")
        files.replace(self._head, data, mtime_ns=state.head_time * 10**9)
        self._remember(state)
        for path in expired:
            path.unlink(missing_ok=True)
        return state

    def _lists(self, found: Found, serial: int, former: State | None) -> _Lists:
        """Write the delta, and a manifest where one is due."""
        delta, deltas, counts = found.delta, list[Listed](), None
        # One that says nearly everything is of no use to anybody.
        if former is not None and delta is not None and self._is_whole(former) and len(delta.entries) < former.counts.entries + 1000:
            stored = self._write(head.delta_name(serial), lambda file: entry.save(file, delta.entries))
            if any(map(contents.is_wanted, delta.entries)):
                pieces = contents.collect(self._wish.tree, delta.entries)
                self._write(head.contents_name(serial), lambda file: file.writelines(pieces))
            else:
                (self._own / head.contents_name(serial)).unlink(missing_ok=True)  # A call that was killed may have left it.
            deltas = [*former.deltas, Listed(serial, stored.sha256, stored.size, former.index)][-self._wish.keep :]
            counts = Counts(*(before + more for before, more in zip(former.counts, delta.more)))
            index = Index(former.manifest, tuple(deltas))
            reach = index.after_manifest
            lead = deltas[0].serial - 1 <= former.manifest.serial
            if lead and len(reach) < _MOST_DELTAS and sum(listed.size for listed in reach) <= _SHARE * former.manifest.size:
                return _Lists(index, counts)
        tally = lists.Tally()
        entries = lists.manifest(found.kept.scan, found.digests, self._directory)
        stored = self._write(head.manifest_name(serial), lambda file: entry.save(file, tally.take(entries)))
        if counts != tally.counts:  # Something else than expected: the whole counts, not what leads to it.
            deltas = []
        return _Lists(Index(Listed(serial, stored.sha256, stored.size), tuple(deltas)), tally.counts)

    def _write(self, name: str, write: Callable[[IO[bytes]], _Written]) -> _Written:
        """A file, durably, whole or not at all; returns what ``write`` says of it."""
        draft = self._own / f".{name}.new"
        try:
            with draft.open("wb") as file:
                written = write(file)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            draft.replace(self._own / name)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        files.sync_directory(self._own)
        return written

    def _free_serial(self) -> int:
        """Above all that any epoch has left in the tree, so that no file gets another content under its name."""
        taken = [int(match[1]) for path in self._own.iterdir() if (match := _LISTED.fullmatch(path.name))]
        taken.append(self._state.serial if self._state is not None else 0)
        with contextlib.suppress(OSError, Failure):
            taken.append(head.parse(self._head.read_bytes()).serial)
        return max(taken) + 1

    def _head_time(self, now: float) -> int:
        """The head's mtime: later than that of each head before in whole seconds, so that rsync sees by it that the head is another."""
        before = self._state.head_time if self._state is not None else 0
        with contextlib.suppress(FileNotFoundError):
            before = max(before, int(self._head.lstat().st_mtime))
        return max(int(now), before + 1)

    def _retired(self, index: Index, now: float) -> tuple[dict[str, float], list[Path]]:
        """The files that no index lists any more, with the time since when; and those to remove."""
        before = self._state.retired if self._state is not None else {}
        # Contents are no part of what a head needs.
        listed = index.names | {head.contents_name(delta.serial) for delta in index.deltas}
        retired, expired = {}, []
        for path in self._own.iterdir():
            if _DRAFT.fullmatch(path.name) and path != self._own / ".head.new":
                expired.append(path)
            elif _LISTED.fullmatch(path.name) and path.name not in listed:
                since = min(before.get(path.name, now), now)
                if since < now - GRACE:
                    expired.append(path)
                else:
                    retired[path.name] = since
        return retired, expired

    def _adopt(self, state: State, found: Found) -> None:
        """The head stands, but more is known of what it stands for."""
        found.kept.save(found.digests)
        self._remember(replace(state, generation=found.generation, sizes=found.kept.sizes, settled=not found.digests.open))

    def _remember(self, state: State) -> None:
        state.write(self._directory / STATE)
        (self._directory / "pending.json").unlink(missing_ok=True)
        look.forget(self._directory, state.generation)


@dataclass(frozen=True)
class _Lists:
    """What a head is about to promise, written already."""

    index: Index
    counts: Counts
