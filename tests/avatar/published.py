"""Tensors as a published file holds them, and a watch on the memory that reading such files takes.

Knows no test: sizes and folders are the caller's.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from pipeline.avatar.weights import (
    SWAPPED,
    adapter_layers_of,
    our_names,
    published_shapes,
)

PROJECT = Path(__file__).parents[2]
SAMPLE_SECONDS = 0.02  # between two looks at a process's memory

TINY: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "num_layers": 3,
    "num_single_layers": 2,
    "num_refiner_layers": 1,
    "text_embed_dim": 32,
    "pooled_projection_dim": 24,
    "rope_axes_dim": (8, 12, 12),
    "audio_channels": 16,
    "audio_hidden_dim": 32,
    "audio_adapter_dim": 48,
}


def published_from(ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a transformer as the published file holds them."""
    adapter_layers = adapter_layers_of(ours)
    published = {}
    for name in published_shapes({name: tuple(tensor.shape) for name, tensor in ours.items()}):
        tensor = torch.cat([ours[part] for part in our_names(name, adapter_layers) or ()])
        published[name] = torch.cat(tensor.chunk(2)[::-1]) if name.rpartition(".")[0] in SWAPPED else tensor
    return published


def private_bytes(process_id: int) -> int:
    """Memory that this process alone holds, pages of files included that it alone has mapped."""
    rollup = Path(f"/proc/{process_id}/smaps_rollup").read_text("ascii")
    return 1024 * sum(map(int, re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", rollup, re.M)))


def watched(*arguments: object) -> tuple[str, int]:
    """Run `python` with these arguments in the project's folder.

    Returns:
        What it printed, and the most private memory seen, bytes.
    """
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    peak = 0
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            try:
                peak = max(peak, private_bytes(process.pid))
            except (FileNotFoundError, ProcessLookupError):
                break
            time.sleep(SAMPLE_SECONDS)
        assert process.stdout is not None
        printed = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return printed, peak
