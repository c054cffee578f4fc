# Copyright (c) 2026, The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A private key that is given to sign heads with, read where it's given: one that can't sign is refused before it replaces one that can.

The format is that of OpenSSH's PROTOCOL.key. Nothing here puts any of a private key into a message.
"""

from __future__ import annotations

import base64
import binascii
import re

_FRAME = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----\n(?P<text>[A-Za-z0-9+/=\n]+)\n-----END OPENSSH PRIVATE KEY-----\s*", re.ASCII)
_MAGIC = b"openssh-key-v1\0"
KIND = b"ssh-ed25519"
#: How to make a good one.
_MAKE = "make one with: ssh-keygen -t ed25519 -N '' -f sign_key"


class Unusable(ValueError):
    """A key that can't sign heads."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def public(text: str) -> str:
    """The public half, as a line of its ``.pub`` file, of the private Ed25519 key in ``text``. Raises Unusable."""
    found = _FRAME.fullmatch(text.strip().replace("\r\n", "\n"))
    if found is None:
        if "PRIVATE KEY-----" in text:
            raise Unusable("it is not in the format of OpenSSH, or some of it is missing", f"Give the whole file, or {_MAKE}")
        raise Unusable("it is not a private key", f"Give what is in the private key's file, or {_MAKE}")
    try:
        data = base64.b64decode(found.group("text").replace("\n", ""), validate=True)
        return _read(data)
    except (binascii.Error, _Short) as error:
        raise Unusable("some of it is missing or changed", "Give the whole file, each line of it") from error


class _Short(ValueError):
    """Something else than the fields that a key has."""


def _read(data: bytes) -> str:
    if not data.startswith(_MAGIC):
        raise _Short
    cipher, rest = _field(data[len(_MAGIC) :])
    dummy, rest = _field(rest)
    dummy, rest = _field(rest)
    if rest[:4] != (1).to_bytes(4, "big"):
        raise _Short
    blob, rest = _field(rest[4:])
    secret, rest = _field(rest)
    kind = _field(blob)[0]
    if kind != KIND:
        name = kind.decode("ascii", "replace")
        raise Unusable(f"it is of the type {name!r}, and heads are signed with Ed25519", _MAKE.capitalize())
    if cipher != b"none":
        raise Unusable(
            "it is protected by a passphrase, which nobody would type", "Take that off a copy of it, with ssh-keygen -p -N '' -f COPY"
        )
    # The same number twice tells OpenSSH that a passphrase was right.
    if rest or len(secret) < 8 or secret[:4] != secret[4:8]:
        raise _Short
    again, secret = _field(secret[8:])
    point, secret = _field(secret)
    private, secret = _field(secret)
    comment, padding = _field(secret)
    whole = again == KIND and len(private) == 64 and private[32:] == point and _field(blob[4 + len(KIND) :])[0] == point
    if not whole or padding != bytes(range(1, len(padding) + 1)):
        raise _Short
    line = f"{KIND.decode()} {base64.b64encode(blob).decode()} {comment.decode('utf-8', 'replace')}"
    return "".join(letter if letter.isprintable() else "?" for letter in line).rstrip()


def _field(data: bytes) -> tuple[bytes, bytes]:
    """A field that follows its length, and what comes after it."""
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise _Short
    return data[4 : 4 + size], data[4 + size :]
