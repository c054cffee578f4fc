# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a certificate is good to serve with, found out by a handshake: in memory before it is put to use, and with the server afterwards."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

#: What is wrong, and what to do.
Complaint = tuple[str, str]

#: X509_V_FLAG_PARTIAL_CHAIN of OpenSSL: the certificate itself is enough to trust it by. The module has a name for it from Python 3.10 on.
_PARTIAL_CHAIN = 0x80000

#: From when on before its end a certificate that nobody has renewed is worth a word. Seconds.
_SOON = 14 * 24 * 3600

_END = "-----END CERTIFICATE-----\n"

#: OpenSSL's codes for what a client would refuse, from x509_vfy.h.
_REFUSALS: dict[int, Complaint] = {
    9: ("it is not valid yet", "Check this host's clock, or wait until it is"),
    10: ("it has expired", "Renew it"),
    62: ("it is not for the name {name!r}, under which mirrors reach this host", "Get one for that name, or correct the name"),
}


def check_key_file(key: Path) -> list[Complaint]:
    """Whether the key's file can be read by root and not by everybody."""
    try:
        mode = key.stat().st_mode
    except OSError as error:
        return [(f"{str(key)!r} can't be read: {error.strerror}", "Put the key there, or correct the path")]
    if not key.is_file():
        return [(f"{str(key)!r} is not a file", "Give the path of the key")]
    if mode & 0o007:
        return [(f"{str(key)!r} can be read or changed by every account of this host", "Take that away, with chmod o= for example")]
    return []


def check_pair(certificate: Path, key: Path, name: str) -> list[Complaint]:
    """Whether the two belong together, and whether a client that trusts their issuer would accept them from ``name``."""
    try:
        text = certificate.read_text(encoding="ascii")
    except UnicodeDecodeError:
        return [(f"{str(certificate)!r} is not in the PEM format", "Convert it, with openssl x509 -inform der for example")]
    except OSError as error:
        return [(f"{str(certificate)!r} can't be read: {error.strerror}", "Put the certificate there, or correct the path")]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The password keeps a key that is encrypted from being asked for on a terminal.
        server.load_cert_chain(certificate, key, password="")
        # The first in the file is the host's own. Those of issuers after it are for clients that know only the last of them.
        client = _trusting(text.partition(_END)[0] + _END)
    except (ssl.SSLError, OSError) as error:
        return [_why_not_loaded(certificate, key, error)]
    try:
        _shake_hands(server, client, name)
    except ssl.SSLCertVerificationError as error:
        return [_refusal(error, name)]
    except ssl.SSLError as error:
        return [(f"no connection can be made with it: {error.reason}", "Get another one")]
    return []


def check_served(host: str, port: int, patience: float) -> tuple[bytes, list[tuple[str, str, str]]]:
    """What a server says first, and whether clients would accept its certificate: severity, what is wrong, what to do.

    ``patience`` is seconds for each step. Raises OSError where there is no connection or no TLS.
    """
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    with _connected(anything, host, port, patience) as connection:
        shown = connection.getpeercert(binary_form=True) or b""
        try:
            greeting = connection.recv(4096)
        except OSError:
            greeting = b""
    try:
        with _connected(_trusting(ssl.DER_cert_to_PEM_cert(shown)), host, port, patience) as connection:
            end = str((connection.getpeercert() or {})["notAfter"])
    except ssl.SSLCertVerificationError as error:
        return greeting, [("high", *_refusal(error, host))]
    complaints = []
    if ssl.cert_time_to_seconds(end) < time.time() + _SOON:
        complaints.append(("medium", f"its certificate expires on {end}", "Renew it, and have that done by itself"))
    try:
        _connected(ssl.create_default_context(), host, port, patience).close()
    except ssl.SSLCertVerificationError as error:
        message = f"who trusts the same authorities as this host refuses its certificate: {error.verify_message}"
        complaints.append(("low", message, "Give mirrors the certificate of its issuer, or get one that all trust"))
    return greeting, complaints


def _connected(context: ssl.SSLContext, host: str, port: int, patience: float) -> ssl.SSLSocket:
    plain = socket.create_connection((host, port), patience)
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _trusting(certificate: str) -> ssl.SSLContext:
    """A client that trusts nothing but this certificate, so that what is left to refuse is its time and its name."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=certificate)
    client.verify_flags |= ssl.VerifyFlags(_PARTIAL_CHAIN)
    return client


def _refusal(error: ssl.SSLCertVerificationError, name: str) -> Complaint:
    message, remedy = _REFUSALS.get(error.verify_code, (f"clients would refuse it: {error.verify_message}", "Get another one"))
    return message.format(name=name), remedy


def _why_not_loaded(certificate: Path, key: Path, error: OSError) -> Complaint:
    reason = getattr(error, "reason", None) or str(error)
    if reason == "KEY_VALUES_MISMATCH":
        return f"the key {str(key)!r} belongs to another certificate", "Give the two that were made together"
    text = key.read_bytes() if key.is_file() else b""
    if b"ENCRYPTED" in text:
        return f"the key {str(key)!r} is protected by a password, which nobody would type at each connection", "Store it without one"
    if b"-----BEGIN" not in text:
        return f"{str(key)!r} holds no key in the PEM format", "Give the path of the key"
    return f"OpenSSL can't use it with {str(key)!r}: {reason}", f"Look at them with openssl x509 -text -in {certificate}"


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """A handshake between the two contexts, by turns."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for dummy in range(4):
        for side in list(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                pass
