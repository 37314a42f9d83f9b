"""Index objects: the ends of packs for maintainers, and hooks for who can hash."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged, spelled
from core.tests.format.examples import IDS, LAYOUT, NAME, OTHER_PACK, PACK, SCOPE, SIGNER, SUMMARIES, WRITER
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.codec import RAW
from penstock.format.encoding import Malformed
from penstock.format.index import PackEnds, PackSummary, SealedIndex, decode_index, encode_index
from penstock.format.sealing import Sealer, message

A_PACK = st.binary(min_size=16, max_size=16)
SIZES = st.integers(0, 2**63 - 1)
ENDS = st.builds(PackEnds, A_PACK, SIZES, SIZES, SIZES, st.lists(A_PACK, max_size=3).map(tuple))
HOOK = st.binary(min_size=12, max_size=12)
PACKS = st.builds(PackSummary, ENDS, st.integers(0, 2**32 - 1), st.lists(HOOK, max_size=5, unique=True).map(tuple))


def encoded(packs: list[PackSummary], replaces: list[bytes]) -> bytes:
    return encode_index(
        NAME, packs, replaces=replaces, scope=SCOPE, writer=WRITER, layout_sealer=LAYOUT, id_sealer=IDS, signer=SIGNER
    )


@pytest.mark.slow
@EFFORT
@given(st.lists(PACKS, max_size=5), st.lists(A_PACK, max_size=3))
def test_index_objects_round_trip(packs: list[PackSummary], replaces: list[bytes]) -> None:
    sealed = decode_index(NAME, encoded(packs, replaces))

    sealed.verify(SIGNER.public, SCOPE)
    assert sealed.writer == WRITER
    assert sealed.open_ends(LAYOUT, SCOPE) == (tuple(pack.ends for pack in packs), tuple(replaces))
    assert sealed.open_summaries(LAYOUT, IDS, SCOPE) == packs


def test_a_maintainer_reads_the_ends_but_not_the_hooks() -> None:
    sealed = decode_index(NAME, encoded(SUMMARIES, [PACK]))

    assert sealed.open_ends(LAYOUT, SCOPE)[0] == tuple(one.ends for one in SUMMARIES)
    with pytest.raises(Malformed):
        sealed.open_summaries(LAYOUT, LAYOUT, SCOPE)
    with pytest.raises(Malformed):
        sealed.open_ends(IDS, SCOPE)


def test_the_ends_of_a_pack_say_where_its_ids_begin() -> None:
    assert PackEnds(PACK, 20_000, 5000, 4096).offset == 20_000 - 92 - 4096 - 5000


def sealed(plain: bytes, sealer: Sealer, what: str) -> bytes:
    payload = bytes((RAW,)) + plain
    return sealer.seal(struct.pack("<I", len(payload)) + payload, message(what, SCOPE, NAME))


def index_of(record: bytes, hooks: bytes) -> SealedIndex:
    ends = sealed(record, LAYOUT, "index")
    signed = struct.pack("<8s16sI", b"PSINDX\1\0", WRITER, len(ends)) + ends + sealed(hooks, IDS, "hooks")
    found = decode_index(NAME, signed + SIGNER.sign(message("index", SCOPE, NAME, signed)))
    found.verify(SIGNER.public, SCOPE)
    return found


def header() -> dict[str, Any]:
    rows = [[one.ends.pack.hex(), 16384, 4096, 4097, [OTHER_PACK.hex()]] for one in SUMMARIES]
    return {"packs": rows, "replaces": [PACK.hex()]}


HOOKS = struct.pack("<IIII", 4, 1, 0, 0) + bytes(12)


def test_hooks_are_counts_then_the_hooks_of_the_packs() -> None:
    found = index_of(spelled(header()), HOOKS).open_summaries(LAYOUT, IDS, SCOPE)

    assert [(one.chunks, one.hooks) for one in found] == [(4, (bytes(12),)), (0, ())]
    assert [one.ends.origins for one in found] == [(OTHER_PACK,), (OTHER_PACK,)]


WRONG_HOOKS = {
    "nothing": b"",
    "counts that are cut": HOOKS[:15],
    "counts of one pack less": HOOKS[:8] + bytes(12),
    "a hook less": HOOKS[:16],
    "a hook that is cut": HOOKS[:-1],
    "a hook more": HOOKS + bytes(12),
    "a byte more": HOOKS + b"\0",
    "more hooks than bytes": struct.pack("<IIII", 4, 2, 0, 0) + bytes(12),
    "far more hooks than bytes": struct.pack("<IIII", 4, 2**32 - 1, 0, 2**32 - 1) + bytes(12),
}


@pytest.mark.parametrize("hooks", WRONG_HOOKS.values(), ids=WRONG_HOOKS)
@pytest.mark.timeout(60)
def test_hooks_that_contradict_the_index_are_refused(hooks: bytes) -> None:
    with pytest.raises(Malformed):
        index_of(spelled(header()), hooks).open_summaries(LAYOUT, IDS, SCOPE)


@EFFORT
@given(damaged(HOOKS) | st.binary(max_size=80))
def test_any_bytes_as_hooks_are_refused_or_are_hooks_of_the_packs(hooks: bytes) -> None:
    try:
        found = index_of(spelled(header()), hooks).open_summaries(LAYOUT, IDS, SCOPE)
    except Malformed:
        return
    counts = [struct.pack("<II", one.chunks, len(one.hooks)) for one in found]
    assert b"".join([*counts, *(hook for one in found for hook in one.hooks)]) == hooks


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no packs": lambda content: content.pop("packs"),
    "no replaces": lambda content: content.pop("replaces"),
    "replaces that are no ids": lambda content: content.update(replaces=["00"]),
    "packs that are no list": lambda content: content.update(packs={}),
    "a pack more": lambda content: content["packs"].append(content["packs"][0]),
    "a pack less": lambda content: content["packs"].pop(),
    "a pack without an id": lambda content: content["packs"][0].__setitem__(0, 5),
    "a pack without origins": lambda content: content["packs"][0].pop(),
    "a pack with more": lambda content: content["packs"][0].append(0),
    "origins that are no ids": lambda content: content["packs"][0].__setitem__(4, ["00"]),
    "origins that are no list": lambda content: content["packs"][0].__setitem__(4, OTHER_PACK.hex()),
    "a pack that is a number": lambda content: content["packs"].__setitem__(0, 5),
    "a pack that is a dictionary": lambda content: content["packs"].__setitem__(0, dict.fromkeys("abcde", 1)),
}
for number, name in ((1, "size"), (2, "length of the ids"), (3, "length of the places")):
    for value in (-1, 2**63, 1.0, True, None, "1"):
        WRONG[f"a {name} that is {value!r}"] = (
            lambda content, number=number, value=value: content["packs"][0].__setitem__(number, value)  # type: ignore[misc]
        )


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_an_index_with_wrong_content_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    content = header()
    change(content)

    with pytest.raises(Malformed):
        index_of(spelled(content), HOOKS).open_summaries(LAYOUT, IDS, SCOPE)


def test_bytes_behind_the_record_are_refused() -> None:
    with pytest.raises(Malformed):
        index_of(spelled(header(), b"\0"), HOOKS).open_ends(LAYOUT, SCOPE)


@pytest.mark.parametrize("length", [0, 1, 27, 4095, 4097, 8192, 2**32 - 1])
def test_a_wrong_length_of_the_sealed_index_is_refused(length: int) -> None:
    data = encoded(SUMMARIES, [])
    signed = data[:24] + struct.pack("<I", length) + data[28:-64]

    with pytest.raises(Malformed):
        decode_index(NAME, signed + SIGNER.sign(message("index", SCOPE, NAME, signed))).open_summaries(
            LAYOUT, IDS, SCOPE
        )


def test_what_is_too_short_for_an_index_is_refused() -> None:
    data = encoded([], [])
    for length in range(28 + 64):
        with pytest.raises(Malformed, match="truncated"):
            decode_index(NAME, data[:length])


def test_the_independent_reader_finds_the_same_in_an_index() -> None:
    data = encoded(SUMMARIES, [PACK])
    (length,) = struct.unpack_from("<I", data, 24)
    plain = LAYOUT.open(data[28 : 28 + length], message("index", SCOPE, NAME))
    content, body = independent_reader.record(independent_reader.unpadded(plain, 1 << 20))

    assert body == b""
    assert content["replaces"] == [PACK.hex()]
    assert [row[0] for row in content["packs"]] == [PACK.hex(), OTHER_PACK.hex()]
