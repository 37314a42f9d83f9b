"""What lies in a folder of nightly dumps."""

from pathlib import Path

__all__ = ["changes_of", "dump_of", "dumps", "keep_separator", "separator_of"]

_SEPARATOR = "separator"


def dumps(folder: Path) -> list[Path]:
    """The dumps in `folder`, night by night."""
    return sorted(folder.glob("night-*.dump"))


def dump_of(folder: Path, night: int) -> Path:
    """Where the dump of a night is; the first is 1."""
    return folder / f"night-{night:02d}.dump"


def changes_of(dump: Path) -> Path:
    """The file of exactly what the dump before did not have: rows, documents, pages. It may be missing."""
    return dump.with_suffix(".changes")


def keep_separator(folder: Path, separator: bytes) -> None:
    """Note what ends a record in the dumps."""
    (folder / _SEPARATOR).write_bytes(separator)


def separator_of(folder: Path) -> bytes:
    """What ends a record in the dumps: where nothing is noted, a line ends it."""
    place = folder / _SEPARATOR
    return place.read_bytes() if place.exists() else b"\n"
