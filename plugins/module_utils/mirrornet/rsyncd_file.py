# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An rsyncd.conf that somebody wrote, read as rsync reads it: what holds for each module, and what rsync passes over.

The rules are those of rsyncd.conf(5): a parameter outside of a module is the default of the modules that begin after it, ``[global]`` leads back
there, a module that is named again goes on, ``&include`` has defaults of its own and ``&merge`` has not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: Parameters that only count outside of modules, by their usual spelling.
GLOBAL_PARAMETERS = (
    "address", "daemon chroot", "daemon gid", "daemon uid", "listen backlog", "motd file", "pid file", "port", "proxy protocol",
    "proxy protocol hosts", "socket options",
)  # fmt: skip

#: Those of them and of a module's that are yes or no.
FLAGS = (
    "fake super", "forward lookup", "ignore errors", "ignore nonreadable", "insecure links", "list", "munge symlinks", "numeric ids",
    "open noatime", "proxy protocol", "read only", "reverse lookup", "strict modes", "transfer logging", "use chroot", "write only",
)  # fmt: skip

#: All parameters of a module, from rsync 3.2.3 to 3.5.0.
MODULE_PARAMETERS = (
    "auth digest", "auth users", "charset", "comment", "dont compress", "early exec", "exclude", "exclude from", "fake super", "filter",
    "forward lookup", "gid", "hosts allow", "hosts deny", "ignore errors", "ignore nonreadable", "include", "include from",
    "incoming chmod", "insecure links", "list", "lock file", "log file", "log format", "max connections", "max verbosity",
    "munge symlinks", "name", "name converter", "numeric ids", "open noatime", "outgoing chmod", "path", "post-xfer exec",
    "pre-xfer exec", "read only", "refuse options", "reverse lookup", "secrets file", "strict modes", "syslog facility", "syslog tag",
    "temp dir", "timeout", "transfer logging", "uid", "use chroot", "write only",
)  # fmt: skip

#: How deep files may include each other; rsync itself has no limit, and dies.
_DEEPEST = 10


def _squeezed(name: str) -> str:
    """rsync compares names without regard to case and spaces."""
    return "".join(name.lower().split())


_SPELLING = {_squeezed(name): name for name in (*GLOBAL_PARAMETERS, *MODULE_PARAMETERS)}
_TRUTH = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Setting:
    """One parameter with its value, and where it stands."""

    name: str  #: in the usual spelling
    value: str
    path: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"

    @property
    def truth(self) -> bool:
        """Whether it says yes."""
        return _TRUTH.get(_squeezed(self.value), False)


@dataclass
class Module:
    """A module: what is set in it, and what it took over from outside when it began."""

    name: str
    path: str
    line: int
    own: dict[str, Setting] = field(default_factory=dict)
    inherited: dict[str, Setting] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"

    def setting(self, name: str) -> Setting | None:
        return self.own.get(name) or self.inherited.get(name)

    def text(self, name: str) -> str:
        """The value that holds for the module; empty where none is set."""
        found = self.setting(name)
        return found.value if found else ""

    def flag(self, name: str, default: bool) -> bool:
        """The truth value that holds. One that rsync can't read leaves what held before, as here the default."""
        return _TRUTH.get(_squeezed(self.text(name)), default)


@dataclass(frozen=True)
class Oddity:
    """Something that rsync passes over or stumbles on."""

    #: unknown, flag (no truth value), line (no parameter), misplaced (global, in a module), unreadable, syntax, repeated
    kind: str
    text: str
    path: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass
class Configuration:
    """What an rsyncd.conf says."""

    defaults: dict[str, Setting] = field(default_factory=dict)
    modules: list[Module] = field(default_factory=list)
    oddities: list[Oddity] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)  #: those that are included as such, with whatever comes into them

    def module(self, name: str) -> Module | None:
        return next((module for module in self.modules if _squeezed(module.name) == _squeezed(name)), None)


