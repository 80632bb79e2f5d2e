"""Where the face is: a Face with its 478 points, from the picture or from five handles. Draws nothing."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from pipeline import models
from pipeline.errors import FaceNumberUnknown, FaceUncertain, PortraitWithoutFace
from pipeline.plan import Box
from pipeline.request import Point

SURE = 0.6  # detector's score from which a face is taken without asking: a lion's mane reaches 0.45, drawings 0.8
PERHAPS = 0.4  # score from which a face is offered for confirmation
PRESENT = 0.5  # the landmark network's own belief; below it, its points mean nothing. It believes in manes, too
NUM_LANDMARKS = 478

LEFT_EYE_CORNER, RIGHT_EYE_CORNER = 33, 263  # outer corners, left and right as seen in the picture


@dataclass(frozen=True)
class Face:
    """One face in a picture.

    Args:
        box: Around the points, forehead to chin, pixels of the picture.
        landmarks: (478, 3) float32, MediaPipe face-mesh numbering: x, y in pixels of the picture; z in the same
            scale, negative towards the viewer.
        score: The detector's belief, 0..1; 1.0 for a face made from points.
        from_points: Made from five handles rather than found.
    """

    box: Box
    landmarks: np.ndarray
    score: float
    from_points: bool = False


@dataclass(frozen=True)
class Region:
    """A turned square of a picture: centre x, y and side in pixels; angle in radians, clockwise on screen."""

    x: float
    y: float
    side: float
    angle: float


def locate(
    picture: np.ndarray, *, name: str, number: int | None = None, points: tuple[Point, ...] | None = None
) -> Face:
    """The face that shall speak.

    Args:
        picture: (height, width, 3) uint8, RGB.
        name: What to call the picture in errors.
        number: Which face, 1 the largest; also confirms one that is uncertain. None takes the largest sure one.
        points: Five handles instead of a search: left eye, right eye, left mouth corner, right mouth corner, chin.

    Raises:
        PortraitWithoutFace: nothing like a face.
        FaceUncertain: something like a face, to be confirmed by its number.
        FaceNumberUnknown: fewer faces than `number`.
        PointsImplausible: `points` cannot be a face.
    """
    height, width = picture.shape[:2]
    faces = find_faces(picture)
    if not faces:
        raise PortraitWithoutFace(name=name, width=width, height=height)
    if number is not None:
        if number > len(faces):
            raise FaceNumberUnknown(name=name, number=number, count=len(faces))
        return faces[number - 1]
    for face in faces:
        if face.score >= SURE:
            return face
    best = max(faces, key=lambda face: face.score)
    raise FaceUncertain(
        name=name,
        number=faces.index(best) + 1,
        percent=int(best.score * 100),
        x=round(best.box.left + best.box.width / 2),
        y=round(best.box.top + best.box.height / 2),
    )


def find_faces(picture: np.ndarray) -> list[Face]:
    """Every face with a score of PERHAPS or more, the largest first.

    Args:
        picture: (height, width, 3) uint8, RGB.
    """
    height, width = picture.shape[:2]
    faces: list[Face] = []
    for score, region in _detect(picture, Region(width / 2, height / 2, max(height, width), 0.0)):
        landmarks, presence = landmarks_in(picture, region)
        if presence >= PRESENT:
            landmarks, presence = landmarks_in(picture, region_around(landmarks))
        if presence >= PRESENT:
            faces.append(Face(box_around(landmarks), landmarks, score))
    return sorted(faces, key=lambda face: -face.box.width * face.box.height)


def landmarks_in(picture: np.ndarray, region: Region) -> tuple[np.ndarray, float]:
    """Run the landmark network once on a region of the picture.

    Args:
        picture: (height, width, 3) uint8, RGB.
        region: A square around the face, 1.5 times as large, turned as the face is.

    Returns:
        landmarks, (478, 3) float32 in pixels of the picture, and the network's belief that they are a face, 0..1.
    """
    size = models.LANDMARKS_SIZE
    pixels, to_picture = _cut(picture, region, size)
    outputs = models.face_landmarks().run(pixels.astype(np.float32) / 255)
    landmarks = outputs["Identity"].reshape(NUM_LANDMARKS, 3).copy()
    landmarks[:, :2] = landmarks[:, :2] @ to_picture[:, :2].T + to_picture[:, 2]
    landmarks[:, 2] *= region.side / size
    return landmarks.astype(np.float32), float(_sigmoid(outputs["Identity_1"].ravel()[0]))


def region_around(landmarks: np.ndarray) -> Region:
    """The region the landmark network wants for a face whose landmarks are roughly known.

    Source: MediaPipe, face_landmarks_to_roi: the bounding square along the eye line, 1.5 times as large.
    """
    across = landmarks[RIGHT_EYE_CORNER, :2] - landmarks[LEFT_EYE_CORNER, :2]
    angle = float(np.arctan2(across[1], across[0]))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    upright = landmarks[:, :2] @ turn.T
    low, high = upright.min(axis=0), upright.max(axis=0)
    x, y = (low + high) / 2 @ turn
    return Region(float(x), float(y), 1.5 * float((high - low).max()), angle)


def box_around(landmarks: np.ndarray) -> Box:
    """The upright rectangle around landmarks."""
    low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    return Box(float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))


def _detect(picture: np.ndarray, window: Region) -> list[tuple[float, Region]]:
    """Faces the detector sees in one window: their score and the region for the landmark network, best first."""
    size = models.DETECTOR_SIZE
    pixels, to_picture = _cut(picture, window, size)
    outputs = models.face_detector().run(pixels.astype(np.float32) / 127.5 - 1)
    scores = _sigmoid(outputs["classificators"][0, :, 0])
    chosen = np.flatnonzero(scores >= PERHAPS)
    chosen = chosen[np.argsort(-scores[chosen])]
    centre = _anchors()[chosen]
    boxes = outputs["regressors"][0, chosen].astype(np.float64)
    found: list[tuple[float, Region]] = []
    for score, anchor, row in zip(scores[chosen], centre, boxes, strict=True):
        points = (row.reshape(8, 2) + anchor * np.array([[1], [0], *[[1]] * 6])) @ to_picture[:, :2].T
        middle, across = points[0] + to_picture[:, 2], points[3] - points[2]
        side = 1.5 * float(row[2:4].max()) * window.side / size
        region = Region(float(middle[0]), float(middle[1]), side, float(np.arctan2(across[1], across[0])))
        if all(np.hypot(region.x - other.x, region.y - other.y) > 0.25 * max(side, other.side) for _, other in found):
            found.append((float(score), region))
    return found


@cache
def _anchors() -> np.ndarray:
    """(896, 2) centres in pixels of the detector's input: two to a cell of 8 pixels, then six to a cell of 16."""
    grids = []
    for stride, num_anchors in ((8, 2), (16, 6)):
        ticks = (np.arange(models.DETECTOR_SIZE // stride) + 0.5) * stride
        y, x = np.meshgrid(ticks, ticks, indexing="ij")
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), num_anchors, axis=0))
    return np.concatenate(grids)


