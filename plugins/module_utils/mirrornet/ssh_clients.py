# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors that pull over SSH, each key locked to one tree: what may be said of them, and the lines that sshd reads.

One account serves them all. What a key may do stands before the key, in a file that only root may write: sshd forbids everything but one command,
and that command is ``rrsync -ro TREE``, which takes no other path, no writing, and no other program.
This room looks at values only; what needs a look at the host is in the room ``ssh_host``.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os.path
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from shlex import quote

from .address import network
from .rsyncd import Problem
from .rsyncd_options import Option
from .rsyncd_values import KINDS, show, suggest

#: The sub-options of one client.
OPTIONS = ("name", "keys", "module", "path", "from", "all_files", "state")
#: The modules' options by which they keep something of their tree from clients. rrsync knows none of them.
HIDING = ("filter", "include_from", "include", "exclude_from", "exclude")

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
#: What neither sshd's quotes nor the account's shell see anything in.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_.,+@:=/-]*")
_KEY = re.compile(r"(?P<kind>[a-z0-9][a-z0-9@.-]*)[ \t]+(?P<data>[A-Za-z0-9+/]+={0,2})(?:[ \t].*)?")
#: The curve of each kind of ECDSA key, and the length of a point on it.
_CURVES = {"nistp256": 65, "nistp384": 97, "nistp521": 133}
KINDS_OF_KEYS = ("ssh-ed25519", "ssh-rsa", *(f"ecdsa-sha2-{curve}" for curve in _CURVES))
_LEAST_BITS, _MOST_BITS = 2048, 16384
_NEW_PAIR = "Make another with: ssh-keygen -t ed25519"

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True)
class Gate:
    """A check that must succeed before the tree is shown: that of a module which has a sentinel or a flag."""

    module: str
    tree: str
    sentinel: str = ""
    flag: str = ""


@dataclass
class Client:
    """One mirror that may pull a tree over SSH, by any of its keys."""

    name: str
    path: str
    keys: list[str] = field(default_factory=list)  #: KIND and BASE64, with nothing before or after
    addresses: list[str] = field(default_factory=list)  #: from where it may come; empty: from anywhere
    gates: list[Gate] = field(default_factory=list)
    within: list[str] = field(default_factory=list)  #: the published trees that hold the path


# Values.


def check_user(user: object, where: str = "rsync_master_ssh_user") -> list[Problem]:
    """What is wrong with the name of the account that all clients log in to."""
    if not isinstance(user, str) or not _USER.fullmatch(user):
        remedy = "Take small letters, digits, '_' and '-', at most 32"
        return [Problem(where, "", f"{show(user)} is not the name of an account that can be made", remedy)]
    if user == "root":
        return [Problem(where, "", "it is root, to whom no tree is enough", "Name an account that has no other purpose")]
    return []


def read_key(text: object) -> tuple[str, str]:
    """The kind and the data of one public key. Raises ``KeyProblem``, whose text never repeats what was given: it may be a private key."""
    if not isinstance(text, str) or not text.strip():
        raise KeyProblem("it is not text", "Give the content of a file that ends in .pub")
    text = text.strip()
    if "PRIVATE KEY" in text or text.startswith("PuTTY-User-Key-File"):
        raise KeyProblem(
            "it is a private key, which only the mirror may ever have",
            "Make a new pair, since this one is in the inventory now, and give the file that ends in .pub",
        )
    if text.startswith("---- BEGIN SSH2"):
        raise KeyProblem("it is in the format of another program", "Convert it with: ssh-keygen -i -f FILE")
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]", text):
        raise KeyProblem(
            "it holds a line end or a control character, after which another key or an option could follow", "Give one key an item"
        )
    if text.split()[0] not in KINDS_OF_KEYS:
        raise _other_kind(text)
    match = _KEY.fullmatch(text)
    if match is None:
        raise KeyProblem("its data is not base64", "Give the content of a file that ends in .pub, whole and unchanged")
    _look_inside(match["kind"], match["data"])
    return match["kind"], match["data"]


class KeyProblem(ValueError):
    """Why a text can't be the public key of a client: what is wrong, and what to do."""


