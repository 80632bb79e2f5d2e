"""What a clip is finished with: captions, label and mark in its frames, and what its credentials say of it.

Each is done by a module of its own; here stands which of them, and in what order.
"""

from collections.abc import Sequence

import numpy as np

from pipeline import captions, hardware, jobs
from pipeline.engine import Take
from pipeline.face import Face
from pipeline.plan import ClipPlan
from pipeline.request import RenderRequest
from pipeline.trust.credentials import Made
from pipeline.trust.label import Label, why_unlabelled
from pipeline.trust.mark import PAYLOADS, Mark
from pipeline.voice.spoken import Line


class Finish:
    """What is drawn into an engine's frames: captions, the visible label, the durable mark; the mark last.

    Args:
        request: Says which of them.
        plan: Of the clip.
        faces: That speak, in pixels of the picture: neither captions nor label cover a mouth.
        lines: What is said when.

    Attributes:
        notices: What could not be drawn.
    """

    def __init__(self, request: RenderRequest, plan: ClipPlan, faces: Sequence[Face], lines: Sequence[Line]) -> None:
        clear = captions.keep_clear(faces, plan)
        mouths, whole = clear[: len(faces)], clear[len(faces) :]
        self._burner = captions.Burner(lines if request.captions == "burned" else (), plan, clear)
        self.notices = self._burner.notices
        self._label = self._mark = None
        if request.unlabelled is None:
            written = captions.where_players_draw(plan) if lines and request.captions == "file" else self._burner.area
            self._label = Label(plan, whole, [*mouths, *([written] if written else [])])
        else:
            self.notices += (why_unlabelled(request.unlabelled),)
        if request.mark:
            self._mark = Mark(plan.height, plan.width, payload_of(request), hardware.mark_key())

    def draw(self, frame: np.ndarray, number: int) -> np.ndarray:
        """The frame as it is shown.

        Args:
            frame: (plan.height, plan.width, 3) uint8, RGB, C-contiguous; drawn into.
            number: Of the frame in the clip, from 0 on.
        """
        frame = self._burner.draw(frame, number)
        if self._label is not None:
            frame = self._label.draw(frame)
        return frame if self._mark is None else self._mark.embed(frame)


def payload_of(request: RenderRequest) -> int:
    """What the durable mark says: the last 16 bits of the seed, so that the same request gives the same clip."""
    assert request.seed is not None, "a request draws its seed when it is made"
    return request.seed % PAYLOADS


def made_of(request: RenderRequest, engine: str, take: Take) -> Made:
    """What the Content Credentials say of a clip: settings, and nothing about who is in it or what is said."""
    names = ["size", "framing", "seed", "motion", "expression", "mood", "captions"]
    if engine != RenderRequest.engine:
        names += ["num_inference_steps", "preset"]
    settings = {name: getattr(request, name) for name in names}
    if request.mark:
        settings["mark"] = payload_of(request)
    return Made(engine, take.model, jobs.VERSION, settings, request.unlabelled or "")
