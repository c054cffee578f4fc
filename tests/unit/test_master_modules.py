# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A master's modules: addresses from the inventory's groups, and passwords put aside."""

from __future__ import annotations

from typing import Any

import pytest
from collection import plugin

master_modules = plugin("filter.master_modules").master_modules

GOOD = {"name": "archive", "path": "/srv/archive"}
HOSTVARS: dict[str, dict[str, Any]] = {
    "master": {},
    "said": {"rsync_mirror_addresses": ["192.0.2.0/28", "2001:db8::7"], "ansible_host": "198.51.100.1"},
    "one": {"rsync_mirror_addresses": "192.0.2.77"},
    "reached": {"ansible_host": "192.0.2.9"},
    "192.0.2.5": {},
    "asked": {"ansible_facts": {"default_ipv4": {"address": "192.0.2.10"}, "default_ipv6": {"address": "2001:db8::a"}}},
    "inside": {
        "ansible_facts": {"default_ipv4": {}, "all_ipv4_addresses": ["192.0.2.11"], "all_ipv6_addresses": ["fe80::1", "2001:db8::b"]}
    },
    "local": {"ansible_host": "127.0.0.1"},
    "named": {"ansible_host": "mirror.example.org", "ansible_facts": {"default_ipv4": {}}},
    "wrong": {"rsync_mirror_addresses": ["mirror.example.org"]},
    "number": {"rsync_mirror_addresses": [3221225985]},
    "zone": {"rsync_mirror_addresses": ["2001:db8::1%x\nread only = no"]},
    # What a host says of itself is the word of whoever holds it.
    "liar": {"ansible_facts": {"default_ipv6": {"address": "2001:db8::1%x\nread only = no"}}},
}
GROUPS = {
    "mirrors": ["said", "reached", "asked", "192.0.2.5", "master"],
    "tier2": ["one"],
    "masters": ["master"],
    "closed": ["inside"],
    "empty": [],
    "strange": ["local", "named"],
    "wrong": ["wrong"],
    "number": ["number"],
    "zone": ["zone"],
    "liar": ["liar"],
}


def run(*modules: Any, **options: Any) -> dict[str, Any]:
    return master_modules(list(modules), HOSTVARS, GROUPS, "master", **options)


def said(result: dict[str, Any]) -> list[str]:
    return [f"{p['where']}: {p['option']}: {p['message']}. {p['remedy']}" for p in result["problems"]]


def test_a_group_is_the_addresses_of_its_hosts() -> None:
    result = run({**GOOD, "hosts_allow_groups": ["mirrors", "tier2"], "hosts_allow": ["203.0.113.0/24", "192.0.2.9"]})
    assert result["problems"] == []
    assert result["modules"][0] == {
        **GOOD,
        "hosts_allow": [
            "203.0.113.0/24", "192.0.2.9",
            "192.0.2.0/28", "192.0.2.5", "192.0.2.10", "192.0.2.77", "2001:db8::7", "2001:db8::a",
        ],
    }  # fmt: skip


def test_where_no_way_leads_out_it_is_all_addresses() -> None:
    (module,) = run({**GOOD, "hosts_allow_groups": ["closed"]})["modules"]
    assert module["hosts_allow"] == ["192.0.2.11", "2001:db8::b"]


def test_the_order_of_the_inventory_changes_nothing() -> None:
    other = {**GROUPS, "mirrors": list(reversed(GROUPS["mirrors"]))}
    module = {**GOOD, "hosts_allow_groups": ["mirrors"]}
    assert master_modules([module], HOSTVARS, other, "master") == run(module)


WRONG_GROUPS = [
    (["mirors"], "the inventory has no group 'mirors'. Did you mean 'mirrors'?"),
    (["empty"], "no other host is in 'empty', so nobody would be admitted"),
    (["masters"], "no other host is in 'masters', so nobody would be admitted"),
    ([], "no other host is in no group, so nobody would be admitted"),
    ("mirrors", "is not a list of names"),
    ([7], "is not a list of names"),
    (["wrong"], "'wrong' has 'mirror.example.org' in rsync_mirror_addresses, which is no address"),
    (["number"], "'number' has '3221225985' in rsync_mirror_addresses, which is no address"),
    (["zone"], r"'zone' has '2001:db8::1%x\nread only = no' in rsync_mirror_addresses, which is no address"),
    (["liar"], "the address of 'liar' is not known, and it could not be asked"),
]


@pytest.mark.parametrize(("groups", "words"), WRONG_GROUPS)
def test_a_wrong_group_is_refused(groups: Any, words: str) -> None:
    (message,) = said(run(GOOD, {**GOOD, "name": "b", "hosts_allow_groups": groups}))
    assert message.startswith("module 'b' (item 2): hosts_allow_groups: ")
    assert words in message


def test_hosts_without_an_address_are_named() -> None:
    result = run({**GOOD, "hosts_allow_groups": ["strange"]})
    assert result["strangers"] == ["local", "named"]
    first, second = said(result)
    assert "the address of 'local' is not known" in first
    assert "the address of 'named' is not known" in second
    assert "Set rsync_mirror_addresses for it" in first


def asked(address: str) -> dict[str, Any]:
    return {"ansible_facts": {"default_ipv4": {"address": address}}}


IMPOSTORS = [
    # facts by host, who seems to be whom
    (
        {"master": asked("192.0.2.1"), "mirror1": asked("192.0.2.1")},
        "'mirror1' seems to have the address of 'master', who must have answered",
    ),
    ({"master2": asked("192.0.2.2"), "mirror1": asked("192.0.2.2")}, "'mirror1' seems to have the address of 'master2'"),
    ({"mirror1": asked("192.0.2.3"), "mirror2": asked("192.0.2.3")}, "'mirror2' seems to have the address of 'mirror1'"),
]


