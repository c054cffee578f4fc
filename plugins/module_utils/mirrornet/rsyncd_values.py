# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a single value that is to stand in an rsyncd.conf.

rsync itself reads such a file leniently: an unknown parameter or a badly written truth value costs it one line in a log,
and a typo in ``hosts allow`` opens a module to everybody. This room refuses what rsync would ignore or misread.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Callable

from . import rsyncd_publish, rsyncd_refusals
from .address import address, network
from .job import SYSTEM_DIRECTORIES
from .rsyncd_options import GLOBAL_OPTIONS, MODULE_OPTIONS, Option
from .rsyncd_parameters import BY_KEY, key_of

#: A complaint about one value: what is wrong, and what to do.
Complaint = tuple[str, str]

#: What finds everything that is wrong with a value.
Rule = Callable[[Option, object], Iterator[Complaint]]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_REFERENCE = re.compile(r"%[^%\s]+%")
_MODULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")
#: Of these a confined service has its own, which are empty.
_UNSEEN = ("/tmp/", "/var/tmp/")
#: Temporary files and the kernel's own.
_NO_PLACES = (*_UNSEEN, "/dev/", "/proc/", "/sys/", "/run/")
#: Directories of the system that hold nothing of it: a whole disk may well be mounted there to be served.
_FOR_DATA = frozenset(("/media", "/mnt", "/srv", "/var/www"))
#: Programs and configuration: a directory for logs alone isn't found in there.
_NO_LOGS = (*_NO_PLACES, "/bin/", "/boot/", "/etc/", "/lib/", "/lib32/", "/lib64/", "/sbin/", "/usr/")
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
#: Where connections may count themselves, and nowhere else: the runtime directory of the role's units.
LOCKS = "/run/mirrornet-rsyncd"
_LOCK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def show(value: object) -> str:
    """The value as a message shows it: quoted, control characters escaped, cut when long."""
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def suggest(name: str, known: Iterable[str]) -> str:
    """A remedy for an unknown name: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else "Known are " + ", ".join(names)


def _after(base: Rule) -> Callable[[Callable[[str], Iterator[Complaint]]], Rule]:
    """Makes a rule of one that looks at text which another rule has no complaint about."""

    def narrowed(rule: Callable[[str], Iterator[Complaint]]) -> Rule:
        @functools.wraps(rule)
        def both(option: Option, value: object) -> Iterator[Complaint]:
            complaints = list(base(option, value))
            yield from complaints or rule(str(value))

        return both

    return narrowed


def _each(rule: Rule) -> Rule:
    """Makes a rule for lists of one for their items."""

    @functools.wraps(rule)
    def of_all(option: Option, value: object) -> Iterator[Complaint]:
        yield from _items(value)
        for item in value if isinstance(value, (list, tuple)) else ():
            yield from rule(option, item)

    return of_all


def _items(value: object) -> Iterator[Complaint]:
    """Complaints about a list as such."""
    if not isinstance(value, (list, tuple)):
        yield f"{show(value)} is not a list", "Write it as a list: [a, b]"


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


def plain(path: str) -> str:
    """An absolute path in one spelling: without repeated slashes, single dots and a slash at its end."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


@_after(_line)
def _path(value: str) -> Iterator[Complaint]:
    """An absolute path that rsync reads as written."""
    if not value.startswith("/"):
        yield f"{show(value)} is not an absolute path", "Begin it with '/'"
    if value != value.strip():
        yield f"{show(value)} begins or ends with a space, which rsync cuts off", "Leave the space out, or rename the directory"
    if ".." in value.split("/"):
        yield f"{show(value)} holds '..'", "Write the path without it"


@_after(_path)
def _file(value: str) -> Iterator[Complaint]:
    """A file that the services of a master read."""
    if plain(value).startswith(_UNSEEN):
        yield (
            f"{show(value)} lies where the services have a directory of their own, so that they would never see it",
            "Move it out of /tmp and /var/tmp",
        )


@_after(_path)
def _tree(value: str) -> Iterator[Complaint]:
    """The path of a published directory."""
    if plain(value) == "/":
        yield f"{show(value)} would publish the whole host", "Give the directory of the tree"
    elif (plain(value) + "/").startswith(_NO_PLACES):
        yield f"{show(value)} lies where a tree can't: everybody writes there, or it isn't on a disk", "Move the tree, to /srv for example"
    elif plain(value) in SYSTEM_DIRECTORIES - _FOR_DATA:
        yield f"{show(value)} is a directory of the system", "Give the tree a directory of its own, such as /srv/archive"


