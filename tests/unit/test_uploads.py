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

import pytest
from conftest import free_port, wait_until, wait_until_served
from mirrornet import uploads

RSYNC = shutil.which("rsync") or "rsync"
QUOTA = Path(__file__).parents[2] / "roles/rsync_master/files/rsyncd-quota"
PASSWORDS = {"mirror1": "the password of mirror1", "mirror2": "the password of mirror2"}


WHERE = uploads.Where("reports", "/usr/local/lib/mirrornet/rsyncd-quota")
SERVED: tuple[object, ...] = ({"name": "archive", "path": "/srv/archive"}, {"name": "with.dot", "path": "/srv/dot"})


def said(given: object, served: tuple[object, ...] = SERVED) -> str:
    return "\n".join(map(str, uploads.check(given, PASSWORDS, served)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mirror1", "'mirror1' is not a dictionary"),
        ([{"logins": ["mirror1"]}], "is not a dictionary"),
        ({"login": ["mirror1"]}, "unknown option 'login'. Did you mean 'logins'?"),
        ({"jobs": ["archive"]}, "logins: None is not a list of logins"),
        ({"logins": None}, "logins: it has no value"),
        ({"logins": "mirror1"}, "logins: 'mirror1' is not a list of logins"),
        ({"logins": []}, "logins: [] is not a list of logins"),
        ({"logins": ["stranger"]}, "logins: 'stranger' has no password, so that nobody could log in by it. Add it to rsync_master_secrets"),
        ({"logins": ["other*"]}, "logins: 'other*' has no password"),
        ({"logins": ["../x"]}, "logins: '../x' can't be a login"),
        ({"logins": ["a\nb"]}, "logins: 'a\\nb' can't be a login"),
        ({"logins": ["@group"]}, "logins: '@group' can't be a login"),
        ({"logins": [1]}, "logins: 1 can't be a login"),
        ({"logins": ["mirror*"], "hosts_allow": []}, "hosts_allow: the list is empty"),
        ({"logins": ["mirror*"], "hosts_allow": ["mirror1.example.org"]}, "is not an address"),
        ({"logins": ["mirror*"], "file_size": 0}, "file_size: 0 is out of range"),
        ({"logins": ["mirror*"], "file_size": "1M"}, "file_size: '1M' is not a whole number"),
        ({"logins": ["mirror*"], "jobs": []}, "jobs: [] is not a list of names"),
        ({"logins": ["mirror*"], "jobs": "archive"}, "jobs: 'archive' is not a list of names"),
        ({"logins": ["mirror*"], "jobs": ["*"]}, "jobs: '*' can't be the name of a job"),
        ({"logins": ["mirror*"], "jobs": ["a/b"]}, "jobs: 'a/b' can't be the name of a job"),
        ({"logins": ["mirror*"], "path": "reports"}, "path: 'reports' is not an absolute path"),
        ({"logins": ["mirror*"], "path": "/tmp/reports"}, "path: '/tmp/reports' lies where a tree can't"),
        ({"logins": ["mirror*"], "path": "/var/lib/"}, "path: '/var/lib/' is a directory of the system"),
    ],
)
def test_what_is_wrong_is_said_with_the_option_and_the_remedy(given: object, message: str) -> None:
    assert message in said(given)
    assert all(line.startswith("rsync_master_uploads: ") for line in said(given).splitlines())


def test_reports_need_names() -> None:
    assert "jobs: there is no module that a job could be named after. List the names" in said({"logins": ["mirror*"]}, SERVED[1:])
    assert said({"logins": ["mirror*"], "jobs": ["docs"]}, ()) == ""


def test_a_login_that_can_t_name_a_directory_is_refused() -> None:
    [problem] = uploads.check({"logins": ["*"]}, ["a@b"], SERVED)
    assert "the login 'a@b' can't name a directory" in str(problem)


