"""Draws portraits/drawing_of_a_girl.jpg and portraits/drawing_of_a_fox.jpg, the two characters of our own making.

Shapes are closed curves through a few points, filled and softly shaded at three times the final size. Knows nothing
of faces: the fox's three clicks stand in examples.csv. Run it from anywhere: python examples/make_drawing.py
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

PORTRAITS = Path(__file__).parent / "portraits"
SIZE = 768  # pixels, of the finished picture; all coordinates below are in these
SCALE = 3  # drawn this much larger, then reduced: smooth edges
QUALITY = 92  # JPEG; below 90 the lips' edge shows blocks
MIRROR = SIZE - 1  # x of a point's mirror image is MIRROR - x

Points: TypeAlias = Sequence[tuple[float, float]]
Colour: TypeAlias = tuple[int, int, int]


def curve(points: Points, closed: bool = True, steps: int = 24) -> np.ndarray:
    """A smooth line through the points: (num_points, 2) float32. A uniform Catmull-Rom spline."""
    given = np.asarray(points, np.float32)
    ends = (given[-1:], given[:2]) if closed else (given[:1], given[-1:])
    padded = np.concatenate([ends[0], given, ends[1]])
    t = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)[:, None]
    pieces = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        pieces.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate(pieces if closed else [*pieces, given[-1:]])


def mirrored(points: Points) -> list[tuple[float, float]]:
    """The same points on the other side of the face."""
    return [(MIRROR - x, y) for x, y in points]


def both_sides(points: Points) -> list[tuple[float, float]]:
    """A symmetrical outline from its left half, given from top to bottom."""
    return [*points, *reversed(mirrored(points))]


class Drawing:
    """A picture being painted, kept SCALE times too large.

    Args:
        top: Colour of the background at the top, RGB 0 to 255.
        bottom: At the bottom.
        seed: Of the grain, hairs and freckles.
    """

    def __init__(self, top: Colour, bottom: Colour, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        side = SIZE * SCALE
        down = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
        self.pixels = np.broadcast_to(np.float32(top) * (1 - down) + np.float32(bottom) * down, (side, side, 3)).copy()

    def area(self, outline: np.ndarray) -> np.ndarray:
        """(side, side) float32, 1 inside the outline."""
        mask = np.zeros(self.pixels.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(outline * SCALE * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
        return mask.astype(np.float32) / 255

    def soft(self, mask: np.ndarray, radius: float) -> np.ndarray:
        """The mask blurred by a radius in final pixels; large ones on a small copy, which looks the same."""
        shrink = max(1, int(radius * SCALE / 6))
        small = cv2.resize(mask, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), radius * SCALE / shrink)
        return cv2.resize(small, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)

    def paint(self, mask: np.ndarray, colour: Colour, opacity: float = 1.0) -> None:
        """Lay a colour over the picture where the mask is."""
        amount = mask[:, :, None] * opacity
        self.pixels += (np.float32(colour) - self.pixels) * amount

    def fill(self, points: Points, colour: Colour, opacity: float = 1.0) -> np.ndarray:
        """Paint a closed curve; returns its mask, to shade inside it."""
        mask = self.area(curve(points))
        self.paint(mask, colour, opacity)
        return mask

    def glow(self, points: Points, colour: Colour, opacity: float, radius: float, inside: np.ndarray) -> None:
        """Shade: a blurred closed curve, seen only inside a mask."""
        self.paint(self.soft(self.area(curve(points)), radius) * inside, colour, opacity)

    def spot(
        self, x: float, y: float, across: float, down: float, colour: Colour, opacity: float, inside: np.ndarray
    ) -> None:
        """Shade: a soft ellipse with half axes in pixels, seen only inside a mask."""
        reach = 2.2  # half axes; there the ellipse has faded to a thousandth
        left, right = (int(max(0, min(SIZE, x + side * reach * across)) * SCALE) for side in (-1, 1))
        top, bottom = (int(max(0, min(SIZE, y + side * reach * down)) * SCALE) for side in (-1, 1))
        rows, columns = np.ogrid[top:bottom, left:right]
        distance = ((columns / SCALE - x) / across) ** 2 + ((rows / SCALE - y) / down) ** 2
        amount = np.exp(-1.4 * distance).astype(np.float32) * inside[top:bottom, left:right] * opacity
        under = self.pixels[top:bottom, left:right]
        under += (np.float32(colour) - under) * amount[:, :, None]

    def stroke(
        self, points: Points, width: float, colour: Colour, opacity: float = 1.0, inside: np.ndarray | None = None
    ) -> None:
        """A brush stroke, `width` pixels wide in its middle and pointed at both ends."""
        line = curve(points, closed=False)
        along = np.gradient(line, axis=0)
        normal = np.stack([-along[:, 1], along[:, 0]], 1) / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-6)
        swell = (np.sin(np.linspace(0, np.pi, len(line))) ** 0.7 * width / 2)[:, None]
        outline = np.concatenate([line + normal * swell, (line - normal * swell)[::-1]]) * SCALE
        left, top = np.maximum(np.floor(outline.min(0)).astype(int) - 2, 0)
        right, bottom = np.minimum(np.ceil(outline.max(0)).astype(int) + 3, self.pixels.shape[0])
        if left >= right or top >= bottom:
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        local = np.round((outline - (left, top)) * 16).astype(np.int32)
        cv2.fillPoly(mask, [local], 255, cv2.LINE_AA, shift=4)
        amount = mask.astype(np.float32)[:, :, None] / 255 * opacity
        if inside is not None:
            amount *= inside[top:bottom, left:right, None]
        under = self.pixels[top:bottom, left:right]
        under += (np.float32(colour) - under) * amount

    def hairs(
        self,
        start: Points,
        end: Points,
        count: int,
        colours: Sequence[Colour],
        width: tuple[float, float],
        inside: np.ndarray,
        opacity: float = 0.5,
    ) -> None:
        """Many strokes between two lines of equally many points, each a mixture of them."""
        first, last = np.asarray(start, float), np.asarray(end, float)
        for share in np.sort(self.random.uniform(0, 1, count)):
            wander = self.random.normal(0, 2.2, first.shape) * np.linspace(0.2, 1, len(first))[:, None]
            points = first * (1 - share) + last * share + wander
            colour = colours[self.random.integers(len(colours))]
            self.stroke(points.tolist(), self.random.uniform(*width), colour, opacity, inside)

    def fur(self, inside: np.ndarray, count: int, length: float, centre: tuple[float, float], lean: float) -> None:
        """Short hairs that lie away from a centre, each a little lighter or darker than what it covers.

        Args:
            inside: Where their roots are.
            count: How many.
            length: In final pixels; each hair 0.6 to 1.2 of it.
            centre: Where they come from.
            lean: How much they hang: 0 not at all, 1 by half.
        """
        rows, columns = np.nonzero(inside > 0.5)
        for index in self.random.integers(len(rows), size=count):
            row, column = rows[index], columns[index]
            x, y = column / SCALE, row / SCALE
            away = np.array([x - centre[0], y - centre[1]])
            away /= np.linalg.norm(away) + 1e-6
            away += self.random.normal(0, 0.16, 2) + np.array([0, lean])
            reach = away / np.linalg.norm(away) * length * self.random.uniform(0.6, 1.2)
            bend = np.array([-reach[1], reach[0]]) * self.random.normal(0, 0.1)
            colour = np.clip(self.pixels[row, column] * self.random.uniform(0.84, 1.17), 0, 255).astype(int)
            root, tip = np.array([x, y]), np.array([x, y]) + reach
            points = [tuple(root), tuple((root + tip) / 2 + bend), tuple(tip)]
            self.stroke(points, self.random.uniform(1.4, 2.8), tuple(colour), 0.55)

    def save(self, name: str, grain: float) -> None:
        """Reduce, add the paper's grain (standard deviation in grey levels) and write the JPEG."""
        picture = cv2.resize(self.pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        paper = cv2.GaussianBlur(self.random.standard_normal((SIZE, SIZE)).astype(np.float32), (0, 0), 0.7)
        picture = np.clip(picture + grain * paper[:, :, None] / paper.std(), 0, 255).astype(np.uint8)
        cv2.imwrite(str(PORTRAITS / name), picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def draw_eye(drawing: Drawing, flip: bool, iris: Colour, skin_shadow: Colour) -> None:
    """One human eye with lid, lashes and light; drawn for the picture's left, mirrored when asked."""

    def place(points: Points) -> Points:
        return mirrored(points) if flip else points

    x, y = 319.0, 343.0
    middle = MIRROR - x if flip else x
    white = drawing.area(
        curve(place([(283, 350), (296, 336), (316, 329), (337, 335), (352, 351), (338, 358), (316, 361), (296, 357)]))
    )
    drawing.paint(drawing.soft(white, 7), skin_shadow, 0.5)
    drawing.paint(white, (244, 238, 232))
    everywhere = np.ones_like(white)
    ball = np.zeros_like(white)
    for radius, colour, opacity in ((18.5, (38, 44, 42), 1.0), (16.5, iris, 1.0), (7.6, (14, 14, 18), 1.0)):
        ring = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        disc = drawing.area(np.stack([middle + radius * np.cos(ring), y + radius * np.sin(ring)], 1).astype(np.float32))
        ball = np.maximum(ball, disc)
        drawing.paint(drawing.soft(disc, 0.7) * white, colour, opacity)
    drawing.spot(middle, y + 9, 12, 6, (196, 222, 170), 0.55, ball * white)
    drawing.glow(
        place([(280, 340), (300, 322), (320, 318), (342, 326), (358, 348), (335, 344), (316, 340), (296, 345)]),
        (60, 44, 50), 0.55, 3, white,
    )  # fmt: skip
    drawing.spot(middle - 6, y - 7, 4.2, 4.2, (255, 255, 255), 1.0, white)
    drawing.spot(middle + 7, y + 6, 2.4, 2.4, (255, 255, 255), 0.6, white)
    drawing.spot(MIRROR - 350 if flip else 350, 351, 4, 4, (214, 146, 140), 0.9, white)
    lash: Colour = (46, 28, 26)
    drawing.stroke(place([(277, 352), (290, 338), (306, 329.5), (322, 328), (340, 335), (354, 352)]), 6.4, lash)
    drawing.stroke(place([(288, 343), (279, 343), (271, 338)]), 4.6, lash)
    drawing.stroke(place([(286, 354), (304, 362), (322, 363), (344, 355)]), 1.8, (120, 72, 62), 0.8)
    drawing.stroke(place([(284, 335), (300, 321), (320, 317), (340, 323), (352, 336)]), 2.4, (150, 92, 76), 0.75)
    brow = [(266, 314), (284, 299), (308, 292), (332, 294), (352, 302)]
    lower = [(268, 315), (286, 305), (308, 300), (332, 303), (353, 309)]
    drawing.hairs(place(brow), place(lower), 16, ((104, 50, 30), (122, 62, 38)), (2.5, 4.5), everywhere, 0.6)


def draw_girl() -> None:
    """A young woman with auburn hair, facing us: semi-realistic, lit from the upper left."""
    drawing = Drawing((92, 138, 140), (34, 66, 78), seed=11)
    everywhere = np.ones(drawing.pixels.shape[:2], np.float32)
    drawing.spot(190, 210, 330, 330, (206, 214, 182), 0.55, everywhere)
    for _ in range(26):
        x, y, radius = drawing.random.uniform(0, SIZE), drawing.random.uniform(0, SIZE), drawing.random.uniform(14, 46)
        ring = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        disc = drawing.area(np.stack([x + radius * np.cos(ring), y + radius * np.sin(ring)], 1).astype(np.float32))
        drawing.paint(drawing.soft(disc, 3), (226, 224, 180), drawing.random.uniform(0.04, 0.16))

    hair_back = drawing.fill(
        both_sides([(360, 130), (300, 142), (244, 186), (212, 272), (204, 380), (198, 480), (206, 560), (250, 612),
                    (330, 600)]), (84, 34, 22),
    )  # fmt: skip
    for side in (lambda p: p, mirrored):
        drawing.hairs(
            side([(330, 140), (232, 220), (206, 340), (200, 460), (214, 590)]),
            side([(350, 150), (290, 220), (262, 340), (258, 460), (280, 606)]),
            70, ((120, 52, 30), (66, 26, 18), (146, 70, 40)), (3, 8), hair_back,
        )  # fmt: skip

    shirt = drawing.fill(
        both_sides([(330, 572), (262, 604), (170, 640), (104, 690), (80, 790), (200, 800)]), (196, 142, 52)
    )
    drawing.spot(600, 760, 190, 160, (112, 68, 28), 0.8, shirt)
    drawing.spot(210, 680, 110, 80, (236, 190, 96), 0.7, shirt)
    for x in np.arange(96, 680, 12):
        drawing.stroke(
            [(x, 790), (x + (384 - x) * 0.06, 700), (x + (384 - x) * 0.2, 606)], 2.2, (150, 102, 34), 0.35, shirt
        )

    neck = drawing.fill(both_sides([(322, 470), (326, 540), (316, 596), (336, 640), (360, 652)]), (226, 168, 138))
    drawing.glow(both_sides([(290, 470), (306, 520), (340, 556), (384, 566)]), (128, 66, 56), 0.78, 9, neck)
    drawing.spot(330, 600, 22, 40, (244, 196, 166), 0.5, neck)
    drawing.spot(384, 640, 12, 26, (176, 108, 86), 0.45, neck)
    drawing.spot(436, 590, 16, 60, (160, 92, 78), 0.45, neck)
    collar = drawing.fill(
        [(300, 582), (318, 622), (350, 652), (384, 662), (418, 652), (450, 622), (468, 582), (482, 606), (462, 650),
         (424, 684), (384, 694), (344, 684), (306, 650), (286, 606)], (214, 160, 66),
    )  # fmt: skip
    drawing.glow([(300, 582), (318, 622), (350, 652), (384, 662), (418, 652), (450, 622), (468, 582), (440, 640),
                  (384, 672), (328, 640)], (120, 74, 26), 0.7, 5, collar)  # fmt: skip
    for angle in np.linspace(0.12, np.pi - 0.12, 30):
        out, down = np.cos(angle), np.sin(angle)
        drawing.stroke(
            [(384 + 84 * out, 588 + 72 * down), (384 + 102 * out, 590 + 106 * down)], 3, (160, 110, 38), 0.5, collar
        )

    face = drawing.fill(
        both_sides([(362, 160), (322, 168), (276, 210), (258, 280), (256, 350), (264, 410), (284, 462), (316, 504),
                    (350, 530), (374, 536)]), (240, 190, 160),
    )  # fmt: skip
    drawing.spot(340, 240, 90, 60, (255, 222, 196), 0.75, face)  # forehead
    drawing.spot(520, 400, 74, 190, (178, 106, 86), 0.7, face)  # far side
    drawing.spot(246, 420, 40, 130, (200, 132, 108), 0.5, face)
    drawing.spot(384, 548, 110, 34, (176, 106, 88), 0.55, face)  # under the chin
    drawing.spot(384, 505, 30, 16, (252, 210, 184), 0.5, face)  # chin
    for x, strength in ((300, 0.42), (468, 0.42)):
        drawing.spot(x, 412, 40, 30, (226, 118, 104), strength, face)  # cheeks
    drawing.spot(288, 392, 22, 14, (255, 222, 198), 0.5, face)
    for x in (322, 445):
        drawing.spot(x, 322, 44, 20, (196, 128, 104), 0.38, face)  # under the brows
    draw_eye(drawing, False, (92, 138, 98), (206, 146, 122))
    draw_eye(drawing, True, (86, 130, 92), (190, 126, 104))

    drawing.spot(404, 372, 13, 62, (190, 118, 96), 0.42, face)  # nose: far side, bridge, tip, underside
    drawing.spot(376, 366, 8, 56, (255, 226, 202), 0.6, face)
    drawing.spot(384, 412, 26, 15, (236, 166, 140), 0.5, face)
    drawing.spot(378, 406, 8, 7, (255, 238, 222), 0.75, face)
    drawing.spot(384, 431, 30, 8, (160, 88, 74), 0.5, face)
    for side in (lambda p: p, mirrored):
        drawing.stroke(side([(353, 410), (349, 420), (355, 428), (364, 427)]), 3.2, (166, 92, 76), 0.75)
        drawing.stroke(side([(363, 427), (370, 423.5), (377, 427)]), 5, (104, 46, 42), 0.85)

    drawing.spot(384, 448, 9, 8, (206, 138, 116), 0.5, face)  # mouth
    lips = drawing.fill(
        [(331, 466.5), (352, 460.5), (370, 454.5), (384, 458), (398, 454.5), (416, 460.5), (437, 466.5), (420, 482),
         (402, 491), (384, 494), (366, 491), (348, 482)], (206, 98, 96),
    )  # fmt: skip
    drawing.glow(
        [(331, 466), (352, 460), (370, 453), (384, 457), (398, 453), (416, 460), (437, 466), (410, 471), (384, 473),
         (358, 471)], (158, 60, 66), 0.75, 1.2, lips,
    )  # fmt: skip
    drawing.spot(376, 481, 20, 5, (246, 172, 162), 0.8, lips)
    drawing.spot(424, 476, 14, 12, (142, 54, 62), 0.5, lips)
    drawing.stroke(
        [(326, 464.5), (338, 468.5), (362, 470.5), (384, 472.5), (406, 470.5), (430, 468.5), (442, 464.5)],
        3,
        (96, 30, 38),
        0.9,
    )
    drawing.spot(384, 502, 24, 6, (176, 104, 88), 0.55, face)
    for x in (326, 442):
        drawing.spot(x, 465, 7, 7, (176, 100, 86), 0.5, face)

    for _ in range(46):
        x, y = drawing.random.normal(384, 56), drawing.random.normal(398, 15)
        drawing.spot(x, y, *drawing.random.uniform(1.2, 2.3, 2), (176, 98, 70), drawing.random.uniform(0.2, 0.55), face)

    shadow = [(384, 150), (300, 190), (268, 270), (262, 360), (250, 300), (256, 200), (320, 140)]
    drawing.glow(shadow, (150, 84, 66), 0.6, 9, face)
    drawing.glow(mirrored(shadow), (130, 70, 58), 0.7, 9, face)
    parting = (352, 132)
    left = drawing.fill(
        [parting, (310, 138), (250, 170), (214, 240), (198, 340), (190, 460), (200, 556), (238, 606), (268, 590),
         (258, 470), (262, 390), (266, 320), (288, 262), (324, 212), (350, 176)], (124, 54, 30),
    )  # fmt: skip
    right = drawing.fill(
        [parting, (400, 126), (476, 146), (538, 210), (562, 310), (578, 450), (570, 552), (534, 606), (502, 592),
         (510, 470), (508, 400), (504, 330), (478, 270), (428, 222), (384, 186), (356, 160)], (112, 46, 26),
    )  # fmt: skip
    tones: tuple[Colour, ...] = ((164, 82, 44), (96, 38, 22), (190, 104, 58), (136, 60, 34), (78, 30, 20))
    drawing.hairs(
        [parting, (264, 164), (208, 270), (194, 400), (196, 520), (244, 612)],
        [(352, 172), (316, 218), (276, 300), (263, 400), (256, 520), (264, 596)], 150, tones, (2, 6), left,
    )  # fmt: skip
    drawing.hairs(
        [parting, (474, 140), (556, 250), (576, 400), (574, 520), (528, 612)],
        [(354, 160), (440, 232), (496, 310), (508, 410), (512, 520), (506, 596)], 150, tones, (2, 6), right,
    )  # fmt: skip
    drawing.glow([(262, 182), (236, 230), (222, 290), (246, 262), (284, 206)], (232, 156, 96), 0.6, 10, left)
    drawing.glow([(440, 150), (500, 190), (528, 250), (490, 214), (440, 176)], (214, 134, 80), 0.55, 10, right)
    drawing.save("drawing_of_a_girl.jpg", grain=1.2)


def draw_fox() -> None:
    """A red fox, facing us, with a mouth of one plain line under its nose: an animal no face detector finds."""
    drawing = Drawing((36, 74, 68), (16, 34, 40), seed=4)
    everywhere = np.ones(drawing.pixels.shape[:2], np.float32)
    drawing.spot(590, 170, 330, 300, (150, 150, 84), 0.5, everywhere)
    for _ in range(34):
        x, y, radius = drawing.random.uniform(0, SIZE), drawing.random.uniform(0, SIZE), drawing.random.uniform(8, 40)
        ring = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        disc = drawing.area(np.stack([x + radius * np.cos(ring), y + radius * np.sin(ring)], 1).astype(np.float32))
        drawing.paint(drawing.soft(disc, 3), (236, 196, 92), drawing.random.uniform(0.04, 0.2))

    orange: Colour = (216, 108, 38)
    white: Colour = (246, 234, 218)
    body = drawing.fill(both_sides([(330, 560), (240, 590), (168, 660), (136, 790), (250, 800)]), (176, 82, 30))
    bib = drawing.fill(both_sides([(300, 560), (262, 640), (276, 730), (310, 800)]), (228, 212, 192))
    drawing.spot(384, 590, 190, 66, (70, 34, 20), 0.7, body)
    drawing.fur(body * (1 - bib), 2600, 26, (384, 420), 0.8)
    drawing.fur(bib, 1500, 30, (384, 420), 0.8)

    for side in (lambda p: p, mirrored):
        ear = drawing.fill(
            side([(206, 268), (196, 180), (206, 84), (222, 76), (280, 132), (336, 214), (300, 262)]), orange
        )
        drawing.glow(
            side([(196, 200), (200, 84), (222, 70), (252, 104), (222, 150), (214, 210)]), (52, 28, 24), 0.95, 8, ear
        )
        inner = drawing.fill(
            side([(232, 250), (224, 190), (230, 128), (262, 160), (298, 218), (280, 254)]), (92, 48, 36)
        )
        drawing.fur(ear, 500, 20, side([(262, 290)])[0], -0.3)
        drawing.hairs(
            side([(242, 262), (236, 220), (232, 176)]), side([(290, 250), (276, 218), (258, 178)]), 34,
            (white, (226, 204, 178)), (2, 4), inner, 0.6,
        )  # fmt: skip

    head = drawing.fill(
        both_sides([(360, 190), (300, 198), (244, 230), (206, 290), (178, 360), (142, 430), (126, 486), (170, 512),
                    (230, 540), (290, 572), (340, 592), (370, 597)]), orange,
    )  # fmt: skip
    drawing.spot(340, 235, 90, 60, (240, 146, 66), 0.7, head)
    drawing.spot(560, 440, 110, 150, (140, 62, 24), 0.55, head)
    drawing.spot(384, 330, 26, 90, (236, 150, 78), 0.5, head)
    for side in (lambda p: p, mirrored):
        cheek = [(352, 400), (318, 398), (262, 386), (206, 420), (126, 486), (170, 512), (230, 540), (290, 572),
                 (340, 592), (384, 598), (384, 430)]  # fmt: skip
        drawing.paint(drawing.soft(drawing.area(curve(side(cheek))), 3) * head, white)
        drawing.glow(
            side([(268, 300), (290, 292), (320, 300), (338, 330), (322, 344), (280, 342)]),
            (250, 190, 120),
            0.5,
            8,
            head,
        )
    drawing.spot(590, 510, 100, 90, (150, 120, 104), 0.6, head)
    drawing.spot(384, 610, 170, 40, (150, 118, 100), 0.65, head)
    drawing.fur(head, 7000, 20, (384, 400), 0.25)
    ruff = drawing.area(curve([(126, 470), (120, 492), (170, 520), (240, 548), (290, 574), (280, 540), (190, 480)]))
    drawing.fur(np.maximum(ruff, ruff[:, ::-1]), 900, 38, (384, 380), 0.25)

    muzzle = drawing.area(
        curve(both_sides([(362, 352), (340, 400), (306, 446), (296, 492), (316, 536), (350, 566), (372, 572)]))
    )
    drawing.paint(drawing.soft(muzzle, 5), (250, 240, 226), 0.9)
    bridge = drawing.area(curve(both_sides([(366, 300), (354, 350), (346, 394), (356, 420), (372, 428)])))
    drawing.paint(drawing.soft(bridge, 7), (226, 124, 52), 0.9)
    drawing.fur(np.maximum(muzzle, bridge), 2600, 11, (384, 436), 0.1)
    drawing.spot(434, 500, 26, 60, (196, 164, 144), 0.55, muzzle)
    drawing.spot(384, 574, 62, 16, (150, 116, 98), 0.6, everywhere)

    for side in (lambda p: p, mirrored):
        rim = drawing.area(
            curve(side([(262, 330), (284, 312), (308, 309), (332, 322), (352, 352), (322, 356), (290, 350)]))
        )
        drawing.paint(drawing.soft(rim, 1.2), (36, 20, 18))
        eye = drawing.area(
            curve(side([(274, 332), (290, 319), (308, 316), (326, 326), (338, 344), (318, 349), (292, 345)]))
        )
        drawing.paint(eye, (206, 142, 44))
        x, y = side([(308, 333)])[0]
        drawing.spot(x, y + 8, 22, 12, (250, 206, 98), 0.8, eye)
        ring = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        pupil = drawing.area(np.stack([x + 9 * np.cos(ring), y + 12 * np.sin(ring)], 1).astype(np.float32))
        drawing.paint(pupil * eye, (18, 12, 12))
        drawing.glow(
            side([(262, 326), (290, 310), (312, 308), (340, 330), (312, 324), (286, 328)]), (40, 20, 16), 0.6, 2, eye
        )
        drawing.spot(x - 6, y - 6, 4.4, 4.4, (255, 255, 255), 1.0, eye)
        drawing.stroke(side([(340, 340), (352, 356), (358, 376)]), 7, (60, 30, 22), 0.7)
        drawing.stroke(side([(258, 304), (284, 290), (316, 292)]), 5, (120, 54, 20), 0.6)

    nose = drawing.fill(both_sides([(366, 420), (346, 424), (340, 440), (352, 458), (374, 468)]), (30, 22, 24))
    drawing.spot(374, 430, 16, 6, (150, 146, 152), 0.8, nose)
    for side in (lambda p: p, mirrored):
        drawing.stroke(side([(354, 444), (362, 450), (371, 449)]), 5, (8, 6, 8), 0.9, nose)
    drawing.stroke([(383.5, 466), (383.5, 478), (383.5, 492)], 3, (92, 62, 54), 0.7)
    drawing.stroke(
        [(306, 493), (322, 499), (350, 501.5), (383.5, 502), (417, 501.5), (445, 499), (461, 493)], 4.6, (58, 30, 28)
    )
    drawing.spot(384, 518, 40, 8, (206, 178, 158), 0.7, muzzle)
    for side in (lambda p: p, mirrored):
        for x, y in ((330, 470), (342, 482), (322, 484)):
            drawing.spot(*side([(x, y)])[0], 2.4, 2.4, (110, 80, 70), 0.8, muzzle)
        for root, tip in (((328, 470), (212, 446)), ((324, 478), (204, 480)), ((330, 486), (222, 520))):
            middle = ((root[0] + tip[0]) / 2, (root[1] + tip[1]) / 2 - 8)
            drawing.stroke(side([root, middle, tip]), 1.8, (250, 246, 238), 0.75)
    drawing.save("drawing_of_a_fox.jpg", grain=1.2)


if __name__ == "__main__":
    draw_girl()
    draw_fox()
