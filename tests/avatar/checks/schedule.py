"""What the steps do beside the published tables: sigmas, guidance, cached steps, lengths and windows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler

from pipeline.avatar.presets import NUM_INFERENCE_STEPS
from pipeline.avatar.sampler import Settings, make_scheduler
from pipeline.avatar.schedule import plan_step
from pipeline.avatar.windows import plan_timeline, windows_of
from tests.avatar.checks import Difference

SIGMA_TOLERANCE = 1e-6  # float32 near 1
TIMESTEP_TOLERANCE = 1e-3  # of 1000, the same


def differences(folder: Path) -> Iterator[Difference]:
    """scheduler.json and the tables of sampler_tiny.json."""
    if (folder / "scheduler.json").exists():
        cases = json.loads((folder / "scheduler.json").read_text(encoding="utf-8"))["cases"]
        for name, case in cases.items():
            shift, steps = (float("".join(c for c in part if c in "0123456789.")) for part in name.split("_"))
            base = FlowMatchEulerDiscreteScheduler(shift=shift)
            scheduler = make_scheduler(base.config, Settings(int(steps), guidance_scale=1))
            yield _largest(f"scheduler {name} sigmas", scheduler.sigmas, case["sigmas"], SIGMA_TOLERANCE)
            yield _largest(f"scheduler {name} timesteps", scheduler.timesteps, case["timesteps"], TIMESTEP_TOLERANCE)
    if (folder / "sampler_tiny.json").exists():
        yield from _tables(json.loads((folder / "sampler_tiny.json").read_text(encoding="utf-8")))


def _largest(name: str, found: Any, wanted: list[float], tolerance: float) -> Difference:
    """The largest difference of two rows of numbers."""
    return Difference(name, float(np.abs(np.asarray(found) - np.asarray(wanted)).max()), tolerance)


def _tables(facts: dict[str, Any]) -> Iterator[Difference]:
    """Guidance, cache, lengths and windows of the published 50 steps."""
    steps = [plan_step(step, NUM_INFERENCE_STEPS) for step in range(NUM_INFERENCE_STEPS)]
    published = facts["by_number_of_steps"][str(NUM_INFERENCE_STEPS)]
    yield _largest("sampler guidance", [step.guidance for step in steps], published["guidance"], 1e-9)
    cached = {number for number, step in enumerate(steps) if not step.is_full}
    yield Difference("sampler cached steps", len(cached ^ set(published["cached_steps"])), 0)
    wrong = 0
    for row in facts["length_table"]:
        timeline = plan_timeline(max(row["audio_len"], 5))
        wrong += timeline.noise_latent_frames != row["noise_frames"]
        wrong += timeline.latent_frames != row["infer_length"]
        wrong += timeline.kept_latent_frames != row["final_latent_frames"]
        wrong += timeline.num_windows != row["n_windows"]
        for number, window in enumerate(row["step1_windows"] or []):
            ours = windows_of(timeline, 1)[number]
            wrong += list(ours.latent_frames) != window["latent_idx"]
            wrong += (ours.speech_frames[0], ours.speech_frames[-1]) != (window["audio_first"], window["audio_last"])
    yield Difference("sampler length table", wrong, 0)
    for name, case in facts["cases"].items():
        timeline = plan_timeline(case["audio_frames_real"])
        rows = [
            (
                step,
                window.latent_frames[0],
                window.latent_frames[-1],
                window.speech_frames[0],
                window.speech_frames[-1],
                not plan.is_full,
                plan.face_mask_factor,
            )
            for step, plan in enumerate(steps)
            for window in windows_of(timeline, step)
        ]
        keys = (
            "step", "first_latent_idx", "last_latent_idx", "first_audio_idx", "last_audio_idx", "is_cache",
            "face_mask_factor",
        )  # fmt: skip
        wanted = [tuple(row[key] for key in keys) for row in case["windows"]]
        wrong = sum(ours != theirs for ours, theirs in zip(rows, wanted, strict=True))
        yield Difference(f"sampler {name} windows", wrong, 0)
