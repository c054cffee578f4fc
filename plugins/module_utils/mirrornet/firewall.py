# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening the ports of a master in the firewall that its administrator runs, and closing them again.

Nothing here switches a firewall on or off, or changes a policy or a rule of somebody else. What is opened can be recognised later:
by its comment in nftables and ufw, and by a note in a file with firewalld, whose rules have no comments.

In nftables an "accept" counts for its own chain alone: another chain at the same hook can still drop the packet. So a rule goes into
each chain of the administrator's that drops by its policy, at its end, where what the administrator denies stays denied.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from .address import Network, network
from .files import replace
from .rsyncd import Problem
from .rsyncd_values import show

KINDS = ("nftables", "ufw", "firewalld")
TOOLS = {"nftables": "nft", "ufw": "ufw", "firewalld": "firewall-cmd"}
#: What marks our rules.
COMMENT = "mirrornet-rsyncd"
#: What nftables is to load after the administrator's own file, and what has its service do so.
NFT_FILE = Path("/etc/nftables.d/mirrornet-rsyncd.nft")
NFT_DROP_IN = Path("/etc/systemd/system/nftables.service.d/mirrornet-rsyncd.conf")
UFW_RULES = (Path("/etc/ufw/user.rules"), Path("/etc/ufw/user6.rules"))
FIREWALLD_NOTE = Path("/etc/mirrornet/firewalld")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE = 60
_HEADER = "# Role mirrornet.rsync.rsync_master replaces this file.\n"

#: Runs a command with something on its standard input and returns its output; raises FirewallError.
Run = Callable[[Sequence[str], str], str]


class FirewallError(Exception):
    """A firewall can't be asked or changed: what was run, and what it said."""


@dataclass(frozen=True)
class Opening:
    """What is to be open: TCP ports, and for whom. No ports: nothing. No sources: everybody."""

    ports: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass
class Plan:
    """What brings one firewall to what is wanted, in this order; ``before`` and ``after`` are for people. A file without text is removed."""

    first: dict[Path, str] = field(default_factory=dict)
    commands: list[tuple[list[str], str]] = field(default_factory=list)
    last: dict[Path, str | None] = field(default_factory=dict)
    reload: bool = False  #: systemd has to read its units again
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.first or self.commands or self.last)

    def have(self, path: Path, text: str | None, *, at_first: str | None = None) -> bool:
        """Have the file in the end, ``at_first`` with another text; return whether it's another than now."""
        now = path.read_text(encoding="utf-8") if path.is_file() else None
        if now == text:
            return False
        begin = at_first or text
        if begin is not None and begin != now:
            self.first[path] = begin
        if text is None or text != begin:
            self.last[path] = text
        return True


def run(argv: Sequence[str], given: str = "") -> str:
    """Run one of the firewalls' own commands. Raises FirewallError."""
    try:
        done = subprocess.run(
            argv,
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            env={"PATH": _PATH, "LC_ALL": "C"},
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallError(f"{' '.join(argv)}: {error}") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise FirewallError(f"{' '.join(argv)}: {said[0] if said else f'ended with {done.returncode}'}")
    return done.stdout


def find(kind: str) -> str | None:
    """The path of a firewall's command, None when it isn't installed."""
    return shutil.which(TOOLS[kind], path=_PATH)


def opened(root: Path = Path("/")) -> list[str]:
    """In which firewalls something of ours is, by their files alone."""
    mark = COMMENT.encode("ascii")

    def holds(path: Path) -> bool:
        try:
            data = (root / path.relative_to("/")).read_bytes()
        except OSError:
            return False
        # ufw writes its comments in hexadecimal.
        return mark in data or mark.hex().encode("ascii") in data

    found = {"nftables": (NFT_FILE, NFT_DROP_IN), "ufw": UFW_RULES}
    kinds = [kind for kind, files in found.items() if any(holds(path) for path in files)]
    return kinds + (["firewalld"] if (root / FIREWALLD_NOTE.relative_to("/")).is_file() else [])


def networks(sources: Sequence[str]) -> list[str]:
    """Addresses and networks in one spelling, without repetitions, in order. Raises ValueError for what is neither."""
    found = sorted({_network(item) for item in sources}, key=lambda net: (net.version, net.network_address, net.prefixlen))
    return [str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net) for net in found]


def _network(source: str) -> Network:
    net = network(source)
    if net is None:
        raise ValueError(f"{show(source)} is not an address or network")
    return net


def _families(sources: Sequence[str]) -> dict[int, list[str]]:
    return {version: [item for item in networks(sources) if _network(item).version == version] for version in (4, 6)}


def plan(kind: str, wanted: Opening, run: Run) -> Plan:
    """What has to be done in one firewall. Raises FirewallError and OSError."""
    return {"nftables": plan_nftables, "ufw": plan_ufw, "firewalld": plan_firewalld}[kind](wanted, run)


