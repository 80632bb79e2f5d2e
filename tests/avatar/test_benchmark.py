"""The benchmark's counts against the published numbers and formulas by hand; its timing, on tiny builds."""

from collections.abc import Iterator

import pytest
import torch

from pipeline.avatar.fp8 import FP8
from pipeline.avatar.streaming import tensors_of
from pipeline.avatar.weights import build_transformer
from tests.avatar.builds import TRANSFORMER
from tests.benchmarks import avatar, avatar_model
from tests.benchmarks.avatar_model import (
    WINDOWS,
    Window,
    ceiling,
    closed_formula,
    count_bytes,
    count_flops,
    count_parameters,
    fill,
    report_counts,
    report_times,
    time_blocks,
    time_forward,
)

CPU = torch.device("cpu")
TINY = {**TRANSFORMER, "num_layers": 2, "num_single_layers": 3}  # 16 wide, an adapter in the second double block
SMALL = Window(32, 48, latent_frames=3, text_rows=11, text_tokens=8)  # (3 + 1) x 2 x 3 image tokens


def test_parameters_of_the_real_size_are_the_published_ones_part_by_part() -> None:
    counts = count_parameters(build_transformer({}))
    dim, head = 3072, 128
    square = dim**2
    modulation = {"double blocks": 20 * 12 * (square + dim), "single blocks": 40 * 3 * (square + dim)}
    double = 2 * (12 * square + 4 * dim + 5 * dim + 2 * head)  # of either stream: 4 attention, 8 feed-forward, biases
    single = 12 * square + 3 * dim + 4 * dim + dim + 2 * head
    assert counts["double blocks"] == (20 * double + modulation["double blocks"], modulation["double blocks"])
    assert counts["single blocks"] == (40 * single + modulation["single blocks"], modulation["single blocks"])
    assert counts["audio adapters"] == (10 * (4 * dim * 1024 + 4 * dim), 0)
    assert sum(every for every, _ in counts.values()) == 12_991_493_184


def test_bytes_of_the_real_size_are_two_each_and_one_in_the_blocks_linears() -> None:
    blocks = [build_transformer({}).transformer_blocks, build_transformer({}).single_transformer_blocks]
    linears = [
        layer
        for part in blocks
        for name, layer in part.named_modules()
        if isinstance(layer, torch.nn.Linear) and "audio_adapter" not in name
    ]
    assert len(linears) == 20 * 14 + 40 * 6
    assert count_bytes({}, fp8=False) == 2 * 12_991_493_184
    saved = sum(layer.weight.numel() for layer in linears) - 4 * len(linears)  # a scale takes four bytes
    assert count_bytes({}, fp8=True) == 2 * 12_991_493_184 - saved


def test_flops_of_a_tiny_build_are_those_of_a_formula_by_hand() -> None:
    flops = count_flops(TINY, SMALL)
    dim, tokens, per_frame = 16, 24 + 8, 6
    modulation = 2 * (2 * 12 + 3 * 3) * dim**2
    assert flops.linear == 2 * 12 * dim**2 * 5 * tokens + modulation
    assert flops.attention == 4 * 5 * tokens**2 * dim
    width, heard = 8, 4 * 4 * 4  # of the adapter; audio tokens of four frames
    adapter = 2 * dim * width * (2 * 4 * per_frame + 2 * heard) + 4 * 4 * per_frame * 16 * width
    projection = 2 * 9 * (10 * 5 * 16 * 8 + 8 * 8 + 8 * 4 * dim)  # of nine video frames
    assert flops.audio == adapter + projection
    assert flops.other > 0
    assert flops.total == flops.linear + flops.attention + flops.audio + flops.other


def test_flops_of_the_real_size_are_near_the_closed_formula() -> None:
    flops = count_flops({}, WINDOWS[0])
    linear, attention = closed_formula({}, WINDOWS[0])
    assert flops.attention == attention
    assert flops.linear - linear == 2 * 360 * 3072**2  # the modulation, of one vector
    assert WINDOWS[0].image_tokens == 34 * 24 * 24


def test_a_filled_model_gives_numbers_that_are_finite_and_differ() -> None:
    model = build_transformer(TINY, fp8=True).bfloat16().to_empty(device=CPU)
    fill(model)
    for name, tensor in model.state_dict().items():
        assert torch.isfinite(tensor.float()).all(), name
        assert tensor.ndim < 2 or tensor.float().std() > 0, name


