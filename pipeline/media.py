"""Files to arrays and back: a portrait, a voice, an mp4 with sound. Knows no model.

Both doors look at the file before its content: a regular file, of a bounded size, in a format on the list; then the
header; then the content, counted while it is read. What they turn away leaves as an AvatarError with its values.
"""

import contextlib
import errno
import functools
import io
import itertools
import mmap
import os
import queue
import re
import secrets
import shutil
import stat
import threading
import wave
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import av
import numpy as np
import pillow_heif
from av.codec.codec import UnknownCodecError
from PIL import Image, ImageCms, ImageOps

from pipeline.boxes import promises_too_much
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
    SoundTooDetailed,
    SoundTooLong,
    SoundTooShort,
    SoundUnreadable,
)
from pipeline.files import PART, locked_file, sweep, written_whole
from pipeline.plan import ClipPlan
from pipeline.texts import LANGUAGES, Notice, say
from pipeline.units import MEBIBYTE
from pipeline.voice.spoken import Line

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

MAX_JPEG_SCANS = 100  # coarse to fine; encoders make 10. Each is a walk over all pixels, and may be 10 bytes long
MAX_JPEG_MARKS = 2000  # in all: tables and notes between scans
JPEG_MARK = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # neither data nor a restart
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of TIFF
# Pillow walks through a file's chunks in Python and may join them one by one, and there may be millions: each time it
# reads, this is counted, and what it reads if that is little (64 KiB: a segment of a JPEG), until nothing is left.
READ_COST, SMALL_READ = 8 * 2**10, 64 * 2**10  # bytes
HEADER_ALLOWANCE = 32 * MEBIBYTE  # 1300 chunks of a PNG, 2000 of a GIF, 300 full segments of a JPEG
PIXELS_ALLOWANCE = 1024 * MEBIBYTE  # 64 MiB of PNG in chunks of 2 KB

SAMPLE_RATE = 16_000  # Hz; what the phoneme model hears
MAX_SOUND_MEBIBYTES = 512  # ten minutes of 96 kHz, 32-bit stereo weigh 440
MAX_SECONDS = 600.0  # of sound: ten minutes
MIN_SECONDS = 0.4  # of sound: ten frames; a shorter one holds no word
MAX_VALUES = int(MAX_SECONDS) * 96_000 * 8  # samples of all channels: studio quality; read at 90 million a second
SILENT_PEAK = 1e-4  # of full scale, -80 dB: below the noise of any microphone
LEVEL_BLOCK = int(0.4 * SAMPLE_RATE)  # samples whose power is measured at once. Source: ITU-R BS.1770
QUIET_DB = -40.0  # mean level of the louder parts, dB of full scale; a usual voice is near -20
CLIPPED_LEVEL, CLIPPED_SHARE = 0.999, 0.001  # of full scale; of all samples: more than 0.1 % there is not chance
MIX_RATE = 48_000  # Hz, of a mix at most: what AAC is heard at
MATCH_DB = 12.0  # a quiet voice is raised by this to meet the loudest at most; what lies lower is mostly noise
CEILING = 0.97  # of full scale, where a mix is held: AAC overshoots by some hundredths
LIMITER_SECONDS = 0.005  # in which it gives way before a peak, and after: shorter distorts, longer is heard
MIX_BLOCK = 2**15  # samples limited at once
MAX_BROKEN_PACKETS = 50  # about a second of MP3: damage one can hear past
MOST_CHANNELS = 8  # that are mixed by where they stand; of more, FFmpeg refuses some numbers
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
CAPTION_CODEC: Final = "mov_text"
CAPTION_STYLE = b"[Script Info]\n"  # the encoder insists on one; where it says nothing, the encoder's own is taken
LANGUAGE_TAGS = {"en": "eng", "fr": "fra", "es": "spa", "it": "ita", "pt": "por", "de": "deu"}  # ISO 639-2, as in mp4
MILLISECOND = Fraction(1, 1000)  # seconds
MAX_TITLE_BYTES = 255  # of a chapter's title. Source: FFmpeg, movenc.c, mov_write_chpl_tag
MAX_CAPTION_BYTES = 2**16 - 1  # whose number goes into two bytes
QUEUED_FRAMES = 8  # drawn and waiting for the encoder: evens out both sides' pace, 19 MB at 1080x1080
UNFINISHED = ".portrait-parlant-"  # begins a clip's name until it is whole: hidden, and nobody else's
UNFINISHED_NAME = re.compile(  # and of the same while it is signed, by files.written_whole
    re.escape(UNFINISHED) + r"[0-9a-f]{16}\.mp4(\.[0-9a-f]{8}" + re.escape(PART) + ")?"
)
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
    with _Rationed(io.FileIO(path)) as stream:
        stream.left = HEADER_ALLOWANCE
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
        stream.left = PIXELS_ALLOWANCE
        try:
            if _costs_too_much(picture, stream):
                raise PictureDamaged(name=name)
            picture.load()
            pixels = _as_seen(picture)
        except (MemoryError, PictureDamaged):
            raise
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error ...
            raise PictureDamaged(name=name) from error
    return pixels


