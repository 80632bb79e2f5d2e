"""Which sounds are spoken when: posteriors of viseme classes, free recognition, and alignment of known words.

Knows sounds by the classes a mouth can show; what the mouth does with them is left to speech.py.
"""

import io
import itertools
import unicodedata
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline import models
from pipeline.voice.spoken import Mark

SAMPLE_RATE = 16_000  # Hz; what the recogniser was trained on
POSTERIOR_SECONDS = 0.02  # one row of posteriors; Source: hama asr.py, ASR_OUTPUT_FRAME_SAMPLES = 320
POSTERIOR_SAMPLES = int(POSTERIOR_SECONDS * SAMPLE_RATE)

CLASS_SOUNDS = {  # IPA symbols whose lips look alike
    "PP": "b p pʰ p͈ m ɓ ɸ β ʙ ᵝ",
    "FF": "f v ɱ ʋ",
    "TH": "θ ð",
    "DD": "d t tʰ t͈ ɾ ɖ ɗ ʈ ɽ",
    "nn": "n l ɫ ɲ r ɮ ʎ",
    "kk": "k kʰ k͈ g ɡ c ɟ ŋ x ɣ χ ʀ ʁ ɰ ʝ ɴ ç q",
    "SS": "s s͈ z ɕ ʑ t͡ɕ t͡ɕʰ t͡ɕ͈ ẑ",
    "CH": "ʃ ʒ d͡ʒ t͡ʃ dʒ tʃ ʂ ʐ",
    "RR": "ɹ ɻ ɚ ɝ",
    "hh": "h ɦ ʔ ħ",
    "aa": "a ɑ æ à ã ä å ja ɑ̃",
    "ah": "ə ʌ ɐ ɜ ɘ ɤ ᵊ jʌ",
    "E": "e ɛ eə ẽ je ɛ̃",
    "ih": "ɪ ɨ ɯ ɯi ɪə",
    "ee": "i j ì ĩ ǐ",
    "oh": "o ɔ ɒ õ ø œ ɵ jo ɔ̃ œ̃",
    "ou": "u ũ ʊ ʉ ju",
    "yy": "y ʏ ɥ",
    "w": "w wa we wi wʌ ʍ",
    "ai": "aɪ",
    "au": "aʊ",
    "ei": "eɪ",
    "oi": "ɔɪ",
    "ow": "oʊ",
}
CLASSES = tuple(CLASS_SOUNDS)
BLANK = len(CLASSES)  # column of "no new sound here", after the classes
CLASS_OF = {sound: viseme for viseme, sounds in CLASS_SOUNDS.items() for sound in sounds.split()}
DIPHTHONGS = {"ai": ("aa", "ih"), "au": ("aa", "ou"), "ei": ("E", "ih"), "oi": ("oh", "ih"), "ow": ("oh", "ou")}
FIRST_HALF = 0.6  # of a diphthong's time belongs to the vowel it begins with
VOWELS = frozenset(("aa", "ah", "E", "ih", "ee", "oh", "ou", "yy"))
STATES = ("sil", *(viseme for viseme in CLASSES if viseme not in DIPHTHONGS))  # what a mouth can be doing
SILENT = 0  # column of "sil"

CHUNK_SECONDS = 10.0  # longest piece given to the recogniser: it drops what lies after 30 s; memory grows with length
OVERLAP_SECONDS = 0.6  # heard on both sides of a cut and thrown away, so that no sound is met at an edge
SEEK_SHARE = 0.4  # of a piece within which a cut is moved back to the quietest moment


@dataclass(frozen=True)
class Segment:
    """One sound, or a pause.

    Args:
        viseme: One of STATES, or a diphthong of CLASSES.
        start: Seconds.
        end: Seconds, after `start`.
        stress: How many times wider than usual the jaw opens for it.
    """

    viseme: str
    start: float
    end: float
    stress: float = 1.0


class RecogniserMissingError(RuntimeError):
    """hama is not installed, or has no compiled library for this machine (Windows)."""


