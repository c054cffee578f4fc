# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing as root, beside a service that publishes as another account and accounts that serve; and under another name than before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from plays import Play, inventory, play
from test_operations import serial
from testinfra.host import Host

HEAD = "/srv/archive/.mirrornet/head"


@pytest.fixture(params=["master1", "master2"])
def name(request: pytest.FixtureRequest, hosts: dict[str, Host]) -> Iterator[str]:
    """A master whose service leaves the tree to us for a while."""
    name: str = request.param
    hosts[name].check_output("systemctl stop mirrornet-publish-archive.timer mirrornet-publish-archive.service")
    yield name
    hosts[name].check_output("systemctl start mirrornet-publish-archive.timer")


def tell_the_mirrors(name: str, directory: Path, *options: str) -> Play:
    module = {
        "tree": "/srv/archive",
        "sign_key": "/etc/mirrornet/sign_key",
        "file_list": "fullfiletimelist-archive",
        "exclude": [".~tmp~/", ".mirrornet/incoming/"],
    }
    playbook = directory / "play.yml"
    tasks = [{"name": "Tell the mirrors", "mirrornet.rsync.mirror_publish": module}]
    playbook.write_text(yaml.safe_dump([{"hosts": "masters", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    return play(name, *options, playbook=playbook)


def test_the_module_goes_on_where_the_service_was(name: str, hosts: dict[str, Host], tmp_path: Path) -> None:
    """It's root, and the key is root's; the state is the service's."""
    host = hosts[name]
    host.check_output("systemctl start mirrornet-publish-archive.service")
    before = host.check_output("cat %s", HEAD)
    host.check_output("date +%%N >/srv/archive/by-hand")
    foreseen = tell_the_mirrors(name, tmp_path, "--check")
    assert foreseen.changed == {name: 1}, foreseen.output
    assert host.check_output("cat %s", HEAD) == before
    for changed in (1, 0):
        done = tell_the_mirrors(name, tmp_path)
        assert (done.code, done.changed) == (0, {name: changed}), done.output
    after = host.check_output("cat %s", HEAD)
    assert serial(after) > serial(before)
    assert after.split('"epoch":"')[1][:32] == before.split('"epoch":"')[1][:32]
    assert "BEGIN SSH SIGNATURE" in after
    assert "\tby-hand\n" in host.file("/srv/archive/fullfiletimelist-archive").content_string
    # Nothing is root's that the service couldn't replace.
    assert host.check_output("find /srv/archive/.mirrornet /var/lib/mirrornet/publish-archive -user root") == ""
    host.check_output("systemctl start mirrornet-publish-archive.service")
    assert host.check_output("cat %s", HEAD) == after


def test_plain_clients_of_a_tree_that_root_publishes(host: Host) -> None:
    """What they can't read would keep them from deleting anything."""
    host.check_output("mirrornet publish --settle=0 --name=guarded /srv/guarded")
    try:
        host.check_output("install -d -m 700 /srv/guarded/.mirrornet/incoming && mkdir -p /tmp/plain && touch /tmp/plain/gone")
        host.check_output("rsync -a --delete-after rsync://localhost/guarded/ /tmp/plain/")
        assert host.file("/tmp/plain/.mirrornet/head").exists
        assert not host.file("/tmp/plain/gone").exists
    finally:
        host.check_output("rm -rf /srv/guarded/.mirrornet /var/lib/mirrornet/publish-guarded /tmp/plain")


def test_a_module_that_is_renamed_is_published_under_its_new_name(hosts: dict[str, Host]) -> None:
    host, modules = hosts["master2"], inventory()["masters"]["vars"]["rsync_master_modules"]
    host.check_output("mkdir -p /srv/renamed && date >/srv/renamed/file")
    epochs = set()
    try:
        for number, name in enumerate(("before", "after"), 1):
            more = {"name": name, "path": "/srv/renamed", "publish": {"settle": 0}}
            done = play("master2", rsync_master_modules=[*modules, more])
            assert done.code == 0, done.output
            host.check_output("systemctl start mirrornet-publish-%s.service", name)
            published = json.loads(host.check_output("head --lines=1 /srv/renamed/.mirrornet/head"))
            assert published["serial"] == number
            epochs.add(published["epoch"])
        assert len(epochs) == 2
        host.check_output("systemctl start mirrornet-traffic.service")
        metrics = host.file("/var/lib/prometheus/node-exporter/mirrornet_rsync.prom").content_string
        assert re.findall(r'last_success_timestamp_seconds\{name="(\w+)"', metrics) == ["after", "archive"]
    finally:
        # As the inventory has it.
        assert play("master2").code == 0
    assert host.check_output("ls -d /var/lib/mirrornet/publish-*") == "/var/lib/mirrornet/publish-archive"
