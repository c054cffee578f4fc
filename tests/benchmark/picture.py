# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table and the drawing of what trees.py has measured."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from typing import Any, Callable, NamedTuple


def seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 99.5 else f"{value:.3g} s" if value >= 0.9995 else f"{value * 1000:.3g} ms"


def size(value: float) -> str:
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def memory(value: float) -> str:
    return f"{value / 1024:.3g} MiB"


class Column(NamedTuple):
    """What is compared."""

    heading: str
    key: str
    show: Callable[[float], str]
    #: The smallest value that can be told from nothing.
    least: float


COLUMNS = (
    Column("wall time", "wall", seconds, 0.001),
    Column("master's CPU", "master_cpu", seconds, 0.0001),
    Column("mirror's CPU", "client_cpu", seconds, 0.001),
    Column("received", "received", size, 1),
    Column("sent", "sent", size, 1),
    Column("mirror's memory", "client_kib", memory, 1),
    Column("master's memory", "master_kib", memory, 1),
)
#: What a mirror does only once.
ONCE = ("first copy", "right after it")
_DRAWN = tuple(column for column in COLUMNS if column.key in ("wall", "master_cpu", "received"))

#: How many times less a run is to need than plain rsync, by the number of files, the row and what is compared.
_FEW: dict[int, dict[str, float]] = {100_000: {"wall": 3, "master_cpu": 25}, 1_000_000: {"wall": 25, "master_cpu": 200}}
GOALS: dict[int, dict[str, dict[str, float]]] = {
    100_000: {
        "nothing changed": {"wall": 8, "master_cpu": 40, "received": 1000, "client_kib": 1},
        "1 file changed": {**_FEW[100_000], "client_kib": 1},
        "100 files changed": {**_FEW[100_000], "client_kib": 1},
        "1 % changed": {"wall": 1, "client_kib": 1},
    },
    1_000_000: {
        "nothing changed": {"wall": 80, "master_cpu": 400, "received": 8000, "client_kib": 1},
        "1 file changed": {**_FEW[1_000_000], "client_kib": 1},
        "100 files changed": {**_FEW[1_000_000], "client_kib": 1},
        "1 % changed": {"wall": 3, "client_kib": 1},
    },
}


def ratio(row: dict[str, Any], column: Column) -> float:
    """How many times less ours needs; below 1 it needs more."""
    return max(row["plain"][column.key], column.least) / max(row["ours"][column.key], column.least)


def times(value: float) -> str:
    return f"{value:,.0f}×" if value >= 9.95 else f"{value:.2g}×"


def _cell(row: dict[str, Any], column: Column) -> str:
    if column.key not in row["plain"]:
        return ""
    return f"{column.show(row['plain'][column.key])} → {column.show(row['ours'][column.key])} ({times(ratio(row, column))})"


