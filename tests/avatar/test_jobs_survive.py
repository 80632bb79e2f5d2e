"""Renders that are killed, interrupted or out of disk go on and end as if nothing had happened, byte for byte."""

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.avatar.checkpoints import Checkpoints
from pipeline.avatar.sampler import DenoisingRun
from pipeline.errors import JobDamaged
from pipeline.jobs import Job
from pipeline.request import RenderRequest
from tests.avatar.survivor import Survivor
from tests.conftest import EXAMPLES

NUM_KILLS = 20
STEPS, SHORT_STEPS = 40, 10  # of the run that is killed at random, and of those that are killed at every turn
NUM_FRAMES = 28  # three tiles
SIZE = {"height": 32, "width": 32, "num_frames": NUM_FRAMES}


@pytest.fixture(scope="module")
def survivor() -> Iterator[Survivor]:
    survivor = Survivor()
    yield survivor
    survivor.close()


def make_job(root: Path, num_steps: int) -> Job:
    request = RenderRequest(
        portrait=EXAMPLES / "portraits" / "woman_facing_camera.jpg",
        speech=EXAMPLES / "voices" / "english_calm_8s.wav",
        engine="avatar",
        seed=7,
    )
    return Job.create(request, root=root, facts={**SIZE, "num_inference_steps": num_steps})


def run_of(job: Job) -> DenoisingRun:
    run = Checkpoints(job.run_folder).load()
    assert run is not None
    return run


def result_of(job: Job) -> tuple[bytes, dict[str, bytes]]:
    """Latents and tiles, byte for byte."""
    tiles = {path.name: path.read_bytes() for path in (job.folder / "frames").iterdir()}
    assert job.state["finished"] and job.num_frames == NUM_FRAMES == len(list(job.frames()))
    return run_of(job).latents.numpy().tobytes(), tiles


def progress_of(job: Job) -> int:
    """Pieces of work that are on the disk: the encoded inputs, steps, tiles."""
    states = [path.stem.rpartition("-")[2] for path in job.run_folder.glob("state-*.json")]
    return max(map(int, states), default=0) + len(list((job.folder / "frames").glob("*.npy")))


@pytest.fixture(scope="module")
def whole(survivor: Survivor, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job that nothing disturbed."""
    job = make_job(tmp_path_factory.mktemp("whole"), STEPS)
    assert survivor.work(job.folder) == {"status": 0}
    return job


@pytest.fixture(scope="module")
def short(survivor: Survivor, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The same, with few steps."""
    job = make_job(tmp_path_factory.mktemp("short"), SHORT_STEPS)
    assert survivor.work(job.folder) == {"status": 0}
    return job


def test_twenty_kills_at_random_change_no_byte(survivor: Survivor, whole: Job, tmp_path: Path) -> None:
    chance = random.Random(4)
    job, total = make_job(tmp_path, STEPS), progress_of(whole)
    reached = []
    for target in sorted(chance.uniform(0, total - 1) for _ in range(NUM_KILLS)):
        process = survivor.start(job.folder)
        while progress_of(job) < int(target):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.1))  # about a step
        os.kill(process, signal.SIGKILL)
        assert survivor.wait() == {"status": -signal.SIGKILL}, "it was still at work"
        reached.append(progress_of(job))
    assert reached[0] < 5 and reached[-1] > total - 6, reached
    assert survivor.work(job.folder) == {"status": 0}
    assert result_of(job) == result_of(whole)
    assert not list(tmp_path.rglob("*.part"))


def parts_of(job: Job) -> list[Any]:
    """All that a piece of work changes."""
    run = run_of(job)
    caches = [cache.image for cache in (run.negative_cache, run.positive_cache)]
    return [run.step, *(None if part is None else part.numpy().tobytes() for part in (run.latents, *caches))] + [
        path.read_bytes() for path in sorted((job.folder / "frames").glob("*.npy"))
    ]


