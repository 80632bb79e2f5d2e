"""A script spoken: who reads it, sentence by sentence, on one time axis, all voices equally loud.

Sentences come from script.py, sound from the synthesisers; what a mouth makes of it is left to the draft.
"""

import time
import wave
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from math import gcd
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage, signal

from pipeline import hardware
from pipeline.engine import Step
from pipeline.errors import (
    DiskFull,
    DownloadError,
    LanguageUnknown,
    OutputNotWritable,
    ScriptEmpty,
    SpaceMissing,
    SpeedUnsupported,
    VoiceMissing,
    VoiceNotReady,
    VoiceSpeaksOther,
    VoiceUnknown,
)
from pipeline.files import written_whole
from pipeline.hardware import Finding
from pipeline.media import MAX_SECONDS
from pipeline.request import FASTEST, SLOWEST
from pipeline.texts import Notice
from pipeline.voice import files
from pipeline.voice.espeak import Espeak
from pipeline.voice.hibari import Hibari
from pipeline.voice.kokoro import Kokoro
from pipeline.voice.language import detect_language
from pipeline.voice.script import Sentence, labels_read, left_out, read_script
from pipeline.voice.spoken import Line, Mark, Spoken
from pipeline.voice.synthesiser import Synthesiser, Utterance, VoiceChoice

__all__ = [
    "catalogue",
    "detect_language",
    "examine",
    "known_language",
    "languages",
    "robotic_missing",
    "speak",
    "voices_of",
    "write_wav",
]

SYNTHESISERS: tuple[Synthesiser, ...] = (Kokoro(), Hibari(), Espeak())  # the most natural first
DOWNLOADED = Kokoro.name  # the one whose voices are to be had without installing anything
FIRST_LANGUAGES = ("en", "fr", "es", "it", "pt")  # those with natural voices: listed first, guessed first

SAMPLE_RATE = 24_000  # Hz, of the natural voices; eSpeak NG's 22 050 is raised to it
BEFORE_SECONDS, AFTER_SECONDS = 0.25, 0.4  # of silence round the whole: a breath, and time for the mouth to close
MARGIN_SECONDS = 0.03  # of a sentence's faint beginning and end that is kept
FAINT_DB = 45.0  # under its loudest moment, a sentence's edge is silence
SILENT_DB = -80.0  # of full scale: nothing was said; see media.SILENT_PEAK
LEVEL_STEP = 0.02  # seconds of one level

TARGET_DB = -20.0  # mean level of speech in full scale, where recordings of voices usually lie; see media.QUIET_DB
GATE_DB = 15.0  # steps that far under the mean are no speech and do not count in it
DEEPER = (6, 5)  # pitch and resonances as 5 to 6, three semitones down: another person, and still clear
RETRY_SECONDS = 600.0  # after a download that failed, before the next one that nobody asked for by name
LIMIT = 0.95  # of full scale: peaks are held under it, so that 16 bits and AAC never clip
LIMIT_SECONDS = 0.005  # over which the limiter turns down and up again
MOST_WORDS = 8  # named in a notice
MOST_VOICES = 12  # named in an error

_failed = -RETRY_SECONDS  # when a download failed last, by time.monotonic()


def catalogue() -> list[VoiceChoice]:
    """Every voice of every language, languages with natural voices first, of each the best voice first."""
    return [choice for language in languages() for choice, _ in voices_of(language)]


def voices_of(language: str) -> list[tuple[VoiceChoice, Notice | None]]:
    """The voices of one language, the best first, and what is missing to use each, None for nothing."""
    return [(choice, one.status(language)) for one in SYNTHESISERS for choice in one.voices(language)]


