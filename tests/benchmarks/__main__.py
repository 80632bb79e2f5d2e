"""`python -m tests.benchmarks` (`make bench`): how fast and how large a render is on this machine, beside its targets.

Every figure is taken now, in processes of their own; nothing is stored. Run it on a machine that does nothing else.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import wave
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.media import SAMPLE_RATE, load_speech
from tests.quality.clips import known_voices
from tests.quality.portraits import portraits

PROJECT = Path(__file__).parents[2]
TIMES_REAL = {512: 0.6, 768: 0.9}  # seconds of work per second of clip, whole job
TIMES_FLOOR = 1.8
MEMORY_GROWTH = 1.1  # five minutes over ten seconds
PAGE_SECONDS = 10.0
REPEATS = 3  # of what is compared with a target; the median counts


def run_job(*arguments: object) -> dict[str, Any]:
    """What a job printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.job", *map(str, arguments)],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def say(what: str, found: str, target: str = "", *, met: bool | None = None) -> None:
    """One line of the report."""
    verdict = "" if met is None else "pass" if met else "MISS"
    print(f"{what:<58}{found:>22}   {target:<12}{verdict}", flush=True)


def long_voice(folder: Path, seconds: float) -> Path:
    """Known voices one after the other, 0.4 s apart, cut at `seconds`; a wav."""
    pause = np.zeros(int(0.4 * SAMPLE_RATE), np.float32)
    spoken = [part for voice in known_voices("tuning") for part in (load_speech(voice.path).waveform, pause)]
    once = np.concatenate(spoken)
    waveform = np.tile(once, int(np.ceil(seconds * SAMPLE_RATE / len(once))))[: int(seconds * SAMPLE_RATE)]
    path = folder / f"voice_{seconds:.0f}s.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def page_seconds() -> float:
    """From `python app.py` to a page that answers on the loopback address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1"}
    started = time.perf_counter()
    page = subprocess.Popen(
        [sys.executable, "app.py"], cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while time.perf_counter() - started < 120:
            if page.poll() is not None:
                raise RuntimeError(f"app.py ended with exit code {page.returncode}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    if answer.status == 200:
                        return time.perf_counter() - started
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise RuntimeError("app.py did not answer within 120 s")
    finally:
        page.terminate()
        page.wait(10)


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--without-memory", action="store_true", help="leave out the five-minute clip")
    asked = parser.parse_args()
    if os.getloadavg()[0] > 0.5:
        print("Something else is running: the times below are longer than this machine's own.", flush=True)
    portrait, voice = portraits()["officer_with_glasses"].path, known_voices("tuning")[0].path
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.system()}, ", end="")
    print(f"Python {platform.python_version()}; load before: {os.getloadavg()[0]:.1f}", flush=True)

    for size, limit in TIMES_REAL.items():
        fresh, warm, floor = [], [], []
        for _ in range(REPEATS):  # one after the other, so that a slow moment of the machine falls on both
            rendered = run_job("render", portrait, voice, size, 2)
            fresh.append(rendered["seconds"][0])
            warm.append(rendered["seconds"][1])
            floor.append(run_job("floor", portrait, voice, size, 1)["seconds"][0])
        clip = rendered["clip_seconds"]
        whole, again, least = (statistics.median(seconds) for seconds in (fresh, warm, floor))
        spread = f"{min(fresh):.1f}–{max(fresh):.1f} s for {clip:.1f} s"
        say(f"{size}: render in a fresh process, imports included", spread)
        say("     over clip length", f"{whole / clip:.2f}", f"≤ {limit}", met=whole / clip <= limit)
        say(
            "     processor time, mean of two renders",
            f"{rendered['cpu_seconds']:.1f} s = {rendered['cpu_seconds'] / clip:.2f}",
        )
        say("     the second render in that process", f"{again:.1f} s = {again / clip:.2f}")
        say("     floor: one cubic remap a frame, the same encoder", f"{least:.1f} s = {least / clip:.2f}")
        say(
            "     second render over floor",
            f"{again / least:.2f}",
            f"≤ {TIMES_FLOOR}",
            met=again / least <= TIMES_FLOOR,
        )
        say("     fresh process over floor", f"{whole / least:.2f}")
        stages = run_job("stages", portrait, voice, size)
        first, second = stages["set_up_seconds"]
        say("     set-up of the picture, first and again", f"{first:.2f} s, {second:.2f} s")
        for stage, milliseconds in sorted(stages["ms_per_frame"].items(), key=lambda item: -item[1]):
            say(f"     a frame: {stage}", f"{milliseconds:.2f} ms")

    heard = run_job("listen", voice)
    first, second = (seconds / heard["clip_seconds"] for seconds in heard["seconds"])
    say("audio analysis per second of speech, first and again", f"{first:.3f} s, {second:.3f} s")

    if not asked.without_memory:
        with tempfile.TemporaryDirectory() as folder:
            peaks = [
                run_job("render", portrait, long_voice(Path(folder), seconds), 512, 1)["peak_mebibytes"]
                for seconds in (10, 300)
            ]
        growth = peaks[1] / peaks[0]
        say("peak memory at 10 s and at 5 min, 512", f"{peaks[0]:.0f} MiB, {peaks[1]:.0f} MiB")
        say("     growth", f"{growth:.2f}", f"≤ {MEMORY_GROWTH}", met=growth <= MEMORY_GROWTH)

    if (PROJECT / "app.py").exists():
        took = page_seconds()
        say(
            "python app.py to a page that answers", f"{took:.1f} s", f"≤ {PAGE_SECONDS:.0f} s", met=took <= PAGE_SECONDS
        )


if __name__ == "__main__":
    main()
