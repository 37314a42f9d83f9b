"""What a writer deduplicates against, and what it avoids."""

from dataclasses import replace
from pathlib import Path

import pytest
from core.tests.repository.forging import Hand, put_index, put_notice
from core.tests.repository.lab import KIB, MIB, BytesSource, BytesStream, Lab, noise

from penstock.api import DamagedObject, DumpFailed, MissingObject
from penstock.format.index import PackSummary, decode_index
from penstock.format.notice import Things, Tombstone
from penstock.repository.layout import id_of
from penstock.repository.read.content import each_row
from penstock.repository.snapshots import find_snapshot
from penstock.repository.trust.keyring import add_maintainer, add_writer, revoke
from penstock.testing import FaultySink, MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow


def packs_used(lab: Lab) -> set[str]:
    """The packs that the latest snapshot needs."""
    return {lab.at.pack_key(row.pack) for row in each_row(find_snapshot(lab.open(), "latest")) if row.used}


CACHES = ["kept", "without the past", "lost"]


def cache_of(lab: Lab, tmp_path: Path, fate: str) -> Path:
    """The cache that the next backup has: chunks are found in the past stream, or by the sparse index."""
    if fate == "without the past":
        lab.forget_past()
    return tmp_path / "new" if fate == "lost" else lab.cache


class BreaksOff(BytesStream):
    def close(self) -> None:
        super().close()
        raise DumpFailed("the child exited with 1")


def test_a_fresh_host_finds_everything_others_stored(lab: Lab, tmp_path: Path) -> None:
    content = noise(6 * MIB)
    lab.backup({"d": content})
    for host in "ab":
        assert lab.backup({"d": content}, cache=tmp_path / host).stored < 32 * KIB


def test_every_pack_of_a_run_is_listed_by_its_index_objects(lab: Lab) -> None:
    result = lab.backup({"d": noise(40 * MIB)})
    domain = lab.domain
    listed = {}
    for index in result.head.index:
        sealed = decode_index(index, lab.sink.get(lab.at.index_key(index)))
        sealed.verify(lab.owner.signing.public, domain.scope)
        for one in sealed.open_summaries(domain.layout_sealer, domain.id_sealer, domain.scope):
            listed[lab.at.pack_key(one.ends.pack)] = one.ends.size
    assert listed == {info.key: info.size for info in lab.sink.list(lab.at.packs)}
    assert len(listed) == 3


@pytest.mark.parametrize("cache", CACHES)
def test_packs_of_a_failed_dump_are_used_by_the_next(lab: Lab, tmp_path: Path, cache: str) -> None:
    content = noise(40 * MIB)
    with pytest.raises(DumpFailed):
        lab.backup(BytesSource({"d": content}, opener=BreaksOff))
    landed = sum(len(lab.sink.get(key)) for key in lab.keys(lab.at.packs))
    assert landed > 30 * MIB
    result = lab.backup({"d": content}, cache=cache_of(lab, tmp_path, cache))
    assert result.stored < 42 * MIB - landed
    assert lab.restored() == {"d": content}
    assert lab.check().findings == ()


@pytest.mark.parametrize("cache", CACHES)
def test_packs_are_found_without_index_objects(lab: Lab, tmp_path: Path, cache: str) -> None:
    content = noise(20 * MIB)
    lab.backup({"d": content})
    for key in lab.keys(lab.at.index):
        lab.sink.delete(key)
    assert lab.backup({"d": content}, cache=cache_of(lab, tmp_path, cache)).packs == 0


def test_a_damaged_index_object_is_reported_and_skipped(lab: Lab, tmp_path: Path) -> None:
    content = noise(2 * MIB)
    lab.backup({"d": content})
    (index,) = lab.keys(lab.at.index)
    lab.flip(index, 40)
    result = lab.backup({"d": content}, cache=tmp_path / "new")
    assert result.packs == 0
    assert [index in warning for warning in result.warnings] == [True]


@pytest.mark.parametrize("cache", CACHES)
def test_chunks_of_a_damaged_pack_are_stored_again(lab: Lab, tmp_path: Path, cache: str) -> None:
    content = noise(2 * MIB)
    first = lab.backup({"d": content}).snapshot
    (pack,) = lab.keys(lab.at.packs)
    lab.flip(pack, -100)
    result = lab.backup({"d": content}, cache=cache_of(lab, tmp_path, cache))
    assert result.stored > 2 * MIB
    assert any(pack in warning for warning in result.warnings)
    # The new snapshot does not depend on the damaged pack; the old one is refused, and told apart.
    assert lab.restored() == {"d": content}
    with pytest.raises(DamagedObject, match=pack):
        lab.restored(first.hex())
    assert {finding.key for finding in lab.check().findings} == {pack}


