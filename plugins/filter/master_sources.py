# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The URLs under which the masters of an inventory serve a module."""

from __future__ import annotations

DOCUMENTATION = r"""
name: master_sources
short_description: The rsync URLs of a module on the masters of the inventory
version_added: 0.1.0
author: The mirrornet.rsync authors (@mirrornet)
description:
  - Looks through the given masters for those whose C(rsync_master_modules) has a module of the given name,
    and returns the rsync URL of that module on each of them, in the order of the inventory.
  - The host in a URL is the master's C(rsync_master_public_name), by default its name in the inventory.
    The port is its C(rsync_master_port), and is left out when it is 873.
  - A master whose C(rsync_master_public_scheme) is C(rsyncs) gets a URL that uses TLS, with its C(rsync_master_tls_port).
positional: _input, masters, module, host
extends_documentation_fragment:
  - mirrornet.rsync.module_on_masters
"""

EXAMPLES = r"""
- name: Mirror the tree from every master of the inventory that has it
  mirrornet.rsync.mirror_job:
    name: docs
    sources: "{{ hostvars | mirrornet.rsync.master_sources(groups['masters'], 'docs', inventory_hostname) }}"
    target: /srv/mirror/docs
"""

RETURN = r"""
_value:
  description: One URL for each master that has the module; empty when none has.
  type: list
  elements: str
  sample: ["rsync://master1.example.org/docs/", "rsync://[2001:db8::1]:8730/docs/"]
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet.location import in_url

#: By the way in which a master is to be reached: the variable with its port, and the port that a URL means when it names none.
PORTS = {"rsync": ("rsync_master_port", 873), "rsyncs": ("rsync_master_tls_port", 874)}


def modules_of(variables: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The modules that the master with these variables serves."""
    modules = variables.get("rsync_master_modules") or []
    return [module for module in modules if isinstance(module, Mapping)]


def url(master: str, variables: Mapping[str, Any], module: str) -> str:
    """The URL of ``module`` on ``master``; a bare IPv6 address gets its brackets."""
    name = str(variables.get("rsync_master_public_name") or master)
    scheme = str(variables.get("rsync_master_public_scheme") or "rsync")
    variable, usual = PORTS.get(scheme, PORTS["rsync"])
    port = int(variables.get(variable) or usual)
    return f"{scheme}://{in_url(name)}{'' if port == usual else f':{port}'}/{module}/"


def master_sources(hostvars: Mapping[str, Mapping[str, Any]], masters: Iterable[str], module: str, host: str = "") -> list[str]:
    """The URLs of ``module`` on all ``masters`` that serve it, in their order, without ``host`` itself."""
    return [
        url(master, hostvars[master], module)
        for master in masters
        if master != host and module in [entry.get("name") for entry in modules_of(hostvars[master])]
    ]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        return {"master_sources": master_sources}
