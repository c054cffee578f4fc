# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks say and do when they are run again, differently or wrongly. Runs after test_mirror.py: it takes jobs away."""

from __future__ import annotations

from typing import Any

import pytest
from plays import CHECKOUT, SCENARIO, Play
from plays import play as play_any
from testinfra.host import Host

CRONTAB = SCENARIO / "files/crontab"


def play(playbook: str, limit: str, *options: str, **variables: Any) -> Play:
    """A playbook of the collection, by its name."""
    return play_any(limit, *options, playbook=CHECKOUT / f"playbooks/{playbook}.yml", **variables)


def refused(limit: str, *options: str, **variables: Any) -> str:
    """What provisioning says to these variables, in one line; it must say no, and must have changed nothing."""
    told = play("provision_mirrors", limit, *options, **variables)
    assert told.code == 2, told.output
    assert told.changed == dict.fromkeys(limit.split(","), 0), told.output
    assert "Install |" not in told.output
    return told.said


def test_everything_wrong_with_the_jobs_is_named_at_once() -> None:
    said = refused(
        "debian12",
        rsync_mirror_shedule="@daily",
        rsync_mirror_jobs=[
            {"name": "docs", "target": "/srv/mirror/docs", "shedule": "@daily"},
            {"name": "docs", "target": "/srv/elsewhere"},
            {"name": "inside", "target": "/srv/mirror/docs/sub", "sources": ["rsync://source1/docs/"]},
            {"name": "slow/er", "target": "mirror", "sources": ["http://source1/docs/"], "schedule": "61 * * * *"},
            {"name": "dosc", "target": "/srv/dosc"},
            {"name": "system", "target": "/etc", "sources": ["rsync://source1/docs/"], "user": "nobody-there"},
            {"target": "/srv/nameless"},
            "docs",
        ],
    )
    for sentence in (
        "debian12: rsync_mirror_shedule: no such variable; did you mean 'rsync_mirror_schedule'?",
        "debian12: job 'docs': shedule: no such option; did you mean 'schedule'?",
        "debian12: job 'docs': is listed 2 times",
        "debian12: job 'docs': target: '/srv/mirror/docs' overlaps with '/srv/mirror/docs/sub' of job 'inside'",
        "debian12: job 'slow/er': name: 'slow/er' must be 1 to 63 letters",
        "debian12: job 'slow/er': target: 'mirror' must be an absolute path",
        "debian12: job 'slow/er': sources: entry 1 ('http://source1/docs/') is not an rsync URL",
        "debian12: job 'slow/er': schedule: minute '61': 61 is outside 0 to 59",
        "debian12: job 'dosc': sources: none given, and no master of the inventory serves a module of this name (they serve: docs, slow)",
        "debian12: job 'system': target: '/etc' is /etc, a directory of the system",
        "debian12: user: nobody-there: no such account here",
        "debian12: entry 7 of the jobs: name: is missing",
        "debian12: entry 8 of the jobs: 'docs' must be a mapping",
    ):
        assert sentence in said


def test_system_jobs_need_root() -> None:
    said = refused("debian13", ansible_become=False)
    assert "debian13: rsync_mirror_scope: is 'system', which needs root, but admin runs the tasks here" in said


def test_jobs_of_a_user_are_not_installed_as_root() -> None:
    assert "debian12: rsync_mirror_scope: is 'user', but root runs the tasks here" in refused("debian12", rsync_mirror_scope="user")


def test_mail_of_a_users_jobs_is_refused_before_any_job_changes() -> None:
    assert "home1: rsync_mirror_mailto: cron sends" in refused("home1", rsync_mirror_mailto="a@example.org")


def test_root_is_not_the_account_that_pulls() -> None:
    assert "debian12: rsync_mirror_user: is 'root'" in refused("debian12", rsync_mirror_user="root")


def test_a_choice_that_does_not_exist_is_refused() -> None:
    assert "value of rsync_mirror_scope must be one of: system, user" in refused("debian12", rsync_mirror_scope="users")


def pull(limit: str, **variables: Any) -> Play:
    """Pull by the play; once more if a run that cron had started a moment before was in the way."""
    for dummy in range(5):
        told = play("pull_mirrors", limit, **variables)
        if ": busy" not in told.output:
            break
    return told


def test_pulling_everywhere_ends_with_a_line_for_each_job_of_each_mirror() -> None:
    told = pull("debian11,home1")
    assert told.code == 0, told.output
    lines = [line.strip() for line in told.output.splitlines()]
    for name in ("debian11", "home1"):
        assert f"{name}: docs: unchanged (rsync://source1/docs/)" in lines
        assert f"{name}: slow: unchanged (rsync://source1/slow/)" in lines


