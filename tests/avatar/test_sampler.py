"""The denoising loop: stopped and continued, interrupted, cached. Its numbers stand in test_parity.py."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors import safe_open
from safetensors.torch import save_file

from pipeline.avatar.audio import SpeechFeatures
from pipeline.avatar.presets import FLOW_SHIFT
from pipeline.avatar.sampler import (
    Conditions,
    DenoisingRun,
    FrameCache,
    Settings,
    Speaker,
    denoise_step,
    make_scheduler,
)
from pipeline.avatar.text import PromptEmbeds
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from pipeline.avatar.windows import plan_timeline
from tests.avatar.builds import make_transformer
from tests.avatar.processes import run_apart

NUM_STEPS = 20
CPU = torch.device("cpu")


def make_run(*, num_frames: int = 140, num_steps: int = NUM_STEPS, guidance_scale: float = 7.5) -> DenoisingRun:
    """A run of two windows and two speakers, one of whom is masked frame by frame."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    timeline = plan_timeline(num_frames)
    mask = torch.ones(1, 9, dtype=torch.int64)
    mask[:, 3:5] = 0
    prompts = [PromptEmbeds(draw(1, 9, 12), mask, draw(1, 10), "left out") for _ in range(2)]
    speech = [SpeechFeatures(draw(num_frames * 2 + 10, 5, 16), torch.arange(num_frames) * 2) for _ in range(2)]
    masks = [draw(1, 4, 4).sigmoid(), draw(timeline.kept_latent_frames, 4, 4).sigmoid()]
    speakers = tuple(map(Speaker, speech, masks))
    conditions = Conditions(prompts[0], prompts[1], draw(1, 4, 33, 4, 4), speakers)
    settings = Settings(num_steps, guidance_scale)
    return DenoisingRun(timeline, settings, conditions, draw(1, 4, timeline.latent_frames, 4, 4))


def go_on(
    run: DenoisingRun, num_steps: int = 1_000, model: HunyuanVideoAvatarTransformer3DModel | None = None
) -> DenoisingRun:
    """The run some steps later."""
    torch.set_num_threads(1)
    model = model or make_transformer()
    scheduler = make_scheduler(FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT).config, run.settings)
    for _ in range(min(num_steps, run.settings.num_inference_steps - run.step)):
        assert denoise_step(run, model, scheduler)
    return run


@pytest.fixture(scope="module")
def model() -> HunyuanVideoAvatarTransformer3DModel:
    return make_transformer()


def continue_saved(path: Path) -> None:
    go_on(DenoisingRun.load(path), 7).save(path)


def test_a_run_continued_in_fresh_processes_ends_bit_for_bit_alike(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    whole = go_on(make_run()).latents
    go_on(make_run(), 7).save(path)
    steps = [DenoisingRun.load(path).step]
    while steps[-1] < NUM_STEPS:
        run_apart(continue_saved, path)
        steps.append(DenoisingRun.load(path).step)
    assert steps == [7, 14, 20]
    assert torch.equal(DenoisingRun.load(path).latents, whole)


def test_a_saved_run_holds_everything(tmp_path: Path, model: HunyuanVideoAvatarTransformer3DModel) -> None:
    run = go_on(make_run(), 8, model)
    run.save(tmp_path / "run.safetensors")
    again = DenoisingRun.load(tmp_path / "run.safetensors")
    assert (again.timeline, again.settings, again.step) == (run.timeline, run.settings, 8)
    assert again.conditions.prompt.dropped == "left out"
    assert again.conditions.motion_pose == 25 and again.conditions.fps == 25
    assert torch.equal(again.conditions.speakers[1].face_mask, run.conditions.speakers[1].face_mask)
    assert again.positive_cache.window_of == run.positive_cache.window_of
    assert torch.equal(again.negative_cache.read([0, 5], CPU)[0], run.negative_cache.read([0, 5], CPU)[0])
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_file_of_something_else_is_refused(tmp_path: Path, model: HunyuanVideoAvatarTransformer3DModel) -> None:
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="must be a run saved in format 2, got None"):
        DenoisingRun.load(next(tmp_path.glob("*.safetensors")))


def test_a_save_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.safetensors"
    make_run().save(path)
    before = path.read_bytes()

    def fail(tensors: object, name: Path, **_: object) -> None:
        name.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("pipeline.avatar.sampler.save_file", fail)
    with pytest.raises(OSError, match="No space"):
        make_run().save(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_an_interrupt_between_windows_leaves_the_step_to_be_made_again(
    model: HunyuanVideoAvatarTransformer3DModel,
) -> None:
    run, whole = make_run(num_steps=3), go_on(make_run(num_steps=3), model=model).latents
    scheduler = make_scheduler(FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT).config, run.settings)
    denoise_step(run, model, scheduler)
    before, answers = run.latents.clone(), iter([False, True])
    assert not denoise_step(run, model, scheduler, lambda: next(answers))
    assert run.step == 1 and torch.equal(run.latents, before)
    while not run.is_done:
        assert denoise_step(run, model, scheduler)
    assert torch.equal(run.latents, whole)


def test_no_guidance_runs_one_branch(model: HunyuanVideoAvatarTransformer3DModel) -> None:
    calls: list[int] = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    go_on(make_run(guidance_scale=1), 1, model)
    alone = len(calls)
    go_on(make_run(guidance_scale=2), 1, model)
    handle.remove()
    assert (alone, len(calls) - alone) == (2, 4), "two windows"


