# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a master's services must be allowed because of what they serve."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mirrornet.confine import HOME, SEARCH, is_granted, needs

#: Somebody who owns nothing here, and who is in none of our groups.
STRANGER = 54321


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that everybody may reach."""
    tree = tmp_path / "srv/tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/here").touch()
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 0o001:
            path.chmod(0o711)
    return tree


def test_what_everybody_may_reach_needs_nothing(tree: Path) -> None:
    module = {"name": "a", "path": str(tree), "sentinel": "sub/here", "uid": "nobody", "extra": {"charset": "utf-8"}}
    assert needs([module, "no module"], {"uid": "nobody", "config_path": "/etc/rsyncd.conf", "motd": "/home"}, STRANGER) == []


@pytest.mark.parametrize("closed", ["srv", "srv/tree"])
def test_a_directory_that_is_closed_to_others_needs_a_right(tree: Path, closed: str) -> None:
    module = {"name": "a", "path": str(tree)}
    directory = tree.parents[1] / closed
    directory.chmod(0o750)
    try:
        assert needs([module], {}, STRANGER) == [SEARCH]
        assert needs([module], {}, os.geteuid()) == []
    finally:
        directory.chmod(0o755)


@pytest.mark.parametrize("option", ["secrets_file", "exclude_from", "rebuild_flag", "extra"])
def test_a_file_that_is_closed_to_others_needs_a_right(tree: Path, option: str) -> None:
    file = tree / "sub/here"
    file.chmod(0o600)
    told = {"name": "a", "path": str(tree), option: {"motd file": str(file)} if option == "extra" else str(file)}
    assert needs([told], {}, STRANGER) == [SEARCH]
    assert needs([told], {}, os.geteuid()) == []


def test_a_sentinel_s_directory_counts(tree: Path) -> None:
    (tree / "sub").chmod(0o700)
    assert needs([{"path": str(tree), "sentinel": "sub/here"}], {}, STRANGER) == [SEARCH]
    assert needs([{"path": str(tree)}], {}, STRANGER) == []


def test_a_link_s_both_ends_count(tree: Path) -> None:
    private = tree.parents[1] / "private"
    private.mkdir(mode=0o700)
    (private / "in").symlink_to(tree)
    (tree.parent / "out").symlink_to(private)
    assert needs([{"path": str(private / "in")}], {}, STRANGER) == [SEARCH]
    assert needs([{"path": str(tree.parent / "out")}], {}, STRANGER) == [SEARCH]


def test_home_directories_are_to_be_seen_where_they_are_served(tree: Path) -> None:
    for path in ("/home/archive", "/home/../home/archive", "/root", "/run/user/1000/x"):
        assert HOME in needs([{"path": path}], {}, STRANGER), path
    (tree.parent / "link").symlink_to("/home/archive")
    assert HOME in needs([{"path": str(tree.parent / "link")}], {}, STRANGER)
    assert HOME in needs([], {"config_path": "/root/rsyncd.conf"}, STRANGER)
    assert needs([{"path": "/homes/archive"}], {}, STRANGER) == []


@pytest.mark.parametrize("uid", ["root", "0", 0])
def test_who_serves_as_root_reads_what_root_reads(uid: object) -> None:
    assert needs([{"uid": uid}], {}, STRANGER) == [SEARCH]
    assert needs([], {"uid": uid}, STRANGER) == [SEARCH]
    assert needs([{"uid": 1000}], {}, STRANGER) == []


@pytest.mark.parametrize("option", ["early_exec", "pre_xfer_exec", "post_xfer_exec"])
def test_what_a_program_looks_at_is_not_known(option: str) -> None:
    assert needs([{"path": "/nonesuch", option: "/usr/bin/true"}], {}, STRANGER) == [HOME, SEARCH]


@pytest.mark.parametrize(
    ("mode", "owner", "group", "granted"),
    [
        (0o700, 0, 9, True),
        (0o077, 0, 0, False),
        (0o070, 9, 0, True),
        (0o707, 9, 0, False),
        (0o007, 9, 9, True),
        (0o770, 9, 9, False),
    ],
)
def test_permissions_count_as_the_kernel_counts_them(mode: int, owner: int, group: int, granted: bool) -> None:
    status = os.stat_result((mode, 0, 0, 0, owner, group, 0, 0, 0, 0))
    assert [is_granted(status, 0, right) for right in (1, 4)] == [granted, granted]
