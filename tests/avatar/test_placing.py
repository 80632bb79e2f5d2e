"""Every placement makes the same clip and puts the models back. On a CPU nothing moves; that it is asked to is seen."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from transformers import LlavaForConditionalGeneration

from pipeline.avatar import text
from pipeline.avatar.branches import one_after_another
from pipeline.avatar.fp8 import swap_linears
from pipeline.avatar.pipeline_hunyuan_avatar import HunyuanVideoAvatarPipeline as Pipe
from pipeline.avatar.placing import Guest, place, unplace
from pipeline.avatar.streaming import StreamedTransformer, Unit, WeightStream, bytes_of, tensors_of
from pipeline.avatar.text import UNUSED_LAYERS
from pipeline.avatar.tilings import TILINGS, decoding_bytes, tiling_for
from pipeline.avatar.tiny import llama_tokenizer, make_llava
from pipeline.avatar.weights import load_encoder
from pipeline.hardware import Placement
from tests.avatar.builds import make_pipeline
from tests.avatar.published import private_bytes

CPU = torch.device("cpu")
FACES = [(60.0, 60.0, 120.0, 120.0), (300.0, 60.0, 80.0, 80.0)]  # x, y, width, height; where somebody might be


@pytest.fixture
def fresh() -> Iterator[Pipe]:
    """A pipeline of the test's own."""
    pipe = make_pipeline()
    yield pipe
    unplace(pipe)


def clip(pipe: Pipe, portrait: Image.Image, voice: np.ndarray, **changes: Any) -> torch.Tensor:
    """Two voices, and guidance by text and then by voice."""
    settings = {"faces": FACES, "height": 32, "width": 48, "num_inference_steps": 3, "seed": 3, "output_type": "latent"}
    return pipe(portrait, [voice, voice[16000:]], **{**settings, **changes}).frames


def streamed_by(pipe: Pipe) -> StreamedTransformer:
    """What streams its transformer."""
    assert isinstance(pipe.predict, StreamedTransformer)
    return pipe.predict


def homes(pipe: Pipe) -> list[int]:
    """Where all weights lie."""
    models = (model for model in pipe.components.values() if isinstance(model, nn.Module))
    return [tensor.data_ptr() for tensor in tensors_of(*models)]


@pytest.mark.parametrize(
    "changes",
    [{"num_frames": 133}, {"num_frames": 9, "full_window": False, "num_inference_steps": 14}],
    ids=["two windows", "cached steps"],
)
@pytest.mark.parametrize("fp8", [False, True])
def test_every_placement_makes_the_same_clip_and_puts_the_models_back(
    fresh: Pipe, portrait: Image.Image, voice: np.ndarray, fp8: bool, changes: dict[str, Any]
) -> None:
    if fp8:
        swap_linears(fresh.transformer)
    expected, before = clip(fresh, portrait, voice, **changes), homes(fresh)
    for placement in Placement:
        place(fresh, placement, "cpu")
        assert torch.equal(clip(fresh, portrait, voice, **changes), expected), placement
        assert fresh._execution_device == CPU
        unplace(fresh)
        assert homes(fresh) == before, placement
        assert fresh.predict is one_after_another and fresh.placed is None


def test_frames_are_the_same_when_streamed(fresh: Pipe, portrait: Image.Image, voice: np.ndarray) -> None:
    expected = clip(fresh, portrait, voice, num_frames=9, output_type="pt")
    place(fresh, Placement.STREAM_BLOCKS, "cpu")
    assert torch.equal(clip(fresh, portrait, voice, num_frames=9, output_type="pt"), expected)


