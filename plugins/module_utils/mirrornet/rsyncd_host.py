# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host says about a master's configuration: its directories and accounts, its rsync, its port.

Everything here looks and changes nothing. It expects values that the room ``rsyncd`` found nothing wrong with.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Callable

from .certificate import check_key_file, check_pair
from .files import is_real_directory, only_root_writes
from .places import IN_TREE
from .rsyncd import Problem, check_nesting, label, read_verdict
from .rsyncd_values import show

#: rsync greets at once; a host that needs longer than this is broken. Seconds.
_PATIENCE = 30

_SBIN = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# Directories and accounts.


def check_modules_on_host(modules: Sequence[object], known: Sequence[Problem], own: str = "") -> list[Problem]:
    """What is wrong with modules on this host: paths that aren't there, accounts that don't exist, trees that overlap.

    ``known`` is what their values were found at fault for: a value that is wrong in itself isn't looked up.
    Files of passwords in the directory ``own`` are still to be written.
    """
    at_fault = {(problem.where, problem.option) for problem in known}
    problems: list[Problem] = []
    for position, module in enumerate(modules, 1):
        if not isinstance(module, dict):
            continue
        where = label(position, module)
        sound = {name: value for name, value in module.items() if (where, name) not in at_fault}
        if "path" in sound:
            problems += _check_tree(where, str(sound["path"]))
            if "publish" in sound:
                problems += _check_own_directory(where, Path(str(sound["path"])) / IN_TREE)
            if "sentinel" in sound and Path(str(sound["path"])).is_dir():
                problems += _check_sentinel(where, Path(str(sound["path"])), str(sound["sentinel"]), sound.get("sentinel_create") is True)
        problems += check_accounts(where, sound)
        if own and str(sound.get("secrets_file", "")).startswith(own.rstrip("/") + "/"):
            del sound["secrets_file"]
        problems += check_files(where, sound)
    # A symbolic link can put one tree into another; what overlaps as written is known already.
    return problems + [problem for problem in check_nesting(modules, os.path.realpath) if problem not in known]


def _check_tree(where: str, path: str) -> Iterator[Problem]:
    if not os.path.lexists(path):
        yield Problem(where, "path", f"{show(path)} does not exist", "Create or mount the tree first, or correct the path")
    elif not Path(path).is_dir():
        yield Problem(where, "path", f"{show(path)} is not a directory", "Give the directory of the tree")


def _check_own_directory(where: str, directory: Path) -> Iterator[Problem]:
    """Whether heads can be put there: root gives it to the account, and the tree's owner could have put a link to another directory there."""
    if os.path.lexists(directory) and not is_real_directory(directory):
        message = f"{show(str(directory))} is not a directory itself, and heads belong there"
        yield Problem(where, "publish", message, "Find out who put it there, and remove it")


def _check_sentinel(where: str, tree: Path, name: str, create: bool) -> Iterator[Problem]:
    """Whether the file is there that a module's clients are admitted by, or can be created without lying about the tree."""
    sentinel = tree / name
    if sentinel.is_file():
        return
    if os.path.lexists(sentinel):
        yield Problem(where, "sentinel", f"{show(str(sentinel))} is not a file", "Name a file that is there whenever the tree is")
    elif not create:
        message = f"{show(str(sentinel))} does not exist, so that every client would be refused"
        remedy = "Mount or complete the tree. If it is whole, create the file, or let the role do so with sentinel_create: true"
        yield Problem(where, "sentinel", message, remedy)
    elif not any(tree.iterdir()):
        message = f"{show(str(tree))} is empty: it may be a mount point with nothing mounted on it"
        yield Problem(where, "sentinel_create", message, "Mount the tree or put its files there first")
    elif not sentinel.parent.is_dir():
        yield Problem(where, "sentinel", f"the directory {show(str(sentinel.parent))} does not exist", "Create it, or name another file")
    elif not Path(os.path.realpath(sentinel)).is_relative_to(os.path.realpath(tree)):
        # Root would write wherever the tree's owner lets the link lead.
        yield Problem(where, "sentinel", f"{show(str(sentinel.parent))} leads out of the tree", "Name a file that is in the tree itself")


