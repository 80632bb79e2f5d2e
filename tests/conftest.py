"""Files that many tests start from: a portrait, a voice, a picture without a face; and how sound files are made."""

import shutil
import subprocess
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.server import Server, serve

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL_DISK = 10 * 2**20  # bytes
SHORT_SECONDS = 1.6  # of voice: two words, 40 frames


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes run the tests, those of a file stay together, and all that ask the same page.

    pytest 9.2 hides from xdist 3.8 what is marked here; constraints.txt has 9.1 until both agree again.
    """
    for item in items:
        wanted, own = getattr(item, "fixturenames", ()), vars(getattr(item, "module", item))
        shares_page = "server" in wanted and "server" not in own
        item.add_marker(pytest.mark.xdist_group("page" if shares_page else f"{item.path.parent.name}/{item.path.stem}"))


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program remembers of one test is not met by another, nor by who runs them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def write_wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    """Write a 16-bit WAV file.

    Args:
        path: Where.
        samples: (samples,) or (samples, channels) float in [-1, 1].
        rate: Hz.
    """
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32_767).round().astype("<i2").tobytes())
    return path


def tone(seconds: float, rate: int = 16_000, *, hz: float = 220.0, peak: float = 0.5) -> np.ndarray:
    """(samples,) float64: a steady tone."""
    return peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def first_sound(path: Path) -> tuple[np.ndarray, int, float]:
    """The decoded sound of a file: (channels, samples) float32, Hz, and the time of its first sample in seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    return samples, frames[0].sample_rate, float(frames[0].time or 0)


@pytest.fixture(scope="session")
def portrait_path() -> Path:
    """A photograph of one face turned to the camera."""
    return EXAMPLES / "portraits" / "woman_facing_camera.jpg"


@pytest.fixture(scope="session")
def short_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first SHORT_SECONDS of an English voice."""
    whole = next((EXAMPLES / "voices").glob("english_calm_*.wav"))
    with wave.open(str(whole)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        content = file.readframes(round(SHORT_SECONDS * rate))
    samples = np.frombuffer(content, "<i2").reshape(-1, channels) / 32_768
    return write_wav(tmp_path_factory.mktemp("voice") / "short_voice.wav", samples, rate)


@pytest.fixture(scope="session")
def faceless_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landscape: sky over a meadow, and nobody."""
    height, width = 320, 480
    rows = np.linspace(0, 1, height)[:, None, None]
    sky, meadow = np.array([120, 170, 230]), np.array([60, 120, 50])
    picture = np.where(rows < 0.6, sky + 60 * rows, meadow * (1.4 - rows / 2)) * np.ones((1, width, 1))
    path = tmp_path_factory.mktemp("landscape") / "landscape.png"
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def two_faces_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people side by side: on the left an officer, whose face is larger, on the right a woman."""
    picture = Image.new("RGB", (1200, 600))
    for place, name in enumerate(("officer_with_glasses", "woman_facing_camera")):
        with Image.open(EXAMPLES / "portraits" / f"{name}.jpg") as half:
            side = min(half.size)
            picture.paste(half.crop((0, 0, side, side)).resize((600, 600)), (600 * place, 0))
    path = tmp_path_factory.mktemp("two_faces") / "two_faces.png"
    picture.save(path)
    return path


@pytest.fixture
def voice_of(tmp_path: Path) -> Callable[[float], Path]:
    """Makes a WAV file of a tone that lasts so many seconds."""

    def make(seconds: float, rate: int = 16_000) -> Path:
        return write_wav(tmp_path / f"tone_{seconds:g}s.wav", tone(seconds, rate), rate)

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of SMALL_DISK bytes, empty."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("making a small disk needs Linux and its administrator")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The page, running as its own program."""
    with serve(tmp_path_factory.mktemp("server")) as running:
        yield running
