# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong at a frontend, and what clients notice of a change: nothing. These run before the tour, with the inventory's frontends."""

from __future__ import annotations

from typing import Any

import pytest
from frontends import BEGIN, END, HOSTS, SLOW, UNITS, VARIABLES, everywhere, provision
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
    told = provision(FRONTENDS, rsync_master_modules=[*VARIABLES["rsync_master_modules"], NEW])
    listed = everywhere(hosts, "rsync rsync://localhost/")
    clients = everywhere(hosts, STOP)
    assert told.code == 0, told.output
    for name, host in hosts.items():
        assert "pool" in listed[name].split(), listed
        assert told.changed[name] == 1, told.output
        # Nothing dropped: the number of those that were served is all there is.
        assert int(clients[name]) > 1, (name, clients[name])
        assert host.check_output(SINCE.format(UNITS[FRONTENDS[name]])) == before[name]


LOG = "/var/log/mirrornet-rsyncd/rsyncd.log"
#: Where one more tree is: on one host where only its owner gets to, and who may look past permissions.
KEPT = {"master11": "/srv/kept", "master12": "/srv/kept", "master13": "/home/keeper/tree"}
KEPT_LOG = "/var/log/kept.log"
KEEP = """
install --directory --mode=0700 --owner=games /home/keeper
install --directory /srv/kept /home/keeper/tree
echo kept >/home/keeper/tree/file && cp /home/keeper/tree/file /srv/kept/ && chmod 644 /srv/kept/file /home/keeper/tree/file
"""
#: What a client then sees, and what the log says of it.
SEEN = f"""
set -e
rsync rsync://localhost/ | head --lines=1
rsync --no-motd rsync://localhost/kept/file /tmp/kept && cat /tmp/kept
rsync rsync://localhost/archive/README >/dev/null
timeout 60 sh -c 'until grep --quiet "rsync on archive/README from" {LOG} && grep --quiet "rsync on kept/file from" {KEPT_LOG}; do sleep 0.2; done'
"""
#: The log of that module alone goes on after it was rotated, and so does a listener that may write to it.
ROTATED = f"""
set -e
logrotate --force /etc/logrotate.d/mirrornet-rsyncd
zgrep --quiet kept/file {KEPT_LOG}.1.gz
[ "$(stat --format='%a %U:%G' {KEPT_LOG} {KEPT_LOG}.1.gz | sort --unique)" = '640 root:root' ]
[ ! -s {KEPT_LOG} ]
rsync --no-motd rsync://localhost/kept/file /tmp/kept
timeout 60 sh -c 'until grep --quiet "rsync on kept/file from" {KEPT_LOG}; do sleep 0.2; done'
rm {KEPT_LOG}*
"""
#: What an earlier choice could have left.
LEFT = """
rsync rsync://localhost/ | cut --delimiter=' ' --fields=1 | cut --fields=1
ls /etc/systemd/system/*.d/log.conf /etc/logrotate.d/mirrornet-rsyncd /etc/mirrornet-rsyncd.motd 2>/dev/null || true
cat /etc/rsyncd.motd
"""


def test_a_log_file_a_message_and_a_private_tree_reach_who_comes_next_and_cut_nobody(hosts: dict[str, Host]) -> None:
    before = {name: host.check_output(SINCE.format(UNITS[FRONTENDS[name]])) for name, host in hosts.items()}
    everywhere(hosts, SLOW + KEEP + BEGIN)
    modules = {
        name: [*VARIABLES["rsync_master_modules"], {"name": "kept", "path": path, "log_file": KEPT_LOG}] for name, path in KEPT.items()
    }
    wanted = {"rsync_master_log_file": LOG, "rsync_master_motd": "Welcome.", "rsync_master_modules": "{{ modules[inventory_hostname] }}"}
    try:
        told = provision(FRONTENDS, modules=modules, **wanted)
        assert told.code == 0, told.output
        # Each listener had to be told of the log, and one of the right that its tree takes.
        assert [name for name, host in hosts.items() if host.check_output(SINCE.format(UNITS[FRONTENDS[name]])) == before[name]] == []
        assert everywhere(hosts, SEEN) == dict.fromkeys(hosts, "Welcome.\nkept")
        everywhere(hosts, ROTATED)
        assert everywhere(hosts, END) == dict.fromkeys(hosts, "active\n1")
    finally:
        told = provision(FRONTENDS)
    assert told.code == 0, told.output
    # A message that isn't the role's stays.
    assert everywhere(hosts, LEFT) == dict.fromkeys(hosts, "archive\nclosed\nsomebody else's")


