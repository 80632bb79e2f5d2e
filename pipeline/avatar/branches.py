"""How the branches of classifier-free guidance are computed for one window: the seam at which a run may stream its
weights, or share its work with other processes. Knows neither steps nor guidance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from pipeline.avatar.transformer_hunyuan_avatar import (
    HunyuanVideoAvatarTransformer3DModel,
    HunyuanVideoAvatarTransformerOutput,
)


@dataclass(frozen=True)
class Branch:
    """One branch of one window.

    Args:
        name: "cond", or "uncond_text" and "uncond" for the negative one with the negative prompt and with the prompt:
            diffusers' caches keep their states apart by it, as the texts differ in length.
        inputs: What the transformer's `forward` takes, by keyword.
        timesteps: Of all steps of the run from this one on, for what is computed once for all of them.
        latent_frames: Of the window, by number, for what is kept of them until the next step.
        num_latent_frames: Of the run.
    """

    name: str
    inputs: dict[str, Any]
    timesteps: Sequence[torch.Tensor] = ()
    latent_frames: Sequence[int] = ()
    num_latent_frames: int = 0


Predict: TypeAlias = Callable[
    [HunyuanVideoAvatarTransformer3DModel, Sequence[Branch]], list[HunyuanVideoAvatarTransformerOutput]
]
"""Computes all branches of a window and returns what the transformer gives for each, in their order."""


def one_after_another(
    transformer: HunyuanVideoAvatarTransformer3DModel, branches: Sequence[Branch]
) -> list[HunyuanVideoAvatarTransformerOutput]:
    """Each branch in a batch of its own: half the memory of both in one, and no mask for texts of two lengths."""
    outputs = []
    for branch in branches:
        with transformer.cache_context(branch.name):
            outputs.append(transformer(**branch.inputs))
    return outputs
