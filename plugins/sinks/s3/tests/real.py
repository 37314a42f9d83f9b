"""Sinks at a real service."""

import os
from typing import Any

from tests.servers.s3 import S3Server

from penstock.api import (
    Sink,
)
from penstock_s3 import S3Settings, S3Sink


def make(server: S3Server, bucket: str, **more: Any) -> S3Sink:
    return S3Sink(S3Settings.model_validate(server.settings(bucket, **{"deadline": 60, **more})))


def round_trip(sink: Sink, key: str) -> None:
    data = os.urandom(200_000)
    sink.put(key, data)
    assert sink.get(key) == data
    assert sink.stat(key).size == len(data)
