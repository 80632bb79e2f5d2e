"""The story of one clip, top to bottom. No arithmetic of pictures, no file formats of its own."""

import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

from pipeline import captions, hardware, jobs, media
from pipeline.cast import cast
from pipeline.engine import Engine, Scene, Step
from pipeline.files import work_folder
from pipeline.generators import to_end
from pipeline.request import RenderRequest, RenderResult
from pipeline.trust.credentials import Signed, sign
from pipeline.trust.finish import Finish, made_of
from pipeline.trust.label import check_unlabelled

OnStep = Callable[[Step], None]


def ignore_steps(step: Step) -> None:
    """What a caller passes who does not watch."""


def render(request: RenderRequest, on_step: OnStep = ignore_steps) -> RenderResult:
    """Make one talking-portrait clip and say where it is.

    Args:
        request: What to make.
        on_step: Called with every Step; an exception it raises cancels the render.

    Raises:
        AvatarError: what a visitor can mend, in their words. Nothing half-written is left.
    """
    return to_end(render_steps(request), on_step)


def resume(job: str, on_step: OnStep = ignore_steps) -> RenderResult:
    """Go on with a render that was stopped or broke off: one that a job folder keeps.

    Args:
        job: Its id, as its Steps gave it; `jobs.unfinished` lists them.
        on_step: As in `render`.

    Raises:
        AvatarError: as `render`; and the job is gone, damaged, at work elsewhere, or was begun by another version.
    """
    return to_end(resume_steps(jobs.find(job)), on_step)


def render_steps(request: RenderRequest, engine: Engine | None = None) -> Generator[Step, None, RenderResult]:
    """Make one clip as a generator of Steps that returns the result; closing it cancels the render.

    Args:
        request: What to make.
        engine: Who draws; None for the one that the request names.
    """
    started = time.perf_counter()
    check_unlabelled(request.unlabelled, request.engine, is_public=hardware.is_public())
    engine, seed = engine or hardware.engine_for(request), request.seed
    assert seed is not None, "a request draws its seed when it is made"
    path = request.output or Path(tempfile.mkdtemp(prefix="portrait-parlant-")) / "clip.mp4"
    yield Step("StageReading")
    portrait = media.load_portrait(request.portrait)
    with work_folder() as folder:
        heard = yield from cast(request, portrait, folder)
        scene = Scene(portrait, heard.speech, heard.speakers, request.direction, request.framing)
        plan = engine.plan(scene, size=request.size)
        lines = heard.lines if request.captions != "none" else ()
        signed: list[Signed] = []

        def seal(clip: Path) -> None:
            hardware.give_memory_back()  # what drawing took: the signer takes some for each byte of the clip
            signed.append(sign(clip, made_of(request, engine.name, take), request.portrait))

        # entered first: a closed folder is told before the work
        with media.VideoWriter(
            path,
            heard.speech,
            plan,
            chapters=captions.chapters(heard.lines, plan.seconds),
            captions=captions.one_at_a_time(captions.cut(lines)),
            language=heard.speakers[0].language,
            seal=seal,
        ) as writer:
            take = yield from engine.perform(scene, plan, seed=seed)
            finish = Finish(request, plan, [speaker.face for speaker in heard.speakers], lines)
            notices = heard.notices + take.notices + finish.notices
            del portrait, heard, scene  # large, and not needed to draw
            drawing = time.perf_counter()
            for done, frame in enumerate(take.frames, start=1):
                writer.add(finish.draw(frame, done - 1))
                pace = (time.perf_counter() - drawing) / done
                yield Step("StageDrawing", done, plan.num_frames, pace * (plan.num_frames - done))
    written = captions.write(lines, path) if lines else ()
    take.delivered()
    return RenderResult(
        path=path,
        engine=engine.name,
        seed=seed,
        seconds=time.perf_counter() - started,
        clip_seconds=plan.seconds,
        num_frames=plan.num_frames,
        height=plan.height,
        width=plan.width,
        captions=written,
        model=take.model,
        signed=signed[0],
        notices=notices,
    )


def resume_steps(
    job: jobs.Job, engine: Engine | None = None, output: Path | None = None
) -> Generator[Step, None, RenderResult]:
    """As `render_steps`, of a render that was begun; see `resume`.

    Args:
        job: From `jobs.find`.
        engine: Who draws, knowing the job; None for the one that its request names.
        output: Where the mp4 goes; None for where it was to go.
    """
    request = replace(job.request, output=output or job.request.output)
    return (yield from render_steps(request, engine or hardware.engine_for(request, job)))
