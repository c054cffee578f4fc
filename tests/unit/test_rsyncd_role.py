# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role rsync_master and the engine speak of the same options, and what the role renders is what rsync and systemd read."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.plugins.filter.core import FilterModule
from collection import ROOT, plugin
from mirrornet import rsyncd, rsyncd_host, rsyncd_options, rsyncd_parameters, rsyncd_values

master_modules = plugin("filter.master_modules").master_modules

RSYNC = shutil.which("rsync") or "rsync"
ROLE = ROOT / "roles" / "rsync_master"
PREFIX = "rsync_master_"


def load(path: str) -> Any:
    return yaml.safe_load((ROLE / path).read_text(encoding="utf-8"))


SPECIFICATION = load("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
DEFAULTS = load("defaults/main.yml")
INTERNAL = load("vars/main.yml")
PLATFORMS = INTERNAL["__rsync_master_platforms"]


def render(template: str, platform: str = "Debian", **variables: Any) -> str:
    """A template of the role as Ansible would render it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # neither file is HTML
    )
    # Those of Ansible's own filters that work outside of a play.
    ours = FilterModule().filters()
    environment.filters.update({name: ours[name] for name in ("comment", "combine", "flatten", "quote")})
    environment.filters["ansible.builtin.regex_replace"] = ours["regex_replace"]
    internal = {name: value for name, value in INTERNAL.items() if "{{" not in str(value)}
    served = master_modules(variables.get("rsync_master_modules", []))
    return environment.get_template(template).render(
        {
            **{name: value for name, value in DEFAULTS.items() if "{{" not in str(value)},
            **internal,
            "__rsync_master_platform": PLATFORMS[platform],
            "__rsync_master_frontend": "systemd_socket",
            "__rsync_master_max_connections_per_source": 20,
            "__rsync_master_limiting": False,
            "__rsync_master_gid": PLATFORMS[platform]["gid"],
            "__rsync_master_served": served,
            "ansible_managed": "Ansible managed",
            **variables,
            "__rsync_master_check": {"needs": [], "ipv6": True, **variables.get("__rsync_master_check", {})},
        }
    )


# One truth.


#: Options that become part of a parameter of another name.
COMPOSED = {"sentinel", "sentinel_create", "rebuild_flag", "hosts_allow_groups", "secrets", "extra", "publish"}


def test_modules_have_the_options_that_are_documented() -> None:
    documented = SPECIFICATION["rsync_master_modules"]["options"]
    assert set(documented) == {option.name for option in rsyncd_options.MODULE_OPTIONS}
    assert set(INTERNAL["__rsync_master_module_options"]) == set(documented) - {"name"} - COMPOSED | {"pre_xfer_exec"}


#: What is checked elsewhere.
OTHERS = ("modules", "frontend", "inetd_package", "secrets", "sign_key", "ssh_clients", "ssh_user", "uploads")


def test_all_other_variables_are_checked_too() -> None:
    checked = {PREFIX + option.name for option in rsyncd_options.GLOBAL_OPTIONS}
    assert checked == set(SPECIFICATION) - {PREFIX + name for name in OTHERS}
    # What depends on the frontend is computed, and handed over beside the others.
    assert {PREFIX + name for name in INTERNAL["__rsync_master_options"]} == checked - {"rsync_master_max_connections_per_source"}


KINDS_OF_TYPES = {
    "bool": {"flag"},
    "int": {"count"},
    "path": {"tree", "file", "log_file", "own_log", "own_directory"},
    "str": {
        "text",
        "account",
        "module_name",
        "host_name",
        "choice",
        "inside",
        "lock_file",
        "flag_file",
        "chmod",
        "charset",
        "command",
        "log_format",
        "motd",
    },
    "list": {"words", "refusals", "patterns", "addresses", "own_addresses", "sources", "users", "secrets", "rules"},
    "dict": {"extra", "extra_for_all", "publish"},
}


def test_documented_types_are_those_that_are_checked() -> None:
    documented = {PREFIX + option.name: SPECIFICATION[PREFIX + option.name] for option in rsyncd_options.GLOBAL_OPTIONS}
    kinds = {PREFIX + option.name: option.kind for option in rsyncd_options.GLOBAL_OPTIONS}
    kinds.update({option.name: option.kind for option in rsyncd_options.MODULE_OPTIONS})
    for name, option in {**documented, **SPECIFICATION["rsync_master_modules"]["options"]}.items():
        assert kinds[name] in KINDS_OF_TYPES[option["type"]], name


def test_defaults_are_those_that_are_documented() -> None:
    for name, option in SPECIFICATION.items():
        if "default" in option:
            assert DEFAULTS[name] == option["default"], name
    computed = {name for name, option in SPECIFICATION.items() if "default" not in option}
    assert computed == {"rsync_master_public_name", "rsync_master_gid", "rsync_master_max_connections_per_source"}
    assert set(DEFAULTS) <= set(SPECIFICATION)


def test_defaults_pass_the_check() -> None:
    given = {name[len(PREFIX) :]: value for name, value in DEFAULTS.items() if "{{" not in str(value)}
    for other in OTHERS:
        del given[other]
    assert rsyncd.check_globals(given) == []


def test_each_frontend_has_its_files() -> None:
    choices = set(SPECIFICATION["rsync_master_frontend"]["choices"]) - {"auto"}
    assert set(INTERNAL["__rsync_master_frontends"]) == choices


def test_the_distribution_s_units_stand_back_for_each_of_ours() -> None:
    units = {frontend["unit"] for frontend in INTERNAL["__rsync_master_frontends"].values()}
    for kind in ("service", "socket"):
        text = (ROLE / f"files/distribution_{kind}/mirrornet.conf").read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line.startswith("ConditionPathExists=")]
        assert set(lines) == {f"ConditionPathExists=!/etc/systemd/system/{unit}" for unit in units}


# What is rendered.

MODULES: list[Any] = [
    {"name": "archive", "path": "/srv/archive", "comment": "The archive (100 %)", "exclude": ["*.secret"], "list": False},
    {"name": "few", "path": "/srv/few", "max_connections": 3, "hosts_allow": ["192.0.2.0/24", "2001:db8::1"], "uid": 65534},
    {"name": "in", "path": '/srv/in "box" 100%', "read_only": False, "write_only": True, "hosts_allow": ["*"], "timeout": 60},
]


def parameters(text: str) -> dict[str, dict[str, str]]:
    """An rsyncd.conf as rsync reads it: parameters by section; those before the first section under an empty name."""
    sections: dict[str, dict[str, str]] = {"": {}}
    current = sections[""]
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            current = sections[line[1:-1]] = {}
        elif line and not line.startswith("#"):
            name, dummy, value = line.partition("=")
            assert name.strip() not in current, line
            current[name.strip()] = value.strip()
    return sections


def test_modules_say_what_was_asked_for() -> None:
    sections = parameters(render("rsyncd.conf.j2", rsync_master_modules=MODULES))
    assert list(sections) == ["", "archive", "few", "in"]
    assert sections["archive"] == {
        "path": "/srv/archive",
        "comment": "The archive (100 %)",
        "list": "no",
        "exclude": ".~tmp~/ .mirrornet/incoming/ *.secret",
    }
    assert sections["few"] == {
        "path": "/srv/few",
        "uid": "65534",
        "hosts allow": "192.0.2.0/24 2001:db8::1",
        "max connections": "3",
        "lock file": "/run/mirrornet-rsyncd/few.lock",
        "exclude": ".~tmp~/ .mirrornet/incoming/",
    }
    assert sections["in"] == {
        "path": '/srv/in "box" 100%',
        "read only": "no",
        "write only": "yes",
        "hosts allow": "*",
        "timeout": "60",
        "exclude": ".~tmp~/ .mirrornet/incoming/",
    }


@pytest.mark.parametrize(("platform", "group"), [("Debian", "nogroup"), ("RedHat", "nobody")])
def test_doors_are_closed_by_default(platform: str, group: str) -> None:
    said = parameters(render("rsyncd.conf.j2", platform))[""]
    assert said == {
        "use chroot": "yes",
        "read only": "yes",
        "uid": "nobody",
        "gid": group,
        "reverse lookup": "no",
        "forward lookup": "no",
        "socket options": "TCP_NODELAY",
        "timeout": "600",
        "dont compress": "*",
        "syslog facility": "daemon",
        "transfer logging": "yes",
        "log format": "%o %h [%a] %m (%u) %f %l",
    }


def test_lists_can_be_empty() -> None:
    text = render(
        "rsyncd.conf.j2",
        rsync_master_modules=MODULES[1:2],
        rsync_master_exclude=[],
        rsync_master_refuse_options=[],
        rsync_master_dont_compress=[],
    )
    sections = parameters(text)
    assert not {"refuse options", "dont compress"} & set(sections[""])
    assert "exclude" not in sections["few"]


def test_the_sentinel_is_looked_for_before_all_else() -> None:
    tree = {"name": "a", "path": "/srv/it's a"}
    both = {
        **tree,
        "sentinel": ".mirrornet/here",
        "rebuild_flag": "/run/flag",
        "sentinel_create": True,
        "pre_xfer_exec": "one; two # three",
    }
    check = "/usr/local/lib/mirrornet/rsyncd-sentinel '/srv/it'\"'\"'s a'"

    def rendered(module: dict[str, Any]) -> str | None:
        return parameters(render("rsyncd.conf.j2", rsync_master_modules=[module]))["a"].get("pre-xfer exec")

    assert rendered(tree) is None
    assert rendered({**tree, "sentinel": "here"}) == f"{check} here ''"
    assert rendered({**tree, "rebuild_flag": "flag"}) == f"{check} '' flag"
    assert rendered(both) == f"{check} .mirrornet/here /run/flag || exit; one; two # three"


@pytest.mark.parametrize("given", ["both.lock", "/run/mirrornet-rsyncd/both.lock"])
def test_connections_are_counted_where_they_may_write(given: str) -> None:
    modules = [{"name": "a", "path": "/srv/a", "max_connections": 1, "lock_file": given}]
    assert rsyncd.check_modules(modules) == []
    assert parameters(render("rsyncd.conf.j2", rsync_master_modules=modules))["a"]["lock file"] == "/run/mirrornet-rsyncd/both.lock"
    runtime = f"/run/{INTERNAL['__rsync_master_runtime_directory']}"
    assert runtime == rsyncd_values.LOCKS
    assert f"RuntimeDirectory={Path(runtime).name}\n" in render("mirrornet-rsyncd@.service.j2")


#: A value for each kind of option.
SAMPLES: dict[str, Any] = {
    "account": "nobody",
    "addresses": ["192.0.2.1", "2001:db8::/32"],
    "charset": "UTF-8",
    "chmod": "Dug=rwx,F0644,o-w",
    "choice": "sha512",
    "command": "/bin/true --tree=archive",
    "count": 1,
    "file": "/run/a",
    "flag": True,
    "lock_file": "a.lock",
    "log_file": "/var/log/a",
    "log_format": "%o %h [%a] %m (%u) %f %l",
    "module_name": "a",
    "path": "/run/a",
    "patterns": ["*.tmp"],
    "refusals": ["delete"],
    "rules": ["- /secret/***", "+ *.iso"],
    "text": "words",
    "tree": "/srv/a",
    "users": ["root:deny", "@ops:rw", "mirror*"],
    "words": ["*.gz"],
}


def test_every_option_renders_to_a_parameter_that_rsync_knows() -> None:
    module = {option.name: SAMPLES[option.kind] for option in rsyncd_options.MODULE_OPTIONS if option.name not in COMPOSED}
    module["syslog_facility"] = "local5"
    text = render("rsyncd.conf.j2", rsync_master_modules=[module])
    said = parameters(text)["a"]
    assert set(said) == {
        option.parameter.name for option in rsyncd_options.MODULE_OPTIONS if option.parameter and option.name not in COMPOSED
    } - {"name"}
    assert said["auth users"] == "root:deny @ops:rw mirror*"
    assert said["filter"] == "- /secret/*** + *.iso"
    version = rsyncd_host.rsync_version(RSYNC)
    newer = {problem.option for problem in rsyncd.check_versions([module], {}, version)}
    told = rsyncd_host.ask_rsync(RSYNC, text)
    assert len(told) == len(newer)
    assert all("Unknown Parameter" in line for line in told)


def test_every_other_parameter_is_known_to_rsync_as_well() -> None:
    typed = {option.parameter.name for option in rsyncd_options.MODULE_OPTIONS if option.parameter}
    others = [parameter for parameter in rsyncd_parameters.PARAMETERS if parameter.name not in typed and not parameter.refused]
    extra = {parameter.name: SAMPLES[parameter.kind] for parameter in others if not parameter.for_all}
    for_all = {parameter.name.upper().replace(" ", "_"): SAMPLES[parameter.kind] for parameter in others if parameter.for_all}
    # Those would send the daemon elsewhere.
    for_all = {name: value for name, value in for_all.items() if not name.startswith("DAEMON")}
    module = {"name": "a", "path": "/srv/a", "extra": extra}
    assert rsyncd.check_modules([module]) == []
    assert rsyncd.check_globals({"extra": for_all}) == []
    text = render("rsyncd.conf.j2", rsync_master_modules=[module], rsync_master_extra=for_all)
    newer = rsyncd.check_versions([module], {"extra": for_all}, rsyncd_host.rsync_version(RSYNC))
    assert len(rsyncd_host.ask_rsync(RSYNC, text)) == len(newer)
    assert parameters(text)["a"].items() >= {"temp dir": "/run/a", "reverse lookup": "yes"}.items()
    assert parameters(text)[""]["motd file"] == "/run/a"


@pytest.mark.parametrize(
    "wrong", [["text"], [None], [{"path": "/srv/a"}], [{"name": "a", "exclude": 7, "read_only": {}, "hosts_allow": None}], "text"]
)
def test_wrong_modules_do_not_keep_the_check_from_its_better_message(wrong: Any) -> None:
    assert render("rsyncd.conf.j2", rsync_master_modules=wrong)


def unit(text: str) -> dict[str, list[str]]:
    """The settings of a unit file, each with its values."""
    settings: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


def test_the_socket_listens_everywhere_by_default() -> None:
    said = unit(render("mirrornet-rsyncd.socket.j2"))
    assert said["ListenStream"] == ["873"]
    assert said["BindIPv6Only"] == ["both"]
    assert (said["MaxConnections"], said["MaxConnectionsPerSource"]) == (["200"], ["20"])


def test_the_socket_listens_on_given_addresses() -> None:
    said = unit(render("mirrornet-rsyncd.socket.j2", rsync_master_addresses=["192.0.2.1", "2001:db8::1"], rsync_master_port=8730))
    assert said["ListenStream"] == ["192.0.2.1:8730", "[2001:db8::1]:8730"]
    assert said["BindIPv6Only"] == ["ipv6-only"]


def test_a_connection_may_write_to_writable_trees_alone() -> None:
    said = unit(render("mirrornet-rsyncd@.service.j2", rsync_master_modules=MODULES))
    assert said["ReadWritePaths"] == [r'-"/srv/in \"box\" 100%%"']
    assert said["ProtectSystem"] == ["strict"]
    assert "RestrictSUIDSGID" not in said
    assert "ReadWritePaths" not in unit(render("mirrornet-rsyncd@.service.j2", rsync_master_modules=MODULES[:2]))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("mirrornet-rsyncd@.service.j2", ['"--config=/etc/$${HOME}/a$$b.conf"']),
        ("mirrornet-rsyncd-daemon.service.j2", ['"--config=/etc/$${HOME}/a$$b.conf"']),
        (
            "mirrornet-traffic.service.j2",
            ['"--config=/etc/$${HOME}/a$$b.conf"', '"--log-file=/var/log/$$x/l"', '"--output=/var/lib/$$y/mirrornet_rsync.prom"'],
        ),
    ],
)
def test_systemd_puts_nothing_in_place_of_a_dollar_sign(template: str, words: list[str]) -> None:
    module = {"name": "a", "path": "/srv/$z", "read_only": False, "hosts_allow": ["*"]}
    said = unit(
        render(
            template,
            rsync_master_modules=[module],
            rsync_master_config_path="/etc/${HOME}/a$b.conf",
            rsync_master_log_file="/var/log/$x/l",
            rsync_master_metrics_directory="/var/lib/$y",
            __rsync_master_frontends=INTERNAL["__rsync_master_frontends"],
            __rsync_master_publishing=[],
        )
    )
    assert [word for word in words if word in said["ExecStart"][0]] == words
    # Where no command is called, it is a letter like others.
    assert said["ReadWritePaths"] == ['"/var/lib/$y"' if "traffic" in template else '-"/srv/$z"']


def test_a_connection_has_only_the_rights_that_what_it_serves_needs() -> None:
    # Beside the socket's connections this is what all services that serve trees include.
    for needs, capability, home in (([], False, "yes"), (["search"], True, "yes"), (["home"], False, "read-only")):
        said = unit(render("mirrornet-rsyncd@.service.j2", __rsync_master_check={"needs": needs}))
        assert ("CAP_DAC_READ_SEARCH" in said["CapabilityBoundingSet"][0], said["ProtectHome"]) == (capability, [home])


@pytest.mark.parametrize("platform", PLATFORMS)
def test_systemd_reads_the_units(tmp_path: Path, platform: str) -> None:
    for template in ("mirrornet-rsyncd.socket", "mirrornet-rsyncd@.service"):
        text = render(template + ".j2", platform, rsync_master_modules=MODULES, rsync_master_addresses=["::1"])
        # Manual pages are not installed everywhere, and systemd looks for them.
        (tmp_path / template).write_text("".join(line for line in text.splitlines(True) if not line.startswith("Documentation")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "mirrornet-rsyncd.socket")],
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert [line for line in done.stdout.splitlines() if "mirrornet" in line] == []
    assert done.returncode == 0


TLS_UNITS = [
    "mirrornet-rsyncd-proxied.socket", "mirrornet-rsyncd-proxied@.service", "mirrornet-rsyncd-tls.socket", "mirrornet-rsyncd-tls@.service",
]  # fmt: skip


@pytest.mark.parametrize("platform", PLATFORMS)
def test_systemd_reads_the_units_of_tls(tmp_path: Path, platform: str) -> None:
    for name in TLS_UNITS:
        text = render(name + ".j2", platform, rsync_master_modules=MODULES, __rsync_master_check={"ipv6": True})
        # stunnel needn't be installed here.
        text = text.replace(INTERNAL["__rsync_master_tls_program"], "/usr/bin/env")
        (tmp_path / name).write_text("".join(line for line in text.splitlines(True) if not line.startswith("Documentation")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in TLS_UNITS if name.endswith("socket"))],
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert [line for line in done.stdout.splitlines() if "mirrornet" in line] == []
    assert done.returncode == 0


def test_the_door_with_tls_knows_ipv4_from_ipv6() -> None:
    def listens(ipv6: bool, *addresses: str) -> list[str]:
        text = render("mirrornet-rsyncd-tls.socket.j2", rsync_master_addresses=list(addresses), __rsync_master_check={"ipv6": ipv6})
        said = unit(text)
        assert said["BindIPv6Only"] == ["ipv6-only"]
        return said["ListenStream"]

    everywhere = str(ip_address(0))
    assert listens(True) == [f"{everywhere}:874", "[::]:874"]
    assert listens(False) == [f"{everywhere}:874"]
    assert listens(True, "192.0.2.1", "2001:db8::1") == ["192.0.2.1:874", "[2001:db8::1]:874"]


def test_the_rsync_behind_tls_has_a_configuration_of_its_own() -> None:
    (command,) = unit(render("mirrornet-rsyncd-proxied@.service.j2", rsync_master_modules=MODULES))["ExecStart"]
    assert command.endswith(' --daemon "--config=/etc/mirrornet-rsyncd-proxied.conf"')
    said = render("mirrornet-rsyncd-proxied.conf.j2", rsync_master_config_path="/etc/elsewhere.conf").splitlines()
    assert said[-1] == "&merge /etc/elsewhere.conf"
    assert "proxy protocol = yes" in said


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_platform_says_all_that_the_role_asks(platform: str) -> None:
    assert set(PLATFORMS[platform]) == set(PLATFORMS["Debian"])
    assert all(name.endswith((".service", ".socket")) for name in PLATFORMS[platform]["foreign_units"])


# What it changes.


def tasks() -> Iterator[dict[str, Any]]:
    """All tasks of the role, those in blocks included."""

    def walk(listed: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for task in listed:
            yield task
            for part in ("block", "rescue", "always"):
                yield from walk(task.get(part, []))

    for path in sorted((ROLE / "tasks").glob("*.yml")):
        yield from walk(yaml.safe_load(path.read_text(encoding="utf-8")))


def changed_paths() -> set[str]:
    """Where the role puts or removes something: what its tasks say, and its variables, from which they have the rest."""
    given = {
        str(value)
        for task in tasks()
        for arguments in task.values()
        if isinstance(arguments, dict)
        for key, value in arguments.items()
        if key in ("dest", "path")
    }
    known = {name: value for name, value in INTERNAL.items() if isinstance(value, str)}
    resolved = {re.sub(r"{{ (\w+) }}", lambda match: known.get(match[1], match[0]), value) for value in given}
    own = re.findall(r"(?<![\w./])/(?:etc|var|usr/local)/[\w./@-]+", str(INTERNAL))
    # Names of modules, logins and the like are written in capitals there.
    return {re.sub(r"{{.*?}}", "NAME", path).rstrip("/") for path in {*resolved, *own} if not path.startswith("{{")}


def test_all_that_is_changed_is_in_the_readme() -> None:
    said = re.sub(r"\b(UNIT|MODULE)\b", "NAME", (ROLE / "README.md").read_text(encoding="utf-8").partition("## What it changes")[2])
    # Directories of which files are named, those of units without it; and what systemd makes of a unit that it starts at boot.
    units = INTERNAL["__rsync_master_unit_directory"]
    passed_over = {
        f"{units}/NAME.target.wants/NAME",
        units,
        "/etc/cron.d",
        INTERNAL["__rsync_master_program_directory"],
        "/var/lib/mirrornet",
        f"{units}/NAME.d",
    }
    missing = {path for path in changed_paths() - passed_over if path not in said and path.replace(f"{units}/", "`") not in said}
    assert missing == set()
    assert len(changed_paths()) > 30


def test_what_is_removed_unasked_can_be_nobody_else_s() -> None:
    lists = [value for name, value in INTERNAL.items() if name.endswith("_files") and isinstance(value, list)]
    paths = [resolved(entry["path"]) for entries in lists for entry in entries]
    paths += [resolved(INTERNAL[f"__rsync_master_{name}"]) for name in ("motd_path", "rotation_path", "uploads_program", "tls_trace")]
    assert len(paths) > 12
    assert [path for path in paths if "mirrornet" not in path] == []


def resolved(text: str) -> str:
    """A variable's value with those of other variables in it."""
    while "{{" in text:
        text = re.sub(
            r"{{ (\w+)(?: \| last)? }}",
            lambda match: INTERNAL[match[1]] if isinstance(INTERNAL[match[1]], str) else INTERNAL[match[1]][-1],
            text,
        )
    return text
