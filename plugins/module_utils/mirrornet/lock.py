# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time: an exclusive lock that the kernel releases, whatever happens to its holder."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import Exit, Failure


class Busy(Exception):
    """Somebody else holds the lock."""


@contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Hold the lock at ``path`` for the length of the block; yields the locked descriptor. Raises Busy at once, without waiting.

    The same kernel lock as flock(1) takes. The file is never removed: unlinking it after unlocking would let two runs hold two files of
    one name. A child process that is given the descriptor keeps the lock until it ends too, which is what a run wants for its rsync: should
    the run itself be killed, the next one doesn't start beside an rsync that still writes.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Failure(
            "state_unusable",
            Exit.LOCAL_IO,
            f"The lock {path} can't be opened: {error.strerror}.",
            "Check the owner and the file system of the state directory.",
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise Busy from None
            raise Failure(
                "no_locks",
                Exit.LOCAL_IO,
                f"The file system of {path} can't lock files: {error.strerror}.",
                "Move the state directory to a local file system (--state-dir).",
            ) from error
        yield fd
    finally:
        os.close(fd)


def this_process() -> dict[str, Any]:
    """An identity that neither a reboot nor a recycled process number can share: boot id, PID and start time in clock ticks since boot."""
    return {"boot_id": _boot_id(), "pid": os.getpid(), "start_ticks": _start_ticks(os.getpid())}


def is_alive(identity: dict[str, Any]) -> bool:
    """Whether the process that ``this_process`` described is still there."""
    pid = identity.get("pid")
    return isinstance(pid, int) and identity.get("boot_id") == _boot_id() and identity.get("start_ticks") == _start_ticks(pid) is not None


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat, proc(5); None without such a process. The name in field 2 may hold spaces and parentheses."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])
