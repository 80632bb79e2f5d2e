"""What is asked for and what came of it: frozen values that check themselves. Opens no file."""

import math
import re
import secrets
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pipeline.direction import Direction
from pipeline.errors import (
    CaptionsUnknown,
    EngineUnknown,
    FramingUnknown,
    LanguageUnknown,
    OptionUnused,
    PointsUnreadable,
    SizeUnsupported,
    SpeakersUnclear,
    SpeedUnsupported,
    TextTooLong,
    WordTaken,
)
from pipeline.plan import FRAMINGS, SQUARE
from pipeline.texts import Notice

if TYPE_CHECKING:
    from pipeline.trust.credentials import Signed

ENGINES = ("draft", "avatar")
TEXT_LANGUAGES = ("en", "fr")  # languages whose letters we can turn into sounds
CAPTIONS = ("none", "file", "burned")  # none; beside the clip and in it, to be switched on; drawn into the frames too
SLOWEST, FASTEST = 0.5, 2.0  # times the usual speed of a synthetic voice; beyond, words are lost
LONGEST_POINTS = 500  # characters of points as people type them; five pairs take a hundred
NUM_POINTS = (3, 5)  # two eyes and the mouth; two eyes, two mouth corners and the chin
LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", re.ASCII | re.IGNORECASE)  # BCP 47
MAX_TEXT_LENGTH = 12_000  # characters; ten minutes of fast speech (200 words a minute, 6 characters a word)
MAX_PROMPT_LENGTH = 2000  # characters; the text encoder reads the first 240 words or so and says what it left
MAX_STEPS = 100  # twice the published count; beyond, nothing is gained
REHEARSED_SIZE, REHEARSED_STEPS = 256, 6  # pixels; a minute or two on two cores, where the real course takes hours
MAX_SEED = 2**31 - 1  # what a page's number field and every generator in use can hold
SMALLEST_SIZE, LARGEST_SIZE, SIZE_MULTIPLE = 256, 1080, 8  # pixels; below, lips are a few pixels; above, no CPU follows

COUNTS_WITH = {  # what does nothing unless the other is given: refused, as nobody would notice
    "voice": "script",
    "second_voice": "script",
    "speed": "script",
    "text": "speech",
    "second_start": "second_speech",
    "second_text": "second_speech",
}

RESERVED = re.compile(r"<(?:image|pad|unk|\|[^|<>]*\|)>")  # words of the avatar's tokenizers; text.py has the last word

