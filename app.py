"""The page, its HTTP endpoints and its MCP tools: components, wiring, wording of errors, leases of a ZeroGPU card.

Draws nothing: one render is pipeline.render_steps, started here and watched.
"""

import base64
import csv
import json
import logging
import math
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: it reads this once
# librosa's numba would look for a card in this process, after which no lease of ZeroGPU begins. Source: Hub docs
os.environ.setdefault("NUMBA_DISABLE_CUDA", "1")

import gradio as gr
import spaces

from pipeline import AvatarError, RenderRequest, RenderResult, errors, hardware, jobs, media, render_steps, resume_steps
from pipeline.avatar import costs, hub, leases, licence, speed
from pipeline.engine import Engine, Step
from pipeline.request import (
    MAX_PROMPT_LENGTH,
    MAX_SEED,
    MAX_STEPS,
    MAX_TEXT_LENGTH,
    REHEARSED_SIZE,
    REHEARSED_STEPS,
    read_points,
)
from pipeline.texts import LANGUAGES, TEXTS, number, say

EXAMPLES = Path(__file__).parent / "examples"
ALIVE_SECONDS = 0.5  # between two words to the page: a cancel takes effect within this
RENDERS_AT_ONCE = 2  # on two cores a third gains nothing; with one alone, a ten-minute clip would hold up everyone
QUEUE_LENGTH = 20  # waiting visitors; the next is told to come back
KEPT_SECONDS = 3 * 3600  # uploads and clips: a full queue of ten-minute recordings takes two hours
SWEEP_SECONDS = 600  # between two looks for files older than that
JOB_SECRET = "portrait-parlant"  # fixed, so that a browser still finds its job after a restart; its name is random
GIGABYTE = 10**9  # bytes
COUNTED_IN_MEBIBYTES = ("StageDownloading", "StageConverting")
BUSY_SECONDS = 30  # that a resumed render waits for its earlier self to stop: a step of a small clip
HERE = ("127.0.0.1", "::1")  # addresses of a browser on this computer
ZERO_GPU = "ZeroGPU"  # begins the titles of the service's refusals. Source: spaces, zero/client.py
AVATAR_SIZES = sorted(costs.SIZES)
AVATAR_SIZE, AVATAR_STEPS = RenderRequest.size, RenderRequest.num_inference_steps  # chosen when the page opens
if hardware.rehearses():
    AVATAR_SIZE, AVATAR_STEPS = REHEARSED_SIZE, REHEARSED_STEPS
TITLE = "Portrait Parlant"

log = logging.getLogger(__name__)
_loading = threading.Lock()


# --- words ------------------------------------------------------------------------------------------------------------


def language_of(request: gr.Request) -> str:
    """The caller's language, "en" or "fr": the first one the browser or program asks for."""
    wanted = request.headers.get("accept-language", "") if request else ""
    return "fr" if wanted.lower().startswith("fr") else "en"


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
    stage, left = say(step.stage, language), step.seconds_left
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
    if step.stage not in COUNTED_IN_MEBIBYTES:
        return say("PageStepCount", language, done=step.done, total=step.total)
    done, total = (count * media.MEBIBYTE / GIGABYTE for count in (step.done, step.total))
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
    return "\n\n".join([line, *(f"- {notice.text(language)}" for notice in result.notices)])


def labels() -> gr.I18n:
    """Every text of the page, for the browser to choose from by its own language."""
    words: dict[str, dict[str, str]] = {}
    for language in LANGUAGES:
        words[language] = {key: getattr(text, language) for key, text in TEXTS.items() if key.startswith("Page")}
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


def problems(portrait, speech, seed, face, points, request: gr.Request) -> list[str]:
    """What can be said against each of these inputs before a file is opened; "" where nothing can."""
    language = language_of(request)
    found = [
        "" if portrait else say("PagePictureMissing", language),
        "" if speech else say("PageVoiceMissing", language),
        "" if is_whole(seed, least=0) else say("PageSeedImpossible", language, largest=MAX_SEED),
        "" if is_whole(face, least=1) else say("PageFaceImpossible", language),
    ]
    try:
        if points:
            read_points(points)
        return [*found, ""]
    except AvatarError as error:
        return [*found, error.text(language)]


