"""Latents to a small picture of what the clip will look like, by one matrix: no VAE, milliseconds.

Knows latents and pictures; when one is shown, and where, is decided elsewhere.
"""

import io

import torch
from PIL import Image

# Red, green and blue of the clip in [-1, 1] from the 16 channels of latents as they are denoised, times the VAE's
# scaling factor 0.476986, and what is added to them.
# Source: ComfyUI, comfy/latent_formats.py, HunyuanVideo, latent_rgb_factors and latent_rgb_factors_bias.
RGB_FACTORS = (
    (-0.0395, -0.0331, 0.0445),
    (0.0696, 0.0795, 0.0518),
    (0.0135, -0.0945, -0.0282),
    (0.0108, -0.0250, -0.0765),
    (-0.0209, 0.0032, 0.0224),
    (-0.0804, -0.0254, -0.0639),
    (-0.0991, 0.0271, -0.0669),
    (-0.0646, -0.0422, -0.0400),
    (-0.0696, -0.0595, -0.0894),
    (-0.0799, -0.0208, -0.0375),
    (0.1166, 0.1627, 0.0962),
    (0.1165, 0.0432, 0.0407),
    (-0.2315, -0.1920, -0.1355),
    (-0.0270, 0.0401, -0.0821),
    (-0.0616, -0.0997, -0.0727),
    (0.0249, -0.0469, -0.1703),
)
RGB_BIAS = (0.0259, -0.0192, -0.0761)
LARGEST_SIDE = 320  # pixels of a preview on the page
JPEG_QUALITY = 80  # of 100; a preview is blurred already


def foresee(latents: torch.Tensor, before: torch.Tensor, sigma: float, sigma_before: float) -> torch.Tensor:
    """The finished latents as the last step saw them coming: what is shown early on is then a face, not noise.

    A step moves latents along a straight line from noise (sigma 1) to the clip (sigma 0); this follows it to its end.

    Args:
        latents: After the step.
        before: Before it, of the same shape.
        sigma: Of `latents`; `scheduler.sigmas[run.step]`.
        sigma_before: Of `before`, larger; `scheduler.sigmas[run.step - 1]`.

    Raises:
        ValueError: the sigmas do not fall.
    """
    if not 0 <= sigma < sigma_before:
        raise ValueError(f"sigma must fall from one step to the next, got {sigma_before} and then {sigma}")
    return latents + (latents - before) * (sigma / (sigma_before - sigma))


def preview_frame(latents: torch.Tensor, frame: int | None = None) -> torch.Tensor:
    """One latent frame as a picture, a pixel for each latent.

    Args:
        latents: (1, channels, latent_frames, height, width) floats, as denoised, on any device. Channels other than
            16, as test builds have, are shown in grey: their mean, which is a picture of where something is, no more.
        frame: Which latent frame; None for the middle one.

    Returns:
        (height, width, 3) uint8, RGB, on the CPU.

    Raises:
        ValueError: latents of another shape.
    """
    if latents.ndim != 5 or latents.shape[0] != 1 or not latents.numel():
        raise ValueError(f"latents must be (1, channels, latent_frames, height, width), got {tuple(latents.shape)}")
    chosen = latents[0, :, latents.shape[2] // 2 if frame is None else frame].float()
    if len(chosen) == len(RGB_FACTORS):
        factors, bias = chosen.new_tensor(RGB_FACTORS), chosen.new_tensor(RGB_BIAS)
    else:
        factors, bias = chosen.new_full((len(chosen), 3), 1 / len(chosen)), chosen.new_zeros(3)
    rgb = (chosen.movedim(0, -1) @ factors + bias).nan_to_num()
    return ((rgb + 1) * 127.5).clamp(0, 255).to(torch.uint8).cpu()


def preview_image(latents: torch.Tensor, frame: int | None = None) -> Image.Image:
    """The same as a picture for the page, enlarged to LARGEST_SIDE at most; arguments are those of `preview_frame`."""
    picture = Image.fromarray(preview_frame(latents, frame).numpy())
    scale = LARGEST_SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def preview_jpeg(latents: torch.Tensor, frame: int | None = None) -> bytes:
    """The same as a JPEG file of some kilobytes; arguments are those of `preview_frame`."""
    written = io.BytesIO()
    preview_image(latents, frame).save(written, "JPEG", quality=JPEG_QUALITY)
    return written.getvalue()
