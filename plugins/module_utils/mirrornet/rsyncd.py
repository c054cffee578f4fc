# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an rsyncd.conf may say: its options, and what is wrong with given ones.

rsync itself reads such a file leniently: an unknown parameter or a badly written truth value costs it one line in a log,
and a typo in ``hosts allow`` opens a module to everybody. This room refuses what rsync would ignore or misread.
It looks at values only; what needs a look at the host is in the room ``rsyncd_host``.
"""

from __future__ import annotations

import difflib
import fnmatch
import ipaddress
import os.path
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

from .rsyncd_parameters import BY_KEY, Parameter, key_of, spelled, version_of

#: A complaint about one value: what is wrong, and what to do.
Complaint = tuple[str, str]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_REFERENCE = re.compile(r"%[^%\s]+%")
_MODULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")
#: Temporary files and the kernel's own: a confined service doesn't even see the host's.
_NO_PLACES = ("/tmp/", "/var/tmp/", "/dev/", "/proc/", "/sys/", "/run/")
_PLACE = re.compile(r"\(item (\d+)\)$")
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_MASK = re.compile(r"/(?=.*[.:])")
_USER_RULE = re.compile(r"@?[A-Za-z0-9_*?\[][A-Za-z0-9_.*?\[\]-]*")
_SECRET_NAME = re.compile(r"@?[A-Za-z0-9_][A-Za-z0-9_.-]*")
#: rsync's client reads 511 bytes of a password file. What is shorter than 12 is found by trying, however strong the digest.
_SHORTEST_PASSWORD, _LONGEST_PASSWORD = 12, 500
_CHMOD = re.compile(r"[DF]?(?:[0-7]{1,4}|[ugoa]*[-+=][rwxXst]*)")
#: A short or long rule of inclusion or exclusion with its modifiers, and one pattern without a space.
_RULE = re.compile(r"(?:[+-]|include|exclude)(?:,?[/!s])*[ _]\S+")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")

#: The facilities that rsyncd.conf(5) lists under "syslog facility".
FACILITIES = (
    "auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "security", "syslog", "user", "uucp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip


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


@dataclass(frozen=True)
class Option:
    """A row of the table of options.

    ``kind`` names the rule in ``KINDS`` that a value must pass; ``least``, ``most`` and ``choices`` narrow it.
    """

    name: str
    kind: str
    least: int = 0
    most: int = 2**31 - 1
    choices: tuple[str, ...] = ()

    @property
    def parameter(self) -> Parameter | None:
        """What rsync calls it; None for what is the role's own."""
        return BY_KEY.get(key_of(self.name))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems as an operator works through them: variables first, then modules by their place in the list."""

    def place(problem: Problem) -> int:
        found = _PLACE.search(problem.where)
        return int(found.group(1)) if found else 0

    return sorted(problems, key=place)


#: Digests with which a login can be proved, strongest first; see "auth digest" in rsyncd.conf(5).
DIGESTS = ("sha512", "sha256", "sha1", "md5")

#: Everything a module may say. Most are parameters of rsyncd.conf, with underscores for spaces; ``Option.parameter`` has the name there.
MODULE_OPTIONS: tuple[Option, ...] = (
    Option("name", "module_name"),
    Option("path", "tree"),
    Option("comment", "text"),
    Option("list", "flag"),
    Option("read_only", "flag"),
    Option("write_only", "flag"),
    Option("use_chroot", "flag"),
    Option("munge_symlinks", "flag"),
    Option("numeric_ids", "flag"),
    Option("fake_super", "flag"),
    Option("uid", "account"),
    Option("gid", "account"),
    Option("hosts_allow", "addresses"),
    Option("hosts_allow_groups", "words"),
    Option("hosts_deny", "addresses"),
    Option("auth_users", "users"),
    Option("secrets", "secrets"),
    Option("secrets_file", "file"),
    Option("auth_digest", "choice", choices=DIGESTS),
    Option("max_connections", "count", most=65535),
    Option("lock_file", "file"),
    Option("timeout", "count", most=86400),
    Option("filter", "rules"),
    Option("include_from", "file"),
    Option("include", "patterns"),
    Option("exclude_from", "file"),
    Option("exclude", "patterns"),
    Option("ignore_nonreadable", "flag"),
    Option("open_noatime", "flag"),
    Option("refuse_options", "words"),
    Option("dont_compress", "words"),
    Option("incoming_chmod", "chmod"),
    Option("outgoing_chmod", "chmod"),
    Option("charset", "charset"),
    Option("early_exec", "command"),
    Option("pre_xfer_exec", "command"),
    Option("post_xfer_exec", "command"),
    Option("transfer_logging", "flag"),
    Option("log_format", "log_format"),
    Option("log_file", "log_file"),
    Option("syslog_facility", "choice", choices=FACILITIES),
    Option("max_verbosity", "count", most=9),
    Option("sentinel", "inside"),
    Option("sentinel_create", "flag"),
    Option("rebuild_flag", "flag_file"),
    Option("extra", "extra"),
)

#: Everything that may be said for all modules at once, and for what accepts their connections.
GLOBAL_OPTIONS: tuple[Option, ...] = (
    Option("public_name", "host_name"),
    Option("port", "count", least=1, most=65535),
    Option("addresses", "own_addresses"),
    Option("max_connections", "count", least=1, most=65535),
    Option("max_connections_per_source", "count", most=65535),
    Option("config_path", "file"),
    Option("uid", "account"),
    Option("gid", "account"),
    Option("auth_digest", "choice", choices=("", *DIGESTS)),
    Option("timeout", "count", most=86400),
    Option("exclude", "patterns"),
    Option("refuse_options", "words"),
    Option("dont_compress", "words"),
    Option("transfer_logging", "flag"),
    Option("log_format", "log_format"),
    Option("syslog_facility", "choice", choices=FACILITIES),
    Option("motd", "motd"),
    Option("log_file", "own_log"),
    Option("log_days", "count", least=1, most=3650),
    Option("fail2ban", "flag"),
    Option("metrics_directory", "own_directory"),
    Option("extra", "extra_for_all"),
)


def show(value: object) -> str:
    """The value as a message shows it: quoted, control characters escaped, cut when long."""
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def suggest(name: str, known: Iterable[str]) -> str:
    """A remedy for an unknown name: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else "Known are " + ", ".join(names)


