#!/usr/bin/python
# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mirrornet_command
short_description: Install the command mirrornet on a host that may have no job
version_added: 0.1.0
description:
  - Puts the command C(mirrornet) in place, the same file that M(mirrornet.rsync.mirror_job) installs together with a job, for something else that
    calls it, such as a service of a master.
  - Several things on a host can need the command. Each is noted by its O(name), and the command goes with the last of them, jobs included.
author:
  - The mirrornet.rsync authors (@mirrornet)
options:
  name:
    description:
      - What needs the command, up to 63 letters, digits, V(-) and V(_).
    type: str
    required: true
  state:
    description:
      - V(present) installs the command and notes O(name). V(absent) removes the note, and the command if neither a job nor anything else needs it.
    type: str
    choices: [present, absent]
    default: present
  command:
    description:
      - Path of the command. By default C(/usr/local/bin/mirrornet) for root, C(~/.local/bin/mirrornet) for an ordinary user.
    type: path
  python:
    description:
      - The Python that runs the command, 3.9 or later. Give the same one to all that install this command on a host.
    type: path
    default: /usr/bin/python3
  config_dir:
    description:
      - Directory for the notes, and where jobs are looked for. By default C(/etc/mirrornet) for root, C(~/.config/mirrornet) for an ordinary user.
    type: path
extends_documentation_fragment:
  - mirrornet.rsync.attributes
"""

EXAMPLES = r"""
- name: Have the command for a service of this master
  mirrornet.rsync.mirrornet_command:
    name: traffic

- name: The service is gone
  mirrornet.rsync.mirrornet_command:
    name: traffic
    state: absent
"""

RETURN = r"""
command:
  description: Path of the command.
  returned: always
  type: str
  sample: /usr/local/bin/mirrornet
problems:
  description: Everything that keeps the command from being installed, each with the option at fault and the remedy.
  returned: when there is any
  type: list
  elements: str
  sample: ["python: there is no program /usr/bin/python4: name the Python 3.9 or later that is to run the command."]
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import install
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet.job import NAME
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet.places import Places, default_places


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "command": {"type": "path"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "config_dir": {"type": "path"},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    params = module.params
    usual = default_places()
    how = install.Installation(
        places=Places(Path(params["config_dir"] or usual.config_dir), usual.state_dir),
        command=Path(params["command"] or install.default_command()),
        python=params["python"],
    )
    result: dict[str, Any] = {"changed": False, "command": str(how.command)}
    try:
        _bring_about(module, how, result)
    except OSError as error:
        module.fail_json(msg=f"{error}. What was done before is done; a second run goes on from there.", **result)
    module.exit_json(**result)


def _bring_about(module: AnsibleModule, how: install.Installation, result: dict[str, Any]) -> None:
    name = module.params["name"]
    if not NAME.fullmatch(name):
        prepared = install.Prepared(problems=[f"name: {name!r} must be up to 63 letters, digits, '-' and '_'."])
    elif module.params["state"] == "present":
        prepared = install.command_present(name, how)
    else:
        prepared = install.command_absent(name, how)
    if prepared.problems:
        module.fail_json(msg="Nothing was changed. " + " ".join(prepared.problems), problems=prepared.problems, **result)
    result.update(changed=bool(prepared.changes), diff=prepared.differences())
    if not module.check_mode:
        prepared.carry_out()


if __name__ == "__main__":
    main()
