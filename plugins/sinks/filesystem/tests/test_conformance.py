from pathlib import Path

import pytest

from penstock.api import Sink
from penstock.testing.sink_conformance import SinkConformance
from penstock_filesystem import FilesystemSettings, FilesystemSink


class TestFilesystemSink(SinkConformance):
    many_objects = 1_100  # a listing has no pages, and each object is a file of its own

    @pytest.fixture
    def sink(self, tmp_path: Path) -> Sink:
        return FilesystemSink(FilesystemSettings(path=tmp_path / "not" / "made" / "yet"))

    @pytest.fixture
    def sibling(self, sink: Sink) -> Sink:
        return FilesystemSink(FilesystemSettings.model_validate(sink.settings.model_dump()))
