# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The head of a tree, the index behind it, and the head's signature. docs/reference_formats.md has the formats.

Heads and indexes have one spelling only, so one pattern reads them, and nothing of a parser for JSON is needed on the way to ``unchanged``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from .entry import Counts
from .errors import Exit, Failure
from .record import TYPE_CHECKING, dataclass, replace

if TYPE_CHECKING:
    from typing import IO

#: Version of the formats of head, index, manifest and delta.
FORMAT = 1
#: What a signature is for, so that one made for something else doesn't count: ``ssh-keygen -Y sign -n``.
NAMESPACE = "mirrornet-head"
#: The name that trusted keys get where none is given.
PRINCIPAL = "mirrornet"
#: Bytes of a head with its signature, and of an index.
LONGEST_HEAD = 4096
LONGEST_INDEX = 1 << 20

_NUMBER = rb"(0|[1-9][0-9]{0,18})"
_SHA256 = rb"([0-9a-f]{64})"
_TIME = rb"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"
_HEAD = re.compile(
    rb'\{"bytes":%s,"entries":%s,"epoch":"([0-9a-f]{32})","files":%s,"format":1,"index":"%s","serial":%s,"time":"%s"\}\n'
    % (_NUMBER, _NUMBER, _NUMBER, _SHA256, _NUMBER, _TIME)
)
_LIST = rb'\{"serial":%s,"sha256":"%s","size":%s\}' % (_NUMBER, _SHA256, _NUMBER)
_DELTA = re.compile(rb'\{"base":"%s","serial":%s,"sha256":"%s","size":%s\}' % (_SHA256, _NUMBER, _SHA256, _NUMBER))
_INDEX = re.compile(rb'\{"deltas":\[(.*)\],"format":1,"manifest":%s\}\n' % _LIST)
_OTHER_FORMAT = re.compile(rb'\{.*"format":([0-9]+)[,}]')
_SIGNATURE = re.compile(rb"-----BEGIN SSH SIGNATURE-----\n(?:[A-Za-z0-9+/=]{1,76}\n)+-----END SSH SIGNATURE-----\n")


def index_name(serial: int) -> str:
    """The file in ``.mirrornet`` that has the index of ``serial``."""
    return f"index-{serial}"


def manifest_name(serial: int) -> str:
    """The file in ``.mirrornet`` that has all of the tree as of ``serial``."""
    return f"manifest-{serial}.gz"


def delta_name(serial: int) -> str:
    """The file in ``.mirrornet`` that makes ``serial`` of the one before."""
    return f"delta-{serial}.gz"


def contents_name(serial: int) -> str:
    """The file in ``.mirrornet`` that has the content of the small files that the delta of ``serial`` brings."""
    return f"contents-{serial}"


@dataclass(frozen=True)
class Head:
    """What a master says of its tree, or a mirror of its copy. Two heads of one epoch and serial stand for equal trees."""

    epoch: str
    serial: int
    #: SHA-256 of the index in hex digits.
    index: str
    entries: int
    files: int
    size: int
    #: For people only.
    time: str
    #: The armoured signature of ``line``; empty if there is none.
    signature: bytes = b""

    @property
    def counts(self) -> Counts:
        """What the head promises of its tree."""
        return Counts(self.entries, self.files, self.size)

    @property
    def line(self) -> bytes:
        """The first line, which is what is signed."""
        return (
            f'{{"bytes":{self.size},"entries":{self.entries},"epoch":"{self.epoch}","files":{self.files},"format":{FORMAT},'
            f'"index":"{self.index}","serial":{self.serial},"time":"{self.time}"}}\n'
        ).encode("ascii")

    def to_bytes(self) -> bytes:
        """The content of the file ``head``."""
        return self.line + self.signature

    def is_same_tree(self, other: Head) -> bool:
        """Whether both stand for the same tree; signatures and times may differ."""
        return (self.epoch, self.serial, self.index, self.counts) == (other.epoch, other.serial, other.index, other.counts)


def parse(data: bytes) -> Head:
    """The head in ``data``. Raises Failure (``bad_head``)."""
    if len(data) > LONGEST_HEAD:
        raise _bad_head(f"it has more than {LONGEST_HEAD} bytes")
    line, end, signature = data.partition(b"\n")
    match = _HEAD.fullmatch(line + end)
    if match is None:
        raise _bad_head(_other_format(line) or "it is no head")
    if signature and not _SIGNATURE.fullmatch(signature):
        raise _bad_head("what follows its first line is no signature")
    size, entries, epoch, files, index, serial, time = (group.decode("ascii") for group in match.groups())
    head = Head(epoch, int(serial), index, int(entries), int(files), int(size), time, signature)
    if head.serial < 1 or not 0 <= head.files < head.entries or (head.size and not head.files):
        raise _bad_head("its numbers can't be")
    return head


def gist(data: bytes) -> str:
    """What tells a head from others, its signature aside; of whatever ``data`` is."""
    return data.partition(b"\n")[0][:LONGEST_HEAD].decode("ascii", "backslashreplace")


