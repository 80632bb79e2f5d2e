"""What can be read off a face in a clip: its axes, its mouth, its eyes. Judges nothing and opens no file.

Landmarks use MediaPipe's numbering. Lengths on the face are in mouth widths of the source picture (mw) or in eye
distances, so that no number depends on the size of the clip.
"""

import cv2
import numpy as np
from scipy.signal import find_peaks

from pipeline.plan import FPS

EYE_CORNERS = ((33, 133), (362, 263))  # outer and inner corner, eye on the left of the picture first
LID_PAIRS = (((160, 144), (159, 145), (158, 153)), ((385, 380), (386, 374), (387, 373)))  # upper lid, lower lid
EYE_OPENINGS = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
)
CHEEKS = ((117, 118, 119, 101, 50), (346, 347, 348, 330, 280))  # skin under each eye
UPPER_LIP, LOWER_LIP = 13, 14  # inner edges, middle
MOUTH_CORNERS = (78, 308)  # inner
RIGID = (
    *(33, 133, 362, 263),  # eye corners
    *(168, 6, 197, 195, 5, 4, 1, 2, 98, 327),  # nose
    *(10, 151, 9, 8, 67, 297, 109, 338, 69, 299),  # forehead
    *(234, 454),  # cheekbones at the ears
)  # 26 points that speech does not move
BLINK_CLOSED = (
    0.3  # of the way from the iris's dark to the cheek's skin: a lid covers most of the eye, in its own shade
)
IRIS_LEVEL = 0.1  # of the way from the iris's dark to skin: what is darker counts for where the eye looks
BLINK_APART = 5  # frames between two blinks, 0.2 s
LONGEST_LAG = 8  # frames searched each way, 0.32 s


def on_face_axes(points: np.ndarray) -> np.ndarray:
    """Points freed of head motion: origin between the eyes, u along the eye line, unit the eye distance.

    Args:
        points: (frames, 478, 2 or 3), pixels.

    Returns:
        (frames, 478, 2), u to the right and v down.
    """
    left, right = (points[:, list(corners), :2].mean(axis=1) for corners in EYE_CORNERS)
    along = right - left
    distance = np.linalg.norm(along, axis=1, keepdims=True)
    u_axis = along / distance
    v_axis = np.stack([-u_axis[:, 1], u_axis[:, 0]], axis=1)
    offset = points[:, :, :2] - ((left + right) / 2)[:, None]
    return np.stack(
        [(offset * u_axis[:, None]).sum(-1) / distance, (offset * v_axis[:, None]).sum(-1) / distance], axis=-1
    )


