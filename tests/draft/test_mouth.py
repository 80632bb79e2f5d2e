"""The inside of the mouth."""

import cv2
import numpy as np

from pipeline.draft.geometry import measure_face
from pipeline.draft.mouth import MouthInterior


def look_inside(frame, face, drop=0.3):
    """The mouth's inside along its middle, from the seam down by `drop` units: (n, 3) RGB."""
    upper, lower = face.to_face(face.upper), face.to_face(face.lower) + np.array([0, drop], np.float32)
    v = np.linspace(upper[24, 1], lower[24, 1], 40, dtype=np.float32)
    at = face.to_frame(np.stack([np.zeros_like(v), v], axis=-1))[:, None]
    inside = MouthInterior(frame, face).compose(at, face.to_frame(upper), face.to_frame(lower), drop, 0.0, 0.0)
    return inside[:, 0]


def test_teeth_above_cavity_below(closed):
    column = look_inside(closed.frame, closed.geometry)
    brightness = column.mean(axis=-1)
    assert brightness[3:8].max() > 1.8 * brightness[15:30].min()


def test_inside_is_red_in_colour_and_grey_in_grey_pictures(closed):
    colour = look_inside(closed.frame, closed.geometry)[20]
    assert colour[0] > 1.5 * colour[1]
    grey = cv2.cvtColor(cv2.cvtColor(closed.frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    assert np.ptp(look_inside(grey, measure_face(grey, closed.landmarks)), axis=-1).max() < 12


def test_a_dark_picture_has_a_dark_mouth(closed):
    dark = (closed.frame * 0.4).astype(np.uint8)
    face = closed.geometry
    assert look_inside(dark, face).max() < 0.7 * look_inside(closed.frame, face).max()


def test_an_open_smile_keeps_its_own_teeth(smile):
    face = smile.geometry
    mouth = MouthInterior(smile.frame, face)
    middle = (face.upper + face.lower)[None, 15:-15] / 2
    seen = np.array([smile.frame[round(float(y)), round(float(x))] for x, y in middle[0]])
    inside = mouth.compose(middle.astype(np.float32), face.upper, face.lower, 0.0, 0.0, 0.0)[0]
    assert np.abs(inside - seen).mean() < 20


def test_a_raised_tongue_shows(closed):
    face = closed.geometry
    upper, lower = face.upper, face.lower + face.v_axis * 0.3 * face.unit
    at = face.to_frame(np.array([[[0.0, 0.16]]], np.float32))
    mouth = MouthInterior(closed.frame, face)
    low, raised = (mouth.compose(at, upper, lower, 0.3, tongue, 0.0)[0, 0] for tongue in (0.0, 1.0))
    assert raised[0] > low[0] + 20
