# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Masters set up by hand, each in another wrong way, and what the audit finds."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import free_port, wait_until
from mirrornet import audit, rsyncd_file

GOOD = "use chroot = yes\ntimeout = 60\nmax connections = 5\n[tree]\npath = {base}/tree\n"

# What is added to a good configuration, and what is then found, by severity.
WRONG = [
    ("hosts alow = 192.0.2.1", "high", "unknown parameter 'hosts alow'"),
    ("read only = of course", "high", "'read only = of course' is neither yes nor no"),
    ("port 873", "medium", "passes over 'port 873'"),
    ("port = 874", "medium", "'port' has no effect in a module"),
    ("[TREE]", "medium", "module 'TREE' is there twice"),
    ("&include {base}/none.conf", "critical", "rsync can't read this: {base}/none.conf: No such file"),
    ("[ ", "critical", "rsync can't read this"),
    ("hosts allow = 192.0.2.1\nhosts deny = 198.51.100.1", "high", "in neither hosts allow nor hosts deny"),
    ("use chroot = no", "high", "without chroot"),
    ("use chroot = unset", "medium", "goes on without it"),
    ("uid = root", "high", "files are read as root"),
    ("uid = 0", "high", "files are read as root"),
    ("read only = no", "critical", "everybody can write"),
    ("read only = 0\nhosts allow = *", "critical", "everybody can write"),
    ("ReadOnly = no\nhosts allow = 192.0.2.1\nmunge symlinks = no", "high", "lead out of the tree"),
    ("auth users = joe", "high", "it has no secrets file"),
    ("auth users = joe\nsecrets file = {base}/none", "high", "nobody can log in: {base}/none: No such file"),
    ("auth users = joe\nsecrets file = {base}/open", "high", "{base}/open has mode 0644"),
    ("auth users = joe\nsecrets file = {base}/closed\nstrict modes = no", "high", "doesn't mind who can read"),
    ("timeout = 0", "medium", "holds its connection for ever"),
    ("max connections = 0", "low", "no limit of connections"),
    ("ignore errors = yes", "medium", "clients delete what this server can't read"),
    ("insecure links = yes", "high", "links that others own"),
    ("hosts allow = mirror.example.org", "low", "what the DNS says about mirror.example.org"),
    ("path = /", "critical", "it publishes '/'"),
    ("path = {base}/none", "high", "{base}/none can't be read"),
    ("[empty]", "high", "it has no path"),
    ("pre-xfer exec = {base}/anybodys", "critical", "{base}/anybodys is writable for all"),
    ("post-xfer exec = {base}/none", "high", "{base}/none, which is not there"),
    ("use chroot = no\npath = {base}/linked", "medium", "is a link that leads out of the tree"),
]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "out").symlink_to("/etc")
    for name, mode in (("open", 0o644), ("closed", 0o600), ("anybodys", 0o777)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    return tmp_path


def inside(base: Path, text: str) -> list[audit.Finding]:
    config = base / "rsyncd.conf"
    config.write_text(text.replace("{base}", str(base)))
    return audit.inside(config)


def test_nothing_is_found_where_nothing_is_wrong(base: Path) -> None:
    assert inside(base, GOOD) == []
    assert inside(base, GOOD + "auth users = joe\nsecrets file = {base}/closed\nread only = no\n") == []


@pytest.mark.parametrize(("added", "severity", "words"), WRONG, ids=[added.partition("\n")[0] for added, *dummy in WRONG])
def test_each_mistake_is_found_with_a_remedy(base: Path, added: str, severity: str, words: str) -> None:
    findings = inside(base, GOOD + added + "\n")
    wanted = words.replace("{base}", str(base))
    [found] = [finding for finding in findings if wanted in finding.message]
    assert found.severity == severity
    assert found.remedy
    assert "rsyncd.conf:" in found.where or found.where.startswith(str(base))


def test_a_configuration_that_everybody_can_change_or_that_is_not_there(base: Path) -> None:
    inside(base, GOOD)
    (base / "rsyncd.conf").chmod(0o666)
    assert [finding.severity for finding in audit.inside(base / "rsyncd.conf")] == ["critical"]
    assert [finding.severity for finding in audit.inside(base / "none.conf")] == ["critical"]


def test_files_are_read_as_rsync_reads_them(base: Path) -> None:
    """Compared with a real rsync, which lists the modules and their comments."""
    (base / "inc.d").mkdir()
    (base / "inc.d" / "x.conf").write_text("list = no\n[included hidden]\npath = /srv\n[included]\nlist = yes\ncomment = seen\n")
    (base / "merged.inc").write_text("comment = merged\n")
    text = (
        "; a comment\n # another\nComment = every\\\nwhere\n[one  two] rest\npa th = /srv\n[late]\n&merge {base}/merged.inc\n"
        "&include {base}/inc.d\n[Global]\nlist = no\n[hidden]\n[late]\nlist = YES\r\n[one two]\ncomment = again\n"
    )
    inside(base, text)
    config = base / "rsyncd.conf"
    found = rsyncd_file.read(config)
    ours = [f"{module.name:<15}\t{module.text('comment')}" for module in found.modules if module.flag("list", True)]
    port = free_port()
    # Not in the file: what the daemon needs at its start it reads up to the first module only.
    options = [f"--port={port}", "--address=127.0.0.1", f"--config={config}", f"--log-file={base}/log"]
    process = subprocess.Popen(["rsync", "--daemon", "--no-detach", *options])
    try:
        command = ["rsync", f"rsync://127.0.0.1:{port}/"]
        wait_until(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, "the daemon")
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    finally:
        process.terminate()
        process.wait()
    assert ours == shown
    assert len(ours) == 3


@pytest.fixture
def server(base: Path) -> Iterator[int]:
    """A daemon with modules of many kinds; gives its port."""
    port = free_port()
    (base / "secrets").write_text("joe:secret\n")
    (base / "secrets").chmod(0o600)
    (base / "motd").write_text("Welcome\n")
    modules = {
        "public": f"path = {base}/tree",
        "incoming": f"path = {base}/tree\nread only = no",
        "login": f"path = {base}/tree\nauth users = joe\nsecrets file = {base}/secrets",
        "closed": f"path = {base}/tree\nhosts deny = *",
        "broken": f"path = {base}/none",
    }
    config = base / "served.conf"
    config.write_text(
        f"use chroot = no\nport = {port}\naddress = 127.0.0.1\nmotd file = {base}/motd\n"
        + "".join(f"[{name}]\n{body}\n" for name, body in modules.items())
    )
    process = subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--config={config}", f"--log-file={base}/log"])
    command = ["rsync", f"rsync://127.0.0.1:{port}/"]
    wait_until(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, "the daemon")
    yield port
    process.terminate()
    process.wait()


def test_a_stranger_s_look(server: int, base: Path) -> None:
    rsync = shutil.which("rsync")
    assert rsync
    findings = audit.outside(rsync, "127.0.0.1", server, 5)
    top = f"rsync://127.0.0.1:{server}/"
    assert {(finding.severity, finding.where[len(top) :]) for finding in findings} == {
        ("critical", "incoming/"),
        ("high", "broken/"),
        ("medium", ""),
        ("low", "public/"),
        ("low", "incoming/"),
    }
    assert "can hold 5 silent connections" in next(finding.message for finding in findings if finding.where == top)
    assert list((base / "tree").iterdir()) == []
    [gone] = audit.outside(rsync, "127.0.0.1", free_port(), 5)
    assert "doesn't answer" in gone.message
