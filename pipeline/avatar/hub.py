"""The published weights from the Hub: which files, how large, where they are kept, whether they are whole.

Lists every file in one place and downloads no other. Sizes and hashes are the Hub's own; opening and converting the
files is done in `weights.py`.

The files lie in the Hub's cache as every other program keeps them there, so that what one has downloaded the other
finds. They come by HTTP rather than through hf-xet, and not by `hf_hub_download`, since neither goes on with a file
that an earlier process began (huggingface_hub 2.4), and the largest here takes an hour on a home line.
"""

import contextlib
import errno
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from huggingface_hub import HfApi, constants, get_session, hf_hub_url
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import WeakFileLock, build_hf_headers, hf_raise_for_status

from pipeline import hardware
from pipeline.avatar import licence
from pipeline.avatar.presets import PUBLISHED_FOLDERS
from pipeline.errors import (
    CacheReadOnly,
    DownloadDamaged,
    HubForbids,
    HubLacks,
    HubOffline,
    HubUnreachable,
)
from pipeline.files import full_disk_told, require_space, write_json
from pipeline.units import GIGABYTE

logger = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]  # bytes done, bytes in all

NAME = "tencent/HunyuanVideo-Avatar"
# The commit that `main` was at in late 2025, its 21st; the Hub tells the rest of its hash.
# Source: huggingface.co/tencent/HunyuanVideo-Avatar/tree/main, as kept by a public index of pages.
REVISION = "43884f0"
ROOT = "ckpts"  # folder of the repository that holds all parts
PRECISIONS = ("fp8", "bf16")  # of the transformer
RECORD = "weights.json"  # beside the cache: which commit, which files, which of them were found whole
CONVERTED = "converted"  # folder beside the cache
INDEX = "diffusion_pytorch_model.safetensors.index.json"  # as shards.INDEX, whose module imports torch
FULL_HASH = 40  # hexadecimal digits of a commit's hash
PIECE = 2**22  # bytes hashed at a time
TRIES = 5  # in a row without a byte, before a download gives up; what has come is kept
LONGEST_PAUSE = 8.0  # seconds between two of them
PARTIAL_CONTENT = 206  # the answer to a request that goes on in the middle
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers after which it is worth asking again


class Part(NamedTuple):
    """One part of the repository: file names as fnmatch reads them.

    Args:
        folder: In the repository.
        needed: Each must be there.
        optional: Taken where it is there.
        gigabytes: What it comes to, for an estimate while the Hub has not been asked; never used to check.
    """

    folder: str
    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()
    gigabytes: float = 0.0


def _folder(component: str) -> str:
    return f"{ROOT}/{PUBLISHED_FOLDERS[component]}"


TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# Sizes: the file lists of tencent/HunyuanVideo-Avatar (CLIP), tencent/HunyuanVideo (transformer in bf16) and
# DeepBeepMeep/HunyuanVideo (LLaVA with its eyes, in fp16) on the Hub; openai/whisper-tiny. Of the fp8 transformer 13.5
# and 24.9 GB are told: the larger is taken.
PARTS = {
    "transformer_fp8": Part(
        _folder("transformer"), ("mp_rank_00_model_states_fp8.pt", "mp_rank_00_model_states_fp8_map.pt"), (), 24.9
    ),
    "transformer_bf16": Part(_folder("transformer"), ("mp_rank_00_model_states.pt",), (), 25.6),
    "vae": Part(_folder("vae"), ("config.json", "pytorch_model.pt"), (), 1.0),
    "text_encoder": Part(
        _folder("text_encoder"),
        ("config.json", "model*.safetensors", "tokenizer.json"),
        ("model.safetensors.index.json", "generation_config.json", *TOKENIZER),
        16.7,
    ),
    "text_encoder_2": Part(
        _folder("text_encoder_2"),
        ("config.json", "model.safetensors", "tokenizer.json"),
        ("vocab.json", "merges.txt", *TOKENIZER),
        1.7,
    ),
    "audio_encoder": Part(
        _folder("audio_encoder"), ("config.json", "model.safetensors", "preprocessor_config.json"), (), 0.2
    ),
    "licence": Part("", (), ("LICENSE", "Notice.txt")),
}


