# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where mirrors hand in their reports: what may be said of them, and the modules of rsync that this makes.

Each mirror has a module of its own, in which it may put files of a few names, and can do nothing else: not list, not read, not delete,
not touch another mirror's. How many files may lie there is bounded by their names, how large each may be by a program that rsync runs
before each transfer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .job import NAME
from .rsyncd import Problem
from .rsyncd_options import Option
from .rsyncd_values import KINDS, show, suggest

#: The sub-options of one mirror's upload.
OPTIONS = ("name", "hosts_allow", "jobs", "file_size")
#: What the names of modules begin with, which no other module's may.
PREFIX = "report-"
#: KiB that a report may have, where nothing else is said. A record has about one.
FILE_SIZE = 256

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,50}")

#: Options of rsync by which a client could do more than put a file in place of one of the same name.
REFUSED = (
    "delete*", "remove-source-files", "append*", "inplace", "partial*", "delay-updates", "backup*", "temp-dir", "log-file*", "links",
    "hard-links", "devices", "specials", "copy-*", "link-dest", "compare-dest", "fuzzy", "acls", "xattrs", "owner", "group", "fake-super",
    "super", "preallocate", "sparse", "write-devices", "mkpath", "iconv", "compress*", "checksum",
)  # fmt: skip


@dataclass(frozen=True)
class Where:
    """What all uploads have in common on the master."""

    directory: str
    user: str
    program: str  #: what is run before each transfer


def label(position: int, upload: object) -> str:
    """How messages call a mirror's upload; ``position`` is its place in the list, counted from 1."""
    name = upload.get("name") if isinstance(upload, Mapping) else None
    return f"upload of {show(name)} (item {position})" if isinstance(name, str) else f"upload without a name (item {position})"


def check(uploads: object, logins: Sequence[object]) -> list[Problem]:
    """Everything that is wrong with a list of uploads. ``logins`` are the names that have a password in ``rsync_master_secrets``."""
    if not isinstance(uploads, (list, tuple)):
        return [Problem("rsync_master_uploads", "", "it is not a list", "Write it as a list: [{name: mirror1}]")]
    problems: list[Problem] = []
    names: set[object] = set()
    for position, given in enumerate(uploads, 1):
        where = label(position, given)
        if not isinstance(given, Mapping):
            problems.append(Problem(where, "", f"{show(given)} is not a dictionary", "Write it as {name: mirror1}"))
            continue
        problems += [Problem(where, "", f"unknown option {show(key)}", suggest(str(key), OPTIONS)) for key in given if key not in OPTIONS]
        name = given.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            remedy = "Give the mirror's login: letters, digits, '_' and '-', at most 51"
            problems.append(Problem(where, "name", f"{show(name)} can't be the name of an upload", remedy))
        elif name in names:
            problems.append(Problem(where, "name", "an earlier upload has this name", "Leave one of the two out"))
        elif name not in logins:
            problems.append(Problem(where, "name", "it has no password, so that it could not log in", "Add it to rsync_master_secrets"))
        names.add(name if isinstance(name, str) else None)
        for option, kind in (("hosts_allow", "addresses"), ("file_size", "count")):
            if option in given:
                rule = Option(option, kind, least=1, most=100_000)
                problems += [Problem(where, option, *complaint) for complaint in KINDS[kind](rule, given[option])]
        problems += [Problem(where, "jobs", *complaint) for complaint in _jobs(given.get("jobs", ["one"]))]
    return problems


def _jobs(value: object) -> Iterator[tuple[str, str]]:
    """What is wrong with the names of the jobs whose reports are taken."""
    if not isinstance(value, (list, tuple)) or not value:
        yield f"{show(value)} is not a list of names", "Write it as a list: [archive]"
        return
    for name in value:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            yield f"{show(name)} can't be the name of a job", "Take letters, digits, '-' and '_', at most 63"


def module(upload: Mapping[str, object], where: Where, jobs: Sequence[str]) -> dict[str, object]:
    """The module of rsync for one mirror, as it would stand in ``rsync_master_modules``. ``jobs`` are those of a mirror that lists none."""
    name = str(upload["name"])
    path = f"{where.directory.rstrip('/')}/{name}"
    given = upload.get("jobs", jobs)
    names = [f"{job}.json" for job in given] if isinstance(given, (list, tuple)) else []
    made: dict[str, object] = {
        "name": PREFIX + name,
        "path": path,
        "list": False,
        "read_only": False,
        "write_only": True,
        "munge_symlinks": True,
        "uid": where.user,
        "gid": where.user,
        "auth_users": [name],
        "max_connections": 1,
        "timeout": 60,
        # A temporary file of rsync's never gets this far: the rules are for what a client names.
        "filter": [*(f"+ /{report}" for report in names), "- *"],
        "refuse_options": list(REFUSED),
        "incoming_chmod": "D0700,F0600",
        "early_exec": f"{where.program} limit {upload.get('file_size', FILE_SIZE)}",
        "pre_xfer_exec": f"{where.program} count {path} {len(names)}",
    }
    if "hosts_allow" in upload:
        made["hosts_allow"] = upload["hosts_allow"]
    return made
