"""`python -m tests.benchmarks.music`: does music or noise behind a voice move the mouth? Before and after voice_only.

Known voices with known backgrounds at 10, 5 and 0 dB; the jaw is compared with that of the same voice alone. The music
is made here, but for two recordings among the sounds that ship inside the gradio package.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy import signal

from pipeline.draft.speech import MouthTrack, follow_speech
from pipeline.generators import to_end
from pipeline.media import SAMPLE_RATE, load_speech
from pipeline.plan import FPS
from pipeline.separation import voice_only
from tests.quality.clips import known_voices, real_voices
from tests.quality.measures import correlation

LEVELS_DB = (10, 5, 0)  # of the voice where it speaks, over the background
ALONE_SECONDS = 2.0  # of background before the voice begins, and after it ends
VOICE_SECONDS = 6.0  # of each voice: a sentence or two
SPOKEN = 0.5  # of MouthTrack.speak: above, something is said
CHORDS = ((57, 60, 64, 69), (53, 57, 60, 65), (48, 52, 55, 64), (55, 59, 62, 67))  # A minor, F, C, G; MIDI notes
BEAT_SECONDS = 0.5


def _hz(note: int) -> float:
    """Frequency of a MIDI note."""
    return 440.0 * 2 ** ((note - 69) / 12)


def _tone(note: int, num_samples: int, *, partials: int, vibrato: float = 0.0) -> np.ndarray:
    """A note of `partials` harmonics that fall off by 1/k, its pitch swaying by `vibrato` of itself."""
    time = np.arange(num_samples) / SAMPLE_RATE
    phase = 2 * np.pi * _hz(note) * (time + vibrato / (2 * np.pi * 5.5) * np.sin(2 * np.pi * 5.5 * time))
    heard = [k for k in range(1, partials + 1) if k * _hz(note) < SAMPLE_RATE / 2 * 0.95]
    return np.sum([np.sin(k * phase) / k for k in heard], axis=0)


def chords(num_samples: int) -> np.ndarray:
    """Strings: four sustained chords, two seconds each, that swell and overlap."""
    length = round(4.4 * BEAT_SECONDS * SAMPLE_RATE)
    swell = signal.windows.tukey(length, 0.25)
    sound = np.zeros(num_samples + length)
    for number, start in enumerate(range(0, num_samples, round(4 * BEAT_SECONDS * SAMPLE_RATE))):
        for note in CHORDS[number % 4]:
            sound[start : start + length] += swell * _tone(note, length, partials=12, vibrato=0.004)
    return sound[:num_samples]


def rhythm(num_samples: int) -> np.ndarray:
    """Drums and an electric bass: kick, snare and hats at 120 beats a minute, the bass in eighths."""
    rng = np.random.default_rng(20)
    beat = round(BEAT_SECONDS * SAMPLE_RATE)
    time = np.arange(beat) / SAMPLE_RATE
    kick = np.sin(2 * np.pi * (50 * time + 4 * (1 - np.exp(-30 * time)))) * np.exp(-9 * time)
    sound = np.zeros(num_samples + 2 * beat)
    for number, start in enumerate(range(0, num_samples, beat)):
        noise = rng.normal(size=beat)
        snare = (0.5 * noise + np.sin(2 * np.pi * 185 * time)) * np.exp(-18 * time)
        sound[start : start + beat] += 1.5 * kick if number % 2 == 0 else snare
        root = CHORDS[number // 4 % 4][0] - 24
        for half in (0, beat // 2):
            hat = np.diff(rng.normal(size=beat // 2), 2, prepend=[0, 0]) * np.exp(-60 * time[: beat // 2])
            bass = _tone(root, beat // 2, partials=10) * np.exp(-4 * time[: beat // 2])
            sound[start + half : start + half + beat // 2] += 0.08 * hat + 0.6 * bass
    return sound[:num_samples]


def melody(num_samples: int) -> np.ndarray:
    """A fiddle alone, its notes as long as syllables and in a voice's range."""
    rng = np.random.default_rng(21)
    scale = (57, 59, 60, 62, 64, 65, 67, 69, 72)
    body = signal.butter(2, [400, 2500], "band", fs=SAMPLE_RATE, output="sos")
    sound, start, step = np.zeros(num_samples + SAMPLE_RATE), 0, 4
    while start < num_samples:
        length = round(rng.choice([0.2, 0.3, 0.45, 0.6]) * SAMPLE_RATE)
        step = int(np.clip(step + rng.integers(-2, 3), 0, len(scale) - 1))
        bow = signal.windows.tukey(length, 0.3)
        sound[start : start + length] = bow * _tone(scale[step], length, partials=14, vibrato=0.008)
        start += length
    return (0.4 * sound + signal.sosfilt(body, sound))[:num_samples]


def band(num_samples: int) -> np.ndarray:
    """All three at once."""
    return sum(part(num_samples) / part(num_samples).std() for part in (chords, rhythm, melody))


def _shipped(name: str, num_samples: int) -> np.ndarray:
    """A recording that ships inside the gradio package, over and over."""
    folder = Path(str(find_spec("gradio").submodule_search_locations[0])) / "media_assets" / "audio"  # type: ignore[union-attr,index]
    return np.resize(load_speech(folder / name).waveform, num_samples)


def cantina(num_samples: int) -> np.ndarray:
    """A jazz band, recorded."""
    return _shipped("cantina.wav", num_samples)


