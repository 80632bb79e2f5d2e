"""`python -m pipeline render`: one clip, with its progress on the terminal. Draws nothing itself."""

import argparse
import itertools
import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from pipeline import AvatarError, RenderRequest, RenderResult, hardware, media, render_steps, rigs
from pipeline.avatar.costs import PRESETS
from pipeline.cli import DONE, NOT_UNDERSTOOD, REFUSED, STOPPED
from pipeline.cli.parser import PROGRAM, decimal, whole_number, wrong_ending
from pipeline.cli.weights import accept_licence
from pipeline.direction import MOODS
from pipeline.engine import Step
from pipeline.errors import FaceUncertain, FileMissing, PortraitWithoutFace
from pipeline.generators import to_end
from pipeline.hardware import Placement
from pipeline.media import MAX_SECONDS
from pipeline.plan import FRAMINGS
from pipeline.request import (
    CAPTIONS,
    ENGINES,
    FASTEST,
    LARGEST_SIZE,
    MAX_SEED,
    MAX_STEPS,
    MAX_TEXT_LENGTH,
    REHEARSED_SIZE,
    REHEARSED_STEPS,
    SIZE_MULTIPLE,
    SLOWEST,
    SMALLEST_SIZE,
    read_points,
)
from pipeline.texts import say
from pipeline.trust.label import UNLABELLED, why_unlabelled

HIGHEST_FACE = 99  # more than anyone looks for in one picture
COUNTED_IN_MINUTES = 90  # seconds left from which minutes say enough