@dataclass(frozen=True)
class Repository:
    """Where weights come from and where they are kept.

    Args:
        name: "owner/name".
        revision: A commit's hash, whole or its beginning; or a branch or tag, which is looked up once and kept to.
        endpoint: The Hub's address; None for the one HF_ENDPOINT names.
        cache_dir: Cache of models; None for the one HF_HOME and HF_HUB_CACHE name.
        token: False to send none; None for HF_TOKEN or the one of `hf auth login`.
        needs_licence: Its licence must have been accepted before anything is downloaded.
    """

    name: str = NAME
    revision: str = REVISION
    endpoint: str | None = None
    cache_dir: Path | None = None
    token: bool | str | None = None
    needs_licence: bool = True

    @property
    def storage(self) -> Path:
        """Its folder in the cache."""
        cache = Path(constants.HF_HUB_CACHE if self.cache_dir is None else self.cache_dir).absolute()
        return cache / repo_folder_name(repo_id=self.name, repo_type="model")

    @property
    def beside(self) -> Path:
        """Our folder beside the cache: licence, record and converted weights."""
        return licence.folder_beside(self.cache_dir)

    @property
    def address(self) -> str:
        """The Hub's address."""
        return (self.endpoint or constants.ENDPOINT).rstrip("/")


class File(NamedTuple):
    """One file of the repository at its commit.

    Args:
        path: In the repository, with slashes.
        size: Bytes.
        digest: SHA-256 of a large file (64 digits), git's SHA-1 of a small one (40); the name of its blob in the cache.
    """

    path: str
    size: int
    digest: str

    def hasher(self) -> Any:
        """Of hashlib's, to be fed with the content."""
        if len(self.digest) != FULL_HASH:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


@dataclass(frozen=True)
class Listing:
    """What the repository holds of what we need.

    Args:
        commit: Full hash.
        files: Of all parts, both precisions, in the order of PARTS.
    """

    commit: str
    files: tuple[File, ...]

    def of(self, precision: str) -> tuple[File, ...]:
        """The files of one precision."""
        return tuple(file for part in parts(precision) for file in self.of_part(part))

    def of_part(self, part: str) -> tuple[File, ...]:
        """The files of one of PARTS."""
        return tuple(file for file in self.files if _belongs(file.path, PARTS[part]))


def published() -> Repository:
    """The published repository, at the pinned commit or the one PORTRAIT_WEIGHTS_REVISION names."""
    return Repository(revision=hardware.weights_revision() or REVISION)


def parts(precision: str = "fp8") -> tuple[str, ...]:
    """The names of PARTS that a render in this precision needs.

    Raises:
        ValueError: another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    return tuple(name for name in PARTS if not name.startswith("transformer_") or name == f"transformer_{precision}")


def listing(repository: Repository | None = None) -> Listing:
    """Commit and files, from the record beside the cache, or from the Hub the first time.

    Raises:
        HubOffline, HubForbids, HubLacks, HubUnreachable: the Hub has to be asked and cannot be.
        CacheReadOnly, DiskFull: the answer cannot be kept.
    """
    repository = repository or published()
    found = recorded(repository)
    if found is not None:
        return found
    api = HfApi(endpoint=repository.endpoint, token=repository.token)
    with _named(repository, repository.revision):
        commit = _commit(api, repository)
        tree = api.list_repo_tree(repository.name, recursive=True, revision=commit)
        entries = [entry for entry in tree if isinstance(entry, RepoFile)]
    files = [
        File(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for part in PARTS.values()
        for entry in entries
        if _belongs(entry.path, part)
    ]
    _keep(repository, {"revision": repository.revision, "commit": commit, "files": files, "whole": {}})
    return Listing(commit, tuple(files))


def recorded(repository: Repository | None = None) -> Listing | None:
    """The listing as far as it is known without asking the Hub; None where it never was asked."""
    kept = _read(repository or published())
    return Listing(kept["commit"], kept["files"]) if kept else None


def missing(repository: Repository | None = None, precision: str = "fp8") -> list[File]:
    """The files still to be downloaded; errors as `listing`. Lengths are compared, hashes are `check`'s."""
    repository = repository or published()
    known = listing(repository)
    return [file for file in _wanted(repository, known, precision) if not _is_there(repository, known.commit, file)]


def bytes_missing(repository: Repository | None = None, precision: str = "fp8") -> tuple[int, bool]:
    """What is still to be downloaded, without asking the Hub.

    Returns:
        Bytes, what an interrupted download left not counted; and whether that is known (True) or only estimated from
        what others report, because the Hub was never asked.
    """
    repository = repository or published()
    known = recorded(repository)
    if known is None:
        return round(sum(PARTS[part].gigabytes for part in parts(precision)) * GIGABYTE), False
    left = (file for file in known.of(precision) if not _is_there(repository, known.commit, file))
    return sum(file.size - _begun(repository, file) for file in left), True


def folder(repository: Repository | None = None) -> Path:
    """The downloaded repository, as `from_published` takes it; errors as `listing`."""
    repository = repository or published()
    return _snapshot(repository, listing(repository).commit)


