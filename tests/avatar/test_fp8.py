"""Weights in fp8: what they stand for, and what moves, casts, offload and adapters leave of them."""

from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.avatar import fp8
from pipeline.avatar.fp8 import (
    FP8,
    FP8_MAX,
    ScaledFp8Linear,
    has_scaled_matmul,
    quantize,
    swap_linears,
    use_scaled_matmul,
)
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from tests.avatar.checks.fp8 import differences
from tests.avatar.memory import LiveBytes
from tests.avatar.published import TINY

GOLDENS = Path(__file__).parent / "goldens"
# Relative error of a whole product of normal numbers, |found - exact| / |exact|: e4m3 keeps 3 bits of fraction, so that
# a value is off by 2.6 % in the mean square; of two rounded factors, the weight's error is in both products compared.
MATMUL_TOLERANCE = 0.04


def a_layer(*, bias: bool = True, dtype: torch.dtype = torch.bfloat16) -> ScaledFp8Linear:
    torch.manual_seed(0)
    return ScaledFp8Linear.from_linear(nn.Linear(48, 64, bias=bias, dtype=dtype))


def an_input(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def a_transformer() -> HunyuanVideoAvatarTransformer3DModel:
    torch.manual_seed(0)
    return HunyuanVideoAvatarTransformer3DModel(**TINY).to(torch.bfloat16).eval()


def fp8_layers(model: nn.Module) -> list[ScaledFp8Linear]:
    return [module for module in model.modules() if isinstance(module, ScaledFp8Linear)]


@torch.no_grad()
def prediction(model: HunyuanVideoAvatarTransformer3DModel) -> torch.Tensor:
    latents, portrait = an_input(1, 4, 2, 4, 4), an_input(1, 4, 2, 4, 4)
    sample: torch.Tensor = model(
        hidden_states=latents,
        timestep=torch.tensor([500.0]),
        encoder_hidden_states=an_input(1, 6, 32),
        encoder_attention_mask=torch.ones(1, 6),
        pooled_projections=an_input(1, 24),
        image_latents=portrait,
        audio_embeds=an_input(1, 1, 5, 10, 5, 16),
        face_masks=torch.ones(1, 1, 1, 4, 4).to(torch.bfloat16),
        motion_exp=torch.full((1, 4), 30),
        motion_pose=torch.full((1, 4), 25),
        fps=torch.tensor([25.0]),
        return_dict=False,
    )[0]
    return sample


def test_quantisation_and_output_equal_the_published_ones_bit_for_bit():
    found = list(differences(GOLDENS))
    assert len(found) == 4
    assert all(one.found == 0 for one in found), found


def test_the_largest_weight_becomes_the_largest_fp8_value():
    weight, scale = quantize(torch.tensor([[0.5, -2.0], [0.25, 1.0]]))
    assert weight.dtype == FP8 and weight.float().abs().max() == FP8_MAX
    assert scale == 2.0 / FP8_MAX and scale.dtype == torch.float32


def test_weights_of_zero_stay_zero():
    weight, scale = quantize(torch.zeros(2, 3))
    assert torch.equal(weight.float(), torch.zeros(2, 3)) and scale == 1


@pytest.mark.parametrize("bias", [True, False])
def test_forward_is_the_product_with_the_dequantised_weight(bias):
    layer, x = a_layer(bias=bias), an_input(2, 7, 48)
    weight = layer.weight.float().to(torch.bfloat16) * layer.weight_scale.to(torch.bfloat16)
    assert torch.equal(layer(x), nn.functional.linear(x, weight, layer.bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_cast_changes_the_bias_and_leaves_weight_and_scale(dtype):
    layer = a_layer()
    weight, scale = layer.weight.view(torch.uint8).clone(), layer.weight_scale.clone()
    layer.to(dtype)
    assert layer.bias.dtype == dtype
    assert layer.weight.dtype == FP8 and torch.equal(layer.weight.view(torch.uint8), weight)
    assert layer.weight_scale.dtype == torch.float32 and torch.equal(layer.weight_scale, scale)
    assert layer(an_input(3, 48, dtype=dtype)).dtype == dtype


def test_a_move_takes_weight_and_scale_along():
    layer = a_layer().to("meta")
    assert layer.weight.is_meta and layer.weight_scale.is_meta and layer.weight.dtype == FP8
    layer.to_empty(device="cpu")
    assert layer.weight.device.type == layer.weight_scale.device.type == "cpu"
    assert layer.weight.dtype == FP8 and layer.weight_scale.dtype == torch.float32


def test_a_cast_keeps_the_order_of_the_names():
    layer = a_layer()
    layer.to(torch.float16)
    assert list(layer.state_dict()) == ["weight", "bias", "weight_scale"]
    assert list(dict(layer.named_parameters())) == ["weight", "bias"]


def test_a_saved_layer_loads_bit_for_bit(tmp_path):
    layer, x = a_layer(), an_input(5, 48)
    save_file(layer.state_dict(), tmp_path / "layer.safetensors")
    loaded = ScaledFp8Linear(48, 64, dtype=torch.bfloat16)
    loaded.load_state_dict(load_file(tmp_path / "layer.safetensors"))
    assert torch.equal(loaded(x), layer(x))


def test_weights_without_a_scale_are_refused():
    state = nn.Linear(48, 64).state_dict()
    with pytest.raises(RuntimeError, match="weight_scale"):
        ScaledFp8Linear(48, 64).load_state_dict(state)


@pytest.mark.parametrize("shape", [(48,), (1, 48), (2, 7, 48)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_product_in_fp8_is_near_the_dequantised_one(shape, bias):
    if not hasattr(torch, "_scaled_mm"):
        pytest.skip("this torch multiplies no fp8")
    layer, x = a_layer(bias=bias), an_input(*shape)
    exact = layer(x).float()
    assert use_scaled_matmul(layer) == 1
    found = layer(x)
    assert found.shape == exact.shape and found.dtype == torch.bfloat16
    assert 0 < (found.float() - exact).norm() / exact.norm() < MATMUL_TOLERANCE
    use_scaled_matmul(layer, enabled=False)
    assert torch.equal(layer(x).float(), exact)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_product_in_fp8_makes_no_copy_of_its_input_in_the_inputs_type(dtype, monkeypatch):
    monkeypatch.setattr(fp8, "QUANTIZED_ROWS", 16)
    layer, x = ScaledFp8Linear.from_linear(nn.Linear(256, 64, dtype=dtype)), an_input(500, 256, dtype=dtype)
    use_scaled_matmul(layer)
    with LiveBytes() as beside:
        product = layer(x)
    in_fp8, part, scales = x.numel(), 16 * 256 * x.itemsize, 64  # bytes
    assert in_fp8 < beside.peak <= in_fp8 + max(part, product.nbytes) + scales
    assert beside.live == product.nbytes


def test_the_product_in_fp8_does_not_depend_on_the_rows_quantised_at_once(monkeypatch):
    layer, x = a_layer(), an_input(50, 48)
    use_scaled_matmul(layer)
    whole = layer(x)
    monkeypatch.setattr(fp8, "QUANTIZED_ROWS", 7)
    assert torch.equal(layer(x), whole)


def test_the_product_in_fp8_of_zeros_is_the_bias():
    layer = a_layer()
    use_scaled_matmul(layer)
    assert torch.equal(layer(torch.zeros(2, 48, dtype=torch.bfloat16)), layer.bias.expand(2, -1))


def test_sides_that_fp8_kernels_cannot_take_are_dequantised():
    layer, x = ScaledFp8Linear.from_linear(nn.Linear(24, 40, dtype=torch.bfloat16)), an_input(3, 24)
    exact = layer(x)
    use_scaled_matmul(layer)
    assert torch.equal(layer(x), exact)


def test_a_device_without_fp8_products_is_refused():
    assert not has_scaled_matmul("meta")
    with pytest.raises(ValueError, match=r"8\.9"):
        use_scaled_matmul(a_layer().to("meta"))


def test_the_linears_of_the_blocks_are_swapped_and_none_of_the_adapters():
    model = a_transformer()
    linears = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    names = set(swap_linears(model))
    swapped = {name for name, module in model.named_modules() if isinstance(module, ScaledFp8Linear)}
    wanted = {
        name
        for name in linears
        if name.startswith(("transformer_blocks.", "single_transformer_blocks.")) and ".audio_adapter." not in name
    }
    assert names == swapped == wanted
    assert "transformer_blocks.1.norm1.linear" in names and "transformer_blocks.1.audio_adapter.to_q" in linears


def test_a_swapped_model_predicts_what_its_dequantised_weights_predict():
    model = a_transformer()
    names = swap_linears(model)
    found = prediction(model)
    reference = a_transformer()
    for name in names:
        reference.get_submodule(name).weight.data = model.get_submodule(name).dequantized(torch.bfloat16)
    assert torch.equal(found, prediction(reference))


def test_layerwise_casting_leaves_fp8_layers_alone():
    model = a_transformer()
    swap_linears(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.enable_layerwise_casting(torch.float8_e5m2, torch.bfloat16)
    adapter = model.transformer_blocks[1].audio_adapter.to_q.weight
    assert adapter.dtype == torch.float8_e5m2, "casting did nothing"
    prediction(model)
    for name, layer in model.named_modules():
        if isinstance(layer, ScaledFp8Linear):
            assert layer.weight.dtype == FP8 and layer.bias.dtype == torch.bfloat16
            assert torch.equal(layer.weight.view(torch.uint8), before[f"{name}.weight"].view(torch.uint8))
            assert torch.equal(layer.bias, before[f"{name}.bias"])


@pytest.mark.parametrize("kind", ["leaf_level", "block_level", "disk"])
def test_group_offload_changes_nothing(kind, tmp_path):
    model = a_transformer()
    swap_linears(model)
    wanted = prediction(model)
    cpu = torch.device("cpu")
    if kind == "leaf_level":
        model.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type=kind)
    else:
        path = str(tmp_path) if kind == "disk" else None
        model.enable_group_offload(
            onload_device=cpu,
            offload_device=cpu,
            offload_type="block_level",
            num_blocks_per_group=1,
            offload_to_disk_path=path,
        )
    assert torch.equal(prediction(model), wanted)
    assert all(layer.weight.dtype == FP8 for layer in fp8_layers(model))


def test_a_lora_is_added_in_the_models_own_type_and_taken_off_again():
    model = a_transformer()
    names = swap_linears(model)
    wanted = prediction(model)
    config = peft.LoraConfig(r=2, target_modules=r".*transformer_blocks.*attn\.to_q", init_lora_weights=False)
    model.add_adapter(config)
    adapted = model.transformer_blocks[0].attn.to_q
    assert isinstance(adapted.base_layer, ScaledFp8Linear) and adapted.base_layer.weight.dtype == FP8
    assert {weight.dtype for name, weight in adapted.named_parameters() if "lora_" in name} == {torch.bfloat16}
    assert not torch.equal(prediction(model), wanted)
    model.disable_lora()
    assert torch.equal(prediction(model), wanted)
    assert len(fp8_layers(model)) == len(names)


def test_a_lora_cannot_be_fused_into_fp8():
    model = a_transformer()
    swap_linears(model)
    model.add_adapter(peft.LoraConfig(r=2, target_modules=r".*transformer_blocks.*attn\.to_q", init_lora_weights=False))
    with pytest.raises((RuntimeError, NotImplementedError)):
        model.fuse_lora()


def test_from_pretrained_refuses_a_swapped_model(tmp_path):
    model = a_transformer()
    swap_linears(model)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="scaled_fp8"):
        HunyuanVideoAvatarTransformer3DModel.from_pretrained(tmp_path)


@pytest.mark.gpu
def test_the_product_in_fp8_is_near_the_dequantised_one_on_a_gpu():
    if not (torch.cuda.is_available() and has_scaled_matmul("cuda")):
        pytest.skip("needs a CUDA GPU of compute capability 8.9 or more")
    layer = ScaledFp8Linear.from_linear(nn.Linear(3072, 3072, dtype=torch.bfloat16)).to("cuda")
    for rows in (1, 17, 4096):
        x = an_input(rows, 3072).to("cuda")
        exact = layer(x).float()
        use_scaled_matmul(layer)
        assert 0 < (layer(x).float() - exact).norm() / exact.norm() < MATMUL_TOLERANCE
        use_scaled_matmul(layer, enabled=False)