def add(commands: Any, language: str) -> None:
    """Explain the command, in `language`, to the parser's list of commands."""
    make = commands.add_parser(
        "render",
        help=say("CliRender", language),
        description=say("CliAbout", language),
        epilog=say("CliExamples", language, program=PROGRAM),
        language=language,
    )
    make.add_argument("portrait", metavar="PORTRAIT", type=Path, help=say("CliPortrait", language))
    make.add_argument("speech", metavar="VOICE", type=Path, nargs="?", help=say("CliSpeech", language))
    make.add_argument("-o", "--output", metavar="CLIP.mp4", type=Path, help=say("CliOutput", language))
    sizes = {"multiple": SIZE_MULTIPLE, "smallest": SMALLEST_SIZE, "largest": LARGEST_SIZE}
    default = RenderRequest.size
    make.add_argument(
        "--size",
        metavar="PIXELS",
        type=whole_number(language, SMALLEST_SIZE, LARGEST_SIZE),
        help=say("CliSize", language, **sizes, default=default),
    )
    make.add_argument(
        "--seed", metavar="N", type=whole_number(language, 0, MAX_SEED), help=say("CliSeed", language, largest=MAX_SEED)
    )
    make.add_argument(
        "--framing",
        choices=FRAMINGS,
        default=RenderRequest.framing,
        help=say("CliFraming", language, known=", ".join(FRAMINGS), default=RenderRequest.framing),
    )
    make.add_argument(
        "--captions",
        choices=CAPTIONS,
        default=RenderRequest.captions,
        help=say("CliCaptions", language, default=RenderRequest.captions),
    )
    make.add_argument("--no-label", metavar="REASON", choices=UNLABELLED, help=no_label_in_words(language))
    make.add_argument("--mark", action="store_true", help=say("CliMark", language))
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
    words.add_argument("--script", default="", help=say("CliScript", language))
    words.add_argument("--script-file", metavar="FILE", type=Path, help=say("CliScriptFile", language))
    make.add_argument("--lang", metavar="LANGUAGE", help=say("CliLanguage", language))
    make.add_argument("--voice", metavar="NAME", help=say("CliVoice", language, program=PROGRAM))
    make.add_argument(
        "--speed",
        metavar="TIMES",
        type=decimal(language, SLOWEST, FASTEST),
        default=RenderRequest.speed,
        help=say("CliSpeed", language, slowest=SLOWEST, fastest=FASTEST),
    )
    directed = make.add_argument_group(say("CliDirection", language))
    directed.add_argument(
        "--motion",
        metavar="0..1",
        type=decimal(language, 0, 1),
        default=RenderRequest.motion,
        help=say("CliMotion", language, default=RenderRequest.motion),
    )
    directed.add_argument(
        "--expression",
        metavar="0..1",
        type=decimal(language, 0, 1),
        default=RenderRequest.expression,
        help=say("CliExpression", language, default=RenderRequest.expression),
    )
    directed.add_argument(
        "--mood", choices=MOODS, default=RenderRequest.mood, help=say("CliMood", language, known=", ".join(MOODS))
    )
    second = make.add_argument_group(say("CliSecond", language))
    second.add_argument("--second-speech", metavar="VOICE", type=Path, help=say("CliSecondSpeech", language))
    second.add_argument(
        "--second-start",
        metavar="SECONDS",
        type=decimal(language, 0, MAX_SECONDS),
        help=say("CliSecondStart", language),
    )
    second.add_argument("--second-text", default="", help=say("CliSecondText", language))
    second.add_argument("--second-voice", metavar="NAME", help=say("CliSecondVoice", language))
    second.add_argument(
        "--second-face", metavar="N", type=whole_number(language, 1, HIGHEST_FACE), help=say("CliSecondFace", language)
    )
    second.add_argument("--second-points", metavar="X,Y", nargs="+", help=say("CliSecondPoints", language))
    avatar = make.add_argument_group(say("CliAvatarOptions", language))
    avatar.add_argument("--prompt", default="", help=say("CliPrompt", language))
    avatar.add_argument(
        "--steps",
        metavar="N",
        type=whole_number(language, 1, MAX_STEPS),
        help=say("CliSteps", language, default=RenderRequest.num_inference_steps),
    )
    placements = [placement.value for placement in Placement]
    avatar.add_argument(
        "--placement", choices=placements, help=say("CliPlacement", language, known=", ".join(placements))
    )
    avatar.add_argument(
        "--preset",
        choices=list(PRESETS),
        default=RenderRequest.preset,
        help=say("CliPreset", language, known=", ".join(PRESETS), default=RenderRequest.preset),
    )
    avatar.add_argument("--accept-licence", action="store_true", help=say("CliAcceptLicence", language))
    avatar.add_argument("--tiny", action="store_true", help=say("CliTiny", language))


def no_label_in_words(language: str) -> str:
    """What a clip may go without its label for."""
    reasons = "; ".join(f"{reason}: {why_unlabelled(reason).text(language)}" for reason in UNLABELLED)
    return say("CliNoLabel", language, reasons=reasons)


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
        self.job = ""  # id of the job folder that keeps the render, once there is one
        self._stage = ""
        self._bar: tqdm[NoReturn] | None = None

    def __call__(self, step: Step) -> None:
        if step.job and step.job != self.job:
            self.job = step.job
        if step.notice is not None:
            self.close()
            print(step.notice.text(self.language), file=sys.stderr)
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


