# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients that pull from a master over SSH, checked on the controller: a private key given by mistake goes no further."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ssh_clients
short_description: Check a master's clients over SSH, and find the tree of each
version_added: 0.1.0
author: The mirrornet.rsync authors (@mirrornet)
description:
  - Takes a list of clients as it stands in C(rsync_master_ssh_clients), and says what is wrong with it.
  - No key is repeated in a message, since it may be a private one.
positional: _input, modules, user
options:
  _input:
    description: The clients.
    type: list
    elements: raw
    required: true
  modules:
    description: The master's modules, in whose trees the clients' paths must be.
    type: list
    elements: raw
    default: []
  user:
    description: The account that the clients log in to.
    type: str
    default: mirrornet-ssh
"""

EXAMPLES = r"""
- name: Show who may pull what over SSH
  ansible.builtin.debug:
    msg: "{{ (rsync_master_ssh_clients | mirrornet.rsync.ssh_clients(rsync_master_modules)).clients }}"
"""

RETURN = r"""
_value:
  description: The clients that are to be let in, and what is wrong.
  type: dict
  contains:
    clients:
      description: Those clients that are sound and aren't C(absent), as M(mirrornet.rsync.ssh_clients) takes them.
      type: list
      elements: dict
    problems:
      description: All that is wrong, as RV(mirrornet.rsync.rsyncd_check#module:problems).
      type: list
      elements: dict
"""

import dataclasses
from typing import Any

from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import ssh_clients as engine


def ssh_clients(clients: Any, modules: Any = (), user: str = "mirrornet-ssh") -> dict[str, Any]:
    """The sound ones among the ``clients``, and everything that is wrong with any."""
    good, problems = engine.check(clients, modules if isinstance(modules, (list, tuple)) else [])
    problems += engine.check_user(user)
    return {"clients": [engine.as_data(client) for client in good], "problems": [dataclasses.asdict(problem) for problem in problems]}


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        return {"ssh_clients": ssh_clients}
