"""What changed between two snapshots: never less than what did, and little more."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from unittest.mock import patch

import pytest
from core.tests.engine.test_prune import let_go, night, pruned, used
from core.tests.repository.forging import Hostile
from core.tests.repository.lab import KIB, MIB, BytesSource, Lab, noise
from core.tests.repository.virtual import VirtualStore

from penstock.api import EventKind, Inspection, InventoryItem, RoleForbids, SnapshotNotFound
from penstock.api.errors import DamagedObject, MissingObject
from penstock.api.stopping import NEVER
from penstock.engine import Diff, diff, find_previous, show
from penstock.engine.diff import StreamChange, compare, opened
from penstock.format.head import Base
from penstock.format.manifest import StreamRecord
from penstock.format.part import Key, Kind, encode_rows, encode_sessions
from penstock.format.recipe import Extent, encode_block
from penstock.repository.pool import Workers
from penstock.repository.read import differences
from penstock.repository.read.content import Content, each_row, parts_of, sessions_of
from penstock.repository.read.differences import Difference, TooMany
from penstock.repository.read.recipes import Layers
from penstock.repository.trust.keyring import add_maintainer, add_writer

ROW = 200
#: What a change may make be stored anew beside itself: a chunk before it and one behind it, of which few are so long.
BESIDE = 2 * 32 * KIB
COUNTS = "A stream that is not the same counts as a whole."


def compared(lab: Lab, before: str, after: str) -> Diff:
    return diff(lab.find(before), lab.find(after), listener=lab.events.append)


def compared_in_passing(lab: Lab, before: str, after: str, most: int) -> Diff:
    with (
        Workers(1, "penstock-test", NEVER) as workers,
        opened(lab.find(before), workers) as old,
        opened(lab.find(after), workers) as new,
    ):
        return compare(old, new, workers, most=most)


def of_d(lab: Lab, before: str, after: str) -> Difference:
    """What became of the stream `d`, which is not the same."""
    return next(one.difference for one in compared(lab, before, after).streams if one.name == "d")


def of_d_the_long_way(lab: Lab, before: str, after: str) -> Difference:
    """The same, where nobody sees that the recipes of one go on from the other's."""
    with patch.object(differences, "_layer_of", lambda lower, upper: None):
        return of_d(lab, before, after)


def put(lab: Lab, data: bytes, **more: object) -> str:
    return lab.backup({"d": data}, **more).snapshot.hex()  # type: ignore[arg-type]


class Table:
    """Rows of noise, no two of them alike, that a test edits."""

    def __init__(self, rows: int, seed: int) -> None:
        self._chance = random.Random(seed)
        self.rows = [self._chance.randbytes(ROW) for _ in range(rows)]

    def edit(self) -> int:
        """Some changes, each of a run of rows; how many."""
        count = self._chance.randint(1, 4)
        for _ in range(count):
            at, length = self._chance.randrange(len(self.rows)), self._chance.randint(1, 8)
            fresh = [self._chance.randbytes(ROW) for _ in range(self._chance.randint(0, 8))]
            self.rows[at : at + length] = fresh
        return count

    @property
    def data(self) -> bytes:
        return b"".join(self.rows)


def forgetting(lab: Lab, number: int) -> None:
    """Now and then the host remembers nothing, and finds chunks alone."""
    if number % 3 == 2:
        lab.forget_past()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before_a_night", "beside"),
    [(lambda lab, number: None, 2 * KIB), (forgetting, 8 * KIB)],
    ids=["remembering", "forgetting"],
)
def test_a_chain_of_nights_tells_what_was_edited(
    lab: Lab, before_a_night: Callable[[Lab, int], None], beside: int
) -> None:
    """`beside` is what an edit may add: rows, or chunks, that it touched at its ends."""
    table = Table(4000, 5)
    nights = [(put(lab, table.data), list(table.rows), 0)]
    for number in range(24):
        before_a_night(lab, number)
        edits = nights[-1][2] + table.edit()
        nights.append((put(lab, table.data), list(table.rows), edits))
    chance = random.Random(6)
    pairs = [(0, 24), (24, 0), *((number, number + 1) for number in range(0, 24, 5))]
    pairs += [tuple(chance.sample(range(25), 2)) for _ in range(10)]  # type: ignore[misc]
    for one, other in pairs:
        (before, old, so_far), (after, new, then) = nights[one], nights[other]
        found = of_d(lab, before, after)
        truth = (Counter(new) - Counter(old)).total() * ROW
        assert truth <= found.new <= truth + abs(then - so_far) * beside
        assert found.new - found.gone == (len(new) - len(old)) * ROW
        assert found == of_d_the_long_way(lab, before, after)


