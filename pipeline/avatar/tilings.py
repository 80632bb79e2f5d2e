"""How a clip is cut for the VAE, and what that takes. Plain numbers; imports no torch, decodes nothing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tiling:
    """How a clip is cut for the VAE. Neighbouring tiles share side - stride, and are blended there.

    Args:
        side: Of a square tile, pixels.
        side_stride: From one tile to the next, pixels.
        num_frames: Of a tile; every tile but the first is coded with one frame more, which then falls away.
        num_frames_stride: From one tile to the next, frames.
        peak_gib: GPU memory that decoding takes at 512×512 in float16: the decoder's weights (0.27) and the largest
            sum of tensors alive at once, counted at full size without a device. Whole frames of 704×1216 add up to
            0.35; a convolution's workspace and the CUDA context come on top.
    """

    side: int
    side_stride: int
    num_frames: int
    num_frames_stride: int
    peak_gib: float


# Other tilings blend at other places and normalise over other frames, so only the published one gives its numbers.
# diffusers' own default is "17-frames". Source of the published one: HunyuanVideo-Avatar, autoencoder_kl_causal_3d.py,
# with sample_size 256, sample_tsize 64, tile_overlap_factor 0.25.
PUBLISHED_TILING = Tiling(side=256, side_stride=192, num_frames=64, num_frames_stride=48, peak_gib=9.3)
TILINGS = {
    "published": PUBLISHED_TILING,
    "33-frames": Tiling(side=256, side_stride=192, num_frames=32, num_frames_stride=24, peak_gib=4.9),
    "17-frames": Tiling(side=256, side_stride=192, num_frames=16, num_frames_stride=12, peak_gib=2.7),
    "128-pixels": Tiling(side=128, side_stride=96, num_frames=16, num_frames_stride=12, peak_gib=0.9),  # more seams
}

WHOLE_FRAMES_GIB = 0.35 / (704 * 1216)  # of a pixel of a frame: a tile of time is put together beside the next one
WORKSPACE = 2**29  # bytes for convolutions and what the allocator loses; not measured on a GPU


def as_tiling(tiling: Tiling | str | None) -> Tiling | None:
    """A tiling, or that of a name in TILINGS; None stays None.

    Raises:
        ValueError: an unknown name.
    """
    if not isinstance(tiling, str):
        return tiling
    if tiling not in TILINGS:
        raise ValueError(f"tiling must be one of {', '.join(TILINGS)}, a Tiling, or None, got {tiling!r}")
    return TILINGS[tiling]


def decoding_bytes(tiling: Tiling, height: int, width: int) -> int:
    """GPU memory that decoding frames of this size takes, the decoder's weights in it; no workspace, no context."""
    return int((tiling.peak_gib + WHOLE_FRAMES_GIB * height * width) * 2**30)


def tiling_for(free_bytes: int, height: int, width: int) -> str:
    """The name of the tiling to decode in: the published one wherever it fits, else the next smaller one that does.

    It belongs to a clip's plan: another tiling gives other frames, so a clip that is resumed keeps its own.

    Args:
        free_bytes: Of the device's memory, for all that decoding takes.
        height: Of a frame, pixels.
        width: Of a frame, pixels.

    Returns:
        A name in TILINGS; the smallest one where none fits.
    """
    fitting = (
        name for name, tiling in TILINGS.items() if decoding_bytes(tiling, height, width) + WORKSPACE <= free_bytes
    )
    return next(fitting, list(TILINGS)[-1])
