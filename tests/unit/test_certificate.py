# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate that clients would refuse is refused before it is put to use, with the reason."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from mirrornet import certificate

NAME = "master.example.org"
AUTHORITY = """
[ca]
default_ca = own
[own]
database = {0}/index
new_certs_dir = {0}
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = optional
"""


class Pairs:
    """Makes certificates with their keys in a directory."""

    def __init__(self, base: Path) -> None:
        self.base = base
        (base / "index").touch()
        (base / "authority").write_text(AUTHORITY.format(base))

    def openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.base, stdin=subprocess.DEVNULL, capture_output=True, check=True)

    def make(
        self, name: str, start: str = "20200101000000Z", end: str = "20990101000000Z", issuer: bool = False, host: str = NAME
    ) -> tuple[Path, Path]:
        """A pair for HOST, good from START to END."""
        subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{host}"]
        subject += ["-addext", "basicConstraints=critical,CA:TRUE"] if issuer else []
        self.openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", *subject)
        dates = ["-startdate", start, "-enddate", end]
        own = ["-config", "authority", "-batch", "-notext", "-selfsign", "-keyfile", f"{name}.key"]
        self.openssl("ca", *own, "-in", f"{name}.csr", "-out", f"{name}.pem", *dates)
        return self.base / f"{name}.pem", self.base / f"{name}.key"


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    return Pairs(tmp_path)


def said(pair: tuple[Path, Path], name: str = NAME) -> str:
    """The one complaint about a pair, with its remedy."""
    ((message, remedy),) = certificate.check_pair(*pair, name)
    assert remedy
    return message


def test_a_good_pair_passes_under_its_name(pairs: Pairs) -> None:
    good = pairs.make("good")
    assert certificate.check_pair(*good, NAME) == []
    assert certificate.check_key_file(good[1]) == []


def test_one_from_an_authority_passes_with_its_chain(pairs: Pairs, tmp_path: Path) -> None:
    root = pairs.make("root", issuer=True)
    pairs.openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "leaf.key", "-out", "leaf.csr",
                  "-subj", "/CN=leaf", "-addext", f"subjectAltName=DNS:{NAME}")  # fmt: skip
    pairs.openssl("ca", "-config", "authority", "-batch", "-notext", "-cert", "root.pem", "-keyfile", "root.key",
                  "-in", "leaf.csr", "-out", "leaf.pem", "-days", "9")  # fmt: skip
    chain = tmp_path / "chain.pem"
    chain.write_text((tmp_path / "leaf.pem").read_text() + root[0].read_text())
    assert certificate.check_pair(tmp_path / "leaf.pem", tmp_path / "leaf.key", NAME) == []
    assert certificate.check_pair(chain, tmp_path / "leaf.key", NAME) == []
    assert "is not for the name" in said((chain, tmp_path / "leaf.key"), "other.example.org")


def test_both_can_be_in_one_file(pairs: Pairs, tmp_path: Path) -> None:
    certificate_file, key = pairs.make("good")
    both = tmp_path / "both.pem"
    for parts in ((key, certificate_file), (certificate_file, key)):
        both.write_text("".join(part.read_text() for part in parts))
        assert certificate.check_pair(both, both, NAME) == []
        assert "is not for the name" in said((both, both), "other.example.org")


def test_what_clients_would_refuse_is_refused(pairs: Pairs) -> None:
    assert said(pairs.make("old", end="20200102000000Z")) == "it has expired"
    assert said(pairs.make("new", start="20980101000000Z")) == "it is not valid yet"
    good = pairs.make("good")
    assert said(good, "other.example.org") == "it is not for the name 'other.example.org', under which mirrors reach this host"


def test_what_does_not_belong_together_is_refused(pairs: Pairs) -> None:
    good, other = pairs.make("good"), pairs.make("other")
    assert said((good[0], other[1])) == f"the key '{other[1]}' belongs to another certificate"
    assert f"can't use it with '{good[0]}'" in said((good[0], good[0]))
    assert f"can't use it with '{good[1]}'" in said((good[1], good[1]))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(pairs: Pairs, tmp_path: Path) -> None:
    good = pairs.make("good")
    pairs.openssl("rsa", "-aes256", "-passout", "pass:secret", "-in", "good.key", "-out", "locked.key")
    assert "is protected by a password" in said((good[0], tmp_path / "locked.key"))


def test_files_that_are_not_what_they_should_be_are_refused(pairs: Pairs, tmp_path: Path) -> None:
    good = pairs.make("good")
    assert "can't be read: No such file" in said((tmp_path / "gone", good[1]))
    pairs.openssl("x509", "-in", "good.pem", "-outform", "der", "-out", "good.der")
    assert "is not in the PEM format" in said((tmp_path / "good.der", good[1]))
    empty = tmp_path / "empty"
    empty.touch()
    assert f"'{empty}' holds no key in the PEM format" in said((good[0], empty))
    assert "can't use it" in said((empty, good[1]))


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "key"
    ((message, dummy),) = certificate.check_key_file(key)
    assert "can't be read: No such file" in message
    key.touch()
    key.chmod(0o640)
    assert certificate.check_key_file(key) == []
    key.chmod(0o644)
    ((message, remedy),) = certificate.check_key_file(key)
    assert "every account of this host" in message
    assert "chmod o=" in remedy
    ((message, dummy),) = certificate.check_key_file(tmp_path)
    assert "is not a file" in message
