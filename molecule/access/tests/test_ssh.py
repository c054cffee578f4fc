# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A key of a mirror opens one tree for reading, and nothing else of the master."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from plays import play
from testinfra.backend.base import CommandResult
from testinfra.host import Host

ACCOUNT = "mirrornet-ssh"
OPTIONS = "-o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/etc/mirrornet/masters.known_hosts"


@pytest.fixture(params=["master11", "master13"])
def master(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def mirror(hosts: dict[str, Host]) -> Host:
    """The mirror, with an empty directory to pull into."""
    hosts["mirror1"].check_output("rm --recursive --force /srv/try && install --directory --owner=mirrornet /srv/try")
    return hosts["mirror1"]


def key_of(name: str, *, private: bool = False) -> str:
    """The key NAME that prepare.yml has made."""
    path = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "keys" / name
    return (path if private else path.with_suffix(".pub")).read_text(encoding="utf-8")


def ssh(mirror: Host, master: str, words: str, key: str = "mirror1", options: str = "") -> CommandResult:
    """An SSH client of the mirror's own account, with one of its keys."""
    line = f"ssh -F none {OPTIONS} -i /srv/keys/{key} {options} {ACCOUNT}@{master} {words}"
    return mirror.run("runuser --user mirrornet -- timeout 60 sh -c %s </dev/null", line)


def rsync(mirror: Host, master: str, words: str, key: str = "mirror1") -> CommandResult:
    """An rsync of the mirror's own account; MASTER in WORDS is the login."""
    line = f"rsync --archive --timeout=30 --rsh='ssh -F none {OPTIONS} -i /srv/keys/{key}' {words.replace('MASTER', f'{ACCOUNT}@{master}')}"
    return mirror.run("runuser --user mirrornet -- timeout 60 sh -c %s </dev/null", line)


def arrived(mirror: Host) -> list[str]:
    return sorted(mirror.check_output("cd /srv/try && find . -type f").split())


def wait_for_sshd(mirror: Host, master: str) -> None:
    """A moment after it was told to read its settings again, sshd doesn't listen."""
    mirror.check_output("timeout 60 sh -c %s", f"until timeout 5 bash -c '</dev/tcp/{master}/22'; do sleep 0.2; done")


def test_the_mirrors_of_the_role_have_pulled(mirror: Host, master: str) -> None:
    target = f"/srv/mirror/{master.replace('master', 'archive')}"
    assert mirror.file(f"{target}/pool/package").content_string == f"archive/pool/package of {master}\n"
    assert "ssh://mirrornet-ssh@" in mirror.file(f"{target}/.mirrornet/report.json").content_string


def test_the_known_hosts_are_the_masters_own(mirror: Host, hosts: dict[str, Host], master: str) -> None:
    key = hosts[master].check_output("cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub")
    assert f"{master} {key}\n" in mirror.file("/etc/mirrornet/masters.known_hosts").content_string


def test_a_key_has_no_shell_no_sftp_and_no_other_program(mirror: Host, hosts: dict[str, Host], master: str) -> None:
    for words in (
        "",
        "id",
        "'sh -c id'",
        "'rsync --version'",
        "'rsync --daemon .'",
        "'/bin/sh'",
        "'rsync --server --sender -e.LsfxC . . ; id'",
    ):
        said = ssh(mirror, master, words)
        assert said.rc != 0, words
        assert "uid=" not in said.stdout + said.stderr
    assert ssh(mirror, master, "sftp", options="-s").rc != 0
    assert "PTY allocation request failed" in ssh(mirror, master, "id", options="-tt").stderr


def test_a_key_forwards_nothing(mirror: Host, master: str) -> None:
    # The forward is refused when it's asked for, so that there is no connection to the master's own port of rsync.
    assert ssh(mirror, master, "", options="-W 127.0.0.1:873").rc != 0
    assert "@RSYNCD" not in ssh(mirror, master, "", options="-W 127.0.0.1:873").stdout
    assert "remote port forwarding failed" in ssh(mirror, master, "", options="-N -R 7777:127.0.0.1:22 -o ExitOnForwardFailure=yes").stderr


def test_a_key_reads_no_other_path(mirror: Host, master: str) -> None:
    for path in ("/../other/", "../other/", "/pool/../../other/", "/srv/other/", "/etc/passwd"):
        rsync(mirror, master, f"MASTER:{path} /srv/try/")
    assert arrived(mirror) == []
    assert rsync(mirror, master, "--files-from=:/etc/passwd MASTER:./ /srv/try/").rc != 0
    assert arrived(mirror) == []


def test_a_key_writes_nothing(mirror: Host, hosts: dict[str, Host], master: str) -> None:
    assert rsync(mirror, master, "/etc/hostname MASTER:./NEW").rc != 0
    assert rsync(mirror, master, "--delete /srv/try/ MASTER:./").rc != 0
    assert rsync(mirror, master, "--remove-source-files MASTER:./ /srv/try/").rc in (0, 1, 12, 23, 255)
    assert not hosts[master].file("/srv/archive/NEW").exists
    assert hosts[master].file("/srv/archive/README").exists
    # Nor has the account anything of its own to write to.
    assert hosts[master].run("runuser --user %s -- sh -c 'touch ~/x'", ACCOUNT).rc != 0


def test_a_key_for_a_part_gets_that_part_and_only_from_where_it_may_come(mirror: Host, hosts: dict[str, Host], master: str) -> None:
    said = rsync(mirror, master, "MASTER:./ /srv/try/", key="pool")
    assert said.rc != 0
    assert "Permission denied (publickey)" in said.stderr
    at_home = hosts[master]
    at_home.check_output("install --directory --mode=0700 /root/.ssh && rm --force /root/pool")
    private = mirror.check_output("cat /srv/keys/pool")
    at_home.check_output("umask 077; printf '%%s\\n' %s >/root/pool", private)
    shell = "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i /root/pool"
    for address in ("127.0.0.1", "[::1]"):
        at_home.check_output("rm --recursive --force /root/part")
        at_home.check_output("rsync --archive --rsh=%s %s /root/part/", shell, f"{ACCOUNT}@{address}:./")
        assert at_home.check_output("cd /root/part && find . -type f") == "./package"


def test_a_client_that_is_absent_stays_outside(mirror: Host, master: str) -> None:
    assert "Permission denied (publickey)" in ssh(mirror, master, "id", key="gone").stderr


def test_no_password_and_no_key_of_its_own_opens_the_account(mirror: Host, hosts: dict[str, Host], master: str) -> None:
    said = mirror.run(
        "ssh -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PubkeyAuthentication=no %s id </dev/null",
        f"{ACCOUNT}@{master}",
    )
    assert "Permission denied (publickey)" in said.stderr
    assert hosts[master].check_output("getent shadow %s", ACCOUNT).split(":")[1] == "*"


def test_a_tree_without_its_sentinel_is_closed_over_ssh_too(mirror: Host, hosts: dict[str, Host], master: str) -> None:
    job = master.replace("master", "archive")
    hosts[master].check_output("mv /srv/archive/README /srv/README.away")
    try:
        said = mirror.run("mirrornet pull %s", job)
    finally:
        hosts[master].check_output("mv /srv/README.away /srv/archive/README")
    assert said.rc == 69
    assert "archive is closed for now" in said.stdout + said.stderr
    assert mirror.file(f"/srv/mirror/{job}/pool/package").exists
    mirror.check_output("mirrornet pull %s", job)


@pytest.mark.parametrize("master", ["master13"])
def test_a_key_is_rotated_with_an_overlap_and_a_client_goes(mirror: Host, hosts: dict[str, Host], master: str) -> None:
    def client(*names: str, **more: str) -> list[dict[str, object]]:
        return [{"name": "mirror1", "module": "archive", "keys": [key_of(name) for name in names], **more}]

    started = hosts[master].check_output("systemctl show --property=ExecMainStartTimestampMonotonic --value ssh.service")
    try:
        result = play(master, rsync_master_ssh_clients=client("mirror1", "next"))
        assert (result.code, result.changed[master]) == (0, 1), result.output
        assert rsync(mirror, master, "MASTER:./ /srv/try/", key="mirror1").rc == 0
        assert rsync(mirror, master, "MASTER:./ /srv/try/", key="next").rc == 0
        assert play(master, rsync_master_ssh_clients=client("next")).changed[master] == 1
        assert rsync(mirror, master, "MASTER:./ /srv/try/", key="mirror1").rc != 0
        assert rsync(mirror, master, "MASTER:./ /srv/try/", key="next").rc == 0
        # The last one goes, and with it all that sshd was told.
        assert play(master, rsync_master_ssh_clients=client("next", state="absent")).changed[master] == 1
        wait_for_sshd(mirror, master)
        assert rsync(mirror, master, "MASTER:./ /srv/try/", key="next").rc != 0
        assert not hosts[master].file("/etc/ssh/sshd_config.d/10-mirrornet-rsync.conf").exists
    finally:
        assert play(master).code == 0
    wait_for_sshd(mirror, master)
    assert rsync(mirror, master, "MASTER:./ /srv/try/", key="mirror1").rc == 0
    # sshd was told, and never restarted.
    assert hosts[master].check_output("systemctl show --property=ExecMainStartTimestampMonotonic --value ssh.service") == started


@pytest.mark.parametrize("master", ["master11"])
def test_what_is_wrong_is_refused_before_any_change(hosts: dict[str, Host], master: str) -> None:
    before = hosts[master].check_output("cat /etc/ssh/mirrornet-rsync.keys")
    private = key_of("gone", private=True)
    clients = [
        {"name": "private", "module": "archive", "keys": [private]},
        {"name": "elsewhere", "path": "/etc/ssh", "keys": [key_of("gone")]},
        {"name": "sound", "module": "archive", "keys": [key_of("next")]},
    ]
    hosts[master].check_output("echo 'AllowUsers admin' >/etc/ssh/sshd_config.d/00-first.conf")
    try:
        result = play(master, "-vvv", rsync_master_ssh_clients=clients, rsync_master_ssh_user="games")
    finally:
        hosts[master].check_output("rm /etc/ssh/sshd_config.d/00-first.conf")
    assert result.code != 0
    assert result.changed[master] == 0
    for said in (
        "SSH client 'private' (item 1): keys: key 1: it is a private key",
        "SSH client 'elsewhere' (item 2): path: '/etc/ssh' is in no module's tree",
        "rsync_master_ssh_user: 'games' is in use for something else",
        "sshd: its AllowUsers does not name games",
    ):
        assert said in result.output
    assert hosts[master].check_output("cat /etc/ssh/mirrornet-rsync.keys") == before
    # What goes to the host, and into its journal, is without the key.
    assert private.split()[8] not in hosts[master].check_output("journalctl --no-pager --output=cat")


def test_host_keys_stay_as_long_as_a_job_goes_by_them(hosts: dict[str, Host]) -> None:
    known_hosts = hosts["mirror1"].file("/etc/mirrornet/masters.known_hosts")
    # A job that is no longer listed stays, and needs them.
    result = play("mirror1", rsync_mirror_jobs=[])
    assert result.code == 0, result.output
    assert known_hosts.exists
    gone = [{"name": name, "state": "absent"} for name in ("archive11", "archive13")]
    try:
        predicted = play("mirror1", "--check", rsync_mirror_jobs=gone).changes
        result = play("mirror1", rsync_mirror_jobs=gone)
        assert result.code == 0, result.output
        assert result.changes == predicted
        assert not known_hosts.exists
        assert play("mirror1", rsync_mirror_jobs=gone).changed == {"mirror1": 0}
    finally:
        assert play("mirror1").code == 0
