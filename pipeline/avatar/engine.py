"""The avatar engine: weights, plan, job, and leases of work until the frames are there. Denoises nothing itself.

Imports no torch: on a Space with ZeroGPU the page's own process only hands out leases.
"""

import itertools
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import face as faces
from pipeline import hardware
from pipeline.avatar import costs, hub
from pipeline.background import in_background
from pipeline.engine import Scene, Step, Take
from pipeline.errors import PlanDoesNotFit
from pipeline.hardware import Machine, Placement
from pipeline.jobs import Job
from pipeline.plan import ClipPlan, frames_of
from pipeline.request import RenderRequest
from pipeline.texts import LANGUAGES, Notice

Lease = Callable[[Path], Generator[Step, None, None]]
"""Works on a job for a while: until it is finished, or the time it may take is over."""


def work_here(job: Path) -> Generator[Step, None, None]:
    """The lease of a computer of one's own: all of the work, in this process and those that torchrun started too."""
    from pipeline.avatar import parallel, work  # imports torch

    yield from work.work_on(parallel.once(lambda: job))


@dataclass
class AvatarEngine:
    """HunyuanVideo-Avatar, 13 billion parameters, made to speak by the voice itself.

    Args:
        request: What is asked for.
        job: The render to go on with; None begins one.
        lease: Works on the job; on ZeroGPU the app's own, which asks for a card.
        repository: Where the weights come from; None for the published ones.
        machine: What the plan is made for; None measures this one.
    """

    request: RenderRequest
    job: Job | None = None
    lease: Lease = work_here
    repository: hub.Repository | None = None
    machine: Machine | None = None

    name = "avatar"

    def __post_init__(self) -> None:
        if self.job is not None:  # it goes on with the weights that it was begun with
            kept = self.job.facts["repository"]
            self.repository = replace(hub.Repository(**kept), cache_dir=Path(kept["cache_dir"]))

    def plan(self, scene: Scene, *, size: int) -> costs.AvatarPlan:
        """The whole picture, its shorter side `size`. See `pipeline.engine.Engine`."""
        return plan_avatar(
            replace(self.request, size=size),
            seconds=scene.speech.seconds,
            picture_size=scene.portrait.shape[:2],
            machine=self.machine,
            repository=self.repository,
        )

    def told(self, plan: costs.AvatarPlan) -> Notice:
        """A plan in words: what will be made, how long it takes, what it needs."""
        estimate = plan.estimate
        reasons = {f"reason_{language}": estimate.reason.text(language) for language in LANGUAGES}
        return Notice(
            "PlanTold",
            {
                "width": plan.width,
                "height": plan.height,
                "frames": plan.num_frames,
                "seconds": plan.seconds,
                "steps": plan.num_inference_steps,
                "vram": estimate.peak_vram / hardware.GIBIBYTE,
                "ram": estimate.host_ram / hardware.GIBIBYTE,
                "download": estimate.download / 1e9,
                **costs.time_in_words(estimate.seconds),
                **reasons,
            },
        )

    def perform(self, scene: Scene, plan: ClipPlan, *, seed: int) -> Generator[Step, None, Take]:
        """Fetch what is missing, then lease time until every frame is there. See `pipeline.engine.Engine`."""
        assert isinstance(plan, costs.AvatarPlan), "made by this engine"
        yield Step("StageChecking", notice=self.told(plan))
        facts = yield from self._weights(plan)
        facts |= {
            "engine": self.name,
            "seed": seed,
            "num_frames": plan.num_frames,
            "height": plan.height,
            "width": plan.width,
            "num_inference_steps": plan.num_inference_steps,
            "guidance_scale": plan.guidance_scale,
            "preset": plan.preset,
            "face": _box(scene.speakers[0].face),
        }
        if self.job is None:
            placed = {"placement": plan.placement, "tiling": plan.tiling}
            job = Job.create(replace(self.request, seed=seed), facts=facts | placed, needed=plan.work.job_bytes)
        else:
            job = self.job
            job.check(facts | {name: job.facts[name] for name in ("placement", "tiling")})
        yield Step("StageChecking", job=job.id)
        while not job.state.get("finished"):
            before = job.state, job.num_frames
            yield from self.lease(job.folder)
            assert (job.state, job.num_frames) != before, "a lease does one piece of work at least"
        return Take(job.frames(), tuple(_notices(job)), job.delete)

    def _weights(self, plan: costs.AvatarPlan) -> Generator[Step, None, dict[str, Any]]:
        """Download and convert what is missing; what a job must know of it."""
        told = [0, 0]

        def tell(done: int, total: int) -> None:
            told[:] = done, total

        def step(stage: str) -> Callable[[], Step]:
            return lambda: Step(stage, told[0] // 2**20, told[1] // 2**20)

        repository = self.repository or hub.published()
        folder = yield from in_background(
            lambda: hub.download(repository, plan.precision, on_progress=tell), step("StageDownloading")
        )
        told[:] = 0, 0
        converted = yield from in_background(
            lambda: hub.convert(repository, plan.precision, on_progress=tell), step("StageConverting")
        )
        return {
            "weights": str(folder),
            "converted": str(converted),
            "precision": plan.precision,
            "commit": hub.listing(repository).commit,
            "repository": {
                "name": repository.name,
                "revision": repository.revision,
                "endpoint": repository.address,
                "cache_dir": str(repository.storage.parent),
                "needs_licence": repository.needs_licence,
            },
        }


def plan_avatar(
    request: RenderRequest,
    *,
    seconds: float,
    picture_size: tuple[int, int],
    machine: Machine | None = None,
    repository: hub.Repository | None = None,
) -> costs.AvatarPlan:
    """How a request would be made, and what that costs.

    Args:
        request: What is asked for.
        seconds: Length of the speech.
        picture_size: (height, width) of the picture, pixels.
        machine: Where; None measures this one, which takes some seconds the first time.
        repository: Where the weights come from; None for the published ones.

    Raises:
        AvatarError: as `costs.plan_avatar`.
    """
    return costs.plan_avatar(**_asked(request, seconds, picture_size, machine, repository))


def alternatives(
    request: RenderRequest,
    *,
    seconds: float,
    picture_size: tuple[int, int],
    machine: Machine | None = None,
    repository: hub.Repository | None = None,
) -> list[costs.AvatarPlan]:
    """What is faster than the request and fits; arguments and errors are those of `plan_avatar`."""
    return costs.alternatives(**_asked(request, seconds, picture_size, machine, repository))


def every_plan(request: RenderRequest, *, seconds: float, picture_size: tuple[int, int]) -> list[costs.AvatarPlan]:
    """The request in every size and number of steps on offer that fits; arguments and errors are `plan_avatar`'s."""
    plans, asked = [], _asked(request, seconds, picture_size, None, None)
    for size, steps in itertools.product(costs.SIZES, costs.STEPS):
        with suppress(PlanDoesNotFit):
            plans.append(costs.plan_avatar(**{**asked, "size": size, "steps": steps}))
    return plans


def _asked(
    request: RenderRequest,
    seconds: float,
    picture_size: tuple[int, int],
    machine: Machine | None,
    repository: hub.Repository | None,
) -> dict[str, Any]:
    """A request as the cost model reads it."""
    repository = repository or hub.published()
    machine = machine or hardware.measure_machine(repository.storage)
    precision = costs.precision_on(machine.device)
    return {
        "machine": machine,
        "num_frames": frames_of(seconds),
        "picture_size": picture_size,
        "size": request.size,
        "steps": request.num_inference_steps,
        "placement": None if request.placement is None else Placement(request.placement),
        "preset": request.preset,
        "download": hub.bytes_missing(repository, precision)[0],
        "conversion": 0 if hub.is_converted(repository, precision) else costs.converted_bytes(precision),
    }


def _box(face: faces.Face) -> list[float]:
    """Left, top, width and height of a face, as the pipeline takes it."""
    return [face.box.left, face.box.top, face.box.width, face.box.height]


def _notices(job: Job) -> Generator[Notice, None, None]:
    """What this clip could not do as asked."""
    state = job.state
    if state.get("dropped"):
        yield Notice("PromptShortened", {"words": state["dropped"]})
    if "placement" in state:
        yield Notice("PlacementLowered", {"placement": state["placement"]})