class _Rationed(io.BufferedReader):
    """A file that can be read until its allowance is used up."""

    left = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= READ_COST + (size if size is not None and 0 < size <= SMALL_READ else 0)
        if self.left < 0:
            raise ValueError("so many chunks are no picture")
        return super().read(size)


def _costs_too_much(picture: Image.Image, stream: io.BufferedReader) -> bool:
    """Whether the file asks for more work than its pixels do: a JPEG of endless scans, a TIFF of immense tiles."""
    if picture.format == "TIFF":
        tile = [int(picture.tag_v2.get(tag, 0)) for tag in (TILE_WIDTH, TILE_LENGTH)]  # type: ignore[attr-defined]
        return tile[0] * tile[1] > MAX_MEGAPIXELS * 1e6
    if picture.format not in ("JPEG", "MPO"):
        return False
    num_scans, at = 0, 2
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for _ in range(MAX_JPEG_MARKS):
            mark = JPEG_MARK.search(content, at)
            if mark is None or mark[0] == b"\xff\xd9":  # the end: what follows is another picture, or a film
                return False
            num_scans += mark[0] == b"\xff\xda"
            if num_scans > MAX_JPEG_SCANS:
                return True
            at = mark.end() + int.from_bytes(content[mark.end() : mark.end() + 2])
    return True


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
    try:
        ImageOps.exif_transpose(picture, in_place=True)
    except MemoryError:
        raise
    except Exception:  # of damaged notes, what can be read counts; the pixels are whole
        pass
    if picture.mode in ("F", "I") or picture.mode.startswith("I;16"):
        picture = _in_eight_bits(picture)
    if picture.has_transparency_data:
        if picture.mode != "RGBA":
            picture = picture.convert("RGBA")
        backdrop = Image.new("RGB", picture.size, BACKDROP)
        backdrop.paste(picture, mask=picture)
        picture = backdrop
    if profile and picture.mode in ("RGB", "CMYK", "L"):
        # A profile that lcms refuses is left aside, as browsers do.
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "sRGB" not in ImageCms.getProfileDescription(theirs):
                ours = ImageCms.createProfile("sRGB")
                picture = ImageCms.profileToProfile(picture, theirs, ours, outputMode="RGB") or picture
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    """A gray picture of 16 or 32 bits or floats with its full scale brought to 255: 1, 255, 65535, or its maximum."""
    values = np.array(picture, np.float32)
    np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(values.max())
    if picture.mode.startswith("I;16"):
        full_scale = 65_535.0
    else:
        scales = (1.0, 255.0, 65_535.0) if picture.mode == "F" else (255.0, 65_535.0)
        full_scale = next((scale for scale in scales if largest <= scale), largest)
    values *= 255.0 / full_scale
    np.rint(np.clip(values, 0, 255, out=values), out=values)
    return Image.fromarray(values.astype(np.uint8))


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


