#!/usr/bin/python
# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mirror_publish
short_description: Tell mirrors what is in a master's tree, right after a release
version_added: 0.1.0
description:
  - Does what the command C(mirrornet publish) does. If the tree isn't any more what its head says, it writes what has changed into the tree's directory
    C(.mirrornet), and then another head.
  - Needs nothing on the host but GNU findutils, and OpenSSH's client where heads are signed. Called by root, it goes on as the account that owns C(.mirrornet).
  - A tree that the role P(mirrornet.rsync.rsync_master#role) publishes wants the same O(sign_key), O(file_list), O(exclude) and O(keep) as there.
    Starting its service C(mirrornet-publish-NAME.service) does the same without them.
author:
  - The mirrornet.rsync authors (@mirrornet)
options:
  tree:
    description:
      - The top directory of the tree.
    type: path
    required: true
  name:
    description:
      - What the state is kept under. The same tree always wants the same one, and another one is refused. By default the one that it was published
        under before, or else one made of the tree's path.
    type: str
  exclude:
    description:
      - What the server doesn't give to mirrors. Patterns of rsync of the simple kinds C(NAME), C(*.EXT), C(NAME/) and C(/DIR/*.EXT).
    type: list
    elements: str
    default: []
  sign_key:
    description:
      - A file on the host with a private key of SSH without a passphrase, which signs the head. Root's own will do, whichever account goes on.
    type: path
  file_list:
    description:
      - A name, for instance V(fullfiletimelist-releases), under which Fedora's list of files is written at the top of the tree as well. The account that
        goes on must be able to write there.
    type: str
  keep:
    description:
      - For how many serials mirrors find deltas, up to 1000.
    type: int
    default: 64
  settle:
    description:
      - For how many seconds nothing may have changed in the tree before it is published, up to 3600. What was just written is waited for.
    type: float
    default: 5
  anew:
    description:
      - Whether to read every file again and to begin a new epoch, so that mirrors compare everything once.
    type: bool
    default: false
  state_dir:
    description:
      - Directory for the state. By default C(/var/lib/mirrornet) for root, C(~/.local/state/mirrornet) for an ordinary user.
    type: path
  config_dir:
    description:
      - Where the host's jobs are defined, whose trees aren't published. By default C(/etc/mirrornet) for root, C(~/.config/mirrornet) for an ordinary user.
    type: path
extends_documentation_fragment:
  - mirrornet.rsync.attributes
attributes:
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Put the release in place
  ansible.builtin.unarchive:
    src: release.tar
    dest: /srv/releases

- name: Tell the mirrors
  mirrornet.rsync.mirror_publish:
    tree: /srv/releases

- name: Tell the mirrors of a tree that the role rsync_master publishes with sign and file_list
  mirrornet.rsync.mirror_publish:
    tree: /srv/archive
    sign_key: /etc/mirrornet/sign_key
    file_list: fullfiletimelist-archive
    exclude: [.~tmp~/, .mirrornet/incoming/]
"""

RETURN = r"""
outcome:
  description: V(published) or V(unchanged); of a call that failed also V(busy), V(held) or V(failed).
  returned: always
  type: str
  sample: published
serial:
  description: The serial of the head that is there now. In check mode that of an unchanged tree only.
  returned: when there is one
  type: int
  sample: 42
epoch:
  description: The epoch of that head.
  returned: when there is one
  type: str
  sample: b6098add883ed732768c3f9ece1a292a
report:
  description: All that the command reports with C(--json), see the reference of the command.
  returned: always
  type: dict
  sample: {"changed": 3, "gone": 1, "digested": 2}
"""

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import publish, publish_list
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet.files import to_json
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet.places import Places, default_places
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet.record import asdict


def _in_child(work: Callable[[], publish.Publication]) -> publish.Publication | None:
    """What ``work`` returns; None if it ended early. It becomes another account, who can't read what Ansible has yet to load of this module."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(theirs, to_json(asdict(work())))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as stream:
        said = stream.read()
    os.waitpid(pid, 0)
    return publish.Publication(**json.loads(said)) if said else None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "tree": {"type": "path", "required": True},
            "name": {"type": "str"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            # Where it is is no secret.
            "sign_key": {"type": "path", "no_log": False},
            "keep": {"type": "int", "default": 64},
            "file_list": {"type": "str"},
            "settle": {"type": "float", "default": 5.0},
            "anew": {"type": "bool", "default": False},
            "state_dir": {"type": "path"},
            "config_dir": {"type": "path"},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    params = module.params
    usual = default_places()
    places = Places(Path(params["config_dir"] or usual.config_dir).absolute(), Path(params["state_dir"] or usual.state_dir).absolute())
    tree = Path(params["tree"]).absolute()
    wish = publish.Wish(
        tree=tree,
        name=publish.usual_name(places, tree) if params["name"] is None else params["name"],
        exclude=tuple(params["exclude"]),
        key=Path(params["sign_key"]).absolute() if params["sign_key"] else None,
        keep=params["keep"],
        anew=params["anew"],
        settle=params["settle"],
    )

    def work() -> publish.Publication:
        if params["file_list"] is None:
            return publish.publish(places, wish, only_look=module.check_mode)
        return publish_list.publish_with_list(places, wish, params["file_list"], only_look=module.check_mode)

    done = _in_child(work)
    if done is None:
        module.fail_json(msg=f"What publishes {tree} ended early. The former head stands; what it said on standard error tells why.")
    report = asdict(done)
    result: dict[str, Any] = {"changed": done.outcome == "published", "outcome": done.outcome, "report": report}
    result.update({name: report[name] for name in ("serial", "epoch") if report[name] is not None})
    if done.exit_code:
        module.fail_json(msg=done.line(), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
