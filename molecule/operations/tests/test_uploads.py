# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports under the confinement of the oldest systemd and of the newest, with rsync's log in the journal and in a file."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from testinfra.backend.base import CommandResult
from testinfra.host import Host

REPORTS = "/srv/reports"
LOG = "/var/log/mirrornet-rsyncd/rsyncd.log"
PATIENCE_SECONDS = 60


@pytest.fixture
def reporter(host: Host) -> Iterator[Host]:
    """A host with reports to hand in, and the passwords for it."""
    host.check_output("mkdir /root/try && cd /root/try && umask 077 && for n in 1 2; do echo the password of mirror$n >mirror$n; done")
    host.check_output("cd /root/try && echo small >small && head -c 200000 /dev/urandom >large")
    yield host
    host.check_output("rm -r /root/try")


def hand_in(host: Host, report: str, login: str = "mirror1") -> CommandResult:
    """Hand in a report at the host's own master."""
    words = f"cd /root/try && rsync --password-file={login} {report} rsync://{login}@localhost/report-mirror1/archive.json"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        done = host.run(words)
        # The one before may not have come to its end.
        if "max connections" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(0.2)


def test_a_report_comes_in_and_stays_small(reporter: Host) -> None:
    if reporter.file(LOG).exists:
        # What limits a report must not limit the log, nor be reached by it.
        reporter.check_output(f"head -c 300000 /dev/zero | tr '\\0' '\\n' >>{LOG}")
    for dummy in range(2):
        assert hand_in(reporter, "small").rc == 0
        assert reporter.file(f"{REPORTS}/mirror1/archive.json").content_string == "small\n"
        assert hand_in(reporter, "large").rc != 0
        sizes = reporter.check_output(f"find {REPORTS} -ignore_readdir_race -type f -printf '%s\\n'").split()
        assert max(map(int, sizes)) <= 64 * 1024
    assert hand_in(reporter, "small").rc == 0
    assert reporter.check_output(f"ls -A {REPORTS}/mirror1") == "archive.json"
    assert hand_in(reporter, "small", "mirror2").rc != 0
    assert reporter.check_output(f"ls -A {REPORTS}/mirror2") == ""


def test_connections_are_confined_as_they_were(host: Host) -> None:
    said = host.check_output("systemd-analyze security --no-pager 'mirrornet-rsyncd@x.service' | tail -n 1")
    assert float(said.split(":")[1].split()[0]) <= 2.0
    writable = host.check_output("systemctl show --property=ReadWritePaths 'mirrornet-rsyncd@x.service'")
    assert f"-{REPORTS}" in writable
    assert "/srv/archive" not in writable
