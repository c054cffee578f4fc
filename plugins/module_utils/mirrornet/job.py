# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition of a job, and everything that can be wrong with one before it ever runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from . import location
from .errors import Exit, Failure
from .files import to_json
from .places import Places
from .record import TYPE_CHECKING, asdict, dataclass, field

if TYPE_CHECKING:
    from typing import Any, Optional

    Check = Callable[[Any], Optional[str]]

#: Version of the definition's format. A later engine reads older ones.
FORMAT = 1

#: In the target of a job with ``switch``: the link to the release that is shown.
CURRENT = "current"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

#: Directories that hold a system, not a tree. A mirror that deletes in one of them would take the host down.
SYSTEM_DIRECTORIES = frozenset(
    """
    / /bin /boot /dev /etc /home /lib /lib32 /lib64 /media /mnt /opt /proc /root /run /sbin /srv /sys /tmp
    /usr /usr/bin /usr/lib /usr/local /usr/sbin /usr/share
    /var /var/cache /var/lib /var/log /var/spool /var/tmp /var/www
    """.split()
)


@dataclass(frozen=True)
class Job:
    """One tree that this mirror keeps in step."""

    name: str
    #: rsync URLs, in the order of preference.
    sources: tuple[str, ...]
    #: Absolute path of the directory that holds the tree.
    target: str
    #: The account that runs the job; None: whoever calls.
    user: str | None = None

    # Sources

    #: Where the first copy comes from, so that the sources are spared; also a re-sync on request.
    seed_sources: tuple[str, ...] = ()
    #: ``given``: the first one that can be used serves; ``fastest``: they are tried by the time that a connection takes.
    source_order: str = "given"
    #: How often a run starts over after failures that pass by themselves.
    retries: int = 2
    #: Seconds before the first of these; each next one waits twice as long, and somewhat more or less at random.
    retry_pause: int = 30
    #: A small file in the tree that changes with every release: if the source's is the one that we hold, nothing is new.
    check_file: str | None = None
    #: Fedora's list of files, by its name at the top of the tree: what has changed in it is all that a run asks for.
    file_list: str | None = None
    #: Whether what a source publishes about its tree is followed, instead of comparing everything.
    fast_path: bool = True
    #: Public keys of SSH, of which one must have signed what the source publishes; then nothing else is ever taken.
    trusted_keys: tuple[str, ...] = ()
    #: Seconds after which a run compares everything, although the check file or the head is the same.
    full_check: int = 7 * 86400
    #: Seconds; a source whose check file is older is passed over. 0: never.
    stale_after: int = 0

    # Connection

    #: File with the password for daemons that want a login; readable by the account alone.
    password_file: str | None = None
    ssh_key: str | None = None
    #: File with the host keys that are accepted; none but those are.
    ssh_known_hosts: str | None = None
    #: File with the certificates that are trusted for TLS; None: the system's.
    tls_ca: str | None = None
    #: ``any``, ``ipv4`` or ``ipv6``.
    address_family: str = "any"
    #: Seconds without any data after which a connection counts as dead.
    io_timeout: int = 300
    #: Seconds to wait for a connection.
    connect_timeout: int = 30
    #: Seconds after which a run is ended, with every process it has started.
    time_limit: int = 86400
    #: KiB per second; 0: no limit.
    bandwidth_limit: int = 0
    #: Other limits for times of the day, {"from": "HH:MM", "to": "HH:MM", "limit": KiB/s}, in the host's time zone.
    bandwidth_windows: tuple[dict[str, Any], ...] = ()

    # Load on this host

    #: As nice(1): 0 to 19.
    nice: int = 0
    #: Whether the disk is used only when nobody else wants it, ionice(1).
    idle_io: bool = False

    # What belongs to the tree

    #: rsync patterns that stay out of the tree.
    exclude: tuple[str, ...] = ()
    #: rsync filter rules, before the patterns of ``exclude``.
    filters: tuple[str, ...] = ()
    #: Further options of rsync, of those that can't harm a run.
    rsync_options: tuple[str, ...] = ()
    #: rsync patterns of the files that say what is in the tree: they come after everything else.
    index: tuple[str, ...] = ()
    #: Patterns that go with a kind of tree: ``none``, ``apt``, ``rpm`` or ``release``.
    index_preset: str = "none"
    #: Whether the tree is shown by the symlink ``current`` in ``target``, which is moved from the old one to the new one at once, and can be moved back.
    switch: bool = False

    # Guards

    #: More deletions than this in one run are held; None: no absolute limit.
    max_delete: int | None = None
    #: More deletions than this share of the tree's entries, in percent, are held.
    max_delete_percent: int = 25
    #: Directory that must be a mount point before anything is done; None: no such condition.
    mount: str | None = None
    #: MiB that a run leaves free on the target's disk.
    reserve: int = 0

    # Several runs

    #: The lock, instead of the one in the state directory: for excluding other programs that use flock(1).
    lock_file: str | None = None
    #: Seconds of one run after which others that find it busy raise an alarm; None: as ``time_limit``.
    busy_alarm: int | None = None

    # Report

    #: The rsync URL of a directory that takes the job's report after each run, as JOB.json; None: it stays here.
    report_to: str | None = None
    #: File with the password for it; readable by the account alone.
    report_password_file: str | None = None

    @property
    def index_patterns(self) -> tuple[str, ...]:
        """All patterns of what comes last, the check file and the list of files among them: whoever pulls from here must not see it too early."""
        check = tuple(f"/{name}" for name in (self.check_file, self.file_list) if name)
        return (*self.index, *INDEX_PRESETS[self.index_preset], *check)

    @property
    def tree(self) -> str:
        """The directory that holds the tree: the target itself, or with ``switch`` what its link ``current`` points to."""
        return f"{self.target.rstrip('/')}/{CURRENT}" if self.switch else self.target

    @property
    def takes_all(self) -> bool:
        """Whether the job's tree is the source's, whole and as it is: only then can it follow what the source publishes about its own."""
        options = {option.partition("=")[0] for option in self.rsync_options}
        return not (self.exclude or self.filters or self.switch or options - WAYS_TO_TRAVEL)

    def to_bytes(self) -> bytes:
        """The definition as it is on disk."""
        return to_json({"format": FORMAT, **asdict(self)})


