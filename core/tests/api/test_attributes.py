"""What a snapshot says of a stream is read strictly, whoever wrote it."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, Json

from penstock.api import RecordedName, RecordedText, RecordedVersion, RestoreFailed, StreamAttributes, StreamSpec


class Attributes(StreamAttributes):
    name: RecordedName
    version: RecordedVersion = "1"
    word: Annotated[str, Field(pattern="^[a-z]{1,9}$")] = "a"
    comment: RecordedText = ""
    count: Json[int] = 0
    grants: Json[tuple[tuple[RecordedName, Literal["read"], bool], ...]] = ()


def read(**attributes: str) -> Attributes:
    return Attributes.of(StreamSpec("db/x.dump", "test", attributes={"name": "näme; -- ", **attributes}))


def test_values_have_the_types_of_their_fields_and_others_are_ignored() -> None:
    read_ = read(version="18.6 (Debian 18.6-1.pgdg20251101120000)", count="7", grants='[["a","read",true]]', later="x")
    assert (read_.name, read_.count, read_.grants) == ("näme; -- ", 7, (("a", "read", True),))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a\0b"},
        {"name": "a" * 256},
        {"version": "1" * 5000},
        {"version": "1\n2"},
        {"version": ""},
        {"word": "a; DROP"},
        {"word": "a\n"},
        {"comment": "\0"},
        {"count": '"7"'},
        {"count": "true"},
        {"count": "7.5"},
        {"count": "[" * 100_000},
        {"count": "not json"},
        {"grants": "{}"},
        {"grants": '[["a","read","yes"]]'},
        {"grants": '[["a","read"]]'},
        {"grants": '[["a","read TO PUBLIC; DROP DATABASE x",true]]'},
        {"grants": '[["a\\u0000","read",true]]'},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_what_no_dump_records_is_refused_and_not_repeated(wrong: dict[str, str]) -> None:
    with pytest.raises(RestoreFailed) as caught:
        read(**wrong)
    name = next(iter(wrong))
    assert caught.value.message.startswith(f"db/x.dump cannot be restored: its snapshot records an unusable {name}")
    assert len(caught.value.message) < 300
    assert "DROP" not in caught.value.message
    assert caught.value.hint


def test_a_missing_one_is_named() -> None:
    with pytest.raises(RestoreFailed, match="an unusable name: Field required"):
        Attributes.of(StreamSpec("s", "test"))
