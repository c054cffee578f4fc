# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting a job in place: what would change, in which order, and what is refused before anything does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from mirrornet import install, job, lock
from mirrornet.errors import Failure
from mirrornet.install import Installation
from mirrornet.job import Job
from mirrornet.places import Places


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host of our own, on which this process is root: as far as files go, anybody can be that below one directory."""
    (tmp_path / "cron.d").mkdir()
    monkeypatch.setattr(install, "CRON_D", tmp_path / "cron.d")
    monkeypatch.setattr(Installation, "is_system", property(lambda self: True))
    return tmp_path


def how(base: Path, **changes: Any) -> Installation:
    usual: dict[str, Any] = {
        "places": Places(base / "etc" / "mirrornet", base / "var" / "mirrornet"),
        "command": base / "bin" / "mirrornet",
        "python": sys.executable,
        "when": "0 * * * *",
        "offset": 7,
    }
    return Installation(**{**usual, **changes})


def a_job(base: Path, **changes: Any) -> Job:
    checked = job.check({"name": "sage", "sources": ["rsync://master.example.org/sage/"], "target": str(base / "srv" / "sage"), **changes})
    assert checked.job is not None, checked.problems
    return checked.job


def put(base: Path, **changes: Any) -> list[str]:
    """Install; returns the paths that changed."""
    prepared = install.present(a_job(base, **changes), how(base))
    assert prepared.problems == []
    for change in prepared.changes:
        change.apply()
    return [str(Path(change.path).relative_to(base)) for change in prepared.changes]


def files(base: Path) -> list[str]:
    return sorted(str(path.relative_to(base)) for path in base.rglob("*"))


ALL = [
    "etc/mirrornet/jobs",
    "var/mirrornet",
    "var/mirrornet/sage",
    "bin",
    "bin/mirrornet",
    "srv/sage",
    "etc/mirrornet/jobs/sage.json",
    "cron.d/mirrornet-sage",
]


def test_prepared_is_what_changes_and_second_time_nothing(base: Path) -> None:
    before = files(base)
    assert [str(Path(change.path).relative_to(base)) for change in install.present(a_job(base), how(base)).changes] == ALL
    assert files(base) == before
    assert put(base) == ALL
    assert put(base) == []
    assert (base / "cron.d" / "mirrornet-sage").read_text().splitlines()[-1] == (
        f"7 * * * * root {base}/bin/mirrornet --config-dir {base}/etc/mirrornet --state-dir {base}/var/mirrornet pull --quiet sage"
    )
    assert os.access(base / "bin" / "mirrornet", os.X_OK)


def test_the_entry_of_a_system_job_says_where_since_its_account_has_other_usual_places(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    usual = Installation(places=install.default_places(), command=Path("/usr/local/bin/mirrornet"), python=sys.executable)
    assert usual.argv("sage")[1:5] == ["--config-dir", "/etc/mirrornet", "--state-dir", "/var/lib/mirrornet"]


def test_only_what_differs_changes(base: Path) -> None:
    put(base)
    assert put(base, max_delete=5) == ["etc/mirrornet/jobs/sage.json"]
    (base / "cron.d" / "mirrornet-sage").chmod(0o666)
    (base / "bin" / "mirrornet").chmod(0o600)
    assert put(base, max_delete=5) == ["bin/mirrornet", "cron.d/mirrornet-sage"]
    assert put(base, max_delete=5) == []


def test_never_removes_the_entry(base: Path) -> None:
    put(base)
    prepared = install.present(a_job(base), how(base, when="never"))
    assert [Path(change.path).name for change in prepared.changes] == ["mirrornet-sage"]
    prepared.changes[0].apply()
    assert list((base / "cron.d").iterdir()) == []


def test_gone_without_a_trace_but_for_the_tree(base: Path) -> None:
    before = files(base)
    put(base)
    (base / "srv" / "sage" / "release").write_text("x")
    (base / "srv" / "sage" / ".mirrornet").mkdir()
    for change in install.absent("sage", how(base), remove_tree=False).changes:
        change.apply()
    assert sorted(set(files(base)) - set(before)) == ["bin", "etc", "srv", "srv/sage", "srv/sage/release", "var"]
    assert install.absent("sage", how(base), remove_tree=False).changes == []


def test_gone_with_the_tree(base: Path) -> None:
    put(base)
    for change in install.absent("sage", how(base), remove_tree=True).changes:
        change.apply()
    assert not (base / "srv" / "sage").exists()
    assert (base / "srv").exists()


def test_command_stays_for_the_other_jobs(base: Path) -> None:
    put(base)
    put(base, name="other", target=str(base / "srv" / "other"))
    for change in install.absent("sage", how(base), remove_tree=False).changes:
        change.apply()
    assert (base / "bin" / "mirrornet").exists()
    assert job.names(how(base).places) == ["other"]


def test_running_job_is_not_removed(base: Path) -> None:
    put(base)
    places = how(base).places
    with (
        lock.exclusive(places.lock("sage")),
        pytest.raises(Failure, match="is running: nothing was removed"),
        install.not_running(places, "sage"),
    ):
        pass
    with install.not_running(places, "sage"), pytest.raises(lock.Busy), lock.exclusive(places.lock("sage")):
        pass


@pytest.mark.parametrize(
    ("job_changes", "how_changes", "words"),
    [
        ({}, {"when": "61 * * * *"}, "schedule: minute '61': 61 is outside 0 to 59."),
        ({}, {"mailto": "a b"}, "mailto: 'a b' must be an address"),
        ({}, {"mailto": "a\nb"}, "must be an address"),
        ({}, {"python": "/usr/bin/no-python"}, "python: there is no program /usr/bin/no-python"),
        ({}, {"command": Path("bin/mirrornet")}, "command: 'bin/mirrornet' must be an absolute path"),
        ({"target": "/proc/self/status"}, {}, "target: /proc/self/status exists and is no directory"),
        ({"target": "/dev/null/sage"}, {}, "target: /dev/null/sage can't be created in /dev/null"),
    ],
)
def test_refused_before_anything_changes(base: Path, job_changes: dict[str, Any], how_changes: dict[str, Any], words: str) -> None:
    before = files(base)
    prepared = install.present(a_job(base, **job_changes), how(base, **how_changes))
    assert len(prepared.problems) == 1, prepared.problems
    assert words in prepared.problems[0]
    assert files(base) == before


def test_foreign_file_in_place_of_the_command(base: Path) -> None:
    (base / "bin").mkdir()
    (base / "bin" / "mirrornet").write_text("#!/bin/sh\necho mine\n")
    assert "is not mirrornet" in install.present(a_job(base), how(base)).problems[0]
    for change in install.absent("sage", how(base), remove_tree=False).changes:
        change.apply()
    assert (base / "bin" / "mirrornet").exists()


def test_overlap_with_another_job(base: Path) -> None:
    put(base)
    prepared = install.present(a_job(base, name="other", target=str(base / "srv" / "sage" / "sub")), how(base))
    assert "of job 'sage'" in prepared.missing[0]


def test_what_an_earlier_task_may_bring_is_only_missing(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In check mode on a fresh host, package and account tasks have run in check mode too."""
    (base / "cron.d").rmdir()
    (base / "empty").mkdir()
    monkeypatch.setenv("PATH", str(base / "empty"))
    prepared = install.present(a_job(base, user="not-here-yet"), how(base))
    assert prepared.problems == []
    assert next(line.partition(":")[0] for line in prepared.missing) == "user"
    assert any("rsync is not on this host" in line for line in prepared.missing)
    assert any("cron daemon" in line for line in prepared.missing)
    assert [str(Path(change.path).relative_to(base)) for change in prepared.changes] == ALL


