"""What this machine offers: engines, codecs, models, memory. The one reader of environment variables.

Importing it loads nothing; the engines are imported when they are asked for.
"""

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine import Engine
from pipeline.errors import AvatarError, EngineUnavailable
from pipeline.request import ENGINES, RenderRequest
from pipeline.texts import DEFAULT_LANGUAGE, LANGUAGES, Notice
from pipeline.units import GIBIBYTE

if TYPE_CHECKING:
    from pipeline.jobs import Job  # which imports this module

# onnxruntime, which speaks, else keeps an id of the device and reports its use to its maker as soon as it is imported.
# Source: onnxruntime 1.32.0, what its import leaves in an empty home folder with and without this variable
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

CARD_SECONDS = 10  # that nvidia-smi may take: it wakes a sleeping card
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")  # bytes, or "max"; Source: Linux, cgroup-v2.rst
CONTAINER_USED = Path("/sys/fs/cgroup/memory.current")  # bytes; Source: the same
CONTAINER_STATISTICS = Path("/sys/fs/cgroup/memory.stat")  # names and bytes; Source: the same
DEFAULT_ENGINE = "draft"  # it must run everywhere
JOBS_NAME = "portrait-parlant"  # begins the names of our folders in folders that others use too
SPACE_DISK = Path("/data")  # outlasts a restart of a Space that has such a disk. Source: Hub docs, spaces-storage
AVATAR_PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "librosa")  # nor the avatar engine with these
DRAFT_PACKAGES = ("ai_edge_litert", "cv2", "scipy")  # without these the draft engine cannot draw


class Placement(Enum):
    """Where the models' weights are kept while a clip is rendered."""

    RESIDENT = "resident"  # the denoiser stays on the device: fastest, most memory
    OFFLOAD_MODELS = "offload-models"  # one model on the device at a time, the others in the host's memory
    STREAM_BLOCKS = "stream-blocks"  # blocks pass through the device one after another: least memory


@dataclass(frozen=True)
class Rates:
    """How fast a device works, as measured or assumed.

    Args:
        matmul: FLOP/s of large matrix products in the working dtype.
        attention: FLOP/s of attention, heads 128 wide.
        copy: Bytes/s from pinned host memory to the device.
        mapped: Bytes/s from memory-mapped files to the device.
        matmul_fp8: FLOP/s of the same products in fp8; None where the device has none.
        assumed: Taken from a table of cards, not measured here.
    """

    matmul: float
    attention: float
    copy: float
    mapped: float
    matmul_fp8: float | None = None
    assumed: bool = False


@dataclass(frozen=True)
class Machine:
    """What a render may use.

    Args:
        device: "cuda", "mps" or "cpu".
        name: Of the device, as its driver or the system calls it.
        free_vram: Bytes free on the device; None where it computes in the host's memory.
        free_ram: Bytes of host memory free.
        free_disk: Bytes free where weights and jobs are kept.
        rates: How fast it is; None while that is not known.
    """

    device: str
    name: str
    free_vram: int | None
    free_ram: int
    free_disk: int
    rates: Rates | None = None


@dataclass(frozen=True)
class Processes:
    """This process among those that torchrun started.

    Args:
        rank: Its number among all, from 0.
        local_rank: Its number on this machine, from 0: that of its card.
        count: How many there are.
    """

    rank: int
    local_rank: int
    count: int

    @property
    def is_main(self) -> bool:
        """Whether it is the one that writes files and speaks to the user."""
        return self.rank == 0


