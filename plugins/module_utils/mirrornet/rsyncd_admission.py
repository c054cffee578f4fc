# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is let in by "hosts allow" and "hosts deny", whoever wrote them, as rsync reads them.

From rsyncd.conf(5); what other programs mean by a word, or a shortened address, was tried out with rsync 3.2.3 and 3.5.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

#: Words of /etc/hosts.allow that rsync has no meaning for. (UNKNOWN is what it calls a client without a name.)
_WRAPPERS_WORDS = ("ALL", "LOCAL", "KNOWN", "PARANOID", "EXCEPT")
_EVERYBODY = re.compile(r"[*?]*\*[*?]*")
#: Everybody who has a name: a client's own name server says what that is.
_EVERYBODY_NAMED = re.compile(r"[*?.]*\*[*?.]*")
_LIKE_ADDRESS = re.compile(r"[0-9./]+|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[^/]*)?(?:/.*)?")


def words(text: str) -> list[str]:
    """The items of a list, which commas or spaces divide."""
    return text.replace(",", " ").split()


def _families(items: Sequence[str]) -> set[int]:
    """The versions of IP, 4 and 6, of which a list leaves no address out."""
    v4: list[IPv4Network] = []
    v6: list[IPv6Network] = []
    whole: set[int] = set()
    for item in items:
        if _EVERYBODY.fullmatch(item):
            return {4, 6}
        address, dummy, mask = item.partition("/")
        if mask and not mask.strip("0.:"):
            # Also in spellings that only rsync takes, such as 0/0.
            whole.add(6 if ":" in address else 4)
        with suppress(ValueError):
            network = ip_network(item, strict=False)
            if isinstance(network, IPv4Network):
                v4.append(network)
            else:
                v6.append(network)
    whole |= {4} if any(network.prefixlen == 0 for network in collapse_addresses(v4)) else set()
    whole |= {6} if any(network.prefixlen == 0 for network in collapse_addresses(v6)) else set()
    return whole


def admits_all(text: str) -> bool:
    """Whether a list lets in all of IPv4 or all of IPv6, which is everybody for who has such an address."""
    items = words(text)
    return bool(_families(items)) or any(_EVERYBODY_NAMED.fullmatch(item) for item in items)


def lets_strangers_in(allow: str, deny: str) -> bool:
    """Whether a host that nobody thought of is let in.

    First "hosts allow" counts, then "hosts deny", and who is in neither is let in unless there is "hosts allow" alone.
    """
    return admits_all(allow) or (_families(words(deny)) != {4, 6} and (bool(words(deny)) or not words(allow)))


def complaints(allow: str, deny: str) -> Iterator[tuple[str, str, str, str]]:
    """What is wrong with the two lists: the parameter, severity, message, remedy."""
    if words(allow) and words(deny) and _families(words(deny)) != {4, 6}:
        message = "a host that is in neither hosts allow nor hosts deny is let in"
        yield "hosts deny", "high", message, "Remove hosts deny: hosts allow alone refuses all others"
    for severity, name, items in (("low", "hosts allow", words(allow)), ("medium", "hosts deny", words(deny))):
        names = []
        for item in items:
            if item in _WRAPPERS_WORDS:
                message = f"'{item}' in {name} is a host's name to rsync, and before 3.5.0 such a name in hosts deny turns nobody away"
                yield name, "high", message, "Write * for everybody, and addresses for all else"
            elif _LIKE_ADDRESS.fullmatch(item):
                if not _families([item]) and not _is_network(item):
                    message = f"'{item}' in {name} is not an address or network as rsync reads them"
                    yield name, "high", message, "Write it in full, such as 192.0.2.0/24"
            elif not _EVERYBODY.fullmatch(item):
                names.append(item)
        if names:
            yield name, severity, f"access depends on what the DNS says about {names[0]}", "Give addresses"


def _is_network(item: str) -> bool:
    with suppress(ValueError):
        ip_network(re.sub(r"%[^/]*", "", item), strict=False)
        return True
    return False
