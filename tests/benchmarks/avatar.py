"""`python -m tests.benchmarks.avatar`: seconds and memory of a clip at the model's real size, in any placement.

From text embeddings to frames, with random weights: neither time nor memory depends on their values, and nothing is
downloaded. A few steps of each kind are measured and the whole is worked out from them.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKLHunyuanVideo, FlowMatchEulerDiscreteScheduler
from torch import nn
from transformers import WhisperFeatureExtractor

from pipeline.avatar import calibrate, tiny
from pipeline.avatar.audio import SpeechFeatures
from pipeline.avatar.autoencoder import decode_frames
from pipeline.avatar.fp8 import has_scaled_matmul, use_scaled_matmul
from pipeline.avatar.pipeline_hunyuan_avatar import HunyuanVideoAvatarPipeline
from pipeline.avatar.placing import RAM_LEFT, place, unplace
from pipeline.avatar.portrait import TOKEN_PX
from pipeline.avatar.presets import FLOW_SHIFT, GUIDANCE_SCALE, NUM_INFERENCE_STEPS
from pipeline.avatar.sampler import Conditions, DenoisingRun, Settings, Speaker, denoise_step, make_scheduler
from pipeline.avatar.schedule import plan_step
from pipeline.avatar.streaming import StreamedTransformer, Waits, tensors_of
from pipeline.avatar.text import PromptEmbeds
from pipeline.avatar.tilings import TILINGS, tiling_for
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from pipeline.avatar.weights import build_transformer
from pipeline.avatar.windows import plan_timeline
from pipeline.hardware import Placement, container_memory_left
from pipeline.units import GIBIBYTE
from tests.benchmarks.avatar_model import (
    SIDES,
    Window,
    ceiling,
    count_bytes,
    count_flops,
    fill,
    free_up,
    machine,
)

TINY_SHRINKS = 8  # each side of the clip, with --tiny: the attention grows with the fourth power of it
TINY_TEXT = 24  # rows of text with --tiny
CHECKED_STEPS = 2  # full ones measured, after one to warm up and before one whose last block's input is kept


@dataclass(frozen=True)
class Measured:
    """What a run took. Seconds are of one step, the decoding of the whole clip; memory is in bytes, None off CUDA."""

    first: float  # the first step, in which the modulations of the whole run are computed
    full: float
    cached: float
    decoding: float
    waiting: float  # share of the full steps in which computing stood still for copies
    flops: float  # of a full step
    ceiling: float  # FLOP/s
    denoising_bytes: tuple[int, int] | None  # allocated, reserved
    decoding_bytes: tuple[int, int] | None
    tiling: str
    num_full: int  # steps of the whole run
    num_cached: int

    @property
    def minutes(self) -> float:
        """Of the whole clip, from its text embeddings on."""
        once = max(self.first - self.full, 0.0)
        return (once + self.num_full * self.full + self.num_cached * self.cached + self.decoding) / 60


def synthetic_transformer(
    config: dict[str, Any], *, fp8: bool, device: torch.device, is_repeated: bool
) -> HunyuanVideoAvatarTransformer3DModel:
    """A transformer with random weights, made on `device`: one block of each kind is drawn, the others are its copies.

    Args:
        config: Its sizes; {} is the published one.
        fp8: The blocks' linears in fp8, the rest in bf16.
        device: Where.
        is_repeated: Let all blocks of a kind share one block's memory.
    """
    model = build_transformer(config, fp8=fp8).bfloat16()
    drawn: dict[tuple[Any, ...], nn.Module] = {}
    for block in model.blocks:
        kind = (type(block), *(tensor.shape for tensor in tensors_of(block)))
        if kind not in drawn:
            block.to_empty(device=device)
            fill(block)
            drawn[kind] = block
            continue
        state = drawn[kind].state_dict()
        block.load_state_dict({name: t if is_repeated else t.clone() for name, t in state.items()}, assign=True)
    for part in model.children():
        if part not in (model.transformer_blocks, model.single_transformer_blocks):
            part.to_empty(device=device)
            fill(part)
    return model


def synthetic_pipeline(
    transformer: HunyuanVideoAvatarTransformer3DModel, *, is_tiny: bool, device: torch.device
) -> HunyuanVideoAvatarPipeline:
    """A pipeline around it: the VAE at its real size unless tiny, and encoders that nobody calls."""
    tokenizer, tokenizer_2 = tiny.llama_tokenizer(), tiny.clip_tokenizer()
    if is_tiny:
        vae = tiny.make_vae(transformer.config.in_channels)
    else:
        with torch.device("meta"):
            vae = AutoencoderKLHunyuanVideo().eval().half()
        vae.to_empty(device=device)
        fill(vae)
    pipe = HunyuanVideoAvatarPipeline(
        vae=vae,
        text_encoder=tiny.make_llava(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=tiny.make_clip(tokenizer_2),
        tokenizer_2=tokenizer_2,
        audio_encoder=tiny.make_whisper(),
        feature_extractor=WhisperFeatureExtractor(),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def synthetic_run(
    transformer: HunyuanVideoAvatarTransformer3DModel, window: Window, num_frames: int, num_steps: int
) -> DenoisingRun:
    """A run with random text, voice and portrait, its negative text a little shorter."""
    config, timeline = transformer.config, plan_timeline(num_frames)
    patch = config.patch_size
    height, width = window.height // TOKEN_PX * patch, window.width // TOKEN_PX * patch

    def text(num_tokens: int) -> PromptEmbeds:
        mask = torch.zeros(1, window.text_rows, dtype=torch.int64)
        mask[:, :num_tokens] = 1
        rows = torch.randn(1, window.text_rows, config.text_embed_dim)
        return PromptEmbeds(rows, mask, torch.randn(1, config.pooled_projection_dim))

    positions = 2 * num_frames + config.audio_window
    states = torch.randn(positions, config.audio_blocks, config.audio_channels)
    speech = SpeechFeatures(states, 2 * torch.arange(num_frames))
    latents = (1, config.in_channels, timeline.latent_frames, height, width)
    portrait = torch.randn(*latents[:2], timeline.window_latent_frames, height, width)
    conditions = Conditions(
        text(window.text_tokens),
        text(window.text_tokens - 2),
        portrait,
        (Speaker(speech, torch.ones(1, height, width)),),
    )
    return DenoisingRun(timeline, Settings(num_steps, GUIDANCE_SCALE), conditions, torch.randn(latents))


def measure(
    pipe: HunyuanVideoAvatarPipeline,
    run: DenoisingRun,
    window: Window,
    device: torch.device,
    *,
    checked_steps: int,
    flops: float,
    ceiling: float,
    free_bytes: int,
) -> Measured:
    """Take steps of each kind and decode the clip."""
    count = run.settings.num_inference_steps
    is_full = [plan_step(step, count).is_full for step in range(count)] + [True]  # nothing after the last one
    kept_step = next((step for step in range(count) if is_full[step] and not is_full[step + 1]), None)
    scheduler = make_scheduler(pipe.scheduler.config, run.settings)

    def step(number: int) -> float:
        run.step = number
        return timed(lambda: denoise_step(run, pipe.transformer, scheduler, predict=pipe.predict), device)

    run.to(device)
    reset_peak(device)
    first = step(0)
    waits = Waits()
    if isinstance(pipe.predict, StreamedTransformer):
        pipe.predict.weights.waits = waits
    full = [step(number) for number in range(1, 1 + checked_steps)]
    if kept_step is not None:
        full.append(step(kept_step))
    waiting = waits.seconds / sum(full)
    cached = [] if kept_step is None else [step(n) for n in (kept_step + 1, kept_step + 2) if not is_full[n]]
    denoising_bytes = peak(device)
    run.positive_cache, run.negative_cache = type(run.positive_cache)(), type(run.negative_cache)()
    pipe.maybe_free_model_hooks()
    free_up(device)

    reset_peak(device)
    tiling = tiling_for(free_bytes, window.height, window.width)
    frames = run.latents[:, :, : run.timeline.kept_latent_frames]

    def decode() -> None:
        for _ in decode_frames(pipe.vae, frames, run.timeline.num_frames, TILINGS[tiling]):
            pass

    decoding = timed(decode, device)
    return Measured(
        first=first,
        full=statistics.median(full),
        cached=statistics.median(cached) if cached else 0.0,
        decoding=decoding,
        waiting=waiting,
        flops=flops,
        ceiling=ceiling,
        denoising_bytes=denoising_bytes,
        decoding_bytes=peak(device),
        tiling=tiling,
        num_full=sum(is_full[:count]),
        num_cached=count - sum(is_full[:count]),
    )


def timed(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call."""
    synchronize(device)
    started = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked for."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def reset_peak(device: torch.device) -> None:
    """Begin to watch the memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> tuple[int, int] | None:
    """Most memory allocated and reserved since `reset_peak`; None off CUDA."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)


