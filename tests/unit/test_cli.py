# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENGINE, Master, Mirror
from mirrornet import arguments, cli
from mirrornet.errors import MEANINGS, Exit
from mirrornet.places import default_places


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Exit)


def test_pull_prints_one_line(master: Master, mirror: Mirror) -> None:
    master.fill()
    mirror.define()
    first = mirror.run("pull", "tree")
    assert (first.returncode, first.stderr) == (0, "")
    assert re.fullmatch(rf"tree: updated from {master.url()}: 8 files, 468 B, 0 deletions, \d+ s\n", first.stdout)
    assert mirror.run("pull", "tree").stdout == f"tree: unchanged ({master.url()})\n"


def test_quiet_is_silent_unless_a_person_must_look(master: Master, mirror: Mirror) -> None:
    """What cron mails: nothing for a good run, one sentence for a bad one."""
    master.fill()
    mirror.define()
    done = mirror.run("pull", "--quiet", "tree")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    shutil.rmtree(master.tree / "release-0")
    held = mirror.run("pull", "--quiet", "tree")
    assert (held.returncode, held.stdout) == (Exit.HELD, "")
    assert held.stderr.startswith("tree: held: ")
    assert len(held.stderr.splitlines()) == 1


def test_json(master: Master, mirror: Mirror) -> None:
    master.fill()
    mirror.define()
    done = mirror.run("pull", "--json", "tree")
    assert json.loads(done.stdout) == mirror.report()


def test_dry_run_changes_nothing(master: Master, mirror: Mirror) -> None:
    master.fill()
    mirror.define()
    done = mirror.run("pull", "--dry-run", "tree")
    assert done.returncode == 0
    assert "release-0/file-0.txt" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(f"tree: from {master.url()}: 8 files to bring")
    assert list(mirror.target.iterdir()) == []
    mirror.run("pull", "tree")
    shutil.rmtree(master.tree / "release-0")
    held = mirror.run("pull", "--dry-run", "tree")
    assert held.returncode == Exit.HELD
    assert "*deleting  |" in held.stdout
    assert "would be held" in held.stderr
    assert (mirror.target / "release-0").exists()
    record = json.loads(mirror.run("pull", "--dry-run", "--json", "tree").stdout)
    assert (record["outcome"], record["deletions"]) == ("held", 4)


@pytest.mark.parametrize("name", ["a/b", "..", "", "no such"])
def test_bad_job_name(mirror: Mirror, name: str) -> None:
    done = mirror.run("pull", name)
    assert done.returncode == Exit.CONFIG
    assert f"mirrornet: Job name {name!r} must be" in done.stderr


def test_unknown_job_lists_the_known(mirror: Mirror) -> None:
    mirror.define()
    done = mirror.run("pull", "sage")
    assert done.returncode == Exit.CONFIG
    assert "no job 'sage'" in done.stderr
    assert "Jobs here: tree." in done.stderr
    assert mirror.run("status", "sage").returncode == Exit.CONFIG


def test_usage(mirror: Mirror) -> None:
    assert mirror.run().returncode == Exit.USAGE
    assert mirror.run("pull").returncode == Exit.USAGE
    assert mirror.run("--version").stdout.startswith("mirrornet 0.")


def program(directory: Path, text: str) -> str:
    """A PATH on which ``rsync`` is another program."""
    directory.mkdir()
    path = directory / "rsync"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(directory)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (None, "rsync_missing", "is not on this host's PATH. Install the package rsync."),
        (
            "echo 'rsync  version 3.0.9  protocol version 30'",
            "rsync_too_old",
            "is rsync 3.0.9, older than 3.1.0. Install rsync 3.1.0 or later.",
        ),
        ("echo 'openrsync: protocol version 29'", "not_rsync", "calls itself 'openrsync: protocol version 29', which is not rsync."),
        ("exit 1", "not_rsync", "which is not rsync."),
    ],
)
def test_rsync_that_cannot_serve(mirror: Mirror, tmp_path: Path, text: str | None, kind: str, words: str) -> None:
    """Old programs can't be had for a test: stand-ins print what they print."""
    mirror.define()
    (mirror.target / "kept").write_text("x")
    (tmp_path / "empty").mkdir()
    done = mirror.run("pull", "tree", path=str(tmp_path / "empty") if text is None else program(tmp_path / "bin", text))
    assert done.returncode == Exit.RSYNC
    assert words in done.stderr
    assert mirror.report()["kind"] == kind
    assert (mirror.target / "kept").exists()


def test_status(master: Master, mirror: Mirror) -> None:
    assert mirror.run("status").stdout == f"No job is defined in {mirror.places.definitions}.\n"
    master.fill()
    mirror.define()
    assert mirror.run("status").stdout.splitlines()[1].split()[:2] == ["tree", "never"]
    mirror.run("pull", "tree")
    head, line = mirror.run("status").stdout.splitlines()
    assert head.split()[:2] == ["JOB", "STATE"]
    assert line.split()[:2] == ["tree", "updated"]
    master.stop()
    mirror.run("pull", "tree")
    record = json.loads(mirror.run("status", "--json").stdout)["jobs"][0]
    assert (record["state"], record["kind"]) == ("failed", "unreachable")
    assert record["last_complete"]


@pytest.mark.parametrize("chosen", [False, True])
def test_status_tells_an_ordinary_user_of_the_jobs_of_the_system(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], chosen: bool
) -> None:
    for variable in ("MIRRORNET_CONFIG_DIR", "MIRRORNET_STATE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(cli, "default_places", lambda uid=None: mirror.places if uid == 0 else default_places())
    words = ["--config-dir", str(tmp_path / "chosen"), "status"] if chosen else ["status"]
    none_here = f"No job is defined in {tmp_path}/{'chosen' if chosen else '.config/mirrornet'}/jobs.\n"
    assert cli.main(words) == 0
    assert capsys.readouterr().out == none_here
    mirror.define()
    assert cli.main(words) == 0
    assert capsys.readouterr().out == none_here + ("" if chosen else "Jobs of the system: `sudo mirrornet status`.\n")


def test_state_directory_that_cannot_be_used(mirror: Mirror) -> None:
    mirror.define()
    mirror.places.state_dir.write_text("a file")
    done = mirror.run("pull", "tree")
    assert done.returncode == Exit.LOCAL_IO
    assert f"The state directory {mirror.places.state('tree')} can't be used" in done.stderr


def test_account_that_is_missing(mirror: Mirror) -> None:
    mirror.define(user="nobody-here")
    done = mirror.run("pull", "tree")
    assert done.returncode == Exit.CONFIG
    assert "account 'nobody-here', which this host doesn't have" in done.stderr


def test_understanding_a_command_line_loads_no_tools_for_help() -> None:
    program = (
        "import sys; from mirrornet import arguments; arguments.parser().parse_args(['pull', 'tree']); sys.exit('shutil' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-S", "-c", program], env={**os.environ, "PYTHONPATH": str(ENGINE)}, check=False).returncode == 0


def test_help_is_as_wide_as_can_be_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mirrornet", "publish", "--help"],
        env={**os.environ, "PYTHONPATH": str(ENGINE)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--file-list NAME" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("where", [[], ["--config-dir", "/c"], ["--state-dir", "/s"], ["--state-dir", "/s", "--config-dir", "/c"]])
def test_what_cron_writes_is_read_as_the_parser_would(where: list[str]) -> None:
    words = [*where, "pull", "--quiet", "tree"]
    assert vars(cli._arguments(words)) == vars(arguments.parser().parse_args(words))
