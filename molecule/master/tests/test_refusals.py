# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mistakes are refused together, by name, and before anything changes. tests/unit/test_rsyncd.py has all that are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from plays import inventory, play
from testinfra.host import Host

HOST = "master12"
MODULES = inventory()["masters"]["vars"]["rsync_master_modules"]
ARCHIVE = {"name": "archive", "path": "/srv/archive"}

# Many at once: a misspelt variable, and modules wrong in themselves, with each other, and for this host.
MISTAKES: dict[str, Any] = {
    "rsync_master_modlues": [],
    "rsync_master_max_connections": 0,
    "rsync_master_uid": "no-such-user",
    "rsync_master_port": 8730,
    "rsync_master_sign_key": "ssh-ed25519 AAAA its public half",
    "rsync_master_addresses": ["192.0.2.77"],
    "rsync_master_config_path": "/srv/gone/rsyncd.conf",
    "rsync_master_modules": [
        ARCHIVE,
        {**ARCHIVE, "hosts_alow": ["192.0.2.7"]},
        {"name": "gone", "path": "/srv/gone", "gid": "no-such-group"},
        {"name": "file", "path": "/srv/archive/README"},
        {"name": "line", "path": "/srv/archive", "comment": "one\nread only = no"},
        "text",
    ],
}
MESSAGES = [
    "has 14 problems; nothing was changed",
    "rsync_master_modlues: there is no such variable. Did you mean 'rsync_master_modules'?",
    "rsync_master_max_connections: 0 is out of range. Give a number from 1 to 65535.",
    "rsync_master_uid: there is no user 'no-such-user' on this host.",
    "rsync_master_port: port 8730 is in use: squatter.service listens on 0.0.0.0.",
    "rsync_master_addresses: this host does not have the address '192.0.2.77'.",
    "rsync_master_config_path: the directory '/srv/gone' does not exist.",
    "rsync_master_sign_key: it is not a private key. Give what is in the private key's file",
    "module 'archive' (item 2): unknown option 'hosts_alow'. Did you mean 'hosts_allow'?",
    "module 'archive' (item 2): name: module 'archive' (item 1) has this name already",
    "module 'gone' (item 3): path: '/srv/gone' does not exist.",
    "module 'gone' (item 3): gid: there is no group 'no-such-group' on this host.",
    "module 'file' (item 4): path: '/srv/archive/README' is not a directory.",
    "module 'line' (item 5): comment: 'one\\nread only = no' holds a line end",
    "module without a name (item 6): 'text' is not a dictionary.",
]


@pytest.fixture
def squatter(hosts: dict[str, Host]) -> Iterator[None]:
    """Another program on port 8730."""
    hosts[HOST].check_output("systemd-run --quiet --collect --unit=squatter python3 -m http.server 8730")
    hosts[HOST].check_output("timeout 60 sh -c 'until ss --listening --tcp --numeric | grep -q :8730; do sleep 0.2; done'")
    yield
    hosts[HOST].check_output("systemctl stop squatter")


def state(host: Host) -> str:
    """All that the role writes, and since when the socket listens."""
    return host.check_output(
        "sha256sum /etc/rsyncd.conf /etc/systemd/system/mirrornet-rsyncd* /etc/systemd/system/rsync.service.d/*"
        " && systemctl show --property=ActiveEnterTimestamp mirrornet-rsyncd.socket"
    )


@pytest.mark.usefixtures("squatter")
def test_mistakes_are_refused_together_and_before_anything_changes(hosts: dict[str, Host]) -> None:
    before = state(hosts[HOST])
    result = play(HOST, **MISTAKES)
    assert result.code != 0
    assert (result.changed, result.failed) == ({HOST: 0}, {HOST: 1})
    assert [message for message in MESSAGES if message not in result.output] == [], result.output
    assert state(hosts[HOST]) == before


def test_wrong_types_and_choices_are_refused_by_the_variable_s_name(hosts: dict[str, Host]) -> None:
    result = play(HOST, rsync_master_frontend="tcpd", rsync_master_timeout="never")
    assert (result.changed, result.failed) == ({HOST: 0}, {HOST: 1})
    assert "value of rsync_master_frontend must be one of: systemd_socket, daemon, inetd, xinetd, auto, got: tcpd" in result.output
    assert "rsync_master_timeout" in result.output


def test_what_rsync_itself_complains_about_is_refused_on_the_host(hosts: dict[str, Host]) -> None:
    # The check knows nothing wrong with it, so the rendered file has to have it: a template with a mistake.
    result = play(HOST, __rsync_master_candidate="[archive]\nhosts alow = 192.0.2.7\n")
    assert result.changed == {HOST: 0}
    assert 'rsyncd.conf: rsync says: Unknown Parameter encountered: "hosts alow".' in result.output


def test_the_modules_of_the_scenario_are_still_right() -> None:
    # Guards the tests above: with nothing wrong, nothing is refused.
    result = play(HOST, "--check", rsync_master_modules=MODULES)
    assert (result.code, result.changed) == (0, {HOST: 0}), result.output
