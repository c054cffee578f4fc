# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark tells the truth: what it counts, what it makes of it, and what it leaves behind."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from benchmark import picture, trees
from benchmark.measure import Cost, Daemon, cost, peak
from conftest import ENGINE, wait_until

TESTS = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def row(plain: float, ours: float) -> dict[str, Any]:
    return {name: {column.key: value for column in picture.COLUMNS} for name, value in (("plain", plain), ("ours", ours))}


def parsed(drawing: str) -> ET.Element:
    return ET.XML(drawing)


def figures(plain: float = 800.0, ours: float = 8.0, files: int = 100_000) -> dict[str, Any]:
    names = ("first copy", "nothing changed", "1 file changed", "100 files changed", "1 % changed")
    few = {name: {**side, "failed": 0} for name, side in row(plain, ours).items()}
    return {
        "sizes": [{"files": files, "rows": {name: row(plain, ours) for name in names}}],
        "crowd": {"files": 10, "rows": {"100": {"plain": {**few["plain"], "failed": 3}, "ours": few["ours"]}}},
    }


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "big").write_bytes(os.urandom(3_000_000))
    return Daemon(tmp_path, tmp_path / "tree")


def test_what_a_run_costs_is_counted_on_both_sides(daemon: Daemon, tmp_path: Path) -> None:
    fetch = ["rsync", "-a", daemon.url, str(tmp_path / "copy")]
    first = cost(daemon, [fetch], ENVIRONMENT, 60)
    again = cost(daemon, [fetch], ENVIRONMENT, 60)
    assert first.failed == again.failed == 0
    assert 3_000_000 < first.received < 3_100_000
    assert 0 < again.received < 1000
    assert 0 < again.sent < 1000
    assert min(first.wall, first.client_cpu, first.master_cpu) > 0


def test_runs_at_once_are_counted_together_and_failures_are_told(daemon: Daemon, tmp_path: Path) -> None:
    good = [["rsync", "-a", daemon.url, str(tmp_path / f"copy{number}")] for number in range(3)]
    found = cost(daemon, [*good, ["rsync", f"{daemon.url}missing", str(tmp_path / "none")]], ENVIRONMENT, 60)
    assert found.failed == 1
    assert 9_000_000 < found.received < 9_200_000


def test_what_hangs_is_ended_and_has_failed(daemon: Daemon) -> None:
    found = cost(daemon, [["sleep", "3600"]], ENVIRONMENT, 0.5)
    assert found.failed == 1
    assert found.wall < 60


def test_memory_is_that_of_all_processes_of_a_run(daemon: Daemon, tmp_path: Path) -> None:
    script = tmp_path / "hold"
    script.write_text(
        "import subprocess, sys, time\n"
        "block = b'x' * 40_000_000\n"
        "if len(sys.argv) == 1:\n"
        "    subprocess.run([sys.executable, __file__, 'child'], check=True)\n"
        "time.sleep(0.5)\n"
    )
    client, master = peak(daemon, [sys.executable, str(script)], ENVIRONMENT)
    assert 80_000 < client < 200_000
    assert master == 0


def test_a_daemon_that_is_not_running_listens_nowhere(daemon: Daemon) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", daemon.port), 5)


def test_medians() -> None:
    found = trees.median([Cost(wall, wall, wall / 2, 10, 20, failed) for wall, failed in ((1.0, 0), (9.0, 1), (2.0, 2))])
    assert found == {"wall": 2.0, "client_cpu": 2.0, "master_cpu": 1.0, "received": 10, "sent": 20, "failed": 3, "rounds": 3}


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (picture.seconds, 0.0, "0 ms"),
        (picture.seconds, 0.01234, "12.3 ms"),
        (picture.seconds, 0.9999, "1 s"),
        (picture.seconds, 9.876, "9.88 s"),
        (picture.seconds, 99.9, "100 s"),
        (picture.seconds, 1234.5, "1234 s"),
        (picture.size, 0, "0 B"),
        (picture.size, 999, "999 B"),
        (picture.size, 999_900, "1 MB"),
        (picture.size, 34_200_000, "34.2 MB"),
        (picture.size, 5e12, "5e+03 GB"),
        (picture.memory, 2048, "2 MiB"),
        (picture.times, 0.5, "0.5×"),
        (picture.times, 9.96, "10×"),
        (picture.times, 8123.4, "8,123×"),
    ],
)
def test_figures_are_written_for_people(show: Any, value: float, text: str) -> None:
    assert show(value) == text


