"""TLS, with Ceph 16.2: it knows no checksums in trailers, which today's SDK sends over TLS."""

import tracemalloc
from contextlib import closing
from typing import Any

import pytest
from plugins.sinks.s3.tests.real import make, round_trip
from tests.servers.s3 import S3Server

from penstock.api import (
    ObjectExists,
    SinkError,
)
from penstock_s3 import S3Sink

pytestmark = pytest.mark.server


def tls(server: S3Server, **more: Any) -> S3Sink:
    return make(server, server.new_bucket(), endpoint=server.tls_endpoint, **more)


def test_todays_checksums_are_refused_with_the_setting_named(ceph: S3Server) -> None:
    with closing(tls(ceph, tls_ca=ceph.ca)) as sink:
        for size in (10, 1_000_000):
            with pytest.raises(SinkError) as caught:
                sink.put("a", bytes(size))
            assert 'checksums = "when_required"' in str(caught.value.hint)


def test_with_the_setting_everything_works(ceph: S3Server) -> None:
    with closing(tls(ceph, tls_ca=ceph.ca, checksums="when_required")) as sink:
        round_trip(sink, "packs/a")
        with pytest.raises(ObjectExists):
            sink.put("packs/a", b"other", if_absent=True)
        pack = bytearray(32 * 2**20)
        tracemalloc.start()
        try:
            sink.put("packs/b", pack)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * 2**20, f"{peak / 2**20:.1f} MiB"


def test_a_strangers_certificate_is_refused_at_once(ceph: S3Server) -> None:
    with closing(tls(ceph)) as sink, pytest.raises(SinkError, match="not trusted") as caught:
        sink.get("a")
    assert "tls_ca" in str(caught.value.hint)


def test_tls_with_a_service_that_does_not_speak_it_is_reported(ceph: S3Server) -> None:
    plain = ceph.endpoint.replace("http:", "https:")
    with closing(make(ceph, "bucket", endpoint=plain)) as sink, pytest.raises(SinkError, match="speak TLS"):
        sink.get("a")
