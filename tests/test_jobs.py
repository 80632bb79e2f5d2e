"""Job folders: made whole, read with care, taken by one process at a time, deleted when old."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import hardware, jobs
from pipeline.errors import (
    DeviceBusy,
    DiskFull,
    FileMissing,
    JobBusy,
    JobChanged,
    JobDamaged,
    JobMissing,
    SpaceMissing,
)
from pipeline.jobs import Job
from pipeline.request import RenderRequest

ROOT = Path(__file__).parents[1]
FACTS = {"engine": "avatar", "revision": "abc", "num_inference_steps": 50, "size": (704, 768)}


@pytest.fixture
def asked(portrait_path: Path, short_voice: Path) -> RenderRequest:
    points = ((1.0, 2.0), (3.0, 2.0), (1.5, 4.0), (2.5, 4.0), (2.0, 5.5))
    return RenderRequest(portrait=portrait_path, speech=short_voice, engine="avatar", points=points, text="Œuvre")


@pytest.fixture
def job(asked: RenderRequest, tmp_path: Path) -> Job:
    return Job.create(asked, root=tmp_path / "jobs", facts=FACTS)


def frames_of(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, 16, 24, 3), dtype=np.uint8)


def test_a_job_keeps_what_was_asked_for_without_the_files_it_came_from(tmp_path: Path, short_voice: Path) -> None:
    portrait, speech = tmp_path / "a girl, été.png", tmp_path / "voice.wav"
    portrait.write_bytes(b"a picture")
    speech.write_bytes(short_voice.read_bytes())
    asked = RenderRequest(portrait=portrait, speech=speech, output=Path("clip.mp4"), face=2)
    made = Job.create(asked, root=tmp_path / "jobs")
    portrait.unlink()
    speech.unlink()
    request = Job.open(made.folder).request
    assert request.portrait.read_bytes() == b"a picture" and request.portrait.name == "a girl, été.png"
    assert request.speech is not None
    assert request.portrait.is_relative_to(made.folder) and request.speech.is_relative_to(made.folder)
    assert request.seed == asked.seed and request.face == 2
    assert request.output == Path.cwd() / "clip.mp4", "another process may stand in another folder"


def test_a_job_reads_back_as_it_was_made(job: Job, asked: RenderRequest) -> None:
    again = jobs.find(job.id, job.folder.parent)
    assert again.request.points == asked.points and again.request.text == "Œuvre"
    assert again.facts == {**FACTS, "size": [704, 768]} and again.state == {}
    again.check(FACTS)


def test_nobody_else_looks_into_the_folder_of_jobs(job: Job) -> None:
    assert stat.S_IMODE(job.folder.stat().st_mode) == stat.S_IMODE(job.folder.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["", ".", "..", "/", "job.json", "\0", "é" * 32, "A" * 32, "0" * 31, "0" * 33])
def test_a_name_that_is_no_id_opens_nothing(job: Job, name: str) -> None:
    with pytest.raises(JobMissing):
        jobs.find(name, job.folder.parent)


def test_only_the_last_part_of_an_id_counts(job: Job, tmp_path: Path) -> None:
    root, elsewhere = job.folder.parent, tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in (f"../../{job.id}", f"/etc/{job.id}", str(job.folder)):
        assert jobs.find(name, root).folder == job.folder
        with pytest.raises(JobMissing):
            jobs.find(name, elsewhere)


def test_an_input_that_is_not_there_leaves_no_folder(tmp_path: Path, short_voice: Path) -> None:
    with pytest.raises(FileMissing, match=r"gone\.png"):
        Job.create(RenderRequest(portrait=tmp_path / "gone.png", speech=short_voice), root=tmp_path / "jobs")
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_job_that_would_not_fit_is_not_begun(asked: RenderRequest, tmp_path: Path) -> None:
    with pytest.raises(SpaceMissing):
        Job.create(asked, root=tmp_path / "jobs", needed=2**60)
    assert list((tmp_path / "jobs").iterdir()) == []


def plain_of(job: Job) -> dict[str, Any]:
    return json.loads((job.folder / "job.json").read_text("utf-8"))


def rewrite(change: Callable[[dict[str, Any]], object]) -> Callable[[Job], None]:
    def write(job: Job) -> None:
        plain = plain_of(job)
        change(plain)
        (job.folder / "job.json").write_text(json.dumps(plain), "utf-8")

    return write


DAMAGES: dict[str, Callable[[Job], object]] = {
    "cut short": lambda job: os.truncate(job.folder / "job.json", 100),
    "empty": lambda job: os.truncate(job.folder / "job.json", 0),
    "garbage": lambda job: (job.folder / "job.json").write_bytes(b"\xff\x00garbage"),
    "a list": lambda job: (job.folder / "job.json").write_text("[]"),
    "without its request": rewrite(lambda plain: plain.pop("request")),
    "with another file's name": rewrite(lambda plain: plain["files"]["portrait"].update(name="/etc/passwd")),
    "with no digest": rewrite(lambda plain: plain["files"]["speech"].pop("sha256")),
    "without a digest": rewrite(lambda plain: plain["files"].pop("speech")),
    "with a surplus field": rewrite(lambda plain: plain["request"].update(surplus=1)),
    "with a seed out of range": rewrite(lambda plain: plain["request"].update(seed=-1)),
    "with another portrait": lambda job: job.request.portrait.write_bytes(b"another"),
    "without its speech": lambda job: Path(job.request.speech or "").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_job_is_refused_by_name(job: Job, damage: Callable[[Job], object]) -> None:
    damage(job)
    with pytest.raises(JobDamaged, match=job.id):
        Job.open(job.folder)
    assert jobs.unfinished(job.folder.parent) == []


def test_a_job_of_another_format_is_refused(job: Job) -> None:
    rewrite(lambda plain: plain.update(format=0))(job)
    with pytest.raises(JobChanged, match="format: 0 then, 1 now"):
        Job.open(job.folder)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({**FACTS, "revision": "abd"}, "revision: abc then, abd now"),
        ({**FACTS, "num_inference_steps": 30}, "num_inference_steps: 50 then, 30 now"),
        ({name: FACTS[name] for name in ("engine", "revision", "size")}, "num_inference_steps: 50 then, None now"),
        ({**FACTS, "preset": "fast"}, "preset: None then, fast now"),
    ],
)
def test_a_job_goes_on_only_with_the_same_facts(job: Job, facts: dict[str, Any], told: str) -> None:
    with pytest.raises(JobChanged, match=told):
        job.check(facts)


def test_a_job_goes_on_only_under_the_same_program_and_libraries(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("program", "numpy"):
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "versions", lambda name=name: {**job.versions, name: "9.9"})
            with pytest.raises(JobChanged, match=rf"{name}: {job.versions[name]} then, 9\.9 now"):
                job.check(FACTS)


def test_a_fact_that_json_cannot_hold_is_a_mistake_of_the_program(asked: RenderRequest, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="got object"):
        Job.create(asked, root=tmp_path / "jobs", facts={"plan": object()})
    assert list((tmp_path / "jobs").iterdir()) == []


def test_the_state_is_what_the_last_update_left(job: Job) -> None:
    job.update(step=3, stage="denoising")
    job.update(step=4)
    assert Job.open(job.folder).state == {"step": 4, "stage": "denoising"}


def test_a_damaged_state_is_told(job: Job) -> None:
    (job.folder / "state.json").write_bytes(b"{")
    with pytest.raises(JobDamaged, match=r"state\.json"):
        _ = job.state


def test_frames_come_back_in_order_as_they_were(job: Job) -> None:
    tiles = [frames_of(5), frames_of(3, 1), frames_of(4, 2)]
    for tile in tiles:
        job.add_frames(job.num_frames, tile)
    again = Job.open(job.folder)
    assert again.num_frames == 12
    assert np.array_equal(np.stack(list(again.frames())), np.concatenate(tiles))


def test_frames_that_are_not_the_next_ones_are_refused(job: Job) -> None:
    job.add_frames(0, frames_of(5))
    with pytest.raises(ValueError, match="frame 5 comes next, got 0"):
        job.add_frames(0, frames_of(5))
    with pytest.raises(ValueError, match="float64"):
        job.add_frames(5, frames_of(2).astype(float))


def test_a_damaged_tile_is_taken_away_with_all_after_it(job: Job) -> None:
    for number in range(3):
        job.add_frames(number * 2, frames_of(2, number))
    damaged = sorted((job.folder / "frames").iterdir())[1]
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    for spoilt in (bytes(content), b"", content[:-1], b"garbage" * 100):
        job.update(finished=True)
        damaged.write_bytes(spoilt)
        with pytest.raises(JobDamaged, match=damaged.name):
            list(job.frames())
        assert job.state == {"finished": False}
        assert job.num_frames == 2 and np.array_equal(np.stack(list(job.frames())), frames_of(2, 0))
        job.add_frames(2, frames_of(2, 1))
        job.add_frames(4, frames_of(2, 2))
    assert job.num_frames == 6


HOLDER = (
    "import sys, time; from pathlib import Path; from pipeline.jobs import Job, lock_device;"
    "lock = Job.open(Path(sys.argv[2])).lock() if sys.argv[1] == 'job' else lock_device(sys.argv[2]);"
    "print(lock.take(), flush=True); time.sleep(60)"
)


@contextmanager
def holding(*what: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, *what], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "True\n"
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def test_two_processes_cannot_take_the_same_job_and_a_killed_one_lets_go(job: Job) -> None:
    (job.folder / "frames").mkdir()
    half = job.folder / "frames" / "half.npy.0a.part"
    half.write_bytes(b"half")
    with holding("job", str(job.folder)) as holder:
        assert not job.lock().take()
        with pytest.raises(JobBusy, match=job.id), job.lock():
            pass
        assert jobs.sweep(job.folder.parent, 0) == [] and job.folder.is_dir(), "a locked job is not swept"
        half.write_bytes(b"half")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with job.lock():
            assert not half.exists(), "what the killed process left half written goes"


def test_two_processes_cannot_take_the_same_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = f"GPU-{tmp_path}"
    with holding("device", device) as holder:
        lock = jobs.lock_device(device)
        assert not lock.take()
        with pytest.raises(DeviceBusy, match="GPU-"), jobs.lock_device(device):
            pass
        holder.kill()
        holder.wait()
        assert lock.take() and lock.take()
        lock.release()
    with jobs.lock_device(device), jobs.lock_device(f"{device}-1"):
        pass


def test_a_lock_taken_in_one_thread_is_released_in_another(job: Job) -> None:
    """A page's generator moves from thread to thread."""
    lock = job.lock()
    taken = threading.Thread(target=lock.take)
    taken.start()
    taken.join()
    assert not job.lock().take()
    lock.release()
    assert job.lock().take()


