"""Diffusers' caches in runs of this model: what a cache keeps of a step is kept by latent frame, as windows move
between steps, and a branch that begins late does not count from 0. Knows no cache by name: whatever holds image or
text tokens in its state is served.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.avatar.branches import Branch, Predict, one_after_another
from pipeline.avatar.sampler import FrameCache
from pipeline.avatar.transformer_hunyuan_avatar import (
    HunyuanVideoAvatarTransformer3DModel,
    HunyuanVideoAvatarTransformerOutput,
)

COUNTERS = {"step_index": 0, "current_step": -1}  # of states: which step is next or was last, and its value at first
TRANSIENT = ("head_block_output", "head_block_input")  # of a state: used within one call alone


@dataclass(frozen=True)
class _Place:
    """Where a tensor was in a state, and which of the kept ones it is."""

    number: int
    is_image: bool


@dataclass
class FrameState:
    """The state of one cache for one branch after a step, its tokens by latent frame.

    Args:
        example: The state, with a `_Place` for every tensor.
        tokens: What stood there.
    """

    example: Any = None
    tokens: list[FrameCache] = field(default_factory=list)

    def take(self, state: Any, branch: Branch, counts: tuple[int, int]) -> None:
        """Keep what a window left in `state`; all windows of a step leave the same counters.

        Args:
            state: Of the cache.
            branch: Whose latent frames the tokens are of.
            counts: Image tokens and text tokens of a window.

        Raises:
            ValueError: there are tokens of another number, as where processes share them.
        """
        number = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor | _Place:
            nonlocal number
            if tensor.ndim == 0:
                return tensor.clone()  # a counter, which caches change in place
            if tensor.ndim != 3 or tensor.shape[1] not in counts:
                raise ValueError(
                    f"a cache keeps {tuple(tensor.shape)}, which are not the {counts[0]} image or {counts[1]} text "
                    "tokens of a window: processes that share tokens cannot use it in clips of several windows"
                )
            place = _Place(number, is_image=tensor.shape[1] == counts[0])
            number += 1
            if len(self.tokens) < number:
                self.tokens.append(FrameCache())
            nothing = tensor.new_empty(1, len(branch.latent_frames) + 1, 0)  # one token a frame, of no width
            pair = (tensor, nothing) if place.is_image else (nothing, tensor)
            self.tokens[place.number].write(branch.latent_frames, branch.num_latent_frames, pair)
            return place

        self.example = copy.copy(state)
        for name, value in vars(state).items():
            setattr(self.example, name, None if name in TRANSIENT else _walk(value, torch.Tensor, keep))

    def give(self, branch: Branch, device: torch.device) -> Any:
        """The state as if this window had stood where it stands now."""

        def find(place: torch.Tensor | _Place) -> torch.Tensor:
            if isinstance(place, torch.Tensor):
                return place.clone()
            image, text = self.tokens[place.number].read(branch.latent_frames, device)
            return image if place.is_image else text

        state = copy.copy(self.example)
        for name, value in vars(state).items():
            setattr(state, name, _walk(value, (torch.Tensor, _Place), find))
        return state


@dataclass
class ByFrame:
    """An implementation of `branches.Predict` that leads diffusers' caches from step to step and window to window.

    Every window of a step begins with what the last step left, whatever the windows before it did; a step that was
    interrupted and is made again begins with the same. Runs must be made from their first step.

    Args:
        inner: Computes the branches.
    """

    inner: Predict = one_after_another
    before: dict[tuple[str, int], FrameState] = field(default_factory=dict)  # by branch and cache, after the last step
    after: dict[tuple[str, int], FrameState] = field(default_factory=dict)  # after this step, as far as it has come
    steps_left: int = 0
    num_steps: int = 0

    def __call__(
        self, transformer: HunyuanVideoAvatarTransformer3DModel, branches: Sequence[Branch]
    ) -> list[HunyuanVideoAvatarTransformerOutput]:
        """As `Predict`."""
        steps_left = len(branches[0].timesteps)
        if steps_left > self.steps_left:  # another run
            self.before, self.after, self.num_steps = {}, {}, steps_left
        elif steps_left < self.steps_left:
            self.before, self.after = self.after, {}
        self.steps_left = steps_left
        managers = list(state_managers(transformer))
        device = branches[0].inputs["hidden_states"].device
        moves = len(branches[0].latent_frames) < branches[0].num_latent_frames
        for branch in branches:
            for number, manager in enumerate(managers):
                kept = self.before.get((branch.name, number))
                if kept is not None:
                    manager._state_cache[branch.name] = kept.give(branch, device)
                elif moves or branch.name not in manager._state_cache:
                    manager._state_cache[branch.name] = self._new_state(manager)
        outputs = self.inner(transformer, branches)
        for branch in branches if moves else ():  # the only window stands still, and its state stays where it is
            height, width = branch.inputs["hidden_states"].shape[3:]
            tokens_per_frame = (height // transformer.config.patch_size) * (width // transformer.config.patch_size)
            num_text = int(branch.inputs["encoder_attention_mask"][0].sum())
            counts = (len(branch.latent_frames) + 1) * tokens_per_frame, num_text
            for number, manager in enumerate(managers):
                kept = self.after.setdefault((branch.name, number), FrameState())
                kept.take(manager._state_cache.pop(branch.name), branch, counts)
        return outputs

    def _new_state(self, manager: Any) -> Any:
        """As a cache makes it, counting from this step on."""
        state = manager._state_cls(*manager._init_args, **manager._init_kwargs)
        for name, first in COUNTERS.items():
            if hasattr(state, name):
                setattr(state, name, first + self.num_steps - self.steps_left)
        return state


def serves_windows(predict: Predict) -> bool:
    """Whether diffusers' caches can be used in clips of several windows that are computed so."""
    while predict is not None and not isinstance(predict, ByFrame):
        predict = getattr(predict, "inner", None)  # type: ignore[assignment]
    return predict is not None


def state_managers(transformer: torch.nn.Module) -> Iterator[Any]:
    """Those of the caches that are enabled, each once, in the order of the blocks."""
    seen = set()
    for module in transformer.modules():
        for hook in getattr(getattr(module, "_diffusers_hook", None), "hooks", {}).values():
            manager = getattr(hook, "state_manager", None)
            if manager is not None and id(manager) not in seen:
                seen.add(id(manager))
                yield manager


def _walk(value: Any, kind: type | tuple[type, ...], change: Callable[[Any], Any]) -> Any:
    """`value` with everything of a kind in it changed, through dictionaries, lists and tuples."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        return {key: _walk(part, kind, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_walk(part, kind, change) for part in value)
    return value