def examine() -> Iterator[Finding]:
    """Which languages are read aloud here, and what the others need."""
    natural = [one for one in FIRST_LANGUAGES if any(not missing for _, missing in _natural(one))]
    yield Finding(Notice("DoctorVoices", {"languages": ", ".join(natural)}), good=bool(natural))
    lacking = {missing.key: missing for one in FIRST_LANGUAGES for _, missing in _natural(one) if missing}
    for missing in lacking.values():
        yield Finding(missing, good=None)
    if (chosen := hardware.voices_path()) and not files.is_named(chosen):
        yield Finding(Notice("VoicesPathWrong", {"path": str(chosen)}), good=False)
    robotic = robotic_missing()
    told = Notice("DoctorRobotic", {"count": len(languages()) - len(FIRST_LANGUAGES)})
    yield Finding(robotic or told, good=None if robotic else True)


def _natural(language: str) -> list[tuple[VoiceChoice, Notice | None]]:
    return [(choice, missing) for choice, missing in voices_of(language) if not choice.is_robotic]


def robotic_missing() -> Notice | None:
    """What to install for the hundred languages that have robotic voices alone; None when it is there."""
    return Espeak().status("")


def languages() -> list[str]:
    """ISO 639 codes of all languages that somebody reads, those with natural voices first."""
    known = {language for synthesiser in SYNTHESISERS for language in synthesiser.languages}
    return [*FIRST_LANGUAGES, *sorted(known - set(FIRST_LANGUAGES))]


def known_language(language: str) -> str:
    """The language as the lists have it: "fr-CA" is French.

    Raises:
        LanguageUnknown: nobody reads it.
    """
    code = language.strip().replace("_", "-").partition("-")[0].lower()
    if code not in languages():
        raise LanguageUnknown(language=language[:20], known=", ".join(languages()))
    return code


def speak(
    script: str,
    *,
    language: str | None = None,
    voices: tuple[str | None, str | None] = (None, None),
    speed: float = 1.0,
) -> Generator[Step, None, Spoken]:
    """Speak a script; the same one gives the same sound. Closing the generator stops it.

    Natural voices come before robotic ones: the first script in a language whose natural voice is not there downloads
    it, and where that cannot be, a robotic one reads, which a notice tells. Two speakers get two voices.

    Args:
        script: What is said, at most request.MAX_TEXT_LENGTH characters; lines that begin with `A:` or `B:` change the
            speaker.
        language: ISO 639; None to tell it by the text.
        voices: Names out of `catalogue()`, of the first and the second speaker; None chooses.
        speed: SLOWEST to FASTEST, 1 as usual. Pauses follow it.

    Yields:
        How many sentences are spoken.

    Returns:
        The sound, cut where media.MAX_SECONDS are full, which a notice tells.

    Raises:
        TextTooLong, ScriptEmpty, LanguageUnknown, SpeedUnsupported, VoiceUnknown, VoiceSpeaksOther, VoiceNotReady,
        VoiceMissing, VoiceFailed, DownloadError.
    """
    if not SLOWEST <= speed <= FASTEST:  # nan is not, either
        raise SpeedUnsupported(speed=float(speed), slowest=SLOWEST, fastest=FASTEST)
    if language is not None:
        language = known_language(language)
    typed = read_script(script, language, _likely(voices))
    sentences = _of_one_or_two([sentence for sentence in typed if sentence.has_words])
    yield Step("StageSpeaking", 0, len(sentences))

    notices: list[Notice] = []
    cast: list[_Reader] = []
    spoken_in: list[str] = []
    for speaker in range(max(sentence.speaker for sentence in sentences) + 1):
        read = next(sentence.language for sentence in sentences if sentence.speaker == speaker)
        taken = [reader.choice.name for reader in cast] + [name for name in voices[speaker + 1 :] if name]
        cast.append((yield from _reader(voices[speaker], read, taken)))
        spoken_in.append(read)
        if cast[-1].choice.is_robotic and (notice := _robotic(read, voices[speaker])) not in notices:
            notices.append(notice)

    tracks: list[list[tuple[int, np.ndarray]]] = [[] for _ in cast]
    marks: list[list[Mark]] = [[] for _ in cast]
    lines: list[Line] = []
    now = BEFORE_SECONDS
    end = now
    for number, sentence in enumerate(sentences):
        reader = cast[sentence.speaker]
        waveform, its_marks = _trimmed(reader.speak(sentence, speed))
        seconds = len(waveform) / SAMPLE_RATE
        if now + seconds + AFTER_SECONDS > MAX_SECONDS:
            told = {"count": number, "total": len(sentences), "minutes": round(MAX_SECONDS / 60)}
            notices.append(Notice("ScriptCut", told | {"words": sentence.written[:60]}))
            break
        if seconds:
            tracks[sentence.speaker].append((round(now * SAMPLE_RATE), waveform))
            marks[sentence.speaker] += [Mark(mark.sound, now + mark.start, now + mark.end) for mark in its_marks]
            lines.append(Line(sentence.written, now, now + seconds, sentence.speaker))
            end = now + seconds
            now = end + sentence.pause / speed
        yield Step("StageSpeaking", number + 1, len(sentences))
    if not lines:
        raise ScriptEmpty(length=len(script))
    if labels := labels_read(script):
        notices.append(Notice("ScriptLabelsRead", {"labels": ", ".join(labels[:MOST_WORDS])}))
    if unread := [word for sentence in typed for word in left_out(sentence)]:
        notices.append(Notice("ScriptLeftOut", {"words": ", ".join(unread[:MOST_WORDS])}))
    num_samples = round((end + AFTER_SECONDS) * SAMPLE_RATE)
    waveforms = tuple(_equally_loud(track, num_samples) for track in tracks)
    whole = tuple(_with_pauses(part) for part in marks)
    return Spoken(SAMPLE_RATE, waveforms, whole, tuple(lines), tuple(spoken_in), tuple(notices))


