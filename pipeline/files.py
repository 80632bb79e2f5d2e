"""Files that are whole or not there, even after a power cut, and full disks said in words. Knows no format but JSON."""

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import DiskFull, OutputNotWritable, SpaceMissing
from pipeline.units import MEBIBYTE

PART = ".part"  # ends the name of a file that is being written
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name to write under; when the block ends, what was written takes the place of `path`, at once and for good.

    A process killed in the block leaves a file whose name ends in PART, which nobody reads.

    Raises:
        DiskFull: the disk filled up; `path` is as it was.
        OSError: it cannot be written for another reason; `path` is as it was.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        with full_disk_told(path.parent):
            yield part
            with part.open("r+b") as file:
                os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


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
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        if path.exists() and not path.is_file():
            raise OutputNotWritable(path=str(path))
        part.touch(exist_ok=False)
        part.unlink()
    except (OSError, ValueError) as error:
        raise OutputNotWritable(path=str(path)) from error


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
