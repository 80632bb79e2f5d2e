"""What a synthetic voice gives: sound, when each sound of it is spoken, and which words when. Speaks nothing."""

from dataclasses import dataclass

import numpy as np

from pipeline.texts import Notice


@dataclass(frozen=True)
class Mark:
    """One sound of speech.

    Args:
        sound: IPA symbol, or "sil" for a pause.
        start: Seconds.
        end: Seconds, after `start`.
    """

    sound: str
    start: float
    end: float


@dataclass(frozen=True)
class Line:
    """A sentence, or a part of one short enough to be read as a caption.

    Args:
        text: As it was written.
        start: Seconds.
        end: Seconds, after `start`.
        speaker: Who says it: 0, or 1 for the second one.
    """

    text: str
    start: float
    end: float
    speaker: int = 0


@dataclass(frozen=True)
class Spoken:
    """A script, spoken.

    Args:
        sample_rate: Hz.
        waveforms: One for each speaker, (samples,) float32 in [-1, 1], all as long as the whole, silent while the
            other speaks.
        marks: For each speaker, every sound and pause in order; () where the voice does not tell them.
        lines: What is said when, in order.
        languages: Of each speaker, ISO 639: the one given, or what their words look like.
        notices: What the user should know about the voices.
    """

    sample_rate: int
    waveforms: tuple[np.ndarray, ...]
    marks: tuple[tuple[Mark, ...], ...]
    lines: tuple[Line, ...]
    languages: tuple[str, ...]
    notices: tuple[Notice, ...] = ()
