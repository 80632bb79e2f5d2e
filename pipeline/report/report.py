"""The story of one report: a finished clip and its portrait in, figures and plain sentences out. Draws nothing.

Each figure stands beside the same figure for a still image and for a perfect clip, so that the numbers mean something.
"""

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline import face as faces
from pipeline import media
from pipeline.draft.phonemes import Segment
from pipeline.draft.speech import MouthTrack, follow_speech
from pipeline.engine import Step
from pipeline.face import Face
from pipeline.plan import FPS
from pipeline.report import measures
from pipeline.report.clip import MAX_CLIP_SECONDS, Clip
from pipeline.report.identity import describe
from pipeline.report.watch import Watch
from pipeline.request import Point
from pipeline.texts import LANGUAGES, Notice

DENSE_SECONDS = 10.0  # of a clip's beginning are measured frame by frame
DENSE_STEP, SPARSE_STEP = 1 / 30, 1 / 12.5  # seconds between two measured frames at least, there and after: lids close
# for 0.2 s, mouths open and close in 0.2
TOLERANCE = 0.002  # seconds that a frame may come before it is due: times are rounded in files
LONGEST_LAG_SECONDS = 0.5  # searched each way
ENVELOPE_RATE = 50  # values a second of the loudness that is drawn

EARLIEST_MS, LATEST_MS = -125.0, 45.0  # lags that viewers begin to notice: a mouth ahead of its sound, and behind it.
# Source: Recommendation ITU-R BT.1359-1 (1998), detectability: sound 125 ms late to 45 ms early
LEAST_SYNC, MOST_CHANCE = 0.35, 0.6  # r below which a mouth follows another voice, in long clips and in short ones,
# where chance reaches more. Measured on 24 pairs of clip and voice of 5 to 8 s: wrong 0.44 at most, right 0.89 at least
CHANCES_A_SECOND = 6.0  # independent values of a speaking mouth: some four syllables, less a few that are alike
LEAST_RANGE = 0.02  # mouth widths from P5 to P95: half of the least of our clips (the drawn fox), six times a still's
LEAST_FACE_SHARE = 0.95  # of the frames: a nod and a blink hide no face
OTHER_FACE = 0.55  # between what one person's pictures reach (0.40) and what two persons' keep (0.68, drawings 0.60);
# Source for 0.6 on photographs: dlib-models, README.md. Ours: examples and drafts of them, tests/test_report.py
DRIFT, DRIFTED = 0.12, 0.40  # of distance, from the first quarter of the clip to the last, and how far that ends
MOST_FLICKER = 4.0  # grey levels of second difference: every other frame brighter by one level; our clips reach 2.0
BLINKS = 26.0  # a minute, in conversation. Source: Bentivoglio et al. (1997), Analysis of blink rate patterns in normal
# subjects; nearly all people 10.5 to 32.5: Doughty (2001), Optom Vis Sci 78(10), 712-725
BLINKS_MISSED_AFTER = 7.0  # seconds: by then 19 of 20 average speakers have blinked (3 / 26 of a minute)
FULL_RANGE = 0.30  # mouth widths: how far the mouths of our clips open (0.23 to 0.43; tests/quality/README.md, P95)


@dataclass(frozen=True)
class Figure:
    """One measure three times; None where it cannot be told.

    Args:
        clip: Of this clip.
        still: Of its first picture, held for as long.
        reference: Of a perfect clip with this voice and this portrait.
    """

    clip: float | None
    still: float | None
    reference: float | None


@dataclass(frozen=True)
class Report:
    """What a clip is worth.

    Args:
        clip, portrait: Names of the files.
        seconds: Length of the clip by its frames.
        width, height: Of its frames, pixels.
        fps: Frames a second.
        num_frames: In the clip.
        num_measured: Of these, looked at.
        figures: By name, in the order they are shown:
            sync_r: correlation of the measured mouth opening with the one that the voice asks for, at the best lag.
            lag_ms: by which the mouth comes after the sound; negative before; None for a mouth that does not follow.
            mouth_range_mouth_widths: from the 5th to the 95th percentile of the opening.
            identity_distance: of the faces to the portrait's, median; see identity.describe.
            face_share: of the measured frames that show a face.
            flicker_levels: see watch.Flicker; grey levels.
            blinks_per_minute.
        findings: What is wrong, in sentences; or that all is well.
        notes: What to know about the report itself.
        asked: (values,) float32, 25 a second: the opening that the voice asks for, 0..1.
        measured: (values,) float32, the opening seen, mouth widths; NaN where no face is.
        envelope: (values,) float32, ENVELOPE_RATE a second: the sound's peaks, 0..1.
        segments: The sounds recognised.
    """

    clip: str
    portrait: str
    seconds: float
    width: int
    height: int
    fps: float
    num_frames: int
    num_measured: int
    figures: dict[str, Figure]
    findings: tuple[Notice, ...]
    notes: tuple[Notice, ...]
    asked: np.ndarray
    measured: np.ndarray
    envelope: np.ndarray
    segments: tuple[Segment, ...]

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return [finding.key for finding in self.findings] == ["ReportAllWell"]

    def as_json(self) -> dict[str, Any]:
        """The report in plain values, without its tracks; numbers carry their unit in their name, null is unknown."""
        return {
            "report_version": 1,
            "clip": self.clip,
            "portrait": self.portrait,
            "seconds": round(self.seconds, 3),
            "width_px": self.width,
            "height_px": self.height,
            "frames_per_second": round(self.fps, 3),
            "num_frames": self.num_frames,
            "num_frames_measured": self.num_measured,
            "is_good": self.is_good,
            "figures": {name: _rounded(figure) for name, figure in self.figures.items()},
            "findings": [_told(notice) for notice in self.findings],
            "notes": [_told(notice) for notice in self.notes],
        }


