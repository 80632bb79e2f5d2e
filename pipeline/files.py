"""Files that are whole or not there, even after a power cut, and full disks said in words. Knows no format but JSON.

What a killed process leaves half done is cleared away by the next one: every such file is locked while somebody is at
work on it, and that lock ends with its process. Nothing else is ever deleted.
"""

import atexit
import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import DiskFull, OutputNotWritable, SpaceMissing
from pipeline.units import MEBIBYTE

try:
    import fcntl
except ImportError:  # Windows, where what is left stays until it is deleted by hand
    fcntl = None  # type: ignore[assignment]

PART = ".part"  # ends the name of a file that is being written
WORK = "portrait-parlant-"  # begins the names of our folders for a piece of work
IN_USE = ".in-use"  # the locked file in such a folder
SETTLED_SECONDS = 60  # a file younger than that may not be locked yet, or may be about to get its final name
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name to write under; when the block ends, what was written takes the place of `path`, at once and for good.

    A process killed in the block leaves a file whose name ends in PART, which nobody reads; the next one to write to
    `path` deletes it.

    Raises:
        DiskFull: the disk filled up; `path` is as it was.
        OSError: it cannot be written for another reason; `path` is as it was.
    """
    part = _part_of(path)
    sweep(path.parent, re.compile(re.escape(path.name) + r"\.[0-9a-f]{8}" + re.escape(PART)))
    try:
        with full_disk_told(path.parent), locked_file(part):
            yield part
            with part.open("r+b") as file:
                os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """A new, empty file that is known to be in use until the block ends; there, it may be written, renamed or deleted.

    It gets the user's usual permissions.

    Raises:
        OSError: it cannot be made, or is there already.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    if fcntl is None:  # where an open file could be neither renamed nor deleted
        os.close(descriptor)
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a network drive without locks, where nothing is taken for left behind
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def is_left_behind(path: Path) -> bool:
    """Whether a file made by `locked_file` outlasted its process. False where that cannot be told."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        found = os.fstat(descriptor)
        is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        # a time in the future is that of a clock which has been set back since: its lock alone decides
        if not is_ours or abs(time.time() - found.st_mtime) < SETTLED_SECONDS:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:  # locked, or no locks here
        return False
    finally:
        os.close(descriptor)


def sweep(folder: Path, names: re.Pattern[str]) -> None:
    """Delete the files of a folder that `locked_file` made under such names and that outlasted their process."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry.path) for entry in entries if names.fullmatch(entry.name)]:
            if is_left_behind(path):
                path.unlink(missing_ok=True)


@contextmanager
def work_folder(name: str = "") -> Iterator[Path]:
    """A new folder for temporary files, which only we can read; deleted when the block ends.

    If this process is killed before, the next work folder's beginning deletes it.

    Args:
        name: What its name shall say, after WORK.

    Raises:
        DiskFull, OutputNotWritable: there is no place for temporary files.
    """
    sweep_work_folders()
    with contextlib.ExitStack() as held:
        try:
            with full_disk_told(Path(tempfile.gettempdir())):
                made = tempfile.TemporaryDirectory(prefix=WORK + name, ignore_cleanup_errors=True)
                folder = Path(held.enter_context(made))
                held.enter_context(locked_file(folder / IN_USE))
        except OSError as error:  # one without a name from `gettempdir`, which has tried several folders
            raise OutputNotWritable(path=error.filename or "TMPDIR") from error
        yield folder


def own_work_folder(name: str = "") -> Path:
    """A work folder for as long as this process lasts; as `work_folder`."""
    held = contextlib.ExitStack()
    atexit.register(held.close)
    return held.enter_context(work_folder(name))


def sweep_work_folders() -> None:
    """Delete work folders that outlasted their process."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in [entry for entry in entries if entry.name.startswith(WORK)]:
            is_ours = entry.stat(follow_symlinks=False).st_uid == os.geteuid()
            if is_ours and entry.is_dir(follow_symlinks=False) and is_left_behind(Path(entry.path) / IN_USE):
                shutil.rmtree(entry.path, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """A small file, whole or not at all; errors are those of `written_whole`."""
    with written_whole(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")


def write_text(path: Path, text: str) -> None:
    """A text file in UTF-8, whole or not at all.

    Raises:
        DiskFull, OutputNotWritable.
    """
    try:
        with written_whole(path) as part:
            part.write_bytes(text.encode("utf-8", "backslashreplace"))
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise OutputNotWritable(path=str(path)) from error


def require_place(path: Path) -> None:
    """Ask, before work begins, whether a file can be written there.

    Raises:
        OutputNotWritable: it cannot.
    """
    part = _part_of(path)
    try:
        if path.exists() and not path.is_file():
            raise OutputNotWritable(path=str(path))
        part.touch(exist_ok=False)
        part.unlink()
    except (OSError, ValueError) as error:
        raise OutputNotWritable(path=str(path)) from error


def _part_of(path: Path) -> Path:
    """A name beside a file, under which it is written; `sweep` in `written_whole` knows such names."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART}")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlast a power cut; nothing on Windows, which opens no folders."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """What a full disk raises in the block becomes a DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DiskFull(path=str(folder), free_mebibytes=shutil.disk_usage(folder).free // MEBIBYTE) from error


def require_space(folder: Path, needed: int) -> None:
    """Ask for free room before work begins.

    Args:
        folder: On the disk in question.
        needed: Bytes.

    Raises:
        SpaceMissing: there is less.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        # rounded up and down, so that the two numbers never read alike
        raise SpaceMissing(path=str(folder), needed_mebibytes=-(-needed // MEBIBYTE), free_mebibytes=free // MEBIBYTE)