# Rules for one value. Each yields a complaint for everything that is wrong with it.


def _line(option: Option, value: object) -> Iterator[Complaint]:
    """A text that fits on one line of an rsyncd.conf and means there what it says."""
    if not isinstance(value, str):
        yield f"{show(value)} is not text", "Write it in quotes"
    elif not value.strip():
        yield "it is empty", "Give a value, or leave the option out"
    elif _CONTROL.search(value):
        yield (
            f"{show(value)} holds a line end or a control character, which would start another line of the configuration",
            "Write it on one line; YAML's '|' and '>' add line ends",
        )
    elif value.endswith("\\"):
        yield f"{show(value)} ends with a backslash, which would swallow the next line", "Leave the backslash out"
    elif _REFERENCE.search(value):
        yield f"{show(value)} holds %…%, which rsync replaces by an environment variable", "Leave the percent signs out"


def _text(option: Option, value: object) -> Iterator[Complaint]:
    yield from _line(option, value)


def _flag(option: Option, value: object) -> Iterator[Complaint]:
    if not isinstance(value, bool):
        yield f"{show(value)} is neither true nor false", "Write true or false, without quotes"


def _count(option: Option, value: object) -> Iterator[Complaint]:
    # A truth value is an int to Python, not to the person who wrote it.
    if isinstance(value, bool) or not isinstance(value, int):
        yield f"{show(value)} is not a whole number", f"Give a number from {option.least} to {option.most}, without quotes"
    elif not option.least <= value <= option.most:
        yield f"{value} is out of range", f"Give a number from {option.least} to {option.most}"


def _choice(option: Option, value: object) -> Iterator[Complaint]:
    if value not in option.choices:
        yield f"{show(value)} is not known", suggest(str(value), option.choices)


def _file(option: Option, value: object) -> Iterator[Complaint]:
    """An absolute path that rsync reads as written."""
    complaints = list(_line(option, value))
    yield from complaints
    if complaints or not isinstance(value, str):
        return
    if not value.startswith("/"):
        yield f"{show(value)} is not an absolute path", "Begin it with '/'"
    if value != value.strip():
        yield f"{show(value)} begins or ends with a space, which rsync cuts off", "Leave the space out, or rename the directory"
    if ".." in value.split("/"):
        yield f"{show(value)} holds '..'", "Write the path without it"


