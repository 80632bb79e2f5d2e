"""A ZeroGPU Space without a card, as a program: the real `spaces` fork and pickling, a fake device service, and the
avatar engine's tiny model.

    python -m tests.simulated_zero_gpu portrait voice picture_without_face

Prints what it met as JSON. Leans on private names of spaces 0.51 and needs torch, so the test that runs it is optional.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.server import wait_until

SIDE = 64  # pixels of the avatar's frames, so that a step takes a second
STEPS = 3
CALLS: list[str] = []
GRANTED = [10**6]  # leases still to be granted; at 0 the visitor's quota is used up


class DeviceService(BaseHTTPRequestHandler):
    """Grants leases while there are any, as ZeroGPU's own service."""

    def do_POST(self) -> None:
        status, body = 200, b""
        if self.path.startswith("/schedule"):
            if GRANTED[0] > 0:
                answer: dict[str, Any] = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0"}
                answer["allowToken"] = str(len(CALLS))
            else:
                status, answer = 429, {"left": 12, "wait": 3600}
            GRANTED[0] -= 1
            body = json.dumps(answer).encode()
        CALLS.append(self.path)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def pretend() -> None:
    """Make `spaces` believe in a card: its torch hooks are there, CUDA is not."""
    service = ThreadingHTTPServer(("127.0.0.1", 0), DeviceService)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    os.environ.update(
        SPACES_ZERO_GPU="true",
        SPACES_ZERO_DEVICE_API_URL=f"http://127.0.0.1:{service.server_port}",
        PORTRAIT_REHEARSAL="true",
    )
    import torch

    def never_forked() -> bool:
        return False

    never_forked.__module__, never_forked.__qualname__ = "torch.cuda", "_is_in_bad_fork"  # where pickle finds it
    torch.version.cuda = "12.8"
    torch._C._cuda_init = lambda: None
    torch.cuda._is_in_bad_fork = never_forked
    import spaces.zero.torch

    spaces.zero.torch.init = lambda uuid: None
    spaces.zero.torch.move = lambda callback=None: None


def compute_on_the_processor() -> None:
    """Small frames, one piece of work a lease, and no CUDA in the worker, which inherits all of it."""
    import torch

    from pipeline import request
    from pipeline.avatar import costs, leases, work

    work.device = lambda: torch.device("cpu")
    request.SMALLEST_SIZE = costs.SMALLEST_SIZE = SIDE
    costs.SIZES = (*costs.SIZES[1:], SIDE)
    leases.SHORTEST = leases.LONGEST = leases.START_SECONDS = leases.UNKNOWN = 0


def leases_asked() -> int:
    """How many there were."""
    return sum(call.startswith("/schedule") for call in CALLS)


def main(portrait: str, voice: str, faceless: str) -> dict[str, Any]:
    """A draft, which takes no lease; then the same avatar clip four times: whole, out of quota, killed, refused."""
    pretend()
    compute_on_the_processor()
    from gradio_client import Client, handle_file

    import app
    from pipeline import jobs

    _, url, _ = app.demo.launch(**app.LAUNCH, prevent_thread_lock=True, quiet=True)
    try:
        client = Client(url, verbose=False)

        def ask(picture: str = portrait, **others: Any) -> Any:
            given = {"engine": "avatar", "avatar_size": SIDE, "steps": STEPS, "seed": "7", "consent": True, **others}
            return client.submit(handle_file(picture), handle_file(voice), **given, api_name="/render")

        def go_on(job: str) -> Any:
            return client.submit(job, api_name="/resume")

        met: dict[str, Any] = {"draft": ask(engine="draft").result()[1], "leases_of_a_draft": leases_asked()}

        whole = ask().result()
        met |= {"whole": digest(whole), "leases": leases_asked(), "jobs_left": len(jobs.unfinished())}
        seconds = [int(call.partition("durationSeconds=")[2].partition("&")[0]) for call in CALLS if "duration" in call]
        met |= {"asked_seconds": seconds, "released": sum(call.startswith("/release") for call in CALLS)}

        GRANTED[0] = 2
        paused = ask().result()
        met |= {"paused": paused[1], "clip_when_paused": paused[0], "step_when_paused": jobs.find(paused[3]).state}
        met["again_without_quota"] = go_on(paused[3]).result()[1]
        GRANTED[0] = 10**6
        met["resumed"] = digest(go_on(paused[3]).result())

        running = ask()
        job = wait_until(lambda: next((job for job in jobs.unfinished() if job.state.get("step") == 1), None), 120)
        killed = kill_workers()
        broken = running.result()
        met |= {"killed": killed, "broken": broken[1], "found": bool(job)}
        met["after_the_kill"] = digest(go_on(broken[3]).result())

        try:
            ask(faceless).result()
        except Exception as refusal:
            met["refusal"] = str(refusal)
        try:
            go_on("0" * 32).result()
        except Exception as refusal:
            met["unknown_job"] = str(refusal)
        met["failure"] = failure_from_a_worker(app.on_gpu)
        return met
    finally:
        app.demo.close()


def digest(answer: Any) -> str:
    """SHA-256 of a delivered clip's picture and sound as they are encoded, or what was said instead. Its signature is
    another one each time."""
    clip = answer[0]["video"] if isinstance(answer[0], dict) else answer[0]
    if not clip:
        return str(answer[1])
    import av

    with av.open(clip) as container:
        return hashlib.sha256(b"".join(bytes(packet) for packet in container.demux() if packet.size)).hexdigest()


def kill_workers() -> int:
    """`kill -9` for every process that the page forked; how many there were."""
    children: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that ended meanwhile
            children += [int(line) for line in (task / "children").read_text().split()]
    for child in set(children):
        os.kill(child, signal.SIGKILL)
    return len(set(children))


def failure_from_a_worker(on_gpu: Callable[..., Any]) -> str:
    """How an error of ours comes back out of a lease."""
    *_, last = on_gpu("nowhere", 1.0)
    return str(last.text("fr"))


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
