"""What only a real service can prove: wrong secrets, races, real listings and real damage."""

import logging
import os
import threading
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from plugins.sinks.s3.tests.real import make, round_trip
from tests.servers.proxy import Faults, FaultyProxy
from tests.servers.s3 import S3Server

from penstock.api import (
    Capability,
    ObjectExists,
    ObjectMissing,
    RestoreTarget,
    Secret,
    Sink,
    SinkDenied,
    SinkError,
)
from penstock.engine import backup, check, restore
from penstock.repository import Repository
from penstock.repository.snapshots import list_snapshots
from penstock.testing import SyntheticSettings, SyntheticSource
from penstock_s3 import S3Settings, S3Sink

pytestmark = pytest.mark.server


def proxied(server: S3Server) -> FaultyProxy:
    parts = urlsplit(server.endpoint)
    return FaultyProxy(str(parts.hostname), int(str(parts.port)))


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.new_bucket()


@pytest.fixture
def sink(s3: S3Server, bucket: str) -> Iterator[Sink]:
    with closing(make(s3, bucket, prefix="db")) as sink:
        yield sink


def test_a_conditional_put_is_found_out(sink: Sink) -> None:
    assert sink.capabilities() == {Capability.CONDITIONAL_PUT}


def test_of_two_clients_that_put_the_same_key_one_wins(s3: S3Server, bucket: str) -> None:
    with closing(make(s3, bucket)) as one, closing(make(s3, bucket)) as other, ThreadPoolExecutor(2) as pool:
        for turn in range(15):
            start = threading.Barrier(2)

            def put(sink: Sink, key: str = f"grants/{turn}", start: threading.Barrier = start) -> bool:
                start.wait()
                try:
                    sink.put(key, os.urandom(100_000), if_absent=True)
                except ObjectExists:
                    return False
                return True

            assert sorted(pool.map(put, (one, other))) == [False, True]


def test_without_conditional_put_an_object_is_still_not_replaced(s3: S3Server, bucket: str) -> None:
    with closing(make(s3, bucket, conditional_put="no")) as sink:
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda number: _made(sink, b"%d" % number), range(8)))
        assert made.count(True) == 1
        assert sink.get("a") == b"%d" % made.index(True)


def _made(sink: Sink, data: bytes) -> bool:
    try:
        sink.put("a", data, if_absent=True)
    except ObjectExists:
        return False
    return True


