# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rsync's patterns for names: which of them can be matched exactly as rsync does, and matching them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


def matcher(patterns: Iterable[str]) -> Callable[[bytes], bool]:
    """A function that tells of a path below the tree whether one of the patterns stands for it, or for a directory that it is in."""
    every = [_expression(pattern) for pattern in patterns]
    if not every:
        return lambda path: False
    one = re.compile(b"|".join(every), re.DOTALL)
    return lambda path: one.search(path) is not None


def excluder(patterns: Iterable[str]) -> Callable[[bytes, bool], bool]:
    """A function that tells of a path, and whether it is a directory's, if rsync's ``--exclude`` with one of the patterns leaves it out.

    Exact for those that ``problem`` has nothing against.
    """
    matches = matcher(patterns)
    return lambda path, is_directory: matches(path + b"/" if is_directory else path)


def problem(pattern: str) -> str:
    """Why a pattern of ``--exclude`` can't be matched exactly as rsync would; empty if it can."""
    inner = pattern.strip("/")
    if not inner or any(ord(character) < 32 for character in pattern):
        return "is empty or has control characters"
    if "\\" in pattern or "**" in pattern:
        return "has \\ or **"
    if "//" in pattern or any(part in (".", "..") for part in inner.split("/")):
        return "has an empty part, or one that is . or .."
    if any("/" in bracket.partition("]")[0] for bracket in inner.split("[")[1:]):
        return "has a / between brackets"
    if "/" in inner and not pattern.startswith("/") and set(inner) & set("*?["):
        return "has a / and a wildcard, but no / in front"
    return ""


def _expression(pattern: str) -> bytes:
    """rsync(1), "PATTERN MATCHING RULES": without a slash at its beginning a pattern fits the end of a path, with one at its end a directory."""
    text = pattern[: -len("/***")] if pattern.endswith("/***") else pattern
    start = b"^" if text.startswith("/") else b"(?:^|/)"
    end = b"/" if text.endswith("/") else rb"(?:/|\Z)"
    return start + _parts(text.strip("/").encode("utf-8", "surrogateescape")) + end


_PART = re.compile(rb"\*\*+|\*|\?|\[([!^]?)(\]?[^]]*)\]|\\(.)|(.)", re.DOTALL)


def _parts(text: bytes) -> bytes:
    found = []
    for match in _PART.finditer(text):
        part = match[0]
        if part.startswith(b"**"):
            found.append(b".*")
        elif part == b"*":
            found.append(b"[^/]*")
        elif part == b"?":
            found.append(b"[^/]")
        elif match[2]:
            inside = match[2].replace(b"\\", rb"\\").replace(b"[", rb"\[").replace(b"]", rb"\]").replace(b"^", rb"\^")
            found.append(b"(?!/)[" + (b"^" if match[1] else b"") + inside + b"]")
        else:
            found.append(re.escape(match[3] or part))
    return b"".join(found)
