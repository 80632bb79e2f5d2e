"""Long recordings in chapters: cut at quiet moments, heard while they are drawn, joined so that nothing shows."""

from collections.abc import Generator
from itertools import pairwise

import numpy as np
import pytest

from pipeline import face, media
from pipeline.draft import chapters
from pipeline.draft.chapters import Ear, chapters_of
from pipeline.draft.engine import DraftEngine
from pipeline.draft.speech import follow_speech
from pipeline.engine import Scene, Speaker
from pipeline.generators import to_end
from pipeline.media import SAMPLE_RATE, Speech
from pipeline.plan import FPS
from tests.conftest import EXAMPLES

NOISE = 0.1 * np.random.default_rng(0).standard_normal(180 * SAMPLE_RATE).astype(np.float32)


def test_short_clips_and_known_words_are_one_chapter():
    assert chapters_of(NOISE, 75 * FPS, is_known=False) == [(0, 75 * FPS)]
    assert chapters_of(NOISE, 180 * FPS, is_known=True) == [(0, 180 * FPS)]


def test_chapters_follow_one_another_and_cover_the_clip():
    cut = chapters_of(NOISE, 179 * FPS + 7, is_known=False)
    assert cut[0][0] == 0 and cut[-1][1] == 179 * FPS + 7
    assert all(before[1] == after[0] for before, after in pairwise(cut))
    assert all(40 * FPS < last - first < 75 * FPS for first, last in cut)


def test_a_chapter_ends_in_a_pause():
    waveform = NOISE[: 100 * SAMPLE_RATE].copy()
    waveform[46 * SAMPLE_RATE : 47 * SAMPLE_RATE] *= 0.01
    first, _ = chapters_of(waveform, 100 * FPS, is_known=False)
    assert 46 * FPS < first[1] < 47 * FPS


@pytest.fixture(scope="module")
def speech() -> Speech:
    """Fifteen seconds of two voices."""
    paths = sorted((EXAMPLES / "voices").glob("english_*.wav"))[:2]
    waveform = np.concatenate([media.load_speech(path).waveform for path in paths])
    return Speech(paths[0], waveform[: 15 * SAMPLE_RATE], 15.0)


@pytest.fixture
def short_chapters(monkeypatch):
    """Chapters of some five seconds, as if a clip of fifteen were long."""
    monkeypatch.setattr(chapters, "LONGEST_WHOLE", 10 * FPS)
    monkeypatch.setattr(chapters, "CHAPTER", 5 * FPS)
    monkeypatch.setattr(chapters, "SEEK", FPS)


@pytest.fixture(scope="module")
def scene(speech, portrait_path) -> Scene:
    portrait = media.load_portrait(portrait_path)
    return Scene.of(portrait, speech, face.locate(portrait, name="portrait"))


def test_heard_in_chapters_a_mouth_moves_as_heard_at_once(short_chapters, scene, speech):
    whole = to_end(follow_speech(speech.waveform, 375))
    cut = chapters_of(speech.waveform, 375, is_known=False)
    assert len(cut) == 3
    ear = Ear(scene.speakers[0], cut, by_turns=False)
    parts = [to_end(ear.listen(number)) for number in range(3)]
    jaw, hold = (np.concatenate([getattr(part, name) for part in parts]) for name in ("jaw", "hold"))
    assert [len(part.jaw) for part in parts] == [last - first for first, last in cut]
    assert np.corrcoef(jaw, whole.jaw)[0, 1] > 0.95
    for _, joint in cut[:-1]:
        assert abs(jaw[joint] - jaw[joint - 1]) <= 0.1 and abs(hold[joint] - hold[joint - 1]) <= 0.1


def test_where_chapters_meet_nothing_jumps_and_all_are_drawn(short_chapters, scene, speech):
    plan = DraftEngine().plan(scene, size=256)
    frames = list(to_end(DraftEngine().perform(scene, plan, seed=5)).frames)
    assert len(frames) == plan.num_frames == 375
    steps = np.array([np.abs(after.astype(np.int16) - before).mean() for before, after in pairwise(frames)])
    for _, joint in chapters_of(speech.waveform, 375, is_known=False)[:-1]:
        assert steps[joint - 1] < np.median(steps)
        assert np.abs(frames[joint].astype(np.int16) - frames[0]).mean() < 1.5 * np.median(steps)  # the head at rest


def test_a_chapter_is_heard_while_the_one_before_is_drawn(short_chapters, scene, monkeypatch):
    begun = []

    def noting(waveform, num_frames, **options):
        begun.append(num_frames)
        return (yield from follow_speech(waveform, num_frames, **options))

    monkeypatch.setattr(chapters, "follow_speech", noting)
    frames = to_end(DraftEngine().perform(scene, DraftEngine().plan(scene, size=256), seed=5)).frames
    assert len(begun) == 1
    next(frames), next(frames)
    assert len(begun) == 2
    assert isinstance(frames, Generator)
    frames.close()


def test_a_voice_that_begins_later_is_silent_before(scene, speech):
    late = Speaker(speech, scene.speakers[0].face, start=1.0)
    mouth = to_end(Ear(late, [(0, 400)], by_turns=False).listen(0))
    alone = to_end(Ear(scene.speakers[0], [(0, 375)], by_turns=False).listen(0))
    assert mouth.jaw[:20].max() < 0.02
    assert np.corrcoef(mouth.jaw[25:], alone.jaw)[0, 1] > 0.95


def test_long_silences_between_turns_do_not_change_what_is_heard(scene, speech):
    """Five seconds of speech among forty of silence."""
    spoken = speech.waveform[: 5 * SAMPLE_RATE]
    padded = np.concatenate([np.zeros(20 * SAMPLE_RATE, np.float32), spoken, np.zeros(20 * SAMPLE_RATE, np.float32)])
    speaker = Speaker(Speech(speech.path, padded, 45.0), scene.speakers[0].face)
    turn = to_end(Ear(speaker, [(0, 45 * FPS)], by_turns=True).listen(0))
    alone = to_end(follow_speech(spoken, 5 * FPS))
    assert turn.jaw[: 19 * FPS].max() == turn.jaw[27 * FPS :].max() == 0
    assert np.corrcoef(turn.jaw[20 * FPS : 25 * FPS], alone.jaw)[0, 1] > 0.95
