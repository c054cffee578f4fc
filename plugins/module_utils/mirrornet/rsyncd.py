# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An rsyncd.conf as a whole: what is wrong with its modules, each by itself, beside the others, and for the host's rsync.

Single values are for the room ``rsyncd_values``, what needs a look at the host for ``rsyncd_host``.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

from . import rsyncd_publish
from .address import address
from .rsyncd_options import GLOBAL_OPTIONS, MODULE_OPTIONS, Option
from .rsyncd_parameters import BY_KEY, Parameter, key_of, spelled, version_of
from .rsyncd_values import KINDS, covers_everybody, show, suggest

_PLACE = re.compile(r"\(item (\d+)\)$")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what, and what to do about it."""

    where: str  #: a variable, or a module by name and place in the list
    option: str  #: the option at fault; empty when the whole item is
    message: str
    remedy: str

    def __str__(self) -> str:
        remedy = self.remedy if self.remedy.endswith("?") else self.remedy + "."
        return ": ".join(part for part in (self.where, self.option, f"{self.message}. {remedy}") if part)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems as an operator works through them: variables first, then modules by their place in the list."""

    def place(problem: Problem) -> int:
        found = _PLACE.search(problem.where)
        return int(found.group(1)) if found else 0

    return sorted(problems, key=place)


# Rules for one module as a whole.


def may_be_written(module: Mapping[str, object]) -> bool:
    """Whether some client may write: the module isn't read only, or a user's rule overrides that."""
    users = module.get("auth_users")
    rules = users if isinstance(users, (list, tuple)) else ()
    return is_writable(module) or any(isinstance(rule, str) and rule.endswith(":rw") for rule in rules)


def is_writable(module: Mapping[str, object]) -> bool:
    """Whether clients may write; without a word about it they may not."""
    return module.get("read_only", True) is False


def _asks_for_login(module: Mapping[str, object]) -> bool:
    return bool(module.get("auth_users") or module.get("secrets"))


