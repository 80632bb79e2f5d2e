"""Three or five handles to 478 landmarks: a canonical face bent to fit. For drawings, animals and things, which no
network knows. Finds no face."""

import cv2
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

# What three handles leave open, between a person's proportions and an animal's. Source: measured on the five first
# example portraits and the pictures of chelsea the cat and groot.
MOUTH_WIDTH = 0.80  # of the geometric mean of eye distance and drop from eyes to mouth: 0.58 (a cat) to 1.04 there
CHIN_DROP = 0.52  # of the drop from the eyes to the mouth, below the mouth: 0.15 (a cat) to 1.03 there

# The line between drawn lips, looked for around the click
LINE_DENSITY = 64  # samples along one eye distance: a line of a hundredth is still seen
LINE_REACH = (0.95, 0.40)  # eye distances beside, and above or below the click that are looked at
LINE_ARC = (0.08, 0.40)  # eye distances, and of the way from its start, that a line may rise or fall: smiles do, a
# nose's outline does by more
LINE_START = (0.10, 0.16)  # eye distances beside, and above or below the click where the line must begin
LINE_THICKNESS = 0.16  # eye distances; thicker dark things are no lines: a nose, a shadow, a collar
LINE_CONTRAST = 16  # levels of 255 by which a line is darker than what is above and below it
LINE_FADES = 0.40  # of the contrast at its start: a line ends where it is fainter
LINE_GAP = 0.05  # eye distances it may be interrupted: a whisker, a hair, a crack
LINE_STEEPEST = 2  # samples up or down for each one across
LINE_WIDTHS = (0.45, 2.0)  # of the mouth's width by proportions: shorter lines are none of lips, longer ones are cut
LINE_ONE_SIDED = 1.5  # times its other side that one side of a line may be long, from the click: a turned head

# The canonical face's points that are placed. Numbers: MediaPipe's face mesh; left and right as seen in the picture.
LEFT_EYE, RIGHT_EYE = (33, 133, 159, 145), (362, 263, 386, 374)  # left end, right end, top, bottom
LEFT_CORNER, RIGHT_CORNER, UPPER_LIP, LOWER_LIP = 61, 291, 0, 17
CHIN, FOREHEAD, LEFT_CHEEK, RIGHT_CHEEK = 152, 10, 234, 454
UPPER_INNER = (191, 80, 81, 82, 13, 312, 311, 310, 415)  # inner edge of the lips, left to right
SEAM = (80, 13, 310)  # of them, that are placed; the lower lip's lie on the same places of a closed mouth
LOWER_INNER = (95, 88, 178, 87, 14, 317, 402, 318, 324)

# The lids, left to right, both ends included. Source: MediaPipe, face_mesh_connections.py
LEFT_LIDS = ([33, 246, 161, 160, 159, 158, 157, 173, 133], [33, 7, 163, 144, 145, 153, 154, 155, 133])
BROWS = [70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285]
RIGHT_LIDS = ([362, 398, 384, 385, 386, 387, 388, 466, 263], [362, 382, 381, 380, 374, 373, 390, 249, 263])

