#!/usr/bin/python
# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rsyncd_secrets
short_description: Keep the names and passwords of an rsync master in files for root alone
version_added: 0.1.0
description:
  - Writes one file of names and passwords for each module of an rsync master, as C(secrets file) of C(rsyncd.conf) wants it.
  - The files are root's with mode 0600, in a directory of root's with mode 0700. Each is replaced whole, so that a login during
    the replacement is checked against the old file or the new one.
  - Passwords are in no result, difference or log. A difference tells which names come, go, or get another password.
options:
  directory:
    description:
      - The directory of the files. It is made when it's needed, and belongs to this module alone.
    type: path
    required: true
  secrets:
    description:
      - The wanted files.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - The name of the file, which is that of the rsync module.
        type: str
        required: true
      entries:
        description:
          - Names and passwords, in the order of the file. rsync takes the first line of a name alone.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description:
              - The name that a client gives.
            type: str
            required: true
          password:
            description:
              - Its password.
            type: str
            required: true
  purge:
    description:
      - Whether files that aren't in O(secrets) are removed, and then the directory if it's empty.
    type: bool
    default: false
extends_documentation_fragment:
  - mirrornet.rsync.attributes
author:
  - The mirrornet.rsync authors (@mirrornet)
"""

EXAMPLES = r"""
- name: Let two mirrors log in to the module archive
  mirrornet.rsync.rsyncd_secrets:
    directory: /etc/rsyncd.secrets.d
    secrets:
      - name: archive
        entries:
          - name: mirror1
            password: "{{ vault_mirror1 }}"
          - name: mirror2
            password: "{{ vault_mirror2 }}"
    purge: true
"""

RETURN = r"""
files:
  description: The names of the files that are in the directory afterwards.
  returned: success
  type: list
  elements: str
  sample: [archive]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import rsyncd_secrets


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "secrets": {
                "type": "list",
                "elements": "dict",
                "default": [],
                # What is secret in it says so itself.
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "entries": {
                        "type": "list",
                        "elements": "dict",
                        "required": True,
                        "options": {
                            "name": {"type": "str", "required": True},
                            "password": {"type": "str", "required": True, "no_log": True},
                        },
                    },
                },
            },
            "purge": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    directory = module.params["directory"]
    wanted = {item["name"]: [(entry["name"], entry["password"]) for entry in item["entries"]] for item in module.params["secrets"]}
    problems = rsyncd_secrets.check_names(list(wanted), "secrets") + rsyncd_secrets.check(directory, "directory")
    if problems:
        module.fail_json(msg="Passwords can't be kept safely; nothing was changed. " + " ".join(map(str, problems)))
    try:
        plan = rsyncd_secrets.plan(directory, wanted, purge=module.params["purge"])
        if not module.check_mode:
            rsyncd_secrets.apply(plan)
    except OSError as error:
        module.fail_json(
            msg=f"The passwords in {directory} can't be brought up to date: {error.strerror}. "
            "Each file there is the old one or the new one; mend the cause, and run this again."
        )
    module.exit_json(
        changed=plan.changed,
        files=plan.files,
        diff={"before_header": directory, "after_header": directory, "before": plan.before, "after": plan.after},
    )


if __name__ == "__main__":
    main()
