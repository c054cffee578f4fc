# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing where systemd isn't running: what cron is given, rendered. That it works is for a scenario."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import PurePath
from typing import Any

import pytest
from mirrornet import schedule
from test_rsyncd_role import INTERNAL, render


def tree(**options: Any) -> dict[str, Any]:
    return {"name": "a.b", "path": "/srv/a b/50%$HOME'", "publish": {}, **options}


def script(*modules: dict[str, Any]) -> str:
    return render("publish.sh.j2", __rsync_master_publishing=list(modules))


@pytest.mark.parametrize(
    ("every", "when"),
    [(None, "*/15 * * * *"), (1, "*/1 * * * *"), (59, "*/59 * * * *"), (60, "0 */1 * * *"), (150, "0 */2 * * *"), (1440, "0 0 * * *")],
)
def test_cron_comes_about_as_often_as_the_timer(every: int | None, when: str) -> None:
    text = render("publish.cron.j2", __rsync_master_publishing=[tree(publish={"every": every} if every else {})])
    assert text.endswith("\n")
    [line] = [line for line in text.splitlines() if " root " in line]
    assert line == f"{when} root /usr/local/lib/mirrornet/publish a.b"
    schedule.parse(when)


def test_the_program_is_good_shell_whatever_a_tree_is_called() -> None:
    signed = tree(publish={"sign": True, "keep": 3}, exclude=["*.iso", "it's"])
    listed = tree(name="c", uid=1000, gid="mirror group", publish={"file_list": "full list", "settle": 0})
    text = script(signed, listed)
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    [first, second] = [shlex.split(line) for line in text.splitlines() if line.strip().startswith("set -- ") and "$own" not in line]
    assert first == [
        "set",
        "--",
        "--exclude=.~tmp~/",
        "--exclude=.mirrornet/incoming/",
        "--exclude=*.iso",
        "--exclude=it's",
        "--keep=3",
        "--settle=5",
        "--",
        "/srv/a b/50%$HOME'",
    ]
    assert second[-4:] == ["--settle=0", "--file-list=full list", "--", "/srv/a b/50%$HOME'"]
    assert text.count("key=/etc/mirrornet/sign_key") == 1
    assert "account=1000\n    group='mirror group'" in text


def test_cron_reads_the_entries_and_no_program_is_passed_over() -> None:
    assert [PurePath(file["path"]).suffix for file in INTERNAL["__rsync_master_cron_files"]] == ["", ""]


def test_a_name_that_isn_t_published_is_refused() -> None:
    done = subprocess.run(["sh", "-s", "other"], input=script(tree()), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "there is no module other that is published" in done.stderr
