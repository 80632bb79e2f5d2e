"""What is spoken when: pieces of long recordings, free recognition, and known words."""

import itertools
import sys
import tracemalloc

import numpy as np
import pytest

from pipeline.draft import phonemes, pronounce
from pipeline.draft.phonemes import CLASSES, POSTERIOR_SECONDS, SAMPLE_RATE, STATES, Segment
from pipeline.draft.speech import LEAST_BELIEF, analyse
from pipeline.generators import to_end
from tests.quality.truth import Voice, load_voices

TEN_MINUTES = 600  # seconds, the longest recording the doors let in


@pytest.fixture(scope="module")
def english() -> Voice:
    return next(voice for voice in load_voices("tuning") if voice.name == "en_bella")


@pytest.fixture(scope="module")
def french() -> Voice:
    return next(voice for voice in load_voices("tuning") if voice.name == "fr_siwis_a")


def states_of(waveform: np.ndarray) -> np.ndarray:
    bands = to_end(analyse(waveform)).bands[: phonemes.rows_of(waveform)]
    return to_end(phonemes.hear(bands, to_end(phonemes.posteriors(waveform))))


@pytest.fixture(scope="module")
def english_states(english: Voice) -> np.ndarray:
    return states_of(english.waveform)


def words_of(voice: Voice) -> list[list[str]]:
    said = to_end(pronounce.sounds_of(voice.facts["text"], voice.facts["language"]))
    return [phonemes.classes_of(word) for word in said]


def test_no_sound_belongs_to_two_classes() -> None:
    sounds = [sound for said in phonemes.CLASS_SOUNDS.values() for sound in said.split()]
    assert len(sounds) == len(set(sounds))


def test_long_recording_is_cut_at_its_pauses() -> None:
    rng = np.random.default_rng(0)
    waveform = rng.normal(0, 0.1, 70 * SAMPLE_RATE).astype(np.float32)
    for second in range(5, 70, 3):  # a pause of 0.3 s every three seconds
        waveform[second * SAMPLE_RATE : int((second + 0.3) * SAMPLE_RATE)] *= 0.001
    cuts = phonemes.quiet_cuts(waveform)
    assert cuts[0] == 0
    assert cuts[-1] == 70 / POSTERIOR_SECONDS
    for first, last in itertools.pairwise(cuts):
        assert 0 < (last - first) * POSTERIOR_SECONDS <= phonemes.CHUNK_SECONDS
    for cut in cuts[1:-1]:
        assert (cut * POSTERIOR_SECONDS - 5) % 3 < 0.35


@pytest.fixture(scope="module")
def in_one_pass(english: Voice) -> list[Segment]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phonemes, "quiet_cuts", lambda waveform, *_: [0, phonemes.rows_of(waveform)])
        return to_end(phonemes.recognise(states_of(english.waveform)))


