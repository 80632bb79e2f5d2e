"""The mouth that follows a voice: its promises, and how near it comes to known phoneme times."""

import tracemalloc
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from scipy import signal

from pipeline.draft import phonemes, speech
from pipeline.draft.phonemes import SAMPLE_RATE, Segment
from pipeline.draft.speech import STEP, MouthTrack, follow_speech
from pipeline.generators import to_end
from tests.quality import tracks
from tests.quality.truth import Voice, load_voices

RANGES = {"wide": (-1, 1), "pitch": (-1, 1)}  # of every other track: 0..1


def voice(name: str) -> Voice:
    return next(voice for group in ("tuning", "held_out") for voice in load_voices(group) if voice.name == name)


def mouth(waveform: np.ndarray, **options: Any) -> MouthTrack:
    num_frames = int(np.ceil(len(waveform) / 640))
    return to_end(follow_speech(waveform.astype(np.float32), num_frames, **options))


def breath(seconds: float, peak: float) -> np.ndarray:
    """Air drawn in: noise between 400 and 6000 Hz that swells and ebbs."""
    noise = np.random.default_rng(2).normal(size=round(seconds * SAMPLE_RATE))
    band = signal.butter(2, [400, 6000], "band", fs=SAMPLE_RATE, output="sos")
    swell = np.sin(np.linspace(0, np.pi, len(noise)))
    air = signal.sosfilt(band, noise) * swell
    return peak * air / np.abs(air).max()


@pytest.fixture(scope="module")
def english() -> Voice:
    return voice("en_michael")


@pytest.fixture(scope="module")
def english_mouth(english: Voice) -> MouthTrack:
    return mouth(english.waveform)


def test_every_track_has_one_value_per_frame_in_its_range(english: Voice, english_mouth: MouthTrack) -> None:
    for field in fields(MouthTrack):
        if field.name in ("source", "segments"):
            continue
        track = getattr(english_mouth, field.name)
        low, high = RANGES.get(field.name, (0, 1))
        assert track.shape == (english.num_frames,), field.name
        assert track.dtype == np.float32, field.name
        assert np.isfinite(track).all(), field.name
        assert low <= track.min() <= track.max() <= high, field.name


def test_share_done_grows_to_one(english: Voice) -> None:
    shares = list(follow_speech(english.waveform, english.num_frames, text=english.facts["text"]))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_same_sound_gives_same_mouth(english: Voice, english_mouth: MouthTrack) -> None:
    again = mouth(english.waveform)
    assert all(np.array_equal(getattr(again, f.name), getattr(english_mouth, f.name)) for f in fields(MouthTrack))


def test_a_vowel_said_louder_opens_wider_and_a_closure_does_not() -> None:
    segments = [Segment("aa", 0.2, 0.4), Segment("PP", 0.4, 0.5), Segment("E", 0.5, 0.7), Segment("ah", 0.8, 1.0)]
    seconds = np.arange(round(1.2 * SAMPLE_RATE)) / SAMPLE_RATE
    loudness = np.select([seconds < 0.45, seconds < 0.75], [0.4, 0.2], 0.05)
    sound = to_end(speech.analyse((loudness * np.sin(2 * np.pi * 700 * seconds)).astype(np.float32)))
    said = speech.stressed(segments, sound)
    assert said[0].stress > said[2].stress > said[3].stress
    assert said[2].stress == pytest.approx(1)
    assert said[1].stress == 1
    assert all(speech.LEAST_STRESS <= segment.stress <= speech.MOST_STRESS for segment in said)
    wider = speech.articulate(said, 120)["jaw"] > speech.articulate(segments, 120)["jaw"]
    assert wider[30] and not wider[90]


@pytest.mark.parametrize("name", ["en_michael", "en_slt", "fr_george", "fr_siwis_b"])
@pytest.mark.parametrize("way", ["free", "words"])
def test_mouth_is_near_the_truth_of_voices_it_was_not_tuned_on(name: str, way: str) -> None:
    spoken = voice(name)
    track = tracks.WAYS[way](spoken)
    score = tracks.score(spoken, track)
    assert track.source == ("words" if way == "words" else "phonemes")
    assert score["jaw"] >= (0.85 if way == "words" else 0.75)
    assert score["wide"] >= (0.85 if way == "words" else 0.65)
    assert score["closed"] >= 0.9
    assert score["false"] <= 0.06
    assert abs(score["lag"]) <= 40
    assert score["pause"] <= 0.1


def test_louder_and_softer_copies_move_the_same_mouth(english: Voice, english_mouth: MouthTrack) -> None:
    softer = mouth(english.waveform * 0.05)
    assert np.corrcoef(softer.jaw, english_mouth.jaw)[0, 1] > 0.95


