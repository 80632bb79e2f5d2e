"""Five handles to 478 landmarks: a canonical face bent to fit. For drawings and animals, which no network knows."""

import numpy as np
from scipy.interpolate import RBFInterpolator

from pipeline import models
from pipeline.errors import PointsImplausible
from pipeline.request import Point
from pipeline.texts import say

SMALLEST_DISTANCE_PX = 12  # between eyes, mouth corners, mouth and chin: lips of fewer pixels cannot open
LARGEST_TILT = 60  # degrees the eye line may lean; more is rather a picture lying on its side
SMALLEST_DROP = 0.15  # eye distances the mouth must lie below the eyes, and the chin below the mouth
LARGEST_DROP = 4.0  # eye distances from eyes to chin: a horse's head has 3
LARGEST_ASIDE = 1.5  # eye distances the mouth or the chin may lie aside of the eyes' middle: a head seen from the side

# The canonical face's points that are placed. Numbers: MediaPipe's face mesh; left and right as seen in the picture.
LEFT_EYE, RIGHT_EYE = (33, 133, 159, 145), (362, 263, 386, 374)  # left end, right end, top, bottom
LEFT_CORNER, RIGHT_CORNER, UPPER_LIP, LOWER_LIP, SEAM = 61, 291, 0, 17, (13, 14)
CHIN, FOREHEAD, LEFT_CHEEK, RIGHT_CHEEK = 152, 10, 234, 454
UPPER_INNER = (191, 80, 81, 82, 13, 312, 311, 310, 415)  # inner edge of the lips, left to right
LOWER_INNER = (95, 88, 178, 87, 14, 317, 402, 318, 324)

EYE_WIDTH = 0.42  # of the eye distance, as on the canonical face
EYE_HEIGHT = 0.36  # of the eye's width: open, as drawings have them; the canonical face half closes its eyes
UPPER_LIP_HEIGHT, LOWER_LIP_HEIGHT = 0.13, 0.15  # mouth widths from the seam to the lips' outer edges
IRIS_RADIUS = 0.59  # cm, as on the canonical face: human irises hardly vary
DEPTH_ORIGIN = 3.9  # cm before the canonical origin where the landmark network counts z = 0: measured on two portraits


def landmarks_from_points(points: tuple[Point, ...], *, name: str, picture_size: tuple[int, int]) -> np.ndarray:
    """Bend a symmetric face over five handles.

    Args:
        points: Left eye, right eye, left mouth corner, right mouth corner, chin, in pixels; left and right as seen.
        name: What to call the picture in errors.
        picture_size: (height, width) of the picture, pixels.

    Returns:
        (478, 3) float32 as from the landmark network: x, y in pixels of the picture, z in the same scale and
        negative towards the viewer; eyes open, lips closed.

    Raises:
        PointsImplausible: they cannot be a face.
    """
    handles = np.array(points, dtype=np.float64)
    reason = _doubt(handles, picture_size)
    if reason:
        raise PointsImplausible(name=name, reason_en=say(reason, "en"), reason_fr=say(reason, "fr"))

    left_eye, right_eye, left_corner, right_corner, chin = handles
    across = right_eye - left_eye
    eye_distance = float(np.hypot(*across))
    u = across / eye_distance
    v = np.array([-u[1], u[0]])
    between_eyes = (left_eye + right_eye) / 2
    mouth = (left_corner + right_corner) / 2
    mouth_width = float(np.hypot(*(right_corner - left_corner)))

    face = _canonical_face()
    own_eye_distance = 2 * face[list(RIGHT_EYE[:2]), 0].mean()
    own_chin = face[LEFT_EYE[0], 1] - face[CHIN, 1]
    across_scale, down_scale = eye_distance / own_eye_distance, float((chin - between_eyes) @ v) / own_chin
    scale = float(np.sqrt(across_scale * down_scale))  # pixels a centimetre: where neither direction has the say

    targets: dict[int, np.ndarray] = {LEFT_CORNER: left_corner, RIGHT_CORNER: right_corner, CHIN: chin}
    for eye, centre in ((LEFT_EYE, left_eye), (RIGHT_EYE, right_eye)):
        half = EYE_WIDTH * eye_distance / 2
        for point, offset in zip(
            eye, (-half * u, half * u, -half * EYE_HEIGHT * v, half * EYE_HEIGHT * v), strict=True
        ):
            targets[point] = centre + offset
    targets[UPPER_LIP] = mouth - UPPER_LIP_HEIGHT * mouth_width * v
    targets[LOWER_LIP] = mouth + LOWER_LIP_HEIGHT * mouth_width * v
    targets[SEAM[0]] = mouth
    own_forehead = face[FOREHEAD, 1] - face[LEFT_EYE[0], 1]
    targets[FOREHEAD] = between_eyes - own_forehead / own_chin * (chin - between_eyes)
    for cheek in (LEFT_CHEEK, RIGHT_CHEEK):
        down = (face[LEFT_EYE[0], 1] - face[cheek, 1]) / own_chin
        targets[cheek] = between_eyes + down * (chin - between_eyes) + face[cheek, 0] * scale * u

    placed = list(targets)
    spline = RBFInterpolator(face[placed, :2], np.array(list(targets.values())), kernel="thin_plate_spline")
    landmarks = np.empty((len(face), 3), np.float32)
    landmarks[:, :2] = spline(face[:, :2])
    landmarks[:, 2] = (DEPTH_ORIGIN - face[:, 2]) * scale
    return landmarks


