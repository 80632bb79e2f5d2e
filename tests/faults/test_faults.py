"""Disks, rights, clocks and model files that fail: a sentence and an exit code, a clip that is whole or not there."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from pipeline import jobs, models
from pipeline.__main__ import main
from pipeline.cli import DONE, REFUSED
from pipeline.draft.phonemes import RecogniserMissingError, load_recogniser
from pipeline.errors import OutputNotWritable
from pipeline.files import work_folder
from pipeline.request import RenderRequest
from pipeline.texts import LANGUAGES
from tests.conftest import tone, write_wav
from tests.server import ROOT, wait_until

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # Source: linux/prctl.h, linux/capability.h
LITTLE = 20_000  # bytes: less than a clip of any length
LONG_SECONDS = 20.0  # of voice: still being drawn when the signal comes
YEAR_SECONDS = 365 * 24 * 3600


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and an English terminal."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "en_CA.UTF-8")
    return folder


@pytest.fixture
def short_sound(tmp_path: Path) -> Path:
    """The shortest of voices: a tone of 12 frames."""
    return write_wav(tmp_path / "tone.wav", tone(0.48), 16_000)


def rendering(*arguments: object, environment: dict[str, str] | None = None, **options) -> subprocess.Popen:
    """`python -m pipeline render` as a program of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "render", *map(str, arguments), "--size", "256"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def without_rights() -> dict[str, Any]:
    """What starts a program that files' permissions hold for, also when the administrator runs the tests."""
    if os.name != "posix":
        pytest.skip("rights of POSIX")
    if os.geteuid():
        return {}
    if sys.platform != "linux":
        pytest.skip("taking rights away needs Linux")
    return {"preexec_fn": lambda: ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)}


def num_frames(clip: Path) -> int:
    """Frames of a clip whose sound decodes too."""
    with av.open(str(clip)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) > 0
    with av.open(str(clip)) as container:
        return sum(1 for _ in container.decode(video=0))


# --- disks ------------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_an_older_clip_stays(small_disk, portrait_path, short_voice, capsys):
    older = small_disk / "clip.mp4"
    older.write_bytes(b"an older clip")
    free = os.statvfs(small_disk)
    (small_disk / "filling").write_bytes(bytes(free.f_bavail * free.f_frsize - LITTLE))
    assert main(["render", str(portrait_path), str(short_voice), "-o", str(older), "--size", "256"]) == REFUSED
    told = capsys.readouterr().err
    assert told.startswith("The disk is full") and len(told.splitlines()) == 1
    assert older.read_bytes() == b"an older clip"
    assert {path.name for path in small_disk.iterdir()} == {"clip.mp4", "filling"}


def test_a_full_disk_for_temporary_files_is_told(small_disk, portrait_path, place, monkeypatch, capsys):
    free = os.statvfs(small_disk)
    (small_disk / "filling").write_bytes(bytes(free.f_bavail * free.f_frsize - LITTLE))
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    assert main(["render", str(portrait_path), "--script", "Nine men sing.", "--lang", "en"]) == REFUSED
    assert capsys.readouterr().err.startswith("The disk is full")
    assert [path.name for path in small_disk.iterdir()] == ["filling"] and not any(place.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_limit_on_the_size_of_files_is_told(place, portrait_path, short_voice):
    """As a quota may set; the program outlives the signal that comes with it."""
    import resource

    limited = rendering(
        portrait_path,
        short_voice,
        "-o",
        "clip.mp4",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LITTLE, LITTLE)),
    )
    _, told = limited.communicate(timeout=120)
    assert limited.returncode == REFUSED and "Traceback" not in told and told.strip()
    assert not any(place.iterdir())


def test_a_disk_that_only_reads_is_told(small_disk, portrait_path, short_voice, capsys):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    command = ["render", str(portrait_path), str(short_voice), "-o", str(small_disk / "clip.mp4")]
    assert main(command) == REFUSED
    assert f"Nothing can be written to {small_disk / 'clip.mp4'}" in capsys.readouterr().err


# --- rights -----------------------------------------------------------------------------------------------------------


def test_a_folder_one_may_not_write_to_is_told(tmp_path, portrait_path, short_sound):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    refused = rendering(portrait_path, short_sound, "-o", closed / "clip.mp4", **without_rights())
    _, told = refused.communicate(timeout=120)
    assert refused.returncode == REFUSED and f"Nothing can be written to {closed / 'clip.mp4'}" in told
    assert len(told.splitlines()) == 1 and not any(closed.iterdir())