def load_recogniser() -> tuple[Any, np.ndarray]:
    """Open the phoneme recogniser.

    Returns:
        The model, and (tokens,) int: the column of CLASSES each of its tokens belongs to, BLANK for the others.

    Raises:
        RecogniserMissingError: it cannot run here.
    """
    try:
        from hama.asr import ASRModel

        model = ASRModel()
    except (ImportError, OSError, RuntimeError) as error:
        raise RecogniserMissingError(str(error)) from error
    columns = [CLASSES.index(CLASS_OF[token]) if token in CLASS_OF else BLANK for token in model.decoder_tokens]
    return model, np.array(columns)


def posteriors(waveform: np.ndarray, piece_seconds: float = CHUNK_SECONDS) -> Generator[float, None, np.ndarray]:
    """Ask the recogniser, piece by piece; pieces are cut at quiet moments and overlap.

    Args:
        waveform: (samples,) float32, mono, 16 000 Hz.
        piece_seconds: Longest piece, without the overlaps.

    Yields:
        Share done, 0..1, after every piece.

    Returns:
        (rows, len(CLASSES) + 1) float16, a row every POSTERIOR_SECONDS: probability that a sound of each class is
        emitted here, then of BLANK. Emissions are peaks one row wide, some 30 ms after the middle of their sound.

    Raises:
        RecogniserMissingError: it cannot run here.
    """
    model, columns = load_recogniser()
    num_rows = rows_of(waveform)
    table = np.zeros((num_rows, len(CLASSES) + 1), np.float16)
    table[:, BLANK] = 1
    overlap = round(OVERLAP_SECONDS / POSTERIOR_SECONDS)
    for first, last in itertools.pairwise(quiet_cuts(waveform, piece_seconds)):
        start, stop = max(0, first - overlap), min(num_rows, last + overlap)
        piece = waveform[start * POSTERIOR_SAMPLES : stop * POSTERIOR_SAMPLES]
        feeds = {"waveform": piece[None], "waveform_lengths": np.array([len(piece)])}
        try:
            log_probs = model.session.run(["log_probs", "out_lengths"], feeds)[0][0]
        except (OSError, RuntimeError) as error:
            raise RecogniserMissingError(str(error)) from error
        shares = np.zeros((len(log_probs), len(CLASSES) + 1), np.float32)
        np.add.at(shares.T, columns, np.exp(log_probs.T))
        shares = shares[first - start : last - start]
        table[first : first + len(shares)] = shares
        yield last / num_rows
    return table


