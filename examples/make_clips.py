"""Renders every row of examples.csv to its clip in clips/: what the page shows before anyone presses anything.

The row's number is its seed. Run it again after a change to the engine: python examples/make_clips.py [portrait ...]
"""

import csv
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
sys.path.insert(0, str(EXAMPLES.parent))  # run as a program, the project is not on the path

from pipeline import RenderRequest, render  # noqa: E402
from pipeline.request import read_points  # noqa: E402

SIZE = 512  # pixels: the page's own default
LARGEST_TOTAL_MIB = 6  # a clone stays small


def main(names: list[str]) -> None:
    """Render the rows whose portrait's file name is among `names`; all of them when there are none."""
    with (EXAMPLES / "examples.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    for seed, row in enumerate(rows, start=1):
        clip = EXAMPLES / row["clip"]
        if names and clip.stem not in names:
            continue
        clip.parent.mkdir(exist_ok=True)
        result = render(
            RenderRequest(
                portrait=EXAMPLES / row["portrait"],
                speech=EXAMPLES / row["voice"],
                output=clip,
                size=SIZE,
                seed=seed,
                points=read_points(row["points"]) if row["points"] else None,
                text=row["text"],
                language=row["language"],
            )
        )
        mebibytes = clip.stat().st_size / 2**20
        print(f"{row['clip']}: {result.clip_seconds:.2f} s in {result.seconds:.1f} s, {mebibytes:.2f} MiB")
    total = sum((EXAMPLES / row["clip"]).stat().st_size for row in rows if (EXAMPLES / row["clip"]).is_file())
    if total > LARGEST_TOTAL_MIB * 2**20:
        sys.exit(f"The clips weigh {total / 2**20:.1f} MiB; {LARGEST_TOTAL_MIB} is the most. Shorten a voice.")


if __name__ == "__main__":
    main([Path(name).stem for name in sys.argv[1:]])
