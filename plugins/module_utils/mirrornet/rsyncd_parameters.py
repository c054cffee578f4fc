# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parameters of an rsyncd.conf: what rsync calls them, and since when it knows them.

From rsyncd.conf(5) and NEWS of rsync 3.5.0. What 3.2.3 and 3.5.0 know was tried out with both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Version = tuple[int, ...]


@dataclass(frozen=True)
class Parameter:
    """One parameter; ``kind`` names a rule in ``rsyncd_values.KINDS`` for values given by way of ``extra``."""

    name: str
    kind: str = "text"
    for_all: bool = False  #: it is about the daemon as such; rsync ignores it in a module
    since: Version = ()  #: the first version that knows it; empty for those of every rsync still met
    refused: str = ""  #: why it isn't taken by way of ``extra``
    instead: str = ""  #: what to do in place of it


_FRONTEND = "what accepts the connections decides about it, and rsync would ignore it"
_CLAIM = "every client of the plain port could claim any address, and so pass hosts_allow"

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("address", for_all=True, refused=_FRONTEND, instead="Use rsync_master_addresses"),
    Parameter("auth digest", "choice", since=(3, 5, 0)),
    Parameter("auth users", "users"),
    Parameter("charset", "charset"),
    Parameter("comment"),
    Parameter("daemon chroot", "file", for_all=True, since=(3, 1, 3)),
    Parameter("daemon gid", "account", for_all=True, since=(3, 1, 3)),
    Parameter("daemon uid", "account", for_all=True, since=(3, 1, 3)),
    Parameter("dont compress", "words"),
    Parameter("early exec", "command", since=(3, 2, 0)),
    Parameter("exclude", "patterns"),
    Parameter("exclude from", "file"),
    Parameter("fake super", "flag"),
    Parameter("filter", "rules"),
    Parameter("forward lookup", "flag", since=(3, 1, 0)),
    Parameter("gid", "account"),
    Parameter("hosts allow", "addresses"),
    Parameter("hosts deny", "addresses"),
    Parameter("ignore errors", refused="mirrors would delete what the master can't read", instead="Leave it out, and mend the file system"),
    Parameter("ignore nonreadable", "flag"),
    Parameter("include", "patterns"),
    Parameter("include from", "file"),
    Parameter("incoming chmod", "chmod"),
    Parameter("insecure links", "flag", since=(3, 5, 0)),
    Parameter("list", "flag"),
    Parameter("listen backlog", for_all=True, refused=_FRONTEND, instead="Leave it out"),
    Parameter("lock file", "lock_file"),
    Parameter("log file", "log_file"),
    Parameter("log format", "log_format"),
    Parameter("max connections", "count"),
    Parameter("max verbosity", "count"),
    Parameter("motd file", "file", for_all=True),
    Parameter("munge symlinks", "flag"),
    Parameter("name", refused="it would give the module another name", instead="Use the option name"),
    Parameter("name converter", "command", since=(3, 2, 3)),
    Parameter("numeric ids", "flag"),
    Parameter("open noatime", "flag", since=(3, 2, 2)),
    Parameter("outgoing chmod", "chmod"),
    Parameter("path", "tree"),
    Parameter("pid file", for_all=True, refused=_FRONTEND, instead="Leave it out"),
    Parameter("port", for_all=True, refused=_FRONTEND, instead="Use rsync_master_port"),
    Parameter("post-xfer exec", "command"),
    Parameter("pre-xfer exec", "command"),
    Parameter(
        "proxy protocol",
        for_all=True,
        since=(3, 2, 0),
        refused=_CLAIM,
        instead="Use rsync_master_tls, which gives proxies a way of their own",
    ),
    Parameter("proxy protocol hosts", for_all=True, since=(3, 5, 0), refused=_CLAIM, instead="Leave it out; rsync_master_tls sets it"),
    Parameter("read only", "flag"),
    Parameter("refuse options", "refusals"),
    Parameter("reverse lookup", "flag", since=(3, 1, 0)),
    Parameter("secrets file", "file"),
    Parameter("socket options", for_all=True),
    Parameter("strict modes", refused="it would let a secrets file be read by everybody", instead="Leave it out"),
    Parameter("syslog facility", "choice"),
    Parameter("syslog tag", since=(3, 1, 3)),
    Parameter("temp dir", "path"),
    Parameter("timeout", "count"),
    Parameter("transfer logging", "flag"),
    Parameter("uid", "account"),
    Parameter("use chroot", "flag"),
    Parameter("write only", "flag"),
)


def key_of(name: str) -> str:
    """A name as it is compared: rsync ignores case and spaces, people mix up ' ', '_' and '-'."""
    return "".join(letter for letter in name.lower() if letter not in " _-")


BY_KEY = {key_of(parameter.name): parameter for parameter in PARAMETERS}


def version_of(text: str) -> Version:
    """A version such as ``3.2.3`` as numbers that compare; empty when there is none."""
    return tuple(int(number) for number in text.split(".")) if text else ()


def spelled(version: Sequence[int]) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))