def mouth_openings(points: np.ndarray, source_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height and width of the mouth's opening in every frame, in mouth widths of the source.

    Args:
        points: (frames, 478, 2 or 3).
        source_points: (478, 2 or 3), of the still picture.
    """
    axes, still = on_face_axes(points), on_face_axes(source_points[None])[0]
    unit = np.linalg.norm(still[MOUTH_CORNERS[1]] - still[MOUTH_CORNERS[0]])
    aperture = (axes[:, LOWER_LIP, 1] - axes[:, UPPER_LIP, 1]) / unit
    width = np.linalg.norm(axes[:, MOUTH_CORNERS[1]] - axes[:, MOUTH_CORNERS[0]], axis=1) / unit
    return aperture, width


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r; 0 where one of them does not move."""
    first, second = first - first.mean(), second - second.mean()
    power = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / power if power > 1e-12 else 0.0


def best_lag(followed: np.ndarray, leader: np.ndarray, longest_lag: int = LONGEST_LAG) -> tuple[float, float]:
    """Shift in milliseconds at which `followed` fits `leader` best, and the r there.

    Negative: `followed` comes first. The peak is placed between frames by a parabola.

    Args:
        followed: (frames,), 25 a second.
        leader: (frames,).
        longest_lag: Frames searched each way.
    """
    length = len(leader)
    shifts = range(-longest_lag, longest_lag + 1)
    scores = np.array(
        [
            correlation(
                followed[max(shift, 0) : length + min(shift, 0)], leader[max(-shift, 0) : length - max(shift, 0)]
            )
            for shift in shifts
        ]
    )
    best = int(scores.argmax())
    place = float(best - longest_lag)
    if 0 < best < len(shifts) - 1:
        before, here, after = scores[best - 1 : best + 2]
        place += float(0.5 * (before - after) / min(before - 2 * here + after, -1e-9))
    return place * 1000 / FPS, float(scores[best])


def luminance(frame: np.ndarray) -> np.ndarray:
    """(height, width) float32, 0 to 255."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)


def to_source(points: np.ndarray, source_points: np.ndarray) -> np.ndarray:
    """(2, 3) similarity which lays a frame on the source picture by the 26 rigid points, least squares."""
    here, there = points[RIGID, :2].astype(float), source_points[RIGID, :2].astype(float)
    here_middle, there_middle = here.mean(0), there.mean(0)
    a, b = here - here_middle, there - there_middle
    norm = (a**2).sum()
    cosine = (a * b).sum() / norm
    sine = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / norm
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.hstack([turn, (there_middle - turn @ here_middle)[:, None]])


def laid_on_source(picture: np.ndarray, points: np.ndarray, source_points: np.ndarray) -> np.ndarray:
    """The picture moved so that its head stands where the source's stands; cubic."""
    size = (picture.shape[1], picture.shape[0])
    move = to_source(points, source_points)
    return cv2.warpAffine(picture, move, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


class Eyes:
    """How far the lids cover the eyes and where the eyes look, seen in the pixels.

    The landmark net sees blinks badly behind glasses, sees half of a glance, and moves its points when a lid closes.
    So each eye is found again by what surrounds it, and the dark of the iris is followed inside the source's eye
    opening (without its lower quarter, where the lashes of a closed lid come to lie). A lid replaces that dark by skin,
    wherever the eye looks: the darkest 30 % are compared with the source's and with the skin under the eye. An eye
    whose iris is not 20 levels darker than skin is left out.

    Args:
        source: (height, width, 3) uint8, RGB: the face with open eyes.
        source_points: (478, 2 or 3), its landmarks.
    """

    def __init__(self, source: np.ndarray, source_points: np.ndarray) -> None:
        still = luminance(source)
        self._eyes = []
        for opening, cheek in zip(EYE_OPENINGS, CHEEKS, strict=True):
            outline = source_points[list(opening), :2]
            (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
            mask = np.zeros(still.shape, np.uint8)
            cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, shift=4)
            reach = 0.6 * (right - left)
            window = (
                slice(max(int(top - reach), 0), int(bottom + reach)),
                slice(max(int(left - reach), 0), int(right + reach)),
            )
            lids = cv2.dilate(mask, np.ones((2 * int(0.25 * (right - left)) + 1,) * 2, np.uint8))
            surroundings = (lids[window] == 0).astype(np.float32)
            mask[int(np.ceil(bottom - 0.25 * (bottom - top))) :] = 0
            inside = mask[window] > 127
            skin = float(
                np.median([still[tuple(np.round(source_points[point, 1::-1]).astype(int))] for point in cheek])
            )
            dark = _darkest(still[window][inside])
            if inside.sum() >= 12 and skin - dark > 20:
                self._eyes.append((still[window], window, surroundings, inside, dark, skin, float(right - left)))
        self._search = 1 + round(0.02 * still.shape[0])  # the net's points stray by up to 2 % when lids close

    @property
    def can_see(self) -> bool:
        """Whether there is an eye whose iris can be told from skin."""
        return bool(self._eyes)

    def look(self, laid: np.ndarray) -> tuple[float, float]:
        """Measure one frame.

        Args:
            laid: (height, width) float32, its luminance laid on the source.

        Returns:
            closure, 0 as in the source, about 0.05 half covered, up to 1 covered by skin as bright as the cheek, the
            mean of both eyes; and gaze, the dark's middle across the eye, eye widths, 0 as in the source, positive to
            the picture's right.
        """
        closure = gaze = 0.0
        search = self._search
        padded = np.pad(laid, search, mode="edge")
        for still, (rows, columns), surroundings, inside, dark, skin, width in self._eyes:
            near = padded[rows.start : rows.stop + 2 * search, columns.start : columns.stop + 2 * search]
            misfit = cv2.matchTemplate(near, still, cv2.TM_SQDIFF, mask=surroundings)
            y, x = np.unravel_index(misfit.argmin(), misfit.shape)
            here = near[y : y + inside.shape[0], x : x + inside.shape[1]]
            closure += (_darkest(here[inside]) - dark) / (skin - dark) / len(self._eyes)
            level = dark + IRIS_LEVEL * (skin - dark)
            middle = [_dark_middle(view, inside, level) for view in (here, still)]
            gaze += (middle[0] - middle[1] - _between_pixels(misfit[y], int(x))) / width / len(self._eyes)
        return closure, gaze


def _between_pixels(misfit: np.ndarray, best: int) -> float:
    """How far beside its smallest value a row of misfits would be smallest, -0.5 to 0.5, by a parabola."""
    if not 0 < best < len(misfit) - 1:
        return 0.0
    before, here, after = (float(value) for value in misfit[best - 1 : best + 2])
    return 0.5 * (before - after) / max(before - 2 * here + after, 1e-9)


def _dark_middle(view: np.ndarray, inside: np.ndarray, level: float) -> float:
    """Column of the centre of what is darker than `level`, each pixel weighted by how much."""
    weight = np.maximum(level - view, 0) * inside
    return float((weight.sum(axis=0) * np.arange(view.shape[1])).sum() / max(float(weight.sum()), 1e-6))


def _darkest(values: np.ndarray) -> float:
    return float(np.sort(values)[: max(1, int(0.3 * len(values)))].mean()) if len(values) else 255.0


def lid_ratio(points: np.ndarray) -> np.ndarray:
    """(frames,) height over width of the eye openings, mean of both eyes, by the landmark net."""
    ratios = []
    for pairs, (outer, inner) in zip(LID_PAIRS, EYE_CORNERS, strict=True):
        width = np.linalg.norm(points[:, inner, :2] - points[:, outer, :2], axis=-1)
        height = np.mean([np.linalg.norm(points[:, up, :2] - points[:, down, :2], axis=-1) for up, down in pairs], 0)
        ratios.append(height / width)
    return np.mean(ratios, axis=0)


def blinks(closures: np.ndarray) -> np.ndarray:
    """Frames at which a blink is fullest."""
    peaks, _ = find_peaks(np.concatenate([[0.0], closures, [0.0]]), height=BLINK_CLOSED, distance=BLINK_APART)
    return peaks - 1
