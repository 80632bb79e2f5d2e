"""Several processes end where one ends: whole runs with the step cache and two windows, however the work is shared."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from diffusers import FirstBlockCacheConfig, FlowMatchEulerDiscreteScheduler

from pipeline import hardware
from pipeline.avatar import parallel
from pipeline.avatar.branches import Predict, one_after_another
from pipeline.avatar.presets import FLOW_SHIFT
from pipeline.avatar.sampler import DenoisingRun, FrameCache, denoise_step, make_scheduler
from pipeline.avatar.streaming import StreamedTransformer
from pipeline.avatar.transformer_hunyuan_avatar import HunyuanVideoAvatarTransformer3DModel
from pipeline.errors import FileMissing, ProcessesUnsuited
from tests.avatar.builds import make_pipeline, make_transformer
from tests.avatar.processes import forkserver
from tests.avatar.test_sampler import make_run
from tests.server import ROOT

TOLERANCE = 1e-5  # of latents that start near 1: sums over parts of the heads or tokens are rounded in another order
NUM_STEPS = 10  # four in full, then every other one from the caches
SECONDS = 120  # that processes may take before the test gives up on them


@dataclass(frozen=True)
class Case:
    """A run and the model that makes it; `rounding` as published amplifies the last bit of a float into a 256th."""

    heads: int
    guidance_scale: float = 7.5
    is_rounded: bool = False
    is_streamed: bool = False

    def model(self) -> HunyuanVideoAvatarTransformer3DModel:
        return make_transformer(num_attention_heads=self.heads, num_layers=2, num_single_layers=2)

    def run(self) -> DenoisingRun:
        run = make_run(num_steps=NUM_STEPS, guidance_scale=self.guidance_scale)
        mask = torch.ones(1, 9, dtype=torch.int64)  # longer than the prompt's
        negative = replace(run.conditions.negative_prompt, prompt_attention_mask=mask)
        run.conditions = replace(run.conditions, negative_prompt=negative)
        if not self.is_rounded:
            run.settings = replace(run.settings, rounding=None)
        return run


def go_on(run: DenoisingRun, model: HunyuanVideoAvatarTransformer3DModel, predict: Predict) -> list[torch.Tensor]:
    """The run to its end: its latents, and what its caches held half way."""
    scheduler = make_scheduler(FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT).config, run.settings)
    kept = []
    while not run.is_done:
        assert denoise_step(run, model, scheduler, predict=predict)
        if run.step == run.settings.num_inference_steps // 2:
            kept = [contents(cache) for cache in (run.positive_cache, run.negative_cache)]
    return [run.latents, *kept]


def contents(cache: FrameCache) -> torch.Tensor:
    """All that a cache holds, in one row."""
    parts = [] if cache.image is None else [cache.image, *(tokens for window in cache.windows for tokens in window)]
    return torch.cat([part.flatten() for part in parts]) if parts else torch.empty(0)


def expected(case: Case) -> list[torch.Tensor]:
    """What one process gives."""
    torch.set_num_threads(1)
    return go_on(case.run(), case.model(), one_after_another)


def join(rank: int, count: int, port: int, cases: list[Case], folder: str) -> None:
    """One of `count` processes makes the runs, with one model for all that have its heads."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in places.items()}
    torch.set_num_threads(1)
    parallel.start()
    models = {case.heads: case.model() for case in cases}
    predicts = {heads: parallel.Shared.over(model) for heads, model in models.items()}
    ends = []
    for case in cases:
        model, predict = models[case.heads], predicts[case.heads]
        if case.is_streamed:
            predict.split_tokens(model, None)
            predict = parallel.Shared.over(model, StreamedTransformer(model, "cpu"))
        ends.append(go_on(case.run(), model, predict))
    parallel.stop()
    torch.save(ends, f"{folder}/{rank}.pt")


