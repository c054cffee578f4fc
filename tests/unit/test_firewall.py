# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is run to open a port in a firewall, and what is refused. The scenario `operations` does it with real firewalls."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mirrornet import firewall
from mirrornet.firewall import Opening

EVERYBODY = Opening((873,))
SOME = Opening((873, 874), ("192.0.2.9", "192.0.2.0/28", "2001:db8::1/32"))


class Host:
    """A host whose firewalls answer as told; remembers what else they were asked to do."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.done: list[tuple[list[str], str]] = []

    def __call__(self, argv: Sequence[str], given: str) -> str:
        asked = " ".join(argv)
        for words, answer in self.answers.items():
            if words.replace("_", " ") in asked.replace("-", " "):
                return answer
        self.done.append((list(argv), given))
        return ""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All firewalls installed, and their files below a directory of the test's."""
    monkeypatch.setattr(firewall, "find", lambda kind: f"/usr/sbin/{firewall.TOOLS[kind]}")
    for name in ("NFT_FILE", "NFT_DROP_IN", "FIREWALLD_NOTE"):
        monkeypatch.setattr(firewall, name, tmp_path / getattr(firewall, name).name.replace("mirrornet-rsyncd", name))
    return tmp_path


def chain(policy: str = "drop", family: str = "inet", table: str = "filter", name: str = "input", *rules: Any) -> dict[str, Any]:
    place = {"family": family, "table": table}
    return {
        "nftables": [
            {"metainfo": {}},
            {"chain": {**place, "name": name, "handle": 1, "type": "filter", "hook": "input", "prio": 0, "policy": policy}},
            *({"rule": {**place, "chain": name, "handle": 10 + number, **rule}} for number, rule in enumerate(rules)),
        ]
    }


MATCH = {"match": {"op": "==", "left": {"meta": {"key": "iif"}}, "right": "lo"}}
LO = {"expr": [MATCH, {"accept": None}]}


def nft(ruleset: dict[str, Any]) -> Host:
    return Host(list_ruleset=json.dumps(ruleset))


def nft_script(wanted: Opening, ruleset: dict[str, Any]) -> list[str]:
    made = firewall.plan("nftables", wanted, nft(ruleset))
    return [line for argv, given in made.commands for line in given.splitlines()]


def test_a_rule_goes_to_the_end_of_each_chain_that_drops() -> None:
    (rule,) = nft_script(EVERYBODY, chain("drop", "inet", "filter", "input", LO))
    assert rule.startswith('add rule inet filter input tcp dport { 873 } accept comment "mirrornet-rsyncd ')
    assert nft_script(EVERYBODY, chain("accept")) == []
    assert not firewall.plan("nftables", EVERYBODY, nft(chain("accept"))).changed


@pytest.mark.parametrize("source", ["fe80::1%x } accept; flush ruleset", "fe80::1%eth0", "mirror.example.org", "192.0.2.0/33"])
def test_what_is_no_network_never_comes_to_a_firewall(source: str) -> None:
    with pytest.raises(ValueError, match="is not an address or network"):
        firewall.networks(["192.0.2.1", source])


def test_sources_go_by_the_family_of_the_chain() -> None:
    said = [line.partition(" comment")[0] for line in nft_script(SOME, chain())]
    assert said == [
        "add rule inet filter input ip saddr { 192.0.2.0/28, 192.0.2.9 } tcp dport { 873, 874 } accept",
        "add rule inet filter input ip6 saddr { 2001:db8::/32 } tcp dport { 873, 874 } accept",
    ]
    assert [line.split()[5] for line in nft_script(SOME, chain(family="ip6"))] == ["ip6"]
    assert nft_script(Opening((873,), ("192.0.2.9",)), chain(family="ip6")) == []


