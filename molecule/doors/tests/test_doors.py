# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door with TLS: who gets in by it, and who doesn't."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host

AUTHORITY = "/etc/ssl/authority.pem"
CLIENT = f"RSYNC_SSL_TYPE=openssl RSYNC_SSL_CA_CERT={AUTHORITY} rsync-ssl"
MASTERS = ("master1", "master2", "master3")
OTHERS = {"master1": "master2", "master2": "master3", "master3": "master1"}
PROXIED = "/run/mirrornet-rsyncd-proxied.sock"

# ADDRESS PORT NAME TEXT: connects, with TLS if there is a NAME to verify, says TEXT, and prints what is answered, up to the verdict on a module.
SPEAK = """
import socket, ssl, sys
address, port, name, text = sys.argv[1:]
door = socket.create_connection((address, int(port)), 60)
if name:
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations("/etc/ssl/authority.pem")
    door = trust.wrap_socket(door, server_hostname=name)
door.sendall(text.encode())
said = b""
while b"@RSYNCD: OK" not in said and b"@ERROR" not in said and b"@RSYNCD: EXIT" not in said:
    try:
        more = door.recv(4096)
    except OSError:
        # Who hangs up before it has read everything resets the connection.
        break
    if not more:
        break
    said += more
print(said.decode())
"""


def name(host: Host) -> str:
    return host.check_output("hostname")


def speak(host: Host, address: str, port: int, verified: str, text: str) -> str:
    return host.check_output("timeout 60 python3 -c %s %s %s %s %s", SPEAK, address, str(port), verified, text)


def wait_for(host: Host, shell: str) -> None:
    host.check_output("timeout 60 sh -c %s", f"until {shell}; do sleep 0.2; done")


@pytest.mark.on("mirrors")
def test_a_mirror_pulls_with_tls(host: Host, hosts: dict[str, Host]) -> None:
    hosts["master1"].check_output("date +%%N >/srv/docs/now")
    host.check_output("runuser -u mirrornet -- mirrornet --config-dir=/etc/mirrornet --state-dir=/var/lib/mirrornet pull docs")
    assert host.file("/srv/mirror/docs/now").content == hosts["master1"].file("/srv/docs/now").content
    assert json.loads(host.file("/srv/mirror/docs/.mirrornet/report.json").content_string)["source"] == "rsyncs://master1/docs/"


@pytest.mark.parametrize("master", MASTERS)
def test_every_release_s_client_gets_files_from_every_release_s_master(host: Host, master: str) -> None:
    host.check_output(f"{CLIENT} rsync://{master}/docs/README /tmp/fetched")
    assert host.file("/tmp/fetched").content_string == f"Read me on {master}\n"


@pytest.mark.on("masters")
def test_who_may_connect_is_decided_by_the_client_s_own_address(host: Host, hosts: dict[str, Host]) -> None:
    # This module is for the inventory's mirrors alone.
    url = f"rsync://{name(host)}/mirrors/README"
    assert hosts["mirror1"].run(f"{CLIENT} {url} /tmp/fetched").rc == 0
    for stranger in (host, hosts[OTHERS[name(host)]]):
        refused = stranger.run(f"{CLIENT} {url} /tmp/fetched")
        assert (refused.rc, "access denied to mirrors" in refused.stdout + refused.stderr) == (5, True), refused.stderr


@pytest.mark.on("masters")
def test_nobody_can_claim_another_address(host: Host, hosts: dict[str, Host]) -> None:
    master, stranger = name(host), hosts[OTHERS[name(host)]]
    theirs = stranger.check_output("getent hosts mirror1").split()[0]
    ours = stranger.check_output(f"getent hosts {master}").split()[0]
    claim, request = f"PROXY TCP4 {theirs} {ours} 40000 874\r\n", "@RSYNCD: 31.0\nmirrors\n"
    # What the mirror itself is told shows that the claim would be worth making.
    assert "@RSYNCD: OK" in speak(hosts["mirror1"], master, 874, master, request)
    for port, verified in ((874, master), (873, "")):
        assert "access denied to mirrors" in speak(stranger, master, port, verified, request)
        assert "@RSYNCD: OK" not in speak(stranger, master, port, verified, claim + request)
    # Accounts of the host can't say a word to the rsync behind stunnel, which would believe them.
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect('{PROXIED}')"
    assert "PermissionError" in host.run("runuser -u nobody -- python3 -c %s", connect).stderr
    assert host.run("python3 -c %s", connect).rc == 0
    assert host.check_output("stat --format='%%a %%U' %s", PROXIED) == "600 mirrornet-tls"


