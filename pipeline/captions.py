"""Captions: lines of speech cut to what can be read, as .srt and .vtt files and drawn into frames; and the timing of
entered words against a recording. Decides neither what is said nor where the mouth is."""

import bisect
import itertools
import math
import re
import unicodedata
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.face import Face
from pipeline.files import write_text
from pipeline.generators import as_share
from pipeline.plan import Box, ClipPlan
from pipeline.texts import Notice
from pipeline.voice.spoken import Line

# What can be read. Sources: Netflix, Timed Text Style Guide (42 characters in a row, 17 of them a second for French, 20
# for English, two frames between captions); Carroll and Ivarsson 1998, Code of Good Subtitling Practice (two rows, one
# second at least); Díaz Cintas and Remael 2007, Audiovisual Translation: Subtitling (six seconds for two full rows).
ROW_WIDTH = 42  # characters; those of Chinese, Japanese and Korean count double
MAX_ROWS = 2
MIN_SECONDS, MAX_SECONDS = 1.0, 6.0  # on screen
READING_SPEED = 17.0  # characters a second; a caption stays longer than it is spoken for that, if there is a pause
GAP_SECONDS = 0.08  # two frames, by which one sees that a caption has changed
USUAL_SPEED = 15.0  # characters of speech a second, where the time is not known yet

# What a break costs, against each other; a caption more costs CAPTION_COST.
SENTENCE, CLAUSE, WORD, SMALL_WORD, INSIDE = 0.0, 3.0, 8.0, 12.0, 25.0
CAPTION_COST = 4.0
HURRY_COST = 40.0  # a second that is missing to MIN_SECONDS, or beyond MAX_SECONDS
UNEVEN_COST = 4.0  # rows or captions of which one is empty and one full
SMALL_WORD_LETTERS = 3  # "the", "of", "les", "à": they belong to the next word
TITLES = frozenset(["m", "mr", "mrs", "ms", "dr", "st", "mme", "mlle", "prof"])  # whose full stop ends no sentence
MAX_MARKS = 16  # characters set onto one letter: the longest emoji have ten, and hostile text thousands
NO_BREAK_SPACES = "\u00a0\u202f\u2007"
JOINER = "\u200d"
SPEAKERS = ("A", "B")  # as a script names them
DASH = "–\u00a0"  # begins what another speaker says


# --- cutting ----------------------------------------------------------------------------------------------------------


def cut(lines: Iterable[Line], *, row_width: int = ROW_WIDTH) -> tuple[Line, ...]:
    """Cut lines into captions that can be read, rows parted by a newline.

    Each has MAX_ROWS rows at most and ends with a sentence or a clause where possible. It stays MIN_SECONDS to
    MAX_SECONDS, and long enough for READING_SPEED, as far as the speech allows: captions of one speaker never overlap.

    Args:
        lines: Of one speaker, one after another; of two, also at once.
        row_width: Characters.

    Returns:
        In order of their starts, times in whole milliseconds.
    """
    captions: list[Line] = []
    cleaned = [replace(line, text=_clean(line.text)) for line in lines]
    cleaned = sorted((line for line in cleaned if line.text), key=lambda line: line.start)
    for speaker in sorted({line.speaker for line in cleaned}):
        for line in _joined([line for line in cleaned if line.speaker == speaker], row_width):
            parts = _split(line.text, line.end - line.start, row_width)
            shares = np.cumsum([0, *(_width(part) for part in parts)]) / max(sum(map(_width, parts)), 1)
            times = line.start + shares * (line.end - line.start)
            captions += [
                Line("\n".join(_rows(part, row_width)), float(start), float(end), speaker)
                for part, start, end in zip(parts, times, times[1:], strict=False)
            ]
    return _readable(sorted(captions, key=lambda line: line.start))


def one_at_a_time(captions: Sequence[Line]) -> tuple[Line, ...]:
    """What is to be seen from when to when, where only one text can be shown: captions that overlap, below each other.

    Args:
        captions: As `cut` gives them.
    """
    captions = _dashed(captions)
    times = sorted({time for line in captions for time in (line.start, line.end)})
    shown: list[Line] = []
    active: list[Line] = []
    waiting = list(reversed(captions))
    for start, end in itertools.pairwise(times):
        active = [line for line in active if line.end > start]
        while waiting and waiting[-1].start <= start:
            active.append(waiting.pop())
        if active:
            shown.append(Line("\n".join(line.text for line in active), start, end))
    return tuple(shown)


