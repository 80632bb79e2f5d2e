"""Work that tells how far it is while it goes on: parts of it as shares of a whole, and the whole taken to its end."""

from collections.abc import Generator
from typing import Any


def as_share(start: float, stop: float, work: Generator[float | None, None, Any]) -> Generator[float, None, Any]:
    """Do one part of the work; its share done, 0..1, becomes start..stop of the whole."""
    while True:
        try:
            yield start + (stop - start) * (next(work) or 0.0)
        except StopIteration as finished:
            return finished.value


def to_end(work: Generator[Any, None, Any]) -> Any:
    """Do the work without telling how far it is; what it returns."""
    while True:
        try:
            next(work)
        except StopIteration as finished:
            return finished.value
