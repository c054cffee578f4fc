# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sources of a module on the masters of an inventory, with a mirror's own login where a master asks for one."""

from __future__ import annotations

DOCUMENTATION = r"""
name: master_logins
short_description: The sources of a module on the masters of the inventory, with the login that a mirror has there
version_added: 0.1.0
author: The mirrornet.rsync authors (@mirrornet)
description:
  - As P(mirrornet.rsync.master_sources#filter), but a URL has the mirror's login where the master's module has C(auth_users) or C(secrets),
    and the password is what the master has for it in the module's C(secrets) or in C(rsync_master_secrets).
  - What it returns holds a password. Keep it out of loops and messages.
positional: _input, masters, module, login, host
options:
  login:
    description: The name with which the mirror logs in.
    type: str
    required: true
extends_documentation_fragment:
  - mirrornet.rsync.module_on_masters
seealso:
  - plugin: mirrornet.rsync.master_sources
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Mirror a tree that asks for a login
  mirrornet.rsync.mirror_job:
    name: members
    sources: "{{ __found.sources }}"
    password: "{{ __found.password }}"
    target: /srv/mirror/members
  vars:
    __found: "{{ hostvars | mirrornet.rsync.master_logins(groups['masters'], 'members', inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The sources, the password, and what is wrong.
  type: dict
  contains:
    sources:
      description: One URL for each master that has the module.
      type: list
      elements: str
      sample: ["rsync://mirror1@master1.example.org/members/"]
    password:
      description: The password of the login; null where no master asks for one, or none is known.
      type: str
    problems:
      description: Why the mirror couldn't log in, one sentence for each master at fault, with the remedy.
      type: list
      elements: str
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.mirrornet.rsync.plugins.filter.master_sources import master_sources, modules_of
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet.rsyncd_values import covers


def master_logins(
    hostvars: Mapping[str, Mapping[str, Any]], masters: Iterable[str], module: str, login: str, host: str = ""
) -> dict[str, Any]:
    """The URLs of ``module`` on ``masters``, with ``login`` where it's asked for, and the password that belongs to it."""
    sources, problems = [], []
    passwords: dict[str, str] = {}
    for master in masters:
        for url in master_sources(hostvars, [master], module, host):
            found = next(entry for entry in modules_of(hostvars[master]) if entry.get("name") == module)
            if not asks_for_login(found):
                sources.append(url)
                continue
            scheme, mark, rest = url.partition("://")
            sources.append(f"{scheme}{mark}{login}@{rest}")
            secrets = list(_secrets(hostvars[master], found, login))
            problem = refusal(found, login) or ("" if secrets else "no password for it in rsync_master_secrets or the module's secrets")
            if problem:
                remedy = "Add it there, give the job another login, or its own sources and password"
                problems.append(f"login: the module {module!r} of {master} asks for one, and {login!r} has {problem}. {remedy}.")
            passwords.update({master: secrets[0]} if secrets else {})
    if len(set(passwords.values())) > 1:
        names = ", ".join(passwords)
        problems.append(
            f"login: {login!r} has another password on each of {names}. Give it the same, or the job its own sources and password."
        )
    return {"sources": sources, "password": next(iter(passwords.values()), None), "problems": problems}


def asks_for_login(module: Mapping[str, Any]) -> bool:
    """Whether the master lets nobody in without a password."""
    return bool(module.get("auth_users") or module.get("secrets"))


def refusal(module: Mapping[str, Any], login: str) -> str:
    """Why the module's rules refuse a login; empty if they don't. rsync stops at the first rule that matches."""
    for rule in module.get("auth_users") or [login]:
        name, dummy, access = str(rule).partition(":")
        # Who is in a group of the master's isn't known here.
        if name.startswith("@") or covers(name, login):
            return "no access by its auth_users" if access == "deny" and not name.startswith("@") else ""
    return "no access by its auth_users"


def _secrets(variables: Mapping[str, Any], module: Mapping[str, Any], login: str) -> Iterator[str]:
    """The passwords of a login, that of the module before those for all."""
    for entries in (module.get("secrets"), variables.get("rsync_master_secrets")):
        for entry in entries if isinstance(entries, (list, tuple)) else ():
            if isinstance(entry, Mapping) and entry.get("name") == login and entry.get("password"):
                yield str(entry["password"])


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        return {"master_logins": master_logins}