def _clean(text: str) -> str:
    """The text in one row: no control characters, no spaces in a row, none that could break before French marks."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = "".join(one for one in text if one.isspace() or unicodedata.category(one) != "Cc")
    text = re.sub(r"\s+", lambda run: next((one for one in run[0] if one in NO_BREAK_SPACES), " "), text)
    text = re.sub(r"(?<=\S) (?=[:;!?»%])|(?<=«) ", "\u00a0", text).strip(f" {NO_BREAK_SPACES}")
    return text if any(unicodedata.category(one) not in ("Cf", "Zs") for one in text) else ""


def _width(text: str) -> int:
    """In characters of a row: 2 for the wide ones of Asia and emoji, 0 for accents and signs nobody sees."""
    return sum(0 if _is_mark(one) or unicodedata.category(one) == "Cf" else 1 + _is_wide(one) for one in text)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _is_mark(character: str) -> bool:
    """Is it written onto the character before: an accent, a joiner, the colour of a hand?"""
    return unicodedata.category(character)[0] == "M" or character == JOINER or "\U0001f3fb" <= character <= "\U0001f3ff"


def _joined(lines: Sequence[Line], row_width: int) -> list[Line]:
    """The lines of one speaker; one too short to be read goes together with the next, if both fit into a caption."""
    joined: list[Line] = []
    for line in lines:
        if joined and line.start - joined[-1].start < MIN_SECONDS:
            both = f"{joined[-1].text} {line.text}"
            num_rows = _num_rows([_widths(piece) for piece in _pieces(both, row_width)], row_width)
            if line.end - joined[-1].start <= MAX_SECONDS and num_rows <= MAX_ROWS:
                joined[-1] = replace(joined[-1], text=both, end=max(line.end, joined[-1].end))
                continue
        joined.append(line)
    return joined


def _pieces(text: str, row_width: int) -> list[str]:
    """The text in parts between which it may be broken, each with the spaces after it."""
    pieces: list[str] = []
    for word in re.findall(r"[^ ]+ ?", text):
        if not any(map(_is_wide, word)) and _width(word.rstrip()) <= row_width:
            pieces.append(word)
            continue
        piece = ""
        for letter in _letters(word):
            beside_wide = piece and (_is_wide(piece[-1]) or _is_wide(letter[0]))
            glued = piece and (
                unicodedata.category(letter[0]) in ("Pe", "Pf", "Po", "Zs")
                or unicodedata.category(piece[-1]) in ("Ps", "Pi")
            )
            if piece and (_width(piece + letter) > row_width or (beside_wide and not glued)):
                pieces.append(piece)
                piece = ""
            piece += letter
        pieces.append(piece)
    return pieces


def _letters(text: str) -> list[str]:
    """Characters with what is written onto them; emoji joined into one and the two halves of a flag stay together."""
    letters: list[str] = []
    for one in text:
        before = letters[-1] if letters else ""
        is_flag = len(before) == 1 and all("\U0001f1e6" <= half <= "\U0001f1ff" for half in (before, one))
        if before and len(before) < MAX_MARKS and (_is_mark(one) or before[-1] == JOINER or is_flag):
            letters[-1] += one
        else:
            letters.append(one)
    return letters


def _sentences(text: str) -> list[str]:
    """The sentences of a text in one row."""
    pieces = _pieces(text, ROW_WIDTH)
    ends = [place for place in range(1, len(pieces) + 1) if _cost_of_break(pieces, place) == SENTENCE]
    return ["".join(pieces[start:end]).strip() for start, end in itertools.pairwise([0, *ends])]


def _split(text: str, seconds: float, row_width: int) -> list[str]:
    """Cut a text into captions where it costs least (dynamic programming).

    Args:
        text: In one row.
        seconds: In which it is spoken.
        row_width: Characters.
    """
    pieces = _pieces(text, row_width)
    widths = [_widths(piece) for piece in pieces]
    pace = seconds / max(sum(width for width, _ in widths), 1)
    best = [(0.0, 0)]  # cost of captions up to each piece, and where the last of them begins
    for end in range(1, len(pieces) + 1):
        ways = []
        width = 0
        for start in range(end - 1, -1, -1):
            width += widths[start][0]
            if end - start > 1 and (
                width > MAX_ROWS * (row_width + 1) or _num_rows(widths[start:end], row_width) > MAX_ROWS
            ):
                break
            shown = width * pace
            hurry = max(MIN_SECONDS - shown, shown - MAX_SECONDS, 0.0)
            empty = 1 - width / (MAX_ROWS * row_width)
            cost = CAPTION_COST + HURRY_COST * hurry + UNEVEN_COST * empty**2 + _cost_of_break(pieces, end)
            ways.append((best[start][0] + cost, start))
        best.append(min(ways))
    parts: list[str] = []
    end = len(pieces)
    while end:
        start = best[end][1]
        parts.append("".join(pieces[start:end]).strip())
        end = start
    return [part for part in reversed(parts) if part]


def _cost_of_break(pieces: Sequence[str], place: int) -> float:
    """How much a break before the piece number `place` disturbs reading."""
    if place == len(pieces):
        return SENTENCE
    before = pieces[place - 1].rstrip(" \"'”’»)]" + NO_BREAK_SPACES)
    word = before.rstrip(".,;:!?…—–").casefold()
    if not before or (before[-1] in ".!?…。！？؟" and word not in TITLES):
        return SENTENCE
    if before[-1] in ",;:—–،、，；：":
        return CLAUSE
    if not pieces[place - 1].endswith(" ") and not _is_wide(before[-1]):
        return INSIDE
    return SMALL_WORD if len(word) <= SMALL_WORD_LETTERS and not _is_wide(before[-1]) else WORD


def _widths(piece: str) -> tuple[int, int]:
    """Width of a piece, and that at the end of a row, where the spaces after it do not count."""
    return _width(piece), _width(piece.rstrip())


def _num_rows(widths: Iterable[tuple[int, int]], row_width: int) -> int:
    """Rows that pieces of these widths take when each row is filled as far as it goes."""
    num_rows, filled = 1, 0
    for width, at_end in widths:
        if filled and filled + at_end > row_width:
            num_rows, filled = num_rows + 1, 0
        filled += width
    return num_rows


def _rows(text: str, row_width: int) -> list[str]:
    """One or two rows, broken where it costs least and they come out alike."""
    if _width(text) <= row_width:
        return [text]
    pieces = _pieces(text, row_width)
    ways = []
    for place in range(1, len(pieces)):
        first, second = "".join(pieces[:place]).strip(), "".join(pieces[place:]).strip()
        widths = _width(first), _width(second)
        if first and second and max(widths) <= row_width:
            uneven = abs(widths[0] - widths[1]) / row_width
            ways.append((_cost_of_break(pieces, place) + 4 * UNEVEN_COST * uneven, [first, second]))
    return min(ways)[1] if ways else [text]


def _readable(captions: Sequence[Line]) -> tuple[Line, ...]:
    """The captions, in order, each shown as long as reading takes and the next one allows."""
    shown: list[Line] = []
    for number, line in enumerate(captions):
        later = captions[number + 1 :]
        own = next((other.start for other in later if other.speaker == line.speaker), np.inf)
        other = later[0].start if later else np.inf
        wanted = line.start + max(MIN_SECONDS, _width(line.text) / READING_SPEED)
        end = max(line.end, min(wanted, other - GAP_SECONDS))
        end = min(max(end, min(line.start + MIN_SECONDS, own)), line.start + MAX_SECONDS, own)
        shown.append(replace(line, end=end))
    whole: list[Line] = []
    free: dict[int, int] = {}  # milliseconds from which each speaker's next caption can be shown
    for line in shown:
        start = max(round(line.start * 1000), free.get(line.speaker, 0))
        free[line.speaker] = max(round(line.end * 1000), start + 1)
        whole.append(replace(line, start=start / 1000, end=free[line.speaker] / 1000))
    return tuple(sorted(whole, key=lambda line: line.start))


def _dashed(captions: Sequence[Line]) -> list[Line]:
    """The captions of two speakers with a dash wherever the other one begins; those of one as they are."""
    if len({line.speaker for line in captions}) < 2:
        return list(captions)
    before = [None, *(line.speaker for line in captions)]
    return [
        replace(line, text=DASH + line.text) if line.speaker != last else line
        for line, last in zip(captions, before, strict=False)
    ]


CHAPTER_SECONDS = 60.0  # at least, of a chapter; a clip that lasts less needs none
TITLE_WIDTH = 40  # characters of a chapter's title


def chapters(lines: Iterable[Line], seconds: float) -> tuple[tuple[str, float, float], ...]:
    """Chapter marks for a long clip: every CHAPTER_SECONDS or so, named for the words that begin there.

    Args:
        lines: What is said when.
        seconds: Length of the clip.

    Returns:
        Titles, starts and ends in seconds, without gaps; none for a clip that is short or has no lines.
    """
    marks: list[tuple[str, float]] = []
    for line in sorted(lines, key=lambda line: line.start):
        title = _clean(line.text)
        is_due = not marks or (
            line.start - marks[-1][1] >= CHAPTER_SECONDS and seconds - line.start >= CHAPTER_SECONDS / 2
        )
        if title and is_due:
            pieces = _pieces(title, TITLE_WIDTH)
            place = next(
                place
                for place in range(len(pieces), 0, -1)
                if place == 1 or _width("".join(pieces[:place]).rstrip()) <= TITLE_WIDTH
            )
            title = "".join(pieces[:place]).rstrip() + ("…" if place < len(pieces) else "")
            marks.append((title, line.start if marks else 0.0))
    if seconds <= CHAPTER_SECONDS:
        return ()
    ends = [*(start for _, start in marks[1:]), seconds]
    return tuple((title, start, end) for (title, start), end in zip(marks, ends, strict=False))


# --- files ------------------------------------------------------------------------------------------------------------

# SubRip has no way to write its own signs: they are replaced by ones that look like them, so that no text becomes a
# tag, a style or a time.
SRT_SIGNS = str.maketrans("<>{}", "‹›()")
VTT_SIGNS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def write_srt(lines: Iterable[Line], path: Path) -> None:
    """Write captions as SubRip, UTF-8; of two speakers, a dash marks the change.

    Args:
        lines: What is said when; they are cut.
        path: Replaced when the new file is whole.

    Raises:
        OutputNotWritable, DiskFull.
    """
    blocks = [
        f"{number}\n{_time(line.start, ',')} --> {_time(line.end, ',')}\n{line.text.translate(SRT_SIGNS)}\n"
        for number, line in enumerate(_dashed(cut(lines)), start=1)
    ]
    write_text(Path(path), "\n".join(blocks))


def write_vtt(lines: Iterable[Line], path: Path, *, names: Sequence[str] = SPEAKERS) -> None:
    """Write captions as WebVTT; of two speakers, each cue names its own, and a dash marks the change for all to see.

    Args:
        lines: What is said when; they are cut.
        path: Replaced when the new file is whole.
        names: Of the speakers.

    Raises:
        OutputNotWritable, DiskFull.
    """
    captions = _dashed(cut(lines))
    voices = [f"<v {_clean(name).translate(VTT_SIGNS)}>" for name in names]
    if len({line.speaker for line in captions}) < 2:
        voices = ["" for _ in names]
    blocks = [
        f"{_time(line.start, '.')} --> {_time(line.end, '.')}\n{voices[line.speaker]}{line.text.translate(VTT_SIGNS)}\n"
        for line in captions
    ]
    write_text(Path(path), "\n".join(["WEBVTT\n", *blocks]))


def write(lines: Iterable[Line], clip: Path) -> tuple[Path, ...]:
    """Write both files beside a clip, named as it is.

    Raises:
        OutputNotWritable, DiskFull.
    """
    written = clip.with_suffix(".srt"), clip.with_suffix(".vtt")
    for path, writer in zip(written, (write_srt, write_vtt), strict=True):
        writer(lines, path)
    return written


def _time(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and milliseconds."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"


# --- when entered words are spoken ------------------------------------------------------------------------------------


def time_words(
    waveform: np.ndarray, text: str, language: str
) -> Generator[float, None, tuple[tuple[Line, ...], tuple[Notice, ...]]]:
    """Find when the sentences and clauses of a text are spoken in a recording.

    Args:
        waveform: (samples,) float32, mono, 16 000 Hz; 0.4 s to 10 minutes, music already taken out.
        text: What is said, as it was written.
        language: Of `text`.

    Yields:
        Share done, 0..1.

    Returns:
        Lines in order, and notices: where the words do not fit the sound or cannot be pronounced, the lines are spread
        over what is loud enough to be speech, by their lengths, and a notice says so.
    """
    from pipeline.draft import speech

    phrases = [
        phrase
        for paragraph in re.split(r"[\n\r\u2028\u2029]+", text)
        for sentence in _sentences(_clean(paragraph))
        for phrase in _split(sentence, _width(sentence) / USUAL_SPEED, ROW_WIDTH)
    ]
    if not phrases:
        return (), ()
    waveform = np.asarray(waveform, np.float32)
    lines, sound = yield from _aligned(waveform, phrases, language)
    if lines:
        return lines, ()
    steps = np.flatnonzero(speech.energy_gate(sound))
    if not len(steps):
        steps = np.arange(max(len(sound.level), 1))
    widths = np.array([max(_width(phrase), 1) for phrase in phrases])
    edges = np.concatenate([[0], np.cumsum(widths) / widths.sum()]) * len(steps)
    first = steps[np.minimum(edges[:-1], len(steps) - 1).astype(int)]
    last = steps[np.clip(np.ceil(edges[1:]).astype(int) - 1, 0, len(steps) - 1)] + 1
    starts = np.maximum.accumulate(first * speech.STEP)
    ends = np.minimum(last * speech.STEP, [*starts[1:], np.inf])
    spread = tuple(
        Line(phrase, float(start), float(end)) for phrase, start, end in zip(phrases, starts, ends, strict=True)
    )
    return spread, (Notice("CaptionsEstimated"),)


def _aligned(
    waveform: np.ndarray, phrases: Sequence[str], language: str
) -> Generator[float, None, tuple[tuple[Line, ...], Any]]:
    """Lines of the phrases by the sounds of their words, none where these do not fit; and the sound as measured."""
    from pipeline.draft import phonemes, pronounce, speech
    from pipeline.request import TEXT_LANGUAGES

    try:
        table = yield from as_share(0.0, 0.7, phonemes.posteriors(waveform))
    except phonemes.RecogniserMissingError:
        table = None
    sound = yield from as_share(0.7, 0.8, speech.analyse(waveform))
    talking = speech.energy_gate(sound).sum() * speech.STEP
    unheard = table is None or not talking or phonemes.num_emitted(table) < speech.LEAST_RATE * talking
    if unheard or language not in TEXT_LANGUAGES:
        return (), sound  # no speech, or in words that cannot be pronounced
    states = yield from as_share(0.8, 0.85, phonemes.hear(sound.bands[: phonemes.rows_of(waveform)], table))
    try:
        said = yield from as_share(0.85, 0.9, pronounce.sounds_of("\n".join(phrases), language))
    except (ImportError, OSError, RuntimeError):  # English without hama
        return (), sound
    words = [phonemes.classes_of(word) for word in said]
    if not any(words):
        return (), sound
    segments, belief = yield from as_share(0.9, 1.0, phonemes.align(states, words))
    if not belief >= speech.LEAST_BELIEF:  # nor is it a number where nothing is heard
        return (), sound

    counts = np.cumsum([0, *(len(pronounce.words_of(phrase, language)) for phrase in phrases)])
    # where a phrase ends between the digits of a number, the words of the whole are others than those of its parts
    edges = np.round(counts * len(words) / max(counts[-1], 1)).astype(int)
    lengths = [sum(len(phonemes.DIPHTHONGS.get(viseme, (viseme,))) for viseme in word) for word in words]
    places = np.cumsum([0, *lengths])[edges]  # of each phrase's first sound among all
    voiced = [segment for segment in segments if segment.viseme != "sil"]
    lines: list[Line] = []
    unsaid = ""  # words without a sound, as "…" or an emoji, go with the ones before or after
    for phrase, start, end in zip(phrases, places, places[1:], strict=False):
        if end > start:
            lines.append(Line(f"{unsaid} {phrase}".strip(), voiced[start].start, voiced[end - 1].end))
            unsaid = ""
        elif lines:
            lines[-1] = replace(lines[-1], text=f"{lines[-1].text} {phrase}")
        else:
            unsaid = f"{unsaid} {phrase}"
    return tuple(lines), sound


# --- drawn into frames ------------------------------------------------------------------------------------------------

FONT, FONT_WEIGHT = "sans", 500  # the font OpenCV brings (Rubik): Latin, Greek, Cyrillic, Chinese, Japanese, Korean
LETTER_SHARE = 0.05  # height of letters in short sides of the frame: 26 pixels at 512
LETTER_WIDTH = 0.53  # of its height, as measured on English and French
SMALLER = (1.0, 0.85, 0.7, 0.6)  # sizes tried, the usual one first; smaller ones cannot be read on a telephone
MIN_LETTER_PX, LEAST_ROW_WIDTH = 12, 8  # pixels; characters
SAFE_SHARE = 0.05  # of each side, left free. Source: EBU R 95, graphics safe area
ROW_STEP, PADDING = 1.25, 0.35  # from row to row, and round the text, in heights of letters
BOX_OPACITY = 0.65  # of the black box: over pure white, white letters then have a contrast of 7:1 (WCAG's AAA)
MOST_TOLD = 12  # letters named in a notice

LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)  # outer, of a Face
MOUTH_MARGIN, JAW_DROP = 0.15, 0.35  # of the mouth's width: round it, and how far the lower lip goes down
EYES_FROM, EYES_TO = 0.12, 0.45  # of the height of a Face's box: from the brows to below the eyes
CLEARANCE = 0.015  # of the short side, between a caption and what it must not cover
# Height of the strip at the bottom where players draw captions of files, in short sides of the frame: four rows, as two
# of ROW_WIDTH take in a square, of letters that are 0.05 tall in Chromium, 1.2 from row to row, and a margin below.
PLAYER_SHARE = 0.3


def keep_clear(faces: Iterable[Face], plan: ClipPlan) -> list[Box]:
    """Where no caption may be: the mouths, open and moving, then the faces.

    Args:
        faces: In pixels of the picture.
        plan: Of the clip.

    Returns:
        In pixels of the frame.
    """
    scale = plan.width / plan.crop.width

    def in_frame(left: float, top: float, width: float, height: float) -> Box:
        return Box((left - plan.crop.left) * scale, (top - plan.crop.top) * scale, width * scale, height * scale)

    mouths, whole = [], []
    for face in faces:
        low, high = face.landmarks[LIPS, :2].min(0).astype(float), face.landmarks[LIPS, :2].max(0).astype(float)
        wide = high[0] - low[0]
        margin = MOUTH_MARGIN * wide
        left, top = low - margin
        mouths.append(in_frame(left, top, wide + 2 * margin, high[1] - low[1] + 2 * margin + JAW_DROP * wide))
        whole.append(in_frame(face.box.left, face.box.top, face.box.width, face.box.height))
    return mouths + whole


def where_players_draw(plan: ClipPlan) -> Box:
    """The strip in which players show captions that come as a file, pixels of the frame."""
    height = PLAYER_SHARE * min(plan.height, plan.width)
    return Box(0, plan.height - height, plan.width, height)


@dataclass(frozen=True)
class _Layout:
    """Where captions go and how large.

    Args:
        area: With room for the tallest one, in whole pixels of the frame.
        hangs: Lower ones share its upper edge, else its lower one.
        letter_px: Height of the letters.
        captions: One at a time, cut to the area's width.
    """

    area: Box
    hangs: bool
    letter_px: int
    captions: tuple[Line, ...]


class Burner:
    """Draws captions into frames: white letters on a dark box, at the bottom or where no mouth is.

    Args:
        lines: What is said when; they are cut to the frame's width.
        plan: Of the clip.
        keep_clear: What captions must not cover, pixels of the frame. Where there is no other room, a box that holds
            the middle of another gives way down to its eyes: a face, not a mouth.

    Attributes:
        notices: What could not be drawn.
        area: Where captions are drawn; None when nowhere.
    """

    def __init__(self, lines: Iterable[Line], plan: ClipPlan, keep_clear: Sequence[Box] = ()) -> None:
        self._plan, self._font = plan, cv2.FontFace(FONT)
        lines, lacking = self._drawable(lines)
        notices = []
        if lacking:
            notices.append(Notice("CaptionsLackLetters", {"letters": " ".join(sorted(lacking)[:MOST_TOLD])}))
        self._layout = _lay_out(lines, plan, keep_clear) if lines else None
        if lines and self._layout is None:
            notices.append(Notice("CaptionsWithoutRoom"))
        self.notices = tuple(notices)
        self.area = self._layout.area if self._layout else None
        self._starts = [line.start for line in self._layout.captions] if self._layout else []
        self._strip: tuple[int, np.ndarray, np.ndarray, int, int] | None = None

    def draw(self, frame: np.ndarray, number: int) -> np.ndarray:
        """Draw what is said at a frame into it.

        Args:
            frame: (plan.height, plan.width, 3) uint8, RGB, C-contiguous; drawn into.
            number: Of the frame in the clip, from 0 on.

        Returns:
            The same array.
        """
        time = (number + 0.5) / self._plan.fps
        index = bisect.bisect_right(self._starts, time) - 1
        if self._layout is None or index < 0 or time >= self._layout.captions[index].end:
            return frame
        if self._strip is None or self._strip[0] != index:
            self._strip = (index, *self._render(self._layout, self._layout.captions[index].text.split("\n")))
        _, kept, added, top, left = self._strip
        part = frame[top : top + len(kept), left : left + kept.shape[1]]
        part[:] = cv2.add(cv2.multiply(part, kept, scale=1 / 255), added)
        return frame

    def _drawable(self, lines: Iterable[Line]) -> tuple[list[Line], set[str]]:
        """The lines in letters the font has, and those it lacks."""
        canvas = np.zeros((64, 64), np.uint8)

        def drawn(letter: str) -> bytes:
            canvas[:] = 0
            cv2.putText(canvas, letter, (8, 44), (255,), self._font, 32, FONT_WEIGHT)
            return canvas.tobytes()

        unknown = drawn("\ufffe")  # what is drawn for a letter that is not there
        has: dict[str, bool] = {" ": True, "?": True}
        kept, lacking = [], set()
        for line in lines:
            text = unicodedata.normalize("NFC", _clean(line.text))
            text = text.translate({0x202F: "\u00a0", 0x2007: "\u00a0", 0x2011: "-", 0xFE0F: None})
            text = "".join(one for one in text if unicodedata.category(one) != "Cf")
            for one in set(text) - has.keys():
                # OpenCV sets no letters from right to left, nor accents onto others
                writes = unicodedata.bidirectional(one) not in ("R", "AL") and not _is_mark(one)
                has[one] = writes and (one.isspace() or drawn(one) != unknown)
            lacking |= {one for one in text if not has[one]}
            if text := _clean("".join(one for one in text if has[one])):
                kept.append(replace(line, text=text))
        return kept, lacking

    def _render(self, layout: _Layout, rows: Sequence[str]) -> tuple[np.ndarray, np.ndarray, int, int]:
        """A caption as what is kept of the frame under it and what is added, (height, width, 3) uint8; top and left."""
        area, size, padding = layout.area, layout.letter_px, round(PADDING * layout.letter_px)
        widths = [self._row_px(row, size) for row in rows]
        room = int(area.width) - 2 * padding
        if max(widths) > room:  # wide letters
            size = max(int(size * room / max(widths)), 1)
            widths = [min(self._row_px(row, size), room) for row in rows]
        height, width = _height_of(len(rows), layout.letter_px), max(widths) + 2 * padding
        letters = np.zeros((height, width), np.uint8)
        for number, (row, row_px) in enumerate(zip(rows, widths, strict=True)):
            baseline = padding + round(ROW_STEP * layout.letter_px * number) + layout.letter_px
            cv2.putText(letters, row, ((width - row_px) // 2, baseline), (255,), self._font, size, FONT_WEIGHT)
        box: np.ndarray = np.zeros((height, width), np.uint8)
        box[padding:-padding, padding:-padding] = 255
        box = cv2.dilate(box, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * padding + 1, 2 * padding + 1)))
        kept = np.round(255 * (1 - BOX_OPACITY * (box / 255)) * (1 - letters / 255)).astype(np.uint8)
        top = int(area.top if layout.hangs else area.top + area.height - height)
        left = (self._plan.width - width) // 2
        return cv2.merge([kept] * 3), cv2.merge([letters] * 3), top, left

    def _row_px(self, row: str, size: int) -> int:
        return int(cv2.getTextSize((0, 0), row, (0, 0), self._font, size, FONT_WEIGHT)[2])


def _lay_out(lines: Sequence[Line], plan: ClipPlan, boxes: Sequence[Box]) -> _Layout | None:
    """Choose size and place: the bottom, the top, then any other rows, in which the tallest caption has room."""
    short = min(plan.height, plan.width)
    left = math.ceil(plan.width * SAFE_SHARE)
    width, margin = plan.width - 2 * left, plan.height * SAFE_SHARE
    for keep, share in itertools.product(_levels(boxes), SMALLER):
        letter_px = max(round(LETTER_SHARE * short * share), MIN_LETTER_PX)
        row_width = int((width - 2 * PADDING * letter_px) / (LETTER_WIDTH * letter_px))
        captions = one_at_a_time(cut(lines, row_width=min(max(row_width, LEAST_ROW_WIDTH), ROW_WIDTH)))
        height = _height_of(max(line.text.count("\n") + 1 for line in captions), letter_px)
        rooms = _free_rows(keep, margin, plan.height - margin, CLEARANCE * short, plan.width)
        rooms = [(top, bottom) for top, bottom in rooms if bottom - top >= height + 1]
        if rooms:
            at_bottom = [room for room in rooms if room[1] == plan.height - margin]
            at_top = [room for room in rooms if room[0] == margin]
            top, bottom = (at_bottom or at_top or rooms)[0]
            hangs = not at_bottom and bool(at_top)
            area = Box(left, math.ceil(top) if hangs else int(bottom) - height, width, height)
            return _Layout(area, hangs, letter_px, captions)
    return None


def _height_of(num_rows: int, letter_px: int) -> int:
    """Height of a caption's box, pixels."""
    return round((ROW_STEP * num_rows + 2 * PADDING) * letter_px)


