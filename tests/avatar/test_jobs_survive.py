"""Renders that are killed, interrupted or out of disk go on and end as if nothing had happened, byte for byte."""

import contextlib
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
# Steps of ten: four in full, the last of which fills the caches, then every other one to the eighth. A lease of no
# seconds takes one; the first also encodes.
LEASES_BEFORE = {"a step that fills the caches": 3, "the last step": 9, "a tile": 10}
FACTS = {
    "height": 32,
    "width": 32,
    "num_frames": NUM_FRAMES,
    "guidance_scale": 7.5,
    "preset": "published",
    "crop": [0.0, 0.0, 512.0, 512.0],
    "faces": [[180.0, 120.0, 160.0, 200.0]],
    "starts": [0.0],
    "placement": "resident",
    "tiling": "17-frames",
}


@pytest.fixture(scope="module")
def survivor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survivor]:
    survivor = Survivor(tmp_path_factory.mktemp("tiny") / "repository")
    yield survivor
    survivor.close()


def make_job(root: Path, survivor: Survivor, num_steps: int) -> Job:
    request = RenderRequest(
        portrait=EXAMPLES / "portraits" / "woman_facing_camera.jpg",
        speech=EXAMPLES / "voices" / "english_calm_8s.wav",
        engine="avatar",
        seed=7,
    )
    return Job.create(request, root=root, facts={**FACTS, **survivor.facts, "num_inference_steps": num_steps})


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


def wait_for(job: Job, pieces: int, process: int) -> None:
    """Until so many pieces are on the disk, or whoever works on them ended."""
    with contextlib.suppress(ProcessLookupError):
        while progress_of(job) < pieces:
            os.kill(process, 0)
            time.sleep(0.001)


@pytest.fixture(scope="module")
def whole(survivor: Survivor, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job that nothing disturbed."""
    job = make_job(tmp_path_factory.mktemp("whole"), survivor, STEPS)
    assert survivor.work(job.folder) == {"status": 0}
    return job


@pytest.fixture(scope="module")
def short(survivor: Survivor, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The same, with few steps."""
    job = make_job(tmp_path_factory.mktemp("short"), survivor, SHORT_STEPS)
    assert survivor.work(job.folder) == {"status": 0}
    return job


def killed_at_random(survivor: Survivor, job: Job, total: int, chance: random.Random) -> list[int]:
    """Kill a render again and again, spread over its whole life; how far it was each time."""
    reached = []
    for number in range(NUM_KILLS):
        target = int((number + chance.random()) / NUM_KILLS * (total - 1))
        process = survivor.start(job.folder)
        wait_for(job, target, process)
        time.sleep(chance.uniform(0, 0.1))  # about a step
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        if survivor.wait() != {"status": -signal.SIGKILL}:
            break  # this process slept so long that the render ended
        reached.append(progress_of(job))
    return reached


def test_twenty_kills_at_random_change_no_byte(survivor: Survivor, whole: Job, tmp_path: Path) -> None:
    chance, total = random.Random(4), progress_of(whole)
    for _ in range(3):
        job = make_job(tmp_path, survivor, STEPS)
        reached = killed_at_random(survivor, job, total, chance)
        if len(reached) == NUM_KILLS:
            break
    assert len(reached) == NUM_KILLS and reached[0] < STEPS / 2 < STEPS <= reached[-1], reached
    assert survivor.work(job.folder) == {"status": 0}
    assert result_of(job) == result_of(whole)
    assert not list(job.folder.rglob("*.part"))


def parts_of(job: Job) -> list[Any]:
    """All that a piece of work changes."""
    run = run_of(job)
    caches = [cache.image for cache in (run.negative_cache, run.positive_cache)]
    return [run.step, *(None if part is None else part.numpy().tobytes() for part in (run.latents, *caches))] + [
        path.read_bytes() for path in sorted((job.folder / "frames").glob("*.npy"))
    ]


@pytest.mark.parametrize("place", LEASES_BEFORE)
def test_work_killed_before_any_change_of_a_file_changes_no_byte(
    survivor: Survivor, tmp_path: Path, place: str
) -> None:
    base = make_job(tmp_path / "base", survivor, SHORT_STEPS)
    for _ in range(LEASES_BEFORE[place]):
        assert survivor.work(base.folder, seconds=0) == {"status": 0}
    undisturbed = copied(base, tmp_path / "undisturbed")
    survivor.work(undisturbed.folder, seconds=0)
    kills = 0
    while True:
        job = copied(base, tmp_path / f"killed_{kills + 1}")
        if survivor.work(job.folder, seconds=0, die_at=kills + 1)["status"] == 0:
            break
        kills += 1
        while progress_of(job) < progress_of(undisturbed):
            assert survivor.work(job.folder, seconds=0) == {"status": 0}
        assert parts_of(job) == parts_of(undisturbed)
        shutil.rmtree(job.folder.parent)
    assert kills > 5


def copied(job: Job, root: Path) -> Job:
    root.mkdir()
    return Job.open(Path(shutil.copytree(job.folder, root / job.id)))


def test_control_c_leaves_nothing_half_written_and_changes_no_byte(
    survivor: Survivor, short: Job, tmp_path: Path
) -> None:
    chance = random.Random(5)
    job, total = make_job(tmp_path, survivor, SHORT_STEPS), progress_of(short)
    for target in sorted(chance.sample(range(total - 3), 4)):
        process = survivor.start(job.folder)
        wait_for(job, target, process)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(process, signal.SIGINT)
        assert survivor.wait()["status"] == 130 or job.state.get("finished"), "this process slept"
        assert not list(job.folder.rglob("*.part")) and job.lock().take()
    survivor.work(job.folder)
    assert result_of(job) == result_of(short)


def test_a_disk_that_fills_up_on_the_way_is_told_and_changes_no_byte(
    survivor: Survivor, short: Job, small_disk: Path
) -> None:
    job = make_job(small_disk, survivor, SHORT_STEPS)
    room = small_disk / "room"
    for leases in (0, 1, 3, 1, 5, 2):
        for _ in range(leases):
            assert survivor.work(job.folder, seconds=0) == {"status": 0}
        progress = progress_of(job)
        statistics = os.statvfs(small_disk)
        room.write_bytes(bytes(statistics.f_bavail * statistics.f_frsize))
        ended = survivor.work(job.folder)
        assert (ended["status"], ended["error"]) == (2, "DiskFull") and "0 MiB are left" in ended["text"]
        assert progress_of(job) == progress and not list(job.folder.rglob("*.part"))
        room.unlink()
    assert job.num_frames == 25, "two tiles"
    assert survivor.work(job.folder) == {"status": 0}
    assert result_of(job) == result_of(short)


def test_two_processes_on_one_job_are_one_too_many(survivor: Survivor, tmp_path: Path) -> None:
    job = make_job(tmp_path, survivor, SHORT_STEPS)
    with job.lock():
        assert survivor.work(job.folder)["error"] == "JobBusy"
    process = survivor.start(job.folder)
    wait_for(job, 1, process)
    assert not job.lock().take()
    os.kill(process, signal.SIGKILL)
    survivor.wait()
    assert job.lock().take()


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
