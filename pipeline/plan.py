"""Seconds to frames, a picture to a clip's size, a face to a crop: ClipPlan. Plain numbers; imports no torch and reads
no pixel."""

import math
from dataclasses import dataclass

FPS = 25  # frames a second; the avatar model knows no other. Source: HunyuanVideo-Avatar, tool_for_end2end.py
SQUARE = "1:1"
FRAMINGS = ("picture", "9:16", SQUARE, "16:9")  # the picture's own shape, upright, square, wide
FACE_SHARE = 0.46  # face height over frame height: room for hair and shoulders, enough pixels for lips
FACE_CENTRE = 0.47  # where the face's middle stands in the frame, 0 the top: as portraits are framed
SIDE_MULTIPLE = 64  # pixels; published sizes are rounded to it. Source: HunyuanVideo-Avatar, audio_dataset.py
TOKEN_PX = 16  # pixels of one token's side: 8 of a latent, 2 latents of a patch
LONG_SIDE = {704: 1216}  # pixels beside an image_size of which the area is measured; any other has 1.5 times itself
LONG_SIDE_SHARE = 1.5  # the same for every other image_size: 768 beside 512, 576 beside 384, 384 beside 256
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


def frames_of(seconds: float) -> int:
    """Frames of a clip that loses no sound."""
    return math.ceil(seconds * FPS - ROUNDING)


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
    return ClipPlan(frames_of(seconds), FPS, size, size, crop)


def published_size(width: int, height: int, image_size: int) -> tuple[int, int]:
    """The size at which the published code renders a picture.

    The short side becomes `image_size`, both sides are rounded to multiples of 64 (so an `image_size` that is none is
    not met exactly: 480 gives 448 or 512). Where that covers more than image_size x 1.5 image_size pixels (704 x 1216
    at 704), the picture is scaled to that area instead and rounded again, which may exceed it a little.

    Args:
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        image_size: Short side wanted, pixels, a multiple of 16. Published: 704, 512, 384, 256.

    Returns:
        (height, width), pixels, multiples of 64.

    Raises:
        ValueError: a value is not positive, image_size is no multiple of 16, or a side rounds to nothing.

    Source: HunyuanVideo-Avatar, hymm_sp/data_kits/audio_dataset.py.
    """
    if width <= 0 or height <= 0:
        raise ValueError(f"the picture is {width}×{height} pixels; both sides must be positive")
    if image_size <= 0 or image_size % TOKEN_PX:
        raise ValueError(f"image_size must be a positive multiple of {TOKEN_PX}, got {image_size}")

    area = image_size * LONG_SIDE.get(image_size, LONG_SIDE_SHARE * image_size)
    new_height, new_width = _scaled(height, width, image_size / min(width, height))
    if new_height * new_width > area:
        new_height, new_width = _scaled(height, width, math.sqrt(area / width / height))
    if not new_height or not new_width:
        raise ValueError(
            f"a picture of {width}×{height} pixels at image_size {image_size} becomes {new_width}×{new_height}; each "
            f"side needs at least {SIDE_MULTIPLE}: use a picture nearer to a square or a larger image_size"
        )
    return new_height, new_width


def _scaled(height: int, width: int, scale: float) -> tuple[int, int]:
    """Both sides scaled and rounded to multiples of 64; halves go to the even one, as Python's round has it."""
    return round(height * scale / SIDE_MULTIPLE) * SIDE_MULTIPLE, round(width * scale / SIDE_MULTIPLE) * SIDE_MULTIPLE
