# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the parts of a job are on disk. docs/architecture.md has the table."""

from __future__ import annotations

import os
from pathlib import Path

from .record import dataclass

#: The directory in a tree that belongs to the mirror itself: never deleted by a pull, never handed on by one.
IN_TREE = ".mirrornet"
#: In there, beside the head: the lists that most mirrors want next (see ``recent``).
RECENT = "recent"
#: In there too: what has come and is not yet in place.
INCOMING = "incoming"


@dataclass(frozen=True)
class Places:
    """The directories of one installation, and the files of its jobs."""

    config_dir: Path
    state_dir: Path

    @property
    def definitions(self) -> Path:
        """The directory of all definitions, a file each."""
        return self.config_dir / "jobs"

    def definition(self, job: str) -> Path:
        """What the job is, as JSON; written when it's installed, and only read by runs."""
        return self.definitions / f"{job}.json"

    def secret(self, job: str) -> Path:
        """The password of a job that was given one."""
        return self.config_dir / "secrets" / job

    def report_secret(self, job: str) -> Path:
        """The password with which a job hands in its report; no job can have this name."""
        return self.config_dir / "secrets" / f"{job}.report"

    @property
    def needs(self) -> Path:
        """Besides jobs, what on this host calls the command: one file for each."""
        return self.config_dir / "needs"

    def state(self, job: str) -> Path:
        """The directory of all that runs write, but for what they leave in the tree; it belongs to the account that runs the job."""
        return self.state_dir / job

    def lock(self, job: str) -> Path:
        """The lock that each run holds, unless the job names another one (``job.lock_of``); never removed."""
        return self.state(job) / "lock"

    def running(self, job: str) -> Path:
        """Who runs the job at present, and how far it is; left behind only by a run that was killed."""
        return self.state(job) / "running.json"

    def report(self, job: str) -> Path:
        """The report of the last run that held the lock."""
        return self.state(job) / "report.json"

    def handed_in(self, job: str) -> Path:
        """Whether the last report got to where it's to be handed in, and what became of it if not."""
        return self.state(job) / "handed_in.json"

    def history(self, job: str) -> Path:
        """One line of JSON for each run, the busy ones too."""
        return self.state(job) / "history.jsonl"

    def log(self, job: str) -> Path:
        """What the last run did, line by line."""
        return self.state(job) / "log"

    def errors(self, job: str) -> Path:
        """What rsync wrote to its standard error in the last run; empty after a good one."""
        return self.state(job) / "errors"

    def check_file(self, job: str) -> Path:
        """The source's check file as it was when the tree was last complete."""
        return self.state(job) / "check"

    def head(self, job: str) -> Path:
        """The head of the tree that the target holds, byte for byte; absent while a transfer may have left it between two trees."""
        return self.state(job) / "head"

    def former_head(self, job: str) -> Path:
        """The head that the target held last, while it is between two trees."""
        return self.state(job) / "head.former"

    def offered(self, job: str) -> Path:
        """The directory for what the source that was asked last says of its tree: its head, and the lists that come with it."""
        return self.state(job) / "offered"

    def heads(self, job: str) -> Path:
        """What was found out about the heads of sources."""
        return self.state(job) / "heads.json"

    def file_list(self, job: str) -> Path:
        """The directory for the lists of files that sources have in a form of others."""
        return self.state(job) / "file_list"

    def program(self, job: str) -> Path:
        """Which rsync has been asked for its version, and was good."""
        return self.state(job) / "rsync.json"

    def held(self, job: str) -> Path:
        """What the last hold was about, for whoever wants to approve it."""
        return self.state(job) / "held.json"

    def approval(self, job: str) -> Path:
        """What an operator has agreed to, and until when."""
        return self.state(job) / "approval.json"


def default_places(uid: int | None = None, home: Path | None = None) -> Places:
    """The usual places of user ``uid`` (default: this process), whose home is ``home``; the system's places for root."""
    if (os.geteuid() if uid is None else uid) == 0:
        return Places(Path("/etc/mirrornet"), Path("/var/lib/mirrornet"))
    home = home or Path.home()
    return Places(home / ".config" / "mirrornet", home / ".local" / "state" / "mirrornet")


def chosen_places(config_dir: str | None, state_dir: str | None) -> Places:
    """The places named by option, else by MIRRORNET_CONFIG_DIR and MIRRORNET_STATE_DIR, else the usual ones."""
    usual = default_places()
    config = config_dir or os.environ.get("MIRRORNET_CONFIG_DIR") or usual.config_dir
    state = state_dir or os.environ.get("MIRRORNET_STATE_DIR") or usual.state_dir
    return Places(Path(config).absolute(), Path(state).absolute())
