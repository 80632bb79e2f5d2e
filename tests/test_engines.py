"""The promise of engine.py, held by every engine that can run here."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline import face, hardware, media
from pipeline.avatar import calibrate
from pipeline.avatar.rehearsal import rehearsal
from pipeline.engine import Scene, Step
from pipeline.errors import PlanDoesNotFit
from pipeline.jobs import Job
from pipeline.request import ENGINES, RenderRequest

SIZE = 256
NOISE_PX = 64  # side of the frames that the avatar engine makes of random weights here: a second each, not a minute


@pytest.fixture(params=ENGINES)
def engine(request, portrait_path, short_voice, tmp_path, monkeypatch):
    """Each engine; the avatar with a tiny model."""
    asked = RenderRequest(portrait=portrait_path, speech=short_voice, engine=request.param, num_inference_steps=2)
    if request.param == "draft":
        yield hardware.engine_for(asked)
        return
    monkeypatch.setenv("PORTRAIT_JOBS", str(tmp_path / "jobs"))
    with rehearsal(asked) as engine:
        yield engine


@pytest.fixture
def scene(short_voice, portrait_path):
    portrait = media.load_portrait(portrait_path)
    return Scene.of(portrait, media.load_speech(short_voice), face.locate(portrait, name="portrait"))


@pytest.fixture
def plan(engine, scene):
    planned = engine.plan(scene, size=SIZE)
    return planned if engine.name == "draft" else replace(planned, height=NOISE_PX, width=NOISE_PX)


def perform(engine, scene, plan, seed):
    """The steps told while preparing, and the frames."""
    steps, preparing = [], engine.perform(scene, plan, seed=seed)
    while True:
        try:
            steps.append(next(preparing))
        except StopIteration as ready:
            return steps, ready.value.frames


def test_as_many_frames_as_planned_in_the_planned_size(engine, scene, plan):
    frames = list(perform(engine, scene, plan, seed=1)[1])
    assert len(frames) == plan.num_frames
    assert all(frame.shape == (plan.height, plan.width, 3) and frame.dtype == np.uint8 for frame in frames)


@pytest.mark.parametrize("engine", ["draft"], indirect=True)  # the other one's are noise here
def test_the_frames_are_in_rgb_and_of_this_portrait(engine, scene, plan):
    first = next(iter(perform(engine, scene, plan, seed=1)[1])).reshape(-1, 3).mean(axis=0)
    left, top, side = (int(value) for value in (plan.crop.left, plan.crop.top, plan.crop.width))
    crop = scene.portrait[top : top + side, left : left + side].reshape(-1, 3).mean(axis=0)
    assert np.abs(first - crop).max() < 4


def test_same_seed_gives_same_frames_and_another_seed_others(engine, scene, plan):
    first, again, other = (np.stack(list(perform(engine, scene, plan, seed)[1])) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_steps_are_told_while_preparing(engine, scene, plan):
    steps, _ = perform(engine, scene, plan, seed=1)
    assert steps and all(isinstance(step, Step) and 0 <= step.done <= max(step.total, 0) for step in steps)


def test_two_clips_drawn_at_once_do_not_meet(engine, scene, plan):
    alone = list(perform(engine, scene, plan, seed=3)[1])
    one, two = perform(engine, scene, plan, seed=3)[1], perform(engine, scene, plan, seed=4)[1]
    interleaved = [frame for frame, _ in zip(one, two, strict=True)]
    np.testing.assert_array_equal(np.stack(alone), np.stack(interleaved))


def test_frames_can_be_abandoned(engine, scene, plan):
    frames = perform(engine, scene, plan, seed=1)[1]
    next(frames)
    frames.close()
    assert next(frames, None) is None


@pytest.mark.parametrize("is_rehearsal", [True, False])
def test_a_rehearsal_goes_on_however_little_memory_is_left(
    portrait_path, short_voice, tmp_path, monkeypatch, is_rehearsal
):
    monkeypatch.setattr(calibrate, "free_ram", lambda: 2**30)
    asked = RenderRequest(portrait=portrait_path, speech=short_voice, engine="avatar")
    repository = {"cache_dir": str(tmp_path / "hub"), "needs_licence": not is_rehearsal}
    job = Job.create(asked, root=tmp_path / "jobs", facts={"repository": repository})
    engine = hardware.engine_for(asked, job)
    portrait = media.load_portrait(portrait_path)
    scene = Scene.of(portrait, media.load_speech(short_voice), face.locate(portrait, name="portrait"))
    if is_rehearsal:
        assert engine.plan(scene, size=SIZE).num_frames == 40
    else:
        with pytest.raises(PlanDoesNotFit, match="GiB are free"):
            engine.plan(scene, size=SIZE)
