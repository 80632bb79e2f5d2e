"""How the character is to perform: values that mean the same to both engines. Moves nothing."""

import math
from dataclasses import dataclass

from pipeline.errors import MoodUnknown

MOODS = ("neutral", "happy", "sad", "angry", "surprised")

# The avatar network's two strengths are whole numbers, embedded as sinusoids. Those published with it are the middle;
# neither the range it was trained on nor what other numbers do is published, so the ends stay near.
# Source: HunyuanVideo-Avatar, hymm_sp/data_kits/audio_dataset.py, motion_bucket_id_heads and motion_bucket_id_exps
POSE_IDS = (10, 25, 40)  # at motion 0, 0.5 and 1
EXP_IDS = (15, 30, 45)  # at expression 0, 0.5 and 1

MOOD_WORDS = {  # for the avatar's prompt, which its language model reads in English or Chinese
    "neutral": "",
    "happy": "The person is happy, smiling warmly, with raised cheeks and bright eyes.",
    "sad": "The person is sad, with raised inner eyebrows, lowered eyelids and the corners of the mouth turned down.",
    "angry": "The person is angry, frowning, with lowered eyebrows, a hard stare and tight lips.",
    "surprised": "The person is surprised, with raised eyebrows, wide-open eyes and slightly parted lips.",
}


@dataclass(frozen=True, kw_only=True)
class Direction:
    """What a director asks for.

    Args:
        motion: Of the head, 0 still .. 1 lively; 0.5 as people usually move.
        expression: Of brows, lids and lips, 0 neutral .. 1 expressive; 0.5 as people usually speak.
        mood: One of MOODS.

    Raises:
        MoodUnknown: it is none of them.
        ValueError: motion or expression is out of its range.
    """

    motion: float = 0.5
    expression: float = 0.5
    mood: str = "neutral"

    def __post_init__(self) -> None:
        for name in ("motion", "expression"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise ValueError(f"{name} must be from 0 to 1, got {value}")
        if self.mood not in MOODS:
            raise MoodUnknown(mood=self.mood, known=", ".join(MOODS))


AS_USUAL = Direction()


def motion_ids(direction: Direction) -> tuple[int, int]:
    """The avatar network's strengths for a direction.

    Args:
        direction: At 0.5 the published numbers; at motion 0 the still mode, the lowest pose id. More never gives less.

    Returns:
        motion_pose and motion_exp, within POSE_IDS and EXP_IDS.
    """
    return _id_at(direction.motion, POSE_IDS), _id_at(direction.expression, EXP_IDS)


def mood_words(mood: str) -> str:
    """A mood as a sentence for the avatar's prompt; "" for a neutral one.

    Raises:
        MoodUnknown: it is none of MOODS.
    """
    return MOOD_WORDS[Direction(mood=mood).mood]


def scale(value: float, least: float, most: float) -> float:
    """A slider as a factor: `least` at 0, exactly 1 at 0.5, `most` at 1, straight between."""
    away = 2 * value - 1
    return 1 + away * ((most - 1) if away > 0 else (1 - least))


def _id_at(value: float, ids: tuple[int, int, int]) -> int:
    """The whole number at a slider's place."""
    least, middle, most = ids
    away = 2 * value - 1
    return round(middle + away * ((most - middle) if away > 0 else (middle - least)))
