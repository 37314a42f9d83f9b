"""What time it is at the service: a lock goes by its clock, not by that of a host that may be months behind."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

__all__ = ["ServiceClock"]


class ServiceClock:
    """Hears the service's time in every answer, and goes on from there. Safe to use from several threads.

    Until the first answer it is this host's clock.
    """

    def __init__(self) -> None:
        self._heard: tuple[datetime, float] | None = None

    def hear(self, date: str | None) -> None:
        """An answer had this `Date` header (RFC 9110, section 6.6.1); one that cannot be parsed is passed over."""
        try:
            told = parsedate_to_datetime(date or "")
        except ValueError:
            return
        if told.tzinfo is not None:
            self._heard = (told.astimezone(UTC), _elapsed())

    def now(self) -> datetime:
        """The time in UTC."""
        if self._heard is None:
            return _host_time()
        told, then = self._heard
        return told + timedelta(seconds=_elapsed() - then)


def _host_time() -> datetime:
    return datetime.now(UTC)


def _elapsed() -> float:
    """Seconds; those that the machine sleeps count too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
