"""Visitors of the page who can tell their own clip from every other: by a mark in the picture and the pitch of the
voice. Starts no page."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
from gradio_client import Client, handle_file
from gradio_client.client import Job
from gradio_client.utils import QueueError
from PIL import Image

from pipeline.texts import TEXTS
from tests.conftest import EXAMPLES, first_sound, tone, write_wav

NUM_BITS = 6  # 64 visitors
STRIP = 1 / 14  # of the picture's height: out of the face's reach, and 18 pixels high in the smallest clip
RATE = 8_000  # Hz: few bytes to upload, and above twice the highest pitch
LOWEST_HZ, STEP_HZ = 300.0, 50.0  # pitch of the first visitor's voice, and from one to the next
CLIP_SIZE = 256  # pixels: the smallest there is
BLACK, WHITE = 80, 175  # grey levels up to which, and from which, a block is read
PATIENCE_SECONDS = 150  # of a visitor, for one clip
POLL_SECONDS = 0.02
IN_LINE = TEXTS["StageInLine"].en.partition("{")[0]


def marked_portrait(number: int, path: Path) -> Path:
    """A portrait with a visitor's number along its top and its bottom: bits as black and white blocks, then the same
    bits turned round, so that a torn or a mixed mark is none."""
    with Image.open(EXAMPLES / "portraits" / "woman_facing_camera.jpg") as picture:
        pixels = np.array(picture.convert("RGB"))
    bits = [number >> bit & 1 for bit in range(NUM_BITS)]
    blocks = np.array(bits + [1 - bit for bit in bits], np.uint8) * 255
    strip = blocks[np.arange(pixels.shape[1]) * len(blocks) // pixels.shape[1]][None, :, None]
    rows = round(STRIP * len(pixels))
    pixels[:rows] = pixels[-rows:] = strip
    Image.fromarray(pixels).save(path, quality=95)
    return path


def numbers_in(frame: np.ndarray) -> set[int | None]:
    """The numbers that the two strips of a frame show; None for one that is no mark.

    Args:
        frame: (height, width) uint8, luminance.
    """
    height, width = frame.shape
    middles = ((np.arange(2 * NUM_BITS) + 0.5) * width / (2 * NUM_BITS)).round().astype(int)
    reach = max(width // (8 * NUM_BITS), 1)
    found: set[int | None] = set()
    for row in (STRIP / 2, 1 - STRIP / 2):
        y = round(row * height)
        levels = np.array([frame[y - 2 : y + 3, x - reach : x + reach].mean() for x in middles])
        bits = levels > (BLACK + WHITE) / 2
        is_clear = ((levels < BLACK) | (levels > WHITE)).all() and (bits[:NUM_BITS] != bits[NUM_BITS:]).all()
        found.add(sum(int(bit) << place for place, bit in enumerate(bits[:NUM_BITS])) if is_clear else None)
    return found


def numbers_seen(clip: Path) -> set[int]:
    """The visitors whose marks a clip shows, in any of its frames; a label may hide one strip of the two."""
    seen: set[int] = set()
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            found = numbers_in(frame.to_ndarray(format="gray"))
            seen |= {number for number in found if number is not None} or {-1}
    return seen


def number_heard(clip: Path) -> float:
    """The visitor whose pitch a clip's sound has; not a whole number for one between two."""
    samples, rate, _ = first_sound(clip)
    mono = samples.mean(axis=0)
    spectrum = np.abs(np.fft.rfft(mono * np.hanning(len(mono)), 8 * len(mono)))
    return (spectrum.argmax() * rate / (8 * len(mono)) - LOWEST_HZ) / STEP_HZ


