"""The page, its HTTP endpoints and its MCP tools: components, wiring, wording of errors, leases of a ZeroGPU card.

Draws nothing: one render is pipeline.render_steps, started here and watched.
"""

import base64
import csv
import inspect
import json
import logging
import math
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: it reads this once
# librosa's numba would look for a card in this process, after which no lease of ZeroGPU begins. Source: Hub docs
os.environ.setdefault("NUMBA_DISABLE_CUDA", "1")

from pipeline.files import own_work_folder, work_folder

# Uploads and clips lie where the next page deletes what a killed one left; before gradio is imported, as above.
os.environ.setdefault("GRADIO_TEMP_DIR", str(own_work_folder("page-")))

import gradio as gr
import safehttpx
import spaces
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline import (
    AvatarError,
    RenderRequest,
    RenderResult,
    errors,
    hardware,
    jobs,
    media,
    outline,
    render_steps,
    resume_steps,
    rigs,
)
from pipeline.avatar import costs, hub, leases, licence, speed
from pipeline.bodies import BodyLimit, bounded
from pipeline.cast import say_script
from pipeline.cli import TERMINATED
from pipeline.direction import MOODS
from pipeline.engine import Engine, Step
from pipeline.face import SURE, Face, find_faces, locate
from pipeline.line import Line, Place
from pipeline.plan import FRAMINGS, plan_clip, proportions
from pipeline.report import plot, report_steps, table
from pipeline.request import (
    CAPTIONS,
    FASTEST,
    MAX_PROMPT_LENGTH,
    MAX_SEED,
    MAX_STEPS,
    MAX_TEXT_LENGTH,
    REHEARSED_SIZE,
    REHEARSED_STEPS,
    SLOWEST,
    Point,
    read_points,
)
from pipeline.texts import LANGUAGES, TEXTS, number, say
from pipeline.trust import audit, gate, keeping
from pipeline.trust import consent as consenting
from pipeline.trust.label import UNLABELLED
from pipeline.units import GIBIBYTE, GIGABYTE, MEBIBYTE
from pipeline.voice.script import num_speakers
from pipeline.voice.speak import catalogue

EXAMPLES = Path(__file__).parent / "examples"
ALIVE_SECONDS = 0.5  # between two words to the page: a cancel takes effect within this
RENDERS_AT_ONCE = 2  # on two cores a third gains nothing; with one alone, a ten-minute clip would hold up everyone
BURST = 200  # calls at the same moment, before they stand in a line of ours, which tells what Gradio's cannot
QUEUE_LENGTH = 20  # waiting visitors; the next is told to come back
RENDERS, VOICES, REPORTS = (Line(RENDERS_AT_ONCE, QUEUE_LENGTH) for _ in range(3))  # each told their place in it
MAX_THREADS = 3 * (RENDERS_AT_ONCE + QUEUE_LENGTH) + 14  # those in the lines, and a few for what takes a moment
KEPT_SECONDS = 3 * 3600  # uploads and clips: a full queue of ten-minute recordings takes two hours
SWEEP_SECONDS = 600  # between two looks for files older than that
JOB_SECRET = "portrait-parlant"  # fixed, so that a browser still finds its job after a restart; its name is random
COUNTED_IN_MEBIBYTES = ("StageDownloading", "StageConverting")
COUNTED_IN_BYTES = ("StageFetchingVoice",)
BUSY_SECONDS = 30  # that a resumed render waits for its earlier self to stop: a step of a small clip
HERE = ("127.0.0.1", "::1")  # addresses of a browser on this computer
ZERO_GPU = "ZeroGPU"  # begins the titles of the service's refusals. Source: spaces, zero/client.py
AVATAR_SIZES = sorted(costs.SIZES)
AVATAR_SIZE, AVATAR_STEPS = RenderRequest.size, RenderRequest.num_inference_steps  # chosen when the page opens
if hardware.rehearses():
    AVATAR_SIZE, AVATAR_STEPS = REHEARSED_SIZE, REHEARSED_STEPS
TITLE = "Portrait Parlant"
SHOWN = ("Page", "Unlabelled", "GateConfirm")  # begin the names of the page's texts
MOST_JUDGED = 4  # faces that the picture gate looks at closely, 0.1 s each; it sees all of them in the whole picture
CLICKS = 3  # two eyes and the mouth
MOST_KEPT = 49  # pictures, and a new one, whose points a browser keeps: 5 KB
LANGUAGE_COOKIE = "portrait-language"  # "en" or "fr", once the visitor has chosen
NUM_VARIANTS, VARIANT_SIZE = 3, 320  # beside each other on a page; pixels: enough to judge movements by
LANGUAGE_NAMES = {
    "English": "en",
    "Français": "fr",
    "Español": "es",
    "Italiano": "it",
    "Português": "pt",
}  # each one's own
PROMPTS = (  # in English, which the model reads best
    "A person speaks to the camera in a sunny kitchen, warm light, shallow depth of field.",
    "A news presenter speaks in a studio, a city at night behind.",
    "A character in a watercolour painting speaks, a light breeze in the trees.",
)
PLANNED_HEIGHT = 1000  # pixels; of a picture's size, a plan needs the proportions alone
DRAFT_SIZES = (512, 768, 1080)  # pixels of the shorter side

log = logging.getLogger(__name__)
_loading = threading.Lock()


# --- words ------------------------------------------------------------------------------------------------------------


def language_of(request: gr.Request) -> str:
    """The caller's language, "en" or "fr": the one chosen on the page, else the first that the program asks for."""
    if not request:
        return "en"
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    return "fr" if request.headers.get("accept-language", "").lower().startswith("fr") else "en"


class Paused(Exception):
    """The service has no card for this visitor now; the job is kept. Its text is the service's own."""


@contextmanager
def in_words(language: str) -> Iterator[None]:
    """Turn what goes wrong into a sentence in `language`; what is not the visitor's to mend goes to the log."""
    try:
        yield
    except AvatarError as error:
        raise refusal(error.text(language), language) from error
    except (gr.Error, Paused):
        raise
    except Exception as error:
        log.exception("A render failed")
        raise refusal(say("PageUnexpected", language), language) from error


def refusal(text: str, language: str) -> gr.Error:
    """`text` for programs; the page shows it in the status line, so no message pops up."""
    return gr.Error(text, title=say("PageNotMade", language), visible=False, print_exception=False)


def told(step: Step, language: str) -> str:
    """What is going on and how long it still takes."""
    stage, left = say(step.stage, language, done=step.done), step.seconds_left
    if left is None:
        return stage
    if left < 90:
        left = (
            max(math.ceil(left), 1) if left < 10 else 5 * math.ceil(left / 5)
        )  # calm enough to be read, and read aloud
        return say("PageStepSeconds", language, stage=stage, left=left)
    return say("PageStepMinutes", language, stage=stage, left=math.ceil(left / 60))


def bar(step: Step, language: str) -> str:
    """How far the stage has come, drawn, and the clip as it is seen coming."""
    counted = f' max="{step.total}" value="{step.done}"' if step.total else ""
    drawn = f'<progress aria-label="{say("PageProgress", language)}"{counted}></progress>'
    if step.total:
        drawn += "\n\n" + counted_in_words(step, language)
    if step.preview is not None:
        with suppress(FileNotFoundError):  # the clip was delivered meanwhile
            picture = base64.b64encode(step.preview.read_bytes()).decode()
            drawn += f'\n\n<img alt="{say("PagePreview", language)}" src="data:image/jpeg;base64,{picture}">'
    return drawn


