# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What frontends can't do, and what on a host stands in the way of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mirrornet import frontend
from mirrornet.rsyncd_host import UnitState

DEBIAN = frontend.superservers(
    [
        {"package": "openbsd-inetd", "frontend": "inetd", "program": "/usr/sbin/inetd"},
        {"package": "inetutils-inetd", "frontend": "inetd", "program": "/usr/sbin/inetutils-inetd"},
        {"package": "xinetd", "frontend": "xinetd", "program": "/usr/sbin/xinetd"},
    ]
)
RED_HAT = frontend.superservers([{"package": "xinetd", "frontend": "xinetd", "program": "/usr/sbin/xinetd", "last_release": 8}])


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("daemon", {"addresses": ["192.0.2.1"]}, ""),
        ("daemon", {"addresses": ["192.0.2.1", "::1"]}, "on one address, or on all"),
        ("xinetd", {"addresses": ["0:0::0"]}, "without listening on IPv4 too"),
        ("inetd", {"config_path": "/etc/my rsyncd.conf"}, "can't be written in the configuration of inetd"),
        ("systemd_socket", {"addresses": ["::", "::1"], "config_path": "/a b"}, ""),
    ],
)
def test_what_a_frontend_cannot_do_is_refused(name: str, options: dict[str, Any], said: str) -> None:
    problems = [str(problem) for problem in frontend.check_options(name, options, "rsync_master_")]
    assert [said in problem for problem in problems] == ([True] if said else [])


@pytest.mark.parametrize("name", ["daemon", "inetd", "xinetd", "systemd_socket", ""])
@pytest.mark.parametrize("limit", [0, 1, None])
def test_one_client_that_can_hold_all_connections_is_a_warning(name: str, limit: int | None) -> None:
    told = frontend.advise(name, {} if limit is None else {"max_connections_per_source": limit}, "rsync_master_")
    assert len(told) == (name in ("daemon", "inetd") and limit == 0)
    assert all("one client can hold all connections" in line for line in told)
    assert all("Set rsync_master_max_connections_per_source: 20" in line for line in told)


def test_a_superserver_that_serves_something_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/inetd").touch()
    (tmp_path / "etc").mkdir()

    def said() -> list[str]:
        chosen = frontend.choose_superserver("xinetd", "", DEBIAN, tmp_path)
        return [str(problem) for problem in frontend.check_superserver("xinetd", chosen, DEBIAN, 12, "f", tmp_path)]

    assert said() == []
    (tmp_path / "etc/inetd.conf").write_text("# tftp off\n#finger stream tcp nowait root /x x\ntftp dgram udp wait root /x x\n")
    assert "would remove openbsd-inetd, which serves tftp here" in said()[0]
    chosen = frontend.choose_superserver("inetd", "", DEBIAN, tmp_path)
    assert chosen is not None
    assert chosen.package == "openbsd-inetd"


def test_services_of_xinetd_are_found() -> None:
    text = "service a\n{\n disable = yes\n}\nservice b\n{\n port = 1\n}\n# service c\n"
    assert frontend.xinetd_services(text) == ["b"]


@pytest.mark.parametrize(("release", "said"), [(8, ""), (9, "no xinetd from release 9 on, and this host has 9")])
def test_the_red_hat_family_s_xinetd_ends(tmp_path: Path, release: int, said: str) -> None:
    chosen = frontend.choose_superserver("xinetd", "", RED_HAT, tmp_path)
    problems = [str(problem) for problem in frontend.check_superserver("xinetd", chosen, RED_HAT, release, "f", tmp_path)]
    assert [said in problem for problem in problems] == ([True] if said else [])
    assert "no package for 'inetd'" in str(next(frontend.check_superserver("inetd", None, RED_HAT, release, "f", tmp_path)))


@pytest.mark.parametrize(
    ("present", "units", "chosen"),
    [
        ([], {}, "systemd_socket"),
        (["inetd"], {"rsync.service": UnitState("active")}, "inetd"),
        ([], {"rsync.service": UnitState("active"), "xinetd.service": UnitState("active")}, "daemon"),
        ([], {"rsync.service": UnitState("inactive"), "xinetd.service": UnitState("active")}, "xinetd"),
    ],
)
def test_auto_keeps_the_ways_of_the_host(present: list[str], units: dict[str, UnitState], chosen: str) -> None:
    assert frontend.choose(present, units, ["daemon", "inetd", "systemd_socket", "xinetd"]) == chosen


def test_what_the_platform_has_not_got_is_not_chosen() -> None:
    units = {"xinetd.service": UnitState("active"), "rsync.service": UnitState("inactive")}
    assert frontend.choose([], units, ["systemd_socket", "daemon", "xinetd"]) == "xinetd"
    assert frontend.choose([], units, ["systemd_socket", "daemon"]) == "systemd_socket"


def test_a_rest_of_a_frontend_counts_as_one(tmp_path: Path) -> None:
    (tmp_path / "unit").symlink_to("gone")
    (tmp_path / "conf").touch()
    files = {name: [str(tmp_path / file), str(tmp_path / "other")] for name, file in (("a", "unit"), ("b", "conf"), ("c", "none"))}
    assert frontend.present(files) == ["a", "b"]


def test_a_unit_that_is_older_than_its_files_is_outdated(tmp_path: Path) -> None:
    path = tmp_path / "unit"
    path.touch()
    changed = path.stat().st_ctime
    for since, outdated in ((90.0, True), (110.0, False)):
        assert frontend.is_outdated(UnitState("active", since), [str(path)], now=changed, uptime=100.0) is outdated
    assert frontend.is_outdated(UnitState("active", 110.0, True), [], now=changed, uptime=100.0)
    assert not frontend.is_outdated(UnitState("inactive", 90.0), [str(path)], now=changed, uptime=100.0)
