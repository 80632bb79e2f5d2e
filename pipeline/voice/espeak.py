"""A hundred languages by eSpeak NG, heard at once to be a machine; and the sounds of their words, in IPA.

The program is GPL-3.0, so it runs as a process of its own and is never loaded into this one. It is given text through
a pipe: no shell, no markup.
"""

import functools
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from pipeline.engine import Step
from pipeline.errors import VoiceFailed
from pipeline.texts import Notice
from pipeline.voice.synthesiser import Utterance, VoiceChoice

PROGRAM = "espeak-ng"
PROGRAM_FILES = Path("eSpeak NG") / "espeak-ng.exe"  # where its Windows installer puts it, without telling the PATH
LONGEST_SECONDS = 30.0  # it speaks a minute of sound in 0.1 s; a machine that is busy gets time
WORDS_A_MINUTE = 160  # at speed 1; its own 175 is brisk beside the other voices
SAMPLE_RATE = 22_050  # Hz, of its own voices
WAV_HEADER = 44  # bytes, of what it writes to a pipe; its lengths are placeholders there
# Its name for a language where ISO 639 has a more usual one; and the accent meant by a language alone.
USUAL = {"cmn": "zh", "nb": "no"}
FIRST = ("en-us", "es", "fr-fr", "pt", "vi")
WOMAN = "+f3"  # the variant that stays clearest of its women's, which are the man's voice with higher resonances


class Espeak:
    """The synthesiser; see `Synthesiser`."""

    name = "eSpeak NG"
    licence = "GPL-3.0-or-later"

    @property
    def languages(self) -> Sequence[str]:
        return list(dict.fromkeys(language for language, _, _ in _accents(program())))

    def status(self, language: str) -> Notice | None:
        return None if program() else Notice("EspeakMissing")

    def fetch(self, language: str) -> Generator[Step, None, None]:
        yield from ()

    def voices(self, language: str) -> list[VoiceChoice]:
        return [
            VoiceChoice(f"espeak-{tag}{ending}", language, f"eSpeak, {title}{sign}", self.name, self.licence, True)
            for reads, tag, title in _accents(program())
            if reads == language
            for ending, sign in (("", " ♂"), ("-f", " ♀"))
        ]

    def speak(self, text: str, *, voice: str, language: str, speed: float) -> Utterance:
        tag = voice.removeprefix("espeak-").removesuffix("-f")
        if voice not in (choice.name for choice in self.voices(language)):
            raise ValueError(f"voice must be one of voices({language!r}), got {voice!r}")
        words = str(round(WORDS_A_MINUTE * speed))
        written = run(["-v", tag + WOMAN * voice.endswith("-f"), "-s", words, "-z", "--stdout"], text)
        if not written:  # nothing in the text that it says
            return Utterance(np.zeros(0, np.float32), SAMPLE_RATE)
        if len(written) < WAV_HEADER or written[:4] != b"RIFF":
            raise VoiceFailed(engine=self.name, detail=f"{len(written)} bytes of no WAV")
        (sample_rate,) = struct.unpack_from("<I", written, 24)
        samples = np.frombuffer(written[WAV_HEADER : len(written) // 2 * 2], "<i2")
        return Utterance(samples.astype(np.float32) / 2**15, sample_rate)


def program() -> str | None:
    """Where the program is, or None."""
    if found := shutil.which(PROGRAM):
        return found
    folders = (os.environ.get("PROGRAMFILES"), os.environ.get("PROGRAMFILES(X86)"))  # of Windows
    candidates = [Path(folder) / PROGRAM_FILES for folder in folders if folder]
    return next((str(path) for path in candidates if path.is_file()), None)


def run(arguments: Sequence[str], text: str = "") -> bytes:
    """What the program writes when it is given `text` as text and nothing else.

    Raises:
        VoiceFailed: it is not installed, refuses, or takes too long.
    """
    found = program()
    if found is None:
        raise VoiceFailed(engine=Espeak.name, detail=f"{PROGRAM} is not installed")
    plain = text.translate({ord(sign): " " for sign in "[]"} | dict.fromkeys(range(32), " "))  # [[ ]] hold its own code
    try:
        # Its text is a line, not a file's name, whatever it begins with: it comes through the pipe.
        done = subprocess.run(
            [found, "-b", "1", *arguments, "--stdin"],
            input=plain.encode("utf-8", "ignore"),
            capture_output=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VoiceFailed(engine=Espeak.name, detail=str(error)[:200]) from error
    if done.returncode:
        detail = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0][:200]
        raise VoiceFailed(engine=Espeak.name, detail=detail or f"exit code {done.returncode}")
    return done.stdout


def sounds_of(text: str, tag: str) -> str:
    """The text in IPA, words parted by spaces, in the accent `tag`, as "fr-fr".

    Raises:
        VoiceFailed: the program is not installed, refuses, or takes too long.
    """
    written = run(["-q", "--ipa", "-v", tag], text).decode("utf-8", "replace")
    return " ".join(re.sub(r"\([a-z-]+\)", "", written).split())  # (en): what follows is read as English


@functools.lru_cache(2)
def _accents(found: str | None) -> tuple[tuple[str, str, str], ...]:
    """Language, its own tag and English name of every accent it has, of a language's the usual one first."""
    if found is None:
        return ()
    try:
        listed = run(["--voices"]).decode("utf-8", "replace")
    except VoiceFailed:
        return ()
    accents = {}
    for line in listed.splitlines()[1:]:
        _, tag, _, title, *_ = [*line.split(), "", "", "", ""]
        language = tag.partition("-")[0]
        if re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9-]+)?", tag):
            accents[tag] = (USUAL.get(language, language), tag, title.replace("_", " ").strip())
    return tuple(sorted(accents.values(), key=lambda accent: (accent[0], accent[1] not in FIRST, accent[1])))
