"""Night after night: whatever changed and became of the cache, each snapshot is whole, and each night is small."""

import random
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from core.tests.engine.nightly import Nightly, after, changed, joined, rows, stored_in_segments
from core.tests.repository.forging import NOW, copied, planted, put_notice
from core.tests.repository.lab import KIB, MIB, BytesStream, Lab, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.api import DamagedObject, StreamSpec
from penstock.engine import BackupResult, backup
from penstock.format.head import MAX_BASES
from penstock.format.notice import Action, Deletion
from penstock.repository import Repository
from penstock.repository.trust.keyring import add_writer, revoke
from penstock.repository.write.handing_over import HandedOver
from penstock.repository.write.session import Session

# what changes from night to night


def lines(count: int, seed: int = 0) -> bytes:
    """Rows as dumps have them, of different lengths, some of them alike."""
    chance = random.Random(seed)
    return b"".join(b"%d\t%s\n" % (chance.randrange(10**4), b"customer " * chance.randrange(5)) for _ in range(count))


def long_lines(count: int, seed: int = 0) -> bytes:
    """Rows that are longer than any record."""
    chance = random.Random(seed)
    return b"".join(chance.randbytes(chance.randrange(4000)).hex().encode() + b"\n" for _ in range(count))


PIECES = st.one_of(
    st.builds(lines, st.integers(0, 4000), st.integers(0, 3)),
    st.builds(long_lines, st.integers(0, 60), st.integers(0, 3)),
    st.builds(noise, st.integers(0, 200 * KIB), st.integers(0, 3)),
    st.builds(bytes, st.integers(0, 200 * KIB)),
    st.builds(lambda block, times: block * times, st.binary(min_size=1, max_size=64), st.integers(0, 3000)),
    st.builds(lambda seed, times: noise(5000, seed) * times, st.integers(0, 3), st.integers(0, 30)),
)
CONTENTS = st.lists(PIECES, max_size=4).map(b"".join)
NAMES = ["main.dump", "data/a", "data/b"]


