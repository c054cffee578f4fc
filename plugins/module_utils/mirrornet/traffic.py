# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a master's log says about its traffic, as counters for Prometheus.

Each line counts once, whatever happens in between: the counters and the place in the log up to which they count are one file, replaced whole.
What clients wrote into the log can't make a label: modules are those of the configuration, and everything else is a word of this room.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Callable

from . import lock, rsyncd_file
from .errors import Exit, Failure
from .files import read_json, replace, to_json
from .published import last_successes

#: The module of what belongs to none of the configuration's.
OTHER = "other"
#: Different modules that are counted in the life of a state; those that come later are OTHER.
MOST_MODULES = 1000
#: Connections whose module is remembered until they say how much they sent.
MOST_OPEN = 10000
#: After so many lines the state is written: a long backlog that is interrupted doesn't begin anew.
_BATCH = 50000

_HELP = {
    "connections": "Connections accepted.",
    "listings": "Requests for the list of modules.",
    "requests": "Transfers begun, by direction as the client sees it.",
    "refusals": "Connections refused, by reason.",
    "sent_bytes": "Bytes sent to clients.",
    "received_bytes": "Bytes received from clients.",
    "log_gaps": "Times that part of the log was gone before it was read.",
}
_LABELS = {"requests": ("module", "direction"), "refusals": ("module", "reason"), "sent_bytes": ("module",), "received_bytes": ("module",)}

# How rsync 3.2.3 to 3.5.0 begin the lines that count. A client's words come later in the line, if at all.
_PLAIN = re.compile(r"(?P<word>connect|module-list request) from ")
_ALLOWED = re.compile(r"rsync (?:allowed access|denied) on module (?P<module>.+?) from \S+ \(")
_REQUEST = re.compile(r"rsync (?P<way>on|to) (?P<request>.+)")
_BYTES = re.compile(r"sent (?P<sent>\d+) bytes  received (?P<received>\d+) bytes  total size \d+$")
_REFUSALS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("unknown_module", re.compile(r"unknown module '")),
    ("host", re.compile(r"rsync denied on module ")),
    ("login", re.compile(r"auth failed on module ")),
    ("full", re.compile(r"max connections \(-?\d+\) reached")),
    ("read_only", re.compile(r"ERROR: module is read only")),
    ("write_only", re.compile(r"ERROR: module is write only")),
    ("option", re.compile(r"(?:rsync: )?The server is configured to refuse ")),
    ("hook", re.compile(r"(?:early|pre-xfer) exec returned failure")),
    ("no_tree", re.compile(r"rsync: (?:\[\w+\] )?ch(?:dir|root) .* failed: ")),
)
_LOGIN = re.compile(r"auth failed on module (?P<module>.+?) from \S+ \(")
_FILE_LINE = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(?P<pid>\d+)\] (?P<text>.*)")

#: A counter: its name, and the values of its labels in the order of _LABELS.
Key = tuple[str, ...]
#: A line of the log: the process that wrote it, the text, and the place after it.
Line = tuple[str, str, dict[str, Any]]


@dataclass
class State:
    """What is counted, up to which place in the log."""

    counters: dict[Key, int] = field(default_factory=dict)
    #: The module that each open connection's process serves; the oldest first.
    serving: dict[str, str] = field(default_factory=dict)
    #: Whatever the log's reader needs to go on from here; empty before the first time.
    place: dict[str, Any] = field(default_factory=dict)

    def add(self, *key: str, count: int = 1) -> None:
        """Raise the counter that ``key`` names by ``count``: events, or bytes where the counter is of bytes."""
        self.counters[key] = self.counters.get(key, 0) + count

    def module(self, name: str | None, known: Sequence[str]) -> str:
        """``name`` if it may be a label."""
        if name is None or name not in known:
            return OTHER
        counted = {key[1] for key in self.counters if len(key) > 1}
        return name if name in counted or len(counted) < MOST_MODULES else OTHER

    def serve(self, pid: str, module: str) -> None:
        """Note that process ``pid`` serves ``module``; of too many, those that were noted first are forgotten."""
        self.serving.pop(pid, None)
        self.serving[pid] = module
        if len(self.serving) > MOST_OPEN:
            del self.serving[next(iter(self.serving))]

    def to_bytes(self) -> bytes:
        """The state as ``load`` reads it; equal states are equal bytes."""
        counters = [[*key, count] for key, count in sorted(self.counters.items())]
        return to_json({"format": 1, "counters": counters, "serving": list(self.serving.items()), "place": self.place})


