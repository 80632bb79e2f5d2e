"""What can be read off a finished clip: lips, blinks, gaze, identity, stillness. Renders nothing and judges nothing.

Arrays in, numbers out. Times are seconds, frames come 25 a second, landmarks use MediaPipe's numbering. Lengths on
the face are in mouth widths of the source picture (mw) or in eye distances, so that no number depends on the size of
the clip; what is in pixels is in pixels of a frame 512 high.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import butter, find_peaks, sosfiltfilt
from skimage.metrics import structural_similarity

FPS = 25
SAMPLE_RATE = 16_000  # Hz, of every waveform here

EYE_CORNERS = ((33, 133), (362, 263))  # outer and inner corner, eye on the left of the picture first
LID_PAIRS = (((160, 144), (159, 145), (158, 153)), ((385, 380), (386, 374), (387, 373)))  # upper lid, lower lid
EYE_OPENINGS = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
)
CHEEKS = ((117, 118, 119, 101, 50), (346, 347, 348, 330, 280))  # skin under each eye
UPPER_LIP, LOWER_LIP = 13, 14  # inner edges, middle
MOUTH_CORNERS = (78, 308)  # inner
RIGID = (
    *(33, 133, 362, 263),  # eye corners
    *(168, 6, 197, 195, 5, 4, 1, 2, 98, 327),  # nose
    *(10, 151, 9, 8, 67, 297, 109, 338, 69, 299),  # forehead
    *(234, 454),  # cheekbones at the ears
)  # 26 points that speech does not move
STEADY = (33, 133, 362, 263, 168, 1)  # the six whose trembling the eye notices
FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)

LIPS = frozenset({"m", "b", "p"})  # IPA: sounds made with sealed lips
OPEN_VOWELS = frozenset({"a", "ɑ", "æ", "aɪ", "aʊ", "ɑ̃"})
PAUSE = "sil"
PARTED = 0.035  # mw; a still picture whose lips are further apart shows an open mouth
CLOSED, OPENED = 0.15, 0.25  # of P95: below the one lips read as sealed, above the other as an open vowel
NEAR_SECONDS = 0.06  # how far from a sound its mouth shape may come
LONGEST_LAG = 8  # frames searched each way, 0.32 s
BLINK_CLOSED = (
    0.3  # of the way from the iris's dark to the cheek's skin: a lid covers most of the eye, in its own shade
)
IRIS_LEVEL = 0.1  # of the way from the iris's dark to skin: what is darker counts for where the eye looks
BLINK_APART = 5  # frames between two blinks, 0.2 s
GAZE_STEP = 0.015  # eye widths in two frames: about 3 degrees, twice the noise of the measure

Phonemes = Sequence[tuple[str, float, float]]
"""(phoneme, start, end) in seconds, in order."""


# --- points -----------------------------------------------------------------------------------------------------------


def on_face_axes(points: np.ndarray) -> np.ndarray:
    """Points freed of head motion: origin between the eyes, u along the eye line, unit the eye distance.

    Args:
        points: (frames, 478, 2 or 3), pixels.

    Returns:
        (frames, 478, 2), u to the right and v down.
    """
    left, right = (points[:, list(corners), :2].mean(axis=1) for corners in EYE_CORNERS)
    along = right - left
    distance = np.linalg.norm(along, axis=1, keepdims=True)
    u_axis = along / distance
    v_axis = np.stack([-u_axis[:, 1], u_axis[:, 0]], axis=1)
    offset = points[:, :, :2] - ((left + right) / 2)[:, None]
    return np.stack(
        [(offset * u_axis[:, None]).sum(-1) / distance, (offset * v_axis[:, None]).sum(-1) / distance], axis=-1
    )


def mouth_openings(points: np.ndarray, source_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height and width of the mouth's opening in every frame, in mouth widths of the source.

    Args:
        points: (frames, 478, 2 or 3).
        source_points: (478, 2 or 3), of the still picture.
    """
    axes, still = on_face_axes(points), on_face_axes(source_points[None])[0]
    unit = np.linalg.norm(still[MOUTH_CORNERS[1]] - still[MOUTH_CORNERS[0]])
    aperture = (axes[:, LOWER_LIP, 1] - axes[:, UPPER_LIP, 1]) / unit
    width = np.linalg.norm(axes[:, MOUTH_CORNERS[1]] - axes[:, MOUTH_CORNERS[0]], axis=1) / unit
    return aperture, width


