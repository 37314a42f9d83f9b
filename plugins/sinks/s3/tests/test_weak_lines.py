"""A line that breaks every connection after five megabytes: no pack of the usual size ever gets through it."""

from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from core.tests.repository.lab import CHEAP
from tests.servers.proxy import Faults, FaultyProxy
from tests.servers.s3 import S3Server

from penstock.api import Secret, SinkUnreachable
from penstock.engine import backup
from penstock.repository import Repository
from penstock.testing.memory_source import SyntheticSettings, SyntheticSource
from penstock_s3 import S3Settings, S3Sink

pytestmark = pytest.mark.slow

_MIB = 1024 * 1024


def test_a_smaller_pack_size_gets_through_a_line_that_breaks_large_uploads(moto: S3Server, tmp_path: Path) -> None:
    address = urlsplit(moto.endpoint)
    source = SyntheticSource(SyntheticSettings(size=24 * _MIB, compressible=0))
    with FaultyProxy(str(address.hostname), int(str(address.port))) as proxy:
        values: dict[str, Any] = moto.settings(moto.new_bucket())
        values |= {"endpoint": f"http://127.0.0.1:{proxy.port}", "deadline": 10}

        def run(pack_size: int | None) -> int:
            with closing(S3Sink(S3Settings.model_validate(values))) as sink:
                return backup(
                    Repository.open(sink, passphrase),
                    source,
                    name="shop",
                    source_type="synthetic",
                    cache_dir=tmp_path / "cache",
                    pack_size=pack_size,
                    memory=64 * _MIB,
                    compression="auto",
                    listener=lambda _: None,
                ).packs

        passphrase = Secret("correct horse battery")
        with closing(S3Sink(S3Settings.model_validate(values))) as sink:
            Repository.create(sink, passphrase=passphrase, cost=CHEAP)
        proxy.faults = Faults(cut_upload_after=5_000_000, reset=True)
        with pytest.raises(SinkUnreachable) as caught:
            run(None)
        assert 'set pack_size for the repository, such as "4MiB"' in str(caught.value.hint)
        assert run(4 * _MIB) > 5
        assert proxy.struck > 1