def _other_format(line: bytes) -> str:
    match = _OTHER_FORMAT.match(line)
    if match is None or match.group(1) == b"%d" % FORMAT:
        return ""
    return f"it has format {match.group(1)[:20].decode('ascii')}, and this mirrornet knows {FORMAT}"


def _bad_head(why: str) -> Failure:
    remedy = "Nothing of it was used. The source's operator should publish the tree again."
    return Failure("bad_head", Exit.UNAVAILABLE, f"The head is not what it should be: {why}.", remedy)


@dataclass(frozen=True)
class Listed:
    """A manifest or a delta as an index lists it: size and digest are of the uncompressed content."""

    serial: int
    sha256: str
    size: int
    #: Of a delta, the ``index`` of the head that it starts from: what a mirror holds must be that, and not only have its serial.
    base: str = ""


@dataclass(frozen=True)
class Index:
    """What leads to a serial."""

    manifest: Listed
    deltas: tuple[Listed, ...] = ()

    @property
    def serial(self) -> int:
        """The serial that this is the index of."""
        return self.deltas[-1].serial if self.deltas else self.manifest.serial

    @property
    def names(self) -> set[str]:
        """The files in ``.mirrornet`` without which the head leads nowhere: the index itself, and all that it lists."""
        return {index_name(self.serial), manifest_name(self.manifest.serial), *(delta_name(delta.serial) for delta in self.deltas)}

    @property
    def after_manifest(self) -> tuple[Listed, ...]:
        """The deltas that lead from the manifest to the head."""
        return tuple(delta for delta in self.deltas if delta.serial > self.manifest.serial)

    def since(self, head: Head) -> tuple[Listed, ...] | None:
        """The deltas that lead from the tree of ``head`` to this serial; None if they don't reach back to it, or start from another tree."""
        chain = tuple(delta for delta in self.deltas if delta.serial > head.serial)
        if head.serial > self.serial or len(chain) != self.serial - head.serial or (chain and chain[0].base != head.index):
            return None
        return chain

    def to_bytes(self) -> bytes:
        """The content of the file ``index-SERIAL``."""
        deltas = ",".join(
            f'{{"base":"{delta.base}","serial":{delta.serial},"sha256":"{delta.sha256}","size":{delta.size}}}' for delta in self.deltas
        )
        whole = f'{{"serial":{self.manifest.serial},"sha256":"{self.manifest.sha256}","size":{self.manifest.size}}}'
        return f'{{"deltas":[{deltas}],"format":{FORMAT},"manifest":{whole}}}\n'.encode("ascii")


def parse_index(data: bytes, head: Head) -> Index:
    """The index in ``data``, which must be the one of ``head``. Raises Failure (``bad_head``)."""
    import hashlib  # Late: most runs find the head unchanged and stop before.

    if len(data) > LONGEST_INDEX or hashlib.sha256(data).hexdigest() != head.index:
        raise _bad_index("its digest is not the one of the head")
    match = _INDEX.fullmatch(data)
    if match is None:
        raise _bad_index(_other_format(data) or "it is no index")
    texts, serial, sha256, size = match.groups()
    deltas = []
    for text in re.split(rb"(?<=\}),", texts) if texts else []:
        found = _DELTA.fullmatch(text)
        if found is None:
            raise _bad_index("a delta is not listed as it should be")
        deltas.append(Listed(int(found[2]), found[3].decode("ascii"), int(found[4]), found[1].decode("ascii")))
    index = Index(Listed(int(serial), sha256.decode("ascii"), int(size)), tuple(deltas))
    serials = [delta.serial for delta in deltas]
    if serials and (serials != list(range(serials[0], serials[0] + len(serials))) or serials[0] < 2):
        raise _bad_index("its deltas have gaps")
    if index.serial != head.serial:
        raise _bad_index("it ends at another serial than the head's")
    if serials and not serials[0] - 1 <= index.manifest.serial <= serials[-1]:
        raise _bad_index("its deltas don't lead from its manifest")
    return index


def _bad_index(why: str) -> Failure:
    remedy = "Nothing of it was used. The source's operator should publish the tree again."
    return Failure("bad_head", Exit.UNAVAILABLE, f"The index behind the head is not what it should be: {why}.", remedy)


# Signatures


def allowed_signers(keys: Iterable[str]) -> bytes:
    """Trusted keys as ssh-keygen wants them. A key is a line of a file .pub, or of a file of allowed signers (see ssh-keygen(1)).

    Raises ValueError with what is wrong.
    """
    lines = []
    for key in keys:
        words = key.split()
        if any(ord(character) < 32 for character in key.strip()) or len(words) < 2:
            raise ValueError(f"{key!r} is not one line with a public key")
        if _is_key(words[0], words[1]):
            lines.append(f'{PRINCIPAL} namespaces="{NAMESPACE}" {words[0]} {words[1]}')
        elif any(_is_key(*pair) for pair in zip(words[1:], words[2:])):
            lines.append(" ".join(words))
        else:
            raise ValueError(f"{key!r} has no public key of SSH in it")
    return "".join(f"{line}\n" for line in lines).encode()


