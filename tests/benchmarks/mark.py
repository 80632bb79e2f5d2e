"""`python -m tests.benchmarks.mark`: what the invisible mark survives, what it costs, how often it is seen wrongly.

Clips of the draft engine, written by the real writer, then compressed, scaled or repacked as others would. With
`--sheets FOLDER` it also writes what there is to look at: a frame without and with the mark, and their difference.
"""

import argparse
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from pipeline import media
from pipeline.cast import cast
from pipeline.draft.engine import DraftEngine
from pipeline.engine import Scene
from pipeline.generators import to_end
from pipeline.media import Speech
from pipeline.plan import ClipPlan
from pipeline.report.clip import Clip
from pipeline.request import RenderRequest
from pipeline.trust.mark import (
    LOOKS,
    PAYLOADS,
    THRESHOLD,
    Mark,
    Search,
    codeword,
    false_positive_rate,
    find,
)
from tests.quality.portraits import EXAMPLES, portraits

KEY, OTHER_KEY = b"the key of this benchmark", b"another key"
SEED = 1
NUM_FRAMES = 48  # of every clip: two seconds, in which faces speak and move
SHOTS = (  # portrait, size, framing: every example at the usual size, then other sizes and shapes
    *((name, 512, "1:1") for name in portraits()),
    ("woman_facing_camera", 256, "1:1"),
    ("painting_of_franklin", 256, "9:16"),
    ("drawing_of_a_girl", 384, "picture"),
    ("officer_with_glasses", 512, "16:9"),
    ("woman_facing_camera", 768, "1:1"),
    ("painting_of_franklin", 608, "9:16"),
    ("drawing_of_a_fox", 1080, "1:1"),
)
TIMED_SIZES = (512, 768)
NUM_CROPS = 24  # of every example's clip, and of its portrait, that no mark is in
NUM_SYNTHETIC = 60  # films of noise and of moving shapes
NUM_OTHER_KEYS = 40  # for every one of those


class Attack(NamedTuple):
    """What happens to a clip.

    Args:
        crf: Of H.264 by libx264, preset medium; None for a stream copy into Matroska.
        scale: Of both sides before that, to even numbers.
        cut: Pixels taken from every side before that.
    """

    crf: int | None
    scale: float = 1.0
    cut: int = 0


ATTACKS = {
    "repacked as mkv": Attack(None),
    "crf 23": Attack(23),
    "crf 28": Attack(28),
    "0.75 + crf 23": Attack(23, 0.75),
    "0.75 + crf 28": Attack(28, 0.75),
    "0.5 + crf 28": Attack(28, 0.5),
    "cut by 20 px + crf 23": Attack(23, cut=20),
}


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A clip before it is written.

    Args:
        frames: (height, width, 3) uint8, RGB, as the engine gave them.
        speech: The voice.
        plan: Sizes; as many frames as there are.
        milliseconds: That drawing a frame took, the median.
    """

    frames: list[np.ndarray]
    speech: Speech
    plan: ClipPlan
    milliseconds: float


def drawn(name: str, size: int = 512, framing: str = "1:1", num_frames: int = NUM_FRAMES) -> Drawn:
    """The first frames of an example, as the draft engine draws them."""
    example = portraits()[name]
    request = RenderRequest(
        portrait=example.path, speech=example.speech, points=example.points, size=size, framing=framing, seed=SEED
    )
    portrait, engine = media.load_portrait(example.path), DraftEngine()
    with tempfile.TemporaryDirectory() as folder:
        heard = to_end(cast(request, portrait, Path(folder)))
        scene = Scene(portrait, heard.speech, heard.speakers, request.direction, request.framing)
        plan = engine.plan(scene, size=size)
        source = to_end(engine.perform(scene, plan, seed=SEED)).frames
        frames, times = [], []
        for _ in range(num_frames):
            started = time.perf_counter()
            frames.append(next(source))
            times.append(1000 * (time.perf_counter() - started))
        speech = heard.speech
    return Drawn(frames, speech, dataclasses.replace(plan, num_frames=num_frames), statistics.median(times))


def marked(frames: Sequence[np.ndarray], payload: int, key: bytes = KEY) -> list[np.ndarray]:
    """The same frames with a mark."""
    height, width = frames[0].shape[:2]
    mark = Mark(height, width, payload, key)
    return [mark.embed(frame) for frame in frames]


def delivered(clip: Drawn, frames: Sequence[np.ndarray], path: Path) -> Path:
    """Write a clip as a render does."""
    with media.VideoWriter(path, clip.speech, clip.plan) as writer:
        for frame in frames:
            writer.add(frame)
    return path


def pixels(path: Path) -> Iterator[np.ndarray]:
    """A clip's frames as `verify` sees them."""
    return (picture.pixels for picture in Clip(path).pictures())


