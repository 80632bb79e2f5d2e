"""Files to arrays and back: a portrait, a voice, an mp4 with sound. Knows no model.

Both doors look at the file before its content: a regular file, of a bounded size, in a format on the list; then the
header; then the content, counted while it is read. What they turn away leaves as an AvatarError with its values.
"""

import contextlib
import errno
import io
import itertools
import os
import queue
import secrets
import shutil
import stat
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final

import av
import numpy as np
import pillow_heif
from PIL import Image, ImageCms, ImageOps

from pipeline.errors import (
    AvatarError,
    DiskFull,
    EncodingFailed,
    FileMissing,
    OutputNotWritable,
    PictureDamaged,
    PictureFileTooLarge,
    PictureTooLarge,
    PictureTooSmall,
    PictureUnreadable,
    SoundFileTooLarge,
    SoundMissing,
    SoundSilent,
    SoundTooLong,
    SoundTooShort,
    SoundUnreadable,
)
from pipeline.plan import ClipPlan
from pipeline.texts import LANGUAGES, Notice, say

MEBIBYTE = 2**20  # bytes

MAX_PICTURE_MEBIBYTES = 64  # a 50-megapixel camera JPEG weighs 15 to 30
MAX_MEGAPIXELS = 50  # the largest common camera; 150 MB as RGB
MIN_PICTURE_PX = 256  # short side: the smallest clip (request.SMALLEST_SIZE); below it, lips are a few pixels
BACKDROP = (224, 224, 224)  # behind transparent pictures: studio-paper grey, which neither burns nor darkens hair
PICTURE_FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "AVIF",
    "HEIF",
    "TIFF",
    "BMP",
    "GIF",
    "JPEG2000",
)  # names in Pillow's register

SAMPLE_RATE = 16_000  # Hz; what the phoneme model hears
MAX_SOUND_MEBIBYTES = 512  # ten minutes of 96 kHz, 32-bit stereo weigh 440
MAX_SECONDS = 600.0  # of sound: ten minutes
MIN_SECONDS = 0.4  # of sound: ten frames; a shorter one holds no word
SILENT_PEAK = 1e-4  # of full scale, -80 dB: below the noise of any microphone
QUIET_DB = -40.0  # mean level of the louder parts, dB of full scale; a usual voice is near -20
CLIPPED_LEVEL, CLIPPED_SHARE = 0.999, 0.001  # of full scale; of all samples: more than 0.1 % there is not chance
MAX_BROKEN_PACKETS = 50  # about a second of MP3: damage one can hear past
LOUDEST = 100.0  # times full scale: a float sample beyond it, like NaN, is damage and not sound
SOUND_RATES = range(4_000, 768_001)  # Hz; a header that says otherwise lies, and would make a resampler of gigabytes
SOUND_FORMATS = (  # FFmpeg's names. Left out: playlists and scripts, which make it open other files and addresses
    "aac ac3 aiff amr amrnb amrwb ape asf au avi caf dts dv eac3 flac flv loas matroska,webm mov,mp4,m4a,3gp,3g2,mj2 "
    "mp3 mpc mpc8 mpeg mpegts mxf nut ogg rm sox tta voc w64 wav wtv wv"
)

PICTURE_CODEC: Final = "libx264"
SOUND_CODEC: Final = "aac"
# Constant quality 18 keeps skin free of blocks; of libx264's presets "veryfast" gave the smallest files of such clips
# (a still background, a little motion) at 6 ms of processor time a frame of 512x512, conversion to YUV included.
X264_OPTIONS = {"crf": "18", "preset": "veryfast", "profile": "high"}
SECONDS_BETWEEN_KEYFRAMES = 10  # as x264 has it; each draws the still background anew, which shows as a small step
BT709 = 1  # code of the colour space, primaries and transfer that players assume for video
AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)  # Hz
AAC_OTHER_RATE = 48_000  # Hz, for the rates AAC has no code for
AAC_BITS_PER_SECOND = {1: 128_000, 2: 256_000}  # by channels; voice is transparent well below
# FFmpeg's other way of choosing steps, "twoloop", starts some recordings with a burst of noise (a tone of 0.40 peaked
# at 0.76 in its first milliseconds) and, on our voices, takes twice the time for the same distance from the original.
AAC_OPTIONS = {"aac_coder": "fast"}
AAC_BLOCK = 1024  # samples; what the encoder takes at a time
QUEUED_FRAMES = 8  # drawn and waiting for the encoder: evens out both sides' pace, 19 MB at 1080x1080
LITTLE_SPACE = 4 * MEBIBYTE  # with less than this free, a failed write is told as a full disk