def read_steps(steps: float | None, language: str) -> int:
    """Steps as a slider or a program gives them.

    Raises:
        gr.Error: no whole number in range.
    """
    if steps is None or steps != int(steps) or not 1 <= steps <= MAX_STEPS:
        raise refusal(say("PageStepsImpossible", language, largest=MAX_STEPS), language)
    return int(steps)


def is_whole(written: str | None, *, least: int) -> bool:
    """Whether a field is empty or holds a whole number from `least` to the largest seed there is."""
    return not written or (bool(re.fullmatch(r"\d{1,10}", written)) and least <= int(written) <= MAX_SEED)


def validate(portrait, speech, seed, face, points, request: gr.Request) -> list[dict[str, Any]]:
    """Each problem, to be shown at its input."""
    found = problems(portrait, speech, seed, face, points, request)
    return [gr.validate(not problem, problem) for problem in found]


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
    from pipeline.avatar.engine import AvatarEngine, work_here

    load_libraries()
    lease = leased if hardware.on_zero_gpu() else work_here
    if hardware.rehearses():
        from pipeline.avatar.rehearsal import rehearsal  # imports torch

        with rehearsal(request, job, lease) as engine:
            yield engine
    else:
        licence.require(hub.published().beside)  # told before what this computer lacks
        yield AvatarEngine(request, job, lease)


