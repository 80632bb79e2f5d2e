"""The avatar's work on one job, in pieces that may each run in another process: what must be known between two of them
lies in the job's folder. The one place where models are loaded and placed; reads no request that a visitor makes.
"""

import gc
import itertools
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from pipeline import hardware, media, separation
from pipeline.avatar import calibrate, costs, hub, parallel, placing, preview, speed, turns
from pipeline.avatar.autoencoder import frame_to_uint8
from pipeline.avatar.cards import ZERO_GPU
from pipeline.avatar.checkpoints import Checkpoints
from pipeline.avatar.pipeline_hunyuan_avatar import HunyuanVideoAvatarPipeline
from pipeline.avatar.sampler import DenoisingRun, make_scheduler
from pipeline.avatar.schedule import plan_step
from pipeline.avatar.tilings import TILINGS
from pipeline.background import HEARTBEAT_SECONDS, in_background
from pipeline.direction import mood_words, motion_ids
from pipeline.engine import Step
from pipeline.errors import DeviceMemoryFull
from pipeline.files import written_whole
from pipeline.generators import to_end
from pipeline.hardware import Placement
from pipeline.jobs import Job, lock_device
from pipeline.texts import Notice
from pipeline.units import GIGABYTE

PREVIEW_SECONDS = 4.0  # between two previews at least: a linear projection and a small file, but nobody looks oftener
PREVIEW = "preview.jpg"  # in the job's folder
SMALLER = {  # what takes less memory; None: nothing does
    Placement.RESIDENT: Placement.OFFLOAD_MODELS,
    Placement.OFFLOAD_MODELS: Placement.STREAM_BLOCKS,
    Placement.STREAM_BLOCKS: None,
}
# Source: PyTorch, the allocators of MPS and of the CPU; cuBLAS and cuDNN, which name their status.
MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "_ALLOC_FAILED")

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

_turn = threading.Lock()  # one job at a time in a process: the models are shared
_loaded: dict[tuple[Any, ...], HunyuanVideoAvatarPipeline] = {}  # the models loaded last, by what they are


def work_on(folder: Path, seconds: float | None = None) -> Generator[Step, None, None]:
    """Work on a job until it is finished or the time is used up.

    Encoding is one piece of work, as is every step and every tile of frames; each is on the disk before the next one
    begins, so that a process may be killed at any moment. At least one piece is done, however little time there is.

    Args:
        folder: The job's.
        seconds: Time there is; None for as much as it takes.

    Yields:
        A Step at least every half second.

    Raises:
        JobBusy: another process works on it.
        JobDamaged, RunDamaged, DiskFull: its folder.
        DeviceMemoryFull: also with the placement that takes least.
        AvatarError: as `HunyuanVideoAvatarPipeline.from_published` and `prepare`.
    """
    until = None if seconds is None else time.monotonic() + seconds
    job = Job.open(Path(folder))
    with ExitStack() as held:
        if parallel.is_main():
            held.enter_context(job.lock())
        yield from _wait_for_turn(held)
        held.callback(placing.give_back, device())  # last, when nothing holds what was computed any more
        pool = held.enter_context(ThreadPoolExecutor(1, "avatar", parallel.use_own_card))
        told = yield from _attempt(job, pool, until)
        # processes that share the work would wait for one that goes another way: it ends, and torchrun ends them
        if told is not None and not parallel.is_distributed() and (smaller := _smaller(job)) is not None:
            job.update(placement=smaller)
            yield Step("StageLessMemory", job=job.id)
            told = yield from _attempt(job, pool, until)
        if told is not None:
            raise DeviceMemoryFull(placement=placement_of(job).value, detail=told)


def _attempt(job: Job, pool: ThreadPoolExecutor, until: float | None) -> Generator[Step, None, str | None]:
    """Work until the time is over; what was said where the device was full."""
    work = _Work(job, pool, until)
    try:
        yield from work.run()
        return None
    except _NoRoom as error:
        told = str(error)
    finally:
        work.let_go()
    gc.collect()  # the error's frames, which hold what was on the device, refer to each other
    return told


def _smaller(job: Job) -> Placement | None:
    """What takes less memory than the job's placement now; None where nothing does."""
    placement = placement_of(job)
    if SMALLER[placement] is None and "placement" not in job.state:
        return placement  # the same, with no blocks kept on the device
    return SMALLER[placement]


def follow() -> None:
    """What the processes of torchrun do that are not the first: work on its job, as it does."""
    folder = parallel.once(lambda: Path())  # the first one's answer
    for _ in work_on(folder):
        pass


