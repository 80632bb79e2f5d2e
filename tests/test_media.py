"""The doors: what they let in and how it looks then, what they turn away and how fast; and the mp4 that is written."""

import contextlib
import io
import os
import struct
import subprocess
import threading
import time
import tracemalloc
import wave
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pillow_heif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import errors, media
from pipeline.plan import FPS, Box, ClipPlan
from pipeline.request import SMALLEST_SIZE
from pipeline.voice.spoken import Line
from tests.conftest import first_sound, tone, write_wav

QUICKLY_SECONDS = 10  # a refusal that takes longer has read what it should not have
WIDTH, HEIGHT = 320, 260
COLOURS = {"left": (200, 60, 40), "right": (40, 90, 180)}  # of the test picture's halves


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """Fail when the block takes longer than QUICKLY_SECONDS."""
    started = time.perf_counter()
    yield
    assert time.perf_counter() - started < QUICKLY_SECONDS


# --- the portrait: let in ---------------------------------------------------------------------------------------------


@pytest.fixture
def two_halves() -> Image.Image:
    """Red on the left, blue on the right."""
    pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2], pixels[:, WIDTH // 2 :] = COLOURS["left"], COLOURS["right"]
    return Image.fromarray(pixels)


def halves_of(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The colours in the middle of the left and of the right half."""
    height, width = picture.shape[:2]
    return picture[height // 2, width // 4].astype(int), picture[height // 2, 3 * width // 4].astype(int)


@pytest.mark.parametrize(
    "ending, options, tolerance",
    [
        (".jpg", {"quality": 95}, 4),
        (".png", {}, 0),
        (".webp", {"quality": 95}, 6),
        (".avif", {"quality": 95}, 6),
        (".heic", {"quality": 95}, 6),
        (".tiff", {}, 0),
        (".bmp", {}, 0),
        (".jp2", {}, 1),
        (".gif", {}, 8),
    ],
)
def test_every_format_named_to_visitors_reads_in_its_colours(two_halves, tmp_path, ending, options, tolerance):
    pillow_heif.register_heif_opener()
    path = tmp_path / f"picture{ending}"
    two_halves.save(path, **options)
    picture = media.load_portrait(path)
    assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8 and picture.flags.c_contiguous
    left, right = halves_of(picture)
    assert np.abs(left - COLOURS["left"]).max() <= tolerance
    assert np.abs(right - COLOURS["right"]).max() <= tolerance


@pytest.mark.parametrize("mode", ["P", "CMYK", "L", "LA", "1", "LAB"])
def test_every_colour_mode_becomes_rgb(two_halves, tmp_path, mode):
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        changed: Any = ImageCms.profileToProfile(two_halves, srgb, lab, outputMode="LAB")
    else:
        changed = two_halves.convert(mode)
    path = tmp_path / ("picture.tiff" if mode in ("CMYK", "LAB") else "picture.png")
    changed.save(path)
    picture = media.load_portrait(path)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    if mode in ("P", "CMYK"):
        left, right = halves_of(picture)
        nearest = 26 if mode == "P" else 4  # half a step of the 6x6x6 palette
        assert np.abs(left - COLOURS["left"]).max() <= nearest and np.abs(right - COLOURS["right"]).max() <= nearest


def test_a_name_in_any_script_opens(two_halves, tmp_path):
    path = tmp_path / "Élodie – été, 肖像 😀 'a' %d.png"
    two_halves.save(path)
    assert media.load_portrait(path).shape == (HEIGHT, WIDTH, 3)


def test_a_photo_held_sideways_is_turned_upright(two_halves, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn a quarter clockwise to see it upright
    path = tmp_path / "sideways.jpg"
    two_halves.save(path, exif=exif, quality=95)
    picture = media.load_portrait(path)
    assert picture.shape == (WIDTH, HEIGHT, 3)
    assert np.abs(picture[WIDTH // 4, HEIGHT // 2].astype(int) - COLOURS["left"]).max() <= 4  # left becomes top


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_parts_show_the_backdrop(tmp_path, mode):
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)  # black, transparent
    pixels[:, : WIDTH // 2] = (100, 100, 100, 255)
    path = tmp_path / "cut_out.png"
    picture = Image.fromarray(pixels, "RGBA")
    if mode == "PA":
        picture = picture.quantize(16)  # a palette with a transparent entry
    elif mode == "LA":
        picture = picture.convert("LA")
    picture.save(path)
    left, right = halves_of(media.load_portrait(path))
    assert np.abs(left - 100).max() <= 1 and np.abs(right - media.BACKDROP).max() <= 1


@pytest.mark.parametrize(
    "values, ending",
    [
        (np.array([16_384, 49_152], np.uint16), ".png"),
        (np.array([16_384, 49_152], np.uint16), ".tiff"),
        (np.array([16_384, 49_152], np.int32), ".tiff"),
        (np.array([0.25, 0.75], np.float32), ".tiff"),
        (np.array([63.75, 191.25], np.float32), ".tiff"),
        (np.array([np.nan, 0.75], np.float32), ".tiff"),
    ],
)
def test_deep_gray_keeps_its_tones(tmp_path, values, ending):
    path = tmp_path / f"deep{ending}"
    Image.fromarray(np.repeat(np.tile(values, (HEIGHT, 1)), WIDTH // 2, axis=1)).save(path)
    left, right = halves_of(media.load_portrait(path))
    assert np.abs(left - (0 if np.isnan(values[0]) else 64)).max() <= 1 and np.abs(right - 191).max() <= 1


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_of_an_animation_the_first_frame_is_taken(two_halves, tmp_path, ending):
    path = tmp_path / f"moving{ending}"
    later = Image.new("RGB", two_halves.size, (0, 255, 0))
    options = {"lossless": True} if ending == ".webp" else {}
    two_halves.save(path, save_all=True, append_images=[later, later], duration=100, **options)
    left, right = halves_of(media.load_portrait(path))
    assert np.abs(left - COLOURS["left"]).max() <= 8 and np.abs(right - COLOURS["right"]).max() <= 8


def swapped_profile() -> bytes:
    """An ICC profile of a screen whose red lamp is green and whose green lamp is red, gamma 2.2."""
    fixed = [
        round(value * 65_536) for value in (0.4360, 0.2225, 0.0139, 0.3851, 0.7169, 0.0971, 0.1431, 0.0606, 0.7141)
    ]
    colorants = [b"XYZ \0\0\0\0" + struct.pack(">3i", *fixed[start : start + 3]) for start in (3, 0, 6)]
    curve = b"curv\0\0\0\0" + struct.pack(">IH2x", 1, round(2.2 * 256))
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63_190, 65_536, 54_061)
    text = b"desc\0\0\0\0" + struct.pack(">I", 8) + b"swapped\0" + bytes(4 + 4 + 2 + 1 + 67 + 1)
    tags = dict(zip([b"rXYZ", b"gXYZ", b"bXYZ"], colorants, strict=True))
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"wtpt": white, b"desc": text}
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    header = struct.pack(">I4xI", start + len(body), 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    header += bytes(28) + struct.pack(">3i", 63_190, 65_536, 54_061)
    return header.ljust(128, b"\0") + table + body


def test_a_colour_profile_is_honoured(tmp_path):
    path = tmp_path / "profiled.png"
    Image.new("RGB", (WIDTH, HEIGHT), (220, 30, 30)).save(path, icc_profile=swapped_profile())
    red, green, blue = media.load_portrait(path)[10, 10].astype(int)
    assert green > red + 100 and abs(blue - 30) < 25


def test_a_broken_colour_profile_is_left_aside(two_halves, tmp_path):
    path = tmp_path / "profiled.png"
    two_halves.save(path, icc_profile=b"no profile at all" * 20)
    assert (halves_of(media.load_portrait(path))[0] == COLOURS["left"]).all()


def test_a_large_photograph_keeps_its_pixels(tmp_path):
    """Points are given in the picture's pixels, so that it is never rescaled."""
    path = tmp_path / "large.jpg"
    Image.new("RGB", (8000, 6000), (90, 90, 90)).save(path)
    with quickly():
        assert media.load_portrait(path).shape == (6000, 8000, 3)


# --- the portrait: turned away ----------------------------------------------------------------------------------------


def png(width: int, height: int, rows: bytes) -> bytes:
    """A one-bit gray PNG whose header says width x height and whose packed rows are `rows`."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def a_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    kept = io.BytesIO()
    Image.fromarray(noise).save(kept, "JPEG")
    return kept.getvalue()


def a_png() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    kept = io.BytesIO()
    Image.fromarray(noise).save(kept, "PNG")
    return kept.getvalue()


def small_picture(width: int, height: int) -> bytes:
    kept = io.BytesIO()
    Image.new("RGB", (width, height)).save(kept, "PNG")
    return kept.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="400"><rect width="400" height="400"/></svg>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 400 400\n%%EndComments\n(x) print\n%%EOF\n"

FAULTY_PICTURES: dict[str, tuple[Callable[[], bytes], type[errors.AvatarError]]] = {
    "empty": (lambda: b"", errors.PictureUnreadable),
    "text": (lambda: b"This is not a picture.\n" * 100, errors.PictureUnreadable),
    "svg": (lambda: SVG, errors.PictureUnreadable),
    "eps": (lambda: EPS, errors.PictureUnreadable),
    "random": (lambda: np.random.default_rng(1).bytes(10_000), errors.PictureUnreadable),
    "first 100 bytes of a jpeg": (lambda: a_jpeg()[:100], errors.PictureUnreadable),
    "half a jpeg": (lambda: a_jpeg()[: len(a_jpeg()) // 2], errors.PictureDamaged),
    "half a png": (lambda: a_png()[: len(a_png()) // 2], errors.PictureDamaged),
    "a png with a flipped byte": (
        lambda: a_png()[:5000] + bytes([a_png()[5000] ^ 255]) + a_png()[5001:],
        errors.PictureDamaged,
    ),
    "one pixel": (lambda: small_picture(1, 1), errors.PictureTooSmall),
    "one row short": (lambda: small_picture(400, SMALLEST_SIZE - 1), errors.PictureTooSmall),
    "100 megapixels in 12 KB": (lambda: png(10_000, 10_000, bytes(10_000 * 1251)), errors.PictureTooLarge),
    "a header of 400 megapixels": (lambda: png(20_000, 20_000, b""), errors.PictureTooLarge),
    "a header that promises 49 megapixels": (lambda: png(7_000, 7_000, bytes(100)), errors.PictureDamaged),
}


# A bomb below twice Pillow's limit makes it warn before we refuse.
LET_PILLOW_WARN = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")


@LET_PILLOW_WARN
@pytest.mark.parametrize("fault", FAULTY_PICTURES)
def test_a_faulty_picture_is_refused_by_its_fault_and_quickly(tmp_path, fault):
    make, error = FAULTY_PICTURES[fault]
    path = tmp_path / "picture.png"
    path.write_bytes(make())
    with quickly(), pytest.raises(error) as refusal:
        media.load_portrait(path)
    assert refusal.value.values["name"] == "picture.png"


@LET_PILLOW_WARN
@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_bomb_is_refused_with_its_size(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side, bytes(1000)))
    with pytest.raises(errors.PictureTooLarge, match=f"{side}×{side}") as refusal:
        media.load_portrait(path)
    assert refusal.value.values["megapixels"] == side * side / 1e6


@pytest.mark.filterwarnings("error")
def test_a_bomb_is_refused_where_warnings_are_errors(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(10_000, 10_000, b""))
    with pytest.raises(errors.PictureTooLarge, match="10000×10000"):
        media.load_portrait(path)


@pytest.fixture(params=["picture", "sound"])
def door(request):
    """Both doors, which look at the file itself in the same way."""
    return {"picture": media.load_portrait, "sound": media.load_speech}[request.param]


def test_what_is_no_regular_file_is_refused_without_waiting(door, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    missing = [tmp_path / "nowhere.jpg", tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "a\0b", Path()]
    for path in missing:
        with quickly(), pytest.raises(errors.FileMissing):
            door(path)


def test_more_bytes_than_the_door_lets_in_are_refused_unread(door, tmp_path):
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(513 * 2**20)  # a hole: it takes no space
    with quickly(), pytest.raises((errors.PictureFileTooLarge, errors.SoundFileTooLarge)) as refusal:
        door(path)
    assert refusal.value.values["mebibytes"] == 513


# --- the voice: let in ------------------------------------------------------------------------------------------------


def write_sound(path: Path, samples: np.ndarray, rate: int, codec: str, *, layout: str = "mono") -> Path:
    """Write (channels, samples) float sound in [-1, 1] with any of FFmpeg's codecs, in the container of the ending."""
    with av.open(str(path), "w") as container:
        options = media.AAC_OPTIONS if codec == "aac" else {}
        stream: Any = container.add_stream(codec, rate=rate, layout=layout, options=options)
        stream.bit_rate = 128_000
        packed = np.ascontiguousarray(samples.T.reshape(1, -1), np.float32)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate = rate
        converter = av.AudioResampler(stream.format.name, layout, rate, frame_size=stream.frame_size or 1024)
        for piece in converter.resample(frame) + converter.resample(None):
            container.mux(stream.encode(piece))
        container.mux(stream.encode())
    return path


def loudest_hz(waveform: np.ndarray) -> float:
    """Frequency of the strongest part of a 16 kHz waveform."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.argmax(spectrum) * media.SAMPLE_RATE / len(waveform))


@pytest.mark.parametrize(
    "ending, codec, rate",
    [
        ("wav", "pcm_u8", 8_000),
        ("wav", "pcm_s16le", 44_100),
        ("wav", "pcm_s24le", 96_000),
        ("wav", "pcm_s32le", 48_000),
        ("wav", "pcm_f32le", 22_050),
        ("wav", "pcm_f64le", 48_000),
        ("wav", "pcm_mulaw", 8_000),
        ("wav", "adpcm_ima_wav", 22_050),
        ("aiff", "pcm_s16be", 44_100),
        ("au", "pcm_s16be", 16_000),
        ("flac", "flac", 48_000),
        ("mp3", "libmp3lame", 44_100),
        ("ogg", "libopus", 48_000),
        ("opus", "libopus", 48_000),
        ("webm", "libopus", 48_000),
        ("m4a", "aac", 44_100),
        ("m4a", "alac", 44_100),
        ("aac", "aac", 44_100),
        ("wma", "wmav2", 44_100),
        ("ac3", "ac3", 48_000),
        ("mkv", "libopus", 48_000),
        ("caf", "pcm_s16be", 44_100),
    ],
)
def test_every_sound_format_gives_the_same_waveform(tmp_path, ending, codec, rate):
    path = write_sound(tmp_path / f"voice.{ending}", tone(2.0, rate, hz=440)[None], rate, codec)
    speech = media.load_speech(path)
    assert speech.waveform.dtype == np.float32 and speech.waveform.ndim == 1
    assert abs(speech.seconds - 2.0) < 0.08  # codecs pad to whole packets
    assert abs(len(speech.waveform) / media.SAMPLE_RATE - speech.seconds) < 0.002
    assert abs(loudest_hz(speech.waveform) - 440) < 2
    middle = speech.waveform[8_000:24_000]
    assert abs(np.sqrt(np.mean(middle**2)) - 0.5 / np.sqrt(2)) < 0.03
    assert speech.path == path and speech.notices == ()


@pytest.mark.parametrize("name", ["Élodie – été 語 😀 %d.wav", "http:voice.wav", "concat:a|b.wav", "-i.wav"])
def test_a_recording_of_any_name_opens(tmp_path, monkeypatch, name):
    write_wav(tmp_path / name, tone(1.0), 16_000)
    assert media.load_speech(tmp_path / name).seconds == 1
    monkeypatch.chdir(tmp_path)
    assert media.load_speech(Path(name)).seconds == 1


def test_the_sound_of_a_video_is_taken(tmp_path, clip_plan, speech_of):
    video = tmp_path / "video.mp4"
    write_clip(video, speech_of(tone(2.0, 44_100, hz=440), 44_100), clip_plan(2.0))
    speech = media.load_speech(video)
    assert abs(speech.seconds - 2.0) < 0.05 and abs(loudest_hz(speech.waveform) - 440) < 2


@pytest.mark.parametrize("ending, codec", [("wav", "pcm_s16le"), ("flac", "flac"), ("m4a", "aac")])
@pytest.mark.parametrize("layout, channels", [("stereo", 2), ("3.0", 3), ("5.1", 6), ("7.1", 8)])
def test_many_channels_are_mixed_without_growing_louder(tmp_path, layout, channels, ending, codec):
    samples = np.tile(tone(1.0, 48_000, peak=0.9), (channels, 1))
    path = write_sound(tmp_path / f"many.{ending}", samples, 48_000, codec, layout=layout)
    peak = np.abs(media.load_speech(path).waveform).max()
    assert 0.6 < peak < 0.95


def test_damaged_samples_are_silenced_and_do_not_spread(tmp_path):
    samples = tone(1.0, 48_000)[None].astype(np.float32)
    clean = media.load_speech(write_sound(tmp_path / "clean.wav", samples, 48_000, "pcm_f32le")).waveform
    samples[0, [10_000, 20_000, 30_000]] = np.nan, np.inf, -3e38
    path = write_sound(tmp_path / "damaged.wav", np.zeros_like(samples), 48_000, "pcm_f32le")
    content = bytearray(path.read_bytes())
    start = content.index(b"data") + 8
    content[start : start + samples.nbytes] = samples.tobytes()
    path.write_bytes(content)
    waveform = media.load_speech(path).waveform
    assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 1
    assert np.count_nonzero(np.abs(waveform - clean) > 0.01) < 200


def test_a_click_stays_where_it_was(tmp_path):
    for rate in (8_000, 44_100, 96_000):
        samples = np.zeros(2 * rate)
        samples[rate : rate + rate // 1000] = 0.9  # from 1.000 s on, one millisecond
        waveform = media.load_speech(write_wav(tmp_path / "click.wav", samples, rate)).waveform
        assert abs(np.argmax(np.abs(waveform) > 0.3) / media.SAMPLE_RATE - 1.0) < 0.001


def test_an_overdriven_recording_is_noticed(tmp_path):
    path = write_wav(tmp_path / "loud.wav", tone(1.0, peak=3.0), 16_000)
    assert [notice.key for notice in media.load_speech(path).notices] == ["SoundClipped"]


def test_a_very_quiet_recording_is_noticed(tmp_path):
    path = write_wav(tmp_path / "quiet.wav", tone(1.0, peak=0.005), 16_000)
    assert [notice.key for notice in media.load_speech(path).notices] == ["SoundVeryQuiet"]


def test_pauses_do_not_make_a_voice_quiet(tmp_path):
    samples = np.concatenate([tone(1.0, peak=0.1), np.zeros(16_000 * 20)])
    assert media.load_speech(write_wav(tmp_path / "pauses.wav", samples, 16_000)).notices == ()


def test_sound_with_holes_is_read_around_them(tmp_path):
    path = write_sound(tmp_path / "holes.flac", tone(4.0, 44_100)[None], 44_100, "flac")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    path.write_bytes(content)
    assert 3.0 < media.load_speech(path).seconds <= 4.1


def test_a_header_that_promises_more_than_there_is_is_not_believed(tmp_path):
    path = write_wav(tmp_path / "lying.wav", tone(2.0), 16_000)
    content = bytearray(path.read_bytes())
    where = content.index(b"data") + 4
    content[where : where + 4] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    assert media.load_speech(path).seconds == 2.0


def test_only_the_waveform_is_held_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    path = write_wav(tmp_path / "long.wav", rng.uniform(-0.3, 0.3, (120 * 44_100, 2)), 44_100)
    tracemalloc.start()
    try:
        speech = media.load_speech(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert speech.seconds == 120
    assert peak < 1.5 * speech.waveform.nbytes + 4e6


# --- the voice: turned away -------------------------------------------------------------------------------------------


def wav_header(rate: int, content: bytes) -> bytes:
    return (
        b"RIFF" + struct.pack("<I", 36 + len(content)) + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2 % 2**32, 2, 16)
        + b"data" + struct.pack("<I", len(content)) + content
    )  # fmt: skip


def wav_of(samples: np.ndarray, rate: int = 16_000) -> bytes:
    return wav_header(rate, (samples * 32_767).astype("<i2").tobytes())


FAULTY_SOUNDS: dict[str, tuple[Callable[[], bytes], type[errors.AvatarError]]] = {
    "0 bytes": (lambda: b"", errors.SoundUnreadable),
    "text": (lambda: b"This is not a recording.\n" * 100, errors.SoundUnreadable),
    "random": (lambda: np.random.default_rng(2).bytes(20_000), errors.SoundUnreadable),
    "a picture": (a_png, errors.SoundUnreadable),
    "no samples": (lambda: wav_of(np.zeros(0)), errors.SoundMissing),
    "silence": (lambda: wav_of(np.zeros(32_000)), errors.SoundSilent),
    "a breath of noise": (lambda: wav_of(np.full(32_000, 2e-5)), errors.SoundSilent),
    "0.3 seconds": (lambda: wav_of(tone(0.3)), errors.SoundTooShort),
    "12 minutes": (lambda: wav_of(np.tile(tone(1.0, 4_000), 720), 4_000), errors.SoundTooLong),
    "one sample a second": (lambda: wav_of(tone(1.0), 1), errors.SoundUnreadable),
    "four thousand million samples a second": (lambda: wav_of(tone(1.0), 4_000_000_000), errors.SoundUnreadable),
}


@pytest.mark.parametrize("fault", FAULTY_SOUNDS)
def test_a_faulty_recording_is_refused_by_its_fault_and_quickly(tmp_path, capfd, fault):
    make, error = FAULTY_SOUNDS[fault]
    path = tmp_path / "voice.mp3"
    path.write_bytes(make())
    with quickly(), pytest.raises(error) as refusal:
        media.load_speech(path)
    assert refusal.value.values["name"] == "voice.mp3"
    assert capfd.readouterr() == ("", "")  # the libraries below say nothing of their own


def test_a_recording_without_its_end_is_refused_where_the_index_was_there(tmp_path):
    whole = write_sound(tmp_path / "whole.m4a", tone(2.0, 44_100)[None], 44_100, "aac")
    cut = tmp_path / "cut.m4a"
    cut.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(errors.SoundUnreadable):
        media.load_speech(cut)


def test_a_silent_video_has_no_sound(tmp_path):
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(25):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode())
    with pytest.raises(errors.SoundMissing):
        media.load_speech(path)


@pytest.mark.parametrize(
    "name, written",
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{voice}\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile {voice}\n"),
        ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"),
    ],
)
def test_a_list_of_other_files_is_not_followed(tmp_path, name, written):
    voice = write_sound(tmp_path / "voice.mp3", tone(2.0, 44_100)[None], 44_100, "libmp3lame")
    path = tmp_path / name
    path.write_text(written.format(voice=voice.name))
    with quickly(), pytest.raises(errors.SoundUnreadable):
        media.load_speech(path)


@pytest.mark.parametrize("seconds, accepted", [(0.4, True), (600.0, True), (600.1, False)])
def test_the_limits_belong_to_what_is_let_in(tmp_path, seconds, accepted):
    path = write_wav(tmp_path / "limit.wav", tone(seconds, 4_000), 4_000)
    with contextlib.nullcontext() if accepted else pytest.raises(errors.SoundTooLong):
        assert media.load_speech(path).seconds == seconds


# --- the clip ---------------------------------------------------------------------------------------------------------

SIZE = 256


@pytest.fixture
def clip_plan() -> Callable[..., ClipPlan]:
    def make(seconds: float, size: int = SIZE) -> ClipPlan:
        return ClipPlan(int(np.ceil(seconds * FPS - 1e-9)), FPS, size, size, Box(0, 0, size, size))

    return make


@pytest.fixture
def speech_of(tmp_path) -> Callable[..., media.Speech]:
    def make(samples: np.ndarray, rate: int) -> media.Speech:
        return media.load_speech(write_wav(tmp_path / "voice.wav", samples, rate))

    return make


@pytest.fixture
def outputs(tmp_path) -> Path:
    """A folder for clips and nothing else."""
    (tmp_path / "outputs").mkdir()
    return tmp_path / "outputs"


@pytest.fixture
def two_seconds(speech_of) -> media.Speech:
    return speech_of(tone(2.0, 44_100), 44_100)


def seconds_of(timed: Any, field: str = "duration") -> float:
    """A time that FFmpeg keeps of a stream or a packet, in seconds."""
    return float(getattr(timed, field) * timed.time_base)


def gray_frames(num_frames: int, size: int = SIZE) -> Iterator[np.ndarray]:
    """Frames that tell their number by their gray."""
    for number in range(num_frames):
        yield np.full((size, size, 3), 20 + 4 * (number % 50), np.uint8)


def write_clip(path: Path, speech: media.Speech, plan: ClipPlan, **options: Any) -> Path:
    with media.VideoWriter(path, speech, plan, **options) as writer:
        for frame in gray_frames(plan.num_frames, plan.height):
            writer.add(frame)
    return path


def test_frames_come_back_in_order_at_25_a_second(outputs, two_seconds, clip_plan):
    path = write_clip(outputs / "clip.mp4", two_seconds, clip_plan(2.0))
    with av.open(str(path)) as clip:
        shown: list[Any] = list(clip.decode(video=0))
        assert clip.streams.video[0].average_rate == FPS
    assert [seconds_of(frame, "pts") for frame in shown] == pytest.approx([n / FPS for n in range(50)])
    grays = [frame.to_ndarray(format="rgb24").mean() for frame in shown]
    assert np.abs(np.array(grays) - (20 + 4 * np.arange(50))).max() < 2
    assert list(outputs.iterdir()) == [path]


def test_colours_come_back_within_a_few_levels(outputs, two_seconds, clip_plan):
    patches = np.random.default_rng(3).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    frame = np.ascontiguousarray(patches.repeat(SIZE // 8, axis=0).repeat(SIZE // 8, axis=1))
    plan = clip_plan(2.0)
    with media.VideoWriter(outputs / "clip.mp4", two_seconds, plan) as writer:
        for _ in range(plan.num_frames):
            writer.add(frame.copy())
    with av.open(str(outputs / "clip.mp4")) as clip:
        shown = list(clip.decode(video=0))[-1]
        context = clip.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert context.pix_fmt == "yuv420p" and context.profile == "High"
    assert tags == (1, 1, 1, 1)  # BT.709 three times, and video range
    back = shown.reformat(
        format="rgb24", src_colorspace="ITU709", src_color_range="MPEG", dst_color_range="JPEG"
    ).to_ndarray()
    middles = back.reshape(8, SIZE // 8, 8, SIZE // 8, 3)[:, 12:20, :, 12:20].mean(axis=(1, 3))
    assert np.abs(middles - patches).mean() < 2 and np.abs(middles - patches).max() < 6


@pytest.mark.parametrize(
    "rate, channels, kept_rate, kept_channels",
    [
        (8_000, 1, 8_000, 1),
        (16_000, 1, 16_000, 1),
        (22_050, 2, 22_050, 2),
        (44_100, 1, 44_100, 1),
        (48_000, 2, 48_000, 2),
        (96_000, 2, 96_000, 2),
        (192_000, 1, 48_000, 1),
        (11_000, 1, 48_000, 1),
        (48_000, 3, 48_000, 2),
        (48_000, 6, 48_000, 2),
        (48_000, 8, 48_000, 2),
    ],
)
def test_the_clip_keeps_the_original_sound(outputs, speech_of, clip_plan, rate, channels, kept_rate, kept_channels):
    seconds = 1.97  # not a whole number of frames
    samples = np.tile(tone(seconds, rate, peak=0.4)[:, None], (1, channels))
    samples[rate : rate + max(2, rate // 1000)] = 0.95  # a click at 1.000 s
    path = write_clip(outputs / "clip.mp4", speech_of(samples, rate), clip_plan(seconds))
    with av.open(str(path)) as clip:
        sound, picture = clip.streams.audio[0], clip.streams.video[0]
        assert (sound.rate, sound.layout.nb_channels, picture.frames) == (kept_rate, kept_channels, 50)
        assert abs(seconds_of(sound) - seconds_of(picture)) < 0.001 and seconds_of(picture) == 2
    heard, _, start = first_sound(path)
    click = np.argmax(np.abs(heard).max(axis=0) > 0.65) / kept_rate + start
    assert abs(click - 1.0) <= 0.001
    tail = heard[0, round((seconds + 0.01 - start) * kept_rate) : round((2.0 - start) * kept_rate)]
    assert np.abs(tail).max() < 0.02  # silence fills the last frame


def test_left_and_right_stay_apart(outputs, speech_of, clip_plan):
    samples = np.stack([tone(1.0, 48_000, hz=300), tone(1.0, 48_000, hz=900)], axis=1)
    heard, rate, _ = first_sound(write_clip(outputs / "clip.mp4", speech_of(samples, 48_000), clip_plan(1.0)))
    left, right = (np.argmax(np.abs(np.fft.rfft(channel[:rate]))) for channel in heard)
    assert (round(left / 100), round(right / 100)) == (3, 9)


def test_the_index_comes_first_so_that_a_page_can_play_while_it_loads(outputs, two_seconds, clip_plan):
    content = write_clip(outputs / "clip.mp4", two_seconds, clip_plan(2.0)).read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_the_clip_says_that_it_is_generated_and_nothing_of_its_inputs(outputs, two_seconds, clip_plan):
    path = write_clip(outputs / "clip.mp4", two_seconds, clip_plan(2.0))
    with av.open(str(path)) as clip:
        comment = clip.metadata["comment"]
    assert "AI-generated" in comment and "généré par IA" in comment
    assert b"voice.wav" not in path.read_bytes()


def test_there_is_a_keyframe_to_seek_to_every_few_seconds(outputs, speech_of, clip_plan):
    path = write_clip(outputs / "clip.mp4", speech_of(tone(21.0), 16_000), clip_plan(21.0, 64))
    with av.open(str(path)) as clip:
        keys = [seconds_of(packet, "pts") for packet in clip.demux(video=0) if packet.is_keyframe]
    assert len(keys) >= 3 and max(np.diff(keys)) <= media.SECONDS_BETWEEN_KEYFRAMES


def test_a_clip_has_the_permissions_of_any_new_file(outputs, two_seconds, clip_plan):
    path = write_clip(outputs / "clip.mp4", two_seconds, clip_plan(2.0))
    (outputs / "other").touch()
    assert path.stat().st_mode == (outputs / "other").stat().st_mode


def test_a_clip_that_was_there_is_replaced_when_the_new_one_is_whole(outputs, two_seconds, clip_plan):
    path = outputs / "clip.mp4"
    path.write_bytes(b"older")
    with media.VideoWriter(path, two_seconds, clip_plan(2.0)) as writer:
        for frame in gray_frames(50):
            writer.add(frame)
            assert path.read_bytes() == b"older"
    assert path.stat().st_size > 5000 and list(outputs.iterdir()) == [path]


class UnexpectedError(Exception):
    """Some failure of the drawing side."""


@pytest.mark.parametrize("num_added", [0, 1, 30])
@pytest.mark.parametrize("failure", [UnexpectedError, KeyboardInterrupt, GeneratorExit])
def test_a_failure_in_the_block_leaves_nothing(outputs, two_seconds, clip_plan, failure, num_added):
    threads = threading.active_count()
    with pytest.raises(failure), media.VideoWriter(outputs / "clip.mp4", two_seconds, clip_plan(2.0)) as writer:
        for frame in gray_frames(num_added):
            writer.add(frame)
        raise failure
    assert list(outputs.iterdir()) == [] and threading.active_count() == threads


def test_an_abandoned_generator_leaves_nothing(outputs, two_seconds, clip_plan):
    def draw():
        with media.VideoWriter(outputs / "clip.mp4", two_seconds, clip_plan(2.0)) as writer:
            for frame in gray_frames(50):
                writer.add(frame)
                yield

    drawing = draw()
    for _ in range(10):
        next(drawing)
    drawing.close()
    assert list(outputs.iterdir()) == []


def test_frames_of_another_kind_are_a_mistake_of_the_program(outputs, two_seconds, clip_plan):
    good = np.zeros((SIZE, SIZE, 3), np.uint8)
    wrong: list[np.ndarray] = [
        good[:-2],
        good.astype(np.float32),
        good[:, :, ::-1],
        np.zeros((3, SIZE, SIZE), np.uint8),
    ]
    for frame in wrong:
        with (
            pytest.raises(ValueError, match="a frame must be"),
            media.VideoWriter(outputs / "clip.mp4", two_seconds, clip_plan(2.0)) as writer,
        ):
            writer.add(frame)
    assert list(outputs.iterdir()) == []


@pytest.mark.parametrize("num_added", [49, 51])
def test_more_or_fewer_frames_than_planned_are_a_mistake_of_the_program(outputs, two_seconds, clip_plan, num_added):
    with (
        pytest.raises(ValueError, match="the plan has 50 frames"),
        media.VideoWriter(outputs / "clip.mp4", two_seconds, clip_plan(2.0)) as writer,
    ):
        for frame in gray_frames(num_added):
            writer.add(frame)
    assert list(outputs.iterdir()) == []


def test_a_place_where_no_file_can_be_is_refused_before_anything_is_drawn(outputs, two_seconds, clip_plan):
    (outputs / "folder.mp4").mkdir()
    places = [
        outputs / "nowhere" / "clip.mp4",
        outputs / "folder.mp4",
        outputs / ("a" * 300 + ".mp4"),
        outputs / "a\0b.mp4",
        Path("/dev/null"),
        Path("/proc/clip.mp4"),
    ]
    for path in places:
        with pytest.raises(errors.OutputNotWritable):
            media.VideoWriter(path, two_seconds, clip_plan(2.0)).__enter__()
    assert [path.name for path in outputs.iterdir()] == ["folder.mp4"]
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_closed_folder_is_refused_before_anything_is_drawn(outputs, two_seconds, clip_plan):
    outputs.chmod(0o500)
    with pytest.raises(errors.OutputNotWritable):
        media.VideoWriter(outputs / "clip.mp4", two_seconds, clip_plan(2.0)).__enter__()


def test_when_the_recording_goes_away_the_drawing_stops_with_its_name(outputs, two_seconds, clip_plan):
    two_seconds.path.unlink()
    plan = clip_plan(60.0)
    with (
        quickly(),
        pytest.raises(errors.FileMissing, match=r"voice\.wav"),
        media.VideoWriter(outputs / "clip.mp4", two_seconds, plan) as writer,
    ):
        for number in range(plan.num_frames):
            time.sleep(0.001)
            writer.add(np.zeros((SIZE, SIZE, 3), np.uint8))
            assert number < 1000, "the dead encoder was not noticed"
    assert list(outputs.iterdir()) == []


def test_a_size_the_encoder_refuses_is_told_and_leaves_nothing(outputs, two_seconds):
    plan = ClipPlan(50, FPS, 255, 255, Box(0, 0, 255, 255))  # odd: half a chroma pixel
    with (
        quickly(),
        pytest.raises(errors.EncodingFailed),
        media.VideoWriter(outputs / "clip.mp4", two_seconds, plan) as writer,
    ):
        for _ in range(50):
            writer.add(np.zeros((255, 255, 3), np.uint8))
    assert list(outputs.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[int], Path]]:
    """Makes disks of so many KiB."""
    disks: list[Path] = []

    def make(kibibytes: int) -> Path:
        disk = tmp_path / f"disk_{kibibytes}"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(disk)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("making a small disk needs root and mount")
        disks.append(disk)
        return disk

    yield make
    for disk in disks:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_told_and_leaves_nothing_however_late_it_fills(small_disk, outputs, two_seconds, clip_plan):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(5)]
    plan = clip_plan(2.0)

    def draw(folder: Path) -> int:
        with media.VideoWriter(folder / "clip.mp4", two_seconds, plan) as writer:
            for number in range(plan.num_frames):
                writer.add(noise[number % 5])
        return (folder / "clip.mp4").stat().st_size

    needed = -(-draw(outputs) // 4096) * 4  # KiB, in whole pages
    for kibibytes in (4, needed // 2, needed - 100, needed - 4):
        disk = small_disk(kibibytes)
        with quickly(), pytest.raises(errors.DiskFull):
            draw(disk)
        assert list(disk.iterdir()) == []
    assert draw(small_disk(needed + 4)) > 0


def test_chapters_are_in_the_clip_under_clean_titles(outputs, two_seconds, clip_plan):
    marks = [("Le début\x00\n\ud800 : été", 0.0, 1.25), ("é" * 400, 1.25, 2.0)]
    path = write_clip(outputs / "clip.mp4", two_seconds, clip_plan(2.0), chapters=marks)
    with av.open(str(path)) as clip:
        found = clip.chapters()
    assert [one["metadata"]["title"] for one in found] == ["Le début : été", "é" * 127]
    times = [[float(one[side] * (one["time_base"] or 0)) for side in ("start", "end")] for one in found]
    assert times == [[0.0, 1.25], [1.25, 2.0]]


def test_captions_are_in_the_clip_word_for_word_and_change_nothing_else(outputs, two_seconds, clip_plan):
    lines = [Line("L'été {\\b1} <b>\\N", 0.2, 0.9), Line("deux\nrangées 😀", 0.9, 1.5), Line("à la fin", 1.6, 4.0)]
    plain = write_clip(outputs / "plain.mp4", two_seconds, clip_plan(2.0))
    path = write_clip(outputs / "clip.mp4", two_seconds, clip_plan(2.0), captions=lines, language="fr")
    with av.open(str(path)) as clip:
        track = clip.streams.subtitles[0]
        samples = [(seconds_of(one, "pts"), bytes(one)[2:].decode()) for one in clip.demux(track) if one.size]
        assert track.metadata["language"] == "fra" and seconds_of(track) == 2.0
        assert clip.duration == 2_000_000
    shown = [sample for sample in samples if sample[1]]
    assert shown == [(pytest.approx(line.start, abs=1e-3), line.text) for line in lines]
    assert (pytest.approx(1.5, abs=1e-3), "") in samples  # nothing between the second and the third

    def others(of: Path) -> list[bytes]:
        with av.open(str(of)) as clip:
            return [bytes(one) for one in clip.demux(clip.streams.video[0], clip.streams.audio[0])]

    assert sorted(others(path)) == sorted(others(plain))


def test_captions_at_once_are_a_mistake_of_the_program(outputs, two_seconds, clip_plan):
    with pytest.raises(ValueError, match="one_at_a_time"):
        media.VideoWriter(
            outputs / "clip.mp4", two_seconds, clip_plan(2.0), captions=[Line("a", 0, 1.5), Line("b", 1, 2)]
        )


# --- several voices ---------------------------------------------------------------------------------------------------


def mixed(voices: list[tuple[Path, float]], path: Path) -> tuple[np.ndarray, int]:
    """(channels, samples) float, and Hz, of a mix."""
    shares = list(media.mix_voices(voices, path))
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] == 1
    with wave.open(str(path)) as file:
        content, channels = file.readframes(file.getnframes()), file.getnchannels()
        return np.frombuffer(content, "<i2").reshape(-1, channels).T / 32_767, file.getframerate()


@pytest.mark.parametrize("rates", [(16_000, 16_000), (16_000, 44_100), (48_000, 22_050), (96_000, 8_000)])
def test_voices_keep_their_times_and_the_mix_ends_with_the_last(tmp_path, rates):
    starts, paths = (0.0, 1.2345), []
    for number, rate in enumerate(rates):
        samples = 0.01 * np.random.default_rng(number).standard_normal(round(1.1 * rate))
        samples[rate // 2 : rate // 2 + rate // 1000] += 0.7  # a click of a millisecond after half a second
        paths.append(write_wav(tmp_path / f"{number}.wav", samples, rate))
    samples, rate = mixed(list(zip(paths, starts, strict=True)), tmp_path / "mix.wav")
    assert rate == min(max(rates), 48_000)
    end = max(start + round(1.1 * own) / own for start, own in zip(starts, rates, strict=True))
    assert samples.shape == (1, round(end * rate))
    loud = np.flatnonzero(np.abs(samples[0]) > 0.35) / rate
    for start in starts:
        near = loud[(loud > start + 0.4) & (loud < start + 0.6)]
        assert start + 0.4995 < near[0] < near[-1] < start + 0.5015


def test_one_voice_is_written_as_it_is(tmp_path):
    original = tone(1.0, 24_000, peak=0.6)
    samples, rate = mixed([(write_wav(tmp_path / "voice.wav", original, 24_000), 0.0)], tmp_path / "mix.wav")
    assert rate == 24_000 and np.abs(samples[0] - original).max() < 2 / 32_768


@pytest.mark.parametrize("peak, raised_db", [(0.5, 0.0), (0.25, 6.0), (0.02, 12.0)])
def test_a_quiet_voice_is_raised_to_the_louder_one_within_reason(tmp_path, peak, raised_db):
    loud = write_wav(tmp_path / "loud.wav", tone(1.0, peak=0.5), 16_000)
    quiet = write_wav(tmp_path / "quiet.wav", tone(1.0, peak=peak), 16_000)
    samples, _ = mixed([(loud, 0.0), (quiet, 1.5)], tmp_path / "mix.wav")
    assert np.abs(samples[0, :16_000]).max() == pytest.approx(0.5, rel=0.01)
    assert np.abs(samples[0, 24_000:]).max() == pytest.approx(peak * 10 ** (raised_db / 20), rel=0.02)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0.05, 1), st.sampled_from([80.0, 441.0, 3000.0])), min_size=1, max_size=4
    )
)
def test_a_mix_never_clips(tmp_path, voices):
    paths = []
    for number, (start, peak, hz) in enumerate(voices):
        samples = tone(1.25, hz=hz, peak=peak)
        paths.append((write_wav(tmp_path / f"{number}.wav", samples, 16_000), start))
    samples, _ = mixed(paths, tmp_path / "mix.wav")
    assert np.abs(samples).max() <= media.CEILING + 1e-4


def test_an_overlap_of_two_loud_voices_keeps_their_shape(tmp_path):
    voice = write_wav(tmp_path / "voice.wav", tone(2.0, hz=200, peak=0.9), 16_000)
    samples, _ = mixed([(voice, 0.0), (voice, 1.0)], tmp_path / "mix.wav")
    both = samples[0, 18_000:30_000]
    spectrum = np.abs(np.fft.rfft(both * np.hanning(len(both))))
    hz = np.fft.rfftfreq(len(both), 1 / 16_000)
    distortion = spectrum[(hz > 300)].max() / spectrum[(hz > 150) & (hz < 250)].max()
    assert 0.9 < np.abs(both).max() <= media.CEILING + 1e-4 and distortion < 0.02


def test_stereo_stays_stereo_and_a_mono_voice_is_heard_in_the_middle_as_loud(tmp_path):
    left = np.stack([tone(1.0, 48_000, hz=300), 0 * tone(1.0, 48_000)], axis=1)
    stereo = write_wav(tmp_path / "stereo.wav", left, 48_000)
    mono = write_wav(tmp_path / "mono.wav", tone(1.0, 48_000, peak=0.25), 48_000)  # as loud as the other's mean
    samples, _ = mixed([(stereo, 0.0), (mono, 1.5)], tmp_path / "mix.wav")
    peaks = [np.abs(samples[:, part]).max(1) for part in (slice(0, 48_000), slice(72_000, None))]
    assert peaks[0] == pytest.approx([0.5, 0.0], abs=0.01) and peaks[1] == pytest.approx([0.25, 0.25], abs=0.01)


def test_what_load_speech_refuses_a_mix_refuses_too_and_nothing_is_left(tmp_path, outputs):
    good = write_wav(tmp_path / "good.wav", tone(1.0), 16_000)
    faults = {
        errors.SoundSilent: write_wav(tmp_path / "silent.wav", np.zeros(16_000), 16_000),
        errors.SoundTooShort: write_wav(tmp_path / "short.wav", tone(0.1), 16_000),
        errors.SoundTooLong: write_wav(tmp_path / "long.wav", tone(601, 4_000), 4_000),
        errors.FileMissing: tmp_path / "missing.wav",
        errors.SoundUnreadable: tmp_path / "text.wav",
    }
    faults[errors.SoundUnreadable].write_text("not a sound")
    for kind, path in faults.items():
        with pytest.raises(kind) as refused:
            media.load_speech(path)
        with pytest.raises(kind) as refused_too:
            list(media.mix_voices([(good, 0.0), (path, 0.0)], outputs / "mix.wav"))
        assert str(refused.value) == str(refused_too.value)
    with pytest.raises(errors.SoundTooLong):
        list(media.mix_voices([(good, 0.0), (good, 599.5)], outputs / "mix.wav"))
    with pytest.raises(errors.OutputNotWritable):
        list(media.mix_voices([(good, 0.0)], outputs / "missing" / "mix.wav"))
    for voices in ([], [(good, -0.1)], [(good, float("nan"))]):
        with pytest.raises(ValueError, match="voices"):
            list(media.mix_voices(voices, outputs / "mix.wav"))
    assert not list(outputs.iterdir())


def test_a_mix_that_is_given_up_leaves_nothing(tmp_path, outputs):
    voice = write_wav(tmp_path / "voice.wav", tone(5.0, 48_000), 48_000)
    mixing = media.mix_voices([(voice, 0.0), (voice, 2.0)], outputs / "mix.wav")
    while next(mixing) < 0.8:
        pass
    assert list(outputs.iterdir())
    mixing.close()
    assert not list(outputs.iterdir())


def test_a_mix_of_any_length_takes_the_same_memory(tmp_path):
    peaks = []
    for seconds in (10.0, 60.0):
        voice = write_wav(tmp_path / "voice.wav", tone(seconds), 16_000)
        tracemalloc.start()
        for _ in media.mix_voices([(voice, 0.0), (voice, 1.0)], tmp_path / "mix.wav"):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
