# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command as one file: complete, the same bytes each time, and started by a path."""

from __future__ import annotations

import ast
import hashlib
import io
import re
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Callable

from conftest import ENGINE, Master, Mirror
from mirrornet import package


def test_same_bytes_from_everywhere(tmp_path: Path) -> None:
    """The command can be packed from a checkout and from a packed command alike."""
    data = package.command("/usr/bin/python3")
    assert data == package.command("/usr/bin/python3")
    copy = tmp_path / "engine.zip"
    with zipfile.ZipFile(copy, "w") as archive:
        for path in sorted((ENGINE / "mirrornet").glob("*.py")):
            archive.write(path, f"mirrornet/{path.name}")
    program = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]); from mirrornet import package; "
        "print(hashlib.sha256(package.command('/usr/bin/python3')).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program, str(copy)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(data).hexdigest()


def test_complete(tmp_path: Path) -> None:
    """Every room that a packed room imports is packed too."""
    path = tmp_path / "mirrornet"
    path.write_bytes(package.command(sys.executable))
    with zipfile.ZipFile(path) as archive:
        packed = {Path(name).stem: archive.read(name) for name in archive.namelist() if re.fullmatch(r"mirrornet/.*\.py", name)}
        assert all(entry.date_time == (1980, 1, 1, 0, 0, 0) for entry in archive.infolist())
    for name, text in packed.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                rooms = [node.module] if node.module else [alias.name for alias in node.names]
                missing = {room for room in rooms if room and not room.startswith("__")} - set(packed)
                assert not missing, f"{name} imports {missing}"


def _edited(data: bytes, edit: Callable[[str, bytes], bytes]) -> bytes:
    """The command with each of its entries changed."""
    buffer = io.BytesIO(data[: data.index(b"\n") + 1])
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "a") as new:
        for name in old.namelist():
            new.writestr(name, edit(name, old.read(name)))
    return buffer.getvalue()


def test_runs_compiled_and_as_text(tmp_path: Path) -> None:
    """What is compiled is used by the Python that it was compiled for, and passed over by another."""
    command = tmp_path / "mirrornet"
    command.touch(0o755)

    def answer(edit: Callable[[str, bytes], bytes]) -> str:
        command.write_bytes(_edited(package.command(sys.executable), edit))
        return subprocess.run([str(command), "--version"], capture_output=True, text=True, check=False).stdout.partition(" ")[0]

    assert answer(lambda name, data: b"raise SystemExit(1)" if re.fullmatch(r"mirrornet/.*\.py", name) else data) == "mirrornet"
    assert answer(lambda name, data: b"another Python's" + data[16:] if name.endswith(".pyc") else data) == "mirrornet"
    assert answer(lambda name, data: b"raise SystemExit(1)" if name.endswith("cli.py") else b"" if name.endswith("cli.pyc") else data) == ""


def test_runs_from_anywhere(tmp_path: Path, master: Master, mirror: Mirror) -> None:
    master.fill()
    mirror.define()
    command = tmp_path / "bin" / "mirrornet"
    command.parent.mkdir()
    command.write_bytes(package.command(sys.executable))
    command.chmod(0o755)
    words = [str(command), "--config-dir", str(mirror.places.config_dir), "--state-dir", str(mirror.places.state_dir)]
    # As cron calls it: hardly any environment, another directory.
    done = subprocess.run([*words, "pull", "tree"], env={"PATH": "/usr/bin:/bin"}, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tree: updated from rsync://")
    assert (mirror.target / "latest").is_symlink()


def test_no_constant_has_an_order_that_changes(tmp_path: Path) -> None:
    """Python before 3.11 compiles a set into the order of that process, so that each play would replace the command."""

    def sets(code: types.CodeType) -> list[object]:
        inner = [found for constant in code.co_consts if isinstance(constant, types.CodeType) for found in sets(constant)]
        return inner + [constant for constant in code.co_consts if isinstance(constant, frozenset)]

    path = tmp_path / "mirrornet"
    path.write_bytes(package.command(sys.executable))
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                assert sets(compile(archive.read(name), name, "exec")) == [], f"{name}: write a tuple, or make the set of one"
