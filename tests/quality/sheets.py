"""Contact sheets: frames of a clip at moments that matter, with what is said under them. Measures nothing itself."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tests.quality import measures
from tests.quality.clips import Take
from tests.quality.measures import FPS, LIPS, OPEN_VOWELS, Phonemes

COLUMNS = 8
TILE = 240  # pixels, a whole frame on the sheet
CLOSE = (240, 160)  # width and height of a mouth or an eye pair on the sheet
ZOOM = 2  # of close-ups, over a frame of 512
LABEL = 20  # pixels of text under a tile
PAPER, INK = (250, 250, 250), (20, 20, 20)
KINDS = (
    ("m b p", LIPS),
    ("f v", frozenset({"f", "v"})),
    ("open", OPEN_VOWELS),
    ("wide", frozenset({"i", "e", "ɪ", "eɪ", "s"})),
    ("round", frozenset({"u", "o", "w", "oʊ", "y", "ʃ", "ɔ̃"})),
    ("tongue", frozenset({"θ", "ð", "l"})),
    ("pause", frozenset({"sil"})),
)  # the last two are shown once, the others twice: two rows in all


def write_sheet(take: Take, phonemes: Phonemes, path: Path, title: str = "") -> None:
    """Write a PNG: the still and chosen moments whole and close, then a run of mouths and a run of eyes.

    Args:
        take: The clip.
        phonemes: What is said when; () for a real recording, whose moments are evenly spaced.
        path: Of the PNG.
        title: Said at the top.
    """
    rows: list[np.ndarray] = []
    moments = _moments(take, phonemes)
    for start in range(0, len(moments), COLUMNS):
        chosen = moments[start : start + COLUMNS]
        tiles = [_whole(take, frame) if "turned" in name or frame < 0 else _face(take, frame) for frame, name in chosen]
        rows.append(_row(tiles, [name for _, name in chosen]))
        rows.append(_row([_close(take, frame, "mouth") for frame, _ in chosen], None))
    first = _lively_run(take)
    for start in range(first, min(first + 2 * COLUMNS, len(take.frames)), COLUMNS):
        run = range(start, min(start + COLUMNS, len(take.frames)))
        rows.append(_row([_close(take, frame, "mouth") for frame in run], [_said(phonemes, frame) for frame in run]))
    blink = _blink(take)
    run = range(max(0, blink - 4), min(blink + 4, len(take.frames)))
    rows.append(_row([_close(take, frame, "eyes") for frame in run], [f"{frame / FPS:.2f} s" for frame in run]))
    heading = np.full((28, rows[0].shape[1], 3), PAPER, np.uint8)
    sheet = np.vstack([heading, *rows])
    picture = Image.fromarray(sheet)
    ImageDraw.Draw(picture).text((6, 4), title, fill=INK, font=_font(16))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _moments(take: Take, phonemes: Phonemes) -> list[tuple[int, str]]:
    """(frame, name) of the still (-1), two long sounds of each kind, and the ends of the head's movement."""
    last = len(take.frames) - 1
    chosen: list[tuple[int, str]] = [(-1, "the picture")]
    if phonemes:
        for i, (name, kind) in enumerate(KINDS):
            longest = sorted((sound for sound in phonemes if sound[0] in kind), key=lambda sound: sound[1] - sound[2])
            num_shown = 2 if i < len(KINDS) - 2 else 1
            for sound, start, end in sorted(longest[:num_shown], key=lambda sound: sound[1]):
                frame = min(int((start + end) / 2 * FPS), last)
                chosen.append((frame, f"{name}: {sound}  {frame / FPS:.2f} s"))
    else:
        spaced = np.linspace(0, last, 2 * COLUMNS - 4).astype(int)
        chosen += [(int(frame), f"{frame / FPS:.2f} s") for frame in spaced]
    if take.is_readable:
        nose, middle = take.points[:, 4, 0], take.points[:, [33, 263], 0].mean(axis=1)
        turn = nose - middle
        chosen += [(int(turn.argmin()), "turned left"), (int(turn.argmax()), "turned right")]
        aperture, _ = measures.mouth_openings(take.points, take.source_points)
        chosen.append((int(aperture.argmax()), f"widest {aperture.max():.2f} mw"))
    return chosen


