# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Handing in the report of a run: it arrives, and where it can't, the run is what it is and somebody is told."""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Master, Mirror, Silent, free_port, wait_until
from mirrornet import hand_in, job
from mirrornet.child import Ended

ENTRY = "mirror1:the password of mirror1\n"


@pytest.fixture
def taken(master: Master) -> Path:
    """Where the daemon puts the reports of mirror1's job ``tree``."""
    directory, secrets = master.base / "reports", master.base / "report-secrets"
    directory.mkdir()
    secrets.write_text(ENTRY)
    secrets.chmod(0o600)
    who = "uid = root\ngid = root\n" if os.geteuid() == 0 else ""
    modules = {
        "report-mirror1": f"auth users = mirror1\nsecrets file = {secrets}\nfilter = + /tree.json - *\nwrite only = yes\n",
        "full": f"max connections = -1\nlock file = {master.base}/report-lock\n",
        "strange": "pre-xfer exec = printf '\\033[2Jgo\\taway'; exit 1\n",
    }
    with (master.base / "rsyncd.conf").open("a") as config:
        for name, rest in modules.items():
            config.write(f"[{name}]\npath = {directory}\nread only = no\n{who}{rest}")
    return directory


@pytest.fixture
def options(master: Master, tmp_path: Path) -> dict[str, Any]:
    """What a job says that hands in its report."""
    path = tmp_path / "report-password"
    path.write_text(ENTRY.partition(":")[2])
    path.chmod(0o600)
    return {"report_to": master.url("report-mirror1").replace("//", "//mirror1@"), "report_password_file": str(path)}


def noted(mirror: Mirror) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(mirror.places.handed_in("tree").read_bytes())
    return value


def test_the_report_of_each_run_arrives(
    master: Master, mirror: Mirror, taken: Path, options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    master.fill()
    for outcome in ("updated", "unchanged", "unchanged"):
        assert mirror.pull(**options).outcome == outcome
        assert (taken / "tree.json").read_bytes() == mirror.places.report("tree").read_bytes()
        assert noted(mirror)["message"] == ""
    assert noted(mirror)["handed_in"] is not None
    assert capfd.readouterr().err == ""


def test_a_run_that_fails_hands_in_what_it_is(master: Master, mirror: Mirror, taken: Path, options: dict[str, Any]) -> None:
    assert mirror.pull(**options, sources=[master.url("gone")]).outcome == "failed"
    assert json.loads((taken / "tree.json").read_bytes())["outcome"] == "failed"


def test_a_job_without_it_hands_in_nothing(master: Master, mirror: Mirror, taken: Path) -> None:
    master.fill()
    assert mirror.pull().outcome == "updated"
    assert list(taken.iterdir()) == []
    assert not mirror.places.handed_in("tree").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"report_to": "rsync://mirror1@127.0.0.1:PORT/report-mirror2/"}, "it takes no reports under this name"),
        ({"report_to": "rsync://mirror2@127.0.0.1:PORT/report-mirror1/"}, "the login or its password is refused"),
        ({"report_to": "rsync://mirror1@127.0.0.1:PORT/report-mirror1/below/"}, "it takes no report of a job of this name"),
        ({"report_to": "rsync://127.0.0.1:PORT/closed/", "report_password_file": None}, "this host is refused"),
        (
            {"report_to": "rsync://127.0.0.1:PORT/full/", "report_password_file": None},
            "reports of this mirror were being handed in all the time",
        ),
        ({"report_to": "rsync://127.0.0.1:FREE/report/", "report_password_file": None}, "rsync exit code 10: rsync: "),
        ({"report_password_file": "/nowhere/to/be/found"}, "rsync exit code "),
    ],
)
def test_what_can_t_be_handed_in_changes_no_run(
    master: Master,
    mirror: Mirror,
    taken: Path,
    options: dict[str, Any],
    changed: dict[str, Any],
    said: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hand_in, "_PAUSE", (1000.0, 1000.0))  # No second attempt.
    master.fill()
    given = {**options, **changed}
    given["report_to"] = given["report_to"].replace("PORT", str(master.port)).replace("FREE", str(free_port()))
    given = {key: value for key, value in given.items() if value is not None}
    first = mirror.pull(**given)
    assert (first.outcome, first.exit_code) == ("updated", 0)
    line = f"tree: the report was not handed in to {given['report_to']}: {said}"
    assert line in capfd.readouterr().err
    assert line in mirror.places.log("tree").read_text()
    assert said in noted(mirror)["message"]
    # Told once, as long as it stays the same.
    assert mirror.pull(**given).outcome == "unchanged"
    assert "not handed in" not in capfd.readouterr().err
    assert f"report not handed in: {said}" in mirror.run("status").stdout
    # Told again after a day, and no longer when it works.
    note = noted(mirror)
    mirror.places.handed_in("tree").write_text(json.dumps({**note, "told": "2020-01-01T00:00:00Z"}))
    mirror.pull(**given)
    assert line in capfd.readouterr().err
    mirror.pull(**options)
    assert (noted(mirror)["message"], noted(mirror)["told"]) == ("", None)
    assert "not handed in" not in mirror.run("status").stdout


@pytest.fixture
def other(master: Master, taken: Path) -> Iterator[socket.socket]:
    """Another who is just handing in a report, and holds the one connection that ``single`` admits for as long as this is open."""
    with (master.base / "rsyncd.conf").open("a") as config:
        config.write(f"[single]\npath = {taken}\nread only = no\nmax connections = 1\nlock file = {master.base}/single-lock\n")
        if os.geteuid() == 0:
            config.write("uid = root\ngid = root\n")
    with socket.create_connection(("127.0.0.1", master.port), timeout=60) as connection:
        connection.sendall(b"@RSYNCD: 31.0\nsingle\n")
        said = b""
        while b"@RSYNCD: OK" not in said:
            said += connection.recv(1000)
        yield connection


