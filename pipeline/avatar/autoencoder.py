"""The portrait into latents and latents into frames, tile by tile, on diffusers' AutoencoderKLHunyuanVideo unchanged.
What is between the two, and who reads the frames, is left to others."""

from collections.abc import Iterator

import numpy as np
import torch
from diffusers import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from pipeline.avatar.offload import brought_in
from pipeline.avatar.tilings import PUBLISHED_TILING, Tiling, as_tiling
from pipeline.avatar.tilings import TILINGS as TILINGS  # looked for here by callers


def set_tiling(vae: AutoencoderKLHunyuanVideo, tiling: Tiling | None) -> None:
    """Make a VAE code in these tiles, in space and time, or with None in one piece.

    diffusers cuts time into its default tiles even where tiling is off; the published code does not, nor does None.
    """
    vae.use_framewise_encoding = vae.use_framewise_decoding = tiling is not None
    if tiling is None:
        vae.disable_tiling()
        return
    vae.enable_tiling(
        tile_sample_min_height=tiling.side,
        tile_sample_min_width=tiling.side,
        tile_sample_min_num_frames=tiling.num_frames,
        tile_sample_stride_height=tiling.side_stride,
        tile_sample_stride_width=tiling.side_stride,
        tile_sample_stride_num_frames=tiling.num_frames_stride,
    )


@torch.no_grad()
def encode_portrait(
    vae: AutoencoderKLHunyuanVideo,
    pixels: torch.Tensor,
    latent_frames: int,
    generator: torch.Generator | None = None,
    tiling: Tiling | str | None = PUBLISHED_TILING,
) -> torch.Tensor:
    """The portrait, held for a window, as latents.

    The published code repeats the picture 129 times and encodes that. All its latent frames then have the same mean
    and variance, those of one encoded frame, so one is encoded here and only the noise is drawn for every frame.
    The published code draws that noise from the process's global state; here it comes from `generator`.

    Args:
        vae: Left in this tiling; brought in where it is offloaded.
        pixels: (1, 3, height, width) floats in [-1, 1], on the device the VAE computes on; sides multiples of 8.
        latent_frames: How many; 33 in the published window.
        generator: For the noise.
        tiling: How to cut the picture; a name in TILINGS does as well; None for one piece.

    Returns:
        image_latents, (1, 16, latent_frames, height / 8, width / 8) in the VAE's dtype, times its scaling factor.

    Raises:
        ValueError: pixels of another shape or range, no frames, or an unknown tiling.

    Source: HunyuanVideo-Avatar, hymm_sp/sample_inference_audio.py, predict.
    """
    tiling, multiple = as_tiling(tiling), vae.spatial_compression_ratio
    if pixels.ndim != 4 or pixels.shape[:2] != (1, 3) or any(side % multiple or not side for side in pixels.shape[2:]):
        raise ValueError(
            f"pixels have shape {tuple(pixels.shape)}; needed is (1, 3, height, width), sides multiples of {multiple}"
        )
    low, high = pixels.min().item(), pixels.max().item()
    if not (low >= -1 and high <= 1):  # NaN is in no range
        raise ValueError(f"pixels range from {low} to {high}; -1 to 1 is needed: portrait_pixels() gives it")
    if latent_frames < 1:
        raise ValueError(f"latent_frames must be 1 or more, got {latent_frames}")
    set_tiling(vae, tiling)
    with brought_in(vae):  # group offload hooks vae.forward, which nobody calls
        moments = vae.encode(pixels[:, :, None].to(vae.dtype)).latent_dist.parameters
    frames = DiagonalGaussianDistribution(moments.expand(-1, -1, latent_frames, -1, -1))
    return frames.sample(generator) * vae.config.scaling_factor


