# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of an rsyncd.conf: what a module may say, and what may be said for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from .rsyncd_parameters import BY_KEY, Parameter, key_of

#: The facilities that rsyncd.conf(5) lists under "syslog facility".
FACILITIES = (
    "auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "security", "syslog", "user", "uucp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip


@dataclass(frozen=True)
class Option:
    """A row of the table of options.

    ``kind`` names the rule in ``rsyncd_values.KINDS`` that a value must pass; ``least``, ``most`` and ``choices`` narrow it.
    """

    name: str
    kind: str
    least: int = 0
    most: int = 2**31 - 1
    choices: tuple[str, ...] = ()

    @property
    def parameter(self) -> Parameter | None:
        """What rsync calls it; None for what is the role's own."""
        return BY_KEY.get(key_of(self.name))


#: Digests with which a login can be proved, strongest first; see "auth digest" in rsyncd.conf(5).
DIGESTS = ("sha512", "sha256", "sha1", "md5")

#: Everything a module may say. Most are parameters of rsyncd.conf, with underscores for spaces; ``Option.parameter`` has the name there.
MODULE_OPTIONS: tuple[Option, ...] = (
    Option("name", "module_name"),
    Option("path", "tree"),
    Option("comment", "text"),
    Option("list", "flag"),
    Option("read_only", "flag"),
    Option("write_only", "flag"),
    Option("use_chroot", "flag"),
    Option("munge_symlinks", "flag"),
    Option("numeric_ids", "flag"),
    Option("fake_super", "flag"),
    Option("uid", "account"),
    Option("gid", "account"),
    Option("hosts_allow", "addresses"),
    Option("hosts_allow_groups", "words"),
    Option("hosts_deny", "addresses"),
    Option("auth_users", "users"),
    Option("secrets", "secrets"),
    Option("secrets_file", "file"),
    Option("auth_digest", "choice", choices=DIGESTS),
    Option("max_connections", "count", most=65535),
    Option("lock_file", "lock_file"),
    Option("timeout", "count", most=86400),
    Option("filter", "rules"),
    Option("include_from", "file"),
    Option("include", "patterns"),
    Option("exclude_from", "file"),
    Option("exclude", "patterns"),
    Option("ignore_nonreadable", "flag"),
    Option("open_noatime", "flag"),
    Option("refuse_options", "refusals"),
    Option("dont_compress", "words"),
    Option("incoming_chmod", "chmod"),
    Option("outgoing_chmod", "chmod"),
    Option("charset", "charset"),
    Option("early_exec", "command"),
    Option("pre_xfer_exec", "command"),
    Option("post_xfer_exec", "command"),
    Option("transfer_logging", "flag"),
    Option("log_format", "log_format"),
    Option("log_file", "log_file"),
    Option("syslog_facility", "choice", choices=FACILITIES),
    Option("max_verbosity", "count", most=9),
    Option("sentinel", "inside"),
    Option("sentinel_create", "flag"),
    Option("rebuild_flag", "flag_file"),
    Option("publish", "publish"),
    Option("extra", "extra"),
)

#: Everything that may be said for all modules at once, and for what accepts their connections.
GLOBAL_OPTIONS: tuple[Option, ...] = (
    Option("public_name", "host_name"),
    Option("port", "count", least=1, most=65535),
    Option("addresses", "own_addresses"),
    Option("max_connections", "count", least=1, most=65535),
    Option("max_connections_per_source", "count", most=65535),
    Option("config_path", "file"),
    Option("uid", "account"),
    Option("gid", "account"),
    Option("auth_digest", "choice", choices=("", *DIGESTS)),
    Option("timeout", "count", most=86400),
    Option("exclude", "patterns"),
    Option("refuse_options", "refusals"),
    Option("dont_compress", "words"),
    Option("transfer_logging", "flag"),
    Option("log_format", "log_format"),
    Option("syslog_facility", "choice", choices=FACILITIES),
    Option("motd", "motd"),
    Option("log_file", "own_log"),
    Option("log_days", "count", least=1, most=3650),
    Option("fail2ban", "flag"),
    Option("metrics_directory", "own_directory"),
    Option("firewall", "choice", choices=("none", "nftables", "ufw", "firewalld")),
    Option("firewall_sources", "sources"),
    Option("extra", "extra_for_all"),
    Option("public_scheme", "choice", choices=("rsync", "rsyncs")),
    Option("tls", "flag"),
    Option("tls_port", "count", least=1, most=65535),
    Option("tls_certificate", "file"),
    Option("tls_key", "file"),
)
