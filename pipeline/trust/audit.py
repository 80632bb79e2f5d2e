"""The audit log: one line of JSON about each attempt at a clip, where PORTRAIT_AUDIT switches it on. Judges nothing.

A line holds times, hashes, versions and outcomes; no picture, sound, word, file name or address. Whoever has a file can
tell by its hash that it was used.
"""

import contextlib
import datetime
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline import hardware, jobs
from pipeline.errors import AvatarError
from pipeline.files import written_whole
from pipeline.request import RenderRequest

KEEP_DAYS = 90  # unless PORTRAIT_AUDIT_DAYS says otherwise; long enough for a complaint to arrive
LOCK_SECONDS = 10.0  # that a line waits for others: a hundred thousand lines are pruned in a second
TIME = "%Y-%m-%dT%H:%M:%SZ"  # UTC; sorts as text
SHOWN = "shown"
LABELS = (SHOWN, "private", "artistic", "disclosed")  # or why there is none, as in `RenderRequest.unlabelled`
CREDENTIALS = ("certificate", "local", "none")  # signed by the operator's certificate, by our own, or not at all

logger = logging.getLogger(__name__)


@dataclass
class Attempt:
    """What is known of one attempt; filled in while it goes on.

    Args:
        consent: The id of the text that was agreed to; None where nobody has agreed.
        job: Names the attempt; an avatar's job has its own id.
        model: Name and revision of the model; "" for the draft.
        label: One of LABELS; None while nothing is made.
        mark: Whether the durable mark is in the frames; None while nothing is made.
        credentials: One of CREDENTIALS; None while nothing is made.
        gate: Scores of the picture gate, 0 to 1, by what was judged ("picture", "face"); empty where it is off.
        output: The finished clip.
    """

    consent: str | None = None
    job: str = field(default_factory=lambda: uuid.uuid4().hex)
    model: str = ""
    label: str | None = None
    mark: bool | None = None
    credentials: str | None = None
    gate: dict[str, float] = field(default_factory=dict)
    output: Path | None = None


@contextlib.contextmanager
def attempt(request: RenderRequest, *, consent: str | None = None) -> Iterator[Attempt]:
    """Watch one attempt at a clip, and note it when the block ends, however it ends; nothing where the log is off.

        with audit.attempt(request, consent=consent.TEXT_ID) as entry:
            ...
            entry.output, entry.label = result.path, "shown"

    The outcome is "made" where there is an output; else "refused" (an AvatarError), "cancelled" or "failed".

    Args:
        request: What is asked for. Its files are read here, before uploads can be cleared.
        consent: As in Attempt.

    Raises:
        ValueError: label or credentials is none of those there are.
    """
    entry = Attempt(consent)
    if hardware.audit_path() is None:
        yield entry
        return
    asked = {
        "engine": request.engine,
        "portrait": _hash_of(request.portrait),
        "sounds": [_hash_of(path) for path in (request.speech, request.second_speech) if path is not None],
        "script": hashlib.sha256(request.script.encode("utf-8", "replace")).hexdigest() if request.script else None,
    }
    outcome, error = "failed", None
    try:
        yield entry
        if entry.output is not None:
            outcome = "made"
    except BaseException as raised:
        error = type(raised).__name__  # its text may hold a file's name
        if isinstance(raised, AvatarError):
            outcome = "refused"
        elif isinstance(raised, GeneratorExit | KeyboardInterrupt):
            outcome, error = "cancelled", None
        raise
    finally:
        record(asked | {"outcome": outcome, "error": error} | _told(entry))


def _told(entry: Attempt) -> dict[str, Any]:
    """What an attempt found, as it is written.

    Raises:
        ValueError: as `attempt`.
    """
    if entry.label not in (None, *LABELS) or entry.credentials not in (None, *CREDENTIALS):
        raise ValueError(f"label must be one of {LABELS}, credentials one of {CREDENTIALS}; got {entry}")
    return {
        "job": entry.job,
        "consent": entry.consent,
        "model": entry.model,
        "label": entry.label,
        "mark": entry.mark,
        "credentials": entry.credentials,
        "gate": {name: round(float(score), 3) for name, score in entry.gate.items()},
        "output": None if entry.output is None else _hash_of(entry.output),
    }


def record(entry: dict[str, Any]) -> None:
    """Append one line, with the time and our version, and drop lines that are too old. Where the log is off: nothing.

    Safe between threads and processes. Where the file cannot be written, the program's log says so and the render goes
    on; a line is in the file whole or not at all.

    Args:
        entry: JSON's types.
    """
    path = hardware.audit_path()
    if path is None:
        return
    now = datetime.datetime.now(datetime.UTC)
    line = json.dumps({"time": now.strftime(TIME), "app": jobs.VERSION} | entry) + "\n"
    with _told_in_the_log(path), _locked(path):
        _prune(path, now)
        _append(path, line.encode())


def prune() -> None:
    """Drop the lines that are too old; `record` does too, but a page that nobody visits writes none."""
    path = hardware.audit_path()
    if path is not None and path.is_file():
        with _told_in_the_log(path), _locked(path):
            _prune(path, datetime.datetime.now(datetime.UTC))


def keep_days() -> int:
    """For how many days lines are kept."""
    return hardware.audit_days() or KEEP_DAYS


@contextlib.contextmanager
def _told_in_the_log(path: Path) -> Iterator[None]:
    """A log that cannot be kept breaks no render."""
    try:
        yield
    except (OSError, RuntimeError, AvatarError, Timeout) as error:  # RuntimeError: nobody's home
        logger.warning("The audit log %s cannot be written; nothing is noted of this clip: %s", path, error)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock"), timeout=LOCK_SECONDS, thread_local=False, mode=0o600):
        yield


def _append(path: Path, line: bytes) -> None:
    """Put a line behind the others, also behind one that a power cut has torn; or leave the file as it is.

    Raises:
        OSError: it cannot be written.
    """
    path.touch(mode=0o600)
    with path.open("a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - 1, 0))
        if file.read(1) not in (b"", b"\n"):
            line = b"\n" + line
        try:
            if file.write(line) != len(line):
                raise OSError("the disk is full")
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def _prune(path: Path, now: datetime.datetime) -> None:
    """Write the file again without lines that are too old or torn, if its first line is one of those.

    Raises:
        OSError, DiskFull: it cannot be written; it is as it was.
    """
    oldest = (now - datetime.timedelta(days=keep_days())).strftime(TIME)
    if not path.is_file():
        return
    with path.open("rb") as lines:
        if _is_kept(next(iter(lines), b'{"time": "9"}\n'), oldest):
            return
        lines.seek(0)
        with written_whole(path) as part:
            with part.open("wb") as kept:
                kept.writelines(line for line in lines if _is_kept(line, oldest))
            part.chmod(0o600)


def _is_kept(line: bytes, oldest: str) -> bool:
    """Whether a line is whole and not older than `oldest`, as TIME writes it."""
    try:
        return line.endswith(b"\n") and str(json.loads(line)["time"]) >= oldest
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _hash_of(path: Path) -> str | None:
    """SHA-256 of a file; None where it is none or cannot be read."""
    try:
        if not path.is_file():  # a pipe would never end
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return None
