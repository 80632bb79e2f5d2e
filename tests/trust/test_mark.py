"""The invisible mark: written, found after what clips meet, and not found where none is."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import hardware, media
from pipeline.trust.mark import (
    LOOKS,
    PAYLOADS,
    STRENGTHS,
    THRESHOLD,
    Mark,
    Search,
    codeword,
    decode,
    false_positive_rate,
    find,
)
from tests.benchmarks.mark import ATTACKS, Drawn, attacked, delivered, drawn, marked, pixels, psnr
from tests.quality.portraits import portraits

KEY = b"a secret"
PAYLOAD = 0xBEEF
SIZES = ((256, 256), (258, 1030), (334, 500), (456, 256), (512, 512), (608, 1080), (1080, 606), (1080, 1920))
SHOTS = (("woman_facing_camera", 512, "1:1"), ("drawing_of_a_house", 384, "picture"))  # much texture, and little
SHORT = 12  # frames


@pytest.fixture(scope="module")
def photograph(portrait_path: Path) -> np.ndarray:
    """(height, width, 3) uint8, RGB."""
    return media.load_portrait(portrait_path)


def fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of a picture in another size."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    large = cv2.resize(
        picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return np.ascontiguousarray(large[top : top + height, left : left + width])


@pytest.fixture(scope="module", params=SHOTS, ids=lambda shot: shot[0])
def shot(request: pytest.FixtureRequest) -> Drawn:
    """The first frames of a clip, before the encoder."""
    name, size, framing = request.param
    return drawn(name, size, framing, SHORT)


@pytest.fixture(scope="module")
def clip(shot: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a mark, as a render writes it."""
    return delivered(shot, marked(shot.frames, PAYLOAD, KEY), tmp_path_factory.mktemp("marked") / "clip.mp4")


def test_any_two_codewords_differ_in_112_signs_or_more() -> None:
    products = {tuple((codeword(one) * codeword(other)).tolist()) for one, other in ((5, 9), (300, 7), (65_535, 256))}
    assert products == {tuple(codeword(number).tolist()) for number in (5 ^ 9, 300 ^ 7, 65_535 ^ 256)}  # it is linear
    differences = {int((codeword(number) < 0).sum()) for number in range(1, PAYLOADS)}
    assert (min(differences), max(differences)) == (112, 144)


def test_decoding_mends_every_55_wrong_signs() -> None:
    rng = np.random.default_rng(0)
    for payload in rng.integers(PAYLOADS, size=50):
        signs = codeword(int(payload)).copy()
        signs[rng.choice(256, 55, replace=False)] *= -1
        assert decode(signs) == (payload, 256 - 2 * 55)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
def test_mark_is_found_at_every_size_and_at_three_quarters_of_it(size: tuple[int, int], photograph: np.ndarray) -> None:
    frame = Mark(*size, PAYLOAD, KEY).embed(fitted(photograph, *size))
    smaller = cv2.resize(frame, [round(0.75 * side / 2) * 2 for side in size[::-1]], interpolation=cv2.INTER_CUBIC)
    for seen in (frame, smaller):
        found = find([seen], KEY)
        assert found is not None
        assert found.payload == PAYLOAD


@pytest.mark.parametrize("name", ["repacked as mkv", "crf 28", "0.75 + crf 23", "0.75 + crf 28"])
def test_mark_survives_what_clips_meet(name: str, clip: Path) -> None:
    found = find(pixels(attacked(clip, ATTACKS[name])), KEY)
    assert found is not None
    assert found.payload == PAYLOAD
    assert found.confidence >= found.threshold == THRESHOLD


def test_delivered_clip_needs_one_frame(clip: Path) -> None:
    frames = pixels(clip)
    found = find(frames, KEY)
    assert found is not None
    assert (found.payload, found.num_frames) == (PAYLOAD, 1)
    assert sum(1 for _ in frames) == SHORT - 1


def test_clip_without_a_mark_and_clip_of_another_key_hold_none(shot: Drawn, clip: Path, tmp_path: Path) -> None:
    assert find(pixels(delivered(shot, shot.frames, tmp_path / "plain.mp4")), KEY) is None
    assert find(pixels(clip), b"another secret") is None


def test_no_picture_comes_near_the_threshold_under_any_key() -> None:
    assert false_positive_rate() < 1e-6
    most = 0.0
    for number, example in enumerate(portraits().values()):
        picture = fitted(media.load_portrait(example.path), 512, 512)
        for key in range(20):
            search = Search(b"%d %d" % (number, key))
            search.add(picture)
            most = max(most, search.best()[1])
    assert 3.5 < most < THRESHOLD - 1  # the best of 65 536 agrees by chance, and never enough


def test_search_reads_no_more_than_its_last_look_and_keeps_no_frame(photograph: np.ndarray) -> None:
    small = fitted(photograph, 256, 256)
    read = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal read
        while True:
            read += 1
            yield small.copy()

    tracemalloc.start()
    try:
        assert find(endless(), KEY) is None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read == LOOKS[-1]
    assert peak < 20 * small.nbytes


def test_flat_places_stay_as_they_are() -> None:
    grey = np.full((512, 512, 3), 120, np.uint8)
    assert np.array_equal(Mark(512, 512, PAYLOAD, KEY).embed(grey), grey)
    assert find([grey], KEY) is None


def test_mark_changes_little() -> None:
    for example in portraits().values():
        frame = fitted(media.load_portrait(example.path), 512, 512)
        [after] = marked([frame], PAYLOAD, KEY)
        assert psnr(frame, after) > 39, example.name
        assert np.abs(after.astype(int) - frame).mean() < 2, example.name


def test_what_is_already_there_is_not_added_again(photograph: np.ndarray) -> None:
    frame = fitted(photograph, 512, 512)
    first, second = Mark(512, 512, PAYLOAD, KEY), Mark(512, 512, PAYLOAD, KEY)
    second.embed(first.embed(frame))
    assert first.strength is not None
    assert first.strength > STRENGTHS[0] == second.strength


def test_frame_of_another_size_is_passed_over(photograph: np.ndarray) -> None:
    [frame] = marked([fitted(photograph, 512, 512)], PAYLOAD, KEY)
    search, alone = Search(KEY), Search(KEY)
    for seen in (frame, fitted(photograph, 256, 456), frame):
        search.add(seen)
    alone.add(frame)
    assert search.num_frames == 2
    assert search.best() == pytest.approx(alone.best())


def test_no_frames_hold_no_mark() -> None:
    assert find([], KEY) is None


def test_what_is_no_payload_and_no_frame_is_refused(photograph: np.ndarray) -> None:
    for payload in (-1, PAYLOADS):
        with pytest.raises(ValueError, match="0 to 65535"):
            Mark(512, 512, payload, KEY)
    mark = Mark(512, 512, 0, KEY)
    for frame in (fitted(photograph, 512, 510), np.zeros((512, 512, 3), np.float32)):
        with pytest.raises(ValueError, match="must be"):
            mark.embed(frame)


def test_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORTRAIT_MARK_KEY", raising=False)
    default = hardware.mark_key()
    monkeypatch.setenv("PORTRAIT_MARK_KEY", "")
    assert hardware.mark_key() == default
    monkeypatch.setenv("PORTRAIT_MARK_KEY", "clé à nous")
    assert hardware.mark_key() == "clé à nous".encode()
