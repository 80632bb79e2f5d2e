"""Leases of a lent card: long enough for a piece of work, and none begun that would not end in time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.avatar import costs, leases
from pipeline.avatar.cards import ZERO_GPU, imagined_machine
from pipeline.avatar.engine import AvatarEngine
from pipeline.engine import Scene, Step
from pipeline.face import Face
from pipeline.jobs import Job
from pipeline.media import Speech
from pipeline.plan import Box
from pipeline.request import RenderRequest

FACTS = {"num_inference_steps": 50, "guidance_scale": 7.5, "preset": "published", "tiling": "published"}


@pytest.fixture
def make_job(portrait_path: Path, short_voice: Path, tmp_path: Path) -> Any:
    def make(num_frames: int, height: int, width: int, **state: Any) -> Job:
        facts = {**FACTS, "num_frames": num_frames, "height": height, "width": width}
        request = RenderRequest(portrait=portrait_path, speech=short_voice, engine="avatar")
        job = Job.create(request, root=tmp_path, facts=facts)
        job.update(**state)
        return job

    return make


def test_the_first_lease_is_long_enough_for_a_step_that_takes_longer_than_most_leases(make_job: Any) -> None:
    job = make_job(400, 704, 1216)
    step = costs.step_seconds(costs.Work.of(job.facts), ZERO_GPU.rates)
    assert step > leases.LONGEST
    assert leases.seconds_for(job) >= leases.START_SECONDS + 2 * step  # estimates may be half of it
    assert leases.seconds_for(make_job(129, 384, 384)) == leases.LONGEST


def test_a_measured_step_sets_the_length_of_the_next_lease(make_job: Any) -> None:
    assert leases.seconds_for(make_job(129, 704, 768, pace={"full": 90.0}, step=3)) == pytest.approx(10 + 90 * 1.15)
    assert leases.seconds_for(make_job(129, 384, 384, pace={"full": 1.0}, step=48)) == leases.SHORTEST


def test_frames_still_to_be_decoded_are_counted(make_job: Any) -> None:
    job = make_job(129, 704, 768, pace={"full": 1.0}, step=50)
    assert leases.seconds_left(job) == pytest.approx(
        costs.decoding_seconds(costs.Work.of(job.facts), "published", ZERO_GPU.rates)
    )


def test_a_lease_that_decodes_some_frames_and_no_more_has_done_its_work(
    portrait_path: Path, short_voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTRAIT_JOBS", str(tmp_path))

    class Engine(AvatarEngine):
        def _weights(self, plan: Any) -> Any:
            yield Step("StageChecking")
            return {"repository": {"name": "somebody/something"}, "commit": "0" * 40, "precision": "fp8"}

    def lease(folder: Path) -> Any:
        job = Job.open(folder)
        job.add_frames(job.num_frames, np.zeros((2, 4, 4, 3), np.uint8))
        if job.num_frames == 6:
            job.update(finished=True)
        yield Step("StageDecoding")

    request = RenderRequest(portrait=portrait_path, speech=short_voice, engine="avatar")
    speech = Speech(short_voice, np.zeros(3840, np.float32), 0.24)
    scene = Scene.of(np.zeros((4, 4, 3), np.uint8), speech, Face(Box(0, 0, 4, 4), np.zeros((478, 3), np.float32), 1.0))
    plan = costs.plan_avatar(imagined_machine(vram_gib=80), num_frames=6, picture_size=(4, 4), size=256)
    performing = Engine(request, lease=lease).perform(scene, plan, seed=1)
    with pytest.raises(StopIteration) as end:
        while True:
            next(performing)
    assert len(list(end.value.value.frames)) == 6


def test_the_models_coming_to_the_card_take_their_time_of_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.avatar import work

    told: list[float] = []

    def note(folder: Path, seconds: float) -> tuple[()]:
        told.append(seconds)
        return ()

    monkeypatch.setattr(work, "work_on", note)
    assert not [*leases.work("job", 60.0), *leases.work("job", 4.0)]
    assert told == [60.0 - leases.START_SECONDS, 0.0]
