"""The command line: `python -m pipeline render` and `python -m pipeline doctor`. Renders nothing itself.

Speaks the terminal's language, English or French. The result goes to stdout, everything else to stderr.
"""

import argparse
import itertools
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from PIL import Image
from tqdm import tqdm

from pipeline import AvatarError, RenderRequest, hardware, render
from pipeline.engine import Step
from pipeline.errors import FileMissing
from pipeline.request import (
    ENGINES,
    LARGEST_SIZE,
    MAX_SEED,
    MAX_TEXT_LENGTH,
    SIZE_MULTIPLE,
    SMALLEST_SIZE,
    TEXT_LANGUAGES,
    read_points,
)
from pipeline.texts import say

DONE, REFUSED, NOT_UNDERSTOOD, STOPPED, TERMINATED = 0, 1, 2, 130, 143  # exit codes; the last two are 128 + signal
PROGRAM = "python -m pipeline"
HIGHEST_FACE = 99  # more than anyone looks for in one picture
COUNTED_IN_MINUTES = 90  # seconds left from which minutes say enough


class Parser(argparse.ArgumentParser):
    """argparse, in the user's language."""

    def __init__(self, *, language: str, **options: Any) -> None:
        super().__init__(
            **options, add_help=False, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self.language = language
        self._positionals.title = say("CliInputs", language)
        self._optionals.title = say("CliOptions", language)
        self.add_argument("-h", "--help", action="help", help=say("CliHelp", language))

    def format_usage(self) -> str:
        return self._in_language(super().format_usage())

    def format_help(self) -> str:
        return self._in_language(super().format_help())

    def _in_language(self, written: str) -> str:
        return written.replace("usage: ", say("CliUsage", self.language), 1)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(NOT_UNDERSTOOD, say("CliNotUnderstood", self.language, detail=message, program=self.prog) + "\n")


def parser(language: str) -> Parser:
    """The command line as it is understood and explained in `language`."""
    top = Parser(language=language, prog=PROGRAM, description=say("CliAbout", language))
    top.epilog = say("CliExamples", language, program=PROGRAM)
    commands = top.add_subparsers(
        title=say("CliCommands", language), dest="command", required=True, metavar=say("CliCommand", language)
    )

    make = commands.add_parser(
        "render",
        help=say("CliRender", language),
        description=say("CliAbout", language),
        epilog=say("CliExamples", language, program=PROGRAM),
        language=language,
    )
    make.add_argument("portrait", metavar="PORTRAIT", type=Path, help=say("CliPortrait", language))
    make.add_argument("speech", metavar="VOICE", type=Path, help=say("CliSpeech", language))
    make.add_argument("-o", "--output", metavar="CLIP.mp4", type=Path, help=say("CliOutput", language))
    sizes = {"multiple": SIZE_MULTIPLE, "smallest": SMALLEST_SIZE, "largest": LARGEST_SIZE}
    default = RenderRequest.size
    make.add_argument(
        "--size",
        metavar="PIXELS",
        type=whole_number(language, SMALLEST_SIZE, LARGEST_SIZE),
        default=default,
        help=say("CliSize", language, **sizes, default=default),
    )
    make.add_argument(
        "--seed", metavar="N", type=whole_number(language, 0, MAX_SEED), help=say("CliSeed", language, largest=MAX_SEED)
    )
    make.add_argument(
        "--engine",
        metavar="NAME",
        default=RenderRequest.engine,
        help=say("CliEngine", language, known=", ".join(ENGINES), default=RenderRequest.engine),
    )
    make.add_argument(
        "--face", metavar="N", type=whole_number(language, 1, HIGHEST_FACE), help=say("CliFace", language)
    )
    make.add_argument("--points", metavar="X,Y", nargs="+", help=say("CliPoints", language))
    words = make.add_mutually_exclusive_group()
    words.add_argument("--text", default="", help=say("CliText", language))
    words.add_argument("--text-file", metavar="FILE", type=Path, help=say("CliTextFile", language))
    make.add_argument(
        "--lang",
        metavar="LANGUAGE",
        default=language,
        help=say("CliLanguage", language, known=", ".join(TEXT_LANGUAGES)),
    )

    commands.add_parser(
        "doctor", help=say("CliDoctor", language), description=say("CliDoctor", language), language=language
    )
    return top


def whole_number(language: str, smallest: int, largest: int) -> Callable[[str], int]:
    """Reads a number as typed, and says in `language` when it is none or out of range."""

    def read(written: str) -> int:
        if not written.isascii() or not written.isdigit() or not smallest <= int(written) <= largest:
            allowed = {"smallest": smallest, "largest": largest}
            raise argparse.ArgumentTypeError(say("CliNotANumber", language, written=written[:40], **allowed))
        return int(written)

    return read


def read_words(path: Path) -> str:
    """The words in a text file; of a longer one, just enough to be refused for its length.

    Raises:
        FileMissing: it cannot be opened.
        UnicodeDecodeError: it is not UTF-8.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise FileMissing(name=path.name or str(path))
        with path.open(encoding="utf-8-sig") as file:  # Windows editors put a mark in front
            return file.read(MAX_TEXT_LENGTH + 1).strip()
    except OSError as error:
        raise FileMissing(name=path.name) from error


def place_for_clip(wanted: Path | None, portrait: Path) -> Path:
    """Where the clip goes: the file that was named, or a free name after the portrait's in that or this folder."""
    if wanted is not None and not wanted.is_dir():
        return wanted
    folder = wanted or Path()
    names = itertools.chain([f"{portrait.stem}.mp4"], (f"{portrait.stem}-{n}.mp4" for n in itertools.count(2)))
    return next(path for name in names if not (path := folder / name).exists())


class Progress:
    """A bar on stderr for people; silent when nobody looks at a terminal.

    Args:
        language: "en" or "fr".
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._stage = ""
        self._bar: tqdm[NoReturn] | None = None

    def __call__(self, step: Step) -> None:
        if step.stage != self._stage:
            self.close()
            self._stage = step.stage
            self._bar = tqdm(
                desc=say(step.stage, self.language),
                total=step.total or None,
                bar_format="{desc} {percentage:3.0f} % |{bar:30}| {postfix}" if step.total else "{desc} ...",
                leave=False,
                disable=None,  # when stderr is no terminal
            )
        if self._bar is not None:
            if step.seconds_left is not None:
                self._bar.set_postfix_str(self._left(step.seconds_left), refresh=False)
            self._bar.update(step.done - self._bar.n)

    def _left(self, seconds: float) -> str:
        if seconds < COUNTED_IN_MINUTES:
            return say("CliSecondsLeft", self.language, left=round(seconds))
        return say("CliMinutesLeft", self.language, left=round(seconds / 60))

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


def run_render(options: argparse.Namespace, language: str) -> int:
    """Make the clip that was asked for."""
    if options.output is not None and options.output.suffix.lower() != ".mp4" and not options.output.is_dir():
        print(say("CliNotMp4", language, name=options.output.name), file=sys.stderr)
        return NOT_UNDERSTOOD
    progress = Progress(language)
    try:
        text = options.text if options.text_file is None else read_words(options.text_file)
        request = RenderRequest(
            portrait=options.portrait,
            speech=options.speech,
            output=place_for_clip(options.output, options.portrait),
            engine=options.engine,
            size=options.size,
            seed=options.seed,
            face=options.face,
            points=read_points(" ".join(options.points)) if options.points else None,
            text=text,
            language=options.lang,
        )
        result = render(request, on_step=progress)
    except AvatarError as error:
        progress.close()
        print(error.text(language), file=sys.stderr)
        return REFUSED
    except UnicodeDecodeError:
        print(say("CliTextUnreadable", language, name=options.text_file.name), file=sys.stderr)
        return REFUSED
    finally:
        progress.close()
    for notice in result.notices:
        print(notice.text(language), file=sys.stderr)
    print(
        say(
            "CliDone",
            language,
            path=result.path,
            clip_seconds=result.clip_seconds,
            width=result.width,
            height=result.height,
            seconds=result.seconds,
            engine=result.engine,
            seed=result.seed,
        )
    )
    return DONE


def run_doctor(language: str) -> int:
    """Say what this machine can do; 0 when a clip can be made."""
    marks = {True: "DoctorGood", False: "DoctorBad", None: "DoctorAside"}
    all_good = True
    for finding in hardware.examine():
        print(f"{say(marks[finding.good], language):8} {finding.notice.text(language)}", flush=True)
        all_good = all_good and finding.good is not False
    return DONE if all_good else REFUSED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file's name may hold what the terminal cannot show
    # Pillow warns of pictures it opens but finds large; our door refuses them, in words.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    language = hardware.preferred_language()
    options = parser(language).parse_args(arguments)
    try:
        return run_doctor(language) if options.command == "doctor" else run_render(options, language)
    except KeyboardInterrupt:
        print(say("CliStopped", language), file=sys.stderr)
        return STOPPED


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that a stopped render clears up, too
    sys.exit(main())
