"""A process with everything loaded, which forks one that works on a job for each line it reads, so that this one may
be killed without mercy and begun again within milliseconds.

A line is JSON: `folder` of the job, `seconds` of the lease or null, `die_at`, the change of a file in the job's folder,
from 1, before which the forked process kills itself (0: none). Answered with a line `pid` when it is forked, perhaps
one `error`, and one `status`, as `subprocess` has it, when it ended.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHANGES = ("os.rename", "os.remove", "os.mkdir")  # of Python's audit events; beside "open" to write


class Survivor:
    """The other side: starts the process and talks to it.

    Args:
        weights: Where the tiny repository lies, or is to be written.
    """

    def __init__(self, weights: Path) -> None:
        self.facts = {"weights": str(weights), "converted": str(weights / "converted"), "precision": "bf16"}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(weights / "cache")}
        command = [sys.executable, "-m", "tests.avatar.survivor", json.dumps(self.facts)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.answer() == {"ready": True}

    def start(self, folder: Path, *, seconds: float | None = None, die_at: int = 0) -> int:
        """Begin to work on a job; the number of the process that does."""
        assert self.process.stdin is not None
        line = json.dumps({"folder": str(folder), "seconds": seconds, "die_at": die_at})
        print(line, file=self.process.stdin, flush=True)
        return self.answer()["pid"]

    def wait(self) -> dict[str, Any]:
        """How it ended: `status`, and `error` and `text` where it raised one."""
        ended: dict[str, Any] = {}
        while "status" not in ended:
            ended |= self.answer()
        return ended

    def work(self, folder: Path, *, seconds: float | None = None, die_at: int = 0) -> dict[str, Any]:
        """`start` and `wait`."""
        self.start(folder, seconds=seconds, die_at=die_at)
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

    from pipeline.avatar import tiny, work
    from pipeline.errors import AvatarError

    torch.set_num_threads(1)
    facts = json.loads(sys.argv[1])
    if not Path(facts["weights"]).is_dir():
        tiny.write_repository(Path(facts["weights"]))
    work.load(facts)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        child = os.fork()
        if not child:
            try:
                if told["die_at"]:
                    die_at(told["die_at"], Path(told["folder"]))
                for _ in work.work_on(Path(told["folder"]), told["seconds"]):
                    pass
            except AvatarError as error:
                print(json.dumps({"error": type(error).__name__, "text": str(error)}), flush=True)
                os._exit(2)
            except KeyboardInterrupt:
                os._exit(130)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(json.dumps({"pid": child}), flush=True)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
