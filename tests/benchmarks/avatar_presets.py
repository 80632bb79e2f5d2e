"""`python -m tests.benchmarks.avatar_presets`: what each speed preset computes, and how far its latents end from those
of the reference preset, on a tiny build with random weights. That says nothing about the quality of real clips.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from pipeline.avatar import speed
from pipeline.avatar.fp8 import swap_linears
from pipeline.avatar.pipeline_hunyuan_avatar import HunyuanVideoAvatarPipeline
from pipeline.avatar.presets import NUM_INFERENCE_STEPS
from pipeline.errors import PresetUnavailable
from tests.avatar.builds import make_pipeline, make_transformer
from tests.avatar.test_sampler import make_run

REFERENCE = "reference"
CLIPS = {"one window": 129, "two windows": 140}  # of frames


@dataclass(frozen=True)
class Row:
    """One preset's run.

    Args:
        preset: Its name.
        forwards: Times that all blocks were computed, for one window.
        distance: Of its latents from the reference's, over the length of those; None for a preset that cannot work
            here.
        psnr: The same in dB of the reference's range.
        cause: Why it cannot work here; "".
    """

    preset: str
    forwards: int = 0
    distance: float | None = None
    psnr: float = math.inf
    cause: str = ""


def latents_of(pipe: HunyuanVideoAvatarPipeline, preset: str, num_frames: int, num_steps: int) -> torch.Tensor:
    """A run with a preset, to its end."""
    speed.apply(pipe, preset, num_inference_steps=num_steps)
    run = make_run(num_frames=num_frames, num_steps=num_steps)
    run.settings = replace(run.settings, **speed.PRESETS[preset].settings)
    try:
        pipe.denoise(run)
    finally:
        speed.undo(pipe)
    return run.latents


def compare(num_frames: int, num_steps: int = NUM_INFERENCE_STEPS) -> Iterator[Row]:
    """Every preset beside the reference one, which comes first; with fp8 weights where a preset needs them."""
    torch.set_num_threads(1)  # the blocks are too small for more
    pipe, pipe_fp8 = (make_pipeline(transformer=make_transformer()) for _ in range(2))
    swap_linears(pipe_fp8.transformer)
    references: dict[bool, torch.Tensor] = {}
    calls: list[int] = []
    for model in (pipe.transformer, pipe_fp8.transformer):  # neither the first block nor the last: caches keep those
        model.transformer_blocks[1].attn.register_forward_hook(lambda *_: calls.append(1))
    for name in (REFERENCE, *(name for name in speed.PRESETS if name != REFERENCE)):
        is_fp8 = speed.PRESETS[name].scaled_matmul
        used = pipe_fp8 if is_fp8 else pipe
        try:
            if is_fp8 not in references:
                references[is_fp8] = latents_of(used, REFERENCE, num_frames, num_steps)
                if name == REFERENCE:
                    yield Row(name, len(calls), 0.0)
                    calls.clear()
                    continue
            calls.clear()
            latents, wanted = latents_of(used, name, num_frames, num_steps), references[is_fp8]
        except PresetUnavailable as refusal:
            yield Row(name, cause=refusal.text("en"))
            continue
        error = float((latents - wanted).square().mean())
        span = float(wanted.max() - wanted.min())
        distance = math.sqrt(error / float(wanted.square().mean()))
        yield Row(name, len(calls), distance, 10 * math.log10(span**2 / error) if error else math.inf)


def report(rows: Sequence[Row], num_windows: int) -> Iterator[str]:
    """A table, line by line; forwards as a share of those of the published preset."""
    published = next(row.forwards for row in rows if row.preset == speed.DEFAULT)
    yield "| preset | whole forwards | of `published` | relative L2 | PSNR |"
    yield "|---|---|---|---|---|"
    for row in rows:
        if row.distance is None:
            yield f"| {row.preset} | cannot work here | | | |"
            continue
        psnr = "" if row.psnr == math.inf else f"{row.psnr:.1f} dB"
        share = row.forwards / published
        yield f"| {row.preset} | {row.forwards // num_windows} | {share:.2f} | {row.distance:.4f} | {psnr} |"


def main() -> None:
    """Print a table for each clip, and why presets are missing from it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.avatar_presets", description=__doc__)
    parser.add_argument("--steps", type=int, default=NUM_INFERENCE_STEPS, help="of each run")
    steps = parser.parse_args().steps
    print("Tiny build with random weights: these figures say nothing about the quality of real clips.")
    for number, (clip, num_frames) in enumerate(CLIPS.items(), start=1):
        rows = list(compare(num_frames, steps))
        print(f"\n{clip}, {num_frames} frames, {steps} steps, relative to the preset `{REFERENCE}`\n")
        print("\n".join(report(rows, number)))
    print()
    for row in rows:
        if row.cause:
            print(row.cause)


if __name__ == "__main__":
    main()