@pytest.mark.slow
def test_rows_that_are_repeated_and_go_from_stream_to_stream_are_counted(lab: Lab) -> None:
    chance = random.Random(11)
    pool = [chance.randbytes(ROW) for _ in range(300)]
    streams = {name: [chance.choice(pool) for _ in range(600)] for name in "abc"}
    nights: list[tuple[str, dict[str, list[bytes]]]] = []
    for _ in range(12):
        data = {name: b"".join(rows) for name, rows in streams.items()}
        nights.append((lab.backup(data).snapshot.hex(), {name: list(rows) for name, rows in streams.items()}))
        for _ in range(3):
            here, there = (chance.choice("abc") for _ in range(2))
            at, length = chance.randrange(500), chance.randint(1, 60)
            moved = streams[here][at : at + length]
            if chance.random() < 0.5:
                del streams[here][at : at + length]
            streams[there][at:at] = moved
        pool.append(chance.randbytes(ROW))
        streams["a"][5] = pool[-1]
    for _ in range(12):
        (before, old), (after, new) = chance.choice(nights), chance.choice(nights)
        found = compared(lab, before, after)
        with patch.object(differences, "_layer_of", lambda lower, upper: None):
            assert compared(lab, before, after).streams == found.streams
        told = {one.name: one.difference for one in found.streams}
        for name in "abc":
            change = told.get(name, Difference(0, 0))
            assert change.new >= (Counter(new[name]) - Counter(old[name])).total() * ROW
            assert change.new - change.gone == (len(new[name]) - len(old[name])) * ROW


@pytest.mark.slow
def test_what_is_the_same_costs_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"a": noise(300 * KIB, 1), "b": noise(300 * KIB, 2), "empty": b""}
    before = lab.backup(data).snapshot.hex()
    after = lab.backup(data | {"b": data["b"] + b"!"}).snapshot.hex()
    walked: list[str] = []
    recipe = Content.recipe

    def noted(self: Content, record: StreamRecord, floor: int | None = None) -> Layers:
        walked.append(record.name)
        return recipe(self, record, floor)

    monkeypatch.setattr(Content, "recipe", noted)
    found = compared(lab, before, after)
    assert set(walked) == {"b"}
    assert [one.name for one in found.streams] == ["b"]
    assert found.streams_alike == 2
    assert 1 <= found.streams[0].difference.new < BESIDE
    again = compared(lab, after, after)
    assert (again.streams, again.streams_alike, again.notes) == ((), 3, ())


def test_nothing_but_parts_is_read(lab: Lab) -> None:
    before = put(lab, noise(MIB, 1))
    after = put(lab, noise(MIB, 1)[:-1000])
    for key in lab.keys(lab.at.packs) | lab.keys(lab.at.index):
        lab.sink.delete(key)
    assert of_d(lab, before, after).gone >= 1000


def test_rows_in_another_order_are_the_same_rows(lab: Lab) -> None:
    one, other = noise(300 * KIB, 1), noise(300 * KIB, 2)
    found = of_d(lab, put(lab, one + other), put(lab, other + one))
    assert found.new == found.gone < 2 * BESIDE


def test_what_is_there_once_more_is_new(lab: Lab) -> None:
    data = noise(300 * KIB)
    once, twice = put(lab, data), put(lab, data + data)
    found = of_d(lab, once, twice)
    assert len(data) <= found.new < len(data) + BESIDE
    assert of_d(lab, twice, once) == (found.gone, found.new)


