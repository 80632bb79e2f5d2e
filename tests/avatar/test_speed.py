"""Speed presets: each computes what it says, leaves no trace, serves several windows, and says where it cannot work."""

import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig, FlowMatchEulerDiscreteScheduler

from pipeline import hardware
from pipeline.avatar import attention, fp8, speed
from pipeline.avatar.branches import Branch, one_after_another
from pipeline.avatar.caching import ByFrame, FrameState, serves_windows
from pipeline.avatar.pipeline_hunyuan_avatar import HunyuanVideoAvatarPipeline
from pipeline.avatar.presets import FLOW_SHIFT
from pipeline.avatar.sampler import DenoisingRun, denoise_step, make_scheduler
from pipeline.avatar.speed import PRESETS, apply, check, undo
from pipeline.errors import PresetUnavailable
from pipeline.hardware import Placement
from pipeline.texts import LANGUAGES, Notice
from tests.avatar.builds import make_pipeline, make_transformer
from tests.avatar.test_sampler import NUM_STEPS, make_run
from tests.benchmarks.avatar_presets import Row, compare, latents_of, report
from tests.server import ROOT

HERE = [name for name, preset in PRESETS.items() if not (preset.compiled or preset.lossy_attention)]
CACHES = [name for name, preset in PRESETS.items() if preset.cache is not None]
ONE_WINDOW, TWO_WINDOWS = 129, 140  # frames
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipe() -> HunyuanVideoAvatarPipeline:
    """With the transformer that `make_run` is for; whoever sets it up takes that back."""
    torch.set_num_threads(1)
    return make_pipeline(transformer=make_transformer())


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    return {row.preset: row for row in compare(ONE_WINDOW)}


@pytest.mark.parametrize("name", [name for name in HERE if name != "first-block-cache"])
def test_a_preset_computes_the_share_it_is_planned_with(name: str, rows: dict[str, Row]) -> None:
    assert rows[name].forwards / rows[speed.DEFAULT].forwards == pytest.approx(PRESETS[name].work)


def test_presets_end_near_the_reference_and_not_in_it(rows: dict[str, Row]) -> None:
    for name in HERE:
        distance = rows[name].distance
        assert distance is not None
        if name in ("reference", "first-block-cache"):  # random first blocks change too much for its threshold
            assert distance == 0
        else:
            assert 1e-3 < distance < 0.05, name


def test_the_table_names_every_preset_and_what_cannot_work_here(rows: dict[str, Row]) -> None:
    lines = "\n".join(report(list(rows.values()), 1))
    assert "| published | 60 | 1.00 | 0.00" in lines and "| reference | 100 | 1.67 | 0.0000 |  |" in lines
    assert lines.count("cannot work here") == len(PRESETS) - len(HERE)
    assert "sageattention" in rows["sage-attention"].cause


def test_presets_leave_no_trace(pipe: HunyuanVideoAvatarPipeline) -> None:
    before = latents_of(pipe, "published", ONE_WINDOW, 6)
    for name in CACHES:
        apply(pipe, name, num_inference_steps=6)
        assert pipe.transformer.is_cache_enabled and serves_windows(pipe.predict)
    undo(pipe)
    assert pipe.predict is one_after_another and not pipe.transformer.is_cache_enabled
    assert torch.equal(latents_of(pipe, "published", ONE_WINDOW, 6), before)


def test_presets_are_described_in_both_languages() -> None:
    texts = [Notice(preset.text).text(language) for preset in PRESETS.values() for language in LANGUAGES]
    assert len(set(texts)) == 2 * len(PRESETS)


def test_naming_the_presets_loads_no_torch() -> None:
    program = "import sys; from pipeline.avatar.speed import PRESETS; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


