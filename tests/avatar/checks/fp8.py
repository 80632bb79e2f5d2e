"""One linear layer in fp8: its quantisation, its dequantised weight and its output, bit for bit."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

from pipeline.avatar.fp8 import ScaledFp8Linear, quantize
from tests.avatar.checks import Difference


def golden_layer(tensors: dict[str, torch.Tensor]) -> ScaledFp8Linear:
    """The golden's layer, its weights loaded."""
    rows, columns = tensors["in.weight_fp8"].shape
    layer = ScaledFp8Linear(columns, rows, dtype=tensors["in.bias_bf16"].dtype)
    state = {
        "weight": tensors["in.weight_fp8"],
        "bias": tensors["in.bias_bf16"],
        "weight_scale": tensors["in.scale_fp32"].reshape(()),
    }
    layer.load_state_dict(state)
    return layer


def differences(folder: Path) -> Iterator[Difference]:
    """fp8_tiny; every tolerance is 0, as bf16 products of the same numbers are the same."""
    if not (folder / "fp8_tiny.safetensors").exists():
        return
    tensors = load_file(folder / "fp8_tiny.safetensors")
    weight, scale = quantize(tensors["in.weight_original_fp32"])
    bytes_apart = weight.view(torch.uint8) != tensors["in.weight_fp8_as_uint8"]
    yield Difference("fp8_tiny, bytes quantised", int(bytes_apart.sum()), 0)
    yield Difference("fp8_tiny, scale", float((scale - tensors["in.scale_fp32"]).abs().max()), 0)
    layer = golden_layer(tensors)
    dequantized = layer.dequantized(torch.bfloat16)
    apart = (dequantized - tensors["out.weight_dequant_bf16"]).abs().max()
    yield Difference("fp8_tiny, dequantised weight", float(apart), 0)
    with torch.no_grad():
        output = layer(tensors["in.x_bf16"])
    yield Difference("fp8_tiny, output", float((output - tensors["out.y_bf16"]).abs().max()), 0)
