"""Times as objects hold them."""

from datetime import UTC, datetime

__all__ = ["as_text", "is_time", "now"]


def as_text(moment: datetime) -> str:
    """ISO 8601 in UTC; such texts sort as the times do. Microseconds keep two runs in one second in order."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def now() -> str:
    """The time of this host."""
    return as_text(datetime.now(UTC))


def is_time(text: str) -> bool:
    """Whether it is a time, spelled as objects hold them."""
    try:
        return as_text(datetime.fromisoformat(text)) == text
    except (ValueError, OverflowError):
        return False
