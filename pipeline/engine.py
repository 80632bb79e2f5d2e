"""The promise both engines keep: a Scene and a ClipPlan in, frames out."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.face import Face
from pipeline.media import Speech
from pipeline.plan import ClipPlan
from pipeline.texts import Notice


@dataclass(frozen=True)
class Scene:
    """What a clip is made from, read in.

    Args:
        portrait: (height, width, 3) uint8, RGB: the whole picture.
        speech: The voice.
        face: The face that speaks, in pixels of `portrait`.
        text: The words spoken, "" when unknown.
        language: Language of `text`.
    """

    portrait: np.ndarray
    speech: Speech
    face: Face
    text: str = ""
    language: str = "en"


@dataclass(frozen=True)
class Step:
    """How far a render has come.

    Args:
        stage: Name of a text: what is going on.
        done: Units of this stage that are finished.
        total: Units of this stage; 0 when it cannot be counted.
        seconds_left: Until the clip is finished; None while that is not known.
    """

    stage: str
    done: int = 0
    total: int = 0
    seconds_left: float | None = None


@dataclass(frozen=True)
class Take:
    """A clip ready to be drawn.

    Args:
        frames: The clip's frames, one at a time: (plan.height, plan.width, 3) uint8, RGB, each a new array which the
            caller keeps. Closing it frees what it holds.
        notices: What the user should know about the clip.
    """

    frames: Iterator[np.ndarray]
    notices: tuple[Notice, ...] = ()


class Engine(Protocol):
    """Who draws the frames."""

    name: str

    def perform(self, scene: Scene, plan: ClipPlan, *, seed: int) -> Generator[Step, None, Take]:
        """Prepare one clip.

        Yields a Step at least every few seconds while it prepares, so that a cancelled render stops there.

        Returns:
            A Take of `plan.num_frames` frames; the same seed gives the same ones.
        """
        ...
