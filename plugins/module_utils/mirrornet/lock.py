# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time: an exclusive lock that the kernel releases, whatever happens to its holder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import Exit, Failure
from .files import read_json
from .record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class Busy(Exception):
    """Somebody else holds the lock."""


#: What flock(2) answers on a file system that has no locks: old NFS, some FUSE and network file systems.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Hold the lock at ``path`` for the length of the block; yields a descriptor of the file. Raises Busy at once, without waiting.

    The same kernel lock as flock(1) takes. The file is never removed: unlinking it after unlocking would let two runs hold two files of
    one name. A child process that is given the descriptor keeps the lock until it ends too, which is what a run wants for its rsync: should
    the run itself be killed, the next one doesn't start beside an rsync that still writes.

    Where the file system can't lock, and only there, a file that names its owner takes the lock's place (``_by_owner``).
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        message = f"The lock {path} can't be opened: {error.strerror}."
        raise Failure("state_unusable", Exit.LOCAL_IO, message, "Check the owner and the file system of the state directory.") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                with _by_owner(path):
                    yield fd
                return
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise Busy from None
            raise Failure("no_lock", Exit.LOCAL_IO, f"{path} can't be locked: {error.strerror}.", "Check its file system.") from error
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _by_owner(path: Path) -> Iterator[None]:
    """The lock where the kernel has none: files ``NAME.owner-1``, ``NAME.owner-2``, …, of which the highest one names the last holder.

    A file appears whole or not at all, by link(2), and only one process can make the next one. Numbers only grow: whoever has read that
    the holder of number n is gone can make n+1 only if nobody did since, so that a slow reader never takes away what a fast one has got.
    Its holder is known by boot, process and start time (``this_process``), so neither a reboot nor a recycled process number keeps or
    steals the lock. Held as long as that process lives and hasn't written that it is free.
    """
    number, holder = _highest(path)
    if is_alive(holder):
        raise Busy
    mine = _owner_file(path, number + 1)
    draft = path.with_name(f"{path.name}.draft-{os.getpid()}")
    draft.write_text(json.dumps(this_process()), encoding="ascii")
    try:
        os.link(draft, mine)
    except FileExistsError:
        raise Busy from None
    finally:
        draft.unlink()
    if _highest(path)[0] != number + 1:
        # Others have come and gone since we looked, and have cleared away the files that we counted from.
        mine.unlink(missing_ok=True)
        raise Busy
    try:
        for old in range(number, 0, -1):
            try:
                _owner_file(path, old).unlink()
            except FileNotFoundError:
                break
        yield
    finally:
        free = path.with_name(f"{path.name}.draft-{os.getpid()}")
        free.write_text("{}", encoding="ascii")
        free.replace(mine)


def _owner_file(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.owner-{number}")


def _highest(path: Path) -> tuple[int, dict[str, Any]]:
    """The number of the last holder and who that is; 0 and nobody if there was none."""
    numbers = [int(word) for other in path.parent.glob(f"{path.name}.owner-*") if (word := other.name.rpartition("-")[2]).isdecimal()]
    number = max(numbers, default=0)
    if number == 0:
        return 0, {}
    return number, read_json(_owner_file(path, number))


def this_process() -> dict[str, Any]:
    """An identity that neither a reboot nor a recycled process number can share: boot id, PID and start time in clock ticks since boot."""
    return {"boot_id": _boot_id(), "pid": os.getpid(), "start_ticks": _start_ticks(os.getpid())}


def is_alive(identity: dict[str, Any]) -> bool:
    """Whether the process that ``this_process`` described is still there."""
    pid = identity.get("pid")
    if not isinstance(pid, int) or identity.get("boot_id") != _boot_id():
        return False
    ticks = _start_ticks(pid)
    return ticks is not None and identity.get("start_ticks") == ticks


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat, proc(5); None without such a process. The name in field 2 may hold spaces and parentheses."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])
