"""The source: one MongoDB deployment."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, ClassVar

from penstock.api import (
    Capability,
    Dump,
    DumpStream,
    Inspection,
    PluginSettings,
    Restore,
    RestorePlan,
    RestoreTarget,
    Source,
    StreamSpec,
)
from penstock_mongodb.settings import MongoSettings, settings_from_url

__all__ = ["MongoSource"]

# What loads the driver is imported where it is used: the command line lists plugins without it.


class MongoSource(Source):
    """One MongoDB deployment, by MongoDB's own Database Tools."""

    name: ClassVar[str] = "mongodb"
    comment: ClassVar[str] = "//"
    schemes: ClassVar[tuple[str, ...]] = ("mongodb", "mongodb+srv")
    Settings: ClassVar[type[PluginSettings]] = MongoSettings
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.PARALLEL_STREAMS})

    settings: MongoSettings

    def __init__(self, settings: PluginSettings) -> None:
        assert isinstance(settings, MongoSettings)
        super().__init__(settings)

    def __repr__(self) -> str:
        return f"<MongoSource {self.location}>"

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`mongodb://user@host:port/database`, with further settings in the query; no password."""
        return settings_from_url(url)

    @property
    def location(self) -> str:
        """The URL without a password."""
        return self.settings.location

    @property
    def most_streams(self) -> int | None:
        """As the settings say."""
        return self.settings.max_connections

    def inspect(self) -> Inspection:
        """Look, without dumping or counting: documents come from the statistics."""
        from penstock_mongodb.survey import survey

        found = survey(self.settings, "off" if self.settings.row_counts == "off" else "estimate", self.stop)
        return replace(found.inspection, streams=found.plan.streams, consistency=found.plan.consistency)

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """Decide what the streams are; documents are counted as the settings say."""
        from penstock_mongodb.survey import survey

        yield Dump(survey(self.settings, self.settings.row_counts, self.stop).plan, self.attach)

    def attach(self, spec: StreamSpec) -> DumpStream:
        """Start mongodump on one stream of a plan, whoever made it."""
        from penstock_mongodb.dumps import start_dump

        return start_dump(self.settings, spec, self.stop)

    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        """Connect to the target, compare versions and rights, and see what is in the way."""
        from penstock_mongodb.target import plan_restore

        return plan_restore(self.settings, streams, target, self.stop)

    def restore(self, plan: RestorePlan) -> AbstractContextManager[Restore]:
        """Make collections, give each archive to mongorestore, then make the indexes."""
        from penstock_mongodb.restore import restoring

        return restoring(self.settings, plan, stop=self.stop, report=self.report)
