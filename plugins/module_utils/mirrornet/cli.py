# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``mirrornet``.

What only rare commands need is imported when they are called: cron calls ``pull`` many times a day on every mirror.
"""

from __future__ import annotations

import os
import pwd
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from . import job, pull, report
from .errors import Exit, Failure
from .files import read_json, to_json
from .places import Places, chosen_places, default_places
from .record import TYPE_CHECKING, asdict

if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Union

    Arguments = Union[Namespace, SimpleNamespace]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _complain(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (``errors.Exit``)."""
    arguments = _arguments(list(sys.argv[1:] if argv is None else argv))
    places = chosen_places(arguments.config_dir, arguments.state_dir)
    try:
        return int(_COMMANDS[arguments.command](places, arguments))
    except Failure as failure:
        _complain(f"mirrornet: {failure}")
        return int(failure.exit_code)
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)


def _arguments(words: list[str]) -> Arguments:
    """What a command line says. What cron writes is read here: the parser takes a quarter of the time of a run that finds nothing."""
    rest = words
    directories: dict[str, str | None] = {"config_dir": None, "state_dir": None}
    while len(rest) > 2 and rest[0] in ("--config-dir", "--state-dir") and not rest[1].startswith("-"):
        directories[rest[0][2:].replace("-", "_")] = rest[1]
        rest = rest[2:]
    if rest[:2] == ["pull", "--quiet"] and len(rest) == 3 and not rest[2].startswith("-"):
        return SimpleNamespace(**directories, command="pull", job=rest[2], reseed=False, dry_run=False, quiet=True, json=False)
    from .arguments import parser

    return parser().parse_args(words)


def _load(places: Places, name: str) -> job.Job:
    """The job, with this process having become its account."""
    definition = job.load(places, name)
    _become(definition)
    os.umask(0o022)
    return definition


def _pull(places: Places, arguments: Arguments) -> int:
    definition = _load(places, arguments.job)
    if arguments.dry_run:
        return _dry_run(places, definition, arguments)
    return _tell(pull.pull(places, definition, os.uname().nodename, reseed=arguments.reseed), arguments)


def _verify(places: Places, arguments: Arguments) -> int:
    from . import verify

    definition = _load(places, arguments.job)
    done = verify.verify(places, definition, os.uname().nodename, percent=arguments.sample, repair=arguments.repair)
    return _tell(done, arguments)


def _tell(done: report.Report, arguments: Arguments) -> int:
    """Say how a run ended; ``--quiet`` leaves what a person needn't see, or has been told already."""
    if arguments.json:
        sys.stdout.write(to_json(asdict(done)).decode())
    elif done.outcome in ("failed", "held") or done.kind == "busy_too_long":
        if not arguments.quiet or done.is_news(time.time()):
            _complain(done.line())
    elif not arguments.quiet:
        _say(done.line())
    return done.exit_code


def _approve(places: Places, arguments: Arguments) -> int:
    from . import approval

    definition = _load(places, arguments.job)
    held = approval.approve(places, definition.name, arguments.hours)
    _say(f"{definition.name}: approved for {arguments.hours:g} h: {held} `mirrornet pull {definition.name}` does it now.")
    return int(Exit.OK)


def _roll_back(places: Places, arguments: Arguments) -> int:
    from . import approval, run, switch

    definition = _load(places, arguments.job)
    with run.locked(places, definition):
        release = switch.roll_back(Path(definition.target))
        approval.hold_back(places, definition.name)
    _say(f"{definition.name}: shows {release} again; runs are held until `mirrornet approve {definition.name}`.")
    return int(Exit.OK)


def _dry_run(places: Places, definition: job.Job, arguments: Arguments) -> int:
    expected = pull.dry_run(places, definition)
    if arguments.json:
        sys.stdout.write(to_json(asdict(expected)).decode())
    elif not arguments.quiet and expected.source is not None:
        for line in expected.items:
            _say(line)
        size, deletions = report.human(expected.size), expected.deletions
        _say(f"{definition.name}: from {expected.source}: {expected.files} files to bring, {size}; {deletions} entries to delete")
    if expected.outcome == "held":
        _complain(f"{definition.name}: would be held: {expected.message} {expected.remedy}")
        return int(Exit.HELD)
    return int(Exit.OK)