def _tree(option: Option, value: object) -> Iterator[Complaint]:
    """The path of a published directory."""
    complaints = list(_file(option, value))
    yield from complaints
    if not complaints and isinstance(value, str) and not value.strip("/."):
        yield f"{show(value)} would publish the whole host", "Give the directory of the tree"
    elif not complaints and (str(value).rstrip("/") + "/").startswith(_NO_PLACES):
        yield f"{show(value)} lies where a tree can't: everybody writes there, or it isn't on a disk", "Move the tree, to /srv for example"


def _inside(option: Option, value: object) -> Iterator[Complaint]:
    """A file in a tree, by its path from there."""
    complaints = list(_line(option, value))
    yield from complaints
    if not complaints and (str(value).startswith("/") or str(value).endswith("/") or ".." in str(value).split("/")):
        yield f"{show(value)} is not the path of a file in the tree", "Write it as seen from the tree, without '..': .mirrornet/sentinel"


def _flag_file(option: Option, value: object) -> Iterator[Complaint]:
    """A file in a tree or anywhere else on the host."""
    yield from (_file if isinstance(value, str) and value.startswith("/") else _inside)(option, value)


def _account(option: Option, value: object) -> Iterator[Complaint]:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 2**32 - 1:
            yield f"{value} is not a valid id", "Give a name or a number from 0 up"
    elif not isinstance(value, str) or not _ACCOUNT.fullmatch(value):
        yield f"{show(value)} is not the name or number of an account", "Give one name, or one number"


def _items(value: object) -> Iterator[Complaint]:
    """Complaints about a list as such."""
    if not isinstance(value, (list, tuple)):
        yield f"{show(value)} is not a list", "Write it as a list: [a, b]"


def _words(option: Option, value: object) -> Iterator[Complaint]:
    """A list that rsync reads separated by spaces."""
    yield from _items(value)
    for word in value if isinstance(value, (list, tuple)) else ():
        complaints = list(_line(option, word))
        yield from complaints
        if not complaints and re.search(r"\s", str(word)):
            yield f"{show(word)} holds a space, at which rsync would split it", "Make it two items, or write '?' for the space"


def _patterns(option: Option, value: object) -> Iterator[Complaint]:
    """A list of patterns of what is not served."""
    yield from _words(option, value)
    for word in value if isinstance(value, (list, tuple)) else ():
        if word in ("!", "+", "-"):
            yield f"{show(word)} is an instruction of rsync's filters, not a pattern", "Name what is not to be served"


def _addresses(option: Option, value: object) -> Iterator[Complaint]:
    """A list of addresses and networks of clients. An empty one would admit everybody, so it is refused."""
    yield from _items(value)
    if not isinstance(value, (list, tuple)):
        return
    if not value:
        yield (
            "the list is empty, which rsync takes for 'no limit'",
            "Name the addresses, or leave the option out to admit everybody",
        )
    for item in value:
        if _is_everybody(item):
            continue
        network = _network(item)
        if network is None:
            yield (
                f"{show(item)} is not an address or network",
                "Give an address such as 192.0.2.7 or a network such as 192.0.2.0/24 or 2001:db8::/32; what a name means is up to the DNS",
            )
        elif _MASK.search(str(item)) and _MASK.split(str(item))[1] != str(network.netmask):
            yield f"{show(item)} has a mask that rsync reads in another way", f"Write {network}"
        elif network.version == 6 and network.subnet_of(_MAPPED):
            yield (
                f"{show(item)} never matches, since rsync takes clients of IPv4 for what they are",
                "Write it in the form of IPv4, such as 192.0.2.7",
            )


def _own_addresses(option: Option, value: object) -> Iterator[Complaint]:
    """A list of addresses of this host; empty for all."""
    yield from _items(value)
    for item in value if isinstance(value, (list, tuple)) else ():
        try:
            ipaddress.ip_address(item if isinstance(item, str) else "")
        except ValueError:
            yield f"{show(item)} is not an address", "Give an address of this host such as 192.0.2.7 or 2001:db8::7"


