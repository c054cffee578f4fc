# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads and indexes: one spelling, every lie refused, and signatures that hold for one head only."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mirrornet import head as heads
from mirrornet.errors import Failure
from mirrornet.head import Head, Index, Listed, allowed_signers, fingerprint, parse, parse_index, sign, verify
from mirrornet.record import replace

DIGEST = "0123456789abcdef" * 4
HEAD = Head("9f" * 16, 42, DIGEST, 5, 3, 123, "2026-01-31T12:00:00Z")
#: As the reference shows it.
LINE = (
    b'{"bytes":123,"entries":5,"epoch":"' + b"9f" * 16 + b'","files":3,"format":1,"index":"' + DIGEST.encode() + b'",'
    b'"serial":42,"time":"2026-01-31T12:00:00Z"}\n'
)


def complaint(data: bytes) -> str:
    with pytest.raises(Failure) as caught:
        parse(data)
    assert caught.value.kind == "bad_head"
    return caught.value.message


class TestHead:
    def test_one_spelling(self) -> None:
        assert HEAD.to_bytes() == LINE
        assert parse(LINE) == HEAD
        assert HEAD.counts == (5, 3, 123)

    def test_same_tree(self) -> None:
        assert HEAD.is_same_tree(replace(HEAD, time="2027-01-01T00:00:00Z", signature=b"x"))
        for other in ({"serial": 43}, {"epoch": "0" * 32}, {"index": "0" * 64}):
            assert not HEAD.is_same_tree(replace(HEAD, **other))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            (b"}\n", b"}", "no head"),
            (b"}\n", b"}\nx", "no signature"),
            (b"}\n", b"}\n" + LINE, "no signature"),
            (b"}\n", b"}\n" + b" " * 4096, "more than 4096 bytes"),
            (b'"format":1', b'"format":2', "has format 2, and this mirrornet knows 1"),
            (b'"serial":42', b'"serial":0', "numbers"),
            (b'"serial":42', b'"serial":-1', "no head"),
            (b'"serial":42', b'"serial":042', "no head"),
            (b'"serial":42', b'"serial":1e3', "no head"),
            (b'"serial":42', b'"serial":"42"', "no head"),
            (b'"serial":42', b'"serial":' + b"9" * 20, "no head"),
            (b'"entries":5', b'"entries":3', "numbers"),
            (b'"entries":5', b'"entries":0', "numbers"),
            (b'"files":3', b'"files":0', "numbers"),
            (b'"bytes"', b'"byte"', "no head"),
            (b'"bytes":123,', b"", "no head"),
            (b'"bytes":123,', b'"bytes":123,"bytes":123,', "no head"),
            (b'":', b'": ', "no head"),
            (b"9f9f", b"9F9F", "no head"),
            (b"2026-01", b"2026-1", "no head"),
            (b"{", b"[" * 3000 + b"{", "no head"),
            (LINE, b"", "no head"),
            (LINE, b"\n", "no head"),
            (LINE, b"<html>404</html>\n", "no head"),
        ],
    )
    def test_refused(self, old: bytes, new: bytes, says: str) -> None:
        assert old in LINE
        assert says in complaint(LINE.replace(old, new, 1))

    @given(st.integers(0, (1 << 64) - 1))
    @settings(max_examples=500)
    @example(0)
    def test_fuzz(self, seed: int) -> None:
        """Whatever is taken is spelled in the one way."""
        chance, data = Random(seed), bytearray(LINE)
        for dummy in range(chance.randint(1, 3)):
            at = chance.randint(0, len(data))
            data[at : at + chance.randrange(3)] = chance.choice([b"", b"0", b"9", b"}", b"\n", b'"', b",", bytes([chance.randrange(256)])])
        try:
            taken = parse(bytes(data))
        except Failure as failure:
            if failure.kind != "bad_head":
                raise
            return
        assert taken.to_bytes() == data


MANIFEST = Listed(41, "a" * 64, 98765)
DELTA = Listed(42, "b" * 64, 2048, "c" * 64)


def index_with_head(index: Index, serial: int | None = None) -> tuple[bytes, Head]:
    data = index.to_bytes()
    return data, replace(HEAD, serial=serial or index.serial, index=hashlib.sha256(data).hexdigest())


class TestIndex:
    @pytest.mark.parametrize(
        "index",
        [
            Index(MANIFEST),
            Index(MANIFEST, (DELTA,)),
            Index(replace(MANIFEST, serial=42), (DELTA,)),
            Index(MANIFEST, (replace(DELTA, serial=41), DELTA, replace(DELTA, serial=43))),
        ],
    )
    def test_one_spelling(self, index: Index) -> None:
        assert parse_index(*index_with_head(index)) == index

    def test_as_documented(self) -> None:
        assert Index(MANIFEST, (DELTA,)).to_bytes() == (
            b'{"deltas":[{"base":"' + b"c" * 64 + b'","serial":42,"sha256":"' + b"b" * 64 + b'","size":2048}],"format":1,'
            b'"manifest":{"serial":41,"sha256":"' + b"a" * 64 + b'","size":98765}}\n'
        )

    @pytest.mark.parametrize(
        ("index", "says"),
        [
            (Index(MANIFEST, (DELTA, replace(DELTA, serial=44))), "gaps"),
            (Index(MANIFEST, (DELTA, DELTA)), "gaps"),
            (Index(MANIFEST, (replace(DELTA, serial=43), DELTA)), "gaps"),
            (Index(replace(MANIFEST, serial=40), (DELTA,)), "don't lead from its manifest"),
            (Index(replace(MANIFEST, serial=43), (DELTA,)), "don't lead from its manifest"),
            (Index(replace(MANIFEST, size=-1)), "no index"),
            (Index(replace(MANIFEST, sha256="")), "no index"),
            (Index(MANIFEST, (replace(DELTA, base="../"),)), "not listed as it should be"),
        ],
    )
    def test_refused(self, index: Index, says: str) -> None:
        with pytest.raises(Failure, match=says):
            parse_index(*index_with_head(index))

    def test_of_another_serial_or_digest(self) -> None:
        data, head = index_with_head(Index(MANIFEST, (DELTA,)), 43)
        with pytest.raises(Failure, match="another serial"):
            parse_index(data, head)
        with pytest.raises(Failure, match="digest"):
            parse_index(data + b" ", head)

    def test_what_leads_from_a_head(self) -> None:
        older = replace(DELTA, serial=41, base="d" * 64)
        index = Index(MANIFEST, (older, DELTA))
        assert index.after_manifest == (DELTA,)
        assert index.since(replace(HEAD, serial=41, index="c" * 64)) == (DELTA,)
        assert index.since(replace(HEAD, serial=40, index="d" * 64)) == (older, DELTA)
        assert index.since(HEAD) == ()
        assert index.since(replace(HEAD, serial=39, index="d" * 64)) is None, "too far back"
        assert index.since(replace(HEAD, serial=41, index="d" * 64)) is None, "the same serial, but another tree"
        assert index.since(replace(HEAD, serial=43)) is None, "newer than this"


