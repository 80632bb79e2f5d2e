"""The draft engine's own part: the crop, and where the landmarks land in it."""

import cv2
import numpy as np
import pytest

from pipeline import face, media
from pipeline.draft.engine import DraftEngine
from pipeline.draft.stage import crop_frame, crop_skin
from pipeline.engine import Scene
from pipeline.plan import Box, plan_clip
from tests.generators import finish


def test_a_crop_at_its_own_size_is_the_pictures_pixels():
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    np.testing.assert_array_equal(crop_frame(picture, Box(9, 4, 40, 40), (40, 40)), picture[4:44, 9:49])


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


def test_the_first_frame_shows_the_face_where_the_plan_has_it(portrait_path, short_voice):
    portrait = media.load_portrait(portrait_path)
    found = face.locate(portrait, name="portrait")
    speech = media.load_speech(short_voice)
    plan = plan_clip(seconds=speech.seconds, size=256, picture_size=portrait.shape[:2], faces=[found.box])
    first = next(finish(DraftEngine().perform(Scene.of(portrait, speech, found), plan, seed=1)).frames)
    (seen,) = face.find_faces(first)
    scale = 256 / plan.crop.width
    expected = (found.landmarks[:, :2] - [plan.crop.left, plan.crop.top]) * scale
    upper_face = [33, 133, 362, 263, 168, 6]
    assert np.abs(seen.landmarks[upper_face, :2] - expected[upper_face]).max() < 3
