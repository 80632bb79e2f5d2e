"""What both text encoders make of a prompt and a portrait beside the published code."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers import LlavaForConditionalGeneration as Llava

from pipeline.avatar.portrait import resize_portrait
from pipeline.avatar.text import (
    CROP,
    MAX_TOKENS,
    SUFFIX,
    all_rows,
    clip_pooled,
    llava_inputs,
    llava_pixel_values,
    llava_rows,
    published_mask,
)
from tests.avatar.checks import Difference

TOLERANCE = 2e-5  # of states around 1


def differences(folder: Path) -> Iterator[Difference]:
    """text_tiny, LLaVA's picture in image_tiny, and the template in preprocess.json."""
    if (path := folder / "preprocess.json").exists():
        prompt = json.loads(path.read_text(encoding="utf-8"))["prompt"]
        wrong = [
            prompt["template"] != DEFAULT_PROMPT_TEMPLATE["template"],
            prompt["crop_start"] != CROP,
            prompt["suffix"] != SUFFIX,
            prompt["max_length"] != MAX_TOKENS,
        ]
        yield Difference("preprocess.json prompt template", sum(wrong), 0)
    if (path := folder / "image_tiny.safetensors").exists():
        goldens = load_file(path)
        if (stored := goldens.get("out.pixel_value_ref_llava_fp16")) is not None:  # or its upper rows
            height, width = goldens["out.pixel_value_ref_fp16"].shape[-2:]
            resized = resize_portrait(goldens["in.image_hwc_uint8"].numpy(), height, width)
            found = llava_pixel_values(resized, stored.shape[-1])[:, :, : stored.shape[2]]
            yield _largest("image_tiny pixel_value_ref_llava", found, stored, 0)
    if (folder / "text_tiny.safetensors").exists():
        goldens = load_file(folder / "text_tiny.safetensors")
        facts = json.loads((folder / "text_tiny.json").read_text(encoding="utf-8"))
        yield from _text(facts, goldens)


def _text(facts: dict[str, Any], goldens: dict[str, torch.Tensor]) -> Iterator[Difference]:
    """Both branches of text_tiny."""
    text_encoder, text_encoder_2 = llava(facts, goldens), clip(facts, goldens)
    num_image_tokens = facts["llava_config"]["image_seq_length"]
    for name in ("cond", "uncond"):
        golden = {key.removeprefix(f"{name}."): value for key, value in goldens.items() if key.startswith(f"{name}.")}
        input_ids = golden["in.input_ids"][:, : golden["in.attention_mask"].sum()]
        inputs = (input_ids, goldens["in.pixel_values_fp16"], text_encoder)
        merged = llava_inputs(*inputs, text_encoder.device)
        for key, found in zip(("inputs_embeds", "attention_mask", "position_ids"), merged, strict=True):
            if (wanted := golden.get(f"mid.merged_{key}")) is not None:
                tolerance = TOLERANCE if found.is_floating_point() else 0
                alike = found[:, -1:].expand(-1, wanted.shape[1] - found.shape[1], *found.shape[2:])
                yield _largest(f"text_tiny {name} merged {key}", torch.cat([found, alike], 1), wanted, tolerance)
        found = all_rows(llava_rows(*inputs), num_image_tokens)
        yield _largest(f"text_tiny {name} prompt_embeds", found, golden["out.prompt_embeds"], TOLERANCE)
        found = published_mask(input_ids.shape[1], num_image_tokens)
        yield _largest(f"text_tiny {name} prompt_mask", found, golden["out.prompt_mask"], 0)
        found = clip_pooled(golden["in.clip_input_ids"], golden["in.clip_attention_mask"], text_encoder_2)
        yield _largest(f"text_tiny {name} pooled", found, golden["out.pooled"], TOLERANCE)


def llava(facts: dict[str, Any], goldens: dict[str, torch.Tensor]) -> Llava:
    """The golden's LLaVA."""
    config = facts["llava_config"]
    vision, text = config["vision"], config["text"]
    model = Llava(
        LlavaConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=vision["hidden"],
                intermediate_size=vision["intermediate"],
                num_hidden_layers=vision["layers"],
                num_attention_heads=vision["heads"],
                image_size=vision["image_size"],
                patch_size=vision["patch_size"],
                hidden_act=vision["act"],
                layer_norm_eps=vision["eps"],
            ),
            text_config=LlamaConfig(
                vocab_size=text["vocab"],
                hidden_size=text["hidden"],
                intermediate_size=text["intermediate"],
                num_hidden_layers=text["layers"],
                num_attention_heads=text["heads"],
                num_key_value_heads=text["kv_heads"],
                rms_norm_eps=text["rms_eps"],
                rope_parameters={"rope_type": "default", "rope_theta": text["rope_theta"]},
            ),
            image_token_index=facts["special_ids"]["image"],
            pad_token_id=facts["special_ids"]["pad"],
            vision_feature_layer=config["vision_feature_layer"],
            vision_feature_select_strategy=config["vision_feature_select_strategy"],
            projector_hidden_act=config["projector_hidden_act"],
            image_seq_length=config["image_seq_length"],
        )
    )
    names = {  # transformers 4.45.1 to 5
        "language_model.model.": "model.language_model.",
        "language_model.lm_head.": "lm_head.",
        "vision_tower.vision_model.": "model.vision_tower.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    }
    model.load_state_dict(_renamed(goldens, "sd.llava.", names))
    return model.eval()


def clip(facts: dict[str, Any], goldens: dict[str, torch.Tensor]) -> CLIPTextModel:
    """The golden's CLIP."""
    config = facts["clip_config"]
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=config["vocab"],
            hidden_size=config["hidden"],
            intermediate_size=config["intermediate"],
            num_hidden_layers=config["layers"],
            num_attention_heads=config["heads"],
            max_position_embeddings=config["positions"],
            hidden_act=config["act"],
            layer_norm_eps=config["eps"],
            eos_token_id=config["eos_token_id"],
            bos_token_id=config["bos_token_id"],
            pad_token_id=config["pad_token_id"],
        )
    )
    model.load_state_dict(_renamed(goldens, "sd.clip.", {"text_model.": ""}))
    return model.eval()


def _renamed(goldens: dict[str, torch.Tensor], prefix: str, names: dict[str, str]) -> dict[str, torch.Tensor]:
    """The weights under `prefix`, their names begun as current transformers begins them."""
    weights = {}
    for key, value in goldens.items():
        if key.startswith(prefix):
            name = key.removeprefix(prefix)
            old = next(old for old in names if name.startswith(old))
            weights[names[old] + name.removeprefix(old)] = value
    return weights


def _largest(name: str, found: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> Difference:
    """The largest difference; infinite when the shapes differ."""
    if found.shape != wanted.shape:
        return Difference(f"{name} {tuple(found.shape)} beside {tuple(wanted.shape)}", float("inf"), tolerance)
    return Difference(name, (found.float() - wanted.float()).abs().max().item(), tolerance)
