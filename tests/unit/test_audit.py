# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Masters set up by hand, each in another wrong way, and what the audit finds."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import pytest
from conftest import free_port, wait_until
from mirrornet import audit, rsyncd_file, stranger
from test_certificate import Pairs

GOOD = "use chroot = yes\ntimeout = 60\nmax connections = 5\n[tree]\npath = {base}/tree\n"

LOGIN = "auth users = joe\nsecrets file = {base}/"
WRITABLE = "read only = no\nincoming chmod = Fgo=r\n"

# What is added to a good configuration, and what is then found, by severity.
WRONG = [
    ("hosts alow = 192.0.2.1", "high", "unknown parameter 'hosts alow'"),
    ("read only = of course", "high", "'read only = of course' is neither yes nor no"),
    ("port 873", "medium", "passes over 'port 873'"),
    ("port = 874", "medium", "'port' has no effect in a module"),
    ("[TREE]", "medium", "module 'TREE' is there twice"),
    ("&include {base}/none.conf", "critical", "rsync can't read this: {base}/none.conf: No such file"),
    ("[ ", "critical", "rsync can't read this"),
    ("timeout = ten minutes", "medium", "'timeout = ten minutes' is no number, and rsync takes it for 0"),
    ("max connections = 20x", "medium", "'max connections = 20x' is no number, and rsync takes it for 20"),
    # Who is let in.
    ("hosts allow = 192.0.2.1\nhosts deny = 198.51.100.1", "high", "in neither hosts allow nor hosts deny"),
    ("hosts allow = 192.0.2.1\nhosts deny = 0.0.0.0/0", "high", "in neither hosts allow nor hosts deny"),
    ("hosts allow = 192.0.2.1\nhosts deny = ALL", "high", "'ALL' in hosts deny is a host's name to rsync"),
    ("hosts allow = ALL", "high", "'ALL' in hosts allow is a host's name to rsync"),
    ("hosts allow = 192.168.", "high", "'192.168.' in hosts allow is not an address"),
    ("hosts deny = 10/8", "high", "'10/8' in hosts deny is not an address"),
    ("hosts allow = mirror.example.org", "low", "what the DNS says about mirror.example.org"),
    ("hosts allow = cafe.de", "low", "what the DNS says about cafe.de"),
    ("hosts deny = *.example.org", "medium", "what the DNS says about *.example.org"),
    ("refuse options = chekcsum", "high", "in refuse options rsync knows no option 'chekcsum', and would refuse nothing by it"),
    ("refuse options = delete,checksum", "high", "in refuse options rsync knows no option 'delete,checksum'"),
    # Who may write, and what.
    (WRITABLE, "critical", "everybody can write"),
    (WRITABLE + "hosts allow = *", "critical", "everybody can write"),
    (WRITABLE + "hosts allow = 0.0.0.0/0", "critical", "everybody can write"),
    (WRITABLE + "hosts allow = ::/0", "critical", "everybody can write"),
    (WRITABLE + "hosts allow = 0/0", "critical", "everybody can write"),
    (WRITABLE + "hosts allow = 0.0.0.0/0.0.0.0", "critical", "everybody can write"),
    (WRITABLE + "hosts allow = 0.0.0.0/1, 128.0.0.0/1", "critical", "everybody can write"),
    (WRITABLE + "hosts allow = ?*", "critical", "everybody can write"),
    (WRITABLE + "hosts allow = *.*", "critical", "everybody can write"),
    (WRITABLE + "hosts deny = 192.0.2.1", "critical", "everybody can write"),
    (WRITABLE + "hosts allow = 192.0.2.1\nhosts deny = 192.0.2.2", "critical", "everybody can write"),
    (WRITABLE + "hosts allow = 192.0.2.1\nmunge symlinks = no", "high", "lead out of the tree"),
    (LOGIN.replace("joe", "joe:rw") + "closed\nmunge symlinks = no", "high", "lead out of the tree"),
    ("ReadOnly = no\nhosts allow = 192.0.2.1", "low", "writers choose the permissions"),
    ("read only = 0\nhosts allow = 192.0.2.1\nincoming chmod = Dgo=rx,Fa+rw", "medium", "every account of this host can change"),
    ("read only = 0\nhosts allow = 192.0.2.1\nincoming chmod = F0666", "medium", "every account of this host can change"),
    # Logins.
    ("auth users = joe", "high", "it has no secrets file"),
    (LOGIN + "none", "high", "nobody can log in: {base}/none: No such file"),
    (LOGIN + "open", "high", "{base}/open has mode 0644: others than its owner can reach the passwords, and rsync refuses each login"),
    (LOGIN + "group", "high", "{base}/group has mode 0660: others than its owner can reach the passwords"),
    (LOGIN + "group", "high", "others can change the passwords: others than root may write '{base}/group'"),
    (LOGIN + "closed\nstrict modes = no", "high", "doesn't mind who can read"),
    (LOGIN + "short", "medium", "{base}/short: entry 1 ('joe'): its password has fewer than 12 characters"),
    (LOGIN.replace("joe", "joe, jim") + "closed", "medium", "'jim' can't log in: {base}/closed has no password for it"),
    (LOGIN.replace("joe", "* joe:deny") + "closed", "high", "'joe:deny' is never reached"),
    (LOGIN.replace("joe", "joe @no-such:deny") + "closed", "medium", "there is no group 'no-such' on this host"),
    (
        LOGIN.replace("joe", ", joe, @Some Group:deny") + "closed",
        "medium",
        "rsync doesn't find '@Some Group', and so lets in whom it denies",
    ),
    # What it can reach.
    ("use chroot = no", "high", "without chroot"),
    ("use chroot = unset", "medium", "goes on without it"),
    ("uid = root", "high", "files are read as root"),
    ("uid = 0", "high", "files are read as root"),
    ("gid = nogroup, root", "medium", "files are read with root's group"),
    ("gid = , no such, nogroup", "high", "there is no group 'no such' on this host, so that every client is refused"),
    ("uid = no-such", "high", "there is no user 'no-such' on this host, so that every client is refused"),
    ("insecure links = yes", "high", "links that others own"),
    ("path = /", "critical", "it publishes '/'"),
    ("path = srv", "critical", "it publishes 'srv'"),
    ("path = /etc", "critical", "it publishes /etc, which is the system's own"),
    ("path = /home/", "critical", "it publishes /home, which is the system's own"),
    ("path = {base}/linked/out", "critical", "it publishes /etc, which is the system's own"),
    ("path = /etc/ssl\nhosts allow = 192.0.2.1", "high", "it publishes /etc/ssl, which is the system's own"),
    ("path = /tmp", "high", "it publishes /tmp, where every account leaves files"),
    ("path = /./{base}/tree", "high", "the chroot of /./{base}/tree is the whole host"),
    ("path = {base}/none", "high", "{base}/none can't be read"),
    ("[empty]", "high", "it has no path"),
    ("use chroot = no\npath = {base}/linked", "medium", "is a link that leads out of the tree"),
    ("path = {base}/bare", "medium", "{base}/bare is empty"),
    (
        "[other]\npath = {base}/tree/sub\nhosts allow = 192.0.2.1\n" + WRITABLE,
        "high",
        "its clients may write, and it lies inside the path of",
    ),
    (
        WRITABLE + "hosts allow = 192.0.2.1\n[other]\npath = {base}/inner/tree/sub",
        "high",
        "it lies inside the path of module 'tree' (item 1), whose clients",
    ),
    (LOGIN + "tree/passwords", "high", "{base}/tree/passwords is in the tree of module 'tree'"),
    # What it runs, reads and writes as root.
    (
        "pre-xfer exec = {base}/anybodys",
        "critical",
        "'pre-xfer exec', which rsync runs as root: others than root may write '{base}/anybodys'",
    ),
    ("early exec = {base}/groups", "high", "others than root may write '{base}/groups'"),
    ("post-xfer exec = {base}/groups.d/hook", "high", "others than root may write '{base}/groups.d'"),
    ("pre-xfer exec = /bin/sh -e {base}/anybodys", "critical", "others than root may write '{base}/anybodys'"),
    ("pre-xfer exec = test -e /srv || exit 1; {base}/anybodys '", "critical", "others than root may write '{base}/anybodys'"),
    ("pre-xfer exec = env A=1 nice bash -c '{base}/anybodys x; exit'", "critical", "others than root may write '{base}/anybodys'"),
    ("name converter = {base}/anybodys", "critical", "others than root may write '{base}/anybodys'"),
    ("post-xfer exec = {base}/none", "high", "{base}/none, which is not there"),
    ("pre-xfer exec = /bin/true %RSYNC_USER_NAME%", "high", "by which clients of rsync before 3.5.0 run commands as root"),
    ("pre-xfer exec = /bin/true %RSYNC_REQUEST%", "medium", "%RSYNC_REQUEST% in it, which rsync doesn't replace there"),
    ('pre-xfer exec = sh -c "/bin/true $RSYNC_REQUEST"', "critical", "hands RSYNC_REQUEST to a second shell"),
    ("pre-xfer exec = sh -c \"/bin/true '$RSYNC_REQUEST'\"", "critical", "hands RSYNC_REQUEST to a second shell"),
    ("pre-xfer exec = eval '/bin/true $RSYNC_REQUEST'", "critical", "hands RSYNC_REQUEST to a second shell"),
    ("early exec = /bin/bash -ec '/bin/true %RSYNC_HOST_NAME%'", "critical", "hands RSYNC_HOST_NAME to a second shell"),
    ("exclude from = {base}/none", "high", "every client is refused, since there is no file {base}/none"),
    ("lock file = {base}/anybodys.d/lock", "high", "everybody can put a link in its place: {base}/anybodys.d is writable for all"),
    # What it costs.
    ("timeout = 0", "medium", "holds its connection for ever"),
    ("max connections = 0", "low", "no limit of connections"),
    (
        "[other]\npath = {base}/inner\nmax connections = 9",
        "medium",
        "its limit of 9 connections counts those of module 'tree' too, whose limit is 5",
    ),
    ("ignore errors = yes", "medium", "clients delete what this server can't read"),
    ("[global]\nproxy protocol = yes", "high", "who reaches the port without the proxy is whoever it claims to be"),
    (
        "[global]\nproxy protocol = yes\nproxy protocol hosts = *",
        "high",
        "who reaches the port without the proxy is whoever it claims to be",
    ),
    ("[global]\npid file = {base}/anybodys.d/pid", "high", "rsync writes its pid file as root"),
]

