"""A clip's frame of any shape and the faces that move in it: each in a window of its own, the rest a still picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline import models
from pipeline.draft.geometry import CHIN, FACE_OVAL, FOREHEAD, smoothstep
from pipeline.draft.puppet import MAP_STEP, OVERSAMPLING, Moment, Puppet
from pipeline.plan import Box

# From the middle of a face, in its heights. Below: what the neck moves ends 0.55 under the chin, at 1.05.
WINDOW_BESIDE, WINDOW_ABOVE, WINDOW_BELOW = 1.3, 1.15, 1.25
WHOLE_SHARE = 0.6  # of the frame from which a single face's window is all of it: less would save little
NEARLY_SQUARE = 1.2  # sides of a frame that can be a window: the network that finds the person takes squares
# Face heights inside a window's borders over which movement dies away: hair and shoulders go on beyond them.
FADES_BESIDE, FADES_ABOVE, FADES_BELOW = 0.5, 0.3, 0.1
FADES_TO_NEIGHBOUR = 0.1  # at least, towards another face; from the cheek on where there is more
MELTS = 0.04  # face heights inside a border over which a window becomes the still picture: no step shows
SHARPENING_ROUNDS = 3  # of giving back what enlarging took; the third changes less than half a grey level


@dataclass(frozen=True)
class Window:
    """The part of the frame in which one face moves, in pixels; its sides are multiples of MAP_STEP.

    Args:
        rows: From the frame's top.
        columns: From its left.
        fades: How far inside its top, bottom, left and right border movement begins to die away; 0 at the frame's own.
        melts: How far inside them it begins to be the still picture.
    """

    rows: slice
    columns: slice
    fades: tuple[float, float, float, float]
    melts: tuple[float, float, float, float]

    @property
    def place(self) -> tuple[slice, slice]:
        """What it is of a frame."""
        return self.rows, self.columns


class Stage:
    """One clip's picture and its faces, ready to be moved.

    Args:
        portrait: (height, width, 3) uint8, RGB: the whole picture.
        crop: The part of it that is shown.
        size: (height, width) of the frame, pixels, multiples of MAP_STEP.
        landmarks: (478, 3) float32 for each face, pixels of the frame.

    Attributes:
        puppets: One for each face, in the same order.
        windows: Where each moves.
        places: (faces, 2), the middle of each, x and y in pixels of the frame.
    """

    def __init__(self, portrait: np.ndarray, crop: Box, size: tuple[int, int], landmarks: Sequence[np.ndarray]) -> None:
        self._still = crop_frame(portrait, crop, size)
        self.windows = windows_around(landmarks, size)
        self.places = np.array([points[FACE_OVAL, :2].mean(axis=0) for points in landmarks])
        self.puppets: list[Puppet] = []
        self._borders: list[list[tuple[tuple[slice, slice], np.ndarray]]] = []
        for points, window in zip(landmarks, self.windows, strict=True):
            skin = crop_skin(portrait, crop, size, window.place)
            corner = np.array([window.columns.start, window.rows.start, 0], np.float32)
            fading = 1 - _inside(window, window.fades) if any(window.fades) else None
            self.puppets.append(Puppet(skin, points - corner, _person_in(self._still, window), fading))
            self._borders.append(_strips(window))

    def draw(self, moments: Sequence[Moment]) -> np.ndarray:
        """Draw one frame: (height, width, 3) uint8, RGB, a new array. Frames are meant to follow one another.

        Args:
            moments: What each face does.
        """
        shape = self._still.shape[:2]
        if (self.windows[0].rows.stop, self.windows[0].columns.stop) == shape == self.puppets[0].size:
            return self.puppets[0].draw(moments[0])
        frame = self._still.copy()
        for puppet, window, borders, moment in zip(self.puppets, self.windows, self._borders, moments, strict=True):
            drawn, part = puppet.draw(moment), frame[window.place]
            for strip, share in borders:
                drawn[strip] = cv2.blendLinear(drawn[strip], part[strip], share, 1 - share)
            part[:] = drawn
        return frame


def windows_around(landmarks: Sequence[np.ndarray], size: tuple[int, int]) -> list[Window]:
    """The window of each of one or two faces; two windows share no pixel.

    Args:
        landmarks: (478, 3) float32 for each face, pixels of the frame.
        size: (height, width) of the frame, pixels, multiples of MAP_STEP.
    """
    reaches, ovals, heights = [], [], []
    for points in landmarks:
        oval = points[FACE_OVAL, :2]
        low, high = oval.min(axis=0), oval.max(axis=0)
        x, y = (low + high) / 2
        tall = float(np.hypot(*(points[CHIN, :2] - points[FOREHEAD, :2])))
        reach = np.array([[y - WINDOW_ABOVE * tall, y + WINDOW_BELOW * tall], [x, x]])
        reach[1] += np.array([-WINDOW_BESIDE, WINDOW_BESIDE]) * tall
        reaches.append(np.clip(reach, 0, np.array(size)[:, None]))
        ovals.append(np.stack([low[::-1], high[::-1]], axis=1))  # as reach: rows, then columns; first, then last
        heights.append(tall)

    fades = [np.array([[FADES_ABOVE, FADES_BELOW], [FADES_BESIDE] * 2]) * tall for tall in heights]
    if len(landmarks) == 2:
        _part(reaches, ovals, fades, heights)
    elif max(size) < NEARLY_SQUARE * min(size) and np.prod(np.ptp(reaches[0], axis=1)) > WHOLE_SHARE * np.prod(size):
        reaches[0] = np.array([[0, size[0]], [0, size[1]]], float)

    windows = []
    for reach, fade, tall in zip(reaches, fades, heights, strict=True):
        edges = np.rint(reach / MAP_STEP).astype(int) * MAP_STEP
        is_frames = edges == np.array([[0, size[0]], [0, size[1]]])
        within = np.where(is_frames, 0, fade)
        melts = np.where(is_frames, 0, np.minimum(MELTS * tall, within))
        (top, bottom), (left, right) = edges.tolist()
        windows.append(
            Window(
                slice(top, bottom), slice(left, right), tuple(within.ravel().tolist()), tuple(melts.ravel().tolist())
            )
        )
    return windows


def _part(reaches: list[np.ndarray], ovals: list[np.ndarray], fades: list[np.ndarray], heights: list[float]) -> None:
    """Draw a border between two windows that overlap, half way between the faces, in place."""
    one, other = reaches
    if not ((one[:, 1] > other[:, 0]) & (other[:, 1] > one[:, 0])).all():
        return
    gaps = np.maximum(ovals[1][:, 0] - ovals[0][:, 1], ovals[0][:, 0] - ovals[1][:, 1])
    axis = int(gaps.argmax())
    first, last = (0, 1) if ovals[0][axis].sum() <= ovals[1][axis].sum() else (1, 0)
    border = (ovals[first][axis, 1] + ovals[last][axis, 0]) / 2
    for face, side in ((first, 1), (last, 0)):
        reaches[face][axis, side] = border
        cheek = float(abs(border - ovals[face][axis, side]))
        fades[face][axis, side] = max(FADES_TO_NEIGHBOUR * heights[face], min(cheek, fades[face][axis, side]))


def _person_in(frame: np.ndarray, window: Window) -> np.ndarray:
    """The person's mask in a window, found in a square around it as far as the frame has one: nothing is squeezed."""
    side = max(window.rows.stop - window.rows.start, window.columns.stop - window.columns.start)
    around, inner = [], []
    for part, length in zip(window.place, frame.shape, strict=False):
        start = min(max((part.start + part.stop - side) // 2, 0), max(length - side, 0))
        around.append(slice(start, min(start + side, length)))
        inner.append(slice(part.start - start, part.stop - start))
    return models.person_mask(frame[tuple(around)])[tuple(inner)]


def _inside(window: Window, bands: tuple[float, float, float, float]) -> np.ndarray:
    """(height, width) float32: 0 at a window's borders, 1 from so many pixels inside them on."""
    ramps = []
    for side, first, last in ((window.rows, *bands[:2]), (window.columns, *bands[2:])):
        at = np.arange(side.stop - side.start, dtype=np.float32)
        ramp = np.ones_like(at)
        for band, away in ((first, at), (last, at[::-1])):
            if band:
                ramp = ramp * smoothstep(away, 0, band)
        ramps.append(ramp)
    return (ramps[0][:, None] * ramps[1]).astype(np.float32)


def _strips(window: Window) -> list[tuple[tuple[slice, slice], np.ndarray]]:
    """Where a window becomes the still picture: strips along its borders, and the drawn one's share there."""
    share = _inside(window, window.melts)
    height, width = share.shape
    top, bottom, left, right = (int(np.ceil(band)) for band in window.melts)
    between = slice(top, height - bottom)
    strips = [
        (slice(0, top), slice(0, width)),
        (slice(height - bottom, height), slice(0, width)),
        (between, slice(0, left)),
        (between, slice(width - right, width)),
    ]
    return [(strip, share[strip].copy()) for strip in strips if share[strip].size]


def crop_frame(portrait: np.ndarray, crop: Box, size: tuple[int, int]) -> np.ndarray:
    """The part of a picture that fills the frame, at the frame's size.

    Args:
        portrait: (height, width, 3) uint8, RGB.
        crop: Inside the picture, in whole pixels.
        size: (height, width), pixels.

    Returns:
        (*size, 3) uint8, RGB.
    """
    left, top, across, down = (round(value) for value in (crop.left, crop.top, crop.width, crop.height))
    part = portrait[top : top + down, left : left + across]
    is_smaller = size[0] < down or size[1] < across
    return cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_CUBIC)


def crop_skin(
    portrait: np.ndarray, crop: Box, size: tuple[int, int], window: tuple[slice, slice] = (slice(None), slice(None))
) -> np.ndarray:
    """The same part for a Puppet to read skin from: larger, and such that its pixels' means are the frame's pixels.

    Args:
        portrait: (height, width, 3) uint8, RGB.
        crop: Inside the picture, in whole pixels.
        size: (height, width) of the frame, pixels.
        window: What of the frame is wanted: rows and columns.

    Returns:
        (OVERSAMPLING rows, OVERSAMPLING columns, 3) uint8, RGB.
    """
    rows, columns = (side.indices(length)[:2] for side, length in zip(window, size, strict=True))
    large = tuple(slice(OVERSAMPLING * start, OVERSAMPLING * stop) for start, stop in (rows, columns))
    frame = crop_frame(portrait, crop, size)[window]
    skin = crop_frame(portrait, crop, (OVERSAMPLING * size[0], OVERSAMPLING * size[1]))[large].copy()
    for channel in range(3):  # one at a time: in floating point these would be among the largest arrays of a render
        wanted, sharpened = frame[..., channel].astype(np.float32), skin[..., channel].astype(np.float32)
        for _ in range(SHARPENING_ROUNDS):
            lost = wanted - cv2.resize(sharpened, wanted.shape[::-1], interpolation=cv2.INTER_AREA)
            sharpened += cv2.resize(lost, sharpened.shape[::-1], interpolation=cv2.INTER_CUBIC)
        skin[..., channel] = np.rint(np.clip(sharpened, 0, 255, out=sharpened))
    return skin
