"""Voices to mouths on the clip's own time: speakers by turns, long recordings chapter by chapter. Draws nothing."""

import weakref
from collections.abc import Callable, Generator, Sequence
from dataclasses import fields, replace
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from scipy.ndimage import maximum_filter1d

from pipeline.draft.phonemes import SAMPLE_RATE
from pipeline.draft.speech import MouthTrack, follow_speech
from pipeline.engine import Speaker
from pipeline.plan import FPS

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS  # 640
LONGEST_WHOLE = 75 * FPS  # frames listened to at once: the ear needs a tenth of their time before the first is drawn
CHAPTER = 60 * FPS  # frames of a longer recording's parts, at most but for SEEK
SEEK = 8 * FPS  # frames a cut is moved, either way, to a quiet moment
PAUSE = 5  # frames whose loudness counts as one: a pause, not the gap inside a "p"
PIECE_SECONDS = 2.5  # listened to at once while frames are drawn: a gap of 0.3 s between two, a third of 10's memory
CONTEXT = 3 * FPS // 2  # frames heard before and after a chapter: a pause is told from an end by what follows
JOINT = 10  # frames in which one chapter's mouth becomes the next one's: both heard the same there, almost
SILENT = 1e-3  # of full scale, -60 dB: under it a speaker waits for the other
TURN = FPS  # frames kept before and after what a speaker says: the mouth comes to rest within them

TRACKS = tuple(field.name for field in fields(MouthTrack) if field.name not in ("source", "segments"))

Listening = Generator[float, None, MouthTrack]


