#!/usr/bin/python
# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mirror_job
short_description: Keep a tree in step with its rsync sources
version_added: 0.1.0
description:
  - Installs a job on a mirror, that is the definition of one tree, the command C(mirrornet) that pulls it under a lock, and its schedule in cron;
    takes all of that away again; and runs the job now on request.
  - A task with this module is all that a mirror needs. The role P(mirrornet.rsync.rsync_mirror#role) adds packages, an account without privileges, log
    rotation and lists of jobs.
  - Called as root, it installs a job of the system, in C(/etc/mirrornet), C(/var/lib/mirrornet), C(/etc/cron.d) and C(/usr/local/bin). Called as an
    ordinary user, it installs a job of that user, in C(~/.config/mirrornet), C(~/.local/state/mirrornet), the user's crontab and C(~/.local/bin).
  - A run never deletes more than the limits allow and never starts while another one is at work. Its report is left in the hidden directory
    C(.mirrornet) of the tree.
author:
  - The mirrornet.rsync authors (@mirrornet)
options:
  name:
    description:
      - Name of the job, up to 63 letters, digits, V(-) and V(_). It names files, so it has no slash and no dot.
    type: str
    required: true
  state:
    description:
      - V(present) installs the job, V(absent) removes every trace of it, but keeps the tree.
      - The command is removed with the last job of its O(config_dir).
    type: str
    choices: [present, absent]
    default: present
  sources:
    description:
      - URLs of the tree, as C(rsync://HOST[:PORT]/MODULE/) or C(HOST::MODULE/), with TLS as C(rsyncs://HOST[:PORT]/MODULE/), or by SSH as
        C(ssh://USER@HOST[:PORT]/PATH/). The first one that can be used serves the run.
      - Required with O(state=present).
    type: list
    elements: str
  target:
    description:
      - Absolute path of the directory that holds the tree on this host. It is created if it is missing, for the account that pulls.
      - Entries that the source doesn't have are deleted from it. Directories of the system are refused, and so is a target that overlaps with another job's.
      - Required with O(state=present).
    type: path
  schedule:
    description:
      - When the job runs, as a cron expression of five fields, or V(@hourly), V(@daily), V(@weekly) and the like.
      - V(never) installs no schedule.
    type: str
    default: "0 * * * *"
  offset:
    description:
      - Minutes by which the minutes of O(schedule) are moved within their hour, from 0 to 59. The distances between runs stay as they are.
      - V(auto) takes a number that is this host's own for this job, always the same one, so that a network's mirrors don't all ask at once.
      - V(0) runs the job at the very minutes that O(schedule) names.
    type: str
    default: auto
  user:
    description:
      - Account that runs the job, of a host where the module is called as root. It needs no privileges, and has to exist.
      - Without it the job runs as root, with a warning.
    type: str
  mailto:
    description:
      - Address to which cron sends what a run writes, which is one sentence if it failed or is held, and nothing otherwise. Only for jobs of the system.
    type: str
  exclude:
    description:
      - rsync patterns of what stays out of the tree. Entries that match are neither brought nor deleted.
    type: list
    elements: str
    default: []
  max_delete:
    description:
      - Absolute number of deletions that one run may do. A run that would delete more is held, with nothing deleted.
    type: int
  max_delete_percent:
    description:
      - The same as a share of the tree's entries, in percent. A source that is empty is never followed, whatever this says.
    type: int
    default: 25
  time_limit:
    description:
      - Seconds after which a run is ended, with all its processes.
    type: int
    default: 86400
  io_timeout:
    description:
      - Seconds without any data after which a connection counts as dead.
    type: int
    default: 300
  connect_timeout:
    description:
      - Seconds to wait for a connection.
    type: int
    default: 30
  bandwidth_limit:
    description:
      - Limit for the transfer in KiB per second; V(0) is none.
    type: int
    default: 0
  seed_sources:
    description:
      - rsync URLs for the very first copy, and for C(mirrornet pull --reseed), so that the sources are spared. Nothing is deleted by what they have,
        and the run goes on with O(sources) afterwards.
    type: list
    elements: str
  source_order:
    description:
      - V(given) tries the sources as they are listed, V(fastest) by the time that a connection to each takes.
    type: str
    choices: [given, fastest]
    default: given
  retries:
    description:
      - How often a run starts over after failures that usually pass, as no connection, a lost one, or a full server.
    type: int
    default: 2
  retry_pause:
    description:
      - Seconds before the first of these. Each next pause is twice as long, and all are up to half as long or as short at random.
    type: int
    default: 30
  check_file:
    description:
      - Path in the tree of a small file that changes with every release. If the source has the one that the tree was completed with, the run ends there.
    type: str
  fast_path:
    description:
      - Whether a run follows what a source publishes about its tree, and compares everything only if there is nothing or it doesn't fit.
      - Jobs with O(exclude), O(filters), O(switch=true), or O(rsync_options) that change what is taken, always compare everything.
    type: bool
    default: true
  trusted_keys:
    description:
      - Public keys of SSH, each the line of a file C(.pub) or of a file of allowed signers, see ssh-keygen(1).
      - One of them must have signed what a source publishes about its tree. What isn't signed, or is older than what the mirror has, is refused, and no
        content becomes visible before its digest was checked. Needs O(fast_path), and takes no O(seed_sources).
    type: list
    elements: str
    default: []
  file_list:
    description:
      - Name, at the top of the tree, of a list of files as Fedora, EPEL and Rocky publish it, for instance C(fullfiletimelist-fedora).
      - As long as the source's list is the one that the tree was completed with, the run ends there. Else what differs between the two is asked for by name.
      - Needs a whole tree, without O(filters), O(switch), and without options of rsync that change what comes. O(exclude) may have names (C(NAME), C(*.EXT)),
        directories (C(NAME/)) and paths from the top of the tree (C(/DIR/NAME)).
    type: str
  full_check:
    description:
      - Seconds after which a run compares everything although O(check_file) or what the source publishes is the same. When in that time differs from host
        to host and job to job.
    type: int
    default: 604800
  stale_after:
    description:
      - Seconds. A source whose O(check_file) is older is passed over; V(0) never does that.
    type: int
    default: 0
  password:
    description:
      - Password for sources that want a login, whose URLs then name the user. It goes into a file that only the account can read.
    type: str
  password_file:
    description:
      - File on the host that holds the password, instead of O(password). Readable by the account alone.
    type: path
  ssh_key:
    description:
      - File with the private key for C(ssh://) sources.
    type: path
  ssh_known_hosts:
    description:
      - File with the host keys that are accepted for C(ssh://) sources, none but those. Required with them.
    type: path
  tls_ca:
    description:
      - File with the certificates that are trusted for C(rsyncs://) sources, instead of the system's.
    type: path
  address_family:
    description:
      - Which addresses of the sources are used.
    type: str
    choices: [any, ipv4, ipv6]
    default: any
  bandwidth_windows:
    description:
      - Limits for times of the day, instead of O(bandwidth_limit). A running transfer goes on with the next limit when its time comes.
    type: list
    elements: dict
    default: []
    suboptions:
      from:
        description: Local time at which it begins, as HH:MM.
        type: str
        required: true
      to:
        description: Local time at which it ends; earlier than O(bandwidth_windows[].from) crosses midnight.
        type: str
        required: true
      limit:
        description: KiB per second; V(0) is none.
        type: int
        required: true
  nice:
    description:
      - Priority of rsync as in nice(1), from V(0) to V(19).
    type: int
    default: 0
  idle_io:
    description:
      - Uses the disk only when nobody else wants it, with ionice(1).
    type: bool
    default: false
  filters:
    description:
      - rsync filter rules, of the kinds C(- + H S P R), that come before O(exclude).
    type: list
    elements: str
    default: []
  rsync_options:
    description:
      - Further long options of rsync, of those that can't harm a run. An option that isn't allowed is refused with the list of those that are.
    type: list
    elements: str
    default: []
  index:
    description:
      - rsync patterns of the files that say what is in the tree. They come after everything else, before the deletions.
    type: list
    elements: str
    default: []
  index_preset:
    description:
      - Patterns that suit a kind of tree, besides O(index).
    type: str
    choices: [none, apt, rpm, release]
    default: none
  switch:
    description:
      - Changes the tree all at once. The target then holds C(releases), whose equal files are hard links, and the link C(current), which is
        what is to be served. The former release stays for C(mirrornet rollback).
    type: bool
    default: false
  mount:
    description:
      - Directory that must be a mount point before anything is done; it holds the target.
    type: path
  reserve:
    description:
      - MiB that a run leaves free on the target's disk.
    type: int
    default: 0
  lock_file:
    description:
      - Path of the lock, instead of the one in the state directory, to exclude other programs that use flock(1).
    type: path
  busy_alarm:
    description:
      - Seconds of one run after which others that find it at work raise an alarm, by default as O(time_limit).
    type: int
  report_to:
    description:
      - The rsync URL of a directory that takes the job's report after each run, as C(NAME.json). A master that the role
        P(mirrornet.rsync.rsync_master#role) has set up with C(rsync_master_uploads) has C(rsync://LOGIN@HOST/report-LOGIN/).
      - It takes a minute at most, and a run stays what it is when nobody takes its report; C(mirrornet status) tells.
    type: str
  report_password:
    description:
      - Password for O(report_to). It goes into a file that only the account can read.
    type: str
  report_password_file:
    description:
      - File on the host that holds the password, instead of O(report_password). Readable by the account alone.
    type: path
  run:
    description:
      - V(wait) runs the installed job once, after installing it, and waits for the end of the run; a run that fails or is held fails the task.
        If another run is at work the outcome is V(busy) and the task is fine.
      - V(never) leaves running to the schedule.
      - In check mode rsync's comparison with the first source that can be used tells what would come and go, provided that the job can run already. What a
        source publishes about its tree, O(check_file), O(stale_after), O(trusted_keys), O(file_list) and O(seed_sources) have no part in it.
    type: str
    choices: [never, wait]
    default: never
  remove_tree:
    description:
      - With O(state=absent), also deletes the tree.
    type: bool
    default: false
  config_dir:
    description:
      - Directory of the definitions, instead of the usual one.
    type: path
  state_dir:
    description:
      - Directory of locks and reports, instead of the usual one. It belongs on a local file system.
    type: path
  command:
    description:
      - Path of the command, instead of the usual one.
    type: path
  python:
    description:
      - The Python 3.9 or later that runs the command.
    type: path
    default: /usr/bin/python3
requirements:
  - Python 3.9 or later, rsync 3.1.0 or later and a cron daemon on the host
extends_documentation_fragment:
  - mirrornet.rsync.attributes
attributes:
  check_mode:
    description: Predicts what the real run would change, also where rsync, cron or the account are still missing.
    support: full
    details: What a run with O(run=wait) would bring and delete is told as O(run) says.
  diff_mode:
    description: Shows definition, schedule and directories before and after. Other entries of a crontab are not shown.
    support: full
seealso:
  - name: The rsync manual
    description: URLs, patterns and what rsync does with them.
    link: https://download.samba.org/pub/rsync/rsync.1
"""

EXAMPLES = r"""
- name: Mirror the releases of Sage, every other hour
  mirrornet.rsync.mirror_job:
    name: sage
    sources:
      - rsync://master.example.org/sage/
    target: /srv/mirror/sage
    schedule: "0 */2 * * *"
    user: mirror

- name: The same without root, in the home directory and with the user's own crontab
  mirrornet.rsync.mirror_job:
    name: sage
    sources:
      - rsync://master.example.org/sage/
      - rsync://mirror.example.net/sage/
    target: "{{ ansible_facts.user_dir }}/public_html/sage"
    max_delete_percent: 10
  become: false

- name: Bring the tree up to date now
  mirrornet.rsync.mirror_job:
    name: sage
    sources:
      - rsync://master.example.org/sage/
    target: /srv/mirror/sage
    schedule: "0 */2 * * *"
    user: mirror
    run: wait
  register: pulled

- name: Stop mirroring, keep the tree
  mirrornet.rsync.mirror_job:
    name: sage
    state: absent
"""

RETURN = r"""
job:
  description: Name of the job.
  returned: always
  type: str
  sample: sage
command:
  description: The command that cron runs, as a list of words.
  returned: with O(state=present), unless it was refused or couldn't be installed
  type: list
  elements: str
  sample: [/usr/local/bin/mirrornet, pull, --quiet, sage]
outcome:
  description: How the run ended, or in check mode how it would end. One of V(unchanged), V(updated), V(busy), V(held) and V(failed).
  returned: with O(run=wait), if the job could run
  type: str
  sample: updated
report:
  description:
    - The report of the run, as it also stands in the job's state directory and in the tree.
    - In check mode, what would come and go, with C(job), C(outcome), C(kind), C(message), C(remedy), C(source), C(files), C(size) and C(deletions) of these
      fields, and rsync's lines as C(items).
  returned: with O(run=wait), if the job could run
  type: dict
  sample: {"job": "sage", "outcome": "updated", "source": "rsync://master.example.org/sage/", "files": 12, "size": 73400320, "deletions": 2}
kind:
  description: What went wrong, as a word that stays the same; see the list of kinds in the reference of C(mirrornet).
  returned: when the run failed or is held, and when the job couldn't be installed or removed for such a reason
  type: str
  sample: too_many_deletions
problems:
  description: Everything that keeps the job from being installed, each with the option at fault and the remedy. Nothing was changed.
  returned: when there is any
  type: list
  elements: str
  sample: ["schedule: minute '61': 61 is outside 0 to 59."]
rc:
  description: The exit code of C(mirrornet), which the reference of the command explains.
  returned: with O(run=wait), when the run failed or is held, or left no report
  type: int
  sample: 79
"""

import json
import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mirrornet import install, pull
from ..module_utils.mirrornet.errors import Failure
from ..module_utils.mirrornet.job import NAME, OPTIONS, Job, check
from ..module_utils.mirrornet.places import Places, default_places
from ..module_utils.mirrornet.record import asdict


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "sources": {"type": "list", "elements": "str"},
            "target": {"type": "path"},
            "schedule": {"type": "str", "default": "0 * * * *"},
            "offset": {"type": "str", "default": "auto"},
            "user": {"type": "str"},
            "mailto": {"type": "str"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "max_delete": {"type": "int"},
            "max_delete_percent": {"type": "int", "default": 25},
            "time_limit": {"type": "int", "default": 86400},
            "io_timeout": {"type": "int", "default": 300},
            "connect_timeout": {"type": "int", "default": 30},
            "bandwidth_limit": {"type": "int", "default": 0},
            "seed_sources": {"type": "list", "elements": "str"},
            "source_order": {"type": "str", "choices": ["given", "fastest"], "default": "given"},
            "retries": {"type": "int", "default": 2},
            "retry_pause": {"type": "int", "default": 30},
            "check_file": {"type": "str"},
            "fast_path": {"type": "bool", "default": True},
            "trusted_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "file_list": {"type": "str"},
            "full_check": {"type": "int", "default": 604800},
            "stale_after": {"type": "int", "default": 0},
            "password": {"type": "str", "no_log": True},
            "password_file": {"type": "path", "no_log": False},
            "ssh_key": {"type": "path"},
            "ssh_known_hosts": {"type": "path"},
            "tls_ca": {"type": "path"},
            "address_family": {"type": "str", "choices": ["any", "ipv4", "ipv6"], "default": "any"},
            "bandwidth_windows": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "from": {"type": "str", "required": True},
                    "to": {"type": "str", "required": True},
                    "limit": {"type": "int", "required": True},
                },
            },
            "nice": {"type": "int", "default": 0},
            "idle_io": {"type": "bool", "default": False},
            "filters": {"type": "list", "elements": "str", "default": []},
            "rsync_options": {"type": "list", "elements": "str", "default": []},
            "index": {"type": "list", "elements": "str", "default": []},
            "index_preset": {"type": "str", "choices": ["none", "apt", "rpm", "release"], "default": "none"},
            "switch": {"type": "bool", "default": False},
            "mount": {"type": "path"},
            "reserve": {"type": "int", "default": 0},
            "lock_file": {"type": "path"},
            "busy_alarm": {"type": "int"},
            "report_to": {"type": "str"},
            "report_password": {"type": "str", "no_log": True},
            "report_password_file": {"type": "path", "no_log": False},
            "run": {"type": "str", "choices": ["never", "wait"], "default": "never"},
            "remove_tree": {"type": "bool", "default": False},
            "config_dir": {"type": "path"},
            "state_dir": {"type": "path"},
            "command": {"type": "path"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
        },
        required_if=[("state", "present", ("sources", "target"))],
        mutually_exclusive=[("password", "password_file"), ("report_password", "report_password_file")],
        supports_check_mode=True,
    )
    os.umask(0o022)
    result: dict[str, Any] = {"changed": False, "job": module.params["name"]}
    try:
        if module.params["state"] == "absent":
            _absent(module, result)
        else:
            _present(module, result)
    except Failure as failure:
        module.fail_json(msg=f"Job {module.params['name']}: {failure}", kind=failure.kind, **result)
    except OSError as error:
        module.fail_json(
            msg=f"Job {module.params['name']}: {error}. What was done before is done; a second run goes on from there.", **result
        )
    module.exit_json(**result)


def _present(module: AnsibleModule, result: dict[str, Any]) -> None:
    how = _how(module)
    definition = {key: module.params[key] for key in OPTIONS if module.params[key] is not None}
    if how.password is not None:
        definition["password_file"] = str(how.places.secret(module.params["name"]))
    if how.report_password is not None:
        definition["report_password_file"] = str(how.places.report_secret(module.params["name"]))
    checked = check(definition)
    if checked.job is None:
        _refuse(module, checked.problems)
    prepared = install.present(checked.job, how)
    if prepared.problems or (prepared.missing and not module.check_mode):
        _refuse(module, prepared.problems + ([] if module.check_mode else prepared.missing))
    for warning in prepared.warnings + prepared.missing:
        module.warn(warning)
    _carry_out(module, result, prepared)
    result["command"] = how.argv(checked.job.name)
    if module.params["run"] == "wait":
        if module.check_mode:
            _dry_run(module, result, how, checked.job, ready=not prepared.missing and Path(checked.job.target).is_dir())
        else:
            _run(module, result, how)


def _absent(module: AnsibleModule, result: dict[str, Any]) -> None:
    name = module.params["name"]
    if not NAME.fullmatch(name):
        _refuse(module, check({"name": name}).problems[:1])
    how = _how(module)
    with install.not_running(how.places, name):
        _carry_out(module, result, install.absent(name, how, remove_tree=module.params["remove_tree"]))


def _how(module: AnsibleModule) -> install.Installation:
    usual = default_places()
    params = module.params
    return install.Installation(
        places=Places(Path(params["config_dir"] or usual.config_dir), Path(params["state_dir"] or usual.state_dir)),
        command=Path(params["command"] or install.default_command()),
        python=params["python"],
        when=params["schedule"],
        offset=_offset(module),
        mailto=params["mailto"],
        password=params["password"],
        report_password=params["report_password"],
    )


def _offset(module: AnsibleModule) -> int | None:
    given = module.params["offset"]
    if given == "auto":
        return None
    if not given.isdecimal() or int(given) > 59:
        _refuse(module, [f"offset: {given!r} must be 'auto' or a whole number of minutes from 0 to 59."])
    return int(given)


def _refuse(module: AnsibleModule, problems: list[str]) -> None:
    module.fail_json(
        msg=f"Job {module.params['name']}: nothing was changed. " + " ".join(problems), job=module.params["name"], problems=problems
    )


def _carry_out(module: AnsibleModule, result: dict[str, Any], prepared: install.Prepared) -> None:
    result.update(changed=bool(prepared.changes), diff=prepared.differences())
    if not module.check_mode:
        prepared.carry_out()


def _run(module: AnsibleModule, result: dict[str, Any], how: install.Installation) -> None:
    """Run the command that cron runs, so that nothing can work by hand and fail at night."""
    argv = [word if word != "--quiet" else "--json" for word in result["command"]]
    code, out, err = module.run_command(argv)
    try:
        report = json.loads(out)
    except ValueError:
        module.fail_json(msg=f"Job {module.params['name']}: {err.strip() or out.strip() or 'no report'}", rc=code, **result)
    result.update(report=report, outcome=report["outcome"], changed=result["changed"] or report["outcome"] == "updated")
    if report["outcome"] in ("failed", "held"):
        module.fail_json(
            msg=f"Job {report['job']}: {report['outcome']}: {report['message']} {report['remedy']}", kind=report["kind"], rc=code, **result
        )


def _dry_run(module: AnsibleModule, result: dict[str, Any], how: install.Installation, job: Job, *, ready: bool) -> None:
    """What the run would do. On a host that isn't ready, and from a source that a play may be about to start, it can only be expected to change."""
    if not ready:
        result["changed"] = True
        return
    try:
        expected = pull.dry_run(how.places, job)
    except Failure as failure:
        module.warn(f"Job {job.name}: what a run would do can't be told: {failure}")
        result["changed"] = True
        return
    result.update(report=asdict(expected), outcome=expected.outcome, changed=result["changed"] or expected.outcome == "updated")
    held = [f"would be held: {expected.message}"] if expected.outcome == "held" else []
    if expected.items or held:
        header = job.tree if expected.source is None else f"{job.tree}, from {expected.source}"
        result["diff"].append({"header": header, "prepared": "\n".join([*expected.items, *held]) + "\n"})


if __name__ == "__main__":
    main()
