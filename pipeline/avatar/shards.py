"""Tensors to a folder of safetensors shards as diffusers reads them, a tensor at a time, resumable and verified.

Knows files and bytes; which tensors there are, and under which names, is decided elsewhere.
"""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from pipeline.errors import WeightsUnreadable
from pipeline.files import full_disk_told, require_space, write_json
from pipeline.texts import LANGUAGES, say

STEM = "diffusion_pytorch_model"  # Source: diffusers, WEIGHTS_NAME
INDEX = f"{STEM}.safetensors.index.json"  # Source: diffusers, SAFE_WEIGHTS_INDEX_NAME
RECORD = "conversion.json"  # what has been written so far, from what, with which digest
STALE_SECONDS = 600  # without a byte: a part that nobody writes any more; the longest pause is one shard read back
ALIGNMENT = 8  # bytes; the tensors begin at a multiple of this. Source: the safetensors format
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
}  # the types a weight may have here, as a safetensors header names them

OnProgress = Callable[[int, int], None]  # bytes done, bytes in all


class Entry(NamedTuple):
    """One tensor to be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Its size in the file."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def reason(key: str, **values: Any) -> dict[str, str]:
    """The `reason` of an error in every language."""
    return {f"reason_{language}": say(key, language, **values) for language in LANGUAGES}


def write_shards(
    entries: Sequence[Entry],
    read: Callable[[Sequence[str]], Iterator[torch.Tensor]],
    folder: Path,
    *,
    source: Mapping[str, Any],
    shard_bytes: int,
    on_progress: OnProgress | None = None,
) -> None:
    """Write tensors as shards and their index.

    A shard appears under its name when it is whole: written under another, flushed to the disk, read back, and its
    SHA-256 compared. What is done stands in a record beside the shards; begun again with the same `source`, the work
    goes on after the last whole shard. The index appears last, so that a folder with an index is complete.

    Two processes may do the same work in the same folder at once: each writes under names of its own, and whichever
    is renamed last stays, byte for byte like the other.

    Args:
        entries: What to write, in order.
        read: The tensors of one shard, by name, in that order. Called once for each shard, so that it may open its
            source anew and give back the memory of the shard before.
        folder: Where; made when missing.
        source: What tells one source from another, as JSON holds it.
        shard_bytes: Size of a shard at most; a tensor above it has one of its own.
        on_progress: Told the bytes done and the bytes in all, after every tensor.

    Raises:
        SpaceMissing: the disk has less room than is needed; nothing was written.
        DiskFull: it filled up on the way; whole shards stay.
        WeightsUnreadable: a shard reads back different from what was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / RECORD
    digests = _resume(record, source)
    _remove_stale_parts(folder)
    shards = _split(entries, shard_bytes)
    files = [f"{STEM}-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    total = sum(entry.num_bytes for entry in entries)
    whole = {
        name for name, shard in zip(files, shards, strict=True) if _is_whole(folder / name, shard, digests.get(name))
    }
    needed = sum(_size(shard) for name, shard in zip(files, shards, strict=True) if name not in whole)
    require_space(folder, needed)
    done = 0
    with full_disk_told(folder):
        for name, shard in zip(files, shards, strict=True):
            if name not in whole:
                tensors = _counted(read([entry.name for entry in shard]), done, total, on_progress)
                digests[name] = _write_shard(folder / name, shard, tensors)
                write_json(record, {"source": dict(source), "sha256": digests})
            done += sum(entry.num_bytes for entry in shard)
            if on_progress and name in whole:
                on_progress(done, total)
        weight_map = {entry.name: name for name, shard in zip(files, shards, strict=True) for entry in shard}
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _resume(record: Path, source: Mapping[str, Any]) -> dict[str, str]:
    """The digests of shards written from `source` before; those of another source are deleted, the index first."""
    found = _read_record(record)
    digests: dict[str, str] = found["sha256"]
    if found["source"] == dict(source):
        return digests
    record.with_name(INDEX).unlink(missing_ok=True)
    for name in digests:
        (record.parent / Path(name).name).unlink(missing_ok=True)
    record.unlink(missing_ok=True)
    return {}


def _read_record(record: Path) -> dict[str, Any]:
    """What the record says: "source", and "sha256" of every shard; None and nothing where there is none."""
    try:
        found = json.loads(record.read_text("utf-8"))
        return {"source": found["source"], "sha256": dict(found["sha256"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"source": None, "sha256": {}}


def _remove_stale_parts(folder: Path) -> None:
    """Delete what a process that was killed left half written."""
    for part in folder.glob("*.part"):
        try:
            if time.time() - part.lstat().st_mtime > STALE_SECONDS:
                part.unlink()
        except FileNotFoundError:  # another process was faster
            continue


def is_written(folder: Path, source: Mapping[str, Any] | None) -> bool:
    """Whether the shards in `folder` were written from `source`, to the end, and every one still has its length.

    Their bytes are not read: `write_shards` does that.

    Args:
        folder: As in `write_shards`.
        source: As in `write_shards`; None for any.
    """
    if source is not None and _read_record(folder / RECORD)["source"] != dict(source):
        return False
    try:
        names = set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values())
        for name in names:
            with safe_open(folder / name, "pt"):
                pass
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError):
        return False
    return True


def _split(entries: Sequence[Entry], shard_bytes: int) -> list[list[Entry]]:
    """Runs of entries, each within `shard_bytes` where it has more than one."""
    shards: list[list[Entry]] = []
    room = 0
    for entry in entries:
        if not shards or entry.num_bytes > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(entry)
        room -= entry.num_bytes
    return shards


def _header(shard: Sequence[Entry]) -> bytes:
    """The beginning of a safetensors file: the length of what follows, then names, types, shapes, places."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in shard:
        begin, end = end, end + entry.num_bytes
        table[entry.name] = {"dtype": DTYPES[entry.dtype], "shape": entry.shape, "data_offsets": (begin, end)}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _size(shard: Sequence[Entry]) -> int:
    """Bytes of a whole shard."""
    return len(_header(shard)) + sum(entry.num_bytes for entry in shard)


def _is_whole(path: Path, shard: Sequence[Entry], digest: str | None) -> bool:
    """Whether the shard is there as it was written."""
    if digest is None or not path.is_file() or path.stat().st_size != _size(shard):
        return False
    with path.open("rb") as file:
        header = _header(shard)
        return file.read(len(header)) == header and _sha256(file) == digest


def _sha256(file: BufferedReader) -> str:
    """Of the whole file, whatever has been read of it."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _counted(
    tensors: Iterable[torch.Tensor], done: int, total: int, on_progress: OnProgress | None
) -> Iterator[torch.Tensor]:
    """The tensors; after each has been written, its bytes are told."""
    for tensor in tensors:
        yield tensor
        done += tensor.nbytes
        if on_progress:
            on_progress(done, total)


def _write_shard(path: Path, shard: Sequence[Entry], tensors: Iterator[torch.Tensor]) -> str:
    """Write one shard, read it back and return its SHA-256; on any trouble, nothing is left."""
    part = _part_of(path)
    digest = hashlib.sha256()
    try:
        with part.open("wb") as file:
            header = _header(shard)
            file.write(header)
            digest.update(header)
            for entry, tensor in zip(shard, tensors, strict=True):
                if (tensor.dtype, tuple(tensor.shape)) != (entry.dtype, entry.shape):
                    raise ValueError(f"{entry} was announced, {tensor.dtype} {tuple(tensor.shape)} given")
                data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
                file.write(data)
                digest.update(data)
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):  # forget what is in memory, so that the disk itself is read back
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if not _is_whole(part, shard, digest.hexdigest()):
            size = part.stat().st_size
            raise WeightsUnreadable(name=path.name, bytes=size, **reason("WeightsReadBackDiffers"))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return digest.hexdigest()


def _part_of(path: Path) -> Path:
    """A name to write a file under until it is whole, never given twice."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
