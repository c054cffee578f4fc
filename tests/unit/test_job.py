# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions: what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Mirror
from mirrornet import job, location
from mirrornet.errors import Failure
from mirrornet.places import Places

GOOD: dict[str, Any] = {"name": "sage", "sources": ["rsync://master.example.org/sage/"], "target": "/srv/mirror/sage"}


def problems(**changes: Any) -> list[str]:
    return job.check({**GOOD, **changes}).problems


def test_the_least() -> None:
    checked = job.check(GOOD)
    assert checked.problems == []
    assert checked.job is not None
    assert checked.job.max_delete_percent == 25


def test_round_trip(tmp_path: Path) -> None:
    windows = [{"from": "08:00", "to": "18:00", "limit": 100}]
    checked = job.check({**GOOD, "exclude": ["*.iso"], "max_delete": 5, "user": "mirror", "bandwidth_windows": windows})
    assert checked.job is not None
    places = Places(tmp_path, tmp_path)
    places.definitions.mkdir()
    places.definition("sage").write_bytes(checked.job.to_bytes())
    assert job.load(places, "sage") == checked.job
    assert job.names(places) == ["sage"]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("name", "a/b", "no slash"),
        ("name", "../x", "no slash"),
        ("name", "sage.d", "no dot"),
        ("name", "", "letters, digits"),
        ("name", "-x", "start with a letter or digit"),
        ("name", "x" * 64, "1 to 63"),
        ("name", "a\n", "letters, digits"),
        ("name", 7, "letters, digits"),
        ("sources", [], "must not be empty"),
        ("sources", "rsync://h/m/", "must be a list"),
        ("sources", ["http://h/m/"], "not an rsync URL"),
        ("sources", ["/srv/tree"], "not an rsync URL"),
        ("sources", ["-e sh -c id::m/"], "not an rsync URL"),
        ("sources", ["rsync://-oProxyCommand=x/m/"], "not an rsync URL"),
        ("sources", ["rsync://h/"], "names no module"),
        ("sources", ["h::"], "names no module"),
        ("sources", ["rsync://h:99999/m/"], "1 to 65535"),
        ("sources", ["rsync://h/m/../../etc"], "'..'"),
        ("sources", ["rsync://h/m\n"], "control character"),
        ("sources", ["rsync://h/m/", "rsync://h/m/"], "more than once"),
        ("sources", [7], "must be a text"),
        ("target", "srv/mirror", "absolute path"),
        ("target", "/srv/mirror/../..", "'..'"),
        ("target", "/", "directory of the system"),
        ("target", "/usr/./", "directory of the system"),
        ("target", "//etc//", "directory of the system"),
        ("target", "/srv/mirror/\x07", "control character"),
        ("target", None, "must be a text"),
        ("user", "a b", "name of an account"),
        ("user", "-root", "name of an account"),
        ("exclude", ["+ *"], "filter rule"),
        ("exclude", ["- *"], "filter rule"),
        ("exclude", ["!"], "filter rule"),
        ("exclude", ["a\nb"], "control character"),
        ("exclude", [""], "must be a text"),
        ("max_delete", -1, "0 or more (entries)"),
        ("max_delete", True, "whole number"),
        ("max_delete_percent", 101, "from 0 to 100 (percent)"),
        ("max_delete_percent", "25", "whole number"),
        ("time_limit", 0, "1 or more (seconds)"),
        ("io_timeout", 0, "1 or more (seconds)"),
        ("connect_timeout", 1.5, "whole number"),
        ("bandwidth_limit", -1, "0 or more (KiB/s)"),
        ("format", 2, "upgrade mirrornet"),
        ("seed_sources", ["x"], "not an rsync URL"),
        ("sources", ["ssh://h/"], "names no directory"),
        ("sources", ["ssh://h/a b/"], "a shell would not take literally"),
        ("sources", ["ssh://h/$(id)/"], "a shell would not take literally"),
        ("source_order", "random", "one of given, fastest"),
        ("retries", 21, "from 0 to 20"),
        ("check_file", "/etc/passwd", "relative"),
        ("stale_after", 60, "needs check_file"),
        ("password_file", "secret", "absolute path"),
        ("ssh_key", "/home/me/my key", "without spaces"),
        ("address_family", "ipv5", "one of any, ipv4, ipv6"),
        ("bandwidth_windows", [{"from": "8:00", "to": "18:00", "limit": 1}], "write HH:MM"),
        ("bandwidth_windows", [{"from": "08:00", "to": "24:00", "limit": 1}], "write HH:MM"),
        ("bandwidth_windows", [{"from": "08:00", "to": "08:00", "limit": 1}], "are the same"),
        ("bandwidth_windows", [{"from": "08:00", "to": "09:00"}], "the keys from, to and limit"),
        ("bandwidth_windows", [{"from": "08:00", "to": "09:00", "limit": -1}], "0 or more (KiB/s)"),
        ("nice", 20, "from 0 to 19"),
        ("idle_io", "yes", "true or false"),
        ("filters", ["merge /etc/passwd"], "not one of the filter rules"),
        ("filters", [". /etc/passwd"], "not one of the filter rules"),
        ("filters", ["!"], "not one of the filter rules"),
        ("rsync_options", ["--delete"], "not among the options"),
        ("rsync_options", ["--rsh=sh"], "not among the options"),
        ("rsync_options", ["--rsync-path=x"], "not among the options"),
        ("rsync_options", ["-x"], "not among the options"),
        ("rsync_options", ["--checksums"], "did you mean --checksum?"),
        ("index", ["- x"], "filter rule"),
        ("index_preset", "deb", "one of none, apt, rpm, release"),
        ("switch", 1, "true or false"),
        ("mount", "mnt", "absolute path"),
        ("mount", "/mnt/other", "doesn't hold the target"),
        ("reserve", -1, "0 or more (MiB)"),
        ("lock_file", "lock", "absolute path"),
        ("busy_alarm", 0, "1 or more (seconds)"),
    ],
)
def test_refused(option: str, value: Any, words: str) -> None:
    found = problems(**{option: value})
    assert len(found) == 1, found
    assert found[0].startswith(f"{option}:")
    assert words in found[0]


