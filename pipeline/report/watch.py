"""Watches a clip frame by frame: where the face is, how far its mouth opens, its lids, its likeness, its stillness.

Holds one second of grey frames at most, and a few numbers of every frame.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline import face as faces
from pipeline.face import PRESENT, Face, Region, landmarks_in, region_around
from pipeline.plan import FPS
from pipeline.report import measures
from pipeline.report.clip import SMALL_PX, Picture
from pipeline.report.identity import describe
from pipeline.report.measures import Eyes

VIEW_PX = 320  # side of the picture of the face in which eyes are watched, all faces alike large; an eye is 45 wide
WAITED = 25  # frames among which the one with the widest eyes is the source that lids are compared with
FOLLOWED = 0.10  # of its side, that a face may move in the region before this follows: a region that always follows
# trembles by itself
IDENTITY_SECONDS = 1.0  # between two looks at whose face it is
SEARCH_SECONDS, LONGEST_SEARCH_SECONDS = 1.0, 8.0  # between two searches for a face that is lost; doubled each time
SEARCHED_PX = 640  # longer side of the picture in which it is searched
NOISE_LOOKS = 8  # at one picture, to learn how the landmark net trembles by itself
NOISE_SHIFT = 0.01  # of the region's side, that these looks differ by: what a head moves between two frames
GRAIN_PX = 1.0  # sigma by which these pictures are blurred: what trembles by a pixel at an edge is no flicker
LEAST_CALM = 0.05  # of the picture that must lie beside the face, or there is no background to tell
REACHED = 0.12  # seconds from a measured frame within which its mouth counts


@dataclass(frozen=True)
class Seen:
    """What was seen of a clip.

    Args:
        times: (frames,) seconds, middle of each measured frame's showing.
        openings: (frames,) mouth widths; NaN without a face.
        distances: (looks,) to the portrait, in time; see identity.describe.
        first_distance: Of the first face; None without any.
        face_share: Of the measured frames.
        face_px: Height of the first face, pixels of the clip's frame.
        flicker: Grey levels; None when there are under three frames.
        blinks_per_minute: None when the eyes cannot be told.
        noise: Standard deviation of the opening of one picture looked at again and again, mouth widths.
    """

    times: np.ndarray
    openings: np.ndarray
    distances: np.ndarray
    first_distance: float | None
    face_share: float
    face_px: float
    flicker: float | None
    blinks_per_minute: float | None
    noise: float

    @property
    def num_measured(self) -> int:
        """Frames that were looked at."""
        return len(self.times)

    def opening_at(self, count: int) -> np.ndarray:
        """(count,) float32: the opening in the middle of every 25th of a second; NaN where no face was near."""
        return _at_frames(self.times, self.openings, count)


class Watch:
    """Looks at one frame after the other.

    Args:
        portrait: (height, width, 3) uint8, RGB.
        face: The face in it that speaks.
    """

    def __init__(self, portrait: np.ndarray, face: Face) -> None:
        self._portrait, self._face = portrait, face
        self._descriptor = describe(portrait, face.landmarks)
        self._region: Region | None = None
        self._search_at, self._patience = 0.0, SEARCH_SECONDS
        self._look_at = 0.0
        self._waiting: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._eyes: Eyes | None = None
        self._source_points = np.zeros((0, 2))  # landmarks of the picture that `_eyes` compares with
        self._times: list[float] = []
        self._openings: list[float] = []
        self._closures: list[float] = []
        self._distances: list[float] = []
        self._face_px, self._noise = 0.0, 0.0
        self._around, self._inside = Flicker(), Flicker()
        self._background: np.ndarray | None = None

    def pass_by(self, picture: Picture) -> None:
        """Look at the background of a frame, and no more."""
        self._around.add(picture.small, picture.seconds, picture.step, self._background)

    def see(self, picture: Picture) -> None:
        """Measure one frame."""
        pixels, seconds = picture.pixels, picture.seconds
        landmarks = self._find(pixels, seconds)
        self._times.append(seconds + picture.step / 2)
        self._openings.append(float("nan"))
        self._closures.append(float("nan"))
        if landmarks is not None:
            self._background = _beside(landmarks, pixels.shape, picture.small.shape)
        self.pass_by(picture)
        if landmarks is None:
            return
        opening, _ = measures.mouth_openings(landmarks[None], self._face.landmarks)
        self._openings[-1] = float(opening[0])
        if not self._face_px:
            self._face_px = faces.box_around(landmarks).height
            self._noise = self._tremble(pixels)
        if seconds >= self._look_at:
            self._distances.append(float(np.linalg.norm(describe(pixels, landmarks) - self._descriptor)))
            self._look_at = seconds + IDENTITY_SECONDS
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        if self._eyes is None:
            self._waiting.append((len(self._times) - 1, grey, landmarks))
            if len(self._waiting) == WAITED:
                self._choose_source()
        else:
            self._watch_eyes(len(self._times) - 1, grey, landmarks)
        upper = self._upper_face(grey, landmarks)
        self._inside.add(upper, seconds, picture.step)

    def finish(self) -> Seen:
        """What was seen, once every frame was."""
        if self._eyes is None and self._waiting:
            self._choose_source()
        openings, times = np.array(self._openings), np.array(self._times)
        is_seen = np.isfinite(openings)
        flickers = [one for one in (self._around.level, self._inside.level) if one is not None]
        return Seen(
            times=times,
            openings=openings,
            distances=np.array(self._distances),
            first_distance=self._distances[0] if self._distances else None,
            face_share=float(is_seen.mean()) if len(is_seen) else 0.0,
            face_px=self._face_px,
            flicker=max(flickers) if flickers else None,
            blinks_per_minute=self._blink_rate(times),
            noise=self._noise,
        )

    def _blink_rate(self, times: np.ndarray) -> float | None:
        if self._eyes is None or not self._eyes.can_see:
            return None
        closures = _at_frames(times, np.array(self._closures), round(float(times[-1]) * FPS) + 1)
        watched = np.isfinite(closures).sum() / FPS / 60
        return len(measures.blinks(np.nan_to_num(closures))) / watched if watched else None

    # --- where the face is --------------------------------------------------------------------------------------------

    def _find(self, pixels: np.ndarray, seconds: float) -> np.ndarray | None:
        """(478, 3) landmarks, or None. Looked for where the face was; searched for now and then where it is not."""
        if self._region is not None:
            landmarks, presence = landmarks_in(pixels, self._region)
            if presence >= PRESENT or self._face.from_points:  # no net knows a face from points: its place is known
                self._search_at, self._patience = seconds, SEARCH_SECONDS
                self._follow(landmarks)
                return landmarks
        if seconds < self._search_at:
            return None
        found = self._search(pixels)
        self._search_at = seconds + self._patience
        self._patience = min(2 * self._patience, LONGEST_SEARCH_SECONDS)
        if found is None:
            return None
        self._region = found
        landmarks, presence = landmarks_in(pixels, found)
        return landmarks if presence >= PRESENT or self._face.from_points else None

    def _follow(self, landmarks: np.ndarray) -> None:
        """Move the region once the face has moved far in it."""
        assert self._region is not None
        now = region_around(landmarks)
        moved = np.hypot(now.x - self._region.x, now.y - self._region.y) / self._region.side
        if not self._face.from_points and (
            moved > FOLLOWED or not 1 - FOLLOWED < now.side / self._region.side < 1 + FOLLOWED
        ):
            self._region = now

    def _search(self, pixels: np.ndarray) -> Region | None:
        """Where the portrait's face stands in a frame: among several faces, the one most like it."""
        if self._face.from_points:
            move = _placed(self._portrait, pixels)
            return None if move is None else region_around(_moved(self._face.landmarks, move))
        shrink = min(1.0, SEARCHED_PX / max(pixels.shape[:2]))
        small = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else pixels
        found = faces.find_faces(small)
        if not found:
            return None
        if len(found) > 1:
            found.sort(key=lambda one: float(np.linalg.norm(describe(small, one.landmarks) - self._descriptor)))
        return region_around(found[0].landmarks / np.float32(shrink))

    def _tremble(self, pixels: np.ndarray) -> float:
        """How much the opening of one picture differs from look to look."""
        region, rng, openings = self._region, np.random.default_rng(0), []
        assert region is not None
        for _ in range(NOISE_LOOKS):
            x, y = NOISE_SHIFT * region.side * rng.normal(size=2)
            landmarks, _ = landmarks_in(pixels, Region(region.x + x, region.y + y, region.side, region.angle))
            openings.append(float(measures.mouth_openings(landmarks[None], self._face.landmarks)[0][0]))
        return float(np.std(openings))

    # --- eyes and stillness -------------------------------------------------------------------------------------------

    def _choose_source(self) -> None:
        """Take the widest eyes met so far for open ones, and watch what has waited."""
        ratios = measures.lid_ratio(np.stack([landmarks for _, _, landmarks in self._waiting]))
        _, grey, landmarks = self._waiting[int(ratios.argmax())]
        region = region_around(landmarks)
        scale = VIEW_PX / region.side
        cos, sin = np.cos(region.angle) * scale, np.sin(region.angle) * scale
        move = np.array([[cos, sin, 0.0], [-sin, cos, 0.0]])
        move[:, 2] = VIEW_PX / 2 - move[:, :2] @ [region.x, region.y]
        self._source_points = _moved(landmarks, move)
        view = cv2.warpAffine(grey, move, (VIEW_PX, VIEW_PX), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        self._eyes = Eyes(cv2.cvtColor(view, cv2.COLOR_GRAY2RGB), self._source_points)
        for index, its_grey, its_landmarks in self._waiting:
            self._watch_eyes(index, its_grey, its_landmarks)
        self._waiting.clear()

    def _watch_eyes(self, index: int, grey: np.ndarray, landmarks: np.ndarray) -> None:
        assert self._eyes is not None
        if self._eyes.can_see:
            move = measures.to_source(landmarks, self._source_points)
            laid = cv2.warpAffine(
                grey, move, (VIEW_PX, VIEW_PX), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
            )
            self._closures[index] = self._eyes.look(laid.astype(np.float32))[0]

    def _upper_face(self, grey: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """The face from forehead to nose as a small picture in which it stands still."""
        still = self._face.landmarks[list(measures.RIGID), :2]
        low, high = still.min(axis=0), still.max(axis=0)
        scale = SMALL_PX / float((high - low).max())
        width, height = np.maximum(np.round((high - low) * scale), 1).astype(int)
        move = measures.to_source(landmarks, _shifted(self._face.landmarks, low, scale))
        return cv2.warpAffine(grey, move, (int(width), int(height)), flags=cv2.INTER_LINEAR)


class Flicker:
    """How pictures tremble that should stand still: the second difference in time of the median pixel, grey levels.

    A picture that moves evenly has none; one that is brighter by one level every other frame has four.
    """

    def __init__(self) -> None:
        self._before: list[np.ndarray] = []
        self._levels: list[float] = []
        self._seconds = 0.0

    def add(self, grey: np.ndarray, seconds: float, step: float, mask: np.ndarray | None = None) -> None:
        """Take the next picture.

        Args:
            grey: (height, width) uint8.
            seconds: Its time; what was before is forgotten when frames were left out between.
            step: Seconds from one frame to the next.
            mask: (height, width) bool, True on what should stand still; None for all of it.
        """
        if self._before and (self._before[-1].shape != grey.shape or seconds - self._seconds > 1.5 * step):
            self._before.clear()
        self._seconds = seconds
        self._before.append(cv2.GaussianBlur(grey.astype(np.float32), (0, 0), GRAIN_PX))
        if len(self._before) == 3:
            first, middle, last = self._before
            change = np.abs(first - 2 * middle + last)
            values = change if mask is None else change[mask]
            if values.size > LEAST_CALM * change.size:
                self._levels.append(float(np.median(values)))
            self._before.pop(0)

    @property
    def level(self) -> float | None:
        """Mean over the frames; None without any."""
        return float(np.mean(self._levels)) if self._levels else None


def _at_frames(times: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    middles, known = (np.arange(count) + 0.5) / FPS, np.isfinite(values)
    if not known.any():
        return np.full(count, np.nan, np.float32)
    at = np.interp(middles, times[known], values[known])
    after = np.searchsorted(times[known], middles).clip(0, known.sum() - 1)
    near = np.minimum(np.abs(times[known][after] - middles), np.abs(times[known][(after - 1).clip(0)] - middles))
    return np.where(near <= REACHED, at, np.nan).astype(np.float32)


def _moved(landmarks: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Landmarks under a (2, 3) similarity; z keeps its scale against x and y."""
    moved = landmarks.astype(np.float32).copy()
    moved[:, :2] = landmarks[:, :2] @ move[:, :2].T + move[:, 2]
    moved[:, 2] *= float(np.hypot(*move[0, :2]))
    return moved


def _shifted(landmarks: np.ndarray, low: np.ndarray, scale: float) -> np.ndarray:
    """Landmarks counted from `low` and `scale` times as large."""
    return (landmarks[:, :2] - low) * scale


def _beside(landmarks: np.ndarray, shape: tuple[int, ...], small: tuple[int, ...]) -> np.ndarray:
    """`small` bool: where a frame of `shape` shows neither the face, its hair, nor a body under it."""
    box = faces.box_around(landmarks * np.float32(small[1] / shape[1]))
    reach = box.height / 3
    mask = np.ones(small, bool)
    mask[max(0, int(box.top - reach)) :, max(0, int(box.left - reach)) : max(0, int(box.left + box.width + reach))] = 0
    return mask


def _placed(portrait: np.ndarray, frame: np.ndarray) -> np.ndarray | None:
    """(2, 3) similarity from the portrait to a frame that shows a part of it; None when it does not.

    By corners that both have in common (ORB), at most a quarter of them wrong.
    """
    greys, scales = [], []
    for picture in (portrait, frame):
        scale = min(1.0, SEARCHED_PX / max(picture.shape[:2]))
        greys.append(cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), None, fx=scale, fy=scale))
        scales.append(scale)
    orb = cv2.ORB.create(1500)
    corners, words = zip(*(orb.detectAndCompute(grey, None) for grey in greys), strict=True)
    if words[0] is None or words[1] is None:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(words[0], words[1])
    if len(pairs) < 12:
        return None
    here = np.array([corners[0][pair.queryIdx].pt for pair in pairs]) / scales[0]
    there = np.array([corners[1][pair.trainIdx].pt for pair in pairs]) / scales[1]
    move, agreed = cv2.estimateAffinePartial2D(here, there, ransacReprojThreshold=0.01 * max(frame.shape[:2]))
    return move if move is not None and agreed.sum() >= 12 else None
