# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that nobody reads, which are nearly always misspelt ones."""

from __future__ import annotations

DOCUMENTATION = r"""
name: unknown_names
short_description: One sentence for each name that is not a known one
version_added: 0.1.0
author: The mirrornet.rsync authors (@mirrornet)
description:
  - Ansible ignores a variable that no role reads, so a misspelt one silently has no effect.
    This filter finds such names, and says which known name is nearest.
positional: _input, known
options:
  _input:
    description: The names that are set.
    type: list
    elements: str
    required: true
  known:
    description: The names that mean something.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse misspelt variables of a role
  ansible.builtin.assert:
    that: __unknown | length == 0
    fail_msg: "{{ __unknown | join(' ') }}"
  vars:
    __unknown: "{{ query('ansible.builtin.varnames', '^mirror_') | mirrornet.rsync.unknown_names(['mirror_user', 'mirror_jobs']) }}"
"""

RETURN = r"""
_value:
  description: One sentence for each unknown name, sorted; empty when all are known.
  type: list
  elements: str
  sample: ["mirror_usr: no such variable; did you mean 'mirror_user'?"]
"""

import difflib
from collections.abc import Iterable
from typing import Any


def hint(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a question, or all of them when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}."


def unknown_names(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """One sentence for each of ``names`` that is not among ``known``, with the nearest one that is."""
    good = set(known)
    return [f"{name}: no such variable; {hint(name, good)}" for name in sorted(set(names) - good)]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        return {"unknown_names": unknown_names}
