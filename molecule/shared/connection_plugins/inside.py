# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reach a test host by entering its namespaces, once a task.

The usual connection for containers, containers.podman.podman, can't pipeline: it starts podman six times for each task, and each
start takes more processor time than most modules. This one hands a module over as SSH with pipelining does, by standard input, and
starts no podman at all.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from shlex import quote

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: inside
short_description: reaches a test host by entering its namespaces
description:
  - Runs commands and moves files by the script C(inside) beside this plugin.
author:
  - The mirrornet.rsync authors (@mirrornet)
options:
  remote_addr:
    description: The name of the container.
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
  remote_user:
    description: The account in the container.
    default: root
    vars:
      - name: ansible_user
extends_documentation_fragment:
  - connection_pipelining
"""

INSIDE = str(Path(__file__).with_name("inside"))


class Connection(ConnectionBase):
    """A container that runs on this machine."""

    transport = "inside"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def close(self) -> None:
        self._connected = False

    def _inside(self, command: str, in_data: bytes | None) -> subprocess.CompletedProcess[bytes]:
        """Run a line of shell in the container."""
        argv = [INSIDE, self.get_option("remote_addr"), self.get_option("remote_user"), "/bin/sh", "-c", command]
        done = subprocess.run(argv, input=in_data or b"", capture_output=True, check=False)
        # 125 is the script's own failure, such as a container that doesn't run.
        if done.returncode == 125:
            raise AnsibleConnectionFailure(done.stderr.decode(errors="replace").strip())
        return done

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        done = self._inside(cmd, in_data)
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        done = self._inside(f"cat >{quote(out_path)}", Path(in_path).read_bytes())
        if done.returncode != 0:
            raise AnsibleError(f"{out_path} could not be written: {done.stderr.decode(errors='replace').strip()}")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        done = self._inside(f"cat {quote(in_path)}", None)
        if done.returncode != 0:
            raise AnsibleError(f"{in_path} could not be read: {done.stderr.decode(errors='replace').strip()}")
        Path(out_path).write_bytes(done.stdout)
