# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused in a master's configuration: each row is a mistake, where it is reported, and the words that tell it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from mirrornet import rsyncd, rsyncd_options, rsyncd_parameters, rsyncd_values

GOOD: dict[str, Any] = {"name": "archive", "path": "/srv/archive"}


def module(**options: Any) -> dict[str, Any]:
    return {**GOOD, **options}


WRITABLE = {"read_only": False, "hosts_allow": ["192.0.2.7"]}

WRONG_VALUES = [
    # option, value, words of the message
    ("name", "", "can't be a module's name"),
    ("name", "a/b", "because of '/'"),
    ("name", "a]b", "because of ']'"),
    ("name", "[a", "because of '['"),
    ("name", "a b", "because of ' '"),
    ("name", "a\nb", r"because of '\n'"),
    ("name", "archive\n", r"because of '\n'"),
    ("name", "größe", "because of 'ö'"),
    ("name", ".hidden", "the first a letter or digit"),
    ("name", "x" * 64, "at most 63"),
    ("name", "global", "rsync's own section"),
    ("name", "Global", "rsync's own section"),
    ("name", 7, "is not text"),
    ("name", None, "it has no value"),
    ("sentinel", "/srv/archive/.sentinel", "not the path of a file in the tree"),
    ("sentinel", "../.sentinel", "not the path of a file in the tree"),
    ("sentinel", ".mirrornet/", "not the path of a file in the tree"),
    ("sentinel", "a\nread only = no", "holds a line end"),
    ("sentinel", True, "is not text"),
    ("sentinel_create", "yes", "neither true nor false"),
    ("rebuild_flag", "/run/../flag", "holds '..'"),
    ("rebuild_flag", "../flag", "not the path of a file in the tree"),
    ("rebuild_flag", 1, "is not text"),
    ("rebuild_flag", "/tmp/rebuilding", "they would never see it. Move it out of /tmp and /var/tmp"),
    ("rebuild_flag", "//var/./tmp/a/rebuilding", "they would never see it"),
    ("path", "", "it is empty"),
    ("path", "srv/archive", "not an absolute path"),
    ("path", "/srv/../etc", "holds '..'"),
    ("path", "/srv/archive ", "which rsync cuts off"),
    ("path", "/srv/archive\nhosts allow = *", "holds a line end"),
    ("path", "/srv/archive\r", "control character"),
    ("path", "/srv/\u2028archive", "control character"),
    ("path", "/srv/archive\\", "ends with a backslash"),
    ("path", "/home/%RSYNC_USER_NAME%", "environment variable"),
    ("path", "/", "publish the whole host"),
    ("path", "//.", "publish the whole host"),
    ("path", "/tmp/archive", "everybody writes there"),
    ("path", "//tmp/archive", "everybody writes there"),
    ("path", "/proc", "isn't on a disk"),
    ("path", "/etc", "is a directory of the system"),
    ("path", "/usr/./lib/", "is a directory of the system"),
    ("path", "//home", "is a directory of the system"),
    ("path", "/var/lib", "is a directory of the system"),
    ("path", "/opt", "is a directory of the system"),
    ("path", ["/srv/archive"], "is not text"),
    ("path", None, "it has no value"),
    ("comment", "one\ntwo", "Write it on one line"),
    ("comment", "tab\there", "control character"),
    ("comment", "the end \\", "swallow the next line"),
    ("comment", "for %USER% alone", "environment variable"),
    ("comment", "  ", "it is empty"),
    ("comment", 7, "Write it in quotes"),
    ("list", "no", "Write true or false, without quotes"),
    ("read_only", "false", "neither true nor false"),
    ("read_only", 1, "neither true nor false"),
    ("read_only", None, "it has no value"),
    ("write_only", "yes", "neither true nor false"),
    ("use_chroot", "unset", "neither true nor false"),
    ("uid", "", "not the name or number of an account"),
    ("uid", "no body", "not the name or number of an account"),
    ("uid", "nobody\n", "not the name or number of an account"),
    ("uid", -1, "not a valid id"),
    ("uid", 2**32 - 1, "not a valid id"),
    ("uid", True, "not the name or number of an account"),
    ("uid", ["nobody"], "Give one name"),
    ("gid", "a,b", "not the name or number of an account"),
    ("hosts_allow", [], "the list is empty"),
    ("hosts_allow", "192.0.2.1", "is not a list"),
    ("hosts_allow", ["192.0.2.300"], "is not an address or network"),
    ("hosts_allow", ["192.0.2.0/33"], "is not an address or network"),
    ("hosts_allow", ["2001:db8::/129"], "is not an address or network"),
    ("hosts_allow", ["mirror.example.org"], "up to the DNS"),
    ("hosts_allow", ["192.0.2.1 192.0.2.2"], "is not an address or network"),
    ("hosts_allow", ["192.0.2.1\nread only = no"], "is not an address or network"),
    ("hosts_allow", [3221225985], "is not an address or network"),
    ("hosts_allow", ["fe80::1%eth0"], "is not an address or network"),
    ("hosts_allow", ["fe80::1%x\nread only = no"], "is not an address or network"),
    ("hosts_deny", ["2001:db8::%x\nread only = no/64"], "is not an address or network"),
    ("hosts_deny", None, "it has no value"),
    ("hosts_deny", ["all"], "is not an address or network"),
    ("max_connections", "10", "without quotes"),
    ("max_connections", -1, "out of range"),
    ("max_connections", 65536, "out of range"),
    ("max_connections", 1.5, "not a whole number"),
    ("max_connections", True, "not a whole number"),
    ("lock_file", "/run/lock/archive", "where alone connections may write, so that every client would be refused. Give a name"),
    ("lock_file", "/run/mirrornet-rsyncd/sub/archive", "where alone connections may write"),
    ("lock_file", "/run/mirrornet-rsyncd/../x", "where alone connections may write"),
    ("lock_file", "sub/archive", "where alone connections may write"),
    ("lock_file", "/archive", "where alone connections may write"),
    ("lock_file", ".all.lock", "where alone connections may write"),
    ("lock_file", "..", "where alone connections may write"),
    ("lock_file", "a\nread only = no", "holds a line end"),
    ("timeout", -1, "out of range"),
    ("timeout", "10m", "not a whole number"),
    ("timeout", 86401, "out of range"),
    ("exclude", "*.tmp", "is not a list"),
    ("exclude", ["two words"], "write '?' for the space"),
    ("exclude", ["line\nend"], "holds a line end"),
    ("exclude", ["ok", "!"], "instruction of rsync's filters"),
    ("exclude", [""], "it is empty"),
    ("exclude", [7], "is not text"),
    ("refuse_options", ["checksum delete"], "make it two items"),
    ("refuse_options", "delete", "is not a list"),
    ("refuse_options", ["chekcsum"], "rsync knows no option 'chekcsum', and would refuse nothing by it. Did you mean 'checksum'?"),
    ("refuse_options", ["--checksum"], "Did you mean 'checksum'?"),
    ("refuse_options", ["Checksum"], "Did you mean 'checksum'?"),
    ("refuse_options", ["checksum,delete"], "rsync knows no option"),
    ("refuse_options", ["*", "!arhcive"], "Did you mean 'archive'?"),
    ("refuse_options", ["delte-*"], "rsync knows no option 'delte-*'"),
    ("refuse_options", ["Z"], "Did you mean 'z'?"),
    ("refuse_options", ["zzzzzz"], "Take the names in rsync(1), without the dashes"),
    ("refuse_options", ["!!a"], "rsync knows no option '!!a'"),
    ("refuse_options", ["!"], "rsync knows no option '!'"),
    ("refuse_options", ["["], "rsync knows no option '['"),
    ("refuse_options", ["!a", "!v"], "so that nothing is refused. Begin with '*'"),
    ("dont_compress", "*.gz", "is not a list"),
    ("munge_symlinks", "yes", "neither true nor false"),
    ("numeric_ids", 0, "neither true nor false"),
    ("fake_super", "on", "neither true nor false"),
    ("hosts_allow", ["::ffff:192.0.2.7"], "Write it in the form of IPv4"),
    ("hosts_allow", ["192.0.2.0/0.0.0.255"], "Write 192.0.2.0/24"),
    ("hosts_allow_groups", "mirrors", "is not a list"),
    ("hosts_allow_groups", ["mirrors tier2"], "make it two items"),
    ("auth_users", [], "no login needed"),
    ("auth_users", "alice", "is not a list"),
    ("auth_users", [7], "is not text"),
    ("auth_users", ["al ice"], "is not the name of a user"),
    ("auth_users", ["alice,bob"], "is not the name of a user"),
    ("auth_users", ["#alice"], "is not the name of a user"),
    ("auth_users", ["alice\nread only = no"], "is not the name of a user"),
    ("auth_users", [""], "is not the name of a user"),
    ("auth_users", ["alice:denny"], "Did you mean 'deny'?"),
    ("auth_users", ["alice:read"], "which rsync would ignore"),
    ("auth_users", ["alice:RO"], "which rsync would ignore"),
    ("auth_users", ["alice", "alice:deny"], "'alice:deny' is never reached, because 'alice' before it matches"),
    ("auth_users", ["mirror*", "mirror7:deny"], "'mirror7:deny' is never reached"),
    ("auth_users", ["alice:deny", "@ops:deny"], "every rule denies"),
    ("secrets", "alice:correct horse battery", "it is not a list"),
    ("secrets", [], "nobody would need a password"),
    ("secrets", ["alice:correct horse battery"], "entry 1 is not a dictionary"),
    ("secrets", [{"name": "al:ice", "password": "correct horse battery"}], "entry 1 ('al:ice'): its name can't be one of a login"),
    ("secrets", [{"name": "#alice", "password": "correct horse battery"}], "its name can't be one of a login"),
    ("secrets", [{"name": "al*", "password": "correct horse battery"}], "its name can't be one of a login"),
    ("secrets", [{"name": "al\nice", "password": "correct horse battery"}], "its name can't be one of a login"),
    ("secrets", [{"password": "correct horse battery"}], "entry 1: its name can't be one of a login"),
    ("secrets", [{"name": "alice"}], "entry 1 ('alice'): it has no password"),
    ("secrets", [{"name": "alice", "password": ""}], "fewer than 12 characters"),
    ("secrets", [{"name": "alice", "password": "qx77Y"}], "fewer than 12 characters"),
    ("secrets", [{"name": "alice", "password": 123456789012}], "its password is not text"),
    ("secrets", [{"name": "alice", "password": "correct horse\nbattery"}], "holds a line end"),
    ("secrets", [{"name": "alice", "password": "correct horse battery\r"}], "holds a line end"),
    ("secrets", [{"name": "alice", "password": "correct \0 battery"}], "control character"),
    ("secrets", [{"name": "alice", "password": "x" * 501}], "of which rsync reads a part"),
    ("secrets", [{"name": "alice", "pasword": "correct horse battery"}], "unknown key 'pasword'. Did you mean 'password'?"),
    ("secrets", [{"name": "a", "password": "x" * 20}, {"name": "a", "password": "y" * 20}], "entry 2 ('a') has the name of an earlier one"),
    ("secrets", [{"name": "a", "password": "x" * 20, "pasword": 7}], "unknown key 'pasword'"),
    ("secrets_file", "rsyncd.secrets", "not an absolute path"),
    ("auth_digest", "sha-256", "Did you mean 'sha256'?"),
    ("auth_digest", "md4", "Did you mean 'md5'?"),
    ("filter", "- /secret", "is not a list"),
    ("filter", ["/secret"], "is not a rule that a master can apply"),
    ("filter", ["- /a - /b"], "is not a rule that a master can apply"),
    ("filter", ["dir-merge .filter"], "is not a rule that a master can apply"),
    ("filter", ["- one\n"], "holds a line end"),
    ("include", ["two words"], "write '?' for the space"),
    ("secrets_file", "/tmp/secrets", "they would never see it"),
    ("exclude_from", "excludes", "not an absolute path"),
    ("exclude_from", "/tmp/excludes", "they would never see it"),
    ("include_from", "/var/tmp/includes", "they would never see it"),
    ("include_from", "/etc/../includes", "holds '..'"),
    ("incoming_chmod", "u=rwz", "'u=rwz' is not a change of permissions"),
    ("incoming_chmod", "0888", "'0888' is not a change of permissions"),
    ("incoming_chmod", "Dg+s, F644", "' F644' is not a change of permissions"),
    ("incoming_chmod", "u=rw,", "'' is not a change of permissions"),
    ("incoming_chmod", 644, "Write it in quotes"),
    ("outgoing_chmod", "a-w g+r", "is not a change of permissions"),
    ("outgoing_chmod", "u-w\n", "holds a line end"),
    ("charset", "UTF 8", "is not the name of a character set"),
    ("charset", "", "is not the name of a character set"),
    ("pre_xfer_exec", "check-tree", "does not begin with an absolute path"),
    ("pre_xfer_exec", "/usr/local/sbin/check | true", "holds '|', of which a shell would make something"),
    ("pre_xfer_exec", "/usr/local/sbin/check $(id)", "holds '$'"),
    ("pre_xfer_exec", "/usr/local/sbin/check  twice", "holds ' '"),
    ("pre_xfer_exec", "/usr/local/sbin/check %RSYNC_REQUEST%", "environment variable"),
    ("pre_xfer_exec", "/tmp/check", "lies where everybody writes"),
    ("pre_xfer_exec", "/./tmp/check", "lies where everybody writes"),
    ("pre_xfer_exec", "/srv/../tmp/check", "holds '..'"),
    ("post_xfer_exec", "/usr/local/sbin/report;reboot", "holds ';'"),
    ("early_exec", ["/usr/local/sbin/mount"], "is not text"),
    ("log_format", "%o %z", "'%z' is not an escape of rsync's log format"),
    ("log_format", "100%", "'%' is not an escape"),
    ("log_format", "%f\nsend", "holds a line end"),
    ("log_file", "rsync.log", "not an absolute path"),
    ("log_file", "/tmp/rsync.log", "lies where a log can't"),
    ("log_file", "//tmp/rsync.log", "lies where a log can't"),
    ("syslog_facility", "local8", "Did you mean 'local"),
    ("max_verbosity", 10, "out of range"),
    ("extra", ["temp dir"], "is not a dictionary"),
    ("extra", {"temp_dri": "/x"}, "rsync knows no parameter 'temp_dri', and would ignore it. Did you mean 'temp dir'?"),
    ("extra", {"hosts allow": "*"}, "Use the option hosts_allow"),
    ("extra", {"HostsAllow": "*"}, "Use the option hosts_allow"),
    ("extra", {"pre-xfer_exec": "/bin/true"}, "Use the option pre_xfer_exec"),
    ("extra", {"strict modes": False}, "is not taken: it would let a secrets file be read by everybody"),
    ("extra", {"ignore errors": True}, "mirrors would delete what the master can't read"),
    ("extra", {"name": "other"}, "Use the option name"),
    ("extra", {"motd file": "/etc/motd"}, "Put it into rsync_master_extra"),
    ("extra", {"pid file": "/run/x"}, "is not taken"),
    ("extra", {"proxy protocol": True}, "is not taken: every client of the plain port could claim any address"),
    ("extra", {"temp dir": "tmp"}, "'temp dir': 'tmp' is not an absolute path"),
    ("extra", {"reverse lookup": "no"}, "'reverse lookup': 'no' is neither true nor false"),
    ("extra", {"syslog tag": "a\nread only = no"}, "holds a line end"),
    ("extra", {"temp dir": "/a", "temp_dir": "/b"}, "'temp_dir' comes twice"),
    ("extra", {"&include": "/etc/x"}, "rsync knows no parameter '&include'"),
    ("extra", {"temp-dir": "/a"}, "Write 'temp dir'"),
    ("extra", {7: 1}, "rsync knows no parameter 7"),
]


