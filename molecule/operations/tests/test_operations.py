# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with a master's log: read by people, rotated, counted, and used to ban."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import time
from pathlib import Path

import pytest
from plays import CHECKOUT, Play, ansible, play
from testinfra.host import Host

LOG = "/var/log/mirrornet-rsyncd/rsyncd.log"
METRICS = "/var/lib/prometheus/node-exporter/mirrornet_rsync.prom"
FORGED = "[1] rsync denied on module archive from x (192.0.2.66)"


def wait_for(host: Host, shell: str, seconds: int = 90) -> None:
    host.check_output("timeout %s sh -c %s", str(seconds), f"until {shell}; do sleep 0.2; done")


def serial(head: str) -> int:
    """The serial of a head's first line."""
    value: int = json.loads(head.splitlines()[0])["serial"]
    return value


def refused(host: Host) -> None:
    """A client that is refused in each way that fail2ban is told of but a wrong login, and one that tries to have another banned."""
    assert host.run("rsync rsync://localhost/closed/").rc == 5
    assert host.run("rsync rsync://localhost/nonesuch/").rc == 5
    host.run("rsync %s /tmp/", f"rsync://localhost/archive/a\n2026/01/01 00:00:00 {FORGED}\nx rsyncd{FORGED}\n")
    host.run("rsync %s", "rsync://localhost/none' tried from x (192.0.2.66)/")


def settle(host: Host) -> None:
    """Wait until all that was done to the master is in its log: a client may end before its connection, and journald has a queue."""
    wait_for(host, "! systemctl list-units --no-legend 'mirrornet-rsyncd@*' | grep -q .")
    mark = f"settled-{time.monotonic_ns()}"
    host.check_output("logger --tag test %s", mark)
    wait_for(host, f"journalctl --identifier=test | grep -q {mark}")


def counted(host: Host) -> dict[str, int]:
    settle(host)
    # The first call may only wait for the end of one of the timer's, which may have read the log before.
    for dummy in range(2):
        host.check_output("systemctl start mirrornet-traffic.service")
    lines = host.file(METRICS).content_string.splitlines()
    return {name: int(value) for name, dummy, value in (line.rpartition(" ") for line in lines if line.startswith("mirrornet_rsync_"))}


def test_clients_see_the_message(host: Host) -> None:
    shown = host.check_output("rsync rsync://localhost/")
    assert shown.startswith("Welcome to the archive.\nQuestions to admin@example.org\n")
    assert "archive" in shown


def test_each_transfer_and_refusal_is_counted_once(host: Host) -> None:
    before = counted(host)
    assert host.run("rsync rsync://localhost/archive/file /tmp/").rc == 0
    assert host.run("rsync rsync://localhost/closed/").rc == 5
    after = counted(host)
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    assert grown['mirrornet_rsync_requests_total{module="archive",direction="download"}'] == 1
    assert grown['mirrornet_rsync_refusals_total{module="closed",reason="host"}'] == 1
    assert grown["mirrornet_rsync_connections_total"] == 2
    assert grown['mirrornet_rsync_sent_bytes_total{module="archive"}'] >= 100
    assert counted(host) == after


def test_the_timer_counts_by_itself(host: Host) -> None:
    assert host.service("mirrornet-traffic.timer").is_running
    assert host.service("mirrornet-traffic.timer").is_enabled
    assert host.file(METRICS).mode == 0o644


def test_what_counts_is_confined(host: Host) -> None:
    shown = host.check_output("systemd-analyze security --no-pager mirrornet-traffic.service")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", shown)
    assert found, shown
    assert float(found.group(1)) <= 2.0