def load(path: Path) -> State:
    """The state in ``path``, or a fresh one."""
    record = read_json(path)
    if record.get("format") != 1:
        return State()
    return State({tuple(key): count for *key, count in record["counters"]}, dict(record["serving"]), record["place"])


def count(state: State, pid: str, text: str, known: Sequence[str]) -> None:
    """Take one line of the log into the counters. ``known`` are the modules of the configuration."""
    plain = _PLAIN.match(text)
    if plain:
        state.serving.pop(pid, None)
        state.add("connections" if plain["word"] == "connect" else "listings")
        return
    named = _ALLOWED.match(text) or _LOGIN.match(text)
    if named:
        state.serve(pid, state.module(named["module"], known))
    asked = _REQUEST.match(text) if not named else None
    if asked:
        # A hook before the transfer makes another process serve than the one that let the client in.
        state.serve(pid, state.module(_requested(asked["request"], known), known))
        state.add("requests", state.serving[pid], "download" if asked["way"] == "on" else "upload")
        return
    reason = next((word for word, pattern in _REFUSALS if pattern.match(text)), None)
    if reason:
        state.add("refusals", state.serving.get(pid, OTHER), reason)
        return
    done = _BYTES.match(text)
    if done:
        module = state.serving.pop(pid, OTHER)
        state.add("sent_bytes", module, count=int(done["sent"]))
        state.add("received_bytes", module, count=int(done["received"]))


def _requested(request: str, known: Sequence[str]) -> str | None:
    """The module that a request begins with: ``MODULE/PATH from HOST (ADDRESS)``, where everything after MODULE is the client's."""
    fitting = [name for name in known if request.startswith((f"{name}/", f"{name} from "))]
    return max(fitting, key=len, default=None)


def render(state: State) -> bytes:
    """The counters in the text format of Prometheus. Equal counters are equal bytes."""
    lines = []
    for name, meaning in _HELP.items():
        metric = f"mirrornet_rsync_{name}_total"
        lines += [f"# HELP {metric} {meaning}", f"# TYPE {metric} counter"]
        values = {key[1:]: count for key, count in state.counters.items() if key[0] == name}
        if name not in _LABELS:
            values.setdefault((), 0)
        for words, value in sorted(values.items()):
            labels = ",".join(f'{label}="{_escaped(word)}"' for label, word in zip(_LABELS.get(name, ()), words))
            lines.append(f"{metric}{{{labels}}} {value}" if labels else f"{metric} {value}")
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def looks(successes: dict[str, float]) -> bytes:
    """When each tree was last looked at with success, in the same format."""
    metric = "mirrornet_publish_last_success_timestamp_seconds"
    lines = [f"# HELP {metric} When mirrornet publish last found the tree unchanged or published it.", f"# TYPE {metric} gauge"]
    lines += [f'{metric}{{name="{_escaped(name)}"}} {seconds:.0f}' for name, seconds in successes.items()]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _escaped(word: str) -> str:
    return word.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


# Where lines come from. A reader yields the lines after a place, and the place after each; none means "from now on".

#: A way to read a log: from a place on, and told how to say that something is lost.
Reader = Callable[[dict[str, Any], Callable[[], None]], Iterator[Line]]


def log_file(path: Path) -> Reader:
    """Lines of rsync's own log file, also of the one before when it was renamed in the meantime."""

    def lines(place: dict[str, Any], lost: Callable[[], None]) -> Iterator[Line]:
        inode, offset = place.get("inode"), int(place.get("offset", 0))
        try:
            # Opened before anything else is asked: from here on it is this file, whatever name rotation gives it.
            file = path.open("rb")
        except FileNotFoundError:
            # Not yet written, or renamed just now: there is nothing new but in the former file.
            if inode:
                yield from _rest_of_former(path, inode, offset, lost)
            else:
                yield "", "", {"inode": 0, "offset": 0}
            return
        with file:
            status = os.fstat(file.fileno())
            if inode is None:
                # Begin with what comes from now on; the whole past may be large, and in files that are gone.
                yield "", "", {"inode": status.st_ino, "offset": status.st_size}
                return
            if inode not in (0, status.st_ino):
                yield from _rest_of_former(path, inode, offset, lost)
            elif inode and offset > status.st_size:
                lost()
            if inode != status.st_ino or offset > status.st_size:
                offset = 0
                yield "", "", {"inode": status.st_ino, "offset": 0}
            yield from _lines_from(file, offset)

    return lines


