# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Known vulnerabilities: which of them a version has, and which of them a distribution has mended."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from mirrornet import audit, cves

#: The lines of Debian's changelogs that name a version or a vulnerability, as the packages have them.
CHANGELOGS = Path(__file__).parent / "corpus/changelogs"


def packaged(suite: str) -> str:
    return (CHANGELOGS / f"{suite}.txt").read_text(encoding="utf-8")


def names(version: str, changelog: str = "") -> list[str]:
    return [cve.name for cve in cves.unfixed(version, changelog)]


def test_the_table_is_in_order_and_complete() -> None:
    found = [tuple(map(int, re.findall(r"\d+", cve.name))) for cve in cves.KNOWN]
    assert found == sorted(set(found))
    for cve in cves.KNOWN:
        assert re.fullmatch(r"CVE-20\d\d-\d{4,6}", cve.name)
        assert cve.severity in cves.SEVERITIES
        assert cve.first < cve.fixed
        assert len(cve.fixed) == 3
        assert cve.lets


@pytest.mark.parametrize(
    ("version", "has", "has_not"),
    [
        ("3.2.3", ["CVE-2024-12085", "CVE-2026-70457"], ["CVE-2024-12084", "CVE-2026-70461", "CVE-2026-70455"]),
        ("3.2.7", ["CVE-2024-12084", "CVE-2026-70461"], ["CVE-2026-70455"]),
        ("3.3.0", ["CVE-2024-12084"], []),
        ("3.4.0", ["CVE-2025-10158"], ["CVE-2024-12084", "CVE-2024-12085", "CVE-2026-70455"]),
        ("3.4.2", ["CVE-2026-70455", "CVE-2026-43618"], ["CVE-2025-10158", "CVE-2026-41035"]),
        ("3.4.4", ["CVE-2026-70464"], ["CVE-2026-43618"]),
        ("3.5.0", ["CVE-2026-119741"], ["CVE-2026-70464"]),
        ("2.6.9", ["CVE-2026-70464"], ["CVE-2026-70458"]),
    ],
)
def test_a_version_has_what_its_range_says(version: str, has: list[str], has_not: list[str]) -> None:
    found = names(version)
    assert [name for name in has if name not in found] == []
    assert [name for name in has_not if name in found] == []


def test_what_is_not_known_is_not_vulnerable() -> None:
    assert names("") == names("3.5.2") == names("3.10.0") == []


@pytest.mark.parametrize(("suite", "version"), [("bookworm", "3.5.0"), ("trixie", "3.5.0")])
def test_what_the_package_mended_does_not_count(suite: str, version: str) -> None:
    assert names(version)
    assert names(version, packaged(suite)) == []


def test_an_old_package_has_what_nobody_mends_any_more() -> None:
    found = names("3.2.3", packaged("bullseye"))
    assert "CVE-2026-70464" in found
    assert not {"CVE-2024-12085", "CVE-2026-43618", "CVE-2026-29518"} & set(found)


def test_a_name_within_another_is_another() -> None:
    assert "CVE-2026-70464" in names("3.4.4", "fixes CVE-2026-704641 and CVE-2026-7046")


def test_the_worst_comes_first() -> None:
    order = [cves.SEVERITIES.index(cve.severity) for cve in cves.unfixed("3.2.7", "")]
    assert order == sorted(order)
    assert order[0] == 0


def test_the_warning_says_what_it_means_and_what_to_do() -> None:
    found = cves.unfixed("3.4.4", "")
    said = cves.warning("3.4.4", found, True)
    assert said.startswith(f"rsync 3.4.4 on this host has {len(found)} known vulnerabilities, which its package's changelog does not name")
    assert "CVE-2026-70464 (clients that say nothing hold all connections)" in said
    assert "CVE-2026-53791 (clients give themselves another address, only with proxy protocol)" in said
    assert said.endswith("Install the distribution's updates; upstream it is all fixed from rsync 3.5.2 on.")
    assert "no changelog of a package tells" in cves.warning("3.4.4", found, False)
    assert cves.warning("3.5.2", [], True) == ""


def test_the_changelog_is_that_of_the_package_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "changelog.gz"
    place.write_bytes(gzip.compress(b"fixes CVE-2026-70464"))
    assert cves.changelog("/usr/bin/rsync", [tmp_path / "none", place]) == "fixes CVE-2026-70464"
    # An rsync that somebody built has none of the package's fixes.
    assert cves.changelog("/usr/local/bin/rsync", [place]) == ""
    place.write_bytes(gzip.compress(b"x" * 1000)[:20])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cves.changelog("/usr/bin/rsync", [place]) == ""


def test_where_there_is_rpm_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rpm = tmp_path / "rpm"
    rpm.write_text('#!/bin/sh\necho "$@: CVE-2026-70464"\n', encoding="utf-8")
    rpm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cves.changelog("/usr/bin/rsync", []) == "--query --changelog rsync: CVE-2026-70464\n"
    rpm.write_text("#!/bin/sh\necho package rsync is not installed\nexit 1\n", encoding="utf-8")
    assert cves.changelog("/usr/bin/rsync", []) == ""


def test_the_audit_has_a_finding_for_each_severity() -> None:
    findings = audit.program("/usr/bin/rsync", "3.4.4", "")
    assert [finding.severity for finding in findings] == ["critical", "high", "medium", "medium"]
    assert all(finding.where == "/usr/bin/rsync 3.4.4" and finding.remedy for finding in findings)
    assert "CVE-2026-70464" in findings[1].message
    assert audit.program("/usr/bin/rsync", "3.5.0", packaged("trixie")) == []
