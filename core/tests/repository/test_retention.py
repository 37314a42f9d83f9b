"""Retention against a model that looks at every snapshot by itself, with no order of work."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.repository.upkeep.retention import Candidate, Policy, Verdict, decide

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [UTC, BERLIN, ZoneInfo("Asia/Kathmandu"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("America/St_Johns")]
#: Around the hour that Berlin has twice.
AUTUMN = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)


def at(moment: str, name: int = 0, **more: object) -> Candidate:
    return Candidate(name.to_bytes(16, "big"), datetime.fromisoformat(moment), **more)  # type: ignore[arg-type]


def kept(policy: Policy, candidates: Sequence[Candidate]) -> list[str]:
    return [one.candidate.time.isoformat() for one in decide(policy, candidates) if one.kept]


times = st.one_of(
    st.integers(0, 3 * 365 * 24).map(lambda hours: AUTUMN - timedelta(hours=hours)),
    st.integers(-300, 300).map(lambda minutes: AUTUMN + timedelta(minutes=minutes)),
)
candidates = st.lists(
    st.builds(
        Candidate,
        st.integers(0, 2**64).map(lambda number: number.to_bytes(16, "big")),
        times,
        st.frozensets(st.sampled_from(["release", "before-upgrade"])),
        st.sampled_from([None, None, None, "the auditors"]),
        st.sampled_from(["", "", "", "damaged"]),
    ),
    max_size=40,
    unique_by=lambda one: one.id,
)
counts = st.integers(0, 5)
policies = st.builds(
    Policy,
    last=counts,
    within=st.integers(0, 100).map(lambda hours: timedelta(hours=hours)),
    hourly=counts,
    daily=counts,
    weekly=counts,
    monthly=counts,
    yearly=counts,
    tags=st.frozensets(st.sampled_from(["release"])),
    at_least=st.integers(1, 4),
    zone=st.sampled_from(ZONES),
)
PERIODS: dict[str, Callable[[datetime], object]] = {
    "hourly": lambda local: (local.year, local.month, local.day, local.hour, local.utcoffset()),
    "daily": lambda local: (local.year, local.month, local.day),
    "weekly": lambda local: (local - timedelta(days=local.weekday())).date(),
    "monthly": lambda local: (local.year, local.month),
    "yearly": lambda local: local.year,
}


def modelled(policy: Policy, them: Sequence[Candidate]) -> set[bytes]:
    """The ids that stay, by what the page says of each rule."""

    def newer(one: Candidate) -> list[Candidate]:
        return [other for other in them if (other.time, other.id) > (one.time, one.id) and not other.discounted]

    def stays(one: Candidate) -> bool:
        if one.hold is not None or one.tags & policy.tags or len(newer(one)) < policy.last:
            return True
        counted = [other.time for other in them if not other.discounted]
        if policy.within and counted and one.time >= max(counted) - policy.within:
            return True
        for name, period in PERIODS.items():
            mine = period(one.time.astimezone(policy.zone))
            theirs = {period(other.time.astimezone(policy.zone)) for other in newer(one)}
            if mine not in theirs and len(theirs) < getattr(policy, name):
                return True
        return False

    found = {one.id for one in them if stays(one)}
    counting = [one for one in them if not one.discounted]
    while len(found & {one.id for one in counting}) < min(policy.at_least, len(counting)):
        least = max((one.time, one.id) for one in counting if one.id not in found)
        found |= {one.id for one in them if (one.time, one.id) >= least}
    if len(counting) < policy.at_least:
        found |= {one.id for one in them}
    return found


@pytest.mark.slow
@given(policies, candidates)
@example(Policy(hourly=5, zone=BERLIN), [at("2026-10-25T00:30Z", 1), at("2026-10-25T01:30Z", 2)])
def test_what_stays_is_what_the_rules_say(policy: Policy, them: list[Candidate]) -> None:
    verdicts = decide(policy, them)
    assert {one.candidate.id for one in verdicts if one.kept} == modelled(policy, them)
    assert sorted(one.candidate.id for one in verdicts) == sorted(one.id for one in them)
    assert [one.candidate.time for one in verdicts] == sorted((one.time for one in them), reverse=True)


@pytest.mark.slow
@given(policies, candidates)
def test_deciding_again_on_what_stayed_forgets_nothing_more(policy: Policy, them: list[Candidate]) -> None:
    stayed = [one.candidate for one in decide(policy, them) if one.kept]
    assert all(one.kept for one in decide(policy, stayed))


@pytest.mark.slow
@given(policies, candidates, candidates)
def test_what_does_not_count_keeps_nobody_out(policy: Policy, them: list[Candidate], bad: list[Candidate]) -> None:
    names = {one.id for one in them}
    more = [Candidate(one.id, one.time, discounted="damaged") for one in bad if one.id not in names]
    before = {one.candidate.id for one in decide(policy, them) if one.kept}
    after = {one.candidate.id for one in decide(policy, [*them, *more]) if one.kept}
    assert after & names == before


def test_the_hour_that_daylight_saving_repeats_is_two() -> None:
    them = [at("2026-10-25T02:30+02:00", 1), at("2026-10-25T02:30+01:00", 2)]
    assert len(kept(Policy(hourly=2, at_least=1, zone=BERLIN), them)) == 2
    assert len(kept(Policy(daily=2, at_least=1, zone=BERLIN), them)) == 1


def test_days_are_those_of_the_zone() -> None:
    them = [at("2026-03-01T22:30+00:00", 1), at("2026-03-01T23:30+00:00", 2)]
    assert len(kept(Policy(daily=5, at_least=1), them)) == 1
    assert len(kept(Policy(daily=5, at_least=1, zone=BERLIN), them)) == 2


def test_weeks_at_the_turn_of_a_year_are_whole() -> None:
    them = [at("2026-12-31T12:00+00:00", 1), at("2027-01-01T12:00+00:00", 2), at("2027-01-04T12:00+00:00", 3)]
    assert kept(Policy(weekly=2, at_least=1), them) == ["2027-01-04T12:00:00+00:00", "2027-01-01T12:00:00+00:00"]


def test_nothing_more_goes_where_no_more_backups_come() -> None:
    them = [at("2020-01-01T00:00+00:00", 1), at("2020-01-02T00:00+00:00", 2), at("2020-01-09T00:00+00:00", 3)]
    assert len(kept(Policy(within=timedelta(days=7), at_least=1), them)) == 2


@pytest.mark.parametrize(
    ("policy", "reasons"),
    [
        (Policy(last=1, tags=frozenset({"a"}), at_least=1), [("last 1 of 1",), ("tag a",), ("hold: audit",), ()]),
        (Policy(daily=2, at_least=2), [("daily 1 of 2",), (), ("hold: audit",), ()]),
        (Policy(daily=2, at_least=3), [("daily 1 of 2",), ("at least 3",), ("hold: audit",), ()]),
        (Policy(tags=frozenset({"b"}), at_least=2), [("at least 2",), (), ("hold: audit",), ()]),
    ],
)
def test_each_verdict_says_why(policy: Policy, reasons: list[tuple[str, ...]]) -> None:
    them = [
        at("2026-01-04T04:00+00:00", 1),
        at("2026-01-04T03:00+00:00", 2, tags=frozenset({"a"})),
        at("2026-01-04T02:00+00:00", 3, hold="audit"),
        at("2026-01-04T01:00+00:00", 4),
    ]
    verdicts: list[Verdict] = decide(policy, them)
    assert [one.reasons for one in verdicts] == reasons


@pytest.mark.parametrize(
    ("length", "said"), [(timedelta(days=14), "14d"), (timedelta(hours=36), "1d12h"), (timedelta(minutes=90), "1h30m")]
)
def test_a_length_of_time_is_said_as_it_is_written(length: timedelta, said: str) -> None:
    (verdict,) = decide(Policy(within=length), [at("2026-01-04T04:00+00:00")])
    assert verdict.reasons == (f"within {said}",)
