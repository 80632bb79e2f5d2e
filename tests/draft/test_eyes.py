"""Lids and gaze."""

import cv2
import numpy as np
import pytest

from pipeline.draft.eyes import both_eyes
from pipeline.draft.geometry import LEFT_EYE_LOWER, LEFT_EYE_UPPER, LEFT_IRIS


def darkest(pixels):
    """(x, y) of the iris: the centre of the darkest twentieth, pixels of the window."""
    grey = pixels.astype(np.float64).mean(axis=-1)
    y, x = np.nonzero(grey <= np.percentile(grey, 5))
    return x.mean(), y.mean()


@pytest.fixture(params=["smile", "closed", "drawing"])
def sitter(request):
    return request.getfixturevalue(request.param)


def test_open_eyes_are_the_pictures_own(sitter):
    for eye in both_eyes(sitter.frame, sitter.landmarks):
        np.testing.assert_array_equal(eye.draw(0.0, 0.0, 0.0), sitter.frame[eye.window])


def test_a_closed_lid_hides_the_iris(sitter):
    """Behind glasses and in drawings as well: over the pupil lies skin."""
    for eye, centre in zip(both_eyes(sitter.frame, sitter.landmarks), (468, 473), strict=True):
        assert eye.can_blink
        x, y = (sitter.landmarks[centre, :2] - [eye.window[1].start, eye.window[0].start]).astype(int)
        pupil = np.s_[y - 1 : y + 1, x - 1 : x + 2]
        assert eye.draw(1.0, 0, 0)[pupil].mean() > sitter.frame[eye.window][pupil].mean() + 25


def test_a_lid_comes_down_little_by_little(smile):
    eye, _ = both_eyes(smile.frame, smile.landmarks)
    changed = [np.abs(eye.draw(lid, 0, 0).astype(int) - eye.draw(0, 0, 0)).sum() for lid in (0.0, 0.3, 0.6, 1.0)]
    assert (np.diff(changed) > 0).all()


def test_a_blink_stays_in_its_window(smile):
    """The window's rim is the picture's, so that no edge shows where it is set in."""
    eye, _ = both_eyes(smile.frame, smile.landmarks)
    drawn, seen = eye.draw(1.0, 5.0, 3.0).astype(int), smile.frame[eye.window].astype(int)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        assert np.abs(drawn[edge] - seen[edge]).max() <= 2


def test_gaze_moves_the_iris_where_it_looks(drawing):
    eye, _ = both_eyes(drawing.frame, drawing.landmarks)
    ahead, right, left = (darkest(eye.draw(0, degrees, 0)) for degrees in (0.0, 10.0, -10.0))
    assert left[0] < ahead[0] - 0.3 and right[0] > ahead[0] + 0.3


def test_an_eye_that_is_closed_in_the_picture_does_not_blink(smile):
    landmarks = smile.landmarks.copy()
    landmarks[LEFT_EYE_UPPER, 1] = landmarks[LEFT_EYE_LOWER, 1] - 0.2
    landmarks[LEFT_IRIS, 1] = landmarks[LEFT_EYE_LOWER, 1].mean()
    eye, _ = both_eyes(smile.frame, landmarks)
    assert not eye.can_blink
    np.testing.assert_array_equal(eye.draw(1.0, 0, 0), eye.draw(0.0, 0, 0))


def test_an_eye_does_not_blink_alone(smile):
    """Where one eye cannot close, closing the other would be a wink."""
    landmarks = smile.landmarks.copy()
    landmarks[LEFT_EYE_UPPER + LEFT_EYE_LOWER, 1] = landmarks[LEFT_IRIS[0], 1]
    assert not any(eye.can_blink for eye in both_eyes(smile.frame, landmarks))


def in_opening(eye, sitter, lid=0.0, **drawn):
    """(n, 2) x and y of pixels between the picture's lids that a lid now covers: eye widths from the left corner."""
    ring = LEFT_EYE_UPPER + LEFT_EYE_LOWER[::-1]
    origin = np.array([eye.window[1].start, eye.window[0].start])
    left, right = sitter.landmarks[[LEFT_EYE_UPPER[0], LEFT_EYE_UPPER[-1]], :2] - origin
    opening = np.zeros((*sitter.frame[eye.window].shape[:2], 1), np.uint8)
    cv2.fillPoly(opening, [np.rint(sitter.landmarks[ring, :2] - origin).astype(np.int32)], 1)
    change = np.abs(eye.draw(lid, 0, 0, **drawn).astype(int) - sitter.frame[eye.window]).sum(axis=-1)
    y, x = np.nonzero((change > 40) & (opening[..., 0] > 0))
    return (np.stack([x, y], axis=1) - left) / np.hypot(*(right - left))


def test_a_squint_covers_the_eye_from_below_and_slants_from_one_side_above(sitter):
    eye, _ = both_eyes(sitter.frame, sitter.landmarks)
    lid = in_opening(eye, sitter, lid=1.0)
    below, inner, outer = (in_opening(eye, sitter, **how) for how in ({"squint": 1.0}, {"slant": 1.0}, {"slant": -1.0}))
    assert min(len(below), len(inner), len(outer)) > 0.04 * len(lid)
    assert below[:, 1].mean() > lid[:, 1].mean() > max(inner[:, 1].mean(), outer[:, 1].mean())
    assert outer[:, 0].mean() < 0.4 and inner[:, 0].mean() > 0.6  # the eye on the left: its inner corner is right


def test_a_widened_eye_shows_more_than_the_picture_does(sitter):
    eye, _ = both_eyes(sitter.frame, sitter.landmarks)
    closed = eye.draw(1.0, 0, 0).astype(int)
    usual, wide = ((np.abs(eye.draw(lid, 0, 0) - closed).sum(axis=-1) > 40).sum() for lid in (0.0, -1.0))
    assert wide > usual


@pytest.mark.parametrize("drawn", [{"lid": -1.0}, {"lid": 0.0, "squint": 1.3}, {"lid": 0.2, "slant": 1.3}], ids=str)
def test_an_eye_in_a_mood_stays_in_its_window(sitter, drawn):
    for eye in both_eyes(sitter.frame, sitter.landmarks):
        changed = eye.draw(drawn["lid"], 6.0, 3.0, **{k: v for k, v in drawn.items() if k != "lid"}).astype(int)
        for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
            assert np.abs(changed[edge] - sitter.frame[eye.window].astype(int)[edge]).max() <= 2


def test_a_blink_closes_a_squinting_slanted_eye(smile):
    eye, _ = both_eyes(smile.frame, smile.landmarks)
    x, y = (smile.landmarks[LEFT_IRIS[0], :2] - [eye.window[1].start, eye.window[0].start]).astype(int)
    plain, moody = eye.draw(1.0, 0, 0), eye.draw(1.0, 0, 0, squint=1.0, slant=1.0)
    assert np.abs(plain[y - 1 : y + 1, x - 1 : x + 2].astype(int) - moody[y - 1 : y + 1, x - 1 : x + 2]).max() < 12
