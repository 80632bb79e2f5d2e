"""One frame from one face and one moment: skin, mouth, eyes, head and background put together.

Every pixel of skin is read once, through the head's turn and the expression joined in one map, from a skin kept at
twice the frame's size: linear sampling of that is as sharp as cubic sampling of the frame, in a fifth of the time.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from pipeline.draft.expression import JAW_DROP, Expression, ExpressionFields
from pipeline.draft.eyes import both_eyes
from pipeline.draft.geometry import measure_face, sample, smoothstep
from pipeline.draft.matte import Matte, cut_out
from pipeline.draft.mouth import MouthInterior
from pipeline.draft.pose import Pose, PoseFields

OVERSAMPLING = 2  # skin pixels per frame pixel
MAP_STEP = 4  # pixels between nodes of the joined map: finer than the fields it joins, 16 times fewer than pixels
AROUND_MOUTH = (0.46, 0.12, 0.64)  # units beside, above and below the lips where the lower sheet is drawn
LIP_EDGE_PX = 0.8  # half the width of the soft edge of a lip, so that it does not crawl; wider on large mouths
LIP_EDGE = 1 / 130  # units
CORNER_TAPER = 0.12  # of the mouth's width at each end over which the gap closes: no hole ends in an upright edge
CORNER_EDGE = 0.10  # units: beyond a corner the two sheets melt into each other over this height
BESIDE_MOUTH = (0.30, 0.45)  # units beside a resting corner over which the lower sheet's part of the frame ends
SKIN_PIXELS = np.array([[OVERSAMPLING, 0, (OVERSAMPLING - 1) / 2], [0, OVERSAMPLING, (OVERSAMPLING - 1) / 2]])
HOLE_MARGIN_PX = 3  # around the lips' inner edges: room for their soft edge
TEETH_WITH_JAW = 0.92  # the lower lip is let down a little further than the teeth behind it
THIN_GAP = 0.022  # units: a gap this thin is half dark, a thinner one less


@dataclass(frozen=True)
class Moment:
    """What a face does in one frame.

    Args:
        movements: Weights for ExpressionFields.move.
        tongue: 0 at rest, 1 raised.
        pose: The head.
        lid: 0 open, 1 closed, -1 wide open.
        gaze: Degrees, positive to the picture's right and up.
        squint: 0 as in the picture, 1 the lower lids drawn up.
        slant: 0 as in the picture, 1 the upper lids' inner halves drawn down, -1 their outer ones.
    """

    movements: dict[str, float] = field(default_factory=dict)
    tongue: float = 0.0
    pose: Pose = field(default_factory=Pose)
    lid: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)
    squint: float = 0.0
    slant: float = 0.0


class Puppet:
    """A face that can be moved.

    Args:
        picture: (OVERSAMPLING height, OVERSAMPLING width, 3) uint8, RGB, the face at rest; height and width are
            multiples of MAP_STEP.
        landmarks: (478, 3) float32, pixels of the frame, which has half the picture's size.
        mask: (height, width) float32, 0..1, where the person is.
        fading: (height, width) float32, 0..1: by how much less anything moves, as beside another face; None for
            nowhere.

    Attributes:
        size: (height, width) of what it draws, pixels.
    """

    def __init__(
        self, picture: np.ndarray, landmarks: np.ndarray, mask: np.ndarray, fading: np.ndarray | None = None
    ) -> None:
        self.size = height, width = mask.shape
        frame = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        self.face = measure_face(frame, landmarks)
        self.matte = cut_out(frame, mask, self.face)
        self._fields = ExpressionFields(self.face)
        self._pose = PoseFields(self.face, self.size, MAP_STEP, has_matte=self.matte is not None)
        nodes = width // MAP_STEP, height // MAP_STEP
        self._moves = None if fading is None else 1 - cv2.resize(fading, nodes, interpolation=cv2.INTER_AREA)[..., None]
        self._mouth = MouthInterior(frame, self.face)
        self._eyes = both_eyes(frame, landmarks)
        self._eyes_drawn = (0.0,) * 5
        self._skin = picture.copy() if self.matte is None else _lift_off(picture, self.matte)
        self._background = None if self.matte is None else np.rint(self.matte.background).astype(np.uint8)
        y, x = (np.arange(side, dtype=np.float32) for side in self.size)
        self._pixels = np.stack(np.meshgrid(x, y), axis=-1)
        self._at_rest = cv2.split(cv2.transform(self._pixels, SKIN_PIXELS))  # x and y in the skin of each frame pixel
        # Room that every frame's drawing uses again: to ask for it anew cost several times the arithmetic in it.
        self._map = np.empty((2, height, width), np.float32)
        self._person = np.empty((height, width, self._skin.shape[2]), np.uint8)
        self._clear = np.empty((height, width), np.uint8)
        self._behind = np.empty((height, width, 3), np.uint8)

    @property
    def can_blink(self) -> bool:
        """Whether both eyes have lids to close."""
        return all(eye.can_blink for eye in self._eyes)

    def draw(self, moment: Moment) -> np.ndarray:
        """Draw one frame: (height, width, 3) uint8, RGB. Frames are meant to follow one another."""
        self._draw_eyes(moment)
        expression = self._fields.move(moment.movements)
        head = self._pose.invert(moment.pose)
        skin = head + self._fields.sample(expression.upper, head)
        moved = (skin - self._pose.nodes) * np.float32(OVERSAMPLING)
        shift = cv2.split(moved if self._moves is None else moved * self._moves)
        for part, at, place in zip(shift, self._at_rest, self._map, strict=True):
            cv2.resize(part, place.shape[::-1], place, interpolation=cv2.INTER_LINEAR)
            cv2.add(place, at, place)
        x, y = self._map
        cv2.remap(self._skin, x, y, cv2.INTER_LINEAR, self._person, borderMode=cv2.BORDER_REPLICATE)
        drawn = self._person.copy() if self._background is None else self._over(self._background)
        self._draw_mouth(drawn, head, expression, moment)
        return drawn

    def _over(self, background: np.ndarray) -> np.ndarray:
        """The person, as just drawn, over the background: a new (height, width, 3) uint8."""
        cv2.extractChannel(self._person, 3, self._clear)
        cv2.bitwise_not(self._clear, self._clear)
        cv2.cvtColor(self._clear, cv2.COLOR_GRAY2RGB, self._behind)
        cv2.multiply(background, self._behind, self._behind, scale=1 / 255)
        drawn = cv2.cvtColor(self._person, cv2.COLOR_RGBA2RGB)
        return cv2.add(drawn, self._behind, drawn)

    def _read_skin(self, at: np.ndarray) -> np.ndarray:
        """The skin at (rows, columns, 2) float32 pixels of the frame."""
        return sample(self._skin, cv2.transform(at, SKIN_PIXELS))

    def _draw_eyes(self, moment: Moment) -> None:
        """Bring the eyes in the skin up to date."""
        gaze_x, gaze_y = (round(degrees, 1) for degrees in moment.gaze)
        wanted = (round(moment.lid, 2), gaze_x, gaze_y, round(moment.squint, 2), round(moment.slant, 2))
        if wanted == self._eyes_drawn:
            return
        self._eyes_drawn = wanted
        for eye in self._eyes:
            drawn = eye.draw(*wanted)
            large = cv2.resize(drawn, None, fx=OVERSAMPLING, fy=OVERSAMPLING, interpolation=cv2.INTER_CUBIC)
            rows, columns = (slice(OVERSAMPLING * side.start, OVERSAMPLING * side.stop) for side in eye.window)
            self._skin[rows, columns, :3] = large

    def _draw_mouth(self, drawn: np.ndarray, head: np.ndarray, expression: Expression, moment: Moment) -> None:
        """Lay the mouth's interior and the lower lip over a frame whose skin was drawn as the upper sheet."""
        unit = self.face.unit
        corners = self.face.upper[[0, -1]]  # at rest: a rounded mouth draws them in
        around = np.concatenate([expression.upper_lip, expression.lower_lip, corners])
        around = self._pose.follow(moment.pose, around)
        lips = around[: -len(corners)]
        beside, above, below = (max(margin * unit, HOLE_MARGIN_PX) for margin in AROUND_MOUTH)
        window = self._window(around, beside, above, below)
        hole = self._window(lips, HOLE_MARGIN_PX, HOLE_MARGIN_PX, HOLE_MARGIN_PX)

        at = self._pose.read_map(head, self._pixels[window])
        lower = self._read_skin(at + self._fields.sample(expression.lower, at))
        place = self.face.to_face(at)
        gap_top, gap_bottom, from_corner = self._gap(expression, place[..., 0])
        edge = max(LIP_EDGE_PX / unit, LIP_EDGE) + CORNER_EDGE * smoothstep(-from_corner, -0.03, 0.10)
        is_lower = np.clip((place[..., 1] - gap_bottom) / (2 * edge) + 0.5, 0, 1)
        left, right = self.face.half_widths
        from_resting_corner = np.maximum(-place[..., 0] - left, place[..., 0] - right)
        is_lower *= 1 - smoothstep(from_resting_corner, *BESIDE_MOUTH)  # further out the sheets are one
        if self.matte is not None:
            is_lower *= lower[..., 3] == 255  # the face: where nothing shines through

        first = hole[0].start - window[0].start, hole[1].start - window[1].start
        inner = tuple(slice(i, i + side.stop - side.start) for i, side in zip(first, hole, strict=True))
        gap = (gap_bottom - gap_top)[inner]
        if gap.max() > 1e-3:
            inside = self._mouth.compose(
                at[inner],
                expression.upper_lip,
                expression.lower_lip,
                jaw_drop=TEETH_WITH_JAW * JAW_DROP * moment.movements.get("jaw", 0.0),
                tongue=moment.tongue,
                pucker=moment.movements.get("pucker", 0.0),
            )
            is_hole = np.clip((place[..., 1] - gap_top)[inner] / (2 * edge[inner]) + 0.5, 0, 1)
            is_hole *= np.clip(gap / THIN_GAP, 0, 1)
            _lay_over(drawn[hole], inside, is_hole)
        _lay_over(drawn[window], lower[..., :3], is_lower)

    def _window(self, points: np.ndarray, beside: float, above: float, below: float) -> tuple[slice, slice]:
        """Rows and columns of the frame around (n, 2) points, with margins in pixels."""
        limits = np.array(self.size[::-1])
        low = np.clip(np.floor(points.min(axis=0) - np.array([beside, above])), 0, limits - 1).astype(int)
        high = np.clip(np.ceil(points.max(axis=0) + np.array([beside, below])), low + 1, limits).astype(int)
        return slice(low[1], high[1]), slice(low[0], high[0])

    def _gap(self, expression: Expression, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The gap between the lips over each u: its top and bottom v, and how far inside the corners it is; units."""
        top, bottom = self.face.to_face(expression.upper_lip), self.face.to_face(expression.lower_lip)
        left, right = ((top[end, 0] + bottom[end, 0]) / 2 for end in (0, -1))
        from_corner = np.minimum(u - left, right - u)
        columns = np.linspace(u.min(), u.max(), 4 * len(top), dtype=np.float32)
        upper, lower = (np.interp(columns, curve[:, 0], curve[:, 1]) for curve in (top, bottom))
        middle = (upper + lower) / 2
        taper = smoothstep(np.minimum(columns - left, right - columns), 0, CORNER_TAPER * (right - left))
        gap = np.maximum(lower - upper, 0) * taper
        edges = np.stack([middle - gap / 2, middle + gap / 2], axis=-1).astype(np.float32)[None]
        index = (u - columns[0]) * ((len(columns) - 1) / max(columns[-1] - columns[0], 1e-6))
        read = cv2.remap(edges, index, np.zeros_like(index), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return read[..., 0], read[..., 1], from_corner


def _lay_over(frame: np.ndarray, layer: np.ndarray, share: np.ndarray) -> None:
    """Mix a layer into part of a frame, in place: (rows, columns, 3) uint8, the same in any type, (rows, columns)."""
    mixed = frame + share[..., None] * (layer - frame.astype(np.float32))
    frame[:] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def _lift_off(picture: np.ndarray, matte: Matte) -> np.ndarray:
    """The person's part of a picture, already multiplied by alpha, and alpha: (height, width, 4) uint8.

    Laid over the background it gives the picture again: what is lifted off is what the background does not explain.
    """
    size = picture.shape[1::-1]
    alpha = cv2.resize(matte.alpha, size, interpolation=cv2.INTER_LINEAR)
    lifted = np.empty((*picture.shape[:2], 4), np.uint8)
    lifted[..., 3] = np.rint(255 * alpha)
    for channel in range(3):  # one at a time: at full size these are the largest arrays of a render
        background = cv2.resize(matte.background[..., channel], size, interpolation=cv2.INTER_LINEAR)
        person = picture[..., channel] - (1 - alpha) * background
        lifted[..., channel] = np.rint(np.clip(person, 0, 255 * alpha, out=person))
    return lifted
