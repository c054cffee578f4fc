# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The index, the latest deltas and the contents of their small files once more, in one file of a fixed name.

A mirror gets them in the connection in which it asks for the head.
Only a copy, in which nobody needs to believe: who can't use it takes the files themselves. docs/reference_formats.md has the format.
"""

from __future__ import annotations

import re
from pathlib import Path

from . import contents
from .head import Index, contents_name, delta_name, index_name

#: Bytes of deltas for those who have missed some. Everybody gets them who has missed one, so it isn't much.
_ROOM = 32 << 10
#: Bytes that the latest delta may have, which is of use to everybody.
_MOST = 1 << 20
#: Bytes that are read at most; a run asks for no larger file in that connection.
LONGEST = 8 << 20
_MEMBER = re.compile(rb"(index-[1-9][0-9]{0,17}|delta-[1-9][0-9]{0,17}\.gz|contents-[1-9][0-9]{0,17}) (0|[1-9][0-9]{0,6})\n")


def collect(own: Path, index: Index) -> bytes:
    """The file for the head of ``index``, from what lies in ``own``. Equal files there give equal bytes. Raises OSError if there is no index."""
    parts, left = [_member(index_name(index.serial), (own / index_name(index.serial)).read_bytes())], _ROOM
    for delta in reversed(index.deltas):
        is_latest = delta.serial == index.serial
        leads = _member_for(own, delta_name(delta.serial), _MOST if is_latest else left)
        if not leads:
            break
        left -= len(leads)
        pieces = _member_for(own, contents_name(delta.serial), contents.MOST if is_latest else left)
        left -= len(pieces)
        parts += [leads, pieces]
    return b"".join(parts)


def _member_for(own: Path, name: str, most: int) -> bytes:
    """A file as a member; empty if it is not there, or has more than ``most`` bytes."""
    try:
        return _member(name, (own / name).read_bytes()) if (own / name).stat().st_size <= most else b""
    except FileNotFoundError:
        return b""


def _member(name: str, data: bytes) -> bytes:
    return b"%s %d\n" % (name.encode("ascii"), len(data)) + data


def read(data: bytes) -> dict[str, bytes]:
    """The files in ``data`` by their names, the index first; none if it isn't what it should be. What they hold is for the reader to check."""
    found: dict[str, bytes] = {}
    begin = 0
    while begin < len(data) <= LONGEST:
        match = _MEMBER.match(data, begin)
        if match is None:
            return {}
        name, end = match[1].decode("ascii"), match.end() + int(match[2])
        if end > len(data) or name in found or name.startswith("index-") is not (not found):
            return {}
        found[name] = data[match.end() : end]
        begin = end
    return found
