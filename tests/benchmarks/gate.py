"""`python -m tests.benchmarks.gate`: what the picture gate says of harmless pictures, which it should let through.

The examples, frames of their clips, pictures of the tests, and those that come with scikit-image and Gradio. No
explicit picture is among them: how many of those it would miss is not measured.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline import face, handles, media
from pipeline.plan import Box
from pipeline.trust import gate
from tests.quality.portraits import EXAMPLES, portraits

FRAMES_APART = 50  # two seconds of a clip
SKIN = ((255, 224, 196), (240, 200, 170), (224, 172, 138), (198, 134, 98), (150, 96, 66), (92, 56, 40))  # RGB
LFW_PX = 256  # to which faces of 25 pixels are enlarged. Source: scikit-image, lfw_subset: Labeled Faces in the Wild
RULE_OF_THREE = (
    3.0  # none of n: fewer than 3/n with 95 % confidence. Source: Hanley and Lippman-Hand 1983, JAMA 249(13)
)


def folder_of(package: str) -> Path:
    """Where a package is installed."""
    found = find_spec(package)
    assert found is not None and found.origin is not None, f"{package} is not installed"
    return Path(found.origin).parent


def example_pictures() -> Iterator[tuple[str, np.ndarray, list[Box]]]:
    """The examples with the faces that speak in them."""
    for portrait in portraits().values():
        picture = media.load_portrait(portrait.path)
        if portrait.points is None:
            yield portrait.name, picture, [face.locate(picture, name=portrait.name).box]
        else:
            points = handles.landmarks_from_points(portrait.points, name=portrait.name, picture=picture)
            yield portrait.name, picture, [face.box_around(points)]


def other_pictures() -> Iterator[tuple[str, np.ndarray]]:
    """Pictures whose faces are still to be found."""
    photographs = [
        media.load_portrait(portraits()[name].path) for name in ("officer_with_glasses", "woman_facing_camera")
    ]
    yield "two examples side by side", np.hstack([cv2.resize(one, (600, 600)) for one in photographs])
    yield "examples, nine of them", np.vstack([np.hstack([cv2.resize(one, (200, 200)) for one in photographs] * 2)] * 4)
    for sheet in sorted((EXAMPLES / "sheets").glob("*.jpg")):
        yield f"sheet of {sheet.stem}", media.load_portrait(sheet)
    for clip in sorted((EXAMPLES / "clips").glob("*.mp4")):
        with av.open(str(clip)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number % FRAMES_APART == 0:
                    yield f"clip of {clip.stem}, frame {number}", frame.to_ndarray(format="rgb24")
    for colour in SKIN:
        yield f"nothing but skin's colour {colour}", np.full((512, 512, 3), colour, np.uint8)
    yield "noise", np.random.default_rng(7).integers(0, 256, (512, 512, 3)).astype(np.uint8)
    for source in (folder_of("skimage") / "data", folder_of("gradio") / "media_assets" / "images"):
        for path in sorted(source.iterdir()):
            try:
                with Image.open(path) as opened:
                    yield (
                        f"{source.parts[-2 if source.name == 'data' else -3]}: {path.name}",
                        np.asarray(opened.convert("RGB")),
                    )
            except (UnidentifiedImageError, OSError):  # not a picture
                continue


def found_faces(picture: np.ndarray) -> list[Box]:
    """Boxes of the faces in a picture, also of doubtful ones."""
    return [one.box for one in face.find_faces(picture)] if min(picture.shape[:2]) >= face.SMALLEST_WINDOW else []


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(prog="python -m tests.benchmarks.gate", description=__doc__).parse_args()
    judged = [*example_pictures(), *((name, picture, found_faces(picture)) for name, picture in other_pictures())]
    rows, seconds = [], []
    for name, picture, faces in judged:
        (whole,) = gate.scores([picture])
        started = time.perf_counter()
        verdict = gate.judge(picture, *faces)
        seconds.append((time.perf_counter() - started) / (1 + len(faces)))
        rows.append(
            (verdict.score, f"| {name} | {whole:.3f} | {len(faces)} | {verdict.score:.3f} | {verdict.outcome} |")
        )
    print("| picture | alone | faces | highest of all | |\n| --- | ---: | ---: | ---: | --- |")
    print("\n".join(row for _, row in sorted(rows, reverse=True)))
    tiny = np.load(folder_of("skimage") / "data" / "lfw_subset.npy")[:100]  # the faces; the rest shows none
    large = [cv2.resize((one * 255).astype(np.uint8), (LFW_PX, LFW_PX), interpolation=cv2.INTER_CUBIC) for one in tiny]
    crops = gate.scores([cv2.merge([one] * 3) for one in large])
    print("\n| group | scored | median | highest | asked about | refused |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for group, found in (("pictures, with their faces", [score for score, _ in rows]), ("faces of LFW", crops)):
        asked, refused = (sum(score >= limit for score in found) for limit in (gate.ASK, gate.REFUSE))
        figures = f"{statistics.median(found):.3f} | {max(found):.3f} | {asked - refused} | {refused}"
        print(f"| {group} | {len(found)} | {figures} |")
    print(f"\n{statistics.median(seconds) * 1000:.0f} ms a picture or face, median.")


if __name__ == "__main__":
    main()