Point: TypeAlias = tuple[float, float]
"""x, y in pixels from the picture's top left corner, after EXIF rotation."""


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """One clip to make.

    Its voice is a recording or a script; `speech` or `script` is given, not both.

    Args:
        portrait: A picture of one character, or of two who speak to each other.
        speech: A sound file, or a video with sound.
        script: Words to be spoken by a synthetic voice; lines that begin with "A:" or "B:" are spoken by two.
        output: Where the mp4 goes; its folder must exist. None makes a new file in a new temporary folder.
        engine: "draft" (any CPU, seconds) or "avatar" (the 13B model).
        size: Of the clip's shorter side in pixels: a multiple of 8 from 256 to 1080.
        framing: What is shown of the picture, one of `plan.FRAMINGS`.
        seed: Decides head motion, gaze and blinks, 0 to 2**31 - 1. None draws one; the result reports it.
        motion: Of the head, 0 still to 1 lively; see Direction.
        expression: Of brows, lids and lips, 0 neutral to 1 expressive.
        mood: One of `direction.MOODS`.
        face: Which face when the picture shows several, 1 the largest. Giving a number also confirms a face that
            was found with little certainty. None: the largest; of two speakers, the one on the left.
        points: Handles instead of face detection: both eyes and the mouth; or left eye, right eye, left mouth corner,
            right mouth corner, chin. Left and right as seen in the picture.
        text: The words of `speech`, if known: the mouth then follows them rather than what it can recognise.
        language: Of the script or the text, as "en" or "fr"; of "fr-CA" the "fr" is kept. None: what it looks like.
        voice: Name of the synthetic voice; None for the first that reads the language.
        speed: Of the synthetic voice, SLOWEST to FASTEST; 1 its usual one.
        second_speech: The voice of the second character.
        second_start: Seconds into the clip at which it begins; None: once the first has ended.
        second_text: The words of `second_speech`, if known.
        second_face: Which face is the second one's; None: the other one of the two largest.
        second_points: Handles of the second one's face.
        second_voice: Name of the synthetic voice that speaks the lines of "B:".
        captions: One of CAPTIONS; of the script, or of the text.
        unlabelled: Why the clip goes without its visible label, one of `trust.label.UNLABELLED`; None for a clip with
            one. Drafts made at home alone may.
        mark: Whether the durable invisible mark is written into the frames; see `trust.mark`.
        prompt: What is seen, for the avatar engine.
        num_inference_steps: Steps of the avatar engine's denoiser, 1 to MAX_STEPS; published: 50.
        placement: Where the avatar engine keeps its models, by the name in `hardware.Placement`; None for what suits
            the machine.
        preset: The avatar engine's speed preset, by the name in `costs.PRESETS`.

    Raises:
        AvatarError: a value is out of its range (a visitor's mistake).
        ValueError: `seed`, `num_inference_steps`, `motion`, `expression` or `second_start` is out of range, or a face
            is below 1 (a programmer's).
    """

    portrait: Path
    speech: Path | None = None
    script: str = ""
    output: Path | None = None
    engine: str = "draft"
    size: int = 512
    framing: str = SQUARE
    seed: int | None = None
    motion: float = Direction.motion
    expression: float = Direction.expression
    mood: str = Direction.mood
    face: int | None = None
    points: tuple[Point, ...] | None = None
    text: str = ""
    language: str | None = None
    voice: str | None = None
    speed: float = 1.0
    second_speech: Path | None = None
    second_start: float | None = None
    second_text: str = ""
    second_face: int | None = None
    second_points: tuple[Point, ...] | None = None
    second_voice: str | None = None
    captions: str = "none"
    unlabelled: str | None = None
    mark: bool = False
    prompt: str = ""
    num_inference_steps: int = 50
    placement: str | None = None
    preset: str = "published"

    def __post_init__(self) -> None:
        for name in ("portrait", "speech", "second_speech", "output"):
            value: str | PathLike[str] | None = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value))
        if self.seed is None:
            object.__setattr__(self, "seed", secrets.randbelow(MAX_SEED + 1))
        elif not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed must be from 0 to {MAX_SEED}, got {self.seed}")
        for name in ("face", "second_face"):
            number: int | None = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be 1 or more, got {number}")
        if self.second_start is not None and not 0 <= self.second_start < math.inf:
            raise ValueError(f"second_start must be 0 seconds or more, got {self.second_start}")
        if not 1 <= self.num_inference_steps <= MAX_STEPS:
            raise ValueError(f"num_inference_steps must be from 1 to {MAX_STEPS}, got {self.num_inference_steps}")
        if self.engine not in ENGINES:
            raise EngineUnknown(engine=self.engine, known=", ".join(ENGINES))
        if not SMALLEST_SIZE <= self.size <= LARGEST_SIZE or self.size % SIZE_MULTIPLE:
            raise SizeUnsupported(size=self.size, smallest=SMALLEST_SIZE, largest=LARGEST_SIZE, multiple=SIZE_MULTIPLE)
        if self.framing not in FRAMINGS:
            raise FramingUnknown(framing=self.framing, known=", ".join(FRAMINGS))
        if self.captions not in CAPTIONS:
            raise CaptionsUnknown(captions=self.captions, known=", ".join(CAPTIONS))
        if not SLOWEST <= self.speed <= FASTEST:
            raise SpeedUnsupported(speed=float(self.speed), slowest=SLOWEST, fastest=FASTEST)
        num_voices = (self.speech is not None or self.second_speech is not None) + bool(self.script.strip())
        if num_voices != 1 or (self.speech is None and self.second_speech is not None):
            raise SpeakersUnclear(count=num_voices)
        for name, needed in COUNTS_WITH.items():
            if getattr(self, name) != getattr(type(self), name) and not getattr(self, needed):
                raise OptionUnused(option=name, needs=needed)
        for name in ("points", "second_points"):
            if (given := getattr(self, name)) is not None:
                points = tuple((float(x), float(y)) for x, y in given)
                written = " ".join(f"{x:g},{y:g}" for x, y in points) or "—"
                object.__setattr__(self, name, _checked(points, written))
        for name in ("text", "second_text", "script", "prompt"):  # lone halves of characters, which no file can hold
            object.__setattr__(self, name, getattr(self, name).encode("utf-8", "replace").decode())
        for words, limit in (
            (self.text, MAX_TEXT_LENGTH),
            (self.second_text, MAX_TEXT_LENGTH),
            (self.script, MAX_TEXT_LENGTH),
            (self.prompt, MAX_PROMPT_LENGTH),
        ):
            if len(words) > limit:
                raise TextTooLong(length=len(words), limit=limit)
        if taken := RESERVED.search(self.prompt):
            raise WordTaken(word=taken[0])
        if self.language is not None:
            if not LANGUAGE.fullmatch(self.language):
                raise LanguageUnknown(language=self.language[:100])
            object.__setattr__(self, "language", self.language.partition("-")[0].lower())
        self.direction  # noqa: B018  # checks its values

    @property
    def direction(self) -> Direction:
        """How the character performs."""
        return Direction(motion=self.motion, expression=self.expression, mood=self.mood)


def read_points(written: str) -> tuple[Point, ...]:
    """Three or five points as people type them: "120,150 210,150 165,240".

    Raises:
        PointsUnreadable: not so many pairs of numbers.
    """
    if len(written) > LONGEST_POINTS:
        raise PointsUnreadable(found=written[:100])
    try:
        points = tuple((float(x), float(y)) for x, y in (pair.split(",") for pair in written.split()))
    except ValueError as error:
        raise PointsUnreadable(found=written[:100]) from error
    return _checked(points, written[:100])


def _checked(points: tuple[Point, ...], written: str) -> tuple[Point, ...]:
    """The points, once they are as many as they should be, and finite."""
    if len(points) not in NUM_POINTS or not all(math.isfinite(value) for point in points for value in point):
        raise PointsUnreadable(found=written)
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
        captions: Files of its captions, SubRip and WebVTT.
        model: Name and revision of the model that drew it; "" where none did.
        signed: Who signed its Content Credentials, or why nobody did.
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
    captions: tuple[Path, ...] = ()
    model: str = ""
    signed: "Signed | None" = None
    notices: tuple[Notice, ...] = field(default=())
