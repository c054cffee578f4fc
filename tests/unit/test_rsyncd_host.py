# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host says about a master's configuration: real directories, the real rsync, real sockets on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from mirrornet import files, rsyncd, rsyncd_host
from mirrornet.rsyncd_values import show

#: The address that stands for all of IPv4's.
EVERYWHERE = str(ip_address(0))

RSYNC = shutil.which("rsync") or "rsync"


def tree(path: Path, **options: Any) -> dict[str, Any]:
    return {"name": path.name, "path": str(path), **options}


def complaints(*modules: object) -> list[str]:
    return [str(problem) for problem in rsyncd_host.check_modules_on_host(modules, [])]


# Directories and accounts.


def test_a_tree_that_is_there_passes(tmp_path: Path) -> None:
    assert complaints(tree(tmp_path, uid="root", gid="root"), tree(tmp_path, uid=64999, gid="64999")) == []


def test_a_missing_tree_is_refused(tmp_path: Path) -> None:
    (said,) = complaints(tree(tmp_path), tree(tmp_path / "gone"))
    assert said.startswith("module 'gone' (item 2): path: ")
    assert "does not exist" in said


def test_a_file_is_no_tree(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not a directory" in complaints(tree(tmp_path / "file"))[0]


def test_a_dangling_link_is_no_tree(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert "is not a directory" in complaints(tree(tmp_path / "link"))[0]


def test_a_sentinel_must_be_there(tmp_path: Path) -> None:
    (said,) = complaints(tree(tmp_path, sentinel="here"))
    assert f"sentinel: '{tmp_path}/here' does not exist, so that every client would be refused" in said
    assert "sentinel_create: true" in said
    (tmp_path / "here").mkdir()
    assert "is not a file" in complaints(tree(tmp_path, sentinel="here"))[0]
    (tmp_path / "file").touch()
    assert complaints(tree(tmp_path, sentinel="file")) == []


def test_a_sentinel_is_not_created_where_it_would_lie(tmp_path: Path) -> None:
    (said,) = complaints(tree(tmp_path, sentinel="here", sentinel_create=True))
    assert "sentinel_create: " in said
    assert "is empty: it may be a mount point with nothing mounted on it" in said
    (tmp_path / "README").touch()
    assert complaints(tree(tmp_path, sentinel="here", sentinel_create=True)) == []
    (said,) = complaints(tree(tmp_path, sentinel="sub/here", sentinel_create=True))
    assert f"the directory '{tmp_path}/sub' does not exist" in said


@pytest.mark.parametrize(("option", "kind"), [("uid", "user"), ("gid", "group")])
def test_an_account_that_does_not_exist_is_refused(tmp_path: Path, option: str, kind: str) -> None:
    (said,) = complaints(tree(tmp_path, **{option: "no-such-account"}))
    assert f"{option}: there is no {kind} 'no-such-account' on this host" in said
    (problem,) = rsyncd_host.check_accounts("", {option: "no-such-account"}, "rsync_master_")
    assert problem.where == f"rsync_master_{option}"


def test_a_link_into_a_writable_tree_is_found(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    (outer / "sub").mkdir(parents=True)
    inner.symlink_to(outer / "sub")
    (said,) = complaints(tree(outer, read_only=False), tree(inner))
    assert "module 'inner' (item 2): path: it lies inside the path of module 'outer' (item 1), whose clients may write" in said


def test_what_is_wrong_in_itself_is_not_looked_up() -> None:
    modules = ["text", {"name": "a", "path": "no\0path"}, {"name": "b", "path": 7, "uid": []}, tree(Path("/srv/no-such-tree"))]
    known = rsyncd.check_modules(modules)
    assert [p.where for p in rsyncd_host.check_modules_on_host(modules, known)] == ["module 'no-such-tree' (item 4)"]


def test_a_sentinel_is_not_created_where_a_link_leads_out_of_the_tree(tmp_path: Path) -> None:
    inside, outside = tmp_path / "tree", tmp_path / "elsewhere"
    (inside / "sub").mkdir(parents=True)
    outside.mkdir()
    (inside / "link").symlink_to("sub")
    assert complaints(tree(inside, sentinel="link/here", sentinel_create=True)) == []
    (inside / "out").symlink_to(outside)
    (said,) = complaints(tree(inside, sentinel="out/here", sentinel_create=True))
    assert f"sentinel: {show(f'{inside}/out')} leads out of the tree" in said
    (outside / "here").touch()
    assert complaints(tree(inside, sentinel="out/here", sentinel_create=True)) == []


@pytest.mark.parametrize("make", [lambda place: place.symlink_to("/etc"), lambda place: place.symlink_to("nowhere"), Path.touch])
def test_heads_are_put_in_no_place_that_somebody_else_has_chosen(tmp_path: Path, make: Callable[[Path], None]) -> None:
    assert complaints(tree(tmp_path, publish={})) == []
    make(tmp_path / ".mirrornet")
    (said,) = complaints(tree(tmp_path, publish={}))
    assert f"publish: {show(f'{tmp_path}/.mirrornet')} is not a directory itself, and heads belong there" in said
    assert complaints(tree(tmp_path)) == []
    (tmp_path / ".mirrornet").unlink()
    (tmp_path / ".mirrornet").mkdir()
    assert complaints(tree(tmp_path, publish={})) == []


# Files that a module names.


def program(path: Path, mode: int = 0o755) -> str:
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


@pytest.mark.usefixtures("own_ground")
def test_files_and_programs_that_are_there_pass(tmp_path: Path) -> None:
    (tmp_path / "patterns").touch()
    (tmp_path / "secrets").touch(mode=0o600)
    assert (
        complaints(
            tree(
                tmp_path,
                include_from=str(tmp_path / "patterns"),
                exclude_from=str(tmp_path / "patterns"),
                secrets_file=str(tmp_path / "secrets"),
                early_exec="/bin/true",
                pre_xfer_exec=program(tmp_path / "check") + " archive",
                post_xfer_exec="/bin/sh",
                log_file=str(tmp_path / "log"),
                charset="ISO-8859-1",
            )
        )
        == []
    )


def test_a_file_of_passwords_that_the_role_is_to_write_need_not_be_there(tmp_path: Path) -> None:
    module = tree(tmp_path, secrets_file=str(tmp_path / "secrets.d/archive"))
    assert rsyncd_host.check_modules_on_host([module], [], f"{tmp_path}/secrets.d/") == []
    assert len(rsyncd_host.check_modules_on_host([module], [], f"{tmp_path}/secrets")) == 1


@pytest.mark.parametrize("option", ["include_from", "exclude_from"])
def test_a_missing_file_of_patterns_is_refused(tmp_path: Path, option: str) -> None:
    (said,) = complaints(tree(tmp_path, **{option: str(tmp_path / "gone")}))
    assert f"{option}: there is no file" in said


def test_a_file_of_passwords_for_all_to_read_is_refused(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    assert "secrets_file: there is no file" in complaints(tree(tmp_path, secrets_file=str(secrets)))[0]
    secrets.touch(mode=0o640)
    assert "can be read or written by others than its owner. Run: chmod 600" in complaints(tree(tmp_path, secrets_file=str(secrets)))[0]
    secrets.chmod(0o600)
    (tmp_path / "link").symlink_to(secrets)
    assert "is not a file itself" in complaints(tree(tmp_path, secrets_file=str(tmp_path / "link")))[0]


def test_a_file_of_passwords_of_somebody_else_s_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secrets").touch(mode=0o600)
    monkeypatch.setattr(rsyncd_host, "_TRUSTED", {12345})
    (said,) = complaints(tree(tmp_path, secrets_file=str(tmp_path / "secrets")))
    assert "secrets_file: " in said
    assert "does not belong to root, so rsync would refuse each login" in said


@pytest.fixture
def somebody_else_s(own_ground: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of another account's, that nobody else may write."""
    place = own_ground / "somebody-s"
    place.mkdir()
    seen = files._status

    def status(path: Path) -> os.stat_result:
        found = seen(path)
        return os.stat_result([*found[:4], 4_000_000, *found[5:]]) if path == place else found

    monkeypatch.setattr(files, "_status", status)
    return place


def test_a_program_or_log_in_somebody_else_s_directory_is_refused(somebody_else_s: Path) -> None:
    below = somebody_else_s / "below"
    below.mkdir()
    first, second = complaints(tree(somebody_else_s, pre_xfer_exec=program(below / "check"), log_file=f"{below}/archive.log"))
    assert f"pre_xfer_exec: '{below}/check' runs as root, but '{somebody_else_s}' belongs to number 4000000" in first
    assert f"log_file: root opens '{below}/archive.log', but '{somebody_else_s}' belongs to number 4000000" in second


@pytest.mark.usefixtures("own_ground")
def test_a_program_that_others_may_change_or_replace_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "programs"
    place.mkdir()
    options = {"post_xfer_exec": f"{place}/report now"}
    assert f"post_xfer_exec: there is no program '{place}/report'" in complaints(tree(tmp_path, **options))[0]
    program(place / "report", 0o644)
    assert "is not an executable file" in complaints(tree(tmp_path, **options))[0]
    program(place / "report", 0o775)
    assert f"but others than root may write '{place}/report'" in complaints(tree(tmp_path, **options))[0]
    program(place / "report")
    assert complaints(tree(tmp_path, **options)) == []
    place.chmod(0o777)
    assert f"but others than root may write '{place}'" in complaints(tree(tmp_path, **options))[0]
    # A link is as good as what it leads to.
    (tmp_path / "link").symlink_to(place / "report")
    assert f"but others than root may write '{place}'" in complaints(tree(tmp_path, early_exec=str(tmp_path / "link")))[0]
    place.chmod(0o755)
    (place / "report").unlink()
    (place / "report").mkdir()
    assert "is not an executable file" in complaints(tree(tmp_path, **options))[0]


@pytest.mark.usefixtures("own_ground")
def test_a_log_that_others_could_lead_elsewhere_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "logs"
    options = {"log_file": f"{place}/archive.log"}
    assert "log_file: the directory" in complaints(tree(tmp_path, **options))[0]
    place.mkdir()
    (place / "archive.log").symlink_to("/etc/passwd")
    assert "is not a file itself" in complaints(tree(tmp_path, **options))[0]
    (place / "archive.log").unlink()
    assert complaints(tree(tmp_path, **options)) == []
    for mode in (0o777, 0o775, 0o1777):
        place.chmod(mode)
        assert f"but others than root may write '{place}', and so could lead it elsewhere" in complaints(tree(tmp_path, **options))[0]
    place.chmod(0o755)
    (place / "archive.log").touch(mode=0o666)
    (place / "archive.log").chmod(0o666)
    assert f"but others than root may write '{place}/archive.log'" in complaints(tree(tmp_path, **options))[0]


def test_a_character_set_that_the_host_does_not_know_is_refused(tmp_path: Path) -> None:
    (said,) = complaints(tree(tmp_path, charset="nonsense"))
    assert "charset: this host does not know the character set 'nonsense'" in said


def test_a_configuration_needs_a_directory(tmp_path: Path) -> None:
    assert rsyncd_host.check_config_path(str(tmp_path / "rsyncd.conf"), "x") == []
    assert "is a directory" in str(rsyncd_host.check_config_path(str(tmp_path), "x")[0])
    assert "does not exist" in str(rsyncd_host.check_config_path(str(tmp_path / "gone" / "rsyncd.conf"), "x")[0])


def test_an_address_that_the_host_lacks_is_refused() -> None:
    (problem,) = rsyncd_host.check_addresses(["127.0.0.1", EVERYWHERE, "192.0.2.77"], "rsync_master_addresses")
    assert str(problem).startswith("rsync_master_addresses: this host does not have the address '192.0.2.77'")


# rsync.

CANDIDATE = """\
use chroot = yes
[archive]
    path = /srv/archive
    {line}
"""

CANDIDATES = [
    # a line, what rsync says to it
    ("read only = yes", ""),
    ("comment = %USER% # [x] = ü", ""),
    ("hosts alow = 192.0.2.7", "hosts alow"),
    ("read only = maybe", "maybe"),
    ("[broken", "Badly formed line"),
    ("no equals sign", "no equals sign"),
    ("motd file = /etc/motd", "Global parameter motd file found in module section"),
    ("pre_xfer_exec = /bin/true", "pre_xfer_exec"),
]


@pytest.mark.parametrize(("line", "words"), CANDIDATES)
def test_rsync_is_asked(line: str, words: str) -> None:
    said = rsyncd_host.ask_rsync(RSYNC, CANDIDATE.format(line=line))
    if words:
        assert len(said) == 1
        assert words in said[0]
    else:
        assert said == []


def test_a_program_that_is_not_rsync_does_not_pass() -> None:
    assert "gave no reason" in rsyncd_host.ask_rsync("/bin/true", "")[0]


def test_rsync_is_found_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    # As under a login whose PATH lacks the system's directories.
    monkeypatch.setenv("PATH", "/nonexistent")
    found = rsyncd_host.find_rsync()
    assert found is not None
    printed = subprocess.run([found, "--version"], stdout=subprocess.PIPE, check=True).stdout.decode().split()[2]
    assert rsyncd_host.rsync_version(found) == printed.lstrip("v")


# The port.


def listen(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.bind((address, 0))
    listener.listen()
    return listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_a_port_in_use_is_refused_and_its_holder_named() -> None:
    with closing(listen("127.0.0.1")) as listener:
        port = port_of(listener)
        (problem,) = rsyncd_host.check_port(port, [], [], "rsync_master_port")
        assert str(problem).startswith(f"rsync_master_port: port {port} is in use: ")
        assert " listens on 127.0.0.1. Stop it, or choose another port" in str(problem)
        (found,) = rsyncd_host.listeners(port)
        # Under systemd the holder is this process's unit, elsewhere the process itself.
        assert found.holder.endswith((".service", f"(process {os.getpid()})"))
        assert rsyncd_host.check_port(port, [], [found.holder], "rsync_master_port") == []
    assert rsyncd_host.check_port(port, [], [], "rsync_master_port") == []


@pytest.mark.parametrize(
    ("held", "wanted", "in_the_way"),
    [
        ("127.0.0.1", ["127.0.0.1"], True),
        ("127.0.0.1", ["127.0.0.2"], False),
        ("127.0.0.1", ["192.0.2.1", EVERYWHERE], True),
        ("127.0.0.1", ["::"], True),
        ("127.0.0.1", ["::1"], False),
        (EVERYWHERE, ["127.0.0.2"], True),
        (EVERYWHERE, ["::1"], False),
        ("::", ["127.0.0.1"], True),
        ("::", ["::1"], True),
        ("::1", ["127.0.0.1"], False),
        ("::1", [], True),
    ],
)
def test_only_listeners_in_the_way_count(held: str, wanted: list[str], in_the_way: bool) -> None:
    with closing(listen(held)) as listener:
        assert bool(rsyncd_host.check_port(port_of(listener), wanted, [], "x")) is in_the_way


def fake_proc(top: Path, process: str, cgroup: str) -> Path:
    """A /proc with one listener on port 873 (0x369) of all IPv4 addresses, whose socket belongs to PROCESS."""
    (top / "net").mkdir()
    (top / "net/tcp").write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 00000000:0369 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n"
        "   1: 00000000:0369 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n"
    )
    (top / process / "fd").mkdir(parents=True)
    (top / process / "fd/3").symlink_to("socket:[4711]")
    (top / process / "cgroup").write_text(cgroup)
    (top / process / "comm").write_text("rsync\n")
    return top


HOLDERS = [
    ("1", "0::/init.scope\n", {873: ["mirrornet-rsyncd.socket"]}, "mirrornet-rsyncd.socket"),
    ("1", "0::/init.scope\n", {}, "systemd (process 1)"),
    ("42", "0::/system.slice/rsync.service\n", {}, "rsync.service"),
    ("42", "12:pids:/system.slice/system-x.slice/x@1.service/sub\n0::/\n", {}, "x@1.service"),
    ("42", "0::/user.slice/session-1.scope\n", {}, "rsync (process 42)"),
]


@pytest.mark.parametrize(("process", "cgroup", "units", "holder"), HOLDERS)
def test_the_holder_of_a_port_is_called_as_an_operator_would(
    tmp_path: Path, process: str, cgroup: str, units: dict[int, list[str]], holder: str
) -> None:
    proc = fake_proc(tmp_path, process, cgroup)
    assert rsyncd_host.listeners(873, proc, lambda: units) == [rsyncd_host.Listener(EVERYWHERE, 873, holder)]


def test_properties_of_units_are_read() -> None:
    text = "Id=a.socket\nActiveState=active\nListen=[::]:873 (Stream)\nListen=/run/x (Stream)\n\nId=b.socket\nActiveState=inactive\n"
    assert rsyncd_host.read_properties(text) == [
        {"Id": ["a.socket"], "ActiveState": ["active"], "Listen": ["[::]:873 (Stream)", "/run/x (Stream)"]},
        {"Id": ["b.socket"], "ActiveState": ["inactive"]},
    ]
    assert rsyncd_host.read_properties("") == []


def test_what_is_asked_of_the_log_must_be_possible(tmp_path: Path) -> None:
    def problems(**options: object) -> list[str]:
        return [str(problem) for problem in rsyncd_host.check_log(options, [], str(old), "rsync_master_", tmp_path / "fail2ban")]

    old = tmp_path / "rsync"
    old.write_text("#!/bin/sh\necho rsync  version 3.2.3  protocol version 31\n")
    old.chmod(0o755)
    assert problems(metrics_directory="", fail2ban=False, log_file="") == []
    assert "does not exist" in problems(metrics_directory=str(tmp_path / "none"))[0]
    assert "Install fail2ban first" in problems(fail2ban=True, log_file="")[0]
    (tmp_path / "fail2ban" / "filter.d").mkdir(parents=True)
    assert problems(fail2ban=True, log_file="", metrics_directory=str(tmp_path)) == []
    assert "rsync 3.2.3 lets clients write lines of their own" in problems(fail2ban=True, log_file=f"{tmp_path}/logs/rsyncd.log")[0]


def test_the_log_s_directory_must_be_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "logs"
    modules = ["no module", {"name": "a"}, {"name": "b", "log_file": f"{place}/b.log"}, {"name": "c", "log_file": "/elsewhere/c.log"}]

    def said(path: str = "logs") -> str:
        return "\n".join(map(str, rsyncd_host.check_log({"log_file": f"{tmp_path}/{path}/x.log"}, modules, None, "rsync_master_")))

    assert said() == ""
    place.mkdir()
    for name in ("x.log", "x.log-20260101", "x.log.2.gz", "b.log"):
        (place / name).touch()
    assert said() == ""
    (place / "c.log").touch()
    assert said() == (
        f"rsync_master_log_file: '{place}' is there already, and holds something else ('c.log'). "
        "Give the log a directory of its own, which the role makes."
    )
    (place / "c.log").unlink()
    (place / "x.log.d").mkdir()
    assert "holds something else ('x.log.d')" in said()
    (place / "x.log.d").rmdir()
    (place / "x.log.1").symlink_to("/etc/passwd")
    assert "holds something else ('x.log.1')" in said()
    (place / "x.log.1").unlink()
    (tmp_path / "link").symlink_to(place)
    (tmp_path / "file").touch()
    assert f"'{tmp_path}/link' is not a directory itself" in said("link")
    assert f"'{tmp_path}/file' is not a directory itself" in said("file")
    assert f"'{tmp_path}/file/below' can't be looked at: Not a directory" in said("file/below")
    monkeypatch.setattr(rsyncd_host, "_TRUSTED", {12345})
    assert f"'{place}' belongs to somebody else" in said()
