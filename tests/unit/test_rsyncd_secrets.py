# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of names and passwords: what is written, what is refused, and what a real rsync makes of them."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from conftest import free_port, wait_until
from mirrornet import files, rsyncd_secrets

RSYNC = shutil.which("rsync") or "rsync"
WANTED = {"archive": [("alice", "correct horse battery"), ("bob", "staple: with # and ü")]}


def put(directory: Path, wanted: dict[str, list[tuple[str, str]]], *, purge: bool = True) -> rsyncd_secrets.Plan:
    plan = rsyncd_secrets.plan(str(directory), wanted, purge=purge)
    rsyncd_secrets.apply(plan)
    return plan


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.lstat().st_mode) for path in [directory, *directory.iterdir()]}


def test_files_are_for_their_owner_alone_and_a_second_time_nothing_changes(tmp_path: Path) -> None:
    place = tmp_path / "secrets.d"
    assert put(place, WANTED).changed
    assert modes(place) == {"secrets.d": 0o700, "archive": 0o600}
    assert not rsyncd_secrets.plan(str(place), WANTED, purge=True).changed


def test_a_loosened_mode_is_tightened_again(tmp_path: Path) -> None:
    put(tmp_path / "s", WANTED)
    (tmp_path / "s/archive").chmod(0o644)
    (tmp_path / "s").chmod(0o755)
    assert put(tmp_path / "s", WANTED).changed
    assert modes(tmp_path / "s") == {"s": 0o700, "archive": 0o600}


def test_what_nothing_uses_goes_only_when_asked_and_the_empty_directory_with_it(tmp_path: Path) -> None:
    place = tmp_path / "s"
    put(place, {**WANTED, "old": [("eve", "x" * 20)]})
    (place / ".archive.new").write_text("left by a crash")
    assert not put(place, WANTED, purge=False).changed
    plan = put(place, WANTED)
    assert (plan.remove, plan.files) == ([".archive.new", "old"], ["archive"])
    put(place, {})
    assert not place.exists()


def test_nothing_wanted_makes_no_directory(tmp_path: Path) -> None:
    assert not put(tmp_path / "s", {}).changed
    assert not (tmp_path / "s").exists()


def test_a_difference_tells_names_and_no_password(tmp_path: Path) -> None:
    place = tmp_path / "s"
    put(place, {"archive": [("alice", "first password"), ("bob", "unchanged pass"), ("eve", "goes with her")]})
    plan = rsyncd_secrets.plan(
        str(place), {"archive": [("alice", "second password"), ("bob", "unchanged pass"), ("new", "comes along")]}, purge=True
    )
    assert plan.before == "archive: alice: (a password)\narchive: bob: (a password)\narchive: eve: (a password)\n"
    assert plan.after == "archive: alice: (another password)\narchive: bob: (a password)\narchive: new: (a password)\n"


def link_directory(place: Path, other: Path) -> None:
    other.mkdir()
    place.symlink_to(other)


def link_file(place: Path, other: Path) -> None:
    place.mkdir(mode=0o700)
    other.write_text("theirs")
    (place / "archive").symlink_to(other)


def file_for_directory(place: Path, other: Path) -> None:
    place.touch()


def directory_for_file(place: Path, other: Path) -> None:
    (place / "archive").mkdir(parents=True)


def open_directory(place: Path, other: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (link_directory, "is not a directory itself"),
        (link_file, "archive' is not a file itself"),
        (file_for_directory, "is not a directory itself"),
        (directory_for_file, "archive' is not a file itself"),
        (open_directory, "can be changed by others than root"),
    ],
)
def test_what_could_lead_passwords_elsewhere_is_refused(tmp_path: Path, prepare, words: str) -> None:
    prepare(tmp_path / "s", tmp_path / "other")
    (problem,) = rsyncd_secrets.check(str(tmp_path / "s"), "secrets")
    assert words in str(problem)


def test_a_directory_needs_one_around_it(tmp_path: Path) -> None:
    assert "does not exist" in str(rsyncd_secrets.check(str(tmp_path / "gone/s"), "secrets")[0])
    assert rsyncd_secrets.check(str(tmp_path / "s"), "secrets") == []


@pytest.mark.parametrize("name", ["../archive", "a/b", ".hidden", "", "global"])
def test_a_name_that_is_no_file_in_the_directory_is_refused(name: str) -> None:
    assert rsyncd_secrets.check_names([name, "archive"], "secrets")[0].where == "secrets"
    assert len(rsyncd_secrets.check_names([name, "archive"], "secrets")) == 1


def test_a_full_disk_leaves_the_old_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "s", WANTED)
    before = (tmp_path / "s/archive").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        put(tmp_path / "s", {"archive": [("alice", "another password")]})
    assert (tmp_path / "s/archive").read_bytes() == before
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["archive"]


LOGINS = [
    # name, password, whether rsync lets in
    ("alice", "correct horse battery", True),
    ("bob", "staple: with # and ü", True),
    ("bob", "staple", False),
    ("alice", "staple: with # and ü", False),
    # A rotation with an overlap: the new password has a name of its own.
    ("bob.2", "the password of next year", True),
    # What doesn't work, and is why it's refused: a second line of the same name.
    ("twice", "the first of two lines", True),
    ("twice", "the second of two lines", False),
    ("# Role mirrornet.rsync.rsync_master replaces this file. One name", "password a line", False),
]


def test_rsync_lets_in_who_is_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    twice = [("twice", "the first of two lines"), ("twice", "the second of two lines")]
    put(tmp_path / "s", {"archive": [*WANTED["archive"], ("bob.2", "the password of next year"), *twice]})
    port = free_port()
    config = tmp_path / "rsyncd.conf"
    config.write_text(
        f"use chroot = no\nport = {port}\naddress = 127.0.0.1\n[archive]\npath = {tmp_path}/tree\n"
        f"auth users = *\nsecrets file = {tmp_path}/s/archive\n[open]\npath = {tmp_path}/tree\n"
    )
    daemon = subprocess.Popen([RSYNC, "--daemon", "--no-detach", f"--config={config}", f"--log-file={tmp_path}/log"])

    def ask(url: str, password: str = "") -> int:
        return subprocess.run([RSYNC, url], env={**os.environ, "RSYNC_PASSWORD": password}, capture_output=True, check=False).returncode

    try:
        wait_until(lambda: ask(f"rsync://127.0.0.1:{port}/open/") == 0, "the daemon")
        for name, password, is_in in LOGINS:
            who = name.replace(" ", "%20").replace("#", "%23")
            assert (ask(f"rsync://{who}@127.0.0.1:{port}/archive/", password) == 0) is is_in, name
        # What others can read is as good as no file.
        (tmp_path / "s/archive").chmod(0o604)
        assert ask(f"rsync://alice@127.0.0.1:{port}/archive/", "correct horse battery") == 5
    finally:
        daemon.terminate()
        daemon.wait()