def run_in(count: int, cases: list[Case], folder: Path) -> list[list[list[torch.Tensor]]]:
    """What each of `count` processes ends with, for every case."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.start_processes(
        join, (count, port, cases, str(folder)), nprocs=count, join=False, start_method=forkserver().get_start_method()
    )
    until = time.monotonic() + SECONDS
    while not context.join(timeout=1):  # also when one of them ends
        if time.monotonic() > until:
            for process in context.processes:
                process.kill()
            pytest.fail(f"{count} processes did not end in {SECONDS} s")
    return [torch.load(folder / f"{rank}.pt") for rank in range(count)]


def apart(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    assert [tensor.shape for tensor in one] == [tensor.shape for tensor in other]
    return max(float((left - right).abs().max()) for left, right in zip(one, other, strict=True) if left.numel())


@pytest.mark.parametrize(
    ("count", "cases"),
    [
        (2, [Case(2, is_rounded=True), Case(2, guidance_scale=1), Case(2), Case(2, is_streamed=True)]),
        (3, [Case(heads=5)]),
        (4, [Case(heads=4), Case(heads=4, guidance_scale=1), Case(heads=2, guidance_scale=1)]),
    ],
    ids=["two", "three, heads shared unevenly", "four"],
)
def test_processes_share_branches_and_tokens(count: int, cases: list[Case], tmp_path: Path) -> None:
    everyone = run_in(count, cases, tmp_path)
    for ends in everyone[1:]:
        assert all(apart(*pair) == 0 for pair in zip(ends, everyone[0], strict=True)), "processes drift apart"
    for case, end in zip(cases, everyone[0], strict=True):
        assert apart(end, expected(case)) <= (0 if case.is_rounded else TOLERANCE)


def make_clip(folder: str) -> None:
    """A clip as the command line would make it, in as many processes as there are, and what they say to each other."""
    torch.set_num_threads(1)
    parallel.start()
    rank, pipe = hardware.processes().rank, make_pipeline()
    parallel.share(pipe)
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (64, 80, 3), np.uint8)
    voice = generator.standard_normal(640 * 9).astype(np.float32) / 9
    mask = np.ones((64, 80), np.float32)

    def prepare() -> DenoisingRun:
        sizes = {"height": 64, "width": 80, "num_inference_steps": 3}
        return pipe.prepare(picture, voice, seed=rank, face_masks=[mask], full_window=False, **sizes)

    def fail() -> None:
        raise FileMissing(name="voice.wav")

    run = parallel.once(prepare)
    pipe.denoise(run)
    with pytest.raises(FileMissing) as failure:
        parallel.once(fail)
    answers = [parallel.any_says(asked == rank) for asked in (0, 1, 9)]
    parallel.unshare(pipe)
    parallel.stop()
    torch.save((parallel.is_main(), run.latents, failure.value.text("fr"), answers), f"{folder}/{rank}.pt")


def test_a_clip_started_by_torchrun_is_the_clip_of_one_process(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    make_clip(str(tmp_path / "alone"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--no-python"]
    program = f"from tests.avatar.test_parallel import make_clip; make_clip({str(tmp_path)!r})"
    subprocess.run([*torchrun, sys.executable, "-c", program], cwd=ROOT, check=True, timeout=SECONDS)
    is_main, latents, words, answers = torch.load(tmp_path / "alone" / "0.pt")
    assert is_main and answers == [True, False, False]
    for rank in (0, 1):
        told = torch.load(tmp_path / f"{rank}.pt")
        assert told[0] == (rank == 0)
        assert torch.equal(told[1], latents), "the first process's seed holds for both"
        assert told[2] == words == FileMissing(name="voice.wav").text("fr")
        assert told[3] == [True, True, False], "asked of all"


def test_a_number_of_processes_that_cannot_share_the_heads_is_refused_with_those_that_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_transformer()
    monkeypatch.setattr(parallel.dist, "get_world_size", lambda: 7)
    with pytest.raises(ProcessesUnsuited, match=r"7 processes cannot share .* 2 attention heads.*: 1, 2, 4\.$"):
        parallel.Shared.over(model)
    monkeypatch.setattr(parallel.dist, "get_world_size", lambda: 4)
    with pytest.raises(ProcessesUnsuited, match=r"4 processes .* that are streamed .*: 1, 2\.$"):
        parallel.Shared.over(model, StreamedTransformer(model, "cpu"))


def test_heads_are_shared_where_every_process_gets_some() -> None:
    assert [count for count in range(1, 30) if parallel.can_share(count, 24)] == [1, 2, 3, 4, 5, 6, 8, 12, 24]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: model.enable_cache(FirstBlockCacheConfig()), "FirstBlockCache decides by the tokens it sees"),
        (lambda model: model.set_attention_backend("_native_math"), "backend _native_math cannot share its tokens"),
    ],
)
def test_what_cannot_work_on_a_share_of_the_tokens_is_refused(
    change: Callable[[HunyuanVideoAvatarTransformer3DModel], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = parallel._AttentionBackendRegistry
    monkeypatch.setattr(registry, "_active_backend", registry._active_backend)  # diffusers' setter is for all models
    model = make_transformer()
    change(model)
    tokens: Any = object()
    with pytest.raises(ValueError, match=said):
        parallel.Shared(None, None).split_tokens(model, tokens)
    assert model._parallel_config is None


@pytest.mark.parametrize("variables", [{}, {"RANK": "1"}, {"RANK": "1", "LOCAL_RANK": "x", "WORLD_SIZE": "2"}])
def test_without_torchrun_a_process_is_alone(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hardware.processes() == hardware.Processes(0, 0, 1)
    assert parallel.is_main() and not parallel.is_distributed()
    parallel.start()
    assert not torch.distributed.is_initialized()
