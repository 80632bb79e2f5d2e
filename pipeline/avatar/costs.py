"""What a clip will cost on a machine, and where its models are best kept: seconds, memory and disk, worked out before a
render. Plain numbers; imports no torch and measures nothing.

Not measured on a GPU. FLOPs are counted on the real classes, activations on the meta device; what share of a device's
rates a whole render reaches is chosen so that four public figures are met within a fifth, with cards.py's assumed rates
(minutes, published and here; test_costs.py holds them): HunyuanVideo 720×1280 and 129 frames, 50 steps on an A100 47
and 55, 30 steps on an H800 17 and 14; Avatar 704×960 on an RTX 5090 47 and 50, 704×704 on ZeroGPU 30 and 30. Which
attention kernel and how many cached steps they had is not told. Single renders may take up to twice as long.
Source: reports collected in model cards and threads; they are no benchmarks.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from pipeline.avatar.cards import assumed_rates
from pipeline.avatar.presets import (
    FRAMES_PER_LATENT,
    GUIDANCE_SCALE,
    IMAGE_SIZE,
    NUM_INFERENCE_STEPS,
    WINDOW_FRAMES,
)
from pipeline.avatar.schedule import plan_step
from pipeline.avatar.speed import DEFAULT, PRESETS, check
from pipeline.avatar.tilings import TILINGS, WORKSPACE, Tiling, decoding_bytes, tiling_for
from pipeline.avatar.windows import LEAST_FRAMES, Timeline, plan_timeline
from pipeline.errors import PictureThin, PlanDoesNotFit, PresetUnavailable, SizeUnsupported
from pipeline.hardware import Machine, Placement, Rates
from pipeline.plan import FPS, TOKEN_PX, Box, ClipPlan, published_size
from pipeline.texts import LANGUAGES, Notice, say
from pipeline.units import GIBIBYTE

COUNTED_IN_MINUTES, COUNTED_IN_HOURS = 90, 48  # above, hours and days are easier to read
SIZES = (704, 512, 384, 256)  # pixels, short side: the published ones, offered as alternatives
STEPS = (50, 30, 20)  # offered as alternatives; fewer follow the same course less closely
WORTH_OFFERING = 0.9  # of the work: a preset that saves less is not offered
PATIENCE, NIGHT = 3600, 8 * 3600  # seconds that people wait for a clip, and that a computer may work unwatched
SMALLEST_SIZE, LARGEST_SIZE = SIZES[-1], SIZES[0]  # what the model was published for
MAX_ASPECT = 16  # long side over short side of a picture; as portrait.py refuses

# --- the model. Source: counted on the real classes, tests/benchmarks/avatar_model.py ---------------------------------
DIM = 3072
NUM_DOUBLE, NUM_SINGLE = 20, 40  # blocks
NUM_BLOCKS = NUM_DOUBLE + NUM_SINGLE
BLOCK_PARAMETERS = 12 * DIM**2  # that meet every token, in a block of either kind
DOUBLE_PARAMETERS, SINGLE_PARAMETERS = 339_831_296, 141_591_808  # of a block, its modulation in it
MODULATION_PARAMETERS = 3_398_492_160  # of all blocks: they see one vector a step, and are worked out once a run
ADAPTER_PARAMETERS = 125_952_000  # of the ten audio adapters
OTHER_PARAMETERS = 405_242_944  # text refiner, embedders, output
ADAPTER_DIM = 1024
IMAGE_FLOPS = 10 * 4 * DIM * ADAPTER_DIM + 2 * DIM**2  # of an image token beside the blocks: adapters, portrait
FORWARD_FLOPS = 0.58e12  # of a forward whatever its size: text refiner, audio tokens
TEXT_TOKENS = 650  # a prompt of 74 tokens and the portrait's 576
VAE_FLOPS = 17.3e6  # of a decoded pixel of a frame, those decoded twice in overlaps counted twice; 1.3 % about
TEXT_ENCODER_PARAMETERS = 8.35e9  # LLaVA-Llama-3-8B, its eyes among them
TEXT_ENCODER_TOKENS = 930  # of a prompt in its template, and the portrait's
PRECISION_BYTES = {"fp8": 1, "bf16": 2}  # of a parameter of the blocks' linears; all others take two

# --- bytes on the device --------------------------------------------------------------------------------------------
ALL_THERE_IS = 2**50  # where a processor computes, whose memory is not the limit here
CONTEXT = 0.6 * GIBIBYTE  # CUDA's own, and its libraries' workspaces
SLACK = 0.5 * GIBIBYTE  # what the allocator loses between tensors
DEQUANTIZED = 2 * 2 * BLOCK_PARAMETERS  # a double block's weights in bf16 beside its fp8 ones
STOCK_UNITS = 17.0  # activations of a single block as diffusers writes it, in units of all its tokens in bf16
CHUNKED_UNITS, CHUNKED_BYTES = 4.0, 0.1 * GIBIBYTE  # of a double block computed in pieces; see chunked.py
ROTARY = 2 * 128 * 4  # bytes of a token: cosine and sine in float32
CACHED_UNITS = 2  # that diffusers' caches keep for each branch: residuals of the first block and of all others
BUFFERED_BLOCKS = 2  # the one that computes, and the next one coming in
TEXT_ENCODER = 2 * TEXT_ENCODER_PARAMETERS  # float16
TEXT_ENCODER_STREAMED = 2.8 * GIBIBYTE  # two layers, the words' embeddings, the eyes, activations
TEXT_ACTIVATIONS = 0.7 * GIBIBYTE
VAE, VAE_ENCODER = 2 * 246_478_803, 2 * 100_341_408  # float16; the decoder is in a tiling's own figure
SMALL_ENCODERS = 0.4e9  # CLIP's text model in float16, Whisper-tiny in float32

# --- bytes of the host and its disk ----------------------------------------------------------------------------------
PROCESS = 2.5 * GIBIBYTE  # Python with PyTorch, CUDA's and the page's libraries
SHARD = 1.0 * GIBIBYTE  # of weights on their way
PINNED = 2**28, 2**27  # a double and a single block in fp8: PyTorch rounds pinned memory up to a power of two
RAM_LEFT = 1.0 * GIBIBYTE  # for the system, when the blocks are pinned; it can take back all else
JOB_SPARE = 0.2 * GIBIBYTE  # inputs, prompts, state, the mp4

# --- shares of the measured rates, and seconds -----------------------------------------------------------------------
BLOCK_SHARE = 0.85  # of products and attention, in a whole forward: norms, rotary embedding and launches take the rest
VAE_SHARE = 0.35  # of matrix products, in the VAE's convolutions
TEXT_SHARE = 0.3  # of matrix products, in a text encoder that reads one prompt
SAVE_RATE = 0.28e9  # bytes/s at which a run is hashed and written. Source: checkpoints.py, measured on a shared disk
START_SECONDS = 20.0  # libraries, opening files, hearing the voice


@dataclass(frozen=True)
class Estimate:
    """What a clip costs.

    Args:
        seconds: From the press of the button to the mp4; download and conversion come on top the first time.
        peak_vram: Bytes of the device's own memory, at most; 0 on a processor.
        host_ram: Bytes of main memory, at most; pages of mapped files, which the system drops at will, left out.
        download: Bytes that are still to be fetched.
        reason: Why the models are kept where they are.
    """

    seconds: float
    peak_vram: int
    host_ram: int
    download: int
    reason: Notice


@dataclass(frozen=True)
class AvatarPlan(ClipPlan):
    """One clip by the avatar model: `crop` is the whole picture, brought to the clip's size as published.

    Args:
        num_inference_steps: Steps.
        guidance_scale: 1 (none) or more.
        precision: "fp8" or "bf16": which of the transformer's files.
        placement: Where the models are kept.
        tiling: How the VAE cuts the clip; a name in TILINGS.
        preset: Name of a speed preset.
        estimate: What it costs.
    """

    num_inference_steps: int
    guidance_scale: float
    precision: str
    placement: Placement
    tiling: str
    preset: str
    estimate: Estimate

    @property
    def work(self) -> "Work":
        """What it asks for, on whatever machine."""
        return Work(
            self.num_frames, self.height, self.width, self.num_inference_steps, self.guidance_scale, self.preset
        )


@dataclass(frozen=True)
class Work:
    """What a clip asks for, on whatever machine.

    Args:
        num_frames: Of the clip, 5 or more.
        height: Pixels.
        width: Pixels.
        num_inference_steps: Steps.
        guidance_scale: 1 has one branch, more has two.
        preset: Name of a speed preset.
    """

    num_frames: int
    height: int
    width: int
    num_inference_steps: int = NUM_INFERENCE_STEPS
    guidance_scale: float = GUIDANCE_SCALE
    preset: str = DEFAULT

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Work":
        """That of a job, from what it is made with."""
        return cls(**{part.name: facts[part.name] for part in fields(cls)})

    @cached_property
    def timeline(self) -> Timeline:
        """The run's lengths."""
        return plan_timeline(self.num_frames)

    @property
    def branches(self) -> int:
        """Of guidance."""
        return 1 if self.guidance_scale == 1 else 2

    @property
    def tokens_per_frame(self) -> int:
        """Image tokens of a latent frame."""
        return (self.height // TOKEN_PX) * (self.width // TOKEN_PX)

    @property
    def image_tokens(self) -> int:
        """Of a window, the reference frame's among them."""
        return (self.timeline.window_latent_frames + 1) * self.tokens_per_frame

    @property
    def tokens(self) -> int:
        """Of a window, image and text."""
        return self.image_tokens + TEXT_TOKENS

    @property
    def unit(self) -> int:
        """Bytes of a window's tokens."""
        return self.tokens * DIM * 2

    @cached_property
    def steps(self) -> tuple[int, int, int]:
        """Steps in full, steps on the last block alone, and full steps whose last block's input is kept and saved."""
        count = self.num_inference_steps
        is_full = [plan_step(step, count, self.guidance_scale).is_full for step in range(count)]
        kept = sum(now and not after for now, after in zip(is_full, [*is_full[1:], True], strict=True))
        return sum(is_full), count - sum(is_full), kept

    @property
    def cache_bytes(self) -> int:
        """What is kept of the last full step, for all branches, while it is needed."""
        preset = PRESETS[self.preset]
        if preset.cache is not None:
            return CACHED_UNITS * self.branches * self.unit
        if not self.steps[1] or not preset.use_step_cache:
            return 0
        frames = self.timeline.latent_frames + self.timeline.num_windows  # a reference frame for each window
        text = self.timeline.num_windows * TEXT_TOKENS
        return self.branches * (frames * self.tokens_per_frame + text) * DIM * 2

    @property
    def job_bytes(self) -> int:
        """On the disk, while it is made: frames as pictures, and the last two states of the run."""
        latents = self.timeline.latent_frames * self.tokens_per_frame * 64 * 4
        return int(self.height * self.width * 3 * self.num_frames + 2 * (self.cache_bytes + latents) + JOB_SPARE)


def forward_flops(work: Work) -> tuple[float, float, float]:
    """Of one forward of one window: the blocks' linear layers, their attention, and all the rest."""
    linear = 2.0 * BLOCK_PARAMETERS * NUM_BLOCKS * work.tokens + 2.0 * MODULATION_PARAMETERS
    attention = 4.0 * DIM * NUM_BLOCKS * work.tokens**2
    return linear, attention, float(IMAGE_FLOPS * work.image_tokens + FORWARD_FLOPS)


def decoded_pixels(work: Work, tiling: Tiling) -> int:
    """Pixels of frames that the VAE decodes, overlaps counted each time; tiles as in autoencoder.py."""

    def along(length: int) -> int:
        return sum(min(tiling.side, length - start) for start in range(0, length, tiling.side_stride))

    is_whole = max(work.height, work.width) <= tiling.side
    area = work.height * work.width if is_whole else along(work.height) * along(work.width)
    latents = work.timeline.kept_latent_frames
    size, stride = tiling.num_frames // FRAMES_PER_LATENT, tiling.num_frames_stride // FRAMES_PER_LATENT
    if latents <= size:
        size = stride = latents
    num_tiles = min(-(-latents // stride), -(-(work.num_frames - 1) // (stride * FRAMES_PER_LATENT)))
    coded = (min(latents, start + size + 1) - start for start in range(0, num_tiles * stride, stride))
    return area * sum(FRAMES_PER_LATENT * (count - 1) + 1 for count in coded)


def spare_vram(work: Work, free_vram: int) -> int:
    """Bytes of the device's memory that a clip leaves over with all blocks streamed: `place` lets blocks stay there.

    Args:
        work: The clip.
        free_vram: Bytes free now, which may differ from when it was planned.
    """
    return max(free_vram - needs(work, Machine("cuda", "", 0, 0, 0), Placement.STREAM_BLOCKS).denoising, 0)


@dataclass(frozen=True)
class Need:
    """What a way to keep the models takes.

    Args:
        placement: The way.
        device: Bytes of the device's memory, at most.
        denoising: The same while denoising alone.
        host: Bytes of main memory, at most.
        tiling: Of the VAE.
        streamed: Share of the blocks' bytes that pass through the device; the others stay there.
        pinned: Whether those wait in pinned memory; else in mapped files.
    """

    placement: Placement
    device: int
    denoising: int
    host: int
    tiling: str
    streamed: float = 0.0
    pinned: bool = True


def transformer_bytes(precision: str) -> float:
    """Of all its weights."""
    block = NUM_DOUBLE * DOUBLE_PARAMETERS + NUM_SINGLE * SINGLE_PARAMETERS
    return PRECISION_BYTES[precision] * block + 2 * (ADAPTER_PARAMETERS + OTHER_PARAMETERS)


def converted_bytes(precision: str) -> int:
    """Of the converted models on the disk."""
    return round(transformer_bytes(precision) + VAE)


def block_bytes(precision: str) -> tuple[float, float]:
    """Of a double and of a single block as they are streamed: without modulation, which is worked out once."""
    double_modulation, single_modulation = 12 * DIM * (DIM + 1), 3 * DIM * (DIM + 1)
    size = PRECISION_BYTES[precision]
    return size * (DOUBLE_PARAMETERS - double_modulation), size * (SINGLE_PARAMETERS - single_modulation)


def precision_on(device: str) -> str:
    """Which of the transformer's files a device works from: Metal has no fp8."""
    return "bf16" if device == "mps" else "fp8"


def needs(work: Work, machine: Machine, placement: Placement) -> Need:
    """The least that a placement takes for this clip, and what it makes of room that is left."""
    precision = precision_on(machine.device)
    context = CONTEXT if machine.device == "cuda" else 0.0
    weights, (double, single) = transformer_bytes(precision), block_bytes(precision)
    blocks = NUM_DOUBLE * double + NUM_SINGLE * single
    every = weights + TEXT_ENCODER + VAE + SMALL_ENCODERS
    is_one_window = work.timeline.num_windows == 1
    cache = work.cache_bytes if is_one_window else 0  # of several windows, and beside streamed blocks, it is the host's
    dequantized = DEQUANTIZED if precision == "fp8" else 0
    running = context + SLACK
    stock = (
        (STOCK_UNITS + 2) * work.unit + work.tokens * ROTARY + dequantized / 3 + cache + running
    )  # one layer's at a time
    free = math.inf if machine.free_vram is None else machine.free_vram
    host = PROCESS + SHARD + (work.unit if is_one_window else work.cache_bytes)  # saved one after the other, or kept

    streamed, pinned = 0.0, True
    if placement is Placement.RESIDENT:
        denoising, texts = every + stock, every + TEXT_ACTIVATIONS + context + SLACK
        beside = every - (VAE - VAE_ENCODER)
    elif placement is Placement.OFFLOAD_MODELS:
        denoising, texts, beside = weights + stock, TEXT_ENCODER_STREAMED + context + SLACK, VAE_ENCODER
    else:
        host = PROCESS + SHARD + work.cache_bytes
        others = 2 * (ADAPTER_PARAMETERS + OTHER_PARAMETERS) + single  # the last block serves cached steps
        tokens = (CHUNKED_UNITS + work.branches + 1) * work.unit + work.branches * work.tokens * ROTARY
        denoising = tokens + CHUNKED_BYTES + dequantized + running + others + BUFFERED_BLOCKS * double
        texts, beside = TEXT_ENCODER_STREAMED + context + SLACK, VAE_ENCODER
        room = min(max(free - denoising, 0), blocks) if machine.device == "cuda" else 0
        streamed = 1 - room / blocks
        denoising += room
        waiting = streamed * (NUM_DOUBLE * PINNED[0] + NUM_SINGLE * PINNED[1])
        pinned = machine.device == "cuda" and host + waiting <= machine.free_ram - RAM_LEFT
        host += waiting if pinned else 0

    beside += context
    tiling = tiling_for(max(int(min(free, ALL_THERE_IS) - beside), 0), work.height, work.width)
    decoding = beside + decoding_bytes(TILINGS[tiling], work.height, work.width) + WORKSPACE
    device = max(denoising, texts, decoding)
    if machine.free_vram is None:
        return Need(placement, 0, 0, int(host + device), tiling, streamed, pinned)
    return Need(placement, int(device), math.ceil(denoising), int(host), tiling, streamed, pinned)


def fits(need: Need, machine: Machine) -> bool:
    """Whether the machine has that much; on Metal both memories are one."""
    shared = need.device if machine.device == "mps" else 0
    return need.device <= (machine.free_vram or 0) and need.host + shared <= machine.free_ram


def seconds_of(work: Work, need: Need, rates: Rates, precision: str) -> float:
    """How long a clip takes, from the press of the button to the mp4."""
    preset = PRESETS[work.preset]
    block, full = _block_seconds(work, rates)
    source = rates.copy if need.pinned else rates.mapped
    for count, size in zip((NUM_DOUBLE, NUM_SINGLE), block_bytes(precision), strict=True):
        full += count * ((1 - need.streamed) * block + need.streamed * max(block, size / source))
    num_full, num_cached, num_kept = work.steps
    denoising = work.timeline.num_windows * (num_full * full + num_cached * block) * preset.work
    saving = num_kept * work.cache_bytes / SAVE_RATE

    reads = work.branches if need.placement is Placement.STREAM_BLOCKS else 1  # every prompt takes it through anew
    reading = reads * TEXT_ENCODER + VAE + SMALL_ENCODERS
    reading += transformer_bytes(precision) if need.pinned else (1 - need.streamed) * transformer_bytes(precision)
    texts = work.branches * 2 * TEXT_ENCODER_PARAMETERS * TEXT_ENCODER_TOKENS / (rates.matmul * TEXT_SHARE)
    decoding = decoding_seconds(work, need.tiling, rates)
    return START_SECONDS + reading / rates.mapped + texts + denoising + saving + decoding


def step_seconds(work: Work, rates: Rates) -> float:
    """A full step with all blocks on the device."""
    block, rest = _block_seconds(work, rates)
    return work.timeline.num_windows * (NUM_BLOCKS * block + rest)


def decoding_seconds(work: Work, tiling: str, rates: Rates) -> float:
    """All frames, in the tiling of that name."""
    return decoded_pixels(work, TILINGS[tiling]) * VAE_FLOPS / (rates.matmul * VAE_SHARE)


def _block_seconds(work: Work, rates: Rates) -> tuple[float, float]:
    """One window through a block, and through all that is beside the blocks; for all branches of guidance."""
    products = (PRESETS[work.preset].scaled_matmul and rates.matmul_fp8) or rates.matmul
    matmul, attention = products * BLOCK_SHARE, rates.attention * BLOCK_SHARE
    linear_flops, attention_flops, other_flops = forward_flops(work)
    block = (linear_flops / matmul + attention_flops / attention) / NUM_BLOCKS
    return block * work.branches, other_flops / matmul * work.branches


def plan_avatar(
    machine: Machine,
    *,
    num_frames: int,
    picture_size: tuple[int, int],
    size: int = IMAGE_SIZE,
    steps: int = NUM_INFERENCE_STEPS,
    guidance_scale: float = GUIDANCE_SCALE,
    placement: Placement | None = None,
    preset: str = DEFAULT,
    download: int = 0,
    conversion: int = 0,
) -> AvatarPlan:
    """Decide how a clip is made on a machine, and say what that costs.

    Args:
        machine: What there is; with `rates` None it is given its class's, assumed.
        num_frames: Of the clip, 5 or more.
        picture_size: (height, width) of the picture, pixels.
        size: Short side of the clip, pixels, a multiple of 16; the sides are rounded as published.
        steps: Of the denoiser.
        guidance_scale: 1 (none) or more.
        placement: Where to keep the models; None for the first of the three that fits, the fastest first.
        preset: Name of a speed preset.
        download: Bytes that are still to be fetched; `hub.bytes_missing` knows.
        conversion: Bytes that the converted models will take on the disk, where they are not there yet.

    Raises:
        SizeUnsupported, PictureThin: a size or picture that the model was not made for.
        PlanDoesNotFit: it does not fit, with the nearest that does.
        PresetUnavailable: the preset does not go with the device or the placement.
        ValueError: an unknown preset, no steps, or too few frames.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, got {steps}")
    height, width = frame_size(picture_size, size)
    work = Work(num_frames, height, width, steps, guidance_scale, preset)
    every = [needs(work, machine, way) for way in Placement]
    asked = [need for need in every if placement in (None, need.placement)]
    chosen = next((need for need in asked if fits(need, machine)), None)
    disk = download + conversion + work.job_bytes
    if disk > machine.free_disk:
        raise _refusal(Notice("PlanShortOfDisk", _gib(needed=disk, free=machine.free_disk)), Notice("PlanAdviceDisk"))
    if chosen is None:
        raise _refusal(_shortage(work, asked[-1], machine), _nearest(work, picture_size, size, machine))
    precision = precision_on(machine.device)
    check(preset, machine.device, chosen.placement, precision=precision)  # who has room can do more, never less
    estimate = Estimate(
        seconds=seconds_of(work, chosen, machine.rates or assumed_rates(machine), precision),
        peak_vram=chosen.device,
        host_ram=chosen.host,
        download=download,
        reason=_reason(every, chosen, machine, is_forced=placement is not None),
    )
    return AvatarPlan(
        num_frames=num_frames,
        fps=FPS,
        height=height,
        width=width,
        crop=Box(0, 0, picture_size[1], picture_size[0]),
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        precision=precision,
        placement=chosen.placement,
        tiling=chosen.tiling,
        preset=preset,
        estimate=estimate,
    )


def alternatives(
    machine: Machine,
    *,
    num_frames: int,
    picture_size: tuple[int, int],
    size: int = IMAGE_SIZE,
    steps: int = NUM_INFERENCE_STEPS,
    preset: str = DEFAULT,
    **others: Any,
) -> list[AvatarPlan]:
    """What is faster than the clip asked for and fits, each changed in one thing, then the fastest of all.

    The arguments are those of `plan_avatar`, and so are the errors about them. Steps and sizes are the published ones
    and fewer. Empty where nothing fits: then the draft engine is left.
    """
    smaller = [one for one in SIZES if one < size]
    fewer = [one for one in STEPS if one < steps]
    wanted = [(one, steps, preset) for one in smaller]
    wanted += [(size, one, preset) for one in fewer]
    wanted += [(size, steps, one) for one in PRESETS if PRESETS[one].work < WORTH_OFFERING * PRESETS[preset].work]
    if smaller and fewer:
        wanted.append((smaller[-1], fewer[-1], preset))
    plans: list[AvatarPlan] = []
    for size_, steps_, preset_ in wanted:
        with contextlib.suppress(PlanDoesNotFit, PresetUnavailable):
            plan = plan_avatar(
                machine,
                num_frames=num_frames,
                picture_size=picture_size,
                size=size_,
                steps=steps_,
                preset=preset_,
                **others,
            )
            seen = {(one.height, one.width, one.num_inference_steps, one.preset) for one in plans}
            if (plan.height, plan.width, plan.num_inference_steps, plan.preset) not in seen:
                plans.append(plan)
    return plans


def recommended(plans: Sequence[AvatarPlan]) -> tuple[AvatarPlan | None, Notice]:
    """Which of some plans to take, and why: the largest with all published steps that is done within PATIENCE, else the
    largest of the others that is, else the fastest if it is done in a NIGHT; None stands for the draft engine."""

    def is_published(plan: AvatarPlan) -> bool:
        return plan.num_inference_steps >= NUM_INFERENCE_STEPS and plan.preset == DEFAULT

    quick = [plan for plan in plans if plan.estimate.seconds <= PATIENCE]
    best = max(quick, key=lambda plan: (is_published(plan), plan.height * plan.width), default=None)
    if best is not None:
        key = "PlanRecommended" if is_published(best) else "PlanRecommendedFewer"
        return best, Notice(key, {"minutes": PATIENCE // 60})
    fastest = min(plans, key=lambda plan: plan.estimate.seconds, default=None)
    if fastest is None or fastest.estimate.seconds > NIGHT:
        return None, Notice("PlanRecommendedDraft", {"hours": NIGHT // 3600})
    return fastest, Notice("PlanRecommendedFastest", {"minutes": PATIENCE // 60})


def frames_of_fewer_windows(num_frames: int, within: int = FPS) -> int | None:
    """The most frames that take a window less, if hardly fewer; a window costs as much however little it holds.

    Args:
        num_frames: Of the clip.
        within: Frames that one may part with.

    Returns:
        A number of frames; None where there is none in reach.
    """
    windows = plan_timeline(num_frames).num_windows
    shorter = range(num_frames - 1, max(num_frames - 1 - within, LEAST_FRAMES - 1), -1)
    return next((frames for frames in shorter if plan_timeline(frames).num_windows < windows), None)


def time_told(seconds: float, language: str) -> str:
    """A time as people read it; min and h are the same in both languages."""
    minutes = max(round(seconds / 60), 1)
    if minutes <= COUNTED_IN_MINUTES:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02}" if hours < COUNTED_IN_HOURS else say("Days", language, count=hours // 24)


def time_in_words(seconds: float) -> dict[str, str]:
    """The same as the values `time_en` and `time_fr` of a text."""
    return {f"time_{language}": time_told(seconds, language) for language in LANGUAGES}


def frame_size(picture_size: tuple[int, int], size: int) -> tuple[int, int]:
    """(height, width) of the clip from those of the picture, pixels; errors as `plan_avatar`."""
    if not SMALLEST_SIZE <= size <= LARGEST_SIZE or size % TOKEN_PX:
        raise SizeUnsupported(size=size, smallest=SMALLEST_SIZE, largest=LARGEST_SIZE, multiple=TOKEN_PX)
    rows, columns = picture_size
    if max(rows, columns) > MAX_ASPECT * min(rows, columns):
        raise PictureThin(width=columns, height=rows, limit=MAX_ASPECT)
    return published_size(columns, rows, size)


def _nearest(work: Work, picture_size: tuple[int, int], size: int, machine: Machine) -> Notice:
    """What comes nearest to a clip that does not fit, in words."""
    shorter = [frames for frames in (work.num_frames, WINDOW_FRAMES) if frames <= work.num_frames]
    for frames in shorter:
        for one in (size, *(one for one in SIZES if one < size)):
            height, width = frame_size(picture_size, one)
            smaller = replace(work, num_frames=frames, height=height, width=width)
            for placement in Placement:
                if fits(needs(smaller, machine, placement), machine):
                    told = {"width": width, "height": height, "size": one, "placement": placement.value}
                    return Notice("PlanAdviceNearest", {**told, "seconds": frames / FPS})
    return Notice("PlanAdviceDraft")


def _shortage(work: Work, need: Need, machine: Machine) -> Notice:
    """What is missing for the placement that takes least, or was asked for, in words."""
    values: dict[str, Any] = {"width": work.width, "height": work.height, "placement": need.placement.value}
    values |= {"seconds": work.num_frames / FPS}
    for name, needed, free in (("ram", need.host, machine.free_ram), ("vram", need.device, machine.free_vram or 0)):
        # rounded apart, so that a miss by a hair does not read as none
        values |= {name: math.ceil(10 * needed / GIBIBYTE) / 10, f"free_{name}": int(10 * free / GIBIBYTE + 0.01) / 10}
    return Notice("PlanShortOfRam" if machine.free_vram is None else "PlanShortOfMemory", values)


def _refusal(reason: Notice, advice: Notice) -> PlanDoesNotFit:
    """A refusal in both languages."""
    told = {"reason": reason, "advice": advice}
    return PlanDoesNotFit(
        **{f"{name}_{language}": notice.text(language) for name, notice in told.items() for language in LANGUAGES}
    )


def _reason(every: Sequence[Need], chosen: Need, machine: Machine, *, is_forced: bool) -> Notice:
    """Why the models are kept where they are, in one sentence."""
    resident, offload, _ = every
    values = _gib(vram=chosen.device, ram=chosen.host, free_ram=machine.free_ram, free_vram=machine.free_vram or 0)
    values |= _gib(whole=resident.device, one=offload.device)
    if is_forced:
        return Notice("PlacementAsked", {**values, "placement": chosen.placement.value})
    if machine.device == "cpu":
        return Notice("PlacementProcessor", values)
    if chosen.placement is Placement.RESIDENT:
        return Notice("PlacementResident", values)
    if chosen.placement is Placement.OFFLOAD_MODELS:
        return Notice("PlacementOffload", values)
    if not chosen.streamed:
        return Notice("PlacementBlocks", values)
    values["percent"] = math.ceil(100 * chosen.streamed)
    return Notice("PlacementPinned" if chosen.pinned else "PlacementMapped", values)


def _gib(**amounts: float) -> dict[str, Any]:
    """Bytes in GiB, as texts have them."""
    return {name: amount / GIBIBYTE for name, amount in amounts.items()}
