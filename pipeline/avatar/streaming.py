"""Weights that are kept in host memory and pass through the device, the next while the present ones compute; and the
transformer computed so, with both branches of guidance served by one pass.

Decides nothing: what is streamed is chosen in `placing.py`, the arithmetic of the blocks stands in `chunked.py`.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from pipeline.avatar.branches import Branch
from pipeline.avatar.chunked import modulation_of, modulators, run_in_chunks, unmodulated
from pipeline.avatar.fp8 import dequantized_once
from pipeline.avatar.offload import brought_in
from pipeline.avatar.transformer_hunyuan_avatar import (
    HunyuanVideoAvatarTransformer3DModel,
    HunyuanVideoAvatarTransformerOutput,
    HunyuanVideoAvatarWindow,
)

logger = logging.getLogger(__name__)

NUM_SLOTS = 2  # on the device: one unit computes, the next comes in
ALIGNMENT = 256  # bytes, between the tensors of a unit; matrix products want 16, CUDA's own allocations have 256
STAGING_BYTES = 64 * 2**20  # of a staging buffer: large enough for the full speed of a copy, small beside a unit


def tensors_of(*modules: nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers of modules, each once."""
    found = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    return list({id(tensor): tensor for tensor in found}.values())


def bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """Their size, each beginning at a multiple of ALIGNMENT."""
    return sum(-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors)