@pytest.mark.parametrize("cache", CACHES)
def test_chunks_of_a_missing_pack_are_stored_again(lab: Lab, tmp_path: Path, cache: str) -> None:
    content = noise(2 * MIB)
    first = lab.backup({"d": content}).snapshot
    (pack,) = lab.keys(lab.at.packs)
    lab.sink.delete(pack)
    assert lab.backup({"d": content}, cache=cache_of(lab, tmp_path, cache)).stored > 2 * MIB
    assert lab.restored() == {"d": content}
    with pytest.raises(MissingObject, match=pack):
        lab.restored(first.hex())


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_chunks_of_packs_without_their_session_are_stored_again(lab: Lab, tmp_path: Path, damage: str) -> None:
    content = noise(2 * MIB)
    lab.backup({"d": content})
    (session,) = lab.keys(lab.at.sessions)
    if damage == "gone":
        lab.sink.delete(session)
    else:
        lab.flip(session, 100)
    assert lab.backup({"d": content}, cache=tmp_path / "new").stored > 2 * MIB
    target = BytesSource({})
    lab.restore(into=target)
    assert target.restored == {"d": content}
    assert {finding.key for finding in lab.check().findings} == {session}


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("keeper", ["owner", "maintainer"])
def test_what_a_tombstone_names_is_stored_anew_and_nobody_is_told_of_damage(
    lab: Lab, tmp_path: Path, keeper: str, cache: str
) -> None:
    access = lab.owner if keeper == "owner" else add_maintainer(lab.repository, "operations")
    content = noise(2 * MIB)
    lab.backup({"d": content})
    (doomed,) = lab.keys(lab.at.packs)
    put_notice(lab.domain, Tombstone("", Things(packs=(bytes.fromhex(doomed[-32:]),))), Hand.of(access))
    result = lab.backup({"d": content}, cache=cache_of(lab, tmp_path, cache))
    assert result.warnings == ()
    assert result.stored > 2 * MIB
    assert doomed not in packs_used(lab)
    assert lab.backup({"d": content}, cache=lab.cache).stored < 32 * KIB, "what is not doomed is used"
    assert lab.restored() == {"d": content}
    assert lab.check().findings == ()


def test_a_tombstone_of_a_writer_or_a_revoked_maintainer_dooms_nothing(lab: Lab, tmp_path: Path) -> None:
    writer = add_writer(lab.repository, "host", domain="main")
    maintainer = add_maintainer(lab.repository, "operations")
    content = noise(2 * MIB)
    lab.backup({"d": content})
    (pack,) = lab.keys(lab.at.packs)
    stone = Tombstone("", Things(packs=(bytes.fromhex(pack[-32:]),)))
    put_notice(lab.domain, stone, Hand.of(maintainer))
    forged = {put_notice(lab.domain, stone, hand) for hand in (Hand.of(writer), Hand.of(writer).as_if(lab.owner))}
    revoke(lab.repository, maintainer.key)
    for cache in (lab.cache, tmp_path / "new"):
        assert lab.backup({"d": content}, cache=cache).packs == 0
    assert {finding.key for finding in lab.check().findings} == forged


def test_foreign_objects_do_not_stop_a_backup(lab: Lab) -> None:
    lab.backup({"d": b"1"})
    at = lab.at
    strays = {
        f"{at.packs}x",
        f"{at.packs}zz/{'00' * 16}",
        f"{at.packs}00/{'00' * 16}",
        f"{at.index}x",
        f"{at.sessions}x",
        f"{at.snapshots}x",
    }
    for key in strays:
        lab.sink.put(key, b"stray")
    result = lab.backup({"d": b"2"})
    assert {key for key in strays if any(key in warning for warning in result.warnings)} == strays
    assert len(result.warnings) == len(strays)
    assert {finding.key for finding in lab.check().findings} == strays


def test_a_pack_that_vanishes_between_its_use_and_the_commit_leaves_no_snapshot(lab: Lab) -> None:
    content = noise(2 * MIB)
    lab.backup({"d": content})
    (pack,) = lab.keys(lab.at.packs)
    before = lab.keys(lab.at.snapshots)

    class Meanwhile(BytesStream):
        def close(self) -> None:
            super().close()
            lab.sink.delete(pack)

    with pytest.raises(MissingObject, match=pack) as raised:
        lab.backup(BytesSource({"d": content + b"more"}, opener=Meanwhile))
    assert raised.value.exit_code == 14
    assert "Run the backup again" in str(raised.value.hint)
    assert lab.keys(lab.at.snapshots) == before
    lab.backup({"d": content + b"more"})
    assert lab.restored() == {"d": content + b"more"}


def test_known_chunks_are_found_with_few_reads(lab: Lab, tmp_path: Path) -> None:
    assert isinstance(lab.sink, MemorySink)
    content = noise(48 * MIB)
    lab.backup({"d": content})
    sink = FaultySink(lab.sink)
    assert lab.backup({"d": content}, by=lab.open(sink=sink), cache=tmp_path / "new").packs == 0
    assert sum(call == ("get", key) for key in lab.keys(lab.at.packs) for call in sink.calls) <= 2 * len(
        lab.keys(lab.at.packs)
    )


# index objects that take the place of others


