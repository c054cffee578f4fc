# Copyright (c) 2026 The mirrornet.rsync authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests and deltas: what is written is read again, what was altered is refused, and deltas do what they say.

``corpus/`` holds lists as bytes, uncompressed: those in ``good`` are taken, those in ``bad`` refused, and all are where fuzzing begins.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrornet.entry import Counts, Entry, combine, counted, digest_text, merge, order, read, record, save, write
from mirrornet.errors import Failure

CORPUS = Path(__file__).parent / "corpus"
DIGESTS = [digest_text(hashlib.sha256(bytes([number])).digest()) for number in range(5)]
ROOT = Entry("d", b"", 0o755, 0)


def packed(text: bytes) -> io.BytesIO:
    squeeze = zlib.compressobj(1, zlib.DEFLATED, 31)
    return io.BytesIO(squeeze.compress(text) + squeeze.flush())


def reading(text: bytes, *, delta: bool = False) -> list[Entry]:
    """The entries of a list that is what its index says."""
    return list(read(packed(text), len(text), hashlib.sha256(text).hexdigest(), delta=delta))


def text_of(entries: Iterable[Entry]) -> bytes:
    return b"".join(write(entries))


def refused(iterator: Iterator[Entry]) -> str:
    with pytest.raises(Failure) as caught:
        list(iterator)
    assert caught.value.kind == "bad_manifest"
    return caught.value.message


# Trees, as a mapping of paths to entries, and what becomes of them

NAMES = [b"a", b"a-b", b"a.b", b"b", b" ", b"\n", b"-", b".a", b"...", b".\n", b"\x01", b"\xff\xfe", b"a b", b".mirrornet-not", b"a0"]
TIMES = [0, -1, 1700000000123456789, -(10**26), 10**26]
SEEDS = st.integers(0, (1 << 64) - 1)


def manifest(seed: int) -> list[Entry]:
    """A whole tree in order, different for each seed; some of its files are further names of others."""
    chance = Random(seed)
    entries = sorted(_below(b"", chance, 3), key=lambda entry: order(entry.path))
    first: list[bytes] = []
    for number, entry in enumerate(entries):
        if entry.kind == "f" and first and chance.random() < 0.25:
            entries[number] = Entry("h", entry.path, target=chance.choice(first))
        elif entry.kind == "f":
            first.append(entry.path)
    return entries


def _below(path: bytes, chance: Random, depth: int) -> Iterator[Entry]:
    yield Entry("d", path, chance.choice([0o755, 0, 0o7777]), chance.choice(TIMES))
    for name in chance.sample(NAMES, chance.randrange(5)):
        kind, below = chance.choice("dffl" if depth else "fl"), path + b"/" + name if path else name
        if kind == "d":
            yield from _below(below, chance, depth - 1)
        elif kind == "f":
            yield Entry("f", below, 0o644, chance.choice(TIMES), chance.choice([0, 1, (1 << 63) - 1]), chance.choice(DIGESTS))
        else:
            yield Entry("l", below, mtime=chance.choice(TIMES), target=chance.choice([b"a", b"../x y", b" ", b"\n", b"/etc"]))


def difference(old: list[Entry], new: list[Entry]) -> list[Entry]:
    """What makes ``new`` of ``old``, the plainest way."""
    before, after = {entry.path: entry for entry in old}, {entry.path: entry for entry in new}

    def group(entries: dict[bytes, Entry], path: bytes) -> set[bytes]:
        entry = entries.get(path)
        first = path if entry is None or entry.kind != "h" else entry.target
        return {first} | {other.path for other in entries.values() if other.kind == "h" and other.target == first}

    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    while True:
        more = {name for path in changed for entries in (before, after) for name in group(entries, path)} | changed
        if more == changed:
            break
        changed = more
    return [after.get(path, Entry("-", path)) for path in sorted(changed, key=order) if path in after or path in before]


