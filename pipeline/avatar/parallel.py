"""One clip on several cards: the processes that torchrun starts share every window, first its two branches of guidance,
then its tokens (context parallelism after Ulysses, by diffusers).

Every process holds the whole model and the whole run, and takes it on by the same numbers; the first alone writes files
and speaks. Knows neither steps nor guidance.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from diffusers import ContextParallelConfig, FirstBlockCacheConfig
from diffusers.hooks.context_parallel import apply_context_parallel, remove_context_parallel
from diffusers.models._modeling_parallel import ParallelConfig
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from pipeline import hardware
from pipeline.avatar.branches import Branch, Predict, one_after_another
from pipeline.avatar.pipeline_hunyuan_avatar import HunyuanVideoAvatarPipeline
from pipeline.avatar.streaming import StreamedTransformer
from pipeline.avatar.transformer_hunyuan_avatar import (
    HunyuanVideoAvatarTransformer3DModel,
    HunyuanVideoAvatarTransformerOutput,
)
from pipeline.errors import ProcessesUnsuited
from pipeline.texts import LANGUAGES, Notice

# that processes wait for the first one, which may fetch 30 GB over a slow line; when one dies, torchrun ends the others
PATIENCE = timedelta(days=1)
NUM_SIDES = 2  # branches of guidance
MOST_PROCESSES = 64  # that are named as possible when another number is refused

Result = TypeVar("Result")


def is_distributed() -> bool:
    """Whether torchrun started this process together with others."""
    return hardware.processes().count > 1


def is_main() -> bool:
    """Whether this process is the one that writes files and prints; true where it is alone."""
    return hardware.processes().is_main


def device() -> torch.device:
    """Where this process computes: its own card, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", hardware.processes().local_rank)


def use_own_card() -> None:
    """Let what names no card use this process's: to be called in every thread that computes, as each begins on the
    first one."""
    if device().type == "cuda":
        torch.cuda.set_device(device())


def start() -> None:
    """Meet the other processes; alone, does nothing. Call `stop` in the end, unless something went wrong."""
    if not is_distributed() or dist.is_initialized():
        return
    use_own_card()
    if device().type == "cuda":
        # sizes of shares travel by gloo: nccl would send them through the card and wait for it
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)


def stop() -> None:
    """Part from the other processes, when all have done what they shared: a card that waits for another one's share
    would be waited for. Where something went wrong, the end of this process lets torchrun end the others."""
    if dist.is_initialized():
        dist.destroy_process_group()


def once(work: Callable[[], Result]) -> Result:
    """Do something in the first process and have what it gives in all of them, tensors on the CPU.

    Where it fails, the same error is raised in all of them, so that none waits for the others.
    """
    if not dist.is_initialized():
        return work()
    written: list[bytes | None] = [None]
    if is_main():
        outcome: tuple[bool, Any]
        try:
            outcome = True, work()
        except Exception as error:
            outcome = False, error
        content = io.BytesIO()
        torch.save(outcome, content)
        written = [content.getvalue()]
    dist.broadcast_object_list(written, src=0, device=torch.device("cpu"))
    assert written[0] is not None
    went_well, given = torch.load(io.BytesIO(written[0]), map_location="cpu", weights_only=False)  # by a fellow process
    if not went_well:
        raise given
    return given


def any_says(answer: bool) -> bool:
    """Whether any process answers yes: what may stop a run must be asked this way, or the others wait for ever."""
    if not dist.is_initialized():
        return answer
    asked = torch.tensor(int(answer))
    dist.all_reduce(asked, dist.ReduceOp.MAX)
    return bool(asked)


def share(pipe: HunyuanVideoAvatarPipeline) -> None:
    """Let all processes compute together what this pipeline denoises; alone, does nothing.

    Call it in every process, after `start`, with the same weights placed on `device()`; give every process the same
    run (`once` makes one). A run then ends with the same latents in all of them.

    Raises:
        ProcessesUnsuited: the model's heads cannot be shared by so many, or its blocks are streamed.
    """
    if not dist.is_initialized() or isinstance(pipe.predict, Shared):
        return
    pipe.predict = Shared.over(pipe.transformer, pipe.predict)
    if not is_main():
        pipe.set_progress_bar_config(disable=True)


def unshare(pipe: HunyuanVideoAvatarPipeline) -> None:
    """Undo `share`."""
    if isinstance(pipe.predict, Shared):
        pipe.predict.split_tokens(pipe.transformer, None)
        pipe.predict = pipe.predict.inner