def test_the_step_cache_computes_less_and_ends_near(model: HunyuanVideoAvatarTransformer3DModel) -> None:
    blocks: list[int] = []
    handle = model.transformer_blocks[0].register_forward_hook(lambda *_: blocks.append(1))
    cached = go_on(make_run(), model=model).latents
    num_cached = len(blocks)
    run = make_run()
    run.settings = Settings(NUM_STEPS, 7.5, use_step_cache=False)
    full = go_on(run, model=model).latents
    handle.remove()
    assert (num_cached, len(blocks) - num_cached) == (15 * 4, 20 * 4), "two windows of two branches"
    assert 1e-3 < float((cached - full).abs().max() / full.std()) < 3


def test_latents_are_rounded_as_published(model: HunyuanVideoAvatarTransformer3DModel) -> None:
    latents = go_on(make_run(num_frames=100, num_steps=2), model=model).latents
    assert latents.dtype == torch.float32
    assert torch.equal(latents, latents.to(torch.bfloat16).float())


def test_a_cache_asked_before_it_is_written_says_so() -> None:
    cache = FrameCache()
    with pytest.raises(ValueError, match="latent frames 0 to 2 were not all computed in full before"):
        cache.read([0, 1, 2], CPU)
    cache.write([0, 1], 4, (torch.rand(1, 3 * 5, 8), torch.rand(1, 2, 8)))
    with pytest.raises(ValueError, match="latent frames 1 to 2"):
        cache.read([1, 2], CPU)


def test_a_cache_keeps_no_window_that_no_frame_needs() -> None:
    cache = FrameCache()
    for number in range(3):
        cache.write([0, 1], 2, (torch.full((1, 3 * 5, 8), float(number)), torch.full((1, 2, 8), float(number))))
    assert len(cache.windows) == 1
    hidden_states, text = cache.read([1], CPU)
    assert float(hidden_states.min()) == float(text.max()) == 2


def test_a_cache_read_from_a_file_goes_where_the_only_window_is_computed() -> None:
    cache, tokens = FrameCache(), (torch.zeros(1, 6, 2), torch.zeros(1, 3, 2))
    cache.write([0, 1], 2, tokens)
    cache.write([0, 1], 2, (tokens[0].to("meta"), tokens[1].to("meta")))
    assert cache.image is not None and cache.image.device.type == "meta"
    assert {part.device.type for part in cache.read([0, 1], torch.device("meta"))} == {"meta"}


def test_a_run_moves_to_the_device_that_computes(tmp_path: Path) -> None:
    """The meta device refuses to be mixed with the CPU, as a GPU does."""
    for num_frames, use_step_cache in ((100, True), (140, False)):  # longer clips keep on the CPU what meta cannot give
        run = make_run(num_frames=num_frames)
        run.settings = Settings(NUM_STEPS, 7.5, use_step_cache)
        run = go_on(run, 7)
        run.save(tmp_path / "run.safetensors")
        run = DenoisingRun.load(tmp_path / "run.safetensors")
        run.to(torch.device("meta"))
        scheduler = make_scheduler(FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT).config, run.settings)
        model = make_transformer().to("meta")
        while run.step < 10:
            assert denoise_step(run, model, scheduler)
        assert run.latents.device.type == "meta"


def test_what_is_kept_for_cached_steps_goes_with_the_last_of_them(model: HunyuanVideoAvatarTransformer3DModel) -> None:
    run = make_run()
    held = [go_on(run, 1, model).positive_cache.image is not None for _ in range(NUM_STEPS)]
    assert held == [6 <= step < 15 for step in range(NUM_STEPS)]


def spoil_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 0xFF
    path.write_bytes(bytes(content))


def change(name: str, value: object) -> Callable[[Path], None]:
    """Writes a saved run with another value in its plain part."""

    def write(path: Path) -> None:
        with safe_open(path, "pt") as file:
            plain = json.loads(file.metadata()["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        place = plain["run"]
        *parts, last = name.split(".")
        for part in parts:
            place = place[part]
        if value is None:
            place.pop(last)
        else:
            place[last] = value
        save_file(tensors, path, metadata={"run": json.dumps(plain)})

    return write


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes()[:50]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("a picture, perhaps"),
        spoil_bytes,
        change("step", 99),
        change("step", -3),
        change("step", None),
        change("settings.rounding", "nonsense"),
        change("timeline.latent_frames", 97),
        change("surplus", 1),
    ],
)
def test_a_damaged_run_is_refused_by_name(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "kept.safetensors"
    make_run(num_steps=4).save(path)
    damage(path)
    with pytest.raises(ValueError, match=r"kept\.safetensors"):
        DenoisingRun.load(path)


def test_late_steps_without_a_negative_branch_are_guided_by_what_it_was(
    tmp_path: Path, model: HunyuanVideoAvatarTransformer3DModel
) -> None:
    calls: list[int] = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    runs = []
    for share in (1.0, 0.5):
        run = make_run()
        run.settings = replace(run.settings, negative_until=share, use_step_cache=share == 0.5)
        runs.append(go_on(run, 10, model))
    latents = runs[1].latents.clone()
    assert runs[0].difference is None and runs[1].difference is not None
    assert runs[1].negative_cache.image is None and runs[1].positive_cache.image is not None
    runs[1].save(tmp_path / "run.safetensors")
    calls.clear()
    again = go_on(DenoisingRun.load(tmp_path / "run.safetensors"), model=model)
    handle.remove()
    assert len(calls) == 2 * 10, "two windows, the prompt alone"
    assert torch.equal(go_on(runs[1], model=model).latents, again.latents)
    alone = make_run()
    alone.settings, alone.step, alone.latents = replace(alone.settings, use_step_cache=False), 10, latents
    unguided = replace(alone.settings, guidance_scale=1)
    whole = go_on(alone, model=model).latents
    alone.settings, alone.step, alone.latents = unguided, 10, latents
    without = go_on(alone, model=model).latents
    near, far = (float((other - again.latents).norm()) for other in (whole, without))
    assert 0 < near < far, "nearer to guidance than to none"