@pytest.mark.parametrize("way", ["on", "back"])
def test_streams_that_were_or_became_empty_count_as_a_whole(lab: Lab, way: str) -> None:
    """Also where what is in them now was in another stream before."""
    rows = noise(100 * KIB)
    first = lab.backup({"d": b"", "other": rows, "left": noise(KIB, 3)}).snapshot.hex()
    second = lab.backup({"d": rows, "other": rows + b"!", "left": b""}).snapshot.hex()
    found = compared(lab, first, second) if way == "on" else compared(lab, second, first)
    by_name = {one.name: one.difference[:: 1 if way == "on" else -1] for one in found.streams}
    assert by_name["d"] == (len(rows), 0)
    assert by_name["left"] == (0, KIB)
    assert by_name["other"][0] - by_name["other"][1] == 1


def test_it_tells_how_far_it_is(lab: Lab) -> None:
    data = {"a": noise(100 * KIB, 1), "b": noise(300 * KIB, 2)}
    first, second = (lab.backup(data | {"b": data["b"] + more}).snapshot.hex() for more in (b"", b"!"))
    lab.events.clear()
    compared(lab, first, second)
    told = [event for event in lab.events if event.operation == "diff"]
    progress = [(event.stream, event.done) for event in told if event.kind is EventKind.PROGRESS]
    assert progress[0] == ("a", 100 * KIB)
    assert set(progress[1:]) == {("b", 400 * KIB + 1)}
    assert {event.total for event in told if event.kind is EventKind.PROGRESS} == {400 * KIB + 1}
    assert told[-1].kind is EventKind.COMPLETED
    assert told[-1].figures["new"] > 0


def test_streams_that_appeared_and_are_gone_count_as_a_whole(lab: Lab) -> None:
    first = lab.backup({"a": b"a" * 10, "b": b"b" * 20}).snapshot.hex()
    second = lab.backup({"a": b"a" * 10, "c": b"c" * 30}).snapshot.hex()
    found = compared(lab, first, second)
    assert found.streams == (
        StreamChange("c", None, 30, Difference(30, 0)),
        StreamChange("b", 20, None, Difference(0, 20)),
    )
    assert [one.change for one in found.streams] == ["appeared", "gone"]
    assert found.summary() == {
        "snapshot": first,
        "items": {},
        "streams": {"changed": 0, "appeared": 1, "gone": 1},
        "new": 30,
        "gone": 20,
    }


@pytest.mark.slow
def test_what_compaction_moved_has_not_changed(lab: Lab, store: VirtualStore) -> None:
    parts = [noise(3 * MIB, seed) for seed in range(5)]
    first = night(lab, store, b"".join(parts))
    kept = night(lab, store, b"".join(parts[:2]))
    old = used(lab, kept)
    let_go(lab, first)
    found = pruned(lab)
    assert found.doom.compacted == 1
    for _ in range(3):
        store.passes(days=1)
        pruned(lab)
    # What the first night stored is in no other place than the copies now.
    assert {lab.at.pack_key(pack) for pack in old} - lab.keys(lab.at.packs)
    content = b"".join(parts[:2])
    after = night(lab, store, content[:MIB] + noise(1000, 98) + content[MIB:])
    assert 1000 <= of_d(lab, kept, after).new < 1000 + BESIDE
    # A fresh host names the segments where it found them, in the copies.
    fresh = lab.backup({"d": content + noise(1000, 97)}, cache=lab.cache / "fresh").snapshot.hex()
    assert 1000 <= of_d(lab, kept, fresh).new < 1000 + BESIDE


@pytest.mark.slow
def test_what_was_stored_anew_counts_as_a_whole_and_that_is_said(lab: Lab, store: VirtualStore) -> None:
    data = noise(2 * MIB)
    before = lab.backup({"d": data, "same": data, "small": b"1"}).snapshot.hex()
    store.passes(days=10)
    streams = {"d": data + b"!", "same": data, "small": b"2"}
    after = lab.backup(streams, renew_every=timedelta(days=10)).snapshot.hex()
    assert not used(lab, before) & used(lab, after)
    found = compared(lab, before, after)
    assert [(one.name, one.difference) for one in found.streams] == [
        ("d", (len(data) + 1, len(data))),
        ("small", (1, 1)),
    ]
    assert found.streams_alike == 1
    assert found.notes == ("Stored anew or changed all over, so that nobody can tell how much of it changed: d.",)


