"""What three clicks make, on drawings whose eyes and mouths lie where we drew them."""

import cv2
import numpy as np
import pytest

from pipeline import face, handles, media
from pipeline.draft.geometry import LEFT_EYE_LOWER, LEFT_EYE_UPPER, RIGHT_EYE_LOWER, RIGHT_EYE_UPPER
from pipeline.errors import PointsImplausible
from tests.conftest import EXAMPLES

LEFT, RIGHT, MOUTH = (200.0, 200.0), (360.0, 200.0), (280.0, 370.0)
EYES = ((LEFT_EYE_UPPER, LEFT_EYE_LOWER), (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER))
EYE_HALF = (44, 30)  # pixels, of the drawn eyes


def drawn(*, mouth: tuple[int, int] | None = (80, 30), eyes: bool = True) -> np.ndarray:
    """A face on a plain ground: eyes with irises, and a mouth of one line, half as wide and as much smiling as told."""
    picture = np.full((560, 560, 3), (196, 150, 110), np.uint8)
    for x, y in ((200, 200), (360, 200)) if eyes else ():
        cv2.ellipse(picture, (x, y), EYE_HALF, 0, 0, 360, (250, 250, 250), -1, cv2.LINE_AA)
        cv2.circle(picture, (x, y), 20, (40, 60, 40), -1, cv2.LINE_AA)
    if mouth:
        half, smile = mouth
        u = np.linspace(-1, 1, 41)
        line = np.stack([280 + half * u, 370 - smile * u**2], axis=1)
        cv2.polylines(picture, [np.rint(line * 16).astype(np.int32)], False, (70, 30, 30), 6, cv2.LINE_AA, 4)
    return picture


def made(picture: np.ndarray, points=(LEFT, RIGHT, MOUTH)) -> np.ndarray:
    return handles.landmarks_from_points(tuple(points), name="drawing", picture=picture)


def eye_sizes(landmarks: np.ndarray) -> list[tuple[float, float]]:
    return [(float(np.ptp(landmarks[upper, 0])), float(np.ptp(landmarks[upper + lower, 1]))) for upper, lower in EYES]


@pytest.mark.parametrize(("half", "smile"), [(80, 0), (80, 30), (60, 10), (100, -14)])
def test_mouth_corners_are_the_ends_of_the_drawn_line(half: int, smile: int) -> None:
    _, _, left, right, _ = handles.five_from_three((LEFT, RIGHT, MOUTH), drawn(mouth=(half, smile)))
    assert left == pytest.approx((280 - half, 370 - smile), abs=9)
    assert right == pytest.approx((280 + half, 370 - smile), abs=9)


def test_lips_meet_along_a_drawn_smile() -> None:
    landmarks = made(drawn(mouth=(80, 30)))
    for point in (80, 81, 13, 311, 310):
        x, y = landmarks[point, :2]
        assert y == pytest.approx(370 - 30 * ((x - 280) / 80) ** 2, abs=5)
    assert np.abs(landmarks[list(handles.UPPER_INNER)] - landmarks[list(handles.LOWER_INNER)]).max() < 0.1


def test_the_line_is_found_where_the_click_missed_it() -> None:
    for miss in (-14, 14):
        landmarks = made(drawn(mouth=(80, 0)), (LEFT, RIGHT, (280, 370 + miss)))
        assert landmarks[13, 1] == pytest.approx(370, abs=5)


def test_without_a_line_the_mouth_is_level_where_it_was_clicked() -> None:
    for mouth, eyes in ((None, True), (None, False)):
        five = handles.five_from_three((LEFT, RIGHT, MOUTH), drawn(mouth=mouth, eyes=eyes))
        left, right = five[2:4]
        assert np.add(left, right) / 2 == pytest.approx(MOUTH, abs=0.01)
        assert left[1] == right[1]
        assert 0.5 < (right[0] - left[0]) / 160 < 1.1
        assert five[4][0] == pytest.approx(280) and 40 < five[4][1] - 370 < 170


def test_the_order_of_the_eyes_does_not_matter() -> None:
    picture = drawn()
    np.testing.assert_array_equal(made(picture), made(picture, (RIGHT, LEFT, MOUTH)))
    assert handles.five_from_three((RIGHT, LEFT, MOUTH), picture)[:2] == (LEFT, RIGHT)


