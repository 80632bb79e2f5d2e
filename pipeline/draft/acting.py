"""What is heard, as movements of one face: MouthTrack and HeadTrack in, a Moment per frame out. Draws nothing."""

from collections.abc import Iterator

import numpy as np

from pipeline.draft.expression import JAW_DROP
from pipeline.draft.geometry import FaceGeometry
from pipeline.draft.motion import HeadTrack
from pipeline.draft.pose import Pose
from pipeline.draft.puppet import Moment
from pipeline.draft.speech import MouthTrack

# How far apart the lips of a face that smiles with open lips stay, as shares of that smile closed.
TALKING_CLOSED = 0.80  # while it speaks: part of the smile stays
PAUSE_CLOSED = 0.97  # in a pause between words: nearly shut, so that a pause is seen
ROUNDED_CLOSED = 0.92  # of that smile closed for a full "u", whose small opening the jaw makes
JAW_SPEED, GAP_SPEED = 0.42, 0.6  # of their range a frame: lips part by 25 cm/s at most, 0.2 of a mouth's width
SMILE_RELAXED = 0.30  # of a smile's lift given up while speaking, more for rounded lips


def act(mouth: MouthTrack, head: HeadTrack, face: FaceGeometry) -> Iterator[Moment]:
    """One Moment per frame of the tracks."""
    sealed = np.maximum(mouth.close, mouth.fv)
    shut = mouth.hold * (mouth.speak * TALKING_CLOSED + (1 - mouth.speak) * PAUSE_CLOSED)
    shut = np.maximum(np.maximum(shut, sealed), ROUNDED_CLOSED * mouth.pucker) if face.is_open else np.zeros_like(shut)
    shut = 1 - within_reach(1 - shut, GAP_SPEED)
    jaws = np.maximum(within_reach(mouth.jaw, JAW_SPEED) - (1 - shut) * face.gap / JAW_DROP, 0)  # open lips need less
    for i in range(len(jaws)):
        jaw, close, open_lips = float(jaws[i]), float(mouth.close[i]), 1 - float(sealed[i])
        wide, pucker, hold = float(mouth.wide[i]), float(mouth.pucker[i]), float(mouth.hold[i])
        movements = {
            "jaw": jaw,
            "gapclose": float(shut[i]),
            "wide": wide if wide > 0 else wide * (1 - 0.6 * pucker),
            "pucker": pucker,
            "relax": max(SMILE_RELAXED * hold, 0.85 * pucker, 0.5 * close),
            "uraise": (0.35 * max(wide, 0.0) + 0.25 * jaw) * open_lips,
            "ldrop": 0.30 * jaw * open_lips,
            "press": close * (0.6 + 0.4 * float(mouth.loudness[i])),
            "fv": float(mouth.fv[i]) * (1 - close),
            "brow": float(head.brow[i]),
        }
        yield Moment(
            movements,
            tongue=float(mouth.tongue[i]),
            pose=Pose(
                yaw=float(head.yaw[i]),
                pitch=float(head.pitch[i]),
                roll=float(head.roll[i]),
                shift_x=float(head.shift_x[i]),
                shift_y=float(head.shift_y[i]),
            ),
            lid=float(head.lid[i]),
            gaze=(float(head.gaze_x[i]), float(head.gaze_y[i])),
        )


def within_reach(opening: np.ndarray, per_frame: float) -> np.ndarray:
    """The widest opening that is nowhere wider than `opening` and changes by `per_frame` a frame at most.

    Closures stay where they are; what cannot be reached between two of them is cut down.
    """
    slope = per_frame * np.arange(len(opening))  # float64: ten minutes of it are thousands, and closures are zeros
    ahead = np.minimum.accumulate(opening - slope) + slope
    behind = np.minimum.accumulate((opening + slope)[::-1])[::-1] - slope
    return np.minimum(ahead, behind)