def can_share(num_processes: int, num_heads: int) -> bool:
    """Whether so many processes can share a window's tokens.

    Each computes the attention of some heads, the last one of fewer; it must be left with one at least.
    """
    heads_each = -(-num_heads // num_processes)
    return heads_each * num_processes - num_heads < heads_each


@dataclass(frozen=True)
class Arrangement:
    """How the processes stand: `num_sides` groups, each of which computes one branch, or all.

    Args:
        num_sides: 1 or 2.
        tokens: How a group shares its tokens; None for a group of one.
        mesh: Processes by (branch, ring, ulysses), ring being 1.
    """

    num_sides: int
    tokens: ParallelConfig | None
    mesh: Any

    @classmethod
    def of(cls, num_sides: int) -> "Arrangement":
        """All processes in so many groups; every process must call it at the same time."""
        kind, degree = device().type, dist.get_world_size() // num_sides
        mesh = dist.device_mesh.init_device_mesh(
            kind, (num_sides, 1, degree), mesh_dim_names=("branch", "ring", "ulysses")
        )
        tokens = None
        if degree > 1:
            # anything: texts have any length, and heads may be shared unevenly
            config = ContextParallelConfig(ulysses_degree=degree, ulysses_anything=True, mesh=mesh)
            tokens = ParallelConfig(context_parallel_config=config)
            tokens.setup(dist.get_rank(), dist.get_world_size(), device(), mesh=mesh)
        return cls(num_sides, tokens, mesh)


@dataclass
class Shared:
    """The branches of a window, computed by all processes; an implementation of `branches.Predict`.

    Args:
        apart: The processes in two groups, one for each branch; None where their number is odd.
        together: The processes in one group, for a step with one branch; None where their number does not allow it:
            then both groups compute that branch.
        inner: Computes the branches that fall to this process.
    """

    apart: Arrangement | None
    together: Arrangement | None
    inner: Predict = one_after_another
    tokens: ParallelConfig | None = field(default=None, init=False)

    @classmethod
    def over(cls, transformer: HunyuanVideoAvatarTransformer3DModel, inner: Predict = one_after_another) -> "Shared":
        """For the processes there are.

        Raises:
            ProcessesUnsuited: the model's heads cannot be shared by so many, or its blocks are streamed.
        """
        count, heads = dist.get_world_size(), transformer.config.num_attention_heads
        is_streamed = isinstance(inner, StreamedTransformer)  # which takes whole windows through the blocks

        def ways(count: int) -> tuple[bool, bool]:
            each = count // NUM_SIDES
            apart = count % NUM_SIDES == 0 and (each == 1 or not is_streamed) and can_share(each, heads)
            return apart, count == 1 or (not is_streamed and can_share(count, heads))

        apart, together = ways(count)
        if not apart and not together:
            possible = ", ".join(str(number) for number in range(1, MOST_PROCESSES + 1) if any(ways(number)))
            reason = Notice("ProcessesStreamed" if is_streamed else "ProcessesByHeads", {"heads": heads})
            reasons = {f"reason_{language}": reason.text(language) for language in LANGUAGES}
            raise ProcessesUnsuited(found=count, possible=possible, **reasons)
        return cls(Arrangement.of(NUM_SIDES) if apart else None, Arrangement.of(1) if together else None, inner)

    def __call__(
        self, transformer: HunyuanVideoAvatarTransformer3DModel, branches: Sequence[Branch]
    ) -> list[HunyuanVideoAvatarTransformerOutput]:
        """As `Predict`: what every process gets is the same, to the bit.

        Raises:
            ValueError: attention or cache of the transformer cannot work on shares.
        """
        is_apart = self.apart is not None and (len(branches) == NUM_SIDES or self.together is None)
        arrangement = self.apart if is_apart else self.together
        assert arrangement is not None
        self.split_tokens(transformer, arrangement.tokens)
        if not is_apart or len(branches) != NUM_SIDES:
            return self.inner(transformer, branches)
        group = arrangement.mesh["branch"].get_group()
        side = dist.get_rank(group)
        return _exchange(self.inner(transformer, [branches[side]])[0], side, group)

    def split_tokens(self, transformer: HunyuanVideoAvatarTransformer3DModel, tokens: ParallelConfig | None) -> None:
        """Share a window's tokens in this way from now on; None for not at all.

        Diffusers' `enable_parallelism` does the first half of it, but counts accelerators and cannot be undone.
        """
        if tokens is self.tokens:
            return
        processors: list[Any] = [getattr(module, "processor", None) for module in transformer.modules()]
        processors = [processor for processor in processors if hasattr(processor, "_parallel_config")]
        if tokens is not None:
            if isinstance(transformer._cache_config, FirstBlockCacheConfig):
                raise ValueError("FirstBlockCache decides by the tokens it sees, which differ between processes")
            for processor in processors:
                name = AttentionBackendName(
                    processor._attention_backend or _AttentionBackendRegistry.get_active_backend()[0]
                )
                if not _AttentionBackendRegistry._is_context_parallel_available(name):
                    raise ValueError(f"attention backend {name.value} cannot share its tokens; set another one")
        if self.tokens is not None:
            remove_context_parallel(transformer, transformer._cp_plan)
        transformer._parallel_config = self.tokens = tokens
        for processor in processors:
            processor._parallel_config = tokens
        if tokens is not None:
            apply_context_parallel(transformer, tokens.context_parallel_config, transformer._cp_plan)


def _exchange(
    mine: HunyuanVideoAvatarTransformerOutput, side: int, group: Any
) -> list[HunyuanVideoAvatarTransformerOutput]:
    """What each of two processes computed, in both of them; `side` is this process's number."""
    tensors = [mine.sample, *(mine.last_block_input or ())]
    shapes: list[Any] = [None] * NUM_SIDES
    dist.all_gather_object(shapes, [(tensor.shape, tensor.dtype) for tensor in tensors], group=group)
    outputs = []
    for number, told in enumerate(shapes):
        if number == side:
            given = [tensor.contiguous() for tensor in tensors]
        else:
            places = [tensor.device for tensor in tensors]  # the card; what streamed blocks keep, the host
            given = [torch.empty(shape, dtype=kind, device=at) for (shape, kind), at in zip(told, places, strict=True)]
        for tensor in given:
            dist.broadcast(tensor, group=group, group_src=number)
        kept = (given[1], given[2]) if len(given) > 1 else None
        outputs.append(HunyuanVideoAvatarTransformerOutput(sample=given[0], last_block_input=kept))
    return outputs