def render(
    portrait: str | None,
    speech: str | None,
    engine: str = "draft",
    size: int = 512,
    seed: str = "",
    face: str = "",
    points: str = "",
    text: str = "",
    language: str = "en",
    prompt: str = "",
    avatar_size: int = 512,
    steps: int = RenderRequest.num_inference_steps,
    preset: str = RenderRequest.preset,
    request: gr.Request = None,  # type: ignore[assignment]
    progress: gr.Progress = gr.Progress(),  # noqa: B008  # Gradio reads the default to know that progress is wanted
) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Make a character speak: one picture and one voice recording become an mp4 with lip movement and sound.

    Use only a face and a voice you have the right to use; the clip is synthetic media.

    Args:
        portrait: A picture of one character, turned to the camera. JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF.
        speech: The voice: a sound file, or a video with sound, of up to ten minutes.
        engine: "draft" runs on any computer in about the length of the recording; "avatar" needs a GPU.
        size: Width and height of a draft in pixels: 512 or 768.
        seed: Whole number, as text, from 0 to 2147483647; the same one gives the same movements. Leave
            empty for a random one.
        face: Which face when the picture shows several, as text; 1 is the largest. Leave empty for the largest.
        points: For a drawing or an animal, where the face is, as five "x,y" in pixels of the picture separated by
            spaces: left eye, right eye, left mouth corner, right mouth corner, chin. Leave empty to detect the face.
        text: The words spoken, if known; the lips of a draft then follow them more exactly.
        language: Language of `text`: "en" or "fr".
        prompt: What is seen, in words, for the avatar.
        avatar_size: Shorter side of an avatar's clip in pixels: 256, 384, 512 or 704.
        steps: Steps of the avatar's denoiser, 1 to 100; published: 50.
        preset: Speed preset of the avatar; "published" is what the model's authors ship.

    Returns:
        The clip (mp4), a status line, the details (engine, size, length, time taken, seed), and the name under which
        an avatar's render is kept until it is delivered, for "resume".
    """
    tongue = language_of(request)

    def begin(output: Path) -> Generator[Step, None, RenderResult]:
        if problem := next(filter(None, problems(portrait, speech, seed, face, points, request)), None):
            raise refusal(problem, tongue)
        wanted = RenderRequest(
            portrait=Path(portrait or ""),
            speech=Path(speech or ""),
            output=output,
            engine=engine,
            size=(size if engine == "draft" else avatar_size) or RenderRequest.size,
            seed=int(seed) if seed else None,
            face=int(face) if face else None,
            points=read_points(points) if points else None,
            text=text or "",
            language=language,
            prompt=prompt or "",
            num_inference_steps=read_steps(steps, tongue),
            preset=preset or RenderRequest.preset,
        )
        hardware.engine_for(wanted)  # refused here when it cannot run
        if engine == "draft":
            return (yield from render_steps(wanted))
        jobs.sweep()
        yield Step("StageReading")  # before libraries are loaded, which takes some seconds
        with avatar_engine(wanted) as avatar:
            return (yield from render_steps(wanted, avatar))

    yield from watched(begin, tongue, progress)


def resume(
    job: str,
    request: gr.Request = None,  # type: ignore[assignment]
    progress: gr.Progress = gr.Progress(),  # noqa: B008  # as in `render`
) -> Iterator[tuple[Any, Any, Any, Any]]:
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
    begin: Callable[[Path], Generator[Step, None, RenderResult]], language: str, progress: gr.Progress, job: str = ""
) -> Iterator[tuple[Any, Any, Any, Any]]:
    """What the page shows of a render: the clip at last, a status line, details, and the job to be resumed if any.

    Args:
        begin: Starts the render; it is given where the mp4 goes.
        language: "en" or "fr".
        progress: Gradio's own, for programs that watch.
        job: Name of the job, where it is known already.
    """
    # The clip is made in a folder of its own, which goes once Gradio has its copy, and on a refusal or a cancel.
    folder = tempfile.TemporaryDirectory(prefix="portrait-parlant-", ignore_cleanup_errors=True)
    spoken, notices = -math.inf, ""
    try:
        with folder, in_words(language), closing(with_result(begin(Path(folder.name) / "portrait-parlant.mp4"))) as met:
            for step in met:
                if isinstance(step, RenderResult):
                    yield str(step.path), say("PageDone", language), details(step, language), ""
                    return
                if step.notice is not None:
                    notices += f"\n\n{step.notice.text(language)}"
                if step.job != job or time.monotonic() - spoken >= ALIVE_SECONDS:
                    spoken, job = time.monotonic(), step.job or job
                    progress((step.done, step.total or None), desc=say(step.stage, language))
                    yield None, told(step, language), bar(step, language) + notices, job
    except Paused as paused:
        yield None, "**" + say("PagePaused", language) + f"** {paused}", "", job
    except gr.Error as error:
        if isinstance(error.__cause__, errors.JobMissing | errors.JobChanged | errors.RunDamaged):
            job = ""  # there is nothing to resume
        yield None, f"**{error.title}.** {error.message}", "", job
        raise


def with_result(steps: Generator[Step, None, RenderResult]) -> Generator[Step | RenderResult, None, None]:
    """Every Step of a render and, last, its result."""
    yield (yield from steps)


def plan(
    portrait: str | None,
    speech: str | None,
    avatar_size: int = 512,
    steps: int = RenderRequest.num_inference_steps,
    preset: str = RenderRequest.preset,
    request: gr.Request = None,  # type: ignore[assignment]
) -> str:
    """Say what an avatar's clip would take on this computer before it is made: time, memory, download; and what fits.

    Args:
        portrait: As in "render".
        speech: As in "render".
        avatar_size: As in "render".
        steps: As in "render".
        preset: As in "render".

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
        seconds = media.load_speech(wanted.speech).seconds
        picture_size = media.load_portrait(wanted.portrait).shape[:2]
        load_libraries()
        from pipeline.avatar import engine as avatar

        machine = planned_machine()
        chosen = avatar.plan_avatar(wanted, seconds=seconds, picture_size=picture_size, machine=machine)
        others = avatar.alternatives(wanted, seconds=seconds, picture_size=picture_size, machine=machine)
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
    note = zero_gpu_note(wanted, chosen, language, seconds=seconds, picture_size=picture_size)
    return "\n\n".join([*told, note]).strip()


def planned_machine() -> hardware.Machine | None:
    """What a plan is made for; None for this computer as it is. A rehearsal needs none of what the real model takes."""
    if not hardware.rehearses():
        return None
    from pipeline.avatar.rehearsal import roomy_machine  # imports torch

    return roomy_machine()


def plan_shown(engine, portrait, speech, avatar_size, steps, preset, request: gr.Request) -> str:
    """The plan, where the page shows one: a draft needs none, and libraries that take seconds to load stay out."""
    return plan(portrait, speech, avatar_size, steps, preset, request) if engine == "avatar" else ""


