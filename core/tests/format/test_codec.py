"""The codec byte: only exactly one frame of an allowed size is decompressed."""

import contextlib
import resource

import pytest
import zstandard
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.codec import RAW, ZSTD, compress, decompress
from penstock.format.encoding import Malformed

MIB = 1 << 20
DATA = st.binary(max_size=300) | st.builds(lambda part, times: part * times, st.binary(max_size=9), st.integers(0, 999))


@EFFORT
@given(DATA, st.sampled_from([1, 3, 9, 19]))
def test_payloads_round_trip(data: bytes, level: int) -> None:
    packed = compress(data, level)

    assert decompress(packed, len(data)) == data
    assert independent_reader.payload(packed, len(data)) == data
    assert len(packed) <= len(data) + 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_type_can_be_compressed(kind: type) -> None:
    assert decompress(memoryview(compress(kind(b"abc" * 100), 3)), 300) == b"abc" * 100


def test_compressible_data_is_compressed_and_other_data_stored_raw() -> None:
    assert compress(b"a" * 100, 3)[0] == ZSTD
    assert compress(b"", 3) == bytes((RAW,))
    assert compress(bytes(range(256)), 3) == bytes((RAW, *range(256)))


@EFFORT
@given(DATA.filter(bool), st.integers(1, 100))
def test_more_than_the_limit_is_refused(data: bytes, less: int) -> None:
    for packed in (compress(data, 3), bytes((RAW,)) + data, bytes((ZSTD,)) + zstandard.compress(data)):
        with pytest.raises(Malformed):
            decompress(packed, len(data) - less)


@EFFORT
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_decompressed(data: bytes) -> None:
    for packed in (data, bytes((ZSTD,)) + data, bytes((ZSTD,)) + b"\x28\xb5\x2f\xfd" + data):
        with contextlib.suppress(Malformed):
            assert len(decompress(packed, 100)) <= 100


@EFFORT
@given(damaged(compress(b"a row of a table\n" * 20, 3)))
def test_damage_is_refused_or_decompressed_within_the_limit(data: bytes) -> None:
    # The seal around it detects every change; here damage only must do no harm.
    with contextlib.suppress(Malformed):
        assert len(decompress(data, 340)) <= 340


FRAME = zstandard.compress(b"a" * 1000)
EMPTY = zstandard.compress(b"")
SKIPPABLE = b"\x50\x2a\x4d\x18\x03\0\0\0abc"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        FRAME[:-1],
        FRAME[:5],
        FRAME + b"\0",
        FRAME + FRAME,
        FRAME + EMPTY,
        FRAME + SKIPPABLE,
        SKIPPABLE,
        SKIPPABLE + FRAME,
        EMPTY,
        EMPTY + b"more",
        zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 1000),
    ],
)
def test_anything_but_one_whole_frame_that_states_its_size_is_refused(payload: bytes) -> None:
    with pytest.raises(Malformed):
        decompress(bytes((ZSTD,)) + payload, 10_000)


@pytest.mark.parametrize("codec", [2, 3, 0x7F, 0xFF])
def test_an_unknown_codec_is_refused(codec: int) -> None:
    with pytest.raises(Malformed, match="unknown"):
        decompress(bytes((codec,)) + FRAME, 10_000)


def test_an_empty_payload_is_refused() -> None:
    with pytest.raises(Malformed):
        decompress(b"", 10)


@pytest.mark.slow
def test_a_bomb_is_refused_before_it_takes_memory() -> None:
    parts = zstandard.ZstdCompressor(level=1).chunker(size=1024 * MIB)
    zeros = bytes(16 * MIB)
    bomb = bytearray((ZSTD,))
    for _ in range(64):
        for part in parts.compress(zeros):
            bomb += part
    for part in parts.finish():  # type: ignore[no-untyped-call]
        bomb += part
    packed = bytes(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(Malformed, match="larger"):
        decompress(packed, 8 * MIB)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * 1024


@pytest.mark.parametrize("claim", [1, 100, 999, 1001, 50_000])
def test_a_frame_that_lies_about_its_size_is_refused(claim: int) -> None:
    # Single segment, content size in two bytes: header byte 0x60, then the size less 256; in one byte: 0x20.
    honest = FRAME
    assert honest[4] == 0x60
    size = (claim - 256).to_bytes(2, "little") if claim >= 256 else bytes((claim,))
    lie = honest[:4] + (b"\x60" if claim >= 256 else b"\x20") + size + honest[7:]

    with pytest.raises(Malformed):
        decompress(bytes((ZSTD,)) + lie, 64 * 1024)
