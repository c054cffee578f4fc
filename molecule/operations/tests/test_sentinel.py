# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree that isn't whole is closed to everybody, so that also a mirror by hand keeps its files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testinfra.host import Host

TREE = "/srv/guarded"
PULL = "rsync --recursive --times --delete rsync://localhost/guarded/ /root/copy/"

WAYS = [
    # what is done to the tree, what undoes it, what the client is told
    # Until the connection that was told has ended, the mount is busy.
    (
        f"mount -t tmpfs none {TREE}",
        f"timeout 60 sh -c 'until umount {TREE}; do sleep 0.2; done'",
        "its tree is not mounted or not complete (.here is missing)",
    ),
    (
        f"mkdir /root/kept && mv {TREE}/.here {TREE}/file /root/kept",
        f"mv /root/kept/.here /root/kept/file {TREE} && rmdir /root/kept",
        ".here is missing",
    ),
    (f"mv {TREE} {TREE}.away", f"mv {TREE}.away {TREE}", ""),
    ("touch /srv/rebuilding", "rm /srv/rebuilding", "its tree is being rebuilt"),
    ("ln -s /nowhere /srv/rebuilding", "rm /srv/rebuilding", "its tree is being rebuilt"),
]


@pytest.fixture(params=WAYS, ids=[way[0] for way in WAYS])
def told(request: pytest.FixtureRequest, host: Host) -> Iterator[str]:
    """What a client is told while the tree is away; before and after, it gets the tree."""
    breaks, mends, words = request.param
    host.check_output(PULL)
    host.check_output(breaks)
    try:
        yield words
    finally:
        host.check_output(mends)
    host.check_output(PULL)


def test_the_role_made_the_sentinel_and_the_check(host: Host) -> None:
    assert host.file(f"{TREE}/.here").exists
    assert host.file("/usr/local/lib/mirrornet/rsyncd-sentinel").mode == 0o755


def test_a_tree_that_is_away_deletes_nothing(host: Host, told: str) -> None:
    done = host.run(PULL)
    assert done.rc != 0
    assert told in done.stdout + done.stderr
    assert sorted(host.check_output("ls -A /root/copy").split()) == [".here", "file"]
    # The other trees are not concerned.
    assert host.run("rsync rsync://localhost/archive/file /tmp/").rc == 0