def _users(option: Option, value: object) -> Iterator[Complaint]:
    """Rules for logins: names, each with :deny, :ro or :rw where wanted, of which the first that matches counts."""
    yield from _items(value)
    if not isinstance(value, (list, tuple)):
        return
    if not value:
        yield "the list is empty, which rsync takes for 'no login needed'", "Name the users, or leave the option out"
    earlier: list[str] = []
    for item in value:
        if not isinstance(item, str):
            yield f"{show(item)} is not text", "Write each rule in quotes"
            continue
        name, colon, access = item.partition(":")
        if colon and access not in ("deny", "ro", "rw"):
            yield f"{show(item)} has {show(access)} after the colon, which rsync would ignore", suggest(access, ("deny", "ro", "rw"))
        elif not _USER_RULE.fullmatch(name):
            yield (
                f"{show(name)} is not the name of a user",
                "Take letters, digits, '.', '_' and '-'; '*' and '?' match others; '@' begins a group",
            )
        else:
            shadow = next((rule for rule in earlier if covers(rule, name)), None)
            if shadow is not None:
                yield f"{show(item)} is never reached, because {show(shadow)} before it matches", "Put it first, or leave it out"
            earlier.append(name)
    if earlier and all(isinstance(item, str) and item.endswith(":deny") for item in value):
        yield "every rule denies, so nobody could log in", "Name those who may"


def covers(rule: str, name: str) -> bool:
    """Whether a user rule matches everything that a later one does: rsync stops at the first."""
    return rule == name or ("@" not in (rule[:1], name[:1]) and fnmatch.fnmatchcase(name, rule))


def _secrets(option: Option, value: object) -> Iterator[Complaint]:
    """A list of names with passwords. No complaint shows more of an entry than its name."""
    if not isinstance(value, (list, tuple)):
        yield "it is not a list", "Write it as a list: [{name: …, password: …}]"
        return
    if not value:
        yield "the list is empty, so nobody would need a password", "Give names and passwords, or leave the option out"
    names: set[object] = set()
    for position, entry in enumerate(value, 1):
        if not isinstance(entry, Mapping):
            yield f"entry {position} is not a dictionary", "Write it as {name: …, password: …}"
            continue
        name = entry.get("name")
        where = f"entry {position}" + (f" ({show(name)})" if isinstance(name, str) else "")
        for message, remedy in _secret(entry):
            yield f"{where}: {message}", remedy
        if isinstance(name, str) and name in names:
            yield (
                f"{where} has the name of an earlier one, and rsync looks at the first alone",
                "For a change of password with an overlap give the new one a name of its own",
            )
        names.add(name if isinstance(name, str) else None)


def _secret(entry: Mapping[object, object]) -> Iterator[Complaint]:
    """One name with its password."""
    known = ("name", "password")
    for key in entry:
        if key not in known:
            yield f"unknown key {show(key)}", suggest(str(key), known)
    name = entry.get("name")
    if not isinstance(name, str) or not _SECRET_NAME.fullmatch(name):
        yield "its name can't be one of a login", "Take letters, digits, '.', '_' and '-'; '@' begins the name of a group"
    yield from _password(entry.get("password"))


def _password(value: object) -> Iterator[Complaint]:
    """What is wrong with a password; never shows it."""
    if value is None:
        yield "it has no password", "Give it one, from a vault"
    elif not isinstance(value, str):
        yield "its password is not text", "Write it in quotes"
    elif _CONTROL.search(value):
        yield (
            "its password holds a line end or a control character, at which rsync would cut it off",
            "Leave it out; YAML's '|' adds a line end",
        )
    elif len(value) < _SHORTEST_PASSWORD:
        yield (
            f"its password has fewer than {_SHORTEST_PASSWORD} characters: who overhears one login can find it by trying",
            "Take a long random one, such as from 'openssl rand -hex 24'",
        )
    elif len(value.encode("utf-8", "replace")) > _LONGEST_PASSWORD:
        yield f"its password has more than {_LONGEST_PASSWORD} bytes, of which rsync reads a part", "Take a shorter one"


def _chmod(option: Option, value: object) -> Iterator[Complaint]:
    """Changes of permissions as rsync's --chmod takes them."""
    complaints = list(_line(option, value))
    yield from complaints
    if complaints or not isinstance(value, str):
        return
    for part in value.split(","):
        if not _CHMOD.fullmatch(part):
            yield (
                f"{show(part)} is not a change of permissions",
                "Write parts such as Du=rwx, go-w, F0644 with commas and without spaces between; D is for directories, F for files",
            )


