"""One measurement in a process of its own: `python -m tests.benchmarks.job NAME ARGUMENTS...` prints JSON.

A process of its own, so that imports are cold, peak memory is the job's alone, and nothing is left warm for the next.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

STARTED = time.perf_counter()  # before any import of ours


def render_clip(portrait: str, voice: str, size: str, repeats: str) -> dict[str, Any]:
    """Whole renders: seconds of the first, imports included, and of the others in the same process; peak memory."""
    from pipeline import RenderRequest, render

    seconds: list[float] = []
    started = STARTED
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(int(repeats)):
            output = Path(folder) / "clip.mp4"
            made = render(
                RenderRequest(portrait=Path(portrait), speech=Path(voice), output=output, size=int(size), seed=1)
            )
            seconds.append(time.perf_counter() - started)
            started = time.perf_counter()
    return {
        "seconds": seconds,
        "clip_seconds": made.clip_seconds,
        "cpu_seconds": time.process_time() / len(seconds),
        "peak_mebibytes": _peak_mebibytes(),
    }


def floor(portrait: str, voice: str, size: str, repeats: str) -> dict[str, Any]:
    """What no such engine can go below: one cubic remap of each frame and the same encoder, both streaming."""
    import cv2
    import numpy as np

    from pipeline import media
    from pipeline.plan import Box, plan_clip

    picture, speech, side = media.load_portrait(Path(portrait)), media.load_speech(Path(voice)), int(size)
    plan = plan_clip(
        seconds=speech.seconds, size=side, picture_size=picture.shape[:2], faces=[Box(0, 0, *picture.shape[1::-1])]
    )
    frame = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
    ticks = np.arange(side, dtype=np.float32)
    x, y = np.meshgrid(ticks, ticks)
    bend = 4 * np.sin(x / side * np.pi) * np.sin(y / side * np.pi)  # still at the frame's edge, as a head's motion is
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(int(repeats)):
            started = time.perf_counter()
            with media.VideoWriter(Path(folder) / "clip.mp4", speech, plan) as writer:
                for i in range(plan.num_frames):
                    at = x + bend * np.float32(np.sin(i / 9))
                    writer.add(cv2.remap(frame, at, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
            seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "clip_seconds": plan.seconds}


def listen(voice: str) -> dict[str, Any]:
    """Audio analysis: seconds of the first in a process and of the second."""
    from pipeline import media
    from pipeline.draft.speech import follow_speech
    from pipeline.generators import to_end
    from pipeline.plan import FPS

    speech = media.load_speech(Path(voice))
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        to_end(follow_speech(speech.waveform, int(speech.seconds * FPS)))
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "clip_seconds": speech.seconds}


def stages(portrait: str, voice: str, size: str) -> dict[str, Any]:
    """Set-up per picture, and milliseconds a frame of each stage of drawing, then of encoding what was drawn.

    The product is not instrumented: its functions are replaced from outside by ones that take the time around them.
    A stage's time is its own, without the stages it calls. Drawing and encoding run one after the other here.
    """
    import cv2

    from pipeline import face, media
    from pipeline.draft import engine, puppet
    from pipeline.draft import stage as drawing
    from pipeline.engine import Scene
    from pipeline.generators import to_end
    from pipeline.plan import plan_clip

    spent: dict[str, float] = {}
    children: list[float] = []

    def timed(stage: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            children.append(0.0)
            started = time.perf_counter()
            try:
                return inner(*args, **options)
            finally:
                took = time.perf_counter() - started
                spent[stage] = spent.get(stage, 0.0) + took - children.pop()
                if children:
                    children[-1] += took

        return call

    remap = timed("remap", cv2.remap)
    watched = SimpleNamespace(**{**vars(cv2), "remap": remap})
    for owner, name, stage in (
        (puppet.ExpressionFields, "move", "fields"),
        (puppet.ExpressionFields, "sample", "fields"),
        (puppet.PoseFields, "invert", "fields"),
        (puppet.PoseFields, "follow", "fields"),
        (puppet.MouthInterior, "compose", "mouth"),
        (puppet.Puppet, "_draw_mouth", "mouth"),
        (puppet.Puppet, "_draw_eyes", "eyes"),
        (puppet.Puppet, "draw", "composite"),
        (drawing, "Puppet", "set-up"),
    ):
        if hasattr(owner, name):  # what was renamed counts for the stage that calls it
            setattr(owner, name, timed(stage, getattr(owner, name)))
    vars(puppet)["cv2"] = watched

    picture, speech, side = media.load_portrait(Path(portrait)), media.load_speech(Path(voice)), int(size)
    found = face.locate(picture, name="portrait")
    plan = plan_clip(seconds=speech.seconds, size=side, picture_size=picture.shape[:2], faces=[found.box])
    set_up, frames = [], []
    for _ in range(2):
        spent.clear()
        frames = list(to_end(engine.DraftEngine().perform(Scene.of(picture, speech, found), plan, seed=1)).frames)
        set_up.append(spent.pop("set-up", float("nan")))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with media.VideoWriter(Path(folder) / "clip.mp4", speech, plan) as writer:
            for frame in frames:
                writer.add(frame)
        spent["encode"] = time.perf_counter() - started
    per_frame = {stage: 1000 * seconds / len(frames) for stage, seconds in spent.items()}
    return {"set_up_seconds": set_up, "ms_per_frame": per_frame}


def _peak_mebibytes() -> float:
    """Largest resident memory this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: ru_maxrss would begin with what the process that started us held
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, others kibibytes


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "render": render_clip,
    "floor": floor,
    "listen": listen,
    "stages": stages,
}

if __name__ == "__main__":
    print(json.dumps(JOBS[sys.argv[1]](*sys.argv[2:])))