class Inventoried(BytesSource):
    """A source that reports these tables."""

    def __init__(self, streams: dict[str, bytes], *items: InventoryItem, version: str = "1") -> None:
        super().__init__(streams)
        self._items = items
        self._version = version

    def inspect(self) -> Inspection:
        return Inspection("bytes", self._version, "1", size_estimate=None, inventory=self._items)


def test_tables_are_told_by_their_figures(lab: Lab) -> None:
    before = lab.backup(
        Inventoried(
            {"d": b"1"},
            InventoryItem("table", "orders", 10, 8192, exact=True),
            InventoryItem("table", "people", 7, 4096, exact=True),
            InventoryItem("view", "orders"),
            InventoryItem("table", "old", None, 100),
        )
    ).snapshot.hex()
    after = lab.backup(
        Inventoried(
            {"d": b"1"},
            InventoryItem("table", "new", 1, 10, exact=True),
            InventoryItem("table", "orders", 12, 8192),
            InventoryItem("table", "people", 7, 4096),
            InventoryItem("view", "orders", size=5),
            version="2",
        )
    ).snapshot.hex()
    found = compared(lab, before, after)
    assert [one.to_json() for one in found.items] == [
        {
            "kind": "table",
            "name": "new",
            "change": "appeared",
            "before": None,
            "after": {"rows": 1, "exact": True, "size": 10},
        },
        {
            "kind": "table",
            "name": "old",
            "change": "gone",
            "before": {"rows": None, "exact": False, "size": 100},
            "after": None,
        },
        {
            "kind": "table",
            "name": "orders",
            "change": "changed",
            "before": {"rows": 10, "exact": True, "size": 8192},
            "after": {"rows": 12, "exact": False, "size": 8192},
        },
        {
            "kind": "view",
            "name": "orders",
            "change": "changed",
            "before": {"rows": None, "exact": False, "size": None},
            "after": {"rows": None, "exact": False, "size": 5},
        },
    ]
    assert found.items_alike == 1
    assert found.summary()["items"] == {
        "table": {"changed": 1, "appeared": 1, "gone": 1},
        "view": {"changed": 1, "appeared": 0, "gone": 0},
    }
    assert found.notes == ("The server was 1, and became 2.",)


@pytest.mark.slow
def test_backups_and_domains_are_compared_and_that_is_said(lab: Lab) -> None:
    writer = lab.open(add_writer(lab.open(), "host"))
    here = put(lab, noise(10 * KIB))
    there = lab.backup(
        {"d": noise(10 * KIB), "e": b"more"}, by=writer, name="blog", cache=lab.cache / "other"
    ).snapshot.hex()
    found = compared(lab, there, here)
    assert found.notes == (
        "The second snapshot is older than the first: what is told as new is what went since.",
        "They are of two backups: blog and shop.",
        f"They are of two domains, which share nothing: {writer.domains[0].label} and main. {COUNTS}",
    )
    assert (found.streams_alike, [one.name for one in found.streams]) == (1, ["e"])
    forth = compared(lab, here, there)
    assert len(forth.notes) == 2
    changed = put(lab, noise(10 * KIB) + b"!")
    assert of_d(lab, there, changed) == (10 * KIB + 1, 10 * KIB)


def test_it_takes_the_owners_key(lab: Lab) -> None:
    made = put(lab, b"1")
    for key in (add_maintainer(lab.open(), "ops"), add_writer(lab.open(), "host", domain="main")):
        entry = lab.find(made, by=lab.open(key))
        with pytest.raises(RoleForbids, match="comparing snapshots needs the owner's key"):
            diff(entry, entry, listener=lab.events.append)