@pytest.mark.parametrize(("option", "value", "words"), WRONG_VALUES, ids=lambda value: repr(value)[:30])
def test_a_wrong_value_is_refused(option: str, value: object, words: str) -> None:
    problems = rsyncd.check_module(3, module(**{option: value}))
    (problem,) = [p for p in problems if p.option == option and words.lower() in str(p).lower()]
    assert "(item 3)" in problem.where
    assert problem.remedy


WRONG_TOGETHER = [
    # options of one module, the option at fault, words of the message
    ({"hosts_allow": ["192.0.2.7"], "hosts_deny": ["192.0.2.0/24"]}, "hosts_deny", "in neither list"),
    ({"hosts_allow": ["192.0.2.7"], "hosts_deny": ["0.0.0.0/0"]}, "hosts_deny", "in neither list"),
    ({"write_only": True}, "write_only", "serves nothing"),
    ({"write_only": True, "read_only": True}, "write_only", "serves nothing"),
    ({"read_only": False}, "read_only", "everybody in the world could write"),
    ({"auth_users": ["alice"]}, "auth_users", "nobody has a password"),
    ({"secrets_file": "/etc/rsyncd.secrets"}, "secrets_file", "everybody is admitted"),
    ({"auth_digest": "sha256"}, "auth_digest", "without auth_users it does nothing"),
    ({"incoming_chmod": "a+r"}, "incoming_chmod", "nothing comes in"),
    ({**WRITABLE, "write_only": True, "outgoing_chmod": "a+r"}, "outgoing_chmod", "nothing goes out"),
    ({**WRITABLE, "use_chroot": False, "munge_symlinks": False}, "munge_symlinks", "could lead out of the tree"),
    ({"transfer_logging": False, "log_format": "%f"}, "log_format", "without transfer_logging"),
    ({"lock_file": "x"}, "lock_file", "without max_connections"),
    ({"lock_file": "x", "max_connections": 0}, "lock_file", "without max_connections"),
    ({"sentinel_create": True}, "sentinel_create", "no sentinel to create"),
    ({"sentinel": "a", "rebuild_flag": "a"}, "rebuild_flag", "it is the sentinel too"),
]