# --- the portrait -------------------------------------------------------------------------------------------------


def load_portrait(path: Path) -> np.ndarray:
    """Read a picture as people see it: turned upright, on a plain backdrop where transparent, in sRGB.

    The picture is not rescaled, so that points given in its pixels keep their meaning. Of an animation, the first
    frame. No metadata is kept.

    Args:
        path: A file in one of PICTURE_FORMATS.

    Returns:
        (height, width, 3) uint8, RGB; the short side at least MIN_PICTURE_PX, MAX_MEGAPIXELS at most in all.

    Raises:
        FileMissing, PictureFileTooLarge, PictureUnreadable, PictureTooLarge, PictureTooSmall, PictureDamaged.
    """
    path = Path(path)
    name = _check_file(path, MAX_PICTURE_MEBIBYTES, PictureFileTooLarge)
    pillow_heif.register_heif_opener()
    with path.open("rb") as stream:
        try:
            picture = Image.open(stream, formats=PICTURE_FORMATS)
            width, height = picture.size
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            width, height = _size_of_bomb(stream)
            raise _too_large(name, width, height) from error
        except Exception as error:  # whatever a decoder makes of bytes that are no picture
            raise PictureUnreadable(name=name) from error
        if width * height > MAX_MEGAPIXELS * 1e6:
            raise _too_large(name, width, height)
        if min(width, height) < MIN_PICTURE_PX:
            raise PictureTooSmall(name=name, width=width, height=height, limit_px=MIN_PICTURE_PX)
        try:
            picture.load()
            pixels = _as_seen(picture)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error ...
            raise PictureDamaged(name=name) from error
    return pixels


def _size_of_bomb(stream: io.BufferedReader) -> tuple[int, int]:
    """(width, height) in the header of a picture so large that Pillow will not open it."""
    for file_format in PICTURE_FORMATS:
        open_header, _ = Image.OPEN[file_format]
        stream.seek(0)
        with contextlib.suppress(Exception):
            return open_header(stream, "").size
    return 0, 0


def _too_large(name: str, width: int, height: int) -> PictureTooLarge:
    megapixels = width * height / 1e6
    return PictureTooLarge(
        name=name, width=width, height=height, megapixels=megapixels, limit_megapixels=MAX_MEGAPIXELS
    )


