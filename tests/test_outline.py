"""The preview with faces outlined, and which of them a click chooses."""

import numpy as np
import pytest

from pipeline import face, media, outline
from pipeline.face import Face
from pipeline.plan import Box
from tests.conftest import EXAMPLES

PLACES = {"officer_with_glasses": (520, 60), "woman_facing_camera": (0, 0), "drawing_of_a_girl": (1060, 40)}
TEAPOT = ((314.0, 387.0), (453.0, 387.0), (384.0, 490.0))


def group(*names: str) -> np.ndarray:
    """Example portraits side by side on a light ground."""
    picture = np.full((840, 1840, 3), 225, np.uint8)
    for name in names:
        portrait = media.load_portrait(EXAMPLES / "portraits" / f"{name}.jpg")
        left, top = PLACES[name]
        picture[top : top + portrait.shape[0], left : left + portrait.shape[1]] = portrait
    return picture


@pytest.fixture(scope="module")
def three() -> tuple[np.ndarray, list[Face]]:
    picture = group(*PLACES)
    return picture, face.find_faces(picture)


def middle(one: Face) -> tuple[float, float]:
    return one.box.left + one.box.width / 2, one.box.top + one.box.height / 2


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before.astype(int) != after).any(axis=-1)


def inside(box: Box, picture: np.ndarray, margin: float = 0.3) -> tuple[slice, slice]:
    """Rows and columns of the preview around a box of the picture."""
    scale = outline.preview_scale(picture)
    left, top = (box.left - margin * box.width) * scale, (box.top - margin * box.height) * scale
    wide, high = ((1 + 2 * margin) * size * scale for size in (box.width, box.height))
    return slice(max(int(top), 0), int(top + high)), slice(max(int(left), 0), int(left + wide))


def test_three_faces_are_numbered_by_size_and_a_click_in_each_chooses_it(three) -> None:
    _, faces = three
    assert len(faces) == 3
    assert [one.box.height for one in faces] == sorted((one.box.height for one in faces), reverse=True)
    for number, one in enumerate(faces, start=1):
        assert outline.face_at(faces, *middle(one)) == number
        assert outline.face_at(faces, one.box.left + 1, one.box.top + 1) == number
        assert outline.face_at(faces, one.box.left - 0.1 * one.box.width, middle(one)[1]) == number, "fingers are wide"
    assert outline.face_at(faces, 5, 830) is None
    assert outline.face_at([], 5, 5) is None


def test_the_order_of_faces_is_the_same_every_time_and_without_one_of_them(three) -> None:
    picture, faces = three
    again = face.find_faces(picture.copy())
    assert [one.box for one in again] == [one.box for one in faces]
    two = face.find_faces(group("officer_with_glasses", "woman_facing_camera"))
    left_of = [round(middle(one)[0] / 40) for one in faces if middle(one)[0] < 1060]
    assert [round(middle(one)[0] / 40) for one in two] == left_of


def test_of_two_faces_that_overlap_the_click_chooses_the_nearer_middle() -> None:
    points = np.zeros((478, 3), np.float32)
    large, small = Face(Box(0, 0, 200, 240), points, 0.9), Face(Box(150, 100, 60, 70), points, 0.9)
    assert outline.face_at([large, small], 180, 135) == 2
    assert outline.face_at([large, small], 100, 120) == 1
    assert outline.face_at([large, small], 155, 60) == 1


def test_every_face_is_outlined_and_only_the_chosen_one_differs(three) -> None:
    picture, faces = three
    plain = outline.outlined(picture, [])
    found, chosen = outline.outlined(picture, faces), outline.outlined(picture, faces, chosen=(2,))
    for one in faces:
        assert changed(plain, found)[inside(one.box, picture)].mean() > 0.02
    difference = changed(found, chosen)
    assert difference[inside(faces[1].box, picture)].any()
    difference[inside(faces[1].box, picture)] = False
    assert not difference.any()
    lines = changed(plain, chosen)[inside(faces[1].box, picture)].sum()
    assert lines > 1.2 * changed(plain, found)[inside(faces[1].box, picture)].sum(), "told by width, not colour alone"


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_lines_are_seen_on_any_ground_by_their_brightness_alone(three, ground: int) -> None:
    _, faces = three
    picture = np.full((840, 1840, 3), ground, np.uint8)
    drawn = outline.outlined(picture, faces, chosen=(1,), points=((900, 700), (1000, 700)))
    grey = drawn.astype(float) @ [0.299, 0.587, 0.114]
    assert grey.max() - grey.min() > 100
    assert np.abs(grey - ground).max() > 90


