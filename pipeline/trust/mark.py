"""A durable mark: a faint pattern in a clip's frames, and the search for it. Reads no file, and knows no signature.

It may help to find our own clips again after they were compressed, scaled or repacked. It proves nothing: whoever has
the key, and the default key is public, can write it into any film; cropping, turning, mirroring or a determined hand
takes it away; and where none is found, nothing follows.

How it works. The frame is laid out in cells, CELLS along the shorter side, counted from the middle, so that scaling
moves nothing. The key gives every cell a sign and a place in a codeword of 256 signs, which says the payload. Every
cell is made lighter or darker by sign x codeword x what the picture hides there. The search averages each cell, keeps
what differs from its neighbours, weighs textured and flat places alike, sums over frames, and asks which of the 65 536
codewords agrees best.

Source, for the manner: Cox, Kilian, Leighton and Shamoon 1997, "Secure spread spectrum watermarking for multimedia";
Cox, Miller and McKellips 1999, "Watermarking as communications with side information".
"""

import hashlib
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pipeline.plan import LONGEST

CELLS = 112  # along the shorter side: finer is lost at 0.75 of 256 pixels, coarser shows and holds less
MOST_CELLS = LONGEST * CELLS  # along the longer side
PAYLOADS = 2**16  # numbers that a mark can say
FIELD = 0x11D  # x^8 + x^4 + x^3 + x^2 + 1, of which 2 is a root and a generator of GF(256)
PURPOSE = b"portrait-parlant mark 1\0"  # before the key: another use of the same key gives other signs

# --- what is measured in a cell
LEVEL_CELLS = 1.5  # sigma of the window, in cells, over which textured and flat places are made alike
LEVEL_FLOOR = 0.7  # grey levels: differences below it are the encoder's rounding, and count less
LARGEST_GRAIN = 1.5  # times its surroundings: what stands out more is an edge of the picture

# --- what is written into it
ROOM_CELLS = 1.0  # sigma, in cells, of the window in which texture hides the mark
ROOM_SHARE = 1.3  # grey levels at strength 1 where texture has one; four times the texture hides twice the mark
MOST_ROOM = 3.5  # grey levels at strength 1: more is seen in any texture
DARK, DARK_SHARE = 60.0, 0.3  # grey level below which the eye sees more, down to this share of the room at black
STRENGTHS = tuple(0.4 * 1.16**step for step in range(13))  # to 2.4; tried in order, until enough would survive
TRIAL_SCALE, TRIAL_QUALITY = 0.75, 15  # of the JPEG that stands for what a clip meets: takes as much as crf 28 there
TRIAL_CONFIDENCE = 10.5  # that the first frame shall keep through it: three standard deviations over THRESHOLD

# --- the search
THRESHOLD = 7.5  # confidence from which a mark counts as found; see `false_positive_rate`
LOOKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # frames after which the sum is judged; nothing is read beyond the last


@dataclass(frozen=True)
class Found:
    """A mark in a clip.

    Args:
        payload: What it says, 0 to 65 535.
        confidence: How well the frames agree with it: without a mark, that codeword's agreement would lie around 0 with
            a standard deviation of 1.
        threshold: What was needed.
        num_frames: Frames looked at.
    """

    payload: int
    confidence: float
    threshold: float
    num_frames: int


