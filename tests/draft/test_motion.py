"""How head, brows, lids and eyes behave, over voices of known shape."""

import time
from dataclasses import fields

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from pipeline.draft.motion import HeadTrack, move_head
from pipeline.draft.speech import MouthTrack
from pipeline.plan import FPS

SEEDS = range(12)


def voice(seconds: float, pauses: tuple[tuple[float, float], ...] = (), *, speaks: bool = True) -> MouthTrack:
    """A voice that speaks but in its pauses (seconds), its pitch and accents drawn from a fixed stream."""
    num_frames = round(seconds * FPS)
    generator = np.random.default_rng(7)
    speak = np.full(num_frames, float(speaks), np.float32)
    for start, stop in pauses:
        speak[round(start * FPS) : round(stop * FPS)] = 0
    pitch = gaussian_filter1d(generator.normal(0, 1, num_frames), 4) * speak  # about 0.3 octaves
    accent = np.clip(gaussian_filter1d(generator.normal(0, 1, num_frames), 3) * 3, 0, 1) * speak
    rest = np.zeros(num_frames, np.float32)
    return MouthTrack(
        jaw=rest,
        wide=rest,
        pucker=rest,
        close=rest,
        fv=rest,
        tongue=rest,
        speak=speak,
        hold=speak,
        loudness=speak,
        pitch=pitch.astype(np.float32),
        accent=accent.astype(np.float32),
        source="loudness",
    )


def blinks(track: HeadTrack) -> np.ndarray:
    """Seconds at which the lids are fully closed, one for each blink."""
    closed = track.lid >= 0.999
    return np.flatnonzero(closed & ~np.concatenate([[False], closed[:-1]])) / FPS


def look(track: HeadTrack) -> np.ndarray:
    """(num_frames, 2) degrees: where the eyes look in the world, the head's share put back."""
    return np.stack([track.gaze_x + 0.9 * track.yaw, track.gaze_y + 0.9 * track.pitch], axis=1)


@pytest.fixture(scope="module")
def minute() -> list[HeadTrack]:
    """A minute of speech with three pauses, by twelve seeds."""
    speech = voice(60, ((12, 13), (25, 26.2), (41, 41.8)))
    return [move_head(speech, seed=seed) for seed in SEEDS]


def test_every_track_is_float32_of_the_clips_length_and_finite() -> None:
    for num_frames in (1, 2, 5, 10, 26, 400):
        track = move_head(voice(num_frames / FPS), seed=3)
        for field in fields(track):
            values = getattr(track, field.name)
            assert values.shape == (num_frames,), field.name
            assert values.dtype == np.float32, field.name
            assert np.isfinite(values).all(), field.name


def test_same_seed_gives_same_track_and_another_seed_another() -> None:
    speech = voice(10)
    one, same, other = (move_head(speech, seed=seed) for seed in (5, 5, 6))
    for field in fields(one):
        assert (getattr(one, field.name) == getattr(same, field.name)).all()
    for name in ("yaw", "pitch", "roll", "shift_x", "lid", "gaze_x"):
        assert (getattr(one, name) != getattr(other, name)).any(), name


def test_clip_starts_and_ends_in_the_portraits_pose(minute: list[HeadTrack]) -> None:
    for track in [*minute, *(move_head(voice(1.2), seed=seed) for seed in SEEDS)]:
        for field in fields(track):
            values = getattr(track, field.name)
            assert abs(values[0]) < 1e-6, field.name
            assert abs(values[-1]) < 1e-6, field.name
        for name in ("yaw", "pitch", "roll"):
            assert np.abs(np.diff(getattr(track, name))[[0, -1]]).max() < 0.15, name  # eases off, does not jump


def test_head_stays_within_what_the_renderer_hides(minute: list[HeadTrack]) -> None:
    for track in minute:
        assert np.abs(track.yaw).max() <= 6
        assert np.abs(track.pitch).max() <= 4
        assert np.abs(track.roll).max() <= 2
        assert max(np.abs(track.shift_x).max(), np.abs(track.shift_y).max()) <= 0.012
        assert np.abs(track.brow).max() <= 1
        assert track.lid.min() >= 0
        assert track.lid.max() <= 1
        assert np.abs(look(track)).max() <= 8
        assert max(np.abs(track.gaze_x).max(), np.abs(track.gaze_y).max()) <= 12


def test_head_moves_enough_to_look_alive_while_speaking(minute: list[HeadTrack]) -> None:
    assert 0.6 < np.mean([track.yaw.std() for track in minute]) < 2.5
    assert 0.3 < np.mean([track.pitch.std() for track in minute]) < 1.5
    assert 0.2 < np.mean([track.roll.std() for track in minute]) < 1.0


def test_head_is_slower_than_three_hertz(minute: list[HeadTrack]) -> None:
    for track in minute:
        for name in ("yaw", "pitch", "roll", "shift_x", "shift_y"):
            power = np.abs(np.fft.rfft(getattr(track, name))) ** 2
            hertz = np.fft.rfftfreq(len(track.yaw), 1 / FPS)
            assert power[hertz > 3].sum() < 0.01 * power[hertz > 0].sum(), name


