"""Padding: sizes of one class look alike, zeroes are verified, and nothing larger than allowed is decompressed."""

import resource
import struct

import pytest
import zstandard
from blake3 import blake3
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged, every_damage
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.codec import RAW, ZSTD, compress
from penstock.format.encoding import Malformed
from penstock.format.padding import LEAST, open_padded, padded, seal_padded
from penstock.format.sealing import OVERHEAD, Sealer

MIB = 1 << 20
SEALER = Sealer(bytes(range(32)))
PLACE = b"a place"
PLAIN = st.binary(max_size=300) | st.integers(0, 6000).map(lambda size: independent_reader.digest(b"") * (size // 32))

#: From the definition: with E = floor(log2 n) and S = floor(log2 E) + 1, the next multiple of 2**(E - S).
SIZES = {
    0: 4096,
    1: 4096,
    4095: 4096,
    4096: 4096,
    4097: 4352,
    4352: 4352,
    4353: 4608,
    7936: 7936,
    7937: 8192,
    8192: 8192,
    8193: 8704,
    65535: 65536,
    65536: 65536,
    65537: 67584,
    MIB: MIB,
    MIB + 1: MIB + 32768,
    8 * MIB + 1: 8 * MIB + 262144,
    32 * MIB: 32 * MIB,
}


@pytest.mark.parametrize(("size", "expected"), SIZES.items())
def test_sizes_are_rounded_up_as_specified(size: int, expected: int) -> None:
    assert padded(size) == expected
    assert independent_reader.padme(size) == expected


@EFFORT
@given(st.integers(0, 20_000) | st.integers(0, 2**32))
def test_padding_is_small_and_never_negative(size: int) -> None:
    target = padded(size)

    assert target == independent_reader.padme(size)
    assert padded(target) == target, "a padded size is its own class"
    assert size <= target
    assert target <= max(LEAST, 1.12 * size)


@pytest.mark.parametrize("exponent", range(12, 26))
def test_there_are_few_classes_between_a_number_and_its_double(exponent: int) -> None:
    low = 1 << exponent
    classes = {padded(size) for size in range(low + 1, 2 * low + 1, max(1, low // 4096))}

    assert len(classes) == (16 if exponent < 16 else 32)


@EFFORT
@given(PLAIN, st.sampled_from([1, 3, 9]))
def test_payloads_round_trip(plain: bytes, level: int) -> None:
    sealed = seal_padded(plain, level, SEALER, PLACE, limit=1 << 20)

    assert len(sealed) == padded(4 + len(compress(plain, level)) + OVERHEAD)
    assert open_padded(sealed, len(plain), SEALER, PLACE) == plain
    assert independent_reader.unpadded(SEALER.open(sealed, PLACE), len(plain)) == plain


@pytest.mark.parametrize("size", [0, 1, 4096 - OVERHEAD - 5, 4096 - OVERHEAD - 4, 5000, 100_000])
def test_the_sealed_bytes_have_the_size_of_their_class(size: int) -> None:
    data = blake3(b"no pattern").digest(size)

    sealed = seal_padded(data, 3, SEALER, PLACE, limit=1 << 20)
    # The codec byte is part of the payload.
    assert len(sealed) == padded(4 + 1 + size + OVERHEAD)
    assert open_padded(sealed, size, SEALER, PLACE) == data


def test_what_differs_within_a_class_has_one_size() -> None:
    sizes = {len(seal_padded(bytes(range(256)) * times, 3, SEALER, PLACE, limit=1 << 20)) for times in range(16)}

    assert sizes == {4096}


@pytest.mark.parametrize("behind", [b"\1", b"\0\1", bytes(4000) + b"\x80", b"\1" + bytes(100)])
def test_other_bytes_than_zeroes_are_refused(behind: bytes) -> None:
    payload = bytes((RAW,)) + b"content"
    plain = struct.pack("<I", len(payload)) + payload

    assert open_padded(SEALER.seal(plain + bytes(len(behind)), PLACE), 100, SEALER, PLACE) == b"content"
    with pytest.raises(Malformed, match="padding"):
        open_padded(SEALER.seal(plain + behind, PLACE), 100, SEALER, PLACE)


@pytest.mark.parametrize(
    "plain", [b"", b"\0", b"\0\0\0", b"\0\0\0\0", b"\1\0\0\0", b"\3\0\0\0\0a", b"\xff\xff\xff\xff\0"]
)
def test_a_truncated_or_empty_payload_is_refused(plain: bytes) -> None:
    with pytest.raises(Malformed):
        open_padded(SEALER.seal(plain, PLACE), 100, SEALER, PLACE)


def test_the_slightest_change_is_refused() -> None:
    for other in every_damage(seal_padded(b"content", 3, SEALER, PLACE, limit=1 << 20)):
        with pytest.raises(Malformed):
            open_padded(other, 100, SEALER, PLACE)


@EFFORT
@given(damaged(struct.pack("<I", 8) + bytes((RAW,)) + b"content" + bytes(30)) | st.binary(max_size=60))
def test_any_plaintext_is_refused_or_opened_within_the_limit(plain: bytes) -> None:
    try:
        found = open_padded(SEALER.seal(plain, PLACE), 40, SEALER, PLACE)
    except Malformed:
        return
    assert len(found) <= 40


@pytest.mark.parametrize("limit", [0, 1, 999])
def test_more_than_the_limit_is_refused(limit: int) -> None:
    for plain in (bytes(1000), blake3(b"no pattern").digest(1000)):
        sealed = seal_padded(plain, 3, SEALER, PLACE, limit=1 << 20)

        assert open_padded(sealed, 1000, SEALER, PLACE) == plain
        with pytest.raises(Malformed, match="larger"):
            open_padded(sealed, limit, SEALER, PLACE)


def test_a_sealed_bomb_is_refused_before_it_takes_memory() -> None:
    parts = zstandard.ZstdCompressor(level=1).chunker(size=256 * MIB)
    zeroes, bomb = bytes(16 * MIB), bytearray((ZSTD,))
    for _ in range(16):
        for part in parts.compress(zeroes):
            bomb += part
    for part in parts.finish():  # type: ignore[no-untyped-call]
        bomb += part
    sealed = SEALER.seal(struct.pack("<I", len(bomb)) + bomb, PLACE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(Malformed, match="larger"):
        open_padded(sealed, 16 * MIB, SEALER, PLACE)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * 1024


def test_what_nobody_could_open_again_is_not_sealed() -> None:
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        seal_padded(bytes(1001), 3, SEALER, PLACE, limit=1000)
