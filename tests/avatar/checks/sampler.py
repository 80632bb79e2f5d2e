"""The whole denoising loop beside the published one: short and long speech, three kinds of rounding, the step cache."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file

from pipeline.avatar.audio import SpeechFeatures
from pipeline.avatar.presets import FLOW_SHIFT, GUIDANCE_SCALE, NUM_INFERENCE_STEPS
from pipeline.avatar.sampler import Conditions, DenoisingRun, Settings, Speaker, denoise_step, make_scheduler
from pipeline.avatar.text import PromptEmbeds
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from pipeline.avatar.windows import plan_timeline
from tests.avatar.checks import Difference
from tests.avatar.checks.transformer import load_model

TOLERANCE = 1e-4  # of float32 latents; weights changed by 1e-6 of themselves move them by 1.5e-5
ROUNDED_TOLERANCE, ROUNDED_MEAN_TOLERANCE = 0.05, 1e-3  # where steps are rounded to bfloat16, whose step is 0.016
VARIANTS = {  # name -> rounding after each step, what latents and text are kept in
    "fp32": (None, torch.float32),
    "bf16cast": (torch.bfloat16, torch.float32),
    "fp16carrier": (torch.bfloat16, torch.float16),
}
Tensors = dict[str, torch.Tensor]


def speech_of(audio_prompts: torch.Tensor) -> SpeechFeatures:
    """Features that give the frames of (1, frames, window, blocks, channels)."""
    num_frames, window = audio_prompts.shape[1:3]
    return SpeechFeatures(audio_prompts[0].flatten(0, 1), torch.arange(num_frames) * window)


def make_run(tensors: Tensors, case: str, variant: str) -> DenoisingRun:
    """The run a golden was recorded from, before its first step."""
    rounding, dtype = VARIANTS[variant]

    def prompt(prefix: str) -> PromptEmbeds:
        embeds, pooled = (tensors[f"in.{prefix}{name}"].to(dtype) for name in ("prompt_embeds", "prompt_embeds_2"))
        return PromptEmbeds(embeds, tensors[f"in.{prefix}prompt_mask"], pooled, "")

    speech = speech_of(tensors[f"{case}.in.audio_prompts_unpadded"])
    conditions = Conditions(
        prompt(""),
        prompt("negative_"),
        tensors["in.ref_latents"],
        (Speaker(speech, tensors["in.face_masks"][0, 0]),),
        motion_exp=int(tensors["in.motion_exp"][0, 0]),
        motion_pose=int(tensors["in.motion_pose"][0, 0]),
        fps=float(tensors["in.fps"][0]),
    )
    timeline = plan_timeline(speech.num_frames)
    noise = tensors[f"{case}.in.initial_noise"][:, :, : timeline.latent_frames].to(dtype)
    settings = Settings(NUM_INFERENCE_STEPS, GUIDANCE_SCALE, rounding=rounding)
    return DenoisingRun(timeline, settings, conditions, noise)


def differences(folder: Path) -> Iterator[Difference]:
    """Every case and variant of sampler_tiny, with sampler_cache_tiny."""
    if not (folder / "sampler_tiny.safetensors").exists():
        return
    model = load_model(folder)
    tensors = load_file(folder / "sampler_tiny.safetensors")
    cached = folder / "sampler_cache_tiny.safetensors"
    kept = load_file(cached) if cached.exists() else {}
    names = sorted({tuple(name.split(".")[:2]) for name in tensors if name.endswith(".final_latents")})
    for case, variant in names:
        yield from _compare(model, make_run(tensors, case, variant), tensors, kept, f"{case}.{variant}")


def _compare(
    model: HunyuanVideoAvatarTransformer3DModel, run: DenoisingRun, tensors: Tensors, kept: Tensors, name: str
) -> Iterator[Difference]:
    """One run beside its golden, step by step."""
    is_exact = name.endswith("fp32")
    scheduler = make_scheduler(FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT).config, run.settings)
    outputs: list[tuple[dict[str, Any], torch.Tensor]] = []
    handle = model.register_forward_hook(
        lambda _, __, given, output: outputs.append((given, output.sample)), with_kwargs=True
    )
    worst: dict[str, float] = {}

    def note(what: str, found: torch.Tensor, wanted: torch.Tensor) -> None:
        if found.ndim == 3:  # tokens: text that is not counted is not kept
            wanted = wanted[:, : found.shape[1]]
        apart = (found.float() - wanted.float()).abs()
        worst[what] = max(worst.get(what, 0.0), float(apart.max()))
        if not is_exact:
            worst[f"{what}, mean"] = max(worst.get(f"{what}, mean", 0.0), float(apart.mean()))

    while not run.is_done:
        outputs.clear()
        denoise_step(run, model, scheduler)
        step = run.step - 1
        golden = f"{name}.latents_all.after_step{step}"
        if golden in tensors:
            note(f"{name}.latents_all", run.latents, tensors[golden])
        for number, (given, sample) in enumerate(outputs):
            window, branch = number // 2, ("pos", "neg")[number % 2]  # the positive branch runs first
            golden = f"{name}.step{step}.window{window}.noise_pred_{branch}_branch"
            if golden in tensors:
                note(re.sub(r"\d+", "*", golden, count=0).replace(name, name), sample, tensors[golden])
            prefix, row = f"{name.split('.')[0]}.step{step}.window{window}", {"neg": 0, "pos": 1}[branch]
            if is_exact and f"{prefix}.assembled_cache" in kept:
                assembled = torch.cat(given["last_block_input"], dim=1)
                note(f"cache of {prefix}, input", given["hidden_states"], kept[f"{prefix}.in.x"][row : row + 1])
                note(f"cache of {prefix}, assembled", assembled, kept[f"{prefix}.assembled_cache"][row : row + 1])
                note(f"cache of {prefix}, output", sample, kept[f"{prefix}.out.x"][row : row + 1])
    handle.remove()
    final = run.latents[:, :, : run.timeline.kept_latent_frames]
    note(f"{name}.final_latents", final, tensors[f"{name}.final_latents"])
    for what, found in worst.items():
        tolerance = ROUNDED_MEAN_TOLERANCE if what.endswith("mean") else ROUNDED_TOLERANCE
        yield Difference(f"sampler_tiny {what}", found, TOLERANCE if is_exact else tolerance)
