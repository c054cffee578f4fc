# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program rsync: which one, how it is called, what it prints, what its exit codes mean. It runs in the room ``child``."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from . import location
from .child import Ended
from .errors import Exit, Failure
from .files import read_json, replace, to_json
from .job import Job
from .places import IN_TREE
from .record import dataclass

#: --stats and --out-format as they are parsed here, and --contimeout.
OLDEST = (3, 1, 0)

#: Where --delay-updates keeps what has arrived until all of it has; a name that mirror operators know.
PARTIAL_DIR = ".~tmp~"

#: Bytes of a foreign list of files; Fedora's largest has one and a half thousand million.
LARGEST_LIST = 4 << 30

#: Bytes of a file that rsync sends as a whole: less than it takes to find out what would be spared.
SMALL = 4096

#: Options for what Tally reads.
_STATED = ("--stats", "--no-human-readable", "--out-format=%i|%l|%n%L")

# Patterns are compiled where they are needed first, which in most runs is nowhere.
_VERSION = r"^rsync\s+version\s+v?(\d+)\.(\d+)(?:\.(\d+))?"
_FILES = r"Number of files: (\d+)(?: \(([^)]*)\))?"
_RECEIVED = "Total bytes received: "


def find(memory: Path | None = None) -> str:
    """The path of an rsync that is new enough. Raises Failure (kind ``rsync_missing``, ``rsync_too_old`` or ``not_rsync``).

    ``memory`` is a file that remembers which program was good, so that it isn't asked for its version before every run.
    """
    # As shutil.which does, without the milliseconds that importing it costs every run.
    programs = [f"{directory or '.'}/rsync" for directory in os.environ.get("PATH", os.defpath).split(os.pathsep)]
    path = next((program for program in programs if os.access(program, os.X_OK) and not Path(program).is_dir()), None)
    if path is None:
        raise Failure("rsync_missing", Exit.RSYNC, "The program rsync is not on this host's PATH.", "Install the package rsync.")
    known = _identity(path)
    if memory is None or read_json(memory) != known:
        _refuse_unless_new_enough(path)
        if memory is not None:
            replace(memory, to_json(known), durable=False)
    return path