def download(
    repository: Repository | None = None, precision: str = "fp8", *, on_progress: OnProgress | None = None
) -> Path:
    """Get what is missing; with nothing missing, the Hub is not asked.

    What an earlier call left half done is gone on with, in this process or another. Every file is compared with its
    hash once: one that comes wrong is fetched again, and so is one in the cache that is not what it should be.

    Args:
        repository: None for `published()`.
        precision: "fp8" or "bf16".
        on_progress: Told bytes done and bytes in all, of what was missing.

    Returns:
        The repository's folder, as `from_published` takes it.

    Raises:
        LicenceNotAccepted: asked before anything else.
        SpaceMissing: less room than downloading, and converting after it, will take; nothing was downloaded.
        DiskFull: it filled up on the way; what has come is kept.
        DownloadDamaged: a file came wrong twice.
        HubOffline, HubForbids, HubLacks, HubUnreachable, CacheReadOnly: as `listing`; what has come is kept.
    """
    repository = repository or published()
    if repository.needs_licence:
        licence.require(repository.beside)
    known = listing(repository)
    target = _snapshot(repository, known.commit)
    left = []
    for file in _wanted(repository, known, precision):
        if _is_there(repository, known.commit, file) and not _is_whole(repository, file):
            if _digest(target / file.path, file) == file.digest:
                _note_whole(repository, file, target / file.path)
            else:
                _forget(repository, target / file.path)
        if not _is_there(repository, known.commit, file):
            left.append(file)
    _fetch_all(repository, known.commit, left, on_progress, room=_bytes_to_convert(repository, known, precision))
    return target


def fetch(repository: Repository, files: Sequence[File], *, on_progress: OnProgress | None = None) -> Path:
    """Get files whose lengths and hashes are known beforehand; the Hub is asked for nothing else.

    Args:
        repository: Its revision is a whole commit hash.
        files: One that lies in the cache with another hash is fetched again.
        on_progress: Told bytes done and bytes in all, of what was missing; what it raises ends the download, and what
            has come is kept.

    Returns:
        The folder they are in.

    Raises:
        As `download`, but for the licence.
    """
    target = _snapshot(repository, repository.revision)
    left = []
    for file in files:
        if _is_there(repository, repository.revision, file) and _digest(target / file.path, file) != file.digest:
            _forget(repository, target / file.path)
        if not _is_there(repository, repository.revision, file):
            left.append(file)
    _fetch_all(repository, repository.revision, left, on_progress)
    return target


def check(
    repository: Repository | None = None, precision: str = "fp8", *, on_progress: OnProgress | None = None
) -> list[File]:
    """Read every downloaded file again and compare its hash.

    Args:
        repository: None for `published()`.
        precision: "fp8" or "bf16".
        on_progress: Told bytes read and bytes in all.

    Returns:
        The files that are damaged; `download` fetches them again. Missing ones are `missing`'s.

    Raises:
        As `listing`.
    """
    repository = repository or published()
    known = listing(repository)
    wanted = _wanted(repository, known, precision)
    there = [file for file in wanted if _is_there(repository, known.commit, file)]
    total, done, damaged = sum(file.size for file in there), 0, []
    for file in there:
        path = _snapshot(repository, known.commit) / file.path
        if _digest(path, file) == file.digest:
            _note_whole(repository, file, path)
        else:
            damaged.append(file)
            _note_whole(repository, file, None)
        done += file.size
        if on_progress:
            on_progress(done, total)
    return damaged


def converted_folder(repository: Repository | None = None) -> Path:
    """Where the converted models of this commit are kept, beside the cache; errors as `listing`."""
    repository = repository or published()
    return repository.beside / CONVERTED / listing(repository).commit


def is_converted(repository: Repository | None = None, precision: str = "fp8") -> bool:
    """Whether transformer and VAE were converted; nothing is opened. False where the Hub was never asked."""
    repository = repository or published()
    known = recorded(repository)
    places = (f"transformer_{precision}", "vae")
    return known is not None and all(
        (repository.beside / CONVERTED / known.commit / place / INDEX).is_file() for place in places
    )


def convert(
    repository: Repository | None = None, precision: str = "fp8", *, on_progress: OnProgress | None = None
) -> Path:
    """Turn the downloaded transformer and VAE into ours, once.

    Args:
        repository: None for `published()`.
        precision: "fp8" or "bf16".
        on_progress: Told bytes done and bytes in all, of one model after the other; not called when it was done before.

    Returns:
        `converted_folder(repository)`, as `from_published` takes it.

    Raises:
        WeightsError, FileMissing, SpaceMissing, DiskFull: as `weights.convert_published`.
        And as `listing`.
    """
    from pipeline.avatar.weights import convert_published  # imports torch

    repository = repository or published()
    target = converted_folder(repository)
    convert_published(folder(repository), target, precision=precision, on_progress=on_progress)
    return target


