"""`python -m tests.quality`: render, measure and print every table, and write a contact sheet of every clip.

python -m tests.quality                  everything, about 10 minutes on 2 free cores
python -m tests.quality --only officer   clips whose name contains a word
python -m tests.quality --size 768       at another size
python -m tests.quality --record         everything, and the tables into tests/quality/README.md
"""

import argparse
import os
import platform
import time
from math import isnan, nan
from pathlib import Path

import cv2

from tests.quality.clips import Voice, known_voices, listen_to_loudness_only, make_take, real_voices
from tests.quality.measures import jitter
from tests.quality.portraits import Portrait, portraits
from tests.quality.report import GATES, LIP_GATES, PICTURE_GATES, Row, lips, lips_by_ear, picture
from tests.quality.sheets import write_sheet
from tests.quality.truth import truth_track

SHEETS = Path("outputs/quality")
README = Path(__file__).with_name("README.md")
MARKS = ("<!-- tables: python -m tests.quality --record -->", "<!-- end of the tables -->")
LIP_COLUMNS = [*LIP_GATES, "snap mw"]
PICTURE_COLUMNS = [*PICTURE_GATES, "calm px", "bg noise", "face SSIM", "gaze/min", "gaze ew", "shimmer"]
EAR_COLUMNS = ["r by ear", "lag ms", "P95 mw", "pauses", "flutter", "paused s"]


def measure(
    portrait: Portrait, voice: Voice, *, size: int, with_text: bool = False, control: str = "", sheet: bool = True
) -> Row:
    """Make one clip, write its sheet and give its measures."""
    started = time.perf_counter()
    take = make_take(
        portrait.path,
        voice,
        with_text=with_text,
        size=size,
        points=portrait.points,
        mouth=listen_to_loudness_only if control == "loudness" else None,
        is_still=control == "still",
    )
    row: Row = {}
    if take.is_readable and voice.phonemes:
        truth = truth_track(voice.facts, len(take.frames))
        row |= lips(take, voice.phonemes, truth["jaw"], truth["wide"])
    elif take.is_readable:
        row |= lips_by_ear(take)
    row |= picture(take)
    if take.is_readable:
        row["calm px"] = jitter(take.calm_points, size)
    if sheet:
        name = "_".join(filter(None, (portrait.name, voice.name, "text" if with_text else "", control)))
        write_sheet(take, voice.phonemes, SHEETS / f"{name}.png", name)
    row["s"] = time.perf_counter() - started
    return row


def table_of(title: str, rows: dict[str, Row], columns: list[str]) -> str:
    """A Markdown table; a value outside its gate carries an asterisk."""
    lines = [f"### {title}", "", "| clip | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name, row in rows.items():
        cells = []
        for column in columns:
            value = row.get(column, nan)
            cell = (
                "–" if isnan(value) else f"{value:.0f}" if abs(value) >= 10 else f"{value:.3f}".rstrip("0").rstrip(".")
            )
            if column in GATES and not isnan(value) and not GATES[column].admits(value):
                cell += "*"
            cells.append(cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def record(tables: list[str], minutes: float) -> None:
    """Put tables into the README, between its two marks, under the machine they were made on."""
    before, _, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    heading = f"{time.strftime('%Y-%m-%d')}, {machine}, OpenCV {cv2.__version__}; {minutes:.0f} minutes in all. "
    heading += "An asterisk: outside the gate."
    body = "\n\n".join([MARKS[0], heading, *tables, MARKS[1]])
    README.write_text(before + body + after, encoding="utf-8")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="clips whose portrait or voice contains this")
    parser.add_argument("--size", type=int, default=512, help="of the clips, pixels")
    parser.add_argument("--record", action="store_true", help="put the tables into tests/quality/README.md")
    asked = parser.parse_args()
    if asked.record and asked.only:
        parser.error("--record wants every table; leave --only out")
    started = time.perf_counter()
    tables: list[str] = []

    people = portraits()
    photographs = [people["officer_with_glasses"], people["woman_facing_camera"]]
    drawn = [portrait for portrait in people.values() if portrait not in photographs]
    first_voice = known_voices("tuning")[0]

    def table(title: str, clips: list[tuple[Portrait, Voice]], columns: list[str], **options: object) -> None:
        rows = {}
        for portrait, voice in clips:
            name = f"{portrait.name} · {voice.name}"
            if asked.only in name:
                rows[name] = measure(portrait, voice, size=asked.size, **options)  # type: ignore[arg-type]
        for heading, shown in ((title, columns), (f"{title}: the picture", PICTURE_COLUMNS)):
            if rows:
                tables.append(table_of(heading, rows, shown))
                print("\n" + tables[-1], flush=True)

    for collection in ("tuning", "held_out"):
        clips = [(photographs[i % 2], voice) for i, voice in enumerate(known_voices(collection))]
        table(f"{collection} voices, words unknown", clips, LIP_COLUMNS)
        table(f"{collection} voices, words given", clips, LIP_COLUMNS, with_text=True, sheet=False)
    table("other pictures", [(portrait, first_voice) for portrait in drawn], LIP_COLUMNS)
    facts = {portrait.name: {"text": portrait.text, "language": portrait.language} for portrait in people.values()}
    examples = [(portrait, Voice(portrait.speech, facts[portrait.name])) for portrait in people.values()]
    table("the examples, words given", examples, EAR_COLUMNS, with_text=True)
    table("real recordings", [(photographs[0], voice) for voice in real_voices()], EAR_COLUMNS)
    for control in ("loudness", "still"):
        table(f"control that must fail: {control}", [(photographs[0], first_voice)], LIP_COLUMNS, control=control)
    print(f"\n* outside its gate. {time.perf_counter() - started:.0f} s. Contact sheets: {SHEETS}/")
    if asked.record:
        record(tables, (time.perf_counter() - started) / 60)


if __name__ == "__main__":
    main()