def check_accounts(where: str, options: Mapping[str, object], prefix: str = "") -> list[Problem]:
    """Whether the ``uid`` and ``gid`` among the options exist here. A number needs no account of its own."""
    problems = []
    for name, kind, exists in (("uid", "user", _user_exists), ("gid", "group", group_exists)):
        value = options.get(name)
        if isinstance(value, str) and not value.isdigit() and not exists(value):
            remedy = f"Create the {kind} first, or name another"
            problems.append(
                Problem(where or prefix + name, name if where else "", f"there is no {kind} {show(value)} on this host", remedy)
            )
    return problems


def _user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def group_exists(name: str) -> bool:
    """Whether this host knows a group of that name."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


# Files that a module names.


def check_files(where: str, options: Mapping[str, object]) -> list[Problem]:
    """What is wrong on this host with the files and programs that a module names."""
    checks: dict[str, Callable[[str], Iterator[tuple[str, str]]]] = {
        "include_from": _patterns_file,
        "exclude_from": _patterns_file,
        "secrets_file": _secrets_file,
        "early_exec": _program,
        "pre_xfer_exec": _program,
        "post_xfer_exec": _program,
        "log_file": _log,
        "charset": _charset,
    }
    problems = []
    for name, check in checks.items():
        value = options.get(name)
        if isinstance(value, str):
            problems += [Problem(where, name, message, remedy) for message, remedy in check(value)]
    return problems


def _patterns_file(path: str) -> Iterator[tuple[str, str]]:
    # rsync refuses every client of a module whose file of patterns it can't read.
    if not Path(path).is_file():
        yield f"there is no file {path!r}", "Create it first, or correct the path"


def _secrets_file(path: str) -> Iterator[tuple[str, str]]:
    """rsync refuses each login with a file that others can read; see "strict modes" in rsyncd.conf(5)."""
    try:
        status = os.lstat(path)
    except OSError:
        yield f"there is no file {path!r}", "Create it first, or give the passwords in secrets"
        return
    if not stat.S_ISREG(status.st_mode):
        yield f"{path!r} is not a file itself", "Put the file there, not a link to one"
    elif status.st_mode & 0o077:
        yield f"{path!r} can be read or written by others than its owner", "Run: chmod 600"
    elif status.st_uid not in _TRUSTED:
        yield f"{path!r} does not belong to root, so rsync would refuse each login", "Run: chown root"


#: Whose files may decide what runs as root: root's, and those of whoever asks.
_TRUSTED = {0, os.geteuid()}


def _program(command: str) -> Iterator[tuple[str, str]]:
    """rsync runs it as root, so nobody else may be able to change it, nor to put another in its place."""
    name = command.partition(" ")[0]
    try:
        status = Path(name).stat()
    except OSError:
        yield f"there is no program {name!r}", "Install it first, or correct the path"
        return
    others = only_root_writes(name)
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
        yield f"{name!r} is not an executable file", "Run: chmod 755"
    elif others:
        yield f"{name!r} runs as root, but {others}", "Make it root's alone, or move it to a directory such as /usr/local/sbin"


def _log(path: str) -> Iterator[tuple[str, str]]:
    """rsync opens it as root, before it drops its rights."""
    directory, others = Path(path).parent, only_root_writes(path)
    if not directory.is_dir():
        yield f"the directory {str(directory)!r} does not exist", "Create it first, or give another path"
    elif os.path.lexists(path) and (Path(path).is_symlink() or not Path(path).is_file()):
        yield f"{path!r} is not a file itself", "Give the path of a file"
    elif others:
        yield f"root opens {path!r}, but {others}, and so could lead it elsewhere", "Give a path in a directory of root's, such as /var/log"


def _charset(name: str) -> Iterator[tuple[str, str]]:
    """rsync refuses every client of a module whose character set it doesn't know."""
    iconv = shutil.which("iconv", path=os.environ.get("PATH", "") + ":" + _SBIN)
    if iconv is None:
        return
    said = subprocess.run(
        [iconv, "--from-code=UTF-8", f"--to-code={name}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_PATIENCE,
        check=False,
    )
    if said.returncode != 0:
        yield f"this host does not know the character set {show(name)}, so rsync would refuse every client", "Take one of 'iconv --list'"


def check_config_path(path: str, where: str) -> list[Problem]:
    """Whether a configuration can be put there."""
    if Path(path).is_dir():
        return [Problem(where, "", f"{show(path)} is a directory", "Give the path of a file")]
    if not Path(path).parent.is_dir():
        return [Problem(where, "", f"the directory {show(str(Path(path).parent))} does not exist", "Create it first, or give another path")]
    return []


def check_addresses(addresses: Sequence[str], where: str) -> list[Problem]:
    """Whether this host has the addresses it is to listen on."""
    problems = []
    for address in addresses:
        family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind((address, 0))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL):
                raise
            problems.append(Problem(where, "", f"this host does not have the address {show(address)}", "Give one that 'ip address' shows"))
    return problems


