# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as whoever installs it has it: built from what git knows, without the checkout around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUILT = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
FILTERS = sorted(path.stem for path in (ROOT / "plugins/filter").glob("*.py"))


class Installed:
    """An installation, and a directory with nothing in it to call Ansible's commands from."""

    def __init__(self, base: Path) -> None:
        self.top, self.empty, self.home = base / "installed", base / "empty", base / "home"
        self.empty.mkdir()
        self.home.mkdir()

    @property
    def collection(self) -> Path:
        return self.top / "ansible_collections/mirrornet/rsync"

    def run(self, command: str, *words: str) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8", "ANSIBLE_COLLECTIONS_PATH": str(self.top)}
        done = subprocess.run(
            [Path(sys.executable).with_name(command), *words], cwd=self.empty, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    base = tmp_path_factory.mktemp("collection")
    # As for tests/tools/sanity: what git knows or would take, without the link to the checkout itself.
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ":!.collections"]
    names = subprocess.run(listed, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.split(b"\0")
    there = b"\0".join(name for name in names if name and (ROOT / os.fsdecode(name)).is_file())
    source = base / "source"
    subprocess.run(["rsync", "--archive", "--from0", "--files-from=-", f"{ROOT}/", f"{source}/"], input=there, check=True)
    here = Installed(base)
    here.run("ansible-galaxy", "collection", "build", "--output-path", str(base), str(source))
    tarball = base / f"{BUILT['namespace']}-{BUILT['name']}-{BUILT['version']}.tar.gz"
    here.run("ansible-galaxy", "collection", "install", "--offline", "-p", str(here.top), str(tarball))
    return here


def test_it_holds_what_runs_and_nothing_else(installed: Installed) -> None:
    assert {path.name for path in installed.collection.iterdir()} == {
        "FILES.json",
        "LICENSE",
        "MANIFEST.json",
        "README.md",
        "changelogs",
        "docs",
        "inventories",
        "meta",
        "playbooks",
        "plugins",
        "roles",
    }
    assert {path.name for path in (installed.collection / "inventories").iterdir()} == {"example"}
    assert not list(installed.collection.rglob("__pycache__"))


def test_its_playbooks_can_be_called_by_name(installed: Installed) -> None:
    said = installed.run("ansible-playbook", "-i", "localhost,", "--syntax-check", *(f"mirrornet.rsync.{name}" for name in PLAYBOOKS))
    read = [line.partition(": ")[2] for line in said.splitlines() if line.startswith("playbook: ")]
    assert read == [str(installed.collection / f"playbooks/{name}.yml") for name in PLAYBOOKS]


@pytest.mark.parametrize(("kind", "names"), [("module", MODULES), ("filter", FILTERS)])
def test_its_plugins_are_documented(installed: Installed, kind: str, names: list[str]) -> None:
    wanted = [f"mirrornet.rsync.{name}" for name in names]
    told = json.loads(installed.run("ansible-doc", "--json", "--type", kind, *wanted))
    assert sorted(told) == sorted(wanted)
    for plugin in told.values():
        assert Path(plugin["doc"]["filename"]).is_relative_to(installed.top)
        assert plugin["doc"]["short_description"]


def test_its_roles_are_documented(installed: Installed) -> None:
    roles = [f"mirrornet.rsync.{path.name}" for path in sorted((ROOT / "roles").iterdir())]
    told = json.loads(installed.run("ansible-doc", "--json", "--type", "role", *roles))
    assert sorted(told) == roles