def test_a_lock_is_not_inherited_by_a_forked_process(job: Job) -> None:
    """A worker that outlives the page must not keep the page's lock."""
    lock = job.lock()
    assert lock.take()
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    lock.release()
    try:
        assert job.lock().take()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_job_deleted_while_another_waits_is_missed(job: Job) -> None:
    lock = job.lock()
    job.delete()
    with pytest.raises(JobMissing):
        lock.take()
    with pytest.raises(JobMissing):
        _ = job.state


def test_a_deleted_job_leaves_nothing(job: Job) -> None:
    with job.lock():
        job.add_frames(0, frames_of(2))
        job.delete()
    assert list(job.folder.parent.iterdir()) == []


def test_unfinished_jobs_are_listed_the_latest_first(asked: RenderRequest, tmp_path: Path) -> None:
    root = tmp_path / "jobs"
    made = [Job.create(asked, root=root) for _ in range(3)]
    for age, job in zip((30, 10, 20), made, strict=True):
        touch(job.folder, age)
    assert [job.id for job in jobs.unfinished(root)] == [made[1].id, made[2].id, made[0].id]
    made[1].delete()
    assert [job.id for job in jobs.unfinished(root)] == [made[2].id, made[0].id]


def touch(folder: Path, age_seconds: float) -> None:
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - age_seconds,) * 2)


