"""What can be read off a finished clip whose source is known. Renders nothing and judges nothing.

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

from pipeline.plan import FPS
from pipeline.report.measures import (  # noqa: F401 what a clip's own report measures, too, is measured by its code
    CHEEKS,
    EYE_CORNERS,
    EYE_OPENINGS,
    RIGID,
    Eyes,
    best_lag,
    blinks,
    correlation,
    laid_on_source,
    luminance,
    mouth_openings,
    on_face_axes,
)

SAMPLE_RATE = 16_000  # Hz, of every waveform here

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
GAZE_STEP = 0.015  # eye widths in two frames: about 3 degrees, twice the noise of the measure

Phonemes = Sequence[tuple[str, float, float]]
"""(phoneme, start, end) in seconds, in order."""


# --- points -----------------------------------------------------------------------------------------------------------


def identity_rms(points: np.ndarray, source_points: np.ndarray) -> float:
    """How far the 26 rigid points stray from the source's places, in eye distances: mean over frames of the RMS."""
    axes, still = on_face_axes(points)[:, RIGID], on_face_axes(source_points[None])[0, RIGID]
    return float(np.sqrt(((axes - still) ** 2).sum(-1).mean(-1)).mean())


def jitter(points: np.ndarray, frame_height: int) -> float:
    """Mean length of the second difference of six rigid points, in pixels of a frame 512 high."""
    steady = points[:, STEADY, :2] * (512 / frame_height)
    return float(np.linalg.norm(np.diff(steady, n=2, axis=0), axis=-1).mean())


# --- lips against sounds ----------------------------------------------------------------------------------------------


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


def watch_eyes(
    frames: Sequence[np.ndarray], points: np.ndarray, source: np.ndarray, source_points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Closures and gaze, (frames,) each, as Eyes sees them frame by frame."""
    eyes = Eyes(source, source_points)
    seen = [
        eyes.look(laid_on_source(luminance(frame), points[index], source_points)) for index, frame in enumerate(frames)
    ]
    closures, gaze = np.array(seen).reshape(-1, 2).T
    return closures, gaze


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
