"""The pictures clips are made from: two photographs out of packages, and the project's examples. Renders nothing."""

import csv
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import skimage

from pipeline.request import Point, read_points

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Portrait:
    """A picture.

    Args:
        name: What tables call it.
        path: The file.
        is_photograph: Whether gates made on photographs hold for it.
        points: Five handles, for faces that are not found.
    """

    name: str
    path: Path
    is_photograph: bool = True
    points: tuple[Point, ...] | None = None


def portraits() -> list[Portrait]:
    """A closed mouth behind glasses and a broad smile, both public domain; then every example portrait."""
    found = [
        Portrait("hopper", Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"),
        Portrait("astronaut", Path(skimage.__file__).parent / "data" / "astronaut.png"),
    ]
    listed = EXAMPLES / "examples.csv"
    if listed.exists():
        with listed.open(encoding="utf-8", newline="") as rows:
            seen = set()
            for row in csv.DictReader(rows):
                path = EXAMPLES / row["portrait"]
                if path not in seen:
                    seen.add(path)
                    points = read_points(row["points"]) if row.get("points") else None
                    found.append(Portrait(path.stem, path, row.get("kind") == "photograph", points))
    return found