#: The names of a job's options.
OPTIONS = tuple(Job.__annotations__)

#: What says what is in a tree, by kind of tree. apt: indexes by hash (by-hash/) are not among them: they come first, as Debian asks of mirrors.
INDEX_PRESETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "apt": ("Packages*", "Sources*", "Release", "Release.gpg", "InRelease", "Contents-*", "Components-*", "Translation-*", "ls-lR*"),
    "rpm": ("repomd.xml", "repomd.xml.asc", "repomd.xml.key", "mirrorlist", "fullfiletimelist*", "fullfilelist"),
    "release": (
        "index.html",
        "index.json",
        "latest",
        "LATEST",
        "lastupdate",
        "MD5SUMS*",
        "SHA1SUMS*",
        "SHA256SUMS*",
        "SHA512SUMS*",
        "*.torrent",
    ),
}

#: Options of rsync's that a job may add: none that deletes, that runs a program, or that changes what the engine reads.
RSYNC_OPTIONS = frozenset(
    """
    --acls --checksum --checksum-choice --chmod --compress --compress-choice --compress-level --copy-links --copy-unsafe-links --fake-super
    --fsync --fuzzy --group --iconv --max-alloc --max-size --min-size --modify-window --munge-links --no-fuzzy --no-hard-links
    --no-perms --no-whole-file --numeric-ids --omit-dir-times --omit-link-times --one-file-system --open-noatime --owner --preallocate
    --prune-empty-dirs --safe-links --size-only --skip-compress --sparse --whole-file --xattrs
    """.split()
)

#: Those of them that change how content travels and is written, but neither what comes nor what it is compared by.
WAYS_TO_TRAVEL = frozenset(
    """
    --checksum-choice --compress --compress-choice --compress-level --fsync --max-alloc --no-fuzzy --no-whole-file --open-noatime --preallocate
    --skip-compress --sparse --whole-file
    """.split()
)


def _control(value: str) -> str | None:
    if _CONTROL.search(value):
        return "holds a control character (a newline, a tab, …): remove it"
    return None


def _name(value: Any) -> str | None:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        return "must be 1 to 63 letters, digits, '-' or '_', and start with a letter or digit (it names files: no slash, no dot)"
    return None


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return "must be a text that isn't empty"
    return _control(value)


def _account(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not ACCOUNT.fullmatch(value)):
        return "must be the name of an account: letters, digits, '_', '.' and '-'"
    return None


def _target(value: Any) -> str | None:
    problem = _text(value)
    if problem:
        return problem
    if not value.startswith("/"):
        return "must be an absolute path"
    if ".." in value.split("/"):
        return "must not hold '..'"
    plain = "/" + "/".join(part for part in value.split("/") if part not in ("", "."))
    if plain in SYSTEM_DIRECTORIES:
        return (
            f"is {plain}, a directory of the system: a mirror deletes what its source doesn't have, so give the tree a directory of its own"
        )
    return None


