# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playing the role again from a test, each host with a frontend of its own."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from plays import Play, inventory, play
from testinfra.host import Host

# What the hosts are stays the same, so the plays of the tests ask for it once.
FACTS = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "facts"
shutil.rmtree(FACTS, ignore_errors=True)
os.environ.update(ANSIBLE_CACHE_PLUGIN="ansible.builtin.jsonfile", ANSIBLE_CACHE_PLUGIN_CONNECTION=str(FACTS))

MASTERS = inventory()["masters"]
HOSTS: dict[str, dict[str, str]] = MASTERS["hosts"]
VARIABLES: dict[str, Any] = MASTERS["vars"]

#: What listens, for each frontend.
UNITS = {
    "systemd_socket": "mirrornet-rsyncd.socket",
    "daemon": "mirrornet-rsyncd-daemon.service",
    "inetd": "mirrornet-rsyncd-inetd.service",
    "xinetd": "mirrornet-rsyncd-xinetd.service",
}

#: A file that takes long.
SLOW = "truncate --size=50M /srv/archive/slow && chmod 644 /srv/archive/slow"
#: A client of this frontend whose transfer lasts until it is stopped.
BEGIN = """
systemctl stop slow 2>/dev/null
set -e
systemd-run --quiet --collect --unit=slow rsync --bwlimit=20 rsync://localhost/archive/slow /tmp/slow
timeout 60 sh -c 'until pgrep --exact --euid nobody rsync; do sleep 0.2; done' >/dev/null
"""
#: It is still being served: by a process that the frontend of before has started. Others may just be ending.
END = """
set -e
systemctl is-active slow
timeout 60 sh -c 'until [ "$(pgrep --exact --euid nobody --count rsync)" = 1 ]; do sleep 0.2; done' || true
pgrep --exact --euid nobody --count rsync
systemctl stop slow
rm --force /tmp/slow /tmp/.slow.*
"""

#: Debian's own mirror script, from its package. Without its dependencies: it needs no mail to be sent.
FTPSYNC = """
set -e
rm --recursive --force /tmp/ftpsync && mkdir --parents /tmp/ftpsync/.config/ftpsync /tmp/ftpsync/log /tmp/ftpsync/tree && cd /tmp/ftpsync
apt-get download -qq ftpsync && dpkg --extract ftpsync_*.deb package
cat >.config/ftpsync/ftpsync.conf <<EOF
MIRRORNAME=$(hostname)
RSYNC_HOST={next}
RSYNC_PATH=archive
TO=/tmp/ftpsync/tree/
LOGDIR=/tmp/ftpsync/log
MAILTO=root
EOF
HOME=/tmp/ftpsync timeout 120 package/usr/bin/ftpsync sync:all >&2
cmp tree/pool/package /srv/archive/pool/package
test -e tree/project/trace/$(hostname)
grep --only-matching 'Mirrorsync done' log/ftpsync.log.0
"""


def provision(chosen: dict[str, str], *options: str, **variables: Any) -> Play:
    """The scenario's playbook on the hosts in CHOSEN, each with its frontend, and with VARIABLES in place of the inventory's."""
    frontend = "{{ chosen[inventory_hostname] }}"
    return play(",".join(chosen), *options, chosen=chosen, rsync_master_frontend=frontend, **variables)


def everywhere(hosts: dict[str, Host], script: str) -> dict[str, str]:
    """What a script prints on each host, where it runs at the same time. `{next}` and `{before}` in it are the hosts beside."""
    names = list(hosts)
    beside = [{"next": names[(at + 1) % len(names)], "before": names[at - 1]} for at in range(len(names))]
    with ThreadPoolExecutor() as pool:
        told = pool.map(lambda name, others: hosts[name].check_output(script.format(**others)), names, beside)
    return dict(zip(names, told))
