"""Latents as a small picture: in range, cheap, and, with a matrix fitted to a VAE, a picture of what it decodes."""

import io
import time

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLHunyuanVideo
from PIL import Image

from pipeline.avatar import preview
from pipeline.avatar.presets import FLOW_SHIFT
from pipeline.avatar.sampler import Settings, make_scheduler
from pipeline.avatar.tiny import LATENT_CHANNELS, make_vae


def shrunken(pixels: torch.Tensor, times: int) -> torch.Tensor:
    """(1, 3, frames, height, width) with a pixel for each latent."""
    return torch.nn.functional.avg_pool3d(pixels, (1, times, times))


def encoded(vae: AutoencoderKLHunyuanVideo, pixels: torch.Tensor) -> torch.Tensor:
    """Latents as they are denoised."""
    with torch.no_grad():
        return vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor


def test_a_matrix_fitted_to_a_vae_shows_what_it_encoded(portrait: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method by which such figures are made: least squares from latents to the shrunken picture."""
    vae = make_vae(LATENT_CHANNELS, width=8)
    pixels = torch.tensor(np.asarray(portrait)).permute(2, 0, 1)[None, :, None] / 127.5 - 1
    latents, wanted = encoded(vae, pixels), shrunken(pixels, vae.spatial_compression_ratio)
    rows = latents[0, :, :, ::2].flatten(1).T  # every other row to fit, the rest to judge by
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    solution = torch.linalg.lstsq(rows, wanted[0, :, :, ::2].flatten(1).T, driver="gelsd").solution
    monkeypatch.setattr(preview, "RGB_FACTORS", solution[:-1].tolist())
    monkeypatch.setattr(preview, "RGB_BIAS", solution[-1].tolist())
    shown = preview.preview_frame(latents)[1::2].float() / 127.5 - 1
    truth = wanted[0, :, 0, 1::2].movedim(0, -1)
    flat = truth.mean(dim=(0, 1), keepdim=True)
    error = float((shown - truth).square().mean() / (flat - truth).square().mean())
    assert error < 0.5, "a random encoder keeps little; its mean colour alone would leave 1"


def test_the_published_figures_fit_the_published_latents() -> None:
    assert np.shape(preview.RGB_FACTORS) == (16, 3) and np.shape(preview.RGB_BIAS) == (3,)
    grey = preview.preview_frame(torch.zeros(1, 16, 1, 1, 1))[0, 0].tolist()
    assert grey == [130, 125, 117], "latents of nothing are the bias"


@pytest.mark.parametrize("channels", [1, 4, 16])
@pytest.mark.parametrize("scale", [0.1, 1.0, 1e6])
def test_a_preview_is_a_small_picture_whatever_the_latents(channels: int, scale: float) -> None:
    latents = torch.randn(1, channels, 5, 6, 9, generator=torch.Generator().manual_seed(0)) * scale
    latents[0, 0, 2, 0, 0] = torch.nan
    shown = preview.preview_frame(latents.to(torch.bfloat16))
    assert shown.dtype == torch.uint8 and shown.shape == (6, 9, 3)
    assert shown.min() < 127 < shown.max()


def test_the_middle_frame_is_shown_unless_another_is_asked_for() -> None:
    latents = torch.arange(5.0).sub(2).mul(0.4)[None, None, :, None, None].expand(1, 4, 5, 2, 3)
    assert [int(preview.preview_frame(latents, frame)[0, 0, 0]) for frame in (0, 1, 2, 3, 4)] == [25, 76, 127, 178, 229]
    assert torch.equal(preview.preview_frame(latents), preview.preview_frame(latents, 2))


@pytest.mark.parametrize("shape", [(16, 5, 6, 9), (2, 16, 5, 6, 9), (1, 16, 0, 6, 9)])
def test_latents_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be \\(1, channels, latent_frames, height, width\\)"):
        preview.preview_frame(torch.zeros(shape))


@pytest.mark.parametrize(("height", "width", "size"), [(88, 96, (320, 293)), (96, 88, (293, 320)), (1, 100, (320, 3))])
def test_the_page_gets_a_jpeg_of_its_size(height: int, width: int, size: tuple[int, int]) -> None:
    content = preview.preview_jpeg(torch.randn(1, 16, 3, height, width))
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "JPEG" and picture.size == size and len(content) < 60_000


def test_a_preview_of_a_minute_takes_no_time() -> None:
    latents = torch.randn(1, 16, 385, 88, 96)
    preview.preview_jpeg(latents)
    begun = time.perf_counter()
    preview.preview_jpeg(latents)
    assert time.perf_counter() - begun < 0.5


def test_a_step_foresees_the_clip_it_heads_for() -> None:
    generator = torch.Generator().manual_seed(0)
    clip, noise = (torch.randn(1, 16, 3, 8, 8, generator=generator) for _ in range(2))
    settings = Settings(num_inference_steps=10, guidance_scale=7.5)
    scheduler = make_scheduler({"shift": FLOW_SHIFT, "num_train_timesteps": 1000}, settings)
    latents = noise
    for step, timestep in enumerate(scheduler.timesteps, start=1):
        before = latents
        latents = scheduler.step(noise - clip, timestep, latents, return_dict=False)[0]
        sigma, sigma_before = float(scheduler.sigmas[step]), float(scheduler.sigmas[step - 1])
        assert torch.allclose(preview.foresee(latents, before, sigma, sigma_before), clip, atol=1e-3)
    with pytest.raises(ValueError, match=r"got 0\.5 and then 0\.6"):
        preview.foresee(latents, latents, 0.6, 0.5)
