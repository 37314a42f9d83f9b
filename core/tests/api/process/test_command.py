"""Small commands and their answers."""

import pytest
from core.tests.api.process.children import NAME

from penstock.api import SourceDenied, SourceError, run_child


def test_the_answer_is_what_it_wrote() -> None:
    assert run_child(["echo", "dump 17.2"], name=NAME, timeout=60) == b"dump 17.2\n"


def test_the_input_reaches_it() -> None:
    data = bytes(range(256)) * 4096
    assert run_child(["cat"], name=NAME, timeout=60, input=data) == data
    assert run_child(["cat"], name=NAME, timeout=60, input=b"") == b""


def test_it_need_not_read_its_input() -> None:
    assert run_child(["echo", "hello"], name=NAME, timeout=60, input=bytes(9 << 20)) == b"hello\n"


def test_a_failure_has_the_kind_that_the_caller_wants() -> None:
    with pytest.raises(SourceDenied, match="dump of shop exited with 2") as caught:
        run_child(["sh", "-c", "echo denied >&2; exit 2"], name=NAME, timeout=60, error=SourceDenied)
    assert caught.value.details == ("denied",)


@pytest.mark.slow
def test_one_that_takes_too_long_is_killed() -> None:
    with pytest.raises(SourceError, match=r"did not end within 0\.3 seconds"):
        run_child(["sleep", "600"], name=NAME, timeout=0.3)
    with pytest.raises(SourceError, match=r"did not end within 0\.3 seconds"):
        run_child(["sleep", "600"], name=NAME, timeout=0.3, input=bytes(9 << 20))


def test_an_answer_beyond_the_limit_is_no_answer() -> None:
    command = ["head", "-c", str((1 << 20) + 1), "/dev/zero"]
    with pytest.raises(SourceError, match="wrote 1048577 bytes, more than"):
        run_child(command, name=NAME, timeout=60)
