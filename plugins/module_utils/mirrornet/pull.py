# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pull: bring a job's tree in step with one of its sources, or leave it as it is and say why."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container
from pathlib import Path

from . import approval, child, fast, guard, report, rsync, source, switch
from .errors import Exit, Failure
from .files import read_json
from .job import Job
from .places import IN_TREE, Places
from .record import TYPE_CHECKING, dataclass, field, replace
from .report import Report
from .rsync import Mode
from .run import Run, idle_of, under_lock
from .source import Plan

if TYPE_CHECKING:
    from typing import TypeVar

    _Answer = TypeVar("_Answer")

#: A source that changes between plan and transfer makes the plan void; then a run plans once more.
_ROUNDS = 2


def pull(places: Places, job: Job, host: str, *, reseed: bool = False) -> Report:
    """One run of ``job``, under its lock; with ``reseed`` it begins with the seed sources. Returns the report, which is on disk too."""
    return under_lock(places, job, host, lambda run: _with_retries(run, reseed))


def _with_retries(run: Run, reseed: bool) -> None:
    """Start over after failures that pass by themselves, with pauses that grow and that differ from host to host."""
    pause = float(run.job.retry_pause)
    for left in range(run.job.retries, -1, -1):
        try:
            return _procedure(run, reseed)
        except Failure as failure:
            import random  # Late, as most runs have no use for it.

            wait = pause * random.SystemRandom().uniform(0.5, 1.5)
            if not failure.passing or left == 0 or wait > run.left:
                raise
            run.recorder.phase("pause")
            run.recorder.log(f"Trying again in {wait:.0f} s: {failure}")
            time.sleep(wait)
            pause *= 2
    return None


def _procedure(run: Run, reseed: bool) -> None:
    """The run itself. Each step leads to the next or ends the run with a Failure."""
    job, record = run.job, run.record
    run.recorder.phase("check")
    record.passed_over.clear()
    look_at_target(run)
    _stop_if(run, guard.rolled_back(job, held=approval.is_held_back(run.places, job.name)))
    _own_directory(Path(job.tree))
    if job.seed_sources and (reseed or record.last_complete is None):
        _seed(run)

    record.outcome, updated = "failed", False
    for dummy in range(_ROUNDS + fast.FALLS):
        plan = choose(run)
        if plan is None or plan.is_empty:
            break
        judge(run, plan)
        updated = True
        if transfer(run, plan):
            break
    else:
        message = (
            f"{record.source} changed while it was read, again and again; what it had is here, and nothing was deleted beyond the plan."
        )
        raise Failure("source_changed", Exit.INCOMPLETE, message, "The next run goes on from here.")

    if plan is not None:
        complete(run)
    record.outcome = "updated" if updated else "unchanged"


# Choosing a source


def choose(run: Run) -> Plan | None:
    """The plan from the first source that can be used; None if its check file says that nothing is new. Raises Failure if none can be."""
    return _first(run, run.job.sources, lambda origin: _ask(run, origin))


def _ask(run: Run, origin: str) -> Plan | None:
    """What a source has to say, by the cheapest way that it offers."""
    # Its age counts also for a source with a head.
    known = _is_known(run, origin) if run.job.stale_after else None
    plan = _follow(run, origin)
    if plan is not None:
        _fresh_check_file(run).unlink(missing_ok=True)
        return plan
    if _is_known(run, origin) if known is None else known:
        run.record.way = "check_file"
        return None
    if run.job.file_list is not None:
        from . import foreign  # Late, as most jobs have no use for it.

        plan = foreign.ask(run, origin)
    return make_plan(run, origin, Mode(delete=True)) if plan is None else plan


def _follow(run: Run, origin: str, thorough: Container[bytes] | None = None) -> Plan | None:
    """What it takes to make the tree the one that a source publishes; None if everything has to be compared. Raises Failure."""
    answer = fast.ask(run, origin, closely=thorough is not None)
    if isinstance(answer, fast.News):
        from . import follow  # Late, as most runs end before.

        return follow.plan(run, origin, answer.data, due=answer.due, thorough=thorough)
    return answer


def choose_by(run: Run, mode: Mode) -> Plan:
    """The plan of a transfer of this mode, listed in the log, from the first source that can be used. Raises Failure if none can be."""
    return _first(run, run.job.sources, lambda origin: make_plan(run, origin, mode, listed=True))