def takes(program: str, option: str) -> bool:
    """Whether an rsync knows an option, which distributions also give to older versions."""
    return (
        subprocess.run([program, option, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False).returncode
        == 0
    )


def _identity(path: str) -> dict[str, object]:
    """What changes whenever the program is another one: an upgrade replaces the file."""
    found = Path(path).stat()
    return {"path": path, "device": found.st_dev, "inode": found.st_ino, "size": found.st_size, "changed": found.st_ctime_ns}


def _refuse_unless_new_enough(path: str) -> None:
    try:
        output = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure("not_rsync", Exit.RSYNC, f"{path} --version doesn't work: {error}.", "Install the package rsync again.") from error
    first = output.decode("utf-8", "replace").partition("\n")[0]
    match = re.match(_VERSION, first)
    if match is None:
        raise Failure(
            "not_rsync",
            Exit.RSYNC,
            f"{path} calls itself {first!r}, which is not rsync.",
            "Install rsync from samba.org (the package rsync).",
        )
    version = tuple(int(part or 0) for part in match.groups())
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise Failure(
            "rsync_too_old",
            Exit.RSYNC,
            f"{path} is rsync {'.'.join(map(str, version))}, older than {oldest}.",
            f"Install rsync {oldest} or later.",
        )


@dataclass(frozen=True)
class Mode:
    """What one call of rsync is for."""

    #: Whether entries that the source doesn't have are deleted, and how many at most.
    delete: bool = False
    max_delete: int | None = None
    #: Patterns that stay as they are this time.
    leave: tuple[str, ...] = ()
    #: Whether files are compared by content instead of by size and time.
    checksum: bool = False
    #: A file of names, each ended by NUL, to which the call is limited.
    files_from: Path | None = None
    #: Whether a directory among them comes without what it holds.
    flat: bool = False
    #: A tree whose equal files are linked instead of copied.
    link_dest: str | None = None


def argv(program: str, job: Job, source: str, target: str, mode: Mode, *, dry_run: bool = False, bandwidth: int = 0) -> list[str]:
    """The command that brings ``target`` in step with ``source``, or only says what it would do. ``bandwidth`` is in KiB/s, 0 for no limit.

    ``-aH`` without owner, group, devices and special files: those need root and have no place in a tree from the network. Updates become
    visible together at the end and deletions come after them, so that an index never names a file that isn't there yet.
    """
    depth = "--dirs" if mode.flat else "--recursive"
    command = [*_prefix(job), *_program(program, source), depth, "--links", "--perms", "--times", "--hard-links"]
    command += ["--delay-updates", f"--partial-dir={PARTIAL_DIR}"]
    # The first filter rule that matches wins: our own directory comes before the job's patterns. Without a slash at its end the rule also
    # keeps out a file or symlink of that name, which would take the directory's place.
    command += [f"--exclude=/{IN_TREE}", *(f"--exclude={pattern}" for pattern in mode.leave)]
    command += [*(f"--filter={rule}" for rule in job.filters), *(f"--exclude={pattern}" for pattern in job.exclude)]
    command += _STATED
    if mode.delete:
        # Whatever the source does meanwhile, no more is deleted than a guard has agreed to.
        command += ["--delete-after", *([] if mode.max_delete is None else [f"--max-delete={mode.max_delete}"])]
    if mode.files_from is not None:
        command += [f"--files-from={mode.files_from}", "--from0"]
    command += [f"--bwlimit={bandwidth}"] if bandwidth else []
    command += [f"--link-dest={mode.link_dest}"] if mode.link_dest else []
    command += ["--checksum"] if mode.checksum else []
    command += ["--dry-run"] if dry_run else []
    where = location.parse(source)
    whence = where.listed()[0] if mode.files_from is not None else where.argument
    return [*command, *job.rsync_options, *_connection(job, source), "--", whence, target.rstrip("/") + "/"]


def fetch(program: str, job: Job, source: str, into: str, *names: str) -> list[str]:
    """The command that brings a small file of the tree to ``into``, or several into a directory, whose name ends with a slash; nothing else.

    One that is there already with the source's size and time counts as the same.
    """
    where = location.parse(source).argument
    return [
        *_prefix(job),
        *_program(program, source),
        "--times",
        "--chmod=F600",
        "--max-size=8m",
        *_STATED,
        *_connection(job, source),
        "--",
        *(where + name for name in names),
        into,
    ]


def fetch_some(program: str, job: Job, source: str, directory: str, names: Path, into: Path, most: int) -> list[str]:
    """The command that brings the files of ``directory`` in the tree that ``names`` lists, if they are at most ``most`` bytes long."""
    command = [*_prefix(job), *_program(program, source), "--times", f"--max-size={most}", f"--files-from={names}", "--from0"]
    return [*command, *_STATED, *_connection(job, source), "--", location.parse(source).listed(directory)[0], f"{into}/"]


def list_names(path: Path, source: str, names: Iterable[bytes], below: str = "") -> None:
    """Write the names of files in the directory ``below`` of a source's tree as ``fetch_some`` and ``bring`` want them. Raises OSError."""
    before = location.parse(source).listed(below)[1]
    with path.open("wb") as file:
        file.writelines(before + name + b"\0" for name in names)


def bring(
    program: str, job: Job, source: str, names: Path, into: Path, most: int, *, is_flat: bool, trusting: bool, bandwidth: int
) -> list[str]:
    """The command that brings the content of the files in ``names`` below ``into``, which nobody else can read, and nothing but regular files.

    No equal time or size is trusted. What the tree has of a file saves sending all of it, unless even the largest, of ``most`` bytes, is so
    small that looking for it would cost both sides more. With ``is_flat`` all of them are small, and come without their directories.
    With ``trusting`` rsync doesn't hold each name that comes against all that were asked for, which takes time with the square of their number.
    """
    command = [*_prefix(job), *_program(program, source), "--perms", "--chmod=F600,D700", "--partial"]
    command += ["--ignore-times", f"--max-size={most}", f"--files-from={names}", "--from0", *_STATED]
    command += ["--no-relative"] if is_flat else ["--no-implied-dirs"]
    command += ["--trust-sender"] if trusting else []
    command += ["--whole-file"] if most <= SMALL else [f"--copy-dest={job.tree}"]
    command += [f"--bwlimit={bandwidth}"] if bandwidth else []
    return [*command, *job.rsync_options, *_connection(job, source), "--", location.parse(source).listed()[0], f"{into}/"]


def fetch_list(program: str, job: Job, source: str, file: str, into: Path, known: Path | None) -> list[str]:
    """The command that brings a list of files into the directory ``into``, unless it is the one in the directory ``known``.

    If it is another one, what both have in common isn't sent.
    """
    where = location.parse(source).argument + file
    command = [*_prefix(job), *_program(program, source), "--times", f"--max-size={LARGEST_LIST}", *_STATED]
    command += [f"--compare-dest={known}"] if known else []
    return [*command, *_connection(job, source), "--", where, f"{into}/"]


def send(program: str, job: Job, file: Path, directory: str) -> list[str]:
    """The command that makes one small file the report of ``job`` in a directory that a daemon has, whatever is there. ``job`` says how to get there."""
    url = f"{location.parse(directory).argument}{job.name}.json"
    return [
        *_prefix(job),
        *_program(program, directory),
        "--ignore-times",
        "--whole-file",
        *_connection(job, directory),
        "--",
        str(file),
        url,
    ]


def _prefix(job: Job) -> list[str]:
    """Programs that run rsync with less claim to the host."""
    return [*(["nice", "-n", str(job.nice)] if job.nice else []), *(["ionice", "-c", "3"] if job.idle_io else [])]


def _program(program: str, source: str) -> list[str]:
    """rsync itself, or for TLS the wrapper that its authors ship with it."""
    return [str(Path(program).with_name("rsync-ssl"))] if location.parse(source).scheme == "rsyncs" else [program]


def _connection(job: Job, source: str) -> list[str]:
    """Options that say how to reach a source."""
    where = location.parse(source)
    options = [f"--timeout={job.io_timeout}", *_FAMILIES[job.address_family]]
    if where.scheme == "ssh":
        return [*options, f"--rsh={_ssh(job, where.port)}"]
    options.append("--no-motd")
    if job.password_file:
        options.append(f"--password-file={job.password_file}")
    if where.scheme == "rsync":
        # Nagle's algorithm and delayed acknowledgements cost four waits of 40 ms a connection.
        options += ["--sockopts=TCP_NODELAY", f"--contimeout={job.connect_timeout}"]
    return options


_FAMILIES = {"any": (), "ipv4": ("--ipv4",), "ipv6": ("--ipv6",)}


def _ssh(job: Job, port: int) -> str:
    """The command of an SSH connection that asks nobody anything and trusts no host whose key isn't known."""
    words = [
        "ssh",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        f"ConnectTimeout={job.connect_timeout}",
        "-p",
        str(port),
    ]
    if job.ssh_known_hosts:
        words += ["-o", f"UserKnownHostsFile={job.ssh_known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null"]
    if job.ssh_key:
        words += ["-i", job.ssh_key, "-o", "IdentitiesOnly=yes"]
    return " ".join(words)


def environment(job: Job, source: str) -> dict[str, str]:
    """The environment of a call: nothing of the caller's that changes what rsync does, and no question on a terminal."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RSYNC_")}
    kept.update(LC_ALL="C", RSYNC_PASSWORD="")
    if location.parse(source).scheme == "rsyncs":
        kept["RSYNC_SSL_TYPE"] = "openssl"
        if job.tls_ca:
            kept["RSYNC_SSL_CA_CERT"] = job.tls_ca
    return kept


class Item:
    """One line of rsync's itemised output. A first copy has as many as the tree has entries, so they are cheap to make."""

    __slots__ = ("name", "size", "what")

    def __init__(self, what: str, size: int, name: str) -> None:
        self.what = what
        self.size = size
        self.name = name

    @property
    def is_deletion(self) -> bool:
        return self.what.startswith("*deleting")

    @property
    def is_new(self) -> bool:
        """Whether the target has no such entry yet."""
        return self.what.endswith("+++++++++")

    @property
    def is_transfer(self) -> bool:
        """Whether the file's bytes travel."""
        return self.what.startswith(">f")


def parse_item(line: str) -> Item | None:
    """The item in ``line``; None for any other line. rsync writes odd characters of a name as \\#ooo, so a name never spans lines."""
    what, rest = line[:11], line[12:]
    if line[11:12] != "|" or not (what == "*deleting  " or (what[0] in "<>ch." and what[1] in "fdLDS")):
        return None
    size, mark, name = rest.partition("|")
    return Item(what, int(size), name) if mark and size.isdecimal() and size.isascii() else None


@dataclass
class Tally:
    """What one rsync said it did, or would do."""

    #: Entries (files, directories, symlinks) in the source; None if rsync didn't get as far as to say.
    entries: int | None = None
    #: Files whose bytes travel, and the sum of their sizes.
    files: int = 0
    size: int = 0
    deletions: int = 0
    #: Entries of any kind that the target doesn't have yet.
    created: int = 0
    #: All items: also directories, symlinks, and changes of times or modes.
    items: int = 0
    #: Bytes that came over the network, of the payload and of the file list.
    received: int = 0

    def line(self, line: str) -> Item | None:
        """Take one line of rsync's standard output into account; returns the item in it, if there is one."""
        item = parse_item(line)
        if item is not None:
            self.items += 1
            self.deletions += item.is_deletion
            self.created += item.is_new
            if item.is_transfer:
                self.files += 1
                self.size += item.size
            return item
        if line.startswith(_RECEIVED) and line[len(_RECEIVED) :].isdecimal():
            self.received += int(line[len(_RECEIVED) :])
        elif line.startswith("Number of files: ") and (match := re.fullmatch(_FILES, line)):
            # Devices and special files are in the total, but never in the tree.
            kinds = re.findall(r"(reg|dir|link): (\d+)", match[2] or "")
            self.entries = sum(int(number) for dummy, number in kinds) if kinds else int(match[1])
        return None


@dataclass(frozen=True)
class _Kind:
    """How failures of one kind are told. ``lead`` may name {source} and {target}."""

    name: str
    exit_code: Exit
    lead: str
    remedy: str
    #: Whether it usually passes by itself.
    passing: bool = False


_UNREACHABLE = _Kind(
    "unreachable",
    Exit.UNAVAILABLE,
    "{source} can't be reached",
    "Check the name, the port, firewalls on the way, and whether the source runs.",
    passing=True,
)
_LOST = _Kind(
    "connection_lost",
    Exit.UNAVAILABLE,
    "{source} was lost",
    "Usually the network or a restart of the source; the next run goes on from here.",
    passing=True,
)
_SOURCE = _Kind("source_error", Exit.UNAVAILABLE, "{source} can't serve this job", "Tell the source's operator.")
_LOCAL = _Kind("local_io", Exit.LOCAL_IO, "Writing to {target} failed", "Check the file system and the permissions of the target.")
_FULL = _Kind("disk_full", Exit.LOCAL_IO, "The disk of {target} is full", "Make room; the next run goes on from here.")
_PARTIAL = _Kind(
    "incomplete",
    Exit.INCOMPLETE,
    "The transfer from {source} is not complete",
    "The job's file `errors` lists what is missing; what arrived is kept.",
)
_OTHER = _Kind("rsync_error", Exit.INCOMPLETE, "rsync failed while it read from {source}", "The job's file `errors` holds what rsync said.")

#: Exit codes of rsync, rsync(1) "EXIT VALUES", and what each is to a run; 0 and 24 are good, 5 is told apart by the daemon's text.
_CODES: dict[int, tuple[_Kind, str]] = {
    1: (_OTHER, "rsync refused its own arguments"),
    2: (_SOURCE, "its rsync speaks an incompatible protocol"),
    3: (_LOCAL, "rsync could not choose its input or output files"),
    4: (_SOURCE, "its rsync lacks a function that is needed"),
    6: (_SOURCE, "the daemon could not write its log"),
    10: (_UNREACHABLE, "the connection failed"),
    11: (_LOCAL, "a file could not be read or written"),
    12: (_LOST, "the connection broke in the middle of a transfer"),
    13: (_OTHER, "rsync reported an error of its own"),
    14: (_OTHER, "rsync's processes lost each other"),
    20: (_OTHER, "rsync was stopped by a signal"),
    21: (_OTHER, "rsync's processes lost each other"),
    22: (_OTHER, "rsync ran out of memory"),
    23: (_PARTIAL, "some files could not be transferred"),
    25: (_PARTIAL, "the limit on deletions stopped some of them"),
    30: (_LOST, "no data for longer than io_timeout"),
    35: (_UNREACHABLE, "no answer within connect_timeout"),
    255: (_UNREACHABLE, "ssh ended with an error"),
}

#: How rsyncd says that a check of its operator's ended the connection; the check's own words are on the next line.
_CLOSED = "pre-xfer exec returned failure"
_CLOSED_FOR_NOW = _Kind(
    "source_closed",
    Exit.UNAVAILABLE,
    "{source} is closed for now",
    "Its operator keeps everybody out until the tree is whole again; the next run tries again.",
)

#: Words on standard error that say more than the exit code does.
_WORDS: tuple[tuple[str, _Kind], ...] = (
    ("No space left on device", _FULL),
    ("Disk quota exceeded", _FULL),
    (
        "Host key verification failed",
        _Kind(
            "host_key",
            Exit.REFUSED,
            "{source} shows another host key than ssh_known_hosts has",
            "Ask its operator whether the key was changed.",
        ),
    ),
    (
        "Permission denied (publickey",
        _Kind("login_refused", Exit.REFUSED, "{source} refuses the SSH key", "Ask its operator to accept the key."),
    ),
    # A check that runs before each transfer: of ours the sentinel, of others anything that closes a tree for a time. rsync then just hangs up.
    (_CLOSED, _CLOSED_FOR_NOW),
    # The same check, where the tree is served over SSH.
    (" is closed for now: its tree ", _CLOSED_FOR_NOW),
    # What locks an SSH key to a tree. It says this, where rsync would end with code 23, of a file that isn't there.
    ("post-realpath open failed", _PARTIAL),
    (
        "/rrsync",
        _Kind(
            "refused", Exit.REFUSED, "{source} refuses this", "The key is locked to another tree: write ssh://USER@HOST/./ for all of it."
        ),
    ),
    (
        "certificate verify failed",
        _Kind(
            "certificate",
            Exit.REFUSED,
            "{source} shows a certificate that tls_ca doesn't vouch for",
            "Check tls_ca, the name in the URL and the clock.",
        ),
    ),
)

#: Kinds of failure that are the source's: another source may do better.
OF_THE_SOURCE = frozenset(
    (
        "unreachable",
        "no_such_module",
        "refused",
        "login_refused",
        "source_full",
        "source_closed",
        "source_error",
        "connection_lost",
        "host_key",
        "certificate",
        "stale",
        "untrusted",
        "bad_head",
        "bad_manifest",
        "bad_content",
    )
)

_AT_ERROR = r"(?m)^@ERROR: (?P<text>.*)$"


def as_written(path: bytes) -> str:
    """A path as the itemised output has it, so that what an operator approved is the same whichever way a run takes."""
    return "".join(
        chr(byte) if (32 <= byte < 127 and not _looks_escaped(path, number)) or byte == 9 else f"\\#{byte:03o}"
        for number, byte in enumerate(path)
    )


def _looks_escaped(path: bytes, number: int) -> bool:
    return path[number : number + 2] == b"\\#" and len(path) > number + 4 and path[number + 2 : number + 5].isdigit()


def failure(ended: Ended, source: str, target: str) -> Failure | None:
    """What went wrong in a call, as a Failure; None if nothing did.

    Code 24 is good: files that vanished while they were read would have been deleted a moment later.
    """
    if ended.timed_out:
        message = f"The transfer from {source} reached the job's time limit and was ended."
        return Failure("time_limit", Exit.TIME_LIMIT, message, "Raise time_limit if the tree needs longer; the next run goes on from here.")
    if ended.stalled:
        message = f"{source} was lost: the connection stands, but nothing has come for longer than io_timeout."
        return Failure(_LOST.name, _LOST.exit_code, message, _LOST.remedy, passing=True)
    if ended.code in (0, 24):
        return None
    if ended.code < 0:
        message = f"rsync was ended by signal {-ended.code} while it read from {source}."
        remedy = "If nobody did that on purpose, look for the kernel's out-of-memory messages. The next run goes on from here."
        return Failure("stopped", Exit.STOPPED, message, remedy)
    said = re.search(_AT_ERROR, ended.error_text)
    if ended.code == 5 or said is not None:
        return _refusal(source, said["text"] if said else "no reason given")
    kind, text = _CODES.get(ended.code, (_OTHER, "an error that its manual does not list"))
    kind = next((other for words, other in _WORDS if words in ended.error_text), kind)
    first = next((line for line in ended.errors if not line.startswith(("rsync error:", _CLOSED))), "")
    detail = f"{text} (rsync exit code {ended.code}{': ' + first if first else ''})"
    message = f"{kind.lead.format(source=source, target=target)}: {detail}."
    return Failure(kind.name, kind.exit_code, message, kind.remedy, passing=kind.passing)


#: How rsyncd begins its refusals, and what each is. Exit code 5 is the same for all of them.
_REFUSALS: tuple[tuple[str, _Kind], ...] = (
    (
        "unknown module",
        _Kind("no_such_module", Exit.UNAVAILABLE, "no such module", "Check its name: `rsync rsync://HOST/` lists those that are public."),
    ),
    (
        "max connections",
        _Kind(
            "source_full",
            Exit.UNAVAILABLE,
            "no free connection",
            "The next run tries again; another minute may be less busy.",
            passing=True,
        ),
    ),
    ("auth failed", _Kind("login_refused", Exit.REFUSED, "a login is needed that this job lacks", "Ask the source's operator for access.")),
    ("access denied", _Kind("refused", Exit.REFUSED, "this host is refused", "Ask the source's operator to allow this host's address.")),
    ("", _Kind("source_error", Exit.UNAVAILABLE, "an error on the server's side", "Tell the source's operator.")),
)


def _refusal(source: str, said: str) -> Failure:
    kind = next(kind for start, kind in _REFUSALS if said.lower().startswith(start))
    message = f"{source}: {kind.lead} (the server said: {said})."
    return Failure(kind.name, kind.exit_code, message, kind.remedy, passing=kind.passing)


def leftovers(target: Path) -> list[Path]:
    """The directories in which interrupted runs kept what had arrived. Reads every directory of the tree; follows no symlink."""
    found = []
    for directory, names, dummy in os.walk(target):
        if PARTIAL_DIR in names:
            names.remove(PARTIAL_DIR)
            found.append(Path(directory) / PARTIAL_DIR)
    return [path for path in found if not path.is_symlink()]
