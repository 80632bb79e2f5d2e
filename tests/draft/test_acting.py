"""From what is heard to what a face does."""

import numpy as np
import pytest

from pipeline.draft.acting import JAW_SPEED, act, within_reach
from pipeline.draft.motion import HeadTrack, move_head
from pipeline.draft.speech import MouthTrack

NAMES = [name for name in MouthTrack.__dataclass_fields__ if name != "source"]


def heard(num_frames=8, **tracks) -> MouthTrack:
    """A track that is at rest but for what is given."""
    arrays = {name: np.full(num_frames, tracks.get(name, 0.0), np.float32) for name in NAMES}
    return MouthTrack(**arrays, source="phonemes")


def still(num_frames=8) -> HeadTrack:
    return HeadTrack(**{name: np.zeros(num_frames, np.float32) for name in HeadTrack.__dataclass_fields__})


def first(face, **tracks):
    return next(iter(act(heard(**tracks), still(), face)))


def test_one_moment_for_every_frame(smile):
    mouth = heard(num_frames=60, speak=1.0, hold=1.0, jaw=0.4)
    assert len(list(act(mouth, move_head(mouth, seed=1), smile.geometry))) == 60


def test_in_long_silence_the_pictures_own_smile_returns(smile):
    moment = first(smile.geometry)
    assert moment.movements["gapclose"] == 0 and moment.movements["jaw"] == 0


@pytest.mark.parametrize("name", ["close", "fv"])
def test_sealed_lips_close_a_smile(smile, name):
    assert first(smile.geometry, hold=1.0, speak=1.0, **{name: 1.0}).movements["gapclose"] == 1


def test_a_pause_between_words_nearly_shuts_a_smile(smile):
    pause = first(smile.geometry, hold=1.0, speak=0.0).movements["gapclose"]
    assert pause > first(smile.geometry, hold=1.0, speak=1.0).movements["gapclose"] > 0.5


def test_closed_lips_have_no_gap_to_close(closed):
    assert first(closed.geometry, hold=1.0, close=1.0).movements["gapclose"] == 0


def test_lips_that_are_open_already_need_less_jaw(smile, closed):
    opened, shut = (first(sitter.geometry, jaw=0.6).movements["jaw"] for sitter in (smile, closed))
    assert 0 <= opened < shut


def test_a_mouth_does_not_pop_open_in_one_frame(closed):
    mouth = heard(num_frames=12, hold=1.0, speak=1.0)
    mouth.jaw[6:] = 1.0
    jaws = [moment.movements["jaw"] for moment in act(mouth, still(12), closed.geometry)]
    assert np.abs(np.diff(jaws)).max() <= JAW_SPEED + 1e-6
    assert jaws[5] == 0 and jaws[-1] == 1


def test_closures_survive_the_limit_on_speed():
    opening = np.random.default_rng(0).random(200).astype(np.float32)
    opening[::17] = 0
    reached = within_reach(opening, 0.2)
    assert (reached <= opening + 1e-6).all() and np.abs(reached[::17]).max() < 1e-6
    assert np.abs(np.diff(reached)).max() <= 0.2 + 1e-5
    np.testing.assert_allclose(within_reach(reached, 0.2), reached, atol=1e-5)
