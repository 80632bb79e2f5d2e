"""The denoiser: what it listens to, and that diffusers' tools work on it. Its numbers stand in test_parity.py."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from diffusers import ContextParallelConfig, FasterCacheConfig, FirstBlockCacheConfig, MagCacheConfig
from diffusers.hooks import PyramidAttentionBroadcastConfig, TaylorSeerCacheConfig, apply_group_offloading
from diffusers.models._modeling_parallel import ParallelConfig
from peft import LoraConfig

from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from tests.avatar.builds import make_inputs, make_transformer
from tests.avatar.processes import forkserver

TOLERANCE = 2e-5
Inputs = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def model() -> HunyuanVideoAvatarTransformer3DModel:
    return make_transformer()


@pytest.fixture(scope="module")
def expected(model: HunyuanVideoAvatarTransformer3DModel) -> torch.Tensor:
    return sample_of(model, make_inputs())


def sample_of(model: HunyuanVideoAvatarTransformer3DModel, inputs: Inputs, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs, **options).sample


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def test_two_speakers_are_the_sum_of_what_each_adds_to_a_token(model: HunyuanVideoAvatarTransformer3DModel) -> None:
    adapter = model.transformer_blocks[1].audio_adapter
    tokens, states = torch.randn(1, 4 * 6, 16), torch.randn(1, 2, 4, 16, 16)
    weights = torch.rand(1, 2, 4, 6)
    with torch.no_grad():
        together = adapter(tokens, states, weights, 0)
        alone = [adapter(tokens, states[:, one : one + 1], weights[:, one : one + 1], 0) for one in (0, 1)]
    assert apart(together, alone[0] + alone[1]) < 1e-6
    assert apart(together, alone[0]) > 0.01


def test_a_second_speaker_with_an_empty_mask_changes_nothing(
    model: HunyuanVideoAvatarTransformer3DModel, expected: torch.Tensor
) -> None:
    inputs = make_inputs()
    inputs["audio_embeds"] = inputs["audio_embeds"].repeat(1, 2, 1, 1, 1, 1)
    inputs["face_masks"] = torch.cat([inputs["face_masks"], torch.zeros_like(inputs["face_masks"])], dim=1)
    assert apart(sample_of(model, inputs), expected) < 1e-6


def test_masks_may_take_turns_from_frame_to_frame(model: HunyuanVideoAvatarTransformer3DModel) -> None:
    inputs = make_inputs(num_speakers=2)
    held = inputs["face_masks"].expand(-1, -1, 3, -1, -1)
    turns = torch.tensor([[1.0, 0, 1], [0, 1, 0]])[None, :, :, None, None] * held
    assert apart(sample_of(model, {**inputs, "face_masks": held}), sample_of(model, inputs)) == 0
    assert apart(sample_of(model, {**inputs, "face_masks": turns}), sample_of(model, inputs)) > 1e-3


@pytest.mark.parametrize("name", ["audio_embeds", "image_latents", "face_masks", "pooled_projections", "timestep"])
def test_every_input_tells(model: HunyuanVideoAvatarTransformer3DModel, expected: torch.Tensor, name: str) -> None:
    inputs = make_inputs()
    assert apart(sample_of(model, {**inputs, name: inputs[name] * 0.5}), expected) > 1e-4


@pytest.mark.parametrize("name", ["motion_exp", "motion_pose", "fps"])
def test_motion_and_frame_rate_tell(
    model: HunyuanVideoAvatarTransformer3DModel, expected: torch.Tensor, name: str
) -> None:
    inputs = make_inputs()
    assert apart(sample_of(model, {**inputs, name: inputs[name] - 5}), expected) > 1e-4


def test_last_block_alone_gives_the_whole_again(
    model: HunyuanVideoAvatarTransformer3DModel, expected: torch.Tensor
) -> None:
    inputs = make_inputs()
    with torch.no_grad():
        kept = model(**inputs, return_last_block_input=True).last_block_input
    nothing = {**inputs, "hidden_states": torch.zeros_like(inputs["hidden_states"])}
    assert apart(sample_of(model, nothing, last_block_input=kept), expected) == 0


def test_a_tuple_holds_what_the_output_holds(
    model: HunyuanVideoAvatarTransformer3DModel, expected: torch.Tensor
) -> None:
    with torch.no_grad():
        assert len(model(**make_inputs(), return_dict=False)) == 1
        sample, kept = model(**make_inputs(), return_dict=False, return_last_block_input=True)
    assert apart(sample, expected) == 0 and len(kept) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda i: {**i, "hidden_states": i["hidden_states"][..., :5]}, "multiples of 2, got 4×5"),
        (lambda i: {**i, "image_latents": i["image_latents"][:, :, :1]}, r"image_latents must be \(1, 4, 3, 4, 6\)"),
        (lambda i: {**i, "audio_embeds": i["audio_embeds"][:, :, 1:]}, r"must be \(1, 1, 9, 10, 5, 16\), got .*8"),
        (lambda i: {**i, "audio_embeds": i["audio_embeds"][:, 0]}, r"must be \(1, 1, 9, 10, 5, 16\), got \(1, 9"),
        (lambda i: {**i, "face_masks": i["face_masks"][..., :2, :3]}, r"or \(1, 1, 3, 4, 6\), got \(1, 1, 1, 2, 3\)"),
        (lambda i: {**i, "face_masks": i["face_masks"].repeat(1, 2, 1, 1, 1)}, r"face_masks must be \(1, 1, 1, 4, 6\)"),
    ],
)
def test_shapes_that_do_not_go_together_are_named(
    model: HunyuanVideoAvatarTransformer3DModel, change: Callable[[Inputs], Inputs], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        sample_of(model, change(make_inputs()))


def test_texts_of_different_length_are_not_run_together(model: HunyuanVideoAvatarTransformer3DModel) -> None:
    one, other = make_inputs(), make_inputs(seed=2)
    other["encoder_attention_mask"][:, 6] = 0
    both = {name: torch.cat([one[name], other[name]]) for name in one}
    with pytest.raises(ValueError, match=r"got \[8, 7\]: run them apart"):
        sample_of(model, both)


# --- diffusers' tools -------------------------------------------------------------------------------------------------


def steps_of(model: HunyuanVideoAvatarTransformer3DModel, num_steps: int = 6) -> list[torch.Tensor]:
    """A few steps of two branches, each in its own cache context."""
    samples = []
    for step in range(num_steps):
        for branch, seed in (("cond", 1), ("uncond", 2)):
            inputs = make_inputs(seed=seed)
            inputs["timestep"] = torch.tensor([1000.0 - 150 * step])
            with model.cache_context(branch):
                samples.append(sample_of(model, inputs))
    return samples


CACHES: dict[str, Callable[[dict[str, float]], Any]] = {
    "first block": lambda _: FirstBlockCacheConfig(threshold=10),
    "taylorseer": lambda _: TaylorSeerCacheConfig(cache_interval=3, disable_cache_before_step=1),
    "magcache": lambda _: MagCacheConfig(
        mag_ratios=[1.0] * 6, num_inference_steps=6, retention_ratio=0.2, threshold=1.0, max_skip_steps=2
    ),
    "pyramid attention": lambda now: PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(0, 1000),
        spatial_attention_block_identifiers=("transformer_blocks",),
        current_timestep_callback=lambda: now["timestep"],
    ),
    "faster": lambda now: FasterCacheConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 900),
        unconditional_batch_skip_range=5,
        unconditional_batch_timestep_skip_range=(-1, 0),
        is_guidance_distilled=True,
        spatial_attention_block_identifiers=("transformer_blocks",),
        current_timestep_callback=lambda: now["timestep"],
    ),
}


@pytest.mark.parametrize("name", CACHES)
def test_caches_of_diffusers_work_and_go_without_a_trace(name: str) -> None:
    model, now = make_transformer(), {"timestep": 1000.0}
    model.register_forward_pre_hook(
        lambda _, __, given: now.update(timestep=float(given["timestep"][0])), with_kwargs=True, prepend=True
    )
    plain = steps_of(model)
    model.enable_cache(CACHES[name](now))
    assert model.is_cache_enabled
    cached = steps_of(model)
    model.disable_cache()
    assert apart(cached[0], plain[0]) < TOLERANCE, "the first step is computed in full"
    assert max(map(apart, cached, plain)) > 1e-4, "nothing was skipped"
    assert all(torch.isfinite(sample).all() for sample in cached)
    assert max(map(apart, steps_of(model), plain)) == 0


@pytest.mark.parametrize("kind", ["block_level", "leaf_level"])
def test_group_offload_changes_no_number(expected: torch.Tensor, kind: str) -> None:
    model = make_transformer()
    device = torch.device("cpu")
    options = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    apply_group_offloading(model, onload_device=device, offload_device=device, offload_type=kind, **options)
    assert apart(sample_of(model, make_inputs()), expected) == 0


def test_group_offload_to_files_changes_no_number(expected: torch.Tensor, tmp_path: Path) -> None:
    model = make_transformer()
    device = torch.device("cpu")
    apply_group_offloading(
        model,
        onload_device=device,
        offload_device=device,
        offload_type="block_level",
        num_blocks_per_group=1,
        offload_to_disk_path=str(tmp_path),
    )
    assert list(tmp_path.glob("*.safetensors"))
    assert apart(sample_of(model, make_inputs()), expected) < 1e-6


def test_layerwise_casting_stores_blocks_in_eight_bits_and_leaves_the_rest(expected: torch.Tensor) -> None:
    model = make_transformer()
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert kinds["transformer_blocks.1.audio_adapter.to_q.weight"] == torch.float8_e4m3fn
    for name in ("ref_proj.weight", "ref_embedder.proj.weight", "audio_proj.proj1.weight", "x_embedder.proj.weight"):
        assert kinds[name] == torch.float32, name
    cast = sample_of(model, make_inputs())
    assert 1e-4 < apart(cast, expected) < float(expected.abs().max())


def test_lora_is_added_scaled_switched_and_removed(expected: torch.Tensor) -> None:
    model = make_transformer()
    layers = ["to_q", "audio_adapter.to_out"]
    model.add_adapter(LoraConfig(r=2, target_modules=layers, init_lora_weights=False), adapter_name="style")
    changed = sample_of(model, make_inputs())
    assert any("audio_adapter.to_out.lora_A" in name for name, _ in model.named_parameters())
    assert apart(changed, expected) > 1e-3
    assert apart(sample_of(model, make_inputs(), attention_kwargs={"scale": 0.0}), expected) < TOLERANCE
    model.disable_adapters()
    assert apart(sample_of(model, make_inputs()), expected) < TOLERANCE
    model.enable_adapters()
    assert apart(sample_of(model, make_inputs()), changed) < TOLERANCE
    model.delete_adapters("style")
    assert apart(sample_of(model, make_inputs()), expected) < TOLERANCE


def test_repeated_blocks_compile_without_a_graph_break(expected: torch.Tensor) -> None:
    model = make_transformer()
    torch._dynamo.reset()
    model.compile_repeated_blocks(fullgraph=True, backend="eager")
    assert apart(sample_of(model, make_inputs()), expected) < TOLERANCE


def test_blocks_that_compile_by_name_are_those_that_are_there() -> None:
    model = make_transformer()
    kinds = {type(module).__name__ for module in model.modules()}
    assert set(model._repeated_blocks) <= kinds
    assert "HunyuanVideoAvatarTransformerBlock" in model._no_split_modules


def test_saved_in_shards_and_loaded_again_it_gives_the_same_numbers(expected: torch.Tensor, tmp_path: Path) -> None:
    model = make_transformer()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    again = HunyuanVideoAvatarTransformer3DModel.from_pretrained(tmp_path).eval()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    assert apart(sample_of(again, make_inputs()), expected) < TOLERANCE  # weights in a file lie at other addresses
    again.save_config(tmp_path / "again")
    first, second = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, tmp_path / "again"))
    assert {**second, "_name_or_path": ""} == {**first, "_name_or_path": ""}
    assert "guidance_embeds" not in first, "HunyuanVideo's, which this model lacks"


def test_the_network_computes_in_half_precision(model: HunyuanVideoAvatarTransformer3DModel) -> None:
    half = make_transformer().to(torch.bfloat16)
    inputs = {
        name: value.to(torch.bfloat16) if value.is_floating_point() and name not in ("timestep", "fps") else value
        for name, value in make_inputs().items()
    }
    sample = sample_of(half, inputs)
    assert sample.dtype == torch.bfloat16
    assert apart(sample.float(), sample_of(model, make_inputs())) < 0.2


# --- several processes ------------------------------------------------------------------------------------------------


def _run_in_parallel(rank: int, port: int, anything: bool, num_text: int, folder: str) -> None:
    """One of two processes: its own share of the tokens, the whole result."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    model = make_transformer()
    cp_config = ContextParallelConfig(ulysses_degree=2, ulysses_anything=anything)

    def resolve(config: Any) -> ParallelConfig:  # diffusers' own counts accelerators, of which a CPU has none
        whole = ParallelConfig(context_parallel_config=config)
        mesh = torch.distributed.device_mesh.init_device_mesh(
            "cpu", mesh_shape=config.mesh_shape, mesh_dim_names=config.mesh_dim_names
        )
        whole.setup(rank, 2, torch.device("cpu"), mesh=mesh)
        model._parallel_config = whole
        return whole

    model._resolve_parallel_config = resolve
    model.enable_parallelism(config=cp_config)
    inputs = make_inputs(num_text=num_text, num_speakers=2)
    with torch.no_grad():
        output = model(**inputs, return_last_block_input=True)
        cached = model(**inputs, last_block_input=output.last_block_input).sample
    torch.save((output.sample, cached, output.last_block_input), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("anything", "num_text"), [(False, 8), (True, 7)])
def test_two_processes_share_one_window(anything: bool, num_text: int, tmp_path: Path) -> None:
    model, inputs = make_transformer(), make_inputs(num_text=num_text, num_speakers=2)
    with torch.no_grad():
        expected = model(**inputs, return_last_block_input=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.start_processes(
        _run_in_parallel,
        (port, anything, num_text, str(tmp_path)),
        nprocs=2,
        start_method=forkserver().get_start_method(),
    )
    for rank in (0, 1):
        sample, cached, kept = torch.load(tmp_path / f"{rank}.pt")
        assert apart(sample, expected.sample) < TOLERANCE
        assert apart(cached, expected.sample) < TOLERANCE, "the last block on what was gathered"
        assert [part.shape for part in kept] == [part.shape for part in expected.last_block_input]
