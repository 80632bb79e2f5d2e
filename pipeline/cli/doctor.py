"""`python -m pipeline doctor`: what this machine can do. Finds out nothing itself."""

import argparse
import itertools
from typing import Any

from pipeline import hardware
from pipeline.cli import DONE, REFUSED
from pipeline.texts import say


def add(commands: Any, language: str) -> None:
    """Explain the command, in `language`, to the parser's list of commands."""
    commands.add_parser(
        "doctor", help=say("CliDoctor", language), description=say("CliDoctor", language), language=language
    )


def run(options: argparse.Namespace, language: str) -> int:
    """Say what this machine can do; 0 when a clip can be made."""
    from pipeline.voice import speak  # half a second that no other command needs

    marks = {True: "DoctorGood", False: "DoctorBad", None: "DoctorAside"}
    all_good = True
    for finding in itertools.chain(hardware.examine(), speak.examine()):
        print(f"{say(marks[finding.good], language):8} {finding.notice.text(language)}", flush=True)
        all_good = all_good and finding.good is not False
    return DONE if all_good else REFUSED
