"""Head, brows, lids and gaze from the voice and a seed. Knows no picture; the mouth belongs to speech.py."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter1d

from pipeline.direction import AS_USUAL, Direction, scale
from pipeline.draft.speech import MouthTrack
from pipeline.plan import FPS

# --- head -------------------------------------------------------------------------------------------------------------
SWAY_HZ = (0.07, 0.4)  # a head that is held still sways this slowly
NUM_SINES = 5  # enough that the sway never repeats visibly, few enough that it stays slow
SWAY_DEGREES = {"yaw": 2.2, "pitch": 0.8, "roll": 1.0}  # two standard deviations while speaking
SWAY_SHIFT = 0.004  # two standard deviations, share of the frame's width
SWAY_IN_SILENCE = 0.3  # of the sway while speaking
POSTURE_DEGREES = {"yaw": 1.4, "pitch": 0.4, "roll": 0.5}  # standard deviation of where the head settles for a phrase
POSTURE_HELD_SECONDS = 3.5  # then the head settles anew even within a phrase
POSTURE_SECONDS = 0.30  # smoothing of the way from one posture to the next: it takes a second
PITCH_DEGREES = 3.0  # the head rises with the voice, for each octave above its median
NOD_DEGREES = 2.2  # and nods on a full accent; smoothing leaves 1.6
GAZE_SHARE = 0.2  # of a look aside is made by the head, a little later
GAZE_LAG_SECONDS = 0.25  # smoothing of that share
HEAD_SECONDS = 0.09  # smoothing of all head motion: 3 Hz keeps a quarter of its size, 5 Hz a fiftieth
LIMITS = {"yaw": 6.0, "pitch": 4.0, "roll": 2.0}  # degrees, approached and never reached: what the renderer hides well
LIVELY_LIMITS = {"yaw": 10.0, "pitch": 6.0, "roll": 2.0}  # at full motion; roll would uncover what hair leaves behind
MOTION_SIZE = (0.0, 2.0)  # of all head motion, at none and at full motion
START_SECONDS, END_SECONDS = 0.8, 0.6  # the head leaves the picture's pose this slowly, and returns to it

# --- brows ------------------------------------------------------------------------------------------------------------
BROW_PER_OCTAVE, BROW_PER_ACCENT = 1.6, 0.5  # of the full raise, which is reached at about 8 semitones
BROW_SIZE = (0.0, 1.7)  # at none and at full expression
BROW_SECONDS = 0.10  # smoothing: a raise takes a quarter of a second

# --- lids -------------------------------------------------------------------------------------------------------------
BLINK_SHAPE, BLINK_SECONDS = 4.0, 3.6  # gamma distribution of the time between blinks, its shape and mean
BLINK_RATE = (0.6, 1.5)  # at none and at full motion
BLINK_LEAST_SECONDS = 1.3  # between two blinks, save a double one
BLINK_PULL_SECONDS = 0.9  # a blink waits, or hurries, this long for the end of a phrase or a large shift of gaze
BLINK_LEADS = (0.6, 0.5)  # seconds without a blink at the start, where the still picture is met, and at the end
DOUBLE_SHARE, DOUBLE_SECONDS = 0.07, 0.40  # of the blinks are double; time between the two
WIDENING = 0.6  # of the full rise of the upper lids that goes with the full raise of the brows at full expression
CLOSING_SECONDS, CLOSED_SECONDS, OPENING_SECONDS = 0.09, 0.02, 0.18  # as people blink

# --- gaze -------------------------------------------------------------------------------------------------------------
FIXATION_SECONDS = (0.6, 3.0)  # time between two saccades
LOOK_ASIDE_SHARE = 0.3  # of the saccades leave the viewer; the others go about the viewer's face
ASIDE_DEGREES, FAR_DEGREES = (2.5, 4.0), (4.0, 6.0)  # sizes of looks aside, and of the rare far ones
FAR_SHARE = 0.12  # of the looks aside are far
FACE_DEGREES = (0.5, 0.3)  # standard deviation about the viewer's face, across and up: eye to eye is 2 degrees at 2 m
ASIDE_SECONDS = (0.6, 1.2)  # the eyes come back to the viewer after this
THINK_SECONDS = (0.3, 2.0)  # pauses in which a speaker thinks: shorter is breath, longer is listening
THINK_SHARE = 0.7  # of them in which the eyes turn away at the pause's beginning
THINK_DELAY_SECONDS = 0.08  # after the voice stops
LARGE_SHIFT_DEGREES = 3.0  # a saccade that people like to blink with
SACCADE_SECONDS, SACCADE_SECONDS_PER_DEGREE = 0.025, 0.0025  # Source: the main sequence of saccades, Bahill et al. 1975
DRIFT_DEGREES, DRIFT_SECONDS = 0.12, 0.35  # standard deviation and smoothing of the wandering of a fixating eye
TWITCH_DEGREES, TWITCH_SECONDS = 0.15, 1.0  # microsaccades: standard deviation, mean time between two
REFLEX = 0.9  # of the head's turn that the eyes make up for, to stay on what they look at (vestibulo-ocular reflex)
LOOK_SIZE = (0.5, 1.3)  # of how far the eyes leave the viewer, at none and at full expression
GAZE_LIMIT = 13.0  # degrees in the head, which only a lively one's turning asks of the eyes
STILL_SECONDS = 0.5  # at both ends the eyes are on the viewer

# --- mood -------------------------------------------------------------------------------------------------------------
MOOD_SIZE = (0.45, 1.3)  # at none and at full expression
MOOD_SECONDS = 0.9  # from the picture's own face to the mood, which then stays to the end


@dataclass(frozen=True)
class HeadTrack:
    """How the head is held, one float32 per video frame at 25 fps; all relative to the portrait; (num_frames,) each.

    Args:
        yaw: Degrees, positive turns to the picture's right, within LIMITS, or LIVELY_LIMITS at full motion.
        pitch: Degrees, positive lifts the chin.
        roll: Degrees, positive turns clockwise in the picture.
        shift_x: Share of the frame's width, positive to the right.
        shift_y: Share of the frame's width, positive down.
        brow: 1 is raised as far as people usually do; within 1, or BROW_SIZE at full expression.
        lid: 0 as in the portrait .. 1 closed; down to -1, wide open, above middling expression.
        gaze_x: Degrees the eyes turn in the head, positive to the picture's right.
        gaze_y: Degrees, positive up.
        mood: How far the face has taken on its mood: 0 none, 1 fully, up to MOOD_SIZE at full expression.
    """

    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    shift_x: np.ndarray
    shift_y: np.ndarray
    brow: np.ndarray
    lid: np.ndarray
    gaze_x: np.ndarray
    gaze_y: np.ndarray
    mood: np.ndarray


def move_head(mouth: MouthTrack, *, seed: int, direction: Direction = AS_USUAL) -> HeadTrack:
    """Let a head live with its voice.

    Args:
        mouth: What the voice does.
        seed: The same seed gives the same track. Head, gaze and lids draw from streams of their own.
        direction: Scales what the seed draws: a livelier head does the same things, larger, and blinks sooner.
    """
    for_head, for_gaze, for_lids = np.random.default_rng(seed).spawn(3)
    num_frames = len(mouth.jaw)
    phrases = _phrases(mouth.speak)
    look_x, look_y, shifts = _look(num_frames, phrases, for_gaze)
    look_size = scale(direction.expression, *LOOK_SIZE)
    look_x, look_y = look_size * look_x, look_size * look_y
    turned = _turn_head(mouth, phrases, look_x, look_y, for_head, direction.motion)
    blink_seconds = BLINK_SECONDS / scale(direction.motion, *BLINK_RATE)
    lid = _blink(num_frames, [stop / FPS for _, stop in phrases] + shifts, for_lids, blink_seconds)

    wander = _wander(num_frames, for_gaze) * _edges(num_frames, STILL_SECONDS, STILL_SECONDS)
    gaze_x = np.clip(look_x + wander[0] - REFLEX * turned["yaw"], -GAZE_LIMIT, GAZE_LIMIT)
    gaze_y = np.clip(look_y + wander[1] - REFLEX * turned["pitch"], -GAZE_LIMIT, GAZE_LIMIT)

    raised = BROW_PER_OCTAVE * np.maximum(mouth.pitch, 0) + BROW_PER_ACCENT * mouth.accent
    lowered = 0.4 * BROW_PER_OCTAVE * np.minimum(mouth.pitch, 0)  # brows sink less than they rise
    brow = np.tanh(_smooth(raised + lowered, BROW_SECONDS)) * _edges(num_frames, START_SECONDS, END_SECONDS)
    widened = WIDENING * max(2 * direction.expression - 1, 0) * np.maximum(brow, 0)
    lid = lid - (1 - lid) * widened
    brow = scale(direction.expression, *BROW_SIZE) * brow

    taken_on = _ramp(np.arange(num_frames) / min(MOOD_SECONDS * FPS, max(num_frames / 2, 1)))
    mood = scale(direction.expression, *MOOD_SIZE) * (direction.mood != "neutral") * taken_on
    tracks = {**turned, "brow": brow, "lid": lid, "gaze_x": gaze_x, "gaze_y": gaze_y, "mood": mood}
    return HeadTrack(**{name: track.astype(np.float32) for name, track in tracks.items()})


def _turn_head(
    mouth: MouthTrack,
    phrases: list[tuple[int, int]],
    look_x: np.ndarray,
    look_y: np.ndarray,
    generator: np.random.Generator,
    motion: float,
) -> dict[str, np.ndarray]:
    """Yaw, pitch, roll in degrees and shifts in frame widths: sway, postures, prosody and a share of the gaze."""
    num_frames = len(mouth.jaw)
    seconds = np.arange(num_frames) / FPS
    lively = SWAY_IN_SILENCE + (1 - SWAY_IN_SILENCE) * _smooth(mouth.hold, 0.4)  # no jerk as a sentence begins
    turned = {}
    for name in ("yaw", "pitch", "roll", "shift_x", "shift_y"):
        hz = SWAY_HZ[0] * (SWAY_HZ[1] / SWAY_HZ[0]) ** generator.random((NUM_SINES, 1))
        sines = np.sin(2 * np.pi * (hz * seconds + generator.random((NUM_SINES, 1)))) / np.sqrt(hz)
        size = SWAY_DEGREES.get(name, SWAY_SHIFT) / 2
        turned[name] = lively * sines.sum(axis=0) * size / np.sqrt((1 / hz).sum() / 2)

    for name, size in POSTURE_DEGREES.items():
        posture = np.zeros(num_frames)
        for start, stop in phrases:
            for settled in np.arange(start, stop, POSTURE_HELD_SECONDS * FPS):
                posture[max(int(settled) - 2, 0) :] = generator.normal(0, size)  # people move as they begin, not after
        turned[name] += lively * _smooth(posture, POSTURE_SECONDS)

    turned["pitch"] += PITCH_DEGREES * _smooth(mouth.pitch, 0.12) - NOD_DEGREES * mouth.accent
    turned["yaw"] += GAZE_SHARE * _smooth(look_x, GAZE_LAG_SECONDS)
    turned["pitch"] += GAZE_SHARE * _smooth(look_y, GAZE_LAG_SECONDS)
    edges = _edges(num_frames, START_SECONDS, END_SECONDS)
    for name, track in turned.items():
        smooth = scale(motion, *MOTION_SIZE) * _smooth(track, HEAD_SECONDS)
        if name in LIMITS:
            limit = LIMITS[name] + max(2 * motion - 1, 0) * (LIVELY_LIMITS[name] - LIMITS[name])
            smooth = limit * np.tanh(smooth / limit)
        turned[name] = edges * smooth
    return turned


def _look(
    num_frames: int, phrases: list[tuple[int, int]], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Where the eyes look, in degrees from the viewer, and the seconds at which they shift far."""
    end = num_frames / FPS - STILL_SECONDS
    pauses = [(stop / FPS, later / FPS) for (_, stop), (later, _) in pairwise(phrases)]
    thoughts = [
        (stop + THINK_DELAY_SECONDS, later)
        for stop, later in pauses
        if THINK_SECONDS[0] <= later - stop <= THINK_SECONDS[1] and generator.random() < THINK_SHARE
    ]

    def aside() -> np.ndarray:
        far = generator.random() < FAR_SHARE
        size = generator.uniform(*(FAR_DEGREES if far else ASIDE_DEGREES))
        angle = generator.normal(0, 0.45)  # radians from level: people look aside more than up or down
        return size * np.array([np.cos(angle) * generator.choice([-1, 1]), np.sin(angle)])

    saccades: list[tuple[float, np.ndarray]] = []  # when, and where to
    now, is_aside = generator.uniform(*FIXATION_SECONDS), False
    last = end - FIXATION_SECONDS[0]  # no new look just before the return to the viewer
    while now < last or thoughts:
        if thoughts and thoughts[0][0] <= now + FIXATION_SECONDS[0]:  # the next thought comes before this one ends
            start, back = thoughts.pop(0)
            if STILL_SECONDS <= start < last:
                saccades.append((start, aside()))
                now, is_aside = min(max(back, start + FIXATION_SECONDS[0]), start + ASIDE_SECONDS[1]), True
            continue
        if now >= last:
            break
        is_aside = not is_aside and generator.random() < LOOK_ASIDE_SHARE
        saccades.append((now, aside() if is_aside else generator.normal(0, FACE_DEGREES)))
        now += generator.uniform(*(ASIDE_SECONDS if is_aside else FIXATION_SECONDS))
    saccades.append((end, np.zeros(2)))

    seconds = np.arange(num_frames) / FPS
    look, at, shifts = np.zeros((num_frames, 2)), np.zeros(2), []
    for when, target in saccades:
        size = float(np.hypot(*(target - at)))
        share = _ramp((seconds - when) / (SACCADE_SECONDS + SACCADE_SECONDS_PER_DEGREE * size))
        look += share[:, None] * (target - at)
        at = target
        if size >= LARGE_SHIFT_DEGREES:
            shifts.append(when)
    return look[:, 0], look[:, 1], shifts


