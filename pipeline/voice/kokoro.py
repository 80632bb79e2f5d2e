"""Kokoro-82M: French, Spanish, Italian and Portuguese as people speak, and a fuller English than hibari's.

One network of 92 MB for all, run on the processor; a voice is a table of 522 KB, kept in the project. Where the network
comes from is left to files.py, French spelling to french.py, English to hibari, the others to the program espeak-ng.
"""

import functools
import importlib.util
import re
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import signal

from pipeline import hardware, models
from pipeline.engine import Step
from pipeline.errors import VoiceFailed
from pipeline.texts import Notice
from pipeline.voice import espeak, files, french, hibari
from pipeline.voice.graphs import run, with_output
from pipeline.voice.spoken import Mark
from pipeline.voice.synthesiser import Utterance, VoiceChoice
from pipeline.voice.timing import marks_from

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SAMPLE_RATE = 24_000  # Hz
DURATIONS = "/encoder/Clip_output_0"  # the graph's inner tensor of durations, one for each symbol, in UNIT_SAMPLES
UNIT_SAMPLES = 600  # 25 ms
# How far durations run behind the sound: where vowels and sibilants fit their energy best, over eight sentences in
# three languages at speeds 0.8, 1 and 1.4 (72, 62 and 52 ms).
LATE_SECONDS, LATE_SLOWED_SECONDS = 0.025, 0.037  # the second one over the speed
MOST_SYMBOLS = 510  # in one run, without the pads at both ends; rows of a voice, one for each count of symbols
STYLE_SIZE = 256  # numbers of one row
THREADS = 4  # at most: beyond that a sentence gains nothing
PAD = 0  # the number written at both ends
# Symbols in the order of their numbers, by the number of each run's first one. Source: hexgrad/Kokoro-82M, config.json.
RUNS = {
    1: ";:,.!?", 9: "—…\"()“” \u0303ʣʥʦʨᵝꭧAI", 31: "O", 33: "Q", 35: "ST", 39: "W", 41: "Yᵊabcdef",
    50: "hijklmnopqrstuvwxyzɑɐɒæ", 75: "βɔɕç", 80: "ɖðʤə", 85: "ɚɛɜ", 90: "ɟ", 92: "ɡ", 99: "ɥ", 101: "ɨɪʝ",
    110: "ɯɰŋɳɲɴø", 118: "ɸθœ", 123: "ɹ", 125: "ɾɻ", 128: "ʁɽʂʃʈʧ", 135: "ʊʋ", 138: "ʌɣɤ", 142: "χʎ", 147: "ʒʔ",
    156: "ˈˌː", 162: "ʰ", 164: "ʲ", 169: "↓", 171: "→↗↘", 177: "ᵻ",
}  # fmt: skip
NUMBER_OF = {symbol: first + place for first, run in RUNS.items() for place, symbol in enumerate(run)}
CLAUSE = re.compile(r"([^,;:.!?…—]+)([,;:.!?…—]*)")  # words, and the punctuation that ends them
CUTS = (",;:.!?…—", " ")  # where a long sentence is cut, the best first


class Voice(NamedTuple):
    """One style of speaking.

    Args:
        language: ISO 639.
        title: Name, and the accent where a language has several.
        style: File of its table, when it is not its name.
        throat: How much longer than that table's, as a fraction: resonances and pitch are so much lower.
    """

    language: str
    title: str
    style: str = ""
    throat: tuple[int, int] = (1, 1)


# There is one French voice, from France; none from Québec was found. For a second speaker it is made deeper: the men of
# the other languages read French with a word error rate above 0.2.
VOICES = {
    "ff_siwis": Voice("fr", "Siwis ♀ (France)"),
    "ff_siwis_deep": Voice("fr", "Siwis, deep (France)", "ff_siwis", (7, 6)),
    "ef_dora": Voice("es", "Dora ♀"),
    "em_alex": Voice("es", "Alex ♂"),
    "if_sara": Voice("it", "Sara ♀"),
    "im_nicola": Voice("it", "Nicola ♂"),
    "pf_dora": Voice("pt", "Dora ♀ (Brasil)"),
    "pm_alex": Voice("pt", "Alex ♂ (Brasil)"),
    "af_heart": Voice("en", "Heart ♀ (US)"),
    "am_michael": Voice("en", "Michael ♂ (US)"),
}
ESPEAK_TAGS = {"es": "es", "it": "it", "pt": "pt-br"}
AFFRICATES = {"tʃ": "ʧ", "dʒ": "ʤ", "ts": "ʦ", "dz": "ʣ"}  # one symbol each. Source: hexgrad/misaki, espeak.py


