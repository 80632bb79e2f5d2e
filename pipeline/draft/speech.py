"""Sound to mouth: jaw, lips and tongue for every video frame, and when the character speaks.

What is spoken when comes from phonemes.py and from the energy of the sound; what is drawn is left to the renderer.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from pipeline.draft import phonemes, pronounce
from pipeline.draft.phonemes import SAMPLE_RATE, Segment
from pipeline.plan import FPS

STEP = 0.01  # seconds from one analysis value to the next
STEP_SAMPLES = int(STEP * SAMPLE_RATE)
WINDOW_SAMPLES = 400  # 25 ms: two periods of a low voice
FFT_SIZE = 512
BLOCK_STEPS = 1_000  # analysed at once: 10 s, so that a long recording never holds its spectrogram
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
        hold: 0..1, the same with pauses under 0.8 s bridged.
        loudness: 0..1.
        pitch: Octaves above the speaker's median, smoothed; 0 where unvoiced.
        accent: 0..1, loudness on the rise.
        source: "words", "phonemes" or "loudness": what it was made from.
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
        *target, strength, tau = VISEMES[segment.viseme]
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


@dataclass(frozen=True)
class _Sound:
    """Energy of the sound every STEP seconds, (steps,) float32 each."""

    level: np.ndarray  # dB, 80-4000 Hz
    low: np.ndarray  # 100-400 Hz, power
    mid: np.ndarray  # 450-1200 Hz
    high: np.ndarray  # 3200-7600 Hz
    total: np.ndarray
    centroid: np.ndarray  # Hz, within 900-3000 Hz
    f0: np.ndarray  # Hz; 0 where unvoiced


def _analyse(waveform: np.ndarray) -> Generator[float, None, _Sound]:
    num_steps = len(waveform) // STEP_SAMPLES + 1
    hz = np.fft.rfftfreq(FFT_SIZE, 1 / SAMPLE_RATE)
    window = np.hanning(WINDOW_SAMPLES).astype(np.float32)
    bands = np.stack(
        [
            (hz >= a) & (hz <= b)
            for a, b in ((80, 4000), (100, 400), (450, 1200), (3200, 7600), (80, 7600), (900, 3000))
        ],
        1,
    ).astype(np.float32)
    bands = np.column_stack([bands, bands[:, 5] * hz]).astype(np.float32)
    out = np.zeros((num_steps, bands.shape[1]), np.float32)
    f0 = np.zeros(num_steps, np.float32)
    padded = np.pad(waveform, (512, 1024))
    for first in range(0, num_steps, BLOCK_STEPS):
        steps = np.arange(first, min(first + BLOCK_STEPS, num_steps))
        centre = 512 + steps * STEP_SAMPLES
        frames = padded[centre[:, None] + np.arange(-WINDOW_SAMPLES // 2, WINDOW_SAMPLES // 2)]
        power = np.square(np.abs(np.fft.rfft(frames * window, FFT_SIZE)))
        out[steps] = power.astype(np.float32) @ bands
        f0[steps] = _pitch(padded[centre[:, None] + np.arange(-480, 480)])
        yield steps[-1] / num_steps
    level = 10 * np.log10(out[:, 0] + 1e-7)
    centroid = out[:, 6] / np.maximum(out[:, 5], 1e-9)
    return _Sound(level, out[:, 1], out[:, 2], out[:, 3], out[:, 4] + 1e-9, centroid, f0)


LOWEST_HZ, HIGHEST_HZ = 65, 450  # of a speaking voice, a child's included
VOICED = 0.55  # normalised autocorrelation from which a step counts as voiced


def _pitch(frames: np.ndarray) -> np.ndarray:
    """Fundamental frequency by normalised autocorrelation of (steps, 960) samples; 0 where unvoiced."""
    frames = frames - frames.mean(1, keepdims=True)
    spectrum = np.fft.rfft(frames * np.hanning(frames.shape[1]).astype(np.float32), 2048)
    correlation = np.fft.irfft(np.square(np.abs(spectrum)))[:, :512]
    own = np.hanning(frames.shape[1])
    taper = np.fft.irfft(np.square(np.abs(np.fft.rfft(own, 2048))))[:512]
    correlation = correlation / np.maximum(correlation[:, :1], 1e-6) / (taper / taper[0])
    lags = np.arange(SAMPLE_RATE // HIGHEST_HZ, SAMPLE_RATE // LOWEST_HZ)
    values = correlation[:, lags] - 0.05 * np.log2(lags / lags[0])  # of two equal peaks the shorter period is the voice
    best = values.argmax(1)
    clear = values.max(1)
    return np.where(clear > VOICED, SAMPLE_RATE / lags[best], 0.0).astype(np.float32)


def _gate(sound: _Sound) -> np.ndarray:
    """(steps,) bool: is somebody speaking?"""
    loud, quiet = np.percentile(sound.level, [95, 5])
    threshold = min(max(loud - 35, quiet + 6), loud - 18)
    gate = sound.level > threshold
    gate = ndimage.binary_closing(np.pad(gate, 20), np.ones(13))[20:-20]
    return ndimage.binary_opening(gate, np.ones(4))


def _openness(sound: _Sound, gate: np.ndarray) -> np.ndarray:
    """Jaw from energy alone, (steps,) float32 0..1."""
    loud = np.clip((sound.level - (np.percentile(sound.level, 95) - 32)) / 26, 0, 1)
    first_formant = np.sqrt(sound.mid / (sound.mid + sound.low + sound.high + 1e-9))
    opening = loud * (0.15 + 0.85 * first_formant) * np.clip(1 - 1.2 * sound.high / sound.total, 0.15, 1)
    return ndimage.gaussian_filter1d(opening, 3) * ndimage.gaussian_filter1d(gate.astype(np.float32), 3)


LEAST_BELIEF = 0.25  # mean probability of the given words' sounds below which the words are not the ones spoken
BEL: list[float] = []
HAMA_SHARE = 0.55  # of the jaw, when the words are not known; the rest follows the energy
LEAST_RATE = 2.0  # phonemes per second of active speech below which the recogniser is not believed


def _while(done: float, share: float, work: Generator[float | None, None, Any]) -> Generator[float, None, Any]:
    """Do one part of the work, reporting it as `share` of the whole after `done`."""
    while True:
        try:
            yield done + share * (next(work) or 0.0)
        except StopIteration as finished:
            return finished.value


def follow_speech(
    waveform: np.ndarray, num_frames: int, *, text: str = "", language: str = "en"
) -> Generator[float, None, MouthTrack]:
    """Listen to a recording and decide what the mouth does.

    Args:
        waveform: (samples,) float32, mono, 16 000 Hz; 0.4 s to 10 minutes.
        num_frames: Video frames to cover at 25 fps.
        text: The words spoken; "" when unknown.
        language: Of `text`, "en" or "fr".

    Yields:
        Share done, 0..1.

    Returns:
        The mouth, frame by frame.
    """
    waveform = np.asarray(waveform, np.float32)
    sound = yield from _while(0.0, 0.15, _analyse(waveform))
    gate = _gate(sound)
    opening = _openness(sound, gate)
    num_steps = len(gate)
    source = "loudness"
    spoken: list[tuple[str, float]] = []
    try:
        table = yield from _while(0.15, 0.75, phonemes.posteriors(waveform))
        spoken = [item for item in phonemes.recognise(table) if gate[min(num_steps - 1, max(0, int(item[1] / STEP)))]]
        if len(spoken) >= LEAST_RATE * gate.sum() * STEP:
            source = "phonemes"
        if text.strip():
            classes = phonemes.classes_of((yield from _while(0.9, 0.0, pronounce.sounds_of(text, language))))
            if classes:
                known, belief = yield from _while(0.9, 0.1, phonemes.align(table, classes))
                BEL.append(belief)
                if belief >= LEAST_BELIEF:
                    spoken, source = known, "words"
    except phonemes.RecogniserMissingError:
        pass
    if source == "loudness":
        mouth = {name: np.zeros(num_steps, np.float32) for name in (*PLANES, "close", "fv")}
        mouth["jaw"] = opening
        mouth["wide"] = np.clip((sound.centroid - 1500) / 700, -1, 1) * 0.5 * opening
    else:
        mouth = articulate(phonemes.segments(spoken, gate, STEP), num_steps)
        active = gate & (opening > 0)
        if active.any() and source != "words":
            jaw = mouth["jaw"]
            scaled = (opening - opening[active].mean()) / max(opening[active].std(), 1e-3)
            scaled = np.clip(scaled * jaw[active].std() + jaw[active].mean(), 0, 1) * ndimage.gaussian_filter1d(
                gate.astype(np.float32), 4
            )
            mouth["jaw"] = (HAMA_SHARE * jaw + (1 - HAMA_SHARE) * scaled) * (1 - JAW_SEALED * mouth["close"])
    speak = np.clip(ndimage.gaussian_filter1d(ndimage.maximum_filter1d(gate.astype(np.float32), 16), 5), 0, 1)
    hold = ndimage.binary_closing(np.pad(gate, 100), np.ones(80))[100:-100].astype(np.float32)
    hold = np.clip(ndimage.gaussian_filter1d(ndimage.maximum_filter1d(hold, 16), 5), 0, 1)
    loudness = np.clip((sound.level - (np.percentile(sound.level, 95) - 32)) / 32, 0, 1)
    loudness = ndimage.gaussian_filter1d(loudness, 8)
    rise = np.maximum(np.gradient(ndimage.gaussian_filter1d(loudness, 6), STEP), 0)
    accent = np.clip(rise / max(float(np.percentile(rise, 98)), 1e-3), 0, 1)
    mouth["jaw"] = np.clip(mouth["jaw"] * 1.1 * (0.8 + 0.35 * loudness) * speak, 0, 1)
    mouth["wide"], mouth["pucker"] = mouth["wide"] * speak, mouth["pucker"] * speak
    voiced = sound.f0 > 0
    pitch = np.zeros(num_steps)
    if voiced.any():
        octaves = np.where(voiced, np.log2(np.maximum(sound.f0, 1) / np.median(sound.f0[voiced])), 0)
        weight = ndimage.gaussian_filter1d(voiced.astype(float), 8)
        pitch = ndimage.gaussian_filter1d(np.clip(octaves, -1, 1), 8) / np.maximum(weight, 0.1) * voiced
        pitch = ndimage.gaussian_filter1d(pitch, 3)
    events = {"close", "fv"}
    tracks = {name: at_frames(track, num_frames, event=name in events) for name, track in mouth.items()}
    yield 1.0
    return MouthTrack(
        **tracks,
        **{
            name: at_frames(track.astype(np.float32), num_frames)
            for name, track in (
                ("speak", speak),
                ("hold", hold),
                ("loudness", loudness),
                ("pitch", pitch),
                ("accent", accent),
            )
        },
        source=source,
    )
