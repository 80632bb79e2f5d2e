"""The pictures clips are made from: the project's examples. Renders nothing."""

import csv
from dataclasses import dataclass
from pathlib import Path

from pipeline.request import Point, read_points

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Portrait:
    """A picture.

    Args:
        name: What tables call it.
        path: The file.
        points: Five handles, for faces that are not found.
        speech: The example's own voice.
        text: What that says.
        language: Of `text`.
    """

    name: str
    path: Path
    points: tuple[Point, ...] | None
    speech: Path
    text: str
    language: str


def portraits() -> dict[str, Portrait]:
    """Every example's portrait, by name.

    Among them "officer_with_glasses", a closed mouth behind glasses, and "woman_facing_camera", a broad smile: the two
    photographs, on which the gates hold.
    """
    found = {}
    with (EXAMPLES / "examples.csv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            path = EXAMPLES / row["portrait"]
            points = read_points(row["points"]) if row["points"] else None
            found[path.stem] = Portrait(path.stem, path, points, EXAMPLES / row["voice"], row["text"], row["language"])
    return found
