"""Heads are chained: each names its writer's one before and the newest of others, so that nobody hides one unseen."""

from pathlib import Path

import pytest
from core.tests.repository.lab import Lab

from penstock.engine import BackupResult
from penstock.format.head import Seen
from penstock.repository import Access
from penstock.repository.known.cache import SeenHead
from penstock.repository.known.synchronizing import InStep
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.repository.trust.keyring import add_writer

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow


def digest_of(lab: Lab, made: BackupResult) -> bytes:
    return find_snapshot(lab.open(), made.snapshot.hex()).digest


@pytest.fixture
def two(lab: Lab) -> tuple[Access, Access]:
    """Two writers of one domain."""
    return add_writer(lab.repository, "one", domain="main"), add_writer(lab.repository, "other", domain="main")


@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_the_heads_of_a_writer_are_numbered_and_name_the_one_before(lab: Lab, tmp_path: Path, cache: str) -> None:
    before: bytes | None = None
    for number, name in enumerate(["shop", "wiki", "shop", "mail"], start=1):
        folder = lab.cache if cache == "kept" else tmp_path / str(number)
        made = lab.backup({"d": b"%d" % number}, name=name, cache=folder)
        assert (made.head.sequence, made.head.previous) == (number, before)
        assert made.head.seen == {}
        before = digest_of(lab, made)


@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_a_head_names_the_newest_of_other_writers(
    lab: Lab, two: tuple[Access, Access], tmp_path: Path, cache: str
) -> None:
    newest: dict[bytes, Seen] = {}
    counts: dict[bytes, int] = {}
    for number, writer in enumerate([0, 1, 1, 0, 1]):
        access = two[writer]
        folder = tmp_path / f"host {writer}" if cache == "kept" else tmp_path / str(number)
        made = lab.backup({"d": b"%d" % number}, by=lab.open(access), cache=folder)
        counts[access.key] = counts.get(access.key, 0) + 1
        assert made.head.sequence == counts[access.key]
        assert made.head.seen == {key: seen for key, seen in newest.items() if key != access.key}
        newest[access.key] = Seen(made.head.sequence, digest_of(lab, made))
    assert lab.check().findings == ()


def test_each_domain_counts_for_itself(lab: Lab) -> None:
    web = add_writer(lab.repository, "web")
    for _ in range(2):
        lab.backup({"d": b"1"})
    assert lab.backup({"d": b"1"}, by=lab.open(web)).head.sequence == 1
    assert lab.backup({"d": b"1"}).head.seen == {}


def test_a_snapshot_that_was_hidden_is_proven_by_the_one_that_follows(lab: Lab) -> None:
    made = [lab.backup({"d": b"%d" % number}) for number in range(3)]
    hidden = lab.at.snapshot_key(made[1].snapshot)
    lab.sink.delete(hidden)
    findings = {finding.key: finding for finding in lab.check().findings}
    # As a fresh host sees it: what is gone is named as a parent too.
    assert findings.keys() == {lab.at.snapshot_key(made[2].snapshot), hidden}
    assert all(finding.gone for finding in findings.values())
    assert "it follows snapshot 2 of its writer" in findings[lab.at.snapshot_key(made[2].snapshot)].problem


def test_the_newest_of_a_writer_is_proven_by_another_who_saw_it(lab: Lab, two: tuple[Access, Access]) -> None:
    one, other = two
    lab.backup({"d": b"1"}, name="one's", by=lab.open(one))
    newest = lab.backup({"d": b"2"}, name="one's", by=lab.open(one))
    witness = lab.backup({"d": b"3"}, name="the other's", by=lab.open(other))
    assert lab.check().findings == ()
    lab.sink.delete(lab.at.snapshot_key(newest.snapshot))
    (finding,) = lab.check().findings
    assert finding.key == lab.at.snapshot_key(witness.snapshot)
    assert "its writer saw snapshot 2 of one" in finding.problem


def test_a_bucket_that_was_set_back_is_noticed_by_who_has_seen_more(
    lab: Lab, two: tuple[Access, Access], tmp_path: Path
) -> None:
    one, other = two
    lab.backup({"d": b"1"}, by=lab.open(one), cache=tmp_path / "one")
    before = lab.keys()
    hidden = lab.backup({"d": b"2"}, by=lab.open(one), cache=tmp_path / "one")
    digest = digest_of(lab, hidden)
    lab.backup({"d": b"3"}, name="other", by=lab.open(other), cache=tmp_path / "other")
    for key in lab.keys() - before:
        lab.sink.delete(key)
    # A host that never saw them sees nothing; each of these two says what is gone, and goes on from what it knows.
    assert lab.check().findings == ()
    for access, cache in ((other, "other"), (one, "one")):
        made = lab.backup({"d": b"4"}, by=lab.open(access), cache=tmp_path / cache)
        assert any(lab.at.snapshots in warning and "nobody recorded" in warning for warning in made.warnings)
        assert digest in (made.head.previous, *(seen.digest for seen in made.head.seen.values()))
    assert any("which is gone and was not forgotten" in finding.problem for finding in lab.check().findings)


