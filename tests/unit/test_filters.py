# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters: sources from the inventory, and lists of jobs that are wrong."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from collection import plugin

master_sources = plugin("filter.master_sources").master_sources
mirror_jobs = plugin("filter.mirror_jobs").mirror_jobs
unknown_names = plugin("filter.unknown_names").unknown_names

MASTERS = ["one", "two", "three"]
HOSTVARS: dict[str, dict[str, Any]] = {
    "one": {"rsync_master_modules": [{"name": "docs", "path": "/srv/docs"}]},
    "two": {
        "rsync_master_modules": [{"name": "docs"}, {"name": "data"}],
        "rsync_master_public_name": "2001:db8::2",
        "rsync_master_port": "8730",
    },
    "three": {},
    "mirror": {},
}


@pytest.mark.parametrize(
    ("module", "host", "expected"),
    [
        ("docs", "mirror", ["rsync://one/docs/", "rsync://[2001:db8::2]:8730/docs/"]),
        ("data", "mirror", ["rsync://[2001:db8::2]:8730/data/"]),
        ("docs", "one", ["rsync://[2001:db8::2]:8730/docs/"]),
        ("none", "mirror", []),
    ],
)
def test_sources_are_the_masters_that_serve_the_module(module: str, host: str, expected: list[str]) -> None:
    assert master_sources(HOSTVARS, MASTERS, module, host) == expected


def test_sources_come_in_the_order_of_the_masters() -> None:
    assert master_sources(HOSTVARS, reversed(MASTERS), "docs") == ["rsync://[2001:db8::2]:8730/docs/", "rsync://one/docs/"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"rsync_master_public_name": "rsync.example.org"}, "rsync://rsync.example.org/docs/"),
        ({"rsync_master_public_name": "[2001:db8::1]"}, "rsync://[2001:db8::1]/docs/"),
        ({"rsync_master_public_name": "", "rsync_master_port": 873}, "rsync://one/docs/"),
        ({"rsync_master_port": 1873}, "rsync://one:1873/docs/"),
        ({"rsync_master_public_scheme": "rsyncs", "rsync_master_port": 1873}, "rsyncs://one/docs/"),
        ({"rsync_master_public_scheme": "rsyncs", "rsync_master_tls_port": 8740}, "rsyncs://one:8740/docs/"),
    ],
)
def test_a_master_has_a_public_name_and_a_port(variables: dict[str, Any], expected: str) -> None:
    assert master_sources({"one": {"rsync_master_modules": [{"name": "docs"}], **variables}}, ["one"], "docs") == [expected]


def test_jobs_get_state_defaults_and_sources() -> None:
    jobs = [
        {"name": "docs", "target": "/srv/docs"},
        {"name": "data", "target": "/srv/data", "schedule": "@daily", "sources": ["rsync://elsewhere/data/"]},
        {"name": "gone", "state": "absent"},
    ]
    done = mirror_jobs(jobs, {"schedule": "0 * * * *", "mailto": None}, HOSTVARS, MASTERS, "mirror")
    assert done == {
        "jobs": [
            {
                "name": "docs",
                "state": "present",
                "target": "/srv/docs",
                "schedule": "0 * * * *",
                "sources": ["rsync://one/docs/", "rsync://[2001:db8::2]:8730/docs/"],
            },
            {"name": "data", "state": "present", "target": "/srv/data", "schedule": "@daily", "sources": ["rsync://elsewhere/data/"]},
            {"name": "gone", "state": "absent", "schedule": "0 * * * *"},
        ],
        "passwords": {},
        "report_passwords": {},
        "problems": [],
        "host_keys": [],
    }


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"sources": ["ssh://mirrornet-ssh@one/./"]}, {"one": "one"}),
        ({"sources": ["ssh://u@one:2222/./", "ssh://u@[2001:db8::2]/docs/"]}, {"[one]:2222": "one", "2001:db8::2": "two"}),
        ({"sources": ["rsync://one/docs/"], "seed_sources": ["ssh://u@TWO/./"]}, {"two": "two"}),
        # Somebody else's key, or a file that the operator keeps.
        ({"sources": ["ssh://u@one/./", "ssh://u@elsewhere/./"]}, {}),
        ({"sources": ["ssh://u@one/./"], "ssh_known_hosts": "/k"}, {}),
        ({"sources": ["ssh://u@one/./"], "state": "absent"}, {}),
        ({"sources": ["ssh://u@one/$(id)/"]}, {}),
    ],
)
def test_masters_by_ssh_are_known_by_their_own_keys(options: dict[str, Any], names: dict[str, str]) -> None:
    checked = mirror_jobs([{"name": "docs", "target": "/srv/docs", **options}], {}, HOSTVARS, MASTERS, "mirror", "/known")
    assert {entry["name"]: entry["master"] for entry in checked["host_keys"]} == names
    assert (checked["jobs"][0].get("ssh_known_hosts") == "/known") == bool(names)
    assert bool(names) <= (checked["problems"] == [])