# What is added to a good configuration, and what is then not found.
RIGHT = [
    LOGIN + "closed\n" + WRITABLE,
    WRITABLE + "hosts allow = 192.0.2.1, 2001:db8::/32, 198.51.100.0/255.255.255.0",
    WRITABLE + "hosts deny = *",
    WRITABLE + "hosts deny = 0/0 ::/0",
    "hosts allow = fe80::%eth0/64\nhosts deny = 0.0.0.0/0, ::/0",
    "lock file = {base}/lock\n[other]\npath = {base}/inner\nmax connections = 9",
    "max connections = -1\n[other]\npath = {base}/inner",
    "pre-xfer exec = /bin/sh -c '/bin/true \"$HOME\"' || exit; test -e {base}/groups",
    "pre-xfer exec = sh -c '/bin/true \"$RSYNC_REQUEST\"'",
    'pre-xfer exec = sh -c "/bin/true \\"\\$RSYNC_REQUEST\\""',
    "path = {base}/%RSYNC_USER_NAME%",
    "refuse options = c delete-* !delete-during",
    "[other]\npath = {base}/tree/sub",
    "[global]\nproxy protocol = yes\naddress = 127.0.0.1",
    "[global]\nproxy protocol = yes\nproxy protocol hosts = 192.0.2.1",
    LOGIN.replace("joe", ", joe, @root") + "closed",
]