def apply(made: Plan, run: Run) -> None:
    """Do it. Raises FirewallError and OSError."""
    for path, text in made.first.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, text.encode("utf-8"))
    for argv, given in made.commands:
        run(argv, given)
    for path, rest in made.last.items():
        if rest is None:
            path.unlink(missing_ok=True)
        else:
            replace(path, rest.encode("utf-8"))
    if made.reload and Path("/run/systemd/system").is_dir():
        run(["systemctl", "daemon-reload"], "")


def check(kind: str, prefix: str, run: Run = run) -> list[Problem]:
    """Why a port can't be opened in the firewall that the operator names."""
    variable = prefix + "firewall"
    if kind not in KINDS:
        return []
    if find(kind) is None:
        return [Problem(variable, "", f"there is no {kind} on this host", "Install and configure it first, or give none")]
    try:
        if kind == "firewalld":
            run(["firewall-cmd", "--state"], "")
        if kind == "nftables":
            chains = _chains(json.loads(run(["nft", "--json", "list", "ruleset"], "")))
            return [Problem(variable, "", *complaint) for chain in chains for complaint in chain.complaints()]
    except FirewallError as error:
        return [Problem(variable, "", f"{kind} can't be asked: {error}", "Mend or start it, or give none")]
    return []


def check_limit(rules: str, prefix: str, run: Run = run) -> Iterator[Problem]:
    """Why nftables, where it's installed, can't load the rules that limit the connections of one client. No rules: nothing to complain of."""
    tool = find("nftables")
    if not rules or tool is None:
        return
    try:
        run([tool, "--check", "--file", "-"], rules)
    except FirewallError as error:
        yield Problem(
            prefix + "max_connections_per_source",
            "",
            f"this host's nftables can't limit the connections of one client: {error}",
            "Give 0, or choose a frontend that can do it itself: systemd_socket or xinetd",
        )


# nftables.


@dataclass
class Chain:
    """A chain that packets to this host pass, and the rules in it."""

    family: str
    table: str
    name: str
    policy: str
    rules: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def spelled(self) -> str:
        return f"{self.family} {self.table} {self.name}"

    @property
    def ours(self) -> dict[str, int]:
        """Our rules here: handle by comment."""
        return {rule["comment"]: rule["handle"] for rule in self.rules if str(rule.get("comment", "")).startswith(COMMENT)}

    @property
    def ends_closed(self) -> bool:
        """Whether a rule drops or rejects whatever comes to it, so that one at the end is never reached."""
        return any(_is_final(rule) for rule in self.rules)

    def complaints(self) -> Iterator[tuple[str, str]]:
        """Why no rule can be added here that would open a port."""
        closes = self.policy == "drop" or self.ends_closed
        if closes and self.table == "firewalld":
            yield f"the chain {show(self.spelled)} belongs to firewalld", "Give firewalld, or none"
        elif closes and self.name == "INPUT":
            yield f"the chain {show(self.spelled)} belongs to iptables or ufw, which don't stand foreign rules", "Give ufw, or none"
        elif self.ends_closed:
            yield (
                f"the chain {show(self.spelled)} ends with a rule that lets nothing pass, so that one after it would never be reached",
                "Let the chain's policy drop instead of that rule, or open the ports before it yourself and give none",
            )


def _is_final(rule: Mapping[str, Any]) -> bool:
    """Whether a rule takes every packet and lets none pass."""
    harmless = ("counter", "log", "drop", "reject")
    expressions = [key for expression in rule.get("expr", []) for key in expression]
    return bool({"drop", "reject"} & set(expressions)) and all(key in harmless for key in expressions)


def _chains(ruleset: Mapping[str, Any]) -> list[Chain]:
    """The chains with a policy through which packets to this host go, as `nft --json list ruleset` shows them."""
    found: dict[tuple[str, str, str], Chain] = {}
    for item in ruleset.get("nftables", []):
        chain, rule = item.get("chain"), item.get("rule")
        if chain and chain.get("hook") == "input" and chain["family"] in ("inet", "ip", "ip6"):
            key = (chain["family"], chain["table"], chain["name"])
            found[key] = Chain(*key, policy=chain.get("policy", "accept"))
        if rule and (rule["family"], rule["table"], rule["chain"]) in found:
            found[rule["family"], rule["table"], rule["chain"]].rules.append(rule)
    return list(found.values())


def nft_rules(chain: Chain, wanted: Opening) -> list[str]:
    """The rules for one chain, each with a comment that tells whether it's still the same."""
    ports = ", ".join(map(str, sorted(set(wanted.ports))))
    families = _families(wanted.sources)
    matches = (
        [""]
        if not wanted.sources
        else [f"{'ip' if v == 4 else 'ip6'} saddr {{ {', '.join(nets)} }} " for v, nets in families.items() if nets]
    )
    fitting = [match for match in matches if chain.family == "inet" or not match or match.split()[0] == chain.family]
    rules = [f"{match}tcp dport {{ {ports} }} accept" for match in fitting] if ports else []
    return [f'{rule} comment "{COMMENT} {hashlib.sha256(rule.encode()).hexdigest()[:12]}"' for rule in rules]