class TestRoundTrip:
    @given(SEEDS)
    def test_what_is_written_is_read(self, seed: int) -> None:
        entries = manifest(seed)
        file = io.BytesIO()
        stored = save(file, entries)
        file.seek(0)
        assert list(read(file, stored.size, stored.sha256)) == entries

    @given(SEEDS)
    def test_a_delta_makes_one_tree_of_another(self, seed: int) -> None:
        old, new = manifest(seed), manifest(seed + 1)
        delta = difference(old, new)
        assert reading(text_of(delta), delta=True) == delta
        assert list(merge(old, [delta])) == new

    @given(SEEDS)
    def test_a_chain_of_deltas_is_one_delta(self, seed: int) -> None:
        trees = [manifest(seed + number) for number in range(4)]
        deltas = [difference(old, new) for old, new in zip(trees, trees[1:])]
        assert list(merge(trees[0], deltas)) == trees[-1]
        known = {entry.path for entry in trees[0]}
        combined = [entry for entry in combine(deltas) if entry.kind != "-" or entry.path in known]
        assert list(merge(trees[0], [combined])) == trees[-1]

    @given(SEEDS)
    def test_counts(self, seed: int) -> None:
        entries = manifest(seed)
        files = [entry.size for entry in entries if entry.kind == "f"]
        promised = Counts(len(entries), len(files), sum(files))
        assert list(counted(entries, promised)) == entries
        for wrong in (promised._replace(entries=len(entries) - 1), promised._replace(files=99), promised._replace(size=promised.size + 1)):
            assert "promises" in refused(counted(entries, wrong))

    def test_the_same_bytes_each_time(self, tmp_path: Path) -> None:
        files = io.BytesIO(), io.BytesIO()
        assert save(files[0], [ROOT]) == save(files[1], iter([ROOT]))
        assert files[0].getvalue() == files[1].getvalue()
        assert files[0].getvalue()[4:8] == b"\0\0\0\0", "gzip's header holds no time"


GOOD = sorted((CORPUS / "good").iterdir())
BAD = sorted((CORPUS / "bad").iterdir())


def is_delta(path: Path) -> bool:
    return path.name.startswith("delta-")


class TestCorpus:
    @pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
    def test_good(self, path: Path) -> None:
        text = path.read_bytes()
        assert text_of(reading(text, delta=is_delta(path))) == text

    @pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
    def test_bad(self, path: Path) -> None:
        text = path.read_bytes()
        message = refused(read(packed(text), len(text), hashlib.sha256(text).hexdigest(), delta=is_delta(path)))
        expected = path.name.partition("=")[2].replace("_", " ").replace("+", "/")
        assert expected in message, "a bad one tells in its name what the message says"


def altered(seed: int) -> bytes:
    """A list of the corpus with some bytes, or some records, that are not where they were."""
    chance = Random(seed)
    data = bytearray(chance.choice([path.read_bytes() for path in [*GOOD, *BAD]]))
    for dummy in range(chance.randrange(5)):
        at = chance.randint(0, len(data))
        data[at : at + chance.randrange(4)] = chance.choice(
            [b"", b"\0", b"/", b"..", b" ", b"-", b"0", bytes(chance.choices(range(256), k=3))]
        )
    records = bytes(data).split(b"\0")
    if chance.random() < 0.5 and len(records) > 2:
        one, other = chance.sample(range(len(records)), 2)
        records[one], records[other] = records[other], records[one]
    return b"\0".join(records)


def is_sound(entries: list[Entry], *, delta: bool) -> bool:
    """The rules of the format, said once more in the plainest way."""
    paths = [entry.path for entry in entries]
    kinds = {entry.path: entry.kind for entry in entries}
    for entry in entries:
        parts = entry.path.split(b"/") if entry.path else []
        if parts and (parts[0] == b".mirrornet" or {b"", b".", b".."} & set(parts)):
            return False
        if entry.kind == "h" and kinds.get(entry.target) != "f":
            return False
        above = [b"/".join(parts[:count]) for count in range(len(parts))]
        if any(kinds.get(path, "d" if delta else "") not in (("d",) if entry.kind != "-" else "df-hl") for path in above):
            return False
    split = [path.split(b"/") if path else [] for path in paths]
    return split == sorted(split) and len(set(paths)) == len(paths)


def taken(file: io.BytesIO, text: bytes, *, delta: bool = False) -> list[Entry] | None:
    """The entries of a list that should hold ``text``; None if it's refused. Whatever else is raised is a defect."""
    try:
        return list(read(file, len(text), hashlib.sha256(text).hexdigest(), delta=delta))
    except Failure as failure:
        if failure.kind != "bad_manifest":
            raise
        return None