def test_nothing_found_and_nothing_clicked_is_the_picture_itself() -> None:
    picture = media.load_portrait(EXAMPLES / "portraits" / "drawing_of_a_teapot.jpg")
    preview = outline.outlined(picture, [])
    np.testing.assert_array_equal(preview, picture)
    preview[:] = 0
    assert picture.any(), "a new array"


def test_clicks_are_marked_and_the_third_shows_the_face_that_will_move() -> None:
    picture = media.load_portrait(EXAMPLES / "portraits" / "drawing_of_a_teapot.jpg")
    marked = [changed(picture, outline.outlined(picture, [], points=TEAPOT[:count])) for count in range(4)]
    sums = [int(drawn.sum()) for drawn in marked]
    assert sums[0] == 0 < sums[1] < sums[2] < 0.3 * sums[3]
    for count, (x, y) in enumerate(TEAPOT, start=1):
        assert marked[count][round(y), round(x)]
        assert not marked[count - 1][round(y), round(x)]
    made = face.locate(picture, name="teapot", points=TEAPOT)
    chin_x, chin_y = np.rint(made.landmarks[152, :2]).astype(int)
    assert marked[3][chin_y, chin_x] and not marked[2][chin_y, chin_x]


def test_clicks_that_cannot_be_a_face_are_marked_all_the_same() -> None:
    picture = np.full((300, 400, 3), 90, np.uint8)
    points = ((100, 100), (200, 100), (150, 30))
    drawn = changed(picture, outline.outlined(picture, [], points=points))
    assert all(drawn[y, x] for x, y in points)
    assert drawn.mean() < 0.02


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (3000, 200), (1500, 2250), (900, 900)])
def test_a_preview_has_the_pictures_shape_and_its_pixels_lead_back(size: tuple[int, int]) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    preview = outline.outlined(picture, [], points=((size[1] - 1, size[0] - 1), (0, 0)))
    assert max(preview.shape[:2]) == min(max(size), outline.PREVIEW_PX)
    assert preview.shape[1] / preview.shape[0] == pytest.approx(size[1] / size[0], rel=0.02)
    rows, columns = preview.shape[:2]
    scale = outline.preview_scale(picture)
    for x, y in ((0, 0), (columns - 1, rows - 1), (columns // 3, rows // 2)):
        there = outline.to_picture(picture, x, y)
        assert -0.5 <= there[0] <= size[1] and -0.5 <= there[1] <= size[0]
        assert ((there[0] + 0.5) * scale - 0.5, (there[1] + 0.5) * scale - 0.5) == pytest.approx((x, y))


def test_outside_of_the_clips_frame_the_preview_is_dim_and_inside_untouched(three) -> None:
    picture, faces = three
    preview = outline.outlined(picture, faces)
    crop = Box(520, 100, 600, 600)
    framed = outline.crop_outlined(preview, crop, picture_size=picture.shape[:2])
    scale = outline.preview_scale(picture)
    left, top, right, bottom = (round(scale * side) for side in (520, 100, 1120, 700))
    within = np.s_[top + 14 : bottom - 14, left + 14 : right - 14]
    np.testing.assert_array_equal(framed[within], preview[within])
    assert framed[:, : left - 8].mean() < 0.45 * preview[:, : left - 8].mean()
    whole = outline.crop_outlined(preview, Box(0, 0, 1840, 840), picture_size=picture.shape[:2])
    assert not changed(whole, preview)[20:-20, 20:-20].any()
    assert changed(whole, preview)[:8].all(), "the frame's line is seen at the picture's edge too"
