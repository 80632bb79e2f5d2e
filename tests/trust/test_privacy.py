"""What is left of a visitor: nothing in the log, the clip or any folder, but uploads in the page's temporary folder."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from pipeline import hardware, jobs
from pipeline.trust import keeping
from tests.server import Server, serve, wait_until

PICTURE_NAME, VOICE_NAME, LANDSCAPE_NAME = "zanzibarquilt", "quaggatwine", "yewsorbet"  # as files are called
COMMENT, AREA, TITLE = "pomegranatewhisper", "nightjarharbour", "umberlantern"  # in EXIF, in its GPS part, in the sound
SCRIPT, WORDS = "marmalade xylophone", "periwinkle trombone"  # what is typed; what a recording is said to say
LATITUDE_PARTS = (48_123_457, 1_000_003)
LATITUDE = IFDRational(*LATITUDE_PARTS)  # degrees; two numbers that no other file has side by side
WRITTEN = (PICTURE_NAME, VOICE_NAME, LANDSCAPE_NAME, COMMENT, AREA, TITLE, *SCRIPT.split(), *WORDS.split())
SECONDS_TO_END = 30  # that a page may take to close on a crowded machine
CONSENT = {"consent": True}


def secrets_in(content: bytes) -> set[str]:
    """What of a visitor's is in some bytes, in whatever case, as UTF-8 or UTF-16, or as the numbers of a place."""
    folded = content.lower()
    found = {one for one in WRITTEN for code in ("utf-8", "utf-16-le", "utf-16-be") if one.encode(code) in folded}
    for order in ("big", "little"):
        place = b"".join(part.to_bytes(4, order) for part in LATITUDE_PARTS)
        found |= {"place"} if place in content else set()
    return found


