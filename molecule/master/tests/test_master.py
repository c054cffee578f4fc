# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients get from a master, and what they don't."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

SOCKET = "mirrornet-rsyncd.socket"
CONFIG = "/etc/rsyncd.conf"


def neighbour(host: Host, hosts: dict[str, Host]) -> Host:
    """Another master of the scenario, to look at HOST from outside."""
    names = sorted(hosts)
    return hosts[names[(names.index(host.check_output("hostname")) + 1) % len(names)]]


def url(host: Host, path: str = "") -> str:
    return f"rsync://{host.check_output('hostname')}/{path}"


def test_a_client_elsewhere_sees_the_modules_that_are_listed(host: Host, hosts: dict[str, Host]) -> None:
    listed = neighbour(host, hosts).check_output("rsync %s", url(host))
    assert [line.split()[0] for line in listed.splitlines()] == ["archive", "closed", "members", "incoming"]
    assert 'The archive, "all of it" (100 %)' in listed


def test_a_file_arrives_over_ipv4_and_ipv6(host: Host, hosts: dict[str, Host]) -> None:
    client = neighbour(host, hosts)
    assert client.check_output("rsync %s /tmp/fetched && cat /tmp/fetched", url(host, "archive/pool/package")) == "pool/package"
    assert host.check_output("rsync 'rsync://[::1]/archive/README' /tmp/fetched && cat /tmp/fetched") == "README"


def test_half_arrived_and_excluded_files_are_not_served(host: Host) -> None:
    names = host.check_output("rsync --recursive --list-only rsync://localhost/archive/ | awk '{print $NF}'").split()
    assert sorted(names) == [".", "README", "pool", "pool/package"]
    assert host.run("rsync rsync://localhost/archive/keys.secret /tmp/").rc == 23


def test_a_read_only_module_refuses_to_be_written(host: Host) -> None:
    result = host.run("rsync /etc/hostname rsync://localhost/archive/intruder")
    assert result.rc != 0
    assert "module is read only" in result.stderr
    assert not host.file("/srv/archive/intruder").exists


def test_a_client_that_is_not_allowed_is_refused(host: Host, hosts: dict[str, Host]) -> None:
    result = neighbour(host, hosts).run("rsync %s", url(host, "closed/"))
    assert result.rc == 5
    assert "access denied" in result.stderr


def test_a_write_only_module_takes_files_as_its_own_account_and_gives_none(host: Host, hosts: dict[str, Host]) -> None:
    for source in ("/etc/hostname", "/etc/hosts"):
        # The second time it is an update, which takes other ways through rsync, and through the kernel's.
        assert host.run("rsync %s rsync://localhost/incoming/report", source).stderr == ""
    assert host.file("/srv/incoming box/report").user == "games"
    assert host.file("/srv/incoming box/report").content == host.file("/etc/hosts").content
    read = host.run("rsync rsync://localhost/incoming/report /tmp/")
    assert "module is write only" in read.stderr
    assert neighbour(host, hosts).run("rsync /etc/hostname %s", url(host, "incoming/report")).rc == 5


def test_an_option_that_is_refused_says_so(host: Host) -> None:
    result = host.run("rsync --checksum --dry-run rsync://localhost/archive/README /tmp/")
    assert result.rc != 0
    assert "refuse" in result.stderr


LOGINS = [
    ("mirror1", "the password of mirror1", 0),
    # The same mirror after its change of password: both are taken until the old one is removed.
    ("mirror1.next", "the next password of mirror1", 0),
    ("mirror1", "the next password of mirror1", 5),
    ("mirror3", "the password of mirror3", 5),
    ("nobody", "", 5),
]


@pytest.mark.parametrize(("name", "password", "code"), LOGINS)
def test_logins(host: Host, hosts: dict[str, Host], name: str, password: str, code: int) -> None:
    # From a neighbour, which is admitted as a member of the inventory's group.
    path = f"rsync://{name}@{host.check_output('hostname')}/members/README"
    result = neighbour(host, hosts).run("RSYNC_PASSWORD=%s rsync %s /tmp/fetched", password, path)
    assert result.rc == code, result.stderr


def test_passwords_are_for_root_alone_and_in_no_log(host: Host) -> None:
    assert host.check_output("stat --format='%a %U' /etc/rsyncd.secrets.d /etc/rsyncd.secrets.d/members") == "700 root\n600 root"
    assert host.run("journalctl --no-pager | grep -q 'password of mirror'").rc == 1
    assert "password of mirror" not in host.file(CONFIG).content_string


