"""Rotary tables beside the published ones: the reference frame at time -1."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_hunyuan_video_framepack import HunyuanVideoFramepackRotaryPosEmbed
from safetensors.torch import load_file

from tests.avatar.checks import Difference

TOLERANCE = 2e-5
SUM_TOLERANCE = 1e-3  # of a column of 71 808 cosines: 1.4e-8 each


def differences(folder: Path) -> Iterator[Difference]:
    """Whole tables at small sizes; rows and column sums at the real one."""
    if not (folder / "rope.safetensors").exists():
        return
    tensors = load_file(folder / "rope.safetensors")
    facts = json.loads((folder / "rope.json").read_text(encoding="utf-8"))

    def table(dims: list[int], frames: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        rope = HunyuanVideoFramepackRotaryPosEmbed(2, 1, dims, facts["theta"])
        return rope(torch.arange(-1, frames), height, width, torch.device("cpu"))

    for case in facts["cases"]:
        tables = table(case["rope_dims"], *case["latent_thw"])
        for name, found in zip(("cos", "sin"), tables, strict=True):
            wanted = tensors[f"{case['name']}.{name}"]
            yield Difference(f"rope {case['name']}.{name}", float((found - wanted).abs().max()), TOLERANCE)
    frames, height, width = facts["real"]["latent_thw"]
    prefix = f"real_{frames}x{height}x{width}"
    if f"{prefix}.idx" in tensors:
        for name, found in zip(("cos", "sin"), table([16, 56, 56], frames, height, width), strict=True):
            rows = (found[tensors[f"{prefix}.idx"]] - tensors[f"{prefix}.{name}_at_idx"]).abs().max()
            sums = (found.double().sum(0) - tensors[f"{prefix}.{name}_colsum_f64"]).abs().max()
            yield Difference(f"rope {prefix}.{name}_at_idx", float(rows), TOLERANCE)
            yield Difference(f"rope {prefix}.{name}_colsum", float(sums), SUM_TOLERANCE)
