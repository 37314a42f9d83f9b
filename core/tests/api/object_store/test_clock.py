"""Locks go by the service's time, which every answer tells."""

from datetime import UTC, datetime, timedelta

import pytest

from penstock.api.object_store import ServiceClock, clock


def test_it_goes_on_from_what_the_last_answer_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 100.0
    monkeypatch.setattr(clock, "_elapsed", lambda: seconds)
    monkeypatch.setattr(clock, "_host_time", lambda: datetime(1999, 1, 1, tzinfo=UTC))
    service = ServiceClock()
    assert service.now() == datetime(1999, 1, 1, tzinfo=UTC)
    service.hear("Thu, 26 Nov 2026 06:25:58 GMT")
    told = datetime(2026, 11, 26, 6, 25, 58, tzinfo=UTC)
    assert service.now() == told
    seconds += 3600
    assert service.now() == told + timedelta(hours=1)
    service.hear("Thu, 26 Nov 2026 06:00:00 GMT")  # the service has set its clock back
    assert service.now() == told.replace(minute=0, second=0)


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "Thu, 99 Nov 2026 06:25:58 GMT", "Thu, 26 Nov 2026 06:25:58 -0000"]
)
def test_what_is_no_time_is_passed_over(date: str | None) -> None:
    service = ServiceClock()
    service.hear(date)
    assert abs(service.now() - datetime.now(UTC)) < timedelta(seconds=5)
