"""The promise both engines keep: a Scene in, a ClipPlan, and by that frames out."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.direction import Direction
from pipeline.face import Face
from pipeline.media import Speech
from pipeline.plan import SQUARE, ClipPlan
from pipeline.texts import Notice
from pipeline.voice.spoken import Mark


@dataclass(frozen=True)
class Speaker:
    """One character who speaks.

    Args:
        speech: The voice, alone: what is behind it is taken out of the waveform, not out of the file.
        face: The face it moves, in pixels of the portrait.
        start: Seconds into the clip at which the speech begins.
        text: The words spoken, "" when unknown.
        language: Language of `text`.
        marks: Every sound of the speech and its time, where a synthesiser has told them.
    """

    speech: Speech
    face: Face
    start: float = 0.0
    text: str = ""
    language: str = "en"
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Scene:
    """What a clip is made from, read in.

    Args:
        portrait: (height, width, 3) uint8, RGB: the whole picture.
        speech: The clip's sound: all voices, in time.
        speakers: One, or two who speak by turns or at once.
        direction: How they perform.
        framing: What part of the portrait is shown, one of FRAMINGS.
    """

    portrait: np.ndarray
    speech: Speech
    speakers: tuple[Speaker, ...]
    direction: Direction = field(default_factory=Direction)
    framing: str = SQUARE

    @classmethod
    def of(cls, portrait: np.ndarray, speech: Speech, face: Face, **more: Any) -> "Scene":
        """One speaker, of whom the whole sound is; `more` is what else a Speaker knows."""
        return cls(portrait, speech, (Speaker(speech, face, **more),))


@dataclass(frozen=True)
class Step:
    """How far a render has come.

    Args:
        stage: Name of a text: what is going on.
        done: Units of this stage that are finished.
        total: Units of this stage; 0 when it cannot be counted.
        seconds_left: Until the clip is finished; None while that is not known.
        job: Id of the job folder that keeps the render, once there is one; "" for a render that is not kept.
        preview: A small picture of the clip as it is seen coming; None while there is none.
        notice: What the user should hear at once, as how long it will take; None for nothing.
    """

    stage: str
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    job: str = ""
    preview: Path | None = None
    notice: Notice | None = None


def nothing_kept() -> None:
    """What an engine hands out as `delivered` that keeps nothing for a clip."""


@dataclass(frozen=True)
class Take:
    """A clip ready to be drawn.

    Args:
        frames: The clip's frames, one at a time: (plan.height, plan.width, 3) uint8, RGB, each a new array which the
            caller keeps. Closing it frees what it holds.
        notices: What the user should know about the clip.
        model: Name and revision of the model that drew it; "" where none did.
        delivered: To be called once the clip is written: what was kept for it is no longer needed.
    """

    frames: Iterator[np.ndarray]
    notices: tuple[Notice, ...] = ()
    delivered: Callable[[], None] = nothing_kept
    model: str = ""


class Engine(Protocol):
    """Who draws the frames."""

    name: str

    def plan(self, scene: Scene, *, size: int) -> ClipPlan:
        """Decide a clip's sizes.

        Args:
            scene: What it is made from.
            size: Of its shorter side, pixels.

        Raises:
            AvatarError: there is no such clip by this engine on this machine, and what comes nearest.
        """
        ...

    def perform(self, scene: Scene, plan: ClipPlan, *, seed: int) -> Generator[Step, None, Take]:
        """Prepare one clip.

        Yields a Step at least every few seconds while it prepares, so that a cancelled render stops there.

        Returns:
            A Take of `plan.num_frames` frames; the same seed gives the same ones.
        """
        ...
