"""Processes that begin with torch and diffusers imported, which takes each one that starts from nothing six seconds."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from typing import Any

SECONDS = 300  # for one on a crowded machine
LOADED = [f"tests.avatar.test_{name}" for name in ("parallel", "pipeline", "sampler", "transformer", "weights")]


def forkserver() -> ForkServerContext:
    """What starts them; one server for all tests of this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)  # imported once, not in each
    return context


def run_apart(function: Callable[..., Any], *arguments: object, count: int = 1) -> None:
    """Call a module's function in so many processes at once that know nothing of this one, and wait for all.

    Raises:
        AssertionError: one of them raised, or did not end.
    """
    processes = [forkserver().Process(target=function, args=arguments) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * count, f"{function.__name__} ended with {codes}"