def plan_table(plans: list[costs.AvatarPlan], best: costs.AvatarPlan | None, language: str) -> str:
    """Plans side by side, the one asked for first, a mark at the one that is recommended."""
    rows = [say("PagePlanColumns", language).split("|"), ["---"] * 4]
    for one in plans:
        cost = one.estimate
        memory = number((cost.peak_vram or cost.host_ram) / hardware.GIBIBYTE, language)
        kind = f"{one.num_inference_steps}, {one.preset}"
        mark = "→ " if one is best else ""
        rows.append([f"{mark}{one.width}×{one.height}", kind, costs.time_told(cost.seconds, language), memory])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def zero_gpu_note(wanted: RenderRequest, chosen: costs.AvatarPlan, language: str, **clip: Any) -> str:
    """What a plan takes of a visitor's daily share of ZeroGPU, and what each kind of account allows; "" elsewhere."""
    if not hardware.on_zero_gpu():
        return ""
    from pipeline.avatar.engine import every_plan

    told = [say("PageZeroGpu", language, **costs.time_in_words(leases.quota_seconds(chosen.estimate.seconds)))]
    plans = every_plan(wanted, **clip)
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


def say_waiting(request: gr.Request, *_: Any) -> tuple[Any, Any, Any]:
    """What stands in the status line until a place is free, a Cancel that can be pressed, and no Resume meanwhile."""
    return say("PageWaiting", language_of(request)), gr.Button(interactive=True), gr.Button(visible="hidden")