def _pattern(value: Any) -> str | None:
    problem = _text(value)
    if problem:
        return problem
    if re.match(r"[+-] ", value) or value == "!":
        return "is a filter rule: 'exclude' takes plain rsync patterns, one for each entry"
    return None


def _shown(item: Any) -> str:
    """An entry of a list in a message; a password that somebody put into a URL isn't repeated."""
    return re.sub(r"(//[^/@]*:)[^/@]*@", r"\1***@", repr(item))


def _each(check: Check, *, least: int) -> Check:
    def checked(value: Any) -> str | None:
        if not isinstance(value, (list, tuple)):
            return "must be a list"
        if len(value) < least:
            return "must not be empty"
        found = [f"entry {number} ({_shown(item)}) {problem}" for number, item in enumerate(value, 1) if (problem := check(item))]
        repeated = sorted({_shown(item) for item in value if list(value).count(item) > 1})
        if repeated:
            found.append(f"has {', '.join(repeated)} more than once")
        return "; ".join(found) or None

    return checked


def _number(least: int, most: int | None = None, *, unit: str, optional: bool = False) -> Check:
    def checked(value: Any) -> str | None:
        if value is None and optional:
            return None
        good = isinstance(value, int) and not isinstance(value, bool) and value >= least and (most is None or value <= most)
        limits = f"from {least} to {most}" if most is not None else f"of {least} or more"
        return None if good else f"must be a whole number {limits} ({unit})"

    return checked


def _nearest(word: str, words: Sequence[str]) -> str | None:
    """What somebody who wrote ``word`` may have meant."""
    import difflib  # Late, as good definitions have no use for it.

    return next(iter(difflib.get_close_matches(word, words, 1)), None)