def _lively_run(take: Take) -> int:
    """First frame of the sixteen in which the mouth moves most."""
    if not take.is_readable or len(take.frames) <= 2 * COLUMNS:
        return 0
    aperture, _ = measures.mouth_openings(take.points, take.source_points)
    moved = np.convolve(np.abs(np.diff(aperture)), np.ones(2 * COLUMNS), "valid")
    return int(moved.argmax())


def _blink(take: Take) -> int:
    """Frame of the fullest blink."""
    if not take.is_readable:
        return len(take.frames) // 2
    return int(measures.watch_eyes(take.frames, take.points, take.source, take.source_points)[0].argmax())


def _said(phonemes: Phonemes, frame: int) -> str:
    moment = (frame + 0.5) / FPS
    return next(
        (f"{sound}  {moment:.2f} s" for sound, start, end in phonemes if start <= moment < end), f"{moment:.2f} s"
    )


def _picture(take: Take, frame: int) -> np.ndarray:
    return take.source if frame < 0 else take.frames[frame]


def _whole(take: Take, frame: int) -> np.ndarray:
    return cv2.resize(_picture(take, frame), (TILE, TILE), interpolation=cv2.INTER_AREA)


def _face(take: Take, frame: int) -> np.ndarray:
    """The head without the shoulders."""
    if not take.is_readable:
        return _whole(take, frame)
    size = take.source.shape[0]
    oval = take.source_points[list(measures.FACE_OVAL), :2]
    side = min(1.35 * float(np.ptp(oval, axis=0).max()), size)
    left, top = np.clip((oval.min(axis=0) + oval.max(axis=0)) / 2 - side / 2, 0, size - side).astype(int)
    part = _picture(take, frame)[top : top + int(side), left : left + int(side)]
    return cv2.resize(part, (TILE, TILE), interpolation=cv2.INTER_CUBIC if side < TILE else cv2.INTER_AREA)


def _close(take: Take, frame: int, part: str) -> np.ndarray:
    """The mouth or the eyes, at twice the size they have in a clip of 512."""
    size = take.source.shape[0]
    points = take.source_points[:, :2] if take.is_readable else None
    if points is None:
        x, y = size / 2, size * (0.62 if part == "mouth" else 0.42)
    else:
        x, y = points[[78, 308, 13, 14]].mean(axis=0) if part == "mouth" else points[[33, 133, 362, 263]].mean(axis=0)
        y += 0.01 * size if part == "mouth" else 0
    zoom = ZOOM * 512 / size * (1.0 if part == "mouth" else 0.7)
    move = np.array([[zoom, 0, CLOSE[0] / 2 - zoom * x], [0, zoom, CLOSE[1] / 2 - zoom * y]])
    return cv2.warpAffine(
        _picture(take, frame), move, CLOSE, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=PAPER
    )


def _row(tiles: list[np.ndarray], names: list[str] | None) -> np.ndarray:
    """Tiles side by side, COLUMNS wide, with their names underneath."""
    blank = np.full_like(tiles[0], PAPER[0])
    picture = np.hstack([*tiles, *[blank] * (COLUMNS - len(tiles))])
    if names is None:
        return picture
    label = Image.new("RGB", (picture.shape[1], LABEL), PAPER)
    for column, name in enumerate(names):
        ImageDraw.Draw(label).text((column * tiles[0].shape[1] + 4, 2), name, fill=INK, font=_font(13))
    return np.vstack([picture, np.asarray(label)])


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans where it is installed, since it knows phonetic letters; else Pillow's own, which shows boxes."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)
