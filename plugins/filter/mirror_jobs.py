# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A list of jobs from an inventory: completed, and looked at as a whole before the first one is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mirror_jobs
short_description: Complete a list of jobs and find what is wrong with it
version_added: 0.1.0
author: The mirrornet.rsync authors (@mirrornet)
description:
  - Takes a list of jobs as it stands in an inventory, where each entry has options of M(mirrornet.rsync.mirror_job).
    Fills in the defaults, and the sources that entries leave out, with login and password where a master of the inventory asks for them.
    Names everything that is wrong,
    in single jobs and between them.
  - M(mirrornet.rsync.mirror_job) looks at each job as well, but one after the other. This filter lets a play stop before the first change.
positional: _input, defaults, hostvars, masters, host, known_hosts
options:
  _input:
    description: The jobs. Beside the options of the module each can have C(login), instead of the name of the host.
    type: list
    elements: dict
    required: true
  defaults:
    description: Options for the jobs that don't set them. V(null) is as good as not there.
    type: dict
    default: {}
  hostvars:
    description: The variables of all hosts, usually C(hostvars). Where sources are looked for.
    type: dict
    default: {}
  masters:
    description: Names of the hosts that may have the trees, usually C(groups['masters']).
    type: list
    elements: str
    default: []
  host:
    description: The mirror whose jobs these are. It is never a source of its own.
    type: str
    default: ""
  known_hosts:
    description:
      - The file of host keys for jobs with C(ssh://) sources that name none, where all these sources are masters of the inventory.
        RV(_value.host_keys) says what has to be in it. Without a path such jobs are a problem.
    type: str
    default: ""
seealso:
  - plugin: mirrornet.rsync.master_sources
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Refuse wrong jobs, all at once
  ansible.builtin.assert:
    that: __checked.problems | length == 0
    fail_msg: "{{ __checked.problems | join('\n') }}"
  vars:
    __checked: "{{ my_jobs | mirrornet.rsync.mirror_jobs(hostvars=hostvars, masters=groups['masters'], host=inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The jobs and the problems.
  type: dict
  contains:
    jobs:
      description: The entries in their order, with C(state), defaults and sources filled in.
      type: list
      elements: dict
    host_keys:
      description: The masters whose host keys have to be in O(known_hosts), each with the C(name) under which SSH looks for them.
      type: list
      elements: dict
      sample: [{master: master1, name: "[master1.example.org]:2222"}]
    passwords:
      description: The C(password) of each job that has one, by its name. Taken out of RV(_value.jobs), so that loops don't show it.
      type: dict
    report_passwords:
      description: The C(report_password) of each job that has one, likewise.
      type: dict
    problems:
      description: One sentence for each problem, with the job and the remedy; empty when all is well.
      type: list
      elements: str
      sample: ["job 'docs': shedule: no such option; did you mean 'schedule'?"]
"""

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.mirrornet.rsync.plugins.filter.master_logins import master_logins
from ansible_collections.mirrornet.rsync.plugins.filter.master_sources import modules_of, url
from ansible_collections.mirrornet.rsync.plugins.filter.unknown_names import hint
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import job as engine
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import location, schedule
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import uploads as reports

CHOICES = {"state": ("present", "absent"), "run": ("never", "wait"), "remove_tree": (True, False)}
#: What the engine keeps in a definition.
DEFINITION = set(engine.OPTIONS)
#: What an entry may say beside the options of mirror_job: the name under which its sources on the inventory's masters know it.
LOGIN = "login"
#: The options of mirror_job that belong to one job. Its other options (directories, programs) belong to the host.
OPTIONS = frozenset(DEFINITION | {"state", "schedule", "offset", "mailto", "password", "report_password", "run", "remove_tree"})


def mirror_jobs(
    jobs: Iterable[Any],
    defaults: Mapping[str, Any] | None = None,
    hostvars: Mapping[str, Any] | None = None,
    masters: Iterable[str] = (),
    host: str = "",
    known_hosts: str = "",
) -> dict[str, Any]:
    """The completed ``jobs``, and everything that is wrong with them."""
    upstream = {master: (hostvars or {})[master] for master in masters if master != host}
    completed, problems = [], []
    host_keys: dict[str, str] = {}
    for number, given in enumerate(jobs, 1):
        if not isinstance(given, Mapping):
            problems.append(
                f"entry {number} of the jobs: {str(given)!r} must be a mapping with the options of a job, such as name and target."
            )
            continue
        entry = complete(given, defaults or {})
        refusals = report_by_inventory(entry, hostvars or {}, str(entry.get(LOGIN) or host))
        refusals += log_in(entry, given, upstream, host)
        found = masters_by_ssh(entry, upstream) if known_hosts else {}
        if found:
            entry["ssh_known_hosts"] = known_hosts
            host_keys.update(found)
        called = f"job {str(entry['name'])!r}" if entry.get("name") else f"entry {number} of the jobs"
        problems += [f"{called}: {problem}" for problem in (*refusals, *own_problems(entry, upstream))]
        completed.append(entry)
    problems += common_problems(completed)
    passwords = pop_all(completed, "password")
    asked = [{"master": master, "name": name} for name, master in sorted(host_keys.items())]
    return {
        "jobs": completed,
        "problems": problems,
        "passwords": passwords,
        "report_passwords": pop_all(completed, "report_password"),
        "host_keys": asked,
    }


def pop_all(jobs: Iterable[dict[str, Any]], option: str) -> dict[str, Any]:
    """An option of all jobs that have it, by their names; it's no longer in the jobs."""
    return {entry["name"]: entry.pop(option) for entry in jobs if "name" in entry and option in entry}


def report_by_inventory(entry: dict[str, Any], hostvars: Mapping[str, Any], login: str) -> list[str]:
    """Fill in where a host of the inventory takes the job's report, with the login and its password; return what is wrong."""
    master = entry.get("report_to")
    if not isinstance(master, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", master) or entry["state"] == "absent":
        return []
    del entry["report_to"]
    if master not in hostvars:
        return [f"report_to: {master!r} is neither a URL nor a host of the inventory; {hint(master, hostvars)}"]
    variables = hostvars[master]
    uploads, secrets = variables.get("rsync_master_uploads"), variables.get("rsync_master_secrets")
    if not isinstance(uploads, Mapping) or not uploads:
        return [f"report_to: {master} takes no reports: say in its rsync_master_uploads who may hand them in."]
    entries = [secret for secret in secrets if isinstance(secret, Mapping)] if isinstance(secrets, (list, tuple)) else []
    if not reports.admitted(uploads, [login]):
        return [f"report_to: {master} takes no reports by the login {login!r}: add it to logins in its rsync_master_uploads."]
    known = reports.jobs(uploads, modules_of(variables))
    if entry.get("name") not in known:
        return [
            f"report_to: {master} takes no reports of this job (it does of: {', '.join(known)}): add it to jobs in its rsync_master_uploads."
        ]
    scheme, mark, rest = url(master, variables, reports.PREFIX + login).partition("://")
    entry["report_to"] = f"{scheme}{mark}{login}@{rest}"
    if "report_password" in entry or "report_password_file" in entry:
        return []
    passwords = [str(secret.get("password")) for secret in entries if secret.get("name") == login]
    if not passwords:
        return [f"report_to: the login {login!r} has no password in rsync_master_secrets of {master}: add it there."]
    entry["report_password"] = passwords[0]
    return []


def masters_by_ssh(entry: Mapping[str, Any], upstream: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The masters that a job which names no file of host keys reaches by SSH, by the names under which SSH looks for their keys.

    Nothing if one of its sources is somebody else's: then its operator has to get that key, and compare it.
    """
    if entry["state"] == "absent" or entry.get("ssh_known_hosts") is not None:
        return {}
    names = {
        str(name).strip("[]").lower(): master
        for master, said in upstream.items()
        for name in (said.get("rsync_master_public_name"), master)
        if name
    }
    found = {}
    for source in [*(entry.get("sources") or []), *(entry.get("seed_sources") or [])]:
        if location.problem(source) is not None or not str(source).startswith("ssh://"):
            continue
        where = location.parse(source)
        host = where.host.strip("[]").lower()
        if host not in names:
            return {}
        found[host if where.port == 22 else f"[{host}]:{where.port}"] = names[host]
    return found


def complete(entry: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """One entry with its state and its defaults."""
    return {"state": "present", **{key: value for key, value in defaults.items() if value is not None}, **entry}


def log_in(entry: dict[str, Any], given: Mapping[str, Any], upstream: Mapping[str, Mapping[str, Any]], host: str) -> list[str]:
    """Fill in the sources that the entry leaves out, with login and password where a master asks for them; return what is wrong with these."""
    login = entry.pop(LOGIN, None) or host
    if entry["state"] == "absent" or entry.get("sources"):
        wrong = LOGIN in given and entry["state"] != "absent" and "report_password" not in entry
        return ["login: is for sources taken from the inventory: write it into the URLs, as in rsync://NAME@master/tree/."] if wrong else []
    found = master_logins(upstream, upstream, str(entry.get("name")), str(login))
    entry["sources"] = found["sources"]
    if any("@" in source for source in found["sources"]) and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", str(login)):
        entry["sources"] = [source.replace(f"{login}@", "", 1) for source in found["sources"]]
        return [f"login: {login!r} can't be the name of a login: take letters, digits, '.', '_' and '-'."]
    if "password" in entry or "password_file" in entry:
        return []
    if found["password"] is not None:
        entry["password"] = found["password"]
    return list(found["problems"])


def own_problems(entry: Mapping[str, Any], upstream: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong with one completed entry, whatever the others are."""
    problems = [f"{key}: no such option; {hint(key, OPTIONS)}" for key in sorted(set(entry) - OPTIONS)]
    for key, values in CHOICES.items():
        if entry.get(key, values[0]) not in values:
            problems.append(f"{key}: {entry[key]!r} must be one of {', '.join(map(str, values))}.")
    found = engine.check({key: value for key, value in entry.items() if key in DEFINITION and value is not None}).problems
    if "report_password" in entry:
        # The module makes a file of it.
        found = [problem for problem in found if not problem.startswith("report_password_file: is missing")]
    if entry["state"] == "absent":
        return problems + [problem for problem in found if problem.startswith("name:")]
    if not entry["sources"]:
        found = [problem for problem in found if not problem.startswith("sources:")]
        modules = sorted({str(module.get("name")) for variables in upstream.values() for module in modules_of(variables)})
        problems.append(
            f"sources: none given, and no master of the inventory serves a module of this name (they serve: {', '.join(modules) or 'nothing'}). "
            "Give the job its sources, or add the module to rsync_master_modules of a master."
        )
    return problems + found + schedule_problems(entry)


def schedule_problems(entry: Mapping[str, Any]) -> list[str]:
    """Why cron could not keep to the schedule or the offset of a job."""
    problems = []
    when, offset = entry.get("schedule", schedule.NEVER), entry.get("offset", "auto")
    if when != schedule.NEVER:
        try:
            schedule.parse(str(when))
        except schedule.ScheduleError as error:
            problems.append(f"schedule: {error}.")
    if str(offset) != "auto" and str(offset) not in map(str, range(60)):
        problems.append(f"offset: {offset!r} must be auto or a number of minutes from 0 to 59.")
    return problems


def common_problems(jobs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong between jobs: names that come twice, targets that lie in one another."""
    names = [str(entry["name"]) for entry in jobs if entry.get("name")]
    problems = [
        f"job {name!r}: is listed {names.count(name)} times; give each job one entry."
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    targets = [
        (str(entry["name"]), posixpath.normpath(entry["target"]))
        for entry in jobs
        if entry["state"] != "absent" and entry.get("name") and str(entry.get("target", "")).startswith("/")
    ]
    for number, (name, target) in enumerate(targets):
        for other, inside in targets[number + 1 :]:
            if name != other and posixpath.commonpath([target, inside]) in (target, inside):
                problems.append(
                    f"job {name!r}: target: {target!r} overlaps with {inside!r} of job {other!r}: each would delete the other's files; "
                    "give each job a directory of its own."
                )
    return problems


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        return {"mirror_jobs": mirror_jobs}
