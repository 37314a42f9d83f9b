"""A source that makes its streams up: large ones too, without a database and without a child process."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from penstock.api import (
    Capability,
    Dump,
    DumpFailed,
    DumpPlan,
    DumpStream,
    Inspection,
    InventoryItem,
    PluginSettings,
    Restore,
    RestoreFailed,
    RestorePlan,
    RestoreTarget,
    Source,
    StreamSpec,
    UsageError,
)
from penstock.testing.generated import GeneratedStream, Recipe

__all__ = ["SyntheticSettings", "SyntheticSource", "content"]


class SyntheticSettings(PluginSettings):
    """What to make up. All sizes are bytes."""

    size: int = Field(default=1024 * 1024, ge=0, description="of each stream")
    streams: int = Field(default=1, ge=0, lt=2**24)
    seed: int = 0
    generation: int = Field(default=0, ge=0, lt=2**24, description="nights since the first dump")
    changed: float = Field(default=0.001, ge=0, le=1, description="the share of blocks that get new bytes each night")
    compressible: float = Field(default=0.5, ge=0, le=1, description="the share of each block that halves in size")
    block: int = Field(default=64 * 1024, ge=16, le=2**30, description="what changes as a whole; quick from 16 KiB on")
    fail_after: int | None = Field(default=None, ge=0, description="bytes after which each stream breaks off")
    collect: bool = Field(default=False, description="keep what is restored instead of comparing it")


class SyntheticSource(Source):
    """Dumps made-up streams, and takes back only what it made up.

    `restore` makes the stream up once more, from the attributes of its spec, and compares: it raises `RestoreFailed`
    at the first byte that differs. `taken` tells how many bytes of each stream were restored; with `collect`,
    `restored` holds them, whatever they are. With `fail_after` a stream breaks off, and its `close` raises
    `DumpFailed`, as when a child died.
    """

    name = "synthetic"
    schemes = ("synthetic",)
    Settings = SyntheticSettings
    possible_capabilities = frozenset({Capability.CONSISTENT, Capability.PARALLEL_STREAMS})

    settings: SyntheticSettings

    def __init__(self, settings: SyntheticSettings | None = None) -> None:
        super().__init__(settings or SyntheticSettings())
        self._lock = threading.Lock()
        self.taken: dict[str, int] = {}
        self.restored: dict[str, bytes] = {}

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`synthetic:?size=1000&streams=2` as settings."""
        parts = urlsplit(url)
        if parts.netloc or parts.path:
            raise UsageError("a synthetic: URL has no host and no path", hint="Write synthetic:?size=1000000&seed=7.")
        return dict(parse_qsl(parts.query))

    def inspect(self) -> Inspection:
        """Everything is known beforehand."""
        size = self.settings.size
        items = tuple(InventoryItem("stream", spec.name, size=size, exact=True) for spec in self._specs())
        return Inspection("synthetic", "1", "1", size_estimate=size * len(items), inventory=items)

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """The plan; there is nothing to hold."""
        yield Dump(DumpPlan(self.inspect(), self._specs(), consistency="one generation"), self.attach)

    def attach(self, spec: StreamSpec) -> DumpStream:
        """The stream that the attributes of `spec` describe."""
        return _SyntheticStream(spec, self.settings.fail_after)

    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        """Refuse options, and streams of another source."""
        if target.options:
            raise UsageError(f"unknown option {', '.join(target.options)} for a restore into the synthetic source")
        for spec in streams:
            Recipe.of(spec)
        return RestorePlan(tuple(streams), target)

    @contextmanager
    def restore(self, plan: RestorePlan) -> Iterator[Restore]:
        """Compare, or collect, what comes back."""
        del plan
        yield Restore(self._take_back)

    def _take_back(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        expected = GeneratedStream(Recipe.of(spec))
        kept: list[bytes] = []
        done = 0
        for block in blocks:
            if self.settings.collect:
                kept.append(bytes(block))
            elif (at := expected.difference(block, done)) is not None:
                raise RestoreFailed(f"{spec.name}: not the stream that was dumped, from byte {at} on")
            done += len(block)
        if done != expected.recipe.size and not self.settings.collect:
            raise RestoreFailed(f"{spec.name}: ended after {done} of {expected.recipe.size} bytes")
        with self._lock:
            self.taken[spec.name] = done
            if self.settings.collect:
                self.restored[spec.name] = b"".join(kept)

    def _specs(self) -> tuple[StreamSpec, ...]:
        chosen = self.settings.model_dump(include={"size", "seed", "generation", "changed", "compressible", "block"})
        return tuple(
            StreamSpec(
                name=f"synthetic/{number}.bin",
                format="synthetic",
                size_estimate=self.settings.size,
                attributes=Recipe(number=number, **chosen).attributes(),
            )
            for number in range(self.settings.streams)
        )


class _SyntheticStream(DumpStream):
    def __init__(self, spec: StreamSpec, fail_after: int | None) -> None:
        self._name = spec.name
        self._bytes = GeneratedStream(Recipe.of(spec))
        self._fails = fail_after is not None
        size = self._bytes.recipe.size
        self._end = size if fail_after is None else min(size, fail_after)
        self._done = 0
        self._ended = False
        self._closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._bytes.fill(buffer[: self._end - self._done], self._done)
        self._done += count
        self._ended = self._ended or (count == 0 and len(buffer) > 0)
        return count

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._fails:
            raise DumpFailed(f"{self._name}: broke off after {self._done} bytes, as fail_after asks")
        if not self._ended and self._done < self._end:
            raise DumpFailed(f"{self._name}: closed before its end")

    def abort(self) -> None:
        self._closed = True


def content(spec: StreamSpec) -> bytes:
    """All bytes of a stream of the synthetic source: for streams that fit into memory."""
    stream = GeneratedStream(Recipe.of(spec))
    data = bytearray(stream.recipe.size)
    stream.fill(memoryview(data), 0)
    return bytes(data)
