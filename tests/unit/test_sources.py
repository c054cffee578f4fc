# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which source serves a run: order, seeds, retries, logins, and whether there is anything new at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Master, Mirror, free_port, tree, wait_until
from mirrornet import location, rsync, source
from mirrornet import pull as pulling
from mirrornet.errors import Exit
from mirrornet.job import Job


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Master]:
    """Another master."""
    base = tmp_path / "second"
    (base / "tree").mkdir(parents=True)
    other = Master(base, free_port())
    other.start()
    yield other
    other.stop()


class TestSeeds:
    """The first copy comes from elsewhere, so that the master is spared."""

    def test_first_copy_comes_from_the_seed(self, master: Master, second: Master, mirror: Mirror) -> None:
        master.fill()
        shutil.copytree(master.tree, second.tree, symlinks=True, dirs_exist_ok=True)
        (master.tree / "newer").write_text("x")
        (second.tree / "older").write_text("x")
        report = mirror.pull(seed_sources=[second.url()])
        assert report.outcome == "updated"
        assert report.source == master.url()
        assert report.deletions == 1, "what only the seed had"
        assert tree(mirror.target) == tree(master.tree)
        seeded, dummy, brought = mirror.places.log("tree").read_text().partition("Z transfer\n")
        assert "file-1.txt" in seeded
        assert "file-1.txt" not in brought
        assert "newer" in brought

    def test_later_runs_leave_the_seed_alone(self, master: Master, second: Master, mirror: Mirror) -> None:
        master.fill()
        mirror.pull()
        mirror.pull(seed_sources=[second.url()])
        assert "rsync on tree/" not in (second.base / "log").read_text()

    def test_reseed_on_request(self, master: Master, second: Master, mirror: Mirror) -> None:
        master.fill()
        shutil.copytree(master.tree, second.tree, symlinks=True, dirs_exist_ok=True)
        mirror.pull()
        shutil.rmtree(mirror.target / "release-1")
        job = mirror.define(seed_sources=[second.url()])
        assert pulling.pull(mirror.places, job, "mirror1", reseed=True).outcome == "unchanged"
        assert tree(mirror.target) == tree(master.tree)

    def test_dead_seed_does_not_matter(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        report = mirror.pull(seed_sources=["rsync://127.0.0.1:1/tree/"])
        assert report.outcome == "updated"
        assert tree(mirror.target) == tree(master.tree)


class TestOrder:
    def test_fastest_first(self, master: Master, second: Master, monkeypatch: pytest.MonkeyPatch) -> None:
        job = Job("t", (master.url(), second.url()), "/t", source_order="fastest")
        dead = "rsync://127.0.0.1:1/tree/"
        times = {master.url(): 0.2, second.url(): 0.1}
        monkeypatch.setattr(source, "_connect_seconds", lambda job, url: times[url])
        assert source.in_order(job, job.sources) == [second.url(), master.url()]
        monkeypatch.undo()
        assert source.in_order(job, (dead, master.url())) == [master.url(), dead]

    def test_given_order_stays(self, master: Master) -> None:
        job = Job("t", ("rsync://127.0.0.1:1/tree/", master.url()), "/t")
        assert source.in_order(job, job.sources) == list(job.sources)


class TestRetries:
    def test_source_that_comes_back(self, master: Master, mirror: Mirror) -> None:
        master.fill()
        master.stop()
        mirror.define(retries=3, retry_pause=1)
        run = mirror.start("pull", "tree")
        wait_until(lambda: b"pause" in _read(mirror.places.log("tree")), "the first failure")
        master.start()
        assert run.wait(60) == 0
        assert tree(mirror.target) == tree(master.tree)

    def test_no_second_try_where_it_makes_no_sense(self, master: Master, mirror: Mirror) -> None:
        report = mirror.pull(sources=[master.url("login")], retries=1, retry_pause=1)
        assert report.kind == "login_refused"
        assert b"pause" not in _read(mirror.places.log("tree"))

    def test_no_pause_beyond_the_time_limit(self, master: Master, mirror: Mirror) -> None:
        report = mirror.pull(sources=["rsync://127.0.0.1:1/tree/"], retries=3, retry_pause=600, time_limit=60)
        assert report.kind == "unreachable"

    def test_pauses_grow_and_differ(self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []
        sleep = time.sleep
        monkeypatch.setattr(time, "sleep", lambda seconds: waits.append(seconds) if seconds >= 1 else sleep(seconds))
        mirror.pull(sources=["rsync://127.0.0.1:1/tree/"], retries=4, retry_pause=10)
        assert len(waits) == 4
        for number, wait in enumerate(waits):
            assert 5 * 2**number <= wait <= 15 * 2**number
        assert len(set(waits)) == 4


def test_a_failure_of_this_host_is_not_taken_to_another_source(master: Master, second: Master, mirror: Mirror) -> None:
    master.fill()
    report = mirror.pull(sources=[master.url("login"), second.url()], password_file=str(mirror.target / "missing"))
    assert (report.outcome, report.kind, len(report.passed_over)) == ("failed", "rsync_error", 1)
    assert "rsync on" not in (second.base / "log").read_text()


class TestCheckFile:
    """Unchanged, changed, could not tell: never two answers only."""

    @pytest.fixture
    def dated(self, master: Master) -> Master:
        master.fill()
        (master.tree / "lastupdate").write_text("1")
        return master

    def test_same_file_ends_the_run_early(self, dated: Master, mirror: Mirror) -> None:
        assert mirror.pull(check_file="lastupdate").outcome == "updated"
        (dated.tree / "unannounced").write_text("x")
        second = mirror.pull(check_file="lastupdate")
        assert (second.outcome, second.source) == ("unchanged", dated.url())
        assert not (mirror.target / "unannounced").exists()
        (dated.tree / "lastupdate").write_text("22")
        assert mirror.pull(check_file="lastupdate").outcome == "updated"
        assert (mirror.target / "unannounced").exists()

    def test_asked_for_once_a_run_also_for_its_age(self, dated: Master, mirror: Mirror) -> None:
        options = {"check_file": "lastupdate", "stale_after": 3600}
        mirror.pull(**options)
        before = (dated.base / "log").read_text().count("rsync on tree/lastupdate")
        assert mirror.pull(**options).way == "check_file"
        assert (dated.base / "log").read_text().count("rsync on tree/lastupdate") == before + 1

    def test_full_check_when_due(self, dated: Master, mirror: Mirror) -> None:
        mirror.pull(check_file="lastupdate")
        (mirror.target / "latest").unlink()
        assert mirror.pull(check_file="lastupdate", full_check=0).outcome == "updated"
        assert (mirror.target / "latest").is_symlink()

    def test_missing_file_is_not_unchanged(self, dated: Master, mirror: Mirror) -> None:
        mirror.pull(check_file="lastupdate")
        (dated.tree / "lastupdate").unlink()
        (dated.tree / "new").write_text("x")
        assert mirror.pull(check_file="lastupdate").outcome == "updated"
        assert (mirror.target / "new").exists()
        assert "comparing everything" in mirror.places.log("tree").read_text()

    def test_source_that_is_down_is_not_unchanged(self, dated: Master, mirror: Mirror) -> None:
        mirror.pull(check_file="lastupdate")
        dated.stop()
        assert mirror.pull(check_file="lastupdate").kind == "unreachable"

    def test_interrupted_update_is_not_unchanged(self, dated: Master, mirror: Mirror) -> None:
        mirror.pull(check_file="lastupdate")
        (dated.tree / "lastupdate").write_text("22")
        (dated.tree / "big").write_bytes(os.urandom(2 << 20))
        assert mirror.pull(check_file="lastupdate", bandwidth_limit=200, time_limit=3).kind == "time_limit"
        report = mirror.pull(check_file="lastupdate")
        assert report.outcome == "updated"
        assert tree(mirror.target) == tree(dated.tree)

    def test_interrupted_update_that_the_source_took_back_is_not_unchanged(self, dated: Master, mirror: Mirror) -> None:
        mirror.pull(check_file="lastupdate")
        before = tree(dated.tree)
        (dated.tree / "lastupdate").write_text("22")
        (dated.tree / "first").write_text("x")
        (dated.tree / "second").write_bytes(os.urandom(2 << 20))
        assert mirror.pull(check_file="lastupdate", index=["second"], bandwidth_limit=200, time_limit=4).kind == "time_limit"
        assert (mirror.target / "first").exists()
        (dated.tree / "first").unlink()
        (dated.tree / "second").unlink()
        (dated.tree / "lastupdate").write_text("1")
        assert mirror.pull(check_file="lastupdate").outcome == "updated"
        assert tree(mirror.target).keys() == before.keys()

    def test_failed_transfer_does_not_take_the_file_over(self, dated: Master, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        mirror.pull(check_file="lastupdate")
        (dated.tree / "lastupdate").write_text("22")
        for number in range(8):
            (dated.tree / f"release-{number % 3}" / f"file-{number}.txt").unlink()
        assert mirror.pull(check_file="lastupdate").outcome == "held"
        assert mirror.pull(check_file="lastupdate").outcome == "held", "what is held is not unchanged"

    def test_stale_source_is_passed_over(self, dated: Master, second: Master, mirror: Mirror) -> None:
        shutil.copytree(dated.tree, second.tree, symlinks=True, dirs_exist_ok=True)
        os.utime(dated.tree / "lastupdate", (1_000_000_000, 1_000_000_000))
        report = mirror.pull(sources=[dated.url(), second.url()], check_file="lastupdate", stale_after=3600)
        assert (report.outcome, report.source) == ("updated", second.url())
        assert report.passed_over[0]["kind"] == "stale"

    def test_odd_paths_are_refused(self, mirror: Mirror) -> None:
        for path in ("/etc/passwd", "../x", "a/../../b", "sub/", "*.txt"):
            with pytest.raises(AssertionError, match="check_file"):
                mirror.define(check_file=path)


def test_login_with_password_file(master: Master, mirror: Mirror, tmp_path: Path) -> None:
    master.fill()
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    url = master.url("login").replace("rsync://", "rsync://joe@")
    assert mirror.pull(sources=[url], password_file=str(secret)).outcome == "updated"
    assert "secret" not in mirror.places.log("tree").read_text().replace(str(secret), "")
    secret.write_text("wrong\n")
    (master.tree / "new").write_text("x")
    report = mirror.pull(sources=[url], password_file=str(secret))
    assert (report.kind, report.exit_code) == ("login_refused", int(Exit.REFUSED))
    secret.chmod(0o644)
    assert mirror.pull(sources=[url], password_file=str(secret)).outcome == "failed"


@pytest.fixture
def tls(master: Master, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A door with TLS before the master: its port, and the certificate to trust."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
        *subject,
    ]
    subprocess.run(make, check=True, capture_output=True)
    port = free_port()
    program = Path(__file__).with_name("tls_door.py")
    door = subprocess.Popen([sys.executable, str(program), str(port), str(master.port), str(certificate), str(key)], stdout=subprocess.PIPE)
    assert door.stdout is not None
    door.stdout.readline()
    yield port, certificate
    door.kill()
    door.wait()


def test_tls(master: Master, mirror: Mirror, tls: tuple[int, Path]) -> None:
    master.fill()
    port, certificate = tls
    url = f"rsyncs://localhost:{port}/tree/"
    assert mirror.pull(sources=[url], tls_ca=str(certificate)).outcome == "updated"
    assert tree(mirror.target) == tree(master.tree)
    (master.tree / "new").write_text("x")
    report = mirror.pull(sources=[url], io_timeout=10)
    assert report.outcome == "failed", "a certificate that nobody vouches for"
    assert not (mirror.target / "new").exists()
    report = mirror.pull(sources=[url.replace("localhost", "127.0.0.1")], tls_ca=str(certificate), io_timeout=10)
    assert report.outcome == "failed", "a certificate for another name"


def test_a_report_goes_by_tls_too(master: Master, mirror: Mirror, tls: tuple[int, Path]) -> None:
    port, certificate = tls
    taken = master.base / "taken"
    taken.mkdir()
    with (master.base / "rsyncd.conf").open("a") as config:
        config.write(f"[taken]\npath = {taken}\nread only = no\n" + ("uid = root\ngid = root\n" if os.geteuid() == 0 else ""))
    url = f"rsyncs://localhost:{port}/taken/"
    mirror.pull(report_to=url, tls_ca=str(certificate))
    assert (taken / "tree.json").read_bytes() == mirror.places.report("tree").read_bytes()
    (taken / "tree.json").unlink()
    mirror.pull(report_to=url)
    assert list(taken.iterdir()) == [], "a certificate that nobody vouches for"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"address_family": "ipv6"}, ["--ipv6"]),
        ({"nice": 10}, ["nice", "-n", "10", "/usr/bin/rsync"]),
        ({"idle_io": True}, ["ionice", "-c", "3", "/usr/bin/rsync"]),
        ({"filters": ("- *.iso",)}, ["--filter=- *.iso"]),
        ({"rsync_options": ("--checksum", "--max-size=1g")}, ["--checksum", "--max-size=1g"]),
        ({"io_timeout": 7, "connect_timeout": 8}, ["--timeout=7"]),
    ],
)
def test_options_reach_rsync(options: dict[str, object], expected: list[str]) -> None:
    job = Job("t", ("rsync://h/m/",), "/t", **options)  # type: ignore[arg-type]
    command = rsync.argv("/usr/bin/rsync", job, job.sources[0], job.target, rsync.Mode())
    start = command.index(expected[0])
    assert command[start : start + len(expected)] == expected


