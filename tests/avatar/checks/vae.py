"""Portrait to latents and latents to frames beside the published autoencoder, whole and in tiles."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKLHunyuanVideo
from safetensors.torch import load_file

from pipeline.avatar.autoencoder import Tiling, decode_frames, set_tiling
from tests.avatar.checks import Difference

TOLERANCE = 2e-5  # measured between the two autoencoders: 9.1e-6


@torch.no_grad()
def differences(folder: Path) -> Iterator[Difference]:
    """vae_tiny: moments and decoded clips, and the same clips frame by frame, before the cut to [0, 1] where it can."""
    if not (folder / "vae_tiny.safetensors").exists():
        return
    goldens = load_file(folder / "vae_tiny.safetensors")
    vae, tiling = tiny_vae(folder)

    set_tiling(vae, None)
    yield from _moments(vae, "out", goldens["in.video"], goldens)
    yield from _decoded(vae, None, "out.decoded_from_mean", goldens["out.mean"], goldens)
    yield from _decoded(vae, None, "out.decoded_from_latent", goldens["in.latent"], goldens)
    set_tiling(vae, tiling)
    yield from _moments(vae, "tiled.out", goldens["tiled.in.video_fp16"].float(), goldens)
    yield from _decoded(vae, tiling, "tiled.out.decoded", goldens["tiled.in.latent"], goldens)
    yield from _decoded(vae, tiling, "spatial_tiled.out.decoded", goldens["spatial_tiled.in.latent"], goldens)


def tiny_vae(folder: Path) -> tuple[AutoencoderKLHunyuanVideo, Tiling]:
    """The folder's autoencoder with its weights, and the tiling in which its tiled goldens were made."""
    about = json.loads((folder / "vae_tiny.json").read_text())
    vae = AutoencoderKLHunyuanVideo.from_config(about["diffusers_config"]).eval()
    goldens = load_file(folder / "vae_tiny.safetensors")
    vae.load_state_dict({name[3:]: tensor for name, tensor in goldens.items() if name.startswith("sd.")})
    sizes = about["tiling"]["diffusers_settings_that_match_here"]
    return vae, Tiling(
        side=sizes["tile_sample_min_height"],
        side_stride=sizes["tile_sample_stride_height"],
        num_frames=sizes["tile_sample_min_num_frames"],
        num_frames_stride=sizes["tile_sample_stride_num_frames"],
        peak_gib=0.0,
    )


def _moments(
    vae: AutoencoderKLHunyuanVideo, prefix: str, video: torch.Tensor, goldens: dict[str, torch.Tensor]
) -> Iterator[Difference]:
    found = vae.encode(video).latent_dist
    yield _difference(f"{prefix}.mean", found.mean, goldens[f"{prefix}.mean"])
    yield _difference(f"{prefix}.logvar", found.logvar, goldens[f"{prefix}.logvar"])


def _decoded(
    vae: AutoencoderKLHunyuanVideo,
    tiling: Tiling | None,
    name: str,
    latents: torch.Tensor,
    goldens: dict[str, torch.Tensor],
) -> Iterator[Difference]:
    golden = goldens[name]
    yield _difference(name, vae.decode(latents).sample, golden)  # in the tiling the caller set
    scaled = latents * vae.config.scaling_factor
    frames = torch.stack(list(decode_frames(vae, scaled, golden.shape[2], tiling)), dim=1)[None]
    yield _difference(f"{name} as frames", frames, (golden / 2 + 0.5).clamp(0, 1))


def _difference(name: str, found: torch.Tensor, golden: torch.Tensor) -> Difference:
    return Difference(f"vae_tiny {name}", (found - golden).abs().max().item(), TOLERANCE)
