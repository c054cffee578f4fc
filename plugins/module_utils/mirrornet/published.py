# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a master remembers of the last head that it has published."""

from __future__ import annotations

import contextlib
from pathlib import Path

from . import files
from .entry import Counts
from .head import Index, Listed
from .record import asdict, dataclass, field

#: In the directory of a tree's state. Its time is when a call last went well.
STATE = "state.json"


def last_successes(state_dir: Path) -> dict[str, float]:
    """When each tree whose state is in ``state_dir`` was last looked at with success, in seconds since 1970, by the name of the state."""
    found = {}
    for path in sorted(state_dir.glob(f"publish-*/{STATE}")):
        with contextlib.suppress(OSError):
            found[path.parent.name.partition("-")[2]] = path.stat().st_mtime
    return found


@dataclass
class State:
    """What is remembered of the last head."""

    #: Path of the tree.
    tree: str
    #: Which of the kept scans it is of.
    generation: int
    #: Bytes of that scan, and of its digests.
    sizes: tuple[int, int]
    #: Whether all of these are sure: no file was so new that it has to be read again.
    settled: bool
    epoch: str
    serial: int
    #: SHA-256 of the file ``head`` in hex digits, its mtime in seconds, and its ``index``.
    head: str
    head_time: int
    index: str
    counts: Counts
    manifest: Listed
    deltas: list[Listed]
    #: Fingerprint of the key that signed it; empty if none did.
    key: str
    #: Files that no index lists any more, and since when, in seconds.
    retired: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> State | None:
        """None if there is none, or none that can be used."""
        value = files.read_json(path)
        try:
            value["sizes"] = tuple(value["sizes"])
            value["counts"] = Counts(*value["counts"])
            value["manifest"] = Listed(**value["manifest"])
            value["deltas"] = [Listed(**delta) for delta in value["deltas"]]
            return cls(**value)
        except (KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Durably. Raises OSError."""
        files.replace(path, files.to_json(asdict(self)))

    @property
    def names(self) -> set[str]:
        """The files beside the head that it needs."""
        return Index(self.manifest, tuple(self.deltas)).names
