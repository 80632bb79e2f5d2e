"""Two voices in one picture: each moves its own face, while it sounds and not before."""

import numpy as np
import pytest

from pipeline.avatar.turns import on_the_clips_time, turn_masks, turns
from pipeline.media import SAMPLE_RATE
from tests.conftest import tone

LEFT, RIGHT = (20.0, 30.0, 40.0, 40.0), (150.0, 30.0, 40.0, 40.0)
SIZE = {"height": 128, "width": 256}


@pytest.fixture(scope="module")
def voices() -> list[np.ndarray]:
    """A second each, one after the other, with a second of silence behind."""
    spoken = [np.concatenate([tone(1.0), np.zeros(SAMPLE_RATE, np.float32)]) for _ in range(2)]
    return on_the_clips_time(spoken, [0.0, 2.0])


def test_a_voice_that_begins_later_is_silent_until_then(voices):
    assert len(voices[1]) == len(voices[0]) + 2 * SAMPLE_RATE
    assert not voices[1][: 2 * SAMPLE_RATE].any() and voices[1][2 * SAMPLE_RATE :].any()


def test_a_turn_is_when_the_voice_is_heard(voices):
    first, second = (turns(voice, 100) for voice in voices)
    assert first[:25].all() and not first[35:].any()
    assert not second[:45].any() and second[50:75].all() and not second[85:].any()


def test_a_breath_is_of_the_turn():
    voice = np.concatenate([tone(1.0), np.zeros(SAMPLE_RATE // 2, np.float32), tone(1.0)])
    assert turns(voice, 62).all()


def test_a_face_moves_only_in_its_own_turn(voices):
    first, second = turn_masks(voices, [LEFT, RIGHT], **SIZE, num_frames=101)
    assert first.shape == second.shape == (26, 128, 256)
    assert first[3].any() and not second[3].any()
    assert second[16].any() and not first[16].any()
    assert not (first[10].any() or second[10].any())  # 1.6 s: nobody speaks


def test_faces_side_by_side_share_no_point():
    near = (70.0, 30.0, 40.0, 40.0)
    both = [tone(2.0), tone(2.0)]
    first, second = turn_masks(both, [LEFT, near], **SIZE, num_frames=50)
    assert first[5].any() and second[5].any() and not (first & second).any()
    assert first[5, 50, 40] == 1 and second[5, 50, 90] == 1  # the middles of the faces
