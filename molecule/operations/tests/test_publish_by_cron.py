# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing where systemd isn't running, and again where it is: heads go on to come."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from plays import play
from test_operations import serial, wait_for
from testinfra.host import Host

ENTRY, PROGRAM = "/etc/cron.d/mirrornet-publish", "/usr/local/lib/mirrornet/publish"
HEAD = "/srv/archive/.mirrornet/head"
PATIENCE_SECONDS = 240


def provision(host: str) -> None:
    done = play(host)
    assert done.code == 0, done.output


@pytest.fixture
def without_systemd(hosts: dict[str, Host]) -> Iterator[Host]:
    """A host that looks as if something else were process 1, see sd_booted(3)."""
    host = hosts["master1"]
    # What systemd holds would be in the way of whatever serves there.
    host.check_output("systemctl stop mirrornet-publish-archive.timer mirrornet-publish-archive.service mirrornet-rsyncd.socket")
    host.check_output("mv /run/systemd/system /run/systemd/system.away")
    yield host
    if host.file("/run/systemd/system.away").exists:
        host.check_output("mv /run/systemd/system.away /run/systemd/system")


def test_cron_publishes_as_long_as_systemd_does_not_run(without_systemd: Host) -> None:
    host = without_systemd
    provision("master1")
    assert f"* * * * root {PROGRAM} archive\n" in host.file(ENTRY).content_string
    # From here on cron does it: nobody calls anything.
    host.check_output("pgrep --exact cron || cron")
    before = host.check_output("head -n 1 %s", HEAD)
    host.check_output("echo new >/srv/archive/by-cron")
    wait_for(host, f"! head -n 1 {HEAD} | grep -qF %s" % shlex.quote(before), PATIENCE_SECONDS)
    assert serial(host.check_output("cat %s", HEAD)) > serial(before)
    # Signed, by a copy of the key that went with the call.
    assert "BEGIN SSH SIGNATURE" in host.file(HEAD).content_string
    wait_for(host, "! test -e /run/mirrornet-publish-archive")
    assert host.file(HEAD).user == "nobody"

    host.check_output("mv /run/systemd/system.away /run/systemd/system")
    provision("master1")
    assert not host.file(ENTRY).exists
    assert not host.file(PROGRAM).exists
    assert host.service("mirrornet-publish-archive.timer").is_running
