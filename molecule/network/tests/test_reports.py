# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors that hand in their reports at their master: each its own, and nothing else, whatever it tries."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from plays import play
from testinfra.backend.base import CommandResult
from testinfra.host import Host

REPORTS = "/var/lib/mirrornet-reports"
MIRRORS = ("mirror1", "mirror2")
PATIENCE_SECONDS = 120


def pull(host: Host) -> CommandResult:
    """A run of the job that nothing else runs."""
    done = host.run("mirrornet pull members")
    assert done.rc == 0, done.stdout + done.stderr
    return done


def handed_in(host: Host) -> dict[str, str]:
    """What the mirror knows of the last time that it handed in this job's report."""
    [job] = json.loads(host.check_output("mirrornet status members --json"))["jobs"]
    found: dict[str, str] = job["handed_in"]
    return found


def arrived(hosts: dict[str, Host], mirror: str) -> bool:
    """Whether the master has the report of the mirror's last run, to the byte."""
    report = hosts["master1"].file(f"{REPORTS}/{mirror}/members.json")
    return bool(report.exists and report.content_string == hosts[mirror].file("/var/lib/mirrornet/members/report.json").content_string)


@pytest.mark.parametrize("mirror", MIRRORS)
def test_each_run_hands_in_its_report(hosts: dict[str, Host], mirror: str) -> None:
    for dummy in range(2):
        assert "not handed in" not in pull(hosts[mirror]).stderr
        assert handed_in(hosts[mirror])["message"] == ""
        assert arrived(hosts, mirror)
    report = hosts["master1"].file(f"{REPORTS}/{mirror}/members.json")
    assert json.loads(report.content_string)["host"] == mirror
    assert (report.user, report.group, report.mode) == ("mirrornet-reports", "mirrornet-reports", 0o640)


def test_cron_s_runs_hand_in_theirs(hosts: dict[str, Host]) -> None:
    deadline = time.monotonic() + 2 * PATIENCE_SECONDS
    names = [f"{REPORTS}/{mirror}/releases.json" for mirror in MIRRORS]
    while not all(hosts["master1"].file(name).exists for name in names):
        assert time.monotonic() < deadline
        time.sleep(2)


def test_only_root_and_uploads_reach_the_directories(hosts: dict[str, Host]) -> None:
    for path, mode in ((REPORTS, 0o750), (f"{REPORTS}/mirror1", 0o770)):
        found = hosts["master1"].file(path)
        assert (found.user, found.group, found.mode) == ("root", "mirrornet-reports", mode)


# What a mirror might try.


@pytest.fixture(scope="module")
def thief(hosts: dict[str, Host]) -> Iterator[Host]:
    """mirror1 in the hands of somebody who has its password and wants more."""
    host = hosts["mirror1"]
    host.check_output("mkdir -p /root/try/empty /root/try/dir/members.json /root/try/link /root/try/device")
    host.check_output("cd /root/try && echo '{}' >report && echo mine >dir/members.json/file && ln -s /etc/passwd link/members.json")
    host.check_output("cd /root/try && mknod device/members.json c 1 3 && head -c 300000 /dev/urandom >large")
    host.check_output("cd /root/try && umask 077 && echo 'the password of mirror1' >own && echo guessed >guess")
    yield host
    host.check_output("rm -r /root/try")


def attempt(host: Host, words: str, login: str = "mirror1@", file: str = "own") -> str:
    """What rsync says that the mirror calls with WORDS, which mustn't work; UP in them is the URL of its module, URL that of the master."""
    url = f"rsync://{login}master1"
    words = words.replace("UP", f"{url}/report-mirror1").replace("URL", url)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        done = host.run(f"cd /root/try && timeout 60 rsync --password-file={file} {words} </dev/null")
        # A run of cron's may be handing in at the same time.
        if "max connections" not in done.stderr or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert done.rc != 0, words
    return done.stderr


def everything(host: Host) -> str:
    """All that lies in the directories of reports, but for what cron brings meanwhile."""
    return host.check_output(
        f"cd {REPORTS} && find . -name releases.json -o -name '.releases.json.*' -o -type f -exec sha256sum {{}} + -o -printf '%y %m %u %l %p\\n' | sort"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("UP/members.json back", "module is write only"),
        ("UP/", "refuse --dirs"),
        ("--recursive UP/ back/", "refuse --recursive"),
        ("report UP/other.json", "daemon has excluded destination"),
        ("report UP/members.json.sh", "daemon has excluded destination"),
        ("report UP/.members.json.abcdef", "daemon has excluded destination"),
        ("report UP/sub/members.json", "excluded"),
        ("report UP/../mirror2/members.json", "excluded"),
        ("--recursive --delete empty/ UP/", "refuse --"),
        ("--dirs dir/members.json UP/", "refuse --dirs"),
        ("--links link/members.json UP/", "refuse --links"),
        ("--devices device/members.json UP/", "configured to refuse"),
        ("--times report UP/members.json", "refuse --times"),
        ("--perms report UP/members.json", "refuse --perms"),
        ("--inplace report UP/members.json", "refuse --inplace"),
        ("--append report UP/members.json", "refuse --append"),
        ("--backup --suffix=.sh report UP/members.json", "refuse --backup"),
        ("--temp-dir=/mirror2 report UP/members.json", "refuse --temp-dir"),
        ("--partial-dir=old report UP/members.json", "refuse --partial"),
        ("--link-dest=/ report UP/members.json", "refuse --link-dest"),
        ("--mkpath report UP/a/members.json", "refuse --mkpath"),
        ("--files-from=:members.json . UP/", "rsync error"),
        ("report URL/report-mirror2/members.json", "auth failed on module report-mirror2"),
    ],
)
def test_a_mirror_can_t_do_anything_else(hosts: dict[str, Host], thief: Host, words: str, said: str) -> None:
    before = everything(hosts["master1"])
    assert "mirror2/members.json" in before
    assert said in attempt(thief, words)
    assert everything(hosts["master1"]) == before
    assert thief.run("ls /root/try/back").rc != 0


