"""The measures against inputs whose answer is known."""

import cv2
import numpy as np
import pytest

from pipeline.face import landmarks_in, locate, region_around
from pipeline.media import load_portrait
from tests.quality import measures
from tests.quality.portraits import portraits

PORTRAITS = portraits()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A smiling photograph, 512x512."""
    return load_portrait(PORTRAITS["woman_facing_camera"].path)


@pytest.fixture(scope="module")
def marks(picture: np.ndarray) -> np.ndarray:
    """Its 478 points."""
    return locate(picture, name="astronaut").landmarks


@pytest.fixture(scope="module")
def big(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Her face as large as a clip shows it, and its points."""
    face = np.ascontiguousarray(cv2.resize(picture[10:266, 100:356], (512, 512), interpolation=cv2.INTER_CUBIC))
    return face, locate(face, name="astronaut").landmarks


@pytest.fixture(scope="module")
def glasses() -> tuple[np.ndarray, np.ndarray]:
    """A face behind dark-rimmed glasses and its points."""
    picture = load_portrait(PORTRAITS["officer_with_glasses"].path)
    face = cv2.resize(picture[60:460, 60:460], (512, 512), interpolation=cv2.INTER_CUBIC)
    return face, locate(face, name="grace_hopper").landmarks


def moved(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    turn = np.radians(degrees)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.column_stack([points[:, :2] @ matrix.T + shift, points[:, 2]]).astype(np.float32)


def speaking(marks: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """The face with its lower lip lowered by `opening` mouth widths, frame by frame."""
    points = np.repeat(marks[None], len(opening), axis=0).copy()
    axes = measures.on_face_axes(marks[None])[0]
    mouth_width = np.linalg.norm(axes[308] - axes[78])
    eyes = [marks[list(corners), :2].mean(axis=0) for corners in measures.EYE_CORNERS]
    along = eyes[1] - eyes[0]
    points[:, 14, :2] += (opening * mouth_width)[:, None] * np.array([-along[1], along[0]])
    return points


def test_mouth_openings_do_not_see_the_head_turn_or_come_nearer(marks: np.ndarray) -> None:
    clip = np.stack([moved(marks, 2 * i, 1 + 0.03 * i, (3 * i, -2 * i)) for i in range(10)])
    aperture, width = measures.mouth_openings(clip, marks)
    assert np.ptp(aperture) < 1e-4
    assert np.allclose(width, 1, atol=1e-4)
    assert measures.identity_rms(clip, marks) < 1e-4


def test_mouth_openings_are_in_mouth_widths(marks: np.ndarray) -> None:
    opening = np.linspace(0, 0.4, 20)
    aperture, _ = measures.mouth_openings(speaking(marks, opening), marks)
    assert np.allclose(aperture - aperture[0], opening, atol=1e-3)


def test_a_mouth_opened_in_the_pixels_is_seen_by_the_landmark_net(big: tuple[np.ndarray, np.ndarray]) -> None:
    frame, marks = big
    region = region_around(marks)
    y, x = np.mgrid[0:512, 0:512].astype(np.float32)
    seam = float(marks[[13, 14], 1].mean())
    apertures = []
    for drop in (0, 8, 16, 24):
        below = np.clip((y - seam) / (marks[152, 1] - seam), 0, 1)
        lowered = cv2.remap(frame, x, np.where(y > seam + drop, y - drop * (1 - 0.5 * below), y), cv2.INTER_CUBIC)
        lowered[int(seam) : int(seam) + drop, int(marks[78, 0]) + 6 : int(marks[308, 0]) - 6] = (60, 20, 20)
        points, _ = landmarks_in(lowered, region)
        apertures.append(measures.mouth_openings(points[None], marks)[0][0])
    assert np.all(np.diff(apertures) > 0.02)


def test_identity_rms_is_the_length_the_points_strayed(marks: np.ndarray) -> None:
    clip = np.repeat(marks[None], 4, axis=0).copy()
    eyes = [marks[list(corners), :2].mean(axis=0) for corners in measures.EYE_CORNERS]
    strayed = [point for point in measures.RIGID if point not in np.ravel(measures.EYE_CORNERS)]
    clip[:, strayed, 0] += 0.05 * np.linalg.norm(eyes[1] - eyes[0])
    assert measures.identity_rms(clip, marks) == pytest.approx(0.05 * np.sqrt(22 / 26), rel=0.01)


def test_jitter_is_nothing_on_an_even_pan_and_counts_pixels_of_a_512_frame(marks: np.ndarray) -> None:
    pan = np.stack([marks + np.array([2 * i, i, 0], np.float32) for i in range(12)])
    assert measures.jitter(pan, 512) < 1e-3
    shaken = np.stack([marks + np.array([i % 2, 0, 0], np.float32) for i in range(12)])
    assert measures.jitter(shaken, 512) == pytest.approx(2, rel=1e-3)
    assert measures.jitter(shaken, 1024) == pytest.approx(1, rel=1e-3)


def test_correlation_of_a_still_mouth_is_zero() -> None:
    assert measures.correlation(np.zeros(100), np.random.default_rng(0).random(100)) == 0.0


@pytest.mark.parametrize("shift", [-3, -1, 0, 2, 4])
def test_best_lag_finds_a_known_shift(shift: int) -> None:
    sound = np.convolve(np.random.default_rng(1).random(300), np.ones(4) / 4, "same")
    lag, r = measures.best_lag(np.roll(sound, shift)[20:-20], sound[20:-20])
    assert lag == pytest.approx(40 * shift, abs=6)
    assert r > 0.95


def test_seals_and_openings_count_what_the_lips_reach() -> None:
    phonemes = [("m", 0.4, 0.5), ("a", 0.5, 0.8), ("b", 0.8, 0.88), ("æ", 0.9, 1.2), ("sil", 1.2, 2.0)]
    times = (np.arange(50) + 0.5) / 25
    aperture = np.where((times >= 0.5) & (times < 0.8), 0.3, 0.0)  # opens for a; stays closed for æ
    assert measures.seals(aperture, phonemes) == (2, 2)
    assert measures.openings(aperture, phonemes) == (1, 2)
    assert measures.seals(np.full(50, 0.3), phonemes) == (0, 2)


def test_pauses_leave_out_their_edges() -> None:
    phonemes = [("a", 0.0, 1.0), ("sil", 1.0, 2.0), ("a", 2.0, 3.0)]
    paused = np.flatnonzero(measures.pause_frames(phonemes, 75)) / 25
    assert paused.min() == pytest.approx(1.12, abs=0.05)
    assert paused.max() == pytest.approx(1.88, abs=0.05)


def test_openness_of_sound_follows_loud_low_voices_and_is_nothing_in_pauses() -> None:
    time = np.arange(32_000) / 16_000
    buzz = sum(np.sin(2 * np.pi * 120 * k * time) * np.exp(-(((120 * k - 700) / 400) ** 2)) for k in range(1, 30))
    waveform = (buzz * (time % 1 < 0.5) * 0.2).astype(np.float32)
    openness, voiced = measures.openness_of_sound(waveform, 50)
    assert openness[3:10].min() > 0.5
    assert openness[16:23].max() == 0
    assert voiced[3:10].all()
    assert not voiced[16:23].any()


def with_lids(frame: np.ndarray, marks: np.ndarray, share: float) -> np.ndarray:
    """The frame with the eyes covered from above by skin, by this share of their height."""
    painted = frame.copy()
    for opening, cheek in zip(measures.EYE_OPENINGS, measures.CHEEKS, strict=True):
        outline = marks[list(opening), :2]
        top, bottom = outline[:, 1].min(), outline[:, 1].max()
        mask = np.zeros(frame.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
        mask[int(top + share * (bottom - top)) :] = 0
        painted[mask > 0] = np.median([frame[int(marks[p, 1]), int(marks[p, 0])] for p in cheek], axis=0)
    return painted


@pytest.mark.parametrize("who", ["big", "glasses"])
def test_blinks_are_seen_in_the_pixels_and_only_where_they_are(who: str, request: pytest.FixtureRequest) -> None:
    frame, marks = request.getfixturevalue(who)
    shares = np.zeros(60)
    shares[20:24], shares[45:48] = (0.5, 1, 1, 0.4), (0.6, 1, 0.3)
    region = region_around(marks)
    frames = [with_lids(frame, marks, share) for share in shares]
    points = np.stack([landmarks_in(picture, region)[0] for picture in frames])
    closures, _ = measures.watch_eyes(frames, points, frame, marks)
    found = measures.blinks(closures)
    assert len(found) == 2
    assert 20 <= found[0] <= 23 and 45 <= found[1] <= 47
    assert np.abs(closures[shares == 0]).max() < 0.05


def test_a_glance_is_not_a_blink_and_is_counted_as_a_move(big: tuple[np.ndarray, np.ndarray]) -> None:
    frame, marks = big
    looking = np.zeros(75)
    looking[25:50] = 0.1
    frames = []
    for share in looking:
        picture = frame.copy()
        for opening in measures.EYE_OPENINGS:
            outline = marks[list(opening), :2]
            mask = np.zeros(frame.shape[:2], np.uint8)
            cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
            glance = np.roll(frame, round(share * np.ptp(outline[:, 0])), axis=1)
            picture[mask > 0] = glance[mask > 0]
        frames.append(picture)
    still = np.repeat(marks[None], 75, axis=0)
    closures, gaze = measures.watch_eyes(frames, still, frame, marks)
    moves, spread = measures.gaze_moves(gaze, closures)
    assert len(measures.blinks(closures)) == 0
    assert moves == pytest.approx(2 * 60 / 3)
    assert 0.05 < spread < 0.12
    assert gaze[30] > gaze[0]

    closures, gaze = measures.watch_eyes([frame] * 75, still, frame, marks)
    assert measures.gaze_moves(gaze, closures)[0] == 0


def test_laid_on_source_undoes_a_known_movement(big: tuple[np.ndarray, np.ndarray]) -> None:
    frame, marks = big
    matrix = cv2.getRotationMatrix2D((256, 300), 4, 1.03) + np.array([[0, 0, 6], [0, 0, -3]])
    turned = cv2.warpAffine(frame, matrix, (512, 512), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    points = marks.copy()
    points[:, :2] = marks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    assert measures.upper_face_ssim([turned], points[None], frame, marks) > 0.93
    assert measures.upper_face_ssim([turned], marks[None], frame, marks) < 0.7


def test_sharpness_falls_with_blur_and_is_one_on_the_source(big: tuple[np.ndarray, np.ndarray]) -> None:
    frame, marks = big
    assert measures.sharpness([frame], marks[None], frame, marks) == pytest.approx(1)
    assert measures.sharpness([cv2.GaussianBlur(frame, (0, 0), 1.0)], marks[None], frame, marks) < 0.6


def test_background_measures_see_the_background_and_not_the_person() -> None:
    rng = np.random.default_rng(3)
    source = cv2.GaussianBlur(rng.integers(0, 255, (128, 128, 3), np.uint8), (0, 0), 2)
    source = np.clip((source.astype(np.float32) - 128) * 6 + 128, 0, 255).astype(np.uint8)
    matte = np.zeros((128, 128), np.float32)
    matte[40:, 40:90] = 1
    mask = measures.background_mask(matte)
    person_moves = [source.copy() for _ in range(20)]
    background_moves = [source.copy() for _ in range(20)]
    for i in range(20):
        person_moves[i][40:, 40:90] = rng.integers(0, 255)
        background_moves[i] = np.roll(source, i % 5, axis=1)
    assert measures.background_ssim(person_moves, source, mask, every=1) == pytest.approx(1, abs=0.01)
    assert measures.background_noise(person_moves, mask) < 0.01
    assert measures.background_ssim(background_moves, source, mask, every=1) < 0.8
    assert measures.background_noise(background_moves, mask) > 5
    assert np.isnan(measures.background_ssim(person_moves, source, np.zeros((128, 128), bool)))


def test_border_change_sees_one_frame_that_moves_to_the_edge() -> None:
    rng = np.random.default_rng(4)
    source = cv2.GaussianBlur(rng.integers(0, 255, (128, 128, 3), np.uint8), (0, 0), 2)
    assert measures.border_change([source] * 9) == 0
    assert measures.border_change([source] * 8 + [np.roll(source, 4, axis=0)]) > 1


def test_shimmer_sees_flicker_but_neither_a_moving_head_nor_a_standing_background(
    big: tuple[np.ndarray, np.ndarray],
) -> None:
    frame, marks = big
    oval = np.zeros((512, 512), np.float32)
    cv2.fillConvexPoly(oval, cv2.convexHull(np.round(marks[list(measures.FACE_OVAL), :2]).astype(np.int32)), 1)
    head = cv2.GaussianBlur(cv2.dilate(oval, np.ones((21, 21))), (0, 0), 3)
    back = np.full_like(frame, 120)
    rng = np.random.default_rng(5)

    def clip(flicker: float) -> tuple[list[np.ndarray], np.ndarray]:
        frames, points = [], []
        for i in range(25):
            matrix = np.array([[1, 0, 3 * np.sin(i / 5)], [0, 1, 2 * np.cos(i / 7)]], np.float64)
            person = cv2.warpAffine(frame, matrix, (512, 512), flags=cv2.INTER_CUBIC)
            alpha = cv2.warpAffine(head, matrix, (512, 512), flags=cv2.INTER_CUBIC)
            alpha = np.clip(alpha + flicker * rng.standard_normal(alpha.shape), 0, 1)[..., None]
            frames.append((person * alpha + back * (1 - alpha)).astype(np.uint8))
            points.append(np.column_stack([marks[:, :2] + matrix[:, 2], marks[:, 2]]))
        return frames, np.stack(points)

    ring = measures.hair_edge(head, marks)
    calm = measures.shimmer(*clip(0.0), marks, ring)
    flickering = measures.shimmer(*clip(0.1), marks, ring)
    assert calm < 1.5
    assert flickering > 3 * calm
