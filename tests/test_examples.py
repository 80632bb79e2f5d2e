"""Every example: its files are here, its source is told, it renders, and its finished clip plays."""

import csv
import math
import re
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline import RenderRequest, face, media, render
from pipeline.errors import FaceError
from pipeline.plan import FPS
from pipeline.request import read_points

EXAMPLES = Path(__file__).parents[1] / "examples"
CLIPS_MEBIBYTES = 6  # all finished clips together
PREVIEW_KIBIBYTES = 600  # what a README may make its readers wait for
LARGEST_SIDE = 800  # pixels of a portrait
LOUDEST = 0.9  # of full scale: room for encoders, which overshoot
SHORTEST_PAUSE_SECONDS = 1.0
with (EXAMPLES / "examples.csv").open(encoding="utf-8", newline="") as lines:
    ROWS = list(csv.DictReader(lines))

every_row = pytest.mark.parametrize("row", ROWS, ids=[Path(row["portrait"]).stem for row in ROWS])


def samples_of(voice: Path) -> tuple[np.ndarray, int]:
    """(samples,) float64 in [-1, 1] and Hz, of a mono 16-bit WAV file."""
    with wave.open(str(voice)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32_768, file.getframerate()


def played(clip: Path) -> tuple[int, int, int, float]:
    """Frames, width, height and seconds of sound, all decoded."""
    with av.open(str(clip)) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    with av.open(str(clip)) as container:
        sound = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert len(set(sizes)) == 1
    return len(sizes), *sizes[0], sound


def test_there_are_photographs_a_painting_drawings_and_an_animal_in_both_languages():
    assert len({row["portrait"] for row in ROWS}) >= 5
    assert len({row["voice"] for row in ROWS}) >= 3
    assert {row["language"] for row in ROWS} == {"en", "fr"}
    assert any(row["points"] for row in ROWS)


@every_row
def test_a_row_names_files_that_are_here_and_has_titles(row):
    for column in ("portrait", "voice", "clip"):
        assert (EXAMPLES / row[column]).is_file(), row[column]
    assert row["title_en"] and row["title_fr"] and row["title_en"] != row["title_fr"]
    assert row["text"]


def test_every_portrait_and_voice_is_used_and_has_its_source_and_licence():
    told = re.findall(
        r"^\| `((?:portraits|voices)/[^`]+)` \|(.*)\|$", (EXAMPLES / "README.md").read_text("utf-8"), re.M
    )
    here = {f"{folder}/{path.name}" for folder in ("portraits", "voices") for path in (EXAMPLES / folder).iterdir()}
    assert {name for name, _ in told} == here
    assert {row[column] for row in ROWS for column in ("portrait", "voice")} == here
    for name, cells in told:
        assert "public domain" in cells or "Apache-2.0" in cells or name.startswith("voices/"), name


def test_portraits_are_small_and_carry_no_metadata():
    for path in (EXAMPLES / "portraits").iterdir():
        with Image.open(path) as picture:
            assert max(picture.size) <= LARGEST_SIDE
            assert not picture.getexif()
            assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_voices_keep_below_full_scale_and_begin_and_end_quietly():
    for path in (EXAMPLES / "voices").iterdir():
        samples, rate = samples_of(path)
        assert 0.2 < np.abs(samples).max() <= LOUDEST, path.name
        edges = np.concatenate([samples[: rate // 50], samples[-rate // 50 :]])
        assert np.abs(edges).max() < 0.02, path.name


def test_one_voice_pauses_over_a_faint_room_tone():
    samples, rate = samples_of(EXAMPLES / "voices" / "english_pause_8s.wav")
    step = rate // 50
    loud = np.sqrt((samples[: len(samples) // step * step].reshape(-1, step) ** 2).mean(1)) > 0.01
    spoken = np.flatnonzero(loud)
    longest = np.diff(spoken).max()
    start = spoken[np.diff(spoken).argmax()]
    pause = samples[(start + 5) * step : (start + longest - 5) * step]
    assert longest / 50 >= SHORTEST_PAUSE_SECONDS
    assert 1e-4 < pause.std() < 5e-3


def test_the_animal_needs_its_points():
    for row in ROWS:
        picture = media.load_portrait(EXAMPLES / row["portrait"])
        if row["points"]:
            with pytest.raises(FaceError):
                face.locate(picture, name="animal")
            assert face.locate(picture, name="animal", points=read_points(row["points"])).from_points
        else:
            assert not face.locate(picture, name="portrait").from_points


@every_row
def test_a_row_renders_whole(row, tmp_path):
    result = render(
        RenderRequest(
            portrait=EXAMPLES / row["portrait"],
            speech=EXAMPLES / row["voice"],
            output=tmp_path / "clip.mp4",
            size=256,
            seed=1,
            points=read_points(row["points"]) if row["points"] else None,
            text=row["text"],
            language=row["language"],
        )
    )
    samples, rate = samples_of(EXAMPLES / row["voice"])
    frames, width, height, sound = played(result.path)
    assert (frames, width, height) == (math.ceil(len(samples) / rate * FPS), 256, 256)
    assert abs(sound - frames / FPS) < 1 / FPS + 1024 / rate
    windows = "house" in row["portrait"]
    assert [notice.key for notice in result.notices] == (["EyesDoNotBlink"] if windows else [])


@every_row
def test_a_finished_clip_plays_as_long_as_its_voice(row):
    samples, rate = samples_of(EXAMPLES / row["voice"])
    frames, width, height, sound = played(EXAMPLES / row["clip"])
    assert frames == math.ceil(len(samples) / rate * FPS)
    assert width == height == 512
    assert abs(sound - frames / FPS) < 1 / FPS + 1024 / rate


def test_finished_clips_and_the_preview_are_small():
    clips = sorted((EXAMPLES / "clips").iterdir())
    assert clips == sorted(EXAMPLES / row["clip"] for row in ROWS)
    assert sum(clip.stat().st_size for clip in clips) <= CLIPS_MEBIBYTES * 2**20
    preview = EXAMPLES / "preview.webp"
    assert preview.stat().st_size <= PREVIEW_KIBIBYTES * 1024
    with Image.open(preview) as picture:
        assert getattr(picture, "n_frames", 1) > 20
