"""What Whisper hears around each frame: equal to the published features, without a seam in long recordings."""

import itertools
from collections.abc import Callable
from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch
from diffusers.hooks import apply_group_offloading
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from pipeline.avatar import audio
from pipeline.avatar.audio import SpeechFeatures, check_waveform, encode_audio, load_waveform
from pipeline.avatar.presets import SAMPLE_RATE, SAMPLES_PER_FRAME
from tests.conftest import EXAMPLES

GOLDENS = Path(__file__).parent / "goldens"
LONG_SECONDS = 75
NEIGHBOURHOOD = 5  # frames on either side of a join
SMALLEST = WhisperConfig(
    d_model=16,
    encoder_layers=4,
    encoder_attention_heads=2,
    encoder_ffn_dim=32,
    decoder_layers=1,
    decoder_attention_heads=2,
    decoder_ffn_dim=8,
)  # 1500 positions in the sinusoids Whisper was trained with


@pytest.fixture(scope="module")
def whisper() -> WhisperModel:
    """A narrow Whisper of random weights, so strong that its layers answer a join about as a trained one's do."""
    torch.manual_seed(0)
    model = WhisperModel(SMALLEST).eval()
    for name, parameter in model.encoder.named_parameters():
        if parameter.ndim > 1 and "embed_positions" not in name:
            gain = 1 if "conv" in name else 0.5
            torch.nn.init.normal_(parameter, std=gain * parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module")
def hear(whisper: WhisperModel) -> Callable[..., SpeechFeatures]:
    """encode_audio with the narrow Whisper."""
    extractor = WhisperFeatureExtractor()

    def encode(waveform: np.ndarray, num_frames: int | None = None, model: WhisperModel = whisper) -> SpeechFeatures:
        return encode_audio(waveform, num_frames, audio_encoder=model, feature_extractor=extractor)

    return encode


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """(samples,) 75 s: the example voices one after the other, then backwards, then again."""
    voices = np.concatenate([load_waveform(path) for path in sorted((EXAMPLES / "voices").glob("*.wav"))])
    return np.resize(np.concatenate([voices, voices[::-1]]), LONG_SECONDS * SAMPLE_RATE)


def test_thirty_seconds_are_one_chunk_and_more_begin_with_it(hear, speech) -> None:
    whole = hear(speech[: 30 * SAMPLE_RATE])
    assert whole.num_frames == 750
    assert len(whole.states) == 2 * 750 + 8
    longer = hear(speech)
    assert longer.num_frames == 1875
    published_limit = list(range(400))
    assert torch.equal(longer.frames(published_limit), whole.frames(published_limit))


def test_every_frame_is_cut_from_one_chunk(hear, speech) -> None:
    longer = hear(speech)
    chunks = audio._chunks(longer.num_frames)
    assert [frame for _, begin, end in chunks for frame in range(begin, end)] == list(range(longer.num_frames))
    for start, begin, end in chunks:
        alone = hear(speech[start * SAMPLES_PER_FRAME : (start + 750) * SAMPLES_PER_FRAME])
        own = alone.frames(range(begin - start, end - start))
        assert torch.equal(longer.frames(range(begin, end)), own)
        assert end - start <= 748  # ten positions before the chunk's end


def test_joins_of_a_long_recording_say_what_one_chunk_says(hear, speech, monkeypatch) -> None:
    """Beside one 30 s chunk centred on the join, in spreads of what is compared, root mean square over all joins.

    Whisper's features carry the sound's place in its chunk, in Whisper's own sinusoids, so they differ wherever the
    chunk begins elsewhere: by 1.15 at most at the joins, and no less in one chunk begun 0.2 s later. What they say of
    the sound is compared less the mean of their place over other speech: 0.5 at most, beside 1.5 and more for another
    sound; after every layer less than with chunks that overlap by 2 s. Measured alike, a trained Whisper-base has 1.1,
    0.35, 1.3 and, for 2 s, 0.47.
    """
    pieces = [np.roll(speech, shift)[: 30 * SAMPLE_RATE] for shift in range(0, len(speech), len(speech) // 24)]
    everywhere = torch.stack([hear(piece).frames(range(750))[0] for piece in pieces])
    place_means = everywhere.mean(0)
    spread = everywhere.std((0, 1, 2, 4))  # of each layer
    sound_spread = (everywhere - place_means).pow(2).mean((0, 1, 2, 4)).sqrt()

    def rms(difference: torch.Tensor) -> torch.Tensor:
        return difference.pow(2).mean((0, 1, 3)).sqrt()

    def at_joins(step: int, join: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The layers' raw difference and that less the means of the places."""
        monkeypatch.setattr(audio, "CHUNK_STEP_FRAMES", step)
        monkeypatch.setattr(audio, "JOIN_FRAME", join)
        longer, raw, less_place = hear(speech), [], []
        chunks = audio._chunks(longer.num_frames)
        for (before, _, at), (after, _, _) in itertools.pairwise(chunks):
            if not 375 <= at <= longer.num_frames - 375:
                continue  # no 15 s on either side
            single = hear(speech[(at - 375) * SAMPLES_PER_FRAME : (at + 375) * SAMPLES_PER_FRAME])
            for frame in range(at - NEIGHBOURHOOD, at + NEIGHBOURHOOD):
                place, place_in_single = frame - (before if frame < at else after), frame - (at - 375)
                difference = (longer.frames([frame]) - single.frames([place_in_single]))[0]
                raw.append(difference)
                less_place.append(difference - (place_means[place] - place_means[place_in_single]))
        assert len(raw) >= 2 * 2 * NEIGHBOURHOOD
        return rms(torch.cat(raw)) / spread, rms(torch.cat(less_place)) / sound_spread

    raw, less_place = at_joins(audio.CHUNK_STEP_FRAMES, audio.JOIN_FRAME)
    later = hear(speech[5 * SAMPLES_PER_FRAME :][: 30 * SAMPLE_RATE])
    begun_later = hear(speech[: 30 * SAMPLE_RATE]).frames(range(375, 385)) - later.frames(range(370, 380))
    another = (everywhere[0] - everywhere[len(pieces) // 2])[370:380]
    assert raw.max() < 1.15
    assert (rms(begun_later[0]) / spread).max() > 0.9 * raw.max()
    assert less_place.max() < 0.5
    assert (rms(another) / sound_spread).min() > 1.5
    assert (less_place < at_joins(700, 25)[1])[1:].all()


@pytest.mark.parametrize("num_frames", [749, 750, 751, 1123, 1124, 1875])
def test_only_the_last_two_frames_of_one_full_chunk_hear_zeros_at_the_end(hear, speech, num_frames) -> None:
    last = hear(speech[: num_frames * SAMPLES_PER_FRAME]).frames([num_frames - 1])[0, 0]
    num_zeros = int((last == 0).all(-1).all(-1).sum())
    assert num_zeros == {749: 2, 750: 4}.get(num_frames, 0)


def test_frames_come_in_any_order_and_are_zeros_past_the_end(hear, speech) -> None:
    features = hear(speech[: 2 * SAMPLE_RATE])
    assert features.num_frames == 50
    found = features.frames((49, 3, 50, 0, 1000))
    assert found.shape == (1, 5, 10, 5, SMALLEST.d_model)
    assert torch.equal(found[:, 1], features.frames([3])[:, 0])
    assert (found[0, 2] == 0).all()
    assert (found[0, 4] == 0).all()
    assert (found[0, 3, :4] == 0).all()  # before the sound
    assert (found[0, 3, 4:] != 0).any(-1).all()
    with pytest.raises(ValueError, match="from 0, got -1"):
        features.frames([0, -1])


def test_ten_minutes_are_held_once_not_frame_by_frame(hear, speech) -> None:
    features = hear(np.resize(speech, 600 * SAMPLE_RATE))
    assert features.num_frames == 15_000
    written_out = 15_000 * 10 * 5 * SMALLEST.d_model * 4
    assert features.states.nbytes == features.states.untyped_storage().nbytes()
    assert features.states.nbytes < written_out / 4.9
    assert features.frames([14_999]).abs().sum() > 0


@pytest.mark.parametrize(
    ("waveform", "sample_rate", "words"),
    [
        (np.zeros(0, np.float32), SAMPLE_RATE, "0 samples; at least one"),
        (np.zeros((2, 16_000), np.float32), SAMPLE_RATE, r"\(2, 16000\); \(samples,\)"),
        (np.zeros((16_000, 1), np.float32), SAMPLE_RATE, r"\(16000, 1\); \(samples,\)"),
        (np.array([0.1, np.nan, 0.1], np.float32), SAMPLE_RATE, "1 of the waveform's 3 samples are NaN"),
        (np.array([0.1, np.inf, -np.inf], np.float32), SAMPLE_RATE, "2 of the waveform's 3 samples"),
        (np.zeros(8_000, np.float32), 8_000, "8000 Hz; 16000 Hz is needed"),
        (np.zeros(8_000, np.int16), SAMPLE_RATE, "int16; floats"),
    ],
)
def test_a_waveform_it_cannot_use_is_refused_with_what_was_found(waveform, sample_rate, words, whisper) -> None:
    with pytest.raises(ValueError, match=words):
        check_waveform(waveform, sample_rate)
    with pytest.raises(ValueError, match=words):
        encode_audio(
            waveform, audio_encoder=whisper, feature_extractor=WhisperFeatureExtractor(), sample_rate=sample_rate
        )


@pytest.mark.parametrize(
    ("seconds", "num_frames", "most"), [(2, 751, 750), (2, 0, 750), (0.03, None, 750), (31, 776, 775)]
)
def test_a_number_of_frames_the_recording_does_not_have_is_refused(hear, speech, seconds, num_frames, most) -> None:
    with pytest.raises(ValueError, match=f"num_frames must be 1 to {most} for"):
        hear(speech[: round(seconds * SAMPLE_RATE)], num_frames)


@pytest.mark.parametrize("way", ["model", "sequential", "group"])
def test_an_offloaded_encoder_hears_the_same(hear, speech, whisper, way) -> None:
    model = WhisperModel(SMALLEST).eval()
    model.load_state_dict(whisper.state_dict())
    cpu = torch.device("cpu")
    if way == "model":
        accelerate.cpu_offload_with_hook(model, execution_device=cpu)
    elif way == "sequential":
        accelerate.cpu_offload(model, execution_device=cpu)
    else:
        apply_group_offloading(model, onload_device=cpu, offload_device=cpu, offload_type="leaf_level")
    sound = speech[:SAMPLE_RATE]
    assert torch.equal(hear(sound, model=model).states, hear(sound).states)
