# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a running master, whoever set it up, by its configuration and the files that this names. What a stranger gets from it is
for the room ``stranger``.

Looks only: nothing is changed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from . import cves, rsyncd, rsyncd_admission, rsyncd_file, rsyncd_hooks, rsyncd_host
from .files import only_root_writes
from .rsyncd_file import Configuration, Module
from .rsyncd_options import Option
from .rsyncd_parameters import version_of
from .rsyncd_values import KINDS, check_secrets, suggest

#: From what must be mended today to what is worth knowing.
SEVERITIES = ("critical", "high", "medium", "low")
#: Entries of a tree's top that are looked at for symbolic links.
_MOST_ENTRIES = 1000
#: Makes a finding about a module: severity, message, remedy, and the parameters that may be at fault.
_Make = Callable[..., "Finding"]
_HOOKS = ("early exec", "pre-xfer exec", "post-xfer exec")
_NUMBERS = ("timeout", "max connections", "max verbosity")
#: Where the system keeps what is its own, with all that is below; and what holds more than any tree.
_SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr/bin", "/usr/lib", "/usr/sbin",
)  # fmt: skip
_TOO_MUCH = ("/", "/home", "/opt", "/usr", "/var", "/var/lib", "/var/log", "/var/spool")
_EVERYBODYS = ("/tmp", "/var/tmp")
#: A change of permissions by which everybody may write.
_FOR_ALL = re.compile(r"[DF]?[0-7]*[2367]|[DF]?[ug]*[oa][ugoa]*[+=][rxXst]*w[rwxXst]*")
_DEFAULT_LOCK = "/var/run/rsyncd.lock"


@dataclass(frozen=True)
class Finding:
    """One thing to mend: how bad it is, where, what it is, and what to do."""

    severity: str
    where: str
    message: str
    remedy: str


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, and otherwise as they were found; none twice."""
    return sorted(dict.fromkeys(findings), key=lambda finding: SEVERITIES.index(finding.severity))


def inside(config: Path, version: str = "") -> list[Finding]:
    """What the host itself shows; some of it only root can see. ``version`` is that of its rsync, empty if it isn't known."""
    found = rsyncd_file.read(config)
    findings = list(_oddities(found))
    for path in (*found.files, *found.directories):
        findings += _others_write(path, path, "the configuration")
    findings += _as_a_whole(found, version)
    findings += _nesting(found.modules)
    findings += _locks(found.modules)
    findings += _in_trees(found)
    for module in found.modules:
        findings += _module(module, version)
    return in_order(findings)


def modules(config: Path) -> list[str]:
    """The names of the modules in a configuration."""
    return [module.name for module in rsyncd_file.read(config).modules]


# The configuration as a whole.


def _oddities(found: Configuration) -> Iterator[Finding]:
    known = (*rsyncd_file.GLOBAL_PARAMETERS, *rsyncd_file.MODULE_PARAMETERS)
    for odd in found.oddities:
        if odd.kind == "unknown":
            yield Finding("high", odd.place, f"rsync passes over the unknown parameter '{odd.text}'", suggest(odd.text.lower(), known))
        elif odd.kind == "flag":
            yield Finding("high", odd.place, f"'{odd.text}' is neither yes nor no, and rsync passes over it", "Write yes or no")
        elif odd.kind == "line":
            yield Finding("medium", odd.place, f"rsync passes over '{odd.text}', which is no parameter", "Write NAME = VALUE, or remove it")
        elif odd.kind == "misplaced":
            yield Finding("medium", odd.place, f"'{odd.text}' has no effect in a module", "Move it above the first module")
        elif odd.kind == "repeated":
            yield Finding("medium", odd.place, f"module '{odd.text}' is there twice, and rsync merges the two", "Make it one, or rename it")
        else:
            yield Finding(
                "critical", odd.place, f"rsync can't read this: {odd.text}", "Mend it: clients are turned away, or served by half"
            )


