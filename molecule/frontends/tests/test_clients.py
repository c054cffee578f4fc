# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other people's clients. They come again in the tour, where rsync itself pulls too, by three versions from each frontend."""

from __future__ import annotations

from frontends import FTPSYNC, everywhere
from testinfra.host import Host


def test_debian_s_ftpsync_pulls_a_tree(hosts: dict[str, Host]) -> None:
    assert everywhere(hosts, FTPSYNC) == dict.fromkeys(hosts, "Mirrorsync done")


def test_the_tour_s_clients_are_as_old_and_as_new_as_is_said(hosts: dict[str, Host]) -> None:
    told = everywhere(hosts, "rsync --version | sed --quiet --regexp-extended '1s/^rsync +version v?([0-9.]+).*/\\1/p'")
    versions = sorted(tuple(map(int, version.split("."))) for version in told.values())
    assert versions[0] == (3, 2, 3)
    assert versions[-1] >= (3, 4)
