"""`python -m pipeline resume`: lists the renders that were stopped or broke off, and goes on with one."""

import argparse
import time
from typing import Any

from pipeline import jobs
from pipeline.cli import DONE
from pipeline.cli.parser import PROGRAM
from pipeline.cli.render import watch
from pipeline.render import resume_steps
from pipeline.texts import say


def add(commands: Any, language: str) -> None:
    """Explain the command, in `language`, to the parser's list of commands."""
    explained = say("CliResumes", language)
    command = commands.add_parser("resume", help=explained, description=explained, language=language)
    command.add_argument("job", metavar="JOB", nargs="?", help=say("CliJob", language))


def run(options: argparse.Namespace, language: str) -> int:
    """Go on with the job that was named, or say which there are."""
    if options.job is not None:
        return watch(language, lambda: resume_steps(jobs.find(options.job)))
    jobs.sweep()
    found = jobs.unfinished()
    for job in found:
        minutes = (time.time() - job.touched) / 60
        names = {"portrait": job.request.portrait.name, "speech": job.request.speech.name}
        print(say("CliJobLine", language, job=job.id, minutes=minutes, **names))
    print(say("CliResume", language, program=PROGRAM, job="JOB") if found else say("CliNoJobs", language))
    return DONE
