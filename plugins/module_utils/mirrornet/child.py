# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child process that is never left alone: read while it runs, ended with all that it has started, never waited for without end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .record import dataclass, field

#: No line of rsync's may fill memory: a hostile server can send one without end.
_LONGEST_LINE = 64 * 1024
_KILL_AFTER = 10.0
#: Seconds of silence after which what a dead rsync has left behind is no longer listened to.
_LAST_WORDS = 2.0

#: The signals that ask a run to end.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass
class Ended:
    """How one child process ended. ``code`` is rsync's exit code, negative for a signal."""

    code: int
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    timed_out: bool = False
    #: Whether it was ended because nothing had happened for too long.
    stalled: bool = False

    @property
    def error_text(self) -> str:
        return "\n".join(self.errors)


def call(
    command: Sequence[str],
    *,
    environment: dict[str, str],
    seconds: float,
    idle: float,
    lock_fd: int,
    on_output: Callable[[str], object],
    on_error: Callable[[str], None],
) -> Ended:
    """Run rsync to its end, at most for ``seconds``, and as long as it doesn't do nothing at all for ``idle`` seconds.

    Every line of output and of errors is handed on as it comes.

    rsync leads a process group of its own, and all of the group is ended at the limit, since rsync's own time-outs don't cover a server
    that keeps sending. It inherits the lock (see ``lock.exclusive``) and is told by the kernel to stop when this process dies.
    """
    deadline = time.monotonic() + seconds
    ended = Ended(0)

    def take_error(line: str) -> None:
        ended.errors.append(line)
        on_error(line)

    with _started(command, environment, lock_fd) as (child, release):
        whole = False
        try:
            release()
            given_up = _read_lines(child, deadline, idle, on_output, take_error)
            ended.timed_out, ended.stalled = given_up == "time_limit", given_up == "stalled"
            if given_up is None:
                try:
                    _wait(child, max(0.0, deadline - time.monotonic()))
                    whole = True
                except subprocess.TimeoutExpired:
                    ended.timed_out = True
        finally:
            # Also on an exception: nothing of the group outlives this call.
            if not whole:
                _end_group(child)
        ended.code = child.returncode
    return ended


@contextlib.contextmanager
def _started(
    command: Sequence[str], environment: dict[str, str], lock_fd: int
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], None]]]:
    """The child, and what lets signals through again.

    They are held back until the caller is ready to end the child: one that came between fork(2) and the end of Popen would raise its
    exception there, and leave a child behind that nobody knows.
    """
    former = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)

    try:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            pass_fds=(lock_fd,),
            preexec_fn=_before_exec(os.getpid(), release),
        )
    except BaseException:
        release()
        raise
    with child:
        yield child, release


def _before_exec(parent: int, release: Callable[[], None]) -> Callable[[], None]:
    """What the child does before rsync starts: ask the kernel for a signal when ``parent`` dies, prctl(2), and take signals again."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    pr_set_pdeathsig = 1

    def before_exec() -> None:
        prctl(pr_set_pdeathsig, signal.SIGTERM)
        if os.getppid() != parent:  # It died before the line above.
            os._exit(1)
        release()

    return before_exec


def _wait(child: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for the end of ``child``. Raises subprocess.TimeoutExpired.

    Popen.wait with a limit looks every so often, up to 50 ms too late; where the kernel can tell at once, pidfd_open(2), it does.
    """
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(child.pid)
            try:
                select.select([fd], [], [], seconds)
            finally:
                os.close(fd)
            seconds = 0.0
    child.wait(seconds)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End the child and all of its group. The child must not have been waited for: until then its number can't be another's."""
    if child.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        try:
            child.wait(_KILL_AFTER)
        except subprocess.TimeoutExpired:
            continue
        # The leader is gone; whatever else is in the group (rsync's receiver) gets no second chance, and is waited for.
        deadline = time.monotonic() + _KILL_AFTER
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(child.pid, signal.SIGKILL)
                time.sleep(0.01)
        return


def _read_lines(
    child: subprocess.Popen[bytes], deadline: float, idle: float, on_output: Callable[[str], object], on_error: Callable[[str], None]
) -> str | None:
    """Hand on lines until both pipes are closed; else why it was given up.

    "time_limit"; "stalled" after ``idle`` seconds of no life; "orphaned" if the child is dead and something it has started still holds
    the pipes: an rsync that was killed leaves a receiver that may wait for it for ever.
    """
    pending: dict[int, bytes] = {}
    pulse = _Pulse(child.pid, idle)
    silence = _Silence(child)
    with selectors.DefaultSelector() as selector:
        for pipe, take in ((child.stdout, on_output), (child.stderr, on_error)):
            if pipe is not None:
                pending[pipe.fileno()] = b""
                selector.register(pipe.fileno(), selectors.EVENT_READ, take)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return "time_limit"
            if pulse.has_stopped():
                return "stalled"
            ready = selector.select(min(left, pulse.interval, 1.0))
            if silence.is_for_good(bool(ready)):
                return "orphaned"
            for key, dummy in ready:
                chunk = os.read(key.fd, 65536)
                *lines, rest = (pending[key.fd] + chunk).split(b"\n")
                if not chunk:
                    selector.unregister(key.fd)
                    lines, rest = ([rest] if rest else []), b""
                pending[key.fd] = rest[:_LONGEST_LINE]
                for line in lines:
                    key.data(line.decode("utf-8", "backslashreplace").rstrip("\r"))
    return None


class _Silence:
    """Whether nothing more will be heard: the child is dead, and what still holds its pipes says nothing."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self._since: float | None = None

    def is_for_good(self, heard: bool) -> bool:
        """``heard`` tells whether there was anything to read just now."""
        # Without waiting for it: its number, and that of its group, stay its own.
        if heard or os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            self._since = None
        elif self._since is None:
            self._since = time.monotonic()
        return self._since is not None and time.monotonic() - self._since > _LAST_WORDS


class _Pulse:
    """Whether rsync's processes still do anything.

    rsync's own --timeout doesn't notice a source that falls silent in mid-file while its connection stands: the client counts the
    keep-alive messages that it sends itself as life (measured with 3.5.0). What counts here are bytes that its processes read, from
    the network or the disk, and processor time: a client that compares a large tree reads little, but computes.
    """

    def __init__(self, pid: int, idle: float) -> None:
        self._pid = pid
        self._idle = idle
        self._last: tuple[int, int] = (0, 0)
        self._since = self._looked = time.monotonic()
        #: Seconds between two looks.
        self.interval = min(max(idle / 5, 0.5), 10.0)

    def has_stopped(self) -> bool:
        """Look, if it is time to; whether nothing has happened for longer than allowed."""
        now = time.monotonic()
        if now - self._looked < self.interval:
            return False
        self._looked = now
        activity = _activity(self._pid)
        # The keep-alive messages cost a processor tick now and then.
        if activity[0] != self._last[0] or activity[1] - self._last[1] > 2:
            self._last, self._since = activity, now
        return now - self._since > self._idle


def _activity(pid: int) -> tuple[int, int]:
    """Bytes read and processor ticks used, by a process and all that it has started; proc(5)."""
    read = ticks = 0
    process = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError, ValueError, IndexError):
        read += int((process / "io").read_bytes().split()[1])
        fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
        for child in (process / "task" / str(pid) / "children").read_bytes().split():
            more = _activity(int(child))
            read, ticks = read + more[0], ticks + more[1]
    return read, ticks