def run(options: argparse.Namespace, language: str) -> int:
    """Make the clip that was asked for."""
    is_folder = options.output is not None and options.output.is_dir()
    if not is_folder and (wrong := wrong_ending("-o", options.output, ".mp4", language)):
        print(wrong, file=sys.stderr)
        return NOT_UNDERSTOOD
    try:
        text = options.text if options.text_file is None else read_words(options.text_file)
        script = options.script if options.script_file is None else read_words(options.script_file)
        request = RenderRequest(
            portrait=options.portrait,
            speech=options.speech,
            script=script,
            output=place_for_clip(options.output, options.portrait),
            engine="avatar" if options.tiny else options.engine,
            size=options.size or (REHEARSED_SIZE if options.tiny else RenderRequest.size),
            framing=options.framing,
            seed=options.seed,
            motion=options.motion,
            expression=options.expression,
            mood=options.mood,
            face=options.face,
            points=read_points(" ".join(options.points)) if options.points else None,
            text=text,
            language=options.lang,
            voice=options.voice,
            speed=options.speed,
            second_speech=options.second_speech,
            second_start=options.second_start,
            second_text=options.second_text,
            second_face=options.second_face,
            second_points=read_points(" ".join(options.second_points)) if options.second_points else None,
            second_voice=options.second_voice,
            captions=options.captions,
            unlabelled=options.no_label,
            mark=options.mark,
            prompt=options.prompt,
            num_inference_steps=options.steps
            or (REHEARSED_STEPS if options.tiny else RenderRequest.num_inference_steps),
            placement=options.placement,
            preset=options.preset,
        )
    except AvatarError as error:
        print(error.text(language), file=sys.stderr)
        return REFUSED
    except UnicodeDecodeError:
        name = (options.text_file or options.script_file).name
        print(say("CliTextUnreadable", language, name=name), file=sys.stderr)
        return REFUSED
    if hardware.processes().count == 1:
        return watch(language, lambda: steps_of(request, options, language))
    return run_shared(request, lambda: watch(language, lambda: steps_of(request, options, language)))


def run_shared(request: RenderRequest, make: Callable[[], int]) -> int:
    """A render in the processes that torchrun started: the first one makes it, the others compute with it."""
    if request.engine == "draft" and not hardware.processes().is_main:
        return DONE  # the first is enough
    from pipeline.avatar import parallel, work  # imports torch

    parallel.start()
    if parallel.is_main():
        code = make()
    else:
        work.follow()
        code = DONE
    if code == DONE:  # else the others may wait for this one
        parallel.stop()
    return code


def with_remembered_points(
    request: RenderRequest, begin: Callable[[RenderRequest], Generator[Step, None, RenderResult]]
) -> Generator[Step, None, RenderResult]:
    """A render that keeps the points given for its picture, and that uses those kept where no face is found."""
    try:
        result = yield from begin(request)
    except (PortraitWithoutFace, FaceUncertain):
        rig = rigs.recall(rigs.picture_hash(media.load_portrait(request.portrait)))
        if rig is None:
            raise
        result = yield from begin(replace(request, points=rig.points))
        return replace(result, notices=(rig.notice, *result.notices))
    if request.points is not None:
        rigs.remember(rigs.picture_hash(media.load_portrait(request.portrait)), request.points)
    return result


def steps_of(request: RenderRequest, options: argparse.Namespace, language: str) -> Generator[Step, None, RenderResult]:
    """The render as it was asked for."""
    hardware.engine_for(request)  # refused here when it cannot run
    if options.tiny:
        from pipeline.avatar.rehearsal import rehearsal  # imports torch

        with rehearsal(request) as engine:
            return (yield from render_steps(request, engine))
    if request.engine == "avatar":
        from pipeline.avatar import hub

        accept_licence(hub.published(), language, asked=not options.accept_licence)
    return (yield from with_remembered_points(request, render_steps))


def watch(language: str, begin: Callable[[], Generator[Step, None, RenderResult]]) -> int:
    """Show a render's progress and tell its end; the exit code."""
    progress = Progress(language)
    try:
        result = to_end(begin(), progress)
    except AvatarError as error:
        progress.close()
        print(error.text(language), file=sys.stderr)
        if progress.job:
            print(say("CliResume", language, program=PROGRAM, job=progress.job), file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        if not progress.job:
            raise
        progress.close()
        print(say("CliKept", language), say("CliResume", language, program=PROGRAM, job=progress.job), file=sys.stderr)
        return STOPPED
    finally:
        progress.close()
    for notice in result.notices:
        print(notice.text(language), file=sys.stderr)
    for notice in () if result.signed is None else result.signed.told:
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