def check_certificate(certificate: str, key: str, name: str, prefix: str) -> list[Problem]:
    """Whether clients that come to ``name`` would accept the certificate, and whether its key is kept."""
    where, key_file = prefix + "tls_certificate", Path(key)
    problems = [Problem(prefix + "tls_key", "", *complaint) for complaint in check_key_file(key_file)]
    # A key that isn't there is said once.
    if key_file.is_file():
        problems += [Problem(where, "", *complaint) for complaint in check_pair(Path(certificate), key_file, name)]
    elif not Path(certificate).is_file():
        problems.append(Problem(where, "", f"{show(certificate)} is not there", "Put the certificate there, or correct the path"))
    return problems


def has_ipv6() -> bool:
    """Whether the kernel knows IPv6."""
    return Path("/proc/net/if_inet6").exists()


def published(directory: Path = Path("/etc/systemd/system")) -> list[str]:
    """The modules of whose trees mirrors are told by a timer, sorted."""
    before, after = "mirrornet-publish-", ".timer"
    return sorted(path.name[len(before) : -len(after)] for path in directory.glob(f"{before}*{after}"))


# rsync.


def find_rsync() -> str | None:
    """The path of the host's rsync, None when there is none."""
    return shutil.which("rsync", path=os.environ.get("PATH", "") + ":" + _SBIN)


