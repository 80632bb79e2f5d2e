"""The portrait into latents and latents into frames: equal to the whole-clip computation, in bounded memory."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import CpuOffload, add_hook_to_module
from diffusers import AutoencoderKLHunyuanVideo
from diffusers.hooks import apply_group_offloading
from diffusers.hooks.group_offloading import ModuleGroup

from pipeline.avatar.autoencoder import (
    PUBLISHED_TILING,
    TILINGS,
    Tiling,
    decode_frames,
    encode_portrait,
    frame_to_uint8,
    set_tiling,
)
from tests.avatar.checks import vae as checks
from tests.avatar.memory import LiveBytes

GOLDENS = Path(__file__).parent / "goldens"
TINY_TILING = Tiling(side=32, side_stride=24, num_frames=16, num_frames_stride=12, peak_gib=0.0)


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLHunyuanVideo:
    return checks.tiny_vae(GOLDENS)[0]


def latents_of(num: int, *, height: int = 2, width: int = 3, seed: int = 0) -> torch.Tensor:
    """(1, 4, num, height, width) float32."""
    return torch.randn(1, 4, num, height, width, generator=torch.Generator().manual_seed(seed))


def test_published_numbers_are_met() -> None:
    differences = list(checks.differences(GOLDENS))
    assert len(differences) == 12
    assert [difference for difference in differences if not difference.found <= difference.tolerance] == []


@pytest.mark.parametrize("tiling", [None, TINY_TILING, PUBLISHED_TILING])
@pytest.mark.parametrize("num_frames", [33, 129])
def test_one_encoded_frame_is_every_frame_of_a_still_clip(
    vae: AutoencoderKLHunyuanVideo, tiling: Tiling | None, num_frames: int
) -> None:
    set_tiling(vae, tiling)
    pixels = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latent_frames = (num_frames + 3) // 4
    with torch.no_grad():
        still = vae.encode(pixels[:, :, None].repeat(1, 1, num_frames, 1, 1)).latent_dist
        one = vae.encode(pixels[:, :, None]).latent_dist
    assert (still.mean - one.mean).abs().max() < 2e-5
    assert (still.logvar - one.logvar).abs().max() < 2e-5
    found = encode_portrait(vae, pixels, latent_frames, torch.Generator().manual_seed(5), tiling)
    published = still.sample(torch.Generator().manual_seed(5)) * vae.config.scaling_factor
    assert found.shape == (1, 4, latent_frames, 5, 6)
    assert (found - published).abs().max() < 2e-5


def test_every_frame_of_the_portrait_has_its_own_noise_and_the_generator_decides_it(
    vae: AutoencoderKLHunyuanVideo,
) -> None:
    pixels = torch.zeros(1, 3, 16, 24)
    first, again = (encode_portrait(vae, pixels, 3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first[:, :, 0], first[:, :, 1])
    assert not torch.equal(first, encode_portrait(vae, pixels, 3, torch.Generator().manual_seed(2)))


@pytest.mark.parametrize(
    "tiling",
    [
        None,
        TINY_TILING,
        replace(TINY_TILING, side=16, side_stride=8),
        replace(TINY_TILING, num_frames=32, num_frames_stride=4),  # eight tiles over one frame
        replace(TINY_TILING, num_frames_stride=16),  # nothing to blend
    ],
)
@pytest.mark.parametrize("latent_frames", [1, 4, 5, 7, 10, 13])
def test_frames_are_those_of_a_whole_decode_bit_for_bit(
    vae: AutoencoderKLHunyuanVideo, tiling: Tiling | None, latent_frames: int
) -> None:
    set_tiling(vae, tiling)
    latents = latents_of(latent_frames)
    num_frames = 4 * (latent_frames - 1) + 1
    with torch.no_grad():
        whole = (vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)[0]
    for count in {num_frames, max(num_frames - 3, 1), 1}:
        frames = list(decode_frames(vae, latents, count, tiling))
        assert len(frames) == count
        assert torch.equal(torch.stack(frames, dim=1), whole[:, :count])
        assert all(frame.dtype == torch.float32 and not frame.requires_grad for frame in frames)


def test_memory_is_that_of_one_tile_however_long_the_clip(vae: AutoencoderKLHunyuanVideo) -> None:
    with torch.no_grad(), LiveBytes() as one_tile:
        latents = latents_of(5)
        decoded = vae.decoder(vae.post_quant_conv(latents))
    frame_bytes = decoded.nbytes // decoded.shape[2]
    for latent_frames in (40, 160):
        latents = latents_of(latent_frames)
        with LiveBytes() as clip:
            for frame in decode_frames(vae, latents, 4 * latent_frames - 3, TINY_TILING):
                del frame
        # beside the tile: four frames to be blended in, and the first tile's thirteen given out
        assert clip.peak <= one_tile.peak + 17 * frame_bytes
    set_tiling(vae, TINY_TILING)
    with torch.no_grad(), LiveBytes() as whole:
        vae.decode(latents)
    assert whole.peak > 3 * clip.peak  # so the count sees it where all frames are kept


def test_a_tile_is_decoded_when_its_first_frame_is_asked_for_and_freed_on_closing(
    vae: AutoencoderKLHunyuanVideo,
) -> None:
    tiles = []
    handle = vae.decoder.register_forward_hook(lambda *_: tiles.append(1))
    latents = latents_of(10)
    with LiveBytes() as clip:
        frames = decode_frames(vae, latents, 37, TINY_TILING)
        assert len(tiles) == 0
        first = next(frames)
        for _ in range(12):
            next(frames)
        assert len(tiles) == 1
        next(frames)
        assert len(tiles) == 2
        assert clip.live > 13 * first.nbytes
        frames.close()  # type: ignore[attr-defined]
        assert clip.live == first.nbytes
    handle.remove()


@pytest.mark.parametrize("tiling", [None, TINY_TILING], ids=["whole", "tiled"])
def test_a_clip_decoded_from_any_frame_on_goes_on_as_before(
    vae: AutoencoderKLHunyuanVideo, tiling: Tiling | None
) -> None:
    latents = latents_of(9)
    whole = torch.stack(list(decode_frames(vae, latents, 30, tiling)))
    for first in range(30):
        assert torch.equal(torch.stack(list(decode_frames(vae, latents, 30, tiling, first))), whole[first:])
    with pytest.raises(ValueError, match="0 to 29, got 30"):
        decode_frames(vae, latents, 30, tiling, 30)


def test_fewer_frames_than_the_latents_hold_decode_fewer_tiles(vae: AutoencoderKLHunyuanVideo) -> None:
    tiles = []
    handle = vae.decoder.register_forward_hook(lambda *_: tiles.append(1))
    assert len(list(decode_frames(vae, latents_of(33), 13, TINY_TILING))) == 13
    handle.remove()
    assert len(tiles) == 1


class Away:
    """Offloading without a second device: every parameter is either here or away, and what computes with one that is
    away is noted. Groups bring in and take away flags rather than bytes."""

    def __init__(self, vae: AutoencoderKLHunyuanVideo, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vae, self.away, self.missed = vae, set[int](), list[str]()
        monkeypatch.setattr(ModuleGroup, "onload_", lambda group: self.bring(_tensors_of(group)))
        monkeypatch.setattr(ModuleGroup, "offload_", lambda group: self.take(_tensors_of(group)))
        for name, module in vae.named_modules():
            if list(module.parameters(recurse=False)):
                computed = functools.partial(self._computed, name, module.forward)
                monkeypatch.setattr(module, "forward", computed)

    def bring(self, tensors: Iterable[torch.Tensor]) -> None:
        self.away -= set(map(id, tensors))

    def take(self, tensors: Iterable[torch.Tensor]) -> None:
        self.away |= set(map(id, tensors))

    def _computed(self, name: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        module = self.vae.get_submodule(name)
        if self.away & set(map(id, module.parameters(recurse=False))):
            self.missed.append(name)
        return forward(*args, **kwargs)


def _tensors_of(group: ModuleGroup) -> list[torch.Tensor]:
    return [*group.parameters, *(parameter for module in group.modules for parameter in module.parameters())]


@pytest.mark.parametrize("tiling", [None, TINY_TILING])
@pytest.mark.parametrize("kind", ["leaf_level", "block_level"])
def test_every_part_is_brought_in_from_a_group_before_it_computes_and_goes_back(
    kind: str, tiling: Tiling | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = checks.tiny_vae(GOLDENS)[0]
    pixels, latents = torch.zeros(1, 3, 48, 48), latents_of(7, height=6, width=6)
    wanted_latents = encode_portrait(vae, pixels, 2, torch.Generator().manual_seed(0), tiling)
    wanted = list(decode_frames(vae, latents, 25, tiling))
    watch, cpu = Away(vae, monkeypatch), torch.device("cpu")
    blocks = 1 if kind == "block_level" else None
    apply_group_offloading(vae, cpu, cpu, offload_type=kind, num_blocks_per_group=blocks)
    watch.take(vae.parameters())

    found_latents = encode_portrait(vae, pixels, 2, torch.Generator().manual_seed(0), tiling)
    assert watch.missed == [] and len(watch.away) == len(list(vae.parameters()))
    frames = decode_frames(vae, latents, 25, tiling)
    found = [next(frames)]
    assert len(watch.away) == len(list(vae.parameters()))  # between two tiles too
    found += frames
    assert watch.missed == [] and len(watch.away) == len(list(vae.parameters()))
    assert torch.equal(found_latents, wanted_latents)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_what_computes_without_being_brought_in_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = checks.tiny_vae(GOLDENS)[0]
    watch, cpu = Away(vae, monkeypatch), torch.device("cpu")
    apply_group_offloading(vae, cpu, cpu, offload_type="block_level", num_blocks_per_group=1)
    watch.take(vae.parameters())
    with torch.no_grad():
        vae.decode(latents_of(1))
    assert {"post_quant_conv", "decoder.conv_in.conv"} <= set(watch.missed)


def test_model_offload_brings_the_autoencoder_in_before_every_tile_and_may_take_it_between_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Bring(CpuOffload):
        def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            watch.bring(module.parameters())
            calls.append(1)
            return super().pre_forward(module, *args, **kwargs)

    vae, calls = checks.tiny_vae(GOLDENS)[0], list[int]()
    watch = Away(vae, monkeypatch)
    add_hook_to_module(vae, Bring("cpu"))
    watch.take(vae.parameters())
    encode_portrait(vae, torch.zeros(1, 3, 16, 16), 2)
    calls.clear()
    for _ in decode_frames(vae, latents_of(10), 37, TINY_TILING):
        watch.take(vae.parameters())
    assert watch.missed == [] and len(calls) == 3  # 13, 12 and 12 frames


def test_a_half_precision_autoencoder_gives_float32_frames(vae: AutoencoderKLHunyuanVideo) -> None:
    half = AutoencoderKLHunyuanVideo.from_config(vae.config).to(torch.bfloat16)
    assert encode_portrait(half, torch.zeros(1, 3, 16, 16), 2).dtype == torch.bfloat16
    (frame,) = decode_frames(half, latents_of(1), 1)
    assert frame.dtype == torch.float32


def test_bytes_are_cut_off_and_not_rounded() -> None:
    frame = torch.tensor([0.0, 0.999 / 255, 1.999 / 255, 0.9999, 1.0, 128 / 255]).repeat(3, 1)[:, None]
    frame[2] = 1
    picture = frame_to_uint8(frame)
    assert picture.shape == (1, 6, 3)
    assert picture.dtype == np.uint8
    assert picture[0, :, 0].tolist() == [0, 0, 1, 254, 255, 128]
    assert picture[0, :, 2].tolist() == [255] * 6


@pytest.fixture(scope="module")
def full_size() -> AutoencoderKLHunyuanVideo:
    """The published size, without its numbers."""
    with torch.device("meta"):
        return AutoencoderKLHunyuanVideo().half()


@pytest.mark.parametrize("name", TILINGS)
def test_a_tiling_takes_the_memory_it_states(full_size: AutoencoderKLHunyuanVideo, name: str) -> None:
    tiling = TILINGS[name]
    set_tiling(full_size, tiling)
    with torch.device("meta"), torch.no_grad():
        latents = torch.empty(1, 16, tiling.num_frames // 4 + 1, 512 // 8, 512 // 8, dtype=torch.float16)
        weights = sum(parameter.nbytes for parameter in full_size.decoder.parameters())
        with LiveBytes() as bytes_:
            full_size.tiled_decode(latents)
    assert round((bytes_.peak + weights) / 2**30, 1) == tiling.peak_gib


@pytest.mark.parametrize("meddle_after", [0, 1, 14])
def test_a_clip_keeps_its_tiling_whatever_the_autoencoder_does_meanwhile(
    vae: AutoencoderKLHunyuanVideo, meddle_after: int
) -> None:
    latents, other = latents_of(7, height=6, width=2), replace(TINY_TILING, side=16, side_stride=8, num_frames=8)
    wanted = torch.stack(list(decode_frames(vae, latents, 25, TINY_TILING)))
    assert not torch.equal(wanted, torch.stack(list(decode_frames(vae, latents, 25, other))))
    frames = decode_frames(vae, latents, 25, TINY_TILING)
    found = [next(frames) for _ in range(meddle_after)]
    another = decode_frames(vae, latents, 25, other)
    next(another)
    set_tiling(vae, other)
    found += frames
    assert torch.equal(torch.stack(found), wanted)


def test_the_portrait_is_encoded_in_the_tiling_given(vae: AutoencoderKLHunyuanVideo) -> None:
    pixels = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole, tiled = (
        encode_portrait(vae, pixels, 2, torch.Generator().manual_seed(0), tiling) for tiling in (None, TINY_TILING)
    )
    set_tiling(vae, TINY_TILING)
    assert not torch.equal(whole, tiled)
    assert torch.equal(encode_portrait(vae, pixels, 2, torch.Generator().manual_seed(0), None), whole)


def test_a_tiling_may_be_named_and_the_published_one_is_the_default(vae: AutoencoderKLHunyuanVideo) -> None:
    pixels, latents = torch.zeros(1, 3, 16, 16), latents_of(1)
    for named, tiling in TILINGS.items():
        encode_portrait(vae, pixels, 1, None, named)
        assert vae.tile_sample_min_height == tiling.side
        list(decode_frames(vae, latents, 1, named))
        assert vae.tile_sample_min_num_frames == tiling.num_frames
    encode_portrait(vae, pixels, 1)
    assert vae.tile_sample_min_num_frames == PUBLISHED_TILING.num_frames
    set_tiling(vae, None)
    list(decode_frames(vae, latents, 1))
    assert vae.use_tiling and vae.tile_sample_min_num_frames == PUBLISHED_TILING.num_frames


def test_an_unknown_tiling_is_refused_with_the_known_ones(vae: AutoencoderKLHunyuanVideo) -> None:
    with pytest.raises(ValueError, match=r"published, 33-frames, 17-frames, 128-pixels, .* got 'tiny'"):
        decode_frames(vae, latents_of(1), 1, "tiny")
    with pytest.raises(ValueError, match=r"published, 33-frames, 17-frames, 128-pixels, .* got 'tiny'"):
        encode_portrait(vae, torch.zeros(1, 3, 16, 16), 1, None, "tiny")


def test_without_tiling_nothing_is_cut_in_space_or_time(vae: AutoencoderKLHunyuanVideo) -> None:
    set_tiling(vae, TINY_TILING)
    set_tiling(vae, None)
    assert not (vae.use_tiling or vae.use_framewise_encoding or vae.use_framewise_decoding)


def test_the_published_tiling_is_256_pixels_and_64_frames(vae: AutoencoderKLHunyuanVideo) -> None:
    set_tiling(vae, PUBLISHED_TILING)
    assert vae.use_tiling and vae.use_framewise_decoding and vae.use_framewise_encoding
    assert (vae.tile_sample_min_height, vae.tile_sample_min_width, vae.tile_sample_min_num_frames) == (256, 256, 64)
    strides = vae.tile_sample_stride_height, vae.tile_sample_stride_width, vae.tile_sample_stride_num_frames
    assert strides == (192, 192, 48)


def _with(latents: torch.Tensor, value: float) -> torch.Tensor:
    latents[0, 1, 2, 0, 0] = value
    return latents


@pytest.mark.parametrize(
    ("latents", "num_frames", "found"),
    [
        (_with(latents_of(3), float("nan")), 9, "1 of 72 latents are NaN or infinite"),
        (_with(latents_of(3), float("inf")), 9, "1 of 72 latents are NaN or infinite"),
        (torch.zeros(1, 16, 3, 2, 3), 9, r"\(1, 16, 3, 2, 3\); needed is \(1, 4,"),
        (torch.zeros(2, 4, 3, 2, 3), 9, r"\(2, 4, 3, 2, 3\)"),
        (torch.zeros(4, 3, 2, 3), 9, r"\(4, 3, 2, 3\)"),
        (torch.zeros(1, 4, 0, 2, 3), 9, r"\(1, 4, 0, 2, 3\)"),
        (latents_of(3), 10, "1 to 9 for 3 latent frames, got 10"),
        (latents_of(3), 0, "1 to 9 for 3 latent frames, got 0"),
    ],
)
def test_latents_that_cannot_be_decoded_are_refused_before_the_first_frame(
    vae: AutoencoderKLHunyuanVideo, latents: torch.Tensor, num_frames: int, found: str
) -> None:
    with pytest.raises(ValueError, match=found):
        decode_frames(vae, latents, num_frames)


@pytest.mark.parametrize(
    ("pixels", "latent_frames", "found"),
    [
        (torch.zeros(3, 16, 16), 3, r"\(3, 16, 16\)"),
        (torch.zeros(1, 4, 16, 16), 3, r"\(1, 4, 16, 16\)"),
        (torch.zeros(1, 3, 16, 20), 3, r"\(1, 3, 16, 20\).*multiples of 8"),
        (torch.zeros(1, 3, 0, 16), 3, r"\(1, 3, 0, 16\)"),
        (torch.full((1, 3, 16, 16), 255.0), 3, "255.0"),
        (torch.full((1, 3, 16, 16), float("nan")), 3, "nan"),
        (torch.zeros(1, 3, 16, 16), 0, "got 0"),
    ],
)
def test_pixels_that_are_no_portrait_are_refused(
    vae: AutoencoderKLHunyuanVideo, pixels: torch.Tensor, latent_frames: int, found: str
) -> None:
    with pytest.raises(ValueError, match=found):
        encode_portrait(vae, pixels, latent_frames)
