"""What is asked for and what came of it: frozen values that check themselves. Opens no file."""

import math
import re
import secrets
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from pipeline.errors import EngineUnknown, LanguageUnknown, PointsUnreadable, SizeUnsupported, TextTooLong, WordTaken
from pipeline.texts import Notice

ENGINES = ("draft", "avatar")
TEXT_LANGUAGES = ("en", "fr")  # languages whose letters we can turn into sounds
MAX_TEXT_LENGTH = 12_000  # characters; ten minutes of fast speech (200 words a minute, 6 characters a word)
MAX_PROMPT_LENGTH = 2000  # characters; the text encoder reads the first 240 words or so and says what it left
MAX_STEPS = 100  # twice the published count; beyond, nothing is gained
REHEARSED_SIZE, REHEARSED_STEPS = 256, 6  # pixels; a minute or two on two cores, where the real course takes hours
MAX_SEED = 2**31 - 1  # what a page's number field and every generator in use can hold
SMALLEST_SIZE, LARGEST_SIZE, SIZE_MULTIPLE = 256, 1080, 8  # pixels; below, lips are a few pixels; above, no CPU follows

RESERVED = re.compile(r"<(?:image|pad|unk|\|[^|<>]*\|)>")  # words of the avatar's tokenizers; text.py has the last word

Point: TypeAlias = tuple[float, float]
"""x, y in pixels from the picture's top left corner, after EXIF rotation."""


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """One clip to make.

    Args:
        portrait: A picture of one character.
        speech: A sound file, or a video with sound.
        output: Where the mp4 goes; its folder must exist. None makes a new file in a new temporary folder.
        engine: "draft" (any CPU, seconds) or "avatar" (the 13B model).
        size: Width and height of the clip in pixels: a multiple of 8 from 256 to 1080.
        seed: Decides head motion, gaze and blinks, 0 to 2**31 - 1. None draws one; the result reports it.
        face: Which face when the picture shows several, 1 the largest. Giving a number also confirms a face that
            was found with little certainty.
        points: Five handles instead of face detection: left eye, right eye, left mouth corner, right mouth corner,
            chin; left and right as seen in the picture.
        text: The words that are spoken, if known: the mouth then follows them rather than what it can recognise.
        language: Language of `text`, one of TEXT_LANGUAGES.
        prompt: What is seen, for the avatar engine.
        num_inference_steps: Steps of the avatar engine's denoiser, 1 to MAX_STEPS; published: 50.
        placement: Where the avatar engine keeps its models, by the name in `hardware.Placement`; None for what suits
            the machine.
        preset: The avatar engine's speed preset, by the name in `costs.PRESETS`.

    Raises:
        AvatarError: a value is out of its range (a visitor's mistake).
        ValueError: `seed` or `num_inference_steps` is out of range, or `face` is below 1 (a programmer's).
    """

    portrait: Path
    speech: Path
    output: Path | None = None
    engine: str = "draft"
    size: int = 512
    seed: int | None = None
    face: int | None = None
    points: tuple[Point, ...] | None = None
    text: str = ""
    language: str = "en"
    prompt: str = ""
    num_inference_steps: int = 50
    placement: str | None = None
    preset: str = "published"

    def __post_init__(self) -> None:
        for name in ("portrait", "speech", "output"):
            value: str | PathLike[str] | None = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value))
        if self.seed is None:
            object.__setattr__(self, "seed", secrets.randbelow(MAX_SEED + 1))
        elif not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed must be from 0 to {MAX_SEED}, got {self.seed}")
        if self.face is not None and self.face < 1:
            raise ValueError(f"face must be 1 or more, got {self.face}")
        if not 1 <= self.num_inference_steps <= MAX_STEPS:
            raise ValueError(f"num_inference_steps must be from 1 to {MAX_STEPS}, got {self.num_inference_steps}")
        if self.engine not in ENGINES:
            raise EngineUnknown(engine=self.engine, known=", ".join(ENGINES))
        if not SMALLEST_SIZE <= self.size <= LARGEST_SIZE or self.size % SIZE_MULTIPLE:
            raise SizeUnsupported(size=self.size, smallest=SMALLEST_SIZE, largest=LARGEST_SIZE, multiple=SIZE_MULTIPLE)
        if self.points is not None:
            points = tuple((float(x), float(y)) for x, y in self.points)
            if len(points) != 5 or not all(math.isfinite(value) for point in points for value in point):
                raise PointsUnreadable(found=" ".join(f"{x:g},{y:g}" for x, y in points) or "—")
            object.__setattr__(self, "points", points)
        for written, limit in ((self.text, MAX_TEXT_LENGTH), (self.prompt, MAX_PROMPT_LENGTH)):
            if len(written) > limit:
                raise TextTooLong(length=len(written), limit=limit)
        if taken := RESERVED.search(self.prompt):
            raise WordTaken(word=taken[0])
        if self.language not in TEXT_LANGUAGES:
            raise LanguageUnknown(language=self.language, known=", ".join(TEXT_LANGUAGES))


def read_points(written: str) -> tuple[Point, ...]:
    """Five points as people type them: "120,150 210,150 135,240 195,240 165,300".

    Raises:
        PointsUnreadable: not five pairs of numbers.
    """
    try:
        points = tuple((float(x), float(y)) for x, y in (pair.split(",") for pair in written.split()))
    except ValueError as error:
        raise PointsUnreadable(found=written[:100]) from error
    if len(points) != 5 or not all(math.isfinite(value) for point in points for value in point):
        raise PointsUnreadable(found=written[:100])
    return points


@dataclass(frozen=True, kw_only=True)
class RenderResult:
    """One finished clip.

    Args:
        path: The mp4.
        engine: Which engine drew it.
        seed: The seed it was drawn with.
        seconds: How long the render took.
        clip_seconds: How long the clip lasts.
        num_frames: Frames in it, at 25 a second.
        height: Pixels.
        width: Pixels.
        notices: What the user should know about it.
    """

    path: Path
    engine: str
    seed: int
    seconds: float
    clip_seconds: float
    num_frames: int
    height: int
    width: int
    notices: tuple[Notice, ...] = field(default=())
