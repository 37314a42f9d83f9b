"""Ranges of bytes (RFC 9110, section 14), and whether an answer is the range that was asked for."""

from dataclasses import dataclass

from penstock.api.errors import SinkUnreachable

__all__ = ["ByteRange"]


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` on, `length` of them (1 or more), or to the object's end (None)."""

    start: int = 0
    length: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole object."""
        return self.start == 0 and self.length is None

    @property
    def header(self) -> str:
        """The value of a `Range` header."""
        return f"bytes={self.start}-{'' if self.length is None else self.start + self.length - 1}"

    @property
    def headers(self) -> dict[str, str]:
        """The header that asks for it; none for the whole object."""
        return {} if self.is_whole else {"Range": self.header}

    def taken(self, key: str, data: bytes, content_range: str | None) -> bytes:
        """What of an answer's `data` is the range; `content_range` is the answer's header.

        An answer without the header holds the whole object: the whole was asked for, or the service ignored the range.
        Raises `SinkUnreachable` when the answer is another range, or fewer bytes than it says.
        """
        if not content_range:
            return data[self.start :][: self.length] if not self.is_whole else data
        first, total = _parse(content_range)
        end = total if self.length is None else min(self.start + self.length, total)
        if first != self.start or len(data) != end - self.start:
            raise SinkUnreachable(key, f"asked for bytes {self.start} to {end}, but the service gave {content_range}")
        return data

    def is_all(self, data: bytes, content_range: str | None) -> bool:
        """Whether an answer's `data` is the whole object, whose checksum can then be compared."""
        return not content_range or _parse(content_range) == (0, len(data))


def _parse(text: str) -> tuple[int, int]:
    """First byte and total size of `bytes 0-9/100`; -1 where it is something else."""
    try:
        places, _, total = text.removeprefix("bytes").strip().partition("/")
        return int(places.partition("-")[0]), int(total)
    except ValueError:
        return -1, -1
