"""What is heard, as movements of one face: MouthTrack and HeadTrack in, a Moment per frame out. Draws nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from pipeline.direction import AS_USUAL, Direction, scale
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

# How far lips go, at no and at full expression: even the calmest stay readable.
JAW_SIZE, WIDE_SIZE = (0.85, 1.12), (0.80, 1.25)


@dataclass(frozen=True, kw_only=True)
class Mood:
    """What a mood adds to a face, at its full size.

    Args:
        brows: Weights of movements above the eyes.
        lips: Weights of movements about the mouth; rounded lips keep less of them.
        lid: The upper lids at rest: lowered up to 1, wide open down to -1.
        squint: The lower lids drawn up.
        slant: The upper lids' inner halves drawn down, or their outer ones (-1).
        jaw: Let down, of the range that speech leaves it, where lips are neither sealed nor rounded.
        shut: Share of an open smile in the picture that is closed.
        relax: Share of that smile's lift given up.
        narrow: Of the full "wide", by which that smile is drawn in.
    """

    brows: dict[str, float] = field(default_factory=dict)
    lips: dict[str, float] = field(default_factory=dict)
    lid: float = 0.0
    squint: float = 0.0
    slant: float = 0.0
    jaw: float = 0.0
    shut: float = 0.0
    relax: float = 0.0
    narrow: float = 0.0


MOOD_FACES = {
    "neutral": Mood(),
    "happy": Mood(brows={"startle": 0.25}, lips={"smile": 1.0}, squint=0.8),
    "sad": Mood(brows={"worry": 1.0}, lips={"droop": 0.75}, lid=0.12, slant=-0.5, shut=1.0, relax=1.0, narrow=0.6),
    "angry": Mood(
        brows={"frown": 1.0}, lips={"droop": 0.3, "press": 0.7}, squint=0.6, slant=1.0, shut=1.0, relax=0.9, narrow=0.6
    ),
    "surprised": Mood(brows={"startle": 1.2}, lid=-1.0, jaw=0.28, shut=0.8, relax=0.9, narrow=0.7),
}
ROUNDED_MOOD = 0.6  # of a mood's lips given up for a full "u"
GLASSES_BROWS = 0.25  # of a mood's brows kept behind glasses, whose rims would bend with them
SMILING_LIFT = 0.16  # units that the corners of a broad smile in the picture stand above its middle
SMILING_SPARED = {"smile": 0.7, "droop": 0.5}  # of these movements on such a face: it smiles, and its skin is drawn


def act(mouth: MouthTrack, head: HeadTrack, face: FaceGeometry, direction: Direction = AS_USUAL) -> Iterator[Moment]:
    """One Moment per frame of the tracks.

    Args:
        mouth: What the voice asks of the lips.
        head: What it asks of the rest; made for the same direction.
        face: Whose lips they are: an open smile has its own way of talking.
        direction: How far the lips go, and in what mood.
    """
    mood = MOOD_FACES[direction.mood]
    brows = np.clip(head.brow, -1, 1) if face.has_glasses else head.brow
    smiling = min(max(_lift(face) / SMILING_LIFT, 0.0), 1.0)
    sealed = np.maximum(mouth.close, mouth.fv)
    shut = mouth.hold * (mouth.speak * TALKING_CLOSED + (1 - mouth.speak) * PAUSE_CLOSED)
    shut = np.maximum(shut, mood.shut * np.minimum(head.mood, 1))
    shut = np.maximum(np.maximum(shut, sealed), ROUNDED_CLOSED * mouth.pucker) if face.is_open else np.zeros_like(shut)
    shut = 1 - within_reach(1 - shut, GAP_SPEED)
    jaws = within_reach(scale(direction.expression, *JAW_SIZE) * mouth.jaw, JAW_SPEED)
    jaws = np.maximum(jaws - (1 - shut) * face.gap / JAW_DROP, 0)  # open lips need less
    wides = scale(direction.expression, *WIDE_SIZE) * mouth.wide
    for i in range(len(jaws)):
        jaw, close, open_lips = float(jaws[i]), float(mouth.close[i]), 1 - float(sealed[i])
        wide, pucker, hold = float(wides[i]), float(mouth.pucker[i]), float(mouth.hold[i])
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
            "brow": float(brows[i]),
        }
        lid, felt = float(head.lid[i]), float(head.mood[i])
        if felt:
            rounded = felt * (1 - ROUNDED_MOOD * pucker)
            above = felt * (GLASSES_BROWS if face.has_glasses else 1.0)
            movements |= {name: weight * above for name, weight in mood.brows.items()}
            for name, weight in mood.lips.items():
                share = weight * (1 - SMILING_SPARED.get(name, 0.0) * smiling)
                movements[name] = max(movements.get(name, 0.0), share * rounded)
            movements["jaw"] += mood.jaw * felt * open_lips * (1 - pucker) * max(1 - jaw, 0.0)
            movements["relax"] = max(movements["relax"], mood.relax * min(felt, 1.0))
            movements["wide"] -= mood.narrow * smiling * rounded
            widest = (
                0.0 if mood.slant else -1.0
            )  # a slanted lid hangs: raised a little, it would lose its slant at once
            lid = max(lid + (1 - lid) * mood.lid * felt, widest)  # a blink closes the eyes in any mood
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
            lid=lid,
            gaze=(float(head.gaze_x[i]), float(head.gaze_y[i])),
            squint=mood.squint * felt,
            slant=mood.slant * felt,
        )


def _lift(face: FaceGeometry) -> float:
    """Units that the mouth's corners stand above its middle in the picture."""
    return float(face.seam_at(np.zeros(1, np.float32))[0] - face.to_face(face.upper[[0, -1]])[:, 1].mean())


def within_reach(opening: np.ndarray, per_frame: float) -> np.ndarray:
    """The widest opening that is nowhere wider than `opening` and changes by `per_frame` a frame at most.

    Closures stay where they are; what cannot be reached between two of them is cut down.
    """
    slope = per_frame * np.arange(len(opening))  # float64: ten minutes of it are thousands, and closures are zeros
    ahead = np.minimum.accumulate(opening - slope) + slope
    behind = np.minimum.accumulate((opening + slope)[::-1])[::-1] - slope
    return np.minimum(ahead, behind)
