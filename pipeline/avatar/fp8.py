"""Linear layers whose weights are kept in eight bits, with a scale: half the memory of bf16.

Knows layers alone: `weights.py` reads and writes the files they come from.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin
from torch import nn

FP8 = torch.float8_e4m3fn  # 4 bits of exponent, 3 of fraction, no infinities
FP8_MAX = 448.0  # the largest value of that type
MATMUL_MULTIPLE = 16  # sides of an fp8 matrix product on a GPU are multiples of this; Source: cuBLASLt, fp8 kernels
QUANTIZED_ROWS = 4096  # at a time; an input may be a GiB, of which no second copy is made; 120 MiB in the widest layer
FP8_MATMUL_CAPABILITY = (8, 9)  # Ada, Hopper (9, 0) and later multiply in fp8; Ampere (8, 6) does not

METHOD = "scaled_fp8"  # marks the config of a model with such layers: diffusers' `from_pretrained`, which would cast
# their weights without the scale, refuses what it does not know

# The layers that the published fp8 file keeps in eight bits: every linear of the blocks, modulation included, but none
# of the audio adapters, which are no part of the blocks there.
# Source: HunyuanVideo-Avatar, hymm_sp/modules/fp8_optimization.py.
IN_BLOCKS = re.compile(r"(single_)?transformer_blocks\.\d+\.(?!audio_adapter\.)")


def quantize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight in eight bits, by the published rule.

    Args:
        weight: Any shape, floating.

    Returns:
        The weight over its scale, float8_e4m3fn, same shape; and the scale, float32, no axes: max |weight| / 448, or
        1 where every weight is zero.

    Source: HunyuanVideo-Avatar, hymm_sp/modules/fp8_optimization.py.
    """
    largest = weight.abs().amax().float()
    scale = torch.where(largest > 0, largest / FP8_MAX, torch.ones_like(largest))
    return (weight.float() / scale).to(FP8), scale


class ScaledFp8Linear(nn.Linear):
    """A linear layer with its weight in fp8 and one scale: weight x `weight_scale` is what it stands for.

    The weight stays in fp8 and the scale in float32 whatever the module is cast to; the bias follows the cast. It is
    for inference: the weight has no gradient.

    Args:
        in_features: Width of what comes in.
        out_features: Width of what goes out.
        bias: Whether there is one.
        device: Where.
        dtype: Of the bias.
    """

    weight_scale: torch.Tensor
    scaled_matmul = False  # True: multiply in fp8; see `use_scaled_matmul`
    held: torch.Tensor | None = None  # the dequantised weight; see `dequantized_once`

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(in_features, out_features, bias, device="meta", dtype=dtype)  # nothing is drawn at random
        weight = torch.zeros(out_features, in_features, dtype=torch.uint8, device=device).view(FP8)
        self.weight = nn.Parameter(weight, requires_grad=False)
        if bias:
            self.bias = nn.Parameter(torch.zeros(out_features, dtype=dtype, device=device), requires_grad=False)
        self.register_buffer("weight_scale", torch.ones((), device=device))

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> "ScaledFp8Linear":
        """The same layer in eight bits; on the meta device, its shape."""
        weight, bias = linear.weight, linear.bias
        layer = cls(linear.in_features, linear.out_features, bias is not None, weight.device, weight.dtype)
        if not weight.is_meta:
            with torch.no_grad():
                quantized, scale = quantize(weight)
                layer.weight.data, layer.weight_scale = quantized, scale
                if bias is not None:
                    layer.bias.copy_(bias)
        return layer

    @property
    def compute_dtype(self) -> torch.dtype:
        """The dtype worked in, that of the bias: PEFT makes its adapters in it rather than in fp8."""
        return torch.bfloat16 if self.bias is None else self.bias.dtype

    def dequantized(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight in `dtype`, (out_features, in_features)."""
        return self.weight.to(dtype) * self.weight_scale.to(dtype)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., in_features) to (..., out_features), in the dtype of `input`."""
        if self.scaled_matmul and not (self.in_features % MATMUL_MULTIPLE or self.out_features % MATMUL_MULTIPLE):
            return self._multiply_in_fp8(input)
        has_held = self.held is not None and self.held.dtype == input.dtype
        return F.linear(input, self.held if has_held else self.dequantized(input.dtype), self.bias)

    def _multiply_in_fp8(self, input: torch.Tensor) -> torch.Tensor:
        """The product of two fp8 matrices, the input quantised on the way."""
        rows = input.reshape(-1, self.in_features)
        low, high = rows.aminmax()
        scale = (torch.maximum(-low, high) / FP8_MAX).clamp(min=torch.finfo(input.dtype).tiny)
        quantized = torch.empty_like(rows, dtype=FP8)
        for part, place in zip(rows.split(QUANTIZED_ROWS), quantized.split(QUANTIZED_ROWS), strict=True):
            place.copy_((part / scale).clamp_(-FP8_MAX, FP8_MAX))
        weight_scale = self.weight_scale.to(input.dtype).float()  # rounded as dequantisation rounds it
        product = torch._scaled_mm(
            quantized, self.weight.t(), scale_a=scale.float(), scale_b=weight_scale, out_dtype=input.dtype
        )
        if self.bias is not None:
            product.add_(self.bias)
        return product.reshape(*input.shape[:-1], self.out_features)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "ScaledFp8Linear":
        """Moves weight and scale with the rest of the module, shown to `fn` as integers so that no cast meets them."""
        weight, scale = self.weight, self.weight_scale
        self._parameters["weight"] = self._buffers["weight_scale"] = None  # passed over
        try:
            super()._apply(fn, recurse)
            moved, moved_scale = fn(weight.data.view(torch.uint8)), fn(scale.view(torch.int32))
        finally:
            self._parameters["weight"], self._buffers["weight_scale"] = weight, scale
        if moved.device != weight.device:
            self.weight = nn.Parameter(moved.view(FP8), requires_grad=False)
            self.weight_scale = moved_scale.view(torch.float32)
        return self


def swap_linears(model: nn.Module) -> list[str]:
    """Keep the linears of a transformer's blocks in eight bits, as the published fp8 file does.

    Real weights are quantised; on the meta device only the layers are made, for weights to be assigned. Layerwise
    casting leaves these layers alone from then on: it casts without a scale.

    Args:
        model: With `transformer_blocks` and `single_transformer_blocks`.

    Returns:
        The names of the layers.
    """
    linears = [(name, module) for name, module in model.named_modules() if type(module) is nn.Linear]
    names = []
    for name, linear in linears:
        if IN_BLOCKS.match(name):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, ScaledFp8Linear.from_linear(linear))
            names.append(name)
    patterns = getattr(model, "_skip_layerwise_casting_patterns", None) or []
    model._skip_layerwise_casting_patterns = [*patterns, f"^({'|'.join(map(re.escape, names))})$"]
    if isinstance(model, ConfigMixin):
        model.register_to_config(quantization_config={"quant_method": METHOD})
    return names


