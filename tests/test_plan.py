"""Seconds to frames and a face to a crop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan import COMPOSITIONS, FPS, SQUARE, Box, plan_clip

FACE = Box(400, 300, 160, 200)


def plan(**changes):
    return plan_clip(**{"seconds": 2.0, "size": 512, "picture_size": (1000, 900), "faces": [FACE], **changes})


@pytest.mark.parametrize(
    "seconds, num_frames",
    [(0.4, 10), (1.0, 25), (2.0, 50), (1.97, 50), (2.001, 51), (0.1 + 0.2, 8), (7 * 0.04, 7), (600.0, 15_000)],
)
def test_no_sound_is_lost_and_no_frame_is_added(seconds, num_frames):
    assert plan(seconds=seconds).num_frames == num_frames


def test_the_clip_lasts_as_long_as_its_frames():
    assert plan(seconds=1.97).seconds == 50 / FPS


def test_a_face_with_room_around_it_gets_its_share_and_place():
    crop, (share, centre) = plan().crop, COMPOSITIONS[SQUARE]
    assert FACE.height / crop.height == pytest.approx(share, abs=1 / crop.height)
    assert crop.left + crop.width / 2 == pytest.approx(FACE.left + FACE.width / 2, abs=1)
    assert (FACE.top + FACE.height / 2 - crop.top) / crop.height == pytest.approx(centre, abs=1 / crop.height)


def test_the_crop_is_in_whole_pixels():
    crop = plan(faces=[Box(400.3, 299.7, 160, 200.9)]).crop
    assert all(float(value).is_integer() for value in (crop.left, crop.top, crop.width, crop.height))


def test_a_face_that_fills_the_picture_gets_all_of_its_short_side():
    crop = plan(picture_size=(300, 260), faces=[Box(10, 10, 230, 280)]).crop
    assert (crop.width, crop.height) == (260, 260)


@given(
    height=st.integers(256, 4000),
    width=st.integers(256, 4000),
    left=st.floats(-0.5, 1.2),
    top=st.floats(-0.5, 1.2),
    share=st.floats(0.01, 1.5),
)
def test_the_crop_is_square_and_inside_the_picture(height, width, left, top, share):
    face = Box(left * width, top * height, share * height * 0.8, share * height)
    crop = plan(picture_size=(height, width), faces=[face]).crop
    assert crop.width == crop.height > 0
    assert crop.left >= 0 and crop.top >= 0
    assert crop.left + crop.width <= width + 1e-6 and crop.top + crop.height <= height + 1e-6


def test_the_frame_has_the_size_asked_for():
    assert (plan(size=768).height, plan(size=768).width, plan().fps) == (768, 768, FPS)


@pytest.mark.parametrize(
    "change",
    [{"seconds": 0}, {"seconds": -1}, {"size": 0}, {"size": 511}, {"faces": [Box(0, 0, 10, 0)]}, {"faces": []}],
)
def test_nothing_to_plan_is_a_mistake_of_the_program(change):
    with pytest.raises(ValueError, match="nothing to plan"):
        plan(**change)
