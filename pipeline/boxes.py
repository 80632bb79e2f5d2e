"""Looks through an MP4's index before FFmpeg does: it may not name more samples than its file can hold.

FFmpeg makes room for every sample that an index names, 24 bytes each and more, before it looks for one: 1 KB that
names 80 million takes 2.8 GB. Decodes nothing; other kinds of files pass.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

FOLDERS = (b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"moof", b"traf")  # boxes of boxes, down to an index
COMPRESSED = b"cmov"  # an index that would have to be unpacked first; nobody has written one in twenty years
DEEPEST = 10  # boxes in boxes. Source: FFmpeg, mov.c, mov_read_default
MOST_BOXES = 200_000  # ten minutes cut into a fragment per frame have 120 000
MOST_INDEXED = 2_000_000  # samples; three hours of video with sound have 1.2 million
MOST_PER_BYTE = 8  # samples of sound in a byte, where they are not indexed one by one: MACE has 6
MOST_RUNS = 100_000  # of chunks alike long, in all tables


@dataclass
class _Track:
    """What its boxes say.

    Args:
        num_edits: Pieces that are played one after the other.
        num_samples: With a size each.
        num_chunks: That hold them.
        runs: First chunk from 1, and samples in each from there on.
        is_counted: Whether they are sound, each of length 1, of which FFmpeg indexes 1024 at once.
    """

    num_edits: int = 0
    num_samples: int = 0
    num_chunks: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)
    is_counted: bool = False

    @property
    def num_in_chunks(self) -> int:
        """Samples by the tables of chunks."""
        ends = [first for first, _ in self.runs[1:]] + [self.num_chunks + 1]
        return sum(count * max(end - first, 0) for (first, count), end in zip(self.runs, ends, strict=False))


def promises_too_much(file: BinaryIO, size: int) -> bool:
    """Whether an index in the file names more samples than there can be.

    Args:
        file: Open, anywhere.
        size: Of the file, bytes.
    """
    tracks, num_runs, num_fragmented = [_Track()], 0, 0
    for number, (kind, start, length) in enumerate(_boxes(file, 0, size, 0)):
        if kind == COMPRESSED or number == MOST_BOXES:
            return True
        track, numbers = tracks[-1], _numbers(file, start + 4, length - 4, 3)
        if kind == b"trak":
            tracks.append(_Track())
        elif kind == b"elst" and numbers:
            track.num_edits += numbers[0]
        elif kind == b"stts":
            track.is_counted = numbers[::2] == (1, 1)
        elif kind in (b"stsz", b"stz2") and len(numbers) > 1:
            track.num_samples += numbers[1]
        elif kind in (b"stco", b"co64") and numbers:
            track.num_chunks += numbers[0]
        elif kind == b"trun" and numbers:
            num_fragmented += numbers[0]
        elif kind == b"stsc" and numbers:
            num_runs += numbers[0]
            if num_runs > MOST_RUNS:
                return True
            table = _numbers(file, start + 8, length - 8, 3 * numbers[0])
            track.runs += zip(table[::3], table[1::3], strict=False)
    num_indexed = num_fragmented + sum(one.num_samples * max(1, one.num_edits) for one in tracks if not one.is_counted)
    num_counted = sum(
        max(one.num_samples, one.num_in_chunks) * max(1, one.num_edits) for one in tracks if one.is_counted
    )
    return num_indexed > min(MOST_INDEXED, size) or num_counted > MOST_PER_BYTE * size


def _boxes(file: BinaryIO, start: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
    """Every box between two places and those inside: its kind, and where its content starts and how long it is."""
    while end - start >= 8:
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        header = 8
        if length == 1:
            (length,), header = struct.unpack(">Q", file.read(8).ljust(8, b"\0")), 16
        length = end - start if length == 0 else min(length, end - start)
        if length < header:
            return
        yield kind, start + header, length - header
        if kind in FOLDERS and depth < DEEPEST:
            yield from _boxes(file, start + header, start + length, depth + 1)
        start += length


def _numbers(file: BinaryIO, start: int, room: int, count: int) -> tuple[int, ...]:
    """So many 32-bit numbers, or as many as there are within `room` bytes."""
    file.seek(start)
    content = file.read(max(0, min(room, 4 * count)))
    return struct.unpack(f">{len(content) // 4}I", content[: len(content) // 4 * 4])
