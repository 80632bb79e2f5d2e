"""`python -m tests.benchmarks.avatar_model`: the avatar model at its real size, its blocks timed on this machine.

Parameters, bytes and FLOPs are counted on the real class, without memory for it. Times stand beside the largest matrix
product rate measured in the same run. Weights are random: nothing is downloaded, and what comes out is not looked at.
"""

import argparse
import gc
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.avatar.fp8 import FP8, ScaledFp8Linear, has_scaled_matmul, quantize, swap_linears, use_scaled_matmul
from pipeline.avatar.presets import FRAMES_PER_LATENT, WINDOW_LATENT_FRAMES
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from pipeline.avatar.weights import build_transformer
from pipeline.plan import TOKEN_PX
from pipeline.units import GIBIBYTE

TEXT_ROWS = 831  # refined: 576 of the portrait, 255 of a prompt of the greatest length
TEXT_TOKENS = 650  # of them counted, which take part in the attention: a prompt of 74 tokens
FORWARD_GIB = 40.0  # free on the GPU for one forward at real size: 24.2 of weights, and the activations
REPEATS = 5  # the median counts
SIDES = {"cuda": (4096, 8192, 16384), "cpu": (1024, 2048, 3072)}  # of the matrices whose products set the ceiling
PARTS = {  # part -> beginning of its parameters' names; the first that fits counts
    "audio adapters": r"transformer_blocks\.\d+\.audio_adapter\.",
    "double blocks": r"transformer_blocks\.",
    "single blocks": r"single_transformer_blocks\.",
    "text refiner": r"context_embedder\.",
    "motion and frame rate": r"time_text_embed\.(motion_|fps_)",
    "time and pooled text": r"time_text_embed\.",
    "audio projection": r"audio_proj\.",
    "patches and reference": r"(x_embedder|ref_embedder|ref_proj)\.",
    "output": r"(norm_out|proj_out)\.",
}
MODULATION = re.compile(r"(.*\.)?norm(1|1_context|_out)?\.linear\.")  # linears that see one vector a step
BLOCK = re.compile(r"\w+\.(single_)?transformer_blocks\.\d+")


