"""One face in the frame: landmark names, face axes, and the line along which the lips part. Draws nothing."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

# Landmark numbers of the face mesh, left to right in the picture. Source: MediaPipe, face_mesh_connections.py
OUTER_UPPER_LIP = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291]
OUTER_LOWER_LIP = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291]
INNER_UPPER_LIP = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
INNER_LOWER_LIP = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
LEFT_EYE_UPPER = [33, 246, 161, 160, 159, 158, 157, 173, 133]
LEFT_EYE_LOWER = [33, 7, 163, 144, 145, 153, 154, 155, 133]
RIGHT_EYE_UPPER = [362, 398, 384, 385, 386, 387, 388, 466, 263]
RIGHT_EYE_LOWER = [362, 382, 381, 380, 374, 373, 390, 249, 263]
LEFT_IRIS, RIGHT_IRIS = [468, 469, 470, 471, 472], [473, 474, 475, 476, 477]
BROWS = [70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285]
NOSE = [1, 2, 4, 5, 6, 19, 94, 97, 98, 326, 327, 168, 195, 197, 48, 278, 64, 294, 129, 358]
# fmt: off
FACE_OVAL = [
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
]
# fmt: on
FOREHEAD, CHIN, LEFT_EYE_OUTER, RIGHT_EYE_OUTER, LEFT_EYE_INNER, RIGHT_EYE_INNER = 10, 152, 33, 263, 133, 362

CURVE_POINTS = 49  # along each lip: one every 1.5 px of a 70 px mouth, odd so that one stands in the middle
CLOSED_GAP = 0.035  # units; a smaller gap between the inner lips is landmark noise on a closed mouth
UNIT_IN_EYE_SPANS = (0.50, 0.68)  # a mouth's width over the outer eye corners' distance: a smile must not enlarge it
LIP_INSET = 0.010  # units by which open lips end before their landmarks: a pixel of bright teeth must not ride on them
SEAM_BAND = 0.07  # units above and below the landmarks' seam in which the dark line between the lips is looked for
SEAM_MIN_CONTRAST = 0.03  # of full scale; a flatter band shows no line to hold on to
GLABELLA, NOSE_MIDDLE = 9, 195  # landmarks between which glasses stand on a nose
BRIDGE_HALF, BRIDGE_SIZE = 0.045, 0.045  # eye spans: across the nose to each side, and the height of a bridge
BRIDGE_BLUR = 0.008  # eye spans: finer is a drawing's hatching or an animal's hair
BRIDGE_LEVELS = 25.0  # of 255. Source: glasses 58 to 63; the four examples without 1 to 13, at two sizes


@dataclass(frozen=True)
class FaceGeometry:
    """A face's own axes, in a frame: u to the picture's right along the eyes, v down, origin between the lips.

    Args:
        landmarks: (478, 3) float32, pixels of the frame.
        origin: (2,) the mouth's middle, pixels.
        u_axis: (2,) unit vector along the eyes.
        v_axis: (2,) unit vector from the eyes to the chin.
        unit: Pixels: the width of the mouth at rest. All lengths called units are multiples of it.
        upper: (CURVE_POINTS, 2) inner edge of the upper lip, corner to corner, pixels.
        lower: (CURVE_POINTS, 2) inner edge of the lower lip. The same points as `upper` on a closed mouth.
        has_glasses: Whether a pair stands on the nose: what stands over the brows then does not bend.
    """

    landmarks: np.ndarray
    origin: np.ndarray
    u_axis: np.ndarray
    v_axis: np.ndarray
    unit: float
    upper: np.ndarray
    lower: np.ndarray
    has_glasses: bool = False

    def to_face(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) to units (..., 2) of (u, v)."""
        axes = np.stack([self.u_axis, self.v_axis]) / self.unit
        shift = -axes @ self.origin
        points = np.asarray(points, np.float32)
        return cv2.transform(points.reshape(1, -1, 2), np.column_stack([axes, shift])).reshape(points.shape)

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Units (..., 2) of (u, v) to pixels (..., 2)."""
        u, v = points[..., 0, None], points[..., 1, None]
        return (self.origin + self.unit * (u * self.u_axis + v * self.v_axis)).astype(np.float32)

    @property
    def is_open(self) -> bool:
        """Whether the lips are apart in the picture."""
        return self.gap > 0

    @property
    def gap(self) -> float:
        """Largest distance between the lips, units; 0 on a closed mouth."""
        return float((self.to_face(self.lower) - self.to_face(self.upper))[:, 1].max())

    @property
    def half_widths(self) -> tuple[float, float]:
        """Units from the mouth's middle to its left and right corner; they differ when the head is turned."""
        left, right = self.to_face(self.upper[[0, -1]])[:, 0]
        return float(-left), float(right)

    @property
    def face_height(self) -> float:
        """Forehead to chin, units."""
        return float(np.ptp(self.to_face(self.landmarks[[FOREHEAD, CHIN], :2])[:, 1]))

    @property
    def eye_span(self) -> float:
        """Between the outer eye corners, units."""
        return float(np.ptp(self.to_face(self.landmarks[[LEFT_EYE_OUTER, RIGHT_EYE_OUTER], :2])[:, 0]))

    def seam_at(self, u: np.ndarray) -> np.ndarray:
        """v of the line between the lips at each u, level beyond the corners; units."""
        middle = self.to_face((self.upper + self.lower) / 2)
        return np.interp(u, middle[:, 0], middle[:, 1]).astype(np.float32)


