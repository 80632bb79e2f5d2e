"""Bringing in a model that accelerate or diffusers keeps elsewhere. Places nothing itself."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.hooks.group_offloading import _get_group_onload_device


@contextmanager
def brought_in(model: torch.nn.Module) -> Iterator[torch.device]:
    """Do for a model whose parts are called singly what its offloading hooks do when it is called whole.

    Args:
        model: With the hooks of model offload, sequential offload or group offload on it, or with none.

    Yields:
        Where it computes, and its inputs belong.
    """
    registry = getattr(model, "_diffusers_hook", None)
    found = [getattr(model, "_hf_hook", None), registry and registry.get_hook("group_offloading")]
    hooks = [hook for hook in found if hook is not None]
    for hook in hooks:
        hook.pre_forward(model)
    try:
        yield _device_of(model)
    finally:
        for hook in hooks:
            hook.post_forward(model, None)


def _device_of(model: torch.nn.Module) -> torch.device:
    """Where an offloaded model computes; of any other, where it is."""
    for module in model.modules():
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    try:
        return _get_group_onload_device(model)
    except ValueError:  # not offloaded in groups
        return next(model.parameters()).device
