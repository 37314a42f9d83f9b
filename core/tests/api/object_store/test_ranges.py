import pytest

from penstock.api import ByteRange, SinkUnreachable

DATA = bytes(range(100))


@pytest.mark.parametrize(
    ("wanted", "header"),
    [(ByteRange(), None), (ByteRange(5), "bytes=5-"), (ByteRange(0, 10), "bytes=0-9"), (ByteRange(5, 1), "bytes=5-5")],
)
def test_a_range_is_asked_for_by_a_header(wanted: ByteRange, header: str | None) -> None:
    assert wanted.headers.get("Range") == header


@pytest.mark.parametrize("wanted", [ByteRange(), ByteRange(5), ByteRange(5, 10), ByteRange(90, 20), ByteRange(100, 1)])
def test_an_answer_without_ranges_is_cut(wanted: ByteRange) -> None:
    end = None if wanted.length is None else wanted.start + wanted.length
    assert wanted.taken("a", DATA, None) == DATA[wanted.start : end]


def test_an_answer_is_taken_when_it_is_the_range() -> None:
    assert ByteRange(5, 10).taken("a", DATA[5:15], "bytes 5-14/100") == DATA[5:15]
    assert ByteRange(95, 10).taken("a", DATA[95:], "bytes 95-99/100") == DATA[95:]
    assert ByteRange(95).taken("a", DATA[95:], "bytes 95-99/100") == DATA[95:]


@pytest.mark.parametrize(
    ("data", "given"),
    [
        (DATA[5:14], "bytes 5-14/100"),
        (DATA[5:16], "bytes 5-15/100"),
        (DATA[6:16], "bytes 6-15/100"),
        (DATA[5:15], "bytes 5-14/*"),
        (DATA[5:15], "items 5-14/100"),
        (DATA[5:15], "bytes"),
    ],
)
def test_another_answer_is_refused(data: bytes, given: str) -> None:
    with pytest.raises(SinkUnreachable, match="asked for bytes 5") as caught:
        ByteRange(5, 10).taken("packs/a", data, given)
    assert caught.value.key == "packs/a"


def test_only_a_whole_object_is_compared_with_its_checksum() -> None:
    assert ByteRange().is_all(DATA, None)
    assert ByteRange(0, 100).is_all(DATA, "bytes 0-99/100")
    assert not ByteRange(0, 10).is_all(DATA[:10], "bytes 0-9/100")
    assert not ByteRange(1).is_all(DATA[1:], "bytes 1-99/100")
