"""`python -m pipeline verify`: what Content Credentials and our durable mark tell of a file. Finds nothing itself."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import hardware
from pipeline.cli import DONE, NOTHING_FOUND, REFUSED
from pipeline.cli.render import Progress
from pipeline.engine import Step
from pipeline.errors import AvatarError, ClipError
from pipeline.texts import Notice, say

if TYPE_CHECKING:
    from pipeline.trust.credentials import Credentials

MAX_FRAMES = 256  # looked at for the mark, ten seconds: as many as `mark.find` sums up
CODES = {"trusted": DONE, "valid": DONE, "tampered": REFUSED, "none": NOTHING_FOUND}


def add(commands: Any, language: str) -> None:
    """Explain the command, in `language`, to the parser's list of commands."""
    explained = say("CliVerify", language)
    command = commands.add_parser(
        "verify", help=explained, description=explained, epilog=say("CliVerifyCodes", language), language=language
    )
    command.add_argument("file", metavar="FILE", type=Path, help=say("CliVerifyFile", language))
    command.add_argument("--trust", metavar="FILE.pem", type=Path, help=say("CliVerifyTrust", language))
    command.add_argument("--json", action="store_true", help=say("CliVerifyJson", language))


def run(options: argparse.Namespace, language: str) -> int:
    """Read credentials and mark, and say what they tell; the exit code is the verdict on the credentials."""
    progress = Progress(language)
    try:
        credentials = read_credentials(options.file, options.trust, language)
        found, num_frames = find_mark(options.file, progress)
    except AvatarError as error:
        progress.close()
        print(error.text(language), file=sys.stderr)
        return REFUSED
    finally:
        progress.close()
    if options.json:
        mark = (
            None if found is None else {name: getattr(found, name) for name in ("payload", "confidence", "threshold")}
        )
        written = {
            "file": options.file.name,
            "credentials": None if credentials is None else credentials.as_json(),
            "mark": mark,
            "mark_frames": num_frames,
        }
        print(json.dumps(written, ensure_ascii=False, indent=2))
    else:
        for notice in () if credentials is None else credentials.notices():
            print(notice.text(language))
        print(told(found, num_frames).text(language))
    return REFUSED if credentials is None else CODES[credentials.state]


def read_credentials(path: Path, trust: Path | None, language: str) -> "Credentials | None":
    """The file's credentials; None, told on stderr, where what reads them is not installed.

    Raises:
        AvatarError: they cannot be read.
    """
    from pipeline.trust import certificates
    from pipeline.trust.credentials import read

    try:
        return read(path, None if trust is None else certificates.anchors(str(trust)))
    except ImportError as error:
        reason = say("SigningMissing", language, package=error.name or "c2pa-python")
    except RuntimeError as error:  # the package is here, its library does not load
        reason = str(error)
    print(say("CliVerifyMissing", language, reason=reason), file=sys.stderr)
    return None


def find_mark(path: Path, progress: Progress) -> tuple[Any, int]:
    """The durable mark in the first frames of a video.

    Returns:
        A `mark.Found`, or None where there is none; and how many frames were looked at, 0 for what is no video.
    """
    from pipeline.report.clip import Clip
    from pipeline.trust import mark

    num_frames = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal num_frames
        total = min(MAX_FRAMES, max(1, round(clip.seconds * clip.fps)))
        for picture in clip.pictures():
            num_frames += 1
            progress(Step("StageVerifying", min(num_frames, total), total))
            yield picture.frame.to_ndarray(format="rgb24")
            if num_frames == MAX_FRAMES:
                return

    with contextlib.suppress(ClipError):
        clip = Clip(path)
        return mark.find(frames(), hardware.mark_key()), num_frames
    return None, num_frames


def told(found: Any, num_frames: int) -> Notice:
    """What is to be said of the durable mark."""
    if found is not None:
        score = {"confidence": float(found.confidence), "threshold": float(found.threshold)}
        return Notice("MarkFound", {"payload": found.payload, **score})
    return Notice("MarkNotFound", {"count": num_frames}) if num_frames else Notice("MarkNotLooked")
