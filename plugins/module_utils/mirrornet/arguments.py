# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be written after ``mirrornet``."""

from __future__ import annotations

import argparse
import contextlib
import os

from . import __version__
from .record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    _Commands = argparse._SubParsersAction["_Parser"]

#: Longest time that an approval may be given for, a year: one that never ends would be forgotten, and let the same loss through again.
_MOST_HOURS = 8760


class _Help(argparse.HelpFormatter):
    """Help as wide as the terminal, found out without shutil: argparse makes one of these for each option of every run, helped or not."""

    def __init__(self, prog: str) -> None:
        try:
            width = os.get_terminal_size().columns
        except (OSError, ValueError):
            width = 80
        super().__init__(prog, width=max(width - 2, 40))


class _Parser(argparse.ArgumentParser):
    def __init__(self, **words: Any) -> None:
        super().__init__(formatter_class=_Help, **words)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``command`` among what it finds says which one."""
    words = _Parser(prog="mirrornet", description="Keep trees in step with their rsync sources, safely.")
    words.add_argument("--version", action="version", version=f"mirrornet {__version__}")
    words.add_argument("--config-dir", metavar="DIR", help="where jobs are defined (default: /etc/mirrornet, or ~/.config/mirrornet)")
    words.add_argument(
        "--state-dir", metavar="DIR", help="where locks and reports are (default: /var/lib/mirrornet, or ~/.local/state/mirrornet)"
    )
    commands = words.add_subparsers(required=True, metavar="COMMAND")
    for add in (_pull, _approve, _verify, _rollback, _status, _publish, _traffic):
        add(commands)
    return words


def _pull(commands: _Commands) -> None:
    pulling = commands.add_parser("pull", help="run a job now, unless it runs already")
    pulling.add_argument("job", metavar="JOB")
    what = pulling.add_mutually_exclusive_group()
    what.add_argument("--reseed", action="store_true", help="begin with the seed sources, as the first copy does")
    what.add_argument(
        "--dry-run", action="store_true", help="say what a run would bring and delete, and whether a guard would hold it; change nothing"
    )
    how = pulling.add_mutually_exclusive_group()
    how.add_argument("--quiet", action="store_true", help="write only what a person must see: a run that failed or is held (for cron)")
    how.add_argument("--json", action="store_true", help="write the report as JSON")
    pulling.set_defaults(command="pull")


def _approve(commands: _Commands) -> None:
    approving = commands.add_parser("approve", help="let exactly the change through that the last run was held for, once")
    approving.add_argument("job", metavar="JOB")
    approving.add_argument(
        "--hours", type=_hours, default=24, metavar="N", help="after how many hours it expires (default: 24, at most 8760)"
    )
    approving.set_defaults(command="approve")


def _verify(commands: _Commands) -> None:
    verifying = commands.add_parser("verify", help="compare the tree with its source by content")
    verifying.add_argument("job", metavar="JOB")
    verifying.add_argument("--sample", type=_percent, default=100, metavar="PERCENT", help="only this share of the files, taken at random")
    verifying.add_argument("--repair", action="store_true", help="bring what differs")
    output = verifying.add_mutually_exclusive_group()
    output.add_argument("--quiet", action="store_true", help="write only what a person must see (for cron)")
    output.add_argument("--json", action="store_true", help="write the report as JSON")
    verifying.set_defaults(command="verify")


def _rollback(commands: _Commands) -> None:
    rolling = commands.add_parser(
        "rollback", help="show the former release again (jobs with `switch`), and hold the job until it is approved"
    )
    rolling.add_argument("job", metavar="JOB")
    rolling.set_defaults(command="rollback")


def _status(commands: _Commands) -> None:
    status = commands.add_parser("status", help="show how the jobs are")
    status.add_argument("jobs", metavar="JOB", nargs="*")
    status.add_argument("--json", action="store_true", help="write the reports as JSON")
    status.set_defaults(command="status")


def _publish(commands: _Commands) -> None:
    publishing = commands.add_parser("publish", help="on a master: tell mirrors what is in a tree, if it has changed")
    publishing.add_argument("tree", metavar="TREE", help="the top directory of the tree")
    publishing.add_argument("--name", help="what its state is kept under (default: one made of its path)")
    publishing.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave out what mirrors don't get; an rsync pattern of the simple kind",
    )
    publishing.add_argument("--sign-key", metavar="FILE", help="sign the head with this private key of SSH")
    publishing.add_argument("--file-list", metavar="NAME", help="also write Fedora's list of files, under this name at the top of the tree")
    publishing.add_argument("--keep", metavar="N", type=int, default=64, help="for how many serials mirrors find deltas (default: 64)")
    publishing.add_argument(
        "--settle", metavar="SECONDS", type=float, default=5.0, help="publish only what has been left alone for so long (default: 5)"
    )
    publishing.add_argument("--anew", action="store_true", help="read every file again, and begin a new epoch")
    telling = publishing.add_mutually_exclusive_group()
    telling.add_argument("--quiet", action="store_true", help="write only what a person must see (for cron)")
    telling.add_argument("--json", action="store_true", help="write the report as JSON")
    publishing.set_defaults(command="publish")


def _traffic(commands: _Commands) -> None:
    traffic = commands.add_parser("traffic", help="count connections, refusals and bytes in a master's log, for Prometheus")
    traffic.add_argument(
        "--config", metavar="FILE", default="/etc/rsyncd.conf", help="the server's configuration (default: /etc/rsyncd.conf)"
    )
    traffic.add_argument("--log-file", metavar="FILE", help="read this file, which rsync writes, instead of the journal")
    traffic.add_argument(
        "--unit",
        metavar="PATTERN",
        action="append",
        help="count entries of the journal by services of this name only (default: mirrornet-rsyncd*)",
    )
    traffic.add_argument(
        "--published", metavar="DIR", help="tell also when trees whose states are in this directory were last looked at with success"
    )
    traffic.add_argument("--output", metavar="FILE", help="replace this file instead of writing to standard output")
    traffic.set_defaults(command="traffic")


def _percent(text: str) -> float:
    return _number(text, 100)


def _hours(text: str) -> float:
    return _number(text, _MOST_HOURS)


def _number(text: str, most: float) -> float:
    """A number above 0 and up to ``most``, which ``nan`` and ``inf`` are not."""
    with contextlib.suppress(ValueError):
        value = float(text)
        if 0 < value <= most:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and up to {most:g}")