def load_speech(path: Path, *, spare_seconds: float = 0.0) -> Speech:
    """Read the sound of an audio or video file, its first audio stream.

    Lengths are counted in decoded samples, never taken from headers, and reading stops where the limit is passed.
    Only the 16 kHz waveform is held: 38 MB for ten minutes.

    Args:
        path: A file in one of SOUND_FORMATS.
        spare_seconds: Let in beyond MAX_SECONDS: the sound of a finished clip is longer by what fills its last block.

    Raises:
        FileMissing, SoundFileTooLarge, SoundUnreadable, SoundMissing, SoundSilent, SoundTooShort, SoundTooLong,
        SoundTooDetailed.
    """
    path = Path(path)
    seconds, num_samples, num_clipped = Fraction(0), 0, 0
    resampled = bytearray()
    mono = _Resampler(layout="mono", rate=SAMPLE_RATE)
    for sound in _let_in(path, -Fraction(spare_seconds)):
        seconds += Fraction(sound.samples.shape[1], sound.rate)
        num_samples += sound.samples.size
        num_clipped += int(np.count_nonzero(np.abs(sound.samples) >= CLIPPED_LEVEL))
        for piece in mono.feed(sound):
            resampled += piece.tobytes()
    for piece in mono.feed(None):
        resampled += piece.tobytes()

    waveform = np.frombuffer(resampled, np.float32)  # writable: a bytearray's
    np.clip(waveform, -1.0, 1.0, out=waveform)  # resampling overshoots a clipped sound by some percent
    notices = []
    if num_clipped > CLIPPED_SHARE * num_samples:
        notices.append(Notice("SoundClipped"))
    if _level_db(waveform) < QUIET_DB:
        notices.append(Notice("SoundVeryQuiet"))
    return Speech(path, waveform, float(seconds), tuple(notices))


def _let_in(path: Path, start: Fraction = Fraction(0)) -> Generator[_Sound, None, None]:
    """Decode a recording piece by piece, and refuse at its end what is no use.

    Args:
        path: A file in one of SOUND_FORMATS.
        start: Seconds into the clip, which count towards its length; negative ones are let in beyond MAX_SECONDS.

    Raises:
        FileMissing, SoundFileTooLarge, SoundUnreadable, SoundMissing, SoundSilent, SoundTooShort, SoundTooLong,
        SoundTooDetailed.
    """
    name = _check_file(path, MAX_SOUND_MEBIBYTES, SoundFileTooLarge)
    seconds, peak, num_values = Fraction(0), 0.0, 0
    for sound in _decode(path):
        num_values += sound.samples.size
        if num_values > MAX_VALUES:
            channels = len(sound.samples)
            raise SoundTooDetailed(name=name, channels=channels, kilohertz=sound.rate / 1000)
        seconds += Fraction(sound.samples.shape[1], sound.rate)
        if start + seconds > MAX_SECONDS:
            raise SoundTooLong(name=name, limit_seconds=MAX_SECONDS)
        peak = max(peak, float(np.abs(sound.samples).max(initial=0.0)))
        yield sound
    if not seconds:
        raise SoundMissing(name=name)
    if float(seconds) < MIN_SECONDS:
        raise SoundTooShort(name=name, seconds=float(seconds), limit_seconds=MIN_SECONDS)
    if peak < SILENT_PEAK:
        raise SoundSilent(name=name, seconds=float(seconds))


def _level_db(waveform: np.ndarray) -> float:
    """Mean level of the louder parts of a waveform, dB of full scale: BS.1770's gating without its K weighting."""
    blocks = [waveform[start : start + LEVEL_BLOCK] for start in range(0, len(waveform), LEVEL_BLOCK)]
    return _gated_db(np.array([float(np.dot(part, part)) / len(part) for part in blocks]))


def _gated_db(powers: np.ndarray) -> float:
    """The same from the mean power of every LEVEL_BLOCK."""
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
    options = {
        "format_whitelist": ",".join(SOUND_FORMATS.split()),
        "protocol_whitelist": "",  # a file that names others does not get them
        "codec_whitelist": _sound_codecs(),
    }
    num_broken, found_any = 0, False
    try:
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(_Nameless(io.FileIO(path)))
            if promises_too_much(file, path.stat().st_size):
                raise SoundUnreadable(name=name)
            file.seek(0)
            container = opened.enter_context(av.open(file, "r", options=options, metadata_errors="replace"))
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
                        samples, layout = _as_channels(converted), frame.layout.name
                        if len(samples) > MOST_CHANNELS:
                            samples, layout = samples.mean(axis=0, keepdims=True), "mono"
                        yield _Sound(samples, layout, frame.sample_rate)
    except FileNotFoundError as error:
        raise FileMissing(name=name) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SoundUnreadable(name=name) from error
    if num_broken and not found_any:
        raise SoundUnreadable(name=name)