# --- several windows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CACHES)
def test_caches_serve_clips_of_several_windows(
    name: str, pipe: HunyuanVideoAvatarPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "FIRST_BLOCK_THRESHOLD", 10.0)  # skips whenever it can
    calls: list[int] = []
    handle = pipe.transformer.transformer_blocks[1].attn.register_forward_hook(lambda *_: calls.append(1))
    latents = latents_of(pipe, name, TWO_WINDOWS, NUM_STEPS)
    num_cached = len(calls)
    reference = latents_of(pipe, "reference", TWO_WINDOWS, NUM_STEPS)
    handle.remove()
    assert len(calls) - num_cached == 2 * 2 * NUM_STEPS > 1.3 * num_cached
    assert 1e-3 < float((latents - reference).norm() / reference.norm()) < 0.7


def test_a_step_that_was_interrupted_is_made_again_alike(pipe: HunyuanVideoAvatarPipeline) -> None:
    name = "mag-cache"  # whose counters change in place
    whole = latents_of(pipe, name, TWO_WINDOWS, NUM_STEPS)
    apply(pipe, name, num_inference_steps=NUM_STEPS)
    run = make_run(num_frames=TWO_WINDOWS)
    run.settings = replace(run.settings, **PRESETS[name].settings)
    scheduler = make_scheduler(FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT).config, run.settings)
    while not run.is_done:
        answers = iter([False, run.step % 3 == 1])  # after the first of two windows
        denoise_step(run, pipe.transformer, scheduler, lambda: next(answers), pipe.predict)  # noqa: B023
        if run.step % 3 == 1 and not run.is_done:
            denoise_step(run, pipe.transformer, scheduler, predict=pipe.predict)
    undo(pipe)
    assert torch.equal(run.latents, whole)


@dataclass
class State:
    """As a cache keeps it: a counter that is changed in place, image tokens and text tokens in containers."""

    counter: torch.Tensor
    tokens: dict[str, tuple[torch.Tensor, torch.Tensor]]
    name: str = "kept"


def window(*frames: int) -> Branch:
    return Branch("cond", {}, latent_frames=frames, num_latent_frames=4)


def state_of(frames: tuple[int, ...], number: float) -> State:
    """Tokens that say their frame, two each; the reference frame's and the text's say the window."""
    image = torch.tensor([number] * 2 + [float(frame) for frame in frames for _ in range(2)])
    return State(torch.tensor(1.0), {"both": (image[None, :, None], torch.full((1, 3, 1), number))})


def test_tokens_follow_their_latent_frames_into_other_windows() -> None:
    kept = FrameState()
    for number, frames in enumerate([(0, 1), (2, 3)]):
        kept.take(state_of(frames, 10.0 + number), window(*frames), (6, 3))
    moved = kept.give(window(3, 0), CPU)
    image, text = moved.tokens["both"]
    assert image.flatten().tolist() == [11, 11, 3, 3, 0, 0] and text.flatten().tolist() == [11] * 3
    moved.counter *= 7
    assert float(kept.give(window(0, 1), CPU).counter) == 1 and moved.name == "kept"


def test_tokens_that_are_a_share_of_a_window_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 6, 1\).* 12 image or 3 text tokens"):
        FrameState().take(state_of((0, 1), 1.0), window(0, 1), (12, 3))


def test_a_cache_that_was_not_set_up_here_is_not_touched(pipe: HunyuanVideoAvatarPipeline) -> None:
    assert not serves_windows(one_after_another) and serves_windows(ByFrame())
    pipe.transformer.enable_cache(FirstBlockCacheConfig())
    try:
        with pytest.raises(ValueError, match=r"already been enabled with .*FirstBlockCacheConfig"):
            apply(pipe, "mag-cache")
    finally:
        pipe.transformer.disable_cache()


