"""A waiting line for costly work: so many at once, the others in the order in which they came, each told how long.

It knows no page. A place is free once the work in it has ended, not when somebody stops watching it: who begins and
cancels again and again never has more than that at work. What the work freed is given back to the system.
"""

import heapq
import threading
import time
from collections import deque
from types import TracebackType

from pipeline import hardware
from pipeline.engine import Step
from pipeline.errors import LineFull

REMEMBERED = 20  # of the last turns, whose mean length is the forecast: enough to even out, few enough to follow


class Line:
    """One line of callers, in any number of threads.

    Args:
        at_once: Who work side by side.
        longest: How many may wait beside them; the next one is told to come back.
    """

    def __init__(self, at_once: int, longest: int) -> None:
        self.at_once, self.longest = at_once, longest
        self._changed = threading.Condition()
        self._waiting: list[Place] = []  # who came first is first
        self._begun: dict[Place, float] = {}  # and when, on the monotonic clock
        self._lasted: deque[float] = deque(maxlen=REMEMBERED)  # seconds of turns that were taken to their end

    def place(self) -> "Place":
        """A place at the end of the line, taken by entering it:

            with line.place() as place:
                while place.number:
                    show(place.step)
                    place.wait(1.0)
                work()

        Entering raises LineFull when as many wait as may.
        """
        return Place(self)

    def _call(self) -> None:
        """Let the first ones begin for whom there is room."""
        while self._waiting and len(self._begun) < self.at_once:
            self._begun[self._waiting.pop(0)] = time.monotonic()
        self._changed.notify_all()


class Place:
    """What a caller holds from entering to leaving. Made by `Line.place`."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def __enter__(self) -> "Place":
        line = self._line
        with line._changed:
            if len(line._begun) >= line.at_once and len(line._waiting) >= line.longest:
                raise LineFull(count=len(line._waiting))
            line._waiting.append(self)
            line._call()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        line = self._line
        with line._changed:
            if self in line._waiting:
                line._waiting.remove(self)
            else:
                seconds = time.monotonic() - line._begun.pop(self)
                if kind is None:  # one that was refused or cancelled tells nothing of the others
                    line._lasted.append(seconds)
            line._call()
        hardware.give_memory_back()

    @property
    def number(self) -> int:
        """In the line, 1 for who is next; 0 once it is one's turn."""
        with self._line._changed:
            return self._line._waiting.index(self) + 1 if self in self._line._waiting else 0

    @property
    def seconds_left(self) -> float | None:
        """Until it is one's turn, if the others take as long as those before them; None while no turn has ended."""
        line = self._line
        with line._changed:
            if self not in line._waiting or not line._lasted:
                return None
            usual, now = sum(line._lasted) / len(line._lasted), time.monotonic()
            free = [max(usual - (now - begun), 0.0) for begun in line._begun.values()]  # when each worker will be
            heapq.heapify(free)
            for _ in range(line._waiting.index(self)):
                heapq.heapreplace(free, free[0] + usual)
            return free[0]

    @property
    def step(self) -> Step:
        """What a waiting visitor is told."""
        return Step("StageInLine", self.number, seconds_left=self.seconds_left)

    def wait(self, seconds: float) -> None:
        """Until it is one's turn, or so many seconds at most."""
        with self._line._changed:
            self._line._changed.wait_for(lambda: self not in self._line._waiting, seconds)
