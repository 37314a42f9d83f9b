from pathlib import Path

import pytest

from penstock.api import Sink
from penstock.testing.sink_conformance import SinkConformance
from penstock_filesystem import FilesystemSettings, FilesystemSink


class TestFilesystemSink(SinkConformance):
    @pytest.fixture
    def sink(self, tmp_path: Path) -> Sink:
        return FilesystemSink(FilesystemSettings(path=tmp_path / "not" / "made" / "yet"))

    @pytest.fixture
    def sibling(self, sink: Sink) -> Sink:
        return FilesystemSink(FilesystemSettings.model_validate(sink.settings.model_dump()))