@_after(_line)
def _lock_file(value: str) -> Iterator[Complaint]:
    """The file in which connections are counted, by its name or by its path in the one directory where they may write."""
    directory, slash, name = value.rpartition("/")
    if not _LOCK_NAME.fullmatch(name) or (slash and directory != LOCKS):
        yield (
            f"{show(value)} is not a file in {LOCKS}, where alone connections may write, so that every client would be refused",
            "Give a name without a directory, such as shared.lock",
        )


@_after(_line)
def _inside(value: str) -> Iterator[Complaint]:
    """A file in a tree, by its path from there."""
    if value.startswith("/") or value.endswith("/") or ".." in value.split("/"):
        yield f"{show(value)} is not the path of a file in the tree", "Write it as seen from the tree, without '..': .mirrornet/sentinel"


def _publish(option: Option, value: object) -> Iterator[Complaint]:
    """How the tree is told to mirrors."""
    yield from rsyncd_publish.complaints(value)


def _flag_file(option: Option, value: object) -> Iterator[Complaint]:
    """A file in a tree or anywhere else on the host."""
    yield from (_file if isinstance(value, str) and value.startswith("/") else _inside)(option, value)


def _account(option: Option, value: object) -> Iterator[Complaint]:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 2**32 - 1:
            yield f"{value} is not a valid id", "Give a name or a number from 0 up"
    elif not isinstance(value, str) or not _ACCOUNT.fullmatch(value):
        yield f"{show(value)} is not the name or number of an account", "Give one name, or one number"


@_after(_line)
def _word(value: str) -> Iterator[Complaint]:
    """One of several that rsync reads separated by spaces."""
    if re.search(r"\s", value):
        yield f"{show(value)} holds a space, at which rsync would split it", "Make it two items, or write '?' for the space"


@_each
@_after(_word)
def _patterns(value: str) -> Iterator[Complaint]:
    """A list of patterns of what is not served."""
    if value in ("!", "+", "-"):
        yield f"{show(value)} is an instruction of rsync's filters, not a pattern", "Name what is not to be served"


@_each
@_after(_word)
def _refusal(value: str) -> Iterator[Complaint]:
    """A list of options of rsync, as ``refuse options`` takes them."""
    if not rsyncd_refusals.is_known(value):
        near = difflib.get_close_matches(value.lstrip("!-").lower(), sorted(rsyncd_refusals.NAMES), n=1)
        yield (
            f"rsync knows no option {show(value)}, and would refuse nothing by it",
            f"Did you mean '{near[0]}'?" if near else "Take the names in rsync(1), without the dashes",
        )


def _refusals(option: Option, value: object) -> Iterator[Complaint]:
    """The same, of which something must be refused."""
    yield from _refusal(option, value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, str) and item.startswith("!") for item in value):
        yield "it only says what is allowed, so that nothing is refused", "Begin with '*' to refuse all that isn't named"


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
        net = network(item)
        if net is None:
            yield (
                f"{show(item)} is not an address or network",
                "Give an address such as 192.0.2.7 or a network such as 192.0.2.0/24 or 2001:db8::/32; what a name means is up to the DNS",
            )
        elif _MASK.search(str(item)) and _MASK.split(str(item))[1] != str(net.netmask):
            yield f"{show(item)} has a mask that rsync reads in another way", f"Write {net}"
        elif net.version == 6 and net.subnet_of(_MAPPED):
            yield (
                f"{show(item)} never matches, since rsync takes clients of IPv4 for what they are",
                "Write it in the form of IPv4, such as 192.0.2.7",
            )


@_each
def _own_addresses(option: Option, value: object) -> Iterator[Complaint]:
    """A list of addresses of this host; empty for all."""
    if address(value) is None:
        yield f"{show(value)} is not an address", "Give an address of this host such as 192.0.2.7 or 2001:db8::7"


@_each
def _sources(option: Option, value: object) -> Iterator[Complaint]:
    """A list of addresses and networks; empty for everybody."""
    if network(value) is None:
        yield f"{show(value)} is not an address or network", "Give one such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"


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


