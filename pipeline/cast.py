"""Who speaks: from a request to Speakers, each with a voice and a face, and the clip's sound. Draws nothing."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import captions, face, media, separation
from pipeline.engine import Speaker, Step
from pipeline.errors import OptionUnused, SecondFaceMissing
from pipeline.face import Face
from pipeline.media import Speech
from pipeline.plan import plan_clip
from pipeline.request import TEXT_LANGUAGES, RenderRequest
from pipeline.texts import Notice
from pipeline.voice.language import detect_language
from pipeline.voice.script import num_speakers
from pipeline.voice.spoken import Line, Mark

# Between the end of one recording and the start of the next. Source: Stivers et al. 2009, "Universals and cultural
# variation in turn-taking in conversation": a mean of 208 ms over ten languages
TURN_SECONDS = 0.2


@dataclass(frozen=True)
class Voice:
    """One speaker who has no face yet; fields as a Speaker's, but for the text, which may be in any language, None for
    one that is yet to be told."""

    speech: Speech
    start: float = 0.0
    text: str = ""
    language: str | None = None
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Heard:
    """What is heard in a clip.

    Args:
        speech: Its sound: all voices, in time.
        voices: One or two.
        lines: What is said when, of a script.
        notices: What the user should know about the voices.
    """

    speech: Speech
    voices: tuple[Voice, ...]
    lines: tuple[Line, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class Cast:
    """Those who speak, and what is heard.

    Args:
        speech: The clip's sound: all voices, in time.
        speakers: One or two.
        lines: What is said when, as far as it is known and wanted.
        notices: What the user should know about the voices.
    """

    speech: Speech
    speakers: tuple[Speaker, ...]
    lines: tuple[Line, ...]
    notices: tuple[Notice, ...]


def cast(request: RenderRequest, portrait: np.ndarray, folder: Path) -> Generator[Step, None, Cast]:
    """Read or make the voices, and find the faces they move.

    Args:
        request: What is asked for.
        portrait: (height, width, 3) uint8, RGB.
        folder: Where sound that is made goes; it is needed until the clip is written.

    Raises:
        AvatarError: a voice or a face is not there or no use.
    """
    is_script = request.speech is None
    # Faces first, and whether the framing holds them: a long script takes minutes to say.
    num = num_speakers(request.script) if is_script else 1 + (request.second_speech is not None)
    for option in ("second_voice", "second_face", "second_points"):
        if num == 1 and getattr(request, option) is not None:
            raise OptionUnused(option=option, needs='"B:"' if is_script else "second_speech")
    faces = _faces(request, portrait, num)
    boxes = [one.box for one in faces]
    plan_clip(seconds=1, size=request.size, picture_size=portrait.shape[:2], faces=boxes, framing=request.framing)
    heard = yield from (say_script if is_script else read_recordings)(request, folder)
    lines, notices = heard.lines, heard.notices
    speakers = []
    for number, (voice, found) in enumerate(zip(heard.voices, faces, strict=True)):
        language = voice.language or (detect_language(voice.text, TEXT_LANGUAGES) if voice.text else "en")
        speaker = Speaker(voice.speech, found, voice.start, language=language, marks=voice.marks)
        if language in TEXT_LANGUAGES:
            speaker = replace(speaker, text=voice.text)
        elif voice.text and not voice.marks:
            notices += (Notice("WordsNotSpelt", {"language": language}),)
        speakers.append(speaker)
        if request.captions != "none" and not is_script:
            timing = captions.time_words(voice.speech.waveform, voice.text, language)
            timed, told = yield from _as_steps("StageTiming", timing)
            notices += told
            lines += tuple(
                replace(line, start=line.start + voice.start, end=line.end + voice.start, speaker=number)
                for line in timed
            )
    if request.captions != "none" and not lines:
        notices += (Notice("CaptionsWithoutWords"),)
    return Cast(heard.speech, tuple(speakers), tuple(sorted(lines, key=lambda line: line.start)), notices)


def say_script(request: RenderRequest, folder: Path) -> Generator[Step, None, Heard]:
    """Have a request's script spoken by synthetic voices; `folder` as in `cast`.

    Raises:
        AvatarError: as `voice.speak`.
    """
    from pipeline.voice.speak import speak, write_wav

    spoken = yield from speak(
        request.script,
        language=request.language,
        voices=(request.voice, request.second_voice),
        speed=request.speed,
    )
    paths = [folder / f"voice-{number + 1}.wav" for number in range(len(spoken.waveforms))]
    for waveform, path in zip(spoken.waveforms, paths, strict=True):
        write_wav(waveform, spoken.sample_rate, path)
    mixed = paths[0]
    if len(paths) > 1:
        mixed = folder / "voices.wav"
        write_wav(np.sum(spoken.waveforms, axis=0), spoken.sample_rate, mixed)
    said = [" ".join(line.text for line in spoken.lines if line.speaker == number) for number in range(len(paths))]
    voices = tuple(
        Voice(media.load_speech(path), text=text, language=language, marks=marks)
        for path, text, language, marks in zip(paths, said, spoken.languages, spoken.marks, strict=True)
    )
    return Heard(media.load_speech(mixed), voices, spoken.lines, spoken.notices)


def read_recordings(request: RenderRequest, folder: Path) -> Generator[Step, None, Heard]:
    """Read a request's recordings, and put what is behind the voices aside; `folder` as in `cast`.

    Raises:
        AvatarError: as `media.load_speech`.
    """
    assert request.speech is not None, "a request has a recording where it has no script"
    speech = media.load_speech(request.speech)
    voices = [Voice(speech, text=request.text, language=request.language)]
    if request.second_speech is not None:
        second = media.load_speech(request.second_speech)
        start = speech.seconds + TURN_SECONDS if request.second_start is None else request.second_start
        voices.append(Voice(second, start, request.second_text, request.language))
        mixed = folder / "voices.wav"
        mixing = media.mix_voices([(voice.speech.path, voice.start) for voice in voices], mixed)
        yield from _as_steps("StageReading", mixing)
        speech = media.load_speech(mixed)
    notices = tuple(notice for voice in voices for notice in voice.speech.notices)
    notices += tuple(notice for voice in voices for notice in separation.notices(voice.speech.waveform))
    for number, voice in enumerate(voices):
        alone = yield from _as_steps("StageSeparating", separation.voice_only(voice.speech.waveform))
        voices[number] = replace(voice, speech=replace(voice.speech, waveform=alone))
    return Heard(speech, tuple(voices), notices=notices)


def _as_steps(stage: str, work: Generator[float, None, Any]) -> Generator[Step, None, Any]:
    """Do some work that tells its share done."""
    while True:
        try:
            share = next(work)
        except StopIteration as finished:
            return finished.value
        yield Step(stage, round(100 * share), 100)


def _faces(request: RenderRequest, portrait: np.ndarray, num_speakers: int) -> list[Face]:
    """A face for each speaker, none of them twice."""
    name = request.portrait.name
    if num_speakers == 1:
        return [face.locate(portrait, name=name, number=request.face, points=request.points)]
    asked = [(request.face, request.points), (request.second_face, request.second_points)]
    found: list[Face | None] = [
        None if number is None and points is None else face.locate(portrait, name=name, number=number, points=points)
        for number, points in asked
    ]
    given = [one for one in found if one is not None]
    others = face.find_faces(portrait) if len(given) < num_speakers else []
    others = [one for one in others if one.score >= face.SURE and not any(one.is_same(other) for other in given)]
    others = sorted(others[: num_speakers - len(given)], key=lambda one: one.box.left)  # the first speaker on the left
    faces = [one or others.pop(0) for one in found if one is not None or others]
    if len(faces) < num_speakers or faces[0].is_same(faces[1]):
        raise SecondFaceMissing(name=name)
    return faces
