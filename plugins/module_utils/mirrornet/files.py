# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files that are never torn: replaced whole and durably, or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from .record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

Owner = tuple[int, int]


def replace(
    path: Path, data: bytes, mode: int = 0o644, owner: Owner | None = None, *, durable: bool = True, mtime_ns: int | None = None
) -> None:
    """Put ``data`` at ``path`` so that whenever this process is killed, either the old or the new content is there.

    ``durable`` makes that true for a power loss too, at the price of some milliseconds of waiting for the disk. ``owner`` is (uid, gid),
    ``mtime_ns`` nanoseconds since 1970.
    The name of the temporary file is fixed, so a crash leaves one file at most, which the next call replaces; callers hold the lock of
    whatever the file belongs to. The name starts with a dot, which programs that read a whole directory (cron.d, logrotate.d) pass over.
    Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            if mtime_ns is not None:
                os.utime(file.fileno(), ns=(mtime_ns, mtime_ns))
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and removals in ``path`` survive a power loss. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def to_json(value: Any) -> bytes:
    """The one spelling of JSON that this project writes: sorted keys, so that equal values are equal bytes."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``, or an empty one if the file is absent or torn: for state that runs rewrite, not for definitions."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def is_real_directory(path: Path) -> bool:
    """Whether ``path`` is a directory itself, not a symlink to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