def show_example(row: dict[str, str], request: gr.Request) -> tuple[Any, ...]:
    """An example's inputs and its finished clip."""
    language = language_of(request)
    picture, voice, clip = (str(EXAMPLES / row[column]) for column in ("portrait", "voice", "clip"))
    return (
        picture,
        voice,
        "",
        "",
        row["points"],
        row["text"],
        row["language"],
        clip,
        say("PageExampleShown", language),
        "",
        gr.skip(),
    )


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
REMEMBER = "job => {if (!window.rendering) {window.rendering = true; window.earlier = job}}"
REMEMBER_NOTHING = "() => {if (!window.rendering) {window.rendering = true; window.earlier = ''}}"
SHOW_RESUME = f"""job => {{
  job = job || window.earlier || ''; window.rendering = false; window.earlier = '';
  if (!job) localStorage.removeItem('{JOB_KEY}');
  return [job, {{__type__: 'update', visible: job ? true : 'hidden'}}]
}}"""
UNUSABLE = "() => {window.cancelled = false; return {__type__: 'update', interactive: false}}"
IN_SIGHT = "() => document.getElementById('clip').scrollIntoView({block: 'nearest'})"  # on a phone it is far below
READ_ALOUD = """() => document.querySelector("#status [data-testid=markdown]").setAttribute("role", "status")"""
CSS = """
:is(#status, #clip, #details) [data-testid=status-tracker] {display: none}
#result {position: sticky; top: 1rem; align-self: flex-start}
#clip {aspect-ratio: 1}
#speech {min-height: 0}
body:not(.dark) #speech {--neutral-400: var(--neutral-600)}  /* the player's times and buttons, readable */
#speech .wrap {min-height: 9rem}
#engine .wrap {flex-direction: column}
#plan table {font-size: .875rem}
#plan :is(th, td) {padding: .25rem .5rem; overflow-wrap: normal; word-break: normal}
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
    gr.Markdown(f"# {TITLE}")
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
            speech = gr.Audio(
                label=word("PageVoiceLabel"),
                sources=["upload", "microphone"],
                type="filepath",
                buttons=[],
                elem_id="speech",
            )
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
                with gr.Row():
                    avatar_size = gr.Radio(
                        [(str(pixels), pixels) for pixels in AVATAR_SIZES],
                        value=AVATAR_SIZE,
                        label=word("PageAvatarSizeLabel"),
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
                size = gr.Radio([("512 × 512", 512), ("768 × 768", 768)], value=512, label=word("PageSizeLabel"))
                with gr.Row():
                    seed = gr.Textbox(
                        label=word("PageSeedLabel"),
                        placeholder=word("PageSeedHint"),
                        info=word("PageSeedInfo"),
                        value="",
                        max_lines=1,
                    )
                    face = gr.Textbox(
                        label=word("PageFaceLabel"),
                        placeholder=word("PageFaceHint"),
                        info=word("PageFaceInfo"),
                        value="",
                        max_lines=1,
                    )
                points = gr.Textbox(
                    value="",
                    label=word("PagePointsLabel"),
                    info=word("PagePointsInfo"),
                    elem_id="points",
                    placeholder="120,150 210,150 135,240 195,240 165,300",
                )
                text = gr.Textbox(
                    value="",
                    label=word("PageTextLabel"),
                    info=word("PageTextInfo"),
                    elem_id="text",
                    lines=2,
                    max_length=MAX_TEXT_LENGTH,
                )
                language = gr.Radio(
                    [("English", "en"), ("Français", "fr")],
                    value="en",
                    label=word("PageLanguageLabel"),
                    elem_id="language",
                )
            with gr.Row():
                make = gr.Button(word("PageMake"), variant="primary", elem_id="make", scale=3, min_width=160)
                cancel = gr.Button(word("PageCancel"), elem_id="cancel", scale=1, min_width=96, interactive=False)
            again = gr.Button(word("PageResume"), elem_id="resume", visible="hidden")
            gr.Markdown(word("PageSynthetic"))
            status = gr.Markdown(word("PageIdle"), elem_id="status")
        with gr.Column(min_width=320, elem_id="result"):
            clip = gr.Video(
                label=word("PageClipLabel"), interactive=False, autoplay=True, buttons=["download"], elem_id="clip"
            )
            about = gr.Markdown(elem_id="details")
    pending = gr.BrowserState("", storage_key=JOB_KEY, secret=JOB_SECRET)

    settings = [prompt, avatar_size, steps, preset]
    inputs = [portrait, speech, engine, size, seed, face, points, text, language, *settings]
    outputs = [clip, status, about, pending]
    checked = make.click(
        say_waiting,
        [portrait, speech, seed, face, points],
        [status, cancel, again],
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
        concurrency_limit=RENDERS_AT_ONCE,
    )
    waited = again.click(
        say_waiting, None, [status, cancel, again], show_progress="hidden", queue=False, api_visibility="private"
    )
    resumed = waited.success(
        resume,
        pending,
        outputs,
        show_progress="hidden",
        api_name="resume",
        concurrency_limit=RENDERS_AT_ONCE,
    )
    for job in (made, resumed):
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
        for end in (job.success, job.failure):
            end(None, pending, [pending, again], js=SHOW_RESUME, api_visibility="private")
    checked.success(None, pending, None, js=REMEMBER, api_visibility="private")
    waited.success(None, None, None, js=REMEMBER_NOTHING, api_visibility="private")
    cancel.click(None, None, [status, cancel], cancels=[made, resumed], js=CANCEL, api_visibility="private")
    engine.change(
        show_engine,
        [engine, portrait, speech],
        [avatar_options, licence_box, size, planned],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    accepted.input(accept_licence, accepted, licence_box, queue=False, show_progress="hidden", api_visibility="private")
    asked = [portrait, speech, avatar_size, steps, preset]
    gr.on(
        [component.change for component in (engine, portrait, speech, avatar_size, preset)] + [steps.release],
        plan_shown,
        [engine, *asked],
        planned,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
    gr.Button(visible=False).click(plan, asked, planned, api_name="plan")  # for programs: it plans avatars only
    for chip, row in zip(chips, rows, strict=True):
        shown = chip.click(
            show_example,
            [gr.State(row)],
            [portrait, speech, seed, face, points, text, language, *outputs],
            queue=False,
            api_visibility="private",
        )
        shown.success(None, js=IN_SIGHT, api_visibility="private")
    demo.load(
        find_pending, pending, [pending, status], queue=False, show_progress="hidden", api_visibility="private"
    ).then(None, pending, [pending, again], js=SHOW_RESUME, api_visibility="private")
    demo.load(language_of, None, language, queue=False, show_progress="hidden", api_visibility="private")

demo.queue(max_size=QUEUE_LENGTH, api_open=False)  # closed: no call goes round the queue

LAUNCH: dict[str, Any] = {
    "theme": THEME,
    "css": CSS,
    "i18n": word,
    "max_file_size": media.MAX_SOUND_MEBIBYTES * media.MEBIBYTE,
    "run_history": False,
    "enable_monitoring": False,
    "js": READ_ALOUD,
    "mcp_server": True,
    "footer_links": ["api", "gradio"],
}

if hardware.on_zero_gpu() and not hardware.rehearses() and licence.is_accepted():
    from pipeline.avatar import work

    work.pack(hub.published())  # before launch, which moves what stands on the card to where leases find it

if __name__ == "__main__":
    demo.launch(**LAUNCH)
