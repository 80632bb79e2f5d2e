"""Voices with known phoneme times, and the mouth those times ask for.

The truth moves by the same coarticulation model as the engine: it tells timing and labels, not muscles.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipeline.draft.phonemes import CLASS_OF, Segment
from pipeline.draft.speech import STEP, articulate, at_frames
from pipeline.plan import FPS

VOICES = Path(__file__).parent / "voices"
EVENTS = ("close", "fv")


@dataclass(frozen=True)
class Voice:
    """One recording and what is said in it.

    Args:
        name: Of the files, without ending.
        path: The sound, FLAC, 16 000 Hz, mono.
        waveform: (samples,) float32.
        facts: The JSON beside it: text, language, made, licence, times, phonemes.
    """

    name: str
    path: Path
    waveform: np.ndarray
    facts: dict[str, Any]

    @property
    def num_frames(self) -> int:
        """Video frames that cover the sound."""
        return int(np.ceil(len(self.waveform) / 16_000 * FPS - 1e-9))


def load_voices(collection: str) -> list[Voice]:
    """The voices of one collection: "tuning" (numbers may be chosen on them) or "held_out" (never)."""
    voices = []
    for path in sorted((VOICES / collection).glob("*.json")):
        with av.open(path.with_suffix(".flac")) as container:
            parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
        waveform = np.concatenate(parts).astype(np.float32) / 32768
        facts = json.loads(path.read_text(encoding="utf-8"))
        voices.append(Voice(path.stem, path.with_suffix(".flac"), waveform, facts))
    return voices


def true_segments(facts: dict[str, Any]) -> list[Segment]:
    """The phonemes of a voice's JSON as viseme segments; unknown symbols are an error, not a gap."""
    return [
        Segment("sil" if sound == "sil" else CLASS_OF[sound], start, end)
        for sound, start, end in facts["phonemes"]
        if end > start
    ]


def truth_track(facts: dict[str, Any] | str | Path, num_frames: int) -> dict[str, np.ndarray]:
    """The mouth the true phoneme times ask for, as it should stand in the middle of every frame's showing.

    Args:
        facts: A voice's JSON, read or as a path.
        num_frames: Frames at 25 fps.

    Returns:
        jaw, wide, pucker, tongue, close, fv, each (num_frames,) float32 in MouthTrack's ranges, and speech,
        (num_frames,) float32: 1 where a phoneme sounds, 0 in pauses.
    """
    known = facts if isinstance(facts, dict) else json.loads(Path(facts).read_text(encoding="utf-8"))
    segments = true_segments(known)
    num_steps = int(np.ceil(num_frames / FPS / STEP)) + 5
    mouth = articulate(segments, num_steps)
    speech = np.zeros(num_steps, np.float32)
    for segment in segments:
        if segment.viseme != "sil":
            speech[round(segment.start / STEP) : round(segment.end / STEP)] = 1
    tracks = {name: at_frames(track, num_frames, lead=0.0, event=name in EVENTS) for name, track in mouth.items()}
    return {**tracks, "speech": np.round(at_frames(speech, num_frames, lead=0.0))}
