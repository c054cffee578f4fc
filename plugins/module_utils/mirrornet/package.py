# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``mirrornet`` as one file: the rooms that it needs, in a zip that Python runs."""

from __future__ import annotations

import importlib.util
import io
import marshal
import pkgutil
import zipfile

from . import (
    apply,
    approval,
    arguments,
    bandwidth,
    below,
    bring,
    change,
    child,
    cli,
    coming,
    contents,
    digests,
    entry,
    errors,
    fast,
    fetch_lists,
    filelist,
    files,
    follow,
    foreign,
    guard,
    hand_in,
    head,
    job,
    lists,
    location,
    lock,
    look,
    pattern,
    places,
    publish,
    publish_list,
    published,
    pull,
    recent,
    record,
    report,
    rsync,
    rsyncd_file,
    run,
    scan,
    source,
    spool,
    switch,
    traffic,
    verify,
)

#: What the command consists of. Naming the modules here also makes Ansible send them to the host.
_ROOMS = (
    apply,
    approval,
    arguments,
    bandwidth,
    below,
    bring,
    change,
    child,
    cli,
    coming,
    contents,
    digests,
    entry,
    errors,
    fast,
    fetch_lists,
    filelist,
    files,
    follow,
    foreign,
    guard,
    hand_in,
    head,
    job,
    lists,
    location,
    lock,
    look,
    pattern,
    places,
    publish,
    publish_list,
    published,
    pull,
    recent,
    record,
    report,
    rsync,
    rsyncd_file,
    run,
    scan,
    source,
    spool,
    switch,
    traffic,
    verify,
)

#: Ends without taking the interpreter apart, which would cost as much time as reading all definitions: everything is on disk by then.
_MAIN = b"""import os
import sys

from mirrornet.cli import main

code = main()
try:
    sys.stdout.flush()
    sys.stderr.flush()
except OSError:
    pass
os._exit(code)
"""


#: Of marshal: the last format without references, whose bytes depend on nothing but the code. Later ones tell how often a text is in use just now.
_MARSHAL = 2


def command(python: str) -> bytes:
    """The file, to be run by the interpreter at ``python``. Equal versions of the engine, packed by equal versions of Python, give equal bytes.

    Therefore entries are sorted, have no time, and are not compressed: zlib's output differs between its versions. ``-I`` and ``-S`` keep
    the caller's PYTHON* variables and installed packages out, which also saves half of the interpreter's start-up time. Each room is there
    as text, which every Python runs, and compiled for the Python that packs, which saves a quarter of what remains; another one passes
    the compiled rooms over by their magic number.
    """
    package = __name__.rpartition(".")[0]
    rooms = ["__init__", *(room.__name__.rpartition(".")[2] for room in _ROOMS)]
    content = {"__main__.py": _MAIN}
    for name in rooms:
        text = _source(package, name)
        content[f"mirrornet/{name}.py"] = text
        content.update(_compiled(f"mirrornet/{name}.py", text))
    buffer = io.BytesIO()
    buffer.write(f"#!{python} -IS\n".encode())
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(content.items()):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _compiled(name: str, text: bytes) -> dict[str, bytes]:
    """The room as importlib reads it compiled: magic number, flags, hash, code. Nothing where this Python's code doesn't fit the format."""
    code = compile(text, name, "exec", dont_inherit=True, optimize=0)
    try:
        data = marshal.dumps(code, _MARSHAL)
    except ValueError:
        return {}
    hashed_and_not_looked_up = (1).to_bytes(4, "little")
    return {f"{name}c": importlib.util.MAGIC_NUMBER + hashed_and_not_looked_up + importlib.util.source_hash(text) + data}


def _source(package: str, name: str) -> bytes:
    """The text of a room, wherever the engine was loaded from: a directory, the command itself, or Ansible's payload."""
    data = pkgutil.get_data(package, f"{name}.py")
    if data is None:
        raise RuntimeError(f"the text of {package}.{name} can't be read")
    return data
