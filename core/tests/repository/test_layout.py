"""The keys of objects: each kind has its folder and its limit, as docs/format.md says."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from core.tests.repository.lab import KIB, MIB, Lab

from penstock.api import validate_key, validate_prefix
from penstock.format.encoding import Malformed
from penstock.repository import layout
from penstock.repository.fetching import fetch, require_size
from penstock.repository.layout import DomainLayout, id_of, limit_of

PAGE = Path(__file__).parents[3] / "docs" / "format.md"
DOMAIN = bytes(range(16))
NAME = bytes(range(240, 256))
AT = DomainLayout(DOMAIN)
KEYS: dict[str, Callable[[bytes], str]] = {
    "grants": layout.grant_key,
    "slots": layout.slot_key,
    "sessions": AT.session_key,
    "packs": AT.pack_key,
    "index": AT.index_key,
    "parts": AT.part_key,
    "snapshots": AT.snapshot_key,
    "notices": AT.notice_key,
    "tombstones": lambda name: AT.tombstones + name.hex(),
    "deletions": lambda name: AT.deletions + name.hex(),
    "marks": AT.mark_key,
}


def table() -> dict[str, tuple[str, int]]:
    """From the page: kind, key and limit in bytes."""
    found = {}
    for line in PAGE.read_text().splitlines():
        row = re.match(r"\| `((?:d/<domain>/)?([a-z.]+)(?:/[^`]*)?)` \|.*\| (\d+) ([KM])iB \|$", line)
        if row:
            found[row[2]] = (row[1], int(row[3]) * (KIB if row[4] == "K" else MIB))
    return found


def test_the_page_and_the_code_name_the_same_kinds() -> None:
    assert table().keys() == {layout.CONFIG, "leases", *KEYS}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_and_limits_are_those_of_the_page(kind: str) -> None:
    key = KEYS[kind](NAME)
    pattern, limit = table()[kind]
    filled = pattern.replace("<domain>", DOMAIN.hex()).replace("<xx>", NAME.hex()[:2]).replace("<id>", NAME.hex())
    assert key == filled
    assert limit_of(key) == limit
    assert id_of(key) == NAME
    validate_key(key)


def test_the_key_of_a_lease_names_session_and_number() -> None:
    key = AT.lease_key(NAME, 7)
    pattern, limit = table()["leases"]
    assert key == pattern.replace("<domain>", DOMAIN.hex()).replace("<session>-<number>", f"{NAME.hex()}-00000007")
    assert limit_of(key) == limit
    with pytest.raises(Malformed):
        id_of(key)


def test_penstock_json_has_a_limit_too() -> None:
    assert limit_of(layout.CONFIG) == table()[layout.CONFIG][1] == 64 * KIB


@pytest.mark.parametrize("kind", [*KEYS, "leases"])
def test_prefixes_hold_their_keys(kind: str) -> None:
    prefix = f"{kind}/" if kind in ("grants", "slots") else getattr(AT, kind)
    key = AT.lease_key(NAME, 1) if kind == "leases" else KEYS[kind](NAME)
    assert key.startswith(prefix)
    assert prefix.endswith("/")
    validate_prefix(prefix)
    assert prefix.startswith((layout.GRANTS, layout.SLOTS, AT.prefix))


def test_domains_do_not_share_a_prefix() -> None:
    other = DomainLayout(NAME)
    assert not AT.prefix.startswith(other.prefix)
    assert not other.prefix.startswith(AT.prefix)


HEX = NAME.hex()


@pytest.mark.parametrize(
    "key",
    [
        "",
        HEX,
        layout.CONFIG,
        "grants/",
        "grants/x",
        f"grants/{HEX[:-1]}",
        f"grants/{HEX}0",
        f"grants/{HEX.upper()}",
        f"grants/x/{HEX}",
        f"grant/{HEX}",
        f"snapshots/{HEX}",
        f"d/{HEX}",
        f"d/{HEX}/{HEX}",
        f"d/x/snapshots/{HEX}",
        f"d/{HEX[:-1]}/snapshots/{HEX}",
        f"d/{HEX}/unknown/{HEX}",
        f"d/{HEX}/snapshots/x/{HEX}",
        f"d/{HEX}/grants/{HEX}",
        f"d/{HEX}/slots/{HEX}",
        f"d/{HEX}/packs/{HEX}",
        f"d/{HEX}/packs/00/{HEX}",
        f"d/{HEX}/packs/{HEX[:2]}/x/{HEX}",
        f"e/{HEX}/snapshots/{HEX}",
        f"d/d/{HEX}/snapshots/{HEX}",
    ],
)
def test_a_key_that_nobody_writes_has_no_id(key: str) -> None:
    with pytest.raises(Malformed):
        id_of(key)


@pytest.mark.parametrize("key", ["", "x", f"d/{HEX}/unknown/{HEX}", f"d/{HEX}/x", "penstock.json/x", f"locks/{HEX}"])
def test_what_is_of_no_kind_has_no_limit_and_is_not_fetched(lab: Lab, key: str) -> None:
    with pytest.raises(Malformed):
        limit_of(key)
    with pytest.raises(Malformed):
        fetch(lab.sink, key)


def test_an_object_is_fetched_whole_up_to_its_limit(lab: Lab) -> None:
    key = AT.lease_key(NAME, 1)
    for size in (0, 1, 4 * KIB):
        lab.sink.put(key, b"x" * size)
        assert fetch(lab.sink, key) == b"x" * size
        require_size(key, size)
    lab.sink.put(key, b"x" * (4 * KIB + 1))
    with pytest.raises(Malformed, match="larger than any object of its kind"):
        fetch(lab.sink, key)
    with pytest.raises(Malformed, match="larger than any object of its kind"):
        require_size(key, 4 * KIB + 1)


def test_every_key_of_a_repository_is_of_a_kind(lab: Lab) -> None:
    lab.backup({"d": b"1"})
    for info in lab.sink.list():
        assert info.size <= limit_of(info.key)
        if info.key != layout.CONFIG and not info.key.startswith(lab.at.leases):
            assert len(id_of(info.key)) == 16
