# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host says to clients over SSH: its accounts, its sshd, its trees; and how the files that sshd reads are put in place."""

from __future__ import annotations

import fnmatch
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .files import replace, sync_directory
from .rsyncd import Problem
from .rsyncd_values import show
from .ssh_clients import SETTINGS, Client, keys_file, settings

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Seconds. sshd looks at its configuration at once; a host that needs longer is broken.
_PATIENCE = 60

#: The account's home is nobody's, and its shell runs the one command that sshd allows.
HOME, SHELL = "/", "/bin/sh"


@dataclass(frozen=True)
class Places:
    """Where the parts are on the host."""

    #: The directory of ``sshd_config``.
    ssh: Path = Path("/etc/ssh")
    login_defs: Path = Path("/etc/login.defs")

    @property
    def config(self) -> Path:
        return self.ssh / "sshd_config"

    @property
    def keys(self) -> Path:
        """The clients' keys; root's, and in no home."""
        return self.ssh / "mirrornet-rsync.keys"

    @property
    def settings(self) -> Path:
        """The drop-in. sshd takes the first value that it finds, hence the low number."""
        return self.ssh / "sshd_config.d" / "10-mirrornet-rsync.conf"


# Looking.


def find(program: str) -> str | None:
    """The path of a program of the system's administration; None when there is none."""
    return shutil.which(program, path=_PATH)


def is_configured(places: Places) -> bool:
    """Whether an earlier play let clients in over SSH."""
    return os.path.lexists(places.keys) or os.path.lexists(places.settings)


