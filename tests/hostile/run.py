"""`make hostile`: every case of the corpus in a process of its own, with limits of time and memory; prints the table.

Ends with 1 where a case was let in or refused wrongly, crashed, took too much or left something behind.
"""

import collections
import contextlib
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile import corpus
from tests.hostile.corpus import Case, Outcome

LIMIT_SECONDS = 20.0  # of processor time for one case: twice what `media.MAX_VALUES` samples take on crowded cores
LIMIT_WALL_SECONDS = 60.0  # a busy machine; beyond it, the case hangs
LIMIT_MEBIBYTES = 1024  # beyond what an empty process has: 50 megapixels as read, as made upright and as given back
SPACE_MEBIBYTES = 4096  # of addresses, beyond what there are: nobody may even ask for more


@dataclass(frozen=True)
class Run:
    """One case, opened.

    Args:
        case: The case.
        outcome: What came of it.
        seconds: Of processor time.
        mebibytes: Of memory at its peak, beyond an empty process's.
    """

    case: Case
    outcome: Outcome
    seconds: float
    mebibytes: int


def opened(case: Case, made: Any, folders: list[Path]) -> Run:
    """Open a case in a child process."""
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if not child:
        os.close(reading)
        _be_child(case, made, folders, writing)
    os.close(writing)
    said = b""
    with contextlib.suppress(TimeoutError), open(reading, "rb", buffering=0) as answers:  # noqa: PTH123
        os.set_blocking(reading, False)
        while time.monotonic() - started < LIMIT_WALL_SECONDS:
            piece = answers.read(2**16)
            if piece == b"":
                break
            said += piece or b""
            if piece is None:
                time.sleep(0.002)
        else:
            os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    seconds = used.ru_utime + used.ru_stime
    if not said:
        how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit code {status >> 8}"
        return Run(case, Outcome("crashed", how), seconds, 0)
    outcome, before, after = pickle.loads(said)
    return Run(case, outcome, seconds, max(0, after - before))


def _be_child(case: Case, made: Any, folders: list[Path], writing: int) -> None:
    """Open the case, tell what came of it, and end."""
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)  # libtiff writes there
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        space = pages * resource.getpagesize() + SPACE_MEBIBYTES * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        resource.setrlimit(resource.RLIMIT_CPU, (int(LIMIT_SECONDS) + 5,) * 2)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _peak()
        try:
            outcome = corpus.tried(case, made, folders)
        except BaseException as error:
            outcome = Outcome("crashed", repr(error)[:300])
        os.write(writing, pickle.dumps((outcome, before, _peak())))
        code = 0
    finally:
        os._exit(code)


def _peak() -> int:
    """MiB of memory that this process has had at once."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def faults(run: Run) -> str:
    """What is wrong with a case's run; nothing where it is right."""
    if run.outcome.wrong:
        return f"{run.outcome.result}: {run.outcome.wrong}"
    if run.seconds > LIMIT_SECONDS:
        return f"took {run.seconds:.1f} s"
    if run.mebibytes > LIMIT_MEBIBYTES:
        return f"took {run.mebibytes} MiB"
    return f"left {run.outcome.left}" if run.outcome.left else ""


def main(wanted: str = "") -> int:
    """Run the cases whose name contains `wanted`."""
    for door, first in {
        "picture": "picture: whole png",
        "sound": "sound: whole m4a",
        "script": "script: two alphabets",
    }.items():
        with corpus.empty_folder() as folder:  # what is loaded once is no case's
            case = next(case for case in corpus.cases() if case.name == first)
            corpus.DOORS[door](case.make(Path(folder)))
    runs = []
    with corpus.empty_folder() as folder, tempfile.TemporaryDirectory() as temporary:
        tempfile.tempdir = os.environ["TMPDIR"] = temporary
        chosen = [case for case in corpus.cases() if wanted in case.name]
        for case, made in corpus.make_all(Path(folder), chosen):
            run = opened(case, made, [Path(folder), Path(temporary)])
            runs.append(run)
            if fault := faults(run):
                print(f"  {case.name}: {fault}", flush=True)
        tempfile.tempdir = None
    print(table(runs))
    return int(any(map(faults, runs)))


def table(runs: list[Run]) -> str:
    """What came of all, door by door."""
    lines = [
        f"{'door':10}{'files':>7}{'accepted':>10}{'refused':>9}{'wrong':>7}{'crashed':>9}{'left':>6}"
        "  slowest, peak memory"
    ]
    doors = [*dict.fromkeys(run.case.door for run in runs), ""]
    for door in doors:
        some = [run for run in runs if door in ("", run.case.door)]
        results = collections.Counter(
            one if (one := run.outcome.result) in ("accepted", "crashed") else "refused" for run in some
        )
        slowest, largest = max(some, key=lambda run: run.seconds), max(some, key=lambda run: run.mebibytes)
        wrong = sum(bool(faults(run)) for run in some if run.outcome.result != "crashed")
        left = sum(len(run.outcome.left) for run in some)
        lines.append(
            f"{door or 'all':10}{len(some):>7}{results['accepted']:>10}{results['refused']:>9}{wrong:>7}"
            f"{results['crashed']:>9}{left:>6}  {slowest.seconds:.1f} s ({slowest.case.name}), "
            f"{largest.mebibytes} MiB ({largest.case.name})"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
