"""Draws portraits/drawing_of_a_teapot.jpg and portraits/drawing_of_a_house.jpg: two things no network takes for a face.

Three clicks give each a face: what stands for its eyes, and the mouth, which neither has. They stand in examples.csv.
Run it from anywhere: python examples/make_things.py
"""

import numpy as np
from make_drawing import MIRROR, SIZE, Colour, Drawing, Points, both_sides, mirrored

MIDDLE = MIRROR / 2  # x of the picture's middle


def shape(points: Points) -> np.ndarray:
    """A polygon with straight edges, as `Drawing.area` takes it."""
    return np.asarray(points, np.float32)


def ellipse(x: float, y: float, across: float, down: float) -> np.ndarray:
    """An ellipse with half axes in pixels, as `Drawing.area` takes it."""
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    return np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], 1).astype(np.float32)


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """An upright rectangle, as `Drawing.area` takes it."""
    return shape([(left, top), (right, top), (right, bottom), (left, bottom)])


def draw_teapot() -> None:
    """A porcelain teapot with two painted eyes and no mouth at all, on a table."""
    drawing = Drawing((232, 206, 178), (206, 170, 140), seed=12)
    everywhere = np.ones(drawing.pixels.shape[:2], np.float32)
    for x in np.arange(24, 780, 56):
        drawing.paint(drawing.area(rectangle(x, -10, x + 22, 610)), (222, 190, 160), 0.6)
    table = drawing.area(rectangle(-10, 606, 790, 790))
    drawing.paint(table, (128, 78, 52))
    for y in np.linspace(612, 764, 30):
        drawing.stroke([(-20, y), (260, y + drawing.random.normal(0, 3)), (790, y)], 3, (96, 54, 36), 0.4, table)
    drawing.spot(400, 652, 330, 34, (52, 26, 18), 0.8, everywhere)

    glaze: Colour = (178, 208, 216)
    deep: Colour = (38, 92, 124)
    handle = drawing.fill([(560, 330), (640, 300), (708, 342), (722, 424), (684, 506), (600, 548), (580, 520),
                           (650, 480), (680, 420), (668, 364), (630, 340), (574, 366)], (140, 182, 198))  # fmt: skip
    drawing.glow(
        [(590, 352), (650, 330), (690, 400), (660, 480), (700, 430), (700, 350)], (90, 136, 160), 0.8, 6, handle
    )
    spout = drawing.fill([(240, 400), (176, 388), (128, 338), (96, 268), (64, 262), (60, 280), (84, 350), (120, 450),
                          (180, 520), (240, 540)], (156, 194, 206))  # fmt: skip
    drawing.glow(
        [(90, 290), (120, 360), (170, 410), (230, 420), (170, 380), (120, 310)], (226, 240, 242), 0.8, 5, spout
    )
    drawing.glow([(100, 400), (150, 490), (240, 540), (200, 540), (130, 480)], (92, 140, 160), 0.8, 8, spout)
    drawing.stroke([(60, 270), (78, 262), (100, 268)], 12, deep)

    pot = drawing.fill(both_sides([(350, 236), (270, 246), (204, 300), (172, 384), (176, 478), (214, 562), (286, 622),
                                   (350, 640)]), glaze)  # fmt: skip
    drawing.spot(320, 330, 130, 110, (222, 238, 240), 0.8, pot)
    drawing.spot(580, 500, 90, 170, (98, 146, 168), 0.75, pot)
    drawing.spot(384, 640, 220, 60, (92, 138, 160), 0.75, pot)
    drawing.spot(250, 330, 18, 44, (255, 255, 255), 0.9, pot)
    foot = drawing.fill(both_sides([(300, 620), (262, 634), (256, 656), (300, 664)]), (120, 166, 184))
    drawing.spot(384, 664, 140, 12, (60, 104, 128), 0.7, foot)
    drawing.stroke([(208, 588), (300, 626), (MIDDLE, 634), (468, 626), (560, 588)], 9, deep, 0.9, pot)

    lid = drawing.fill(both_sides([(356, 158), (300, 172), (256, 212), (242, 246), (300, 262), (360, 266)]), glaze)
    drawing.spot(320, 196, 60, 26, (232, 244, 246), 0.9, lid)
    drawing.spot(500, 230, 60, 40, (104, 152, 174), 0.7, lid)
    drawing.stroke([(236, 244), (300, 264), (MIDDLE, 270), (468, 264), (532, 244)], 9, deep, 0.9)
    knob = drawing.fill(both_sides([(366, 98), (346, 112), (344, 136), (360, 156), (376, 160)]), deep)
    drawing.spot(372, 116, 14, 10, (150, 196, 216), 0.9, knob)

    for side in (lambda p: p, mirrored):
        x, y = side([(314, 386)])[0]
        drawing.paint(drawing.soft(drawing.area(ellipse(x, y + 3, 38, 42)), 4), (84, 132, 156), 0.6)
        drawing.paint(drawing.area(ellipse(x, y, 36, 40)), (250, 250, 246))
        eye = drawing.area(ellipse(x, y, 35, 39))
        drawing.paint(drawing.area(ellipse(x, y + 3, 20, 24)), (30, 62, 92))
        drawing.paint(drawing.area(ellipse(x, y + 3, 11, 14)), (16, 18, 26))
        drawing.spot(x - 7, y - 6, 6, 6, (255, 255, 255), 1.0, eye)
        drawing.spot(*side([(256, 468)])[0], 40, 26, (230, 150, 140), 0.55, pot)
    drawing.save("drawing_of_a_teapot.jpg", grain=1.0)


