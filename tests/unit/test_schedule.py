# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cron expressions, offsets, and entries that keep what isn't theirs."""

from __future__ import annotations

import pytest
from mirrornet import schedule
from mirrornet.schedule import ScheduleError, in_crontab, offset_of, parse

ARGV = ["/home/u/.local/bin/mirrornet", "pull", "--quiet", "sage"]


@pytest.mark.parametrize(
    ("text", "offset", "expected"),
    [
        ("0 * * * *", 0, "0 * * * *"),
        ("0 * * * *", 37, "37 * * * *"),
        ("*/10 * * * *", 37, "7,17,27,37,47,57 * * * *"),
        ("0,30 1,9,19 * * *", 45, "15,45 1,9,19 * * *"),
        ("* * * * *", 13, "* * * * *"),
        ("5-59/20 */2 * * mon-fri", 0, "5,25,45 */2 * * mon-fri"),
        ("@hourly", 5, "5 * * * *"),
        ("@Daily", 5, "5 0 * * *"),
        ("  0\t4  * * *  ", 0, "0 4 * * *"),
        ("0 0 1 JAN,dec *", 0, "0 0 1 JAN,dec *"),
        ("0 0 * * 7", 0, "0 0 * * 7"),
    ],
)
def test_rotated(text: str, offset: int, expected: str) -> None:
    assert parse(text).rotated(offset) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("61 * * * *", "minute '61': 61 is outside 0 to 59"),
        ("0 24 * * *", "hour '24': 24 is outside 0 to 23"),
        ("0 0 0 * *", "day of the month '0': 0 is outside 1 to 31"),
        ("0 0 * 13 *", "month '13': 13 is outside 1 to 12"),
        ("0 0 * * 8", "day of the week '8': 8 is outside 0 to 7"),
        ("0 0 * foo *", "no number and no name"),
        ("a * * * *", "'a' is no number"),
        ("* * * *", "has 4 fields where cron wants 5"),
        ("* * * * * *", "has 6 fields"),
        ("", "has 1 fields"),
        ("*/0 * * * *", "step '0' is no number above 0"),
        ("*/x * * * *", "step 'x'"),
        ("5/10 * * * *", "a step needs a range"),
        ("30-10 * * * *", "runs backwards"),
        ("1,,2 * * * *", "'' is no number"),
        ("-1 * * * *", "'' is no number"),
        ("0 0 31 2 *", "a day that never comes"),
        ("0 0 31 4,6 *", "a day that never comes"),
        ("@reboot", "is not among"),
        ("0 * * * *\n* * * * * root id", "fields where cron wants 5"),
        ("0 * * * *\n", "is no number"),
        ("% * * * *", "'%' is no number"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rare"),
    [
        ("0 * * * *", False),
        ("0 6,18 * * *", False),
        ("0 6 * * *", True),
        ("0,30 6 * * *", False),
        ("@daily", True),
        ("0 * * * mon-fri", True),
        ("0 * 1-15 * *", True),
        ("0 * * 1-6 *", True),
        ("0 * 1-31 * 1", False),
        ("0 * */2 * 1-7", True),
    ],
)
def test_rare(text: str, rare: bool) -> None:
    assert parse(text).is_rare is rare


def test_offset_is_stable_and_spreads() -> None:
    assert offset_of("mirror1", "sage") == offset_of("mirror1", "sage")
    offsets = [offset_of(f"mirror{number}.example.org", "sage") for number in range(600)]
    assert set(offsets) == set(range(60))
    assert max(offsets.count(minute) for minute in range(60)) < 30
    assert offset_of("mirror1", "sage") != offset_of("mirror1", "debian")


def test_cron_d() -> None:
    lines = schedule.cron_d(
        "sage", "5 * * * *", "mirror", ["/usr/local/bin/mirrornet", "--state-dir", "/srv/100% state", "pull", "sage"], "ops@example.org"
    )
    assert lines.endswith(b"\n5 * * * * mirror /usr/local/bin/mirrornet --state-dir '/srv/100\\% state' pull sage\n")
    assert b'\nMAILTO="ops@example.org"\n' in lines
    assert b"MAILTO" not in schedule.cron_d("sage", "5 * * * *", "mirror", ARGV, None)


FOREIGN = b"# mine\nMAILTO=me\n\n0 5 * * * backup \xff 100\\%\n@reboot  thing\n"


def test_crontab_keeps_foreign_lines() -> None:
    added = in_crontab(FOREIGN, "sage", "5 * * * *", ARGV)
    assert added.startswith(FOREIGN)
    assert added.endswith(b"5 * * * * /home/u/.local/bin/mirrornet pull --quiet sage\n")
    assert in_crontab(added, "sage", "5 * * * *", ARGV) == added
    assert in_crontab(added, "sage", None, ARGV) == FOREIGN


def test_crontab_entry_is_replaced_where_it_stands() -> None:
    both = in_crontab(in_crontab(b"", "sage", "5 * * * *", ARGV), "other", "7 * * * *", ARGV) + b"# end\n"
    changed = in_crontab(both, "sage", "9 * * * *", ARGV)
    assert changed.replace(b"\n9 *", b"\n5 *") == both
    assert schedule.entry_of(changed, "sage").splitlines()[1].startswith(b"9 ")
    assert in_crontab(changed, "other", None, ARGV).endswith(b"# end\n")


def test_crontab_without_last_newline() -> None:
    assert in_crontab(b"0 5 * * * last", "sage", "5 * * * *", ARGV).startswith(b"0 5 * * * last\n# mirrornet job sage")
    assert in_crontab(b"0 5 * * * last", "sage", None, ARGV) == b"0 5 * * * last"


def test_crontab_entry_that_stands_twice_becomes_one() -> None:
    once = in_crontab(b"", "sage", "5 * * * *", ARGV)
    assert in_crontab(once + b"# x\n" + once, "sage", "5 * * * *", ARGV) == once + b"# x\n"


def test_job_whose_name_begins_like_another() -> None:
    both = in_crontab(in_crontab(b"", "sage", "5 * * * *", ARGV), "sage-old", "7 * * * *", ARGV)
    assert b"sage-old" in in_crontab(both, "sage", None, ARGV)
