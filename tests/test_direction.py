"""What a director asks for, and how the avatar network is told."""

import itertools

import pytest

from pipeline.avatar import presets
from pipeline.direction import MOODS, Direction, mood_words, motion_ids, scale
from pipeline.errors import MoodUnknown

SLIDER = [step / 20 for step in range(21)]


def test_the_middle_of_both_sliders_gives_the_published_ids():
    assert motion_ids(Direction()) == (presets.MOTION_POSE, presets.MOTION_EXP) == (25, 30)


def test_more_is_never_a_lower_id_and_the_ends_differ_from_the_middle():
    poses = [motion_ids(Direction(motion=value))[0] for value in SLIDER]
    expressions = [motion_ids(Direction(expression=value))[1] for value in SLIDER]
    for ids in (poses, expressions):
        assert ids == sorted(ids) and all(isinstance(number, int) and number >= 0 for number in ids)
        assert ids[0] < ids[10] < ids[-1]


def test_each_slider_moves_its_own_id_only():
    for value in SLIDER:
        assert motion_ids(Direction(motion=value))[1] == motion_ids(Direction())[1]
        assert motion_ids(Direction(expression=value))[0] == motion_ids(Direction())[0]


def test_a_neutral_mood_adds_nothing_to_a_prompt_and_every_other_names_itself():
    assert mood_words("neutral") == ""
    for mood in set(MOODS) - {"neutral"}:
        assert f" {mood}" in mood_words(mood) and mood_words(mood).isascii() and mood_words(mood).endswith(".")
    for one, other in itertools.combinations(MOODS, 2):
        assert mood_words(one) != mood_words(other)


def test_a_mood_nobody_has_is_named_with_those_there_are():
    for ask in (lambda: Direction(mood="bored"), lambda: mood_words("bored")):
        with pytest.raises(MoodUnknown) as caught:
            ask()
        assert "bored" in str(caught.value) and "surprised" in str(caught.value)


@pytest.mark.parametrize("name", ["motion", "expression"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_slider_ends_at_0_and_1(name, value):
    with pytest.raises(ValueError, match=name):
        Direction(**{name: value})


def test_a_slider_in_its_middle_changes_nothing_at_all():
    assert [scale(value, 0.3, 1.7) for value in (0.5, 0.0, 1.0)] == pytest.approx([1, 0.3, 1.7])
    assert scale(0.5, 0.3, 1.7) == scale(0.5, 0.1, 7.7) == 1.0  # exactly: tracks are compared bit for bit
    assert scale(0.0, 0.0, 2.0) == 0.0
