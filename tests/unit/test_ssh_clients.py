# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients over SSH: what is refused, the lines that sshd reads, and what a real sshd makes of them."""

from __future__ import annotations

import base64
import getpass
import os
import shutil
import struct
import subprocess
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SENTINEL, Mirror, free_port, wait_until
from mirrornet import rsync, ssh_clients, ssh_host
from mirrornet.child import Ended
from mirrornet.ssh_clients import Client, Gate

MODULES = [
    {"name": "archive", "path": "/srv/archive"},
    {"name": "pool", "path": "/srv/archive/pool", "sentinel": "READY"},
    {"name": "hiding", "path": "/srv/hiding", "exclude": ["*.secret"]},
    {"name": "incoming", "path": "/srv/incoming", "read_only": False, "write_only": True},
    {"name": "odd", "path": "/srv/my tree"},
]


def blob(*fields: bytes) -> str:
    """The data of a key with these fields."""
    return base64.b64encode(b"".join(struct.pack(">I", len(field)) + field for field in fields)).decode()


ED25519 = "ssh-ed25519 " + blob(b"ssh-ed25519", bytes(range(32)))
OTHER = "ssh-ed25519 " + blob(b"ssh-ed25519", bytes(range(1, 33)))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with key pairs of several kinds."""
    base = tmp_path_factory.mktemp("keys")
    for kind, bits in (("ed25519", ""), ("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521")):
        words = ["-b", bits] if bits else []
        subprocess.run(["ssh-keygen", "-q", "-t", kind, *words, "-N", "", "-C", 'a, "b" c', "-f", str(base / f"{kind}{bits}")], check=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", str(base / "short")], check=True)
    return base


def complaints(client: Any, modules: Any = None) -> str:
    """All that is wrong with one client."""
    return "\n".join(map(str, ssh_clients.check([client], MODULES if modules is None else modules)[1]))


def given(**options: Any) -> dict[str, Any]:
    return {"name": "mirror1", "keys": [ED25519], "module": "archive", **options}


@pytest.mark.parametrize("kind", ["ed25519", "rsa2048", "ecdsa256", "ecdsa384", "ecdsa521"])
def test_a_real_key_is_taken_without_its_comment(keys: Path, kind: str) -> None:
    text = (keys / f"{kind}.pub").read_text()
    [client], problems = ssh_clients.check([given(keys=[text])], MODULES)
    assert problems == []
    assert client.keys == [" ".join(text.split()[:2])]
    assert ssh_host.check_keys([client]) == []


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (7, "key 1: it is not text"),
        ("", "key 1: it is not text"),
        ("mirror1.pub", "not a public key of OpenSSH"),
        ("ssh-ed25519", "not base64"),
        ("ssh-ed25519 %%%", "not base64"),
        (ED25519[:-6], "damaged"),
        ("ssh-rsa " + ED25519.split()[1], "damaged"),
        ("ssh-ed25519 " + blob(b"ssh-ed25519", b"short"), "damaged"),
        ("ssh-ed25519 " + blob(b"ssh-ed25519", bytes(32), b"more"), "damaged"),
        ("ecdsa-sha2-nistp256 " + blob(b"ecdsa-sha2-nistp256", b"nistp384", b"\4" + bytes(64)), "damaged"),
        ("ecdsa-sha2-nistp256 " + blob(b"ecdsa-sha2-nistp256", b"nistp256", b"\2" + bytes(64)), "damaged"),
        ("ssh-rsa " + blob(b"ssh-rsa", b"\2", b"\1" * 256), "damaged"),
        ("ssh-dss AAAA", "DSA key, which sshd no longer takes"),
        ("sk-ssh-ed25519@openssh.com AAAA", "would have to touch"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "it is a certificate"),
        (f'command="/bin/sh" {ED25519}', "something stands before it"),
        (f"no-pty,{ED25519}", "not a public key of OpenSSH"),
        (f"{ED25519}\n{OTHER}", "holds a line end"),
        (f'{ED25519} comment\ncommand="/bin/sh" {OTHER}', "holds a line end"),
        (f"{ED25519}\r", ""),
        (f"{ED25519} a\rb", "holds a line end"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA", "format of another program"),
    ],
)
def test_what_is_no_public_key_is_refused(key: object, message: str) -> None:
    said = complaints(given(keys=[key]))
    assert (message in said) if message else said == ""
    assert not message or "SSH client 'mirror1' (item 1): keys: key 1: " in said


def test_a_short_key_is_refused(keys: Path) -> None:
    assert "it has 1024 bits" in complaints(given(keys=[(keys / "short.pub").read_text()]))


@pytest.mark.parametrize(
    "shape", [lambda text: text, lambda text: text.replace("\n", " "), lambda text: "PuTTY-User-Key-File-3: ssh-ed25519\n" + text[:9]]
)
def test_a_private_key_is_refused_and_never_repeated(keys: Path, shape: Any) -> None:
    text = shape((keys / "ed25519").read_text())
    for value in ([text], text):
        clients, problems = ssh_clients.check([given(keys=value)], MODULES)
        said = "\n".join(map(str, problems))
        assert not clients
        assert ("it is a private key" in said) == isinstance(value, list)
        assert not any(word in said for word in text.split() if len(word) > 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, "unknown option 'nmae'. Did you mean 'name'?"),
        ({"name": "a b"}, "name: 'a b' can't be a client's name"),
        ({"name": 'x"\nssh-rsa'}, "can't be a client's name"),
        ({"name": None}, "name: None can't be"),
        ({"keys": None}, "keys: it is missing"),
        ({"keys": []}, "keys: the list is empty"),
        ({"keys": ED25519}, "keys: it is not a list"),
        ({"keys": [ED25519, ED25519]}, "key 1: it comes twice"),
        ({"module": "archiv"}, "there is no module 'archiv'. Did you mean 'archive'?"),
        ({"module": None}, "there is no module None"),
        ({"path": "/srv/archive"}, "both module and path are given"),
        ({"module": "hiding"}, "module 'hiding' keeps files from its clients by exclude"),
        ({"module": "hiding", "all_files": "yes"}, "'yes' is neither true nor false"),
        ({"module": "incoming"}, "is write only"),
        ({"module": "odd"}, "can't carry '/srv/my tree'"),
        ({"from": "192.0.2.1"}, "is not a list"),
        ({"from": ["fe80::1%eth0"]}, "is not an address or network"),
        ({"from": ['fe80::1%x",command="sh" ssh-ed25519 AAAA\n#']}, "is not an address or network"),
        ({"from": []}, "the list is empty, so that nobody would get in"),
        ({"from": ["mirror1.example.org"]}, "'mirror1.example.org' is not an address"),
        ({"from": ['192.0.2.1",command="sh']}, "is not an address"),
        ({"from": ["192.0.2.1,*"]}, "is not an address"),
        ({"from": ["!192.0.2.1"]}, "is not an address"),
        ({"from": ["192.0.2.1/24"]}, "without bits behind the mask"),
        ({"from": ["192.0.2.0/255.255.255.0"]}, "has a mask that sshd does not read"),
        ({"from": ["::ffff:192.0.2.1"]}, "never matches"),
        ({"state": "gone"}, "'gone' is neither present nor absent"),
    ],
)
def test_a_wrong_client_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    said = complaints(given(**change))
    assert message in said
    assert said.startswith("SSH client ")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/srv/archive/../other", "holds '..'"),
        ("/srv/elsewhere", "'/srv/elsewhere' is in no module's tree"),
        ("/srv/archive2", "is in no module's tree"),
        ("/srv/other", "is in no module's tree"),
        ("/", "would publish the whole host"),
        ("srv/archive", "is not an absolute path"),
        ("/srv/archive/$(id)", "can't carry"),
        ("/srv/archive/a'b", "can't carry"),
        ('/srv/archive/a"b', "can't carry"),
        ("/srv/archive/a b", "can't carry"),
        ("/srv/archive/a%b", "can't carry"),
        ("/srv/archive/é", "can't carry"),
        ("/srv/archive\nssh-rsa", "holds a line end"),
        (["/srv/archive"], "is not text"),
    ],
)
def test_a_path_that_is_not_published_or_can_not_be_carried_is_refused(path: object, message: str) -> None:
    said = complaints({"name": "m", "keys": [ED25519], "path": path})
    assert message in said


def test_neither_module_nor_path() -> None:
    assert "neither module nor path" in complaints({"name": "m", "keys": [ED25519]})


@pytest.mark.parametrize("clients", [{"name": "m"}, "m", None])
def test_a_list_is_asked_for(clients: object) -> None:
    assert "it is not a list" in str(ssh_clients.check(clients, MODULES)[1][0])


def test_two_clients_share_neither_name_nor_key() -> None:
    said = "\n".join(map(str, ssh_clients.check([given(), given()], MODULES)[1]))
    assert "an earlier client has this name" in said
    assert "it is a key of SSH client 'mirror1' (item 1) as well" in said


def test_who_is_absent_needs_no_tree_and_must_not_come_in_under_another_name() -> None:
    assert ssh_clients.check([{"name": "old", "state": "absent"}], MODULES) == ([], [])
    assert ssh_clients.check([{"name": "old", "state": "absent", "keys": [OTHER], "module": "gone"}, given()], MODULES)[1] == []
    assert "it is a key of SSH client 'old'" in str(ssh_clients.check([given(name="old", state="absent"), given()], MODULES)[1][0])


def test_a_path_in_two_modules_passes_the_checks_of_both() -> None:
    modules = [{**MODULES[0], "rebuild_flag": "/var/lib/rebuilding"}, MODULES[1]]
    [client], problems = ssh_clients.check([{"name": "m", "keys": [ED25519], "path": "/srv/archive/pool/main/"}], modules)
    assert problems == []
    assert client.path == "/srv/archive/pool/main"
    assert client.gates == [Gate("archive", "/srv/archive", "", "/var/lib/rebuilding"), Gate("pool", "/srv/archive/pool", "READY", "")]
    assert "can't carry the sentinel" in complaints(given(), [{**MODULES[0], "sentinel": "READ ME"}])
    assert ssh_clients.from_data(ssh_clients.as_data(client)) == client


@pytest.mark.parametrize("user", ["root", "", "Mirror", "a b", "a\nMatch all", "-x", None])
def test_an_account_that_can_not_be_is_refused(user: object) -> None:
    assert ssh_clients.check_user(user)
    assert not ssh_clients.check_user("mirrornet-ssh")


def test_somebody_s_account_is_refused(tmp_path: Path) -> None:
    defs = tmp_path / "login.defs"
    assert ssh_host.check_account("no-such-account", "user", defs) == []
    assert "is root under another name" in str(ssh_host.check_account("root", "user", defs)[0])
    assert "is in use for something else" in str(ssh_host.check_account("daemon", "user", defs)[0])
    defs.write_text("# UID_MIN 5000\nUID_MIN   1\n")
    assert "is an account of a person" in str(ssh_host.check_account("daemon", "user", defs)[0])


def test_a_tree_that_a_link_leads_out_of_is_refused(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "out").symlink_to("/etc")
    (tree / "in").mkdir()
    clients = [Client(name, str(tree / name), within=[str(tree)]) for name in ("out", "in", "missing")]
    said = list(map(str, ssh_host.check_trees(clients)))
    assert len(said) == 2
    assert "'out': path: " in said[0]
    assert "a symbolic link out of the module's tree" in said[0]
    assert "'missing': path: " in said[1]
    assert "is not a directory on this host" in said[1]


def test_the_lines_that_sshd_reads() -> None:
    client = Client("mirror1", "/srv/a", [ED25519], ["192.0.2.0/24", "2001:db8::1"], [Gate("a", "/srv/a", "READ", "")])
    assert ssh_clients.keys_file([client], "/usr/bin/rrsync", "/lib/sentinel").splitlines()[-1] == (
        'restrict,from="192.0.2.0/24,2001:db8::1",command="RSYNC_MODULE_NAME=a /lib/sentinel /srv/a READ \'\' >&2 && '
        f'exec /usr/bin/rrsync -ro /srv/a" {ED25519} mirror1'
    )


def test_files_are_put_once_and_go_with_the_last_client(tmp_path: Path) -> None:
    places = ssh_host.Places(ssh=tmp_path)
    client = Client("mirror1", "/srv/a", [ED25519])

    def put(*clients: Client) -> int:
        made = ssh_host.plan(clients, "mirrornet-ssh", "/usr/bin/rrsync", "/lib/sentinel", places)
        changes = len(made.changes)
        ssh_host.apply(made, "no-such-unit.service")
        assert made.changes == []
        return changes

    assert put() == 0
    assert not ssh_host.is_configured(places)
    assert (put(client), put(client)) == (2, 0)
    places.keys.chmod(0o666)
    assert put(client) == 1
    assert places.keys.stat().st_mode & 0o777 == 0o644
    assert put(client, Client("other", "/srv/a", [OTHER])) == 1
    assert put() == 2
    assert not ssh_host.is_configured(places)


def test_settings_that_sshd_was_not_told_of_are_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = ssh_host.Places(ssh=tmp_path)
    made = ssh_host.plan([Client("m", "/srv/a", [ED25519])], "mirrornet-ssh", "/usr/bin/rrsync", "/s", places)

    def refuse(unit: str) -> None:
        raise OSError(f"{unit} failed")

    with monkeypatch.context() as patched:
        patched.setattr(ssh_host, "_reload", refuse)
        with pytest.raises(OSError, match=r"ssh\.service failed"):
            ssh_host.apply(made, "ssh.service")
    assert not places.settings.exists()
    assert len(made.changes) == 1


# A real sshd.


@pytest.fixture
def places(tmp_path: Path) -> ssh_host.Places:
    """The configuration of an sshd that anybody may start."""
    directory = tmp_path / "etc"
    (directory / "sshd_config.d").mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "host")], check=True)
    config = f"Include {directory}/sshd_config.d/*.conf\nListenAddress 127.0.0.1\nHostKey {directory}/host\nPidFile none\nStrictModes no\nUsePAM no\n"
    (directory / "sshd_config").write_text(config)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    return ssh_host.Places(ssh=directory)


def said_of(places: ssh_host.Places) -> str:
    return "\n".join(map(str, ssh_host.check_sshd("daemon", places, "/usr/sbin/sshd")))


def test_a_sound_configuration_takes_ours(places: ssh_host.Places) -> None:
    # A setting for everybody is no obstacle, in our directory or after it.
    (places.settings.parent / "50-other.conf").write_text("PermitTTY yes\nAllowTcpForwarding yes\n")
    with places.config.open("a") as file:
        file.write("X11Forwarding yes\nAuthorizedKeysFile .ssh/authorized_keys\n")
    assert said_of(places) == ""
    assert not places.settings.exists()


@pytest.mark.parametrize("users", ["admin daemon", "admin dae*", "admin daemon@192.0.2.*", "*@192.0.2.*"])
def test_an_account_that_is_admitted_from_somewhere_is_admitted(places: ssh_host.Places, users: str) -> None:
    (places.settings.parent / "00-first.conf").write_text(f"AllowUsers {users}\n")
    assert said_of(places) == ""


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sshd_config.d/00-first.conf", "Match User daemon\n  PermitTTY yes\n", "it would take PermitTTY yes from another place"),
        ("sshd_config.d/00-first.conf", "Match all\n  AuthorizedKeysFile .ssh/keys\n", "AuthorizedKeysFile .ssh/keys from another place"),
        ("sshd_config.d/00-first.conf", "AllowUsers admin\n", "its AllowUsers does not name daemon"),
        ("sshd_config.d/00-first.conf", "AllowUsers admin@daemon\n", "its AllowUsers does not name daemon"),
        ("sshd_config.d/00-first.conf", "DenyUsers games daemon\n", "its DenyUsers names daemon"),
        ("sshd_config.d/00-first.conf", "NoSuchSetting yes\n", "it does not take its configuration"),
        ("sshd_config", "UsePAM no\n", "does not include"),
    ],
)
def test_a_configuration_that_would_not_do_what_ours_says_is_refused(places: ssh_host.Places, name: str, text: str, message: str) -> None:
    (places.ssh / name).write_text(text)
    assert message in said_of(places)


@pytest.fixture
def door(places: ssh_host.Places, keys: Path, tmp_path: Path) -> Iterator[list[str]]:
    """An sshd that reads what is written here, for one client whose tree has a sentinel; the command of its login."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "READY").write_text("ready")
    (tree / "sub/file").write_text("content")
    me = getpass.getuser()
    port = free_port()
    public = " ".join((keys / "ed25519.pub").read_text().split()[:2])
    client = Client("m", str(tree), [public], ["127.0.0.0/8"], [Gate("tree", str(tree), "READY", str(tmp_path / "flag"))])
    ssh_host.apply(ssh_host.plan([client], me, shutil.which("rrsync") or "", str(SENTINEL), places), "no-such-unit.service")
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {(places.ssh / 'host.pub').read_text()}")
    log = tmp_path / "log"
    with subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-p", str(port), "-f", str(places.config)], stderr=log.open("wb")) as server:
        wait_until(lambda: b"listening" in log.read_bytes(), "sshd")
        yield [
            "ssh", "-F", "none", "-p", str(port), "-l", me, "-i", str(keys / "ed25519"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={tmp_path / 'known'}", "-o", "GlobalKnownHostsFile=/dev/null",
        ]  # fmt: skip
        server.kill()


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


def test_a_key_reads_its_tree_and_nothing_else(door: list[str], tmp_path: Path) -> None:
    rsh = f"--rsh={' '.join(door)}"
    copy = tmp_path / "copy"
    assert run("rsync", "-a", rsh, "127.0.0.1:./", f"{copy}/").returncode == 0
    assert (copy / "sub/file").read_text() == "content"
    assert run("rsync", "-a", rsh, "127.0.0.1:/sub/", f"{copy}/").returncode == 0
    for path in ("../etc/", "/../", "/sub/../../"):
        assert run("rsync", "-a", rsh, f"127.0.0.1:{path}", f"{tmp_path}/out/").returncode != 0
    run("rsync", "-a", rsh, f"127.0.0.1:{tmp_path}/etc/", f"{tmp_path}/out/")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
    assert run("rsync", "-a", rsh, f"{copy}/READY", "127.0.0.1:./NEW").returncode != 0
    assert not (tmp_path / "tree/NEW").exists()
    said = run(*door, "127.0.0.1", f"touch {tmp_path}/shell")
    assert said.returncode != 0
    assert not (tmp_path / "shell").exists()


def test_a_tree_that_is_not_whole_is_not_shown(door: list[str], tmp_path: Path) -> None:
    rsh = f"--rsh={' '.join(door)}"
    copy = tmp_path / "copy"
    assert run("rsync", "-a", rsh, "127.0.0.1:./", f"{copy}/").returncode == 0
    (tmp_path / "flag").touch()
    said = run("rsync", "-a", "--delete", rsh, "127.0.0.1:./", f"{copy}/")
    assert said.returncode != 0
    assert "tree is closed for now: its tree is being rebuilt" in said.stderr
    (tmp_path / "flag").unlink()
    (tmp_path / "tree/READY").unlink()
    said = run("rsync", "-a", "--delete", rsh, "127.0.0.1:./", f"{copy}/")
    assert said.returncode != 0
    assert (copy / "sub/file").exists()


def test_a_job_pulls_what_its_key_is_locked_to(door: list[str], mirror: Mirror, tmp_path: Path) -> None:
    port, me, key = door[door.index("-p") + 1], door[door.index("-l") + 1], door[door.index("-i") + 1]

    def pull(path: str) -> Any:
        return mirror.pull(sources=[f"ssh://{me}@127.0.0.1:{port}{path}"], ssh_key=key, ssh_known_hosts=str(tmp_path / "known"), retries=0)

    assert pull("/./").outcome == "updated"
    assert (mirror.target / "sub/file").read_text() == "content"
    assert pull("/./").outcome == "unchanged"
    (tmp_path / "flag").touch()
    assert pull("/./").kind == "source_closed"
    (tmp_path / "flag").unlink()
    # rrsync says it in its own way, and so does not end the run, that a file that may be missing is.
    assert pull("/./").outcome == "unchanged"
    assert mirror.pull(
        sources=[f"ssh://{me}@127.0.0.1:{port}/./"], ssh_key=key, ssh_known_hosts=str(tmp_path / "known"), check_file="missing", retries=0
    ).outcome in ("unchanged", "updated")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("/usr/bin/rrsync error: unsafe arg: /etc/ ['/etc', '/etc']", "refused"),
        ("/usr/bin/rrsync: option --log-file has been disabled on this server.", "refused"),
        ("/usr/bin/rrsync error: post-realpath open failed (race detected): ./x No such file or directory", "incomplete"),
        ("archive is closed for now: its tree is being rebuilt. Keep your copy, and try again later.", "source_closed"),
    ],
)
def test_what_a_locked_login_says_is_understood(said: str, kind: str) -> None:
    failure = rsync.failure(Ended(12, deque([said, "rsync error: error in rsync protocol data stream (code 12)"])), "ssh://u@h/./", "/t")
    assert failure is not None
    assert failure.kind == kind
    assert said in failure.message
