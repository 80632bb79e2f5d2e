"""The machine as it is measured: rates that are there, remembered, and measured anew when they cannot be read."""

import json
import os
import time
from pathlib import Path

import pytest
import torch

from pipeline.avatar import calibrate
from pipeline.avatar.calibrate import find_device, free_ram, measure_rates, rates_of, working_dtype
from pipeline.hardware import Rates

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "BUDGET_SECONDS", 0.0)
    monkeypatch.setattr(calibrate, "CPU_BYTES", 2**20)


def test_a_processor_has_rates_that_such_a_thing_can_have(tmp_path: Path) -> None:
    started = time.perf_counter()
    rates = measure_rates(CPU, tmp_path)
    assert time.perf_counter() - started < 20
    assert 1e8 < rates.matmul < 1e15 and 1e8 < rates.attention < 1e15
    assert 1e6 < rates.copy < 1e13 and 1e5 < rates.mapped < 1e13
    assert rates.matmul_fp8 is None and not rates.assumed
    assert list(tmp_path.iterdir()) == []


def test_rates_are_measured_once_for_a_device_and_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def measured(_: torch.device, folder: Path) -> Rates:
        asked.append(folder)
        return Rates(len(asked), 2, 3, 4)

    monkeypatch.setattr(calibrate, "measure_rates", measured)
    folder = tmp_path / "not there yet"
    first = rates_of("cpu", folder, name="a card/one")
    assert first == rates_of("cpu", folder, name="a card/one") == Rates(1, 2, 3, 4) and len(asked) == 1
    assert rates_of("cpu", folder, name="another") == Rates(2, 2, 3, 4)
    assert rates_of("cpu", folder, name="a card/one", anew=True) == Rates(3, 2, 3, 4)
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert rates_of("cpu", folder, name="a card/one") == Rates(4, 2, 3, 4)
    assert all(path.suffix == ".json" for path in folder.iterdir())


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 0, "rates": {}}', '{"format": 1, "rates": {"other": 1}}', '{"format": 1}']
)
def test_what_cannot_be_read_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(calibrate, "measure_rates", lambda *_: Rates(1, 2, 3, 4))
    rates_of("cpu", tmp_path, name="it")
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    assert rates_of("cpu", tmp_path, name="it") == Rates(1, 2, 3, 4)
    assert json.loads(path.read_text())["rates"]["mapped"] == 4


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders that are files are POSIX's")
def test_a_folder_that_cannot_be_written_is_no_hindrance(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert rates_of("cpu", file / "folder", name="it").mapped > 0
    assert file.read_text() == ""


def test_this_machine_is_found() -> None:
    device, name, free = find_device("cpu")
    assert (device, free) == ("cpu", None) and name
    assert find_device()[0] == ("cuda" if torch.cuda.is_available() else device)
    assert 2**20 < free_ram() < 2**50


def test_the_working_dtype_is_float32_on_a_processor_alone() -> None:
    assert working_dtype(CPU) is torch.float32 and working_dtype(torch.device("mps")) is torch.bfloat16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_is_measured(tmp_path: Path) -> None:
    rates = measure_rates(torch.device("cuda"), tmp_path)
    assert rates.matmul > 1e12 and rates.attention > 1e11 and rates.copy > 1e9