def false_positive_rate(threshold: float = THRESHOLD) -> float:
    """How often at most, over all keys, an unmarked clip is said to be marked; whatever it shows.

    A codeword's agreement is a sum of the measured grains with signs that the key drew, over the root of their squares'
    sum: it exceeds t with a probability of exp(-t^2 / 2) at most. Every codeword and every look is another chance.

    Source: Hoeffding 1963, "Probability inequalities for sums of bounded random variables", theorem 2.
    """
    return min(1.0, len(LOOKS) * PAYLOADS * math.exp(-(threshold**2) / 2))


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """The two tables that make the code: (256, 256) float32 of signs each, whose products of rows are its words.

    The word of payload 256 b + a has the sign (-1)^Tr(a x + b x^3) at its place x, an element of GF(256): the dual of
    the double-error-correcting BCH code. Any two of the 65 536 words differ in 112 to 144 of their 256 signs.

    Source: MacWilliams and Sloane 1977, "The theory of error-correcting codes", chapter 15; a test counts the signs.
    """
    powers = np.ones(255, int)
    for number in range(1, 255):
        doubled = powers[number - 1] << 1
        powers[number] = doubled ^ FIELD if doubled & 256 else doubled
    logs = np.zeros(256, int)
    logs[powers] = np.arange(255)

    def times(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.where((one == 0) | (other == 0), 0, powers[(logs[one] + logs[other]) % 255])

    elements = np.arange(256)
    trace, power = np.zeros(256, int), elements
    for _ in range(8):
        trace, power = trace ^ power, times(power, power)
    cubes = times(elements, times(elements, elements))
    linear, cubic = (1 - 2 * trace[times(elements[:, None], places)] for places in (elements, cubes))
    return linear.astype(np.float32), cubic.astype(np.float32)


def codeword(payload: int) -> np.ndarray:
    """(256,) float32, each 1 or -1: the signs that say a payload."""
    linear, cubic = _tables()
    return linear[payload % 256] * cubic[payload // 256]


def decode(soft: np.ndarray) -> tuple[int, float]:
    """The payload whose codeword agrees best with 256 measured values, and the sum of their agreement.

    All 65 536 are compared, which is the best that any decoder can do under even noise.

    Args:
        soft: (256,) float, the larger the surer, the sign being the measured one.
    """
    linear, cubic = _tables()
    scores = (cubic * soft.astype(np.float32)) @ linear.T
    best = int(scores.argmax())
    return best, float(scores.flat[best])


def _grid(height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of cells of a frame: even numbers, so that the middle stays the middle."""
    cell = min(height, width) / CELLS
    rows, columns = (min(2 * round(side / cell / 2), MOST_CELLS) for side in (height, width))
    return rows, columns


def _drawn(key: bytes, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """What the key draws for every cell, (rows, columns) each: float32 signs, 1 or -1; uint8 places in a codeword."""
    stream = hashlib.shake_256(PURPOSE + key).digest(2 * MOST_CELLS**2)
    top, left = (MOST_CELLS - rows) // 2, (MOST_CELLS - columns) // 2
    whole = np.frombuffer(stream, np.uint8).reshape(2, MOST_CELLS, MOST_CELLS)
    bits, places = whole[:, top : top + rows, left : left + columns]
    return np.where(bits & 1, np.float32(1), np.float32(-1)), places


def _cells(grey: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(rows, columns) float32: the mean of every cell, grey levels."""
    return cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)


def _rest(cells: np.ndarray) -> np.ndarray:
    """(rows, columns) float32: grey levels by which a cell differs from the median of its four neighbours.

    Of four values the median is the mean of the middle two. It goes along with an edge, so that little of one is left.
    """
    around = cv2.copyMakeBorder(cells, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    above, below, left, right = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
    low = np.maximum(np.minimum(above, below), np.minimum(left, right))
    high = np.minimum(np.maximum(above, below), np.maximum(left, right))
    return cells - (low + high) / 2


def _grain(cells: np.ndarray) -> np.ndarray:
    """(rows, columns) float32: the same, beside how others there differ."""
    rest = _rest(cells)
    level = cv2.sqrt(cv2.GaussianBlur(rest * rest, (0, 0), LEVEL_CELLS)) + LEVEL_FLOOR
    return np.clip(rest / level, -LARGEST_GRAIN, LARGEST_GRAIN)


class Mark:
    """Writes one payload into a clip's frames.

    How strong it is follows from the first frame: its own agreement with the pattern is measured as a JPEG of it would
    keep it, and no more is added than is missing. A clip that begins in black or with a title gets the greatest.

    Args:
        height: Of the frames, pixels.
        width: Of the frames, pixels.
        payload: What the mark says, 0 to 65 535.
        key: The secret that draws the pattern.

    Attributes:
        strength: One of STRENGTHS; None before the first frame.

    Raises:
        ValueError: the payload is out of range, or a frame has a side of nothing.
    """

    def __init__(self, height: int, width: int, payload: int, key: bytes) -> None:
        if not 0 <= payload < PAYLOADS or min(height, width) < 1:
            raise ValueError(
                f"a payload is 0 to {PAYLOADS - 1} in frames of some pixels; got {payload}, {height}×{width}"
            )
        self._size, self._grid = (height, width), _grid(height, width)
        signs, places = _drawn(key, *self._grid)
        self._pattern = signs * codeword(payload)[places]
        self.strength: float | None = None

    def embed(self, frame: np.ndarray) -> np.ndarray:
        """The frame with the mark in it, a new array.

        Args:
            frame: (height, width, 3) uint8, RGB.

        Raises:
            ValueError: it is of another kind.
        """
        if frame.shape != (*self._size, 3) or frame.dtype != np.uint8:
            raise ValueError(f"a frame must be {(*self._size, 3)} uint8; got {frame.shape} {frame.dtype}")
        unscaled = self._pattern * self._room(_cells(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), *self._grid))
        if self.strength is None:
            self.strength = self._enough(frame, unscaled)
        return _added(frame, self.strength * unscaled)

    def _room(self, cells: np.ndarray) -> np.ndarray:
        """(rows, columns) float32: grey levels that a cell may change at strength 1, by the texture around it.

        The median makes edges disappear, beside which a flat place would show the mark.
        """
        rest = _rest(cells)
        texture = cv2.erode(cv2.sqrt(cv2.GaussianBlur(rest * rest, (0, 0), ROOM_CELLS)), np.ones((3, 3), np.uint8))
        room = np.minimum(ROOM_SHARE * cv2.sqrt(cv2.GaussianBlur(texture, (0, 0), ROOM_CELLS)), MOST_ROOM)
        return room * np.clip(cells / DARK, DARK_SHARE, 1)

    def _enough(self, frame: np.ndarray, unscaled: np.ndarray) -> float:
        """The least strength with which the frame keeps the mark through a small JPEG; else the greatest."""
        for strength in STRENGTHS:
            if self.kept(_added(frame, strength * unscaled)) >= TRIAL_CONFIDENCE:
                return strength
        return STRENGTHS[-1]

    def kept(self, frame: np.ndarray) -> float:
        """Confidence that a frame would still give, made smaller and written as a JPEG."""
        height, width = (max(1, round(side * TRIAL_SCALE)) for side in self._size)
        grey = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (width, height), interpolation=cv2.INTER_AREA)
        _, coded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, TRIAL_QUALITY])
        kept = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
        assert kept is not None, "a JPEG that was just written"
        grain = _grain(_cells(kept, *self._grid))
        return float((self._pattern * grain).sum() / max(np.linalg.norm(grain), 1.0))


