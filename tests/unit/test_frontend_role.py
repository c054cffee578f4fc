# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role rsync_master renders for each frontend, on each family of systems."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from collection import ROOT
from test_rsyncd_role import INTERNAL, MODULES, PLATFORMS, render, unit

LISTENERS = ("daemon", "inetd", "xinetd")
BOTH = ["192.0.2.1", "2001:db8::1"]


def rendered(template: str, platform: str = "Debian", package: str = "openbsd-inetd", ipv6: bool = True, **variables: Any) -> str:
    # The program is one that systemd finds wherever the tests run.
    check = {"superserver": {"package": package, "program": "/bin/true", "installed": True}, "ipv6": ipv6}
    return render(template, platform, **{"rsync_master_modules": MODULES, "__rsync_master_check": check, **variables})


def service(frontend: str, **variables: Any) -> dict[str, list[str]]:
    return unit(rendered(f"mirrornet-rsyncd-{frontend}.service.j2", **variables))


def test_each_file_of_a_frontend_has_its_template() -> None:
    for told in INTERNAL["__rsync_master_frontends"].values():
        assert told["unit"] in {Path(path).name for path in told["files"]}
        assert set(told["start"]) <= set(told["files"])
        templates = ROOT / "roles/rsync_master/templates"
        assert all((templates / (Path(path).name + ".j2")).exists() for path in told["files"] + told["connections"])


def test_a_frontend_that_is_removed_takes_nobody_else_s_files_along() -> None:
    # Any of them that is there counts as one that the role has set up.
    paths = [Path(path) for told in INTERNAL["__rsync_master_frontends"].values() for path in told["files"] + told["connections"]]
    assert all(path.name.startswith("mirrornet-") for path in paths)


