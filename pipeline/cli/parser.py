"""argparse in English and French, and the types of its arguments. Knows no command."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pipeline.cli import NOT_UNDERSTOOD
from pipeline.texts import say

PROGRAM = "python -m pipeline"
LONGEST_NUMBER = 40  # digits; Python refuses to read more than 4300, and says so in English


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


def wrong_ending(option: str, path: Path | None, ending: str, language: str) -> str:
    """What is wrong with the name of a file to be written; "" for nothing, as for no name. It protects the picture that
    was meant to be read."""
    if path is None or path.suffix.lower() == ending:
        return ""
    return say("CliEnding", language, option=option, ending=ending, name=path.name)


def decimal(language: str, smallest: float, largest: float) -> Callable[[str], float]:
    """Reads a number as typed, with a point or a comma, and says in `language` when it is none or out of range."""

    def read(written: str) -> float:
        try:
            value = float(written.replace(",", "."))
        except ValueError:
            value = math.nan
        if not smallest <= value <= largest:
            allowed = {"smallest": f"{smallest:g}", "largest": f"{largest:g}"}
            raise argparse.ArgumentTypeError(say("CliNotADecimal", language, written=written[:40], **allowed))
        return value

    return read


def whole_number(language: str, smallest: int, largest: int) -> Callable[[str], int]:
    """Reads a number as typed, and says in `language` when it is none or out of range."""

    def read(written: str) -> int:
        is_number = written.isascii() and written.isdigit() and len(written) <= LONGEST_NUMBER
        if not is_number or not smallest <= int(written) <= largest:
            allowed = {"smallest": smallest, "largest": largest}
            raise argparse.ArgumentTypeError(say("CliNotANumber", language, written=written[:40], **allowed))
        return int(written)

    return read
