"""Where the face is: a Face with its 478 points, from the picture or from a few handles. Draws nothing."""

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np

from pipeline import handles, models
from pipeline.errors import FaceNumberUnknown, FaceUncertain, PortraitWithoutFace
from pipeline.plan import Box
from pipeline.request import Point

SURE = 0.6  # score from which a face is taken without asking. How scores fall: see _examine
PERHAPS = 0.4  # score from which a face is offered for confirmation, and the detector's in the search
PRESENT = 0.5  # the landmark network's own belief; below it, its points mean nothing. It believes in manes, too
NUM_LANDMARKS = 478
ROOM = 1.5  # side of the region that the landmark network wants over the face's. Source: MediaPipe, RectTransformation
COARSE = (1.0, 0.75, 0.5)  # sides of the windows first searched, in short sides of the picture: several faces
FINE = (0.35, 0.25, 0.18)  # and of those searched when these show no sure face: one small face in a large picture
SMALLEST_WINDOW = 128  # pixels; the detector sees no more, and a face under a quarter of it makes no clip
LOOKS = (1.33, 1.5, 1.67, 1.85, 2.0)  # windows of the second examination, in sides of the region: 2 to 3 faces
LEANS = (-0.2, 0.0, 0.2)  # and how they lean against the face, radians
MOST_FACES = 30  # taken from one search: a class photograph
SEARCHED_PX = 2000  # longer pictures are shrunk to this for the search: a face of 2 % of the width is still found
SMALLEST_PX = 32  # height under which a face is no use, however sure: its mouth has 8 pixels
DOUBTFUL_PX, DOUBTFUL_SHARE = 64, 0.15  # height, and that over the picture's short side, under which a doubtful face
# is not worth asking about: coins, portholes, spots
SAME = 0.5  # share of the smaller box inside the larger from which two are one face

LEFT_EYE_CORNER, RIGHT_EYE_CORNER = 33, 263  # outer corners, left and right as seen in the picture


@dataclass(frozen=True)
class Face:
    """One face in a picture.

    Args:
        box: Around the points, forehead to chin, pixels of the picture.
        landmarks: (478, 3) float32, MediaPipe face-mesh numbering: x, y in pixels of the picture; z in the same
            scale, negative towards the viewer.
        score: How surely this is a face, 0..1, as the detector sees it in most of several looks; 1.0 from points.
        from_points: Made from handles rather than found.
    """

    box: Box
    landmarks: np.ndarray
    score: float
    from_points: bool = False

    def is_same(self, other: "Face") -> bool:
        """Whether both are one face of a picture."""
        return _overlap(self.box, other.box) >= SAME


@dataclass(frozen=True)
class Region:
    """A turned square of a picture: centre x, y and side in pixels; angle in radians, clockwise on screen."""

    x: float
    y: float
    side: float
    angle: float

    def on(self, other: "Region") -> bool:
        """Whether both are on one face: centres nearer than a quarter of the larger side, and sizes alike."""
        return (
            np.hypot(self.x - other.x, self.y - other.y) < max(self.side, other.side) / 4
            and 0.5 < self.side / other.side < 2
        )


def locate(
    picture: np.ndarray, *, name: str, number: int | None = None, points: tuple[Point, ...] | None = None
) -> Face:
    """The face that shall speak.

    Args:
        picture: (height, width, 3) uint8, RGB.
        name: What to call the picture in errors.
        number: Which face, 1 the largest; also confirms one that is uncertain. None takes the largest sure one.
        points: Handles instead of a search: two eyes and the mouth, or left eye, right eye, left mouth corner, right
            mouth corner, chin.

    Raises:
        PortraitWithoutFace: nothing like a face.
        FaceUncertain: something like a face, to be confirmed by its number.
        FaceNumberUnknown: fewer faces than `number`.
        PointsImplausible: `points` cannot be a face.
    """
    height, width = picture.shape[:2]
    if points is not None:
        landmarks = handles.landmarks_from_points(points, name=name, picture=picture)
        return Face(box_around(landmarks), landmarks, score=1.0, from_points=True)
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
    shrink = min(SEARCHED_PX / max(height, width), 1.0)
    small = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else picture
    whole = Region(small.shape[1] / 2, small.shape[0] / 2, max(small.shape), 0.0)
    doubtful_px = max(DOUBTFUL_PX, DOUBTFUL_SHARE * min(small.shape[:2]))
    faces: list[Face] = []
    for windows in ([whole, *_windows(small, COARSE)], _windows(small, FINE)):
        seen = [face for region in _search(small, windows) if (face := _examine(small, region))]
        faces += [
            face
            for face in seen
            if face.score >= (PERHAPS if face.box.height >= doubtful_px else SURE)
            and face.box.height >= SMALLEST_PX * shrink
        ]
        if any(face.score >= SURE for face in faces):
            break

    distinct: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if not any(face.is_same(other) for other in distinct):
            distinct.append(face)
    if shrink < 1:
        distinct = [_enlarge(picture, face, 1 / shrink) for face in distinct]
    return sorted(distinct, key=lambda face: -face.box.width * face.box.height)


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
    return Region(float(x), float(y), ROOM * float((high - low).max()), angle)


