# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Known vulnerabilities of rsync that concern a master, and which of them the host's rsync still has.

From the records of the CVE programme, from rsync's NEWS up to 3.5.0, and for CVE-2026-119741 from the release notes of 3.5.2 and Debian's
changelog; last looked at on 23 November 2026. Ranges and severities (CVSS 3.1, as far as there is one) are those of the records; where a record has
no range, "all before the version with the fix" is meant. What endangers clients alone, or needs an account on the master
and no module at all, is not here.

A version alone says little, since distributions mend old versions. Their changelogs name what they mended, so what the
package's changelog names counts as mended.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .rsyncd_parameters import Version, spelled, version_of

#: From what must be mended today to what is worth knowing. The last is for those that nobody has rated yet.
SEVERITIES = ("critical", "high", "medium", "unrated")
#: Where Debian's packages have their changelog: the first of its own, the second of a package that is not Debian's own.
CHANGELOGS = (Path("/usr/share/doc/rsync/changelog.Debian.gz"), Path("/usr/share/doc/rsync/changelog.gz"))
#: The rsync that comes with the package that those changelogs are about.
PACKAGED = ("/usr/bin/rsync", "/bin/rsync")
_PATIENCE = 30


@dataclass(frozen=True)
class Cve:
    """One vulnerability: ``first`` is the first version that has it, empty for all; ``fixed`` the first that hasn't."""

    name: str
    severity: str
    first: Version
    fixed: Version
    lets: str  #: what it lets happen
    needs: str = ""  #: what a master must use for it to matter; empty when serving is enough


_WRITABLE = "a writable module"
_OPEN = "use chroot = no"
_CONVERTER = "a name converter"

KNOWN: tuple[Cve, ...] = (
    Cve("CVE-2024-12084", "critical", (3, 2, 7), (3, 4, 0), "clients write beyond a buffer, and so run code"),
    Cve("CVE-2024-12085", "high", (), (3, 4, 0), "clients read the server's memory"),
    Cve("CVE-2024-12747", "medium", (), (3, 4, 0), "they get files from outside the tree sent", "accounts of the host that change the tree"),
    Cve("CVE-2025-10158", "medium", (), (3, 4, 2), "clients make the server read beyond a buffer"),
    Cve("CVE-2026-29518", "high", (), (3, 4, 3), "local writers get out of the module by a race", _OPEN),
    Cve("CVE-2026-41035", "high", (3, 0, 1), (3, 4, 2), "clients make the server use freed memory", "a writable module with --xattrs"),
    Cve("CVE-2026-43617", "medium", (), (3, 4, 3), "clients that a name denies are let in", "daemon chroot"),
    Cve("CVE-2026-43618", "high", (), (3, 4, 3), "clients read the server's memory", _WRITABLE),
    Cve("CVE-2026-43619", "medium", (), (3, 4, 3), "local writers get out of the module by a race", _OPEN),
    Cve("CVE-2026-53783", "high", (), (3, 5, 0), "who is locked into a directory gets out", "rrsync over SSH"),
    Cve("CVE-2026-53784", "high", (), (3, 5, 0), "clients reach files outside by a link in the module's path", _OPEN),
    Cve("CVE-2026-53786", "medium", (), (3, 5, 0), "clients read a file that is excluded", "exclude or filter"),
    Cve("CVE-2026-53788", "medium", (), (3, 5, 0), "clients forge requests to the converter", _CONVERTER),
    Cve("CVE-2026-53790", "high", (), (3, 5, 0), "clients run commands", "%RSYNC_…% in a pre-xfer or post-xfer exec"),
    Cve("CVE-2026-53791", "critical", (), (3, 5, 0), "clients give themselves another address", "proxy protocol"),
    Cve("CVE-2026-53792", "medium", (), (3, 5, 0), "clients make the server read before a buffer"),
    Cve("CVE-2026-53793", "high", (), (3, 5, 0), "clients leave the inner part of the path", "a path with /./"),
    Cve("CVE-2026-53794", "medium", (), (3, 5, 0), "clients switch off the limit of memory"),
    Cve("CVE-2026-53798", "medium", (), (3, 5, 0), "files become root's", _CONVERTER),
    Cve("CVE-2026-53801", "medium", (), (3, 5, 0), "they get names from outside the tree sent", "accounts of the host that change the tree"),
    Cve("CVE-2026-70452", "high", (3, 1, 0), (3, 5, 0), "clients are let in when a name can't be looked up", "names in hosts deny"),
    Cve("CVE-2026-70453", "high", (), (3, 5, 0), "clients keep a processor busy"),
    Cve("CVE-2026-70455", "high", (3, 4, 2), (3, 5, 0), "clients start threads without limit"),
    Cve("CVE-2026-70456", "high", (3, 0, 1), (3, 5, 0), "clients write beyond a buffer"),
    Cve("CVE-2026-70457", "medium", (3, 2, 3), (3, 5, 0), "clients write beyond a buffer"),
    Cve("CVE-2026-70458", "high", (3, 0, 0), (3, 5, 0), "clients write beyond a buffer", _WRITABLE),
    Cve("CVE-2026-70459", "medium", (3, 0, 0), (3, 5, 0), "clients crash their own connection", _WRITABLE),
    Cve("CVE-2026-70460", "high", (2, 3, 3), (3, 5, 0), "clients write outside the module by a link in it", _WRITABLE),
    Cve("CVE-2026-70461", "high", (3, 2, 5), (3, 5, 0), "clients write beyond a buffer"),
    Cve("CVE-2026-70463", "high", (3, 1, 0), (3, 5, 0), "users who are denied are let in", "a group with a space in its name in auth users"),
    Cve("CVE-2026-70464", "high", (2, 0, 0), (3, 5, 0), "clients that say nothing hold all connections"),
    Cve("CVE-2026-119741", "unrated", (), (3, 5, 2), "clients keep the processors busy from many connections"),
)  # fmt: skip


