"""Bringing in a model that accelerate or diffusers keeps elsewhere. Places nothing itself."""

import torch
from diffusers.hooks.group_offloading import _get_group_onload_device


def bring_in(model: torch.nn.Module) -> torch.device:
    """Do for a model whose parts are called singly what its offloading hooks do when it is called whole.

    Args:
        model: With the hooks of model offload, sequential offload or group offload on it, or with none.

    Returns:
        Where it computes, and its inputs belong.
    """
    if hasattr(model, "_hf_hook"):
        model._hf_hook.pre_forward(model)
        for module in model.modules():
            device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
            if device is not None:
                return torch.device(device)
    try:
        return _get_group_onload_device(model)
    except ValueError:  # not offloaded in groups
        return next(model.parameters()).device