def _rest_of_former(path: Path, inode: int, offset: int, lost: Callable[[], None]) -> Iterator[Line]:
    """What was added to the file that had ``path``'s place, before rotation gave it another name beside it."""
    for other in path.parent.glob(f"{path.name}*"):
        with other.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino == inode and offset <= status.st_size:
                yield from _lines_from(file, offset)
                return
    lost()
    yield "", "", {"inode": 0, "offset": 0}


def _lines_from(file: IO[bytes], offset: int) -> Iterator[Line]:
    inode = os.fstat(file.fileno()).st_ino
    file.seek(offset)
    for raw in file:
        if not raw.endswith(b"\n"):
            return  # still being written
        offset += len(raw)
        found = _FILE_LINE.match(raw.decode("utf-8", "replace").rstrip("\n"))
        if found:
            yield found["pid"], found["text"], {"inode": inode, "offset": offset}


def journal(units: Sequence[str], tag: str) -> Reader:
    """Entries of the journal under rsync's tag, from services that one of the patterns ``units`` fits: anybody can write under that tag."""

    def lines(place: dict[str, Any], lost: Callable[[], None]) -> Iterator[Line]:
        cursor = place.get("cursor")
        if cursor is None:
            for entry in _entries("--lines=1"):
                yield "", "", {"cursor": entry["__CURSOR"]}
            return
        for entry in _entries(f"--identifier={tag}", f"--after-cursor={cursor}"):
            after = {"cursor": entry["__CURSOR"]}
            if any(fnmatch.fnmatchcase(entry.get("_SYSTEMD_UNIT") or "", unit) for unit in units):
                yield str(entry.get("_PID") or ""), _message(entry.get("MESSAGE")), after
            else:
                yield "", "", after

    return lines


def _message(value: object) -> str:
    """The text of an entry; the journal writes bytes that aren't text as a list of numbers, and nothing for a very long one."""
    if isinstance(value, list):
        return bytes(byte for byte in value if isinstance(byte, int)).decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def _entries(*words: str) -> Iterator[dict[str, Any]]:
    argv = ["journalctl", "--quiet", "--no-pager", "--output=json", "--output-fields=MESSAGE,_PID,_SYSTEMD_UNIT", *words]
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints)
        except FileNotFoundError:
            remedy = "Have rsync write a file, and name it by --log-file."
            raise Failure("no_journal", Exit.LOCAL_IO, "There is no journalctl here.", remedy) from None
        with process:
            for raw in process.stdout or ():
                yield json.loads(raw)
        if process.returncode != 0:
            complaints.seek(0)
            said = complaints.read().decode("utf-8", "replace").strip() or f"exit code {process.returncode}"
            remedy = "May this account read the journal (group systemd-journal)?"
            raise Failure("journal", Exit.LOCAL_IO, f"journalctl failed: {said}.", remedy)


# The procedure.


def update(
    state_dir: Path, config: Path, read: Callable[[rsyncd_file.Configuration], Reader], output: Path | None, published: Path | None = None
) -> bytes:
    """Count what is new in the log, and write the metrics to ``output`` if that is given; returns them.

    ``published`` is a directory with the states of published trees, of which it is then told when each was last looked at with success.
    ``read`` makes the log's reader, given the configuration. Raises Failure; the counters are then as far as lines could be read.
    """
    conf = rsyncd_file.read(config)
    if not conf.files:
        raise Failure("config", Exit.CONFIG, f"{conf.oddities[0].text}.", "Name the server's rsyncd.conf by --config.")
    known = [module.name for module in conf.modules]
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with lock.exclusive(state_dir / "traffic.lock"):
            state = _counted(state_dir / "traffic.json", known, read(conf))
            metrics = render(state) + (looks(last_successes(published)) if published is not None else b"")
            if output is not None:
                replace(output, metrics, durable=False)
    except lock.Busy:
        raise Failure("busy", Exit.BUSY, "The log is being read already.", "Try again in a moment.") from None
    except OSError as error:
        raise Failure(
            "local_io", Exit.LOCAL_IO, f"{error.filename or state_dir}: {error.strerror}.", "The next call goes on from there."
        ) from error
    return metrics


def _counted(path: Path, known: Sequence[str], reader: Reader) -> State:
    """The state with everything counted that is new, as it now is in ``path`` as well."""
    state = load(path)
    saved = state.to_bytes()

    def save() -> None:
        nonlocal saved
        data = state.to_bytes()
        if data != saved:
            replace(path, data)
            saved = data

    try:
        for number, (pid, text, place) in enumerate(reader(state.place, lambda: state.add("log_gaps")), 1):
            if text:
                count(state, pid, text, known)
            state.place = place
            if number % _BATCH == 0:
                save()
    finally:
        save()
    return state
