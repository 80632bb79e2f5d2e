"""From what is heard to what a face does, and in what mood."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from pipeline.direction import AS_USUAL, MOODS, Direction, scale
from pipeline.draft.acting import JAW_SPEED, MOOD_FACES, act, within_reach
from pipeline.draft.expression import MOOD_MOVEMENTS, MOVEMENTS, ExpressionFields
from pipeline.draft.eyes import both_eyes
from pipeline.draft.motion import MOOD_SIZE, HeadTrack, move_head
from pipeline.draft.puppet import MAP_STEP, Moment, Puppet
from pipeline.draft.speech import MouthTrack, follow_speech
from pipeline.face import landmarks_in, region_around
from pipeline.generators import to_end
from pipeline.media import load_speech
from pipeline.plan import FPS
from tests.draft.conftest import PORTRAITS, sit
from tests.quality.measures import on_face_axes

EXAMPLE_VOICE = PORTRAITS.parent / "voices" / "english_calm_8s.wav"
NAMES = [name for name in MouthTrack.__dataclass_fields__ if name not in ("source", "segments")]
SITTERS = ("woman_facing_camera.jpg", "officer_with_glasses.jpg", "drawing_of_a_girl.jpg")


def heard(num_frames=8, **tracks) -> MouthTrack:
    """A track that is at rest but for what is given."""
    arrays = {name: np.full(num_frames, tracks.get(name, 0.0), np.float32) for name in NAMES}
    return MouthTrack(**arrays, source="phonemes")  # type: ignore[arg-type]  # arrays alone


def still(num_frames=8) -> HeadTrack:
    return HeadTrack(**{name: np.zeros(num_frames, np.float32) for name in HeadTrack.__dataclass_fields__})


def first(face, **tracks):
    return next(iter(act(heard(**tracks), still(), face)))


def test_one_moment_for_every_frame(smile):
    mouth = heard(num_frames=60, speak=1.0, hold=1.0, jaw=0.4)
    assert len(list(act(mouth, move_head(mouth, seed=1), smile.geometry))) == 60


def test_in_long_silence_the_pictures_own_smile_returns(smile):
    moment = first(smile.geometry)
    assert moment.movements["gapclose"] == 0 and moment.movements["jaw"] == 0


@pytest.mark.parametrize("name", ["close", "fv"])
def test_sealed_lips_close_a_smile(smile, name):
    assert first(smile.geometry, hold=1.0, speak=1.0, **{name: 1.0}).movements["gapclose"] == 1


def test_a_pause_between_words_nearly_shuts_a_smile(smile):
    pause = first(smile.geometry, hold=1.0, speak=0.0).movements["gapclose"]
    assert pause > first(smile.geometry, hold=1.0, speak=1.0).movements["gapclose"] > 0.5


def test_closed_lips_have_no_gap_to_close(closed):
    assert first(closed.geometry, hold=1.0, close=1.0).movements["gapclose"] == 0


def test_lips_that_are_open_already_need_less_jaw(smile, closed):
    opened, shut = (first(sitter.geometry, jaw=0.6).movements["jaw"] for sitter in (smile, closed))
    assert 0 <= opened < shut


def test_a_mouth_does_not_pop_open_in_one_frame(closed):
    mouth = heard(num_frames=12, hold=1.0, speak=1.0)
    mouth.jaw[6:] = 1.0
    jaws = [moment.movements["jaw"] for moment in act(mouth, still(12), closed.geometry)]
    assert np.abs(np.diff(jaws)).max() <= JAW_SPEED + 1e-6
    assert jaws[5] == 0 and jaws[-1] == 1


def test_closures_survive_the_limit_on_speed():
    opening = np.random.default_rng(0).random(200).astype(np.float32)
    opening[::17] = 0
    reached = within_reach(opening, 0.2)
    assert (reached <= opening + 1e-6).all() and np.abs(reached[::17]).max() < 1e-6
    assert np.abs(np.diff(reached)).max() <= 0.2 + 1e-5
    np.testing.assert_allclose(within_reach(reached, 0.2), reached, atol=1e-5)


# --- direction --------------------------------------------------------------------------------------------------------

FELT = sorted(set(MOODS) - {"neutral"})
EVERY = [Direction(mood=mood, expression=expression) for mood in MOODS for expression in (0.0, 0.5, 1.0)]
VOWEL = {"jaw": 1.0, "hold": 1.0, "speak": 1.0, "loudness": 0.7}
SEALED = {"jaw": 0.02, "close": 1.0, "hold": 1.0, "speak": 1.0, "loudness": 0.5}


def directed(face, direction, num_frames=8, lid=0.0, **tracks):
    """The last of some equal moments in a mood that has come; at motion 0, so that landmarks can be compared."""
    head = still(num_frames)
    head.mood[:] = scale(direction.expression, *MOOD_SIZE) * (direction.mood != "neutral")
    head.lid[:] = lid
    return list(act(heard(num_frames, **tracks), head, face, direction))[-1]


@cache
def solved(name):
    """A face's fields; the lips they give do not depend on the frames before."""
    return ExpressionFields(sit(name).geometry)


