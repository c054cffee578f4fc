# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A test host is a whole, fresh, ordinary Debian."""

from __future__ import annotations

import pytest
from testinfra.host import Host


def test_systemd_has_started_everything(host: Host) -> None:
    assert host.check_output("systemctl is-system-running") == "running"


@pytest.mark.parametrize("command", ["rsync", "crontab"])
def test_what_roles_install_is_not_there_yet(host: Host, command: str) -> None:
    assert not host.exists(command)


def test_hosts_know_each_other_by_their_names(host: Host, hosts: dict[str, Host]) -> None:
    for name, other in hosts.items():
        addresses = other.check_output("hostname --all-ip-addresses").split()
        assert host.check_output("getent ahostsv4 %s", name).split()[0] in addresses


def test_the_playbook_reached_the_host_that_it_named(host: Host) -> None:
    assert host.file("/etc/motd").content_string == f"This is {host.check_output('hostname')}.\n"


@pytest.mark.on("debian11")
def test_a_marker_chooses_hosts(host: Host) -> None:
    assert host.system_info.codename == "bullseye"
