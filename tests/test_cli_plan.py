"""`plan` as people use it: a table that keeps its word, on this machine or one thought of; or one sentence that says
why not, and what would do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import hardware
from pipeline.__main__ import main
from pipeline.avatar import cards, hub
from pipeline.avatar.costs import time_told
from pipeline.cli import DONE, NOT_UNDERSTOOD, REFUSED
from pipeline.hardware import Machine, Placement
from pipeline.units import GIBIBYTE
from tests.conftest import tone, write_wav

PROJECT = Path(__file__).parents[1]
SECONDS = 5.0  # of voice: one window


@pytest.fixture(autouse=True)
def english(monkeypatch, tmp_path):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))  # nothing is downloaded yet


@pytest.fixture
def inputs(tmp_path) -> list[str]:
    """A picture of 704×768 pixels, without a face: none is looked for; and a voice."""
    picture, voice = tmp_path / "portrait.png", tmp_path / "voice.wav"
    Image.fromarray(np.zeros((704, 768, 3), np.uint8)).save(picture)
    write_wav(voice, tone(SECONDS), 16_000)
    return [str(picture), str(voice)]


def rows(printed: str) -> list[list[str]]:
    """The cells of the table's rows, the mark taken away."""
    lines = [line.removeprefix("→").strip() for line in printed.splitlines() if "×" in line and "  " in line]
    return [re.split(r"\s{2,}", line) for line in lines]


def test_the_table_names_all_that_a_clip_takes(inputs, capsys):
    assert main(["plan", *inputs, "--vram", "8", "--ram", "32"]) == DONE
    printed = capsys.readouterr().out
    first, *others = rows(printed)
    assert first[:5] == ["768×704", "125", "50", "published", "stream-blocks"]
    assert re.fullmatch(r"\d+ h \d\d|\d+ min", first[5])
    vram, ram, download = map(float, first[6:])
    assert 4 < vram <= 7.6 and 3 < ram <= 29 and 30 < download < 60
    assert {row[2] for row in others} == {"50", "30", "20"}
    assert printed.count("→") == 2  # in the table and where it is explained
    assert "Assumed, not measured" in printed and "RTX 4060" in printed and "draft" in printed


def test_what_was_asked_for_comes_first_and_is_kept(inputs, capsys):
    asked = ["--size", "512", "--steps", "30", "--placement", "stream-blocks"]
    assert main(["plan", *inputs, "--device", "rtx 4090", "--ram", "64", *asked]) == DONE
    printed = capsys.readouterr().out
    assert rows(printed)[0][2:5] == ["30", "published", "stream-blocks"]
    assert {row[4] for row in rows(printed)} == {"stream-blocks"}
    assert "RTX 4090" in printed and "as asked for" in printed
    assert printed.splitlines()[2].startswith("→")


@pytest.mark.parametrize("vram", [6, 8, 12, 16, 24, 48, 80])
@pytest.mark.parametrize("ram", [16, 32, 64])
def test_every_row_fits_the_machine(inputs, capsys, vram, ram):
    assert main(["plan", *inputs, "--vram", str(vram), "--ram", str(ram)]) == DONE
    for row in rows(capsys.readouterr().out):
        assert float(row[6]) <= vram and float(row[7]) <= ram


@pytest.mark.parametrize(
    "asked, advice",
    [
        (["--vram", "2"], "the draft engine"),
        (["--vram", "12", "--placement", "resident"], r"placement stream-blocks"),
        (["--vram", "5", "--size", "704"], r"--size \d+"),
    ],
)
def test_what_is_impossible_ends_with_advice_on_stderr(inputs, capsys, asked, advice):
    assert main(["plan", *inputs, *asked]) == REFUSED
    printed = capsys.readouterr()
    assert printed.out == "" and re.search(advice, printed.err) and printed.err.count("\n") == 1


def test_a_default_that_does_not_fit_is_told_beside_those_that_do(inputs, capsys):
    assert main(["plan", *inputs, "--vram", "5"]) == DONE
    printed = capsys.readouterr().out
    assert "Left out: " in printed and "768×704 pixels" in printed
    assert "768×704" not in {row[0] for row in rows(printed)}


def test_a_voice_a_little_too_long_is_told(inputs, capsys):
    assert main(["plan", *inputs, "--vram", "24"]) == DONE
    assert "windows" not in capsys.readouterr().out
    write_wav(Path(inputs[1]), tone(5.2), 16_000)
    assert main(["plan", *inputs, "--vram", "24"]) == DONE
    assert "5.16 s at most the clip would take 50 %" in capsys.readouterr().out


def test_it_speaks_french(inputs, capsys, monkeypatch):
    monkeypatch.setenv("LANG", "fr_CA.UTF-8")
    assert main(["plan", *inputs, "--vram", "12,5"]) == DONE
    printed = capsys.readouterr().out
    assert "étapes" in printed and "Conseillé" in printed and re.search(r"\d,\d", printed)
    assert not re.search(r"\b(steps|frames|memory|Recommended)\b", printed)


def test_this_machine_is_measured_and_what_it_has_is_not_downloaded_again(inputs, capsys, monkeypatch):
    rates = cards.card_of_size(16).rates
    measured = Machine("cuda", "the card in here", 15 * GIBIBYTE, 20 * GIBIBYTE, 2**40, rates)
    monkeypatch.setattr(hardware, "measure_machine", lambda *_, **__: measured)
    monkeypatch.setattr(hub, "bytes_missing", lambda *_: (2_500_000_000, True))
    assert main(["plan", *inputs]) == DONE
    printed = capsys.readouterr().out
    assert "This machine: the card in here" in printed and {row[8] for row in rows(printed)} == {"2.5"}
    assert "the Hub was not asked" not in printed
    assert main(["plan", *inputs, "--ram", "8"]) == DONE
    assert "5.0 GiB of main memory" in capsys.readouterr().out


@pytest.mark.parametrize(
    "asked", [["--vram", "much"], ["--vram", "-1"], ["--ram", "nan"], ["--device", "abacus"], ["--placement", "attic"]]
)
def test_what_is_not_understood_is_said(inputs, capsys, asked):
    with pytest.raises(SystemExit) as left:
        main(["plan", *inputs, *asked])
    assert left.value.code == NOT_UNDERSTOOD and "--help" in capsys.readouterr().err


def test_inputs_that_are_missing_are_named(inputs, capsys):
    assert main(["plan", "nowhere.png", inputs[1], "--vram", "8"]) == REFUSED
    assert "nowhere.png" in capsys.readouterr().err


def test_a_machine_thought_of_needs_no_torch_and_this_one_says_that_it_does(inputs):
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'diffusers', 'transformers', 'psutil')))\n"
        "from pipeline.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "LANG": "C"}

    def run(*asked: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", program, "plan", *inputs, *asked]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    thought_of, here = run("--vram", "24", "--ram", "32"), run()
    assert thought_of.returncode == DONE and rows(thought_of.stdout), thought_of.stderr
    assert here.returncode == REFUSED and "--vram" in here.stderr and here.stderr.count("\n") == 1


def test_placements_are_offered_by_their_names(capsys):
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    printed = capsys.readouterr().out
    assert all(placement.value in printed for placement in Placement)


@pytest.mark.parametrize(
    "seconds, told", [(5, "1 min"), (3600, "60 min"), (6000, "1 h 40"), (172_800, "2 days"), (171_000, "47 h 30")]
)
def test_a_time_is_told_as_people_read_it(seconds, told):
    assert time_told(seconds, "en") == told
