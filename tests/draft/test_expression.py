"""The fields of movement of a face."""

import numpy as np
import pytest

from pipeline.draft.expression import MOOD_MOVEMENTS, MOVEMENTS, UNDER_EYES, ExpressionFields
from pipeline.draft.geometry import CHIN, LEFT_EYE_UPPER, RIGHT_EYE_UPPER


def gap_of(fields, weights):
    """v between the lips' edges along the mouth, units."""
    moved = fields.move(weights)
    face = fields.face
    return (face.to_face(moved.lower_lip) - face.to_face(moved.upper_lip))[:, 1]


@pytest.fixture
def smiling(smile):
    return ExpressionFields(smile.geometry)


@pytest.fixture
def still(closed):
    return ExpressionFields(closed.geometry)


def test_at_rest_nothing_moves(still):
    moved = still.move({})
    assert not moved.upper.any() and not moved.lower.any()
    np.testing.assert_array_equal(moved.upper_lip, still.face.upper)


def test_the_jaw_parts_the_lips_more_the_wider_it_opens(still):
    gaps = [gap_of(still, {"jaw": weight}).max() for weight in (0.0, 0.25, 0.5, 1.0)]
    assert np.all(np.diff(gaps) > 0.05)
    assert 0.25 < gaps[-1] < 0.5


def test_the_chin_goes_with_the_lower_lip(still):
    """Otherwise the skin between is stretched like rubber."""
    moved = still.move({"jaw": 1.0})
    chin = still.face.landmarks[None, [CHIN], :2]
    upwards = still.sample(moved.lower, chin + still.face.v_axis * 0.3 * still.face.unit)[0, 0] @ -still.face.v_axis
    lip = ((moved.lower_lip - still.face.lower) @ still.face.v_axis).max()
    assert upwards > 0.5 * lip


@pytest.mark.parametrize("movement", sorted(set(MOVEMENTS) - {"brow"}))
def test_the_mouth_leaves_the_eyes_alone(smiling, movement):
    moved = smiling.move({movement: 1.0})
    eyes = smiling.face.landmarks[None, LEFT_EYE_UPPER + RIGHT_EYE_UPPER, :2]
    assert np.abs(smiling.sample(moved.upper, eyes)).max() < 0.02 * smiling.face.unit


def test_brows_move_the_brows_and_not_the_lips(smiling):
    moved = smiling.move({"brow": 1.0})
    brow = smiling.face.landmarks[None, [105, 334], :2]
    assert (smiling.sample(moved.upper, brow)[0] @ smiling.face.v_axis).min() > 0.01 * smiling.face.unit
    assert np.abs(moved.upper_lip - smiling.face.upper).max() < 0.02 * smiling.face.unit


def test_gapclose_shuts_a_smile(smiling):
    assert gap_of(smiling, {}).max() > 0.1
    assert abs(gap_of(smiling, {"gapclose": 1.0})).max() < 0.03


def test_pucker_narrows_and_wide_widens(smiling):
    def width(weights):
        return np.ptp(smiling.face.to_face(smiling.move(weights).upper_lip)[:, 0])

    assert width({"pucker": 1.0}) < 0.85 * width({}) < width({"wide": 1.0})


