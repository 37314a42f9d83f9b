"""Notices, tombstones, deletion records and marks: four kinds that never pass for one another."""

import struct
from dataclasses import replace
from typing import Any

import pytest
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, spelled
from core.tests.format.examples import (
    DELETION,
    DOMAIN,
    IDS,
    LAYOUT,
    MARK,
    NAME,
    NOTICE,
    PACK,
    REPOSITORY,
    SCOPE,
    SIGNER,
    THINGS,
    TOMBSTONE,
    WRITER,
    moment,
    secret,
)
from core.tests.format.test_encoding import TEXTS
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.codec import RAW
from penstock.format.encoding import Malformed
from penstock.format.keys import SigningKey
from penstock.format.notice import (
    Action,
    Deletion,
    Mark,
    Marking,
    Notice,
    Things,
    Tombstone,
    decode_notice,
    encode_notice,
)
from penstock.format.sealing import message

AN_ID = st.binary(min_size=16, max_size=16)
SNAPSHOTS = st.dictionaries(AN_ID, st.binary(min_size=32, max_size=32), max_size=3)
SEVERAL = st.lists(AN_ID, max_size=3).map(tuple)
DIGESTS = st.lists(st.binary(min_size=32, max_size=32), max_size=3).map(tuple)
SOME_THINGS = st.builds(Things, *7 * [SEVERAL])
CONTENTS = st.one_of(
    st.builds(Notice, TEXTS, st.dictionaries(AN_ID, TEXTS, max_size=3), SNAPSHOTS),
    st.builds(Tombstone, TEXTS, SOME_THINGS, SNAPSHOTS, st.integers(0, 1 << 40)),
    st.builds(Deletion, TEXTS, st.just(Action.DELETE), SNAPSHOTS, SOME_THINGS),
    st.builds(Deletion, TEXTS, st.just(Action.FORGET), SNAPSHOTS, gone=DIGESTS, missing=SEVERAL),
    st.builds(Deletion, TEXTS, st.just(Action.UNDELETE), SNAPSHOTS, lifts=SEVERAL, until=TEXTS),
    st.builds(Mark, TEXTS, st.sampled_from(Marking), SNAPSHOTS, TEXTS, SEVERAL),
)
EXAMPLES = {"notice": NOTICE, "tombstone": TOMBSTONE, "deletion": DELETION, "mark": MARK}
PUBLIC = SIGNER.public


def encoded(content: Any, name: bytes = NAME) -> bytes:
    return encode_notice(name, content, signer=SIGNER, key=WRITER, layout_sealer=LAYOUT, scope=SCOPE)


@pytest.mark.slow
@EFFORT
@given(CONTENTS, AN_ID)
def test_they_round_trip(content: Notice | Tombstone | Deletion, name: bytes) -> None:
    sealed = decode_notice(name, encoded(content, name))

    assert sealed.signer == WRITER
    assert sealed.open(type(content), PUBLIC, LAYOUT, SCOPE) == content


@pytest.mark.parametrize("what", EXAMPLES)
def test_none_passes_for_another_kind(what: str) -> None:
    sealed = decode_notice(NAME, encoded(EXAMPLES[what]))
    for other, content in EXAMPLES.items():
        if other != what:
            with pytest.raises(Malformed, match="signature"):
                sealed.open(type(content), PUBLIC, LAYOUT, SCOPE)


@pytest.mark.parametrize("what", EXAMPLES)
def test_none_is_valid_elsewhere(what: str) -> None:
    kind, data = type(EXAMPLES[what]), encoded(EXAMPLES[what])
    sealed = decode_notice(NAME, data)

    assert sealed.open(kind, PUBLIC, LAYOUT, SCOPE) == EXAMPLES[what]
    for scope in (NAME + DOMAIN, REPOSITORY + NAME):
        with pytest.raises(Malformed, match="signature"):
            sealed.open(kind, PUBLIC, LAYOUT, scope)
    for other in (decode_notice(REPOSITORY, data), decode_notice(NAME, data[:8] + NAME + data[24:])):
        with pytest.raises(Malformed, match="signature"):
            other.open(kind, PUBLIC, LAYOUT, SCOPE)
    with pytest.raises(Malformed, match="signature"):
        sealed.open(kind, SigningKey(b"\3" * 32).public, LAYOUT, SCOPE)
    with pytest.raises(Malformed, match="decrypted"):
        sealed.open(kind, PUBLIC, IDS, SCOPE)


def header_of(what: str, data: bytes) -> dict[str, Any]:
    plain = LAYOUT.open(data[24:-64], message(what, SCOPE, NAME))
    header, body = independent_reader.record(independent_reader.unpadded(plain, 1 << 20))
    assert body == b""
    return dict(header)


def opened(what: str, header: dict[str, Any], body: bytes = b"") -> Any:
    payload = bytes((RAW,)) + spelled(header, body)
    sealed = LAYOUT.seal(struct.pack("<I", len(payload)) + payload, message(what, SCOPE, NAME))
    signed = b"PSNOTE\1\0" + WRITER + sealed
    data = signed + SIGNER.sign(message(what, SCOPE, NAME, signed))
    return decode_notice(NAME, data).open(type(EXAMPLES[what]), PUBLIC, LAYOUT, SCOPE)


