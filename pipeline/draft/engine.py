"""The draft engine: any CPU, offline, in less time than the clip lasts. Calls its neighbours in turn."""

from collections.abc import Generator, Iterator

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
from pipeline.plan import Box, ClipPlan
from pipeline.texts import Notice


class DraftEngine:
    """A portrait bent to speak: smooth fields move its own pixels."""

    name = "draft"

    def perform(self, scene: Scene, plan: ClipPlan, *, seed: int) -> Generator[Step, None, Take]:
        """Listen, prepare the face, then draw. See `pipeline.engine.Engine`."""
        yield Step("StagePreparing")
        picture = crop_frame(scene.portrait, plan.crop, OVERSAMPLING * plan.height)
        frame = cv2.resize(picture, (plan.width, plan.height), interpolation=cv2.INTER_AREA)
        puppet = Puppet(picture, _landmarks_in_frame(frame, scene.face, plan), models.person_mask(frame))

        yield Step("StageListening")
        listening = follow_speech(scene.speech.waveform, plan.num_frames, text=scene.text, language=scene.language)
        while True:
            try:
                share = next(listening)
            except StopIteration as heard:
                mouth = heard.value
                break
            yield Step("StageListening", round(100 * share), 100)

        head = move_head(mouth, seed=seed)
        frames = (puppet.draw(moment) for moment in act(mouth, head, puppet.face))
        return Take(frames, tuple(_notices(scene, mouth, puppet)))


def crop_frame(portrait: np.ndarray, crop: Box, size: int) -> np.ndarray:
    """The part of a picture that fills the frame, at the frame's size.

    Args:
        portrait: (height, width, 3) uint8, RGB.
        crop: Square, inside the picture.
        size: Pixels.

    Returns:
        (size, size, 3) uint8, RGB.
    """
    scale = size / crop.width
    to_frame = _to_frame(crop, size)
    if scale >= 1:
        return cv2.warpAffine(portrait, to_frame, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    # Going down: take whole pixels of the crop and average, which no affine warp does.
    left, top = round(crop.left), round(crop.top)
    side = round(crop.width)
    return cv2.resize(portrait[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)


def _notices(scene: Scene, mouth: MouthTrack, puppet: Puppet) -> Iterator[Notice]:
    """What this clip could not do as well as others."""
    if scene.text.strip() and mouth.source != "words":
        yield Notice("WordsNotFollowed")
    if mouth.source == "loudness":
        yield Notice("LoudnessOnly")
    if not puppet.can_blink:
        yield Notice("EyesDoNotBlink")


def _to_frame(crop: Box, size: int) -> np.ndarray:
    """Pixels of the picture to pixels of the frame, centres on centres: (2, 3) float64."""
    scale = size / crop.width
    shift = (scale - 1) / 2
    return np.array([[scale, 0, shift - crop.left * scale], [0, scale, shift - crop.top * scale]])


def _landmarks_in_frame(frame: np.ndarray, face: faces.Face, plan: ClipPlan) -> np.ndarray:
    """The face's landmarks in pixels of the frame, found again there unless they were given by hand.

    Source: looking again at the crop, where the points are used, halves their error (measured on two photographs).
    """
    to_frame = _to_frame(plan.crop, plan.height)
    landmarks = face.landmarks.copy()
    landmarks[:, :2] = landmarks[:, :2] @ to_frame[:, :2].T + to_frame[:, 2]
    landmarks[:, 2] *= to_frame[0, 0]
    if face.from_points:
        return fit_lids(frame, landmarks)
    seen, presence = faces.landmarks_in(frame, faces.region_around(landmarks))
    return seen if presence >= faces.PRESENT else landmarks