def _doubt(handles: np.ndarray, picture_size: tuple[int, int]) -> str | None:
    """Name of the text that says why these cannot be a face, or None."""
    height, width = picture_size
    if (handles < 0).any() or (handles >= [width, height]).any():
        return "PointsOutside"
    left_eye, right_eye, left_corner, right_corner, chin = handles
    across = right_eye - left_eye
    eye_distance = float(np.hypot(*across))
    mouth = (left_corner + right_corner) / 2
    distances = (eye_distance, np.hypot(*(right_corner - left_corner)), np.hypot(*(chin - mouth)))
    if min(distances) < SMALLEST_DISTANCE_PX:
        return "PointsTooClose"
    if across[0] <= 0:
        return "PointsEyesSwapped"
    if abs(np.degrees(np.arctan2(across[1], across[0]))) > LARGEST_TILT:
        return "PointsTooTilted"
    u = across / eye_distance
    v = np.array([-u[1], u[0]])
    from_eyes = (handles - (left_eye + right_eye) / 2) / eye_distance
    if (right_corner - left_corner) @ u <= 0:
        return "PointsMouthSwapped"
    if min((from_eyes[2:4]) @ v) < SMALLEST_DROP:
        return "PointsMouthNotBelowEyes"
    if from_eyes[4] @ v < max(from_eyes[2:4] @ v) + SMALLEST_DROP / 2:
        return "PointsChinNotBelowMouth"
    if from_eyes[4] @ v > LARGEST_DROP or np.abs(from_eyes[2:] @ u).max() > LARGEST_ASIDE:
        return "PointsTooFar"
    return None


def _canonical_face() -> np.ndarray:
    """(478, 3) the mesh of the model file with its lips closed and its irises added, centimetres, y up."""
    mesh = models.canonical_face().astype(np.float64)
    for upper, lower in zip(UPPER_INNER, LOWER_INNER, strict=True):
        mesh[[upper, lower]] = (mesh[upper] + mesh[lower]) / 2
    irises = []
    for eye in (LEFT_EYE, RIGHT_EYE):
        # centre, then the points of its edge to the right, above, to the left, below, as the network numbers them
        ring = IRIS_RADIUS * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
        irises.append(mesh[list(eye)].mean(axis=0) + ring)
    return np.concatenate([mesh, *irises])
