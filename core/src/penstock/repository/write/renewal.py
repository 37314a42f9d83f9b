"""When a backup stores everything anew, so that what it relied on for long can go with the last snapshot that needs it.

Otherwise its first night is needed for ever: a segment stays as long as one row of it has not changed, and beside it
stay, night by night, the rows that have.
"""

from datetime import UTC, datetime, timedelta

__all__ = ["LEAST_RENEWAL", "last_renewal"]

#: More often would be a full backup a night.
LEAST_RENEWAL = timedelta(days=1)
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


def last_renewal(tag: bytes, every: timedelta, at: datetime) -> datetime:
    """When the backup whose name has this tag was, or had to be, renewed last before `at`.

    It follows from the name alone: a host that knows nothing, and one of several that back up side by side, come to the
    same. The tag spreads the backups of many hosts, so that they do not all store everything anew in one night.
    """
    offset = every * (int.from_bytes(tag[:4]) / 2**32)
    return at - min((at - _EPOCH - offset) % every, at - _EPOCH)