def limit_memory(device: torch.device, gib: float | None) -> int:
    """Let PyTorch allocate so much at most, and say how many bytes there are to be had; very many on the CPU."""
    if device.type != "cuda":
        return sys.maxsize
    free, total = torch.cuda.mem_get_info(device)
    if gib is None:
        return free
    # by number: it refuses a device without one; None is the current card
    torch.cuda.set_per_process_memory_fraction(min(gib * GIBIBYTE / total, 1.0), device.index)
    return min(free, int(gib * GIBIBYTE))


def report(measured: Measured, device: torch.device) -> None:
    """Print it."""

    def memory(pair: tuple[int, int] | None) -> str:
        if pair is None:
            return "not measured on a GPU"
        return f"{pair[0] / GIBIBYTE:.2f} GiB allocated, {pair[1] / GIBIBYTE:.2f} GiB reserved"

    rate = measured.flops / measured.full
    steps = f"{measured.num_full} full steps and {measured.num_cached} cached ones"
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    lines = {
        "full step": f"{measured.full:.3f} s; {measured.flops / 1e12:,.3f} TFLOP",
        "cached step": f"{measured.cached:.3f} s" if measured.num_cached else "none",
        "first step": f"{measured.first:.3f} s, with what is computed once a run",
        "decoding": f"{measured.decoding:.3f} s, tiling {measured.tiling}",
        "rate of a full step": f"{rate / 1e12:,.3f} TFLOP/s",
        "largest matrix product": f"{measured.ceiling / 1e12:,.3f} TFLOP/s in bf16",
        "share of it reached": f"{rate / measured.ceiling:.0%}",
        "waiting for copies": f"{measured.waiting:.1%} of the full steps",
        "whole clip, worked out": f"{measured.minutes:.2f} min: {steps}, decoding",
        "peak memory, denoising": memory(measured.denoising_bytes),
        "peak memory, decoding": memory(measured.decoding_bytes),
        "host memory": f"{rss / GIBIBYTE:.2f} GiB resident at most",
    }
    for name, value in lines.items():
        print(f"  {name:<24}{value}", flush=True)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        print(f"  {'device in use now':<24}{(total - free) / GIBIBYTE:.2f} GiB by all processes, contexts included")


