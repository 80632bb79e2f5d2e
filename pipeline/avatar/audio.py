"""Speech to features: what Whisper's encoder hears around each video frame. Decides nothing about a clip's length.

Whisper takes 30 s at a time. Longer recordings are encoded in overlapping chunks, and each frame is cut from one chunk
alone, so that no frame's features mix two.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import torch
from transformers import WhisperFeatureExtractor, WhisperModel

from pipeline.avatar.offload import brought_in
from pipeline.avatar.presets import SAMPLE_RATE, SAMPLES_PER_FRAME

SAMPLES_PER_POSITION = 320  # 20 ms of sound behind one position of Whisper's encoder
POSITIONS_PER_FRAME = SAMPLES_PER_FRAME // SAMPLES_PER_POSITION  # 2 at 25 fps
FRAME_POSITIONS = 10  # heard by one frame, 200 ms. Source: HunyuanVideo-Avatar, audio_preprocessor.py, encode_audio
POSITIONS_BEFORE = 4  # of them before the frame's own; zeros before the sound begins. Source: the same

CHUNK_FRAMES = 750  # 30 s, what Whisper's encoder takes at a time
WHOLE_FRAMES = 748  # of them hear nothing past the chunk's end
# Chunks begin every 15 s, and each frame is taken where 7.4 s or more are heard on either side of it. Whisper's
# features carry the sound's place in the chunk, which no overlap can hide: beside one chunk centred on the join they
# differ by 1.1 of their spread, and to begin a recording 0.2 s later does the same to them. What they say of the sound
# itself (less the mean of their place) differs by 0.35 of its spread; with chunks every 28 s by 0.47, every 5 s by 0.35
# again, and another sound by 1.3. Measured on 75 s of speech with Whisper-base; tests/avatar/test_audio.py measures a
# random one alike.
CHUNK_STEP_FRAMES = 375
JOIN_FRAME = 187  # of the later chunk, counted from its start: the first frame taken from it, in the overlap's middle


@dataclass(frozen=True)
class SpeechFeatures:
    """What a recording sounds like at every video frame, held once and cut into frames on demand.

    Ten minutes take 231 MB as float32 (Whisper-tiny); written out frame by frame they would take 1.15 GB.

    Args:
        states: (rows, layers + 1, dim): Whisper's hidden states, chunk after chunk, on the CPU.
        first_rows: (num_frames,) int64: where in `states` each frame's ten rows begin.
    """

    states: torch.Tensor
    first_rows: torch.Tensor

    @property
    def num_frames(self) -> int:
        """Video frames with sound; any later one is silent."""
        return len(self.first_rows)

    def frames(self, indices: Sequence[int]) -> torch.Tensor:
        """The features of some video frames.

        Args:
            indices: Frame numbers from 0, in any order. A frame past the end gives zeros, as published padding does.

        Returns:
            audio_embeds, (1, len(indices), 10, 5, 384): per frame ten encoder positions of 20 ms, from four before it
            on, in all hidden states of Whisper-tiny.

        Raises:
            ValueError: a negative index.
        """
        numbers = torch.as_tensor(indices, dtype=torch.int64)
        if (numbers < 0).any():
            raise ValueError(f"frames are counted from 0, got {int(numbers.min())}")
        is_sound = numbers < self.num_frames
        rows = self.first_rows[numbers.clamp(max=self.num_frames - 1)]
        audio_embeds = self.states[rows[:, None] + torch.arange(FRAME_POSITIONS)]
        return (audio_embeds * is_sound[:, None, None, None])[None]


def load_waveform(path: Path) -> np.ndarray:
    """Read a recording as the published code does: mixed to mono, resampled to 16 kHz.

    Args:
        path: A sound file that libsndfile or FFmpeg reads.

    Returns:
        (samples,) float32, full scale at -1 and 1.

    Source: HunyuanVideo-Avatar, hymm_sp/data_kits/audio_dataset.py, get_audio_feature.
    """
    waveform, _ = librosa.load(path, sr=SAMPLE_RATE)
    return waveform


def check_waveform(waveform: np.ndarray, sample_rate: int) -> None:
    """Refuse what the encoder would turn into features without complaint.

    Raises:
        ValueError: not (samples,) of floats, empty, not finite, or at another rate than 16 000 Hz.
    """
    if sample_rate != SAMPLE_RATE:
        raise ValueError(f"the waveform is at {sample_rate} Hz; {SAMPLE_RATE} Hz is needed: load_waveform() resamples")
    if waveform.ndim != 1:
        raise ValueError(f"the waveform has shape {waveform.shape}; (samples,) is needed: mix its channels to mono")
    if not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(f"the waveform holds {waveform.dtype}; floats in [-1, 1] are needed")
    if not waveform.size:
        raise ValueError("the waveform has 0 samples; at least one is needed")
    if num_bad := int((~np.isfinite(waveform)).sum()):
        raise ValueError(f"{num_bad} of the waveform's {waveform.size} samples are NaN or infinite; none may be")


@torch.no_grad()
def encode_audio(
    waveform: np.ndarray,
    num_frames: int | None = None,
    *,
    audio_encoder: WhisperModel,
    feature_extractor: WhisperFeatureExtractor,
    sample_rate: int = SAMPLE_RATE,
) -> SpeechFeatures:
    """Hear a recording.

    Up to 30 s the features are the published ones, which end at 400 frames. A longer recording is encoded in chunks of
    30 s that begin every 15 s.

    Args:
        waveform: (samples,) float in [-1, 1], mono, 16 000 Hz.
        num_frames: Video frames to cover at 25 fps, 640 samples each; None takes the whole frames of the recording. Up
            to 750 may be asked for however short it is: Whisper hears silence after its end, as published.
        audio_encoder: Whisper-tiny; its encoder alone is used.
        feature_extractor: Its own.
        sample_rate: Of the waveform, Hz; only 16 000 is accepted.

    Returns:
        The features, computed in the encoder's dtype.

    Raises:
        ValueError: a waveform check_waveform() refuses, shorter than a frame without num_frames, or too short for it.

    Source: HunyuanVideo-Avatar, hymm_sp/data_kits/audio_preprocessor.py, encode_audio.
    """
    check_waveform(waveform, sample_rate)
    if num_frames is None:
        num_frames = len(waveform) // SAMPLES_PER_FRAME
    most_frames = max(CHUNK_FRAMES, -(-len(waveform) // SAMPLES_PER_FRAME))
    if not 1 <= num_frames <= most_frames:
        raise ValueError(f"num_frames must be 1 to {most_frames} for {len(waveform)} samples, got {num_frames}")

    chunks = _chunks(num_frames)
    config = audio_encoder.config
    more_rows = FRAME_POSITIONS - POSITIONS_PER_FRAME  # of a chunk, beside its frames' own
    states = torch.empty(
        POSITIONS_PER_FRAME * num_frames + more_rows * len(chunks),
        config.encoder_layers + 1,
        config.d_model,
        dtype=audio_encoder.dtype,
    )
    first_rows = POSITIONS_PER_FRAME * torch.arange(num_frames)
    with brought_in(audio_encoder) as device:
        for number, (start, begin, end) in enumerate(chunks):
            samples = waveform[start * SAMPLES_PER_FRAME : (start + CHUNK_FRAMES) * SAMPLES_PER_FRAME]
            mel = feature_extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
            mel = mel.half().to(device, audio_encoder.dtype)  # through float16, as published
            hidden_states = audio_encoder.encoder(mel, output_hidden_states=True).hidden_states
            heard = torch.stack(hidden_states, dim=2)[0].cpu()  # (1500, layers + 1, dim)
            # four zero rows before the first sound, as published; after the 1500th they end frames 748 and 749
            heard = torch.nn.functional.pad(heard, (0, 0, 0, 0, POSITIONS_BEFORE, POSITIONS_BEFORE))
            first_rows[begin:end] += more_rows * number
            row, first = int(first_rows[begin]), POSITIONS_PER_FRAME * (begin - start)
            num_rows = POSITIONS_PER_FRAME * (end - begin) + more_rows
            states[row : row + num_rows] = heard[first : first + num_rows]
    return SpeechFeatures(states, first_rows)


def _chunks(num_frames: int) -> list[tuple[int, int, int]]:
    """For each chunk the frame it starts at, the first frame taken from it, and the first not taken any more."""
    num_chunks = 1
    if num_frames > CHUNK_FRAMES:
        num_chunks += math.ceil((num_frames - WHOLE_FRAMES) / CHUNK_STEP_FRAMES)
    starts = [CHUNK_STEP_FRAMES * number for number in range(num_chunks)]
    joins = [0, *(start + JOIN_FRAME for start in starts[1:]), num_frames]
    return list(zip(starts, joins[:-1], joins[1:], strict=True))
