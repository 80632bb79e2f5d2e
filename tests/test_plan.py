"""Seconds to frames and a face to a crop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import FacesTooFarApart
from pipeline.plan import COMPOSITIONS, FPS, FRAMINGS, MOST_HEIGHT, MOST_WIDTH, SMALL_FACE, SQUARE, Box, plan_clip

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


@given(
    framing=st.sampled_from(FRAMINGS),
    size=st.integers(32, 135).map(lambda eighths: 8 * eighths),
    height=st.integers(256, 4000),
    width=st.integers(256, 4000),
    left=st.floats(-0.2, 1.0),
    top=st.floats(-0.2, 1.0),
    share=st.floats(0.01, 1.2),
)
def test_a_crop_of_any_shape_is_inside_the_picture_and_of_the_frames_proportions(
    framing, size, height, width, left, top, share
):
    face = Box(left * width, top * height, share * height * 0.8, share * height)
    made = plan(size=size, picture_size=(height, width), faces=[face], framing=framing)
    crop = made.crop
    assert made.height % 4 == made.width % 4 == 0 and made.height <= MOST_HEIGHT and made.width <= MOST_WIDTH
    assert crop.left >= 0 and crop.top >= 0 and crop.left + crop.width <= width and crop.top + crop.height <= height
    within = 2.5 / min(made.height, made.width) + 1.5 / min(crop.height, crop.width)
    assert crop.width / crop.height == pytest.approx(made.width / made.height, rel=within)


@pytest.mark.parametrize(
    "framing, frame", [("16:9", (512, 912)), ("9:16", (912, 512)), ("1:1", (512, 512)), ("picture", (512, 768))]
)
def test_the_size_is_the_frames_shorter_side(framing, frame):
    made = plan(framing=framing, picture_size=(1200, 1800))
    assert (made.height, made.width) == frame and not made.notices


def test_an_upright_frame_that_is_too_high_is_reduced_and_told():
    made = plan(framing="9:16", size=1080)
    assert (made.height, made.width) == (1080, 608)
    assert [notice.key for notice in made.notices] == ["FrameReduced"]


def test_the_pictures_own_shape_shows_all_of_it():
    assert plan(framing="picture", picture_size=(900, 1600)).crop == Box(0, 0, 1600, 900)


def test_a_panorama_is_shown_around_the_face_and_that_is_told():
    made = plan(framing="picture", size=480, picture_size=(400, 4000), faces=[Box(3000, 100, 160, 200)])
    assert made.crop.width == 4 * made.crop.height and made.crop.left < 3000 < made.crop.left + made.crop.width
    assert [notice.key for notice in made.notices] == ["PictureNotWhole"]


@pytest.mark.parametrize("framing", ["9:16", "16:9"])
def test_the_eyes_stand_above_the_middle(framing):
    """A face's eyes are about an eighth of its height above its middle."""
    crop = plan(framing=framing, picture_size=(3000, 3000), faces=[Box(1400, 1400, 160, 200)]).crop
    assert 0.25 < (1500 - 200 / 8 - crop.top) / crop.height < 0.45


def test_a_picture_too_narrow_gives_the_largest_crop_of_the_shape():
    crop = plan(framing="16:9", picture_size=(900, 400)).crop
    assert crop.width >= 398 and crop.height >= 223  # but for the frame's rounding


def test_a_face_too_small_for_its_lips_to_be_seen_is_told():
    face = Box(700, 300, 32, 40)
    made = plan(framing="picture", picture_size=(1000, 1500), faces=[face])
    assert face.height * made.height / made.crop.height < SMALL_FACE
    assert [notice.key for notice in made.notices] == ["FaceSmall"]
    assert not plan(framing="1:1", picture_size=(1000, 1500), faces=[face]).notices


@pytest.mark.parametrize("framing", ["picture", "16:9", "1:1"])
def test_a_crop_holds_both_faces(framing):
    faces = [Box(300, 300, 160, 200), Box(800, 340, 150, 190)]
    crop = plan(framing=framing, picture_size=(1000, 1500), faces=faces).crop
    for face in faces:
        assert crop.left <= face.left and face.left + face.width <= crop.left + crop.width
        assert crop.top <= face.top and face.top + face.height <= crop.top + crop.height


def test_faces_too_far_apart_for_the_shape_are_refused():
    faces = [Box(100, 300, 160, 200), Box(1200, 340, 150, 190)]
    with pytest.raises(FacesTooFarApart, match="9:16"):
        plan(framing="9:16", picture_size=(1000, 1500), faces=faces)


def test_an_unknown_framing_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="4:3"):
        plan(framing="4:3")