def report_steps(
    clip: Path,
    portrait: Path,
    *,
    face: int | None = None,
    points: tuple[Point, ...] | None = None,
    waveform: np.ndarray | None = None,
) -> Generator[Step, None, Report]:
    """Measure a finished clip, as a generator of Steps that returns the Report; closing it stops.

    Args:
        clip: A video with sound, by any program.
        portrait: The picture it was made from.
        face: Which face of the portrait, 1 the largest.
        points: Five handles of the portrait's face, where none is found.
        waveform: (samples,) float32, mono, 16 000 Hz: the voice alone, in the clip's time; None takes the clip's sound.

    Raises:
        AvatarError: a file cannot be read, or the portrait's face cannot be found.
    """
    yield Step("StageReading")
    film = Clip(clip)
    speech = media.load_speech(clip, spare_seconds=MAX_CLIP_SECONDS - media.MAX_SECONDS)
    picture = media.load_portrait(portrait)
    found = faces.locate(picture, name=Path(portrait).name, number=face, points=points)
    others = [one for one in faces.find_faces(picture) if one.score >= faces.SURE and not one.is_same(found)]
    is_alone = waveform is not None or not others
    if waveform is None:
        waveform = _from_first_frame(speech.waveform, film.sound_start)

    watch = Watch(picture, found)
    due, num_frames, ends = 0.0, 0, 0.0
    total = max(1, round((film.seconds or speech.seconds) * film.fps))
    for shown in film.pictures():
        num_frames, ends = num_frames + 1, shown.seconds + shown.step
        if shown.seconds >= due - TOLERANCE:
            watch.see(shown)
            due = max(due, shown.seconds - shown.step) + (DENSE_STEP if shown.seconds < DENSE_SECONDS else SPARSE_STEP)
        else:
            watch.pass_by(shown)
        if num_frames % FPS == 1:
            yield Step("StageMeasuring", min(num_frames, total), total)
    seen = watch.finish()

    count = max(1, round(ends * FPS))
    asked = yield from _listen(waveform, count)
    figures = _figures(seen, asked, picture, found, count)
    notes = []
    if seen.num_measured < num_frames:
        notes.append(Notice("ReportSampled", {"measured": seen.num_measured, "count": num_frames}))
    if asked.source == "loudness":
        notes.append(Notice("ReportNoSpeech"))
    return Report(
        clip=film.name,
        portrait=Path(portrait).name,
        seconds=ends,
        width=film.width,
        height=film.height,
        fps=film.fps,
        num_frames=num_frames,
        num_measured=seen.num_measured,
        figures=figures,
        findings=_findings(figures, seen.distances, ends, is_alone),
        notes=tuple(notes),
        asked=asked.jaw,
        measured=seen.opening_at(count),
        envelope=_envelope(waveform, ends),
        segments=asked.segments,
    )


def _listen(waveform: np.ndarray, count: int) -> Generator[Step, None, MouthTrack]:
    listening = follow_speech(waveform, count)
    while True:
        try:
            yield Step("StageListening", round(100 * next(listening)), 100)
        except StopIteration as finished:
            track: MouthTrack = finished.value
            return track


def _from_first_frame(waveform: np.ndarray, start: float) -> np.ndarray:
    """The sound as it is heard from the first frame on, when it begins `start` seconds after that."""
    samples = round(start * media.SAMPLE_RATE)
    return np.pad(waveform, (samples, 0)) if samples >= 0 else waveform[-samples:]


def _envelope(waveform: np.ndarray, seconds: float) -> np.ndarray:
    size, count = media.SAMPLE_RATE // ENVELOPE_RATE, max(1, round(seconds * ENVELOPE_RATE))
    heard = waveform[: count * size]
    peaks = np.abs(np.pad(heard, (0, count * size - len(heard)))).reshape(count, size).max(axis=1)
    return (peaks / max(float(peaks.max()), 1e-6)).astype(np.float32)


