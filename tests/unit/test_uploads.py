# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where mirrors hand in their reports: what is refused, and what a real rsync lets a mirror do."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import free_port, wait_until
from mirrornet import rsyncd, uploads

RSYNC = shutil.which("rsync") or "rsync"
QUOTA = Path(__file__).parents[2] / "roles/rsync_master/files/rsyncd-quota"
PASSWORDS = {"mirror1": "the password of mirror1", "mirror2": "the password of mirror2"}


@pytest.mark.parametrize(
    ("upload", "message"),
    [
        ({}, "upload without a name (item 1): name: None can't be"),
        ("mirror1", "is not a dictionary"),
        ({"name": "../x"}, "can't be the name of an upload"),
        ({"name": "a\nb"}, "can't be the name of an upload"),
        ({"name": "stranger"}, "it has no password"),
        ({"name": "mirror1", "host_allow": []}, "Did you mean 'hosts_allow'?"),
        ({"name": "mirror1", "hosts_allow": []}, "the list is empty"),
        ({"name": "mirror1", "hosts_allow": ["mirror1.example.org"]}, "is not an address"),
        ({"name": "mirror1", "file_size": 0}, "0 is out of range"),
        ({"name": "mirror1", "file_size": "1M"}, "is not a whole number"),
        ({"name": "mirror1", "jobs": []}, "is not a list of names"),
        ({"name": "mirror1", "jobs": "archive"}, "is not a list of names"),
        ({"name": "mirror1", "jobs": ["*"]}, "'*' can't be the name of a job"),
        ({"name": "mirror1", "jobs": ["a/b"]}, "can't be the name of a job"),
    ],
)
def test_a_wrong_upload_is_refused_by_name(upload: object, message: str) -> None:
    assert message in "\n".join(map(str, uploads.check([upload], list(PASSWORDS))))


def test_lists_and_names_that_come_twice() -> None:
    assert "it is not a list" in str(uploads.check({"name": "mirror1"}, [])[0])
    assert "an earlier upload has this name" in str(uploads.check([{"name": "mirror1"}] * 2, list(PASSWORDS))[0])
    assert (
        uploads.check([{"name": "mirror1", "jobs": ["archive"], "hosts_allow": ["192.0.2.1"]}, {"name": "mirror2"}], list(PASSWORDS)) == []
    )


def test_the_modules_pass_the_check_of_modules() -> None:
    where = uploads.Where("/var/lib/reports", "reports", "/usr/local/lib/mirrornet/rsyncd-quota")
    made = [{**uploads.module({"name": name}, where, ["archive"]), "secrets_file": "/s"} for name in PASSWORDS]
    assert rsyncd.check_modules(made) == []


class Door:
    """An rsync daemon that takes the reports of two mirrors."""

    def __init__(self, base: Path, port: int) -> None:
        self.base, self.port = base, port

    def run(self, *words: str, login: str = "mirror1", password: str | None = None) -> subprocess.CompletedProcess[str]:
        """rsync with a login; UP in WORDS is the URL of that mirror's module."""
        url = f"rsync://{login}@127.0.0.1:{self.port}"
        argv = [RSYNC, "--timeout=30", *(word.replace("UP", f"{url}/report-mirror1").replace("URL", url) for word in words)]
        environment = {**os.environ, "RSYNC_PASSWORD": PASSWORDS.get(login, "") if password is None else password, "LC_ALL": "C"}
        return subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)

    def there(self, name: str = "mirror1") -> list[str]:
        return sorted(path.name for path in (self.base / "up" / name).iterdir())


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    secrets = tmp_path / "secrets"
    secrets.write_text("".join(f"{name}:{password}\n" for name, password in PASSWORDS.items()))
    secrets.chmod(0o600)
    port = free_port()
    lines = [
        f"port = {port}",
        f"uid = {os.geteuid()}",
        f"gid = {os.getegid()}",
        "address = 127.0.0.1",
        "use chroot = no",
        f"log file = {tmp_path / 'log'}",
        f"lock file = {tmp_path / 'lock'}",
    ]
    where = uploads.Where(str(tmp_path / "up"), "", str(QUOTA))
    for name in PASSWORDS:
        (tmp_path / "up" / name).mkdir(parents=True)
        made: dict[str, Any] = uploads.module({"name": name, "file_size": 64}, where, ["archive", "docs"])
        lines.append(f"[{made['name']}]")
        for option, value in made.items():
            if option not in ("name", "uid", "gid"):
                text = (
                    {True: "yes", False: "no"}.get(value)
                    if isinstance(value, bool)
                    else " ".join(value)
                    if isinstance(value, list)
                    else value
                )
                lines.append(f"{option.replace('_', ' ').replace(' xfer', '-xfer')} = {text}")
        lines.append(f"secrets file = {secrets}")
    config = tmp_path / "rsyncd.conf"
    config.write_text("\n".join(lines) + "\n")
    for name, size in (("report.json", 1000), ("other.json", 10), ("large.json", 70_000)):
        (tmp_path / name).write_text("x" * size)
    with subprocess.Popen([RSYNC, "--daemon", "--no-detach", f"--config={config}"]) as daemon:
        there = Door(tmp_path, port)
        wait_until(lambda: there.run("URL/").returncode == 0, "the daemon")
        yield there
        daemon.terminate()