def _other_kind(text: str) -> KeyProblem:
    """Why a text that does not begin with a kind of key that is taken isn't one."""
    first = text.split()[0]
    if any(kind in text.split() for kind in KINDS_OF_KEYS):
        return KeyProblem(
            "something stands before it, such as options, which the role alone writes", "Give the kind and the data of the key"
        )
    if first.startswith("sk-"):
        return KeyProblem("it is of a security key, which somebody would have to touch for each pull", _NEW_PAIR)
    if "-cert-" in first:
        return KeyProblem("it is a certificate", "Give the public key itself")
    if first == "ssh-dss":
        return KeyProblem("it is a DSA key, which sshd no longer takes", _NEW_PAIR)
    return KeyProblem("it is not a public key of OpenSSH", "Give the content of a file that ends in .pub: " + ", ".join(KINDS_OF_KEYS))


def _look_inside(kind: str, data: str) -> None:
    """Whether the data is that of a key of this kind; its fields are those of RFC 4253, RFC 5656 and RFC 8709."""
    damaged = KeyProblem("its data is damaged", "Give the content of a file that ends in .pub, whole and unchanged")
    try:
        fields = list(_fields(base64.b64decode(data, validate=True)))
    except (binascii.Error, struct.error, ValueError):
        raise damaged from None
    if not fields or fields[0] != kind.encode("ascii"):
        raise damaged
    if kind == "ssh-ed25519":
        good = len(fields) == 2 and len(fields[1]) == 32
    elif kind == "ssh-rsa":
        good = len(fields) == 3 and int.from_bytes(fields[1], "big") % 2 == 1
        bits = int.from_bytes(fields[-1], "big").bit_length()
        if good and not _LEAST_BITS <= bits <= _MOST_BITS:
            raise KeyProblem(f"it has {bits} bits, and sshd takes {_LEAST_BITS} to {_MOST_BITS}", _NEW_PAIR)
    else:
        curve = kind.rpartition("-")[2]
        good = len(fields) == 3 and fields[1] == curve.encode("ascii") and fields[2][:1] == b"\4" and len(fields[2]) == _CURVES[curve]
    if not good:
        raise damaged


def _fields(blob: bytes) -> Iterator[bytes]:
    """The fields of a key: each has its length before it."""
    while blob:
        (length,) = struct.unpack(">I", blob[:4])
        if length > len(blob) - 4:
            raise ValueError("cut off")
        yield blob[4 : 4 + length]
        blob = blob[4 + length :]


def _addresses(value: object) -> Iterator[tuple[str, str]]:
    """What is wrong with a list of addresses as sshd reads it in ``from``."""
    if not isinstance(value, (list, tuple)):
        yield f"{show(value)} is not a list", "Write it as a list: [192.0.2.7]"
        return
    if not value:
        yield "the list is empty, so that nobody would get in", "Name the addresses, or leave the option out to admit the key from anywhere"
    for item in value:
        net = network(item, exact=True)
        if net is None:
            yield (
                f"{show(item)} is not an address or network",
                "Give an address such as 192.0.2.7 or a network such as 192.0.2.0/24 or 2001:db8::/32, without bits behind the mask",
            )
        elif net.version == 6 and net.subnet_of(_MAPPED):
            yield f"{show(item)} never matches, since sshd takes clients of IPv4 for what they are", "Write it in the form of IPv4"
        elif "/" in str(item) and not str(item).rpartition("/")[2].isdigit():
            yield f"{show(item)} has a mask that sshd does not read", f"Write {net}"


# One client.


def label(position: int, client: object) -> str:
    """How messages call a client; ``position`` is its place in the list, counted from 1."""
    name = client.get("name") if isinstance(client, Mapping) else None
    return f"SSH client {show(name)} (item {position})" if isinstance(name, str) else f"SSH client without a name (item {position})"


def _shape(given: Mapping[object, object]) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a client's sub-options as such: option, message, remedy."""
    for key in given:
        if key not in OPTIONS:
            yield "", f"unknown option {show(key)}", suggest(str(key), OPTIONS)
    name = given.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield (
            "name",
            f"{show(name)} can't be a client's name",
            "Take letters, digits, '.', '_' and '-', at most 63, the first a letter or digit",
        )
    if given.get("state", "present") not in ("present", "absent"):
        yield "state", f"{show(given['state'])} is neither present nor absent", suggest(str(given["state"]), ("present", "absent"))
    if not isinstance(given.get("all_files", False), bool):
        yield "all_files", f"{show(given['all_files'])} is neither true nor false", "Write true or false, without quotes"
    if "from" in given:
        for message, remedy in _addresses(given["from"]):
            yield "from", message, remedy