def _as_a_whole(found: Configuration, version: str) -> Iterator[Finding]:
    proxied = found.defaults.get("proxy protocol")
    if proxied and proxied.truth and not _only_proxies(found, version):
        message = "who reaches the port without the proxy is whoever it claims to be, whatever hosts allow says"
        remedy = "Let only the proxy reach it: address = 127.0.0.1 for one on this host; from rsync 3.5.0 on proxy protocol hosts as well"
        yield Finding("high", proxied.place, message, remedy)
    written = found.defaults.get("pid file")
    if written:
        yield from _anybody_places(written.value, written.place, "pid file")


def _only_proxies(found: Configuration, version: str) -> bool:
    """Whether the configuration itself keeps everybody but proxies away."""
    address, hosts = found.defaults.get("address"), found.defaults.get("proxy protocol hosts")
    if address and (address.value == "::1" or address.value.startswith("127.")):
        return True
    # An older rsync passes over the list.
    known = not version or version_of(version) >= (3, 5)
    return bool(hosts and known and not rsyncd_admission.admits_all(hosts.value))


def _nesting(modules: Sequence[Module]) -> Iterator[Finding]:
    described = [_described(module) for module in modules]
    by_label = {rsyncd.label(number, words): module for number, (words, module) in enumerate(zip(described, modules), 1)}
    for problem in rsyncd.check_nesting(described, os.path.realpath):
        module = by_label[problem.where]
        yield Finding("high", _where(module, "path"), problem.message, problem.remedy)


def _described(module: Module) -> dict[str, object]:
    """A module as far as rules for our own ones ask about it."""
    path = module.text("path")
    return {
        "name": module.name,
        "path": path if "%" not in path else None,
        "read_only": module.flag("read only", True),
        "auth_users": _users(module),
    }


def _locks(modules: Sequence[Module]) -> Iterator[Finding]:
    """Connections are counted for each lock file, so modules that share one must agree on the limit."""
    first: dict[str, tuple[Module, int]] = {}
    for module in modules:
        limit = _number(module.text("max connections"))
        lock = module.text("lock file") or _DEFAULT_LOCK
        if limit <= 0 or "%" in lock:
            continue
        other, agreed = first.setdefault(os.path.realpath(lock), (module, limit))
        if agreed != limit:
            message = (
                f"its limit of {limit} connections counts those of module '{other.name}' too, whose limit is {agreed}: both are in {lock}"
            )
            yield Finding("medium", _where(module, "max connections"), message, "Give each a lock file of its own, or both the same limit")


def _in_trees(found: Configuration) -> Iterator[Finding]:
    """What no client should see, or even change, and is in a tree all the same."""
    named = [(path, path) for path in found.files]
    for module in found.modules:
        secrets = module.setting("secrets file")
        named += [(secrets.value, secrets.place)] if secrets and module.text("auth users") and "%" not in secrets.value else []
        for name in _HOOKS:
            setting = module.setting(name)
            named += [(path, setting.place) for path in rsyncd_hooks.programs(setting.value)] if setting else []
    for path, place in dict.fromkeys(named):
        for module in found.modules:
            tree = module.text("path")
            if "%" not in tree and tree.startswith("/") and tree.strip("/.") and _is_below(path, tree):
                message = f"{path} is in the tree of module '{module.name}', whose clients get or change it"
                yield Finding("high", place, message, "Move it out of the tree")


def _is_below(path: str, top: str) -> bool:
    return (os.path.realpath(path) + "/").startswith(os.path.realpath(top).rstrip("/") + "/")


# One module.


def _module(module: Module, version: str) -> Iterator[Finding]:
    def finding(severity: str, message: str, remedy: str, *names: str) -> Finding:
        return Finding(severity, _where(module, *names), message, remedy)

    for name, severity, message, remedy in rsyncd_admission.complaints(module.text("hosts allow"), module.text("hosts deny")):
        yield finding(severity, message, remedy, name)
    yield from _writers(module, finding)
    yield from _logins(module, finding, version)
    yield from _confinement(module, finding)
    yield from _secrets(module, finding)
    yield from _hooks(module, finding)
    yield from _named_files(module, finding)
    for name in _NUMBERS:
        if module.text(name) and not re.fullmatch(r"[+-]?[0-9]+", module.text(name)):
            message = f"'{name} = {module.text(name)}' is no number, and rsync takes it for {_number(module.text(name))}"
            yield finding("medium", message, "Write digits alone", name)
    if _number(module.text("timeout")) == 0:
        yield finding("medium", "a silent client holds its connection for ever", "Set timeout = 600", "timeout")
    if _number(module.text("max connections")) == 0:
        yield finding(
            "low", "there is no limit of connections", "Set max connections, unless inetd, xinetd or systemd has one", "max connections"
        )
    refused = module.text("refuse options").split()
    for message, remedy in KINDS["refusals"](Option("refuse_options", "refusals"), refused) if refused else ():
        yield finding("high", f"in refuse options {message}", remedy, "refuse options")
    if module.flag("ignore errors", False):
        yield finding("medium", "clients delete what this server can't read", "Remove ignore errors", "ignore errors")