def placement_of(job: Job) -> Placement:
    """Where the job's models are placed: as planned, or as it had to be since."""
    return Placement(job.state.get("placement", job.facts["placement"]))


def device() -> torch.device:
    """Where this process computes."""
    if torch.cuda.is_available():
        return parallel.device()
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def load(facts: dict[str, Any]) -> HunyuanVideoAvatarPipeline:
    """The models of a job, on the CPU; loaded once in a process.

    Args:
        facts: The job's: `weights`, the folder that holds `ckpts`, and `precision`.

    Raises:
        WeightsError: as `HunyuanVideoAvatarPipeline.from_published`.
    """
    key = facts["weights"], facts["precision"], facts["converted"]
    if key not in _loaded:
        _loaded.clear()  # two sets of models fit nowhere
        transformers_logging.disable_progress_bar()  # of transformers: one for each encoder, across our own
        dtypes = {} if device().type != "cpu" else {"dtype": torch.float32, "encoder_dtype": torch.float32}
        _loaded[key] = HunyuanVideoAvatarPipeline.from_published(
            Path(facts["weights"]), precision=facts["precision"], converted=Path(facts["converted"]), **dtypes
        )
        _loaded[key].set_progress_bar_config(disable=True)
    return _loaded[key]


def pack(repository: hub.Repository) -> None:
    """On a Space with ZeroGPU, at start-up: fetch the models and put them on the card, where `spaces` packs them.

    In fp8 they come to 31 GB, within the 42 GiB beyond which a lease costs double. Every lease finds them loaded.

    Raises:
        AvatarError: as `hub.download` and `hub.convert`.
    """

    weights = str(hub.download(repository, on_progress=_in_log("downloading the weights")))
    converted = str(hub.convert(repository, on_progress=_in_log("converting the weights")))
    pipe = load({"weights": weights, "converted": converted, "precision": "fp8"})
    placing.place(pipe, Placement.RESIDENT, "cuda")


