"""How skin moves: smooth displacement fields of one face, one per movement, solved once and added up per frame.

The plane is slit along the line between the lips, so that they part. What lies above the slit and what lies below it
are two sheets; each is continued a little past the slit, so that either can be drawn up to its moved edge.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse import coo_matrix, diags, identity
from scipy.sparse.linalg import splu

from pipeline.draft.geometry import (
    BROWS,
    CHIN,
    FACE_OVAL,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LEFT_EYE_INNER,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LEFT_IRIS,
    NOSE,
    OUTER_LOWER_LIP,
    OUTER_UPPER_LIP,
    RIGHT_EYE_INNER,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    RIGHT_IRIS,
    FaceGeometry,
    sample,
    smoothstep,
    weighted_sum,
)

MOVEMENTS = ("jaw", "gapclose", "wide", "pucker", "relax", "uraise", "ldrop", "press", "fv", "brow")
MOOD_MOVEMENTS = ("smile", "droop", "worry", "frown", "startle")  # solved when a face first takes on a mood

# Landmark numbers. Source: MediaPipe's canonical face model
CHEEKS = [50, 205, 36, 207, 187, 280, 425, 266, 427, 411]
UNDER_EYES = [111, 117, 118, 119, 120, 121, 340, 346, 347, 348, 349, 350]  # where glasses rest: not a smile's to lift

NODES_PER_UNIT = 26  # grid nodes along a mouth's width: the lips are about three nodes thick
MARGINS = (0.18, 0.12, 0.34)  # of the face: at each side, above and below it; where all movement has died away
NECK = 0.30  # face heights below the chin from where nothing moves
STIFFNESS = 0.002  # of the membrane beside the plate: keeps far regions from swinging
HOLD = 60.0  # weight of one landmark's target against the plate's bending
FREE_RING = 0.12  # units around the lips whose landmarks are left to the plate; pinned, they crease the skin
OVERLAP = (0.40, 0.58)  # units past the slit over which a sheet's continuation fades into the true field
BESIDE = 0.30  # units beside the corners over which it does so
DAMPING = 0.65  # of the fixed-point inversion; undamped rounds tear at the corners
FIRST_ROUNDS, LATER_ROUNDS = 8, 3  # of it: on a still face, and from the frame before

# Sizes of the movements at weight 1, units. Source: measured on two faces and eight voices by eye and by landmarks.
JAW_DROP = 0.36
WIDE = 0.085
PUCKER = 0.14
LIP_RAISE = 0.07
PRESS = 0.04
BROW_RAISE = 0.04  # eye spans

# The same of the moods'; lips in units, brows in eye spans. Source: by eye on contact sheets of the five examples.
SMILE_UP, SMILE_OUT = 0.13, 0.07  # of the mouth's corners
CHEEK_UP, CHEEK_OUT = 0.06, 0.02  # of the cheeks beside them
DROOP_DOWN, DROOP_IN = 0.11, 0.01
LIP_PUSH = 0.03  # the lower lip's middle goes up while its corners droop
WORRY_UP, WORRY_DOWN, WORRY_IN = 0.065, 0.025, 0.012  # inner brow ends up, outer ones down, all together
FROWN_DOWN, FROWN_IN, FROWN_OUTER_UP = 0.075, 0.040, 0.025
STARTLE_UP, STARTLE_ARCH = 0.060, 0.020  # whole brows up, their middles further
FOREHEAD_SHARE = 0.4  # of the brows' way that the skin above them goes


@dataclass(frozen=True)
class Expression:
    """Two sheets' displacements for one frame, as inverse maps on a grid over the face.

    Args:
        upper: (rows, columns, 2) float32, pixels to add to a place in the frame to find where it came from.
        lower: The same for the sheet below the slit.
        upper_lip: (CURVE_POINTS, 2) the upper lip's inner edge, moved, pixels.
        lower_lip: The lower lip's inner edge, moved.
    """

    upper: np.ndarray
    lower: np.ndarray
    upper_lip: np.ndarray
    lower_lip: np.ndarray


class ExpressionFields:
    """The movements of one face.

    Args:
        face: The face in the frame.

    Attributes:
        origin: (x, y) of the grid's first node, pixels.
        step: Pixels between nodes.
        shape: (rows, columns) of the grid.
    """

    def __init__(self, face: FaceGeometry) -> None:
        self.face = face
        self.step = face.unit / NODES_PER_UNIT
        oval = face.landmarks[FACE_OVAL, :2]
        low, high = oval.min(axis=0), oval.max(axis=0)
        width, height = high - low
        side, above, below = MARGINS
        first = low - np.array([side * width, above * height])
        last = high + np.array([side * width, below * height])
        self.origin = first.astype(np.float32)
        columns, rows = np.ceil((last - first) / self.step).astype(int) + 1
        self.shape = (int(rows), int(columns))
        x = self.origin[0] + self.step * np.arange(columns, dtype=np.float32)
        y = self.origin[1] + self.step * np.arange(rows, dtype=np.float32)
        self._nodes = np.stack(np.meshgrid(x, y), axis=-1)
        self._numbers = self._grid_index(self._nodes)
        self._movements: tuple[str, ...] = MOVEMENTS
        self._upper, self._lower, self._lips = self._learn(*self._targets())
        self._close_the_gap()
        self._inverse = np.zeros((2, *self.shape, 2), np.float32)
        self._started = False

    def move(self, weights: dict[str, float]) -> Expression:
        """Add up the movements and invert them.

        Frames are meant to follow one another: the inversion starts from the frame before.

        Args:
            weights: Amount of each movement that is not at rest, 0..1; wide from -1.
        """
        if self._movements is MOVEMENTS and any(weights.get(name) for name in MOOD_MOVEMENTS):
            self._learn_moods()
        amount = np.array([weights.get(name, 0.0) for name in self._movements], np.float32)
        moving = np.flatnonzero(amount)
        rounds = LATER_ROUNDS if self._started else FIRST_ROUNDS
        self._started = True
        for sheet, fields in enumerate((self._upper, self._lower)):
            forward = weighted_sum(amount[moving], fields[moving])
            inverse = self._inverse[sheet]
            for _ in range(rounds):
                at = cv2.scaleAdd(inverse, 1 / self.step, self._numbers)
                moved = sample(forward, at)
                inverse = cv2.addWeighted(inverse, 1 - DAMPING, moved, -DAMPING, 0)
            self._inverse[sheet] = inverse
        lips = weighted_sum(amount, self._lips)
        return Expression(
            upper=self._inverse[0],
            lower=self._inverse[1],
            upper_lip=self.face.upper + lips[0],
            lower_lip=self.face.lower + lips[1],
        )

    def sample(self, inverse: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Read one of a frame's inverse maps at (rows, columns, 2) pixels; zero outside the face."""
        at = self._grid_index(points)
        return sample(inverse, at, cv2.BORDER_CONSTANT)

    def _grid_index(self, points: np.ndarray) -> np.ndarray:
        """Pixels to node numbers, not rounded."""
        at = points - self.origin
        at /= np.float32(self.step)
        return at.astype(np.float32, copy=False)

    def _sample(self, fields: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(movements, rows, columns, 2) fields at (n, 2) pixels: (movements, n, 2)."""
        at = self._grid_index(points.astype(np.float32))[None]
        return np.stack([cv2.remap(field, at[..., 0], at[..., 1], cv2.INTER_LINEAR)[0] for field in fields])

    def _learn(self, targets: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Both sheets' fields, (movements, rows, columns, 2) each, and the lips', (movements, 2, CURVE_POINTS, 2)."""
        fields = self._solve(targets, sides)
        upper, lower = (self._continue_sheet(fields, side) for side in (-1, 1))
        lips = np.stack([self._sample(upper, self.face.upper), self._sample(lower, self.face.lower)], axis=1)
        return upper, lower, lips

    def _learn_moods(self) -> None:
        """Add the movements of moods, which clips without one need not wait for."""
        *sheets, lips = self._learn(*self._mood_targets())
        lips[:] = lips.mean(axis=1, keepdims=True)  # a mood bends the line between the lips and never parts them
        self._upper, self._lower = (
            np.concatenate(pair) for pair in zip((self._upper, self._lower), sheets, strict=True)
        )
        self._lips = np.concatenate([self._lips, lips])
        self._movements = MOVEMENTS + MOOD_MOVEMENTS

    def _targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Where every landmark goes under every movement.

        Returns:
            (movements, 478, 2) units of (u, v), NaN where a landmark is left to the plate; and (478,) int8: -1 for
            landmarks that belong above the slit, 1 below it, 0 for those that are beyond its ends.
        """
        face = self.face
        place = face.to_face(face.landmarks[:, :2])
        u, v = place[:, 0], place[:, 1] - face.seam_at(place[:, 0])
        left, right = face.half_widths
        t = np.where(u < 0, -u / left, u / right)
        profile = np.maximum(1 - t**2, 0) ** 0.75
        sign = np.sign(u)
        chin_v = place[CHIN, 1]

        target = np.full((len(MOVEMENTS), len(place), 2), np.nan, np.float32)
        outer_upper, outer_lower = OUTER_UPPER_LIP[1:-1], OUTER_LOWER_LIP[1:-1]
        inner_upper, inner_lower = INNER_UPPER_LIP[1:-1], INNER_LOWER_LIP[1:-1]
        corners = [OUTER_UPPER_LIP[0], OUTER_UPPER_LIP[-1], INNER_UPPER_LIP[0], INNER_UPPER_LIP[-1]]
        upper_lip, lower_lip = outer_upper + inner_upper, outer_lower + inner_lower
        lips = upper_lip + lower_lip + corners
        eyes = [*LEFT_EYE_UPPER, *LEFT_EYE_LOWER, *RIGHT_EYE_UPPER, *RIGHT_EYE_LOWER, *LEFT_IRIS, *RIGHT_IRIS]
        still = list({*eyes, *BROWS, *NOSE, *FACE_OVAL})

        def put(movement: str, where: list[int], du: object, dv: object) -> None:
            row = target[MOVEMENTS.index(movement)]
            row[where, 0] = np.broadcast_to(np.asarray(du, np.float32), len(where))
            row[where, 1] = np.broadcast_to(np.asarray(dv, np.float32), len(where))

        for movement in MOVEMENTS:
            put(movement, still, 0, 0)

        # The jaw takes the lower lip, the chin and most of the cheeks with it.
        oval_u = np.abs(place[FACE_OVAL, 0]).max()
        jaw_half = max(abs(place[172, 0]), abs(place[397, 0]), 0.6 * oval_u)
        outline = cv2.convexHull(face.landmarks[OUTER_UPPER_LIP + OUTER_LOWER_LIP, :2].astype(np.float32))
        near_lips = np.array(
            [
                cv2.pointPolygonTest(outline, (float(x), float(y)), True) > -FREE_RING * face.unit
                for x, y in face.landmarks[:, :2]
            ]
        )
        rest = [i for i in range(len(place)) if i not in lips and (not near_lips[i] or i == CHIN) and i not in eyes]
        fall = smoothstep(v, -0.02, 0.22) * (1 - 0.88 * smoothstep(np.abs(u) / jaw_half, 0.25, 1.02))
        fall = fall * (1 - 0.16 * smoothstep(v / max(chin_v, 0.3), 0.4, 1.0))
        put("jaw", rest, 0, (JAW_DROP * fall)[rest])
        inwards = -0.05 * sign * np.minimum(t, 1) ** 2
        put("jaw", lower_lip, inwards[lower_lip], (JAW_DROP * (0.74 * profile + 0.26))[lower_lip])
        put(
            "jaw",
            upper_lip,
            inwards[upper_lip],
            (-0.035 * profile + 0.26 * JAW_DROP * np.minimum(t, 1) ** 3)[upper_lip],
        )
        put("jaw", corners, inwards[corners], 0.26 * JAW_DROP)

        # The lips of an open mouth meet at 0.38 of their distance.
        upper_v, lower_v = (face.to_face(curve) for curve in (face.upper, face.lower))
        gap = np.interp(u, upper_v[:, 0], lower_v[:, 1] - upper_v[:, 1])
        for where, share in (
            (inner_upper, 0.38),
            (outer_upper, 0.30 * 0.38),
            (inner_lower, -0.62),
            (outer_lower, -0.50 * 0.62),
        ):
            put("gapclose", where, 0, share * gap[where])
        put("gapclose", corners, 0, 0)

        reach = np.minimum(t, 1.15)
        put("wide", lips, (WIDE * sign * reach)[lips], 0)
        put("pucker", lips, (-PUCKER * sign * reach)[lips], 0)
        put("pucker", outer_upper, (-PUCKER * sign * reach)[outer_upper], -0.04 * profile[outer_upper])
        put("pucker", outer_lower, (-PUCKER * sign * reach)[outer_lower], 0.04 * profile[outer_lower])
        lift = face.seam_at(u) - face.seam_at(np.zeros(1, np.float32))  # a smile's corners stand above its middle
        put("relax", lips, 0, -np.minimum(lift, 0)[lips])
        put("uraise", upper_lip, 0, -LIP_RAISE * profile[upper_lip])
        put("uraise", lower_lip + corners, 0, 0)
        put("ldrop", lower_lip, 0, LIP_RAISE * profile[lower_lip])
        put("ldrop", upper_lip + corners, 0, 0)
        put("press", lips, 0, 0)
        put("press", outer_upper, 0, PRESS * profile[outer_upper])
        put("press", outer_lower, 0, -PRESS * profile[outer_lower])
        put("fv", upper_lip, 0, -0.055 * profile[upper_lip])
        put("fv", lower_lip, 0, -0.05 * profile[lower_lip])
        put("fv", corners, 0, 0)
        put("brow", lips, 0, 0)
        put("brow", BROWS, 0, -BROW_RAISE * face.eye_span)
        forehead = [i for i in range(len(place)) if place[i, 1] < place[BROWS, 1].min() - 0.05 and i not in FACE_OVAL]
        put("brow", forehead, 0, -0.4 * BROW_RAISE * face.eye_span)

        sides = np.zeros(len(place), np.int8)
        sides[upper_lip], sides[lower_lip] = -1, 1
        return target, sides

    def _mood_targets(self) -> tuple[np.ndarray, np.ndarray]:
        """The same as `_targets` for the moods' movements: all hold the same landmarks, one factorisation for all."""
        face = self.face
        place = face.to_face(face.landmarks[:, :2])
        u = place[:, 0]
        left, right = face.half_widths
        t = np.minimum(np.where(u < 0, -u / left, u / right), 1.15)
        profile = np.maximum(1 - t**2, 0)
        sign = np.sign(u)
        upper_lip = OUTER_UPPER_LIP[1:-1] + INNER_UPPER_LIP[1:-1]
        lower_lip = OUTER_LOWER_LIP[1:-1] + INNER_LOWER_LIP[1:-1]
        corners = [OUTER_UPPER_LIP[0], OUTER_UPPER_LIP[-1], INNER_UPPER_LIP[0], INNER_UPPER_LIP[-1]]
        lips = upper_lip + lower_lip + corners
        eyes = [*LEFT_EYE_UPPER, *LEFT_EYE_LOWER, *RIGHT_EYE_UPPER, *RIGHT_EYE_LOWER, *LEFT_IRIS, *RIGHT_IRIS]
        middle = face.to_face(face.landmarks[[LEFT_EYE_INNER, RIGHT_EYE_INNER], :2]).mean(axis=0)[0]
        forehead = [i for i in range(len(place)) if place[i, 1] < place[BROWS, 1].min() - 0.05 and i not in FACE_OVAL]

        target = np.full((len(MOOD_MOVEMENTS), len(place), 2), np.nan, np.float32)
        target[:, [*eyes, *UNDER_EYES, *NOSE, *FACE_OVAL, *BROWS, *forehead, *lips, *CHEEKS]] = 0

        def put(movement: str, where: list[int], du: np.ndarray | float, dv: np.ndarray | float) -> None:
            row = target[MOOD_MOVEMENTS.index(movement)]
            row[where] = np.stack(np.broadcast_arrays(du, dv), axis=-1)

        put("smile", lips, (SMILE_OUT * sign * t)[lips], (-SMILE_UP * t**2)[lips])
        put("smile", CHEEKS, CHEEK_OUT * sign[CHEEKS], -CHEEK_UP)
        put("droop", lips, (-DROOP_IN * sign * t)[lips], (DROOP_DOWN * t**2 - LIP_PUSH * profile)[lips])

        # From 0 at a brow's outer end to 1 at its inner one; the forehead above goes along with what is below it.
        brow_u = np.abs(u - middle)
        outer, inner = brow_u[BROWS].max(), brow_u[BROWS].min()
        inwards = np.clip((outer - brow_u) / (outer - inner), 0, 1)
        towards = -np.sign(u - middle)
        worry = WORRY_DOWN * (1 - inwards) ** 2 - WORRY_UP * inwards**1.5
        frown = FROWN_DOWN * inwards - FROWN_OUTER_UP * (1 - inwards) ** 2
        startle = -STARTLE_UP - STARTLE_ARCH * 4 * inwards * (1 - inwards)
        for movement, inward, down in (
            ("worry", WORRY_IN, worry),
            ("frown", FROWN_IN, frown),
            ("startle", 0.0, startle),
        ):
            across = inward * inwards * towards
            for where, share in ((BROWS, face.eye_span), (forehead, FOREHEAD_SHARE * face.eye_span)):
                put(movement, where, share * across[where], share * down[where])

        sides = np.zeros(len(place), np.int8)
        sides[upper_lip], sides[lower_lip] = -1, 1
        return target, sides

    def _solve(self, targets: np.ndarray, sides: np.ndarray) -> np.ndarray:
        """Bend a thin plate, slit between the lips, through every movement's targets: (movements, rows, columns, 2)."""
        face, (rows, columns) = self.face, self.shape
        place = face.to_face(self._nodes)
        left, right = face.half_widths
        u, v = place[..., 0], place[..., 1]
        below = v > face.seam_at(u)
        in_mouth = (u > -left) & (u < right)
        number = np.arange(rows * columns).reshape(rows, columns)

        def edges(a: tuple[slice, ...], b: tuple[slice, ...]) -> np.ndarray:
            kept = ~(in_mouth[a] & in_mouth[b] & (below[a] != below[b]))
            return np.stack([number[a][kept], number[b][kept]])

        across = edges(np.s_[:, :-1], np.s_[:, 1:])
        down = edges(np.s_[:-1, :], np.s_[1:, :])
        i, j = np.concatenate([across, down], axis=1)
        size = rows * columns
        adjacency = coo_matrix((np.ones(2 * len(i)), (np.r_[i, j], np.r_[j, i])), shape=(size, size)).tocsr()
        laplacian = diags(np.asarray(adjacency.sum(axis=1)).ravel()) - adjacency

        border = np.ones(self.shape, bool)
        border[1:-1, 1:-1] = False
        border |= v > face.to_face(face.landmarks[CHIN, :2])[1] + NECK * face.face_height
        fixed = number[border]
        nodes = self._nearest_nodes(sides, below)

        # The movements differ in which landmarks they hold: group those that hold the same, one factorisation each.
        solved = np.zeros((len(targets), size, 2), np.float32)
        bending = laplacian.T @ laplacian + STIFFNESS * laplacian + 1e-9 * identity(size)
        held = ~np.isnan(targets[..., 0])
        groups: dict[bytes, list[int]] = {}
        for movement, mask in enumerate(held):
            groups.setdefault(mask.tobytes(), []).append(movement)
        for movements in groups.values():
            mask = held[movements[0]]
            weight = np.bincount(nodes[mask], minlength=size).astype(np.float64) * HOLD
            weight[fixed] += HOLD
            # Symmetric and positive definite: an order made for that, and no pivoting, halve the time and save a third.
            matrix = (bending + diags(weight)).tocsc()
            factor = splu(matrix, "MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True})
            for movement in movements:
                for axis in range(2):
                    pull = np.bincount(nodes[mask], targets[movement, mask, axis], minlength=size) * HOLD
                    solved[movement, :, axis] = factor.solve(pull)
            del factor  # 17 MB, before the next is made
        axes = np.stack([face.u_axis, face.v_axis]).astype(np.float32) * face.unit
        return (solved @ axes).reshape(len(targets), rows, columns, 2).astype(np.float32)

    def _nearest_nodes(self, sides: np.ndarray, below: np.ndarray) -> np.ndarray:
        """The node each landmark holds: the nearest one, on the landmark's own side of the slit."""
        rows, columns = self.shape
        at = np.rint(self._grid_index(self.face.landmarks[:, :2])).astype(int)
        at = np.clip(at, 0, [columns - 1, rows - 1])
        for landmark in np.flatnonzero(sides):
            column, row = at[landmark]
            while 0 < row < rows - 1 and below[row, column] != (sides[landmark] > 0):
                row += sides[landmark]
            at[landmark, 1] = row
        return at[:, 1] * columns + at[:, 0]

    def _continue_sheet(self, fields: np.ndarray, side: int) -> np.ndarray:
        """Give the nodes past the slit what stands 1.5 nodes on the sheet's own side of it.

        Args:
            fields: (movements, rows, columns, 2).
            side: -1 for the sheet above the slit, 1 for the one below.
        """
        face = self.face
        place = face.to_face(self._nodes)
        u, past = place[..., 0], -side * (place[..., 1] - face.seam_at(place[..., 0]))
        left, right = face.half_widths
        own_side = np.stack([u, face.seam_at(u) + side * 1.5 / NODES_PER_UNIT], axis=-1)
        at = self._grid_index(face.to_frame(own_side))
        beside = np.maximum(np.maximum(-u - left, u - right), 0)
        share = (past > -1.5 / NODES_PER_UNIT) * (1 - smoothstep(past, *OVERLAP)) * (1 - smoothstep(beside, 0, BESIDE))
        share = share.astype(np.float32)[..., None]
        return np.stack(
            [
                field
                + share
                * (cv2.remap(field, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) - field)
                for field in fields
            ]
        )

    def _close_the_gap(self) -> None:
        """Scale "gapclose" so that at weight 1 the lips of an open mouth just meet; at rest on a closed one."""
        movement = MOVEMENTS.index("gapclose")
        if not self.face.is_open:
            self._lips[movement] = self._upper[movement] = self._lower[movement] = 0
            return
        gap = (self.face.lower - self.face.upper) @ self.face.v_axis
        upper, lower = self._lips[movement] @ self.face.v_axis
        middle = gap > 0.5 * gap.max()
        scale = np.float32((gap[middle] / (upper - lower)[middle]).mean())
        for fields in (self._lips, self._upper, self._lower):
            fields[movement] *= scale