def processes() -> Processes:
    """This process among its fellows; alone where torchrun started none. Source: PyTorch, torchrun, environment."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    if not all(os.environ.get(name, "").isdigit() for name in names):
        return Processes(0, 0, 1)
    return Processes(*(int(os.environ[name]) for name in names))


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
        needed = (*DRAFT_PACKAGES, *AVATAR_PACKAGES) if name == "avatar" else DRAFT_PACKAGES
        if missing := [package for package in needed if importlib.util.find_spec(package) is None]:
            reason = Notice("PackagesMissing", {"packages": ", ".join(missing)})
        statuses.append(EngineStatus(name, reason is None, reason))
    return statuses


def engine_for(request: RenderRequest, job: "Job | None" = None) -> Engine:
    """The engine that a request names, ready to perform.

    Args:
        request: What is asked for.
        job: The render to go on with; None begins one.

    Raises:
        EngineUnavailable: it cannot run on this machine.
    """
    status = next(status for status in engines() if status.name == request.engine)
    if status.reason is not None:
        reasons = {f"reason_{language}": status.reason.text(language) for language in LANGUAGES}
        raise EngineUnavailable(engine=request.engine, **reasons)
    if request.engine == "avatar":
        from pipeline.avatar.engine import AvatarEngine

        return AvatarEngine(request, job)
    from pipeline.draft.engine import DraftEngine  # imported here: it brings the models' libraries with it

    return DraftEngine()


def preferred_language() -> str:
    """The user's language, "en" or "fr", by LC_ALL, LC_MESSAGES and LANG, the first that is set deciding."""
    written = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := os.environ.get(name))), "")
    language = written[:2].lower()
    return language if language in LANGUAGES else DEFAULT_LANGUAGE


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Args:
        notice: What was found.
        good: It is as it should be; None for what the draft engine can do without.
    """

    notice: Notice
    good: bool | None = True


def examine() -> Iterator[Finding]:
    """Look at everything a render needs, trying what can be tried: a second or two, one finding at a time."""
    system = f"{platform.system()} {platform.machine()}"
    yield Finding(Notice("DoctorPython", {"version": platform.python_version(), "system": system}))
    yield Finding(Notice("DoctorProcessor", {"cores": usable_cores()}))
    memory = usable_memory()
    if memory is not None:
        yield Finding(Notice("DoctorMemory", {"gibibytes": memory / GIBIBYTE}))
    folder = tempfile.gettempdir()
    yield Finding(Notice("DoctorDisk", {"gibibytes": shutil.disk_usage(folder).free / GIBIBYTE, "folder": folder}))
    yield _examine_codecs()
    yield _examine_models()
    yield _examine_recogniser()
    yield _examine_signing()
    card = graphics_card()
    yield Finding(Notice("DoctorGpu", {"name": card}) if card else Notice("DoctorNoGpu"), None)
    for status in engines():
        if status.reason is None:
            yield Finding(Notice("DoctorEngine", {"engine": status.name}))
        else:
            reasons = {f"reason_{language}": status.reason.text(language) for language in LANGUAGES}
            good = False if status.name == DEFAULT_ENGINE else None
            yield Finding(Notice("DoctorNoEngine", {"engine": status.name, **reasons}), good)


def _examine_codecs() -> Finding:
    from pipeline.media import PICTURE_CODEC, SOUND_CODEC

    codecs = f"{PICTURE_CODEC}, {SOUND_CODEC}"
    try:
        import av

        for codec in (PICTURE_CODEC, SOUND_CODEC):
            av.Codec(codec, "w")
    except (ImportError, ValueError) as error:  # PyAV's UnknownCodecError is a ValueError
        return _fault(codecs, error)
    return Finding(Notice("DoctorCodecs", {"codecs": codecs, "version": av.__version__}))


def _examine_models() -> Finding:
    try:
        from pipeline import models

        for name in models.SHA256:
            models.read(name)  # again, even where the networks are loaded: the files may have changed
        for load in (models.face_detector, models.face_landmarks, models.selfie_segmentation):
            load()
    except AvatarError as error:
        return Finding(Notice("DoctorFault", {"what": "LiteRT", **_texts(error)}), False)
    except (ImportError, OSError, ValueError, RuntimeError) as error:  # a wheel without this processor's instructions
        return _fault("LiteRT", error)
    return Finding(Notice("DoctorModels", {"names": ", ".join(models.SHA256)}))


def _examine_recogniser() -> Finding:
    from pipeline.draft import phonemes

    try:
        phonemes.load_recogniser()
    except phonemes.RecogniserMissingError as error:
        return Finding(Notice("DoctorNoSounds", {"detail": str(error)}), None)
    return Finding(Notice("DoctorSounds", {"version": importlib.metadata.version("hama")}))


def _examine_signing() -> Finding:
    from pipeline.trust import certificates

    if importlib.util.find_spec("c2pa") is None:
        return Finding(Notice("SigningMissing", {"package": "c2pa-python"}), None)
    if not any(signing_certificate()):
        return Finding(Notice("DoctorSigningLocal"))
    try:
        return Finding(Notice("DoctorSigning", {"signer": certificates.identity().name}))
    except AvatarError as error:
        return Finding(Notice("DoctorFault", {"what": "PORTRAIT_SIGNING_CERTIFICATE", **_texts(error)}), False)


def _texts(error: AvatarError) -> dict[str, str]:
    """An error's sentence as the detail of a fault."""
    return {f"detail_{language}": error.text(language) for language in LANGUAGES}