GOOD = {"name": "docs", "target": "/srv/docs", "sources": ["rsync://one/docs/"]}


@pytest.mark.parametrize(
    ("jobs", "problem"),
    [
        ([{**GOOD, "shedule": "@daily"}], "job 'docs': shedule: no such option; did you mean 'schedule'?"),
        ([{**GOOD, "config_dir": "/etc/x"}], "job 'docs': config_dir: no such option; "),
        ([{**GOOD, "state": "gone"}], "job 'docs': state: 'gone' must be one of present, absent."),
        ([{**GOOD, "run": "now"}], "job 'docs': run: 'now' must be one of never, wait."),
        ([{**GOOD, "remove_tree": "perhaps"}], "job 'docs': remove_tree: 'perhaps' must be one of True, False."),
        ([{**GOOD, "offset": 60}], "job 'docs': offset: 60 must be auto or a number of minutes from 0 to 59."),
        ([{**GOOD, "schedule": "61 * * * *"}], "job 'docs': schedule: minute '61': 61 is outside 0 to 59."),
        ([{**GOOD, "target": "srv/docs"}], "job 'docs': target: 'srv/docs' must be an absolute path."),
        ([{**GOOD, "sources": ["one/docs"]}], "job 'docs': sources: entry 1 ('one/docs') is not an rsync URL"),
        ([{**GOOD, "name": "a/b"}], "job 'a/b': name: 'a/b' must be 1 to 63 letters"),
        ([{"name": "a/b", "state": "absent"}], "job 'a/b': name: 'a/b' must be 1 to 63 letters"),
        ([{"target": "/srv/docs", "sources": ["rsync://one/docs/"]}], "entry 1 of the jobs: name: is missing."),
        (["docs"], "entry 1 of the jobs: 'docs' must be a mapping"),
        ([GOOD, {**GOOD, "target": "/srv/other"}], "job 'docs': is listed 2 times; give each job one entry."),
        ([GOOD, {"name": "docs", "state": "absent"}], "job 'docs': is listed 2 times; give each job one entry."),
        (
            [GOOD, {**GOOD, "name": "in", "target": "/srv/docs/in/"}],
            "job 'docs': target: '/srv/docs' overlaps with '/srv/docs/in' of job 'in'",
        ),
        (
            [GOOD, {**GOOD, "name": "same", "target": "/srv//docs/"}],
            "job 'docs': target: '/srv/docs' overlaps with '/srv/docs' of job 'same'",
        ),
        (
            [{"name": "dosc", "target": "/srv/docs"}],
            "job 'dosc': sources: none given, and no master of the inventory serves a module of this name",
        ),
    ],
)
def test_each_mistake_is_named_with_its_job(jobs: list[Any], problem: str) -> None:
    problems = mirror_jobs(jobs, {}, HOSTVARS, MASTERS, "mirror")["problems"]
    assert len(problems) == 1
    assert problems[0].startswith(problem)


@pytest.mark.parametrize(
    "jobs",
    [
        [GOOD, {**GOOD, "name": "docs2", "target": "/srv/docs2"}],
        [{**GOOD, "state": "absent"}, {**GOOD, "name": "renamed"}],
        [{**GOOD, "schedule": "never", "offset": "59"}],
        [{**GOOD, "offset": 0, "max_delete": None}],
    ],
)
def test_what_is_right_is_not_complained_about(jobs: list[Any]) -> None:
    assert mirror_jobs(jobs)["problems"] == []


def test_a_host_without_masters_is_told_so() -> None:
    [problem] = mirror_jobs([{"name": "docs", "target": "/srv/docs"}])["problems"]
    assert "(they serve: nothing)" in problem


def test_a_misspelt_module_is_seen_beside_those_that_there_are() -> None:
    [problem] = mirror_jobs([{"name": "dosc", "target": "/srv/docs"}], {}, HOSTVARS, MASTERS, "mirror")["problems"]
    assert "(they serve: data, docs)" in problem


def test_unknown_names_come_sorted_with_the_nearest_known_one() -> None:
    known = ["mirror_user", "mirror_jobs"]
    assert unknown_names(["mirror_usr", "mirror_jobs", "mirror_job"], known) == [
        "mirror_job: no such variable; did you mean 'mirror_jobs'?",
        "mirror_usr: no such variable; did you mean 'mirror_user'?",
    ]
    assert unknown_names(["x"], known) == ["x: no such variable; there are mirror_jobs, mirror_user."]
    assert unknown_names(known, known) == []


