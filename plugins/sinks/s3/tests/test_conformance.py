import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.servers.s3 import S3Server

from penstock.api import Sink
from penstock.testing.sink_conformance import EndLocks, SinkConformance
from penstock_s3 import S3Settings, S3Sink


def at(server: S3Server, port: int, **more: Any) -> S3Sink:
    values = server.settings("bucket", **{"conditional_put": "yes", **more, "endpoint": f"http://127.0.0.1:{port}"})
    return S3Sink(S3Settings.model_validate(values))


@pytest.mark.server
class TestRealService(SinkConformance):
    many_objects = 1_100  # two pages; a cluster on one disk takes its time over each object

    @pytest.fixture
    def sink(self, s3: S3Server) -> Iterator[Sink]:
        settings = s3.settings(s3.new_bucket(), prefix="shop/nightly", deadline=60)
        sink = S3Sink(S3Settings.model_validate(settings))
        yield sink
        sink.close()

    @pytest.fixture
    def sibling(self, sink: Sink) -> Iterator[Sink]:
        sibling = S3Sink(S3Settings.model_validate(sink.settings.model_dump()))
        yield sibling
        sibling.close()

    @pytest.fixture
    def locked_bucket(self, s3: S3Server) -> str:
        return s3.new_bucket(lock=True)

    @pytest.fixture
    def locking(self, s3: S3Server, locked_bucket: str) -> Iterator[Sink]:
        lock = {"object_lock": "governance", "object_lock_days": 1}
        sink = S3Sink(S3Settings.model_validate(s3.settings(locked_bucket, prefix="shop", deadline=60, **lock)))
        yield sink
        sink.close()

    @pytest.fixture
    def end_locks(self, s3: S3Server, locked_bucket: str) -> EndLocks:
        """As an administrator does, who may bypass governance: a lock of a few seconds."""

        def end(keys: Iterable[str]) -> None:
            with closing(s3.client()) as client:
                for key in keys:
                    until = datetime.now(UTC) + timedelta(seconds=3)
                    client.put_object_retention(
                        Bucket=locked_bucket,
                        Key=f"shop/{key}",
                        BypassGovernanceRetention=True,
                        Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until},
                    )
            time.sleep(5)

        return end

    @pytest.fixture
    def silent(self, s3: S3Server, silent_port: int) -> Iterator[Sink]:
        sink = at(s3, silent_port, deadline=1.5)
        yield sink
        sink.close()

    @pytest.fixture
    def refusing(self, s3: S3Server, closed_port: int) -> Iterator[Sink]:
        sink = at(s3, closed_port)
        yield sink
        sink.close()