def write_wav(waveform: np.ndarray, sample_rate: int, path: Path) -> None:
    """Write a mono sound as 16-bit WAV, whole or not at all.

    Args:
        waveform: (samples,) float; beyond [-1, 1] it is clipped.
        sample_rate: Hz.
        path: Of the file; its folder exists.

    Raises:
        DiskFull, OutputNotWritable.
    """
    try:
        with written_whole(Path(path)) as part, part.open("wb") as raw, wave.open(raw, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample_rate)
            file.writeframes((np.clip(waveform, -1, 1) * 32_767).round().astype("<i2").tobytes())
    except OSError as error:
        raise OutputNotWritable(path=str(path)) from error


# --- who reads --------------------------------------------------------------------------------------------------------


class _Reader(NamedTuple):
    """A voice, who speaks with it, and whether it is made deeper, because the other speaker has it as it is."""

    synthesiser: Synthesiser
    choice: VoiceChoice
    is_deeper: bool = False

    def speak(self, sentence: Sentence, speed: float) -> Utterance:
        """Say a sentence; a deeper voice says it faster, and is stretched."""
        longer, usual = DEEPER if self.is_deeper else (1, 1)
        said = self.synthesiser.speak(
            sentence.spoken, voice=self.choice.name, language=sentence.language, speed=speed * longer / usual
        )
        if not self.is_deeper:
            return said
        waveform = signal.resample_poly(said.waveform, longer, usual) if len(said.waveform) else said.waveform
        ratio = longer / usual
        marks = tuple(Mark(mark.sound, mark.start * ratio, mark.end * ratio) for mark in said.marks)
        return Utterance(waveform, said.sample_rate, marks)


def _likely(voices: Sequence[str | None]) -> list[str]:
    """Languages a script may be in; first the one of a voice asked for, which is taken where letters tell nothing."""
    asked = [choice.language for name in voices if name for choice in catalogue() if choice.name == name]
    return list(dict.fromkeys([*asked, *languages()]))


