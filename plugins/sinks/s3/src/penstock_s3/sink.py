"""An S3 bucket, or a part of one, as a sink: each object is one PUT."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.api import Capability, ObjectExists, ObjectMissing, PolicyText, Rights, validate_key
from penstock.api.object_store import ObjectStoreSink
from penstock_s3.policy import policy_of
from penstock_s3.settings import S3Settings, settings_from_url

if TYPE_CHECKING:
    from penstock_s3.store import S3Store

__all__ = ["S3Sink"]


class S3Sink(ObjectStoreSink["S3Store"]):
    """Keeps each object under its key, below the prefix, in a bucket of S3 or of a service that speaks its protocol.

    Nothing is imported, and no connection made, before the first call. One client serves all threads. Each call has
    one total deadline over all its attempts.

    `CONDITIONAL_PUT` is declared when the service was seen to honour `If-None-Match`, or the settings say so: asking
    for `capabilities()` may therefore make two small requests, once. Without it, `put(if_absent=True)` looks before it
    writes, which decides between threads of this instance only.
    """

    name = "s3"
    schemes = ("s3",)
    Settings = S3Settings

    settings: S3Settings

    def __init__(self, settings: S3Settings) -> None:
        super().__init__(settings)
        self._probing = threading.Lock()
        self._conditional: bool | None = {"auto": None, "yes": True, "no": False}[settings.conditional_put]
        self._looking = threading.Lock()

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`s3://bucket/prefix?endpoint=https://host&region=…` as settings. Raises `UsageError`."""
        return settings_from_url(url)

    def connect(self) -> "S3Store":
        """Import the SDK."""
        from penstock_s3.store import S3Store

        return S3Store(self.settings)

    def capabilities(self) -> frozenset[Capability]:
        """What this bucket can do. Asks the service once; raises `SinkError`."""
        found = super().capabilities()
        return found if self._is_conditional() else found - {Capability.CONDITIONAL_PUT}

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """One PUT, with a checksum that the service compares; it answers when the object is durable."""
        validate_key(key)
        if not if_absent or self._is_conditional():
            self.store.put(key, data, if_absent=if_absent)
            return
        with self._looking:
            try:
                self.store.stat(key)
            except ObjectMissing:
                self.store.put(key, data, if_absent=False)
                return
        raise ObjectExists(key, "the object exists already")

    def policy(self, rights: Sequence[Rights]) -> tuple[PolicyText, ...]:
        """An IAM policy, a bucket policy, and what to know of versions and locks."""
        return policy_of(self.settings, rights)

    def _is_conditional(self) -> bool:
        with self._probing:
            if self._conditional is None:
                self._conditional = self.store.call(self.store.store.knows_conditions)
            return self._conditional