@pytest.mark.on("masters")
def test_ipv6_clients_are_served_under_their_address(host: Host) -> None:
    assert "docs" in speak(host, "::1", 874, name(host), "@RSYNCD: 31.0\n#list\n")
    wait_for(host, "journalctl --identifier=rsyncd | grep -q 'module-list request from .*(::1)'")


@pytest.mark.on("masters")
def test_old_versions_of_tls_are_refused(host: Host) -> None:
    connect = f"openssl s_client -connect {name(host)}:874 -CAfile {AUTHORITY} -verify_return_error </dev/null -cipher ALL:@SECLEVEL=0"
    assert host.run(f"{connect} -tls1_2").rc == 0
    refused = host.run(f"{connect} -tls1_1")
    assert (refused.rc, "alert protocol version" in refused.stderr) == (1, True), refused.stderr


@pytest.mark.on("masters")
def test_logins_and_the_sentinel_work_here_as_well(host: Host, hosts: dict[str, Host]) -> None:
    client, master = hosts["mirror1"], name(host)
    login = f"{CLIENT} rsync://friend@{master}/friends/README /tmp/fetched"
    assert client.run(f"RSYNC_PASSWORD='of the house and 24 letters' {login}").rc == 0
    assert client.run(f"RSYNC_PASSWORD=wrong {login}").rc == 5
    host.check_output("touch /var/lib/docs.rebuilding")
    try:
        closed = client.run(f"{CLIENT} rsync://{master}/docs/README /tmp/fetched")
    finally:
        host.check_output("rm /var/lib/docs.rebuilding")
    assert (closed.rc == 0, "docs is closed for now" in closed.stdout + closed.stderr) == (False, True), closed.stderr
    assert client.run(f"{CLIENT} rsync://{master}/docs/README /tmp/fetched").rc == 0


@pytest.mark.on("masters")
@pytest.mark.parametrize("unit", ["mirrornet-rsyncd-tls@x.service", "mirrornet-rsyncd-proxied@x.service"])
def test_connections_are_confined_better_than_ok(host: Host, unit: str) -> None:
    verdict = host.check_output("systemd-analyze security --no-pager %s", unit).splitlines()[-1]
    assert float(verdict.partition(":")[2].split()[0]) <= 2.0, verdict


@pytest.mark.on("masters")
def test_clients_that_hang_up_leave_nothing_behind(host: Host) -> None:
    for said in ("", "GET / HTTP/1.0\r\n\r\n"):
        host.check_output("bash -c %s", f"exec 3<>/dev/tcp/localhost/874 && printf %s '{said}' >&3")
    speak(host, "::1", 874, name(host), "nonsense\n")
    wait_for(host, "! systemctl list-units --all --no-legend 'mirrornet-rsyncd-tls@*' 'mirrornet-rsyncd-proxied@*' | grep .")


@pytest.mark.on("masters")
def test_the_key_is_not_readable_by_what_speaks_to_clients(host: Host) -> None:
    assert host.run("runuser -u mirrornet-tls -- cat /etc/mirrornet-rsyncd/key.pem").rc != 0
    client = "exec 3<>/dev/tcp/localhost/874; sleep 60"
    host.check_output("systemd-run --quiet --collect --unit=silent bash -c %s", client)
    try:
        wait_for(host, "pgrep --exact --euid mirrornet-tls stunnel4 || pgrep --exact --euid mirrornet-tls stunnel")
        process = host.check_output("pgrep --euid mirrornet-tls stunnel")
        rights = [line for line in host.file(f"/proc/{process}/status").content_string.splitlines() if line.startswith("CapEff")]
        assert rights == ["CapEff:\t0000000000000000"]
    finally:
        host.check_output("systemctl stop silent.service")
