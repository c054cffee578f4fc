# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation says is so: rendered tables, defaults, links, examples."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mirrornet.approval import ROLLED_BACK
from mirrornet.places import Places

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.parents[1] for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md")])
SMALLEST = ROOT / "inventories/example/small/hosts.yml"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_all_tables_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "tests/tools/render_docs.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_documents_its_variables_in_its_readme(role: Path) -> None:
    readme = (role / "README.md").read_text(encoding="utf-8")
    for name in read(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]:
        assert f"| `{name}` |" in readme


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_argument_spec_agree(role: Path) -> None:
    options = read(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = read(role / "defaults/main.yml")
    assert set(defaults) <= set(options)
    assert {name: option["default"] for name, option in options.items() if "default" in option} == {
        name: value for name, value in defaults.items() if "{{" not in str(value)
    }


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_variable_that_a_role_uses_is_documented(role: Path) -> None:
    known = {name for entry in read(role / "meta/argument_specs.yml")["argument_specs"].values() for name in entry["options"]}
    used = set()
    for path in [*role.glob("tasks/*.yml"), *role.glob("vars/*.yml"), *role.glob("handlers/*.yml"), *role.glob("templates/*")]:
        used |= set(re.findall(rf"(?<![_a-z./]){role.name}_[a-z0-9_]+(?!\()", path.read_text(encoding="utf-8")))
    assert used <= known


def test_the_defaults_of_jobs_are_those_of_the_module() -> None:
    source = (ROOT / "plugins/modules/mirror_job.py").read_text(encoding="utf-8")
    options = yaml.safe_load(source.split('DOCUMENTATION = r"""')[1].split('"""')[0])["options"]
    defaults = read(ROOT / "roles/rsync_mirror/defaults/main.yml")
    shared = {name: defaults[f"rsync_mirror_{name}"] for name in options if f"rsync_mirror_{name}" in defaults}
    assert {name: value for name, value in shared.items() if options[name].get("default", "") != value} == {"user": "mirrornet"}


def test_the_role_hands_every_option_of_a_job_to_the_module() -> None:
    [task] = [task for task in read(ROOT / "roles/rsync_mirror/tasks/configure.yml") if "mirrornet.rsync.mirror_job" in task]
    source = (ROOT / "plugins/modules/mirror_job.py").read_text(encoding="utf-8")
    options = yaml.safe_load(source.split('DOCUMENTATION = r"""')[1].split('"""')[0])["options"]
    assert set(task["mirrornet.rsync.mirror_job"]) == set(options) - {"config_dir", "state_dir", "command"}


def kinds(room: Path) -> set[str]:
    """The kinds of failures and holds that stand literally in a room of the engine."""
    found = set()
    for node in ast.walk(ast.parse(room.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Failure", "Hold", "_Kind"):
            found.add(node.args[0])
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith(".kind"):
            found.add(node.value)
    return {str(node.value) for node in found if isinstance(node, ast.Constant)}


def test_the_reference_has_all_kinds() -> None:
    section = (ROOT / "docs/reference_mirrornet.md").read_text(encoding="utf-8").split("\n## Kinds\n")[1].split("\n## ")[0]
    listed = [kind for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for kind in re.findall(r"`(\w+)`", row)]
    given = set().union(*map(kinds, ROOT.glob("plugins/module_utils/mirrornet/*.py")))
    assert sorted(listed) == sorted(given | {ROLLED_BACK})


def test_the_reference_has_all_files_of_a_job() -> None:
    section = (ROOT / "docs/reference_mirrornet.md").read_text(encoding="utf-8").split("\n## Files\n")[1].split("\n## ")[0]
    places = Places(Path("/config"), Path("/state"))
    paths = [method(places, "JOB") for method in vars(Places).values() if "job" in getattr(method, "__annotations__", {})]
    files = sorted(path.name for path in paths if path.parent == places.state("JOB"))
    assert len(files) > 10
    assert [name for name in files if not re.search(rf"`{re.escape(name)}/?`", section)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _hash, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), f"{target} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_yaml_in_documents_is_yaml(document: Path) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        assert yaml.safe_load(block)


def test_the_smallest_inventory_has_ten_lines() -> None:
    lines = [line for line in SMALLEST.read_text(encoding="utf-8").splitlines() if line != "---"]
    assert len(lines) <= 10
    assert "\n".join(lines) in (ROOT / "README.md").read_text(encoding="utf-8")


LOOK = """
- hosts: mirrors
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: "{{ rsync_mirror_jobs | mirrornet.rsync.mirror_jobs({}, hostvars, groups[masters], inventory_hostname) }}"
      vars:
        masters: "{{ rsync_mirror_masters_group | default('masters') }}"
"""


def jobs_of(example: str, directory: Path) -> dict[str, list[dict[str, Any]]]:
    """The jobs of each mirror of an example, as Ansible itself sees them, with their sources; there must be nothing wrong with them."""
    playbook = directory / "look.yml"
    playbook.write_text(LOOK, encoding="utf-8")
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", ROOT / "inventories/example" / example, playbook],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
        capture_output=True,
        check=True,
    )
    [task] = json.loads(done.stdout)["plays"][0]["tasks"]
    found = {name: result["msg"] for name, result in task["hosts"].items()}
    assert {name: checked["problems"] for name, checked in found.items() if checked["problems"]} == {}
    return {name: checked["jobs"] for name, checked in found.items()}


def test_the_small_example_pulls_from_its_master(tmp_path: Path) -> None:
    jobs = jobs_of("small", tmp_path)
    assert sorted(jobs) == ["mirror1.example.org", "mirror2.example.org"]
    for mirror in jobs.values():
        assert [(job["name"], job["target"], job["sources"]) for job in mirror] == [
            ("docs", "/srv/mirror/docs", ["rsync://master1.example.org/docs/"])
        ]


def test_the_network_example_pulls_tier_by_tier(tmp_path: Path) -> None:
    jobs = jobs_of("network", tmp_path)
    sources = {name: {job["name"]: job["sources"] for job in mirror} for name, mirror in jobs.items()}
    assert sources["mirror1.example.net"]["releases"] == ["rsync://archive.example.org/releases/"]
    tier1 = [f"rsync://{name}/releases/" for name in ("mirror1.example.net", "rsync.mirror2.example.net", "mirror3.example.net")]
    assert sources["uni-20.example.edu"]["releases"] == tier1
    assert sources["shell.example.com"] == {"releases": tier1}
    assert jobs["shell.example.com"][0]["target"] == "/home/alice/public_html/releases"
    assert len(jobs) == 3 + 20 + 1