def test_nothing_said_is_nothing_made() -> None:
    assert uploads.check({}, [], []) == []
    assert said({"logins": ["mirror1", "mirror?"], "path": "/srv/reports/", "file_size": 1}) == ""


def test_each_login_has_a_module_of_its_own() -> None:
    made = uploads.modules(
        {"logins": ["mirror*"], "path": "/srv/reports/", "hosts_allow": ["192.0.2.1"]}, [*PASSWORDS, "other"], SERVED, WHERE
    )
    assert [(module["name"], module["path"], module["auth_users"]) for module in made] == [
        ("report-mirror1", "/srv/reports/mirror1", ["mirror1"]),
        ("report-mirror2", "/srv/reports/mirror2", ["mirror2"]),
    ]
    assert {str(module["filter"]) for module in made} == {"['+ /archive.json', '- *']"}
    assert uploads.between(SERVED, [{**module, "secrets_file": "/s"} for module in made]) == []


def test_modules_that_get_in_each_other_s_way_are_told_by_the_variable() -> None:
    made = [{**module, "secrets_file": "/s"} for module in uploads.modules({"logins": ["mirror1"]}, PASSWORDS, SERVED, WHERE)]
    [twice] = uploads.between([{"name": "Report-Mirror1", "path": "/srv/x"}], made)
    assert str(twice).startswith("rsync_master_uploads: module 'Report-Mirror1' (item 1) has this name already")
    [inside] = uploads.between([{"name": "all", "path": "/var/lib"}], made)
    assert str(inside).startswith("rsync_master_uploads: its clients may write, and it lies inside the path of module 'all' (item 1)")
    [outside] = uploads.between([{"name": "all", "path": "/var/lib/mirrornet-reports/mirror1/x"}], made)
    assert str(outside).startswith("module 'all' (item 1): path: it lies inside the path of rsync_master_uploads, whose clients may write")


def test_an_rsync_that_can_t_limit_uploads_is_refused() -> None:
    made = uploads.modules({"logins": ["mirror1"]}, PASSWORDS, SERVED, WHERE)
    assert "'early exec'" in str(uploads.check_version(made, "3.1.3"))
    assert uploads.check_version(made, "3.2.3") == []


def test_a_directory_of_something_else_s_is_left_alone(tmp_path: Path) -> None:
    def found(path: Path) -> str:
        return "\n".join(map(str, uploads.check_host(str(path), "no such group", [{"name": "all", "path": str(tmp_path / "srv")}])))

    assert found(tmp_path / "none") == ""
    (tmp_path / "empty").mkdir()
    assert found(tmp_path / "empty") == ""
    (tmp_path / "empty/file").touch()
    assert "is there already, and holds something else. Give reports a directory of their own" in found(tmp_path / "empty")
    (tmp_path / "link").symlink_to("empty")
    assert "is not a directory itself" in found(tmp_path / "link")
    assert "is not a directory itself" in found(tmp_path / "empty/file")
    assert "can't be looked at: Not a directory" in found(tmp_path / "empty/file/below")
    (tmp_path / "srv/reports").mkdir(parents=True)
    (tmp_path / "other").symlink_to("srv")
    assert "it lies inside the path of module 'all' (item 1), which would publish" in found(tmp_path / "other/reports")


