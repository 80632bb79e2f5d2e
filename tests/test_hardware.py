"""What the machine offers is found by looking, and what is missing is said in both languages."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import hardware, models
from pipeline.errors import EngineUnavailable
from pipeline.request import ENGINES, RenderRequest
from pipeline.texts import LANGUAGES

PROJECT = Path(__file__).parents[1]


def test_every_engine_a_request_may_name_has_a_status():
    assert tuple(status.name for status in hardware.engines()) == ENGINES


def asked(engine):
    return RenderRequest(portrait=Path("face.png"), speech=Path("voice.wav"), engine=engine)


@pytest.mark.parametrize("number, name", list(enumerate(ENGINES)))
def test_both_engines_run_where_their_packages_are_installed(number, name):
    status = hardware.engines()[number]
    assert (status.name, status.available, status.reason) == (name, True, None)
    assert hardware.engine_for(asked(name)).name == name


@pytest.mark.parametrize("engine, package", [("draft", "ai_edge_litert"), ("avatar", "torch"), ("avatar", "cv2")])
def test_a_missing_package_makes_an_engine_unavailable_by_name(monkeypatch, engine, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    with pytest.raises(EngineUnavailable, match=rf"{package}.*pip install") as refusal:
        hardware.engine_for(asked(engine))
    status = next(status for status in hardware.engines() if status.name == engine)
    assert status.reason is not None
    for language in LANGUAGES:
        assert status.reason.text(language) in refusal.value.text(language)


@pytest.mark.parametrize(
    "variables, language",
    [
        ({}, "en"),
        ({"LANG": "fr_CA.UTF-8"}, "fr"),
        ({"LANG": "FR"}, "fr"),
        ({"LANG": "en_CA.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "en_CA", "LC_MESSAGES": "fr_CA"}, "fr"),
        ({"LANG": "fr_CA", "LC_MESSAGES": "fr_CA", "LC_ALL": "C"}, "en"),
        ({"LANG": "fr_CA", "LC_ALL": ""}, "fr"),
    ],
)
def test_the_language_is_the_terminals(monkeypatch, variables, language):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hardware.preferred_language() == language


def test_a_machine_that_can_render_has_no_bad_finding():
    findings = list(hardware.examine())
    assert [finding.notice.text("en") for finding in findings if finding.good is False] == []
    assert all(finding.notice.text("en") and finding.notice.text("fr") for finding in findings)
    assert {"DoctorPython", "DoctorDisk", "DoctorCodecs", "DoctorModels"} <= {found.notice.key for found in findings}


def test_a_changed_model_file_is_found(monkeypatch, tmp_path):
    for name in models.SHA256:
        shutil.copy(models.FOLDER / name, tmp_path)
    content = bytearray((tmp_path / models.SELFIE_SEGMENTATION).read_bytes())
    content[1000] ^= 1
    (tmp_path / models.SELFIE_SEGMENTATION).write_bytes(content)
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    (bad,) = (finding for finding in hardware.examine() if finding.good is False)
    assert all(models.SELFIE_SEGMENTATION in bad.notice.text(language) for language in LANGUAGES)
    assert bad.notice.text("en") != bad.notice.text("fr")


def test_a_machine_without_the_encoder_is_found(monkeypatch):
    monkeypatch.setattr("pipeline.media.PICTURE_CODEC", "libnothing")
    (bad,) = (finding for finding in hardware.examine() if finding.good is False)
    assert "libnothing" in bad.notice.text("en")


def test_memory_is_what_a_container_leaves_us(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(hardware, "CONTAINER_LIMIT", limit)
    whole = hardware.usable_memory()
    assert whole is not None and whole > 2**28
    limit.write_text("max\n")
    assert hardware.usable_memory() == whole
    limit.write_text(f"{2**28}\n")
    assert hardware.usable_memory() == 2**28


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for the driver's program is a shell script")
@pytest.mark.parametrize(
    "script, name",
    [
        ("echo 'NVIDIA H100, 81559 MiB'; echo 'NVIDIA H100, 81559 MiB'", "NVIDIA H100, 81559 MiB"),
        ("echo 'could not communicate with the driver'; exit 9", None),
        ("", None),
    ],
)
def test_a_graphics_card_is_found_by_its_drivers_program(monkeypatch, tmp_path, script, name):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert hardware.graphics_card() == name


def test_this_machine_is_measured_and_its_rates_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bare = hardware.measure_machine(tmp_path / "not" / "there", device="cpu", with_rates=False)
    assert (bare.device, bare.free_vram, bare.rates) == ("cpu", None, None) and bare.name
    assert 2**20 < bare.free_ram < 2**50 and 0 < bare.free_disk <= shutil.disk_usage(tmp_path).total
    assert not hardware.cache_folder().exists()
    rates = hardware.Rates(1.0, 2.0, 3.0, 4.0)
    monkeypatch.setattr("pipeline.avatar.calibrate.measure_rates", lambda *_: rates)
    assert hardware.measure_machine(device="cpu").rates == rates
    monkeypatch.delattr("pipeline.avatar.calibrate.measure_rates")
    assert hardware.measure_machine(device="cpu").rates == rates


def test_a_container_leaves_what_it_has_not_taken_and_what_it_would_drop(monkeypatch, tmp_path):
    files = {
        "CONTAINER_LIMIT": "1000\n",
        "CONTAINER_USED": "700\n",
        "CONTAINER_STATISTICS": "anon 9\ninactive_file 50\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        monkeypatch.setattr(hardware, name, tmp_path / name)
    assert hardware.container_memory_left() == 350
    (tmp_path / "CONTAINER_USED").write_text("2000")
    assert hardware.container_memory_left() == 0
    (tmp_path / "CONTAINER_LIMIT").write_text("max\n")
    assert hardware.container_memory_left() == float("inf")


@pytest.mark.parametrize("value, on", [("true", True), ("1", True), ("", False), ("0", False), (None, False)])
def test_zero_gpu_is_told_by_its_variable(monkeypatch, value, on):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    if value is not None:
        monkeypatch.setenv("SPACES_ZERO_GPU", value)
    assert hardware.on_zero_gpu() is on


def test_on_zero_gpu_a_large_card_is_planned_for_without_torch():
    program = (
        "import sys; from pipeline import hardware; found = hardware.measure_machine()\n"
        "assert found.device == 'cuda' and 'ZeroGPU' in found.name and found.rates.assumed\n"
        "assert 40 * 2**30 < found.free_vram < 48 * 2**30 and found.free_ram\n"
        "assert not {'torch', 'spaces'} & set(sys.modules)"
    )
    environment = {**os.environ, "SPACES_ZERO_GPU": "true"}
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, env=environment, check=True, timeout=120)


def test_looking_at_everything_imports_no_torch():
    program = "import sys; from pipeline import hardware; list(hardware.examine()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True, timeout=120)


def test_what_speaks_keeps_no_record_of_who_uses_it(tmp_path):
    places = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": "", "PATH": os.environ["PATH"]}
    code = "import pipeline, onnxruntime"
    subprocess.run([sys.executable, "-B", "-c", code], env=places, check=True, cwd=Path(__file__).parent.parent)
    assert list(tmp_path.rglob("*")) == []