def test_old_jobs_and_what_killed_processes_left_are_swept(asked: RenderRequest, tmp_path: Path) -> None:
    root = tmp_path / "jobs"
    old, touched, young = (Job.create(asked, root=root) for _ in range(3))
    left = [root / f".new-{'0' * 32}", root / f".old-{'1' * 32}"]
    others = root / "somebody's own folder"
    for folder in (*left, others):
        folder.mkdir()
        (folder / "file").write_bytes(b"")
    for folder in (old.folder, touched.folder, *left, others):
        touch(folder, 100)
    touched.add_frames(0, frames_of(1))
    assert jobs.sweep(root, 50) == [old.id]
    assert {path.name for path in root.iterdir()} == {touched.id, young.id, others.name}


def test_jobs_lie_where_the_settings_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PORTRAIT_JOBS", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert hardware.jobs_folder().parent == tmp_path
    monkeypatch.setattr(hardware, "SPACE_DISK", tmp_path / "data")
    monkeypatch.setenv("SPACE_ID", "somebody/space")
    assert hardware.jobs_folder().parent == tmp_path, "a Space without a disk of its own"
    (tmp_path / "data").mkdir()
    assert hardware.jobs_folder().parent == tmp_path / "data"
    monkeypatch.setenv("PORTRAIT_JOBS", str(tmp_path / "chosen"))
    assert hardware.jobs_folder() == tmp_path / "chosen"
    assert not (tmp_path / "chosen").exists(), "asking makes none"


def test_jobs_import_no_torch() -> None:
    program = "import sys, pipeline.jobs; sys.exit('torch' in sys.modules or 'huggingface_hub' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_frames_on_a_full_disk_leave_the_ones_before(asked: RenderRequest, small_disk: Path) -> None:
    job = Job.create(asked, root=small_disk, facts=FACTS)
    job.add_frames(0, frames_of(5))
    job.update(step=1)
    large = np.zeros((900, 64, 64, 3), np.uint8)  # 11 MB
    with pytest.raises(DiskFull, match="The disk is full"):
        job.add_frames(5, large)
    again = Job.open(job.folder)
    assert again.num_frames == 5 and len(list(again.frames())) == 5 and again.state == {"step": 1}
    assert not list(job.folder.rglob("*.part"))
    again.add_frames(5, large[:10])
    assert again.num_frames == 15


def test_inputs_that_do_not_fit_leave_nothing(short_voice: Path, small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(bytes(12 * 2**20))
    with pytest.raises(DiskFull):
        Job.create(RenderRequest(portrait=tmp_path / "large.png", speech=short_voice), root=small_disk)
    assert list(small_disk.iterdir()) == []