@pytest.mark.parametrize(("options", "option", "words"), WRONG_TOGETHER)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], option: str, words: str) -> None:
    (problem,) = rsyncd.check_module(1, module(**options))
    assert (problem.where, problem.option) == ("module 'archive' (item 1)", option)
    assert words in problem.message


WRONG_ITEMS = [
    # a whole element, words of the only message
    ("archive", "is not a dictionary"),
    (None, "is not a dictionary"),
    ([GOOD], "is not a dictionary"),
    ({"path": "/srv/archive"}, "name: it is missing"),
    ({"name": "archive"}, "path: it is missing"),
    (module(hosts_alow=["192.0.2.7"]), "unknown option 'hosts_alow'. Did you mean 'hosts_allow'?"),
    (module(readonly=True), "Did you mean 'read_only'?"),
    ({**GOOD, "read only": True}, "Did you mean 'read_only'?"),
    (module(zzz=1), "Known are name, path"),
    ({**GOOD, 7: 1}, "unknown option 7"),
]


@pytest.mark.parametrize(("item", "words"), WRONG_ITEMS, ids=lambda value: repr(value)[:30])
def test_a_wrong_item_is_refused(item: object, words: str) -> None:
    (problem,) = rsyncd.check_module(2, item)
    assert words in str(problem)
    assert "(item 2)" in problem.where


