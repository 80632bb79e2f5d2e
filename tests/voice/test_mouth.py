"""The times a synthesiser tells move the draft's mouth, better than what can be heard of its voice."""

import numpy as np
import pytest
from scipy import signal

from pipeline.draft.phonemes import STATES, Segment, class_of, segments_of
from pipeline.draft.speech import MouthTrack, follow_speech
from pipeline.voice.hibari import Hibari
from pipeline.voice.spoken import Mark
from tests.quality.truth import load_voices, truth_track


def followed(waveform: np.ndarray, num_frames: int, **options) -> MouthTrack:
    """The mouth of a recording."""
    steps = follow_speech(waveform, num_frames, **options)
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return finished.value


def test_marks_move_the_mouth_closer_to_the_truth_than_listening():
    (voice,) = [voice for voice in load_voices("tuning") if voice.name == "en_hibari"]
    said = Hibari().speak(voice.facts["text"], voice="heart", language="en", speed=1.0)
    waveform = signal.resample_poly(said.waveform, 2, 3).astype(np.float32)
    assert len(waveform) == len(voice.waveform)  # the very recording whose times are known
    truth = truth_track(voice.facts, voice.num_frames)
    fits = {}
    for name, options in {"marks": {"marks": said.marks}, "heard": {}}.items():
        mouth = followed(waveform, voice.num_frames, **options)
        assert (mouth.source == "marks") == (name == "marks")
        fits[name] = [float(np.corrcoef(getattr(mouth, part), truth[part])[0, 1]) for part in ("jaw", "wide", "close")]
    assert all(marked > heard for marked, heard in zip(fits["marks"], fits["heard"], strict=True)), fits
    assert min(fits["marks"]) > 0.95


def test_marks_outside_the_recording_are_left_aside():
    marks = [Mark("a", -2.0, -1.0), Mark("m", -0.1, 0.3), Mark("a", 0.2, 0.6), Mark("u", 0.9, 5.0), Mark("i", 6, 7)]
    assert segments_of(marks, 1.0) == [
        Segment("PP", 0.0, 0.3),
        Segment("aa", 0.3, 0.6),
        Segment("sil", 0.6, 0.9),
        Segment("ou", 0.9, 1.0),
    ]
    waveform = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    mouth = followed(waveform, 25, marks=marks)
    assert mouth.close[4] > 0.9 > 0.1 > mouth.close[12]


@pytest.mark.parametrize(
    ("sound", "viseme"),
    [
        ("ˈa", "aa"),
        ("iː", "ee"),
        ("ɔ\u0303", "oh"),
        ("tʰ", "DD"),
        ("ts", "SS"),
        ("tɕ", "CH"),
        ("oʊ", "ow"),
        ("ʉː", "ou"),
        ("y1", "yy"),
        ("ɶ", "ah"),
        ("ǃ", "DD"),
        ("", "DD"),
        ("ɐ\u032f", "ah"),
    ],
)
def test_every_symbol_has_a_mouth(sound, viseme):
    assert class_of(sound) == viseme


def test_every_mark_becomes_a_state_of_the_mouth():
    sounds = [chr(code) for code in range(0x61, 0x2B0)] + ["sil"]
    segments = segments_of([Mark(sound, number, number + 1) for number, sound in enumerate(sounds)], len(sounds))
    assert {segment.viseme for segment in segments} <= set(STATES) | {"ai", "au", "ei", "oi", "ow"}
