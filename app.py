"""The page, its HTTP endpoint and its MCP tool: components, wiring, wording of errors.

Draws nothing and reads no picture or sound: one render is pipeline.render_steps, started here and watched.
"""

import csv
import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: it reads this once

import gradio as gr
import spaces

from pipeline import AvatarError, RenderRequest, RenderResult, hardware, media, render_steps
from pipeline.engine import Step
from pipeline.request import MAX_SEED, MAX_TEXT_LENGTH, read_points
from pipeline.texts import LANGUAGES, TEXTS, say

EXAMPLES = Path(__file__).parent / "examples"
ALIVE_SECONDS = 0.5  # between two words to the page: a cancel takes effect within this
RENDERS_AT_ONCE = 2  # on two cores a third gains nothing; with one alone, a ten-minute clip would hold up everyone
QUEUE_LENGTH = 20  # waiting visitors; the next is told to come back
KEPT_SECONDS = 3 * 3600  # uploads and clips: a full queue of ten-minute recordings takes two hours
SWEEP_SECONDS = 600  # between two looks for files older than that
GPU_SECONDS = 60  # one ZeroGPU lease
TITLE = "Portrait Parlant"

log = logging.getLogger(__name__)


# --- words ------------------------------------------------------------------------------------------------------------


def language_of(request: gr.Request) -> str:
    """The caller's language, "en" or "fr": the first one the browser or program asks for."""
    wanted = request.headers.get("accept-language", "") if request else ""
    return "fr" if wanted.lower().startswith("fr") else "en"


@contextmanager
def in_words(language: str) -> Iterator[None]:
    """Turn what goes wrong into a sentence in `language`; what is not the visitor's to mend goes to the log."""
    try:
        yield
    except AvatarError as error:
        raise refusal(error.text(language), language) from error
    except gr.Error:
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
        left = math.ceil(left) if left < 10 else 5 * math.ceil(left / 5)  # calm enough to be read, and read aloud
        return say("PageStepSeconds", language, stage=stage, left=left)
    return say("PageStepMinutes", language, stage=stage, left=math.ceil(left / 60))


def bar(step: Step, language: str) -> str:
    """How far the stage has come, drawn."""
    counted = f' max="{step.total}" value="{step.done}"' if step.total else ""
    return f'<progress aria-label="{say("PageProgress", language)}"{counted}></progress>'


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
        for number, row in enumerate(example_rows()):
            words[language][f"Example{number}"] = row[f"title_{language}"]
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


def is_whole(written: str | None, *, least: int) -> bool:
    """Whether a field is empty or holds a whole number from `least` to the largest seed there is."""
    return not written or (bool(re.fullmatch(r"\d{1,10}", written)) and least <= int(written) <= MAX_SEED)


def validate(portrait, speech, seed, face, points, request: gr.Request) -> list[dict[str, Any]]:
    """Each problem, to be shown at its input."""
    found = problems(portrait, speech, seed, face, points, request)
    return [gr.validate(not problem, problem) for problem in found]


def watched(request: RenderRequest, language: str) -> Generator[Step | RenderResult, None, None]:
    """Every Step of a render and, last, its result."""
    with in_words(language):
        yield (yield from render_steps(request))


