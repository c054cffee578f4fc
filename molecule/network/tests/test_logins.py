# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors that get their logins from their master's variables: nothing is told twice, and no password is seen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plays import play as play_any
from testinfra.host import Host

MIRRORS = ("mirror1", "mirror2")
#: What shows a password, but for the file that it's in.
SPY = "while :; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' >>/root/seen; sleep 0.05; done"


FORMER, NEXT = "mirror1", "mirror1.next"


def play(*logins: str, hosts: str = "master1,mirror1", uses: str) -> str:
    """site.yml with -vvv and --diff: the logins that the master knows for mirror1, and the one that mirror1 uses."""
    variables = {
        "rsync_master_secrets": [{"name": name, "password": f"the password of {name}"} for name in (*logins, "mirror2")],
        "rsync_mirror_login": f"{{{{ '{uses}' if inventory_hostname == '{FORMER}' else '' }}}}",
    }
    told = play_any(hosts, "-vvv", "--diff", **variables)
    assert told.code == 0, told.output
    return told.output


def pulls(host: Host) -> bool:
    done = host.run("mirrornet pull members")
    assert done.rc in (0, 75), done.stdout + done.stderr
    return done.rc == 0


def found(host: Host, words: str, directories: str) -> list[str]:
    """The files in which there are these words. grep(1) fails for those that a run of cron's takes away meanwhile."""
    return host.run(f"grep --recursive --files-with-matches %s {directories}", words).stdout.split()


@pytest.fixture
def spied(hosts: dict[str, Host]) -> Iterator[dict[str, Host]]:
    """All hosts, on which every command line and environment is written down."""
    for host in hosts.values():
        host.check_output("systemd-run --quiet --collect --unit=spy sh -c %s", SPY)
    yield hosts
    for host in hosts.values():
        host.run("systemctl stop spy; rm --force /root/seen")


def test_each_mirror_pulls_by_its_own_login(hosts: dict[str, Host]) -> None:
    for name in MIRRORS:
        assert pulls(hosts[name])
        assert hosts[name].file("/srv/mirror/members/README").content_string == "For members\n"
        held = found(hosts[name], "the [p]assword of mirror", "/etc /var /srv")
        assert sorted(held) == [f"/etc/mirrornet/secrets/{file}" for file in ("members", "members.report", "releases.report")]
        for path in held:
            password = hosts[name].file(path)
            assert (password.user, password.mode, password.content_string) == ("mirrornet", 0o600, f"the password of {name}\n")


def test_a_change_of_a_password_needs_two_plays_and_stops_no_pull(spied: dict[str, Host]) -> None:
    # The first play, of which the master has its part before mirrors have theirs.
    said = play(FORMER, NEXT, hosts="master1", uses=FORMER)
    assert pulls(spied["mirror1"])
    said += play(FORMER, NEXT, uses=NEXT)
    assert pulls(spied["mirror1"])
    # The second.
    said += play(NEXT, uses=NEXT)
    assert pulls(spied["mirror1"])
    assert "mirror1.next@" in spied["mirror1"].check_output("mirrornet status members --json; cat /etc/mirrornet/jobs/members.json")
    said += play(FORMER, uses=FORMER)
    assert pulls(spied["mirror1"])
    assert "changed: [mirror1]" in said
    assert "password of mirror" not in said
    for host in spied.values():
        assert host.file("/root/seen").size > 10000
        # Not found in what looks for it.
        assert host.run("grep --text --quiet '[p]assword of mirror' /root/seen").rc == 1
        assert host.run("journalctl --no-pager | grep --text --quiet '[p]assword of mirror'").rc == 1
        assert found(host, "[p]assword of mirror", "/var/log /srv") == []
