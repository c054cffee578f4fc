# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting a job in place on a host, and taking it away: first everything that is wrong or would change, then the changes."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from . import lock, package, rsync, schedule
from .errors import Exit, Failure
from .files import Owner, replace, sync_directory
from .job import Job, conflicts, load, lock_of, names
from .places import IN_TREE, Places, default_places

CRON_D = Path("/etc/cron.d")


@dataclass
class Change:
    """One thing that is not yet as it should be. ``before`` and ``after`` are for people; neither holds anything secret."""

    path: str
    before: str
    after: str
    apply: Callable[[], None]


@dataclass
class Prepared:
    """What would change, and what a person should know. ``problems`` are reasons to change nothing at all."""

    changes: list[Change] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    #: Problems that an earlier task may be about to solve, as long as nothing is really done: a package, an account.
    missing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def differences(self) -> list[dict[str, str]]:
        """The changes as Ansible shows them."""
        return [
            {"before_header": change.path, "after_header": change.path, "before": change.before, "after": change.after}
            for change in self.changes
        ]

    def carry_out(self) -> None:
        """Make the changes, in their order. Raises Failure or OSError at one that can't be made; those before it stay, and can be made again."""
        for change in self.changes:
            change.apply()


@dataclass(frozen=True)
class Installation:
    """Where and how a job is installed: for the system by root, else for the user who calls."""

    places: Places
    command: Path
    python: str
    when: str = schedule.NEVER
    #: Minutes, or None for the host's own.
    offset: int | None = None
    mailto: str | None = None
    #: The password for the sources' daemons; it goes into a file of its own, which the account alone can read.
    password: str | None = None
    #: The password with which reports are handed in, likewise.
    report_password: str | None = None

    @property
    def is_system(self) -> bool:
        return os.geteuid() == 0

    def argv(self, job: str) -> list[str]:
        """The command that cron runs."""
        # A system job is run by an account of its own, for which root's places are not the usual ones.
        usual = None if self.is_system else default_places()
        where = []
        if usual is None or self.places.config_dir != usual.config_dir:
            where += ["--config-dir", str(self.places.config_dir)]
        if usual is None or self.places.state_dir != usual.state_dir:
            where += ["--state-dir", str(self.places.state_dir)]
        return [str(self.command), *where, "pull", "--quiet", job]


def default_command() -> Path:
    """Where the command goes if nothing else is said."""
    return Path("/usr/local/bin/mirrornet") if os.geteuid() == 0 else Path.home() / ".local" / "bin" / "mirrornet"


def present(job: Job, how: Installation) -> Prepared:
    """What it takes to have ``job`` defined, the command in place and the schedule set."""
    prepared = Prepared()
    owner = _account(job, how, prepared)
    _check_host(job, how, prepared)
    entry = _schedule_entry(job, how, prepared)
    # The other job may be one that an earlier task is about to remove.
    prepared.missing += conflicts(how.places, job)
    definition = how.places.definition(job.name)
    steps: list[Change | None] = [
        *_directory(definition.parent),
        *_directory(how.places.state_dir),
        *_directory(how.places.state(job.name), owner=owner),
        *_directory(how.command.parent),
        *_passwords(job, how, owner),
        _file(how.command, package.command(how.python), 0o755, shown=_describe),
        _target(job, owner, prepared),
        _file(definition, job.to_bytes(), 0o644),
        entry,  # Last, so that cron never finds an entry whose job isn't there yet.
    ]
    prepared.changes = [step for step in steps if step is not None]
    return prepared


@contextlib.contextmanager
def not_running(places: Places, name: str) -> Iterator[None]:
    """Keep runs of job ``name`` from starting for the length of the block. Raises Failure if one is at work."""
    path = places.lock(name)
    with contextlib.suppress(Failure):
        path = lock_of(places, load(places, name))
    if not path.exists():
        yield
        return
    try:
        with lock.exclusive(path):
            yield
    except lock.Busy:
        message = f"Job {name} is running: nothing was removed."
        raise Failure("busy", Exit.BUSY, message, "Wait for the run to end, or stop it, and try again.") from None