@pytest.fixture
def base(own_ground: Path) -> Path:
    for name in ("tree/sub", "linked", "inner/sub", "bare", "groups.d", "anybodys.d"):
        (own_ground / name).mkdir(parents=True)
    (own_ground / "linked" / "out").symlink_to("/etc")
    (own_ground / "inner" / "tree").symlink_to("../tree")
    password = "joe:" + 24 * "x" + "\n"
    for name, mode, text in (
        ("open", 0o644, password),
        ("group", 0o660, password),
        ("closed", 0o600, password),
        ("tree/passwords", 0o600, password),
        ("short", 0o600, "# names\njoe:x\n"),
        ("tree/sub/file", 0o644, ""),
        ("anybodys", 0o777, ""),
        ("groups", 0o775, ""),
        ("groups.d/hook", 0o755, ""),
    ):
        (own_ground / name).write_text(text)
        (own_ground / name).chmod(mode)
    (own_ground / "groups.d").chmod(0o775)
    (own_ground / "anybodys.d").chmod(0o1777)
    return own_ground


def inside(base: Path, text: str) -> list[audit.Finding]:
    config = base / "rsyncd.conf"
    config.write_text(text.replace("{base}", str(base)))
    return audit.inside(config)


@contextmanager
def daemon(base: Path, text: str | None, address: str = "127.0.0.1") -> Iterator[int]:
    """An rsync daemon with this configuration, or the one that is there; gives its port."""
    config = base / "rsyncd.conf"
    if text is not None:
        config.write_text(text)
    port = free_port()
    # Not in the file: what the daemon needs at its start it reads up to the first module only.
    options = [f"--port={port}", f"--address={address}", f"--config={config}", f"--log-file={base}/log"]
    process = subprocess.Popen(["rsync", "--daemon", "--no-detach", *options])
    try:
        wait_until(lambda: _listens(address, port), "the daemon")
        yield port
    finally:
        process.terminate()
        process.wait()


