# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module mirror_publish as Ansible runs it, and what the role's check says of a module's ``publish``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mirrornet import rsyncd, rsyncd_publish
from publishing import Desk

ROOT = Path(__file__).parents[2]


def play(desk: Desk, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of one play with these tasks; each publishes, in check mode with ``check``, but those that name another module."""
    usual: dict[str, Any] = {
        "tree": str(desk.tree),
        "name": "tree",
        "state_dir": str(desk.places.state_dir),
        "config_dir": str(desk.places.config_dir),
    }
    usual["settle"] = 0
    tasks = []
    for call in calls:
        options = {key: value for key, value in call.items() if key not in ("check", "write")}
        task: dict[str, Any] = {"mirrornet.rsync.mirror_publish": {**usual, **options}}
        if "write" in call:
            task = {"ansible.builtin.copy": {"dest": str(desk.tree / "file"), "content": call["write"], "mode": "0644"}}
        tasks.append({**task, "check_mode": call.get("check", False), "ignore_errors": True})
    playbook = desk.base / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_LOCALHOST_WARNING": "false"}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", str(playbook)]
    command += ["-e", f"ansible_python_interpreter={sys.executable}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return [task["hosts"]["localhost"] for task in json.loads(done.stdout)["plays"][0]["tasks"]]


def test_a_release_in_a_play(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.tree.mkdir()
    (desk.tree / "file").write_text("first")
    predicted, first, again, dummy, foreseen, second, refused = play(
        desk, [{"check": True}, {}, {}, {"write": "second"}, {"check": True}, {}, {"exclude": ["a/*"]}]
    )
    assert [result["changed"] for result in (predicted, first, again, foreseen, second)] == [True, True, False, True, True]
    assert "serial" not in predicted
    assert (first["serial"], again["serial"], second["serial"]) == (1, 1, 2)
    assert second["epoch"] == first["epoch"]
    # The file alone: the copy module replaces it, so that the directory has changed too.
    assert second["report"]["changed"] == 2
    assert (refused["failed"], refused["report"]["kind"]) == (True, "exclude")
    assert "a/*" in refused["msg"]
    assert desk.true().head.serial == 2


def test_a_list_of_files_as_well(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.tree.mkdir()
    (desk.tree / "file").write_text("first")
    listed = {"file_list": "fullfiletimelist-x"}
    predicted, first, again, foreseen, dummy, second, refused = play(
        desk, [{**listed, "check": True}, listed, listed, {**listed, "check": True}, {"write": "second"}, listed, {"file_list": "file"}]
    )
    assert [result["changed"] for result in (predicted, first, again, foreseen, second)] == [True, True, False, False, True]
    assert not (desk.own / ".file_list.new").exists()
    assert "\tf\t6\tfile\n" in (desk.tree / "fullfiletimelist-x").read_text()
    assert (refused["failed"], refused["report"]["kind"]) == (True, "no_list")
    desk.true()


def test_what_publishes_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)
    desk.tree.mkdir()
    (tmp_path / "bin").mkdir()
    find = tmp_path / "bin" / "find"
    find.write_text("#!/bin/sh\nkill -9 $PPID\n")
    find.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    [failed] = play(desk, [{}])
    assert failed["failed"]
    assert f"What publishes {desk.tree} ended early" in failed["msg"]


def test_a_list_that_is_foreseen(tmp_path: Path) -> None:
    """Check mode writes none, also where the head is good already."""
    desk = Desk(tmp_path)
    desk.tree.mkdir()
    dummy, foreseen = play(desk, [{}, {"file_list": "fullfiletimelist-x", "check": True}])
    assert foreseen["changed"]
    assert list(desk.tree.iterdir()) == [desk.own]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "not a dictionary"),
        ({"evry": 5}, "no 'evry'"),
        ({"every": 0}, "every: 0 is not"),
        ({"every": "5"}, "every: '5' is not"),
        ({"keep": 1001}, "keep: 1001 is not"),
        ({"settle": -1}, "settle: -1 is not a whole number from 0 to 3600"),
        ({"sign": "yes"}, "neither true nor false"),
        ({"file_list": ""}, "not a file's name at the top of the tree"),
        ({"file_list": "a/b"}, "not a file's name at the top of the tree"),
        ({"file_list": ".mirrornet"}, "not a file's name at the top of the tree"),
        ({"file_list": "-x"}, "not a file's name at the top of the tree"),
    ],
)
def test_values_that_are_refused(value: object, words: str) -> None:
    [problem] = rsyncd.check_modules([{"name": "a", "path": "/srv/a", "publish": value}])
    assert problem.option == "publish"
    assert words in problem.message


def test_values_that_are_taken() -> None:
    for value in ({}, {"every": 1, "keep": 1000, "settle": 0, "sign": True, "file_list": "fullfiletimelist-epel"}):
        assert list(rsyncd_publish.complaints(value)) == []


@pytest.mark.parametrize(
    ("module", "option"),
    [
        ({"filter": ["- x"]}, "filter"),
        ({"outgoing_chmod": "go-w"}, "outgoing_chmod"),
        ({"exclude": ["a/*/b"]}, "publish"),
        ({"exclude": ["ok/", "*.tmp"]}, ""),
        ({"include": []}, ""),
    ],
)
def test_what_clients_get_must_be_what_is_there(module: dict[str, object], option: str) -> None:
    found = rsyncd.check_publishing([{"name": "a", "path": "/srv/a", "publish": {}, **module}], [".~tmp~/"])
    assert [problem.option for problem in found] == ([option] if option else [])
    assert rsyncd.check_publishing([{"name": "a", "path": "/srv/a", **module}], ["**"]) == []


def test_one_head_for_a_tree() -> None:
    modules: list[object] = [
        {"name": name, "path": path, "publish": {}} for name, path in (("a", "/srv/a"), ("b", "/srv/b"), ("c", "/srv/a/"))
    ]
    [problem] = rsyncd.check_publishing(modules, [])
    assert (problem.where, "'a' already" in problem.message) == ("module 'c' (item 3)", True)
