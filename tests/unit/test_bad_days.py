# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Days on which something else goes wrong: the network in mid-file, the disk's last words, the clock, an editor, a hostile tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Master, Mirror, free_port, tree, wait_until
from mirrornet import report
from mirrornet.errors import Exit


@contextmanager
def door(master: Master, how: str, size: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A door that hands on ``size`` bytes of a connection and then cuts, stalls or pauses it: its URL and its process."""
    port = free_port()
    words = [sys.executable, str(Path(__file__).with_name("doors.py")), str(port), str(master.port), how, str(size)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"rsync://127.0.0.1:{port}/tree/", process
        process.kill()


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_network_fails_in_mid_file(master: Master, mirror: Mirror, how: str) -> None:
    master.fill()
    mirror.pull()
    before = tree(mirror.target)
    (master.tree / "big").write_bytes(os.urandom(4 << 20))
    with door(master, how, 2 << 20) as (url, _process):
        failed = mirror.pull(sources=[url], io_timeout=2)
    assert (failed.outcome, failed.kind, failed.exit_code) == ("failed", "connection_lost", int(Exit.UNAVAILABLE))
    assert {name: what for name, what in tree(mirror.target).items() if ".~tmp~" not in name} == before
    done = mirror.pull()
    assert done.outcome == "updated"
    assert done.received < 3 << 20, "what had arrived was used"
    assert tree(mirror.target) == tree(master.tree)


def test_files_vanish_while_they_are_read(master: Master, mirror: Mirror) -> None:
    master.fill()
    # So many that the last can't be on their way yet, in any buffer, when the first is.
    parts = [master.tree / f"part-{number:02d}" for number in range(30)]
    for part in parts:
        with part.open("wb") as file:
            file.truncate(1 << 20)
    with door(master, "pause", 1 << 20) as (url, process):
        mirror.define(sources=[url])
        run = mirror.start("pull", "--json", "tree")
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"paused\n"
        assert mirror.phase() == "transfer"
        for part in parts[25:]:
            part.unlink()
        process.stdin.write(b"go on\n")
        process.stdin.flush()
        out = run.communicate()[0]
    assert json.loads(out)["outcome"] == "updated", out
    said = mirror.places.errors("tree").read_text()
    assert [part.name for part in parts if f'file has vanished: "{part.name}"' in said] == [part.name for part in parts[25:]], said
    # The time of the directory that they were in may have changed.
    assert mirror.pull().outcome in ("updated", "unchanged")
    assert tree(mirror.target) == tree(master.tree)


def test_job_edited_during_a_run(master: Master, mirror: Mirror) -> None:
    """A run goes on as it began; the next one follows the new definition."""
    master.fill()
    (master.tree / "big").write_bytes(os.urandom(2 << 20))
    mirror.define(bandwidth_limit=1000)
    run = mirror.start("pull", "tree")
    wait_until(lambda: mirror.phase() == "transfer", "the transfer")
    mirror.define(exclude=["big"])
    assert run.wait(60) == 0
    assert (mirror.target / "big").exists()
    (master.tree / "big").unlink()
    assert mirror.pull(exclude=["big"]).outcome == "updated"
    assert (mirror.target / "big").exists(), "excluded entries don't go"


class TestPowerLoss:
    """Whatever a disk kept of state and report, the next run works; a torn definition is refused."""

    @pytest.mark.parametrize("content", [b"", b'{"outcome": "upd', b"\0" * 100, b"[]"])
    def test_torn_state(self, master: Master, mirror: Mirror, content: bytes) -> None:
        master.fill()
        mirror.pull(check_file="latest")
        (mirror.target / "release-0" / "file-0.txt").unlink()
        for path in (
            mirror.places.report("tree"),
            mirror.places.running("tree"),
            mirror.places.held("tree"),
            mirror.places.approval("tree"),
            mirror.places.program("tree"),
        ):
            path.write_bytes(content)
        status = mirror.run("status")
        assert status.returncode == 0
        assert status.stdout.splitlines()[1].split()[:2] == ["tree", "interrupted"]
        report = mirror.pull()
        assert report.outcome == "updated"
        assert report.interrupted is not None
        assert tree(mirror.target) == tree(master.tree)

    def test_torn_definition(self, mirror: Mirror) -> None:
        mirror.define()
        path = mirror.places.definition("tree")
        path.write_bytes(path.read_bytes()[:40])
        done = mirror.run("pull", "tree")
        assert done.returncode == Exit.CONFIG
        assert "is not valid JSON" in done.stderr
        assert mirror.run("status").returncode == 0

    def test_half_written_file_beside(self, master: Master, mirror: Mirror) -> None:
        """What a crash leaves of a replacement is in nobody's way."""
        master.fill()
        mirror.pull()
        state = mirror.places.state("tree")
        (state / ".report.json.new").write_text("half")
        (mirror.target / ".mirrornet" / ".log.new").write_text("half")
        assert mirror.pull().outcome == "unchanged"
        assert not (state / ".report.json.new").exists()
        assert not (mirror.target / ".mirrornet" / ".log.new").exists()


class TestClock:
    """A clock that was wrong and is set back."""

    def test_full_check_is_not_put_off(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        (master.tree / "lastupdate").write_text("1")
        mirror.pull(check_file="lastupdate")
        path = mirror.places.report("tree")
        path.write_text(json.dumps({**mirror.report(), "last_compared": "2999-01-01T00:00:00Z"}))
        (mirror.target / "latest").unlink()
        assert mirror.pull(check_file="lastupdate").outcome == "updated"

    def test_alarm_is_not_put_off(self) -> None:
        one = report.Report("t", "h", "", outcome="failed", kind="x", former_kind="x", alarmed="2999-01-01T00:00:00Z")
        assert one.is_news(time.time())


class TestHostileTree:
    def test_symlink_out_of_the_tree_leads_nobody_out(self, master: Master, mirror: Mirror, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious").write_text("mine")
        (outside / ".~tmp~").mkdir()
        master.fill()
        (master.tree / "out").symlink_to(outside)
        (master.tree / "release-0" / "file-9").symlink_to(outside / "precious")
        mirror.pull()
        assert (mirror.target / "out").is_symlink()
        (master.tree / "out").unlink()
        (master.tree / "out").mkdir()
        (master.tree / "out" / "precious").write_text("theirs")
        (master.tree / "release-0" / "file-9").unlink()
        (master.tree / "release-0" / "file-9").write_text("theirs")
        mirror.places.running("tree").write_text("{}")  # As if killed: leftovers are looked for.
        assert mirror.pull().outcome == "updated"
        assert tree(mirror.target) == tree(master.tree)
        assert (outside / "precious").read_text() == "mine"
        assert (outside / ".~tmp~").is_dir()

    @pytest.mark.parametrize("kind", ["symlink", "file"])
    def test_nothing_takes_the_place_of_our_own_directory(self, master: Master, mirror: Mirror, tmp_path: Path, kind: str) -> None:
        master.fill()
        mirror.pull()
        if kind == "symlink":
            (master.tree / ".mirrornet").symlink_to(tmp_path)
        else:
            (master.tree / ".mirrornet").write_text("theirs")
        assert mirror.pull().outcome in ("unchanged", "updated")
        assert json.loads((mirror.target / ".mirrornet" / "report.json").read_bytes()) == mirror.report()
        assert not (tmp_path / "report.json").exists()

    def test_safe_links_on_request(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        (master.tree / "out").symlink_to("/etc/passwd")
        assert mirror.pull(rsync_options=["--safe-links"]).outcome == "updated"
        assert not (mirror.target / "out").is_symlink()
        assert (mirror.target / "latest").is_symlink()

    def test_names_that_look_like_rsyncs_own_output(self, master: Master, mirror: Mirror) -> None:
        """A tree can't talk the guards into anything by the names in it."""
        master.fill()
        for name in ("*deleting  |0|x", "Number of files: 9", ">f+++++++++|1|x", "@ERROR: auth failed", "rsync error: x"):
            (master.tree / name).write_text("x")
        done = mirror.pull()
        assert (done.outcome, done.deletions, done.files) == ("updated", 0, 13)
        assert mirror.pull().outcome == "unchanged"
        assert tree(mirror.target) == tree(master.tree)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[tuple[int, Path, Path]]:
    """An SSH server of our own on loopback: its port, a key that it accepts, and the file with its host key."""
    base = tmp_path / "ssh"
    base.mkdir(mode=0o700)
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(base / name)], check=True)
    shutil.copy(base / "client.pub", base / "authorized")
    port = free_port()
    (base / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {base}/host\nAuthorizedKeysFile {base}/authorized\nPidFile none\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(base / "sshd_config")], stderr=(base / "log").open("wb")) as server:
        wait_until(lambda: b"listening" in (base / "log").read_bytes(), "sshd")
        known = base / "known_hosts"
        known.write_text(f"[127.0.0.1]:{port} {(base / 'host.pub').read_text()}")
        yield port, base / "client", known
        server.kill()


def test_ssh(master: Master, mirror: Mirror, sshd: tuple[int, Path, Path]) -> None:
    master.fill()
    port, key, known = sshd
    url = f"ssh://127.0.0.1:{port}{master.tree}/"
    done = mirror.pull(sources=[url], ssh_key=str(key), ssh_known_hosts=str(known))
    assert done.outcome == "updated", done.line()
    assert tree(mirror.target) == tree(master.tree)
    assert mirror.pull(sources=[url], ssh_key=str(key), ssh_known_hosts=str(known)).outcome == "unchanged"


def test_ssh_with_another_host_key(master: Master, mirror: Mirror, sshd: tuple[int, Path, Path]) -> None:
    port, key, known = sshd
    known.write_text(f"[127.0.0.1]:{port} {key.with_suffix('.pub').read_text()}")
    done = mirror.pull(sources=[f"ssh://127.0.0.1:{port}{master.tree}/"], ssh_key=str(key), ssh_known_hosts=str(known))
    assert (done.kind, done.exit_code) == ("host_key", int(Exit.REFUSED))


def test_ssh_with_a_key_that_is_not_accepted(master: Master, mirror: Mirror, sshd: tuple[int, Path, Path]) -> None:
    port, key, known = sshd
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key.with_name("other"))], check=True)
    done = mirror.pull(sources=[f"ssh://127.0.0.1:{port}{master.tree}/"], ssh_key=str(key.with_name("other")), ssh_known_hosts=str(known))
    assert (done.kind, done.exit_code) == ("login_refused", int(Exit.REFUSED))
