"""Long work in another thread, so that this one can answer: a generator of Steps until it is done. Knows no engine."""

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from pipeline.engine import Step

HEARTBEAT_SECONDS = 0.5  # between two Steps while something computes: a cancel is heard as fast

Result = TypeVar("Result")


def in_background(
    work: Callable[[], Result],
    step: Callable[[], Step],
    *,
    pool: ThreadPoolExecutor | None = None,
    stop: Callable[[], None] | None = None,
) -> Generator[Step, None, Result]:
    """Do a piece of work in another thread and say meanwhile how far it is.

    Closing the generator calls `stop` and waits for the work's end.

    Args:
        work: What to do; what it raises is raised here.
        step: How far it is.
        pool: Whose thread does it; None for a new one.
        stop: Asks the work to end soon; None where it cannot be asked.

    Returns:
        What the work returns.
    """
    with ThreadPoolExecutor(1, "background") as own:
        future: Future[Result] = (pool or own).submit(work)
        try:
            while not future.done():
                yield step()
                _wait(future, HEARTBEAT_SECONDS)
        except BaseException:
            if stop is not None:
                stop()
            _wait(future, None)
            raise
        return future.result()


def _wait(future: "Future[Any]", seconds: float | None) -> None:
    """Until it is done or the time is over; what it raised is left in it."""
    try:
        future.exception(seconds)
    except TimeoutError:
        return
