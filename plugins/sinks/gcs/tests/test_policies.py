"""What `penstock policy` prints for Cloud Storage. The emulators enforce no permissions: only the texts are tested."""

import re
import shlex
from typing import Any

import pytest

from penstock.api import Right, Rights
from penstock_gcs import GcsSettings, GcsSink

OWN = "d/" + "ab" * 16 + "/"
READ = frozenset({Right.LIST, Right.READ})
CREATE = frozenset({Right.CREATE})
WRITER = [
    Rights("penstock.json", frozenset({Right.READ})),
    Rights("grants/", READ),
    Rights(OWN, READ),
    Rights(f"{OWN}packs/", CREATE),
]
EVERYTHING = [Rights("", READ | CREATE | {Right.DELETE, Right.LOCK})]
LOCKS: dict[str, Any] = {"object_lock": "locked", "object_lock_days": 30}
OBJECTS = "projects/_/buckets/acme/objects/shop/"


def texts(rights: list[Rights], **settings: Any) -> list[str]:
    sink = GcsSink(GcsSettings.model_validate({"bucket": "acme", "prefix": "shop", **settings}))
    return [one.text for one in sink.policy(rights)]


def roles(rights: list[Rights], **settings: Any) -> dict[str, list[str]]:
    found = re.findall(r"roles create penstock(\w+) .*--permissions=(\S+)", texts(rights, **settings)[0])
    return {name: permissions.split(",") for name, permissions in found}


def conditions(rights: list[Rights], **settings: Any) -> dict[str, str]:
    """As the shell gives them on."""
    words = shlex.split(texts(rights, **settings)[1].replace("\\\n", " "), comments=True)
    names = [word.rpartition("/")[2].removeprefix("penstock") for word in words if word.startswith("--role=projects")]
    told = [word.removeprefix("--condition=") for word in words if word.startswith("--condition=")]
    return dict(zip(names, told, strict=False))


def test_a_writer_gets_its_domain_and_deletes_nothing() -> None:
    assert roles(WRITER) == {
        "List": ["storage.objects.list"],
        "Read": ["storage.objects.get"],
        "Create": ["storage.objects.create"],
    }
    found = conditions(WRITER)
    assert found["List"] == "None", "a condition on names would deny every listing"
    assert found["Read"] == (
        f'title=penstockRead,expression=resource.name.startsWith("{OBJECTS}{OWN}")'
        f' || resource.name.startsWith("{OBJECTS}grants/") || resource.name == "{OBJECTS}penstock.json"'
    )
    assert found["Create"] == f'title=penstockCreate,expression=resource.name.startsWith("{OBJECTS}{OWN}packs/")'


def test_locks_need_more() -> None:
    found = roles([*WRITER, Rights("slots/", frozenset({Right.LOCK}))], **LOCKS)
    assert found["CreateLocked"] == ["storage.objects.create", "storage.objects.setRetention"]
    assert found["Lock"] == ["storage.objects.get", "storage.objects.setRetention", "storage.objects.update"]
    assert "overrideUnlockedRetention" not in str(found)
    assert "Lock" not in roles([Rights("slots/", frozenset({Right.LOCK}))])


def test_who_has_a_whole_bucket_needs_no_conditions() -> None:
    found = conditions(EVERYTHING, prefix="", **LOCKS)
    assert set(found) == {"List", "Read", "CreateLocked", "Lock", "Delete"}
    assert set(found.values()) == {"None"}


def test_who_deletes_lists_to_find_versions() -> None:
    assert roles([Rights("d/", frozenset({Right.DELETE}))]) == {
        "List": ["storage.objects.list"],
        "Delete": ["storage.objects.delete"],
    }


def test_a_prefix_with_a_quote_stays_one_word() -> None:
    assert conditions(WRITER, prefix="o'brien")["Create"].endswith(f"objects/o'brien/{OWN}packs/\")")


def test_requester_pays_needs_the_project() -> None:
    assert "gcloud projects add-iam-policy-binding billed" in texts(WRITER, project="billed")[1]


@pytest.mark.parametrize("rights", [WRITER, EVERYTHING], ids=["writer", "everything"])
@pytest.mark.parametrize(("settings", "said"), [({}, "Stronger are locks"), (LOCKS, "locked, 30 days")])
def test_the_text_says_what_permissions_cannot_do(rights: list[Rights], settings: dict[str, Any], said: str) -> None:
    text = texts(rights, **settings)[2]
    assert said in text
    assert "Listing cannot be confined to a prefix" in text
    assert ("This role deletes" in text) is (rights is EVERYTHING)