def identity_rms(points: np.ndarray, source_points: np.ndarray) -> float:
    """How far the 26 rigid points stray from the source's places, in eye distances: mean over frames of the RMS."""
    axes, still = on_face_axes(points)[:, RIGID], on_face_axes(source_points[None])[0, RIGID]
    return float(np.sqrt(((axes - still) ** 2).sum(-1).mean(-1)).mean())


def jitter(points: np.ndarray, frame_height: int) -> float:
    """Mean length of the second difference of six rigid points, in pixels of a frame 512 high."""
    steady = points[:, STEADY, :2] * (512 / frame_height)
    return float(np.linalg.norm(np.diff(steady, n=2, axis=0), axis=-1).mean())


# --- lips against sounds ----------------------------------------------------------------------------------------------


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's r; 0 where one of them does not move."""
    first, second = first - first.mean(), second - second.mean()
    power = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / power if power > 1e-12 else 0.0


def best_lag(followed: np.ndarray, leader: np.ndarray) -> tuple[float, float]:
    """Shift in milliseconds at which `followed` fits `leader` best, and the r there.

    Negative: `followed` comes first. The peak is placed between frames by a parabola.
    """
    length = len(leader)
    shifts = range(-LONGEST_LAG, LONGEST_LAG + 1)
    scores = np.array(
        [
            correlation(
                followed[max(shift, 0) : length + min(shift, 0)], leader[max(-shift, 0) : length - max(shift, 0)]
            )
            for shift in shifts
        ]
    )
    best = int(scores.argmax())
    place = float(best - LONGEST_LAG)
    if 0 < best < len(shifts) - 1:
        before, here, after = scores[best - 1 : best + 2]
        place += float(0.5 * (before - after) / min(before - 2 * here + after, -1e-9))
    return place * 1000 / FPS, float(scores[best])


def frames_within(phonemes: Phonemes, num_frames: int, kinds: frozenset[str] | None = None) -> np.ndarray:
    """(num_frames,) bool: frames whose middle lies in a phoneme of `kinds`; None means any that is not a pause."""
    times = (np.arange(num_frames) + 0.5) / FPS
    inside = np.zeros(num_frames, bool)
    for phoneme, start, end in phonemes:
        if phoneme in kinds if kinds is not None else phoneme != PAUSE:
            inside |= (times >= start) & (times < end)
    return inside


def seals(aperture: np.ndarray, phonemes: Phonemes) -> tuple[int, int]:
    """How many m, b and p reach sealed lips (below 0.15 of P95) within 60 ms of their middle, and of how many."""
    sealed = CLOSED * np.percentile(aperture, 95)
    reached = [
        _near(aperture, (start + end) / 2, (start + end) / 2).min() < sealed
        for phoneme, start, end in phonemes
        if phoneme in LIPS and end + NEAR_SECONDS < len(aperture) / FPS
    ]
    return sum(reached), len(reached)


def openings(aperture: np.ndarray, phonemes: Phonemes) -> tuple[int, int]:
    """How many open vowels reach 0.25 of P95 while they sound, 60 ms either way, and how many there are."""
    opened = OPENED * np.percentile(aperture, 95)
    reached = [
        _near(aperture, start, end).max() >= opened
        for phoneme, start, end in phonemes
        if phoneme in OPEN_VOWELS and end + NEAR_SECONDS < len(aperture) / FPS
    ]
    return sum(reached), len(reached)


def _near(values: np.ndarray, start: float, end: float) -> np.ndarray:
    """Values of the frames whose middle lies between two moments or within NEAR_SECONDS of them."""
    first = max(int(np.ceil((start - NEAR_SECONDS) * FPS - 0.5)), 0)
    return values[first : int(np.floor((end + NEAR_SECONDS) * FPS - 0.5)) + 1]


def pause_frames(
    phonemes: Phonemes, num_frames: int, *, margin_seconds: float = 0.12, with_ends: bool = True
) -> np.ndarray:
    """(num_frames,) bool: frames more than `margin_seconds` inside a pause.

    Args:
        phonemes: What is said when.
        num_frames: Of the clip.
        margin_seconds: From a pause's ends.
        with_ends: Count the silence before the first sound and after the last: not where the picture itself shows an
            open mouth, with which a clip begins and ends.
    """
    speaking = frames_within(phonemes, num_frames)
    margin = int(np.ceil(margin_seconds * FPS))
    paused = ~np.convolve(speaking, np.ones(2 * margin + 1), "same").astype(bool)
    if not with_ends and speaking.any():
        spoken = np.flatnonzero(speaking)
        paused[: spoken[0]] = paused[spoken[-1] :] = False
    return paused