def _command(option: Option, value: object) -> Iterator[Complaint]:
    """A program that rsync runs as root, by a shell, with plain words as its arguments."""
    complaints = list(_line(option, value))
    yield from complaints
    if complaints or not isinstance(value, str):
        return
    if not value.startswith("/"):
        yield f"{show(value)} does not begin with an absolute path", "Begin it with '/'"
    elif not re.fullmatch(r"[A-Za-z0-9_./:=@,+-]+( [A-Za-z0-9_./:=@,+-]+)*", value):
        strange = next((letter for letter in value if not re.match(r"[A-Za-z0-9_./:=@,+ -]", letter)), " ")
        yield f"{show(value)} holds {show(strange)}, of which a shell would make something", "Put it into a script, and name the script"
    elif ".." in value.partition(" ")[0].split("/"):
        yield f"{show(value)} holds '..'", "Write the path without it"
    elif value.startswith(_NO_PLACES):
        yield f"{show(value)} lies where everybody writes, or isn't on a disk", "Move it, to /usr/local/sbin for example"


def _log_file(option: Option, value: object) -> Iterator[Complaint]:
    complaints = list(_file(option, value))
    yield from complaints
    if not complaints and str(value).startswith(_NO_PLACES):
        yield f"{show(value)} lies where a log can't: everybody writes there, or it isn't on a disk", "Move it, to /var/log for example"


def _log_format(option: Option, value: object) -> Iterator[Complaint]:
    """The line that is logged for each file; rsync leaves an unknown escape as it is."""
    complaints = [complaint for complaint in _line(option, value) if "environment variable" not in complaint[0]]
    yield from complaints
    if complaints or not isinstance(value, str):
        return
    strange = re.search(r"%(?!'*-?\d*[aBbCcfGhiLlMmnoPptuU])('*-?\d*.?)", value)
    if strange:
        yield (
            f"{show(strange.group(0))} is not an escape of rsync's log format",
            "Take those of 'log format' in rsyncd.conf(5), such as %o %h %f %l",
        )


def _charset(option: Option, value: object) -> Iterator[Complaint]:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:_.()+-]*", value):
        yield f"{show(value)} is not the name of a character set", "Give one of 'iconv --list', such as UTF-8"


def _rules(option: Option, value: object) -> Iterator[Complaint]:
    """A list of filter rules of which each includes or excludes one pattern."""
    yield from _items(value)
    for rule in value if isinstance(value, (list, tuple)) else ():
        complaints = list(_line(option, rule))
        yield from complaints
        if not complaints and not _RULE.fullmatch(str(rule)):
            yield (
                f"{show(rule)} is not a rule that a master can apply",
                "Write '+ PATTERN' or '- PATTERN', with '?' for a space in the pattern",
            )


def _extra(option: Option, value: object) -> Iterator[Complaint]:
    """Parameters of rsync for one module that the role has no option for."""
    yield from _parameters(value, MODULE_OPTIONS, for_all=False)


def _extra_for_all(option: Option, value: object) -> Iterator[Complaint]:
    """Parameters of rsync for all modules, or for the daemon as such, that the role has no option for."""
    yield from _parameters(value, (*GLOBAL_OPTIONS, *MODULE_OPTIONS), for_all=True)


def _parameters(value: object, typed: Sequence[Option], *, for_all: bool) -> Iterator[Complaint]:
    if not isinstance(value, Mapping):
        yield f"{show(value)} is not a dictionary", "Write it as {parameter: value}"
        return
    options = {key_of(option.name): option.name for option in typed}
    seen: set[str] = set()
    for name, given in value.items():
        key = key_of(str(name))
        parameter = BY_KEY.get(key)
        if key in seen:
            yield f"{show(name)} comes twice", "Leave one out"
        seen.add(key)
        if key in options and options[key] not in ("name", "extra"):
            yield f"{show(name)} has a checked option of its own", f"Use the option {options[key]}"
        elif parameter is None or not isinstance(name, str):
            yield (
                f"rsync knows no parameter {show(name)}, and would ignore it",
                suggest(str(name).lower(), [p.name for p in BY_KEY.values()]),
            )
        elif parameter.refused:
            yield f"{show(name)} is not taken: {parameter.refused}", parameter.instead
        elif name.lower().replace("_", " ") != parameter.name:
            yield f"rsync does not know {show(name)} in this spelling", f"Write {show(parameter.name)}"
        elif parameter.for_all and not for_all:
            yield f"{show(name)} is not for single modules, and rsync would ignore it there", "Put it into rsync_master_extra"
        else:
            for message, remedy in KINDS[parameter.kind](Option(parameter.name, parameter.kind), given):
                yield f"{show(name)}: {message}", remedy


