"""Where the workers of a dump work: a sink and a source as the settings say, and the key that opened the repository."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from penstock.api import PluginSettings, Sink, Source, StopToken
from penstock.engine.dumping.workplace import Opened
from penstock.repository import Access, Repository
from penstock.workspace.sinks.limiting import LimitingSink
from penstock.workspace.sinks.metering import Figures, MeteringSink, since

__all__ = ["HostWorkplace"]


@dataclass(frozen=True, slots=True)
class HostWorkplace:
    """For processes of this host. Secret: it holds the content of a key file, which goes through a pipe of their own.

    Secrets of plugins are references in their settings: each process looks them up for itself. The limits are those of
    one worker, in bytes per second.
    """

    sink: type[Sink]
    sink_settings: PluginSettings
    source: type[Source]
    source_settings: PluginSettings
    key: bytes = field(repr=False)
    limit_upload: int | None = None
    limit_download: int | None = None

    @contextmanager
    def open(self, stop: StopToken) -> Iterator[Opened]:
        """Open both; the sink is closed at the end of the block."""
        sink = self.sink(self.sink_settings)
        source = self.source(self.source_settings)
        sink.stop = source.stop = stop
        meter = MeteringSink(sink)
        limited = limiting(meter, self.limit_upload, self.limit_download)
        before: Mapping[str, Figures] = {}

        def spent() -> Mapping[str, Figures]:
            nonlocal before
            now = meter.figures
            new, before = since(before, now), now
            return new

        try:
            access = Access.from_key_file(self.key, "the key of this backup")
            yield Opened(Repository.open(limited, access), source, spent)
        finally:
            sink.close()


def limiting(sink: Sink, upload: int | None, download: int | None) -> Sink:
    """The sink, limited where there is a limit."""
    return LimitingSink(sink, upload=upload, download=download) if upload or download else sink
