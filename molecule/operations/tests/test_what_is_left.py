# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last of this scenario: masters that stop serving, by the words of the guide, leave no door open."""

from __future__ import annotations

import re

import yaml
from plays import CHECKOUT, play
from testinfra.host import Host

GUIDE = (CHECKOUT / "docs/guide_master.md").read_text(encoding="utf-8").partition("## Stop serving")[2]
#: Beside what the inventory asks for: what has doors of its own.
MORE = {
    "rsync_master_frontend": "daemon",
    "rsync_master_max_connections_per_source": 5,
    "rsync_master_ssh_clients": [
        {"name": "mirror1", "module": "archive", "all_files": True, "keys": ["ssh-ed25519 " + "AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43]}
    ],
}
#: All that is of the role's name and can let anybody in, or be started.
LEFT = """
find /etc/systemd /etc/cron.d /etc/fail2ban /etc/logrotate.d /etc/nftables.d /etc/ssh /etc/rsyncd.secrets.d /usr/local/bin -name '*mirrornet*' 2>/dev/null
find /etc/rsyncd.secrets.d -type f 2>/dev/null
systemctl list-units --all --plain --no-legend 'mirrornet*'
nft list ruleset 2>/dev/null | grep mirrornet
ufw status 2>/dev/null | grep mirrornet
ss --listening --tcp --numeric --no-header 'sport = :873'
grep '^\\[' /etc/rsyncd.conf
"""


def test_who_stops_serving_by_the_guide_leaves_no_door_open(hosts: dict[str, Host]) -> None:
    told = play("masters", **MORE)
    assert told.code == 0, told.output
    for host in hosts.values():
        for expected in ("mirrornet-rsyncd-limit.service", "mirrornet-publish-archive.timer", "mirrornet-rsync.keys", ":873"):
            assert expected in host.run(LEFT).stdout
    variables, commands = re.findall(r"^```(?:yaml)?\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    told = play("masters", **{**MORE, **yaml.safe_load(variables)})
    assert told.code == 0, told.output
    for host in hosts.values():
        assert "Failed" not in host.check_output(f"( {commands} ) 2>&1")
        host.run("timeout 60 sh -c %s", f"while ( {LEFT} ) | grep --quiet .; do sleep 0.2; done")
        assert host.run(LEFT).stdout == ""
        assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""