def size_of(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH in pixels, multiples of 16."""
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no HEIGHTxWIDTH, as 704x768") from error
    if height < TOKEN_PX or width < TOKEN_PX or height % TOKEN_PX or width % TOKEN_PX:
        raise argparse.ArgumentTypeError(f"sides must be multiples of {TOKEN_PX}, got {text}")
    return height, width


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.avatar", description=__doc__)
    parser.add_argument(
        "--synthetic-weights", action="store_true", required=True, help="random ones; there are no others here"
    )
    parser.add_argument("--size", type=size_of, default=(704, 768), metavar="HEIGHTxWIDTH")
    parser.add_argument("--frames", type=int, default=129, help="of the clip")
    parser.add_argument("--placement", choices=[way.value for way in Placement], default=Placement.STREAM_BLOCKS.value)
    parser.add_argument("--precision", choices=("fp8", "bf16"), default="fp8")
    parser.add_argument("--memory-limit-gib", type=float, help="of the GPU's memory, for all that PyTorch allocates")
    parser.add_argument("--spare-vram-gib", type=float, default=0.0, help="for blocks that stay on the device")
    parser.add_argument("--mapped", action="store_true", help="blocks wait in ordinary memory rather than pinned")
    parser.add_argument("--repeat-block", action="store_true", help="all blocks of a kind share one block's memory")
    parser.add_argument("--fp8-products", action="store_true", help="multiply in fp8 (Ada, Hopper and later)")
    parser.add_argument("--attention", help="one of diffusers' attention backends")
    parser.add_argument("--steps", type=int, default=CHECKED_STEPS, help="full steps measured, after one to warm up")
    parser.add_argument("--inference-steps", type=int, default=NUM_INFERENCE_STEPS, help="of the whole clip")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and an eighth of each side: runs on a CPU")
    asked = parser.parse_args(arguments)
    if asked.steps < 1 or asked.steps >= asked.inference_steps:
        parser.error(f"--steps must be 1 to {asked.inference_steps - 1}, got {asked.steps}")
    return asked


def main(arguments: Sequence[str] | None = None) -> Measured:
    """Measure and print."""
    asked = parse(arguments)
    device, fp8, placement = torch.device(asked.device), asked.precision == "fp8", Placement(asked.placement)
    config = tiny.TRANSFORMER if asked.tiny else {}
    height, width = asked.size
    if asked.tiny:
        height, width = (max(side // TINY_SHRINKS // TOKEN_PX, 1) * TOKEN_PX for side in (height, width))
    timeline = plan_timeline(asked.frames)
    window = Window(height, width, timeline.window_latent_frames)
    if asked.tiny:
        window = replace(window, text_rows=TINY_TEXT, text_tokens=TINY_TEXT - 4)
    print(machine(device))
    free_bytes = limit_memory(device, asked.memory_limit_gib)
    if asked.memory_limit_gib is not None:
        enforced = "enforced" if device.type == "cuda" else "not enforced: no CUDA device"
        print(f"Memory limit {asked.memory_limit_gib:g} GiB, {enforced}; the CUDA context lies outside of it")
    sides = (256,) if asked.tiny else SIDES["cuda" if device.type == "cuda" else "cpu"]
    rate = ceiling(device, torch.bfloat16, sides)
    free_up(device)

    needed, free_ram = count_bytes(config, fp8=fp8), int(min(calibrate.free_ram(), container_memory_left()))
    is_resident = placement is Placement.RESIDENT
    is_repeated = asked.repeat_block or (not is_resident and needed + RAM_LEFT > free_ram)
    home = device if is_resident else torch.device("cpu")
    transformer = synthetic_transformer(config, fp8=fp8, device=home, is_repeated=is_repeated)
    if asked.fp8_products:
        if not has_scaled_matmul(device):
            raise SystemExit(f"fp8 products need compute capability 8.9 or more: {device} has less")
        use_scaled_matmul(transformer)
    if asked.attention:
        transformer.set_attention_backend(asked.attention)
    pipe = synthetic_pipeline(transformer, is_tiny=asked.tiny, device=home)
    free_ram = 0 if asked.mapped or is_repeated else free_ram - needed
    place(pipe, placement, device, spare_vram=int(asked.spare_vram_gib * GIBIBYTE), free_ram=free_ram)
    print(
        f"{'Tiny model' if asked.tiny else 'Published size'}, random weights in {asked.precision}, "
        f"{height}×{width}, {asked.frames} frames, {timeline.num_windows} window(s); {placement.value}"
    )
    if is_repeated:
        print("One block's weights of each kind are repeated: what is copied is as much, out of less memory")
    if isinstance(pipe.predict, StreamedTransformer):
        units = pipe.predict.weights.units
        num_pinned = sum(unit.packed is not None for unit in units) if device.type == "cuda" else 0
        print(f"{len(units)} of {len(transformer.blocks)} blocks are streamed, {num_pinned} out of pinned memory")
    flops = 2.0 * timeline.num_windows * count_flops(config, window).total
    run = synthetic_run(transformer, window, asked.frames, asked.inference_steps)
    try:
        measured = measure(
            pipe, run, window, device, checked_steps=asked.steps, flops=flops, ceiling=rate, free_bytes=free_bytes
        )
    finally:
        unplace(pipe)
    report(measured, device)
    return measured


if __name__ == "__main__":
    main()