WRONG_BETWEEN = [
    # modules, the label and option at fault, words of the message
    ([module(), module()], "module 'archive' (item 2)", "name", "module 'archive' (item 1) has this name already"),
    ([module(), module(name="ARCHIVE")], "module 'ARCHIVE' (item 2)", "name", "merge the two"),
    (
        [module(), {"name": "in", "path": "/srv/archive/in", **WRITABLE}],
        "module 'in' (item 2)",
        "path",
        "lies inside the path of module 'archive' (item 1), which would publish what they send",
    ),
    (
        [{"name": "sub", "path": "/srv/archive/sub"}, module(auth_users=["alice:rw", "*"], secrets_file="/etc/s")],
        "module 'sub' (item 1)",
        "path",
        "inside the path of module 'archive' (item 2), whose clients may write",
    ),
    (
        [{"name": "sub", "path": "/srv/archive/./sub/"}, module(**WRITABLE)],
        "module 'sub' (item 1)",
        "path",
        "inside the path of module 'archive' (item 2), whose clients may write",
    ),
    (
        [
            module(lock_file="/run/mirrornet-rsyncd/l", max_connections=3),
            {"name": "b", "path": "/srv/b", "lock_file": "l", "max_connections": 4},
        ],
        "module 'b' (item 2)",
        "lock_file",
        "with another limit (3)",
    ),
    (
        [module(max_connections=3), {"name": "b", "path": "/srv/b", "lock_file": "archive.lock", "max_connections": 4}],
        "module 'b' (item 2)",
        "lock_file",
        "with another limit (3)",
    ),
]


