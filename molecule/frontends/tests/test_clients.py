# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other people's clients. What rsync itself gets, of three versions from each frontend, is in the tour."""

from __future__ import annotations

from frontends import everywhere
from testinfra.host import Host

#: Debian's own mirror script, from its package. Without its dependencies: it needs no mail to be sent.
FTPSYNC = """
set -e
rm --recursive --force /tmp/ftpsync && mkdir --parents /tmp/ftpsync/.config/ftpsync /tmp/ftpsync/log /tmp/ftpsync/tree && cd /tmp/ftpsync
apt-get download -qq ftpsync && dpkg --extract ftpsync_*.deb package
cat >.config/ftpsync/ftpsync.conf <<EOF
MIRRORNAME=$(hostname)
RSYNC_HOST={next}
RSYNC_PATH=archive
TO=/tmp/ftpsync/tree/
LOGDIR=/tmp/ftpsync/log
MAILTO=root
EOF
HOME=/tmp/ftpsync timeout 120 package/usr/bin/ftpsync sync:all >&2
cmp tree/pool/package /srv/archive/pool/package
test -e tree/project/trace/$(hostname)
grep --only-matching 'Mirrorsync done' log/ftpsync.log.0
"""


def test_debian_s_ftpsync_pulls_a_tree(hosts: dict[str, Host]) -> None:
    assert everywhere(hosts, FTPSYNC) == dict.fromkeys(hosts, "Mirrorsync done")
