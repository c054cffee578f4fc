# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors that get their logins from their master's variables: nothing is told twice."""

from __future__ import annotations

import pytest
from testinfra.host import Host


@pytest.mark.on("mirrors")
def test_each_mirror_pulls_by_its_own_login(host: Host) -> None:
    name = host.check_output("hostname")
    host.check_output("mirrornet pull members")
    assert host.file("/srv/mirror/members/README").content_string == "For members\n"
    held = host.check_output("grep --recursive --files-with-matches 'the [p]assword of mirror' /etc /var /srv 2>/dev/null").split()
    assert len(held) == 1
    password = host.file(held[0])
    assert (password.user, password.mode, password.content_string) == ("mirrornet", 0o600, f"the password of {name}\n")
