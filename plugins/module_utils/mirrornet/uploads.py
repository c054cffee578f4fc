# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where mirrors hand in their reports: what may be said of it, and the modules of rsync that this makes.

Each login has a module of its own, in which it may put files of a few names, and can do nothing else: not list, not read, not delete,
not touch another's. How many files may lie there is bounded by their names, how large each may be by a program that rsync runs before
each transfer.
"""

from __future__ import annotations

import grp
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import rsyncd
from .job import NAME
from .rsyncd import Problem
from .rsyncd_options import Option
from .rsyncd_values import KINDS, covers, show, suggest

#: The variable, by which messages call it.
VARIABLE = "rsync_master_uploads"
#: What may be said of it.
OPTIONS = ("logins", "jobs", "path", "file_size", "hosts_allow", "hosts_allow_groups")
#: What the names of the modules begin with.
PREFIX = "report-"
#: Where reports lie, if nothing else is said.
PATH = "/var/lib/mirrornet-reports"
#: KiB that a report may have, if nothing else is said. A record has about one.
FILE_SIZE = 256

#: The sub-options whose rule is one of a module's.
_VALUES = (Option("path", "tree"), Option("file_size", "count", least=1, most=100_000), Option("hosts_allow", "addresses"))
_PATTERN = re.compile(r"[A-Za-z0-9_*?][A-Za-z0-9_.*?-]{0,50}")
_LABEL = re.compile(r"module '[^']*' \(item (?P<place>\d+)\)")
_LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,50}")

#: What a client may ask of rsync: to bring one file, whatever is there, in one piece. Everything else is refused, what later versions invent too.
#: What no client can do without, "*" doesn't stand for; see "refuse options" in rsyncd.conf(5).
REFUSED = ("*", "!ignore-times", "!whole-file", "!timeout", "!verbose")


@dataclass(frozen=True)
class Where:
    """What the role decides about uploads."""

    account: str  #: whose files reports become, and its group
    program: str  #: what is run before each transfer


def check(uploads: object, logins: Iterable[str], modules: Sequence[object]) -> list[Problem]:
    """Everything that is wrong with ``rsync_master_uploads``. ``logins`` are the names that have a password in ``rsync_master_secrets``."""
    if not isinstance(uploads, Mapping):
        return [Problem(VARIABLE, "", f"{show(uploads)} is not a dictionary", "Write it as {logins: [mirror1, mirror2]}")]
    if not uploads:
        return []
    problems: list[Problem] = []
    for key, value in uploads.items():
        if key not in OPTIONS:
            problems.append(Problem(VARIABLE, "", f"unknown option {show(key)}", suggest(str(key), OPTIONS)))
        elif value is None:
            problems.append(Problem(VARIABLE, str(key), "it has no value", "Give one, or leave the option out"))
    given = {key: value for key, value in uploads.items() if value is not None}
    problems += [Problem(VARIABLE, "logins", *complaint) for complaint in _logins(given.get("logins"), list(logins))]
    for option in _VALUES:
        if option.name in given:
            problems += [Problem(VARIABLE, option.name, *complaint) for complaint in KINDS[option.kind](option, given[option.name])]
    problems += [Problem(VARIABLE, "jobs", *complaint) for complaint in _jobs(given.get("jobs"), modules)]
    return problems


def _logins(value: object, known: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with the names and patterns of who may hand in."""
    if not isinstance(value, (list, tuple)) or not value:
        yield f"{show(value)} is not a list of logins", "Write it as a list: [mirror1, mirror2], or with patterns: ['mirror*']"
        return
    for pattern in value:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            yield (
                f"{show(pattern)} can't be a login",
                "Take letters, digits, '.', '_' and '-', at most 51, or a pattern of these with '*' and '?'",
            )
            continue
        found = [name for name in known if covers(pattern, name)]
        if not found:
            yield f"{show(pattern)} has no password, so that nobody could log in by it", "Add it to rsync_master_secrets"
        for name in found:
            if not _LOGIN.fullmatch(name):
                yield (
                    f"the login {show(name)} can't name a directory",
                    "Give it another name: letters, digits, '.', '_' and '-', at most 51",
                )


def _jobs(value: object, modules: Sequence[object]) -> Iterator[tuple[str, str]]:
    """What is wrong with the names of the jobs whose reports are taken."""
    if value is None:
        if not jobs({}, modules):
            yield "there is no module that a job could be named after", "List the names of the mirrors' jobs"
    elif not isinstance(value, (list, tuple)) or not value:
        yield f"{show(value)} is not a list of names", "Write it as a list: [archive]"
    else:
        for name in value:
            if not isinstance(name, str) or not NAME.fullmatch(name):
                yield f"{show(name)} can't be the name of a job", "Take letters, digits, '-' and '_', at most 63"