def measure_face(frame: np.ndarray, landmarks: np.ndarray) -> FaceGeometry:
    """Find the axes of a face and the line between its lips.

    Args:
        frame: (height, width, 3) uint8, RGB.
        landmarks: (478, 3) float32, pixels of the frame.
    """
    points = landmarks[:, :2].astype(np.float64)
    eyes = points[RIGHT_EYE_OUTER] - points[LEFT_EYE_OUTER]
    eye_span = float(np.hypot(*eyes))
    u_axis = eyes / eye_span
    v_axis = np.array([-u_axis[1], u_axis[0]])
    corners = points[[INNER_UPPER_LIP[0], INNER_UPPER_LIP[-1]]]
    origin = (corners.mean(axis=0) + (points[INNER_UPPER_LIP[5]] + points[INNER_LOWER_LIP[5]]) / 2) / 2
    width = float(np.hypot(*(points[OUTER_UPPER_LIP[-1]] - points[OUTER_UPPER_LIP[0]])))
    narrowest, widest = (eye_span * share for share in UNIT_IN_EYE_SPANS)
    unit = min(max(width, narrowest), widest)

    bare = FaceGeometry(landmarks, origin, u_axis, v_axis, unit, corners, corners)
    upper = _smooth_curve(bare.to_face(points[INNER_UPPER_LIP]))
    lower = _smooth_curve(bare.to_face(points[INNER_LOWER_LIP]))
    if (lower[:, 1] - upper[:, 1]).max() < CLOSED_GAP:
        upper = lower = _snap_to_dark_line(frame, bare, (upper + lower) / 2)
    else:
        inset = LIP_INSET * np.sqrt(np.clip(1 - np.linspace(-1, 1, CURVE_POINTS) ** 2, 0, 1))
        upper[:, 1] -= inset
        lower[:, 1] = np.maximum(lower[:, 1], upper[:, 1]) + inset
    edges = bare.to_frame(upper), bare.to_frame(lower)
    return FaceGeometry(landmarks, origin, u_axis, v_axis, unit, *edges, has_glasses=_has_glasses(frame, landmarks))


