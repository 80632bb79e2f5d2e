"""Names and layout of the published checkpoints, turned into ours; loaded strictly.

Knows files and tensors; where a file comes from and where a model is placed is decided elsewhere.
"""

import re
from collections.abc import Iterator, Mapping

import torch

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


def our_names(published: str) -> tuple[str, ...] | None:
    """Our names of a published transformer tensor, from the top of its rows; None when it is not one.

    The published adapters are numbered by themselves; ours stand in the double blocks 1, 3, 5 and on.
    """
    layer, _, kind = published.rpartition(".")
    number = re.search(r"(?<=blocks\.)\d+", layer)
    if number is None:
        ours = LAYERS.get(layer, ())
    else:
        place = int(number[0]) * 2 + 1 if layer.startswith("audio_adapter_blocks.") else int(number[0])
        pattern = layer[: number.start()] + "{i}" + layer[number.end() :]
        ours = tuple(name.replace("{i}", str(place)) for name in LAYERS.get(pattern, ()))
    return tuple(f"{name}.{kind}" for name in ours) or None


def convert_transformer(
    published: Mapping[str, torch.Tensor], num_rows: Mapping[str, int]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Our tensors of a published state dict, as views where they can be.

    Args:
        published: Tensors under their published names.
        num_rows: Rows of each of our tensors, by name.
    """
    for name, tensor in published.items():
        ours = our_names(name) or ()
        if name.rpartition(".")[0] in SWAPPED:
            tensor = torch.cat(tensor.chunk(2)[::-1])
        parts = tensor.split([num_rows[part] for part in ours]) if len(ours) > 1 else [tensor]
        yield from zip(ours, parts, strict=False)
