"""A process with everything loaded, which forks one that works on a job for each line it reads, so that this one may
be killed without mercy and begun again within milliseconds.

A line is JSON: `folder` of the job, `pieces` to work at most, `die_at`, the change of a file in the job's folder, from
1, before which the forked process kills itself (0: none). Answered with a line `pid` when it is forked, perhaps one
`error`, and one `status`, as `subprocess` has it, when it ended.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
CHANGES = ("os.rename", "os.remove", "os.mkdir")  # of Python's audit events; beside "open" to write
TILING = "17-frames"


class Survivor:
    """The other side: starts the process and talks to it."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.avatar.survivor"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.answer() == {"ready": True}

    def start(self, folder: Path, *, pieces: int = 1_000, die_at: int = 0) -> int:
        """Begin to work on a job; the number of the process that does."""
        assert self.process.stdin is not None
        print(
            json.dumps({"folder": str(folder), "pieces": pieces, "die_at": die_at}), file=self.process.stdin, flush=True
        )
        return self.answer()["pid"]

    def wait(self) -> dict[str, Any]:
        """How it ended: `status`, and `error` and `text` where it raised one."""
        ended: dict[str, Any] = {}
        while "status" not in ended:
            ended |= self.answer()
        return ended

    def work(self, folder: Path, *, pieces: int = 1_000, die_at: int = 0) -> dict[str, Any]:
        """`start` and `wait`."""
        self.start(folder, pieces=pieces, die_at=die_at)
        return self.wait()

    def answer(self) -> dict[str, Any]:
        """Its next line."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


def die_at(number: int, folder: Path) -> None:
    """Kill this process before it changes a file in `folder` for the time of that number."""
    left = number

    def count(event: str, values: tuple[Any, ...]) -> None:
        nonlocal left
        is_change = event in CHANGES or (event == "open" and values[2] & (os.O_WRONLY | os.O_RDWR))
        if is_change and str(values[0]).startswith(str(folder)):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def main() -> None:
    """Read lines until there are none."""
    import torch

    from pipeline.errors import AvatarError
    from tests.avatar.builds import make_pipeline

    torch.set_num_threads(1)
    pipe = make_pipeline()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        child = os.fork()
        if not child:
            try:
                if told["die_at"]:
                    die_at(told["die_at"], Path(told["folder"]))
                for _ in islice(pieces_of(Path(told["folder"]), pipe), told["pieces"]):
                    pass
            except AvatarError as error:
                print(json.dumps({"error": type(error).__name__, "text": str(error)}), flush=True)
                os._exit(2)
            except KeyboardInterrupt:
                os._exit(130)
            os._exit(0)
        print(json.dumps({"pid": child}), flush=True)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


def pieces_of(folder: Path, pipe: Any) -> Iterator[None]:
    """Work on a job, piece by piece."""
    from pipeline import media
    from pipeline.avatar.autoencoder import frame_to_uint8
    from pipeline.avatar.checkpoints import Checkpoints
    from pipeline.avatar.tilings import TILINGS
    from pipeline.jobs import Job

    job = Job.open(folder)
    with job.lock():
        checkpoints = Checkpoints(job.run_folder)
        run = checkpoints.load()
        if run is None:
            run = pipe.prepare(
                media.load_portrait(job.request.portrait),
                media.load_speech(job.request.speech).waveform,
                seed=job.request.seed,
                full_window=False,
                **job.facts,
            )
            checkpoints.save(run)
            yield
        for _ in pipe.steps(run):
            checkpoints.save(run)
            yield
        total, stride = run.timeline.num_frames, TILINGS[TILING].num_frames_stride
        first = job.num_frames
        frames = pipe.decode(run, TILING, first) if first < total else iter(())
        while (first := job.num_frames) < total:
            size = min(stride + (first == 0), total - first)
            job.add_frames(first, np.stack([frame_to_uint8(frame) for frame in islice(frames, size)]))
            yield
        job.update(finished=True)


if __name__ == "__main__":
    main()