def _keys(given: Mapping[object, object], is_present: bool) -> Iterator[tuple[str, str, str] | str]:
    """The client's keys, each as KIND and BASE64, and what is wrong with them."""
    value = given.get("keys")
    if value is None and not is_present:
        return
    if not isinstance(value, (list, tuple)):
        # It may be a private key: it isn't shown.
        yield (
            "keys",
            "it is missing" if value is None else "it is not a list",
            "Write it as a list of public keys; two while one replaces the other",
        )
        return
    if not value:
        yield "keys", "the list is empty, so that nobody could log in", "Give a key, or state: absent"
    for number, text in enumerate(value, 1):
        try:
            yield " ".join(read_key(text))
        except KeyProblem as problem:
            message, remedy = problem.args
            yield "keys", f"key {number}: {message}", remedy


def _tree(given: Mapping[object, object], modules: Sequence[Mapping[str, object]]) -> Iterator[tuple[str, str, str] | str]:
    """The path of the tree that a client is locked to, and what is wrong with how it is said."""
    names = [str(module.get("name")) for module in modules]
    if ("module" in given) == ("path" in given):
        message = "both module and path are given" if "module" in given else "neither module nor path is given"
        yield "module", message, "Name the module whose tree the client gets, or a path in one"
        return
    option = "module" if "module" in given else "path"
    if option == "module":
        if given["module"] not in names:
            yield (
                "module",
                f"there is no module {show(given['module'])}",
                suggest(str(given["module"]), names) if names else "Add it to rsync_master_modules",
            )
            return
        value = modules[names.index(str(given["module"]))].get("path")
    else:
        value = given["path"]
    complaints = list(KINDS["tree"](Option(option, "tree"), value))
    for message, remedy in complaints:
        yield option, message, remedy
    if complaints:
        return
    if not _PLAIN_PATH.fullmatch(str(value)):
        remedy = "Publish it under a path of letters, digits and . _ , + @ : = - /"
        yield option, f"the command of a key can't carry {show(value)}: sshd and a shell read it", remedy
        return
    yield os.path.normpath(str(value))


def _holds(tree: str, path: str) -> bool:
    return path == tree or path.startswith(tree.rstrip("/") + "/")


def _gates(holders: Iterable[Mapping[str, object]]) -> list[Gate]:
    """The checks of the modules that hold the path, as their own clients pass them."""
    return [
        Gate(str(module["name"]), str(module["path"]), str(module.get("sentinel", "")), str(module.get("rebuild_flag", "")))
        for module in holders
        if "sentinel" in module or "rebuild_flag" in module
    ]


def _fits(given: Mapping[object, object], path: str, holders: Sequence[Mapping[str, object]]) -> Iterator[tuple[str, str, str]]:
    """What is wrong with giving this path to a client."""
    option = "module" if "module" in given else "path"
    if not holders:
        yield option, f"{show(path)} is in no module's tree", "Name a path in the tree of a module, or publish it"
    for module in holders:
        if module.get("write_only") is True:
            yield option, f"module {show(module.get('name'))} is write only, and nobody may read from it", "Name another tree"
        hiding = [name for name in HIDING if module.get(name)]
        if hiding and given.get("all_files") is not True:
            yield (
                "all_files",
                f"module {show(module.get('name'))} keeps files from its clients by {', '.join(hiding)}, and over SSH nothing would",
                "Give all_files: true if this client may have them, or keep them elsewhere",
            )
    for gate in _gates(holders):
        if not all(_PLAIN_PATH.fullmatch("/" + text.lstrip("/")) for text in (gate.tree, gate.sentinel, gate.flag)):
            remedy = "Take letters, digits and . _ , + @ : = - / for sentinel, rebuild_flag and path"
            yield option, f"the command of a key can't carry the sentinel of module {show(gate.module)}", remedy


def check(clients: object, modules: Sequence[object]) -> tuple[list[Client], list[Problem]]:
    """The clients that are to be let in, and everything that is wrong with the list. ``modules`` are those of the master."""
    if not isinstance(clients, (list, tuple)):
        return [], [Problem("rsync_master_ssh_clients", "", "it is not a list", "Write it as a list: [{name: …, keys: […], module: …}]")]
    named = [module for module in modules if isinstance(module, Mapping) and "name" in module and isinstance(module.get("path"), str)]
    good: list[Client] = []
    problems: list[Problem] = []
    names: set[str] = set()
    owners: dict[str, str] = {}
    for position, given in enumerate(clients, 1):
        where = label(position, given)
        if not isinstance(given, Mapping):
            problems.append(Problem(where, "", "it is not a dictionary", "Write it as {name: …, keys: […], module: …}"))
            continue
        client, found = _client(given, named)
        if client.name in names:
            found.append(("name", "an earlier client has this name", "Give each client one entry; keys is a list"))
        names.add(client.name)
        for key in client.keys:
            if key in owners:
                twice = (
                    "it comes twice" if owners[key] == where else f"it is a key of {owners[key]} as well, and sshd looks at the first alone"
                )
                found.append(("keys", f"key {client.keys.index(key) + 1}: {twice}", "Give each client keys of its own"))
            owners.setdefault(key, where)
        problems += [Problem(where, *parts) for parts in found]
        if given.get("state", "present") == "present" and not found:
            good.append(client)
    return good, problems