def saxophone(num_samples: int) -> np.ndarray:
    """A saxophone, recorded."""
    return _shipped("sax.wav", num_samples)


def white(num_samples: int) -> np.ndarray:
    """Hiss."""
    return np.random.default_rng(22).normal(size=num_samples)


def fan(num_samples: int) -> np.ndarray:
    """A fan: pink noise, and the hum of its motor."""
    spectrum = np.fft.rfft(np.random.default_rng(23).normal(size=num_samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 20))
    noise = np.fft.irfft(spectrum, num_samples)
    return noise / noise.std() + 0.5 * _tone(31, num_samples, partials=8)


def babble(num_samples: int) -> np.ndarray:
    """Nine people at once, none of whom is the one who speaks."""
    rng = np.random.default_rng(24)
    voices = [load_speech(voice.path).waveform for voice in known_voices("held_out")]
    parts = [np.roll(np.resize(voice, num_samples), rng.integers(num_samples)) for voice in (*voices, *voices[:4])]
    return np.sum([part / part.std() for part in parts], axis=0)


MUSIC: dict[str, Callable[[int], np.ndarray]] = {
    "chords": chords,
    "rhythm": rhythm,
    "melody": melody,
    "band": band,
    "cantina": cantina,
    "saxophone": saxophone,
}
NOISE: dict[str, Callable[[int], np.ndarray]] = {"white": white, "fan": fan, "babble": babble}


VOICES = ("en_bella", "fr_siwis_a", "cate_blanch")  # made in English and French; recorded from a person


def voices() -> dict[str, np.ndarray]:
    """VOICES by name, VOICE_SECONDS of each between two silences of ALONE_SECONDS."""
    found = {}
    around = np.zeros(round(ALONE_SECONDS * SAMPLE_RATE), np.float32)
    for voice in (*known_voices("tuning"), *real_voices()):
        if voice.name in VOICES:
            waveform = load_speech(voice.path).waveform[: round(VOICE_SECONDS * SAMPLE_RATE)]
            found[voice.name] = np.concatenate([around, waveform, around])
    return found


def mixed(voice: np.ndarray, background: np.ndarray, decibels: float) -> np.ndarray:
    """The voice `decibels` over the background, both measured where the voice speaks; never clipped."""
    blocks = np.square(voice[: len(voice) // 320 * 320].reshape(-1, 320)).mean(1)
    speech_power = blocks[blocks > 0.01 * np.percentile(blocks, 95)].mean()
    other = background * np.sqrt(speech_power * 10 ** (-decibels / 10) / np.square(background).mean())
    heard = voice + other
    return (heard * min(1.0, 0.95 / np.abs(heard).max())).astype(np.float32)


def listen(waveform: np.ndarray) -> MouthTrack:
    """What the mouth does."""
    return to_end(follow_speech(waveform, len(waveform) * FPS // SAMPLE_RATE))


@dataclass(frozen=True)
class Score:
    """How near a mouth is to that of the voice alone.

    Args:
        r: Correlation of the jaws, whole clip.
        r_speech: The same where the voice speaks.
        alone: Mean jaw where the background sounds alone, 0..1.
    """

    r: float
    r_speech: float
    alone: float


def score(mouth: MouthTrack, clean: MouthTrack) -> Score:
    """Compare what a mouth does with what it does for the voice alone."""
    speaks, pauses = clean.speak > SPOKEN, clean.hold < 1 - SPOKEN
    return Score(
        correlation(mouth.jaw, clean.jaw),
        correlation(mouth.jaw[speaks], clean.jaw[speaks]),
        float(mouth.jaw[pauses].mean()),
    )


def mean(scores: Iterable[Score]) -> Score:
    """Their mean, figure by figure."""
    return Score(*np.mean([(one.r, one.r_speech, one.alone) for one in scores], axis=0).tolist())


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(prog="python -m tests.benchmarks.music", description=__doc__).parse_args()
    clean = {name: listen(waveform) for name, waveform in voices().items()}
    seconds = sounded = 0.0
    before, after = {}, {}
    for background, play in {**MUSIC, **NOISE}.items():
        for decibels in LEVELS_DB:
            for name, voice in voices().items():
                heard = mixed(voice, play(len(voice)), decibels)
                started = time.process_time()
                alone = to_end(voice_only(heard))
                seconds, sounded = seconds + time.process_time() - started, sounded + len(voice) / SAMPLE_RATE
                before[background, decibels, name] = score(listen(heard), clean[name])
                after[background, decibels, name] = score(listen(alone), clean[name])
    print("| background | dB | r | r speech | jaw without a voice |")
    print("| --- | ---: | ---: | ---: | ---: |")
    groups = {"**all music**": list(MUSIC), "**all noise**": list(NOISE)}
    for label, members in {**{name: [name] for name in (*MUSIC, *NOISE)}, **groups}.items():
        for decibels in LEVELS_DB:
            keys = [key for key in before if key[0] in members and key[1] == decibels]
            then, now = mean(before[key] for key in keys), mean(after[key] for key in keys)
            pairs = ((then.r, now.r), (then.r_speech, now.r_speech), (then.alone, now.alone))
            print(f"| {label} | {decibels} | " + " | ".join(f"{one:.2f} → {two:.2f}" for one, two in pairs) + " |")
    untouched = [name for name, voice in voices().items() if to_end(voice_only(voice)) is voice]
    print(f"\n{seconds / sounded:.3f} s of processor time a second of sound. Alone, left as they are: {untouched}.")


if __name__ == "__main__":
    main()