def test_every_mood_has_a_face():
    assert tuple(MOOD_FACES) == MOODS
    weights = {name for mood in MOOD_FACES.values() for name in {**mood.brows, **mood.lips}}
    assert set(MOOD_MOVEMENTS) <= weights <= {*MOVEMENTS, *MOOD_MOVEMENTS}


def test_a_neutral_mood_in_the_middle_of_the_sliders_asks_for_nothing_new(smile):
    mouth = heard(num_frames=40, **VOWEL)
    usual = list(act(mouth, move_head(mouth, seed=1), smile.geometry))
    assert usual == list(act(mouth, move_head(mouth, seed=1, direction=AS_USUAL), smile.geometry, AS_USUAL))
    assert not set(MOOD_MOVEMENTS) & set(usual[30].movements)
    assert usual[30].squint == usual[30].slant == 0


def test_a_mood_begins_with_the_pictures_own_face(closed):
    mouth = heard(num_frames=60)
    for mood in FELT:
        direction = Direction(mood=mood)
        moments = list(act(mouth, move_head(mouth, seed=1, direction=direction), closed.geometry, direction))
        usual = list(act(mouth, move_head(mouth, seed=1), closed.geometry))
        assert moments[0] == usual[0] and moments[30] != usual[30]


@pytest.mark.parametrize("name", SITTERS)
@pytest.mark.parametrize("direction", EVERY, ids=lambda asked: f"{asked.mood}-{asked.expression}")
def test_lips_close_on_m_b_and_p_in_every_mood(name, direction):
    fields = solved(name)
    face, gaps = fields.face, []
    for sound in (SEALED, VOWEL):
        lips = fields.move(directed(face, direction, **sound).movements)
        gaps.append((face.to_face(lips.lower_lip) - face.to_face(lips.upper_lip))[:, 1].max())
    assert gaps[0] < 0.02 and gaps[1] > 0.2


@pytest.mark.parametrize("mood", MOODS)
def test_the_calmest_vowels_are_readable_and_the_livelier_ones_larger(closed, mood):
    jaws = [
        directed(closed.geometry, Direction(mood=mood, expression=expression), **{**VOWEL, "jaw": 0.8}).movements["jaw"]
        for expression in (0.0, 0.5, 1.0)
    ]
    assert 0.8 * jaws[1] < jaws[0] < jaws[1] < jaws[2]


@pytest.mark.parametrize("mood", MOODS)
def test_rounded_vowels_stay_round_in_every_mood(mood):
    fields = solved(SITTERS[1])
    face = fields.face
    rounded = fields.move(directed(face, Direction(mood=mood), pucker=1.0, wide=-0.85, jaw=0.25).movements)
    width = np.ptp(face.to_face(rounded.upper_lip)[:, 0])
    assert width < 0.88 * np.ptp(face.to_face(face.upper)[:, 0])


@pytest.mark.parametrize("direction", EVERY, ids=lambda asked: f"{asked.mood}-{asked.expression}")
def test_a_blink_closes_the_eyes_in_every_mood(closed, direction):
    assert directed(closed.geometry, direction, lid=1.0).lid == 1
    assert directed(closed.geometry, direction, lid=-0.6).lid >= -1


@pytest.mark.parametrize("mood", ["sad", "angry"])
def test_slanted_lids_stay_slanted_where_a_lively_face_would_widen_its_eyes(closed, mood):
    eye = both_eyes(closed.frame, closed.landmarks)[0]
    lively = directed(closed.geometry, Direction(mood=mood), lid=-0.2)
    slanted, level = (eye.draw(lively.lid, 0, 0, slant=slant).astype(int) for slant in (lively.slant, 0.0))
    assert np.abs(slanted - level).max() > 20


def test_glasses_do_not_bend_with_the_brows(closed):
    bare = replace(closed.geometry, has_glasses=False)
    for mood, movement in (("sad", "worry"), ("angry", "frown"), ("surprised", "startle")):
        worn, without = (directed(face, Direction(mood=mood)).movements[movement] for face in (closed.geometry, bare))
        assert 0 < worn < 0.3 * without


def test_no_mood_but_a_happy_one_keeps_a_smile(smile):
    for mood in ("sad", "angry"):
        moment = directed(smile.geometry, Direction(mood=mood))
        assert moment.movements["gapclose"] == 1 and moment.movements["relax"] > 0.8
    happy = directed(smile.geometry, Direction(mood="happy")).movements
    assert happy["gapclose"] == 0 and happy["relax"] == 0


