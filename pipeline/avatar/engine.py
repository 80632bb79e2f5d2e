"""The avatar engine: weights, plan, job, and leases of work until the frames are there. Denoises nothing itself.

Imports no torch: on a Space with ZeroGPU the page's own process only hands out leases.
"""

import itertools
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import hardware
from pipeline.avatar import costs, hub
from pipeline.background import in_background
from pipeline.engine import Scene, Speaker, Step, Take
from pipeline.errors import PlanDoesNotFit
from pipeline.hardware import Machine, Placement
from pipeline.jobs import Job
from pipeline.plan import Box, ClipPlan, frames_of, plan_clip
from pipeline.request import RenderRequest
from pipeline.texts import LANGUAGES, Notice
from pipeline.units import GIBIBYTE, GIGABYTE, MEBIBYTE

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
            # a rehearsal's: it is not the real model that must fit
            if self.machine is None and not self.repository.needs_licence:
                self.machine = hardware.roomy_machine(self.repository.storage)

    def plan(self, scene: Scene, *, size: int) -> costs.AvatarPlan:
        """What the framing shows of the picture, its shorter side `size`. See `pipeline.engine.Engine`."""
        framed = plan_clip(
            seconds=scene.speech.seconds,
            size=size,
            picture_size=scene.portrait.shape[:2],
            faces=[speaker.face.box for speaker in scene.speakers],
            framing=scene.framing,
        )
        asked = asked_for(
            replace(self.request, size=size),
            seconds=scene.speech.seconds,
            picture_size=(round(framed.crop.height), round(framed.crop.width)),
            machine=self.machine,
            repository=self.repository,
        )
        notices = tuple(notice for notice in framed.notices if notice.key != "FrameReduced")  # of a draft's size
        return replace(costs.plan_avatar(**asked), crop=framed.crop, notices=notices)

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
                "vram": estimate.peak_vram / GIBIBYTE,
                "ram": estimate.host_ram / GIBIBYTE,
                "download": estimate.download / GIGABYTE,
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
            "crop": _as_list(plan.crop),
            "faces": [_in_crop(speaker.face.box, plan.crop) for speaker in scene.speakers],
            "starts": [speaker.start for speaker in scene.speakers],
        }
        if self.job is None:
            placed = {"placement": plan.placement, "tiling": plan.tiling}
            settled = _settled(replace(self.request, seed=seed), scene.speakers)
            job = Job.create(settled, facts=facts | placed, needed=plan.work.job_bytes)
        else:
            job = self.job
            job.check(facts | {name: job.facts[name] for name in ("placement", "tiling")})
        yield Step("StageChecking", job=job.id)
        while not job.state.get("finished"):
            before = job.state, job.num_frames
            yield from self.lease(job.folder)
            assert (job.state, job.num_frames) != before, "a lease does one piece of work at least"
        model = f"{facts['repository']['name']} {facts['commit']} {facts['precision']}"
        return Take(job.frames(), plan.notices + tuple(_notices(job)), job.delete, model)

    def _weights(self, plan: costs.AvatarPlan) -> Generator[Step, None, dict[str, Any]]:
        """Download and convert what is missing; what a job must know of it."""
        told = [0, 0]

        def tell(done: int, total: int) -> None:
            told[:] = done, total

        def step(stage: str) -> Callable[[], Step]:
            return lambda: Step(stage, told[0] // MEBIBYTE, told[1] // MEBIBYTE)

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


def asked_for(
    request: RenderRequest,
    *,
    seconds: float,
    picture_size: tuple[int, int],
    machine: Machine | None = None,
    repository: hub.Repository | None = None,
) -> dict[str, Any]:
    """A request as `costs.plan_avatar` and `costs.alternatives` read it: their arguments by name.

    Args:
        request: What is asked for.
        seconds: Length of the speech.
        picture_size: (height, width) of what is shown of the picture, pixels.
        machine: Where; None measures this one, which takes some seconds the first time.
        repository: Where the weights come from; None for the published ones.
    """
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


def every_plan(asked: dict[str, Any]) -> list[costs.AvatarPlan]:
    """What was asked for, as `asked_for` gives it, in every size and number of steps on offer that fits."""
    plans = []
    for size, steps in itertools.product(costs.SIZES, costs.STEPS):
        with suppress(PlanDoesNotFit):
            plans.append(costs.plan_avatar(**{**asked, "size": size, "steps": steps}))
    return plans


def _settled(request: RenderRequest, speakers: Sequence[Speaker]) -> RenderRequest:
    """The request with recordings in place of a script, which need not be spoken again when the job goes on."""
    recordings: dict[str, Any] = {}
    for prefix, speaker in zip(("", "second_"), speakers, strict=False):
        recordings |= {f"{prefix}speech": speaker.speech.path}
        if request.script:
            recordings |= {f"{prefix}text": speaker.text}
    if len(speakers) > 1:
        recordings["second_start"] = speakers[1].start
    if request.script:
        recordings |= {"script": "", "voice": None, "second_voice": None, "speed": RenderRequest.speed}
    return replace(request, **recordings)


def _as_list(box: Box) -> list[float]:
    return [box.left, box.top, box.width, box.height]


def _in_crop(face: Box, crop: Box) -> list[float]:
    """Left, top, width and height of a face in the part of the picture that is shown, as the pipeline takes it."""
    return _as_list(replace(face, left=face.left - crop.left, top=face.top - crop.top))


def _notices(job: Job) -> Generator[Notice, None, None]:
    """What this clip could not do as asked."""
    state = job.state
    if state.get("dropped"):
        yield Notice("PromptShortened", {"words": state["dropped"]})
    if "placement" in state:
        yield Notice("PlacementLowered", {"placement": state["placement"]})