@pytest.mark.parametrize(
    "pieces",
    [1, 4, 5, SHORT_STEPS + 2],
    ids=["a full step", "what fills the caches", "a cached step", "a tile"],
)
def test_work_killed_before_any_change_of_a_file_changes_no_byte(
    survivor: Survivor, tmp_path: Path, pieces: int
) -> None:
    """Steps of ten: four in full, the last of which fills the caches, then every other one to the eighth."""
    base = make_job(tmp_path / "base", SHORT_STEPS)
    survivor.work(base.folder, pieces=pieces)
    assert progress_of(base) == pieces
    undisturbed = copied(base, tmp_path / "undisturbed")
    survivor.work(undisturbed.folder, pieces=1)
    wanted = parts_of(undisturbed)
    kills = 0
    while True:
        job = copied(base, tmp_path / f"killed_{kills + 1}")
        if survivor.work(job.folder, pieces=1, die_at=kills + 1)["status"] == 0:
            break
        kills += 1
        if progress_of(job) == pieces:
            assert survivor.work(job.folder, pieces=1) == {"status": 0}
        assert parts_of(job) == wanted
        shutil.rmtree(job.folder.parent)
    assert kills > 5


def copied(job: Job, root: Path) -> Job:
    root.mkdir()
    return Job.open(Path(shutil.copytree(job.folder, root / job.id)))


def test_control_c_leaves_nothing_half_written_and_changes_no_byte(
    survivor: Survivor, short: Job, tmp_path: Path
) -> None:
    chance = random.Random(5)
    job, total = make_job(tmp_path, SHORT_STEPS), progress_of(short)
    for target in sorted(chance.sample(range(total - 1), 4)):
        process = survivor.start(job.folder)
        while progress_of(job) < target:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(process, signal.SIGINT)
        assert survivor.wait()["status"] == 130
        assert not list(job.folder.rglob("*.part")) and job.lock().take()
    survivor.work(job.folder)
    assert result_of(job) == result_of(short)


def test_a_disk_that_fills_up_on_the_way_is_told_and_changes_no_byte(
    survivor: Survivor, short: Job, small_disk: Path
) -> None:
    job = make_job(small_disk, SHORT_STEPS)
    room = small_disk / "room"
    told = 0
    for pieces in (0, 1, 4, SHORT_STEPS, SHORT_STEPS + 1, SHORT_STEPS + 2):
        if pieces > progress_of(job):
            assert survivor.work(job.folder, pieces=pieces - progress_of(job)) == {"status": 0}
        statistics = os.statvfs(small_disk)
        room.write_bytes(bytes(statistics.f_bavail * statistics.f_frsize))
        ended = survivor.work(job.folder)
        assert (ended["status"], ended["error"]) == (2, "DiskFull") and "0 MiB are left" in ended["text"]
        told += 1
        assert progress_of(job) == pieces and not list(job.folder.rglob("*.part"))
        room.unlink()
    assert told == 6 and survivor.work(job.folder) == {"status": 0}
    assert result_of(job) == result_of(short)


def test_two_processes_on_one_job_are_one_too_many(survivor: Survivor, tmp_path: Path) -> None:
    job, second = make_job(tmp_path, STEPS), Survivor()
    try:
        process = survivor.start(job.folder)
        while not progress_of(job):
            time.sleep(0.001)
        assert second.work(job.folder)["error"] == "JobBusy"
        os.kill(process, signal.SIGKILL)
        survivor.wait()
        assert second.work(job.folder, pieces=1) == {"status": 0}
    finally:
        second.close()


def test_a_damaged_tile_is_decoded_again(survivor: Survivor, short: Job, tmp_path: Path) -> None:
    job = copied(short, tmp_path / "damaged")
    tile = sorted((job.folder / "frames").iterdir())[1]
    content = np.load(tile)
    content[0, 0, 0, 0] ^= 1
    np.save(tile, content)
    with pytest.raises(JobDamaged, match=tile.name):
        list(job.frames())
    assert survivor.work(job.folder) == {"status": 0}
    assert result_of(job) == result_of(short)