def _block(first: str, lines: list[list[str]]) -> list[str]:
    """A table in Markdown, its columns aligned so that it can be read as it is."""
    cells = [[first, *(column.heading for column in COLUMNS)], *lines]
    # Columns that hold nothing in this table are left out.
    cells = [list(row) for row in zip(*(column for column in zip(*cells) if any(column[1:])))]
    widths = [max(map(len, column)) for column in zip(*cells)]
    rows = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    return [rows[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rows[1:]]


def _publish(done: dict[str, float]) -> str:
    found = [f"nothing changed {seconds(done['unchanged'])} ({done['unchanged'] / max(done['find'], 1e-6):.2g} times that)"]
    found += [f"{changes} changed {seconds(value)}" for changes, value in done.items() if changes not in ("find", "first", "unchanged")]
    return f"`mirrornet publish`: bare find {seconds(done['find'])}; " + "; ".join([*found, f"first {seconds(done['first'])}"])


def table(figures: dict[str, Any]) -> str:
    """All rows in Markdown, each cell as plain rsync → ours (how many times less)."""
    lines = ["`rsync -av --delete-after` → `mirrornet pull` (how many times less)"]
    if "machine" in figures:
        # Other work stretches times, of short runs the most, but hardly processor time.
        load = " to ".join(f"{value:.1f}" for value in figures["load"])
        lines += ["", f"Measured on {figures['machine']}; load average {load}."]
    for tree in figures["sizes"]:
        block = [[name, *(_cell(row, column) for column in COLUMNS)] for name, row in tree["rows"].items()]
        lines += ["", *_block(f"{tree['files']:,} files", block)]
        if "publish" in tree:
            lines += ["", _publish(tree["publish"])]
    if "crowd" in figures:
        rows = figures["crowd"]["rows"].items()
        block = [[f"{mirrors} at once", *(_cell(row, column) for column in COLUMNS)] for mirrors, row in rows]
        lines += ["", *_block(f"{figures['crowd']['files']:,} files, nothing changed", block)]
        refused = [f"{row[name]['failed']} of {mirrors} by {name}" for mirrors, row in rows for name in row if row[name]["failed"]]
        lines += ["", "Runs that failed: " + (", ".join(refused) or "none")]
    return "\n".join(lines)


#: How many times a bare find a publish that finds nothing new may take, for trees that have goals at all.
FINDS = 2.0
#: The seconds of processor time that so many mirrors at once may cost the master if nothing has changed.
CROWDS = {"100": 0.5}


def misses(figures: dict[str, Any]) -> list[str]:
    """What is less than it is to be."""
    found = []
    for tree in figures["sizes"]:
        for name, goals in GOALS.get(tree["files"], {}).items():
            row = tree["rows"].get(name)
            for column in COLUMNS if row else ():
                if column.key in goals and ratio(row, column) < goals[column.key]:
                    wanted, got = times(goals[column.key]), times(ratio(row, column))
                    found.append(f"{tree['files']:,} files, {name}, {column.heading}: {got} less, to be {wanted}")
        done = tree.get("publish") if tree["files"] in GOALS else None
        if done and done["unchanged"] > FINDS * done["find"]:
            got = times(done["unchanged"] / max(done["find"], 1e-6))
            found.append(f"{tree['files']:,} files, publishing, nothing changed: {got} a bare find, to be {times(FINDS)} at most")
    rows = figures.get("crowd", {}).get("rows", {})
    for mirrors, most in CROWDS.items():
        if mirrors in rows and rows[mirrors]["ours"]["master_cpu"] > most:
            got = seconds(rows[mirrors]["ours"]["master_cpu"])
            found.append(f"{mirrors} mirrors at once, master's CPU: {got}, to be {seconds(most)} at most")
    return found


# The drawing

_LEFT, _COLUMN, _GAP, _BAR, _ROW = 140, 190, 110, 11, 36
_STYLE = """
text { font: 13px system-ui, "DejaVu Sans", sans-serif; fill: #24292f }
.head { font-weight: bold } .small { font-size: 11px }
.plain { fill: #9aa4af } .ours { fill: #1f6feb } .paper { fill: #ffffff } .line { stroke: #d0d7de }
"""


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _draw(drawing: ET.Element, kind: str, name: str, **numbers: float) -> ET.Element:
    return ET.SubElement(drawing, kind, {"class": name, **{key: _number(value) for key, value in numbers.items()}})


def _write(drawing: ET.Element, x: float, y: float, content: str, name: str = "", anchor: str = "start") -> None:
    text = _draw(drawing, "text", name, x=x, y=y)
    text.set("text-anchor", anchor)
    text.text = content


def _bars(drawing: ET.Element, x: float, y: float, row: dict[str, Any], column: Column, largest: float) -> None:
    """Two bars, one below the other, on a scale of powers of ten, with what each is and the ratio."""
    scale = math.log10(max(largest, column.least * 10) / column.least)
    for place, name in enumerate(("plain", "ours")):
        value = max(row[name][column.key], column.least)
        width = max(2.0, _COLUMN * math.log10(value / column.least) / scale)
        top = y + place * (_BAR + 2)
        _draw(drawing, "rect", name, x=x, y=top, width=width, height=_BAR, rx=2)
        said = column.show(row[name][column.key])
        if name == "ours":
            said += f"  {times(ratio(row, column))} less" if ratio(row, column) > 1 else "  more"
        _write(drawing, x + width + 5, top + _BAR - 1.5, said, "small")


def svg(figures: dict[str, Any]) -> str:
    """The drawing: a block for each size of the tree, and in it a row for each amount of change."""
    rows = [row for tree in figures["sizes"] for row in _rows(tree).values()]
    largest = {column.key: max((max(row["plain"][column.key], row["ours"][column.key]) for row in rows), default=1) for column in _DRAWN}
    width = _LEFT + len(_DRAWN) * (_COLUMN + _GAP)
    height = 30 + sum(66 + _ROW * len(_rows(tree)) for tree in figures["sizes"])
    drawing = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width} {height}", "role": "img"})
    drawing.set("width", str(width))
    drawing.set("height", str(height))
    ET.SubElement(drawing, "title").text = "What keeping a tree in step costs, by rsync and by mirrornet"
    ET.SubElement(drawing, "style").text = _STYLE
    _draw(drawing, "rect", "paper", x=0, y=0, width=width, height=height)
    for x, name, content in ((_LEFT, "plain", "rsync -av --delete-after"), (_LEFT + 210, "ours", "mirrornet pull")):
        _draw(drawing, "rect", name, x=x, y=19, width=14, height=_BAR, rx=2)
        _write(drawing, x + 20, 30, content)
    _write(drawing, width - 10, 30, "scales are logarithmic", "small", "end")
    y = 30.0
    for tree in figures["sizes"]:
        y += 38
        _write(drawing, 10, y, f"{tree['files']:,} files", "head")
        for place, column in enumerate(_DRAWN):
            _write(drawing, _LEFT + place * (_COLUMN + _GAP), y, column.heading, "head")
        _draw(drawing, "line", "line", x1=10, x2=width - 10, y1=y + 8, y2=y + 8)
        y += 18
        for name, row in _rows(tree).items():
            _write(drawing, 10, y + 16, name)
            for place, column in enumerate(_DRAWN):
                _bars(drawing, _LEFT + place * (_COLUMN + _GAP), y, row, column, largest[column.key])
            y += _ROW
        y += 10
    return ET.tostring(drawing, encoding="unicode") + "\n"


def _rows(tree: dict[str, Any]) -> dict[str, Any]:
    """What is drawn of a tree."""
    return {name: row for name, row in tree["rows"].items() if name not in ONCE}
