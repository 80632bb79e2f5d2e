"""How long a page keeps its visitors' files: uploads, clips and what programs send go by their age.

Gradio itself forgets those of a page that was stopped while somebody had it open, and all that came over MCP.
"""

import contextlib
import os
import re
import time
from pathlib import Path

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


def keep_clear(folder: Path, seconds: float, every: float) -> None:
    """Clear a page's folder and its audit log of what is too old, again and again, in a thread that ends with the page.

    Args:
        folder: As in `clear`.
        seconds: As in `clear`.
        every: Seconds between two looks.
    """
    while True:
        clear(folder, seconds)
        audit.prune()
        time.sleep(every)