def test_mouth_rests_in_pauses_full_of_breath_and_noise(english: Voice) -> None:
    pause = 2 * SAMPLE_RATE
    air = np.zeros(pause)
    air[pause // 4 : pause // 4 + SAMPLE_RATE // 2] = breath(0.5, 0.1)
    phrase = english.waveform[: 5 * SAMPLE_RATE]
    waveform = np.concatenate([phrase, air, phrase])
    waveform = waveform + np.random.default_rng(3).normal(0, 0.004, len(waveform))
    track = mouth(waveform)
    times = np.arange(len(track.jaw)) / 25
    inside = (times > 5.3) & (times < 6.7)
    assert track.jaw[inside].max() < 0.15
    assert track.jaw[times < 5].max() > 0.5
    assert np.abs(track.wide[inside]).max() < 0.15


@pytest.mark.parametrize(("seconds", "holds"), [(0.4, True), (0.7, True), (1.5, False)])
def test_mouth_stays_ready_through_short_pauses_only(english: Voice, seconds: float, holds: bool) -> None:
    vowel = english.waveform[round(0.45 * SAMPLE_RATE) : round(1.45 * SAMPLE_RATE)]  # a second of speech
    track = mouth(np.concatenate([vowel, np.zeros(round(seconds * SAMPLE_RATE)), vowel]))
    middle = round((1 + seconds / 2) * 25)
    assert (track.hold[middle] > 0.9) == holds
    assert track.hold[12] > 0.9


def test_noise_alone_does_not_flutter_the_lips() -> None:
    track = mouth(np.random.default_rng(4).normal(0, 0.02, 6 * SAMPLE_RATE))
    assert np.abs(np.diff(track.jaw)).mean() < 0.02
    assert track.close.max() < 0.5


def test_digital_silence_keeps_the_mouth_shut() -> None:
    track = mouth(np.zeros(2 * SAMPLE_RATE))
    assert track.jaw.max() < 0.05
    assert track.speak.max() < 0.05


@pytest.mark.parametrize("text", ["", "Good morning, everybody."])
def test_shortest_recording_is_followed(english: Voice, text: str) -> None:
    start = round(0.5 * SAMPLE_RATE)
    track = mouth(english.waveform[start : start + round(0.4 * SAMPLE_RATE)], text=text)
    assert track.jaw.shape == (10,)


def test_words_that_are_not_spoken_are_left_aside(english: Voice, english_mouth: MouthTrack) -> None:
    for text in (voice("en_slt").facts["text"], english.facts["text"][:60], 3 * english.facts["text"]):
        track = mouth(english.waveform, text=text)
        assert track.source == "phonemes"
        assert np.array_equal(track.jaw, english_mouth.jaw)


def test_without_hama_the_mouth_still_follows(english: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    import hama._engine

    monkeypatch.setattr(hama._engine, "_LIB", None)  # what its own loader leaves on Windows
    score = tracks.score(english, mouth(english.waveform, text=english.facts["text"]))
    assert score["jaw"] >= 0.6
    assert score["closed"] >= 0.8
    french = voice("fr_george")
    told = mouth(french.waveform, text=french.facts["text"], language="fr")
    assert told.source == "words"
    assert tracks.score(french, told)["jaw"] >= 0.8


def test_hum_moves_the_mouth_by_its_loudness_alone() -> None:
    time = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    hum = sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20)) * 0.1 * (1 + np.sin(2 * np.pi * 0.5 * time))
    track = mouth(hum)
    assert np.abs(np.diff(track.jaw)).max() < 0.2
    assert track.fv.max() < 0.5


def test_voice_an_octave_higher_is_heard_an_octave_higher() -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    parts = [sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, 12)) for hz in (110, 150, 220)]
    sound = to_end(speech.analyse((0.1 * np.concatenate(parts)).astype(np.float32)))
    thirds = [np.median(sound.f0[start + 20 : start + 180]) for start in (0, 200, 400)]
    np.testing.assert_allclose(thirds, [110, 150, 220], rtol=0.02)


def test_short_stop_closes_the_lips_on_a_frame() -> None:
    for start in np.arange(0.5, 0.54, 0.005):
        moved = speech.articulate(
            [Segment("aa", 0, start), Segment("PP", start, start + 0.03), Segment("aa", start + 0.03, 1)], 100
        )
        assert speech.at_frames(moved["close"], 25, event=True).max() == pytest.approx(1, abs=0.02)
        assert speech.at_frames(moved["jaw"], 25).min() < 0.25


def test_neighbours_colour_a_consonant() -> None:
    def width_of_k(vowel: str) -> float:
        moved = speech.articulate([Segment(vowel, 0, 0.3), Segment("kk", 0.3, 0.37), Segment(vowel, 0.37, 0.7)], 70)
        return float(moved["wide"][33])

    assert width_of_k("ee") > 0.3
    assert width_of_k("ou") < -0.4


def test_ten_minutes_are_measured_in_little_memory() -> None:
    waveform = np.random.default_rng(5).normal(0, 0.05, 600 * SAMPLE_RATE).astype(np.float32)
    tracemalloc.start()
    sound = to_end(speech.analyse(waveform))
    to_end(phonemes.hear(sound.bands, None))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(sound.level) == pytest.approx(600 / STEP, abs=2)
    assert peak < 110e6  # the recording itself, padded, is 38 MB; its spectrogram would be 62 MB
