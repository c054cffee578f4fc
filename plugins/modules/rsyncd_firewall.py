#!/usr/bin/python
# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rsyncd_firewall
short_description: Open the ports of an rsync master in a firewall, or close them again
version_added: 0.1.0
description:
  - Adds rules for TCP ports to the firewall that the host's administrator runs, and removes those of its own that are no longer wanted.
  - Doesn't install a firewall, switch one on or off, or change a policy or somebody else's rule.
  - In C(nftables), another chain at the same hook can still drop what one accepts. So the rules go to the end of each chain for incoming packets
    that drops by its policy. Where no chain does, there is nothing to open. They are loaded again by each start and reload of C(nftables.service).
options:
  kind:
    description:
      - The firewall. V(firewalld) has to run; the rules are for its default zone.
    type: str
    choices: [nftables, ufw, firewalld]
    required: true
  ports:
    description:
      - The TCP ports that are to be open. An empty list closes what was opened.
    type: list
    elements: int
    default: []
  sources:
    description:
      - Addresses and networks for which they are to be open. An empty list means everybody.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - mirrornet.rsync.attributes
author:
  - The mirrornet.rsync authors (@mirrornet)
"""

EXAMPLES = r"""
- name: Let the mirrors in
  mirrornet.rsync.rsyncd_firewall:
    kind: nftables
    ports: [873]
    sources: [192.0.2.0/24, "2001:db8::/32"]

- name: Close the port again
  mirrornet.rsync.rsyncd_firewall:
    kind: nftables
"""

RETURN = r"""
rules:
  description: The rules that are there afterwards, as the firewall spells them. Empty where nothing has to be opened.
  returned: success
  type: list
  elements: str
  sample: ["allow 873/tcp"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import firewall


def main():
    module = AnsibleModule(
        argument_spec={
            "kind": {"type": "str", "choices": list(firewall.KINDS), "required": True},
            "ports": {"type": "list", "elements": "int", "default": []},
            "sources": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    kind = module.params["kind"]
    try:
        wanted = firewall.Opening(tuple(module.params["ports"]), tuple(firewall.networks(module.params["sources"])))
        plan = firewall.plan(kind, wanted, firewall.run)
        if not module.check_mode:
            firewall.apply(plan, firewall.run)
    except (firewall.FirewallError, OSError, ValueError) as error:
        module.fail_json(msg=f"The firewall {kind} can't be brought to what is wanted: {error}. Mend the cause, and run this again.")
    module.exit_json(
        changed=plan.changed,
        rules=plan.after,
        diff={
            "before_header": kind,
            "after_header": kind,
            "before": "".join(f"{line}\n" for line in plan.before),
            "after": "".join(f"{line}\n" for line in plan.after),
        },
    )


if __name__ == "__main__":
    main()
