# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a provisioned mirror does by itself."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from testinfra.host import Host

SYSTEM = ("debian11", "debian12", "debian13", "cronie1", "timers1")
CRONTAB = Path(__file__).parents[1] / "files/crontab"


def tree(host: Host) -> str:
    return "/home/alice/mirror" if host.check_output("hostname") == "home1" else "/srv/mirror"


def mirrornet(host: Host) -> str:
    """The command as the account that owns the jobs would call it."""
    return "su - alice -c '.local/bin/mirrornet %s'" if host.check_output("hostname") == "home1" else "mirrornet %s"


def test_a_new_file_arrives_through_cron_alone(hosts: dict[str, Host]) -> None:
    mirrors = {name: host for name, host in hosts.items() if name != "source1"}
    hosts["source1"].check_output("date --iso-8601=ns > /srv/docs/news")
    expected = hosts["source1"].check_output("cat /srv/docs/news")
    deadline = time.monotonic() + 300
    waiting = dict(mirrors)
    while waiting and time.monotonic() < deadline:
        time.sleep(2)
        waiting = {name: host for name, host in waiting.items() if host.run(f"cat {tree(host)}/docs/news").stdout.strip() != expected}
    assert not waiting, f"cron has not brought the file to {', '.join(sorted(waiting))}"


@pytest.mark.on("mirrors")
def test_what_is_excluded_stays_out(host: Host) -> None:
    assert host.check_output(f"cd {tree(host)}/docs && find . -path ./.mirrornet -prune -o -type f -print | sort").split() == [
        "./first",
        "./news",
        "./sub/second",
    ]


@pytest.mark.on("mirrors")
def test_of_two_simultaneous_pulls_exactly_one_works(host: Host, hosts: dict[str, Host]) -> None:
    # Something to bring, so that the first run is still at work when the second one starts.
    host.check_output(f"rm -f {tree(host)}/slow/file")
    pull = mirrornet(host) % "pull slow"
    both = host.check_output(
        f"{{ {pull}; echo $? >/tmp/first; }} >/dev/null 2>&1 & {pull} >/dev/null 2>&1; second=$?; wait; echo $(cat /tmp/first) $second"
    )
    assert sorted(map(int, both.split())) == [0, 75]
    assert host.file(f"{tree(host)}/slow/file").sha256sum == hosts["source1"].file("/srv/slow/file").sha256sum


@pytest.mark.on(*SYSTEM)
def test_the_account_that_pulls_can_do_little(host: Host) -> None:
    account = host.user("mirrornet")
    assert account.shell == "/usr/sbin/nologin"
    assert account.uid < 1000
    assert account.groups == ["mirrornet"]
    assert host.file("/srv/mirror/docs/first").user == "mirrornet"
    assert host.file("/etc/mirrornet/jobs/docs.json").user == "root"


@pytest.mark.on(*SYSTEM)
def test_history_is_rotated(host: Host) -> None:
    host.check_output("logrotate --force /etc/logrotate.d/mirrornet")
    rotated = host.file("/var/lib/mirrornet/docs/history.jsonl.1.gz")
    assert rotated.exists
    assert rotated.user == "mirrornet"
    assert json.loads(host.check_output("zcat %s", rotated.path).splitlines()[0])["job"] == "docs"
    # Until the minute's own run is out of the way.
    host.check_output("timeout 60 sh -c 'until mirrornet pull docs; do sleep 0.2; done'")
    assert host.file("/var/lib/mirrornet/docs/history.jsonl").size > 0


@pytest.mark.parametrize(("name", "unit"), [("cronie1", "cronie.service"), ("timers1", "cron.target")])
def test_another_cron_daemon_is_kept(hosts: dict[str, Host], name: str, unit: str) -> None:
    assert hosts[name].service(unit).is_running
    assert not hosts[name].package("cron").is_installed


@pytest.mark.on("home1")
def test_other_lines_of_a_crontab_are_kept_to_the_byte(host: Host) -> None:
    lines = host.run("crontab -u alice -l").stdout_bytes
    assert lines.startswith(CRONTAB.read_bytes())
    assert b"pull --quiet docs" in lines[len(CRONTAB.read_bytes()) :]


@pytest.mark.on("home1")
def test_an_ordinary_user_needs_nothing_outside_the_home_directory(host: Host) -> None:
    for path in ("/etc/mirrornet", "/var/lib/mirrornet", "/usr/local/bin/mirrornet", "/etc/logrotate.d/mirrornet"):
        assert not host.file(path).exists
    assert not host.user("mirrornet").exists
