"""The draft engine: any CPU, offline, in less time than the clip lasts. Calls its neighbours in turn."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from pipeline import face as faces
from pipeline.direction import Direction, scale
from pipeline.draft.acting import act
from pipeline.draft.chapters import Ear, chapters_of, listen_to_all
from pipeline.draft.motion import MOTION_SIZE, HeadTrack, move_head
from pipeline.draft.puppet import Moment
from pipeline.draft.speech import MouthTrack
from pipeline.draft.stage import Stage, crop_frame
from pipeline.engine import Scene, Speaker, Step, Take
from pipeline.hardware import give_memory_back
from pipeline.plan import FPS, ClipPlan, plan_clip
from pipeline.texts import Notice

# Pictures of a clip's size are too small to share: two threads drew 6 % sooner for 1.4 times the processor time of one,
# and the encoder is busy on the other core. Set for the whole process: OpenCV knows no narrower way.
cv2.setNumThreads(1)

ATTENTION_GAZE, ATTENTION_TURN = 4.0, 1.5  # degrees that a listener's eyes and head turn towards who speaks
ATTENTION_SECONDS = 0.4  # smoothing of the head's share; eyes go in three frames
LISTENED_BY = 0.8  # of a chapter's frames by which the next one is listened to, so that nothing is left for its end
REST_SECONDS = 0.6  # before an end in which attention has returned to the viewer, as all else has


class DraftEngine:
    """A portrait bent to speak: smooth fields move its own pixels."""

    name = "draft"

    def plan(self, scene: Scene, *, size: int) -> ClipPlan:
        """A frame of the scene's framing around its faces. See `pipeline.engine.Engine`."""
        return plan_clip(
            seconds=scene.speech.seconds,
            size=size,
            picture_size=scene.portrait.shape[:2],
            faces=[speaker.face.box for speaker in scene.speakers],
            framing=scene.framing,
        )

    def perform(self, scene: Scene, plan: ClipPlan, *, seed: int) -> Generator[Step, None, Take]:
        """Prepare the faces while listening to the voices, then draw. See `pipeline.engine.Engine`.

        A long recording is listened to in chapters: to the first one before the first frame, to each of the others
        while the one before it is drawn.
        """
        yield Step("StagePreparing")
        is_known = any(speaker.text.strip() or speaker.marks for speaker in scene.speakers)
        chapters = chapters_of(scene.speech.waveform, plan.num_frames, is_known=is_known)
        ears = [Ear(speaker, chapters, by_turns=len(scene.speakers) > 1) for speaker in scene.speakers]
        with ThreadPoolExecutor(1, "face") as other_core:
            preparing = other_core.submit(_set_stage, scene, plan)
            listening = listen_to_all(ears, 0)
            while True:
                try:
                    share = next(listening)
                except StopIteration as heard:
                    mouths = heard.value
                    break
                yield Step("StageListening", round(100 * share), 100)
            stage = preparing.result()
        notices = plan.notices + tuple(_notices(scene.speakers, mouths, stage))
        if len(chapters) == 1:
            ears = []  # their voices are large, and heard
        return Take(_draw(stage, mouths, ears, len(chapters), seed, scene.direction), notices)


def _draw(
    stage: Stage, mouths: list[MouthTrack], ears: list[Ear], num_chapters: int, seed: int, direction: Direction
) -> Iterator[np.ndarray]:
    """The frames; while a chapter is drawn, the next one is listened to, a little after every few frames."""
    for number in range(num_chapters):
        if num_chapters > 1:
            give_memory_back()
        listening = listen_to_all(ears, number + 1) if number + 1 < num_chapters else None
        heard, coming = 0.0, None
        num_frames = len(mouths[0].jaw)
        for done, moments in enumerate(_act_all(stage, mouths, number, seed, direction), start=1):
            yield stage.draw(moments)
            while listening and coming is None and heard < done / (LISTENED_BY * num_frames):
                try:
                    heard = next(listening)
                except StopIteration as finished:
                    coming = finished.value
                give_memory_back()  # where the recogniser comes beside drawing, its room adds up
        mouths = coming or []


