"""What happens to voices on the way: noise, room, telephone, music, singing. Each takes and gives a waveform."""

from collections.abc import Callable

import numpy as np
from scipy import signal

SAMPLE_RATE = 16_000


def _mixed(waveform: np.ndarray, other: np.ndarray, decibels: float) -> np.ndarray:
    """The voice with another sound `decibels` under it."""
    other = other / other.std() * waveform.std() * 10 ** (-decibels / 20)
    mixed = waveform + other
    return (mixed * min(1.0, 0.95 / np.abs(mixed).max())).astype(np.float32)


def white_noise(waveform: np.ndarray) -> np.ndarray:
    """Hiss 10 dB under the voice."""
    return _mixed(waveform, np.random.default_rng(10).normal(size=len(waveform)), 10)


def pink_noise(waveform: np.ndarray) -> np.ndarray:
    """A street or a fan, 10 dB under the voice."""
    spectrum = np.fft.rfft(np.random.default_rng(11).normal(size=len(waveform)))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 20))
    return _mixed(waveform, np.fft.irfft(spectrum, len(waveform)), 10)


def telephone(waveform: np.ndarray) -> np.ndarray:
    """300 to 3400 Hz."""
    band = signal.butter(6, [300, 3400], "band", fs=SAMPLE_RATE, output="sos")
    return signal.sosfilt(band, waveform).astype(np.float32)


def room(waveform: np.ndarray) -> np.ndarray:
    """A bare room: an echo that dies away over 0.35 s."""
    rng = np.random.default_rng(12)
    tail = rng.normal(size=round(0.35 * SAMPLE_RATE)) * np.exp(-np.arange(round(0.35 * SAMPLE_RATE)) / 900)
    echo = np.concatenate([[1.0], 0.5 * tail / np.sqrt(np.square(tail).sum())])
    heard = signal.fftconvolve(waveform, echo)[: len(waveform)]
    return (heard * min(1.0, 0.95 / np.abs(heard).max())).astype(np.float32)


def music(waveform: np.ndarray) -> np.ndarray:
    """Plucked chords, 6 dB under the voice."""
    time = np.arange(len(waveform)) / SAMPLE_RATE
    chords = ((220, 277, 330), (196, 247, 294), (175, 220, 262), (196, 247, 330))
    sound = np.zeros(len(waveform))
    for beat in range(int(time[-1] / 0.5) + 1):
        since = np.maximum(time - beat * 0.5, 0)
        pluck = np.exp(-4 * since) * (time >= beat * 0.5)
        for hz in chords[beat // 4 % 4]:
            sound += pluck * sum(np.sin(2 * np.pi * hz * k * since) / k for k in range(1, 6))
    return _mixed(waveform, sound, 6)


DEGRADED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "white noise 10 dB": white_noise,
    "pink noise 10 dB": pink_noise,
    "telephone": telephone,
    "bare room": room,
    "music 6 dB": music,
}