def _of_one_or_two(sentences: list[Sentence]) -> list[Sentence]:
    """The sentences, with the speakers counted from 0: a script of `B:` lines alone has one speaker."""
    if all(sentence.speaker for sentence in sentences):
        return [replace(sentence, speaker=0) for sentence in sentences]
    return sentences


def _readers(language: str) -> list[_Reader]:
    """Every voice that reads a language, the most natural first."""
    return [_Reader(one, choice) for one in SYNTHESISERS for choice in one.voices(language)]


def _downloaded(language: str) -> Generator[Step, None, None]:
    """Fetch the natural voices of a language, where there are any to be had.

    Raises:
        DownloadError: they cannot be.
    """
    for synthesiser in SYNTHESISERS:
        if synthesiser.name == DOWNLOADED and language in synthesiser.languages:
            yield from synthesiser.fetch(language)


def _downloaded_if_it_can_be(language: str) -> Generator[Step, None, None]:
    """As `_downloaded`; where it cannot be, nothing: offline, a robotic voice is better than none.

    It is not tried again for a while, as a Hub that does not answer takes many seconds to be given up.
    """
    global _failed
    if time.monotonic() - _failed < RETRY_SECONDS:
        return
    try:
        yield from _downloaded(language)
    except (DownloadError, DiskFull, SpaceMissing):
        _failed = time.monotonic()


def _reader(name: str | None, language: str, taken: Sequence[str]) -> Generator[Step, None, _Reader]:
    """The voice asked for, or the best one that is ready and not taken.

    Raises:
        VoiceUnknown, VoiceSpeaksOther, VoiceNotReady, VoiceMissing, DownloadError.
    """
    if name is None and not any(
        reader.choice.is_ready for reader in _readers(language) if not reader.choice.is_robotic
    ):
        yield from _downloaded_if_it_can_be(language)
    readers = _readers(language)
    if name is None:
        ready = [reader for reader in readers if reader.choice.is_ready]
        if not ready:
            raise VoiceMissing(language=language, **_advice(language))
        free = [reader for reader in ready if reader.choice.name not in taken]
        if not ready[0].choice.is_robotic and (not free or free[0].choice.is_robotic):
            return ready[0]._replace(is_deeper=True)  # natural, and not the same as the other
        return (free or ready)[0]
    if not any(reader.choice.name == name for reader in readers):
        known = ", ".join([reader.choice.name for reader in readers][:MOST_VOICES])
        for choice in catalogue():
            if choice.name == name:
                raise VoiceSpeaksOther(voice=name, speaks=choice.language, language=language, known=known or "–")
        raise VoiceUnknown(voice=name[:60], known=known or "–")
    reader = next(reader for reader in readers if reader.choice.name == name)
    if not reader.choice.is_ready:
        yield from _downloaded(language)
        if missing := reader.synthesiser.status(language):
            raise VoiceNotReady(voice=name, advice_en=missing.text("en"), advice_fr=missing.text("fr"))
    return reader


def _advice(language: str) -> dict[str, str]:
    """What to install or download for the best voice of a language that is not there, in both languages; or ""."""
    for synthesiser in SYNTHESISERS:
        if language in synthesiser.languages and (missing := synthesiser.status(language)):
            return {"advice_en": missing.text("en"), "advice_fr": missing.text("fr")}
    missing = Espeak().status(language)
    return {f"advice_{code}": missing.text(code) if missing else "" for code in ("en", "fr")}


def _robotic(language: str, asked: str | None) -> Notice:
    """That a voice is robotic, and how to get a better one where there is one."""
    better = any(not choice.is_robotic for one in SYNTHESISERS for choice in one.voices(language))
    if better and asked is None:
        return Notice("VoiceRoboticNow", {"language": language, **_advice(language)})
    return Notice("VoiceRobotic", {"language": language})


# --- the sound --------------------------------------------------------------------------------------------------------