def test_relax_takes_the_lift_out_of_a_smile(smiling):
    def lift(weights):
        line = smiling.face.to_face(smiling.move(weights).lower_lip)
        return line[len(line) // 2, 1] - line[[0, -1], 1].mean()

    assert lift({"relax": 1.0}) < 0.6 * lift({})


def test_the_inverse_undoes_the_movement(still):
    """The place found for a point of the moved chin is where the point was."""
    still.move({"jaw": 0.8})
    moved = still.move({"jaw": 0.8})
    lips = moved.lower_lip[10:-10][None]
    back = lips + still.sample(moved.lower, lips)
    assert np.abs(back[0] - still.face.lower[10:-10]).max() < 0.6


def test_movement_has_died_away_at_the_border_and_the_neck(still):
    moved = still.move(dict.fromkeys(MOVEMENTS, 1.0))
    for edge in (moved.lower[0], moved.lower[-1], moved.lower[:, 0], moved.lower[:, -1]):
        assert np.abs(edge).max() < 0.1


def test_a_beard_or_a_hand_on_the_chin_is_carried_not_smeared(still):
    """Below the lip nothing is stretched or squeezed by more than a third while the jaw opens halfway."""
    still.move({"jaw": 0.5})
    inverse = still.move({"jaw": 0.5}).lower
    v = np.linspace(0.30, 0.95, 40, dtype=np.float32)
    for u in (-0.3, 0.0, 0.3):
        column = still.face.to_frame(np.stack([np.full_like(v, u), v], axis=-1))[None]
        came_from = still.face.to_face(column + still.sample(inverse, column))[0, :, 1]
        stretch = np.diff(came_from) / np.diff(v)
        assert stretch.min() > 0.67 and stretch.max() < 1.5


def moved(fields, movement, *landmarks):
    """(n, 2) units of (u, v) that landmarks have gone under a movement, read off the upper sheet."""
    for _ in range(3):
        inverse = fields.move({movement: 1.0}).upper
    points = fields.face.landmarks[None, list(landmarks), :2]
    at = points.copy()
    for _ in range(12):
        at = points - fields.sample(inverse, at)
    return (fields.face.to_face(at) - fields.face.to_face(points))[0]


INNER_BROWS, OUTER_BROWS, MIDDLE_BROWS = (107, 336), (70, 300), (105, 334)


def test_a_worried_brow_rises_inside_and_sinks_outside(still):
    assert (moved(still, "worry", *INNER_BROWS)[:, 1] < -0.05).all()
    assert (moved(still, "worry", *OUTER_BROWS)[:, 1] > 0.01).all()


def test_a_frown_brings_the_inner_brows_down_and_together(still):
    (left_in, left_down), (right_in, right_down) = moved(still, "frown", *INNER_BROWS)
    assert min(left_down, right_down) > 0.06
    assert left_in > 0.02 and right_in < -0.02
    assert (moved(still, "frown", *OUTER_BROWS)[:, 1] < 0).all()


def test_startled_brows_rise_whole_and_arch(still):
    assert (moved(still, "startle", *INNER_BROWS, *OUTER_BROWS)[:, 1] < -0.05).all()
    assert moved(still, "startle", *MIDDLE_BROWS)[:, 1].mean() < moved(still, "startle", *OUTER_BROWS)[:, 1].mean()


@pytest.mark.parametrize(("movement", "direction"), [("smile", -1), ("droop", 1)])
def test_a_smile_lifts_the_corners_and_a_droop_lowers_them(still, movement, direction):
    line = still.face.to_face(still.move({movement: 1.0}).upper_lip) - still.face.to_face(still.face.upper)
    assert (direction * line[[0, -1], 1] > 0.07).all()
    assert abs(line[len(line) // 2, 1]) < 0.05


@pytest.mark.parametrize("movement", ["smile", "droop"])
def test_a_mood_bends_the_line_between_the_lips_and_does_not_part_them(smiling, still, movement):
    assert np.abs(gap_of(still, {movement: 1.0})).max() < 1e-3
    for jaw in (0.0, 0.5):
        difference = gap_of(smiling, {movement: 1.0, "jaw": jaw}) - gap_of(smiling, {"jaw": jaw})
        assert np.abs(difference).max() < 1e-3


@pytest.mark.parametrize("movement", MOOD_MOVEMENTS)
def test_a_mood_leaves_eyes_and_what_lies_under_them_in_place(still, movement):
    """Glasses rest there."""
    eyes = still.face.landmarks[None, LEFT_EYE_UPPER + RIGHT_EYE_UPPER + UNDER_EYES, :2]
    assert np.abs(still.sample(still.move({movement: 1.0}).upper, eyes)).max() < 0.03 * still.face.unit


@pytest.mark.parametrize(
    ("movement", "most"), [("smile", 1.3), ("droop", 1.0), ("worry", 1.3), ("frown", 1.3), ("startle", 1.6)]
)
def test_a_mood_at_full_expression_folds_no_skin_and_draws_none_out_far(smiling, movement, most):
    """Neighbouring places come from neighbouring places: -1 would be a fold or a smear, 0 is skin as it was."""
    for _ in range(12):
        inverse = smiling.move({movement: most}).upper
    sideways, down = np.diff(inverse[..., 0], axis=1), np.diff(inverse[..., 1], axis=0)
    assert min(sideways.min(), down.min()) / smiling.step > -0.7


def test_a_mood_that_has_been_changes_no_other_movement(smile):
    """Its fields are solved when first asked for, and beside the others."""
    fresh, moody = ExpressionFields(smile.geometry), ExpressionFields(smile.geometry)
    moody.move({"worry": 1.0})
    speaking = {"jaw": 0.4, "wide": 0.5, "gapclose": 0.8, "brow": 0.3}
    for _ in range(40):  # the inversion forgets where it began
        one, other = fresh.move(speaking), moody.move(speaking)
    np.testing.assert_allclose(other.upper, one.upper, atol=0.05)  # pixels
    np.testing.assert_array_equal(other.lower_lip, one.lower_lip)