def test_a_wrong_secret_is_said_and_not_shown(
    s3: S3Server, bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "wrong/hunter2+secret"
    (tmp_path / "secret").write_text(wrong)
    caplog.set_level(logging.DEBUG)
    with closing(make(s3, bucket, secret_access_key={"file": str(tmp_path / "secret")})) as sink:
        calls: list[Callable[[], object]] = [
            lambda: sink.put("a", b"x"),
            lambda: sink.get("a"),
            lambda: sink.stat("a"),
            lambda: list(sink.list()),
        ]
        for call in calls:
            with pytest.raises(SinkDenied, match="secret access key") as caught:
                call()
            text = "".join(traceback.format_exception(caught.value)) + str(caught.value.hint)
            assert "hunter2" not in text
        assert "hunter2" not in repr(sink) + repr(sink.settings) + repr(vars(sink)) + sink.location
    assert "hunter2" not in caplog.text


def test_nothing_secret_is_logged(s3: S3Server, bucket: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with closing(make(s3, bucket)) as sink:
        sink.put("a", b"x")
        sink.get("a")
    assert s3.secret_key not in caplog.text
    assert "Signature=" not in caplog.text


def test_an_unknown_access_key_is_reported(s3: S3Server, bucket: str) -> None:
    with closing(make(s3, bucket, access_key_id="NOBODY")) as sink, pytest.raises(SinkDenied, match="access key"):
        sink.put("a", b"x")


def test_missing_credentials_are_reported(s3: S3Server, bucket: str) -> None:
    values = s3.settings(bucket, deadline=20, access_key_id=None, secret_access_key=None)
    with closing(S3Sink(S3Settings.model_validate(values))) as sink, pytest.raises(SinkDenied, match="no credentials"):
        sink.get("a")


def test_a_missing_bucket_is_not_a_missing_object(s3: S3Server) -> None:
    with closing(make(s3, "penstock-no-such-bucket")) as sink:
        calls: list[Callable[[], object]] = [
            lambda: sink.put("a", b"x"),
            lambda: sink.get("a"),
            lambda: sink.get("a", length=0),
            lambda: sink.stat("a"),
            lambda: sink.delete("a"),
            lambda: list(sink.list()),
            sink.capabilities,
        ]
        for call in calls:
            with pytest.raises(SinkError, match="no such bucket: penstock-no-such-bucket") as caught:
                call()
            assert not isinstance(caught.value, ObjectMissing)


def test_a_missing_permission_is_named(s3: S3Server, bucket: str) -> None:
    client = s3.client()
    with closing(client), closing(make(s3, bucket)) as sink:
        policy = (
            '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:DeleteObject",'
            f'"Resource":"arn:aws:s3:::{bucket}/*"}}]}}'
        )
        client.put_bucket_policy(Bucket=bucket, Policy=policy)
        sink.put("a", b"x")
        with pytest.raises(SinkDenied) as caught:
            sink.delete("a")
    assert "s3:DeleteObject" in str(caught.value.hint)


def test_prefixes_of_one_bucket_do_not_see_each_other(s3: S3Server, bucket: str) -> None:
    with (
        closing(make(s3, bucket, prefix="a")) as a,
        closing(make(s3, bucket, prefix="a/b")) as inner,
        closing(make(s3, bucket, prefix="ab")) as sibling,
    ):
        a.put("x", b"1")
        inner.put("x", b"22")
        sibling.put("x", b"333")
        assert [(info.key, info.size) for info in inner.list()] == [("x", 2)]
        assert [(info.key, info.size) for info in sibling.list()] == [("x", 3)]
        assert sorted(info.key for info in a.list()) == ["b/x", "x"]


def test_objects_that_no_key_can_name_are_passed_over(s3: S3Server, bucket: str, sink: Sink) -> None:
    with closing(s3.client()) as client:
        for name in ("db/Readme.TXT", "db/", "db/a//b", "db/a b+c%20d", "other"):
            client.put_object(Bucket=bucket, Key=name, Body=b"x")
    sink.put("a", b"x", if_absent=True)
    assert [info.key for info in sink.list()] == ["a"]


def test_a_put_makes_no_copy_of_the_pack(s3: S3Server, bucket: str) -> None:
    with closing(make(s3, bucket)) as sink:
        sink.put("warm", bytes(100_000), if_absent=True)
        pack = bytearray(32 * 2**20)
        view = memoryview(pack)
        tracemalloc.start()
        try:
            sink.put("packs/a", view, if_absent=True)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            assert len(sink.get("packs/a")) == len(pack)
            _, peak_of_get = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * 2**20, f"{peak / 2**20:.1f} MiB"
        assert peak_of_get < 1.5 * len(pack), f"{peak_of_get / 2**20:.1f} MiB"


def test_connections_are_used_again(s3: S3Server, bucket: str) -> None:
    with proxied(s3) as proxy, closing(make(s3, bucket, endpoint=f"http://127.0.0.1:{proxy.port}")) as sink:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: round_trip(sink, f"packs/{number}"), range(80)))
        assert proxy.opened <= 8, f"{proxy.opened} connections for 4 threads"


def test_broken_connections_lose_nothing(s3: S3Server, bucket: str) -> None:
    data = os.urandom(3_000_000)
    with proxied(s3) as proxy, closing(make(s3, bucket, endpoint=f"http://127.0.0.1:{proxy.port}")) as sink:
        sink.put("warm", b"x", if_absent=True)
        proxy.faults = Faults(cut_upload_after=1_000_000, times=3, reset=True)
        sink.put("packs/a", data, if_absent=True)
        assert proxy.struck == 3
        proxy.faults = Faults(cut_download_after=1_000_000, times=3)
        assert sink.get("packs/a") == data
        assert sink.get("packs/a", start=10, length=2_500_000) == data[10:2_500_010]
        assert proxy.struck == 6


