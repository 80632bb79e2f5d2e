"""Train the ear of pipeline/draft/phonemes.py, kept as pipeline/models/ear.npz. Run by hand, on a CPU, in 15 minutes.

    python -m tests.quality.ear.train CORPUS EAR.npz

CORPUS is a folder of recordings (FLAC, 16 kHz, mono), each with a JSON of its phoneme times, in the form of
tests/quality/voices, which must not be among them. The ear that ships was trained on 17 minutes: the sentences of
sentences.txt, each spoken by some of 26 Kokoro-82M voices (English and French; none of those used for tests),
hibari-tts, flite (awb, kal16) and eSpeak NG (fr-be, fr-ch). Another run of this file on them came within 0.02 of its
held-out jaw correlation without words, within 0.04 with them. Prints the new file's SHA-256, for pipeline/models.
"""

import hashlib
import itertools
import json
import sys
from pathlib import Path

import av
import numpy as np
from scipy import signal

from pipeline.draft import phonemes
from pipeline.draft.phonemes import POSTERIOR_SECONDS, ROW_SHIFT, SAMPLE_RATE, STATES, Segment
from pipeline.draft.speech import analyse
from pipeline.generators import to_end
from tests.quality.truth import true_segments

HIDDEN = (128, 64)  # widths: 130 000 weights; twice as many gained nothing on the tuning voices
EPOCHS, BATCH, RATE = 14, 256, 1.2e-3  # Adam, cosine to zero
SMOOTHING, DROPOUT, DECAY = 0.05, 0.2, 1e-3
LEAST_SPREAD = 0.1  # features rarer than this are not blown up: an unusual sound must not shout
PASSES = 4  # each recording is heard clean, then at another pitch, speed and colour with noise, breath and echo


