"""A check while a prune deletes: what the prune has recorded is no finding, and what a snapshot still needs is one."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from core.tests.repository.lab import Lab, noise
from core.tests.repository.virtual import BEGINNING, VirtualStore

from penstock.api import ObjectInfo, Sink
from penstock.engine.forget import forget
from penstock.engine.prune import prune
from penstock.format.notice import Things
from penstock.repository import layout
from penstock.repository.notices import delete
from penstock.workspace.sinks.forwarding import ForwardingSink

pytestmark = pytest.mark.slow


class InterruptedSink(ForwardingSink):
    """Lets `interruption` happen once, right before the first request that `when` is true of: its number and key."""

    def __init__(self, inner: Sink, when: Callable[[int, str], bool], interruption: Callable[[], object]) -> None:
        super().__init__(inner)
        self._when = when
        self._interruption = interruption
        self.requests = 0
        self.interrupted = False

    def _next(self, key: str) -> None:
        if not self.interrupted and self._when(self.requests, key):
            self.interrupted = True
            self._interruption()
        self.requests += 1

    @property
    def connections(self) -> int:
        """One: requests come in the same order each time."""
        return 1

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._next(key)
        return self.inner.get(key, start=start, length=length)

    def stat(self, key: str) -> ObjectInfo:
        self._next(key)
        return self.inner.stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._next(prefix)
        return iter(list(self.inner.list(prefix)))


@pytest.fixture
def store() -> VirtualStore:
    return VirtualStore()


@pytest.fixture
def lab(tmp_path: Path, store: VirtualStore) -> Lab:
    """Three nights; the later two have something in common."""
    lab = Lab(tmp_path / "cache", store)
    for seeds in ((1, 2), (3, 4), (3, 5)):
        lab.backup({"d": b"".join(noise(100_000, seed) for seed in seeds)})
        store.passes(days=1)
    return lab


def _let_go(lab: Lab) -> None:
    oldest = min(lab.sink.list(lab.at.snapshots), key=lambda info: info.modified or BEGINNING).key
    forget(lab.open(), [lab.find(layout.id_of(oldest).hex())])


def _prune(lab: Lab) -> int:
    (done,) = prune(lab.open(), listener=lambda event: None).domains.values()
    return done.deleted


def _named(lab: Lab, store: VirtualStore) -> None:
    _let_go(lab)
    _prune(lab)
    store.passes(days=1)


def _swept(lab: Lab, store: VirtualStore) -> None:
    assert _prune(lab) > 3


def _named_and_swept(lab: Lab, store: VirtualStore) -> None:
    _named(lab, store)
    _swept(lab, store)


def _nothing(lab: Lab, store: VirtualStore) -> None:
    pass


@pytest.mark.parametrize(
    ("before", "meanwhile"), [(_named, _swept), (_nothing, _named_and_swept)], ids=["a sweep", "all of it"]
)
def test_what_a_prune_deletes_meanwhile_is_no_finding(
    lab: Lab,
    store: VirtualStore,
    before: Callable[[Lab, VirtualStore], None],
    meanwhile: Callable[[Lab, VirtualStore], None],
) -> None:
    before(lab, store)
    saved, now = dict(store._objects), store.now
    for moment in count():
        store._objects, store.now = dict(saved), now
        sink = InterruptedSink(store, lambda number, _, at=moment: number == at, lambda: meanwhile(lab, store))  # type: ignore[misc]
        report = lab.check(by=lab.open(sink=sink))
        assert report.findings == (), f"before request {moment}"
        if not sink.interrupted:
            break
    assert moment > 30


@pytest.mark.parametrize("kind", ["packs", "parts", "sessions"])
def test_what_a_snapshot_needs_is_missed_although_a_record_says_that_it_was_deleted(
    lab: Lab, store: VirtualStore, kind: str
) -> None:
    """Whether it goes before the check, or between the listing and the look at it."""
    keys = lab.keys(f"{lab.at.prefix}{kind}/")

    def lose() -> None:
        delete(lab.domain, {}, Things(**{kind: tuple(map(layout.id_of, keys))}))
        for key in keys:
            store.delete(key)

    report = lab.check(by=lab.open(sink=InterruptedSink(store, lambda _, key: key in keys, lose)))
    assert keys == {one.key for one in report.findings if one.gone}
    assert keys == {one.key for one in lab.check().findings if one.gone}
