# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong at a frontend, and what clients notice of a change: nothing. These run before the tour, with the inventory's frontends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plays import HOSTS, UNITS, VARIABLES, everywhere, play
from testinfra.host import Host

FRONTENDS = {name: told["rsync_master_frontend"] for name, told in HOSTS.items()}
NEW = {"name": "pool", "path": "/srv/archive/pool"}

#: Clients one after the other, until they are told to stop. What one of them could not get is written down.
LOOP = """
systemd-run --quiet --collect --unit=clients sh -c '
    : >/tmp/clients.served; : >/tmp/clients.dropped
    while [ ! -e /tmp/clients.stop ]; do
        if said=$(rsync rsync://localhost/archive/pool/package 2>&1); then echo >>/tmp/clients.served; else echo "$said" >>/tmp/clients.dropped; fi
    done'
timeout 60 sh -c 'until [ -s /tmp/clients.served ]; do sleep 0.1; done'
"""
STOP = """
touch /tmp/clients.stop
timeout 60 sh -c 'while systemctl --quiet is-active clients; do sleep 0.1; done'
cat /tmp/clients.dropped; wc --lines </tmp/clients.served; rm /tmp/clients.*
"""
SINCE = "systemctl show --property=ActiveEnterTimestampMonotonic --value {}"


def test_a_new_module_reaches_service_without_one_dropped_connection(hosts: dict[str, Host]) -> None:
    before = {name: host.check_output(SINCE.format(UNITS[FRONTENDS[name]])) for name, host in hosts.items()}
    everywhere(hosts, LOOP)
    told = play(FRONTENDS, rsync_master_modules=[*VARIABLES["rsync_master_modules"], NEW])
    listed = everywhere(hosts, "rsync rsync://localhost/")
    clients = everywhere(hosts, STOP)
    assert told.code == 0, told.output
    for name, host in hosts.items():
        assert "pool" in listed[name].split(), listed
        assert told.recap[name]["changed"] == 1, told.output
        # Nothing dropped: the number of those that were served is all there is.
        assert int(clients[name]) > 1, (name, clients[name])
        assert host.check_output(SINCE.format(UNITS[FRONTENDS[name]])) == before[name]


@pytest.fixture
def broken(hosts: dict[str, Host]) -> Iterator[Host]:
    """A host on which the frontend `daemon` can't be started."""
    host = hosts["master12"]
    directory = "/etc/systemd/system/mirrornet-rsyncd-daemon.service.d"
    host.check_output("mkdir %s && printf '[Service]\\nExecStartPre=/bin/false\\n' >%s/broken.conf", directory, directory)
    yield host
    host.check_output("rm --recursive %s && systemctl daemon-reload", directory)


def test_a_frontend_that_does_not_start_leaves_the_one_before_serving(broken: Host) -> None:
    told = play({"master12": "daemon"})
    assert told.code != 0
    assert "mirrornet-rsyncd-daemon.service was started on master12, and nothing answers on port 873" in told.output
    assert "Until that is mended, mirrornet-rsyncd-xinetd.service serves as before." in told.output
    assert broken.check_output("rsync rsync://localhost/archive/README | wc --lines") == "1"
    assert not broken.service(UNITS["daemon"]).is_running
    assert not broken.service(UNITS["daemon"]).is_enabled
    assert broken.check_output("systemctl list-units --failed --no-legend") == ""
    assert broken.service(UNITS["xinetd"]).is_running
    assert broken.service(UNITS["xinetd"]).is_enabled


def test_a_port_and_addresses_that_are_not_to_be_had_are_refused_before_any_change(hosts: dict[str, Host]) -> None:
    everywhere(hosts, "systemd-run --quiet --collect --unit=squatter python3 -m http.server 8730")
    everywhere(hosts, "timeout 60 sh -c 'until ss --listening --tcp --numeric | grep --quiet :8730; do sleep 0.2; done'")
    told = play(FRONTENDS, rsync_master_port=8730, rsync_master_addresses=["192.0.2.77"])
    everywhere(hosts, "systemctl stop squatter")
    assert "rsync_master_addresses: this host does not have the address '192.0.2.77'" in told.output
    assert "rsync_master_port: port 8730 is in use: squatter.service listens on 0.0.0.0" in told.output
    assert {(figures["changed"], figures["failed"]) for figures in told.recap.values()} == {(0, 1)}, told.output