def test_without_a_place_for_cache_and_state_a_clip_is_made(tmp_path, portrait_path, short_sound):
    """Nothing can be kept for the next time, which is no reason to refuse this one."""
    closed, clips, temporary = tmp_path / "closed", tmp_path / "clips", tmp_path / "temporary"
    closed.mkdir(mode=0o555)
    clips.mkdir()
    temporary.mkdir()
    homes = {name: str(closed / name) for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "HF_HOME")}
    points = ["--points", "200,220", "310,220", "256,330"]
    command = [portrait_path, short_sound, "-o", clips / "clip.mp4", *points]
    making = rendering(*command, environment={**homes, "TMPDIR": str(temporary)}, **without_rights())
    _, told = making.communicate(timeout=120)
    assert making.returncode == DONE, told
    assert num_frames(clips / "clip.mp4") == 12
    assert not any(temporary.iterdir()) and not any(closed.iterdir())


def test_without_a_place_for_temporary_files_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputNotWritable, match="gone"), work_folder():
        pass


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_render_shows_no_clip_and_the_next_one_clears_up(tmp_path, place, portrait_path, short_sound):
    long = write_wav(tmp_path / "long.wav", tone(LONG_SECONDS), 16_000)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    homeless = {"TMPDIR": str(temporary)}
    killed = rendering(portrait_path, long, "-o", "clip.mp4", environment=homeless)
    assert wait_until(lambda: any(path.stat().st_size > 10_000 for path in place.iterdir()), 60)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    left = [*place.iterdir(), *temporary.rglob("*")]
    assert left and not (place / "clip.mp4").exists()
    (place / ".0123456789abcdef.mp4").write_bytes(b"somebody else's")
    for path in [*left, *place.iterdir()]:
        os.utime(path, (time.time() - 3600,) * 2)  # an hour later
    making = rendering(portrait_path, short_sound, "-o", "clip.mp4", environment=homeless)
    _, told = making.communicate(timeout=120)
    assert making.returncode == DONE, told
    assert {path.name for path in place.iterdir()} == {"clip.mp4", ".0123456789abcdef.mp4"}
    assert num_frames(place / "clip.mp4") == 12
    assert not any(temporary.iterdir())


# --- the clock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [YEAR_SECONDS, -YEAR_SECONDS], ids=["forward", "back"])
def test_a_clock_that_jumps_changes_nothing(place, portrait_path, short_sound, monkeypatch, capsys, jump):
    real, calls = time.time, [0]

    def jumping() -> float:
        calls[0] += 1
        return real() + jump * calls[0]

    monkeypatch.setattr(time, "time", jumping)
    assert main(["render", str(portrait_path), str(short_sound), "-o", "clip.mp4", "--size", "256"]) == DONE
    monkeypatch.undo()
    seconds = float(capsys.readouterr().out.split(" in ")[1].split()[0])
    assert 0 < seconds < 60
    assert [path.name for path in place.iterdir()] == ["clip.mp4"] and num_frames(place / "clip.mp4") == 12


def test_a_clock_that_jumps_takes_no_job_from_who_works_on_it(tmp_path, portrait_path, short_sound, monkeypatch):
    job = jobs.Job.create(RenderRequest(portrait=portrait_path, speech=short_sound), root=tmp_path / "jobs")
    now = time.time()
    for jump in (YEAR_SECONDS, -YEAR_SECONDS):
        with job.lock():
            monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
            assert jobs.sweep(tmp_path / "jobs") == []
        assert job.folder.is_dir()


# --- model files ------------------------------------------------------------------------------------------------------


def missing(path: Path) -> None:
    path.unlink()


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # a link to the project's own
    path.write_bytes(content)


@pytest.mark.parametrize("fault", [missing, damaged])
@pytest.mark.parametrize("name", [models.FACE_LANDMARKER, models.SELFIE_SEGMENTATION, models.EAR])
def test_a_model_file_that_is_not_ours_is_named(
    place, tmp_path, portrait_path, short_voice, monkeypatch, capsys, name, fault: Callable[[Path], None]
):
    folder = tmp_path / "models"
    folder.mkdir()
    for own in models.SHA256:
        if "/" not in own:
            (folder / own).symlink_to(models.FOLDER / own)
    fault(folder / name)
    monkeypatch.setattr(models, "FOLDER", folder)
    networks = (models.face_detector, models.face_landmarks, models.selfie_segmentation, models.canonical_face)
    for network in networks:
        network.cache_clear()
    for language in LANGUAGES:
        monkeypatch.setenv("LANG", language)
        assert main(["render", str(portrait_path), str(short_voice), "-o", "clip.mp4", "--size", "256"]) == REFUSED
        told = capsys.readouterr().err
        assert name in told and len(told.splitlines()) == 1
    assert not any(place.iterdir())


def test_a_recogniser_that_cannot_be_opened_takes_no_clip_away(place, portrait_path, short_voice, monkeypatch):
    """The one network that is not the project's own: the mouth then follows what is measured of the sound."""
    monkeypatch.setitem(sys.modules, "hama.asr", None)  # as where its library is missing
    with pytest.raises(RecogniserMissingError):
        load_recogniser()
    assert main(["render", str(portrait_path), str(short_voice), "-o", "clip.mp4", "--size", "256"]) == DONE
    assert num_frames(place / "clip.mp4") == 40
