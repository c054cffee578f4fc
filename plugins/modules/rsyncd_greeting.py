#!/usr/bin/python
# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rsyncd_greeting
short_description: Wait until an rsync server greets its clients
version_added: 0.1.0
description:
  - Connects from the host that it runs on, until rsync greets as it greets each client. Fails if it doesn't.
  - A port that takes connections would say little. A superserver, systemd and stunnel take them also when what they start for each dies at once.
  - Changes nothing, and needs no rsync where it runs.
options:
  host:
    description:
      - The address to connect to.
    type: str
    default: 127.0.0.1
  port:
    description:
      - The TCP port.
    type: int
    default: 873
  tls:
    description:
      - Whether to connect with TLS. Any certificate is taken.
    type: bool
    default: false
  timeout:
    description:
      - Seconds to wait.
    type: int
    default: 30
  unit:
    description:
      - The unit of systemd that listens. With it and O(max_connections) a server that has no room for one more connection doesn't count as one
        that doesn't greet.
    type: str
  max_connections:
    description:
      - How many connections O(unit) takes.
    type: int
extends_documentation_fragment:
  - mirrornet.rsync.attributes
attributes:
  diff_mode:
    support: none
author:
  - The mirrornet.rsync authors (@mirrornet)
"""

EXAMPLES = r"""
- name: Wait until clients are served
  mirrornet.rsync.rsyncd_greeting:
    port: 873

- name: Wait until clients are served with TLS
  mirrornet.rsync.rsyncd_greeting:
    port: 874
    tls: true
"""

RETURN = r"""
greeted:
  description: Whether rsync greeted. V(false) where there was no room for one more connection.
  returned: success
  type: bool
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import greeting


def main():
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "default": 873},
            "tls": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 30},
            "unit": {"type": "str"},
            "max_connections": {"type": "int"},
        },
        required_together=[("unit", "max_connections")],
        supports_check_mode=True,
    )
    params = module.params
    host, port, timeout = params["host"], params["port"], params["timeout"]
    said = greeting.wait(host, port, params["tls"], timeout)
    if said and params["unit"] and greeting.is_full(params["unit"], params["max_connections"]):
        module.warn(
            f"{params['unit']} holds all of its {params['max_connections']} connections, so that it can't be told whether the next client is served: "
            f"look at `journalctl --unit '{params['unit'].partition('.')[0]}*'`."
        )
    elif said:
        where = f"{host}, port {port}" + (" with TLS" if params["tls"] else "")
        module.fail_json(msg=f"rsync doesn't greet who connects to {where}, for {timeout} seconds now: {said}.")
    module.exit_json(changed=False, greeted=not said)


if __name__ == "__main__":
    main()