# Outlines of eyes, looked for around the clicks, both alike
EYE_WIDTH = 0.42  # of the eye distance, as on the canonical face: where the picture shows no outline
EYE_WIDTHS = np.geomspace(0.22, 0.92, 12)  # of the eye distance that are tried
EYE_HEIGHTS = np.geomspace(0.26, 1.3, 10)  # of the eye's width
PANE = 0.2  # shape of a window or a screen, over which lids look like blankets
EYE_SHAPES = (1.0, 0.5, PANE)  # h (1 - x^2)^shape is half an outline: an almond, an ellipse, a window
EYE_SHIFTS = (-0.08, -0.04, 0.0, 0.04, 0.08)  # eye distances that a click may miss an eye by
EYE_RIMS = (0.86, 1.16)  # of an outline's size: the colours beside it are read there
EYE_USUAL = (0.42, 0.5)  # width and height of those
EYE_HABIT = 18.0  # levels of 255 given up for each factor e away from the usual: counts where contrasts are faint
EYE_TRUST = 12.0  # levels of 255 given up for an outline at the end of EYE_SHIFTS
EYE_CLASSES = 5  # of size, of each of which the clearest outline is looked at closely
EYE_NEARLY = 0.72  # of the clearest outline's contrast: iris and pupil are outlines too, and the outermost counts
EYE_CLEAR = 40.0  # levels of 255: so clear an outline counts, however much clearer the iris is: eye whites on pale skin
EYE_CONTRAST = 16.0  # levels of 255 by which an eye differs from what is around it; fur and walls do by less
EYE_BLUR = 0.012  # eye distances: hairs and paint are no outlines
EYE_STEP, EYE_STEPS = 1.05, 12  # the outline found is then moved and resized by this, so often, while it gets clearer
MOST_ROWS = 16_384  # of one cv2.remap, which takes less than twice as many
EYE_MOTTLED = 0.6  # of the colours' spread along either side of an outline that is taken from its contrast
EYE_SAMPLES = 16  # around an outline
EYE_HIDDEN = 3  # of them that lashes, glints and shadows may hide
UPPER_LIP_HEIGHT, LOWER_LIP_HEIGHT = 0.13, 0.15  # mouth widths from the seam to the lips' outer edges
IRIS_RADIUS = 0.59  # cm, as on the canonical face: human irises hardly vary
DEPTH_ORIGIN = 3.9  # cm before the canonical origin where the landmark network counts z = 0: measured on two portraits


def landmarks_from_points(points: tuple[Point, ...], *, name: str, picture: np.ndarray) -> np.ndarray:
    """Bend a symmetric face over three or five handles.

    Args:
        points: Two eyes and the middle of the mouth, the eyes in any order; or left eye, right eye, left mouth corner,
            right mouth corner, chin. In pixels; left and right as seen.
        name: What to call the picture in errors.
        picture: (height, width, 3) uint8, RGB.

    Returns:
        (478, 3) float32 as from the landmark network: x, y in pixels of the picture, z in the same scale and
        negative towards the viewer; lips closed; lids on the outlines that the picture has around the eyes, or shut, so
        that they do not blink, where it has none.

    Raises:
        PointsImplausible: they cannot be a face.
        ValueError: there are neither three nor five.
    """
    if len(points) not in (3, 5):
        raise ValueError(f"a face is made from 3 or 5 points, got {len(points)}")
    handles = np.array(points, dtype=np.float64)
    seam = None
    reason = _doubt_of_places(handles, picture.shape[:2])
    if not reason and len(points) == 3:
        handles, seam = _complete(handles, picture)
    reason = reason or _doubt(handles)
    if reason:
        raise PointsImplausible(name=name, reason_en=say(reason, "en"), reason_fr=say(reason, "fr"))
    return _bend(handles, handles[2:4] if seam is None else seam, _find_eyes(picture, handles[:2]))


def five_from_three(points: tuple[Point, ...], picture: np.ndarray) -> tuple[Point, ...]:
    """The five handles that two eyes and a mouth make likely.

    Args:
        points: Two eyes in any order and the middle of the mouth, pixels.
        picture: (height, width, 3) uint8, RGB: where it shows a line between the lips, the corners are its ends.

    Returns:
        Left eye, right eye, left mouth corner, right mouth corner, chin.
    """
    handles, _ = _complete(np.array(points, dtype=np.float64), picture)
    return tuple((float(x), float(y)) for x, y in handles)


