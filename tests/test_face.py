"""Where faces are found, where they are not, and what five handles make."""

import hashlib
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import cv2
import gradio
import numpy as np
import pytest
import skimage
from PIL import Image

from pipeline import face, models
from pipeline.errors import (
    FaceNumberUnknown,
    FaceUncertain,
    ModelFileDamaged,
    PointsImplausible,
    PortraitWithoutFace,
)

SKIMAGE = Path(skimage.__file__).parent / "data"
GRADIO = Path(gradio.__file__).parent / "media_assets" / "images"
ASTRONAUT = SKIMAGE / "astronaut.png"
HOPPER = Path(__file__).parents[1] / "examples" / "portraits" / "officer_with_glasses.jpg"
CAT_POINTS = ((171, 115), (318, 136), (203, 270), (288, 274), (246, 294))  # chelsea.png, by eye
EYES, MOUTH_CORNERS, CHIN = ((33, 133, 159, 145), (362, 263, 386, 374)), (61, 291), 152


def picture_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def handles_of(landmarks: np.ndarray) -> tuple[tuple[float, float], ...]:
    """The five points a person would click on a face with these landmarks."""
    eyes = [landmarks[list(eye), :2].mean(axis=0) for eye in EYES]
    places = [*eyes, *landmarks[list(MOUTH_CORNERS), :2], landmarks[CHIN, :2]]
    return tuple((float(x), float(y)) for x, y in places)


def distance(one: np.ndarray, other: np.ndarray, found: face.Face) -> float:
    """Mean distance of two sets of landmarks in heights of the face."""
    return float(np.linalg.norm(one[:, :2] - other[:, :2], axis=1).mean()) / found.box.height


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return picture_of(ASTRONAUT)


@pytest.fixture(scope="module")
def hopper() -> np.ndarray:
    return picture_of(HOPPER)


@pytest.fixture(scope="module")
def two_faces(astronaut: np.ndarray, hopper: np.ndarray) -> np.ndarray:
    return np.hstack([cv2.resize(astronaut, (600, 600)), hopper[:600]])


# --- finding --------------------------------------------------------------------------------------------------------


# eye corners, mouth corners and chin read off the pictures by eye, to about 2 px
@pytest.mark.parametrize(
    ("path", "seen"),
    [
        (ASTRONAUT, {33: (194, 103), 263: (256, 104), 61: (203, 141), 291: (245, 143), 152: (221, 179)}),
        (HOPPER, {33: (207, 193), 263: (322, 186), 61: (235, 278), 291: (304, 276), 152: (271, 334)}),
    ],
    ids=["astronaut", "hopper"],
)
def test_landmarks_lie_where_a_person_sees_them(path: Path, seen: dict[int, tuple[int, int]]) -> None:
    found = face.locate(picture_of(path), name=path.name)
    assert found.score >= face.SURE
    assert not found.from_points
    assert found.landmarks.shape == (478, 3)
    assert found.landmarks.dtype == np.float32
    for number, place in seen.items():
        assert np.hypot(*(found.landmarks[number, :2] - place)) < 0.04 * found.box.height, number


def test_nose_is_nearest_to_the_viewer(astronaut: np.ndarray) -> None:
    depth = face.locate(astronaut, name="astronaut").landmarks[:, 2]
    assert depth[4] < depth[152] < depth[234]
    assert depth[4] == pytest.approx(depth.min(), abs=2)


def test_box_holds_all_landmarks(astronaut: np.ndarray) -> None:
    found = face.locate(astronaut, name="astronaut")
    low, high = found.landmarks[:, :2].min(axis=0), found.landmarks[:, :2].max(axis=0)
    box = found.box
    assert (box.left, box.top) == pytest.approx(tuple(low), abs=0.01)
    assert (box.left + box.width, box.top + box.height) == pytest.approx(tuple(high), abs=0.01)


