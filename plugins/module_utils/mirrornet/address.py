# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses and networks that somebody wrote, read strictly.

Python's reader takes anything for the zone of an IPv6 address, after a "%": line ends, quotes, whatever follows them. What passes here can
stand in any configuration as it was written. A zone would mean something on one host alone, so none is taken.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

_ADDRESS = re.compile(r"[0-9A-Fa-f.:]+")
_NETWORK = re.compile(r"[0-9A-Fa-f.:]+(?:/[0-9A-Fa-f.:]+)?")


def address(text: object) -> Address | None:
    """The text as an address; None if it is none."""
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def network(text: object, *, exact: bool = False) -> Network | None:
    """The text as a network, of which an address is the smallest; None if it is none. ``exact``: without bits behind the mask."""
    if not isinstance(text, str) or not _NETWORK.fullmatch(text):
        return None
    try:
        return ipaddress.ip_network(text, strict=exact)
    except ValueError:
        return None
