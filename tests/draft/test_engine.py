"""The draft engine's own part: what it plans, and where the landmarks land in the frame."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline import face, media
from pipeline.draft.engine import DraftEngine
from pipeline.engine import Scene
from pipeline.generators import to_end
from pipeline.plan import plan_clip


def test_the_first_frame_shows_the_face_where_the_plan_has_it(portrait_path, short_voice):
    portrait = media.load_portrait(portrait_path)
    found = face.locate(portrait, name="portrait")
    speech = media.load_speech(short_voice)
    plan = plan_clip(seconds=speech.seconds, size=256, picture_size=portrait.shape[:2], faces=[found.box])
    first = next(to_end(DraftEngine().perform(Scene.of(portrait, speech, found), plan, seed=1)).frames)
    (seen,) = face.find_faces(first)
    scale = 256 / plan.crop.width
    expected = (found.landmarks[:, :2] - [plan.crop.left, plan.crop.top]) * scale
    upper_face = [33, 133, 362, 263, 168, 6]
    assert np.abs(seen.landmarks[upper_face, :2] - expected[upper_face]).max() < 3


@pytest.mark.parametrize("framing, shape", [("picture", (256, 256)), ("9:16", (456, 256)), ("16:9", (256, 456))])
def test_a_clip_has_the_shape_asked_for_and_begins_as_the_picture(portrait_path, short_voice, framing, shape):
    portrait = media.load_portrait(portrait_path)
    scene = Scene.of(portrait, media.load_speech(short_voice), face.locate(portrait, name="portrait"))
    scene = replace(scene, framing=framing)
    plan = DraftEngine().plan(scene, size=256)
    frames = list(to_end(DraftEngine().perform(scene, plan, seed=1)).frames)
    assert len(frames) == plan.num_frames and {frame.shape for frame in frames} == {(*shape, 3)}
    left, top, width, height = (
        int(side) for side in (plan.crop.left, plan.crop.top, plan.crop.width, plan.crop.height)
    )
    crop = portrait[top : top + height, left : left + width].reshape(-1, 3).mean(axis=0)
    assert np.abs(frames[0].reshape(-1, 3).mean(axis=0) - crop).max() < 4
    assert max(np.abs(frame.astype(int) - frames[0]).max() for frame in frames) > 50


def test_a_word_is_enough(portrait_path, voice_of):
    portrait = media.load_portrait(portrait_path)
    scene = Scene.of(portrait, media.load_speech(voice_of(0.4)), face.locate(portrait, name="portrait"))
    plan = DraftEngine().plan(scene, size=256)
    assert len(list(to_end(DraftEngine().perform(scene, plan, seed=1)).frames)) == plan.num_frames == 10


def test_what_the_plan_has_to_say_is_said_of_the_clip(portrait_path, short_voice):
    portrait = media.load_portrait(portrait_path)
    scene = Scene.of(portrait, media.load_speech(short_voice), face.locate(portrait, name="portrait"))
    plan = DraftEngine().plan(replace(scene, framing="9:16"), size=1080)
    take = to_end(DraftEngine().perform(scene, plan, seed=1))
    assert plan.notices and set(map(str, plan.notices)) <= set(map(str, take.notices))
