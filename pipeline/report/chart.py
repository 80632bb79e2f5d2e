"""A report as people read it: a table in Markdown, a drawing in SVG. Measures nothing.

The drawing brings its own ground, light or dark as its reader's screen is, so that it stands on any page.
"""

import html
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.draft.phonemes import CLASS_SOUNDS, VOWELS, Segment
from pipeline.report.report import ENVELOPE_RATE, FULL_RANGE, Figure, Report, least_sync
from pipeline.texts import say

WIDTH, HEIGHT = 960, 300  # of the drawing
LEFT, RIGHT = 72, 944  # where time begins and ends
VOICE, SOUNDS, MOUTH = (40, 100), (110, 136), (150, 256)  # lanes, top and bottom
MOST_COLUMNS = 872  # values drawn of one track: one for every unit of the drawing's width
LABEL_WIDTH = 6.5  # units that a letter needs
LEAST_SOUND = 2.0  # units of the median sound, below which whole stretches of speech are drawn instead
TICKS = (0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)  # seconds between two numbers of the time axis
MOST_TICKS = 12
LIPS = frozenset(("PP", "FF"))
LETTERS = {viseme: sounds.split()[0] for viseme, sounds in CLASS_SOUNDS.items()}  # one IPA letter stands for all alike
STYLE = """
.pp-report{--ground:#ffffff;--ink:#1f2937;--faint:#d1d5db;--voice:#64748b;--asked:#b45309;--seen:#1d4ed8;
--vowel:#fde68a;--other:#e5e7eb;--lips:#bfdbfe}
@media (prefers-color-scheme:dark){.pp-report{--ground:#111827;--ink:#e5e7eb;--faint:#374151;--voice:#94a3b8;
--asked:#fbbf24;--seen:#60a5fa;--vowel:#854d0e;--other:#374151;--lips:#1e40af}}
.pp-report text{font:12px system-ui,sans-serif;fill:var(--ink)}
.pp-report .letter{font-size:11px}
.pp-report .ground{fill:var(--ground)}.pp-report .line{stroke:var(--faint)}.pp-report .voice{fill:var(--voice)}
.pp-report .vowel{fill:var(--vowel)}.pp-report .other{fill:var(--other)}.pp-report .lips{fill:var(--lips)}
.pp-report path{fill:none;stroke-width:1.6;stroke-linejoin:round}
.pp-report .asked{stroke:var(--asked);stroke-dasharray:5 3}.pp-report .seen{stroke:var(--seen)}
""".replace("\n", "")


class Row(NamedTuple):
    """How one figure is shown: the end of its text's name, decimals, and what it is multiplied by."""

    name: str
    text: str
    decimals: int
    scale: float = 1.0


ROWS = (
    Row("sync_r", "Sync", 2),
    Row("lag_ms", "Lag", 0),
    Row("mouth_range_mouth_widths", "Range", 2),
    Row("identity_distance", "Identity", 2),
    Row("face_share", "FaceShare", 0, 100.0),
    Row("flicker_levels", "Flicker", 1),
    Row("blinks_per_minute", "Blinks", 0),
)


