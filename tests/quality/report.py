"""All measures of one clip, and what each must reach. Renders nothing, prints nothing."""

from dataclasses import dataclass
from math import isnan, nan

import numpy as np

from tests.quality import measures
from tests.quality.clips import Take
from tests.quality.measures import FPS, Phonemes

Row = dict[str, float]
"""Measure to value; NaN where this clip does not show it."""


@dataclass(frozen=True)
class Gate:
    """The range a measure must lie in.

    Args:
        low: Smallest value allowed.
        high: Largest.
    """

    low: float = -np.inf
    high: float = np.inf

    def admits(self, value: float) -> bool:
        """Whether a value passes. What could not be measured does not."""
        return not isnan(value) and self.low <= value <= self.high


# Names are the tables' column heads. Two groups, since a mouth against sounds needs a voice whose sounds are known.
LIP_GATES = {
    "r": Gate(low=0.60),
    "r speech": Gate(low=0.55),
    "lag ms": Gate(-60, 60),
    "r width": Gate(low=0.50),
    "m b p %": Gate(low=85),
    "vowels %": Gate(low=85),
    "P95 mw": Gate(0.15, 0.45),  # relative measures look perfect on a motionless mouth: this one is absolute
    "pauses": Gate(high=0.20),
}
PICTURE_GATES = {
    "blinks/min": Gate(6, 25),
    "jitter px": Gate(0.05, 0.5),  # a still picture has none
    "identity": Gate(high=0.025),
    "bg SSIM": Gate(low=0.96),
    "border": Gate(high=1.0),
    "sharpness": Gate(low=0.80),
}
GATES = LIP_GATES | PICTURE_GATES


def lips(take: Take, phonemes: Phonemes, jaw: np.ndarray, wide: np.ndarray) -> Row:
    """The mouth against sounds that are known.

    Args:
        take: The clip.
        phonemes: What is said when.
        jaw: (frames,) how open the mouth should be.
        wide: (frames,) how wide, 0 at rest, rounded below.
    """
    aperture, width = measures.mouth_openings(take.points, take.source_points)
    speaking = measures.frames_within(phonemes, len(aperture))
    still, _ = measures.mouth_openings(take.source_points[None], take.source_points)
    pauses = measures.pause_frames(phonemes, len(aperture), with_ends=bool(still[0] < measures.PARTED))
    opened = float(np.percentile(aperture, 95))
    sealed, num_seals = measures.seals(aperture, phonemes)
    reached, num_vowels = measures.openings(aperture, phonemes)
    return {
        "r": measures.correlation(aperture, jaw),
        "r speech": measures.correlation(aperture[speaking], jaw[speaking]),
        "lag ms": measures.best_lag(aperture, jaw)[0],
        "r width": measures.correlation(width[speaking], wide[speaking]),
        "m b p %": 100 * sealed / num_seals if num_seals else nan,
        "vowels %": 100 * reached / num_vowels if num_vowels else nan,
        "P95 mw": opened,
        "pauses": float(aperture[pauses].mean() / opened) if pauses.any() and opened > 0.01 else nan,
        "snap mw": float(np.percentile(np.abs(np.diff(aperture)), 99)),
    }


def lips_by_ear(take: Take) -> Row:
    """The mouth of a real recording against what its bands suggest: no sound of it is known."""
    aperture, _ = measures.mouth_openings(take.points, take.source_points)
    openness, voiced = measures.openness_of_sound(take.waveform, len(aperture))
    spoken = tuple(("voice", i / FPS, (i + 1) / FPS) for i in np.flatnonzero(voiced))
    still, _ = measures.mouth_openings(take.source_points[None], take.source_points)
    pauses = measures.pause_frames(spoken, len(aperture), with_ends=bool(still[0] < measures.PARTED))
    opened = float(np.percentile(aperture, 95))
    lag, r = measures.best_lag(aperture, openness)
    trembling = np.abs(np.diff(aperture, n=2))[pauses[1:-1]]
    return {
        "r by ear": r,
        "lag ms": lag,
        "P95 mw": opened,
        "pauses": float(aperture[pauses].mean() / opened) if pauses.any() and opened > 0.01 else nan,
        "flutter": float(trembling.mean() / opened) if len(trembling) and opened > 0.01 else nan,
        "paused s": float(pauses.sum() / FPS),
    }


def picture(take: Take) -> Row:
    """The face, the head and what stands behind, whatever is said."""
    source, frames, raw = take.source, take.frames, take.raw
    background = measures.background_mask(take.matte)
    row = {
        "bg SSIM": measures.background_ssim(frames, source, background),
        "bg noise": measures.background_noise(frames, background),
        "border": measures.border_change(raw),
    }
    if not take.is_readable:
        return row
    points, still = take.points, take.source_points
    closures, gaze = measures.watch_eyes(frames, points, source, still)
    moves, gaze_range = measures.gaze_moves(gaze, closures)
    minutes = len(frames) / FPS / 60
    return row | {
        "blinks/min": len(measures.blinks(closures)) / minutes,
        "gaze/min": moves,
        "gaze ew": gaze_range,
        "jitter px": measures.jitter(points, source.shape[0]),
        "identity": measures.identity_rms(points, still),
        "face SSIM": measures.upper_face_ssim(frames, points, source, still),
        "sharpness": measures.sharpness(raw, points, source, still),
        "shimmer": measures.shimmer(raw, points, still, measures.hair_edge(take.matte, still)),
    }


def failures(row: Row, gates: dict[str, Gate] = GATES) -> list[str]:
    """The gates a row does not pass, with the value found and the range needed."""
    return [
        f"{name}: {row.get(name, nan):.3g}, needs {gate.low:g} to {gate.high:g}"
        for name, gate in gates.items()
        if not gate.admits(row.get(name, nan))
    ]