def test_rare_schedule_is_warned_of(base: Path) -> None:
    assert any("less than twice a day" in line for line in install.present(a_job(base), how(base, when="0 4 * * *")).warnings)
    assert not any("less than twice a day" in line for line in install.present(a_job(base), how(base)).warnings)


def test_password_goes_into_a_file_of_its_own(base: Path) -> None:
    places = how(base).places
    job_with = a_job(base, password_file=str(places.secret("sage")))
    prepared = install.present(job_with, how(base, password="sesame"))
    assert "sesame" not in "".join(change.before + change.after for change in prepared.changes)
    for change in prepared.changes:
        change.apply()
    secret = places.secret("sage")
    assert secret.read_text() == "sesame\n"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert "sesame" not in places.definition("sage").read_text()
    assert install.present(job_with, how(base, password="sesame")).changes == []
    changed = install.present(job_with, how(base, password="another")).changes
    assert [change.path for change in changed] == [str(secret)]
    for change in install.absent("sage", how(base), remove_tree=False).changes:
        change.apply()
    assert not secret.exists()


def test_password_that_is_no_longer_given_is_removed(base: Path) -> None:
    places = how(base).places
    for change in install.present(a_job(base, password_file=str(places.secret("sage"))), how(base, password="sesame")).changes:
        change.apply()
    for change in install.present(a_job(base), how(base)).changes:
        change.apply()
    assert not places.secret("sage").exists()


