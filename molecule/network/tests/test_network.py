# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A master and two mirrors as site.yml leaves them: the mirrors keep in step by cron, and an installed collection does the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from plays import CHECKOUT, REACHED, SCENARIO, Play, ansible, play
from testinfra.host import Host

PUBLISHED = "/srv/releases"
MIRRORED = "/srv/mirror/releases"
MIRRORS = ("mirror1", "mirror2")
#: How much changes where everything is as it's to be.
NOTHING = {"master1": 0, "mirror1": 0, "mirror2": 0}
# cron starts a run every minute, here on a busy machine.
PATIENCE_SECONDS = 240


def listing(host: Host, directory: str) -> list[str]:
    """All that is in the tree, with sizes, modes, times and link targets, but for the mirror's own records."""
    # Where a run is just at work, find(1) fails for what vanishes meanwhile. What it has seen then is no whole tree.
    found = host.run(
        "cd %s && find . -mindepth 1 -path ./.mirrornet -prune -o -mindepth 1 -printf '%%y %%m %%s %%Ts %%p %%l\\n'", directory
    )
    return sorted(line for line in found.stdout.splitlines() if not line.startswith("d")) if found.rc == 0 else []


def wait_for_cron(hosts: dict[str, Host]) -> None:
    """Wait until every mirror holds what the master holds. Nothing here starts a run."""
    wanted = listing(hosts["master1"], PUBLISHED)
    assert wanted
    deadline = time.monotonic() + PATIENCE_SECONDS
    behind = list(MIRRORS)
    while behind:
        behind = [name for name in behind if not hosts[name].file(MIRRORED).exists or listing(hosts[name], MIRRORED) != wanted]
        if behind and time.monotonic() > deadline:
            said = "\n".join(hosts[name].run("mirrornet status").stdout for name in behind)
            pytest.fail(f"{behind} not in step after {PATIENCE_SECONDS} s:\n{said}")
        if behind:
            time.sleep(2)


def test_cron_alone_brings_the_tree_and_its_changes(hosts: dict[str, Host]) -> None:
    wait_for_cron(hosts)
    master = hosts["master1"]
    master.check_output("rm -r %s/1.0", PUBLISHED)
    master.check_output("mkdir %s/3.0", PUBLISHED)
    master.check_output("echo 'Release 3.0' >%s/3.0/README", PUBLISHED)
    wait_for_cron(hosts)
    for name in MIRRORS:
        assert hosts[name].file(f"{MIRRORED}/3.0/README").content_string == "Release 3.0\n"
        assert not hosts[name].file(f"{MIRRORED}/1.0").exists


@pytest.mark.on("mirrors")
def test_the_run_is_that_of_the_account(host: Host) -> None:
    assert host.file(f"{MIRRORED}/2.0/README").user == "mirrornet"
    job = json.loads(host.check_output("mirrornet status releases --json"))["jobs"][0]
    assert job["state"] in ("updated", "unchanged")


def test_pull_mirrors_shows_a_line_a_mirror(hosts: dict[str, Host]) -> None:
    told = play("all", playbook="mirrornet.rsync.pull_mirrors")
    assert told.code == 0, told.output
    for name in MIRRORS:
        assert len(re.findall(rf"^ *{name}: releases: (updated|unchanged|busy)\b", told.output, re.MULTILINE)) == 1, told.output


def test_a_roll_out_can_go_in_steps() -> None:
    told = play("all", mirrornet_serial=1)
    assert told.code == 0, told.output
    assert told.output.count("PLAY [Provision the mirrors]") == len(MIRRORS)


def test_groups_can_have_other_names(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    text = (SCENARIO / "inventory/hosts.yml").read_text(encoding="utf-8")
    inventory.write_text(text.replace("masters:", "tier0:").replace("mirrors:", "tier1:"), encoding="utf-8")
    groups = "mirrornet_masters_group=tier0 mirrornet_mirrors_group=tier1"
    told = ansible("ansible-playbook", "--extra-vars", groups, "mirrornet.rsync.site", hosts=inventory)
    assert (told.code, told.changed) == (0, NOTHING), told.output


def test_the_collection_installed_from_its_tarball_does_just_the_same(tmp_path: Path) -> None:
    """Installed into an empty place, with nothing of the checkout to be seen, site.yml runs and finds nothing to change."""
    subprocess.run(
        ["ansible-galaxy", "collection", "build", "--output-path", str(tmp_path), str(CHECKOUT)], check=True, capture_output=True
    )
    (tarball,) = tmp_path.glob("mirrornet-rsync-*.tar.gz")
    place = tmp_path / "place"
    # --force: what the checkout's own settings find must not count as installed already.
    install = ["ansible-galaxy", "collection", "install", "--offline", "--force", "--collections-path", str(place), str(tarball)]
    subprocess.run(install, check=True, capture_output=True)
    installed = place / "ansible_collections/mirrornet/rsync"
    assert not [name for name in ("tests", "molecule", "Makefile", "inventories/demo", ".ci") if (installed / name).exists()]

    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "ansible.cfg").touch()
    for number, source in enumerate((REACHED, SCENARIO / "inventory/hosts.yml")):
        shutil.copy(source, empty / f"{number}.yml")
    # How tests reach hosts is all that the collection itself doesn't have.
    shutil.copytree(SCENARIO.parent / "shared/connection_plugins", empty / "connection_plugins")
    # The tools of .venv are needed; every other directory of the checkout is hidden by an empty one.
    hidden = sorted(str(path) for path in CHECKOUT.iterdir() if path.is_dir() and path.name not in (".venv", ".build"))
    assert str(CHECKOUT / "roles") in hidden
    hide = 'n=$1; shift; while [ "$n" -gt 0 ]; do mount -t tmpfs none "$1"; shift; n=$((n - 1)); done; cd "$1"; shift; exec "$@"'
    site = ["ansible-playbook", "-i", "0.yml", "-i", "1.yml", "mirrornet.rsync.site"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", hide, "sh", str(len(hidden)), *hidden, str(empty), *site],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(place),
            "ANSIBLE_CONFIG": str(empty / "ansible.cfg"),
            "ANSIBLE_CONNECTION_PLUGINS": str(empty / "connection_plugins"),
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_PIPELINING": "true",
        },
        check=False,
    )
    told = Play(done.returncode, done.stdout)
    assert (told.code, told.changed) == (0, NOTHING), told.output