def _complete(three: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Five handles (5, 2) from three, and the line between the lips (n, 2) from corner to corner."""
    eyes, mouth = three[three[:2, 0].argsort()], three[2]
    between, across = eyes.mean(axis=0), eyes[1] - eyes[0]
    eye_distance = max(float(np.hypot(*across)), 1.0)
    axes = np.stack([across, [-across[1], across[0]]]) / eye_distance
    drop = float((mouth - between) @ axes[1])
    half = MOUTH_WIDTH * float(np.sqrt(eye_distance * max(drop, 0.0))) / 2 / eye_distance
    seam = _mouth_line(picture, mouth, axes * eye_distance, half)
    if seam is None:
        seam = np.array([[-half, 0.0], [0.0, 0.0], [half, 0.0]])
    seam = mouth + seam @ axes * eye_distance
    chin = mouth + CHIN_DROP * (mouth - between)
    return np.array([*eyes, seam[0], seam[-1], chin]), seam


def _mouth_line(picture: np.ndarray, mouth: np.ndarray, axes: np.ndarray, half: float) -> np.ndarray | None:
    """The dark line between drawn lips, if there is one near the click.

    Args:
        picture: (height, width, 3) uint8, RGB.
        mouth: (2,) the click, pixels.
        axes: (2, 2) the eye distance along the eyes and down the face, pixels.
        half: Half the mouth's width by proportions, eye distances.

    Returns:
        (n, 2) from the left corner to the right one, eye distances across and down from the click.
    """
    reach_u, reach_v = (round(reach * LINE_DENSITY) for reach in LINE_REACH)
    u, v = np.meshgrid(np.arange(-reach_u, reach_u + 1), np.arange(-reach_v, reach_v + 1))
    at = (mouth + np.stack([u, v], axis=-1) / LINE_DENSITY @ axes).astype(np.float32)
    pixel_px = float(np.hypot(*axes[0])) / LINE_DENSITY
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if pixel_px > 1:  # so that a thin line is not stepped over
        grey = cv2.GaussianBlur(grey, (0, 0), pixel_px / 2)
    patch = cv2.remap(grey, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    patch = cv2.blur(patch, (5, 1))  # lips run across, hairs and noses do not
    upright = np.ones((round(LINE_THICKNESS * LINE_DENSITY) | 1, 1), np.uint8)
    dark = cv2.morphologyEx(patch, cv2.MORPH_BLACKHAT, upright, borderType=cv2.BORDER_REPLICATE).astype(np.float32)

    start_u, start_v = (round(start * LINE_DENSITY) for start in LINE_START)
    near = dark[reach_v - start_v : reach_v + start_v + 1, reach_u - start_u : reach_u + start_u + 1]
    leash = 1 - 0.5 * np.abs(np.linspace(-1, 1, len(near), dtype=np.float32))[:, None]
    row, column = (int(i) for i in np.unravel_index((near * leash).argmax(), near.shape))
    if near[row, column] < LINE_CONTRAST:
        return None
    row, column = row + reach_v - start_v, column + reach_u - start_u
    faint = max(LINE_FADES * float(dark[row, column]), LINE_CONTRAST / 2)
    left, right = (_follow(dark, row, column, step, faint) for step in (-1, 1))
    line = np.array([*left[::-1], (column, row), *right], float)
    line = (line - [reach_u, reach_v]) / LINE_DENSITY

    shorter = min(-line[0, 0], line[-1, 0])
    longest = min(max(shorter, 0.0) * LINE_ONE_SIDED, LINE_WIDTHS[1] * half)
    line = line[np.abs(line[:, 0]) <= longest]
    return line if len(line) > 2 and np.ptp(line[:, 0]) > 2 * LINE_WIDTHS[0] * half else None


def _follow(dark: np.ndarray, row: int, column: int, step: int, faint: float) -> list[tuple[int, int]]:
    """Columns and rows of a line to one side of its start, as far as it is darker than `faint`."""
    line: list[tuple[int, int]] = []
    good, begin = 0, row
    while 0 <= (column := column + step) < dark.shape[1] and len(line) - good <= LINE_GAP * LINE_DENSITY:
        rows = np.arange(max(row - LINE_STEEPEST, 0), min(row + LINE_STEEPEST + 1, len(dark)))
        # of two equals the nearer row: a flat stretch must not wander
        row = int(rows[(dark[rows, column] - np.abs(rows - row)).argmax()])
        line.append((column, row))
        if dark[row, column] >= faint:
            good = len(line)
        if abs(row - begin) > LINE_ARC[0] * LINE_DENSITY + LINE_ARC[1] * len(line):
            break
    return line[:good]


def _find_eyes(picture: np.ndarray, clicks: np.ndarray) -> np.ndarray | None:
    """The outlines that both eyes have in the picture, alike in size and shape, each near its click.

    Args:
        picture: (height, width, 3) uint8, RGB.
        clicks: (2, 2) in the eyes, pixels.

    Returns:
        (2, 2, 9, 2) of each eye the upper and the lower lid from left to right, eye distances across and down from the
        click; None where nothing stands out that lids could close.
    """
    across = clicks[1] - clicks[0]
    eye_distance = float(np.hypot(*across))
    axes = np.stack([across, [-across[1], across[0]]])
    reach = eye_distance * EYE_WIDTHS[-1]
    left, top = np.maximum(clicks.min(axis=0) - reach, 0).astype(int)
    right, bottom = (clicks.max(axis=0) + reach).astype(int) + 1
    part = cv2.GaussianBlur(picture[top:bottom, left:right], (0, 0), max(EYE_BLUR * eye_distance, 0.5))

    def clearness(eye: int, outlines: np.ndarray) -> np.ndarray:
        """_contrast of (n, 5) outlines, less what is given up for unusual ones."""
        x, y, half_width, half_height, shape = outlines.T
        cost = np.abs(np.log(2 * half_width / EYE_USUAL[0])) + np.abs(np.log(half_height / half_width / EYE_USUAL[1]))
        cost = cost + 2 * (shape == PANE)  # seldom, and an eye that does not blink is missed
        found = _contrast(part, clicks[eye] - [left, top], axes, outlines)
        return found - EYE_HABIT * cost - EYE_TRUST * np.hypot(x, y) / EYE_SHIFTS[-1]

    widths, heights, shapes, y, x = (
        grid.ravel() for grid in np.meshgrid(EYE_WIDTHS, EYE_HEIGHTS, EYE_SHAPES, EYE_SHIFTS, EYE_SHIFTS, indexing="ij")
    )
    tried = np.stack([x, y, widths / 2, heights * widths / 2, shapes], axis=-1)
    sizes = (len(EYE_WIDTHS), len(EYE_HEIGHTS), len(EYE_SHAPES), len(EYE_SHIFTS) ** 2)
    clear = np.stack([clearness(eye, tried).reshape(sizes) for eye in (0, 1)])
    grid = clear.max(axis=-1).mean(axis=0)  # of each size, with each eye where it fits best
    if grid.max() < EYE_CONTRAST:
        return None
    tried = tried.reshape(*sizes, 5)
    area = np.log(tried[..., 0, 2:4].prod(axis=-1))
    classes = np.digitize(area, np.linspace(area.min(), area.max(), EYE_CLASSES + 1)[1:-1])
    candidates = []
    for number in range(EYE_CLASSES):  # the clearest of each size: pupil, iris, lids, the shadow around them
        size = np.unravel_index(np.where(classes == number, grid, -np.inf).argmax(), grid.shape)
        candidates.append([tried[size][clear[eye][size].argmax()] for eye in (0, 1)])
    nearby = np.stack(np.meshgrid(*[(0, -1, 1)] * 4, [0], indexing="ij"), axis=-1).reshape(-1, 5)
    outlines, clarity = np.array(candidates), np.zeros(len(candidates))
    for number, eye in np.ndindex(outlines.shape[:2]):
        for _ in range(EYE_STEPS):
            around = outlines[number, eye] * np.where([0, 0, 1, 1, 0], EYE_STEP, 1.0) ** nearby
            around += nearby * [1, 1, 0, 0, 0] * (EYE_STEP - 1) * outlines[number, eye, 2]
            found = clearness(eye, around)
            outlines[number, eye] = around[found.argmax()]
            if found.argmax() == 0:
                break
        clarity[number] += found.max() / 2
    half_sizes = outlines[..., 2:4].mean(axis=1)
    counts = clarity >= min(EYE_NEARLY * float(clarity.max()), EYE_CLEAR)
    counts &= (half_sizes >= half_sizes[clarity.argmax()]).all(axis=-1)  # irises and pupils are outlines too
    found = outlines[(counts * half_sizes.prod(axis=-1)).argmax()]
    if PANE in (found[0, -1], outlines[clarity.argmax(), 0, -1]):
        return None
    x = -np.cos(np.linspace(0, np.pi, len(LEFT_LIDS[0])))
    half_width, half_height = np.sqrt(found[0, 2:4] * found[1, 2:4])
    y = half_height * np.clip(1 - x**2, 0, 1) ** found[0, 4]
    lids = np.stack([np.stack([half_width * x, sign * y], axis=-1) for sign in (-1, 1)])
    return lids + found[:, None, None, :2]


def _contrast(picture: np.ndarray, centre: np.ndarray, axes: np.ndarray, outlines: np.ndarray) -> np.ndarray:
    """How much the colours just inside and just outside of outlines differ, where they differ little.

    Args:
        picture: (height, width, 3) uint8, RGB.
        centre: (2,) of an eye, pixels.
        axes: (2, 2) the eye distance along the eyes and down the face, pixels.
        outlines: (n, 5) middle across and down from the centre, half the width, half the height, eye distances; shape.

    Returns:
        (n,) levels of 255.
    """
    x = np.cos(np.linspace(0, 2 * np.pi, EYE_SAMPLES, endpoint=False) + np.pi / EYE_SAMPLES)
    side = np.r_[np.ones(EYE_SAMPLES // 2), -np.ones(EYE_SAMPLES // 2)]
    unit = np.stack(np.broadcast_arrays(x, side * (1 - x**2) ** outlines[:, 4:]), axis=-1)  # (n, samples, 2)
    rims = (outlines[:, None, 2:4] * unit)[:, None] * np.array(EYE_RIMS)[:, None, None]  # (n, 2, samples, 2)
    at = centre + (outlines[:, None, None, :2] + rims) @ axes
    flat = at.astype(np.float32).reshape(-1, len(EYE_RIMS) * EYE_SAMPLES, 2)
    found = np.empty(len(flat), np.float32)
    for start in range(0, len(flat), MOST_ROWS):
        some = flat[start : start + MOST_ROWS]
        read = cv2.remap(picture, some[..., 0], some[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        colours = read.reshape(len(some), len(EYE_RIMS), EYE_SAMPLES, 3).astype(np.float32)
        differences = np.linalg.norm(colours[:, 0] - colours[:, 1], axis=-1)
        mottled = np.linalg.norm(colours.std(axis=2), axis=-1).mean(axis=1)
        found[start : start + MOST_ROWS] = np.partition(differences, EYE_HIDDEN, axis=1)[:, EYE_HIDDEN]
        found[start : start + MOST_ROWS] -= EYE_MOTTLED * mottled
    return found


def _bend(handles: np.ndarray, seam: np.ndarray, lids: np.ndarray | None) -> np.ndarray:
    """The canonical face over five handles (5, 2), its lips meeting along the seam (n, 2), its lids from _find_eyes."""
    left_eye, right_eye, left_corner, right_corner, chin = handles
    across = right_eye - left_eye
    eye_distance = float(np.hypot(*across))
    u = across / eye_distance
    v = np.array([-u[1], u[0]])
    between_eyes = (left_eye + right_eye) / 2
    mouth_width = float(np.hypot(*(right_corner - left_corner)))

    face = _canonical_face()
    own_eye_distance = 2 * face[list(RIGHT_EYE[:2]), 0].mean()
    own_chin = face[LEFT_EYE[0], 1] - face[CHIN, 1]
    across_scale, down_scale = eye_distance / own_eye_distance, float((chin - between_eyes) @ v) / own_chin
    scale = float(np.sqrt(across_scale * down_scale))  # pixels a centimetre: where neither direction has the say

    targets: dict[int, np.ndarray] = {LEFT_CORNER: left_corner, RIGHT_CORNER: right_corner, CHIN: chin}
    if lids is None:
        shut = np.stack([np.linspace(-0.5, 0.5, len(LEFT_LIDS[0])) * EYE_WIDTH, np.zeros(len(LEFT_LIDS[0]))], axis=-1)
        lids = np.array([[shut, shut], [shut, shut]])
    # Large eyes must not bend the face around them: it is bent over usual ones, and lids and brows are placed after.
    lids = lids * eye_distance @ [u, v]
    half, tall = EYE_USUAL[0] * eye_distance / 2, EYE_USUAL[0] * EYE_USUAL[1] * eye_distance / 2
    for eye, centre in ((LEFT_EYE, left_eye), (RIGHT_EYE, right_eye)):
        for point, offset in zip(eye, (-half * u, half * u, -tall * v, tall * v), strict=True):
            targets[point] = centre + offset
    along = (seam - left_corner) @ u
    for point in SEAM:
        share = (face[point, 0] - face[LEFT_CORNER, 0]) / (face[RIGHT_CORNER, 0] - face[LEFT_CORNER, 0])
        wanted = share * along[-1]
        targets[point] = np.array([np.interp(wanted, along, seam[:, axis]) for axis in (0, 1)])
    mouth = targets[SEAM[len(SEAM) // 2]]
    targets[UPPER_LIP] = mouth - UPPER_LIP_HEIGHT * mouth_width * v
    targets[LOWER_LIP] = mouth + LOWER_LIP_HEIGHT * mouth_width * v
    own_forehead = face[FOREHEAD, 1] - face[LEFT_EYE[0], 1]
    targets[FOREHEAD] = between_eyes - own_forehead / own_chin * (chin - between_eyes)
    for cheek in (LEFT_CHEEK, RIGHT_CHEEK):
        down = (face[LEFT_EYE[0], 1] - face[cheek, 1]) / own_chin
        targets[cheek] = between_eyes + down * (chin - between_eyes) + face[cheek, 0] * scale * u

    placed = list(targets)
    spline = RBFInterpolator(face[placed, :2], np.array(list(targets.values())), kernel="thin_plate_spline")
    landmarks = np.empty((len(face), 3), np.float32)
    landmarks[:, :2] = spline(face[:, :2])
    for numbers, centre, eye_lids in ((LEFT_LIDS, left_eye, lids[0]), (RIGHT_LIDS, right_eye, lids[1])):
        for lid, offsets in zip(numbers, eye_lids, strict=True):
            landmarks[lid, :2] = centre + offsets
    landmarks[BROWS, :2] -= max(float(-(lids[:, 0] @ v).min()) - tall, 0.0) * v
    landmarks[:, 2] = (DEPTH_ORIGIN - face[:, 2]) * scale
    return landmarks


def _doubt_of_places(points: np.ndarray, picture_size: tuple[int, ...]) -> str | None:
    """Name of the text that says why points, whatever they are, cannot be used; or None."""
    height, width = picture_size
    if (points < 0).any() or (points >= [width, height]).any():
        return "PointsOutside"
    if len(points) == 5:
        return None
    eyes, mouth = points[points[:2, 0].argsort()], points[2]
    across = eyes[1] - eyes[0]
    eye_distance = float(np.hypot(*across))
    if eye_distance < SMALLEST_DISTANCE_PX or np.hypot(*(points[:2] - mouth).T).min() < SMALLEST_DISTANCE_PX:
        return "PointsTooClose"
    drop = float((mouth - eyes.mean(axis=0)) @ [-across[1], across[0]]) / eye_distance**2
    if abs(np.degrees(np.arctan2(across[1], across[0]))) > LARGEST_TILT:
        return "PointsTooTilted"
    if drop < -SMALLEST_DROP:
        return "PointsUpsideDown"
    return "PointsInLine" if drop < 2 * SMALLEST_DROP else None


def _doubt(handles: np.ndarray) -> str | None:
    """Name of the text that says why five handles cannot be a face, or None."""
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
