"""The published checkpoints: opened, checked name by name, turned into ours, kept as sharded safetensors.

Knows names and shapes; how shards are written is `shards.py`, where a model is placed is decided elsewhere.
"""

import inspect
import json
import math
import pickle
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from diffusers import AutoencoderKLHunyuanVideo
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.avatar.fp8 import FP8, METHOD, swap_linears
from pipeline.avatar.presets import PUBLISHED_FOLDERS
from pipeline.avatar.shards import (
    DTYPES,
    INDEX,
    Entry,
    OnProgress,
    is_written,
    reason,
    write_shards,
)
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from pipeline.errors import FileMissing, WeightsMismatch, WeightsNotFound, WeightsUnreadable, WeightsUnsupported
from pipeline.files import write_json
from pipeline.texts import LANGUAGES, say
from pipeline.units import GIBIBYTE

Tensors = Mapping[str, torch.Tensor]
Shapes = Mapping[str, Sequence[int]]
Model = TypeVar("Model", bound=torch.nn.Module)

TRANSFORMER_FILES = ("*_model_states.pt",)  # in a folder; Source: HunyuanVideo-Avatar, hymm_sp/inference.py
VAE_FILES = ("pytorch_model.pt", "pytorch_model.safetensors", "diffusion_pytorch_model.safetensors")
WRAPPERS = ("module", "ema", "state_dict")  # keys under which a published file may hold its tensors
AUDIO_PARTS = ("audio_proj.", "audio_adapter_blocks.")  # what HunyuanVideo itself has not
QUANTO_ENDINGS = ("._data", "._scale")  # of names in files that optimum-quanto wrote, as Wan2GP's int8 conversion is
# Width of a head -> for time, height, width. Source: hymm_sp/config.py for 128; 16 is that of `tiny.py`.
ROPE_AXES_DIM = {128: (16, 56, 56), 16: (4, 6, 6)}
AUDIO_WINDOW, AUDIO_BLOCKS = 10, 5  # encoder positions and hidden states a frame; the weights tell their product alone
CONFIG = HunyuanVideoAvatarTransformer3DModel.config_name  # config.json, in transformers' folders as well
NAMES_SHOWN = 3  # of missing, unexpected and misshapen names, in an error

