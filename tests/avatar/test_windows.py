"""Which latent frames are denoised together, and what they hear."""

import pytest

from pipeline.avatar.windows import plan_timeline, windows_of


@pytest.mark.parametrize("num_frames", [5, 6, 29, 128, 129, 130, 161, 250, 256, 400, 1_000, 15_000])
def test_every_latent_frame_is_denoised_in_every_step(num_frames: int) -> None:
    timeline = plan_timeline(num_frames)
    for step in (0, 1, 7, 33):
        windows = windows_of(timeline, step)
        assert len(windows) == timeline.num_windows
        assert set().union(*(window.latent_frames for window in windows)) == set(range(timeline.latent_frames))
        for window in windows:
            assert len(set(window.latent_frames)) == timeline.window_latent_frames == 33
            assert len(window.speech_frames) == 129


@pytest.mark.parametrize("num_frames", [5, 29, 129, 130, 161, 15_000])
def test_enough_latent_frames_are_kept_for_the_clip(num_frames: int) -> None:
    timeline = plan_timeline(num_frames)
    assert num_frames <= 4 * (timeline.kept_latent_frames - 1) + 1
    assert timeline.kept_latent_frames <= timeline.latent_frames <= timeline.noise_latent_frames


def test_a_latent_frame_hears_its_own_four_video_frames_whatever_the_step() -> None:
    timeline = plan_timeline(400)
    for step in range(12):
        for window in windows_of(timeline, step):
            for place, latent in enumerate(window.latent_frames[1:], start=1):
                heard = window.speech_frames[4 * place - 3 : 4 * place + 1]
                assert heard[-1] == 4 * latent, "the last of the four is the latent frame's own time"


def test_windows_move_so_that_no_cut_stays_in_one_place() -> None:
    timeline = plan_timeline(400)
    cuts = [frozenset(window.latent_frames[0] for window in windows_of(timeline, step)) for step in range(6)]
    assert len(set(cuts)) == 6


@pytest.mark.parametrize(("num_frames", "latent"), [(5, 2), (6, 3), (9, 3), (29, 8), (128, 33), (129, 33)])
def test_a_short_window_holds_what_the_clip_needs(num_frames: int, latent: int) -> None:
    timeline = plan_timeline(num_frames, full_window=False)
    assert timeline.window_latent_frames == timeline.latent_frames == timeline.kept_latent_frames == latent
    whole = plan_timeline(num_frames)
    assert timeline.noise_latent_frames == whole.noise_latent_frames, "a seed's noise stays the same"
    assert timeline.clip_latent_frames == whole.clip_latent_frames == latent
    (window,) = windows_of(timeline, 3)
    assert window.speech_frames == tuple(range(4 * latent - 3))


@pytest.mark.parametrize("num_frames", [4, 0, -1])
def test_fewer_than_five_frames_are_refused(num_frames: int) -> None:
    with pytest.raises(ValueError, match=f"5 or more, got {num_frames}"):
        plan_timeline(num_frames)
