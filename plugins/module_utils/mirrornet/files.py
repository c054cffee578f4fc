# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files that are never torn: replaced whole and durably, or not at all; and who else could change one."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from .record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
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


#: Links that the kernel follows on the way to one file, see path_resolution(7).
_MOST_LINKS = 40


def only_root_writes(path: Path | str) -> str:
    """Why others than root could change what is at the absolute ``path``, or put something else in its place; empty if nobody could.

    Every directory on the way there counts, those of a symlink as much as those of what it leads to. So does one like /tmp, in which nobody
    may take away what is another's: it is cleared now and then, and whoever comes next may have the name. Whoever asks counts as root,
    so that an ordinary user can ask too. What isn't there belongs to nobody yet; its directory is looked at all the same.
    """
    for place in _on_the_way(Path(path)):
        try:
            status = _status(place)
        except (FileNotFoundError, NotADirectoryError):
            break
        except OSError as error:
            return f"{str(place)!r} can't be looked at: {error.strerror}"
        if stat.S_ISLNK(status.st_mode):
            continue
        if status.st_uid not in (0, os.geteuid()):
            return f"{str(place)!r} belongs to {_account(status.st_uid)}"
        if status.st_mode & 0o022:
            return f"others than root may write {str(place)!r}"
    return ""


def _on_the_way(path: Path) -> Iterator[Path]:
    """Directories, links, what they lead to and the file itself, as they are gone through, from the root on."""
    here, left, links = Path("/"), list(reversed(path.parts)), 0
    while left:
        name = left.pop()
        place = Path("/") if name == "/" else here.parent if name == ".." else here / name
        yield place
        if place.is_symlink() and links < _MOST_LINKS:
            links += 1
            left += reversed(place.readlink().parts)
        else:
            here = place


def _status(path: Path) -> os.stat_result:
    return path.lstat()


def _account(number: int) -> str:
    import pwd  # Late: runs have no use for it.

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"number {number}"