class AtHome(TorchDispatchMode):
    """Refuses to compute with weights where they lie at home: on a GPU they would be in the host's memory."""

    def __init__(self, homes: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.homes = {tensor.untyped_storage().data_ptr() for tensor in homes}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asks = func in (torch.ops.aten.detach.default, torch.ops.aten.is_pinned.default)  # nothing is read
        for leaf in () if asks else tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() in self.homes:
                raise AssertionError(f"{func} of weights that are not on the device, {tuple(leaf.shape)}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("fp8", [False, True])
def test_all_that_computes_is_on_the_device(
    fresh: Pipe,
    portrait: Image.Image,
    voice: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    placement: Placement,
    fp8: bool,
) -> None:
    if fp8:
        swap_linears(fresh.transformer)
    monkeypatch.setattr(text, "fingerprint", lambda model: b"")  # it reads weights where they are
    come = Guest.come

    def coming(self: Guest) -> None:
        with _disable_current_modes():
            come(self)
            for tensor, home in self.at_home.values():  # as on a device of its own
                tensor.data = home.clone() if tensor.data_ptr() == home.data_ptr() else tensor.data

    monkeypatch.setattr(Guest, "come", coming)
    models = [model for model in fresh.components.values() if isinstance(model, nn.Module)]
    with AtHome([tensor.data for tensor in tensors_of(*models)]):
        place(fresh, placement, "cpu", spare_vram=4000)
        changes = {"num_frames": 9, "full_window": False, "num_inference_steps": 14, "output_type": "pt"}
        clip(fresh, portrait, voice, **changes)
        unplace(fresh)
        with pytest.raises(AssertionError, match="not on the device"):
            clip(fresh, portrait, voice, **changes)


@pytest.mark.parametrize("placement", [Placement.OFFLOAD_MODELS, Placement.STREAM_BLOCKS])
def test_one_model_at_a_time_is_on_the_device(
    fresh: Pipe, portrait: Image.Image, voice: np.ndarray, monkeypatch: pytest.MonkeyPatch, placement: Placement
) -> None:
    names = {id(model): name for name, model in fresh.components.items()}
    told: list[str] = []
    come, go = Guest.come, Guest.go

    def coming(self: Guest) -> None:
        if not self.at_home:
            told.append(names[id(self.model)])
        come(self)

    monkeypatch.setattr(Guest, "come", coming)

    def going(self: Guest) -> None:
        told.append("-")
        go(self)

    monkeypatch.setattr(Guest, "go", going)
    place(fresh, placement, "cpu")
    clip(fresh, portrait, voice, num_frames=9, num_inference_steps=2, output_type="pt")
    assert told[1::2] == ["-"] * (len(told) // 2), told
    encoders = ["text_encoder", "text_encoder_2"] * 2  # prompt and negative prompt
    assert told[::2] == [*encoders, "audio_encoder", "vae", "transformer", "vae"]
    assert fresh.placed.room.inside is None


def test_models_go_home_when_a_clip_fails(
    fresh: Pipe, portrait: Image.Image, voice: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = homes(fresh)
    place(fresh, Placement.STREAM_BLOCKS, "cpu")

    def out_of_memory(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(fresh.transformer, "finish", out_of_memory)
        clip(fresh, portrait, voice, num_frames=9, full_window=False)
    assert homes(fresh) == before and fresh.placed.room.inside is None
    assert not streamed_by(fresh).weights._slots


def test_placed_anew_takes_the_last_placement_back(fresh: Pipe, portrait: Image.Image, voice: np.ndarray) -> None:
    for placement in (*Placement, *reversed(Placement)):
        place(fresh, placement, "cpu")
        assert isinstance(fresh.predict, StreamedTransformer) == (placement is Placement.STREAM_BLOCKS)
        hooks = [layer._forward_pre_hooks for layer in fresh.text_encoder.model.language_model.layers]
        assert all(len(hook) <= 1 for hook in hooks)
    unplace(fresh)
    unplace(fresh)
    assert not any(hasattr(model, "_hf_hook") for model in fresh.components.values())


def test_what_is_resident_stays_when_it_is_placed_so_again(fresh: Pipe) -> None:
    place(fresh, Placement.RESIDENT, "cpu")
    placed = fresh.placed
    place(fresh, Placement.RESIDENT, torch.device("cpu", 0))
    assert fresh.placed is placed
    place(fresh, Placement.OFFLOAD_MODELS, "cpu")
    assert fresh.placed is not placed


def test_other_offloading_is_refused(fresh: Pipe) -> None:
    fresh.enable_model_cpu_offload(device=CPU)
    with pytest.raises(ValueError, match="is offloaded already: call remove_all_hooks"):
        place(fresh, Placement.RESIDENT, "cpu")
    fresh.remove_all_hooks()
    place(fresh, Placement.RESIDENT, "cpu")


def test_as_many_blocks_stay_as_there_is_room_for(fresh: Pipe) -> None:
    blocks = fresh.transformer.blocks[:-1]
    every = sum(bytes_of(tensors_of(block)) for block in blocks)  # modulation included: more than is needed
    counts = []
    for spare in (0, every // 3, every):
        place(fresh, Placement.STREAM_BLOCKS, "cpu", spare_vram=spare)
        units = streamed_by(fresh).weights.units
        counts.append(len(units))
        assert sum(unit.num_bytes for unit in units) >= every * 0.6 - spare
    assert counts[0] == len(blocks) > counts[1] > counts[2] == 0


def test_adapters_added_while_the_model_is_there_come_along(fresh: Pipe) -> None:
    place(fresh, Placement.OFFLOAD_MODELS, "cpu")
    guest = fresh.transformer._hf_hook
    guest.pre_forward(fresh.transformer)
    count = len(guest.at_home)
    fresh.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    guest.pre_forward(fresh.transformer)
    assert len(guest.at_home) > count


# --- the text encoder -------------------------------------------------------------------------------------------------


def test_the_text_encoder_comes_layer_by_layer_and_its_last_layers_and_head_not_at_all(
    fresh: Pipe, portrait: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.asarray(portrait.resize((48, 32)))
    expected = fresh.encode_prompt("A woman speaks.", picture)
    fill, filled = WeightStream._fill, []

    def counting(self: WeightStream, slot: Any, unit: Unit) -> None:
        filled.append(unit)
        fill(self, slot, unit)

    monkeypatch.setattr(WeightStream, "_fill", counting)
    place(fresh, Placement.STREAM_BLOCKS, "cpu")
    found = fresh.encode_prompt("A woman speaks.", picture)
    assert torch.equal(found.prompt_embeds, expected.prompt_embeds)
    assert torch.equal(found.pooled_prompt_embeds, expected.pooled_prompt_embeds)
    model = fresh.text_encoder
    layers = list(model.model.language_model.layers)
    assert len({id(unit) for unit in filled}) == len(layers) - UNUSED_LAYERS
    model._hf_hook.pre_forward(model)
    there = set(model._hf_hook.at_home)
    assert not there & {id(tensor) for tensor in tensors_of(*layers, model.lm_head)}
    assert {id(tensor) for tensor in tensors_of(model.model.vision_tower, model.get_input_embeddings())} <= there


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux's account of memory")
def test_an_encoder_of_the_published_type_is_mapped_and_fills_no_memory(tmp_path: Path) -> None:
    config = make_llava(llama_tokenizer()).config
    config.text_config.vocab_size, config.text_config.hidden_size = 60_000, 256
    model = LlavaForConditionalGeneration(config).half()
    size = sum(tensor.nbytes for tensor in tensors_of(model))
    model.save_pretrained(tmp_path)
    state = model.state_dict()
    load_encoder(LlavaForConditionalGeneration, tmp_path, "text_encoder", dtype=torch.float16)  # what is read once
    before = private_bytes(os.getpid())
    assert size > 50e6
    loaded = load_encoder(LlavaForConditionalGeneration, tmp_path, "text_encoder", dtype=torch.float16)
    taken = private_bytes(os.getpid()) - before
    assert taken < size / 4, (taken, size)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())


# --- the VAE's tiles --------------------------------------------------------------------------------------------------


def test_the_published_tiling_is_taken_wherever_it_fits_and_the_largest_that_does_elsewhere() -> None:
    assert tiling_for(2**40, 1216, 704) == "published"
    assert tiling_for(0, 704, 768) == "128-pixels"
    chosen = [tiling_for(tenths * 2**30 // 10, 704, 768) for tenths in range(120)]
    assert list(dict.fromkeys(chosen)) == list(TILINGS)[::-1]
    for tenths, name in enumerate(chosen):
        if name != "128-pixels":
            assert decoding_bytes(TILINGS[name], 704, 768) < tenths * 2**30 / 10
    assert tiling_for(8 * 2**30, 704, 768) == "33-frames"