def table(report: Report, language: str) -> str:
    """The figures as a Markdown table.

    Args:
        report: The figures.
        language: "en" or "fr".
    """
    columns = say("ReportColumns", language).split("|")
    lines = [columns, ["---", *["---:"] * 3, "---"]]
    for row in ROWS:
        figure = report.figures[row.name]
        means = {"least": _number(least_sync(report.seconds), 2, language)} if row.name == "sync_r" else {}
        cells = [_number(value, row.decimals, language, row.scale) for value in _three(figure)]
        lines.append([say(f"Report{row.text}", language), *cells, say(f"Report{row.text}Means", language, **means)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def plot(report: Report, language: str) -> str:
    """Voice, sounds and mouth on one time axis, as one SVG of less than 200 kB.

    Args:
        report: What was measured.
        language: "en" or "fr".
    """
    title = say("ReportPlot", language)
    about = say("ReportPlotAbout", language, seconds=report.seconds, clip=report.clip)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="pp-report" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'lang="{language}" aria-label="{_safe(title)}">',
        f"<title>{_safe(title)}</title><desc>{_safe(about)}</desc><style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
    ]
    for lane, text in ((VOICE, "ReportLaneVoice"), (SOUNDS, "ReportLaneSounds"), (MOUTH, "ReportLaneMouth")):
        middle = sum(lane) / 2 + 4
        parts.append(f'<text x="{LEFT - 10}" y="{middle:g}" text-anchor="end">{_safe(say(text, language))}</text>')
    parts += [*_axis(report.seconds, language), *_voice(report), *_sounds(report), *_mouth(report), *_legend(language)]
    return "".join([*parts, "</svg>"])


def _axis(seconds: float, language: str) -> Iterator[str]:
    every = next((tick for tick in TICKS if seconds / tick <= MOST_TICKS), TICKS[-1])
    in_minutes = every >= 60
    for number in range(int(seconds / every + 1e-6) + 1):
        x, shown = _x(number * every, seconds), number * every / (60 if in_minutes else 1)
        yield f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{VOICE[0]}" y2="{MOUTH[1]}"/>'
        written = f"{shown:g}".replace(".", "," if language == "fr" else ".")
        yield f'<text x="{x:.1f}" y="{MOUTH[1] + 16}" text-anchor="middle">{written}</text>'
    unit = say("ReportMinutes" if in_minutes else "ReportSeconds", language)
    yield f'<text x="{RIGHT}" y="{HEIGHT - 10}" text-anchor="end">{_safe(unit)}</text>'


def _voice(report: Report) -> Iterator[str]:
    size = -(-len(report.envelope) // MOST_COLUMNS)
    peaks = np.pad(report.envelope, (0, -len(report.envelope) % size)).reshape(-1, size).max(axis=1)
    middle, half = sum(VOICE) / 2, (VOICE[1] - VOICE[0]) / 2
    xs = [_x((index + 0.5) * size / ENVELOPE_RATE, report.seconds) for index in range(len(peaks))]
    upper = [f"{x:.1f},{middle - half * peak:.1f}" for x, peak in zip(xs, peaks, strict=True)]
    lower = [f"{x:.1f},{middle + half * peak:.1f}" for x, peak in zip(xs, peaks, strict=True)]
    yield f'<polygon class="voice" points="{" ".join([*upper, *reversed(lower)])}"/>'


def _sounds(report: Report) -> Iterator[str]:
    sounds: list[Segment] = [one for one in report.segments if one.viseme != "sil" and one.start < report.seconds]
    if not sounds:
        return
    per_second = (RIGHT - LEFT) / max(report.seconds, 1e-6)
    if float(np.median([one.end - one.start for one in sounds])) * per_second < LEAST_SOUND:
        sounds = list(_stretches(sounds, 1 / per_second))
    top, height = SOUNDS[0], SOUNDS[1] - SOUNDS[0]
    for one in sounds:
        left, right = _x(one.start, report.seconds), _x(min(one.end, report.seconds), report.seconds)
        kind = "vowel" if one.viseme in VOWELS else "lips" if one.viseme in LIPS else "other"
        width = max(right - left - 0.4, 0.4)  # a slit between neighbours
        yield f'<rect class="{kind}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}"/>'
        letter = LETTERS.get(one.viseme, "")
        if letter and right - left >= LABEL_WIDTH * len(letter):
            x = (left + right) / 2
            yield f'<text class="letter" x="{x:.1f}" y="{top + 17}" text-anchor="middle">{_safe(letter)}</text>'


def _stretches(sounds: list[Segment], gap: float) -> Iterator[Segment]:
    """Speech without the sounds it is made of: one segment from pause to pause, pauses under `gap` seconds bridged."""
    start, end = sounds[0].start, sounds[0].end
    for one in sounds[1:]:
        if one.start - end > gap:
            yield Segment("", start, end)
            start = one.start
        end = one.end
    yield Segment("", start, end)


def _mouth(report: Report) -> Iterator[str]:
    asked = report.asked / max(float(np.percentile(report.asked, 98)), 1e-6)
    measured, seen = report.measured, report.measured[np.isfinite(report.measured)]
    if len(seen):
        low, high = np.percentile(seen, [2, 98])
        measured = (measured - low) / max(float(high - low), FULL_RANGE / 2)  # a mouth that hardly moves stays flat
    top, bottom = MOUTH
    yield f'<line class="line" x1="{LEFT}" x2="{RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    for kind, track in (("asked", asked), ("seen", measured)):
        size = -(-len(track) // MOST_COLUMNS)
        heights = np.pad(track, (0, -len(track) % size), constant_values=np.nan).reshape(-1, size)
        known = np.isfinite(heights)
        mean = np.where(known, heights, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        points = [
            (_x((index + 0.5) * size * report.seconds / len(track), report.seconds), float(value), bool(any_known))
            for index, (value, any_known) in enumerate(zip(mean, known.any(axis=1), strict=True))
        ]
        for is_known, run in itertools.groupby(points, key=lambda point: point[2]):
            if is_known:
                drawn = " ".join(
                    f"{x:.1f},{bottom - min(max(value, -0.02), 1.05) * (bottom - top):.1f}" for x, value, _ in run
                )
                yield f'<path class="{kind}" d="M{drawn}"/>'


def _legend(language: str) -> Iterator[str]:
    x = LEFT
    for kind, text in (("seen", "ReportMeasured"), ("asked", "ReportAsked")):
        name = say(text, language)
        yield f'<path class="{kind}" d="M{x},22 {x + 26},22"/><text x="{x + 32}" y="26">{_safe(name)}</text>'
        x += 60 + 7 * len(name)
    for kind, text in (("vowel", "ReportVowels"), ("lips", "ReportLips"), ("other", "ReportOtherSounds")):
        name = say(text, language)
        yield f'<rect class="{kind}" x="{x}" y="15" width="14" height="14"/>'
        yield f'<text x="{x + 20}" y="26">{_safe(name)}</text>'
        x += 40 + 7 * len(name)


def _x(seconds: float, whole: float) -> float:
    return LEFT + (RIGHT - LEFT) * seconds / max(whole, 1e-6)


def _three(figure: Figure) -> tuple[float | None, float | None, float | None]:
    return figure.clip, figure.still, figure.reference


def _number(value: float | None, decimals: int, language: str, scale: float = 1.0) -> str:
    if value is None:
        return "–"
    written = f"{round(value * scale, decimals) + 0.0:.{decimals}f}".replace("-", "−")
    return written.replace(".", ",") if language == "fr" else written


def _safe(text: str) -> str:
    """Text for an SVG: escaped, without what XML cannot hold (control characters, halves of characters)."""
    return html.escape(re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text))
