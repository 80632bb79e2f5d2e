"""Face axes and the line between the lips."""

import cv2
import numpy as np

from pipeline.draft.geometry import CURVE_POINTS, UNIT_IN_EYE_SPANS, measure_face, smoothstep


def test_face_axes_there_and_back_is_the_same_place(smile):
    points = np.array([[10.0, 20.0], [128.0, 128.0], [200.5, 99.5]], np.float32)
    face = smile.geometry
    np.testing.assert_allclose(face.to_frame(face.to_face(points)), points, atol=1e-3)


def test_axes_are_upright_and_of_unit_length(closed):
    face = closed.geometry
    assert abs(float(face.u_axis @ face.v_axis)) < 1e-6
    assert np.isclose(np.hypot(*face.u_axis), 1) and face.u_axis[0] > 0.9 and face.v_axis[1] > 0.9


def test_a_smile_is_open_and_closed_lips_share_one_line(smile, closed):
    assert smile.geometry.is_open and smile.geometry.gap > 0.05
    assert not closed.geometry.is_open
    np.testing.assert_array_equal(closed.geometry.upper, closed.geometry.lower)


def test_lip_lines_run_from_corner_to_corner(smile):
    face = smile.geometry
    for line in (face.upper, face.lower):
        assert line.shape == (CURVE_POINTS, 2)
        assert (np.diff(face.to_face(line)[:, 0]) > 0).all()


def test_a_smile_does_not_enlarge_the_unit(smile):
    face = smile.geometry
    eyes = face.eye_span * face.unit
    assert UNIT_IN_EYE_SPANS[0] * eyes - 1e-3 <= face.unit <= UNIT_IN_EYE_SPANS[1] * eyes + 1e-3


def test_closed_lips_part_along_the_dark_line(closed):
    """A line painted beside the landmarks' seam is found."""
    face = closed.geometry
    off = 0.04  # units below the seam
    painted = np.full_like(closed.frame, 170)
    line = face.to_frame(face.to_face(face.upper) + np.array([0, off]))
    cv2.polylines(painted, [np.rint(line * 16).astype(np.int32)], False, (40, 30, 30), 1, cv2.LINE_AA, shift=4)
    found = measure_face(painted, closed.landmarks)
    middle = slice(CURVE_POINTS // 4, -CURVE_POINTS // 4)
    moved = (found.to_face(found.upper) - face.to_face(face.upper))[middle, 1]
    assert abs(moved.mean() - off) < 0.02


def test_without_a_dark_line_the_landmarks_seam_stays(closed):
    flat = np.full_like(closed.frame, 170)
    face = measure_face(flat, closed.landmarks)
    middle = (closed.landmarks[13, :2] + closed.landmarks[14, :2]) / 2
    assert np.abs(face.upper - middle).min() < 1.5


def test_smoothstep_is_flat_outside_and_half_in_the_middle():
    np.testing.assert_allclose(smoothstep(np.array([-1.0, 2.0, 3.0, 4.0, 9.0]), 2, 4), [0, 0, 0.5, 1, 1])


def test_glasses_are_seen_where_they_stand_on_a_nose(smile, closed, drawing):
    assert closed.geometry.has_glasses
    assert not smile.geometry.has_glasses
    assert not drawing.geometry.has_glasses
    frame = smile.frame.copy()
    left, right = smile.landmarks[[133, 362], :2].astype(int)
    cv2.line(frame, tuple(left.tolist()), tuple(right.tolist()), (25, 25, 30), 3)
    assert measure_face(frame, smile.landmarks).has_glasses