@pytest.mark.parametrize("second", [6.0, 6.8, 7.6, 8.4])
def test_phrase_across_a_join_gives_the_segments_of_one_pass(
    english: Voice, in_one_pass: list[Segment], second: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = round(second / POSTERIOR_SECONDS)
    monkeypatch.setattr(phonemes, "quiet_cuts", lambda waveform, *_: [0, cut, phonemes.rows_of(waveform)])
    joined = to_end(phonemes.recognise(states_of(english.waveform)))
    one, other = (
        [segment for segment in segments if abs(segment.start - second) < 1] for segments in (in_one_pass, joined)
    )
    assert len(one) > 10
    assert [segment.viseme for segment in one] == [segment.viseme for segment in other]
    np.testing.assert_allclose(  # the recogniser weighs the whole piece: edges may move by one row
        [segment.start for segment in one], [segment.start for segment in other], atol=1.01 * POSTERIOR_SECONDS
    )


def test_nothing_is_lost_after_thirty_seconds(english: Voice) -> None:
    waveform = np.tile(english.waveform, 3)
    table = to_end(phonemes.posteriors(waveform))
    rows = phonemes.rows_of(english.waveform)
    first, last = phonemes.num_emitted(table[:rows]), phonemes.num_emitted(table[-rows:])
    assert first > 80
    assert abs(first - last) <= 0.05 * first


def test_posteriors_are_shares_of_one(english: Voice) -> None:
    table = to_end(phonemes.posteriors(english.waveform[: 4 * SAMPLE_RATE]))
    assert table.shape == (200, len(CLASSES) + 1)
    np.testing.assert_allclose(table.sum(1, dtype=np.float64), 1, atol=0.01)


@pytest.mark.parametrize("with_recogniser", [True, False])
def test_ear_hears_most_sounds_of_a_voice_it_was_not_trained_on(with_recogniser: bool) -> None:
    voice = next(voice for voice in load_voices("held_out") if voice.name == "en_michael")
    table = to_end(phonemes.posteriors(voice.waveform)) if with_recogniser else None
    states = to_end(phonemes.hear(to_end(analyse(voice.waveform)).bands[: phonemes.rows_of(voice.waveform)], table))
    assert states.shape == (phonemes.rows_of(voice.waveform), len(STATES))
    truth = [
        phonemes.Segment("sil" if sound == "sil" else phonemes.CLASS_OF[sound], start, end)
        for sound, start, end in voice.facts["phonemes"]
    ]
    right = []
    for segment in phonemes.halves(truth):
        rows = slice(round(segment.start / POSTERIOR_SECONDS), round(segment.end / POSTERIOR_SECONDS))
        right += list(states[rows].argmax(1) == STATES.index(segment.viseme))
    assert np.mean(right) > (0.7 if with_recogniser else 0.5)


def test_segments_cover_the_recording_once(english: Voice, english_states: np.ndarray) -> None:
    for segments in (
        to_end(phonemes.recognise(english_states)),
        to_end(phonemes.align(english_states, [["aa", "PP"]]))[0],
    ):
        assert segments[0].start == 0
        assert segments[-1].end == pytest.approx(len(english_states) * POSTERIOR_SECONDS)
        assert all(one.end == other.start for one, other in itertools.pairwise(segments))
        assert all(one.end > one.start for one in segments)


def test_known_sounds_are_found_where_they_are() -> None:
    plan = [("sil", 10), ("PP", 4), ("aa", 8), ("PP", 5), ("PP", 5), ("ee", 9), ("sil", 20), ("SS", 6), ("sil", 3)]
    states = np.full((sum(rows for _, rows in plan), len(STATES)), 0.01, np.float16)
    row = 0
    for viseme, rows in plan:
        states[row : row + rows, STATES.index(viseme)] = 0.8
        row += rows
    states[26:28] = 1 / len(STATES)  # between the two like sounds there is something
    segments, belief = to_end(phonemes.align(states, [["PP", "aa", "PP"], ["PP", "ee"], ["SS"]]))
    assert [segment.viseme for segment in segments if segment.viseme != "sil"] == ["PP", "aa", "PP", "PP", "ee", "SS"]
    assert segments[1].start == pytest.approx(0.2 + phonemes.ROW_SHIFT)
    assert segments[-2].start == pytest.approx(1.22 + phonemes.ROW_SHIFT)
    assert segments[-2].end == pytest.approx(1.34 + phonemes.ROW_SHIFT)
    assert belief > 0.7


def test_pause_is_placed_between_words() -> None:
    states = np.full((40, len(STATES)), 0.01, np.float16)
    states[:10, STATES.index("aa")] = states[30:, STATES.index("ee")] = 0.8
    states[10:30, 0] = 0.8
    for words, lips in (([["aa"], ["PP", "ee"]], 0.6), ([["aa", "PP"], ["ee"]], 0.2)):
        segments, _ = to_end(phonemes.align(states, words))
        closed = next(segment for segment in segments if segment.viseme == "PP")
        assert (closed.start if lips < 0.5 else closed.end) == pytest.approx(lips, abs=0.04)


def test_breath_between_pauses_is_no_speech() -> None:
    plan = [("sil", 20), ("hh", 10), ("kk", 3), ("sil", 20), ("SS", 5), ("ee", 6), ("sil", 4), ("PP", 4), ("sil", 20)]
    states = np.full((sum(rows for _, rows in plan), len(STATES)), 0.01, np.float16)
    states[np.arange(len(states)), np.repeat([STATES.index(v) for v, _ in plan], [rows for _, rows in plan])] = 0.8
    heard = [segment.viseme for segment in to_end(phonemes.recognise(states))]
    assert heard == ["sil", "SS", "ee", "sil", "PP", "sil"]


def test_right_words_are_believed_and_others_are_not(english: Voice, french: Voice, english_states: np.ndarray) -> None:
    _, right = to_end(phonemes.align(english_states, words_of(english)))
    _, wrong = to_end(phonemes.align(english_states, words_of(french)))
    assert right > LEAST_BELIEF + 0.1
    assert wrong < LEAST_BELIEF - 0.1


def test_words_too_many_for_the_time_are_not_placed(english_states: np.ndarray) -> None:
    assert to_end(phonemes.align(english_states[:50], [["aa"]] * 51)) == ([], 0.0)


def test_ten_minutes_of_words_align_in_little_memory() -> None:
    rng = np.random.default_rng(1)
    known = rng.choice(np.array(STATES[1:]), 8_000)
    rows = rng.integers(2, 5, len(known))
    states = np.full((int(rows.sum()), len(STATES)), 0.02, np.float16)
    spoken = np.repeat([STATES.index(viseme) for viseme in known], rows)
    states[np.arange(len(states)), spoken] = 0.6
    assert len(states) * POSTERIOR_SECONDS > 0.75 * TEN_MINUTES
    tracemalloc.start()
    segments, belief = to_end(
        phonemes.align(states, [list(known[first : first + 4]) for first in range(0, len(known), 4)])
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert belief > 0.5
    assert len([segment for segment in segments if segment.viseme != "sil"]) == len(known)
    assert peak < 60e6  # all places for all rows would take 390 MB


def test_recogniser_without_its_library_is_missing_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    import hama._engine

    monkeypatch.setattr(hama._engine, "_LIB", None)  # what its own loader leaves on Windows
    with pytest.raises(phonemes.RecogniserMissingError, match="libhama"):
        to_end(phonemes.posteriors(np.zeros(SAMPLE_RATE, np.float32)))


def test_recogniser_not_installed_is_missing_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hama.asr", None)
    with pytest.raises(phonemes.RecogniserMissingError):
        phonemes.load_recogniser()
