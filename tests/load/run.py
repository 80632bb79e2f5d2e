"""`python -m tests.load.run` (`make load`): the page with more visitors than places, and what became of each.

Every figure is taken now, from a page in a process of its own; nothing is stored.
"""

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from gradio_client.client import Job

from app import QUEUE_LENGTH, RENDERS_AT_ONCE
from tests.load.visitors import Visit, Visitor
from tests.server import FOLDERS_EACH, Server, serve, wait_until

VISITORS = 20
CLIPS = 200  # over which memory has to stay flat
PORTION = 40  # clips between two looks at it; in the first one, libraries and networks are loaded
SOAKERS = 4  # visitors who make them in turn: two at work, two waiting
TINY_SECONDS = 0.48  # of voice: 12 frames
SHORT_SECONDS = 1.2  # of voice: 30 frames
LONG_SECONDS = 120.0  # of voice, for clips that are still at work when the next thing happens
TOO_MANY = 6  # visitors beyond the longest line
LOOPS = 10  # of beginning and cancelling
MEBIBYTE = 2**20


def memory_mebibytes(process: int) -> float:
    """What a process holds of the machine's memory; 0 where /proc does not say."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / MEBIBYTE
    return 0.0


def together(visitors: list[Visitor], each: Callable[[Visitor], Visit] = Visitor.visit) -> list[Visit]:
    """All of them at once, each in a thread."""
    with ThreadPoolExecutor(len(visitors)) as pool:
        return list(pool.map(each, visitors))


def row(name: str, value: object) -> None:
    """A line of the table."""
    print(f"| {name:<58} | {value!s:<44} |", flush=True)


def share(values: list[float], percent: int) -> float:
    """A percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def num_at_work(server: Server) -> int:
    """Renders that are going on, by their folders; one that only begins or ends counts too."""
    return -(-len(server.work_folders()) // FOLDERS_EACH)


@contextlib.contextmanager
def most_at_work(server: Server) -> Iterator[list[int]]:
    """The most renders that went on at once while the block ran."""
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            most[0] = max(most[0], num_at_work(server))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


def crowd(server: Server, folder: Path, num: int = VISITORS) -> list[str]:
    """So many at once, each with an own input; what went wrong."""
    visitors = [Visitor(server.url, number, folder, SHORT_SECONDS) for number in range(num)]
    before = memory_mebibytes(server.process.pid)
    started = time.monotonic()
    with most_at_work(server) as most:
        visits = together(visitors)
    seconds = time.monotonic() - started
    done = [visit for visit in visits if visit.clip]
    leaks = [leak for visit in done for leak in visit.leaks]
    urls = [visit.clip for visit in done]
    row(f"{num} visitors at once, {SHORT_SECONDS:g} s of voice each: completed", f"{len(done)} in {seconds:.1f} s")
    row("refused", len(visits) - len(done))
    row("wait until work begins, p50 / p95", waits([visit.wait for visit in done]))
    row("call to clip, p50 / p95", waits([visit.total for visit in done]))
    row("renders at once, at most", most[0])
    row("waiting visitors told their place", sum(any("line" in told for told in visit.told) for visit in visits))
    row("memory at start / at end", f"{before:.0f} / {memory_mebibytes(server.process.pid):.0f} MiB")
    row("cross-visitor leaks (marks, pitch, seed, file)", len(leaks) + len(urls) - len(set(urls)))
    return leaks + [f"visitor {visit.number}: {visit.refusal}" for visit in visits if not visit.clip]


def waits(seconds: list[float]) -> str:
    """Both percentiles, in words."""
    return f"{share(seconds, 50):.1f} s / {share(seconds, 95):.1f} s" if seconds else "—"


def order(server: Server, folder: Path, num: int = 10) -> list[str]:
    """One after the other into the line; whether any work began before that of somebody who came earlier."""
    visitors = [Visitor(server.url, number, folder, SHORT_SECONDS) for number in range(num)]
    visits: list[Visit] = []
    with ThreadPoolExecutor(num) as pool:
        calls = []
        for visitor in visitors:
            calls.append(pool.submit(visitor.visit))
            time.sleep(0.25)  # longer than an upload takes: so they come in this order
        visits = [call.result() for call in calls]
    begun = [visit.number for visit in sorted(visits, key=lambda visit: visit.begun)]
    # two begin side by side, and whose first word is heard first is chance
    overtaken = [number for place, number in enumerate(begun) if abs(place - number) > 1]
    row(f"{num} in a row: order in which work began", " ".join(map(str, begun)))
    return [f"visitor {number} was not served in turn: {begun}" for number in overtaken]


def overload(server: Server, folder: Path) -> list[str]:
    """More than there is room for: the last ones are told so, at once and in words."""
    room = QUEUE_LENGTH + RENDERS_AT_ONCE
    visitors = [Visitor(server.url, number, folder, LONG_SECONDS) for number in range(4)]
    jobs: list[Job] = []
    for number in range(room):
        jobs.append(visitors[number % 4].submit())
        time.sleep(0.1)  # an upload
    time.sleep(2.0)  # all have come
    visits = together([visitors[0]] * TOO_MANY)
    refused = [visit for visit in visits if visit.is_full]
    row(f"{room} at work or waiting, {TOO_MANY} more: refused", f"{len(refused)} of {TOO_MANY}")
    row("told so within", f"{max(visit.total for visit in visits):.1f} s")
    row("in these words", visits[0].refusal)
    started = time.monotonic()
    for job in reversed(jobs):
        with contextlib.suppress(httpx.TimeoutException):
            job.cancel()
    is_clear = server.has_cleared(60)
    row("all cancelled: places free again within", f"{time.monotonic() - started:.1f} s" if is_clear else "never")
    wrong = [] if is_clear else ["cancelled renders went on"]
    return wrong + [f"not refused for the line: {one.refusal or 'a clip came'}" for one in visits if not one.is_full]


def begin_and_cancel(server: Server, folder: Path) -> list[str]:
    """Again and again, without waiting: work never multiplies."""
    visitors = [Visitor(server.url, number, folder, LONG_SECONDS) for number in range(4)]

    def loop(visitor: Visitor) -> None:
        for _ in range(LOOPS):
            job = visitor.submit()
            wait_until(lambda job=job: job.communicator.event_id or job.done(), 10)  # it has come
            time.sleep(random.uniform(0.0, 0.5))  # waiting, beginning or at work
            with contextlib.suppress(httpx.TimeoutException):
                job.cancel()

    with most_at_work(server) as most, ThreadPoolExecutor(len(visitors)) as pool:
        list(pool.map(loop, visitors))
    started = time.monotonic()
    is_clear = server.has_cleared(30)
    row(f"{4 * LOOPS} times begun and cancelled: renders at once, at most", most[0])
    row("all places free again within", f"{time.monotonic() - started:.1f} s" if is_clear else "never")
    wrong = [] if is_clear else ["a cancelled render left its folder"]
    return wrong + ([f"{most[0]} renders at once"] if most[0] > RENDERS_AT_ONCE else [])


def closed_tab(server: Server, folder: Path) -> list[str]:
    """A connection that breaks off, of a visitor at work and of one in the line, frees the place."""
    visitors = [Visitor(server.url, number, folder, LONG_SECONDS) for number in range(3)]
    wrong = []
    for name, num_before in (("at work", 0), ("waiting", RENDERS_AT_ONCE)):
        jobs = [visitor.submit() for visitor in visitors[:num_before]]
        if not wait_until(lambda expected=num_before: num_at_work(server) == expected, 30):
            wrong.append("no work began")
        visitors[-1].leave_after(2.0)
        left = time.monotonic()
        for job in jobs:
            job.cancel()
        is_clear = server.has_cleared(30)
        row(f"closed tab of a visitor {name}: free within", f"{time.monotonic() - left:.1f} s" if is_clear else "never")
        wrong += [] if is_clear else [f"a closed tab of a visitor {name} holds its place"]
    return wrong


def soak(server: Server, folder: Path, num: int = CLIPS) -> list[str]:
    """Clip after clip; whether the page grows."""
    visitors = [Visitor(server.url, number, folder, TINY_SECONDS) for number in range(SOAKERS)]
    wrong: list[str] = []

    def several(visitor: Visitor) -> None:
        for _ in range(PORTION // SOAKERS):
            visit = visitor.visit()
            wrong.extend(visit.leaks or ([visit.refusal] if visit.refusal else []))

    told: list[float] = []
    with ThreadPoolExecutor(SOAKERS) as pool:
        for number in range(PORTION, num + 1, PORTION):
            started = time.monotonic()
            list(pool.map(several, visitors))
            told.append(memory_mebibytes(server.process.pid))
            taken = f"in {time.monotonic() - started:.0f} s"
            row(f"memory after {number} clips of {TINY_SECONDS:g} s", f"{told[-1]:.0f} MiB ({taken})")
    row("growth over the last half, MiB", f"{told[-1] - told[len(told) // 2 - 1]:+.0f}")
    return wrong


CHECKS: dict[str, Callable[[Server, Path], list[str]]] = {
    "crowd": crowd,
    "order": order,
    "overload": overload,
    "loops": begin_and_cancel,
    "tabs": closed_tab,
    "memory": soak,
}


def main() -> int:
    """Run the checks and print the table; 1 if anything was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checks", nargs="*", choices=[[], *CHECKS], help="leave empty for all")
    chosen = parser.parse_args().checks or list(CHECKS)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as place, serve(Path(place)) as server:
        for name in chosen:
            folder = Path(place) / name
            folder.mkdir()
            wrong += CHECKS[name](server, folder)
    for told in wrong:
        print("WRONG:", told)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