def _choice(*allowed: str) -> Check:
    def checked(value: Any) -> str | None:
        return None if value in allowed else f"must be one of {', '.join(allowed)}"

    return checked


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _file(value: Any) -> str | None:
    """The path of a file that rsync or ssh is told: ssh's options can't quote white space and quotes."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.startswith("/") or re.search(r"[\s\"'\\]", value) or _CONTROL.search(value):
        return "must be an absolute path without spaces, quotes and backslashes"
    return None


def _mount(value: Any) -> str | None:
    if value is None:
        return None
    return "must be an absolute path" if not isinstance(value, str) or not value.startswith("/") else _control(value)


def _check_file(value: Any) -> str | None:
    if value is None:
        return None
    problem = _text(value)
    if problem:
        return problem
    if value.startswith("/") or value.endswith("/") or ".." in value.split("/") or re.search(r"[*?\[\]]", value):
        return "must be the path of one file in the tree: relative, without '..' and wildcards"
    return None


def _file_list(value: Any) -> str | None:
    problem = _check_file(value)
    if problem is None and value is not None and "/" in value:
        return "must be a name at the top of the tree: what the list names is below the list's own directory"
    return problem


def _filter(value: Any) -> str | None:
    problem = _text(value)
    if problem:
        return problem
    if not re.match(r"(?:[-+HSPR]|include|exclude|hide|show|protect|risk)(?:,[/!sr]+)?[ _]\S", value):
        return "is not one of the filter rules that are allowed: - + H S P R, each with a pattern, as in '- *.iso'"
    return None


def _option(value: Any) -> str | None:
    problem = _text(value)
    if problem:
        return problem
    name = value.partition("=")[0]
    if name in RSYNC_OPTIONS:
        return None
    near = _nearest(name, sorted(RSYNC_OPTIONS))
    return "is not among the options that a job may add" + (f"; did you mean {near}?" if near else f": {' '.join(sorted(RSYNC_OPTIONS))}")


def _trusted_key(value: Any) -> str | None:
    problem = _text(value)
    if problem is None and not re.fullmatch(r"(?:.* )?(?:ssh-|ecdsa-|sk-)[a-z0-9@.-]+ AAAA[A-Za-z0-9+/]+={0,3}(?: .*)?", value):
        return "is no public key of SSH: give the line of a file .pub, or of a file of allowed signers"
    return problem


_WINDOW = ("from", "to", "limit")


def _window(value: Any) -> str | None:
    if not isinstance(value, dict) or set(value) != set(_WINDOW):
        return "must have the keys from, to and limit"
    for key in ("from", "to"):
        if not isinstance(value[key], str) or not re.fullmatch(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", value[key]):
            return f"has {key} {value[key]!r}: write HH:MM, from 00:00 to 23:59"
    if value["from"] == value["to"]:
        return "is empty: from and to are the same"
    problem = _number(0, unit="KiB/s")(value["limit"])
    return f"has a limit that {problem}" if problem else None


def _report_to(value: Any) -> str | None:
    if value is None:
        return None
    problem = location.problem(value)
    if problem is None and not location.parse(value).is_daemon:
        return "must be taken by an rsync daemon: write rsync://LOGIN@HOST/report-LOGIN/, or rsyncs:// for TLS"
    return problem


_CHECKS: dict[str, Check] = {
    "name": _name,
    "sources": _each(location.problem, least=1),
    "target": _target,
    "user": _account,
    "seed_sources": _each(location.problem, least=0),
    "source_order": _choice("given", "fastest"),
    "retries": _number(0, 20, unit="times"),
    "retry_pause": _number(0, 3600, unit="seconds"),
    "check_file": _check_file,
    "file_list": _file_list,
    "fast_path": _flag,
    "trusted_keys": _each(_trusted_key, least=0),
    "full_check": _number(0, unit="seconds"),
    "stale_after": _number(0, unit="seconds"),
    "password_file": _file,
    "ssh_key": _file,
    "ssh_known_hosts": _file,
    "tls_ca": _file,
    "address_family": _choice("any", "ipv4", "ipv6"),
    "io_timeout": _number(1, unit="seconds"),
    "connect_timeout": _number(1, unit="seconds"),
    "time_limit": _number(1, unit="seconds"),
    "bandwidth_limit": _number(0, unit="KiB/s"),
    "bandwidth_windows": _each(_window, least=0),
    "nice": _number(0, 19, unit="as nice(1)"),
    "idle_io": _flag,
    "exclude": _each(_pattern, least=0),
    "filters": _each(_filter, least=0),
    "rsync_options": _each(_option, least=0),
    "index": _each(_pattern, least=0),
    "index_preset": _choice(*INDEX_PRESETS),
    "switch": _flag,
    "max_delete": _number(0, unit="entries", optional=True),
    "max_delete_percent": _number(0, 100, unit="percent"),
    "mount": _mount,
    "reserve": _number(0, unit="MiB"),
    "lock_file": _file,
    "busy_alarm": _number(1, unit="seconds", optional=True),
    "report_to": _report_to,
    "report_password_file": _file,
}


def _with_file_list(given: dict[str, Any]) -> list[str]:
    """What doesn't go with a list of files."""
    from .pattern import problem  # Late, as few jobs have use for it.

    found = []
    against = [key for key in ("filters", "switch", "trusted_keys") if given.get(key)]
    against += [option for option in given.get("rsync_options", ()) if option.partition("=")[0] not in WAYS_TO_TRAVEL]
    if against:
        found.append(f"file_list: can't be followed with {', '.join(against)}: it tells of a whole tree, as it is.")
    for pattern in given.get("exclude", ()):
        # rsync's brackets have ranges and classes of their own.
        why = "has brackets" if "[" in pattern else problem(pattern)
        if why:
            found.append(
                f"exclude: with file_list, {pattern!r} can't be told from others, since it {why}: "
                "exclude by names (NAME, *.EXT), by directories (NAME/) or by paths from the top of the tree (/DIR/NAME)."
            )
    return found


def _together(given: dict[str, Any]) -> list[str]:
    """Options that are good each for itself, but not together."""
    found = []
    if given.get("stale_after") and not given.get("check_file"):
        found.append("stale_after: needs check_file, whose time tells how old a source is.")
    mount, target = given.get("mount"), given.get("target", "")
    if mount and not f"{target}/".startswith(mount.rstrip("/") + "/"):
        found.append(f"mount: {mount!r} doesn't hold the target {target!r}.")
    if given.get("file_list"):
        found += _with_file_list(given)
    if given.get("trusted_keys"):
        against = [key for key in ("exclude", "filters", "switch", "seed_sources") if given.get(key)]
        against += [option for option in given.get("rsync_options", ()) if option.partition("=")[0] not in WAYS_TO_TRAVEL]
        against += ["fast_path: false"] if given.get("fast_path") is False else []
        if against:
            found.append(f"trusted_keys: can't be kept with {', '.join(against)}: only a whole tree can be held against what was signed.")
    report_to = given.get("report_to")
    if given.get("report_password_file") and not report_to:
        found.append("report_password_file: without report_to nothing is handed in: give the URL, or leave it out.")
    if report_to and location.parse(report_to).user and not given.get("report_password_file"):
        found.append(f"report_password_file: is missing, but {report_to!r} is to be logged in to: put the password into a file.")
    over_ssh = [source for source in (*given["sources"], *given.get("seed_sources", ())) if source.startswith("ssh://")]
    if over_ssh and not given.get("ssh_known_hosts"):
        found.append(
            f"ssh_known_hosts: is missing, but {over_ssh[0]!r} needs the key of its host: put it there with ssh-keyscan and check its fingerprint."
        )
    return found


