"""One stream of a dump, from its source into packs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from penstock.api.models import InventoryItem, LeftOut, StreamSpec
from penstock.api.source import DumpStream
from penstock.repository.write.stream import StoredStream, StreamWriter

__all__ = ["FinishedStream", "store_stream"]


@dataclass(frozen=True, slots=True)
class FinishedStream:
    """A stream that was dumped and stored: `spec` with the attributes that only the dump has shown."""

    number: int
    spec: StreamSpec
    stored: StoredStream
    inventory: tuple[InventoryItem, ...]
    left_out: tuple[LeftOut, ...]


def store_stream(
    begin: Callable[[StreamSpec], DumpStream],
    number: int,
    spec: StreamSpec,
    writer: StreamWriter,
    on_progress: Callable[[str, int], None],
) -> FinishedStream:
    """Store the stream that `begin` opens as that with this number in the plan; `on_progress` is told its bytes.

    Raises what reading and storing raise; the stream has ended in either case.
    """
    stream = begin(spec)
    stored = writer.store(number, spec, stream, lambda done: on_progress(spec.name, done))
    try:
        # Raises unless the child succeeded: end of file alone is not success.
        stream.close()
        outcome = stream.outcome()
    except BaseException:  # an interrupt, too, leaves no child behind
        stream.abort()
        raise
    if outcome.attributes:
        spec = replace(spec, attributes={**spec.attributes, **outcome.attributes})
    return FinishedStream(number, spec, stored, outcome.inventory, outcome.left_out)