@pytest.mark.slow
def test_the_one_before_is_of_the_same_backup_and_domain(lab: Lab) -> None:
    writer = lab.open(add_writer(lab.open(), "host"))
    first = put(lab, b"1")
    put(lab, b"1", name="blog")
    lab.backup({"d": b"1"}, by=writer, cache=lab.cache / "other")
    second, third = put(lab, b"2"), put(lab, b"3")

    def previous(snapshot: str) -> str:
        return find_previous(lab.open(), lab.find(snapshot), warn=lab.warnings.append).id.hex()

    assert previous(third) == second
    assert previous(second) == first
    let_go(lab, second)
    assert previous(third) == first
    with pytest.raises(SnapshotNotFound, match="no snapshot of shop is older than"):
        previous(first)
    lab.flip(lab.at.snapshot_key(bytes.fromhex(first)), 100)
    with pytest.raises(SnapshotNotFound, match="no snapshot of shop is older than"):
        previous(third)
    assert len(lab.warnings) == 1
    assert lab.warnings[0].startswith("passed over: ")


def recipe_parts(lab: Lab, snapshot: str) -> list[str]:
    """The parts of a snapshot that hold its recipes, and at last its manifest."""
    return [lab.at.part_key(ref.part) for ref in parts_of(lab.find(snapshot)) if ref.key is Key.DATA]


@pytest.mark.parametrize("which", [0, -1], ids=["recipe", "manifest"])
def test_parts_that_are_damaged_or_gone_are_named(lab: Lab, which: int) -> None:
    first, second = put(lab, noise(10 * KIB)), put(lab, noise(10 * KIB) + b"!")
    part = recipe_parts(lab, first)[which]
    lab.flip(part, 100)
    with pytest.raises(DamagedObject, match="not the bytes that the snapshot pins") as caught:
        compared(lab, first, second)
    assert caught.value.key == part
    assert lab.events[-1].kind is EventKind.FAILED
    lab.sink.delete(part)
    with pytest.raises(MissingObject) as missing:
        compared(lab, first, second)
    assert missing.value.key == part


@pytest.mark.parametrize(
    ("block", "size", "why"),
    [
        (encode_block(0, [Extent(0, 0, 5)]), 6, "a recipe ends before its stream"),
        (encode_block(0, [Extent(77, 0, 5)]), 5, "asks for a segment that the snapshot does not list"),
    ],
)
def test_a_recipe_that_does_not_make_its_stream_is_an_error(lab: Lab, block: bytes, size: int, why: str) -> None:
    honest = put(lab, b"1")
    hostile = Hostile(lab.domain, lab.owner)
    parts = [hostile.blocks(block), hostile.manifest(size, [[0]])]
    key = hostile.commit(size, parts)
    with pytest.raises(DamagedObject, match="the recipe of d: ") as caught:
        compared(lab, honest, key.rpartition("/")[2])
    assert why in str(caught.value)
    assert caught.value.key == key


def test_show_sums_up_what_changed_since_the_one_before(lab: Lab) -> None:
    data = noise(300 * KIB)
    first = put(lab, data)
    second = put(lab, data + noise(1000, 7))
    found = show(lab.find(second))
    assert found.since is not None
    assert found.since == compared(lab, first, second).summary()
    assert 1000 <= found.since["new"] < BESIDE
    document = found.to_json()
    assert (document["since"], document["since_unknown"]) == (found.since, None)
    alone = show(lab.find(first))
    assert (alone.since, alone.since_unknown) == (None, None)
    let_go(lab, first)
    orphan = show(lab.find(second))
    assert orphan.since is None
    assert "was forgotten" in str(orphan.since_unknown)
    lab.sink.delete(lab.at.snapshot_key(bytes.fromhex(first)))
    assert show(lab.find(second)).since_unknown is not None
    assert orphan.manifest == found.manifest is not None


def test_show_looks_at_no_more_than_can_be_seen_in_passing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise(300 * KIB)
    put(lab, data)
    second = put(lab, data[:KIB] + b"!" + data[KIB:])
    monkeypatch.setitem(show.__globals__, "_IN_PASSING", 10)
    assert show(lab.find(second)).since is not None
    monkeypatch.setitem(show.__globals__, "_IN_PASSING", 1)
    found = show(lab.find(second))
    assert (found.since, found.since_unknown) == (
        None,
        "too much of it changed to be told in passing: penstock diff does",
    )
    assert found.manifest is not None


