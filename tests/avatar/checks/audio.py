"""What we hear beside the published code: waveform, mel, Whisper's states, and each frame's slice of them."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from pipeline.avatar.audio import FRAME_POSITIONS, encode_audio, load_waveform
from pipeline.avatar.presets import FPS, FRAMES_PER_LATENT, SAMPLE_RATE, SAMPLES_PER_FRAME
from pipeline.avatar.windows import plan_timeline
from tests.avatar.checks import Difference

TOLERANCE = 2e-5  # of states around 1


def differences(folder: Path) -> Iterator[Difference]:
    """audio_tiny."""
    if not (folder / "audio_tiny.safetensors").exists():
        return
    goldens = load_file(folder / "audio_tiny.safetensors")
    facts = json.loads((folder / "audio_tiny.json").read_text(encoding="utf-8"))
    audio_encoder = whisper(facts, goldens)
    feature_extractor = WhisperFeatureExtractor(**facts["feature_extractor"])
    for name, case in facts["cases"].items():
        golden = {key.removeprefix(f"{name}."): value for key, value in goldens.items() if key.startswith(f"{name}.")}
        with tempfile.TemporaryDirectory() as room:
            path = Path(room) / "sound.wav"
            path.write_bytes(golden["wav_bytes"].numpy().tobytes())
            waveform = load_waveform(path)
        yield _largest(f"audio_tiny {name} waveform", torch.from_numpy(waveform), golden["waveform_16k"], 0)
        mel = feature_extractor(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features.half()
        stored = golden["input_features_fp16"]  # its beginning is enough: what follows is silence
        yield _largest(f"audio_tiny {name} mel", mel[..., : stored.shape[-1]], stored, 0)

        parts = {"audio_encoder": audio_encoder, "feature_extractor": feature_extractor}
        speech = encode_audio(waveform, **parts)
        yield Difference(f"audio_tiny {name} number of frames", abs(speech.num_frames - case["audio_len"]), 0)
        longest = encode_audio(waveform, 700, **parts)  # the states of 28 s, silence after the sound
        states = golden["encoder_hidden_states_first64"][0]
        yield _largest(f"audio_tiny {name} states", longest.states[4 : 4 + len(states)], states, TOLERANCE)

        step = round(FPS / case["fps"] * 2)  # encoder positions from one frame to the next
        for key, numbers in (
            ("audio_prompts_unpadded", list(range(case["audio_len"]))),
            ("audio_prompts_num_frames_129", case["stored_frames_of_num_frames_129"]),
        ):
            if case["fps"] == FPS:
                found = (speech if key.endswith("unpadded") else longest).frames(numbers)
            else:  # a frame rate we do not offer: the same rows, further apart
                found = longest.states[torch.tensor(numbers)[:, None] * step + torch.arange(FRAME_POSITIONS)][None]
            yield _largest(f"audio_tiny {name} {key}", found, golden[key], TOLERANCE)
    rows = facts["audio_len_table"]
    wrong = sum(
        row["n_samples"] // SAMPLES_PER_FRAME != row["audio_len"]
        or plan_timeline(max(row["frames"], 5)).kept_latent_frames != row["padded_frames"] // FRAMES_PER_LATENT + 1
        for row in rows
    )
    yield Difference(f"audio_tiny lengths ({len(rows)} rows)", wrong, 0)


def whisper(facts: dict[str, Any], goldens: dict[str, torch.Tensor]) -> WhisperModel:
    """The golden's encoder inside a whole model; the decoder is never run."""
    sizes = facts["whisper_config"]
    decoder = {"decoder_layers": 1, "decoder_ffn_dim": 8, "decoder_attention_heads": sizes["encoder_attention_heads"]}
    model = WhisperModel(WhisperConfig(**sizes, **decoder))
    weights = {key.removeprefix("sd.encoder."): value for key, value in goldens.items() if key.startswith("sd.")}
    model.encoder.load_state_dict(weights)
    return model.eval()


def _largest(name: str, found: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> Difference:
    """The largest difference; infinite when the shapes differ."""
    if found.shape != wanted.shape:
        return Difference(f"{name} {tuple(found.shape)} beside {tuple(wanted.shape)}", float("inf"), tolerance)
    return Difference(name, (found.float() - wanted.float()).abs().max().item(), tolerance)
