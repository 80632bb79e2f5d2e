"""Renders that survive: a folder for each, with its inputs, what it is made with, how far it came and what is finished.

Knows files and locks; what a checkpoint holds and who draws the frames is left to others. Imports no torch.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from pipeline import hardware
from pipeline.errors import AvatarError, DeviceBusy, FileMissing, JobBusy, JobChanged, JobDamaged, JobMissing
from pipeline.files import PART, require_space, sync_folder, write_json, written_whole
from pipeline.request import RenderRequest

FORMAT = 1  # of a job folder; another one is refused
VERSION = "0.1.0"  # of this program; a job goes on under the one that began it
LIBRARIES = ("torch", "diffusers", "transformers", "numpy")  # whose versions may change a result
KEEP_SECONDS = 24 * 3600  # after its last step a job that nobody resumes is deleted
ID = re.compile(r"[0-9a-f]{32}")  # uuid4().hex
TILE = re.compile(r"(\d{6})-(\d{6})-([0-9a-f]{64})\.npy")  # first frame, frame after the last, SHA-256
INPUTS = ("portrait", "speech", "second_speech")  # fields of a request that name a file to be copied, where given
JOB, STATE, FRAMES, RUN = "job.json", "state.json", "frames", "run"  # what a job folder holds beside its inputs


class Lock:
    """One process at a time; the lock of a process that was killed is free at once.

    A context manager, or `take` asked again and again:

        while not lock.take():
            yield Step("StageWaiting")

    It may be taken in one thread and released in another, and is not inherited by a forked process. Not for network
    drives, some of which know no locks.

    Args:
        path: The file that is locked.
        busy: Raised on entering when another has it.
        job: Folder of the job it belongs to: what a killed process left half written there is then deleted.
    """

    def __init__(self, path: Path, busy: AvatarError, job: Path | None = None) -> None:
        self._lock = FileLock(path, thread_local=False)
        self._busy = busy
        self._job = job

    def take(self) -> bool:
        """Take it if it is free, without waiting; whether this object holds it now.

        Raises:
            JobMissing: the job was deleted meanwhile.
        """
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        if self._job is not None:
            if not self._job.is_dir():
                self.release()
                raise _missing(self._job.name)
            for part in self._job.rglob(f"*{PART}"):
                part.unlink(missing_ok=True)
        return True

    def release(self) -> None:
        """Let others have it."""
        self._lock.release(force=True)

    def __enter__(self) -> "Lock":
        if not self.take():
            raise self._busy
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lock_device(name: str) -> Lock:
    """The lock of a device, the same for all processes of this user; entering it raises DeviceBusy when it is taken.

    Args:
        name: What tells the device from every other on this machine; best a card's UUID, as numbers change with
            CUDA_VISIBLE_DEVICES.
    """
    folder = _private_folder(hardware.locks_folder())
    return Lock(folder / f"{re.sub('[^0-9A-Za-z]+', '-', name)}.lock", DeviceBusy(device=name))


class Job:
    """One render on disk.

    Args:
        folder: Its folder, named by its id.
        request: What is asked for; its files are the job's copies.
        facts: What it is made with, as given to `create`: JSON's types.
        versions: Of the program and its libraries, when it was begun.
    """

    def __init__(self, folder: Path, request: RenderRequest, facts: dict[str, Any], versions: dict[str, str]) -> None:
        self.folder = folder
        self.request = request
        self.facts = facts
        self.versions = versions

    @classmethod
    def create(
        cls,
        request: RenderRequest,
        *,
        root: Path | None = None,
        facts: Mapping[str, Any] | None = None,
        needed: int = 0,
    ) -> "Job":
        """Make the folder of a new job; it appears under its name when it is whole.

        Args:
            request: Its files are copied: the folder they lie in may be cleared while the job runs.
            root: Where job folders lie; None for `hardware.jobs_folder()`.
            facts: All that decides the result beside the request: engine, plan, model revision. A job goes on only
                where they are the same, see `check`.
            needed: Bytes that the job will need on the disk at most.

        Raises:
            FileMissing: an input is not there.
            SpaceMissing: less than `needed` is free; nothing was written.
            DiskFull: the disk filled up while the inputs were copied; nothing is left.
        """
        root = _root(root)
        require_space(root, needed)
        job_id = uuid.uuid4().hex
        folder = root / f".new-{job_id}"
        folder.mkdir(mode=0o700)
        try:
            files = {
                name: _copy_input(given, folder / name)
                for name in INPUTS
                if (given := getattr(request, name)) is not None
            }
            plain = {
                "format": FORMAT,
                "request": {part.name: _plain(getattr(request, part.name)) for part in fields(request)},
                "files": files,
                "facts": _plain(dict(facts or {})),
                "versions": versions(),
            }
            write_json(folder / STATE, {})
            write_json(folder / JOB, plain)
            folder.rename(root / job_id)
            sync_folder(root)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls.open(root / job_id)

    @classmethod
    def open(cls, folder: Path) -> "Job":
        """The job in a folder; every input is read and compared. For an id that a visitor gave, see `find`.

        Raises:
            JobMissing: no job lies there.
            JobDamaged: it cannot be read, or an input is not as it was copied.
        """
        folder = Path(folder)
        if not ID.fullmatch(folder.name) or not (folder / JOB).is_file():
            raise _missing(folder.name)
        plain = _read_json(folder, JOB)
        try:
            if plain["format"] != FORMAT:
                raise JobChanged(name=folder.name, fact="format", recorded=plain["format"], found=FORMAT)
            for name in [name for name in INPUTS if plain["request"].get(name) is not None]:
                file = folder / name / Path(plain["files"][name]["name"]).name
                if not file.is_file() or _sha256(file) != plain["files"][name]["sha256"]:
                    raise JobDamaged(name=folder.name, file=file.name)
                plain["request"][name] = file
            request = RenderRequest(**plain["request"])
            return cls(folder, request, dict(plain["facts"]), dict(plain["versions"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JobDamaged(name=folder.name, file=JOB) from error

    @property
    def id(self) -> str:
        """32 hexadecimal digits."""
        return self.folder.name

    @property
    def touched(self) -> float:
        """When something in its folder was last written, seconds since the epoch."""
        return _touched(self.folder)

    @property
    def run_folder(self) -> Path:
        """Where the denoising run's checkpoints go."""
        return self.folder / RUN

    def check(self, facts: Mapping[str, Any]) -> None:
        """Whether the job may go on here: same program, same libraries, same facts.

        Args:
            facts: As they are now; as many as were given to `create`.

        Raises:
            JobChanged: the first one that differs, with both values.
        """
        recorded, found = {**self.versions, **self.facts}, {**versions(), **_plain(dict(facts))}
        for name in sorted({*recorded, *found}):
            if recorded.get(name) != found.get(name):
                raise JobChanged(name=self.id, fact=name, recorded=recorded.get(name), found=found.get(name))

    def lock(self) -> Lock:
        """Its lock; entering it raises JobBusy when another process works on the job."""
        return Lock(self.folder.with_name(f"{self.id}.lock"), JobBusy(name=self.id), self.folder)

    @property
    def state(self) -> dict[str, Any]:
        """How far it came, as `update` left it, read anew.

        Raises:
            JobMissing, JobDamaged: it was deleted, or cannot be read.
        """
        if not self.folder.is_dir():
            raise _missing(self.id)
        return _read_json(self.folder, STATE)

    def update(self, **changes: Any) -> None:
        """Change some of the state, all at once; `finished=True` says that every frame is kept.

        Raises:
            DiskFull: the state is as it was.
        """
        write_json(self.folder / STATE, {**self.state, **{name: _plain(value) for name, value in changes.items()}})

    def add_frames(self, first: int, frames: np.ndarray) -> None:
        """Keep finished frames: those of one VAE tile, or as many as come together.

        Args:
            first: Number of the first of them in the clip: that of the frame after the last one kept.
            frames: (num, height, width, 3) uint8, RGB.

        Raises:
            DiskFull: they are not kept, the ones before are.
            ValueError: frames of another shape, or not the next ones.
        """
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
            raise ValueError(f"frames must be (num, height, width, 3) uint8, got {frames.shape} {frames.dtype}")
        if first != self.num_frames:
            raise ValueError(f"frame {self.num_frames} comes next, got {first}")
        folder = self.folder / FRAMES
        folder.mkdir(exist_ok=True)
        frames = np.ascontiguousarray(frames)
        name = f"{first:06d}-{first + len(frames):06d}-{hashlib.sha256(frames.data).hexdigest()}.npy"
        with written_whole(folder / name) as part, part.open("wb") as file:
            # not np.save: on a full disk that raises an error which does not say so
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(frames))
            file.write(frames.data)

    @property
    def num_frames(self) -> int:
        """Frames kept, from the first one on without a gap."""
        return self._tiles()[-1][1] if self._tiles() else 0

    def frames(self) -> Iterator[np.ndarray]:
        """The frames kept, in order: (height, width, 3) uint8, RGB, each a new array. One tile is mapped at a time.

        Raises:
            JobDamaged: a tile is not as it was written; it and all after it are taken away, to be decoded again, and
                the job is no longer finished.
        """
        for first, end, digest, path in self._tiles():
            try:
                tile = np.load(path, mmap_mode="r", allow_pickle=False)
                is_whole = tile.shape[0] == end - first and tile.shape[3:] == (3,) and tile.dtype == np.uint8
                is_whole = is_whole and hashlib.sha256(np.ascontiguousarray(tile).data).hexdigest() == digest
            except (OSError, ValueError, EOFError):
                is_whole = False
            if not is_whole:
                self.update(finished=False)
                for later in self._tiles():
                    if later[0] >= first:
                        later[3].unlink(missing_ok=True)
                raise JobDamaged(name=self.id, file=path.name)
            yield from (np.array(frame) for frame in tile)

    def _tiles(self) -> list[tuple[int, int, str, Path]]:
        """First frame, frame after the last, digest and file of every tile, up to the first gap."""
        tiles: list[tuple[int, int, str, Path]] = []
        for path in sorted((self.folder / FRAMES).glob("*.npy")):
            if (found := TILE.fullmatch(path.name)) and int(found[1]) == (tiles[-1][1] if tiles else 0):
                tiles.append((int(found[1]), int(found[2]), found[3], path))
        return tiles

    def delete(self) -> None:
        """Delete all of it; called by whoever holds the lock, or before anyone does."""
        _delete(self.folder)


