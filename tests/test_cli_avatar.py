"""The avatar engine on the command line, rehearsed with a tiny model: stopped in mid-render, listed, resumed, done."""

import signal
import subprocess
import time
from pathlib import Path

import av
import pytest

from pipeline.__main__ import main
from pipeline.cli import DONE, REFUSED, STOPPED
from pipeline.request import MAX_PROMPT_LENGTH
from pipeline.texts import TEXTS
from tests.conftest import SHORT_SECONDS
from tests.test_cli import POSIX, program

pytest.importorskip("diffusers")
WAIT_SECONDS = 300  # for a rehearsal on a crowded machine; a quiet one needs a tenth
STEPS = 3


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    """An empty current folder, and folders of its own for jobs and weights; an English terminal."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "PORTRAIT_ACCEPT_LICENCE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PORTRAIT_JOBS", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def told(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    running = program(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    result, complaints = running.communicate(timeout=WAIT_SECONDS)
    return running.returncode, result, complaints


@POSIX
def test_a_stopped_rehearsal_says_how_to_resume_and_is_resumed(places, tmp_path, portrait_path, short_voice):
    running = program(
        "render", "--tiny", portrait_path, short_voice, "--steps", STEPS, "-o", "clip.mp4", stderr=subprocess.PIPE
    )
    states = tmp_path / "portrait_jobs"
    since = time.monotonic()
    while not any('"step": 1' in state.read_text() for state in states.glob("*/state.json")):
        assert running.poll() is None and time.monotonic() - since < WAIT_SECONDS
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    complaints = running.communicate(timeout=WAIT_SECONDS)[1]
    assert running.returncode == STOPPED and "Traceback" not in complaints
    [job] = [path.name for path in states.iterdir() if path.is_dir()]
    assert TEXTS["CliKept"].en in complaints and f"python -m pipeline resume {job}" in complaints
    assert list(places.iterdir()) == []

    code, listed, _ = told("resume")
    assert code == DONE and job in listed and portrait_path.name in listed
    code, result, complaints = told("resume", job)
    assert code == DONE, complaints
    assert result.splitlines()[0] == str(places / "clip.mp4")
    with av.open("clip.mp4") as clip:
        assert sum(1 for _ in clip.decode(video=0)) == round(SHORT_SECONDS * 25) and clip.streams.audio
    assert [path for path in states.iterdir() if path.is_dir()] == []
    assert told("resume")[1].strip() == TEXTS["CliNoJobs"].en


@pytest.mark.parametrize("name", ["0" * 32, "../../etc", "."])
def test_a_job_that_is_not_there_is_refused_in_words(places, capsys, name):
    assert main(["resume", name]) == REFUSED
    result, complaints = capsys.readouterr()
    assert result == "" and "There is no job" in complaints


@pytest.mark.parametrize("prompt", ["a" * (MAX_PROMPT_LENGTH + 1), "A <image> of her", "Hello <|eot_id|>"])
def test_a_prompt_that_cannot_be_read_is_refused_before_a_job_is_made(
    places, tmp_path, capsys, portrait_path, short_voice, prompt
):
    assert main(["render", "--tiny", str(portrait_path), str(short_voice), "--prompt", prompt]) == REFUSED
    complaints = capsys.readouterr().err
    assert "resume" not in complaints and len(complaints.splitlines()) == 1
    assert not (tmp_path / "portrait_jobs").exists()


def test_without_the_licence_nothing_is_begun(places, tmp_path, portrait_path, short_voice):
    """Nobody sits at this terminal to be asked."""
    code, result, complaints = told("render", "--engine", "avatar", portrait_path, short_voice)
    assert (code, result) == (REFUSED, "") and TEXTS["LicenceTerms"].en[:60] in complaints
    assert "--accept-licence" in complaints and not (tmp_path / "portrait_jobs").exists()