def test_a_report_waits_for_the_one_that_is_just_being_handed_in(
    master: Master, mirror: Mirror, taken: Path, other: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_in, "_PAUSE", (0.1, 0.1))
    send = hand_in.child.call

    def call(*given: Any, **options: Any) -> Ended:
        ended = send(*given, **options)
        if "max connections" in ended.error_text:
            other.close()
        return ended

    monkeypatch.setattr(hand_in.child, "call", call)
    master.fill()
    assert mirror.pull(report_to=master.url("single")).outcome == "updated"
    assert noted(mirror)["message"] == ""
    assert "max connections" in mirror.places.log("tree").read_text()
    assert (taken / "tree.json").read_bytes() == mirror.places.report("tree").read_bytes()


def test_a_last_attempt_cut_short_is_not_the_reason(
    master: Master, mirror: Mirror, other: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_in, "_PAUSE", (0.1, 0.1))
    send = hand_in.child.call
    attempts = []

    def call(command: list[str], **options: Any) -> Ended:
        attempts.append(command)
        return send(command, **{**options, "seconds": 0.0} if len(attempts) > 1 and command == attempts[-2] else options)

    monkeypatch.setattr(hand_in.child, "call", call)
    master.fill()
    assert mirror.pull(report_to=master.url("single")).outcome == "updated"
    assert attempts[-1] == attempts[-2]
    assert "being handed in all the time" in noted(mirror)["message"]


@pytest.mark.parametrize("error", [RuntimeError("a mistake of ours"), OSError(28, "No space left on device")])
def test_a_mistake_of_ours_changes_no_run(
    master: Master, mirror: Mirror, error: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*dummy: object) -> None:
        raise error

    monkeypatch.setattr(hand_in.rsync, "send", fail)
    master.fill()
    assert mirror.pull(report_to=master.url("full")).exit_code == 0
    assert repr(error) in noted(mirror)["message"]
    monkeypatch.setattr(hand_in, "_note", fail)
    assert mirror.pull(report_to=master.url("full")).exit_code == 0
    assert "handed_in.json: " in mirror.places.log("tree").read_text()


def test_what_a_server_says_is_no_more_than_text(master: Master, mirror: Mirror, taken: Path) -> None:
    assert mirror.pull(report_to=master.url("strange")).exit_code == 0
    assert noted(mirror)["message"].isprintable()
    # Also if rsync itself should pass it on.
    said = hand_in._why(Ended(5, deque(["rsync error: first", "go\taway\x1b[2J" + 1000 * "x"])))
    assert said.startswith("rsync exit code 5: go?away?[2Jxxx")
    assert len(said) < 400


@pytest.mark.parametrize("server", ["endless_greeting", "swallowing"])
def test_a_server_that_hangs_holds_a_run_for_no_longer_than_allowed(
    master: Master, mirror: Mirror, server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_in, "SECONDS", 2.0)
    silent: Silent = request.getfixturevalue(server)
    master.fill()
    assert mirror.pull(report_to=silent.url()).outcome == "updated"
    assert noted(mirror)["message"] == "it took longer than 2 s. The next run tries again."
    assert mirror.is_free()


def test_a_run_that_is_killed_while_it_hands_in_leaves_a_report_and_no_lock(master: Master, mirror: Mirror, swallowing: Silent) -> None:
    master.fill()
    mirror.define(report_to=swallowing.url())
    running = mirror.start("pull", "tree")
    wait_until(lambda: mirror.places.log("tree").exists() and "--ignore-times" in mirror.places.log("tree").read_text(), "the hand-in")
    running.kill()
    running.wait()
    wait_until(mirror.is_free, "the end of rsync")
    assert mirror.report()["outcome"] == "updated"
    assert "interrupted" not in mirror.run("status").stdout


def test_no_password_is_in_a_command_or_a_log(master: Master, mirror: Mirror, taken: Path, options: dict[str, Any]) -> None:
    mirror.pull(**options)
    for path in (mirror.places.log("tree"), mirror.places.report("tree"), mirror.places.handed_in("tree"), taken / "tree.json"):
        assert "the password of" not in path.read_text()
    assert f"--password-file={options['report_password_file']}" in mirror.places.log("tree").read_text()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"report_to": "master"}, "report_to: 'master' is not an rsync URL"),
        ({"report_to": "ssh://me@master/reports/"}, "report_to: 'ssh://me@master/reports/' must be taken by an rsync daemon"),
        ({"report_to": "rsync://me:secret@master/reports/"}, "holds a password"),
        ({"report_to": "rsync://master/"}, "names no module"),
        ({"report_to": "rsync://me@master/reports/"}, "report_password_file: is missing"),
        ({"report_password_file": "/etc/secret"}, "report_password_file: without report_to nothing is handed in"),
        (
            {"report_to": "rsync://me@master/reports/", "report_password_file": "secret"},
            "report_password_file: 'secret' must be an absolute path",
        ),
    ],
)
def test_wrong_definitions_are_refused(given: dict[str, Any], said: str) -> None:
    checked = job.check({"name": "tree", "sources": ["rsync://master/tree/"], "target": "/srv/tree", **given})
    assert said in "\n".join(checked.problems)
