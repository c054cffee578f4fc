#!/usr/bin/python
# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rsyncd_check
short_description: Check the configuration of an rsync master before it is put in place
version_added: 0.1.0
description:
  - Looks for everything in a wanted configuration that rsync would ignore or misread, or that this host can't serve,
    and reports all of it at once, each problem with the module or variable at fault and the remedy.
  - rsync itself takes an unknown parameter or a badly written truth value for a line in its log and goes on serving.
    A typo in C(hosts allow) opens the module to everybody that way.
  - Changes nothing, and works where rsync isn't installed yet; then only rsync's own opinion is missing.
  - Warns of a frontend with which one client can hold all connections.
  - Warns of known vulnerabilities of the host's rsync, as far as the changelog of its package doesn't name them as fixed.
options:
  modules:
    description:
      - The modules to serve. Each is a dictionary; its options are those of the variable C(rsync_master_modules)
        of the role P(mirrornet.rsync.rsync_master#role).
      - Passwords don't belong here, since this is logged. The filter P(mirrornet.rsync.master_modules#filter) parts modules from them.
    type: list
    elements: raw
    default: []
  options:
    description:
      - Options for all modules and for what accepts the connections, named as the role's variables without C(rsync_master_).
    type: dict
    default: {}
  max_connections_per_source:
    description:
      - One more of the O(options), for callers that compute it and so may have it as text.
    type: int
  limit:
    description:
      - The rules by which nftables is to limit the connections of one client. The host's nftables is asked whether it could load them when it's
        installed. An empty text means that it has nothing to limit.
    type: str
    default: ''
  candidate:
    description:
      - The text of the rendered C(rsyncd.conf). The host's rsync is asked for its opinion on it when it's installed.
    type: str
  variables:
    description:
      - Names of variables that the caller was given. One that isn't in O(known_variables) is refused.
    type: list
    elements: str
    default: []
  known_variables:
    description:
      - Names of the variables that exist.
    type: list
    elements: str
    default: []
  units:
    description:
      - Units of systemd that may hold the port now, because the caller owns them or takes them down.
    type: list
    elements: str
    default: []
  problems:
    description:
      - What the caller has found wrong already, to be reported together with what is found here, in the form of RV(problems).
    type: list
    elements: dict
    default: []
  secrets_directory:
    description:
      - The directory of the files of passwords that M(mirrornet.rsync.rsyncd_secrets) keeps. Passwords themselves don't belong here.
    type: path
  uploads:
    description:
      - The modules in which mirrors hand in reports, as the filter P(mirrornet.rsync.master_modules#filter) makes them.
    type: list
    elements: dict
    default: []
  uploads_path:
    description:
      - The directory of all reports. It may still have to be made.
    type: path
  uploads_account:
    description:
      - The account, and group, that reports go to. It may still have to be made.
    type: str
  ssh:
    description:
      - The clients over SSH, as C(clients) the list that the filter P(mirrornet.rsync.ssh_clients#filter) returns, as C(user) their account.
    type: dict
    default: {}
  frontend:
    description:
      - What is to accept the connections. V(auto) keeps one of O(frontends) that is set up here, else takes what fits to what the host runs.
      - Without it nothing is said about frontends.
    type: str
    choices: [auto, systemd_socket, inetd, xinetd, daemon]
  frontends:
    description:
      - For each frontend by name the C(unit) that listens, the C(files) that it consists of, and those that it reads at its C(start).
    type: dict
    default: {}
  superservers:
    description:
      - The packages of superservers that the platform has, the preferred first. Each has a C(package), the C(frontend) that it serves as,
        its C(program), and C(last_release) when newer releases of the platform don't have it any more.
    type: list
    elements: dict
    default: []
  superserver:
    description:
      - The one of O(superservers) to take, by package. By default one that is installed.
    type: str
    default: ''
  release:
    description:
      - The platform's release.
    type: int
    default: 0
  programs:
    description:
      - Paths of programs, or of what else shows that a package is installed, that the caller may have to install.
    type: list
    elements: path
    default: []
  unwanted:
    description:
      - Paths that the caller is going to remove, wherever there is something.
    type: list
    elements: path
    default: []
  prefix:
    description:
      - What stands before the name of an option in O(options) to make the name of the variable that messages speak of.
    type: str
    default: rsync_master_
extends_documentation_fragment:
  - mirrornet.rsync.attributes
attributes:
  diff_mode:
    support: none
author:
  - The mirrornet.rsync authors (@mirrornet)
"""

EXAMPLES = r"""
- name: Check a configuration and what this host says to it
  mirrornet.rsync.rsyncd_check:
    modules:
      - name: archive
        path: /srv/archive
        hosts_allow: [192.0.2.0/24]
    options:
      port: 873
      uid: nobody
    candidate: "{{ lookup('ansible.builtin.template', 'rsyncd.conf.j2') }}"
    units: [rsync.service]
"""

RETURN = r"""
problems:
  description: Everything that is wrong. Empty on success.
  returned: always
  type: list
  elements: dict
  contains:
    where:
      description: The module or variable at fault.
      type: str
    option:
      description: The option of the module at fault, empty when it's the whole module.
      type: str
    message:
      description: What is wrong.
      type: str
    remedy:
      description: What to do.
      type: str
  sample:
    - where: module 'archive' (item 1)
      option: path
      message: "'/srv/archive' does not exist"
      remedy: Create or mount the tree first, or correct the path
rsync:
  description: The path of the host's rsync, empty when there is none.
  returned: always
  type: str
  sample: /usr/bin/rsync
rsync_version:
  description: Its version, empty when there is none.
  returned: always
  type: str
  sample: 3.2.3
unfixed:
  description: Known vulnerabilities of its version that concern a master and that its package's changelog doesn't name as fixed, the worst first.
  returned: always
  type: list
  elements: str
  sample: [CVE-2026-70464]
nft:
  description: The path of the host's nftables, empty when there is none.
  returned: always
  type: str
  sample: /usr/sbin/nft
firewalls:
  description: The firewalls in which M(mirrornet.rsync.rsyncd_firewall) has opened something.
  returned: always
  type: list
  elements: str
  sample: [nftables]
asked_rsync:
  description: Whether rsync was asked for its opinion on O(candidate).
  returned: always
  type: bool
secrets:
  description: The names of the files in O(secrets_directory).
  returned: always
  type: list
  elements: str
  sample: [archive]
ssh:
  description: What there is for clients over SSH.
  returned: always
  type: dict
  contains:
    configured:
      description: Whether an earlier play let clients in.
      type: bool
    sshd:
      description: The path of the host's sshd, empty when there is none.
      type: str
systemd:
  description: Whether systemd runs as process 1.
  returned: always
  type: bool
ipv6:
  description: Whether this host's kernel knows IPv6.
  returned: always
  type: bool
units:
  description: Those of O(units) that exist, each with what systemd calls its ActiveState.
  returned: always
  type: dict
  sample:
    rsync.service: inactive
frontend:
  description: The frontend to take; O(frontend), or what V(auto) means here.
  returned: when O(frontend) is given
  type: str
  sample: systemd_socket
present:
  description: Those of O(frontends) of which this host has a unit or a file.
  returned: always
  type: list
  elements: str
  sample: [systemd_socket]
outdated:
  description: Those of O(frontends) that run with an older state of their files than the one on disk.
  returned: always
  type: list
  elements: str
  sample: []
programs:
  description: Those of O(programs) that exist.
  returned: always
  type: list
  elements: str
  sample: [/usr/sbin/logrotate]
unwanted:
  description: Those of O(unwanted) that exist.
  returned: always
  type: list
  elements: str
  sample: []
published:
  description: The modules of whose trees mirrors are told by a timer of the role's.
  returned: always
  type: list
  elements: str
  sample: [archive]
needs:
  description:
    - What the services need because of what they serve, beyond what all need.
    - V(home), to see home directories; V(search), to get at what permissions keep from an account that owns nothing.
  returned: always
  type: list
  elements: str
  sample: []
superserver:
  description: The superserver that the frontend needs, and whether it is installed. Empty when it needs none.
  returned: always
  type: dict
  sample:
    package: openbsd-inetd
    program: /usr/sbin/inetd
    installed: true
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mirrornet.rsync.plugins.module_utils.mirrornet import (
    confine,
    cves,
    firewall,
    frontend,
    rsyncd,
    rsyncd_host,
    rsyncd_secrets,
    ssh_clients,
    ssh_host,
    uploads,
)


def check_host(params, problems):
    """Look at the host as far as the values are sound enough for it, and add to the problems."""
    options, prefix = params["options"], params["prefix"]
    at_fault = {problem.where for problem in problems}
    problems += rsyncd_host.check_modules_on_host(params["modules"], problems, params["secrets_directory"] or "")
    if prefix + "uid" not in at_fault and prefix + "gid" not in at_fault:
        problems += rsyncd_host.check_accounts("", options, prefix)
    if params["secrets_directory"]:
        problems += rsyncd_secrets.check(params["secrets_directory"], "secrets")
    if "config_path" in options and prefix + "config_path" not in at_fault:
        problems += rsyncd_host.check_config_path(options["config_path"], prefix + "config_path")
    if not {prefix + "fail2ban", prefix + "log_file", prefix + "metrics_directory"} & at_fault:
        problems += rsyncd_host.check_log(options, params["modules"], rsyncd_host.find_rsync(), prefix)
    if prefix + "firewall" not in at_fault:
        problems += firewall.check(options.get("firewall", "none"), prefix)
    if "port" in options and not {prefix + "port", prefix + "addresses"} & at_fault:
        addresses = options.get("addresses", [])
        problems += rsyncd_host.check_addresses(addresses, prefix + "addresses")
        problems += rsyncd_host.check_port(options["port"], addresses, params["units"], prefix + "port")
    if options.get("tls") is True and not {prefix + name for name in ("tls_port", "tls_certificate", "tls_key", "addresses")} & at_fault:
        problems += rsyncd_host.check_port(options["tls_port"], options["addresses"], params["units"], prefix + "tls_port")
        problems += rsyncd_host.check_certificate(options["tls_certificate"], options["tls_key"], options["public_name"], prefix)


def check_ssh(given, prefix):
    """What is wrong on this host with letting clients in over SSH."""
    clients = [ssh_clients.from_data(data) for data in given.get("clients", [])]
    if not clients:
        return []
    where = prefix + "ssh_user"
    problems = ssh_host.check_account(given["user"], where)
    problems += ssh_host.check_trees(clients) + ssh_host.check_keys(clients) + ssh_host.check_sshd(given["user"])
    return problems


def check_frontend(params, problems):
    """Look at what is to accept the connections, add to the problems, and return what there is to know about it."""
    prefix, frontends = params["prefix"], params["frontends"]
    units = rsyncd_host.unit_states(params["units"])
    present = frontend.present({name: told["files"] for name, told in frontends.items()})
    chosen = params["frontend"]
    if chosen == "auto":
        table = frontend.superservers(params["superservers"])
        known = {server.frontend for server in table if server.installed(Path("/"))} | {"systemd_socket", "daemon"}
        chosen = frontend.choose(present, units, sorted(known))
    server = None
    if chosen:
        at_fault = {problem.where for problem in problems}
        sound = {name: value for name, value in params["options"].items() if prefix + name not in at_fault}
        problems += frontend.check_options(chosen, sound, prefix)
        if prefix + "max_connections_per_source" not in at_fault and prefix + "port" not in at_fault:
            problems += firewall.check_limit(params["limit"], prefix)
        table = frontend.superservers(params["superservers"])
        server = frontend.choose_superserver(chosen, params["superserver"], table)
        problems += frontend.check_superserver(chosen, server, table, params["release"], prefix + "frontend")
    found = {
        "units": {name: unit.state for name, unit in units.items()},
        "present": present,
        "outdated": [
            name for name, told in frontends.items() if told["unit"] in units and frontend.is_outdated(units[told["unit"]], told["start"])
        ],
        "superserver": {"package": server.package, "program": server.program, "installed": server.installed(Path("/"))} if server else {},
    }
    return {**found, "frontend": chosen} if chosen else found


def main():
    module = AnsibleModule(
        argument_spec={
            "modules": {"type": "list", "elements": "raw", "default": []},
            "options": {"type": "dict", "default": {}},
            "max_connections_per_source": {"type": "int"},
            "limit": {"type": "str", "default": ""},
            "candidate": {"type": "str"},
            "variables": {"type": "list", "elements": "str", "default": []},
            "known_variables": {"type": "list", "elements": "str", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
            "problems": {"type": "list", "elements": "dict", "default": []},
            # Where they are is no secret.
            "secrets_directory": {"type": "path", "no_log": False},
            "uploads": {"type": "list", "elements": "dict", "default": []},
            "uploads_path": {"type": "path"},
            "uploads_account": {"type": "str"},
            "ssh": {"type": "dict", "default": {}},
            "frontend": {"type": "str", "choices": ["auto", "systemd_socket", "inetd", "xinetd", "daemon"]},
            "frontends": {"type": "dict", "default": {}},
            "superservers": {"type": "list", "elements": "dict", "default": []},
            "superserver": {"type": "str", "default": ""},
            "release": {"type": "int", "default": 0},
            "programs": {"type": "list", "elements": "path", "default": []},
            "unwanted": {"type": "list", "elements": "path", "default": []},
            "prefix": {"type": "str", "default": "rsync_master_"},
        },
        supports_check_mode=True,
    )
    params = module.params
    secrets = params["secrets_directory"]
    if params["max_connections_per_source"] is not None:
        params["options"]["max_connections_per_source"] = params["max_connections_per_source"]
    problems = rsyncd.check_variables(params["variables"], params["known_variables"])
    problems += rsyncd.check_globals(params["options"], params["prefix"])
    problems += rsyncd.check_modules(params["modules"])
    problems += uploads.between(params["modules"], params["uploads"])
    problems += rsyncd.check_publishing(params["modules"], params["options"].get("exclude"))
    problems += [rsyncd.Problem(**problem) for problem in params["problems"]]
    rsync = rsyncd_host.find_rsync()
    version = rsyncd_host.rsync_version(rsync) if rsync else ""
    problems += rsyncd.check_versions(params["modules"], params["options"], version, params["prefix"])
    problems += uploads.check_version(params["uploads"], version)
    check_host(params, problems)
    problems += check_ssh(params["ssh"], params["prefix"])
    if params["uploads"]:
        problems += uploads.check_host(params["uploads_path"], params["uploads_account"], params["modules"])
    found = check_frontend(params, problems)

    # What rsync says to a configuration with known faults would only repeat them in other words.
    asked = bool(rsync and params["candidate"] is not None and not problems)
    if asked:
        remedy = "Please report it with the variables of the role: the checks before this one should have found it"
        for said in rsyncd_host.ask_rsync(rsync, params["candidate"]):
            problems.append(rsyncd.Problem("rsyncd.conf", "", "rsync says: " + said, remedy))

    problems = rsyncd.in_order(problems)
    # One of the modules for reports says what all of them would.
    for warning in rsyncd.advise([*params["modules"], *params["uploads"][:1]], version):
        module.warn(warning)
    for warning in frontend.advise(found.get("frontend", ""), params["options"], params["prefix"]):
        module.warn(warning)
    changelog = cves.changelog(rsync or "")
    unfixed = cves.unfixed(version, changelog)
    if unfixed:
        module.warn(cves.warning(version, unfixed, bool(changelog)))
    result = {
        "changed": False,
        "problems": [{"where": p.where, "option": p.option, "message": p.message, "remedy": p.remedy} for p in problems],
        "rsync": rsync or "",
        "rsync_version": version,
        "unfixed": [cve.name for cve in unfixed],
        "nft": firewall.find("nftables") or "",
        "firewalls": firewall.opened(),
        "asked_rsync": asked,
        "secrets": rsyncd_secrets.present(secrets) if secrets else [],
        "ssh": {"configured": ssh_host.is_configured(ssh_host.Places()), "sshd": ssh_host.find("sshd") or ""},
        "systemd": rsyncd_host.has_systemd(),
        "ipv6": rsyncd_host.has_ipv6(),
        "programs": [path for path in params["programs"] if Path(path).exists()],
        "unwanted": [path for path in params["unwanted"] if os.path.lexists(path)],
        "published": rsyncd_host.published(),
        "needs": confine.needs(
            [*params["modules"], *({"path": params["uploads_path"]} for dummy in params["uploads"][:1])], params["options"]
        ),
        **found,
    }
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n".join(f"- {problem}" for problem in problems)
        module.fail_json(msg=f"The configuration of the rsync master has {count}; nothing was changed.\n{lines}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
