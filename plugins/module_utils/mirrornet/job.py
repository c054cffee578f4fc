# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition of a job, and everything that can be wrong with one before it ever runs."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from .errors import Exit, Failure
from .files import to_json
from .places import Places

#: Version of the definition's format. A later engine reads older ones.
FORMAT = 1

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_HOST = r"(?:\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?)"
_USER = r"(?:[^@:/\[\]\s-][^@:/\[\]\s]*@)?"
_URL = re.compile(rf"rsync://{_USER}{_HOST}(?::(?P<port>[0-9]{{1,5}}))?/(?P<path>.*)")
_DOUBLE_COLON = re.compile(rf"{_USER}{_HOST}::(?P<path>.*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

#: Directories that hold a system, not a tree. A mirror that deletes in one of them would take the host down.
SYSTEM_DIRECTORIES = frozenset(
    """
    / /bin /boot /dev /etc /home /lib /lib32 /lib64 /media /mnt /opt /proc /root /run /sbin /srv /sys /tmp
    /usr /usr/bin /usr/lib /usr/local /usr/sbin /usr/share
    /var /var/cache /var/lib /var/log /var/spool /var/tmp /var/www
    """.split()
)


@dataclass(frozen=True)
class Job:
    """One tree that this mirror keeps in step."""

    name: str
    #: rsync URLs, in the order of preference.
    sources: tuple[str, ...]
    #: Absolute path of the directory that holds the tree.
    target: str
    #: The account that runs the job; None: whoever calls.
    user: str | None = None
    #: rsync patterns that stay out of the tree.
    exclude: tuple[str, ...] = ()
    #: More deletions than this in one run are held; None: no absolute limit.
    max_delete: int | None = None
    #: More deletions than this share of the tree's entries, in percent, are held.
    max_delete_percent: int = 25
    #: Seconds after which a run is ended, with every process it has started.
    time_limit: int = 86400
    #: Seconds without any data after which a connection counts as dead.
    io_timeout: int = 300
    #: Seconds to wait for a connection.
    connect_timeout: int = 30
    #: KiB per second; 0: no limit.
    bandwidth_limit: int = 0

    def to_bytes(self) -> bytes:
        """The definition as it is on disk."""
        return to_json({"format": FORMAT, **dataclasses.asdict(self)})


Check = Callable[[Any], Optional[str]]


def _control(value: str) -> str | None:
    if _CONTROL.search(value):
        return "holds a control character (a newline, a tab, …): remove it"
    return None


def _name(value: Any) -> str | None:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        return "must be 1 to 63 letters, digits, '-' or '_', and start with a letter or digit (it names files: no slash, no dot)"
    return None


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return "must be a text that isn't empty"
    return _control(value)


def _account(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not ACCOUNT.fullmatch(value)):
        return "must be the name of an account: letters, digits, '_', '.' and '-'"
    return None


def _target(value: Any) -> str | None:
    problem = _text(value)
    if problem:
        return problem
    if not value.startswith("/"):
        return "must be an absolute path"
    if ".." in value.split("/"):
        return "must not hold '..'"
    plain = "/" + "/".join(part for part in value.split("/") if part not in ("", "."))
    if plain in SYSTEM_DIRECTORIES:
        return (
            f"is {plain}, a directory of the system: a mirror deletes what its source doesn't have, so give the tree a directory of its own"
        )
    return None


def source_problem(value: Any) -> str | None:
    """What is wrong with the rsync URL ``value``, with the remedy; None if nothing is."""
    problem = _text(value)
    if problem:
        return problem
    if re.match(r"rsync://[^/@]*:[^/@]*@", value):
        return "holds a password, which would show in process lists and reports: remove it from the URL"
    match = _URL.fullmatch(value) or _DOUBLE_COLON.fullmatch(value)
    if not match:
        return "is not an rsync URL: write rsync://HOST[:PORT]/MODULE/ or HOST::MODULE/"
    port = match.groupdict().get("port")
    if port is not None and not 1 <= int(port) <= 65535:
        return f"has port {port}: ports go from 1 to 65535"
    module, _, path = match["path"].partition("/")
    if not module:
        return "names no module: write rsync://HOST/MODULE/"
    if ".." in path.split("/"):
        return "must not hold '..'"
    return None


def _pattern(value: Any) -> str | None:
    problem = _text(value)
    if problem:
        return problem
    if re.match(r"[+-] ", value) or value == "!":
        return "is a filter rule: 'exclude' takes plain rsync patterns, one for each entry"
    return None


def _shown(item: Any) -> str:
    """An entry of a list in a message; a password that somebody put into a URL isn't repeated."""
    return re.sub(r"(//[^/@]*:)[^/@]*@", r"\1***@", repr(item))


def _each(check: Check, *, least: int) -> Check:
    def checked(value: Any) -> str | None:
        if not isinstance(value, (list, tuple)):
            return "must be a list"
        if len(value) < least:
            return "must not be empty"
        found = [f"entry {number} ({_shown(item)}) {problem}" for number, item in enumerate(value, 1) if (problem := check(item))]
        repeated = sorted({_shown(item) for item in value if list(value).count(item) > 1})
        if repeated:
            found.append(f"has {', '.join(repeated)} more than once")
        return "; ".join(found) or None

    return checked


def _number(least: int, most: int | None = None, *, unit: str, optional: bool = False) -> Check:
    def checked(value: Any) -> str | None:
        if value is None and optional:
            return None
        good = isinstance(value, int) and not isinstance(value, bool) and value >= least and (most is None or value <= most)
        limits = f"from {least} to {most}" if most is not None else f"of {least} or more"
        return None if good else f"must be a whole number {limits} ({unit})"

    return checked


_CHECKS: dict[str, Check] = {
    "name": _name,
    "sources": _each(source_problem, least=1),
    "target": _target,
    "user": _account,
    "exclude": _each(_pattern, least=0),
    "max_delete": _number(0, unit="entries", optional=True),
    "max_delete_percent": _number(0, 100, unit="percent"),
    "time_limit": _number(1, unit="seconds"),
    "io_timeout": _number(1, unit="seconds"),
    "connect_timeout": _number(1, unit="seconds"),
    "bandwidth_limit": _number(0, unit="KiB/s"),
}


@dataclass
class Checked:
    """A definition that was looked at: the job if it is good, else all that is wrong with it."""

    job: Job | None
    problems: list[str] = field(default_factory=list)


def check(definition: dict[str, Any]) -> Checked:
    """Look at a definition and name every problem at once, each with its option and the remedy."""
    given = {key: value for key, value in definition.items() if key != "format"}
    known = [item.name for item in dataclasses.fields(Job)]
    problems: list[str] = []
    if definition.get("format", FORMAT) != FORMAT:
        problems.append(f"format: is {definition['format']!r}, this version of mirrornet reads {FORMAT}: upgrade mirrornet on this host.")
    for key in sorted(set(given) - set(known)):
        near = difflib.get_close_matches(key, known, 1)
        problems.append(f"{key}: no such option" + (f"; did you mean '{near[0]}'?" if near else f"; options are {', '.join(known)}."))
    for key in known:
        if key in given:
            problem = _CHECKS[key](given[key])
            if problem:
                shown = "" if isinstance(given[key], (list, tuple)) else f" {given[key]!r}"
                problems.append(f"{key}:{shown} {problem}.")
        elif key in ("name", "sources", "target"):
            problems.append(f"{key}: is missing.")
    if problems:
        return Checked(None, problems)
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return Checked(Job(**values))


def overlap(target: str, other: str) -> bool:
    """Whether one of two absolute paths is, or lies in, the other, as the file system sees them now (symlinks followed)."""
    one, two = Path(target).resolve(), Path(other).resolve()
    return one == two or one in two.parents or two in one.parents


def names(places: Places) -> list[str]:
    """The names of all jobs that are defined at ``places``, sorted."""
    return sorted(path.stem for path in places.definitions.glob("*.json") if NAME.fullmatch(path.stem))


def load(places: Places, name: str) -> Job:
    """The job called ``name``. Raises Failure (kind ``definition``) with everything that is wrong."""
    problem = _name(name)
    if problem:
        raise Failure("definition", Exit.CONFIG, f"Job name {name!r} {problem}.", "`mirrornet status` lists the jobs.")
    path = places.definition(name)
    try:
        definition = json.loads(path.read_bytes())
    except FileNotFoundError:
        known = names(places)
        hint = f"Jobs here: {', '.join(known)}." if known else "No job is defined there: check --config-dir."
        raise Failure("definition", Exit.CONFIG, f"There is no job {name!r}: {path} doesn't exist.", hint) from None
    except OSError as error:
        raise Failure("definition", Exit.CONFIG, f"{path} can't be read: {error.strerror}.", "Check its owner and mode.") from error
    except ValueError as error:
        raise Failure("definition", Exit.CONFIG, f"{path} is not valid JSON: {error}.", "Install the job again.") from error
    if not isinstance(definition, dict):
        raise Failure("definition", Exit.CONFIG, f"{path} is not a JSON object.", "Install the job again.")
    checked = check(definition)
    if checked.job is None:
        raise Failure(
            "definition", Exit.CONFIG, f"{path} is not a valid job. " + " ".join(checked.problems), "Correct it and install the job again."
        )
    if checked.job.name != name:
        raise Failure(
            "definition", Exit.CONFIG, f"{path} defines a job called {checked.job.name!r}.", "Give the file and the job one name."
        )
    return checked.job


def conflicts(places: Places, job: Job) -> list[str]:
    """The other jobs at ``places`` whose targets overlap with ``job``'s: each of two such jobs would delete what the other brought."""
    found = []
    for name in names(places):
        if name == job.name:
            continue
        try:
            other = load(places, name)
        except Failure:
            continue
        if overlap(job.target, other.target):
            found.append(
                f"target: {job.target!r} overlaps with {other.target!r} of job {name!r}: "
                "each would delete the other's files; give each job a directory of its own."
            )
    return found
