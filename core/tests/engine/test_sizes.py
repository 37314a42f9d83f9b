"""What the sizes of objects say about what is in them: their class, and no more."""

from collections import Counter
from pathlib import Path

import pytest
from core.tests.format.independent_reader import padme
from core.tests.repository.forging import end_of, keys
from core.tests.repository.lab import KIB, MIB, Lab, noise

from penstock.format.pack import TRAILER_BYTES, Trailer
from penstock.format.sealing import OVERHEAD
from penstock.repository.trust.keyring import add_writer

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

#: Four dumps that somebody knows: of one size, with rows of their own.
KNOWN = [noise(2 * MIB - 40 * KIB, seed) for seed in range(4)]
KINDS = {"packs", "parts", "index", "snapshots", "sessions", "leases"}


def seen(lab: Lab, before: set[str] | None = None) -> Counter[tuple[object, ...]]:
    """What somebody sees who reads the bucket, of the objects that were put since: kind, size, what is in the clear."""
    found: Counter[tuple[object, ...]] = Counter()
    for key in lab.keys(lab.at.prefix) - (before or set()):
        data = lab.sink.get(key)
        kind = key.split("/")[2]
        if kind == "packs":
            trailer = Trailer.decode(data[-TRAILER_BYTES:], len(data))
            found[kind, len(data), trailer.ids_length, trailer.places_length] += 1
        else:
            found[kind, len(data)] += 1
    return found


def exact(lab: Lab, pack: str) -> tuple[int, int]:
    """What nobody sees: the bytes of a pack without its padding, and of its ids without theirs."""
    end = end_of(lab.domain, pack)
    plain = end.chunks()
    ids = 4 * len(plain.counts) + 2 * len(plain.lengths) + len(plain.ids)
    return end.end_of_segments + end.trailer.ids_length + end.trailer.places_length + TRAILER_BYTES, ids


def test_known_dumps_of_one_size_cannot_be_told_apart(tmp_path: Path) -> None:
    """Four of them under five secrets each: what is seen are classes, which several of them share."""
    views = set()
    sizes = set()
    for number in range(4 * 5):
        lab = Lab(tmp_path / str(number))
        lab.backup({"d": KNOWN[number % 4]})
        view = seen(lab)
        (pack,) = keys(lab, "packs")
        size, ids = exact(lab, pack)
        trailer = end_of(lab.domain, pack).trailer
        assert view.pop(("packs", padme(size), trailer.ids_length, trailer.places_length)) == 1
        assert trailer.ids_length == padme(trailer.ids_length) >= ids * 9 // 10
        # But for the pack, there is nothing to see at all.
        assert {kind for kind, *_ in view} == KINDS - {"packs"}
        views.add((padme(size), trailer.ids_length, trailer.places_length, frozenset(view.items())))
        sizes.add((size, ids))
    assert len({rest for *_, rest in views}) == 1
    assert len(views) <= 6 < len(sizes)


def test_what_is_not_sealed_of_a_pack_has_the_size_of_a_class(lab: Lab) -> None:
    """Its own size, and those of its two ends: the number of its chunks is not told by them."""
    for number in range(6):
        lab.backup({"d": noise(100 * KIB + 3 * KIB * number, number)}, name=f"d{number}")
    packs = keys(lab, "packs")
    assert len(packs) == 6
    chunks, ends = set(), set()
    for key in packs:
        end = end_of(lab.domain, key)
        assert end.size == padme(end.size)
        assert end.trailer.ids_length == padme(end.trailer.ids_length)
        assert end.trailer.places_length == padme(end.trailer.places_length)
        chunks.add(len(end.chunks().lengths))
        ends.add((end.trailer.ids_length, end.trailer.places_length))
        data = lab.sink.get(key)
        # Nothing else of it is in the clear: the mark, who signed, and zeroes.
        assert data[:8] == b"PSPACK\1\0"
        assert data[end.size - TRAILER_BYTES + 8 :][:16] == end.trailer.signer
        assert not any(data[end.end_of_segments : end.ends.offset])
    assert len(chunks) > 2
    assert len(ends) == 1


def test_a_night_of_one_row_shows_the_class_of_its_pack_and_no_more(lab: Lab, tmp_path: Path) -> None:
    writer = add_writer(lab.repository, "prod-db", domain="main")
    table = noise(600 * KIB)
    lab.backup({"d": table}, by=lab.open(writer))
    sizes: set[int] = set()
    classes: set[int] = set()
    views = []
    for night in range(12):
        before = lab.keys()
        table = table[: 200 * KIB] + noise(10 + 10 * night, night + 10) + table[200 * KIB :]
        lab.backup({"d": table}, by=lab.open(writer), cache=tmp_path / "cache")
        views.append(seen(lab, before))
        (pack,) = {key for key in lab.keys() - before if "/packs/" in key}
        size, _ = exact(lab, pack)
        sizes.add(size)
        classes.add(padme(size))
    assert lab.restored() == {"d": table}
    assert len({frozenset(view.items()) for view in views}) == len(classes) < len(sizes)


@pytest.mark.parametrize("kind", ["parts", "index", "snapshots"])
def test_objects_that_hold_names_and_lists_have_the_size_of_a_class(lab: Lab, kind: str) -> None:
    """A longer name, or one more stream, is not seen."""
    sizes = set()
    for number in range(5):
        before = set(keys(lab, kind))
        streams = {f"{'table' * number}{one}": noise(30 * KIB, one) for one in range(number + 1)}
        lab.backup(streams, name="b" * (number + 1))
        sizes |= {lab.sink.stat(key).size for key in set(keys(lab, kind)) - before}
    around = {"parts": 8 + 16 + 64, "index": 8 + 16 + 4 + 64, "snapshots": 8 + 16 + 16 + 64}[kind]
    for size in sizes:
        sealed = [4096, size - around - 4096] if kind == "index" else [size - around]
        assert all(one == padme(one) for one in sealed)
        assert all(one > OVERHEAD for one in sealed)
    assert len(sizes) <= 2