def test_blocks_and_forwards_are_timed_with_every_kind_of_weights() -> None:
    blocks = list(time_blocks(CPU, TINY, SMALL, (torch.float32, torch.bfloat16)))
    kinds = ("double", "double, audio adapter", "single")
    assert [row[:2] for row in blocks] == [
        (kind, weights) for weights in ("float32", "bfloat16", "fp8, dequantised") for kind in kinds
    ]
    assert all(seconds > 0 for _, _, seconds, _ in blocks)
    assert blocks[1][3] > blocks[0][3]  # an adapter costs FLOPs
    assert sum(flops for *_, flops in blocks[:3]) < count_flops(TINY, SMALL).total
    for fp8, weights in ((False, "bfloat16"), (True, "fp8, dequantised")):
        ((named, seconds, peak),) = time_forward(CPU, TINY, SMALL, fp8=fp8)
        assert (named, peak) == (weights, None) and seconds > 0
    assert ceiling(CPU, torch.float32, (16, 32)) > 0
    assert ceiling(CPU, FP8, (16, 32)) > 0


def test_the_report_says_what_was_not_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(avatar_model.SIDES, "cpu", (16, 32))
    report_counts(TINY, [SMALL])
    report_times(CPU, TINY, SMALL)
    printed = capsys.readouterr().out
    assert "not measured on a GPU" in printed
    assert "32×48, 9 frames" in printed
    assert "stopped" not in printed


def test_an_error_of_the_device_ends_its_own_table_and_the_run_in_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> Iterator[None]:
        raise torch.OutOfMemoryError("out of memory\nand more")
        yield

    monkeypatch.setitem(avatar_model.SIDES, "cpu", (16, 32))
    monkeypatch.setattr(avatar_model, "time_blocks", too_large)
    with pytest.raises(RuntimeError, match=r"not everything was measured: out of memory$"):
        report_times(CPU, TINY, SMALL)
    assert "not measured on a GPU" in capsys.readouterr().out


CLIP = [
    "--synthetic-weights",
    "--size",
    "704x768",
    "--frames",
    "9",
    "--tiny",
    "--inference-steps",
    "14",
    "--steps",
    "1",
]


@pytest.mark.parametrize("placement", ["resident", "offload-models", "stream-blocks"])
def test_a_clip_is_measured_in_every_placement(capsys: pytest.CaptureFixture[str], placement: str) -> None:
    measured = avatar.main([*CLIP, "--placement", placement, "--memory-limit-gib", "8"])
    printed = capsys.readouterr().out
    assert f"80×96, 9 frames, 1 window(s); {placement}" in printed
    assert "Memory limit 8 GiB, not enforced: no CUDA device" in printed
    assert (measured.num_full, measured.num_cached) == (12, 2)
    assert min(measured.first, measured.full, measured.cached, measured.decoding, measured.ceiling) > 0
    assert 0 <= measured.waiting < 1 and (placement == "stream-blocks" or measured.waiting == 0)
    assert printed.count("not measured on a GPU") == 2


def test_the_memory_limit_is_set_on_a_card_named_without_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30 * 2**30, 32 * 2**30))
    monkeypatch.setattr(torch._C, "_cuda_setMemoryFraction", lambda *given: told.append(given), raising=False)
    assert avatar.limit_memory(torch.device("cuda"), 8) == 8 * 2**30
    assert told == [(0.25, 0)]


def test_the_whole_clip_is_worked_out_from_its_steps() -> None:
    measured = avatar.Measured(
        first=9,
        full=5,
        cached=1,
        decoding=36,
        waiting=0,
        flops=1,
        ceiling=1,
        denoising_bytes=None,
        decoding_bytes=None,
        tiling="published",
        num_full=30,
        num_cached=20,
    )
    assert measured.minutes == (4 + 30 * 5 + 20 * 1 + 36) / 60


def test_repeated_blocks_take_the_memory_of_one_of_each_kind_and_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    def size(is_repeated: bool) -> int:
        model = avatar.synthetic_transformer(TINY, fp8=True, device=CPU, is_repeated=is_repeated)
        tensors = [tensor for block in model.blocks for tensor in tensors_of(block)]
        return sum({tensor.untyped_storage().data_ptr(): tensor.nbytes for tensor in tensors}.values())

    assert 2 * size(True) < size(False) + size(True) < 3 * size(True)  # 2 kinds alone and 3 alike
    avatar.main([*CLIP, "--repeat-block"])
    assert "One block's weights of each kind are repeated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "700x768"], "multiples of 16, got 700x768"),
        (["--size", "large"], "'large' is no HEIGHTxWIDTH"),
        (["--steps", "50"], "--steps must be 1 to 49, got 50"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit):
        avatar.main(["--synthetic-weights", *arguments])
    assert said in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_forwards_on_a_gpu_say_their_peak_memory() -> None:
    device = torch.device("cuda")
    for fp8 in (False, True):
        assert all(peak and peak > 0 for _, _, peak in time_forward(device, TINY, SMALL, fp8=fp8))
