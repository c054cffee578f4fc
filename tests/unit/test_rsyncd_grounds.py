# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rules for a master rest on: what a real rsync daemon does with a client, beside what we say of such a module."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import free_port, wait_until
from mirrornet import rsyncd, rsyncd_host, rsyncd_refusals

RSYNC = shutil.which("rsync") or "rsync"

#: An ordinary account can't make a chroot; without one rsync has less to hold a client back with.
CHROOTS = ["no", "yes"] if os.geteuid() == 0 else ["no"]


class Daemon:
    """An rsync daemon on loopback with one module, whose configuration is read anew at each connection."""

    def __init__(self, base: Path) -> None:
        self.tree, self.log, self.port = base / "tree", base / "log", free_port()
        self.tree.mkdir()
        (self.tree / "file").write_text("content\n")
        self.config = base / "rsyncd.conf"
        self.say()
        self.process = subprocess.Popen([RSYNC, "--daemon", "--no-detach", f"--config={self.config}"])
        wait_until(lambda: self.log.exists() and b"listening" in self.log.read_bytes(), "the daemon")

    def say(self, chroot: str = "no", **options: str) -> None:
        """Have the module say this, and nothing else that counts."""
        options = {"path": str(self.tree), "use chroot": chroot, **{name.replace("_", " "): value for name, value in options.items()}}
        if os.geteuid() == 0:
            # Else it would become an account that can't read the test's directory.
            options.update(uid="root", gid="root")
        head = f"port = {self.port}\naddress = 127.0.0.1\nlog file = {self.log}\nreverse lookup = no\n[m]\n"
        self.config.write_text(head + "".join(f"{name} = {value}\n" for name, value in options.items()))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A client of rsync's; M stands for the module."""
        argv = [RSYNC, "--timeout=60", *(word.replace("M/", f"rsync://127.0.0.1:{self.port}/m/") for word in words)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)

    def admits(self, address: str) -> bool:
        """Whether a client that comes from there gets to see the module."""
        return self.run(f"--address={address}", "M/").returncode == 0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    started = Daemon(tmp_path)
    yield started
    started.process.terminate()
    started.process.wait()


def refused(**options: Any) -> list[str]:
    """The options for which we refuse a module."""
    return [problem.option for problem in rsyncd.check_module(1, {"name": "m", "path": "/srv/m", **options})]


# Who is admitted.

LISTED, DENIED, STRANGER = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def test_hosts_allow_alone_refuses_all_others(daemon: Daemon) -> None:
    daemon.say(hosts_allow=LISTED)
    assert [daemon.admits(address) for address in (LISTED, DENIED, STRANGER)] == [True, False, False]
    assert refused(hosts_allow=[LISTED]) == []


def test_hosts_deny_alone_admits_all_others(daemon: Daemon) -> None:
    daemon.say(hosts_deny=DENIED)
    assert [daemon.admits(address) for address in (LISTED, DENIED, STRANGER)] == [True, False, True]
    assert refused(hosts_deny=[DENIED]) == []


def test_both_admit_who_is_in_neither_so_they_are_refused(daemon: Daemon) -> None:
    daemon.say(hosts_allow=LISTED, hosts_deny=DENIED)
    assert [daemon.admits(address) for address in (LISTED, DENIED, STRANGER)] == [True, False, True]
    assert refused(hosts_allow=[LISTED], hosts_deny=[DENIED]) == ["hosts_deny"]
    daemon.say(hosts_allow=LISTED, hosts_deny="*")
    assert [daemon.admits(address) for address in (LISTED, DENIED, STRANGER)] == [True, False, False]
    assert refused(hosts_allow=[LISTED], hosts_deny=["*"]) == []


# Which digest proves a password.


def login(port: int, digest: str, offered: str) -> str:
    """What the daemon answers to the right password, proved by the only digest that the client says it has."""
    with closing(socket.create_connection(("127.0.0.1", port), 60)) as connection, connection.makefile("rw", newline="\n") as lines:
        assert lines.readline().startswith("@RSYNCD: ")
        lines.write(f"@RSYNCD: 31.0{offered}\nm\n")
        lines.flush()
        asked = lines.readline()
        challenge = asked.partition("AUTHREQD ")[2].strip()
        if not challenge:
            return asked
        proof = base64.b64encode(hashlib.new(digest, b"correct horse battery" + challenge.encode()).digest()).decode().rstrip("=")
        lines.write(f"alice {proof}\n")
        lines.flush()
        return lines.readline()


