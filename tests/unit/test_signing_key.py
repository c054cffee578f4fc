# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that are given to sign heads with, all made by ssh-keygen itself."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, strategies
from mirrornet import signing_key


def make(directory: Path, *options: str) -> Path:
    """A pair of keys, Ed25519 without a passphrase unless the options say otherwise."""
    path = directory / "key"
    given_options = ["-t", "ed25519", "-N", "", *options]
    subprocess.run(["ssh-keygen", "-q", *given_options, "-f", str(path)], check=True, stdin=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make(tmp_path_factory.mktemp("good"), "-C", "heads of me").read_text()


@pytest.mark.parametrize("comment", ["", "heads of master1", "an odd\tone"])
def test_the_public_half_is_what_ssh_keygen_says(tmp_path: Path, comment: str) -> None:
    path = make(tmp_path, "-C", comment)
    said = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    assert signing_key.public(path.read_text()).split() == said.replace("\t", "?").split()


def test_lines_may_end_as_on_other_systems(good: str) -> None:
    assert signing_key.public("\n" + good.replace("\n", "\r\n")) == signing_key.public(good)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-N", "secret words"], "passphrase"),
        (["-t", "ecdsa"], "'ecdsa-sha2-nistp256'"),
        (["-t", "rsa", "-m", "PEM"], "not in the format of OpenSSH"),
    ],
)
def test_other_keys_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    text = make(tmp_path, *options).read_text()
    with pytest.raises(signing_key.Unusable, match=re.escape(message)) as caught:
        signing_key.public(text)
    assert "ssh-keygen" in caught.value.remedy
    assert text.splitlines()[2] not in str(caught.value) + caught.value.remedy


def test_a_public_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(signing_key.Unusable, match="not a private key"):
        signing_key.public(make(tmp_path).with_suffix(".pub").read_text())


def test_a_line_less_is_refused(good: str) -> None:
    lines = good.splitlines(keepends=True)
    for number in range(1, len(lines) - 1):
        with pytest.raises(signing_key.Unusable):
            signing_key.public("".join(lines[:number] + lines[number + 1 :]))


@given(data=strategies.data())
def test_what_is_damaged_is_refused_or_gives_the_same(good: str, data: strategies.DataObject) -> None:
    """Never another public half, and never another error."""
    body = bytearray(base64.b64decode("".join(good.splitlines()[1:-1])))
    position = data.draw(strategies.integers(0, len(body) - 1))
    body[position] ^= data.draw(strategies.integers(1, 255))
    text = base64.b64encode(bytes(body[: data.draw(strategies.sampled_from([len(body), position + 1]))])).decode()
    try:
        found = signing_key.public(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n")
    except signing_key.Unusable:
        return
    assert found.split()[:2] == signing_key.public(good).split()[:2]
