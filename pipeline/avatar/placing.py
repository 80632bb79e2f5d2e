"""Where a pipeline's models are kept while they wait, and how they come to the device that computes.

The same on cuda, mps and cpu, where coming and going moves nothing. Which placement fits a machine is decided in
`costs.py`; how weights are streamed stands in `streaming.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from torch import nn
from transformers import LlavaForConditionalGeneration

from pipeline import hardware
from pipeline.avatar import calibrate
from pipeline.avatar.branches import one_after_another
from pipeline.avatar.chunked import unmodulated
from pipeline.avatar.pipeline_hunyuan_avatar import HunyuanVideoAvatarPipeline
from pipeline.avatar.streaming import StreamedTransformer, WeightStream, bytes_of, spread, tensors_of
from pipeline.avatar.text import UNUSED_LAYERS
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from pipeline.hardware import Placement

RAM_LEFT = 4 * 2**30  # bytes of host memory not to be pinned: for the process, a clip's frames and the system


class Streaming(Protocol):
    """What brings some tensors of a model in by itself."""

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Those that are not to come with the model."""

    def free(self) -> None:
        """Give back what it takes on the device."""


def give_back(device: torch.device) -> None:
    """Give back what PyTorch keeps of a device's memory though nobody uses it."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).empty_cache()


class Room:
    """A device with room for one model: who comes in sends out whoever is there."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.inside: Guest | None = None

    def let_in(self, guest: "Guest") -> None:
        if self.inside is not guest:
            self.clear()
            self.inside = guest
        guest.come()

    def clear(self) -> None:
        if self.inside is not None:
            self.inside.go()
            self.inside = None
            give_back(self.device)  # what lies in pieces of this model's sizes


class Guest(ModelHook):
    """A model that comes to the device when it is called, or brought in, and stays until another one comes.

    It leaves its weights where they are and takes copies along: going home copies nothing, and weights in mapped files
    never fill host memory.

    Args:
        room: Where to.
        model: Whose hook this is.
        streaming: What brings in some of its tensors by itself.
    """

    def __init__(self, room: Room, model: nn.Module, streaming: Sequence[Streaming] = ()) -> None:
        self.room, self.model, self.streaming = room, model, list(streaming)
        self.execution_device = room.device  # where diffusers and `brought_in` look for it
        self.elsewhere = {id(tensor) for one in self.streaming for tensor in one.tensors}
        self.at_home: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # tensors that came, and what they are at home

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """As accelerate calls it; inputs are left as they are."""
        self.room.let_in(self)
        return args, kwargs

    def come(self) -> None:
        """Bring in what is not there yet: adapters may have been added since."""
        for tensor in tensors_of(self.model):
            if id(tensor) not in self.elsewhere and id(tensor) not in self.at_home:
                home = tensor.data
                tensor.data = home.to(self.execution_device)
                self.at_home[id(tensor)] = (tensor, home)

    def go(self) -> None:
        """Leave the device."""
        for tensor, home in self.at_home.values():
            tensor.data = home
        self.at_home.clear()
        for one in self.streaming:
            one.free()


@dataclass
class Placed:
    """What `place` set up."""

    room: Room
    residents: list[Guest] = field(default_factory=list)
    hooked: list[nn.Module] = field(default_factory=list)  # models
    handles: list[Any] = field(default_factory=list)  # of hooks on layers

    def is_resident_on(self, device: torch.device) -> bool:
        """Whether all models stay there."""
        there = self.room.device
        return bool(self.residents) and (there.type, there.index or 0) == (device.type, device.index or 0)

    def rest(self) -> None:
        """Send the last model out, when all stages of a clip are through."""
        self.room.clear()


