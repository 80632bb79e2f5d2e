"""The turning head."""

import numpy as np
import pytest

from pipeline.draft.pose import Pose, PoseFields

STEP = 4
TURNS = [Pose(yaw=10), Pose(yaw=-10), Pose(pitch=10), Pose(pitch=-10), Pose(roll=4), Pose(shift_x=0.01, shift_y=-0.01)]


@pytest.fixture
def fields(smile):
    return PoseFields(smile.geometry, smile.frame.shape[:2], STEP, has_matte=True)


def test_at_rest_nothing_moves(fields):
    np.testing.assert_allclose(fields.invert(Pose()), fields.nodes, atol=1e-4)


@pytest.mark.parametrize("pose", TURNS, ids=str)
def test_the_inverse_undoes_the_turn(fields, smile, pose):
    points = smile.landmarks[:468, :2]
    there = fields.follow(pose, points)
    back = fields.read_map(fields.invert(pose), there[None].astype(np.float32))[0]
    assert np.abs(back - points).max() < 0.25


@pytest.mark.parametrize("pose", TURNS, ids=str)
def test_the_edge_of_the_frame_stays(fields, pose):
    moved = np.abs(fields.invert(pose) - fields.nodes)
    for edge in (moved[0], moved[-1], moved[:, 0], moved[:, -1]):
        assert edge.max() < 0.25


def test_the_nose_leads_where_the_head_turns(fields, smile):
    nose, ear = smile.landmarks[1, :2], smile.landmarks[234, :2]
    turned = fields.follow(Pose(yaw=8), np.stack([nose, ear])) - np.stack([nose, ear])
    assert turned[0, 0] > 2 > abs(turned[1, 0])
    assert fields.follow(Pose(pitch=8), nose[None])[0, 1] < nose[1] - 1


def test_without_a_matte_the_far_background_stays(smile):
    fields = PoseFields(smile.geometry, smile.frame.shape[:2], STEP, has_matte=False)
    moved = np.abs(fields.invert(Pose(yaw=10, roll=4)) - fields.nodes)
    assert moved[:6, :6].max() < 0.05 and moved.max() > 2


@pytest.mark.parametrize("pose", TURNS, ids=str)
def test_in_a_frame_of_any_shape_the_head_turns_alike(fields, smile, pose):
    """More frame below and to the right changes nothing but what is near the old edges."""
    height, width = smile.frame.shape[:2]
    wide = PoseFields(smile.geometry, (height, width + 80), STEP, has_matte=True)
    face = smile.landmarks[:468, :2]
    np.testing.assert_allclose(wide.follow(pose, face), fields.follow(pose, face), atol=0.25)
    for edge in np.abs(wide.invert(pose) - wide.nodes)[[0, -1]]:
        assert edge.max() < 0.25