@pytest.mark.parametrize("offered", [" md5", ""])
def test_a_client_that_knows_md5_alone_is_kept_out_by_a_better_digest(daemon: Daemon, tmp_path: Path, offered: str) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text("alice:correct horse battery\n")
    secrets.chmod(0o600)
    logins = {"auth_users": "alice", "secrets_file": str(secrets)}
    daemon.say(**logins)
    assert login(daemon.port, "md5", offered) == "@RSYNCD: OK\n"
    daemon.say(**logins, auth_digest="sha256")
    was_let_in = login(daemon.port, "md5", offered) == "@RSYNCD: OK\n"
    # One too old for the option ignores it, so there we refuse the option.
    module = {"name": "m", "path": "/srv/m", "auth_users": ["alice"], "secrets_file": "/etc/s", "auth_digest": "sha256"}
    told = rsyncd.check_versions([module], {}, rsyncd_host.rsync_version(RSYNC))
    assert was_let_in == bool(told)


# Symbolic links.


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the tree, with a file that nobody is to get."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret").write_text("nobody's business\n")
    return directory


@pytest.mark.parametrize("chroot", CHROOTS)
def test_no_client_reads_through_a_link_out_of_the_tree(daemon: Daemon, outside: Path, tmp_path: Path, chroot: str) -> None:
    (daemon.tree / "absolute").symlink_to(outside / "secret")
    (daemon.tree / "relative").symlink_to("../outside/secret")
    (daemon.tree / "directory").symlink_to(outside)
    (daemon.tree / "within").symlink_to("file")
    daemon.say(chroot)
    got = tmp_path / "got"
    got.mkdir()
    for words in (["-rL", "M/"], ["-r", "--copy-unsafe-links", "M/"], ["-rk", "M/"], ["-rL", "M/absolute"], ["-r", "M/directory/secret"]):
        daemon.run(*words, f"{got}/")
        assert not [path for path in got.rglob("*") if path.is_file() and "business" in path.read_text()], words
    # What is in the tree does come through a link.
    assert (got / "within").read_text() == "content\n"


@pytest.mark.parametrize("chroot", CHROOTS)
def test_no_client_that_may_write_gets_out_through_a_link_of_its_own(daemon: Daemon, outside: Path, tmp_path: Path, chroot: str) -> None:
    daemon.say(chroot, read_only="no")
    sent, got = tmp_path / "sent", tmp_path / "got"
    sent.mkdir()
    got.mkdir()
    (sent / "way").symlink_to(outside)
    (sent / "secret").symlink_to(outside / "secret")
    assert daemon.run("-rl", f"{sent}/", "M/").returncode == 0
    assert (daemon.tree / "way").is_symlink()
    (sent / "planted").touch()
    for words in ([f"{sent}/planted", "M/way/"], ["-K", f"{sent}/planted", "M/way/"], ["--inplace", f"{sent}/planted", "M/secret"]):
        daemon.run(*words)
        assert [path.name for path in outside.iterdir()] == ["secret"], words
        assert (outside / "secret").read_text() == "nobody's business\n"
    daemon.run("-rL", "M/", f"{got}/")
    daemon.run("-r", "M/way/", f"{got}/")
    assert not [path for path in got.rglob("*") if path.is_file() and "business" in path.read_text()]
    # Without the links, writing works.
    assert daemon.run(f"{sent}/planted", "M/").returncode == 0
    assert (daemon.tree / "planted").is_file()


# What is refused.


def unknown_to(daemon: Daemon, words: list[str]) -> set[str]:
    """Those of the words for which the daemon finds no option."""
    daemon.log.write_bytes(b"")
    daemon.say(refuse_options=" ".join(words))
    daemon.run("M/")
    marked = [line.partition("refuse-options string ")[2] for line in daemon.log.read_text().splitlines()]
    return {word.strip('"') for word in marked if word}


def test_rsync_knows_every_name_that_may_be_refused(daemon: Daemon) -> None:
    unknown = unknown_to(daemon, [*sorted(rsyncd_refusals.NAMES), "chekcsum"]) - {"chekcsum"}
    version = rsyncd_host.rsync_version(RSYNC)
    assert unknown <= rsyncd_refusals.LATER
    assert not unknown or rsyncd.version_of(version) < (3, 5)


def test_we_know_the_patterns_that_rsync_knows(daemon: Daemon) -> None:
    known = ["*", "delete-*", "!delete-during", "[rl]", "[^a-z]", "[!a-z]", "no-?", "c*m", "a", "!archive"]
    strange = ["zz*", "[Z]", "!!a", "Checksum", "--checksum", "checksum,delete", "delete-"]
    assert unknown_to(daemon, known + strange) == {word.replace("!", "", 1) if word.startswith("!") else word for word in strange}
    assert all(rsyncd_refusals.is_known(word) for word in known)
    assert not any(rsyncd_refusals.is_known(word) for word in strange)


def test_a_typo_leaves_allowed_what_was_to_be_refused(daemon: Daemon) -> None:
    daemon.say(refuse_options="checksum")
    assert daemon.run("-rc", "M/").returncode != 0
    daemon.say(refuse_options="chekcsum")
    assert daemon.run("-rc", "M/").returncode == 0
    assert refused(refuse_options=["chekcsum"]) == ["refuse_options"]