def find(name: str, root: Path | None = None) -> Job:
    """The job of an id as a visitor's browser gives it: only its last part counts.

    Raises:
        JobMissing: there is none of that name.
        JobDamaged: it cannot be read.
    """
    name = Path(str(name)).name
    if not ID.fullmatch(name):
        raise _missing(name)
    return Job.open(_root(root) / name)


def unfinished(root: Path | None = None) -> list[Job]:
    """Jobs whose clip was not delivered yet, the last one touched first; those that cannot be read are left out."""
    jobs = []
    for folder in sorted(_folders(_root(root)), key=_touched, reverse=True):
        with contextlib.suppress(AvatarError):
            jobs.append(Job.open(folder))
    return jobs


def sweep(root: Path | None = None, age_seconds: float = KEEP_SECONDS) -> list[str]:
    """Delete jobs that nobody has touched for so long, and what killed processes left; never a locked one.

    Returns:
        Their ids.
    """
    root, swept = _root(root), []
    for folder in root.iterdir():
        if not folder.is_dir() or time.time() - _touched(folder) < age_seconds:
            continue
        if ID.fullmatch(folder.name):
            lock = Lock(folder.with_name(f"{folder.name}.lock"), JobBusy(name=folder.name))
            if lock.take():
                try:
                    _delete(folder)
                finally:
                    lock.release()
                swept.append(folder.name)
        elif folder.name.startswith((".new-", ".old-")):
            shutil.rmtree(folder, ignore_errors=True)
    return swept


