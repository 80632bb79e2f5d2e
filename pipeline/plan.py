"""Seconds to frames, a picture to a clip's size, a face to a crop: ClipPlan. Plain numbers; imports no torch and reads
no pixel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.errors import FacesTooFarApart
from pipeline.texts import Notice

FPS = 25  # frames a second; the avatar model knows no other. Source: HunyuanVideo-Avatar, tool_for_end2end.py
SQUARE = "1:1"
FRAMINGS = ("picture", "9:16", SQUARE, "16:9")  # the picture's own shape, upright, square, wide
MOST_HEIGHT, MOST_WIDTH = 1080, 1920  # pixels of a frame: what a plain processor draws about as fast as it is shown
LONGEST = 4  # times the shorter side: a picture longer than that is not shown whole, or a face in it would be a dot
FRAME_MULTIPLE = 4  # pixels: video is coded in pairs of rows and columns, the draft moves its frame in steps of four
SMALL_FACE = 64  # pixels from forehead to chin: a mouth is a quarter of that wide and opens by a quarter of its width
ROOM_BESIDE = 0.8  # face heights that two faces leave free in a frame, both sides together: hair and ears
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


class Composition(NamedTuple):
    """How a face stands in a frame.

    Args:
        share: Its height over the frame's.
        centre: Where its middle stands, 0 the top of the frame.
    """

    share: float
    centre: float


COMPOSITIONS = {
    SQUARE: Composition(0.46, 0.47),  # a portrait: room for hair and shoulders, enough pixels for lips
    "9:16": Composition(0.30, 0.37),  # as telephones are held: the eyes on the upper third, shoulders and chest below
    "16:9": Composition(0.38, 0.45),  # as films frame who speaks: the eyes above the middle, air over a hat
}


@dataclass(frozen=True)
class ClipPlan:
    """The sizes of one clip.

    Args:
        num_frames: ceil(seconds x 25), so that no sound is lost.
        fps: Frames a second.
        height: Of a frame, pixels, even.
        width: Of a frame, pixels, even.
        crop: The part of the picture that fills the frame, inside the picture, in whole pixels; of the frame's
            proportions but for rounding.
        notices: What the user should know about the sizes.
    """

    num_frames: int
    fps: int
    height: int
    width: int
    crop: Box
    notices: tuple[Notice, ...] = field(default=(), kw_only=True)

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return self.num_frames / self.fps


def frames_of(seconds: float) -> int:
    """Frames of a clip that loses no sound."""
    return math.ceil(seconds * FPS - ROUNDING)


def plan_clip(
    *, seconds: float, size: int, picture_size: tuple[int, int], faces: Sequence[Box], framing: str = SQUARE
) -> ClipPlan:
    """Decide a clip's frames and crop.

    Args:
        seconds: Length of the sound.
        size: Of the frame's shorter side, pixels, even.
        picture_size: (height, width) of the picture, pixels.
        faces: Where the faces that speak are, forehead to chin.
        framing: One of FRAMINGS.

    Returns:
        A crop around the faces, as large as the framing's composition asks and the picture allows; all of the picture
        for "picture".

    Raises:
        FacesTooFarApart: no crop of that shape holds both.
        ValueError: seconds, size or a face's height is not positive, or size is odd; there is no such framing.
    """
    if seconds <= 0 or size <= 0 or size % 2 or not faces or min(face.height for face in faces) <= 0:
        raise ValueError(f"nothing to plan: seconds={seconds}, size={size}, faces={faces}")
    if framing not in FRAMINGS:
        raise ValueError(f"framing must be one of {', '.join(FRAMINGS)}, got {framing!r}")
    notices = []
    wanted = proportions(framing, picture_size)
    height, width = _frame_size(size, wanted)
    if min(height, width) < size // FRAME_MULTIPLE * FRAME_MULTIPLE:
        limits = {"limit_height": MOST_HEIGHT, "limit_width": MOST_WIDTH}
        notices.append(Notice("FrameReduced", {"width": width, "height": height, **limits}))
    if framing == "picture" and max(picture_size) > LONGEST * min(picture_size):
        notices.append(Notice("PictureNotWhole", {"times": LONGEST}))
    crop = _crop(faces, framing, width / height, picture_size)
    smallest = min(face.height for face in faces) * height / crop.height
    if smallest < SMALL_FACE:
        notices.append(Notice("FaceSmall", {"height": round(smallest)}))
    return ClipPlan(frames_of(seconds), FPS, height, width, crop, notices=tuple(notices))


def proportions(framing: str, picture_size: tuple[int, int]) -> float:
    """Width over height of a frame."""
    if framing == "picture":
        height, width = picture_size
        return min(max(width / height, 1 / LONGEST), LONGEST)
    across, down = framing.split(":")
    return int(across) / int(down)


def _frame_size(size: int, proportions: float) -> tuple[int, int]:
    """(height, width) of a frame whose shorter side has `size` pixels, or fewer where the longer would be too long."""
    height, width = (size, size * proportions) if proportions >= 1 else (size / proportions, size)
    scale = min(1.0, MOST_HEIGHT / height, MOST_WIDTH / width)
    rounded = [max(1, round(side * scale / FRAME_MULTIPLE)) * FRAME_MULTIPLE for side in (height, width)]
    return rounded[0], rounded[1]


def _crop(faces: Sequence[Box], framing: str, proportions: float, picture_size: tuple[int, int]) -> Box:
    """The part of the picture that holds the faces: as the framing composes them, or the largest of that shape."""
    most_height, most_width = picture_size
    tallest = max(face.height for face in faces)
    left, top = min(face.left for face in faces), min(face.top for face in faces)
    right, bottom = (max(edges) for edges in zip(*((f.left + f.width, f.top + f.height) for f in faces), strict=True))
    if framing == "picture":
        share, centre = 0.0, 0.5
        height, width = most_height, most_width
        if max(picture_size) > LONGEST * min(picture_size):
            height, width = min(height, LONGEST * width), min(width, LONGEST * height)
    else:
        share, centre = COMPOSITIONS[framing]
        room = ROOM_BESIDE * tallest
        enough = max(tallest / share, bottom - top + room, (right - left + room) / proportions)
        height = min(math.ceil(enough), most_height, max(1, int(most_width / proportions)))
        width = min(max(1, round(height * proportions)), most_width)
    crop_left = min(max(round(left + (right - left) / 2 - width / 2), 0), most_width - width)
    crop_top = min(max(round(top + (bottom - top) / 2 - height * centre), 0), most_height - height)
    crop = Box(crop_left, crop_top, width, height)
    if len(faces) > 1 and not all(_is_inside(face, crop) for face in faces):
        raise FacesTooFarApart(framing=framing)
    return crop


def _is_inside(face: Box, crop: Box) -> bool:
    """Whether a crop shows a face: all but a twentieth of it, which its points may err by."""
    beside, above = face.width / 20, face.height / 20
    return (
        face.left + beside >= crop.left
        and face.top + above >= crop.top
        and face.left + face.width - beside <= crop.left + crop.width
        and face.top + face.height - above <= crop.top + crop.height
    )


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
