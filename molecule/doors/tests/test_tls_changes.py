# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that clients would refuse, a new one while clients are served, and the door taken away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plays import play
from testinfra.host import Host

CLIENT = "RSYNC_SSL_TYPE=openssl RSYNC_SSL_CA_CERT=/etc/ssl/authority.pem rsync-ssl"
OURS = "/etc/mirrornet-rsyncd"
#: What TLS alone needs on a master.
FILES = "/etc/mirrornet-rsyncd-[sp]*.conf /etc/systemd/system/mirrornet-rsyncd-[tp]* /etc/systemd/system/*/mirrornet-rsyncd-[tp]*"


def wait_for(host: Host, shell: str) -> None:
    host.check_output("timeout 60 sh -c %s", f"until {shell}; do sleep 0.2; done")


@pytest.fixture
def transfer(hosts: dict[str, Host]) -> Iterator[str]:
    """A transfer from master3 to master2, with TLS, that takes long; gives its unit on master2."""
    hosts["master3"].check_output("head --bytes=50M /dev/zero >/srv/docs/slow && chmod 644 /srv/docs/slow")
    hosts["master2"].check_output(
        "systemd-run --quiet --collect --unit=slow-client sh -c %s",
        f"{CLIENT} --bwlimit=20 rsync://master3/docs/slow /tmp/slow",
    )
    wait_for(hosts["master3"], "pgrep --exact --euid nobody rsync")
    yield "slow-client.service"
    hosts["master2"].run("systemctl stop slow-client; rm --force /tmp/slow /tmp/.slow.*")
    hosts["master3"].check_output("rm /srv/docs/slow")


# What each master is given, what is said of it, and what to do.
EXPIRED = ("expired", "it has expired", "Renew it")
EARLY = ("early", "it is not valid yet", "Check this host's clock, or wait until it is")
MISNAMED = ("misnamed", "it is not for the name 'master3'", "Get one for that name, or correct the name")
MIXED = ("mixed", "belongs to another certificate", "Give the two that were made together")
GONE = ("nonesuch", "is not there", "Put the certificate there, or correct the path")


@pytest.mark.parametrize("given", [(EXPIRED, EARLY, MISNAMED), (MIXED, GONE, EXPIRED)])
def test_what_clients_would_refuse_is_refused_before_anything_changes(
    hosts: dict[str, Host], given: tuple[tuple[str, str, str], ...]
) -> None:
    tried = dict(zip(("master1", "master2", "master3"), given))
    for name, (state, *dummy) in tried.items():
        hosts[name].check_output("ln --symbolic --force --no-dereference /root/certificates/%s /root/tried", state)
    try:
        told = play("masters", rsync_master_tls_certificate="/root/tried/certificate.pem", rsync_master_tls_key="/root/tried/key.pem")
    finally:
        for name in tried:
            hosts[name].check_output("rm /root/tried")
    for name, (dummy, message, remedy) in tried.items():
        assert (told.changed[name], told.failed[name]) == (0, 1), told.output
        said = told.output.partition(f"fatal: [{name}]")[2].partition("fatal: [")[0]
        assert "rsync_master_tls_certificate" in said
        assert message in said
        assert remedy in said


def test_a_renewed_certificate_serves_from_the_next_connection_on(hosts: dict[str, Host], transfer: str) -> None:
    shown = "openssl s_client -connect master3:874 </dev/null 2>/dev/null | openssl x509 -noout -serial"
    before = hosts["master2"].check_output(shown)
    for state in ("renewed", "good"):
        # As clients of an authority do it: the key and the certificate are put in their places, and nobody is told.
        hosts["master3"].check_output(f"cp /root/certificates/{state}/*.pem {OURS}/")
        after = hosts["master2"].check_output(shown)
        assert (after == before) == (state == "good")
        assert hosts["master2"].run(f"{CLIENT} rsync://master3/docs/README /tmp/fetched").rc == 0
        assert hosts["master2"].service(transfer).is_running


#: All that TLS runs by, and how it is.
STATE = f"""
sha256sum {FILES} /etc/rsyncd.conf* 2>/dev/null
systemctl is-active mirrornet-rsyncd-tls.socket mirrornet-rsyncd-proxied.socket
"""


def test_a_change_that_ends_all_connections_is_undone(hosts: dict[str, Host], transfer: str) -> None:
    before = hosts["master3"].check_output(STATE)
    # What is started for each connection dies, while the socket goes on to take them.
    told = play("master3", __rsync_master_tls_program="/bin/false")
    assert told.failed == {"master3": 1}, told.output
    assert "mirrornet-rsyncd-tls.socket can't serve on master3 by what was put in place there." in told.said
    assert "rsync doesn't greet who connects to 127.0.0.1, port 874 with TLS, for 30 seconds now: " in told.said
    assert "Until that is mended, it serves as before. What is served without TLS is not concerned." in told.said
    assert hosts["master3"].check_output(STATE) == before
    assert hosts["mirror1"].run(f"{CLIENT} rsync://master3/docs/README /tmp/fetched").rc == 0
    assert hosts["master2"].service(transfer).is_running
    told = play("master3")
    assert told.changed == {"master3": 0}, told.output


def test_the_plain_door_is_another_one(hosts: dict[str, Host]) -> None:
    hosts["master1"].check_output("systemctl stop mirrornet-rsyncd.socket")
    try:
        assert hosts["mirror1"].run("rsync rsync://master1/").rc == 10
        assert hosts["mirror1"].run(f"{CLIENT} rsync://master1/").rc == 0
    finally:
        hosts["master1"].check_output("systemctl start mirrornet-rsyncd.socket")


def test_a_door_that_is_no_longer_asked_for_is_taken_away(hosts: dict[str, Host], transfer: str) -> None:
    # Seen by the role, systemd isn't running on master2: the directory that sd_booted(3) looks for is elsewhere.
    hosts["master2"].check_output("mv /run/systemd/system /run/systemd/system.away")
    try:
        told = play("master2,master3", rsync_master_tls=False, rsync_master_public_scheme="rsync")
    finally:
        hosts["master2"].check_output("mv /run/systemd/system.away /run/systemd/system")
    assert told.code == 0, told.output
    for name in ("master2", "master3"):
        assert hosts[name].run(f"ls {FILES}").stdout == ""
    assert hosts["master2"].service(transfer).is_running
    master = hosts["master3"]
    assert master.run("ls /run/mirrornet-rsyncd-*").stdout == ""
    assert master.run("ss --listening --numeric --tcp --unix | grep -e ':874 ' -e proxied").rc == 1
    assert hosts["mirror1"].run("rsync rsync://master3/docs/README /tmp/fetched").rc == 0
    hosts["master2"].check_output("systemctl stop %s", transfer)
    wait_for(master, "! systemctl list-units --all --no-legend 'mirrornet-rsyncd-tls*' 'mirrornet-rsyncd-proxied*' | grep .")
    # What a boot does to master2: there is nothing left that would listen.
    hosts["master2"].check_output("systemctl daemon-reload && systemctl stop mirrornet-rsyncd-tls.socket mirrornet-rsyncd-proxied.socket")
    told = play("master2,master3", rsync_master_tls=False, rsync_master_public_scheme="rsync")
    assert told.changed == {"master2": 0, "master3": 0}, told.output
    # And back again.
    assert play("master2,master3").code == 0
    for name in ("master2", "master3"):
        assert hosts["mirror1"].run(f"{CLIENT} rsync://{name}/docs/README /tmp/fetched").rc == 0
