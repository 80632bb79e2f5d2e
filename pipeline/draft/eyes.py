"""Lids that close and irises that look: the eyes of one face, redrawn from the picture's own pixels."""

from collections.abc import Callable

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from pipeline.draft.geometry import (
    BROWS,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LEFT_IRIS,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    RIGHT_IRIS,
    sample,
    smoothstep,
)

AROUND = (0.22, 0.45, 0.25)  # eye widths drawn anew: beside the corners, above the upper lid, below the lower
LASHES = 0.085  # eye widths above the lid's edge that move with it unstretched
LASH_TIPS = 0.03  # eye widths below it
LID_LINE = 0.35  # of the light lost along a lowered lid's edge, lashes or not: painters leave them out
STRIP = (0.05, 0.34)  # eye widths of skin above the lid that can be drawn out to cover the eye: least and most
STRIP_TO_BROW = 0.60  # of the way up to the brow that belongs to the lid
SKIN_RANGE = 0.13  # of full scale: brightness beside the lid's own that ends the strip (a rim of glasses, a brow)
LID_PERCENTILE = 75  # of the strip's colours: a drawn-out lid comes out of the shadow of its fold
UNDER_SHARE = 0.6  # of the skin under the eye in a closed lid's colour: the same light falls on both
STREAK = 0.07  # eye widths along the lid over which drawn-out skin is smoothed
FLAT_SHARE = 0.65  # of the drawn-out lid painted in its median colour: hides the streaks of stretching
LID_SHADE = 0.97  # a closed lid looks down and catches a little less light
EYEBALL_IN_IRISES = 12.0 / 5.9  # radius of the eyeball over that of the iris. Source: mean of adults, mm
IRIS_SPREAD = (1.1, 2.3)  # iris radii from its centre over which the eyeball's movement dies away
PAINTED_BELOW = 0.14  # eye widths of strip; less than that cannot be drawn out over an eye and is painted instead
WIDENED = 0.055  # eye widths that an upper lid at -1 rises; it has no more of the eye to show than the picture drew
WIDENED_STRIP = 0.5  # of the skin above the lid that it may be pushed together to
SQUINTED = 0.075  # eye widths that a lower lid at 1 comes up
SQUINT_SKIN = 0.20  # eye widths below the lower lid that are drawn out as it does
SLANTED = 0.45  # of the eye's opening that the one half of a slanted lid covers at its end
SMALLEST_OPENING = 0.08  # eye widths; a narrower eye is closed in the picture
WHITE_RIM = 0.20  # of the white's brightness that some channel of skin above a lid lacks; else it is the white itself