def new_key(directory: Path, name: str, kind: str = "ed25519") -> Path:
    path = directory / name
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "the archive's key", "-f", str(path)], check=True)
    return path


def public(key: Path) -> str:
    return key.with_suffix(".pub").read_text()


class TestSignatures:
    def test_holds_for_this_head_only(self, tmp_path: Path) -> None:
        key = new_key(tmp_path, "key")
        signed = sign(HEAD, key)
        assert signed.line == HEAD.line
        assert parse(signed.to_bytes()) == signed
        trusted = allowed_signers([public(key)])
        assert verify(signed, trusted) == "mirrornet"
        for change in ({"serial": 41}, {"index": "0" * 64}, {"epoch": "0" * 32}, {"time": "2026-01-31T12:00:01Z"}):
            with pytest.raises(Failure, match="signature of the head doesn't hold") as caught:
                verify(replace(signed, **change), trusted)  # type: ignore[arg-type]
            assert caught.value.kind == "untrusted"

    def test_unsigned_and_signed_by_somebody_else(self, tmp_path: Path) -> None:
        trusted = allowed_signers([public(new_key(tmp_path, "ours"))])
        with pytest.raises(Failure, match="not signed"):
            verify(HEAD, trusted)
        with pytest.raises(Failure, match="doesn't trust"):
            verify(sign(HEAD, new_key(tmp_path, "theirs")), trusted)
        with pytest.raises(Failure, match="doesn't trust"):
            verify(sign(HEAD, tmp_path / "theirs"), b"")

    def test_made_for_something_else(self, tmp_path: Path) -> None:
        """A signature under equal bytes, but for another purpose, such as a commit."""
        key = new_key(tmp_path, "key")
        words = ["ssh-keygen", "-Y", "sign", "-q", "-n", "git", "-f", str(key)]
        signature = subprocess.run(words, input=HEAD.line, capture_output=True, check=True).stdout
        with pytest.raises(Failure, match="doesn't hold"):
            verify(replace(HEAD, signature=signature), allowed_signers([public(key)]))

    def test_rotation(self, tmp_path: Path) -> None:
        """Mirrors trust both keys for a while: neither the master's change of keys nor the order of mirrors matters."""
        old, new = new_key(tmp_path, "old"), new_key(tmp_path, "new", "ecdsa")
        both = allowed_signers([public(old), public(new)])
        for key in (old, new):
            assert verify(sign(HEAD, key), both)
        with pytest.raises(Failure, match="doesn't trust"):
            verify(sign(HEAD, old), allowed_signers([public(new)]))
        assert fingerprint(old) != fingerprint(new)

    @pytest.mark.parametrize("who", ["archive@example.org", "*@example.org", "a@example.org,b@example.org", "*"])
    def test_lines_of_a_file_of_allowed_signers(self, tmp_path: Path, who: str) -> None:
        key = new_key(tmp_path, "key")
        signed = sign(HEAD, key)
        kind, blob = public(key).split()[:2]
        verify(signed, allowed_signers([f'{who} namespaces="mirrornet-head" {kind} {blob} a comment']))
        with pytest.raises(Failure, match="doesn't hold"):
            verify(signed, allowed_signers([f'{who} namespaces="git" {kind} {blob}']))

    @pytest.mark.parametrize(
        "key", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "hello world", "x ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA==", "a b\nc d", "- - -"]
    )
    def test_what_is_no_key(self, key: str) -> None:
        with pytest.raises(ValueError, match=r"is not one line|no public key"):
            allowed_signers([key])

    def test_a_key_that_can_not_sign(self, tmp_path: Path) -> None:
        with pytest.raises(Failure, match="can't be signed with") as caught:
            sign(HEAD, tmp_path / "missing")
        assert caught.value.kind == "no_signature"
        locked = tmp_path / "locked"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
        with pytest.raises(Failure, match="can't be signed with"):
            sign(HEAD, locked)
        with pytest.raises(Failure, match="can't be read"):
            fingerprint(tmp_path / "missing")

    def test_without_ssh_keygen(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(Failure, match="doesn't work here"):
            sign(HEAD, tmp_path / "key")


def test_names() -> None:
    assert (heads.index_name(7), heads.manifest_name(7), heads.delta_name(7)) == ("index-7", "manifest-7.gz", "delta-7.gz")
