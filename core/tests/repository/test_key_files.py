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
from penstock.repository.trust.keyring import add_maintainer, add_writer
from penstock.testing import MemorySink

OWNER = Repository.create(MemorySink(), passphrase=PASSPHRASE, cost=CHEAP)
WRITER = add_writer(OWNER, "host")
MAINTAINER = add_maintainer(OWNER, "operations")
FILE = WRITER.to_key_file()
FILES = {access.role: access.to_key_file() for access in (OWNER.access, WRITER, MAINTAINER)}
#: What a key file has under `secrets`.
SECRETS = {
    Role.OWNER: {"root", "mlkem768", "x25519"},
    Role.MAINTAINER: {"maintenance"},
    Role.WRITER: {"domain", "domain_secret", "layout_key"},
}


def encoded(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def access_of(lab: Lab, role: Role, label: str = "host") -> Access:
    match role:
        case Role.OWNER:
            return lab.owner
        case Role.WRITER:
            return add_writer(lab.repository, label)
        case _:
            return add_maintainer(lab.repository, label)


@pytest.mark.parametrize("role", SECRETS)
def test_a_key_survives_its_file(lab: Lab, role: Role) -> None:
    access = access_of(lab, role, "some \u201chost\u201d")
    again = Access.from_key_file(access.to_key_file(), "x.key")
    assert again == access
    assert lab.open(again).access == access
    assert again.to_key_file().count(b"\n") == 1


@pytest.mark.parametrize("role", SECRETS)
def test_a_key_file_holds_its_roles_branch_of_the_secrets_and_no_other(role: Role) -> None:
    content = json.loads(FILES[role])
    assert content.keys() == {"penstock_key", "role", "repository", "key", "label", "owner", "ed25519", "secrets"}
    assert content["secrets"].keys() == SECRETS[role]
    assert content["owner"] == OWNER.config.owner.to_json()
    text = FILES[role].decode()
    for other, names in SECRETS.items():
        if other is not role:
            kept = json.loads(FILES[other])
            assert all(kept["secrets"][name] not in text for name in names)
            assert kept["ed25519"] not in text


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
        Access.from_key_file(encoded(content), "host.key")
    assert raised.value.hint == "Update Penstock."


CHANGES: list[tuple[str, Any]] = [
    ("role", "admin"),
    ("role", None),
    ("role", "slot"),
    ("role", "owner"),
    ("role", "maintainer"),
    ("penstock_key", 0),
    ("penstock_key", True),
    ("repository", "0" * 31),
    ("key", "Z" * 32),
    ("owner", {}),
    ("owner", None),
    ("secrets", None),
    ("secrets", []),
    ("secrets", {}),
    ("ed25519", None),
    ("ed25519", 7),
    ("ed25519", "00" * 33),
    ("label", 1),
]
#: What is wrong with a secret; None: it is not there.
BAD_SECRETS: list[Any] = [None, "", "00", "x" * 64, 7, "AB" * 32, "00" * 65]


@pytest.mark.parametrize(("field", "value"), CHANGES)
def test_an_invalid_field_is_refused_without_being_quoted(field: str, value: object) -> None:
    content = json.loads(FILE) | {field: value}
    message = refused(encoded(content))
    assert all(secret not in message for secret in json.loads(FILE)["secrets"].values())


@pytest.mark.parametrize("bad", BAD_SECRETS)
@pytest.mark.parametrize(("role", "name"), [(role, name) for role, names in SECRETS.items() for name in sorted(names)])
def test_an_invalid_secret_is_refused_without_being_quoted(role: Role, name: str, bad: object) -> None:
    content = json.loads(FILES[role])
    secret = content["secrets"].pop(name)
    if bad is not None:
        content["secrets"][name] = bad
    message = refused(encoded(content))
    assert secret not in message
    assert not isinstance(bad, str) or not bad or bad not in message


@pytest.mark.parametrize("role", SECRETS)
def test_secrets_of_another_role_are_refused_beside_its_own(role: Role) -> None:
    for other in SECRETS.keys() - {role}:
        content = json.loads(FILES[role])
        content["secrets"] |= json.loads(FILES[other])["secrets"]
        assert "not those of its role" in refused(encoded(content))


@pytest.mark.parametrize("field", list(json.loads(FILE)))
@pytest.mark.parametrize("role", SECRETS)
def test_a_missing_field_is_refused(role: Role, field: str) -> None:
    content = json.loads(FILES[role])
    del content[field]
    refused(encoded(content))


@pytest.mark.parametrize("place", ["the file", "the owner's keys", "the secrets"])
def test_unknown_entries_are_refused(place: str) -> None:
    content = json.loads(FILE)
    of_place = {"the file": content, "the owner's keys": content["owner"], "the secrets": content["secrets"]}
    of_place[place]["more"] = "what was something else once"
    assert "it holds unknown entries" in refused(encode_json(content))


@pytest.mark.slow
@settings(max_examples=examples(300), deadline=None)
@given(st.integers(0, len(FILE) - 2), st.integers(0, 255), st.booleans())
def test_a_damaged_file_is_refused_or_gives_another_key(at: int, byte: int, cut: bool) -> None:
    data = FILE[:at] if cut else FILE[:at] + bytes((byte,)) + FILE[at + 1 :]
    if data == FILE:
        return
    with suppress(KeyProblem):
        assert Access.from_key_file(data, "x") != WRITER


@pytest.mark.parametrize(
    ("role", "name"),
    [
        (Role.OWNER, "root"),
        (Role.MAINTAINER, "maintenance"),
        (Role.WRITER, "domain_secret"),
        (Role.WRITER, "layout_key"),
    ],
)
def test_a_damaged_secret_opens_nothing(lab: Lab, role: Role, name: str) -> None:
    content = json.loads(access_of(lab, role).to_key_file())
    secret = content["secrets"][name]
    content["secrets"][name] = ("0" if secret[0] != "0" else "1") + secret[1:]
    damaged = Access.from_key_file(encode_json(content), "x")
    with pytest.raises(WrongKey, match="its secrets are not those of the repository"):
        lab.open(damaged)


def test_a_writers_file_with_another_domain_opens_nothing(lab: Lab) -> None:
    content = json.loads(add_writer(lab.repository, "host").to_key_file())
    for domain, match in ((lab.domain.id.hex(), "its secrets are not those"), ("00" * 16, "never made the domain")):
        content["secrets"]["domain"] = domain
        with pytest.raises(WrongKey, match=match):
            lab.open(Access.from_key_file(encode_json(content), "x"))