def _fault(what: str, error: Exception) -> Finding:
    return Finding(Notice("DoctorFault", {"what": what, "detail": str(error)}), False)


def jobs_folder() -> Path:
    """Where renders that survive are kept: PORTRAIT_JOBS, or a Space's own disk, or the temporary folder."""
    if chosen := os.environ.get("PORTRAIT_JOBS"):
        return Path(chosen)
    if on_space() and os.access(SPACE_DISK, os.W_OK):
        return SPACE_DISK / f"{JOBS_NAME}-jobs"
    return _own_folder("jobs")


def locks_folder() -> Path:
    """Where the locks of devices are: one place for all renders of a user, wherever their jobs are kept."""
    return _own_folder("locks")


def page_folder() -> Path:
    """Where the page's uploads and clips wait: GRADIO_TEMP_DIR, which the page sets where nobody has."""
    return Path(os.environ["GRADIO_TEMP_DIR"])


def _own_folder(purpose: str) -> Path:
    """A name in the temporary folder that no other user of this machine has."""
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    return Path(tempfile.gettempdir()) / f"{JOBS_NAME}-{purpose}{user}"


def weights_revision() -> str | None:
    """The commit, branch or tag of the weights that PORTRAIT_WEIGHTS_REVISION names; None for the pinned one."""
    return os.environ.get("PORTRAIT_WEIGHTS_REVISION") or None


def voices_path() -> Path | None:
    """Where PORTRAIT_VOICES says that Kokoro's network is: the file, or its folder; None where it says nothing."""
    return Path(chosen) if (chosen := os.environ.get("PORTRAIT_VOICES")) else None


def accepts_licence() -> bool:
    """Whether PORTRAIT_ACCEPT_LICENCE says that whoever runs this accepts the licence of the weights, as on a Space."""
    return os.environ.get("PORTRAIT_ACCEPT_LICENCE", "").lower() in ("1", "t", "true", "yes")


def audit_path() -> Path | None:
    """Where PORTRAIT_AUDIT has a line kept about each clip: its file, or with "1" one of ours; None where it is off."""
    chosen = os.environ.get("PORTRAIT_AUDIT", "")
    if chosen.lower() in ("", "0", "f", "false", "no", "off"):
        return None
    if chosen.lower() not in ("1", "t", "true", "yes", "on"):
        return Path(chosen)
    folder = SPACE_DISK if on_space() and os.access(SPACE_DISK, os.W_OK) else state_folder()
    return folder / f"{JOBS_NAME}-audit.jsonl"


def audit_days() -> int | None:
    """For how many days PORTRAIT_AUDIT_DAYS has those lines kept; None where it names no whole number from 1 on."""
    chosen = os.environ.get("PORTRAIT_AUDIT_DAYS", "")
    return int(chosen) if chosen.isdecimal() and chosen.isascii() and int(chosen) >= 1 else None


def mark_key() -> bytes:
    """The secret that draws the invisible mark, from PORTRAIT_MARK_KEY; without it one that is public: JOBS_NAME.

    Whoever has the key can find the mark, and can write it into any film.
    """
    return (os.environ.get("PORTRAIT_MARK_KEY") or JOBS_NAME).encode("utf-8", "surrogateescape")


def signing_certificate() -> tuple[str, str]:
    """The user's own certificate and its key, from PORTRAIT_SIGNING_CERTIFICATE and PORTRAIT_SIGNING_KEY.

    Each is PEM, as in a Space's secret, or the name of a file of it; "" where there is none.
    """
    names = ("PORTRAIT_SIGNING_CERTIFICATE", "PORTRAIT_SIGNING_KEY")
    certificate, key = (os.environ.get(name, "").strip() for name in names)
    return certificate, key


def time_stamp_address() -> str:
    """Who tells when a clip was signed, by PORTRAIT_TIME_STAMPS: an address (RFC 3161); "" where nobody is asked."""
    return os.environ.get("PORTRAIT_TIME_STAMPS", "").strip()


def trust_anchors() -> str:
    """Root certificates that the user trusts, from PORTRAIT_TRUST_ANCHORS: PEM, or the name of a file of it."""
    return os.environ.get("PORTRAIT_TRUST_ANCHORS", "").strip()


