"""Which latent frames are denoised together, and which speech they hear. Plain integers; imports no torch.

A clip longer than one window is denoised in several, which move every step and wrap round its end, so that no cut
stays in one place. Source: HunyuanVideo-Avatar, pipeline_hunyuan_video_audio.py, __call__.
"""

from dataclasses import dataclass

from pipeline.avatar.presets import (
    EXTRA_FRAMES,
    FRAMES_PER_LATENT,
    WINDOW_FRAMES,
    WINDOW_LATENT_FRAMES,
    WINDOW_SHIFT,
)

LEAST_FRAMES = 5  # of a clip: two latent frames, 0.2 s


@dataclass(frozen=True)
class Timeline:
    """The lengths of one run.

    Args:
        num_frames: Video frames of the clip.
        noise_latent_frames: Latent frames noise is drawn for.
        latent_frames: Latent frames denoised, the first of the noise's.
        kept_latent_frames: Latent frames decoded, the first of the denoised ones.
        window_latent_frames: Latent frames denoised together.
    """

    num_frames: int
    noise_latent_frames: int
    latent_frames: int
    kept_latent_frames: int
    window_latent_frames: int

    @property
    def clip_latent_frames(self) -> int:
        """Latent frames in which the clip's own video frames lie; those kept beyond them are cut after decoding."""
        return -(-(self.num_frames - 1) // FRAMES_PER_LATENT) + 1

    @property
    def num_windows(self) -> int:
        """Windows of every step."""
        return -(-self.latent_frames // self.window_latent_frames)


@dataclass(frozen=True)
class Window:
    """Latent frames denoised together and the video frames whose speech they hear, both by number.

    A speech frame past the clip's end is silence.
    """

    latent_frames: tuple[int, ...]
    speech_frames: tuple[int, ...]


def plan_timeline(num_frames: int, *, full_window: bool = True) -> Timeline:
    """Decide a run's lengths.

    Args:
        num_frames: Video frames of the clip, 5 or more; any number.
        full_window: Denoise a short clip in the published window of 129 frames, and cut it afterwards. False denoises
            what is needed: faster, outside of what the model was trained for.

    Raises:
        ValueError: fewer than 5 frames.
    """
    if num_frames < LEAST_FRAMES:
        raise ValueError(f"num_frames must be {LEAST_FRAMES} or more, got {num_frames}")
    needed = -(-(num_frames - 1) // FRAMES_PER_LATENT) + 1
    if num_frames > WINDOW_FRAMES:
        padded = num_frames + EXTRA_FRAMES
        noise = (WINDOW_LATENT_FRAMES - 1) * (padded // (WINDOW_FRAMES - 1) + 1) + 1
        return Timeline(num_frames, noise, noise, padded // FRAMES_PER_LATENT + 1, WINDOW_LATENT_FRAMES)
    noise = 2 * (WINDOW_LATENT_FRAMES - 1) + 1  # as published, so that a seed gives the published noise
    window = WINDOW_LATENT_FRAMES if full_window else needed
    return Timeline(num_frames, noise, window, window, window)


def windows_of(timeline: Timeline, step: int) -> list[Window]:
    """The windows of step `step`, counted from 0."""
    length, window = timeline.latent_frames, timeline.window_latent_frames
    shift = step * WINDOW_SHIFT % window if length > window else 0
    return [
        Window(
            tuple((start - shift + place) % length for place in range(window)),
            tuple(
                (FRAMES_PER_LATENT * (start - shift) + frame) % (FRAMES_PER_LATENT * length)
                for frame in range(FRAMES_PER_LATENT * (window - 1) + 1)
            ),
        )
        for start in range(0, length, window)
    ]