def _act_all(
    stage: Stage, mouths: list[MouthTrack], chapter: int, seed: int, direction: Direction
) -> Iterator[tuple[Moment, ...]]:
    """What each face does in every frame of a chapter. Whoever listens keeps the lips closed and looks across."""
    acts = []
    for number, (mouth, puppet) in enumerate(zip(mouths, stage.puppets, strict=True)):
        head = move_head(mouth, seed=_seed(seed, number, chapter), direction=direction)
        if chapter:  # the mood is there since the first one
            head = replace(head, mood=np.full_like(head.mood, head.mood.max()))
        if len(mouths) == 2:
            other = 1 - number
            across = stage.places[other] - stage.places[number]
            head = _attend(head, mouths[other].hold - mouth.hold, across, scale(direction.motion, *MOTION_SIZE))
            mouth = replace(mouth, hold=np.maximum(mouth.hold, mouths[other].hold))
        acts.append(act(mouth, head, puppet.face, direction))
    return zip(*acts, strict=True)


def _attend(head: HeadTrack, heard: np.ndarray, across: np.ndarray, size: float) -> HeadTrack:
    """A head that turns towards the other speaker while that one alone is heard.

    Args:
        head: As it moves by itself.
        heard: (num_frames,) above 0.5 where the other speaks and this one does not.
        across: (2,) from this face to the other, pixels.
        size: Of head motion: 0 for a head that is to be still, whose eyes alone attend.
    """
    num_frames = len(heard)
    attends = (heard > 0.5).astype(np.float64)
    from_ends = np.minimum(np.arange(num_frames), np.arange(num_frames)[::-1]) / FPS
    attends *= from_ends > REST_SECONDS
    right, down = across / np.hypot(*across)
    eyes, turn = gaussian_filter1d(attends, 1.0), gaussian_filter1d(attends, ATTENTION_SECONDS * FPS)
    turn *= np.clip(from_ends / REST_SECONDS, 0, 1)
    return replace(
        head,
        yaw=head.yaw + np.float32(size * ATTENTION_TURN * right) * turn.astype(np.float32),
        gaze_x=head.gaze_x + np.float32(ATTENTION_GAZE * right) * eyes.astype(np.float32),
        gaze_y=head.gaze_y - np.float32(ATTENTION_GAZE * down) * eyes.astype(np.float32),
    )


def _seed(seed: int, speaker: int, chapter: int) -> int:
    """A seed for one head in one chapter; the first one's is the clip's."""
    if not speaker and not chapter:
        return seed
    return int(np.random.SeedSequence([seed, speaker, chapter]).generate_state(1)[0])


def _set_stage(scene: Scene, plan: ClipPlan) -> Stage:
    """The scene's faces, ready to be moved."""
    size = plan.height, plan.width
    frame = crop_frame(scene.portrait, plan.crop, size)
    landmarks = [_landmarks_in_frame(frame, speaker.face, plan) for speaker in scene.speakers]
    return Stage(scene.portrait, plan.crop, size, landmarks)


def _notices(speakers: Sequence[Speaker], mouths: Sequence[MouthTrack], stage: Stage) -> Iterator[Notice]:
    """What this clip could not do as well as others."""
    if any(
        speaker.text.strip() and not speaker.marks and mouth.source not in ("words", "silence")
        for speaker, mouth in zip(speakers, mouths, strict=True)
    ):
        yield Notice("WordsNotFollowed")
    if any(mouth.source == "loudness" for mouth in mouths):
        yield Notice("LoudnessOnly")
    if not all(puppet.can_blink for puppet in stage.puppets):
        yield Notice("EyesDoNotBlink")


def _landmarks_in_frame(frame: np.ndarray, face: faces.Face, plan: ClipPlan) -> np.ndarray:
    """The face's landmarks in pixels of the frame, found again there unless they were given by hand.

    Source: looking again at the crop, where the points are used, halves their error (measured on two photographs).
    """
    across, down = plan.width / plan.crop.width, plan.height / plan.crop.height  # the same but for rounding
    landmarks = face.landmarks - np.array([plan.crop.left, plan.crop.top, 0], np.float32)
    landmarks[:, :2] += 0.5  # from a pixel's middle to its corner, where both pictures agree
    landmarks *= np.array([across, down, down], np.float32)
    landmarks[:, :2] -= 0.5
    if face.from_points:
        return landmarks
    seen, presence = faces.landmarks_in(frame, faces.region_around(landmarks))
    return seen if presence >= faces.PRESENT else landmarks
