# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a running master, whoever set it up: by its configuration and files, and by what a stranger gets from it.

Looks only: nothing is changed, no file is sent, and no more connections are opened than asked for.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from . import cves, rsyncd_file
from .rsyncd_file import Configuration, Module
from .rsyncd_values import covers_everybody, suggest

#: From what must be mended today to what is worth knowing.
SEVERITIES = ("critical", "high", "medium", "low")
#: Silent connections that are tried at most.
MOST_CONNECTIONS = 30
#: Entries of a tree's top that are looked at for symbolic links.
_MOST_ENTRIES = 1000
#: Seconds for one answer of a server.
_PATIENCE = 20
#: Makes a finding about a module: severity, message, remedy, and the parameters that may be at fault.
_Make = Callable[..., "Finding"]
_EXECUTED = ("early exec", "pre-xfer exec", "post-xfer exec", "name converter")


@dataclass(frozen=True)
class Finding:
    """One thing to mend: how bad it is, where, what it is, and what to do."""

    severity: str
    where: str
    message: str
    remedy: str


def in_order(findings: list[Finding]) -> list[Finding]:
    """The worst first, and otherwise as they were found."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


# Inside: the configuration, and the files that it names.


def inside(config: Path) -> list[Finding]:
    """What the host itself shows. Some of it only root can see."""
    found = rsyncd_file.read(config)
    findings = list(_oddities(found))
    for path in found.files:
        findings += _only_root_writes(Path(path), path, "the configuration")
    for module in found.modules:
        findings += _module(module)
    return in_order(findings)


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


def _module(module: Module) -> Iterator[Finding]:
    where = f"module '{module.name}'"

    def finding(severity: str, message: str, remedy: str, *names: str) -> Finding:
        set_by = next((setting for name in names for setting in [module.setting(name)] if setting), None)
        return Finding(severity, f"{set_by.place if set_by else module.place}, {where}", message, remedy)

    yield from _access(module, finding)
    yield from _confinement(module, finding)
    yield from _secrets(module, finding)
    for name in _EXECUTED:
        setting = module.setting(name)
        words = setting.value.split() if setting else []
        if setting and words and words[0].startswith("/"):
            yield from _only_root_writes(Path(words[0]), f"{setting.place}, {where}", f"'{name}', which rsync runs as root,")
    if module.text("timeout") in ("", "0"):
        yield finding("medium", "a silent client holds its connection for ever", "Set timeout = 600", "timeout")
    if module.text("max connections") in ("", "0"):
        yield finding(
            "low", "there is no limit of connections", "Set max connections, unless inetd, xinetd or systemd has one", "max connections"
        )
    if module.flag("ignore errors", False):
        yield finding("medium", "clients delete what this server can't read", "Remove ignore errors", "ignore errors")


def _access(module: Module, finding: _Make) -> Iterator[Finding]:
    allow, deny = module.text("hosts allow").replace(",", " ").split(), module.text("hosts deny").replace(",", " ").split()
    if allow and deny and not covers_everybody(deny):
        message = "a host that is in neither hosts allow nor hosts deny is let in"
        yield finding("high", message, "Remove hosts deny: hosts allow alone refuses all others", "hosts deny")
    if not module.flag("read only", True):
        open_to_all = not module.text("auth users") and (not allow or covers_everybody(allow))
        if open_to_all:
            yield finding("critical", "everybody can write", "Set read only = yes, or name the writers in hosts allow", "read only")
        if module.flag("munge symlinks", True) is False:
            yield finding("high", "writers can place links that lead out of the tree", "Remove munge symlinks = no", "munge symlinks")
    names = [item for item in (*allow, *deny) if re.search(r"[g-zG-Z]", item) and item.lower() not in ("all",)]
    if names:
        yield finding("low", f"access depends on what the DNS says about {names[0]}", "Give addresses", "hosts allow", "hosts deny")


def _confinement(module: Module, finding: _Make) -> Iterator[Finding]:
    chroot = module.text("use chroot").lower()
    locked_in = module.flag("use chroot", False)
    if not locked_in and chroot not in ("", "unset", "-1"):
        yield finding("high", "without chroot a mistake in rsync can reach the whole host", "Set use chroot = yes", "use chroot")
    elif not locked_in:
        yield finding("medium", "if chroot fails, rsync goes on without it", "Write use chroot = yes", "use chroot")
    if module.text("uid") in ("0", "root"):
        yield finding("high", "files are read as root, so that permissions protect none of them", "Name an unprivileged uid", "uid")
    if module.flag("insecure links", False):
        yield finding("high", "links that others own are followed", "Remove insecure links", "insecure links")
    path = module.text("path")
    if not path:
        yield finding("high", "it has no path, and serves nothing", "Set path, or remove the module")
    elif not path.startswith("/") or path.strip("/.") == "":
        yield finding("critical", f"it publishes '{path}'", "Give the absolute path of a tree", "path")
    elif "%" not in path:
        yield from _tree(Path(path), locked_in, finding)


def _tree(path: Path, locked_in: bool, finding: _Make) -> Iterator[Finding]:
    try:
        entries = [entry for dummy, entry in zip(range(_MOST_ENTRIES), path.iterdir())]
    except OSError as error:
        yield finding("high", f"{path} can't be read: {error.strerror}", "Create or mount the tree, or correct the path", "path")
        return
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
    if not module.flag("strict modes", True):
        yield finding("high", "rsync doesn't mind who can read the passwords", "Remove strict modes = no", "strict modes")
    try:
        status = Path(secrets).stat()
    except OSError as error:
        yield finding("high", f"nobody can log in: {secrets}: {error.strerror}", "Create it, with mode 0600", "secrets file")
        return
    if stat.S_IMODE(status.st_mode) & 0o077:
        message = f"{secrets} has mode {stat.S_IMODE(status.st_mode):04o}: others than its owner can reach the passwords"
        yield finding("high", message, f"chmod 0600 {secrets}", "secrets file")


def _only_root_writes(path: Path, where: str, what: str) -> Iterator[Finding]:
    """Findings if others than root may change a file, or put another in its place."""
    for part in (path, path.parent):
        try:
            mode = part.stat().st_mode
        except OSError:
            if part == path:
                yield Finding("high", where, f"{what} is {path}, which is not there", "Put it there, or remove the parameter")
            continue
        sticky = part != path and mode & stat.S_ISVTX
        if mode & stat.S_IWOTH and not sticky:
            yield Finding("critical", where, f"everybody can change {what}: {part} is writable for all", f"chmod o-w {part}")


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


# Outside: what a client without a name gets.


def outside(rsync: str, host: str, port: int, connections: int) -> list[Finding]:
    """What anybody gets from the server: lists, files, the right to write; and how many silent connections it holds."""
    where = f"rsync://{host}:{port}/"
    code, said, complaint = _ask(rsync, where)
    if code != 0:
        return [Finding("high", where, f"it doesn't answer: {complaint}", "Is it running, and open to this host?")]
    findings: list[Finding] = []
    for name in _names(said):
        findings += _stranger(rsync, where + name + "/")
    findings += _silence(host, port, min(connections, MOST_CONNECTIONS), where)
    return in_order(findings)


def _names(listing: str) -> list[str]:
    """The modules of a list, which comes after the message of the day: ``NAME<spaces>TAB COMMENT``."""
    return [line.partition("\t")[0].rstrip() for line in listing.splitlines() if "\t" in line]


def _stranger(rsync: str, url: str) -> Iterator[Finding]:
    code, dummy, complaint = _ask(rsync, "--list-only", url)
    if code == 0:
        yield Finding("low", url, "everybody can read it", "Set hosts allow or auth users, if it isn't meant for the public")
    elif "@ERROR" in complaint and not re.search(r"auth failed|access denied|max connections", complaint):
        yield Finding("high", url, f"it is listed, and doesn't work: {complaint}", "Mend or remove it")
    with tempfile.TemporaryDirectory(prefix="rsyncd-audit-") as directory:
        probe = Path(directory) / "rsyncd-audit-probe"
        probe.touch()
        # A dry run: the server decides whether it would take the file, and nothing is sent.
        code, dummy, complaint = _ask(rsync, "--dry-run", str(probe), url)
    if code == 0:
        yield Finding("critical", url, "everybody can write to it", "Set read only = yes, or hosts allow and auth users")


def _ask(rsync: str, *words: str) -> tuple[int, str, str]:
    """Exit code, output, and first complaint of a client; it asks for no password."""
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "RSYNC_PASSWORD": "none"}
    try:
        done = subprocess.run(
            [rsync, f"--timeout={_PATIENCE}", f"--contimeout={_PATIENCE}", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=2 * _PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 30, "", "it fell silent"
    complaint = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return done.returncode, done.stdout.decode("utf-8", "replace"), complaint[0] if complaint else ""


def _silence(host: str, port: int, connections: int, where: str) -> Iterator[Finding]:
    """Whether one address can hold that many connections and say nothing."""
    if connections < 2:
        return
    with ExitStack() as stack:
        held = []
        for dummy in range(connections):
            try:
                held.append(stack.enter_context(socket.create_connection((host, port), _PATIENCE)))
            except OSError:
                break
        time.sleep(2)
        alive = sum(_is_held(connection) for connection in held)
    if alive >= connections:
        message = f"one address can hold {alive} silent connections"
        yield Finding("medium", where, message, "Limit connections for each source, in what accepts them or in the firewall")


def _is_held(connection: socket.socket) -> bool:
    """Whether the server has greeted and not hung up."""
    connection.setblocking(False)
    greeted = False
    try:
        while True:
            data = connection.recv(4096)
            if not data:
                return False
            greeted = greeted or data.startswith(b"@RSYNCD:")
            if b"@ERROR" in data:
                return False
    except BlockingIOError:
        return greeted
    except OSError:
        return False
