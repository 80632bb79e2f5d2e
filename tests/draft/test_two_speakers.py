"""Two speakers in one picture: each mouth follows its own voice, and whoever listens lives on in silence."""

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from pipeline import face, media
from pipeline.draft.engine import DraftEngine
from pipeline.draft.speech import follow_speech
from pipeline.engine import Scene, Speaker
from pipeline.generators import to_end
from pipeline.media import SAMPLE_RATE, Speech, VideoWriter
from pipeline.plan import FPS
from tests.conftest import EXAMPLES, write_wav
from tests.draft.conftest import PORTRAITS
from tests.quality.measures import correlation, mouth_openings

HALF_PX = 320  # side of each person's half of the picture
TURNS = ((0, "english_lively_5s", 0.0), (1, "english_brisk_7s", 5.3))  # who, what, from which second on
SECONDS = 12.4


def half(name: str) -> np.ndarray:
    """(HALF_PX, HALF_PX, 3): a face and its shoulders."""
    portrait = media.load_portrait(PORTRAITS / name)
    box = face.locate(portrait, name=name, number=1).box
    side = int(2.1 * box.height)
    left = max(int(box.left + box.width / 2 - side / 2), 0)
    top = max(int(box.top + box.height / 2 - side * 0.45), 0)
    return cv2.resize(portrait[top : top + side, left : left + side], (HALF_PX, HALF_PX), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def couple(tmp_path_factory) -> Scene:
    """Two photographs side by side, two voices by turns."""
    picture = np.hstack([half("officer_with_glasses.jpg"), half("woman_facing_camera.jpg")])
    found = sorted(face.find_faces(picture), key=lambda seen: seen.box.left)
    assert len(found) == 2
    voices = np.zeros((2, round(SECONDS * SAMPLE_RATE)), np.float32)
    for who, name, start in TURNS:
        spoken = media.load_speech(EXAMPLES / "voices" / f"{name}.wav").waveform
        first = round(start * SAMPLE_RATE)
        voices[who, first : first + len(spoken)] = spoken
    path = write_wav(tmp_path_factory.mktemp("voices") / "both.wav", voices.sum(axis=0), SAMPLE_RATE)
    speakers = [Speaker(Speech(path, voice, SECONDS), seen) for voice, seen in zip(voices, found, strict=True)]
    return Scene(picture, Speech(path, voices.sum(axis=0), SECONDS), tuple(speakers), framing="picture")


def drawn(scene: Scene, seed: int = 1) -> list[np.ndarray]:
    """A clip's frames as the engine gives them."""
    engine = DraftEngine()
    return list(to_end(engine.perform(scene, engine.plan(scene, size=HALF_PX), seed=seed)).frames)


@pytest.fixture(scope="module")
def raw(couple) -> list[np.ndarray]:
    return drawn(couple)


@pytest.fixture(scope="module")
def decoded(couple, raw, tmp_path_factory) -> list[np.ndarray]:
    """The same, written to an mp4 and read back."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, couple.speech, DraftEngine().plan(couple, size=HALF_PX)) as writer:
        for frame in raw:
            writer.add(frame)
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def apertures(couple, decoded) -> list[np.ndarray]:
    """How far each face's lips are apart in every frame, in mouth widths: landmarks found in one fixed region each."""
    found = []
    for speaker in couple.speakers:
        region = face.region_around(speaker.face.landmarks)
        points = np.stack([face.landmarks_in(frame, region)[0] for frame in decoded])
        found.append(mouth_openings(points, speaker.face.landmarks)[0])
    return found


def test_each_mouth_follows_its_own_voice_and_not_the_others(couple, apertures):
    jaws = [to_end(follow_speech(speaker.speech.waveform, len(apertures[0]))).jaw for speaker in couple.speakers]
    for who, aperture in enumerate(apertures):
        assert correlation(aperture, jaws[who]) > 0.6
        assert correlation(aperture, jaws[1 - who]) < 0.2
        assert np.percentile(aperture, 95) > 0.1


def test_whoever_listens_keeps_the_lips_closed(apertures):
    """From one second after a turn begins or before it ends."""
    while_first, while_second = slice(FPS, 4 * FPS), slice(int(6.5 * FPS), 11 * FPS)
    for listener, turn in ((1, while_first), (0, while_second)):
        assert apertures[listener][turn].max() < 0.35 * np.percentile(apertures[listener], 95)


def test_whoever_listens_moves_a_little_and_blinks(couple, raw):
    for listener, turn in ((1, slice(FPS, 4 * FPS)), (0, slice(int(6.5 * FPS), 11 * FPS))):
        landmarks = couple.speakers[listener].face.landmarks
        brow, eye = landmarks[9, :2].astype(int), landmarks[[33, 133, 159, 145], :2].astype(int)
        forehead = np.stack([frame[brow[1] - 8 : brow[1] + 8, brow[0] - 8 : brow[0] + 8] for frame in raw[turn]])
        assert np.ptp(forehead.astype(int), axis=0).max() > 8
        left, top = eye.min(axis=0)
        right, bottom = eye.max(axis=0)
        eyes = np.stack([frame[top:bottom, left:right].astype(int) for frame in raw])
        assert np.abs(np.diff(eyes, axis=0)).mean(axis=(1, 2, 3)).max() > 4


def test_the_two_move_each_in_its_own_way(couple):
    """One picture twice and one voice for both: they begin alike, and do not dance in step."""
    picture = np.hstack([half("officer_with_glasses.jpg")] * 2)
    voice = Speech(couple.speech.path, couple.speakers[0].speech.waveform[: 2 * SAMPLE_RATE], 2.0)
    seen = couple.speakers[0].face
    beside = replace(
        seen,
        box=replace(seen.box, left=seen.box.left + HALF_PX),
        landmarks=seen.landmarks + np.array([HALF_PX, 0, 0], np.float32),
    )
    frames = drawn(Scene(picture, voice, (Speaker(voice, seen), Speaker(voice, beside)), framing="picture"))
    apart = [np.abs(frame[:, :HALF_PX].astype(int) - frame[:, HALF_PX:]).mean() for frame in frames]
    assert apart[0] < 1 and np.median(apart) > 2 * apart[0]


def test_between_the_windows_and_around_them_the_picture_stands_still(couple, raw):
    still = raw[0].astype(int)
    moved = np.max([np.abs(frame - still).max(axis=-1) for frame in raw[::10]], axis=0)
    assert moved[:, HALF_PX - 1 : HALF_PX + 1].max() <= 1  # where the windows meet
    assert moved[:, 20 : HALF_PX - 20].max() > 60 < moved[:, HALF_PX + 20 : -20].max()


def test_both_may_speak_at_once(couple):
    first = couple.speakers[0].speech.waveform[: 4 * SAMPLE_RATE]
    second = couple.speakers[1].speech.waveform[round(5.3 * SAMPLE_RATE) :][: 3 * SAMPLE_RATE]
    together = np.pad(second, (SAMPLE_RATE, 0)) + first
    speakers = (
        replace(couple.speakers[0], speech=Speech(couple.speech.path, first, 4.0)),
        replace(couple.speakers[1], speech=Speech(couple.speech.path, second, 3.0), start=1.0),
    )
    frames = drawn(replace(couple, speech=Speech(couple.speech.path, together, 4.0), speakers=speakers))
    assert len(frames) == 4 * FPS
    openings = []
    for speaker in speakers:
        region = face.region_around(speaker.face.landmarks)
        points = np.stack([face.landmarks_in(frame, region)[0] for frame in frames])
        openings.append(mouth_openings(points, speaker.face.landmarks)[0])
    assert (np.minimum(*openings)[FPS + 5 :] > 0.05).any()  # both are open in one frame
    assert openings[1][5 : FPS - 5].max() < 0.3 * np.percentile(openings[1], 95)  # the second waits for its turn