class _Nameless(io.BufferedReader):
    """A file whose name tells FFmpeg nothing: it would believe an ending, or take the name for an address."""

    name = "recording"


@functools.cache
def _sound_codecs() -> str:
    """FFmpeg's names of its decoders of sound: of a film it would decode some pictures as well, to know what it is."""
    found = []
    for name in sorted(av.codecs_available):
        with contextlib.suppress(UnknownCodecError):  # it encodes alone
            found += [name] * (av.Codec(name, "r").type == "audio")
    return ",".join(found)


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


# --- several voices -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Voice:
    """One recording of a mix.

    Args:
        path: Its file.
        start: Seconds into the mix.
        seconds: Its length, by counted samples.
        rate: Hz, the highest in it.
        layout: "mono", or "stereo" for two channels or more.
        level_db: Of its louder parts.
    """

    path: Path
    start: Fraction
    seconds: Fraction
    rate: int
    layout: str
    level_db: float


def mix_voices(voices: Sequence[tuple[Path, float]], path: Path) -> Generator[float, None, None]:
    """Write several recordings into one, each from its own time on.

    Quiet voices are raised towards the loudest. The sum is held below full scale by lowering it around its peaks. Only
    a second of it is held at once, however long it is.

    Args:
        voices: Files in one of SOUND_FORMATS, and seconds from the start of the mix.
        path: The WAV file: 16 bits, at the highest of the rates up to MIX_RATE, stereo where one of them has two
            channels or more. It ends with the voice that ends last, to the sample.

    Yields:
        Share done, 0..1.

    Raises:
        ValueError: there is no voice, or one starts before 0 or at no time.
        FileMissing, SoundFileTooLarge, SoundUnreadable, SoundMissing, SoundSilent, SoundTooShort: one is no use.
        SoundTooLong: the mix would last more than MAX_SECONDS.
        OutputNotWritable, DiskFull.
    """
    if not voices or not all(0 <= start < np.inf for _, start in voices):
        raise ValueError(f"voices must start at 0 s or later, and there must be one; got {voices}")
    heard = []
    for number, (voice, start) in enumerate(voices):
        surveying = _survey(Path(voice), Fraction(start))
        while True:
            try:
                yield (number + next(surveying)) / len(voices) / 2
            except StopIteration as finished:
                heard.append(finished.value)
                break

    rate = min(max(voice.rate for voice in heard), MIX_RATE)
    num_channels = 2 if any(voice.layout == "stereo" for voice in heard) else 1
    num_samples = max(round((voice.start + voice.seconds) * rate) for voice in heard)
    loudest_db = max(voice.level_db for voice in heard)
    gains = [np.float32(10 ** (min(loudest_db - voice.level_db, MATCH_DB) / 20)) for voice in heard]
    tracks = [
        _blocks(
            itertools.chain(_silence(round(voice.start * rate), voice.layout, rate), _decode(voice.path)),
            _Resampler(layout=voice.layout, rate=rate),
            num_samples=num_samples,
            size=MIX_BLOCK,
        )
        for voice in heard
    ]
    mixed = (
        sum((gain * block for gain, block in zip(gains, blocks, strict=True)), np.zeros((num_channels, 1), np.float32))
        for blocks in zip(*tracks, strict=True)
    )
    try:
        with written_whole(Path(path)) as part, part.open("wb") as raw, wave.open(raw, "wb") as file:
            file.setparams((num_channels, 2, rate, num_samples, "NONE", ""))
            num_written = 0
            for block in _limited(mixed, num_channels, round(LIMITER_SECONDS * rate)):
                file.writeframes((block.T * 32_767).round().astype("<i2").tobytes())
                num_written += block.shape[1]
                yield 0.5 + num_written / num_samples / 2
    except OSError as error:
        raise OutputNotWritable(path=str(path)) from error