def place(
    pipe: HunyuanVideoAvatarPipeline,
    placement: Placement,
    device: torch.device | str,
    *,
    spare_vram: int = 0,
    free_ram: int | None = None,
) -> None:
    """Keep the models of a pipeline in a certain way from now on; `unplace` takes it back.

    Whichever it is, the pipeline is used in the same way and gives the same clip. Placed before, it is placed anew;
    what is resident on this device stays. Blocks that wait in pinned memory lie there, as ordinary host memory, when
    they are placed otherwise.

    Args:
        pipe: With its models where they were loaded, in host memory as a rule.
        placement: RESIDENT has all on the device; OFFLOAD_MODELS one after another, the text encoder layer by layer;
            STREAM_BLOCKS the same, with the transformer block by block.
        device: Where they compute.
        spare_vram: Bytes of the device's memory that a clip leaves over when all blocks are streamed: as many blocks
            as fit into them stay there.
        free_ram: Bytes of host memory that may be had, which decides whether blocks wait in pinned memory or where they
            are, as a rule in mapped files; None to measure.

    Raises:
        ValueError: diffusers' or accelerate's own offloading is on, or for STREAM_BLOCKS a cache of diffusers.
    """
    device = torch.device(device)
    if placement is Placement.RESIDENT and pipe.placed is not None and pipe.placed.is_resident_on(device):
        for resident in pipe.placed.residents:
            resident.come()
        return
    unplace(pipe)
    pipe._maybe_raise_error_if_group_offload_active(raise_error=True)
    models = {name: model for name, model in pipe.components.items() if isinstance(model, nn.Module)}
    for name, model in models.items():
        if hasattr(model, "_hf_hook"):
            raise ValueError(f"{name} is offloaded already: call remove_all_hooks() first")
    transformer, text_encoder = models["transformer"], models["text_encoder"]
    placed = Placed(Room(device))
    if placement is Placement.RESIDENT:
        placed.residents = [Guest(placed.room, model) for model in models.values()]
        for resident in placed.residents:
            resident.come()
    else:
        layers = StreamedLayers(text_encoder, device)
        placed.handles = layers.handles
        streaming: dict[str, list[Streaming]] = {"text_encoder": [layers]}
        if placement is Placement.STREAM_BLOCKS:
            pipe.predict = blocks = _stream_blocks(transformer, device, spare_vram, free_ram)
            streaming["transformer"] = [blocks]
        for name, model in models.items():
            add_hook_to_module(model, Guest(placed.room, model, streaming.get(name, [])))
            placed.hooked.append(model)
    pipe.placed = placed


def unplace(pipe: HunyuanVideoAvatarPipeline) -> None:
    """Take back what `place` did: the models are where they were, and nothing of them is on the device."""
    placed = pipe.placed
    if placed is None:
        return
    placed.rest()
    for resident in placed.residents:
        resident.go()
    give_back(placed.room.device)
    for model in placed.hooked:
        remove_hook_from_module(model)
    for handle in placed.handles:
        handle.remove()
    pipe.placed, pipe.predict = None, one_after_another


class StreamedLayers:
    """The language model of a text encoder, whose layers come in one by one where they are called.

    The last ones and the head, which nobody calls, stay where they are.
    """

    def __init__(self, text_encoder: LlavaForConditionalGeneration, device: torch.device) -> None:
        layers = list(text_encoder.model.language_model.layers)
        called, unused = layers[:-UNUSED_LAYERS], layers[-UNUSED_LAYERS:]
        words = {id(tensor) for tensor in tensors_of(text_encoder.get_input_embeddings())}  # the head's, where tied
        self.stream = WeightStream([tensors_of(layer) for layer in called], device)
        self.unused = [tensor for tensor in tensors_of(*unused, text_encoder.lm_head) if id(tensor) not in words]
        self.handles = []
        for number, layer in enumerate(called):
            before, after = partial(self._take, number), partial(self._release, number)
            self.handles.append(layer.register_forward_pre_hook(before))
            self.handles.append(layer.register_forward_hook(after, always_call=True))

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Those that are not to come with the model."""
        return [*self.stream.tensors, *self.unused]

    def free(self) -> None:
        """Give back what it takes on the device."""
        self.stream.free()

    def _take(self, number: int, *_: Any) -> None:
        self.stream.take(number)

    def _release(self, number: int, *_: Any) -> None:
        self.stream.release(number)


def _stream_blocks(
    transformer: HunyuanVideoAvatarTransformer3DModel, device: torch.device, spare_vram: int, free_ram: int | None
) -> StreamedTransformer:
    """The transformer streamed, as far as it does not fit into `spare_vram`."""
    if transformer.is_cache_enabled:
        raise ValueError("caches of diffusers do not see streamed blocks: call transformer.disable_cache() first")
    if free_ram is None:
        free_ram = int(min(calibrate.free_ram(), hardware.container_memory_left())) // hardware.processes().count
    sizes = [bytes_of(tensors_of(*unmodulated(block))) for block in transformer.blocks[:-1]]
    resident = set(range(len(sizes)))
    while sum(sizes[number] for number in resident) > spare_vram:
        resident = spread(len(resident) - 1, len(sizes))
    waiting = [block for number, block in enumerate(transformer.blocks[:-1]) if number not in resident]
    unpinned = [tensors for block in waiting if not (tensors := tensors_of(*unmodulated(block)))[0].is_pinned()]
    # PyTorch rounds every block of pinned memory up to a power of two
    pinned_bytes = sum(1 << (bytes_of(tensors) - 1).bit_length() for tensors in unpinned)
    is_pinned = device.type == "cuda" and pinned_bytes + RAM_LEFT <= free_ram
    return StreamedTransformer(transformer, device, resident_blocks=len(resident), pinned=is_pinned)