@pytest.mark.parametrize("degrees", [-45, -20, 20, 45, 180])
def test_turned_heads_are_found_with_the_same_landmarks(hopper: np.ndarray, degrees: int) -> None:
    upright = face.locate(hopper, name="hopper")
    height, width = hopper.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    turned = cv2.warpAffine(hopper, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    found = face.locate(turned, name="turned")
    expected = upright.landmarks[:, :2] @ turn[:, :2].T + turn[:, 2]
    assert distance(found.landmarks, expected, upright) < 0.015


def test_mirrored_picture_gives_mirrored_landmarks(hopper: np.ndarray) -> None:
    mirrored = face.locate(np.ascontiguousarray(hopper[:, ::-1]), name="mirrored").landmarks
    mesh = models.canonical_face()
    partner = np.linalg.norm(mesh[:, None] * [-1, 1, 1] - mesh[None], axis=2).argmin(axis=1)
    found = face.locate(hopper, name="hopper")
    back = mirrored[partner] * [-1, 1, 1] + [hopper.shape[1], 0, 0]
    assert distance(found.landmarks[:468], back, found) < 0.015


@pytest.mark.parametrize("scale", [0.25, 6.0])
def test_landmarks_scale_with_the_picture(hopper: np.ndarray, scale: float) -> None:
    resized = cv2.resize(
        hopper, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    found, original = face.locate(resized, name="resized"), face.locate(hopper, name="hopper")
    assert distance(found.landmarks / scale, original.landmarks, original) < 0.015
    assert found.landmarks[:, 2] / scale == pytest.approx(original.landmarks[:, 2], abs=0.05 * original.box.height)


def test_small_face_in_a_large_landscape_is_found(astronaut: np.ndarray) -> None:
    landscape = cv2.resize(picture_of(SKIMAGE / "rocket.jpg"), (3000, 2000), interpolation=cv2.INTER_CUBIC)
    small = cv2.resize(astronaut, None, fx=0.66, fy=0.66, interpolation=cv2.INTER_AREA)  # a face of 60 px in 3000
    landscape[-len(small) :, 300 : 300 + small.shape[1]] = small
    found = face.locate(landscape, name="landscape")
    top = 2000 - len(small)
    expected = face.locate(astronaut, name="astronaut").landmarks[:, :2] * 0.66 + [300, top]
    assert distance(found.landmarks, expected, found) < 0.03


def test_face_that_fills_the_picture_is_found(hopper: np.ndarray) -> None:
    box = face.locate(hopper, name="hopper").box
    top, left = int(box.top), int(box.left)
    tight = hopper[top : top + int(box.height), left : left + int(box.width)]
    found = face.locate(tight, name="tight")
    assert found.box.height == pytest.approx(box.height, rel=0.06)


def test_fixed_region_moves_landmarks_less_than_a_pixel(hopper: np.ndarray) -> None:
    found = face.locate(hopper, name="hopper")
    region = face.region_around(found.landmarks)
    landmarks, presence = face.landmarks_in(hopper, region)
    assert presence > 0.9
    shifted = cv2.warpAffine(hopper, np.array([[1, 0, 1.5], [0, 1, 0]]), hopper.shape[1::-1], flags=cv2.INTER_CUBIC)
    moved, _ = face.landmarks_in(shifted, region)
    assert (moved - landmarks)[:, 0].mean() == pytest.approx(1.5, abs=0.25)
    assert (moved - landmarks)[:, 1].mean() == pytest.approx(0, abs=0.25)


# --- which face -----------------------------------------------------------------------------------------------------


def test_two_faces_are_both_found_largest_first(two_faces: np.ndarray) -> None:
    faces = face.find_faces(two_faces)
    assert len(faces) == 2
    assert all(found.score >= face.SURE for found in faces)
    assert faces[0].box.left > 600 > faces[1].box.left
    assert faces[0].box.height > faces[1].box.height


def test_largest_face_speaks_unless_another_is_asked_for(two_faces: np.ndarray) -> None:
    assert face.locate(two_faces, name="two").box.left > 600
    assert face.locate(two_faces, name="two", number=1).box.left > 600
    assert face.locate(two_faces, name="two", number=2).box.left < 600


def test_number_beyond_the_faces_is_refused_with_their_count(two_faces: np.ndarray) -> None:
    with pytest.raises(FaceNumberUnknown) as refusal:
        face.locate(two_faces, name="two.png", number=3)
    assert refusal.value.values == {"name": "two.png", "number": 3, "count": 2}


@pytest.mark.parametrize(
    "path", [SKIMAGE / "rocket.jpg", SKIMAGE / "coffee.png", SKIMAGE / "brick.png", GRADIO / "tower.jpg"], ids=str
)
@pytest.mark.parametrize("number", [None, 1])
def test_pictures_without_a_face_are_refused(path: Path, number: int | None) -> None:
    picture = picture_of(path)
    with pytest.raises(PortraitWithoutFace) as refusal:
        face.locate(picture, name=path.name, number=number)
    assert refusal.value.values == {"name": path.name, "width": picture.shape[1], "height": picture.shape[0]}


@pytest.mark.parametrize("name", ["lion.jpg", "cheetah.jpg", "cheetah1.jpg"])
def test_animals_are_no_sure_faces(name: str) -> None:
    picture = picture_of(GRADIO / name)
    with pytest.raises((PortraitWithoutFace, FaceUncertain)):
        face.locate(picture, name=name)


@pytest.mark.parametrize(
    "name", ["coins.png", "retina.jpg", "hubble_deep_field.jpg", "motorcycle_left.png", "moon.png"]
)
def test_round_things_are_no_sure_faces(name: str) -> None:
    assert all(found.score < face.SURE for found in face.find_faces(picture_of(SKIMAGE / name)))


def test_uncertain_face_is_named_and_confirmed_by_its_number() -> None:
    picture = picture_of(SKIMAGE / "color.png")  # a ring of colours, taken for a round face with half a heart
    with pytest.raises(FaceUncertain) as doubt:
        face.locate(picture, name="color.png")
    values = doubt.value.values
    assert 40 <= values["percent"] < 60
    confirmed = face.locate(picture, name="color.png", number=values["number"])
    assert confirmed.score == pytest.approx(values["percent"] / 100, abs=0.01)
    box = confirmed.box
    assert box.left < values["x"] < box.left + box.width
    assert box.top < values["y"] < box.top + box.height


def test_sure_face_is_taken_before_a_larger_uncertain_one(astronaut: np.ndarray) -> None:
    cheetahs = picture_of(GRADIO.parent.parent / "test_data" / "cheetah2.jpg")
    both = np.zeros((len(cheetahs), 512 + cheetahs.shape[1], 3), np.uint8)
    both[:512, :512], both[:, 512:] = astronaut, cheetahs
    assert [found.score >= face.SURE for found in face.find_faces(both)] == [False, True]
    assert face.locate(both, name="both").box.left < 512
    assert face.locate(both, name="both", number=1).box.left > 512


# --- handles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [ASTRONAUT, HOPPER, GRADIO / "groot.jpeg"], ids=lambda path: path.stem)
def test_five_handles_come_near_what_the_network_finds(path: Path) -> None:
    picture = picture_of(path)
    found = face.find_faces(picture)[0]
    made = face.locate(picture, name=path.name, points=handles_of(found.landmarks))
    assert made.from_points
    assert made.score == 1.0
    assert made.landmarks.shape == (478, 3)
    assert made.landmarks.dtype == np.float32
    assert distance(made.landmarks, found.landmarks, found) < 0.04
    assert np.abs(made.landmarks[:, 2] - found.landmarks[:, 2]).mean() < 0.06 * found.box.height
    iris = np.linalg.norm(made.landmarks[[468, 473], :2] - found.landmarks[[468, 473], :2], axis=1)
    assert iris.max() < 0.06 * found.box.height


def test_handles_are_met_exactly() -> None:
    made = face.locate(picture_of(SKIMAGE / "chelsea.png"), name="chelsea", points=CAT_POINTS)
    missed = np.abs(np.array(handles_of(made.landmarks)) - CAT_POINTS)
    assert missed[2:].max() < 1.0
    assert missed[:2].max() < 15  # 0.1 eye distances: lids are laid where the picture has them


def test_points_win_over_a_face_in_the_picture(astronaut: np.ndarray) -> None:
    made = face.locate(astronaut, name="a", points=((300, 300), (360, 300), (310, 360), (350, 360), (330, 400)))
    assert made.landmarks[:, 0].min() > 250


def test_landmarks_from_symmetric_points_are_symmetric() -> None:
    points = ((100, 100), (200, 100), (120, 190), (180, 190), (150, 240))
    made = face.locate(np.zeros((400, 300, 3), np.uint8), name="drawing", points=points).landmarks
    mesh = models.canonical_face()
    partner = np.linalg.norm(mesh[:, None] * [-1, 1, 1] - mesh[None], axis=2).argmin(axis=1)
    assert made[:468][partner] * [-1, 1, 1] + [300, 0, 0] == pytest.approx(made[:468], abs=0.01)


def test_handles_turn_and_scale_with_the_face() -> None:
    points = np.array(CAT_POINTS, dtype=float)
    radians = np.radians(25)
    turn = 1.5 * np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    canvas = np.zeros((900, 900, 3), np.uint8)
    straight = face.locate(canvas, name="cat", points=tuple(map(tuple, points))).landmarks
    turned = face.locate(canvas, name="cat", points=tuple(map(tuple, points @ turn.T + [300, 0]))).landmarks
    assert turned[:, :2] == pytest.approx(straight[:, :2] @ turn.T + [300, 0], abs=0.05)
    assert turned[:, 2] == pytest.approx(1.5 * straight[:, 2], abs=0.05)


def test_lips_from_points_are_closed() -> None:
    made = face.locate(picture_of(SKIMAGE / "chelsea.png"), name="chelsea", points=CAT_POINTS).landmarks
    assert np.abs(made[13] - made[14]).max() < 0.1


@pytest.mark.parametrize(
    ("points", "reason_en", "reason_fr"),
    [
        ([(10, 100), (200, 100), (120, 190), (180, 190), (150, 400)], "outside the picture", "hors de l'image"),
        ([(-5, 100), (200, 100), (120, 190), (180, 190), (150, 240)], "outside the picture", "hors de l'image"),
        ([(100, 100), (110, 100), (120, 190), (180, 190), (150, 240)], "12 pixels", "12 pixels"),
        ([(100, 100), (200, 100), (150, 190), (155, 190), (150, 240)], "12 pixels", "12 pixels"),
        ([(200, 100), (100, 100), (120, 190), (180, 190), (150, 240)], "left eye is not left", "l'œil gauche"),
        ([(100, 100), (200, 100), (180, 190), (120, 190), (150, 240)], "left mouth corner", "coin gauche"),
        ([(100, 50), (130, 180), (60, 190), (70, 240), (20, 260)], "lean more than 60", "plus de 60 degrés"),
        ([(100, 150), (200, 150), (120, 90), (180, 90), (150, 60)], "mouth is not below", "bouche n'est pas sous"),
        ([(100, 100), (200, 100), (120, 190), (180, 190), (150, 165)], "chin is not below", "menton n'est pas sous"),
        ([(100, 20), (130, 20), (100, 150), (130, 150), (115, 280)], "too far", "trop loin"),
    ],
)
def test_points_that_cannot_be_a_face_are_refused_in_both_languages(
    points: list[tuple[float, float]], reason_en: str, reason_fr: str
) -> None:
    with pytest.raises(PointsImplausible) as refusal:
        face.locate(np.zeros((300, 300, 3), np.uint8), name="drawing.png", points=tuple(points))
    assert reason_en in refusal.value.text("en")
    assert reason_fr in refusal.value.text("fr")
    assert "drawing.png" in refusal.value.text("fr")


# --- model files ----------------------------------------------------------------------------------------------------


def test_damaged_model_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / models.SELFIE_SEGMENTATION
    shutil.copy(models.FOLDER / models.SELFIE_SEGMENTATION, copy)
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    assert hashlib.sha256(models.read(models.SELFIE_SEGMENTATION)).hexdigest() == models.SHA256[copy.name]
    content = bytearray(copy.read_bytes())
    content[1000] ^= 1
    copy.write_bytes(content)
    with pytest.raises(ModelFileDamaged) as damage:
        models.read(models.SELFIE_SEGMENTATION)
    assert damage.value.values["name"] == models.SELFIE_SEGMENTATION
    copy.unlink()
    with pytest.raises(ModelFileDamaged):
        models.read(models.SELFIE_SEGMENTATION)


def test_canonical_face_is_the_symmetric_mesh_of_the_model_file() -> None:
    mesh = models.canonical_face()
    assert mesh.shape == (468, 3)
    assert (mesh[33] * [-1, 1, 1] == mesh[263]).all()
    assert mesh[10, 1] > mesh[33, 1] > mesh[61, 1] > mesh[152, 1]
    with zipfile.ZipFile(models.FOLDER / models.FACE_LANDMARKER) as parts:
        content = parts.read("geometry_pipeline_metadata_landmarks.binarypb")
    assert content[models.MESH_HEADER_BYTES :: 5][: 468 * 5] == b"\x1d" * (468 * 5)  # protobuf tag: field 3, float32


def test_person_mask_covers_the_person_and_not_the_sky(hopper: np.ndarray) -> None:
    mask = models.person_mask(hopper)
    assert mask.shape == hopper.shape[:2]
    assert mask.dtype == np.float32
    assert 0 <= mask.min() <= mask.max() <= 1
    assert mask[150:320, 220:320].min() > 0.8
    assert mask[20:120, 430:500].max() < 0.2


def test_networks_are_quiet_on_stderr() -> None:
    program = (
        "import sys, numpy as np\n"
        "from pipeline import face\n"
        "face.find_faces(np.zeros((256, 256, 3), np.uint8))\n"
        "sys.stderr.write('still heard')\n"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
    assert done.stderr == "still heard"


def test_threads_share_a_network(astronaut: np.ndarray, hopper: np.ndarray) -> None:
    pictures = [astronaut, hopper] * 3
    alone = [face.locate(picture, name="").landmarks for picture in pictures[:2]] * 3
    together: dict[int, np.ndarray] = {}

    def work(index: int) -> None:
        together[index] = face.locate(pictures[index], name="").landmarks

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, landmarks in enumerate(alone):
        assert (together[index] == landmarks).all()
