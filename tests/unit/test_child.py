# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No child is left behind, whenever a run is asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from conftest import ENGINE
from mirrornet import child

#: A run whose child is asked to end it at a given moment, and that is asked again while it ends its child. Prints what is left.
_PROGRAM = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from mirrornet import child, run
from mirrornet.errors import Failure

parent, real = os.getpid(), child._before_exec

def before_exec(parent, release):
    prepare = real(parent, release)
    def hook():
        # Between fork and exec: the other process is inside Popen.
        os.kill(parent, signal.SIGTERM)
        time.sleep(0.3)
        prepare()
    return hook

if sys.argv[2] == "starting":
    child._before_exec = before_exec
    command = ["sleep", "60"]
else:
    # One of its processes takes its time, and a second signal reaches the run meanwhile.
    command = ["sh", "-c", f"trap 'kill -HUP {parent}; exit 0' TERM; (trap '' TERM; sleep 60) & kill -TERM {parent}; wait; wait"]
if sys.argv[2] == "preparing":
    handle = run.signal.signal

    def handled(number, handler):
        run.signal.signal = handle
        former = handle(number, handler)
        os.kill(parent, signal.SIGTERM)
        return former

    run.signal.signal = handled
group = []
popen = child.subprocess.Popen

def noted(*words, **options):
    started = popen(*words, **options)
    group.append(started.pid)
    return started

child.subprocess.Popen = noted
try:
    with run._stopped_by_signals():
        child.call(command, environment=dict(os.environ), seconds=30, idle=30, lock_fd=0, on_output=print, on_error=print)
    print("not stopped")
except Failure as failure:
    print(failure.kind)
try:
    [os.killpg(number, 0) for number in group]
    print("left a process" if group else "left none")
except ProcessLookupError:
    print("left none")
"""


def _ended(moment: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(ENGINE), moment], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.stdout.split("\n")


def test_stopped_while_the_child_starts() -> None:
    assert _ended("starting") == ["stopped", "left none", ""]


def test_stopped_before_there_is_a_child() -> None:
    assert _ended("preparing") == ["stopped", "left none", ""]


def test_stopped_twice() -> None:
    assert _ended("running") == ["stopped", "left none", ""]


def test_what_a_killed_child_leaves_behind_is_ended() -> None:
    # As rsync does: the process that was killed was awaited by another one, which holds the pipes and waits for it for ever.
    left: list[str] = []
    ended = child.call(
        ["sh", "-c", "sleep 300 & echo $!; kill -KILL $$"],
        environment=dict(os.environ),
        seconds=120,
        idle=120,
        lock_fd=0,
        on_output=left.append,
        on_error=print,
    )
    assert (ended.code, ended.timed_out, ended.stalled) == (-signal.SIGKILL, False, False)
    with pytest.raises(ProcessLookupError):
        os.kill(int(left[0]), 0)