class Door:
    """An rsync daemon that takes the reports of two mirrors."""

    def __init__(self, base: Path, port: int, daemon: subprocess.Popen[bytes]) -> None:
        self.base, self.port, self.daemon = base, port, daemon

    def run(self, *words: str, login: str = "mirror1", password: str | None = None) -> subprocess.CompletedProcess[str]:
        """rsync with a login; UP in WORDS is the URL of that mirror's module."""
        url = f"rsync://{login}@127.0.0.1:{self.port}"
        argv = [RSYNC, "--timeout=30", *(word.replace("UP", f"{url}/report-mirror1").replace("URL", url) for word in words)]
        environment = {**os.environ, "RSYNC_PASSWORD": PASSWORDS.get(login, "") if password is None else password, "LC_ALL": "C"}
        done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        # The next one would be refused, and what the tests look for may not be cleared away yet.
        wait_until_served(self.daemon)
        return done

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
        # An ordinary account has no other to become.
        *(["uid = root", "gid = root"] if os.geteuid() == 0 else []),
        "address = 127.0.0.1",
        "use chroot = no",
        f"log file = {tmp_path / 'log'}",
        f"lock file = {tmp_path / 'lock'}",
    ]
    given = {"logins": ["mirror*"], "path": str(tmp_path / "up"), "file_size": 64, "jobs": ["archive", "docs"]}
    for made in uploads.modules(given, PASSWORDS, [], uploads.Where("", str(QUOTA))):
        Path(str(made["path"])).mkdir(parents=True)
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
        there = Door(tmp_path, port, daemon)
        wait_until(lambda: there.run("URL/").returncode == 0, "the daemon")
        yield there
        daemon.terminate()


def test_a_report_arrives_and_the_next_one_takes_its_place(door: Door) -> None:
    report = door.base / "report.json"
    for content in ("first", "second, and longer"):
        report.write_text(content)
        said = door.run("--ignore-times", "--whole-file", str(report), "UP/archive.json")
        assert said.returncode == 0, said.stderr
        assert (door.base / "up/mirror1/archive.json").read_text() == content
    assert door.there() == ["archive.json"]
    assert (door.base / "up/mirror1/archive.json").stat().st_mode & 0o777 == 0o640


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
        ("--times", "report.json", "UP/archive.json"),
        ("--files-from=:archive.json", ".", "UP/"),
        ("--delete", "report.json", "UP/archive.json"),
        ("--checksum", "report.json", "UP/archive.json"),
        ("--recursive", "named/", "UP/"),
        ("--dirs", "named/archive.json", "UP/"),
        ("--devices", "--specials", "fifo/archive.json", "UP/"),
        ("--log-file-format=%o", "--remote-option=--log-file=x", "report.json", "UP/archive.json"),
        ("--perms", "--owner", "--group", "report.json", "UP/archive.json"),
    ],
)
def test_a_mirror_writes_nothing_but_its_report(door: Door, words: tuple[str, ...]) -> None:
    (door.base / "up/mirror1/docs.json").write_text("of another job")
    (door.base / "up/mirror2/archive.json").write_text("another's")
    (door.base / "directory").mkdir()
    (door.base / "directory/archive.json").write_text("deeper")
    (door.base / "empty").mkdir()
    (door.base / "named/archive.json").mkdir(parents=True)
    (door.base / "fifo").mkdir()
    os.mkfifo(door.base / "fifo/archive.json")
    (door.base / "link").mkdir()
    (door.base / "link/archive.json").symlink_to("/etc/passwd")
    local = [str(door.base / word) if (door.base / word.rstrip("/")).exists() else word for word in words]
    door.run(*(f"{word}/" if words[number].endswith("/") and not word.endswith("/") else word for number, word in enumerate(local)))
    assert door.there() == ["docs.json"]
    assert (door.base / "up/mirror1/docs.json").read_text() == "of another job"
    assert door.there("mirror2") == ["archive.json"]
    assert (door.base / "up/mirror2/archive.json").read_text() == "another's"
    assert door.run(str(door.base / "report.json"), "UP/archive.json").returncode == 0


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


def test_what_an_interrupted_upload_left_goes_with_the_next_one(door: Door) -> None:
    for name in ("mirror1", "mirror2"):
        (door.base / "up" / name / ".archive.json.aB3dE6").write_text("half")
    (door.base / "up/mirror1/archive.json.saved").write_text("the operator's")
    assert door.run(str(door.base / "report.json"), "UP/docs.json").returncode == 0
    assert door.there() == ["archive.json.saved", "docs.json"]
    assert door.there("mirror2") == [".archive.json.aB3dE6"]
