# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the option ``publish`` of a module: what a head says must be what clients of the module get."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator, Mapping, Sequence

from .pattern import problem

_DEFAULTS: dict[str, object] = {"every": 15, "keep": 64, "settle": 5, "sign": False, "file_list": ""}
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")
_LEAST = {"every": 1, "keep": 1, "settle": 0}
_MOST = {"every": 1440, "keep": 1000, "settle": 3600}
#: Options by which clients get something else than is there, in ways that a head can't follow.
_IN_THE_WAY = ("filter", "include", "include_from", "exclude_from", "outgoing_chmod", "charset", "write_only", "fake_super")


def complaints(value: object) -> Iterator[tuple[str, str]]:
    """Message and remedy for everything that is wrong with the option's value."""
    if not isinstance(value, Mapping):
        yield f"{value!r} is not a dictionary", "Write it as {every: 15}, or as {} if the usual will do"
        return
    for name, given in value.items():
        if name not in _DEFAULTS:
            yield f"there is no {name!r} in it", f"Take one of {', '.join(_DEFAULTS)}"
        elif isinstance(_DEFAULTS[name], bool):
            if not isinstance(given, bool):
                yield f"{name}: {given!r} is neither true nor false", "Write true or false, without quotes"
        elif isinstance(_DEFAULTS[name], str):
            if not isinstance(given, str) or not _FILE_NAME.fullmatch(given):
                yield (
                    f"{name}: {given!r} is not a file's name at the top of the tree",
                    "Write it as Fedora does, for instance fullfiletimelist-NAME",
                )
        elif not isinstance(given, int) or isinstance(given, bool) or not _LEAST[name] <= given <= _MOST[name]:
            yield f"{name}: {given!r} is not a whole number from {_LEAST[name]} to {_MOST[name]}", "Give one, without quotes"


def together(modules: Sequence[object], exclude: object) -> Iterator[tuple[int, str, str, str]]:
    """What doesn't go with ``publish``: a module's place from 1, the option at fault, message, remedy. ``exclude`` is what no module serves."""
    seen: dict[str, object] = {}
    for position, module in enumerate(modules, 1):
        if not isinstance(module, Mapping) or "publish" not in module:
            continue
        for name in _IN_THE_WAY:
            if module.get(name):
                yield position, name, "with it clients don't get what a head would say that is there", "Leave it out, or publish"
        hidden = [module.get("exclude"), exclude]
        for pattern in (pattern for patterns in hidden if isinstance(patterns, list) for pattern in patterns):
            if isinstance(pattern, str) and (why := problem(pattern)):
                remedy = "Exclude by names (NAME, *.EXT), directories (NAME/) or paths from the top of the tree (/DIR/NAME), or leave publish out"
                yield (
                    position,
                    "publish",
                    f"the pattern {pattern!r}, which is excluded, {why}, so that it can't be told what clients get",
                    remedy,
                )
        path = os.path.normpath(str(module.get("path")))
        if path in seen:
            yield position, "publish", f"the tree is published by the module {seen[path]!r} already", "Leave it out: one head is for both"
        seen.setdefault(path, module.get("name"))
