"""The names of the published weights: those of the tiny models, of the real ones, and the table of diffusers' names."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKLHunyuanVideo
from safetensors import safe_open

from pipeline.avatar.weights import (
    SWAPPED,
    build_transformer,
    check_names,
    our_names,
    published_shapes,
    transformer_config_of,
    transformer_of,
    vae_config_of,
)
from pipeline.errors import WeightsMismatch
from tests.avatar.checks import Difference
from tests.avatar.checks.transformer import sizes_of

Shapes = Mapping[str, Sequence[int]]


def stored(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a golden, "sd." taken off their names."""
    with safe_open(path, "pt") as file:
        return {name.removeprefix("sd."): file.get_tensor(name) for name in file.keys() if name.startswith("sd.")}  # noqa: SIM118


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Their shapes."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def disagreeing(error: WeightsMismatch) -> int:
    """Names missing, unexpected and wrongly shaped."""
    return sum(int(error.values[f"num_{kind}"]) for kind in ("missing", "unexpected", "misshapen"))


def names_apart(found: Shapes, needed: Shapes) -> int:
    """How many names of `found` and `needed` do not go together."""
    try:
        check_names("", found, needed)
    except WeightsMismatch as error:
        return disagreeing(error)
    return 0


def tiny_transformer(folder: Path) -> int:
    """Names that a strict load of the tiny transformer refuses."""
    published = stored(folder / "transformer_tiny.safetensors")
    try:
        transformer_of(published, sizes_of(folder, published))
    except WeightsMismatch as error:
        return disagreeing(error)
    return 0


def full_transformer(shapes: Shapes, rope_axes_dim: Sequence[int]) -> tuple[int, int]:
    """Names apart and number of parameters, of the real size without its memory."""
    model = build_transformer(transformer_config_of(shapes, rope_axes_dim=rope_axes_dim))
    needed = published_shapes(shapes_of(model.state_dict()))
    return names_apart(shapes, needed), sum(parameter.numel() for parameter in model.parameters())


def vae_like(shapes: Shapes, norm_num_groups: int) -> tuple[int, int]:
    """Names apart and number of parameters of a VAE, without its memory."""
    with torch.device("meta"):
        vae = AutoencoderKLHunyuanVideo(**vae_config_of(shapes, norm_num_groups=norm_num_groups))
    return names_apart(shapes, shapes_of(vae.state_dict())), sum(parameter.numel() for parameter in vae.parameters())


def map_apart(table: Mapping) -> int:
    """Entries of the table of names that ours does not share; a guidance embedder is no part of this model."""
    wrong = 0
    for entry in table["map"]:
        if entry["ref"].startswith("guidance_in."):
            wrong += our_names(entry["ref"]) is not None
            continue
        ours = our_names(entry["ref"].replace("{i}", "3"))
        is_swapped = entry["ref"].rpartition(".")[0] in SWAPPED
        wrong += ours != tuple(name.replace("{i}", "3") for name in entry["diffusers"])
        wrong += is_swapped != (entry["op"] == "swap_halves")
    return wrong + sum(our_names(name.replace("{i}", "3")) is None for name in table["reference_only_keys"])


def differences(folder: Path) -> Iterator[Difference]:
    """Counts, so that each must be 0; parameters are counted as apart from the number recorded."""
    if (folder / "transformer_tiny.safetensors").exists() and (folder / "transformer_tiny.json").exists():
        yield Difference("transformer_tiny, names", tiny_transformer(folder), 0)
    if (folder / "vae_tiny.safetensors").exists() and (folder / "vae_tiny.json").exists():
        groups = json.loads((folder / "vae_tiny.json").read_text("utf-8"))["diffusers_config"]["norm_num_groups"]
        yield Difference("vae_tiny, names", vae_like(shapes_of(stored(folder / "vae_tiny.safetensors")), groups)[0], 0)
    if (folder / "keymap_diffusers.json").exists():
        table = json.loads((folder / "keymap_diffusers.json").read_text("utf-8"))
        yield Difference("keymap_diffusers, entries", map_apart(table), 0)
    if (folder / "manifest_transformer.json").exists():
        manifest = json.loads((folder / "manifest_transformer.json").read_text("utf-8"))
        shapes = {name: entry["shape"] for name, entry in manifest["keys"].items()}
        apart, total = full_transformer(shapes, manifest["config"]["rope_dim_list"])
        yield Difference("manifest_transformer, names", apart, 0)
        yield Difference("manifest_transformer, parameters", abs(total - manifest["total_params"]), 0)
    if (folder / "manifest_vae.json").exists():
        manifest = json.loads((folder / "manifest_vae.json").read_text("utf-8"))
        apart, total = vae_like(manifest["keys"], manifest["config"]["norm_num_groups"])
        yield Difference("manifest_vae, names", apart, 0)
        yield Difference("manifest_vae, parameters", abs(total - manifest["total_params"]), 0)