@pytest.mark.parametrize("degrees", [-50, -20, 20, 50])
def test_a_leaning_face_gives_the_same_face_leaning(degrees: int) -> None:
    picture = drawn()
    turn = cv2.getRotationMatrix2D((280, 280), degrees, 1.0)
    turned = cv2.warpAffine(picture, turn, (560, 560), borderMode=cv2.BORDER_REPLICATE)
    points = [tuple(turn[:, :2] @ point + turn[:, 2]) for point in (RIGHT, LEFT, MOUTH)]
    expected = made(picture)[:, :2] @ turn[:, :2].T + turn[:, 2]
    assert np.linalg.norm(made(turned, points)[:, :2] - expected, axis=1).max() < 10


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_the_face_scales_with_the_picture(scale: float) -> None:
    picture = drawn()
    resized = cv2.resize(
        picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    points = [((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5) for x, y in (LEFT, RIGHT, MOUTH)]
    assert np.linalg.norm(made(resized, points)[:, :2] / scale - made(picture)[:, :2], axis=1).max() < 10


@pytest.mark.parametrize("miss", [(0, 0), (9, -7), (-9, 7)])
def test_lids_lie_on_the_drawn_outline_and_not_on_the_iris_wherever_the_eye_was_clicked(miss: tuple[int, int]) -> None:
    missed = [(x + miss[0], y + miss[1]) for x, y in (LEFT, RIGHT)]
    landmarks = made(drawn(), (*missed, MOUTH))
    for (width, height), (upper, lower), (x, y) in zip(eye_sizes(landmarks), EYES, (LEFT, RIGHT), strict=True):
        assert width == pytest.approx(2 * EYE_HALF[0], rel=0.2)
        assert height == pytest.approx(2 * EYE_HALF[1], rel=0.2)
        assert landmarks[upper + lower, :2].mean(axis=0) == pytest.approx((x, y), abs=8)


def test_bare_walls_get_no_lids() -> None:
    assert all(height < 1 for _, height in eye_sizes(made(drawn(eyes=False))))


def test_brows_stand_above_large_eyes() -> None:
    landmarks = made(drawn())
    for (upper, _), brow in zip(EYES, (handles.BROWS[:10], handles.BROWS[10:]), strict=True):
        assert landmarks[brow, 1].max() < landmarks[upper, 1].min()


@pytest.mark.parametrize(
    ("name", "points", "tall", "blinks"),
    [
        ("fox", ((461, 334), (306, 334), (384, 502)), 0.3, True),
        ("teapot", ((314, 387), (453, 387), (384, 490)), 0.56, True),
        ("house", ((300, 372), (467, 372), (384, 530)), 0.0, False),
    ],
)
def test_the_drawn_characters_get_the_eyes_they_were_drawn_with(name, points, tall, blinks) -> None:
    picture = media.load_portrait(EXAMPLES / "portraits" / f"drawing_of_a_{name}.jpg")
    landmarks = face.locate(picture, name=name, points=points).landmarks
    heights = [height / abs(points[0][0] - points[1][0]) for _, height in eye_sizes(landmarks)]
    assert all(height == pytest.approx(tall, abs=0.12) for height in heights)
    assert all((height > 0.1) is blinks for height in heights)


@pytest.mark.parametrize(
    ("points", "reason_en", "reason_fr"),
    [
        ((LEFT, RIGHT, (280, 600)), "outside the picture", "hors de l'image"),
        ((LEFT, (206, 200), MOUTH), "12 pixels", "12 pixels"),
        ((LEFT, LEFT, MOUTH), "12 pixels", "12 pixels"),
        ((LEFT, RIGHT, LEFT), "12 pixels", "12 pixels"),
        ((LEFT, RIGHT, (280, 90)), "above the eyes", "au-dessus des yeux"),
        ((LEFT, RIGHT, (280, 205)), "one line", "une même ligne"),
        ((LEFT, RIGHT, (500, 230)), "one line", "une même ligne"),
        (((200, 100), (240, 300), (100, 260)), "lean more than 60", "plus de 60 degrés"),
        (((200, 20), (240, 20), (220, 500)), "too far", "trop loin"),
        ((LEFT, RIGHT, (559, 260)), "too far", "trop loin"),
    ],
)
def test_three_clicks_that_cannot_be_a_face_are_refused_in_words(points, reason_en: str, reason_fr: str) -> None:
    with pytest.raises(PointsImplausible) as refusal:
        made(drawn(mouth=None), points)
    assert reason_en in refusal.value.text("en")
    assert reason_fr in refusal.value.text("fr")


def test_clicks_at_every_edge_and_corner_are_answered() -> None:
    """Whatever is clicked there is a face of finite numbers or a refusal."""
    rng = np.random.default_rng(5)
    picture = rng.integers(0, 256, (90, 140, 3), np.uint8)
    refused = 0
    for _ in range(60):
        points = np.floor(rng.uniform(0, 1, (3, 2)) * [140, 90])
        points[rng.integers(3)] = rng.choice([[0, 0], [139, 89], [0, 89], [139, 0]])
        try:
            assert np.isfinite(made(picture, points.tolist())).all()
        except PointsImplausible:
            refused += 1
    assert 10 < refused < 60


def test_a_programmer_who_gives_four_points_is_told() -> None:
    with pytest.raises(ValueError, match="3 or 5 points, got 4"):
        made(drawn(), (LEFT, RIGHT, MOUTH, MOUTH))
