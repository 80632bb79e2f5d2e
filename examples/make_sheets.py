"""Draws sheets/<portrait>.jpg for every row of examples.csv placed by clicks: the clicks, and frames of its clip.

Shown are the frames that differ most from each other, so that a lip that tears or a lid that slips is seen at a glance.
Run it after make_clips.py: python examples/make_sheets.py
"""

import csv
import sys
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

EXAMPLES = Path(__file__).resolve().parent
sys.path.insert(0, str(EXAMPLES.parent))  # run as a program, the project is not on the path

from pipeline import media, outline  # noqa: E402
from pipeline.request import read_points  # noqa: E402

COLUMNS, ROWS = 4, 3
TILE = 320  # pixels: lids and lips are still seen
COMPARED = 64  # pixels a side at which frames are compared: a head, not a hair
QUALITY = 84  # JPEG; keeps a sheet under 300 KB


def differing(frames: list[np.ndarray], count: int) -> list[np.ndarray]:
    """The first frame and those that differ most from all chosen before, in the order of the clip."""
    small = np.array([cv2.resize(frame, (COMPARED, COMPARED), interpolation=cv2.INTER_AREA) for frame in frames], float)
    chosen, distance = [0], np.full(len(frames), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.sqrt(((small - small[chosen[-1]]) ** 2).mean(axis=(1, 2, 3))))
        chosen.append(int(distance.argmax()))
    return [frames[number] for number in sorted(chosen)]


def make_sheet(row: dict[str, str]) -> None:
    """One sheet: what was clicked, then the clip."""
    portrait = EXAMPLES / row["portrait"]
    clicked = outline.outlined(media.load_portrait(portrait), [], points=read_points(row["points"]))
    with av.open(str(EXAMPLES / row["clip"])) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    tiles = [clicked, *differing(frames, COLUMNS * ROWS - 1)]
    tiles = [cv2.resize(tile, (TILE, TILE), interpolation=cv2.INTER_AREA) for tile in tiles]
    sheet = np.array(tiles).reshape(ROWS, COLUMNS, TILE, TILE, 3).swapaxes(1, 2).reshape(ROWS * TILE, COLUMNS * TILE, 3)
    path = EXAMPLES / "sheets" / portrait.name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(sheet).save(path, quality=QUALITY)
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    with (EXAMPLES / "examples.csv").open(encoding="utf-8", newline="") as lines:
        for example in csv.DictReader(lines):
            if example["points"]:
                make_sheet(example)