def jobs(uploads: Mapping[str, object], modules: Sequence[object]) -> list[str]:
    """The names of the jobs whose reports are taken: those of the master's ``modules``, if nothing else is said."""
    given = uploads.get("jobs")
    if isinstance(given, (list, tuple)):
        return [str(name) for name in given]
    names = [module.get("name") for module in modules if isinstance(module, Mapping)]
    return [name for name in names if isinstance(name, str) and NAME.fullmatch(name)]


def admitted(uploads: Mapping[str, object], logins: Iterable[str]) -> list[str]:
    """Those of ``logins`` that may hand in reports, in their order."""
    patterns = uploads.get("logins")
    rules = [str(pattern) for pattern in patterns] if isinstance(patterns, (list, tuple)) else []
    return [login for login in dict.fromkeys(logins) if any(covers(rule, login) for rule in rules)]


def directory(uploads: Mapping[str, object]) -> str:
    """The directory of all reports."""
    return str(uploads.get("path", PATH)).rstrip("/")


def modules(uploads: Mapping[str, object], logins: Iterable[str], served: Sequence[object], where: Where) -> list[dict[str, object]]:
    """The modules of rsync, as they would stand in ``rsync_master_modules``; for what ``check`` has no complaint about."""
    return [_module(uploads, login, jobs(uploads, served), where) for login in admitted(uploads, logins)]


def _module(uploads: Mapping[str, object], login: str, names: Sequence[str], where: Where) -> dict[str, object]:
    path = f"{directory(uploads)}/{login}"
    made: dict[str, object] = {
        "name": PREFIX + login,
        "path": path,
        "list": False,
        "read_only": False,
        "write_only": True,
        "munge_symlinks": True,
        "uid": where.account,
        "gid": where.account,
        "auth_users": [login],
        # One at a time: nobody writes what is cleared away before a transfer.
        "max_connections": 1,
        "timeout": 60,
        # The rules are for what a client names. rsync's own temporary files don't come by here.
        "filter": [*(f"+ /{name}.json" for name in names), "- *"],
        "refuse_options": list(REFUSED),
        "incoming_chmod": "D0700,F0640",
        "early_exec": f"{where.program} limit {uploads.get('file_size', FILE_SIZE)}",
        "pre_xfer_exec": f"{where.program} clear {path}",
    }
    return {**made, **{name: uploads[name] for name in ("hosts_allow", "hosts_allow_groups") if name in uploads}}


def between(served: Sequence[object], made: Sequence[Mapping[str, object]]) -> list[Problem]:
    """What is wrong between the operator's modules and those for reports, or among the latter."""
    known = rsyncd.check_modules(served)
    return _told((problem for problem in rsyncd.check_modules([*served, *made]) if problem not in known), len(served))


def check_version(made: Sequence[Mapping[str, object]], version: str) -> list[Problem]:
    """What this host's rsync is too old for."""
    return _told(rsyncd.check_versions(made[:1], {}, version), 0)


def _told(problems: Iterable[Problem], served: int) -> list[Problem]:
    """Problems of modules, where those after the first ``served`` are made here: they are called by the variable that they are made of."""

    def plain(match: re.Match[str]) -> str:
        return VARIABLE if int(match["place"]) > served else match[0]

    found = []
    for problem in problems:
        where, message = _LABEL.sub(plain, problem.where), _LABEL.sub(plain, problem.message)
        found.append(replace(problem, where=where, message=message, option="" if where == VARIABLE else problem.option))
    return list(dict.fromkeys(found))


def check_host(path: str, account: str, served: Sequence[object]) -> list[Problem]:
    """What is wrong with the directory of all reports on this host."""
    place = Path(path)
    try:
        found = place.lstat()
    except FileNotFoundError:
        found = None
    except OSError as error:
        return [Problem(VARIABLE, "path", f"{show(path)} can't be looked at: {error.strerror}", "Give another directory")]
    if found is not None and not stat.S_ISDIR(found.st_mode):
        return [Problem(VARIABLE, "path", f"{show(path)} is not a directory itself", "Remove it, or give another path")]
    # The role takes it for itself, so it must not be anything else's.
    if found is not None and not _is_ours(found, account) and any(place.iterdir()):
        return [
            Problem(VARIABLE, "path", f"{show(path)} is there already, and holds something else", "Give reports a directory of their own")
        ]
    known = rsyncd.check_nesting(served, os.path.realpath)
    together = rsyncd.check_nesting([*served, {"name": PREFIX, "path": path, "read_only": False}], os.path.realpath)
    return _told((problem for problem in together if problem not in known), len(served))


def _is_ours(found: os.stat_result, account: str) -> bool:
    try:
        return (found.st_uid, found.st_gid) == (0, grp.getgrnam(account).gr_gid)
    except KeyError:
        return False