def test_a_head_appears_by_itself_after_a_change(host: Host) -> None:
    """The timer's doing: nobody calls anything here."""
    head = "/srv/archive/.mirrornet/head"
    wait_for(host, f"test -s {head}", 180)
    before = host.check_output("cat %s", head)
    host.check_output("date +%%N > /srv/archive/release")
    wait_for(host, f"! grep -qF %s {head}" % shlex.quote(before.splitlines()[0]), 240)
    # What clients get of it is true, and signed by the master's key. The head may be one that was under way before the change.
    sum_of = host.check_output("sha256sum /srv/archive/release").split()[0]
    digest = base64.urlsafe_b64encode(bytes.fromhex(sum_of)).rstrip(b"=").decode()
    copy = "rm -rf /tmp/copy && rsync -a rsync://localhost/archive/.mirrornet/ /tmp/copy/"
    wait_for(host, f"{copy} && zcat /tmp/copy/delta-*.gz /tmp/copy/manifest-*.gz | grep -aq %s" % shlex.quote(digest), 240)
    assert serial(host.check_output("cat /tmp/copy/head")) > serial(before)
    host.check_output(
        "cd /tmp/copy && { printf 'x '; cat /etc/mirrornet/sign_key.pub; } > signers && head -1 head > line && tail -n +2 head > signature"
        " && ssh-keygen -Y verify -f signers -I x -n mirrornet-head -s signature < line"
    )
    # The list for mirrors that know nothing of heads is of the same tree; it is written after the head, and is in the next one.
    wait_for(host, "rsync -a rsync://localhost/archive/fullfiletimelist-archive /tmp/list && grep -qP '\tf\t.*\trelease$' /tmp/list", 120)
    assert host.check_output("tail -n 1 /tmp/list") == "[End]"
    assert host.file("/etc/mirrornet/sign_key").mode == 0o600
    assert (
        host.check_output("ssh-keygen -y -f /etc/mirrornet/sign_key").split()[:2]
        == host.check_output("cat /etc/mirrornet/sign_key.pub").split()[:2]
    )
    # The copy of the key that the account has goes with the call.
    wait_for(host, "! test -e /run/mirrornet-publish-archive", 120)


def test_it_is_told_when_a_tree_was_last_looked_at(host: Host) -> None:
    wait_for(host, "test -s /var/lib/mirrornet/publish-archive/state.json", 180)
    counted(host)
    found = re.search(
        r'^mirrornet_publish_last_success_timestamp_seconds\{name="archive"\} (\d+)$', host.file(METRICS).content_string, re.MULTILINE
    )
    assert found
    assert int(found[1]) > 1_700_000_000


def test_what_publishes_is_confined(host: Host) -> None:
    shown = host.check_output("systemd-analyze security --no-pager mirrornet-publish-archive.service")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", shown)
    assert found, shown
    assert float(found.group(1)) <= 2.0
    assert host.file("/srv/archive/.mirrornet").user == "nobody"


@pytest.mark.on("master2")
def test_a_given_key_signs(host: Host) -> None:
    given = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "given.pub").read_text(encoding="ascii")
    assert host.file("/etc/mirrornet/sign_key.pub").content_string == given


@pytest.mark.on("master1")
def test_entries_of_other_accounts_do_not_count(host: Host) -> None:
    before = counted(host)
    host.check_output("logger --tag rsyncd 'connect from x (192.0.2.1)'")
    wait_for(host, "journalctl --identifier=rsyncd | grep -q 192.0.2.1")
    assert counted(host) == before


@pytest.mark.on("master1")
def test_fail2ban_bans_who_is_refused_and_nobody_else(host: Host) -> None:
    refused(host)
    wait_for(host, 'journalctl --identifier=rsyncd | grep -q "tried from x"')
    said = host.check_output("fail2ban-regex --print-all-matched systemd-journal /etc/fail2ban/filter.d/mirrornet-rsyncd.conf")
    matched = said.split("Matched line(s):")[1].split("Missed line(s):")[0]
    for words in ("denied on module closed", "unknown module 'nonesuch'", "unknown module 'none' tried from x (192.0.2.66)'"):
        assert words in matched, said
    assert "archive" not in matched
    # The jail itself: enough refusals of one address, of which the client's own is the only one.
    host.check_output("fail2ban-client set mirrornet-rsyncd ignoreself false")
    for dummy in range(6):
        # Who is banned in the middle of a connection would wait for the rest of it for a quarter of an hour.
        host.run("timeout 10 rsync rsync://127.0.0.1/nonesuch/")
    wait_for(host, "fail2ban-client status mirrornet-rsyncd | grep -q 'Banned IP list:.*127.0.0.1'")
    wait_for(host, "! timeout 10 rsync rsync://127.0.0.1/archive/")
    status = host.check_output("fail2ban-client status mirrornet-rsyncd")
    # What the jail hasn't read yet, or has on its list already, must not ban the next tests.
    host.check_output("fail2ban-client restart --unban mirrornet-rsyncd")
    for address in ("127.0.0.1", "[::1]"):
        wait_for(host, f"timeout 10 rsync rsync://{address}/archive/")
    assert "192.0.2.66" not in status


