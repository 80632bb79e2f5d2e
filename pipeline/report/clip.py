"""A finished clip, ours or another program's, opened as a stranger's file: its frames, in time. Knows no face.

Like the doors of media.py: a regular file of a bounded size, in a format and a codec on the list, its length and its
pixels counted while it is read.
"""

import math
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import av
import numpy as np

from pipeline.boxes import promises_too_much
from pipeline.errors import ClipFileTooLarge, ClipTooLarge, ClipTooLong, ClipUnreadable, ClipWithoutPicture, FileMissing
from pipeline.media import MAX_BROKEN_PACKETS, MEBIBYTE

MAX_CLIP_MEBIBYTES = 512  # as for sounds, which are read from the same file; ten minutes at 7 Mbit/s
MAX_CLIP_SECONDS = 601.0  # ten minutes of sound, and the last frame
MAX_CLIP_FRAMES = 100_000  # ten minutes at 160 frames a second: beyond, the header's times lie
MAX_CLIP_MEGAPIXELS = 10.0  # a frame of 4096 x 2304
LONGEST_PX = 1280  # frames are shrunk to this: a face of a tenth of the width still has the pixels a mouth needs
SMALL_PX = 128  # longer side of the pictures whose stillness is measured: finer grain is the encoder's
CLIP_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2 matroska,webm avi mpegts mpeg flv ogg nut asf"  # FFmpeg's names
CLIP_CODECS = frozenset(
    ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "msmpeg4v3", "mjpeg", "prores", "theora")
)
USUAL_FPS = 25.0  # where a file does not say
LONGEST_GAP = 10.0  # seconds between two frames: a time farther off is damage


