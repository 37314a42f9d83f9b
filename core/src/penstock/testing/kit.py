"""What the conformance kits have in common: no test of a kit is replaced, or left out, without a word."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, final

import pytest

from penstock.api import PenstockError

__all__ = [
    "ConformanceKit",
    "NotApplicable",
    "Raised",
    "applicable",
    "deviates",
    "essential",
    "must_raise",
    "must_work",
]

E = TypeVar("E", bound=BaseException)
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


def essential(instead: str) -> Callable[[F], F]:
    """Mark a test of a kit that no plugin may replace. `instead` says what a plugin does that cannot pass it."""

    def mark(function: F) -> F:
        vars(function)["__penstock_essential__"] = instead
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
    """The value, where there is one; otherwise the test is a skip that gives the author's reason."""
    if isinstance(value, NotApplicable):
        pytest.skip(f"not applicable: {value.reason}")
    return value


class Raised(Generic[E]):
    """What a block raised, once it was left."""

    error: E


@contextmanager
def must_raise(kind: type[E], doing: str) -> Iterator[Raised[E]]:
    """Fail unless the block raises `kind`, and say what happened instead. `doing` names the call, for the message."""
    raised: Raised[E] = Raised()
    try:
        yield raised
    except kind as error:
        raised.error = error
        return
    except PenstockError as error:
        pytest.fail(f"{doing} must raise {kind.__name__}, and raised {type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - whatever a plugin lets through
        name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        pytest.fail(
            f"{doing} must raise {kind.__name__}, and let {name} through: "
            "a plugin translates the errors of SDKs and of the system, and keeps them as the cause"
        )
    pytest.fail(f"{doing} must raise {kind.__name__}, and raised nothing")


@contextmanager
def must_work(doing: str) -> Iterator[None]:
    """Fail where the block raises an error of the plugin's, and say what it was that should have worked."""
    try:
        yield
    except Exception as error:
        if isinstance(error, AssertionError):
            raise
        said = error.message if isinstance(error, PenstockError) else repr(error)
        raise AssertionError(f"{doing} must work, and raised {type(error).__name__}: {said}") from error


class ConformanceKit:
    """Base of the kits. A class that derives from it directly is a kit; what derives from that tests one plugin."""

    _kit: ClassVar[type["ConformanceKit"]]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if not hasattr(cls, "_kit"):  # so naming the base again does not make a kit of a plugin's tests
            cls._kit = cls
        if getattr(cls, _GUARD) is not vars(ConformanceKit)[_GUARD]:
            raise TypeError(f"{_GUARD} cannot be replaced")

    @final
    def test_no_test_is_replaced_silently(self) -> None:
        """Every test is the kit's own, or says with `deviates` why it is not; some are never replaced."""
        silently = []
        for name in dir(self._kit):
            original, mine = getattr(self._kit, name), getattr(type(self), name)
            if not name.startswith("test_") or mine is original:
                continue
            instead = getattr(original, "__penstock_essential__", "")
            assert not instead, f"{type(self).__name__} replaces {name}, which no plugin may: {instead}"
            if not getattr(mine, "__penstock_deviates__", ""):
                silently.append(name)
        assert not silently, f"{type(self).__name__} replaces without @deviates: {', '.join(silently)}"