def choose_followed(run: Run, thorough: Container[bytes]) -> Plan | None:
    """What makes the tree the one that a source publishes, with the content of the paths in ``thorough`` read. Raises Failure if none can be used."""
    return _first(run, run.job.sources, lambda origin: _follow(run, origin, thorough))


def _first(run: Run, sources: tuple[str, ...], ask: Callable[[str], _Answer]) -> _Answer:
    """The answer of the first source that has one; why others were passed over goes into the record."""
    failures: list[tuple[str, Failure]] = []
    for origin in source.in_order(run.job, sources):
        try:
            answer = ask(origin)
        except Failure as failure:
            run.recorder.log(str(failure))
            failures.append((origin, failure))
            run.record.passed_over.append({"source": origin, "kind": failure.kind, "message": failure.message})
            if failure.kind not in rsync.OF_THE_SOURCE:
                raise
            continue
        run.record.source = origin
        return answer
    raise source.none_left(failures)


def make_plan(run: Run, origin: str, mode: Mode, *, listed: bool = False) -> Plan:
    """What a transfer of this mode from ``origin`` would do, by rsync's dry run. Raises Failure if the source can't be used."""
    run.recorder.phase("plan")
    mode = _as_listed_for(run, origin, mode)
    plan = Plan(origin, rsync.Tally())

    def take(line: str) -> None:
        plan.take(line)
        if listed:
            run.recorder.log(line)

    ended = run.rsync(rsync.argv(run.program, run.job, origin, _compared_tree(run.job), mode, dry_run=True), origin, take)
    _finish_plan(plan, ended, run.job)
    run.record.entries = plan.tally.entries
    run.record.received += plan.tally.received
    if mode.delete:
        run.record.last_compared = report.utc(time.time())
    return plan


def _as_listed_for(run: Run, origin: str, mode: Mode) -> Mode:
    """The same with the list of names, if there is one, as this source understands it."""
    if mode.files_from is None:
        return mode
    names = run.places.state(run.job.name) / "names"
    rsync.list_names(names, origin, mode.files_from.read_bytes().split(b"\0")[:-1])
    return replace(mode, files_from=names)


def _finish_plan(plan: Plan, ended: child.Ended, job: Job) -> None:
    failure = rsync.failure(ended, plan.source, job.target)
    if failure is not None and failure.kind == "incomplete":
        plan.whole = False
    elif failure is not None:
        raise failure


def _is_known(run: Run, origin: str) -> bool:
    """Whether the source's check file is the one that the tree was completed with.

    Three answers, of which only one is yes: the same; another one; could not tell, which is for the comparison of everything to find out.
    A source that can't be reached or is stale raises Failure.
    """
    job, record = run.job, run.record
    if job.check_file is None:
        return False
    run.recorder.phase("check file")
    fresh, known = _fresh_check_file(run), run.places.check_file(job.name)
    fresh.unlink(missing_ok=True)
    ended = run.fetch(rsync.fetch(run.program, job, origin, str(fresh), job.check_file), origin)
    failure = rsync.failure(ended, origin, job.target)
    if failure is not None and failure.kind != "incomplete":
        raise failure
    if not fresh.is_file():
        run.recorder.log(f"{origin} has no readable {job.check_file}: comparing everything.")
        return False
    old = source.stale(job, origin, time.time() - fresh.stat().st_mtime)
    if old is not None:
        raise old
    return not fast.is_due(run) and not record.unfinished and known.is_file() and known.read_bytes() == fresh.read_bytes()


def _fresh_check_file(run: Run) -> Path:
    path = run.places.check_file(run.job.name)
    return path.with_name(f"{path.name}.new")


def _compared_tree(job: Job) -> str:
    """What a plan compares a source with: the tree, or before the first release the directory that is to become it."""
    if not job.switch:
        return job.tree
    target = Path(job.target)
    return str(switch.shown(target) or switch.next_release(target))


# Transferring


