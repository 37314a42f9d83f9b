"""The base of all decorators: it forwards everything."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from penstock.api import Capability, ObjectInfo, PolicyText, Report, Rights, Sink, StopToken

__all__ = ["ForwardingSink"]


class ForwardingSink(Sink):
    """Forwards everything to `inner`, and stands in for it under its name and abilities."""

    name = "forwarding"

    def __init__(self, inner: Sink) -> None:
        super().__init__(inner.settings)
        self.inner = inner
        # Class variables by contract; an instance stands in for one of another class here.
        vars(self).update(
            name=inner.name,
            api_version=inner.api_version,
            schemes=inner.schemes,
            Settings=inner.Settings,
            possible_capabilities=inner.possible_capabilities,
        )

    @property
    def stop(self) -> StopToken:
        """That of `inner`."""
        return self.inner.stop

    @stop.setter
    def stop(self, token: StopToken) -> None:
        self.inner.stop = token

    @property
    def report(self) -> Report:
        """That of `inner`."""
        return self.inner.report

    @report.setter
    def report(self, report: Report) -> None:
        self.inner.report = report

    def capabilities(self) -> frozenset[Capability]:
        """What `inner` can do."""
        return self.inner.capabilities()

    @property
    def location(self) -> str:
        """Where `inner` is."""
        return self.inner.location

    @property
    def connections(self) -> int:
        """As many as `inner` wants."""
        return self.inner.connections

    def preflight(self) -> None:
        """Let `inner` see whether a backup can succeed."""
        self.inner.preflight()

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """Store."""
        self.inner.put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Read."""
        return self.inner.get(key, start=start, length=length)

    def stat(self, key: str) -> ObjectInfo:
        """Look."""
        return self.inner.stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List."""
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        """Delete."""
        self.inner.delete(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete, in batches where `inner` does."""
        self.inner.delete_many(keys)

    @property
    def retention(self) -> timedelta | None:
        """That of `inner`."""
        return self.inner.retention

    def retain(self, key: str, until: datetime) -> None:
        """Lengthen the lock."""
        self.inner.retain(key, until)

    def policy(self, rights: Sequence[Rights]) -> tuple[PolicyText, ...]:
        """What `inner` says."""
        return self.inner.policy(rights)

    def close(self) -> None:
        """Close `inner`."""
        self.inner.close()