def _figures(seen: Any, asked: MouthTrack, picture: np.ndarray, found: Face, count: int) -> dict[str, Figure]:
    opening = seen.opening_at(count)
    is_seen = np.isfinite(opening)
    has_mouth = is_seen.mean() >= 0.5 and is_seen.sum() >= 10
    sync = lag = spread = None
    longest = min(round(LONGEST_LAG_SECONDS * FPS), max(1, count // 3))
    if has_mouth:
        filled = np.where(is_seen, opening, opening[is_seen].mean())
        lag, sync = measures.best_lag(filled, asked.jaw, longest)
        low, high = np.percentile(opening[is_seen], [5, 95])
        spread = float(high - low)
        if spread < LEAST_RANGE or sync < least_sync(count / FPS):
            lag = None  # of a mouth that does not follow, the best fit is chance
    noise = np.random.default_rng(0).normal(0, max(seen.noise, 1e-6), count)  # what the landmark net trembles by itself
    loudest = max(float(np.percentile(asked.jaw, 95)), 1e-6)
    perfect_lag, perfect_sync = measures.best_lag(FULL_RANGE * asked.jaw / loudest + noise, asked.jaw, longest)
    size = seen.face_px / max(found.box.height, 1.0)
    distance = float(np.median(seen.distances)) if len(seen.distances) else None
    return {
        "sync_r": Figure(sync, measures.correlation(noise, asked.jaw), perfect_sync),
        "lag_ms": Figure(lag, None, perfect_lag),
        "mouth_range_mouth_widths": Figure(spread, float(np.ptp(np.percentile(noise, [5, 95]))), FULL_RANGE),
        "identity_distance": Figure(distance, seen.first_distance, _own_distance(picture, found, size)),
        "face_share": Figure(seen.face_share, 1.0, 1.0),
        "flicker_levels": Figure(seen.flicker, 0.0, 0.0),
        "blinks_per_minute": Figure(seen.blinks_per_minute, 0.0, BLINKS),
    }


def _own_distance(picture: np.ndarray, found: Face, size: float) -> float | None:
    """How far the portrait lies from itself, shown `size` times as large: what a clip loses by its pixels alone."""
    if not 0 < size < 1:
        return 0.0
    small = cv2.resize(picture, None, fx=size, fy=size, interpolation=cv2.INTER_AREA)
    return float(np.linalg.norm(describe(small, found.landmarks * size) - describe(picture, found.landmarks)))


def least_sync(seconds: float) -> float:
    """The r that a mouth must reach: three times what chance gives in a clip of this length."""
    return float(np.clip(3 / np.sqrt(CHANCES_A_SECOND * max(seconds, 0.1)), LEAST_SYNC, MOST_CHANCE))


def _findings(figures: dict[str, Figure], distances: np.ndarray, seconds: float, is_alone: bool) -> tuple[Notice, ...]:
    """What is wrong, in sentences; of a face that is not alone in its picture, part of the sound may be another's."""
    values = {name: figure.clip for name, figure in figures.items()}
    wrong: list[Notice] = []
    share, sync, lag = (values[name] for name in ("face_share", "sync_r", "lag_ms"))
    if share is not None and share < LEAST_FACE_SHARE:
        wrong.append(Notice("ReportFaceMissing", {"percent": max(1, round(100 * (1 - share)))}))
    if sync is not None:
        if lag is None:
            wrong.append(Notice("ReportDoesNotFollow" if is_alone else "ReportFollowsInPart", _exact("r", sync)))
        elif lag > LATEST_MS:
            wrong.append(Notice("ReportMouthLags", {"ms": round(lag)}))
        elif lag < EARLIEST_MS:
            wrong.append(Notice("ReportMouthLeads", {"ms": round(-lag)}))
    distance = values["identity_distance"]
    if distance is not None:
        quarter = max(1, len(distances) // 4)
        first, last = float(np.median(distances[:quarter])), float(np.median(distances[-quarter:]))
        if last - first > DRIFT and last > DRIFTED and first < OTHER_FACE:
            wrong.append(Notice("ReportFaceDrifts", _exact("first", first) | _exact("last", last)))
        elif distance > OTHER_FACE:
            wrong.append(Notice("ReportOtherFace", _exact("distance", distance)))
    if (flicker := values["flicker_levels"]) is not None and flicker > MOST_FLICKER:
        wrong.append(Notice("ReportFlickers", {"levels": flicker}))
    if values["blinks_per_minute"] == 0 and seconds >= BLINKS_MISSED_AFTER:
        wrong.append(Notice("ReportNoBlinks", {"seconds": seconds}))
    return tuple(wrong) or (Notice("ReportAllWell"),)


def _exact(name: str, value: float) -> dict[str, str]:
    """A value with two decimals, as each language writes it."""
    written = f"{value:.2f}"
    return {f"{name}_en": written, f"{name}_fr": written.replace(".", ",")}


def _rounded(figure: Figure) -> dict[str, float | None]:
    return {
        name: None if value is None else round(float(value), 3) for name, value in dataclasses.asdict(figure).items()
    }


def _told(notice: Notice) -> dict[str, str]:
    return {"key": notice.key} | {language: notice.text(language) for language in LANGUAGES}
