# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A master's modules as rsync is to serve them: with addresses for groups, and with the passwords put aside."""

from __future__ import annotations

DOCUMENTATION = r"""
name: master_modules
short_description: Complete a master's modules from the inventory, and part them from their passwords
version_added: 0.1.0
author: The mirrornet.rsync authors (@mirrornet)
description:
  - Takes a list of modules as it stands in C(rsync_master_modules).
    Turns C(hosts_allow_groups) into the addresses of the groups' hosts, and C(secrets) into a file for each module.
  - What it returns for the configuration holds no password, so that it can be shown, logged and compared.
positional: _input, hostvars, groups, host, shared, directory, answers, uploads, account, program
options:
  _input:
    description: The modules.
    type: list
    elements: raw
    required: true
  hostvars:
    description: The variables of all hosts, usually C(hostvars).
    type: dict
    default: {}
  groups:
    description: The groups of the inventory, usually C(groups).
    type: dict
    default: {}
  host:
    description: The master. It needs no admission of its own.
    type: str
    default: ""
  shared:
    description: Names and passwords for modules whose C(auth_users) mention them, usually C(rsync_master_secrets).
    type: list
    elements: raw
    default: []
  answers:
    description: What hosts said that were asked for their addresses, as a registered loop over their names has it in C(results).
    type: list
    elements: dict
    default: []
  directory:
    description: The directory that gets a file of passwords for each module that needs one.
    type: str
    default: /etc/rsyncd.secrets.d
  uploads:
    description: What is said of mirrors that hand in reports, usually C(rsync_master_uploads).
    type: dict
    default: {}
  account:
    description: The account, and group, that reports go to.
    type: str
    default: mirrornet-reports
  program:
    description: What keeps reports small, run before each upload.
    type: str
    default: /usr/local/lib/mirrornet/rsyncd-quota
"""

EXAMPLES = r"""
- name: Show what is served to whom
  ansible.builtin.debug:
    var: __checked.modules
  vars:
    __checked: "{{ rsync_master_modules | mirrornet.rsync.master_modules(hostvars=hostvars, groups=groups, shared=rsync_master_secrets) }}"
"""

