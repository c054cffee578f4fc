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
  - With O(config), it reads the server's configuration and looks at the files that it names, and for known vulnerabilities of the host's rsync.
    With O(host), it asks the server as a stranger would.
  - Changes nothing, and sends no file. Call it with O(host) only against a server that is yours.
options:
  config:
    description:
      - Path of the C(rsyncd.conf) on the host where the module runs.
    type: path
  host:
    description:
      - Name or address of the server to ask.
    type: str
  port:
    description:
      - Its TCP port.
    type: int
    default: 873
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
  register: inside

- name: Ask the server as a stranger would
  mirrornet.rsync.rsyncd_audit:
    host: master.example.org
    connections: 30
  delegate_to: localhost
"""

RETURN = r"""
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
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import audit, rsyncd_host


def main():
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path"},
            "host": {"type": "str"},
            "port": {"type": "int", "default": 873},
            "connections": {"type": "int", "default": 0},
        },
        required_one_of=[("config", "host")],
        supports_check_mode=True,
    )
    params = module.params
    findings = audit.inside(Path(params["config"])) if params["config"] else []
    rsync = rsyncd_host.find_rsync()
    if params["config"] and rsync is not None:
        findings += audit.program(rsync, rsyncd_host.rsync_version(rsync))
    if params["host"]:
        if rsync is None:
            module.fail_json(msg="There is no rsync here to ask the server with: install it, or look from another host.")
        findings += audit.outside(rsync, params["host"], params["port"], params["connections"])
    module.exit_json(changed=False, findings=[dataclasses.asdict(finding) for finding in audit.in_order(findings)])


if __name__ == "__main__":
    main()
