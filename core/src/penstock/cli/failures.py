"""What commands that do several things say at the end of those that failed."""

from penstock.api.errors import PenstockError

__all__ = ["NAMED", "lines_of"]

#: Snapshots or objects that an error names.
NAMED = 20


def lines_of(name: str, error: PenstockError) -> list[str]:
    """An error of one of several things as `details` of the error about all: the thing's name comes first."""
    lines = [f"{name}: {error.message}", *(f"  {line}" for line in error.details)]
    return [*lines, f"  hint: {error.hint}"] if error.hint else lines
