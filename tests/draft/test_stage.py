"""Faces in a frame of any shape: windows, and the still picture around them."""

import cv2
import numpy as np
import pytest

from pipeline import face, media
from pipeline.draft.pose import Pose
from pipeline.draft.puppet import MAP_STEP, Moment
from pipeline.draft.stage import Stage, Window, crop_frame, crop_skin, windows_around
from pipeline.plan import Box
from tests.draft.conftest import PORTRAITS

LIVELY = Moment({"jaw": 0.9, "wide": 0.5}, pose=Pose(yaw=6, pitch=3, roll=2, shift_x=0.01))


def test_a_crop_at_its_own_size_is_the_pictures_pixels():
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    np.testing.assert_array_equal(crop_frame(picture, Box(9, 4, 40, 20), (20, 40)), picture[4:24, 9:49])


def test_a_crop_keeps_places_when_it_is_resized():
    """A spot in the picture is found at the same share of the frame, going up and going down."""
    picture = np.zeros((400, 400, 3), np.uint8)
    cv2.circle(picture, (200, 150), 12, (255, 255, 255), -1)
    for size in (100, 800):
        frame = crop_frame(picture, Box(100, 50, 200, 200), (size, size))
        y, x = (axis.mean() for axis in np.nonzero(frame[..., 0] > 127))
        np.testing.assert_allclose([x / size, y / size], [0.5025, 0.5025], atol=0.01)


@pytest.mark.parametrize("side", [60, 100, 150, 390])
def test_the_skins_pixels_average_to_the_frames(side):
    """Whether the crop is smaller than the frame, up to twice as large, or larger."""
    noise = np.random.default_rng(1).integers(0, 256, (400, 400, 3), np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 1.0)
    crop = Box(5, 5, side, side)
    skin = crop_skin(picture, crop, (100, 100))
    assert skin.shape == (200, 200, 3)
    mean = cv2.resize(skin, (100, 100), interpolation=cv2.INTER_AREA).astype(int)
    error = np.abs(mean - crop_frame(picture, crop, (100, 100)))
    assert error.mean() < 0.6 and error.max() < 12


def landmarks_at(sitter, x, y, scale=1.0):
    """A sitter's landmarks, larger or smaller and moved, so that the middle of the face is at (x, y)."""
    points = sitter.landmarks * np.float32(scale)
    return points + np.array([x, y, 0], np.float32) - np.append((points.min(0) + points.max(0))[:2] / 2, 0)


def area(window: Window) -> np.ndarray:
    """(600, 900) bool, the window."""
    covered = np.zeros((600, 900), bool)
    covered[window.place] = True
    return covered


def test_one_face_in_its_square_crop_has_all_of_it(smile):
    (window,) = windows_around([smile.landmarks], smile.frame.shape[:2])
    assert window.place == (slice(0, 256), slice(0, 256)) and not any((*window.fades, *window.melts))


def test_a_small_face_has_a_window_that_holds_its_head(smile):
    points = landmarks_at(smile, 500, 250)
    (window,) = windows_around([points], (600, 900))
    top, bottom = points[:, 1].min(), points[:, 1].max()
    assert area(window).mean() < 0.4
    assert window.rows.start < top - 0.5 * (bottom - top) and window.rows.stop > bottom + 0.5 * (bottom - top)
    assert all(side % MAP_STEP == 0 for part in window.place for side in (part.start, part.stop))


@pytest.mark.parametrize("x, y", [(560, 300), (480, 420), (400, 500), (330, 180)])
def test_two_windows_share_no_pixel_and_hold_their_faces(smile, x, y):
    faces = [landmarks_at(smile, 300, 300), landmarks_at(smile, x, y, 0.8)]
    one, other = windows_around(faces, (600, 900))
    assert not (area(one) & area(other)).any()
    for points, window in zip(faces, (one, other), strict=True):
        nose = points[1].astype(int)
        assert area(window)[nose[1], nose[0]]


@pytest.fixture(scope="module")
def wide_stage():
    """A photograph in the middle of a wide picture, and the frame it makes."""
    portrait = media.load_portrait(PORTRAITS / "officer_with_glasses.jpg")
    picture = cv2.copyMakeBorder(portrait, 0, 0, 400, 400, cv2.BORDER_REPLICATE)
    (seen,) = face.find_faces(picture)
    height, width = picture.shape[:2]
    size = 320, width * 320 // height // 4 * 4
    landmarks = seen.landmarks * np.float32(320 / height)
    return Stage(picture, Box(0, 0, width, height), size, [landmarks]), crop_frame(
        picture, Box(0, 0, width, height), size
    )


def test_around_its_window_a_frame_is_the_picture(wide_stage):
    stage, still = wide_stage
    inside = np.zeros(still.shape[:2], bool)
    inside[stage.windows[0].place] = True
    error = np.abs(stage.draw([LIVELY]).astype(int) - still)
    assert error[~inside].max() == 0 and error[inside].max() > 50


def test_at_a_windows_border_no_step_shows(wide_stage):
    stage, still = wide_stage
    rows, columns = stage.windows[0].place
    error = np.abs(stage.draw([LIVELY]).astype(int) - still)[rows, columns]
    assert columns.start > 0 and columns.stop < still.shape[1]
    for border in (error[:, :2], error[:, -2:]):
        assert border.max() <= 1
    assert error[:, 8:-8].max() > 50
