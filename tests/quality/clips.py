"""Clips to be measured: made by the real engine and writer, read back from the mp4. Judges nothing."""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np
from PIL import Image

from pipeline import face, media, models
from pipeline.draft import chapters
from pipeline.draft.engine import DraftEngine
from pipeline.engine import Scene
from pipeline.face import Region, landmarks_in, region_around
from pipeline.generators import to_end
from pipeline.plan import ClipPlan, plan_clip
from pipeline.request import Point
from tests.quality.measures import Phonemes

VOICES = Path(__file__).parent / "voices"
SEED = 1
PRESENT = 0.5  # the landmark net's belief below which its points mean nothing
Mouth = Callable[..., Generator[float, None, Any]]
"""Something to listen with: what pipeline.draft.speech.follow_speech is."""


@dataclass(frozen=True)
class Voice:
    """A recording, and what is known of it.

    Args:
        path: The sound.
        facts: The JSON beside it, as truth.py describes it; {} for a real recording, of which nothing is known.
    """

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file's, without ending."""
        return self.path.stem

    @property
    def phonemes(self) -> Phonemes:
        """What is said when."""
        return [(str(sound), float(start), float(end)) for sound, start, end in self.facts.get("phonemes", [])]


def known_voices(collection: str) -> list[Voice]:
    """The voices of "tuning" (numbers may be chosen on them) or "held_out" (never)."""
    paths = sorted((VOICES / collection).glob("*.json"))
    return [Voice(path.with_suffix(".flac"), json.loads(path.read_text(encoding="utf-8"))) for path in paths]


def real_voices() -> list[Voice]:
    """People who were recorded: the speech among the sounds that ship inside the gradio package."""
    folder = Path(str(find_spec("gradio").submodule_search_locations[0])) / "media_assets" / "audio"  # type: ignore[union-attr,index]
    names = ("cate_blanch.mp3", "cate_blanch_2.mp3", "heath_ledger.mp3", "recording1.wav")
    return [Voice(folder / name) for name in names]


@dataclass
class Take:
    """One clip, before and after the encoder.

    Args:
        source: (height, width, 3) uint8, the still: the plan's crop of the portrait, resampled by Pillow, so that it
            owes nothing to the engine.
        raw: Frames as the engine gave them.
        frames: The same, decoded from the mp4.
        waveform: (samples,) float32, 16 000 Hz.
        plan: Sizes.
    """

    source: np.ndarray
    raw: list[np.ndarray]
    frames: list[np.ndarray]
    waveform: np.ndarray
    plan: ClipPlan

    @cached_property
    def region(self) -> Region:
        """Where the landmark net looks in every frame: one that follows the face would tremble by itself."""
        found = face.find_faces(self.source)
        if not found:  # a drawing: where a face of the usual size stands
            height, width = self.source.shape[:2]
            return Region(width / 2, 0.47 * height, 0.75 * height, 0.0)
        return region_around(found[0].landmarks)

    @cached_property
    def source_points(self) -> np.ndarray:
        """(478, 3) of the still, found like the clip's."""
        return landmarks_in(self.source, self.region)[0]

    @cached_property
    def is_readable(self) -> bool:
        """Whether the landmark net sees a face in the still; on a drawn animal its points mean nothing."""
        return landmarks_in(self.source, self.region)[1] >= PRESENT

    @cached_property
    def points(self) -> np.ndarray:
        """(frames, 478, 3) of the decoded frames."""
        return np.stack([landmarks_in(frame, self.region)[0] for frame in self.frames])

    @cached_property
    def calm_points(self) -> np.ndarray:
        """The same with everything below the nose taken from the still: a speaking mouth shakes the net's other points.

        It leaves half of the jitter that `points` shows.
        """
        nose = int(self.source_points[2, 1]) + round(0.012 * self.source.shape[0])
        calm = np.empty_like(self.points)
        for i, frame in enumerate(self.frames):
            upper = frame.copy()
            upper[nose:] = self.source[nose:]
            calm[i] = landmarks_in(upper, self.region)[0]
        return calm

    @cached_property
    def matte(self) -> np.ndarray:
        """(height, width) float32, the segmentation net's person, 1 inside; of the still, unrefined."""
        return models.person_mask(self.source)


def make_take(
    portrait: Path | np.ndarray,
    voice: Voice,
    *,
    with_text: bool = False,
    size: int = 512,
    seed: int = SEED,
    points: tuple[Point, ...] | None = None,
    mouth: Mouth | None = None,
    is_still: bool = False,
) -> Take:
    """Render one clip and read it back.

    Args:
        portrait: A picture file, or its pixels.
        voice: What is said.
        with_text: Give the engine the words.
        size: Of the clip, pixels.
        seed: Of the motion.
        points: Five handles for faces that are not found.
        mouth: Listens instead of the engine's own ears: for the control whose mouth follows loudness.
        is_still: The other control: the still itself, for as long as the voice lasts.
    """
    picture = media.load_portrait(portrait) if isinstance(portrait, Path) else portrait
    speech = media.load_speech(voice.path)
    found = face.locate(picture, name="portrait", points=points)
    plan = plan_clip(seconds=speech.seconds, size=size, picture_size=picture.shape[:2], faces=[found.box])
    crop = plan.crop
    source = np.asarray(
        Image.fromarray(picture).resize(
            (plan.width, plan.height),
            Image.Resampling.LANCZOS,
            box=(crop.left, crop.top, crop.left + crop.width, crop.top + crop.height),
        )
    )
    raw: list[np.ndarray] = []
    if is_still:
        raw = [source] * plan.num_frames
    else:
        text = voice.facts.get("text", "") if with_text else ""
        scene = Scene.of(picture, speech, found, text=text, language=voice.facts.get("language", "en"))
        with patch.object(chapters, "follow_speech", mouth or chapters.follow_speech):
            frames: Iterator[np.ndarray] = to_end(DraftEngine().perform(scene, plan, seed=seed)).frames
            raw = [frame.copy() for frame in frames]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with media.VideoWriter(path, speech, plan) as writer:
            for frame in raw:
                writer.add(np.ascontiguousarray(frame))
        decoded = read_frames(path)
    return Take(source, raw, decoded, speech.waveform, plan)


def read_frames(path: Path) -> list[np.ndarray]:
    """Every frame of an mp4, (height, width, 3) uint8 RGB."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def listen_to_loudness_only(
    waveform: np.ndarray, num_frames: int, *, text: str = "", language: str = "en"
) -> Generator[float, None, Any]:
    """A mouth that opens as it gets louder and does nothing else: what a lip-sync measure must turn down."""
    from pipeline.draft.speech import follow_speech

    heard = yield from follow_speech(waveform, num_frames)
    still = np.zeros_like(heard.jaw)
    return dataclasses.replace(
        heard, jaw=heard.loudness.astype(heard.jaw.dtype), wide=still, pucker=still, close=still, fv=still, tongue=still
    )
