"""Sources and contents at the edge of what the contract allows, and beyond."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from core.tests.repository.lab import MIB, BytesSource, Lab, noise

from penstock.api import Dump, DumpPlan, PenstockError, SourceError, StreamSpec, UsageError
from penstock.engine import show
from penstock.format.chunker import ChunkerParameters
from penstock.repository import Repository, layout
from penstock.repository.budget import PACK_CHUNKS
from penstock.repository.read.ends import TAIL, read_end
from penstock.testing import MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow


class Plans(BytesSource):
    """Has one stream, `d`, and the plan that the test makes of it."""

    def __init__(self, data: bytes, spec: StreamSpec, **changes: object) -> None:
        super().__init__({spec.name: data})
        self._spec = spec
        self._changes = changes

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        plan = DumpPlan(self.inspect(), (self._spec,), "none")
        yield Dump(replace(plan, **self._changes), self.attach)  # type: ignore[arg-type]


def test_a_plan_comes_back_as_it_was(lab: Lab) -> None:
    spec = StreamSpec(
        "schéma/öffentlich.sql", "sql", phase=7, optional=True, attributes={"table": 'a "b" \u2028 \0', "": "empty"}
    )
    lab.backup(Plans(b"text", spec), name="täglich \N{SNOWMAN}")
    manifest = show(lab.find("latest:täglich \N{SNOWMAN}")).manifest
    assert manifest is not None
    (record,) = manifest.streams
    assert (record.name, record.format, record.phase, record.optional) == (spec.name, "sql", 7, True)
    assert record.attributes == spec.attributes


@pytest.mark.parametrize(
    "spec",
    [
        StreamSpec("d", "raw", phase=-1),
        StreamSpec("caf\udce9", "raw"),
        StreamSpec("d", "raw\udce9"),
        StreamSpec("d", "raw", attributes={"path": "caf\udce9"}),
    ],
    ids=["a negative phase", "a name", "a format", "an attribute"],
)
def test_a_plan_that_could_not_be_read_back_is_refused_before_anything_is_dumped(lab: Lab, spec: StreamSpec) -> None:
    source = Plans(noise(MIB), spec)
    with pytest.raises(SourceError, match="defect in the plugin"):
        lab.backup(source)
    assert source.opened == []


def test_an_inspection_that_could_not_be_written_is_refused_before_anything_is_dumped(lab: Lab) -> None:
    source = Plans(b"1", StreamSpec("d", "raw"))
    source._changes = {"inspection": replace(source.inspect(), warnings=("caf\udce9",))}
    with pytest.raises(SourceError, match="defect in the plugin"):
        lab.backup(source)
    assert source.opened == []


@pytest.mark.parametrize("name", ["", "caf\udce9"])
def test_a_name_that_cannot_be_written_is_refused_before_anything_is_dumped(lab: Lab, name: str) -> None:
    source = BytesSource({"d": b"1"})
    with pytest.raises(UsageError, match="name"):
        lab.backup(source, name=name)
    assert source.opened == []


@pytest.mark.slow
def test_what_compresses_well_closes_packs_by_their_chunks(lab: Lab) -> None:
    lab.sink = MemorySink()
    lab.repository = Repository.create(lab.sink, passphrase=None, chunker=ChunkerParameters(64, 256, 1024))
    lab.owner = lab.repository.access
    content = b"".join(b"%064d" % number for number in range(500_000))
    lab.backup({"d": content})
    sizes = []
    for info in lab.sink.list(lab.at.packs):
        end = read_end(lab.repository.domain, layout.id_of(info.key), info.size, TAIL)
        sizes.append(len(end.chunks().lengths))
    assert len(sizes) > 1
    assert max(sizes) < 2 * PACK_CHUNKS
    assert lab.restored() == {"d": content}
    assert lab.check().findings == ()


@pytest.mark.parametrize(
    "parameters",
    [
        ChunkerParameters(64, 256, 1024),
        ChunkerParameters(64, 256, 1024, normalization=3),
        ChunkerParameters(256, 256, 65535),
        ChunkerParameters(4096, 8192, 65535, normalization=2),
        ChunkerParameters(1024, 1024, 1024),
    ],
    ids=str,
)
def test_every_cut_that_the_format_allows_comes_back(lab: Lab, parameters: ChunkerParameters) -> None:
    lab.sink = MemorySink()
    lab.repository = Repository.create(lab.sink, passphrase=None, chunker=parameters)
    lab.owner = lab.repository.access
    streams = {"noise": noise(6 * MIB), "zeros": bytes(5 * MIB), "empty": b"", "one": b"1"}
    lab.backup(streams)
    assert lab.backup(streams).packs == 0
    assert lab.restored() == streams
    assert lab.check().findings == ()


def test_a_compression_that_zstd_does_not_know_is_refused(lab: Lab) -> None:
    from penstock.engine import backup

    for level in (0, 20, -1):
        with pytest.raises(PenstockError, match="from 1 to 19"):
            backup(
                lab.open(),
                BytesSource({"d": b""}),
                name="x",
                source_type="bytes",
                cache_dir=lab.cache,
                memory=64 * MIB,
                compression=level,
                listener=lab.events.append,
            )
