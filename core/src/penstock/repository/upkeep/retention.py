"""Which snapshots of one backup are kept, and why: a pure function of their times, and of what was said of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

__all__ = ["Candidate", "Policy", "Verdict", "decide"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What is kept of one backup.

    `last` is a number of snapshots. Each number from `hourly` to `yearly` is one of periods that have a snapshot,
    counted from the newest; of each the newest snapshot is kept. `within` counts from the newest snapshot, not from
    now: where no more backups come, nothing more goes. `at_least` so many are kept, whatever the rest says.
    """

    last: int = 0
    within: timedelta = timedelta()
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    tags: frozenset[str] = frozenset()
    at_least: int = 3
    zone: tzinfo = UTC

    @property
    def keeps_something(self) -> bool:
        """Whether any rule but `at_least` keeps a snapshot; one without them is somebody's mistake."""
        return any((self.last, self.within, self.tags, *(getattr(self, name) for name in _PERIODS)))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A snapshot, as far as this depends on it; `time` is the store's."""

    id: bytes
    time: datetime
    tags: frozenset[str] = frozenset()
    #: Why it must not be forgotten; None where nobody said so.
    hold: str | None = None
    #: Why it counts for nobody: it is damaged, or claims to be of the future; "" if it counts.
    discounted: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A snapshot with what keeps it; nothing does if there are no reasons, and then it may be forgotten."""

    candidate: Candidate
    reasons: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether it stays."""
        return bool(self.reasons)


def decide(policy: Policy, candidates: Iterable[Candidate]) -> list[Verdict]:
    """A verdict on each, newest first.

    One that is `discounted` takes nobody's place: it is kept where it would be if it counted, beside those that do.
    """
    newest_first = sorted(candidates, key=lambda one: (one.time, one.id), reverse=True)
    reasons: dict[bytes, list[str]] = {one.id: [] for one in newest_first}
    for one in newest_first:
        if one.hold is not None:
            reasons[one.id].append(f"hold: {one.hold}")
        reasons[one.id] += [f"tag {tag}" for tag in sorted(one.tags & policy.tags)]
    _keep_within(policy, newest_first, reasons)
    _keep_periods("last", policy.last, lambda one: one.id, newest_first, reasons)
    for name, period in _PERIODS.items():
        _keep_periods(name, getattr(policy, name), _local(period, policy.zone), newest_first, reasons)
    _keep_at_least(policy, newest_first, reasons)
    return [Verdict(one, tuple(reasons[one.id])) for one in newest_first]


def _hour(local: datetime) -> tuple[str, timedelta | None]:
    # An hour that daylight saving repeats is two hours.
    return local.strftime("%Y-%m-%d %H:00"), local.utcoffset()


def _week(local: datetime) -> str:
    year, week, _ = local.isocalendar()
    return f"{year}-W{week:02}"


#: The period that a local time is in.
_PERIODS: dict[str, Callable[[datetime], object]] = {
    "hourly": _hour,
    "daily": lambda local: local.date(),
    "weekly": _week,
    "monthly": lambda local: local.strftime("%Y-%m"),
    "yearly": lambda local: local.year,
}


def _local(period: Callable[[datetime], object], zone: tzinfo) -> Callable[[Candidate], object]:
    return lambda one: period(one.time.astimezone(zone))


def _keep_periods(
    name: str,
    count: int,
    period: Callable[[Candidate], object],
    newest_first: Sequence[Candidate],
    reasons: dict[bytes, list[str]],
) -> None:
    """Keep the newest snapshot of each of the `count` newest periods that have one which counts."""
    taken: set[object] = set()
    for one in newest_first:
        if len(taken) == count:
            return
        here = period(one)
        if here in taken:
            continue  # a newer one has its place
        if one.discounted:
            reasons[one.id].append(f"{name}, not counted")
        else:
            taken.add(here)
            reasons[one.id].append(f"{name} {len(taken)} of {count}")


def _keep_within(policy: Policy, newest_first: Sequence[Candidate], reasons: dict[bytes, list[str]]) -> None:
    newest = next((one.time for one in newest_first if not one.discounted), None)
    if newest is None or not policy.within:
        return
    for one in newest_first:
        if one.time >= newest - policy.within:
            reasons[one.id].append(f"within {_length(policy.within)}")


def _length(length: timedelta) -> str:
    """As the settings have it: `2d`, `1d12h`."""
    minutes = int(length / timedelta(minutes=1))
    days, hours = divmod(minutes // 60, 24)
    parts = {"d": days, "h": hours, "m": minutes % 60}
    return "".join(f"{number}{unit}" for unit, number in parts.items() if number)


def _keep_at_least(policy: Policy, newest_first: Sequence[Candidate], reasons: dict[bytes, list[str]]) -> None:
    """Keep the newest, until enough of those that count are kept; of a backup without a good one, all."""
    missing = policy.at_least - sum(1 for one in newest_first if reasons[one.id] and not one.discounted)
    for one in newest_first:
        if missing <= 0:
            return
        if reasons[one.id]:
            continue
        if one.discounted:
            reasons[one.id].append(f"at least {policy.at_least}, not counted")
        else:
            reasons[one.id].append(f"at least {policy.at_least}")
            missing -= 1