def _commit(api: HfApi, repository: Repository) -> str:
    """The full hash of the revision; a hash's beginning is looked for among the commits."""
    revision = repository.revision
    if not re.fullmatch(rf"[0-9a-f]{{7,{FULL_HASH}}}", revision):
        return str(api.repo_info(repository.name, revision=revision).sha)
    if len(revision) == FULL_HASH:
        return revision
    newest = str(api.repo_info(repository.name).sha)
    if newest.startswith(revision):
        return newest
    for commit in api.list_repo_commits(repository.name):
        if commit.commit_id.startswith(revision):
            return str(commit.commit_id)
    raise HubLacks(repository=repository.name, endpoint=repository.address, what=revision)


def _wanted(repository: Repository, known: Listing, precision: str) -> tuple[File, ...]:
    """The files of one precision, which has all that it needs."""
    for part in parts(precision):
        for name in PARTS[part].needed:
            needed = f"{PARTS[part].folder}/{name}"
            if not any(fnmatch(file.path, needed) for file in known.of_part(part)):
                where = {"repository": repository.name, "endpoint": repository.address}
                raise HubLacks(**where, what=f"{needed} ({known.commit})")
    return known.of(precision)


def _belongs(path: str, part: Part) -> bool:
    prefix = f"{part.folder}/" if part.folder else ""
    name = path.removeprefix(prefix)
    return (
        path.startswith(prefix) and "/" not in name and any(fnmatch(name, one) for one in part.needed + part.optional)
    )


@contextlib.contextmanager
def _named(repository: Repository, what: str) -> Iterator[None]:
    """What the client raises in the block becomes an error with a name; `what` was asked for."""
    values = {"repository": repository.name, "endpoint": repository.address}
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise HubOffline(repository=repository.name, cache=str(repository.storage.parent)) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise HubForbids(**values, status=status) from error
        if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError | RemoteEntryNotFoundError):
            raise HubLacks(**values, what=what) from error
        raise HubUnreachable(endpoint=repository.address, detail=f"HTTP {status}") from error
    except HTTPError as error:
        raise HubUnreachable(endpoint=repository.address, detail=str(error) or type(error).__name__) from error
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise CacheReadOnly(path=str(error.filename or repository.storage)) from error


def _snapshot(repository: Repository, commit: str) -> Path:
    return repository.storage / "snapshots" / commit


def _is_there(repository: Repository, commit: str, file: File) -> bool:
    path = _snapshot(repository, commit) / file.path
    return path.is_file() and path.stat().st_size == file.size


def _unfinished(repository: Repository, file: File) -> Path:
    return repository.storage / "blobs" / f"{file.digest}.incomplete"


def _begun(repository: Repository, file: File) -> int:
    """Bytes that an interrupted download left."""
    path = _unfinished(repository, file)
    return min(path.stat().st_size, file.size) if path.is_file() else 0


def _bytes_to_convert(repository: Repository, known: Listing, precision: str) -> int:
    """Room that the conversion will take: as much as what it reads."""
    if is_converted(repository, precision):
        return 0
    return sum(file.size for part in (f"transformer_{precision}", "vae") for file in known.of_part(part))


def _digest(path: Path, file: File) -> str:
    hasher = file.hasher()
    with path.open("rb") as opened:
        while piece := opened.read(PIECE):
            hasher.update(piece)
    return str(hasher.hexdigest())


def _forget(repository: Repository, path: Path) -> None:
    """Take a damaged file out of the cache, its blob as well."""
    blob = path.resolve()
    path.unlink()
    if blob.is_relative_to(repository.storage.resolve()):
        blob.unlink(missing_ok=True)


def _fetch_all(
    repository: Repository, commit: str, left: Sequence[File], on_progress: OnProgress | None, *, room: int = 0
) -> None:
    """Download files one after the other, where the disk has space for them and for `room` bytes more."""
    if left:
        with _named(repository, commit):
            repository.storage.mkdir(parents=True, exist_ok=True)
        require_space(repository.storage, sum(file.size - _begun(repository, file) for file in left) + room)
    done, total = 0, sum(file.size for file in left)
    for file in left:

        def tell(here: int, before: int = done) -> None:
            if on_progress:
                on_progress(before + here, total)

        logger.info("Downloading %s: %d bytes, of which %d are here", file.path, file.size, _begun(repository, file))
        with _named(repository, file.path), full_disk_told(repository.storage):
            _fetch(repository, commit, file, tell)
        _note_whole(repository, file, _snapshot(repository, commit) / file.path)
        done += file.size