@dataclass(frozen=True)
class Picture:
    """One frame of a clip.

    Args:
        frame: As decoded.
        seconds: When it begins to be shown, from the first frame on.
        step: Seconds for which it is shown, as the frame rate says.
    """

    frame: av.VideoFrame
    seconds: float
    step: float

    @cached_property
    def pixels(self) -> np.ndarray:
        """(height, width, 3) uint8, RGB, upright; the longer side LONGEST_PX at most."""
        return self._as("rgb24", LONGEST_PX)

    @cached_property
    def small(self) -> np.ndarray:
        """(height, width) uint8, luminance, upright; the longer side SMALL_PX at most."""
        return self._as("gray", SMALL_PX)

    def _as(self, kind: str, longest_px: int) -> np.ndarray:
        width, height = self.frame.width, self.frame.height
        shrink = min(1.0, longest_px / max(width, height))
        size = {"width": max(2, round(width * shrink)), "height": max(2, round(height * shrink))} if shrink < 1 else {}
        # one thread: FFmpeg starts and ends its threads for every frame, which takes longer than the work
        shown = self.frame.reformat(format=kind, interpolation="AREA" if shrink < 1 else None, threads=1, **size)
        turns = round((self.frame.rotation or 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(shown.to_ndarray(), turns))


class Clip:
    """An open video file.

    Args:
        path: The file.

    Attributes:
        name: Of the file.
        width, height: Of a frame as it is coded, pixels.
        fps: Frames a second, as the header says.
        seconds: Length, as the header says; 0.0 where it does not.
        sound_start: Seconds by which the sound begins after the first frame; negative before; 0.0 without sound.

    Raises:
        FileMissing, ClipFileTooLarge, ClipUnreadable, ClipWithoutPicture, ClipTooLarge.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.name = self.path.name or str(path)
        self._check_file()
        with self._open() as container:
            videos = [
                one for one in container.streams.video if not one.disposition & av.stream.Disposition.attached_pic
            ]
            if not videos:
                raise ClipWithoutPicture(name=self.name)
            stream = videos[0]
            self._index = stream.index
            self.width, self.height = stream.width, stream.height
            if (
                stream.codec_context.name not in CLIP_CODECS
                and stream.codec_context.codec.canonical_name not in CLIP_CODECS
            ):
                raise ClipUnreadable(name=self.name)
            self._check_size(self.width, self.height)
            rate = float(stream.average_rate or stream.guessed_rate or USUAL_FPS)
            self.fps = rate if 1 <= rate <= 240 else USUAL_FPS
            duration = container.duration / av.time_base if container.duration else 0.0
            self.seconds = duration if 0 < duration <= MAX_CLIP_SECONDS * 10 else 0.0
            if self.seconds > MAX_CLIP_SECONDS:
                raise ClipTooLong(name=self.name, limit_seconds=MAX_CLIP_SECONDS - 1)
            sounds = [one.index for one in container.streams.audio[:1]]
        self.sound_start = self._first_time(sounds[0]) - self._first_time(self._index) if sounds else 0.0
        if not abs(self.sound_start) < LONGEST_GAP:
            self.sound_start = 0.0

    def pictures(self) -> Iterator[Picture]:
        """The frames in order, each decoded when it is asked for; of the first video stream.

        Raises:
            ClipUnreadable: too much of it is broken, or nothing is whole.
            ClipTooLarge, ClipTooLong: more than the header said.
        """
        step, first, last, count = 1 / self.fps, None, -1.0, 0
        for frame in self._frames():
            self._check_size(frame.width, frame.height)
            count += 1
            time = frame.time if frame.time is not None and math.isfinite(frame.time) else None
            if first is None:
                first = time or 0.0
            seconds = (time - first) if time is not None else last + step
            if not last < seconds < last + LONGEST_GAP:
                seconds = max(last, 0.0) + step
            if seconds > MAX_CLIP_SECONDS or count > MAX_CLIP_FRAMES:
                raise ClipTooLong(name=self.name, limit_seconds=MAX_CLIP_SECONDS - 1)
            last = seconds
            yield Picture(frame, seconds, step)
        if not count:
            raise ClipUnreadable(name=self.name)

    def _frames(self) -> Iterator[av.VideoFrame]:
        num_broken = 0
        with self._open() as container:
            packets = container.demux(container.streams[self._index])
            while True:
                try:
                    packet = next(packets, None)
                    frames = packet.decode() if packet is not None else []
                except (av.error.FFmpegError, OSError, ValueError) as error:
                    num_broken += 1
                    if num_broken > MAX_BROKEN_PACKETS:
                        raise ClipUnreadable(name=self.name) from error
                    continue
                if packet is None:
                    return
                yield from (frame for frame in frames if isinstance(frame, av.VideoFrame))

    def _first_time(self, index: int) -> float:
        """When the stream begins to be heard or seen, seconds of the file's clock; 0.0 where that is not known."""
        with self._open() as container:  # opened anew: after a seek, decoders may begin later
            try:
                for frame, _ in zip(
                    container.decode(container.streams[index]), range(MAX_BROKEN_PACKETS), strict=False
                ):
                    if isinstance(frame, av.VideoFrame | av.AudioFrame) and frame.time is not None:
                        return float(frame.time) if math.isfinite(frame.time) else 0.0
            except (av.error.FFmpegError, OSError, ValueError):  # what is broken is told by who reads it
                pass
        return 0.0

    def _open(self) -> av.container.InputContainer:
        # The protocol is named, so that no name of a file is taken for an address.
        options = {"format_whitelist": ",".join(CLIP_FORMATS.split()), "protocol_whitelist": "file"}
        try:
            with self.path.open("rb") as file:
                if promises_too_much(file, self.path.stat().st_size):
                    raise ClipUnreadable(name=self.name)
            return av.open(f"file:{self.path.absolute()}", "r", options=options, metadata_errors="replace")
        except FileNotFoundError as error:
            raise FileMissing(name=self.name) from error
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise ClipUnreadable(name=self.name) from error

    def _check_file(self) -> None:
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
                raise FileMissing(name=self.name)
            self.path.open("rb").close()
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            raise FileMissing(name=self.name) from error
        if status.st_size > MAX_CLIP_MEBIBYTES * MEBIBYTE:
            raise ClipFileTooLarge(
                name=self.name, mebibytes=status.st_size // MEBIBYTE, limit_mebibytes=MAX_CLIP_MEBIBYTES
            )

    def _check_size(self, width: int, height: int) -> None:
        if width < 16 or height < 16:
            raise ClipUnreadable(name=self.name)
        if width * height > MAX_CLIP_MEGAPIXELS * 1e6:
            raise ClipTooLarge(name=self.name, width=width, height=height, limit_megapixels=int(MAX_CLIP_MEGAPIXELS))
