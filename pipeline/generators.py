"""Work that tells how far it is while it goes on: parts of it as shares of a whole, and the whole taken to its end."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

Told = TypeVar("Told")
Result = TypeVar("Result")


def as_share(start: float, stop: float, work: Generator[float | None, None, Any]) -> Generator[float, None, Any]:
    """Do one part of the work; its share done, 0..1, becomes start..stop of the whole."""
    while True:
        try:
            yield start + (stop - start) * (next(work) or 0.0)
        except StopIteration as finished:
            return finished.value


def to_end(work: Generator[Told, None, Result], tell: Callable[[Told], object] | None = None) -> Result:
    """Do all of the work, handing what it yields to `tell`; what it returns. What `tell` raises ends the work."""
    try:
        while True:
            told = next(work)
            if tell is not None:
                tell(told)
    except StopIteration as finished:
        result: Result = finished.value
        return result
    finally:
        work.close()