#: Refuses a start with the port 8730, wherever the frontend has it from.
REFUSE = """
cd /etc/systemd/system && mkdir UNIT.d && cat >UNIT.d/broken.conf <<END
[Service]
ExecStartPre=/bin/sh -c '! grep --quiet --no-messages --word-regexp 8730 /etc/systemd/system/UNIT /etc/mirrornet-rsyncd-*inetd.conf'
END
systemctl daemon-reload
"""
#: All that a frontend is started from, and how it is.
STATE = """
sha256sum /etc/rsyncd* /etc/mirrornet-rsyncd* /etc/systemd/system/mirrornet* 2>/dev/null
systemctl is-enabled UNIT
systemctl is-active UNIT
timeout 60 sh -c 'until rsync rsync://localhost/archive/README; do sleep 0.2; done'
"""


def test_a_restart_on_another_port_that_fails_is_undone(hosts: dict[str, Host]) -> None:
    def run(script: str) -> dict[str, str]:
        return {name: host.check_output(script.replace("UNIT", UNITS[FRONTENDS[name]])) for name, host in hosts.items()}

    run(REFUSE)
    before = run(STATE)
    everywhere(hosts, BEGIN)
    try:
        told = provision(FRONTENDS, rsync_master_port=8730)
        assert told.failed == dict.fromkeys(FRONTENDS, 1), told.output
        for name in hosts:
            unit = UNITS[FRONTENDS[name]]
            assert f"{unit} can't serve on {name} by what was put in place there. Unable to restart service {unit}" in told.said, (
                told.output
            )
            assert "`journalctl --unit 'mirrornet-rsyncd*'` there tells more. Until that is mended, it serves as before." in told.said, (
                told.output
            )
        assert run(STATE) == before
        assert everywhere(hosts, END) == dict.fromkeys(hosts, "active\n1")
    finally:
        run("rm --recursive /etc/systemd/system/UNIT.d && systemctl daemon-reload")


#: Clients of the host beside that say nothing, many more than one may have; most of them are turned away.
CROWD = """
systemd-run --quiet --collect --unit=silent python3 -c '
import pathlib, socket, time
held = []
for dummy in range(30):
    try:
        held.append(socket.create_connection(("{next}", 873)))
    except OSError:
        pass
pathlib.Path("/tmp/silent").touch()
time.sleep(3600)'
timeout 60 sh -c 'until [ -e /tmp/silent ]; do sleep 0.2; done'
"""
#: How many of them are held in the end, and what becomes of one more, and of a client from elsewhere.
HELD = """
timeout 60 sh -c 'until [ $(ss --tcp --numeric --no-header state established "sport = :873" | wc --lines) -le 5 ]; do sleep 0.2; done'
ss --tcp --numeric --no-header state established 'sport = :873' | wc --lines
"""
MORE = "refused=0; timeout 60 rsync rsync://{next}/archive/README >/tmp/more 2>&1 || refused=$?; [ $refused -eq 0 ] && echo served || echo refused"
ELSEWHERE = "timeout 60 rsync rsync://{before}/archive/README >/dev/null && echo served"
LIMITED = "systemctl is-active mirrornet-rsyncd-limit.service; nft list table inet mirrornet_rsyncd >/dev/null 2>&1 && echo limited || true"


#: A report that is handed in, and one that is too large and changes nothing. The connection of the one before may still count.
REPORT = """
set -e
export RSYNC_PASSWORD='the password of mirror1'
hand_in() {{
    until rsync $1 rsync://mirror1@localhost/report-mirror1/archive.json 2>/tmp/said; do
        grep --quiet 'max connections' /tmp/said || return 1
        sleep 0.2
    done
}}
echo small >/tmp/small && head --bytes=200000 /dev/urandom >/tmp/large
hand_in /tmp/small
! hand_in /tmp/large
cat /var/lib/mirrornet-reports/mirror1/archive.json
"""
ON_REQUEST: dict[str, Any] = {
    "rsync_master_max_connections_per_source": 5,
    "rsync_master_secrets": [{"name": "mirror1", "password": "the password of mirror1"}],
    "rsync_master_uploads": {"logins": ["mirror1"], "jobs": ["archive"], "file_size": 64},
}


