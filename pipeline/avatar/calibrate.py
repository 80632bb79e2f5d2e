"""What this device has free, and how fast it is: measured in about two seconds and remembered on disk. Estimates
nothing from it."""

import contextlib
import json
import logging
import mmap
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, cast

import psutil
import torch
import torch.nn.functional as F

from pipeline.avatar.fp8 import FP8, has_scaled_matmul
from pipeline.errors import DiskFull
from pipeline.files import write_json
from pipeline.hardware import Rates

logger = logging.getLogger(__name__)

FORMAT = 1  # of the file kept; another one is measured anew
BUDGET_SECONDS = 0.3  # for each of six measurements, warming up apart
LEAST_TIMES = 3  # that each is taken; the median counts
# Rows and sides of the products, and tokens of the attention: those of the model at 384 pixels on a GPU, and few enough
# on a CPU for a measurement to take a tenth of a second there.
GPU_ROWS, GPU_TOKENS = 8192, 8192
CPU_ROWS, CPU_TOKENS = 256, 512
DIM, FEED_FORWARD, HEADS, HEAD_DIM = 3072, 12288, 24, 128  # the model's
GPU_BYTES, CPU_BYTES = 256 * 2**20, 32 * 2**20  # of a copy


def find_device(device: str | None = None) -> tuple[str, str, int | None]:
    """A device, its name, and the bytes of its own memory that are free.

    What this process holds of them counts as free. On "mps" they are what Metal recommends at most; on "cpu" None.

    Args:
        device: "cuda", "mps" or "cpu"; None for the first of them that is there.
    """
    if device is None:
        has_mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    if device == "cuda":
        return device, torch.cuda.get_device_name(), torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    name = platform.processor() or platform.machine()
    return device, name, torch.mps.recommended_max_memory() if device == "mps" else None


def free_ram() -> int:
    """Bytes of host memory that can be had without swapping, on Linux, macOS and Windows; a container's limit apart."""
    return int(psutil.virtual_memory().available)


def rates_of(device: torch.device | str, folder: Path, *, name: str, anew: bool = False) -> Rates:
    """How fast `device` is: as remembered, else measured and remembered.

    Args:
        device: Where.
        folder: Where the result is kept, and whose disk is read; made if need be. One that cannot be written is no
            hindrance: it is then measured at each start.
        name: Of the device; with PyTorch's version it names the result.
        anew: Measure whatever is remembered.
    """
    key = re.sub(r"\W+", "-", f"{name}-torch-{torch.__version__}").strip("-").lower()
    path = folder / f"rates-{key}.json"
    if not anew and (kept := _read(path)) is not None:
        return kept
    rates = measure_rates(torch.device(device), folder)
    _write(path, rates)
    return rates


@torch.no_grad()
def measure_rates(device: torch.device, folder: Path) -> Rates:
    """Measure now: products, attention, copies from pinned memory and from a mapped file.

    The file is written for it and dropped from the system's cache where the system lets us (Linux), so that it comes
    from the disk; elsewhere the figure is that of the cache, and too high.
    """
    is_cpu = device.type == "cpu"
    dtype = working_dtype(device)
    rows, tokens, size = (CPU_ROWS, CPU_TOKENS, CPU_BYTES) if is_cpu else (GPU_ROWS, GPU_TOKENS, GPU_BYTES)

    left = torch.randn(rows, DIM, device=device, dtype=dtype)
    right = torch.randn(FEED_FORWARD, DIM, device=device, dtype=dtype)
    product_flops = 2.0 * rows * DIM * FEED_FORWARD
    matmul = product_flops / _seconds(lambda: F.linear(left, right), device)
    matmul_fp8 = None
    if device.type == "cuda" and has_scaled_matmul(device):
        left8, right8, one = left.to(FP8), right.to(FP8), torch.ones((), device=device)
        with contextlib.suppress(RuntimeError):  # a card that can, with a build of PyTorch that cannot
            matmul_fp8 = product_flops / _seconds(
                lambda: torch._scaled_mm(left8, right8.t(), scale_a=one, scale_b=one, out_dtype=dtype), device
            )
    heads = torch.randn(1, HEADS, tokens, HEAD_DIM, device=device, dtype=dtype)
    attention = 4.0 * HEADS * HEAD_DIM * tokens**2
    attention /= _seconds(lambda: F.scaled_dot_product_attention(heads, heads, heads), device)

    host = torch.zeros(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    place = torch.empty(size, dtype=torch.uint8, device=device)
    copy = size / _seconds(lambda: place.copy_(host, non_blocking=True), device)
    return Rates(matmul, attention, copy, _mapped_rate(place, folder), matmul_fp8=matmul_fp8)


def working_dtype(device: torch.device) -> torch.dtype:
    """What the denoiser computes in there: bf16, float16 on a GPU without it, float32 on a CPU."""
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a call, after one to warm up, within the budget."""
    call()
    synchronize(device)
    measured: list[float] = []
    begun = time.perf_counter()
    while len(measured) < LEAST_TIMES or time.perf_counter() - begun < BUDGET_SECONDS:
        started = time.perf_counter()
        call()
        synchronize(device)
        measured.append(time.perf_counter() - started)
    return statistics.median(measured)


def _mapped_rate(place: torch.Tensor, folder: Path) -> float:
    """Bytes a second from a file on the disk of `folder`, mapped, to `place`."""
    size = place.numel()
    with _file_on(folder) as file:
        file.write(os.urandom(2**20) * (size // 2**20))  # a disk that compresses finds no zeros
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
            source = torch.frombuffer(mapped, dtype=torch.uint8)
            started = time.perf_counter()
            place.copy_(source)
            synchronize(place.device)
            seconds = time.perf_counter() - started
            del source
    return size / seconds


def _file_on(folder: Path) -> BinaryIO:
    """A new file without a name on the disk of `folder`, or where temporary files go when that cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))
    except OSError:
        return cast(BinaryIO, tempfile.TemporaryFile())


def _read(path: Path) -> Rates | None:
    """What was remembered; None where there is nothing that can be used."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        return Rates(**kept["rates"]) if kept["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, rates: Rates) -> None:
    """Remember; where that cannot be, they are measured again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"format": FORMAT, "rates": asdict(rates)})
    except (OSError, DiskFull) as error:
        logger.warning("the measured rates are not kept: %s", error)
