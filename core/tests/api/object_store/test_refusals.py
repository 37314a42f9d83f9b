import pytest

from penstock.api import ObjectExists, ObjectMissing, SinkDenied, SinkError, SinkFull, SinkUnreachable
from penstock.api.object_store import Refusal, Refused, Service

SERVICE = Service(
    "https://host",
    {
        "NoBucket": Refusal(SinkError, "no such bucket: {bucket}", "Create {bucket}."),
        ("put", "Odd"): Refusal(SinkFull, "{said}"),
        "Odd": Refusal(SinkError, "odd {action}"),
        ("put", 404): Refusal(SinkError, "not here"),
        403: lambda refused: Refusal(SinkDenied, "{said}", f"Allow {refused.action}."),
    },
    names={"bucket": "shop"},
    connect_timeout=10,
)


@pytest.mark.parametrize(
    ("refused", "kind", "says"),
    [
        (Refused("get", 404), ObjectMissing, "a: no such object"),
        (Refused("put", 404), SinkError, "a: not here"),
        (Refused("get", 404, code="NoBucket"), SinkError, "a: no such bucket: shop"),
        (Refused("put", 400, code="Odd", said="what {it} says"), SinkFull, "a: what {it} says (Odd)"),
        (Refused("get", 400, code="Odd"), SinkError, "a: odd get"),
        (Refused("put", 412), ObjectExists, "a: the object exists already"),
        (Refused("put", 403, said="no"), SinkDenied, "a: no (status 403)"),
        (Refused("put", 401), SinkDenied, "a: access denied: no reason given (status 401)"),
        (Refused("put", 507, said="full"), SinkFull, "a: full (status 507)"),
        (Refused("put", 429), SinkUnreachable, "a: the service cannot answer: no reason given (status 429)"),
        (Refused("put", 503, code="Slow"), SinkUnreachable, "a: the service cannot answer: no reason given (Slow)"),
        (Refused("put", 418, said="teapot"), SinkError, "a: teapot (status 418)"),
    ],
)  # fmt: skip
def test_a_refusal_is_found_in_the_sinks_table_first_and_then_among_the_usual(
    refused: Refused, kind: type[SinkError], says: str
) -> None:
    error = SERVICE.refused("a", refused)
    assert type(error) is kind
    assert str(error) == says


def test_hints_hold_the_names_that_the_sink_gave() -> None:
    assert SERVICE.refused("a", Refused("get", 404, code="NoBucket")).hint == "Create shop."
    assert SERVICE.refused("a", Refused("get", 403)).hint == "Allow get."
    braces = "a {host}, {0} and {"
    assert SERVICE.refused("a", Refused(braces, 403)).hint == f"Allow {braces}."


def test_what_goes_wrong_on_the_way_has_one_sentence_for_every_sink() -> None:
    assert str(SERVICE.unconnected("a", "refused")) == "a: cannot connect to https://host: refused"
    assert str(SERVICE.unconnected("a")) == "a: cannot connect to https://host"
    assert str(SERVICE.slow_to_connect("a")) == "a: https://host did not accept a connection within 10 seconds"
    for error in (SERVICE.silent("a"), SERVICE.broke("a", "reset")):
        assert error.retryable
    for error in (SERVICE.untrusted("a"), SERVICE.without_tls("a"), SERVICE.unreadable("a", "the API")):
        assert not error.retryable
        assert error.hint
