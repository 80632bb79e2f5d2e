"""`python -m pipeline resume`: lists the renders that were stopped or broke off, and goes on with one."""

import argparse
import sys
import time
from typing import Any

from pipeline import hardware, jobs
from pipeline.cli import DONE, REFUSED
from pipeline.cli.parser import PROGRAM
from pipeline.cli.render import run_shared, watch
from pipeline.errors import AvatarError
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
        return go_on(options.job, language)
    jobs.sweep()
    found = jobs.unfinished()
    for job in found:
        minutes = (time.time() - job.touched) / 60
        names = {"portrait": job.request.portrait.name, "speech": job.request.speech.name if job.request.speech else ""}
        print(say("CliJobLine", language, job=job.id, minutes=minutes, **names))
    print(say("CliResume", language, program=PROGRAM, job="JOB") if found else say("CliNoJobs", language))
    return DONE


def go_on(name: str, language: str) -> int:
    """Go on with a job, in as many processes as torchrun started."""

    def make() -> int:
        return watch(language, lambda: resume_steps(jobs.find(name)))

    if hardware.processes().count == 1:
        return make()
    try:
        request = jobs.find(name).request
    except AvatarError as error:
        print(error.text(language), file=sys.stderr)
        return REFUSED
    return run_shared(request, make)