def test_ssh_asks_nobody_and_trusts_only_known_hosts() -> None:
    job = Job("t", ("ssh://mirror@h:2222/srv/tree",), "/t", ssh_key="/k", ssh_known_hosts="/kh", connect_timeout=9)
    command = rsync.argv("rsync", job, job.sources[0], job.target, rsync.Mode())
    assert command[-2] == "mirror@h:/srv/tree/"
    rsh = next(word for word in command if word.startswith("--rsh="))
    for word in (
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=/kh",
        "GlobalKnownHostsFile=/dev/null",
        "-i /k",
        "-p 2222",
        "ConnectTimeout=9",
    ):
        assert word in rsh
    assert not any(word.startswith("--contimeout") for word in command), "rsync refuses it for SSH"


@pytest.mark.parametrize(
    ("text", "argument", "port"),
    [
        ("rsync://h/m", "rsync://h:873/m/", 873),
        ("joe@h::m/sub", "rsync://joe@h:873/m/sub/", 873),
        ("rsyncs://h/m/", "rsync://h:874/m/", 874),
        ("rsync://[2001:db8::1]:8873/m//", "rsync://[2001:db8::1]:8873/m/", 8873),
        ("ssh://joe@h/srv/x", "joe@h:/srv/x/", 22),
        ("ssh://joe@h/./", "joe@h:./", 22),
        ("ssh://joe@h/./pool", "joe@h:./pool/", 22),
    ],
)
def test_locations(text: str, argument: str, port: int) -> None:
    assert location.problem(text) is None
    where = location.parse(text)
    assert (where.argument, where.port) == (argument, port)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