def transfer(run: Run, plan: Plan) -> bool:
    """Carry out a plan that the guards agreed to; False if the source has changed since. Raises Failure if not all of it was done.

    First what is new, then the index files, then the deletions, and of these never more than the plan said. From a source that can't read
    all of its tree only new data is taken, and nothing is deleted.
    """
    job = run.job
    if plan.carry_out is not None:
        return plan.carry_out()
    run.record.unfinished = True
    if job.switch:
        return _transfer_beside(run, plan)
    if job.index_patterns:
        stage(run, plan, "transfer", Mode(leave=job.index_patterns))
    last = "finish" if job.index_patterns else "transfer"
    return stage(run, plan, last, Mode(delete=plan.whole, max_delete=plan.tally.deletions)) is not None


def _transfer_beside(run: Run, plan: Plan) -> bool:
    """Put the next release together beside the one that is shown, and show it if it is what was planned."""
    target = Path(run.job.target)
    former, release = switch.shown(target), switch.next_release(target)
    release.mkdir(parents=True, exist_ok=True)
    switch.unshare(release)
    _own_directory(release)
    mode = Mode(delete=plan.whole, link_dest=str(former) if former else None)
    done = stage(run, plan, "transfer", mode, into=str(release))
    if done is None or done.entries != plan.tally.entries:
        return False
    switch.show_next(target)
    run.record.deletions = plan.tally.deletions
    return True


def stage(run: Run, plan: Plan, phase: str, mode: Mode, *, into: str | None = None) -> rsync.Tally | None:
    """One stage of a transfer, begun anew whenever another bandwidth limit comes into force.

    Returns what the last call did, None if the source lacks more than the plan allows to delete. Raises Failure if it isn't complete.
    """
    job = run.job
    mode = _as_listed_for(run, plan.source, mode)
    fast.forget(run)

    def command(limit: int) -> list[str]:
        return rsync.argv(run.program, job, plan.source, into or job.tree, mode, bandwidth=limit)

    tally, ended = run.transfer(phase, plan.source, command)
    if ended.code == 25 and plan.whole:
        return None
    failure = rsync.failure(ended, plan.source, job.target)
    if failure is not None:
        if failure.kind == "disk_full":
            # What arrived can't be shown without the rest, and whatever else is on that disk needs the room.
            _clear_leftovers(job)
        raise failure
    return tally


def _seed(run: Run) -> None:
    """The first copy, from the seed sources: brings what they have and deletes nothing. If none can be used, the sources do it all."""
    try:
        plan = _first(run, run.job.seed_sources, lambda origin: make_plan(run, origin, Mode()))
    except Failure as failure:
        if failure.kind != "no_source" and failure.kind not in rsync.OF_THE_SOURCE:
            raise
        return
    if plan.is_empty:
        return
    _stop_if(run, guard.no_room(run.job, plan))
    run.record.unfinished = True
    if run.job.switch:
        switch.next_release(Path(run.job.target)).mkdir(parents=True, exist_ok=True)
    stage(run, plan, "seed", Mode(), into=_compared_tree(run.job))


# Before and after


def look_at_target(run: Run) -> None:
    """Before anything else is done: the target can be worked in, and is the one that is meant. Raises Failure."""
    guard.usable_target(Path(run.job.target))
    _stop_if(run, guard.right_target(run.job, complete_before=run.record.last_complete is not None))


def judge(run: Run, plan: Plan) -> None:
    """Let the guards see a plan. Raises Failure if it must not be carried out."""
    # A plan that came to nothing may have deleted something before: the limits are for the run.
    gone = max(run.record.deletions - run.agreed, 0)
    held = guard.hold(run.job, plan, gone)
    if held is not None and held.kind == "no_room" and run.record.unfinished and _clear_leftovers(run.job):
        # What an interrupted run had brought may be what fills the disk.
        held = guard.hold(run.job, plan, gone)
    _stop_if(run, held)
    if held is not None:
        run.agreed += plan.tally.deletions


def _stop_if(run: Run, held: guard.Hold | None) -> None:
    """Stop a run that must not go on, unless an operator has agreed to just this. Raises Failure."""
    if held is None:
        return
    name = run.job.name
    if not _stops(run.places, run.job, held):
        run.recorder.log(f"An operator has approved: {held.message}")
        return
    if held.digest is not None:
        approval.remember(run.places, name, held.kind, held.digest, held.message)
    raise held.failure()


