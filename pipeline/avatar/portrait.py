"""The picture's side of a clip: its pixels, and the mask of who speaks. Reads no file, holds no weights."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from pipeline import face
from pipeline.plan import TOKEN_PX
from pipeline.request import Point

MAX_ASPECT = 16.0  # long side over short side; the published sizes are known up to here
FACE_AREA = 3.0  # the mask's sides over the face's. Source: HunyuanVideo-Avatar, audio_preprocessor.py, get_facemask


def resize_portrait(image: np.ndarray | Image.Image, height: int, width: int) -> np.ndarray:
    """Bring the picture to the clip's size, as published: plain Lanczos, whatever that does to its proportions.

    Args:
        image: (rows, columns, 3) uint8, RGB, or a PIL picture of mode RGB; at least 16 pixels on its short side, at
            most 16 times as long as wide.
        height: Pixels, a multiple of 16. published_size() gives it.
        width: Pixels, a multiple of 16.

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        ValueError: another kind of picture (alpha, grey, floats), too small or too long a one, or a wrong size.
    """
    if height <= 0 or width <= 0 or height % TOKEN_PX or width % TOKEN_PX:
        raise ValueError(
            f"height and width must be positive multiples of {TOKEN_PX}, got {height}×{width}; published_size() "
            "rounds them for you"
        )
    if isinstance(image, Image.Image):
        if image.mode != "RGB":
            raise ValueError(f"the picture has mode {image.mode}; mode RGB is needed: convert it first")
    else:
        _check_rgb(image)
        image = Image.fromarray(np.ascontiguousarray(image))
    short, long = sorted(image.size)
    if short < TOKEN_PX:
        raise ValueError(f"the picture is {image.width}×{image.height} pixels; its short side needs {TOKEN_PX} or more")
    if long > MAX_ASPECT * short:
        raise ValueError(
            f"the picture is {image.width}×{image.height} pixels, {long / short:.1f} to 1; at most {MAX_ASPECT:.0f} to "
            "1 can be rendered: crop it"
        )
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def portrait_pixels(image: np.ndarray) -> torch.Tensor:
    """The resized picture as the VAE wants it.

    Args:
        image: (height, width, 3) uint8, RGB.

    Returns:
        (1, 3, height, width) float32 in [-1, 1]. The published code divides in float16, so its values are up to
        0.001 away.

    Raises:
        ValueError: another kind of picture.

    Source: HunyuanVideo-Avatar, hymm_sp/sample_inference_audio.py, predict.
    """
    _check_rgb(image)
    return torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32)) / 127.5 - 1


def face_box(
    image: np.ndarray,
    *,
    name: str = "the picture",
    number: int | None = None,
    points: tuple[Point, ...] | None = None,
) -> tuple[float, float, float, float]:
    """The box of the face that shall speak, in the form of the published code's detector.

    That detector is another one, with five landmarks, whose box covers the face; ours goes around the mesh's points,
    forehead to chin, so the two differ by some pixels (not measured: the other detector was not at hand). Of several
    faces the published code means to take the largest and errs; here it is the largest.

    Args:
        image: (height, width, 3) uint8, RGB: the picture before it is resized, where a face is found best.
        name: What to call the picture in errors.
        number: Which face, 1 the largest. None takes the largest.
        points: Five handles in the picture's pixels instead of a search; see pipeline.face.locate.

    Returns:
        x, y, width, height in pixels, not rounded.

    Raises:
        ValueError: another kind of picture.
        FaceError: no face, an uncertain one, or no such number.
    """
    _check_rgb(image)
    box = face.locate(image, name=name, number=number, points=points).box
    return box.left, box.top, box.width, box.height


def scaled_box(box: Sequence[float], image: np.ndarray, height: int, width: int) -> tuple[float, float, float, float]:
    """A box of a picture, x, y, width, height, in the pixels of the same picture at another size."""
    across, down = width / image.shape[1], height / image.shape[0]
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


def face_mask(box: Sequence[float] | None, height: int, width: int) -> torch.Tensor:
    """Where the voice may move the picture: three times the face's box, cut at the picture's edges.

    Args:
        box: x, y, width, height of the face, pixels of the resized picture; whole numbers or not.
        height: Of the resized picture, pixels.
        width: Of the resized picture, pixels.

    Returns:
        (1, 1, 1, height, width) uint8, 1 inside.

    Raises:
        ValueError: no box (the published code then takes the whole picture; here that is never done), or one that
            has no size, is not finite or lies outside the picture.

    Source: HunyuanVideo-Avatar, hymm_sp/data_kits/audio_preprocessor.py, get_facemask, floor divisions included.
    """
    if box is None:
        raise ValueError("no face box; the face's x, y, width, height in pixels are needed, or a mask of your own")
    if height <= 0 or width <= 0:
        raise ValueError(f"the picture is {width}×{height} pixels; both sides must be positive")
    if len(box) != 4 or not all(math.isfinite(value) for value in box) or box[2] <= 0 or box[3] <= 0:
        raise ValueError(f"the face box must be x, y, width, height with a positive size, got {tuple(box)}")
    x, y, box_width, box_height = (float(value) for value in box)
    centre_x, centre_y = (x + box_width + x) // 2, (y + box_height + y) // 2
    half_width, half_height = box_width * FACE_AREA // 2, box_height * FACE_AREA // 2
    left, top = int(max(centre_x - half_width, 0)), int(max(centre_y - half_height, 0))
    right, bottom = int(min(centre_x + half_width, width)), int(min(centre_y + half_height, height))
    if right <= left or bottom <= top:
        raise ValueError(f"the face box {tuple(box)} covers no pixel of the picture of {width}×{height}")
    mask = torch.zeros(1, 1, 1, height, width, dtype=torch.uint8)
    mask[..., top:bottom, left:right] = 1
    return mask


def check_mask(mask: np.ndarray | torch.Tensor, height: int, width: int, latent_frames: int) -> torch.Tensor:
    """A caller's own mask in the form of face_mask(), after a strict look.

    Args:
        mask: (height, width), or (latent_frames, height, width) to give every latent frame its own; bool, uint8 or
            floats, 0 to 1.
        height: Of the resized picture, pixels.
        width: Of the resized picture, pixels.
        latent_frames: Of the whole clip.

    Returns:
        (1, 1, 1 or latent_frames, height, width) float32.

    Raises:
        ValueError: another size, type or range.
    """
    mask = torch.as_tensor(mask)
    if tuple(mask.shape) not in ((height, width), (latent_frames, height, width)):
        raise ValueError(
            f"the mask has shape {tuple(mask.shape)}; needed is (height, width) = ({height}, {width}), or "
            f"({latent_frames}, {height}, {width}) for one mask per latent frame"
        )
    if mask.dtype not in (torch.bool, torch.uint8) and not mask.is_floating_point():
        raise ValueError(f"the mask has dtype {mask.dtype}; bool, uint8 or floats are needed")
    mask = mask.float()
    low, high = mask.min().item(), mask.max().item()
    if not (low >= 0 and high <= 1):  # NaN is in no range
        raise ValueError(f"the mask's values range from {low} to {high}; 0 to 1 is needed")
    return mask[None, None] if mask.ndim == 3 else mask[None, None, None]


def latent_mask(mask: torch.Tensor, latent_height: int, latent_width: int) -> torch.Tensor:
    """A mask in pixels brought to the latents' grid.

    Args:
        mask: (1, 1, frames, height, width), 0 to 1, as face_mask() or check_mask() give it.
        latent_height: Of the latents; height / 8.
        latent_width: Of the latents; width / 8.

    Returns:
        (1, 1, frames, latent_height, latent_width) float16 in [0, 1]: bilinear, corners not aligned, rounded to
        float16 as published whatever the transformer computes in.

    Raises:
        ValueError: a mask of another form, or a grid without points.
    """
    if mask.ndim != 5 or mask.shape[:2] != (1, 1):
        raise ValueError(f"the mask has shape {tuple(mask.shape)}; needed is (1, 1, frames, height, width)")
    if latent_height <= 0 or latent_width <= 0:
        raise ValueError(f"latent_height and latent_width must be positive, got {latent_height}×{latent_width}")
    small = F.interpolate(mask[0].transpose(0, 1).float(), (latent_height, latent_width), mode="bilinear")
    return small.transpose(0, 1)[None].half()


def _check_rgb(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray):
        raise TypeError(f"the picture is a {type(image).__name__}; an array or a PIL picture is needed")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"the picture has shape {image.shape} and dtype {image.dtype}; needed is (height, width, 3) uint8, RGB"
        )
