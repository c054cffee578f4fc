# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast path: one small file, the head of a source's tree, says whether anything is new.

Here is what every run does, and so nothing that only a run with something to do needs; that is in ``follow``.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from . import report, rsync
from .errors import Exit, Failure
from .files import read_json, replace, sync_directory, to_json
from .places import IN_TREE, RECENT
from .record import TYPE_CHECKING, dataclass
from .run import Run
from .source import Plan

if TYPE_CHECKING:
    from typing import Any

HEAD = "head"
#: How often a run may find that a way that it took leads nowhere: deltas that don't fit, and a list that doesn't.
FALLS = 2
#: Seconds until a source that publishes no head is asked for one again.
_ASK_AGAIN = 86400


class Doubt(Exception):
    """Why a head isn't followed. ``lasting``: not before the source has another one."""

    def __init__(self, why: str, *, lasting: bool = True) -> None:
        super().__init__(why)
        self.lasting = lasting


@dataclass
class News:
    """A head that is to be followed, or looked at more closely."""

    data: bytes
    #: Whether everything is to be compared again.
    due: bool


def ask(run: Run, origin: str, *, closely: bool = False) -> Plan | News | None:
    """What the head of ``origin`` says: an empty plan if its tree is the one that is here, so that there is nothing to do.

    With ``closely`` that is for ``follow`` to find out. None says that everything has to be compared; the log has the reason. Raises Failure
    if the source can't be used.
    """
    job = run.job
    run.record.way = "plain"
    if not (job.fast_path and job.takes_all) or (not job.trusted_keys and _has_no_head(run, origin)):
        return None
    data = _head_of(run, origin)
    if data is None:
        if job.trusted_keys:
            message = f"{origin} has no head, and this job takes only what is signed."
            raise Failure("untrusted", Exit.REFUSED, message, "Ask its operator to publish the tree, or name another source.")
        run.recorder.log(f"{origin} publishes no head: comparing everything. It is asked again tomorrow.")
        note(run, headless={**remembered(run, "headless"), origin: report.utc(time.time())})
        return None
    due = is_due(run)
    if data == held(run) and not due and not closely and is_trusted(run):
        run.record.way = "same"
        return Plan(origin, rsync.Tally())
    return News(data, due)


def _head_of(run: Run, origin: str) -> bytes | None:
    """The head of a source; None if it has none that can be read.

    What most runs want next comes along, unless it is what came along the last time.
    """
    run.recorder.phase("head")
    offered = run.places.offered(run.job.name)
    offered.mkdir(exist_ok=True)
    fresh = offered / HEAD
    fresh.unlink(missing_ok=True)
    for names in ((HEAD, RECENT), (HEAD,)):
        command = rsync.fetch(run.program, run.job, origin, f"{offered}/", *(f"{IN_TREE}/{name}" for name in names))
        failure = rsync.failure(run.fetch(command, origin), origin, run.job.target)
        if failure is not None and failure.kind != "incomplete":
            raise failure
        # What locks a key of SSH to a tree gives nothing at all if one of the files isn't there.
        if failure is None or fresh.exists() or not origin.startswith("ssh:"):
            break
    try:
        return fresh.read_bytes()
    except FileNotFoundError:
        return None


def is_due(run: Run) -> bool:
    """Whether everything is to be compared again: once in ``full_check`` seconds, at a time that differs from host to host and job to job."""
    job, last, now = run.job, run.record.last_compared, time.time()
    if last is None or not job.full_check:
        return True
    import zlib

    offset = zlib.crc32(f"{run.record.host}\0{job.name}".encode()) % job.full_check
    # A time that is yet to come was written before the clock was set back: it tells nothing.
    return not report.utc(now - (now - offset) % job.full_check) <= last <= report.utc(now)


# What is known of the tree


def tree_head(run: Run) -> Path:
    """The head that the tree shows to others."""
    return Path(run.job.tree) / IN_TREE / HEAD


def held(run: Run) -> bytes | None:
    """The head of the tree that the target holds, byte for byte; None if none stands for it."""
    try:
        data = run.places.head(run.job.name).read_bytes()
        return data if tree_head(run).read_bytes() == data else None
    except OSError:
        return None


def is_trusted(run: Run) -> bool:
    """Whether one of the keys that the job trusts now has signed the head that is held; true for a job that asks for no signature."""
    keys = run.job.trusted_keys
    return not keys or remembered(run, "trusted").get("keys") == list(keys)


def doubt(run: Run) -> None:
    """From now on no head stands for the tree, also after a power loss. Raises OSError."""
    head = run.places.head(run.job.name)
    with contextlib.suppress(FileNotFoundError):
        head.replace(run.places.former_head(run.job.name))
        sync_directory(head.parent)


def forget(run: Run) -> None:
    """The tree is about to become one that perhaps no head stands for: whoever pulls from here isn't told one either. Raises OSError."""
    run.record.serial = None
    if remembered(run, "trusted"):
        note(run, trusted={})
    doubt(run)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        tree_head(run).unlink()
        sync_directory(tree_head(run).parent)


# What is known of sources


def remembered(run: Run, what: str) -> dict[str, Any]:
    """One of the things that ``note`` has noted."""
    value = read_json(run.places.heads(run.job.name)).get(what)
    return value if isinstance(value, dict) else {}


def note(run: Run, *, durable: bool = False, **what: dict[str, Any]) -> None:
    """Remember something about sources for later runs; with ``durable`` also after a power loss. Raises Failure."""
    path = run.places.heads(run.job.name)
    keep(path, to_json({**read_json(path), **what}), durable=durable)


def keep(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Put ``data`` at ``path`` in the state directory. Raises Failure: no other way would get further without it."""
    try:
        replace(path, data, durable=durable)
    except OSError as error:
        message = f"{path} can't be written: {error.strerror}."
        raise Failure(
            "state_unusable", Exit.LOCAL_IO, message, "Make room there, or look at the file system; the next run looks again."
        ) from error


def _has_no_head(run: Run, origin: str) -> bool:
    """Whether the source had none when it was asked, not long ago."""
    asked, now = remembered(run, "headless").get(origin), time.time()
    return isinstance(asked, str) and report.utc(now - _ASK_AGAIN) < asked <= report.utc(now)