@contextmanager
def dequantized_once(modules: Iterable[nn.Module], dtype: torch.dtype) -> Iterator[None]:
    """Dequantise the fp8 layers of modules once for all that is computed inside, for inputs that come in many parts.

    They take the room of unquantised ones meanwhile. Layers that multiply in fp8 are left alone.

    Args:
        modules: Their weights stay the same inside.
        dtype: Of the inputs.
    """
    every = (layer for module in modules for layer in module.modules())
    layers = [layer for layer in every if isinstance(layer, ScaledFp8Linear) and not layer.scaled_matmul]
    try:
        for layer in layers:
            layer.held = layer.dequantized(dtype)
        yield
    finally:
        for layer in layers:
            layer.held = None


def has_scaled_matmul(device: torch.device | str) -> bool:
    """Whether `device` multiplies fp8 matrices: NVIDIA from Ada on; also the CPU, slowly, for tests."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.version.hip is None and torch.cuda.get_device_capability(device) >= FP8_MATMUL_CAPABILITY
    return device.type == "cpu"


def use_scaled_matmul(model: nn.Module, enabled: bool = True) -> int:
    """Multiply in fp8 rather than dequantise, in every fp8 layer of `model`.

    Faster where the device can, and less exact: the input is rounded to eight bits as well, with one scale for the
    whole tensor. The published model dequantises, and so does a pipeline until `use_scaled_matmul(pipe.transformer)`
    is called, with the transformer on the device it computes on.

    Returns:
        How many layers there are.

    Raises:
        ValueError: a layer stands on a device that cannot.
    """
    layers = [module for module in model.modules() if isinstance(module, ScaledFp8Linear)]
    for device in {layer.weight.device for layer in layers if enabled}:
        if not has_scaled_matmul(device):
            raise ValueError(f"fp8 matrix products need compute capability 8.9 or more, {device} has less")
    for layer in layers:
        layer.scaled_matmul = enabled
    return len(layers)
