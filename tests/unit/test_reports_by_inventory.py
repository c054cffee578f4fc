# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports by one variable on each side: what the inventory makes of it, for the master and for its mirrors."""

from __future__ import annotations

from typing import Any

import pytest
from collection import plugin

mirror_jobs = plugin("filter.mirror_jobs").mirror_jobs
master_modules = plugin("filter.master_modules").master_modules

SECRETS = [{"name": "mirror1", "password": "the password of one"}, {"name": "mirror2", "password": "the password of two"}]
MASTER: dict[str, Any] = {
    "rsync_master_modules": [{"name": "docs", "path": "/srv/docs"}],
    "rsync_master_secrets": SECRETS,
    "rsync_master_uploads": {"logins": ["mirror*"]},
}
JOB = {"name": "docs", "target": "/srv/mirror/docs", "report_to": "master1"}


def mirror(*, job: dict[str, Any] | None = None, login: str | None = None, **master: Any) -> dict[str, Any]:
    hostvars = {"master1": {**MASTER, **master}, "mirror1": {}}
    answer: dict[str, Any] = mirror_jobs([{**JOB, **(job or {})}], {"login": login}, hostvars, ["master1"], "mirror1")
    return answer


def test_a_mirror_reports_to_a_master_by_its_name() -> None:
    answer = mirror()
    assert answer["problems"] == []
    assert answer["jobs"][0]["report_to"] == "rsync://mirror1@master1/report-mirror1/"
    assert answer["report_passwords"] == {"docs": "the password of one"}
    assert answer["passwords"] == {}
    assert "the password" not in str(answer["jobs"])


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"rsync_master_port": 8730, "rsync_master_public_name": "2001:db8::1"}, "rsync://mirror1@[2001:db8::1]:8730/report-mirror1/"),
        ({"rsync_master_public_scheme": "rsyncs", "rsync_master_tls_port": 8740}, "rsyncs://mirror1@master1:8740/report-mirror1/"),
        ({"login": "mirror2"}, "rsync://mirror2@master1/report-mirror2/"),
        ({"job": {"login": "mirror2"}}, "rsync://mirror2@master1/report-mirror2/"),
        ({"job": {"login": "mirror2", "sources": ["rsync://elsewhere/docs/"]}}, "rsync://mirror2@master1/report-mirror2/"),
        ({"job": {"report_to": "rsync://elsewhere/reports/"}}, "rsync://elsewhere/reports/"),
        ({"job": {"report_to": None}}, None),
    ],
)
def test_where_reports_go(given: dict[str, Any], url: str | None) -> None:
    answer = mirror(**given)
    assert answer["problems"] == []
    assert answer["jobs"][0]["report_to"] == url
    assert set(answer["report_passwords"]) == ({"docs"} if url and "@" in url else set())


def test_a_password_of_the_job_s_own_counts() -> None:
    assert mirror(job={"report_password": "mine"})["report_passwords"] == {"docs": "mine"}
    answer = mirror(job={"report_password_file": "/etc/mine"})
    assert (answer["report_passwords"], answer["problems"]) == ({}, [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"job": {"report_to": "mastre1"}}, "report_to: 'mastre1' is neither a URL nor a host of the inventory; did you mean 'master1'?"),
        ({"rsync_master_uploads": {}}, "report_to: master1 takes no reports: say in its rsync_master_uploads who may hand them in."),
        ({"rsync_master_uploads": "mirror1"}, "report_to: master1 takes no reports: say in its rsync_master_uploads"),
        ({"rsync_master_uploads": {"logins": ["mirror2"]}}, "report_to: master1 takes no reports by the login 'mirror1': add it to logins"),
        (
            {"rsync_master_uploads": {"logins": ["*"], "jobs": ["a", "b"]}},
            "takes no reports of this job (it does of: a, b): add it to jobs",
        ),
        ({"rsync_master_secrets": SECRETS[1:]}, "report_to: the login 'mirror1' has no password in rsync_master_secrets of master1"),
        ({"job": {"report_to": "rsync://me@elsewhere/reports/"}}, "report_password_file: is missing"),
        ({"job": {"report_to": "ssh://me@elsewhere/reports/"}}, "must be taken by an rsync daemon"),
        ({"job": {"report_to": ["master1"]}}, "report_to: must be a text that isn't empty"),
    ],
)
def test_what_can_t_be_is_said_before_anything_changes(given: dict[str, Any], said: str) -> None:
    problems = mirror(**given)["problems"]
    assert any(problem.startswith("job 'docs': ") and said in problem for problem in problems), problems


def test_a_job_that_goes_needs_no_master() -> None:
    assert mirror(job={"state": "absent"}, rsync_master_uploads={})["problems"] == []


def made(uploads: Any, **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = master_modules(
        MASTER["rsync_master_modules"],
        {"mirror1": {"rsync_mirror_addresses": ["192.0.2.1"]}, "mirror2": {}},
        {"mirrors": ["mirror1"], "others": ["mirror2"]},
        "master1",
        shared=SECRETS,
        uploads=uploads,
        **options,
    )
    return answer


def test_the_master_makes_a_module_and_a_file_of_passwords_for_each() -> None:
    answer = made({"logins": ["mirror*"], "hosts_allow_groups": ["mirrors"]}, account="reports", program="/quota")
    assert answer["problems"] == []
    assert [module["name"] for module in answer["served"]] == ["docs", "report-mirror1", "report-mirror2"]
    assert [module["name"] for module in answer["modules"]] == ["docs"]
    one = answer["uploads"][0]
    assert (one["uid"], one["secrets_file"], one["hosts_allow"]) == ("reports", "/etc/rsyncd.secrets.d/report-mirror1", ["192.0.2.1"])
    assert one["early_exec"] == "/quota limit 256"
    assert answer["secrets"] == [
        {"name": f"report-mirror{n}", "entries": [{"name": f"mirror{n}", "password": f"the password of {word}"}]}
        for n, word in ((1, "one"), (2, "two"))
    ]
    assert answer["writable"] == ["/var/lib/mirrornet-reports"]
    assert "the password" not in str(answer["served"])


@pytest.mark.parametrize(
    ("uploads", "said"),
    [
        ({"logins": ["mirror*"], "hosts_allow_groups": ["mirors"]}, "hosts_allow_groups: the inventory has no group 'mirors'"),
        ({"logins": ["stranger"]}, "logins: 'stranger' has no password"),
        ("yes", "'yes' is not a dictionary"),
        ([], "[] is not a dictionary"),
    ],
)
def test_the_master_says_each_thing_once(uploads: Any, said: str) -> None:
    answer = made(uploads)
    [problem] = answer["problems"]
    assert problem["where"] == "rsync_master_uploads"
    assert said in f"{problem['option']}: {problem['message']}"
    assert answer["served"] if "hosts" in str(uploads) else answer["uploads"] == []


def test_without_the_variable_nothing_is_made() -> None:
    for uploads in ({}, None):
        answer = made(uploads)
        assert (answer["uploads"], answer["writable"], answer["problems"]) == ([], [], [])