@pytest.mark.parametrize(("hostvars", "words"), IMPOSTORS)
def test_a_host_that_answers_for_another_is_found_out(hostvars: dict[str, Any], words: str) -> None:
    everybody = {
        name: hostvars.get(name, asked(f"192.0.2.{number}")) for number, name in enumerate(("master", "master2", "mirror1", "mirror2"), 11)
    }
    groups = {"all": list(everybody), "masters": ["master", "master2"], "mirrors": ["mirror1", "mirror2"]}
    module = {**GOOD, "hosts_allow_groups": ["mirrors"]}
    (message,) = said(master_modules([module], everybody, groups, "master"))
    assert words in message
    assert "Write its ansible_host out, without inventory_hostname, or set rsync_mirror_addresses for it" in message
    # Who says from where it comes needn't be asked.
    named = {name: {**variables, "rsync_mirror_addresses": ["192.0.2.77"]} for name, variables in everybody.items()}
    assert said(master_modules([module], named, groups, "master")) == []


def test_why_a_host_could_not_be_asked_is_told() -> None:
    answers = [{"item": "named", "unreachable": True, "msg": "Connection refused."}, {"item": "local", "failed": True}, {"item": "said"}]
    result = run({**GOOD, "hosts_allow_groups": ["strange"]}, answers=answers)
    first, second = said(result)
    assert "the address of 'local' is not known, and it could not be asked: it failed. Set" in first
    assert "the address of 'named' is not known, and it could not be asked: Connection refused. Set" in second


def test_one_that_is_away_does_not_hide_the_answers_of_the_others() -> None:
    answers = [
        {"item": "named", "unreachable": True, "msg": "gone"},
        {"item": "local", "ansible_facts": {"ansible_default_ipv4": {"address": "192.0.2.40"}}},
    ]
    result = run({**GOOD, "hosts_allow_groups": ["strange"]}, answers=answers)
    assert result["modules"][0]["hosts_allow"] == ["192.0.2.40"]
    assert result["strangers"] == ["named"]
    assert len(result["problems"]) == 1


SHARED = [
    {"name": "mirror1", "password": "the password of one"},
    {"name": "mirror2", "password": "the password of two"},
    {"name": "@ops", "password": "the password of ops"},
]


def test_passwords_are_put_aside() -> None:
    own = [{"name": "alice", "password": "alice's password"}]
    result = run(
        {**GOOD, "secrets": own},
        {"name": "b", "path": "/srv/b", "auth_users": ["mirror1:ro", "@ops:rw"]},
        {"name": "c", "path": "/srv/c", "auth_users": ["mirror2:deny", "mirror*", "alice"], "secrets": own},
        {"name": "d", "path": "/srv/d"},
        shared=SHARED,
    )
    assert result["problems"] == []
    assert [(item["name"], [entry["name"] for entry in item["entries"]]) for item in result["secrets"]] == [
        ("archive", ["alice"]),
        ("b", ["mirror1", "@ops"]),
        ("c", ["alice", "mirror1", "mirror2"]),
    ]
    assert result["secrets"][1]["entries"][0] == SHARED[0]
    assert result["modules"][0] == {**GOOD, "auth_users": ["alice"], "secrets_file": "/etc/rsyncd.secrets.d/archive"}
    assert result["modules"][3] == {"name": "d", "path": "/srv/d"}
    assert result["writable"] == ["/srv/b"]
    assert "password of" not in str([result["modules"], result["problems"]])


WRONG_SECRETS = [
    # module, shared, words
    ({"auth_users": ["bob"]}, SHARED, "auth_users: 'bob' has no password, so nobody could log in by it"),
    ({"auth_users": ["mirror9*"]}, SHARED, "'mirror9*' has no password"),
    ({"auth_users": ["@admins"]}, SHARED, "'@admins' has no password"),
    ({"secrets": [{"name": "a", "password": "short"}]}, [], "secrets: entry 1 ('a'): its password has fewer than 12"),
    ({"secrets": [{"name": "a", "password": "long enough it is"}], "secrets_file": "/etc/s"}, [], "the module has secrets as well"),
    ({"secrets": []}, [], "the list is empty"),
    ({"secrets": {"a": "long enough it is"}}, [], "secrets: it is not a list"),
]


@pytest.mark.parametrize(("options", "shared", "words"), WRONG_SECRETS)
def test_wrong_logins_are_refused(options: dict[str, Any], shared: Any, words: str) -> None:
    (message,) = said(run({**GOOD, **options}, shared=shared))
    assert words in message
    assert message.startswith("module 'archive' (item 1): ")


@pytest.mark.parametrize("shared", [["alice:password"], "alice", [{"name": "al:ice", "password": "long enough it is"}], [{"name": "a"}]])
def test_wrong_shared_secrets_are_reported_under_their_variable(shared: Any) -> None:
    (message,) = said(run(GOOD, shared=shared))
    assert message.startswith("rsync_master_secrets: ")


def test_a_password_under_a_misspelt_name_is_not_handed_on() -> None:
    leaked = [{"name": "alice", "password": "the secret words", "passwort": "the secret words"}]
    result = run({**GOOD, "secretes": leaked}, {**GOOD, "name": "b", "secrets": leaked}, leaked, shared=leaked)
    assert result["modules"][0] == {**GOOD, "secretes": None}
    assert "the secret words" not in str([result["modules"], result["problems"]])
    assert any("unknown key 'passwort'" in message for message in said(result))