def rows_of(waveform: np.ndarray) -> int:
    """How many rows of posteriors a recording has."""
    return max(1, len(waveform) // POSTERIOR_SAMPLES)


def quiet_cuts(waveform: np.ndarray, piece_seconds: float = CHUNK_SECONDS) -> list[int]:
    """Where to cut a long recording, in rows of posteriors, the first 0 and the last its end."""
    num_rows = rows_of(waveform)
    power = [
        float(np.square(waveform[row * POSTERIOR_SAMPLES :][:POSTERIOR_SAMPLES]).mean()) for row in range(num_rows)
    ]
    loudness = np.convolve(power, np.ones(9), "same")  # over 180 ms: a pause, not the gap inside a "p"
    longest, seek = (round(seconds / POSTERIOR_SECONDS) for seconds in (piece_seconds, SEEK_SHARE * piece_seconds))
    cuts = [0]
    while num_rows - cuts[-1] > longest:
        last = cuts[-1] + longest
        cuts.append(last - seek + int(np.argmin(loudness[last - seek : last])))
    return [*cuts, num_rows]


def num_emitted(table: np.ndarray) -> int:
    """How many sounds the recogniser emits in its posteriors."""
    best = table.argmax(1)
    return int(((np.diff(best, prepend=BLANK) != 0) & (best != BLANK)).sum())


# --- the ear: from emissions and energy to what the mouth is doing ----------------------------------------------------

EAR_BANDS = 20  # mel bands of energy it hears, 80 to 7600 Hz
EAR_REACH = 8  # rows it hears before and after: 160 ms, the recogniser's lateness and one sound either side
EAR_BLOCK = 250  # rows computed at once: 5 s, so that the window of a long recording is never held
REFERENCE_BELOW, BAND_SCALE, BAND_CLIP = 25.0, 15.0, 2.0  # dB: a band's usual depth under the loud parts, its spread


def ear_input(bands: np.ndarray, table: np.ndarray | None) -> np.ndarray:
    """What the ear hears of every row.

    Args:
        bands: (rows, EAR_BANDS) float32, power.
        table: What `posteriors` returns; None makes do with the energy alone.

    Returns:
        (rows, features) float32: roots of the emissions, then band energies against the recording's loud parts.
    """
    decibels = 10 * np.log10(bands + 1e-7)
    reference = np.percentile(10 * np.log10(bands.sum(1) + 1e-6), 95)
    energy = np.clip((decibels - reference + REFERENCE_BELOW) / BAND_SCALE, -BAND_CLIP, BAND_CLIP).astype(np.float32)
    return energy if table is None else np.hstack([np.sqrt(table.astype(np.float32)), energy])


def ear_windows(heard: np.ndarray, first: int, last: int) -> np.ndarray:
    """Rows `first` to `last` of `ear_input`, each with EAR_REACH rows before and after it: (rows, features x 17)."""
    rows = np.arange(first - EAR_REACH, last + EAR_REACH).clip(0, len(heard) - 1)
    near = heard[rows]
    return np.hstack([near[shift : shift + last - first] for shift in range(2 * EAR_REACH + 1)])


def hear(bands: np.ndarray, table: np.ndarray | None) -> Generator[float, None, np.ndarray]:
    """Tell what the mouth is doing in every row, with a small network trained for it by tests/quality/ear/train.py.

    Args:
        bands: (rows, EAR_BANDS) float32, power.
        table: What `posteriors` returns; None makes do with the energy alone.

    Yields:
        Share done, 0..1.

    Returns:
        (rows, len(STATES)) float16: probability of each state, a row every POSTERIOR_SECONDS.

    Raises:
        ModelFileDamaged: the network's file is not the project's.
    """
    with np.load(io.BytesIO(models.read(models.EAR)), allow_pickle=False) as stored:
        kind = "energy" if table is None else "sounds"
        weights = [stored[f"{kind}_{number}"].astype(np.float32) for number in range(6)]
    heard = ear_input(bands, table)
    states = np.zeros((len(heard), len(STATES)), np.float16)
    for first in range(0, len(heard), EAR_BLOCK):
        last = min(first + EAR_BLOCK, len(heard))
        value = ear_windows(heard, first, last)
        for number in (0, 2):
            value = np.maximum(value @ weights[number] + weights[number + 1], 0)
        value = value @ weights[4] + weights[5]
        value = np.exp(value - value.max(1, keepdims=True))
        states[first:last] = value / value.sum(1, keepdims=True)
        yield last / len(heard)
    return states


LEAST_SHARE = 1e-3  # probability no state falls below: the ear is sometimes sure and wrong
CHANGE_COST = 1.0  # nats for going from one sound to another: no flutter between two that are alike
LIPS_FAVOUR = 0.7  # nats for m b p f v: a closure that is missed shows more than one too many


def recognise(states: np.ndarray) -> Generator[float, None, list[Segment]]:
    """Read the most likely sounds without knowing the words (Viterbi).

    Args:
        states: What `hear` returns.

    Yields:
        Share done, 0..1.

    Returns:
        Segments that cover the recording without gap or overlap.
    """
    num_rows, num_states = states.shape
    favour = np.isin(STATES, ("PP", "FF")) * np.float32(LIPS_FAVOUR)
    score = np.zeros(num_states, np.float32)
    before = np.zeros((num_rows, num_states), np.uint8)
    stay = np.arange(num_states, dtype=np.uint8)
    for row in range(num_rows):
        best = int(score.argmax())
        change = score[best] - CHANGE_COST
        before[row] = np.where(score >= change, stay, best)
        score = np.maximum(score, change) + np.log(np.maximum(states[row].astype(np.float32), LEAST_SHARE)) + favour
        score -= score.max()
        if row % 5000 == 4999:
            yield row / num_rows
    path = np.zeros(num_rows, np.int64)
    state = int(score.argmax())
    for row in range(num_rows - 1, -1, -1):
        path[row] = state
        state = int(before[row, state])
    return _without_specks(_segments(path, [STATES[state] for state in path]))


SPECK_GAP = 0.15  # seconds of pause on both sides that set a sound apart from speech


def _without_specks(segments: list[Segment]) -> list[Segment]:
    """The segments without sounds that stand alone and hold no vowel: breaths, clicks, the room."""
    runs = [list(run) for _, run in itertools.groupby(segments, lambda segment: segment.viseme == "sil")]
    kept: list[Segment] = []
    for number, run in enumerate(runs):
        around = [
            other[-1].end - other[0].start for other in (*runs[number - 1 : number], *runs[number + 1 : number + 2])
        ]
        speech = run[0].viseme == "sil" or not VOWELS.isdisjoint(segment.viseme for segment in run)
        if not speech and min(around, default=SPECK_GAP) >= SPECK_GAP:
            run = [Segment("sil", run[0].start, run[-1].end)]
        if kept and kept[-1].viseme == run[0].viseme == "sil":
            run = [Segment("sil", kept.pop().start, run[0].end)]
        kept += run
    return kept


BEAM = 1_025  # places in the words kept around the best one: 20 s of speech on both sides; odd, as is their number
PAUSE_IN_WORD = 2.0  # nats a row: a stop's silence belongs to the stop, a pause to the gap between words
ALIGN_SHARE = 2e-4  # probability a known sound keeps however deaf the ear is to it


def align(states: np.ndarray, words: Sequence[Sequence[str]]) -> Generator[float, None, tuple[list[Segment], float]]:
    """Find when known sounds are spoken: Viterbi through the sounds in their order, with pauses between words.

    Memory grows with the recording alone: places farther than BEAM/2 from the best one are dropped.

    Args:
        states: What `hear` returns.
        words: The classes of each word's sounds, in order; at least one sound.

    Yields:
        Share done, 0..1.

    Returns:
        Segments that cover the recording, and how well the words fit the sound: the probability of what they ask
        for over that of the ear's own first guess, 0..1, wherever either is speech. No segments and 0 when the words
        do not fit into the recording.
    """
    spelt = [[part for viseme in word for part in DIPHTHONGS.get(viseme, (viseme,))] for word in words]
    known = [viseme for word in spelt for viseme in word]
    num_rows, num_places = len(states), 2 * len(known) + 1
    if len(known) > num_rows:  # more sounds than can be said in the time
        return [], 0.0
    columns = np.full(num_places, SILENT)
    columns[1::2] = [STATES.index(viseme) for viseme in known]
    dear = np.zeros(num_places, np.float32)
    dear[::2] = PAUSE_IN_WORD
    dear[np.cumsum([0, *(2 * len(word) for word in spelt)])] = 0
    width = min(num_places, BEAM)
    steps = np.zeros((num_rows, width), np.uint8)  # places advanced: 0, 1, or 2 over a pause that is not made
    lows = np.zeros(num_rows, np.int64)
    score = np.full(width, -np.inf, np.float32)
    score[: min(2, width)] = 0
    low = 0
    entered = np.full(width, -np.inf, np.float32)  # best way in from the place before
    for row in range(num_rows):
        if row:
            wanted = low + max(0, int(score.argmax()) - width // 2) // 2 * 2  # even: sounds stay at odd places
            wanted = min(wanted, num_places - width)
            if wanted > low:
                score = np.concatenate([score[wanted - low :], np.full(wanted - low, -np.inf, np.float32)])
                low = wanted
            entered[1:] = score[:-1]
            steps[row] = entered > score
            skipped = np.flatnonzero(score[1:-2:2] > np.maximum(score, entered)[3::2])
            best = np.maximum(score, entered)
            best[2 * skipped + 3] = score[2 * skipped + 1]
            steps[row, 2 * skipped + 3] = 2
            score = best
        lows[row] = low
        shares = np.log(np.maximum(states[row].astype(np.float32), ALIGN_SHARE))
        score += shares[columns[low : low + width]] - dear[low : low + width]
        if row % 1000 == 999:
            yield row / num_rows
    place = low + int(score[-2:].argmax()) + width - 2  # the last sound, or the pause after it
    if low + width < num_places or not np.isfinite(score[-2:]).any():  # the beam never came to the end of the words
        return [], 0.0
    path = np.zeros(num_rows, np.int64)
    for row in range(num_rows - 1, -1, -1):
        path[row] = place
        place -= int(steps[row, place - lows[row]])
    given = columns[path]
    rows = np.flatnonzero((given != SILENT) | (states.argmax(1) != SILENT))
    best = states[rows].max(1).mean(dtype=np.float64)
    belief = float(states[rows, given[rows]].mean(dtype=np.float64) / best)
    return _segments(path, [STATES[columns[place]] for place in path]), belief


ROW_SHIFT = -0.005  # seconds from a row's time to where its sound begins, as the ear was trained


def _segments(path: np.ndarray, visemes: Sequence[str]) -> list[Segment]:
    """Runs of equal places as segments."""
    starts = np.flatnonzero(np.diff(path, prepend=-1))
    times = [max(0.0, float(start) * POSTERIOR_SECONDS + ROW_SHIFT) for start in starts]
    ends = [*times[1:], len(path) * POSTERIOR_SECONDS]
    return [Segment(visemes[int(start)], *when) for start, *when in zip(starts, times, ends, strict=True)]


def halves(segments: Iterable[Segment]) -> list[Segment]:
    """The same segments with every diphthong as the two vowels it glides between."""
    parts: list[Segment] = []
    for segment in segments:
        if segment.viseme in DIPHTHONGS:
            first, second = DIPHTHONGS[segment.viseme]
            middle = segment.start + FIRST_HALF * (segment.end - segment.start)
            parts += [
                replace(segment, viseme=first, end=middle),
                replace(segment, viseme=second, start=middle),
            ]
        else:
            parts.append(segment)
    return parts


OTHER_SOUNDS = {
    "ts": "SS",
    "dz": "SS",
    "tɕ": "CH",
    "dʑ": "CH",
    "tʂ": "CH",
    "dʐ": "CH",
    "ɜː": "RR",
    "ᵻ": "ih",
    "ɳ": "nn",
}
OTHER_VOWELS = "aeiouyæɐɑɒɔɘəɚɛɜɝɞɤɨɪɯɵɶøœʉʊʌʏᵊᵻ"  # a sound that begins with one of these opens the mouth


def class_of(sound: str) -> str:
    """The class of an IPA symbol as a synthesiser writes it: stress, length and tongue marks say nothing of the lips.

    A symbol nobody knows is taken for the known one it begins with, else for a tongue behind teeth.
    """
    bare = sound.strip("ˈˌ.ˑː")
    for written in (bare, "".join(letter for letter in bare if unicodedata.category(letter) not in ("Lm", "Mn"))):
        for length in range(len(written), 0, -1):
            if found := OTHER_SOUNDS.get(written[:length]) or CLASS_OF.get(written[:length]):
                return found
    return "ah" if bare[:1] in OTHER_VOWELS and bare else "DD"


def segments_of(marks: Iterable[Mark], seconds: float) -> list[Segment]:
    """A synthesiser's own times as segments that cover `seconds` without gap or overlap."""
    segments: list[Segment] = []
    now = 0.0
    for mark in marks:
        start, end = max(mark.start, now), min(mark.end, seconds)
        if end <= start:
            continue
        if start > now:
            segments.append(Segment("sil", now, start))
        segments.append(Segment("sil" if mark.sound == "sil" else class_of(mark.sound), start, end))
        now = end
    return [*segments, Segment("sil", now, seconds)] if now < seconds else segments


def classes_of(sounds: Iterable[str]) -> list[str]:
    """Classes of IPA symbols, in order; symbols without a class (stress, tones) are left out."""
    return [CLASS_OF[sound] for sound in sounds if sound in CLASS_OF]