RETURN = r"""
_value:
  description: The modules, what belongs to them, and what is wrong.
  type: dict
  contains:
    modules:
      description: The modules in their order, for the configuration. Without passwords; values of unknown options are left out too.
      type: list
      elements: raw
    uploads:
      description: The modules in which mirrors hand in reports, one for each login.
      type: list
      elements: dict
    served:
      description: Both, as far as they are modules at all.
      type: list
      elements: dict
    secrets:
      description: For each module that needs a file of passwords the C(name) of the file and its C(entries) of C(name) and C(password).
      type: list
      elements: dict
    strangers:
      description: The hosts of used groups whose address isn't known yet. Their facts would help.
      type: list
      elements: str
    writable:
      description: The paths to which some client may write.
      type: list
      elements: str
    log_files:
      description: The logs of single modules.
      type: list
      elements: str
    problems:
      description: All that is wrong, as RV(mirrornet.rsync.rsyncd_check#module:problems).
      type: list
      elements: dict
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.mirrornet.rsync.plugins.filter.unknown_names import hint
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import (
    rsyncd,
    rsyncd_options,
    rsyncd_values,
)
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import uploads as reports
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet.address import address, network

KNOWN = {option.name for option in rsyncd_options.MODULE_OPTIONS}
#: The variable with which a host says from where it connects.
ADDRESSES = "rsync_mirror_addresses"
SHARED = "rsync_master_secrets"


def master_modules(
    modules: Any,
    hostvars: Mapping[str, Any] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    host: str = "",
    shared: Any = (),
    directory: str = "/etc/rsyncd.secrets.d",
    answers: Sequence[Mapping[str, Any]] = (),
    uploads: Any = None,
    account: str = "mirrornet-reports",
    program: str = "/usr/local/lib/mirrornet/rsyncd-quota",
) -> dict[str, Any]:
    """The completed ``modules`` and those for reports, their passwords, and everything that is wrong with any of them."""
    inventory = Inventory(hostvars or {}, groups or {}, host, {str(said.get("item")): said for said in answers})
    problems = [
        rsyncd.Problem(SHARED, "", *complaint) for complaint in (rsyncd_values.check_secrets(shared) if shared not in ([], ()) else [])
    ]
    given = modules if isinstance(modules, (list, tuple)) else []
    served: list[Any] = []
    files: list[dict[str, Any]] = []
    for position, module in enumerate(given, 1):
        if not isinstance(module, Mapping):
            # The check says that it's wrong. A list could hold passwords, so it isn't handed on.
            served.append(module if isinstance(module, (str, int)) else None)
            continue
        where = rsyncd.label(position, module)
        done, entries, found = complete(module, shared if isinstance(shared, (list, tuple)) else [], directory)
        found += inventory.admit(done)
        problems += [rsyncd.Problem(where, *parts) for parts in found]
        served.append(done)
        if entries:
            files.append({"name": str(module.get("name")), "entries": entries})
    sound = [module for module in served if isinstance(module, dict)]
    made: list[dict[str, Any]] = []
    logins = [str(entry["name"]) for entry in shared if isinstance(entry, Mapping) and "name" in entry] if isinstance(shared, list) else []
    wrong = reports.check({} if uploads is None else uploads, logins, given)
    for module in [] if wrong or not uploads else reports.modules(uploads, logins, given, reports.Where(account, program)):
        done, entries, found = complete(module, shared, directory)
        found += inventory.admit(done)
        # All that can be wrong here is said of all of them.
        wrong += [problem for parts in found if (problem := rsyncd.Problem(reports.VARIABLE, *parts)) not in wrong]
        made.append(done)
        files.append({"name": str(done["name"]), "entries": entries})
    problems += wrong
    return {
        "modules": served if isinstance(modules, (list, tuple)) else modules,
        "uploads": made,
        "served": sound + made,
        "secrets": files,
        "strangers": sorted(inventory.strangers),
        "writable": [str(module["path"]) for module in sound if "path" in module and rsyncd.may_be_written(module)]
        + ([reports.directory(uploads)] if made else []),
        "log_files": sorted({str(module["log_file"]) for module in sound if "log_file" in module}),
        "problems": [dataclasses.asdict(problem) for problem in problems],
    }


Parts = tuple[str, str, str]


def complete(module: Mapping[str, Any], shared: Sequence[Any], directory: str) -> tuple[dict[str, Any], list[dict[str, str]], list[Parts]]:
    """One module for the configuration, the entries of its file of passwords, and what is wrong with its logins."""
    done = {key: value if key in KNOWN else None for key, value in module.items()}
    own = done.pop("secrets", None)
    problems: list[Parts] = []
    if "secrets" in module:
        problems += [("secrets", *complaint) for complaint in rsyncd_values.check_secrets(own)]
        if "secrets_file" in module:
            problems.append(("secrets_file", "the module has secrets as well", "Leave one of the two out"))
    entries = [entry for entry in own if isinstance(entry, Mapping)] if isinstance(own, (list, tuple)) else []
    if entries and "auth_users" not in done:
        done["auth_users"] = [str(entry.get("name")) for entry in entries]
    rules = done.get("auth_users")
    if not isinstance(rules, (list, tuple)) or "secrets_file" in module:
        return done, [], problems
    names = [str(entry.get("name")) for entry in entries]
    entries += [entry for entry in shared if isinstance(entry, Mapping) and entry.get("name") not in names and is_meant(rules, entry)]
    for rule in rules:
        if not problems and isinstance(rule, str) and not rule.endswith(":deny") and not any(is_meant([rule], entry) for entry in entries):
            problems.append(
                (
                    "auth_users",
                    f"{rsyncd_values.show(rule)} has no password, so nobody could log in by it",
                    f"Add it to secrets or to {SHARED}",
                )
            )
    if entries or problems:
        # Also where a password is missing: the check needn't say so in other words.
        done["secrets_file"] = f"{directory}/{module.get('name')}"
    return done, [{"name": str(entry.get("name")), "password": str(entry.get("password"))} for entry in entries], problems


def is_meant(rules: Iterable[Any], entry: Mapping[str, Any]) -> bool:
    """Whether one of the rules for logins lets in who has this entry."""
    plain = [str(rule).partition(":")[0] for rule in rules if not str(rule).endswith(":deny")]
    return any(rsyncd_values.covers(rule, str(entry.get("name"))) for rule in plain)


@dataclasses.dataclass
class Inventory:
    """What the inventory knows of its hosts' addresses."""

    hostvars: Mapping[str, Any]
    groups: Mapping[str, Sequence[str]]
    master: str
    answers: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)  #: what hosts said when they were asked
    strangers: set[str] = dataclasses.field(default_factory=set)
    learnt: dict[str, set[str]] = dataclasses.field(default_factory=dict)  #: what the facts say, for hosts that are compared

    def admit(self, module: dict[str, Any]) -> list[Parts]:
        """Put the addresses of the groups' hosts into the module's ``hosts_allow``; return what is wrong."""
        wanted = module.pop("hosts_allow_groups", None)
        if wanted is None:
            return []
        if not isinstance(wanted, (list, tuple)) or not all(isinstance(group, str) for group in wanted):
            return [("hosts_allow_groups", f"{rsyncd_values.show(wanted)} is not a list of names", "Write it as a list: [mirrors]")]
        problems: list[Parts] = []
        found: set[str] = set()
        for group in wanted:
            if group not in self.groups:
                problems.append(
                    ("hosts_allow_groups", f"the inventory has no group {rsyncd_values.show(group)}", hint(group, self.groups).capitalize())
                )
            for host in self.groups.get(group, ()):
                problems += self._add(host, found)
        if not found and not problems:
            empty = f"no other host is in {' or '.join(map(rsyncd_values.show, wanted)) or 'no group'}, so nobody would be admitted"
            problems.append(("hosts_allow_groups", empty, "Add the mirrors to the group, or name addresses in hosts_allow"))
        own = module.get("hosts_allow", [])
        if isinstance(own, (list, tuple)):
            # Sorted, so that an inventory in another order is no change.
            module["hosts_allow"] = [*own, *sorted(found - set(map(str, own)), key=_order)]
        return problems

    def _add(self, host: str, found: set[str]) -> Iterator[Parts]:
        if host == self.master:
            return
        variables = self._known(host)
        try:
            addresses = list(addresses_of(host, variables))
        except ValueError as error:
            remedy = f"Give addresses or networks, such as {ADDRESSES}: [192.0.2.7]"
            yield (
                "hosts_allow_groups",
                f"{rsyncd_values.show(host)} has {rsyncd_values.show(str(error))} in {ADDRESSES}, which is no address",
                remedy,
            )
            return
        other = self._impostor(host, variables)
        if not addresses:
            self.strangers.add(host)
            yield (
                "hosts_allow_groups",
                f"the address of {rsyncd_values.show(host)} is not known, and it could not be asked{self._why(host)}",
                f"Set {ADDRESSES} for it in the inventory",
            )
        elif other:
            yield (
                "hosts_allow_groups",
                f"{rsyncd_values.show(host)} seems to have the address of {rsyncd_values.show(other)}, who must have answered in its place",
                f"Write its ansible_host out, without inventory_hostname, or set {ADDRESSES} for it",
            )
        found.update(addresses)

    def _known(self, host: str) -> Mapping[str, Any]:
        """What is known of a host. If one host of a loop can't be reached, Ansible keeps none of the facts that the others gave."""
        variables = self.hostvars.get(host) or {}
        facts = self.answers.get(host, {}).get("ansible_facts")
        if not facts:
            return variables
        told = {key[len("ansible_") :]: value for key, value in facts.items()}
        return {
            **{name: variables.get(name) for name in (ADDRESSES, "ansible_host")},
            "ansible_facts": {**told, **(variables.get("ansible_facts") or {})},
        }

    def _why(self, host: str) -> str:
        said = self.answers.get(host, {})
        return ": " + str(said.get("msg") or "it failed").strip().rstrip(".") if said.get("unreachable") or said.get("failed") else ""

    def _impostor(self, host: str, variables: Mapping[str, Any]) -> str:
        """Another host with an address that is known of this one by its facts alone; empty if there is none.

        A task that one host hands to another takes the first one's inventory_hostname, also within the other's ansible_host.
        """
        if variables.get(ADDRESSES) or any(_said(host, variables)):
            return ""
        learnt = set(_learnt(variables))
        if not self.learnt:
            mates = (group for name, group in self.groups.items() if name not in ("all", "ungrouped") and self.master in group)
            self.learnt = {mate: set(_learnt(self._known(mate))) for mate in (self.master, *(m for group in mates for m in group))}
        other = next((other for other, addresses in self.learnt.items() if other != host and learnt & addresses), "")
        self.learnt[host] = learnt
        return other