def _wander(num_frames: int, generator: np.random.Generator) -> np.ndarray:
    """(2, num_frames) degrees: drift and microsaccades, which no fixating eye is without."""
    drift = _smooth(generator.normal(0, 1, (2, num_frames)), DRIFT_SECONDS)
    drift *= DRIFT_DEGREES * np.sqrt(2 * np.sqrt(np.pi) * DRIFT_SECONDS * FPS)  # undoes the smoothing of its size
    starts = generator.random(num_frames) < 1 / (TWITCH_SECONDS * FPS)
    twitches = generator.normal(0, TWITCH_DEGREES, (2, num_frames))
    return drift + twitches[:, np.maximum.accumulate(np.where(starts, np.arange(num_frames), 0))] * (
        starts.cumsum() > 0
    )


def _blink(num_frames: int, occasions: list[float], generator: np.random.Generator, mean_seconds: float) -> np.ndarray:
    """(num_frames,) 0 open .. 1 closed: blinks at gamma intervals, drawn to occasions (seconds)."""
    lid = np.zeros(num_frames)
    first, end = BLINK_LEADS[0], num_frames / FPS - BLINK_LEADS[1]
    last, now = 0.0, generator.uniform(first, mean_seconds)
    while True:
        near = [when for when in occasions if abs(when - now) <= BLINK_PULL_SECONDS and when >= first]
        near = [when for when in near if last == 0.0 or when - last >= BLINK_LEAST_SECONDS]
        if near:
            now = min(near, key=lambda when: abs(when - now))
        if now >= end:
            return lid
        opening = OPENING_SECONDS * generator.uniform(0.85, 1.25)
        is_double = generator.random() < DOUBLE_SHARE and now + DOUBLE_SECONDS < end
        for start in (now, now + DOUBLE_SECONDS) if is_double else (now,):
            # the middle of the closure falls on a frame, so that there is one with the lid fully down
            middle = min(round((start + CLOSING_SECONDS) * FPS), num_frames - 1)
            away = np.arange(-3, int((CLOSED_SECONDS + opening) * FPS) + 2)
            away = away[(middle + away >= 0) & (middle + away < num_frames)]
            before = _ramp(1 - (-away / FPS - CLOSED_SECONDS / 2) / CLOSING_SECONDS)
            after = _ramp(1 - (away / FPS - CLOSED_SECONDS / 2) / opening)
            lid[middle + away] = np.maximum(lid[middle + away], np.minimum(before, after))
            last = start
        now = last + max(BLINK_LEAST_SECONDS, generator.gamma(BLINK_SHAPE, mean_seconds / BLINK_SHAPE))


def _phrases(speak: np.ndarray) -> list[tuple[int, int]]:
    """Where somebody speaks: first frame and the frame after the last, of each phrase."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], speak >= 0.5, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _edges(num_frames: int, start_seconds: float, end_seconds: float) -> np.ndarray:
    """(num_frames,) 0 on the first and the last frame, 1 between, in smooth ramps; shorter ones in a short clip."""
    frames, last = np.arange(num_frames), max(num_frames - 1, 1)
    start, end = min(start_seconds * FPS, last / 2), min(end_seconds * FPS, last / 2)
    return _ramp(frames / start) * _ramp((num_frames - 1 - frames) / end)


def _ramp(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smoothstep between."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def _smooth(track: np.ndarray, seconds: float) -> np.ndarray:
    """Gaussian smoothing along the last axis; `seconds` is one standard deviation."""
    return gaussian_filter1d(np.asarray(track, np.float64), seconds * FPS, axis=-1, mode="nearest")
