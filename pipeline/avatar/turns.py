"""Two voices in one picture: each moves its own face, and only while it sounds. Masks and waveforms, no weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_closing, binary_dilation

from pipeline.avatar.portrait import face_mask, scaled_box
from pipeline.avatar.presets import FRAMES_PER_LATENT, SAMPLE_RATE
from pipeline.draft import speech
from pipeline.generators import to_end
from pipeline.plan import FPS

BRIDGED_SECONDS = 0.8  # a pause as long as this is still of the turn: a speaker's breath
AROUND_SECONDS = 0.16  # before and after a turn: one latent frame, in which a mouth opens and shuts


def on_the_clips_time(waveforms: Sequence[np.ndarray], starts: Sequence[float]) -> list[np.ndarray]:
    """Voices that begin at `starts` seconds as voices that all begin with the clip; silence goes before."""
    return [
        np.concatenate([np.zeros(round(start * SAMPLE_RATE), np.float32), waveform])
        for waveform, start in zip(waveforms, starts, strict=True)
    ]


def faces_or_masks(portrait: np.ndarray, waveforms: Sequence[np.ndarray], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Which part of the picture each voice moves, as the pipeline takes it.

    Args:
        portrait: (rows, columns, 3): what is shown of the picture.
        waveforms: As in `turn_masks`.
        facts: A job's: `faces`, boxes in pixels of the portrait, and `height`, `width`, `num_frames` of the clip.
    """
    if len(waveforms) == 1:
        return {"faces": facts["faces"]}
    height, width = facts["height"], facts["width"]
    boxes = [scaled_box(box, portrait, height, width) for box in facts["faces"]]
    return {"face_masks": turn_masks(waveforms, boxes, height=height, width=width, num_frames=facts["num_frames"])}


def turns(waveform: np.ndarray, num_frames: int) -> np.ndarray:
    """When a voice is heard, pauses for breath bridged.

    Args:
        waveform: (samples,) float32, mono, 16 000 Hz, from the clip's begin on.
        num_frames: Of the clip.

    Returns:
        (num_frames,) bool.
    """
    gate = speech.energy_gate(to_end(speech.analyse(waveform)))
    bridged = round(BRIDGED_SECONDS / speech.STEP)
    gate = binary_closing(np.pad(gate, bridged), np.ones(bridged))[bridged:-bridged]
    gate = binary_dilation(gate, iterations=round(AROUND_SECONDS / speech.STEP))
    steps = ((np.arange(num_frames) + 0.5) / FPS / speech.STEP).astype(int)
    heard: np.ndarray = np.where(steps < len(gate), gate[np.minimum(steps, len(gate) - 1)], False)
    return heard


def turn_masks(
    waveforms: Sequence[np.ndarray], boxes: Sequence[Sequence[float]], *, height: int, width: int, num_frames: int
) -> list[torch.Tensor]:
    """For every voice, where it moves the picture in every latent frame: its face's mask, or nowhere.

    Where two faces are near each other, their masks, three times as large, overlap: there a voice keeps to the points
    that are nearer to its own face.

    Args:
        waveforms: One for each speaker, (samples,) float32, 16 000 Hz, from the clip's begin on.
        boxes: x, y, width, height of each one's face, pixels of the clip.
        height: Of the clip, pixels.
        width: Of the clip, pixels.
        num_frames: Of the clip.

    Returns:
        For each, (latent frames, height, width) uint8: as the pipeline takes for `face_masks`.
    """
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    far = torch.stack(
        [torch.hypot(columns - x - across / 2, rows - y - down / 2) / down for x, y, across, down in boxes]
    )
    nearest = far.argmin(dim=0)
    masks = []
    for number, (waveform, box) in enumerate(zip(waveforms, boxes, strict=True)):
        heard = turns(waveform, num_frames)
        # a latent frame holds four frames, the first one alone: it counts where any of them is heard
        padded = np.pad(heard, (FRAMES_PER_LATENT - 1, -(num_frames - 1) % FRAMES_PER_LATENT), mode="edge")
        per_latent = torch.from_numpy(padded.reshape(-1, FRAMES_PER_LATENT).any(axis=1))
        own = face_mask(box, height, width)[0, 0, 0] * (nearest == number)
        masks.append(per_latent.to(torch.uint8)[:, None, None] * own)
    return masks
