# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who could change a file, or put another in its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mirrornet import files
from mirrornet.files import only_root_writes


@pytest.fixture
def place(own_ground: Path) -> Path:
    """A file in a directory, both for their owner alone to write."""
    directory = own_ground / "etc"
    directory.mkdir(mode=0o755)
    (directory / "file").touch(mode=0o644)
    return directory


def test_what_one_account_alone_writes_is_fine(place: Path) -> None:
    assert only_root_writes(place / "file") == ""
    assert only_root_writes(str(place)) == ""
    assert only_root_writes("/") == ""


@pytest.mark.parametrize("open_one", ["etc/file", "etc", "."])
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_file_or_a_directory_above_it_that_others_may_write_is_told(place: Path, open_one: str, mode: int) -> None:
    closed = place.parent / open_one
    before = closed.stat().st_mode
    closed.chmod(mode)
    assert only_root_writes(place / "file") == f"others than root may write '{closed}'"
    closed.chmod(before)
    assert only_root_writes(place / "file") == ""


def test_what_is_not_there_yet_is_in_the_hands_of_its_directory(place: Path) -> None:
    assert only_root_writes(place / "new") == ""
    assert only_root_writes(place / "new/below") == ""
    assert only_root_writes(place / "file/below") == ""
    place.chmod(0o777)
    assert only_root_writes(place / "new") == f"others than root may write '{place}'"


def test_a_directory_like_tmp_can_be_anybody_s() -> None:
    assert only_root_writes("/tmp/mirrornet/no-such-file") == "others than root may write '/tmp'"


def test_both_ends_of_a_link_count(place: Path) -> None:
    links, trees = place.parent / "links", place.parent / "trees"
    links.mkdir()
    trees.mkdir()
    (trees / "file").touch()
    (links / "absolute").symlink_to(trees / "file")
    (links / "relative").symlink_to("../trees/file")
    (links / "directory").symlink_to(trees)
    ways = [links / "absolute", links / "relative", links / "directory/file", links / "directory/../trees/file"]
    assert [only_root_writes(way) for way in ways] == [""] * 4
    for opened in (links, trees):
        opened.chmod(0o777)
        assert [only_root_writes(way) for way in ways] == [f"others than root may write '{opened}'"] * 4
        opened.chmod(0o755)
    (trees / "file").chmod(0o666)
    assert [only_root_writes(way) for way in ways] == [f"others than root may write '{trees}/file'"] * 4


def test_links_in_a_circle_come_to_an_end(place: Path) -> None:
    (place / "one").symlink_to("two")
    (place / "two").symlink_to("one")
    assert only_root_writes(place / "one") == ""


@pytest.mark.parametrize(("owner", "name"), [(65534, "nobody"), (4_000_000, "number 4000000")])
def test_the_owner_is_named(place: Path, monkeypatch: pytest.MonkeyPatch, owner: int, name: str) -> None:
    seen = files._status

    def status(path: Path) -> os.stat_result:
        found = seen(path)
        return os.stat_result([*found[:4], owner, *found[5:]]) if path.name == "etc" else found

    monkeypatch.setattr(files, "_status", status)
    assert only_root_writes(place / "file") == f"'{place}' belongs to {name}"


def test_what_can_t_be_looked_at_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = files._status

    def status(path: Path) -> os.stat_result:
        if path.name == "file":
            raise PermissionError(13, "Permission denied")
        return seen(path)

    monkeypatch.setattr(files, "_status", status)
    assert only_root_writes(place / "file") == f"'{place}/file' can't be looked at: Permission denied"
