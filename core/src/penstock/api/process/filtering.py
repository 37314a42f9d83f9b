"""A child that turns one stream into another."""

from collections.abc import Generator, Iterable, Mapping, Sequence

from penstock.api.errors import RestoreFailed
from penstock.api.process.child import Child
from penstock.api.process.ending import judge, troubles_told
from penstock.api.secrets import Secret
from penstock.api.stopping import NEVER, StopToken

__all__ = ["filtered"]

_READ_BYTES = 1024 * 1024


def filtered(
    argv: Sequence[str],
    blocks: Iterable[memoryview],
    *,
    name: str,
    env: Mapping[str, str] | None = None,
    stall_timeout: float | None = None,
    pass_fds: Sequence[int] = (),
    secrets: Sequence[Secret] = (),
    stop: StopToken = NEVER,
) -> Generator[memoryview, None, None]:
    """What a child makes of `blocks`, as pg_restore makes SQL of an archive.

    Each block that comes out is valid until the next is asked for. One thread feeds and reads the child: the next of
    `blocks` is taken when it has room for it, and all are taken even if it reads no more. The iteration ends when
    it has exited with 0; otherwise, and if it neither takes nor gives a byte for `stall_timeout` seconds (None: for
    ever), it raises `RestoreFailed`. An error of `blocks` passes through. Close the iterator (`contextlib.closing`):
    however it ends, the child is dead and reaped then.

    `name` and `secrets` are as for `ChildOutput`. Raises `ClientMissing`, and `Interrupted` after a stop.
    """
    child = Child(
        argv,
        name=name,
        env=env,
        failed=RestoreFailed,
        secrets=secrets,
        pass_fds=pass_fds,
        fed=True,
        read=True,
        stop=stop,
    )
    buffer = memoryview(bytearray(_READ_BYTES))
    try:
        with troubles_told(child, stalled=f"neither took nor gave anything for {stall_timeout or 0:g} seconds"):
            for block in blocks:
                left = memoryview(block).cast("B")
                while left:
                    try:
                        written, count = child.exchange(left, buffer, stall_timeout)
                    except BrokenPipeError:
                        break  # it will say why, or has all that it needs
                    left = left[written:]
                    if count:
                        yield buffer[:count]
                    elif count == 0:
                        break
            child.end_input()
            while count := child.exchange(memoryview(b""), buffer, stall_timeout)[1]:
                yield buffer[:count]
            judge(child, stall_timeout)
    finally:
        child.kill()
