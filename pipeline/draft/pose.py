"""How a head turns: a small rotation of the face's relief, on a coarse grid over the whole frame.

Near the face the frame moves as the relief does; it comes to rest at the shoulders and at the frame's edge.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from pipeline.draft.geometry import CHIN, FACE_OVAL, FOREHEAD, FaceGeometry, sample, smoothstep, weighted_sum

RELIEF_BLUR = 0.07  # face heights: smooth enough that the 478 depths make one surface
PIVOT = 0.18  # face heights below the chin: where the neck bends
NECK_END = 0.55  # face heights below the chin: where the shoulders begin and nothing turns
EDGE = 0.07  # of the frame's shorter side: the band in which movement dies away towards its edge
HEAD_REST = (1.0, 1.9)  # ellipses of the face between which movement dies away when no matte holds the background
ROUNDS = 4  # of the fixed-point inversion; the fields are smooth, and 4 leave under 0.25 px at 10 degrees


@dataclass(frozen=True)
class Pose:
    """One frame's head.

    Args:
        yaw: Degrees, positive to the picture's right.
        pitch: Degrees, positive lifts the chin.
        roll: Degrees, positive clockwise.
        shift_x: Share of the frame's shorter side.
        shift_y: Share of the frame's shorter side, positive down.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0


class PoseFields:
    """The turns of one head.

    Args:
        face: The face in the frame.
        size: (height, width) of the frame, pixels.
        step: Pixels between nodes; both sides are multiples of it. Node i stands at (i + 0.5) step - 0.5, the middle
            of its cell, so that cv2.resize brings a map on these nodes to full size.
        has_matte: Whether the background is held still by a matte. If not, movement dies away around the head.
    """

    def __init__(self, face: FaceGeometry, size: tuple[int, int], step: int, has_matte: bool) -> None:
        y, x = ((np.arange(side // step, dtype=np.float32) + 0.5) * step - 0.5 for side in size)
        self.nodes = np.stack(np.meshgrid(x, y), axis=-1)
        self._step = step
        self._posed: tuple[Pose, np.ndarray] | None = None
        place = face.to_face(self.nodes)
        u, v = place[..., 0], place[..., 1]
        height = face.face_height
        chin_v = face.to_face(face.landmarks[CHIN, :2])[1]
        relief = self._relief(face, size, step)
        pivot = chin_v + PIVOT * height
        stays = self._weight(face, place, has_matte)
        frame_axes = np.stack([face.u_axis, face.v_axis]).astype(np.float32)
        share_to_units = min(size) / face.unit
        zero = np.zeros_like(u)
        fields = {
            "yaw": (relief, zero),
            "pitch": (zero, -(relief + 0.12 * (pivot - v))),
            "roll": (pivot - v, u),
            "shift_x": (zero + share_to_units, zero),
            "shift_y": (zero, zero + share_to_units),
        }
        self._fields = np.stack(
            [(np.stack(field, axis=-1) * stays[..., None] * face.unit) @ frame_axes for field in fields.values()]
        ).astype(np.float32)

    def invert(self, pose: Pose) -> np.ndarray:
        """Where each node's content came from: (rows, columns, 2) float32 pixels."""
        forward = self._forward(pose)
        came_from = self.nodes - forward
        for _ in range(ROUNDS - 1):
            came_from = self.nodes - self._read(forward, came_from)
        return came_from

    def follow(self, pose: Pose, points: np.ndarray) -> np.ndarray:
        """Where (n, 2) pixels go."""
        return points + self._read(self._forward(pose), points[None].astype(np.float32))[0]

    def read_map(self, came_from: np.ndarray, points: np.ndarray) -> np.ndarray:
        """An inverted pose between its nodes: where the content of (rows, columns, 2) pixels came from."""
        return points + self._read(came_from - self.nodes, points)

    def _forward(self, pose: Pose) -> np.ndarray:
        """(rows, columns, 2) pixels of movement at every node; kept for the pose asked for last."""
        if self._posed is not None and self._posed[0] == pose:
            return self._posed[1]
        turns = np.sin(np.radians([pose.yaw, pose.pitch, pose.roll]))
        forward = weighted_sum(np.array([*turns, pose.shift_x, pose.shift_y], np.float32), self._fields)
        self._posed = pose, forward
        return forward

    def _read(self, field: np.ndarray, points: np.ndarray) -> np.ndarray:
        """A field at (rows, columns, 2) pixels."""
        at = points + 0.5
        at /= self._step
        at -= 0.5
        return sample(field, at.astype(np.float32, copy=False))

    @staticmethod
    def _relief(face: FaceGeometry, size: tuple[int, int], step: int) -> np.ndarray:
        """Height of the face above the ears' level, towards the viewer, units; falls to 0 outside the face."""
        rows, columns = (side // step for side in size)
        height_px = face.face_height * face.unit
        at = np.clip(((face.landmarks[:, :2] + 0.5) / step).astype(int), 0, [columns - 1, rows - 1])
        total, count = np.zeros((2, rows, columns))
        ears = face.landmarks[[234, 454], 2].mean()
        np.add.at(total, (at[:, 1], at[:, 0]), np.maximum(ears - face.landmarks[:, 2], 0) / face.unit)
        np.add.at(count, (at[:, 1], at[:, 0]), 1)
        sigma = RELIEF_BLUR * height_px / step
        count = gaussian_filter(count, sigma)
        spread = gaussian_filter(total, sigma) / (count + 0.02 * count.max())
        inside = np.zeros((rows, columns), np.uint8)
        oval = ((face.landmarks[FACE_OVAL, :2] + 0.5) / step).astype(np.int32)
        cv2.fillPoly(inside, [oval], 1)
        return (spread * gaussian_filter(inside.astype(np.float64), 1.3 * sigma)).astype(np.float32)

    @staticmethod
    def _weight(face: FaceGeometry, place: np.ndarray, has_matte: bool) -> np.ndarray:
        """1 on the head, 0 at the shoulders and at the frame's edge."""
        v = place[..., 1]
        forehead_v, chin_v = face.to_face(face.landmarks[[FOREHEAD, CHIN], :2])[:, 1]
        height = chin_v - forehead_v
        weight = 1 - smoothstep(v, chin_v, chin_v + NECK_END * height)
        least = min(v.shape)
        for axis, nodes in enumerate(v.shape):
            edge = (np.arange(nodes) + 0.5) / least
            window = smoothstep(np.minimum(edge, nodes / least - edge) - 1 / least, 0, EDGE)
            weight = weight * np.expand_dims(window, 1 - axis)
        if not has_matte:
            middle_v = (forehead_v + chin_v) / 2
            radius = np.hypot(place[..., 0] / (0.42 * height), (v - middle_v) / (0.62 * height))
            weight = weight * (1 - smoothstep(radius, *HEAD_REST))
        return weight.astype(np.float32)