def _has_glasses(frame: np.ndarray, landmarks: np.ndarray) -> bool:
    """Whether something crosses the nose between the eyes, lighter or darker than the skin above and below it."""
    left, right, top, bottom = landmarks[[LEFT_EYE_OUTER, RIGHT_EYE_OUTER, GLABELLA, NOSE_MIDDLE], :2].astype(
        np.float64
    )
    span = float(np.hypot(*(right - left)))
    smooth = cv2.GaussianBlur(frame, (0, 0), BRIDGE_BLUR * span)
    down, across = np.linspace(0, 1, 48), np.linspace(-BRIDGE_HALF, BRIDGE_HALF, 7)
    at = (top + down[:, None, None] * (bottom - top) + across[:, None] * (right - left)).astype(np.float32)
    seen = cv2.remap(smooth, at[..., 0], at[..., 1], cv2.INTER_LINEAR).astype(np.float32)
    rows = int(np.clip(round(BRIDGE_SIZE * span / max(np.hypot(*(bottom - top)), 1e-6) * len(down)), 1, 15))
    stands_out = seen[rows:-rows] - (seen[: -2 * rows] + seen[2 * rows :]) / 2
    return bool(np.abs(np.median(stands_out, axis=1)).max() > BRIDGE_LEVELS)


def _smooth_curve(points: np.ndarray) -> np.ndarray:
    """CURVE_POINTS points on the smooth curve v(u) through landmarks that go from left to right."""
    u = np.maximum.accumulate(points[:, 0] + np.arange(len(points)) * 1e-5)  # strictly rising, as the spline needs
    at = np.linspace(u[0], u[-1], CURVE_POINTS)
    return np.stack([at, PchipInterpolator(u, points[:, 1])(at)], axis=-1).astype(np.float32)


def _snap_to_dark_line(frame: np.ndarray, face: FaceGeometry, seam: np.ndarray) -> np.ndarray:
    """Move a seam onto the darkest path from corner to corner near it, by dynamic programming."""
    offsets = np.linspace(-SEAM_BAND, SEAM_BAND, 29, dtype=np.float32)
    rows = seam[None] + np.stack([np.zeros_like(offsets), offsets], axis=-1)[:, None]  # (29, CURVE_POINTS, 2)
    at = face.to_frame(rows)
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    band = cv2.GaussianBlur(cv2.remap(grey, at[..., 0], at[..., 1], cv2.INTER_LINEAR), (3, 3), 0)
    if (np.median(band, axis=0) - band.min(axis=0)).mean() < SEAM_MIN_CONTRAST:
        return seam
    leash = 1 + 0.3 * (offsets[:, None] / SEAM_BAND) ** 2  # of two equal lines take the one nearer to the landmarks
    cost = (band + 0.05) * leash
    total, came_from = cost[:, 0], []
    for column in cost.T[1:]:
        steps = np.stack([np.roll(total, 1), total, np.roll(total, -1)])
        steps[0, 0] = steps[2, -1] = np.inf
        came_from.append(steps.argmin(axis=0) - 1)
        total = steps.min(axis=0) + column
    path = [int(total.argmin())]
    for back in reversed(came_from):
        path.append(path[-1] + int(back[path[-1]]))
    found = gaussian_filter1d(offsets[path[::-1]], 2.0)
    pinned = np.clip(4 * (1 - np.abs(np.linspace(-1, 1, CURVE_POINTS))), 0, 1)  # the corners stay where they were found
    return (seam + np.stack([np.zeros(CURVE_POINTS), found * pinned], axis=-1)).astype(np.float32)


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    s = np.clip((x - low) / (high - low), 0, 1)
    return s * s * (3 - 2 * s)


def weighted_sum(weights: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """(n,) weights times (n, ...) fields, added up.

    Without BLAS, whose second thread takes processor time from the encoder and saves none on fields this small.
    """
    return np.einsum("i,i...->...", weights, fields)


def sample(field: np.ndarray, at: np.ndarray, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
    """What stands in a picture or a field at (rows, columns, 2) float32 places x, y, between its pixels too."""
    # None for a second map, which the types do not know: an empty array in its place is read as a map
    return cv2.remap(field, at, None, cv2.INTER_LINEAR, borderMode=border)  # type: ignore[call-overload]
