"""What is heard, as movements of one face: MouthTrack and HeadTrack in, a Moment per frame out. Draws nothing."""

from collections.abc import Iterator

from pipeline.draft.expression import JAW_DROP
from pipeline.draft.geometry import FaceGeometry
from pipeline.draft.motion import HeadTrack
from pipeline.draft.pose import Pose
from pipeline.draft.puppet import Moment
from pipeline.draft.speech import MouthTrack

# How far apart the lips of a face that smiles with open lips stay, as shares of that smile closed.
TALKING_CLOSED = 0.80  # while it speaks: part of the smile stays
PAUSE_CLOSED = 0.97  # in a pause between words: nearly shut, so that a pause is seen
SMILE_RELAXED = 0.30  # of a smile's lift given up while speaking, more for rounded lips


def act(mouth: MouthTrack, head: HeadTrack, face: FaceGeometry) -> Iterator[Moment]:
    """One Moment per frame of the tracks."""
    for i in range(len(mouth.jaw)):
        hold, speak, close, fv = (float(track[i]) for track in (mouth.hold, mouth.speak, mouth.close, mouth.fv))
        wide, pucker, loudness = float(mouth.wide[i]), float(mouth.pucker[i]), float(mouth.loudness[i])
        sealed = max(close, fv)
        closed = hold * (speak * TALKING_CLOSED + (1 - speak) * PAUSE_CLOSED)
        closed = max(closed, sealed, 0.92 * pucker) if face.is_open else 0.0
        jaw = max(float(mouth.jaw[i]) - (1 - closed) * face.gap / JAW_DROP, 0.0)  # open lips need less jaw
        movements = {
            "jaw": jaw,
            "gapclose": closed,
            "wide": wide if wide > 0 else wide * (1 - 0.6 * pucker),
            "pucker": pucker,
            "relax": max(SMILE_RELAXED * hold, 0.85 * pucker, 0.5 * close),
            "uraise": (0.35 * max(wide, 0.0) + 0.25 * jaw) * (1 - sealed),
            "ldrop": 0.30 * jaw * (1 - sealed),
            "press": close * (0.6 + 0.4 * loudness),
            "fv": fv * (1 - close),
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
