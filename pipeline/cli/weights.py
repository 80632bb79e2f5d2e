"""`python -m pipeline weights`: what of the avatar engine's weights is here; gets, checks and converts them.

Knows terminals; files and the Hub are `pipeline/avatar/hub.py`.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from tqdm import tqdm

from pipeline import AvatarError
from pipeline.cli import DONE, REFUSED, STOPPED
from pipeline.errors import EngineUnavailable
from pipeline.texts import LANGUAGES, Notice, say
from pipeline.units import GIGABYTE

TENTHS = 10  # lines told of one stage where no terminal shows a bar


def add(commands: Any, language: str) -> None:
    """Explain the command, in `language`, to the parser's list of commands."""
    explained = say("CliWeights", language)
    command = commands.add_parser("weights", help=explained, description=explained, language=language)
    what = command.add_mutually_exclusive_group()
    for name in ("check", "download", "convert"):
        what.add_argument(f"--{name}", action="store_true", help=say(f"CliWeights{name.capitalize()}", language))
    command.add_argument(
        "--precision",
        choices=("fp8", "bf16"),
        default="fp8",
        help=say("CliWeightsPrecision", language, known="fp8, bf16", default="fp8"),
    )
    command.add_argument("--accept-licence", action="store_true", help=say("CliAcceptLicence", language))


def run(options: argparse.Namespace, language: str) -> int:
    """Do what was asked; 0 when all that was asked about is here, whole or done."""
    from pipeline.avatar import hub  # imported here: half a second that no other command needs

    repository, precision = hub.published(), options.precision
    bar = Bar(language)
    try:
        if options.accept_licence or options.download:
            accept_licence(repository, language, asked=not options.accept_licence)
        if options.download:
            hub.download(repository, precision, on_progress=bar.of("StageDownloading"))
        if options.convert:
            if hub.missing(repository, precision):
                return tell(repository, precision, language)
            hub.convert(repository, precision, on_progress=bar.of("StageConverting"))
        damaged = hub.check(repository, precision, on_progress=bar.of("StageChecking")) if options.check else []
        bar.close()
        code = tell(repository, precision, language)
    except AvatarError as error:
        bar.close()
        print(error.text(language), file=sys.stderr)
        if hub.recorded(repository) is None:
            missing, _ = hub.bytes_missing(repository, precision)
            print(say("CliWeightsEstimate", language, gigabytes=missing / GIGABYTE), file=sys.stderr)
        return REFUSED
    except ImportError as error:
        bar.close()
        reason = Notice("PackagesMissing", {"packages": error.name or str(error)})
        reasons = {f"reason_{one}": reason.text(one) for one in LANGUAGES}
        print(EngineUnavailable(engine="avatar", **reasons).text(language), file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        bar.close()
        print(say("CliWeightsStopped", language), file=sys.stderr)
        return STOPPED
    if damaged:
        print(say("CliWeightsDamaged", language, names=", ".join(file.path for file in damaged)))
        return REFUSED
    if options.check and code == DONE:
        print(say("CliWeightsWhole", language))
    return code


def accept_licence(repository: Any, language: str, *, asked: bool) -> None:
    """Show the terms and keep that they were accepted, unless they were before.

    Args:
        repository: A `hub.Repository`.
        language: "en" or "fr".
        asked: Ask for it, where somebody sits at the terminal; False where the command line says so already.

    Raises:
        LicenceNotAccepted: nobody could be asked, or the answer was another.
    """
    from pipeline.avatar import licence

    if licence.is_accepted(repository.beside):
        return
    print(say("LicenceTerms", language, address=licence.ADDRESS), file=sys.stderr)
    if asked and sys.stdin.isatty() and sys.stderr.isatty():
        print(say("CliLicenceAsk", language), end="", file=sys.stderr, flush=True)
        asked = sys.stdin.readline().strip().lower() != say("CliLicenceYes", language)
    if not asked:
        licence.accept(repository.beside)
    licence.require(repository.beside)


def tell(repository: Any, precision: str, language: str) -> int:
    """Say which parts are here, how large they are and what is missing; 0 when nothing is."""
    from pipeline.avatar import hub

    known, left = hub.listing(repository), set(hub.missing(repository, precision))
    print(
        say(
            "CliWeightsFrom",
            language,
            repository=repository.name,
            commit=known.commit,
            endpoint=repository.address,
            folder=hub.folder(repository),
        )
    )
    for part in hub.parts(precision):
        files = known.of_part(part)
        if files and hub.PARTS[part].needed:
            mark = say("DoctorBad" if left.intersection(files) else "DoctorGood", language)
            gigabytes = sum(file.size for file in files) / GIGABYTE
            where = {"folder": hub.PARTS[part].folder, "count": len(files)}
            print(say("CliWeightsPart", language, mark=mark, gigabytes=gigabytes, **where))
    total = sum(file.size for file in known.of(precision)) / GIGABYTE
    if left:
        missing = hub.bytes_missing(repository, precision)[0] / GIGABYTE
        print(say("CliWeightsMissing", language, missing=missing, gigabytes=total))
        return REFUSED
    print(say("CliWeightsHere", language, gigabytes=total))
    if hub.is_converted(repository, precision):
        print(say("CliWeightsConverted", language, folder=hub.converted_folder(repository)))
    else:
        print(say("CliWeightsNotConverted", language))
    return DONE


class Bar:
    """Bytes done, as a bar on a terminal and as a line for every tenth in a log.

    Args:
        language: "en" or "fr".
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._bar: tqdm[NoReturn] | None = None
        self._tenth = 0

    def of(self, stage: str) -> Callable[[int, int], None]:
        """What is told bytes done and bytes in all; `stage` is a text's name."""
        desc = say(stage, self.language)

        def tell(done: int, total: int) -> None:
            if self._bar is None or self._bar.total != total or done < self._bar.n:
                self.close()
                self._bar = tqdm(
                    total=total, desc=desc, unit="B", unit_scale=True, leave=False, disable=None, initial=done
                )
            self._bar.update(done - self._bar.n)
            self._bar.n = done  # which a disabled bar does not count
            tenth = done * TENTHS // max(total, 1)
            if self._bar.disable and tenth != self._tenth:
                self._tenth = tenth
                print(say("CliPercent", self.language, stage=desc, percent=100 * tenth // TENTHS), file=sys.stderr)

        return tell

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._tenth = None, 0
