"""Combines separately written streams for one snapshot: one segment table, and recipes renumbered to match it."""

from collections.abc import Sequence

from penstock.format.pack import SegmentId
from penstock.format.recipe import RecipeEncoder, decode_recipe
from penstock.repository.write.stream import StoredStream

__all__ = ["merged"]


def merged(streams: Sequence[StoredStream]) -> tuple[tuple[SegmentId, ...], list[bytes]]:
    """The segments of all streams, each once, in order of first use; and each stream's recipe numbered by them."""
    table: dict[SegmentId, int] = {}
    recipes = []
    for stream in streams:
        numbers = [table.setdefault(segment, len(table)) for segment in stream.segments]
        if numbers == list(range(len(numbers))):
            recipes.append(stream.recipe)
            continue
        recipe = RecipeEncoder()
        for extent in decode_recipe(stream.recipe):
            recipe.add(numbers[extent.segment], extent.first, extent.chunks)
        recipes.append(recipe.finish())
    return tuple(table), recipes