def box_around(landmarks: np.ndarray) -> Box:
    """The upright rectangle around landmarks."""
    low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    return Box(float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))


def _windows(picture: np.ndarray, shares: tuple[float, ...]) -> list[Region]:
    """Squares that cover the picture, each half over the next: sides in shares of the picture's short side."""
    height, width = picture.shape[:2]
    windows = []
    for share in shares:
        side = share * min(height, width)
        if side >= SMALLEST_WINDOW:
            xs, ys = (
                np.linspace(side / 2, length - side / 2, 1 + int(np.ceil((length - side) / (side / 2) - 1e-6)))
                for length in (width, height)
            )
            windows += [Region(float(x), float(y), side, 0.0) for y in ys for x in xs]
    return windows


def _search(picture: np.ndarray, windows: list[Region]) -> list[Region]:
    """Regions of what the detector takes for faces in any of the windows, the likeliest first, each once."""
    hits = sorted((hit for window in windows for hit in _detect(picture, window)), key=lambda hit: -hit[0])
    found: list[Region] = []
    for _, region in hits:
        if len(found) < MOST_FACES and not any(region.on(other) for other in found):
            found.append(region)
    return found


def _examine(picture: np.ndarray, region: Region) -> Face | None:
    """Find the landmarks of what the search took for a face and look at it again; None if it is none.

    The search keeps the best of many windows, which flatters manes, wheels and coins. Looked at along the landmarks,
    at several sizes and leanings, they fall apart. Scores measured: photographs 0.80 to 0.88, the same blurred, dark,
    noisy, tightly cropped or filtered into drawings 0.69 to 0.90, paintings 0.85, a face of wood 0.54 to 0.73; thirty
    pictures without a human face 0.58 at most, but for one cell under the microscope (0.73).
    """
    starts = [
        (score, seen)
        for turn in (0.0, np.pi)  # the detector half sees upside-down faces, upside down
        for score, seen in _detect(picture, replace(region, side=region.side * LOOKS[2], angle=region.angle + turn))
        if seen.on(region)
    ]
    if not starts:
        return None
    likeliest = max(starts, key=lambda start: start[0])[1]
    for start in (likeliest, region):
        landmarks, presence = landmarks_in(picture, start)
        around = region_around(landmarks)
        landmarks, presence = landmarks_in(picture, around)
        if presence >= PRESENT:
            break
    else:
        return None
    scores = []
    for share in LOOKS:
        for lean in LEANS:
            window = replace(around, side=around.side * share, angle=around.angle + lean)
            scores.append(max((score for score, seen in _detect(picture, window) if seen.on(around)), default=0.0))
    return Face(box_around(landmarks), landmarks, float(np.quantile(scores, 0.25)))


def _enlarge(picture: np.ndarray, face: Face, scale: float) -> Face:
    """A face found in a smaller picture, looked up in the picture itself."""
    landmarks, presence = landmarks_in(picture, region_around(face.landmarks * np.float32(scale)))
    if presence < PRESENT:
        landmarks = face.landmarks * np.float32(scale)
    return replace(face, box=box_around(landmarks), landmarks=landmarks)


def _detect(picture: np.ndarray, window: Region) -> list[tuple[float, Region]]:
    """What the detector takes for faces in one window: scores and regions for the landmark network, best first."""
    size = models.DETECTOR_SIZE
    pixels, to_picture = _cut(picture, window, size)
    outputs = models.face_detector().run(pixels.astype(np.float32) / 127.5 - 1)
    scores = _sigmoid(outputs["classificators"][0, :, 0])
    hits: list[tuple[float, Region]] = []
    for index in np.argsort(-scores)[: np.count_nonzero(scores >= PERHAPS)]:
        # x, y, width, height, then six points, of which the first two are the eyes; all but the size from the anchor
        row = outputs["regressors"][0, index].astype(np.float64).reshape(8, 2)
        x, y = to_picture[:, :2] @ (row[0] + _anchors()[index]) + to_picture[:, 2]
        across = to_picture[:, :2] @ (row[3] - row[2])
        side = ROOM * float(row[1].max()) * window.side / size
        region = Region(float(x), float(y), side, float(np.arctan2(across[1], across[0])))
        if not any(region.on(seen) for _, seen in hits):
            hits.append((float(scores[index]), region))
    return hits


def _overlap(one: Box, other: Box) -> float:
    """Shared area over the area of the smaller box."""
    width = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    height = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    return max(width, 0.0) * max(height, 0.0) / min(one.width * one.height, other.width * other.height)


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
