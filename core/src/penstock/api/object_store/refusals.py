"""What a service refuses, and what goes wrong on the way to it, in the words of the sink's contract.

A sink fills one table:

    _TABLE = {
        "NoSuchBucket": Refusal(SinkError, "no such bucket: {bucket}", "Create the bucket first."),
        ("put", 404): Refusal(...),     # a status of one action
        403: _denied,                   # a function of the `Refused` that gives a `Refusal`
    }
    service = Service("https://host", _TABLE, names={"bucket": "shop"}, connect_timeout=10)
    raise service.refused(key, refused) from refused
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from penstock.api.errors import ObjectExists, ObjectMissing, SinkDenied, SinkError, SinkFull, SinkUnreachable

__all__ = ["BUSY", "DAMAGED", "EXISTS", "FULL", "MISSING", "Refusal", "Refused", "Service", "Table", "one_line"]


class Refused(Exception):
    """An answer that is not a success.

    `action` is what was asked for ("put", "get", "stat", "list", "delete", "retain"), `code` the service's own word,
    `said` its message on one line, `wait` the seconds after which it may be asked again. None of them holds a secret.
    """

    def __init__(self, action: str, status: int, *, code: str = "", said: str = "", wait: float | None = None) -> None:
        super().__init__(f"{action}: {status} {code} {said}".strip())
        self.action = action
        self.status = status
        self.code = code
        self.said = said
        self.wait = wait

    @property
    def words(self) -> str:
        """What the service said, with its code or status."""
        told = self.code or f"status {self.status}"
        return f"{self.said} ({told})" if self.said else f"no reason given ({told})"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a refusal means. `reason` and `hint` may hold `{said}`, `{action}` and the names that the sink gave."""

    error: type[SinkError]
    reason: str
    hint: str | None = None


Table: TypeAlias = Mapping[str | int | tuple[str, str | int], Refusal | Callable[[Refused], Refusal]]

MISSING = Refusal(ObjectMissing, "no such object")
EXISTS = Refusal(ObjectExists, "the object exists already")
BUSY = Refusal(SinkUnreachable, "the service cannot answer: {said}")
DAMAGED = Refusal(SinkUnreachable, "the transfer was damaged: {said}")
FULL = Refusal(SinkFull, "{said}", "Free some space or raise the quota, then run again.")
_DENIED = Refusal(SinkDenied, "access denied: {said}", "Check the credentials and their permissions.")

_USUAL: Table = {
    401: _DENIED,
    403: _DENIED,
    404: MISSING,
    412: EXISTS,
    507: FULL,
    **dict.fromkeys((408, 425, 429, 500, 502, 503, 504, 509), BUSY),
}


_NAME = re.compile(r"\{(\w+)\}")


class Service:
    """What errors call a service, and the table of its refusals.

    A refusal is looked up by (action, code), code, (action, status) and status: first in the sink's table, then in the
    usual meanings of HTTP statuses. Anything else is a `SinkError` in the service's own words.
    """

    def __init__(self, where: str, table: Table, *, names: Mapping[str, str], connect_timeout: float) -> None:
        self.where = where
        self._table = table
        self._names = names
        self._connect_timeout = connect_timeout

    def refused(self, key: str, refused: Refused) -> SinkError:
        """The error for an answer that is not a success; raise it from `refused`."""
        found = self._found(refused)
        meaning = found if isinstance(found, Refusal) else found(refused)
        words = {**self._names, "said": refused.words, "action": refused.action}

        def filled(text: str) -> str:  # unlike str.format, with whatever braces the service's own words have
            return _NAME.sub(lambda found: words.get(found[1], found[0]), text)

        hint = None if meaning.hint is None else filled(meaning.hint)
        return meaning.error(key, filled(meaning.reason), hint=hint)

    def untrusted(self, key: str) -> SinkError:
        """Its certificate is not trusted."""
        hint = "Set tls_ca to the certificate of the authority that signed it."
        return SinkError(key, f"the certificate of {self.where} is not trusted", hint=hint)

    def without_tls(self, key: str) -> SinkError:
        """It answers, but not in TLS."""
        return SinkError(key, f"{self.where} does not speak TLS", hint="Use http:// if that is what it speaks.")

    def unconnected(self, key: str, why: str = "") -> SinkError:
        """No connection came about."""
        hint = "Check that the service is up, and that its address is right."
        return SinkUnreachable(key, f"cannot connect to {self.where}" + (f": {why}" if why else ""), hint=hint)

    def slow_to_connect(self, key: str) -> SinkError:
        """No connection came about in time."""
        return SinkUnreachable(
            key, f"{self.where} did not accept a connection within {self._connect_timeout:g} seconds"
        )

    def silent(self, key: str) -> SinkError:
        """No answer came in time."""
        return SinkUnreachable(key, f"{self.where} did not answer in time")

    def broke(self, key: str, why: str) -> SinkError:
        """The connection ended too early."""
        return SinkUnreachable(key, f"the connection to {self.where} broke: {why}")

    def unreadable(self, key: str, api: str) -> SinkError:
        """Its answer does not belong to that API."""
        reason = f"the answer of {self.where} cannot be parsed"
        return SinkError(key, reason, hint=f"Check that it speaks {api}, and that no other service answers for it.")

    def _found(self, refused: Refused) -> Refusal | Callable[[Refused], Refusal]:
        asked = ((refused.action, refused.code), refused.code, (refused.action, refused.status), refused.status)
        for table in (self._table, _USUAL):
            for place in asked:
                if place and place in table:
                    return table[place]
        return Refusal(SinkError, "{said}")


def one_line(text: str) -> str:
    """The text on one line, not longer than an error can be read."""
    return " ".join(text.split())[:300]
