"""The guardian itself: a small program that outlives Penstock by a moment, to kill the children that it left.

It is run as a script, `python -I -S guardian_program.py`, so that it starts quickly; it imports nothing of Penstock.
It reads its orders from stdin, one a line, until the end of the pipe. The write end belongs to Penstock alone, so the
end means that Penstock is gone, for whatever reason. The orders:

    ?TAG            a child is about to start; its stderr is the pipe with this inode number
    !TAG            it could not be started
    +GROUP TAG      it was started, and leads this process group
    -GROUP          nothing is left of the group; its number may be given to others from now on
"""

import os
import signal
from collections.abc import Iterable, Iterator


def main(orders: int = 0) -> None:
    """Follow the orders that come through the descriptor `orders`, then kill every group that is left."""
    groups: set[int] = set()
    starting: set[int] = set()
    for order, *numbers in _orders(orders):
        match order, numbers:
            case "?", [tag]:
                starting.add(tag)
            case "!", [tag]:
                starting.discard(tag)
            case "+", [group, tag]:
                groups.add(group)
                starting.discard(tag)
            case "-", [group]:
                groups.discard(group)
    _kill(groups)
    if starting:
        _kill(_groups_of_started(starting))


def _orders(descriptor: int) -> Iterator[tuple[str, int, int] | tuple[str, int]]:
    pending = b""
    while block := os.read(descriptor, 64 * 1024):
        *lines, pending = (pending + block).split(b"\n")
        for line in lines:
            yield line[:1].decode(), *map(int, line[1:].split())  # type: ignore[misc]


def _groups_of_started(tags: Iterable[int]) -> set[int]:
    """The groups of children that were started but not announced, found by the pipe that is their stderr.

    Between the start of a child and the order that announces it lies a fraction of a millisecond. No child is missed:
    until it runs its program it holds a copy of the write end of the orders' pipe, and it gets its stderr and its group
    before that copy is closed. A system without /proc leaves the gap: a child that started in it ends when it next uses
    one of its pipes.
    """
    pipes = {f"pipe:[{tag}]" for tag in tags}
    found: set[int] = set()
    try:
        processes = [name for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - pathlib starts slowly
    except OSError:
        return found
    for process in processes:
        try:
            if any(os.readlink(f"/proc/{process}/fd/{number}") in pipes for number in (0, 1, 2)):  # noqa: PTH115
                found.add(os.getpgid(int(process)))
        except OSError:  # another user's, or gone
            continue
    return found


def _kill(groups: Iterable[int]) -> None:
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:  # gone, or not ours to kill
            continue


if __name__ == "__main__":
    main()
    os._exit(0)  # there is nothing to tidy up
