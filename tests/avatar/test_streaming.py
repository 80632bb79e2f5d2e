"""Blocks in chunks and weights that come and go: the numbers of the blocks' own forward, and slots that nobody
overwrites. Only the CPU's path is run where there is no CUDA."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import FirstBlockCacheConfig
from peft import LoraConfig
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.avatar import chunked, streaming
from pipeline.avatar.attention import DEFAULT, use
from pipeline.avatar.branches import Branch, one_after_another
from pipeline.avatar.chunked import modulation_of, modulators, run_in_chunks
from pipeline.avatar.fp8 import ScaledFp8Linear, dequantized_once, swap_linears
from pipeline.avatar.portrait import TOKEN_PX
from pipeline.avatar.streaming import StreamedTransformer, Unit, Waits, WeightStream, spread, tensors_of
from pipeline.avatar.tiny import in_fp8, published_tensors
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel, HunyuanVideoAvatarWindow
from pipeline.avatar.weights import build_transformer, convert_transformer_file, load_transformer
from tests.avatar.builds import make_inputs, make_transformer
from tests.avatar.memory import LiveBytes
from tests.avatar.published import TINY
from tests.benchmarks.avatar_model import Window, block_inputs

CPU = torch.device("cpu")
TIMESTEPS = (700.0, 400.0, 100.0)
ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 2e-2}  # of products whose number of rows differs

Transformer = HunyuanVideoAvatarTransformer3DModel


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def make_model(dtype: torch.dtype = torch.float32, *, fp8: bool = False) -> Transformer:
    model = make_transformer().to(dtype)
    if fp8:
        swap_linears(model)
    return model


def branches(dtype: torch.dtype = torch.float32, *, step: int = 0, **told: Any) -> list[Branch]:
    """Two branches of a window with two speakers and texts of different length."""
    made = []
    for name, num_text, seed in (("cond", 8, 1), ("uncond_text", 6, 2)):
        inputs = make_inputs(num_text=num_text, num_speakers=2, seed=seed)
        inputs = {key: t.to(dtype) if t.ndim > 1 and t.is_floating_point() else t for key, t in inputs.items()}
        inputs["timestep"] = torch.tensor([TIMESTEPS[step]])
        made.append(Branch(name, {**inputs, **told}, tuple(map(torch.tensor, TIMESTEPS[step:]))))
    return made


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.float() - other.float()).abs().max())


# --- blocks in chunks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [4096, 5])
def test_every_kind_of_block_gives_its_own_numbers_in_chunks(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, fp8: bool, size: int
) -> None:
    monkeypatch.setattr(chunked, "CHUNK_TOKENS", size)
    model = make_model(dtype, fp8=fp8)
    inputs = branches(dtype)[0].inputs
    for block in model.blocks:
        stock, ours = model.begin(**inputs), model.begin(**inputs)
        stock.run(block)
        run_in_chunks(block, ours, modulation_of(block, ours.temb))
        for name in ("hidden_states", "encoder_hidden_states"):
            difference = apart(getattr(stock, name), getattr(ours, name))
            assert difference <= (0 if size == 4096 else ROUNDING[dtype]), (type(block).__name__, name)


def test_chunks_take_a_third_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK_TOKENS", 64)
    model = make_transformer(num_attention_heads=4, attention_head_dim=16, rope_axes_dim=(4, 6, 6))
    inputs = make_inputs(frames=9, height=32, width=32)

    def units(block: nn.Module, run: Callable[..., None]) -> float:
        window = model.begin(**inputs)
        with LiveBytes() as counted:
            run(block, window)
        return counted.peak / window.hidden_states.nbytes

    for block in (model.blocks[0], model.blocks[1], model.blocks[-1]):
        stock = units(block, lambda block, window: window.run(block))
        ours = units(block, lambda block, window: run_in_chunks(block, window, modulation_of(block, window.temb)))
        assert ours < 5.5 and stock > 2 * ours, (type(block).__name__, ours, stock)


@pytest.mark.parametrize("backend", [DEFAULT, "_native_flash", "_native_cudnn"])
def test_at_the_real_size_queries_keys_values_and_what_they_give_are_all_there_is(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda query, key, value, **_: torch.empty_like(query))
    size = Window(704, 768)
    model = build_transformer({"num_layers": 2, "num_single_layers": 1}).bfloat16()
    use(model, backend)
    with torch.device("meta"):
        given = block_inputs(model, size, torch.device("meta"), torch.bfloat16)
        image, text, temb, _, rotary, spoken, weights, _ = given
        for block in model.blocks:
            shape = (size.latent_frames, size.height // TOKEN_PX, size.width // TOKEN_PX)
            window = HunyuanVideoAvatarWindow(shape, temb, rotary, image, text, spoken, weights)
            modulation = modulation_of(block, temb)
            with LiveBytes() as counted:
                run_in_chunks(block, window, modulation)
            assert counted.peak < 4.05 * (image.nbytes + text.nbytes), type(block).__name__


def test_fp8_layers_are_dequantised_once_for_all_chunks() -> None:
    layer = ScaledFp8Linear.from_linear(nn.Linear(16, 16))
    rows = torch.randn(4, 16)
    expected = layer(rows)
    with dequantized_once([layer], torch.float32):
        layer.weight.data = torch.zeros_like(layer.weight.data.view(torch.uint8)).view(layer.weight.dtype)
        assert torch.equal(layer(rows), expected), "read again"
    assert layer.held is None and not torch.equal(layer(rows), expected)


# --- weights that come and go -----------------------------------------------------------------------------------------


def make_stream(**options: Any) -> tuple[WeightStream, list[torch.Tensor]]:
    """Five units of a large and an odd small tensor, and copies of the large ones."""
    units = [[torch.randn(3000), torch.randn(()).bfloat16(), torch.randn(7, 3)] for _ in range(5)]
    large = [unit[0].clone() for unit in units]
    return WeightStream(units, CPU, **options), large


@pytest.mark.parametrize("pinned", [False, True])
def test_a_unit_stays_whole_while_it_is_used_and_the_next_comes_in(
    monkeypatch: pytest.MonkeyPatch, pinned: bool
) -> None:
    monkeypatch.setattr(streaming, "STAGING_BYTES", 1000)  # a tensor goes through in pieces
    fill = WeightStream._fill

    def watched(self: WeightStream, slot: Any, unit: Unit) -> None:
        assert not slot.in_use
        fill(self, slot, unit)
        assert not slot.in_use

    monkeypatch.setattr(WeightStream, "_fill", watched)
    stream, large = make_stream(pinned=pinned)
    home = [unit.tensors[0].data_ptr() for unit in stream.units]
    for number in [0, 1, 2, 3, 4, 0, 1, 4, 2, 2, 3]:  # in turn, and out of it
        with stream.here(number):
            tensors = stream.units[number].tensors
            assert torch.equal(tensors[0], large[number]) and tensors[1].ndim == 0 and tensors[2].shape == (7, 3)
            assert tensors[0].data_ptr() != home[number]
            time.sleep(0.01)  # the next one comes in meanwhile
            assert torch.equal(tensors[0], large[number])
    assert [unit.tensors[0].data_ptr() for unit in stream.units] == home
    stream.free()
    assert not stream._slots and stream._thread is None
    with stream.here(3):
        assert torch.equal(stream.units[3].tensors[0], large[3])
    stream.free()


def test_only_copies_out_of_pinned_memory_are_not_waited_for() -> None:
    """On Metal nothing is pinned, and a copy that is not waited for reads its buffer when it is filled anew."""
    told = []

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.copy_.default:
                told.append(bool((args[2:] or (False,))[0]))
            return func(*args, **(kwargs or {}))

    with Copies():
        streaming._Staging(pinned=False).copy(torch.ones(10, dtype=torch.uint8), torch.zeros(10, dtype=torch.uint8))
    assert told == [False, False]


def test_weights_packed_once_are_not_packed_again() -> None:
    stream, _ = make_stream(pinned=True)
    tensors = [unit.tensors for unit in stream.units]
    packed = [unit.packed.data_ptr() for unit in stream.units if unit.packed is not None]
    again = WeightStream(tensors, CPU, pinned=True)
    assert [unit.packed.data_ptr() for unit in again.units if unit.packed is not None] == packed != []


def test_where_no_more_can_be_pinned_the_rest_comes_out_of_ordinary_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pack, packed = Unit.pack, list[Unit]()

    def limited(self: Unit, *, pinned: bool) -> None:
        if len(packed) == 2:
            raise RuntimeError("CUDA error: out of memory")
        packed.append(self)
        pack(self, pinned=pinned)

    monkeypatch.setattr(Unit, "pack", limited)
    stream, large = make_stream(pinned=True)
    assert "ordinary memory" in caplog.text
    for number, expected in enumerate(large):
        with stream.here(number):
            assert torch.equal(stream.units[number].tensors[0], expected)
    stream.free()


def test_the_next_unit_is_there_before_it_is_asked_for() -> None:
    stream, _ = make_stream()
    stream.take(0)
    slots = {slot.holds: slot for slot in stream._slots}
    assert set(slots) == {0, 1}
    assert slots[1].filled is not None
    slots[1].filled.result(timeout=10)
    stream.release(0)
    stream.free()


def test_waiting_for_copies_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    fill = WeightStream._fill

    def slow(*args: Any) -> None:
        time.sleep(0.3)
        fill(*args)

    monkeypatch.setattr(WeightStream, "_fill", slow)
    stream, _ = make_stream()
    stream.waits = Waits()
    with stream.here(0):
        first = stream.waits.seconds
        for slot in stream._slots:
            assert slot.filled is not None
            slot.filled.result()  # computing takes longer than the next copy
    with stream.here(1):
        assert stream.waits.seconds - first < 0.05 < first
    stream.free()


def test_a_copy_that_fails_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, large = make_stream()
    fill = WeightStream._fill

    def failing(*_: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(WeightStream, "_fill", failing)
    with pytest.raises(OSError, match="the disk is gone"):
        stream.take(2)
    monkeypatch.setattr(WeightStream, "_fill", fill)
    with stream.here(2):
        assert torch.equal(stream.units[2].tensors[0], large[2])
    stream.free()


# --- the transformer --------------------------------------------------------------------------------------------------


def fills_of(monkeypatch: pytest.MonkeyPatch) -> list[Unit]:
    """Every unit that is copied from now on."""
    fill, filled = WeightStream._fill, []

    def counting(self: WeightStream, slot: Any, unit: Unit) -> None:
        filled.append(unit)
        fill(self, slot, unit)

    monkeypatch.setattr(WeightStream, "_fill", counting)
    return filled


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("fp8", [False, True])
def test_both_branches_come_out_as_one_after_another_by_one_pass_of_the_blocks(
    monkeypatch: pytest.MonkeyPatch, fp8: bool, pinned: bool
) -> None:
    model = make_model(fp8=fp8)
    expected = one_after_another(model, branches(return_last_block_input=True))
    streamed = StreamedTransformer(model, CPU, resident_blocks=2, pinned=pinned)
    assert len(streamed.weights.units) == len(model.blocks) - 1 - 2
    streamed(model, branches())  # the modulations of the run
    filled = fills_of(monkeypatch)
    found = streamed(model, branches(return_last_block_input=True))
    streamed.free()
    assert len(filled) <= len(streamed.weights.units) + 1, "and the first one again, for what comes next"
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.sample, other.sample)
        assert one.last_block_input is not None and other.last_block_input is not None
        assert all(map(torch.equal, one.last_block_input, other.last_block_input))


def test_cached_steps_stream_nothing_and_leave_what_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    kept = [
        output.last_block_input or () for output in one_after_another(model, branches(return_last_block_input=True))
    ]
    told = [Branch(b.name, {**b.inputs, "last_block_input": k}) for b, k in zip(branches(step=1), kept, strict=True)]
    expected = one_after_another(model, told)
    copies = [tuple(tokens.clone() for tokens in pair) for pair in kept]
    streamed = StreamedTransformer(model, CPU)
    streamed(model, branches())
    filled = fills_of(monkeypatch)
    found = streamed(model, told)
    streamed.free()
    assert not filled
    assert all(torch.equal(one.sample, other.sample) for one, other in zip(found, expected, strict=True))
    assert all(
        torch.equal(*pair) for one, other in zip(kept, copies, strict=True) for pair in zip(one, other, strict=True)
    )


def test_modulations_are_computed_once_a_run_and_are_the_blocks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(fp8=True)
    streamed = StreamedTransformer(model, CPU)
    computed = []
    for block in model.blocks:
        for norm in modulators(block):
            norm.linear.register_forward_hook(lambda *_: computed.append(1))
    steps = [streamed(model, branches(step=step)) for step in range(len(TIMESTEPS))]
    once = len(computed)
    assert once == 2 * len(TIMESTEPS) * sum(len(modulators(block)) for block in model.blocks)
    streamed(model, branches(step=2))
    assert len(computed) == once
    for step, outputs in enumerate(steps):
        for output, expected in zip(outputs, one_after_another(model, branches(step=step)), strict=True):
            assert torch.equal(output.sample, expected.sample)
    streamed.free()
    streamed(model, branches(step=2))
    assert len(computed) > once, "forgotten between runs"
    streamed.free()


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_weights_stream_out_of_the_converted_files(tmp_path: Path, precision: str) -> None:
    published, scales = published_tensors(TINY), dict[str, torch.Tensor]()
    if precision == "fp8":
        published, scales = in_fp8(TINY, published)
    torch.save({"module": published}, tmp_path / "model.pt")
    torch.save({"module": scales}, tmp_path / "map.pt")
    scale_map = tmp_path / "map.pt" if scales else None
    convert_transformer_file(
        tmp_path / "model.pt", tmp_path / "ours", scale_map=scale_map, rope_axes_dim=TINY["rope_axes_dim"]
    )
    model = load_transformer(tmp_path / "ours")
    inputs = make_inputs()
    inputs["encoder_hidden_states"], inputs["pooled_projections"] = torch.randn(1, 11, 32), torch.randn(1, 24)
    inputs = {key: t.bfloat16() if t.ndim > 1 and t.is_floating_point() else t for key, t in inputs.items()}
    expected = model(**inputs).sample
    for pinned in (False, True):
        streamed = StreamedTransformer(model, CPU, pinned=pinned)
        assert torch.equal(streamed(model, [Branch("cond", inputs)])[0].sample, expected)
        streamed.free()


def test_blocks_that_stay_are_spread_evenly() -> None:
    assert spread(0, 59) == set() and spread(59, 59) == set(range(59))
    numbers = sorted(spread(12, 59))
    assert len(numbers) == 12 and max(b - a for a, b in itertools.pairwise(numbers)) <= 5
    with pytest.raises(ValueError, match="resident_blocks must be 0 to 6, got 7"):
        StreamedTransformer(make_model(), CPU, resident_blocks=7)


def test_weights_are_at_home_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    home = [tensor.data_ptr() for tensor in tensors_of(model)]
    streamed = StreamedTransformer(model, CPU)
    expected = streamed(model, branches())

    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(streaming, "run_in_chunks", out_of_memory)
        streamed(model, branches())
    assert [tensor.data_ptr() for tensor in tensors_of(model)] == home
    assert all(torch.equal(a.sample, b.sample) for a, b in zip(streamed(model, branches()), expected, strict=True))
    streamed.free()


@pytest.mark.parametrize("is_placed_first", [False, True])
def test_lora_weights_work_on_streamed_blocks(is_placed_first: bool) -> None:
    model = make_model()
    plain = one_after_another(model, branches())
    streamed = StreamedTransformer(model, CPU)
    torch.manual_seed(0)
    model.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "proj_mlp", "add_k_proj"]))
    if not is_placed_first:
        streamed = StreamedTransformer(model, CPU)
    expected = one_after_another(model, branches())
    found = streamed(model, branches())
    streamed.free()
    assert all(torch.equal(a.sample, b.sample) for a, b in zip(found, expected, strict=True))
    assert apart(found[0].sample, plain[0].sample) > 1e-3


def test_what_streaming_would_pass_over_is_refused() -> None:
    model = make_model()
    streamed = StreamedTransformer(model, CPU)
    model.enable_cache(FirstBlockCacheConfig(threshold=1))
    with pytest.raises(ValueError, match=r"caches of diffusers do not see streamed blocks"):
        streamed(model, branches())
    model.disable_cache()
    model.add_adapter(LoraConfig(r=2, target_modules=["norm1.linear"]))
    with pytest.raises(ValueError, match="block 0 has LoRA weights on its modulation"):
        streamed(model, branches())
    streamed.free()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("fp8", [False, True])
def test_streaming_on_a_gpu_gives_the_resident_numbers(fp8: bool, pinned: bool) -> None:
    device = torch.device("cuda")

    def moved() -> list[Branch]:
        return [
            Branch(one.name, {k: v if "mask" in k and v.ndim == 2 else v.to(device) for k, v in one.inputs.items()})
            for one in branches(torch.bfloat16)
        ]

    resident = make_model(torch.bfloat16, fp8=fp8).to(device)
    expected = one_after_another(resident, moved())
    model = make_model(torch.bfloat16, fp8=fp8)
    streamed = StreamedTransformer(model, device, pinned=pinned)
    away = {id(tensor) for tensor in streamed.tensors}
    for tensor in tensors_of(model):
        if id(tensor) not in away:
            tensor.data = tensor.data.to(device)
    streamed.weights.waits = Waits()
    for _ in range(20):  # more than any lucky order of copies
        found = streamed(model, moved())
        assert all(apart(a.sample, b.sample) < ROUNDING[torch.bfloat16] for a, b in zip(found, expected, strict=True))
    assert streamed.weights.waits.seconds >= 0
    streamed.free()