# --- what a landmark net sees of it -----------------------------------------------------------------------------------


def measured(sitter, moods, **tracks):
    """Features of the drawn frames by mood, in eye distances: heights of corners and brows, down positive."""
    puppet = Puppet(sitter.picture, sitter.landmarks, sitter.mask)
    points = []
    for mood in moods:
        moment = directed(puppet.face, Direction(mood=mood), **tracks)
        for _ in range(4):  # the movements' inversion settles over frames
            frame = puppet.draw(moment)
        points.append(landmarks_in(frame, region_around(sitter.landmarks))[0])
    axes = on_face_axes(np.stack(points))
    heights = {
        "corners": axes[:, [61, 291], 1].mean(axis=1) - axes[:, [13, 14], 1].mean(axis=1),
        "inner brows": axes[:, [107, 336, 55, 285], 1].mean(axis=1),
        "outer brows": axes[:, [70, 300, 46, 276], 1].mean(axis=1),
        "eyes": axes[:, [145, 374], 1].mean(axis=1) - axes[:, [159, 386], 1].mean(axis=1),
    }
    return {mood: {name: float(values[i]) for name, values in heights.items()} for i, mood in enumerate(moods)}


@pytest.mark.parametrize("sound", [{}, {**VOWEL, "jaw": 0.7}], ids=["at rest", "in a vowel"])
@pytest.mark.parametrize("name", ["smile", "drawing"])
def test_a_landmark_net_sees_each_mood_for_what_it_is(request, name, sound):
    seen = measured(request.getfixturevalue(name), MOODS, **sound)
    moved = {mood: {part: seen[mood][part] - seen["neutral"][part] for part in seen[mood]} for mood in FELT}
    assert moved["happy"]["corners"] < -0.02
    assert moved["sad"]["corners"] > 0.05 and moved["angry"]["corners"] > 0.015
    assert moved["sad"]["inner brows"] < -0.03 < moved["sad"]["outer brows"]
    assert moved["angry"]["inner brows"] > 0.03 > moved["angry"]["outer brows"]
    assert max(moved["surprised"]["inner brows"], moved["surprised"]["outer brows"]) < -0.04
    assert moved["surprised"]["eyes"] > 0.02 > 0 > moved["angry"]["eyes"]


def test_behind_glasses_the_mouth_tells_the_mood(closed):
    seen = measured(closed, MOODS)
    assert seen["happy"]["corners"] + 0.06 < seen["neutral"]["corners"] < seen["sad"]["corners"] - 0.04
    for mood in FELT:
        assert abs(seen[mood]["inner brows"] - seen["neutral"]["inner brows"]) < 0.025  # rims stay


@pytest.fixture(scope="module")
def eight_seconds():
    speech = load_speech(EXAMPLE_VOICE)
    return to_end(follow_speech(speech.waveform, round(speech.seconds * FPS)))


def test_motion_is_seen_in_order_and_still_is_still(closed, eight_seconds):
    """One clip for each of none, usual and full motion, measured by the landmark net."""
    swing, puppet = [], Puppet(closed.picture, closed.landmarks, closed.mask)
    fields = ExpressionFields(puppet.face)
    at_rest = puppet.draw(Moment()).astype(int)
    low = np.floor(fields.origin).astype(int) - MAP_STEP
    high = low + np.ceil(fields.step * np.array(fields.shape[::-1])).astype(int) + 2 * MAP_STEP
    beyond_face = np.ones(at_rest.shape[:2], bool)
    beyond_face[low[1] : high[1], low[0] : high[0]] = False
    assert puppet.matte is not None
    background = cv2.dilate((puppet.matte.alpha > 0).astype(np.uint8), np.ones((21, 21), np.uint8)) == 0
    for motion in (0.0, 0.5, 1.0):
        direction = Direction(motion=motion)
        head = move_head(eight_seconds, seed=1, direction=direction)
        places, mouths = [], set()
        for i, moment in enumerate(act(eight_seconds, head, puppet.face, direction)):
            if motion and i % 5:
                continue
            frame = puppet.draw(moment)
            if motion == 0:
                change = np.abs(frame - at_rest).max(axis=-1)
                assert not change[beyond_face].any() and not change[background].any()
                mouths.add(round(moment.movements["jaw"], 1))
            if i % 5 == 0:
                seen = landmarks_in(frame, region_around(closed.landmarks))[0]
                places.append(seen[[33, 133, 362, 263, 168, 6], :2].mean(axis=0))
        swing.append(float(np.sqrt(((np.array(places) - places[0]) ** 2).sum(axis=1).mean())))
        if motion == 0:
            assert len(mouths) > 4  # the lips live
    assert swing[0] < 0.6 and swing[1] > 1.5 * swing[0] and swing[2] > 1.5 * swing[1]  # pixels of 256