def _listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def tls_door(daemon_port: int, certificate: Path, key: Path) -> Iterator[int]:
    """A door with TLS before a daemon; gives its port."""
    port = free_port()
    words = [str(port), str(daemon_port), str(certificate), str(key)]
    process = subprocess.Popen([sys.executable, str(Path(__file__).parent / "tls_door.py"), *words], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    (tmp_path / "pairs").mkdir()
    return Pairs(tmp_path / "pairs")


@pytest.mark.parametrize("added", ["", *RIGHT], ids=repr)
def test_nothing_is_found_where_nothing_is_wrong(base: Path, added: str) -> None:
    assert inside(base, GOOD + added + "\n") == []


@pytest.mark.parametrize(("added", "severity", "words"), WRONG, ids=[" ".join(added.split()) for added, *dummy in WRONG])
def test_each_mistake_is_found_with_a_remedy(base: Path, added: str, severity: str, words: str) -> None:
    findings = inside(base, GOOD + added + "\n")
    wanted = words.replace("{base}", str(base))
    [found] = [finding for finding in findings if wanted in finding.message]
    assert found.severity == severity
    assert found.remedy
    assert "rsyncd.conf:" in found.where or found.where.startswith(str(base))


def test_what_depends_on_the_version_of_rsync(base: Path) -> None:
    inside(
        base,
        GOOD + LOGIN.replace("joe", ", joe, @root Group") + "closed\n[global]\nproxy protocol = yes\nproxy protocol hosts = 192.0.2.1\n",
    )
    found = {version: [finding.message for finding in audit.inside(base / "rsyncd.conf", version)] for version in ("3.4.1", "3.5.0")}
    assert [any(words in message for message in found["3.4.1"]) for words in ("CVE-2026-70463", "whoever it claims")] == [True, True]
    assert [any(words in message for message in found["3.5.0"]) for words in ("CVE-2026-70463", "whoever it claims")] == [False, False]


def given_away(seen: Callable[..., os.stat_result], path: Path) -> Callable[..., os.stat_result]:
    """A look at files by which PATH belongs to account 1234."""

    def look_at(self: Path, **options: bool) -> os.stat_result:
        found = seen(self, **options)
        return os.stat_result([*found[:4], 1234, *found[5:]]) if self == path else found

    return look_at


@pytest.mark.parametrize(
    ("name", "added", "words"),
    [
        ("closed", LOGIN + "closed", "{base}/closed doesn't belong to root, and rsync refuses each login"),
        (
            "groups.d/hook",
            "early exec = {base}/groups.d/hook",
            "'early exec', which rsync runs as root: '{base}/groups.d/hook' belongs to number 1234",
        ),
        ("rsyncd.conf", "", "others can change the configuration: '{base}/rsyncd.conf' belongs to number 1234"),
        ("included", "&include {base}/included", "others can change the configuration: '{base}/included' belongs to number 1234"),
    ],
)
def test_what_another_account_owns_is_in_its_hands(base: Path, name: str, added: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "groups.d").chmod(0o755)
    (base / "included").mkdir()
    inside(base, GOOD + added + "\n")
    for looking in ("stat", "lstat"):
        monkeypatch.setattr(Path, looking, given_away(getattr(Path, looking), base / name))
    [found] = audit.inside(base / "rsyncd.conf")
    assert words.replace("{base}", str(base)) in found.message
    assert found.severity == "high"


def test_a_configuration_that_others_can_change_or_that_is_not_there(base: Path) -> None:
    config = base / "rsyncd.conf"
    inside(base, GOOD)
    for mode, severity in ((0o666, "critical"), (0o664, "high")):
        config.chmod(mode)
        assert [finding.severity for finding in audit.inside(config)] == [severity]
    config.chmod(0o644)
    base.chmod(0o770)
    assert [finding.message for finding in audit.inside(config)] == [
        f"others can change the configuration: others than root may write '{base}'"
    ]
    assert [finding.severity for finding in audit.inside(base / "none.conf")] == ["critical"]


def test_rsync_agrees_on_who_is_let_in_and_what_is_run(base: Path) -> None:
    """What rules above are made of: words that mean something to other programs, and what a shell makes of a client's words."""
    (base / "tree" / "file").touch()
    secrets = base / "closed"
    modules = {
        "word": "hosts allow = ALL",
        "zero": "hosts allow = 0/0",
        "marks": "hosts allow = ?*",
        "group": f"auth users = joe\nsecrets file = {base}/group",
        "open": f"auth users = joe\nsecrets file = {base}/open",
        "shell": 'pre-xfer exec = sh -c "true $RSYNC_REQUEST"',
        "quotes": "pre-xfer exec = sh -c \"true '$RSYNC_REQUEST'\"",
        "variable": "pre-xfer exec = sh -c 'true \"$RSYNC_REQUEST\"'",
        "plain": f'pre-xfer exec = touch "{base}/%RSYNC_REQUEST%"',
    }
    account = "uid = root\ngid = root\n" if os.geteuid() == 0 else ""
    text = account + "use chroot = no\n" + "".join(f"[{name}]\npath = {base}/tree\n{body}\n" for name, body in modules.items())
    with daemon(base, text) as port:
        assert secrets.is_file()

        def gets(module: str, *more: str) -> bool:
            environment = {**os.environ, "RSYNC_PASSWORD": 24 * "x"}
            url = f"rsync://joe@127.0.0.1:{port}/{module}"
            return subprocess.run(["rsync", "--list-only", url], env=environment, capture_output=True, check=False).returncode == 0

        assert {name: gets(name + "/") for name in ("word", "zero", "marks", "group", "open")} == {
            "word": False,
            "zero": True,
            "marks": True,
            "group": True,
            "open": False,
        }
        for module, request in (
            ("shell", ";touch {}"),
            ("quotes", "';touch {};'"),
            ("variable", ";touch {}"),
            ("variable", '";touch {};"'),
        ):
            trace = base / "run-by-a-stranger"
            gets(f"{module}/{request.format(trace)}")
            assert trace.exists() is (module != "variable")
            trace.unlink(missing_ok=True)
        assert gets("plain/file")
        assert (base / "%RSYNC_REQUEST%").exists()


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
    with daemon(base, None) as port:
        shown = subprocess.run(["rsync", f"rsync://127.0.0.1:{port}/"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert ours == shown
    assert len(ours) == 3


@pytest.fixture
def server(base: Path) -> Iterator[int]:
    """A daemon with modules of many kinds; gives its port."""
    (base / "motd").write_text("Welcome\n")
    modules = {
        "public": f"path = {base}/tree",
        "incoming": f"path = {base}/tree\nread only = no",
        "login": f"path = {base}/tree\nauth users = joe\nsecrets file = {base}/closed",
        "closed": f"path = {base}/tree\nhosts deny = *",
        "broken": f"path = {base}/none",
        "hidden": f"path = {base}/tree\nlist = no\nread only = no",
        "hidden closed": f"path = {base}/tree\nlist = no\nhosts deny = *",
        "hidden broken": f"path = {base}/none\nlist = no",
    }
    text = f"use chroot = no\nmotd file = {base}/motd\n" + "".join(f"[{name}]\n{body}\n" for name, body in modules.items())
    with daemon(base, text) as port:
        yield port


def look(port: int, connections: int = 0, modules: Sequence[str] = (), host: str = "127.0.0.1", tls_port: int = 0) -> list[audit.Finding]:
    rsync = shutil.which("rsync")
    assert rsync
    return stranger.outside(rsync, host, port, connections, modules, tls_port)


def test_a_stranger_s_look(server: int, base: Path) -> None:
    before = sorted((base / "tree").iterdir())
    findings = look(server, 5)
    top = f"rsync://127.0.0.1:{server}/"
    assert {(finding.severity, finding.where[len(top) :]) for finding in findings} == {
        ("critical", "incoming/"),
        ("high", "broken/"),
        ("medium", ""),
        ("low", "public/"),
        ("low", "incoming/"),
    }
    assert "can hold 5 silent connections" in next(finding.message for finding in findings if finding.where == top)
    assert sorted((base / "tree").iterdir()) == before
    [gone] = look(free_port(), 5)
    assert "doesn't answer" in gone.message


def test_a_stranger_who_knows_what_isn_t_listed(server: int) -> None:
    known = look(server, modules=["public", "hidden", "hidden closed", "hidden broken"])
    top = f"rsync://127.0.0.1:{server}/"
    found = {(finding.severity, finding.where[len(top) :], finding.message) for finding in known} - {
        (finding.severity, finding.where[len(top) :], finding.message) for finding in look(server)
    }
    assert {(severity, module) for severity, module, dummy in found} == {
        ("critical", "hidden/"),
        ("low", "hidden/"),
        ("high", "hidden broken/"),
    }
    assert any("though it isn't listed" in message for dummy, module, message in found)


def test_an_address_of_ipv6_is_asked(base: Path) -> None:
    with daemon(base, f"use chroot = no\n[public]\npath = {base}/tree\n", "::1") as port:
        for host in ("::1", "[::1]"):
            [found] = look(port, host=host)
            assert (found.severity, found.where) == ("low", f"rsync://[::1]:{port}/public/")


def test_a_server_that_believes_any_proxy(base: Path) -> None:
    # The line is unknown to older versions, which believe everybody.
    text = f"use chroot = no\nproxy protocol = yes\nproxy protocol hosts = {{0}}\n[public]\npath = {base}/tree\n"
    with daemon(base, text.format("*")) as port:
        [found] = look(port)
        assert (found.severity, "believes whatever address" in found.message) == ("critical", True)


def test_a_certificate_that_clients_would_refuse(server: int, pairs: Pairs) -> None:
    soon = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 24 * 3600))
    for pair, findings in (
        (pairs.make("good", host="localhost"), [("low", "refuses its certificate: self")]),
        (
            pairs.make("soon", host="localhost", end=soon),
            [("medium", "its certificate expires on"), ("low", "refuses its certificate: self")],
        ),
        (pairs.make("old", host="localhost", end="20200102000000Z"), [("high", "it has expired")]),
        (pairs.make("other"), [("high", "it is not for the name 'localhost'")]),
    ):
        with tls_door(server, *pair) as port:
            found = [finding for finding in look(server, host="localhost", tls_port=port) if finding.where == f"rsyncs://localhost:{port}/"]
            assert [finding.severity for finding in found] == [severity for severity, dummy in findings]
            assert all(words in finding.message for finding, (dummy, words) in zip(found, findings))


def test_a_port_without_tls_or_with_something_else_behind_it(server: int, pairs: Pairs) -> None:
    def complaint(port: int) -> str:
        return next(finding.message for finding in look(server, host="localhost", tls_port=port) if finding.where.startswith("rsyncs:"))

    assert "there is no TLS" in complaint(server)
    assert "it doesn't answer" in complaint(free_port())
    with tls_door(free_port(), *pairs.make("good", host="localhost")) as port:
        assert "no rsync behind it" in complaint(port)