# Published layer -> ours, "{i}" being the number of a block. One published layer may hold several of ours, one under
# the other; ours are given from the top. Source: HunyuanVideo-Avatar, hymm_sp/modules/models_audio.py.
LAYERS: dict[str, tuple[str, ...]] = {
    "img_in.proj": ("x_embedder.proj",),
    "ref_in.proj": ("ref_embedder.proj",),
    "before_proj": ("ref_proj",),
    "txt_in.input_embedder": ("context_embedder.proj_in",),
    "txt_in.t_embedder.mlp.0": ("context_embedder.time_text_embed.timestep_embedder.linear_1",),
    "txt_in.t_embedder.mlp.2": ("context_embedder.time_text_embed.timestep_embedder.linear_2",),
    "txt_in.c_embedder.linear_1": ("context_embedder.time_text_embed.text_embedder.linear_1",),
    "txt_in.c_embedder.linear_2": ("context_embedder.time_text_embed.text_embedder.linear_2",),
    "txt_in.individual_token_refiner.blocks.{i}.norm1": ("context_embedder.token_refiner.refiner_blocks.{i}.norm1",),
    "txt_in.individual_token_refiner.blocks.{i}.norm2": ("context_embedder.token_refiner.refiner_blocks.{i}.norm2",),
    "txt_in.individual_token_refiner.blocks.{i}.self_attn_qkv": (
        "context_embedder.token_refiner.refiner_blocks.{i}.attn.to_q",
        "context_embedder.token_refiner.refiner_blocks.{i}.attn.to_k",
        "context_embedder.token_refiner.refiner_blocks.{i}.attn.to_v",
    ),
    "txt_in.individual_token_refiner.blocks.{i}.self_attn_proj": (
        "context_embedder.token_refiner.refiner_blocks.{i}.attn.to_out.0",
    ),
    "txt_in.individual_token_refiner.blocks.{i}.mlp.fc1": (
        "context_embedder.token_refiner.refiner_blocks.{i}.ff.net.0.proj",
    ),
    "txt_in.individual_token_refiner.blocks.{i}.mlp.fc2": (
        "context_embedder.token_refiner.refiner_blocks.{i}.ff.net.2",
    ),
    "txt_in.individual_token_refiner.blocks.{i}.adaLN_modulation.1": (
        "context_embedder.token_refiner.refiner_blocks.{i}.norm_out.linear",
    ),
    "time_in.mlp.0": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in.mlp.2": ("time_text_embed.timestep_embedder.linear_2",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
    "motion_exp.mlp.0": ("time_text_embed.motion_exp_embedder.linear_1",),
    "motion_exp.mlp.2": ("time_text_embed.motion_exp_embedder.linear_2",),
    "motion_pose.mlp.0": ("time_text_embed.motion_pose_embedder.linear_1",),
    "motion_pose.mlp.2": ("time_text_embed.motion_pose_embedder.linear_2",),
    "fps_proj.mlp.0": ("time_text_embed.fps_embedder.linear_1",),
    "fps_proj.mlp.2": ("time_text_embed.fps_embedder.linear_2",),
    "audio_proj.proj1": ("audio_proj.proj1",),
    "audio_proj.proj2": ("audio_proj.proj2",),
    "audio_proj.proj3": ("audio_proj.proj3",),
    "audio_proj.norm": ("audio_proj.norm",),
    "audio_adapter_blocks.{i}.norm1": ("transformer_blocks.{i}.audio_adapter.norm1",),
    "audio_adapter_blocks.{i}.norm2": ("transformer_blocks.{i}.audio_adapter.norm2",),
    "audio_adapter_blocks.{i}.to_q": ("transformer_blocks.{i}.audio_adapter.to_q",),
    "audio_adapter_blocks.{i}.to_kv": ("transformer_blocks.{i}.audio_adapter.to_kv",),
    "audio_adapter_blocks.{i}.to_out": ("transformer_blocks.{i}.audio_adapter.to_out",),
    "double_blocks.{i}.img_mod.linear": ("transformer_blocks.{i}.norm1.linear",),
    "double_blocks.{i}.img_attn_qkv": (
        "transformer_blocks.{i}.attn.to_q",
        "transformer_blocks.{i}.attn.to_k",
        "transformer_blocks.{i}.attn.to_v",
    ),
    "double_blocks.{i}.img_attn_q_norm": ("transformer_blocks.{i}.attn.norm_q",),
    "double_blocks.{i}.img_attn_k_norm": ("transformer_blocks.{i}.attn.norm_k",),
    "double_blocks.{i}.img_attn_proj": ("transformer_blocks.{i}.attn.to_out.0",),
    "double_blocks.{i}.img_mlp.fc1": ("transformer_blocks.{i}.ff.net.0.proj",),
    "double_blocks.{i}.img_mlp.fc2": ("transformer_blocks.{i}.ff.net.2",),
    "double_blocks.{i}.txt_mod.linear": ("transformer_blocks.{i}.norm1_context.linear",),
    "double_blocks.{i}.txt_attn_qkv": (
        "transformer_blocks.{i}.attn.add_q_proj",
        "transformer_blocks.{i}.attn.add_k_proj",
        "transformer_blocks.{i}.attn.add_v_proj",
    ),
    "double_blocks.{i}.txt_attn_q_norm": ("transformer_blocks.{i}.attn.norm_added_q",),
    "double_blocks.{i}.txt_attn_k_norm": ("transformer_blocks.{i}.attn.norm_added_k",),
    "double_blocks.{i}.txt_attn_proj": ("transformer_blocks.{i}.attn.to_add_out",),
    "double_blocks.{i}.txt_mlp.fc1": ("transformer_blocks.{i}.ff_context.net.0.proj",),
    "double_blocks.{i}.txt_mlp.fc2": ("transformer_blocks.{i}.ff_context.net.2",),
    "single_blocks.{i}.modulation.linear": ("single_transformer_blocks.{i}.norm.linear",),
    "single_blocks.{i}.linear1": (
        "single_transformer_blocks.{i}.attn.to_q",
        "single_transformer_blocks.{i}.attn.to_k",
        "single_transformer_blocks.{i}.attn.to_v",
        "single_transformer_blocks.{i}.proj_mlp",
    ),
    "single_blocks.{i}.linear2": ("single_transformer_blocks.{i}.proj_out",),
    "single_blocks.{i}.q_norm": ("single_transformer_blocks.{i}.attn.norm_q",),
    "single_blocks.{i}.k_norm": ("single_transformer_blocks.{i}.attn.norm_k",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    "final_layer.linear": ("proj_out",),
}
SWAPPED = frozenset(("final_layer.adaLN_modulation.1",))  # published (shift, scale), diffusers (scale, shift)


def _numbered(layer: str) -> tuple[str, int | None]:
    """A layer's name with "{i}" for the number of its block, and the number."""
    number = re.search(r"(?<=blocks\.)\d+", layer)
    if number is None:
        return layer, None
    return layer[: number.start()] + "{i}" + layer[number.end() :], int(number[0])


PUBLISHED = {ours: published for published, parts in LAYERS.items() for ours in parts}


def our_names(published: str, adapter_layers: Sequence[int] | None = None) -> tuple[str, ...] | None:
    """Our names of a published transformer tensor, from the top of its rows; None when it is not one.

    Args:
        published: Its name.
        adapter_layers: Our double blocks with an audio adapter, which the published adapters, numbered by themselves,
            belong to; None for 1, 3, 5 and on.
    """
    layer, _, kind = published.rpartition(".")
    pattern, number = _numbered(layer)
    if number is not None and pattern.startswith("audio_adapter_blocks."):
        if adapter_layers is not None and number >= len(adapter_layers):
            return None
        number = number * 2 + 1 if adapter_layers is None else adapter_layers[number]
    return tuple(f"{name.replace('{i}', str(number))}.{kind}" for name in LAYERS.get(pattern, ())) or None


def published_name(ours: str, adapter_layers: Sequence[int] | None = None) -> str | None:
    """The published tensor that holds ours; None when it is not one of the transformer's. Arguments as `our_names`."""
    layer, _, kind = ours.rpartition(".")
    pattern, number = _numbered(layer)
    published = PUBLISHED.get(pattern)
    if published is None:
        return None
    if number is not None and published.startswith("audio_adapter_blocks."):
        number = number // 2 if adapter_layers is None else list(adapter_layers).index(number)
    return f"{published.replace('{i}', str(number))}.{kind}"


def adapter_layers_of(ours: Iterable[str]) -> list[int]:
    """The double blocks with an audio adapter, from the names of our tensors."""
    matches = (re.match(r"transformer_blocks\.(\d+)\.audio_adapter\.", name) for name in ours)
    return sorted({int(match[1]) for match in matches if match})


def published_shapes(ours: Shapes) -> dict[str, tuple[int, ...]]:
    """Names and shapes that a published file must have to fill a transformer of these.

    Raises:
        ValueError: a name that no published tensor holds.
    """
    needed: dict[str, tuple[int, ...]] = {}
    adapter_layers = adapter_layers_of(ours)
    for name, shape in ours.items():
        published = published_name(name, adapter_layers)
        if published is None:
            raise ValueError(f"no published tensor holds {name}")
        rows = needed.get(published, (0,))[0]
        needed[published] = (rows + shape[0], *shape[1:])
    return needed


def convert_transformer(published: Tensors, num_rows: Mapping[str, int]) -> Iterator[tuple[str, torch.Tensor]]:
    """Our tensors of a published state dict, as views where they can be.

    Args:
        published: Tensors under their published names.
        num_rows: Rows of each of our tensors, by name.
    """
    adapter_layers = adapter_layers_of(num_rows)
    for name, tensor in published.items():
        ours = our_names(name, adapter_layers) or ()
        if name.rpartition(".")[0] in SWAPPED:
            tensor = torch.cat(tensor.chunk(2)[::-1])
        parts = tensor.split([num_rows[part] for part in ours]) if len(ours) > 1 else [tensor]
        yield from zip(ours, parts, strict=False)


def _side(shapes: Shapes, name: str, axis: int, default: int) -> int:
    """Length of one side of a tensor; `default` where the tensor or the side is missing."""
    shape = shapes.get(name, ())
    return int(shape[axis]) if len(shape) > axis and shape[axis] > 0 else default


def transformer_config_of(
    published: Shapes,
    *,
    rope_axes_dim: Sequence[int] | None = None,
    audio_window: int = AUDIO_WINDOW,
    audio_blocks: int = AUDIO_BLOCKS,
    audio_adapter_layers: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The sizes of a transformer, read from its published shapes; the published size where a name is missing.

    Args:
        published: Shape of every published tensor, by name.
        rope_axes_dim: Widths of the rotary embedding for time, height and width, which no weight tells; needed where
            heads are not 128 wide.
        audio_window: Encoder positions in a frame's slice of speech features; the weights tell only its product with
            `audio_blocks` and the encoder's width.
        audio_blocks: Hidden states of the audio encoder.
        audio_adapter_layers: Double blocks with an audio adapter, which no weight tells; None for 1, 3, 5 and on.

    Returns:
        Arguments of `HunyuanVideoAvatarTransformer3DModel`.

    Raises:
        ValueError: `rope_axes_dim` is needed, or does not add up to the width of a head.
    """

    def side(name: str, axis: int, default: int) -> int:
        return _side(published, name, axis, default)

    def count(prefix: str, default: int) -> int:
        numbers = {name[len(prefix) :].partition(".")[0] for name in published if name.startswith(prefix)}
        return len(numbers) or default

    dim = side("img_in.proj.weight", 0, 3072)
    head_dim = side("double_blocks.0.img_attn_q_norm.weight", 0, 128)
    rope = tuple(rope_axes_dim) if rope_axes_dim is not None else ROPE_AXES_DIM.get(head_dim)
    if rope is None or sum(rope) != head_dim:
        raise ValueError(f"rope_axes_dim must be given, adding up to {head_dim}, the width of a head; got {rope}")
    patch_t, patch = side("img_in.proj.weight", 2, 1), side("img_in.proj.weight", 3, 2)
    return {
        "in_channels": side("img_in.proj.weight", 1, 16),
        "out_channels": side("final_layer.linear.weight", 0, 64) // (patch_t * patch * patch),
        "num_attention_heads": max(dim // head_dim, 1),
        "attention_head_dim": head_dim,
        "num_layers": count("double_blocks.", 20),
        "num_single_layers": count("single_blocks.", 40),
        "num_refiner_layers": count("txt_in.individual_token_refiner.blocks.", 2),
        "mlp_ratio": side("double_blocks.0.img_mlp.fc1.weight", 0, 4 * dim) / dim,
        "patch_size": patch,
        "patch_size_t": patch_t,
        "text_embed_dim": side("txt_in.input_embedder.weight", 1, 4096),
        "pooled_projection_dim": side("vector_in.in_layer.weight", 1, 768),
        "rope_axes_dim": rope,
        "audio_window": audio_window,
        "audio_blocks": audio_blocks,
        "audio_channels": side("audio_proj.proj1.weight", 1, 19200) // (audio_window * audio_blocks),
        "audio_hidden_dim": side("audio_proj.proj1.weight", 0, 1024),
        "audio_tokens": max(side("audio_proj.proj3.weight", 0, 4 * dim) // dim, 1),
        "audio_adapter_dim": side("audio_adapter_blocks.0.to_q.weight", 0, 1024),
        "audio_adapter_layers": None if audio_adapter_layers is None else list(audio_adapter_layers),
    }


def vae_config_of(shapes: Shapes, *, norm_num_groups: int = 32) -> dict[str, Any]:
    """The sizes of the VAE, read from its shapes; the published size where a name is missing.

    Args:
        shapes: Shape of every tensor, by name.
        norm_num_groups: Of its normalisations, which no weight tells.

    Returns:
        Arguments of diffusers' `AutoencoderKLHunyuanVideo`.
    """
    widths: list[int] = []
    while width := _side(shapes, f"encoder.down_blocks.{len(widths)}.resnets.0.conv1.conv.weight", 0, 0):
        widths.append(width)
    resnets = {name.split(".")[4] for name in shapes if name.startswith("encoder.down_blocks.0.resnets.")}
    return {
        "in_channels": _side(shapes, "encoder.conv_in.conv.weight", 1, 3),
        "out_channels": _side(shapes, "decoder.conv_out.conv.weight", 0, 3),
        "latent_channels": _side(shapes, "post_quant_conv.weight", 0, 16),
        "block_out_channels": tuple(widths) or (128, 256, 512, 512),
        "down_block_types": ("HunyuanVideoDownBlock3D",) * (len(widths) or 4),
        "up_block_types": ("HunyuanVideoUpBlock3D",) * (len(widths) or 4),
        "layers_per_block": len(resnets) or 2,
        "norm_num_groups": norm_num_groups,
    }


def open_published(path: Path, patterns: Sequence[str] = TRANSFORMER_FILES) -> dict[str, torch.Tensor]:
    """The tensors of a weight file, mapped: nothing is read before it is used.

    Nothing that a file holds is ever executed: `.pt` files are opened with `weights_only`.

    Args:
        path: A `.pt` or `.safetensors` file, or a folder with one that fits `patterns`.
        patterns: What is looked for in a folder; the first that fits any file counts.

    Returns:
        The tensors by name, the keys "module", "ema" or "state_dict" around them taken off.

    Raises:
        FileMissing: there is no such file or folder.
        WeightsNotFound: the folder holds none, or more than one.
        WeightsUnreadable: the file is empty, cut short, of another kind than its name says, or holds other things than
            tensors.
    """
    path = find_published(path, patterns)
    opened = _open_safetensors(path) if path.suffix == ".safetensors" else _open_torch(path)
    for key in WRAPPERS:
        if isinstance(opened, Mapping) and isinstance(opened.get(key), Mapping):
            opened = opened[key]
            break
    if not isinstance(opened, Mapping) or not opened:
        _unreadable(path, "WeightsNotNamed")
    for name, tensor in opened.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            _unreadable(path, "WeightsNotTensors", entry=str(name), kind=type(tensor).__name__)
    return dict(opened)


def find_published(path: Path, patterns: Sequence[str] = TRANSFORMER_FILES) -> Path:
    """The weight file at `path`, or the one in the folder `path`; errors as `open_published`."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileMissing(name=str(path))
    found: list[Path] = []
    for pattern in patterns:
        found = found or sorted(path.glob(pattern))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "-"
        raise WeightsNotFound(folder=str(path), needed=" / ".join(patterns), found=names)
    return found[0]


def _unreadable(path: Path, key: str, error: Exception | None = None, **values: Any) -> NoReturn:
    """Raise for a file, the reason being a text's name."""
    raise WeightsUnreadable(name=path.name, bytes=path.stat().st_size, **reason(key, **values)) from error


def _open_torch(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        _unreadable(path, "WeightsEmpty")
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        _unreadable(path, "WeightsAreSafetensors")
    if start.startswith(b"\x80"):
        _unreadable(path, "WeightsOldFormat")
    if not start.startswith(b"PK"):
        _unreadable(path, "WeightsNotPytorch")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        _unreadable(path, "WeightsUnsafe", error, found=named[1] if named else "?")
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        _unreadable(path, "WeightsCutShort", error)


def _open_safetensors(path: Path) -> Any:
    if path.stat().st_size == 0:
        _unreadable(path, "WeightsEmpty")
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        with path.open("rb") as file:
            start = file.read(9)
        _unreadable(path, "WeightsCutShort" if start[8:] == b"{" else "WeightsNotSafetensors", error)


def open_published_vae(path: Path) -> dict[str, torch.Tensor]:
    """The VAE's tensors, "vae." taken out of their names; else as `open_published`."""
    return {name.replace("vae.", ""): tensor for name, tensor in open_published(path, VAE_FILES).items()}


def _shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_names(component: str, found: Shapes, needed: Shapes, advice: str = "WeightsAdvice") -> None:
    """Raise WeightsMismatch unless names and shapes are exactly those needed; `advice` is a text's name."""
    wrong = [name for name in needed if name in found and tuple(found[name]) != tuple(needed[name])]
    _mismatch(
        component,
        missing=[name for name in needed if name not in found],
        unexpected=[name for name in found if name not in needed],
        misshapen=[f"{name} {list(found[name])} ≠ {list(needed[name])}" for name in wrong],
        advice=advice,
    )


def _mismatch(
    component: str,
    missing: Sequence[str] = (),
    unexpected: Sequence[str] = (),
    misshapen: Sequence[str] = (),
    advice: str = "WeightsAdvice",
) -> None:
    if not missing and not unexpected and not misshapen:
        return

    def first(names: Sequence[str]) -> str:
        return ", ".join(names[:NAMES_SHOWN]) + (" …" if len(names) > NAMES_SHOWN else "") or "-"

    raise WeightsMismatch(
        component=component,
        num_missing=len(missing),
        missing=first(missing),
        num_unexpected=len(unexpected),
        unexpected=first(unexpected),
        num_misshapen=len(misshapen),
        misshapen=first(misshapen),
        **{f"advice_{language}": say(advice, language) for language in LANGUAGES},
    )


def check_transformer(name: str, published: Tensors, scales: Tensors | None, config: Mapping[str, Any]) -> None:
    """Whether a published transformer is whole, of a kind we read, and of these sizes.

    Args:
        name: Of the file, for the errors.
        published: Its tensors.
        scales: Of the layers in fp8, by the layer's published name; None when it has none.
        config: As `transformer_config_of` reads it.

    Raises:
        WeightsUnsupported: int8 weights, another type, fp8 without its scales or scales without fp8.
        WeightsMismatch: a name is missing, unexpected or wrongly shaped, in the file or in the map of scales.
    """
    _check_types(name, published)
    needed = published_shapes(_shapes(build_transformer(config).state_dict()))
    is_plain = "double_blocks.0.img_attn_qkv.weight" in published and not any(
        key.startswith(AUDIO_PARTS) for key in published
    )
    advice = "WeightsPlainHunyuanVideo" if is_plain else "WeightsAdvice"
    check_names("transformer", _shapes(published), needed, advice)

    layers = {key.removesuffix(".weight") for key, tensor in published.items() if tensor.dtype == FP8}
    if layers and scales is None:
        raise WeightsUnsupported(name=name, **reason("WeightsFp8WithoutMap", count=len(layers)))
    if scales is None:
        return
    if not layers:
        raise WeightsUnsupported(name=name, **reason("WeightsMapWithoutFp8", count=len(scales)))
    swapped = {published_name(f"{layer}.weight") for layer in swap_linears(build_transformer(config))}
    expected = {str(key).removesuffix(".weight") for key in swapped}
    _mismatch(
        "transformer (fp8)",
        missing=sorted(expected - layers),
        unexpected=sorted(layers - expected),
        advice="WeightsFp8",
    )
    _mismatch(
        "transformer (fp8 map)",
        missing=sorted(layers - set(scales)),
        unexpected=sorted(set(scales) - layers),
        misshapen=[f"{key} {list(scale.shape)} ≠ []" for key, scale in scales.items() if scale.numel() != 1],
        advice="WeightsFp8",
    )
    for layer, scale in scales.items():
        if not (math.isfinite(scale.item()) and scale.item() > 0):
            raise WeightsUnsupported(
                name=name, **reason("WeightsScaleImpossible", layer=layer, value=str(scale.item()))
            )


def _check_types(name: str, tensors: Tensors) -> None:
    for key, tensor in tensors.items():
        if tensor.dtype in (torch.int8, torch.uint8) or key.endswith(QUANTO_ENDINGS):
            raise WeightsUnsupported(name=name, **reason("WeightsInt8", entry=key))
        if tensor.dtype not in DTYPES:
            raise WeightsUnsupported(name=name, **reason("WeightsOfType", entry=key, kind=str(tensor.dtype)))


def build_transformer(config: Mapping[str, Any], *, fp8: bool = False) -> HunyuanVideoAvatarTransformer3DModel:
    """A transformer without memory, on the meta device; with `fp8`, its block linears as ScaledFp8Linear."""
    with torch.device("meta"):
        model = HunyuanVideoAvatarTransformer3DModel(**config)
        if fp8:
            swap_linears(model)
    return model.eval()


def _fill(model: Model, component: str, tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> Model:
    """Give the model these tensors, unchanged where their type is `dtype`; fp8 and its scales keep their own."""
    check_names(component, _shapes(tensors), _shapes(model.state_dict()))
    if not isinstance(dtype, torch.dtype):  # None would leave a mixture of types, which does not run
        raise TypeError(f"dtype must be a torch.dtype, got {dtype!r}")
    kept = {name for name, tensor in model.state_dict().items() if tensor.dtype == FP8}
    kept |= {name for name in tensors if name.endswith(".weight_scale")}
    tensors = {name: tensor if name in kept else tensor.to(dtype) for name, tensor in tensors.items()}
    model.load_state_dict(tensors, strict=True, assign=True)
    return model


def load_published_transformer(
    path: Path,
    *,
    scale_map: Path | None = None,
    dtype: torch.dtype = torch.bfloat16,
    rope_axes_dim: Sequence[int] | None = None,
) -> HunyuanVideoAvatarTransformer3DModel:
    """The transformer of a published file as it is, without converting it first.

    Args:
        path: As in `open_published`.
        scale_map: As in `convert_transformer_file`.
        dtype: As in `load_transformer`.
        rope_axes_dim: As in `transformer_config_of`.

    Raises:
        FileMissing, WeightsNotFound, WeightsUnreadable: as `open_published`.
        WeightsUnsupported, WeightsMismatch: as `check_transformer`.
    """
    published = open_published(path)
    scales = None if scale_map is None else open_published(scale_map)
    config = transformer_config_of(_shapes(published), rope_axes_dim=rope_axes_dim)
    check_transformer(Path(path).name, published, scales, config)
    return transformer_of(published, config, scales=scales, dtype=dtype)


def transformer_of(
    published: Tensors,
    config: Mapping[str, Any],
    *,
    scales: Tensors | None = None,
    dtype: torch.dtype = torch.float32,
) -> HunyuanVideoAvatarTransformer3DModel:
    """A transformer with published tensors in it, strictly, sharing their memory where it can.

    Args:
        published: Tensors under their published names.
        config: Its sizes, as `transformer_config_of` reads them.
        scales: Of the layers in fp8.
        dtype: What all but fp8 is cast to.

    Raises:
        WeightsMismatch: a name is missing, unexpected or wrongly shaped.
    """
    model = build_transformer(config, fp8=scales is not None)
    needed = {name: shape for name, shape in _shapes(model.state_dict()).items() if not name.endswith(".weight_scale")}
    check_names("transformer", _shapes(published), published_shapes(needed))
    tensors = dict(convert_transformer(published, {name: shape[0] for name, shape in needed.items()}))
    tensors |= dict(_convert_scales(scales or {}))
    return _fill(model, "transformer", tensors, dtype)


def _convert_scales(scales: Tensors) -> Iterator[tuple[str, torch.Tensor]]:
    """A scale for each of our layers: one for a whole packed layer is repeated for each of its parts."""
    for layer, scale in scales.items():
        for ours in our_names(f"{layer}.weight") or ():
            yield f"{ours}_scale", scale.float().reshape(())


def load_transformer(folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> HunyuanVideoAvatarTransformer3DModel:
    """The transformer of a folder that `convert_transformer_file` wrote, bf16 or fp8, mapped from its files.

    `from_pretrained` opens the folder of a bf16 file as well; it refuses that of an fp8 file, whose weights it would
    cast without their scales.

    Args:
        folder: With `config.json`, the shards and their index.
        dtype: What all but fp8 is cast to.

    Raises:
        WeightsNotFound: there is no config or no index: never converted, or not to the end.
        WeightsUnreadable: a shard is cut short or no safetensors file.
        WeightsMismatch: a name is missing, unexpected or wrongly shaped.
    """
    config, tensors = _open_converted(Path(folder))
    method = config.get("quantization_config", {}).get("quant_method")
    known = inspect.signature(HunyuanVideoAvatarTransformer3DModel.__init__).parameters
    model = build_transformer({key: config[key] for key in known if key in config}, fp8=method == METHOD)
    return _fill(model, "transformer", tensors, dtype)


def load_vae(folder: Path, *, dtype: torch.dtype = torch.float16) -> AutoencoderKLHunyuanVideo:
    """The VAE of a folder that `convert_vae_file` wrote, strictly.

    `from_pretrained` opens the folder as well, and gives random numbers to a weight that is missing.

    Args:
        folder: As in `load_transformer`.
        dtype: What all is cast to; published: float16.

    Raises:
        WeightsNotFound, WeightsUnreadable, WeightsMismatch: as `load_transformer`.
    """
    config, tensors = _open_converted(Path(folder))
    with torch.device("meta"):
        vae = AutoencoderKLHunyuanVideo.from_config(config)
    return _fill(vae.eval(), "vae", tensors, dtype)


def _open_converted(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The config of a converted folder and its tensors, mapped; errors as `load_transformer`."""
    for name in (CONFIG, INDEX):
        if not (folder / name).is_file():
            raise WeightsNotFound(folder=str(folder), needed=name, found="-")
    weight_map = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
    tensors: dict[str, torch.Tensor] = {}
    for name in sorted(set(weight_map.values())):
        if not (folder / name).is_file():
            raise WeightsNotFound(folder=str(folder), needed=name, found="-")
        tensors |= _open_safetensors(folder / name)
    return json.loads((folder / CONFIG).read_text("utf-8")), tensors


def load_encoder(model_class: Any, folder: Path, component: str, *, dtype: torch.dtype) -> Any:
    """A model of transformers from its published folder, strictly, and never from the network.

    transformers' own `from_pretrained` fills what is missing or wrongly shaped with random weights and a line in the
    log, and without a config builds the model at its class's default size. Here each of these is an error.

    Names that the model has no place for are passed over: published folders hold more than the part that is used
    (CLIP's vision tower beside its text model, Whisper's `proj_out`, `position_ids` of older versions), and a model
    with all of its own weights computes the same beside them.

    Args:
        model_class: A class of transformers with `from_pretrained`.
        folder: With `config.json` and the weights.
        component: What to call it in an error, "text_encoder" say.
        dtype: Of the model.

    Returns:
        The model, for inference.

    Raises:
        WeightsNotFound: there is no config, no weights, or one of their files is missing.
        WeightsUnreadable: a file is damaged.
        WeightsMismatch: a weight is missing or wrongly shaped.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise WeightsNotFound(folder=str(folder), needed=CONFIG, found=_listed(folder))
    try:
        model, found = model_class.from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        _explain(folder, error)
        raise
    _mismatch(
        component,
        missing=sorted(found["missing_keys"]),  # tied weights are not counted as missing
        misshapen=[f"{name} {list(had)} ≠ {list(needed)}" for name, had, needed in sorted(found["mismatched_keys"])],
        advice="WeightsOfEncoder",
    )
    return model.eval()


def _explain(folder: Path, error: Exception) -> None:
    """Raise for the file that made transformers give up, where it is one."""
    try:
        json.loads((folder / CONFIG).read_text("utf-8"))
    except ValueError:
        _unreadable(folder / CONFIG, "WeightsCutShort", error)
    needed: set[str] = set()
    for index in [*folder.glob("*.safetensors.index.json")] or [*folder.glob("*.index.json")]:
        try:
            needed |= set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            _unreadable(index, "WeightsCutShort", error)
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))  # the others are not looked at
    absent = sorted(name for name in needed if not (folder / name).is_file())
    if absent or not files:
        raise WeightsNotFound(
            folder=str(folder), needed=(absent or ["model.safetensors"])[0], found=_listed(folder)
        ) from error
    for path in files:
        open_published(path)


def _listed(folder: Path) -> str:
    """The names in a folder, the first few."""
    names = sorted(path.name for path in folder.glob("*"))
    return ", ".join(names[:NAMES_SHOWN]) + (" …" if len(names) > NAMES_SHOWN else "") or "-"


def convert_transformer_file(
    source: Path,
    target_folder: Path,
    *,
    scale_map: Path | None = None,
    shard_gib: float = 1.0,
    on_progress: OnProgress | None = None,
    rope_axes_dim: Sequence[int] | None = None,
) -> Path:
    """Turn a published transformer, once, into a folder that `load_transformer` opens.

    Every tensor keeps its type; fp8 weights keep their bytes and gain `<layer>.weight_scale`. Memory holds about one
    shard at most, whatever the file's size. Interrupted, it goes on with the first shard that is not whole.

    Args:
        source: The published `.pt` file, or its folder.
        target_folder: Where `config.json`, the shards and their index go; complete once the index is there.
        scale_map: For the fp8 file, the `.pt` file with its scales.
        shard_gib: Size of a shard at most, GiB.
        on_progress: Told bytes done and bytes in all.
        rope_axes_dim: As in `transformer_config_of`.

    Returns:
        `target_folder`.

    Raises:
        FileMissing, WeightsNotFound, WeightsUnreadable: as `open_published`.
        WeightsUnsupported, WeightsMismatch: as `check_transformer`.
        SpaceMissing, DiskFull: as `shards.write_shards`.
    """
    source, target_folder = find_published(source), Path(target_folder)
    published = open_published(source)
    scales = None if scale_map is None else open_published(scale_map)
    config = transformer_config_of(_shapes(published), rope_axes_dim=rope_axes_dim)
    check_transformer(source.name, published, scales, config)
    model = build_transformer(config, fp8=scales is not None)
    our_shapes = _shapes(model.state_dict())
    num_rows = {name: shape[0] for name, shape in our_shapes.items() if shape}
    our_scales = dict(_convert_scales(scales or {}))
    adapter_layers = adapter_layers_of(our_shapes)
    entries = []
    for name, tensor in published.items():
        for ours in our_names(name, adapter_layers) or ():
            entries.append(Entry(ours, tensor.dtype, our_shapes[ours]))
            if f"{ours}_scale" in our_scales:
                entries.append(Entry(f"{ours}_scale", torch.float32, ()))
    del published  # its pages; every shard opens the file anew

    def read(names: Iterable[str]) -> Iterator[torch.Tensor]:
        opened = open_published(source)
        for name in names:
            if name in our_scales:
                yield our_scales[name]
            else:
                holder = str(published_name(name, adapter_layers))
                yield dict(convert_transformer({holder: opened[holder]}, num_rows))[name]

    _save_config(model, target_folder)
    facts = _facts(source, scale_map, shard_gib)
    shard_bytes = int(shard_gib * GIBIBYTE)
    write_shards(entries, read, target_folder, source=facts, shard_bytes=shard_bytes, on_progress=on_progress)
    return target_folder


def convert_vae_file(
    source: Path,
    target_folder: Path,
    *,
    norm_num_groups: int = 32,
    shard_gib: float = 1.0,
    on_progress: OnProgress | None = None,
) -> Path:
    """Turn the published VAE, once, into a folder that diffusers' `AutoencoderKLHunyuanVideo.from_pretrained` opens.

    Args:
        source: `pytorch_model.pt` or a `.safetensors` file, or its folder.
        target_folder: As in `convert_transformer_file`.
        norm_num_groups: As in `vae_config_of`.
        shard_gib: As in `convert_transformer_file`.
        on_progress: As in `convert_transformer_file`.

    Returns:
        `target_folder`.

    Raises:
        FileMissing, WeightsNotFound, WeightsUnreadable: as `open_published`.
        WeightsUnsupported: weights of a type we do not read.
        WeightsMismatch: a name is missing, unexpected or wrongly shaped.
        SpaceMissing, DiskFull: as `shards.write_shards`.
    """
    source, target_folder = find_published(source, VAE_FILES), Path(target_folder)
    published = open_published_vae(source)
    _check_types(source.name, published)
    with torch.device("meta"):
        vae = AutoencoderKLHunyuanVideo(**vae_config_of(_shapes(published), norm_num_groups=norm_num_groups))
    check_names("vae", _shapes(published), _shapes(vae.state_dict()))
    entries = [Entry(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in published.items()]
    del published

    def read(names: Collection[str]) -> Iterator[torch.Tensor]:
        opened = open_published_vae(source)
        return (opened[name] for name in names)

    _save_config(vae, target_folder)
    facts = _facts(source, None, shard_gib)
    shard_bytes = int(shard_gib * GIBIBYTE)
    write_shards(entries, read, target_folder, source=facts, shard_bytes=shard_bytes, on_progress=on_progress)
    return target_folder


def convert_published(
    folder: Path,
    converted: Path | None = None,
    *,
    precision: str = "bf16",
    rope_axes_dim: Sequence[int] | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Path, Path]:
    """Convert transformer and VAE of the published repository, where that was not done before.

    Args:
        folder: The repository's, or its `ckpts`.
        converted: Where the converted models go; None for a folder `converted` beside the published ones.
        precision: "bf16" or "fp8": which of the transformer's files.
        rope_axes_dim: As in `transformer_config_of`.
        on_progress: Told bytes done and bytes in all, of one model after the other.

    Returns:
        The folders that `load_transformer` and `load_vae` open.

    Raises:
        ValueError: another precision.
        WeightsError, FileMissing: a part is missing, damaged or another model's.
        SpaceMissing, DiskFull: the converted models do not fit.
    """
    if precision not in ("bf16", "fp8"):
        raise ValueError(f'precision must be "bf16" or "fp8", got {precision!r}')
    folder = published_root(folder)
    converted = folder / "converted" if converted is None else Path(converted)
    transformer_folder, vae_folder = converted / f"transformer_{precision}", converted / "vae"
    source = folder / PUBLISHED_FOLDERS["transformer"]
    source /= f"mp_rank_00_model_states{'_fp8' if precision == 'fp8' else ''}.pt"
    scale_map = source.with_name(f"{source.stem}_map.pt") if precision == "fp8" else None
    if not is_converted(source, transformer_folder, scale_map=scale_map):
        convert_transformer_file(
            source, transformer_folder, scale_map=scale_map, rope_axes_dim=rope_axes_dim, on_progress=on_progress
        )
    vae = folder / PUBLISHED_FOLDERS["vae"]
    if not is_converted(vae, vae_folder):
        config = vae / AutoencoderKLHunyuanVideo.config_name
        told = json.loads(config.read_text("utf-8")) if config.is_file() else {}
        groups = {"norm_num_groups": told["norm_num_groups"]} if "norm_num_groups" in told else {}
        convert_vae_file(vae, vae_folder, on_progress=on_progress, **groups)
    return transformer_folder, vae_folder


def published_root(folder: Path) -> Path:
    """The folder that holds all parts: the published repository's `ckpts`, given itself or the repository's."""
    return Path(folder) / "ckpts" if (Path(folder) / "ckpts").is_dir() else Path(folder)


def is_converted(source: Path, target_folder: Path, *, scale_map: Path | None = None, shard_gib: float = 1.0) -> bool:
    """Whether `target_folder` holds what converting `source` would give, so that it need not be done again.

    A source that was replaced since, even under its old name, is noticed by its size and time of change. One that is
    gone, to save room perhaps, cannot be compared: what was made of it counts.

    Args:
        source: The transformer's or the VAE's, as given to `convert_transformer_file` or `convert_vae_file`.
        target_folder: The same.
        scale_map: The same.
        shard_gib: The same.
    """
    target_folder = Path(target_folder)
    try:
        facts = _facts(find_published(source, (*TRANSFORMER_FILES, *VAE_FILES)), scale_map, shard_gib)
    except (FileMissing, WeightsNotFound, FileNotFoundError):
        facts = None
    return (target_folder / CONFIG).is_file() and is_written(target_folder, facts)


def _save_config(model: HunyuanVideoAvatarTransformer3DModel | AutoencoderKLHunyuanVideo, folder: Path) -> None:
    """As diffusers' `save_config`, but whole or not at all, since another process may be reading it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, json.loads(model.to_json_string()))


def _facts(source: Path, scale_map: Path | None, shard_gib: float) -> dict[str, Any]:
    """What tells one conversion from another."""
    files = [path for path in (source, scale_map) if path is not None]
    return {
        "files": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in map(Path, files)],
        "shard_gib": shard_gib,
    }