def is_public() -> bool:
    """Whether others than who runs the page use it: on a Space, or through the link that GRADIO_SHARE makes."""
    return on_space() or os.environ.get("GRADIO_SHARE", "").lower() in ("1", "t", "true", "yes")


def gates_pictures() -> bool:
    """Whether pictures pass the gate before they move: on a public page, but for PORTRAIT_GATE."""
    switch = os.environ.get("PORTRAIT_GATE", "").lower()
    if switch in ("0", "f", "false", "no", "off"):
        return False
    return switch in ("1", "t", "true", "yes", "on") or is_public()


def rehearses() -> bool:
    """Whether PORTRAIT_REHEARSAL says that the page's avatar engine is to use a tiny model of random numbers."""
    return os.environ.get("PORTRAIT_REHEARSAL", "").lower() in ("1", "t", "true", "yes")


def on_space() -> bool:
    """Whether this is a Space, which belongs to somebody else than who visits it."""
    return bool(os.environ.get("SPACE_ID"))


def on_zero_gpu() -> bool:
    """Whether this is a Space on ZeroGPU, where torch says that there is a card and none is, outside of a lease.

    Source: spaces, spaces/config.py.
    """
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def cache_folder() -> Path:
    """Where this program keeps what it need not find out again; not made here."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "portrait-parlant"


def prompts_folder() -> Path:
    """Where the avatar's text encoders keep what they read of a prompt and its portrait; not made here."""
    return cache_folder() / "prompts"


def state_folder() -> Path:
    """Where this program keeps what its user told it; not made here. Source: XDG Base Directory Specification."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "portrait-parlant"


def measure_machine(weights: Path | None = None, *, device: str | None = None, with_rates: bool = True) -> Machine:
    """What this machine offers to a render, measured: up to some seconds the first time, for its rates.

    To be called before the models are loaded: what they take of the host's memory is no longer free then. Of the
    device's memory, what this process holds counts as free.

    Args:
        weights: Folder on the disk where weights and jobs go, there or not; None for `cache_folder()`.
        device: "cuda", "mps" or "cpu"; None for the first of them that is there.
        with_rates: Measure or remember how fast it is. On ZeroGPU they are always assumed: its card, `large`, half of
            one with 96 GB, appears in a lease only.

    Raises:
        ImportError: torch or psutil is not installed.
    """
    folder = cache_folder()
    free_disk = shutil.disk_usage(_nearest(weights or folder)).free
    if device is None and on_zero_gpu():  # whose page imports no torch
        from pipeline.avatar.cards import ZERO_GPU

        free_vram = int(ZERO_GPU.gib * GIBIBYTE)
        return Machine("cuda", ZERO_GPU.name, free_vram, usable_memory() or 0, free_disk, ZERO_GPU.rates)
    from pipeline.avatar import calibrate  # imported here: it brings torch with it

    free_ram = int(min(calibrate.free_ram(), container_memory_left()))
    device, name, own = calibrate.find_device(device)
    rates = calibrate.rates_of(device, folder, name=f"{device} {name}") if with_rates else None
    return Machine(device, name, own, free_ram, free_disk, rates)


def roomy_machine(weights: Path | None = None) -> Machine:
    """This machine as `measure_machine` finds it, with room for the real model: what a rehearsal is planned for."""
    machine = measure_machine(weights)
    room = 2**40  # bytes
    return replace(machine, free_ram=room, free_vram=None if machine.free_vram is None else room, free_disk=room)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def usable_cores() -> int:
    """Processor cores this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_memory() -> int | None:
    """Bytes of memory of the machine or of the container around us; None where the system does not say."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
    try:
        return min(memory, int(CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):
        return memory


def container_memory_left() -> float:
    """Bytes that the container around us may still take; infinite without one, or where none is limited.

    Pages of files that the kernel would drop first count as free, as in MemAvailable.
    """
    try:
        limit, used = int(CONTAINER_LIMIT.read_text()), int(CONTAINER_USED.read_text())
        statistics = dict(line.split() for line in CONTAINER_STATISTICS.read_text().splitlines())
        return max(limit - used + int(statistics["inactive_file"]), 0)
    except (OSError, ValueError, KeyError):
        return float("inf")


def give_memory_back() -> None:
    """Give the system what was freed, which glibc keeps, once for each thread that had work: it adds up."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def graphics_card() -> str | None:
    """Name and memory of the first NVIDIA card, by its driver's own program: asking torch would import it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=CARD_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(answer.stdout.splitlines()), None)