@pytest.mark.slow
def test_what_a_night_left_as_it_was_is_not_looked_at(lab: Lab) -> None:
    """Neither in its own snapshot nor in the one before, however many pieces that is made of."""
    table = Table(4000, 9)
    nights = [put(lab, table.data)]
    for _ in range(12):
        for _ in range(20):
            table.edit()
        nights.append(put(lab, table.data))
    table.edit()
    nights.append(put(lab, table.data))
    before, after = nights[-2:]
    assert compared_in_passing(lab, before, after, 100).streams[0].difference.new > 0
    assert compared_in_passing(lab, after, before, 100).streams[0].difference.gone > 0
    with patch.object(differences, "_layer_of", lambda lower, upper: None), pytest.raises(TooMany):
        compared_in_passing(lab, before, after, 1000)


class Renumbered:
    """A snapshot that says that all of it is its base's, where another segment has the number of the base's own."""

    size = 10 * KIB

    def __init__(self, lab: Lab, stream: int = 0) -> None:
        base = lab.find(put(lab, noise(self.size, 1)))
        (row,) = each_row(base)
        manifest = show(base).manifest
        assert manifest is not None
        hostile = Hostile(lab.domain, lab.owner)
        pack, pin = hostile.segment(noise(self.size, 2))
        rows = encode_rows([row._replace(pack=pack, pin=pin)])
        parts = [
            hostile.part((Kind.TABLE, rows), (Kind.SESSIONS, encode_sessions(sessions_of(base)))),
            hostile.blocks(encode_block(0, [Extent(None, 0, self.size)], stream)),
            hostile.manifest(self.size, [[1], *manifest.streams[0].recipe]),
        ]
        self.key = hostile.commit(self.size, parts, bases=[Base(base.id, base.session, base.head.parts)])
        self.base = base.id.hex()
        self.id = self.key.rpartition("/")[2]


def test_nobody_hides_what_a_snapshot_is_made_of_behind_a_base(lab: Lab) -> None:
    made = Renumbered(lab)
    assert of_d(lab, made.base, made.id) == (made.size, made.size)


def test_a_base_has_the_same_parts_as_the_snapshot_that_it_is(lab: Lab) -> None:
    nights = [put(lab, noise(10 * KIB) + bytes([number])) for number in range(3)]
    with ExitStack() as stack:
        workers = stack.enter_context(Workers(1, "penstock-test", NEVER))
        first, second, third = (stack.enter_context(opened(lab.find(one), workers)) for one in nights)
        layer_of = differences._layer_of
        assert (layer_of(second, third), layer_of(first, third), layer_of(first, second)) == (1, 2, 1)
        assert layer_of(third, second) is None
        assert layer_of(second, second) is None
        session, parts = third.layers[2]
        third.layers[2] = (session, [parts[0], third.layers[0][1][0]])
        assert (layer_of(second, third), layer_of(first, third)) == (None, None)
        third.layers[2] = (third.layers[0][0], parts)
        assert (layer_of(second, third), layer_of(first, third)) == (None, None)


def test_a_stream_that_the_base_does_not_have_is_an_error(lab: Lab) -> None:
    made = Renumbered(lab, stream=7)
    with patch.object(differences, "_agree", lambda one, other: True), pytest.raises(DamagedObject) as caught:
        compared(lab, made.base, made.id)
    assert "the recipe of d: it asks for a stream that its base does not have" in str(caught.value)
    assert caught.value.key == made.key


def test_show_needs_nothing_of_the_one_before(lab: Lab) -> None:
    first, second = put(lab, noise(10 * KIB)), put(lab, noise(10 * KIB) + b"!")
    lab.sink.delete(recipe_parts(lab, first)[0])
    found = show(lab.find(second))
    assert found.since is None
    assert "gone" in str(found.since_unknown)
    assert found.manifest is not None
    maintainer = lab.open(add_maintainer(lab.open(), "ops"))
    assert show(lab.find(second, by=maintainer)).to_json()["since"] is None
