"""Child processes for sources: a dump program's output, a restore program's input, sessions and small commands.

Promises that all of them share:

- No shell. Nothing secret belongs in `argv`, which everyone on the host can read: secrets travel in `env`, in a
  `private_file`, or through an inherited pipe (`pass_fds`, from 3 on). `env` is the child's whole environment; None
  stands for `env_for_child()`, so that nothing of this process's own leaks by default.
- The child leads its own session and process group. Killing means SIGTERM to the group, two seconds for the child
  to end, then SIGKILL. Nothing of the group outlives `close()`, `finish()`, `abort()`, the block of a session or
  `run_child()`, and the child is reaped on every path; an object that is dropped without any of them kills its child
  too, with a `ResourceWarning`.
- Nothing of the group outlives this process either, not even one that is killed with SIGKILL (see `guardian`). A
  program that reads its input may see the end of it a moment before it is killed, so call a restore program in a way
  that makes it undo, or refuse, unfinished input: in a single transaction, or with a format that has its own end.
- stderr is drained all the time. Its last lines (at most 16 KiB and 20 lines, of each the first 2000 bytes) become the
  error's `details`, in which `***` stands for every text of `secrets`.
- Processes that the child leaves behind cannot make a call hang, even if they hold its pipes.
- A program that cannot be run raises `ClientMissing`.
"""

from penstock.api.process.command import run_child
from penstock.api.process.environment import env_for_child, private_file
from penstock.api.process.filtering import filtered
from penstock.api.process.input import ChildInput
from penstock.api.process.output import ChildOutput
from penstock.api.process.session import ChildSession

__all__ = ["ChildInput", "ChildOutput", "ChildSession", "env_for_child", "filtered", "private_file", "run_child"]
