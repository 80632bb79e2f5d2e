"""The draft engine: any CPU, offline, in less time than the clip lasts. Calls its neighbours in turn."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from pipeline import face as faces
from pipeline import models
from pipeline.draft.acting import act
from pipeline.draft.eyes import fit_lids
from pipeline.draft.motion import move_head
from pipeline.draft.puppet import OVERSAMPLING, Puppet
from pipeline.draft.speech import MouthTrack, follow_speech
from pipeline.engine import Scene, Step, Take
from pipeline.plan import Box, ClipPlan, plan_clip
from pipeline.texts import Notice

# Pictures of a clip's size are too small to share: two threads drew 6 % sooner for 1.4 times the processor time of one,
# and the encoder is busy on the other core. Set for the whole process: OpenCV knows no narrower way.
cv2.setNumThreads(1)

SHARPENING_ROUNDS = 3  # of giving back what enlarging took; the third changes less than half a grey level


class DraftEngine:
    """A portrait bent to speak: smooth fields move its own pixels."""

    name = "draft"

    def plan(self, scene: Scene, *, size: int) -> ClipPlan:
        """A square around the face. See `pipeline.engine.Engine`."""
        return plan_clip(
            seconds=scene.speech.seconds,
            size=size,
            picture_size=scene.portrait.shape[:2],
            face=scene.speakers[0].face.box,
        )

    def perform(self, scene: Scene, plan: ClipPlan, *, seed: int) -> Generator[Step, None, Take]:
        """Prepare the face while listening to the voice, then draw. See `pipeline.engine.Engine`."""
        yield Step("StagePreparing")
        (speaker,) = scene.speakers
        listening = follow_speech(
            speaker.speech.waveform, plan.num_frames, text=speaker.text, language=speaker.language
        )
        with ThreadPoolExecutor(1, "face") as other_core:
            preparing = other_core.submit(_make_puppet, scene, plan)
            while True:
                try:
                    share = next(listening)
                except StopIteration as heard:
                    mouth = heard.value
                    break
                yield Step("StageListening", round(100 * share), 100)
            puppet = preparing.result()
        head = move_head(mouth, seed=seed)
        frames = (puppet.draw(moment) for moment in act(mouth, head, puppet.face))
        return Take(frames, tuple(_notices(scene, mouth, puppet)))


def crop_frame(portrait: np.ndarray, crop: Box, size: int) -> np.ndarray:
    """The part of a picture that fills the frame, at the frame's size.

    Args:
        portrait: (height, width, 3) uint8, RGB.
        crop: Square, inside the picture, in whole pixels.
        size: Pixels.

    Returns:
        (size, size, 3) uint8, RGB.
    """
    left, top, side = round(crop.left), round(crop.top), round(crop.width)
    part = portrait[top : top + side, left : left + side]
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA if size < side else cv2.INTER_CUBIC)


def crop_skin(portrait: np.ndarray, crop: Box, size: int) -> np.ndarray:
    """The same part for a Puppet to read skin from: larger, and such that its pixels' means are the frame's pixels.

    Args:
        portrait: (height, width, 3) uint8, RGB.
        crop: Square, inside the picture, in whole pixels.
        size: Of the frame, pixels.

    Returns:
        (OVERSAMPLING size, OVERSAMPLING size, 3) uint8, RGB.
    """
    frame = crop_frame(portrait, crop, size)
    skin = crop_frame(portrait, crop, OVERSAMPLING * size)
    for channel in range(3):  # one at a time: in floating point these would be among the largest arrays of a render
        wanted, sharpened = frame[..., channel].astype(np.float32), skin[..., channel].astype(np.float32)
        for _ in range(SHARPENING_ROUNDS):
            lost = wanted - cv2.resize(sharpened, wanted.shape, interpolation=cv2.INTER_AREA)
            sharpened += cv2.resize(lost, sharpened.shape, interpolation=cv2.INTER_CUBIC)
        skin[..., channel] = np.rint(np.clip(sharpened, 0, 255, out=sharpened))
    return skin


def _make_puppet(scene: Scene, plan: ClipPlan) -> Puppet:
    """The scene's face, ready to be moved."""
    frame = crop_frame(scene.portrait, plan.crop, plan.height)
    skin = crop_skin(scene.portrait, plan.crop, plan.height)
    return Puppet(skin, _landmarks_in_frame(frame, scene.speakers[0].face, plan), models.person_mask(frame))


def _notices(scene: Scene, mouth: MouthTrack, puppet: Puppet) -> Iterator[Notice]:
    """What this clip could not do as well as others."""
    if scene.speakers[0].text.strip() and mouth.source != "words":
        yield Notice("WordsNotFollowed")
    if mouth.source == "loudness":
        yield Notice("LoudnessOnly")
    if not puppet.can_blink:
        yield Notice("EyesDoNotBlink")


def _landmarks_in_frame(frame: np.ndarray, face: faces.Face, plan: ClipPlan) -> np.ndarray:
    """The face's landmarks in pixels of the frame, found again there unless they were given by hand.

    Source: looking again at the crop, where the points are used, halves their error (measured on two photographs).
    """
    scale = plan.height / plan.crop.width
    landmarks = face.landmarks - np.array([plan.crop.left, plan.crop.top, 0], np.float32)
    landmarks[:, :2] += 0.5  # from a pixel's middle to its corner, where both pictures agree
    landmarks *= np.float32(scale)
    landmarks[:, :2] -= 0.5
    if face.from_points:
        return fit_lids(frame, landmarks)
    seen, presence = faces.landmarks_in(frame, faces.region_around(landmarks))
    return seen if presence >= faces.PRESENT else landmarks
