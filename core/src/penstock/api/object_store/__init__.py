"""What all sinks over a network share, so that a sink of a new service is a store that makes single attempts.

    settings    connections, timeouts and the deadline; endpoint, prefix and locks of object stores
    urls        settings from `scheme://place?name=value`
    store       what a service must be asked for: one attempt each, bounded by a deadline
    renewing    credentials that are replaced where they are kept, and what a store makes of them
    retrying    a store whose calls are tried again until the deadline, and lost answers decided
    sink        the contract's `Sink` over such a store
    ranges      ranges of bytes, and whether an answer is the range that was asked for
    refusals    what a service refuses, as one table of each sink
    clock       the service's time, by which locks go
    http        requests over pooled connections (needs urllib3, so it is imported on its own)

Nothing obliges a sink to use any of it: the contract is `Sink`.
"""

from penstock.api.object_store.clock import ServiceClock
from penstock.api.object_store.ranges import ByteRange
from penstock.api.object_store.refusals import Refusal, Refused, Service
from penstock.api.object_store.renewing import KeptCredentials
from penstock.api.object_store.retrying import RetryingStore
from penstock.api.object_store.settings import ConnectionSettings, ObjectStoreSettings
from penstock.api.object_store.sink import ObjectStoreSink
from penstock.api.object_store.store import DamagedTransfer, ObjectStore, Page, RenewingStore
from penstock.api.object_store.urls import settings_of_query, split_url

__all__ = [
    "ByteRange",
    "ConnectionSettings",
    "DamagedTransfer",
    "KeptCredentials",
    "ObjectStore",
    "ObjectStoreSettings",
    "ObjectStoreSink",
    "Page",
    "Refusal",
    "Refused",
    "RenewingStore",
    "RetryingStore",
    "Service",
    "ServiceClock",
    "settings_of_query",
    "split_url",
]
