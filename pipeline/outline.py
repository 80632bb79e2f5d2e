"""A preview of the picture with its faces outlined and numbered, the clicks marked, and what will move drawn over it.

Draws; finds no face. Writes no words but digits, so that it is the same in every language.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline import handles
from pipeline.draft.geometry import (
    FACE_OVAL,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    OUTER_LOWER_LIP,
    OUTER_UPPER_LIP,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
)
from pipeline.errors import PointsImplausible
from pipeline.face import Face
from pipeline.plan import Box
from pipeline.request import Point

PREVIEW_PX = 900  # long side of a preview: sharp on a page's column, small enough to be sent at every click
STROKE = 0.004  # of the preview's long side: how wide a line is
DARK = (16, 16, 16)  # under every line, twice as wide: lines are seen on snow and at night
# Colours that all eyes tell apart; what they mean is told by width and filling as well. Source: Okabe and Ito, 2008,
# "Color Universal Design"
FOUND, CHOSEN = (86, 180, 233), (240, 228, 66)  # RGB: sky blue, yellow
CHOSEN_STROKE = 1.8  # times the width of the other lines
DISC = 0.024  # of the preview's long side: radius of the disc with a face's number
DISC_IN_FACE = 0.16  # of the face's height; on small faces the disc must not hide them
SMALLEST_DISC_PX = 9  # a digit of 9 pixels is still read
MARK = 0.012  # of the preview's long side: radius of a click's mark
DIMMED = 0.35  # of its brightness that the picture keeps outside of the clip's frame
REACH = 0.15  # of a face's size around its box that a click may miss it by: fingers are wide
EYES = (LEFT_EYE_UPPER + LEFT_EYE_LOWER[-2:0:-1], RIGHT_EYE_UPPER + RIGHT_EYE_LOWER[-2:0:-1])
LIPS = OUTER_UPPER_LIP + OUTER_LOWER_LIP[-2:0:-1]
FRACTION_BITS = 4  # of cv2's coordinates: sixteenths of a pixel


def preview_scale(picture: np.ndarray) -> float:
    """Pixels of the preview to one of the (height, width, 3) picture; 1 at most."""
    return min(PREVIEW_PX / max(picture.shape[:2]), 1.0)


def to_picture(picture: np.ndarray, x: float, y: float) -> Point:
    """Where in the (height, width, 3) picture a pixel of its preview lies."""
    scale = preview_scale(picture)
    return (x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5


def face_at(faces: Sequence[Face], x: float, y: float) -> int | None:
    """The number of the face that a click chose.

    Args:
        faces: As `find_faces` gives them; 1 is the first.
        x: Of the click, pixels of the picture.
        y: The same downwards.

    Returns:
        Of the faces around the click the one whose middle is nearest, in its own sizes; None beside all faces.
    """
    nearest: tuple[float, int] | None = None
    for number, face in enumerate(faces, start=1):
        box = face.box
        across = abs(x - box.left - box.width / 2) / box.width
        down = abs(y - box.top - box.height / 2) / box.height
        if max(across, down) <= 0.5 + REACH and (nearest is None or across + down < nearest[0]):
            nearest = across + down, number
    return nearest[1] if nearest else None


def outlined(
    picture: np.ndarray, faces: Sequence[Face], *, chosen: Sequence[int] = (), points: Sequence[Point] = ()
) -> np.ndarray:
    """The picture as a preview, with all that was found and clicked.

    Args:
        picture: (height, width, 3) uint8, RGB.
        faces: As `find_faces` gives them.
        chosen: Numbers of the faces that will speak.
        points: Clicks so far, pixels of the picture: two eyes, the mouth; or five handles. Once there are three or
            five, the face made from them is drawn as well, unless they cannot be one.

    Returns:
        (rows, columns, 3) uint8, RGB, a new array, of the picture's shape and PREVIEW_PX long at most.
    """
    scale = preview_scale(picture)
    preview = (
        cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture.copy()
    )
    stroke = STROKE * max(preview.shape[:2])
    for number, face in enumerate(faces, start=1):
        is_chosen = number in chosen
        oval = _on_preview(face.landmarks[FACE_OVAL, :2], scale)
        _line(preview, oval, CHOSEN if is_chosen else FOUND, stroke * (CHOSEN_STROKE if is_chosen else 1.0))
    for number, face in enumerate(faces, start=1):  # after all lines, so that no line runs through a number
        _number(preview, number, face.box, scale, is_chosen=number in chosen)
    if len(points) in (3, 5):
        try:
            made = handles.landmarks_from_points(tuple(points), name="", picture=picture)
        except PointsImplausible:
            pass  # told where the clip is asked for, or by who calls this
        else:
            _line(preview, _on_preview(made[FACE_OVAL, :2], scale), CHOSEN, stroke * CHOSEN_STROKE)
            for part in (*EYES, LIPS):
                _line(preview, _on_preview(made[part, :2], scale), CHOSEN, stroke)
    for place, point in enumerate(points):
        _mark(preview, _on_preview(np.array([point]), scale), is_eye=place < 2)
    return preview


def crop_outlined(preview: np.ndarray, crop: Box, *, picture_size: tuple[int, int]) -> np.ndarray:
    """A preview with what the clip will not hold dimmed.

    Args:
        preview: From `outlined`.
        crop: The part of the picture that fills the clip's frame, pixels of the picture.
        picture_size: (height, width) of the picture, pixels.

    Returns:
        (rows, columns, 3) uint8, RGB, a new array.
    """
    scale = max(preview.shape[:2]) / max(picture_size)
    left, top = round(crop.left * scale), round(crop.top * scale)
    right, bottom = round((crop.left + crop.width) * scale), round((crop.top + crop.height) * scale)
    dimmed = (preview * np.float32(DIMMED)).astype(np.uint8)
    dimmed[top:bottom, left:right] = preview[top:bottom, left:right]
    stroke = STROKE * max(preview.shape[:2])
    inset = stroke  # the frame's line lies inside, where it is seen at the picture's edge as well
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float) - 0.5
    corners += inset * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    _line(dimmed, corners, (255, 255, 255), stroke)
    return dimmed


def _on_preview(places: np.ndarray, scale: float) -> np.ndarray:
    """(n, 2) pixels of the picture to pixels of its preview: cv2 counts from pixels' middles."""
    return (places.astype(np.float64) + 0.5) * scale - 0.5