def _cut(picture: np.ndarray, region: Region, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A region as a square of `size` pixels, black outside the picture, and the (2, 3) map from it to the picture."""
    height, width = picture.shape[:2]
    scale = region.side / size
    cos, sin = np.cos(region.angle) * scale, np.sin(region.angle) * scale
    to_picture = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    to_picture[:, 2] = np.array([region.x, region.y]) - to_picture[:, :2] @ [size / 2, size / 2]

    # Only the part that is needed, shrunk by areas first: sampling a large picture directly would alias.
    reach = region.side * 0.75
    left, top = max(int(region.x - reach), 0), max(int(region.y - reach), 0)
    right, bottom = min(int(region.x + reach) + 1, width), min(int(region.y + reach) + 1, height)
    if right <= left or bottom <= top:
        return np.zeros((size, size, 3), np.uint8), to_picture
    part = picture[top:bottom, left:right]
    shrink_x = shrink_y = 1.0
    if scale > 2:
        part = cv2.resize(part, None, fx=1.5 / scale, fy=1.5 / scale, interpolation=cv2.INTER_AREA)
        shrink_x, shrink_y = part.shape[1] / (right - left), part.shape[0] / (bottom - top)
    # Pixel i covers [i, i + 1): cv2 counts centres, hence the halves.
    to_part = np.diag([shrink_x, shrink_y]) @ (to_picture - [[0, 0, left], [0, 0, top]])
    to_part[:, 2] += to_part[:, :2] @ [0.5, 0.5] - 0.5
    pixels = cv2.warpAffine(part, to_part, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return pixels, to_picture


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
