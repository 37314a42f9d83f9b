"""Small commands with short answers."""

import time
from collections.abc import Mapping, Sequence

from penstock.api.errors import SourceError
from penstock.api.process.child import Child
from penstock.api.process.trouble import LeftBehind, Stalled, Stopped
from penstock.api.secrets import Secret
from penstock.api.stopping import NEVER, StopToken

__all__ = ["run_child"]

#: The most that `run_child` returns (bytes).
ANSWER_BYTES = 1024 * 1024


def run_child(
    argv: Sequence[str],
    *,
    name: str,
    timeout: float,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,  # noqa: A002 - the word of `subprocess.run`
    secrets: Sequence[Secret] = (),
    error: type[SourceError] = SourceError,
    stop: StopToken = NEVER,
) -> bytes:
    """Run a small command, such as `pg_dump --version`, to its end and return what it wrote: at most 1 MiB.

    Raises `error` when it takes over `timeout` seconds, does not exit with 0, or writes more than that: half an answer
    is none. A command that does not read its `input` may still succeed. Raises `Interrupted` as soon as `stop` stops.
    """
    limit = time.monotonic() + timeout
    child = Child(
        argv,
        name=name,
        env=env,
        failed=error,
        secrets=secrets,
        fed=input is not None,
        keep_output=ANSWER_BYTES,
        stop=stop,
    )
    try:
        _feed(child, input or b"", limit)
        child.end_input()
        if not child.wait_for_end(max(0.0, limit - time.monotonic())):
            raise child.killed(f"did not end within {timeout:g} seconds")
        child.end()
    except Stalled:
        raise child.killed(f"did not end within {timeout:g} seconds") from None
    except Stopped:
        raise child.killed("was stopped before its end") from None
    finally:
        child.kill()  # does nothing but after an interruption
    if outcome := child.outcome():
        raise child.failure(outcome)
    answer, total = child.output()
    if total > len(answer):
        raise child.failure(f"wrote {total} bytes, more than the {ANSWER_BYTES} that are expected at most")
    return answer


def _feed(child: Child, data: bytes, limit: float) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[child.write_some(view, limit - time.monotonic()) :]
    except (BrokenPipeError, LeftBehind):
        return
