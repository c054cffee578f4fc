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
from collections.abc import Sequence
from pathlib import Path

import pytest
from testinfra.host import Host

CHECKOUT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
PUBLISHED = "/srv/releases"
MIRRORED = "/srv/mirror/releases"
MIRRORS = ("mirror1", "mirror2")
# cron starts a run every minute, here on a busy machine.
PATIENCE_SECONDS = 240


def listing(host: Host, directory: str) -> list[str]:
    """All that is in the tree, with sizes, modes, times and link targets, but for the mirror's own records."""
    found = host.check_output(
        "cd %s && find . -mindepth 1 -path ./.mirrornet -prune -o -mindepth 1 -printf '%%y %%m %%s %%Ts %%p %%l\\n'", directory
    )
    return sorted(line for line in found.splitlines() if not line.startswith("d"))


def wait_for_cron(hosts: dict[str, Host]) -> None:
    """Wait until every mirror holds what the master holds. Nothing here starts a run."""
    wanted = listing(hosts["master1"], PUBLISHED)
    deadline = time.monotonic() + PATIENCE_SECONDS
    behind = list(MIRRORS)
    while behind:
        behind = [name for name in behind if not hosts[name].file(MIRRORED).exists or listing(hosts[name], MIRRORED) != wanted]
        if behind and time.monotonic() > deadline:
            said = "\n".join(hosts[name].run("mirrornet status").stdout for name in behind)
            pytest.fail(f"{behind} not in step after {PATIENCE_SECONDS} s:\n{said}")
        if behind:
            time.sleep(2)


def ansible_playbook(*arguments: str, before: Sequence[str] = (), **environment: str) -> str:
    """The output of ansible-playbook, which must succeed."""
    argv = [*before, "ansible-playbook", *arguments]
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", **environment},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


INVENTORY = ("-i", str(SCENARIO / "../shared/inventory/hosts.yml"), "-i", str(SCENARIO / "inventory/hosts.yml"))


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
    output = ansible_playbook(*INVENTORY, "mirrornet.rsync.pull_mirrors")
    for name in MIRRORS:
        assert len(re.findall(rf"^ *{name}: releases: (updated|unchanged|busy)\b", output, re.MULTILINE)) == 1, output


def test_a_roll_out_can_go_in_steps() -> None:
    output = ansible_playbook(*INVENTORY, "mirrornet.rsync.site", "-e", "mirrornet_serial=1")
    assert output.count("PLAY [Provision the mirrors]") == len(MIRRORS)


def test_groups_can_have_other_names(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    text = (SCENARIO / "inventory/hosts.yml").read_text(encoding="utf-8")
    inventory.write_text(text.replace("masters:", "tier0:").replace("mirrors:", "tier1:"), encoding="utf-8")
    output = ansible_playbook(
        "-i",
        INVENTORY[1],
        "-i",
        str(inventory),
        "mirrornet.rsync.site",
        "-e",
        "mirrornet_masters_group=tier0 mirrornet_mirrors_group=tier1",
    )
    assert recap(output) == {"master1": 0, "mirror1": 0, "mirror2": 0}


def recap(output: str) -> dict[str, int]:
    """How many tasks changed something, by host."""
    return {host: int(changed) for host, changed in re.findall(r"^(\w+) *: ok=\d+ +changed=(\d+) ", output, re.MULTILINE)}


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
    for number, source in enumerate((INVENTORY[1], INVENTORY[3])):
        shutil.copy(source, empty / f"{number}.yml")
    # The tools of .venv are needed; every other directory of the checkout is hidden by an empty one.
    hidden = sorted(str(path) for path in CHECKOUT.iterdir() if path.is_dir() and path.name not in (".venv", ".build"))
    assert str(CHECKOUT / "roles") in hidden
    hide = 'n=$1; shift; while [ "$n" -gt 0 ]; do mount -t tmpfs none "$1"; shift; n=$((n - 1)); done; cd "$1"; shift; exec "$@"'
    output = ansible_playbook(
        "-i", "0.yml", "-i", "1.yml", "mirrornet.rsync.site",
        # The scenarios' own connection is hidden as well.
        "-e",
        "ansible_connection=containers.podman.podman",
        before=["unshare", "--mount", "sh", "-euc", hide, "sh", str(len(hidden)), *hidden, str(empty)],
        ANSIBLE_COLLECTIONS_PATH=str(place),
        ANSIBLE_CONFIG=str(empty / "ansible.cfg"),
    )  # fmt: skip
    assert recap(output) == {"master1": 0, "mirror1": 0, "mirror2": 0}
