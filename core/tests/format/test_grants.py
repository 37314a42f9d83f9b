"""Entries of the owner's log: each action has its fields, and a grant has those of its role."""

from dataclasses import replace
from typing import Any

import pytest
from core.tests.format.damage import EFFORT
from core.tests.format.examples import CONTENTS, DOMAIN, ENTRIES, KEYS, NAME, SIGNER, WRITER, moment, secret
from core.tests.format.test_encoding import OBJECTS, TEXTS
from hypothesis import given

from penstock.format.chunker import ChunkerParameters
from penstock.format.encoding import Malformed
from penstock.format.grants import Entry, Granted, Kept, MadeDomain, Revoked, Unknown
from penstock.format.trust import Role

COMMON = {"action", "created", "number", "previous"}
FIELDS = {
    "domain": {"domain", "label", "chunker", "layout_proof", "domain_proof"},
    "writer": {"role", "key", "label", "ed25519", "domain", "names"},
    "maintainer": {"role", "key", "label", "ed25519", "domain", "names"},
    "slot": {"role", "key", "label", "ed25519", "domain", "names"},
    "revoke": {"key", "since", "kept"},
    "keep": {"key", "kept"},
}


@pytest.mark.parametrize("name", CONTENTS)
def test_an_entry_has_the_fields_of_its_action(name: str) -> None:
    content = ENTRIES[name].to_json()

    assert content.keys() == COMMON | FIELDS[name]
    assert content["previous"] == sorted(content["previous"])
    assert Entry.from_json(content) == ENTRIES[name]


@pytest.mark.parametrize("name", CONTENTS)
def test_an_entry_without_one_of_its_fields_is_not_understood(name: str) -> None:
    optional = {"domain", "ed25519", "since"}
    for field in FIELDS[name] - (optional if name != "writer" else set()) - {"since"}:
        content = ENTRIES[name].to_json()
        del content[field]
        assert_not_understood(content)


@pytest.mark.parametrize("field", sorted(COMMON))
@pytest.mark.parametrize("name", CONTENTS)
def test_an_entry_without_what_every_entry_has_is_refused(name: str, field: str) -> None:
    content = ENTRIES[name].to_json()
    del content[field]
    with pytest.raises(Malformed):
        Entry.from_json(content)


def assert_not_understood(content: dict[str, Any]) -> None:
    """It counts as there, has no effect, and is written back as it was."""
    entry = Entry.from_json(content)
    assert entry.content == Unknown(content["action"], {key: content[key] for key in content.keys() - COMMON})
    assert entry.to_json() == content


def test_what_a_grant_does_not_have_is_null_or_empty() -> None:
    assert ENTRIES["maintainer"].to_json()["domain"] is None
    assert ENTRIES["maintainer"].to_json()["names"] == []
    assert ENTRIES["slot"].to_json()["ed25519"] is None
    assert ENTRIES["writer"].to_json()["names"] == ["shop", "nightly-*"]


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("writer", {"role": "owner"}),
    ("writer", {"role": "reader"}),
    ("writer", {"role": "Writer"}),
    ("writer", {"role": None}),
    ("writer", {"role": "slot"}),
    ("writer", {"role": "maintainer"}),
    ("writer", {"ed25519": None}),
    ("writer", {"ed25519": "00" * 31}),
    ("writer", {"ed25519": "AB" * 32}),
    ("writer", {"domain": None}),
    ("writer", {"domain": "00" * 15}),
    ("writer", {"names": []}),
    ("writer", {"names": "shop"}),
    ("writer", {"names": ["shop", 1]}),
    ("writer", {"names": None}),
    ("writer", {"key": "00"}),
    ("maintainer", {"role": "writer"}),
    ("maintainer", {"domain": DOMAIN.hex()}),
    ("maintainer", {"names": ["*"]}),
    ("maintainer", {"ed25519": None}),
    ("slot", {"role": "writer"}),
    ("slot", {"role": "maintainer"}),
    ("slot", {"ed25519": SIGNER.public.raw.hex()}),
    ("slot", {"domain": DOMAIN.hex()}),
    ("slot", {"names": ["*"]}),
    ("slot", {"label": None}),
    ("domain", {"layout_proof": "00" * 32}),
    ("domain", {"domain_proof": "A" * 32}),
    ("domain", {"chunker": None}),
    ("domain", {"chunker": {**ChunkerParameters().to_json(), "algorithm": "fastcdc-2016"}}),
    ("domain", {"chunker": {**ChunkerParameters().to_json(), "maximum": 65536}}),
    ("domain", {"label": 5}),
    ("revoke", {"kept": []}),
    ("revoke", {"kept": None}),
    ("revoke", {"kept": {"00": "00" * 32}}),
    ("revoke", {"kept": {"00" * 16: "00" * 16}}),
    ("revoke", {"kept": {"00" * 16: None}}),
    ("revoke", {"kept": {"AB" * 16: "00" * 32}}),
    ("revoke", {"since": 5}),
    ("keep", {"key": None}),
    ("keep", {"kept": None}),
    ("keep", {"kept": {"00" * 16: "AB" * 32}}),
]


