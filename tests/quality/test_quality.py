"""The gates, on two clips of the real engine; and the two controls, which must not pass them.

`python -m tests.quality` prints the same measures for every voice and picture.
"""

from pathlib import Path

import pytest
from PIL import Image

from tests.quality.clips import Take, Voice, known_voices, listen_to_loudness_only, make_take
from tests.quality.portraits import portraits
from tests.quality.report import GATES, LIP_GATES, Gate, Row, failures, lips, picture
from tests.quality.sheets import COLUMNS, TILE, write_sheet
from tests.quality.truth import truth_track

PORTRAITS = portraits()
VOICES = {voice.name: voice for collection in ("tuning", "held_out") for voice in known_voices(collection)}
CLIPS = {
    "closed mouth behind glasses, words unknown": ("officer_with_glasses", "en_hibari", False),
    "broad smile, French, words given": ("woman_facing_camera", "fr_siwis_a", True),
}
STRICTER = {"m b p %": Gate(low=95), "bg SSIM": Gate(low=0.975)}  # reached with room to spare; see the README's tables


def measured(take: Take, voice: Voice) -> Row:
    truth = truth_track(voice.facts, len(take.frames))
    return lips(take, voice.phonemes, truth["jaw"], truth["wide"]) | picture(take)


@pytest.mark.parametrize("clip", CLIPS)
def test_a_clip_passes_every_gate(clip: str) -> None:
    portrait, voice, with_text = CLIPS[clip]
    speech = {"r speech": Gate(low=0.75 if with_text else 0.65)}
    take = make_take(PORTRAITS[portrait].path, VOICES[voice], with_text=with_text)
    assert failures(measured(take, VOICES[voice]), GATES | STRICTER | speech) == []


def test_a_mouth_that_only_follows_loudness_fails() -> None:
    voice = VOICES["en_hibari"]
    take = make_take(PORTRAITS["officer_with_glasses"].path, voice, mouth=listen_to_loudness_only)
    truth = truth_track(voice.facts, len(take.frames))
    row = lips(take, voice.phonemes, truth["jaw"], truth["wide"])
    assert row["r speech"] < 0.4
    assert {failure.split(":")[0] for failure in failures(row, LIP_GATES)} >= {"r speech", "r width", "m b p %"}


def test_a_still_picture_fails(tmp_path: Path) -> None:
    voice = VOICES["en_hibari"]
    take = make_take(PORTRAITS["officer_with_glasses"].path, voice, is_still=True)
    row = measured(take, voice)
    assert abs(row["r"]) < 0.2
    failed = {failure.split(":")[0] for failure in failures(row)}
    assert failed >= {"r", "r speech", "m b p %", "P95 mw", "blinks/min", "jitter px"}

    write_sheet(take, voice.phonemes, tmp_path / "sheet.png", "still")  # the sheets of `python -m tests.quality`
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (COLUMNS * TILE, sheet.height)
        assert sheet.height > 4 * TILE