def absent(name: str, how: Installation, *, remove_tree: bool) -> Prepared:
    """What it takes to have no trace of job ``name``; its tree stays, unless asked otherwise. To be carried out within ``not_running``."""
    prepared = Prepared()
    target = _installed_target(how.places, name, remove_tree)
    state = how.places.state(name)
    secret = how.places.secret(name)
    steps: list[Change | None] = [_no_schedule_entry(name, how), _gone(how.places.definition(name))]
    steps += [_gone(secret), _gone(how.places.report_secret(name))]
    if target is not None:
        steps.append(_gone(target if remove_tree else target / IN_TREE))
    steps.append(_gone(state))
    if not set(names(how.places)) - {name}:
        if not _needs(how.places):
            steps.append(_gone(how.command) if _is_ours(how.command) else None)
        steps += [_gone_if_empty(path) for path in (secret.parent, how.places.definitions, how.places.config_dir, how.places.state_dir)]
    prepared.changes = [step for step in steps if step is not None]
    return prepared


def command_present(name: str, how: Installation) -> Prepared:
    """What it takes to have the command in place for something that is no job and is called ``name``: a service of a master, say.

    The name is noted on the host, so that the command doesn't go with the last job.
    """
    prepared = Prepared()
    _check_command(how, prepared)
    note = how.places.needs / name
    steps: list[Change | None] = [
        *_directory(how.command.parent),
        _file(how.command, package.command(how.python), 0o755, shown=_describe),
        *_directory(note.parent),
        _file(note, f"{how.command}\n".encode(), 0o644),
    ]
    prepared.changes = [step for step in steps if step is not None]
    return prepared


def command_absent(name: str, how: Installation) -> Prepared:
    """What it takes that ``name`` doesn't need the command any more; it goes when neither a job nor anything else does."""
    prepared = Prepared()
    steps = [_gone(how.places.needs / name)]
    if not _needs(how.places) - {name}:
        steps.append(_gone_if_empty(how.places.needs))
        if not names(how.places):
            steps.append(_gone(how.command) if _is_ours(how.command) else None)
            steps += [_gone_if_empty(path) for path in (how.places.definitions, how.places.config_dir)]
    prepared.changes = [step for step in steps if step is not None]
    return prepared


def _needs(places: Places) -> set[str]:
    """What needs the command on this host, beside jobs."""
    try:
        return {path.name for path in places.needs.iterdir() if not path.name.startswith(".")}
    except FileNotFoundError:
        return set()


# What the host must have


def _account(job: Job, how: Installation, prepared: Prepared) -> Owner | None:
    """Owner of what the job writes, where that isn't whoever calls."""
    if job.user is None:
        if how.is_system:
            prepared.warnings.append(f"Job {job.name} will run as root. A pull needs no privileges: name an account with 'user'.")
        return None
    if not how.is_system and job.user != pwd.getpwuid(os.geteuid()).pw_name:
        prepared.problems.append(f"user: only root can install a job for another account ({job.user!r}): leave 'user' out, or become root.")
        return None
    try:
        account = pwd.getpwnam(job.user)
    except KeyError:
        prepared.missing.append(f"user: this host has no account {job.user!r}: create it first, without a login.")
        return None
    return (account.pw_uid, account.pw_gid) if how.is_system else None


def _check_host(job: Job, how: Installation, prepared: Prepared) -> None:
    try:
        rsync.find()
    except Failure as failure:
        prepared.missing.append(str(failure))
    for name, password in (("password", how.password), ("report_password", how.report_password)):
        if password is not None and (not password or any(ord(character) < 32 for character in password)):
            prepared.problems.append(f"{name}: must be a text without control characters that isn't empty.")
    _check_command(how, prepared)


def _check_command(how: Installation, prepared: Prepared) -> None:
    if not os.access(how.python, os.X_OK):
        prepared.problems.append(f"python: there is no program {how.python}: name the Python 3.9 or later that is to run the command.")
    for name in ("command", "config_dir", "state_dir"):
        path = how.command if name == "command" else getattr(how.places, name)
        if not path.is_absolute() or any(ord(character) < 32 for character in str(path)):
            prepared.problems.append(f"{name}: {str(path)!r} must be an absolute path without control characters.")
    if how.command.exists() and not _is_ours(how.command):
        prepared.problems.append(f"command: {how.command} exists and is not mirrornet: remove it, or choose another path.")


