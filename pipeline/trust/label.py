"""The visible label, "Généré par IA · AI-generated", drawn into every frame on a plate of its own, and when a clip may
go without it. Finds no faces and lays out no captions: where they are is handed in."""

import itertools
import math
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from pipeline.errors import LabelRequired, UnlabelledUnknown
from pipeline.plan import Box, ClipPlan
from pipeline.texts import LANGUAGES, Notice

# Why a clip has no label, each with its sentence in texts.py. Source: Regulation (EU) 2024/1689, Art. 50(4): what is
# evidently artistic, satirical or fictional may be disclosed in a way that does not disturb the work.
UNLABELLED = ("private", "artistic", "disclosed")

TEXT = "Généré par IA · AI-generated"
ROWS = ((TEXT,), tuple(TEXT.split(" · ")))  # in one row; in two, where one is too wide or would cover a face
FONT, FONT_WEIGHT = "sans", 600  # the font OpenCV brings (Rubik); thin strokes are the first that an encoder loses
# Height of a row in short sides of the frame, from the accents down to the tail of the p: 19 pixels at 512.
LETTER_SHARE = 0.035
MIN_LETTER_PX = 12  # in smaller frames: with less, strokes are thinner than a pixel
MOST_WIDE = 0.6  # of the frame's width, in one row
ROW_STEP, PADDING = 1.3, 0.45  # from row to row, and from letters to the plate's edge, in heights of letters
TAIL = 0.22  # of a letter's height, below the line it stands on
EDGE_SHARE = 0.025  # of the short side, left free at the frame's edges: round corners and players' frames
LETTERS, PLATE = 255, 20  # white on nearly black, contrast 18:1; opaque, as what moves under letters makes them flicker
FAR_SHARE = 0.12  # of the short side: a face that far away is far enough, and the order of the corners decides
MARGIN_SHARE = 0.1  # of a face's box, round it: heads sway
SMOOTHING = 4  # times finer the plate's round edge is drawn


class Label:
    """The label of one clip: where it stands and how large, chosen once.

    Args:
        plan: Of the clip.
        faces: Boxes of the faces, forehead to chin, pixels of the frame.
        avoid: What it must not cover, as `Burner.area`; pixels of the frame.

    Attributes:
        box: The plate, in whole pixels, inside the frame. Of the corners top left, top right, bottom left and bottom
            right it is the first that covers nothing to avoid and no face, and is far from the faces; where there is
            no such corner, the one that covers least.
    """

    def __init__(self, plan: ClipPlan, faces: Sequence[Box] = (), avoid: Sequence[Box] = ()) -> None:
        short = min(plan.height, plan.width)
        edge = round(EDGE_SHARE * short)
        faces = [_grown(face) for face in faces]
        places = []
        for number, (rows, letter_px, width, height) in enumerate(_shapes(plan, edge)):
            corners = itertools.product((edge, plan.height - edge - height), (edge, plan.width - edge - width))
            for corner, (top, left) in enumerate(corners):
                box = Box(left, top, width, height)
                gap = min(min((_gap(box, face) for face in faces), default=math.inf), FAR_SHARE * short)
                covered = _shared(box, avoid), _shared(box, faces)
                places.append(((*covered, number, -gap, corner), box, rows, letter_px))
        _, self.box, rows, letter_px = min(places, key=lambda place: place[0])
        self._kept, self._added = _drawn(rows, letter_px, int(self.box.height), int(self.box.width))

    def draw(self, frame: np.ndarray) -> np.ndarray:
        """Draw the label into a frame.

        Args:
            frame: (plan.height, plan.width, 3) uint8, RGB; drawn into, inside `box` alone.

        Returns:
            The same array.
        """
        top, left = int(self.box.top), int(self.box.left)
        part = frame[top : top + len(self._kept), left : left + self._kept.shape[1]]
        part[:] = cv2.add(cv2.multiply(part, self._kept, scale=1 / 255), self._added)
        return frame


