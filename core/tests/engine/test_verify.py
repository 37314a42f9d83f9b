"""Verify: every stream comes out whole, or is named."""

import json
from typing import Any

import pytest
from core.tests.repository.forging import keys
from core.tests.repository.lab import KIB, MIB, Lab, noise

from penstock.api import EventKind, RoleForbids
from penstock.engine import verify
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow


def verified(lab: Lab) -> dict[str, Any]:
    report = verify(list_snapshots(lab.open(), lambda _: None), memory=64 * MIB, listener=lab.events.append)
    document = report.to_json()
    assert json.loads(json.dumps(document)) == document
    return document


def test_snapshots_that_come_out_have_no_problem(lab: Lab) -> None:
    nights = [{"a": noise(300 * KIB), "e": b""}, {"a": noise(300 * KIB) + noise(MIB, 1), "b": b"small"}]
    made = [lab.backup(streams) for streams in nights]
    document = verified(lab)
    assert document["problems"] == 0
    assert [(one["snapshot"], one["streams"], one["read"], one["problems"]) for one in document["snapshots"]] == [
        (result.snapshot.hex(), 2, result.read, []) for result in made
    ]


@pytest.mark.parametrize("harm", ["flipped", "gone"])
def test_what_does_not_come_out_is_named_and_the_rest_is_read(lab: Lab, harm: str) -> None:
    lab.backup({"a": noise(MIB, 1)}, name="first")
    (pack,) = keys(lab, "packs")
    lab.backup({"b": noise(MIB, 2), "a": noise(MIB, 1), "c": b"small"})
    if harm == "gone":
        lab.sink.delete(pack)
    else:
        data = bytearray(lab.sink.get(pack))
        data[len(data) // 2] ^= 1
        lab.sink.put(pack, bytes(data))
    lab.events.clear()
    document = verified(lab)
    assert document["problems"] == 2
    first, second = document["snapshots"]
    assert (first["streams"], second["streams"]) == (0, 2)
    for one in (first, second):
        (problem,) = one["problems"]
        assert problem.startswith(f"a: {pack}: ")
    assert sum(event.kind is EventKind.FINDING for event in lab.events) == 2


@pytest.mark.parametrize("kind", ["parts", "sessions"])
def test_a_snapshot_that_cannot_be_opened_is_a_problem_of_its_own(lab: Lab, kind: str) -> None:
    lab.backup({"a": noise(KIB, 1)}, name="first")
    lost = keys(lab, kind)
    lab.backup({"b": noise(KIB, 2)}, name="second")
    for key in lost:
        lab.sink.delete(key)
    first, second = verified(lab)["snapshots"]
    assert (len(first["problems"]), second["problems"]) == (1, [])


def test_only_the_owner_can_verify(lab: Lab) -> None:
    lab.backup({"a": b"1"})
    entries = list_snapshots(lab.open(add_maintainer(lab.repository, "operations")))
    with pytest.raises(RoleForbids):
        verify(entries, listener=lab.events.append)
