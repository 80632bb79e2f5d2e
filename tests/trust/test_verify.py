"""`python -m pipeline verify` as people use it: what it says of each file, and its exit code."""

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline import hardware
from pipeline.__main__ import main
from pipeline.cli import DONE, NOT_UNDERSTOOD, NOTHING_FOUND, REFUSED
from pipeline.trust import certificates
from pipeline.trust.credentials import Made, sign
from pipeline.trust.mark import Mark
from tests.conftest import EXAMPLES
from tests.trust.clips import encode_again, flipped, make_certificate, make_clip, remux

PROJECT = Path(__file__).parents[2]
MADE = Made("draft", "", "0.1.0", {"seed": 7})
MARKED_SIZE, PAYLOAD = 512, 4711  # pixels; a number that a mark can say
Verify = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    """Runs the command: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["verify", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def fresh(tmp_path: Path, portrait_path: Path) -> Path:
    """A clip as it is delivered, without a durable mark."""
    clip = make_clip(tmp_path / "fresh.mp4")
    assert sign(clip, MADE, portrait_path).is_signed
    return clip


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of a photograph that sways, with our mark; not signed."""
    path = tmp_path_factory.mktemp("marked") / "marked.mp4"
    with Image.open(EXAMPLES / "portraits" / "woman_facing_camera.jpg") as picture:
        whole = np.asarray(picture.convert("RGB").resize((MARKED_SIZE + 8, MARKED_SIZE + 8)))
    mark = Mark(MARKED_SIZE, MARKED_SIZE, PAYLOAD, hardware.mark_key())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = MARKED_SIZE, MARKED_SIZE, "yuv420p"
        for number in range(9):
            shifted = np.ascontiguousarray(whole[number : number + MARKED_SIZE, 4 : 4 + MARKED_SIZE])
            frame = av.VideoFrame.from_ndarray(mark.embed(shifted), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_fresh_clip_is_valid_and_made_here(fresh, verify):
    code, said, _ = verify(fresh)
    assert code == DONE and "valid, made on this computer" in said
    assert "AI-generated" in said and "Portrait Parlant 0.1.0, engine draft; settings: seed 7" in said
    assert "not found" in said.splitlines()[-1], "it has no durable mark"


def test_with_one_byte_changed_it_is_tampered_with(fresh, verify, tmp_path):
    code, said, _ = verify(flipped(fresh, tmp_path / "flipped.mp4", fresh.stat().st_size // 2))
    assert code == REFUSED and "tampered" in said and "Portrait Parlant 0.1.0" not in said


def test_remuxed_or_encoded_again_it_has_no_credentials(fresh, verify, tmp_path):
    for other in (
        remux(fresh, tmp_path / "remuxed.mp4"),
        encode_again(fresh, tmp_path / "again.mp4", crf=28),
        encode_again(fresh, tmp_path / "smaller.mp4", scale=0.75),
    ):
        code, said, _ = verify(other)
        assert code == NOTHING_FOUND and "none" in said.splitlines()[0]


def test_a_foreign_video_has_nothing_and_nothing_follows(verify, tmp_path):
    code, said, _ = verify(encode_again(make_clip(tmp_path / "any.mp4"), tmp_path / "foreign.mp4"))
    assert code == NOTHING_FOUND and said.count("prove") == 2


def test_a_durable_mark_is_found_again_after_the_credentials_are_lost(marked, verify, tmp_path):
    for other in (
        remux(marked, tmp_path / "remuxed.mkv"),
        encode_again(marked, tmp_path / "again.mp4", crf=28),
        encode_again(marked, tmp_path / "smaller.mp4", scale=0.75, crf=23),
    ):
        code, said, _ = verify(other)
        assert code == NOTHING_FOUND and f"found (payload {PAYLOAD}" in said and "no proof" in said


def test_french_is_spoken_where_the_terminal_does(fresh, verify, monkeypatch):
    monkeypatch.setenv("LANG", "fr_CA.UTF-8")
    code, said, _ = verify(fresh)
    assert code == DONE and "faites sur cet ordinateur" in said and "Marque durable" in said


def test_json_says_the_same(fresh, marked, verify):
    code, said, _ = verify("--json", fresh)
    found = json.loads(said)
    assert code == DONE and found["file"] == "fresh.mp4" and found["mark"] is None and found["mark_frames"] > 0
    assert found["credentials"]["state"] == "valid" and found["credentials"]["is_local"] is True
    assert found["credentials"]["made"] == {
        "engine": "draft", "model": "", "app_version": "0.1.0", "settings": {"seed": 7}, "unlabelled": "",
    }  # fmt: skip
    code, said, _ = verify(marked, "--json")
    found = json.loads(said)
    assert code == NOTHING_FOUND and found["mark"]["payload"] == PAYLOAD
    assert found["mark"]["confidence"] >= found["mark"]["threshold"]


def test_a_root_given_on_the_command_line_is_trusted(fresh, verify, tmp_path, monkeypatch):
    (tmp_path / "root.pem").write_text(certificates.local_root())
    (tmp_path / "other.pem").write_text(make_certificate()[2])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another computer"))
    assert "trusted" in verify(fresh, "--trust", tmp_path / "root.pem")[1]
    assert "signer unknown" in verify(fresh, "--trust", tmp_path / "other.pem")[1]
    code, said, told = verify(fresh, "--trust", tmp_path / "gone.pem")
    assert code == REFUSED and not said and "gone.pem" in told


def unreadable() -> Iterator[tuple[str, bytes]]:
    """Names and contents of files that are no media."""
    yield "empty.mp4", b""
    yield "text.txt", "Ceci n'est pas une vidéo.\n".encode() * 50
    yield "noise.mp4", random.Random(1).randbytes(5000)
    yield "page.html", b"<html><body>no video</body></html>"


@pytest.mark.parametrize("name, content", list(unreadable()))
def test_what_is_no_medium_is_refused_in_one_sentence(name, content, verify, tmp_path):
    (tmp_path / name).write_bytes(content)
    code, said, told = verify(tmp_path / name)
    assert code == REFUSED and not said and name in told and len(told.splitlines()) == 1


def test_a_file_that_is_not_there_is_refused(verify, tmp_path):
    code, said, told = verify(tmp_path / "gone.mp4")
    assert code == REFUSED and not said and "gone.mp4" in told


def test_a_picture_is_read_too_and_not_searched_for_marks(verify, tmp_path):
    content = io.BytesIO()
    Image.new("RGB", (300, 300), "teal").save(content, "PNG")
    (tmp_path / "picture.png").write_bytes(content.getvalue())
    code, said, _ = verify(tmp_path / "picture.png")
    assert code == NOTHING_FOUND and "not looked for" in said.splitlines()[-1]


def test_without_its_package_credentials_are_not_read_and_the_mark_is(marked, verify, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    code, said, told = verify(marked)
    assert code == REFUSED and "c2pa" in told and "pip install" in told and f"payload {PAYLOAD}" in said


def test_the_help_explains_answers_and_exit_codes(capsys, monkeypatch):
    for language, words in (
        ("en_CA", ("trusted", "tampered", "3 no credentials")),
        ("fr_CA", ("altérées", "3 aucune")),
    ):
        monkeypatch.setenv("LANG", language)
        with pytest.raises(SystemExit) as ended:
            main(["verify", "--help"])
        assert ended.value.code == DONE
        said = capsys.readouterr().out
        assert all(word in said for word in words)
    with pytest.raises(SystemExit) as ended:
        main(["verify"])
    assert ended.value.code == NOT_UNDERSTOOD


def test_starting_the_program_loads_neither_c2pa_nor_cryptography():
    program = (
        "import sys, pipeline.__main__, pipeline.trust.credentials; print({'c2pa', 'cryptography'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
