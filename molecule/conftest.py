# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of all scenarios share: the scenario's hosts, by the names of its inventory.

A test with the fixture `host` runs once for each host, or for those that its marker names, by host or by group:

    @pytest.mark.on("mirrors")
    def test_that_cron_runs(host): ...

The fixture `hosts` has all of them by name, for a test that needs several: `hosts["master1"].run("…")`.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.backend.base import BaseBackend, CommandResult

# Tests that run plays of their own, with the settings of a checkout, reach the hosts as molecule does.
CONNECTION_PLUGINS = Path(__file__).parent / "shared/connection_plugins"
os.environ["ANSIBLE_CONNECTION_PLUGINS"] = str(CONNECTION_PLUGINS)


class Inside(BaseBackend):
    """Runs testinfra's commands as root in a container of this machine, without podman: see the script."""

    NAME = "inside"

    def run(self, command: str, *args: str, **dummy: Any) -> CommandResult:
        line = self.get_command(command, *args)
        done = self.run_local("%s %s root /bin/sh -c %s", str(CONNECTION_PLUGINS / "inside"), self.hostname, line)
        done.command = self.encode(line)
        return done


def groups_of(inventory: Path) -> dict[str, list[str]]:
    """Each group of an inventory file with its hosts, sorted. Child groups are followed."""
    groups: dict[str, set[str]] = {}

    def walk(name: str, group: dict[str, Any] | None) -> set[str]:
        members = set((group or {}).get("hosts") or {})
        for child, content in ((group or {}).get("children") or {}).items():
            members |= walk(child, content)
        groups.setdefault(name, set()).update(members)
        return groups[name]

    for name, group in yaml.safe_load(inventory.read_text(encoding="utf-8")).items():
        members = walk(name, group)
        groups.setdefault("all", set()).update(members)
    return {name: sorted(members) for name, members in groups.items()}


def scenario_groups() -> dict[str, list[str]]:
    """The groups of the scenario that runs."""
    return groups_of(Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "inventory/hosts.yml")


@cache
def connect(name: str) -> testinfra.host.Host:
    """The host NAME of the scenario that runs, as testinfra sees it."""
    backend = Inside(f"mirrornet-{os.environ['MOLECULE_SCENARIO_NAME']}-{name}")
    host = testinfra.host.Host(backend)
    backend.set_host(host)
    return host


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "on(*names): the hosts or groups that a test with the fixture `host` runs on")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" not in metafunc.fixturenames:
        return
    groups = scenario_groups()
    marker = metafunc.definition.get_closest_marker("on")
    names: list[str] = []
    for name in marker.args if marker else ("all",):
        if name not in groups and name not in groups["all"]:
            pytest.fail(f"{metafunc.definition.nodeid}: the inventory has no host or group {name!r}", pytrace=False)
        names += [host for host in groups.get(name, [name]) if host not in names]
    metafunc.parametrize("host", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> testinfra.host.Host:
    """One host after the other."""
    return connect(request.param)


@pytest.fixture(scope="session")
def hosts() -> dict[str, testinfra.host.Host]:
    """All hosts by name."""
    return {name: connect(name) for name in scenario_groups()["all"]}