def test_the_options_of_a_job_are_those_of_the_module() -> None:
    options = set(yaml.safe_load(plugin("modules.mirror_job").DOCUMENTATION)["options"])
    assert options - {"config_dir", "state_dir", "command", "python"} == plugin("filter.mirror_jobs").OPTIONS


def test_passwords_are_kept_apart_from_what_a_loop_shows() -> None:
    entry = {"name": "docs", "target": "/srv/docs", "sources": ["rsync://joe@h/docs/"], "password": "sesame"}
    answer = plugin("filter.mirror_jobs").mirror_jobs([entry])
    assert answer["passwords"] == {"docs": "sesame"}
    assert "sesame" not in str(answer["jobs"])
    assert answer["problems"] == []


MEMBERS = {"name": "members", "path": "/srv/members", "auth_users": ["mirror9:deny", "mirror*:ro", "@ops"]}
ONE = [{"name": "mirror1", "password": "the password of one"}, {"name": "mirror9", "password": "the password of nine"}]
TWO = [{"name": "mirror1", "password": "another one's password"}]
JOB = {"name": "members", "target": "/srv/mirror/members"}


def logged_in(job: dict[str, Any], *secrets: list[dict[str, str]], defaults: dict[str, Any] | None = None, **module: Any) -> dict[str, Any]:
    hostvars = {
        f"m{n}": {"rsync_master_modules": [{**MEMBERS, **module}], "rsync_master_secrets": given} for n, given in enumerate(secrets, 1)
    }
    answer: dict[str, Any] = mirror_jobs([{**JOB, **job}], defaults or {}, hostvars, list(hostvars), "mirror1")
    return answer


def test_a_mirror_logs_in_under_its_own_name_without_being_told() -> None:
    answer = logged_in({}, ONE, ONE)
    assert answer["problems"] == []
    assert answer["jobs"][0]["sources"] == ["rsync://mirror1@m1/members/", "rsync://mirror1@m2/members/"]
    assert answer["passwords"] == {"members": "the password of one"}
    assert "password of" not in str(answer["jobs"])
    assert "login" not in answer["jobs"][0]


def test_the_login_can_be_another_one_of_the_host_or_of_the_job() -> None:
    both = [*ONE, {"name": "mirror1.2", "password": "the next password of one"}]
    for given in ({"job": {"login": "mirror1.2"}}, {"job": {}, "defaults": {"login": "mirror1.2"}}):
        answer = logged_in(given["job"], both, defaults=given.get("defaults"))
        assert answer["problems"] == []
        assert answer["jobs"][0]["sources"] == ["rsync://mirror1.2@m1/members/"]
        assert answer["passwords"] == {"members": "the next password of one"}


def test_what_the_job_says_itself_counts() -> None:
    answer = logged_in({"password": "the job's own"}, [])
    assert (answer["problems"], answer["passwords"]) == ([], {"members": "the job's own"})
    assert logged_in({"password_file": "/etc/mirror.password"}, [])["problems"] == []
    answer = logged_in({"sources": ["rsync://h/members/"]}, ONE)
    assert (answer["problems"], answer["passwords"]) == ([], {})


def test_a_module_of_its_own_secrets_and_one_without_a_login() -> None:
    own = logged_in({}, ONE, auth_users=None, secrets=[{"name": "mirror1", "password": "of this module alone"}])
    assert (own["problems"], own["passwords"]) == ([], {"members": "of this module alone"})
    free = logged_in({}, ONE, auth_users=None)
    assert (free["jobs"][0]["sources"], free["passwords"]) == (["rsync://m1/members/"], {})


WRONG_LOGINS = [
    ({}, [[]], {}, "the module 'members' of m1 asks for one, and 'mirror1' has no password for it in rsync_master_secrets"),
    ({"login": "mirror9"}, [ONE], {}, "'mirror9' has no access by its auth_users"),
    ({"login": "eve"}, [[{"name": "eve", "password": "x" * 20}]], {"auth_users": ["mirror*"]}, "'eve' has no access by its auth_users"),
    ({}, [ONE, TWO], {}, "'mirror1' has another password on each of m1, m2"),
    ({"login": "a:b"}, [ONE], {}, "'a:b' can't be the name of a login"),
    ({"login": "mirror1", "sources": ["rsync://h/members/"]}, [ONE], {}, "login: is for sources taken from the inventory"),
]


@pytest.mark.parametrize(("job", "secrets", "module", "words"), WRONG_LOGINS)
def test_a_login_that_would_be_refused_is_told_without_its_password(job: Any, secrets: Any, module: Any, words: str) -> None:
    (problem,) = logged_in(job, *secrets, **module)["problems"]
    assert problem.startswith("job 'members': login: ")
    assert words in problem
    assert "password of" not in problem