@dataclass(frozen=True)
class Edit:
    """A change of one stream; places and lengths are shares of it."""

    stream: str
    what: str
    at: float
    size: float
    to: float
    seed: int

    def of(self, data: bytes) -> bytes:
        at = int(self.at * len(data))
        end = min(len(data), at + int(self.size**3 * len(data)) + 1)
        to = int(self.to * len(data))
        new = noise(end - at if self.what == "change" else int(self.size * 1000), self.seed)
        match self.what:
            case "insert":
                return data[:at] + new + data[at:]
            case "delete":
                return data[:at] + data[end:]
            case "change":
                return data[:at] + new + data[end:]
            case "rows":
                rows = data.split(b"\n")
                chance = random.Random(self.seed)
                for _ in range(1 + len(rows) // 50):
                    rows[chance.randrange(len(rows))] = b"%d" % chance.randrange(10**9)
                return b"\n".join(rows)
            case "move":
                left = data[:at] + data[end:]
                return left[:to] + data[at:end] + left[to:]
            case "duplicate":
                return data[:to] + data[at:end] + data[to:]
            case _:
                return b""


SHARES = st.floats(0, 1)
EDITS = st.builds(
    Edit,
    st.sampled_from(NAMES),
    st.sampled_from(["insert", "delete", "change", "rows", "rows", "move", "duplicate", "empty"]),
    SHARES,
    SHARES,
    SHARES,
    st.integers(0, 99),
)


# what becomes of the cache


def past(cache: Path) -> list[Path]:
    """The files in which a host remembers dumps."""
    return sorted(path for path in cache.rglob("*") if path.is_file() and "past" in path.relative_to(cache).parts)


def harm(cache: Path, how: str, chance: random.Random) -> None:
    """Let something become of a host's cache between two nights."""
    match how:
        case "forgotten":
            for folder in [path for path in cache.rglob("past") if path.is_dir()]:
                shutil.rmtree(folder)
        case "gone":
            shutil.rmtree(cache, ignore_errors=True)
        case "flipped" | "cut off":
            for path in (path for path in past(cache) if path.stat().st_size):
                data = bytearray(path.read_bytes())
                at = chance.randrange(len(data))
                if how == "cut off":
                    del data[at:]
                else:
                    data[at] ^= 1 << chance.randrange(8)
                path.write_bytes(data)
        case "swapped":
            if files := past(cache):
                chance.choice(files).write_bytes(chance.choice(files).read_bytes())


def session_of(repository: Repository, cache: Path, joins: HandedOver | None = None) -> Session:
    return Session(
        repository,
        "shop",
        cache_folder=cache,
        memory=64 * MIB,
        level=1,
        on_damage=lambda error: pytest.fail(str(error)),
        on_trouble=pytest.fail,
        joins=joins,
    )


def store_together(
    repository: Repository, streams: Mapping[str, bytes], separator: bytes, cache: Path, other: Path
) -> bytes:
    """A night whose streams two writers store, the second of them with a cache of its own or the same; its snapshot."""
    with ExitStack() as stack:
        session = stack.enter_context(session_of(repository, cache))
        joined = stack.enter_context(session_of(repository, other, joins=session.hand_over()))
        writers = [stack.enter_context(one.writer()) for one in (session, joined)]
        stored = []
        for number, (name, data) in enumerate(streams.items()):
            spec = StreamSpec(name, "raw", record_separator=separator)
            stored.append((spec, writers[number % 2].store(number, spec, BytesStream(data), lambda _: None)))
        written = [writer.finish() for writer in writers]
        done = session.commit(source="bytes", consistency="one", inspection={}, streams=stored, written=written)
    return done.head.snapshot


@dataclass(frozen=True)
class Night:
    """What changes, what becomes of the cache before the dump, and who stores it."""

    edits: list[Edit]
    cache: str
    by: str


NIGHTS = st.builds(
    Night,
    st.lists(EDITS, max_size=4),
    st.sampled_from(["kept", "kept", "kept", "forgotten", "gone", "flipped", "cut off", "swapped"]),
    st.sampled_from(["host", "host", "host", "another host", "another key", "two together", "two hosts together"]),
)


@dataclass(frozen=True)
class Scale:
    """How much is looked at together: small, so that small dumps have all that large ones have."""

    batch: int = 2 * MIB
    behind: int = 4 * MIB
    ahead: int = 8 * MIB
    extents: int = 4096
    enough: int = 4 * MIB
    bases: int = MAX_BASES

    def apply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("penstock.repository.write.intake.BATCH", self.batch)
        monkeypatch.setattr("penstock.repository.known.window._BEHIND", self.behind)
        monkeypatch.setattr("penstock.repository.known.window._AHEAD", self.ahead)
        monkeypatch.setattr("penstock.repository.write.recipes.EXTENTS_A_BLOCK", self.extents)
        monkeypatch.setattr("penstock.repository.write.stream.ENOUGH", self.enough)
        monkeypatch.setattr("penstock.repository.write.recollection.MAX_BASES", self.bases)


SCALES = st.builds(
    Scale,
    batch=st.sampled_from([64 * KIB, 100_001, 2 * MIB]),
    behind=st.sampled_from([0, 128 * KIB, 4 * MIB]),
    ahead=st.sampled_from([1, 128 * KIB, 8 * MIB]),
    extents=st.sampled_from([1, 7, 4096]),
    enough=st.sampled_from([0, 2000, 4 * MIB]),
    bases=st.sampled_from([1, MAX_BASES]),
)


@pytest.mark.slow
@settings(max_examples=examples(60), deadline=None)
@given(
    streams=st.fixed_dictionaries(dict.fromkeys(NAMES, CONTENTS)),
    nights=st.lists(NIGHTS, min_size=2, max_size=5),
    separator=st.sampled_from([b"\n", b"\n", b"", b"\t", b"\r\n"]),
    scale=SCALES,
    seed=st.integers(0, 999),
)
def test_every_night_is_restored_as_it_was(
    streams: dict[str, bytes], nights: list[Night], separator: bytes, scale: Scale, seed: int
) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        scale.apply(monkeypatch)
        lab = Lab(Path(folder) / "cache")
        other = Path(folder) / "other"
        access = add_writer(lab.repository, "another", domain="main")
        history = {lab.backup(Nightly(streams, separator)).snapshot: dict(streams)}
        for night in nights:
            for edit in night.edits:
                streams[edit.stream] = edit.of(streams[edit.stream])
            harm(lab.cache, night.cache, chance)
            match night.by:
                case "two together" | "two hosts together":
                    second = lab.cache if night.by == "two together" else other
                    snapshot = store_together(lab.open(), streams, separator, lab.cache, second)
                case who:
                    by = lab.open(access if who == "another key" else None)
                    cache = other if who == "another host" else lab.cache
                    result = lab.backup(Nightly(streams, separator), by=by, cache=cache)
                    assert result.warnings == ()
                    snapshot = result.snapshot
            history[snapshot] = dict(streams)
        for snapshot, content in history.items():
            assert lab.restored(snapshot.hex()) == content
        assert lab.check().findings == ()


# what a night goes back to


@pytest.fixture
def table() -> list[bytes]:
    return rows(10_000)


def forget(lab: Lab, result: BackupResult) -> None:
    put_notice(lab.domain, Deletion(NOW, Action.FORGET, {result.snapshot: result.digest}))
    lab.sink.delete(lab.at.snapshot_key(result.snapshot))


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["kept", "forgotten"])
def test_a_base_that_was_forgotten_is_not_needed(lab: Lab, table: list[bytes], cache: str) -> None:
    nights = [lab.backup(joined(after(table, number))) for number in range(3)]
    assert [len(night.head.bases) for night in nights] == [0, 1, 2]
    forget(lab, nights[1])
    harm(lab.cache, cache, random.Random(1))
    result = lab.backup(joined(after(table, 3)))
    assert result.warnings == ()
    # It goes back to its own parts, which live as long as a snapshot that names them.
    assert len(result.head.bases) == (3 if cache == "kept" else 0)
    assert lab.restored() == joined(after(table, 3)).streams
    forget(lab, result)
    last = lab.backup(joined(after(table, 4)))
    assert (last.warnings, last.head.bases) == ((), ())
    assert lab.restored() == joined(after(table, 4)).streams
    assert lab.restored(nights[2].snapshot.hex()) == joined(after(table, 2)).streams
    assert lab.check().findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gone", "flipped", "cut off", "another"])
