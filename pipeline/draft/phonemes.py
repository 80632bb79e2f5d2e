"""Which sounds are spoken when: posteriors of viseme classes, free recognition, and alignment of known words.

Knows sounds by the twenty classes a mouth can show; what the mouth does with them is left to speech.py.
"""

import itertools
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SAMPLE_RATE = 16_000  # Hz; what the recogniser was trained on
POSTERIOR_SECONDS = 0.02  # one row of posteriors; Source: hama asr.py, ASR_OUTPUT_FRAME_SAMPLES = 320
POSTERIOR_SAMPLES = int(POSTERIOR_SECONDS * SAMPLE_RATE)

CLASS_SOUNDS = {  # IPA symbols whose lips look alike; the first entry of a symbol counts
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
DIPHTHONGS = {"ai": ("aa", "ih"), "au": ("aa", "ou"), "ei": ("E", "ih"), "oi": ("oh", "ih"), "ow": ("oh", "ou")}
FIRST_HALF = 0.6  # of a diphthong's time belongs to the vowel it begins with
CLASSES = tuple(CLASS_SOUNDS)
BLANK = len(CLASSES)  # column of "no new sound here", after the classes
CLASS_OF = {sound: viseme for viseme, sounds in reversed(CLASS_SOUNDS.items()) for sound in sounds.split()}
VOWELS = frozenset(("aa", "ah", "E", "ih", "ee", "oh", "ou", "yy", *DIPHTHONGS))

PEAK_LATENESS = 0.03  # seconds a posterior peak comes after its sound's middle; measured, tests/quality/tracks.py
TYPICAL_SECONDS = {  # how long a sound of the class usually lasts; where two neighbours meet
    "aa": 0.12, "E": 0.11, "oh": 0.12, "ou": 0.10, "yy": 0.10, "ah": 0.07, "ih": 0.07, "ee": 0.07,
    "ai": 0.15, "au": 0.15, "ei": 0.13, "oi": 0.15, "ow": 0.14, "SS": 0.10, "CH": 0.10, "PP": 0.08, "FF": 0.08,
}  # fmt: skip
OTHER_SECONDS = 0.065  # the classes not listed

CHUNK_SECONDS = 12.0  # longest piece given to the recogniser: it drops what lies after 30 s, and slows with length
OVERLAP_SECONDS = 0.6  # heard on both sides of a cut and thrown away, so that no sound is met at an edge
SEEK_SECONDS = 4.0  # a cut is moved back to the quietest moment within this


@dataclass(frozen=True)
class Segment:
    """One sound, or a pause.

    Args:
        viseme: One of CLASSES, or "sil".
        start: Seconds.
        end: Seconds, after `start`.
    """

    viseme: str
    start: float
    end: float


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


def posteriors(waveform: np.ndarray) -> Generator[float, None, np.ndarray]:
    """Ask the recogniser, piece by piece; pieces are cut at quiet moments and overlap.

    Args:
        waveform: (samples,) float32, mono, 16 000 Hz.

    Yields:
        Share done, 0..1, after every piece.

    Returns:
        (frames, len(CLASSES) + 1) float16, a row every POSTERIOR_SECONDS: probability of each class, then of BLANK.

    Raises:
        RecogniserMissingError: it cannot run here.
    """
    model, columns = load_recogniser()
    num_frames = max(1, len(waveform) // POSTERIOR_SAMPLES)
    table = np.zeros((num_frames, len(CLASSES) + 1), np.float16)
    table[:, BLANK] = 1
    cuts = quiet_cuts(waveform)
    overlap = round(OVERLAP_SECONDS / POSTERIOR_SECONDS)
    for first, last in itertools.pairwise(cuts):
        start, stop = max(0, first - overlap), min(num_frames, last + overlap)
        piece = waveform[start * POSTERIOR_SAMPLES : stop * POSTERIOR_SAMPLES]
        feeds = {"waveform": piece[None], "waveform_lengths": np.array([len(piece)])}
        log_probs = model.session.run(["log_probs", "out_lengths"], feeds)[0][0]
        shares = np.zeros((len(log_probs), len(CLASSES) + 1), np.float32)
        np.add.at(shares.T, columns, np.exp(log_probs.T))
        shares = shares[first - start : last - start]
        table[first : first + len(shares)] = shares
        yield last / num_frames
    return table


def quiet_cuts(waveform: np.ndarray) -> list[int]:
    """Where to cut a long recording, in rows of posteriors, the first 0 and the last its end."""
    num_frames = max(1, len(waveform) // POSTERIOR_SAMPLES)
    power = np.square(waveform[: num_frames * POSTERIOR_SAMPLES].reshape(-1, min(POSTERIOR_SAMPLES, len(waveform))))
    loudness = np.convolve(power.mean(1), np.ones(9), "same")  # over 180 ms: a pause, not the gap inside a "p"
    longest, seek = round(CHUNK_SECONDS / POSTERIOR_SECONDS), round(SEEK_SECONDS / POSTERIOR_SECONDS)
    cuts = [0]
    while num_frames - cuts[-1] > longest:
        last = cuts[-1] + longest
        cuts.append(last - seek + int(np.argmin(loudness[last - seek : last])))
    return [*cuts, num_frames]


def recognise(table: np.ndarray) -> list[tuple[str, float]]:
    """Read the posteriors without knowing the words.

    Args:
        table: What `posteriors` returns.

    Returns:
        (class, seconds of its middle) of every sound heard, in order.
    """
    best = table.argmax(1)
    sounds: list[tuple[str, float]] = []
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(best)], strict=True):
        if best[start] != BLANK:
            weight = table[start:stop, best[start]].astype(np.float64)
            middle = float(start) + float((weight * np.arange(stop - start)).sum() / weight.sum())
            sounds.append((CLASSES[best[start]], middle * POSTERIOR_SECONDS - PEAK_LATENESS))
    return sounds


def segments(sounds: Sequence[tuple[str, float]], gate: np.ndarray, gate_seconds: float) -> list[Segment]:
    """Give sounds a beginning and an end.

    Args:
        sounds: (class, seconds of its middle), in order.
        gate: (frames,) bool: is somebody speaking?
        gate_seconds: Seconds from one value of `gate` to the next.

    Returns:
        Segments that cover the whole recording without gap or overlap, pauses as "sil".
    """
    length = len(gate) * gate_seconds
    edges: list[Segment] = []
    cursor = 0.0
    for number, (viseme, middle) in enumerate(sounds):
        width = TYPICAL_SECONDS.get(viseme, OTHER_SECONDS)
        start, end = middle - width / 2, middle + width / 2
        if number and middle - sounds[number - 1][1] < 1.1 * (width + _width(sounds[number - 1])):
            before = _width(sounds[number - 1])
            start = sounds[number - 1][1] + (middle - sounds[number - 1][1]) * before / (before + width)
        if number + 1 < len(sounds):
            after, there = _width(sounds[number + 1]), sounds[number + 1][1]
            if there - middle < 1.1 * (width + after):
                end = middle + (there - middle) * width / (width + after)
            elif viseme in VOWELS:
                end = min(there - after / 2, _closes(gate, end, gate_seconds))
        elif viseme in VOWELS:
            end = min(length, _closes(gate, end, gate_seconds))
        start, end = max(start, cursor), min(end, length)
        if end - start < 0.01:
            continue
        if start - cursor > 0.05:
            edges.append(Segment("sil", cursor, start))
        elif edges:
            edges[-1] = Segment(edges[-1].viseme, edges[-1].start, start)
        else:
            start = 0.0
        edges.append(Segment(viseme, start, end))
        cursor = end
    if length - cursor > 0:
        edges.append(Segment("sil", cursor, length))
    return edges


def halves(segments: Iterable[Segment]) -> list[Segment]:
    """The same segments with every diphthong as the two vowels it glides between."""
    parts: list[Segment] = []
    for segment in segments:
        if segment.viseme in DIPHTHONGS:
            first, second = DIPHTHONGS[segment.viseme]
            middle = segment.start + FIRST_HALF * (segment.end - segment.start)
            parts += [Segment(first, segment.start, middle), Segment(second, middle, segment.end)]
        else:
            parts.append(segment)
    return parts


def _width(sound: tuple[str, float]) -> float:
    return TYPICAL_SECONDS.get(sound[0], OTHER_SECONDS)


def _closes(gate: np.ndarray, seconds: float, gate_seconds: float) -> float:
    """When the gate next closes, at `seconds` or after."""
    first = int(seconds / gate_seconds)
    shut = np.flatnonzero(~gate[first:])
    return (first + int(shut[0])) * gate_seconds if len(shut) else len(gate) * gate_seconds


# --- known words ----------------------------------------------------------------------------------------------------

FLOOR = 2e-4  # least probability a class is given: a sound the recogniser missed may still be there
BEAM_STATES = 1_024  # alignment states kept around the best one: some 25 s of speech ahead and behind


def align(table: np.ndarray, classes: Sequence[str]) -> Generator[float, None, tuple[list[tuple[str, float]], float]]:
    """Find when known sounds are spoken: CTC Viterbi over classes with blanks between.

    Memory grows with the recording alone: states farther than BEAM_STATES/2 from the best one are dropped.

    Args:
        table: What `posteriors` returns, (frames, len(CLASSES) + 1).
        classes: The sounds, in order; at least one.

    Yields:
        Share done, 0..1.

    Returns:
        (class, seconds of its middle) of every sound, and the mean probability given to them, 0..1.
    """
    table = table.astype(np.float32)
    for glide, (first, _) in DIPHTHONGS.items():  # one speaker's "ow" is another's "oh"
        one, other = CLASSES.index(glide), CLASSES.index(first)
        table[:, one] = table[:, other] = table[:, one] + table[:, other]
    num_frames, num_states = len(table), 2 * len(classes) + 1
    columns = np.full(num_states, BLANK)
    columns[1::2] = [CLASSES.index(viseme) for viseme in classes]
    may_skip = np.zeros(num_states, bool)
    may_skip[3::2] = columns[3::2] != columns[1:-2:2]
    width = min(num_states, BEAM_STATES)
    steps = np.zeros((num_frames, width), np.uint8)  # 0 stay, 1 from the state before, 2 from the one before that
    lows = np.zeros(num_frames, np.int64)
    score = np.full(width, -np.inf, np.float32)
    score[: min(2, width)] = 0.0
    low = 0
    for frame in range(num_frames):
        if frame:
            wanted = low + int(score.argmax()) - width // 2
            wanted = min(max(wanted, low), num_states - width)
            if wanted > low:
                score = np.concatenate([score[wanted - low :], np.full(wanted - low, -np.inf, np.float32)])
                low = wanted
            one = np.concatenate([[-np.inf], score[:-1]])
            two = np.where(may_skip[low : low + width], np.concatenate([[-np.inf, -np.inf], score[:-2]]), -np.inf)
            choices = np.stack([score, one, two])
            steps[frame] = choices.argmax(0)
            score = choices.max(0)
        lows[frame] = low
        row = np.log(np.maximum(table[frame], FLOOR))
        score = (score + row[columns[low : low + width]]).astype(np.float32)
        if frame % 2000 == 1999:
            yield frame / num_frames
    ends = [state - low for state in (num_states - 1, num_states - 2) if 0 <= state - low < width]
    state = low + max(ends, key=lambda place: score[place])
    path = np.zeros(num_frames, np.int64)
    for frame in range(num_frames - 1, -1, -1):
        path[frame] = state
        state = max(0, state - int(steps[frame, state - lows[frame]]))
    sounds, shares = [], []
    places = np.flatnonzero(path % 2 == 1)
    for group in np.split(places, np.flatnonzero(np.diff(path[places])) + 1):
        if len(group):
            viseme = classes[path[group[0]] // 2]
            weight = np.maximum(table[group, CLASSES.index(viseme)].astype(np.float64), FLOOR)
            sounds.append((viseme, float((weight * group).sum() / weight.sum()) * POSTERIOR_SECONDS - PEAK_LATENESS))
            shares.append(float(weight.max()))
    return sounds, float(np.mean(shares)) if shares else 0.0


def classes_of(sounds: Iterable[str]) -> list[str]:
    """Classes of IPA symbols, in order; symbols without a class (stress, tones) are left out."""
    return [CLASS_OF[sound] for sound in sounds if sound in CLASS_OF]