class Unit:
    """Tensors that come and go together.

    Args:
        tensors: Parameters or buffers in host memory. `data` of each is changed when they come and go.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self.tensors = list(tensors)
        self.home = [tensor.data for tensor in self.tensors]
        self.num_bytes = bytes_of(self.tensors)
        self.packed: torch.Tensor | None = None

    def views(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        """The tensors as they lie in a buffer of bytes."""
        views, start = [], 0
        for tensor in self.home:
            flat = buffer[start : start + tensor.nbytes].view(tensor.dtype)
            views.append(flat.view(tensor.shape))
            start += bytes_of([tensor])
        return views

    def pack(self, *, pinned: bool) -> None:
        """Move the tensors into one block of host memory, from which they are copied in one go, if they lie in none."""
        storage = torch.empty(0, dtype=torch.uint8).set_(self.home[0].untyped_storage())
        if len(storage) == self.num_bytes and storage.is_pinned() == pinned:
            views = zip(self.views(storage), self.home, strict=True)
            if all(view.data_ptr() == tensor.data_ptr() for view, tensor in views):
                self.packed = storage
                return
        self.packed = torch.empty(self.num_bytes, dtype=torch.uint8, pin_memory=pinned)
        for view, tensor in zip(self.views(self.packed), self.home, strict=True):
            view.copy_(tensor)
        self.home = self.views(self.packed)
        self.point_to(self.home)

    def point_to(self, tensors: Sequence[torch.Tensor]) -> None:
        """Let modules see these values."""
        for tensor, data in zip(self.tensors, tensors, strict=True):
            tensor.data = data


@dataclass
class _Slot:
    """Room for one unit on the device. `filled` may only be waited for; the events say what the device has done."""

    buffer: torch.Tensor
    holds: int | None = None
    filled: Future | None = None
    in_use: bool = False
    is_filled: Any = None  # event on the stream of copies
    is_free: Any = None  # event on the stream that computes


@dataclass
class Waits:
    """How long computing stood still for copies, for a benchmark.

    On CUDA the pairs of events are read when `seconds` is asked for, which waits for the device.
    """

    measured: float = 0.0
    events: list[tuple[Any, Any]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        for before, after in self.events:
            after.synchronize()
            self.measured += before.elapsed_time(after) / 1000
        self.events.clear()
        return self.measured


class WeightStream:
    """Units of weights that take turns on a device.

    A unit is on the device between `take` and `release`, and meanwhile the one after it comes in, on a stream of its
    own. After the last comes the first again. Nothing waits on the host but for copies out of mapped files.

    Units are either packed into pinned memory, or stay where they are, as a rule in a memory-mapped file, and go
    through two small pinned buffers, filled by a thread. Elsewhere than on CUDA the same happens without streams and
    pins.

    Args:
        units: Tensors of each unit, in host memory.
        device: Where they compute.
        pinned: Pack them into pinned memory: as much as they take, rounded up to a power of two for each unit.
    """

    def __init__(
        self, units: Sequence[Sequence[torch.Tensor]], device: torch.device | str, *, pinned: bool = False
    ) -> None:
        self.device = torch.device(device)
        self.units = [Unit(tensors) for tensors in units]
        self.waits: Waits | None = None
        self._is_cuda = self.device.type == "cuda"
        self._slots: list[_Slot] = []
        self._staging: _Staging | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._copies: Any = None
        try:
            for unit in self.units if pinned else ():
                unit.pack(pinned=self._is_cuda)
        except RuntimeError as error:  # systems limit what may be pinned, some to half of the memory
            logger.warning("Some weights will come out of ordinary memory, more slowly: %s", error)

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All that is streamed."""
        return [tensor for unit in self.units for tensor in unit.tensors]

    @property
    def num_bytes(self) -> int:
        """What its slots take on the device while it is in use."""
        largest = max((unit.num_bytes for unit in self.units), default=0)
        return largest * min(NUM_SLOTS, len(self.units))

    @contextlib.contextmanager
    def here(self, number: int) -> Iterator[None]:
        """A unit on the device."""
        self.take(number)
        try:
            yield
        finally:
            self.release(number)

    def take(self, number: int) -> None:
        """Bring a unit in, if it is not there yet, and begin to bring in the next."""
        if not self._slots:
            self._open()
        slot = self._load(number)
        self._wait_for(slot)
        slot.in_use = True
        unit = self.units[number]
        unit.point_to(unit.views(slot.buffer))
        if len(self.units) > 1:
            self._load((number + 1) % len(self.units))

    def release(self, number: int) -> None:
        """Let a unit go: its room is another's when the device has done what was asked of it until now."""
        self.units[number].point_to(self.units[number].home)
        for slot in self._slots:
            if slot.in_use and slot.holds == number:
                slot.in_use = False
                if self._is_cuda:
                    slot.is_free.record(torch.cuda.current_stream(self.device))

    def free(self) -> None:
        """Give back what it takes on the device; the next `take` begins anew."""
        for slot in self._slots:
            if slot.filled is not None:
                slot.filled.exception()  # waits for the thread
        if self._is_cuda and self._slots:  # the slots' memory is free for the computing stream once all is copied
            torch.cuda.current_stream(self.device).wait_stream(self._copies)
        self._slots, self._staging = [], None
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _open(self) -> None:
        if self._is_cuda:
            self._copies = torch.cuda.Stream(self.device)
        size = self.num_bytes // min(NUM_SLOTS, len(self.units))
        for _ in range(min(NUM_SLOTS, len(self.units))):
            slot = _Slot(torch.empty(size, dtype=torch.uint8, device=self.device))
            if self._is_cuda:
                slot.is_filled, slot.is_free = torch.cuda.Event(), torch.cuda.Event()
                slot.is_free.record(torch.cuda.current_stream(self.device))  # its memory may be in use until here
            self._slots.append(slot)
        if self._is_cuda:  # a thread begins on the first card, and would take memory there
            self._thread = ThreadPoolExecutor(1, "weights", torch.cuda.set_device, (self._copies.device,))
        elif self.device.type != "mps":  # whose commands come from one thread
            self._thread = ThreadPoolExecutor(1, "weights")

    def _load(self, number: int) -> _Slot:
        """The slot that holds a unit, or will."""
        for slot in self._slots:
            if slot.holds == number:
                return slot
        slot = next(slot for slot in self._slots if not slot.in_use)
        slot.holds = number
        if self._thread is not None:
            slot.filled = self._thread.submit(self._fill, slot, self.units[number])
        else:
            slot.filled = Future()
            try:
                self._fill(slot, self.units[number])
                slot.filled.set_result(None)
            except Exception as error:
                slot.filled.set_exception(error)
        return slot

    def _fill(self, slot: _Slot, unit: Unit) -> None:
        """Copy a unit into a slot that nobody uses; on CUDA, ask for it after what still does."""
        with torch.no_grad(), torch.cuda.stream(self._copies) if self._is_cuda else contextlib.nullcontext():
            if self._is_cuda:
                self._copies.wait_event(slot.is_free)
            if unit.packed is not None:
                slot.buffer[: unit.num_bytes].copy_(unit.packed, non_blocking=True)
            else:
                if self._staging is None:
                    self._staging = _Staging(pinned=self._is_cuda)
                for tensor, view in zip(unit.home, unit.views(slot.buffer), strict=True):
                    self._staging.copy(_flat_bytes(tensor), _flat_bytes(view))
            if self._is_cuda:
                slot.is_filled.record(self._copies)

    def _wait_for(self, slot: _Slot) -> None:
        """Let what is computed from now on find the slot filled."""
        assert slot.filled is not None
        stream = torch.cuda.current_stream(self.device) if self._is_cuda else None
        before, after = _timer(stream, self.waits)
        before()
        try:
            slot.filled.result()
        except BaseException:
            slot.holds = None
            raise
        if stream is not None:
            stream.wait_event(slot.is_filled)
        after()