def unfixed(version: str, changelog: str) -> list[Cve]:
    """What rsync of this version has, and its package's changelog doesn't name; the worst first. Nothing where the version isn't known."""
    here = version_of(version)
    named = set(re.findall(r"CVE-\d{4}-\d{4,}", changelog))
    found = [cve for cve in KNOWN if here and cve.first <= here < cve.fixed and cve.name not in named]
    return sorted(found, key=lambda cve: SEVERITIES.index(cve.severity))


def changelog(rsync: str, places: Sequence[Path] = CHANGELOGS) -> str:
    """The changelog of the package that ``rsync`` is from; empty where there is none, or it's an rsync that somebody built."""
    if rsync not in PACKAGED:
        return ""
    for place in places:
        try:
            return gzip.decompress(place.read_bytes()).decode("utf-8", "replace")
        except (OSError, EOFError, zlib.error):
            continue
    rpm = shutil.which("rpm")
    if rpm is None:
        return ""
    said = subprocess.run(
        [rpm, "--query", "--changelog", "rsync"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_PATIENCE,
        check=False,
    )
    return said.stdout.decode("utf-8", "replace") if said.returncode == 0 else ""


def list_of(cves: Sequence[Cve]) -> str:
    """One after the other, with what each lets happen; those with a condition after those without."""
    by_need = sorted(cves, key=lambda cve: cve.needs != "")
    return "; ".join(f"{cve.name} ({cve.lets}{', only with ' + cve.needs if cve.needs else ''})" for cve in by_need)


def remedy(cves: Sequence[Cve]) -> str:
    """What to do about them."""
    return f"Install the distribution's updates; upstream it is all fixed from rsync {spelled(max(cve.fixed for cve in cves))} on"


def warning(version: str, cves: Sequence[Cve], mentions: bool) -> str:
    """A warning about them; ``mentions`` tells whether there was a changelog to look into. Empty when there is nothing to warn of."""
    if not cves:
        return ""
    source = "which its package's changelog does not name as fixed" if mentions else "and no changelog of a package tells that any is fixed"
    told = " ".join(
        f"{severity.capitalize()}: {list_of(those)}."
        for severity in SEVERITIES
        for those in [[cve for cve in cves if cve.severity == severity]]
        if those
    )
    return f"rsync {version} on this host has {len(cves)} known vulnerabilities, {source}. {told} {remedy(cves)}."
