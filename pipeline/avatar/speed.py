"""Speed presets: named ways to compute less, or the same faster. Importing it loads no torch.

What a preset does to the quality of real clips is not known here: only "published" is what the model's authors ship.
How far each one's result lies from the reference on a tiny random build is printed by
`python -m tests.benchmarks.avatar_presets`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline import hardware
from pipeline.avatar.presets import NUM_INFERENCE_STEPS
from pipeline.avatar.schedule import FULL_AGAIN, FULL_EVERY, FULL_UNTIL
from pipeline.errors import PresetUnavailable
from pipeline.hardware import Placement
from pipeline.texts import LANGUAGES, Notice

if TYPE_CHECKING:
    from pipeline.avatar.pipeline_hunyuan_avatar import HunyuanVideoAvatarPipeline

DEFAULT = "published"

# Threshold at which HunyuanVideo is said to lose next to nothing. Source: diffusers, docs, First Block Cache.
FIRST_BLOCK_THRESHOLD = 0.06
# Length of what the blocks add to the tokens over that one step before, in 50 steps of HunyuanVideo from text to video
# at 720 pixels; the errors it may add up and the steps it may skip. The avatar model guides by two branches and hears:
# its own ratios, which `MagCacheConfig(calibrate=True)` prints, have not been measured.
# Source: MagCache (Apache 2.0), MagCache4HunyuanVideo/magcache_sample_video.py, commit 8715292.
MAGNITUDE_RATIOS = (
    *(1.0, 1.0754, 1.27807, 1.11596, 1.09504, 1.05188, 1.00844, 1.05779, 1.00657, 1.04142),
    *(1.03101, 1.00679, 1.02556, 1.00908, 1.06949, 1.05438, 1.02214, 1.02321, 1.03019, 1.00779),
    *(1.03381, 1.01886, 1.01161, 1.02968, 1.00544, 1.02822, 1.00689, 1.02119, 1.0105, 1.01044),
    *(1.01572, 1.02972, 1.0094, 1.02368, 1.0226, 0.98965, 1.01588, 1.02146, 1.0018, 1.01687),
    *(0.99436, 1.00283, 1.01139, 0.97122, 0.98251, 0.94513, 0.97656, 0.90943, 0.85703, 0.75456),
)
MAGNITUDE_THRESHOLD, MAGNITUDE_SKIPS, MAGNITUDE_RETENTION = 0.12, 4, 0.2
# From the 26th of 50 steps on: the step before is computed in full, and the portrait has long taken shape. With the
# published step cache 48 of its 60 forwards are left. Chosen, not found by trial.
NEGATIVE_UNTIL = 26 / 50


@dataclass(frozen=True)
class Preset:
    """One way.

    Args:
        text: Name of the text that says what it does and what is known of it.
        use_step_cache: Compute 20 of 50 steps on the last block alone, as published.
        negative_until: Share of the steps in which the negative branch is computed.
        cache: Makes the configuration of one of diffusers' caches for a number of steps.
        scaled_matmul: Multiply in fp8 where weights are fp8.
        compiled: Compile the blocks, which are alike.
        lossy_attention: Offer attention that computes with fewer bits.
        work: Whole forwards, as a share of those of "published", at 50 steps; where a cache decides by what it sees,
            as its authors found.
    """

    text: str
    use_step_cache: bool = False
    negative_until: float = 1.0
    cache: Callable[[int], Any] | None = None
    scaled_matmul: bool = False
    compiled: bool = False
    lossy_attention: bool = False
    work: float = 1.0

    @property
    def settings(self) -> dict[str, Any]:
        """What `prepare` and the pipeline's call are to be given."""
        return {"use_step_cache": self.use_step_cache, "negative_until": self.negative_until}

    @property
    def can_continue(self) -> bool:
        """Whether another process can go on with a run: a saved run holds nothing of diffusers' caches."""
        return self.cache is None


def _first_block(num_steps: int) -> Any:
    from diffusers import FirstBlockCacheConfig

    return FirstBlockCacheConfig(threshold=FIRST_BLOCK_THRESHOLD)


def _magnitude(num_steps: int) -> Any:
    from diffusers import MagCacheConfig

    return MagCacheConfig(
        mag_ratios=list(MAGNITUDE_RATIOS),
        num_inference_steps=num_steps,
        threshold=MAGNITUDE_THRESHOLD,
        max_skip_steps=MAGNITUDE_SKIPS,
        retention_ratio=MAGNITUDE_RETENTION,
    )


def _taylor(num_steps: int) -> Any:
    """Full steps where the published step cache has them; between them the prediction itself is continued."""
    import torch
    from diffusers import TaylorSeerCacheConfig

    return TaylorSeerCacheConfig(
        cache_interval=max(round(FULL_EVERY * num_steps), 1),
        disable_cache_before_step=max(round(FULL_UNTIL * num_steps), 2),  # two make a slope
        disable_cache_after_step=round(FULL_AGAIN * num_steps),
        taylor_factors_dtype=torch.float32,
        use_lite_mode=True,  # keeps the output alone; what every block gives would take 50 GB at 704×768
    )


