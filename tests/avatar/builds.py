"""Tiny builds of the real classes, with random weights that leave nothing at zero."""

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import WhisperFeatureExtractor

from pipeline.avatar.pipeline_hunyuan_avatar import HunyuanVideoAvatarPipeline
from pipeline.avatar.presets import FLOW_SHIFT
from pipeline.avatar.tiny import clip_tokenizer, llama_tokenizer, make_clip, make_llava, make_vae, make_whisper
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel

TRANSFORMER: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_layers": 4,
    "num_single_layers": 3,
    "num_refiner_layers": 1,
    "text_embed_dim": 12,
    "pooled_projection_dim": 10,
    "rope_axes_dim": (2, 2, 4),
    "audio_channels": 16,
    "audio_hidden_dim": 8,
    "audio_adapter_dim": 8,
}


def make_transformer(**changes: Any) -> HunyuanVideoAvatarTransformer3DModel:
    """The denoiser, 16 wide, on the CPU in float32."""
    torch.manual_seed(0)
    model = HunyuanVideoAvatarTransformer3DModel(**{**TRANSFORMER, **changes}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def make_inputs(
    *, frames: int = 3, height: int = 4, width: int = 6, num_text: int = 8, num_speakers: int = 1, seed: int = 1
) -> dict[str, torch.Tensor]:
    """One window's inputs for `make_transformer`."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    mask = torch.ones(1, num_text + 3, dtype=torch.int64)
    mask[:, 2:5] = 0
    return {
        "hidden_states": draw(1, 4, frames, height, width),
        "timestep": torch.tensor([700.0]),
        "encoder_hidden_states": draw(1, num_text + 3, 12),
        "encoder_attention_mask": mask,
        "pooled_projections": draw(1, 10),
        "image_latents": draw(1, 4, frames, height, width),
        "audio_embeds": draw(1, num_speakers, 4 * frames - 3, 10, 5, 16),
        "face_masks": draw(1, num_speakers, 1, height, width).sigmoid(),
        "motion_exp": torch.full((1, 4), 30),
        "motion_pose": torch.full((1, 4), 25),
        "fps": torch.tensor([25.0]),
    }


def make_pipeline(**changes: Any) -> HunyuanVideoAvatarPipeline:
    """All of it, on the CPU in float32; `changes` replace components."""
    tokenizer, tokenizer_2 = llama_tokenizer(), clip_tokenizer()
    parts = {
        "vae": make_vae(),
        "text_encoder": make_llava(tokenizer),
        "tokenizer": tokenizer,
        "text_encoder_2": make_clip(tokenizer_2),
        "tokenizer_2": tokenizer_2,
        "audio_encoder": make_whisper(),
        "feature_extractor": WhisperFeatureExtractor(),
        "transformer": make_transformer(text_embed_dim=32, pooled_projection_dim=24),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT),
    }
    pipe = HunyuanVideoAvatarPipeline(**{**parts, **changes})
    pipe.set_progress_bar_config(disable=True)
    return pipe
