# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key that a master signs its heads with, checked on the controller: a bad one must not replace a good one on the master."""

from __future__ import annotations

DOCUMENTATION = r"""
name: signing_key
short_description: Check a private key that is to sign heads, and find its public half
version_added: 0.1.0
author: The mirrornet.rsync authors (@mirrornet)
description:
  - Takes a private key as it stands in C(rsync_master_sign_key), and says what is wrong with it. Nothing of the key is repeated in a message.
positional: _input
options:
  _input:
    description: The text of a private Ed25519 key as C(ssh-keygen) writes it, without a passphrase. Where it's empty, none is given.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what mirrors are to trust
  ansible.builtin.debug:
    msg: "{{ (rsync_master_sign_key | mirrornet.rsync.signing_key).public }}"
"""

RETURN = r"""
_value:
  description: The public half, and what is wrong.
  type: dict
  contains:
    public:
      description: The public key in one line, as C(ssh-keygen) writes it; empty if none is given or it can't be used.
      type: str
      sample: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKi5gpN0nEhB8Sml0ChfqyeWTGQyIVYz0zh8dWVlLhPX heads
    problems:
      description: All that is wrong, as RV(mirrornet.rsync.rsyncd_check#module:problems).
      type: list
      elements: dict
"""

import dataclasses
from typing import Any

from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import rsyncd
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import signing_key as engine


def signing_key(given: object) -> dict[str, Any]:
    """The public half of a given private key, and what is wrong with it."""
    # What comes out of a vault is a text of another type before ansible-core 2.19.
    text = str(given)
    try:
        return {"public": engine.public(text) if text else "", "problems": []}
    except engine.Unusable as error:
        problem = rsyncd.Problem("rsync_master_sign_key", "", str(error), error.remedy)
        return {"public": "", "problems": [dataclasses.asdict(problem)]}


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        return {"signing_key": signing_key}