def attacked(path: Path, attack: Attack) -> Path:
    """What is left of a clip: a new file beside it."""
    if attack.crf is None:
        return _repacked(path)
    left = path.with_name(f"{path.stem}_{attack.crf}_{attack.scale}_{attack.cut}.mp4")
    with av.open(str(path)) as source, av.open(str(left), "w") as target:
        cut, taken = attack.cut, source.streams.video[0]
        inside = (taken.height - 2 * cut, taken.width - 2 * cut)
        height, width = (round(side * attack.scale / 2) * 2 for side in inside)
        options = {"crf": str(attack.crf), "preset": "medium"}
        stream: Any = target.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number, frame in enumerate(source.decode(taken)):
            if cut:
                shown: Any = frame.to_ndarray(format="rgb24")[cut:-cut, cut:-cut]
                shown = np.ascontiguousarray(shown)
                frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame = frame.reformat(width, height, "yuv420p")  # bicubic, as in the ffmpeg program
            frame.pts = number
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return left


def _repacked(path: Path) -> Path:
    """The same streams in Matroska."""
    left = path.with_suffix(".mkv")
    with av.open(str(path)) as source, av.open(str(left), "w") as target:
        streams = {
            one.index: target.add_stream_from_template(one) for one in (*source.streams.video, *source.streams.audio)
        }
        for packet in source.demux(*(source.streams[index] for index in streams)):
            if packet.dts is not None:
                index = packet.stream.index
                packet.stream = streams[index]
                target.mux(packet)
    return left


class Heard(NamedTuple):
    """What a search hears of a mark, in a whole clip and at its first sight.

    Args:
        signs: Share of the codeword's 256 signs that are right before decoding.
        bits: Share of the payload's 16 bits that are right after it.
        confidence: Of the whole clip.
        num_frames: That `find` needed; 0 where it found nothing, or another payload.
    """

    signs: float
    bits: float
    confidence: float
    num_frames: int


def heard(frames: Sequence[np.ndarray], payload: int, key: bytes = KEY) -> Heard:
    """Look for a known payload."""
    search = Search(key)
    for frame in frames:
        search.add(frame)
    best, confidence = search.best()
    found = find(frames, key)
    right = found is not None and found.payload == payload
    return Heard(
        float((search.soft() * codeword(payload) > 0).mean()),
        1 - (best ^ payload).bit_count() / 16,
        confidence,
        found.num_frames if found is not None and right else 0,
    )


# --- what it costs ------------------------------------------------------------------------------------------------


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Decibels, over all channels."""
    return float(10 * np.log10(255**2 / max(np.square(one.astype(np.float32) - other).mean(), 1e-9)))


def ssim(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(height, width) float32 of luminance, Gaussian window of sigma 1.5. Source: Wang et al. 2004."""
    a, b = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in (one, other))
    mean_a, mean_b, square_a, square_b, product = (
        cv2.GaussianBlur(each, (11, 11), 1.5) for each in (a, b, a * a, b * b, a * b)
    )
    alike = (2 * mean_a * mean_b + 6.5025) * (2 * (product - mean_a * mean_b) + 58.5225)
    scale = (mean_a**2 + mean_b**2 + 6.5025) * (square_a - mean_a**2 + square_b - mean_b**2 + 58.5225)
    return alike / scale


def survived(number: int, folder: Path, sheets: Path | None) -> dict[str, Heard]:
    """Make one of SHOTS, print what the mark costs it, and tell what each attack leaves."""
    name, size, framing = SHOTS[number]
    payload = int(np.random.default_rng((SEED, number)).integers(PAYLOADS))
    clip = drawn(name, size, framing)
    mark = Mark(clip.plan.height, clip.plan.width, payload, KEY)
    frames = [mark.embed(frame) for frame in clip.frames]
    maps = [ssim(*pair) for pair in zip(clip.frames[::8], frames[::8], strict=True)]
    plain = delivered(clip, clip.frames, folder / f"{number}_plain.mp4")
    path = delivered(clip, frames, folder / f"{number}.mp4")
    left = {"delivered": path} | {label: attacked(path, attack) for label, attack in ATTACKS.items()}
    results = {label: heard(list(pixels(each)), payload) for label, each in left.items()}
    print(
        f"| {name} | {clip.plan.width}×{clip.plan.height} | {mark.strength:.2f} "
        f"| {statistics.mean(map(psnr, clip.frames, frames)):.1f} | {np.mean(maps):.4f} "
        f"| {np.percentile(maps, 2):.3f} | {path.stat().st_size / plain.stat().st_size:.2f} "
        f"| {results['delivered'].confidence:.0f} | {results['0.75 + crf 28'].confidence:.1f} |",
        flush=True,
    )
    if sheets is not None:
        picture = sheet(next(pixels(plain)), next(pixels(path)), clip.frames[0], frames[0])
        picture.tofile(sheets / f"{name}_{size}_{framing.replace(':', 'x')}.png")
    return results