def test_a_module_has_its_own_log_and_filter(host: Host) -> None:
    login = "RSYNC_PASSWORD='the password of mirror1' rsync rsync://mirror1@localhost/members/"
    assert "keys.secret" not in host.check_output(login)
    host.check_output(login + "README /tmp/fetched")
    assert "send members mirror1 README" in host.file("/var/log/rsync-members.log").content_string


# Clients that hold a place until the timeout: one that says nothing, and one that has chosen a module and then says nothing.
# A connection that is just ending still counts: who is turned away for it comes again.
CONNECT = "exec 3<>/dev/tcp/127.0.0.1/873"
SILENT = f"until {CONNECT} && read -r <&3; do sleep 0.2; done; sleep infinity"
HOLD = f"until {CONNECT} && printf '@RSYNCD: 31.0\\n%s\\n' {{module}} >&3 && grep -q '^@RSYNCD: OK' <&3; do sleep 0.2; done; sleep infinity"


@pytest.fixture
def held(host: Host):
    """Starts silent clients, and ends them after the test."""

    def start(module: str) -> None:
        host.check_output("systemd-run --quiet --collect --unit=silent-%s bash -c %s", module, HOLD.format(module=module))

    yield start
    host.run("systemctl stop 'silent-*'")
    host.run("systemctl stop 'mirrornet-rsyncd@*'")


def wait_for(host: Host, shell: str) -> None:
    host.check_output("timeout 60 sh -c %s", f"until {shell}; do sleep 0.2; done")


def test_a_module_s_limit_of_connections_holds_and_leaves_other_modules_alone(host: Host, held) -> None:
    held("crowded")
    wait_for(host, "rsync rsync://localhost/crowded/ 2>&1 | grep -q 'max connections (1) reached'")
    assert host.run("rsync rsync://localhost/archive/").rc == 0


def test_one_client_cannot_hold_all_connections(host: Host, hosts: dict[str, Host], held) -> None:
    for client in range(4):
        host.check_output("systemd-run --quiet --collect --unit=%s bash -c %s", f"silent-{client}", SILENT)
    wait_for(host, "! rsync rsync://127.0.0.1/archive/README >/dev/null 2>&1")
    assert neighbour(host, hosts).run("rsync %s", url(host, "archive/README")).rc == 0


def test_connections_are_confined_as_well_as_ok(host: Host) -> None:
    shown = host.check_output("systemd-analyze security --no-pager mirrornet-rsyncd@test.service")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", shown)
    assert found, shown
    assert float(found.group(1)) <= 2.0


def test_a_connection_runs_as_an_account_that_owns_nothing_and_without_rights(host: Host, held) -> None:
    # A directory listing that never ends would be one way; a client that stops reading is another.
    host.check_output("head -c 300M /dev/zero >/srv/archive/big && chmod 644 /srv/archive/big")
    host.check_output("systemd-run --quiet --collect --unit=silent-slow rsync --bwlimit=10 rsync://localhost/archive/big /tmp/big")
    wait_for(host, "pgrep --exact --euid nobody rsync >/dev/null")
    process = host.check_output("pgrep --exact --euid nobody --oldest rsync")
    status = host.check_output("cat /proc/%s/status", process)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert host.check_output("readlink /proc/%s/root", process) == "/srv/archive"
    host.check_output("systemctl stop silent-slow; rm /srv/archive/big")


def test_transfers_are_in_the_journal(host: Host) -> None:
    host.check_output("rsync rsync://localhost/archive/README /tmp/")
    wait_for(host, "journalctl --no-pager --unit='mirrornet-rsyncd@*' | grep -q 'send .* archive .* README'")


def test_a_client_that_hangs_up_leaves_no_failed_unit(host: Host) -> None:
    host.check_output("bash -c 'exec 3<>/dev/tcp/localhost/873; echo nonsense >&3'")
    wait_for(host, "! systemctl list-units --no-legend 'mirrornet-rsyncd@*' | grep -q .")
    assert host.check_output("systemctl list-units --failed --no-legend") == ""


def test_the_distribution_s_own_service_cannot_take_the_port(host: Host) -> None:
    host.check_output("systemctl start rsync.service")
    assert not host.service("rsync.service").is_running
    assert "mirrornet-rsyncd.socket" in host.check_output("systemctl cat rsync.service")


def test_the_socket_comes_back_at_boot(host: Host) -> None:
    assert host.service(SOCKET).is_enabled
    assert host.service(SOCKET).is_running


def test_the_configuration_is_root_s_and_readable(host: Host) -> None:
    config = host.file(CONFIG)
    assert (config.user, config.group, config.mode) == ("root", "root", 0o644)
    assert "use chroot = yes" in config.content_string