@pytest.mark.parametrize(("name", "change"), WRONG)
def test_an_entry_whose_content_contradicts_the_page_is_not_understood(name: str, change: dict[str, Any]) -> None:
    assert_not_understood({**ENTRIES[name].to_json(), **change})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("keep", {"action": None}),
        ("keep", {"action": 5}),
        ("keep", {"number": 0}),
        ("keep", {"number": 2**63}),
        ("keep", {"number": True}),
        ("keep", {"number": "1"}),
        ("keep", {"previous": []}),
        ("keep", {"previous": None}),
        ("keep", {"previous": "00" * 32}),
        ("keep", {"previous": ["00" * 16]}),
        ("keep", {"previous": {"00" * 32: 1}}),
        ("keep", {"created": None}),
        ("keep", {"created": 0}),
    ],
)
def test_an_entry_that_contradicts_what_every_entry_has_is_refused(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        Entry.from_json({**ENTRIES[name].to_json(), **change})


def test_a_key_may_be_revoked_without_a_time_and_with_nothing_kept() -> None:
    entry = Entry(1, frozenset({secret("before")}), moment(1), Revoked(WRITER))

    assert entry.to_json() | {"since": None, "kept": {}} == entry.to_json()
    assert Entry.from_json(entry.to_json()) == entry


def test_entries_of_all_kinds_are_told_apart() -> None:
    kinds = [type(Entry.from_json(entry.to_json()).content) for entry in ENTRIES.values()]

    assert kinds == [MadeDomain, Granted, Granted, Granted, Revoked, Kept]
    assert ENTRIES["slot"].content == Granted(NAME, Role.SLOT, "passphrase")


# --- What a later version writes

KNOWN = {"domain", "grant", "revoke", "keep"}
LATER = {"action": "archive", "created": moment(9), "number": 7, "previous": ["00" * 32, "ab" * 32]}


def test_an_entry_with_an_unknown_action_is_read_and_written_back_as_it_was() -> None:
    content = {**LATER, "key": None, "kept": [], "since": {"a": 1}}
    entry = Entry.from_json(content)

    assert entry.content == Unknown("archive", {"key": None, "kept": [], "since": {"a": 1}})
    assert (entry.number, entry.created) == (7, moment(9))
    assert entry.previous == {bytes(32), b"\xab" * 32}
    assert entry.to_json() == content


@pytest.mark.slow
@EFFORT
@given(TEXTS.filter(lambda action: action not in KNOWN), OBJECTS)
def test_any_fields_of_an_unknown_action_are_preserved(action: str, fields: dict[str, Any]) -> None:
    content = {**fields, **LATER, "action": action}

    assert Entry.from_json(content).to_json() == content


@pytest.mark.parametrize("action", ["Keep", "keep ", "kept", "", "domains", "GRANT", "revoked"])
def test_an_action_that_resembles_a_known_one_is_unknown(action: str) -> None:
    found = Entry.from_json({**ENTRIES["keep"].to_json(), "action": action}).content

    assert isinstance(found, Unknown)
    assert (found.action, set(found.fields)) == (action, FIELDS["keep"])


@pytest.mark.parametrize(
    "change",
    [
        {"number": 0},
        {"number": 2**63},
        {"number": None},
        {"previous": []},
        {"previous": None},
        {"previous": ["00" * 16]},
        {"created": None},
        {"action": None},
    ],
)
def test_an_entry_of_a_later_version_still_has_what_every_entry_has(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        Entry.from_json({**LATER, **change})


# --- What would be no entry, or one without effect, is not written


def changed(name: str, **change: Any) -> Granted:
    content = CONTENTS[name]
    assert isinstance(content, Granted)
    return replace(content, **change)


@pytest.mark.parametrize(
    "entry",
    [
        replace(ENTRIES["keep"], number=0),
        replace(ENTRIES["keep"], number=2**63),
        replace(ENTRIES["keep"], previous=frozenset()),
        replace(ENTRIES["keep"], previous=frozenset({bytes(16)})),
        replace(ENTRIES["writer"], content=changed("writer", names=())),
        replace(ENTRIES["writer"], content=changed("writer", signing=None)),
        replace(ENTRIES["writer"], content=changed("writer", domain=None)),
        replace(ENTRIES["writer"], content=changed("writer", role=Role.OWNER)),
        replace(ENTRIES["slot"], content=changed("slot", names=("*",))),
        replace(ENTRIES["keep"], content=Kept(WRITER, {NAME: bytes(16)})),
        replace(ENTRIES["revoke"], content=Revoked(bytes(15))),
    ],
)
def test_what_a_reader_would_not_take_for_what_it_is_is_not_written(entry: Entry) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says something else
        entry.to_json()


def test_the_fields_of_an_unknown_action_do_not_replace_those_of_every_entry() -> None:
    entry = replace(ENTRIES["keep"], content=Unknown("archive", {"number": 99, "previous": []}))

    assert Entry.from_json(entry.to_json()) == replace(entry, content=Unknown("archive", {}))


def test_the_proofs_of_a_domain_are_those_of_its_keys() -> None:
    made = Entry.from_json(ENTRIES["domain"].to_json()).content
    assert isinstance(made, MadeDomain)

    assert (made.layout_proof, made.domain_proof) == (KEYS.layout_proof, KEYS.domain_proof)
    assert len({made.layout_proof, made.domain_proof}) == 2
    assert replace(KEYS, secret=secret("another")).domain_proof != made.domain_proof