def _is_key(kind: str, text: str) -> bool:
    """Whether a word names the kind of key that the next word holds: the base64 text begins with the name again."""
    import base64

    try:
        blob = base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return blob[: 4 + len(kind)] == len(kind).to_bytes(4, "big") + kind.encode("ascii", "replace") and len(blob) > 4 + len(kind)


def key_in_memory(key: Path, owner: int) -> IO[bytes]:
    """The private key in ``key`` for account ``owner``, who can't read that file, in a file that is on no disk. Raises OSError."""
    file = _in_memory(key.read_bytes())
    # ssh-keygen takes no key that others can read, or that isn't the caller's own.
    os.fchmod(file.fileno(), 0o400)
    os.fchown(file.fileno(), owner, -1)
    return file


def _descriptor(key: Path) -> tuple[int, ...]:
    """The descriptor that ``key`` names, if it names one: a child needs to be given that."""
    match = re.fullmatch(r"/dev/fd/(\d+)", str(key))
    return (int(match[1]),) if match else ()


def sign(head: Head, key: Path) -> Head:
    """The same head with a signature by the private key in ``key``, which has no passphrase. Raises Failure (``no_signature``)."""
    code, said, complaint = _ssh_keygen(["-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key)], head.line, _descriptor(key))
    signed = replace(head, signature=said)
    if code != 0 or not _SIGNATURE.fullmatch(said) or len(signed.to_bytes()) > LONGEST_HEAD:
        message = f"The head can't be signed with {key}: {complaint or 'ssh-keygen made no signature that fits'}."
        remedy = "The key must be readable for the account that publishes, and have no passphrase: ssh-keygen -t ed25519 -N '' -f FILE makes one."
        raise Failure("no_signature", Exit.CONFIG, message, remedy)
    return signed


def fingerprint(key: Path) -> str:
    """What tells the key in ``key`` from others. Raises Failure (``no_signature``)."""
    code, said, complaint = _ssh_keygen(["-l", "-f", str(key)], b"", _descriptor(key))
    words = said.decode("utf-8", "replace").split()
    if code != 0 or len(words) < 2:
        message = f"The key {key} for signing can't be read: {complaint or 'ssh-keygen says nothing'}."
        raise Failure("no_signature", Exit.CONFIG, message, "Name a private key of SSH that the account that publishes can read.")
    return words[1]


def verify(head: Head, signers: bytes) -> str:
    """Who of ``signers``, the content of a file of allowed signers, has signed ``head``. Raises Failure (``untrusted``) if nobody has."""
    remedy = "Nothing of it was used. Compare the master's key with the job's trusted keys; a mirror in between may have changed the tree."
    if not head.signature:
        raise Failure("untrusted", Exit.REFUSED, "The head is not signed, and this job trusts only signed ones.", remedy)
    with _in_memory(signers) as keys, _in_memory(head.signature) as signature:
        given, files = (keys.fileno(), signature.fileno()), (f"/dev/fd/{keys.fileno()}", f"/dev/fd/{signature.fileno()}")
        code, said, complaint = _ssh_keygen(["-Y", "find-principals", "-s", files[1], "-f", files[0]], b"", given)
        names = said.decode("utf-8", "replace").splitlines()
        if code != 0 or not names:
            message = "The head is signed with a key that this job doesn't trust."
            raise Failure("untrusted", Exit.REFUSED, message, remedy)
        # A pattern stands for many names, of which any one will do.
        name = names[0].partition(",")[0].replace("*", "x").replace("?", "x")
        command = ["-Y", "verify", "-f", files[0], "-I", name, "-n", NAMESPACE, "-s", files[1]]
        code, said, complaint = _ssh_keygen(command, head.line, given)
    if code != 0:
        message = f"The signature of the head doesn't hold: {complaint or 'ssh-keygen refuses it'}."
        raise Failure("untrusted", Exit.REFUSED, message, remedy)
    return name


def _in_memory(data: bytes) -> IO[bytes]:
    """A file that is on no disk, which a child can open as /dev/fd/N."""
    file = os.fdopen(os.memfd_create("mirrornet", os.MFD_CLOEXEC), "wb")
    file.write(data)
    file.flush()
    return file


def _ssh_keygen(words: list[str], data: bytes, given: tuple[int, ...] = ()) -> tuple[int, bytes, str]:
    """One call with ``data`` as its input and the descriptors ``given``: exit code, output, and its complaint in one line.

    It may neither ask for a passphrase nor show a window that does.
    """
    import subprocess

    environment = {**os.environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}
    environment.pop("SSH_AUTH_SOCK", None)
    environment.pop("DISPLAY", None)
    try:
        done = subprocess.run(
            ["ssh-keygen", *words],
            input=data,
            capture_output=True,
            pass_fds=given,
            env=environment,
            start_new_session=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"Heads are signed and verified by ssh-keygen, which doesn't work here: {error}."
        raise Failure("no_ssh_keygen", Exit.CONFIG, message, "Install OpenSSH's client (the package openssh-client).") from None
    return done.returncode, done.stdout, " ".join(done.stderr.decode("utf-8", "replace").split())
