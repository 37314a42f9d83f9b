"""Jobs that rename collections beside a dump with the oplog, as `$out` does: it is made again, and not for ever."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from core.tests.repository.lab import Lab
from plugins.sources.mongodb.tests.conftest import MakeSource
from tests.servers.mongodb import MongoServer

from penstock.api import DumpFailed, Event, EventKind

pytestmark = pytest.mark.server

ORDERS = 3000


@contextmanager
def out_jobs(server: MongoServer) -> Iterator[threading.Event]:
    """Reports that are made all the time, by `$out`, until the event or the end of the block."""
    ended, begun = threading.Event(), threading.Event()

    def make_reports() -> None:
        with server.connected() as client:
            while not ended.is_set():
                client.shop.orders.aggregate([{"$limit": 50}, {"$project": {"data": 0}}, {"$out": "report"}])
                begun.set()

    with server.connected() as client:
        client.shop.orders.insert_many({"_id": i, "data": "x" * 1000} for i in range(ORDERS))
    thread = threading.Thread(target=make_reports)
    thread.start()
    try:
        assert begun.wait(120)
        yield ended
    finally:
        ended.set()
        thread.join()


class Listener(list[Event]):
    """Sets an event at the first retry."""

    def __init__(self, ended: threading.Event) -> None:
        super().__init__()
        self._ended = ended

    def append(self, event: Event) -> None:
        super().append(event)
        if event.kind is EventKind.RETRY:
            self._ended.set()


def test_a_dump_beside_which_collections_were_renamed_is_made_again(
    every_mongo: MongoServer, source_of: MakeSource, tmp_path: Path
) -> None:
    lab = Lab(tmp_path)
    source = source_of(every_mongo)
    with out_jobs(every_mongo) as ended:
        lab.events = Listener(ended)
        result = lab.backup(source)
    assert result.retries == 1
    (said,) = (event.message for event in lab.events if event.kind is EventKind.RETRY)
    assert said.endswith("a collection was renamed meanwhile: the dump begins again")
    every_mongo.wipe()
    lab.restore(into=source)
    with every_mongo.connected() as client:
        assert client.shop.orders.count_documents({}) == ORDERS
        assert client.shop.report.count_documents({}) == 50


def test_a_job_that_renames_all_the_time_is_named_in_the_end(
    every_mongo: MongoServer, source_of: MakeSource, tmp_path: Path
) -> None:
    lab = Lab(tmp_path)
    with out_jobs(every_mongo):
        with pytest.raises(DumpFailed, match="a collection was renamed meanwhile") as caught:
            lab.backup(source_of(every_mongo))
        assert caught.value.exit_code == 45
        assert "$out" in (caught.value.hint or "")
        assert "oplog = no" in (caught.value.hint or "")
        assert sum(event.kind is EventKind.RETRY for event in lab.events) == 2
        assert lab.backup(source_of(every_mongo, oplog="no")).retries == 0
