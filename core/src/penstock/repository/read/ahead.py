"""Reading ahead: which portions of a stream come next, and the segments that they wait for or that may serve again."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future

from penstock.repository.budget import SEGMENT
from penstock.repository.read.portions import Portion
from penstock.repository.read.segments import SMALLEST, Buffers, Segment

__all__ = ["WINDOW", "Coming", "Held"]

#: How many segments reading ahead looks down the recipe for what lies together in a pack.
_LOOK = 64
#: Portions of a stream that may wait, however few segments they need.
WINDOW = 256


class Held:
    """Segments by their numbers: those that are wanted, and of the others those that were used last.

    All together have `limit` bytes at most, or what the portion in use needs; one that was only asked for counts as a
    large one, unless it was there before. Several streams may be read by turns: then the portion in use of each has
    room, whatever the others want. What was asked for and is not wanted any more is cancelled; if it is under way, it
    counts until it is there, and is one of the others from then on.

    For one thread, `leave` and `known` excepted.
    """

    def __init__(self, opened: "Callable[[int, Future[Segment]], Segment]", buffers: Buffers, limit: int) -> None:
        """`opened` gives a segment by its number and what came of asking for it; it may take a while, or raise."""
        self._opened = opened
        self._buffers = buffers
        self._limit = limit
        #: How many portions wait for each.
        self._waiting: dict[int, int] = {}
        self._coming: dict[int, Future[Segment]] = {}
        #: What those count as.
        self._asked: dict[int, int] = {}
        #: Bytes of the buffers of those that were there, the latest last: of as many as there could be at once.
        self._sizes: OrderedDict[int, int] = OrderedDict()
        #: Those of them that are under way though nobody waits for them.
        self._unwanted: set[int] = set()
        self._there: dict[int, Segment] = {}
        #: Those that nobody waits for, the latest to be used last.
        self._idle: OrderedDict[int, Segment] = OrderedDict()
        #: Bytes of those that are wanted or coming, and of the idle ones.
        self._wanted_size = self._idle_size = 0
        #: What portions waited for that nobody will use.
        self._left: deque[Sequence[int]] = deque()
        self._ended = False

    def has_room(self, numbers: Iterable[int], ahead: int) -> bool:
        """Whether these can be wanted as well, without asking for more than `ahead` at once."""
        self._settle()
        new = [number for number in numbers if number not in self._waiting and number not in self._coming]
        missing = sum(number not in self._idle for number in new)
        size = sum(map(self._cost, new))
        return len(self._coming) + missing <= ahead and self._wanted_size + size <= self._limit

    def known(self, number: int) -> int | None:
        """Bytes that the segment takes; None unless it was there before. Any thread may ask."""
        segment = self._there.get(number)
        return self._sizes.get(number) if segment is None else len(segment.buffer)

    def _cost(self, number: int) -> int:
        known = self.known(number)
        return SEGMENT if known is None else known

    def want(self, numbers: Iterable[int]) -> list[int]:
        """A portion waits for these segments; gives those that have to be asked for."""
        self._settle()
        missing = []
        for number in numbers:
            count = self._waiting.get(number, 0)
            self._waiting[number] = count + 1
            if count:
                continue
            idle = self._idle.pop(number, None)
            if idle is not None:
                self._idle_size -= len(idle.buffer)
                self._wanted_size += len(idle.buffer)
            elif number in self._coming:
                self._unwanted.remove(number)
            else:
                missing.append(number)
        return missing

    def add(self, number: int, future: Future[Segment]) -> None:
        """It was asked for."""
        self._coming[number] = future
        self._asked[number] = self._cost(number)
        self._wanted_size += self._asked[number]
        self._make_room()

    def use(self, number: int) -> Segment:
        """The segment; raises what came of asking for it."""
        self._settle()
        segment = self._there.get(number)
        if segment is None:
            segment = self._opened(number, self._coming[number])
            self._there[number] = segment
            self._wanted_size += self._note(number, segment) - self._asked_no_more(number)
        return segment

    def used(self, numbers: Iterable[int]) -> None:
        """A portion waits for these no more."""
        self._settle()
        self._release(numbers)
        self._make_room()

    def leave(self, portions: Iterable[Sequence[int]]) -> None:
        """A stream is read no further, though these portions waited for segments.

        May be called by any thread, and in the midst of another method: a generator that was dropped ends when and
        where its garbage is collected. It counts from the next call of another method on.
        """
        self._left.extend(portions)

    def forget(self) -> None:
        """Give back all that is there and not wanted."""
        self._settle()
        while self._idle:
            self._drop()

    def end(self) -> None:
        """Nothing is wanted any more, and nothing can be."""
        self._ended = True
        for future in self._coming.values():
            future.cancel()
        for segment in self._there.values():
            self._buffers.give_back(segment)
        self._there.clear()
        self._idle.clear()
        self._coming.clear()
        self._asked.clear()
        self._unwanted.clear()
        self._waiting.clear()
        self._wanted_size = self._idle_size = 0

    def _settle(self) -> None:
        """Take note of what was left, and of what came though nobody waits for it."""
        if self._ended:
            raise RuntimeError("the reader of the snapshot is closed")
        if not self._left and not self._unwanted:
            return
        while self._left:
            self._release(self._left.popleft())
        for number in [one for one in self._unwanted if self._coming[one].done()]:
            self._unwanted.remove(number)
            future = self._coming[number]
            self._wanted_size -= self._asked_no_more(number)
            # What failed is asked for again by whoever wants it.
            if future.exception() is None:
                segment = self._there[number] = self._idle[number] = future.result()
                self._idle_size += self._note(number, segment)
        self._make_room()

    def _release(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            left = self._waiting[number] - 1
            if left:
                self._waiting[number] = left
                continue
            del self._waiting[number]
            segment = self._there.get(number)
            if segment is not None:
                self._idle[number] = segment
                self._wanted_size -= len(segment.buffer)
                self._idle_size += len(segment.buffer)
            # It was not asked for if the run was stopped just before.
            elif number in self._coming:
                if self._coming[number].cancel():
                    self._wanted_size -= self._asked_no_more(number)
                else:
                    self._unwanted.add(number)

    def _asked_no_more(self, number: int) -> int:
        """It is not coming any more; gives what it counted as."""
        del self._coming[number]
        return self._asked.pop(number)

    def _note(self, number: int, segment: Segment) -> int:
        """Note the size of a segment that is there, and give it."""
        size = self._sizes[number] = len(segment.buffer)
        self._sizes.move_to_end(number)
        if len(self._sizes) > self._limit // SMALLEST:
            self._sizes.popitem(last=False)
        return size

    def _make_room(self) -> None:
        while self._idle and self._wanted_size + self._idle_size > self._limit:
            self._drop()

    def _drop(self) -> None:
        """Give back the idle one that was used least lately."""
        number, oldest = self._idle.popitem(last=False)
        del self._there[number]
        self._idle_size -= len(oldest.buffer)
        self._buffers.give_back(oldest)


class Coming:
    """The portions that come next, as far ahead as it is worthwhile to look."""

    def __init__(self, each: Iterator[Portion]) -> None:
        self._each = each
        self._ahead: deque[Portion] = deque()
        self._segments: Counter[int] = Counter()
        self._guessed = self._ended = False

    def needs_more(self, *, waiting: bool) -> bool:
        """Whether `look` should be called first, which may have to read; `waiting`: portions that were taken wait.

        Behind one that was guessed, portions are as long as they can be when its segments are there.
        """
        if self._guessed:
            return not self._ahead and not waiting
        return len(self._ahead) < WINDOW // 2 and len(self._segments) < _LOOK // 2 and not self._ended

    def look(self) -> None:
        """Look as far ahead as it is worthwhile."""
        ahead, segments = self._ahead, self._segments
        for portion in self._each:
            ahead.append(portion)
            segments.update(portion.needs)
            self._guessed = portion.guessed
            if self._guessed or len(ahead) >= WINDOW or len(segments) >= _LOOK:
                return
        self._guessed = False
        self._ended = True

    @property
    def following(self) -> Portion | None:
        """The next one; None at the end."""
        return self._ahead[0] if self._ahead else None

    def take(self) -> Portion:
        """The same, once."""
        portion = self._ahead.popleft()
        for segment in portion.needs:
            self._segments[segment] -= 1
            if not self._segments[segment]:
                del self._segments[segment]
        return portion

    def segments(self) -> frozenset[int]:
        """The numbers of the segments of the portions that were looked at, and not taken yet."""
        return frozenset(self._segments)