@pytest.mark.parametrize(("modules", "where", "option", "words"), WRONG_BETWEEN)
def test_modules_that_get_in_each_other_s_way_are_refused(modules: list[object], where: str, option: str, words: str) -> None:
    (problem,) = rsyncd.check_modules(modules)
    assert (problem.where, problem.option) == (where, option)
    assert words in problem.message


WRONG_GLOBALS = [
    ("firewall", "iptables", "is not known"),
    ("firewall_sources", "192.0.2.1", "is not a list"),
    ("firewall_sources", ["mirror.example.org"], "is not an address or network"),
    ("firewall_sources", ["192.0.2.1; flush ruleset"], "is not an address or network"),
    ("firewall_sources", ["*"], "is not an address or network"),
    ("firewall_sources", ["fe80::1%x } accept; flush ruleset"], "is not an address or network"),
    ("port", 0, "out of range"),
    ("motd", "red \x1b[31m", "control character"),
    ("motd", ["two", "lines"], "is not text"),
    ("motd", "first\n@RSYNCD: EXIT", "a word of the protocol"),
    ("log_file", "/var/log/rsyncd.log", "a directory that belongs to others"),
    ("log_file", "/var/log//rsyncd.log", "a directory that belongs to others"),
    ("log_file", "/var/log/./rsyncd.log", "a directory that belongs to others"),
    ("log_file", "/./data//rsyncd.log", "a directory that belongs to others"),
    ("log_file", "/usr/local/bin/x.log", "a directory that belongs to others"),
    ("log_file", "/etc/rsyncd/logs/x.log", "a directory that belongs to others"),
    ("log_file", "/tmp/a/b/x.log", "a directory that belongs to others"),
    ("log_file", "/var/log/journal/", "names a directory"),
    ("log_file", "/var/log/journal/.", "names a directory"),
    ("log_file", "rsyncd.log", "is not an absolute path"),
    ("metrics_directory", "metrics", "is not an absolute path"),
    ("fail2ban", "yes", "neither true nor false"),
    ("log_days", 0, "out of range"),
    ("port", 65536, "out of range"),
    ("port", "rsync", "not a whole number"),
    ("addresses", ["192.0.2.0/24"], "is not an address"),
    ("addresses", ["localhost"], "is not an address"),
    ("addresses", "192.0.2.1", "is not a list"),
    ("addresses", [7], "is not an address"),
    ("addresses", ["fe80::1%eth0"], "is not an address"),
    ("addresses", ["fe80::1%x\nListenStream=9999"], "is not an address"),
    ("max_connections", 0, "out of range"),
    ("max_connections_per_source", -1, "out of range"),
    ("config_path", "rsyncd.conf", "not an absolute path"),
    ("config_path", "/etc/rsyncd.conf\n", "holds a line end"),
    ("config_path", "/tmp/rsyncd.conf", "they would never see it"),
    ("metrics_directory", "/tmp/metrics", "they would never see it"),
    ("public_name", "a/b", "is not a host's name"),
    ("public_name", "", "is not a host's name"),
    ("public_name", "rsync://master/", "is not a host's name"),
    ("public_name", "master\n", "is not a host's name"),
    ("public_name", "192.0.2.0/24", "is not a host's name or address"),
    ("public_name", "fe80::1%x\nfoo", "is not a host's name"),
    ("uid", "no body", "not the name or number"),
    ("timeout", "never", "not a whole number"),
    ("exclude", [".~tmp~/ *.part"], "make it two items"),
    ("refuse_options", ["a\nread only = no"], "holds a line end"),
    ("refuse_options", ["chekcsum"], "Did you mean 'checksum'?"),
    ("dont_compress", "*", "is not a list"),
    ("transfer_logging", "yes", "neither true nor false"),
    ("syslog_facility", "local9", "Did you mean 'local"),
    ("syslog_facility", "daemon\nuid = root", "is not known"),
    ("modlues", [], "unknown option"),
    ("auth_digest", "sha3", "Did you mean 'sha"),
    ("log_format", "", "it is empty"),
    ("extra", {"address": "192.0.2.1"}, "Use rsync_master_addresses"),
    ("extra", {"Port": 874}, "Use the option port"),
    ("extra", {"max connections": 7}, "Use the option max_connections"),
    ("extra", {"listen backlog": 7}, "is not taken"),
    ("extra", {"motd fiel": "/etc/motd"}, "Did you mean 'motd file'?"),
    ("extra", {"proxy protocol": True}, "every client of the plain port could claim any address"),
    ("extra", {"Proxy_Protocol Hosts": ["*"]}, "every client of the plain port could claim any address"),
    ("extra", {"reverse lookup": "true"}, "'reverse lookup': 'true' is neither true nor false"),
]