def _where(module: Module, *names: str) -> str:
    """The place of the first of these parameters that is set, else of the module."""
    set_by = next((setting for name in names for setting in [module.setting(name)] if setting), None)
    return f"{set_by.place if set_by else module.place}, module '{module.name}'"


def _number(text: str) -> int:
    """What rsync makes of a number: what atoi(3) does."""
    found = re.match(r"\s*([+-]?[0-9]+)", text)
    return int(found.group(1)) if found else 0


def _users(module: Module) -> list[str]:
    """The rules for logins."""
    return _names(module.text("auth users"))


def _names(text: str) -> list[str]:
    """A list of accounts. A comma before the first says that names may hold spaces."""
    return [name.strip() for name in text.split(",") if name.strip()] if text.startswith(",") else rsyncd_admission.words(text)


def _is_open(module: Module) -> bool:
    """Whether strangers are let in."""
    return not module.text("auth users") and rsyncd_admission.lets_strangers_in(module.text("hosts allow"), module.text("hosts deny"))


def _writers(module: Module, finding: _Make) -> Iterator[Finding]:
    if not rsyncd.may_be_written(_described(module)):
        return
    if not module.flag("read only", True) and _is_open(module):
        yield finding("critical", "everybody can write", "Set read only = yes, or name the writers in hosts allow", "read only")
    if module.flag("munge symlinks", True) is False:
        yield finding("high", "writers can place links that lead out of the tree", "Remove munge symlinks = no", "munge symlinks")
    changes = module.text("incoming chmod")
    if not changes:
        message = "writers choose the permissions of what they send: for everybody to change, or with setuid"
        yield finding("low", message, "Set incoming chmod = Du=rwx,Dgo=rx,Fu=rw,Fgo=r", "read only")
    elif any(_FOR_ALL.fullmatch(change) for change in changes.split(",")):
        yield finding(
            "medium", "every account of this host can change what comes in", "Take w from o and a in incoming chmod", "incoming chmod"
        )


def _logins(module: Module, finding: _Make, version: str) -> Iterator[Finding]:
    rules = _users(module)
    names = [rule.partition(":")[0] for rule in rules]
    if not version or version_of(version) < (3, 5):
        for name in names:
            if " " in name:
                message = f"before 3.5.0 rsync doesn't find '{name}', and so lets in whom it denies (CVE-2026-70463)"
                yield finding("medium", message, "Name a group without a space, or update rsync", "auth users")
    plain = [rule for rule, name in zip(rules, names) if " " not in name]
    if plain:
        for message, remedy in KINDS["users"](Option("auth_users", "users"), plain):
            yield finding("high", f"in auth users {message}", remedy, "auth users")
    for name in names:
        if name.startswith("@") and not rsyncd_host.group_exists(name[1:]):
            message = f"there is no group '{name[1:]}' on this host, so that a rule of auth users is for nobody"
            yield finding("medium", message, "Correct the name. With a space in it, begin the list with a comma", "auth users")