def check_unlabelled(reason: str | None, engine: str, *, is_public: bool) -> None:
    """Raise unless a clip may be made with this reason for having no label.

    Args:
        reason: One of UNLABELLED; None for a clip with a label, which always may.
        engine: As in `RenderRequest.engine`.
        is_public: It is made for somebody else than who runs this: on a Space or through a public link.

    Raises:
        UnlabelledUnknown: there is no such reason.
        LabelRequired: the avatar model draws it, whose licence asks for the label; or the page is public.
    """
    if reason is None:
        return
    if reason not in UNLABELLED:
        raise UnlabelledUnknown(reason=reason[:100], known=", ".join(UNLABELLED))
    why = "LabelForLicence" if engine != "draft" else "LabelForPublic" if is_public else ""
    if why:
        raise LabelRequired(**{f"reason_{language}": Notice(why).text(language) for language in LANGUAGES})


def why_unlabelled(reason: str) -> Notice:
    """The sentence of one of UNLABELLED."""
    return Notice(f"Unlabelled{reason.capitalize()}")


def _shapes(plan: ClipPlan, edge: int) -> list[tuple[tuple[str, ...], int, int, int]]:
    """Rows, height of letters, width and height of the plate, pixels, in each way it may be set; the best first."""
    wanted = max(round(LETTER_SHARE * min(plan.height, plan.width)), MIN_LETTER_PX)
    shapes = []
    for rows, most in zip(ROWS, (MOST_WIDE, 1.0), strict=True):
        for letter_px in (wanted,) if rows is ROWS[0] else range(wanted, 0, -1):  # two rows are in every frame
            width = max(_row_px(row, letter_px) for row in rows) + 2 * round(PADDING * letter_px)
            height = round((1 + TAIL + ROW_STEP * (len(rows) - 1) + 2 * PADDING) * letter_px)
            if width <= min(most * plan.width, plan.width - 2 * edge) and height <= plan.height - 2 * edge:
                shapes.append((rows, letter_px, width, height))
                break
    return shapes


def _drawn(rows: Sequence[str], letter_px: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The plate as what is kept of the frame under it and what is added, both (height, width, 3) uint8."""
    letters = np.zeros((height, width), np.uint8)
    padding = round(PADDING * letter_px)
    for number, row in enumerate(rows):
        baseline = padding + round(ROW_STEP * letter_px * number) + letter_px
        cv2.putText(letters, row, (padding, baseline), (255,), _font(), letter_px, FONT_WEIGHT)
    fine: np.ndarray = np.zeros((SMOOTHING * height, SMOOTHING * width), np.uint8)
    radius = SMOOTHING * padding
    fine[radius:-radius, radius:-radius] = 255
    fine = cv2.dilate(fine, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))
    plate = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    added = np.maximum(letters, np.round(plate / 255 * PLATE).astype(np.uint8))
    return cv2.merge([255 - np.maximum(plate, letters)] * 3), cv2.merge([added] * 3)


def _font() -> cv2.FontFace:
    return cv2.FontFace(FONT)


def _row_px(row: str, letter_px: int) -> int:
    return int(cv2.getTextSize((0, 0), row, (0, 0), _font(), letter_px, FONT_WEIGHT)[2])


def _grown(face: Box) -> Box:
    """A face with room to sway."""
    beside, above = MARGIN_SHARE * face.width, MARGIN_SHARE * face.height
    return Box(face.left - beside, face.top - above, face.width + 2 * beside, face.height + 2 * above)


def _gap(one: Box, other: Box) -> float:
    """Pixels between two boxes; 0 where they touch."""
    beside = max(one.left - other.left - other.width, other.left - one.left - one.width, 0)
    above = max(one.top - other.top - other.height, other.top - one.top - one.height, 0)
    return math.hypot(beside, above)


def _shared(box: Box, others: Iterable[Box]) -> float:
    """Pixels of a box that others cover, those of several counted again."""
    total = 0.0
    for other in others:
        width = min(box.left + box.width, other.left + other.width) - max(box.left, other.left)
        height = min(box.top + box.height, other.top + other.height) - max(box.top, other.top)
        total += max(width, 0.0) * max(height, 0.0)
    return total
