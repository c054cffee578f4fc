#!/usr/bin/python
# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ssh_clients
short_description: Let mirrors pull over SSH, each key locked to one tree
version_added: 0.1.0
description:
  - Writes the file of the clients' public keys, each with the one command that it may run, and the settings with which C(sshd)
    reads that file for one account. Both are root's, and in no home.
  - C(sshd) is asked about a copy of its configuration with these settings before they are put in place, and told to read it again
    afterwards. Sessions go on.
  - Without O(clients) both files are removed.
options:
  clients:
    description:
      - The clients, as the filter P(mirrornet.rsync.ssh_clients#filter) returns them.
    type: list
    elements: dict
    default: []
  user:
    description:
      - The account that the clients log in to. It should exist, have C(/) as its home and C(/bin/sh) as its shell.
    type: str
    default: mirrornet-ssh
  rrsync:
    description:
      - The program that locks a key to its tree.
    type: path
    default: /usr/bin/rrsync
  sentinel:
    description:
      - The program that tells whether a tree is there, for clients whose module has a sentinel.
    type: path
    default: /usr/local/lib/mirrornet/rsyncd-sentinel
  unit:
    description:
      - The service of C(sshd).
    type: str
    default: ssh.service
extends_documentation_fragment:
  - mirrornet.rsync.attributes
author:
  - The mirrornet.rsync authors (@mirrornet)
"""

EXAMPLES = r"""
- name: Let the mirrors of the inventory pull over SSH
  mirrornet.rsync.ssh_clients:
    clients: "{{ (rsync_master_ssh_clients | mirrornet.rsync.ssh_clients(rsync_master_modules)).clients }}"

- name: Let nobody in over SSH any more
  mirrornet.rsync.ssh_clients:
"""

RETURN = r"""
keys_path:
  description: The file of the clients' keys.
  returned: success
  type: str
  sample: /etc/ssh/mirrornet-rsync.keys
settings_path:
  description: The file of the settings for C(sshd).
  returned: success
  type: str
  sample: /etc/ssh/sshd_config.d/10-mirrornet-rsync.conf
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import ssh_clients, ssh_host


def main():
    module = AnsibleModule(
        argument_spec={
            "clients": {"type": "list", "elements": "dict", "default": []},
            "user": {"type": "str", "default": "mirrornet-ssh"},
            "rrsync": {"type": "path", "default": "/usr/bin/rrsync"},
            "sentinel": {"type": "path", "default": "/usr/local/lib/mirrornet/rsyncd-sentinel"},
            "unit": {"type": "str", "default": "ssh.service"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        clients = [ssh_clients.from_data(data) for data in params["clients"]]
    except (TypeError, KeyError) as error:
        module.fail_json(msg=f"clients: take what the filter mirrornet.rsync.ssh_clients returns ({error}).")
    places = ssh_host.Places()
    problems = ssh_clients.check_user(params["user"], "user")
    if clients and not problems:
        problems += ssh_host.check_keys(clients) + ssh_host.check_sshd(params["user"], places)
    if problems:
        module.fail_json(msg="Clients can't be let in over SSH; nothing was changed. " + " ".join(map(str, problems)))
    made = ssh_host.plan(clients, params["user"], params["rrsync"], params["sentinel"], places)
    try:
        changes = made.changes
        if not module.check_mode:
            ssh_host.apply(made, params["unit"])
    except OSError as error:
        module.fail_json(msg=f"The keys of clients over SSH can't be brought up to date: {error}. Mend the cause, and run this again.")
    module.exit_json(
        changed=bool(changes),
        keys_path=str(places.keys),
        settings_path=str(places.settings),
        diff=[
            {
                "before_header": str(path),
                "after_header": str(path),
                "before": (before or b"").decode("utf-8", "replace"),
                "after": (after or b"").decode("utf-8", "replace"),
            }
            for path, before, after in changes
        ],
    )


if __name__ == "__main__":
    main()