def _levels(boxes: Sequence[Box]) -> Iterable[list[Box]]:
    """What to keep clear, then the same with every face reduced to its eyes."""
    yield list(boxes)
    faces = [one for one in boxes if any(other is not one and _holds(one, other) for other in boxes)]
    if faces:
        eyes = [
            Box(one.left, one.top + EYES_FROM * one.height, one.width, (EYES_TO - EYES_FROM) * one.height)
            for one in faces
        ]
        yield [one for one in boxes if one not in faces] + eyes


def _holds(one: Box, other: Box) -> bool:
    """Is the middle of the other, smaller box inside this one?"""
    x, y = other.left + other.width / 2, other.top + other.height / 2
    return (
        one.left <= x <= one.left + one.width
        and one.top <= y <= one.top + one.height
        and one.width * one.height > other.width * other.height
    )


def _free_rows(
    boxes: Iterable[Box], top: float, bottom: float, clearance: float, frame_width: float
) -> list[tuple[float, float]]:
    """Stretches of rows between `top` and `bottom` in which no box is, the longest first."""
    rooms = []
    for box in sorted(boxes, key=lambda box: box.top):
        if box.left < frame_width and box.left + box.width > 0:
            if box.top - clearance > top:
                rooms.append((top, min(box.top - clearance, bottom)))
            top = max(top, box.top + box.height + clearance)
    rooms.append((top, bottom))
    return sorted(rooms, key=lambda room: room[0] - room[1])