def read(path: Path) -> Configuration:
    """The configuration in ``path``. What can't be read is an oddity of kind ``unreadable``, of the file itself as well."""
    found = Configuration()
    _Reader(found).file(path, 0)
    return found


class _Reader:
    """The state in which rsync's parser is: which module it is in, and which defaults hold."""

    def __init__(self, found: Configuration) -> None:
        self.found = found
        self.current: Module | None = None

    def odd(self, kind: str, text: str, path: Path, line: int) -> None:
        self.found.oddities.append(Oddity(kind, text, str(path), line))

    def file(self, path: Path, depth: int, asked: tuple[Path, int] | None = None) -> None:
        """Read one file; ``asked`` is where it was included."""
        try:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
        except OSError as error:
            self.odd("unreadable", f"{path}: {error.strerror}", *(asked or (path, 0)))
            return
        self.found.files.append(str(path))
        for number, line in _logical_lines(text):
            self.line(path, number, line, depth)

    def line(self, path: Path, number: int, line: str, depth: int) -> None:
        if line.startswith("&"):
            self.directive(path, number, line, depth)
        elif line.startswith("["):
            name = " ".join(line[1:].partition("]")[0].split())
            if "]" not in line or not name:
                self.odd("syntax", line, path, number)
            else:
                self.section(name, path, number)
        elif "=" not in line or line.startswith("="):
            self.odd("line", line, path, number)
        else:
            name, dummy, value = line.partition("=")
            self.parameter(name, value.strip(), path, number)

    def section(self, name: str, path: Path, number: int) -> None:
        if _squeezed(name) == "global":
            self.current = None
            return
        known = self.found.module(name)
        if known is not None:
            self.odd("repeated", name, path, number)
            self.current = known
            return
        self.current = Module(name, str(path), number, inherited=dict(self.found.defaults))
        self.found.modules.append(self.current)

    def parameter(self, name: str, value: str, path: Path, number: int) -> None:
        usual = _SPELLING.get(_squeezed(name))
        if usual is None:
            self.odd("unknown", " ".join(name.split()), path, number)
        elif self.current is not None and usual in GLOBAL_PARAMETERS:
            self.odd("misplaced", usual, path, number)
        elif usual in FLAGS and not _is_truth(usual, value):
            self.odd("flag", f"{usual} = {value}", path, number)
        else:
            into = self.found.defaults if self.current is None else self.current.own
            into[usual] = Setting(usual, value, str(path), number)

    def directive(self, path: Path, number: int, line: str, depth: int) -> None:
        word, dummy, rest = line[1:].partition(" ")
        if word not in ("include", "merge") or not rest.strip():
            self.odd("syntax", line, path, number)
            return
        if depth >= _DEEPEST:
            self.odd("syntax", f"{line}: files include each other too deeply", path, number)
            return
        target = Path(rest.strip())
        if not target.is_absolute():
            target = path.parent / target
        targets = [target]
        if target.is_dir():
            targets = sorted(target.glob("*.conf" if word == "include" else "*.inc"))
            self.found.directories.append(str(target))
        before = dict(self.found.defaults)
        for one in targets:
            if word == "include":
                self.found.defaults, self.current = dict(before), None
            self.file(one, depth + 1, (path, number))
        if word == "include":
            self.found.defaults, self.current = before, None


def _is_truth(name: str, value: str) -> bool:
    # %…% is a variable of the environment, whose value is not to be known here.
    maybe_unset = name == "use chroot" and _squeezed(value) in ("unset", "-1")
    return _squeezed(value) in _TRUTH or maybe_unset or bool(re.search(r"%[^%\s]+%", value))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that say something, stripped, with continuations joined, each with the number of its first line."""
    started, collected = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.replace("\r", "")
        if not collected and line.lstrip().startswith(("#", ";")):
            continue
        body = line.rstrip()
        started = started or number
        if body.endswith("\\"):
            # rsync takes the next line as it stands, its spaces included.
            collected += body[:-1]
            continue
        whole = (collected + line).strip()
        if whole:
            yield started, whole
        started, collected = 0, ""
    if collected.strip():
        yield started, collected.strip()