def test_the_table_has_all_figures_and_their_ratios() -> None:
    text = picture.table(figures())
    lines = {cells[1].strip(): cells for cells in (line.split("|") for line in text.splitlines()) if len(cells) > 2}
    assert lines["nothing changed"][2].strip() == "800 s → 8 s (100×)"
    assert len(lines["1 % changed"]) == len(picture.COLUMNS) + 3
    assert len({len(line) for line in text.splitlines() if line.startswith("| ")}) == 2  # One width for each of the two tables.
    assert "Runs that failed: 3 of 100 by plain" in text


def test_the_table_tells_what_was_measured_on() -> None:
    text = picture.table({**figures(), "machine": trees.machine(), "load": [0.5, 12.25]})
    assert re.search(
        r"^Measured on \d+ × .+, \d+ GiB, Linux [\d.]+, rsync [\d.]+.*, Python [\d.]+; load average 0.5 to 12.2\.$", text, re.MULTILINE
    )


def test_columns_without_figures_are_left_out() -> None:
    some = figures()
    for found in some["crowd"]["rows"].values():
        for side in found.values():
            del side["client_kib"]
    assert picture.table(some).count("mirror's memory") == 1


def test_publishing_is_shown_beside_a_bare_walk() -> None:
    some = figures()
    some["sizes"][0]["publish"] = {"find": 0.5, "unchanged": 0.8, "1": 1.0, "1,000": 2.0, "first": 9.0}
    assert "bare find 500 ms; nothing changed 800 ms (1.6 times that); 1 changed 1 s; 1,000 changed 2 s; first 9 s" in picture.table(some)


def without_crowd(**options: Any) -> dict[str, Any]:
    some = figures(**options)
    del some["crowd"]
    return some


def test_what_misses_its_goal_is_named() -> None:
    assert picture.misses(without_crowd(ours=800 / 50)) == [
        "100,000 files, nothing changed, received: 50× less, to be 1,000×",
    ]
    assert len(picture.misses(without_crowd(ours=1600))) == 12
    assert picture.misses(without_crowd(files=10_000, ours=1600)) == []


@pytest.mark.parametrize(("files", "unchanged", "missed"), [(100_000, 1.01, True), (100_000, 0.99, False), (10_000, 1.01, False)])
def test_publishing_that_takes_too_long_is_named(files: int, unchanged: float, missed: bool) -> None:
    some = without_crowd(files=files, plain=1e9)
    some["sizes"][0]["publish"] = {"find": 0.5, "unchanged": unchanged, "1": 9.0, "first": 9.0}
    found = ["100,000 files, publishing, nothing changed: 2× a bare find, to be 2× at most"]
    assert picture.misses(some) == (found if missed else [])


def test_mirrors_that_cost_the_master_too_much_are_named() -> None:
    some = figures(plain=1e9)
    assert picture.misses(some) == ["100 mirrors at once, master's CPU: 8 s, to be 500 ms at most"]
    some["crowd"]["rows"]["100"]["ours"]["master_cpu"] = 0.5
    assert picture.misses(some) == []


@pytest.mark.parametrize(("plain", "ours"), [(800.0, 8.0), (0.0, 0.0), (1e12, 1e-12), (8.0, 800.0)])
def test_the_drawing_is_xml_and_holds_its_bars(plain: float, ours: float) -> None:
    drawing = parsed(picture.svg(figures(plain, ours)))
    assert drawing.tag == f"{SVG}svg"
    width, height = float(drawing.attrib["width"]), float(drawing.attrib["height"])
    bars = [shape for shape in drawing.iter(f"{SVG}rect") if shape.get("class") in ("plain", "ours")]
    assert len(bars) == 2 + 4 * 3 * 2
    for shape in bars:
        assert 0 <= float(shape.attrib["x"]) <= float(shape.attrib["x"]) + float(shape.attrib["width"]) <= width
        assert 0 <= float(shape.attrib["y"]) <= float(shape.attrib["y"]) + float(shape.attrib["height"]) <= height


