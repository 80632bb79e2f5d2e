"""How long a page keeps what its visitors leave: uploads, clips, jobs, what was read of prompts go by their age.

Gradio itself forgets the files of a page that was stopped while somebody had it open, and all that came over MCP.
"""

import contextlib
import os
import re
import time
from pathlib import Path

from pipeline import hardware, jobs
from pipeline.trust import audit

CACHED = re.compile(r"[0-9a-f]{64}")  # a folder of one file, by its hash. Source: gradio, processing_utils.py


def prepare(folder: Path) -> None:
    """Make the folder where a page keeps files, closed to other users of this machine.

    Args:
        folder: From `hardware.page_folder()`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def clear(folder: Path, seconds: float) -> None:
    """Delete the files that a page put into its folder longer ago than that; other files there stay.

    Args:
        folder: As in `prepare`, there or not.
        seconds: By the time a file came into the folder, which a copy's own date does not tell. One from the future,
            as after the clock was set back, goes too.
    """
    now = time.time()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if CACHED.fullmatch(entry.name)]:
            if not entry.is_dir(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):  # another page may be clearing the same folder
                for file in Path(entry.path).iterdir():
                    if not 0 <= now - file.lstat().st_ctime < seconds:
                        file.unlink()
                Path(entry.path).rmdir()


def clear_all(folder: Path, seconds: float) -> None:
    """Delete what is too old of all that visitors leave: files, avatar jobs, what was read of prompts, the audit log's
    lines. What cannot be deleted stays for the next look.

    Args:
        folder: As in `clear`.
        seconds: As in `clear`; the others are kept for as long as `jobs.KEEP_SECONDS` and `audit.keep_days` say.
    """
    clear(folder, seconds)
    with contextlib.suppress(OSError):
        jobs.sweep()
    for read in hardware.prompts_folder().glob("*.safetensors"):
        with contextlib.suppress(OSError):  # another page may be clearing the same folder
            if not 0 <= time.time() - read.stat().st_mtime < jobs.KEEP_SECONDS:
                read.unlink()
    audit.prune()


def keep_clear(folder: Path, seconds: float, every: float) -> None:
    """Clear all again and again: for a thread that ends with the page.

    Args:
        folder: As in `clear_all`.
        seconds: As in `clear_all`.
        every: Seconds between two looks.
    """
    while True:
        clear_all(folder, seconds)
        time.sleep(every)
