"""`python -m pipeline report`: what a finished clip is worth. Measures nothing itself."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pipeline.cli import DONE, NOT_UNDERSTOOD, REFUSED
from pipeline.cli.parser import whole_number, wrong_ending
from pipeline.cli.render import HIGHEST_FACE, Progress
from pipeline.errors import AvatarError
from pipeline.files import require_place, write_text
from pipeline.generators import to_end
from pipeline.request import read_points
from pipeline.texts import say


def add(commands: Any, language: str) -> None:
    """Explain the command, in `language`, to the parser's list of commands."""
    explained = say("CliReport", language)
    command = commands.add_parser("report", help=explained, description=explained, language=language)
    command.add_argument("clip", metavar="CLIP", type=Path, help=say("CliReportClip", language))
    command.add_argument("portrait", metavar="PORTRAIT", type=Path, help=say("CliReportPortrait", language))
    command.add_argument("--json", metavar="FILE.json", type=Path, help=say("CliReportJson", language))
    command.add_argument("--plot", metavar="FILE.svg", type=Path, help=say("CliReportPlot", language))
    command.add_argument(
        "--face", metavar="N", type=whole_number(language, 1, HIGHEST_FACE), help=say("CliFace", language)
    )
    command.add_argument("--points", metavar="X,Y", nargs="+", help=say("CliPoints", language))


def run(options: argparse.Namespace, language: str) -> int:
    """Measure the clip, print the figures and what they mean, write what was asked for."""
    from pipeline.report import plot, report_steps, table  # half a second that no other command needs

    places = {"--json": (options.json, ".json"), "--plot": (options.plot, ".svg")}
    if wrong := [told for name, place in places.items() if (told := wrong_ending(name, *place, language))]:
        print(*wrong, sep="\n", file=sys.stderr)
        return NOT_UNDERSTOOD
    progress = Progress(language)
    try:
        for wanted in filter(None, (options.json, options.plot)):
            require_place(wanted)
        points = read_points(" ".join(options.points)) if options.points else None
        steps = report_steps(options.clip, options.portrait, face=options.face, points=points)
        report = to_end(steps, progress)
        if options.json is not None:
            write_text(options.json, json.dumps(report.as_json(), ensure_ascii=False, indent=2) + "\n")
        if options.plot is not None:
            write_text(options.plot, plot(report, language))
    except AvatarError as error:
        progress.close()
        print(error.text(language), file=sys.stderr)
        return REFUSED
    finally:
        progress.close()
    for note in report.notes:
        print(note.text(language), file=sys.stderr)
    print(table(report, language))
    for finding in report.findings:
        print(finding.text(language))
    return DONE