def _added(frame: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The frame made lighter or darker: by `change`, (rows, columns) float32 grey levels, smoothly between cells."""
    smooth = cv2.resize(change, frame.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    marked: np.ndarray = cv2.add(frame, cv2.merge([smooth] * 3), dtype=cv2.CV_8U)
    return marked


class Search:
    """Adds up what frames show of a key's pattern.

    Args:
        key: The secret with which the mark was written.

    Attributes:
        num_frames: Frames added.
    """

    def __init__(self, key: bytes) -> None:
        self._key, self.num_frames = key, 0
        self._size: tuple[int, ...] = ()

    def add(self, frame: np.ndarray) -> None:
        """Look at one more frame.

        Args:
            frame: (height, width, 3) uint8, RGB, of any one size; one of another size than the first is passed over.
        """
        if not self.num_frames:
            self._size, self._grid = frame.shape, _grid(*frame.shape[:2])
            self._signs, self._places = _drawn(self._key, *self._grid)
            self._total = np.zeros(self._grid, np.float32)
        if frame.shape == self._size:
            self._total += _grain(_cells(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), *self._grid))
            self.num_frames += 1

    def soft(self) -> np.ndarray:
        """(256,) float: the codeword as it was measured; without a mark, their squares' sum would be around 256."""
        values = np.bincount(self._places.ravel(), (self._signs * self._total).ravel(), 256)
        return values / max(float(np.linalg.norm(self._total)) / 16, 1e-6)

    def best(self) -> tuple[int, float]:
        """The payload that agrees best, and its confidence."""
        payload, agreement = decode(self.soft())
        return payload, agreement / 16


def find(frames: Iterable[np.ndarray], key: bytes, threshold: float = THRESHOLD) -> Found | None:
    """Look for a mark, in as few frames as it takes: LOOKS[-1] at most. Memory does not grow with their number.

    Args:
        frames: (height, width, 3) uint8, RGB; those of another size than the first are passed over.
        key: The secret with which it was written.
        threshold: Confidence that is needed.

    Returns:
        None where no mark of this key is found, which says nothing about where the clip comes from.
    """
    search = Search(key)
    for frame in itertools.islice(frames, LOOKS[-1]):
        search.add(frame)
        if search.num_frames in LOOKS:
            payload, confidence = search.best()
            if confidence >= threshold:
                return Found(payload, confidence, threshold, search.num_frames)
    return None