def rsync_version(rsync: str) -> str:
    """Its version such as ``3.2.3``; empty when it doesn't say."""
    said = subprocess.run([rsync, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_PATIENCE, check=False)
    found = re.search(rb"version\s+v?(\d+(?:\.\d+)+)", said.stdout)
    return found.group(1).decode() if found else ""


def ask_rsync(rsync: str, candidate: str) -> list[str]:
    """What the host's rsync finds wrong with the text of a configuration; needs neither root nor a port.

    It is started as if by inetd, with nobody at the other end: it reads the file, greets, and leaves.
    """
    environment = {"PATH": _SBIN, "LC_ALL": "C"}
    with tempfile.TemporaryDirectory(prefix="rsyncd-check-") as directory:
        path = Path(directory) / "rsyncd.conf"
        path.write_text(candidate, encoding="utf-8")
        try:
            said = subprocess.run(
                [rsync, "--server", "--daemon", f"--config={path}", "--log-file=/dev/stderr", "."],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment,
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [f"it did not come to an end within {_PATIENCE} seconds"]
    return read_verdict(said.stdout.decode("utf-8", "replace"), said.stderr.decode("utf-8", "replace"))


# The port.


@dataclass(frozen=True)
class Listener:
    """A socket that listens: where, and whose it is as far as this process may see."""

    address: str
    port: int
    holder: str  #: a systemd unit, else "PROGRAM (process ID)", else empty


def check_port(port: int, addresses: Sequence[str], units: Sequence[str], where: str) -> list[Problem]:
    """Whether the port is free to listen on, or held by one of ``units``, from which it may be taken. No address means all."""
    problems = []
    for listener in listeners(port):
        if listener.holder in units or not _overlap(listener.address, addresses):
            continue
        message = f"port {port} is in use: {listener.holder or 'another program'} listens on {listener.address}"
        problems.append(Problem(where, "", message, "Stop it, or choose another port or other addresses"))
    return problems


def _overlap(held: str, wanted: Sequence[str]) -> bool:
    """Whether two listeners would get in each other's way; the IPv6 wildcard takes IPv4 as well."""
    holder = ip_address(held)
    if not wanted or held == "::":
        return True
    for text in wanted:
        address = ip_address(text)
        if address.version == holder.version and (address == holder or holder.is_unspecified or address.is_unspecified):
            return True
        if text == "::":
            return True
    return False


def listeners(port: int, proc: Path = Path("/proc"), units: Callable[[], dict[int, list[str]]] | None = None) -> list[Listener]:
    """Who listens on a TCP port here, from /proc; ``units`` tells which socket units listen on which port."""
    found = []
    for table in ("net/tcp", "net/tcp6"):
        try:
            lines = (proc / table).read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            address, number = fields[1].split(":")
            # 0A is LISTEN, see proc(5).
            if fields[3] == "0A" and int(number, 16) == port:
                found.append(Listener(_decode(address), port, _holder(fields[9], port, proc, units or socket_units)))
    return found


def _decode(text: str) -> str:
    """An address of /proc/net/tcp: 32-bit words in hexadecimal, each in the byte order of the machine."""
    words = [bytes.fromhex(text[start : start + 8]) for start in range(0, len(text), 8)]
    raw = b"".join(word[::-1] if _LITTLE else word for word in words)
    address = ip_address(raw)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


_LITTLE = socket.htons(1) != 1


def _holder(inode: str, port: int, proc: Path, units: Callable[[], dict[int, list[str]]]) -> str:
    """Who holds the socket with this inode."""
    for process in processes(proc):
        if not _has_socket(process, inode):
            continue
        if process.name == "1":
            # systemd itself: it listens for a socket unit.
            held = units().get(port, [])
            return held[0] if held else "systemd (process 1)"
        unit = _unit(process)
        if unit:
            return unit
        try:
            name = (process / "comm").read_text(encoding="utf-8").strip()
        except OSError:
            return f"process {process.name}"
        return f"{name} (process {process.name})"
    return ""


def processes(proc: Path) -> list[Path]:
    return sorted((entry for entry in proc.iterdir() if entry.name.isdigit()), key=lambda entry: int(entry.name))


def _has_socket(process: Path, inode: str) -> bool:
    try:
        for entry in (process / "fd").iterdir():
            try:
                if str(entry.readlink()) == f"socket:[{inode}]":
                    return True
            except OSError:
                continue  # closed meanwhile
    except OSError:
        return False  # gone meanwhile, or not ours to look at
    return False


def _unit(process: Path) -> str:
    """The systemd service of a process, empty when it has none."""
    try:
        groups = (process / "cgroup").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"/([^/\n]+\.service)(?:/|$)", groups, re.MULTILINE)
    return found.group(1) if found else ""


def has_systemd() -> bool:
    """Whether systemd runs as process 1; the test is that of sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


def socket_units() -> dict[int, list[str]]:
    """The active socket units by the TCP port they listen on."""
    ports: dict[int, list[str]] = {}
    for unit in ask_systemd("--property=Id,ActiveState,Listen", "*.socket"):
        if unit.get("ActiveState") == ["active"]:
            for number in re.findall(r":(\d+) \(Stream\)", "\n".join(unit.get("Listen", []))):
                ports.setdefault(int(number), []).append(unit["Id"][0])
    return ports


@dataclass(frozen=True)
class UnitState:
    """A unit of systemd."""

    state: str  #: what systemd calls ActiveState
    since: float = 0.0  #: when it became active, in seconds of the system's uptime
    needs_reload: bool = False  #: whether systemd has read an older version of its files

    @property
    def active(self) -> bool:
        return self.state in ("active", "activating", "reloading")


def unit_states(names: Sequence[str]) -> dict[str, UnitState]:
    """Those of the units that exist here, by the names that were asked for."""
    properties = "--property=Id,Names,LoadState,ActiveState,ActiveEnterTimestampMonotonic,NeedDaemonReload"
    states = {}
    for unit in ask_systemd(properties, "--", *names) if names else []:
        if unit.get("LoadState") != ["not-found"]:
            since = int(unit["ActiveEnterTimestampMonotonic"][0]) / 1e6
            state = UnitState(unit["ActiveState"][0], since, unit["NeedDaemonReload"] == ["yes"])
            states.update({name: state for name in unit["Names"][0].split() if name in names})
    return states


def ask_systemd(*words: str) -> list[dict[str, list[str]]]:
    """What ``systemctl show`` says; nothing where systemd isn't running."""
    if not has_systemd():
        return []
    said = subprocess.run(
        ["systemctl", "show", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": _SBIN, "LC_ALL": "C"},
        timeout=_PATIENCE,
        check=False,
    )
    return read_properties(said.stdout.decode("utf-8", "replace"))


def read_properties(text: str) -> list[dict[str, list[str]]]:
    """The output of ``systemctl show``: a block of KEY=VALUE for each unit, divided by empty lines. A key may come again."""
    units = []
    for block in text.strip().split("\n\n"):
        unit: dict[str, list[str]] = {}
        for key, equals, value in (line.partition("=") for line in block.splitlines()):
            if equals:
                unit.setdefault(key, []).append(value)
        if unit:
            units.append(unit)
    return units


# What is done with the log.


def _log_directory(directory: Path, logs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Why a directory can't become that of the log alone: the role takes it for itself, and connections may write to all of it."""
    remedy = "Give the log a directory of its own, which the role makes"
    try:
        status = directory.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        yield f"{str(directory)!r} can't be looked at: {error.strerror}", remedy
        return
    if not stat.S_ISDIR(status.st_mode):
        yield f"{str(directory)!r} is not a directory itself", remedy
    elif status.st_uid not in _TRUSTED:
        yield f"{str(directory)!r} belongs to somebody else", remedy
    else:
        # Rotation adds to a name.
        ours = tuple(Path(log).name for log in logs if Path(log).parent == directory)
        strange = sorted(
            path.name for path in directory.iterdir() if not path.name.startswith(ours) or path.is_symlink() or not path.is_file()
        )
        if strange:
            yield f"{str(directory)!r} is there already, and holds something else ({show(strange[0])})", remedy


def check_log(
    options: Mapping[str, object], modules: Sequence[object], rsync: str | None, prefix: str, fail2ban: Path = Path("/etc/fail2ban")
) -> list[Problem]:
    """Whether the host can do with the log what is asked for. ``modules`` may have logs of their own beside it."""
    problems = []
    log = options.get("log_file")
    if isinstance(log, str) and log:
        logs = [log, *(str(module["log_file"]) for module in modules if isinstance(module, Mapping) and "log_file" in module)]
        problems += [Problem(prefix + "log_file", "", *complaint) for complaint in _log_directory(Path(log).parent, logs)]
    directory = options.get("metrics_directory")
    if isinstance(directory, str) and directory and not Path(directory).is_dir():
        remedy = "Install what reads it first, such as Prometheus' node exporter, or correct the path"
        problems.append(Problem(prefix + "metrics_directory", "", f"the directory {show(directory)} does not exist", remedy))
    if options.get("fail2ban") is True:
        if not (fail2ban / "filter.d").is_dir():
            problems.append(
                Problem(prefix + "fail2ban", "", f"there is no {fail2ban} on this host", "Install fail2ban first, or give false")
            )
        version = rsync_version(rsync) if rsync and options.get("log_file") else ""
        if version and tuple(map(int, version.split("."))) < (3, 5):
            message = f"rsync {version} lets clients write lines of their own into a log file, and so have anybody banned"
            problems.append(Problem(prefix + "fail2ban", "", message, f"Leave {prefix}log_file out, so that fail2ban reads the journal"))
    return problems