@dataclass
class Checked:
    """A definition that was looked at: the job if it is good, else all that is wrong with it."""

    job: Job | None
    problems: list[str] = field(default_factory=list)


def check(definition: dict[str, Any]) -> Checked:
    """Look at a definition and name every problem at once, each with its option and the remedy."""
    given = {key: value for key, value in definition.items() if key != "format"}
    problems: list[str] = []
    if definition.get("format", FORMAT) != FORMAT:
        problems.append(f"format: is {definition['format']!r}, this version of mirrornet reads {FORMAT}: upgrade mirrornet on this host.")
    for key in sorted(set(given) - set(OPTIONS)):
        near = _nearest(key, OPTIONS)
        problems.append(f"{key}: no such option" + (f"; did you mean '{near}'?" if near else f"; options are {', '.join(OPTIONS)}."))
    for key in OPTIONS:
        if key in given:
            problem = _CHECKS[key](given[key])
            if problem:
                shown = "" if isinstance(given[key], (list, tuple)) else f" {given[key]!r}"
                problems.append(f"{key}:{shown} {problem}.")
        elif key in ("name", "sources", "target"):
            problems.append(f"{key}: is missing.")
    problems = problems or _together(given)
    if problems:
        return Checked(None, problems)
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return Checked(Job(**values))


def overlap(target: str, other: str) -> bool:
    """Whether one of two absolute paths is, or lies in, the other, as the file system sees them now (symlinks followed)."""
    one, two = Path(target).resolve(), Path(other).resolve()
    return one == two or one in two.parents or two in one.parents


def names(places: Places) -> list[str]:
    """The names of all jobs that are defined at ``places``, sorted."""
    return sorted(path.stem for path in places.definitions.glob("*.json") if NAME.fullmatch(path.stem))


def load(places: Places, name: str) -> Job:
    """The job called ``name``. Raises Failure (kind ``definition``) with everything that is wrong."""
    problem = _name(name)
    if problem:
        raise Failure("definition", Exit.CONFIG, f"Job name {name!r} {problem}.", "`mirrornet status` lists the jobs.")
    path = places.definition(name)
    try:
        definition = json.loads(path.read_bytes())
    except FileNotFoundError:
        known = names(places)
        hint = f"Jobs here: {', '.join(known)}." if known else "No job is defined there: check --config-dir."
        raise Failure("definition", Exit.CONFIG, f"There is no job {name!r}: {path} doesn't exist.", hint) from None
    except OSError as error:
        raise Failure("definition", Exit.CONFIG, f"{path} can't be read: {error.strerror}.", "Check its owner and mode.") from error
    except ValueError as error:
        raise Failure("definition", Exit.CONFIG, f"{path} is not valid JSON: {error}.", "Install the job again.") from error
    if not isinstance(definition, dict):
        raise Failure("definition", Exit.CONFIG, f"{path} is not a JSON object.", "Install the job again.")
    checked = check(definition)
    if checked.job is None:
        raise Failure(
            "definition", Exit.CONFIG, f"{path} is not a valid job. " + " ".join(checked.problems), "Correct it and install the job again."
        )
    if checked.job.name != name:
        raise Failure(
            "definition", Exit.CONFIG, f"{path} defines a job called {checked.job.name!r}.", "Give the file and the job one name."
        )
    return checked.job


def lock_of(places: Places, job: Job) -> Path:
    """The lock of ``job``, which may have named one of its own."""
    return Path(job.lock_file) if job.lock_file else places.lock(job.name)


def conflicts(places: Places, job: Job) -> list[str]:
    """The other jobs at ``places`` whose targets overlap with ``job``'s: each of two such jobs would delete what the other brought."""
    found = []
    for name in names(places):
        if name == job.name:
            continue
        try:
            other = load(places, name)
        except Failure:
            continue
        if overlap(job.target, other.target):
            found.append(
                f"target: {job.target!r} overlaps with {other.target!r} of job {name!r}: "
                "each would delete the other's files; give each job a directory of its own."
            )
    return found