def test_one_job_can_be_pulled_alone() -> None:
    told = pull("debian11", job="docs")
    assert told.code == 0, told.output
    assert "debian11: docs: unchanged" in told.output
    assert "slow" not in told.output


def test_pulling_a_job_that_nobody_has_is_refused() -> None:
    told = play("pull_mirrors", "debian11", job="dosc")
    assert told.code == 2
    assert "No mirror of this play has a job 'dosc'. There are: docs, slow." in told.said


def test_a_mirror_that_fails_stops_no_other_and_the_play_says_so(hosts: dict[str, Host]) -> None:
    hosts["debian11"].check_output("chmod 0555 /srv/mirror/docs && chown root /srv/mirror/docs")
    try:
        told = pull("debian11,debian13", job="docs")
    finally:
        hosts["debian11"].check_output("chmod 0755 /srv/mirror/docs && chown mirrornet /srv/mirror/docs")
    assert told.code == 2
    assert "debian11: docs: failed: The target /srv/mirror/docs is not writable" in told.output
    assert "debian13: docs: unchanged" in told.output
    assert told.failed == {"debian11": 1, "debian13": 0}


def test_a_job_can_be_run_while_it_is_provisioned(hosts: dict[str, Host]) -> None:
    job = {"name": "docs", "target": "/srv/mirror/docs", "exclude": ["*.tmp"], "schedule": "never"}
    # Once more if a run that cron had started a moment before was in the way. The first play has ended cron's.
    for dummy in range(2):
        hosts["source1"].check_output("date --iso-8601=ns > /srv/docs/sub/second")
        told = play("provision_mirrors", "debian13", "-v", rsync_mirror_run="wait", rsync_mirror_jobs=[job])
        if "outcome: busy" not in told.output:
            break
        hosts["debian13"].check_output("timeout 60 sh -c 'until mirrornet pull docs; do sleep 0.2; done'")
    assert told.code == 0, told.output
    assert "outcome: updated" in told.output
    assert told.changed["debian13"] >= 1
    assert hosts["debian13"].check_output("cat /srv/mirror/docs/sub/second") == hosts["source1"].check_output("cat /srv/docs/sub/second")
    assert not hosts["debian13"].file("/etc/cron.d/mirrornet-docs").exists


def test_no_rotation_takes_its_file_away(hosts: dict[str, Host]) -> None:
    file = hosts["cronie1"].file("/etc/logrotate.d/mirrornet")
    assert file.exists
    told = play("provision_mirrors", "cronie1", rsync_mirror_log_rotation=False)
    assert (told.code, told.changed) == (0, {"cronie1": 1}), told.output
    assert not file.exists
    told = play("provision_mirrors", "cronie1", rsync_mirror_log_rotation=False)
    assert told.changed == {"cronie1": 0}, told.output
    assert play("provision_mirrors", "cronie1").changed == {"cronie1": 1}


@pytest.mark.parametrize(
    ("name", "home", "trees"),
    [("debian12", "/root", "/srv/mirror"), ("home1", "/home/alice", "/home/alice/mirror")],
)
def test_absent_jobs_leave_the_trees_and_nothing_else(hosts: dict[str, Host], name: str, home: str, trees: str) -> None:
    jobs = [{"name": "docs", "state": "absent"}, {"name": "slow", "state": "absent"}]
    # Once more as long as a run of cron's is in the way, which is not disturbed.
    for dummy in range(5):
        told = play("provision_mirrors", name, rsync_mirror_jobs=jobs)
        if "is running: nothing was removed" not in told.said:
            break
    assert told.code == 0, told.output
    assert told.changed[name] >= 1
    host = hosts[name]
    traces = [f"{home}/{path}" for path in (".config/mirrornet", ".local/state/mirrornet", ".local/bin/mirrornet")]
    traces += ["/etc/cron.d/mirrornet-docs", "/etc/mirrornet", "/usr/local/bin/mirrornet"]
    assert [path for path in traces if host.file(path).exists] == []
    assert host.check_output(f"find {trees} -type f | sort").split() == [
        f"{trees}/{path}" for path in ("docs/first", "docs/news", "docs/sub/second", "slow/file")
    ]
    if name == "home1":
        assert host.run("crontab -u alice -l").stdout_bytes == CRONTAB.read_bytes()
    again = play("provision_mirrors", name, rsync_mirror_jobs=jobs)
    assert (again.code, again.changed) == (0, {name: 0}), again.output
