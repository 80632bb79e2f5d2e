"""How the character is to perform: values that mean the same to both engines. Moves nothing."""

import math
from dataclasses import dataclass

from pipeline.errors import MoodUnknown

MOODS = ("neutral", "happy", "sad", "angry", "surprised")


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
