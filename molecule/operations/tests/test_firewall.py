# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports that are opened in an administrator's closed firewall, and closed again: seen by a real client from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from plays import ansible, play
from testinfra.host import Host

FIREWALLS = {"master1": "nftables", "master2": "ufw"}
OTHER = {"master1": "master2", "master2": "master1"}
RULES = {"nftables": "nft list ruleset", "ufw": "ufw show added", "firewalld": "firewall-cmd --list-rich-rules"}


def is_open(hosts: dict[str, Host], name: str) -> bool:
    """Whether the other host gets in. A packet that is dropped is never answered: then it's the client that gives up."""
    done = hosts[OTHER[name]].run("rsync --contimeout=4 rsync://%s/archive/", name)
    assert done.rc in (0, 10, 35), done.stderr
    return done.rc == 0


def opening(
    *options: str, on: str = "masters", kind: str = "", ports: tuple[int, ...] = (873,), sources: tuple[str, ...] = ()
) -> list[bool]:
    """The module by itself, on both hosts; where it changed something."""
    arguments = json.dumps({"kind": kind or "{{ rsync_master_firewall }}", "ports": ports, "sources": sources})
    done = ansible("ansible", on, "-m", "mirrornet.rsync.rsyncd_firewall", "-a", arguments, *options)
    assert done.code == 0, done.output
    return [f"{name} | CHANGED" in done.output for name in FIREWALLS if f"{name} | " in done.output]


def theirs(host: Host, kind: str) -> list[str]:
    """The rules of the administrator's."""
    lines = host.check_output(RULES[kind]).splitlines()
    return [line for line in lines if "mirrornet-rsyncd" not in line and "f2b" not in line]


def test_the_port_is_open_and_the_others_are_not(hosts: dict[str, Host]) -> None:
    for name in FIREWALLS:
        assert is_open(hosts, name)
        # Nobody listens there, and yet the client isn't told so.
        assert hosts[OTHER[name]].run("timeout 3 bash -c '</dev/tcp/%s/8731'", name).rc == 124


def test_without_the_variable_it_is_closed_again_and_nothing_else_has_changed(hosts: dict[str, Host]) -> None:
    before = {name: theirs(hosts[name], kind) for name, kind in FIREWALLS.items()}
    try:
        done = play("masters", rsync_master_firewall="none")
        assert done.code == 0, done.output
        assert [name for name in FIREWALLS if is_open(hosts, name)] == []
        assert {name: theirs(hosts[name], kind) for name, kind in FIREWALLS.items()} == before
        assert "theirs" in str(before["master1"])
        assert "theirs" in str(before["master2"])
        assert not hosts["master1"].file("/etc/nftables.d/mirrornet-rsyncd.nft").exists
    finally:
        assert opening() == [True, True]
    assert [name for name in FIREWALLS if not is_open(hosts, name)] == []


def test_check_mode_says_what_would_change_and_changes_nothing(hosts: dict[str, Host]) -> None:
    before = [hosts[name].check_output(RULES[kind]) for name, kind in FIREWALLS.items()]
    assert opening() == [False, False]
    assert opening("--check", ports=(873, 874)) == [True, True]
    assert opening("--check", ports=()) == [True, True]
    assert [hosts[name].check_output(RULES[kind]) for name, kind in FIREWALLS.items()] == before


def test_for_given_sources_alone(hosts: dict[str, Host]) -> None:
    clients = tuple(host.check_output("hostname --ip-address").split()[0] for host in hosts.values())
    try:
        assert opening(sources=("192.0.2.0/24", "2001:db8::/32")) == [True, True]
        assert opening(sources=("2001:db8::/32", "192.0.2.1/24")) == [False, False]
        assert [name for name in FIREWALLS if is_open(hosts, name)] == []
        assert opening(sources=("192.0.2.0/24", *clients)) == [True, True]
        assert [name for name in FIREWALLS if not is_open(hosts, name)] == []
    finally:
        opening()


@pytest.mark.on("master1")
def test_a_restart_and_a_reload_of_nftables_keep_it_open(host: Host, hosts: dict[str, Host]) -> None:
    try:
        for verb in ("restart", "reload"):
            host.check_output("systemctl %s nftables.service", verb)
            assert is_open(hosts, "master1")
        assert opening(on="master1") == [False]
    finally:
        host.check_output("systemctl restart fail2ban.service")


@pytest.fixture
def firewalld(hosts: dict[str, Host]) -> Iterator[Host]:
    """firewalld in place of nftables, on master1."""
    host = hosts["master1"]
    host.check_output("systemctl stop nftables.service && nft flush ruleset && systemctl start firewalld.service")
    yield host
    host.check_output("systemctl stop firewalld.service && systemctl start nftables.service && systemctl restart fail2ban.service")
    # Where a play has closed it in favour of firewalld.
    opening(on="master1")


def test_firewalld_now_and_for_good(hosts: dict[str, Host], firewalld: Host) -> None:
    firewalld.check_output('firewall-cmd --permanent --add-rich-rule=\'rule port port="7" protocol="tcp" accept\' && firewall-cmd --reload')
    assert not is_open(hosts, "master1")
    assert opening("--check", on="master1", kind="firewalld") == [True]
    assert opening(on="master1", kind="firewalld") == [True]
    assert is_open(hosts, "master1")
    firewalld.check_output("firewall-cmd --reload")
    assert is_open(hosts, "master1")
    assert opening(on="master1", kind="firewalld") == [False]
    some = ("192.0.2.0/24", "2001:db8::/32")
    assert opening(on="master1", kind="firewalld", sources=some) == [True]
    assert opening(on="master1", kind="firewalld", sources=some) == [False]
    assert not is_open(hosts, "master1")
    assert opening(on="master1", kind="firewalld", ports=()) == [True]
    assert theirs(firewalld, "firewalld") == ['rule port port="7" protocol="tcp" accept']
    assert not firewalld.file("/etc/mirrornet/firewalld").exists


def test_a_play_opens_it_in_firewalld_in_place_of_another_and_closes_it(hosts: dict[str, Host], firewalld: Host) -> None:
    before = theirs(firewalld, "firewalld")
    assert not is_open(hosts, "master1")
    told = play("master1", rsync_master_firewall="firewalld")
    assert (told.code, [task.partition(" | ")[0].partition(" : ")[2] for task, _host in told.changes]) == (0, ["Firewall", "Unwanted"]), (
        told.output
    )
    assert is_open(hosts, "master1")
    assert not firewalld.file("/etc/nftables.d/mirrornet-rsyncd.nft").exists
    told = play("master1", rsync_master_firewall="none")
    assert told.code == 0, told.output
    assert not is_open(hosts, "master1")
    assert theirs(firewalld, "firewalld") == before
