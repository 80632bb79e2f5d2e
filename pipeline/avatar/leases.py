"""Leases of a card that is lent for less than a minute at a time: how long each is to be, and how what goes wrong in
one comes back. Imports no torch: the page's own process, which asks for them, never computes.
"""

from collections.abc import Generator, Iterable
from math import ceil
from pathlib import Path
from typing import Any

from pipeline.avatar import costs
from pipeline.avatar.cards import ZERO_GPU
from pipeline.avatar.costs import AvatarPlan
from pipeline.engine import Step
from pipeline.errors import AvatarError
from pipeline.jobs import Job

SHORTEST, LONGEST = 30, 60  # seconds; visitors wait longer for long leases, and short ones load the models again
START_SECONDS = 10.0  # of a lease that go by until the models stand on the card: 30 GB from a packed file
QUOTAS = {"Anonymous": 120, "Free": 300, "Pro": 2400}  # seconds a day by account. Source: Hub docs, spaces-zerogpu
QUOTA_FACTOR = 1.5  # of the seconds asked for, on the cards in use
SPARE = 1.15  # of what a step took before: the lease is not to end in the middle of the next
UNKNOWN = 2.0  # of what a step is estimated to take, while none was measured. Source: costs.py


def work(job: str, seconds: float) -> Generator[Step | AvatarError, None, None]:
    """`work_on` in a worker: an error of ours is the last thing it yields, since of what is raised there only the name
    of its class comes back."""
    from pipeline.avatar.work import work_on  # imports torch

    try:
        yield from work_on(Path(job), max(seconds - START_SECONDS, 0.0))  # gone when this is called
    except AvatarError as error:
        yield error


def seconds_for(job: Job) -> float:
    """How long the job's next lease is to be: to its end where that is near, else half a minute to a minute.

    A step that takes longer than that gets a lease of its own length.
    """
    pace = job.state.get("pace", {})
    estimate = UNKNOWN * costs.step_seconds(costs.Work.of(job.facts), ZERO_GPU.rates)
    step = SPARE * max(pace.values()) if pace else estimate
    left = seconds_left(job)
    wanted = LONGEST if left is None else min(max(left * SPARE + START_SECONDS, SHORTEST), LONGEST)
    return max(wanted, START_SECONDS + step)


def seconds_left(job: Job) -> float | None:
    """What the rest of the job takes, by the pace of its steps and as estimated for its frames; None while no step was
    measured."""
    state = job.state
    if "pace" not in state or "step" not in state:
        return None
    steps = job.facts["num_inference_steps"] - state["step"]
    decoding = costs.decoding_seconds(costs.Work.of(job.facts), job.facts["tiling"], ZERO_GPU.rates)
    decoding *= 1 - job.num_frames / job.facts["num_frames"]
    return float(steps * max(state["pace"].values(), default=0.0) + decoding)


def quota_seconds(seconds: float) -> float:
    """What a render of so many seconds takes of a visitor's daily share: the models come anew with every lease.

    Blackwell cards count half as much again. Source: spaces, zero/api.py.
    """
    num_leases = ceil(seconds / (LONGEST - START_SECONDS))
    return QUOTA_FACTOR * (seconds + num_leases * START_SECONDS)


def fitting(quota: float, plans: Iterable[AvatarPlan]) -> AvatarPlan | None:
    """The largest of some plans, with most steps, that a day's share allows; None where only the draft is left."""
    allowed = [plan for plan in plans if quota_seconds(plan.estimate.seconds) <= quota]
    return max(allowed, key=lambda plan: (plan.height * plan.width, plan.num_inference_steps), default=None)


def duration(job: str, seconds: float, *_: Any, **__: Any) -> int:
    """Seconds to ask the service for; called with the arguments of the decorated function."""
    return ceil(seconds)