def test_ssh_needs_known_hosts() -> None:
    assert "ssh_known_hosts: is missing" in problems(sources=["ssh://joe@h/srv/x/"])[0]
    assert problems(sources=["ssh://joe@h/srv/x/"], ssh_known_hosts="/etc/mirrornet/known_hosts") == []


def test_typo_gets_the_nearest_name() -> None:
    assert problems(max_delet=3) == ["max_delet: no such option; did you mean 'max_delete'?"]


def test_password_in_url_is_refused_and_not_repeated() -> None:
    found = problems(sources=["rsync://joe:sesame@h/m/"])
    assert "holds a password" in found[0]
    assert "sesame" not in found[0]


def test_all_problems_at_once() -> None:
    assert [problem.partition(":")[0] for problem in job.check({"name": "a/b", "exclude": 7}).problems] == [
        "name",
        "sources",
        "target",
        "exclude",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "rsync://h/m",
        "rsync://h:8873/m/sub/",
        "rsync://joe@h/m/",
        "h::m/sub",
        "joe@h::m",
        "rsync://[2001:db8::1]:873/m/",
        "rsync://192.0.2.1/m/",
    ],
)
def test_good_sources(source: str) -> None:
    assert location.problem(source) is None


def test_overlapping_targets(mirror: Mirror, tmp_path: Path) -> None:
    mirror.define()
    link = tmp_path / "link"
    link.symlink_to(mirror.target)
    for target in (mirror.target, mirror.target / "sub", mirror.target.parent, link):
        other = job.check({**GOOD, "target": str(target)}).job
        assert other is not None
        found = job.conflicts(mirror.places, other)
        assert len(found) == 1, target
        assert "'tree'" in found[0]
    apart = job.check({**GOOD, "target": str(mirror.target) + "-2"}).job
    assert apart is not None
    assert job.conflicts(mirror.places, apart) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"{", "not valid JSON"), (b"[]", "not a JSON object"), (b'{"name": "sage"}', "sources: is missing"), (None, "doesn't exist")],
)
def test_bad_files(tmp_path: Path, content: bytes | None, words: str) -> None:
    places = Places(tmp_path, tmp_path)
    places.definitions.mkdir()
    if content is not None:
        places.definition("sage").write_bytes(content)
    with pytest.raises(Failure, match=words) as caught:
        job.load(places, "sage")
    assert caught.value.kind == "definition"


def test_file_of_another_name(tmp_path: Path) -> None:
    places = Places(tmp_path, tmp_path)
    places.definitions.mkdir()
    checked = job.check(GOOD)
    assert checked.job is not None
    places.definition("other").write_bytes(checked.job.to_bytes())
    with pytest.raises(Failure, match="one name"):
        job.load(places, "other")
