"""The denoiser beside the published one: outputs, every block, the cached step, and text through to the video."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from pipeline.avatar.weights import transformer_config_of, transformer_of
from tests.avatar.checks import Difference

TOLERANCE = 2e-5  # Source: the goldens' README; diffusers' blocks were measured at 2.9e-6
INPUTS = {  # published name -> ours
    "x": "hidden_states",
    "t": "timestep",
    "text_states": "encoder_hidden_states",
    "text_mask": "encoder_attention_mask",
    "text_states_2": "pooled_projections",
    "ref_latents": "image_latents",
    "audio_prompts": "audio_embeds",
    "face_mask": "face_masks",
    "motion_exp": "motion_exp",
    "motion_pose": "motion_pose",
    "fps": "fps",
}
Tensors = dict[str, torch.Tensor]


def sizes_of(folder: Path, published: Tensors) -> dict[str, Any]:
    """The sizes of a folder's tiny transformer: from its weights, and from its JSON what they cannot tell."""
    config = json.loads((folder / "transformer_tiny.json").read_text(encoding="utf-8"))["config"]
    return transformer_config_of(
        {name: tuple(tensor.shape) for name, tensor in published.items()},
        rope_axes_dim=config["rope_dim_list"],
        audio_window=config["audio_proj"]["window"],
        audio_blocks=config["audio_proj"]["blocks"],
        audio_adapter_layers=config["audio_adapter"]["after_double_blocks"],
    )


def load_model(folder: Path) -> HunyuanVideoAvatarTransformer3DModel:
    """The tiny transformer of a folder, loaded strictly."""
    stored = load_file(folder / "transformer_tiny.safetensors")
    published = {name.removeprefix("sd."): tensor for name, tensor in stored.items() if name.startswith("sd.")}
    return transformer_of(published, sizes_of(folder, published))


def inputs_of(tensors: Tensors, case: str, sample: int) -> dict[str, torch.Tensor]:
    """One sample of a case, under our names; face masks and speech as those of one speaker."""
    given = {ours: tensors[f"{case}.in.{name}"][sample : sample + 1] for name, ours in INPUTS.items()}
    given["audio_embeds"] = given["audio_embeds"][:, None]
    return given


def recorded(model: HunyuanVideoAvatarTransformer3DModel, given: dict[str, Any]) -> tuple[Any, Tensors]:
    """A forward pass, and what its parts returned, under the goldens' names."""
    seen: Tensors = {}
    parts: list[tuple[str, torch.nn.Module]] = [("vec", model.time_text_embed), ("txt_in", model.context_embedder)]
    parts += [(f"double.{number}.after_audio.img", block) for number, block in enumerate(model.transformer_blocks)]
    parts += [(f"single.{number}.out", block) for number, block in enumerate(model.single_transformer_blocks)]

    def note(name: str) -> Any:
        def hook(_: torch.nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, tuple):
                output = torch.cat(output, dim=1) if name.startswith("single") else output[0]
            seen[name] = output

        return hook

    handles = [part.register_forward_hook(note(name)) for name, part in parts]
    with torch.no_grad():
        output = model(**given, return_last_block_input=True)
    for handle in handles:
        handle.remove()
    return output, seen


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest absolute difference; text tokens beyond the counted ones, which nothing sees, are left out."""
    if found.ndim == 3:
        wanted = wanted[:, : found.shape[1]]
    return float((found - wanted).abs().max()) if found.shape == wanted.shape else float("inf")


def differences(folder: Path) -> Iterator[Difference]:
    """All cases of transformer_tiny, and text_chain_tiny."""
    if not (folder / "transformer_tiny.safetensors").exists():
        return
    model = load_model(folder)
    tensors = load_file(folder / "transformer_tiny.safetensors")
    cases = sorted({name.split(".")[0] for name in tensors if ".in.x" in name})
    for case in (name for name in cases if not name.endswith("_cached")):
        worst: dict[str, float] = {}
        for sample in range(len(tensors[f"{case}.in.x"])):
            output, seen = recorded(model, inputs_of(tensors, case, sample))
            seen["out.x"] = output.sample
            last = torch.cat(output.last_block_input, dim=1)
            for name, found in [*seen.items(), ("cache_out", last)]:
                golden = next(
                    (f"{case}.{part}{name}" for part in ("mid.", "out.", "") if f"{case}.{part}{name}" in tensors), ""
                )
                if golden:
                    kind = re.sub(r"\.\d+\.", ".*.", golden)
                    difference = apart(found, tensors[golden][sample : sample + 1])
                    worst[kind] = max(worst.get(kind, 0.0), difference)
        for name, found in worst.items():
            yield Difference(f"transformer_tiny {name}", found, TOLERANCE)
        if f"{case}_cached.in.x" in tensors:
            yield _cached(model, tensors, case)
    if (folder / "text_chain_tiny.safetensors").exists() and (folder / "text_tiny.safetensors").exists():
        yield from _chain(
            model, load_file(folder / "text_chain_tiny.safetensors"), load_file(folder / "text_tiny.safetensors")
        )


def _cached(model: HunyuanVideoAvatarTransformer3DModel, tensors: Tensors, case: str) -> Difference:
    """A later step on the last block alone, fed the published cache, its uncounted text cut."""
    given = inputs_of(tensors, case, 0)
    for name in ("x", "t"):
        given[INPUTS[name]] = tensors[f"{case}_cached.in.{name}"]
    stored = tensors[f"{case}.out.cache_out"]
    num_text = tensors[f"{case}.in.text_states"].shape[1]
    num_image = stored.shape[1] - num_text
    counted = int(given["encoder_attention_mask"].sum())
    last = stored[:, :num_image], stored[:, num_image : num_image + counted]
    with torch.no_grad():
        found = model(**given, last_block_input=last).sample
    return Difference(f"transformer_tiny {case}_cached.out.x", apart(found, tensors[f"{case}_cached.out.x"]), TOLERANCE)


def _chain(model: HunyuanVideoAvatarTransformer3DModel, chain: Tensors, text: Tensors) -> Iterator[Difference]:
    """Prompt embeddings, padding and misaligned mask included, through refiner and transformer."""
    named = {f"case.{name}": tensor for name, tensor in chain.items()}
    named["case.in.text_states"] = text["cond.out.prompt_embeds"]
    named["case.in.text_mask"] = text["cond.out.prompt_mask"]
    named["case.in.text_states_2"] = text["cond.out.pooled"]
    output, seen = recorded(model, inputs_of(named, "case", 0))
    yield Difference("text_chain_tiny out.refiner_cond", apart(seen["txt_in"], chain["out.refiner_cond"]), TOLERANCE)
    yield Difference("text_chain_tiny out.x", apart(output.sample, chain["out.x"]), TOLERANCE)