def _survey(path: Path, start: Fraction) -> Generator[float, None, _Voice]:
    """Read a recording to its end for what a mix needs to know of it; errors are those of `_let_in`."""
    seconds, rate, num_channels = Fraction(0), 0, 1
    powers: list[float] = []
    waiting, mono = np.zeros(0, np.float32), _Resampler(layout="mono", rate=SAMPLE_RATE)
    for sound in itertools.chain(_let_in(path, start), [None]):
        if sound is not None:
            seconds += Fraction(sound.samples.shape[1], sound.rate)
            rate, num_channels = max(rate, sound.rate), max(num_channels, len(sound.samples))
        waiting = np.concatenate([waiting, *(piece[0] for piece in mono.feed(sound))])
        if sound is None or len(waiting) >= 8 * LEVEL_BLOCK:
            parts = np.split(waiting, range(LEVEL_BLOCK, len(waiting), LEVEL_BLOCK))
            waiting = parts.pop()
            powers += [float(np.dot(part, part)) / len(part) for part in parts]
            yield float(seconds / Fraction(MAX_SECONDS))
    powers.append(float(np.dot(waiting, waiting)) / max(len(waiting), 1))
    layout = "mono" if num_channels == 1 else "stereo"
    return _Voice(path, start, seconds, rate, layout, _gated_db(np.array(powers)))


def _silence(num_samples: int, layout: str, rate: int) -> Iterator[_Sound]:
    """Nothing, for a while."""
    num_channels = 1 if layout == "mono" else 2
    for start in range(0, num_samples, MIX_BLOCK):
        yield _Sound(np.zeros((num_channels, min(MIX_BLOCK, num_samples - start)), np.float32), layout, rate)


def _limited(blocks: Iterable[np.ndarray], num_channels: int, reach: int) -> Iterator[np.ndarray]:
    """The same sound, lowered around every peak above CEILING; the length stays.

    Args:
        blocks: (channels, samples) float32.
        num_channels: Of the blocks.
        reach: Samples over which it is lowered before a peak, and raised after it.
    """
    from scipy import ndimage

    held = np.zeros((num_channels, 2 * reach), np.float32)
    for block in itertools.chain(blocks, [np.zeros((num_channels, 2 * reach), np.float32)]):
        held = np.concatenate([held, block], axis=1)
        gain = CEILING / np.maximum(np.abs(held).max(axis=0), CEILING)
        if gain.min() < 1:
            # the mean of minima that all have the peak in their reach is as low as the peak needs it
            gain = ndimage.uniform_filter1d(ndimage.minimum_filter1d(gain, 2 * reach + 1), 2 * reach + 1)
        yield np.clip(held * gain, -CEILING, CEILING)[:, 2 * reach : held.shape[1] - 2 * reach]
        held = held[:, -4 * reach :]


# --- the clip -----------------------------------------------------------------------------------------------------