def _fetch(repository: Repository, commit: str, file: File, tell: Callable[[int], None]) -> None:
    """Download one file into the cache, going on with what is there of it; `tell` hears how many bytes that is."""
    blob, unfinished = repository.storage / "blobs" / file.digest, _unfinished(repository, file)
    lock = repository.storage.parent / ".locks" / repository.storage.name / f"{file.digest}.lock"  # the Hub's own
    for path in (blob, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.is_file() and _digest(blob, file) == file.digest:  # another process was faster, or another commit's
            tell(file.size)
        else:
            url = hf_hub_url(repository.name, file.path, revision=commit, endpoint=repository.endpoint)
            for _ in range(2):
                received = _receive(url, repository, unfinished, file, tell)
                if received == file.digest:
                    break
                unfinished.unlink()
            else:
                raise DownloadDamaged(name=file.path, found=received[:12], expected=file.digest[:12])
            unfinished.replace(blob)
        path = _snapshot(repository, commit) / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            path.symlink_to(Path(*[".."] * (len(Path(file.path).parts) + 1), "blobs", file.digest))
        except OSError:  # a system without links: the Hub's client then keeps the file itself here
            blob.replace(path)


def _receive(url: str, repository: Repository, path: Path, file: File, tell: Callable[[int], None]) -> str:
    """Append to `path` until it has the file's length; its hash."""
    headers = {**build_hf_headers(token=repository.token), "Accept-Encoding": "identity"}
    failures = 0
    with path.open("a+b") as opened:
        have, hasher = _read_begun(opened, file)
        tell(have)
        while have < file.size and failures < TRIES:
            before = have
            try:
                with get_session().stream(
                    "GET",
                    url,
                    headers={**headers, "Range": f"bytes={have}-"},
                    timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
                ) as response:
                    hf_raise_for_status(response)
                    if response.status_code != PARTIAL_CONTENT:  # the whole file comes
                        opened.truncate(0)
                        have, hasher = 0, file.hasher()
                    for piece in response.iter_bytes():
                        opened.write(piece)
                        hasher.update(piece)
                        have += len(piece)
                        tell(have)
            except HTTPError as error:
                if isinstance(error, HfHubHTTPError) and error.response.status_code not in PASSING:
                    raise
                failures = 0 if have > before else failures + 1
                if failures == TRIES:
                    raise
                time.sleep(min(2.0**failures / 2, LONGEST_PAUSE))
            else:
                failures = 0 if have > before else failures + 1
    return str(hasher.hexdigest())  # of less than the file where the answers stay shorter than the Hub's own list says


def _read_begun(opened: BinaryIO, file: File) -> tuple[int, Any]:
    """Length and hash of what an earlier download left; none of it where it is too long."""
    hasher = file.hasher()
    opened.seek(0, 2)
    if opened.tell() > file.size:
        opened.truncate(0)
    opened.seek(0)
    while piece := opened.read(PIECE):
        hasher.update(piece)
    return opened.tell(), hasher


def _read(repository: Repository) -> dict[str, Any] | None:
    """The record of this revision; None where there is none, or it is of another or unreadable."""
    try:
        kept = json.loads((repository.beside / RECORD).read_text("utf-8"))[f"{repository.name}@{repository.revision}"]
        files = tuple(File(path, int(size), digest) for path, size, digest in kept["files"])
        return {**kept, "commit": str(kept["commit"]), "files": files, "whole": dict(kept["whole"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(repository: Repository, kept: dict[str, Any]) -> None:
    path = repository.beside / RECORD
    try:
        others = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        others = {}
    with _named(repository, RECORD):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**others, f"{repository.name}@{repository.revision}": kept})


def _is_whole(repository: Repository, file: File) -> bool:
    """Whether the file was compared with its hash and has not changed since."""
    kept = _read(repository)
    if kept is None:
        return False
    path = _snapshot(repository, kept["commit"]) / file.path
    return bool(kept["whole"].get(file.path) == _mark(path))


def _note_whole(repository: Repository, file: File, path: Path | None) -> None:
    """Keep that the file at `path` is whole; None for one that is not."""
    kept = _read(repository)
    if kept is not None:
        kept["whole"].pop(file.path, None)
        if path is not None:
            kept["whole"][file.path] = _mark(path)
        _keep(repository, kept)


def _mark(path: Path) -> list[int]:
    """What changes when a file does."""
    known = path.stat()
    return [known.st_size, known.st_mtime_ns]
