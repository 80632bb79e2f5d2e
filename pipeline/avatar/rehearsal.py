"""The whole path of the avatar engine with a model of a few kilobytes: Hub, conversion, plan, job, render. For who
wants to see it work on any computer before 30 GB come; the clips it makes are noise. Imports torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pipeline import hardware
from pipeline.avatar import hub, loopback, tiny
from pipeline.avatar.costs import AvatarPlan
from pipeline.avatar.engine import AvatarEngine
from pipeline.engine import Scene
from pipeline.request import RenderRequest
from pipeline.texts import Notice, in_words

NAME = "rehearsal/tiny-avatar"
COMMIT = "7e4ea25a10000000000000000000000000000000"  # of the repository that is served: any 40 digits
ROOM = 2**40  # bytes of memory that the plan is made for: it is that of the real model, which would not fit here


class Rehearsal(AvatarEngine):
    """The avatar engine with the tiny model; planned as the real one would be."""

    def plan(self, scene: Scene, *, size: int) -> AvatarPlan:
        """With the weights that most people download. See `pipeline.engine.Engine`."""
        return replace(super().plan(scene, size=size), precision="fp8")

    def told(self, plan: AvatarPlan) -> Notice:
        """What this is, and how long the real model would take."""
        return Notice("PlanRehearsal", in_words(plan.estimate.seconds))


@contextmanager
def rehearsal(request: RenderRequest) -> Iterator[Rehearsal]:
    """The engine, with a Hub on this computer that serves a tiny repository of the published layout.

    Its weights stay in `hardware.cache_folder()`, so that a job can be resumed when the Hub is gone.
    """
    folder = hardware.cache_folder() / "rehearsal"
    with loopback.serve(tiny.write_repository(folder / "hub"), NAME, (COMMIT,)) as server:
        repository = hub.Repository(
            NAME, COMMIT, server.url, cache_dir=folder / "cache", token=False, needs_licence=False
        )
        machine = hardware.measure_machine(folder)
        room = ROOM if machine.free_vram is not None else None
        yield Rehearsal(
            request, repository=repository, machine=replace(machine, free_ram=ROOM, free_vram=room, free_disk=ROOM)
        )