class VideoWriter:
    """Writes a clip while it is drawn: frames from the caller, the original sound from the recording's file.

        with VideoWriter(path, speech, plan) as writer:
            for frame in frames:
                writer.add(frame)

    An encoder thread takes the frames from a short queue, so that drawing and encoding go on at once and memory does
    not grow with the clip. The file appears at `path`, whole, when the block ends; when it ends by an exception,
    nothing is left. What a killed process left in the folder is deleted by the next clip made there.

    Args:
        path: Where the mp4 goes. A file there is replaced.
        speech: The voice. Its file is read again, for the sound at its own rate and with up to two channels.
        plan: Frames, rate and size.
        chapters: Titles, and seconds from which and to which they last: players offer to go there.
        captions: What is said when, one at a time and as it shall be shown (`captions.one_at_a_time`): a track that
            players other than a page's can switch on.
        language: Of the captions.

    Raises:
        ValueError: captions are out of order or overlap.
        OutputNotWritable: the folder is missing or closed to us, or `path` is not a place for a file. Raised on
            entering, before anything is drawn.
        DiskFull, EncodingFailed: writing failed, in `add` or at the end.
        SoundUnreadable, FileMissing: the recording went away or changed meanwhile.
    """

    def __init__(
        self,
        path: Path,
        speech: Speech,
        plan: ClipPlan,
        *,
        chapters: Sequence[tuple[str, float, float]] = (),
        captions: Sequence[Line] = (),
        language: str = "en",
    ) -> None:
        if any(line.end > later.start for line, later in itertools.pairwise(captions)):
            raise ValueError("captions must be in order, one at a time; captions.one_at_a_time() gives them so")
        self.path, self._voice, self._plan = Path(path), speech.path, plan
        self._chapters, self._captions, self._language = chapters, captions, language
        self._frames: queue.Queue[np.ndarray | None] = queue.Queue(QUEUED_FRAMES)
        self._num_added = 0
        self._abandoned = False
        self._in_use = contextlib.ExitStack()
        self._error: BaseException | None = None

    def __enter__(self) -> "VideoWriter":
        try:
            self._target = Path(os.path.realpath(self.path))
            if self._target.exists() and not self._target.is_file():
                raise OutputNotWritable(path=str(self.path))
            # In the target's folder, so that the last step is a rename.
            self._temporary = self._target.with_name(f"{UNFINISHED}{secrets.token_hex(8)}.mp4")
            sweep(self._target.parent, UNFINISHED_NAME)
            self._in_use.enter_context(locked_file(self._temporary))
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
            self._in_use.close()

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
                if self._chapters:
                    container.set_chapters([_chapter(number, *one) for number, one in enumerate(self._chapters)])
                captions = deque(line for line in self._captions if line.start < plan.seconds)
                if captions:
                    written = container.add_stream(CAPTION_CODEC)
                    written.codec_context.subtitle_header = CAPTION_STYLE
                    written.codec_context.time_base = MILLISECOND
                    written.metadata["language"] = LANGUAGE_TAGS.get(self._language, "und")

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
                    while captions and captions[0].start * plan.fps < number + 1:
                        container.mux(_caption(captions.popleft(), written, plan.seconds))
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


def _chapter(number: int, title: str, start: float, end: float) -> Any:
    """A chapter mark as PyAV takes it, its title in one row."""
    title = " ".join("".join(one for one in title if one.isspace() or one.isprintable()).split())
    title = title.encode("utf-8", "replace")[:MAX_TITLE_BYTES].decode("utf-8", "ignore")
    times = {"start": round(start * 1000), "end": round(end * 1000), "time_base": MILLISECOND}
    return {"id": number, **times, "metadata": {"title": title}}


def _caption(line: Line, stream: Any, seconds: float) -> av.Packet:
    """A caption as a sample of 3GPP timed text: the length of its text in two bytes, and the text.

    Written here since the encoder takes ASS, in which a text cannot hold all of ASS's own signs.

    Source: 3GPP TS 26.245, 5.17.
    """
    text = line.text.replace("\0", "").encode("utf-8", "replace")[:MAX_CAPTION_BYTES]
    packet = av.Packet(len(text).to_bytes(2, "big") + text)
    packet.stream, packet.time_base = stream, MILLISECOND
    packet.pts = packet.dts = round(line.start * 1000)
    packet.duration = round(min(line.end, seconds) * 1000) - packet.pts
    return packet


def _blocks(
    sounds: Iterator[_Sound], resampler: _Resampler, *, num_samples: int, size: int = AAC_BLOCK
) -> Iterator[np.ndarray]:
    """Sound in blocks, exactly `num_samples` in all: cut, or followed by silence.

    Yields:
        (channels, size) float32; the last may be shorter.
    """
    num_channels = 1 if resampler.layout == "mono" else 2
    waiting = np.zeros((num_channels, 0), np.float32)
    pieces = (piece for sound in itertools.chain(sounds, [None]) for piece in resampler.feed(sound))
    left = num_samples
    while left:
        size = min(size, left)
        gathered, num_gathered = [waiting], waiting.shape[1]
        while num_gathered < size:
            piece = next(pieces, None)
            if piece is None:
                piece = np.zeros((num_channels, size - num_gathered), np.float32)
            gathered.append(piece)
            num_gathered += piece.shape[1]
        waiting = np.concatenate(gathered, axis=1)
        yield waiting[:, :size]
        waiting = waiting[:, size:]
        left -= size


def _timed(block: np.ndarray, layout: str, rate: int, start: int) -> av.AudioFrame:
    """A block as the encoder takes it, `start` samples into the clip."""
    frame = _frame_of(_Sound(block, layout, rate), "fltp")
    frame.pts, frame.time_base = start, Fraction(1, rate)
    return frame
