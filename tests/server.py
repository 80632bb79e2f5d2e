"""The page as its own program, the way a visitor's browser or client meets it. Draws nothing itself."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
START_SECONDS = 90  # a crowded machine; a quiet one needs a tenth
POLL_SECONDS = 0.1
FOLDERS_EACH = 2  # of a render: for its clip, and for the sound it makes


@dataclass(frozen=True)
class Server:
    """A running app.py.

    Args:
        url: Where it answers, without a slash at the end.
        folder: Its folder for temporary files, its own.
        log: What it printed.
        process: The program itself.
    """

    url: str
    folder: Path
    log: Path
    process: subprocess.Popen

    def work_folders(self) -> list[Path]:
        """Folders of renders that are going on, or were left behind."""
        kept = ("portrait-parlant-jobs-", "portrait-parlant-locks-", "portrait-parlant-page-")  # which outlast one
        return sorted(f for f in self.folder.glob("portrait-parlant-*") if not f.name.startswith(kept))

    def has_cleared(self, seconds: float = 20.0) -> bool:
        """Whether no render's folder is left within so many seconds."""
        return wait_until(lambda: not self.work_folders(), seconds)


def wait_until(happened, seconds: float) -> bool:
    """Whether `happened()` becomes true within so many seconds."""
    end = time.monotonic() + seconds
    while not (found := happened()) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    return bool(found)


@contextlib.contextmanager
def serve(folder: Path, **settings: str) -> Iterator[Server]:
    """Run `python app.py` until the context ends, its files in `folder`; `settings` are environment variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)  # there already where a page is started again
    log = folder / "app.log"
    unwanted = ("SPACES_ZERO_GPU", "GRADIO_SHARE", "GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "GRADIO_SERVER_NAME")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    environment |= {"GRADIO_SERVER_PORT": str(port), "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    environment |= {name: str(folder / "kept") for name in ("HF_HOME", "XDG_CACHE_HOME")} | settings
    with log.open("ab") as output:
        program = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        server = Server(f"http://127.0.0.1:{port}", temporary, log, program)

        def answers() -> bool:
            assert program.poll() is None, f"app.py ended:\n{log.read_text()}"
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(server.url, timeout=5).status_code == 200
            return False

        assert wait_until(answers, START_SECONDS), f"no page after {START_SECONDS} s:\n{log.read_text()}"
        yield server
    finally:
        program.terminate()
        program.wait(20)
