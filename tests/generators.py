"""How tests and measurements run a generator that tells its progress."""

from collections.abc import Generator
from typing import Any, TypeVar

Result = TypeVar("Result")


def finish(work: Generator[Any, None, Result]) -> Result:
    """Run a generator to its end and give what it returns."""
    while True:
        try:
            next(work)
        except StopIteration as finished:
            return finished.value
