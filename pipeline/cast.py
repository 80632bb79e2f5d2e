"""Who speaks: from a request to Speakers, each with a voice and a face, and the clip's sound. Draws nothing."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline import face, media, separation
from pipeline.engine import Speaker, Step
from pipeline.errors import SecondFaceMissing
from pipeline.face import Face
from pipeline.media import Speech
from pipeline.request import TEXT_LANGUAGES, RenderRequest
from pipeline.texts import Notice
from pipeline.voice.spoken import Line, Mark

TURN_SECONDS = 0.3  # between the end of one recording and the begin of the next: people take turns in 0.2 s on average.
# Source: Stivers et al. 2009, "Universals and cultural variation in turn-taking in conversation"


@dataclass(frozen=True)
class Cast:
    """Those who speak, and what is heard.

    Args:
        speech: The clip's sound: all voices, in time.
        speakers: One or two.
        lines: What is said when, where captions were asked for.
        notices: What the user should know about the voices.
    """

    speech: Speech
    speakers: tuple[Speaker, ...]
    lines: tuple[Line, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class _Part:
    """A voice that has no face yet; fields as a Speaker's."""

    speech: Speech
    start: float = 0.0
    text: str = ""
    marks: tuple[Mark, ...] = ()


def cast(request: RenderRequest, portrait: np.ndarray, folder: Path) -> Generator[Step, None, Cast]:
    """Read or make the voices, and find the faces they move.

    Args:
        request: What is asked for.
        portrait: (height, width, 3) uint8, RGB.
        folder: Where sound that is made goes; it is needed until the clip is written.

    Raises:
        AvatarError: a voice or a face is not there or no use.
    """
    notices: tuple[Notice, ...] = ()
    lines: tuple[Line, ...] = ()
    language = request.language
    if request.script:
        from pipeline import voice

        spoken = yield from voice.speak(
            request.script,
            language=language,
            voices=(request.voice, request.second_voice),
            speed=request.speed,
        )
        parts = []
        for number, (waveform, marks) in enumerate(zip(spoken.waveforms, spoken.marks, strict=True)):
            path = folder / f"voice-{number + 1}.wav"
            voice.write_wav(waveform, spoken.sample_rate, path)
            parts.append(_Part(media.load_speech(path), marks=marks))
        notices, lines = spoken.notices, spoken.lines
        speech = parts[0].speech
        if len(parts) > 1:
            voice.write_wav(sum(spoken.waveforms), spoken.sample_rate, folder / "voices.wav")
            speech = media.load_speech(folder / "voices.wav")
    else:
        assert request.speech is not None, "a request has a recording where it has no script"
        speech = media.load_speech(request.speech)
        parts = [_Part(speech, text=request.text)]
        if request.second_speech is not None:
            second = media.load_speech(request.second_speech)
            start = speech.seconds + TURN_SECONDS if request.second_start is None else request.second_start
            parts.append(_Part(second, start, request.second_text))
            mixed = folder / "voices.wav"
            for share in media.mix_voices([(part.speech.path, part.start) for part in parts], mixed):
                yield Step("StageReading", round(100 * share), 100)
            speech = media.load_speech(mixed)
        notices = tuple(notice for part in parts for notice in part.speech.notices)
        for number, part in enumerate(parts):
            alone = yield from _alone(part.speech)
            parts[number] = replace(part, speech=alone)

    faces = _faces(request, portrait, len(parts))
    speakers = []
    for part, found in zip(parts, faces, strict=True):
        spelt = language or "en"
        followed = part.text if spelt in TEXT_LANGUAGES else ""
        if part.text and not followed:
            notices += (Notice("WordsNotSpelt", {"language": spelt}),)
        speakers.append(Speaker(part.speech, found, part.start, followed, spelt, part.marks))
    return Cast(speech, tuple(speakers), tuple(sorted(lines, key=lambda line: line.start)), notices)


def _alone(speech: Speech) -> Generator[Step, None, Speech]:
    """The speech with what is behind the voice taken out of its waveform."""
    separating = separation.voice_only(speech.waveform)
    while True:
        try:
            share = next(separating)
        except StopIteration as finished:
            return replace(speech, waveform=finished.value)
        yield Step("StageSeparating", round(100 * share), 100)


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
    cast = [one or others.pop(0) for one in found if one is not None or others]
    if len(cast) < num_speakers or cast[0].is_same(cast[1]):
        raise SecondFaceMissing(name=name)
    return cast