def draw_house() -> None:
    """A house at dusk whose lit windows stand for eyes; between them and the door there is only wall."""
    drawing = Drawing((58, 64, 112), (214, 140, 118), seed=13)
    everywhere = np.ones(drawing.pixels.shape[:2], np.float32)
    for _ in range(60):
        x, y = drawing.random.uniform(0, SIZE), drawing.random.uniform(0, 300)
        drawing.spot(x, y, 2.2, 2.2, (255, 244, 220), drawing.random.uniform(0.3, 0.9), everywhere)
    for x, height, tone in ((40, 210, 44), (130, 160, 52), (660, 190, 46), (740, 240, 40)):
        for level in range(5):
            y, half = 680 - height + level * height / 5.5, 18 + 14 * level
            drawing.fill(
                [(x, y - 40), (x + half, y + 34), (x, y + 22), (x - half, y + 34)], (tone - 12, tone + 14, tone)
            )
    ground = drawing.fill(
        [(-60, 690), (200, 664), (384, 658), (600, 664), (830, 690), (830, 840), (-60, 840)], (66, 76, 62)
    )
    drawing.spot(384, 690, 260, 24, (30, 34, 34), 0.7, ground)

    wall: Colour = (204, 122, 88)
    chimney = drawing.area(rectangle(500, 118, 556, 260))
    drawing.paint(chimney, (130, 70, 56))
    drawing.paint(drawing.area(rectangle(492, 108, 564, 130)), (94, 50, 42))
    front = drawing.area(shape([(384, 150), (590, 300), (590, 676), (178, 676), (178, 300)]))
    drawing.paint(front, wall)
    drawing.spot(300, 400, 190, 190, (228, 152, 112), 0.6, front)
    drawing.spot(590, 520, 90, 260, (132, 70, 58), 0.6, front)
    for row, y in enumerate(np.arange(222, 676, 26)):
        for x in np.arange(178 + 22 * (row % 2), 600, 44):
            if drawing.random.random() < 0.16:
                drawing.paint(drawing.area(rectangle(x + 3, y + 3, x + 36, y + 19)) * front, (184, 104, 76), 0.5)
    roof = drawing.area(shape([(384, 104), (650, 300), (624, 334), (384, 162), (144, 334), (118, 300)]))
    drawing.paint(roof, (76, 56, 74))
    drawing.glow([(384, 104), (130, 296), (150, 312), (384, 136)], (128, 102, 118), 0.7, 5, roof)
    eaves = drawing.area(shape([(384, 164), (600, 322), (600, 350), (384, 196), (168, 350), (168, 322)]))
    drawing.paint(drawing.soft(eaves, 6) * front, (112, 58, 52), 0.6)

    for side in (lambda p: p, mirrored):
        x, y = side([(300, 372)])[0]
        drawing.paint(drawing.area(rectangle(x - 50, y - 52, x + 50, y + 52)), (96, 56, 48))
        pane = drawing.area(rectangle(x - 42, y - 44, x + 42, y + 44))
        drawing.paint(pane, (255, 206, 110))
        drawing.spot(x, y + 12, 44, 40, (255, 240, 182), 0.9, pane)
        drawing.paint(drawing.area(rectangle(x - 3.5, y - 44, x + 3.5, y + 44)), (112, 66, 52))
        drawing.paint(drawing.area(rectangle(x - 42, y - 3.5, x + 42, y + 3.5)), (112, 66, 52))
        drawing.paint(drawing.area(rectangle(x - 60, y + 52, x + 60, y + 64)), (232, 214, 194))

    drawing.paint(drawing.area(rectangle(336, 600, 432, 676)), (70, 44, 44))
    drawing.paint(drawing.area(rectangle(344, 608, 424, 676)), (64, 104, 96))
    drawing.spot(412, 646, 5, 5, (240, 206, 120), 1.0, everywhere)
    for x in np.linspace(190, 580, 40):
        if not 326 < x < 442:
            drawing.stroke([(x, 684), (x + 4, 668), (x + drawing.random.normal(0, 8), 650)], 8, (62, 92, 66), 0.9)
    drawing.save("drawing_of_a_house.jpg", grain=1.0)


if __name__ == "__main__":
    draw_teapot()
    draw_house()