def addresses_of(host: str, variables: Mapping[str, Any]) -> Iterator[str]:
    """From where a host of the inventory connects: what it says itself; else all that is known of it. Raises ValueError."""
    said = variables.get(ADDRESSES)
    if said:
        for item in [said] if isinstance(said, str) else said:
            if network(item) is None:
                raise ValueError(item)
            yield item
        return
    yield from dict.fromkeys([*_said(host, variables), *_learnt(variables)])


def _said(host: str, variables: Mapping[str, Any]) -> Iterator[str]:
    """The addresses by which the inventory reaches a host."""
    return _usable([variables.get("ansible_host"), host])


def _learnt(variables: Mapping[str, Any]) -> Iterator[str]:
    """The addresses that a host answered with."""
    facts = variables.get("ansible_facts") or {}
    default = [(facts.get(family) or {}).get("address") for family in ("default_ipv4", "default_ipv6")]
    # A network without a way out has no default route: then it's all addresses of the host.
    return _usable(default if any(default) else [*(facts.get("all_ipv4_addresses") or []), *(facts.get("all_ipv6_addresses") or [])])


def _usable(candidates: Iterable[Any]) -> Iterator[str]:
    for candidate in candidates:
        found = address(candidate)
        # A loopback address is how the controller gets there, not from where the host comes; one of a link alone means nothing elsewhere.
        if found is not None and not found.is_loopback and not found.is_link_local:
            yield str(found)


def _order(item: str) -> tuple[int, int, int]:
    net = network(item)
    return (net.version, int(net.network_address), net.prefixlen) if net else (0, 0, 0)


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        return {"master_modules": master_modules}
