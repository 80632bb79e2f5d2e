"""What the report says of a good clip, of the same clip spoilt in known ways, and of files that are no clips."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from pipeline import RenderRequest, render
from pipeline.__main__ import main
from pipeline.cli import DONE, NOT_UNDERSTOOD, REFUSED
from pipeline.errors import (
    AvatarError,
    ClipTooLarge,
    ClipTooLong,
    ClipUnreadable,
    ClipWithoutPicture,
    FileMissing,
    SoundMissing,
)
from pipeline.generators import to_end
from pipeline.report import Figure, Report, plot, report_steps, table
from pipeline.report import clip as clips
from pipeline.report.measures import best_lag
from pipeline.report.report import least_sync
from pipeline.texts import LANGUAGES
from tests.conftest import EXAMPLES, tone

DELAY = 0.2  # seconds
PORTRAIT = EXAMPLES / "portraits" / "officer_with_glasses.jpg"
OTHER_PORTRAIT = EXAMPLES / "portraits" / "woman_facing_camera.jpg"
VOICE = EXAMPLES / "voices" / "english_calm_8s.wav"
OTHER_VOICE = EXAMPLES / "voices" / "english_pause_8s.wav"
SHORT = 2.5  # seconds
FOX = ((306, 334), (461, 334), (308, 497), (459, 497), (384, 572))  # five points of its drawing


def remake(
    clip: Path,
    output: Path,
    *,
    change: Callable[[int, np.ndarray], np.ndarray] = lambda index, pixels: pixels,
    sound: Path | None = None,
    sound_later: float = 0.0,
    picture_later: float = 0.0,
    seconds: float = 60.0,
) -> Path:
    """The clip again: its frames changed, another sound, one of both later by so many seconds; at most so long."""
    with av.open(str(clip)) as picture, av.open(str(sound or clip)) as voice, av.open(str(output), "w") as made:
        shown, heard = picture.streams.video[0], voice.streams.audio[0]
        video: Any = made.add_stream("libx264", rate=25, options={"crf": "18", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = shown.width, shown.height, "yuv420p"
        video.codec_context.time_base = Fraction(1, 25)
        spoken: Any = made.add_stream("aac", rate=heard.rate)
        spoken.layout = "mono"
        for index, frame in enumerate(picture.decode(shown)):
            if index < 25 * seconds:
                pixels = np.ascontiguousarray(change(index, frame.to_ndarray(format="rgb24")))
                new = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                new.pts, new.time_base = index + round(25 * picture_later), Fraction(1, 25)
                made.mux(video.encode(new))
        made.mux(video.encode(None))
        resampler = av.AudioResampler("fltp", "mono", heard.rate)
        start = round(sound_later * heard.rate)
        for block in [*voice.decode(heard), None]:
            for ready in resampler.resample(block):
                ready.pts = start
                start += ready.samples
                if start < seconds * heard.rate:
                    made.mux(spoken.encode(ready))
        made.mux(spoken.encode(None))
    return output


def measure(clip: Path, portrait: Path = PORTRAIT, **options: Any) -> Report:
    report: Report = to_end(report_steps(clip, portrait, **options))
    return report


def value(report: Report, name: str, of: str = "clip") -> float:
    """A figure that is known."""
    number = getattr(report.figures[name], of)
    assert number is not None, name
    return float(number)


def found(report: Report) -> list[str]:
    return [finding.key for finding in report.findings]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Path:
    """A draft of eight seconds."""
    request = RenderRequest(portrait=PORTRAIT, speech=VOICE, output=folder / "good.mp4", size=320, seed=1)
    return render(request).path


@pytest.fixture(scope="module")
def short(clip: Path, folder: Path) -> Path:
    """Its beginning."""
    return remake(clip, folder / "short.mp4", seconds=SHORT)


@pytest.fixture(scope="module")
def good(clip: Path) -> Report:
    return measure(clip)


@pytest.fixture(scope="module")
def late_sound(clip: Path, folder: Path) -> Report:
    """The same clip, its sound 200 ms later."""
    return measure(remake(clip, folder / "late.mp4", sound_later=DELAY))


@pytest.fixture(scope="module")
def still(clip: Path, folder: Path) -> Report:
    """The same sound over the first frame."""
    first: list[np.ndarray] = []

    def hold(index: int, pixels: np.ndarray) -> np.ndarray:
        first.append(pixels)
        return first[0]

    return measure(remake(clip, folder / "still.mp4", change=hold))


# --- it tells clips apart ---------------------------------------------------------------------------------------------


def test_a_good_clip_is_called_good(good: Report) -> None:
    assert good.is_good and found(good) == ["ReportAllWell"]
    figures = {name: value(good, name) for name in good.figures}
    assert figures["sync_r"] > 0.8 and abs(figures["lag_ms"]) < 30
    assert figures["identity_distance"] < 0.4 and figures["face_share"] == 1.0
    assert figures["flicker_levels"] < 3 and 5 < figures["blinks_per_minute"] < 40
    assert 0.15 < figures["mouth_range_mouth_widths"] < 0.45


def test_a_delayed_sound_is_found_and_measured(late_sound: Report, good: Report) -> None:
    assert found(late_sound) == ["ReportMouthLeads"]
    assert value(late_sound, "lag_ms") == pytest.approx(-1000 * DELAY, abs=40)
    assert f"{-value(late_sound, 'lag_ms'):.0f} ms" in late_sound.findings[0].text("en")
    assert value(late_sound, "sync_r") == pytest.approx(value(good, "sync_r"), abs=0.1)


def test_a_still_image_follows_no_voice_and_does_not_blink(still: Report) -> None:
    assert found(still) == ["ReportDoesNotFollow", "ReportNoBlinks"]
    assert value(still, "blinks_per_minute") == 0 and still.figures["lag_ms"].clip is None
    assert value(still, "mouth_range_mouth_widths") < 0.02
    assert value(still, "flicker_levels") < 0.5


def test_a_mouth_that_comes_after_its_sound_is_said_to_lag(clip: Path, folder: Path) -> None:
    report = measure(remake(clip, folder / "early.mp4", picture_later=0.12, seconds=5))
    assert found(report) == ["ReportMouthLags"]
    assert value(report, "lag_ms") == pytest.approx(120, abs=40)


def test_another_voice_is_not_followed(clip: Path, folder: Path) -> None:
    report = measure(remake(clip, folder / "other_voice.mp4", sound=OTHER_VOICE, seconds=5))
    assert found(report) == ["ReportDoesNotFollow"]


def test_beside_another_face_part_of_the_sound_may_be_the_others(clip: Path, folder: Path) -> None:
    film = remake(clip, folder / "other_turn.mp4", sound=OTHER_VOICE, seconds=SHORT)
    pictures = [Image.open(path).convert("RGB").resize((480, 480)) for path in (PORTRAIT, OTHER_PORTRAIT)]
    both = folder / "both.png"
    Image.fromarray(np.hstack([np.asarray(picture) for picture in pictures])).save(both)
    faces = [measure(film, both, face=number) for number in (1, 2)]
    assert any("ReportFollowsInPart" in found(report) for report in faces)
    assert not any("ReportDoesNotFollow" in found(report) for report in faces)


def test_another_portrait_is_another_face(short: Path) -> None:
    report = measure(short, OTHER_PORTRAIT)
    assert "ReportOtherFace" in found(report)
    assert value(report, "identity_distance") > 0.6


def test_flicker_and_missing_faces_are_both_named(short: Path, folder: Path) -> None:
    def spoil(index: int, pixels: np.ndarray) -> np.ndarray:
        if index % 10 >= 7:
            pixels = np.full_like(pixels, 120)
        return np.clip(pixels.astype(int) + 3 * (-1) ** index, 0, 255).astype(np.uint8)

    report = measure(remake(short, folder / "spoilt.mp4", change=spoil))
    assert {"ReportFlickers", "ReportFaceMissing"} <= set(found(report))
    assert 0.6 < value(report, "face_share") < 0.8


def test_a_face_that_becomes_another_drifts(short: Path, folder: Path) -> None:
    with av.open(str(EXAMPLES / "clips" / "woman_facing_camera.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24", width=320, height=320) for frame in container.decode(video=0)]
    half = round(25 * SHORT / 2)
    report = measure(
        remake(short, folder / "drift.mp4", change=lambda index, pixels: pixels if index < half else frames[index])
    )
    assert "ReportFaceDrifts" in found(report)


def test_a_clip_of_a_drawn_animal_is_found_by_the_points_of_its_portrait() -> None:
    clip, portrait = EXAMPLES / "clips" / "drawing_of_a_fox.mp4", EXAMPLES / "portraits" / "drawing_of_a_fox.jpg"
    points = tuple((float(x), float(y)) for x, y in FOX)
    report = measure(clip, portrait, points=points)
    assert value(report, "sync_r") > least_sync(report.seconds)
    assert "ReportDoesNotFollow" not in found(report) and "ReportOtherFace" not in found(report)


# --- what stands beside the figures -----------------------------------------------------------------------------------


def test_the_still_and_the_perfect_clip_frame_every_figure(good: Report) -> None:
    assert abs(value(good, "sync_r", "still")) < 0.3 < 0.9 < value(good, "sync_r", "reference")
    assert good.figures["lag_ms"].still is None and abs(value(good, "lag_ms", "reference")) < 10
    perfect, still, moving = (value(good, "identity_distance", of) for of in ("reference", "still", "clip"))
    assert perfect <= still <= moving


def test_a_shorter_clip_must_follow_more_closely() -> None:
    assert [round(least_sync(seconds), 2) for seconds in (0.4, 3.0, 8.0, 600.0)] == [0.6, 0.6, 0.43, 0.35]


def test_a_lag_is_searched_half_a_second_each_way() -> None:
    rng = np.random.default_rng(1)
    leader = np.convolve(rng.normal(size=300), np.ones(5), "same")
    for shift in (-12, -5, 0, 5, 12):
        lag, r = best_lag(np.roll(leader, shift), leader, 13)
        assert lag == pytest.approx(40 * shift, abs=8) and r > 0.95


def test_json_has_its_keys_and_no_number_that_json_lacks(good: Report, still: Report) -> None:
    for report in (good, still):
        written = json.loads(json.dumps(report.as_json(), allow_nan=False))
        assert list(written) == [
            *("report_version", "clip", "portrait", "seconds", "width_px", "height_px", "frames_per_second"),
            *("num_frames", "num_frames_measured", "is_good", "figures", "findings", "notes"),
        ]
        assert list(written["figures"]) == [
            *("sync_r", "lag_ms", "mouth_range_mouth_widths", "identity_distance", "face_share"),
            *("flicker_levels", "blinks_per_minute"),
        ]
        for finding in written["findings"]:
            assert set(finding) == {"key", *LANGUAGES} and finding["en"] != finding["fr"]


# --- the drawing and the table ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_drawing_shows_voice_sounds_and_both_mouths(good: Report, language: str) -> None:
    drawn = ET.fromstring(plot(good, language))
    kinds = [part.get("class") for part in drawn.iter()]
    assert {"voice", "vowel", "lips", "other", "asked", "seen"} <= set(kinds)
    name, about = (drawn.find(f"{{http://www.w3.org/2000/svg}}{tag}") for tag in ("title", "desc"))
    assert name is not None and name.text and about is not None and good.clip in (about.text or "")


def test_ten_minutes_are_drawn_in_less_than_200_kb(good: Report) -> None:
    times = 73
    long = replace(
        good,
        seconds=good.seconds * times,
        asked=np.tile(good.asked, times),
        measured=np.tile(good.measured, times),
        envelope=np.tile(good.envelope, times),
        segments=tuple(
            replace(one, start=one.start + turn * good.seconds, end=one.end + turn * good.seconds)
            for turn in range(times)
            for one in good.segments
        ),
    )
    drawn = plot(long, "en")
    assert len(drawn.encode()) < 200_000
    ET.fromstring(drawn)


def test_a_name_cannot_break_the_drawing(good: Report) -> None:
    evil = '<script>alert("1")</script>&\x00\udc80]]>.mp4'
    drawn = plot(replace(good, clip=evil), "fr")
    assert "<script" not in drawn and "script" in (ET.fromstring(drawn)[1].text or "")


def test_the_table_has_three_numbers_for_every_figure(good: Report) -> None:
    for language in LANGUAGES:
        lines = table(good, language).splitlines()
        assert len(lines) == 2 + len(good.figures)
        assert all(line.count("|") == 6 for line in lines)
    assert "," in table(good, "fr").splitlines()[2].split("|")[2]


def test_what_cannot_be_told_is_a_dash(good: Report) -> None:
    nothing = replace(good, figures={name: Figure(None, None, None) for name in good.figures}, segments=())
    nothing = replace(nothing, measured=np.full_like(good.measured, np.nan))
    assert table(nothing, "en").count("| – | – | – |") == len(good.figures)
    ET.fromstring(plot(nothing, "en"))


# --- files that are no clips ------------------------------------------------------------------------------------------


def write_video(path: Path, *, size: tuple[int, int] = (64, 64), times: list[int] | None = None) -> Path:
    """Grey frames at the given seconds, without sound."""
    with av.open(str(path), "w") as made:
        video: Any = made.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.time_base = Fraction(1, 25)
        for seconds in times or [0]:
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 90, np.uint8), format="rgb24")
            frame.pts, frame.time_base = seconds * 25, Fraction(1, 25)
            made.mux(video.encode(frame))
        made.mux(video.encode(None))
    return path


def no_bytes(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def a_picture(path: Path) -> Path:
    Image.new("RGB", (300, 300)).save(path, format="PNG")
    return path


def a_playlist(path: Path) -> Path:
    path.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    return path


def a_voice_alone(path: Path) -> Path:
    with av.open(str(path), "w") as made:
        spoken: Any = made.add_stream("aac", rate=16_000)
        spoken.layout = "mono"
        frame = av.AudioFrame.from_ndarray(tone(1.0).astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        made.mux([*spoken.encode(frame), *spoken.encode(None)])
    return path


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (no_bytes, ClipUnreadable),
        (a_picture, ClipUnreadable),
        (a_playlist, ClipUnreadable),
        (a_voice_alone, ClipWithoutPicture),
        (write_video, SoundMissing),
        (lambda path: write_video(path, size=(4096, 2560)), ClipTooLarge),
        (lambda path: write_video(path, times=list(range(0, 640, 9))), ClipTooLong),
        (lambda path: path.parent, FileMissing),
        (lambda path: path.with_name("nothing\x00.mp4"), FileMissing),
    ],
)
def test_what_is_no_clip_is_refused_by_name(
    make: Callable[[Path], Path], kind: type[AvatarError], tmp_path: Path
) -> None:
    path = make(tmp_path / "clip.mp4")
    with pytest.raises(kind) as refusal:
        measure(path)
    assert refusal.value.text("fr") != refusal.value.text("en")


def test_half_a_clip_is_refused_or_measured(short: Path, tmp_path: Path) -> None:
    content, half = short.read_bytes(), tmp_path / "half.mp4"
    for share in (0.2, 0.9):
        half.write_bytes(content[: int(share * len(content))])
        try:
            assert measure(half).seconds <= 9
        except AvatarError as refusal:
            assert "half.mp4" in refusal.text("en")


def test_a_clip_longer_than_its_header_says_is_stopped(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = clips.Clip(clip)
    monkeypatch.setattr(clips, "MAX_CLIP_SECONDS", 2.0)
    with pytest.raises(ClipTooLong):
        for shown in film.pictures():
            assert shown.seconds <= 2


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_json_and_drawing(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "fr_CA.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)
    figures, drawing = tmp_path / "figures.json", tmp_path / "drawing.svg"
    assert main(["report", str(short), str(PORTRAIT), "--json", str(figures), "--plot", str(drawing)]) == DONE
    assert json.loads(figures.read_text("utf-8"))["clip"] == short.name
    assert drawing.read_text("utf-8").startswith("<svg")
    assert "La bouche suit la voix" in capsys.readouterr().out


def test_what_it_writes_replaces_no_picture_and_needs_a_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "portrait.jpg"
    picture.write_bytes(b"a picture")
    for option in ("--json", "--plot"):
        assert main(["report", str(tmp_path / "clip.mp4"), str(PORTRAIT), option, str(picture)]) == NOT_UNDERSTOOD
        assert picture.read_bytes() == b"a picture" and option in capsys.readouterr().err
    nowhere = tmp_path / "nowhere" / "figures.json"
    assert main(["report", str(tmp_path / "clip.mp4"), str(PORTRAIT), "--json", str(nowhere)]) == REFUSED
    assert "nowhere" in capsys.readouterr().err  # and not that there is no clip: asked before the work


def test_the_command_refuses_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = no_bytes(tmp_path / "empty.mp4")
    assert main(["report", str(path), str(PORTRAIT)]) == REFUSED
    assert "empty.mp4" in capsys.readouterr().err