@pytest.mark.parametrize(("option", "value", "words"), WRONG_GLOBALS)
def test_a_wrong_option_for_all_is_reported_under_the_name_of_its_variable(option: str, value: object, words: str) -> None:
    (problem,) = rsyncd.check_globals({option: value}, "rsync_master_")
    assert problem.where.startswith("rsync_master_")
    assert words.lower() in str(problem).lower()


RIGHT = [
    module(),
    module(name="debian-cd.old_2", comment='The archive, "all of it" (100 %) # not a comment = value'),
    module(path="/srv/with space/%/ü"),
    module(path="/srv/./archive"),
    *(module(path=path) for path in ("/tmpfiles", "/home/user/mirror", "/var/lib/archive", "/usr/share/x", "/etc/public", "/data", "/srv", "/mnt")),
    module(uid=0, gid=65534),
    module(uid="_rsync", gid="nogroup"),
    module(hosts_allow=["192.0.2.7", "192.0.2.77/24", "2001:db8::/32", "192.0.2.0/255.255.255.0", "*"]),
    module(hosts_allow=["192.0.2.7"], hosts_deny=["*"]),
    module(hosts_allow=["192.0.2.7"], hosts_deny=["0.0.0.0/0", "::/0"]),
    module(hosts_deny=["192.0.2.0/24"]),
    module(read_only=False, write_only=True, hosts_allow=["*"]),
    module(max_connections=0, timeout=0, list=False, use_chroot=False),
    module(max_connections=5, lock_file="/run/mirrornet-rsyncd/archive"),
    module(max_connections=5, lock_file="shared.lock"),
    module(exclude=[], refuse_options=[]),
    module(sentinel=".mirrornet/it's here", sentinel_create=True, rebuild_flag="/run/rebuilding"),
    module(sentinel="README", rebuild_flag=".rebuilding"),
    module(**WRITABLE, incoming_chmod="Dug=rwx,Fug=rw,o-rwx,D2775,F0644,a+X,u="),
    module(outgoing_chmod="go-w", charset="UTF-8", munge_symlinks=True, numeric_ids=True, fake_super=False, max_verbosity=0),
    module(auth_users=["root:deny", "@ops:rw", "mirror[0-9]*:ro", "*"], secrets_file="/etc/rsyncd.secrets", auth_digest="sha512"),
    module(read_only=False, auth_users=["alice"], secrets=[{"name": "alice", "password": "correct: horse # battery"}]),
    module(read_only=False, hosts_allow_groups=["mirrors"]),
    module(filter=["- /secret/***", "+,! *.iso", "exclude_*.tmp"], include=["*/"], include_from="/etc/in", exclude_from="/etc/out"),
    module(pre_xfer_exec="/usr/local/sbin/check --tree=archive a/b", post_xfer_exec="/bin/true", early_exec="/bin/true"),
    module(transfer_logging=True, log_format="%t [%p] %'l %-50n %i", log_file="/var/log/rsync/archive.log", syslog_facility="local5"),
    module(extra={"temp dir": "/tmp", "Reverse Lookup": True, "syslog_tag": "archive", "name converter": "/usr/bin/nameconvert"}),
    module(exclude=["/a/***", "*.tmp", "?", "[!a]"], refuse_options=["*", "!a", "c"]),
    module(refuse_options=["delete-*", "!delete-during", "[rl]", "[^0-9]*", "no-*", "trust-sender"]),
]


@pytest.mark.parametrize("item", RIGHT, ids=lambda item: repr(item)[:60])
def test_right_modules_pass(item: dict[str, Any]) -> None:
    assert rsyncd.check_modules([item]) == []


@pytest.mark.parametrize(
    ("options", "variable", "words"),
    [
        ({"public_scheme": "rsyncs"}, "rsync_master_public_scheme", "told to use TLS, which is not served"),
        ({"public_scheme": "ssl"}, "rsync_master_public_scheme", "is not known"),
        ({"tls": True, "port": 8730, "tls_port": 8730}, "rsync_master_tls_port", "port for connections without TLS"),
        ({"tls": True, "public_name": "2001:db8::1"}, "rsync_master_public_name", "accepts certificates for names alone"),
        ({"tls": "yes"}, "rsync_master_tls", "neither true nor false"),
        ({"tls_key": "key.pem"}, "rsync_master_tls_key", "not an absolute path"),
        ({"tls_key": "/tmp/key.pem"}, "rsync_master_tls_key", "never see it"),
        ({"tls_certificate": "/var/tmp/c.pem"}, "rsync_master_tls_certificate", "never see it"),
    ],
)
def test_wrong_options_of_tls_are_refused(options: dict[str, Any], variable: str, words: str) -> None:
    (problem,) = rsyncd.check_globals(options, "rsync_master_")
    assert (problem.where, words in problem.message) == (variable, True)