def _own_directory(tree: Path) -> None:
    """Make the directory for reports before rsync compares: making it later would change the time of the tree's top."""
    if not tree.is_dir():
        return  # The first release of a job with ``switch`` is yet to come.
    try:
        (tree / IN_TREE).mkdir(exist_ok=True)
    except OSError as error:
        message = f"{tree / IN_TREE} can't be made: {error.strerror}."
        raise Failure("target_not_writable", Exit.TARGET, message, "Is the file system full or mounted read-only?") from error


def complete(run: Run) -> None:
    """The tree is in step: nothing of former runs is needed any more, and the check file that was read first is ours now."""
    if run.record.unfinished:
        _clear_leftovers(run.job)
        run.record.unfinished = False
    approval.used(run.places, run.job.name)
    fresh = _fresh_check_file(run)
    if run.job.check_file is not None and fresh.is_file():
        fresh.replace(run.places.check_file(run.job.name))
    if run.job.file_list is not None:
        from . import foreign

        foreign.adopt(run)


def _clear_leftovers(job: Job) -> bool:
    """Remove what interrupted runs have left; whether there was anything."""
    found = rsync.leftovers(Path(job.target))
    if job.switch and switch.next_release(Path(job.target)).is_dir():
        found.append(switch.next_release(Path(job.target)))
    import shutil  # Late, as most runs have nothing to remove.

    for directory in found:
        shutil.rmtree(directory, ignore_errors=True)
    return bool(found)


# Without a run


@dataclass
class Expected:
    """What a run would do; the words are those of a report. It has no source if a guard would hold it before any is asked."""

    job: str
    outcome: str
    kind: str | None = None
    message: str = ""
    remedy: str = ""
    source: str | None = None
    #: rsync's itemised lines.
    items: list[str] = field(default_factory=list)
    files: int = 0
    size: int = 0
    deletions: int = 0


def dry_run(places: Places, job: Job) -> Expected:
    """What a run would do, by rsync's comparison with the first source that can be used. Needs no lock and writes nothing. Raises Failure.

    What spares a run that comparison isn't asked: heads, signatures, check files, lists of files, seeds.
    """
    guard.usable_target(Path(job.target))
    complete_before = read_json(places.report(job.name)).get("last_complete") is not None
    holds = (
        guard.right_target(job, complete_before=complete_before),
        guard.rolled_back(job, held=approval.is_held_back(places, job.name)),
    )
    held = next((hold for hold in holds if _stops(places, job, hold)), None)
    if held is not None:
        return Expected(job.name, "held", held.kind, held.message, held.remedy)
    plan, lines = _plan_of_first(job)
    tally = plan.tally
    expected = Expected(job.name, "unchanged" if plan.is_empty else "updated", source=plan.source, items=lines)
    expected.files, expected.size, expected.deletions = tally.files, tally.size, tally.deletions
    held = guard.hold(job, plan)
    if held is not None and _stops(places, job, held):
        expected.outcome, expected.kind, expected.message, expected.remedy = "held", held.kind, held.message, held.remedy
    return expected


def _stops(places: Places, job: Job, held: guard.Hold | None) -> bool:
    """Whether a run would stop there: there is something to stop for, and no operator has agreed to just this."""
    return held is not None and (held.digest is None or not approval.is_given(places, job.name, held.kind, held.digest))


def _plan_of_first(job: Job) -> tuple[Plan, list[str]]:
    program = rsync.find()
    failures: list[tuple[str, Failure]] = []
    for origin in source.in_order(job, job.sources):
        try:
            return _plan_without_run(program, job, origin)
        except Failure as failure:
            if failure.kind not in rsync.OF_THE_SOURCE:
                raise
            failures.append((origin, failure))
    raise source.none_left(failures)


def _plan_without_run(program: str, job: Job, origin: str) -> tuple[Plan, list[str]]:
    plan, lines = Plan(origin, rsync.Tally()), list[str]()

    def take(line: str) -> None:
        plan.take(line)
        if rsync.parse_item(line):
            lines.append(line)

    with Path(os.devnull).open("rb") as nothing:
        ended = child.call(
            rsync.argv(program, job, origin, _compared_tree(job), Mode(delete=True), dry_run=True),
            environment=rsync.environment(job, origin),
            seconds=job.time_limit,
            idle=idle_of(job),
            lock_fd=nothing.fileno(),
            on_output=take,
            on_error=lambda line: None,
        )
    _finish_plan(plan, ended, job)
    return plan, lines
