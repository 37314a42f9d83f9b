"""What a stolen key can say that is well-formed and signed: it costs nobody else a backup, a listing or a long wait."""

from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from core.tests.repository.forging import NOW, Hostile, put_head, put_notice
from core.tests.repository.lab import KIB, Lab, noise

from penstock.api import DamagedObject
from penstock.cli.output import views
from penstock.engine import show
from penstock.engine.checking import snapshots
from penstock.format.head import MAX_SEQUENCE
from penstock.format.manifest import Manifest, StreamRecord, encode_manifest
from penstock.format.notice import Action, Deletion, Things
from penstock.format.part import Kind, Row, encode_rows
from penstock.format.recipe import Extent, encode_block
from penstock.repository.layout import id_of
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer
from penstock.testing import FaultySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

CONTENT = {"d": noise(50 * KIB)}
LATER = "2026-01-31T12:00:01.000000Z"


def test_the_last_number_of_a_sequence_ends_nobodys_backups(lab: Lab, tmp_path: Path) -> None:
    writer = add_writer(lab.repository, "prod-db", domain="main")
    lab.backup(CONTENT, by=lab.open(writer))
    put_head(lab.find("latest"), writer, sequence=MAX_SEQUENCE)
    heads = []
    for night, cache in enumerate((lab.cache, lab.cache, tmp_path / "fresh")):
        streams = {"d": noise(50 * KIB, night)}
        heads.append(lab.backup(streams, by=lab.open(writer), cache=cache).head)
        assert lab.restored("latest") == streams
    assert [head.sequence for head in heads] == [MAX_SEQUENCE] * 3
    # Each names the one before it, which is the newest of those with that number.
    digests = {entry.id: entry.digest for entry in list_snapshots(lab.open())}
    assert [head.previous for head in heads[1:]] == [digests[head.snapshot] for head in heads[:-1]]
    assert lab.check().findings == ()


def test_a_head_that_names_thousands_of_objects_costs_a_check_a_thousand_requests(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.backup(CONTENT)
    entry = lab.find("latest")
    index = tuple(number.to_bytes(16, "big") for number in range(20_000))
    for _ in range(3):
        head = put_head(entry, lab.owner, index=index)
        assert lab.sink.stat(lab.at.snapshot_key(head.snapshot)).size < 20 * KIB
    monkeypatch.setattr(snapshots, "_MOST_ASKED", 50)
    counting = FaultySink(lab.sink)
    report = lab.check(by=lab.open(sink=counting), read_data=False)
    assert report.finding_count == 20_000
    assert sum(1 for request, _ in counting.calls if request == "stat") < 100


def test_what_is_said_of_one_head_is_not_said_of_another_with_its_id(lab: Lab) -> None:
    """Deletion records go by id and digest: neither word takes the place of the other."""
    maintainer = add_maintainer(lab.repository, "operations")
    lab.backup(CONTENT)
    entry = lab.find("latest")
    record = id_of(put_notice(lab.domain, Deletion(NOW, Action.FORGET, {entry.id: entry.digest}), maintainer))
    for action in (Action.UNDELETE, Action.FORGET):
        put_notice(lab.domain, Deletion(LATER, action, {entry.id: bytes(32)}, lifts=(record,)), maintainer)
        assert list_snapshots(lab.open()) == []
    put_notice(lab.domain, Deletion(LATER, Action.UNDELETE, {entry.id: entry.digest}, lifts=(record,)), maintainer)
    assert len(list_snapshots(lab.open())) == 1


@pytest.mark.parametrize("kind", ["sessions", "packs", "parts"])
@pytest.mark.parametrize("who", ["owner", "maintainer", "writer"])
def test_a_record_of_a_deletion_excuses_no_loss_to_a_snapshot_that_is_there(lab: Lab, kind: str, who: str) -> None:
    """A maintainer deletes what is needed, and signs that it was deleted on purpose."""
    access = {
        "owner": lab.owner,
        "maintainer": add_maintainer(lab.repository, "operations"),
        "writer": add_writer(lab.repository, "prod-db", domain="main"),
    }
    lab.backup(CONTENT)
    needed = sorted(lab.keys(f"{lab.at.prefix}{kind}/"))
    for key in needed:
        gone = (bytes.fromhex(key[-32:]),)
        things = Things(**{kind: gone})
        put_notice(lab.domain, Deletion(NOW, Action.DELETE, {}, things), access["maintainer"])
        data = lab.sink.get(key)
        lab.sink.delete(key)
        assert key in {finding.key for finding in lab.check(by=lab.open(access[who]), read_data=False).findings}
        lab.sink.put(key, data)
    assert lab.restored() == CONTENT


WELL_FORMED = {"kind": "table", "name": "orders", "rows": None, "size": 5, "exact": False}
LEFT_OUT = {"kind": "view", "name": "v", "reason": "gone", "database": "shop"}
REPORTS: list[dict[str, Any]] = [
    {},
    {"engine": 5, "server_version": None, "client_version": []},
    {"inventory": "orders", "warnings": {"a": 1}},
    {"inventory": [5, {}, {**WELL_FORMED, "rows": "many"}, {**WELL_FORMED, "exact": 1}, WELL_FORMED], "warnings": [5]},
    {"streams": 5, "size_estimate": "large"},
    {"left_out": "v"},
    {"left_out": [5, {}, {**LEFT_OUT, "name": 5}, {**LEFT_OUT, "statement": "DROP"}]},
]


@pytest.mark.parametrize("report", REPORTS)
def test_what_a_source_is_said_to_have_reported_is_shown_as_far_as_it_is_a_report(
    lab: Lab, report: dict[str, Any]
) -> None:
    hostile = Hostile(lab.domain, add_writer(lab.repository, "mallory", domain="main"))
    record = StreamRecord("d", "raw", 0, False, {}, 0, bytes(32), ((),))
    manifest = hostile.part((Kind.MANIFEST, encode_manifest(Manifest("one state", report, (record,)))))
    key = hostile.commit(0, [manifest])
    document = show(lab.find(key[-32:])).to_json()
    shown = document["content"]["inspection"]
    assert shown["inventory"] == [one for one in report.get("inventory", ()) if one is WELL_FORMED]
    assert shown.keys() == {"client_version", "engine", "inventory", "left_out", "server_version", "warnings"}
    assert shown["left_out"] == ([LEFT_OUT] if isinstance(report.get("left_out"), list) else [])
    assert len(list(views.snapshot(document))) > 3


@pytest.mark.parametrize("says", [1, 2])
def test_a_check_sees_a_row_with_another_number_of_segments_than_is_pinned(lab: Lab, says: int) -> None:
    hostile = Hostile(lab.domain, add_writer(lab.repository, "mallory", domain="main"))
    data = noise(100_000, 1)
    pack, pin = hostile.segment(data)
    record = StreamRecord("d", "raw", 0, False, {}, len(data), blake3(data).digest(), ((1,),))
    parts = [
        hostile.part((Kind.TABLE, encode_rows([Row(0, pack, pin, says, frozenset({0}))]))),
        hostile.blocks(encode_block(0, [Extent(0, 0, len(data))])),
        hostile.part((Kind.MANIFEST, encode_manifest(Manifest("one state", {}, (record,))))),
    ]
    snapshot = hostile.commit(len(data), parts)[-32:]
    found = {finding.key for finding in lab.check(read_data=False).findings}
    if says == 1:
        assert found == set()
        assert lab.restored(snapshot)["d"] == data
    else:
        assert found == {lab.at.pack_key(pack)}
        with pytest.raises(DamagedObject, match="not the pack that the snapshot pins"):
            lab.restored(snapshot)