@pytest.mark.parametrize("checksums", ["auto", "when_required"])
def test_a_damaged_upload_is_refused_and_sent_again(s3: S3Server, bucket: str, checksums: str) -> None:
    data = os.urandom(500_000)
    with proxied(s3) as proxy:
        endpoint = f"http://127.0.0.1:{proxy.port}"
        with closing(make(s3, bucket, endpoint=endpoint, checksums=checksums)) as sink:
            proxy.faults = Faults(damage_upload_at=300_000, times=1)
            sink.put("packs/a", data)
            assert proxy.struck == 1
            assert sink.get("packs/a") == data


def test_a_backup_comes_back_from_it(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    with closing(make(s3, bucket, prefix="repositories/shop")) as sink:
        passphrase = Secret("correct horse battery staple")
        Repository.create(sink, passphrase=passphrase)
        repository = Repository.open(sink, passphrase)
        nights = [
            backup(
                repository, SyntheticSource(SyntheticSettings(size=24 * 2**20, streams=2, generation=generation)),
                name="shop", source_type="synthetic", cache_dir=tmp_path / "cache", memory=128 * 2**20,
                compression="auto", listener=lambda _: None,
            )
            for generation in range(2)
        ]  # fmt: skip
        assert nights[1].stored < nights[0].stored / 10, "the second night adds what changed"
        owner = Repository.open(sink, passphrase)
        assert not check(owner, read_data=True, cache_dir=None, listener=lambda _: None).findings
        for entry in list_snapshots(owner):
            target = SyntheticSource()
            restore(
                entry, target, target=RestoreTarget(), streams=None, verify_first=True,
                listener=lambda _: None,
            )  # fmt: skip
            assert sum(target.taken.values()) == 48 * 2**20


@pytest.mark.parametrize("checksums", ["auto", "when_required"])
def test_many_objects_are_deleted_in_batches(s3: S3Server, bucket: str, checksums: str) -> None:
    with proxied(s3) as proxy:
        endpoint = f"http://127.0.0.1:{proxy.port}"
        with closing(make(s3, bucket, prefix="db", endpoint=endpoint, checksums=checksums)) as sink:
            keys = [f"packs/{number:02}" for number in range(20)]
            for key in [*keys, "kept"]:
                sink.put(key, b"x")
            sink.delete_many([*keys, "packs/gone"])
            assert [info.key for info in sink.list()] == ["kept"]


def test_a_batch_says_which_object_may_not_be_deleted(s3: S3Server, bucket: str) -> None:
    policy = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:DeleteObject",'
        f'"Resource":"arn:aws:s3:::{bucket}/db/held/*"}}]}}'
    )
    with closing(s3.client()) as client, closing(make(s3, bucket, prefix="db")) as sink:
        client.put_bucket_policy(Bucket=bucket, Policy=policy)
        for key in ("free/a", "held/a"):
            sink.put(key, b"x")
        with pytest.raises(SinkDenied) as caught:
            sink.delete_many(["free/a", "held/a"])
        assert caught.value.key == "held/a"
        assert "s3:DeleteObject" in str(caught.value.hint)
        assert [info.key for info in sink.list()] == ["held/a"]


def test_a_preflight_proves_the_credentials_and_the_bucket(s3: S3Server, bucket: str) -> None:
    with closing(make(s3, bucket)) as sink:
        sink.preflight()
        assert list(sink.list()) == []
    with closing(make(s3, "penstock-no-such-bucket")) as sink, pytest.raises(SinkError, match="no such bucket"):
        sink.preflight()
    with closing(make(s3, bucket, access_key_id="NOBODY")) as sink, pytest.raises(SinkDenied):
        sink.preflight()
