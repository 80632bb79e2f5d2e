"""The corpus at the doors, all but its heaviest cases; `make hostile` opens those too, each in a process of its own."""

import io
import mmap
import tempfile
from pathlib import Path

import pytest

from pipeline.boxes import promises_too_much
from tests.hostile import corpus, run

CASES = corpus.cases()


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary files would appear."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("door", corpus.DOORS)
def test_every_case_is_let_in_and_right_or_refused_in_words_and_leaves_nothing(door, temporary):
    wrong = []
    with corpus.empty_folder() as folder:
        light = [case for case in CASES if case.door == door and not case.is_heavy]
        for case, made in corpus.make_all(Path(folder), light):
            outcome = corpus.tried(case, made, [Path(folder, str(light.index(case))), temporary])
            if outcome.wrong or outcome.left:
                wrong.append(f"{case.name}: {outcome}")
    assert light
    assert not wrong, "\n".join(wrong)


def test_the_corpus_is_as_large_as_it_should_be_and_no_name_comes_twice():
    assert len({case.name for case in CASES}) == len(CASES) >= 150


def test_the_corpus_tells_wrong_from_right(tmp_path):
    right = next(case for case in CASES if case.name == "picture: orientation 6")
    assert corpus.tried(right, right.make(tmp_path), [tmp_path]).wrong == ""
    mirrored = corpus.Case("mirrored", "picture", corpus.put("m.jpg", corpus.turned(0)), corpus.is_picture(400, 320))
    assert "let in, and wrong" in corpus.tried(mirrored, mirrored.make(tmp_path), [tmp_path]).wrong


@pytest.mark.parametrize(
    "opened, fault",
    [
        (lambda path: 1 / 0, "crashed: ZeroDivisionError"),
        (lambda path: __import__("os").abort(), "crashed: SIGABRT"),
        (lambda path: bytes(8 * 2**30), "crashed: MemoryError"),
        (lambda path: path.with_name("behind").touch(), "left"),
        (lambda path: mmap.mmap(-1, 2**27).write(bytes(2**27)), "MiB"),  # not what the parent has freed and kept
    ],
)
def test_what_a_door_must_not_do_is_found_out(monkeypatch, tmp_path, opened, fault):
    monkeypatch.setattr(run, "LIMIT_MEBIBYTES", 100)
    monkeypatch.setitem(corpus.DOORS, "picture", opened)
    case = corpus.Case("case", "picture", corpus.put("p", b""), lambda found: None)
    assert fault in run.faults(run.opened(case, case.make(tmp_path), [tmp_path]))


@pytest.mark.parametrize("name", [*corpus.MAIN_SOUNDS, *corpus.OTHER_SOUNDS])
def test_no_honest_index_is_doubted(name):
    content = corpus.MAIN_SOUNDS[name]() if name in corpus.MAIN_SOUNDS else b""
    if not content:
        codec, rate, kind = corpus.OTHER_SOUNDS[name]
        content = corpus.sound(name, codec, rate, kind=kind)
    assert not promises_too_much(io.BytesIO(content), len(content))