def test_a_drawing_escapes_what_it_writes() -> None:
    some = figures()
    some["sizes"][0]["rows"] = {"<a & b>": row(1, 2)}
    assert "<a & b>" in {text.text for text in parsed(picture.svg(some)).iter(f"{SVG}text")}


def test_the_variables_have_defaults_and_are_checked() -> None:
    found = trees.plan({})
    assert found.trees == [10_000, 100_000]
    assert found.mirrors == [1, 10, 100]
    assert found.space == 100_000 * trees.SPACE
    assert trees.plan({"BENCH_TREES": "5, 7", "BENCH_MIRRORS": "0"}).mirrors == []
    for wrong in ({"BENCH_TREES": "many"}, {"BENCH_TREES": "0"}, {"BENCH_ROUNDS": "-1"}):
        with pytest.raises(SystemExit, match=next(iter(wrong))):
            trees.plan(wrong)


def test_too_small_a_disk_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    huge = trees.plan({"BENCH_TREES": str(10**15), "BENCH_PLACE": str(tmp_path)})
    with pytest.raises(SystemExit, match=r"MiB and .* inodes free"), trees.place(huge):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    for name in ("mirrornet-bench-left", "mirrornet-bench-used", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / trees.LOCK).touch()
    (tmp_path / "mirrornet-bench-no-lock").mkdir()
    with (tmp_path / "mirrornet-bench-used" / trees.LOCK).open("rb") as used:
        fcntl.flock(used, fcntl.LOCK_EX)
        trees.clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mirrornet-bench-no-lock", "mirrornet-bench-used", "other"]


def test_a_small_tree_is_measured_in_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "SPAN", 0)
    variables = {"BENCH_TREES": "120", "BENCH_MIRRORS": "2", "BENCH_CROWD": "20", "BENCH_ROUNDS": "1", "BENCH_PLACE": str(tmp_path)}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        kept: list[list[str]] = []
        found = trees.measure(trees.plan(variables), lambda figures: kept.append(list(figures["sizes"][0]["rows"])))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert list(tmp_path.iterdir()) == []
    rows = found["sizes"][0]["rows"]
    assert list(rows) == [*picture.ONCE, "nothing changed", "1 file changed", "100 files changed", "1 % changed"]
    assert kept[0] == [*picture.ONCE, "nothing changed"]
    assert kept[-1] == list(rows)
    for each in [*rows.values(), *found["crowd"]["rows"].values()]:
        for side in (each["plain"], each["ours"]):
            assert side["failed"] == 0
            assert min(side["received"], side["sent"], side["wall"], side["client_cpu"]) > 0
    assert rows["nothing changed"]["ours"]["client_kib"] > 1000
    assert picture.table(found)
    assert parsed(picture.svg(found)).tag == f"{SVG}svg"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_benchmark_leaves_nothing_behind(number: int, tmp_path: Path) -> None:
    variables = {"BENCH_TREES": "500", "BENCH_ROUNDS": "1000", "BENCH_PLACE": str(tmp_path), "PYTHONPATH": f"{TESTS}:{ENGINE}"}
    bench = subprocess.Popen(
        [sys.executable, "-m", "benchmark.trees"],
        env={**ENVIRONMENT, **variables},
        cwd=tmp_path.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert bench.stdout is not None
        assert any("nothing changed" in line for line in bench.stdout)
        (config,) = tmp_path.glob("*/500/rsyncd.conf")
        port = re.search(r"^port = (\d+)$", config.read_text(), re.MULTILINE)
        assert port is not None
        bench.send_signal(number)
        dummy, errors = bench.communicate(timeout=120)
    finally:
        bench.kill()
        bench.wait()
    assert bench.returncode == 1
    assert f"signal {int(number)}" in errors
    assert list(tmp_path.iterdir()) == []

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(port.group(1)))) != 0

    wait_until(refused, "the daemon's end")
