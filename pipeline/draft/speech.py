"""Sound to mouth: jaw, lips and tongue for every video frame, and when the character speaks.

What is spoken when comes from phonemes.py and from the energy of the sound; what is drawn is left to the renderer.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from pipeline.draft import phonemes, pronounce
from pipeline.draft.phonemes import SAMPLE_RATE, Segment
from pipeline.generators import as_share
from pipeline.plan import FPS
from pipeline.voice.spoken import Mark

STEP = 0.01  # seconds from one analysis value to the next
STEP_SAMPLES = int(STEP * SAMPLE_RATE)
LEAD = 0.01  # seconds the mouth runs ahead of the sound: a mouth that lags is noticed first
FRAME_MIDDLE = 0.5 / FPS  # seconds from a frame's time to the middle of its showing


@dataclass(frozen=True)
class MouthTrack:
    """What mouth and voice do, one float32 per video frame at 25 fps; every array is (num_frames,).

    Args:
        jaw: 0 closed .. 1 wide open.
        wide: -1 rounded, narrow .. 1 spread.
        pucker: 0..1, lips pushed forward (u, w, o).
        close: 0..1, lips sealed (m, b, p).
        fv: 0..1, lower lip at the upper teeth.
        tongue: 0..1, tongue seen.
        speak: 0..1, somebody speaks now, within 150 ms.
        hold: 0..1, the same with pauses up to 0.8 s bridged.
        loudness: 0..1.
        pitch: Octaves above the speaker's median, smoothed; 0 where unvoiced.
        accent: 0..1, loudness on the rise.
        source: "marks", "words", "phonemes" or "loudness": what it was made from.
        segments: The sounds and pauses it was made from, in order; () for loudness.
    """

    jaw: np.ndarray
    wide: np.ndarray
    pucker: np.ndarray
    close: np.ndarray
    fv: np.ndarray
    tongue: np.ndarray
    speak: np.ndarray
    hold: np.ndarray
    loudness: np.ndarray
    pitch: np.ndarray
    accent: np.ndarray
    source: str
    segments: tuple[Segment, ...] = ()


# --- how the mouth moves ----------------------------------------------------------------------------------------------

# Targets of each class: jaw, wide, pucker, tongue; how much it insists (dominance) and how far it reaches (seconds).
# Dominance after Cohen & Massaro (1993), "Modeling coarticulation in synthetic visual speech".
VISEMES: dict[str, tuple[float, float, float, float, float, float]] = {
    "sil": (0.02, 0.00, 0.00, 0.0, 1.00, 0.080),
    "PP": (0.05, 0.00, 0.05, 0.0, 1.00, 0.035),
    "FF": (0.12, 0.10, 0.00, 0.0, 1.00, 0.040),
    "TH": (0.22, 0.10, 0.00, 1.0, 0.60, 0.045),
    "DD": (0.22, 0.15, 0.00, 0.6, 0.35, 0.040),
    "nn": (0.22, 0.10, 0.00, 0.6, 0.35, 0.040),
    "kk": (0.28, 0.05, 0.00, 0.1, 0.20, 0.045),
    "SS": (0.12, 0.35, 0.00, 0.2, 0.70, 0.050),
    "CH": (0.20, -0.35, 0.45, 0.2, 0.70, 0.060),
    "RR": (0.25, -0.35, 0.40, 0.2, 0.50, 0.060),
    "hh": (0.35, 0.00, 0.00, 0.0, 0.10, 0.050),
    "aa": (0.95, 0.05, 0.00, 0.1, 1.00, 0.075),
    "ah": (0.55, 0.00, 0.00, 0.1, 0.55, 0.060),
    "E": (0.60, 0.35, 0.00, 0.2, 0.90, 0.070),
    "ih": (0.38, 0.35, 0.00, 0.2, 0.60, 0.060),
    "ee": (0.28, 0.60, 0.00, 0.3, 0.85, 0.070),
    "oh": (0.60, -0.55, 0.60, 0.0, 0.90, 0.080),
    "ou": (0.25, -0.85, 1.00, 0.0, 0.90, 0.080),
    "yy": (0.22, -0.60, 0.80, 0.3, 0.90, 0.070),
    "w": (0.15, -0.90, 1.00, 0.0, 1.00, 0.060),
}
PLANES = ("jaw", "wide", "pucker", "tongue")
EVENTS = frozenset(("close", "fv"))
OUTSIDE = 0.8  # a sound insists this much less just outside its own time
REACH = 6.0  # taus after which a sound is forgotten (exp(-6) = 0.25 %)
RAMP = 0.055  # seconds lips take to meet or part
SMOOTHING = 0.015  # seconds, sigma: takes the corners off the dominance curves
JAW_SEALED = 0.95  # sealed lips take this much of the jaw's opening


def articulate(segments: Sequence[Segment], num_steps: int) -> dict[str, np.ndarray]:
    """Move a mouth through sounds: coarticulation by dominance; closures as events that are never averaged.

    Args:
        segments: Sounds and pauses in order, seconds.
        num_steps: Values to give, STEP seconds apart from 0 on.

    Returns:
        jaw, wide, pucker, tongue, close and fv: (num_steps,) float32 each, ranges as in MouthTrack.
    """
    total = np.full(num_steps, 1e-6)
    planes = np.zeros((len(PLANES), num_steps))
    seals = {"PP": np.zeros(num_steps, np.float32), "FF": np.zeros(num_steps, np.float32)}
    for segment in phonemes.halves(segments):
        jaw, *rest, strength, tau = VISEMES[segment.viseme]
        target = min(jaw * segment.stress, 1), *rest
        first = max(0, int((segment.start - REACH * tau) / STEP))
        last = min(num_steps, int((segment.end + REACH * tau) / STEP) + 1)
        time = np.arange(first, last) * STEP
        outside = np.maximum(np.maximum(segment.start - time, time - segment.end), 0.0)
        dominance = strength * np.exp(-outside / tau) * np.where(outside > 0, OUTSIDE, 1.0)
        total[first:last] += dominance
        planes[:, first:last] += np.array(target)[:, None] * dominance
        if segment.viseme in seals:
            first, last = (
                max(0, int((segment.start - RAMP) / STEP)),
                min(num_steps, int((segment.end + RAMP) / STEP) + 2),
            )
            time = np.arange(first, last) * STEP
            outside = np.maximum(np.maximum(segment.start - time, time - segment.end), 0.0)
            near = np.clip(1 - outside / RAMP, 0, 1)
            track = seals[segment.viseme]
            track[first:last] = np.maximum(track[first:last], near * near * (3 - 2 * near))
    mouth = dict(zip(PLANES, ndimage.gaussian_filter1d(planes / total, SMOOTHING / STEP, axis=1), strict=True))
    mouth["close"], mouth["fv"] = seals["PP"], seals["FF"]
    mouth["jaw"] *= 1 - JAW_SEALED * mouth["close"]
    return {name: plane.astype(np.float32) for name, plane in mouth.items()}


def at_frames(track: np.ndarray, num_frames: int, *, lead: float = LEAD, event: bool = False) -> np.ndarray:
    """Sample an analysis track at the middle of every frame's showing.

    Args:
        track: (steps,) values STEP seconds apart.
        num_frames: Frames at 25 fps.
        lead: Seconds ahead of the sound.
        event: Take the largest value within 20 ms, so that no short closure falls between frames.

    Returns:
        (num_frames,) float32.
    """
    if event:
        track = ndimage.maximum_filter1d(track, 5)
    times = np.arange(num_frames) / FPS + FRAME_MIDDLE + lead
    return np.interp(times / STEP, np.arange(len(track)), track).astype(np.float32)


# --- what the sound tells by itself ----------------------------------------------------------------------------------

WINDOW_SAMPLES = 400  # 25 ms: two periods of a low voice
FFT_SIZE = 512
BLOCK_STEPS = 200  # analysed at once: 2 s, so that a long recording never holds its spectrogram; even
MEL_LOWEST_HZ, MEL_HIGHEST_HZ = 80, 7600  # of the ear's bands; above, a telephone and many microphones are deaf
PITCH_SAMPLES = 960  # 60 ms: four periods of a low voice
LOWEST_HZ, HIGHEST_HZ = 65, 450  # of a speaking voice, a child's included
VOICED = 0.55  # normalised autocorrelation from which a step counts as voiced
OCTAVE_COST = 0.05  # of correlation, an octave: of two equal peaks the shorter period is the voice


@dataclass(frozen=True)
class Sound:
    """What is measured every STEP seconds; (steps,) float32 each but `bands`.

    Args:
        level: dB, 80 to 4000 Hz.
        low: Power, 100 to 400 Hz.
        mid: 450 to 1200 Hz, where an open mouth puts its energy.
        high: 3200 to 7600 Hz, hiss.
        total: 80 to 7600 Hz.
        centroid: Hz, within 900 to 3000 Hz.
        f0: Hz; 0 where unvoiced.
        bands: (steps // 2, EAR_BANDS), mel power over two steps.
    """

    level: np.ndarray
    low: np.ndarray
    mid: np.ndarray
    high: np.ndarray
    total: np.ndarray
    centroid: np.ndarray
    f0: np.ndarray
    bands: np.ndarray


def analyse(waveform: np.ndarray) -> Generator[float, None, Sound]:
    """Measure energies and pitch in blocks; yields the share done.

    Args:
        waveform: (samples,) float32, mono, 16 000 Hz.
    """
    num_steps = len(waveform) // STEP_SAMPLES + 2
    hz = np.fft.rfftfreq(FFT_SIZE, 1 / SAMPLE_RATE)
    edges = ((80, 4000), (100, 400), (450, 1200), (3200, 7600), (80, 7600), (900, 3000))
    weights = [((hz >= low) & (hz <= high)).astype(float) for low, high in edges]
    mel = 1127 * np.log(1 + hz / 700)
    lowest, highest = (1127 * np.log(1 + edge / 700) for edge in (MEL_LOWEST_HZ, MEL_HIGHEST_HZ))
    corners = np.linspace(lowest, highest, phonemes.EAR_BANDS + 2)
    rising = (mel[:, None] - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - mel[:, None]) / np.diff(corners)[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    filters = np.column_stack([*weights, weights[-1] * hz, triangles]).astype(np.float32)
    num_powers = filters.shape[1] - phonemes.EAR_BANDS
    power = np.zeros((num_powers, num_steps), np.float32)
    mels = np.zeros((num_steps // 2, phonemes.EAR_BANDS), np.float32)
    f0 = np.zeros(num_steps, np.float32)
    window = np.hanning(WINDOW_SAMPLES).astype(np.float32)
    for first in range(0, num_steps, BLOCK_STEPS):
        steps = np.arange(first, min(first + BLOCK_STEPS, num_steps))
        start, stop = first * STEP_SAMPLES - PITCH_SAMPLES, steps[-1] * STEP_SAMPLES + PITCH_SAMPLES
        # silence before and after the recording, a block at a time: a padded copy of it all would be as large as it is
        outside = max(-start, 0), max(stop - len(waveform), 0)
        padded = np.pad(waveform[max(start, 0) : stop], outside)
        centres = PITCH_SAMPLES + (steps - first)[:, None] * STEP_SAMPLES
        frames = padded[centres + np.arange(-WINDOW_SAMPLES // 2, WINDOW_SAMPLES // 2)]
        found = np.square(np.abs(np.fft.rfft(frames * window, FFT_SIZE))).astype(np.float32) @ filters
        power[:, steps] = found[:, :num_powers].T
        pairs = found[: len(found) // 2 * 2, num_powers:].reshape(-1, 2, phonemes.EAR_BANDS)
        mels[first // 2 : first // 2 + len(pairs)] = pairs.mean(1)
        f0[steps] = _pitch(padded[centres + np.arange(-PITCH_SAMPLES // 2, PITCH_SAMPLES // 2)])
        yield float(steps[-1]) / num_steps
    power = power[:, : num_steps - 1]
    return Sound(
        level=10 * np.log10(power[0] + 1e-7),
        low=power[1],
        mid=power[2],
        high=power[3],
        total=power[4],
        centroid=power[6] / np.maximum(power[5], 1e-9),
        f0=f0[: num_steps - 1],
        bands=mels,
    )


def _pitch(frames: np.ndarray) -> np.ndarray:
    """Fundamental frequency of (steps, PITCH_SAMPLES), by autocorrelation freed of the window's own; 0 if unvoiced."""
    window = np.hanning(PITCH_SAMPLES).astype(np.float32)
    frames = (frames - frames.mean(1, keepdims=True)) * window
    size = 2 * FFT_SIZE * 2  # room for the longest lag without wrapping round
    lags = np.arange(SAMPLE_RATE // HIGHEST_HZ, SAMPLE_RATE // LOWEST_HZ)
    correlation = np.fft.irfft(np.square(np.abs(np.fft.rfft(frames, size))))
    own = np.fft.irfft(np.square(np.abs(np.fft.rfft(window, size))))
    values = correlation[:, lags] / np.maximum(correlation[:, :1], 1e-6) / (own[lags] / own[0])
    values -= OCTAVE_COST * np.log2(lags / lags[0])
    return np.where(values.max(1) > VOICED, SAMPLE_RATE / lags[values.argmax(1)], 0).astype(np.float32)


LOUD_DB, LOUD_RANGE_DB = 32.0, 26.0  # under the loud parts, where a mouth begins to open; and from there to fully open
GATE_BELOW_DB, GATE_ABOVE_DB, GATE_LEAST_DB = 35.0, 6.0, 18.0  # speech is this far under the loud parts at most, over
# the quiet parts at least; and the loudest 18 dB of any noise are
GATE_FLOOR_DB = -50.0  # nothing under it is a voice: a tone of -90 dB full scale
GATE_GAP = 0.12  # seconds: a stop consonant's silence is still speech


def energy_gate(sound: Sound) -> np.ndarray:
    """(steps,) bool: is it loud enough to be speech? Used where sounds cannot be told."""
    loud, quiet = np.percentile(sound.level, [95, 5])
    threshold = min(max(loud - GATE_BELOW_DB, quiet + GATE_ABOVE_DB), loud - GATE_LEAST_DB)
    threshold = max(threshold, GATE_FLOOR_DB)
    return _bridge(sound.level > threshold, GATE_GAP)


def energy_jaw(sound: Sound) -> np.ndarray:
    """(steps,) float32, 0..1: jaw from energy alone; open vowels are loud around their first formant."""
    loud = np.clip((sound.level - (np.percentile(sound.level, 95) - LOUD_DB)) / LOUD_RANGE_DB, 0, 1)
    share = np.sqrt(sound.mid / (sound.mid + sound.low + sound.high + 1e-9))
    hiss = np.clip(1 - 1.2 * sound.high / (sound.total + 1e-9), 0.15, 1)
    return ndimage.gaussian_filter1d(loud * (0.15 + 0.85 * share) * hiss, 0.03 / STEP)


STRESS = 0.55  # decibels of opening for each of first formant, chosen on real recordings: made voices stress less
LEAST_STRESS, MOST_STRESS = 0.5, 2.0  # a mumbled vowel still shows; a shouted one opens fully at most


def stressed(segments: Sequence[Segment], sound: Sound) -> list[Segment]:
    """The segments, diphthongs as their halves; a vowel louder in its first formant than is usual here opens wider."""
    parts = phonemes.halves(segments)
    formant = 10 * np.log10(sound.mid + 1e-7)
    peaks = {
        number: float(formant[int(part.start / STEP) : int(part.end / STEP) + 1].max())
        for number, part in enumerate(parts)
        if part.viseme in phonemes.VOWELS
    }
    usual = float(np.median(list(peaks.values()))) if peaks else 0.0
    for number, peak in peaks.items():
        stress = 10 ** (STRESS * (peak - usual) / 20)
        parts[number] = replace(parts[number], stress=min(max(stress, LEAST_STRESS), MOST_STRESS))
    return parts


def _bridge(gate: np.ndarray, seconds: float) -> np.ndarray:
    """The gate with gaps shorter than `seconds` filled."""
    steps = round(seconds / STEP)
    return ndimage.binary_closing(np.pad(gate, steps), np.ones(steps))[steps : len(gate) + steps]


def _spoken(segments: Sequence[Segment], num_steps: int) -> np.ndarray:
    """(steps,) bool: does a segment sound here?"""
    gate = np.zeros(num_steps, bool)
    for segment in segments:
        if segment.viseme != "sil":
            gate[round(segment.start / STEP) : round(segment.end / STEP)] = True
    return gate


# --- the whole --------------------------------------------------------------------------------------------------------

LEAST_RATE = 2.0  # sounds a second of speech below which the recogniser hears no speech: music, humming, a howl
LEAST_BELIEF = 0.7  # below, other words are spoken: right ones reached 0.78 under music, wrong ones 0.65 at most
ENERGY_JAW = 0.65  # of the full opening: without sounds to tell, a mouth that hums rather than shouts
FAST, TALKING = 0.15, 1.0  # seconds: how far `speak` reaches round speech; pauses `hold` bridges, which are
# heard up to 0.1 s longer at either end than they are spoken


def follow_speech(
    waveform: np.ndarray,
    num_frames: int,
    *,
    text: str = "",
    language: str = "en",
    marks: Sequence[Mark] = (),
    piece_seconds: float = phonemes.CHUNK_SECONDS,
) -> Generator[float, None, MouthTrack]:
    """Listen to a recording and decide what the mouth does.

    Args:
        waveform: (samples,) float32, mono, 16 000 Hz; 0.4 s to 10 minutes.
        num_frames: Video frames to cover at 25 fps.
        text: The words spoken; "" when unknown. Words that do not fit the sound are left aside.
        language: Of `text`, "en" or "fr".
        marks: When each sound is spoken, as the synthesiser of the voice tells it: nothing is recognised then. Seconds;
            what lies outside the recording is left aside. () when unknown.
        piece_seconds: Longest piece listened to at once: shorter ones take less memory and time between two shares.

    Yields:
        Share done, 0..1.

    Returns:
        The mouth, frame by frame.
    """
    waveform = np.asarray(waveform, np.float32)
    if marks:
        sound = yield from as_share(0.0, 0.9, analyse(waveform))
        segments, source = phonemes.segments_of(marks, len(waveform) / SAMPLE_RATE), "marks"
    else:
        sound, segments, source = yield from as_share(0.0, 0.99, _recognise(waveform, text, language, piece_seconds))
    num_steps = len(sound.level)
    gate = _spoken(segments, num_steps)
    if source == "loudness":
        gate = energy_gate(sound)
        mouth = {name: np.zeros(num_steps, np.float32) for name in (*PLANES, "close", "fv")}
        mouth["jaw"] = ENERGY_JAW * energy_jaw(sound) * _envelope(gate, GATE_GAP)
        mouth["wide"] = np.clip((sound.centroid - 1500) / 1400, -0.5, 0.5) * mouth["jaw"]
    else:
        mouth = articulate(stressed(segments, sound), num_steps)
    gate = _bridge(gate, GATE_GAP)
    speak = _envelope(gate, FAST)
    loudness = np.clip((sound.level - (np.percentile(sound.level, 95) - LOUD_DB)) / LOUD_DB, 0, 1)
    loudness = ndimage.gaussian_filter1d(loudness, 0.08 / STEP)
    rise = np.maximum(np.gradient(ndimage.gaussian_filter1d(loudness, 0.06 / STEP), STEP), 0)
    mouth["jaw"] = np.clip(mouth["jaw"] * (0.95 + 0.18 * energy_jaw(sound)) * speak, 0, 1)
    mouth["wide"], mouth["pucker"] = mouth["wide"] * speak, mouth["pucker"] * speak
    mouth |= {
        "speak": speak,
        "hold": _envelope(_bridge(gate, TALKING), FAST),
        "loudness": loudness,
        "pitch": _melody(sound.f0),
        "accent": np.clip(rise / max(float(np.percentile(rise, 98)), 1e-3), 0, 1),
    }
    tracks = {name: at_frames(track, num_frames, event=name in EVENTS) for name, track in mouth.items()}
    yield 1.0
    return MouthTrack(**tracks, source=source, segments=() if source == "loudness" else tuple(segments))


def _recognise(
    waveform: np.ndarray, text: str, language: str, piece_seconds: float
) -> Generator[float, None, tuple[Sound, list[Segment], str]]:
    """What is measured of a recording, the sounds heard in it, and what they were made from, as in MouthTrack."""
    try:  # first, while nothing else is held: it needs the most memory
        table = yield from as_share(0.0, 0.7, phonemes.posteriors(waveform, piece_seconds))
    except phonemes.RecogniserMissingError:
        table = None
    sound = yield from as_share(0.7, 0.8, analyse(waveform))
    states = yield from as_share(0.8, 0.85, phonemes.hear(sound.bands[: phonemes.rows_of(waveform)], table))
    segments = yield from as_share(0.85, 0.9, phonemes.recognise(states))
    gate = _spoken(segments, len(sound.level))
    if not gate.any() or (table is not None and phonemes.num_emitted(table) < LEAST_RATE * gate.sum() * STEP):
        return sound, segments, "loudness"
    if text.strip():
        known, belief = yield from as_share(0.9, 1.0, _follow_words(states, text, language))
        if belief >= LEAST_BELIEF:
            return sound, known, "words"
    return sound, segments, "phonemes"


def _follow_words(states: np.ndarray, text: str, language: str) -> Generator[float, None, tuple[list[Segment], float]]:
    """Segments of the given words and how well they fit, 0 when they cannot be pronounced or placed."""
    try:
        said = yield from as_share(0.0, 0.5, pronounce.sounds_of(text, language))
    except (ImportError, OSError, RuntimeError):  # English without hama
        return [], 0.0
    words = [phonemes.classes_of(word) for word in said]
    if not any(words):
        return [], 0.0
    return (yield from as_share(0.5, 1.0, phonemes.align(states, words)))


def _envelope(gate: np.ndarray, seconds: float) -> np.ndarray:
    """The gate as a smooth 0..1 that reaches `seconds` beyond it on both sides."""
    wide = ndimage.maximum_filter1d(gate.astype(np.float32), round(seconds / STEP) + 1)
    return np.clip(ndimage.gaussian_filter1d(wide, seconds / 3 / STEP), 0, 1)


def _melody(f0: np.ndarray) -> np.ndarray:
    """(steps,) octaves above the median of the voiced steps, smoothed; 0 where unvoiced."""
    voiced = f0 > 0
    if not voiced.any():
        return np.zeros(len(f0), np.float32)
    octaves = np.where(voiced, np.log2(np.maximum(f0, 1) / np.median(f0[voiced])), 0)
    octaves = np.where(np.abs(octaves) < 1, octaves, 0)  # an octave off is an error of the tracker
    weight = ndimage.gaussian_filter1d(voiced.astype(float), 0.08 / STEP)
    smooth = ndimage.gaussian_filter1d(octaves, 0.08 / STEP) / np.maximum(weight, 0.1)
    return ndimage.gaussian_filter1d(smooth * voiced, 0.03 / STEP).astype(np.float32)
