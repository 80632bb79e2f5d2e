"""Person and background."""

import numpy as np

from pipeline.draft.matte import Matte, cut_out
from tests.draft.conftest import Sitter


def cut(sitter: Sitter) -> Matte:
    """The matte of a sitter who has one."""
    matte = cut_out(sitter.frame, sitter.mask, sitter.geometry)
    assert matte is not None
    return matte


def test_laying_the_person_over_the_background_gives_the_frame(smile, closed, drawing):
    for sitter in (smile, closed, drawing):
        matte = cut(sitter)
        share = matte.alpha[..., None]
        person = np.clip(sitter.frame - (1 - share) * matte.background, 0, 255 * share)
        error = np.abs(person + (1 - share) * matte.background - sitter.frame)
        assert error.mean() < 0.2 and np.percentile(error, 99.5) < 8


def test_the_face_is_whole_and_the_far_background_is_not_the_person(smile):
    matte = cut(smile)
    nose = smile.landmarks[1, :2].astype(int)
    assert matte.alpha[nose[1], nose[0]] == 1
    assert matte.alpha[:8, :8].max() == 0


def test_the_background_loses_the_person(smile):
    """Behind the face stands nothing of its colour."""
    matte = cut(smile)
    nose = smile.landmarks[1, :2].astype(int)
    behind = matte.background[nose[1] - 5 : nose[1] + 5, nose[0] - 5 : nose[0] + 5].mean(axis=(0, 1))
    wall = smile.frame[:16, :16].mean(axis=(0, 1))
    face = smile.frame[nose[1] - 5 : nose[1] + 5, nose[0] - 5 : nose[0] + 5].mean(axis=(0, 1))
    assert np.abs(behind - wall).sum() < np.abs(behind - face).sum()


def test_a_mask_that_misses_the_face_is_refused(smile):
    assert cut_out(smile.frame, np.zeros_like(smile.mask), smile.geometry) is None
    assert cut_out(smile.frame, 1 - smile.mask, smile.geometry) is None


def test_strangers_are_left_in_the_background(smile):
    mask = smile.mask.copy()
    mask[2:22, 2:22] = 1
    matte = cut(smile._replace(mask=mask))
    assert matte.alpha[5:18, 5:18].max() < 0.1