@dataclass
class Visit:
    """What became of one call.

    Args:
        number: The visitor's.
        clip: The file that came; None where none did.
        wait: Seconds from the call to the first word about work.
        total: Seconds from the call to its end.
        begun: When work began, on the monotonic clock.
        told: The status lines, as they came.
        details: The last line about the clip.
        refusal: What was said instead of a clip.
        is_full: Whether that was for too many waiting.
    """

    number: int
    clip: Path | None = None
    wait: float = 0.0
    total: float = 0.0
    begun: float = 0.0
    told: list[str] = field(default_factory=list)
    details: str = ""
    refusal: str = ""
    is_full: bool = False

    @property
    def leaks(self) -> list[str]:
        """What of this clip is not the visitor's own."""
        if self.clip is None:
            return []
        found = []
        if (seen := numbers_seen(self.clip)) != {self.number}:
            found.append(f"visitor {self.number} sees the marks {sorted(seen)}")
        if abs((heard := number_heard(self.clip)) - self.number) > 0.25:
            found.append(f"visitor {self.number} hears the pitch of {heard:.2f}")
        if not self.details.splitlines()[0].endswith(f" {self.number}"):
            found.append(f"visitor {self.number} is told: {self.details.splitlines()[0]}")
        return found


class Visitor:
    """Somebody with a browser of their own.

    Args:
        url: The page.
        number: 0 to 63; also the seed of the clips.
        folder: Where the inputs lie, and the clips go.
        seconds: Of voice.
    """

    def __init__(self, url: str, number: int, folder: Path, seconds: float = 1.2) -> None:
        self.number = number
        own = folder / f"visitor-{number}"
        own.mkdir()
        self.portrait = marked_portrait(number, own / "portrait.jpg")
        self.voice = write_wav(own / "voice.wav", tone(seconds, RATE, hz=LOWEST_HZ + STEP_HZ * number), RATE)
        self.client = Client(url, verbose=False, download_files=str(own))
        offered = self.client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/render"]
        self._defaults = {one["parameter_name"]: one.get("parameter_default") for one in offered["parameters"]}

    @property
    def _wanted(self) -> dict[str, Any]:
        """What is asked for beside the files: a clip of the whole picture."""
        wanted = {"size": CLIP_SIZE, "framing": "picture", "seed": str(self.number), "source": "recording"}
        return wanted | {"consent": True}

    def submit(self) -> Job:
        """Ask for a clip."""
        files = {"portrait": handle_file(self.portrait), "speech": handle_file(self.voice)}
        return self.client.submit(**files, **self._wanted, api_name="/render")

    def leave_after(self, seconds: float) -> None:
        """Ask for a clip and break the connection off without a word, as a closed or a reloaded tab does."""
        api = f"{self.client.src.rstrip('/')}/gradio_api"
        files = [("files", (path.name, path.read_bytes())) for path in (self.portrait, self.voice)]
        uploaded = httpx.post(f"{api}/upload", files=files).raise_for_status().json()
        given = self._defaults | self._wanted
        for name, path in zip(("portrait", "speech"), uploaded, strict=True):
            given[name] = {"path": path, "meta": {"_type": "gradio.FileData"}}
        call = httpx.post(f"{api}/call/render", json={"data": list(given.values())}).raise_for_status().json()
        asked = time.monotonic()
        with httpx.stream("GET", f"{api}/call/render/{call['event_id']}", timeout=30) as stream:
            for _ in stream.iter_lines():
                if time.monotonic() - asked > seconds:
                    break

    def visit(self) -> Visit:
        """Ask for a clip and wait for it."""
        made, asked = Visit(self.number), time.monotonic()
        try:
            job, num_heard = self.submit(), 0
            while not (is_over := job.done()) or num_heard < len(job.outputs()):
                for video, status, details, *_ in job.outputs()[num_heard:]:
                    num_heard += 1
                    made.told.append(status)
                    if not made.begun and not status.startswith(IN_LINE):
                        made.begun = time.monotonic()
                        made.wait = made.begun - asked
                    made.details = details
                    if video:
                        made.clip = Path(video["video"] if isinstance(video, dict) else video)
                if not is_over and time.monotonic() - asked > PATIENCE_SECONDS:
                    raise TimeoutError(f"no clip after {PATIENCE_SECONDS} s")  # from a page that died none ever comes
                time.sleep(POLL_SECONDS)
            if made.clip is None:
                job.result()  # which says why
        except Exception as error:  # whatever a client meets is this visitor's answer
            made.refusal = getattr(error, "message", None) or str(error)
            made.is_full = isinstance(error, QueueError) or "waiting" in made.refusal
        made.total = time.monotonic() - asked
        return made