@_after(_line)
def _chmod(value: str) -> Iterator[Complaint]:
    """Changes of permissions as rsync's --chmod takes them."""
    for part in value.split(","):
        if not _CHMOD.fullmatch(part):
            yield (
                f"{show(part)} is not a change of permissions",
                "Write parts such as Du=rwx, go-w, F0644 with commas and without spaces between; D is for directories, F for files",
            )


@_after(_line)
def _command(value: str) -> Iterator[Complaint]:
    """A program that rsync runs as root, by a shell, with plain words as its arguments."""
    if not value.startswith("/"):
        yield f"{show(value)} does not begin with an absolute path", "Begin it with '/'"
    elif not re.fullmatch(r"[A-Za-z0-9_./:=@,+-]+( [A-Za-z0-9_./:=@,+-]+)*", value):
        strange = next((letter for letter in value if not re.match(r"[A-Za-z0-9_./:=@,+ -]", letter)), " ")
        yield f"{show(value)} holds {show(strange)}, of which a shell would make something", "Put it into a script, and name the script"
    elif ".." in value.partition(" ")[0].split("/"):
        yield f"{show(value)} holds '..'", "Write the path without it"
    elif plain(value).startswith(_NO_PLACES):
        yield f"{show(value)} lies where everybody writes, or isn't on a disk", "Move it, to /usr/local/sbin for example"


@_after(_path)
def _log_file(value: str) -> Iterator[Complaint]:
    if plain(value).startswith(_NO_PLACES):
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


@_each
@_after(_line)
def _rules(value: str) -> Iterator[Complaint]:
    """A list of filter rules of which each includes or excludes one pattern."""
    if not _RULE.fullmatch(value):
        yield (
            f"{show(value)} is not a rule that a master can apply",
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
    if not isinstance(value, str) or not (_HOST_NAME.fullmatch(value) or address(value)):
        yield f"{show(value)} is not a host's name or address", "Give the name under which mirrors reach this host"


def _motd(option: Option, value: object) -> Iterator[Complaint]:
    """A text of several lines for people who connect; empty for none."""
    if not isinstance(value, str):
        yield f"{show(value)} is not text", "Write it in quotes, or after YAML's '|'"
    elif _CONTROL.search(value.replace("\n", "")):
        yield f"{show(value)} holds a control character, which could take over the terminal of whoever connects", "Leave it out"
    elif value.startswith("@") or "\n@" in value:
        yield f"{show(value)} has a line that begins with '@', which clients take for a word of the protocol", "Begin the line otherwise"


def _or_none(rule: Rule) -> Rule:
    """Makes a rule that takes the empty text too, for none."""

    @functools.wraps(rule)
    def either(option: Option, value: object) -> Iterator[Complaint]:
        if value != "":
            yield from rule(option, value)

    return either


@_or_none
@_after(_path)
def _own_log(value: str) -> Iterator[Complaint]:
    """The path of a log file in a directory of its own."""
    directory = plain(value).rpartition("/")[0]
    if value.endswith(("/", "/.")):
        yield f"{show(value)} names a directory", "Give the path of a file, such as /var/log/mirrornet-rsyncd/rsyncd.log"
    elif directory in SYSTEM_DIRECTORIES or directory.count("/") < 2 or (directory + "/").startswith(_NO_LOGS):
        yield (
            f"{show(value)} lies in a directory that belongs to others, and connections may write to all of the log's directory",
            "Give it a directory of its own, such as /var/log/mirrornet-rsyncd/rsyncd.log",
        )


def check_secrets(value: object) -> list[Complaint]:
    """What is wrong with a module's list of names and passwords; no complaint shows a password."""
    return list(_secrets(Option("secrets", "secrets"), value))


def _is_everybody(item: object) -> bool:
    return item == "*"


def covers_everybody(items: Sequence[object]) -> bool:
    """Whether a list of addresses leaves nobody out, over IPv4 and IPv6."""
    return any(_is_everybody(item) for item in items) or {"0.0.0.0/0", "::/0"} <= {str(network(item)) for item in items}


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
    "lock_file": _lock_file,
    "log_file": _log_file,
    "log_format": _log_format,
    "module_name": _module_name,
    "motd": _motd,
    "publish": _publish,
    "own_addresses": _own_addresses,
    "own_directory": _or_none(_file),
    "own_log": _own_log,
    "path": _path,
    "patterns": _patterns,
    "refusals": _refusals,
    "rules": _rules,
    "secrets": _secrets,
    "sources": _sources,
    "text": _line,
    "tree": _tree,
    "users": _users,
    "words": _each(_word),
}