def test_what_a_host_remembers_of_its_own_head_is_what_others_read(lab: Lab, tmp_path: Path) -> None:
    for number in range(3):
        lab.backup({"d": b"%d" % number})
    mine = lab.backup({"d": b"mine"})
    other = lab.backup({"d": b"mine"}, cache=tmp_path / "other")
    assert (other.head.sequence, other.head.parent) == (mine.head.sequence + 1, mine.snapshot)
    again = lab.backup({"d": b"mine"})
    assert (again.head.sequence, again.head.parent) == (mine.head.sequence + 2, other.snapshot)
    assert [entry.head.sequence for entry in list_snapshots(lab.open())] == [1, 2, 3, 4, 5, 6]


# what decides


def head(
    snapshot: int, *, writer: int = 1, sequence: int = 1, time: str = "", name: int = 1, parent: int | None = None
) -> SeenHead:
    identifier = [bytes([number]) * 16 for number in (snapshot, writer, name)]
    before = None if parent is None else bytes([parent]) * 16
    return SeenHead(identifier[0], identifier[1], sequence, bytes([snapshot]) * 32, identifier[2], time, before)


NAME = b"\1" * 16


def test_the_newest_head_of_a_writer_is_the_one_with_the_greatest_number() -> None:
    heads = [
        head(1, writer=1, sequence=2, time="9"),
        head(2, writer=1, sequence=3, time="1"),
        head(3, writer=2, sequence=1),
        head(4, writer=1, sequence=1),
    ]
    newest = InStep(heads=heads).newest()
    assert {writer[0]: found.snapshot[0] for writer, found in newest.items()} == {1: 2, 2: 3}
    assert InStep().newest() == {}


PARENTS: dict[str, tuple[list[SeenHead], int | None]] = {
    "nothing": ([], None),
    "another name": ([head(1, name=2)], None),
    "one": ([head(1)], 1),
    "a chain": ([head(1, time="1"), head(2, time="2", parent=1), head(3, time="3", parent=2)], 3),
    "a chain whose clock was set back": ([head(1, time="3"), head(2, time="1", parent=1), head(3, parent=2)], 3),
    "a chain in one moment": ([head(3), head(1, parent=2), head(2, parent=3)], 1),
    "two runs side by side": ([head(1, time="1"), head(2, time="3", parent=1), head(3, time="2", parent=1)], 2),
    "a chain with a gap": ([head(1, time="1"), head(3, time="3", parent=2)], 3),
    "a name in between": ([head(1), head(2, name=2, parent=1), head(3, parent=1)], 3),
    "a ring, which takes a forger": ([head(1, time="1", parent=2), head(2, time="2", parent=1)], 2),
}


@pytest.mark.parametrize("case", PARENTS)
def test_the_parent_of_a_snapshot_is_the_latest_of_its_backup(case: str) -> None:
    heads, expected = PARENTS[case]
    for order in (heads, heads[::-1]):
        found = InStep(heads=order).parent(NAME)
        assert found == (None if expected is None else bytes([expected]) * 16)


def test_what_is_void_or_was_forgotten_is_nobodys_parent() -> None:
    heads = [head(1, sequence=1, time="1"), head(2, sequence=2, time="2", parent=1)]
    in_step = InStep(heads=heads, gone={b"\2" * 16})
    assert in_step.parent(NAME) == b"\1" * 16
    assert in_step.newest()[b"\1" * 16].snapshot == b"\2" * 16
    assert InStep(heads=heads, gone={b"\1" * 16, b"\2" * 16}).parent(NAME) is None


def test_a_name_is_kept_in_the_cache_as_a_tag_alone(lab: Lab) -> None:
    lab.backup({"d": b"1"}, name="a name that is nobody's business")
    kept = b"".join(path.read_bytes() for path in lab.cache.rglob("*") if path.is_file())
    assert b"nobody's business" not in kept
    tags = {lab.domain.keys.tag(name) for name in ("shop", "shop2", "")}
    assert len(tags) == 3
    assert lab.open(add_writer(lab.repository, "web")).domain.keys.tag("shop") not in tags