def summary(results: Sequence[dict[str, Heard]]) -> None:
    """Print what is left over all shots."""
    print(f"\n{len(results)} clips of {NUM_FRAMES} frames; threshold {THRESHOLD}\n")
    print(
        "| | found, payload right | signs right, mean | least | bits right | confidence, median | least | most frames |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for label in ("delivered", *ATTACKS):
        each = [one[label] for one in results]
        signs, confidences = [one.signs for one in each], [one.confidence for one in each]
        print(
            f"| {label} | {sum(one.num_frames > 0 for one in each)} of {len(each)} "
            f"| {100 * statistics.mean(signs):.1f} % | {100 * min(signs):.1f} % "
            f"| {100 * statistics.mean(one.bits for one in each):.1f} % "
            f"| {statistics.median(confidences):.1f} | {min(confidences):.1f} | {max(one.num_frames for one in each)} |"
        )


def sheet(plain: np.ndarray, with_mark: np.ndarray, raw: np.ndarray, raw_marked: np.ndarray) -> np.ndarray:
    """A PNG's bytes: a delivered frame without and with the mark, whole; both and the difference × 20, 3× zoomed."""
    difference = np.clip(128 + 20 * (raw_marked.astype(int) - raw), 0, 255).astype(np.uint8)
    height, width = raw.shape[:2]
    top, left, side = height // 5, width // 3, min(height, width) // 3

    def zoomed(picture: np.ndarray) -> np.ndarray:
        part = picture[top : top + side, left : left + side]
        return cv2.resize(part, (3 * side, 3 * side), interpolation=cv2.INTER_NEAREST)

    plain, with_mark = (cv2.resize(one, (width, height)) for one in (plain, with_mark))  # a large clip is read smaller
    rows = [
        np.hstack([plain, with_mark, difference]),
        np.hstack([zoomed(one) for one in (plain, with_mark, difference)]),
    ]
    across = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 8), (0, across - row.shape[1]), (0, 0))) for row in rows]
    return cv2.imencode(".png", np.vstack(padded)[..., ::-1])[1]