def test_what_is_there_already_is_no_change_and_what_is_other_goes(places: Path) -> None:
    (rule,) = nft_script(EVERYBODY, chain())
    comment = rule.split('"')[1]
    ours = chain("drop", "inet", "filter", "input", LO, {"comment": comment, "expr": []})
    theirs = {"comment": "theirs", "expr": []}
    host = nft(ours)
    made = firewall.plan("nftables", EVERYBODY, host)
    assert made.commands == []
    assert set(made.first) == {firewall.NFT_FILE, firewall.NFT_DROP_IN}
    # Of what is loaded at the next start systemd has to know before it.
    assert made.reload
    firewall.apply(made, lambda argv, given: "")
    assert not firewall.plan("nftables", EVERYBODY, host).changed
    assert nft_script(Opening((8730,)), chain("drop", "inet", "filter", "input", theirs, {"comment": comment, "expr": []}))[0] == (
        "delete rule inet filter input handle 11"
    )
    gone = firewall.plan("nftables", Opening(), host)
    assert gone.commands == [(["nft", "-f", "-"], "delete rule inet filter input handle 11\n")]
    firewall.apply(gone, lambda argv, given: "")
    assert not firewall.NFT_FILE.exists()
    assert not firewall.NFT_DROP_IN.exists()


FINAL = {"expr": [{"counter": {"packets": 0, "bytes": 0}}, {"drop": None}]}
REFUSED = [
    (chain("accept", "inet", "filter", "input", LO, FINAL), "ends with a rule that lets nothing pass"),
    (chain("drop", "inet", "filter", "input", {"expr": [{"reject": {"type": "icmpx", "expr": "port-unreachable"}}]}), "ends with a rule"),
    (chain("drop", "ip", "filter", "INPUT"), "belongs to iptables or ufw"),
    (chain("drop", "inet", "firewalld", "filter_INPUT", FINAL), "belongs to firewalld"),
]


@pytest.mark.parametrize(("ruleset", "words"), REFUSED)
def test_a_chain_that_a_rule_at_the_end_would_not_open_is_refused(ruleset: dict[str, Any], words: str) -> None:
    (problem,) = firewall.check("nftables", "rsync_master_", nft(ruleset))
    assert str(problem).startswith("rsync_master_firewall: the chain ")
    assert words in problem.message
    assert nft_script(EVERYBODY, ruleset) == []


FINE = [
    chain("drop", "inet", "filter", "input", {"expr": [MATCH, {"drop": None}]}),
    chain("drop", "inet", "filter", "input", {"expr": [{"log": {"prefix": "in"}}]}),
    chain("accept", "ip", "filter", "INPUT"),
    {"nftables": []},
]


@pytest.mark.parametrize("ruleset", FINE)
def test_a_chain_that_drops_some_packets_is_not_refused(ruleset: dict[str, Any]) -> None:
    assert firewall.check("nftables", "rsync_master_", nft(ruleset)) == []


@pytest.mark.parametrize("kind", firewall.KINDS)
def test_a_firewall_that_is_not_there_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "find", lambda kind: None)
    (problem,) = firewall.check(kind, "rsync_master_", Host())
    assert f"there is no {kind} on this host" in str(problem)
    assert firewall.check("none", "rsync_master_", Host()) == []
    # What is to be removed went with it.
    assert not firewall.plan(kind, Opening(), Host()).changed


def test_a_firewalld_that_does_not_run_is_refused() -> None:
    def stopped(argv: Sequence[str], given: str) -> str:
        raise firewall.FirewallError("firewall-cmd --state: not running")

    (problem,) = firewall.check("firewalld", "rsync_master_", stopped)
    assert "firewalld can't be asked: firewall-cmd --state: not running" in str(problem)


ADDED = """Added user rules (see 'ufw status' for running firewall):
ufw allow 22/tcp
ufw allow 874/tcp comment 'theirs'
ufw allow from 192.0.2.9 to any port 873 proto tcp comment 'mirrornet-rsyncd'
"""


def test_ufw_gets_what_it_lacks_and_loses_what_is_ours_alone() -> None:
    made = firewall.plan("ufw", Opening((873, 874)), Host(show_added=ADDED))
    assert [argv[1:] for argv, dummy in made.commands] == [
        ["allow", "873/tcp", "comment", "mirrornet-rsyncd"],
        ["delete", "allow", "from", "192.0.2.9", "to", "any", "port", "873", "proto", "tcp"],
    ]
    assert not firewall.plan("ufw", Opening((873,), ("192.0.2.9/32",)), Host(show_added=ADDED)).changed
    assert len(firewall.plan("ufw", Opening(), Host(show_added=ADDED)).commands) == 1