def _confinement(module: Module, finding: _Make) -> Iterator[Finding]:
    chroot = module.text("use chroot").lower()
    locked_in = module.flag("use chroot", False)
    if not locked_in and chroot not in ("", "unset", "-1"):
        yield finding("high", "without chroot a mistake in rsync can reach the whole host", "Set use chroot = yes", "use chroot")
    elif not locked_in:
        yield finding("medium", "if chroot fails, rsync goes on without it", "Write use chroot = yes", "use chroot")
    yield from _accounts(module, finding)
    if module.flag("insecure links", False):
        yield finding("high", "links that others own are followed", "Remove insecure links", "insecure links")
    path = module.text("path")
    if not path:
        yield finding("high", "it has no path, and serves nothing", "Set path, or remove the module")
    elif not path.startswith("/") or path.strip("/.") == "":
        yield finding("critical", f"it publishes '{path}'", "Give the absolute path of a tree", "path")
    elif "%" not in path:
        yield from _system(module, path, finding)
        yield from _tree(Path(path), locked_in, rsyncd.may_be_written(_described(module)), finding)


def _accounts(module: Module, finding: _Make) -> Iterator[Finding]:
    uid, gids = module.text("uid"), _names(module.text("gid"))
    if uid in ("0", "root"):
        yield finding("high", "files are read as root, so that permissions protect none of them", "Name an unprivileged uid", "uid")
    if any(gid in ("0", "root") for gid in gids):
        yield finding(
            "medium", "files are read with root's group, so that permissions of groups protect none of them", "Name another gid", "gid"
        )
    for option, values in (("uid", [uid]), ("gid", gids)):
        for value in values:
            if value and "%" not in value and value != "*":
                for problem in rsyncd_host.check_accounts("", {option: value}):
                    yield finding("high", f"{problem.message}, so that every client is refused", problem.remedy, option)


def _system(module: Module, path: str, finding: _Make) -> Iterator[Finding]:
    real = os.path.realpath(path)
    severity = "critical" if _is_open(module) else "high"
    if real in _TOO_MUCH or any(_is_below(real, top) for top in _SYSTEM):
        yield finding(severity, f"it publishes {real}, which is the system's own", "Give the path of a tree, or remove the module", "path")
    elif real in _EVERYBODYS:
        yield finding("high", f"it publishes {real}, where every account leaves files", "Give the path of a tree of its own", "path")
    if os.path.realpath(path.partition("/./")[0] or "/") == "/" and "/./" in path:
        yield finding("high", f"the chroot of {path} is the whole host", "Put /./ where the tree begins, or leave it out", "path")


def _tree(path: Path, locked_in: bool, may_be_written: bool, finding: _Make) -> Iterator[Finding]:
    try:
        entries = [entry for dummy, entry in zip(range(_MOST_ENTRIES), path.iterdir())]
    except OSError as error:
        yield finding("high", f"{path} can't be read: {error.strerror}", "Create or mount the tree, or correct the path", "path")
        return
    if not entries and not may_be_written:
        message = f"{path} is empty: mirrors that follow it delete what they have"
        yield finding("medium", message, "Mount or fill the tree, or remove the module", "path")
    top = os.path.realpath(path)
    for entry in entries:
        if not locked_in and entry.is_symlink() and not (os.path.realpath(entry) + "/").startswith(top.rstrip("/") + "/"):
            yield finding("medium", f"{entry} is a link that leads out of the tree", "Set use chroot = yes, or remove the link", "path")
            return


def _secrets(module: Module, finding: _Make) -> Iterator[Finding]:
    users, secrets = module.text("auth users"), module.text("secrets file")
    if users and not secrets:
        yield finding("high", "nobody can log in, since it has no secrets file", "Set secrets file", "auth users")
    if not users or not secrets or "%" in secrets:
        return
    strict = module.flag("strict modes", True)
    if not strict:
        yield finding("high", "rsync doesn't mind who can read the passwords", "Remove strict modes = no", "strict modes")
    try:
        status = Path(secrets).stat()
    except OSError as error:
        yield finding("high", f"nobody can log in: {secrets}: {error.strerror}", "Create it, with mode 0600", "secrets file")
        return
    refuses = ", and rsync refuses each login" if strict else ""
    if stat.S_IMODE(status.st_mode) & 0o077:
        message = f"{secrets} has mode {stat.S_IMODE(status.st_mode):04o}: others than its owner can reach the passwords"
        # See "strict modes" in rsyncd.conf(5).
        yield finding("high", message + (refuses if status.st_mode & 0o006 else ""), f"chmod 0600 {secrets}", "secrets file")
    if status.st_uid not in (0, os.geteuid()):
        yield finding("high", f"{secrets} doesn't belong to root{refuses}", f"chown root {secrets}", "secrets file")
    else:
        yield from _others_write(secrets, _where(module, "secrets file"), "the passwords")
    if stat.S_ISREG(status.st_mode):
        yield from _passwords(module, Path(secrets), finding)