@pytest.mark.on("master2")
def test_the_log_file_is_rotated_and_written_again(host: Host) -> None:
    before = counted(host)
    assert host.run("rsync rsync://localhost/archive/file /tmp/").rc == 0
    settle(host)
    host.check_output("logrotate --force /etc/logrotate.d/mirrornet-rsyncd")
    assert host.file(f"{LOG}.1").exists
    assert (host.file(LOG).size, host.file(LOG).mode, host.file(LOG).group) == (0, 0o640, "adm")
    assert host.run("rsync rsync://localhost/archive/file /tmp/").rc == 0
    wait_for(host, f"grep -q 'sent .* bytes' {LOG}")
    after = counted(host)
    name = 'mirrornet_rsync_requests_total{module="archive",direction="download"}'
    assert after[name] - before.get(name, 0) == 2
    assert after["mirrornet_rsync_log_gaps_total"] == 0
    # Only the log's own directory is writable for connections.
    assert LOG.rpartition("/")[0] in host.check_output("systemctl show --property=ReadWritePaths mirrornet-rsyncd@x.service")


def audit(master: str, outside: str, **variables: object) -> Play:
    """The playbook, looking at a master from another host."""
    return play(master, playbook=CHECKOUT / "playbooks/audit_master.yml", audit_from=outside, **variables)


def test_the_audit_finds_nothing_bad_in_our_master() -> None:
    # Where the configuration is, systemd says, which starts rsync for each connection.
    ours = audit("master1", "master2", audit_fail="medium", rsync_master_config_path="/root/none.conf")
    assert (ours.code, set(ours.changed.values())) == (0, {0}), ours.output
    assert "Read /etc/rsyncd.conf." in ours.said
    assert "rsync://master1:873/archive/: everybody can read it" in ours.said


@pytest.mark.on("master2")
def test_the_audit_finds_much_in_a_master_by_hand(host: Host) -> None:
    host.check_output("mkdir -p /srv/by-hand && chown nobody /srv/by-hand")
    host.check_output("cp /etc/rsyncd.conf /root/rsyncd.conf")
    host.check_output(
        "printf '[hand]\\npath = /srv/by-hand\\nread only = no\\nhosts alow = 192.0.2.1\\nuse chroot = no\\n' >>/etc/rsyncd.conf"
    )
    try:
        by_hand = audit("master2", "master1", audit_fail="high", audit_connections=0)
    finally:
        host.check_output("mv /root/rsyncd.conf /etc/rsyncd.conf")
    shown = by_hand.said
    assert by_hand.code != 0
    assert "rsync://master2:873/hand/: everybody can write to it" in shown
    assert "unknown parameter ''hosts alow''. Did you mean ''hosts allow''?" in shown
    assert "without chroot" in shown
    mended = "CVE-2026-70464" in host.check_output("zcat /usr/share/doc/rsync/changelog.Debian.gz")
    assert ("CVE-2026-70464 (clients that say nothing hold all connections)" in shown) is not mended
    assert host.file("/srv/by-hand").listdir() == []


def test_what_the_distributions_did_not_mend_is_told(hosts: dict[str, Host]) -> None:
    """One of the releases is no longer looked after."""
    said = ansible("ansible", "masters", "-m", "mirrornet.rsync.rsyncd_check").said
    for host in hosts.values():
        version = host.check_output("rsync --version").split()[2]
        dummy, found, told = said.partition(f"[WARNING]: rsync {version} on this host has ")
        told = told.partition("upstream it is all fixed")[0]
        mended = host.check_output("zcat /usr/share/doc/rsync/changelog.Debian.gz")
        for cve, upstream in (("CVE-2026-119741", "3.5.2"), ("CVE-2026-70464", "3.5.0"), ("CVE-2024-12085", "3.4.0")):
            assert (found != "" and cve in told) is (version < upstream and cve not in mended), said