@pytest.mark.parametrize(
    ("login", "password"), [("", "own"), ("mirror2@", "own"), ("mirror1@", "guess"), ("stranger@", "guess"), ("members@", "own")]
)
def test_who_has_no_password_of_its_own_is_refused(hosts: dict[str, Host], thief: Host, login: str, password: str) -> None:
    before = everything(hosts["master1"])
    for module in ("report-mirror1", "report-mirror2"):
        if (module, login, password) != ("report-mirror1", "mirror1@", "own"):
            assert f"auth failed on module {module}" in attempt(thief, f"report URL/{module}/members.json", login, password)
    assert everything(hosts["master1"]) == before


def test_nobody_is_told_of_the_modules(thief: Host) -> None:
    listed = thief.check_output("rsync rsync://master1/")
    assert "releases" in listed
    assert "report-" not in listed


def test_what_is_too_large_is_cut_and_cleared_away(hosts: dict[str, Host], thief: Host) -> None:
    for dummy in range(3):
        attempt(thief, "large UP/members.json")
    # Without what cron brings meanwhile.
    sizes = hosts["master1"].check_output(f"find {REPORTS}/mirror1 -type f -name '*members*' -printf '%s\\n'").split()
    # The report, and what the last one left.
    assert len(sizes) <= 2
    assert max(map(int, sizes)) <= 256 * 1024
    pull(hosts["mirror1"])
    assert arrived(hosts, "mirror1")
    assert hosts["master1"].check_output(f"ls -A {REPORTS}/mirror1 | grep -c members") == "1"


# Bad days.


def test_a_report_that_nobody_takes_changes_no_run_and_is_told_once(hosts: dict[str, Host]) -> None:
    mirror = hosts["mirror1"]
    path = "/etc/mirrornet/secrets/members.report"
    try:
        mirror.check_output(f"echo another >{path}")
        done = pull(mirror)
        assert done.stdout.startswith("members: unchanged")
        assert (
            "members: the report was not handed in to rsync://mirror1@master1/report-mirror1/: the login or its password is refused"
            in done.stderr
        )
        assert "the report was" not in pull(mirror).stderr
        assert "is refused" in handed_in(mirror)["message"]
        assert "report not handed in: the login" in mirror.check_output("mirrornet status members")
    finally:
        mirror.check_output(f"echo 'the password of mirror1' >{path}")
    assert pull(mirror).stderr == ""
    assert arrived(hosts, "mirror1")


def test_a_full_disk_is_the_master_s_own_trouble(hosts: dict[str, Host]) -> None:
    master = hosts["master1"]
    group = master.group("mirrornet-reports").gid
    try:
        master.check_output(f"mount -t tmpfs -o size=16k,mode=770,gid={group} none {REPORTS}/mirror1")
        master.run(f"head -c 100000 /dev/zero >{REPORTS}/mirror1/full")
        done = pull(hosts["mirror1"])
        assert done.stdout.startswith("members: unchanged")
        assert "the report was not handed in to rsync://mirror1@master1/report-mirror1/: its disk is full" in done.stderr
        # Others notice nothing.
        assert pull(hosts["mirror2"]).stderr == ""
        assert arrived(hosts, "mirror2")
    finally:
        # It's busy for as long as a run of cron's hands in, or a connection has not yet ended.
        master.check_output(f"timeout 60 sh -c 'until umount {REPORTS}/mirror1; do sleep 0.2; done'")
    pull(hosts["mirror1"])
    assert arrived(hosts, "mirror1")


# With rsync's log in a file, which what limits reports must not limit as well. The last play leaves the master as it was.
@pytest.mark.parametrize("frontend", ["daemon", "systemd_socket"])
def test_reports_come_in_by_another_frontend_too(hosts: dict[str, Host], frontend: str) -> None:
    log = "/var/log/mirrornet-rsyncd/rsyncd.log"
    variables = {"rsync_master_frontend": frontend, **({"rsync_master_log_file": log} if frontend == "daemon" else {})}
    told = play("master1", **variables)
    assert told.code == 0, told.output
    assert told.changed["master1"] > 0
    if frontend == "daemon":
        hosts["master1"].check_output(f"head -c 1000000 /dev/zero | tr '\\0' '\\n' >>{log}")
    for mirror in MIRRORS:
        assert pull(hosts[mirror]).stderr == ""
        assert arrived(hosts, mirror)
    if frontend == "daemon":
        assert "members/ from mirror2@" in hosts["master1"].check_output(f"tail -n 50 {log}")