def _module_name(option: Option, value: object) -> Iterator[Complaint]:
    rule = "Take letters, digits, '.', '_' and '-', at most 63, the first a letter or digit"
    if not isinstance(value, str):
        yield f"{show(value)} is not text", "Write the name in quotes"
    elif value.lower() == "global":
        yield f"{show(value)} is the name of rsync's own section for defaults", "Choose another name"
    elif not _MODULE_NAME.fullmatch(value):
        strange = next((letter for letter in value if not re.match(r"[A-Za-z0-9._-]", letter)), None)
        yield f"{show(value)} can't be a module's name" + (f", because of {show(strange)}" if strange else ""), rule


def _host_name(option: Option, value: object) -> Iterator[Complaint]:
    if not isinstance(value, str) or not (_HOST_NAME.fullmatch(value) or _network(value)):
        yield f"{show(value)} is not a host's name or address", "Give the name under which mirrors reach this host"


def _motd(option: Option, value: object) -> Iterator[Complaint]:
    """A text of several lines for people who connect; empty for none."""
    if not isinstance(value, str):
        yield f"{show(value)} is not text", "Write it in quotes, or after YAML's '|'"
    elif _CONTROL.search(value.replace("\n", "")):
        yield f"{show(value)} holds a control character, which could take over the terminal of whoever connects", "Leave it out"
    elif value.startswith("@") or "\n@" in value:
        yield f"{show(value)} has a line that begins with '@', which clients take for a word of the protocol", "Begin the line otherwise"


def _own_log(option: Option, value: object) -> Iterator[Complaint]:
    """The path of a log file in a directory of its own; empty for none."""
    if value == "":
        return
    complaints = list(_file(option, value))
    yield from complaints
    if not complaints and str(value).count("/") < 4:
        yield (
            f"{show(value)} lies in a directory that belongs to others, and connections may write to all of the log's directory",
            "Give it a directory of its own, such as /var/log/mirrornet-rsyncd/rsyncd.log",
        )


def _own_directory(option: Option, value: object) -> Iterator[Complaint]:
    """The absolute path of a directory; empty for none."""
    if value != "":
        yield from _file(option, value)


#: The rules by their names in the table of options.
KINDS: dict[str, Callable[[Option, object], Iterator[Complaint]]] = {
    "account": _account,
    "addresses": _addresses,
    "charset": _charset,
    "chmod": _chmod,
    "choice": _choice,
    "command": _command,
    "count": _count,
    "extra": _extra,
    "extra_for_all": _extra_for_all,
    "file": _file,
    "flag": _flag,
    "flag_file": _flag_file,
    "host_name": _host_name,
    "inside": _inside,
    "log_file": _log_file,
    "log_format": _log_format,
    "module_name": _module_name,
    "motd": _motd,
    "own_addresses": _own_addresses,
    "own_directory": _own_directory,
    "own_log": _own_log,
    "patterns": _patterns,
    "rules": _rules,
    "secrets": _secrets,
    "text": _text,
    "tree": _tree,
    "users": _users,
    "words": _words,
}


def _network(item: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The item as an address or network in one of the forms of rsyncd.conf(5), else None."""
    if not isinstance(item, str):
        return None
    try:
        return ipaddress.ip_network(item, strict=False)
    except ValueError:
        return None


def _is_everybody(item: object) -> bool:
    return item == "*"


def covers_everybody(items: Sequence[object]) -> bool:
    """Whether a list of addresses leaves nobody out, over IPv4 and IPv6."""
    return any(_is_everybody(item) for item in items) or {"0.0.0.0/0", "::/0"} <= {str(_network(item)) for item in items}


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
    problems = _check_values("", GLOBAL_OPTIONS, given)
    return [Problem(prefix + (p.option or p.where), "", p.message, p.remedy) for p in problems]


def check_secrets(value: object) -> list[Complaint]:
    """What is wrong with a module's list of names and passwords; no complaint shows a password."""
    return list(_secrets(Option("secrets", "secrets"), value))


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
    """Connections are counted per lock file, so modules that share one must agree on the limit."""
    seen: dict[str, tuple[str, object]] = {}
    for where, module in _named(modules):
        lock, limit = module.get("lock_file"), module.get("max_connections")
        if isinstance(lock, str):
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