def index_reads(lab: Lab, sink: FaultySink, cache: Path, content: bytes) -> tuple[set[str], int]:
    """The index objects that a fresh host reads, and how many packs it reads whose place no index object told it."""
    lab.open(sink=sink)
    sink.calls.clear()
    result = lab.backup({"d": content}, by=lab.open(sink=sink), cache=cache)
    assert result.packs == 0
    asked = [key for method, key in sink.calls if method == "get"]
    return {key for key in asked if key.startswith(lab.at.index)}, sum(key.startswith(lab.at.packs) for key in asked)


@pytest.fixture
def merged(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, set[str], str]:
    """The content of some nights, the index objects of each, and the one that took their place."""
    monkeypatch.setattr("penstock.repository.write.indexing._MANY", 6)
    monkeypatch.setattr("penstock.repository.known.synchronizing._SMALL_INDEX", 8500)
    nights = [noise(13 * MIB, seed) for seed in range(6)]
    # Of backups that have no past: what these store, any host finds by the ids of its chunks.
    for end in range(1, 6):
        lab.backup({"d": b"".join(nights[:end])}, name=f"night {end}")
    before = lab.keys(lab.at.index)
    content = b"".join(nights)
    head = lab.backup({"d": content}).head
    made = lab.keys(lab.at.index) - before
    assert len(before) == 5
    assert len(made) == 2
    assert set(map(lab.at.index_key, head.index)) == made
    one, other = sorted(made, key=lambda key: lab.sink.stat(key).size)
    assert lab.sink.stat(other).size > 8500
    return content, before | {one}, other


def test_many_small_index_objects_are_merged_and_a_fresh_host_reads_one(
    lab: Lab, merged: tuple[bytes, set[str], str], tmp_path: Path
) -> None:
    content, small, one = merged
    read, packs = index_reads(lab, FaultySink(lab.sink), tmp_path / "new", content)
    assert read == {one}
    assert packs <= 2 * 6, "their ends, for what they hold"
    assert lab.check().findings == ()
    # It says all that the others say.
    for key in small:
        lab.sink.delete(key)
    result = lab.backup({"d": content}, cache=tmp_path / "another")
    assert (result.packs, result.warnings) == (0, ())


def test_what_was_merged_is_not_merged_again(lab: Lab, merged: tuple[bytes, set[str], str]) -> None:
    content, small, one = merged
    lab.backup({"d": content})
    lab.backup({"d": content + noise(MIB, 9)})
    assert len(lab.keys(lab.at.index) - small - {one}) == 1


def test_the_hooks_of_a_merged_index_object_are_those_of_all(lab: Lab, merged: tuple[bytes, set[str], str]) -> None:
    _, small, one = merged
    domain = lab.domain

    def summaries(key: str) -> dict[bytes, PackSummary]:
        sealed = decode_index(id_of(key), lab.sink.get(key))
        sealed.verify(lab.owner.signing.public, domain.scope)
        found = sealed.open_summaries(domain.layout_sealer, domain.id_sealer, domain.scope)
        return {summary.ends.pack: replace(summary, hooks=tuple(sorted(summary.hooks))) for summary in found}

    said: dict[bytes, PackSummary] = {}
    for key in small:
        said |= summaries(key)
    assert summaries(one) == said
    assert len(said) == 6
    sealed = decode_index(id_of(one), lab.sink.get(one))
    _, replaces = sealed.open_packs(domain.layout_sealer, domain.scope)
    assert set(map(lab.at.index_key, replaces)) == small


@pytest.mark.parametrize("who", ["a revoked writer", "a writer of another domain", "a revoked maintainer"])
def test_nobody_without_a_valid_key_of_the_domain_takes_the_place_of_index_objects(
    lab: Lab, tmp_path: Path, who: str
) -> None:
    """It could say that packs have no hooks, or a million chunks, and all of them would be stored anew."""
    access = {
        "a revoked writer": lambda: add_writer(lab.repository, "stolen", domain="main"),
        "a writer of another domain": lambda: add_writer(lab.repository, "web"),
        "a revoked maintainer": lambda: add_maintainer(lab.repository, "operations"),
    }[who]()
    content = noise(4 * MIB)
    lab.backup({"d": content})
    (honest,) = lab.keys(lab.at.index)
    sealed = decode_index(id_of(honest), lab.sink.get(honest))
    domain = lab.domain
    summaries = sealed.open_summaries(domain.layout_sealer, domain.id_sealer, domain.scope)
    spoilt = [replace(summary, chunks=1 << 30, hooks=()) for summary in summaries]
    forged = put_index(domain, spoilt, Hand.of(access), replaces=[id_of(honest)])
    if who.startswith("a revoked"):
        revoke(lab.repository, access.key)
    # Whichever a host reads first.
    for number in range(4):
        result = lab.backup({"d": content}, cache=tmp_path / str(number))
        assert result.packs == 0
        assert [forged in warning for warning in result.warnings] == [True] * (not who.startswith("a revoked"))
