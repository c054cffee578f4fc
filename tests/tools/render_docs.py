#!/usr/bin/env python
# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what documents take from elsewhere, mostly tables. `--check` only says which documents are out of date.

It stands between two comments, `<!-- NAME -->` and `<!-- /NAME -->`, where NAME is

variables         in a role's README: the variables, from the role's meta/argument_specs.yml
options MODULE    the options of a module, from its DOCUMENTATION; after them `except` and those that are left out
exit codes        the exit codes of the command mirrornet, from the engine's errors.py
file PATH         not a table: the file itself, as a block
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
MARKED = re.compile(r"(<!-- (?P<name>[^/][^>]*?) -->\n)(?P<table>.*?)(<!-- /(?P=name) -->)", re.DOTALL)
MARKUP = re.compile(r"\b(?:RV|[OVCMPEBI])\(([^)]*)\)")


def cell(text: str) -> str:
    """Text as it stands in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def plain(description: str | list[str]) -> str:
    """A description of Ansible's documentation without its markup."""
    text = description if isinstance(description, str) else " ".join(description)
    return cell(MARKUP.sub(lambda match: f"`{re.sub(r'#(role|module|filter)$', '', match[1])}`", text))


def shown(value: Any) -> str:
    """A value as it would be written in YAML."""
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_./@][A-Za-z0-9_./@-]*", value):
        return f'`"{value}"`'
    return f"`{json.dumps(value) if not isinstance(value, str) else value}`"


def type_of(option: dict[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    if kind == "list" and option.get("elements") not in (None, "raw"):
        kind = f"list of {option['elements']}"
    elif kind == "list":
        kind = "list of dict" if "options" in option else "list"
    return kind


def meaning(option: dict[str, Any]) -> str:
    choices = ", ".join(f"`{choice}`" for choice in option.get("choices", []))
    return plain(option["description"]) + (f" One of {choices}." if len(option.get("choices", [])) > 1 else "")


def options_table(options: dict[str, Any], title: str) -> Iterator[str]:
    """The table of these options, and after it one for each of them that has options of its own."""
    yield f"| {title} | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, option in options.items():
        default = "**required**" if option.get("required") else shown(option["default"]) if "default" in option else ""
        yield f"| `{name}` | {type_of(option)} | {cell(default)} | {meaning(option)} |"
    for name, option in options.items():
        if "options" in option:
            yield from ("", f"Each entry of `{name}` has:", "")
            yield from options_table(option["options"], "option")


def variables(document: Path) -> Iterator[str]:
    specification = yaml.safe_load((document.parent / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    return options_table(specification["argument_specs"]["main"]["options"], "variable")


def module_options(argument: str) -> Iterator[str]:
    name, *left_out = argument.replace(" except ", " ").split()
    tree = ast.parse((ROOT / f"plugins/modules/{name}.py").read_text(encoding="utf-8"))
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "DOCUMENTATION":
            options = yaml.safe_load(ast.literal_eval(statement.value))["options"]
            return options_table({name: option for name, option in options.items() if name not in left_out}, "option")
    raise LookupError(f"the module {name} has no DOCUMENTATION")


def exit_codes() -> Iterator[str]:
    sys.path.insert(0, str(ROOT / "plugins/module_utils"))
    from mirrornet.errors import MEANINGS

    yield "| code | name | meaning |"
    yield "|---|---|---|"
    for code, text in MEANINGS.items():
        yield f"| {int(code)} | {code.name} | {cell(text)} |"


def file(path: str) -> Iterator[str]:
    content = ROOT / path
    yield f"```{'yaml' if content.suffix == '.yml' else ''}"
    yield from (line for line in content.read_text(encoding="utf-8").splitlines() if line != "---")
    yield "```"


def table(document: Path, name: str) -> str:
    """The table called ``name``, as it ought to be in ``document``. Raises LookupError if there is no such table."""
    word, _space, argument = name.partition(" ")
    if name == "variables":
        lines = variables(document)
    elif word == "options":
        lines = module_options(argument)
    elif name == "exit codes":
        lines = exit_codes()
    elif word == "file":
        lines = file(argument)
    else:
        raise LookupError(f"{document.relative_to(ROOT)}: nobody knows how to write the table '{name}'")
    return "".join(f"{line}\n" for line in lines)


def rendered(document: Path) -> str:
    """The text of ``document`` with all its tables as they ought to be."""
    return MARKED.sub(lambda match: match[1] + table(document, match["name"]) + match[4], document.read_text(encoding="utf-8"))


def documents() -> list[Path]:
    return sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md"), ROOT / "README.md"])


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the tables of the documentation.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a table is out of date")
    check = parser.parse_args().check
    stale = 0
    for document in documents():
        wanted = rendered(document)
        if wanted == document.read_text(encoding="utf-8"):
            continue
        stale += 1
        if check:
            print(f"{document.relative_to(ROOT)} is out of date: run tests/tools/render_docs.py", file=sys.stderr)
        else:
            document.write_text(wanted, encoding="utf-8")
            print(f"{document.relative_to(ROOT)} is up to date again")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
