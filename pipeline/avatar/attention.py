"""Which attention kernel the denoiser uses: those installed are timed once on this device, at the model's shape, and
the fastest whose result is right is remembered and used. Attention is 80 % of the arithmetic of a clip at 704×768.

Kernels are those of diffusers' attention dispatch; those it would fetch from the Hub are left out, as is what ends the
process on a card it was not built for.
"""

import importlib.metadata
import json
import logging
import re
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
    _check_attention_backend_requirements,
    dispatch_attention_fn,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.avatar.calibrate import synchronize
from pipeline.errors import AvatarError
from pipeline.files import write_json
from pipeline.texts import Notice

logger = logging.getLogger(__name__)

DEFAULT = "native"  # PyTorch chooses among its own kernels
NAMES = {  # of what is tried on a GPU, as people know it
    DEFAULT: "PyTorch",
    "_native_cudnn": "cuDNN",
    "_native_flash": "PyTorch flash",
    "_native_efficient": "PyTorch memory-efficient",
    "flash": "flash-attn",
    "_flash_3": "flash-attn 3",
    "xformers": "xFormers",
    "sage": "SageAttention",
}
ON_PROCESSOR = (DEFAULT, "_native_flash", "_native_math")  # the others are a GPU's
LOSSY = ("sage",)  # quantises queries and keys to 8 bits: a preset must ask for it
HOPPER = (9, 0)  # flash-attn 3 is written for it, and ends the process on Blackwell (12, 0)
PACKAGES = ("torch", "diffusers", "flash_attn", "flash_attn_3", "sageattention", "xformers")  # that a result depends on

HEADS, HEAD_DIM = 24, 128  # the model's
GPU_TOKENS, CPU_TOKENS = 16_384, 512  # a clip at 384 pixels has 20 000; a tenth of a second on the slowest card
MEMORY_SHARE = 8  # free memory over that of queries, keys, values and result together: kernels need room of their own
COMPARED_ROWS = (
    64  # queries whose result is computed exactly beside it: in float32, as many scores as 64 x tokens x heads
)
TIMES = 3  # that each is timed, after one to warm up; the median counts
MARGIN = 0.97  # another kernel must take less than this share of the default's time

# Largest distance from the exact result, over its length. bf16 keeps 8 bits: its rounding alone is 2^-9 or 0.2 % for
# each factor. The errors of 8-bit scores are larger and are what a lossy kernel trades for speed.
# Measured on a CPU: 0.2 % in bf16; 0.9 % with queries and keys in 8 bits a token, 2.7 % with the values in fp8 as well.
TOLERANCE = 0.01
LOSSY_TOLERANCE = 0.1
FORMAT = 1  # of the file kept


@dataclass(frozen=True)
class Trial:
    """How one kernel did.

    Args:
        seconds: Of one attention; None where it failed.
        error: Distance from the exact result over the length of that; None where it failed.
        cause: Why it failed; "".
    """

    seconds: float | None
    error: float | None
    cause: str = ""

    def is_right(self, tolerance: float) -> bool:
        """Whether it ran and its result is near enough."""
        return self.error is not None and self.error <= tolerance


@dataclass(frozen=True)
class Choice:
    """The kernel to use.

    Args:
        backend: Its name in diffusers.
        reason: Why this one.
        trials: How each did.
    """

    backend: str
    reason: Notice
    trials: dict[str, Trial]


