"""The command line: `python -m pipeline COMMAND`. Hands over to the command's module in `pipeline/cli`.

Speaks the terminal's language, English or French. The result goes to stdout, everything else to stderr.
"""

import os
import signal
import sys
import warnings
from collections.abc import Sequence

from PIL import Image

from pipeline import hardware
from pipeline.cli import DONE, STOPPED, TERMINATED, doctor, plan, render, report, resume, verify, voices, weights
from pipeline.cli.parser import PROGRAM, Parser
from pipeline.texts import say

COMMANDS = {
    "render": render,
    "resume": resume,
    "voices": voices,
    "report": report,
    "verify": verify,
    "plan": plan,
    "weights": weights,
    "doctor": doctor,
}  # in the order in which the help lists them


def parser(language: str) -> Parser:
    """The command line as it is understood and explained in `language`."""
    top = Parser(language=language, prog=PROGRAM, description=say("CliAbout", language))
    top.epilog = say("CliExamples", language, program=PROGRAM)
    commands = top.add_subparsers(
        title=say("CliCommands", language), dest="command", required=True, metavar=say("CliCommand", language)
    )
    for command in COMMANDS.values():
        command.add(commands, language)
    return top


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
        code = COMMANDS[options.command].run(options, language)
        sys.stdout.flush()  # here, where a reader that has gone is noticed
        return code
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own last flush
        return DONE
    except KeyboardInterrupt:
        print(say("CliStopped", language), file=sys.stderr)
        return STOPPED


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that a stopped render clears up, too
    sys.exit(main())