def test_firewalld_gets_rules_now_and_for_good_and_keeps_those_that_were_there(places: Path) -> None:
    theirs = 'rule port port="874" protocol="tcp" accept'
    host = Host(get_default_zone="public\n", list_rich_rules=theirs + "\n")
    made = firewall.plan("firewalld", Opening((873, 874)), host)
    ours = 'rule port port="873" protocol="tcp" accept'
    assert [argv for argv, dummy in made.commands] == [
        ["firewall-cmd", "--permanent", "--zone=public", f"--add-rich-rule={ours}"],
        ["firewall-cmd", "--zone=public", f"--add-rich-rule={ours}"],
    ]
    firewall.apply(made, host)
    there = Host(get_default_zone="public\n", list_rich_rules=f"{theirs}\n{ours}\n")
    assert not firewall.plan("firewalld", Opening((873, 874)), there).changed
    gone = firewall.plan("firewalld", Opening(), there)
    assert [argv[-1] for argv, dummy in gone.commands] == [f"--remove-rich-rule={ours}"] * 2
    firewall.apply(gone, there)
    assert not firewall.FIREWALLD_NOTE.exists()
    assert not firewall.plan("firewalld", Opening(), there).changed


def test_what_firewalld_opened_is_noted_until_it_is_closed(places: Path) -> None:
    host = Host(get_default_zone="public\n")

    def dies(argv: Sequence[str], given: str) -> str:
        raise firewall.FirewallError("killed")

    firewall.apply(firewall.plan("firewalld", EVERYBODY, host), host)
    with pytest.raises(firewall.FirewallError):
        firewall.apply(firewall.plan("firewalld", Opening((8730,)), host), dies)
    noted = firewall.FIREWALLD_NOTE.read_text(encoding="utf-8")
    assert 'port="873"' in noted
    assert 'port="8730"' in noted


def test_what_is_open_is_seen_by_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert firewall.opened(tmp_path) == []
    for path, text in (
        ("etc/nftables.d/mirrornet-rsyncd.nft", 'add rule inet filter input tcp dport { 873 } accept comment "mirrornet-rsyncd 0"'),
        ("etc/ufw/user6.rules", "### tuple ### allow tcp 873 ::/0 any ::/0 in comment=6d6972726f726e65742d7273796e6364"),
        ("etc/mirrornet/firewalld", "public\trule"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    assert firewall.opened(tmp_path) == ["nftables", "ufw", "firewalld"]


def test_a_command_that_fails_says_which_and_why() -> None:
    with pytest.raises(firewall.FirewallError, match=r"ls /nonesuch: .*nonesuch"):
        firewall.run(["ls", "/nonesuch"])
    with pytest.raises(firewall.FirewallError, match="nonesuch-program: "):
        firewall.run(["nonesuch-program"])
    assert firewall.run(["cat"], "given") == "given"


def test_a_limit_that_nftables_does_not_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(argv: Sequence[str], given: str) -> str:
        asked.append((list(argv), given))
        raise firewall.FirewallError("nft: Operation not permitted")

    problems = list(firewall.check_limit("table inet x {}", "rsync_master_", refuse))
    assert asked == [(["/usr/sbin/nft", "--check", "--file", "-"], "table inet x {}")]
    assert [problem.where for problem in problems] == ["rsync_master_max_connections_per_source"]
    assert "Operation not permitted" in problems[0].message
    assert list(firewall.check_limit("table inet x {}", "rsync_master_", Host())) == []
    # Nothing to limit, and nobody to ask: it's installed later.
    assert list(firewall.check_limit("", "rsync_master_", refuse)) == []
    monkeypatch.setattr(firewall, "find", lambda dummy: None)
    assert list(firewall.check_limit("table inet x {}", "rsync_master_", refuse)) == []
