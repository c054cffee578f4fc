# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors that a master asks for their addresses, and that don't answer themselves."""

from __future__ import annotations

import json
from pathlib import Path

from plays import play
from testinfra.host import Host


def asked(tmp_path: Path, *groups: str, **reached: str) -> str:
    """What a play in check mode on master1 says that admits the hosts of GROUPS; REACHED is by which container a host is reached."""
    inventory = {
        "masters": {"hosts": {name: {"ansible_host": container} for name, container in reached.items() if name != "gone"}},
        "strangers": {"hosts": {"gone": {"ansible_host": reached.get("gone", "nonesuch")}}},
    }
    (tmp_path / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")
    modules = [{"name": "archive", "path": "/srv/archive", "hosts_allow_groups": groups}]
    done = play("master1", "--check", "--diff", "--inventory", str(tmp_path / "hosts.json"), rsync_master_modules=modules)
    return done.said.replace("''", "'")


def test_another_s_answer_and_no_answer_are_refused_and_told(tmp_path: Path) -> None:
    """The scenario's `ansible_host` is put together from inventory_hostname, which leads a task that is handed over back to the first host."""
    said = asked(tmp_path, "masters", "strangers")
    assert "The configuration of the rsync master has 2 problems; nothing was changed." in said
    assert "changed=0" in said
    assert "'master2' seems to have the address of 'master1', who must have answered in its place" in said
    assert "the address of 'gone' is not known, and it could not be asked: " in said


def test_a_mirror_that_answers_itself_is_admitted(hosts: dict[str, Host], tmp_path: Path) -> None:
    said = asked(tmp_path, "masters", master1="{{ test_network }}-master1", master2="{{ test_network }}-master2")
    address = hosts["master2"].check_output("hostname --ip-address").split()[0]
    assert f"+ hosts allow = {address}" in said or f"+hosts allow = {address}" in said
