"""Work on a job in leases: whole pieces, progress that people can read, and a device that is full."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.avatar import speed, tiny, work
from pipeline.avatar.checkpoints import Checkpoints
from pipeline.avatar.presets import MOTION_EXP, MOTION_POSE
from pipeline.engine import Step
from pipeline.errors import DeviceMemoryFull, JobBusy
from pipeline.hardware import Placement
from pipeline.jobs import Job
from pipeline.request import RenderRequest
from tests.conftest import EXAMPLES

STEPS, NUM_FRAMES = 4, 28  # three tiles
MORE_THAN_ANYONE_HAS = 2**50  # bytes
FACTS = {
    "height": 32,
    "width": 48,
    "num_frames": NUM_FRAMES,
    "num_inference_steps": STEPS,
    "guidance_scale": 7.5,
    "preset": "published",
    "crop": [0.0, 0.0, 512.0, 512.0],
    "faces": [[180.0, 120.0, 160.0, 200.0]],
    "starts": [0.0],
    "placement": "resident",
    "tiling": "17-frames",
    "precision": "fp8",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_repository(tmp_path_factory.mktemp("tiny") / "repository")


@pytest.fixture
def make_job(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def make(**changes: Any) -> Job:
        request = RenderRequest(
            portrait=EXAMPLES / "portraits" / "woman_facing_camera.jpg",
            speech=EXAMPLES / "voices" / "english_calm_8s.wav",
            engine="avatar",
            seed=7,
            prompt="A woman speaks." if "prompt" not in changes else changes.pop("prompt"),
            **{name: changes.pop(name) for name in ("motion", "expression", "mood") if name in changes},
        )
        facts = {**FACTS, "weights": str(weights), "converted": str(weights / "converted"), **changes}
        return Job.create(request, root=tmp_path / "jobs", facts=facts)

    return make


def test_two_voices_move_two_faces(make_job: Any, weights: Path, tmp_path: Path) -> None:
    """Which of them is the second one's decides what is drawn, and so does when it begins."""
    one, other = [100.0, 120.0, 120.0, 160.0], [300.0, 120.0, 120.0, 160.0]
    voices = EXAMPLES / "voices"
    request = RenderRequest(
        portrait=EXAMPLES / "portraits" / "woman_facing_camera.jpg",
        speech=voices / "english_lively_5s.wav",
        second_speech=voices / "english_calm_8s.wav",
        engine="avatar",
        seed=7,
    )
    clips = []
    for faces, start in (([one, other], 0.2), ([other, one], 0.2), ([one, other], 0.6)):
        facts = {**FACTS, "weights": str(weights), "converted": str(weights / "converted")}
        job = Job.create(request, root=tmp_path / "jobs", facts={**facts, "faces": faces, "starts": [0.0, start]})
        finish(job)
        clips.append(frames_of(job))
    assert clips[0].shape == (NUM_FRAMES, 32, 48, 3)
    assert (clips[0] != clips[1]).any() and (clips[0] != clips[2]).any()


def test_direction_reaches_the_network(make_job: Any) -> None:
    conditions = []
    for asked in ({}, {"motion": 1.0, "expression": 0.0}, {"mood": "sad"}):
        job = make_job(**asked)
        list(work.work_on(job.folder, 0))  # encodes
        run = Checkpoints(job.run_folder).load()
        assert run is not None
        conditions.append(run.conditions)
    usual, lively, sad = conditions
    assert (usual.motion_pose, usual.motion_exp) == (MOTION_POSE, MOTION_EXP)
    assert lively.motion_pose > MOTION_POSE and lively.motion_exp < MOTION_EXP
    assert not torch.equal(usual.prompt.prompt_embeds, sad.prompt.prompt_embeds)


def frames_of(job: Job) -> np.ndarray:
    assert job.state["finished"]
    return np.stack(list(job.frames()))


def finish(job: Job, seconds: float | None = None) -> list[Step]:
    """Leases until the job is finished; their Steps."""
    steps = []
    while not job.state.get("finished"):
        steps += list(work.work_on(job.folder, seconds))
    return steps