def check_account(user: str, where: str, login_defs: Path = Places.login_defs) -> list[Problem]:
    """Why an account of this name must not become that of the clients: it's somebody's already."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return []
    remedy = "Name an account that has no other purpose; the role makes it"
    if entry.pw_uid == 0:
        return [Problem(where, "", f"{show(user)} is root under another name", remedy)]
    if entry.pw_uid >= _first_human(login_defs):
        return [Problem(where, "", f"{show(user)} is an account of a person (number {entry.pw_uid})", remedy)]
    if (entry.pw_dir, entry.pw_shell) != (HOME, SHELL):
        message = f"{show(user)} is in use for something else: its home is {show(entry.pw_dir)}, its shell {show(entry.pw_shell)}"
        return [Problem(where, "", message, remedy)]
    return []


def _first_human(login_defs: Path) -> int:
    """The least number of people's accounts, UID_MIN in login.defs(5)."""
    try:
        found = re.search(r"^\s*UID_MIN\s+(\d+)", login_defs.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    return int(found.group(1)) if found else 1000


def check_trees(clients: Sequence[Client]) -> list[Problem]:
    """What is wrong with the clients' paths on this host. That of a whole module has been looked at with the module."""
    problems = []
    for client in clients:
        where = f"SSH client {show(client.name)}"
        if not Path(client.path).is_dir():
            if client.path not in client.within:
                problems.append(
                    Problem(where, "path", f"{show(client.path)} is not a directory on this host", "Create it first, or correct the path")
                )
            continue
        real = os.path.realpath(client.path)
        trees = [os.path.realpath(tree) for tree in client.within]
        if not any(real == tree or real.startswith(tree.rstrip("/") + "/") for tree in trees):
            message = f"{show(client.path)} is {show(real)}, a symbolic link out of the module's tree"
            problems.append(Problem(where, "path", message, "Name the tree itself"))
    return problems


def check_keys(clients: Sequence[Client]) -> list[Problem]:
    """What the host's own ssh-keygen says to the keys; nothing where there is none yet."""
    keygen = find("ssh-keygen")
    if keygen is None:
        return []
    problems = []
    for client in clients:
        for number, key in enumerate(client.keys, 1):
            said = _run([keygen, "-l", "-f", "-"], key + "\n")
            if said.returncode != 0:
                message = f"key {number}: this host's ssh-keygen does not take it for a key"
                remedy = "Give the content of a file that ends in .pub, whole and unchanged"
                problems.append(Problem(f"SSH client {show(client.name)}", "keys", message, remedy))
    return problems


def _run(argv: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        input=text,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=_PATIENCE,
        check=False,
        env={"PATH": _PATH, "LC_ALL": "C"},
    )


def check_sshd(user: str, places: Places = Places(), sshd: str | None = None) -> list[Problem]:
    """What this host's sshd would make of our settings, from a copy of its configuration, before they are put in place.

    Nothing where sshd isn't installed yet, or can't be asked because it has never run.
    """
    sshd = sshd or find("sshd")
    if (
        sshd is None
        or not places.config.is_file()
        or (os.geteuid() == 0 and not Path("/run/sshd").is_dir() and not Path("/var/empty/sshd").is_dir())
    ):
        return []
    with tempfile.TemporaryDirectory(prefix="mirrornet-sshd-") as directory:
        copied = _copy(Path(directory), user, places)
        if copied is None:
            message = f"{places.config} does not include {places.settings.parent}/*.conf, where the role's settings go"
            return [Problem("sshd", "", message, f"Put this line at its beginning: Include {places.settings.parent}/*.conf")]
        who = f"user={user},host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22"
        said = _run([sshd, "-T", "-f", str(copied), "-C", who])
    if said.returncode != 0:
        reason = (said.stderr.strip() or "no reason given").splitlines()[-1].replace(directory, str(places.ssh))
        return [Problem("sshd", "", f"it does not take its configuration: {reason}", "Mend it first; 'sshd -t' tells whether it is sound")]
    return [Problem("sshd", "", *complaint) for complaint in _effective(said.stdout, user, places)]


def _copy(directory: Path, user: str, places: Places) -> Path | None:
    """A copy of sshd's configuration with our settings in it; None where it wouldn't read them."""
    read = False
    lines = []
    for line in places.config.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        words = line.split()
        if words and words[0].lower() == "include":
            for number, word in enumerate(words[1:], 1):
                pattern = word.strip('"')
                pattern = pattern if pattern.startswith("/") else f"{places.ssh}/{pattern}"
                if fnmatch.fnmatch(str(places.settings), pattern):
                    read = True
                    words[number] = str(directory / Path(pattern).name)
                    for other in places.settings.parent.glob(Path(pattern).name):
                        shutil.copyfile(other, directory / other.name)
            line = " ".join(words)
        lines.append(line + "\n")
    if not read:
        return None
    (directory / places.settings.name).write_text(settings(user, str(places.keys)), encoding="utf-8")
    copied = directory / "sshd_config"
    copied.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    return copied


def _effective(said: str, user: str, places: Places) -> Iterator[tuple[str, str]]:
    """What in sshd's own account of its configuration for the user is not as we want it."""
    values: dict[str, list[str]] = {}
    for line in said.splitlines():
        name, dummy, value = line.partition(" ")
        values.setdefault(name.lower(), []).append(value)
    for name, wanted in (("AuthorizedKeysFile", str(places.keys)), *SETTINGS):
        found = values.get(name.lower(), [wanted])
        if [value.lower() for value in found] != [wanted.lower()]:
            yield (
                f"for {user} it would take {name} {' '.join(found)} from another place of its configuration, instead of {wanted}",
                f"Keep {user} out of the Match block that says so",
            )
    # A name of AllowUsers may have a host after it, from which alone it's admitted.
    users = [word.partition("@")[0] for line in values.get("allowusers", []) for word in line.split()]
    groups = [word for line in values.get("allowgroups", []) for word in line.split()]
    for name, patterns in (("AllowUsers", users), ("AllowGroups", groups)):
        if patterns and not any(fnmatch.fnmatchcase(user, pattern) for pattern in patterns):
            yield f"its {name} does not name {user}, so that nobody could log in", f"Add {user} there"
    for name in ("DenyUsers", "DenyGroups"):
        if any(fnmatch.fnmatchcase(user, word) for line in values.get(name.lower(), []) for word in line.split()):
            yield f"its {name} names {user}, so that nobody could log in", f"Take {user} out of it"


# Writing.


@dataclass
class Plan:
    """The content that each file is to have; None for no file."""

    keys: bytes | None
    settings: bytes | None
    places: Places

    @property
    def files(self) -> list[tuple[Path, bytes | None]]:
        """The files in the order in which they are written: sshd is told last."""
        return [(self.places.keys, self.keys), (self.places.settings, self.settings)]

    @property
    def changes(self) -> list[tuple[Path, bytes | None, bytes | None]]:
        """The files that are not as they are to be: path, former content, new content."""
        return [(path, _content(path), data) for path, data in self.files if _content(path) != data or _is_loose(path)]


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if not path.is_symlink() else b""
    except FileNotFoundError:
        return None


def _is_loose(path: Path) -> bool:
    """Whether sshd wouldn't trust the file, or others could change it."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return status.st_uid != os.geteuid() or status.st_mode & 0o7777 != 0o644


def plan(clients: Sequence[Client], user: str, rrsync: str, sentinel: str, places: Places = Places()) -> Plan:
    """What has to be there so that exactly these clients are let in; no files without clients."""
    if not clients:
        return Plan(None, None, places)
    return Plan(keys_file(clients, rrsync, sentinel).encode("ascii"), settings(user, str(places.keys)).encode("ascii"), places)


def apply(made: Plan, unit: str) -> None:
    """Put the files in place, and have sshd read its configuration again where that changed. Raises OSError.

    Sessions go on: this is a reload. If sshd can't be told, its former settings are put back, so that the next play tries again.
    """
    for path, former, data in made.changes:
        _put(path, data)
        if path == made.places.settings:
            try:
                _reload(unit)
            except OSError:
                _put(path, former)
                raise


def _put(path: Path, data: bytes | None) -> None:
    if data is not None:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        replace(path, data, 0o644)
    else:
        path.unlink(missing_ok=True)
        sync_directory(path.parent)


def _reload(unit: str) -> None:
    """Nothing where sshd isn't running as a service: it reads its configuration when it starts, or at each connection."""
    if not Path("/run/systemd/system").is_dir() or _run(["systemctl", "is-active", "--quiet", unit]).returncode != 0:
        return
    said = _run(["systemctl", "reload", unit])
    if said.returncode != 0:
        raise OSError(f"systemctl reload {unit}: {said.stderr.strip() or 'failed'}")
