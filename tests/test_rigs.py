"""Points that are kept with a picture's hash."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from pipeline import rigs

POINTS = ((10.0, 20.0), (30.5, 20.0), (20.0, 40.0))
FIVE = (*POINTS, (25.0, 40.0), (22.0, 50.0))
ONE, OTHER = "1" * 64, "a" * 64


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "portrait-parlant" / rigs.FILE


def test_points_come_back_for_the_same_picture_only(state: Path) -> None:
    assert rigs.recall(ONE) is None
    assert not state.parent.exists(), "asking makes no folder"
    rigs.remember(ONE, POINTS)
    rigs.remember(OTHER, FIVE)
    one, other = rigs.recall(ONE), rigs.recall(OTHER)
    assert one is not None and one.points == POINTS
    assert other is not None and other.points == FIVE
    assert rigs.recall("2" * 64) is None


def test_new_points_replace_old_ones_and_can_be_forgotten() -> None:
    rigs.remember(ONE, FIVE)
    rigs.remember(ONE, POINTS)
    kept = rigs.recall(ONE)
    assert kept is not None and kept.points == POINTS
    rigs.forget(ONE)
    rigs.forget(OTHER)
    assert rigs.recall(ONE) is None


def test_a_picture_is_known_by_its_pixels_and_shape() -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert rigs.picture_hash(picture) == rigs.picture_hash(picture.copy())
    assert rigs.picture_hash(picture) == rigs.picture_hash(np.asfortranarray(picture))
    changed = picture.copy()
    changed[1, 1, 1] += 1
    hashes = {rigs.picture_hash(one) for one in (picture, changed, picture.reshape(4, 2, 3))}
    assert len(hashes) == 3
    assert all(rigs.HASH.fullmatch(one) for one in hashes)


def test_no_more_than_the_most_are_kept_the_oldest_going_first(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    monkeypatch.setattr(rigs, "MOST_RIGS", 3)
    names = [f"{number:064x}" for number in range(5)]
    for name in names:
        rigs.remember(name, POINTS)
    rigs.remember(names[2], FIVE)
    rigs.remember(ONE, POINTS)
    assert list(json.loads(state.read_text("utf-8"))) == [names[4], names[2], ONE]


def test_a_full_file_is_small_enough_to_be_read_again(state: Path) -> None:
    long = tuple((1234.123456789012 + i, 4321.987654321098 + i) for i in range(5))
    state.parent.mkdir(parents=True)
    rigs._write({f"{number:064x}": rigs.Rig(long, "2026-11-23") for number in range(rigs.MOST_RIGS)})
    assert state.stat().st_size < rigs.LARGEST_FILE
    assert rigs.recall(f"{7:064x}") == rigs.Rig(long, "2026-11-23")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b" " * (rigs.LARGEST_FILE + 1),
        json.dumps({ONE: None}).encode(),
        json.dumps({ONE: {"points": [[1, 2], [3, 4]], "day": "2026-11-23"}}).encode(),
        json.dumps({ONE: {"points": [[1, 2], [3, 4], [5, "x"]], "day": "2026-11-23"}}).encode(),
        json.dumps({ONE: {"points": [[1, 2], [3, 4], [5, 1e999]], "day": "2026-11-23"}}).encode(),
        json.dumps({ONE: {"points": POINTS, "day": "<script>"}}).encode(),
        json.dumps({"../x": {"points": POINTS, "day": "2026-11-23"}}).encode(),
    ],
    ids=range(13),
)
def test_a_damaged_file_is_as_none_and_is_mended_by_the_next_points(state: Path, content: bytes) -> None:
    state.parent.mkdir(parents=True)
    state.write_bytes(content)
    assert rigs.recall(ONE) is None
    rigs.remember(OTHER, POINTS)
    kept = rigs.recall(OTHER)
    assert kept is not None and kept.points == POINTS
    assert list(json.loads(state.read_text("utf-8"))) == [OTHER]


def test_where_nothing_can_be_written_nothing_is_kept_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    rigs.remember(ONE, POINTS)
    assert rigs.recall(ONE) is None


@pytest.mark.skipif(os.name != "posix", reason="rights as POSIX has them")
def test_the_folder_is_its_owners_alone(state: Path) -> None:
    rigs.remember(ONE, POINTS)
    assert stat.S_IMODE(state.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in state.parent.iterdir()] == [rigs.FILE], "no half-written file is left"


def test_the_notice_names_the_day_in_both_languages() -> None:
    notice = rigs.Rig(POINTS, "2026-11-23").notice
    assert "2026-11-23" in notice.text("en") and "2026-11-23" in notice.text("fr")
