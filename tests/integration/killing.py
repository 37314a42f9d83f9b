"""Writers, forgets and prunes of several hosts at once, and SIGKILL for many of them at moments that chance chooses.

One seed decides who does what, and who is killed when; what the machine makes of it differs from run to run. After each
kill somebody looks at everything: a check finds nothing, and every snapshot that is listed restores to the bytes that
its source held, among them each whose backup said that it was committed and that nobody asked to be forgotten.
"""

import random
import shutil
import signal
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median
from typing import Any

from tests.integration.hurry import LIFE
from tests.integration.killed_run import KEEPERS, WRITERS, Done, Place, Refused, Seen, content_of, digest_of, run

__all__ = ["Kills"]

#: How many runs are under way at once, at most.
_AT_ONCE = 3
#: Snapshots that are kept, before keepers rather forget than prune.
_MANY = 6
#: How many of ten runs are to be killed.
_OF_TEN = 8
#: How long anything may take (seconds).
_LONGEST = 120.0
#: Rounds of pruning after which all that is dead must be gone: a session that was killed is waited for, then what it
#: left is named, and then deleted, in several steps where some of it is locked or named already.
_ROUNDS = 16


@dataclass
class _Run:
    """One process; `die_at` is when it is to be killed, by the monotonic clock."""

    host: str
    verb: str
    process: BaseProcess
    pipe: "connection.Connection[Any, Any]"
    begun: float
    die_at: float | None = None
    #: Of a backup, its number; of a forget, the snapshots.
    number: int = 0
    snapshots: tuple[str, ...] = ()
    killed: bool = False
    answer: Done | Refused | None = None


