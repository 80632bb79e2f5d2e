"""English by hibari: a voice that ships in its wheel, speaks offline, and tells when each of its sounds is spoken.

It reads numbers, dates and abbreviations by itself. Of another language it would make English nonsense.
"""

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from pipeline import models
from pipeline.engine import Step
from pipeline.errors import VoiceFailed
from pipeline.texts import Notice
from pipeline.voice.graphs import run, with_output
from pipeline.voice.spoken import Mark
from pipeline.voice.synthesiser import Utterance, VoiceChoice
from pipeline.voice.timing import marks_from

DURATIONS = "/Clip_output_0"  # hibari 0.2.1's tensor of durations, one for each symbol
SAMPLE_RATE = 24_000  # Hz
UNIT_SECONDS = 0.025  # of one duration: two of its frames of 300 samples at 24 000 Hz
# How far durations run behind the sound: where vowels and sibilants fit their energy best, over five sentences at
# speeds 0.7, 1 and 1.5 (57, 47 and 37 ms).
LATE_SECONDS, LATE_SLOWED_SECONDS = 0.02, 0.027  # the second one over the speed
SEED = 0  # of its noise: the same text gives the same sound

# The second voice is the first with a longer throat: resonances 7/8 as high, as a man's are to a woman's, and pitch a
# fifth and a half lower (8 semitones).
THROAT = (8, 7)
PITCH = 0.63
VOICES = {"heart": "Heart ♀ (US)", "heart_deep": "Heart, deep ♂ (US)"}


class Hibari:
    """The synthesiser; see `Synthesiser`."""

    name = "hibari"
    licence = "Apache-2.0"
    languages = ("en",)

    def status(self, language: str) -> Notice | None:
        try:
            import hibari  # noqa: F401
        except ImportError:
            return Notice("VoicePackageMissing", {"package": "hibari-tts"})
        return None

    def fetch(self, language: str) -> Generator[Step, None, None]:
        yield from ()

    def voices(self, language: str) -> list[VoiceChoice]:
        if language not in self.languages:
            return []
        is_ready = self.status(language) is None
        return [
            VoiceChoice(name, "en", title, self.name, self.licence, is_ready=is_ready) for name, title in VOICES.items()
        ]

    def speak(self, text: str, *, voice: str, language: str, speed: float) -> Utterance:
        if language not in self.languages or voice not in VOICES:
            raise ValueError(f"hibari has the voices {', '.join(VOICES)} for 'en', got {voice!r} for {language!r}")
        try:
            return _speak(text, is_deep=voice == "heart_deep", speed=speed)
        except (RuntimeError, ValueError, IndexError, KeyError) as error:  # what its reader of text or the graph raise
            raise VoiceFailed(engine=self.name, detail=str(error).partition("\n")[0][:200]) from error


def _speak(text: str, *, is_deep: bool, speed: float) -> Utterance:
    """Its sentences, one after the other."""
    from hibari import dsp

    model, _ = _model()
    longer, usual = THROAT if is_deep else (1, 1)
    rate = speed * longer / usual  # what is stretched afterwards is spoken faster
    pitch = PITCH * longer / usual if is_deep else 1.0
    symbol_of = {number: symbol for symbol, number in model.vocab.items()}
    waveforms, marks, now = [np.zeros(0, np.float32)], [], 0.0
    for sentence in symbols_of(text):
        ids = model.ids(sentence)
        feeds = {"ids": np.array([ids], np.int64), "speed": np.array([rate], np.float32)}
        *spectra, f0, durations = run(model.sess, feeds)
        waveform = dsp.synth(*(part[0] for part in spectra), pitch * f0[0], np.random.default_rng(SEED))
        if is_deep:
            waveform = signal.resample_poly(waveform, longer, usual)
        waveform = waveform.astype(np.float32)
        symbols = [symbol_of.get(number, "") for number in ids]
        seconds = durations.reshape(-1).astype(float) * UNIT_SECONDS * longer / usual
        late = LATE_SECONDS + LATE_SLOWED_SECONDS / speed
        marks += [
            Mark(mark.sound, now + mark.start, now + mark.end)
            for mark in marks_from(symbols, seconds, waveform, SAMPLE_RATE, late=late)
        ]
        waveforms.append(waveform)
        now += len(waveform) / SAMPLE_RATE
    return Utterance(np.concatenate(waveforms), SAMPLE_RATE, tuple(marks))


def symbols_of(text: str) -> list[str]:
    """English as sounds in misaki's alphabet, which Kokoro reads as well: a string for each sentence.

    Brackets are taken out: hibari would take what follows them for sounds spelt out.
    """
    model, lock = _model()
    with lock:  # its reader of words keeps what it is at
        return model.phonemize(text.replace("[", " ").replace("]", " "))


@models.opened_once
def _model() -> tuple[Any, threading.Lock]:
    """hibari with its durations given out, and the lock of its reader of words."""
    import hibari
    from hibari.voices import voice_path

    return hibari.Hibari(model=with_output(Path(voice_path("heart")).read_bytes(), DURATIONS)), threading.Lock()