def test_the_next_night_does_without_a_part_of_a_recipe_that_is_not_what_it_was(
    lab: Lab, tmp_path: Path, table: list[bytes], how: str
) -> None:
    for number in range(2):
        lab.backup(joined(after(table, number)))
    # What the next night would go back to.
    sound = copied(lab, tmp_path / "sound")
    bases = sound.backup(joined(after(table, 2))).head.bases
    assert len(bases) == 2
    parts = [lab.at.part_key(ref.part) for base in bases for ref in base.parts]
    assert len(parts) >= 2
    for number, key in enumerate(parts):
        harmed = copied(lab, tmp_path / f"{number}")
        data = bytearray(harmed.sink.get(key))
        match how:
            case "gone":
                harmed.sink.delete(key)
            case "flipped":
                harmed.flip(key, len(data) // 2)
            case "cut off":
                harmed.sink.put(key, bytes(data[:-1]))
            case _:
                harmed.sink.put(key, harmed.sink.get(parts[number - 1]))
        result = harmed.backup(joined(after(table, 2)))
        assert any(key in warning for warning in result.warnings), result.warnings
        assert result.head.bases == ()
        assert harmed.restored() == joined(after(table, 2)).streams
        # What was stored of rows is found all the same.
        assert result.stored < 128 * KIB
        again = harmed.backup(joined(after(table, 3)))
        assert (again.warnings, len(again.head.bases)) == ((), 1)
        assert harmed.restored() == joined(after(table, 3)).streams


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gone", "flipped", "of a writer that was revoked"])
def test_the_next_night_does_without_a_session_of_a_base_that_is_not_what_it_was(
    lab: Lab, table: list[bytes], how: str
) -> None:
    access = add_writer(lab.repository, "host", domain="main")
    nights = [lab.backup(joined(after(table, number)), by=lab.open(access)) for number in range(2)]
    session = lab.find(nights[-1].snapshot.hex()).session
    key = lab.at.session_key(session)
    match how:
        case "gone":
            lab.sink.delete(key)
        case "flipped":
            lab.flip(key, -10)
        case _:
            revoke(lab.open(), access.key)
    for number in (2, 3):
        result = lab.backup(joined(after(table, number)))
        assert lab.restored(result.snapshot.hex()) == joined(after(table, number)).streams
        assert session not in lab.sessions(result.snapshot.hex())
        told = [warning for warning in result.warnings if key in warning]
        # One that is gone is not listed, and so is not missed; nothing of the second night goes back to it.
        assert bool(told) == (number == 2 and how == "flipped")


@pytest.mark.slow
def test_no_night_relies_any_longer_on_packs_of_a_writer_that_was_revoked(lab: Lab, table: list[bytes]) -> None:
    """Also those that were relied on before: what he says that they hold was never looked at."""
    lab.backup({"d": b"first"})
    (session,) = lab.sessions()
    access = add_writer(lab.repository, "stolen", domain="main")
    content = joined(table)
    pack = planted(lab.domain, content.streams["d"], session, by=access, separator=b"\n")
    assert lab.backup(content).stored < 128 * KIB
    with pytest.raises(DamagedObject, match=pack):
        lab.restored()
    revoke(lab.open(), access.key)
    result = lab.backup(content)
    assert result.stored > 200 * KIB
    assert lab.restored() == content.streams


@pytest.mark.slow
def test_a_chain_of_nights_ends(lab: Lab, table: list[bytes]) -> None:
    nights = [lab.backup(joined(after(table, number))) for number in range(MAX_BASES + 4)]
    assert [len(night.head.bases) for night in nights] == [*range(MAX_BASES + 1), 0, 1, 2]
    for number, night in enumerate(nights):
        assert lab.restored(night.snapshot.hex()) == joined(after(table, number)).streams
    assert lab.check().findings == ()
    # What makes a full recipe again is not stored again.
    assert max(night.stored for night in nights[1:]) < 128 * KIB


# how little a night stores


@pytest.mark.slow
@pytest.mark.parametrize("separator", [b"\n", b""], ids=["rows", "no rows"])
def test_a_night_stores_its_changed_rows_and_little_else(lab: Lab, separator: bytes) -> None:
    before = rows(100_000)
    lab.backup(Nightly({"d": b"".join(before)}, separator))
    one = changed(before, [50_000], 1)
    # Less than any whole chunk; of bytes that compress to half their size, or less.
    assert 0 < stored_in_segments(lab, Nightly({"d": b"".join(one)}, separator)) < 512
    many = changed(one, list(range(100, 100_000, 500)), 2)
    a_row = stored_in_segments(lab, Nightly({"d": b"".join(many)}, separator)) / 200
    assert 40 < a_row < (120 if separator else 400)


def test_a_night_without_a_change_stores_no_segment(lab: Lab) -> None:
    table = rows(20_000)
    lab.backup(joined(table))
    assert stored_in_segments(lab, joined(table)) == 0


@pytest.mark.slow
def test_without_a_cache_a_night_stores_whole_chunks_and_the_next_does_not(lab: Lab) -> None:
    table = rows(40_000)
    places = list(range(100, 40_000, 800))
    lab.backup(joined(table))
    harm(lab.cache, "forgotten", random.Random(1))
    without = stored_in_segments(lab, joined(changed(table, places, 1)))
    with_it = stored_in_segments(lab, joined(changed(table, places, 2)))
    assert 0 < 4 * with_it < without


def night_of(lab: Lab, source: Nightly, cache_size: int | None) -> BackupResult:
    return backup(
        lab.open(),
        source,
        name="shop",
        source_type="bytes",
        cache_dir=lab.cache,
        cache_size=cache_size,
        memory=64 * MIB,
        compression="auto",
        listener=lab.events.append,
    )


def test_a_host_that_may_remember_nothing_remembers_nothing(lab: Lab, table: list[bytes]) -> None:
    night_of(lab, joined(table), None)
    assert past(lab.cache) != []
    for number in (1, 2):
        harm(lab.cache, "forgotten", random.Random(1))
        result = night_of(lab, joined(after(table, number)), 0)
        assert result.head.bases == ()
        assert past(lab.cache) == []
        assert lab.restored() == joined(after(table, number)).streams


@pytest.mark.slow
@pytest.mark.parametrize("cache_size", [1000, 300 * KIB, 700 * KIB, 4 * MIB])
def test_what_a_host_remembers_takes_no_more_than_it_may(lab: Lab, cache_size: int) -> None:
    table = rows(100_000)
    for number in range(3):
        source = joined(changed(table, list(range(number, 100_000, 1000)), number))
        night_of(lab, source, cache_size)
        # Beside what says how the snapshot is put together.
        assert sum(path.stat().st_size for path in past(lab.cache) if path.name != "meta") <= cache_size
        assert lab.restored() == source.streams
    assert lab.check().findings == ()