def _contradictions(module: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """What opens or closes a module in another way than its options say: option, message, remedy."""
    allow, deny = module.get("hosts_allow"), module.get("hosts_deny")
    if isinstance(allow, list) and isinstance(deny, list) and allow and deny and not covers_everybody(deny):
        yield (
            "hosts_deny",
            "together with hosts_allow it admits every host that is in neither list",
            "Leave hosts_deny out: hosts_allow alone refuses all others. Or deny everybody else with hosts_deny: ['*']",
        )
    if module.get("write_only") is True and not may_be_written(module):
        yield "write_only", "the module is read only as well, so that it serves nothing", "Add read_only: false"
    if is_writable(module) and not (allow or module.get("hosts_allow_groups") or _asks_for_login(module)):
        yield (
            "read_only",
            "everybody in the world could write to it",
            "Name the hosts that may in hosts_allow (['*'] if it really is everybody), or who may in auth_users",
        )
    if module.get("auth_users") and not (module.get("secrets_file") or module.get("secrets")):
        yield "auth_users", "nobody has a password, so nobody could log in", "Add the passwords in secrets, or in rsync_master_secrets"
    if module.get("munge_symlinks") is False and module.get("use_chroot") is False and may_be_written(module):
        yield (
            "munge_symlinks",
            "without it and without a chroot a symbolic link that a client leaves could lead out of the tree",
            "Leave munge_symlinks out, or use_chroot",
        )
    yield from _idle(module)


def _idle(module: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Options that do nothing beside the others, so that something else must have been meant."""
    if module.get("sentinel_create") is True and "sentinel" not in module:
        yield "sentinel_create", "there is no sentinel to create", "Name the file in sentinel, or leave sentinel_create out"
    if module.get("sentinel") and module.get("sentinel") == module.get("rebuild_flag"):
        yield "rebuild_flag", "it is the sentinel too, so that the module is closed with it and without it", "Name another file"
    if "lock_file" in module and not module.get("max_connections"):
        yield "lock_file", "without max_connections it does nothing", "Add max_connections, or leave lock_file out"
    for name in ("secrets_file", "auth_digest"):
        if name in module and not _asks_for_login(module):
            yield name, "without auth_users it does nothing, and everybody is admitted", "Name the users, or leave it out"
    if "incoming_chmod" in module and not may_be_written(module):
        yield "incoming_chmod", "nothing comes in, since the module is read only", "Leave it out, or mean outgoing_chmod"
    if "outgoing_chmod" in module and module.get("write_only") is True:
        yield "outgoing_chmod", "nothing goes out, since the module is write only", "Leave it out, or mean incoming_chmod"
    if "log_format" in module and module.get("transfer_logging") is False:
        yield "log_format", "without transfer_logging it does nothing", "Leave one of the two out"


def _missing(module: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    for name in ("name", "path"):
        if name not in module:
            yield name, "it is missing", "Every module needs a name and a path"


# The whole.


def label(position: int, module: object) -> str:
    """How messages call a module: by its name where it has one, and by its place in the list, counted from 1."""
    name = module.get("name") if isinstance(module, dict) else None
    return f"module {show(name)} (item {position})" if isinstance(name, str) else f"module without a name (item {position})"


def _check_values(where: str, options: Sequence[Option], given: Mapping[str, object]) -> Iterator[Problem]:
    table = {option.name: option for option in options}
    for name, value in given.items():
        option = table.get(name)
        if option is None:
            yield Problem(where, "", f"unknown option {show(name)}", suggest(str(name), table))
        elif value is None:
            yield Problem(where, name, "it has no value", "Give one, or leave the option out")
        else:
            for message, remedy in KINDS[option.kind](option, value):
                yield Problem(where, name, message, remedy)


def check_globals(given: Mapping[str, object], prefix: str = "") -> list[Problem]:
    """What is wrong with the options for all modules; ``prefix`` makes the name of the operator's variable from an option's."""
    problems = [*_check_values("", GLOBAL_OPTIONS, given), *(Problem("", *parts) for parts in _contradictions_of_all(given))]
    return [Problem(prefix + (p.option or p.where), "", p.message, p.remedy) for p in problems]


def _contradictions_of_all(given: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """What is wrong between the options for all modules: option, message, remedy."""
    if given.get("tls") is not True:
        if given.get("public_scheme") == "rsyncs":
            yield "public_scheme", "mirrors would be told to use TLS, which is not served", "Set rsync_master_tls: true, or take rsync"
        return
    if given.get("tls_port", 0) == given.get("port"):
        yield "tls_port", f"it is the port for connections without TLS ({given.get('port')})", "Give each a port of its own"
    if address(given.get("public_name")):
        message = f"{show(given.get('public_name'))} is an address, and rsync-ssl accepts certificates for names alone"
        yield "public_name", message, "Give the name that mirrors use"


def check_module(position: int, module: object) -> list[Problem]:
    """What is wrong with one module taken alone; ``position`` is its place in the list, counted from 1."""
    where = label(position, module)
    if not isinstance(module, dict):
        return [Problem(where, "", f"{show(module)} is not a dictionary", "Write it as {name: …, path: …}")]
    problems = [Problem(where, *parts) for parts in _missing(module)]
    problems += _check_values(where, MODULE_OPTIONS, module)
    problems += [Problem(where, *parts) for parts in _contradictions(module)]
    return problems


def check_modules(modules: Sequence[object]) -> list[Problem]:
    """What is wrong with a list of modules, each by itself and between them. Paths are compared as written."""
    problems = [problem for position, module in enumerate(modules, 1) for problem in check_module(position, module)]
    problems += _check_names(modules)
    problems += _check_locks(modules)
    problems += check_nesting(modules, os.path.normpath)
    return problems


def _named(modules: Sequence[object]) -> Iterator[tuple[str, dict[str, object]]]:
    """The modules that are dictionaries, with their labels."""
    for position, module in enumerate(modules, 1):
        if isinstance(module, dict):
            yield label(position, module), module


def _check_names(modules: Sequence[object]) -> Iterator[Problem]:
    """Names must differ in more than case: rsync's parser merges two sections that don't."""
    seen: dict[str, str] = {}
    for where, module in _named(modules):
        name = module.get("name")
        if isinstance(name, str):
            first = seen.setdefault(name.lower(), where)
            if first != where:
                yield Problem(where, "name", f"{first} has this name already, and rsync would merge the two", "Rename one of them")


def _check_locks(modules: Sequence[object]) -> Iterator[Problem]:
    """Connections are counted per lock file, so modules that share one must agree on the limit. A limit without a file gets that of the module's name."""
    seen: dict[str, tuple[str, object]] = {}
    for where, module in _named(modules):
        limit = module.get("max_connections")
        lock = module.get("lock_file", f"{module.get('name')}.lock" if limit else None)
        if isinstance(lock, str):
            lock = lock.rpartition("/")[2]
            first, agreed = seen.setdefault(lock, (where, limit))
            if agreed != limit:
                message = f"{first} counts its connections in this file too, with another limit ({agreed})"
                yield Problem(where, "lock_file", message, "Give each its own lock_file, or both the same max_connections")


def check_nesting(modules: Sequence[object], resolve: Callable[[str], str]) -> list[Problem]:
    """Trees inside each other of which one is writable: its writers would change, or publish through, the other.

    ``resolve`` makes a path comparable: as written, or as the host resolves it. Two modules may publish the same directory.
    """
    places = [
        (where, module, resolve(str(module["path"])).rstrip("/") + "/")
        for where, module in _named(modules)
        if isinstance(module.get("path"), str) and str(module["path"]).startswith("/") and "\0" not in str(module["path"])
    ]
    problems = []
    for inner_where, inner, inner_path in places:
        for outer_where, outer, outer_path in places:
            if inner_path == outer_path or not inner_path.startswith(outer_path):
                continue
            if may_be_written(outer):
                message = f"it lies inside the path of {outer_where}, whose clients may write"
            elif may_be_written(inner):
                message = f"its clients may write, and it lies inside the path of {outer_where}, which would publish what they send"
            else:
                continue
            problems.append(Problem(inner_where, "path", message, "Move one of the two trees elsewhere"))
    return problems


def check_publishing(modules: Sequence[object], exclude: object) -> list[Problem]:
    """What keeps trees from being published as their modules ask for; ``exclude`` is what no module serves."""
    return [Problem(label(position, modules[position - 1]), *parts) for position, *parts in rsyncd_publish.together(modules, exclude)]


def check_variables(given: Iterable[str], known: Iterable[str]) -> list[Problem]:
    """Names of variables that nobody reads: a typo in one must not leave a default in force unseen."""
    names = sorted(known)
    return [Problem(name, "", "there is no such variable", suggest(name, names)) for name in sorted(set(given)) if name not in set(names)]


def check_versions(modules: Sequence[object], options: Mapping[str, object], version: str, prefix: str = "") -> list[Problem]:
    """What this host's rsync is too old for, and would ignore. Nothing where the version isn't known."""
    here = version_of(version)
    if not here:
        return []
    problems = []
    if options.get("tls") is True and here < BY_KEY[key_of("proxy protocol")].since:
        message = f"rsync {version} on this host can't be told a client's address by stunnel"
        problems.append(Problem(prefix + "tls", "", message, "Leave it out, or install rsync 3.2.0 or later"))
    for where, name, parameter in _said(modules, options, prefix):
        if parameter.since > here:
            message = f"rsync {version} on this host doesn't know {show(parameter.name)}, and would ignore it"
            problems.append(Problem(where, name, message, f"Leave it out, or install rsync {spelled(parameter.since)} or later"))
    return problems


def _said(modules: Sequence[object], options: Mapping[str, object], prefix: str) -> Iterator[tuple[str, str, Parameter]]:
    """Every parameter of rsync that is said anywhere: where, under which option, which one."""
    places = [(prefix + "{}", "", options), *((where, "{}", module) for where, module in _named(modules))]
    for where, shown, given in places:
        for name, value in given.items():
            parameter = BY_KEY.get(key_of(str(name)))
            if parameter is not None and value != "":
                yield where.format(name), shown.format(name), parameter
        extra = given.get("extra")
        for name in extra if isinstance(extra, Mapping) else ():
            parameter = BY_KEY.get(key_of(str(name)))
            if parameter is not None:
                yield where.format("extra"), shown.format("extra"), parameter


def advise(modules: Sequence[object], version: str = "") -> list[str]:
    """What is allowed but deserves a second look; ``version`` is that of the host's rsync, empty when it isn't known."""
    warnings = []
    logins = [where for where, module in _named(modules) if module.get("auth_users")]
    if logins and () < version_of(version) < (3, 2, 7):
        warnings.append(
            f"{', '.join(logins)}: rsync {version} proves passwords by MD5, which is cheap to try passwords against for whoever overhears"
            " a login. Take long random ones, serve over TLS, or install rsync 3.2.7 or later, which takes SHA-512 with clients that can."
        )
    for where, module in _named(modules):
        if module.get("uid") in (0, "0", "root"):
            warnings.append(f"{where}: files are read as root, so that permissions protect none of them. Give an unprivileged uid.")
        if module.get("use_chroot") is False:
            warnings.append(f"{where}: without chroot a mistake in rsync can reach the whole host. Leave use_chroot out.")
        extra = module.get("extra")
        if isinstance(extra, Mapping) and any(key_of(str(name)) == "insecurelinks" and value is True for name, value in extra.items()):
            warnings.append(f"{where}: with insecure links a symbolic link in the tree can lead rsync out of it. Leave it out.")
    return warnings


# rsync's own opinion about a rendered file.

_STAMP = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[\d+\] ")
_COMPLAINT = re.compile(r"unknown parameter|global parameter|badly formed|params\.c:|^rsync error: syntax", re.IGNORECASE)
_ECHO = re.compile(r"IGNORING unknown parameter|parse\(\)\.$|^rsync error: syntax")


def read_verdict(greeting: str, log: str) -> list[str]:
    """What rsync found wrong with a configuration, from what it printed when started on it with nothing to serve.

    ``greeting`` is its standard output: rsync greets when it could read the file at all. ``log`` is its log, in which
    unknown parameters and bad truth values are mentioned although rsync goes on; the exit code doesn't tell them.
    """
    lines = [_STAMP.sub("", line).strip() for line in log.splitlines()]
    said = [line for line in lines if _COMPLAINT.search(line)]
    telling = [line for line in said if not _ECHO.search(line)]
    if telling or said:
        return list(dict.fromkeys(telling or said))
    if not greeting.startswith("@RSYNCD:"):
        return ["it did not accept the file, and gave no reason: " + show(" / ".join(line for line in lines if line))]
    return []
