"""Whoever could write a snapshot chose what its manifest says of the streams: no other name becomes an argument."""

import json
from dataclasses import replace

import pytest
from plugins.sources.mongodb.tests.conftest import MakeSource
from tests.servers.mongodb import MongoServer
from tests.servers.streams import blocks_of, dump_all

from penstock.api import RestoreFailed, RestoreTarget, UsageError
from penstock.testing.dumping import restore_one

pytestmark = pytest.mark.server


def of(name: str) -> dict[str, str]:
    return {"database": name, "databases": json.dumps([name])}


HOSTILE = [
    of("local"),
    of("config"),
    of("a.b"),
    of("a\0b"),
    of("a/b"),
    of(""),
    {"databases": '["other"]'},
    {"databases": '{"small": 1}'},
    {"databases": '"small"'},
    {"databases": "[1]"},
    {"databases": "not json"},
    {"oplog": "maybe"},
    {"oplog": "yes"},
    {"broken_names": '"a.b"'},
    {"broken_names": '["local.x"]'},
    {"broken_names": '["small"]'},
    {"broken_names": '["small.a\\u0000b"]'},
    {"server_version": "9" * 5000},
    {"client_version": ""},
]


def test_hostile_attributes_are_refused_before_and_during_the_restore(
    mongo: MongoServer, source_of: MakeSource
) -> None:
    with mongo.connected() as client:
        client.small.t.insert_one({"i": 1})
    spec, data = dump_all(source_of(mongo, database="small"))["small.archive"]
    source = source_of(mongo)
    target = RestoreTarget(clean=True)
    for wrong in HOSTILE:
        one = replace(spec, attributes=dict(spec.attributes) | wrong)
        with pytest.raises(RestoreFailed, match=r"^small\.archive cannot be restored: its snapshot records"):
            source.plan_restore([one], target)
        with pytest.raises(RestoreFailed, match="cannot be restored: its snapshot records"):  # nobody had asked
            restore_one(source, one, blocks_of(data), target)
    with pytest.raises(UsageError, match="has the format sql"):
        source.plan_restore([replace(spec, format="sql")], target)
    with mongo.connected() as client:
        assert client.small.t.count_documents({}) == 1
