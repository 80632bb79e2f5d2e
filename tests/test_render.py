"""The story of one clip: what comes out, and what is left when it does not."""

import subprocess
import sys

import av
import pytest

from pipeline import RenderRequest, render, render_steps
from pipeline.engine import Step
from pipeline.errors import OptionUnused, PortraitWithoutFace


@pytest.fixture
def request_of(portrait_path, short_voice, tmp_path):
    """A request with small defaults."""

    def make(**changes) -> RenderRequest:
        return RenderRequest(
            **{
                "portrait": portrait_path,
                "speech": short_voice,
                "output": tmp_path / "clip.mp4",
                "size": 256,
                **changes,
            }
        )

    return make


def test_a_portrait_and_a_voice_become_a_clip_with_sound(request_of):
    result = render(request_of(seed=5))
    assert (result.engine, result.seed, result.width, result.height) == ("draft", 5, 256, 256)
    with av.open(str(result.path)) as clip:
        frames = sum(1 for _ in clip.decode(video=0))
        assert frames == result.num_frames == round(result.clip_seconds * 25)
        assert clip.streams.audio


def test_without_an_output_the_clip_gets_a_place_of_its_own(request_of):
    first, second = (render(request_of(output=None, seed=1)).path for _ in range(2))
    assert first.is_file() and second.is_file() and first != second


def test_steps_count_up_to_the_last_frame(request_of):
    told: list[Step] = []
    result = render(request_of(), on_step=told.append)
    drawing = [step for step in told if step.stage == "StageDrawing"]
    assert [step.done for step in drawing] == list(range(1, result.num_frames + 1))
    assert drawing[-1].seconds_left == 0
    assert told[0].stage == "StageReading"


def test_closing_the_steps_cancels_and_leaves_no_file(request_of, tmp_path):
    steps = render_steps(request_of())
    while next(steps).stage != "StageDrawing":
        pass
    steps.close()
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_listener_cancels_and_leaves_no_file(request_of, tmp_path):
    def stop(step):
        if step.stage == "StageDrawing" and step.done == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        render(request_of(), on_step=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_was_there_survives_a_failed_render(request_of, tmp_path, faceless_path):
    (tmp_path / "clip.mp4").write_bytes(b"an older clip")
    with pytest.raises(PortraitWithoutFace):
        render(request_of(portrait=faceless_path))
    assert (tmp_path / "clip.mp4").read_bytes() == b"an older clip"


@pytest.mark.parametrize("option", [{"second_face": 2}, {"second_points": [(1, 1), (2, 1), (1, 2)]}])
@pytest.mark.parametrize("script", ["", "A: Only one of them speaks.\nB: ..."])
def test_what_only_a_second_speaker_needs_is_refused_without_one(request_of, option, script):
    voice = {"speech": None, "script": script} if script else {}
    with pytest.raises(OptionUnused, match=next(iter(option))):
        render(request_of(**voice, **option))


def test_importing_the_pipeline_imports_no_heavy_package():
    """The page opens and the draft runs without torch and librosa; a notebook needs no gradio."""
    heavy = ("torch", "librosa", "gradio", "spaces", "diffusers")
    code = f"import sys, pipeline; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
