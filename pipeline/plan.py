"""Seconds to frames and a face to a crop: ClipPlan. Plain numbers; imports no torch and reads no pixel."""

import math
from dataclasses import dataclass

FPS = 25  # frames a second; the avatar model knows no other. Source: HunyuanVideo-Avatar, tool_for_end2end.py
FACE_SHARE = 0.46  # face height over frame height: room for hair and shoulders, enough pixels for lips
FACE_CENTRE = 0.47  # where the face's middle stands in the frame, 0 the top: as portraits are framed
ROUNDING = 1e-9  # seconds x fps that is whole but for floating point stays whole


@dataclass(frozen=True)
class Box:
    """A rectangle in a picture, in pixels, not rounded."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class ClipPlan:
    """The sizes of one clip.

    Args:
        num_frames: ceil(seconds x 25), so that no sound is lost.
        fps: Frames a second.
        height: Of a frame, pixels, even.
        width: Of a frame, pixels, even.
        crop: The part of the picture that fills the frame, of the frame's proportions, inside the picture, in whole
            pixels.
    """

    num_frames: int
    fps: int
    height: int
    width: int
    crop: Box

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return self.num_frames / self.fps


def plan_clip(*, seconds: float, size: int, picture_size: tuple[int, int], face: Box) -> ClipPlan:
    """Decide a clip's frames and crop.

    Args:
        seconds: Length of the sound.
        size: Width and height of the clip, pixels, even.
        picture_size: (height, width) of the picture, pixels.
        face: Where the face is, forehead to chin.

    Returns:
        A square crop around the face, as large as FACE_SHARE asks and the picture allows.

    Raises:
        ValueError: seconds, size or the face's height is not positive, or size is odd.
    """
    if seconds <= 0 or size <= 0 or size % 2 or face.height <= 0:
        raise ValueError(f"nothing to plan: seconds={seconds}, size={size}, face={face}")
    height, width = picture_size
    side = min(math.ceil(face.height / FACE_SHARE), height, width)
    left = round(face.left + face.width / 2 - side / 2)
    top = round(face.top + face.height / 2 - side * FACE_CENTRE)
    crop = Box(min(max(left, 0), width - side), min(max(top, 0), height - side), side, side)
    return ClipPlan(math.ceil(seconds * FPS - ROUNDING), FPS, size, size, crop)