def _trimmed(said: Utterance) -> tuple[np.ndarray, list[Mark]]:
    """An utterance at SAMPLE_RATE without the silence round it; (samples,) float32, and its marks moved along."""
    waveform = np.nan_to_num(np.asarray(said.waveform, np.float32))
    if said.sample_rate != SAMPLE_RATE and len(waveform):
        common = gcd(SAMPLE_RATE, said.sample_rate)
        waveform = signal.resample_poly(waveform, SAMPLE_RATE // common, said.sample_rate // common)
    levels = _levels(waveform)
    if levels.max(initial=-np.inf) < SILENT_DB:
        return np.zeros(0, np.float32), []
    heard = np.flatnonzero(levels > levels.max() - FAINT_DB)
    step = round(LEVEL_STEP * SAMPLE_RATE)
    margin = round(MARGIN_SECONDS * SAMPLE_RATE)
    first = max(0, int(heard[0]) * step - margin)
    last = min(len(waveform), (int(heard[-1]) + 1) * step + margin)
    kept = waveform[first:last].astype(np.float32)
    fade = np.linspace(0, 1, min(margin, len(kept) // 2), dtype=np.float32)
    kept[: len(fade)] *= fade  # no click where a cut falls into noise
    kept[len(kept) - len(fade) :] *= fade[::-1]
    start, seconds = first / SAMPLE_RATE, len(kept) / SAMPLE_RATE
    moved = [
        Mark(mark.sound, max(mark.start - start, 0.0), min(mark.end - start, seconds))
        for mark in said.marks
        if mark.end > start and mark.start < start + seconds
    ]
    return kept, moved


def _levels(waveform: np.ndarray) -> np.ndarray:
    """(steps,) dB of full scale, one each LEVEL_STEP; the last one may cover less."""
    step = round(LEVEL_STEP * SAMPLE_RATE)
    starts = np.arange(0, len(waveform), step)
    power = np.add.reduceat(np.square(waveform, dtype=np.float64), starts) / step if len(starts) else np.zeros(0)
    return 10 * np.log10(power + 1e-12)


def _equally_loud(track: Sequence[tuple[int, np.ndarray]], num_samples: int) -> np.ndarray:
    """One speaker's sentences in their places, at TARGET_DB, peaks under LIMIT: (num_samples,) float32."""
    whole = np.zeros(num_samples, np.float32)
    if not track:
        return whole
    power = 10 ** (np.concatenate([_levels(waveform) for _, waveform in track]) / 10)
    power = power[power > power.mean() / 10 ** (GATE_DB / 10)]
    gain = 10 ** (TARGET_DB / 20) / np.sqrt(power.mean())
    for first, waveform in track:
        whole[first : first + len(waveform)] = _limited(gain * waveform)[: num_samples - first]
    return whole


def _limited(waveform: np.ndarray) -> np.ndarray:
    """A sound whose peaks stay under LIMIT, turned down smoothly around each."""
    if np.abs(waveform).max(initial=0) <= LIMIT:
        return waveform.astype(np.float32)
    width = round(LIMIT_SECONDS * SAMPLE_RATE)
    allowed = np.minimum(1, LIMIT / np.maximum(np.abs(waveform), LIMIT))
    # the mean of what is least nearby never allows more than the middle does
    gain = ndimage.uniform_filter1d(ndimage.minimum_filter1d(allowed, width), width)
    return np.clip(waveform * gain, -LIMIT, LIMIT).astype(np.float32)


def _with_pauses(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """Marks with the pauses between sentences filled in, so that none is left without."""
    whole: list[Mark] = []
    for mark in marks:
        before = whole[-1].end if whole else 0.0
        if mark.start > before:
            if whole and whole[-1].sound == "sil":
                before = whole.pop().start
            whole.append(Mark("sil", before, mark.start))
        if mark.sound == "sil" and whole and whole[-1].sound == "sil":
            mark = Mark("sil", whole.pop().start, mark.end)
        whole.append(mark)
    return tuple(whole)
