"""The mouth tracks against known phoneme times, without drawing a picture: python -m tests.quality.tracks.

Prints one row per voice and way of listening: without words, with words, and without words through noise, a room, a
telephone, music. The finished clips are judged by measures.py.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pipeline.draft.speech import FRAME_MIDDLE, MouthTrack, follow_speech
from pipeline.generators import to_end
from pipeline.plan import FPS
from tests.quality.degrade import DEGRADED
from tests.quality.truth import Voice, load_voices, true_segments, truth_track

SEALED = 0.7  # close from which lips touch in the drawn mouth
NEAR = 0.06  # seconds a closure may be off


def score(voice: Voice, track: MouthTrack) -> dict[str, Any]:
    """Compare one track with the truth.

    Returns:
        jaw, wide, pucker: correlation over speech frames; all: jaw over every frame; lag: ms by which the jaw best
        fits, negative when the picture is ahead; closed: share of true m/b/p with sealed lips within NEAR; false:
        share of sealed frames farther than NEAR from a true m/b/p; fv: as closed, for f and v; pause: mean jaw
        120 ms and more inside pauses, over its 95th percentile.
    """
    n = len(track.jaw)
    truth = truth_track(voice.facts, n)
    speech = truth["speech"] > 0

    def r(name: str, where: np.ndarray, shift: int = 0) -> float:
        pair = np.roll(getattr(track, name), shift)[where], truth[name][where]
        return float(np.corrcoef(*pair)[0, 1]) if pair[0].std() > 1e-6 else 0.0

    times = np.arange(n) / FPS + FRAME_MIDDLE
    segments = true_segments(voice.facts)

    def reached(viseme: str, seal: np.ndarray) -> tuple[float, float]:
        wanted = [s for s in segments if s.viseme == viseme]
        hit = [seal[(times > s.start - NEAR) & (times < s.end + NEAR)].max() >= SEALED for s in wanted]
        near = np.zeros(n, bool)
        for s in wanted:
            near |= (times > s.start - NEAR - 0.5 / FPS) & (times < s.end + NEAR + 0.5 / FPS)
        sealed = (seal >= SEALED) & speech
        return float(np.mean(hit)), float((sealed & ~near).sum() / max(1, sealed.sum()))

    fine = np.arange(n * 4) / 4
    jaw, true_jaw = np.interp(fine, np.arange(n), track.jaw), np.interp(fine, np.arange(n), truth["jaw"])
    lags = {shift: np.corrcoef(np.roll(jaw, shift), true_jaw)[0, 1] for shift in range(-20, 21)}
    pauses = [s for s in segments if s.viseme == "sil" and s.end - s.start > 0.3]
    inside = np.zeros(n, bool)
    for s in pauses:
        inside |= (times > s.start + 0.12) & (times < s.end - 0.12)
    closed, false = reached("PP", track.close)
    return {
        "jaw": r("jaw", speech),
        "all": r("jaw", np.ones(n, bool)),
        "wide": r("wide", speech),
        "pucker": r("pucker", speech),
        "lag": -10 * max(lags, key=lambda shift: lags[shift]),
        "closed": closed,
        "false": false,
        "fv": reached("FF", track.fv)[0],
        "pause": float(track.jaw[inside].mean() / max(np.percentile(track.jaw, 95), 1e-6)) if inside.any() else 0.0,
    }


def table(collections: list[str], ways: dict[str, Callable[[Voice], MouthTrack]]) -> list[dict[str, Any]]:
    """Score every voice of the collections in every way, printing as it goes."""
    rows: list[dict[str, Any]] = []
    for collection in collections:
        for way, hear in ways.items():
            mine = []
            for voice in load_voices(collection):
                track = hear(voice)
                mine.append(score(voice, track) | {"source": track.source})
                print(row(f"{collection} {voice.name} {way}", mine[-1]), flush=True)
            mean = {key: float(np.mean([one[key] for one in mine])) for key in mine[0] if key != "source"}
            print(row(f"{collection} mean {way}", mean), flush=True)
            rows += [one | {"collection": collection, "way": way} for one in mine]
    return rows


def row(name: str, scores: dict[str, Any]) -> str:
    """One line of the table."""
    values = "  ".join(f"{key} {value:6.2f}" for key, value in scores.items() if not isinstance(value, str))
    return f"{name:34s} {values}  {scores.get('source', '')}"


def hear_spoilt(voice: Voice, spoil: Callable[[np.ndarray], np.ndarray]) -> MouthTrack:
    """The track of a voice heard through a room, a telephone, noise."""
    return to_end(follow_speech(spoil(voice.waveform), voice.num_frames))


WAYS: dict[str, Callable[[Voice], MouthTrack]] = {
    "free": lambda voice: to_end(follow_speech(voice.waveform, voice.num_frames)),
    "words": lambda voice: to_end(
        follow_speech(voice.waveform, voice.num_frames, text=voice.facts["text"], language=voice.facts["language"])
    ),
} | {kind: partial(hear_spoilt, spoil=spoil) for kind, spoil in DEGRADED.items()}

if __name__ == "__main__":
    table(sys.argv[1:] or ["tuning", "held_out"], WAYS)