def _line(preview: np.ndarray, places: np.ndarray, colour: tuple[int, int, int], stroke: float) -> None:
    """A closed line through (n, 2) places, in place: light over dark."""
    at = np.rint(places * 2**FRACTION_BITS).astype(np.int32)
    for width, shade in ((2.2 * stroke, DARK), (stroke, colour)):
        cv2.polylines(preview, [at], True, shade, max(round(width), 1), cv2.LINE_AA, FRACTION_BITS)


def _disc(preview: np.ndarray, centre: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
    x, y = (round(float(value) * 2**FRACTION_BITS) for value in centre)
    cv2.circle(preview, (x, y), round(radius * 2**FRACTION_BITS), colour, cv2.FILLED, cv2.LINE_AA, FRACTION_BITS)


def _number(preview: np.ndarray, number: int, box: Box, scale: float, *, is_chosen: bool) -> None:
    """A face's number on a disc at its upper left, inside the preview: dark on light for the chosen, else light."""
    height, width = preview.shape[:2]
    radius = min(DISC * max(height, width), DISC_IN_FACE * box.height * scale)
    radius = max(radius * (CHOSEN_STROKE**0.5 if is_chosen else 1.0), SMALLEST_DISC_PX)
    centre = _on_preview(np.array([[box.left + 0.12 * box.width, box.top + 0.06 * box.height]]), scale)[0]
    centre = np.clip(centre, radius + 2, np.maximum(np.array([width, height]) - radius - 2, radius + 2))
    for size, shade in ((radius + 2, DARK), (radius, CHOSEN if is_chosen else FOUND)):
        _disc(preview, centre, size, shade)
    if not is_chosen:
        _disc(preview, centre, 0.8 * radius, DARK)
    written, font = str(number), cv2.FONT_HERSHEY_SIMPLEX
    thickness = max(round(radius / 6), 1)
    (wide, high), _ = cv2.getTextSize(written, font, 1.0, thickness)
    size = 1.1 * radius / max(high, 0.8 * wide)
    start = round(centre[0] - size * wide / 2), round(centre[1] + size * high / 2)
    cv2.putText(preview, written, start, font, size, DARK if is_chosen else FOUND, thickness, cv2.LINE_AA)


def _mark(preview: np.ndarray, place: np.ndarray, *, is_eye: bool) -> None:
    """A click: a ring with a dot in an eye, a lying cross on the mouth or the chin."""
    radius = max(MARK * max(preview.shape[:2]), 5.0)
    stroke = max(radius / 3, 1.5)
    if is_eye:
        ring = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        _line(preview, place + radius * np.stack([np.cos(ring), np.sin(ring)], axis=1), (255, 255, 255), stroke)
        _disc(preview, place[0], 0.35 * radius, (255, 255, 255))
        return
    for slope in (-1, 1):
        arm = 0.8 * radius * np.array([[-1, -slope], [1, slope]])
        _line(preview, place + arm, (255, 255, 255), stroke)
