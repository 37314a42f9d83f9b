"""Manifests: streams in order, and what the source reported, as it was reported."""

from dataclasses import replace
from typing import Any

import pytest
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, spelled
from core.tests.format.examples import MANIFEST
from core.tests.format.test_encoding import OBJECTS, TEXTS
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.encoding import Malformed
from penstock.format.manifest import Manifest, StreamRecord, decode_manifest, encode_manifest

SIZES = st.integers(0, 2**63 - 1)
STREAMS = st.builds(
    StreamRecord,
    name=TEXTS,
    format=TEXTS,
    phase=st.integers(0, 9),
    optional=st.booleans(),
    attributes=st.dictionaries(TEXTS, TEXTS, max_size=3),
    size=SIZES,
    digest=st.binary(min_size=32, max_size=32),
    recipe=st.lists(st.lists(SIZES, max_size=3).map(tuple), max_size=3).map(tuple),
    separator=st.binary(max_size=3),
)
MANIFESTS = st.builds(Manifest, TEXTS, OBJECTS, st.lists(STREAMS, max_size=4).map(tuple))


@pytest.mark.slow
@EFFORT
@given(MANIFESTS)
def test_manifests_round_trip(manifest: Manifest) -> None:
    plain = encode_manifest(manifest)

    assert decode_manifest(plain) == manifest
    header, body = independent_reader.record(plain)
    assert [stream["digest"] for stream in header["streams"]] == [one.digest.hex() for one in manifest.streams]
    assert header["inspection"] == manifest.inspection
    assert body == b""


def test_a_manifest_holds_what_the_page_says() -> None:
    header, _ = independent_reader.record(encode_manifest(MANIFEST))

    assert header.keys() == {"consistency", "inspection", "streams"}
    assert header["streams"][0] == {
        "name": "data/öffentlich",
        "format": "sql",
        "phase": 1,
        "optional": False,
        "attributes": {"ü": "✓"},
        "size": 101,
        "digest": MANIFEST.streams[0].digest.hex(),
        "recipe": [[0, 7], [1], []],
    }


def test_what_ends_a_row_is_there_where_the_source_said_so() -> None:
    first, second = MANIFEST.streams
    manifest = replace(MANIFEST, streams=(replace(first, separator=b"),\n("), second))

    plain = encode_manifest(manifest)
    header, _ = independent_reader.record(plain)
    assert header["streams"][0]["separator"] == "292c0a28"
    assert "separator" not in header["streams"][1]
    assert decode_manifest(plain) == manifest


def test_whatever_a_source_returns_as_attributes_becomes_text() -> None:
    attributes: Any = {"rows": 5, "path": None}
    stream = replace(MANIFEST.streams[0], attributes=attributes)

    found = decode_manifest(encode_manifest(replace(MANIFEST, streams=(stream,))))
    assert found.streams[0].attributes == {"rows": "5", "path": "None"}


@pytest.mark.parametrize("reported", [1.5, -1, float("nan"), 2**63])
def test_a_report_that_nobody_would_read_again_is_not_written(reported: float) -> None:
    with pytest.raises(ValueError, match=r"integers|range"):
        encode_manifest(replace(MANIFEST, inspection={"size": reported}))


WRONG: dict[str, dict[str, Any]] = {
    "no name": {"name": None},
    "a phase below zero": {"phase": -1},
    "a phase that is a text": {"phase": "1"},
    "optional that is a number": {"optional": 0},
    "optional that is a text": {"optional": "false"},
    "attributes that are numbers": {"attributes": {"a": 1}},
    "attributes that are a list": {"attributes": []},
    "a size that is true": {"size": True},
    "a digest that is an id": {"digest": "00" * 16},
    "a digest in upper case": {"digest": "AB" * 32},
    "no recipe": {"recipe": None},
    "a recipe without levels": {"recipe": [0]},
    "a recipe of texts": {"recipe": [["0"]]},
    "a recipe below zero": {"recipe": [[-1]]},
    "a recipe that is a text": {"recipe": "00"},
    "a separator of no bytes": {"separator": ""},
    "a separator that is null": {"separator": None},
    "a separator in upper case": {"separator": "0A"},
    "a separator with spaces": {"separator": "0a 0d"},
    "a separator that is a number": {"separator": 10},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_stream_with_wrong_content_is_refused(change: dict[str, Any]) -> None:
    header, _ = independent_reader.record(encode_manifest(MANIFEST))
    header["streams"][1].update(change)

    with pytest.raises(Malformed):
        decode_manifest(spelled(header))


@pytest.mark.parametrize("stream", [None, 5, "stream", []])
def test_a_stream_that_is_none_is_refused(stream: object) -> None:
    header, _ = independent_reader.record(encode_manifest(MANIFEST))
    header["streams"].append(stream)

    with pytest.raises(Malformed):
        decode_manifest(spelled(header))


def test_bytes_behind_the_record_are_refused() -> None:
    with pytest.raises(Malformed):
        decode_manifest(encode_manifest(MANIFEST) + b"\0")