class Eye:
    """One eye in the frame.

    Args:
        frame: (height, width, 3) uint8, RGB, the face at rest; kept, not changed.
        landmarks: (478, 3) float32, pixels of the frame.
        upper: Landmark numbers of the upper lid, left to right.
        lower: The same of the lower lid.
        iris: Landmark numbers of the iris, its centre first.

    Attributes:
        window: Rows and columns of the frame that `draw` fills.
        can_blink: False where the landmarks do not lie on the lids, as on drawings with huge eyes.
    """

    def __init__(self, frame: np.ndarray, landmarks: np.ndarray, upper: list[int], lower: list[int], iris: list[int]):
        points = landmarks[:, :2].astype(np.float32)
        self._left = points[upper[0]]
        across = points[upper[-1]] - self._left
        self._width = float(np.hypot(*across))
        self._x_axis = across / self._width
        self._y_axis = np.array([-self._x_axis[1], self._x_axis[0]], np.float32)

        beside, above, below = AROUND
        top = float(self._to_eye(points[upper])[:, 1].min()) - above
        bottom = float(self._to_eye(points[lower])[:, 1].max()) + below
        box = np.array([[-beside, top], [1 + beside, top], [-beside, bottom], [1 + beside, bottom]], np.float32)
        corners = self._to_frame(box)
        limits = np.array(frame.shape[1::-1])
        low = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, limits - 1)
        high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, low + 1, limits)
        self.window = (slice(low[1], high[1]), slice(low[0], high[0]))
        self._frame = frame
        self._smooth = cv2.GaussianBlur(frame, (0, 0), STREAK * self._width, sigmaY=STREAK * self._width / 3)
        self._at = np.stack(
            np.meshgrid(*(np.arange(a, b, dtype=np.float32) for a, b in zip(low, high, strict=True))), -1
        )
        place = self._to_eye(self._at)
        self._x, self._y = place[..., 0], place[..., 1]
        inner_half, outer_half = smoothstep(self._x, 0.3, 1.0), smoothstep(-self._x, -0.7, 0.0)
        self._halves = (inner_half, outer_half) if upper is LEFT_EYE_UPPER else (outer_half, inner_half)

        lid_line = _curve(self._to_eye(points[upper]))
        self._upper = lid_line(self._x)
        self._lower = np.maximum(_curve(self._to_eye(points[lower]))(self._x), self._upper)
        centre = self._to_eye(points[iris[0]])
        radius = float(np.hypot(*(self._to_eye(points[iris[1:]]) - centre).T).mean())
        distance = np.hypot(self._x - centre[0], self._y - centre[1]) / radius
        opening = np.clip((self._y - self._upper) / (0.25 * radius), 0, 1)
        opening *= np.clip((self._lower - self._y) / (0.25 * radius), 0, 1)
        self._rolls = ((1 - smoothstep(distance, *IRIS_SPREAD)) * opening).astype(np.float32)
        self._turn = np.stack([self._x_axis, self._y_axis]) * np.float32(self._width * radius * EYEBALL_IN_IRISES)
        self._measure_lid(lid_line, self._to_eye(points[BROWS]))

    def draw(self, lid: float, gaze_x: float, gaze_y: float, squint: float = 0.0, slant: float = 0.0) -> np.ndarray:
        """The window's pixels.

        Args:
            lid: 0 as in the picture, 1 closed, -1 wide open.
            gaze_x: Degrees, positive to the picture's right.
            gaze_y: Degrees, positive up.
            squint: 0 as in the picture, 1 the lower lid drawn up.
            slant: Of an upper lid that is not wide open: 1 its inner half comes down, -1 its outer half.

        Returns:
            (rows, columns, 3) uint8, RGB.
        """
        look = np.sin(np.radians([gaze_x, -gaze_y])).astype(np.float32) @ self._turn
        if not self.can_blink:
            lid = squint = slant = 0.0
        ball = self._read(self._widen(-lid, look) if lid < 0 else self._at - self._rolls[..., None] * look)
        lower = self._lower
        if squint > 0:
            lower = lower - self._squint(ball, squint)
        if lid < 0 or lid == slant == 0:
            return np.rint(ball).astype(np.uint8)

        lowered = lid + (1 - lid) * SLANTED * abs(slant) * self._halves[slant < 0] if slant else lid
        edge = self._upper + lowered * (lower - self._upper)
        drop = edge - self._upper
        top = self._upper - self._strip
        skin_end = edge - LASHES
        share = np.clip((self._y - top) / np.maximum(skin_end - top, 1e-4), 0, 1)
        stretch = (skin_end - top) / np.maximum(self._strip - LASHES, 0.02)
        start = np.where(stretch > 1.7, 1.0, stretch)  # slope that meets the unmoved skin above; straight when too long
        source = top + (start * share + (1 - start) * share**2) * np.maximum(self._strip - LASHES, 0.02)
        source = np.where(self._y > skin_end, self._y - drop, source)
        source = np.where(self._y < top, self._y, source)
        cover_at = self._at + ((source - self._y) * self._width)[..., None] * self._y_axis
        cover = self._read(cover_at)
        smooth = self._read(cover_at, self._smooth) - cover  # drawn-out skin shows streaks: its detail is left behind
        cover += (smoothstep(share, 0, 0.3) * (self._y < skin_end) * np.clip(stretch - 1, 0, 1))[..., None] * smooth

        flat = np.clip((self._y - top) / 0.15, 0, 1) * np.clip((skin_end + 0.03 - self._y) / 0.05, 0, 1)
        flat = flat * self._flat_share * smoothstep(drop / np.maximum(lower - self._upper, 0.02), 0.1, 0.6)
        flat = flat * (drop > 0.01)
        cover = cover + flat[..., None] * (self._colour * LID_SHADE - cover)
        line = LID_LINE * np.exp(-(((self._y - edge) / LASH_TIPS) ** 2)) * np.clip(drop / 0.1, 0, 1)
        cover = cover * (1 - line[..., None])
        soft = 0.7 / self._width  # of a pixel
        covers = np.clip((edge + np.minimum(LASH_TIPS, drop) - self._y) / (2 * soft) + 0.5, 0, 1)
        covers = np.where(self._y < top, 1, covers)[..., None]
        return np.rint(np.clip(ball + covers * (cover - ball), 0, 255)).astype(np.uint8)

    def _widen(self, share: float, look: np.ndarray) -> np.ndarray:
        """Where the window's pixels come from with the upper lid raised and the eye turned: (rows, columns, 2) pixels.

        The skin above is pushed together, what is seen of the eye above its middle is drawn out.
        """
        middle = (self._upper + self._lower) / 2
        top = self._upper - self._strip
        arch = np.clip(4 * self._x * (1 - self._x), 0, 1)
        rise = share * arch * np.minimum(WIDENED, (1 - WIDENED_STRIP) * self._strip)
        rise = rise * np.clip((middle - self._upper) / 0.05, 0, 1)
        edge = self._upper - rise
        skin = top + (self._y - top) * (self._upper - top) / np.maximum(edge - top, 1e-4)
        eye = middle - (middle - self._y) * (middle - self._upper) / np.maximum(middle - edge, 1e-4)
        source = np.where(self._y < edge, skin, eye)
        source = np.where((self._y < top) | (self._y > middle), self._y, source)
        at = self._at + ((source - self._y) * self._width)[..., None] * self._y_axis
        rolls = sample(self._rolls, (at - self._at[0, 0]).astype(np.float32))
        return at - rolls[..., None] * look

    def _squint(self, ball: np.ndarray, squint: float) -> np.ndarray:
        """Draw the lower lid up over the eye, in place: (rows, columns) eye widths that it comes up."""
        rise = squint * SQUINTED * np.clip(4 * self._x * (1 - self._x), 0, 1)
        rise = rise * np.clip((self._lower - self._upper) / 0.15, 0, 1)
        edge = self._lower - rise
        below = np.clip((self._y - edge) / (SQUINT_SKIN + rise), 0, 1)  # of the way down to where nothing moves
        lift = rise * (1 - below) ** 2
        skin = self._read(self._at + (lift * self._width)[..., None] * self._y_axis)
        covers = np.clip((self._y - edge) * self._width / 1.4 + 0.5, 0, 1) * (rise > 0)
        ball += covers[..., None] * (skin - ball)
        return rise

    def _measure_lid(self, lid_line: Callable[[np.ndarray], np.ndarray], brows: np.ndarray) -> None:
        """How much skin there is above the lid to draw out, its colour, and whether it is skin at all."""
        columns = np.linspace(0.1, 0.9, 33, dtype=np.float32)
        edge = lid_line(columns)
        near = (np.abs(brows[:, 0] - 0.5) < 0.75) & (brows[:, 1] < 0)
        brow = brows[near, 1].max() if near.any() else -0.5  # lowest brow point over this eye
        reach = np.clip(STRIP_TO_BROW * (edge - brow), *STRIP)
        heights = np.arange(0.04, STRIP[1], 0.01, dtype=np.float32)
        rows = edge[None] - heights[:, None]
        at = self._to_frame(np.stack([np.broadcast_to(columns, rows.shape), rows], axis=-1))
        skin = cv2.remap(self._frame, at[..., 0], at[..., 1], cv2.INTER_LINEAR).astype(np.float32)
        grey = skin.mean(axis=-1) / 255
        inside = heights[:, None] <= reach[None]
        bare = inside & (heights[:, None] > np.minimum(LASHES + 0.02, reach[None] - 0.02))  # above the lashes' shadow
        under = self._frame[self.window][(self._y > self._lower + 0.12) & (self._x > 0.1) & (self._x < 0.9)]
        fold = np.percentile(skin[bare], LID_PERCENTILE, axis=0)
        self._colour = fold + UNDER_SHARE * (np.median(under, axis=0) - fold) if under.size else fold
        usable = inside & (np.abs(grey - np.median(grey[bare])) < SKIN_RANGE)
        broken = np.maximum.accumulate(usable, axis=0) & ~usable  # the lashes' shadow at the edge may be dark
        height = np.where(broken.any(axis=0), heights[broken.argmax(axis=0)], reach)
        height = gaussian_filter1d(minimum_filter1d(np.minimum(height, reach), 5), 2)
        self._strip = np.interp(self._x, columns, height).astype(np.float32)
        thin = np.clip((PAINTED_BELOW - height.mean()) / 0.06, 0, 1)
        self._flat_share = float(FLAT_SHARE + (1 - FLAT_SHARE) * thin)
        ball = (self._y > self._upper + 0.03) & (self._y < self._lower - 0.03) & (self._rolls < 0.5)
        white = self._frame[self.window][ball].mean(axis=0) if ball.any() else np.zeros(3)
        is_skin = float(white.mean()) < 225 or float((white - self._colour).max()) > WHITE_RIM * float(white.mean())
        self.can_blink = is_skin and float((self._lower - self._upper).max()) > SMALLEST_OPENING

    def _read(self, at: np.ndarray, picture: np.ndarray | None = None) -> np.ndarray:
        at, picture = at.astype(np.float32), self._frame if picture is None else picture
        drawn = cv2.remap(picture, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return drawn.astype(np.float32)

    def _to_eye(self, at: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) to eye widths (..., 2), x from the left corner to the right one, y down."""
        offset = (at - self._left) / self._width
        return np.stack([offset @ self._x_axis, offset @ self._y_axis], axis=-1).astype(np.float32)

    def _to_frame(self, place: np.ndarray) -> np.ndarray:
        """Eye widths (..., 2) to pixels (..., 2)."""
        x, y = place[..., :1], place[..., 1:]
        return (self._left + self._width * (x * self._x_axis + y * self._y_axis)).astype(np.float32)


def both_eyes(frame: np.ndarray, landmarks: np.ndarray) -> tuple[Eye, Eye]:
    """The eyes of a face, left and right as seen in the picture."""
    left = Eye(frame, landmarks, LEFT_EYE_UPPER, LEFT_EYE_LOWER, LEFT_IRIS)
    right = Eye(frame, landmarks, RIGHT_EYE_UPPER, RIGHT_EYE_LOWER, RIGHT_IRIS)
    left.can_blink = right.can_blink = left.can_blink and right.can_blink  # one alone would wink
    return left, right


def _curve(points: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """y(x) through a lid's landmarks, level beyond its corners."""
    x = np.maximum.accumulate(points[:, 0] + np.arange(len(points)) * 1e-5)
    spline = PchipInterpolator(x, points[:, 1])
    return lambda at: spline(np.clip(at, x[0], x[-1])).astype(np.float32)
