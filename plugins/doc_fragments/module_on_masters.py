# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of filters that look for a module on the masters of an inventory."""

from __future__ import annotations


class ModuleDocFragment:
    """What Ansible loads."""

    DOCUMENTATION = r"""
options:
  _input:
    description: The variables of all hosts, usually C(hostvars).
    type: dict
    required: true
  masters:
    description: Names of the masters, usually C(groups['masters']).
    type: list
    elements: str
    required: true
  module:
    description: Name of the rsync module.
    type: str
    required: true
  host:
    description: The host that wants to pull. It is never a source of its own.
    type: str
"""