def versions() -> dict[str, str]:
    """Versions of this program and of the libraries that compute; "-" for one that is not installed."""
    found = {"program": VERSION}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "-"
    return found


def _missing(name: str) -> JobMissing:
    return JobMissing(name=name[:40], hours=KEEP_SECONDS // 3600)


def _root(root: Path | None) -> Path:
    """The folder of all jobs, made when missing."""
    return _private_folder(hardware.jobs_folder() if root is None else Path(root))


def _private_folder(folder: Path) -> Path:
    """A folder, made when missing; others on this machine cannot look into it: it holds faces and voices."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _folders(root: Path) -> list[Path]:
    return [folder for folder in root.iterdir() if ID.fullmatch(folder.name) and folder.is_dir()]


def _delete(folder: Path) -> None:
    """Delete a job folder; a process killed here leaves no half of a job under its name."""
    gone = folder.with_name(f".old-{folder.name}")
    if folder.is_dir():
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
    folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)


def _touched(folder: Path) -> float:
    """When something in a job folder was last written, seconds since the epoch."""
    places = (folder, folder / STATE, folder / RUN, folder / FRAMES)
    return max((place.stat().st_mtime for place in places if place.exists()), default=0.0)


def _copy_input(source: Path, folder: Path) -> dict[str, str]:
    """Copy a file into a folder of its own, where it keeps its name: messages call it by that."""
    if not source.is_file():
        raise FileMissing(name=source.name)
    folder.mkdir()
    with written_whole(folder / source.name) as part:
        shutil.copyfile(source, part)
    return {"name": source.name, "sha256": _sha256(folder / source.name)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        plain = json.loads((folder / name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise JobDamaged(name=folder.name, file=name) from error
    if not isinstance(plain, dict):
        raise JobDamaged(name=folder.name, file=name)
    return plain


def _plain(value: Any) -> Any:
    """`value` as JSON gives it back."""

    def simple(part: Any) -> Any:
        if isinstance(part, Enum):
            return part.value
        if isinstance(part, os.PathLike):
            return str(Path(part).absolute())
        raise TypeError(f"a job keeps what JSON can hold, got {type(part).__name__}")

    return json.loads(json.dumps(value, default=simple))