def test_right_globals_pass() -> None:
    options = {
        "public_name": "master.example.org",
        "port": 873,
        "addresses": ["192.0.2.1", "::"],
        "max_connections": 1,
        "max_connections_per_source": 0,
        "config_path": "/etc/rsyncd.conf",
        "uid": "nobody",
        "gid": 65534,
        "timeout": 0,
        "exclude": [],
        "refuse_options": [],
        "dont_compress": ["*.gz"],
        "transfer_logging": False,
        "syslog_facility": "local7",
        "motd": "Welcome.\nTwo lines.\n",
        "log_file": "/var/log/mirrornet-rsyncd/rsyncd.log",
        "log_days": 7,
        "fail2ban": True,
        "metrics_directory": "",
        "log_format": "%o %h [%a] %m (%u) %f %''l %-20n",
        "auth_digest": "",
        "firewall": "nftables",
        "firewall_sources": ["192.0.2.0/24", "2001:db8::1"],
        "extra": {"motd file": "/etc/motd", "Syslog_Tag": "rsync"},
        "public_scheme": "rsyncs",
        "tls": True,
        "tls_port": 874,
        "tls_certificate": "/etc/rsyncd/certificate.pem",
        "tls_key": "/etc/rsyncd/key.pem",
    }
    assert rsyncd.check_globals(options) == []
    assert set(options) == {option.name for option in rsyncd_options.GLOBAL_OPTIONS}


def test_readers_may_share_a_tree_and_two_modules_a_lock() -> None:
    shared = {"lock_file": "both.lock", "max_connections": 5}
    modules = [
        module(**shared),
        {"name": "pool", "path": "/srv/archive/pool", **shared},
        {"name": "archive-upload", "path": "/srv/archive2", **WRITABLE},
        {"name": "archive2", "path": "/srv/archive2"},
    ]
    assert rsyncd.check_modules(modules) == []


def test_everything_is_reported_at_once() -> None:
    problems = rsyncd.check_modules([module(timeout="x", list="x"), "archive", module(zzz=1)])
    assert [(p.where, p.option) for p in problems] == [
        ("module 'archive' (item 1)", "timeout"),
        ("module 'archive' (item 1)", "list"),
        ("module without a name (item 2)", ""),
        ("module 'archive' (item 3)", ""),
        ("module 'archive' (item 3)", "name"),
    ]


def test_problems_come_in_the_order_of_the_list() -> None:
    def at(where: str) -> rsyncd.Problem:
        return rsyncd.Problem(where, "", "wrong", "Mend it")

    given = [at("module 'b' (item 10)"), at("rsync_master_port"), at("module '(item 99)' (item 2)"), at("rsyncd.conf")]
    ordered = [problem.where for problem in rsyncd.in_order(given)]
    assert ordered == ["rsync_master_port", "rsyncd.conf", "module '(item 99)' (item 2)", "module 'b' (item 10)"]


def test_a_message_reads_as_sentences() -> None:
    assert str(rsyncd.Problem("module 'a' (item 1)", "path", "it is empty", "Give a value")) == (
        "module 'a' (item 1): path: it is empty. Give a value."
    )
    assert str(rsyncd.Problem("x", "", "unknown", "Did you mean 'y'?")) == "x: unknown. Did you mean 'y'?"


def test_a_variable_that_nobody_reads_is_refused() -> None:
    known = ["rsync_master_modules", "rsync_master_port"]
    (problem,) = rsyncd.check_variables(["rsync_master_port", "rsync_master_modlues"], known)
    assert str(problem) == "rsync_master_modlues: there is no such variable. Did you mean 'rsync_master_modules'?"


def test_no_message_about_a_password_shows_it() -> None:
    bad = ["short", "long " + "x" * 500, "tail\n", 123456, ["list"], {"a": "dictionary"}]
    for password in bad:
        for entry in ({"name": "alice", "password": password}, {"name": "alice", "pasword": password}, password):
            said = " ".join(map(str, rsyncd.check_module(1, module(secrets=[entry]))))
            assert said
            assert str(password) not in said
            assert "xxx" not in said


VERSIONS = [
    # options of a module, options for all, what 3.2.3 is too old for
    ({}, {}, []),
    ({"early_exec": "/bin/true", "open_noatime": True}, {"auth_digest": ""}, []),
    ({"auth_digest": "sha256"}, {}, ["module 'archive' (item 1): auth_digest: rsync 3.2.3 on this host doesn't know 'auth digest'"]),
    ({"extra": {"Insecure_Links": True}}, {}, ["module 'archive' (item 1): extra: rsync 3.2.3 on this host doesn't know 'insecure links'"]),
    ({}, {"auth_digest": "sha512"}, ["rsync_master_auth_digest: rsync 3.2.3 on this host doesn't know 'auth digest'"]),
    ({}, {"extra": {"insecure links": False}}, ["rsync_master_extra: rsync 3.2.3 on this host doesn't know 'insecure links'"]),
]


@pytest.mark.parametrize(("options", "for_all", "said"), VERSIONS)
def test_what_the_host_s_rsync_is_too_old_for_is_refused(options: dict[str, Any], for_all: dict[str, Any], said: list[str]) -> None:
    found = rsyncd.check_versions([module(**options)], for_all, "3.2.3", "rsync_master_")
    assert len(found) == len(said)
    for problem, words in zip(found, said):
        assert str(problem).startswith(words)
        assert "install rsync 3.5.0 or later" in str(problem)
    assert rsyncd.check_versions([module(**options)], for_all, "3.5.0", "rsync_master_") == []
    assert rsyncd.check_versions([module(**options)], for_all, "", "rsync_master_") == []