def plan_nftables(wanted: Opening, run: Run) -> Plan:
    """Rules at the end of each chain that drops by its policy; in a file too, for the next start of nftables."""
    made = Plan()
    chains = _chains(json.loads(run(["nft", "--json", "list", "ruleset"], ""))) if find("nftables") else []
    lines, script = [], []
    for chain in chains:
        rules = nft_rules(chain, wanted) if chain.policy == "drop" and not list(chain.complaints()) else []
        lines += [f"add rule {chain.spelled} {rule}" for rule in rules]
        comments = {rule.split('"')[1]: rule for rule in rules}
        script += [f"delete rule {chain.spelled} handle {handle}" for comment, handle in chain.ours.items() if comment not in comments]
        script += [f"add rule {chain.spelled} {rule}" for comment, rule in comments.items() if comment not in chain.ours]
        made.before += [f"{chain.spelled}: {comment}" for comment in chain.ours]
        made.after += [f"{chain.spelled}: {rule}" for rule in rules]
    loader = f"-{find('nftables')} -f {NFT_FILE}"
    if script:
        made.commands.append((["nft", "-f", "-"], "".join(line + "\n" for line in script)))
    made.have(NFT_FILE, _HEADER + "".join(line + "\n" for line in lines) if lines else None)
    # Each start and reload of nftables begins with an empty ruleset. If ours doesn't fit any more, the administrator's still counts.
    if made.have(NFT_DROP_IN, f"{_HEADER}[Service]\nExecStart={loader}\nExecReload={loader}\n" if lines else None):
        made.reload = True
    return made


# ufw.


def ufw_rules(wanted: Opening) -> list[str]:
    """The rules as `ufw show added` spells them, without their comments."""
    ports = sorted(set(wanted.ports))
    if not wanted.sources:
        return [f"allow {port}/tcp" for port in ports]
    return [f"allow from {source} to any port {port} proto tcp" for port in ports for source in networks(wanted.sources)]


def plan_ufw(wanted: Opening, run: Run) -> Plan:
    """Rules with our comment. What the administrator has allowed already, with another comment or none, is left alone."""
    made = Plan()
    if find("ufw") is None:
        return made
    lines = [line[len("ufw ") :] for line in run(["ufw", "show", "added"], "").splitlines() if line.startswith("ufw ")]
    mark = f" comment '{COMMENT}'"
    ours = [line[: -len(mark)] for line in lines if line.endswith(mark)]
    theirs = [line.partition(" comment ")[0] for line in lines if not line.endswith(mark)]
    rules = [rule for rule in ufw_rules(wanted) if rule not in theirs]
    made.before, made.after = sorted(ours), sorted(rules)
    made.commands += [(["ufw", *rule.split(), "comment", COMMENT], "") for rule in rules if rule not in ours]
    made.commands += [(["ufw", "delete", *rule.split()], "") for rule in ours if rule not in rules]
    return made


# firewalld.


def firewalld_rules(wanted: Opening) -> list[str]:
    """Rich rules as firewalld spells them."""
    rules = []
    for port in sorted(set(wanted.ports)):
        opens = f'port port="{port}" protocol="tcp" accept'
        if not wanted.sources:
            rules.append(f"rule {opens}")
        for source in networks(wanted.sources):
            family = _network(source).version
            rules.append(f'rule family="ipv{family}" source address="{source}" {opens}')
    return rules


def plan_firewalld(wanted: Opening, run: Run) -> Plan:
    """Rich rules in the default zone, now and for good. A note tells which are ours; one that was there before us isn't."""
    made = Plan()
    noted = FIREWALLD_NOTE.read_text(encoding="utf-8").splitlines()[1:] if FIREWALLD_NOTE.is_file() else []
    if find("firewalld") is None or not (noted or wanted.ports):
        made.have(FIREWALLD_NOTE, None)
        return made
    zone = run(["firewall-cmd", "--get-default-zone"], "").strip()
    lines = [f"{zone}\t{rule}" for rule in firewalld_rules(wanted)]
    zones = sorted({line.partition("\t")[0] for line in (*noted, *lines)})
    ours: list[str] = []
    for permanent in (["--permanent"], []):
        here = {
            f"{name}\t{rule}"
            for name in zones
            for rule in run(["firewall-cmd", *permanent, f"--zone={name}", "--list-rich-rules"], "").splitlines()
        }
        if permanent:
            ours = [line for line in lines if line not in here or line in noted]
        steps = [("--add", line) for line in ours if line not in here]
        steps += [("--remove", line) for line in noted if line not in ours and line in here]
        for step, line in steps:
            name, dummy, rule = line.partition("\t")
            made.commands.append((["firewall-cmd", *permanent, f"--zone={name}", f"{step}-rich-rule={rule}"], ""))
    made.before, made.after = sorted(noted), sorted(ours)
    # Noted before it's opened and until it's closed, so that an interrupted play can be undone.
    made.have(FIREWALLD_NOTE, _note(ours), at_first=_note(sorted({*noted, *ours})))
    return made


def _note(lines: Sequence[str]) -> str | None:
    return _HEADER + "".join(line + "\n" for line in lines) if lines else None
