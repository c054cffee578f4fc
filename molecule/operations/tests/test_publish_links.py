# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where heads are written, root works in a directory of somebody else's."""

from __future__ import annotations

from plays import play
from testinfra.host import Host


def test_a_link_in_place_of_a_head_s_directory_is_given_nothing(hosts: dict[str, Host]) -> None:
    host = hosts["master1"]
    units = "mirrornet-publish-archive.timer mirrornet-publish-archive.service"
    host.check_output(f"systemctl stop {units} && mkdir /srv/root-s && mv /srv/archive/.mirrornet /srv/kept")
    try:
        # The account that serves the tree owns it.
        host.check_output("runuser -u nobody -- ln --symbolic /srv/root-s /srv/archive/.mirrornet")
        told = play("master1")
        assert (told.changed, told.failed) == ({"master1": 0}, {"master1": 1}), told.output
        assert (
            "'/srv/archive/.mirrornet' is not a directory itself, and heads belong there. Find out who put it there, and remove it"
            in told.said
        )
        assert host.check_output("stat --format=%U:%G /srv/root-s") == "root:root"
    finally:
        host.check_output("rm /srv/archive/.mirrornet; mv /srv/kept /srv/archive/.mirrornet; rmdir /srv/root-s")
        host.check_output("systemctl start mirrornet-publish-archive.timer")
