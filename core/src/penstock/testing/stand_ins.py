"""Programs that stand in for the one that a source dumps with, and misbehave as real ones do.

Each is a shell script that calls the real program with the same arguments, environment and descriptors. Questions
(`ChildProgram.probes`) are answered by the real program alone. `dd` copies byte by byte, because a source may wait for
the first of them before it asks for more.
"""

import shlex
from pathlib import Path

from penstock.testing.source_lab import ChildProgram

__all__ = ["breaks_off", "exits_after_all", "is_killed", "notes_its_calls", "stalls", "tells_all", "tells_and_works"]


def is_killed(folder: Path, program: ChildProgram, after: int) -> Path:
    """Writes the first `after` bytes, and is killed as the system does when memory runs out."""
    return _write(folder, program, f'"$real" "$@" | dd bs=1 count={after} 2>/dev/null; kill -KILL $$')


def breaks_off(folder: Path, program: ChildProgram, after: int) -> Path:
    """Writes the first `after` bytes, and exits with 0."""
    return _write(folder, program, f'"$real" "$@" | dd bs=1 count={after} 2>/dev/null; exit 0')


def exits_after_all(folder: Path, program: ChildProgram) -> Path:
    """Writes everything, and exits with 1."""
    return _write(folder, program, '"$real" "$@"; exit 1')


def stalls(folder: Path, program: ChildProgram, after: int) -> Path:
    """Writes the first `after` bytes, and then nothing, for ever."""
    # The shell itself waits, for a pipe that nobody opens: what it was called with can be seen, and it has no child.
    wait = 'mkfifo "$0.never" 2>/dev/null; read -r line <"$0.never"'
    return _write(folder, program, f'"$real" "$@" | dd bs=1 count={after} 2>/dev/null; {wait}')


def tells_all(folder: Path, program: ChildProgram) -> Path:
    """Writes everything that it was given to its stderr (environment, arguments, pipes and files), and exits with 3."""
    script = """\
env >&2
echo "$@" >&2
for place in /proc/$$/fd/*; do
    if [ "${place##*/}" -gt 2 ] 2>/dev/null; then dd if="$place" iflag=nonblock bs=65536 count=1 >&2 2>/dev/null; fi
done
exit 3"""
    return _write(folder, program, script)


def tells_and_works(folder: Path, program: ChildProgram) -> Path:
    """Writes its environment and arguments to its stderr, and then does what the real program does."""
    return _write(folder, program, 'env >&2; echo "$@" >&2; exec "$real" "$@"')


def notes_its_calls(folder: Path, program: ChildProgram, notes: Path) -> Path:
    """Does what the real program does, and leaves a line in `notes` unless it was asked a mere question."""
    return _write(folder, program, f'echo called >>{shlex.quote(str(notes))}; exec "$real" "$@"')


def _write(folder: Path, program: ChildProgram, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / program.path.name
    probes = " | ".join(shlex.quote(probe) for probe in program.probes) or "''"
    path.write_text(
        f"""\
#!/bin/sh
real={shlex.quote(str(program.path.absolute()))}
for argument in "$@"; do
    case "$argument" in {probes}) exec "$real" "$@" ;; esac
done
{script}
""",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path
