"""Index objects: the ends of packs for maintainers, and hooks for who can hash."""

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged, spelled
from core.tests.format.examples import IDS, LAYOUT, NAME, OTHER_PACK, PACK, SCOPE, SIGNER, SUMMARIES, WRITER, ident
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.codec import RAW
from penstock.format.encoding import Malformed
from penstock.format.index import (
    IndexedPack,
    PackEnds,
    PackSummary,
    SealedIndex,
    decode_index,
    encode_index,
    seal_hooks,
)
from penstock.format.padding import padded
from penstock.format.sealing import Sealer, message

A_PACK = st.binary(min_size=16, max_size=16)
SIZES = st.integers(0, 2**63 - 1)
ENDS = st.builds(
    PackEnds, A_PACK, SIZES, SIZES.map(lambda size: size | 2**62), SIZES, st.lists(A_PACK, max_size=3).map(tuple)
)
HOOK = st.binary(min_size=12, max_size=12)
PACKS = st.builds(PackSummary, ENDS, st.integers(0, 2**32 - 1), st.lists(HOOK, max_size=5, unique=True).map(tuple))


def encoded(packs: list[PackSummary], replaces: list[bytes]) -> bytes:
    indexed = [seal_hooks(one, IDS, SCOPE) for one in packs]
    return encode_index(NAME, indexed, replaces=replaces, scope=SCOPE, signer=WRITER, layout_sealer=LAYOUT, key=SIGNER)


@pytest.mark.slow
@EFFORT
@given(st.lists(PACKS, max_size=5), st.lists(A_PACK, max_size=3))
def test_index_objects_round_trip(packs: list[PackSummary], replaces: list[bytes]) -> None:
    sealed = decode_index(NAME, encoded(packs, replaces))

    sealed.verify(SIGNER.public, SCOPE)
    assert sealed.signer == WRITER
    indexed, replaced = sealed.open_packs(LAYOUT, SCOPE)
    assert [one.ends for one in indexed] == [pack.ends for pack in packs]
    assert replaced == tuple(replaces)
    assert sealed.open_summaries(LAYOUT, IDS, SCOPE) == packs


def test_a_maintainer_reads_the_ends_but_not_the_hooks() -> None:
    sealed = decode_index(NAME, encoded(SUMMARIES, [PACK]))

    packs, _ = sealed.open_packs(LAYOUT, SCOPE)
    assert [one.ends for one in packs] == [one.ends for one in SUMMARIES]
    with pytest.raises(Malformed):
        sealed.open_summaries(LAYOUT, LAYOUT, SCOPE)
    with pytest.raises(Malformed):
        sealed.open_packs(IDS, SCOPE)


def test_a_maintainer_copies_hooks_to_an_index_object_of_its_own() -> None:
    """Those of the packs whose segments a pack of copies has: how many chunks these are is known from its ids."""
    packs, _ = decode_index(NAME, encoded(SUMMARIES, [])).open_packs(LAYOUT, SCOPE)
    copies = PackEnds(ident("copies"), 9999, 60, 4096, (PACK, OTHER_PACK))
    merged = IndexedPack(copies, tuple(hooks for one in packs for hooks in one.hooks))
    name = ident("merged")
    data = encode_index(name, [merged], scope=SCOPE, signer=WRITER, layout_sealer=LAYOUT, key=SIGNER)
    (found,) = decode_index(name, data).open_summaries(LAYOUT, IDS, SCOPE)

    assert found == PackSummary(copies, 4, SUMMARIES[0].hooks)
    (fewer,) = decode_index(
        name,
        encode_index(
            name,
            [merged._replace(ends=replace(copies, ids_length=36))],
            scope=SCOPE,
            signer=WRITER,
            layout_sealer=LAYOUT,
            key=SIGNER,
        ),
    ).open_summaries(LAYOUT, IDS, SCOPE)
    assert fewer.chunks == 3


def test_the_ends_of_a_pack_say_where_its_ids_begin() -> None:
    assert PackEnds(PACK, 20_000, 5000, 4096).offset == 20_000 - 92 - 4096 - 5000


def sealed(plain: bytes, sealer: Sealer, what: str, name: bytes = NAME) -> bytes:
    payload = bytes((RAW,)) + plain
    return sealer.seal(struct.pack("<I", len(payload)) + payload, message(what, SCOPE, name))


def zeroed(hooks: bytes) -> bytes:
    return hooks + bytes(padded(len(hooks)) - len(hooks))


