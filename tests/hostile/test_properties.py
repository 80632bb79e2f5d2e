"""Of any values, not only of those somebody thought of."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.boxes import promises_too_much
from pipeline.errors import AvatarError, PictureUnreadable, PointsUnreadable
from pipeline.media import MIN_SECONDS, SILENT_PEAK, load_portrait, load_speech
from pipeline.plan import FPS, FRAMINGS, MOST_HEIGHT, MOST_WIDTH, Box, frames_of, plan_clip
from pipeline.request import LARGEST_SIZE, NUM_POINTS, RenderRequest, read_points
from pipeline.texts import LANGUAGES, MAX_SHOWN, shown
from tests.hostile.corpus import m4a, pcm, wav

ANY_TEXT = st.text(st.characters(), max_size=60)  # lone halves of letters included
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.integers(1, 600 * 768_000), st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 768_000]))
def test_a_clip_has_frames_for_all_of_its_sound_and_none_more(num_samples, rate):
    seconds = num_samples / rate
    assert (frames_of(seconds) - 1) / FPS < seconds <= frames_of(seconds) / FPS + 1e-9


@given(
    st.integers(1, LARGEST_SIZE // 2),
    st.tuples(st.integers(256, 20_000), st.integers(256, 20_000)),
    st.sampled_from(FRAMINGS),
    st.tuples(*[st.floats(0, 1)] * 3),
)
def test_a_frame_of_any_picture_can_be_coded_and_is_no_larger_than_allowed(half_size, picture_size, framing, place):
    height = max(1.0, place[2] * picture_size[0])
    face = Box(place[0] * picture_size[1], place[1] * picture_size[0], height, height)
    plan = plan_clip(seconds=1, size=2 * half_size, picture_size=picture_size, faces=[face], framing=framing)
    assert plan.height % 4 == plan.width % 4 == 0 < min(plan.height, plan.width)
    assert plan.height <= MOST_HEIGHT and plan.width <= MOST_WIDTH
    assert min(plan.height, plan.width) <= 2 * half_size + 2
    assert plan.crop.left >= 0 and plan.crop.left + plan.crop.width <= picture_size[1]
    assert plan.crop.top >= 0 and plan.crop.top + plan.crop.height <= picture_size[0]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(256, 400), st.integers(256, 400), st.integers(0, 2**32 - 1), st.sampled_from(["PNG", "BMP", "TIFF"]))
def test_a_picture_kept_without_loss_is_read_without_loss(tmp_path, height, width, seed, kind):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture", kind)
    assert np.array_equal(load_portrait(tmp_path / "picture"), pixels)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 30_000),
    st.sampled_from([8_000, 16_000, 44_100]),
    st.integers(1, 12),
    st.sampled_from(["<i2", "<f4"]),
    st.floats(0, 1),
)
def test_a_recording_is_as_long_as_its_samples_or_refused(tmp_path, num_samples, rate, channels, kind, peak):
    rng = np.random.default_rng(num_samples)
    samples = peak * rng.uniform(-1, 1, (num_samples, channels))
    values = (samples * 32_767).astype(kind) if kind == "<i2" else samples.astype(kind)
    (tmp_path / "voice").write_bytes(wav(values, rate, code=1 if kind == "<i2" else 3))
    try:
        speech = load_speech(tmp_path / "voice")
    except AvatarError:
        assert num_samples / rate < MIN_SECONDS or np.abs(samples).max() < 2 * SILENT_PEAK
        return
    assert speech.seconds == pytest.approx(num_samples / rate, abs=1e-9)
    assert abs(len(speech.waveform) - speech.seconds * 16_000) <= 32
    assert np.abs(speech.waveform).max() <= 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), max_size=20),
    st.sampled_from([m4a, lambda: pcm("<i2")]),
)
def test_a_recording_with_any_bytes_changed_is_sound_or_refused(tmp_path, changes, whole):
    content = bytearray(whole())
    for place, value in changes:
        content[place % len(content)] = value
    (tmp_path / "voice").write_bytes(content)
    try:
        speech = load_speech(tmp_path / "voice")
    except AvatarError:
        return
    assert np.isfinite(speech.waveform).all() and speech.seconds >= MIN_SECONDS


@given(st.binary(max_size=200))
def test_of_any_bytes_an_index_is_told_to_be_sound_or_not(content):
    start = b"\0\0\0\x10ftypM4A \0\0\0\0"
    assert promises_too_much(io.BytesIO(start + content), len(start + content)) in (True, False)


@given(st.lists(st.tuples(finite, finite), min_size=3, max_size=5).filter(lambda points: len(points) in NUM_POINTS))
def test_points_are_read_as_they_were_written(points):
    assert read_points(" ".join(f"{x!r},{y!r}" for x, y in points)) == tuple(points)


@given(st.one_of(ANY_TEXT, st.text("0123456789.,-+einfa _ \t\n", max_size=60)))
def test_any_text_is_finite_points_or_refused(written):
    try:
        points = read_points(written)
    except PointsUnreadable:
        return
    assert len(points) in NUM_POINTS and all(math.isfinite(value) for point in points for value in point)


@settings(max_examples=200)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("engine", "framing", "mood", "language", "voice", "captions", "prompt", "text"), ANY_TEXT),
            **dict.fromkeys(("size", "seed", "face", "second_face", "num_inference_steps"), st.integers()),
            **dict.fromkeys(("motion", "expression", "speed", "second_start"), st.floats()),
        },
    )
)
def test_any_request_is_kept_or_refused_in_words_of_both_languages(values):
    try:
        request = RenderRequest(portrait=Path("p.png"), script="Good morning.", **values)
    except AvatarError as error:
        for language in LANGUAGES:
            error.text(language).encode()
    except ValueError:  # of numbers that no page offers
        assert {"seed", "face", "second_face", "num_inference_steps", "motion", "expression", "second_start"} & set(
            values
        )
    else:
        assert 0.5 <= request.speed <= 2 and 256 <= request.size <= LARGEST_SIZE
        assert request.language is None or request.language.isascii()


@given(st.text(st.characters()))
def test_what_somebody_wrote_can_be_shown_in_one_line(written):
    sentence = PictureUnreadable(name=written).text("en")
    sentence.encode()
    assert "\n" not in sentence and "\u202e" not in sentence and "\x1b" not in sentence
    assert len(shown(written)) <= MAX_SHOWN + 1


@given(st.text("abcdefg éà漢😀.-_()'", max_size=MAX_SHOWN))
def test_an_ordinary_name_is_shown_as_it_is(name):
    assert shown(name) == name