@dataclass(frozen=True)
class Window:
    """What one forward sees: pixels, latent frames (the reference frame apart) and text."""

    height: int
    width: int
    latent_frames: int = WINDOW_LATENT_FRAMES
    text_rows: int = TEXT_ROWS
    text_tokens: int = TEXT_TOKENS

    @property
    def tokens_per_frame(self) -> int:
        """Image tokens of a latent frame."""
        return (self.height // TOKEN_PX) * (self.width // TOKEN_PX)

    @property
    def image_tokens(self) -> int:
        """Image tokens, the reference frame's among them."""
        return (self.latent_frames + 1) * self.tokens_per_frame

    @property
    def tokens(self) -> int:
        """Image and text tokens in the attention."""
        return self.image_tokens + self.text_tokens

    @property
    def num_frames(self) -> int:
        """Video frames."""
        return FRAMES_PER_LATENT * (self.latent_frames - 1) + 1

    def __str__(self) -> str:
        return f"{self.height}×{self.width}, {self.num_frames} frames"


WINDOWS = (Window(384, 384), Window(512, 512), Window(704, 768))
FORWARD_WINDOW = Window(512, 512)  # of the whole forward, and of one block on a GPU
CPU_WINDOW = Window(128, 128, latent_frames=7, text_rows=64, text_tokens=64)  # 576 tokens: seconds on two cores
Config = dict[str, Any]  # of the transformer; {} is the published size


@dataclass(frozen=True)
class Flops:
    """Of one forward; a multiplication and an addition are two. `linear` and `attention` are the blocks' own."""

    linear: int
    attention: int
    audio: int  # adapters and projection
    other: int  # text refiner, embedders, output

    @property
    def total(self) -> int:
        return self.linear + self.attention + self.audio + self.other


def count_parameters(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Part -> parameters, and how many of them are of modulation linears."""
    counts = dict.fromkeys(PARTS, (0, 0))
    for name, parameter in model.named_parameters():
        part = next(part for part, pattern in PARTS.items() if re.match(pattern, name))
        every, modulation = counts[part]
        size = parameter.numel()
        counts[part] = every + size, modulation + size * bool(MODULATION.match(name))
    return counts


def count_bytes(config: Config, *, fp8: bool) -> int:
    """Of the weights: bf16, or by the published rule the blocks' linears in fp8, each with a float32 scale."""
    tensors = build_transformer(config, fp8=fp8).bfloat16().state_dict().values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def transformer_inputs(
    model: HunyuanVideoAvatarTransformer3DModel, window: Window, device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Random arguments of the transformer's `forward`; the mask stays on the CPU beside the meta device."""
    config, patch = model.config, model.config.patch_size
    height, width = window.height // TOKEN_PX * patch, window.width // TOKEN_PX * patch
    latents = (1, config.in_channels, window.latent_frames, height, width)
    heard = (config.audio_window, config.audio_blocks, config.audio_channels)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    mask = torch.zeros(1, window.text_rows, dtype=torch.int64, device="cpu" if device.type == "meta" else device)
    mask[:, : window.text_tokens] = 1
    return {
        "hidden_states": draw(*latents),
        "timestep": torch.full((1,), 700.0, device=device),
        "encoder_hidden_states": draw(1, window.text_rows, config.text_embed_dim),
        "encoder_attention_mask": mask,
        "pooled_projections": draw(1, config.pooled_projection_dim),
        "image_latents": draw(*latents),
        "audio_embeds": draw(1, 1, window.num_frames, *heard),
        "face_masks": torch.ones(1, 1, 1, height, width, device=device, dtype=dtype),
        "motion_exp": torch.full((1, 4), 30, device=device),
        "motion_pose": torch.full((1, 4), 25, device=device),
        "fps": torch.full((1,), 25.0, device=device),
    }


def block_inputs(
    model: HunyuanVideoAvatarTransformer3DModel, window: Window, device: torch.device, dtype: torch.dtype
) -> tuple[Any, ...]:
    """Random arguments that every block takes, those without an adapter leaving the last three."""
    config, patch = model.config, model.config.patch_size
    dim, frames = config.num_attention_heads * config.attention_head_dim, window.latent_frames + 1
    audio_tokens = FRAMES_PER_LATENT * config.audio_tokens

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    height, width = window.height // TOKEN_PX * patch, window.width // TOKEN_PX * patch
    rotary = model.rope(torch.arange(-1, window.latent_frames), height, width, device)
    image, text = draw(1, window.image_tokens, dim), draw(1, window.text_tokens, dim)
    spoken, weights = draw(1, 1, frames, audio_tokens, dim), draw(1, 1, frames, window.tokens_per_frame)
    return image, text, draw(1, dim), None, rotary, spoken, weights, 0


@torch.no_grad()
def counted(call: Callable[[], Any]) -> dict[str, dict[str, int]]:
    """Module -> operation -> FLOPs of a call on the meta device; "Global" for all.

    The attention is counted in its plain form, two batched products, which every kernel computes.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return {
        module: {str(operation): flops for operation, flops in operations.items()}
        for module, operations in counter.get_flop_counts().items()
    }


def count_flops(config: Config, window: Window) -> Flops:
    """Of one forward of one sample, counted by running the real class on the meta device."""
    meta = torch.device("meta")
    model = build_transformer(config)
    inputs = transformer_inputs(model, window, meta, torch.float32)
    # the forward reads the mask's values, which the meta device has none of; the refiner reads its shape alone
    model.context_embedder.register_forward_pre_hook(lambda _, args: tuple(argument.to(meta) for argument in args))
    counts = counted(lambda: model(**inputs))

    def flops(modules: Iterable[str], *, attention: bool) -> int:
        found = (counts[module] for module in modules)
        return sum(n for each in found for operation, n in each.items() if ("bmm" in operation) == attention)

    blocks = [module for module in counts if BLOCK.fullmatch(module)]
    adapters = [module for module in counts if module.endswith(".audio_adapter")]
    audio = sum(
        flops([*adapters, f"{type(model).__name__}.audio_proj"], attention=attention) for attention in (False, True)
    )
    linear = flops(blocks, attention=False) - flops(adapters, attention=False)
    attention = flops(blocks, attention=True) - flops(adapters, attention=True)
    return Flops(linear, attention, audio, sum(counts["Global"].values()) - linear - attention - audio)


def closed_formula(config: Config, window: Window) -> tuple[float, float]:
    """FLOPs of the blocks' linears, modulation left out, and of their attention, by hand.

    A block of either kind multiplies a token by 12 matrices of dim²; the attention is two products of tokens² x dim.
    """
    sizes = build_transformer(config).config
    dim, layers = sizes.num_attention_heads * sizes.attention_head_dim, sizes.num_layers + sizes.num_single_layers
    return 24.0 * dim**2 * layers * window.tokens, 4.0 * dim * layers * window.tokens**2


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """Random weights that keep what passes through at its size: norms 1, biases 0, matrices by their width."""
    for layer in module.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if parameter.ndim == 1:
                parameter.fill_(float(name == "weight"))
                continue
            dtype = torch.bfloat16 if parameter.dtype == FP8 else parameter.dtype
            drawn = torch.randn(parameter.shape, device=parameter.device, dtype=dtype)
            drawn *= (parameter.numel() / len(parameter)) ** -0.5
            if isinstance(layer, ScaledFp8Linear):
                drawn, scale = quantize(drawn)
                layer.weight_scale.copy_(scale)
            parameter.copy_(drawn)


@torch.no_grad()
def seconds_of(call: Callable[[], Any], device: torch.device, *, times: int = 1) -> float:
    """Median seconds of a call, after one to warm up; `times` calls in a row are one measurement."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    call()
    measured = []
    for _ in range(REPEATS):
        wait()
        started = time.perf_counter()
        for _ in range(times):
            call()
        wait()
        measured.append((time.perf_counter() - started) / times)
    return statistics.median(measured)


def square_product(device: torch.device, dtype: torch.dtype, side: int) -> Callable[[], torch.Tensor]:
    """A call that multiplies two random matrices."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    if dtype != FP8:
        return lambda: left @ right
    one = torch.ones((), device=device)
    return lambda: torch._scaled_mm(left, right.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)


def ceiling(device: torch.device, dtype: torch.dtype, sides: Iterable[int]) -> float:
    """FLOP/s of the fastest square matrix product of these sides, many in a row on a GPU."""
    times = 20 if device.type == "cuda" else 1
    return max(2 * side**3 / seconds_of(square_product(device, dtype, side), device, times=times) for side in sides)


def time_blocks(
    device: torch.device, config: Config, window: Window, dtypes: Iterable[torch.dtype]
) -> Iterator[tuple[str, str, float, int]]:
    """Time a block of each kind, in these dtypes one after the other and then with fp8 weights.

    Yields:
        Kind of block, kind of weights, median seconds, FLOPs.
    """
    model = build_transformer({**config, "num_layers": 2, "num_single_layers": 1})
    double, listening = model.transformer_blocks
    blocks = {"double": double, "double, audio adapter": listening, "single": model.single_transformer_blocks[0]}
    inputs = block_inputs(model, window, torch.device("meta"), torch.float32)
    flops = {
        name: sum(counted(lambda block=block: block(*inputs))["Global"].values()) for name, block in blocks.items()
    }

    def timed(weights: str, dtype: torch.dtype) -> Iterator[tuple[str, str, float, int]]:
        inputs = block_inputs(model, window, device, dtype)
        for name, block in blocks.items():
            yield name, weights, seconds_of(lambda block=block: block(*inputs), device), flops[name]

    parts = nn.ModuleList(blocks.values())
    for number, dtype in enumerate(dtypes):
        parts.to(dtype)
        if number == 0:
            parts.to_empty(device=device)
            fill(parts)
        yield from timed(str(dtype).removeprefix("torch."), dtype)
    swap_linears(model)  # in the last dtype
    yield from timed("fp8, dequantised", dtype)
    if device.type == "cuda" and has_scaled_matmul(device):
        use_scaled_matmul(model)
        yield from timed("fp8 products", dtype)


def time_forward(
    device: torch.device, config: Config, window: Window, *, fp8: bool
) -> Iterator[tuple[str, float, int | None]]:
    """Time whole forwards with random weights, drawn on the device itself.

    Yields:
        Kind of weights, median seconds, and the most memory allocated, weights included, bytes; None off CUDA.
    """
    is_cuda = device.type == "cuda"
    model = build_transformer(config, fp8=fp8).bfloat16().to_empty(device=device)
    fill(model)
    inputs = transformer_inputs(model, window, device, torch.bfloat16)
    kinds = ["fp8, dequantised"] if fp8 else ["bfloat16"]
    if fp8 and is_cuda and has_scaled_matmul(device):
        kinds.append("fp8 products")
    for kind in kinds:
        use_scaled_matmul(model, kind == "fp8 products")
        if is_cuda:
            torch.cuda.reset_peak_memory_stats(device)
        seconds = seconds_of(lambda: model(**inputs), device)
        yield kind, seconds, torch.cuda.max_memory_allocated(device) if is_cuda else None


def say(*cells: str) -> None:
    """One row of a table."""
    first, *others = cells
    print(f"  {first:<30}" + "".join(f"{cell:>17}" for cell in others), flush=True)


def report_counts(config: Config, windows: Iterable[Window]) -> None:
    """Print parameters, bytes and FLOPs."""
    counts = count_parameters(build_transformer(config))
    print("Parameters")
    say("part", "parameters", "of modulation")
    for part, (every, modulation) in counts.items():
        say(part, f"{every:,}", f"{modulation:,}" if modulation else "")
    say("total", *(f"{sum(numbers):,}" for numbers in zip(*counts.values(), strict=True)))

    print("\nBytes of the weights")
    for kind, fp8 in (("bf16", False), ("fp8, the blocks' linears", True)):
        size = count_bytes(config, fp8=fp8)
        say(kind, f"{size:,}", f"{size / 1e9:.2f} GB", f"{size / GIBIBYTE:.2f} GiB")

    print(
        f"\nTFLOP of one forward, {TEXT_ROWS} text rows of which {TEXT_TOKENS} are attended to, the reference frame in"
    )
    say("size", "image tokens", "linear layers", "attention", "audio", "other", "total")
    for window in windows:
        flops = count_flops(config, window)
        parts = (flops.linear, flops.attention, flops.audio, flops.other, flops.total)
        say(str(window), f"{window.image_tokens:,}", *(f"{part / 1e12:,.2f}" for part in parts))
        formula = closed_formula(config, window)
        differ = (f"{found / wanted - 1:+.3%}" for found, wanted in zip(parts, formula, strict=False))
        say("    beside the closed formula", "", *differ)


def report_times(device: torch.device, config: Config, window: Window) -> None:
    """Print the device's ceilings, the blocks' times and, on a GPU with the memory for it, the whole forward's.

    Raises:
        RuntimeError: the device stopped at something; the rest has been measured by then.
    """
    is_cuda = device.type == "cuda"
    dtypes = (torch.bfloat16,) if is_cuda else (torch.float32, torch.bfloat16)
    sides = SIDES[device.type]
    stopped: list[str] = []  # not the errors, which would keep the models alive

    def unless_stopped(measured: Iterator[Any]) -> Iterator[Any]:
        """All that can be measured: an error, such as too little memory, ends this table alone."""
        try:
            yield from measured
        except RuntimeError as error:
            stopped.append(str(error).partition("\n")[0])
            say("stopped", stopped[-1])

    print(f"\nFastest matrix products, sides {', '.join(map(str, sides))}; median of {REPEATS}")
    ceilings = {}
    for dtype in dtypes:
        name = str(dtype).removeprefix("torch.")
        ceilings[name] = ceiling(device, dtype, sides)
        say(name, f"{ceilings[name] / 1e12:,.3f}", "TFLOP/s")
    if is_cuda and has_scaled_matmul(device):
        for rate in unless_stopped(ceiling(device, FP8, (side,)) for side in sides[-1:]):
            say("float8_e4m3fn", f"{rate / 1e12:,.3f}", "TFLOP/s")

    tokens = f"{window.image_tokens} image and {window.text_tokens} text tokens"
    print(f"\nOne block at the published width, {tokens}; median of {REPEATS}")
    say("block", "weights", "seconds", "TFLOP", "TFLOP/s", "of the ceiling")
    for name, weights, seconds, flops in unless_stopped(time_blocks(device, config, window, dtypes)):
        share = flops / seconds / ceilings.get(weights, ceilings["bfloat16"])
        say(name, weights, f"{seconds:.4f}", f"{flops / 1e12:.3f}", f"{flops / seconds / 1e12:.3f}", f"{share:.0%}")
    print("  fp8 weights stand beside the ceiling of bf16")

    print(f"\nOne whole forward, {FORWARD_WINDOW}, {TEXT_TOKENS} text tokens; median of {REPEATS}")
    free_up(device)
    free_gib = torch.cuda.mem_get_info(device)[0] / GIBIBYTE if is_cuda else 0.0
    if not is_cuda:
        say("bf16 and fp8", "not measured on a GPU")
    elif free_gib < FORWARD_GIB:
        say("bf16 and fp8", f"not measured: {free_gib:.0f} GiB free, {FORWARD_GIB:.0f} needed")
    else:
        flops = count_flops(config, FORWARD_WINDOW).total
        say("weights", "seconds", "peak GiB", "TFLOP/s", "of bf16 ceiling")
        for fp8 in (False, True):
            for weights, seconds, peak in unless_stopped(time_forward(device, config, FORWARD_WINDOW, fp8=fp8)):
                rate = flops / seconds
                share = rate / ceilings["bfloat16"]
                say(weights, f"{seconds:.3f}", f"{peak / GIBIBYTE:.1f}", f"{rate / 1e12:.1f}", f"{share:.0%}")
            free_up(device)
    if stopped:
        raise RuntimeError(f"not everything was measured: {'; '.join(stopped)}")


def free_up(device: torch.device) -> None:
    """Give back what is no longer used."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def machine(device: torch.device) -> str:
    """The machine, in words."""
    cpu = platform.processor() or platform.machine()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{cpu}, {torch.get_num_threads()} threads"
    return f"{name}; PyTorch {torch.__version__}; load before: {os.getloadavg()[0]:.1f}"


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.avatar_model", description=__doc__)
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where blocks are timed"
    )
    parser.add_argument("--counts-only", action="store_true", help="time nothing")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    print(f"{machine(device)}\n")
    report_counts({}, WINDOWS)
    if not asked.counts_only:
        report_times(device, {}, FORWARD_WINDOW if device.type == "cuda" else CPU_WINDOW)
    print(f"\nLoad after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