def _timer(stream: Any, waits: Waits | None) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two calls, between which the time that passes on a stream, or on the host, is added to `waits`."""
    if waits is None:
        return (lambda: None), (lambda: None)
    if stream is None:
        started = time.perf_counter()

        def stop() -> None:
            waits.measured += time.perf_counter() - started

        return (lambda: None), stop
    events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))

    def end() -> None:
        events[1].record(stream)
        waits.events.append(events)

    return (lambda: events[0].record(stream)), end


class _Staging:
    """Two buffers through which bytes go to the device: one is filled while the other is copied on."""

    def __init__(self, *, pinned: bool) -> None:
        self.buffers = [torch.empty(STAGING_BYTES, dtype=torch.uint8, pin_memory=pinned) for _ in range(2)]
        self.events = [torch.cuda.Event() for _ in range(2)] if pinned else []
        self.turn = 0

    def copy(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy bytes, on the current stream."""
        for part, place in zip(source.split(STAGING_BYTES), target.split(STAGING_BYTES), strict=True):
            buffer = self.buffers[self.turn][: len(part)]
            if self.events:
                self.events[self.turn].synchronize()  # until it was copied on; at once where it never was
            buffer.copy_(part)
            place.copy_(buffer, non_blocking=bool(self.events))  # Metal would go on reading what is filled anew
            if self.events:
                self.events[self.turn].record()
            self.turn = 1 - self.turn


def _flat_bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


class Modulations:
    """What every block makes of `temb`, computed once a run for all its steps and both texts.

    It depends on the step, the pooled text, the motion and the frame rate alone, and takes a quarter of the weights,
    which therefore do not pass with the blocks. Each vector is computed by itself, as a block would, so that it is
    equal to the block's own, and found again by the bytes of its `temb`.

    Args:
        blocks: In their order, in host memory.
        device: Where they compute.
    """

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device | str) -> None:
        self.blocks = list(blocks)
        self.stream = WeightStream(
            [tensors_of(*(norm.linear for norm in modulators(block))) for block in self.blocks], device
        )
        self._known: dict[bytes, torch.Tensor] = {}  # (batch, values of all blocks) in host memory
        self._sizes: list[int] = []  # values of each block

    def of(
        self,
        transformer: HunyuanVideoAvatarTransformer3DModel,
        branches: Sequence[Branch],
        windows: Sequence[HunyuanVideoAvatarWindow],
    ) -> list[tuple[torch.Tensor, ...]]:
        """For every window, what modulates each block: (batch, values)."""
        wanted = {_key(window.temb): window.temb for window in windows}
        if not wanted.keys() <= self._known.keys():
            self._compute({**wanted, **_coming(transformer, branches)})
        return [self._known[_key(window.temb)].to(window.temb).split(self._sizes, dim=1) for window in windows]

    def free(self) -> None:
        """Forget all: weights may be others in the next run."""
        self._known.clear()
        self.stream.free()

    def _compute(self, tembs: dict[bytes, torch.Tensor]) -> None:
        missing = {key: temb for key, temb in tembs.items() if key not in self._known}
        parts = []
        for number, block in enumerate(self.blocks):
            norms = modulators(block)
            if not all(isinstance(norm.linear, nn.Linear) for norm in norms):
                raise ValueError(
                    f"block {number} has LoRA weights on its modulation, which is computed once for a run here: fuse "
                    "them, or choose the placement resident or offload-models"
                )
            with self.stream.here(number), dequantized_once(norms, next(iter(missing.values())).dtype):
                parts.append(torch.stack([modulation_of(block, temb) for temb in missing.values()]).cpu())
        self.stream.free()
        self._sizes = [part.shape[2] for part in parts]
        self._known.update(zip(missing, torch.cat(parts, dim=2).unbind(), strict=True))


def _key(temb: torch.Tensor) -> bytes:
    return temb.float().cpu().numpy().tobytes()


def _coming(transformer: HunyuanVideoAvatarTransformer3DModel, branches: Sequence[Branch]) -> dict[bytes, torch.Tensor]:
    """Every `temb` of the steps to come, each computed by itself as its window will."""
    tembs = {}
    for branch in branches:
        inputs = branch.inputs
        told = [inputs[name] for name in ("pooled_projections", "motion_exp", "motion_pose", "fps")]
        for timestep in branch.timesteps:
            temb = transformer.time_text_embed(timestep.to(inputs["timestep"]).expand(len(told[0])), *told)
            tembs[_key(temb)] = temb
    return tembs