def secrets_under(folder: Path) -> dict[str, set[str]]:
    """Every file and folder below one with something of a visitor's in its name or its bytes."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        secrets = secrets_in(path.name.encode()) | (secrets_in(path.read_bytes()) if path.is_file() else set())
        if secrets:
            found[name] = secrets
    return found


def picture_of_a_place(source: Path, folder: Path, name: str) -> Path:
    """A picture as a telephone takes it: where, and with a comment."""
    path = folder / f"{name}.jpg"
    with Image.open(source) as picture:
        exif = picture.getexif()
        exif[ExifTags.Base.ImageDescription] = COMMENT
        exif[ExifTags.Base.Artist] = COMMENT
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + COMMENT.encode()
        place = exif.get_ifd(ExifTags.IFD.GPSInfo)
        place[ExifTags.GPS.GPSLatitude] = (LATITUDE, IFDRational(0), IFDRational(0))
        place[ExifTags.GPS.GPSAreaInformation] = b"ASCII\0\0\0" + AREA.encode()
        picture.convert("RGB").save(path, exif=exif, comment=COMMENT.encode(), quality=90)
    return path


def titled_voice(source: Path, folder: Path) -> Path:
    """A recording with a title, as players show it."""
    path = folder / f"{VOICE_NAME}.m4a"
    with av.open(str(source)) as sound, av.open(str(path), "w", format="mp4") as container:
        container.metadata["title"] = container.metadata["comment"] = TITLE
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=44_100)
        for frame in [*sound.decode(audio=0), None]:
            for piece in resampler.resample(frame):
                container.mux(stream.encode(piece))
        container.mux(stream.encode())
    return path


@dataclass(frozen=True)
class Visit:
    """A page that was visited, still running.

    Args:
        page: It.
        home: All folders it can write to.
        kept: The one of them for uploads and clips.
        uploads: The visitor's files.
        clips: What the visitor took home, by what it was made from: "script", "recording" and "captions".
    """

    page: Server
    home: Path
    kept: Path
    uploads: list[Path]
    clips: dict[str, Path]


def clip_of(client: Client, **given: Any) -> Path:
    """What a visitor gets."""
    video, *_ = client.predict(**given, **CONSENT, api_name="/render")
    return Path(video["video"] if isinstance(video, dict) else video)


@pytest.fixture(scope="module")
def visit(
    tmp_path_factory: pytest.TempPathFactory, portrait_path: Path, short_voice: Path, faceless_path: Path
) -> Iterator[Visit]:
    """Clips from a script and a recording, and a refusal, all of them with secrets in what was sent."""
    home, own = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("visitor")
    portrait = picture_of_a_place(portrait_path, own, PICTURE_NAME)
    landscape = picture_of_a_place(faceless_path, own, LANDSCAPE_NAME)
    voice = titled_voice(short_voice, own)
    folders = {
        name: str(home / name.lower()) for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    }
    kept = home / "page"
    with serve(home, **folders, PORTRAIT_AUDIT=str(home / "audit.jsonl"), GRADIO_TEMP_DIR=str(kept)) as page:
        client = Client(page.url, verbose=False, download_files=str(own / "downloads"))
        clips = {
            "script": clip_of(client, portrait=handle_file(portrait), script=SCRIPT, language="en"),
            "recording": clip_of(client, portrait=handle_file(portrait), speech=handle_file(voice), text=WORDS),
            "captions": clip_of(client, portrait=handle_file(portrait), script=SCRIPT, captions="file"),
        }
        with pytest.raises(AppError, match=LANDSCAPE_NAME):  # which tells its visitor so
            clip_of(client, portrait=handle_file(landscape), script=SCRIPT, language="en")
        yield Visit(page, home, kept, [portrait, landscape, voice], clips)


def test_the_search_finds_what_was_hidden(visit):
    for upload, kinds in zip(visit.uploads, [{COMMENT, AREA, "place"}] * 2 + [{TITLE}], strict=True):
        assert secrets_in(upload.read_bytes()) == kinds
    assert secrets_in(visit.clips["captions"].read_bytes()) == set(SCRIPT.split())  # where they were asked for


@pytest.mark.parametrize("made_of", ["script", "recording"])
def test_a_clip_holds_nothing_of_what_it_was_made_from(visit, made_of):
    clip = visit.clips[made_of]
    assert secrets_in(clip.read_bytes()) == set()
    with av.open(str(clip)) as container:
        tags = [container.metadata, *(stream.metadata for stream in container.streams), *container.chapters()]
    assert "comment" in tags[0] and secrets_in(repr(tags).encode()) == set()


def test_the_log_names_nobody_and_nothing_that_was_sent(visit):
    assert visit.page.url in visit.page.log.read_text("utf-8")
    assert secrets_in(visit.page.log.read_bytes()) == set()


def test_uploads_and_captions_are_all_that_is_left_and_lie_in_the_page_s_folder(visit):
    left = secrets_under(visit.home)
    captions = [f"portrait-parlant.{ending}" for ending in ("mp4", "srt", "vtt")]
    assert sorted(Path(name).name for name in left) == sorted([*(path.name for path in visit.uploads), *captions])
    assert all(Path(name).parts[0] == visit.kept.name for name in left)


def test_what_is_left_goes_by_its_age_though_the_page_was_killed(visit):
    visit.page.process.kill()
    assert visit.page.process.wait(SECONDS_TO_END)
    keeping.clear(visit.kept, seconds=3600)
    assert secrets_under(visit.home)
    keeping.clear(visit.kept, seconds=0)
    assert secrets_under(visit.home) == {}


# --- the sweep --------------------------------------------------------------------------------------------------------


def test_only_files_of_a_page_that_are_old_enough_are_deleted(tmp_path):
    cached = tmp_path / ("a" * 64)
    cached.mkdir()
    (cached / "old.jpg").touch()
    others = [tmp_path / "notes.txt", tmp_path / "folder" / "picture.jpg", tmp_path / ("b" * 63) / "picture.jpg"]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.touch()
    old = (cached / "old.jpg").stat().st_ctime
    assert wait_until(lambda: time.time() - old > 0.5, 10)
    (cached / "new.jpg").touch()
    keeping.clear(tmp_path, seconds=0.5)
    assert [path.name for path in cached.iterdir()] == ["new.jpg"]
    keeping.clear(tmp_path, seconds=0)
    assert not cached.exists() and all(other.is_file() for other in others)


def test_jobs_and_what_was_read_of_prompts_go_with_what_is_too_old(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PORTRAIT_JOBS", str(tmp_path / "jobs"))
    prompts, old = hardware.prompts_folder(), time.time() - jobs.KEEP_SECONDS - 60
    kept = [prompts / "new.safetensors", prompts / "notes.txt", tmp_path / "jobs" / ("1" * 32)]
    gone = [prompts / "old.safetensors", tmp_path / "jobs" / ("0" * 32)]
    for path in kept + gone:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir()
    for path in [*gone, prompts / "notes.txt"]:
        os.utime(path, (old, old))
    keeping.clear_all(tmp_path / "page", seconds=1)
    assert all(path.exists() for path in kept) and not any(path.exists() for path in gone)


@pytest.mark.skipif(os.name == "nt", reason="Windows asks for a privilege to make one")
def test_a_link_leads_the_sweep_nowhere(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / ("c" * 64)).symlink_to(tmp_path / "elsewhere")
    keeping.clear(tmp_path / "page", seconds=0)
    assert (tmp_path / "elsewhere" / "file").is_file()


def test_a_folder_that_is_not_there_is_no_trouble(tmp_path):
    keeping.clear(tmp_path / "page", seconds=0)


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such permissions")
def test_a_page_s_folder_is_closed_to_other_users(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))
    keeping.prepare(hardware.page_folder())
    assert (tmp_path / "page").stat().st_mode & 0o077 == 0