@spaces.GPU(duration=GPU_SECONDS)
def watched_on_gpu(request: RenderRequest, language: str) -> Generator[Step | RenderResult, None, None]:
    """`watched` inside a lease of a ZeroGPU card: what goes in and comes out is pickled. Elsewhere the same."""
    yield from watched(request, language)


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
    request: gr.Request = None,  # type: ignore[assignment]
    progress: gr.Progress = gr.Progress(),  # noqa: B008  # Gradio reads the default to know that progress is wanted
) -> Iterator[tuple[Any, Any, Any]]:
    """Make a character speak: one picture and one voice recording become an mp4 with lip movement and sound.

    Use only a face and a voice you have the right to use; the clip is synthetic media.

    Args:
        portrait: A picture of one character, turned to the camera. JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF.
        speech: The voice: a sound file, or a video with sound, of up to ten minutes.
        engine: "draft" runs on any computer in about the length of the recording; "avatar" needs a GPU.
        size: Width and height of the clip in pixels: 512 or 768.
        seed: Whole number, as text, from 0 to 2147483647; the same one gives the same movements. Leave
            empty for a random one.
        face: Which face when the picture shows several, as text; 1 is the largest. Leave empty for the largest.
        points: For a drawing or an animal, where the face is, as five "x,y" in pixels of the picture separated by
            spaces: left eye, right eye, left mouth corner, right mouth corner, chin. Leave empty to detect the face.
        text: The words spoken, if known; the lips then follow them more exactly.
        language: Language of `text`: "en" or "fr".

    Returns:
        The clip (mp4), a status line, and the details: engine, size, length, time taken, seed.
    """
    tongue = language_of(request)
    # The clip is made in a folder of its own, which goes once Gradio has its copy, and on a refusal or a cancel.
    folder = tempfile.TemporaryDirectory(prefix="portrait-parlant-", ignore_cleanup_errors=True)
    try:
        with folder, in_words(tongue):
            if problem := next(filter(None, problems(portrait, speech, seed, face, points, request)), None):
                raise refusal(problem, tongue)
            hardware.engine_for(engine)  # refused here: no lease is taken for an engine that cannot run
            wanted = RenderRequest(
                portrait=Path(portrait or ""),
                speech=Path(speech or ""),
                output=Path(folder.name) / "portrait-parlant.mp4",
                engine=engine,
                size=size,
                seed=int(seed) if seed else None,
                face=int(face) if face else None,
                points=read_points(points) if points else None,
                text=text or "",
                language=language,
            )
            spoken = -math.inf
            with closing((watched if engine == "draft" else watched_on_gpu)(wanted, tongue)) as steps:
                for step in steps:
                    if isinstance(step, RenderResult):
                        yield str(step.path), say("PageDone", tongue), details(step, tongue)
                    elif time.monotonic() - spoken >= ALIVE_SECONDS:
                        spoken = time.monotonic()
                        progress((step.done, step.total or None), desc=say(step.stage, tongue))
                        yield None, told(step, tongue), bar(step, tongue)
    except gr.Error as error:
        yield None, f"**{error.title}.** {error.message}", ""
        raise


def say_waiting(request: gr.Request, *_: Any) -> tuple[Any, Any]:
    """What stands in the status line until a place is free, and a Cancel that can be pressed."""
    return say("PageWaiting", language_of(request)), gr.Button(interactive=True)


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
    )


def say_ended(shown: str, request: gr.Request) -> tuple[Any, Any, Any]:
    """What stands in the status line after a Cancel ("" came in), a refusal or a full queue; no bar, no Cancel."""
    language = language_of(request)
    if not shown:
        shown = say("PageCancelled", language)
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
CANCEL = "() => {window.cancelled = true}"
CANCELLED = "shown => {const pressed = window.cancelled; window.cancelled = false; return [pressed ? '' : shown]}"
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
#engine label:has(input[value=avatar]) {color: var(--body-text-color-subdued)}
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
            gr.Markdown(word("PageSynthetic"))
            status = gr.Markdown(word("PageIdle"), elem_id="status")
        with gr.Column(min_width=320, elem_id="result"):
            clip = gr.Video(
                label=word("PageClipLabel"), interactive=False, autoplay=True, buttons=["download"], elem_id="clip"
            )
            about = gr.Markdown(elem_id="details")

    inputs = [portrait, speech, engine, size, seed, face, points, text, language]
    outputs = [clip, status, about]
    checked = make.click(
        say_waiting,
        [portrait, speech, seed, face, points],
        [status, cancel],
        validator=validate,
        show_progress="hidden",
        concurrency_limit=None,
        api_visibility="private",
    )
    job = checked.success(
        render,
        inputs,
        outputs,
        show_progress="hidden",
        api_name="render",
        concurrency_limit=RENDERS_AT_ONCE,
    )
    job.success(None, None, cancel, js=UNUSABLE, api_visibility="private")
    job.failure(
        say_ended,
        status,
        [status, about, cancel],
        js=CANCELLED,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    job.success(None, js=IN_SIGHT, api_visibility="private")
    cancel.click(None, cancels=job, js=CANCEL, api_visibility="private")
    for chip, row in zip(chips, rows, strict=True):
        shown = chip.click(
            show_example,
            [gr.State(row)],
            [portrait, speech, seed, face, points, text, language, *outputs],
            queue=False,
            api_visibility="private",
        )
        shown.success(None, js=IN_SIGHT, api_visibility="private")
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

if __name__ == "__main__":
    demo.launch(**LAUNCH)
