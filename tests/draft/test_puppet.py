"""A whole frame."""

import cv2
import numpy as np
import pytest

from pipeline.draft.pose import Pose
from pipeline.draft.puppet import Moment, Puppet

TALK = [Moment({"jaw": 0.5 + 0.5 * np.sin(i / 2), "gapclose": 0.8}, pose=Pose(yaw=i / 4 - 2)) for i in range(12)]


def make(sitter):
    return Puppet(sitter.picture, sitter.landmarks, sitter.mask)


@pytest.fixture(params=["smile", "closed", "drawing"])
def sitter(request):
    return request.getfixturevalue(request.param)


def test_at_rest_a_frame_is_the_picture(sitter):
    error = np.abs(make(sitter).draw(Moment()).astype(int) - sitter.frame)
    assert error.mean() < 0.6 and np.percentile(error, 99.5) < 12


def test_frames_have_the_promised_shape(sitter):
    frame = make(sitter).draw(TALK[3])
    assert frame.shape == sitter.frame.shape and frame.dtype == np.uint8 and frame.flags.c_contiguous


def test_the_same_moments_give_the_same_frames(smile):
    first, second = ([make_one.draw(moment) for moment in TALK] for make_one in (make(smile), make(smile)))
    np.testing.assert_array_equal(first, second)


def test_frames_do_not_share_memory(smile):
    puppet = make(smile)
    first = puppet.draw(Moment())
    kept = first.copy()
    puppet.draw(TALK[5])
    np.testing.assert_array_equal(first, kept)


def test_an_opening_jaw_shows_the_dark_of_the_mouth(closed):
    puppet = make(closed)
    x, y = puppet.face.to_frame(np.array([[0.0, 0.16]], np.float32))[0].astype(int)
    shut, opened = (puppet.draw(Moment({"jaw": jaw}))[y, x].mean() for jaw in (0.0, 1.0))
    assert opened < 0.6 * shut


@pytest.mark.parametrize("pose", [Pose(yaw=10), Pose(yaw=-10), Pose(pitch=10), Pose(pitch=-10)], ids=str)
def test_the_background_stands_still_while_the_head_turns(sitter, pose):
    puppet = make(sitter)
    assert puppet.matte is not None
    far = cv2.dilate((puppet.matte.alpha > 0).astype(np.uint8), np.ones((21, 21), np.uint8)) == 0
    error = np.abs(puppet.draw(Moment(pose=pose)).astype(int) - sitter.frame)
    assert far.mean() > 0.05 and error[far].max() <= 1


@pytest.mark.parametrize("pose", [Pose(yaw=10, pitch=5), Pose(yaw=-10, roll=2)], ids=str)
def test_the_frames_border_does_not_move(sitter, pose):
    error = np.abs(make(sitter).draw(Moment({"jaw": 1.0}, pose=pose)).astype(int) - sitter.frame)
    for edge in (error[0], error[-1], error[:, 0], error[:, -1]):
        assert edge.mean() < 1


def test_a_moving_face_stays_sharp(smile):
    """Laplacian variance of the upper face while it moves, against the picture's."""
    puppet = make(smile)
    top, left = puppet.face.to_frame(np.array([[-0.8, -1.6]], np.float32))[0][::-1].astype(int)
    bottom, right = puppet.face.to_frame(np.array([[0.8, -0.3]], np.float32))[0][::-1].astype(int)

    def sharpness(frame):
        grey = cv2.cvtColor(frame[top:bottom, left:right], cv2.COLOR_RGB2GRAY)
        return cv2.Laplacian(grey, cv2.CV_64F).var()

    moving = np.mean([sharpness(puppet.draw(moment)) for moment in TALK])
    assert moving > 0.8 * sharpness(smile.frame)


def test_without_a_matte_the_head_still_turns(smile):
    puppet = Puppet(smile.picture, smile.landmarks, np.zeros_like(smile.mask))
    assert puppet.matte is None
    turned = puppet.draw(Moment({"jaw": 0.5}, pose=Pose(yaw=8)))
    nose = smile.landmarks[1, :2].astype(int)
    window = np.s_[nose[1] - 12 : nose[1] + 12, nose[0] - 12 : nose[0] + 12]
    assert np.abs(turned[window].astype(int) - smile.frame[window]).mean() > 3


def test_a_frame_need_not_be_square(smile):
    low, wide = smile.frame.shape[0] - 40, smile.frame.shape[1]
    puppet = Puppet(smile.picture[: 2 * low], smile.landmarks, smile.mask[:low])
    frame = puppet.draw(TALK[3])
    assert frame.shape == (low, wide, 3) and puppet.size == (low, wide)
    assert np.abs(puppet.draw(Moment()).astype(int) - smile.frame[:low]).mean() < 0.6


def test_where_movement_fades_the_picture_stays(smile):
    """As beside another face: nothing beyond the cheek moves, where without fading something does."""
    cheek = int(smile.landmarks[:, 0].max())
    fading = np.zeros(smile.mask.shape, np.float32)
    fading[:, cheek:] = 1
    moved = []
    for faded in (fading, None):
        puppet = Puppet(smile.picture, smile.landmarks, smile.mask, faded)
        at_rest = puppet.draw(Moment()).astype(int)
        moved.append(np.abs(puppet.draw(Moment({"jaw": 1.0}, pose=Pose(yaw=6, roll=2))) - at_rest)[:, cheek + 8 :])
    assert moved[0].max() <= 2 and moved[1].max() > 20