def test_a_limit_for_one_client_and_reports_come_and_go_on_request(hosts: dict[str, Host]) -> None:
    before = {name: host.check_output(SINCE.format(UNITS[FRONTENDS[name]])) for name, host in hosts.items()}
    everywhere(hosts, SLOW + BEGIN)
    predicted = provision(FRONTENDS, "--check", **ON_REQUEST).changes
    told = provision(FRONTENDS, **ON_REQUEST)
    try:
        assert told.code == 0, told.output
        assert predicted == told.changes
        assert everywhere(hosts, END) == dict.fromkeys(hosts, "active\n1")
        told = provision(FRONTENDS, **ON_REQUEST)
        assert told.changed == dict.fromkeys(hosts, 0), told.output
        assert everywhere(hosts, REPORT) == dict.fromkeys(hosts, "small")
        everywhere(hosts, CROWD)
        assert everywhere(hosts, HELD) == dict.fromkeys(hosts, "5")
        assert everywhere(hosts, MORE) == dict.fromkeys(hosts, "refused")
        assert everywhere(hosts, ELSEWHERE) == dict.fromkeys(hosts, "served")
        # xinetd does it itself. Each start and reload of nftables empties all tables.
        for verb in ("restart", "reload"):
            everywhere(hosts, f"systemctl {verb} nftables.service || ! command -v nft")
            assert everywhere(hosts, LIMITED) == {"master11": "active\nlimited", "master12": "inactive", "master13": "active\nlimited"}
    finally:
        everywhere(hosts, "systemctl stop silent; rm --force /tmp/silent")
        told = provision(FRONTENDS)
    assert told.code == 0, told.output
    assert everywhere(hosts, LIMITED) == dict.fromkeys(hosts, "inactive")
    assert [name for name, host in hosts.items() if host.check_output(SINCE.format(UNITS[FRONTENDS[name]])) == before[name]] == []
    everywhere(
        hosts, "! ls /etc/mirrornet-rsyncd-limit.nft /etc/systemd/system/nftables.service.d/*limit* /etc/systemd/system/*limit* 2>/dev/null"
    )


def test_a_listener_that_is_killed_comes_back_and_cuts_nobody(hosts: dict[str, Host]) -> None:
    everywhere(hosts, BEGIN)
    for name, host in hosts.items():
        unit = UNITS[FRONTENDS[name]]
        main = host.check_output("systemctl show --property=MainPID --value %s", unit)
        host.check_output("kill -KILL %s", main)
        host.check_output("timeout 60 sh -c %s", "until rsync rsync://localhost/archive/README; do sleep 0.2; done")
        assert host.check_output("systemctl show --property=MainPID --value %s", unit) not in ("0", main)
    assert everywhere(hosts, END) == dict.fromkeys(hosts, "active\n1")


#: A host, the frontend that it's to get, and what that starts, which fails.
BROKEN = [("master12", "daemon", "mirrornet-rsyncd-daemon.service"), ("master13", "systemd_socket", "mirrornet-rsyncd@.service")]


@pytest.mark.parametrize(("name", "wanted", "unit"), BROKEN)
def test_a_frontend_that_does_not_serve_leaves_the_one_before_as_it_was(hosts: dict[str, Host], name: str, wanted: str, unit: str) -> None:
    host, before = hosts[name], UNITS[FRONTENDS[name]]
    directory = f"/etc/systemd/system/{unit}.d"
    host.check_output("mkdir --parents %s && printf '[Service]\\nExecStartPre=/bin/false\\n' >%s/broken.conf", directory, directory)
    state = host.check_output(STATE.replace("UNIT", before))
    try:
        told = provision({name: wanted})
        assert told.code != 0
        assert f"{UNITS[wanted]} can't serve on {name} by what was put in place there." in told.said, told.output
        assert f"Until that is mended, {before} serves as before." in told.said, told.output
        if wanted == "systemd_socket":
            # It takes connections, and whatever it starts for them dies.
            assert (
                "rsync doesn't greet who connects to 127.0.0.1, port 873, for 30 seconds now: the connection is closed at once."
                in told.said
            )
        assert host.check_output(STATE.replace("UNIT", before)) == state
        assert host.run("systemctl is-active %s", UNITS[wanted]).stdout.strip() == "inactive"
        assert host.run("systemctl is-enabled %s", UNITS[wanted]).rc != 0
        assert host.check_output("systemctl list-units --failed --no-legend") == ""
    finally:
        host.check_output("rm %s/broken.conf && systemctl daemon-reload", directory)
    # The frontend that wasn't to be has left nothing that `auto` would take up.
    told = provision({name: "auto"})
    assert told.changed == {name: 0}, told.output


def test_a_port_and_addresses_that_are_not_to_be_had_are_refused_before_any_change(hosts: dict[str, Host]) -> None:
    everywhere(hosts, "systemd-run --quiet --collect --unit=squatter python3 -m http.server 8730")
    everywhere(hosts, "timeout 60 sh -c 'until ss --listening --tcp --numeric | grep --quiet :8730; do sleep 0.2; done'")
    told = provision(FRONTENDS, rsync_master_port=8730, rsync_master_addresses=["192.0.2.77"])
    everywhere(hosts, "systemctl stop squatter")
    assert "rsync_master_addresses: this host does not have the address '192.0.2.77'" in told.output
    assert "rsync_master_port: port 8730 is in use: squatter.service listens on 0.0.0.0" in told.output
    assert (told.changed, told.failed) == (dict.fromkeys(FRONTENDS, 0), dict.fromkeys(FRONTENDS, 1)), told.output
