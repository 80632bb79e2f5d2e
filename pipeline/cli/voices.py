"""`python -m pipeline voices`: who can read a script aloud, and how to hear them. Speaks nothing itself."""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import AvatarError
from pipeline.cli import DONE, NOT_UNDERSTOOD, REFUSED
from pipeline.cli.parser import PROGRAM, decimal, wrong_ending
from pipeline.cli.render import Progress
from pipeline.files import require_place
from pipeline.generators import to_end
from pipeline.request import FASTEST, SLOWEST
from pipeline.texts import say


def add(commands: Any, language: str) -> None:
    """Explain the command, in `language`, to the parser's list of commands."""
    explained = say("CliVoices", language)
    command = commands.add_parser("voices", help=explained, description=explained, language=language)
    command.add_argument("--lang", metavar="LANGUAGE", help=say("CliVoicesLanguage", language))
    what = command.add_mutually_exclusive_group()
    what.add_argument("--download", action="store_true", help=say("CliVoicesDownload", language))
    what.add_argument("--from", dest="file", metavar="FILE", type=Path, help=say("CliVoicesFrom", language))
    what.add_argument("--say", metavar="TEXT", help=say("CliVoicesSay", language))
    command.add_argument("-o", "--output", metavar="FILE.wav", type=Path, help=say("CliVoicesOutput", language))
    command.add_argument("--voice", metavar="NAME", help=say("CliVoice", language, program=PROGRAM))
    command.add_argument("--second-voice", metavar="NAME", help=say("CliSecondVoice", language))
    command.add_argument(
        "--speed",
        metavar="TIMES",
        type=decimal(language, SLOWEST, FASTEST),
        default=1.0,
        help=say("CliSpeed", language, slowest=SLOWEST, fastest=FASTEST),
    )


def run(options: argparse.Namespace, language: str) -> int:
    """List the voices, or get them, or write what they say to a file."""
    from pipeline.voice import files, speak  # half a second that no other command needs

    if (options.say is None) != (options.output is None):
        print(say("CliVoicesSayWhere", language), file=sys.stderr)
        return NOT_UNDERSTOOD
    if wrong := wrong_ending("-o", options.output, ".wav", language):
        print(wrong, file=sys.stderr)
        return NOT_UNDERSTOOD
    progress = Progress(language)
    try:
        if options.download:
            to_end(files.fetch(), progress)
        elif options.file is not None:
            print(files.adopt(options.file))
        elif options.say is not None:
            voices = (options.voice, options.second_voice)
            require_place(options.output)
            spoken = to_end(
                speak.speak(options.say, language=options.lang, voices=voices, speed=options.speed), progress
            )
            speak.write_wav(np.sum(spoken.waveforms, axis=0), spoken.sample_rate, options.output)
            progress.close()
            for notice in spoken.notices:
                print(notice.text(language), file=sys.stderr)
            print(options.output)
            return DONE
        progress.close()
        print_voices(speak, options.lang and speak.known_language(options.lang), language)
    except AvatarError as error:
        progress.close()
        print(error.text(language), file=sys.stderr)
        return REFUSED
    return DONE


def print_voices(speak: Any, only: str | None, language: str) -> None:
    """A line for each voice, by language; under those that are not ready, how to get them."""
    for code in [only] if only else speak.languages():
        for choice, missing in speak.voices_of(code):
            mark = say("DoctorBad" if missing else "DoctorGood", language)
            kind = say("CliVoicesRobotic", language) if choice.is_robotic else ""
            facts = f"{choice.language:4} {choice.name:24} {choice.title:40} {choice.engine:10} {choice.licence:18}"
            print(f"{facts} {mark} {kind}".rstrip())
        missing = {notice.text(language) for _, notice in speak.voices_of(code) if notice}
        for advice in sorted(missing):
            print(f"     {advice}")
    if only is None and (missing := speak.robotic_missing()):
        print(missing.text(language))
