# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module mirror_job as Ansible runs it, on this host and below one directory: what it predicts, does, shows and refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from conftest import Master, Mirror, tree

ROOT = Path(__file__).parents[2]


#: What the module says that it returns, and what every module does.
DOCUMENTED = set(yaml.safe_load((ROOT / "plugins/modules/mirror_job.py").read_text().split('RETURN = r"""')[1].split('"""')[0]))
OF_ALL_MODULES = {"action", "changed", "diff", "exception", "failed", "invocation", "msg", "warnings"}


def play(mirror: Mirror, *flags: str, **options: Any) -> dict[str, Any]:
    """The result of one task with mirror_job."""
    return play_all(mirror, [options], *flags)[0]


def play_all(mirror: Mirror, jobs: list[dict[str, Any]], *flags: str) -> list[dict[str, Any]]:
    """The results of one play with a task for each of ``jobs``."""
    usual = {
        "name": "tree",
        "sources": [mirror.master.url()],
        "target": str(mirror.target),
        "schedule": "never",
        "retries": 0,
        "config_dir": str(mirror.places.config_dir),
        "state_dir": str(mirror.places.state_dir),
        "command": str(mirror.base / "bin" / "mirrornet"),
        "python": sys.executable,
    }
    tasks = [{"mirrornet.rsync.mirror_job": {**usual, **options}, "ignore_errors": True} for options in jobs]
    playbook = mirror.base / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_LOCALHOST_WARNING": "false"}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", *flags, str(playbook)]
    command += ["-e", f"ansible_python_interpreter={sys.executable}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    results = [task["hosts"]["localhost"] for task in json.loads(done.stdout)["plays"][0]["tasks"]]
    for result in results:
        assert {name for name in result if not name.startswith("_")} <= DOCUMENTED | OF_ALL_MODULES
    return results


def test_check_mode_predicts_what_a_run_brings_and_deletes(master: Master, mirror: Mirror) -> None:
    master.fill(40)
    fresh = play(mirror, "--check", run="wait")
    assert fresh["changed"]
    assert not (mirror.base / "bin").exists()
    assert list(mirror.target.iterdir()) == []
    assert play(mirror, run="wait")["outcome"] == "updated"
    (master.tree / "fresh").write_text("x")
    (master.tree / "release-0" / "file-0.txt").unlink()
    before = tree(mirror.target)
    foretold = play(mirror, "--check", "--diff", run="wait")
    assert (foretold["changed"], foretold["outcome"]) == (True, "updated")
    shown = foretold["diff"][0]["prepared"]
    assert "|fresh\n" in shown
    assert "*deleting  |0|release-0/file-0.txt\n" in shown
    assert tree(mirror.target) == before
    real = play(mirror, run="wait")
    assert (real["outcome"], real["report"]["deletions"], real["report"]["files"]) == ("updated", 1, 1)
    assert (foretold["report"]["deletions"], foretold["report"]["files"]) == (1, 1)
    again = play(mirror, "--check", "--diff", run="wait")
    assert (again["changed"], again["outcome"], again["diff"]) == (False, "unchanged", [])


def test_check_mode_tells_that_a_guard_would_hold(master: Master, mirror: Mirror) -> None:
    master.fill()
    play(mirror, run="wait")
    shutil.rmtree(master.tree / "release-0")
    foretold = play(mirror, "--check", "--diff", run="wait")
    assert foretold["outcome"] == "held"
    assert "would be held: " in foretold["diff"][0]["prepared"]
    real = play(mirror, run="wait")
    assert real["failed"]
    assert real["kind"] == "too_many_deletions"
    assert (real["rc"], real["outcome"]) == (79, "held")


def test_check_mode_tells_that_the_target_is_not_the_right_one(master: Master, mirror: Mirror) -> None:
    master.fill()
    play(mirror, run="wait")
    foretold = play(mirror, "--check", "--diff", run="wait", mount=str(mirror.target))
    real = play(mirror, run="wait", mount=str(mirror.target))
    assert (foretold["outcome"], foretold["report"]["kind"]) == (real["outcome"], real["kind"]) == ("held", "not_mounted")
    assert foretold["report"]["message"] == real["report"]["message"]
    assert foretold["diff"][-1]["prepared"] == f"would be held: {real['report']['message']}\n"


def test_password_is_shown_nowhere(master: Master, mirror: Mirror) -> None:
    master.fill()
    url = master.url("login").replace("rsync://", "rsync://joe@")
    foretold = play(mirror, "--check", "--diff", sources=[url], password="secret")
    real = play(mirror, "--diff", sources=[url], password="secret", run="wait")
    assert real["outcome"] == "updated"
    for result in (foretold, real):
        assert "secret" not in json.dumps(result).replace("secrets/tree", "").replace("/secrets", "")
    assert play(mirror, sources=[url], password="secret", run="wait")["changed"] is False


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "a/b"}, "no slash"),
    ({"schedule": "61 * * * *"}, "61 is outside 0 to 59"),
    ({"offset": "60"}, "0 to 59"),
    ({"sources": ["nonsense"]}, "not an rsync URL"),
    ({"sources": ["ssh://h/srv/"]}, "ssh_known_hosts: is missing"),
    ({"rsync_options": ["--delete"]}, "not among the options"),
    ({"target": "/etc"}, "directory of the system"),
    ({"bandwidth_windows": [{"from": "8", "to": "9", "limit": 1}]}, "write HH:MM"),
]


def test_refused_before_anything_changes(mirror: Mirror) -> None:
    for result, (options, words) in zip(play_all(mirror, [options for options, words in REFUSED]), REFUSED):
        assert result["failed"], options
        assert words in result["msg"]
        assert "nothing was changed" in result["msg"]
    assert not (mirror.base / "bin").exists()
    assert not mirror.places.config_dir.exists()


def test_a_source_that_fails_fails_the_task_with_its_reason(mirror: Mirror) -> None:
    result = play(mirror, sources=[mirror.master.url("nowhere")], run="wait")
    assert result["failed"]
    assert (result["kind"], result["rc"]) == ("no_such_module", 69)
    assert "no such module" in result["msg"]