def _as_seen(picture: Image.Image) -> np.ndarray:
    """A decoded picture of any mode as (height, width, 3) uint8, RGB."""
    profile = picture.info.get("icc_profile")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("F", "I") or picture.mode.startswith("I;16"):
        picture = _in_eight_bits(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        backdrop = Image.new("RGBA", picture.size, (*BACKDROP, 255))
        picture = Image.alpha_composite(backdrop, picture).convert("RGB")
    if profile and picture.mode in ("RGB", "CMYK", "L"):
        # A profile that lcms refuses is left aside, as browsers do.
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "sRGB" not in ImageCms.getProfileDescription(theirs):
                ours = ImageCms.createProfile("sRGB")
                picture = ImageCms.profileToProfile(picture, theirs, ours, outputMode="RGB") or picture
    return np.array(picture.convert("RGB"))


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    """A gray picture of 16 or 32 bits or floats with its full scale brought to 255: 1, 255, 65535, or its maximum."""
    values = np.nan_to_num(np.asarray(picture, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(values.max())
    if picture.mode.startswith("I;16"):
        full_scale = 65_535.0
    else:
        scales = (1.0, 255.0, 65_535.0) if picture.mode == "F" else (255.0, 65_535.0)
        full_scale = next((scale for scale in scales if largest <= scale), largest)
    return Image.fromarray(np.clip(values * (255.0 / full_scale), 0, 255).round().astype(np.uint8))


def _check_file(path: Path, limit_mebibytes: int, too_large: type[AvatarError]) -> str:
    """The file's name for messages, once it is known to be a regular file of a bounded size.

    Raises:
        FileMissing: it is not there, not a regular file (a pipe would be waited for), or not open to us.
    """
    name = path.name or str(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileMissing(name=name)
        path.open("rb").close()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise FileMissing(name=name) from error
    if status.st_size > limit_mebibytes * MEBIBYTE:
        raise too_large(name=name, mebibytes=status.st_size // MEBIBYTE, limit_mebibytes=limit_mebibytes)
    return name


# --- the voice ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speech:
    """A voice, read in.

    Args:
        path: The file it came from, which the clip's sound is read from again.
        waveform: (samples,) float32 in [-1, 1], mono, 16 000 Hz.
        seconds: Length of the original, by counted samples.
        notices: What the user should know about the recording.
    """

    path: Path
    waveform: np.ndarray
    seconds: float
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class _Sound:
    """A few milliseconds of decoded sound.

    Args:
        samples: (channels, samples) float32, finite, 1 the full scale.
        layout: FFmpeg's name for which channel is which.
        rate: Hz.
    """

    samples: np.ndarray
    layout: str
    rate: int


def load_speech(path: Path) -> Speech:
    """Read the sound of an audio or video file, its first audio stream.

    Lengths are counted in decoded samples, never taken from headers, and reading stops where the limit is passed.
    Only the 16 kHz waveform is held: 38 MB for ten minutes.

    Args:
        path: A file in one of SOUND_FORMATS.

    Raises:
        FileMissing, SoundFileTooLarge, SoundUnreadable, SoundMissing, SoundSilent, SoundTooShort, SoundTooLong.
    """
    path = Path(path)
    name = _check_file(path, MAX_SOUND_MEBIBYTES, SoundFileTooLarge)
    seconds, peak, num_samples, num_clipped = Fraction(0), 0.0, 0, 0
    resampled = bytearray()
    mono = _Resampler(layout="mono", rate=SAMPLE_RATE)
    for sound in _decode(path):
        seconds += Fraction(sound.samples.shape[1], sound.rate)
        if seconds > MAX_SECONDS:
            raise SoundTooLong(name=name, limit_seconds=MAX_SECONDS)
        level = np.abs(sound.samples)
        peak = max(peak, float(level.max()))
        num_samples += level.size
        num_clipped += int(np.count_nonzero(level >= CLIPPED_LEVEL))
        for piece in mono.feed(sound):
            resampled += piece.tobytes()
    for piece in mono.feed(None):
        resampled += piece.tobytes()

    if not num_samples:
        raise SoundMissing(name=name)
    if float(seconds) < MIN_SECONDS:
        raise SoundTooShort(name=name, seconds=float(seconds), limit_seconds=MIN_SECONDS)
    if peak < SILENT_PEAK:
        raise SoundSilent(name=name, seconds=float(seconds))
    waveform = np.frombuffer(resampled, np.float32)  # writable: a bytearray's
    np.clip(waveform, -1.0, 1.0, out=waveform)  # resampling overshoots a clipped sound by some percent
    notices = []
    if num_clipped > CLIPPED_SHARE * num_samples:
        notices.append(Notice("SoundClipped"))
    if _level_db(waveform) < QUIET_DB:
        notices.append(Notice("SoundVeryQuiet"))
    return Speech(path, waveform, float(seconds), tuple(notices))


def _level_db(waveform: np.ndarray) -> float:
    """Mean level of the louder parts of a waveform, dB of full scale: BS.1770's gating without its K weighting."""
    block = int(0.4 * SAMPLE_RATE)
    blocks = [waveform[start : start + block] for start in range(0, len(waveform), block)]
    powers = np.array([float(np.dot(part, part)) / len(part) for part in blocks])
    powers = powers[powers > 1e-7]  # absolute gate, -70 dB
    if not len(powers):
        return -np.inf
    powers = powers[powers >= powers.mean() / 10]  # relative gate, -10 dB
    return float(10 * np.log10(powers.mean()))


def _decode(path: Path) -> Generator[_Sound, None, None]:
    """The first audio stream of a file, piece by piece, damage taken out.

    Raises:
        SoundMissing: there is no audio stream.
        SoundUnreadable: FFmpeg cannot read it, or too much of it is broken.
    """
    name = path.name
    options = {"format_whitelist": ",".join(SOUND_FORMATS.split()), "protocol_whitelist": "file"}
    num_broken, found_any = 0, False
    try:
        # The protocol is named, so that no name of a file is taken for an address.
        with av.open(f"file:{path.absolute()}", "r", options=options, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise SoundMissing(name=name)
            converter, converted_kind = av.AudioResampler("flt"), None
            packets = container.demux(container.streams.audio[0])
            while True:
                try:
                    packet = next(packets, None)
                    frames = packet.decode() if packet is not None else []
                except av.error.FFmpegError:
                    num_broken += 1
                    if num_broken > MAX_BROKEN_PACKETS:
                        raise
                    continue
                if packet is None:
                    break
                for frame in frames:
                    if frame.sample_rate not in SOUND_RATES:
                        raise SoundUnreadable(name=name)
                    kind = (frame.format.name, frame.layout.name, frame.sample_rate)
                    if kind != converted_kind:
                        converter, converted_kind = av.AudioResampler("flt"), kind
                    frame.pts = None  # a resampler would fill gaps between times; we count samples
                    for converted in converter.resample(frame):
                        found_any = True
                        yield _Sound(_as_channels(converted), frame.layout.name, frame.sample_rate)
    except FileNotFoundError as error:
        raise FileMissing(name=name) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SoundUnreadable(name=name) from error
    if num_broken and not found_any:
        raise SoundUnreadable(name=name)


def _as_channels(frame: av.AudioFrame) -> np.ndarray:
    """(channels, samples) float32 of a frame in the interleaved format "flt", NaN and absurd samples made silent."""
    # Only interleaved frames are opened: PyAV 18.1 reads past the end of planar ones with eight channels.
    samples = frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T
    sane = np.abs(samples) < LOUDEST  # False for NaN
    return samples if sane.all() else np.where(sane, samples, np.float32(0))


class _Resampler:
    """Sound to another rate and other channels, across changes of format in the middle of a file.

    Args:
        layout: FFmpeg's name of the channels wanted.
        rate: Hz.
    """

    def __init__(self, *, layout: str, rate: int) -> None:
        self.layout, self.rate = layout, rate
        self._source: tuple[str, int] | None = None
        self._resampler: av.AudioResampler | None = None

    def feed(self, sound: _Sound | None) -> Iterator[np.ndarray]:
        """Give a piece, None for the end, and take what is ready: (channels, samples) float32, finite."""
        source = None if sound is None else (sound.layout, sound.rate)
        if source != self._source:
            if self._resampler is not None:
                yield from self._take(None)
            self._source, self._resampler = source, None
        if sound is None or source == (self.layout, self.rate):
            if sound is not None:
                yield sound.samples
            return
        if self._resampler is None:
            # Without rematrix_maxval, float channels mixed into fewer come out up to 1.4 times full scale.
            self._resampler = av.AudioResampler("fltp", self.layout, self.rate, options={"rematrix_maxval": "1"})
        yield from self._take(_frame_of(sound, "flt"))

    def _take(self, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:
        assert self._resampler is not None
        for resampled in self._resampler.resample(frame):
            yield np.nan_to_num(resampled.to_ndarray(), copy=False)


def _frame_of(sound: _Sound, sample_format: str) -> av.AudioFrame:
    """A piece of sound in FFmpeg's format "flt" or "fltp", without a time: resamplers then count by themselves."""
    samples = sound.samples if sample_format == "fltp" else sound.samples.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=sample_format, layout=sound.layout)
    frame.sample_rate = sound.rate
    return frame


# --- the clip -----------------------------------------------------------------------------------------------------


class VideoWriter:
    """Writes a clip while it is drawn: frames from the caller, the original sound from the recording's file.

        with VideoWriter(path, speech, plan) as writer:
            for frame in frames:
                writer.add(frame)

    An encoder thread takes the frames from a short queue, so that drawing and encoding go on at once and memory does
    not grow with the clip. The file appears at `path`, whole, when the block ends; when it ends by an exception,
    nothing is left.

    Args:
        path: Where the mp4 goes. A file there is replaced.
        speech: The voice. Its file is read again, for the sound at its own rate and with up to two channels.
        plan: Frames, rate and size.

    Raises:
        OutputNotWritable: the folder is missing or closed to us, or `path` is not a place for a file. Raised on
            entering, before anything is drawn.
        DiskFull, EncodingFailed: writing failed, in `add` or at the end.
        SoundUnreadable, FileMissing: the recording went away or changed meanwhile.
    """

    def __init__(self, path: Path, speech: Speech, plan: ClipPlan) -> None:
        self.path, self._voice, self._plan = Path(path), speech.path, plan
        self._frames: queue.Queue[np.ndarray | None] = queue.Queue(QUEUED_FRAMES)
        self._num_added = 0
        self._abandoned = False
        self._error: BaseException | None = None

    def __enter__(self) -> "VideoWriter":
        try:
            self._target = Path(os.path.realpath(self.path))
            if self._target.exists() and not self._target.is_file():
                raise OutputNotWritable(path=str(self.path))
            # In the target's folder, so that the last step is a rename; opened by us, so that it gets the user's
            # usual permissions.
            self._temporary = self._target.with_name(f".{secrets.token_hex(8)}.mp4")
            os.close(os.open(self._temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except (OSError, ValueError) as error:
            raise self._worded(error, opening=True) from error
        self._thread = threading.Thread(target=self._encode, name="encoder", daemon=True)
        self._thread.start()
        return self

    def add(self, frame: np.ndarray) -> None:
        """Hand over the next frame; from now on it belongs to the writer, and must not be drawn into again.

        Args:
            frame: (plan.height, plan.width, 3) uint8, RGB, C-contiguous.

        Raises:
            ValueError: it is of another kind, or one more than planned.
        """
        expected = (self._plan.height, self._plan.width, 3)
        if frame.shape != expected or frame.dtype != np.uint8 or not frame.flags.c_contiguous:
            raise ValueError(f"a frame must be {expected} uint8, C-contiguous; got {frame.shape} {frame.dtype}")
        if self._num_added == self._plan.num_frames:
            raise ValueError(f"the plan has {self._plan.num_frames} frames, here is one more")
        if self._error is not None:
            raise self._error
        self._num_added += 1
        self._frames.put(frame)  # never for ever: the thread empties the queue even after a failure

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._abandoned = kind is not None
        try:
            self._frames.put(None)
            self._thread.join()
            if kind is not None:
                return
            if self._error is not None:
                raise self._error
            if self._num_added != self._plan.num_frames:
                raise ValueError(f"the plan has {self._plan.num_frames} frames, {self._num_added} were added")
            try:
                with self._temporary.open("rb+") as written:
                    os.fsync(written.fileno())
                self._temporary.replace(self._target)
            except OSError as failure:
                raise self._worded(failure, opening=True) from failure
        finally:
            self._temporary.unlink(missing_ok=True)

    def _encode(self) -> None:
        """What the thread does: take frames to the last, encode them until something fails."""
        taken = self._taken()
        try:
            self._write(taken)
        except BaseException as error:
            worded = self._worded(error)
            if worded is not error:
                worded.__cause__ = error
            self._error = worded
            for _ in taken:  # the same iterator: finishing the file can fail after the last frame was taken
                pass

    def _taken(self) -> Iterator[np.ndarray]:
        """Frames as they come, to the last."""
        while (frame := self._frames.get()) is not None:
            yield frame

    def _write(self, frames: Iterator[np.ndarray]) -> None:
        """Encode frames and sound side by side into the temporary file, and finish it."""
        plan = self._plan
        options = {"movflags": "+faststart"}  # the index in front: a page can play while it loads
        with contextlib.closing(_decode(self._voice)) as sounds:
            first = next(sounds, None)
            if first is None:
                raise SoundMissing(name=self._voice.name)
            with av.open(os.fspath(self._temporary), "w", format="mp4", options=options) as container:
                container.metadata["comment"] = " · ".join(say("ClipComment", language) for language in LANGUAGES)
                picture = container.add_stream(PICTURE_CODEC, rate=plan.fps, options=X264_OPTIONS)
                picture.height, picture.width, picture.pix_fmt = plan.height, plan.width, "yuv420p"
                picture.codec_context.gop_size = SECONDS_BETWEEN_KEYFRAMES * plan.fps
                picture.codec_context.colorspace = BT709
                picture.codec_context.color_primaries = BT709
                picture.codec_context.color_trc = BT709
                picture.codec_context.color_range = av.video.reformatter.ColorRange.MPEG
                rate = first.rate if first.rate in AAC_RATES else AAC_OTHER_RATE
                layout = "mono" if len(first.samples) == 1 else "stereo"
                sound = container.add_stream(SOUND_CODEC, rate=rate, layout=layout, options=AAC_OPTIONS)
                sound.bit_rate = AAC_BITS_PER_SECOND[1 if layout == "mono" else 2]

                blocks = _blocks(
                    itertools.chain([first], sounds),
                    _Resampler(layout=layout, rate=rate),
                    num_samples=-(-plan.num_frames * rate // plan.fps),
                )
                num_heard = 0
                for number, frame in enumerate(frames):
                    if self._abandoned:
                        continue
                    shown = av.VideoFrame.from_numpy_buffer(frame, format="rgb24").reformat(
                        format="yuv420p", dst_colorspace=BT709, src_color_range="JPEG", dst_color_range="MPEG"
                    )
                    shown.pts, shown.time_base = number, Fraction(1, plan.fps)
                    container.mux(picture.encode(shown))
                    # Sound up to the end of this frame, so that neither waits in memory for the other.
                    while num_heard * plan.fps < (number + 1) * rate and (block := next(blocks, None)) is not None:
                        container.mux(sound.encode(_timed(block, layout, rate, num_heard)))
                        num_heard += block.shape[1]
                if self._abandoned:
                    return
                container.mux(picture.encode())
                container.mux(sound.encode())

    def _worded(self, error: BaseException, *, opening: bool = False) -> BaseException:
        """The error a visitor can read, where it comes from the disk or the encoder; else itself."""
        if not isinstance(error, (OSError, av.error.FFmpegError)) or isinstance(error, AvatarError):
            if opening and isinstance(error, ValueError):  # a null byte in the path
                return OutputNotWritable(path=str(self.path))
            return error
        free = None
        with contextlib.suppress(OSError, ValueError):
            free = shutil.disk_usage(self._target.parent).free
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or (not opening and free is not None and free < LITTLE_SPACE):
            return DiskFull(path=str(self.path.parent), free_mebibytes=(free or 0) // MEBIBYTE)
        if opening:
            return OutputNotWritable(path=str(self.path))
        return EncodingFailed(detail=str(error))


def _blocks(sounds: Iterator[_Sound], resampler: _Resampler, *, num_samples: int) -> Iterator[np.ndarray]:
    """Sound in the encoder's blocks, exactly `num_samples` in all: cut, or followed by silence.

    Yields:
        (channels, AAC_BLOCK) float32; the last may be shorter.
    """
    num_channels = 1 if resampler.layout == "mono" else 2
    waiting = np.zeros((num_channels, 0), np.float32)
    pieces = (piece for sound in itertools.chain(sounds, [None]) for piece in resampler.feed(sound))
    left = num_samples
    while left:
        size = min(AAC_BLOCK, left)
        while waiting.shape[1] < size:
            piece = next(pieces, None)
            if piece is None:
                piece = np.zeros((num_channels, size - waiting.shape[1]), np.float32)
            waiting = np.concatenate([waiting, piece], axis=1)
        yield waiting[:, :size]
        waiting = waiting[:, size:]
        left -= size


def _timed(block: np.ndarray, layout: str, rate: int, start: int) -> av.AudioFrame:
    """A block as the encoder takes it, `start` samples into the clip."""
    frame = _frame_of(_Sound(block, layout, rate), "fltp")
    frame.pts, frame.time_base = start, Fraction(1, rate)
    return frame