class Kokoro:
    """The synthesiser; see `Synthesiser`."""

    name = "Kokoro"
    licence = "Apache-2.0"
    languages = ("fr", "es", "it", "pt", "en")

    def status(self, language: str) -> Notice | None:
        if importlib.util.find_spec("onnxruntime") is None:
            return Notice("VoicePackageMissing", {"package": "onnxruntime"})
        if language in ESPEAK_TAGS and not espeak.program():
            return Notice("EspeakMissing")
        if language == "en" and (missing := hibari.Hibari().status(language)):
            return missing
        return None if files.found() else Notice("KokoroMissing", {"megabytes": files.ON_HUB.size // 10**6})

    def fetch(self, language: str) -> Generator[Step, None, None]:
        yield from files.fetch()

    def voices(self, language: str) -> list[VoiceChoice]:
        if language not in self.languages:
            return []
        is_ready = self.status(language) is None
        return [
            VoiceChoice(name, language, voice.title, self.name, self.licence, is_ready=is_ready)
            for name, voice in VOICES.items()
            if voice.language == language
        ]

    def speak(self, text: str, *, voice: str, language: str, speed: float) -> Utterance:
        if voice not in VOICES or VOICES[voice].language != language:
            known = ", ".join(name for name, one in VOICES.items() if one.language == language)
            raise ValueError(f"voice must be one of {known or 'none'} for {language!r}, got {voice!r}")
        late = LATE_SECONDS + LATE_SLOWED_SECONDS / speed
        waveforms, marks, now = [np.zeros(0, np.float32)], [], 0.0
        for symbols in _pieces(symbols_of(text, language)):
            waveform, seconds = _run(symbols, voice, speed)
            waveforms.append(waveform)
            marks += [
                Mark(mark.sound, now + mark.start, now + mark.end)
                for mark in marks_from(["", *symbols, ""], seconds, waveform, SAMPLE_RATE, late=late)
            ]
            now += len(waveform) / SAMPLE_RATE
        return Utterance(np.concatenate(waveforms), SAMPLE_RATE, tuple(marks))


def symbols_of(text: str, language: str) -> str:
    """A text as the network reads it: sounds, stress, spaces between words, punctuation; "" where nothing is said.

    Raises:
        VoiceFailed: the program that knows how a word is said could not.
    """
    if language == "en":
        written = " ".join(hibari.symbols_of(text))
    else:
        say: Callable[[str], str] = french.symbols_of
        if language in ESPEAK_TAGS:
            say = functools.partial(espeak.sounds_of, tag=ESPEAK_TAGS[language])
        clauses = ((say(words), signs) for words, signs in CLAUSE.findall(text))
        written = " ".join(said + signs for said, signs in clauses if said)
    for two, one in AFFRICATES.items():
        written = written.replace(two, one)
    return "".join(symbol for symbol in written if symbol in NUMBER_OF).strip()


def _pieces(symbols: str) -> Generator[str, None, None]:
    """Parts short enough for one run, cut after punctuation where there is any, else between words."""
    while len(symbols) > MOST_SYMBOLS:
        ends = (max(symbols.rfind(sign, 0, MOST_SYMBOLS) for sign in signs) + 1 for signs in CUTS)
        end = next((end for end in ends if end), MOST_SYMBOLS)
        yield symbols[:end]
        symbols = symbols[end:].lstrip()
    if symbols:
        yield symbols


def _run(symbols: str, voice: str, speed: float) -> tuple[np.ndarray, list[float]]:
    """Sound, (samples,) float32, and the seconds of each symbol and of the pads around them."""
    numbers = [PAD, *(NUMBER_OF[symbol] for symbol in symbols), PAD]
    style = _style(VOICES[voice].style or voice)[len(symbols) - 1]
    longer, usual = VOICES[voice].throat
    session = _session()
    # The two publications name inputs and outputs differently: they are told by type and shape.
    given = {True: np.array([numbers], np.int64), False: np.array([speed * longer / usual], np.float32)}
    feeds = {
        one.name: style[None] if STYLE_SIZE in one.shape else given[one.type == "tensor(int64)"]
        for one in session.get_inputs()
    }
    try:
        waveform, *_, durations = run(session, feeds)
    except Exception as error:  # of a dozen classes of onnxruntime, which share no other base
        raise VoiceFailed(engine=Kokoro.name, detail=str(error).partition("\n")[0][:200]) from error
    waveform = signal.resample_poly(waveform.reshape(-1), longer, usual)
    unit = UNIT_SAMPLES * longer / usual / SAMPLE_RATE
    return waveform.astype(np.float32, copy=False), [float(units) * unit for units in durations.reshape(-1)]


@functools.cache
def _style(voice: str) -> np.ndarray:
    """(MOST_SYMBOLS, STYLE_SIZE) float32, read-only: how a voice speaks so many symbols."""
    return np.frombuffer(models.read(f"voices/{voice}.bin"), "<f4").reshape(-1, STYLE_SIZE)


@models.opened_once
def _session() -> "InferenceSession":
    """The network; it may be run by several threads at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(THREADS, hardware.usable_cores())
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting costs others a third of a core
    options.log_severity_level = 3  # errors alone
    graph = with_output(files.read(), DURATIONS)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
