import json
from contextlib import suppress
from typing import Any

import pytest
from core.tests.repository.lab import CHEAP, PASSPHRASE, Lab
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.api import KeyProblem, WrongKey
from penstock.format.encoding import encode_json
from penstock.format.trust import Role
from penstock.repository import Access, Repository
from penstock.repository.trust.keyring import add_key
from penstock.testing import MemorySink

OWNER = Repository.create(MemorySink(), passphrase=PASSPHRASE, cost=CHEAP)
WRITER = add_key(OWNER, Role.WRITER, "host")
FILE = WRITER.to_key_file()


@pytest.mark.parametrize("role", [Role.OWNER, Role.WRITER, Role.MAINTAINER])
def test_a_key_survives_its_file(lab: Lab, role: Role) -> None:
    access = lab.owner if role is Role.OWNER else add_key(lab.repository, role, "some \u201chost\u201d")
    again = Access.from_key_file(access.to_key_file(), "x.key")
    assert again == access
    assert lab.open(again).access == access
    assert again.to_key_file().count(b"\n") == 1


def test_the_final_newline_may_be_missing_or_of_another_system() -> None:
    for data in (FILE.strip(), FILE.strip() + b"\r\n", FILE + b"\n"):
        assert Access.from_key_file(data, "x") == WRITER


def refused(data: bytes) -> str:
    with pytest.raises(KeyProblem) as raised:
        Access.from_key_file(data, "/etc/penstock/host.key")
    message = str(raised.value)
    assert message.startswith("/etc/penstock/host.key is not a Penstock key file")
    assert raised.value.exit_code == 20
    assert raised.value.__cause__ is None
    return message


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"{}", b"[]", b"null", b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----", b"{" * 99999]
)
def test_anything_but_a_key_file_is_refused_by_name(data: bytes) -> None:
    refused(data)


def test_a_key_file_of_a_later_version_asks_for_an_update() -> None:
    content = json.loads(FILE) | {"penstock_key": 2}
    with pytest.raises(KeyProblem, match=r"^host\.key was written by a later version of Penstock$") as raised:
        Access.from_key_file(
            json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(), "host.key"
        )
    assert raised.value.hint == "Update Penstock."


CHANGES: list[tuple[str, Any]] = [
    ("role", "admin"),
    ("role", None),
    ("role", "slot"),
    ("penstock_key", 0),
    ("penstock_key", True),
    ("repository", "0" * 31),
    ("key", "Z" * 32),
    ("owner", {}),
    ("owner", None),
    ("index_secret", None),
    ("index_secret", "00"),
    ("ed25519", 7),
    ("ed25519", "00" * 33),
    ("label", 1),
    ("recipient", "x"),
    ("recipient", {"mlkem768": "00", "x25519": "00" * 32}),
]


@pytest.mark.parametrize(("field", "value"), CHANGES)
def test_an_invalid_field_is_refused_without_being_quoted(field: str, value: object) -> None:
    content = json.loads(FILE) | {field: value}
    message = refused(json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    assert json.loads(FILE)["index_secret"] not in message


@pytest.mark.parametrize("field", list(json.loads(FILE)))
def test_a_missing_field_is_refused(field: str) -> None:
    content = json.loads(FILE)
    optional = content.pop(field) is None
    data = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if not optional and field != "ed25519":
        refused(data)


@pytest.mark.parametrize("place", ["the file", "the owner's keys"])
def test_unknown_entries_are_refused(place: str) -> None:
    content = json.loads(FILE)
    (content if place == "the file" else content["owner"])["more"] = "what was something else once"
    assert "it holds unknown entries" in refused(encode_json(content))


def test_a_writer_without_a_signing_key_and_an_owner_without_a_private_one_are_refused() -> None:
    for access, field in ((WRITER, "ed25519"), (OWNER.access, "ed25519"), (OWNER.access, "recipient")):
        content = json.loads(access.to_key_file()) | {field: None}
        refused(json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


@settings(max_examples=examples(300), deadline=None)
@given(st.integers(0, len(FILE) - 2), st.integers(0, 255), st.booleans())
def test_a_damaged_file_is_refused_or_gives_another_key(at: int, byte: int, cut: bool) -> None:
    data = FILE[:at] if cut else FILE[:at] + bytes((byte,)) + FILE[at + 1 :]
    if data == FILE:
        return
    with suppress(KeyProblem):
        assert Access.from_key_file(data, "x") != WRITER


@pytest.mark.parametrize("role", [Role.OWNER, Role.WRITER, Role.MAINTAINER])
def test_a_damaged_index_secret_opens_nothing(lab: Lab, role: Role) -> None:
    access = lab.owner if role is Role.OWNER else add_key(lab.repository, role, "host")
    content = json.loads(access.to_key_file())
    first = content["index_secret"][0]
    content["index_secret"] = ("0" if first != "0" else "1") + content["index_secret"][1:]
    damaged = Access.from_key_file(encode_json(content), "x")
    with pytest.raises(WrongKey, match="index secret"):
        lab.open(damaged)