def test_a_report_arrives_and_the_next_one_takes_its_place(door: Door) -> None:
    report = door.base / "report.json"
    for content in ("first", "second, and longer"):
        report.write_text(content)
        said = door.run("--times", str(report), "UP/archive.json")
        assert said.returncode == 0, said.stderr
        assert (door.base / "up/mirror1/archive.json").read_text() == content
    assert door.there() == ["archive.json"]
    assert (door.base / "up/mirror1/archive.json").stat().st_mode & 0o777 == 0o600


def test_a_mirror_neither_lists_nor_reads(door: Door) -> None:
    report = str(door.base / "report.json")
    assert door.run(report, "UP/archive.json").returncode == 0
    assert "report-" not in door.run("URL/").stdout
    assert door.run("UP/").returncode != 0
    assert door.run("UP/archive.json", str(door.base / "back")).returncode != 0
    assert not (door.base / "back").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("report.json", "UP/other.json"),
        ("report.json", "UP/archive.json.sh"),
        ("report.json", "UP/.archive.json.abcdef"),
        ("report.json", "UP/sub/archive.json"),
        ("report.json", "UP/../mirror2/archive.json"),
        ("--mkpath", "report.json", "UP/sub/archive.json"),
        ("--recursive", "directory", "UP/"),
        ("--links", "link/archive.json", "UP/"),
        ("--recursive", "--delete", "empty/", "UP/"),
        ("--remove-source-files", "--recursive", "--backup", "--backup-dir=old", "report.json", "UP/archive.json"),
        ("--inplace", "report.json", "UP/archive.json"),
        ("--append", "report.json", "UP/archive.json"),
        ("--partial-dir=../mirror2", "report.json", "UP/archive.json"),
        ("--temp-dir=../mirror2", "report.json", "UP/archive.json"),
        ("--link-dest=/etc", "report.json", "UP/archive.json"),
        ("--perms", "--owner", "--group", "report.json", "UP/archive.json"),
    ],
)
def test_a_mirror_writes_nothing_but_its_report(door: Door, words: tuple[str, ...]) -> None:
    (door.base / "up/mirror1/docs.json").write_text("of another job")
    (door.base / "up/mirror2/archive.json").write_text("another's")
    (door.base / "directory").mkdir()
    (door.base / "directory/archive.json").write_text("deeper")
    (door.base / "empty").mkdir()
    (door.base / "link").mkdir()
    (door.base / "link/archive.json").symlink_to("/etc/passwd")
    local = [str(door.base / word) if (door.base / word.rstrip("/")).exists() else word for word in words]
    door.run(*(f"{word}/" if words[number].endswith("/") and not word.endswith("/") else word for number, word in enumerate(local)))
    assert door.there() == ["docs.json"]
    assert (door.base / "up/mirror1/docs.json").read_text() == "of another job"
    assert door.there("mirror2") == ["archive.json"]
    assert (door.base / "up/mirror2/archive.json").read_text() == "another's"


def test_another_s_module_needs_another_s_password(door: Door) -> None:
    report = str(door.base / "report.json")
    for login, password in (("mirror2", None), ("mirror1", "guessed"), ("nobody", ""), ("", "")):
        said = door.run(report, "UP/archive.json", login=login, password=password)
        assert "auth failed" in said.stderr
    assert door.there() == []


def test_what_is_too_large_is_cut_and_leaves_nothing_that_grows(door: Door) -> None:
    for dummy in range(3):
        assert door.run(str(door.base / "large.json"), "UP/archive.json").returncode != 0
    assert len(door.there()) <= 1
    assert sum(path.stat().st_size for path in (door.base / "up/mirror1").iterdir()) <= 64 * 1024
    assert door.run(str(door.base / "report.json"), "UP/archive.json").returncode == 0
    assert door.there() == ["archive.json"]


def test_a_directory_with_more_than_may_lie_there_is_closed_with_a_word(door: Door) -> None:
    for name in ("a", "b", "c"):
        (door.base / "up/mirror1" / name).touch()
    said = door.run(str(door.base / "report.json"), "UP/archive.json")
    assert said.returncode != 0
    assert "report-mirror1 is full: 3 files lie there, and 2 may" in said.stderr
