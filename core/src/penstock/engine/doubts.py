"""Doubts: what is passed over, told in a few sentences however much of it a stranger has put there."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from penstock.api.errors import RepositoryError

__all__ = ["Doubts"]

#: So many are told one by one.
_TOLD = 10


class Doubts:
    """Tells `warn` of objects that are passed over: the first ones each, the others by their number at the end.

    What was told is not told again: several workers come upon the same object. A context manager. Safe to use from
    several threads: at worst one more is told.
    """

    def __init__(self, warn: Callable[[str], object], how: str) -> None:
        self._warn = warn
        self._how = how
        self._count = 0
        self._told: set[str] = set()

    def __call__(self, error: RepositoryError) -> None:
        """One more."""
        text = str(error)
        if text in self._told:
            return
        self._count += 1
        if self._count <= _TOLD:
            self._told.add(text)
            self._warn(f"{self._how}: {text}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._count > _TOLD:
            self._warn(f"{self._how}: {self._count - _TOLD} more objects; penstock check names them")
