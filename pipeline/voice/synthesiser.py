"""The promise every synthesiser keeps: one clean sentence in, its sound and the time of each of its sounds out.

Scripts, pauses, loudness and the choice between synthesisers are left to script.py and speak.py.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.engine import Step
from pipeline.texts import Notice
from pipeline.voice.spoken import Mark


@dataclass(frozen=True)
class VoiceChoice:
    """One voice that can be asked for.

    Args:
        name: What it is asked for by, as "ff_siwis"; no other voice of any synthesiser has it.
        language: ISO 639 code of what it reads, as "fr"; it reads no other language.
        title: For a list, as "Siwis": a name, the same in every language of the page.
        engine: The synthesiser's name.
        licence: SPDX name of what the voice is given under.
        is_robotic: Understandable, and heard at once to be a machine.
        is_ready: It can speak now: nothing is to be installed or downloaded first.
    """

    name: str
    language: str
    title: str
    engine: str
    licence: str
    is_robotic: bool = False
    is_ready: bool = True


@dataclass(frozen=True)
class Utterance:
    """One sentence, spoken. Silence around it is allowed and will be trimmed; loudness is made equal later.

    Args:
        waveform: (samples,) float32, mono; finite, and free to pass 1.
        sample_rate: Hz.
        marks: Every sound and pause of it in order, seconds from the waveform's first sample; () when not known.
    """

    waveform: np.ndarray
    sample_rate: int
    marks: tuple[Mark, ...] = ()


class Synthesiser(Protocol):
    """Who speaks. Making one opens nothing; a model is loaded by the first sentence and may be kept, read-only."""

    @property
    def name(self) -> str:
        """As it is shown: "Kokoro"."""
        ...

    @property
    def licence(self) -> str:
        """SPDX name, of model or program."""
        ...

    @property
    def languages(self) -> Sequence[str]:
        """ISO 639 codes of what it could read once everything is installed and downloaded, best first."""
        ...

    def status(self, language: str) -> Notice | None:
        """What is to be installed or downloaded before it reads `language`, or None when it can read it now.

        Quick: it looks at files and programs, and opens no connection.
        """
        ...

    def fetch(self, language: str) -> Generator[Step, None, None]:
        """Download what is missing to read `language`; nothing when nothing is. Closing it keeps what has come.

        Raises:
            DownloadError: it cannot be had.
        """
        ...

    def voices(self, language: str) -> list[VoiceChoice]:
        """Its voices for `language`, the best first; [] when it cannot read it."""
        ...

    def speak(self, text: str, *, voice: str, language: str, speed: float) -> Utterance:
        """Say one sentence, or a part of one.

        The same arguments give the same sound.

        Args:
            text: Words and punctuation on one line, at most script.MAX_SENTENCE characters; numbers and signs are
                already words in English and French. A synthesiser that can take only so much at a time splits it.
            voice: A name out of `voices(language)`.
            language: One of `languages`.
            speed: 1 as the voice usually speaks, 2 in half the time.

        Raises:
            VoiceFailed: it could not be said, and why.
        """
        ...
