"""One frame from one face and one moment: skin, mouth, eyes, head and background put together.

Every pixel of skin is read from the picture once, through the head's turn and the expression joined in one map, so
that the clip is as sharp as a single resampling allows.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from pipeline.draft.expression import JAW_DROP, Expression, ExpressionFields
from pipeline.draft.eyes import both_eyes
from pipeline.draft.geometry import measure_face, smoothstep
from pipeline.draft.matte import cut_out
from pipeline.draft.mouth import MouthInterior
from pipeline.draft.pose import Pose, PoseFields

MAP_STEP = 4  # pixels between nodes of the joined map: finer than the fields it joins, 16 times fewer than pixels
AROUND_MOUTH = (0.45, 0.40, 0.75)  # units beside, above and below the lips where the lower sheet is drawn
LIP_EDGE_PX = 0.8  # half the width of the soft edge of a lip, so that it does not crawl; wider on large mouths
LIP_EDGE = 1 / 130  # units
CORNER_TAPER = (
    0.12  # of the mouth's width at each end over which the gap closes: a hole must not end in an upright edge
)
CORNER_EDGE = 0.10  # units: beyond a corner the two sheets melt into each other over this height
BESIDE_MOUTH = (0.15, 0.35)  # units beside a corner over which the lower sheet's part of the frame ends
THIN_GAP = 0.022  # units: a gap this thin is half dark, a thinner one less


@dataclass(frozen=True)
class Moment:
    """What a face does in one frame.

    Args:
        movements: Weights for ExpressionFields.move.
        tongue: 0 at rest, 1 raised.
        pose: The head.
        lid: 0 open, 1 closed.
        gaze: Degrees, positive to the picture's right and up.
    """

    movements: dict[str, float] = field(default_factory=dict)
    tongue: float = 0.0
    pose: Pose = field(default_factory=Pose)
    lid: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)


class Puppet:
    """A face that can be moved.

    Args:
        frame: (size, size, 3) uint8, RGB, the face at rest; size a multiple of MAP_STEP.
        landmarks: (478, 3) float32, pixels of the frame.
        mask: (size, size) float32, 0..1, where the person is.
    """

    def __init__(self, frame: np.ndarray, landmarks: np.ndarray, mask: np.ndarray) -> None:
        self._size = frame.shape[0]
        self.face = measure_face(frame, landmarks)
        self.matte = cut_out(frame, mask, self.face)
        self._fields = ExpressionFields(self.face)
        self._pose = PoseFields(self.face, self._size, MAP_STEP, has_matte=self.matte is not None)
        self._mouth = MouthInterior(frame, self.face)
        self._eyes = both_eyes(frame, landmarks)
        self._eyes_drawn = (0.0, 0.0, 0.0)
        self._skin = frame.copy() if self.matte is None else self.matte.foreground.copy()
        at = np.arange(self._size, dtype=np.float32)
        self._pixels = np.stack(np.meshgrid(at, at), axis=-1)

    def draw(self, moment: Moment) -> np.ndarray:
        """Draw one frame: (size, size, 3) uint8, RGB. Frames are meant to follow one another."""
        self._draw_eyes(moment)
        expression = self._fields.move(moment.movements)
        head = self._pose.invert(moment.pose)
        skin = head + self._fields.sample(expression.upper, head)
        shift = cv2.resize(skin - self._pose.nodes, (self._size, self._size), interpolation=cv2.INTER_LINEAR)
        shift += self._pixels
        drawn = cv2.remap(self._skin, shift[..., 0], shift[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        if self.matte is not None:
            alpha = cv2.extractChannel(drawn, 3).astype(np.float32) * np.float32(1 / 255)
            drawn = cv2.cvtColor(drawn, cv2.COLOR_RGBA2RGB)
            drawn = cv2.blendLinear(drawn, self.matte.background, alpha, 1 - alpha)
        self._draw_mouth(drawn, head, expression, moment)
        return drawn

    def _draw_eyes(self, moment: Moment) -> None:
        """Bring the eyes in the skin up to date."""
        wanted = (round(moment.lid, 3), round(moment.gaze[0], 2), round(moment.gaze[1], 2))
        if wanted != self._eyes_drawn:
            self._eyes_drawn = wanted
            for eye in self._eyes:
                self._skin[eye.window][..., :3] = eye.draw(*wanted)

    def _draw_mouth(self, drawn: np.ndarray, head: np.ndarray, expression: Expression, moment: Moment) -> None:
        """Lay the mouth's interior and the lower lip over a frame whose skin was drawn as the upper sheet."""
        face = self.face
        lips = self._pose.follow(moment.pose, np.concatenate([expression.upper_lip, expression.lower_lip]))
        beside, above, below = (margin * face.unit for margin in AROUND_MOUTH)
        before, after = np.array([beside, above]), np.array([beside, below])
        limit = self._size
        left, top = (np.clip(np.floor(lips.min(axis=0) - before), 0, limit - 1)).astype(int)
        right, bottom = (np.clip(np.ceil(lips.max(axis=0) + after), [left + 1, top + 1], limit)).astype(int)
        window = np.s_[top:bottom, left:right]

        at = self._pose.read_map(head, self._pixels[window])
        lower_at = at + self._fields.sample(expression.lower, at)
        lower = cv2.remap(
            self._skin, lower_at[..., 0], lower_at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )

        place = face.to_face(at)
        upper_edge, lower_edge = face.to_face(expression.upper_lip), face.to_face(expression.lower_lip)
        gap_top = np.interp(place[..., 0], upper_edge[:, 0], upper_edge[:, 1])
        gap_bottom = np.interp(place[..., 0], lower_edge[:, 0], lower_edge[:, 1])
        left_corner, right_corner = ((upper_edge[end, 0] + lower_edge[end, 0]) / 2 for end in (0, -1))
        from_corner = np.minimum(place[..., 0] - left_corner, right_corner - place[..., 0])
        taper = smoothstep(from_corner, 0, CORNER_TAPER * (right_corner - left_corner))
        middle = (gap_top + gap_bottom) / 2
        gap = np.maximum(gap_bottom - gap_top, 0) * taper
        gap_top, gap_bottom = middle - gap / 2, middle + gap / 2
        edge = max(LIP_EDGE_PX / face.unit, LIP_EDGE) + CORNER_EDGE * smoothstep(-from_corner, -0.03, 0.10)
        is_lower = 1 - smoothstep(-from_corner, *BESIDE_MOUTH)  # further out the sheets are one
        is_lower *= np.clip((place[..., 1] - gap_bottom) / (2 * edge) + 0.5, 0, 1)
        is_below_upper = np.clip((place[..., 1] - gap_top) / (2 * edge) + 0.5, 0, 1)[..., None]

        out = drawn[window].astype(np.float32)
        if gap.max() > 1e-3:
            inside = self._mouth.compose(
                at,
                expression.upper_lip,
                expression.lower_lip,
                jaw_drop=0.92 * JAW_DROP * moment.movements.get("jaw", 0.0),
                tongue=moment.tongue,
                pucker=moment.movements.get("pucker", 0.0),
            )
            out += is_below_upper * np.clip(gap / THIN_GAP, 0, 1)[..., None] * (inside - out)
        if self.matte is not None:
            is_lower *= lower[..., 3] * np.float32(1 / 255)
        out += is_lower[..., None] * (lower[..., :3] - out)
        drawn[window] = np.clip(np.rint(out), 0, 255).astype(np.uint8)
