# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module mirrornet_command as Ansible runs it, below one directory of this host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def play(base: Path, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of one play with these calls of the module; the key ``check`` makes it check mode."""
    usual = {"name": "traffic", "command": str(base / "bin/mirrornet"), "config_dir": str(base / "etc"), "python": sys.executable}
    playbook = base / "play.yml"
    calls = [
        {
            "mirrornet.rsync.mirrornet_command": {**usual, **{key: value for key, value in task.items() if key != "check"}},
            "check_mode": task.get("check", False),
            "diff": True,
            "ignore_errors": True,
        }
        for task in tasks
    ]
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": calls}]))
    environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_LOCALHOST_WARNING": "false"}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", str(playbook)]
    command += ["-e", f"ansible_python_interpreter={sys.executable}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return [task["hosts"]["localhost"] for task in json.loads(done.stdout)["plays"][0]["tasks"]]


def test_installs_what_check_mode_foretells_and_takes_it_away(tmp_path: Path) -> None:
    results = play(
        tmp_path,
        [
            {"check": True},
            {},
            {},
            {"name": "../traffic"},
            {"python": "/nonexistent"},
            {"state": "absent", "check": True},
            {"state": "absent"},
            {"state": "absent"},
        ],
    )
    foretold, made, again, name, python, away, gone, still = results
    assert [result["changed"] for result in results] == [True, True, False, False, False, True, True, False]
    assert foretold["diff"] == made["diff"]
    assert away["diff"] == gone["diff"]
    assert again["diff"] == still["diff"] == []
    assert "'../traffic' must be up to 63 letters" in name["msg"]
    assert "there is no program /nonexistent" in python["msg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "play.yml"]


def test_a_command_that_cannot_be_put_in_place(tmp_path: Path) -> None:
    (tmp_path / "bin" / "mirrornet").mkdir(parents=True)
    [result] = play(tmp_path, [{}])
    assert result["failed"]
    assert f"Is a directory: '{tmp_path}/bin/mirrornet'" in result["msg"]
    assert "a second run goes on from there" in result["msg"]


def test_the_installed_command_runs(tmp_path: Path) -> None:
    play(tmp_path, [{}])
    done = subprocess.run([str(tmp_path / "bin/mirrornet"), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mirrornet ")