def counted_in_words(step: Step, language: str) -> str:
    """How much of the stage is done: steps or frames, or gigabytes of weights."""
    if step.stage in COUNTED_IN_BYTES:
        return say("PageStepMegabytes", language, done=step.done // 10**6, total=step.total // 10**6)
    if step.stage not in COUNTED_IN_MEBIBYTES:
        return say("PageStepCount", language, done=step.done, total=step.total)
    done, total = (count * MEBIBYTE / GIGABYTE for count in (step.done, step.total))
    return say("PageStepGigabytes", language, done=done, total=total)


def details(result: RenderResult, language: str) -> str:
    """The finished clip in one line, and what should be known about it below."""
    line = say(
        "PageDetails",
        language,
        engine=say(f"Page{result.engine.title()}Name", language),
        width=result.width,
        height=result.height,
        clip_seconds=result.clip_seconds,
        seconds=result.seconds,
        seed=result.seed,
    )
    signed = () if result.signed is None else result.signed.told
    return "\n\n".join([line, *(f"- {notice.text(language)}" for notice in (*result.notices, *signed))])


def labels() -> gr.I18n:
    """Every text of the page, for the browser to choose from by its own language."""
    words: dict[str, dict[str, str]] = {}
    for language in LANGUAGES:
        words[language] = {key: getattr(text, language) for key, text in TEXTS.items() if key.startswith(SHOWN)}
        words[language]["PageTerms"] = consenting.terms(language, kept_hours=KEPT_SECONDS // 3600)
        for status in hardware.engines():
            if status.reason:
                key = f"PageEngine{status.name.title()}"
                reason = status.reason.text(language)
                words[language][key] = say(
                    "PageEngineUnavailable", language, engine=words[language][key], reason=reason
                )
        for place, row in enumerate(example_rows()):
            words[language][f"Example{place}"] = row[f"title_{language}"]
    return gr.I18n(**words)


def example_rows() -> list[dict[str, str]]:
    """The rows of examples.csv whose files are there."""
    table = EXAMPLES / "examples.csv"
    if not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


# --- handlers ---------------------------------------------------------------------------------------------------------


def problems(given: dict[str, Any], language: str) -> dict[str, str]:
    """What can be said against some inputs of "render" before a file is opened, by their names."""
    found = {}
    if not given["portrait"]:
        found["portrait"] = say("PagePictureMissing", language)
    if not (given["script"] or "").strip() and not given["speech"]:
        name, text = ("script", "PageScriptMissing") if given["source"] == "script" else ("speech", "PageVoiceMissing")
        found[name] = say(text, language)
    if not is_whole(given["seed"], least=0):
        found["seed"] = say("PageSeedImpossible", language, largest=MAX_SEED)
    for name in ("face", "second_face"):
        if not is_whole(given[name], least=1):
            found[name] = say("PageFaceImpossible", language)
    try:
        if given["points"]:
            read_points(given["points"])
    except AvatarError as error:
        found["points"] = error.text(language)
    return found


def is_script(given: dict[str, Any]) -> bool:
    """Whether the voice is typed: there are words, and no recording or the words are chosen."""
    return bool((given["script"] or "").strip()) and (given["source"] == "script" or not given["speech"])


def read_steps(steps: float | None, language: str) -> int:
    """Steps as a slider or a program gives them.

    Raises:
        gr.Error: no whole number in range.
    """
    if steps is None or not 1 <= steps <= MAX_STEPS or steps != int(steps):  # in this order: JSON may hold NaN
        raise refusal(say("PageStepsImpossible", language, largest=MAX_STEPS), language)
    return int(steps)


def is_whole(written: str | None, *, least: int) -> bool:
    """Whether a field is empty or holds a whole number from `least` to the largest seed there is."""
    return not written or (bool(re.fullmatch(r"\d{1,10}", written)) and least <= int(written) <= MAX_SEED)


def validate(request: gr.Request, *given: Any) -> list[dict[str, Any]]:
    """Each problem of the inputs CHECKED, to be shown at its input. A voice that is not chosen is none."""
    named = dict(zip(CHECKED, given, strict=True))
    named["speech" if named["source"] == "script" else "script"] = None
    found = problems(named, language_of(request))
    if named["consent"] is not True:
        found["consent"] = say("PageConsentMissing", language_of(request))
    return [gr.validate(name not in found, found.get(name, "")) for name in CHECKED]


@spaces.GPU(duration=leases.duration)
def on_gpu(job: str, seconds: float, *_: Any) -> Generator[Step | AvatarError, None, None]:
    """Work on a job within one lease of a ZeroGPU card: what goes in and comes out is pickled. Elsewhere the same.

    All GPU work goes through this one function: a second one would start a second worker with its own models.
    """
    yield from leases.work(job, seconds)


def leased(job: Path) -> Generator[Step, None, None]:
    """One lease, as the engine asks for it.

    Raises:
        Paused: there is no card for this visitor now.
        AvatarError: as `work_on`.
    """
    try:
        for met in on_gpu(str(job), leases.seconds_for(jobs.Job.open(job))):
            if isinstance(met, AvatarError):
                raise met
            yield met
    except gr.Error as error:
        if not str(error.title).startswith(ZERO_GPU):
            raise
        raise Paused(error.message) from error


def load_libraries() -> None:
    """Import what the avatar engine needs, one visitor at a time: diffusers fails where two threads import it at once.

    On ZeroGPU nothing is needed here: the page neither measures nor computes.
    """
    if not hardware.on_zero_gpu():
        with _loading:
            from pipeline.avatar import rehearsal, work  # noqa: F401


@contextmanager
def avatar_engine(request: RenderRequest, job: jobs.Job | None = None) -> Iterator[Engine]:
    """The avatar engine, its work in leases on ZeroGPU, its model a tiny one where PORTRAIT_REHEARSAL says so."""
    if not hardware.rehearses():
        licence.require(hub.published().beside)  # told at once, and before what this computer lacks
    from pipeline.avatar.engine import AvatarEngine, work_here

    load_libraries()
    lease = leased if hardware.on_zero_gpu() else work_here
    if hardware.rehearses():
        from pipeline.avatar.rehearsal import rehearsal  # imports torch

        with rehearsal(request, job, lease) as engine:
            yield engine
    else:
        yield AvatarEngine(request, job, lease)


def asked(given: dict[str, Any], language: str, **changes: Any) -> RenderRequest:
    """What is asked for by the inputs of "render", by their names.

    Raises:
        gr.Error, AvatarError: it cannot be met.
    """
    if problem := next(iter(problems(given, language).values()), None):
        raise refusal(problem, language)
    consenting.require(given["consent"])
    is_typed, is_draft = is_script(given), given["engine"] == "draft"
    are_two = have_two("script" if is_typed else "recording", given["script"], given["second_speech"])
    recording = {
        "speech": Path(given["speech"] or ""),
        "text": given["text"] or "",
        "second_speech": Path(given["second_speech"]) if given["second_speech"] else None,
    }
    typed = {
        "script": given["script"],
        "voice": given["voice"] or None,
        "second_voice": (given["second_voice"] or None) if are_two else None,
        "speed": given["speed"] or RenderRequest.speed,
    }
    wanted = {
        "portrait": Path(given["portrait"] or ""),
        "engine": given["engine"],
        "size": (given["size"] if is_draft else given["avatar_size"]) or RenderRequest.size,
        "framing": given["framing"] or RenderRequest.framing,
        "seed": int(given["seed"]) if given["seed"] else None,
        "motion": amount(given["motion"], RenderRequest.motion, language),
        "expression": amount(given["expression"], RenderRequest.expression, language),
        "mood": given["mood"] or RenderRequest.mood,
        "face": int(given["face"]) if given["face"] else None,
        "second_face": int(given["second_face"]) if given["second_face"] and are_two else None,
        "points": read_points(given["points"]) if given["points"] else None,
        "language": given["language"] or None,
        "captions": given["captions"] or RenderRequest.captions,
        "unlabelled": given["unlabelled"] or None,
        "mark": given["mark"] is True,
        "prompt": given["prompt"] or "",
        "num_inference_steps": read_steps(given["steps"], language),
        "preset": given["preset"] or RenderRequest.preset,
    }
    return RenderRequest(**{**wanted, **(typed if is_typed else recording), **changes})


def amount(value: float | None, default: float, language: str) -> float:
    """A slider's value from 0 to 1.

    Raises:
        gr.Error: out of range, as a program may send it.
    """
    if value is not None and not 0 <= value <= 1:
        raise refusal(say("PageAmountImpossible", language), language)
    return default if value is None else value


def render(
    portrait: str | None,
    speech: str | None = None,
    engine: str = "draft",
    size: int = 512,
    seed: str = "",
    face: str = "",
    points: str = "",
    text: str = "",
    language: str = "",
    prompt: str = "",
    avatar_size: int = 512,
    steps: int = RenderRequest.num_inference_steps,
    preset: str = RenderRequest.preset,
    script: str = "",
    source: str = "script",
    voice: str = "",
    second_voice: str = "",
    speed: float = RenderRequest.speed,
    motion: float = RenderRequest.motion,
    expression: float = RenderRequest.expression,
    mood: str = RenderRequest.mood,
    framing: str = RenderRequest.framing,
    captions: str = RenderRequest.captions,
    second_speech: str | None = None,
    second_face: str = "",
    consent: bool = False,
    unlabelled: str = "",
    mark: bool = False,
    confirmed: bool = False,
    request: gr.Request = None,  # type: ignore[assignment]
    progress: gr.Progress = gr.Progress(),  # noqa: B008  # Gradio reads the default to know that progress is wanted
) -> Iterator[tuple[Any, ...]]:
    """Make a character speak: one picture and a script or a recording become an mp4 with lip movement and sound.

    Use only a face and a voice you have the right to use; the clip is synthetic media.

    Args:
        portrait: A picture of one character, turned to the camera. JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF.
        speech: The voice: a sound file, or a video with sound, of up to ten minutes. Leave empty with a script.
        engine: "draft" runs on any computer in about the length of the recording; "avatar" needs a GPU.
        size: Shorter side of a draft in pixels: 512, 768 or 1080.
        seed: Whole number, as text, from 0 to 2147483647; the same one gives the same movements. Leave
            empty for a random one.
        face: Which face when the picture shows several, as text; 1 is the largest. Leave empty for the largest.
        points: For a drawing or an animal, where the face is, as "x,y" in pixels of the picture separated by spaces:
            both eyes and the mouth; or five: left eye, right eye, left mouth corner, right mouth corner, chin. Leave
            empty to detect the face.
        text: The words of the recording, if known; the lips of a draft then follow them more exactly.
        language: Language of the script or the words, as "en" or "fr". Leave empty to detect it.
        prompt: What is seen, in words, for the avatar.
        avatar_size: Shorter side of an avatar's clip in pixels: 256, 384, 512 or 704.
        steps: Steps of the avatar's denoiser, 1 to 100; published: 50.
        preset: Speed preset of the avatar; "published" is what the model's authors ship.
        script: Words to be spoken by a synthetic voice; lines that begin with "A:" and "B:" are spoken by two
            characters in one picture.
        source: "script" or "recording": which one counts when both are given.
        voice: Name of the synthetic voice; leave empty for the first that reads the language.
        second_voice: Name of the synthetic voice of the lines "B:".
        speed: Of the synthetic voice, 0.5 to 2 times its usual one.
        motion: Of the head, 0 still to 1 lively.
        expression: Of brows, lids and lips, 0 neutral to 1 expressive.
        mood: "neutral", "happy", "sad", "angry" or "surprised".
        framing: "picture" for all of it, "9:16", "1:1" or "16:9" around the face.
        captions: "none", "file" (to be switched on), or "burned" (drawn into the picture).
        second_speech: The recording of a second character in the picture; it begins when the first has ended.
        second_face: Which face is the second one's, as text; leave empty for the other one.
        consent: True where you have the right to animate this face and to use this voice, and accept the terms of use.
            Asked for with every clip.
        unlabelled: Why a draft made on one's own computer goes without its visible label: "private", "artistic" or
            "disclosed". Leave empty for a label.
        mark: Write an invisible mark into the frames, by which the clip may be found again.
        confirmed: True once you have read what the picture check asks, where there is one and it asks.

    Returns:
        The clip (mp4), a status line, the details (engine, size, length, time taken, seed), the name under which
        an avatar's render is kept until it is delivered, for "resume", and the captions' files.
    """
    given = dict(locals())  # every input by its name, as INPUTS lists them
    tongue = language_of(request)

    def begin(output: Path) -> Generator[Step, None, RenderResult]:
        wanted = asked(given, tongue, output=output)
        hardware.engine_for(wanted)  # refused here when it cannot run
        return (yield from let_in(wanted, confirmed, render_draft if engine == "draft" else render_avatar))

    yield from watched(begin, tongue, progress, check=lambda: asked(given, tongue))


def render_draft(wanted: RenderRequest) -> Generator[Step, None, RenderResult]:
    """A draft, on this computer's processor."""
    return (yield from render_steps(wanted))


def render_avatar(wanted: RenderRequest) -> Generator[Step, None, RenderResult]:
    """An avatar's clip, in leases of a card where cards are lent."""
    jobs.sweep()
    yield Step("StageReading")  # before libraries are loaded, which takes some seconds
    with avatar_engine(wanted) as avatar:
        return (yield from render_steps(wanted, avatar))


def let_in(
    wanted: RenderRequest, confirmed: bool, begin: Callable[[RenderRequest], Generator[Step, None, RenderResult]]
) -> Generator[Step, None, RenderResult]:
    """A render whose picture passes the gate, and which the audit log notes; where there are these.

    Args:
        wanted: What is asked for, with consent.
        confirmed: The visitor has answered what the gate asks.
        begin: Starts the render.
    """
    with audit.attempt(wanted, consent=consenting.TEXT_ID) as entry:
        if hardware.gates_pictures():
            picture = media.load_portrait(wanted.portrait)
            verdict = gate.judge(picture, *(face.box for face in find_faces(picture)[:MOST_JUDGED]))
            entry.gate["picture"] = verdict.score
            gate.check(verdict, confirmed=confirmed)
        result = yield from begin(wanted)
        entry.output, entry.model, entry.mark = result.path, result.model, wanted.mark
        entry.label = wanted.unlabelled or audit.SHOWN
        if result.signed is not None and result.signed.is_signed:
            entry.credentials = "local" if result.signed.is_local else "certificate"
        else:
            entry.credentials = "none"
        return result


INPUTS = tuple(name for name in inspect.signature(render).parameters if name not in ("request", "progress"))
# before any is opened
CHECKED = (
    "portrait",
    "speech",
    "seed",
    "face",
    "points",
    "script",
    "source",
    "second_face",
    "second_speech",
    "consent",
)


def speak(
    script: str,
    language: str = "",
    voice: str = "",
    second_voice: str = "",
    speed: float = RenderRequest.speed,
    request: gr.Request = None,  # type: ignore[assignment]
    progress: gr.Progress = gr.Progress(),  # noqa: B008  # as in `render`
) -> Iterator[tuple[Any, str]]:
    """Say a script with a synthetic voice, to be listened to before a clip is made of it.

    Args:
        script: The words; lines that begin with "A:" and "B:" are spoken by two voices.
        language: As in "render".
        voice: As in "render".
        second_voice: As in "render".
        speed: As in "render".

    Returns:
        The sound (wav) and a status line.
    """
    tongue = language_of(request)
    try:
        with in_words(tongue), ExitStack() as opened:
            if not (script or "").strip():
                raise refusal(say("PageScriptMissing", tongue), tongue)
            wanted = RenderRequest(
                portrait=Path(),
                script=script,
                language=language or None,
                voice=voice or None,
                second_voice=second_voice or None,
                speed=speed or RenderRequest.speed,
            )
            for waited in in_line(opened.enter_context(VOICES.place())):
                yield gr.skip(), told(waited, tongue)
            for step in with_result(say_script(wanted, opened.enter_context(work_folder()))):
                if isinstance(step, Step):
                    progress((step.done, step.total or None), desc=say(step.stage, tongue))
                    yield gr.skip(), told(step, tongue)
                else:
                    notices = [f"- {notice.text(tongue)}" for notice in step.notices]
                    yield str(step.speech.path), "\n\n".join([say("PageListenReady", tongue), *notices])
    except gr.Error as error:
        yield gr.skip(), "**" + say("PageNotSpoken", tongue) + f".** {error.message}"
        raise


def variants(
    request: gr.Request,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  # as in `render`
    *given: Any,
) -> Iterator[list[Any]]:
    """Three small drafts of the same with other movements, each shown once it is finished.

    Yields:
        The status line, what is drawn below it, the row of variants, three clips, and their seeds.
    """
    tongue, named = language_of(request), dict(zip(INPUTS, given, strict=True))
    clips: list[Any] = [gr.skip()] * NUM_VARIANTS
    seeds = random.sample(range(MAX_SEED + 1), NUM_VARIANTS)
    with in_words(tongue), RENDERS.place() as place:  # one for all three
        for step in in_line(place):
            yield [told(step, tongue), "", gr.skip(), *clips, gr.skip()]
        for number, seed in enumerate(seeds):

            def begin(output: Path, seed: int = seed) -> Generator[Step, None, RenderResult]:
                changes = {"engine": "draft", "size": VARIANT_SIZE, "captions": "none", "seed": seed}
                wanted = asked({**named, "engine": "draft"}, tongue, **{**changes, "output": output})
                return (yield from let_in(wanted, named["confirmed"], render_draft))

            which = say("PageVariant", tongue, number=number + 1)
            for clip, status, drawn, *_ in watched(begin, tongue, progress, line=Line(1, 0)):
                clips[number] = clip or gr.skip()
                shown = status if status.startswith("**") else f"{which} · {status}"
                yield [shown, "" if clip else drawn, gr.Row(visible=True), *clips, seeds]
                clips[number] = gr.skip()
    yield [say("PageVariantsReady", tongue), "", gr.skip(), *clips, seeds]


def report(
    clip: str | None,
    portrait: str | None,
    face: str = "",
    points: str = "",
    request: gr.Request = None,  # type: ignore[assignment]
    progress: gr.Progress = gr.Progress(),  # noqa: B008  # as in `render`
) -> Iterator[tuple[str, str, Any]]:
    """Measure a talking clip against the picture it was made from: sync and lag, identity, flicker, blinks.

    Args:
        clip: The clip, an mp4 with sound; any program's.
        portrait: The picture.
        face: As in "render".
        points: As in "render".

    Returns:
        A plot of sound and mouth over time (SVG in HTML), a table with sentences (Markdown), and all of it as JSON.
    """
    tongue = language_of(request)
    with in_words(tongue), ExitStack() as opened:
        if not clip or not portrait:
            raise refusal(say("PageReportEmpty", tongue), tongue)
        if not is_whole(face, least=1):
            raise refusal(say("PageFaceImpossible", tongue), tongue)
        measuring = report_steps(
            Path(clip),
            Path(portrait),
            face=int(face) if face else None,
            points=read_points(points) if points else None,
        )
        for waited in in_line(opened.enter_context(REPORTS.place())):
            yield "", told(waited, tongue), None
        for step in with_result(measuring):
            if isinstance(step, Step):
                progress((step.done, step.total or None), desc=say(step.stage, tongue))
                yield "", told(step, tongue), None
        found = step
        path = opened.enter_context(work_folder()) / "report.json"
        path.write_text(json.dumps(found.as_json(), indent=2, ensure_ascii=False), encoding="utf-8")
        drawn = base64.b64encode(plot(found, tongue).encode()).decode()
        image = f'<img alt="{say("PageReportPlot", tongue)}" src="data:image/svg+xml;base64,{drawn}">'
        yield image, table(found, tongue), str(path)


def resume(
    job: str,
    request: gr.Request = None,  # type: ignore[assignment]
    progress: gr.Progress = gr.Progress(),  # noqa: B008  # as in `render`
) -> Iterator[tuple[Any, ...]]:
    """Go on with an avatar's render that was stopped, paused or broke off; nothing that was done is done again.

    Args:
        job: The name under which "render" keeps it, 32 letters and digits.

    Returns:
        As "render".
    """

    def begin(output: Path) -> Generator[Step, None, RenderResult]:
        found = jobs.find(job or "")
        yield from stopped(found)
        with avatar_engine(found.request, found) as avatar:
            return (yield from resume_steps(found, avatar, output))

    yield from watched(begin, language_of(request), progress, job)


def stopped(job: jobs.Job) -> Generator[Step, None, None]:
    """Wait for a render that a reload or a Cancel has ended: it stops after the step that it is computing.

    Raises:
        JobBusy: it goes on, in another window perhaps.
    """
    lock, until = job.lock(), time.monotonic() + BUSY_SECONDS
    while not lock.take():
        if time.monotonic() > until:
            raise errors.JobBusy(name=job.id)
        yield Step("StageStopping", job=job.id)
        time.sleep(ALIVE_SECONDS)
    lock.release()


def watched(
    begin: Callable[[Path], Generator[Step, None, RenderResult]],
    language: str,
    progress: gr.Progress,
    job: str = "",
    *,
    check: Callable[[], object] = lambda: None,
    line: Line = RENDERS,
) -> Iterator[tuple[Any, ...]]:
    """What the page shows of a render: the clip at last, a status line, details, the job to be resumed if any, and
    files of captions.

    Args:
        begin: Starts the render; it is given where the mp4 goes.
        language: "en" or "fr".
        progress: Gradio's own, for programs that watch.
        job: Name of the job, where it is known already.
        check: Raises what can be said against the call before it stands in line.
        line: In which it waits for its turn.
    """
    # The clip is made in a folder of its own, which goes once Gradio has its copy, and on a refusal or a cancel.
    spoken, notices = -math.inf, ""
    try:
        with in_words(language), ExitStack() as opened:
            check()
            for waited in in_line(opened.enter_context(line.place())):
                yield None, told(waited, language), bar(waited, language), job, None
            folder = opened.enter_context(work_folder())
            for step in opened.enter_context(closing(with_result(begin(folder / "portrait-parlant.mp4")))):
                if isinstance(step, RenderResult):
                    files = [str(path) for path in step.captions] or None
                    yield str(step.path), say("PageDone", language), details(step, language), "", files
                    return
                if step.notice is not None:
                    notices += f"\n\n{step.notice.text(language)}"
                if step.job != job or time.monotonic() - spoken >= ALIVE_SECONDS:
                    spoken, job = time.monotonic(), step.job or job
                    progress((step.done, step.total or None), desc=say(step.stage, language))
                    yield None, told(step, language), bar(step, language) + notices, job, None
    except Paused as paused:
        yield None, "**" + say("PagePaused", language) + f"** {paused}", "", job, None
    except gr.Error as error:
        if isinstance(error.__cause__, errors.JobMissing | errors.JobChanged | errors.RunDamaged):
            job = ""  # there is nothing to resume
        yield None, f"**{error.title}.** {error.message}", "", job, None
        raise


def report_shown(
    request: gr.Request,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  # as in `render`
    made_from: dict[str, Any] | None = None,
    clip: str | None = None,
) -> Iterator[tuple[str, str, Any]]:
    """The report, where the page shows one: of two voices in one sound, none can be told from the other.

    Args:
        made_from: The inputs CHECKED as they were when the clip was begun; none of a clip begun before the page was
            loaded anew, whose picture is not here.
        clip: The clip.
    """
    made = made_from or {}
    if made and have_two(made["source"], made["script"], made["second_speech"]):
        yield "", say("PageReportTwo", language_of(request)), gr.File(visible=False)
    elif made:
        for image, words, path in report(clip, made["portrait"], made["face"], made["points"], request, progress):
            yield image, words, gr.File(path, visible=path is not None)
    else:
        yield "", say("PageReportLater", language_of(request)), gr.File(visible=False)


def in_line(place: Place) -> Iterator[Step]:
    """What a visitor is told until it is their turn."""
    while place.number:
        yield place.step
        place.wait(ALIVE_SECONDS)


def with_result(steps: Generator[Step, None, Any]) -> Generator[Any, None, None]:
    """Every Step of a piece of work and, last, its result."""
    yield (yield from steps)


def plan(
    portrait: str | None,
    speech: str | None,
    avatar_size: int = 512,
    steps: int = RenderRequest.num_inference_steps,
    preset: str = RenderRequest.preset,
    framing: str = RenderRequest.framing,
    request: gr.Request = None,  # type: ignore[assignment]
) -> str:
    """Say what an avatar's clip would take on this computer before it is made: time, memory, download; and what fits.

    Args:
        portrait: As in "render".
        speech: As in "render".
        avatar_size: As in "render".
        steps: As in "render".
        preset: As in "render".
        framing: As in "render".

    Returns:
        Sentences and a table, in Markdown; the first row is what was asked for, and an arrow marks the one to choose.
    """
    language = language_of(request)
    if not portrait or not speech:
        return say("PagePlanMissing", language)
    try:
        wanted = RenderRequest(
            portrait=Path(portrait),
            speech=Path(speech),
            engine="avatar",
            size=avatar_size or RenderRequest.size,
            num_inference_steps=read_steps(steps, language),
            preset=preset or RenderRequest.preset,
        )
        hardware.engine_for(wanted)
        seconds = media.load_speech(Path(speech)).seconds
        shown = proportions(framing or RenderRequest.framing, media.load_portrait(wanted.portrait).shape[:2])
        load_libraries()
        from pipeline.avatar.engine import asked_for

        picture_size = (PLANNED_HEIGHT, round(PLANNED_HEIGHT * shown))
        asked = asked_for(wanted, seconds=seconds, picture_size=picture_size, machine=planned_machine())
        chosen, others = costs.plan_avatar(**asked), costs.alternatives(**asked)
    except AvatarError as error:
        return error.text(language)
    best, why = costs.recommended([chosen, *others])
    told = [chosen.estimate.reason.text(language), plan_table([chosen, *others], best, language), why.text(language)]
    if chosen.preset != RenderRequest.preset:
        told.append(f"**{chosen.preset}** {say(speed.PRESETS[chosen.preset].text, language)}")
    if hardware.rehearses():
        told.append(say("PageRehearsal", language))
    elif chosen.estimate.download:
        told.append(say("PagePlanDownload", language, gigabytes=chosen.estimate.download / GIGABYTE))
    told.append(say("PlanEstimated", language))
    note = zero_gpu_note(asked, chosen, language)
    return "\n\n".join([*told, note]).strip()


def planned_machine() -> hardware.Machine | None:
    """What a plan is made for; None for this computer as it is. A rehearsal needs none of what the real model takes."""
    return hardware.roomy_machine() if hardware.rehearses() else None


def plan_shown(
    engine, source, portrait, speech, spoken, avatar_size, steps, preset, framing, request: gr.Request
) -> str:
    """The plan, where the page shows one: a draft needs none, and libraries that take seconds to load stay out."""
    if engine != "avatar":
        return ""
    if source == "script" and not spoken:
        return say("PagePlanListen", language_of(request))
    voice = spoken if source == "script" else speech
    return plan(portrait, voice, avatar_size, steps, preset, framing, request)


def plan_table(plans: list[costs.AvatarPlan], best: costs.AvatarPlan | None, language: str) -> str:
    """Plans side by side, the one asked for first, a mark at the one that is recommended."""
    rows = [say("PagePlanColumns", language).split("|"), ["---"] * 4]
    for one in plans:
        cost = one.estimate
        memory = number((cost.peak_vram or cost.host_ram) / GIBIBYTE, language)
        kind = f"{one.num_inference_steps}, {one.preset}"
        mark = "→ " if one is best else ""
        rows.append([f"{mark}{one.width}×{one.height}", kind, costs.time_told(cost.seconds, language), memory])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def zero_gpu_note(asked: dict[str, Any], chosen: costs.AvatarPlan, language: str) -> str:
    """What a plan takes of a visitor's daily share of ZeroGPU, and what each kind of account allows; "" elsewhere."""
    if not hardware.on_zero_gpu():
        return ""
    from pipeline.avatar.engine import every_plan

    told = [say("PageZeroGpu", language, **costs.time_in_words(leases.quota_seconds(chosen.estimate.seconds)))]
    plans = every_plan(asked)
    for account, quota in leases.QUOTAS.items():
        line = say(f"PageZeroGpu{account}", language, minutes=quota // 60)
        best = leases.fitting(quota, plans)
        if best is None:
            told.append(f"- {line} " + say("PageZeroGpuDraft", language))
        else:
            size, steps = f"{best.width}×{best.height}", best.num_inference_steps
            told.append(f"- {line} " + say("PageZeroGpuPlan", language, size=size, steps=steps))
    return "\n".join(told)


def show_engine(
    engine: str, portrait: str | None, speech: str | None, request: gr.Request
) -> tuple[Any, Any, Any, Any]:
    """The options of the engine that is chosen: the draft's size; the avatar's, its licence if not yet accepted, and
    that its plan is coming."""
    is_avatar = engine == "avatar"
    is_open = is_avatar and may_accept(request) and not licence.is_accepted(hub.published().beside)
    coming = say("PagePlanning" if portrait and speech else "PagePlanMissing", language_of(request))
    return gr.Column(visible=is_avatar), gr.Column(visible=is_open), gr.Radio(visible=not is_avatar), coming


def may_accept(request: gr.Request) -> bool:
    """Whether the licence is this visitor's to accept: that of whoever sits at this computer. On a Space it is the
    owner's, by PORTRAIT_ACCEPT_LICENCE; visitors from elsewhere come through a network or a public link's proxy."""
    is_here = request.client.host in HERE and "x-forwarded-for" not in request.headers
    return is_here and not hardware.on_space() and not hardware.rehearses()


def accept_licence(is_ticked: bool, request: gr.Request) -> Any:
    """Keep that the licence was accepted, and put it away."""
    if is_ticked and may_accept(request):
        licence.accept(hub.published().beside)
    return gr.Column(visible=not is_ticked)


def find_pending(job: str, request: gr.Request) -> tuple[str, Any]:
    """The job that this browser remembers, if it is still there, and that it waits."""
    with suppress(AvatarError):
        if jobs.find(job):
            return job, say("PagePending", language_of(request))
    return "", gr.skip()


def show_source(source: str) -> tuple[Any, Any]:
    """What a voice is made from: the script's fields, or the recording's."""
    return gr.Column(visible=source == "script"), gr.Column(visible=source == "recording")


def voice_choices(language: str) -> list[tuple[Any, str]]:
    """Names of the synthetic voices, those of a language, or of all; "" first, for whoever reads it."""
    voices = [one for one in catalogue() if one.language == language or (not language and not one.is_robotic)]
    named = Counter(one.title for one in voices)
    titles = [f"{one.title} · {one.language}" + f" · {one.engine}" * (named[one.title] > 1) for one in voices]
    return [(word("PageSpeakerFirst"), ""), *zip(titles, (one.name for one in voices), strict=True)]


def show_voices(language: str) -> list[Any]:
    """The voices that read the language chosen, for the first speaker and the second."""
    return [gr.Dropdown(choices=voice_choices(language), value="") for _ in range(2)]


def show_extras(caption_files: list[str] | None) -> tuple[Any, Any, Any]:
    """What belongs to a finished clip: its captions in the player and as files, and the place of its report."""
    track = next((path for path in caption_files or [] if path.endswith(".vtt")), None)
    return gr.update(subtitles=track), gr.Column(visible=track is not None), gr.Accordion(visible=True)


@dataclass(frozen=True)
class Seen:
    """What was found in a visitor's picture.

    Args:
        faces: As `find_faces` gives them.
        to_place: Whether none of them is one for sure, so that the visitor shows where the face is.
        hash: Of the picture, under which the visitor's browser keeps what was shown.
    """

    faces: tuple[Face, ...] = ()
    to_place: bool = False
    hash: str = ""

    @property
    def is_shown(self) -> bool:
        """Whether there is something to be chosen."""
        return self.to_place or len(self.faces) > 1


def look(
    request: gr.Request, portrait: str | None, kept: dict[str, str], framing: str, given: str = ""
) -> tuple[Any, ...]:
    """Find the faces in a new picture, and recall what was clicked in it, unless points were given with it.

    Returns:
        What was found; the points clicked; the fields for points and for both faces; and what `shown_faces` gives.
    """
    seen, points = Seen(), given
    with suppress(AvatarError):  # told when the clip is made
        if portrait:
            picture = media.load_portrait(Path(portrait))
            faces = find_faces(picture)
            sure = tuple(face for face in faces if face.score >= SURE)
            seen = Seen(sure, not sure, rigs.picture_hash(picture))
            points = given or ((kept or {}).get(seen.hash, "") if seen.to_place else "")
    placed = list(read_points(points)) if points and seen.to_place else []
    return seen, placed, points, "", "", *shown_faces(request, portrait, seen, placed, "", "", framing)


def shown_faces(
    request: gr.Request, portrait: str | None, seen: Seen, placed: list[Point], face: str, second: str, framing: str
) -> tuple[Any, ...]:
    """The box with the outlined picture, what to do in it, the outlined picture, and the button that takes a click
    back."""
    language = language_of(request)
    if not portrait or not (seen.is_shown or framing != RenderRequest.framing):
        return gr.Column(visible=False), "", None, gr.Button(visible=False)
    hint = "PageFacesFramed"
    if seen.to_place:
        hint = ("PagePlaceFirstEye", "PagePlaceOtherEye", "PagePlaceMouth", "PagePlaceDone")[len(placed)]
    elif seen.is_shown:
        hint = "PageFacesSeveral"
    told, drawn = say(hint, language), None
    with suppress(AvatarError):
        picture = media.load_portrait(Path(portrait))
        chosen = [int(number) for number in (face, second) if number and is_whole(number, least=1)]
        drawn = outline.outlined(picture, seen.faces, chosen=chosen, points=placed)
        try:
            points = tuple(placed) if len(placed) == CLICKS else None
            if seen.faces or points:
                speaking = [seen.faces[number - 1].box for number in chosen if number <= len(seen.faces)]
                if not speaking:
                    speaking = [locate(picture, name=Path(portrait).name, points=points).box]
                plan = plan_clip(
                    seconds=1, size=RenderRequest.size, picture_size=picture.shape[:2], faces=speaking, framing=framing
                )
                drawn = outline.crop_outlined(drawn, plan.crop, picture_size=picture.shape[:2])
        except AvatarError as error:
            told = error.text(language)
    return gr.Column(visible=True), told, drawn, gr.Button(visible=seen.to_place and bool(placed))


def pick(
    clicked: gr.SelectData,
    request: gr.Request,
    portrait: str | None,
    seen: Seen,
    placed: list[Point],
    kept: dict[str, str],
    face: str,
    second: str,
    framing: str,
    source: str,
    script: str,
    second_speech: str | None,
) -> tuple[Any, ...]:
    """A click in the outlined picture: who speaks, or where an eye or the mouth is.

    With two speakers, the first click is the first one's and the second click the other's.
    """
    with suppress(AvatarError):
        picture = media.load_portrait(Path(portrait or ""))
        at = outline.to_picture(picture, *clicked.index)
        if seen.to_place:
            placed = [*(placed if len(placed) < CLICKS else []), at]
        elif number := outline.face_at(seen.faces, *at):
            if have_two(source, script, second_speech) and face and not second and str(number) != face:
                second = str(number)
            else:
                face, second = str(number), ""
    return placed_or_chosen(request, portrait, seen, placed, kept, face, second, framing)


def have_two(source: str, script: str, second_speech: str | None) -> bool:
    """Whether two speak in the clip that the page describes."""
    return bool(second_speech) if source == "recording" else num_speakers(script or "") > 1


def take_back(
    request: gr.Request, portrait: str | None, seen: Seen, placed: list[Point], kept: dict[str, str], framing: str
) -> tuple[Any, ...]:
    """Without the last click."""
    return placed_or_chosen(request, portrait, seen, placed[:-1], kept, "", "", framing)


def placed_or_chosen(
    request: gr.Request,
    portrait: str | None,
    seen: Seen,
    placed: list[Point],
    kept: dict[str, str],
    face: str,
    second: str,
    framing: str,
) -> tuple[Any, ...]:
    """What a click leaves: points clicked; fields for points and for both faces; what the browser keeps of pictures;
    and what `shown_faces` gives."""
    points = " ".join(f"{x:.0f},{y:.0f}" for x, y in placed) if len(placed) == CLICKS else ""
    kept = {name: one for name, one in (kept or {}).items() if name != seen.hash}
    if points:
        kept = {**dict(list(kept.items())[-MOST_KEPT:]), seen.hash: points}
    drawn = shown_faces(request, portrait, seen, placed, face, second, framing)
    return placed, points, face, second, kept, *drawn


def use_variant(seeds: list[int], number: int, request: gr.Request) -> tuple[str, str]:
    """The seed of the variant chosen, for its field, and what that means."""
    return str(seeds[number]), say("PageVariantChosen", language_of(request), seed=seeds[number])


def say_waiting(request: gr.Request, *given: Any) -> tuple[Any, ...]:
    """What stands in the status line until a place is free, a Cancel that can be pressed, no Resume meanwhile, and the
    inputs CHECKED of what is begun."""
    made_from = dict(zip(CHECKED, given, strict=True)) if given else None
    return say("PageWaiting", language_of(request)), gr.Button(interactive=True), gr.Button(visible="hidden"), made_from


def show_example(row: dict[str, str], request: gr.Request) -> tuple[Any, ...]:
    """An example's inputs and its finished clip."""
    language = language_of(request)
    picture, voice, clip = (str(EXAMPLES / row[column]) for column in ("portrait", "voice", "clip"))
    fields = picture, voice, None, "", row["points"], row["text"], row["language"]
    about_clip = clip, say("PageExampleShown", language), "", gr.skip(), None
    return "recording", *show_source("recording"), *fields, *about_clip


def say_ended(shown: str, job: str, request: gr.Request) -> tuple[Any, Any, Any]:
    """What stands in the status line after a Cancel ("" came in), a refusal or a full queue; no bar, no Cancel."""
    language = language_of(request)
    if not shown:
        shown = say("PageKept" if job else "PageCancelled", language)
    elif not shown.startswith("**"):  # not refused by us: it never began
        shown = say("PageFull", language)
    return shown, "", gr.Button(interactive=False)


def as_it_came(payload: Any) -> str | None:
    """The picture's file, unopened: media.py is the door that judges it, in the visitor's words."""
    if payload and payload.url and payload.url.startswith("data:"):  # what programs may send instead of a file
        path = gr.processing_utils.save_base64_to_cache(payload.url, portrait.GRADIO_CACHE)
        portrait.temp_files.add(path)  # so that delete_cache takes it away
        return path
    return payload.path if payload else None


def in_our_words(part: gr.components.Component) -> None:
    """Let a value that a program sends be judged where the request is made: Gradio refuses it in English alone."""
    check, kind = part.preprocess, (int, float) if isinstance(part, gr.Slider) else type(part.value)
    part.preprocess = lambda payload: payload if isinstance(payload, kind) else check(payload)  # type: ignore[method-assign]


# --- the page ---------------------------------------------------------------------------------------------------------

word = labels()
THEME = gr.themes.Default(
    primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
).set(
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    button_primary_text_color="white",
    body_text_color_subdued="*neutral_500",
    block_label_text_color="*neutral_600",
    color_accent="*primary_600",
)
# A Cancel is told apart from a refusal in the page itself, once the render has ended and no step can follow.
CANCEL = f"""() => {{
  window.cancelled = true; return [{json.dumps(str(word("PageStopping")))}, {{__type__: 'update', interactive: false}}]
}}"""
CANCELLED = """(shown, job) => {
  const pressed = window.cancelled; window.cancelled = false; return [pressed ? '' : shown, job]
}"""
# The job that can be resumed outlasts a render that makes another clip, and is forgotten when its own is delivered;
# forgotten here, as gr.BrowserState writes nothing that is empty.
JOB_KEY = "portrait-parlant-job"
POINTS_KEY = "portrait-parlant-points"
REMEMBER = "job => {if (!window.rendering) {window.rendering = true; window.earlier = job}}"
REMEMBER_NOTHING = "() => {if (!window.rendering) {window.rendering = true; window.earlier = ''}}"
SHOW_RESUME = f"""job => {{
  job = job || window.earlier || ''; window.rendering = false; window.earlier = '';
  if (!job) localStorage.removeItem('{JOB_KEY}');
  return [job, {{__type__: 'update', visible: job ? true : 'hidden'}}]
}}"""
UNUSABLE = "() => {window.cancelled = false; return {__type__: 'update', interactive: false}}"
SWITCH_LANGUAGE = f"""() => {{
  const now = document.documentElement.dataset.language;
  const inside = location.protocol === 'https:' ? 'SameSite=None; Secure; Partitioned' : 'SameSite=Lax';
  document.cookie = '{LANGUAGE_COOKIE}=' + (now === 'fr' ? 'en' : 'fr') + '; path=/; max-age=31536000; ' + inside;
  location.reload();
}}"""
# Before anything else runs: the page's words follow the browser's language, which is what the visitor has chosen here.
HEAD = f"""<script>{{
  const chosen = (document.cookie.match(/{LANGUAGE_COOKIE}=(en|fr)/) || [])[1];
  const language = chosen || (navigator.language.startsWith('fr') ? 'fr' : 'en');  // Gradio's own words as well
  for (const [name, value] of [['language', language], ['languages', [language]]])
    Object.defineProperty(navigator, name, {{get: () => value}});
  document.documentElement.lang = document.documentElement.dataset.language = language;
}}</script>"""


class HeadFirst:
    """Puts HEAD first into the page; what `launch` takes as `head` comes after Gradio has chosen the page's words."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_head(message: Message) -> None:
            if message["type"] == "http.response.start":  # without its length, which grows
                message["headers"] = [header for header in message["headers"] if header[0] != b"content-length"]
            elif message["type"] == "http.response.body":
                message["body"] = message["body"].replace(b"<head>", b"<head>" + HEAD.encode(), 1)
            await send(message)

        is_page = scope["type"] == "http" and scope["path"] == "/"
        await self.app(scope, receive, send_with_head if is_page else send)


CAPTIONS_ON = """is_on => {
  const video = document.querySelector('#clip video');
  for (const track of video?.textTracks ?? []) track.mode = is_on ? 'showing' : 'hidden';
}"""
IN_SIGHT = "() => document.getElementById('clip').scrollIntoView({block: 'nearest'})"  # on a phone it is far below
# The status line is read aloud; and what is missing, told at its input, comes into sight: no event follows it.
AT_FIRST = """() => {
  document.querySelector("#status [data-testid=markdown]").setAttribute("role", "status");
  const isTold = node => node.classList?.contains('validation-error') || node.querySelector?.('.validation-error');
  new MutationObserver(changes => {
    if (changes.some(change => [...change.addedNodes].some(isTold)))
      document.querySelector('.validation-error').scrollIntoView({block: 'center'})
  }).observe(document.body, {childList: true, subtree: true})
}"""
CSS = """
:is(#status, #clip, #details) [data-testid=status-tracker] {display: none}
#outlines img {cursor: crosshair; max-height: 24rem; object-fit: contain}
#top {align-items: center; flex-wrap: nowrap}
#switch {flex: none; align-self: center}
#variants video {aspect-ratio: 1}
#result {position: sticky; top: 1rem; align-self: flex-start}
#clip:not(:has(video)) {aspect-ratio: 1}  /* the place of the clip to come */
#clip video {max-height: 80vh}
:is(#clip, #variants .block):has(video) {padding-top: 2.25rem}  /* names and buttons stand over no clip's label */
#consent:has(.validation-error) {padding-top: 3.25rem}  /* what is missing stands over the box, not on it */
#speech {min-height: 0}
body:not(.dark) #speech {--neutral-400: var(--neutral-600)}  /* the player's times and buttons, readable */
#speech .wrap {min-height: 9rem}
#engine .wrap {flex-direction: column}
:is(#plan, #measured) table {font-size: .875rem}
:is(#plan, #measured) :is(th, td) {padding: .25rem .5rem; overflow-wrap: normal; word-break: normal}
#measured td:nth-child(n + 2):nth-child(-n + 4) {white-space: nowrap}
#chart {overflow-x: auto}
#chart img {width: 100%; min-width: 36rem}  /* a phone scrolls in it */
#caption-files td:last-child {display: none}  /* its crosses would take files away that are only shown */
:is(#caption-files, #report-file) a {color: var(--body-text-color)}
@media (max-width: 40rem) {  /* what a figure means goes below it: beside it, a phone would have to scroll */
  #measured tr {display: grid; grid-template-columns: 2fr 1fr 1fr 1fr}
  #measured :is(th, td):last-child {grid-column: 1 / -1}
  #measured table {display: block}
  #measured :is(table, th, td) {border: 0}
  #measured tr {border: 0; border-bottom: 1px solid var(--border-color-primary)}
}
#plan :is(th, td):not(:nth-child(2)) {white-space: nowrap}
#details img {width: 12rem; border-radius: 4px}
#details progress {display: block; width: 100%; height: 6px; appearance: none; border: 0; border-radius: 3px;
  overflow: hidden; background: var(--border-color-primary)}
#details progress::-webkit-progress-bar {background: var(--border-color-primary)}
#details progress::-webkit-progress-value {background: var(--button-primary-background-fill)}
#details progress::-moz-progress-bar {background: var(--button-primary-background-fill)}
.examples {display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr))}
.examples button {flex-wrap: nowrap; justify-content: flex-start; gap: .5rem; padding: .25rem; text-align: left}
.examples button img {flex: none; width: 3rem; height: 3rem; margin: 0; object-fit: cover; border-radius: 4px}
"""

gr.set_static_paths(EXAMPLES)  # handed out from where they are, whatever folder the program was started in
with gr.Blocks(title=TITLE, delete_cache=(SWEEP_SECONDS, KEPT_SECONDS)) as demo:
    with gr.Row(elem_id="top"):
        gr.Markdown(f"# {TITLE}")
        switch = gr.Button(word("PageOtherLanguage"), size="sm", elem_id="switch", min_width=80, scale=0)
    gr.Markdown(word("PageIntroduction"))
    rows = example_rows()
    gr.Markdown(word("PageExamples"), visible=bool(rows))
    with gr.Row(elem_classes="examples", visible=bool(rows)):
        chips = [
            gr.Button(word(f"Example{number}"), icon=EXAMPLES / row["portrait"], size="sm", min_width=120)
            for number, row in enumerate(rows)
        ]
    with gr.Row():
        with gr.Column(min_width=320):
            portrait = gr.Image(
                label=word("PagePictureLabel"),
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                image_mode=None,
                height=260,
                placeholder=word("PagePictureHint"),  # type: ignore[arg-type]  # the browser translates it all the same
                elem_id="portrait",
            )
            portrait.preprocess = as_it_came  # type: ignore[method-assign]
            with gr.Column(visible=False, elem_id="faces") as faces_box:
                faces_hint = gr.Markdown(elem_id="faces-hint")
                outlines = gr.Image(
                    interactive=False,
                    type="numpy",
                    format="jpeg",
                    buttons=[],
                    show_label=False,
                    alt_text=word("PageFacesLabel"),  # type: ignore[arg-type]  # as the placeholder above
                    elem_id="outlines",
                )
                back = gr.Button(word("PagePlaceBack"), size="sm", visible=False, elem_id="take-back")
            source = gr.Radio(
                [(word("PageSourceScript"), "script"), (word("PageSourceRecording"), "recording")],
                value="script",
                label=word("PageSourceLabel"),
                elem_id="source",
            )
            with gr.Column(elem_id="typed") as typed:
                script = gr.Textbox(
                    value="",
                    label=word("PageScriptLabel"),
                    info=word("PageScriptInfo"),
                    placeholder=word("PageScriptHint"),
                    elem_id="script",
                    lines=3,
                    max_length=MAX_TEXT_LENGTH,
                )
                with gr.Row():
                    voice = gr.Dropdown(
                        voice_choices(""),
                        value="",
                        allow_custom_value=True,  # robotic voices of a hundred languages
                        label=word("PageSpeakerLabel"),
                        elem_id="voice",
                        min_width=200,
                    )
                    speaking_speed = gr.Slider(
                        SLOWEST, FASTEST, RenderRequest.speed, step=0.05, label=word("PageSpeedLabel"), elem_id="speed"
                    )
                listen = gr.Button(word("PageListen"), size="sm", elem_id="listen")
                spoken = gr.Audio(
                    label=word("PageListenLabel"),
                    type="filepath",
                    interactive=False,
                    visible="hidden",
                    autoplay=True,
                    buttons=["download"],
                    elem_id="spoken",
                )
            with gr.Column(visible=False, elem_id="recorded") as recorded:
                speech = gr.Audio(
                    label=word("PageVoiceLabel"),
                    sources=["upload", "microphone"],
                    type="filepath",
                    buttons=[],
                    elem_id="speech",
                )
                with gr.Accordion(word("PageSecondLabel"), open=False, elem_id="second"):
                    gr.Markdown(word("PageSecondInfo"))
                    second_speech = gr.Audio(
                        label=word("PageSecondVoiceLabel"),
                        sources=["upload", "microphone"],
                        type="filepath",
                        buttons=[],
                        elem_id="second-speech",
                    )
                text = gr.Textbox(
                    value="",
                    label=word("PageTextLabel"),
                    info=word("PageTextInfo"),
                    elem_id="text",
                    lines=2,
                    max_length=MAX_TEXT_LENGTH,
                )
            language = gr.Dropdown(
                [(word("PageDetected"), ""), *LANGUAGE_NAMES.items()],
                value="",
                allow_custom_value=True,  # by its code, as "de"
                label=word("PageScriptLanguageLabel"),
                elem_id="language",
            )
            with gr.Accordion(word("PageDirectionLabel"), open=False, elem_id="direction"):
                with gr.Row():
                    motion = gr.Slider(
                        0,
                        1,
                        RenderRequest.motion,
                        step=0.05,
                        label=word("PageMotionLabel"),
                        info=word("PageMotionInfo"),
                        elem_id="motion",
                    )
                    expression = gr.Slider(
                        0,
                        1,
                        RenderRequest.expression,
                        step=0.05,
                        label=word("PageExpressionLabel"),
                        info=word("PageExpressionInfo"),
                        elem_id="expression",
                    )
                mood = gr.Radio(
                    [(word(f"PageMood{mood.title()}"), mood) for mood in MOODS],
                    value=RenderRequest.mood,
                    label=word("PageMoodLabel"),
                    elem_id="mood",
                )
            with gr.Accordion(word("PageFormatLabel"), open=False, elem_id="format"):
                framing = gr.Radio(
                    [(word("PageFramingPicture") if one == "picture" else one, one) for one in FRAMINGS],
                    value=RenderRequest.framing,
                    label=word("PageFramingLabel"),
                    elem_id="framing",
                )
                size = gr.Radio(
                    [(str(pixels), pixels) for pixels in DRAFT_SIZES],
                    value=RenderRequest.size,
                    label=word("PageShortSideLabel"),
                    elem_id="size",
                )
                captions = gr.Radio(
                    [(word(f"PageCaptions{one.title()}"), one) for one in CAPTIONS],
                    value=RenderRequest.captions,
                    label=word("PageCaptionsLabel"),
                    elem_id="captions",
                )
                unlabelled = gr.Radio(
                    [(word("PageLabelShown"), ""), *((word(f"Unlabelled{one.title()}"), one) for one in UNLABELLED)],
                    value="",
                    label=word("PageLabelLabel"),
                    info=word("PageLabelInfo"),
                    visible=not hardware.is_public(),
                    elem_id="unlabelled",
                )
                mark = gr.Checkbox(False, label=word("PageMark"), info=word("PageMarkInfo"), elem_id="mark")
            engine = gr.Radio(
                [(word(f"PageEngine{status.name.title()}"), status.name) for status in hardware.engines()],
                value="draft",
                label=word("PageEngineLabel"),
                elem_id="engine",
            )
            with gr.Column(visible=False, elem_id="avatar") as avatar_options:
                with gr.Column(visible=False, elem_id="licence") as licence_box:
                    gr.Markdown(word("PageLicence"))
                    accepted = gr.Checkbox(False, label=word("PageLicenceAccept"), elem_id="accept")
                prompt = gr.Textbox(
                    value="",
                    label=word("PagePromptLabel"),
                    info=word("PagePromptInfo"),
                    placeholder=word("PagePromptHint"),
                    elem_id="prompt",
                    max_length=MAX_PROMPT_LENGTH,
                )
                gr.Examples(
                    [[one] for one in PROMPTS], [prompt], label=word("PagePromptExamples"), api_visibility="private"
                )
                with gr.Row():
                    avatar_size = gr.Radio(
                        [(str(pixels), pixels) for pixels in AVATAR_SIZES],
                        value=AVATAR_SIZE,
                        label=word("PageShortSideLabel"),
                        elem_id="avatar-size",
                    )
                    steps = gr.Slider(
                        1,
                        MAX_STEPS,
                        AVATAR_STEPS,
                        step=1,
                        label=word("PageStepsLabel"),
                        elem_id="steps",
                    )
                preset = gr.Dropdown(
                    list(costs.PRESETS), value=RenderRequest.preset, label=word("PagePresetLabel"), elem_id="preset"
                )
                planned = gr.Markdown(elem_id="plan")
            with gr.Accordion(word("PageAdvancedLabel"), open=False, elem_id="advanced"):
                second_voice = gr.Dropdown(
                    voice_choices(""),
                    value="",
                    allow_custom_value=True,
                    label=word("PageSecondSpeakerLabel"),
                    elem_id="second-voice",
                )
                seed = gr.Textbox(
                    label=word("PageSeedLabel"),
                    placeholder=word("PageSeedHint"),
                    info=word("PageSeedInfo"),
                    value="",
                    max_lines=1,
                    elem_id="seed",
                )
                with gr.Row():
                    face = gr.Textbox(
                        label=word("PageFaceLabel"),
                        placeholder=word("PageFaceHint"),
                        info=word("PageFaceInfo"),
                        value="",
                        max_lines=1,
                        elem_id="face",
                    )
                    second_face = gr.Textbox(
                        label=word("PageSecondFaceLabel"),
                        placeholder=word("PageSecondFaceHint"),
                        value="",
                        max_lines=1,
                        elem_id="second-face",
                    )
                points = gr.Textbox(
                    value="",
                    label=word("PagePointsLabel"),
                    info=word("PagePointsInfo"),
                    elem_id="points",
                    placeholder="120,150 210,150 165,240",
                )
            consent = gr.Checkbox(False, label=word("PageConsent"), elem_id="consent")
            confirmed = gr.Checkbox(
                False, label=word("GateConfirm"), visible=hardware.gates_pictures(), elem_id="confirmed"
            )
            with gr.Row():
                make = gr.Button(word("PageMake"), variant="primary", elem_id="make", scale=3, min_width=160)
                cancel = gr.Button(word("PageCancel"), elem_id="cancel", scale=1, min_width=96, interactive=False)
            try_variants = gr.Button(word("PageVariants"), elem_id="try-variants")
            again = gr.Button(word("PageResume"), elem_id="resume", visible="hidden")
            gr.Markdown(word("PageSynthetic"))
            status = gr.Markdown(word("PageIdle"), elem_id="status")
        with gr.Column(min_width=320, elem_id="result"):
            clip = gr.Video(
                label=word("PageClipLabel"), interactive=False, autoplay=True, buttons=["download"], elem_id="clip"
            )
            about = gr.Markdown(elem_id="details")
            with gr.Row(visible=False, elem_id="variants") as variant_row:
                shown_variants, chosen_variants = [], []
                for _ in range(NUM_VARIANTS):
                    with gr.Column(min_width=96):
                        shown_variants.append(
                            gr.Video(
                                label=word("PageVariantLabel"), interactive=False, loop=True, buttons=[], autoplay=False
                            )
                        )
                        chosen_variants.append(gr.Button(word("PageVariantUse"), size="sm"))
            with gr.Column(visible=False) as caption_box:
                captions_on = gr.Checkbox(True, label=word("PageCaptionsOn"), elem_id="captions-on")
                caption_files = gr.File(
                    label=word("PageCaptionFiles"), file_count="multiple", interactive=False, elem_id="caption-files"
                )
            with gr.Accordion(word("PageReportLabel"), open=True, visible=False, elem_id="report") as report_box:
                chart = gr.HTML(elem_id="chart")
                measured = gr.Markdown(elem_id="measured")
                as_file = gr.File(label=word("PageReportFile"), interactive=False, elem_id="report-file")
    pending = gr.BrowserState("", storage_key=JOB_KEY, secret=JOB_SECRET)
    variant_seeds, made_from = gr.State([]), gr.State(None)
    seen, placed = gr.State(Seen()), gr.State([])
    kept = gr.BrowserState({}, storage_key=POINTS_KEY, secret=JOB_SECRET)

    parts: dict[str, Any] = {
        "portrait": portrait,
        "speech": speech,
        "engine": engine,
        "size": size,
        "seed": seed,
        "face": face,
        "points": points,
        "text": text,
        "language": language,
        "prompt": prompt,
        "avatar_size": avatar_size,
        "steps": steps,
        "preset": preset,
        "script": script,
        "source": source,
        "voice": voice,
        "second_voice": second_voice,
        "speed": speaking_speed,
        "motion": motion,
        "expression": expression,
        "mood": mood,
        "framing": framing,
        "captions": captions,
        "second_speech": second_speech,
        "second_face": second_face,
        "consent": consent,
        "unlabelled": unlabelled,
        "mark": mark,
        "confirmed": confirmed,
    }
    for name, part in parts.items():
        if isinstance(part, gr.Radio | gr.Dropdown | gr.Slider) and name != "preset":  # a table's key
            in_our_words(part)
    inputs, checked_inputs = [parts[name] for name in INPUTS], [parts[name] for name in CHECKED]
    outputs = [clip, status, about, pending, caption_files]
    checked = make.click(
        say_waiting,
        checked_inputs,
        [status, cancel, again, made_from],
        validator=validate,
        show_progress="hidden",
        concurrency_limit=None,
        api_visibility="private",
    )
    made = checked.success(
        render,
        inputs,
        outputs,
        show_progress="hidden",
        api_name="render",
        concurrency_limit=None,  # they stand in a line of ours
    )
    waited = again.click(
        say_waiting,
        None,
        [status, cancel, again, made_from],
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )
    resumed = waited.success(
        resume,
        pending,
        outputs,
        show_progress="hidden",
        api_name="resume",
        concurrency_limit=None,  # they stand in a line of ours
    )
    tried = try_variants.click(
        say_waiting,
        checked_inputs,
        [status, cancel, again, made_from],
        validator=validate,
        show_progress="hidden",
        concurrency_limit=None,
        api_visibility="private",
    ).success(
        variants,
        inputs,
        [status, about, variant_row, *shown_variants, variant_seeds],
        show_progress="hidden",
        concurrency_limit=None,  # they stand in a line of ours
        api_visibility="private",
    )
    heard = listen.click(
        speak,
        [script, language, voice, second_voice, speaking_speed],
        [spoken, status],
        show_progress="hidden",
        api_name="speak",
        concurrency_limit=None,
    )
    heard.success(lambda: gr.Audio(visible=True), None, spoken, show_progress="hidden", api_visibility="private")
    for job in (made, resumed, tried):
        job.success(None, None, cancel, js=UNUSABLE, api_visibility="private")
        job.failure(
            say_ended,
            [status, pending],
            [status, about, cancel],
            js=CANCELLED,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        job.success(None, js=IN_SIGHT, api_visibility="private")
    for job in (made, resumed):
        for end in (job.success, job.failure):
            end(None, pending, [pending, again], js=SHOW_RESUME, api_visibility="private")
        job.success(
            show_extras,
            caption_files,
            [clip, caption_box, report_box],
            show_progress="hidden",
            api_visibility="private",
        ).then(None, captions_on, None, js=CAPTIONS_ON, api_visibility="private").then(
            report_shown,
            [made_from, clip],
            [chart, measured, as_file],
            show_progress="hidden",
            api_visibility="private",
            concurrency_limit=None,
        )
    gr.Button(visible=False).click(  # for programs
        report,
        [clip, portrait, face, points],
        [chart, measured, as_file],
        api_name="report",
        concurrency_limit=None,
    )
    checked.success(None, pending, None, js=REMEMBER, api_visibility="private")
    made.success(None, None, consent, js="() => false", api_visibility="private")  # asked for with every clip
    waited.success(None, None, None, js=REMEMBER_NOTHING, api_visibility="private")
    cancel.click(None, None, [status, cancel], cancels=[made, resumed, tried], js=CANCEL, api_visibility="private")
    captions_on.input(None, captions_on, None, js=CAPTIONS_ON, api_visibility="private")
    drawn_faces = [faces_box, faces_hint, outlines, back]
    looked = [seen, placed, points, face, second_face, *drawn_faces]
    picked = [placed, points, face, second_face, kept, *drawn_faces]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    gr.on(
        [portrait.input, portrait.clear],
        look,
        [portrait, kept, framing],
        looked,
        **quiet,
    )
    framing.change(
        shown_faces,
        [portrait, seen, placed, face, second_face, framing],
        drawn_faces,
        trigger_mode="always_last",
        **quiet,
    )
    outlines.select(
        pick,
        [portrait, seen, placed, kept, face, second_face, framing, source, script, second_speech],
        picked,
        trigger_mode="multiple",
        **quiet,
    )
    back.click(take_back, [portrait, seen, placed, kept, framing], picked, **quiet)
    switch.click(None, js=SWITCH_LANGUAGE, api_visibility="private")
    source.change(show_source, source, [typed, recorded], queue=False, show_progress="hidden", api_visibility="private")
    language.change(
        show_voices, language, [voice, second_voice], queue=False, show_progress="hidden", api_visibility="private"
    )
    for place, button in enumerate(chosen_variants):
        button.click(
            use_variant,
            [variant_seeds, gr.State(place)],
            [seed, status],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
    engine.change(
        show_engine,
        [engine, portrait, speech],
        [avatar_options, licence_box, size, planned],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    accepted.input(accept_licence, accepted, licence_box, queue=False, show_progress="hidden", api_visibility="private")
    planned_for = [avatar_size, steps, preset, framing]
    gr.on(
        [one.change for one in (engine, source, portrait, speech, spoken, avatar_size, preset, framing)]
        + [steps.release],
        plan_shown,
        [engine, source, portrait, speech, spoken, *planned_for],
        planned,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
    gr.Button(visible=False).click(
        plan, [portrait, speech, *planned_for], planned, api_name="plan"
    )  # for programs: it plans avatars only
    for chip, row in zip(chips, rows, strict=True):
        shown = chip.click(
            show_example,
            [gr.State(row)],
            [
                source,
                typed,
                recorded,
                portrait,
                speech,
                second_speech,
                seed,
                points,
                text,
                language,
                *outputs,
            ],
            queue=False,
            api_visibility="private",
        )
        shown.success(None, js=IN_SIGHT, api_visibility="private")
        shown.success(look, [portrait, kept, framing, points], looked, **quiet)
    with gr.Accordion(word("PageTermsLabel"), open=False, elem_id="terms"):
        gr.Markdown(word("PageTerms"))
    demo.load(
        find_pending, pending, [pending, status], queue=False, show_progress="hidden", api_visibility="private"
    ).then(None, pending, [pending, again], js=SHOW_RESUME, api_visibility="private")

demo.queue(max_size=BURST, api_open=False)  # closed: no call goes round the queue
# Seconds between two looks for work. Gradio looks a thousand times a second except on Windows, whose values these are:
# 4 % of a core for a page that nobody visits.
demo._queue.sleep_when_free, demo._queue.progress_update_sleep_when_free = 0.05, 0.1

# What an address answers is held in memory whole; the hosts on Gradio's list would go round the bound.
safehttpx.AsyncSecureTransport = bounded(safehttpx.AsyncSecureTransport, media.MAX_PICTURE_MEBIBYTES)
gr.processing_utils.PUBLIC_HOSTNAME_WHITELIST.clear()

LAUNCH: dict[str, Any] = {
    "theme": THEME,
    "css": CSS,
    "i18n": word,
    "max_file_size": media.MAX_SOUND_MEBIBYTES * MEBIBYTE,
    "run_history": False,
    "enable_monitoring": False,
    "js": AT_FIRST,
    "app_kwargs": {
        "middleware": [Middleware(BodyLimit, upload_mebibytes=media.MAX_SOUND_MEBIBYTES), Middleware(HeadFirst)]
    },
    "mcp_server": True,
    "footer_links": ["api", "gradio"],
    "max_threads": MAX_THREADS,
}

if hardware.on_zero_gpu() and not hardware.rehearses() and licence.is_accepted():
    from pipeline.avatar import work

    work.pack(hub.published())  # before launch, which moves what stands on the card to where leases find it

if __name__ == "__main__":
    keeping.prepare(hardware.page_folder())
    cleared = hardware.page_folder(), KEPT_SECONDS, SWEEP_SECONDS
    threading.Thread(target=keeping.keep_clear, args=cleared, name="keeping", daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that what lies in folders goes
    demo.launch(**LAUNCH)