PRESETS = {
    DEFAULT: Preset("PresetPublished", use_step_cache=True),
    "reference": Preset("PresetReference", work=50 / 30),
    "first-block-cache": Preset("PresetFirstBlockCache", cache=_first_block, work=50 / 30 / 1.62),
    "mag-cache": Preset("PresetMagCache", cache=_magnitude, work=45 / 60),
    "taylorseer": Preset("PresetTaylorSeer", cache=_taylor, work=58 / 60),
    "skip-late-negative": Preset(
        "PresetSkipLateNegative", use_step_cache=True, negative_until=NEGATIVE_UNTIL, work=48 / 60
    ),
    "fp8-matmul": Preset("PresetFp8Matmul", use_step_cache=True, scaled_matmul=True),
    "compiled": Preset("PresetCompiled", use_step_cache=True, compiled=True),
    "sage-attention": Preset("PresetSageAttention", use_step_cache=True, lossy_attention=True),
}
"""By name."""


def check(
    name: str, device: str, placement: Placement, *, num_processes: int = 1, precision: str | None = None
) -> None:
    """Refuse a preset that cannot work.

    Args:
        name: In PRESETS.
        device: "cuda", "mps" or "cpu".
        placement: Of the models.
        num_processes: That share the work.
        precision: "fp8" or "bf16" of the transformer's weights; None where it is not known yet.

    Raises:
        PresetUnavailable: it cannot, and why.
        ValueError: there is none of this name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    preset, reason = PRESETS[name], ""
    if preset.cache is not None and hardware.on_zero_gpu():
        reason = "PresetNotInLeases"
    elif preset.cache is not None and placement is Placement.STREAM_BLOCKS:
        reason = "PresetNotStreamed"
    elif preset.cache is not None and num_processes > 1:
        reason = "PresetNotShared"
    elif preset.scaled_matmul and (device == "mps" or precision == "bf16"):
        reason = "PresetNeedsFp8"
    elif preset.compiled and (device != "cuda" or placement is not Placement.RESIDENT or hardware.on_zero_gpu()):
        reason = "PresetNeedsResident"
    elif preset.lossy_attention and device != "cuda":
        reason = "PresetNeedsSage"
    if reason:
        raise _unavailable(name, reason)


def apply(
    pipe: "HunyuanVideoAvatarPipeline",
    name: str = DEFAULT,
    placement: Placement = Placement.RESIDENT,
    *,
    num_inference_steps: int = NUM_INFERENCE_STEPS,
) -> list[Notice]:
    """Set a pipeline up for a preset, until `undo` or another `apply`; give `prepare` the preset's `settings`, too.

    Call it after the models are placed and before processes share them.

    Args:
        pipe: Placed.
        name: In PRESETS.
        placement: As the models are placed.
        num_inference_steps: Of the runs that follow.

    Returns:
        What was chosen by measuring, in words.

    Raises:
        PresetUnavailable: it cannot work here.
        ValueError: there is none of this name, or the transformer has a cache that was not set up here.
    """
    from pipeline.avatar import attention, fp8, parallel
    from pipeline.avatar.caching import ByFrame

    undo(pipe)
    preset, transformer, device = PRESETS.get(name), pipe.transformer, pipe._execution_device
    precision = "fp8" if any(isinstance(module, fp8.ScaledFp8Linear) for module in transformer.modules()) else "bf16"
    num_processes = hardware.processes().count
    check(name, device.type, placement, num_processes=num_processes, precision=precision)
    assert preset is not None
    if preset.scaled_matmul and not fp8.has_scaled_matmul(device):
        raise _unavailable(name, "PresetNeedsFp8")
    if preset.lossy_attention and not any(map(attention.is_installed, attention.LOSSY)):
        raise _unavailable(name, "PresetNeedsSage")
    if preset.cache is not None:
        transformer.enable_cache(preset.cache(num_inference_steps))
        pipe.predict = ByFrame(pipe.predict)
    notices = []
    if device.type == "cuda":  # elsewhere PyTorch has one kernel, and bits that do not depend on a measurement
        choose = partial(attention.choose, device, hardware.cache_folder(), dtype=transformer.dtype)
        choice = parallel.once(partial(choose, lossy=preset.lossy_attention, shared=num_processes > 1))
        attention.use(transformer, choice.backend)
        notices.append(choice.reason)
    if preset.scaled_matmul:
        fp8.use_scaled_matmul(transformer)
    if preset.compiled:
        transformer.compile_repeated_blocks()
    return notices


def undo(pipe: "HunyuanVideoAvatarPipeline") -> None:
    """Take back what `apply` did; where it did nothing, does nothing."""
    from pipeline.avatar import attention, fp8
    from pipeline.avatar.caching import ByFrame

    transformer = pipe.transformer
    if isinstance(pipe.predict, ByFrame):
        pipe.predict = pipe.predict.inner
        transformer.disable_cache()
    fp8.use_scaled_matmul(transformer, False)
    attention.use(transformer, attention.DEFAULT)
    for module in transformer.modules():
        if type(module).__name__ in transformer._repeated_blocks:
            module._compiled_call_impl = None  # what torch's `Module.compile` sets


def _unavailable(name: str, reason: str) -> PresetUnavailable:
    reasons = {f"reason_{language}": Notice(reason).text(language) for language in LANGUAGES}
    return PresetUnavailable(preset=name, **reasons)
