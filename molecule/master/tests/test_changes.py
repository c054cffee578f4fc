# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running master takes changes without cutting anybody off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plays import inventory, play
from testinfra.host import Host

SOCKET = "mirrornet-rsyncd.socket"
MODULES = inventory()["masters"]["vars"]["rsync_master_modules"]


def name(host: Host) -> str:
    return host.check_output("hostname")


def listening_since(host: Host) -> str:
    return host.check_output("systemctl show --property=ActiveEnterTimestampMonotonic --value %s", SOCKET)


@pytest.fixture
def transfer(host: Host) -> Iterator[str]:
    """A client whose transfer takes long; gives its unit."""
    host.check_output("head -c 50M /dev/zero >/srv/archive/slow && chmod 644 /srv/archive/slow")
    host.check_output("systemd-run --quiet --collect --unit=slow-client rsync --bwlimit=20 rsync://localhost/archive/slow /tmp/slow")
    host.check_output("timeout 60 sh -c 'until pgrep --exact --euid nobody rsync; do sleep 0.2; done'")
    yield "slow-client.service"
    host.run("systemctl stop slow-client; rm --force /srv/archive/slow /tmp/slow /tmp/.slow.*")


@pytest.mark.on("master12")
def test_a_new_module_is_served_without_a_restart(host: Host, transfer: str) -> None:
    before = listening_since(host)
    result = play(name(host), rsync_master_modules=[*MODULES, {"name": "pool", "path": "/srv/archive/pool"}])
    assert (result.code, result.changed) == (0, {name(host): 1}), result.output
    assert "pool" in host.check_output("rsync rsync://localhost/").split()
    assert host.service(transfer).is_running
    assert listening_since(host) == before
    # And back again.
    assert play(name(host)).changed == {name(host): 1}
    assert "pool" not in host.check_output("rsync rsync://localhost/").split()
    assert play(name(host)).changed == {name(host): 0}


@pytest.mark.on("master11")
def test_another_port_and_address_do_not_cut_a_running_transfer(host: Host, transfer: str) -> None:
    result = play(name(host), rsync_master_port=8730, rsync_master_addresses=["127.0.0.1", "::1"])
    assert result.code == 0, result.output
    assert host.check_output("rsync rsync://127.0.0.1:8730/") == host.check_output("rsync 'rsync://[::1]:8730/'")
    assert host.run("rsync rsync://localhost/").rc == 10
    assert host.service(transfer).is_running
    assert play(name(host)).code == 0
    assert host.run("rsync rsync://localhost/").rc == 0


#: What connections are started by no longer is an rsync, while the socket goes on to take them.
DEAD = "{{ __rsync_master_platforms.Debian | combine({'rsync': '/bin/false'}) }}"
#: All that the master runs by, with whatever else a play might leave beside it.
FILES = "find /etc/rsyncd* /etc/mirrornet* /etc/systemd/system -name '*rsync*' -type f -exec sha256sum {} + | sort"


@pytest.mark.on("master12")
def test_a_change_that_ends_all_connections_is_undone(host: Host, transfer: str) -> None:
    before, since = host.check_output(FILES), listening_since(host)
    modules = [*MODULES, {"name": "pool", "path": "/srv/archive/pool", "log_file": "/var/log/rsync-pool.log"}]
    result = play(name(host), rsync_master_modules=modules, __rsync_master_platform=DEAD)
    assert result.failed == {name(host): 1}, result.output
    assert (
        f"{SOCKET} can't serve on {name(host)} by what was put in place there. rsync doesn't greet who connects to 127.0.0.1" in result.said
    )
    assert "Until that is mended, it serves as before." in result.said
    assert host.check_output(FILES) == before
    assert host.check_output("rsync rsync://localhost/archive/README | wc --lines") == "1"
    assert host.service(transfer).is_running
    assert listening_since(host) == since
    assert host.check_output("systemctl list-units --failed --no-legend") == ""
    host.check_output("rm /var/log/rsync-pool.log")
    assert play(name(host)).changed == {name(host): 0}


@pytest.mark.on("master12")
def test_a_full_master_takes_a_change(host: Host) -> None:
    # One silent client holds the only connection that there may be, until the play is over.
    assert play(name(host), rsync_master_max_connections=1).code == 0
    try:
        silent = "until exec 3<>/dev/tcp/127.0.0.1/873 && read -t 10 -u 3 greeting; do sleep 0.2; done; touch /tmp/held; sleep 3600"
        host.check_output("systemd-run --quiet --collect --unit=silent bash -c %s", silent)
        host.check_output("timeout 60 sh -c 'until [ -e /tmp/held ]; do sleep 0.2; done'")
        result = play(name(host), rsync_master_max_connections=1, rsync_master_modules=MODULES[:-1])
        assert (result.code, result.changed) == (0, {name(host): 2}), result.output
        assert f"{SOCKET} holds all of its 1 connections, so that it can't be told whether the next client is served" in result.said
    finally:
        host.check_output("systemctl stop silent; rm --force /tmp/held")
        assert play(name(host)).code == 0


@pytest.mark.on("master13")
def test_a_master_set_up_by_hand_is_taken_over(host: Host) -> None:
    # What an operator has who followed the distribution: its own service, on the same port, with the same file.
    host.check_output("systemctl stop %s", SOCKET)
    host.check_output("rm --recursive /etc/systemd/system/mirrornet-rsyncd* /etc/systemd/system/rsync.service.d")
    host.check_output("systemctl daemon-reload && systemctl start rsync.service")
    host.check_output("timeout 60 sh -c 'until rsync rsync://localhost/; do sleep 0.2; done'")
    # If ours can't serve, theirs does so as before.
    host.check_output("sed --in-place '1i# by hand' /etc/rsyncd.conf")
    before = host.check_output(FILES)
    result = play(name(host), __rsync_master_platform=DEAD)
    assert "Until that is mended, rsync.service serves as before." in result.said, result.output
    assert host.service("rsync.service").is_running
    assert host.run("rsync rsync://localhost/").rc == 0
    host.check_output("rm --recursive /etc/systemd/system/rsync.service.d && systemctl daemon-reload")
    assert host.check_output(FILES) == before
    result = play(name(host))
    assert result.code == 0, result.output
    assert not host.service("rsync.service").is_running
    assert host.service(SOCKET).is_running
    assert host.run("rsync rsync://localhost/").rc == 0
    assert play(name(host)).changed == {name(host): 0}


@pytest.mark.on("master12")
def test_a_reboot_brings_ours_and_not_the_distribution_s(host: Host) -> None:
    # What boot does: everything that is enabled is started.
    host.check_output("systemctl stop %s", SOCKET)
    host.check_output("systemctl start sockets.target && systemctl start multi-user.target && systemctl start rsync.service %s", SOCKET)
    assert host.service(SOCKET).is_running
    assert not host.service("rsync.service").is_running


@pytest.mark.on("master12")
def test_where_systemd_is_not_running_the_files_are_made_and_the_rest_is_said(host: Host) -> None:
    # Seen by the role, this host looks like one that is being built: the directory that sd_booted(3) looks for is elsewhere.
    host.check_output("systemctl stop %s && mv /run/systemd/system /run/systemd/system.away", SOCKET)
    try:
        result = play(name(host))
    finally:
        host.check_output("mv /run/systemd/system.away /run/systemd/system && systemctl start %s", SOCKET)
    assert (result.code, result.changed) == (0, {name(host): 0}), result.output
    assert "systemctl enable --now mirrornet-rsyncd.socket" in result.output