def chapters_of(waveform: np.ndarray, num_frames: int, *, is_known: bool) -> list[tuple[int, int]]:
    """Cut a long clip at quiet moments into parts of about the same length.

    Args:
        waveform: (samples,) float32, mono, 16 000 Hz: all that is heard.
        num_frames: Of the clip.
        is_known: Words or sounds are given: they are placed in the whole.

    Returns:
        First frame and the frame after the last, of each; one chapter for clips up to LONGEST_WHOLE.
    """
    if is_known or num_frames <= LONGEST_WHOLE:
        return [(0, num_frames)]
    num_chapters = -(-num_frames // CHAPTER)
    cuts = [0]
    for number in range(1, num_chapters):
        first = number * num_frames // num_chapters - SEEK
        near = waveform[first * SAMPLES_PER_FRAME : (first + 2 * SEEK) * SAMPLES_PER_FRAME]
        power = np.square(near[: len(near) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME))
        loudness = np.convolve(power.mean(axis=1), np.ones(PAUSE), "valid")
        cuts.append(first + PAUSE // 2 + int(loudness.argmin()))
    return [*zip(cuts, [*cuts[1:], num_frames], strict=True)]


class Ear:
    """Listens to one speaker, chapter by chapter in order.

    Args:
        speaker: Who.
        chapters: Of the clip, as `chapters_of` gives them.
        by_turns: There is another speaker: this one's silences are left out of what is heard, or they would count as
            the quiet parts of a speech.
    """

    def __init__(self, speaker: Speaker, chapters: Sequence[tuple[int, int]], *, by_turns: bool) -> None:
        self._speaker = speaker
        self._chapters = chapters
        self._spilt: IO[bytes] | None = None
        if len(chapters) > 1:  # the whole voice would be among the largest arrays of a render
            self._spilt = TemporaryFile()  # noqa: SIM115 (closed with the Ear, however a render ends)
            weakref.finalize(self, self._spilt.close)
            speaker.speech.waveform.tofile(self._spilt)
            self._speaker = replace(speaker, speech=replace(speaker.speech, waveform=np.zeros(0, np.float32)))
        self._hear = self._hear_turns if by_turns and not speaker.marks else self._hear_all
        self._pieces: dict[str, Any] = {"piece_seconds": PIECE_SECONDS} if len(chapters) > 1 else {}
        self._tail: MouthTrack | None = None

    def listen(self, number: int) -> Listening:
        """Follow the voice through one chapter; yields the share done, 0..1.

        Returns:
            The mouth, one value per frame of the chapter.
        """
        (first, last), end = self._chapters[number], self._chapters[-1][1]
        start, stop = max(first - CONTEXT, 0), min(last + CONTEXT, end)
        if len(self._chapters) == 1:
            start, stop = 0, end
        heard = yield from self._hear(start, stop)
        mouth = _each(lambda track: track[first - start : last - start], heard)
        if self._tail is not None:
            mouth = _melt(self._tail, mouth)
        self._tail = _each(lambda track: track[last - start : last - start + JOINT], heard)
        return mouth

    def _voice(self, start: int, stop: int) -> np.ndarray:
        """(samples,) the voice between two frames of the clip, silence before it and after it."""
        begin = round(self._speaker.start * SAMPLE_RATE)
        first, last = start * SAMPLES_PER_FRAME - begin, stop * SAMPLES_PER_FRAME - begin
        is_end = stop == self._chapters[-1][1]
        own = self._samples(max(first, 0), None if is_end else max(last, 0))
        before = min(max(-first, 0), last - first)
        missing = last - first - before - len(own)
        after = missing if missing >= SAMPLES_PER_FRAME else 0  # the last frame of a clip need not be full
        return np.pad(own, (before, after)) if before or after else own

    def _samples(self, first: int, last: int | None) -> np.ndarray:
        """Part of the voice, (samples,)."""
        if self._spilt is None:
            return self._speaker.speech.waveform[first:last]
        self._spilt.seek(4 * first)
        return np.fromfile(self._spilt, np.float32, -1 if last is None else last - first)

    def _hear_all(self, start: int, stop: int) -> Listening:
        """Follow everything between two frames."""
        speaker, options = self._speaker, dict(self._pieces)
        if speaker.marks:
            late = speaker.start - start / FPS
            options["marks"] = tuple(
                replace(mark, start=mark.start + late, end=mark.end + late) for mark in speaker.marks
            )
        return (
            yield from follow_speech(
                self._voice(start, stop), stop - start, text=speaker.text, language=speaker.language, **options
            )
        )

    def _hear_turns(self, start: int, stop: int) -> Listening:
        """Follow what is not silent between two frames; elsewhere the mouth rests."""
        voice = self._voice(start, stop)
        num_samples = (stop - start) * SAMPLES_PER_FRAME
        frames = np.pad(voice[:num_samples], (0, max(num_samples - len(voice), 0))).reshape(-1, SAMPLES_PER_FRAME)
        loudest = np.maximum(frames.max(axis=1), -frames.min(axis=1))
        kept = maximum_filter1d(loudest > SILENT, 2 * TURN + 1)
        if not kept.any():
            return _resting(stop - start)
        heard = yield from follow_speech(
            frames[kept].ravel(),
            int(kept.sum()),
            text=self._speaker.text,
            language=self._speaker.language,
            **self._pieces,
        )

        def spread(track: np.ndarray) -> np.ndarray:
            whole = np.zeros(stop - start, np.float32)
            whole[kept] = track
            return whole

        return _each(spread, heard)


def listen_to_all(ears: Sequence[Ear], number: int) -> Generator[float, None, list[MouthTrack]]:
    """Follow every speaker through one chapter; yields the share done, 0..1."""
    mouths = []
    for i, ear in enumerate(ears):
        listening = ear.listen(number)
        while True:
            try:
                yield (i + next(listening)) / len(ears)
            except StopIteration as heard:
                mouths.append(heard.value)
                break
    return mouths


def _each(change: Callable[[np.ndarray], np.ndarray], mouth: MouthTrack) -> MouthTrack:
    """A mouth with every track changed."""
    changed: dict[str, Any] = {name: change(getattr(mouth, name)) for name in TRACKS}
    return replace(mouth, **changed)


def _melt(before: MouthTrack, mouth: MouthTrack) -> MouthTrack:
    """A mouth that begins as `before` goes on."""
    num_frames = min(len(before.jaw), len(mouth.jaw))
    share = np.linspace(0, 1, num_frames + 2, dtype=np.float32)[1:-1]
    melted: dict[str, Any] = {}
    for name in TRACKS:
        track, goes_on = getattr(mouth, name).copy(), getattr(before, name)[:num_frames]
        track[:num_frames] += (1 - share) * (goes_on - track[:num_frames])
        melted[name] = track
    return replace(mouth, **melted)


def _resting(num_frames: int) -> MouthTrack:
    """The mouth of someone who says nothing."""
    still: dict[str, Any] = dict.fromkeys(TRACKS, np.zeros(num_frames, np.float32))
    return MouthTrack(**still, source="silence")