# --- what cannot work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "device", "placement", "options", "said"),
    [
        ("mag-cache", "cuda", Placement.STREAM_BLOCKS, {}, "both branches of a step at once"),
        ("taylorseer", "cuda", Placement.RESIDENT, {"num_processes": 2}, "several share this clip"),
        ("fp8-matmul", "cuda", Placement.RESIDENT, {"precision": "bf16"}, "need weights in fp8"),
        ("fp8-matmul", "mps", Placement.RESIDENT, {}, "need weights in fp8"),
        ("compiled", "cuda", Placement.OFFLOAD_MODELS, {}, "models that stay"),
        ("compiled", "cpu", Placement.RESIDENT, {}, "models that stay"),
        ("sage-attention", "mps", Placement.RESIDENT, {}, "package sageattention"),
    ],
)
def test_what_cannot_work_is_refused_in_words(
    name: str, device: str, placement: Placement, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(PresetUnavailable, match=f"'{name}' cannot work here: .*{said}") as refusal:
        check(name, device, placement, **options)
    assert f"« {name} »" in refusal.value.text("fr")


@pytest.mark.parametrize("placement", Placement)
def test_the_published_preset_works_everywhere(placement: Placement) -> None:
    for device in ("cuda", "mps", "cpu"):
        check(speed.DEFAULT, device, placement, num_processes=8)


def test_leases_refuse_what_cannot_go_from_one_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "on_zero_gpu", lambda: True)
    for name in PRESETS:
        if name in CACHES or PRESETS[name].compiled:
            with pytest.raises(PresetUnavailable):
                check(name, "cuda", Placement.RESIDENT)
        else:
            check(name, "cuda", Placement.RESIDENT)
        assert PRESETS[name].can_continue != (name in CACHES)


def test_an_unknown_preset_is_a_mistake(pipe: HunyuanVideoAvatarPipeline) -> None:
    with pytest.raises(ValueError, match=r"preset must be one of published, reference, .*, got 'quick'"):
        apply(pipe, "quick")


# --- on a card, as far as that can be seen without one ----------------------------------------------------------------


def test_on_a_card_the_kernel_is_chosen_and_told(
    pipe: HunyuanVideoAvatarPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def choose(device: torch.device, folder: object, *, dtype: torch.dtype, lossy: bool, shared: bool) -> object:
        asked.append(lossy)
        return attention.Choice("_native_flash", Notice("AttentionDefault", {"count": 2}), {})

    monkeypatch.setattr(type(pipe), "_execution_device", torch.device("cuda"))
    monkeypatch.setattr(attention, "choose", choose)
    processor = pipe.transformer.transformer_blocks[0].attn.processor
    assert "2 kernels" in apply(pipe)[0].text("en")
    assert processor._attention_backend == "_native_flash"
    with pytest.raises(PresetUnavailable, match="package sageattention"):
        apply(pipe, "sage-attention")
    assert processor._attention_backend == "native"
    monkeypatch.setattr(attention, "is_installed", lambda name: True)
    apply(pipe, "sage-attention")
    undo(pipe)
    assert asked == [False, True]
    monkeypatch.setattr(fp8, "has_scaled_matmul", lambda device: False)  # Ampere
    fp8.swap_linears(pipe.transformer)
    with pytest.raises(PresetUnavailable, match="Ada, Hopper or Blackwell"):
        apply(pipe, "fp8-matmul")


def test_blocks_are_compiled_and_are_themselves_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = make_pipeline(transformer=make_transformer())
    model = pipe.transformer
    torch._dynamo.reset()
    compile_blocks = model.compile_repeated_blocks
    monkeypatch.setattr(model, "compile_repeated_blocks", lambda: compile_blocks(backend="eager"))
    monkeypatch.setattr(speed, "check", lambda *_, **__: None)
    before = latents_of(pipe, "published", ONE_WINDOW, 2)
    apply(pipe, "compiled")
    run: DenoisingRun = make_run(num_frames=ONE_WINDOW, num_steps=2)
    pipe.denoise(run)
    assert model.transformer_blocks[0]._compiled_call_impl is not None
    undo(pipe)
    assert model.transformer_blocks[0]._compiled_call_impl is None
    assert float((run.latents - before).norm() / before.norm()) < 0.01