def test_head_is_calmer_in_silence() -> None:
    spoken = [move_head(voice(20), seed=seed) for seed in SEEDS]
    silent = [move_head(voice(20, speaks=False), seed=seed) for seed in SEEDS]
    for name in ("yaw", "pitch", "roll"):
        calm, lively = (np.mean([getattr(track, name).std() for track in tracks]) for tracks in (silent, spoken))
        assert calm < 0.5 * lively, name


def test_head_and_brows_rise_with_the_voice_and_the_head_nods_on_accents() -> None:
    flat = voice(8)
    still, none = np.zeros_like(flat.pitch), flat.accent * 0
    high, accent = still.copy(), still.copy()
    high[100:112] = 0.5
    accent[100:103] = 1.0

    def with_voice(pitch: np.ndarray, accent: np.ndarray) -> HeadTrack:
        return move_head(MouthTrack(**{**vars(flat), "pitch": pitch, "accent": accent}), seed=2)

    plain, raised, nodded = with_voice(still, none), with_voice(high, none), with_voice(still, accent)
    assert 0.5 < (raised.pitch - plain.pitch).max() < 1.6
    assert -2.0 < (nodded.pitch - plain.pitch).min() < -0.5
    assert raised.brow.max() > 0.4
    assert nodded.brow.max() > 0.1
    assert np.abs(plain.brow).max() < 1e-6


def test_people_blink_ten_to_twenty_five_times_a_minute() -> None:
    rates = [len(blinks(move_head(voice(120), seed=seed))) / 2 for seed in SEEDS]
    assert min(rates) >= 10
    assert max(rates) <= 25


def test_blinks_close_fast_open_slowly_and_are_complete(minute: list[HeadTrack]) -> None:
    for track in minute:
        begins = np.flatnonzero((track.lid[1:] > 0) & (track.lid[:-1] == 0))
        peaks = np.flatnonzero(track.lid >= 0.999)
        assert len(peaks) == len(begins) >= 8  # each has its fully closed frame, one alone
        for peak in peaks:
            assert track.lid[peak - 3] == 0  # 90 ms to close
            assert 0.05 < track.lid[peak - 2] < 0.3
            assert 0.6 < track.lid[peak - 1] < 0.9
            assert track.lid[peak + 1] > track.lid[peak - 1]  # 150 to 225 ms to open
            assert track.lid[peak + 3] > 0
            assert track.lid[peak + 7] == 0


def test_blinks_keep_their_distance_unless_double() -> None:
    gaps = np.concatenate([np.diff(blinks(move_head(voice(120), seed=seed))) for seed in SEEDS])
    is_double = gaps < 0.5
    assert 0.01 < is_double.mean() < 0.2
    assert gaps[is_double].min() >= 0.3
    assert gaps[~is_double].min() >= 1.3 - 1 / FPS


def test_blinks_gather_at_the_ends_of_phrases() -> None:
    ends = np.arange(5, 60, 5.0)
    speech = voice(60, tuple((end, end + 0.25) for end in ends))
    at_ends, elsewhere = 0, 0
    for seed in SEEDS:
        when = blinks(move_head(speech, seed=seed))
        at_ends += sum(np.abs(when - end).min() < 0.2 for end in ends)
        elsewhere += sum(np.abs(when - end).min() < 0.2 for end in ends - 2.5)
    assert at_ends > 2 * elsewhere
    assert at_ends > 0.3 * len(ends) * len(SEEDS)


def test_eyes_are_mostly_on_the_viewer(minute: list[HeadTrack]) -> None:
    away = np.concatenate([np.hypot(*look(track).T) for track in minute])
    assert 0.65 < (away < 2).mean() < 0.95
    assert (away > 2.4).mean() > 0.05


def test_eyes_jump_within_two_frames_and_rest_between(minute: list[HeadTrack]) -> None:
    for track in minute:
        steps = np.hypot(*np.diff(look(track), axis=0).T)
        moving = steps > 0.8
        runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[False], moving, [False]]).astype(int))))[::2]
        assert runs.max() <= 2
        assert 8 <= len(runs) <= 60  # large enough to be seen, a minute long
        assert np.median(steps) < 0.06


def test_eyes_make_up_for_most_of_the_heads_turn(minute: list[HeadTrack]) -> None:
    for track in minute:
        resting = np.hypot(*np.diff(look(track), axis=0, prepend=0).T) < 0.1
        turn, roll_back = np.diff(track.yaw)[resting[1:]], np.diff(track.gaze_x)[resting[1:]]
        slope = (turn * roll_back).sum() / (turn * turn).sum()
        assert -1.0 < slope < -0.75


def test_speaker_looks_away_at_the_beginning_of_a_pause() -> None:
    starts = np.arange(4, 58, 6.0)
    speech = voice(60, tuple((start, start + 0.9) for start in starts))
    in_pauses, in_speech = [], []
    for seed in SEEDS:
        away = np.hypot(*look(move_head(speech, seed=seed)).T) > 2
        in_pauses += [away[round((start + 0.4) * FPS)] for start in starts]
        in_speech += [away[round((start - 1.5) * FPS)] for start in starts]
    assert np.mean(in_pauses) > 0.55
    assert np.mean(in_speech) < 0.35


def test_ten_minutes_take_less_than_two_seconds() -> None:
    speech = voice(600, tuple((second, second + 0.5) for second in range(5, 600, 7)))
    started = time.process_time()
    move_head(speech, seed=1)
    assert time.process_time() - started < 2
