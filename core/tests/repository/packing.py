"""A packer whose packs land in a lab's repository: what it tells, where it puts what, and what is there afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from core.tests.repository.lab import MIB, Lab

from penstock.format.ids import chunk_ids
from penstock.format.index import PackSummary
from penstock.format.pack import Place, SegmentId, open_segment
from penstock.format.sealing import Sealer
from penstock.repository.budget import Budget
from penstock.repository.known.known_pack import KnownPack
from penstock.repository.read.ends import TAIL, PackEnd, read_end
from penstock.repository.read.verify import verify_pack
from penstock.repository.write.packer import Packer, Stored

__all__ = ["DATA_KEY", "SESSION", "Packing", "packing"]

SESSION = bytes(range(16))
DATA_KEY = Sealer(bytes(32))


class Packing:
    """A packer, and what it tells and puts: `closed` of each pack that it closed, `landed` of each that is there.

    `stored` is where it says that it put the bytes which `add` and `add_loose` were given, and these bytes.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.key = lab.domain.keys.chunk_key
        self.closed: list[KnownPack] = []
        self.landed: list[PackSummary] = []
        self.stored: list[tuple[Stored, bytes]] = []
        #: Packs and pins by their rows in a segment table.
        self.origins: list[tuple[bytes, bytes]] = []
        self.packer = Packer(
            lab.domain,
            session=SESSION,
            data_sealer=DATA_KEY,
            budget=Budget.of(64 * MIB, connections=4),
            level=1,
            if_absent=True,
            origin=lambda row: self.origins[row],
            chunk_id=lambda piece: chunk_ids(self.key, piece, [len(piece)])[0],
            closed=self.closed.append,
            landed=self.landed.append,
        )

    def add(self, data: bytes, lengths: list[int]) -> None:
        """Whole chunks of these lengths."""
        self._noted(data, self.packer.add(chunk_ids(self.key, memoryview(data), lengths), lengths, memoryview(data)))

    def add_loose(self, data: bytes) -> None:
        """A piece of a chunk."""
        self._noted(data, self.packer.add_loose(memoryview(data)))

    def _noted(self, data: bytes, stored: Iterator[Stored]) -> None:
        at = 0
        for one in stored:
            assert one.length > 0
            self.stored.append((one, data[at : at + one.length]))
            at += one.length
        assert at == len(data)

    def ends(self) -> list[PackEnd]:
        """Those of all packs, which say what the packer told of them."""
        ends = [read_end(self.lab.domain, one.ends.pack, one.ends.size, TAIL) for one in self.landed]
        assert [end.summary() for end in ends] == self.landed
        return ends

    def places(self) -> list[Place]:
        """Those of all segments, in order, of packs that are whole and hold what their directories say."""
        places: list[Place] = []
        for one in self.landed:
            end = verify_pack(self.lab.domain, one.ends.pack, one.ends.size, lambda _: DATA_KEY)
            assert end.summary() == one
            places += end.places.places
        return places

    def segments(self) -> dict[SegmentId, bytes]:
        """The plain bytes of all segments."""
        found = {}
        for place in self.places():
            sealed = self.lab.sink.get(self.lab.at.pack_key(place.id.pack))
            sealed = sealed[place.offset : place.offset + place.sealed_length]
            found[place.id] = open_segment(sealed, DATA_KEY, self.lab.domain.scope, place.id)
        return found


@contextmanager
def packing(lab: Lab) -> Iterator[Packing]:
    """A packer that is closed at the end, and has put all of its packs then; or was aborted, if the test failed."""
    made = Packing(lab)
    try:
        yield made
        made.packer.close()
    except BaseException:
        made.packer.abort(wait=True)
        raise
