"""What this machine offers: engines, codecs, models, memory. The one reader of environment variables.

Importing it loads nothing; the engines are imported when they are asked for.
"""

import importlib.util
import os
from dataclasses import dataclass

from pipeline.engine import Engine
from pipeline.errors import EngineUnavailable
from pipeline.request import ENGINES
from pipeline.texts import DEFAULT_LANGUAGE, LANGUAGES, Notice

DRAFT_PACKAGES = ("ai_edge_litert", "cv2", "scipy")  # without these the draft engine cannot draw


@dataclass(frozen=True)
class EngineStatus:
    """Whether one engine can run here.

    Args:
        name: As in `RenderRequest.engine`.
        available: It can.
        reason: Why not, when it cannot.
    """

    name: str
    available: bool
    reason: Notice | None = None


def engines() -> list[EngineStatus]:
    """Every engine there is and whether it can run here. Loads none."""
    statuses = []
    for name in ENGINES:
        reason = None
        if name == "avatar":
            reason = Notice("AvatarNotYet")
        elif missing := [package for package in DRAFT_PACKAGES if importlib.util.find_spec(package) is None]:
            reason = Notice("PackagesMissing", {"packages": ", ".join(missing)})
        statuses.append(EngineStatus(name, reason is None, reason))
    return statuses


def engine_for(name: str) -> Engine:
    """The engine called `name`, ready to perform.

    Raises:
        EngineUnavailable: it cannot run on this machine.
    """
    status = next(status for status in engines() if status.name == name)
    if status.reason is not None:
        reasons = {f"reason_{language}": status.reason.text(language) for language in LANGUAGES}
        raise EngineUnavailable(engine=name, **reasons)
    from pipeline.draft.engine import DraftEngine  # imported here: it brings the models' libraries with it

    return DraftEngine()


def preferred_language() -> str:
    """The user's language, "en" or "fr", by LC_ALL, LC_MESSAGES and LANG, the first that is set deciding."""
    written = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := os.environ.get(name))), "")
    language = written[:2].lower()
    return language if language in LANGUAGES else DEFAULT_LANGUAGE