def _in_log(what: str) -> Callable[[int, int], None]:
    """What is told bytes done and bytes in all, and writes every tenth into the log, where nobody sees a page yet."""
    told = -1

    def tell(done: int, total: int) -> None:
        nonlocal told
        if (tenth := 10 * done // max(total, 1)) > told:
            told = tenth
            logger.warning("%s: %d %% of %.1f GB", what, 10 * tenth, total / GIGABYTE)

    return tell


def _wait_for_turn(held: ExitStack) -> Generator[Step, None, None]:
    """Until no other job computes in this process, nor on this device in another one."""
    while not _turn.acquire(blocking=False):
        yield Step("StageWaiting")
        time.sleep(HEARTBEAT_SECONDS)
    held.callback(_turn.release)
    where = device()
    if where.type == "cpu" or hardware.on_zero_gpu():
        return
    name = str(torch.cuda.get_device_properties(where).uuid) if where.type == "cuda" else where.type
    lock = lock_device(name)
    while not lock.take():
        yield Step("StageWaiting")
        time.sleep(HEARTBEAT_SECONDS)
    held.callback(lock.release)


class _NoRoom(Exception):
    """The device's memory is full."""


@dataclass
class _Work:
    """One piece of time spent on a job.

    Args:
        job: The job, locked.
        pool: The one thread that computes, so that this one can answer.
        until: `time.monotonic()` after which nothing new is begun; None for never.
    """

    job: Job
    pool: ThreadPoolExecutor
    until: float | None
    pipe: HunyuanVideoAvatarPipeline | None = None

    def run(self) -> Generator[Step, None, None]:
        """Encode, denoise, decode: whatever is left of it."""
        if self.job.state.get("finished"):
            return
        for notice in (yield from self._during("StageLoading", self._load)):
            yield replace(self._step("StageLoading"), notice=notice)
        pipe = self.pipe
        assert pipe is not None, "just loaded"
        checkpoints = Checkpoints(self.job.run_folder)
        run = checkpoints.load()
        if run is not None and run.step and not run.is_done and not self._preset.can_continue:
            checkpoints.clear()  # what its cache held is gone: begun anew it ends alike
            run = None
        if parallel.any_says(run is None):  # nobody finds what the first process saves a moment later
            run = yield from self._during("StageEncoding", lambda: self._begin(pipe, checkpoints))
        assert run is not None, "just begun"
        if not run.is_done:
            yield from self._denoise(pipe, run, checkpoints)
            if self._is_over(self._tile_seconds()):
                return
        if run.is_done and parallel.is_main():
            yield from self._decode(pipe, run)

    @property
    def _preset(self) -> speed.Preset:
        return speed.PRESETS[self.job.facts["preset"]]

    def let_go(self) -> None:
        """Give the device back."""
        if self.pipe is not None and not hardware.on_zero_gpu():  # there the worker's whole memory goes back
            parallel.unshare(self.pipe)
            speed.undo(self.pipe)
            placing.unplace(self.pipe)
        self.pipe = None

    def _load(self) -> list[Notice]:
        """Load the models, or find them loaded, and put them where they belong; what was chosen by measuring."""
        facts, placement = self.job.facts, placement_of(self.job)
        self.pipe = pipe = load(facts)
        spare = 0
        if "placement" not in self.job.state:  # with no blocks on the device it needs least
            spare = costs.spare_vram(costs.Work.of(facts), calibrate.find_device(device().type)[2] or 0)
        placing.place(pipe, placement, device(), spare_vram=spare)
        chosen = speed.apply(pipe, facts["preset"], placement, num_inference_steps=facts["num_inference_steps"])
        parallel.share(pipe)
        return chosen

    def _begin(self, pipe: HunyuanVideoAvatarPipeline, checkpoints: Checkpoints) -> DenoisingRun:
        """Encode all that the clip is made from, and keep it."""

        def encode() -> None:
            facts, request = self.job.facts, self.job.request
            left, top, across, down = map(round, facts["crop"])
            portrait = media.load_portrait(request.portrait)[top : top + down, left : left + across]
            voices = turns.on_the_clips_time(
                [_alone(path) for path in (request.speech, request.second_speech) if path is not None],
                facts["starts"],
            )
            motion_pose, motion_exp = motion_ids(request.direction)
            run = pipe.prepare(
                portrait,
                voices,
                f"{request.prompt} {mood_words(request.mood)}".strip(),
                height=facts["height"],
                width=facts["width"],
                num_frames=facts["num_frames"],
                num_inference_steps=facts["num_inference_steps"],
                guidance_scale=facts["guidance_scale"],
                seed=request.seed,
                **turns.faces_or_masks(portrait, voices, facts),
                motion_pose=motion_pose,
                motion_exp=motion_exp,
                **self._preset.settings,
                cache_dir=hardware.prompts_folder(),
                tiling=facts["tiling"],
            )
            self.job.update(dropped=run.conditions.prompt.dropped)
            checkpoints.save(run)

        parallel.once(encode)
        saved = checkpoints.load()  # the same numbers, whether it is continued here or elsewhere
        assert saved is not None, "it was saved a moment ago"
        return saved

    def _denoise(
        self, pipe: HunyuanVideoAvatarPipeline, run: DenoisingRun, checkpoints: Checkpoints
    ) -> Generator[Step, None, None]:
        """Whole steps, each one saved."""
        pace = _Pace(run, self.job.state.get("pace", {}))
        steps, shown = pipe.steps(run), 0.0

        def stop() -> None:
            pipe._interrupt = True

        def take_step() -> None:
            nonlocal shown
            before = run.latents
            begun = time.monotonic()
            next(steps, None)
            if run.latents is before:
                return  # interrupted
            pace.note(run.step - 1, time.monotonic() - begun)
            if not parallel.is_main():
                return
            checkpoints.save(run)
            self.job.update(pace=pace.seconds, step=run.step)
            if time.monotonic() - shown > PREVIEW_SECONDS or run.is_done:
                shown = time.monotonic()
                self._show(pipe, run, before)

        while not run.is_done:
            yield from self._during("StageDenoising", take_step, stop=stop, progress=pace.progress)
            yield self._step("StageDenoising", *pace.progress())
            if not run.is_done and self._is_over(pace.next_seconds()):
                return

    def _show(self, pipe: HunyuanVideoAvatarPipeline, run: DenoisingRun, before: torch.Tensor) -> None:
        """Keep a small picture of the clip as the last step saw it coming."""
        sigmas = make_scheduler(pipe.scheduler.config, run.settings).sigmas
        seen = preview.foresee(run.latents, before, float(sigmas[run.step]), float(sigmas[run.step - 1]))
        with written_whole(self.job.folder / PREVIEW) as part:
            part.write_bytes(preview.preview_jpeg(seen))

    def _decode(self, pipe: HunyuanVideoAvatarPipeline, run: DenoisingRun) -> Generator[Step, None, None]:
        """Frames, a tile of time after the other, each one kept."""
        total, tiling = run.timeline.num_frames, TILINGS[self.job.facts["tiling"]]
        pace = 0.0  # seconds a tile
        first = self.job.num_frames
        frames = pipe.decode(run, tiling, first) if first < total else iter(())

        def take_tile() -> None:
            nonlocal pace
            begun, start = time.monotonic(), self.job.num_frames
            end = min(tiling.num_frames_stride * (1 + max(start - 1, 0) // tiling.num_frames_stride) + 1, total)
            tile = np.stack([frame_to_uint8(frame) for frame in itertools.islice(frames, end - start)])
            self.job.add_frames(start, tile)
            pace = time.monotonic() - begun

        while self.job.num_frames < total:
            done = self.job.num_frames
            left = (total - done) / tiling.num_frames_stride * pace if pace else None
            yield from self._during("StageDecoding", take_tile, progress=lambda: (done, total, left))  # noqa: B023
            if self.job.num_frames < total and self._is_over(pace):
                return
        self.job.update(finished=True)

    def _tile_seconds(self) -> float:
        """Of decoding a tile of frames, while none was measured: as estimated for the card that is lent for a time."""
        facts = self.job.facts
        num_tiles = max(facts["num_frames"] / TILINGS[facts["tiling"]].num_frames_stride, 1)
        return costs.decoding_seconds(costs.Work.of(facts), facts["tiling"], ZERO_GPU.rates) / num_tiles

    def _is_over(self, seconds: float) -> bool:
        """Whether there is no time left for a piece of work of so many seconds."""
        return self.until is not None and time.monotonic() + seconds > self.until

    def _step(self, stage: str, done: int = 0, total: int = 0, left: float | None = None) -> Step:
        picture = self.job.folder / PREVIEW
        return Step(stage, done, total, left, job=self.job.id, preview=picture if picture.is_file() else None)

    def _during(
        self,
        stage: str,
        work: Callable[[], Result],
        *,
        stop: Callable[[], None] | None = None,
        progress: Callable[[], tuple[int, int, float | None]] | None = None,
    ) -> Generator[Step, None, Result]:
        """Do a piece of work in the other thread; see `in_background`."""

        def step() -> Step:
            return self._step(stage, *(progress() if progress else ()))

        with _memory_told():
            return (yield from in_background(work, step, pool=self.pool, stop=stop))


def _alone(recording: Path) -> np.ndarray:
    """A recording's voice without what is behind it: (samples,) float32, 16 000 Hz."""
    waveform: np.ndarray = to_end(separation.voice_only(media.load_speech(recording).waveform))
    return waveform


@contextmanager
def _memory_told() -> Iterator[None]:
    """What a full device raises in the block becomes a _NoRoom."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _NoRoom(str(error).splitlines()[0]) from error
    except RuntimeError as error:  # mps and the CPU have no error of their own for it
        if not any(words in str(error) for words in MEMORY_WORDS):
            raise
        raise _NoRoom(str(error).splitlines()[0]) from error


class _Pace:
    """How long the steps of a run take, full and cached ones apart.

    Args:
        run: The run.
        seconds: Mean of each kind so far, as `seconds` held it in an earlier process.
    """

    def __init__(self, run: DenoisingRun, seconds: dict[str, float]) -> None:
        self._run = run
        self._done = run.step  # whose seconds are noted: the run itself is a moment ahead, in the other thread
        self.seconds = dict(seconds)
        self._begun = time.monotonic()

    def note(self, step: int, seconds: float) -> None:
        """Step `step` took so many seconds. The first of a process is slower than the rest and soon forgotten."""
        kind = self._kind(step)
        self.seconds[kind] = seconds if kind not in self.seconds else (self.seconds[kind] + seconds) / 2
        self._begun, self._done = time.monotonic(), step + 1

    def next_seconds(self) -> float:
        """What the next step will take, as far as that is known."""
        return self.seconds.get(self._kind(self._run.step), max(self.seconds.values(), default=0.0))

    def progress(self) -> tuple[int, int, float | None]:
        """Steps done, steps in all, seconds left of them; None while no step has been measured."""
        done, total = self._done, self._run.settings.num_inference_steps
        if not self.seconds:
            return done, total, None
        longest = max(self.seconds.values())
        left = sum(self.seconds.get(self._kind(step), longest) for step in range(done, total))
        return done, total, max(left - (time.monotonic() - self._begun), 0.0)

    def _kind(self, step: int) -> str:
        settings = self._run.settings
        is_full = plan_step(step, settings.num_inference_steps, settings.guidance_scale).is_full
        return "full" if is_full or not settings.use_step_cache else "cached"
