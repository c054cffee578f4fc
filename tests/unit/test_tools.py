# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a checkout's own tools ask of a machine: nothing that the work in hand doesn't need, and what is missing by name."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The only directory on the PATH of an ordinary account without sudo, on a Debian that lacks podman alone."""
    for name in ("bash", "dirname", "realpath"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    scripts = {
        "id": "echo 1000",
        "python3": "exit 0",
        "dpkg-query": 'case "$*" in *" podman") exit 1 ;; *) echo installed ;; esac',
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def tool(programs: Path, *words: str) -> tuple[int, str]:
    """The exit code of a tool, and what it said."""
    words = (str(ROOT / words[0]), *words[1:])
    done = subprocess.run(["bash", *words], env={"PATH": str(programs)}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_checks_need_no_containers(programs: Path) -> None:
    assert tool(programs, "tests/tools/packages", "check") == (0, "")
    code, said = tool(programs, "tests/tools/packages", "check", "hosts")
    assert code == 1
    assert said.startswith("packages: missing: podman. As root, run: apt-get update && apt-get install ")


def test_packages_for_nothing_that_there_is(programs: Path) -> None:
    assert tool(programs, "tests/tools/packages") == (1, "packages: for what? usage: tests/tools/packages check|hosts…\n")
    assert tool(programs, "tests/tools/packages", "podman") == (1, "packages: podman? usage: tests/tools/packages check|hosts…\n")


def test_what_is_no_debian(programs: Path) -> None:
    (programs / "dpkg-query").unlink()
    for name in ("shellcheck", "ssh-keygen", "openssl"):
        (programs / name).symlink_to("python3")
    code, said = tool(programs, "tests/tools/packages", "check")
    assert code == 1
    assert said.startswith("packages: this is no Debian: install rsync shellcheck ")
    (programs / "rsync").symlink_to("python3")
    assert tool(programs, "tests/tools/packages", "check") == (0, "")


@pytest.mark.parametrize("words", [("tests/hosts/enter", "true"), ("tests/hosts/leave",)])
def test_hosts_without_root_and_sudo(programs: Path, words: tuple[str, ...]) -> None:
    assert tool(programs, *words) == (1, f"{words[0]}: test hosts need root: run this as root, or install sudo.\n")


def test_what_runs_no_hosts_asks_for_none() -> None:
    rules = re.findall(r"^([a-z-]+(?: [a-z-]+)*):((?: [a-z-]+)*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    needs = {target: words.split() for targets, words in rules for target in targets.split()}

    def all_of(target: str) -> set[str]:
        return {target}.union(*map(all_of, needs.get(target, [])))

    for target in ("check", "sanity", "bench-trees", "soak", "build", "docs"):
        assert "packages-check" in all_of(target)
        assert "packages-hosts" not in all_of(target), target
    for target in ("demo", "test", "unit-hosts", "molecule", "bench"):
        assert "packages-hosts" in all_of(target), target
