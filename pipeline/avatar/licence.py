"""The licence of the weights: shown, and accepted once on this computer before a download starts.

Keeps the acceptance; asks nobody itself. The terms stand in `texts.py` as LicenceTerms.
"""

import json
import time
from pathlib import Path

from huggingface_hub import constants

from pipeline import hardware
from pipeline.errors import LicenceNotAccepted
from pipeline.files import write_json

TERMS = 1  # counted up when LicenceTerms says something else than before: it is then asked for again
ADDRESS = "https://huggingface.co/tencent/HunyuanVideo-Avatar/blob/main/LICENSE"
FOLDER = "portrait-parlant"  # what is ours, beside the Hub's cache of models
FILE = "licence.json"


def folder_beside(cache_dir: Path | None = None) -> Path:
    """Our folder beside a cache of models, there or not; None for the cache that HF_HOME and HF_HUB_CACHE name."""
    return Path(constants.HF_HUB_CACHE if cache_dir is None else cache_dir).absolute().parent / FOLDER


def is_accepted(folder: Path | None = None) -> bool:
    """Whether these terms were accepted: kept in `folder`, or said by PORTRAIT_ACCEPT_LICENCE.

    Args:
        folder: None for `folder_beside()`.
    """
    if hardware.accepts_licence():
        return True
    try:
        kept = json.loads(((folder or folder_beside()) / FILE).read_text("utf-8"))
        return bool(kept["terms"] == TERMS)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def accept(folder: Path | None = None) -> None:
    """Keep that the terms were accepted; as `is_accepted`.

    Raises:
        DiskFull: there is no room for a hundred bytes.
        OSError: the folder cannot be written to.
    """
    folder = folder or folder_beside()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, {"terms": TERMS, "accepted": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})


def require(folder: Path | None = None) -> None:
    """Raise unless the terms were accepted; as `is_accepted`.

    Raises:
        LicenceNotAccepted: they were not.
    """
    if not is_accepted(folder):
        raise LicenceNotAccepted(address=ADDRESS)
