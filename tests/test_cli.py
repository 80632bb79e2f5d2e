"""The command line as people use it: a clip, or one sentence that says why not, and nothing left behind."""

import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
import wave
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.__main__ import main
from pipeline.cli import DONE, NOT_UNDERSTOOD, REFUSED, STOPPED, TERMINATED
from pipeline.cli.render import Progress, place_for_clip
from pipeline.engine import Step
from pipeline.request import MAX_TEXT_LENGTH
from pipeline.texts import TEXTS
from tests.conftest import EXAMPLES, tone, write_wav

PROJECT = Path(__file__).parents[1]
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and terminals of POSIX")
LONG_SECONDS = 12  # of voice: still being drawn when the signal comes


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """An empty current folder, and an English terminal."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def in_french(monkeypatch):
    monkeypatch.setenv("LANG", "fr_CA.UTF-8")


def program(*arguments: object, **options) -> subprocess.Popen:
    """Start `python -m pipeline` as a program of its own."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a job that a shell put in the background; inherited
        signal.signal(signal.SIGINT, signal.default_int_handler)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **options.pop("environment", {})}
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, **options)


# --- a clip -----------------------------------------------------------------------------------------------------------


def test_a_render_writes_the_clip_and_says_where_it_is(place, portrait_path, short_voice):
    running = program(
        "render", portrait_path, short_voice, "-o", "clip.mp4", "--size", 256, "--seed", 7,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    told, complaints = running.communicate(timeout=300)
    assert (running.returncode, complaints) == (DONE, TEXTS["ClipSignedLocal"].en + "\n")
    first, second = told.splitlines()
    assert first == "clip.mp4"
    assert re.fullmatch(r"1\.6 s of clip, 256×256 pixels, in \d+\.\d s; engine draft, seed 7", second)
    with av.open("clip.mp4") as clip:
        assert sum(1 for _ in clip.decode(video=0)) == 40 and clip.streams.audio
    assert [path.name for path in place.iterdir()] == ["clip.mp4"]


def test_a_video_is_a_voice_too_and_the_clip_is_named_after_the_portrait(place, portrait_path, short_voice, capsys):
    assert main(["render", str(portrait_path), str(short_voice), "-o", "voice.mp4", "--size", "256"]) == DONE
    assert main(["render", str(portrait_path), "voice.mp4", "--size", "256"]) == DONE
    assert capsys.readouterr().out.splitlines()[2] == f"{portrait_path.stem}.mp4"
    assert {path.name for path in place.iterdir()} == {"voice.mp4", f"{portrait_path.stem}.mp4"}


def test_the_second_of_two_faces_can_be_asked_for(portrait_path, short_voice, place, capsys):
    one = Image.open(portrait_path)
    both = Image.new("RGB", (2 * one.width, one.height))
    both.paste(one, (0, 0))
    both.paste(one.resize((one.width * 3 // 4, one.height * 3 // 4)), (one.width, 0))
    both.save("both.png")
    command = ["render", "both.png", str(short_voice), "--size", "256"]
    assert main([*command, "--face", "2"]) == DONE
    assert main([*command, "--face", "3"]) == REFUSED
    assert "both.png shows 2" in capsys.readouterr().err


def test_five_points_make_a_drawing_speak(faceless_path, short_voice, place, capsys):
    points = ["200,120", "280,120", "215,200", "265,200", "240,240"]
    assert main(["render", str(faceless_path), str(short_voice), "--size", "256", "--points", *points]) == DONE
    assert capsys.readouterr().out.startswith("landscape.mp4\n")


def test_an_existing_clip_is_kept_unless_it_was_named(place):
    portrait = Path("anna.jpg")
    assert place_for_clip(None, portrait) == Path("anna.mp4")
    (place / "anna.mp4").touch()
    (place / "anna-2.mp4").touch()
    assert place_for_clip(None, portrait) == Path("anna-3.mp4")
    assert place_for_clip(Path("anna.mp4"), portrait) == Path("anna.mp4")
    (place / "clips").mkdir()
    assert place_for_clip(Path("clips"), portrait) == Path("clips/anna.mp4")


# --- refusals ---------------------------------------------------------------------------------------------------------


def truncated_jpeg(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:40_000])


def bomb(path: Path) -> None:
    """100 megapixels in 12 KB."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0))
    content = chunk(b"IDAT", zlib.compress(bytes(10_000 * 1251), 9))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + content + chunk(b"IEND", b""))


def twelve_minutes(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes((tone(1.0, 8_000) * 20_000).astype("<i2").tobytes() * 720)


PICTURES: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "one pixel": ("dot.png", lambda path: Image.new("RGB", (1, 1)).save(path), "1×1 pixels", "1×1 pixels"),
    "truncated": ("cut.jpg", truncated_jpeg, "damaged or incomplete", "endommagé ou incomplet"),
    "text": ("notes.png", lambda path: path.write_text("notes"), "not a picture", "pas une image"),
    "bomb": ("bomb.png", bomb, "100.0 megapixels", "100,0 mégapixels"),
    "missing": ("nowhere.png", lambda path: None, "no file nowhere.png", "Aucun fichier nowhere.png"),
}
SOUNDS: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "silent": ("hush.wav", lambda path: write_wav(path, np.zeros(32_000), 16_000), "is silent", "est silencieux"),
    "empty": ("empty.mp3", lambda path: path.touch(), "not a sound or video file", "pas un fichier son ou vidéo"),
    "long": ("talk.wav", twelve_minutes, "more than 600.0 s", "plus de 600,0 s"),
    "missing": ("nowhere.wav", lambda path: None, "no file nowhere.wav", "Aucun fichier nowhere.wav"),
}


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("fault", [*(("picture", key) for key in PICTURES), *(("sound", key) for key in SOUNDS)])
def test_a_faulty_file_is_refused_in_one_sentence(
    place, tmp_path, portrait_path, short_voice, capsys, monkeypatch, fault, language
):
    kind, key = fault
    name, make, english, french = (PICTURES if kind == "picture" else SOUNDS)[key]
    faulty = tmp_path / name
    make(faulty)
    portrait, voice = (faulty, short_voice) if kind == "picture" else (portrait_path, faulty)
    monkeypatch.setenv("LC_ALL", {"en": "en_CA.UTF-8", "fr": "fr_CA.UTF-8"}[language])
    assert main(["render", str(portrait), str(voice), "-o", "clip.mp4"]) == REFUSED
    told = capsys.readouterr()
    assert told.out == "" and len(told.err.splitlines()) == 1
    assert name in told.err and (english if language == "en" else french) in told.err
    assert list(place.iterdir()) == []


def test_a_picture_without_a_face_is_refused_with_the_way_of_clicks(place, faceless_path, short_voice, capsys):
    assert main(["render", str(faceless_path), str(short_voice)]) == REFUSED
    assert "No face found in landscape.png (480×320)" in (told := capsys.readouterr().err) and "--points" in told
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "options, told",
    [
        (["--engine", "best"], "There is no engine 'best'"),
        (["--size", "300"], "multiple of 8"),
        (["--points", "1,2", "3,4"], "found: 1,2 3,4"),
        (["--text", "a" * (MAX_TEXT_LENGTH + 1)], f"{MAX_TEXT_LENGTH + 1} characters"),
        (["--text", "Hallo", "--lang", "German"], "'German' names no language"),
        (["--text-file", "nowhere.txt"], "no file nowhere.txt"),
        (["-o", "nowhere/clip.mp4"], "nowhere/clip.mp4"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_in_words(place, portrait_path, short_voice, capsys, options, told):
    assert main(["render", str(portrait_path), str(short_voice), *options]) == REFUSED
    assert told in capsys.readouterr().err
    assert list(place.iterdir()) == []


def test_words_come_from_a_utf8_file_with_or_without_its_mark(place, faceless_path, short_voice, capsys):
    (place / "long.txt").write_bytes(b"\xef\xbb\xbf" + b"a" * (MAX_TEXT_LENGTH + 1))
    (place / "latin.txt").write_bytes("été".encode("latin-1"))
    (place / "good.txt").write_text("Bonjour, été!\n", encoding="utf-8-sig")
    command = ["render", str(faceless_path), str(short_voice), "--text-file"]
    told = []
    for name in ("long.txt", "latin.txt", "good.txt"):
        assert main([*command, name]) == REFUSED
        told.append(capsys.readouterr().err)
    assert f"{MAX_TEXT_LENGTH + 1} characters" in told[0]
    assert "latin.txt are not UTF-8" in told[1]
    assert "No face found" in told[2]  # the words were read, and the next door is the picture's


# --- the command line itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["render"],
        ["render", "a.jpg", "b.wav", "--colour", "red"],
        ["render", "a.jpg", "b.wav", "--seed", "-1"],
        ["render", "a.jpg", "b.wav", "--seed", "seven"],
        ["render", "a.jpg", "b.wav", "--face", "0"],
        ["render", "a.jpg", "b.wav", "--size", "100"],
        ["render", "a.jpg", "b.wav", "--text", "a", "--text-file", "b"],
    ],
)
def test_what_is_not_understood_ends_with_2_and_points_to_the_help(capsys, arguments):
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == NOT_UNDERSTOOD
    told = capsys.readouterr()
    assert told.out == "" and "--help" in told.err.splitlines()[-1]


def test_a_clip_without_a_voice_is_refused_in_words(capsys):
    assert main(["render", "a.jpg"]) == REFUSED
    assert "Give one of them" in capsys.readouterr().err


def test_what_is_not_understood_is_told_in_french_too(capsys, in_french):
    with pytest.raises(SystemExit):
        main(["render", "a.jpg", "b.wav", "--face", "0"])
    told = capsys.readouterr().err
    assert "utilisation :" in told and "entier de 1 à 99, et non « 0 »" in told


def test_a_clip_that_is_no_mp4_is_not_understood(capsys, portrait_path, short_voice):
    assert main(["render", str(portrait_path), str(short_voice), "-o", "clip.avi"]) == NOT_UNDERSTOOD
    assert "clip.avi" in capsys.readouterr().err


@pytest.mark.parametrize("language, words", [("en", ["usage:", "options:"]), ("fr", ["utilisation :", "options :"])])
def test_help_explains_every_option_in_the_terminals_language(capsys, monkeypatch, language, words):
    monkeypatch.setenv("LANG", language)
    with pytest.raises(SystemExit) as ending:
        main(["render", "--help"])
    assert ending.value.code == 0
    told = capsys.readouterr().out
    flat = " ".join(told.split())
    for option in ("--output", "--size", "--seed", "--engine", "--face", "--points", "--text", "--text-file", "--lang"):
        assert option in told
    texts = ["CliPortrait", "CliSpeech", "CliOutput", "CliFace", "CliPoints", "CliText", "CliTextFile"]
    assert all(getattr(TEXTS[key], language) in flat for key in texts)
    assert all(word in told for word in words) and "130" in told


def test_doctor_says_that_this_machine_can_render(capsys):
    assert main(["doctor"]) == DONE
    told = capsys.readouterr().out
    assert "libx264, aac" in told and "engine draft: ready" in told and "MISSING" not in told
    assert "engine avatar: ready" in told


def test_a_reader_that_has_read_enough_is_no_error():
    command = f"'{sys.executable}' -m pipeline doctor | head -n 1"
    done = subprocess.run(command, shell=True, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""


def test_doctor_speaks_french(capsys, in_french):
    assert main(["doctor"]) == DONE
    assert "moteur draft : prêt" in capsys.readouterr().out


@POSIX
def test_a_name_the_terminal_cannot_show_is_no_trouble(tmp_path, short_voice):
    path = tmp_path / os.fsdecode("肖像".encode() + b"\xff.png")
    path.write_bytes(b"no picture")
    running = program(
        "render", path, short_voice, environment={"PYTHONIOENCODING": "ascii"}, stderr=subprocess.PIPE,
    )  # fmt: skip
    told = running.communicate(timeout=120)[1]
    assert running.returncode == REFUSED and r"\u8096\u50cf?.png is not a picture" in told


# --- while it runs ----------------------------------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("sent, code", [(signal.SIGINT, STOPPED), (signal.SIGTERM, TERMINATED)])
def test_a_stopped_render_leaves_nothing(place, tmp_path, portrait_path, short_voice, sent, code):
    with wave.open(str(short_voice)) as short, wave.open(str(tmp_path / "long.wav"), "wb") as long:
        long.setparams(short.getparams())
        long.writeframes(short.readframes(short.getnframes()) * round(LONG_SECONDS / 1.6))
    running = program("render", portrait_path, tmp_path / "long.wav", "-o", "clip.mp4", stderr=subprocess.PIPE)
    waiting_since = time.monotonic()
    while not any(path.stat().st_size > 10_000 for path in place.iterdir()):  # the encoder has written
        assert running.poll() is None and time.monotonic() - waiting_since < 120
        time.sleep(0.05)
    running.send_signal(sent)
    told = running.communicate(timeout=60)[1]
    assert running.returncode == code and "Traceback" not in told
    assert list(place.iterdir()) == []


@POSIX
def test_a_terminal_shows_stage_share_and_time_left(monkeypatch):
    """A pseudo-terminal in place of stderr: elsewhere the bar is silent."""
    import fcntl
    import termios

    reading, writing = os.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))  # rows and columns
    with os.fdopen(writing, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        progress = Progress("fr")
        progress(Step("StageReading"))
        for done in range(1, 5):
            time.sleep(0.12)  # the bar is drawn ten times a second at most
            progress(Step("StageDrawing", done, 4, 200.0 / done))
        progress.close()
        written = b""
        while select.select([reading], [], [], 1)[0]:  # seconds: a terminal hands on what is written a little later
            written += os.read(reading, 65_536)
        shown = written.decode()
    os.close(reading)
    assert TEXTS["StageReading"].fr in shown and TEXTS["StageDrawing"].fr in shown
    assert " 50 % " in shown and "encore 2 min environ" in shown and "encore 50 s environ" in shown


def test_points_are_remembered_for_the_same_picture(place, short_voice, capsys, tmp_path):
    teapot, points = EXAMPLES / "portraits" / "drawing_of_a_teapot.jpg", ["313,387", "452,387", "384,489"]
    assert main(["render", str(teapot), str(short_voice)]) == REFUSED
    assert main(["render", str(teapot), str(short_voice), "--size", "256", "--points", *points]) == DONE
    capsys.readouterr()
    renamed = tmp_path / "renamed.jpg"
    renamed.write_bytes(teapot.read_bytes())
    assert main(["render", str(renamed), str(short_voice), "--size", "256"]) == DONE
    assert "points" in capsys.readouterr().err


def test_a_typed_line_is_spoken_and_captioned(place, portrait_path, capsys):
    line = "Hello, my name is Grace."
    options = ["--script", line, "--voice", "heart", "--size", "256", "--captions", "file", "-o", "grace.mp4"]
    assert main(["render", str(portrait_path), *options]) == DONE
    assert line in (place / "grace.srt").read_text("utf-8") and line in (place / "grace.vtt").read_text("utf-8")
    with av.open(str(place / "grace.mp4")) as clip:
        assert {stream.type for stream in clip.streams} == {"video", "audio", "subtitle"}
        assert clip.streams.video[0].duration is not None