@pytest.mark.parametrize("package", ["openbsd-inetd", "inetutils-inetd"])
def test_a_host_without_ipv6_is_not_asked_for_it(package: str) -> None:
    assert [line.split()[:3] for line in lines(rendered("mirrornet-rsyncd-inetd.conf.j2", package=package, ipv6=False))] == [
        ["0.0.0.0:873", "stream", "tcp4"]
    ]
    assert "flags = NOLIBWRAP" in lines(rendered("mirrornet-rsyncd-xinetd.conf.j2", ipv6=False))


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("frontend", LISTENERS)
@pytest.mark.parametrize("package", ["openbsd-inetd", "inetutils-inetd"])
def test_systemd_reads_the_units(tmp_path: Path, platform: str, frontend: str, package: str) -> None:
    name = INTERNAL["__rsync_master_frontends"][frontend]["unit"]
    text = rendered(name + ".j2", platform, package, rsync_master_addresses=["::1"])
    # Manual pages are not installed everywhere, and systemd looks for them.
    (tmp_path / name).write_text("".join(line for line in text.splitlines(True) if not line.startswith("Documentation")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert [line for line in done.stdout.splitlines() if "mirrornet" in line] == []
    assert done.returncode == 0


@pytest.mark.parametrize("frontend", LISTENERS)
def test_the_start_of_one_stops_any_other_first(frontend: str) -> None:
    # Two units of which one conflicts with the other exclude each other; each pair needs it once.
    units = [told["unit"] for told in INTERNAL["__rsync_master_frontends"].values()]
    before = units[: units.index(INTERNAL["__rsync_master_frontends"][frontend]["unit"])]
    said = service(frontend)
    assert said["Conflicts"] == before
    assert set(before) <= set(said["After"])
    assert said["KillMode"] == ["process"]


@pytest.mark.parametrize("frontend", LISTENERS)
def test_a_listener_is_confined_and_may_bind_only_where_the_port_asks_for_it(frontend: str) -> None:
    needed = "CAP_SYS_CHROOT CAP_SETUID CAP_SETGID"
    said = service(frontend)
    assert said["CapabilityBoundingSet"] == [needed + " CAP_NET_BIND_SERVICE"]
    assert said["ReadWritePaths"] == [r'-"/srv/in \"box\" 100%%"']
    assert (said["NoNewPrivileges"], said["ProtectSystem"], said["RestrictAddressFamilies"]) == (
        ["yes"],
        ["strict"],
        ["AF_INET AF_INET6 AF_UNIX"],
    )
    assert service(frontend, rsync_master_port=8730)["CapabilityBoundingSet"] == [needed]


def test_nobody_stops_a_listener_by_asking_often() -> None:
    # Each of these has a limit of its own otherwise, above which it closes for a while or for good.
    assert unit(rendered("mirrornet-rsyncd.socket.j2"))["TriggerLimitIntervalSec"] == ["0"]
    assert "cps = 1000000 1" in lines(rendered("mirrornet-rsyncd-xinetd.conf.j2"))
    for package, option in (("openbsd-inetd", " -R 1000000 "), ("inetutils-inetd", " --rate=1000000 ")):
        assert option in unit(rendered("mirrornet-rsyncd-inetd.service.j2", package=package))["ExecStart"][0]


@pytest.mark.parametrize("frontend", LISTENERS)
def test_a_listener_comes_back_however_often_it_dies(frontend: str) -> None:
    said = service(frontend)
    assert (said["Restart"], said["StartLimitIntervalSec"]) == (["always"], ["0"])


def test_silent_clients_have_room_beside_all_others() -> None:
    assert service("daemon", rsync_master_max_connections=30)["TasksMax"] == [str(2 * 30 + 512)]


@pytest.mark.parametrize("frontend", LISTENERS)
def test_what_limits_one_client_is_loaded_with_a_listener(frontend: str) -> None:
    limit = "mirrornet-rsyncd-limit.service"
    assert "Wants" not in service(frontend) or limit not in service(frontend)["Wants"]
    said = service(frontend, __rsync_master_limiting=True)
    assert limit in said["Wants"]
    assert limit in said["After"]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_nftables_counts_each_family_s_clients_at_the_port(platform: str) -> None:
    rules = lines(rendered("mirrornet-rsyncd-limit.nft.j2", platform, rsync_master_port=8730, __rsync_master_max_connections_per_source=7))
    turned_away = "saddr ct count over 7 } counter reject with tcp reset"
    assert [line for line in rules if line.startswith("tcp")] == [
        f"tcp dport 8730 ct state new add @clients4 {{ ip {turned_away}",
        f"tcp dport 8730 ct state new add @clients6 {{ ip6 {turned_away}",
    ]
    path = INTERNAL["__rsync_master_limit_path"]
    assert unit(rendered("mirrornet-rsyncd-limit.service.j2", platform))["ExecStart"] == [f"/usr/sbin/nft -f {path}"]
    again = unit(rendered("rsyncd-limit.conf.j2", platform))
    assert again["ExecStart"] == again["ExecReload"] == [f"-/usr/sbin/nft -f {path}"]


def test_the_daemon_listens_on_one_address_or_all() -> None:
    assert service("daemon")["ExecStart"] == ['/usr/bin/rsync --daemon --no-detach "--config=/etc/rsyncd.conf" --port=873']
    assert service("daemon", rsync_master_addresses=["::1"])["ExecStart"][0].endswith(" --address=::1")


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


@pytest.mark.parametrize(("package", "six"), [("openbsd-inetd", "tcp6"), ("inetutils-inetd", "tcp6only")])
def test_inetd_listens_on_each_address(package: str, six: str) -> None:
    command = "nowait root /usr/bin/rsync rsync --daemon --config=/etc/rsyncd.conf"
    assert lines(rendered("mirrornet-rsyncd-inetd.conf.j2", package=package)) == [
        f"0.0.0.0:873 stream tcp4 {command}",
        f":::873 stream {six} {command}",
    ]
    assert lines(rendered("mirrornet-rsyncd-inetd.conf.j2", package=package, rsync_master_addresses=BOTH, rsync_master_port=8730)) == [
        f"192.0.2.1:8730 stream tcp4 {command}",
        f"2001:db8::1:8730 stream {six} {command}",
    ]


def test_xinetd_has_a_service_for_each_address() -> None:
    everywhere = lines(rendered("mirrornet-rsyncd-xinetd.conf.j2", rsync_master_max_connections=30))
    assert everywhere.count("service mirrornet-rsyncd") == 1
    assert {"flags = NOLIBWRAP IPv6", "port = 873", "instances = 30", "per_source = 20"} <= set(everywhere)
    assert not any(line.startswith("bind") for line in everywhere)
    given = lines(rendered("mirrornet-rsyncd-xinetd.conf.j2", rsync_master_addresses=BOTH, __rsync_master_max_connections_per_source=0))
    assert [line for line in given if line.startswith("bind")] == ["bind = 192.0.2.1", "bind = 2001:db8::1"]
    assert given.count("per_source = UNLIMITED") == 2


def test_the_total_is_rsync_s_to_count_where_nothing_before_it_does() -> None:
    for frontend in LISTENERS:
        text = lines(rendered("rsyncd.conf.j2", __rsync_master_frontend=frontend, rsync_master_max_connections=30))
        assert {"max connections = 30", "lock file = /run/mirrornet-rsyncd/.all.lock"} <= set(text)
    assert not any("max connections" in line for line in lines(rendered("rsyncd.conf.j2", rsync_master_modules=MODULES[:1])))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_superservers_of_a_platform_belong_to_a_frontend(platform: str) -> None:
    for server in PLATFORMS[platform]["superservers"]:
        assert server["frontend"] in {"inetd", "xinetd"}
        assert server["program"].startswith("/usr/sbin/")