def spoil(
    waveform: np.ndarray, pauses: list[Segment], number: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Pass `number` of a recording: what a microphone, a room and another throat may do to it.

    Returns:
        The waveform, and how many times faster it is.
    """
    if number == 0:
        return waveform, 1.0
    heard = waveform.astype(np.float64)
    if number >= 2:
        for pause in pauses:
            seconds = rng.uniform(0.5, 1) * (pause.end - pause.start - 0.04)
            if seconds > 0.1 and rng.random() < 0.8:
                air = _breath(round(seconds * SAMPLE_RATE), rng) * np.percentile(np.abs(waveform), 99)
                first = round((pause.start + 0.02) * SAMPLE_RATE)
                heard[first : first + len(air)] += (air * 10 ** (-rng.uniform(8, 28) / 20))[: len(heard) - first]
    up, down = [(9, 10), (11, 10), (6, 7), (8, 7), (19, 20), (21, 20)][rng.integers(6)]
    heard = signal.resample_poly(heard, up, down)
    if number == 3:
        if rng.random() < 0.5:
            size = round(rng.uniform(0.1, 0.4) * SAMPLE_RATE)
            echo = rng.normal(size=size) * np.exp(-np.arange(size) / (size / 6))
            echo *= rng.uniform(0.15, 0.6) / np.sqrt(np.square(echo).sum())
            echo[0] = 1
            heard = signal.fftconvolve(heard, echo)[: len(heard)]
        if rng.random() < 0.35:
            band = [rng.uniform(150, 300), rng.uniform(3000, 5000)]
            heard = signal.sosfilt(signal.butter(4, band, "band", fs=SAMPLE_RATE, output="sos"), heard)
    if number == 3 or rng.random() < 0.7:
        decibels = rng.uniform(6, 22) if number == 3 else rng.uniform(12, 32)
        spectrum = np.fft.rfft(rng.normal(size=len(heard)))
        if rng.random() < 0.6:
            spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 20))
        noise = np.fft.irfft(spectrum, len(heard))
        heard = heard + noise / noise.std() * heard.std() * 10 ** (-decibels / 20)
    heard = np.convolve(heard, [1, rng.uniform(-0.5, 0.5)])[: len(heard)]
    return (heard / np.abs(heard).max() * rng.uniform(0.1, 0.9)).astype(np.float32), down / up


def _breath(size: int, rng: np.random.Generator) -> np.ndarray:
    """Air drawn in, peak 1."""
    band = [rng.uniform(300, 800), rng.uniform(3000, 7000)]
    air = signal.sosfilt(signal.butter(2, band, "band", fs=SAMPLE_RATE, output="sos"), rng.normal(size=size))
    air *= np.sin(np.linspace(0, np.pi, size)) ** rng.uniform(0.5, 1.5)
    return air / np.abs(air).max()


def examples(path: Path, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pass `number` of one recording: its input rows with and without the recogniser, and the state of each row."""
    with av.open(path.with_suffix(".flac")) as container:
        parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    spoken = true_segments(json.loads(path.read_text(encoding="utf-8")))
    rng = np.random.default_rng([number, *path.stem.encode()])
    pauses = [segment for segment in spoken if segment.viseme == "sil"]
    waveform, faster = spoil(np.concatenate(parts).astype(np.float32) / 32768, pauses, number, rng)
    bands = to_end(analyse(waveform)).bands[: phonemes.rows_of(waveform)]
    heard = phonemes.ear_input(bands, to_end(phonemes.posteriors(waveform)))
    times = np.arange(len(heard)) * POSTERIOR_SECONDS - ROW_SHIFT
    states = np.zeros(len(heard), np.int64)
    for segment in phonemes.halves(spoken):
        inside = (times >= segment.start / faster) & (times < segment.end / faster)
        states[inside] = STATES.index(segment.viseme)
    return heard, bands, states


def fit(windows: np.ndarray, states: np.ndarray) -> list[np.ndarray]:
    """Weights and biases of three layers, the features' means and spreads folded into the first."""
    rng = np.random.default_rng(0)
    mean, spread = windows.mean(0), np.maximum(windows.std(0), LEAST_SPREAD)
    sizes = (windows.shape[1], *HIDDEN, len(STATES))
    layers: list[np.ndarray] = []
    for before, after in itertools.pairwise(sizes):
        layers += [(rng.normal(size=(before, after)) * np.sqrt(1.5 / before)).astype(np.float32)]
        layers += [np.zeros(after, np.float32)]
    slow = [np.zeros_like(layer) for layer in layers]
    square = [np.zeros_like(layer) for layer in layers]
    num_batches = len(states) // BATCH
    for epoch in range(EPOCHS):
        order, loss = rng.permutation(len(states)), 0.0
        for batch in range(num_batches):
            chosen = order[batch * BATCH : (batch + 1) * BATCH]
            inputs = (windows[chosen] - mean) / spread
            first = np.maximum(inputs @ layers[0] + layers[1], 0)
            kept = (rng.random(first.shape) > DROPOUT) / np.float32(1 - DROPOUT)
            first = first * kept
            second = np.maximum(first @ layers[2] + layers[3], 0)
            logits = second @ layers[4] + layers[5]
            shares = np.exp(logits - logits.max(1, keepdims=True))
            shares /= shares.sum(1, keepdims=True)
            wanted = np.full_like(shares, SMOOTHING / len(STATES))
            wanted[np.arange(BATCH), states[chosen]] += 1 - SMOOTHING
            loss -= float((wanted * np.log(shares + 1e-9)).sum()) / BATCH
            third_slope = (shares - wanted) / BATCH
            second_slope = (third_slope @ layers[4].T) * (second > 0)
            first_slope = (second_slope @ layers[2].T) * (first > 0) * kept
            slopes = [
                inputs.T @ first_slope, first_slope.sum(0), first.T @ second_slope, second_slope.sum(0),
                second.T @ third_slope, third_slope.sum(0),
            ]  # fmt: skip
            step = epoch * num_batches + batch + 1
            rate = RATE / 2 * (1 + np.cos(np.pi * step / (EPOCHS * num_batches)))
            for number, slope in enumerate(slopes):
                slow[number] = 0.9 * slow[number] + 0.1 * slope
                square[number] = 0.999 * square[number] + 0.001 * np.square(slope)
                move = slow[number] / (1 - 0.9**step) / (np.sqrt(square[number] / (1 - 0.999**step)) + 1e-8)
                layers[number] -= np.float32(rate) * (move + DECAY * layers[number] * (number % 2 == 0))
        print(f"epoch {epoch + 1}: loss {loss / num_batches:.3f}", flush=True)
    layers[1] = layers[1] - (mean / spread) @ layers[0]
    layers[0] = layers[0] / spread[:, None]
    return layers


def main(corpus: Path, written: Path) -> None:
    """Train both ears, with the recogniser and without, and write their file."""
    taken = [examples(path, number) for path in sorted(corpus.glob("**/*.json")) for number in range(PASSES)]
    states = np.concatenate([states for *_, states in taken])
    weights: dict[str, np.ndarray] = {}
    for kind, column in (("sounds", 0), ("energy", 1)):
        heard = [one[0] if column == 0 else phonemes.ear_input(one[1], None) for one in taken]
        windows = np.concatenate([phonemes.ear_windows(rows, 0, len(rows)) for rows in heard])
        layers = fit(windows.astype(np.float32), states)
        weights |= {f"{kind}_{number}": layer.astype(np.float16) for number, layer in enumerate(layers)}
    np.savez(written, allow_pickle=False, **weights)
    print(written, hashlib.sha256(written.read_bytes()).hexdigest())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
