# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook audit_master, against a master on this host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Master

ROOT = Path(__file__).parents[2]
#: What hides rsync from a host's Python.
NO_RSYNC = """
import shutil

which = shutil.which
shutil.which = lambda name, *words, **options: None if name == "rsync" else which(name, *words, **options)
"""


def audit(base: Path, port: int, **variables: Any) -> tuple[int, str]:
    """How the play ended, and what it said, in one line."""
    bare = base / "python"
    bare.write_text(f'#!/bin/sh\nPYTHONPATH={base} exec {sys.executable} "$@"\n')
    bare.chmod(0o755)
    (base / "sitecustomize.py").write_text(NO_RSYNC)
    local = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    hosts = {
        "masters": {"hosts": {"master1": {**local, "rsync_master_public_name": "127.0.0.1", "rsync_master_port": port}}},
        "others": {"hosts": {"bare": {**local, "ansible_python_interpreter": str(bare)}, "localhost": local}},
    }
    inventory = base / "hosts.yml"
    inventory.write_text(yaml.safe_dump(hosts))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, "-e", json.dumps({"audit_connections": 0, **variables})]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    done = subprocess.run(
        [*command, ROOT / "playbooks/audit_master.yml"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_what_is_found_inside_comes_first_and_then_what_a_stranger_gets(master: Master, tmp_path: Path) -> None:
    with (master.base / "rsyncd.conf").open("a") as config:
        config.write(f"[hidden]\npath = {master.tree}\nlist = no\n")
    code, said = audit(tmp_path, master.port, audit_fail="high")
    assert code != 0
    parts = [
        f"{master.base}/rsyncd.conf",
        "without chroot a mistake in rsync can reach the whole host",
        f"rsync://127.0.0.1:{master.port}/gone/: it is listed, and doesn't work",
        f"rsync://127.0.0.1:{master.port}/hidden/: everybody can read it, though it isn't listed",
        "master1 has findings of severity high or worse.",
    ]
    places = [said.find(part.replace("'", "''")) if part.replace("'", "''") in said else said.find(part) for part in parts]
    assert -1 not in places, said
    assert places == sorted(places)


def test_without_rsync_to_ask_with_there_is_a_remedy_after_the_findings_inside(master: Master, tmp_path: Path) -> None:
    code, said = audit(tmp_path, master.port, audit_from="bare")
    assert code != 0
    assert 0 < said.find("without chroot a mistake in rsync") < said.find("There is no rsync on this host to ask the server with")
    assert "-e audit_from=HOST" in said


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"audit_fail": "hihg"}, "audit_fail is 'hihg', which is no severity. Give one of critical, high, medium, low, or leave it out."),
        ({"audit_connections": "some"}, "audit_connections is 'some'. Give a number from 0 (none) to 30, or leave it out."),
        ({"audit_connections": 31}, "audit_connections is '31'. Give a number from 0 (none) to 30"),
    ],
)
def test_a_typo_in_a_variable_is_told_before_anything_is_looked_at(tmp_path: Path, variables: dict[str, Any], words: str) -> None:
    code, said = audit(tmp_path, 1, **variables)
    assert code != 0
    assert words in said.replace("''", "'")
    assert "Look inside" not in said
