"""Renders every row of examples.csv to its clip in clips/, and from those the README's preview.webp.

The row's number is its seed. Run it again after a change to the engine: python examples/make_clips.py [portrait ...]
"""

import csv
import sys
from pathlib import Path

import av
from PIL import Image

EXAMPLES = Path(__file__).resolve().parent
sys.path.insert(0, str(EXAMPLES.parent))  # run as a program, the project is not on the path

from pipeline import RenderRequest, render  # noqa: E402
from pipeline.request import read_points  # noqa: E402

SIZE = 512  # pixels: the page's own default
LARGEST_TOTAL_MIB = 6  # a clone stays small

PREVIEW = EXAMPLES / "preview.webp"
PREVIEWED = ("woman_facing_camera", "drawing_of_a_girl", "painting_of_franklin", "drawing_of_a_fox")
PREVIEW_PIXELS = 224  # of one clip: four side by side fill a README's column
PREVIEW_SECONDS = 3.2  # a sentence of each
PREVIEW_EVERY = 2  # every second frame, 12.5 a second: speech still reads, the file is half as large
PREVIEW_QUALITY = 66  # WebP; keeps the file under 600 KB


def make_preview() -> None:
    """Put the beginnings of four clips side by side in one animated picture."""
    strips = []
    for name in PREVIEWED:
        with av.open(str(EXAMPLES / "clips" / f"{name}.mp4")) as clip:
            wanted = round(PREVIEW_SECONDS * float(clip.streams.video[0].average_rate or 0))
            frames = [frame for _, frame in zip(range(wanted), clip.decode(video=0), strict=False)]
            strips.append([frame.to_image() for frame in frames[::PREVIEW_EVERY]])
    pictures = []
    for row in zip(*strips, strict=True):
        picture = Image.new("RGB", (PREVIEW_PIXELS * len(row), PREVIEW_PIXELS))
        for place, frame in enumerate(row):
            small = frame.resize((PREVIEW_PIXELS, PREVIEW_PIXELS), Image.Resampling.LANCZOS)
            picture.paste(small, (place * PREVIEW_PIXELS, 0))
        pictures.append(picture)
    pictures[0].save(
        PREVIEW,
        save_all=True,
        append_images=pictures[1:],
        duration=40 * PREVIEW_EVERY,
        loop=0,
        quality=PREVIEW_QUALITY,
        method=6,
    )
    print(f"{PREVIEW.name}: {len(pictures)} frames, {PREVIEW.stat().st_size / 1024:.0f} KiB")


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
    make_preview()


if __name__ == "__main__":
    main([Path(name).stem for name in sys.argv[1:]])