def _client(given: Mapping[object, object], modules: Sequence[Mapping[str, object]]) -> tuple[Client, list[tuple[str, str, str]]]:
    """One client as far as it can be understood, and what is wrong with it."""
    is_present = given.get("state", "present") != "absent"
    found = list(_shape(given))
    client = Client(str(given.get("name")), "")
    for key in _keys(given, is_present):
        client.keys.append(key) if isinstance(key, str) else found.append(key)
    if not is_present:
        return client, found
    for path in _tree(given, modules):
        if isinstance(path, str):
            client.path = path
        else:
            found.append(path)
    if client.path:
        holders = [module for module in modules if _holds(os.path.normpath(str(module["path"])), client.path)]
        found += _fits(given, client.path, holders)
        client.gates = _gates(holders)
        client.within = [os.path.normpath(str(module["path"])) for module in holders]
    addresses = given.get("from")
    client.addresses = [str(item) for item in addresses] if isinstance(addresses, (list, tuple)) else []
    return client, found


def as_data(client: Client) -> dict[str, object]:
    """The client as plain values, to be handed to a host."""
    return asdict(client)


def from_data(data: Mapping[str, object]) -> Client:
    """The client that ``as_data`` took apart. Raises TypeError or KeyError."""
    values = dict(data)
    gates = values.pop("gates", [])
    return Client(gates=[Gate(**gate) for gate in gates], **values)  # type: ignore[arg-type, attr-defined]


# What sshd reads.


HEADER = "# Role mirrornet.rsync.rsync_master replaces this file.\n"


def command(client: Client, rrsync: str, sentinel: str) -> str:
    """What a client's key runs, whatever the client asks for, as a line of shell.

    A check that fails says so on standard error, since standard output belongs to rsync's protocol.
    """
    checks = [
        f"RSYNC_MODULE_NAME={quote(gate.module)} {' '.join(quote(word) for word in (sentinel, gate.tree, gate.sentinel, gate.flag))} >&2 && "
        for gate in client.gates
    ]
    return "".join(checks) + f"exec {quote(rrsync)} -ro {quote(client.path)}"


def keys_file(clients: Sequence[Client], rrsync: str, sentinel: str) -> str:
    """The file of all clients' keys, AUTHORIZED_KEYS FILE FORMAT in sshd(8)."""
    lines = []
    for client in clients:
        options = ["restrict"]
        if client.addresses:
            options.append(f'from="{",".join(client.addresses)}"')
        options.append(f'command="{command(client, rrsync, sentinel)}"')
        lines += [f"{','.join(options)} {key} {client.name}\n" for key in client.keys]
    return HEADER + "# Each key is locked to one command, and sshd reads this file at each login.\n" + "".join(lines)


#: How sshd treats the account, sshd_config(5): only these keys let in, and nothing is to be had but their command.
SETTINGS = (
    ("AuthenticationMethods", "publickey"),
    ("PubkeyAuthentication", "yes"),
    ("AuthorizedKeysCommand", "none"),
    ("AuthorizedPrincipalsFile", "none"),
    ("TrustedUserCAKeys", "none"),
    ("AllowAgentForwarding", "no"),
    ("AllowStreamLocalForwarding", "no"),
    ("AllowTcpForwarding", "no"),
    ("PermitTTY", "no"),
    ("PermitTunnel", "no"),
    ("PermitUserRC", "no"),
    ("X11Forwarding", "no"),
    ("MaxSessions", "1"),
    # A mirror whose network is gone is let go after five minutes.
    ("ClientAliveInterval", "60"),
    ("ClientAliveCountMax", "5"),
)


def settings(user: str, keys_path: str) -> str:
    """The drop-in for sshd's configuration. ``Match all`` ends the block where a reader expects it to end, with the file."""
    lines = [("AuthorizedKeysFile", keys_path), *SETTINGS]
    return HEADER + f"Match User {user}\n" + "".join(f"    {name} {value}\n" for name, value in lines) + "Match all\n"
