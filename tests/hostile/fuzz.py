"""Coverage-guided fuzzing of the three doors with atheris, which is installed by hand: `pip install atheris`.

Not part of CI. What is found is printed with the bytes that found it, and belongs into corpus.py.

    python -m tests.hostile.fuzz picture|sound|script|points|index  -max_total_time=60 [other options of libFuzzer]
"""

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pipeline", "PIL", "pillow_heif"]):
    from pipeline import boxes, media, request
    from pipeline.errors import AvatarError
    from pipeline.voice import script

MEMORY_MEBIBYTES = 2048  # libFuzzer ends a run that takes more
SLOW_SECONDS = 20  # or longer, for one input, instrumented
folder = tempfile.TemporaryDirectory(prefix="fuzz-")
path = Path(folder.name) / "input"


def picture(content: bytes) -> None:
    path.write_bytes(content)
    found = media.load_portrait(path)
    assert found.ndim == 3 and found.shape[2] == 3 and min(found.shape[:2]) >= media.MIN_PICTURE_PX


def sound(content: bytes) -> None:
    path.write_bytes(content)
    found = media.load_speech(path)
    assert abs(found.waveform).max() <= 1 and media.MIN_SECONDS <= found.seconds <= media.MAX_SECONDS


def script_(content: bytes) -> None:
    text = content.decode("utf-8", "surrogatepass" if len(content) % 2 else "replace")
    script.num_speakers(text)
    language = "en" if len(content) % 3 else "fr"
    for sentence in script.read_script(text, language, ["en", "fr"]):
        assert len(sentence.spoken) <= script.MAX_SENTENCE and sentence.pause > 0


def points(content: bytes) -> None:
    found = request.read_points(content.decode("latin-1"))
    assert len(found) in request.NUM_POINTS


def index(content: bytes) -> None:
    path.write_bytes(content)
    with path.open("rb") as file:
        boxes.promises_too_much(file, len(content))


TARGETS = {"picture": picture, "sound": sound, "script": script_, "points": points, "index": index}


def main(target: str, *options: str) -> None:
    """Fuzz one door, from small good files on."""
    from tests.hostile import corpus  # beside what is instrumented: it makes the first inputs

    def one(content: bytes) -> None:
        try:
            TARGETS[target](content)
        except AvatarError as error:
            for language in ("en", "fr"):
                error.text(language).encode()
        except UnicodeDecodeError:
            assert target == "script"

    warnings.simplefilter("ignore")
    seeds = Path(folder.name) / "seeds"
    seeds.mkdir()
    texts = {name: text.encode("utf-8", "surrogatepass")[:2000] for name, text in corpus.SPOKEN.items()}
    makes = {
        "picture": {name: make() for name, make in corpus.MAIN_PICTURES.items() if name != "bmp"},
        "sound": {name: make() for name, make in corpus.MAIN_SOUNDS.items()},
        "script": texts,
        "points": {"three": b"1,2 3,4 5,6", "five": b"1,2 3,4 5,6 7,8 9,10"},
        "index": {"m4a": corpus.m4a(), "fragments": corpus.fragmented()},
    }[target]
    for name, content in makes.items():
        (seeds / name.replace("/", "_")).write_bytes(content)
    limits = [f"-rss_limit_mb={MEMORY_MEBIBYTES}", f"-timeout={SLOW_SECONDS}", "-max_len=200000"]
    atheris.Setup([sys.argv[0], *limits, *options, str(seeds)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
