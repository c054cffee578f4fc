#!/usr/bin/python
# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rsyncd_audit
short_description: Find what is wrong with a running rsync master
version_added: 0.1.0
description:
  - Looks at a master, also one that was set up by hand, and reports what is wrong with it, each finding with its severity and the remedy.
  - With O(config) or O(running), it reads the server's configuration and looks at the files that it names, and for known vulnerabilities of
    the host's rsync. With O(host), it asks the server as a stranger would.
  - Changes nothing, and sends no file. Call it with O(host) only against a server that is yours.
options:
  config:
    description:
      - Path of the C(rsyncd.conf) on the host where the module runs.
    type: path
  running:
    description:
      - Reads the configurations of the daemons that run there, or that systemd starts for connections, and O(config) only where none is found.
    type: bool
  host:
    description:
      - Name or address of the server to ask.
    type: str
  port:
    description:
      - Its TCP port.
    type: int
    default: 873
  modules:
    description:
      - Modules to ask for besides those that the server lists.
    type: list
    elements: str
    default: []
  tls_port:
    description:
      - The TCP port where it serves over TLS. V(0) is none.
    type: int
    default: 0
  connections:
    description:
      - How many silent connections are tried, for two seconds, at most 30. V(0) is none.
    type: int
    default: 0
extends_documentation_fragment:
  - mirrornet.rsync.attributes
attributes:
  diff_mode:
    support: none
author:
  - The mirrornet.rsync authors (@mirrornet)
"""

EXAMPLES = r"""
- name: Look at the configuration
  mirrornet.rsync.rsyncd_audit:
    config: /etc/rsyncd.conf
    running: true
  register: inside

- name: Ask the server as a stranger would
  mirrornet.rsync.rsyncd_audit:
    host: master.example.org
    connections: 30
    modules: "{{ inside.modules }}"
  delegate_to: localhost
"""

RETURN = r"""
configs:
  description: The files that were read as configurations, without those that they include.
  returned: always
  type: list
  elements: str
  sample: [/etc/rsyncd.conf]
modules:
  description: The names of the modules in them.
  returned: always
  type: list
  elements: str
  sample: [archive, incoming]
findings:
  description: What is wrong, the worst first.
  returned: always
  type: list
  elements: dict
  contains:
    severity:
      description: V(critical), V(high), V(medium) or V(low).
      type: str
    where:
      description: The place in the configuration, or the URL.
      type: str
    message:
      description: What is wrong.
      type: str
    remedy:
      description: What to do.
      type: str
  sample:
    - severity: critical
      where: rsync://master.example.org:873/incoming/
      message: everybody can write to it
      remedy: Set read only = yes, or hosts allow and auth users
"""

import dataclasses
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import (
    audit,
    rsyncd_host,
    rsyncd_running,
    stranger,
)


def main():
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path"},
            "running": {"type": "bool"},
            "host": {"type": "str"},
            "port": {"type": "int", "default": 873},
            "connections": {"type": "int", "default": 0},
            "modules": {"type": "list", "elements": "str", "default": []},
            "tls_port": {"type": "int", "default": 0},
        },
        required_one_of=[("config", "running", "host")],
        supports_check_mode=True,
    )
    params = module.params
    configs = rsyncd_running.configurations() if params["running"] else []
    configs = configs or ([params["config"]] if params["config"] else [])
    rsync = rsyncd_host.find_rsync()
    version = rsyncd_host.rsync_version(rsync) if rsync else ""
    findings = [finding for config in configs for finding in audit.inside(Path(config), version)]
    if configs and rsync is not None:
        findings += audit.program(rsync, version)
    if params["host"]:
        if rsync is None:
            module.fail_json(
                msg="There is no rsync on this host to ask the server with. Install it here, or look from another host; "
                "the playbook audit_master takes one of the inventory by -e audit_from=HOST."
            )
        findings += stranger.outside(rsync, params["host"], params["port"], params["connections"], params["modules"], params["tls_port"])
    module.exit_json(
        changed=False,
        configs=configs,
        modules=list(dict.fromkeys(name for config in configs for name in audit.modules(Path(config)))),
        findings=[dataclasses.asdict(finding) for finding in audit.in_order(findings)],
    )


if __name__ == "__main__":
    main()
