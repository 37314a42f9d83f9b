"""Reading dumps and feeding restores, as the engine would, for tests of sources."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from penstock.api import DumpStream, InventoryItem, RestoreTarget, Source, StreamSpec
from penstock.testing.dumping import restore_one

__all__ = ["Dump", "blocks_of", "counted", "dump_all", "read_all", "restore_all", "restore_one"]

Dump = dict[str, tuple[StreamSpec, bytes]]


def read_all(stream: DumpStream) -> bytes:
    """Everything that a stream gives, closed."""
    data = bytearray()
    try:
        buffer = memoryview(bytearray(1 << 20))
        while count := stream.readinto(buffer):
            data += buffer[:count]
    except BaseException:
        stream.abort()
        raise
    stream.close()
    return bytes(data)


def dump_all(source: Source) -> Dump:
    """All streams of one dump, by name."""
    with source.dump() as held:
        found: Dump = {}
        for spec in held.plan.streams:
            stream = held.open(spec)
            data = read_all(stream)
            attributes = {**spec.attributes, **stream.outcome().attributes}
            found[spec.name] = (replace(spec, attributes=attributes), data)
        return found


def counted(source: Source) -> dict[tuple[str, str], InventoryItem]:
    """The inventory of one dump, by kind and name, as it is recorded: with what only the dump has shown."""
    with source.dump() as held:
        items = list(held.plan.inspection.inventory)
        for spec in held.plan.streams:
            stream = held.open(spec)
            read_all(stream)
            items += stream.outcome().inventory
    return {(item.kind, item.name): item for item in items}


def blocks_of(data: bytes, size: int = 100_000) -> Iterator[memoryview]:
    """The data in blocks that are overwritten as soon as the next one is asked for."""
    for start in range(0, len(data), size):
        block = bytearray(data[start : start + size])
        yield memoryview(block)
        block[:] = b"\xff" * len(block)


def restore_all(
    source: Source, streams: Dump | Iterable[tuple[StreamSpec, bytes]], target: RestoreTarget | None = None
) -> None:
    """Check the target and restore the streams in the order of their phases."""
    target = target or RestoreTarget()
    found = sorted(streams.values() if isinstance(streams, dict) else streams, key=lambda one: one[0].phase)
    plan = source.plan_restore([spec for spec, _ in found], target)
    with source.restore(plan) as restoring:
        for spec, data in found:
            restoring.write(spec, blocks_of(data))
        restoring.finish()
