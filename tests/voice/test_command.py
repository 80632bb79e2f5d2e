"""`python -m pipeline voices`, as it is typed."""

import wave

import pytest

from pipeline.__main__ import main
from pipeline.texts import TEXTS
from pipeline.voice import espeak, files, speak


@pytest.fixture(params=["en", "fr"])
def language(request, monkeypatch):
    """The terminal's language."""
    monkeypatch.setenv("LC_ALL", {"en": "en_CA.UTF-8", "fr": "fr_CA.UTF-8"}[request.param])
    return request.param


def test_voices_are_listed_by_language(capsys, language):
    assert main(["voices", "--lang", "en"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert any(row.split()[:2] == ["en", "heart"] and "hibari" in row and "Apache-2.0" in row for row in rows)
    assert not any(row.startswith("fr") for row in rows)


def test_the_whole_list_ends_and_is_in_order(capsys):
    assert main(["voices"]) == 0
    codes = [row.split()[0] for row in capsys.readouterr().out.splitlines() if not row.startswith(" ")]
    assert codes[0] == "en" and codes.index("fr") < codes.index("es")


def test_a_voice_that_is_missing_says_how_to_get_it(capsys, monkeypatch, language):
    monkeypatch.setattr(files, "found", lambda: None)
    monkeypatch.setattr(espeak, "program", lambda: None)
    assert main(["voices"]) == 0
    out = capsys.readouterr().out
    assert "voices --download" in out and "apt install espeak-ng" in out


def test_a_voice_can_be_heard_first(capsys, tmp_path, language):
    path = tmp_path / "voice.wav"
    said = ["--say", "Hello there.", "-o", str(path), "--lang", "en", "--voice", "heart", "--speed", "1,2"]
    assert main(["voices", *said]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    with wave.open(str(path)) as file:
        assert 0.8 < file.getnframes() / file.getframerate() < 3


@pytest.mark.parametrize("options", [["--say", "Hello"], ["-o", "x.wav"]])
def test_what_is_said_needs_a_place(capsys, options):
    assert main(["voices", *options]) == 2
    assert "--say" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--lang", "xx"], ["--say", "😀", "-o", "x.wav"], ["--say", "a", "-o", "x.wav", "--voice", "nobody"]]
)
def test_what_cannot_be_is_refused_in_words(capsys, options, language, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["voices", *options]) == 1
    assert capsys.readouterr().err.strip() and not list(tmp_path.iterdir())


def test_a_picture_is_not_written_over(capsys, tmp_path, language):
    picture = tmp_path / "portrait.jpg"
    picture.write_bytes(b"a picture")
    assert main(["voices", "--say", "Hello there.", "-o", str(picture)]) == 2
    assert picture.read_bytes() == b"a picture" and "portrait.jpg" in capsys.readouterr().err


def test_a_place_that_cannot_be_is_told_before_anything_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(speak, "speak", None)
    assert main(["voices", "--say", "Hello there.", "-o", str(tmp_path / "nowhere" / "voice.wav")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_doctor_says_who_reads_and_what_the_others_need(capsys, monkeypatch, tmp_path):
    main(["doctor"])
    assert TEXTS["DoctorVoices"].en.split(":")[0] in capsys.readouterr().out
    monkeypatch.setattr(files, "found", lambda: None)
    monkeypatch.setattr(espeak, "program", lambda: None)
    monkeypatch.setenv("PORTRAIT_VOICES", str(tmp_path / "nothing"))
    assert main(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "voices --download" in told and "apt install espeak-ng" in told and str(tmp_path / "nothing") in told


def test_a_file_that_is_not_the_voice_is_refused(capsys, tmp_path):
    (tmp_path / "network.onnx").write_bytes(b"nothing")
    assert main(["voices", "--from", str(tmp_path / "network.onnx")]) == 1
    assert "network.onnx" in capsys.readouterr().err