def _become(definition: job.Job) -> None:
    """Go on as the job's account: a run by root would leave files that the scheduled runs can't replace."""
    name = definition.user
    if name is None:
        return
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise Failure(
            "no_account",
            Exit.CONFIG,
            f"Job {definition.name} runs as account {name!r}, which this host doesn't have.",
            "Create it, or install the job again.",
        ) from None
    if account.pw_uid == os.geteuid():
        return
    if os.geteuid() != 0:
        raise Failure(
            "wrong_account",
            Exit.CONFIG,
            f"Job {definition.name} runs as account {name!r}, not as this one.",
            f"Call it as root or with `sudo -u {name}`.",
        )
    os.initgroups(name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.environ.update(HOME=account.pw_dir, USER=name, LOGNAME=name)
    os.chdir("/")


def _status(places: Places, arguments: Arguments) -> int:
    defined = job.names(places)
    unknown = sorted(set(arguments.jobs) - set(defined))
    if unknown:
        raise Failure(
            "definition",
            Exit.CONFIG,
            f"There is no job {', '.join(map(repr, unknown))} in {places.definitions}.",
            f"Jobs here: {', '.join(defined) or 'none'}.",
        )
    records = [_record(places, name) for name in arguments.jobs or defined]
    if arguments.json:
        sys.stdout.write(to_json({"jobs": records}).decode())
        return int(Exit.OK)
    if not records:
        _say(f"No job is defined in {places.definitions}.")
        system = default_places(uid=0)
        if places == default_places() != system and job.names(system):
            _say("Jobs of the system: `sudo mirrornet status`.")
        return int(Exit.OK)
    rows = [("JOB", "STATE", "LAST RUN", "LAST COMPLETE", "ENTRIES", "WHAT")]
    rows += [(r["job"], r["state"], r["finished"] or "-", r["last_complete"] or "-", str(r["entries"] or "-"), r["what"]) for r in records]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        _say("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[5]]).rstrip())
    return int(Exit.OK)


def _record(places: Places, name: str) -> dict[str, Any]:
    """How one job is: its last report, and whether a run is at work or was killed since."""
    last: dict[str, Any] = {
        "outcome": None,
        "finished": None,
        "last_complete": None,
        "entries": None,
        "source": None,
        "message": "",
        "remedy": "",
    }
    last.update(read_json(places.report(name)))
    last["job"] = name
    state, what = last["outcome"] or "never ran", f"{last['message']} {last['remedy']}".strip() or str(last["source"] or "")
    working, killed = report.at_work(places, name), report.was_interrupted(places, name)
    if working:
        size = report.human(float(working.get("size") or 0))
        state, what = (
            "running",
            f"since {working.get('started')}, phase {working.get('phase')}, {size} so far, process {working['owner']['pid']}",
        )
    elif killed:
        state, what = (
            "interrupted",
            f"the run of {killed.get('started')} was killed in phase {killed.get('phase')}; the next run goes on from there",
        )
    # What goes wrong with handing in a report is no part of the run, and so not of the report.
    handed_in = read_json(places.handed_in(name)) or None
    if handed_in and handed_in.get("message"):
        what = f"{what}; report not handed in: {handed_in['message']}".lstrip("; ")
    return {**last, "state": state, "what": what, "handed_in": handed_in}


def _publish(places: Places, arguments: Arguments) -> int:
    from . import publish

    os.umask(0o022)
    tree = Path(arguments.tree).absolute()
    wish = publish.Wish(
        tree=tree,
        name=publish.usual_name(places, tree) if arguments.name is None else arguments.name,
        exclude=tuple(arguments.exclude),
        key=Path(arguments.sign_key).absolute() if arguments.sign_key else None,
        keep=arguments.keep,
        anew=arguments.anew,
        settle=arguments.settle,
    )
    progress = publish.Terminal(sys.stderr) if sys.stderr.isatty() and not arguments.quiet else None
    if arguments.file_list is None:
        done = publish.publish(places, wish, progress or (lambda digested: None))
    else:
        from . import publish_list

        done = publish_list.publish_with_list(places, wish, arguments.file_list, progress or (lambda digested: None))
    if progress is not None:
        progress.clear()
    news = publish.is_news(places, done, time.time())
    if arguments.json:
        sys.stdout.write(to_json(asdict(done)).decode())
    elif done.exit_code and (news or not arguments.quiet):
        _complain(done.line())
    elif not arguments.quiet:
        _say(done.line())
    return done.exit_code


def _traffic(places: Places, arguments: Arguments) -> int:
    from . import traffic
    from .rsyncd_file import Configuration

    def reader(configuration: Configuration) -> traffic.Reader:
        if arguments.log_file:
            return traffic.log_file(Path(arguments.log_file))
        tag = configuration.defaults.get("syslog tag")
        return traffic.journal(arguments.unit or ["mirrornet-rsyncd*"], tag.value if tag else "rsyncd")

    output = Path(arguments.output) if arguments.output else None
    published = Path(arguments.published) if arguments.published else None
    metrics = traffic.update(places.state_dir, Path(arguments.config), reader, output, published)
    if output is None:
        sys.stdout.write(metrics.decode())
    return int(Exit.OK)


_COMMANDS = {
    "approve": _approve,
    "publish": _publish,
    "pull": _pull,
    "rollback": _roll_back,
    "status": _status,
    "traffic": _traffic,
    "verify": _verify,
}
