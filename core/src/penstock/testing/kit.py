"""What the conformance kits have in common: no test of a kit is replaced, or left out, without a word."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, final

import pytest

__all__ = ["ConformanceKit", "NotApplicable", "applicable", "deviates"]

F = TypeVar("F", bound=Callable[..., object])
T = TypeVar("T")

_GUARD = "test_no_test_is_replaced_silently"


def deviates(reason: str) -> Callable[[F], F]:
    """Mark a test of a kit as replaced on purpose. `reason` says what the plugin does instead, and why."""
    if not reason.strip():
        raise ValueError("deviates: say what the plugin does instead, and why")

    def mark(function: F) -> F:
        vars(function)["__penstock_deviates__"] = reason
        return function

    return mark


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """Stands where a plugin has nothing to give, and says why: the tests that need it are skips with that reason."""

    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("NotApplicable: say why")


def applicable(value: T | NotApplicable) -> T:
    """The value, where there is one; else the test is a skip that gives the author's reason."""
    if isinstance(value, NotApplicable):
        pytest.skip(f"not applicable: {value.reason}")
    return value


class ConformanceKit:
    """Base of the kits. A class that derives from it directly is a kit; what derives from that tests one plugin."""

    _kit: ClassVar[type["ConformanceKit"]]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if ConformanceKit in cls.__bases__:
            cls._kit = cls
        if getattr(cls, _GUARD) is not vars(ConformanceKit)[_GUARD]:
            raise TypeError(f"{_GUARD} cannot be replaced")

    @final
    def test_no_test_is_replaced_silently(self) -> None:
        """Every test is the kit's own, or says with `deviates` why it is not."""
        replaced = [
            name
            for name, original in vars(self._kit).items()
            if name.startswith("test_")
            and (mine := getattr(type(self), name)) is not original
            and not getattr(mine, "__penstock_deviates__", "")
        ]
        assert not replaced, f"{type(self).__name__} replaces without @deviates: {', '.join(replaced)}"