@pytest.fixture(scope="module")
def whole(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Frames and Steps of one lease without an end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        request = RenderRequest(
            portrait=EXAMPLES / "portraits" / "woman_facing_camera.jpg",
            speech=EXAMPLES / "voices" / "english_calm_8s.wav",
            engine="avatar",
            seed=7,
            prompt="A woman speaks.",
        )
        facts = {**FACTS, "weights": str(weights), "converted": str(weights / "converted")}
        job = Job.create(request, root=tmp_path_factory.mktemp("jobs"), facts=facts)
        steps = finish(job)
        yield {"frames": frames_of(job), "steps": steps}


def test_leases_without_time_do_one_piece_each_and_end_alike(make_job: Any, whole: dict[str, Any]) -> None:
    job, leases = make_job(), 0
    while not job.state.get("finished"):
        before = job.state.get("step", 0), job.num_frames
        assert list(work.work_on(job.folder, 0.0))
        after = job.state.get("step", 0), job.num_frames
        assert sum(after) - sum(before) >= 1 and after[0] - before[0] <= 1
        leases += 1
    assert leases > STEPS
    np.testing.assert_array_equal(frames_of(job), whole["frames"])


@pytest.mark.parametrize("placement", list(Placement))
def test_every_placement_makes_the_same_clip(make_job: Any, whole: dict[str, Any], placement: Placement) -> None:
    job = make_job(placement=placement.value)
    finish(job)
    difference = np.abs(frames_of(job).astype(int) - whole["frames"])
    assert difference.max() <= 1  # of 255: a rounding that fell to the other side


def test_steps_are_counted_with_the_time_left_and_a_picture(whole: dict[str, Any]) -> None:
    steps = whole["steps"]
    stages = [stage for stage, _ in itertools.groupby(step.stage for step in steps)]
    assert stages == ["StageLoading", "StageEncoding", "StageDenoising", "StageDecoding"]
    counted = [step for step in steps if step.stage == "StageDenoising"]
    assert [done for done, _ in itertools.groupby(step.done for step in counted)] == list(range(STEPS + 1))
    assert all(step.total == STEPS for step in counted)
    assert all(step.seconds_left is not None for step in counted if step.done)
    assert counted[-1].preview is not None


def test_the_preview_is_a_small_picture(make_job: Any) -> None:
    job = make_job()
    preview = next(step.preview for step in work.work_on(job.folder) if step.preview is not None)
    with Image.open(preview) as picture:
        assert max(picture.size) <= 320 and picture.mode == "RGB"


def test_a_cancel_keeps_the_last_step_and_frees_the_job(make_job: Any, whole: dict[str, Any]) -> None:
    job = make_job()
    steps = work.work_on(job.folder)
    assert any(step.stage == "StageDenoising" and step.done == 2 for step in steps)
    steps.close()
    assert 2 <= job.state["step"] < STEPS
    with job.lock():
        pass
    finish(job)
    np.testing.assert_array_equal(frames_of(job), whole["frames"])


def test_two_cannot_work_on_one_job(make_job: Any) -> None:
    job = make_job()
    first = work.work_on(job.folder)
    next(first)
    with pytest.raises(JobBusy):
        next(work.work_on(job.folder))
    first.close()


def test_jobs_of_one_process_wait_for_each_other(make_job: Any) -> None:
    first, second = work.work_on(make_job().folder), work.work_on(make_job().folder)
    next(first)
    assert next(second).stage == "StageWaiting"
    first.close()
    assert next(step for step in second if step.stage != "StageWaiting").stage == "StageLoading"
    second.close()


@pytest.fixture
def full_device(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes steps ask for more memory than there is, in all placements but those it is given."""

    def fill(*roomy: Placement) -> None:
        steps = work.HunyuanVideoAvatarPipeline.steps

        def ask_for_much(pipe: Any, run: Any) -> Any:
            for timestep in steps(pipe, run):
                if pipe.placed is not None and self_placement(pipe) not in roomy and run.step == 2:
                    torch.empty(MORE_THAN_ANYONE_HAS, dtype=torch.uint8)
                yield timestep

        monkeypatch.setattr(work.HunyuanVideoAvatarPipeline, "steps", ask_for_much)

    def self_placement(pipe: Any) -> Placement:
        return placements[-1]

    placements: list[Placement] = []
    place = work.placing.place

    def note(pipe: Any, placement: Placement, *rest: Any, **others: Any) -> None:
        placements.append(placement)
        place(pipe, placement, *rest, **others)

    monkeypatch.setattr(work.placing, "place", note)
    return fill


def test_a_full_device_goes_on_with_the_next_smaller_placement(
    make_job: Any, whole: dict[str, Any], full_device: Any
) -> None:
    full_device(Placement.OFFLOAD_MODELS)
    job = make_job()
    steps = finish(job)
    assert any(step.stage == "StageLessMemory" for step in steps)
    assert work.placement_of(job) is Placement.OFFLOAD_MODELS
    assert np.abs(frames_of(job).astype(int) - whole["frames"]).max() <= 1


def test_a_device_that_is_full_twice_is_told_and_the_job_is_kept(make_job: Any, full_device: Any) -> None:
    full_device()
    job = make_job()
    with pytest.raises(DeviceMemoryFull, match="offload-models"):
        finish(job)
    assert job.state["step"] == 1 and not job.state.get("finished")
    with job.lock():
        pass


def test_one_of_several_processes_does_not_go_another_way_when_its_device_is_full(
    make_job: Any, full_device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_device(Placement.OFFLOAD_MODELS)
    monkeypatch.setattr(work.parallel, "is_distributed", lambda: True)
    job = make_job()
    with pytest.raises(DeviceMemoryFull, match="resident"):
        finish(job)
    assert work.placement_of(job) is Placement.RESIDENT


def test_the_thread_that_computes_uses_this_process_s_card_and_memory_is_given_back_in_the_end(
    make_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    placed: list[Any] = []
    monkeypatch.setattr(work.parallel, "use_own_card", lambda: threads.append(threading.current_thread().name))
    monkeypatch.setattr(
        work.placing, "give_back", lambda device: placed.append(next(iter(work._loaded.values())).placed)
    )
    finish(make_job())
    assert len(threads) == 1 and threads[0].startswith("avatar")
    assert placed[-1] is None and len(placed) > 1


def test_a_prompt_that_is_too_long_is_told(make_job: Any) -> None:
    job = make_job(prompt="sun and rain " * 150)
    next(step for step in work.work_on(job.folder, 0.0) if step.stage == "StageDenoising")
    assert job.state["dropped"].endswith("rain")


def test_a_preset_that_cannot_continue_begins_anew_and_ends_alike(make_job: Any) -> None:
    name = "taylorseer"
    assert not speed.PRESETS[name].can_continue
    whole, broken = make_job(preset=name), make_job(preset=name)
    finish(whole)
    steps = work.work_on(broken.folder)
    assert any(step.done == 3 for step in steps)
    steps.close()
    finish(broken)
    np.testing.assert_array_equal(frames_of(broken), frames_of(whole))
