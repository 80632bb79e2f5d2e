"""The whole path of the avatar engine with a model of a few kilobytes: Hub, conversion, plan, job, render. For who
wants to see it work on any computer before 30 GB come; the clips it makes are noise. Imports torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline import hardware
from pipeline.avatar import tiny
from pipeline.avatar.costs import AvatarPlan, time_in_words
from pipeline.avatar.engine import AvatarEngine, Lease, work_here
from pipeline.engine import Scene
from pipeline.jobs import Job
from pipeline.request import RenderRequest
from pipeline.texts import Notice


class Rehearsal(AvatarEngine):
    """The avatar engine with the tiny model; planned as the real one would be."""

    def plan(self, scene: Scene, *, size: int) -> AvatarPlan:
        """With the weights that most people download. See `pipeline.engine.Engine`."""
        return replace(super().plan(scene, size=size), precision="fp8")

    def told(self, plan: AvatarPlan) -> Notice:
        """What this is, and how long the real model would take."""
        return Notice("PlanRehearsal", time_in_words(plan.estimate.seconds))


@contextmanager
def rehearsal(request: RenderRequest, job: Job | None = None, lease: Lease = work_here) -> Iterator[Rehearsal]:
    """The engine, with a Hub on this computer that serves a tiny repository of the published layout.

    Its weights stay in `hardware.cache_folder()`, so that a job can be resumed when the Hub is gone. Arguments are
    those of AvatarEngine.
    """
    with tiny.served(_folder()) as repository:
        yield Rehearsal(request, job, lease, repository, hardware.roomy_machine(_folder()))


def _folder() -> Path:
    return hardware.cache_folder() / "rehearsal"
