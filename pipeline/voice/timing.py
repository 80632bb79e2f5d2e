"""When each sound of a sentence is spoken, from the durations that Kokoro's kind of network gives its own symbols.

Knows the alphabet these networks read (misaki's) as IPA; runs no network.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.voice.spoken import Mark

# What the alphabet writes with one letter, in IPA. Source: hexgrad/misaki, EN_PHONES.md.
IPA = {"A": "eɪ", "I": "aɪ", "O": "oʊ", "Q": "oʊ", "W": "aʊ", "Y": "ɔɪ", "ʤ": "dʒ", "ʧ": "tʃ", "T": "ɾ", "ᵻ": "ɪ"}
IPA |= {"ʦ": "ts", "ʣ": "dz", "ʨ": "tɕ", "ʥ": "dʑ", "ꭧ": "tʂ"}
STRESS = "ˈˌ"  # their time belongs to the sound that follows
MODIFIERS = "ːʰʲ̃↓→↗↘"  # theirs to the sound before
PAUSES = ' ;:,.!?—…"()“”'
SHORTEST_PAUSE = 0.06  # seconds: a shorter one is the seam between two words, and no mouth closes for it
AUDIBLE_DB = 38.0  # under the loudest: what is fainter is the pause, not the sound beside it
LEAST_SOUND = 0.05  # seconds a sound beside a pause keeps
LEVEL_SECONDS = 0.005  # from one level to the next


def marks_from(
    symbols: Sequence[str], seconds: Sequence[float], waveform: np.ndarray, sample_rate: int, *, late: float
) -> tuple[Mark, ...]:
    """The sounds and pauses of an utterance that its network gave durations for.

    Args:
        symbols: What the network read, in order; "" or " " for the pads at both ends.
        seconds: How long it made each.
        waveform: (samples,) float32: the sound, which says where pauses truly begin and end.
        sample_rate: Hz.
        late: Seconds by which the durations run behind the sound, as measured.

    Returns:
        Marks without gap or overlap, from 0 to the waveform's end.
    """
    total = len(waveform) / sample_rate
    spans: list[tuple[str, float]] = []  # sound, or "" for a pause or seam, and where it begins
    begins, now = None, 0.0
    for symbol, length in zip(symbols, seconds, strict=True):
        if symbol in STRESS and symbol:
            begins = now if begins is None else begins
        elif symbol and symbol in MODIFIERS:
            if symbol == "̃" and spans and spans[-1][0]:
                spans[-1] = (spans[-1][0] + symbol, spans[-1][1])
        else:
            sound = "" if not symbol or symbol in PAUSES else IPA.get(symbol, symbol)
            if sound or not spans or spans[-1][0]:
                spans.append((sound, now if begins is None else begins))
            begins = None
        now += length
    edges = [min(max(begin - late, 0.0), total) for _, begin in spans[1:]]
    edges = [0.0, *edges, total]
    level = _level(waveform, sample_rate)
    pauses = [
        not sound and (number in (0, len(spans) - 1) or edges[number + 1] - edges[number] >= SHORTEST_PAUSE)
        for number, (sound, _) in enumerate(spans)
    ]
    for number, is_pause in enumerate(pauses):
        if not is_pause and not spans[number][0]:  # a seam: half to each neighbour
            edges[number] = edges[number + 1] = (edges[number] + edges[number + 1]) / 2
        if is_pause and number:
            edges[number] = _end_of_sound(level, edges[number - 1], edges[number])
        if is_pause and number + 1 < len(spans):
            edges[number + 1] = _start_of_sound(level, edges[number + 1], edges[number + 2])
    return tuple(
        Mark(sound or "sil", edges[number], edges[number + 1])
        for number, (sound, _) in enumerate(spans)
        if edges[number + 1] > edges[number] and (sound or pauses[number])
    )


def _level(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """(steps,) bool, one each LEVEL_SECONDS: is it loud enough to be a sound?"""
    step = round(LEVEL_SECONDS * sample_rate)
    power = np.square(waveform[: len(waveform) // step * step].reshape(-1, step)).mean(1)
    power = np.convolve(power, np.ones(4) / 4, "same")  # over 20 ms: two periods of a low voice
    return 10 * np.log10(power + 1e-9) > 10 * np.log10(power.max(initial=0) + 1e-9) - AUDIBLE_DB


def _end_of_sound(audible: np.ndarray, start: float, end: float) -> float:
    """Where the sound between `start` and `end` falls silent."""
    heard = np.flatnonzero(audible[int(start / LEVEL_SECONDS) : int(end / LEVEL_SECONDS)])
    last = start + max(LEAST_SOUND, float(heard[-1] + 1) * LEVEL_SECONDS if len(heard) else 0.0)
    return min(last, end)


def _start_of_sound(audible: np.ndarray, start: float, end: float) -> float:
    """Where the sound between `start` and `end` can be heard first."""
    heard = np.flatnonzero(audible[int(start / LEVEL_SECONDS) : int(end / LEVEL_SECONDS)])
    first = float(heard[0]) * LEVEL_SECONDS if len(heard) else 0.0
    return max(start, min(start + first, end - LEAST_SOUND))