def openness_of_sound(waveform: np.ndarray, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """How open a mouth the sound suggests by its bands alone, and where a voice is heard.

    Knows no phonemes, so it stands beside the engine's own ears rather than behind them.

    Args:
        waveform: (samples,) float32, mono, 16 000 Hz.

    Returns:
        (num_frames,) openness 0 to 1, and (num_frames,) bool, pauses shorter than 0.2 s counted as voice.
    """
    waveform = np.pad(waveform, (0, max(0, num_frames * SAMPLE_RATE // FPS - len(waveform)) + SAMPLE_RATE))

    def power(low: float, high: float) -> np.ndarray:
        band = sosfiltfilt(butter(4, (low, high), "bandpass", fs=SAMPLE_RATE, output="sos"), waveform)
        window = np.hanning(801) / np.hanning(801).sum()  # 50 ms
        return np.convolve(band**2, window, "same")[SAMPLE_RATE // FPS // 2 :: SAMPLE_RATE // FPS][:num_frames] + 1e-10

    low, first_formant, hiss, whole = power(100, 400), power(450, 1200), power(3200, 7600), power(80, 7800)
    decibels = 10 * np.log10(power(80, 4000))
    top, floor = np.percentile(decibels, 95), np.percentile(decibels, 5)
    voiced = decibels > min(max(top - 35, floor + 6), top - 18)
    gap = 0
    for frame in range(num_frames):
        if not voiced[frame]:
            gap += 1
        else:
            if 0 < gap <= 5:
                voiced[frame - gap : frame] = True
            gap = 0
    loud = np.clip((decibels - (top - 32)) / 26, 0, 1)
    tone = 0.15 + 0.85 * np.sqrt(first_formant / (first_formant + low + hiss))
    return loud * tone * np.clip(1 - 1.2 * hiss / whole, 0.15, 1) * voiced, voiced


# --- pictures ---------------------------------------------------------------------------------------------------------


def luminance(frame: np.ndarray) -> np.ndarray:
    """(height, width) float32, 0 to 255."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)


def to_source(points: np.ndarray, source_points: np.ndarray) -> np.ndarray:
    """(2, 3) similarity which lays a frame on the source picture by the 26 rigid points, least squares."""
    here, there = points[RIGID, :2].astype(float), source_points[RIGID, :2].astype(float)
    here_middle, there_middle = here.mean(0), there.mean(0)
    a, b = here - here_middle, there - there_middle
    norm = (a**2).sum()
    cosine = (a * b).sum() / norm
    sine = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / norm
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.hstack([turn, (there_middle - turn @ here_middle)[:, None]])


def laid_on_source(picture: np.ndarray, points: np.ndarray, source_points: np.ndarray) -> np.ndarray:
    """The picture moved so that its head stands where the source's stands; cubic."""
    size = (picture.shape[1], picture.shape[0])
    move = to_source(points, source_points)
    return cv2.warpAffine(picture, move, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def watch_eyes(
    frames: Sequence[np.ndarray], points: np.ndarray, source: np.ndarray, source_points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far the lids cover the eyes and where the eyes look, seen in the pixels.

    The landmark net sees blinks badly behind glasses, sees half of a glance, and moves its points when a lid closes.
    So each eye is found again by what surrounds it, and the dark of the iris is followed inside the source's eye
    opening (without its lower quarter, where the lashes of a closed lid come to lie). A lid replaces that dark by skin,
    wherever the eye looks: the darkest 30 % are compared with the source's and with the skin under the eye.

    Returns:
        closures, (frames,): 0 as in the source, about 0.05 half covered, up to 1 covered by skin as bright as the
        cheek, the mean of both eyes; and gaze, (frames,): the dark's middle across the eye, eye widths, 0 as in the
        source, positive to the picture's right. An eye whose iris is not 20 levels darker than skin is left out.
    """
    still = luminance(source)
    eyes = []
    for opening, cheek in zip(EYE_OPENINGS, CHEEKS, strict=True):
        outline = source_points[list(opening), :2]
        (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
        mask = np.zeros(still.shape, np.uint8)
        cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, shift=4)
        reach = 0.6 * (right - left)
        window = (
            slice(max(int(top - reach), 0), int(bottom + reach)),
            slice(max(int(left - reach), 0), int(right + reach)),
        )
        lids = cv2.dilate(mask, np.ones((2 * int(0.25 * (right - left)) + 1,) * 2, np.uint8))
        surroundings = (lids[window] == 0).astype(np.float32)
        mask[int(np.ceil(bottom - 0.25 * (bottom - top))) :] = 0
        inside = mask[window] > 127
        skin = float(np.median([still[tuple(np.round(source_points[point, 1::-1]).astype(int))] for point in cheek]))
        dark = _darkest(still[window][inside])
        if inside.sum() >= 12 and skin - dark > 20:
            eyes.append((window, surroundings, inside, dark, skin, float(right - left)))
    closures, gaze = np.zeros(len(frames)), np.zeros(len(frames))
    if not eyes:
        return closures, gaze
    search = 1 + round(0.02 * still.shape[0])  # the net's points stray by up to 2 % of the frame when lids close
    for index, frame in enumerate(frames):
        laid = np.pad(laid_on_source(luminance(frame), points[index], source_points), search, mode="edge")
        for (rows, columns), surroundings, inside, dark, skin, width in eyes:
            near = laid[rows.start : rows.stop + 2 * search, columns.start : columns.stop + 2 * search]
            misfit = cv2.matchTemplate(near, still[rows, columns], cv2.TM_SQDIFF, mask=surroundings)
            y, x = np.unravel_index(misfit.argmin(), misfit.shape)
            here = near[y : y + inside.shape[0], x : x + inside.shape[1]]
            closures[index] += (_darkest(here[inside]) - dark) / (skin - dark) / len(eyes)
            middle = [
                _dark_middle(view, inside, dark + IRIS_LEVEL * (skin - dark)) for view in (here, still[rows, columns])
            ]
            gaze[index] += (middle[0] - middle[1] - _between_pixels(misfit[y], int(x))) / width / len(eyes)
    return closures, gaze


def _between_pixels(misfit: np.ndarray, best: int) -> float:
    """How far beside its smallest value a row of misfits would be smallest, -0.5 to 0.5, by a parabola."""
    if not 0 < best < len(misfit) - 1:
        return 0.0
    before, here, after = (float(value) for value in misfit[best - 1 : best + 2])
    return 0.5 * (before - after) / max(before - 2 * here + after, 1e-9)


def _dark_middle(view: np.ndarray, inside: np.ndarray, level: float) -> float:
    """Column of the centre of what is darker than `level`, each pixel weighted by how much."""
    weight = np.maximum(level - view, 0) * inside
    return float((weight.sum(axis=0) * np.arange(view.shape[1])).sum() / max(float(weight.sum()), 1e-6))


def _darkest(values: np.ndarray) -> float:
    return float(np.sort(values)[: max(1, int(0.3 * len(values)))].mean()) if len(values) else 255.0


def lid_ratio(points: np.ndarray) -> np.ndarray:
    """(frames,) height over width of the eye openings, mean of both eyes, by the landmark net."""
    ratios = []
    for pairs, (outer, inner) in zip(LID_PAIRS, EYE_CORNERS, strict=True):
        width = np.linalg.norm(points[:, inner, :2] - points[:, outer, :2], axis=-1)
        height = np.mean([np.linalg.norm(points[:, up, :2] - points[:, down, :2], axis=-1) for up, down in pairs], 0)
        ratios.append(height / width)
    return np.mean(ratios, axis=0)


def blinks(closures: np.ndarray) -> np.ndarray:
    """Frames at which a blink is fullest."""
    peaks, _ = find_peaks(np.concatenate([[0.0], closures, [0.0]]), height=BLINK_CLOSED, distance=BLINK_APART)
    return peaks - 1


def gaze_moves(gaze: np.ndarray, closures: np.ndarray) -> tuple[float, float]:
    """Quick moves of the irises between the lids.

    Args:
        gaze: (frames,) eye widths.
        closures: (frames,) as watch_eyes gives them; frames in or beside a blink are left out.

    Returns:
        Moves per minute, and the range the gaze covers (P98 - P2) in eye widths.
    """
    across = median_filter(gaze, size=3, mode="nearest")
    seen = ~np.convolve(closures > 0.1, np.ones(7), "same").astype(bool)
    step = np.abs(across[2:] - across[:-2])
    step[~(seen[2:] & seen[1:-1] & seen[:-2])] = 0.0
    moves, _ = find_peaks(np.concatenate([[0.0], step, [0.0]]), height=GAZE_STEP, distance=3)
    spread = float(np.ptp(np.percentile(across[seen], [2, 98]))) if seen.any() else 0.0
    return len(moves) * 60 * FPS / len(gaze), spread


def upper_face_ssim(
    frames: Sequence[np.ndarray], points: np.ndarray, source: np.ndarray, source_points: np.ndarray, every: int = 5
) -> float:
    """Likeness of forehead, eyes and nose to the source, each frame laid on it first; every fifth frame."""
    left, right = source_points[[234, 454], 0]
    top, bottom = source_points[10, 1], source_points[2, 1]
    part = (slice(int(max(top, 0)), int(bottom)), slice(int(max(left, 0)), int(right)))
    still = luminance(source)[part]
    return float(
        np.mean(
            [
                structural_similarity(
                    still,
                    laid_on_source(luminance(frames[index]), points[index], source_points)[part],
                    data_range=255,
                )
                for index in range(0, len(frames), every)
            ]
        )
    )


def sharpness(
    frames: Sequence[np.ndarray], points: np.ndarray, source: np.ndarray, source_points: np.ndarray, every: int = 5
) -> float:
    """Detail of the moving upper face over the source's: ratio of the variances of the Laplacian, without the eyes."""

    def detail(picture: np.ndarray, marks: np.ndarray) -> float:
        mask = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, cv2.convexHull(np.round(marks[list(RIGID), :2]).astype(np.int32)), 1)
        for opening in EYE_OPENINGS:
            cv2.fillConvexPoly(mask, cv2.convexHull(np.round(marks[list(opening), :2]).astype(np.int32)), 0)
        return float(cv2.Laplacian(luminance(picture), cv2.CV_32F)[mask > 0].var())

    moving = np.mean([detail(frames[index], points[index]) for index in range(0, len(frames), every)])
    return float(moving) / max(detail(source, source_points), 1e-9)


def background_mask(matte: np.ndarray, margin: float = 0.05) -> np.ndarray:
    """Where the person, grown by `margin` of the height, is not.

    Args:
        matte: (height, width) float, 1 on the person.
    """
    reach = 2 * round(margin * matte.shape[0]) + 1
    grown = cv2.dilate((matte > 0.1).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    return grown == 0


def background_ssim(frames: Sequence[np.ndarray], source: np.ndarray, mask: np.ndarray, every: int = 10) -> float:
    """Likeness of the background to the source's; every tenth frame. NaN where hardly any background is visible."""
    if mask.mean() < 0.01:
        return float("nan")
    still = luminance(source)
    values = []
    for index in range(0, len(frames), every):
        _, likeness = structural_similarity(still, luminance(frames[index]), data_range=255, full=True)
        values.append(likeness[mask].mean())
    return float(np.mean(values))


def background_noise(frames: Sequence[np.ndarray], mask: np.ndarray) -> float:
    """Mean over background pixels of their standard deviation in time, in grey levels."""
    if mask.mean() < 0.01:
        return float("nan")
    total, square = np.zeros(int(mask.sum())), np.zeros(int(mask.sum()))
    for frame in frames:
        values = luminance(frame)[mask]
        total += values
        square += values.astype(float) ** 2
    mean = total / len(frames)
    return float(np.sqrt(np.maximum(square / len(frames) - mean**2, 0)).mean())


def border_change(frames: Sequence[np.ndarray], width_px: int = 2) -> float:
    """Largest mean difference of the frame's outermost pixels from their usual value, in grey levels.

    Made for frames before encoding: the encoder itself moves a border by one or two levels.
    """
    ring = np.ones(frames[0].shape[:2], bool)
    ring[width_px:-width_px, width_px:-width_px] = False
    border = np.stack([luminance(frame)[ring] for frame in frames])
    return float(np.abs(border - np.median(border, axis=0)).mean(axis=1).max())


def hair_edge(matte: np.ndarray, source_points: np.ndarray) -> np.ndarray:
    """(height, width) bool: the ring around the matte's edge, above the chin."""
    reach = 2 * round(0.008 * matte.shape[0]) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    person = (matte > 0.5).astype(np.uint8)
    ring = cv2.dilate(person, kernel) != cv2.erode(person, kernel)
    soft = (matte > 0.05) & (matte < 0.95)
    ring |= soft
    ring[int(source_points[152, 1]) :] = False
    return ring


def shimmer(frames: Sequence[np.ndarray], points: np.ndarray, source_points: np.ndarray, ring: np.ndarray) -> float:
    """How much the hair's edge flickers: mean absolute second difference in time there, in grey levels.

    Each pixel is followed twice, standing still (the background) and carried by the head (the hair), and the smaller
    change counts: what is explained neither by the one nor by the other flickers.
    """
    if not ring.any() or len(frames) < 3:
        return float("nan")
    still = np.stack([luminance(frame)[ring] for frame in frames])
    carried = np.stack(
        [laid_on_source(luminance(frame), points[i], source_points)[ring] for i, frame in enumerate(frames)]
    )
    return float(np.minimum(np.abs(np.diff(still, n=2, axis=0)), np.abs(np.diff(carried, n=2, axis=0))).mean())
