"""A ZeroGPU Space without a card, as a program: the real `spaces` fork and pickling, a fake device service.

    python -m tests.simulated_zero_gpu portrait voice picture_without_face folder

Prints what it met as JSON. Leans on private names of spaces 0.51 and needs torch, so the test that runs it is optional.
"""

import json
import multiprocessing
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.server import wait_until

CALLS: list[str] = []


class DeviceService(BaseHTTPRequestHandler):
    """Grants every lease."""

    def do_POST(self) -> None:
        CALLS.append(self.path.partition("?")[0])
        body = b""
        if self.path.startswith("/schedule"):
            grant = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": str(len(CALLS))}
            body = json.dumps(grant).encode()
        self.send_response(200)
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
    os.environ.update(SPACES_ZERO_GPU="true", SPACES_ZERO_DEVICE_API_URL=f"http://127.0.0.1:{service.server_port}")
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


def main(portrait: str, voice: str, faceless: str, folder: str) -> dict[str, Any]:
    """One draft through the page, which takes no lease; then the GPU route called as the page would call it."""
    pretend()
    import gradio as gr
    from gradio_client import Client, handle_file

    import app
    from pipeline import RenderRequest, RenderResult

    _, url, _ = app.demo.launch(**app.LAUNCH, prevent_thread_lock=True, quiet=True)
    try:
        client = Client(url, verbose=False)
        _, status, _ = client.predict(handle_file(portrait), handle_file(voice), api_name="/render")
        met: dict[str, Any] = {"page": status, "leases_of_a_draft": CALLS.count("/schedule")}

        request = RenderRequest(portrait=Path(portrait), speech=Path(voice), output=Path(folder) / "gpu.mp4")
        *steps, result = app.watched_on_gpu(request, "fr")
        met |= {"steps": len(steps), "finished": isinstance(result, RenderResult) and result.path.is_file()}
        met |= {"leases": CALLS.count("/schedule"), "released": CALLS.count("/release")}
        try:
            list(app.watched_on_gpu(RenderRequest(portrait=Path(faceless), speech=Path(voice)), "fr"))
        except gr.Error as error:
            met["refusal"] = error.message
        abandoned = app.watched_on_gpu(request, "fr")
        next(abandoned)
        abandoned.close()
        met["abandoned_is_released"] = wait_until(lambda: CALLS.count("/release") == CALLS.count("/schedule"), 20)
        return met
    finally:
        app.demo.close()


if __name__ == "__main__":
    try:
        print(json.dumps(main(*sys.argv[1:])), flush=True)
    finally:
        for worker in multiprocessing.active_children():  # they wait for the next lease
            worker.kill()