def choose(
    device: torch.device,
    folder: Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    lossy: bool = False,
    shared: bool = False,
    anew: bool = False,
) -> Choice:
    """The fastest kernel for `device`, as remembered or measured now: about a second.

    Args:
        device: Where it computes; on ZeroGPU to be called within a lease.
        folder: Where the measurement is kept.
        dtype: That the denoiser computes in.
        lossy: Offer kernels that compute with fewer bits.
        shared: Only those that can share a window between processes.
        anew: Measure whatever is remembered.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    slug = re.sub(r"\W+", "-", f"{name} {dtype}".lower()).strip("-")
    path = folder / f"attention-{slug}.json"
    kept = None if anew else _read(path)
    trials = kept if kept is not None else measure(device, dtype=dtype)
    if kept is None:
        _write(path, trials)
    return best_of(trials, lossy=lossy, shared=shared)


def best_of(trials: dict[str, Trial], *, lossy: bool = False, shared: bool = False) -> Choice:
    """The kernel to use by what was measured; the default where nothing is clearly faster."""
    default = trials[DEFAULT].seconds or 0.0
    right = {
        name: trial.seconds
        for name, trial in trials.items()
        if trial.seconds is not None
        and trial.is_right(LOSSY_TOLERANCE if name in LOSSY else TOLERANCE)
        and (lossy or name not in LOSSY)
        and (not shared or _AttentionBackendRegistry._is_context_parallel_available(AttentionBackendName(name)))
    }
    fastest = min(right, key=lambda name: right[name], default=DEFAULT)
    if fastest == DEFAULT or right[fastest] > MARGIN * default:
        return Choice(DEFAULT, Notice("AttentionDefault", {"count": len(right)}), trials)
    told = {"name": NAMES.get(fastest, fastest), "times": default / right[fastest]}
    return Choice(fastest, Notice("AttentionLossy" if fastest in LOSSY else "AttentionFaster", told), trials)


@torch.no_grad()
def measure(
    device: torch.device,
    *,
    dtype: torch.dtype = torch.bfloat16,
    heads: int = HEADS,
    head_dim: int = HEAD_DIM,
    num_tokens: int | None = None,
) -> dict[str, Trial]:
    """Try every kernel that may serve on `device`, at the model's shape.

    Args:
        device: Where.
        dtype: Of queries, keys and values.
        heads: Of the attention.
        head_dim: Width of a head.
        num_tokens: Length; None for as long as memory allows, up to GPU_TOKENS or CPU_TOKENS.
    """
    if num_tokens is None:
        num_tokens = CPU_TOKENS if device.type == "cpu" else GPU_TOKENS
        if device.type == "cuda":
            free = torch.cuda.mem_get_info(device)[0]
            num_tokens = min(num_tokens, free // (MEMORY_SHARE * 4 * heads * head_dim * dtype.itemsize))
    generator = torch.Generator(device).manual_seed(0)  # the same for every kernel and at every start
    query, key, value = (
        torch.randn(1, num_tokens, heads, head_dim, generator=generator, device=device, dtype=dtype) for _ in range(3)
    )
    rows = torch.linspace(0, num_tokens - 1, min(COMPARED_ROWS, num_tokens)).long()
    exact = _exact(query[:, rows], key, value)
    return {name: _try(name, query, key, value, rows, exact) for name in candidates(device)}


def candidates(device: torch.device) -> list[str]:
    """What is installed and may serve on `device`, the default first."""
    if device.type == "mps":
        return [DEFAULT]
    names = list(ON_PROCESSOR if device.type == "cpu" else NAMES)
    if device.type == "cuda" and torch.cuda.get_device_capability(device) != HOPPER:
        names.remove("_flash_3")
    return [name for name in names if is_installed(name)]


def use(transformer: torch.nn.Module, backend: str) -> None:
    """Let a transformer's blocks use a kernel.

    Diffusers' `set_attention_backend` does so as well, and changes the default of every other model with it.

    Raises:
        ValueError: there is no such kernel.
        RuntimeError: it is not installed.
    """
    name = AttentionBackendName(backend)
    _check_attention_backend_requirements(name)
    for module in transformer.modules():
        processor: Any = getattr(module, "processor", None)
        if hasattr(processor, "_attention_backend"):
            processor._attention_backend = name


def is_installed(name: str) -> bool:
    """Whether there is what a kernel needs, by its name in diffusers."""
    try:
        _check_attention_backend_requirements(AttentionBackendName(name))
    except RuntimeError:
        return False
    return True


def _exact(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention written out in float32; shapes as diffusers has them, (1, tokens, heads, head_dim)."""
    with sdpa_kernel(SDPBackend.MATH):
        heads_first = (part.float().transpose(1, 2) for part in (query, key, value))
        return F.scaled_dot_product_attention(*heads_first).transpose(1, 2)


def _try(
    name: str,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rows: torch.Tensor,
    exact: torch.Tensor,
) -> Trial:
    """Run one kernel; whatever it raises is why it is not used."""
    backend = AttentionBackendName(name)
    try:
        result = dispatch_attention_fn(query, key, value, backend=backend)
        synchronize(query.device)
        measured = []
        for _ in range(TIMES):
            started = time.perf_counter()
            dispatch_attention_fn(query, key, value, backend=backend)
            synchronize(query.device)
            measured.append(time.perf_counter() - started)
        near = result[:, rows].float()
        error = float((near - exact).norm() / exact.norm())
    except Exception as cause:  # other people's kernels raise what they like
        return Trial(None, None, f"{type(cause).__name__}: {cause}"[:300])
    return Trial(statistics.median(measured), error if error == error else float("inf"))


def _versions() -> dict[str, str | None]:
    """Of the packages that a measurement depends on; None where one is missing."""

    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    return {package: version(package) for package in PACKAGES}


def _read(path: Path) -> dict[str, Trial] | None:
    """What was remembered; None where there is nothing that holds today."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        if (kept["format"], kept["versions"]) != (FORMAT, _versions()):
            return None
        trials = {str(name): Trial(**trial) for name, trial in kept["trials"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return trials if DEFAULT in trials and all(is_installed(name) for name in trials) else None


def _write(path: Path, trials: dict[str, Trial]) -> None:
    """Remember; a folder that cannot be written is no hindrance: it is measured at each start."""
    told = {name: asdict(trial) for name, trial in trials.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"format": FORMAT, "versions": _versions(), "trials": told})
    except (OSError, AvatarError) as error:
        logger.warning("the measured attention is not kept: %s", error)