def times() -> None:
    """Print milliseconds of marking, beside those of drawing, and of looking."""
    print("\n| size | drawing a frame | marking it | share | first frame, once | looking at a frame | judging |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for size in TIMED_SIZES:
        clip = drawn("woman_facing_camera", size)
        started = time.perf_counter()
        mark = Mark(size, size, 1, KEY)
        mark.embed(clip.frames[0])
        first = time.perf_counter() - started
        search = Search(KEY)
        marking, looking = [], []
        for frame in clip.frames:
            started = time.perf_counter()
            mark.embed(frame)
            between = time.perf_counter()
            search.add(frame)
            marking.append(1000 * (between - started))
            looking.append(1000 * (time.perf_counter() - between))
        started = time.perf_counter()
        search.best()
        judging = time.perf_counter() - started
        median = statistics.median(marking)
        print(
            f"| {size}² | {clip.milliseconds:.1f} ms | {median:.2f} ms | {median / clip.milliseconds:.2f} "
            f"| {1000 * first:.0f} ms | {statistics.median(looking):.2f} ms | {1000 * judging:.1f} ms |"
        )


# --- where there is none ------------------------------------------------------------------------------------------


def _crop(picture: np.ndarray, rng: np.random.Generator) -> tuple[slice, slice, int]:
    """A part of a picture: half of its sides or more; and whether it is mirrored, 1 or -1."""
    height, width = picture.shape[:2]
    tall, wide = (int(side * rng.uniform(0.5, 1.0)) // 2 * 2 for side in (height, width))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    return slice(top, top + tall), slice(left, left + wide), int(rng.choice((1, -1)))


def unmarked() -> Iterator[tuple[str, list[np.ndarray]]]:
    """Sets of frames that hold no mark, each with the kind it is of."""
    rng = np.random.default_rng(SEED)
    for path in sorted((EXAMPLES / "clips").glob("*.mp4")):
        frames = list(itertools.islice(pixels(path), 0, 160, 20))
        yield "clips", frames
        for _ in range(NUM_CROPS):
            rows, columns, way = _crop(frames[0], rng)
            yield "clips, cut and mirrored", [np.ascontiguousarray(one[rows, columns][:, ::way]) for one in frames]
    for path in sorted((EXAMPLES / "portraits").glob("*.jpg")):
        picture = media.load_portrait(path)
        for _ in range(NUM_CROPS):
            rows, columns, way = _crop(picture, rng)
            yield "portraits, cut and mirrored", [np.ascontiguousarray(picture[rows, columns][:, ::way])]
    for number in range(NUM_SYNTHETIC):
        yield "synthetic films", list(_synthetic(np.random.default_rng((SEED, number))))


def _synthetic(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Eight frames: noise of some coarseness that drifts, with discs, stripes or a chessboard before it."""
    height, width = (int(side) * 2 for side in rng.integers(100, 300, 2))
    noise: np.ndarray = rng.normal(size=(height, width, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(0.3, 12)))
    noise = 128 + rng.uniform(5, 60) * noise / noise.std()
    y, x = np.mgrid[:height, :width]
    period, kind = rng.uniform(4, 60), rng.integers(4)
    for step in range(8):
        frame = np.roll(noise, step * int(rng.integers(0, 4)), axis=1)
        if kind == 1:
            frame = frame + 60 * np.sin(2 * np.pi * (x + step) / period)[..., None]
        elif kind == 2:
            frame = frame + 50 * (((x // period) + (y // period)) % 2)[..., None]
        elif kind == 3:
            frame = np.where((np.hypot(x - width / 2 - step, y - height / 2) < height / 3)[..., None], 220, frame)
        yield np.clip(frame, 0, 255).astype(np.uint8)


def false_positives() -> None:
    """Print how far unmarked frames come under one key and under many, and marked ones under others."""
    kinds: dict[str, list[float]] = {}
    other: list[float] = []
    seen = set()
    for kind, frames in unmarked():
        seen.add(b"".join(frame.tobytes()[::997] for frame in frames))
        kinds.setdefault(kind, []).append(_most(frames, KEY))
        other += [_most(frames[:1], b"%d" % number) for number in range(NUM_OTHER_KEYS)]
    print(f"\n{sum(map(len, kinds.values()))} sets of frames without a mark, {len(seen)} of them distinct\n")
    print("| | sets | confidence, median | largest | found |")
    print("| --- | ---: | ---: | ---: | ---: |")
    kinds[f"all of them under {NUM_OTHER_KEYS} keys each"] = other
    wrong = []
    for name in portraits():
        frames = marked(drawn(name, num_frames=8).frames, 4711)
        wrong += [_most(frames, b"wrong %d" % number) for number in range(NUM_OTHER_KEYS)]
    kinds["marked clips under wrong keys"] = wrong
    for kind, confidences in kinds.items():
        found = sum(one >= THRESHOLD for one in confidences)
        print(
            f"| {kind} | {len(confidences)} | {statistics.median(confidences):.2f} | {max(confidences):.2f} | {found} |"
        )
    print(f"\nAt {THRESHOLD}, by Hoeffding's bound: {false_positive_rate():.1e} at most.")


def _most(frames: Sequence[np.ndarray], key: bytes) -> float:
    """The largest confidence at any of the looks that `find` takes."""
    search, most = Search(key), 0.0
    for frame in frames:
        search.add(frame)
        if search.num_frames in LOOKS:
            most = max(most, search.best()[1])
    return most


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.mark", description=__doc__)
    parts = ("survival", "times", "false-positives")
    parser.add_argument("parts", nargs="*", default=parts, help=f"of {', '.join(parts)}; all without")
    parser.add_argument("--sheets", type=Path, metavar="FOLDER", help="where PNGs to look at go")
    options = parser.parse_args()
    if options.sheets is not None:
        options.sheets.mkdir(parents=True, exist_ok=True)
    if "survival" in options.parts:
        print(
            "| clip | size | strength | PSNR | SSIM | SSIM, worst 2 % | file | confidence: delivered | 0.75 + crf 28 |"
        )
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        with tempfile.TemporaryDirectory() as folder:
            summary([survived(number, Path(folder), options.sheets) for number in range(len(SHOTS))])
    if "times" in options.parts:
        times()
    if "false-positives" in options.parts:
        false_positives()


if __name__ == "__main__":
    main()