class TestFuzz:
    @settings(max_examples=1000)
    @given(SEEDS, st.booleans())
    def test_what_is_taken_is_sound(self, seed: int, delta: bool) -> None:
        text = altered(seed)
        entries = taken(packed(text), text, delta=delta)
        if entries is None:
            return
        assert text_of(entries) == text, "there is one spelling only"
        assert is_sound(entries, delta=delta)

    @given(st.binary(max_size=300), st.integers(0, 400))
    def test_what_is_no_gzip(self, data: bytes, size: int) -> None:
        assert refused(read(io.BytesIO(data), size, "0" * 64))

    @given(st.integers(0, 200), st.binary(min_size=1, max_size=3))
    def test_a_compressed_list_with_damage(self, at: int, junk: bytes) -> None:
        text = text_of([ROOT, *(Entry("f", b"file-%03d" % number, 0o644, number, number, DIGESTS[number % 5]) for number in range(50))])
        whole = packed(text).getvalue()
        data = whole[:at] + junk + whole[at + len(junk) :]
        entries = taken(io.BytesIO(data), text)
        assert entries is None or text_of(entries) == text


class TestLies:
    """A list that isn't what its index says, or is made to hurt."""

    text = text_of([ROOT, Entry("f", b"file", 0o644, 1, 1, DIGESTS[0])])
    sha256 = hashlib.sha256(text).hexdigest()

    def test_digest(self) -> None:
        seen = []
        with pytest.raises(Failure, match="digest"):
            seen.extend(read(packed(self.text), len(self.text), "0" * 64))

    def test_longer_and_shorter(self) -> None:
        assert "longer" in refused(read(packed(self.text), len(self.text) - 1, self.sha256))
        assert "shorter" in refused(read(packed(self.text), len(self.text) + 1, self.sha256))

    def test_ends_early(self) -> None:
        whole = packed(self.text).getvalue()
        for end in range(len(whole)):
            assert refused(read(io.BytesIO(whole[:end]), len(self.text), self.sha256))

    def test_something_follows(self) -> None:
        assert "follows" in refused(read(io.BytesIO(packed(self.text).getvalue() + b"x"), len(self.text), self.sha256))

    def test_a_bomb_is_not_unpacked(self) -> None:
        """A gigabyte in a megabyte: only what the index promised is looked at."""
        squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
        zeros = bytes(1 << 20)
        bomb = b"".join(squeeze.compress(zeros) for dummy in range(1 << 7)) + squeeze.flush()
        file = io.BytesIO(bomb)
        assert refused(read(file, 100, self.sha256))
        assert file.tell() <= 1 << 18

    def test_a_record_without_end(self) -> None:
        text = b"d 755 0 \0f 644 0 0 " + b"x" * (1 << 20)
        assert "too long" in refused(read(packed(text), len(text), hashlib.sha256(text).hexdigest()))

    def test_more_entries_than_promised(self) -> None:
        """Ten million entries behind a head that says three: the fourth ends it."""
        endless = (Entry("d", b"%09d" % number, 0o755, 0) for number in range(10_000_000))
        assert "promises 3 entries" in refused(counted(endless, Counts(3, 0, 0)))
        assert next(endless).path == b"000000004", "no more were looked at"

    def test_names_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "manifest-7.gz"
        path.write_bytes(b"")
        assert refused(read(path, 0, self.sha256)).startswith("manifest-7.gz is not what it should be: it ends early")

    @pytest.mark.parametrize(
        ("delta", "says"),
        [
            ([Entry("-", b"nothing")], "isn't there"),
            ([Entry("f", b"new/file", 0o644, 0, 0, DIGESTS[0])], "in no directory"),
            ([Entry("-", b"dir")], "in no directory"),
            ([Entry("f", b"dir", 0o644, 0, 0, DIGESTS[0])], "in no directory"),
            ([Entry("-", b"dir/first")], "isn't there"),
        ],
    )
    def test_a_delta_that_does_not_fit(self, delta: list[Entry], says: str) -> None:
        base = [
            ROOT,
            Entry("d", b"dir", 0o755, 0),
            Entry("f", b"dir/first", 0o644, 0, 0, DIGESTS[0]),
            Entry("h", b"dir/further", target=b"dir/first"),
        ]
        assert says in refused(merge(base, [delta]))

    def test_a_record_of_no_kind(self) -> None:
        with pytest.raises(ValueError, match="no kind"):
            record(Entry("x", b"path"))


def test_order() -> None:
    assert sorted([b"a0", b"a.b", b"a-b", b"a\x01", b"a/b/c", b"a/b", b"a", b""], key=order) == [
        b"",
        b"a",
        b"a/b",
        b"a/b/c",
        b"a\x01",
        b"a-b",
        b"a.b",
        b"a0",
    ]
