# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From any frontend to any other: one play each, and nobody who is being served notices."""

from __future__ import annotations

from frontends import BEGIN, END, FTPSYNC, HOSTS, SLOW, UNITS, everywhere, provision
from testinfra.host import Host

#: Every change between two of them once, and back to where it began; superservers, which are installed in place of each other, change rarely.
TOUR = (
    "inetd", "systemd_socket", "daemon", "inetd", "daemon", "systemd_socket",
    "inetd", "xinetd", "systemd_socket", "xinetd", "daemon", "xinetd",
)  # fmt: skip
#: Where in it each host is after the scenario's own play: its inventory's frontend, and the other three soon after it.
ENTRY = {"master11": 6, "master12": 11, "master13": 4}

#: On each host at each stop: that it serves over IPv6, refuses who isn't admitted, and pulls from all hosts as their names say, over IPv4.
#: What it prints is compared with what is expected. A process that was just started for a client may listen too, for a moment.
LOOK = """
set -e
rm --recursive --force /tmp/pulled && mkdir /tmp/pulled
rsync 'rsync://[::1]/archive/README' /tmp/pulled/README && cmp /tmp/pulled/README /srv/archive/README
for master in MASTERS; do
    rsync --archive rsync://$master/archive/pool/ /tmp/pulled/$master
    cmp /tmp/pulled/$master/package /srv/archive/pool/package
done
refused=0; rsync rsync://localhost/closed/ 2>/dev/null || refused=$?; echo "closed: $refused"
for unit in UNITS; do
    ! systemctl --quiet is-active $unit || {{ echo "active: $unit"; active=$unit; }}
    ! systemctl --quiet is-enabled $unit 2>/dev/null || echo "enabled: $unit"
done
listening() {{ ss --listening --tcp --numeric --processes --no-header 'sport = :873' | grep --only-matching 'pid=[0-9]*' | sort --unique | wc --lines; }}
for dummy in $(seq 300); do [ "$(listening)" != 1 ] || break; sleep 0.2; done
echo "listening: $(listening)"
echo "failed: $(systemctl list-units --failed --plain --no-legend)"
systemd-analyze security --no-pager $(echo $active | sed s/rsyncd.socket/rsyncd@x.service/) | grep --only-matching 'level for .*: [0-9.]*' | sed 's/.*: //'
"""
#: At most so much exposure may `systemd-analyze security` find. The guide says what it consists of.
BOUNDS = {"systemd_socket": 1.5, "daemon": 2.2, "inetd": 2.2, "xinetd": 2.2}

#: A hundred connections to the host beside, on which nothing is ever said. Those that it closes are too many for it.
SILENT = """
systemd-run --quiet --collect --unit=silent python3 -c '
import pathlib, socket, time
held = [socket.create_connection(("{next}", 873)) for dummy in range(100)]
pathlib.Path("/tmp/silent").touch()
time.sleep(3600)'
timeout 180 sh -c 'until [ -e /tmp/silent ]; do sleep 0.2; done'
"""
#: A mirror that is neither the master nor the one that says nothing.
MIRROR = "timeout 60 rsync --archive rsync://{before}/archive/pool/ /tmp/pulled && echo pulled"


def assert_a_hundred_silent_clients_keep_no_mirror_out(hosts: dict[str, Host], chosen: dict[str, str]) -> None:
    everywhere(hosts, SILENT)
    assert everywhere(hosts, MIRROR) == dict.fromkeys(hosts, "pulled"), chosen
    everywhere(hosts, "systemctl stop silent && rm /tmp/silent")


def assert_all_serve(hosts: dict[str, Host], chosen: dict[str, str]) -> None:
    for name, told in everywhere(hosts, LOOK.replace("MASTERS", " ".join(hosts)).replace("UNITS", " ".join(UNITS.values()))).items():
        unit = UNITS[chosen[name]]
        *seen, exposure = told.splitlines()
        # All sockets that listen on the port belong to one process.
        assert seen == ["closed: 5", f"active: {unit}", f"enabled: {unit}", "listening: 1", "failed: "], (name, chosen)
        assert float(exposure) <= BOUNDS[chosen[name]], (name, chosen)


def test_the_tour_has_every_change_once() -> None:
    assert len({(TOUR[step - 1], TOUR[step]) for step in range(12)}) == 12
    assert all(first != second for first, second in zip(TOUR, TOUR[1:]))
    assert {name: TOUR[entry] for name, entry in ENTRY.items()} == {name: told["rsync_master_frontend"] for name, told in HOSTS.items()}


def test_twelve_changes_of_the_frontend(hosts: dict[str, Host]) -> None:
    chosen = {name: TOUR[entry] for name, entry in ENTRY.items()}
    assert_all_serve(hosts, chosen)
    assert_a_hundred_silent_clients_keep_no_mirror_out(hosts, chosen)
    everywhere(hosts, SLOW)
    for step in range(1, 13):
        everywhere(hosts, BEGIN)
        chosen = {name: TOUR[(entry + step) % 12] for name, entry in ENTRY.items()}
        # What check mode says of a change is what the change then does.
        predicted = provision(chosen, "--check").changes if step == 1 else None
        told = provision(chosen)
        assert told.code == 0, told.output
        assert predicted in (None, told.changes)
        for name, said in everywhere(hosts, END).items():
            assert said.splitlines() == ["active", "1"], (step, name, chosen)
        assert_all_serve(hosts, chosen)
        if step == 1:
            # Those that the scenario's own play didn't have are tried as well.
            assert set(chosen.values()) | {TOUR[entry] for entry in ENTRY.values()} == set(UNITS)
            assert_a_hundred_silent_clients_keep_no_mirror_out(hosts, chosen)
            assert everywhere(hosts, FTPSYNC) == dict.fromkeys(hosts, "Mirrorsync done"), chosen
            # A second play changes nothing, and `auto` keeps what the role has set up.
            told = provision(dict.fromkeys(hosts, "auto"))
            assert told.changed == dict.fromkeys(hosts, 0), told.output
            assert_all_serve(hosts, chosen)
    everywhere(hosts, "rm /srv/archive/slow")
