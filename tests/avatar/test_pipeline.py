"""The pipeline: a real portrait and a real voice through tiny builds of the real classes."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline import face, media
from pipeline.avatar.autoencoder import TILINGS, frame_to_uint8
from pipeline.avatar.fp8 import swap_linears
from pipeline.avatar.pipeline_hunyuan_avatar import HunyuanVideoAvatarPipeline
from pipeline.avatar.presets import PUBLISHED_FOLDERS
from pipeline.avatar.sampler import DenoisingRun
from pipeline.avatar.tiny import in_fp8
from pipeline.errors import (
    FaceNumberUnknown,
    FaceUncertain,
    FileMissing,
    PortraitWithoutFace,
    WeightsError,
    WeightsMismatch,
)
from pipeline.plan import Box, ClipPlan
from tests.avatar.builds import make_pipeline, make_transformer
from tests.avatar.processes import run_apart
from tests.avatar.published import published_from
from tests.avatar.test_transformer import CACHES
from tests.conftest import EXAMPLES

SIZE = 64  # pixels: 16 tokens a frame
Pipe = HunyuanVideoAvatarPipeline


def run(pipe: Pipe, image: Any, audio: Any, **changes: Any) -> Any:
    """A clip of 9 frames and two steps, small."""
    options: dict[str, Any] = {
        "prompt": "A woman speaks to the camera.",
        "height": SIZE,
        "width": SIZE,
        "num_frames": 9,
        "num_inference_steps": 2,
        "generator": torch.Generator().manual_seed(5),
        "full_window": False,
        **changes,
    }
    return pipe(image, audio, **options)


@pytest.fixture(scope="module")
def clip(pipe: Pipe, portrait: Image.Image, voice: np.ndarray) -> np.ndarray:
    return run(pipe, portrait, voice).frames


@pytest.mark.parametrize("num_frames", [5, 29, 161])
def test_a_clip_becomes_an_mp4_as_long_as_asked_with_its_sound(
    pipe: Pipe, portrait: Image.Image, tmp_path: Path, num_frames: int
) -> None:
    path = EXAMPLES / "voices" / "english_calm_8s.wav"
    speech = media.load_speech(path)
    plan = ClipPlan(num_frames, 25, SIZE, SIZE, Box(0, 0, *portrait.size))
    prepared = pipe.prepare(
        portrait, speech.waveform, "", height=SIZE, width=SIZE, num_frames=num_frames, num_inference_steps=2
    )
    pipe.denoise(prepared)
    with media.VideoWriter(tmp_path / "clip.mp4", speech, plan) as writer:
        for frame in pipe.decode(prepared):
            writer.add(frame_to_uint8(frame))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 25
    with av.open(str(tmp_path / "clip.mp4")) as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
        rate = container.streams.audio[0].rate
    assert len(frames) == num_frames and frames[0].shape == (SIZE, SIZE, 3)
    assert sound.shape[1] / rate == pytest.approx(num_frames / 25, abs=0.06)
    assert np.abs(sound).max() > 0.01
    assert np.std(frames[0]) > 1


def test_a_clip_is_exactly_as_long_as_the_speech(pipe: Pipe, portrait: Image.Image, voice: np.ndarray) -> None:
    frames = run(pipe, portrait, voice[: 23 * 640 + 300], num_frames=None).frames
    assert frames.shape == (1, 23, SIZE, SIZE, 3)


def test_same_generator_gives_same_frames_and_another_gives_others(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray, clip: np.ndarray
) -> None:
    assert np.array_equal(run(pipe, portrait, voice).frames, clip)
    other = run(pipe, portrait, voice, generator=torch.Generator().manual_seed(6)).frames
    assert not np.allclose(other, clip, atol=0.01)


def test_a_seed_is_a_generator_with_it(pipe: Pipe, portrait: Image.Image, voice: np.ndarray, clip: np.ndarray) -> None:
    assert np.array_equal(run(pipe, portrait, voice, generator=None, seed=5).frames, clip)


def test_every_output_type_holds_the_same_clip(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray, clip: np.ndarray
) -> None:
    assert clip.shape == (1, 9, SIZE, SIZE, 3) and clip.dtype == np.float32 and 0 <= clip.min() <= clip.max() <= 1
    tensors = run(pipe, portrait, voice, output_type="pt").frames
    assert np.array_equal(tensors.permute(0, 1, 3, 4, 2).numpy(), clip)
    (pictures,) = run(pipe, portrait, voice, output_type="pil").frames
    assert np.array_equal(np.asarray(pictures[3]), (clip[0, 3] * 255).astype(np.uint8)), "cut off, not rounded"
    latents = run(pipe, portrait, voice, output_type="latent").frames
    assert latents.shape == (1, 4, 3, SIZE // 8, SIZE // 8)
    as_tuple = run(pipe, portrait, voice, return_dict=False)
    assert np.array_equal(as_tuple[0], clip) and as_tuple[1:] == ("", "", True)


def test_the_full_window_is_cut_to_the_clip(pipe: Pipe, portrait: Image.Image, voice: np.ndarray) -> None:
    prepared = pipe.prepare(portrait, voice, height=SIZE, width=SIZE, num_frames=9, num_inference_steps=1)
    pipe.denoise(prepared)
    assert prepared.timeline.window_latent_frames == 33 and prepared.latents.shape[2] == 33
    assert len(list(pipe.decode(prepared))) == 9


def test_fewer_frames_than_a_window_are_called_an_experiment(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("diffusers").propagate = True
    run(pipe, portrait, voice, num_inference_steps=1)
    assert "full_window=False is experimental" in caplog.text


def test_the_callback_sees_every_step_and_may_change_the_latents(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray
) -> None:
    seen: list[tuple[int, float]] = []

    def still(_: Pipe, step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append((step, float(timestep)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    latents = run(pipe, portrait, voice, output_type="latent", callback_on_step_end=still).frames
    assert [step for step, _ in seen] == [0, 1] and seen[0][1] == 1000 > seen[1][1]
    assert float(latents.abs().max()) == 0


def test_an_interrupt_ends_the_run_after_its_step_and_the_next_call_is_whole(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray, clip: np.ndarray
) -> None:
    steps: list[int] = []

    def stop(pipe: Pipe, step: int, *_: Any) -> dict[str, torch.Tensor]:
        steps.append(step)
        pipe._interrupt = True
        return {}

    frames = run(pipe, portrait, voice, num_inference_steps=4, callback_on_step_end=stop).frames
    assert steps == [0] and frames.shape == clip.shape
    assert np.array_equal(run(pipe, portrait, voice).frames, clip)


def test_an_interrupted_run_goes_on_where_it_was(pipe: Pipe, portrait: Image.Image, voice: np.ndarray) -> None:
    options: dict[str, Any] = {"height": SIZE, "width": SIZE, "num_frames": 9, "num_inference_steps": 3, "seed": 5}
    whole, stopped = pipe.prepare(portrait, voice, **options), pipe.prepare(portrait, voice, **options)
    assert pipe.denoise(whole)

    def stop(pipe: Pipe, *_: Any) -> None:
        pipe._interrupt = True

    assert not pipe.denoise(stopped, stop) and stopped.step == 1
    with pytest.raises(ValueError, match="1 of 3 steps are done: call denoise"):
        pipe.decode(stopped)
    assert pipe.denoise(stopped) and torch.equal(stopped.latents, whole.latents)


def test_an_interrupted_call_says_that_it_is_unfinished(pipe: Pipe, portrait: Image.Image, voice: np.ndarray) -> None:
    def stop(pipe: Pipe, *_: Any) -> None:
        pipe._interrupt = True

    assert not run(pipe, portrait, voice, callback_on_step_end=stop).is_finished
    assert run(pipe, portrait, voice).is_finished


def test_a_run_is_continued_with_its_own_transformer_only(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray, tmp_path: Path
) -> None:
    prepared = pipe.prepare(portrait, voice, height=SIZE, width=SIZE, num_frames=9, num_inference_steps=1)
    prepared.save(tmp_path / "run.safetensors")
    other = make_pipeline()
    with torch.no_grad():
        for weight in other.transformer.parameters():
            weight.mul_(1.1)
    with pytest.raises(ValueError, match="begun with another transformer"):
        other.denoise(DenoisingRun.load(tmp_path / "run.safetensors"))
    assert make_pipeline().denoise(DenoisingRun.load(tmp_path / "run.safetensors"))


def test_frames_of_one_clip_do_not_depend_on_the_next(pipe: Pipe, portrait: Image.Image, voice: np.ndarray) -> None:
    prepared = pipe.prepare(portrait, voice, height=SIZE, width=SIZE, num_frames=129, num_inference_steps=1, seed=5)
    pipe.denoise(prepared)
    alone = list(pipe.decode(prepared, "33-frames"))
    streamed = pipe.decode(prepared, "33-frames")
    first = next(streamed)
    run(pipe, portrait, voice, num_inference_steps=1, tiling="128-pixels")
    assert all(map(torch.equal, [first, *streamed], alone))


def test_two_voices_move_two_faces(pipe: Pipe, portrait: Image.Image, voice: np.ndarray, clip: np.ndarray) -> None:
    halves = [voice[:80_000], voice[40_000:]]
    width, height = portrait.size
    boxes = [(0, 0, width / 6, height / 6), (width * 0.7, height * 0.7, width / 6, height / 6)]
    two = run(pipe, portrait, halves, faces=boxes, output_type="latent").frames
    other = run(pipe, portrait, halves[::-1], faces=boxes, output_type="latent").frames
    assert not torch.allclose(two, other, atol=1e-3)
    masks = [np.zeros((SIZE, SIZE), np.float32) for _ in range(2)]
    masks[0][:32], masks[1][32:] = 1, 1
    assert run(pipe, portrait, halves, face_masks=masks).frames.shape == clip.shape


def test_masks_may_change_from_latent_frame_to_latent_frame(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray
) -> None:
    turns = np.zeros((3, SIZE, SIZE), np.float32)  # as many as 9 frames take, also in a window of 129
    turns[1] = 1
    held = run(pipe, portrait, voice, face_masks=[turns[1]], output_type="latent").frames
    taken = run(pipe, portrait, voice, face_masks=[turns], output_type="latent").frames
    assert not torch.allclose(held, taken, atol=1e-3)
    assert run(pipe, portrait, voice, face_masks=[turns], full_window=True, num_inference_steps=1).is_finished


def test_no_guidance_reads_no_negative_prompt(pipe: Pipe, portrait: Image.Image, voice: np.ndarray) -> None:
    options = {"guidance_scale": 1.0, "output_type": "latent"}
    one = run(pipe, portrait, voice, negative_prompt="blue", **options).frames
    other = run(pipe, portrait, voice, negative_prompt="a red hat", **options).frames
    assert torch.equal(one, other)


def test_a_prompt_too_long_is_shortened_and_said(pipe: Pipe, portrait: Image.Image, voice: np.ndarray) -> None:
    prompt = " ".join(f"word{number}" for number in range(400))
    made = run(pipe, portrait, voice, prompt=prompt, num_inference_steps=1)
    assert made.dropped_prompt.endswith("word399") and made.dropped_prompt_2.endswith("word399")


def test_prompts_once_read_are_kept(pipe: Pipe, portrait: Image.Image, voice: np.ndarray, tmp_path: Path) -> None:
    clip = run(pipe, portrait, voice, cache_dir=tmp_path).frames
    assert list(tmp_path.iterdir())
    assert np.array_equal(run(pipe, portrait, voice, cache_dir=tmp_path).frames, clip)


@pytest.mark.parametrize("size", [(33, 47), (300, 200), (60, 600)])
def test_any_picture_fits_any_size_that_is_a_multiple_of_sixteen(
    pipe: Pipe, voice: np.ndarray, portrait: Image.Image, size: tuple[int, int]
) -> None:
    picture = portrait.resize(size)
    frames = run(pipe, picture, voice, height=48, width=80, faces=[(5, 5, 20, 20)], num_inference_steps=1).frames
    assert frames.shape == (1, 9, 48, 80, 3)


def test_the_published_sizes_are_the_default(pipe: Pipe, portrait: Image.Image, voice: np.ndarray) -> None:
    prepared = pipe.prepare(portrait, voice[:6_400], image_size=256, num_inference_steps=1)
    assert prepared.latents.shape[3:] == (32, 32)


def test_the_vae_may_cut_smaller(pipe: Pipe, portrait: Image.Image, voice: np.ndarray) -> None:
    for tiling in (*TILINGS.values(), None):
        frames = run(pipe, portrait, voice, num_inference_steps=1, tiling=tiling).frames
        assert frames.shape == (1, 9, SIZE, SIZE, 3)


def test_models_may_be_offloaded(portrait: Image.Image, voice: np.ndarray, clip: np.ndarray) -> None:
    device = torch.device("cpu")
    whole, groups = make_pipeline(), make_pipeline()
    whole.enable_model_cpu_offload(device=device)
    groups.enable_group_offload(
        onload_device=device, offload_device=device, offload_type="block_level", num_blocks_per_group=1
    )
    for pipe in (whole, groups):
        assert np.allclose(run(pipe, portrait, voice).frames, clip, atol=1e-5)


def test_lora_weights_load_from_a_file(
    portrait: Image.Image, voice: np.ndarray, clip: np.ndarray, tmp_path: Path
) -> None:
    trained = make_transformer(text_embed_dim=32, pooled_projection_dim=24)
    trained.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    Pipe.save_lora_weights(tmp_path, transformer_lora_layers=get_peft_model_state_dict(trained))
    pipe = make_pipeline()
    pipe.load_lora_weights(tmp_path, adapter_name="style")
    changed = run(pipe, portrait, voice).frames
    assert not np.allclose(changed, clip, atol=0.01)
    pipe.set_adapters("style", adapter_weights=0.0)
    assert np.allclose(run(pipe, portrait, voice).frames, clip, atol=1e-5)
    pipe.unload_lora_weights()
    assert np.allclose(run(pipe, portrait, voice).frames, clip, atol=1e-5)


# --- saved and loaded -------------------------------------------------------------------------------------------------


def run_saved(folder: Path, num_threads: int) -> None:
    """Make the clip of what was saved in a folder."""
    torch.set_num_threads(num_threads)
    pipe = HunyuanVideoAvatarPipeline.from_pretrained(folder / "pipe")
    made = run(pipe, Image.open(folder / "portrait.png"), np.load(folder / "voice.npy"))
    np.save(folder / "frames.npy", made.frames)


def test_saved_and_loaded_in_a_new_process_it_gives_the_same_frames(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray, clip: np.ndarray, tmp_path: Path
) -> None:
    pipe.save_pretrained(tmp_path / "pipe", max_shard_size="40KB")
    assert len(list((tmp_path / "pipe" / "transformer").glob("*.safetensors"))) > 1
    np.save(tmp_path / "voice.npy", voice)
    portrait.save(tmp_path / "portrait.png")
    run_apart(run_saved, tmp_path, torch.get_num_threads())
    frames = np.load(tmp_path / "frames.npy")
    assert np.array_equal((frames * 255).astype(np.uint8), (clip * 255).astype(np.uint8))


def write_published(folder: Path, pipe: Pipe, *, fp8: bool) -> None:
    """The tiny pipeline in the layout of the published repository."""
    places = {name: folder / "ckpts" / place for name, place in PUBLISHED_FOLDERS.items()}
    for place in places.values():
        place.mkdir(parents=True)
    published = published_from(pipe.transformer.state_dict())
    torch.save({"module": published}, places["transformer"] / "mp_rank_00_model_states.pt")
    if fp8:
        known = {name: value for name, value in pipe.transformer.config.items() if not name.startswith("_")}
        eight, scales = in_fp8(known, published)
        torch.save({"module": eight}, places["transformer"] / "mp_rank_00_model_states_fp8.pt")
        torch.save({"module": scales}, places["transformer"] / "mp_rank_00_model_states_fp8_map.pt")
    torch.save({f"vae.{name}": t for name, t in pipe.vae.state_dict().items()}, places["vae"] / "pytorch_model.pt")
    pipe.vae.save_config(places["vae"])
    for name in ("text_encoder", "text_encoder_2", "audio_encoder"):
        getattr(pipe, name).save_pretrained(places[name])
    pipe.tokenizer.save_pretrained(places["text_encoder"])
    pipe.tokenizer_2.save_pretrained(places["text_encoder_2"])
    pipe.feature_extractor.save_pretrained(places["audio_encoder"])


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_the_published_layout_opens_as_it_is_downloaded(
    portrait: Image.Image, voice: np.ndarray, clip: np.ndarray, tmp_path: Path, precision: str
) -> None:
    write_published(tmp_path, make_pipeline(), fp8=precision == "fp8")
    heard: list[tuple[int, int]] = []
    options: dict[str, Any] = {
        "precision": precision,
        "dtype": torch.float32,
        "encoder_dtype": torch.float32,
        "rope_axes_dim": make_transformer().config.rope_axes_dim,
        "on_progress": lambda done, total: heard.append((done, total)),
    }
    pipe = Pipe.from_published(tmp_path, **options)
    pipe.set_progress_bar_config(disable=True)
    assert heard and heard[-1][0] == heard[-1][1]
    frames = run(pipe, portrait, voice).frames
    difference = float(np.abs(frames - clip).mean())
    assert (difference < 1e-6) if precision == "bf16" else (1e-4 < difference < 0.05), difference
    heard.clear()
    again = Pipe.from_published(tmp_path, **options)
    again.set_progress_bar_config(disable=True)
    assert not heard, "converted once"
    assert np.array_equal(run(again, portrait, voice).frames, frames)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("whisper-tiny", "whisper-tiny"),
        ("whisper-tiny/preprocessor_config.json", "preprocessor_config"),
        ("text_encoder_2/config.json", "text_encoder_2"),
        ("llava_llama_image/tokenizer.json", "tokenizer"),
        ("hunyuan-video-t2v-720p/vae/pytorch_model.pt", "vae"),
        ("hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt", "mp_rank_00_model_states.pt"),
    ],
)
def test_a_published_folder_that_lacks_a_part_says_which(tmp_path: Path, lost: str, said: str) -> None:
    write_published(tmp_path, make_pipeline(), fp8=False)
    (tmp_path / "ckpts" / lost).rename(tmp_path / "elsewhere")
    with pytest.raises((WeightsError, FileMissing), match=said):
        Pipe.from_published(tmp_path, rope_axes_dim=make_transformer().config.rope_axes_dim)


def test_an_encoder_that_lacks_a_weight_does_not_load(tmp_path: Path) -> None:
    write_published(tmp_path, make_pipeline(), fp8=False)
    path = tmp_path / "ckpts" / "llava_llama_image" / "model.safetensors"
    tensors = load_file(path)
    lost = next(name for name in tensors if name.endswith("layers.1.self_attn.q_proj.weight"))
    tensors.pop(lost)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(WeightsMismatch, match="q_proj"):
        Pipe.from_published(tmp_path, rope_axes_dim=make_transformer().config.rope_axes_dim)


def test_converted_models_serve_when_the_published_files_are_gone_and_not_when_they_changed(tmp_path: Path) -> None:
    options: dict[str, Any] = {"rope_axes_dim": make_transformer().config.rope_axes_dim, "dtype": torch.float32}
    write_published(tmp_path, make_pipeline(), fp8=False)
    first = Pipe.from_published(tmp_path, **options).transformer.proj_out.weight.clone()
    source = tmp_path / "ckpts" / PUBLISHED_FOLDERS["transformer"] / "mp_rank_00_model_states.pt"
    tensors = torch.load(source, weights_only=True)
    tensors["module"]["final_layer.linear.weight"] += 1
    torch.save(tensors, source)
    os.utime(source, (1, 1))
    second = Pipe.from_published(tmp_path, **options).transformer.proj_out.weight.clone()
    assert torch.allclose(second, first + 1)
    source.unlink()
    assert torch.equal(Pipe.from_published(tmp_path, **options).transformer.proj_out.weight, second)


# --- inputs that cannot be used ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_inference_steps": -3}, "num_inference_steps must be 1 or more, got -3"),
        ({"num_inference_steps": 0}, "must be 1 or more, got 0"),
        ({"guidance_scale": 0.5}, r"guidance_scale must be 1 \(none\) or more, got 0.5"),
        ({"guidance_scale": float("nan")}, "got nan"),
        ({"num_frames": 4}, "num_frames must be 5 or more, got 4"),
        ({"height": 100}, "multiples of 16, got 100×64"),
        ({"height": None}, "height and width come together, got height=None, width=64"),
        ({"height": None, "width": None, "image_size": 100}, "multiple of 16, got 100"),
        ({"output_type": "mp4"}, "output_type must be one of np, pt, pil, latent, got 'mp4'"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "may hold latents, got noise"),
        ({"sample_rate": 8_000}, "8000 Hz; 16000 Hz is needed"),
        ({"face_masks": [np.ones((32, 32), np.float32)]}, r"shape \(32, 32\); needed is .*\(64, 64\)"),
        ({"face_masks": [np.full((SIZE, SIZE), 3.0)]}, "values range from 3.0 to 3.0; 0 to 1 is needed"),
        ({"guidance_scale": float("inf")}, "got inf"),
        ({"motion_pose": -1}, "motion_pose must be 0 or more, got -1"),
        ({"image_size": 512}, "image_size and height with width say the same"),
        ({"faces": [0]}, "a face's number must be 1 or more, got 0"),
        ({"faces": [-1]}, "must be 1 or more, got -1"),
        ({"latents": torch.zeros(1, 4, 65, 8, 8, dtype=torch.int64)}, "latents must be finite floats, got torch.int64"),
        ({"latents": torch.full((1, 4, 65, 8, 8), torch.nan)}, "latents must be finite floats"),
        ({"tiling": "huge"}, "published"),
        ({"seed": 5}, "generator and seed say the same"),
        ({"faces": [1, 1]}, "1 voices, 2 faces"),
        ({"faces": [1], "face_masks": [np.ones((SIZE, SIZE))]}, "give one of them"),
        ({"latents": torch.zeros(1, 4, 3, 8, 8)}, r"latents must be \(1, 4, 65, 8, 8\), got \(1, 4, 3, 8, 8\)"),
    ],
)
def test_options_that_cannot_be_met_are_refused_with_their_values(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        run(pipe, portrait, voice, **change)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda voice: voice[:0], "empty|0 samples|holds no"),
        (lambda voice: np.where(np.arange(len(voice)) == 99, np.nan, voice), "NaN|finite"),
        (lambda voice: np.stack([voice, voice]), r"shape \(2, \d+\); \(samples,\) is needed"),
        (lambda voice: (voice * 32_767).astype(np.int16), "int16"),
        (lambda voice: [], "audio holds no voice"),
        (lambda voice: [voice, voice], "2 voices, 0 faces"),
        (lambda voice: [voice, voice[:300]], "voice 2 has 300 samples; a video frame takes 640"),
        (lambda voice: voice[:2_000], "5 or more, got 3"),
    ],
)
def test_sounds_that_cannot_be_used_are_refused(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray, make: Callable[[np.ndarray], Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        run(pipe, portrait, make(voice), num_frames=None)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda portrait: portrait.convert("RGBA"), "RGBA"),
        (lambda portrait: portrait.convert("L"), "mode L"),
        (lambda portrait: portrait.resize((1, 1)), "1×1"),
        (lambda portrait: portrait.resize((900, 20)), "20"),
        (lambda portrait: np.asarray(portrait).astype(np.float32), "float32"),
    ],
)
def test_pictures_that_cannot_be_used_are_refused(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray, make: Callable[[Image.Image], Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        run(pipe, make(portrait), voice, faces=[(1, 1, 8, 8)])


def test_no_face_is_never_the_whole_picture(pipe: Pipe, faceless_path: Path, voice: np.ndarray) -> None:
    with Image.open(faceless_path) as opened, pytest.raises(PortraitWithoutFace):
        run(pipe, opened.convert("RGB"), voice)


def test_a_face_that_is_not_there_is_said(pipe: Pipe, portrait: Image.Image, voice: np.ndarray) -> None:
    with pytest.raises(FaceNumberUnknown):
        run(pipe, portrait, voice, faces=[3])


def test_a_cache_of_diffusers_and_the_step_cache_exclude_each_other(portrait: Image.Image, voice: np.ndarray) -> None:
    pipe = make_pipeline()
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(ValueError, match="choose it or use_step_cache"):
        run(pipe, portrait, voice)
    assert run(pipe, portrait, voice, use_step_cache=False).frames.shape == (1, 9, SIZE, SIZE, 3)
    with pytest.raises(ValueError, match="161 frames takes 2 windows"):
        run(pipe, portrait, voice, use_step_cache=False, num_frames=161)


@pytest.mark.parametrize("name", CACHES)
def test_caches_of_diffusers_work_through_a_whole_run_and_leave_nothing_to_the_next(
    portrait: Image.Image, voice: np.ndarray, name: str
) -> None:
    """The negative branch changes its text, and so its length, on the way."""
    pipe, now = make_pipeline(), {"timestep": 1000.0}
    pipe.transformer.register_forward_pre_hook(
        lambda _, __, given: now.update(timestep=float(given["timestep"][0])), with_kwargs=True, prepend=True
    )
    options: dict[str, Any] = {"use_step_cache": False, "num_inference_steps": 10, "output_type": "latent"}
    options["negative_prompt"] = "a longer one, so that the two differ in length"
    if name in ("pyramid attention", "faster"):
        pipe.transformer.enable_cache(CACHES[name](now))
        with pytest.raises(ValueError, match="keeps one state for both branches"):
            run(pipe, portrait, voice, **options)
        pipe.transformer.disable_cache()
        options["guidance_scale"] = 1
    plain = run(pipe, portrait, voice, **options).frames
    pipe.transformer.enable_cache(CACHES[name](now))
    cached = run(pipe, portrait, voice, **options).frames
    assert torch.isfinite(cached).all()
    run(pipe, portrait, voice[16_000:], **{**options, "num_inference_steps": 3})
    assert torch.equal(run(pipe, portrait, voice, **options).frames, cached), "a run begins without the last one's"
    pipe.transformer.disable_cache()
    assert torch.equal(run(pipe, portrait, voice, **options).frames, plain)


def test_a_cached_run_is_not_continued(portrait: Image.Image, voice: np.ndarray) -> None:
    pipe = make_pipeline()
    options: dict[str, Any] = {"height": SIZE, "width": SIZE, "num_frames": 9, "num_inference_steps": 2}
    prepared = pipe.prepare(portrait, voice, use_step_cache=False, **options)
    prepared.step = 1
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(ValueError, match="can only be begun anew"):
        pipe.denoise(prepared)


def test_a_transformer_in_fp8_is_not_saved_where_it_could_not_be_loaded(tmp_path: Path) -> None:
    pipe = make_pipeline()
    swap_linears(pipe.transformer)
    with pytest.raises(ValueError, match="load_transformer"):
        pipe.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_uncertain_face_is_asked_for(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published code takes the whole picture; we do not take what may be no face either."""
    found = face.find_faces(np.asarray(portrait))
    doubtful = [replace(found[0], score=0.5)]
    monkeypatch.setattr(face, "find_faces", lambda _: doubtful)
    with pytest.raises(FaceUncertain):
        run(pipe, portrait, voice)
    assert run(pipe, portrait, voice, faces=[np.int64(1)]).frames.shape == (1, 9, SIZE, SIZE, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": ["one", "two"]}, "prompt must be one string, got list"),
        ({"negative_prompt": 3}, "negative_prompt must be one string, got int"),
        ({"num_frames": 9.0}, "num_frames must be a whole number, got 9.0"),
        ({"num_inference_steps": 2.5}, "num_inference_steps must be a whole number, got 2.5"),
        ({"num_inference_steps": True}, "must be a whole number, got True"),
        ({"height": 64.0}, "height must be a whole number, got 64.0"),
        ({"motion_exp": 30.5}, "motion_exp must be a whole number, got 30.5"),
        ({"faces": [(1, 2)]}, r"x, y, width, height; got \(1, 2\)"),
        ({"faces": ["left"]}, "got 'left'"),
        ({"faces": 1}, "faces must be a list with one for every voice, got int"),
        ({"face_masks": np.ones((SIZE, SIZE))}, "face_masks must be a list"),
    ],
)
def test_arguments_of_another_kind_are_named(
    pipe: Pipe, portrait: Image.Image, voice: np.ndarray, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        run(pipe, portrait, voice, **change)


@pytest.mark.parametrize("sound", [torch.zeros(20_000), "voice.wav", Path("voice.wav"), None, [0.0, 0.1]])
def test_a_sound_of_another_kind_is_named(pipe: Pipe, portrait: Image.Image, sound: Any) -> None:
    with pytest.raises(TypeError, match="audio must be an array"):
        run(pipe, portrait, sound)