def test_the_password_for_reports_has_a_file_of_its_own_too(base: Path) -> None:
    places = how(base).places
    secret, report_secret = places.secret("sage"), places.report_secret("sage")
    told = {"report_to": "rsync://me@master.example.org/reports/", "report_password_file": str(report_secret)}

    def put_with(password: str | None) -> list[str]:
        named = {} if password is None else {"password_file": str(secret)}
        prepared = install.present(a_job(base, **named, **told), how(base, password=password, report_password="another"))
        for change in prepared.changes:
            assert "another" not in change.before + change.after
            change.apply()
        return [change.path for change in prepared.changes if "secrets" in change.path]

    # On a fresh host, beside the other one, and alone again.
    assert put_with(None) == [str(secret.parent), str(report_secret)]
    assert put_with("sesame") == [str(secret)]
    assert {path.name: (path.read_text(), path.stat().st_mode & 0o777) for path in secret.parent.iterdir()} == {
        "sage": ("sesame\n", 0o600),
        "sage.report": ("another\n", 0o600),
    }
    assert put_with(None) == [str(secret)]
    assert put_with(None) == []
    for change in install.absent("sage", how(base), remove_tree=True).changes:
        change.apply()
    assert not report_secret.exists()


@pytest.mark.parametrize("password", ["", "a\nb"])
def test_odd_passwords_are_refused(base: Path, password: str) -> None:
    assert "password: must be a text" in install.present(a_job(base), how(base, password=password)).problems[0]
    assert "report_password: must be a text" in install.present(a_job(base), how(base, report_password=password)).problems[0]


# The command without a job


def apply(prepared: install.Prepared) -> list[str]:
    assert prepared.problems == []
    for change in prepared.changes:
        change.apply()
    return [Path(change.path).name for change in prepared.changes]


def test_command_alone_comes_and_goes_without_a_trace(base: Path) -> None:
    before = files(base)
    assert apply(install.command_present("traffic", how(base))) == ["bin", "mirrornet", "needs", "traffic"]
    assert install.command_present("traffic", how(base)).changes == []
    apply(install.command_absent("traffic", how(base)))
    assert sorted(set(files(base)) - set(before)) == ["bin", "etc"]
    assert install.command_absent("traffic", how(base)).changes == []


def test_command_goes_with_the_last_that_needs_it_job_or_not(base: Path) -> None:
    put(base)
    command = base / "bin" / "mirrornet"
    assert apply(install.command_present("traffic", how(base))) == ["needs", "traffic"]
    apply(install.command_present("publish", how(base)))
    apply(install.absent("sage", how(base), remove_tree=False))
    apply(install.command_absent("traffic", how(base)))
    assert command.exists()
    put(base)
    apply(install.command_absent("publish", how(base)))
    assert command.exists()
    apply(install.absent("sage", how(base), remove_tree=False))
    assert not command.exists()
    assert not (base / "etc" / "mirrornet").exists()


def test_command_alone_is_refused_where_it_can_not_run(base: Path) -> None:
    assert "there is no program" in install.command_present("traffic", how(base, python="/nonexistent")).problems[0]
    command = base / "bin" / "mirrornet"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\n")
    assert "is not mirrornet" in install.command_present("traffic", how(base)).problems[0]
    assert apply(install.command_absent("traffic", how(base))) == []


def test_a_link_that_takes_the_new_target_s_place_gives_nothing_away(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root makes the target where another account may write, which could be quick.
    def chown(path: Path, uid: int, gid: int, *, follow_symlinks: bool = True) -> None:
        given.append((path, uid, gid, follow_symlinks))

    given: list[tuple[Path, int, int, bool]] = []
    monkeypatch.setattr(os, "chown", chown)
    change = install._target(a_job(base), (12345, 12346), install.Prepared())
    assert change is not None
    change.apply()
    assert given == [(base / "srv/sage", 12345, 12346, False)]
