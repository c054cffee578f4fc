# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be named in "refuse options" of rsyncd.conf(5): options of rsync, without their dashes.

A name that rsync doesn't know costs it one line in a log, and what was meant stays allowed. Which names 3.2.3 and 3.5.0 know was tried out
with both.
"""

from __future__ import annotations

import fnmatch
import re

_LETTERS = "0468@ABCDEFHIJKLMNOPRSTUVWXabcdefghiklmnopqrstuvxyz"
_LONG = """
    8-bit-output acls address append append-verify archive atimes backup backup-dir block-size blocking-io bwlimit cc checksum
    checksum-choice checksum-seed chmod chown compare-dest compress compress-choice compress-level config contimeout copy-as
    copy-dest copy-devices copy-dirlinks copy-links copy-unsafe-links crtimes cvs-exclude daemon debug del delay-updates delete
    delete-after delete-before delete-delay delete-during delete-excluded delete-missing-args detach devices dirs dparam dry-run
    early-input exclude exclude-from executability existing fake-super files-from filter force from0 fuzzy group groupmap hard-links
    help human-readable i-d i-r iconv ignore-errors ignore-existing ignore-missing-args ignore-non-existing ignore-times
    implied-dirs inc-recursive include include-from info inplace ipv4 ipv6 itemize-changes keep-dirlinks link-dest links list-only
    log-file log-file-format log-format max-alloc max-delete max-size min-size mkpath modify-window motd msgs2stderr munge-links
    new-compress numeric-ids old-compress old-d old-dirs omit-dir-times omit-link-times one-file-system only-write-batch
    open-noatime out-format outbuf owner partial partial-dir password-file perms port preallocate progress protect-args protocol
    prune-empty-dirs qsort quiet read-batch recursive relative remote-option remove-sent-files remove-source-files rsh rsync-path
    safe-links sender server size-only skip-compress sockopts sparse specials stats stderr stop-after stop-at suffix super temp-dir
    time-limit timeout times update usermap verbose version whole-file write-batch write-devices xattrs zc zl
"""
#: Those that "no-" can stand before.
_WITH_NO = """
    8 8-bit-output A D H J N O R S U W X acls append atimes backup blocking-io bwlimit c checksum compress contimeout crtimes d
    delay-updates detach devices dirs force from0 fuzzy g group h hard-links human-readable i i-d i-r iconv ignore-errors
    implied-dirs inc-recursive inplace itemize-changes l links m mkpath motd msgs2stderr munge-links numeric-ids o omit-dir-times
    omit-link-times one-file-system open-noatime owner p partial perms progress protect-args prune-empty-dirs r recursive relative s
    sparse specials super t timeout times v verbose whole-file write-devices x xattrs y z
"""
#: What came after rsync 3.2.3. An older one logs that it doesn't know it, and has nothing to refuse.
LATER = frozenset(
    """
    compress-threads confine-root drop-D fsync insecure-links no-drop-D no-insecure-links no-old-args no-secluded-args old-args
    secluded-args trust-sender zt
    """.split()
)

#: Every name that any rsync from 3.2.3 on knows.
NAMES = frozenset((*_LETTERS, *_LONG.split(), *(f"no-{name}" for name in _WITH_NO.split()), *LATER))

_WILD = re.compile(r"[*?\[]")


def is_known(word: str) -> bool:
    """Whether rsync would find an option for a word of the list: a name, or a pattern of names with ``*``, ``?`` and ``[…]``, or either after ``!``."""
    name = word[1:] if word.startswith("!") else word
    if not _WILD.search(name):
        return name in NAMES
    return any(fnmatch.fnmatchcase(known, name.replace("[^", "[!")) for known in NAMES)