def index_of(record: bytes, *hooks: bytes) -> SealedIndex:
    """With these hooks of its packs, one after the other."""
    ends = sealed(record, LAYOUT, "index")
    whose = [*(one.ends.pack for one in SUMMARIES), NAME]
    blocks = [sealed(one, IDS, "hooks", pack) for one, pack in zip(hooks, whose, strict=False)]
    signed = struct.pack("<8s16sI", b"PSINDX\1\0", WRITER, len(ends)) + ends + zeroed(b"".join(blocks))
    found = decode_index(NAME, signed + SIGNER.sign(message("index", SCOPE, NAME, signed)))
    found.verify(SIGNER.public, SCOPE)
    return found


#: Of the first pack, and of the other.
HOOKS = (struct.pack("<I", 4) + bytes(12), struct.pack("<I", 0))
_SEALED = 4 + 1 + 28


def header(hooks: tuple[bytes, ...] = HOOKS) -> dict[str, Any]:
    rows = [
        [one.ends.pack.hex(), 16384, 4096, 4097, [OTHER_PACK.hex()], [[one.ends.pack.hex(), len(own) + _SEALED]]]
        for one, own in zip(SUMMARIES, hooks, strict=True)
    ]
    return {"packs": rows, "replaces": [PACK.hex()]}


def test_hooks_are_a_count_then_the_hooks() -> None:
    found = index_of(spelled(header()), *HOOKS).open_summaries(LAYOUT, IDS, SCOPE)

    assert [(one.chunks, one.hooks) for one in found] == [(4, (bytes(12),)), (0, ())]
    assert [one.ends.origins for one in found] == [(OTHER_PACK,), (OTHER_PACK,)]


WRONG_HOOKS = {"nothing": b"", "a count that is cut": bytes(3), "a hook that is cut": HOOKS[0][:-1], "a byte": bytes(5)}


@pytest.mark.parametrize("hooks", WRONG_HOOKS.values(), ids=WRONG_HOOKS)
def test_hooks_that_are_cut_are_refused(hooks: bytes) -> None:
    both = (hooks, HOOKS[1])
    with pytest.raises(Malformed):
        index_of(spelled(header(both)), *both).open_summaries(LAYOUT, IDS, SCOPE)


@pytest.mark.parametrize("hooks", [HOOKS[:1], (*HOOKS, b"more"), HOOKS[::-1], ()])
def test_hooks_that_contradict_the_index_are_refused(hooks: tuple[bytes, ...]) -> None:
    with pytest.raises(Malformed):
        index_of(spelled(header()), *hooks).open_summaries(LAYOUT, IDS, SCOPE)


def test_hooks_of_another_pack_are_refused() -> None:
    content = header()
    for row in content["packs"]:
        row[5][0][0] = OTHER_PACK.hex()
    with pytest.raises(Malformed):
        index_of(spelled(content), *HOOKS).open_summaries(LAYOUT, IDS, SCOPE)


@EFFORT
@given(damaged(HOOKS[0]) | st.binary(max_size=80))
def test_any_bytes_as_hooks_are_refused_or_are_hooks_of_the_pack(hooks: bytes) -> None:
    both = (hooks, HOOKS[1])
    try:
        found, _ = index_of(spelled(header(both)), *both).open_summaries(LAYOUT, IDS, SCOPE)
    except Malformed:
        return
    assert found.chunks == min(struct.unpack_from("<I", hooks)[0], 4096 // 12)
    assert set(found.hooks) == {hooks[at : at + 12] for at in range(4, len(hooks), 12)}


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no packs": lambda content: content.pop("packs"),
    "no replaces": lambda content: content.pop("replaces"),
    "replaces that are no ids": lambda content: content.update(replaces=["00"]),
    "packs that are no list": lambda content: content.update(packs={}),
    "a pack more": lambda content: content["packs"].append(content["packs"][0]),
    "a pack less": lambda content: content["packs"].pop(),
    "a pack without an id": lambda content: content["packs"][0].__setitem__(0, 5),
    "a pack without hooks": lambda content: content["packs"][0].pop(),
    "hooks that are no list": lambda content: content["packs"][0].__setitem__(5, 5),
    "hooks of no pack": lambda content: content["packs"][0][5][0].__setitem__(0, "00"),
    "hooks of no length": lambda content: content["packs"][0][5][0].__setitem__(1, -1),
    "hooks that are far too long": lambda content: content["packs"][0][5][0].__setitem__(1, 2**62),
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
        index_of(spelled(content), *HOOKS).open_summaries(LAYOUT, IDS, SCOPE)


def test_bytes_behind_the_record_are_refused() -> None:
    with pytest.raises(Malformed):
        index_of(spelled(header(), b"\0"), *HOOKS).open_packs(LAYOUT, SCOPE)


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