def _target(job: Job, owner: Owner | None, prepared: Prepared) -> Change | None:
    target = Path(job.target)
    if target.is_dir():
        if not _writable_as(target, owner):
            who = job.user or pwd.getpwuid(os.geteuid()).pw_name
            prepared.problems.append(f"target: {target} is not writable for {who}: give it to that account (chown {who} {target}).")
        return None
    if target.exists() or target.is_symlink():
        prepared.problems.append(f"target: {target} exists and is no directory: remove it, or choose another target.")
        return None
    parent = next(path for path in target.parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        prepared.problems.append(f"target: {target} can't be created in {parent}: create it as root and give it to the account that pulls.")
        return None

    def make() -> None:
        target.mkdir(parents=True)
        if owner is not None:
            # Whose the directory above is could put a link in the new one's place.
            os.chown(target, *owner, follow_symlinks=False)

    return Change(str(target), "absent", _shown_directory(owner), make)


def _writable_as(path: Path, owner: Owner | None) -> bool:
    """Whether the account may write in ``path``; asked of the kernel by a child that becomes the account, so that ACLs count."""
    wanted = os.R_OK | os.W_OK | os.X_OK
    if owner is None or owner[0] == os.geteuid():
        return os.access(path, wanted)
    child = os.fork()
    if child == 0:
        answer = 1
        with contextlib.suppress(OSError):
            os.initgroups(pwd.getpwuid(owner[0]).pw_name, owner[1])
            os.setgid(owner[1])
            os.setuid(owner[0])
            answer = 0 if os.access(path, wanted) else 1
        os._exit(answer)
    return os.waitpid(child, 0)[1] == 0


def _passwords(job: Job, how: Installation, owner: Owner | None) -> list[Change | None]:
    """The changes that put passwords where only the account can read them; rsync refuses a file that others can read."""
    given = how.password is not None or how.report_password is not None
    changes: list[Change | None] = [*(_directory(how.places.secret(job.name).parent) if given else [])]
    for path, password, named in (
        (how.places.secret(job.name), how.password, job.password_file),
        (how.places.report_secret(job.name), how.report_password, job.report_password_file),
    ):
        if password is not None:
            changes.append(_file(path, password.encode() + b"\n", 0o600, shown=lambda data: "(a password)\n", owner=owner))
        elif named != str(path):
            changes.append(_gone(path))
    return changes


# The schedule


def _schedule_entry(job: Job, how: Installation, prepared: Prepared) -> Change | None:
    if how.when == schedule.NEVER:
        return _no_schedule_entry(job.name, how)
    try:
        parsed = schedule.parse(how.when)
    except schedule.ScheduleError as error:
        prepared.problems.append(f"schedule: {error}.")
        return None
    if parsed.is_rare:
        prepared.warnings.append(
            f"Job {job.name} runs less than twice a day ({how.when!r}): the mirror will be behind its source for long."
        )
    offset = schedule.offset_of(os.uname().nodename, job.name) if how.offset is None else how.offset
    when = parsed.rotated(offset)
    if how.is_system:
        if how.mailto is not None and any(ord(character) < 33 or character in "\"'" for character in how.mailto):
            prepared.problems.append(f"mailto: {how.mailto!r} must be an address without spaces, quotes and control characters.")
            return None
        if not CRON_D.is_dir():
            prepared.missing.append(f"schedule: this host has no {CRON_D}: install a cron daemon (the package cron, or cronie).")
        content = schedule.cron_d(job.name, when, job.user or "root", how.argv(job.name), how.mailto)
        return _file(_cron_file(job.name), content, 0o644)
    if how.mailto is not None:
        problem = "mailto: would also change where other entries of this crontab send their mail: set MAILTO in the crontab yourself."
        prepared.problems.append(problem)
    if shutil.which("crontab") is None:
        prepared.missing.append("schedule: this host has no program crontab: have a cron daemon installed (the package cron, or cronie).")
        return Change("crontab", "", schedule.in_crontab(b"", job.name, when, how.argv(job.name)).decode(), lambda: None)
    return _crontab(job.name, when, how)


def _no_schedule_entry(name: str, how: Installation) -> Change | None:
    if how.is_system:
        return _gone(_cron_file(name))
    return _crontab(name, None, how) if shutil.which("crontab") else None


def _cron_file(job: str) -> Path:
    return CRON_D / f"mirrornet-{job}"


def _crontab(name: str, when: str | None, how: Installation) -> Change | None:
    before = _read_crontab()
    after = schedule.in_crontab(before, name, when, how.argv(name))
    if before == after:
        return None
    # Only our own lines are shown: others may hold what is nobody's business.
    own = [schedule.in_crontab(b"", name, when, how.argv(name)), schedule.entry_of(before, name)]
    return Change("crontab", own[1].decode("utf-8", "replace"), own[0].decode(), lambda: _write_crontab(after))


def _read_crontab() -> bytes:
    done = subprocess.run(["crontab", "-l"], stdin=subprocess.DEVNULL, capture_output=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    if done.returncode == 0:
        return done.stdout
    if b"no crontab" in done.stderr:
        return b""
    raise Failure("crontab", Exit.LOCAL_IO, f"crontab -l failed: {_said(done)}.", "May this user use cron? See cron.allow and cron.deny.")


def _write_crontab(content: bytes) -> None:
    command: Sequence[str] = ["crontab", "-"] if content else ["crontab", "-r"]
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    if done.returncode != 0:
        raise Failure("crontab", Exit.LOCAL_IO, f"{' '.join(command)} failed: {_said(done)}.", "The crontab is as it was.")


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join(done.stderr.decode("utf-8", "replace").split()) or f"exit code {done.returncode}"


# Files and directories


def _file(path: Path, content: bytes, mode: int, shown: Callable[[bytes], str] | None = None, owner: Owner | None = None) -> Change | None:
    """The change that gives ``path`` this content and mode, owned by ``owner`` or else whoever calls; None if it is so."""
    before = _read(path)
    uid = os.geteuid() if owner is None else owner[0]
    if before == content and stat.S_IMODE(path.stat().st_mode) == mode and path.stat().st_uid == uid:
        return None
    show = shown or (lambda data: data.decode("utf-8", "replace"))
    old = "" if before is None else show(before)
    if before is not None and old == show(content):
        old += f"(another one, or mode {stat.S_IMODE(path.stat().st_mode):04o}, uid {path.stat().st_uid})\n"
    return Change(str(path), old, show(content), lambda: replace(path, content, mode, owner))


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _describe(command: bytes) -> str:
    return f"sha256 {hashlib.sha256(command).hexdigest()}\n"


def _directory(path: Path, owner: Owner | None = None) -> list[Change]:
    """The change that makes ``path`` a directory of ``owner``; nothing if it is. Parents come along, owned by whoever calls."""
    if path.is_dir():
        found = path.stat()
        if owner is None or (found.st_uid, found.st_gid) == owner:
            return []
        return [Change(str(path), _shown_directory((found.st_uid, found.st_gid)), _shown_directory(owner), lambda: os.chown(path, *owner))]

    def make() -> None:
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        if owner is not None:
            os.chown(path, *owner)

    return [Change(str(path), "absent", _shown_directory(owner), make)]


def _shown_directory(owner: Owner | None) -> str:
    if owner is None:
        return "directory"
    with contextlib.suppress(KeyError):
        return f"directory of {pwd.getpwuid(owner[0]).pw_name}:{grp.getgrgid(owner[1]).gr_name}"
    return f"directory of {owner[0]}:{owner[1]}"


def _gone(path: Path) -> Change | None:
    if not path.exists() and not path.is_symlink():
        return None

    def remove() -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        sync_directory(path.parent)

    return Change(str(path), "present", "absent", remove)


def _gone_if_empty(path: Path) -> Change | None:
    """Part of a removal, judged when its turn comes: what is in there may go first, or may be somebody else's."""
    if not path.is_dir():
        return None

    def remove() -> None:
        with contextlib.suppress(OSError):
            path.rmdir()

    return Change(str(path), "present", "absent, if it is empty then", remove)


def _installed_target(places: Places, name: str, remove_tree: bool) -> Path | None:
    """Where the tree of an installed job is, by its own definition; None if that is gone or unreadable."""
    try:
        target = Path(load(places, name).target)
    except Failure as failure:
        if remove_tree and places.definition(name).exists():
            remedy = "The tree can't be removed without a valid definition: remove it by hand."
            raise Failure(failure.kind, failure.exit_code, failure.message, remedy) from failure
        return None
    if remove_tree and target.is_symlink():
        raise Failure(
            "target_not_directory", Exit.TARGET, f"The target {target} is a symlink: nothing was removed.", "Remove the tree by hand."
        )
    return target


def _is_ours(command: Path) -> bool:
    """Whether the file is a command that ``package`` made, of any version: a zip behind a #! line with our package in it."""
    data = _read(command) if command.is_file() else None
    return data is not None and data.startswith(b"#!") and b"mirrornet/cli.py" in data