def spread(count: int, most: int) -> set[int]:
    """`count` of the numbers below `most`, evenly apart."""
    return {number * most // count for number in range(count)}


class StreamedTransformer:
    """Computes the branches of guidance with the transformer's blocks streamed: a `branches.Predict`.

    Everything but the blocks stays on the device while the transformer is there, and with it the last block, which
    cached steps run alone: those stream nothing.

    Args:
        transformer: In host memory; what of it is not streamed is brought in by its hook.
        device: Where it computes.
        resident_blocks: How many of the other blocks stay on the device as well, spread evenly, so that each gives
            time for the copies around it.
        pinned: As in `WeightStream`, of the blocks; the modulations, which pass once a run, never are.

    Raises:
        ValueError: there are not so many blocks.
    """

    def __init__(
        self,
        transformer: HunyuanVideoAvatarTransformer3DModel,
        device: torch.device | str,
        *,
        resident_blocks: int = 0,
        pinned: bool = False,
    ) -> None:
        blocks = transformer.blocks
        most = len(blocks) - 1
        if not 0 <= resident_blocks <= most:
            raise ValueError(f"resident_blocks must be 0 to {most}, got {resident_blocks}")
        resident = spread(resident_blocks, most) | {most}
        streamed = [number for number in range(len(blocks)) if number not in resident]
        self.modulations = Modulations(blocks, device)
        self.weights = WeightStream(
            [tensors_of(*unmodulated(blocks[number])) for number in streamed], device, pinned=pinned
        )
        self._units = {number: unit for unit, number in enumerate(streamed)}

    @property
    def tensors(self) -> list[torch.Tensor]:
        """What of the transformer is not to be brought in with the rest."""
        return [*self.weights.tensors, *self.modulations.stream.tensors]

    def free(self) -> None:
        """Give back what it takes on the device."""
        self.weights.free()
        self.modulations.free()

    @torch.no_grad()
    def __call__(
        self, transformer: HunyuanVideoAvatarTransformer3DModel, branches: Sequence[Branch]
    ) -> list[HunyuanVideoAvatarTransformerOutput]:
        """As `branches.Predict`; the last block's input is returned in host memory.

        Raises:
            ValueError: the transformer has a cache of diffusers, which hooks the blocks' own `forward`, or LoRA weights
                on its modulations.
        """
        if transformer.is_cache_enabled:
            raise ValueError("caches of diffusers do not see streamed blocks: call transformer.disable_cache()")
        given = [dict(branch.inputs) for branch in branches]
        is_kept = [inputs.pop("return_last_block_input", False) for inputs in given]
        with brought_in(transformer):
            windows = [transformer.begin(**inputs) for inputs in given]
            modulations = self.modulations.of(transformer, branches, windows)
            is_full = [inputs.get("last_block_input") is None for inputs in given]
            full = [
                pair for pair, wanted in zip(zip(windows, modulations, strict=True), is_full, strict=True) if wanted
            ]
            for number, block in enumerate(transformer.blocks[:-1] if full else ()):
                with self._on_device(number), dequantized_once(unmodulated(block), full[0][0].temb.dtype):
                    for window, modulation in full:
                        run_in_chunks(block, window, modulation[number])
            outputs = []
            for number, (window, modulation) in enumerate(zip(windows, modulations, strict=True)):
                image, text = window.hidden_states, window.encoder_hidden_states
                kept = None
                if is_kept[number]:  # in host memory, for the room; they change in place
                    kept = image.to("cpu", copy=True), text.to("cpu", copy=True)
                if not is_full[number]:  # others hold these tokens
                    window = replace(window, hidden_states=image.clone(), encoder_hidden_states=text.clone())
                last = transformer.blocks[-1]
                with dequantized_once(unmodulated(last), window.temb.dtype):
                    run_in_chunks(last, window, modulation[-1])
                sample = transformer.finish(window)
                outputs.append(HunyuanVideoAvatarTransformerOutput(sample=sample, last_block_input=kept))
            return outputs

    def _on_device(self, number: int) -> contextlib.AbstractContextManager[None]:
        """A block's weights on the device, by streaming or because they stay there."""
        return self.weights.here(self._units[number]) if number in self._units else contextlib.nullcontext()