def decode_frames(
    vae: AutoencoderKLHunyuanVideo,
    latents: torch.Tensor,
    num_frames: int,
    tiling: Tiling | str | None = PUBLISHED_TILING,
    first_frame: int = 0,
) -> Iterator[torch.Tensor]:
    """Latents into frames, handed on one by one; the next tile of time is decoded when its first frame is asked for.

    Equal to `vae.decode(latents / scaling_factor)` in the same tiling, without ever holding more than one tile of
    time and the part of the one before it that is blended in: memory does not grow with the clip. Closing the
    iterator frees what it holds. Whatever the VAE does between two tiles changes none of them.

    Args:
        vae: Set to this tiling, and brought in where it is offloaded, for every tile of time.
        latents: (1, 16, latent_frames, height / 8, width / 8), as denoised, on the device the VAE computes on. Better
            all of them than those that num_frames needs: the VAE's norms see the whole tile.
        num_frames: How many to give, at most 4 (latent_frames - 1) + 1.
        tiling: How to cut the clip; a name in TILINGS does as well; None for one piece.
        first_frame: The first one to give, of those same frames; tiles of time that it does not need are not decoded.

    Returns:
        An iterator of (3, height, width) float32 in [0, 1] on the CPU; frame_to_uint8() makes pictures of them.

    Raises:
        ValueError: latents of another shape or not finite, too many frames or none, or an unknown tiling; raised at
            once.

    Source: HunyuanVideo-Avatar, hymm_sp/diffusion/pipelines/pipeline_hunyuan_video_audio.py; its autoencoder's tiles
        as diffusers has them, AutoencoderKLHunyuanVideo._temporal_tiled_decode.
    """
    tiling, channels = as_tiling(tiling), vae.config.latent_channels
    if latents.ndim != 5 or latents.shape[:2] != (1, channels) or not latents.numel():
        raise ValueError(
            f"latents have shape {tuple(latents.shape)}; needed is (1, {channels}, latent_frames, height, width)"
        )
    most = (latents.shape[2] - 1) * vae.temporal_compression_ratio + 1
    if not 1 <= num_frames <= most:
        raise ValueError(f"num_frames must be 1 to {most} for {latents.shape[2]} latent frames, got {num_frames}")
    if num_wrong := int((~latents.isfinite()).sum()):
        raise ValueError(f"{num_wrong} of {latents.numel()} latents are NaN or infinite; all must be finite")
    if not 0 <= first_frame < num_frames:
        raise ValueError(f"first_frame must be 0 to {num_frames - 1}, got {first_frame}")
    return _frames(vae, latents, num_frames, tiling, first_frame)


def frame_to_uint8(frame: torch.Tensor) -> np.ndarray:
    """A frame as a picture: value times 255, cut off and not rounded, as published.

    Args:
        frame: (3, height, width) floats in [0, 1].

    Returns:
        (height, width, 3) uint8, RGB.
    """
    return (frame * 255).to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()


def _frames(
    vae: AutoencoderKLHunyuanVideo, latents: torch.Tensor, num_frames: int, tiling: Tiling | None, first_frame: int
) -> Iterator[torch.Tensor]:
    ratio, latent_frames = vae.temporal_compression_ratio, latents.shape[2]
    size = stride = latent_frames * ratio  # one tile
    if tiling is not None and latent_frames > tiling.num_frames // ratio:
        size, stride = tiling.num_frames, tiling.num_frames_stride
    needed = max((first_frame - 1) // stride, 0)  # the tile that holds it; tile 0 has one frame more than the others
    tail = None
    for number, start in enumerate(range(0, latent_frames, stride // ratio)):
        if number < needed - 1:  # the one before it is blended in
            continue
        tile = _decode_tile(vae, latents[:, :, start : start + size // ratio + 1], tiling)
        if number == needed - 1:
            tail = tile[:, :, max(tile.shape[2] - (size - stride), 0) :].clone()
            continue
        if tail is not None:
            tile = vae.blend_t(tail, tile[:, :, 1:], size - stride)
        tail = tile[:, :, max(tile.shape[2] - (size - stride), 0) :].clone()
        frames = (tile[0, :, : stride + (start == 0)] / 2 + 0.5).clamp(0, 1).cpu()
        del tile  # before the next one is decoded
        before = number * stride + (number > 0)  # frames of the tiles before
        for frame in frames.unbind(1)[max(first_frame - before, 0) : num_frames - before]:
            yield frame.to(torch.float32, copy=True)
        if before + frames.shape[1] >= num_frames:
            return


@torch.no_grad()
def _decode_tile(vae: AutoencoderKLHunyuanVideo, latents: torch.Tensor, tiling: Tiling | None) -> torch.Tensor:
    """One tile of time, cut into tiles of space where it is larger than those. vae.decode() would cut time again."""
    set_tiling(vae, tiling)
    latents = (latents / vae.config.scaling_factor).to(vae.dtype)
    largest = max(latents.shape[3:]) * vae.spatial_compression_ratio
    with brought_in(vae):  # for this tile alone: between two of them, other models may take its place
        if tiling is not None and largest > tiling.side:
            return vae.tiled_decode(latents).sample
        return vae.decoder(vae.post_quant_conv(latents))
