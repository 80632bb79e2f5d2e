"""The cost model against counted work, public figures and itself: it grows with what is asked, fits what it promises,
and refuses in words."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLHunyuanVideo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from pipeline.avatar import cards, costs, fp8
from pipeline.avatar.cards import CARDS, ZERO_GPU, card_of_size, find_card, imagined_machine
from pipeline.avatar.chunked import modulation_of, run_in_chunks, unmodulated
from pipeline.avatar.costs import AvatarPlan, Work, alternatives, forward_flops, needs, plan_avatar
from pipeline.avatar.portrait import MAX_ASPECT
from pipeline.avatar.tilings import TILINGS
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarWindow
from pipeline.avatar.weights import build_transformer
from pipeline.errors import PictureThin, PlanDoesNotFit, PresetUnavailable, SizeUnsupported
from pipeline.hardware import Machine, Placement, Rates
from pipeline.units import GIBIBYTE
from tests.avatar.memory import LiveBytes
from tests.benchmarks import avatar_model

PROJECT = Path(__file__).parents[2]
SQUARE, UPRIGHT, WIDE = (1000, 1000), (1600, 900), (900, 1600)
machines = st.builds(
    imagined_machine,
    device=st.sampled_from(["cuda", "mps", "cpu"]),
    vram_gib=st.floats(1, 200),
    ram_gib=st.floats(4, 300),
)


def plan(machine: Machine | None = None, **asked: object) -> AvatarPlan:
    """A plan for a window of a square picture on a large card."""
    whole = {"num_frames": 129, "picture_size": SQUARE, **asked}
    return plan_avatar(machine or imagined_machine(vram_gib=80, ram_gib=64), **whole)  # type: ignore[arg-type]


# --- the model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side, width", [(384, 384), (704, 768)])
def test_flops_of_a_forward_are_the_counted_ones(side: int, width: int) -> None:
    counted = avatar_model.count_flops({}, avatar_model.Window(side, width))
    linear, attention, other = forward_flops(Work(129, side, width))
    assert attention == counted.attention
    assert linear == pytest.approx(counted.linear, rel=1e-5)
    assert other == pytest.approx(counted.audio + counted.other, rel=0.02)


def test_weights_are_the_counted_ones() -> None:
    parts = avatar_model.count_parameters(build_transformer({}))
    every, modulation = parts["double blocks"]
    assert every == costs.NUM_DOUBLE * costs.DOUBLE_PARAMETERS
    assert parts["single blocks"][0] == costs.NUM_SINGLE * costs.SINGLE_PARAMETERS
    assert modulation + parts["single blocks"][1] == costs.MODULATION_PARAMETERS
    assert parts["audio adapters"][0] == costs.ADAPTER_PARAMETERS
    assert costs.transformer_bytes("bf16") == 2 * sum(count for count, _ in parts.values())
    assert costs.transformer_bytes("fp8") == pytest.approx(avatar_model.count_bytes({}, fp8=True), rel=1e-3)
    model = build_transformer({}, fp8=True)
    layers = [m for m in model.transformer_blocks[0].modules() if isinstance(m, fp8.ScaledFp8Linear)]
    streamed = sum(layer.weight.nbytes for layer in layers) - 2 * 6 * costs.DIM**2
    assert costs.block_bytes("fp8")[0] == pytest.approx(streamed, rel=1e-3)


@pytest.mark.parametrize("size", [(704, 768), (512, 512), (384, 384)])
def test_activations_are_the_counted_ones(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What blocks hold at once beside the tokens that enter, attention as a kernel does it: its output alone."""
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda query, key, value, **_: torch.empty_like(query))
    model = build_transformer({"num_layers": 2, "num_single_layers": 1}, fp8=True).bfloat16()
    window, meta = avatar_model.Window(*size), torch.device("meta")
    work = Work(129, *size)
    assert window.tokens == work.tokens
    with meta, torch.no_grad():
        inputs = avatar_model.block_inputs(model, window, meta, torch.bfloat16)
        image, text, temb, _, rotary, *audio = inputs
        rows = HunyuanVideoAvatarWindow((33, size[0] // 16, size[1] // 16), temb, rotary, image, text, *audio)
        double, single = model.transformer_blocks[1], model.single_transformer_blocks[0]
        with LiveBytes() as stock:
            single(*inputs[:5])
        modulation = modulation_of(double, temb)
        with LiveBytes() as chunked, fp8.dequantized_once(unmodulated(double), torch.bfloat16):
            run_in_chunks(double, rows, modulation)
    assert sum(cosine.nbytes for cosine in rotary) == pytest.approx(costs.ROTARY * work.image_tokens)
    assert 0.95 * costs.STOCK_UNITS * work.unit < stock.peak <= costs.STOCK_UNITS * work.unit
    modelled = costs.CHUNKED_UNITS * work.unit + costs.CHUNKED_BYTES + costs.DEQUANTIZED
    assert 0.9 * modelled < chunked.peak <= 1.01 * modelled


@pytest.mark.parametrize("name", TILINGS)
def test_the_vae_takes_the_counted_work(name: str) -> None:
    tiling = TILINGS[name]
    with torch.device("meta"), torch.no_grad():
        vae = AutoencoderKLHunyuanVideo().half()
        assert sum(parameter.nbytes for parameter in vae.parameters()) == costs.VAE
        latents = torch.empty(1, 16, tiling.num_frames // 4 + 1, *[tiling.side // 8] * 2, dtype=torch.float16)
        with FlopCounterMode(display=False) as counter:
            vae.decoder(vae.post_quant_conv(latents))
    pixels = (tiling.num_frames + 1) * tiling.side**2
    assert counter.get_total_flops() == pytest.approx(costs.VAE_FLOPS * pixels, rel=0.02)


def test_decoded_pixels_are_those_of_the_tiles() -> None:
    published = TILINGS["published"]
    # 33 latent frames in tiles of 17, 12 on: 65, 65 and 33 frames; rows in tiles of 256, 192 on: 256, 256, 256, 128
    assert costs.decoded_pixels(Work(129, 704, 704), published) == (65 + 65 + 33) * (256 * 3 + 128) ** 2
    assert costs.decoded_pixels(Work(40, 704, 704), published) == 65 * (256 * 3 + 128) ** 2  # the rest is cut off
    assert costs.decoded_pixels(Work(129, 256, 256), published) == (65 + 65 + 33) * 256**2
    assert costs.decoded_pixels(Work(129, 256, 320), published) == (65 + 65 + 33) * (256 + 64) * (256 + 128)


def test_fifty_steps_are_the_published_schedule() -> None:
    assert Work(129, 704, 704).steps[:2] == (30, 20)
    assert Work(129, 704, 704).steps[2] == 5  # full steps followed by a cached one; see checkpoints.py
    for count in range(1, 101):
        full, cached, kept = Work(129, 704, 704, count).steps
        assert full + cached == count and kept <= min(full, cached)


def test_a_clip_of_several_windows_keeps_its_cache_in_main_memory() -> None:
    short, long = Work(129, 704, 768), Work(750, 704, 768)
    frames = (long.timeline.latent_frames + long.timeline.num_windows) * long.tokens_per_frame
    assert long.cache_bytes == 2 * (frames + long.timeline.num_windows * costs.TEXT_TOKENS) * costs.DIM * 2
    machine = imagined_machine(vram_gib=24, ram_gib=64)
    one, several = (needs(work, machine, Placement.OFFLOAD_MODELS) for work in (short, long))
    assert several.device < one.device and several.host - one.host > long.cache_bytes / 2
    assert Work(129, 704, 768, guidance_scale=1).cache_bytes == short.cache_bytes / 2


# --- public figures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, steps, minutes", [("A100", 50, 47), ("H100", 30, 17)])
def test_hunyuan_video_takes_about_what_others_report(name: str, steps: int, minutes: float) -> None:
    card = find_card(name)
    assert card is not None
    tokens = 33 * 45 * 80 + 256  # 720×1280, 129 frames, one branch and no cached steps
    linear = 2.0 * costs.BLOCK_PARAMETERS * costs.NUM_BLOCKS * tokens
    attention = 4.0 * costs.DIM * costs.NUM_BLOCKS * tokens**2
    seconds = steps * (linear / card.rates.matmul + attention / card.rates.attention) / costs.BLOCK_SHARE
    assert seconds / 60 == pytest.approx(minutes, rel=0.2)


@pytest.mark.parametrize("name, picture_size, minutes", [("RTX 5090", (704, 960), 47), ("ZeroGPU large", SQUARE, 30)])
def test_the_avatar_takes_about_what_others_report(name: str, picture_size: tuple[int, int], minutes: float) -> None:
    found = plan(imagined_machine(card=find_card(name), ram_gib=64), picture_size=picture_size)
    assert min(found.height, found.width) == 704
    assert found.estimate.seconds / 60 == pytest.approx(minutes, rel=0.2)


# --- plans ----------------------------------------------------------------------------------------------------------


@given(
    machine=machines,
    size=st.sampled_from(costs.SIZES),
    frames=st.integers(5, 4000),
    picture=st.sampled_from([SQUARE, UPRIGHT, WIDE]),
)
@settings(deadline=None)
def test_a_plan_never_exceeds_the_machine(machine: Machine, size: int, frames: int, picture: tuple[int, int]) -> None:
    try:
        found = plan(machine, size=size, num_frames=frames, picture_size=picture)
    except PlanDoesNotFit:
        return
    cost = found.estimate
    shared = cost.peak_vram if machine.device == "mps" else 0
    assert cost.peak_vram <= (machine.free_vram or 0)
    assert cost.host_ram + shared <= machine.free_ram
    assert found.work.job_bytes <= machine.free_disk
    assert cost.seconds > 0 and cost.peak_vram >= 0 and cost.host_ram > 0
    assert cost.reason.text("en") and cost.reason.text("fr")


@given(
    frames=st.integers(5, 3000), more=st.integers(1, 500), size=st.sampled_from(costs.SIZES), steps=st.integers(1, 99)
)
@settings(deadline=None)
def test_time_and_memory_grow_with_what_is_asked(frames: int, more: int, size: int, steps: int) -> None:
    machine = imagined_machine(vram_gib=80, ram_gib=300)
    asked = {"num_frames": frames, "size": size, "steps": steps, "placement": Placement.RESIDENT}
    base = plan(machine, **asked)
    longer, deeper = (
        plan(machine, **{**asked, **change}) for change in ({"num_frames": frames + more}, {"steps": steps + 1})
    )
    smaller = [plan(machine, **{**asked, "size": one}) for one in costs.SIZES if one < size]
    assert longer.estimate.seconds >= base.estimate.seconds
    assert longer.estimate.host_ram >= base.estimate.host_ram or longer.num_frames > 129 >= frames
    assert deeper.estimate.seconds > base.estimate.seconds
    for one in smaller:
        assert one.estimate.seconds < base.estimate.seconds
        assert one.estimate.peak_vram <= base.estimate.peak_vram and one.estimate.host_ram <= base.estimate.host_ram


@given(vram=st.floats(5, 100), more=st.floats(0, 20))
@settings(deadline=None)
def test_more_graphics_memory_never_makes_a_clip_slower(vram: float, more: float) -> None:
    card = CARDS[0]
    times = []
    for gib in (vram, vram + more):
        machine = imagined_machine(card=card, vram_gib=gib, ram_gib=32)
        try:
            times.append(plan(machine, size=384).estimate.seconds)
        except PlanDoesNotFit:
            times.append(float("inf"))
    assert times[1] <= times[0] * 1.01  # the VAE's tiles overlap unequally


def test_a_placement_is_the_first_that_fits_and_tells_why() -> None:
    ways = {gib: plan(imagined_machine(vram_gib=gib, ram_gib=32)).placement for gib in (8, 12, 16, 24, 48, 80)}
    streamed, offloaded, resident = Placement.STREAM_BLOCKS, Placement.OFFLOAD_MODELS, Placement.RESIDENT
    assert ways == {8: streamed, 12: streamed, 16: streamed, 24: offloaded, 48: resident, 80: resident}
    assert plan(imagined_machine(vram_gib=48, ram_gib=32)).estimate.reason.key == "PlacementResident"
    assert plan(imagined_machine(vram_gib=24, ram_gib=32)).estimate.reason.key == "PlacementOffload"
    assert plan(imagined_machine(vram_gib=16, ram_gib=32)).estimate.reason.key == "PlacementBlocks"
    assert plan(imagined_machine(vram_gib=8, ram_gib=32)).estimate.reason.key == "PlacementPinned"
    assert plan(imagined_machine(vram_gib=8, ram_gib=10)).estimate.reason.key == "PlacementMapped"
    assert plan(imagined_machine(device="cpu", ram_gib=64)).estimate.reason.key == "PlacementProcessor"


def test_the_target_of_eight_gibibytes_is_met_on_paper() -> None:
    machine = Machine("cuda", "a card", 8 * GIBIBYTE, 13 * GIBIBYTE, 2**40)
    found = plan(machine, picture_size=(704, 768))
    assert (found.height, found.width) == (704, 768) and found.placement is Placement.STREAM_BLOCKS


def test_a_forced_placement_is_taken_or_refused_with_the_nearest() -> None:
    large, small = imagined_machine(vram_gib=80), imagined_machine(vram_gib=12)
    for placement in Placement:
        found = plan(large, placement=placement)
        assert found.placement is placement and placement.value in found.estimate.reason.text("fr")
    with pytest.raises(PlanDoesNotFit, match=r"kept as resident, take .* 11\.6 and .* nearest.* placement stream-bl"):
        plan(small, placement=Placement.RESIDENT)


def test_what_cannot_fit_is_refused_with_the_nearest_that_can() -> None:
    with pytest.raises(PlanDoesNotFit) as refusal:
        plan(imagined_machine(vram_gib=6))
    assert "--size 512" in refusal.value.text("en") and "--size 512" in refusal.value.text("fr")
    with pytest.raises(PlanDoesNotFit, match="draft engine"):
        plan(imagined_machine(vram_gib=2))
    with pytest.raises(PlanDoesNotFit, match=r"5\.2 s at"):  # shorter: the caches of a long clip lie in main memory
        plan(imagined_machine(vram_gib=24, ram_gib=8), num_frames=4000)


def test_a_miss_by_a_hair_does_not_read_as_none() -> None:
    machine = imagined_machine(vram_gib=80)
    least = needs(Work(129, 704, 704), Machine("cuda", "", 0, 2**40, 2**40), Placement.STREAM_BLOCKS).device
    with pytest.raises(PlanDoesNotFit) as refusal:
        plan(replace(machine, free_vram=least - 1), size=704)
    found = re.search(r"take ([\d.]+) GiB of graphics .*; ([\d.]+) and", str(refusal.value))
    assert found and float(found[1]) > float(found[2])


def test_disk_for_what_is_to_be_fetched_converted_and_made_is_part_of_the_plan() -> None:
    job = plan().work.job_bytes
    frames = 129 * 704 * 704 * 3
    assert frames < job < frames + 3 * 2**30
    machine = Machine("cuda", "A100", 70 * GIBIBYTE, 60 * GIBIBYTE, job + 10**9)
    assert plan(machine, download=10**9 - 1).estimate.download == 10**9 - 1
    for missing in ({"download": 10**9 + 1}, {"download": 1, "conversion": 10**9}):
        with pytest.raises(PlanDoesNotFit, match="HF_HOME"):
            plan(machine, **missing)


def test_a_clip_is_the_whole_picture_at_the_published_size() -> None:
    found = plan(picture_size=UPRIGHT)
    assert (found.height, found.width) == (1216, 704)
    assert (found.crop.left, found.crop.top, found.crop.width, found.crop.height) == (0, 0, 900, 1600)
    assert found.num_frames == 129 and found.fps == 25 and found.precision == "fp8" and found.tiling == "published"
    assert plan(imagined_machine(device="mps", ram_gib=128)).precision == "bf16"


def test_sizes_and_pictures_that_the_model_was_not_made_for_are_refused() -> None:
    for size in (0, 255, 257, 720):
        with pytest.raises(SizeUnsupported):
            plan(size=size)
    with pytest.raises(PictureThin):
        plan(picture_size=(1700, 100))
    assert costs.MAX_ASPECT == MAX_ASPECT and plan(picture_size=(1600, 100), size=256)
    with pytest.raises(ValueError, match="preset"):
        plan(preset="no such")
    with pytest.raises(ValueError, match="steps"):
        plan(steps=0)


def test_alternatives_are_faster_and_fit() -> None:
    machine = imagined_machine(vram_gib=8)
    asked = plan(machine)
    others = alternatives(machine, num_frames=129, picture_size=SQUARE)
    assert {min(one.height, one.width) for one in others} == {704, 512, 384, 256}
    assert {one.num_inference_steps for one in others} == {50, 30, 20}
    assert all(one.estimate.seconds < asked.estimate.seconds for one in others)
    few = imagined_machine(vram_gib=6)
    assert {one.num_inference_steps for one in alternatives(few, num_frames=129, picture_size=SQUARE)} == {50, 20}
    assert alternatives(imagined_machine(vram_gib=2), num_frames=129, picture_size=SQUARE) == []


def test_blocks_stay_in_the_room_that_a_clip_leaves() -> None:
    machine = imagined_machine(vram_gib=12)
    found = plan(machine)
    assert machine.free_vram is not None
    spare = costs.spare_vram(found.work, machine.free_vram)
    need = needs(Work(129, 704, 704), machine, Placement.STREAM_BLOCKS)
    blocks = 20 * costs.block_bytes("fp8")[0] + 40 * costs.block_bytes("fp8")[1]
    assert spare / blocks == pytest.approx(1 - need.streamed, rel=1e-6)
    assert costs.spare_vram(found.work, GIBIBYTE) == 0


def test_a_preset_costs_its_share_and_goes_only_where_it_can() -> None:
    published = plan().estimate.seconds
    assert plan(preset="reference").estimate.seconds > 1.5 * published
    assert plan(preset="skip-late-negative").estimate.seconds < 0.9 * published
    assert (
        Work(129, 704, 704, preset="reference").cache_bytes == 0 < Work(129, 704, 704, preset="mag-cache").cache_bytes
    )
    small = imagined_machine(vram_gib=8)
    with pytest.raises(PresetUnavailable):
        plan(small, preset="mag-cache")
    with pytest.raises(PresetUnavailable):
        plan(placement=Placement.STREAM_BLOCKS, preset="mag-cache")
    offered = [
        {one.preset for one in alternatives(machine, num_frames=129, picture_size=SQUARE)}
        for machine in (small, imagined_machine(vram_gib=80))
    ]
    assert "mag-cache" in offered[1] - offered[0] and "skip-late-negative" in offered[0]


@given(st.integers(6, 3000))
def test_a_little_shorter_is_told_where_it_takes_a_window_less(frames: int) -> None:
    fewer = costs.frames_of_fewer_windows(frames)
    windows = Work(frames, 256, 256).timeline.num_windows
    if fewer is None:
        assert frames < 30 or Work(frames - 25, 256, 256).timeline.num_windows == windows
    else:
        assert frames - 25 <= fewer < frames and Work(fewer, 256, 256).timeline.num_windows < windows
        assert Work(fewer + 1, 256, 256).timeline.num_windows == windows


def test_five_seconds_and_a_fifth_are_twice_as_dear_as_a_frame_less() -> None:
    assert costs.frames_of_fewer_windows(130) == 129 and costs.frames_of_fewer_windows(129) is None
    assert plan(num_frames=130).estimate.seconds > 1.8 * plan(num_frames=129).estimate.seconds


def test_fp8_products_take_their_own_rate() -> None:
    machine = imagined_machine(vram_gib=80)
    assert machine.rates is not None
    faster = replace(machine, rates=replace(machine.rates, matmul_fp8=2 * machine.rates.matmul))
    assert plan(faster, preset="fp8-matmul").estimate.seconds < plan(faster).estimate.seconds
    assert plan(machine, preset="fp8-matmul").estimate.seconds == plan(machine).estimate.seconds


def test_the_recommended_plan_is_one_that_people_wait_for() -> None:
    def choose(machine: Machine) -> tuple[AvatarPlan | None, str]:
        asked = {"num_frames": 129, "picture_size": SQUARE}
        every = [plan(machine), *alternatives(machine, **asked)]  # type: ignore[arg-type]
        chosen, why = costs.recommended(every)
        assert why.text("en") != why.text("fr")
        return chosen, why.key

    large, key = choose(imagined_machine(vram_gib=80))
    assert large is not None and key == "PlanRecommended"
    assert (large.height, large.num_inference_steps, large.preset) == (704, 50, "published")
    small, key = choose(imagined_machine(vram_gib=8))
    assert small is not None and key == "PlanRecommended" and small.estimate.seconds <= costs.PATIENCE
    assert small.num_inference_steps == 50 and small.height < 704
    base = imagined_machine(device="cpu", ram_gib=64)
    found = {choose(replace(base, rates=Rates(flops, flops, 1e10, 1e9)))[1] for flops in np.geomspace(1e10, 1e14, 40)}
    assert found == {
        "PlanRecommendedDraft",
        "PlanRecommendedFastest",
        "PlanRecommendedFewer",
        "PlanRecommended",
    }
    assert costs.recommended([]) == (None, costs.recommended([])[1])


# --- cards ----------------------------------------------------------------------------------------------------------


def test_cards_are_found_however_they_are_written() -> None:
    assert find_card("NVIDIA GeForce RTX 4090") == find_card("rtx-4090") == find_card("RTX4090")
    assert find_card("") is None and find_card("RTX 9999") is None


def test_a_size_has_the_rates_of_the_slowest_card_of_it() -> None:
    assert card_of_size(24).name == "RTX 3090" and card_of_size(23.9).gib == 16 and card_of_size(1) == CARDS[0]
    assert all(card.rates.assumed for card in (*CARDS, ZERO_GPU, cards.APPLE, cards.PROCESSOR))


def test_a_machine_that_was_not_measured_gets_its_cards_rates() -> None:
    known = Machine("cuda", "NVIDIA GeForce RTX 4090", 23 * GIBIBYTE, 30 * GIBIBYTE, 2**40)
    card = find_card("RTX 4090")
    assert card is not None and cards.assumed_rates(known) == card.rates
    unknown = Machine("cuda", "some card", int(23.5 * GIBIBYTE), 30 * GIBIBYTE, 2**40)
    assert cards.assumed_rates(unknown) == card_of_size(24).rates
    assert plan(unknown).estimate.seconds > plan(known).estimate.seconds


def test_planning_imports_no_torch() -> None:
    program = (
        "import sys; from pipeline.avatar import cards, costs\n"
        "costs.plan_avatar(cards.imagined_machine(vram_gib=8), num_frames=129, picture_size=(700, 700))\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True, timeout=60)
