"""Points that a user gave for a picture, kept for the next time the same picture comes.

For the user's own machine only: a page that others visit keeps them in the visitor's browser instead.
"""

import contextlib
import datetime
import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import hardware
from pipeline.errors import DiskFull
from pipeline.files import write_json
from pipeline.request import NUM_POINTS, Point
from pipeline.texts import Notice

FILE = "points.json"
MOST_RIGS = 500  # pictures remembered, about 100 KB; the one longest unused goes first
LARGEST_FILE = 2**20  # bytes; a larger one is not ours
HASH = re.compile(r"[0-9a-f]{64}")  # SHA-256


@dataclass(frozen=True)
class Rig:
    """Points given for one picture.

    Args:
        points: Three or five, as in `RenderRequest.points`.
        day: When they were given, as 2026-11-23.
    """

    points: tuple[Point, ...]
    day: str

    @property
    def notice(self) -> Notice:
        """That they are used, for who did not give them this time."""
        return Notice("PointsRemembered", {"day": self.day})


def picture_hash(picture: np.ndarray) -> str:
    """SHA-256 of a picture's size and pixels: the same for the same picture under another name or without its metadata.

    Args:
        picture: (height, width, 3) uint8, RGB, as `media.load_portrait` gives it.
    """
    return hashlib.sha256(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()


def remember(picture_hash: str, points: tuple[Point, ...]) -> None:
    """Keep the points of a picture, in place of earlier ones. Where nothing can be written, nothing is kept.

    Args:
        picture_hash: From `picture_hash`.
        points: Three or five, pixels of the picture.
    """
    rigs = _read()
    rigs.pop(picture_hash, None)
    rigs[picture_hash] = Rig(points, datetime.datetime.now(datetime.UTC).astimezone().date().isoformat())
    _write(dict(list(rigs.items())[-MOST_RIGS:]))


def recall(picture_hash: str) -> Rig | None:
    """The points that were kept for a picture; None where there are none."""
    return _read().get(picture_hash)


def forget(picture_hash: str) -> None:
    """Keep the points of a picture no longer."""
    rigs = _read()
    if rigs.pop(picture_hash, None):
        _write(rigs)


def _path() -> Path:
    return hardware.state_folder() / FILE


def _read() -> dict[str, Rig]:
    """All that are kept, the oldest first; what is damaged is left out."""
    try:
        if _path().stat().st_size > LARGEST_FILE:
            return {}
        kept = json.loads(_path().read_text("utf-8"))
        return {key: rig for key, entry in kept.items() if HASH.fullmatch(key) and (rig := _rig(entry))}
    except (OSError, ValueError, AttributeError, RuntimeError):  # RuntimeError: nobody's home; or brackets too deep
        return {}


def _rig(entry: object) -> Rig | None:
    """One entry of the file, or None if it is none."""
    try:
        points = tuple((float(x), float(y)) for x, y in entry["points"])  # type: ignore[index]
        day = datetime.date.fromisoformat(entry["day"]).isoformat()  # type: ignore[index]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    whole = len(points) in NUM_POINTS and all(math.isfinite(value) for point in points for value in point)
    return Rig(points, day) if whole else None


def _write(rigs: dict[str, Rig]) -> None:
    """Keep these and no others. The points are a convenience: no render fails for them."""
    with contextlib.suppress(OSError, RuntimeError, DiskFull):
        _path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(_path(), {key: {"points": rig.points, "day": rig.day} for key, rig in rigs.items()})