FIELDS = {
    "notice": {"made", "packs", "void"},
    "tombstone": {"made", "grace", "snapshots", "packs", "parts", "index", "sessions"},
    "deletion": {"made", "action", "snapshots", "packs", "parts", "index", "sessions"},
    "mark": {"made", "action", "snapshots", "text", "holds"},
}


@pytest.mark.parametrize("what", EXAMPLES)
def test_they_hold_what_the_page_says(what: str) -> None:
    header = header_of(what, encoded(EXAMPLES[what]))

    assert header.keys() == FIELDS[what]
    assert opened(what, header) == EXAMPLES[what]
    for name in FIELDS[what]:
        with pytest.raises(Malformed):
            opened(what, {other: value for other, value in header.items() if other != name})


@pytest.mark.parametrize("action", [Action.FORGET, Action.UNDELETE])
def test_what_was_forgotten_or_taken_back_needs_no_list_of_objects(action: Action) -> None:
    # The page: packs, parts, index and sessions are there for `delete` alone, and `lifts` for `undelete`.
    header: dict[str, Any] = {
        "made": moment(1),
        "action": action.value,
        "snapshots": {NAME.hex(): secret("head").hex()},
    }
    if action is Action.UNDELETE:
        header["lifts"] = []

    assert opened("deletion", header) == Deletion(moment(1), action, {NAME: secret("head")})
    assert header_of("deletion", encoded(Deletion(moment(1), action, {NAME: secret("head")}))) == header


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("notice", {"made": None}),
    ("notice", {"made": 5}),
    ("notice", {"packs": [PACK.hex()]}),
    ("notice", {"packs": {"00": "why"}}),
    ("notice", {"packs": {PACK.hex(): None}}),
    ("notice", {"packs": {"AB" * 16: "why"}}),
    ("notice", {"void": [NAME.hex()]}),
    ("notice", {"void": {NAME.hex(): "00" * 16}}),
    ("notice", {"void": {NAME.hex(): None}}),
    ("notice", {"void": {"00": "00" * 32}}),
    ("tombstone", {"packs": PACK.hex()}),
    ("tombstone", {"packs": {PACK.hex(): ""}}),
    ("tombstone", {"parts": [None]}),
    ("tombstone", {"index": ["00"]}),
    ("tombstone", {"sessions": ["AB" * 16]}),
    ("deletion", {"action": "delete all"}),
    ("deletion", {"action": "DELETE"}),
    ("deletion", {"action": "Forget"}),
    ("deletion", {"action": None}),
    ("deletion", {"snapshots": [NAME.hex()]}),
    ("deletion", {"snapshots": {NAME.hex(): "00"}}),
    ("deletion", {"packs": None}),
    ("deletion", {"sessions": [5]}),
    ("mark", {"action": "forget"}),
    ("mark", {"action": "Hold"}),
    ("mark", {"snapshots": [NAME.hex()]}),
    ("mark", {"text": None}),
    ("mark", {"text": ["release"]}),
    ("mark", {"holds": None}),
    ("mark", {"holds": {PACK.hex(): ""}}),
    ("mark", {"holds": ["00"]}),
]


@pytest.mark.parametrize(("what", "change"), WRONG)
def test_wrong_content_is_refused(what: str, change: dict[str, Any]) -> None:
    header = header_of(what, encoded(EXAMPLES[what]))

    with pytest.raises(Malformed):
        opened(what, {**header, **change})


@pytest.mark.parametrize("what", EXAMPLES)
def test_bytes_behind_the_record_are_refused(what: str) -> None:
    with pytest.raises(Malformed):
        opened(what, header_of(what, encoded(EXAMPLES[what])), b"\0")


def test_what_is_too_short_for_a_notice_is_refused() -> None:
    data = encoded(NOTICE)
    for length in range(24 + 64):
        with pytest.raises(Malformed, match="truncated"):
            decode_notice(NAME, data[:length])


def test_things_are_told_by_kind() -> None:
    assert Things.from_json(THINGS.to_json()) == THINGS
    assert THINGS.to_json().keys() == {"packs", "parts", "index", "sessions"}
    dropped = replace(THINGS, marks=(NAME,))
    assert Things.from_json(dropped.to_json()) == dropped
    assert dropped.to_json().keys() == {"packs", "parts", "index", "sessions", "marks"}


@pytest.mark.parametrize(
    "change",
    [
        {"gone": None},
        {"gone": {NAME.hex(): ""}},
        {"gone": ["00" * 16]},
        {"missing": None},
        {"missing": ["00" * 32]},
    ],
)
def test_what_is_given_up_is_named_by_digests_and_ids(change: dict[str, Any]) -> None:
    content = Deletion(moment(1), Action.FORGET, {}, gone=(secret("head"),), missing=(NAME,))
    header = header_of("deletion", encoded(content))
    assert (header["gone"], header["missing"]) == ([secret("head").hex()], [NAME.hex()])
    with pytest.raises(Malformed):
        opened("deletion", {**header, **change})


def test_a_limit_of_what_is_taken_back_is_a_text() -> None:
    header = header_of("deletion", encoded(Deletion(moment(1), Action.UNDELETE, {}, until=moment(2))))
    assert header["until"] == moment(2)
    with pytest.raises(Malformed):
        opened("deletion", {**header, "until": 5})