@dataclass
class Kills:
    """A repository, its hosts, and what must be there. `place` is where nothing is yet; caches are in `folder`."""

    place: Place
    folder: Path
    seed: int
    #: How many runs were killed, by what they did.
    kills: Counter[str] = field(default_factory=Counter)
    #: How many ran to their end, and how many snapshots or objects they made, forgot or deleted.
    ended: Counter[str] = field(default_factory=Counter)
    made: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._context = get_context("forkserver")
        # With __main__ first, as it is by default: else every child would import that again.
        self._context.set_forkserver_preload(["__main__", "tests.integration.warmed"])
        self._running: list[_Run] = []
        self._lengths: defaultdict[str, list[float]] = defaultdict(list)
        self._number = 0
        #: By its id, the number of the run that made it: committed, and nobody asked to forget it.
        self._kept: dict[str, int] = {}
        #: Asked to be forgotten, and not known to be.
        self._doubtful: dict[str, int] = {}
        #: Known to be.
        self._forgotten: set[str] = set()
        self._keys: dict[str, bytes] = {"nobody": b""}
        self._keys = self._do("nobody", "create")

    def __str__(self) -> str:
        killed, ended = (
            ", ".join(f"{count} {verb}" for verb, count in sorted(counts.items()))
            for counts in (self.kills, self.ended)
        )
        made = ", ".join(f"{count:,} {what}" for what, count in self.made.items())
        return f"seed {self.seed}: {self.kills.total()} killed ({killed}), to their end: {ended}; {made}"

    def go_on(self, kills: int) -> None:
        """Until so many more were killed, each at its moment; those that are under way then go on."""
        wanted = self.kills.total() + kills
        while self.kills.total() < wanted:
            while len(self._running) < _AT_ONCE:
                self._begin_something()
            for one in self._wait():
                self._settle(one)
                if one.killed:
                    self.look()

    def come_to_rest(self) -> None:
        """All runs end, each host runs once more, undisturbed; then prunes free all that no snapshot needs."""
        while self._running:
            for one in self._wait():
                self._settle(one)
        for name in WRITERS:
            while not self._is_served(name):
                pass
        # Nobody is killed: what a round waits for is what others left.
        pause = LIFE.total_seconds() / self.place.factor / 4
        for _ in range(_ROUNDS):
            self.made["objects deleted"] += self._do("mary", "prune", True)
            if not self._do("owner", "left"):
                break
            time.sleep(pause)
        assert self._do("owner", "left") == []
        self.look(read_data=True)

    def _is_served(self, host: str) -> bool:
        """Whether an undisturbed backup is committed; if not, the machine stalled, or this fails."""
        one = self._begin(host, "backup")
        self._wait()
        self._settle(one)
        return isinstance(one.answer, Done)

    def look(self, *, read_data: bool = False) -> None:
        """See that everything is there that must be, and as it was."""
        in_doubt = {snapshot for one in self._running for snapshot in one.snapshots}
        alive = {one.number for one in self._running if one.verb == "backup"}
        seen: Seen = self._do("owner", "look", frozenset(in_doubt), read_data)
        assert seen.findings == (), seen.findings
        assert self._kept.keys() <= seen.snapshots.keys(), "a snapshot is gone"
        assert not self._forgotten & seen.snapshots.keys(), "a forgotten snapshot is listed"
        for name, (number, digest) in seen.snapshots.items():
            assert 0 < number <= self._number
            if name not in in_doubt:
                assert digest == digest_of(content_of(number)), f"{name} is not what run {number} dumped"
            # Its head was there before its process was killed.
            if name not in self._kept.keys() | self._doubtful.keys() and number not in alive:
                self._kept[name] = number
        for name in self._doubtful.keys() - seen.snapshots.keys() - in_doubt:
            self._forgotten.add(name)
            del self._doubtful[name]

    # Runs

    def _begin_something(self) -> None:
        busy = {one.host for one in self._running}
        host = self._chance.choice([name for name in (*WRITERS, *KEEPERS) if name not in busy])
        if host in WRITERS:
            if self._chance.random() < 0.1:
                shutil.rmtree(self._cache(host), ignore_errors=True)
            one = self._begin(host, "backup")
        elif (there := self._forgettable()) and self._chance.random() < (0.7 if len(there) > _MANY else 0.2):
            # All that are too many, or each kill would look at more than the one before.
            most = max(1, len(there) - _MANY)
            one = self._begin(host, "forget", *self._chance.sample(there, self._chance.randint(1, most)))
        else:
            one = self._begin(host, "prune")
        if (lengths := self._lengths[one.verb][-15:]) and self._chance.randrange(10) < _OF_TEN:
            one.die_at = one.begun + self._chance.uniform(0, 1.1 * median(lengths))

    def _forgettable(self) -> list[str]:
        """Also what a run was asked to forget that was killed, or refused."""
        asked = {snapshot for one in self._running for snapshot in one.snapshots}
        return sorted((self._kept.keys() | self._doubtful.keys()) - asked)

    def _begin(self, host: str, verb: str, *snapshots: str) -> _Run:
        number, arguments = 0, []
        if verb == "backup":
            self._number = number = self._number + 1
            arguments = [number, self._cache(host)]
        elif verb == "forget":
            # From now on nobody may rely on it.
            self._doubtful |= {one: self._kept.pop(one) for one in snapshots if one in self._kept}
            arguments = list(snapshots)
        else:
            arguments = [self._chance.random() < 0.7]
        one = self._start(host, verb, *arguments)
        one.number, one.snapshots = number, snapshots
        self._running.append(one)
        return one

    def _cache(self, host: str) -> Path:
        return self.folder / host

    def _start(self, host: str, verb: str, *arguments: Any) -> _Run:
        begun = time.monotonic()
        ours, theirs = self._context.Pipe(duplex=False)
        with theirs:
            process = self._context.Process(
                target=run, args=(self.place, self._keys[host], begun, theirs, verb, *arguments)
            )
            process.start()
        return _Run(host, verb, process, ours, begun)

    def _do(self, host: str, verb: str, *arguments: Any) -> Any:
        """A run that nobody kills, and its answer."""
        one = self._start(host, verb, *arguments)
        self._finish(one)
        assert isinstance(one.answer, Done), f"{verb} failed: {one.answer}"
        return one.answer.answer

    def _wait(self) -> list[_Run]:
        """Those that have ended, or were killed just now."""
        while not (ready := connection.wait([one.pipe for one in self._running], self._patience())):
            self._kill_due()
        over = [one for one in self._running if one.pipe in ready]
        for one in over:
            self._finish(one)
            self._running.remove(one)
        return over

    def _patience(self) -> float:
        """Seconds until the next one is to be killed."""
        due = [one.die_at for one in self._running if one.die_at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else _LONGEST

    def _kill_due(self) -> None:
        for one in self._running:
            if one.die_at is not None and time.monotonic() >= one.die_at:
                one.process.kill()
                one.die_at = None

    def _finish(self, one: _Run) -> None:
        """Wait for its end; others are killed meanwhile, each at its moment."""
        while not one.pipe.poll(self._patience()):
            self._kill_due()
        with suppress(EOFError, OSError):  # killed before the answer, or in its middle
            one.answer = one.pipe.recv()
        one.process.join(_LONGEST)
        assert one.process.exitcode is not None, f"{one} hangs"
        one.killed = one.process.exitcode == -signal.SIGKILL
        one.pipe.close()
        one.process.close()

    def _settle(self, one: _Run) -> None:
        """What is known by how it ended."""
        if one.killed:
            self.kills[one.verb] += 1
        else:
            assert one.answer is not None, f"{one} said nothing"
            self.ended[one.verb] += 1
            self._lengths[one.verb].append(one.answer.seconds)
        if isinstance(one.answer, Done):
            self._done(one, one.answer.answer)
        elif isinstance(one.answer, Refused):
            self._refused(one, one.answer)

    def _done(self, one: _Run, answer: Any) -> None:
        if one.verb == "backup":
            self._kept[answer] = one.number
            self.made["snapshots"] += 1
        elif one.verb == "forget":
            self._forgotten.update(one.snapshots)
            for snapshot in one.snapshots:
                self._doubtful.pop(snapshot, None)  # somebody may have seen already that it is gone
            self.made["forgotten"] += len(one.snapshots)
        else:
            self.made["objects deleted"] += answer

    def _refused(self, one: _Run, answer: Refused) -> None:
        """Only what good manners or a stalled machine explain."""
        slow = answer.seconds > LIFE.total_seconds() / self.place.factor / 2
        expected = {"prune": {"PruneRunning"}, "forget": {"NothingKept", "SnapshotNotFound"}, "backup": set()}[one.verb]
        if one.verb == "backup" and slow:
            expected = {"SessionLost", "MissingObject", "DamagedObject"}
        assert answer.error in expected, f"{one.host} failed after {answer.seconds:.2f} s: {answer.text}"
        self.made[f"times {answer.error}"] += 1
