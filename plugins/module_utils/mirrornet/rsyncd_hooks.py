# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that rsync runs as root around a transfer: what clients can put into one, and which programs are in it.

From "early exec" and "GLOBAL PARAMETERS" of rsyncd.conf(5). Which references are replaced was tried out with rsync 3.2.3 and 3.5.0.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

#: What runs the program that is named after it.
_RUNNERS = re.compile(r"(?:ba|da|k|z|a)?sh|env|exec|command|\.|source|sudo|nice|ionice|setsid|nohup|python[0-9.]*|perl|ruby")
_COMMAND_FOLLOWS = re.compile(r"-[a-z]*c")
#: What a client, or the name server of its address, chooses. rsync writes the first two into commands; all are in the environment of hooks.
_REPLACED = re.compile(r"%(RSYNC_(?:USER_NAME|HOST_NAME))%")
_NOT_REPLACED = re.compile(r"%(RSYNC_(?:REQUEST|ARG[0-9]+))%")
_CHOSEN = re.compile(r"(?<!\\)\$\{?(RSYNC_(?:USER_NAME|HOST_NAME|REQUEST|ARG[0-9]+))")
_SECOND_SHELL = re.compile(r"\b(?:ba|da|k|z|a)?sh\s+-[a-z]*c\b|\beval\b")
#: What the first shell hands on as it stands, so that the second takes a variable in it for one; and what it doesn't.
_QUOTED = re.compile(r"""'[^']*'|("(?:[^"\\]|\\.)*")""")


def complaints(command: str) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a command, of what clients say in it: severity, message, remedy."""
    if _SECOND_SHELL.search(command):
        filled_in = command if "eval" in command else _QUOTED.sub(lambda found: found[1] or "", command)
        for variable in dict.fromkeys(_CHOSEN.findall(filled_in) + _REPLACED.findall(command)):
            message = f"hands {variable} to a second shell: clients run commands as root"
            yield "critical", message, f'Name a program, and read "${variable}" in it'
    else:
        for variable in dict.fromkeys(_REPLACED.findall(command)):
            message = f"has %{variable}% in it, by which clients of rsync before 3.5.0 run commands as root (CVE-2026-53790)"
            yield "high", message, f'Leave it out, and read "${variable}" in the program'
    for variable in dict.fromkeys(_NOT_REPLACED.findall(command)):
        yield "medium", f"has %{variable}% in it, which rsync doesn't replace there", f'Leave it out, and read "${variable}" in the program'


def programs(command: str) -> Iterator[str]:
    """The programs of a command by their absolute paths, as far as they can be told without a shell: also those that a shell or the like is to run."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:
        words = re.findall(r"[();<>|&]+|[^\s();<>|&]+", command)
    wanted, runner = True, False
    for before, word in zip(["", *words], words):
        if not word.strip("();<>|&"):
            wanted, runner = True, False
        elif runner and _COMMAND_FOLLOWS.fullmatch(before):
            yield from programs(word)
            wanted, runner = False, False
        elif wanted and "%" not in word and not (runner and not word.startswith("/")):
            if word.startswith("/"):
                yield word
            wanted = runner = bool(_RUNNERS.fullmatch(word.rpartition("/")[2]))