def _passwords(module: Module, path: Path, finding: _Make) -> Iterator[Finding]:
    """What is wrong with passwords, without a word of what they are."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:
        return  # An ordinary user looks.
    entries = [line.split(":", 1) for line in lines if line and not line.startswith("#") and ":" in line]
    if entries:
        for message, remedy in check_secrets([{"name": name, "password": password} for name, password in entries]):
            yield finding("medium", f"{path}: {message}", remedy, "secrets file")
    known = {name for name, dummy in entries}
    for rule in _users(module):
        name, dummy, access = rule.partition(":")
        if access != "deny" and not re.search(r"[@*?\[]", name) and name not in known:
            yield finding("medium", f"'{name}' can't log in: {path} has no password for it", "Add one, or remove the name", "auth users")


# What rsync runs, reads and writes as root.


def _hooks(module: Module, finding: _Make) -> Iterator[Finding]:
    for name in _HOOKS:
        for severity, message, remedy in rsyncd_hooks.complaints(module.text(name)):
            yield finding(severity, f"'{name}' {message}", remedy, name)
    for name in (*_HOOKS, "name converter"):
        for program in rsyncd_hooks.programs(module.text(name)):
            what = f"'{name}', which rsync runs as root"
            if not Path(program).exists():
                yield finding("high", f"{what}, is {program}, which is not there", "Put it there, or remove the parameter", name)
            yield from _others_write(program, _where(module, name), what)


def _named_files(module: Module, finding: _Make) -> Iterator[Finding]:
    for name in ("include from", "exclude from"):
        path = module.text(name)
        if path and "%" not in path and not Path(path).is_file():
            yield finding("high", f"every client is refused, since there is no file {path}", "Create it, or remove the parameter", name)
    for name in ("log file", "lock file"):
        yield from _anybody_places(module.text(name), _where(module, name), name)


def _anybody_places(path: str, where: str, name: str) -> Iterator[Finding]:
    """A file that root writes, in a directory where every account could have put a link before."""
    directory = Path(path).parent
    if path.startswith("/") and "%" not in path and directory.is_dir() and directory.stat().st_mode & 0o002:
        message = f"rsync writes its {name} as root, and everybody can put a link in its place: {directory} is writable for all"
        yield Finding("high", where, message, "Give a path in a directory of root's")


def _others_write(path: str, where: str, what: str) -> Iterator[Finding]:
    """A finding if others than root may change a file, or put another in its place."""
    reason = only_root_writes(path)
    if reason:
        severity = "critical" if _everybody_writes(Path(path)) else "high"
        yield Finding(
            severity, where, f"others can change {what}: {reason}", "chown root and chmod go-w, or move it to where only root writes"
        )


def _everybody_writes(path: Path) -> bool:
    real = Path(os.path.realpath(path))
    for place in (real, *real.parents):
        with suppress(OSError):
            mode = place.stat().st_mode
            if mode & stat.S_IWOTH and (place == real or not mode & stat.S_ISVTX):
                return True
    return False


# The program.


def program(rsync: str, version: str, changelog: str | None = None) -> list[Finding]:
    """The known vulnerabilities that the host's rsync has, by severity; ``changelog`` is looked for where it isn't given."""
    found = cves.unfixed(version, cves.changelog(rsync) if changelog is None else changelog)
    findings = []
    for severity in cves.SEVERITIES:
        those = [cve for cve in found if cve.severity == severity]
        if those:
            # What nobody has rated yet may be as bad as most are.
            level = severity if severity in SEVERITIES else "medium"
            findings.append(Finding(level, f"{rsync} {version}", f"it is vulnerable: {cves.list_of(those)}", cves.remedy(those)))
    return findings