def test_an_rsync_too_old_for_tls_is_refused() -> None:
    (problem,) = rsyncd.check_versions([module()], {"tls": True}, "3.1.3", "rsync_master_")
    assert str(problem).startswith("rsync_master_tls: rsync 3.1.3 on this host can't be told a client's address")
    for options, version in (({"tls": True}, "3.2.0"), ({"tls": False}, "3.1.3"), ({"tls": True}, "")):
        assert rsyncd.check_versions([module()], options, version, "rsync_master_") == []


def test_every_option_is_a_parameter_or_the_role_s_own() -> None:
    own = {option.name for option in rsyncd_options.MODULE_OPTIONS if option.parameter is None}
    assert own == {"hosts_allow_groups", "secrets", "extra", "sentinel", "sentinel_create", "rebuild_flag", "publish"}
    assert {p.kind for p in rsyncd_parameters.PARAMETERS} <= set(rsyncd_values.KINDS)
    assert len(rsyncd_parameters.BY_KEY) == len(rsyncd_parameters.PARAMETERS)


def test_logins_with_an_old_rsync_are_a_warning() -> None:
    logins = [module(auth_users=["alice"], secrets_file="/etc/s")]
    (warning,) = rsyncd.advise(logins, "3.2.3")
    assert warning.startswith("module 'archive' (item 1): rsync 3.2.3 proves passwords by MD5")
    for version in ("3.2.7", "3.5.0", ""):
        assert rsyncd.advise(logins, version) == []
    assert rsyncd.advise([module()], "3.2.3") == []


def test_what_deserves_a_second_look_is_a_warning() -> None:
    doubtful = [module(uid="root"), module(uid=0), module(use_chroot=False), module(extra={"insecure links": True}), module()]
    warnings = rsyncd.advise(doubtful)
    assert [warning.split(":")[0] for warning in warnings] == [f"module 'archive' (item {n})" for n in (1, 2, 3, 4)]


@given(some.lists(some.one_of(some.none(), some.text(), some.dictionaries(some.text(), some.text()))), some.text())
def test_nonsense_is_refused_and_never_a_crash(items: list[object], key: str) -> None:
    assert rsyncd.check_modules([*items, {**GOOD, "x" + key: 1}])


#: What a rule may take the beginning of a text for, and stop looking.
BEGINNINGS = ["", "fe80::1%", "2001:db8::%", "192.0.2.7", "/srv/a", "a", "- a", "D0755", "%f"]


@given(some.sampled_from(BEGINNINGS), some.text(max_size=20), some.sampled_from(["", "\n", "\r", "\u2028", "\x85"]), some.text(max_size=20))
def test_no_text_that_passes_can_start_another_line(beginning: str, text: str, end: str, more: str) -> None:
    text = beginning + text + end + more
    for option in rsyncd_options.MODULE_OPTIONS:
        values: list[object] = [text, [text]]
        for value in values:
            if not [p for p in rsyncd.check_module(1, module(**{option.name: value})) if p.option == option.name]:
                assert len(text.splitlines()) == 1, option.name
                assert not text.endswith("\\"), option.name
    for option in rsyncd_options.GLOBAL_OPTIONS:
        # A message of the day has lines, and a file of its own.
        if option.name != "motd" and text and any(not rsyncd.check_globals({option.name: value}) for value in (text, [text])):
            assert len(text.splitlines()) == 1, option.name


VERDICTS = [
    ("@RSYNCD: 31.0\n", "2026/11/23 06:25:36 [4858] connect from UNKNOWN (0.0.0.0)\n", []),
    (
        "@RSYNCD: 31.0\n",
        '2026/11/23 06:25:36 [1] Unknown Parameter encountered: "hosts alow"\n'
        '2026/11/23 06:25:36 [1] IGNORING unknown parameter "hosts alow"\n'
        '2026/11/23 06:25:36 [1] Badly formed boolean in configuration file: "maybe".\n',
        ['Unknown Parameter encountered: "hosts alow"', 'Badly formed boolean in configuration file: "maybe".'],
    ),
    (
        "",
        "2026/11/23 06:25:36 [2] params.c:Section() - Badly formed line in config file: pub\n"
        "2026/11/23 06:25:36 [2] params.c:pm_process() - Failed.  Error returned from params.c:parse().\n"
        "2026/11/23 06:25:36 [2] rsync error: syntax or usage error (code 1) at clientserver.c(1435) [Receiver=3.5.0]\n",
        ["params.c:Section() - Badly formed line in config file: pub"],
    ),
    ("", "cannot open it\n", ["it did not accept the file, and gave no reason: 'cannot open it'"]),
]


@pytest.mark.parametrize(("greeting", "log", "said"), VERDICTS)
def test_rsync_s_verdict_is_read_from_what_it_prints(greeting: str, log: str, said: list[str]) -> None:
    assert rsyncd.read_verdict(greeting, log) == said
