"""Finding and ordering snapshots by their heads, whatever the clocks of hosts say and whoever forged a head."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from core.tests.repository.forging import Hand, put_head
from core.tests.repository.lab import BytesSource, Lab

from penstock.api import DamagedObject, ObjectInfo, SnapshotNotFound
from penstock.format.encoding import new_id
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.testing import MemorySink

TIMES = "%Y-%m-%dT%H:%M:%S.%fZ"


def set_clock(monkeypatch: pytest.MonkeyPatch, time: str) -> None:
    monkeypatch.setattr("penstock.repository.write.session.now", lambda: time)


def from_now(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).strftime(TIMES)


class TimelessSink(MemorySink):
    """A store that does not say when it wrote an object."""

    def list(self, prefix: str = ""):  # type: ignore[no-untyped-def]
        return (ObjectInfo(info.key, info.size) for info in super().list(prefix))

    def stat(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, super().stat(key).size)


@pytest.fixture(params=["the store's time is known", "the store tells no time"])
def clocked(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    return Lab(tmp_path / "cache", MemorySink() if "known" in request.param else TimelessSink())


@pytest.mark.slow
def test_latest_is_correct_however_quickly_backups_follow(clocked: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, "2020-01-01T00:00:00.000000Z")
    made = [clocked.backup({"d": b"night %d" % number}).snapshot for number in range(12)]
    assert [entry.id for entry in list_snapshots(clocked.open())] == made
    assert clocked.restored() == {"d": b"night 11"}


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_a_clock_set_back_does_not_make_an_old_snapshot_the_latest(
    clocked: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: str
) -> None:
    made: list[bytes] = []
    for year in (2010, 2021, 2011, 2012, 2013, 2011, 2010):
        set_clock(monkeypatch, f"{year}-01-01T00:00:00.000000Z")
        folder = clocked.cache if cache == "kept" else tmp_path / str(len(made))
        made.append(clocked.backup({"d": b"number %d" % len(made)}, cache=folder).snapshot)
    assert [entry.id for entry in list_snapshots(clocked.open())] == made
    assert clocked.restored() == {"d": b"number 6"}


@pytest.mark.slow
def test_a_snapshot_follows_the_one_before_it_of_its_own_backup(clocked: Lab, tmp_path: Path) -> None:
    parents: dict[str, bytes] = {}
    for number, name in enumerate(["shop", "wiki", "shop", "shop", "wiki"]):
        head = clocked.backup({"d": b"%d" % number}, name=name, cache=tmp_path / "ab"[number % 2]).head
        assert head.parent == parents.get(name)
        parents[name] = head.snapshot


@pytest.mark.slow
def test_snapshots_of_different_backups_are_listed_by_time(clocked: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for day, name in enumerate(["shop", "wiki", "shop", "mail", "wiki"], start=1):
        set_clock(monkeypatch, f"2020-01-{day:02d}T00:00:00.000000Z")
        made.append(clocked.backup({"d": name.encode()}, name=name).snapshot)
    assert [entry.id for entry in list_snapshots(clocked.open())] == made


def test_a_forged_cycle_of_parents_does_not_hang_a_listing(lab: Lab) -> None:
    lab.backup({"d": b""})
    (entry,) = list_snapshots(lab.open())
    names = [new_id() for _ in range(3)]
    for name, parent in zip(names, [*names[1:], names[0]], strict=True):
        put_head(entry, Hand.of(lab.owner), snapshot=name, parent=parent)
    assert {found.id for found in list_snapshots(lab.open())} == {entry.id, *names}


@pytest.mark.parametrize(
    "finished", [from_now(days=2), "9999-12-31T23:59:59.999999Z"], ids=["in two days", "in the last year"]
)
def test_a_snapshot_from_the_future_is_a_finding_and_never_the_latest(lab: Lab, finished: str) -> None:
    lab.backup({"d": b"today's"})
    (entry,) = list_snapshots(lab.open())
    head = put_head(entry, Hand.of(lab.owner), started=finished, finished=finished)
    key = lab.at.snapshot_key(head.snapshot)
    assert lab.restored() == {"d": b"today's"}
    assert lab.find("latest:shop").id == entry.id
    (warning,) = lab.warnings
    assert key in warning
    assert "in the future" in warning
    (finding,) = lab.check().findings
    assert finding.key == key
    assert finished in finding.problem
    # It is there, for whoever asks for it by its id.
    found = lab.find(head.snapshot.hex())
    assert found.from_the_future
    assert found.time < from_now(minutes=1), "the store's time is what it is sorted by"
    assert [one.id for one in list_snapshots(lab.open())] == [entry.id, head.snapshot]


def test_a_clock_that_is_a_few_hours_fast_is_nobodys_business(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, from_now(hours=23))
    fast = lab.backup({"d": b"fast"})
    monkeypatch.undo()
    right = lab.backup({"d": b"right"})
    assert [entry.id for entry in list_snapshots(lab.open())] == [fast.snapshot, right.snapshot]
    assert lab.restored() == {"d": b"right"}
    assert lab.check().findings == ()


@pytest.mark.parametrize("time", ["", "yesterday", "2026-01-31", "2026-01-31T12:00:00.000000", "9" * 60])
def test_a_time_that_is_none_is_as_one_in_the_future(lab: Lab, time: str) -> None:
    lab.backup({"d": b"1"})
    (entry,) = list_snapshots(lab.open())
    head = put_head(entry, Hand.of(lab.owner), started=time, finished=time)
    assert lab.find("latest").id == entry.id
    assert [lab.at.snapshot_key(head.snapshot) in warning for warning in lab.warnings] == [True]
    assert [finding.key for finding in lab.check().findings] == [lab.at.snapshot_key(head.snapshot)]
    assert len(list_snapshots(lab.open())) == 2


def test_if_all_snapshots_are_from_the_future_there_is_no_latest(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, from_now(days=300))
    lab.backup({"d": b"1"})
    with pytest.raises(SnapshotNotFound, match="no undamaged snapshot"):
        lab.restore()


def test_a_snapshot_is_found_by_a_prefix_of_its_id(lab: Lab) -> None:
    made = [lab.backup({"d": b"%d" % number}).snapshot for number in range(3)]
    repository = lab.open()
    for snapshot in made:
        assert find_snapshot(repository, snapshot.hex()).id == snapshot
        assert find_snapshot(repository, snapshot.hex()[:12]).id == snapshot


@pytest.mark.parametrize(
    "text",
    [
        "",
        "xyz",
        "LATEST",
        "0" * 32,
        "0" * 33,
        "../penstock.json",
        "latest:wiki",
        "latest:main/wiki",
        "latest:shop/shop",
    ],
)
def test_a_name_that_matches_no_snapshot_is_refused(lab: Lab, text: str) -> None:
    lab.backup({"d": b""})
    with pytest.raises(SnapshotNotFound):
        find_snapshot(lab.open(), text)


def test_a_backup_may_be_named_with_its_domain(lab: Lab) -> None:
    made = lab.backup({"d": b""}).snapshot
    for text in ("latest", "latest:", "latest:shop", "latest:main/shop"):
        assert find_snapshot(lab.open(), text).id == made


@pytest.mark.slow
def test_an_ambiguous_id_prefix_is_refused(lab: Lab) -> None:
    ids = {lab.backup({"d": b"%d" % number}).snapshot.hex() for number in range(17)}
    digit = next(digit for digit in "0123456789abcdef" if sum(name.startswith(digit) for name in ids) > 1)
    with pytest.raises(SnapshotNotFound, match=f"snapshots' ids begin with {digit}"):
        find_snapshot(lab.open(), digit)


def test_a_head_under_another_name_is_refused(lab: Lab) -> None:
    lab.backup({"d": b"1"})
    (entry,) = list_snapshots(lab.open())
    copy = lab.at.snapshot_key(new_id())
    lab.sink.put(copy, lab.sink.get(lab.at.snapshot_key(entry.id)))
    with pytest.raises(DamagedObject, match=copy):
        list_snapshots(lab.open())
    assert [finding.key for finding in lab.check().findings] == [copy]
    target = BytesSource({})
    with pytest.raises(DamagedObject, match=copy):
        lab.restore(copy[-32:], into=target)
    assert target.touched == []


def test_a_snapshot_says_who_signed_it(lab: Lab) -> None:
    lab.backup({"d": b"1"})
    (entry,) = list_snapshots(lab.open())
    assert (entry.writer, entry.signer) == (lab.owner.key, "owner")
    shown = entry.to_json()
    assert (shown["signer"], shown["domain"], shown["backup"]) == ("owner", "main", "shop")
    assert shown["stored"] == sum(info.size for info in lab.sink.list(lab.at.prefix))
