"""A stream's recipe through all its layers: what comes is what every byte is made of, however it is cut up."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from core.tests.format.damage import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.format.encoding import Malformed
from penstock.format.manifest import StreamRecord
from penstock.format.part import Kind, Section
from penstock.format.recipe import Extent, encode_block
from penstock.repository.read import recipes
from penstock.repository.read.parts import OpenedPart
from penstock.repository.read.recipes import Layers

Byte = tuple[int, int]


class Made(NamedTuple):
    """The parts of each layer; of each stream of the first layer the parts of its recipe, layer by layer; its bytes."""

    parts: list[list[OpenedPart]]
    recipe: tuple[tuple[int, ...], ...]
    plain: list[Byte]

    def part(self, layer: int, number: int) -> OpenedPart:
        return self.parts[layer][number]

    def record(self, size: int | None = None) -> StreamRecord:
        size = len(self.plain) if size is None else size
        return StreamRecord("a", "raw", 0, False, {}, size, bytes(32), self.recipe)


def extents_of(draw: st.DrawFn, below: list[list[Byte]]) -> tuple[int, list[Extent]]:
    """A block: the stream of the base, and what it is made of."""
    base = draw(st.integers(0, max(0, len(below) - 1)))
    extents = []
    for _ in range(draw(st.integers(1, 6))):
        if below and below[base] and draw(st.booleans()):
            start = draw(st.integers(0, len(below[base]) - 1))
            extents.append(Extent(None, start, draw(st.integers(1, min(40, len(below[base]) - start)))))
        else:
            extents.append(Extent(draw(st.integers(0, 5)), draw(st.integers(0, 50)), draw(st.integers(1, 30))))
    return base, extents


def bytes_of(extents: list[Extent], base: list[Byte]) -> list[Byte]:
    plain: list[Byte] = []
    for segment, start, length in extents:
        here = base[start : start + length] if segment is None else [(segment, start + at) for at in range(length)]
        plain += here
    return plain


@st.composite
def made(draw: st.DrawFn) -> Made:
    below: list[list[Byte]] = []
    layers: list[list[OpenedPart]] = []
    for depth in reversed(range(draw(st.integers(1, 5)))):
        streams: list[list[Byte]] = []
        sections: list[list[Section]] = [[], []]
        for number in range(draw(st.integers(1, 2)) if depth else 1):
            plain: list[Byte] = []
            for _ in range(draw(st.integers(1, 4))):
                base, extents = extents_of(draw, below)
                made_here = bytes_of(extents, below[base] if below else [])
                block = number.to_bytes(4, "little") + encode_block(len(plain), extents, base)
                sections[draw(st.booleans()) or bool(sections[1])].append(Section(Kind.RECIPE, memoryview(block)))
                plain += made_here
            streams.append(plain)
        below = streams
        layers.insert(0, [OpenedPart(iter(some)) for some in sections])
    return Made(layers, ((0, 1),) * len(layers), below[0])


def plain_of(some: Layers) -> list[Byte]:
    plain: list[Byte] = []
    for cut in some.cuts():
        assert (cut.segments >= 0).all()
        assert cut.size > 0
        for segment, start, length in zip(*(column.tolist() for column in cut), strict=True):
            plain += [(segment, start + at) for at in range(length)]
    return plain


@pytest.mark.slow
@settings(EFFORT, max_examples=examples(200))
@given(made(), st.integers(1, 40), st.integers(1, 2000), st.integers(0, 3))
def test_every_byte_is_of_the_segment_that_the_last_layer_says(chain: Made, many: int, size: int, back: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "_BACK", back)
        patch.setattr(recipes, "_MANY", many)
        patch.setattr(recipes, "_BYTES", size)
        assert plain_of(Layers(chain.part, chain.record(), 0)) == chain.plain


@pytest.mark.slow
@settings(EFFORT, max_examples=examples(200))
@given(made(), st.data(), st.integers(1, 40), st.integers(1, 200))
def test_runs_of_it_are_of_the_same_segments(chain: Made, data: st.DataObject, many: int, size: int) -> None:
    """Also where the layers from some one on are another snapshot's, whose streams are asked for."""
    edges = sorted(data.draw(st.sets(st.integers(0, len(chain.plain)))))
    runs = list(zip(edges[::2], edges[1::2], strict=False))
    floor = data.draw(st.integers(1, len(chain.parts)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "_MANY", many)
        patch.setattr(recipes, "_BYTES", size)
        upper = Layers(chain.part, chain.record(), 0, floor)
        plain = bytes_below(chain, floor, upper, [start for start, _ in runs], [end - start for start, end in runs])
    assert plain == [byte for start, end in runs for byte in chain.plain[start:end]]


def bytes_below(chain: Made, floor: int, some: Layers, starts: list[int], lengths: list[int]) -> list[Byte]:
    """Those of runs of a stream; what is left to the layer `floor`, as that stands there as a snapshot of its own."""
    record = replace(chain.record(), recipe=chain.recipe[floor:])
    plain: list[Byte] = []
    for cut in some.cuts_of(np.array(starts, dtype=np.int64), np.array(lengths, dtype=np.int64)):
        for segment, start, length in zip(*(column.tolist() for column in cut), strict=True):
            if segment < 0:
                below = Layers(lambda layer, number: chain.part(layer + floor, number), record, -1 - segment)
                plain += bytes_below(chain, len(chain.parts), below, [start], [length])
            else:
                plain += [(segment, start + at) for at in range(length)]
    return plain


def test_so_many_extents_are_resolved_at_once_however_many_a_block_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_MANY", 16)
    own = [Extent(0, 2 * at, 1) for at in range(200)]
    mixed = [Extent(None if at % 2 else 1, at, 1) for at in range(200)]
    layers = [[OpenedPart(iter([Section(Kind.RECIPE, memoryview(bytes(4) + encode_block(0, some, 0)))]))]
              for some in (mixed, mixed, own)]  # fmt: skip
    chain = Made(layers, ((0,), (0,), (0,)), bytes_of(mixed, bytes_of(mixed, bytes_of(own, []))))
    assert plain_of(Layers(chain.part, chain.record(), 0)) == chain.plain
    found = [len(cut.segments) for cut in Layers(chain.part, chain.record(), 0).cuts()]
    assert 16 <= max(found) <= 2 * 16


def test_rows_that_were_in_another_order_are_resolved_without_reading_blocks_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks, size = 40, 100
    chance = random.Random(8)

    def part(bounds: range, extents: Callable[[int], list[Extent]]) -> OpenedPart:
        made = (encode_block(start, extents(start)) for start in bounds)
        return OpenedPart(iter([Section(Kind.RECIPE, memoryview(bytes(4) + block)) for block in made]))

    def shuffled(of: list[int]) -> OpenedPart:
        return part(whole, lambda start: [Extent(None, of[start + at], 1) for at in range(size)])

    whole = range(0, blocks * size, size)
    below = part(whole, lambda start: [Extent(start + at, 0, 1) for at in range(size)])
    upper, lower = (chance.sample(range(blocks * size), blocks * size) for _ in range(2))
    plain = [(lower[place], 0) for place in upper]
    chain = Made([[shuffled(upper)], [shuffled(lower)], [below]], ((0,), (0,), (0,)), plain)
    asked: list[int] = []

    def opened(layer: int, number: int) -> OpenedPart:
        asked.append(layer)
        return chain.part(layer, number)

    monkeypatch.setattr(recipes, "_KEPT", 1)
    assert plain_of(Layers(opened, chain.record(), 0)) == plain
    # Once for each block, and once to see which blocks it has.
    assert len(asked) <= 3 * (blocks + 1)


def test_runs_that_are_sorted_are_no_more_than_can_be_resolved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_MANY", 16)
    monkeypatch.setattr(recipes, "_BACK", 0)
    order = random.Random(9).sample(range(200), 200)
    upper = [Extent(None, 10 * place, 10) for place in order]
    below = [Extent(place, 0, 1) for place in range(2000)]
    layers = [[OpenedPart(iter([Section(Kind.RECIPE, memoryview(bytes(4) + encode_block(0, some, 0)))]))]
              for some in (upper, below)]  # fmt: skip
    chain = Made(layers, ((0,), (0,)), bytes_of(upper, bytes_of(below, [])))
    assert plain_of(Layers(chain.part, chain.record(), 0)) == chain.plain
    assert max(len(cut.segments) for cut in Layers(chain.part, chain.record(), 0).cuts()) <= 2 * 16


@settings(EFFORT, max_examples=examples(20))
@given(made())
def test_a_recipe_that_ends_before_its_stream_is_malformed(chain: Made) -> None:
    with pytest.raises(Malformed, match="ends before its stream"):
        plain_of(Layers(chain.part, chain.record(len(chain.plain) + 1), 0))
